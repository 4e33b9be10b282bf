//! usherd on a Cortex-A15: the same services, rules and limits as on Linux, from the table in `usherd.conf`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::panic::PanicInfo;

use usherd_firmware::{ConstStaticCell, memory, run, table, tell};
use usherd_virt::{Frames, Virt, VirtioNet, halt};

static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames::new());

#[aarch32_rt::entry]
fn main() -> ! {
    let board = Virt::start();
    let card = VirtioNet::start(FRAMES.take());
    let ethernet = card.ethernet();
    run(board, card, ethernet, table!(), memory!(Virt, VirtioNet))
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
