//! Keeps from the stack what it would answer with a reset although the service is only full.

use heapless::Vec;
use smoltcp::phy::{Device, DeviceCapabilities, RxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

use crate::capacity::SERVICES;

/// A device, and the ports whose services have no socket left for one more connection. A SYN for one of them is lost on
/// the way: the client tries again, and finds room or gives up after its own time.
pub struct Gate<D> {
    pub device: D,
    pub held: Vec<u16, SERVICES>,
}

impl<D> Gate<D> {
    pub const fn new(device: D) -> Gate<D> {
        Gate { device, held: Vec::new() }
    }
}

/// The port that a frame asks for a connection to.
fn wanted(frame: &[u8]) -> Option<u16> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let port = |segment: &[u8]| {
        let segment = TcpPacket::new_checked(segment).ok()?;
        (segment.syn() && !segment.ack()).then_some(segment.dst_port())
    };
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            if packet.next_header() == IpProtocol::Tcp { port(packet.payload()) } else { None }
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            if packet.next_header() == IpProtocol::Tcp { port(packet.payload()) } else { None }
        }
        _ => None,
    }
}

pub struct Taken<'d, R> {
    token: R,
    held: &'d [u16],
}

impl<R: RxToken> RxToken for Taken<'_, R> {
    fn consume<T, F: FnOnce(&[u8]) -> T>(self, f: F) -> T {
        let held = self.held;
        self.token.consume(|frame| {
            let is_held = !held.is_empty() && wanted(frame).is_some_and(|port| held.contains(&port));
            // The stack takes an empty frame for none.
            f(if is_held { &[] } else { frame })
        })
    }
}

impl<D: Device> Device for Gate<D> {
    type RxToken<'d>
        = Taken<'d, D::RxToken<'d>>
    where
        D: 'd;
    type TxToken<'d>
        = D::TxToken<'d>
    where
        D: 'd;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let (token, answer) = self.device.receive(now)?;
        Some((Taken { token, held: &self.held }, answer))
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.device.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.device.capabilities()
    }
}
