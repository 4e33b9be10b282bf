//! usherd on a Cortex-A15: the same services, rules and limits as on Linux, from the table in `usherd.conf`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::panic::PanicInfo;

use usherd::backend::smoltcp::{Buffers, Sockets};
use usherd::engine::Engine;
use usherd_firmware::{ConstStaticCell, Memory, Stack, StaticCell, run, tell};
use usherd_virt::{Frames, Virt, VirtioNet, halt};

/// The table, as `build.rs` has packed it.
static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/table"));

static ENGINE: ConstStaticCell<Engine<Stack<Virt, VirtioNet>>> = ConstStaticCell::new(Engine::new());
static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
static SOCKETS: ConstStaticCell<Sockets<'static>> = ConstStaticCell::new(Sockets::new());
static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());
static STACK: StaticCell<Stack<Virt, VirtioNet>> = StaticCell::new();

#[aarch32_rt::entry]
fn main() -> ! {
    let board = Virt::start();
    let card = VirtioNet::start(FRAMES.take());
    let ethernet = card.ethernet();
    let memory =
        Memory { engine: ENGINE.take(), buffers: BUFFERS.take(), sockets: SOCKETS.take(), stack: &STACK };
    run(board, card, ethernet, TABLE, memory)
}

#[aarch32_rt::exception(Undefined)]
fn undefined(addr: usize) -> ! {
    panic!("no instruction at {addr:#x}");
}

#[aarch32_rt::exception(PrefetchAbort)]
fn prefetch_abort(addr: usize) -> ! {
    panic!("no program at {addr:#x}");
}

#[aarch32_rt::exception(DataAbort)]
fn data_abort(addr: usize) -> ! {
    panic!("no such memory, says the instruction at {addr:#x}");
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    tell::<Virt>(info);
    halt()
}
