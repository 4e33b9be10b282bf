//! What a decision by hosts.allow costs: `cargo bench --bench access`.
//!
//! The files are in memory and every rule is looked at: the last one lets the client in. Nobody is asked for a name.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use usherd::config::source::Files;
use usherd::errno::Errno;
use usherd::wrappers::{Endpoint, Facts, HostName, Request, Tables, User, Verdict, Wrappers};

/// hosts.allow; there is no other file.
struct Memory(Vec<u8>);

impl Files for Memory {
    type Handle = ();

    fn open(&mut self, path: &[u8]) -> Result<(), Errno> {
        if path.ends_with(b"hosts.allow") { Ok(()) } else { Err(Errno::NOENT) }
    }

    fn read_at(&mut self, (): &(), offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let rest = &self.0[self.0.len().min(offset as usize)..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// A rule that is about somebody else, with a number in it.
type Rule = fn(usize) -> String;

const KINDS: [(&str, Rule); 6] = [
    ("another daemon", |n| format!("in.ftpd: 10.{}.{}.{}", n % 7, n % 251, n % 13)),
    ("addresses", |n| format!("ALL: 10.{}.{}.{}", n % 7, n % 251, n % 13)),
    ("networks", |n| format!("ALL: 10.{}.{}.0/24", n % 7, n % 251)),
    ("IPv6 networks", |n| format!("ALL: [2001:db8:{:x}::]/48", n % 65_536)),
    ("names", |n| format!("ALL: host{n}.example.com")),
    ("domains", |n| format!("in.telnetd sshd: .sub{n}.example.com EXCEPT bob@.example.org")),
];

fn main() {
    let request = Request {
        daemon: b"sshd",
        client: Endpoint { address: "192.0.2.7".parse().ok(), port: Some(4000), ..Endpoint::default() },
        server: Endpoint { address: "192.0.2.1".parse().ok(), port: Some(22), ..Endpoint::default() },
        pid: 1,
    };
    let facts = Facts {
        client_name: HostName::Known(b"client.example.net"),
        server_name: HostName::Unknown,
        user: User::Unknown,
        ..Facts::default()
    };
    let tables = Tables::default();
    let mut wrappers = Box::new(Wrappers::new());
    println!("{:16} {:>6} {:>12} {:>12} {:>14}", "rules about", "rules", "ns", "ns a rule", "bytes a rule");
    for (kind, rule) in KINDS {
        for rules in [10, 100, 1000] {
            let mut text = String::new();
            for n in 1..rules {
                writeln!(text, "{}", rule(n)).unwrap();
            }
            text += "sshd: 192.0.2.\n";
            let bytes = text.len();
            let mut files = Memory(text.into_bytes());
            let mut best = Duration::MAX;
            // The best of several runs of a few milliseconds: the others were disturbed.
            for _ in 0..15 {
                let times = 20_000 / rules as u32;
                let began = Instant::now();
                for _ in 0..times {
                    let verdict = wrappers.evaluate(&mut files, &tables, black_box(&request), &facts);
                    assert!(matches!(black_box(verdict), Verdict::Granted(_)));
                }
                best = best.min(began.elapsed() / times);
            }
            let ns = best.as_nanos();
            println!("{kind:16} {rules:>6} {ns:>12} {:>12} {:>14}", ns / rules as u128, bytes / rules);
        }
    }
}
