//! usherd: a super-server for small boards.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod zone;
