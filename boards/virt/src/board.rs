//! Clock, alarm, interrupts and serial line.

use usherd_firmware::{Board, NoLine};

use crate::{processor, register, stack};

/// The interrupt controller (ARM GIC architecture 2, chapter 4), in two parts.
const DISTRIBUTOR: usize = 0x0800_0000;
const INTERRUPT_ENABLE: usize = DISTRIBUTOR + 0x100;
const INTERRUPT_TARGETS: usize = DISTRIBUTOR + 0x800;
const INTERRUPTS: usize = 0x0801_0000;
const PRIORITY_MASK: usize = INTERRUPTS + 0x04;
/// A PL011.
const UART: usize = 0x0900_0000;

/// The number of the timer's interrupt, one of the processor's own.
const TIMER_IRQ: usize = 27;

pub struct Virt {
    /// Counts of the timer in a second.
    frequency: u64,
}

impl Virt {
    pub fn start() -> Virt {
        stack::paint();
        // Eight bits, with its queue; on, to send and to receive.
        register::write(UART + 0x2c, 0x70);
        register::write(UART + 0x30, 0x301);
        processor::disarm();
        // Interrupts of every priority reach the processor, which never takes them, as they are masked from the start: they
        // wake it, and the loop looks at everything itself.
        register::write(DISTRIBUTOR, 1);
        register::write(PRIORITY_MASK, 0xff);
        register::write(INTERRUPTS, 1);
        listen_to(TIMER_IRQ);
        Virt { frequency: processor::frequency() }
    }
}

/// An interrupt wakes the processor from now on, for as long as its device wants something: none is set to its edge.
pub fn listen_to(irq: usize) {
    // Of several processors the first; a byte for each interrupt.
    let targets = INTERRUPT_TARGETS + irq / 4 * 4;
    register::write(targets, register::read(targets) | 1 << (irq % 4 * 8));
    register::write(INTERRUPT_ENABLE + irq / 32 * 4, 1 << (irq % 32));
}

impl Board for Virt {
    fn now(&mut self) -> u64 {
        let count = processor::count();
        count / self.frequency * 1000 + count % self.frequency * 1000 / self.frequency
    }

    fn sleep(&mut self, ms: Option<u64>) {
        match ms {
            Some(0) => return,
            // Rounded up: the clock has then got so far.
            Some(ms) => processor::arm(processor::count() + ms.saturating_mul(self.frequency) / 1000 + 1),
            None => {}
        }
        processor::wait();
        processor::disarm();
    }

    fn jitter() -> u32 {
        processor::count() as u32
    }

    type Line = NoLine;

    fn write(bytes: &[u8]) {
        for byte in bytes {
            while register::read(UART + 0x18) & 1 << 5 != 0 {}
            register::write(UART, u32::from(*byte));
        }
    }
}
