//! usherd on a Cortex-M3: the same services, rules and limits as on Linux, from the table in `usherd.conf`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod board;
mod stellaris;
mod uart;

use core::panic::PanicInfo;

use usherd::backend::smoltcp::{Buffers, Sockets};
use usherd::engine::Engine;
use usherd_firmware::{ConstStaticCell, Memory, Stack, StaticCell, run, tell};

use board::Lm3s6965;
use stellaris::{Frames, Stellaris};

/// Locally administered; a board of one's own gets one of one's own.
const ETHERNET: [u8; 6] = [0x02, b'u', b's', b'h', 0, 1];

/// The table, as `build.rs` has packed it.
static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/table"));

static ENGINE: ConstStaticCell<Engine<Stack<Lm3s6965, Stellaris>>> = ConstStaticCell::new(Engine::new());
static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
static SOCKETS: ConstStaticCell<Sockets<'static>> = ConstStaticCell::new(Sockets::new());
static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());
static STACK: StaticCell<Stack<Lm3s6965, Stellaris>> = StaticCell::new();

#[cortex_m_rt::entry]
fn main() -> ! {
    let board = Lm3s6965::start();
    let card = Stellaris::start(ETHERNET, FRAMES.take());
    let memory =
        Memory { engine: ENGINE.take(), buffers: BUFFERS.take(), sockets: SOCKETS.take(), stack: &STACK };
    run(board, card, ETHERNET, TABLE, memory)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    tell::<Lm3s6965>(info);
    loop {
        cortex_m::asm::udf();
    }
}
