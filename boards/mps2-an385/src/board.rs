//! Clock, alarm and serial line (ARM DAI0385: Application Note AN385; ARM DDI0479: Cortex-M System Design Kit).

use usherd_cortex_m::{interrupt, register};
use usherd_firmware::{Board, NoLine};

const UART: usize = 0x4000_4000;
const UART_STATE: usize = UART + 0x04;
const UART_CONTROL: usize = UART + 0x08;
const UART_DIVIDER: usize = UART + 0x10;

/// The first half of the dual timer.
const ALARM: usize = 0x4000_2000;
const ALARM_CONTROL: usize = ALARM + 0x08;
const ALARM_SEEN: usize = ALARM + 0x0c;

/// The FPGA's own: a counter that goes on by one whenever the prescaler has come down to zero.
const COUNTER: usize = 0x4002_8018;
const PRESCALE: usize = 0x4002_801c;
const PRESCALER: usize = 0x4002_8020;

/// Hz.
const CLOCK: u32 = 25_000_000;
const CLOCKS_A_MS: u32 = CLOCK / 1000;

/// The number of the alarm's interrupt.
const ALARM_IRQ: u16 = 10;
/// Once, 32 bits, every 256th clock, with an interrupt, and it begins at what it is loaded with.
const ONCE: u32 = 1 << 6 | 1 << 5 | 0b10 << 2 | 1 << 1 | 1;
const ENABLED: u32 = 1 << 7;

pub struct Mps2 {
    /// The counter when it was looked at last.
    last: u32,
    ms: u64,
}

impl Mps2 {
    pub fn start() -> Mps2 {
        register::write(UART_DIVIDER, CLOCK / 115_200);
        register::write(UART_CONTROL, 1);
        // Milliseconds. It counts through every sleep, and wakes nobody.
        register::write(PRESCALE, CLOCKS_A_MS - 1);
        register::write(PRESCALER, CLOCKS_A_MS - 1);
        register::write(ALARM_CONTROL, ONCE);
        interrupt::listen_to(ALARM_IRQ);
        // Interrupts wake the processor and are never taken: the loop looks at everything itself.
        cortex_m::interrupt::disable();
        Mps2 { last: register::read(COUNTER), ms: 0 }
    }
}

impl Board for Mps2 {
    fn now(&mut self) -> u64 {
        let count = register::read(COUNTER);
        self.ms += u64::from(count.wrapping_sub(self.last));
        self.last = count;
        self.ms
    }

    fn sleep(&mut self, ms: Option<u64>) {
        if ms == Some(0) {
            return;
        }
        // The alarm holds 12 hours. A longer sleep ends then, long before the counter has gone round (49 days).
        let ticks = ms.unwrap_or(u64::MAX).saturating_mul(u64::from(CLOCKS_A_MS)).div_ceil(256);
        register::write(ALARM_CONTROL, ONCE);
        register::write(ALARM, u32::try_from(ticks).unwrap_or(u32::MAX));
        register::write(ALARM_SEEN, 1);
        interrupt::clear(ALARM_IRQ);
        register::write(ALARM_CONTROL, ONCE | ENABLED);
        cortex_m::asm::wfi();
    }

    fn jitter() -> u32 {
        // Clocks, as both count them.
        register::read(COUNTER).wrapping_mul(CLOCKS_A_MS).wrapping_sub(register::read(PRESCALER))
    }

    fn write(bytes: &[u8]) {
        for byte in bytes {
            while register::read(UART_STATE) & 1 != 0 {}
            register::write(UART, u32::from(*byte));
        }
    }

    type Line = NoLine;
}
