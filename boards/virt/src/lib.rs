//! Devices of QEMU's virt machine, for its 32-bit and its 64-bit processors: where they are is the same for both
//! (hw/arm/virt.c, `base_memmap` and `a15irqmap`).
#![no_std]
#![deny(unsafe_code)]

mod board;
mod net;
mod processor;
mod register;
mod stack;

pub use board::Virt;
pub use net::{Frames, VirtioNet};
pub use processor::halt;
