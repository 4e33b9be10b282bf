//! Addresses: who a client is, and which clients a rule means.
//!
//! An IPv4 client that reached an IPv6 socket arrives as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2). It is made a
//! plain IPv4 address once, here, before anything matches, counts or logs it: xinetd did not, and its rules,
//! counts and log lines disagreed about who the client was.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::tell::told;

/// The other end of a connection, or the sender of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Ip {
        address: IpAddr,
        port: u16,
    },
    /// A client of a unix socket: it has no address.
    Local,
    /// Nobody yet: a wait stream service is started before anyone is accepted.
    Unknown,
}

impl Peer {
    /// A peer with a mapped address made plain IPv4.
    pub fn ip(address: IpAddr, port: u16) -> Peer {
        Peer::Ip { address: plain(address), port }
    }

    pub const fn address(self) -> Option<IpAddr> {
        match self {
            Peer::Ip { address, .. } => Some(address),
            Peer::Local | Peer::Unknown => None,
        }
    }

    pub const fn port(self) -> Option<u16> {
        match self {
            Peer::Ip { port, .. } => Some(port),
            Peer::Local | Peer::Unknown => None,
        }
    }
}

// The address alone, as logs write it: `127.0.0.1`, `::1`, and xinetd's `<no address>`.
told!(Peer, |peer, f| match peer.address() {
    Some(address) => tell!(f, "{}", Ip(address)),
    None => tell!(f, "<no address>"),
});

/// An address, in the form of RFC 5952.
#[derive(Clone, Copy)]
pub struct Ip(pub IpAddr);

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// defmt's own form of IPv6 addresses has all zeros in it. Bytes and words, as numbers are in frames.
#[cfg(feature = "defmt")]
impl defmt::Format for Ip {
    fn format(&self, f: defmt::Formatter<'_>) {
        let address = match self.0 {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                return defmt::write!(f, "{=u8}.{=u8}.{=u8}.{=u8}", a, b, c, d);
            }
            IpAddr::V6(address) => address,
        };
        if let Some(address) = address.to_ipv4_mapped() {
            let [a, b, c, d] = address.octets();
            return defmt::write!(f, "::ffff:{=u8}.{=u8}.{=u8}.{=u8}", a, b, c, d);
        }
        let segments = address.segments();
        let zeros = longest_zeros(&segments);
        for (at, segment) in segments.into_iter().enumerate() {
            if at == zeros.start {
                defmt::write!(f, "::");
            }
            match at {
                _ if zeros.contains(&at) => {}
                _ if at == 0 || at == zeros.end => defmt::write!(f, "{=u16:x}", segment),
                _ => defmt::write!(f, ":{=u16:x}", segment),
            }
        }
    }
}

/// The first of the longest runs of two zeros or more; else what lies behind the last segment (RFC 5952 section 4.2).
#[cfg(feature = "defmt")]
fn longest_zeros(segments: &[u16; 8]) -> core::ops::Range<usize> {
    let mut longest = 8..8;
    let mut at = 0;
    for run in segments.chunk_by(|a, b| *a == 0 && *b == 0) {
        if run.len() > longest.len().max(1) {
            longest = at..at + run.len();
        }
        at += run.len();
    }
    longest
}

/// An address with a port: `127.0.0.1:7`, `[::1]:7`, `[fe80::1%2]:7`.
pub struct Socket(pub SocketAddr);

told!(Socket, |socket, f| {
    let (ip, port) = (Ip(socket.0.ip()), socket.0.port());
    match socket.0 {
        SocketAddr::V4(_) => tell!(f, "{}:{}", ip, port),
        SocketAddr::V6(address) if address.scope_id() == 0 => tell!(f, "[{}]:{}", ip, port),
        SocketAddr::V6(address) => tell!(f, "[{}%{}]:{}", ip, address.scope_id(), port),
    }
});

/// What is known of the name of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostName<'a> {
    #[default]
    NotAsked,
    /// It has none, or nobody answered in time.
    Unknown,
    /// It has one that does not lead back to the address.
    Paranoid,
    Known(&'a [u8]),
}

/// Whether `text` ends in `suffix`, in whatever case, and is longer: a host name in a domain, `.example.org`.
pub fn ends_in(text: &[u8], suffix: &[u8]) -> bool {
    let from = text.len().checked_sub(suffix.len()).filter(|&from| from > 0);
    from.and_then(|from| text.get(from..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// `address`, as plain IPv4 if it is an IPv4-mapped IPv6 address.
pub fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// A network: an address whose first `bits` bits count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Prefix {
    /// The network of `address` with `bits` significant bits, the rest cleared; `None` if the family has fewer
    /// bits. A mapped IPv6 network of 96 bits or more becomes the IPv4 network it contains.
    pub fn new(address: IpAddr, bits: u8) -> Option<Prefix> {
        let (address, bits) = match (address, plain(address)) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if bits >= 96 => (v4, bits - 96),
            (address, _) => (address, bits),
        };
        let address = match address {
            IpAddr::V4(a) if bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask))
            }
            IpAddr::V6(a) if bits <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask))
            }
            _ => return None,
        };
        Some(Prefix { address, bits })
    }

    /// The prefix of one address alone.
    pub fn host(address: IpAddr) -> Prefix {
        let address = plain(address);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Prefix { address, bits }
    }

    /// Whose address it is: an IPv4 address alone, an IPv6 address with its /64, which is one customer's, who has as many
    /// addresses in it as he likes (RFC 6177 section 2).
    pub fn holder(address: IpAddr) -> Prefix {
        let host = Prefix::host(address);
        if host.bits <= 64 { host } else { Prefix::new(host.address, 64).unwrap_or(host) }
    }

    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Significant bits: 0 to 32 for IPv4, 0 to 128 for IPv6. Of two matching prefixes the one with more is the
    /// better match.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether `address`, which must be plain, lies in the network. An IPv6 network never holds an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                (net.to_bits() ^ a.to_bits()).leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => {
                (net.to_bits() ^ a.to_bits()).leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_match_by_their_bits_alone() {
        let net = Prefix::new("10.1.2.3".parse().unwrap(), 8).unwrap();
        assert_eq!(net.address(), "10.0.0.0".parse::<IpAddr>().unwrap());
        assert!(net.contains("10.255.0.1".parse().unwrap()));
        assert!(!net.contains("11.0.0.1".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        let all = Prefix::new("0.0.0.0".parse().unwrap(), 0).unwrap();
        assert!(all.contains("255.255.255.255".parse().unwrap()));
        assert!(Prefix::new("10.0.0.0".parse().unwrap(), 33).is_none());
        assert!(Prefix::new("::".parse().unwrap(), 129).is_none());
    }

    #[test]
    fn mapped_addresses_are_plain_ipv4() {
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(Peer::ip(mapped, 7).address(), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(Prefix::new(mapped, 104).unwrap().bits(), 8);
        // ::/0 is every IPv6 client and no IPv4 client (xinetd let it match mapped ones).
        let six = Prefix::new("::".parse().unwrap(), 0).unwrap();
        assert!(!six.contains("127.0.0.1".parse().unwrap()));
    }
}
