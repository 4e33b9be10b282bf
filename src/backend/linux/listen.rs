//! Listening sockets.

use core::cell::Cell;
use core::ffi::CStr;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType as RawType, getsockname, sockopt,
};

use super::stderr::Pipe;
use super::{filter, sys};
use crate::capacity::SERVICES;
use crate::errno::Errno;
use crate::service::{Answer, Bind, DEFAULT_BACKLOG, Family, Flags, Service, SocketType, Stderr};
use crate::table::Table;

/// A service's socket. Closed when dropped; the node of a unix socket goes with it.
pub struct Listener {
    pub fd: OwnedFd,
    /// IPv4 clients have mapped addresses here.
    pub is_ipv6: bool,
    /// Connections are handed to programs: they stay blocking, and mapped ones become IPv4.
    pub for_programs: bool,
    /// A server of it owns the socket; it is blocking, as servers expect.
    pub waits: bool,
    pub is_watched: Cell<bool>,
    /// Where servers' standard error goes with `stderr = log`.
    pub stderr: Option<Pipe>,
    /// Of a wait service for streams: what was seen of its queue.
    queue: Option<Queue>,
    node: Option<Node>,
}

/// How a queue of connections is watched while a server owns the socket. The kernel tells how many wait, but not how
/// many were taken; together with whether any came it is enough, most of the time.
struct Queue {
    /// An epoll of its own, edge-triggered: reports once for all that came since it was asked last.
    arrivals: OwnedFd,
    waiting: Cell<u32>,
    /// Goes up whenever some must have been taken.
    taken: Cell<u32>,
}

impl Queue {
    fn new(fd: BorrowedFd<'_>) -> Result<Queue, Errno> {
        use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
        let arrivals = create(CreateFlags::CLOEXEC)?;
        add(&arrivals, fd, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
        Ok(Queue { arrivals, waiting: Cell::new(0), taken: Cell::new(0) })
    }

    /// Looks again, knowing how many wait now.
    fn mark(&self, waiting: u32) -> u64 {
        use rustix::event::Timespec;
        use rustix::event::epoll::{Event, EventData, EventFlags, wait};
        let mut event = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let any_came = wait(&self.arrivals, &mut event, Some(&now)).is_ok_and(|n| n > 0);
        let before = self.waiting.replace(waiting);
        if waiting < before || (waiting == before && any_came) {
            self.taken.set(self.taken.get().wrapping_add(1));
        }
        // Not 0, which means that nothing waits.
        if waiting == 0 { 0 } else { 1 << 32 | u64::from(self.taken.get()) }
    }
}

impl Listener {
    /// See [`Backend::mark`](crate::backend::Backend::mark).
    pub fn mark(&self) -> u64 {
        let fd = self.fd.as_fd();
        if let Some(queue) = &self.queue {
            // A unix socket does not tell how many.
            return queue.mark(sys::accept_queue(fd).unwrap_or_else(|| u32::from(is_readable(fd))));
        }
        let mut bytes = [0; 64];
        match sys::peek(fd, &mut bytes) {
            Ok(head) => {
                // FNV-1a over what makes one datagram differ from the next.
                let mut hash = 0xcbf2_9ce4_8422_2325u64;
                let mut add = |bytes: &[u8]| {
                    for byte in bytes {
                        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                    }
                };
                add(bytes.get(..head.len).unwrap_or(&[]));
                add(&head.whole.to_ne_bytes());
                add(head.from.get(..head.from_len).unwrap_or(&[]));
                add(&head.stamp);
                hash | 1
            }
            Err(Errno::AGAIN) => 0,
            Err(_) => u64::from(is_readable(fd)),
        }
    }
}

/// What is needed to watch the queue of a wait service for streams.
fn queue(service: &Service, fd: BorrowedFd<'_>) -> Result<Option<Queue>, Errno> {
    let wanted = service.is_owned_by_server() && service.socket == SocketType::Stream;
    wanted.then(|| Queue::new(fd)).transpose()
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&now)).is_ok_and(|n| n > 0)
}

/// The file system node of a unix socket, to be removed if it is still ours. Its path is the socket's own name.
#[derive(Clone, Copy)]
struct Node {
    device: u64,
    inode: u64,
}

/// Bytes of sun_path, NUL included.
const UNIX_PATH_BYTES: usize = 108;

impl Listener {
    /// Whether it is a unix socket whose node goes with it.
    pub const fn has_node(&self) -> bool {
        self.node.is_some()
    }

    /// The node is somebody else's from here on.
    pub fn forget_node(&mut self) {
        self.node = None;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(node) = self.node else { return };
        let Some(name) = getsockname(&self.fd).ok().and_then(|name| SocketAddrUnix::try_from(name).ok())
        else {
            return;
        };
        let Some(path) = name.path_bytes() else { return };
        // Another daemon may have put its own socket there since.
        if rustix::fs::lstat(path).is_ok_and(|s| (s.st_dev, s.st_ino) == (node.device, node.inode)) {
            let _ = rustix::fs::unlink(path);
        }
    }
}

/// Sockets that were there when the program started, to be taken by the services they fit: those of a service manager
/// (LISTEN_FDS), and those of an older program in whose place this one is (succession.rs).
pub struct Inherited {
    sockets: [Option<Offer>; Inherited::MOST],
}

struct Offer {
    fd: OwnedFd,
    ours: Option<Ours>,
}

/// What an older program has told of a socket that it made.
pub struct Ours {
    /// It is a unix socket, and its node goes with it.
    pub is_node: bool,
    /// Both ends of the pipe for servers' standard error.
    pub pipe: Option<(OwnedFd, OwnedFd)>,
}

impl Inherited {
    /// More are closed, and their services make sockets of their own. An older program had no more services than this.
    const MOST: usize = if SERVICES > 128 { SERVICES } else { 128 };

    pub const fn new() -> Inherited {
        Inherited { sockets: [const { None }; Inherited::MOST] }
    }

    /// Adds a descriptor; `None` if it is not open or there is no place for it.
    pub fn add(&mut self, fd: OwnedFd, ours: Option<Ours>) -> Option<()> {
        *self.sockets.iter_mut().find(|place| place.is_none())? = Some(Offer { fd, ours });
        Some(())
    }

    /// Takes the socket that listens where `service` wants to, if there is one.
    fn take(&mut self, table: &Table, service: &Service) -> Option<Offer> {
        let place = self.sockets.iter_mut().find(|place| {
            place.as_ref().is_some_and(|offer| {
                let fd = offer.fd.as_fd();
                let is_right = fits(fd, table, service).unwrap_or(false);
                is_right && (offer.ours.is_none() || is_as_made(fd, table, service).unwrap_or(false))
            })
        })?;
        place.take()
    }

    /// How many nobody wanted; they are closed.
    pub fn drop_rest(&mut self) -> usize {
        self.sockets.iter_mut().filter_map(Option::take).count()
    }
}

/// Whether a socket of unknown origin is where `service` wants to listen: its type, its port or path, and, if the
/// service names one, its address.
fn fits(fd: BorrowedFd<'_>, table: &Table, service: &Service) -> Result<bool, Errno> {
    let raw = match service.socket {
        SocketType::Stream => RawType::STREAM,
        SocketType::Dgram => RawType::DGRAM,
    };
    if sockopt::socket_type(fd)? != raw
        || (service.socket == SocketType::Stream && !sockopt::socket_acceptconn(fd)?)
    {
        return Ok(false);
    }
    let at = getsockname(fd)?;
    if let Ok(address) = SocketAddr::try_from(at.clone()) {
        let wanted = match service.bind {
            Bind::Everywhere | Bind::Interface(_) => None,
            Bind::Address(wanted) => Some(wanted),
            Bind::Path(_) => return Ok(false),
        };
        return Ok(service.family != Family::Unix
            && address.port() == service.port
            && wanted.is_none_or(|wanted| wanted == address.ip().to_canonical()));
    }
    match (SocketAddrUnix::try_from(at), service.bind) {
        (Ok(address), Bind::Path(path)) => Ok(address.path_bytes() == Some(table.bytes(path))),
        _ => Ok(false),
    }
}

/// Whether a socket of which [`fits`] is true is such as we make for `service`. What a service manager has made may be
/// narrower; of two of our own that differ in this alone, each has its service.
fn is_as_made(fd: BorrowedFd<'_>, table: &Table, service: &Service) -> Result<bool, Errno> {
    if service.family == Family::Unix {
        return Ok(true);
    }
    let is_ipv6 = sockopt::socket_domain(fd)? == AddressFamily::INET6;
    let is_family = match service.family {
        Family::V4 => !is_ipv6,
        Family::V6 => is_ipv6 && sockopt::ipv6_v6only(fd)?,
        // Without IPv6 it is the other.
        _ => !is_ipv6 || !sockopt::ipv6_v6only(fd)?,
    };
    let at = SocketAddr::try_from(getsockname(fd)?).map_err(|_| Errno::INVAL)?;
    let mut device = [0; 16];
    let device = sys::bound_device(fd, &mut device)?;
    Ok(is_family
        && match service.bind {
            Bind::Everywhere => at.ip().is_unspecified() && device.is_empty(),
            Bind::Interface(name) => at.ip().is_unspecified() && device == table.bytes(name),
            Bind::Address(_) | Bind::Path(_) => device.is_empty(),
        })
}

/// Makes a socket that was kept over a reload right for what its service says now.
pub fn refit(table: &Table, service: &Service, listener: &mut Listener, is_owned: bool) -> Result<(), Errno> {
    // One that is not wanted any more stays: servers of before write into it.
    if listener.stderr.is_none() {
        listener.stderr = stderr_pipe(service)?;
    }
    listener.for_programs = service.is_program();
    let waits = service.is_owned_by_server();
    if waits {
        guard(listener.fd.as_fd(), table, service)?;
    } else {
        // What the engine refuses it also logs.
        sys::detach_filter(listener.fd.as_fd())?;
    }
    if !is_owned {
        rustix::io::ioctl_fionbio(&listener.fd, !waits)?;
        listener.waits = waits;
        if listener.queue.is_some() != (waits && service.socket == SocketType::Stream) {
            listener.queue = queue(service, listener.fd.as_fd())?;
        }
    }
    if matches!(service.answer, Answer::Redirect(_)) {
        // As for a new socket. What is no TCP does not take it.
        let _ = sockopt::set_tcp_nodelay(&listener.fd, true);
    }
    if service.socket == SocketType::Stream {
        // Only its length is new.
        rustix::net::listen(&listener.fd, backlog(service))?;
    }
    Ok(())
}

/// The pipe that servers' standard error goes into, if the service wants it logged.
fn stderr_pipe(service: &Service) -> Result<Option<Pipe>, Errno> {
    let wanted = service.stderr == Stderr::Log && service.is_program();
    wanted.then(Pipe::new).transpose()
}

/// Makes the socket of a service.
pub fn listen(table: &Table, service: &Service, inherited: &mut Inherited) -> Result<Listener, Errno> {
    let waits = service.is_owned_by_server();
    let mut stderr = stderr_pipe(service)?;
    let (fd, node) = match inherited.take(table, service) {
        Some(Offer { fd, ours }) => {
            if waits {
                guard(fd.as_fd(), table, service)?;
            }
            let node = ours.as_ref().filter(|ours| ours.is_node).and_then(|_| own_node(fd.as_fd()));
            if let Some((read, write)) = ours.and_then(|ours| ours.pipe) {
                // Servers of before write into it.
                stderr = Some(Pipe::of(read, write));
            }
            (fd, node)
        }
        None if service.family == Family::Unix => {
            let (fd, node) = unix_socket(table, service)?;
            (fd, Some(node))
        }
        None => (inet_socket(table, service)?, None),
    };
    // Ours never block; a server that gets the socket itself expects that it does.
    rustix::io::ioctl_fionbio(&fd, !waits)?;
    let is_ipv6 = sockopt::socket_domain(&fd)? == AddressFamily::INET6;
    let queue = queue(service, fd.as_fd())?;
    Ok(Listener {
        fd,
        is_ipv6,
        for_programs: service.is_program(),
        waits,
        is_watched: Cell::new(false),
        stderr,
        queue,
        node,
    })
}

/// Lets the kernel check who reaches a socket that a server will own. Unix sockets have no addresses to check.
#[inline(never)]
pub fn guard(fd: BorrowedFd<'_>, table: &Table, service: &Service) -> Result<(), Errno> {
    if service.family == Family::Unix {
        return Ok(());
    }
    if !service.flags.has(Flags::ONLY_FROM) && service.no_access.is_empty() {
        return sys::detach_filter(fd);
    }
    let mut program = filter::Program::new();
    filter::write(table, service, &mut program).ok_or(Errno::TOOBIG)?;
    sys::attach_filter(fd, &program)
}

fn raw_type(service: &Service) -> RawType {
    match service.socket {
        SocketType::Stream => RawType::STREAM,
        SocketType::Dgram => RawType::DGRAM,
    }
}

fn backlog(service: &Service) -> i32 {
    i32::from(if service.backlog == 0 { DEFAULT_BACKLOG } else { service.backlog })
}

fn inet_socket(table: &Table, service: &Service) -> Result<OwnedFd, Errno> {
    let family = match service.family {
        Family::V4 => AddressFamily::INET,
        _ => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (fd, family) = match rustix::net::socket_with(family, raw_type(service), flags, None) {
        Ok(fd) => (fd, family),
        // A kernel without IPv6: a service that wants both gets the one there is.
        Err(rustix::io::Errno::AFNOSUPPORT) if service.family == Family::Dual => {
            let fd = rustix::net::socket_with(AddressFamily::INET, raw_type(service), flags, None)?;
            (fd, AddressFamily::INET)
        }
        Err(errno) => return Err(errno.into()),
    };
    let is_ipv6 = family == AddressFamily::INET6;
    if service.socket == SocketType::Stream {
        // So that a restart need not wait for the connections of before. For datagrams it would let two services share
        // a port.
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    if service.flags.has(Flags::REUSE_PORT) {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    if is_ipv6 {
        sockopt::set_ipv6_v6only(&fd, service.family == Family::V6)?;
    }
    // SO_RCVBUF must be set before listen(2) to count for the window (tcp(7)).
    if service.receive_buffer > 0 {
        sockopt::set_socket_recv_buffer_size(&fd, service.receive_buffer as usize)?;
    }
    if service.send_buffer > 0 {
        sockopt::set_socket_send_buffer_size(&fd, service.send_buffer as usize)?;
    }
    if service.socket == SocketType::Stream {
        // Set on the listener, inherited by every connection.
        // redirect: as in `Socket::connect`.
        if service.flags.has(Flags::NODELAY) || matches!(service.answer, Answer::Redirect(_)) {
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        if service.flags.has(Flags::KEEPALIVE) {
            sockopt::set_socket_keepalive(&fd, true)?;
        }
    }
    let any = if is_ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let address = match service.bind {
        Bind::Address(address) => {
            // The address need not be up yet: a service bound to what DHCP brings later is not gone for good.
            if is_ipv6 {
                sockopt::set_ipv6_freebind(&fd, true)?;
            } else {
                sockopt::set_ip_freebind(&fd, true)?;
            }
            address
        }
        Bind::Interface(name) => {
            sys::bind_to_device(fd.as_fd(), table.bytes(name))?;
            any
        }
        Bind::Everywhere | Bind::Path(_) => any,
    };
    if service.is_owned_by_server() {
        // Before anything can arrive.
        guard(fd.as_fd(), table, service)?;
    }
    rustix::net::bind(&fd, &SocketAddr::new(address, service.port))?;
    if service.socket == SocketType::Stream {
        rustix::net::listen(&fd, backlog(service))?;
    }
    Ok(fd)
}

fn unix_socket(table: &Table, service: &Service) -> Result<(OwnedFd, Node), Errno> {
    let Bind::Path(text) = service.bind else { return Err(Errno::INVAL) };
    let path = CStr::from_bytes_with_nul(table.c_bytes(text)).map_err(|_| Errno::INVAL)?;
    if path.count_bytes() >= UNIX_PATH_BYTES {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, raw_type(service), flags, None)?;
    // The node of a daemon that did not end well is in the way; anything but a socket is not ours to remove.
    if rustix::fs::lstat(path).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Socket) {
        rustix::fs::unlink(path)?;
    }
    // The node gets the mode of the socket it is for. Never by its path: whoever owns the directory could have put a link
    // to something else there by then. Everyone may connect, as to OpenBSD's inetd (umask 0111), unless the file says
    // otherwise.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(service.node_mode.unwrap_or(0o666).into()))?;
    let old = rustix::process::umask(Mode::empty());
    let bound = rustix::net::bind(&fd, &SocketAddrUnix::new(path)?);
    rustix::process::umask(old);
    bound?;
    // What is looked at here is what is changed: this descriptor stays with its file whatever the path becomes.
    let node = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let made = rustix::fs::fstat(&node)?;
    if FileType::from_raw_mode(made.st_mode) != FileType::Socket {
        return Err(Errno::EXIST);
    }
    #[allow(clippy::unnecessary_cast, reason = "the fields are narrower on 32-bit ARM")]
    let place = Node { device: made.st_dev as u64, inode: made.st_ino as u64 };
    if service.node_uid.is_some() || service.node_gid.is_some() {
        let uid = service.node_uid.map(rustix::fs::Uid::from_raw);
        let gid = service.node_gid.map(rustix::fs::Gid::from_raw);
        rustix::fs::chownat(&node, c"", uid, gid, rustix::fs::AtFlags::EMPTY_PATH)?;
    }
    if service.socket == SocketType::Stream {
        rustix::net::listen(&fd, backlog(service))?;
    }
    Ok((fd, place))
}

/// The node at the path that a socket has for a name.
fn own_node(fd: BorrowedFd<'_>) -> Option<Node> {
    let name = SocketAddrUnix::try_from(getsockname(fd).ok()?).ok()?;
    let there = rustix::fs::lstat(name.path_bytes()?).ok()?;
    #[allow(clippy::unnecessary_cast, reason = "the fields are narrower on 32-bit ARM")]
    let node = Node { device: there.st_dev as u64, inode: there.st_ino as u64 };
    (FileType::from_raw_mode(there.st_mode) == FileType::Socket).then_some(node)
}

/// An address from the system as a peer.
pub fn peer(address: Option<SocketAddrAny>) -> crate::addr::Peer {
    use crate::addr::Peer;
    match address.map(SocketAddr::try_from) {
        Some(Ok(address)) => Peer::ip(address.ip(), address.port()),
        _ => Peer::Local,
    }
}
