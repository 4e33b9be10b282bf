//! The daemon as its users see it, and the tests' tables and pages beside it. One program: see tests/README.md.

mod harness;

mod access;
mod attack;
mod boards;
#[cfg(feature = "init")]
mod boot;
mod builtins;
mod conformance;
mod control;
mod corpus;
mod daemon;
mod differential;
mod flood;
mod led;
mod lists;
mod matched;
mod mem;
mod names;
mod pages;
mod real_servers;
#[cfg(feature = "recorder")]
mod recorder;
mod standby;
mod starts;
mod stay;
mod succession;
mod textbook;
mod wrapped;
mod wrappers;
