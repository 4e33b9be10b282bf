// Scripts of the conformance suite, and who plays them.
//
// One script is one promise, in words, and the steps that show it. The same scripts are played on every backend: each
// backend's tests bring a [`World`] with a daemon that serves `usherd.conf`, and include this file.

extern crate std;

use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// What a client sees of its connection once nothing more comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    Open,
    /// The other side has ended it.
    Ended,
    /// Reset, or never there.
    Reset,
}

/// A network with clients, and a daemon that serves `usherd.conf`. What takes time waits for it, within a deadline.
pub trait World {
    /// Whether clients can come from several addresses.
    fn has_addresses(&self) -> bool;

    /// Begins a connection from the client's nth address (from 1); whether it comes about shows what follows.
    fn connect(&mut self, from: u8, port: u16) -> usize;

    /// Sends as much as goes now, without waiting long for room; how many bytes that were.
    fn send(&mut self, client: usize, bytes: &[u8]) -> usize;

    /// Waits until so many bytes are there, or nothing more will come; takes at most those.
    fn receive(&mut self, client: usize, most: usize) -> Vec<u8>;

    /// Waits a moment for anything to happen.
    fn sight(&mut self, client: usize) -> Sight;

    /// Half-closes.
    fn finish(&mut self, client: usize);

    /// Closes.
    fn leave(&mut self, client: usize);

    /// Closes with a reset.
    fn reset(&mut self, client: usize);

    /// A datagram from a socket that is made when it is first named.
    fn ask(&mut self, client: &str, from: u8, port: u16, bytes: &[u8]);

    /// Waits for a datagram; not long, if `soon`.
    fn datagram(&mut self, client: &str, soon: bool) -> Option<Vec<u8>>;

    /// Lets time pass.
    fn pass(&mut self, ms: u64);

    /// The time of day as the daemon has it, in seconds since 1970; `None` if it does not know.
    fn unix(&self) -> Option<i64>;
}

/// The bytes that stand for "N bytes", from the nth on: no two neighbours are alike at any distance below 251.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|n| (n % 251) as u8).collect()
}

/// xinetd's chargen: 72 characters of 93, each line beginning one further.
fn chargen(from: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| match (at / 74 % 95, at % 74) {
        (_, 72) => b'\r',
        (_, 73) => b'\n',
        (line, column) => b'!' + ((line + column) % 93) as u8,
    };
    (from..from + len).map(byte).collect()
}

/// A client of a script.
#[derive(Default)]
struct Client {
    connection: usize,
    /// Bytes of the pattern that were sent and received.
    sent: usize,
    received: usize,
    /// Bytes of chargen received.
    text: usize,
}

pub struct Script {
    pub name: &'static str,
    text: &'static str,
}

macro_rules! scripts {
    ($($name:literal)*) => {
        /// All of them, in the order of the matrix.
        pub const SCRIPTS: &[Script] =
            &[$(Script { name: $name, text: include_str!(concat!("scripts/", $name)) }),*];
    };
}

scripts! {
    "01-echo" "02-half-close" "03-many-clients" "04-bulk" "05-slow-reader" "06-discard" "07-chargen" "08-time"
    "09-datagrams" "10-burst" "11-refused-by-rule" "12-instances" "13-per-source" "14-cps" "15-nobody-listens"
    "16-reset"
}

/// What the daemon serves, for clients whose third address is that one.
pub fn configuration(third: &str) -> String {
    include_str!("usherd.conf").replace("THREE", third)
}

impl Script {
    /// What a world must have for it: its first line, if it says so.
    fn needs(&self) -> Option<&'static str> {
        self.text.lines().next()?.strip_prefix("needs ")
    }

    /// What it promises.
    pub fn promise(&self) -> &'static str {
        self.text.lines().nth(usize::from(self.needs().is_some())).unwrap_or_default()
    }

    /// Plays it; `false` if the world cannot. Panics at the step that shows something else.
    pub fn play(&self, world: &mut impl World) -> bool {
        match self.needs() {
            None => {}
            Some("addresses") if world.has_addresses() => {}
            Some("time") if world.unix().is_some() => {}
            Some("addresses" | "time") => return false,
            Some(other) => panic!("{}: nobody knows what {other} is", self.name),
        }
        let mut clients = BTreeMap::<&str, Client>::new();
        for (number, line) in self.text.lines().enumerate().skip(1 + usize::from(self.needs().is_some())) {
            let at = format!("{}:{}: {line}", self.name, number + 1);
            step(world, &mut clients, line, &at);
        }
        // Nothing of this one is left for the next one.
        for client in clients.values() {
            world.leave(client.connection);
        }
        true
    }
}

fn step(world: &mut impl World, clients: &mut BTreeMap<&'static str, Client>, line: &'static str, at: &str) {
    let (who, what) = line.split_once(' ').expect(at);
    let (what, from) = match what.rsplit_once(" from ") {
        Some((what, from)) => (what, from.parse().expect(at)),
        None => (what, 1),
    };
    if let Ok(ms) = who.parse() {
        assert_eq!(what, "ms pass", "{at}");
        return world.pass(ms);
    }
    if let Some(port) = what.strip_prefix("connects to ").or(what.strip_prefix("tries ")) {
        let connection = world.connect(from, port.parse().expect(at));
        let before = clients.insert(who, Client { connection, ..Client::default() });
        assert!(before.is_none(), "{at}: that name is taken");
        return;
    }
    if let Some(rest) = what.strip_prefix("asks ") {
        let (port, text) = rest.split_once(' ').unwrap_or((rest, ""));
        return world.ask(who, from, port.parse().expect(at), text.as_bytes());
    }
    if let Some(text) = what.strip_prefix("gets the datagram") {
        let got = world.datagram(who, false);
        return assert_eq!(got.as_deref(), Some(text.trim_start().as_bytes()), "{at}");
    }
    if what == "gets no datagram" {
        return assert_eq!(world.datagram(who, true), None, "{at}");
    }
    let number = |text: &str, behind: &str| -> Option<usize> { text.strip_suffix(behind)?.parse().ok() };
    let Some(client) = clients.get_mut(who) else {
        assert_eq!(what, "gets the time", "{at}");
        return is_now(&world.datagram(who, false).expect(at), world.unix(), at);
    };
    let connection = client.connection;
    if let Some(n) = what.strip_prefix("sends and gets ").and_then(|rest| number(rest, " bytes")) {
        let (mut sent, mut got) = (0, 0);
        while got < n {
            let piece = pattern(sent, (n - sent).min(8192));
            sent += world.send(connection, &piece);
            let most = (sent - got).min(8192);
            let back = world.receive(connection, most.min(1 + most / 2));
            assert!(!back.is_empty() && back == pattern(got, back.len()), "{at}: behind {got} bytes");
            got += back.len();
        }
    } else if let Some(n) =
        what.strip_prefix("sends ").and_then(|rest| number(rest, " bytes as far as they go"))
    {
        let mut left = n;
        while left > 0 {
            let sent = world.send(connection, &pattern(client.sent, left.min(8192)));
            if sent == 0 {
                break;
            }
            client.sent += sent;
            left -= sent;
        }
        assert!(left > 0, "{at}: all of it went, so nothing was held back");
    } else if let Some(n) = what.strip_prefix("sends ").and_then(|rest| number(rest, " bytes")) {
        let end = client.sent + n;
        while client.sent < end {
            let sent = world.send(connection, &pattern(client.sent, (end - client.sent).min(8192)));
            assert!(sent > 0, "{at}: behind {} bytes", client.sent);
            client.sent += sent;
        }
    } else if let Some(n) = what.strip_prefix("gets ").and_then(|rest| number(rest, " bytes of chargen")) {
        let got = receive(world, connection, n);
        assert!(got == chargen(client.text, n), "{at}: {} bytes: {}", got.len(), got.escape_ascii());
        client.text += n;
    } else if let Some(n) = what.strip_prefix("gets ").and_then(|rest| number(rest, " bytes")) {
        let got = receive(world, connection, n);
        assert!(got == pattern(client.received, n), "{at}: {} bytes", got.len());
        client.received += n;
    } else if let Some(text) = what.strip_prefix("sends ") {
        assert_eq!(world.send(connection, text.as_bytes()), text.len(), "{at}");
    } else {
        match what {
            "gets nothing" => assert_eq!(world.sight(connection), Sight::Open, "{at}"),
            "gets the end" => {
                let got = world.receive(connection, 1);
                assert!(got.is_empty(), "{at}: {}", got.escape_ascii());
                assert_eq!(world.sight(connection), Sight::Ended, "{at}");
            }
            "is refused" => {
                let got = world.receive(connection, 1);
                assert!(got.is_empty(), "{at}: {}", got.escape_ascii());
                assert_ne!(world.sight(connection), Sight::Open, "{at}");
            }
            "gets the time" => is_now(&receive(world, connection, 4), world.unix(), at),
            "finishes" => world.finish(connection),
            "leaves" => world.leave(connection),
            "resets" => world.reset(connection),
            _ => {
                let text = what.strip_prefix("gets ").expect(at);
                let got = receive(world, connection, text.len());
                assert_eq!(
                    got.escape_ascii().to_string(),
                    text.as_bytes().escape_ascii().to_string(),
                    "{at}"
                );
            }
        }
    }
}

/// RFC 868.
fn is_now(got: &[u8], unix: Option<i64>, at: &str) {
    let seconds = u32::from_be_bytes(got.try_into().expect(at));
    let wanted = (unix.expect(at) + 2_208_988_800) as u32;
    assert!(seconds.abs_diff(wanted) < 30, "{at}: {seconds}, not {wanted}");
}

/// All of so many bytes, or as many as come.
fn receive(world: &mut impl World, connection: usize, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let more = world.receive(connection, len - all.len());
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    all
}
