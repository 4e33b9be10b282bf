//! usherd on a Cortex-A53: the same services, rules and limits as on Linux, from the table in `usherd.conf`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod memory;

use core::panic::PanicInfo;

use aarch64_rt::{ExceptionHandlers, RegisterStateRef, entry, exception_handlers};
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

/// Pages of 4096 bytes.
const STACK_PAGES: usize = 16;

entry!(main, STACK_PAGES);

fn main(_: u64, _: u64, _: u64, _: u64) -> ! {
    let board = Virt::start();
    let card = VirtioNet::start(FRAMES.take());
    let ethernet = card.ethernet();
    let memory =
        Memory { engine: ENGINE.take(), buffers: BUFFERS.take(), sockets: SOCKETS.take(), stack: &STACK };
    run(board, card, ethernet, TABLE, memory)
}

exception_handlers!(Faults);

struct Faults;

impl ExceptionHandlers for Faults {
    extern "C" fn sync_current(state: RegisterStateRef) {
        panic!("a fault at {:#x}", state.elr);
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    tell::<Virt>(info);
    halt()
}
