//! `usherd -tap NAME`: the same services on a network stack of our own, behind a TAP device.
//!
//! The kernel sees frames and no sockets: what a board without a system does can be watched here, with real clients. A
//! server gets one end of a socket pair for its connection, so it sees no address there; what it is told in its
//! environment is right.

use core::fmt::Write as _;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair,
};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};

use super::cache::Disk;
use super::log::Log;
use super::question::random;
use super::{Cache, Spawner, spawn, sys};
use crate::backend::smoltcp::{Host, NoLine, Pipe, Smoltcp, Start};
use crate::backend::{End, Pid};
use crate::builtin::NoOwn;
use crate::engine::TablePair;
use crate::errno::Errno;
use crate::record::Record;
use crate::time::Now;

/// The largest frame: Ethernet's header and 1500 bytes.
const FRAME: usize = 1514;

/// A TAP device (the kernel's Documentation/networking/tuntap.rst).
pub struct Tap {
    fd: OwnedFd,
    received: [u8; FRAME],
    sent: [u8; FRAME],
}

/// struct ifreq, as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

impl Tap {
    /// Opens the device of that name, and makes it if it is not there.
    #[allow(unsafe_code)]
    pub fn open(name: &[u8]) -> Result<Tap, Errno> {
        const TUNSETIFF: u32 = opcode::write::<core::ffi::c_int>(b'T', 202);
        const IFF_TAP: u16 = 2;
        const IFF_NO_PI: u16 = 0x1000;
        let mut request = Request { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
        // With its NUL.
        let place =
            request.name.get_mut(..name.len()).filter(|place| place.len() < 16).ok_or(Errno::NAMETOOLONG)?;
        place.copy_from_slice(name);
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(c"/dev/net/tun", flags, Mode::empty())?;
        // SAFETY: TUNSETIFF reads a struct ifreq, which this is, and changes nothing but its name.
        unsafe { ioctl(&fd, Setter::<TUNSETIFF, Request>::new(request))? };
        Ok(Tap { fd, received: [0; FRAME], sent: [0; FRAME] })
    }
}

pub struct Taken<'t>(&'t [u8]);

pub struct Given<'t> {
    fd: &'t OwnedFd,
    frame: &'t mut [u8; FRAME],
}

impl RxToken for Taken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Given<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // The stack keeps to what `capabilities` says, and fills all of it.
        let frame = self.frame.get_mut(..len.min(FRAME)).unwrap_or_default();
        let result = f(frame);
        // A frame that cannot go is lost, as frames may be.
        let _ = rustix::io::write(self.fd, frame);
        result
    }
}

impl Device for Tap {
    type RxToken<'t> = Taken<'t>;
    type TxToken<'t> = Given<'t>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Taken<'_>, Given<'_>)> {
        let Tap { fd, received, sent } = self;
        let n = rustix::io::read(&*fd, &mut *received).ok()?;
        Some((Taken(received.get(..n)?), Given { fd, frame: sent }))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Given<'_>> {
        Some(Given { fd: &self.fd, frame: &mut self.sent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// What epoll says of the descriptor that signals are read from, and of all others.
const SIGNALS: EventData = EventData::new_u64(1);
const ANYTHING: EventData = EventData::new_u64(0);

/// What Linux has besides a network.
pub struct LinuxHost {
    epoll: OwnedFd,
    null: OwnedFd,
    disk: Disk,
    own: NoOwn,
    pub spawner: &'static mut Spawner,
    pub log: &'static mut Log,
}

/// The services behind a TAP device.
pub type TapStack = Smoltcp<'static, Tap, LinuxHost>;

impl LinuxHost {
    pub fn new(
        cache: &'static mut Cache,
        spawner: &'static mut Spawner,
        log: &'static mut Log,
    ) -> Result<LinuxHost, Errno> {
        Ok(LinuxHost {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            null: rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?,
            disk: Disk::cached(cache),
            own: NoOwn,
            spawner,
            log,
        })
    }

    pub fn set_now(&mut self, now: Now) {
        self.disk.begin_turn(now.unix.unwrap_or(0));
        self.log.set_now(now.unix.unwrap_or(0));
    }

    /// Wakes [`wait`](LinuxHost::wait) when there is something at a descriptor.
    pub fn watch(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(epoll::add(&self.epoll, fd, ANYTHING, EventFlags::IN)?)
    }

    /// Likewise, at the one that signals are read from.
    pub fn watch_signals(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(epoll::add(&self.epoll, fd, SIGNALS, EventFlags::IN)?)
    }

    /// Waits until something happens, or for so many milliseconds; whether there are signals.
    pub fn wait(&self, ms: Option<u64>) -> Result<bool, Errno> {
        let timeout =
            ms.map(|ms| Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: ((ms % 1000) * 1_000_000) as _ });
        let none = epoll::Event { flags: EventFlags::empty(), data: ANYTHING };
        let mut events = [none; 16];
        let count = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        // Which of the others it was does not matter: each turn looks at all.
        let mut events = events.iter().take(count);
        Ok(events.any(|event| { event.data }.u64() == SIGNALS.u64()))
    }
}

/// Our end of a socket pair.
pub struct PairEnd(OwnedFd);

impl Pipe for PairEnd {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        Ok(recv(&self.0, buf, RecvFlags::DONTWAIT)?.0)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        Ok(send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    fn finish(&mut self) {
        let _ = shutdown(&self.0, Shutdown::Write);
    }
}

impl Host for LinuxHost {
    type Files = Disk;
    type Tables = TablePair;
    type Pipe = PairEnd;
    type Own = NoOwn;

    type Line = NoLine;

    fn own(&mut self) -> (&mut NoOwn, &mut [NoLine]) {
        (&mut self.own, &mut [])
    }

    fn files(&mut self) -> &mut Disk {
        &mut self.disk
    }

    fn record(&mut self, record: &Record<'_>) {
        self.log.record(record);
    }

    fn random(&mut self) -> u32 {
        random()
    }

    fn load(&mut self) -> Option<u32> {
        sys::load()
    }

    const HAS_PROGRAMS: bool = true;

    fn start(&mut self, start: &Start<'_>) -> Result<(Pid, Option<PairEnd>), Errno> {
        let pair = match start.talks {
            true => {
                let (ours, theirs) =
                    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                // Once for every change: a turn moves all that there is.
                let changes = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                epoll::add(&self.epoll, &ours, ANYTHING, changes)?;
                Some((ours, theirs))
            }
            false => None,
        };
        let socket = pair.as_ref().map_or(self.null.as_fd(), |(_, theirs)| theirs.as_fd());
        let stderr = match start.service.stderr {
            crate::service::Stderr::Client => socket,
            crate::service::Stderr::Log | crate::service::Stderr::Null => self.null.as_fd(),
        };
        let pid = self.spawner.spawn(&spawn::Order {
            table: start.table,
            service: start.service,
            socket: socket.as_raw_fd(),
            stderr: stderr.as_raw_fd(),
            gets_nothing: !start.talks,
            peer: start.peer,
            local: start.local,
            effects: start.effects,
            command: start.command,
            linger: 0,
        })?;
        Ok((pid, pair.map(|(ours, _)| PairEnd(ours))))
    }

    fn end(&mut self, pid: Pid, how: End) {
        sys::end(pid, how);
    }
}

/// Where the stack is to be reached, for people.
pub fn describe(stack: &TapStack, name: &[u8], line: &mut heapless::String<256>) {
    let _ = write!(line, "services on {}:", crate::config::diagnostic::Bytes(name));
    for address in stack.addresses() {
        let _ = write!(line, " {address}");
    }
}

/// An Ethernet address of our own (locally administered), always the same one for a device of that name.
pub fn ethernet(name: &[u8]) -> [u8; 6] {
    // FNV-1a.
    let hash =
        name.iter().fold(0x811c_9dc5u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    [0x02, b'u', a, b, c, d]
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
