//! What a daemon asks of the world, faked inside the test's network: name servers and ident servers.

use super::PATIENCE;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A name server on port 53 of 127.0.0.1, the only one in resolv.conf.
pub struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
}

impl NameServer {
    /// Answers from these records, `TYPE NAME VALUE`: `PTR 127.0.0.1 a.test`, `A a.test 127.0.0.1`, `AAAA ...`. A value
    /// `SILENCE` keeps silent. There is nothing else in its world.
    pub fn start(net: &super::Net, records: &[&str]) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("bind the name server");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("time-out");
        let mut world = BTreeMap::<String, Vec<String>>::new();
        for record in records {
            let words: Vec<&str> = record.split(' ').collect();
            let [kind, name, value] = words[..] else { panic!("{record}") };
            let name = if kind == "PTR" { reverse(name.parse().expect("an address")) } else { name.into() };
            world.entry(format!("{kind} {name}")).or_default().push(value.into());
        }
        let server = NameServer { asked: Arc::default(), over: Arc::default() };
        let (asked, over) = (server.asked.clone(), server.over.clone());
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while !over.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut query) else { continue };
                let (question, end) = question(&query[..len]);
                asked.lock().expect("questions").push(question.clone());
                let values = world.get(&question).cloned().unwrap_or_default();
                if !values.iter().any(|value| value == "SILENCE") {
                    let _ = socket.send_to(&answer(&query[..end], &question, &values), from);
                }
            }
        });
        net.write("/etc/resolv.conf", "nameserver 127.0.0.1\n");
        server
    }

    /// What was asked so far: `PTR 1.0.0.127.in-addr.arpa`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("questions").clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn reverse(address: IpAddr) -> String {
    let labels: Vec<String> = match address {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(u8::to_string).collect(),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    let zone = if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
    format!("{}.{zone}", labels.join("."))
}

/// `TYPE NAME` of the one question, and where it ends.
fn question(query: &[u8]) -> (String, usize) {
    let mut at = 12;
    let mut labels = vec![];
    while query[at] != 0 {
        let len = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + len]).to_ascii_lowercase());
        at += 1 + len;
    }
    let kind = match query[at + 2] {
        1 => "A",
        12 => "PTR",
        28 => "AAAA",
        other => panic!("type {other}"),
    };
    (format!("{kind} {}", labels.join(".")), at + 5)
}

fn answer(query: &[u8], question: &str, values: &[String]) -> Vec<u8> {
    let kind = question.split(' ').next().expect("a type");
    let mut out = query.to_vec();
    // A response, recursion available; NXDOMAIN where there is nothing.
    (out[2], out[3]) = (0x81, if values.is_empty() { 0x83 } else { 0x80 });
    (out[6], out[7]) = (0, values.len() as u8);
    out[8..12].fill(0);
    for value in values {
        let (number, data): (u8, Vec<u8>) = match kind {
            "A" => (1, value.parse::<std::net::Ipv4Addr>().expect("an address").octets().into()),
            "AAAA" => (28, value.parse::<std::net::Ipv6Addr>().expect("an address").octets().into()),
            _ => {
                let labels = value.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat());
                (12, labels.chain([0]).collect())
            }
        };
        out.extend([0xc0, 12, 0, number, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
        out.extend(data);
    }
    out
}

/// An ident server on port 113 of every address.
pub struct IdentServer {
    asked: Arc<Mutex<Vec<String>>>,
    to: SocketAddr,
    over: Arc<AtomicBool>,
}

impl IdentServer {
    /// Answers each `client,server` question with what `reply` does, on a thread for each.
    pub fn start(reply: impl Fn(&str, TcpStream) + Send + Sync + 'static) -> IdentServer {
        let listener = TcpListener::bind("[::]:113").expect("bind the ident server");
        let to = "127.0.0.1:113".parse().expect("an address");
        let server = IdentServer { asked: Arc::default(), to, over: Arc::default() };
        let (asked, over) = (server.asked.clone(), server.over.clone());
        let reply = Arc::new(reply);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (asked, reply) = (asked.clone(), reply.clone());
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
                    let mut line = String::new();
                    let clone = stream.try_clone().expect("clone a socket");
                    let _ = BufReader::new(clone).read_line(&mut line);
                    asked.lock().expect("questions").push(line.clone());
                    reply(line.trim_end(), stream);
                });
            }
        });
        server
    }

    /// Says that everybody is this user.
    pub fn of(user: &'static str) -> IdentServer {
        IdentServer::start(move |ports, mut stream| {
            use std::io::Write;
            let _ = stream.write_all(format!("{ports} : USERID : UNIX : {user}\r\n").as_bytes());
        })
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("questions").clone()
    }
}

impl Drop for IdentServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect_timeout(&self.to, Duration::from_millis(100));
    }
}
