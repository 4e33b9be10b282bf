//! The interface of a machine whose first process we are: up, with addresses, a router and name servers.
//!
//! An interface may come late (USB), go, and come back; its cable too. The kernel tells (see [`route`](super::route)), and
//! nothing here waits. What a DHCP client does is in [`dhcp`](crate::dhcp); its packets go through a UDP socket that is
//! bound to the interface: the kernel sends from 0.0.0.0 there as long as it has no address, and takes answers to all.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::event::epoll::{self, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, sendto, socket_with,
    sockopt,
};

use super::Part;
use super::route::{Link, Links, Route};
use crate::addr::Peer;
use crate::backend::linux::log::Log;
use crate::backend::linux::question::random;
use crate::backend::linux::{Source, listen, sys};
use crate::boot::{Interface, Ipv4, Settings};
use crate::config::diagnostic::Bytes;
use crate::dhcp::{CLIENT_PORT, Change, Client, Lease, PACKET, SERVER_PORT, To};
use crate::errno::Errno;
use crate::record::Level;
use crate::time::{Instant, Now};

/// Packets taken before the next event is looked at.
const PACKETS_A_TURN: usize = 16;

/// The interface that was chosen.
struct Chosen {
    link: Link,
    dhcp: Option<Asking>,
}

/// A DHCP client and its way out.
struct Asking {
    client: Client,
    socket: OwnedFd,
    /// Nobody has answered yet, and that was told.
    is_told: bool,
}

pub struct Network {
    route: Route,
    links: Links,
    chosen: Option<Chosen>,
}

impl Network {
    /// Begins to look for interfaces. `has_modules`: those that are not there now are late.
    pub fn start(
        epoll: &OwnedFd,
        settings: &Settings,
        now: Now,
        has_modules: bool,
        log: &mut Log,
    ) -> Result<Network, Errno> {
        let mut network = Network { route: Route::open()?, links: Links::open()?, chosen: None };
        epoll::add(epoll, &network.links, Source::Boot(Part::Links).data(), EventFlags::IN)?;
        // All that are there already, as the kernel has answered by now.
        network.look(epoll, settings, now, log);
        if network.chosen.is_none() && has_modules && settings.wants_network() {
            let name: &[u8] =
                if settings.interface.is_empty() { b"a network interface" } else { &settings.interface };
            log.message(Level::Notice, format_args!("waiting for {}", Bytes(name)));
        }
        Ok(network)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.chosen.as_ref()?.dhcp.as_ref()?.client.next_deadline()
    }

    /// Something has happened to interfaces.
    pub fn look(&mut self, epoll: &OwnedFd, settings: &Settings, now: Now, log: &mut Log) {
        let Network { route, links, chosen } = self;
        links.each(&mut |link| {
            if link.is_loopback {
                if !link.is_up {
                    tell(log, &link, "cannot switch it on", route.set_up(link.index));
                }
                return;
            }
            match chosen {
                Some(it) if it.link.index == link.index => {
                    if link.is_gone {
                        log.message(Level::Warning, format_args!("{} is gone", Bytes(&link.name)));
                        *chosen = None;
                    } else {
                        it.change(link, now, log);
                    }
                }
                Some(_) => {}
                None => {
                    let is_it = match settings.interface.as_slice() {
                        [] => link.hardware.is_some(),
                        name => link.name == name,
                    };
                    if is_it && !link.is_gone && settings.wants_network() {
                        *chosen = Some(Chosen::new(epoll, route, link, settings, now, log));
                    }
                }
            }
        });
        self.turn(now, settings, log);
    }

    /// Answers have come.
    pub fn hear(&mut self, now: Now, settings: &Settings, log: &mut Log) {
        let Some(Chosen { link, dhcp: Some(asking) }) = &mut self.chosen else { return };
        let mut packet = [0; PACKET];
        for _ in 0..PACKETS_A_TURN {
            let (len, from) = match recvfrom(&asking.socket, &mut packet, RecvFlags::DONTWAIT) {
                Ok((len, _, from)) => (len, listen::peer(from)),
                Err(rustix::io::Errno::AGAIN) => break,
                // An error of the network that was kept for us.
                Err(_) => continue,
            };
            if !matches!(from, Peer::Ip { port: SERVER_PORT, .. }) {
                continue;
            }
            let before = asking.client.lease().cloned();
            let change = asking.client.receive(packet.get(..len).unwrap_or(&[]), now.mono, random());
            apply(&self.route, link, settings, before, &change, log);
        }
        self.turn(now, settings, log);
    }

    /// Does what is due.
    pub fn turn(&mut self, now: Now, settings: &Settings, log: &mut Log) {
        let Some(Chosen { link, dhcp: Some(asking) }) = &mut self.chosen else { return };
        // An end of a lease and a question, at most: each turn puts the next one off.
        while asking.client.next_deadline().is_some_and(|at| at <= now.mono) {
            let before = asking.client.lease().cloned();
            let mut packet = [0; PACKET];
            let (change, out) = asking.client.turn(now.mono, random(), &mut packet);
            apply(&self.route, link, settings, before, &change, log);
            let Some((to, len)) = out else { continue };
            let to = match to {
                To::Everybody => Ipv4Addr::BROADCAST,
                To::Server(server) => server,
            };
            let to = SocketAddr::new(IpAddr::V4(to), SERVER_PORT);
            let sent = sendto(&asking.socket, packet.get(..len).unwrap_or(&[]), SendFlags::DONTWAIT, &to);
            // It is asked again in time, whatever this was.
            if let Err(errno) = sent
                && !asking.is_told
            {
                asking.is_told = true;
                tell(log, link, "cannot ask a DHCP server", Err(errno.into()));
            }
        }
    }
}

impl Chosen {
    fn new(
        epoll: &OwnedFd,
        route: &Route,
        link: Link,
        settings: &Settings,
        now: Now,
        log: &mut Log,
    ) -> Chosen {
        tell(log, &link, "cannot switch it on", route.set_up(link.index));
        let mut add = |address: IpAddr, bits: u8, router: Option<IpAddr>| {
            let added = route.add_address(link.index, address, bits);
            if added.is_ok() {
                log.message(Level::Notice, format_args!("{}: {address}/{bits}", Bytes(&link.name)));
            }
            tell(log, &link, "cannot give it its address", added);
            if let Some(router) = router {
                tell(log, &link, "cannot set the router", route.set_router(link.index, router));
            }
        };
        if let Ipv4::Static { address, bits } = settings.ipv4 {
            add(address.into(), bits, settings.router4.map(IpAddr::V4));
        }
        if let Some((address, bits)) = settings.ipv6 {
            add(address.into(), bits, settings.router6.map(IpAddr::V6));
        }
        if !settings.name_servers.is_empty() {
            write_name_servers(settings.name_servers.iter().copied(), log);
        }
        let mut chosen = Chosen { dhcp: None, link };
        if settings.wants_dhcp() {
            chosen.dhcp = match (chosen.link.hardware, Asking::socket(epoll, &chosen.link.name)) {
                (None, _) => {
                    let name = Bytes(&chosen.link.name);
                    log.message(
                        Level::Error,
                        format_args!("{name}: no Ethernet, so no DHCP; write `address`"),
                    );
                    None
                }
                (Some(_), Err(errno)) => {
                    tell(log, &chosen.link, "cannot ask a DHCP server", Err(errno));
                    None
                }
                (Some(hardware), Ok(socket)) => {
                    let client = Client::new(hardware, &settings.hostname);
                    Some(Asking { client, socket, is_told: false })
                }
            };
        }
        if chosen.link.has_carrier
            && let Some(asking) = &mut chosen.dhcp
        {
            asking.client.link_up(now.mono, random());
        }
        chosen
    }

    fn change(&mut self, link: Link, now: Now, log: &mut Log) {
        if link.has_carrier != self.link.has_carrier {
            let word = if link.has_carrier { "is connected" } else { "is not connected" };
            log.message(Level::Notice, format_args!("{} {word}", Bytes(&link.name)));
            if let Some(asking) = &mut self.dhcp {
                match link.has_carrier {
                    true => asking.client.link_up(now.mono, random()),
                    false => asking.client.link_down(),
                }
            }
        }
        self.link = link;
    }
}

impl Asking {
    fn socket(epoll: &OwnedFd, interface: &Interface) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_broadcast(&socket, true)?;
        sys::bind_to_device(socket.as_fd(), interface)?;
        bind(&socket, &SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), CLIENT_PORT))?;
        epoll::add(epoll, &socket, Source::Boot(Part::Dhcp).data(), EventFlags::IN)?;
        Ok(socket)
    }
}

/// Makes the kernel have what the client has.
fn apply(
    route: &Route,
    link: &Link,
    settings: &Settings,
    before: Option<Lease>,
    change: &Change,
    log: &mut Log,
) {
    let name = Bytes(&link.name);
    match change {
        Change::Nothing => {}
        Change::Lost(lease) => {
            // Gone with its interface, perhaps.
            let _ = route.remove_address(link.index, lease.address.into(), lease.bits);
            log.message(Level::Warning, format_args!("{name}: {} is not ours any more", lease.address));
        }
        Change::Bound(lease) => {
            let known = before.filter(|old| (old.address, old.bits) == (lease.address, lease.bits));
            if known
                .as_ref()
                .is_some_and(|old| (old.router, &old.name_servers) == (lease.router, &lease.name_servers))
            {
                // For longer, and else as before.
                return;
            }
            if known.is_none() {
                let added = route.add_address(link.index, lease.address.into(), lease.bits);
                tell(log, link, "cannot give it its address", added);
            }
            if let Some(router) = settings.router4.or(lease.router) {
                tell(log, link, "cannot set the router", route.set_router(link.index, router.into()));
            }
            if settings.name_servers.is_empty() && !lease.name_servers.is_empty() {
                write_name_servers(lease.name_servers.iter().map(|server| IpAddr::V4(*server)), log);
            }
            let (address, bits, server) = (lease.address, lease.bits, lease.server);
            match lease.seconds {
                u32::MAX => log
                    .message(Level::Notice, format_args!("{name}: {address}/{bits} from {server}, for ever")),
                seconds => log.message(
                    Level::Notice,
                    format_args!("{name}: {address}/{bits} from {server}, for {seconds} s"),
                ),
            }
        }
    }
}

fn tell(log: &mut Log, link: &Link, what: &str, result: Result<(), Errno>) {
    if let Err(errno) = result {
        log.message(Level::Error, format_args!("{}: {what}: {errno}", Bytes(&link.name)));
    }
}

/// For programs, and for us: names are looked up where resolv.conf(5) says.
fn write_name_servers(servers: impl Iterator<Item = IpAddr>, log: &mut Log) {
    const PATH: &core::ffi::CStr = c"/etc/resolv.conf";
    let mut text = heapless::String::<256>::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let _ = rustix::fs::mkdir(c"/etc", Mode::from_raw_mode(0o755));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let written = rustix::fs::open(PATH, flags, Mode::from_raw_mode(0o644))
        .and_then(|file| rustix::io::write(&file, text.as_bytes()));
    if let Err(errno) = written {
        log.message(Level::Error, format_args!("/etc/resolv.conf: {}", Errno::from(errno)));
    }
}
