//! The cable of a board in QEMU, in the hand of a test: every datagram is an Ethernet frame.

use crate::harness::*;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Both ends, at the loopback of the test's own network.
const OURS: &str = "127.0.0.1:9001";
const BOARDS: &str = "127.0.0.1:9002";

const MAC: [u8; 6] = [0x02, b't', b'e', b's', b't', 1];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Headers of Ethernet, IPv6 and an echo.
pub const HEADERS: usize = 14 + 40 + 8;

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

pub struct Wire {
    socket: UdpSocket,
    /// The board's.
    mac: [u8; 6],
    address: Ipv6Addr,
}

impl Wire {
    /// What QEMU is told of it.
    pub fn network() -> String {
        format!("socket,udp={OURS},localaddr={BOARDS}")
    }

    pub fn new() -> Wire {
        let socket = UdpSocket::bind(OURS).expect("our end");
        Wire { socket, mac: [0; 6], address: Ipv6Addr::UNSPECIFIED }
    }

    /// Asks the board for its Ethernet address, by multicast (RFC 4861), which is also how it learns ours.
    pub fn meet(&mut self, address: Ipv6Addr) {
        self.address = address;
        let o = address.octets();
        self.mac = [o[8] ^ 2, o[9], o[10], o[13], o[14], o[15]];
        let all = [[0; 4].as_slice(), &o, &[1, 1], &MAC].concat();
        let group = Ipv6Addr::new(
            0xff02,
            0,
            0,
            0,
            0,
            1,
            0xff00 | u16::from(o[13]),
            u16::from(o[14]) << 8 | u16::from(o[15]),
        );
        let multicast = [0x33, 0x33, 0xff, o[13], o[14], o[15]];
        self.send(&icmp((multicast, group), NEIGHBOR_SOLICITATION, &all));
        let answer = self.receive(NEIGHBOR_ADVERTISEMENT, PATIENCE).expect("an advertisement");
        assert_eq!(answer[4..20], o, "its address");
    }

    /// One frame.
    pub fn send(&self, frame: &[u8]) {
        self.socket.send_to(frame, BOARDS).expect("the cable");
    }

    /// An echo request with that sequence number and data.
    pub fn request(&self, sequence: u16, data: &[u8]) -> Vec<u8> {
        let body = [&[0, 7], sequence.to_be_bytes().as_slice(), data].concat();
        icmp((self.mac, self.address), ECHO_REQUEST, &body)
    }

    /// The sequence number and the data of the next echo reply.
    pub fn reply(&self, patience: Duration) -> Option<(u16, Vec<u8>)> {
        let body = self.receive(ECHO_REPLY, patience)?;
        assert_eq!(body[..2], [0, 7], "our identifier");
        Some((u16::from_be_bytes([body[2], body[3]]), body[4..].to_vec()))
    }

    /// The body of the next ICMPv6 message of that kind from the board to us. Its frame is to be as long as it says.
    fn receive(&self, kind: u8, patience: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.socket.set_read_timeout(Some(left)).expect("a time-out");
            let mut frame = [0; 4096];
            let n = match self.socket.recv(&mut frame) {
                Ok(n) => n,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(error) => panic!("the cable: {error}"),
            };
            let frame = &frame[..n];
            if n >= HEADERS
                && frame[..6] == MAC
                && frame[12..14] == [0x86, 0xdd]
                && frame[20] == 58
                && frame[54] == kind
            {
                let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
                assert_eq!(n, 54 + length, "a frame and what is in it");
                assert_eq!(checksum(frame), 0, "its checksum");
                return Some(frame[58..].to_vec());
            }
        }
    }
}

/// An ICMPv6 message to an Ethernet and an IPv6 address.
fn icmp((mac, to): ([u8; 6], Ipv6Addr), kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (4 + body.len()) as u16;
    let mut frame = [mac.as_slice(), &MAC, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend(length.to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(ADDRESS.octets());
    frame.extend(to.octets());
    frame.extend([kind, 0, 0, 0]);
    frame.extend(body);
    let sum = checksum(&frame).to_be_bytes();
    frame[56..58].copy_from_slice(&sum);
    frame
}

/// Of a message that has its checksum: 0. Of one that has zeros there: its checksum (RFC 4443, 2.3).
fn checksum(frame: &[u8]) -> u16 {
    let (addresses, message) = (&frame[22..54], &frame[54..]);
    let words = addresses.chunks(2).chain(message.chunks(2));
    let sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0))).sum();
    let sum = sum + message.len() as u32 + 58;
    let sum = (sum >> 16) + (sum & 0xffff);
    !((sum >> 16) + sum) as u16
}
