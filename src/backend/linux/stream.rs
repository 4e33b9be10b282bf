//! A client's connection, and the same in the hands of a built-in service.
//!
//! echo must not lose what the client sent and the socket would not take back. Reading and writing straight through is
//! two system calls; looking first, writing, and then consuming what was written is three, but never holds a byte. So:
//! read as long as there is a spill buffer for what may be left over, of which there are [`SPILLS`]; while all of them
//! are held by clients that do not read, look first. Memory stays bounded, and nobody waits for anybody.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::builtin::{Forward, Stream};
use crate::capacity::{SCRATCH_BYTES, SPILLS};
use crate::errno::Errno;

/// A connection. Closed when dropped.
pub struct Socket {
    pub fd: OwnedFd,
    pub is_watched: Cell<bool>,
    /// The spill buffer that holds what echo read and could not write.
    spill: Option<Held>,
}

impl Socket {
    pub const fn new(fd: OwnedFd) -> Socket {
        Socket { fd, is_watched: Cell::new(false), spill: None }
    }
}

/// Which spill buffers are taken, a bit each. A static, because a connection that is dropped must give its buffer back
/// and has no way to the pool. The daemon has one thread, so a load and a store do.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Marks a spill buffer as taken until it is dropped, with its connection or before.
struct Held {
    index: usize,
    from: usize,
    to: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        TAKEN.store(TAKEN.load(Relaxed) & !(1 << self.index), Relaxed);
    }
}

/// The spill buffers of all connections.
pub struct Spills {
    buffers: [[u8; SCRATCH_BYTES]; SPILLS],
}

const _: () = assert!(SPILLS <= 32);

impl Spills {
    pub const fn new() -> Spills {
        Spills { buffers: [[0; SCRATCH_BYTES]; SPILLS] }
    }

    /// The index of a free buffer.
    fn free() -> Option<usize> {
        let index = TAKEN.load(Relaxed).trailing_ones() as usize;
        (index < SPILLS).then_some(index)
    }

    /// Keeps `rest` in buffer `index`, which is free.
    fn hold(&mut self, index: usize, rest: &[u8]) -> Option<Held> {
        self.buffers.get_mut(index)?.get_mut(..rest.len())?.copy_from_slice(rest);
        TAKEN.store(TAKEN.load(Relaxed) | 1 << index, Relaxed);
        Some(Held { index, from: 0, to: rest.len() })
    }

    fn rest(&self, held: &Held) -> &[u8] {
        self.buffers.get(held.index).and_then(|buffer| buffer.get(held.from..held.to)).unwrap_or(&[])
    }
}

/// A connection for the length of one event.
pub struct SocketIo<'a> {
    socket: &'a mut Socket,
    spills: &'a mut Spills,
    /// Whether a read, a write, may find something; known to be false after EAGAIN or a short write.
    readable: bool,
    writable: bool,
}

impl<'a> SocketIo<'a> {
    pub fn new(socket: &'a mut Socket, spills: &'a mut Spills) -> SocketIo<'a> {
        SocketIo { socket, spills, readable: true, writable: true }
    }

    fn receive(&mut self, buf: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        match recv(self.socket.fd.as_fd(), buf, flags | RecvFlags::DONTWAIT) {
            Ok((n, _)) => Ok(n),
            Err(errno) => {
                self.readable = false;
                Err(errno.into())
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match send(self.socket.fd.as_fd(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) => {
                self.writable = n == bytes.len();
                Ok(n)
            }
            Err(errno) => {
                self.writable = false;
                Err(errno.into())
            }
        }
    }
}

impl ErrorType for SocketIo<'_> {
    type Error = Errno;
}

impl Read for SocketIo<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.receive(buf, RecvFlags::empty())
    }
}

impl Write for SocketIo<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.send(bytes)
    }

    fn flush(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}

impl ReadReady for SocketIo<'_> {
    fn read_ready(&mut self) -> Result<bool, Errno> {
        Ok(self.readable)
    }
}

impl WriteReady for SocketIo<'_> {
    fn write_ready(&mut self) -> Result<bool, Errno> {
        Ok(self.writable && self.socket.spill.is_none())
    }
}

impl Stream for SocketIo<'_> {
    fn forward(&mut self, scratch: &mut [u8]) -> Result<Forward, Errno> {
        let Socket { fd, spill, .. } = &mut *self.socket;
        let (forward, readable, writable) = move_on(fd.as_fd(), fd.as_fd(), spill, self.spills, scratch)?;
        self.readable &= readable;
        self.writable &= writable;
        Ok(forward)
    }
}

/// Moves what waits at `from` to `to`; what that does not take stays in the one's socket or spill buffer.
pub fn carry(
    from: &mut Socket,
    to: BorrowedFd<'_>,
    spills: &mut Spills,
    scratch: &mut [u8],
) -> Result<Forward, Errno> {
    move_on(from.fd.as_fd(), to, &mut from.spill, spills, scratch).map(|(forward, ..)| forward)
}

/// The same for an echo, whose both ends are one; and whether a read, a write, may find something now.
fn move_on(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    held: &mut Option<Held>,
    spills: &mut Spills,
    scratch: &mut [u8],
) -> Result<(Forward, bool, bool), Errno> {
    const BLOCKED: (Forward, bool, bool) = (Forward::Blocked, true, false);
    let quiet = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if let Some(rest) = held {
        match send(to, spills.rest(rest), quiet) {
            Ok(n) => {
                rest.from += n;
                if rest.from < rest.to {
                    return Ok(BLOCKED);
                }
                *held = None;
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(BLOCKED),
            Err(errno) => return Err(errno.into()),
        }
    }
    let free = Spills::free();
    let look = if free.is_some() { RecvFlags::empty() } else { RecvFlags::PEEK };
    let received = match recv(from, &mut *scratch, look | RecvFlags::DONTWAIT) {
        Ok((0, _)) => return Ok((Forward::End, false, true)),
        Ok((n, _)) => n,
        Err(rustix::io::Errno::AGAIN) => return Ok((Forward::Empty, false, true)),
        Err(errno) => return Err(errno.into()),
    };
    let waiting = scratch.get(..received).unwrap_or(&[]);
    let sent = match send(to, waiting, quiet) {
        Ok(n) => n,
        Err(rustix::io::Errno::AGAIN) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let is_all = sent == received;
    match free {
        Some(_) if is_all => Ok((Forward::Moved(received), true, true)),
        Some(index) => {
            *held = spills.hold(index, waiting.get(sent..).unwrap_or(&[]));
            Ok((Forward::Moved(received), true, false))
        }
        None if sent == 0 => Ok(BLOCKED),
        None => {
            // What was seen and sent is taken out now; it is there, so this cannot come back short.
            let consumed = scratch.get_mut(..sent).unwrap_or(&mut []);
            recv(from, consumed, RecvFlags::TRUNC | RecvFlags::DONTWAIT)?;
            Ok((Forward::Moved(sent), true, is_all))
        }
    }
}
