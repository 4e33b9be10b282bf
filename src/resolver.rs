//! Names of addresses and addresses of names, asked for without waiting.
//!
//! ```text
//!  name_of, addresses_of ──> entry ──> hosts file ──────────────────────────────> ended, kept for a while
//!                              │                                                    ^
//!                              └──> question ──> answered ──> the next question ────┤
//!                                      └──────── tick ──────> the next server ──────┘
//! ```
//!
//! A client never waits here, its connection does: the engine asks [`name_of`](Resolver::name_of), puts the client
//! aside while the answer is [`Pending`](Lookup::Pending), and goes on when [`answered`](Resolver::answered) or
//! [`tick`](Resolver::tick) tells that the look-up has ended. Then [`name`](Resolver::name) has the outcome. An ended
//! look-up can be read for at least [`KEEP_MS`]: long enough for those who waited, and after that as long as its records
//! say and its place is not needed. Whoever asks for the same thing shares one look-up.
//!
//! One address, or one IPv6 /64, has no more than [`NAMES_EACH`] of the places at a time: who has no name, or name
//! servers that are slow, keeps nobody else from being asked about.
//!
//! # The name of an address
//!
//! The hosts file first: it is the administrator's word, and what it says is [`Known`](HostName::Known). Else the PTR record
//! is asked for, and then the addresses of the name it gives, for anyone may call his own addresses what he likes:
//!
//! | what was found | name |
//! |---|---|
//! | a name whose addresses (A for IPv4, AAAA for IPv6; the hosts file's, if it has the name) hold the address | `Known` |
//! | a name that does not lead back: others' addresses, none, an alias, nobody who answers | `Paranoid` |
//! | a name that could be taken for an address | `Paranoid` |
//! | no PTR record, no such name, nobody who answers | `Unknown` |
//! | a name of more than 127 bytes, or of other bytes than letters, digits, `-`, `_` and dots, or with `-` first | `Unknown` |
//!
//! This is libwrap's table. Once there is a name it is `Known` or `Paranoid`, whatever kept it from being verified, so
//! that nobody escapes `ALL: PARANOID` by having a name server that keeps silent. That the name itself is an alias (CNAME)
//! makes it `Paranoid` as it does there; an alias *before* it is how networks smaller than an octet are delegated
//! (RFC 2317), and is followed. Names that are unfit are `Unknown`, as they are to a resolver library that does not
//! hand them out; no rule with a name matches either.
//!
//! # What it does not do
//!
//! No TCP: of an answer cut to 512 bytes (TC) what it still holds is used, if it decides. No search list: names are
//! whole. No DNSSEC, and no trust in an answer but that it comes from the address and port that was asked, to the port
//! that asked, with the number and the question that was sent: every question has a socket of its own, so a stranger has
//! 32 bits to guess in the second he has.

#![forbid(unsafe_code)]

mod conf;
pub mod dns;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, SocketAddr};

use heapless::Vec;

pub use crate::addr::HostName;
pub use conf::SERVERS;

use crate::addr::{Prefix, plain};
use crate::capacity::NAMES;
use crate::config::source::Files;
use crate::errno::Errno;
use crate::names;
use crate::slots::Handle;
use crate::time::Instant;
use conf::Conf;
use dns::{Answer, Kind, MESSAGE_BYTES, Name, Said};

/// A look-up ends after so many milliseconds, whatever is still to be asked.
pub const LOOKUP_MS: u64 = 5000;

/// An ended look-up can be read at least so long, in milliseconds.
pub const KEEP_MS: u64 = 100;

/// Look-ups of the names of one address, or of one IPv6 /64, that can be under way.
pub const NAMES_EACH: usize = if NAMES < 8 { 1 } else { NAMES / 8 };

/// Addresses of a name that are kept.
pub const ADDRESSES: usize = 4;

/// An outcome is kept as many seconds as its records say, but not less and not more than this.
const FOUND_S: (u32, u32) = (5, 300);
/// The same where there is nothing, or nothing good.
const NOTHING_S: (u32, u32) = (5, 60);
/// How long the hosts file is believed before it is read again, and how long nobody's answer.
const SHORT_S: u32 = 5;

/// Datagrams looked at when a question's socket is readable: a stranger who floods it gets no more than this a turn.
const DATAGRAMS_A_TURN: usize = 8;

/// Names a question: its look-up's slot, and which of the slot's questions it is. An event for a question that was asked
/// again or given up is recognised by it.
pub type QuestionId = Handle;

/// Names a look-up that has ended.
pub type LookupId = Handle;

/// What the resolver asks of the backend.
pub trait Network {
    /// A datagram socket connected to a name server. Dropping it closes it, and ends the watch on it.
    type Question;

    /// Sends `query` from a new socket, on a port of its own that the system chose at random, and watches it: when it
    /// is readable or has an error, [`Resolver::answered`] wants to know `id`.
    fn ask(&mut self, id: QuestionId, server: SocketAddr, query: &[u8]) -> Result<Self::Question, Errno>;

    /// Takes a datagram from the server, never waits: [`Errno::AGAIN`] if there is none. A longer one is cut to `buf`.
    fn answer(&mut self, question: &Self::Question, buf: &mut [u8]) -> Result<usize, Errno>;

    /// A number that nobody can guess.
    fn random(&mut self) -> u32;
}

/// Where the system keeps what the resolver reads.
#[derive(Clone, Copy, Debug)]
pub struct Paths {
    pub resolv_conf: &'static [u8],
    pub hosts: &'static [u8],
    /// The directory with a directory for every network interface, for name servers with a link in their address.
    pub interfaces: &'static [u8],
}

impl Default for Paths {
    fn default() -> Self {
        Paths { resolv_conf: b"/etc/resolv.conf", hosts: b"/etc/hosts", interfaces: b"/sys/class/net" }
    }
}

/// What becomes of a wish to know something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// It is known.
    Done,
    /// It is being asked for; the end will be told.
    Pending,
    /// Nothing more can be asked for now: all of [`NAMES`] are being asked for, or ended less than [`KEEP_MS`] ago; or
    /// [`NAMES_EACH`] are of the same holder.
    Full,
}

/// What a look-up was for.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject<'a> {
    /// The name of this address.
    NameOf(IpAddr),
    /// The addresses of this name.
    AddressesOf(&'a [u8]),
}

/// Look-ups under way, and what came of those before.
///
/// Zeros until something is asked, so that a static costs no file size and no memory. `Q` is a [`Network::Question`].
pub struct Resolver<Q> {
    entries: Vec<Entry<Q>, NAMES>,
    settings: Option<Settings>,
}

struct Settings {
    conf: Conf,
    paths: Paths,
}

struct Entry<Q> {
    generation: u16,
    wanted: Wanted,
    /// The name whose addresses are wanted; or the name found, which may not be verified yet.
    name: Name,
    /// The address whose name is wanted, alone; or the addresses found.
    addresses: Vec<IpAddr, ADDRESSES, u8>,
    state: State<Q>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    Name,
    Addresses,
}

enum State<Q> {
    Asking(Asking<Q>),
    Ended { at: Instant, until: Instant, outcome: Outcome },
}

struct Asking<Q> {
    /// `None` between two servers.
    question: Option<Q>,
    kind: Kind,
    id: u16,
    /// Which server, counted on and on.
    server: u8,
    /// How often this may still be asked, and how often each question may.
    tries: u8,
    all_tries: u8,
    /// When the next server is asked.
    next: Instant,
    /// When all ends.
    end: Instant,
    /// For how long everything found so far is good.
    seconds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Unknown,
    Paranoid,
    /// The name is verified; the addresses are found, if there are any.
    Found,
}

impl<Q> Resolver<Q> {
    /// What one more of [`NAMES`] costs.
    pub const BYTES_EACH: usize = size_of::<Entry<Q>>();

    pub const fn new() -> Self {
        Resolver { entries: Vec::new(), settings: None }
    }

    /// Reads whom to ask. Done by itself before each look-up, for name servers come and go with networks; the paths of
    /// the last time hold, or the usual ones. If the file cannot be read, what was known before holds, or else the server
    /// on this machine is asked.
    pub fn configure<F: Files>(&mut self, files: &mut F, paths: Paths) -> Result<(), Errno> {
        let read = Conf::read(files, paths.resolv_conf, paths.interfaces);
        let (conf, outcome) = match (read, self.settings.take()) {
            (Ok(conf), _) => (conf, Ok(())),
            (Err(errno), Some(before)) => (before.conf, Err(errno)),
            (Err(errno), None) => (Conf::default(), Err(errno)),
        };
        self.settings = Some(Settings { conf, paths });
        outcome
    }

    /// Wants the verified name of an address.
    pub fn name_of<F: Files, N: Network<Question = Q>>(
        &mut self,
        address: IpAddr,
        now: Instant,
        files: &mut F,
        network: &mut N,
    ) -> Lookup {
        let address = plain(address);
        let at = match self.begin(self.place_of_name(address), Some(address), now) {
            Ok(at) => at,
            Err(lookup) => return lookup,
        };
        let hosts = self.refresh(files);
        let known = names::name_at(files, hosts, address, |name| {
            Name::from_slice(name).ok().filter(|name| dns::is_host_name(name) && !dns::is_numeric(name))
        });
        let Some(entry) = self.entries.get_mut(at) else { return Lookup::Full };
        entry.wanted = Wanted::Name;
        // Just emptied, so it fits.
        let _ = entry.addresses.push(address);
        match known {
            Ok(Some(name)) => {
                entry.name = name;
                entry.end(now, Outcome::Found, SHORT_S);
                return Lookup::Done;
            }
            Ok(None) => self.start(at, Kind::Ptr, now),
            // It may hold the address. Whoever it is, he is not made out to be another.
            Err(_) => {
                entry.end(now, Outcome::Unknown, SHORT_S);
                return Lookup::Done;
            }
        }
        self.lookup(at, now, network)
    }

    /// Wants the addresses of a name, up to [`ADDRESSES`], those of IPv4 first.
    pub fn addresses_of<F: Files, N: Network<Question = Q>>(
        &mut self,
        name: &[u8],
        now: Instant,
        files: &mut F,
        network: &mut N,
    ) -> Lookup {
        let name = whole(name);
        // Nobody has such a name.
        let Some(key) = Name::from_slice(name).ok().filter(|key| dns::is_host_name(key)) else {
            return Lookup::Done;
        };
        let at = match self.begin(self.place_of_addresses(name), None, now) {
            Ok(at) => at,
            Err(lookup) => return lookup,
        };
        let hosts = self.refresh(files);
        let Some(entry) = self.entries.get_mut(at) else { return Lookup::Full };
        entry.wanted = Wanted::Addresses;
        entry.name = key;
        let known = names::addresses_of(files, hosts, name, |address| {
            entry.keep(address);
            true
        });
        let is_here = known != Ok(false) || is_localhost(name) || dns::is_numeric(name);
        if is_here {
            if let Some(address) = core::str::from_utf8(name).ok().and_then(|text| text.parse().ok()) {
                entry.keep(address);
            }
            entry.end(now, Outcome::Found, SHORT_S);
            return Lookup::Done;
        }
        self.start(at, Kind::A, now);
        self.lookup(at, now, network)
    }

    /// The name of an address, if it was asked for and the outcome still holds.
    pub fn name(&self, address: IpAddr, now: Instant) -> HostName<'_> {
        let place = self.place_of_name(plain(address));
        let Some(entry) = place.and_then(|at| self.entries.get(at)) else { return HostName::NotAsked };
        match entry.outcome(now) {
            None => HostName::NotAsked,
            Some(Outcome::Unknown) => HostName::Unknown,
            Some(Outcome::Paranoid) => HostName::Paranoid,
            Some(Outcome::Found) => HostName::Known(&entry.name),
        }
    }

    /// The addresses of a name, if they were asked for and the outcome still holds: none where there are none.
    pub fn addresses(&self, name: &[u8], now: Instant) -> Option<&[IpAddr]> {
        let name = whole(name);
        if !dns::is_host_name(name) {
            return Some(&[]);
        }
        let entry = self.entries.get(self.place_of_addresses(name)?)?;
        entry.outcome(now).map(|_| entry.addresses.as_slice())
    }

    #[cfg(any(test, feature = "sim"))]
    /// What a look-up was for that has ended; `None` if its slot is another's by now.
    pub fn subject(&self, id: LookupId) -> Option<Subject<'_>> {
        let entry =
            self.entries.get(usize::from(id.index)).filter(|entry| entry.generation == id.generation)?;
        match entry.wanted {
            Wanted::Name => entry.addresses.first().copied().map(Subject::NameOf),
            Wanted::Addresses => Some(Subject::AddressesOf(&entry.name)),
        }
    }

    /// A question's socket is readable, or has an error. The look-up, if this was its end.
    pub fn answered<F: Files, N: Network<Question = Q>>(
        &mut self,
        id: QuestionId,
        now: Instant,
        files: &mut F,
        network: &mut N,
    ) -> Option<LookupId> {
        let at = usize::from(id.index);
        let hosts = self.paths().hosts;
        let entry = self.entries.get_mut(at).filter(|entry| entry.generation == id.generation)?;
        let name = entry.name_asked();
        let State::Asking(asking) = &mut entry.state else { return None };
        let question = asking.question.as_ref()?;
        let mut buf = [0; MESSAGE_BYTES];
        let mut left = DATAGRAMS_A_TURN;
        let answer = loop {
            left = left.checked_sub(1)?;
            match network.answer(question, &mut buf) {
                Err(Errno::AGAIN | Errno::INTR) => return None,
                // Nobody listens there (ICMP), or the network is gone.
                Err(_) => break None,
                Ok(len) => {
                    let message = buf.get(..len).unwrap_or(&[]);
                    // Anything else was sent by a stranger or too late, and the answer may still come.
                    if let Some(answer) = Answer::to(message, asking.id, &name, asking.kind) {
                        break Some(answer);
                    }
                }
            }
        };
        match answer {
            Some(answer) => entry.learn(&answer, now, files, hosts),
            None => asking.pass(),
        }
        self.go_on(at, now, network)
    }

    /// Time has passed. Ask until there is no more: one look-up, if this was its end.
    pub fn tick<N: Network<Question = Q>>(&mut self, now: Instant, network: &mut N) -> Option<LookupId> {
        for at in 0..self.entries.len() {
            let Some(State::Asking(asking)) = self.entries.get_mut(at).map(|entry| &mut entry.state) else {
                continue;
            };
            if now < asking.next {
                continue;
            }
            asking.pass();
            if let Some(ended) = self.go_on(at, now, network) {
                return Some(ended);
            }
        }
        None
    }

    /// When [`tick`](Resolver::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.entries
            .iter()
            .filter_map(|entry| match &entry.state {
                State::Asking(asking) => Some(asking.next),
                State::Ended { .. } => None,
            })
            .min()
    }

    fn paths(&self) -> Paths {
        self.settings.as_ref().map_or_else(Paths::default, |settings| settings.paths)
    }

    /// Reads again whom to ask, and tells where the hosts file is.
    fn refresh<F: Files>(&mut self, files: &mut F) -> &'static [u8] {
        let paths = self.paths();
        // Nobody is there to be told, and there is an answer to it.
        let _ = self.configure(files, paths);
        paths.hosts
    }

    /// Look-ups under way.
    pub fn asking(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.state, State::Asking(_))).count()
    }

    fn place_of_name(&self, address: IpAddr) -> Option<usize> {
        let is_it = |e: &Entry<Q>| e.wanted == Wanted::Name && e.addresses.first() == Some(&address);
        self.entries.iter().position(is_it)
    }

    fn place_of_addresses(&self, name: &[u8]) -> Option<usize> {
        let is_it = |e: &Entry<Q>| e.wanted == Wanted::Addresses && e.name.eq_ignore_ascii_case(name);
        self.entries.iter().position(is_it)
    }

    /// An empty entry for what is wanted, at its own `place` or a new one; or why there is no need or no room.
    fn begin(&mut self, place: Option<usize>, of: Option<IpAddr>, now: Instant) -> Result<usize, Lookup> {
        let same = place.and_then(|at| self.entries.get(at));
        match same.map(|entry| (&entry.state, entry.outcome(now))) {
            Some((State::Asking(_), _)) => return Err(Lookup::Pending),
            Some((_, Some(_))) => return Err(Lookup::Done),
            _ => {}
        }
        if let Some(holder) = of.map(Prefix::holder) {
            let own = |entry: &&Entry<Q>| {
                entry.wanted == Wanted::Name
                    && matches!(entry.state, State::Asking(_))
                    && entry.addresses.first().copied().map(Prefix::holder) == Some(holder)
            };
            if self.entries.iter().filter(own).count() >= NAMES_EACH {
                return Err(Lookup::Full);
            }
        }
        let at = match place {
            Some(at) => at,
            None if self.entries.push(Entry::new(now)).is_ok() => self.entries.len() - 1,
            None => {
                let ended = |(at, entry): (usize, &Entry<Q>)| match entry.state {
                    State::Ended { at: end, .. } if now.since_ms(end) >= KEEP_MS => Some((end, at)),
                    _ => None,
                };
                let oldest = self.entries.iter().enumerate().filter_map(ended).min();
                oldest.map(|(_, at)| at).ok_or(Lookup::Full)?
            }
        };
        let entry = self.entries.get_mut(at).ok_or(Lookup::Full)?;
        // What was known of whom it was before is known by its old number alone.
        *entry = Entry { generation: entry.generation.wrapping_add(1), ..Entry::new(now) };
        Ok(at)
    }

    fn lookup<N: Network<Question = Q>>(&mut self, at: usize, now: Instant, network: &mut N) -> Lookup {
        if self.go_on(at, now, network).is_some() { Lookup::Done } else { Lookup::Pending }
    }

    /// Begins to ask; [`go_on`](Resolver::go_on) sends the question.
    fn start(&mut self, at: usize, kind: Kind, now: Instant) {
        if let Some(entry) = self.entries.get_mut(at) {
            let tries = self.settings.as_ref().map_or(0, |settings| settings.conf.tries());
            entry.state = State::Asking(Asking {
                question: None,
                kind,
                id: 0,
                server: 0,
                tries,
                all_tries: tries,
                next: now,
                end: now.plus_ms(LOOKUP_MS),
                seconds: u32::MAX,
            });
        }
    }

    /// Sends what is to be asked next to the first server that takes it. The look-up, if nothing is left to be asked.
    fn go_on<N: Network<Question = Q>>(
        &mut self,
        at: usize,
        now: Instant,
        network: &mut N,
    ) -> Option<LookupId> {
        let entry = self.entries.get_mut(at)?;
        let index = at as u16;
        loop {
            let name = entry.name_asked();
            let State::Asking(asking) = &mut entry.state else {
                return Some(LookupId { index, generation: entry.generation });
            };
            if asking.question.is_some() {
                return None;
            }
            // Each turn has one try less, or the question after the last one, or the end.
            let conf = &self.settings.as_ref()?.conf;
            match conf.server(asking.server).filter(|_| asking.tries > 0 && now < asking.end) {
                None => entry.give_up(now),
                Some(server) => {
                    asking.tries -= 1;
                    asking.id = network.random() as u16;
                    asking.next = now.plus_s(conf.timeout_s.into()).min(asking.end);
                    entry.generation = entry.generation.wrapping_add(1);
                    let id = QuestionId { index, generation: entry.generation };
                    match network.ask(id, server, &dns::query(asking.id, &name, asking.kind)) {
                        Ok(question) => asking.question = Some(question),
                        Err(_) => asking.pass(),
                    }
                }
            }
        }
    }
}

impl<Q> Asking<Q> {
    /// The server asked is not asked further: the next one is.
    fn pass(&mut self) {
        self.question = None;
        self.server = self.server.wrapping_add(1);
    }

    /// Something else is to be asked, of the server that answered.
    fn then(&mut self, kind: Kind) {
        self.question = None;
        self.kind = kind;
        self.tries = self.all_tries;
    }
}

impl<Q> Entry<Q> {
    const fn new(now: Instant) -> Self {
        Entry {
            generation: 0,
            wanted: Wanted::Name,
            name: Name::new(),
            addresses: Vec::new(),
            state: State::Ended { at: now, until: now, outcome: Outcome::Unknown },
        }
    }

    /// The outcome, while it holds.
    fn outcome(&self, now: Instant) -> Option<Outcome> {
        match self.state {
            State::Ended { until, outcome, .. } if now < until => Some(outcome),
            _ => None,
        }
    }

    /// The name in the question.
    fn name_asked(&self) -> Name {
        match (&self.state, self.addresses.first()) {
            (State::Asking(Asking { kind: Kind::Ptr, .. }), Some(address)) => dns::reverse(*address),
            _ => self.name.clone(),
        }
    }

    fn keep(&mut self, address: IpAddr) {
        let address = plain(address);
        if !self.addresses.contains(&address) {
            // More than fit are not needed: whoever connects takes the first.
            let _ = self.addresses.push(address);
        }
    }

    fn end(&mut self, now: Instant, outcome: Outcome, seconds: u32) {
        let is_good = outcome == Outcome::Found && !self.addresses.is_empty();
        let (least, most) = if is_good { FOUND_S } else { NOTHING_S };
        let until = now.plus_s(seconds.clamp(least, most).into());
        self.state = State::Ended { at: now, until, outcome };
    }

    /// No server has an answer to what is asked, or there is no more time.
    fn give_up(&mut self, now: Instant) {
        let State::Asking(asking) = &mut self.state else { return };
        match (self.wanted, asking.kind) {
            (Wanted::Addresses, Kind::A) if now < asking.end => asking.then(Kind::Aaaa),
            (Wanted::Addresses, _) => self.end(now, Outcome::Found, SHORT_S),
            (Wanted::Name, Kind::Ptr) => self.end(now, Outcome::Unknown, SHORT_S),
            (Wanted::Name, _) => self.end(now, Outcome::Paranoid, SHORT_S),
        }
    }

    /// An answer has come: the end, the next question, or the next server.
    fn learn<F: Files>(&mut self, answer: &Answer<'_>, now: Instant, files: &mut F, hosts: &[u8]) {
        let State::Asking(asking) = &self.state else { return };
        match (self.wanted, asking.kind) {
            (_, Kind::Ptr) => self.learn_name(answer, now, files, hosts),
            (Wanted::Name, _) => self.learn_whether_back(answer, now),
            (Wanted::Addresses, _) => self.learn_addresses(answer, now),
        }
    }

    /// What an address calls itself. The first record counts, as gethostbyaddr(3) has it.
    fn learn_name<F: Files>(&mut self, answer: &Answer<'_>, now: Instant, files: &mut F, hosts: &[u8]) {
        let State::Asking(asking) = &mut self.state else { return };
        let mut name = None;
        let said = answer.read(true, &mut |datum| {
            name.get_or_insert_with(|| datum.name());
        });
        let (seconds, name) = match (said, name) {
            (Said::Found(seconds), Some(Ok(name))) => (seconds, name),
            (Said::Nothing { seconds, .. }, _) => return self.end(now, Outcome::Unknown, seconds),
            _ => return asking.pass(),
        };
        let name = match name {
            Some(name) if dns::is_numeric(&name) => return self.end(now, Outcome::Paranoid, seconds),
            Some(name) if dns::is_host_name(&name) => name,
            _ => return self.end(now, Outcome::Unknown, seconds),
        };
        let Some(address) = self.addresses.first().copied() else { return };
        // Names of the hosts file are the administrator's to give, and so are those of this machine (RFC 6761
        // section 6.3): what others say of them does not count.
        let (mut is_there, mut leads_back) = (is_localhost(&name), false);
        let read = names::addresses_of(files, hosts, &name, |entry| {
            let entry = plain(entry);
            is_there |= entry.is_ipv4() == address.is_ipv4();
            leads_back |= entry == address;
            true
        });
        self.name = name;
        if read.is_err() {
            self.end(now, Outcome::Paranoid, SHORT_S);
        } else if leads_back {
            self.end(now, Outcome::Found, SHORT_S.min(seconds));
        } else if is_there {
            self.end(now, Outcome::Paranoid, SHORT_S.min(seconds));
        } else {
            asking.seconds = seconds;
            asking.then(Kind::of(address));
        }
    }

    /// Whether the name has the address. An alias has none itself.
    fn learn_whether_back(&mut self, answer: &Answer<'_>, now: Instant) {
        let State::Asking(asking) = &mut self.state else { return };
        let address = self.addresses.first().copied();
        let mut leads_back = false;
        let said = answer.read(false, &mut |datum| {
            leads_back |= datum.address().is_some_and(|found| Some(found) == address);
        });
        let (outcome, seconds) = match said {
            Said::Failed => return asking.pass(),
            Said::Found(seconds) if leads_back => (Outcome::Found, seconds),
            Said::Found(seconds) | Said::Nothing { seconds, .. } => (Outcome::Paranoid, seconds),
        };
        let seconds = seconds.min(asking.seconds);
        self.end(now, outcome, seconds);
    }

    fn learn_addresses(&mut self, answer: &Answer<'_>, now: Instant) {
        let State::Asking(asking) = &mut self.state else { return };
        let mut found: Vec<IpAddr, ADDRESSES, u8> = Vec::new();
        let said = answer.read(true, &mut |datum| {
            if let Some(address) = datum.address() {
                let _ = found.push(address);
            }
        });
        let mut is_no_name = false;
        let mut seconds = asking.seconds;
        match said {
            Said::Failed => return asking.pass(),
            Said::Found(these) => seconds = seconds.min(these),
            // If there are others, these do not matter.
            Said::Nothing { seconds: none, is_no_name: no_name } => {
                is_no_name = no_name;
                if self.addresses.is_empty() {
                    seconds = none;
                }
            }
        }
        let is_first = asking.kind == Kind::A && !is_no_name && found.len() < ADDRESSES;
        if is_first {
            asking.seconds = if found.is_empty() { u32::MAX } else { seconds };
            asking.then(Kind::Aaaa);
        }
        found.into_iter().for_each(|address| self.keep(address));
        if !is_first {
            self.end(now, Outcome::Found, seconds);
        }
    }
}

/// A name without the dot that says it is whole.
fn whole(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

/// `localhost` and the names below it.
fn is_localhost(name: &[u8]) -> bool {
    let last = name.rsplit(|b| *b == b'.').next().unwrap_or(&[]);
    last.eq_ignore_ascii_case(b"localhost")
}
