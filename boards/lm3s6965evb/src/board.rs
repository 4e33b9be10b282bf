//! Clock, alarm and serial line.

use usherd_firmware::Board;

use crate::register;

/// System control: the clock, and which devices have one.
const INTERRUPT_STATUS: usize = 0x400f_e050;
const CLOCK: usize = 0x400f_e060;
const CLOCKS_1: usize = 0x400f_e104;
const CLOCKS_2: usize = 0x400f_e108;
const UART: usize = 0x4000_c000;
const TIMER: usize = 0x4003_0000;
const SYSTICK: usize = 0xe000_e010;
const INTERRUPT_ENABLE: usize = 0xe000_e100;
const INTERRUPT_CLEAR: usize = 0xe000_e280;

/// Cycles of the core in a millisecond: the 200 MHz of the PLL by 4.
const CYCLES: u32 = 50_000;
/// The number of the alarm's interrupt.
const TIMER_IRQ: u16 = 19;
/// SysTick counts 24 bits down.
const WRAP: u32 = 1 << 24;

pub struct Lm3s6965 {
    /// SysTick when it was looked at last.
    last: u32,
    cycles: u32,
    ms: u64,
}

impl Lm3s6965 {
    pub fn start() -> Lm3s6965 {
        // The 8 MHz crystal and the PLL, 50 MHz: past the PLL, on with it, wait, through it (data sheet, 6.3).
        register::write(CLOCK, 0x078e_3ac0 & !(1 << 22) | 1 << 11);
        register::write(CLOCK, 1 << 11 | 3 << 23 | 1 << 22 | 0xe << 6);
        for _ in 0..100_000 {
            if register::read(INTERRUPT_STATUS) & 1 << 6 != 0 {
                break;
            }
        }
        register::write(CLOCK, 3 << 23 | 1 << 22 | 0xe << 6);
        // UART 0, timer 0; Ethernet with its line driver, and the ports it is at.
        register::write(CLOCKS_1, 1 << 16 | 1);
        register::write(CLOCKS_2, 1 << 30 | 1 << 28 | 1 << 5 | 1);
        register::write(UART + 0x30, 0x301);
        // SysTick from the core's clock. Its interrupt wakes before it has gone round twice.
        register::write(SYSTICK + 4, WRAP - 1);
        register::write(SYSTICK + 8, 0);
        register::write(SYSTICK, 0b111);
        // The alarm: 32 bits, once.
        register::write(TIMER, 0);
        register::write(TIMER + 0x04, 1);
        register::write(TIMER + 0x18, 1);
        listen_to(TIMER_IRQ);
        // Interrupts wake the processor and are never taken: the loop looks at everything itself.
        cortex_m::interrupt::disable();
        Lm3s6965 { last: register::read(SYSTICK + 8), cycles: 0, ms: 0 }
    }
}

impl Board for Lm3s6965 {
    fn now(&mut self) -> u64 {
        let count = register::read(SYSTICK + 8);
        self.cycles += self.last.wrapping_sub(count) & (WRAP - 1);
        self.last = count;
        self.ms += u64::from(self.cycles / CYCLES);
        self.cycles %= CYCLES;
        self.ms
    }

    fn sleep(&mut self, ms: Option<u64>) {
        if let Some(ms) = ms {
            if ms == 0 {
                return;
            }
            let cycles = u32::try_from(ms.saturating_mul(u64::from(CYCLES))).unwrap_or(u32::MAX);
            register::write(TIMER + 0x0c, 0);
            register::write(TIMER + 0x24, 1);
            register::write(TIMER + 0x28, cycles);
            clear(TIMER_IRQ);
            register::write(TIMER + 0x0c, 1);
        }
        cortex_m::asm::wfi();
        // SysTick's is an exception and is cleared elsewhere (ICSR, PENDSTCLR).
        register::write(0xe000_ed04, 1 << 25);
    }

    fn jitter() -> u32 {
        register::read(SYSTICK + 8)
    }

    fn write(bytes: &[u8]) {
        for byte in bytes {
            while register::read(UART + 0x18) & 1 << 5 != 0 {}
            register::write(UART, u32::from(*byte));
        }
    }
}

/// An interrupt wakes the processor from now on.
pub fn listen_to(irq: u16) {
    register::write(INTERRUPT_ENABLE + usize::from(irq / 32) * 4, 1 << (irq % 32));
}

/// An interrupt has been seen to.
pub fn clear(irq: u16) {
    register::write(INTERRUPT_CLEAR + usize::from(irq / 32) * 4, 1 << (irq % 32));
}
