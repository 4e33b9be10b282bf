//! The PROXY protocol, versions 1 and 2: who a client is, told to a server in front of what the client says.
//!
//! The text is haproxy's `doc/proxy-protocol.txt`. Nothing of it is read here, only written: a server that is told believes
//! us, and nobody else can have written what it reads first.

use core::fmt::Write as _;
use core::net::IpAddr;

use heapless::{String, Vec};

use crate::addr::Peer;
use crate::service::Proxy;

/// The longest header: version 1 with two IPv6 addresses (section 2.1 counts 107 with a NUL).
pub const HEADER_BYTES: usize = 108;
/// What version 2 begins with (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The header for a client of that address who came to ours. Ends that are not both IPv4 or both IPv6 are told as unknown,
/// which a server must take for a client without address.
pub fn header(proxy: Proxy, peer: Peer, local: Option<(IpAddr, u16)>) -> Vec<u8, HEADER_BYTES> {
    let ends = match (peer, local) {
        (Peer::Ip { address, port }, Some((own, own_port))) if address.is_ipv4() == own.is_ipv4() => {
            Some((address, port, own, own_port))
        }
        _ => None,
    };
    let mut out = Vec::new();
    // There is room for the longest.
    let _ = match (proxy, ends) {
        (Proxy::No, _) => Ok(()),
        (Proxy::V1, None) => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        (Proxy::V1, Some((from, from_port, to, to_port))) => {
            let family = if from.is_ipv4() { 4 } else { 6 };
            let mut line = String::<HEADER_BYTES>::new();
            let _ = write!(line, "PROXY TCP{family} {from} {to} {from_port} {to_port}\r\n");
            out.extend_from_slice(line.as_bytes())
        }
        (Proxy::V2, ends) => version_2(&mut out, ends),
    };
    out
}

/// Version and command, family and protocol, length of what follows; addresses and ports.
fn version_2(
    out: &mut Vec<u8, HEADER_BYTES>,
    ends: Option<(IpAddr, u16, IpAddr, u16)>,
) -> Result<(), heapless::CapacityError> {
    const PROXIED: u8 = 0x21;
    out.extend_from_slice(&SIGNATURE)?;
    let Some((from, from_port, to, to_port)) = ends else {
        return out.extend_from_slice(&[PROXIED, 0x00, 0, 0]);
    };
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[PROXIED, 0x11, 0, 12])?;
            out.extend_from_slice(&from.octets())?;
            out.extend_from_slice(&to.octets())?;
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            out.extend_from_slice(&[PROXIED, 0x21, 0, 36])?;
            out.extend_from_slice(&from.octets())?;
            out.extend_from_slice(&to.octets())?;
        }
        _ => return out.extend_from_slice(&[PROXIED, 0x00, 0, 0]),
    }
    out.extend_from_slice(&from_port.to_be_bytes())?;
    out.extend_from_slice(&to_port.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(proxy: Proxy, from: &str, to: &str) -> Vec<u8, HEADER_BYTES> {
        header(proxy, Peer::ip(from.parse().unwrap(), 56324), Some((to.parse().unwrap(), 443)))
    }

    #[test]
    fn version_1_is_a_line() {
        let line = of(Proxy::V1, "192.168.0.1", "192.168.0.11");
        assert_eq!(line, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        let line = of(Proxy::V1, "2001:db8::1", "::1");
        assert_eq!(line, b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n");
        let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1";
        assert!(of(Proxy::V1, long, long).ends_with(b" 56324 443\r\n"));
        assert_eq!(header(Proxy::V1, Peer::Local, None), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let header_of = |family, length| {
            let mut all = Vec::<u8, HEADER_BYTES>::from_slice(&SIGNATURE).unwrap();
            all.extend_from_slice(&[0x21, family, 0, length]).unwrap();
            all
        };
        let mut wanted = header_of(0x11, 12);
        wanted.extend_from_slice(&[192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb]).unwrap();
        assert_eq!(of(Proxy::V2, "192.168.0.1", "192.168.0.11"), wanted);
        let six = of(Proxy::V2, "2001:db8::1", "::1");
        assert_eq!((six.len(), &six[..16]), (16 + 36, header_of(0x21, 36).as_slice()));
        // An IPv4 client is told as one, also if he came to an IPv6 socket.
        assert_eq!(of(Proxy::V2, "::ffff:192.168.0.1", "192.168.0.11"), wanted);
        assert_eq!(header(Proxy::V2, Peer::Local, None), header_of(0, 0));
        assert_eq!(header(Proxy::V2, Peer::ip("::1".parse().unwrap(), 1), None), header_of(0, 0));
    }

    #[test]
    fn who_is_not_told_of_has_no_header() {
        assert!(of(Proxy::No, "192.168.0.1", "192.168.0.11").is_empty());
    }
}
