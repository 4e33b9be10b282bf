//! usherd on a Cortex-M3: the same services, rules and limits as on Linux, from the table in `usherd.conf`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod board;
mod stellaris;
mod uart;

use core::panic::PanicInfo;

use usherd_firmware::{ConstStaticCell, memory, run, table, tell};

use board::Lm3s6965;
use stellaris::{Frames, Stellaris};

/// Locally administered; a board of one's own gets one of one's own.
const ETHERNET: [u8; 6] = [0x02, b'u', b's', b'h', 0, 1];

static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());

#[cortex_m_rt::entry]
fn main() -> ! {
    let board = Lm3s6965::start();
    let card = Stellaris::start(ETHERNET, FRAMES.take());
    run(board, card, ETHERNET, table!(), memory!(Lm3s6965, Stellaris))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    tell::<Lm3s6965>(info);
    loop {
        cortex_m::asm::udf();
    }
}
