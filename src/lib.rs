//! usherd: a super-server for small boards.
#![no_std]
#![deny(unsafe_code)]
