//! Clock and alarm.

use heapless::Vec;
use usherd::capacity::LINES;
use usherd_cortex_m::{interrupt, register};
use usherd_firmware::Board;

use crate::uart::{self, Uart};

/// System control: the clock, and which devices have one.
const INTERRUPT_STATUS: usize = 0x400f_e050;
const CLOCK: usize = 0x400f_e060;
const CLOCKS_0: usize = 0x400f_e100;
const CLOCKS_1: usize = 0x400f_e104;
const CLOCKS_2: usize = 0x400f_e108;
const TIMER: usize = 0x4003_0000;
/// The watchdog, which need not watch: its 32 bits are the longest counter of the chip that can be read in any mode.
const WATCHDOG: usize = 0x4000_0000;

/// Cycles of the core in a millisecond: the 200 MHz of the PLL by 4.
const CYCLES: u32 = 50_000;
/// The number of the alarm's interrupt.
const TIMER_IRQ: u16 = 19;
/// The longest sleep, in milliseconds: in time to see that the counter has gone round, which takes it 85.9 s.
const LONGEST: u64 = 80_000;

pub struct Lm3s6965 {
    /// The counter when it was looked at last. It counts down.
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
        // The watchdog; both UARTs, timer 0; Ethernet with its line driver, and the ports it is at.
        register::write(CLOCKS_0, 1 << 3);
        register::write(CLOCKS_1, 1 << 16 | 1 << 1 | 1);
        register::write(CLOCKS_2, 1 << 30 | 1 << 28 | 1 << 5 | 1);
        uart::start_log();
        // The whole 32 bits, from the core's clock; no reset at the end.
        register::write(WATCHDOG, u32::MAX);
        register::write(WATCHDOG + 0x08, 1);
        // The alarm: 32 bits, once.
        register::write(TIMER, 0);
        register::write(TIMER + 0x04, 1);
        register::write(TIMER + 0x18, 1);
        interrupt::listen_to(TIMER_IRQ);
        // Interrupts wake the processor and are never taken: the loop looks at everything itself.
        cortex_m::interrupt::disable();
        Lm3s6965 { last: counter(), cycles: 0, ms: 0 }
    }
}

impl Board for Lm3s6965 {
    fn now(&mut self) -> u64 {
        let count = counter();
        let passed = u64::from(self.last.wrapping_sub(count)) + u64::from(self.cycles);
        self.last = count;
        if register::read(WATCHDOG + 0x10) != 0 {
            // It has gone round; once more without this and it stands still. It begins anew.
            register::write(WATCHDOG + 0x0c, 1);
            self.last = u32::MAX;
        }
        self.ms += passed / u64::from(CYCLES);
        self.cycles = (passed % u64::from(CYCLES)) as u32;
        self.ms
    }

    fn sleep(&mut self, ms: Option<u64>) {
        let ms = ms.unwrap_or(LONGEST).min(LONGEST);
        if ms == 0 {
            return;
        }
        register::write(TIMER + 0x0c, 0);
        register::write(TIMER + 0x24, 1);
        register::write(TIMER + 0x28, ms as u32 * CYCLES);
        interrupt::clear(TIMER_IRQ);
        register::write(TIMER + 0x0c, 1);
        cortex_m::asm::wfi();
    }

    fn jitter() -> u32 {
        counter()
    }

    fn write(bytes: &[u8]) {
        uart::log(bytes);
    }

    type Line = Uart;

    fn lines(&mut self) -> Vec<Uart, LINES> {
        Vec::from_array([Uart::start()])
    }
}

fn counter() -> u32 {
    register::read(WATCHDOG + 0x04)
}
