//! What the firmware of boards with a Cortex-M shares: registers, and interrupts that wake the processor and are never taken.
#![no_std]
#![deny(unsafe_code)]

pub mod interrupt;
pub mod register;
