//! usherd on a Cortex-M3 in an FPGA: the same services, rules and limits as on Linux, from the table in `usherd.conf`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod board;
mod lan9118;

use core::panic::PanicInfo;

use usherd_firmware::{ConstStaticCell, memory, run, table, tell};

use board::Mps2;
use lan9118::{Frames, Lan9118};

/// Locally administered; a board of one's own gets one of one's own.
const ETHERNET: [u8; 6] = [0x02, b'u', b's', b'h', 0, 2];

static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());

#[cortex_m_rt::entry]
fn main() -> ! {
    let board = Mps2::start();
    let card = Lan9118::start(ETHERNET, FRAMES.take());
    run(board, card, ETHERNET, table!(), memory!(Mps2, Lan9118))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    tell::<Mps2>(info);
    loop {
        cortex_m::asm::udf();
    }
}
