//! usherd: a super-server for small boards.
#![no_std]
#![deny(unsafe_code)]

pub mod addr;
pub mod capacity;
pub mod config;
pub mod errno;
pub mod names;
pub mod service;
pub mod table;
pub mod time;
