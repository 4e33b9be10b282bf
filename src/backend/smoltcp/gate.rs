//! Between the device and the stack: what the stack would answer with a reset although the service is only full, and what
//! it does not learn from frames.
//!
//! smoltcp asks for the Ethernet address of one neighbour a second, whoever waits for it. Behind a flood with many source
//! addresses a client would have to wait for all of those that do not exist. But his frames say where they come from: what
//! he has sent tells the stack as if he had answered its question (RFC 826), before it has to ask. Whoever can send us a
//! false source could send a false answer as well. Of IPv4 only; who comes by IPv6 has asked for us with his address.

use core::cell::Cell;

use heapless::{HistoryBuf, Vec};
use smoltcp::phy::{Device, DeviceCapabilities, RxToken};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

use crate::capacity::SERVICES;

/// Neighbours that were told lately and are not told again. The stack, which forgets whom it has not seen longest, must still
/// know all of them: as many again may have been seen since, and its list (`iface-neighbor-cache-count`) has 16 or more.
const TOLD: usize = 4;
/// How long, in seconds: before the stack has forgotten who has sent nothing since, which it does after a minute.
const TOLD_S: u64 = 30;
/// Bytes of an answer to who has an address, with Ethernet's header.
const ANSWER: usize = 42;

/// Who has sent a frame, and to whom: Ethernet and IPv4 addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Neighbour {
    from: ([u8; 6], [u8; 4]),
    to: ([u8; 6], [u8; 4]),
}

/// Who was told, and until when that counts.
#[derive(Clone, Copy)]
struct Told {
    neighbour: Neighbour,
    until: Instant,
}

/// A device, and the ports whose services have no socket left for one more connection. A SYN for one of them is lost on
/// the way: the client tries again, and finds room or gives up after its own time.
pub struct Gate<D> {
    pub device: D,
    pub held: Vec<u16, SERVICES>,
    told: HistoryBuf<Told, TOLD>,
    /// Whom the frame that was just taken comes from, if the stack is to be told.
    seen: Cell<Option<Neighbour>>,
    /// A SYN has passed since that was asked last.
    has_let_in: Cell<bool>,
}

impl<D> Gate<D> {
    pub const fn new(device: D) -> Gate<D> {
        Gate {
            device,
            held: Vec::new(),
            told: HistoryBuf::new(),
            seen: Cell::new(None),
            has_let_in: Cell::new(false),
        }
    }

    /// Whether a SYN has passed since this was asked last.
    pub fn has_let_in(&self) -> bool {
        self.has_let_in.take()
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

/// Who has sent this frame; whether that is a neighbour the stack decides.
fn neighbour(frame: &[u8]) -> Option<Neighbour> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let (from, to) = (frame.src_addr(), frame.dst_addr());
    if frame.ethertype() != EthernetProtocol::Ipv4 || !from.is_unicast() || !to.is_unicast() {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let is_answered = matches!(packet.next_header(), IpProtocol::Tcp | IpProtocol::Udp);
    (is_answered && packet.verify_checksum()).then(|| Neighbour {
        from: (from.0, packet.src_addr().octets()),
        to: (to.0, packet.dst_addr().octets()),
    })
}

/// Whether the stack may learn of a neighbour from this frame by itself, and forget another one for it.
fn teaches(frame: &[u8]) -> bool {
    EthernetFrame::new_checked(frame).is_ok_and(|frame| frame.ethertype() != EthernetProtocol::Ipv4)
}

/// What that neighbour would answer if it were asked.
fn answer(neighbour: &Neighbour) -> [u8; ANSWER] {
    let mut frame = [0; ANSWER];
    let ((from, from_ip), (to, to_ip)) = (neighbour.from, neighbour.to);
    // Ethernet: ARP. ARP: Ethernet, IPv4, their lengths, an answer.
    let parts: [&[u8]; 8] = [&to, &from, &[8, 6], &[0, 1, 8, 0, 6, 4, 0, 2], &from, &from_ip, &to, &to_ip];
    for (place, byte) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    frame
}

/// A frame from the device, or one of our own.
enum Source<R> {
    Device(R),
    Gate([u8; ANSWER]),
}

pub struct Taken<'d, R> {
    source: Source<R>,
    held: &'d [u16],
    now: Instant,
    told: &'d mut HistoryBuf<Told, TOLD>,
    seen: &'d Cell<Option<Neighbour>>,
    has_let_in: &'d Cell<bool>,
}

impl<R: RxToken> RxToken for Taken<'_, R> {
    fn consume<T, F: FnOnce(&[u8]) -> T>(self, f: F) -> T {
        let Taken { source, held, now, told, seen, has_let_in } = self;
        let token = match source {
            Source::Device(token) => token,
            Source::Gate(frame) => return f(&frame),
        };
        token.consume(|frame| {
            if let Some(port) = wanted(frame) {
                if held.contains(&port) {
                    // The stack takes an empty frame for none.
                    return f(&[]);
                }
                has_let_in.set(true);
            }
            if teaches(frame) {
                told.clear();
            }
            let is_told = |neighbour: &Neighbour| {
                told.as_slice().iter().any(|told| told.neighbour == *neighbour && now < told.until)
            };
            seen.set(neighbour(frame).filter(|neighbour| !is_told(neighbour)));
            f(frame)
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
        if let Some(neighbour) = self.seen.get() {
            // Without room for what the stack may answer it is not told yet.
            self.device.transmit(now)?;
            self.seen.set(None);
            self.told.write(Told { neighbour, until: now + Duration::from_secs(TOLD_S) });
            let Gate { device, held, told, seen, has_let_in, .. } = self;
            let source = Source::Gate(answer(&neighbour));
            return Some((Taken { source, held, now, told, seen, has_let_in }, device.transmit(now)?));
        }
        let Gate { device, held, told, seen, has_let_in, .. } = self;
        let (token, transmit) = device.receive(now)?;
        Some((Taken { source: Source::Device(token), held, now, told, seen, has_let_in }, transmit))
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.device.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.device.capabilities()
    }
}
