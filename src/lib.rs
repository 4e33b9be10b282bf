//! usherd: a super-server for small boards.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod access;
pub mod addr;
pub mod args;
pub mod backend;
pub mod builtin;
pub mod capacity;
pub mod config;
pub mod engine;
pub mod errno;
pub mod limits;
pub mod names;
pub mod record;
pub mod service;
pub mod slots;
pub mod table;
pub mod time;
pub mod wrappers;
pub mod zone;
