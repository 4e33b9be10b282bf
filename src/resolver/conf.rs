//! resolv.conf(5): whom to ask, and how patiently.

#![forbid(unsafe_code)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use heapless::Vec;

use crate::capacity::PATH_BYTES;
use crate::config::source::Files;
use crate::config::value::number;
use crate::errno::Errno;
use crate::names::{each_line, words};

/// Name servers that are asked; resolv.conf(5) has the same limit (MAXNS).
pub const SERVERS: usize = 3;

/// Times that every server is asked, unless `options attempts:` says otherwise, and the most it may say.
const ATTEMPTS: u8 = 2;
const MOST_ATTEMPTS: u8 = 5;

/// Seconds until the next server is asked, unless `options timeout:` says otherwise, and the most it may say. The
/// resolver's own 5 and 30 are for programs that have nothing else to do; here a client waits.
const TIMEOUT_S: u8 = 1;
const MOST_TIMEOUT_S: u8 = 2;

const PORT: u16 = 53;

/// What resolv.conf says. `search` and `domain` are not used: names are asked for as they are written.
#[derive(Clone, Debug)]
pub struct Conf {
    pub servers: Vec<SocketAddr, SERVERS, u8>,
    pub timeout_s: u8,
    pub attempts: u8,
}

impl Default for Conf {
    /// The server on this machine.
    fn default() -> Self {
        let mut servers = Vec::new();
        let _ = servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT));
        Conf { servers, timeout_s: TIMEOUT_S, attempts: ATTEMPTS }
    }
}

impl Conf {
    /// The `nth` server, counted round and round.
    pub fn server(&self, nth: u8) -> Option<SocketAddr> {
        self.servers.get(usize::from(nth).checked_rem(self.servers.len())?).copied()
    }

    /// How often a question may be asked, all servers together.
    pub fn tries(&self) -> u8 {
        self.attempts.saturating_mul(self.servers.len() as u8)
    }

    /// Reads the file. One that is missing, or names no server, means the server on this machine.
    pub fn read<F: Files>(files: &mut F, path: &[u8], interfaces: &[u8]) -> Result<Conf, Errno> {
        let mut conf = Conf { servers: Vec::new(), ..Conf::default() };
        // Links whose number has to be looked up: not while the file is read, the reader has `files`.
        let mut links: Vec<(u8, Link), SERVERS, u8> = Vec::new();
        each_line(files, path, &mut |line| {
            let Some(line) = line else { return true };
            // Comments begin with either, at the beginning of a line alone; `words` knows the one.
            if line.first() == Some(&b';') {
                return true;
            }
            let mut words = words(line);
            match words.next() {
                Some(b"nameserver") => {
                    if let Some((server, link)) = words.next().and_then(server) {
                        let place = conf.servers.len() as u8;
                        if conf.servers.push(server).is_ok()
                            && let Some(link) = link
                        {
                            let _ = links.push((place, link));
                        }
                    }
                }
                Some(b"options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
            true
        })?;
        for (place, link) in &links {
            if let Some(SocketAddr::V6(server)) = conf.servers.get_mut(usize::from(*place))
                && let Some(number) = link_number(files, interfaces, link)
            {
                server.set_scope_id(number);
            }
        }
        if conf.servers.is_empty() {
            conf.servers = Conf::default().servers;
        }
        Ok(conf)
    }

    fn option(&mut self, word: &[u8]) {
        let Some(colon) = word.iter().position(|b| *b == b':') else { return };
        let (name, value) = word.split_at(colon);
        let Some(value) = value.get(1..).and_then(number::<u32>) else { return };
        match name {
            b"timeout" => self.timeout_s = value.clamp(1, MOST_TIMEOUT_S.into()) as u8,
            b"attempts" => self.attempts = value.clamp(1, MOST_ATTEMPTS.into()) as u8,
            _ => {}
        }
    }
}

/// The name of a network interface: at most 15 bytes (IFNAMSIZ, with a zero).
type Link = Vec<u8, 15, u8>;

/// A server's address, and the link it is on if that is told by name. Routers announce themselves as `fe80::1%eth0`
/// (RFC 8106), so it matters.
fn server(word: &[u8]) -> Option<(SocketAddr, Option<Link>)> {
    let text = core::str::from_utf8(word).ok()?;
    let Some((address, link)) = text.split_once('%') else {
        return Some((SocketAddr::new(text.parse().ok()?, PORT), None));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let at = |scope| SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, scope));
    match number(link.as_bytes()) {
        Some(number) => Some((at(number), None)),
        None => Some((at(0), Link::from_slice(link.as_bytes()).ok())),
    }
}

/// The number of a network interface. Without it the server cannot be reached, and the next is asked at once.
fn link_number<F: Files>(files: &mut F, interfaces: &[u8], link: &[u8]) -> Option<u32> {
    if link.contains(&b'/') {
        return None;
    }
    let mut path: Vec<u8, PATH_BYTES> = Vec::new();
    for part in [interfaces, b"/", link, b"/ifindex"] {
        path.extend_from_slice(part).ok()?;
    }
    let file = files.open(&path).ok()?;
    let mut buf = [0; 16];
    let n = files.read_at(&file, 0, &mut buf).ok()?;
    number(buf.get(..n)?.trim_ascii())
}
