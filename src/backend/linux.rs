//! Linux: one thread, one epoll, sockets, children, signals.
//!
//! The loop asks the engine for its next deadline, waits in the kernel until something happens or that deadline comes,
//! reads the clocks once, and turns what happened into events. Everything the engine then wants is a call of the
//! [`Backend`] implementation here, made at once. With nothing to do it never wakes up.

mod cache;
pub mod daemon;
mod dump;
pub mod files;
pub mod filter;
#[cfg(feature = "init")]
mod init;
#[cfg(not(feature = "init"))]
#[path = "linux/init/left_out.rs"]
mod init;
pub mod listen;
pub mod log;
mod matching;
mod notify;
mod question;
#[cfg(feature = "recorder")]
pub mod recorder;
#[cfg(not(feature = "recorder"))]
#[path = "linux/recorder/off.rs"]
mod recorder;
pub mod spawn;
mod stderr;
mod stream;
mod succession;
mod sys;
#[cfg(feature = "tap")]
pub mod tap;

use core::net::{IpAddr, SocketAddr};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with, recvfrom, sendto, sockopt};

use crate::addr::Peer;
use crate::backend::{Backend, End, Given, Pid, ServiceId, Spawn, StreamId};
use crate::builtin::{Forward, Step};
use crate::engine::TablePair;
use crate::errno::Errno;
use crate::record::Record;
use crate::resolver::QuestionId;
use crate::service::{Service, Stderr};
use crate::slots::Handle;
use crate::table::Table;
use crate::time::{Instant, Now};

pub use cache::Cache;
use cache::Disk;
pub use listen::{Inherited, Listener};
pub use question::{Names, Question};
pub use spawn::Spawner;
pub use stream::{Socket, SocketIo, Spills};

/// What an epoll event is about, packed into its 64 bits of user data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Listener(ServiceId),
    Stream(StreamId),
    Question(QuestionId),
    /// Servers' standard error, of a service.
    Stderr(ServiceId),
    /// The same, of a service that listens no more: a place of [`Linux::retired`].
    Retired(u16),
    Signals,
    /// What a first process watches besides.
    Boot(init::Part),
}

impl Source {
    const fn data(self) -> EventData {
        let (kind, index, generation) = match self {
            Source::Listener(id) => (1, id.index, id.generation),
            Source::Stream(StreamId::Session(id)) => (2, id.index, id.generation),
            Source::Stream(StreamId::Near(id)) => (6, id.index, id.generation),
            Source::Stream(StreamId::Far(id)) => (7, id.index, id.generation),
            Source::Stream(StreamId::Ident(id)) => (8, id.index, id.generation),
            Source::Stderr(id) => (3, id.index, id.generation),
            Source::Question(id) => (9, id.index, id.generation),
            Source::Signals => (4, 0, 0),
            Source::Retired(place) => (5, place, 0),
            Source::Boot(part) => (10, part.number(), 0),
        };
        EventData::new_u64((kind as u64) << 32 | (generation as u64) << 16 | index as u64)
    }

    fn from_data(data: EventData) -> Option<Source> {
        let data = data.u64();
        let (index, generation) = (data as u16, (data >> 16) as u16);
        Some(match data >> 32 {
            1 => Source::Listener(ServiceId { index, generation }),
            2 => Source::Stream(StreamId::Session(Handle { index, generation })),
            6 => Source::Stream(StreamId::Near(Handle { index, generation })),
            7 => Source::Stream(StreamId::Far(Handle { index, generation })),
            8 => Source::Stream(StreamId::Ident(Handle { index, generation })),
            3 => Source::Stderr(ServiceId { index, generation }),
            9 => Source::Question(Handle { index, generation }),
            4 => Source::Signals,
            5 => Source::Retired(index),
            10 => Source::Boot(init::Part::from_number(index)?),
            _ => return None,
        })
    }
}

pub struct Linux {
    epoll: OwnedFd,
    null: OwnedFd,
    disk: Disk,
    pub inherited: Inherited,
    /// An heir has our sockets: they are let go of, and nothing else happens to them.
    pub is_predecessor: bool,
    spills: &'static mut Spills,
    pub spawner: &'static mut Spawner,
    pub log: &'static mut log::Log,
    /// Standard error of servers whose service listens no more. One too many, and the oldest is closed.
    retired: [Option<Retired>; 8],
    /// When the event came that is being handled.
    mono: Instant,
    /// The load, and the second it was asked for in.
    load: Option<(u64, u32)>,
}

/// A pipe into the log, and whose lines come out of it.
struct Retired {
    pipe: stderr::Pipe,
    id: heapless::Vec<u8, 32>,
}

impl Linux {
    /// `inherited_sockets` descriptors from 3 on were there when the daemon started (LISTEN_FDS) and are taken over.
    pub fn new(
        spills: &'static mut Spills,
        cache: &'static mut Cache,
        spawner: &'static mut Spawner,
        log: &'static mut log::Log,
        inherited_sockets: i32,
    ) -> Result<Linux, Errno> {
        use rustix::fs::{Mode, OFlags, open};
        let mut inherited = Inherited::new();
        for fd in (3..).take(usize::try_from(inherited_sockets).unwrap_or(0)) {
            if let Some(fd) = sys::adopt(fd) {
                let _ = inherited.add(fd, None);
            }
        }
        Ok(Linux {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            null: open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?,
            disk: Disk::cached(cache),
            inherited,
            is_predecessor: false,
            spills,
            spawner,
            log,
            retired: [const { None }; 8],
            mono: Instant(0),
            load: None,
        })
    }

    pub fn set_now(&mut self, now: Now) {
        self.mono = now.mono;
        self.disk.begin_turn(now.unix.unwrap_or(0));
        self.log.set_now(now.unix.unwrap_or(0));
    }

    /// Logs what servers of a service that listens no more have written.
    fn read_retired(&mut self, place: u16) {
        let Some(place) = self.retired.get_mut(usize::from(place)) else { return };
        if let Some(retired) = place
            && !retired.pipe.drain(&retired.id, self.mono, self.log)
        {
            retired.pipe.tell(&retired.id, self.mono, self.log);
            *place = None;
        }
    }

    /// Keeps the pipe of servers that live longer than their service's listener: without anybody to read it, their next
    /// word would kill them.
    fn retire_pipe(&mut self, mut pipe: stderr::Pipe, id: &[u8]) {
        pipe.close_write_end();
        if !pipe.drain(id, self.mono, self.log) {
            pipe.tell(id, self.mono, self.log);
            return;
        }
        let free = self.retired.iter().position(Option::is_none);
        if free.is_none() {
            self.retired.rotate_left(1);
        }
        let place = free.unwrap_or(self.retired.len() - 1);
        let id = heapless::Vec::from_slice(id.get(..id.len().min(32)).unwrap_or(&[])).unwrap_or_default();
        if let Some(slot) = self.retired.get_mut(place)
            && let Some(oldest) = slot.replace(Retired { pipe, id })
        {
            oldest.pipe.tell(&oldest.id, self.mono, self.log);
        }
        for (place, retired) in self.retired.iter().enumerate() {
            if let Some(Retired { pipe, .. }) = retired {
                self.set_watch(pipe.read_end(), Source::Retired(place as u16), &pipe.is_watched, true);
            }
        }
    }

    /// The last words of servers, before nobody reads them any more.
    pub fn drain_retired(&mut self) {
        for place in 0..self.retired.len() {
            self.read_retired(place as u16);
            if let Some(Some(Retired { pipe, id })) = self.retired.get(place) {
                pipe.tell(id, self.mono, self.log);
            }
        }
    }

    /// Whether servers of services that listen no more can still write.
    pub fn hears_retired(&self) -> bool {
        self.retired.iter().any(Option::is_some)
    }

    /// Adds, changes or removes what epoll watches a descriptor for.
    fn set_watch(&self, fd: BorrowedFd<'_>, source: Source, is_watched: &core::cell::Cell<bool>, on: bool) {
        let result = match (is_watched.get(), on) {
            (false, true) => epoll::add(&self.epoll, fd, source.data(), EventFlags::IN),
            (true, true) => epoll::modify(&self.epoll, fd, source.data(), EventFlags::IN),
            // Not merely without events: errors are always reported, and a socket that its server owns would wake us.
            (true, false) => epoll::delete(&self.epoll, fd),
            (false, false) => Ok(()),
        };
        if result.is_ok() {
            is_watched.set(on);
        }
    }
}

/// What epoll is to report for a stream that waits for `step`. Errors, and the end of both directions, always.
const fn interest(step: Step) -> EventFlags {
    match step {
        Step::Read => EventFlags::IN,
        Step::Write => EventFlags::OUT,
        // Errors and the end of both directions are always reported.
        Step::Close => EventFlags::empty(),
        Step::Both => EventFlags::IN.union(EventFlags::OUT),
    }
}

impl Backend for Linux {
    type Tables = TablePair;
    type Listener = Listener;
    type Stream = Socket;
    type OwnClient = ();
    type Io<'a> = SocketIo<'a>;

    fn listen(&mut self, table: &Table, service: &Service) -> Result<Listener, Errno> {
        listen::listen(table, service, &mut self.inherited)
    }

    const GUARDS: bool = true;
    const RUNS_PROGRAMS: bool = true;

    fn refit(
        &mut self,
        table: &Table,
        service: &Service,
        listener: &mut Listener,
        is_owned: bool,
    ) -> Result<(), Errno> {
        listen::refit(table, service, listener, is_owned)
    }

    fn retire(&mut self, table: &Table, service: &Service, mut listener: Listener) {
        if self.is_predecessor {
            // What is open elsewhere stays in epoll when it is closed here.
            if listener.is_watched.get() {
                let _ = epoll::delete(&self.epoll, &listener.fd);
            }
            if let Some(pipe) = listener.stderr.take_if(|pipe| pipe.is_watched.get()) {
                let _ = epoll::delete(&self.epoll, pipe.read_end());
            }
            listener.forget_node();
            return;
        }
        if let Some(pipe) = listener.stderr.take() {
            self.retire_pipe(pipe, table.bytes(service.id));
        }
    }

    fn watch(&mut self, id: ServiceId, listener: &Listener, on: bool) {
        self.set_watch(listener.fd.as_fd(), Source::Listener(id), &listener.is_watched, on);
        if let Some(pipe) = &listener.stderr {
            // Servers may write while their service takes nobody.
            self.set_watch(pipe.read_end(), Source::Stderr(id), &pipe.is_watched, true);
        }
    }

    fn watch_once(&mut self, id: ServiceId, listener: &Listener) {
        let (fd, data) = (listener.fd.as_fd(), Source::Listener(id).data());
        let once = EventFlags::IN | EventFlags::ONESHOT;
        let result = match listener.is_watched.get() {
            true => epoll::modify(&self.epoll, fd, data, once),
            false => epoll::add(&self.epoll, fd, data, once),
        };
        listener.is_watched.set(result.is_ok());
    }

    fn accept(&mut self, listener: &Listener) -> Result<(Socket, Peer), Errno> {
        let mut flags = SocketFlags::CLOEXEC;
        if !listener.for_programs {
            flags |= SocketFlags::NONBLOCK;
        }
        if listener.waits {
            // Blocking for its servers' sake; ours must not block.
            rustix::io::ioctl_fionbio(&listener.fd, true)?;
        }
        let taken = acceptfrom_with(&listener.fd, flags);
        if listener.waits {
            rustix::io::ioctl_fionbio(&listener.fd, false)?;
        }
        let (fd, address) = taken?;
        self.disk.look_again();
        Ok((Socket::new(fd), listen::peer(address)))
    }

    fn receive(&mut self, listener: &Listener, buf: &mut [u8]) -> Result<(usize, Peer), Errno> {
        let (n, _, from) = recvfrom(&listener.fd, buf, RecvFlags::DONTWAIT)?;
        self.disk.look_again();
        Ok((n, listen::peer(from)))
    }

    fn reply(&mut self, listener: &Listener, peer: Peer, bytes: &[u8]) -> Result<(), Errno> {
        let Peer::Ip { address, port } = peer else { return Err(Errno::INVAL) };
        let address = match address {
            IpAddr::V4(v4) if listener.is_ipv6 => IpAddr::V6(v4.to_ipv6_mapped()),
            other => other,
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendto(&listener.fd, bytes, flags, &SocketAddr::new(address, port))?;
        Ok(())
    }

    fn sender(&mut self, listener: &Listener) -> Peer {
        let mut byte = [0; 1];
        self.disk.look_again();
        match recvfrom(&listener.fd, &mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok((_, _, from)) => listen::peer(from),
            Err(_) => Peer::Unknown,
        }
    }

    fn taken(&mut self, listener: &Listener) -> Option<u64> {
        sys::last_taken(listener.fd.as_fd())
    }

    fn mark(&mut self, listener: &Listener) -> u64 {
        listener.mark()
    }

    fn is_own(&mut self, peer: Peer) -> bool {
        peer.address().is_some_and(sys::is_own_address)
    }

    fn open(&mut self, id: StreamId, stream: &Socket, wait_for: Step) -> Result<(), Errno> {
        let data = Source::Stream(id).data();
        epoll::add(&self.epoll, &stream.fd, data, interest(wait_for))?;
        stream.is_watched.set(true);
        Ok(())
    }

    fn wait_for(&mut self, id: StreamId, stream: &Socket, step: Step) {
        if !stream.is_watched.get() {
            let _ = self.open(id, stream, step);
            return;
        }
        // Cannot fail for a descriptor that is watched; and if it did, the session would go on as it was.
        let _ = epoll::modify(&self.epoll, &stream.fd, Source::Stream(id).data(), interest(step));
    }

    fn io<'a>(&'a mut self, stream: &'a mut Socket) -> SocketIo<'a> {
        SocketIo::new(stream, self.spills)
    }

    fn tell(&mut self, stream: &Socket, bytes: &[u8]) -> Result<(), Errno> {
        rustix::net::send(&stream.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    type Files = Disk;
    type Question = Question;
    type Network<'a> = Names<'a>;

    fn files(&mut self) -> &mut Disk {
        &mut self.disk
    }

    fn resolving(&mut self) -> (&mut Disk, Names<'_>) {
        (&mut self.disk, Names::new(&self.epoll))
    }

    fn unwatch(&mut self, stream: &Socket) {
        if stream.is_watched.replace(false) {
            let _ = epoll::delete(&self.epoll, &stream.fd);
        }
    }

    fn hand_over(&mut self, stream: &Socket) -> Result<(), Errno> {
        self.unwatch(stream);
        // Programs expect a socket that blocks.
        rustix::io::ioctl_fionbio(&stream.fd, false)?;
        Ok(())
    }

    fn connect(&mut self, from: Option<IpAddr>, to: SocketAddr) -> Result<Socket, Errno> {
        Socket::connect(from, to)
    }

    fn connected(&mut self, stream: &Socket) -> Result<(), Errno> {
        stream.connected()
    }

    fn local(&mut self, stream: &Socket) -> Option<(IpAddr, u16)> {
        stream.local().map(|address| (address.ip(), address.port()))
    }

    fn relay(&mut self, from: &mut Socket, to: &mut Socket, scratch: &mut [u8]) -> Result<Forward, Errno> {
        stream::relay(from, to, self.spills, scratch)
    }

    const HAS_STANDBY: bool = true;

    fn pair(&mut self) -> Result<(Socket, Socket), Errno> {
        Socket::pair()
    }

    fn is_there(&mut self, stream: &Socket) -> bool {
        stream.is_there()
    }

    fn finish(&mut self, stream: &Socket) {
        stream.finish();
    }

    fn keep_alive(&mut self, stream: &Socket) {
        let _ = sockopt::set_socket_keepalive(&stream.fd, true);
    }

    fn linger(&mut self, stream: &Socket, seconds: u32) {
        // Its server will have it; see there.
        stream.linger.set(seconds);
    }

    fn close(&mut self, stream: Socket) {
        // A child whose program has not begun has all our sockets, and may take its time. Until then closing ours ends
        // neither the connection nor the watch on it.
        self.unwatch(&stream);
        stream.drain();
        if !self.spawner.is_idle() {
            let _ = rustix::net::shutdown(&stream.fd, rustix::net::Shutdown::Both);
        }
        drop(stream);
    }

    fn spawn(&mut self, spawn: Spawn<'_, Listener, Socket>) -> Result<Pid, Errno> {
        let Spawn { table, service, listener, given, peer, effects, command } = spawn;
        let (socket, linger) = match given {
            Given::Connection(stream) => (stream.fd.as_fd(), stream.linger.get()),
            Given::Listener(listener) => (listener.fd.as_fd(), 0),
            Given::Nothing => (self.null.as_fd(), 0),
        };
        let gets_nothing = matches!(given, Given::Nothing);
        let pipe = listener.and_then(|listener| listener.stderr.as_ref());
        let stderr = match service.stderr {
            Stderr::Client => socket,
            _ if gets_nothing => socket,
            Stderr::Log => pipe.and_then(stderr::Pipe::write_end).unwrap_or(self.null.as_fd()),
            Stderr::Null => self.null.as_fd(),
        };
        let local = match (peer, given) {
            (Peer::Local | Peer::Unknown, _) => None,
            (Peer::Ip { .. }, Given::Connection(stream)) => stream.local_for_server(),
            (Peer::Ip { .. }, _) => stream::own_end(socket).map(stream::canonical),
        }
        .map(|address| (address.ip(), address.port()));
        self.spawner.spawn(&spawn::Order {
            table,
            service,
            socket: socket.as_raw_fd(),
            stderr: stderr.as_raw_fd(),
            gets_nothing,
            peer,
            local,
            effects,
            command,
            linger,
        })
    }

    fn end(&mut self, pid: Pid, how: End) {
        sys::end(pid, how);
    }

    fn load(&mut self) -> Option<u32> {
        // The kernel counts anew every five seconds.
        let second = self.mono.0 / 1000;
        if self.load.is_none_or(|(at, _)| at != second) {
            self.load = Some((second, sys::load()?));
        }
        self.load.map(|(_, load)| load)
    }

    fn record(&mut self, record: &Record<'_>) {
        self.log.record(record);
    }
}

#[cfg(test)]
mod tests;
