//! usherd: a super-server for small boards.
//!
//! The daemon is `src/main.rs` and little else; what it does is here, in layers, each of which knows those above it in
//! this list and none below.
//!
//! | layer | modules | what |
//! |---|---|---|
//! | values | [`time`], [`addr`], [`zone`], [`errno`], [`slots`], [`capacity`] | numbers with a meaning |
//! | what is configured | [`service`], [`table`] | a service; the fixed table of them, with the pools their strings live in |
//! | from text to table | [`config`], [`names`], [`args`] | files and command line become a table and diagnostics |
//! | what is asked | [`resolver`], [`ident`], [`tcpmux`], [`sntp`] | names of addresses and addresses of names, from the hosts file and name servers; a client's user; the service a client names; the time of day |
//! | what is decided | [`access`], [`wrappers`], [`limits`], [`builtin`], [`record`] | who may come in, how many, what built-in services say, what is written down |
//! | the engine | [`engine`] | events and the time go in, calls of a backend come out |
//! | backends | [`backend`] | the same calls on Linux, on smoltcp (a TAP device, boards without a system), and in a simulation |
//!
//! # Rules the core keeps
//!
//! Everything but the backends is the core. It has no allocator, no I/O and no clock, so:
//!
//! - **It is a function of its inputs.** Time, file contents, load and what the system said come in as values. The same
//!   inputs give the same calls, and any run can be played again.
//! - **Everything has a fixed size.** What is full has a defined answer: a diagnostic when a file is read, clients that
//!   wait in the kernel's backlog at run time. `memory-budget.md` has the bytes.
//! - **Mistakes fail closed.** A service with a mistake does not start, or its running predecessor is kept; no other is
//!   touched, and no restriction is ever dropped.
//! - **Three families of trouble never mix**: a [`Diagnostic`](config::diagnostic::Diagnostic) is about a file, a
//!   [`Refusal`](record::Refusal) about a client, an [`Errno`](errno::Errno) about the system.
//! - **Handles have generations.** A late event for what was reused is recognised, not believed.
//!
//! `unsafe` is in the Linux backend's system calls, in the child between clone and exec, and in the program's entry.
//!
//! # Features
//!
//! `linux` (default) is the epoll backend and the daemon. Without it the crate is the core alone, for any bare target.
//! `smoltcp` is the backend on a network stack of our own, for any target; `tap` puts the daemon on it (`usherd -tap`).
//! `defmt` makes frames of records and events, for whoever has a logger to write them.
//! `sim` is the simulation backend, which links std, and so never together with the daemon.
//!
//! `docs/life-of-a-connection.md` follows one client through all of this.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod access;
pub mod addr;
pub mod args;
pub mod backend;
pub mod boot;
#[cfg(feature = "linux")]
pub mod budget;
pub mod builtin;
pub mod capacity;
pub mod config;
#[cfg(test)]
#[path = "../tests/conformance/script.rs"]
mod conformance;
pub mod dhcp;
pub mod engine;
pub mod errno;
pub mod ident;
pub mod limits;
pub mod names;
pub mod proxy;
pub mod record;
pub mod resolver;
pub mod service;
pub mod slots;
pub mod sntp;
pub mod table;
pub mod tcpmux;
mod tell;
pub mod time;
pub mod wrappers;
pub mod zone;
