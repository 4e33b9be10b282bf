//! The serial lines (data sheet, chapter 12): the first has the log, the second a service.

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use usherd::backend::smoltcp::Line;
use usherd_cortex_m::{interrupt, register};
use usherd_firmware::Wakes;

const LOG: usize = 0x4000_c000;
const BASE: usize = 0x4000_d000;
const FLAGS: usize = 0x18;
const BAUD_INTEGER: usize = 0x24;
const BAUD_FRACTION: usize = 0x28;
const FORMAT: usize = 0x2c;
const CONTROL: usize = 0x30;
const INTERRUPT_MASK: usize = 0x38;
const INTERRUPT_CLEAR: usize = 0x44;

/// Nothing has come; nothing more can go.
const EMPTY: u32 = 1 << 4;
const FULL: u32 = 1 << 5;
/// Interrupts: enough or nothing more has come, there is room again.
const WAKING: u32 = 1 << 4 | 1 << 5 | 1 << 6;

/// The number of its interrupt.
const IRQ: u16 = 6;

/// Sets a line to 115200 bits a second, eight bits, no parity, with its queues of 16 bytes.
fn start(base: usize) {
    // 50 MHz / (16 * 115200) = 27 and 8/64.
    register::write(base + BAUD_INTEGER, 27);
    register::write(base + BAUD_FRACTION, 8);
    register::write(base + FORMAT, 3 << 5 | 1 << 4);
    register::write(base + CONTROL, 0x301);
}

fn is(base: usize, flag: u32) -> bool {
    register::read(base + FLAGS) & flag != 0
}

/// Sets up the line of the log.
pub fn start_log() {
    start(LOG);
}

/// Writes to the log, at the line's pace.
pub fn log(bytes: &[u8]) {
    for byte in bytes {
        while is(LOG, FULL) {}
        register::write(LOG, u32::from(*byte));
    }
}

/// The second line.
pub struct Uart;

impl Uart {
    pub fn start() -> Uart {
        start(BASE);
        register::write(BASE + INTERRUPT_MASK, WAKING);
        interrupt::listen_to(IRQ);
        Uart
    }
}

impl Wakes for Uart {
    fn acknowledge(&mut self) {
        register::write(BASE + INTERRUPT_CLEAR, WAKING);
        interrupt::clear(IRQ);
    }
}

impl Line for Uart {
    fn path(&self) -> &[u8] {
        b"/uart1"
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!is(BASE, EMPTY))
    }
}

impl Read for Uart {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let mut n = 0;
        for place in buf {
            if is(BASE, EMPTY) {
                break;
            }
            *place = register::read(BASE) as u8;
            n += 1;
        }
        Ok(n)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!is(BASE, FULL))
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let mut n = 0;
        for byte in bytes {
            if is(BASE, FULL) {
                break;
            }
            register::write(BASE, u32::from(*byte));
            n += 1;
        }
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
