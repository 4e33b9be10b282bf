//! A network stack of our own: services on smoltcp, for a TAP device on Linux and for boards without a system.
//!
//! smoltcp knows no listener with a backlog: a TCP socket is one port and one connection. Here all TCP sockets are one
//! pool. Each service that listens has a spare of it in LISTEN as long as any is free, and a new one the moment a client has
//! taken the last. Connections that the engine has not accepted yet are the backlog; a service holds at most [`BACKLOG`] of
//! them, so that a flood of one leaves the others theirs. A client that finds no spare is not answered with a reset but not
//! at all (`Gate`): its system tries again after a second, as with a full backlog of Linux.
//!
//! Where there are programs, one that answers a client has a pipe in place of a socket; what goes through it is moved here.
//!
//! What the engine holds of a socket is a [`Claim`]. Dropping it closes the connection, or the listener, at the next
//! [`turn`](Smoltcp::turn).
//!
//! smoltcp is named in this file and those below it, and nowhere else.
#![forbid(unsafe_code)]

mod bridge;
mod gate;
mod line;
mod names;
mod storage;
mod stream;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};

use embedded_io::Write as _;
use heapless::Vec;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::{dhcpv4, tcp, udp};
use smoltcp::time::{Duration, Instant as StackInstant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint, Ipv4Cidr, Ipv6Cidr};

use self::bridge::Bridge;
pub use self::bridge::{NoPipe, Pipe, Start};
use self::gate::Gate;
use self::line::Seat;
pub use self::line::{Line, NoLine};
pub use self::names::Names;
pub use self::storage::{Buffers, Claim, Sockets};
pub use self::stream::Io;
use crate::addr::{Peer, plain};
use crate::backend::{Backend, End, Given, Pid, ServiceId, Spawn, StreamId};
use crate::builtin::{Forward, Own, Step};
use crate::capacity::{LINES, SERVICES, TCP_SOCKETS, UDP_SOCKETS};
use crate::config::source::Files;
use crate::engine::{Engine, Event, Tables};
use crate::errno::Errno;
use crate::record::Record;
use crate::resolver::QuestionId;
use crate::service::{Answer, Bind, Family, Proxy, Service, SocketType};
use crate::sntp::{self, Clock};
use crate::table::Table;
use crate::time::{Instant, Now};

/// Connections of one service that are half open, or open and not accepted yet.
pub const BACKLOG: usize = if TCP_SOCKETS < 8 { 2 } else { TCP_SOCKETS / 4 };
/// How long a client may take to finish the handshake, in milliseconds: some losses on the way. When others need its place
/// it has less.
const HANDSHAKE_MS: u64 = 20_000;
/// A handshake that is younger is not given up for a newcomer, in milliseconds: as long as a client far away needs.
const HANDSHAKE_LEAST_MS: u64 = 300;
/// How long the other end may take to close once we have, in milliseconds. Linux waits as long (tcp_fin_timeout).
/// Who has still not heard of the end then gets a reset; smoltcp 0.14 does not send a FIN again that was lost and answered
/// with three duplicate acknowledgements: it looks for data to send in its place, and there is none.
const CLOSING_MS: u64 = 60_000;
/// How long a reset may take to leave, in milliseconds. To somebody who is not there it never does.
const RESET_MS: u64 = 10;
/// A connection whose other end acknowledges nothing of what we send for so long is broken, in milliseconds.
const SILENCE_MS: u64 = 120_000;
/// Between two probes of an idle connection with SO_KEEPALIVE, in milliseconds (RFC 1122 says two hours or more; a board's
/// sockets are few).
const KEEP_ALIVE_MS: u64 = 75_000;
/// Frames taken from the device before sockets are looked at.
const FRAMES_A_TURN: usize = 64;
/// Connections and serial lines, as [`Claim`]s number them.
const STREAMS: usize = TCP_SOCKETS + LINES;
/// The first port of those that connections of ours begin at (RFC 6335: dynamic ports).
const DYNAMIC_PORTS: u16 = 49152;

/// What the machine has besides a network.
pub trait Host {
    /// [`OneTable`](crate::engine::OneTable) where no configuration is read again.
    type Tables: Tables;

    type Files: Files;

    /// hosts.allow, hosts.deny, resolv.conf, banners.
    fn files(&mut self) -> &mut Self::Files;

    /// Writes down what happened. Never waits.
    fn record(&mut self, record: &Record<'_>);

    /// A number that nobody can guess: ports and sequence numbers come from it.
    fn random(&mut self) -> u32;

    /// Services of the firmware's own.
    type Own: Own;

    /// The 1-minute load average in hundredths, if there is one.
    fn load(&mut self) -> Option<u32> {
        None
    }

    /// Serial lines.
    type Line: Line;

    /// Those services, and the lines, of which [`LINES`] count.
    fn own(&mut self) -> (&mut Self::Own, &mut [Self::Line]);

    /// Whether there are programs to start. If not, services that need one do not listen.
    const HAS_PROGRAMS: bool = false;

    /// The way to a program that answers a client.
    type Pipe: Pipe;

    /// Starts a program, with a way to it in place of a connection if it `talks`.
    fn start(&mut self, start: &Start<'_>) -> Result<(Pid, Option<Self::Pipe>), Errno> {
        let _ = start;
        Err(Errno::NOSYS)
    }

    /// Tells a program to end.
    fn end(&mut self, pid: Pid, how: End) {
        let _ = (pid, how);
    }
}

/// Where the machine is on its network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    pub ethernet: [u8; 6],
    pub ipv4: Ipv4,
    /// Besides the link-local address, which is made from the Ethernet one: address and bits of its network.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    pub router6: Option<Ipv6Addr>,
    /// Who tells the time of day; without one [`unix`](Smoltcp::unix) never knows it.
    pub time_server: Option<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ipv4 {
    None,
    /// A server on the network tells (RFC 2131).
    Dhcp,
    Static {
        address: Ipv4Addr,
        bits: u8,
        router: Option<Ipv4Addr>,
    },
}

/// What a TCP socket of the pool is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Free,
    /// In LISTEN for that port, or a connection to it that was not accepted yet, begun then.
    Spare {
        port: usize,
        since: Instant,
    },
    /// In the engine's hands, and what it waits for.
    Taken {
        watch: Option<(StreamId, Step)>,
    },
    /// Led to a program.
    Bridged,
    /// Until the other end has closed too, or till then.
    Closing {
        until: Instant,
    },
}

struct Connection {
    handle: SocketHandle,
    role: Role,
}

/// What a UDP socket is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Free,
    /// It is that port's.
    Port(usize),
    /// It asks that name server.
    Question {
        id: QuestionId,
        server: IpEndpoint,
    },
    /// It asks for the time.
    Clock,
}

struct Datagrams {
    handle: SocketHandle,
    purpose: Use,
}

/// A place where a service listens.
struct Port {
    at: IpListenEndpoint,
    family: Family,
    socket: SocketType,
    watch: Option<ServiceId>,
    /// The UDP socket, by its place.
    datagrams: Option<usize>,
    /// The serial line, by its place.
    line: Option<usize>,
    /// Connections and datagrams that were taken.
    taken: u64,
}

impl Port {
    /// Whether a connection or a datagram from there belongs to it.
    fn fits(&self, remote: IpAddress) -> bool {
        matches!(
            (self.family, remote),
            (Family::V4, IpAddress::Ipv4(_)) | (Family::V6, IpAddress::Ipv6(_)) | (Family::Dual, _)
        )
    }

    fn excludes(&self, other: &Port) -> bool {
        if self.line.is_some() || other.line.is_some() {
            return self.line == other.line;
        }
        let same_family =
            !matches!((self.family, other.family), (Family::V4, Family::V6) | (Family::V6, Family::V4));
        let same_address = match (self.at.addr, other.at.addr) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.socket == other.socket && self.at.port == other.at.port && same_family && same_address
    }
}

/// How far a round of [`Smoltcp::next`] has come.
#[derive(Default)]
struct Round {
    at: usize,
}

pub struct Smoltcp<'a, D: Device, H: Host> {
    interface: Interface,
    device: Gate<D>,
    sockets: SocketSet<'a>,
    connections: Vec<Connection, TCP_SOCKETS>,
    datagrams: Vec<Datagrams, UDP_SOCKETS>,
    ports: Vec<Option<Port>, SERVICES>,
    lines: [Seat; LINES],
    claims: [&'a [AtomicBool]; 3],
    bridges: Vec<Bridge<H::Pipe>, TCP_SOCKETS>,
    dhcp: Option<SocketHandle>,
    addresses: Addresses,
    clock: Clock,
    now: Instant,
    /// Frames taken in this millisecond.
    taken: u16,
    /// When the stack itself has something to send.
    due: Option<StackInstant>,
    /// The last turn ended before the device had no frame left. It told of those already, and will not again.
    may_have_more: bool,
    pub host: H,
}

/// A port that a question of ours may come from.
fn dynamic_port(random: u32) -> u16 {
    DYNAMIC_PORTS + (random % u32::from(u16::MAX - DYNAMIC_PORTS)) as u16
}

fn stack_time(now: Instant) -> StackInstant {
    StackInstant::from_millis(i64::try_from(now.0).unwrap_or(i64::MAX))
}

/// Makes a closed socket forget whom it was connected to. Else it tries to send its reset for ever: asks every second for
/// somebody who may not exist.
fn forget(socket: &mut tcp::Socket<'_>) {
    // The only way to clear it. Nothing comes in between that could be heard.
    if socket.listen(1).is_ok() {
        socket.close();
    }
}

fn peer(endpoint: IpEndpoint) -> Peer {
    Peer::ip(endpoint.addr.into(), endpoint.port)
}

/// RFC 4291 appendix A: the link-local address of an Ethernet address.
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

impl<'a, D: Device, H: Host> Smoltcp<'a, D, H> {
    /// Not inlined: it is large, and on a small board's stack in one copy too many else.
    #[inline(never)]
    pub fn new(
        mut device: D,
        addresses: Addresses,
        buffers: &'a mut Buffers,
        storage: &'a mut Sockets<'a>,
        mut host: H,
        now: Instant,
    ) -> Self {
        let mut config = Config::new(EthernetAddress(addresses.ethernet).into());
        config.random_seed = u64::from(host.random()) << 32 | u64::from(host.random());
        let interface = Interface::new(config, &mut device, stack_time(now));
        let Sockets { places, received, sent } = storage;
        let mut sockets = SocketSet::new(&mut places[..]);
        let mut connections = Vec::new();
        for (receive, send) in buffers.received.iter_mut().zip(&mut buffers.sent) {
            let socket = tcp::Socket::new(
                tcp::SocketBuffer::new(&mut receive[..]),
                tcp::SocketBuffer::new(&mut send[..]),
            );
            let _ = connections.push(Connection { handle: sockets.add(socket), role: Role::Free });
        }
        let mut datagrams = Vec::new();
        let bytes = buffers.datagrams_received.iter_mut().zip(&mut buffers.datagrams_sent);
        for ((receive, send), (received, sent)) in bytes.zip(received.iter_mut().zip(sent)) {
            let socket = udp::Socket::new(
                udp::PacketBuffer::new(&mut received[..], &mut receive[..]),
                udp::PacketBuffer::new(&mut sent[..], &mut send[..]),
            );
            let _ = datagrams.push(Datagrams { handle: sockets.add(socket), purpose: Use::Free });
        }
        let dhcp = (addresses.ipv4 == Ipv4::Dhcp).then(|| sockets.add(dhcpv4::Socket::new()));
        let mut stack = Smoltcp {
            interface,
            device: Gate::new(device),
            sockets,
            connections,
            datagrams,
            ports: Vec::new(),
            bridges: Vec::new(),
            lines: [Seat::Empty; LINES],
            claims: [&buffers.streams, &buffers.ports, &buffers.questions],
            dhcp,
            addresses,
            clock: Clock::new(),
            now,
            taken: 0,
            due: None,
            may_have_more: false,
            host,
        };
        let ipv4 = match addresses.ipv4 {
            Ipv4::Static { address, bits, router } => Some((Ipv4Cidr::new(address, bits), router)),
            Ipv4::None | Ipv4::Dhcp => None,
        };
        stack.set_addresses(ipv4);
        stack
    }

    /// Our addresses of now on, with that IPv4 one or without one.
    fn set_addresses(&mut self, ipv4: Option<(Ipv4Cidr, Option<Ipv4Addr>)>) {
        let Addresses { ethernet, ipv6, router6, .. } = self.addresses;
        self.interface.update_ip_addrs(|all| {
            all.clear();
            let ipv4 = ipv4.map(|(address, _)| IpCidr::Ipv4(address));
            let own = Some(IpCidr::Ipv6(Ipv6Cidr::new(link_local(ethernet), 64)));
            let ipv6 = ipv6.map(|(address, bits)| IpCidr::Ipv6(Ipv6Cidr::new(address, bits)));
            // There is room for four.
            for address in [ipv4, own, ipv6].into_iter().flatten() {
                let _ = all.push(address);
            }
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(router) = ipv4.and_then(|(_, router)| router) {
            let _ = routes.add_default_ipv4_route(router);
        }
        if let Some(router) = router6 {
            let _ = routes.add_default_ipv6_route(router);
        }
    }

    /// The addresses the machine has now.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.interface.ip_addrs().iter().map(|address| address.address().into())
    }

    /// The device, for who owns its interrupts.
    pub fn device(&mut self) -> &mut D {
        &mut self.device.device
    }

    fn tcp(&mut self, at: usize) -> Option<&mut tcp::Socket<'a>> {
        let handle = self.connections.get(at)?.handle;
        Some(self.sockets.get_mut(handle))
    }

    fn udp(&mut self, at: usize) -> Option<&mut udp::Socket<'a>> {
        let handle = self.datagrams.get(at)?.handle;
        Some(self.sockets.get_mut(handle))
    }

    /// What time it is for the stack: of each frame a microsecond later than of the one before. Neighbours that are as old as
    /// each other it forgets in any order, of many that came in one millisecond the newest first.
    fn stack_now(&self) -> StackInstant {
        stack_time(self.now) + Duration::from_micros(u64::from(self.taken.min(999)))
    }

    /// Takes what the network has brought. What came of it is told by [`next`](Smoltcp::next).
    fn poll(&mut self, now: Instant) {
        if self.now != now {
            self.taken = 0;
        }
        self.now = now;
        self.take_back();
        self.interface.poll_maintenance(self.stack_now());
        self.arm();
        self.may_have_more = true;
        for _ in 0..FRAMES_A_TURN {
            self.taken = self.taken.saturating_add(1);
            let now = self.stack_now();
            let taken = self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets);
            if taken == PollIngressSingleResult::None {
                self.may_have_more = false;
                break;
            }
            // A client may have taken the spare of a service, or left a place to one that has none, and the next frame may
            // be the next one's.
            if self.device.has_let_in() || !self.device.held.is_empty() {
                self.arm();
            }
        }
        self.lease();
        self.look_at_the_clock();
        self.sweep();
    }

    /// Sends what is to be sent, one frame of each socket at a time.
    fn send(&mut self) {
        self.take_back();
        self.bridge();
        self.set_timeouts();
        let now = self.stack_now();
        let mut sent = self.interface.poll_egress(now, &mut self.device, &mut self.sockets);
        self.due = self.interface.poll_at(now, &self.sockets);
        // Mostly one frame was all there was, which that has told as well.
        if self.due.is_some_and(|at| at <= now) && sent != PollResult::None {
            while sent != PollResult::None {
                sent = self.interface.poll_egress(now, &mut self.device, &mut self.sockets);
            }
            self.due = self.interface.poll_at(now, &self.sockets);
        }
    }

    /// When the next turn has something to do if no frame comes before; `None`: nothing.
    fn next_deadline(&self) -> Option<Instant> {
        let due = |at: StackInstant| u64::try_from(at.total_micros()).unwrap_or(0).div_ceil(1000);
        let stack = self.due.map(|at| Instant(due(at)));
        let closing = self.connections.iter().filter_map(|connection| match connection.role {
            Role::Closing { until } => Some(until),
            _ => None,
        });
        let clock = self.addresses.time_server.map(|_| self.clock.next_deadline());
        stack.into_iter().chain(closing).chain(clock).min()
    }

    /// Gives back what the engine has dropped.
    fn take_back(&mut self) {
        let [streams, ports, questions] = self.claims;
        let is_dropped =
            |flags: &[AtomicBool], at: usize| flags.get(at).is_some_and(|flag| !flag.load(Ordering::Relaxed));
        for at in 0..self.connections.len() {
            let is_taken = self.connections.get(at).is_some_and(|c| matches!(c.role, Role::Taken { .. }));
            if is_taken && is_dropped(streams, at) {
                self.begin_closing(at);
            }
        }
        let lines = self.host.own().1;
        for (n, (seat, line)) in self.lines.iter_mut().zip(lines).enumerate() {
            if *seat != Seat::Empty && is_dropped(streams, TCP_SOCKETS + n) {
                *seat = Seat::Empty;
                line::forget(line);
            }
        }
        for at in 0..self.ports.len() {
            if self.ports.get(at).is_some_and(Option::is_some) && is_dropped(ports, at) {
                self.leave(at);
            }
        }
        for at in 0..self.datagrams.len() {
            let is_asking = self.datagrams.get(at).is_some_and(|d| matches!(d.purpose, Use::Question { .. }));
            if is_asking && is_dropped(questions, at) {
                self.release(at);
            }
        }
    }

    fn release(&mut self, at: usize) {
        if let Some(socket) = self.udp(at) {
            socket.close();
        }
        if let Some(datagrams) = self.datagrams.get_mut(at) {
            datagrams.purpose = Use::Free;
        }
    }

    /// Nobody listens there any more; who was not accepted yet is reset.
    fn leave(&mut self, at: usize) {
        let Some(port) = self.ports.get_mut(at).and_then(Option::take) else { return };
        if let Some(datagrams) = port.datagrams {
            self.release(datagrams);
        }
        for place in 0..self.connections.len() {
            let is_its = self
                .connections
                .get(place)
                .is_some_and(|c| matches!(c.role, Role::Spare { port, .. } if port == at));
            if is_its {
                self.abort(place);
            }
        }
    }

    /// Ends a connection with a reset.
    fn abort(&mut self, at: usize) {
        let until = self.now.plus_ms(RESET_MS);
        if let Some(socket) = self.tcp(at) {
            socket.abort();
        }
        self.set_role(at, Role::Closing { until });
    }

    /// What a stream in the engine's hands waits for.
    fn set_watch(&mut self, at: usize, watch: Option<(StreamId, Step)>) {
        match at.checked_sub(TCP_SOCKETS).map(|n| self.lines.get_mut(n)) {
            None => self.set_role(at, Role::Taken { watch }),
            Some(Some(seat)) => *seat = Seat::Taken { watch },
            Some(None) => {}
        }
    }

    fn set_role(&mut self, at: usize, role: Role) {
        if let Some(connection) = self.connections.get_mut(at) {
            connection.role = role;
        }
    }

    /// Sends the end of the connection behind what was written.
    fn begin_closing(&mut self, at: usize) {
        let until = self.now.plus_ms(CLOSING_MS);
        if let Some(socket) = self.tcp(at) {
            socket.close();
        }
        self.set_role(at, Role::Closing { until });
    }

    /// Sees to it that every port has a spare in LISTEN, as far as there are sockets, and tells the gate of those that have
    /// none.
    fn arm(&mut self) {
        self.sort_families();
        // Of every port: whether it has a spare, and how many connections wait for it.
        let mut spares = [(false, 0usize); SERVICES];
        for connection in &mut self.connections {
            let Role::Spare { port, since } = &mut connection.role else { continue };
            let socket = self.sockets.get_mut::<tcp::Socket>(connection.handle);
            if let Some((is_listening, waiting)) = spares.get_mut(*port) {
                match socket.state() {
                    // Back from a handshake that the client has reset (RFC 9293 section 3.10.7.4), when there is another.
                    tcp::State::Listen if *is_listening => {
                        socket.close();
                        connection.role = Role::Free;
                    }
                    tcp::State::Listen => {
                        *is_listening = true;
                        // Whoever comes from now on begins now.
                        *since = self.now;
                    }
                    // Left again before it was accepted; `accept` sees it, or the next sweep.
                    tcp::State::Closed => {}
                    _ => *waiting += 1,
                }
            }
        }
        self.device.held.clear();
        for at in 0..self.ports.len() {
            let Some(Some(port)) = self.ports.get(at) else { continue };
            let (is_listening, waiting) = spares.get(at).copied().unwrap_or((true, 0));
            if port.socket != SocketType::Stream || is_listening || port.line.is_some() {
                continue;
            }
            let endpoint = port.at;
            if self
                .free_place(at, waiting >= BACKLOG)
                .is_none_or(|place| !self.listen_at(place, at, endpoint))
            {
                // One too many is let in and meets a reset.
                let _ = self.device.held.push(endpoint.port);
            }
        }
    }

    /// smoltcp listens for both families at once: a connection goes to whoever listens at that port for its own.
    fn sort_families(&mut self) {
        for at in 0..self.connections.len() {
            let Some(Role::Spare { port, since }) = self.connections.get(at).map(|c| c.role) else {
                continue;
            };
            let Some(remote) = self.tcp(at).and_then(|socket| socket.remote_endpoint()) else { continue };
            let Some(Some(own)) = self.ports.get(port) else { continue };
            if own.fits(remote.addr) {
                continue;
            }
            let number = own.at.port;
            let other = self.ports.iter().position(|other| {
                other.as_ref().is_some_and(|other| {
                    other.socket == SocketType::Stream
                        && other.at.port == number
                        && other.at.addr.is_none()
                        && other.fits(remote.addr)
                })
            });
            match other {
                Some(port) => self.set_role(at, Role::Spare { port, since }),
                None => self.abort(at),
            }
        }
    }

    fn listen_at(&mut self, place: usize, port: usize, endpoint: IpListenEndpoint) -> bool {
        let since = self.now;
        let Some(socket) = self.tcp(place) else { return false };
        // It may be in TIME-WAIT, which a newcomer is worth more than.
        socket.abort();
        let is_listening = socket.listen(endpoint).is_ok();
        socket.set_keep_alive(None);
        socket.set_nagle_enabled(false);
        self.set_role(place, if is_listening { Role::Spare { port, since } } else { Role::Free });
        is_listening
    }

    /// A socket for one more connection: a free one; or one that has ended but for the last second of politeness; or, for
    /// a port, the oldest handshake of its own that takes long. `is_full`: the port has all it may have.
    fn free_place(&self, port: usize, is_full: bool) -> Option<usize> {
        let state = |connection: &Connection| self.sockets.get::<tcp::Socket>(connection.handle).state();
        let mut best: Option<(u8, Instant, usize)> = None;
        for (at, connection) in self.connections.iter().enumerate() {
            let (rank, since) = match connection.role {
                Role::Free if !is_full => (0, Instant(0)),
                Role::Closing { until } if !is_full => match state(connection) {
                    tcp::State::Closed => (0, Instant(0)),
                    tcp::State::TimeWait => (1, until),
                    // All of ours has arrived.
                    tcp::State::FinWait2 => (2, until),
                    _ => continue,
                },
                Role::Spare { port: own, since } if own == port => match state(connection) {
                    tcp::State::Closed => (0, Instant(0)),
                    tcp::State::SynReceived if self.now.since_ms(since) >= HANDSHAKE_LEAST_MS => (3, since),
                    _ => continue,
                },
                _ => continue,
            };
            if best.is_none_or(|(other, when, _)| (rank, since) < (other, when)) {
                best = Some((rank, since, at));
            }
        }
        best.map(|(.., at)| at)
    }

    /// Moves what programs and their clients have to say to each other, as far as it goes.
    fn bridge(&mut self) {
        let mut at = 0;
        while let Some(bridge) = self.bridges.get_mut(at) {
            let Some(handle) = self.connections.get(bridge.at).map(|connection| connection.handle) else {
                return;
            };
            let socket = self.sockets.get_mut::<tcp::Socket>(handle);
            if bridge.pump(socket) {
                at += 1;
            } else {
                let bridge = self.bridges.swap_remove(at);
                self.begin_closing(bridge.at);
            }
        }
    }

    /// smoltcp's time-out is about any silence of the other end. A connection may be idle for ever; but what is under way
    /// must be acknowledged some time, and probes must be answered.
    fn set_timeouts(&mut self) {
        for connection in self.connections.iter().filter(|connection| connection.role != Role::Free) {
            let socket = self.sockets.get_mut::<tcp::Socket>(connection.handle);
            let ms = match socket.state() {
                tcp::State::Listen | tcp::State::SynReceived => Some(HANDSHAKE_MS),
                tcp::State::SynSent => Some(SILENCE_MS),
                _ if socket.send_queue() > 0 || socket.keep_alive().is_some() => Some(SILENCE_MS),
                _ => None,
            };
            socket.set_timeout(ms.map(Duration::from_millis));
        }
    }

    /// Looks after the sockets that nobody holds.
    fn sweep(&mut self) {
        for at in 0..self.connections.len() {
            let Some(role) = self.connections.get(at).map(|connection| connection.role) else { continue };
            let now = self.now;
            let Some(socket) = self.tcp(at) else { continue };
            match role {
                Role::Closing { until } if socket.state() == tcp::State::Closed => {
                    if socket.remote_endpoint().is_none() || until <= now {
                        forget(socket);
                        self.set_role(at, Role::Free);
                    } else {
                        self.set_role(at, Role::Closing { until: until.min(now.plus_ms(RESET_MS)) });
                    }
                }
                Role::Closing { until } => {
                    // What still comes is read by nobody: else the window closes, and the end never arrives.
                    let _ = socket.recv(|bytes| (bytes.len(), ()));
                    if until <= now {
                        self.abort(at);
                    }
                }
                Role::Spare { .. } if socket.state() == tcp::State::Closed => {
                    forget(socket);
                    self.set_role(at, Role::Free);
                }
                _ => {}
            }
        }
    }

    /// Takes or gives up the address that a DHCP server has told.
    fn lease(&mut self) {
        let Some(handle) = self.dhcp else { return };
        let told = match self.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
            None => return,
            Some(dhcpv4::Event::Configured(config)) => Some((config.address, config.router)),
            Some(dhcpv4::Event::Deconfigured) => None,
        };
        self.set_addresses(told);
        self.clock.hurry(self.now);
    }

    /// Asks for the time when it is due, and hears what is told.
    fn look_at_the_clock(&mut self) {
        let Some(server) = self.addresses.time_server else { return };
        let server = IpEndpoint::new(IpAddress::from(plain(server)), sntp::PORT);
        let (now, asking) = (self.now, self.datagrams.iter().position(|d| d.purpose == Use::Clock));
        if let Some(at) = asking {
            let mut answer = [0; sntp::PACKET];
            let mut told = Err(sntp::Disbelief::Foreign);
            while let Some(Ok((len, from))) = self.udp(at).map(|socket| socket.recv_slice(&mut answer)) {
                if from.endpoint == server {
                    told = self.clock.answer(answer.get(..len).unwrap_or(&[]), now);
                }
            }
            if told.is_ok() {
                self.release(at);
            }
        }
        if !self.clock.is_due(now) {
            return;
        }
        // From a port of its own for each question, which nobody can guess.
        if let Some(at) = asking {
            self.release(at);
        }
        let free = self.datagrams.iter().position(|d| d.purpose == Use::Free);
        let Some(at) = free.filter(|_| self.interface.get_source_address(&server.addr).is_some()) else {
            self.clock.put_off(now);
            return;
        };
        let cookie = u64::from(self.host.random()) << 32 | u64::from(self.host.random());
        let port = dynamic_port(self.host.random());
        let question = self.clock.ask(cookie, now);
        let Some(socket) = self.udp(at) else { return };
        if socket.bind(port).is_ok() && socket.send_slice(&question, server).is_ok() {
            if let Some(datagrams) = self.datagrams.get_mut(at) {
                datagrams.purpose = Use::Clock;
            }
        } else {
            self.release(at);
        }
    }

    /// The time of day in seconds since 1970, once a time server has told it.
    pub fn unix(&self, now: Instant) -> Option<i64> {
        self.clock.unix(now)
    }

    /// The next event of a round; each socket has at most one of them. `None`: the round is over. Who waits at a port comes
    /// first: what he has sent already is served in the same round.
    fn next(&mut self, round: &mut Round) -> Option<Event> {
        while round.at < STREAMS + STREAMS + UDP_SOCKETS {
            let at = round.at;
            round.at += 1;
            let event = match at.checked_sub(STREAMS) {
                None => self.newcomer_event(at),
                Some(at) => match at.checked_sub(STREAMS) {
                    None => self.connection_event(at),
                    Some(at) => self.datagram_event(at),
                },
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Whether a round would have an event: the engine has left something for the next turn.
    fn is_busy(&mut self) -> bool {
        self.next(&mut Round::default()).is_some()
    }

    fn newcomer_event(&mut self, at: usize) -> Option<Event> {
        let port = match at.checked_sub(TCP_SOCKETS) {
            None => self.waits_at(self.connections.get(at)?)?,
            Some(n) => {
                let at_line = |port: &Option<Port>| port.as_ref().is_some_and(|port| port.line == Some(n));
                self.ports.iter().position(at_line).filter(|_| self.is_somebody_at(n))?
            }
        };
        self.ports.get(port)?.as_ref()?.watch.map(Event::Ready)
    }

    /// Whether somebody has come to a serial line who is no service's client yet.
    fn is_somebody_at(&mut self, line: usize) -> bool {
        self.lines.get(line) == Some(&Seat::Empty)
            && self.host.own().1.get_mut(line).is_some_and(line::is_readable)
    }

    fn connection_event(&mut self, at: usize) -> Option<Event> {
        if let Some(n) = at.checked_sub(TCP_SOCKETS) {
            let Seat::Taken { watch: Some((id, step)) } = *self.lines.get(n)? else { return None };
            let line = self.host.own().1.get_mut(n)?;
            return line::is_ready(line, step).then_some(Event::Stream(id));
        }
        let Role::Taken { watch: Some((id, step)) } = self.connections.get(at)?.role else { return None };
        let socket = self.tcp(at)?;
        let is_readable = socket.can_recv() || !socket.may_recv();
        let is_writable = socket.can_send() || !socket.may_send();
        let is_ready = match (socket.state(), step) {
            // Nobody has answered yet.
            (tcp::State::SynSent, _) => false,
            (tcp::State::Closed, _) => true,
            (_, Step::Read) => is_readable,
            (_, Step::Write) => is_writable,
            (_, Step::Both) => is_readable || is_writable,
            (_, Step::Close) => false,
        };
        is_ready.then_some(Event::Stream(id))
    }

    fn datagram_event(&mut self, at: usize) -> Option<Event> {
        let event = match self.datagrams.get(at)?.purpose {
            Use::Port(port) => Event::Ready(self.ports.get(port)?.as_ref()?.watch?),
            Use::Question { id, .. } => Event::Answer(id),
            Use::Free | Use::Clock => return None,
        };
        self.udp(at)?.can_recv().then_some(event)
    }

    /// The port at which that connection waits to be accepted.
    fn waits_at(&self, connection: &Connection) -> Option<usize> {
        let Role::Spare { port, .. } = connection.role else { return None };
        let state = self.sockets.get::<tcp::Socket>(connection.handle).state();
        matches!(state, tcp::State::Established | tcp::State::CloseWait).then_some(port)
    }

    /// The connection that waits longest to be accepted at a port.
    fn waiting_at(&self, port: usize) -> Option<usize> {
        let waiting = self.connections.iter().enumerate().filter_map(|(at, connection)| {
            let Role::Spare { port: own, since } = connection.role else { return None };
            (own == port && self.waits_at(connection).is_some()).then_some((since, at))
        });
        waiting.min().map(|(_, at)| at)
    }

    /// A TCP socket for a connection of ours.
    fn free_connection(&self) -> Option<usize> {
        self.free_place(usize::MAX, false)
    }

    /// One turn of the loop: what the network has brought goes to the engine, and what came of it to the network. When
    /// the next one is due if no frame comes before; `None`: whenever one comes.
    pub fn turn(engine: &mut Engine<Self>, stack: &mut Self, now: Now) -> Option<Instant> {
        stack.poll(now.mono);
        let mut round = Round::default();
        while let Some(event) = stack.next(&mut round) {
            engine.handle(event, now, stack);
        }
        if engine.next_deadline().is_some_and(|at| at <= now.mono) {
            engine.handle(Event::Tick, now, stack);
        }
        stack.send();
        if stack.may_have_more || stack.is_busy() {
            return Some(now.mono);
        }
        let deadlines = [engine.next_deadline(), stack.next_deadline()];
        deadlines.into_iter().flatten().min()
    }
}

impl<'a, D: Device, H: Host> Backend for Smoltcp<'a, D, H> {
    type Tables = H::Tables;
    type Listener = Claim<'a>;
    type Stream = Claim<'a>;
    type Io<'s>
        = Io<'s, 'a, H::Line>
    where
        Self: 's;
    type Files = H::Files;
    type OwnClient = <H::Own as Own>::Client;
    type Question = Claim<'a>;
    type Network<'s>
        = Names<'s, 'a>
    where
        Self: 's;

    fn files(&mut self) -> &mut H::Files {
        self.host.files()
    }

    fn talk(
        &mut self,
        service: u8,
        client: &mut Self::OwnClient,
        stream: &mut Claim<'a>,
        now: Now,
    ) -> Result<Step, Errno> {
        let (own, lines) = self.host.own();
        let mut io = Io::at(stream.at, &self.connections, &mut self.sockets, lines);
        own.talk(service, client, &mut io, now)
    }

    fn resolving(&mut self) -> (&mut H::Files, Names<'_, 'a>) {
        let random = [self.host.random(), self.host.random()];
        let Smoltcp { host, sockets, datagrams, claims, .. } = self;
        (host.files(), Names { sockets, datagrams, claims: claims[2], random })
    }

    fn listen(&mut self, table: &Table, service: &Service) -> Result<Claim<'a>, Errno> {
        // A server that owns its socket wants one of the system's.
        // And one that is to be told of its client needs somebody between the two.
        let is_told = service.is_program() && service.proxy != Proxy::No;
        if service.is_owned_by_server() || (service.is_program() && !H::HAS_PROGRAMS) || is_told {
            return Err(Errno::NOSYS);
        }
        let mut line = None;
        let address = match service.bind {
            Bind::Everywhere => None,
            Bind::Address(address) if self.interface.has_ip_addr(IpAddress::from(plain(address))) => {
                Some(IpAddress::from(plain(address)))
            }
            Bind::Address(_) => return Err(Errno::ADDRNOTAVAIL),
            Bind::Interface(_) => return Err(Errno::NODEV),
            Bind::Path(path) => {
                let path = table.bytes(path);
                let is_talk = service.socket == SocketType::Stream
                    && matches!(service.answer, Answer::Builtin(_) | Answer::Own(_));
                line = self.host.own().1.iter().take(LINES).position(|line| line.path() == path);
                if line.is_none() {
                    return Err(Errno::NODEV);
                }
                if !is_talk {
                    return Err(Errno::AFNOSUPPORT);
                }
                None
            }
        };
        if service.port == 0 && line.is_none() {
            return Err(Errno::INVAL);
        }
        let mut port = Port {
            at: IpListenEndpoint { addr: address, port: service.port },
            family: service.family,
            socket: service.socket,
            watch: None,
            datagrams: None,
            line,
            taken: 0,
        };
        self.take_back();
        if self.ports.iter().flatten().any(|other| other.excludes(&port)) {
            return Err(Errno::ADDRINUSE);
        }
        let at = match self.ports.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.ports.push(None).map_err(|_| Errno::NOBUFS)?;
                self.ports.len() - 1
            }
        };
        if port.socket == SocketType::Dgram {
            let place = self.datagrams.iter().position(|d| d.purpose == Use::Free).ok_or(Errno::NOBUFS)?;
            let endpoint = port.at;
            self.udp(place).ok_or(Errno::NOBUFS)?.bind(endpoint).map_err(|_| Errno::ADDRINUSE)?;
            if let Some(datagrams) = self.datagrams.get_mut(place) {
                datagrams.purpose = Use::Port(at);
            }
            port.datagrams = Some(place);
        }
        let claim = Claim::take(at, self.claims[1]).ok_or(Errno::NOBUFS)?;
        if let Some(place) = self.ports.get_mut(at) {
            *place = Some(port);
        }
        self.arm();
        Ok(claim)
    }

    const GUARDS: bool = false;
    const HAS_STANDBY: bool = false;
    const RUNS_PROGRAMS: bool = H::HAS_PROGRAMS;

    fn refit(&mut self, _: &Table, _: &Service, _: &mut Claim<'a>, _: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn watch(&mut self, id: ServiceId, listener: &Claim<'a>, on: bool) {
        if let Some(Some(port)) = self.ports.get_mut(listener.at) {
            port.watch = on.then_some(id);
        }
    }

    fn accept(&mut self, listener: &Claim<'a>) -> Result<(Claim<'a>, Peer), Errno> {
        if let Some(Some(Port { line: Some(line), .. })) = self.ports.get(listener.at) {
            let line = *line;
            if !self.is_somebody_at(line) {
                return Err(Errno::AGAIN);
            }
            let claim = Claim::take(TCP_SOCKETS + line, self.claims[0]).ok_or(Errno::NOBUFS)?;
            self.set_watch(claim.at, None);
            return Ok((claim, Peer::Local));
        }
        let at = self.waiting_at(listener.at).ok_or(Errno::AGAIN)?;
        let remote = self.tcp(at).and_then(|socket| socket.remote_endpoint()).ok_or(Errno::CONNABORTED)?;
        let claim = Claim::take(at, self.claims[0]).ok_or(Errno::NOBUFS)?;
        if let Some(Some(port)) = self.ports.get_mut(listener.at) {
            port.taken += 1;
        }
        self.set_role(at, Role::Taken { watch: None });
        self.arm();
        Ok((claim, peer(remote)))
    }

    fn receive(&mut self, listener: &Claim<'a>, buf: &mut [u8]) -> Result<(usize, Peer), Errno> {
        let Some(Some(port)) = self.ports.get_mut(listener.at) else { return Err(Errno::AGAIN) };
        let place = port.datagrams.ok_or(Errno::AGAIN)?;
        let handle = self.datagrams.get(place).ok_or(Errno::AGAIN)?.handle;
        let socket = self.sockets.get_mut::<udp::Socket>(handle);
        loop {
            let (bytes, from) = socket.recv().map_err(|_| Errno::AGAIN)?;
            port.taken += 1;
            if port.fits(from.endpoint.addr) {
                let n = bytes.len().min(buf.len());
                for (to, from) in buf.iter_mut().zip(bytes) {
                    *to = *from;
                }
                return Ok((n, peer(from.endpoint)));
            }
        }
    }

    fn reply(&mut self, listener: &Claim<'a>, peer: Peer, bytes: &[u8]) -> Result<(), Errno> {
        let Peer::Ip { address, port } = peer else { return Err(Errno::INVAL) };
        let place = self.ports.get(listener.at).and_then(Option::as_ref).and_then(|port| port.datagrams);
        let socket = place.and_then(|place| self.udp(place)).ok_or(Errno::INVAL)?;
        let to = IpEndpoint::new(IpAddress::from(address), port);
        socket.send_slice(bytes, to).map_err(|error| match error {
            udp::SendError::BufferFull => Errno::AGAIN,
            udp::SendError::Unaddressable => Errno::HOSTUNREACH,
        })
    }

    fn sender(&mut self, listener: &Claim<'a>) -> Peer {
        let place = self.ports.get(listener.at).and_then(Option::as_ref).and_then(|port| port.datagrams);
        let socket = place.and_then(|place| self.udp(place));
        socket
            .and_then(|socket| socket.peek().ok().map(|(_, from)| peer(from.endpoint)))
            .unwrap_or(Peer::Unknown)
    }

    fn mark(&mut self, listener: &Claim<'a>) -> u64 {
        let Some(Some(port)) = self.ports.get(listener.at) else { return 0 };
        let (taken, datagrams) = (port.taken, port.datagrams);
        let is_waiting = match datagrams {
            Some(place) => self.udp(place).is_some_and(|socket| socket.can_recv()),
            None => self.waiting_at(listener.at).is_some(),
        };
        if is_waiting { taken + 1 } else { 0 }
    }

    fn is_own(&mut self, peer: Peer) -> bool {
        peer.address().is_some_and(|address| self.interface.has_ip_addr(IpAddress::from(address)))
    }

    fn open(&mut self, id: StreamId, stream: &Claim<'a>, wait_for: Step) -> Result<(), Errno> {
        self.wait_for(id, stream, wait_for);
        Ok(())
    }

    fn wait_for(&mut self, id: StreamId, stream: &Claim<'a>, step: Step) {
        self.set_watch(stream.at, Some((id, step)));
    }

    fn unwatch(&mut self, stream: &Claim<'a>) {
        self.set_watch(stream.at, None);
    }

    fn hand_over(&mut self, stream: &Claim<'a>) -> Result<(), Errno> {
        self.unwatch(stream);
        Ok(())
    }

    fn connect(&mut self, from: Option<IpAddr>, to: SocketAddr) -> Result<Claim<'a>, Errno> {
        let at = self.free_connection().ok_or(Errno::MFILE)?;
        let port = dynamic_port(self.host.random());
        let local = IpListenEndpoint { addr: from.map(|from| IpAddress::from(plain(from))), port };
        let remote = IpEndpoint::new(IpAddress::from(plain(to.ip())), to.port());
        let handle = self.connections.get(at).ok_or(Errno::MFILE)?.handle;
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.abort();
        socket.connect(self.interface.context(), remote, local).map_err(|_| Errno::HOSTUNREACH)?;
        socket.set_keep_alive(None);
        socket.set_nagle_enabled(false);
        self.set_role(at, Role::Taken { watch: None });
        Claim::take(at, self.claims[0]).ok_or(Errno::MFILE)
    }

    fn connected(&mut self, stream: &Claim<'a>) -> Result<(), Errno> {
        match self.tcp(stream.at).map(|socket| socket.state()) {
            Some(tcp::State::SynSent | tcp::State::SynReceived) => Err(Errno::AGAIN),
            Some(tcp::State::Closed) | None => Err(Errno::CONNREFUSED),
            Some(_) => Ok(()),
        }
    }

    fn local(&mut self, stream: &Claim<'a>) -> Option<(IpAddr, u16)> {
        let local = self.tcp(stream.at)?.local_endpoint()?;
        Some((local.addr.into(), local.port))
    }

    fn relay(
        &mut self,
        from: &mut Claim<'a>,
        to: &mut Claim<'a>,
        scratch: &mut [u8],
    ) -> Result<Forward, Errno> {
        let room = stream::room(self.tcp(to.at).ok_or(Errno::CONNRESET)?)?;
        let moved = stream::take(self.tcp(from.at).ok_or(Errno::CONNRESET)?, scratch, room)?;
        if let Forward::Moved(n) = moved {
            let bytes = scratch.get(..n).unwrap_or(&[]);
            let _ = self.tcp(to.at).ok_or(Errno::CONNRESET)?.send_slice(bytes);
        }
        Ok(moved)
    }

    fn finish(&mut self, stream: &Claim<'a>) {
        if let Some(socket) = self.tcp(stream.at) {
            socket.close();
        }
    }

    fn keep_alive(&mut self, stream: &Claim<'a>) {
        if let Some(socket) = self.tcp(stream.at) {
            socket.set_keep_alive(Some(Duration::from_millis(KEEP_ALIVE_MS)));
        }
    }

    /// Closing never waits here.
    fn linger(&mut self, _: &Claim<'a>, _: u32) {}

    fn io<'s>(&'s mut self, stream: &'s mut Claim<'a>) -> Io<'s, 'a, H::Line> {
        Io::at(stream.at, &self.connections, &mut self.sockets, self.host.own().1)
    }

    fn tell(&mut self, stream: &Claim<'a>, bytes: &[u8]) -> Result<(), Errno> {
        let mut io = Io::at(stream.at, &self.connections, &mut self.sockets, self.host.own().1);
        match io.write(bytes) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn close(&mut self, stream: Claim<'a>) {
        self.begin_closing(stream.at);
    }

    fn spawn(&mut self, spawn: Spawn<'_, Claim<'a>, Claim<'a>>) -> Result<Pid, Errno> {
        let Spawn { table, service, listener: _, given, peer, effects, command } = spawn;
        let (connection, local) = match given {
            Given::Connection(stream) if self.bridges.is_full() => {
                let _ = stream;
                return Err(Errno::MFILE);
            }
            Given::Connection(stream) => (Some(stream.at), self.local(stream)),
            Given::Listener(_) => return Err(Errno::NOSYS),
            Given::Nothing => (None, None),
        };
        let talks = connection.is_some();
        let start = Start { table, service, peer, local, effects, command, talks };
        let (pid, pipe) = self.host.start(&start)?;
        if let (Some(at), Some(pipe)) = (connection, pipe) {
            // From here on the engine's claim on it means nothing.
            self.set_role(at, Role::Bridged);
            let _ = self.bridges.push(Bridge::new(at, pipe));
        }
        Ok(pid)
    }

    fn end(&mut self, pid: Pid, how: End) {
        self.host.end(pid, how);
    }

    fn load(&mut self) -> Option<u32> {
        self.host.load()
    }

    fn record(&mut self, record: &Record<'_>) {
        self.host.record(record);
    }
}
