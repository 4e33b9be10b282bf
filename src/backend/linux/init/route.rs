//! The kernel's interfaces, addresses and routes (rtnetlink(7)): messages as bytes, and the sockets they go through.

use core::net::{IpAddr, Ipv4Addr};

use heapless::Vec;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

use crate::boot::Interface;
use crate::errno::Errno;

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;

/// The kernel's answer to a request.
const ERROR: u16 = 2;

/// Of interfaces (netdevice(7)).
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_NOARP: u32 = 0x80;
const IFF_LOWER_UP: u32 = 0x1_0000;

const ARPHRD_ETHER: u16 = 1;

/// Groups of notifications: changes of interfaces.
const RTMGRP_LINK: u32 = 1;

/// What the kernel writes at once at most, where nobody has asked for more (NLMSG_GOODSIZE).
const BUFFER: usize = 8192;

/// A message to the kernel.
struct Message(Vec<u8, 96>);

impl Message {
    /// `fixed` is what stands between the header and the attributes.
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Option<Message> {
        let mut message = Message(Vec::new());
        message.put(&0u32.to_ne_bytes())?;
        message.put(&kind.to_ne_bytes())?;
        message.put(&(REQUEST | flags).to_ne_bytes())?;
        // Sequence number and port: one question at a time, and the kernel knows the port.
        message.put(&[0; 8])?;
        message.put(fixed)?;
        Some(message)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.extend_from_slice(bytes).ok()
    }

    /// Attributes begin at multiples of four.
    fn attribute(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        let len = u16::try_from(value.len() + 4).ok()?;
        self.put(&len.to_ne_bytes())?;
        self.put(&kind.to_ne_bytes())?;
        self.put(value)?;
        let padding = self.0.len().next_multiple_of(4) - self.0.len();
        self.put([0; 3].get(..padding)?)
    }

    fn finish(&mut self) -> &[u8] {
        let len = self.0.len() as u32;
        if let Some(place) = self.0.first_chunk_mut() {
            *place = len.to_ne_bytes();
        }
        &self.0
    }
}

/// The bytes of an address, and its family.
fn octets(address: IpAddr) -> (u8, Vec<u8, 16>) {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (2, Vec::from_slice(&v4.octets())),
        IpAddr::V6(v6) => (10, Vec::from_slice(&v6.octets())),
    };
    (family, bytes.unwrap_or_default())
}

fn link_up(index: u32) -> Option<Message> {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
    fixed[12..].copy_from_slice(&IFF_UP.to_ne_bytes());
    Message::new(NEW_LINK, ACK, &fixed)
}

fn address(kind: u16, index: u32, address: IpAddr, bits: u8) -> Option<Message> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_BROADCAST: u16 = 4;
    let flags = if kind == NEW_ADDRESS { ACK | CREATE | REPLACE } else { ACK };
    let (family, bytes) = octets(address);
    let mut fixed = [family, bits, 0, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(kind, flags, &fixed)?;
    message.attribute(IFA_LOCAL, &bytes)?;
    message.attribute(IFA_ADDRESS, &bytes)?;
    if let (IpAddr::V4(address), 1..=30) = (address, bits) {
        let all = Ipv4Addr::from_bits(address.to_bits() | u32::MAX >> bits);
        message.attribute(IFA_BROADCAST, &all.octets())?;
    }
    Some(message)
}

fn default_route(index: u32, router: IpAddr) -> Option<Message> {
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const MAIN: u8 = 254;
    /// RTPROT_BOOT.
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    /// The router is on this link, also if its address is in no network of ours: there are networks of one address.
    const ONLINK: u32 = 4;
    let (family, bytes) = octets(router);
    let mut fixed = [family, 0, 0, 0, MAIN, BOOT, 0, UNICAST, 0, 0, 0, 0];
    fixed[8..].copy_from_slice(&ONLINK.to_ne_bytes());
    let mut message = Message::new(NEW_ROUTE, ACK | CREATE | REPLACE, &fixed)?;
    message.attribute(RTA_GATEWAY, &bytes)?;
    message.attribute(RTA_OIF, &index.to_ne_bytes())?;
    Some(message)
}

/// An interface, as a message of the kernel's has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub index: u32,
    pub name: Interface,
    /// Of Ethernet and its kin, if it has one.
    pub hardware: Option<[u8; 6]>,
    pub is_loopback: bool,
    /// Switched on.
    pub is_up: bool,
    /// The cable is in, and there is somebody at its other end.
    pub has_carrier: bool,
    /// Not there any more.
    pub is_gone: bool,
}

impl Link {
    fn read(kind: u16, body: &[u8]) -> Option<Link> {
        const IFLA_ADDRESS: u16 = 1;
        const IFLA_IFNAME: u16 = 3;
        let number = |at: usize| body.get(at..at + 4)?.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b));
        let hardware_kind = body.get(2..4)?.first_chunk::<2>().map(|b| u16::from_ne_bytes(*b))?;
        let flags = number(8)?;
        let mut link = Link {
            index: number(4)?,
            name: Interface::new(),
            hardware: None,
            is_loopback: flags & IFF_LOOPBACK != 0,
            is_up: flags & IFF_UP != 0,
            has_carrier: flags & IFF_LOWER_UP != 0,
            is_gone: kind == DEL_LINK,
        };
        let mut rest = body.get(16..)?;
        while let Some((kind, value)) = take_attribute(&mut rest) {
            match kind {
                // A dummy has such an address too, but asks nobody for anything.
                IFLA_ADDRESS if hardware_kind == ARPHRD_ETHER && flags & IFF_NOARP == 0 => {
                    link.hardware = <[u8; 6]>::try_from(value).ok();
                }
                IFLA_IFNAME => {
                    let name = value.split(|b| *b == 0).next().unwrap_or(value);
                    link.name = Interface::from_slice(name).ok()?;
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// Takes `len` bytes of `rest`, and what makes them a multiple of four.
fn take<'b>(rest: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let bytes = rest.get(..len)?;
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    Some(bytes)
}

fn take_attribute<'b>(rest: &mut &'b [u8]) -> Option<(u16, &'b [u8])> {
    let [a, b, c, d] = *rest.first_chunk()?;
    let bytes = take(rest, usize::from(u16::from_ne_bytes([a, b])))?;
    Some((u16::from_ne_bytes([c, d]), bytes.get(4..)?))
}

/// The messages of what the kernel wrote at once.
fn each_message(mut rest: &[u8], take_one: &mut dyn FnMut(u16, &[u8])) {
    while let Some(&[a, b, c, d, e, f]) = rest.first_chunk() {
        let len = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(body) = take(&mut rest, len).and_then(|message| message.get(16..)) else { return };
        take_one(u16::from_ne_bytes([e, f]), body);
    }
}

fn open(groups: u32) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0: NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

fn send(socket: &OwnedFd, message: Option<Message>) -> Result<(), Errno> {
    // What is too long for a message is none of ours.
    let mut message = message.ok_or(Errno::INVAL)?;
    sendto(socket, message.finish(), SendFlags::DONTWAIT, &SocketAddrNetlink::new(0, 0))?;
    Ok(())
}

/// What happens to interfaces.
pub struct Links(OwnedFd);

impl Links {
    pub fn open() -> Result<Links, Errno> {
        let links = Links(open(RTMGRP_LINK)?);
        links.ask()?;
        Ok(links)
    }

    /// Asks for all there are; the answers come as if each had just changed.
    fn ask(&self) -> Result<(), Errno> {
        send(&self.0, Message::new(GET_LINK, DUMP, &[0; 16]))
    }

    /// Tells what there is to tell, without waiting.
    pub fn each(&self, take_one: &mut dyn FnMut(Link)) {
        let mut buf = [0; BUFFER];
        loop {
            match recv(&self.0, &mut buf, RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    each_message(buf.get(..len).unwrap_or(&[]), &mut |kind, body| {
                        if matches!(kind, NEW_LINK | DEL_LINK)
                            && let Some(link) = Link::read(kind, body)
                        {
                            take_one(link);
                        }
                    });
                }
                // Some were lost: all are asked for again.
                Err(rustix::io::Errno::NOBUFS) => drop(self.ask()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Changes of what the kernel has, each made at once.
pub struct Route(OwnedFd);

impl Route {
    pub fn open() -> Result<Route, Errno> {
        open(0).map(Route)
    }

    /// Sends a request; its answer is there when the call that sent it returns.
    fn request(&self, message: Option<Message>) -> Result<(), Errno> {
        send(&self.0, message)?;
        let mut buf = [0; 1024];
        let (len, _) = recv(&self.0, &mut buf, RecvFlags::DONTWAIT)?;
        let mut result = Err(Errno::IO);
        each_message(buf.get(..len).unwrap_or(&[]), &mut |kind, body| {
            if let (ERROR, Some(number)) = (kind, body.first_chunk()) {
                result = match i32::from_ne_bytes(*number) {
                    0 => Ok(()),
                    number => Err(Errno(number.unsigned_abs() as u16)),
                };
            }
        });
        result
    }

    pub fn set_up(&self, index: u32) -> Result<(), Errno> {
        self.request(link_up(index))
    }

    pub fn add_address(&self, index: u32, ours: IpAddr, bits: u8) -> Result<(), Errno> {
        self.request(address(NEW_ADDRESS, index, ours, bits))
    }

    pub fn remove_address(&self, index: u32, ours: IpAddr, bits: u8) -> Result<(), Errno> {
        self.request(address(DEL_ADDRESS, index, ours, bits))
    }

    /// The way to everywhere, in place of one there was.
    pub fn set_router(&self, index: u32, router: IpAddr) -> Result<(), Errno> {
        self.request(default_route(index, router))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn messages_are_as_the_kernel_wants_them() {
        let mut message = address(NEW_ADDRESS, 3, "10.0.2.15".parse().unwrap(), 24).unwrap();
        let bytes = message.finish();
        assert_eq!(bytes.len(), 16 + 8 + 3 * 8);
        assert_eq!(bytes[..4], 48u32.to_ne_bytes());
        assert_eq!(bytes[16..18], [2, 24]);
        assert_eq!(bytes[20..24], 3u32.to_ne_bytes());
        assert_eq!(bytes[44..], [10, 0, 2, 255]);
        // No broadcast address in a network of two, nor for IPv6.
        assert_eq!(address(NEW_ADDRESS, 3, "10.0.2.15".parse().unwrap(), 31).unwrap().0.len(), 40);
        assert_eq!(address(DEL_ADDRESS, 3, "fd00::1".parse().unwrap(), 64).unwrap().0.len(), 64);
        assert_eq!(default_route(3, "fe80::1".parse().unwrap()).unwrap().0.len(), 16 + 12 + 20 + 8);
    }

    #[test]
    fn the_kernel_tells_of_its_interfaces() {
        let links = Links::open().unwrap();
        let mut found = std::vec![];
        links.each(&mut |link| found.push(link));
        let lo = found.iter().find(|link| link.name == b"lo").unwrap();
        assert!(lo.is_loopback && lo.hardware.is_none() && !lo.is_gone && lo.index > 0);
        // And says no to what cannot be.
        let route = Route::open().unwrap();
        assert!(matches!(route.set_up(0x7fff_fff0), Err(Errno::NODEV | Errno::PERM)));
    }

    #[test]
    fn what_is_cut_off_is_left() {
        let mut body = [0u8; 16 + 12 + 8];
        body[2..4].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
        body[4] = 7;
        body[16..20].copy_from_slice(&[10, 0, 1, 0]);
        body[20..26].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        body[28..].copy_from_slice(&[8, 0, 3, 0, b'e', b't', b'h', 0]);
        let link = Link::read(NEW_LINK, &body).unwrap();
        assert_eq!((link.name.as_slice(), link.hardware), (&b"eth"[..], Some([2, 0, 0, 0, 0, 9])));
        for len in 0..body.len() {
            let _ = Link::read(NEW_LINK, &body[..len]);
            each_message(&body[..len], &mut |_, _| {});
        }
    }
}
