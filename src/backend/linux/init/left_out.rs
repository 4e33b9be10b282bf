//! A program that was built without the feature `init` is nobody's first process, whatever it is called.

use rustix::fd::OwnedFd;

use super::log::Log;
use super::sys::SignalSet;
use crate::config::Loader;
use crate::errno::Errno;
use crate::time::Now;

/// There is none.
pub enum Init {}

/// What of it an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {}

impl Part {
    pub const fn number(self) -> u16 {
        match self {}
    }

    pub const fn from_number(_: u16) -> Option<Part> {
        None
    }
}

/// The machine is never told to go down by this program.
pub fn order(_: &[u8]) -> Option<i32> {
    None
}

impl Init {
    pub fn begin(_: &[u8]) -> Option<Init> {
        None
    }

    pub const fn signals(&self) -> SignalSet {
        match *self {}
    }

    pub fn prepare(&mut self, _: &Loader, _: &mut Log) {
        match *self {}
    }

    pub fn join(&mut self, _: &OwnedFd, _: Now, _: &mut Log) -> Result<(), Errno> {
        match *self {}
    }

    pub fn next_deadline(&self) -> Option<crate::time::Instant> {
        match *self {}
    }

    pub fn is_up(&mut self) -> bool {
        match *self {}
    }

    pub fn ready(&mut self, _: Part, _: Now, _: &mut Log) {
        match *self {}
    }

    pub fn turn(&mut self, _: Now, _: &mut Log) {
        match *self {}
    }

    pub fn meaning(&mut self, _: u32) -> u32 {
        match *self {}
    }

    pub fn reaped(&mut self, _: u32, _: Now, _: &mut Log) -> bool {
        match *self {}
    }

    pub fn is_alone(&self) -> bool {
        match *self {}
    }

    pub fn kill_all(&self) {
        match *self {}
    }

    pub fn leave(self) -> ! {
        match self {}
    }
}
