//! usherd on a Cortex-A53: the same services, rules and limits as on Linux, from the table in `usherd.conf`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod memory;

use core::panic::PanicInfo;

use aarch64_rt::{ExceptionHandlers, RegisterStateRef, entry, exception_handlers};
use usherd_firmware::{ConstStaticCell, memory, run, table, tell};
use usherd_virt::{Frames, Virt, VirtioNet, halt};

static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());

/// Pages of 4096 bytes.
const STACK_PAGES: usize = 16;

entry!(main, STACK_PAGES);

fn main(_: u64, _: u64, _: u64, _: u64) -> ! {
    let board = Virt::start();
    let card = VirtioNet::start(FRAMES.take());
    let ethernet = card.ethernet();
    run(board, card, ethernet, table!(), memory!(Virt, VirtioNet))
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
