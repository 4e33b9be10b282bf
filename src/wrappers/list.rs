//! Lists: `A B EXCEPT C D EXCEPT E`, and what a rule's two lists say of a request.
//!
//! An answer has four values. `Need` beats everything it could still change, `Doubt` what is certain otherwise; so a
//! name is asked for only if the answer turns on it, and a mistake counts only if it does.

use core::fmt::Write;
use core::net::IpAddr;

use heapless::{String, Vec};

use super::pattern::{self, Classes, Host, PARANOID, Text, UNKNOWN};
use super::problem::Fault;
use super::rule::{Rules, is_separator, split};
use super::{Endpoint, Facts, HostName, Request, Skipped, Tables, User, Wanted};
use crate::addr;
use crate::config::source::Files;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    No,
    Yes,
    /// It might: a mistake stands at that offset of the rule.
    Doubt(Fault, usize),
    /// Somebody has to be asked first.
    Need(Wanted),
}

impl Answer {
    pub const fn of(is: bool) -> Self {
        if is { Answer::Yes } else { Answer::No }
    }

    pub fn or(self, other: Self) -> Self {
        use Answer::*;
        match (self, other) {
            (Yes, _) | (_, Yes) => Yes,
            (Need(wanted), _) | (_, Need(wanted)) => Need(wanted),
            (Doubt(fault, at), _) | (_, Doubt(fault, at)) => Doubt(fault, at),
            (No, No) => No,
        }
    }

    pub fn and(self, other: Self) -> Self {
        use Answer::*;
        match (self, other) {
            (No, _) | (_, No) => No,
            (Need(wanted), _) | (_, Need(wanted)) => Need(wanted),
            (Doubt(fault, at), _) | (_, Doubt(fault, at)) => Doubt(fault, at),
            (Yes, Yes) => Yes,
        }
    }

    fn except(self, other: Self) -> Self {
        let not = match other {
            Answer::No => Answer::Yes,
            Answer::Yes => Answer::No,
            unsure => unsure,
        };
        self.and(not)
    }

    /// What two readings of the same text say together.
    fn either_reading(self, other: Self, fault: Fault, at: usize) -> Self {
        use Answer::*;
        match (self, other) {
            (Yes, Yes) => Yes,
            (No, No) => No,
            (Need(wanted), _) | (_, Need(wanted)) => Need(wanted),
            _ => Doubt(fault, at),
        }
    }

    /// A match that is none for certain.
    pub fn doubted(self, fault: Option<Fault>, at: usize) -> Self {
        match (self, fault) {
            (Answer::Yes, Some(fault)) if fault.is_error() => Answer::Doubt(fault, at),
            _ => self,
        }
    }
}

/// EXCEPT in one list. Nobody writes as many.
pub(super) const SEGMENTS: usize = 16;

/// Files and netgroups that one request may lead to, however they name each other.
pub(super) const OPENED: u8 = 64;

/// An address as text: IPv6 with the name of an interface.
type AddressText = String<72>;

/// What one evaluation works with.
pub(super) struct Context<'a, F> {
    pub files: &'a mut F,
    pub tables: &'a Tables<'a>,
    pub facts: &'a Facts<'a>,
    request: &'a Request<'a>,
    daemon: &'a [u8],
    client: AddressText,
    server: AddressText,
    /// The addresses, plain: of the client and of the server.
    plain: [Option<IpAddr>; 2],
    /// Files and netgroups that may still be opened.
    pub left: u8,
    pub skipped: Option<Skipped>,
    /// The rest of the file does not count.
    pub is_left: bool,
    /// A rule that may be about the client has options, which may turn on anything.
    pub has_options: bool,
}

/// The end of the connection that a host pattern is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl<'a, F: Files> Context<'a, F> {
    pub fn new(
        files: &'a mut F,
        tables: &'a Tables<'a>,
        request: &'a Request<'a>,
        facts: &'a Facts<'a>,
    ) -> Self {
        Context {
            files,
            tables,
            facts,
            request,
            daemon: base_name(request.daemon),
            client: address_text(&request.client),
            server: address_text(&request.server),
            plain: [request.client.address.map(addr::plain), request.server.address.map(addr::plain)],
            left: OPENED,
            skipped: None,
            is_left: false,
            has_options: false,
        }
    }

    /// Whether nothing but the two files was looked at, and nothing has to be done: the next one is told the same.
    pub fn is_lasting(&self) -> bool {
        self.left == OPENED && !self.has_options
    }

    /// What the lists of a rule say.
    pub fn matches(&mut self, rules: &Rules) -> Answer {
        let text = rules.text();
        let [daemons, clients] = rules.lists();
        let marked = (text, rules.has_hash());
        let daemon = self.list(marked, daemons, Fault::NoDaemons, Self::daemon_word);
        if daemon == Answer::No {
            return Answer::No;
        }
        let client = match cut_address(text, clients) {
            // A rule cut inside of an address: the word in front of the colon is a part of it.
            Some((at, host)) => {
                let own = self.host_sense(host, Side::Client, at).doubted(Some(Fault::BareV6), at);
                let before = (clients.0, at.min(clients.1));
                let is_alone = words(text, before).next().is_none();
                if is_alone {
                    own
                } else {
                    self.list(marked, before, Fault::NoClients, Self::client_word).or(own)
                }
            }
            None => self.list(marked, clients, Fault::NoClients, Self::client_word),
        };
        daemon.and(client)
    }

    fn list(
        &mut self,
        (text, has_hash): (&[u8], bool),
        range: (usize, usize),
        empty: Fault,
        word: fn(&mut Self, &[u8], usize) -> Answer,
    ) -> Answer {
        let whole = self.reading(text, range, empty, word);
        if !has_hash {
            return whole;
        }
        let hash = words(text, range).find(|(_, word)| word.first() == Some(&b'#'));
        let Some((at, _)) = hash else { return whole };
        // What stands in front of the # may be meant alone; if that is nothing the line is a comment.
        let front = (range.0, at);
        let cut = match words(text, front).next() {
            Some(_) => self.reading(text, front, empty, word),
            None => Answer::No,
        };
        whole.either_reading(cut, Fault::Hash, at)
    }

    /// The list as it stands.
    fn reading(
        &mut self,
        text: &[u8],
        range: (usize, usize),
        empty: Fault,
        word: fn(&mut Self, &[u8], usize) -> Answer,
    ) -> Answer {
        let mut before = Vec::<Answer, SEGMENTS>::new();
        let mut answer = Answer::No;
        let mut words = words(text, range).peekable();
        if words.peek().is_none() {
            return Answer::Doubt(empty, range.0);
        }
        let mut is_empty = true;
        for (at, text) in words {
            if text.eq_ignore_ascii_case(b"EXCEPT") {
                if is_empty {
                    answer = Answer::Doubt(Fault::ExceptNothing, at);
                }
                if answer == Answer::No {
                    is_empty = false;
                    break;
                }
                if before.push(answer).is_err() {
                    return Answer::Doubt(Fault::ExceptDeep, at);
                }
                answer = Answer::No;
                is_empty = true;
            } else {
                is_empty = false;
                if answer != Answer::Yes {
                    answer = answer.or(word(self, text, at));
                }
            }
        }
        if is_empty {
            answer = Answer::Doubt(Fault::ExceptNothing, range.1);
        }
        before.iter().rev().fold(answer, |right, left| left.except(right))
    }

    /// `daemon`, `daemon@host`, a port.
    fn daemon_word(&mut self, word: &[u8], at: usize) -> Answer {
        let classes = Classes::of(word);
        let (daemon, host) = if classes.has(Classes::AT) { split_at(word) } else { (word, None) };
        let own = if daemon.first() == Some(&b'/') {
            let is_named = base_name(daemon).eq_ignore_ascii_case(self.daemon);
            Answer::of(is_named).doubted(Some(Fault::DaemonPath), at)
        } else {
            Answer::of(match port(daemon) {
                Some(port) => self.request.server.port == Some(port),
                None => Text::parse_with(daemon, classes).matches(self.daemon),
            })
        };
        match host {
            Some(_) if own == Answer::No => own,
            Some(host) => own.and(self.host_word(host, Classes::of(host), Side::Server, at)),
            None => own,
        }
    }

    /// `host`, `user@host`.
    fn client_word(&mut self, word: &[u8], at: usize) -> Answer {
        let classes = Classes::of(word);
        if !classes.has(Classes::AT) {
            return self.host_word(word, classes, Side::Client, at);
        }
        let (first, host) = split_at(word);
        let Some(host) = host else { return self.host_word(first, classes, Side::Client, at) };
        match self.host_word(host, Classes::of(host), Side::Client, at) {
            Answer::No => Answer::No,
            answer => answer.and(self.user(first, at)),
        }
    }

    fn user(&self, word: &[u8], at: usize) -> Answer {
        let pattern = Text::parse(word);
        match (pattern, self.facts.user) {
            _ if pattern.is_all() => Answer::Yes,
            _ if self.request.client.is_hidden => Answer::Doubt(Fault::Hidden, at),
            (_, User::NotAsked) => Answer::Need(Wanted::User { seconds: None }),
            (_, User::Unknown) => Answer::of(pattern.matches(UNKNOWN)),
            (_, User::Known(user)) => Answer::of(pattern.matches(user)),
        }
    }

    fn host_word(&mut self, word: &[u8], classes: Classes, side: Side, at: usize) -> Answer {
        let (host, fault) = Host::parse_with(word, classes);
        self.host_sense(host, side, at).doubted(fault, at)
    }

    fn host_sense(&mut self, host: Host<'_>, side: Side, at: usize) -> Answer {
        match host {
            Host::File(path) => self.in_file(path, side, at, 0),
            Host::Netgroup(group) => match self.name(side, at) {
                Ok(name) => self.in_netgroup(group, name, at),
                Err(unsure) => unsure,
            },
            host => self.host(host, side, at),
        }
    }

    /// A host that is told by its address and name alone.
    pub fn host(&self, host: Host<'_>, side: Side, at: usize) -> Answer {
        let end = self.end(side);
        let [client, server] = self.plain;
        let address = if side == Side::Client { client } else { server };
        if end.is_hidden {
            return match host {
                Host::Text(text) if text.is_all() => Answer::Yes,
                Host::Nobody => Answer::No,
                _ => Answer::Doubt(Fault::Hidden, at),
            };
        }
        match host {
            Host::V4 { .. } | Host::Between(..) | Host::V6 { .. } => Answer::of(host.is_address(address)),
            Host::One6(_, zone) => {
                let is_same = host.is_address(address);
                match (zone, end.zone) {
                    ([], _) => Answer::of(is_same),
                    (_, []) => Answer::of(is_same).doubted(Some(Fault::Zone), at),
                    (wanted, zone) => Answer::of(is_same && wanted == zone),
                }
            }
            Host::Known if address.is_none() => Answer::No,
            Host::Known => self.about_name(side, at, is_known),
            Host::Local => self.about_name(side, at, |name| is_known(name) && !name.contains(&b'.')),
            Host::Text(text) if text.matches(self.address(side)) => Answer::Yes,
            Host::Text(text) if host.may_be_name() => self.about_name(side, at, |name| text.matches(name)),
            Host::Text(_) | Host::File(_) | Host::Netgroup(_) | Host::Nobody => Answer::No,
        }
    }

    fn end(&self, side: Side) -> &'a Endpoint<'a> {
        match side {
            Side::Client => &self.request.client,
            Side::Server => &self.request.server,
        }
    }

    fn address(&self, side: Side) -> &[u8] {
        match side {
            Side::Client => self.client.as_bytes(),
            Side::Server => self.server.as_bytes(),
        }
    }

    /// The name, or the word for what it is instead of known.
    pub fn name(&self, side: Side, at: usize) -> Result<&'a [u8], Answer> {
        if self.end(side).is_hidden {
            return Err(Answer::Doubt(Fault::Hidden, at));
        }
        let (name, wanted) = match side {
            Side::Client => (self.facts.client_name, Wanted::ClientName),
            Side::Server => (self.facts.server_name, Wanted::ServerName),
        };
        match name {
            HostName::NotAsked => Err(Answer::Need(wanted)),
            HostName::Unknown => Ok(UNKNOWN),
            HostName::Paranoid => Ok(PARANOID),
            HostName::Known(name) => Ok(name),
        }
    }

    fn about_name(&self, side: Side, at: usize, is: impl FnOnce(&[u8]) -> bool) -> Answer {
        match self.name(side, at) {
            Ok(name) => Answer::of(is(name)),
            Err(unsure) => unsure,
        }
    }
}

fn is_known(name: &[u8]) -> bool {
    !name.eq_ignore_ascii_case(UNKNOWN) && !name.eq_ignore_ascii_case(PARANOID)
}

/// The last part of a path.
pub(super) fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or(path)
}

/// As rules see an address: an interface behind a %, and a word for none at all.
pub(super) fn address_text(end: &Endpoint<'_>) -> AddressText {
    let mut text = AddressText::new();
    // It fits: 39 bytes of address and 15 of an interface's name; a longer one is left out.
    let _ = match end.address {
        None => text.write_str("unknown"),
        Some(address) => write!(text, "{}", addr::plain(address)),
    };
    let zone = core::str::from_utf8(end.zone).unwrap_or_default();
    if !zone.is_empty() && zone.len() < 16 && end.address.is_some_and(|a| addr::plain(a).is_ipv6()) {
        let _ = write!(text, "%{zone}");
    }
    text
}

/// The words of a list, each with its offset.
pub(super) fn words(text: &[u8], range: (usize, usize)) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = range.0;
    let end = range.1.min(text.len());
    core::iter::from_fn(move || {
        let list = text.get(at..end)?;
        let start = at + list.iter().position(|&b| !is_separator(b))?;
        let rest = text.get(start..end)?;
        at = start + rest.iter().position(|&b| is_separator(b)).unwrap_or(rest.len());
        Some((start, text.get(start..at)?))
    })
}

/// `a@b` in its halves: at the first @ that is not the first byte and in no brackets.
pub(super) fn split_at(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    match word.get(1..).and_then(|rest| split(rest, b'@')) {
        Some(at) => (word.get(..at + 1).unwrap_or(&[]), word.get(at + 2..)),
        None => (word, None),
    }
}

/// A daemon word that is a port. Others of digits are names.
pub(super) fn port(word: &[u8]) -> Option<u16> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(word).ok()?.parse().ok()
}

/// An IPv6 address in the client list through which the second colon cuts, and its offset.
pub(super) fn cut_address(text: &[u8], clients: (usize, usize)) -> Option<(usize, Host<'_>)> {
    let behind = text.get(clients.1 + 1)?;
    if !behind.is_ascii_hexdigit() && *behind != b':' {
        return None;
    }
    let list = text.get(clients.0..clients.1)?;
    let start = clients.0 + list.iter().rposition(|&b| is_separator(b)).map_or(0, |at| at + 1);
    Some((start, pattern::uncut(text.get(start..)?)?))
}
