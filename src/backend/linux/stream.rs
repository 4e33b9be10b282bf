//! A client's connection, and the same in the hands of a built-in service; connections to other hosts.
//!
//! echo must not lose what the client sent and the socket would not take back, nor redirect what one side sent and the
//! other does not take. Reading and writing straight through is two system calls; looking first, writing, and then
//! consuming what was written is three, but never holds a byte. So: read as long as there is a spill buffer for what may
//! be left over, of which there are [`SPILLS`]; while all of them are held by those whose other side does not read, look
//! first. Memory stays bounded, and nobody waits for anybody.

use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, bind, getpeername, getsockname,
    recv, send, shutdown, socket_with, socketpair, sockopt,
};

use super::sys;
use crate::builtin::{Forward, Stream};
use crate::capacity::{SCRATCH_BYTES, SPILLS};
use crate::errno::Errno;

/// A connection. Closed when dropped.
pub struct Socket {
    pub fd: OwnedFd,
    pub is_watched: Cell<bool>,
    /// Begun, and not yet known to be there.
    is_pending: Cell<bool>,
    /// Seconds of SO_LINGER that a server will find set; 0 for off. Not set while the socket is the daemon's: close(2)
    /// would wait that long then, also on a socket that never blocks.
    pub linger: Cell<u32>,
    /// The spill buffer that holds what was read here and could not be written where it goes.
    spill: Option<Held>,
}

impl Socket {
    pub const fn new(fd: OwnedFd) -> Socket {
        Socket {
            fd,
            is_watched: Cell::new(false),
            is_pending: Cell::new(false),
            linger: Cell::new(0),
            spill: None,
        }
    }

    /// See [`Backend::connect`](crate::backend::Backend::connect).
    pub fn connect(from: Option<IpAddr>, to: SocketAddr) -> Result<Socket, Errno> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, None)?;
        // What we send was cut into segments by who sent it to us, or is one question: to hold back a small one until the
        // last was acknowledged would only add time. xinetd set it for redirect too.
        sockopt::set_tcp_nodelay(&fd, true)?;
        if let Some(from) = from {
            sys::bind_without_port(fd.as_fd());
            bind(&fd, &SocketAddr::new(from, 0))?;
        }
        match rustix::net::connect(&fd, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let socket = Socket::new(fd);
        socket.is_pending.set(true);
        Ok(socket)
    }

    /// See [`Backend::pair`](crate::backend::Backend::pair). Both block, as programs expect; ours is never asked to.
    pub fn pair() -> Result<(Socket, Socket), Errno> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Socket::new(ours), Socket::new(theirs)))
    }

    /// See [`Backend::is_there`](crate::backend::Backend::is_there).
    pub fn is_there(&self) -> bool {
        match recv(&self.fd, &mut [0; 1], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok((n, _)) => n > 0,
            Err(errno) => errno == rustix::io::Errno::AGAIN,
        }
    }

    /// See [`Backend::connected`](crate::backend::Backend::connected).
    pub fn connected(&self) -> Result<(), Errno> {
        // In this order: a connection may come to be between the two, and is then found at the next look. The other way
        // round one that failed in between would count as not decided, for ever.
        match getpeername(&self.fd) {
            Ok(_) => {
                self.is_pending.set(false);
                Ok(())
            }
            Err(rustix::io::Errno::NOTCONN) => {
                sockopt::socket_error(&self.fd)??;
                Err(Errno::AGAIN)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Our own address and port, IPv4 as IPv4.
    pub fn local(&self) -> Option<SocketAddr> {
        own_end(self.fd.as_fd()).map(canonical)
    }

    /// As [`local`](Socket::local), for who becomes a server: the socket of an IPv4 client is an IPv4 socket from now on.
    pub fn local_for_server(&self) -> Option<SocketAddr> {
        let address = own_end(self.fd.as_fd())?;
        if address != canonical(address) {
            // It stays a mapped IPv6 socket where the kernel refuses; servers mostly do not look.
            let _ = sys::become_ipv4(self.fd.as_fd());
        }
        Some(canonical(address))
    }

    /// Takes out what the other end sent and nobody read, within bounds: closing a TCP socket with unread input resets
    /// the connection, and the reset may overtake what was written. One that goes on sending after that gets its reset.
    pub fn drain(&self) {
        if self.is_pending.get() {
            return;
        }
        let mut sink = [0; 2048];
        for _ in 0..8 {
            match recv(&self.fd, &mut sink, RecvFlags::DONTWAIT) {
                Ok((n, _)) if n == sink.len() => {}
                _ => break,
            }
        }
    }

    /// Tells the other end that nothing more will come.
    pub fn finish(&self) {
        let _ = shutdown(&self.fd, Shutdown::Write);
    }
}

/// Which spill buffers are taken, a bit each. A static, because a connection that is dropped must give its buffer back
/// and has no way to the pool. The daemon has one thread, so a load and a store do.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Marks a spill buffer as taken until it is dropped, with its connection or before.
struct Held {
    index: u8,
    /// What of the buffer is left.
    from: u32,
    to: u32,
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

const _: () = assert!(SPILLS <= 32 && SCRATCH_BYTES <= u32::MAX as usize);

impl Spills {
    pub const fn new() -> Spills {
        Spills { buffers: [[0; SCRATCH_BYTES]; SPILLS] }
    }

    /// The index of a free buffer.
    fn free() -> Option<u8> {
        let index = TAKEN.load(Relaxed).trailing_ones();
        ((index as usize) < SPILLS).then_some(index as u8)
    }

    /// Keeps `rest` in buffer `index`, which is free.
    fn hold(&mut self, index: u8, rest: &[u8]) -> Option<Held> {
        self.buffers.get_mut(usize::from(index))?.get_mut(..rest.len())?.copy_from_slice(rest);
        TAKEN.store(TAKEN.load(Relaxed) | 1 << index, Relaxed);
        Some(Held { index, from: 0, to: rest.len() as u32 })
    }

    fn rest(&self, held: &Held) -> &[u8] {
        let range = held.from as usize..held.to as usize;
        self.buffers.get(usize::from(held.index)).and_then(|buffer| buffer.get(range)).unwrap_or(&[])
    }
}

/// Whether a read at the input, a write at the output, may find something; known to be false after EAGAIN or a short
/// write.
#[derive(Clone, Copy)]
struct Ready {
    readable: bool,
    writable: bool,
}

impl Ready {
    const MAYBE: Ready = Ready { readable: true, writable: true };

    fn receive(&mut self, fd: BorrowedFd<'_>, buf: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        match recv(fd, buf, flags | RecvFlags::DONTWAIT) {
            Ok((n, _)) => Ok(n),
            Err(errno) => {
                self.readable = false;
                Err(errno.into())
            }
        }
    }

    fn send(&mut self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
        match send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
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

    /// Moves what waits at `input`, once through `scratch`, to `output`; to where it came from if there is none. What the
    /// output does not take stays in the input's spill buffer, or in the kernel if there is no buffer free.
    fn forward(
        &mut self,
        input: &mut Socket,
        output: Option<&Socket>,
        spills: &mut Spills,
        scratch: &mut [u8],
    ) -> Result<Forward, Errno> {
        let Socket { fd: input, spill, .. } = input;
        let input = input.as_fd();
        let output = output.map_or(input, |output| output.fd.as_fd());
        if let Some(held) = spill {
            match self.send(output, spills.rest(held)) {
                Ok(n) => {
                    held.from += n as u32;
                    if held.from < held.to {
                        return Ok(Forward::Blocked);
                    }
                    *spill = None;
                }
                Err(Errno::AGAIN) => return Ok(Forward::Blocked),
                Err(errno) => return Err(errno),
            }
        }
        let free = Spills::free();
        let look = if free.is_some() { RecvFlags::empty() } else { RecvFlags::PEEK };
        let received = match self.receive(input, scratch, look) {
            Ok(0) => return Ok(Forward::End),
            Ok(n) => n,
            Err(Errno::AGAIN) => return Ok(Forward::Empty),
            Err(errno) => return Err(errno),
        };
        let waiting = scratch.get(..received).unwrap_or(&[]);
        let sent = match self.send(output, waiting) {
            Ok(n) => n,
            Err(Errno::AGAIN) => 0,
            Err(errno) => return Err(errno),
        };
        match free {
            Some(index) if sent < received => {
                *spill = spills.hold(index, waiting.get(sent..).unwrap_or(&[]));
                Ok(Forward::Moved(received))
            }
            Some(_) => Ok(Forward::Moved(received)),
            None if sent == 0 => Ok(Forward::Blocked),
            None => {
                // What was seen and sent is taken out now; it is there, so this cannot come back short.
                let consumed = scratch.get_mut(..sent).unwrap_or(&mut []);
                self.receive(input, consumed, RecvFlags::TRUNC)?;
                Ok(Forward::Moved(sent))
            }
        }
    }
}

/// See [`Backend::relay`](crate::backend::Backend::relay).
pub fn relay(
    from: &mut Socket,
    to: &Socket,
    spills: &mut Spills,
    scratch: &mut [u8],
) -> Result<Forward, Errno> {
    let mut ready = Ready::MAYBE;
    ready.forward(from, Some(to), spills, scratch)
}

/// Our own end of a socket, as the kernel has it.
pub fn own_end(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(fd).ok()?).ok()
}

/// IPv4 as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A connection for the length of one event.
pub struct SocketIo<'a> {
    socket: &'a mut Socket,
    spills: &'a mut Spills,
    ready: Ready,
}

impl<'a> SocketIo<'a> {
    pub fn new(socket: &'a mut Socket, spills: &'a mut Spills) -> SocketIo<'a> {
        SocketIo { socket, spills, ready: Ready::MAYBE }
    }
}

impl ErrorType for SocketIo<'_> {
    type Error = Errno;
}

impl Read for SocketIo<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.ready.receive(self.socket.fd.as_fd(), buf, RecvFlags::empty())
    }
}

impl Write for SocketIo<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.ready.send(self.socket.fd.as_fd(), bytes)
    }

    fn flush(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}

impl ReadReady for SocketIo<'_> {
    fn read_ready(&mut self) -> Result<bool, Errno> {
        Ok(self.ready.readable)
    }
}

impl WriteReady for SocketIo<'_> {
    fn write_ready(&mut self) -> Result<bool, Errno> {
        Ok(self.ready.writable && self.socket.spill.is_none())
    }
}

impl Stream for SocketIo<'_> {
    fn forward(&mut self, scratch: &mut [u8]) -> Result<Forward, Errno> {
        self.ready.forward(self.socket, None, self.spills, scratch)
    }
}
