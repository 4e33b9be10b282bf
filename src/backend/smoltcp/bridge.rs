//! Programs behind a network stack of our own: what they and their clients have to say to each other goes through a pipe.

use core::net::IpAddr;

use smoltcp::socket::tcp;

use crate::addr::Peer;
use crate::errno::Errno;
use crate::service::Service;
use crate::table::Table;
use crate::wrappers::Effects;

/// A program that is to answer a client, or a command that goes with one.
pub struct Start<'a> {
    pub table: &'a Table,
    pub service: &'a Service,
    pub peer: Peer,
    pub local: Option<(IpAddr, u16)>,
    pub effects: Option<&'a Effects>,
    pub command: Option<&'a [u8]>,
    /// It has the client's connection for its descriptors 0 to 2; else /dev/null.
    pub talks: bool,
}

/// The way to a program: bytes in both directions. Never waits: [`Errno::AGAIN`]. Dropping it ends both.
pub trait Pipe {
    /// 0: the program will say no more.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno>;
    /// Fails if nobody will read it, even if it is nothing.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno>;
    /// The client will say no more.
    fn finish(&mut self);
}

/// Where there are no programs.
pub enum NoPipe {}

impl Pipe for NoPipe {
    fn read(&mut self, _: &mut [u8]) -> Result<usize, Errno> {
        match *self {}
    }

    fn write(&mut self, _: &[u8]) -> Result<usize, Errno> {
        match *self {}
    }

    fn finish(&mut self) {
        match *self {}
    }
}

/// A connection that a program answers.
pub(super) struct Bridge<P> {
    /// The TCP socket, by its place.
    pub at: usize,
    pipe: P,
    /// The client has said all, and the program knows.
    is_told: bool,
    /// The program has said all.
    is_over: bool,
}

impl<P: Pipe> Bridge<P> {
    pub const fn new(at: usize, pipe: P) -> Bridge<P> {
        Bridge { at, pipe, is_told: false, is_over: false }
    }

    /// `false` if there is nothing more to move: the connection is to be closed.
    pub fn pump(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        while !self.is_told && socket.can_recv() {
            let mut moved = Err(Errno::AGAIN);
            let taken = socket.recv(|bytes| {
                moved = self.pipe.write(bytes);
                (moved.unwrap_or(0), ())
            });
            match (taken, moved) {
                (Ok(()), Ok(n)) if n > 0 => {}
                (Ok(()), Ok(_) | Err(Errno::AGAIN)) => break,
                // Nobody reads it any more; what the program says still goes out.
                _ => {
                    let _ = socket.recv(|bytes| (bytes.len(), ()));
                }
            }
        }
        if !self.is_told && !socket.may_recv() {
            self.is_told = true;
            self.pipe.finish();
        }
        while !self.is_over {
            if !socket.may_send() {
                // The client is gone.
                return false;
            }
            if !socket.can_send() {
                break;
            }
            let mut read = Err(Errno::AGAIN);
            let _ = socket.send(|room| {
                read = self.pipe.read(room);
                (read.unwrap_or(0), ())
            });
            match read {
                Ok(n) if n > 0 => {}
                Err(Errno::AGAIN) => break,
                _ => {
                    self.is_over = true;
                    socket.close();
                }
            }
        }
        // One that only has no more to say may go on listening.
        let mut is_gone = || self.pipe.write(&[]).is_err_and(|errno| errno != Errno::AGAIN);
        !(self.is_over && (self.is_told || is_gone()))
    }
}
