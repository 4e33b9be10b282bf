//! Clients on the sockets of this machine, of a daemon or a board wherever it is, for the scripts.

use super::script::{SCRIPTS, Script, Sight, World};
use crate::harness::*;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// All ports of `usherd.conf`, as QEMU leads them to boards, and one where nobody listens.
pub const PORTS: [(&str, u16); 12] = [
    ("tcp", 7007),
    ("tcp", 7009),
    ("tcp", 7019),
    ("tcp", 7037),
    ("tcp", 7101),
    ("tcp", 7102),
    ("tcp", 7103),
    ("tcp", 7104),
    ("tcp", 7999),
    ("udp", 7007),
    ("udp", 7009),
    ("udp", 7037),
];

/// How long a client waits for what should not come.
const MOMENT: Duration = Duration::from_millis(200);

pub struct Outside {
    server: IpAddr,
    /// The clients' addresses; none, if the daemon sees them all as one.
    addresses: Vec<IpAddr>,
    connections: Vec<Option<TcpStream>>,
    datagrams: BTreeMap<String, UdpSocket>,
}

impl Outside {
    pub fn new(server: IpAddr, addresses: Vec<IpAddr>) -> Outside {
        Outside { server, addresses, connections: Vec::new(), datagrams: BTreeMap::new() }
    }

    fn from(&self, nth: u8) -> SocketAddr {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        SocketAddr::new(self.addresses.get(usize::from(nth) - 1).copied().unwrap_or(any), 0)
    }

    fn stream(&mut self, client: usize) -> Option<&mut TcpStream> {
        self.connections[client].as_mut()
    }
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl World for Outside {
    fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    fn connect(&mut self, from: u8, port: u16) -> usize {
        let stream = connect_from(self.from(from), SocketAddr::new(self.server, port), PATIENCE).ok();
        if let Some(stream) = &stream {
            stream.set_nodelay(true).expect("an option");
            stream.set_write_timeout(Some(MOMENT)).expect("an option");
        }
        self.connections.push(stream);
        self.connections.len() - 1
    }

    fn send(&mut self, client: usize, bytes: &[u8]) -> usize {
        self.stream(client).and_then(|stream| stream.write(bytes).ok()).unwrap_or(0)
    }

    fn receive(&mut self, client: usize, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let Some(stream) = self.stream(client) else { return Vec::new() };
        let mut len = 0;
        while len < most {
            match stream.read(&mut bytes[len..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => len += n,
            }
        }
        bytes.truncate(len);
        bytes
    }

    fn sight(&mut self, client: usize) -> Sight {
        let Some(stream) = self.stream(client) else { return Sight::Reset };
        stream.set_read_timeout(Some(MOMENT)).expect("an option");
        let seen = stream.peek(&mut [0]);
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        match seen {
            Ok(0) => Sight::Ended,
            Ok(_) => Sight::Open,
            Err(error) if is_late(&error) => Sight::Open,
            Err(_) => Sight::Reset,
        }
    }

    fn finish(&mut self, client: usize) {
        if let Some(stream) = self.stream(client) {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn leave(&mut self, client: usize) {
        self.connections[client] = None;
    }

    fn reset(&mut self, client: usize) {
        if let Some(stream) = self.connections[client].take() {
            reset(stream);
        }
    }

    fn ask(&mut self, client: &str, from: u8, port: u16, bytes: &[u8]) {
        let from = self.from(from);
        let to = SocketAddr::new(self.server, port);
        let socket = self
            .datagrams
            .entry(client.into())
            .or_insert_with(|| UdpSocket::bind(from).expect("a datagram socket"));
        socket.send_to(bytes, to).expect("a datagram");
    }

    fn datagram(&mut self, client: &str, soon: bool) -> Option<Vec<u8>> {
        let socket = &self.datagrams[client];
        socket.set_read_timeout(Some(if soon { MOMENT } else { PATIENCE })).expect("an option");
        let mut bytes = [0; 2048];
        let n = socket.recv(&mut bytes).ok()?;
        Some(bytes[..n].to_vec())
    }

    fn pass(&mut self, ms: u64) {
        // Time itself is what the script is about.
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn unix(&self) -> Option<i64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        Some(now as i64)
    }
}

/// Plays all of them, each with a daemon of its own, and prints its row of the matrix.
pub fn play(name: &str, mut play: impl FnMut(&'static Script) -> bool) {
    for script in SCRIPTS {
        let began = Instant::now();
        let word = if play(script) { "passed" } else { "-" };
        println!("conformance: {name} {} {word} ({:?}): {}", script.name, began.elapsed(), script.promise());
    }
}
