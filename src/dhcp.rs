//! An address from a DHCP server, for a machine whose network nobody else sets up (RFC 2131, options of RFC 2132).
//!
//! Packets, the time and random numbers go in; packets and leases come out. Sockets and the interface are the backend's.
//! There is one question under way at a time, and the machine is always in one of the states of RFC 2131 section 4.4:
//!
//! ```text
//!  Selecting ── offer ──> Requesting ── ack ──> Bound ── T1 ──> Renewing ── T2 ──> Rebinding
//!      ^                      │ nak, silence      ^                │ ack              │ ack
//!      │<─────────────────────┘                   └────────────────┴──────────────────┘
//!      │<────────────────────────────────────────── nak, or the lease has ended ──────┘
//! ```
//!
//! and `Rebooting`, between `Bound` and itself, when the cable was out: the address may be one of another network now.
//!
//! Not here, on purpose: asking the network whether somebody else has the address (section 2.2, a SHOULD: the kernel's
//! sockets give no ARP), giving the address back when the machine goes down (a restart wants the same one), and routes other
//! than the first router (option 121 is not asked for, so servers that keep to RFC 3442 say the router as well).

#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use heapless::Vec;

use crate::boot::line::{class_bits, mask_bits};
use crate::resolver::SERVERS;
use crate::time::Instant;

pub const SERVER_PORT: u16 = 67;
pub const CLIENT_PORT: u16 = 68;

/// The largest message that comes: RFC 2131 section 2 lets a server send no more to who has not asked for more.
pub const PACKET: usize = 576;

/// What goes out is as long: BOOTP relays drop shorter ones (RFC 1542 section 2.1).
const SENT: usize = 300;

const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Options.
mod option {
    pub const PAD: u8 = 0;
    pub const MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const NAME_SERVERS: u8 = 6;
    pub const HOSTNAME: u8 = 12;
    pub const ADDRESS: u8 = 50;
    pub const LEASE: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const WANTED: u8 = 55;
    pub const T1: u8 = 58;
    pub const T2: u8 = 59;
    pub const CLIENT: u8 = 61;
    pub const END: u8 = 255;
}

/// Kinds of messages.
mod kind {
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
}

/// Between questions: at first, and at most; it doubles (section 4.1).
const FIRST_MS: u64 = 4000;
const LONGEST_MS: u64 = 64_000;
/// Around each of those, a second to either side, so that a street after a power cut does not ask in step.
const SPREAD_MS: u64 = 1000;
/// Times an offer is asked for before others are looked for.
const REQUESTS: u8 = 4;
/// The least between questions for a longer lease (section 4.4.5).
const RENEW_MS: u64 = 60_000;
/// A lease of a server that does not say how long (a BOOTP server's), in seconds.
const DEFAULT_LEASE_S: u32 = 3600;
/// The shortest lease that is believed: less would be a flood of questions.
const SHORTEST_LEASE_S: u32 = 60;
/// And the one that never ends.
const FOR_EVER: u32 = u32::MAX;

/// What a server gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    pub address: Ipv4Addr,
    /// Of its network.
    pub bits: u8,
    pub router: Option<Ipv4Addr>,
    pub name_servers: Vec<Ipv4Addr, SERVERS, u8>,
    pub server: Ipv4Addr,
    /// `u32::MAX`: for ever.
    pub seconds: u32,
}

/// To whom a packet goes, on port 67.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    Everybody,
    Server(Ipv4Addr),
}

/// What a packet or the time has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Nothing,
    /// The address is ours, anew or for longer.
    Bound(Lease),
    /// The address we had is not ours any more.
    Lost(Lease),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The link is down.
    Off,
    Selecting,
    Requesting {
        address: Ipv4Addr,
        server: Ipv4Addr,
        left: u8,
    },
    Rebooting,
    Bound,
    Renewing,
    Rebinding,
}

/// The times of a lease, from when it was asked for.
#[derive(Clone, Copy, Debug)]
struct Times {
    t1: Instant,
    t2: Instant,
    end: Instant,
}

/// A client of one interface.
#[derive(Clone, Debug)]
pub struct Client {
    hardware: [u8; 6],
    hostname: Vec<u8, 64, u8>,
    state: State,
    /// Of the question under way.
    xid: u32,
    /// When the first packet of it went out.
    since: Instant,
    /// When the last one did: a lease counts from there.
    asked: Instant,
    /// When the next thing is to be done; `None`: nothing is.
    next: Option<Instant>,
    pause_ms: u64,
    lease: Option<Lease>,
    times: Times,
}

impl Client {
    pub fn new(hardware: [u8; 6], hostname: &[u8]) -> Client {
        let zero = Instant(0);
        Client {
            hardware,
            hostname: Vec::from_slice(hostname).unwrap_or_default(),
            state: State::Off,
            xid: 0,
            since: zero,
            asked: zero,
            next: None,
            pause_ms: FIRST_MS,
            lease: None,
            times: Times { t1: zero, t2: zero, end: zero },
        }
    }

    /// The address that is ours.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The link is up: asks at once, for the address it had if it had one.
    pub fn link_up(&mut self, now: Instant, random: u32) {
        self.begin(if self.lease.is_some() { State::Rebooting } else { State::Selecting }, now, random);
    }

    /// The link is down: nobody would answer. The address stays until its lease ends.
    pub fn link_down(&mut self) {
        self.state = State::Off;
        self.next = self.lease.as_ref().filter(|lease| lease.seconds != FOR_EVER).map(|_| self.times.end);
    }

    fn begin(&mut self, state: State, now: Instant, random: u32) {
        self.state = state;
        self.xid = random;
        self.since = now;
        self.pause_ms = FIRST_MS;
        self.next = Some(now);
    }

    /// Does what the time asks for. Writes a packet to `packet`, if one is to go out: to whom, and how much of it.
    pub fn turn(
        &mut self,
        now: Instant,
        random: u32,
        packet: &mut [u8; PACKET],
    ) -> (Change, Option<(To, usize)>) {
        if self.next.is_none_or(|next| next > now) {
            return (Change::Nothing, None);
        }
        if self.has_ended(now) {
            let change = self.lose();
            if self.state == State::Off {
                self.next = None;
                return (change, None);
            }
            self.begin(State::Selecting, now, random);
            return (change, self.ask(now, random, packet));
        }
        match self.state {
            State::Off => self.next = None,
            State::Bound if self.times.t2 <= now => self.begin(State::Rebinding, now, random),
            State::Bound => self.begin(State::Renewing, now, random),
            State::Renewing if self.times.t2 <= now => self.begin(State::Rebinding, now, random),
            State::Requesting { left: 0, .. } => self.begin(State::Selecting, now, random),
            // Nobody here knows the address, or cares: section 3.2 lets us go on with it.
            State::Rebooting if self.pause_ms > 2 * FIRST_MS => {
                self.rest(now);
                return (Change::Nothing, None);
            }
            State::Selecting
            | State::Requesting { .. }
            | State::Rebooting
            | State::Renewing
            | State::Rebinding => {}
        }
        (Change::Nothing, self.ask(now, random, packet))
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.seconds != FOR_EVER) && self.times.end <= now
    }

    fn lose(&mut self) -> Change {
        self.lease.take().map_or(Change::Nothing, Change::Lost)
    }

    /// Bound, with nothing to do before T1.
    fn rest(&mut self, now: Instant) {
        self.state = State::Bound;
        let ends = self.lease.as_ref().is_some_and(|lease| lease.seconds != FOR_EVER);
        // T1 is over already if the address was kept while the link was down.
        self.next = ends.then(|| self.times.t1.max(now));
    }

    /// Writes the question of this state, and says when it is to be asked again.
    fn ask(&mut self, now: Instant, random: u32, packet: &mut [u8; PACKET]) -> Option<(To, usize)> {
        let ours = self.lease.as_ref().map(|lease| (lease.address, lease.server));
        let (message, to) = match (self.state, ours) {
            (State::Off | State::Bound, _) => return None,
            (State::Selecting, _) => (Message::discover(), To::Everybody),
            (State::Requesting { address, server, left }, _) => {
                self.state = State::Requesting { address, server, left: left.saturating_sub(1) };
                (Message::request(Some(address), Some(server), None), To::Everybody)
            }
            (State::Rebooting, Some((address, _))) => {
                (Message::request(Some(address), None, None), To::Everybody)
            }
            (State::Renewing, Some((address, server))) => {
                (Message::request(None, None, Some(address)), To::Server(server))
            }
            (State::Rebinding, Some((address, _))) => {
                (Message::request(None, None, Some(address)), To::Everybody)
            }
            // There is a lease in these states.
            (State::Rebooting | State::Renewing | State::Rebinding, None) => return None,
        };
        self.asked = now;
        let wait = match self.state {
            // Half of what is left (section 4.4.5), and not beyond it.
            State::Renewing | State::Rebinding => {
                let until = if self.state == State::Renewing { self.times.t2 } else { self.times.end };
                let left = until.since_ms(now);
                (left / 2).max(RENEW_MS).min(left)
            }
            _ => {
                let pause = self.pause_ms;
                self.pause_ms = (pause * 2).min(LONGEST_MS);
                pause - SPREAD_MS + u64::from(random) % (2 * SPREAD_MS)
            }
        };
        let end = self.lease.as_ref().filter(|lease| lease.seconds != FOR_EVER).map(|_| self.times.end);
        // The end of a lease is looked at in time, whatever is asked meanwhile.
        self.next = [Some(now.plus_ms(wait)), end].into_iter().flatten().min();
        let len = self.write(&message, now, packet)?;
        Some((to, len))
    }

    fn write(&self, message: &Message, now: Instant, packet: &mut [u8; PACKET]) -> Option<usize> {
        packet.fill(0);
        let mut out = Writer { packet, at: 0 };
        // Request, Ethernet, six bytes of address, no hops.
        out.put(&[1, 1, 6, 0])?;
        out.put(&self.xid.to_be_bytes())?;
        out.put(&u16::try_from(now.since_s(self.since)).unwrap_or(u16::MAX).to_be_bytes())?;
        // Answers to all: a machine without an address hears no others (section 4.1). With one they come to it.
        out.put(if message.ours.is_some() { &[0, 0] } else { &[0x80, 0] })?;
        out.put(&message.ours.unwrap_or(Ipv4Addr::UNSPECIFIED).octets())?;
        out.at = 28;
        out.put(&self.hardware)?;
        out.at = FIXED;
        out.put(&COOKIE)?;
        out.option(option::KIND, &[message.kind])?;
        // Hardware type and address: the same machine gets the same address.
        let mut client = [1; 7];
        client[1..].copy_from_slice(&self.hardware);
        out.option(option::CLIENT, &client)?;
        if let Some(address) = message.wanted {
            out.option(option::ADDRESS, &address.octets())?;
        }
        if let Some(server) = message.server {
            out.option(option::SERVER, &server.octets())?;
        }
        if !self.hostname.is_empty() {
            out.option(option::HOSTNAME, &self.hostname)?;
        }
        let wanted =
            [option::MASK, option::ROUTER, option::NAME_SERVERS, option::LEASE, option::T1, option::T2];
        out.option(option::WANTED, &wanted)?;
        out.put(&[option::END])?;
        Some(out.at.max(SENT))
    }

    /// Takes a packet that came to port 68 from port 67.
    pub fn receive(&mut self, packet: &[u8], now: Instant, random: u32) -> Change {
        let Some(answer) = Answer::read(packet, self.xid, &self.hardware) else { return Change::Nothing };
        match (self.state, answer.kind) {
            (State::Selecting, kind::OFFER) => {
                if let Some(server) = answer.server
                    && is_usable(answer.address)
                {
                    // The first is as good as any. The same number goes on (section 4.4.1).
                    self.state = State::Requesting { address: answer.address, server, left: REQUESTS };
                    self.pause_ms = FIRST_MS;
                    self.next = Some(now);
                }
                Change::Nothing
            }
            (State::Requesting { server, address, .. }, kind::ACK)
                if answer.server == Some(server) && answer.address == address =>
            {
                self.bind(&answer, server, now)
            }
            (State::Rebooting | State::Renewing | State::Rebinding, kind::ACK) => {
                let Some((address, server)) = self.lease.as_ref().map(|lease| (lease.address, lease.server))
                else {
                    return Change::Nothing;
                };
                // Another address than the one that was asked for would be another question's.
                if answer.address != address {
                    return Change::Nothing;
                }
                self.bind(&answer, answer.server.unwrap_or(server), now)
            }
            (State::Requesting { server, .. }, kind::NAK) if answer.server == Some(server) => {
                self.begin(State::Selecting, now, random);
                // Not at once: a server that offers what it then refuses would be asked for ever.
                self.next = Some(now.plus_ms(FIRST_MS));
                Change::Nothing
            }
            (State::Rebooting | State::Renewing | State::Rebinding, kind::NAK) => {
                self.begin(State::Selecting, now, random);
                self.lose()
            }
            _ => Change::Nothing,
        }
    }

    fn bind(&mut self, answer: &Answer, server: Ipv4Addr, now: Instant) -> Change {
        if !is_usable(answer.address) {
            return Change::Nothing;
        }
        let seconds = answer.seconds.unwrap_or(DEFAULT_LEASE_S).max(SHORTEST_LEASE_S);
        // Section 4.4.5; what a server says holds if it is in order.
        let t1 = answer.t1.filter(|t1| *t1 < seconds).unwrap_or(seconds / 2);
        let most = u64::from(seconds) * 7 / 8;
        let t2 = answer.t2.filter(|t2| (t1..seconds).contains(t2)).map_or(most.max(t1.into()), u64::from);
        let at = |s: u64| self.asked.plus_s(s);
        self.times = Times { t1: at(t1.into()), t2: at(t2), end: at(seconds.into()) };
        let lease = Lease {
            address: answer.address,
            bits: answer.bits.unwrap_or(class_bits(answer.address)),
            router: answer.router.filter(|router| is_usable(*router)),
            name_servers: answer.name_servers.clone(),
            server,
            seconds,
        };
        self.lease = Some(lease.clone());
        self.rest(now);
        Change::Bound(lease)
    }
}

/// What a packet of ours says.
struct Message {
    kind: u8,
    /// The address we ask for.
    wanted: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    /// The address we have and answer at (`ciaddr`).
    ours: Option<Ipv4Addr>,
}

impl Message {
    const fn discover() -> Message {
        Message { kind: kind::DISCOVER, wanted: None, server: None, ours: None }
    }

    const fn request(wanted: Option<Ipv4Addr>, server: Option<Ipv4Addr>, ours: Option<Ipv4Addr>) -> Message {
        Message { kind: kind::REQUEST, wanted, server, ours }
    }
}

struct Writer<'p> {
    packet: &'p mut [u8; PACKET],
    at: usize,
}

impl Writer<'_> {
    /// `None` if it does not fit, which is never so: the longest options make 350 bytes.
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.packet.get_mut(self.at..self.at + bytes.len())?.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }

    fn option(&mut self, code: u8, value: &[u8]) -> Option<()> {
        self.put(&[code, u8::try_from(value.len()).ok()?])?;
        self.put(value)
    }
}

/// What of a server's message is of use.
struct Answer {
    kind: u8,
    address: Ipv4Addr,
    server: Option<Ipv4Addr>,
    bits: Option<u8>,
    router: Option<Ipv4Addr>,
    name_servers: Vec<Ipv4Addr, SERVERS, u8>,
    seconds: Option<u32>,
    t1: Option<u32>,
    t2: Option<u32>,
}

impl Answer {
    /// `None` for what is no answer to that question, or not whole.
    fn read(packet: &[u8], xid: u32, hardware: &[u8; 6]) -> Option<Answer> {
        let word = |at: usize| packet.get(at..at + 4)?.first_chunk::<4>().copied();
        let is_ours = packet.get(..3) == Some(&[2, 1, 6])
            && word(4)? == xid.to_be_bytes()
            && packet.get(28..34)? == hardware
            && word(FIXED)? == COOKIE;
        if !is_ours {
            return None;
        }
        let mut answer = Answer {
            kind: 0,
            address: Ipv4Addr::from(word(16)?),
            server: None,
            bits: None,
            router: None,
            name_servers: Vec::new(),
            seconds: None,
            t1: None,
            t2: None,
        };
        let overload = answer.options(packet.get(FIXED + 4..)?)?;
        // RFC 2132 section 9.3: more options where a file's and the server's name would stand.
        if overload & 1 != 0 {
            answer.options(packet.get(108..236)?)?;
        }
        if overload & 2 != 0 {
            answer.options(packet.get(44..108)?)?;
        }
        Some(answer)
    }

    /// Reads options up to their end; the value of OVERLOAD. `None` if one goes beyond the end of the field.
    fn options(&mut self, mut rest: &[u8]) -> Option<u8> {
        let mut overload = 0;
        loop {
            match rest {
                // Without END: there are servers that leave it out.
                [] | [option::END, ..] => return Some(overload),
                [option::PAD, after @ ..] => rest = after,
                [code, len, after @ ..] => {
                    let value = after.get(..usize::from(*len))?;
                    rest = after.get(usize::from(*len)..)?;
                    if *code == option::OVERLOAD {
                        overload = *value.first()?;
                    }
                    self.option(*code, value);
                }
                [_] => return None,
            }
        }
    }

    fn option(&mut self, code: u8, value: &[u8]) {
        let number = value.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        let address = number.map(Ipv4Addr::from_bits);
        match code {
            option::KIND => self.kind = value.first().copied().unwrap_or(0),
            option::SERVER => self.server = address,
            option::MASK => self.bits = address.and_then(mask_bits),
            // The first is the one to prefer (RFC 2132 section 3.5).
            option::ROUTER => self.router = address,
            option::NAME_SERVERS => {
                for bytes in value.chunks_exact(4) {
                    let server = bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes));
                    if let Some(server) = server.filter(|server| is_usable(*server)) {
                        let _ = self.name_servers.push(server);
                    }
                }
            }
            option::LEASE => self.seconds = number,
            option::T1 => self.t1 = number,
            option::T2 => self.t2 = number,
            _ => {}
        }
    }
}

/// Whether a machine can have that address.
fn is_usable(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] > 239)
}

#[cfg(test)]
mod tests;
