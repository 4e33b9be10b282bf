//! NetBSD's definitions: `NAME on|off KEY = VALUE ..., KEY = VALUE ... ;`, over as many lines as it takes.

use super::problem::{Findings, Kind};
use super::record::{Draft, account, buffer, program, protocol, socket_word};
use super::word::{Style, Word, Words, column_of, is_blank, line_feed, scan, skip};
use super::{Addresses, At, Program, Socket, Transport};
use crate::config::value::number;

/// What the physical lines joined so far end with.
pub(super) enum Tail {
    Comment,
    /// A key/value definition without its `;`.
    Open,
    /// A positional record, or the beginning of one.
    Record,
    /// Nothing, a directive, a default address, a finished definition.
    Other,
}

pub(super) fn tail(text: &[u8]) -> Tail {
    let mut at = 0;
    loop {
        at = skip(text, at, Style::Record);
        match text.get(at) {
            None => return Tail::Other,
            Some(b'#') => {
                let end = line_feed(text, at);
                if end == text.len() {
                    return Tail::Comment;
                }
                at = end;
                continue;
            }
            Some(b'.') => return Tail::Other,
            Some(_) => {}
        }
        let mut words = Words::new(text, at, text.len(), Style::Record);
        let default = words.next().is_some_and(|word| word.raw().ends_with(b":"));
        let mut behind = words;
        if default {
            // `ADDRESSES: NAME on`, if anything.
            match behind.next() {
                None => return Tail::Other,
                Some(_) if begins(text, behind.at()).is_some() => words = behind,
                Some(_) => {}
            }
        }
        let Some((_, mut body)) = begins(text, words.at()) else { return Tail::Record };
        at = loop {
            match step(text, body) {
                Step::Pair(pair) => body = pair.next,
                Step::End(next) => break next,
                Step::Open => return Tail::Open,
                // What follows a definition that cannot be read is looked at on its own.
                Step::Fault { .. } => return Tail::Other,
            }
        };
    }
}

/// Whether `on` or `off` is the word behind `at`, and where the keys begin.
pub(super) fn begins(text: &[u8], at: usize) -> Option<(bool, usize)> {
    let at = skip(text, at, Style::Record);
    let rest = text.get(at..)?;
    let (enabled, end) = match rest {
        [b'o', b'n', ..] => (true, at + 2),
        [b'o', b'f', b'f', ..] => (false, at + 3),
        _ => return None,
    };
    let ends = end == text.len() || is_blank(text, end) || matches!(text[end], b'#' | b';');
    ends.then_some((enabled, end))
}

/// Whether a key and `=` stand at `body`.
pub(super) fn has_key(text: &[u8], body: usize) -> bool {
    !matches!(step(text, body), Step::Fault { .. } | Step::End(_))
}

struct Pair<'a> {
    key: At<&'a [u8]>,
    values: Words<'a>,
    /// Offset of the next key, or of the `;`.
    next: usize,
}

enum Step<'a> {
    Pair(Pair<'a>),
    /// The `;`, and the offset behind it.
    End(usize),
    /// The text ends before the definition does.
    Open,
    /// Nothing that follows can be trusted.
    Fault {
        at: usize,
        kind: Kind<'a>,
    },
}

fn step(text: &[u8], at: usize) -> Step<'_> {
    let at = skip(text, at, Style::Keyed);
    match text.get(at) {
        None => return Step::Open,
        Some(b';') => return Step::End(at + 1),
        Some(_) => {}
    }
    let len = text[at..].iter().take_while(|b| b.is_ascii_alphabetic() || **b == b'_').count();
    let key = At { column: column_of(at), value: &text[at..at + len] };
    let equals = skip(text, at + len, Style::Keyed);
    match text.get(equals) {
        None => return Step::Open,
        Some(b'=') if len > 0 => {}
        Some(_) => return Step::Fault { at: equals, kind: Kind::Equals },
    }
    let start = equals + 1;
    let mut end = start;
    loop {
        end = skip(text, end, Style::Keyed);
        match text.get(end) {
            None => return Step::Open,
            Some(b',') => return pair(text, key, start, end, end + 1),
            Some(b';') => return pair(text, key, start, end, end),
            Some(_) => {}
        }
        let word = scan(text, end, Style::Keyed);
        if let Some((at, kind @ Kind::Unclosed)) = word.fault {
            return Step::Fault { at, kind };
        }
        // A word that is none of the above has at least one byte.
        end = word.end.max(end + 1);
    }
}

fn pair<'a>(text: &'a [u8], key: At<&'a [u8]>, start: usize, end: usize, next: usize) -> Step<'a> {
    Step::Pair(Pair { key, values: Words::new(text, start, end, Style::Keyed), next })
}

const KEYS: [&[u8]; 15] = [
    b"bind",
    b"socktype",
    b"acceptfilter",
    b"protocol",
    b"sndbuf",
    b"recvbuf",
    b"wait",
    b"service_max",
    b"ip_max",
    b"accept_max",
    b"user",
    b"group",
    b"exec",
    b"args",
    b"ipsec",
];

/// Reads the definition whose keys begin at `body`, and returns the offset behind it.
pub(super) fn fill<'a>(
    draft: &mut Draft<'a>,
    text: &'a [u8],
    mut body: usize,
    findings: &mut Findings<'_, 'a>,
) -> usize {
    let mut seen = [false; KEYS.len()];
    let mut group = None;
    let next = loop {
        match step(text, body) {
            Step::Pair(pair) => {
                body = pair.next;
                let mut words = pair.values;
                while let Some((_, fault)) = words.next_checked() {
                    if let Some((at, kind)) = fault {
                        findings.add(column_of(at), kind);
                    }
                }
                let Some(i) = KEYS.iter().position(|key| *key == pair.key.value) else {
                    findings.add(pair.key.column, Kind::Key(pair.key.value));
                    continue;
                };
                if core::mem::replace(&mut seen[i], true) {
                    findings.add(pair.key.column, Kind::Twice(pair.key.value));
                    continue;
                }
                value(draft, &mut group, &pair, findings);
            }
            Step::End(next) => break next,
            Step::Open => {
                findings.add(column_of(text.len().saturating_sub(1)), Kind::Unfinished);
                return text.len();
            }
            Step::Fault { at, kind } => {
                findings.add(column_of(at), kind);
                // NetBSD gives up the rest of the file here. The next `;` or line is as good a place to go on.
                let line = &text[at..line_feed(text, at)];
                return line.iter().position(|&b| b == b';').map_or(at + line.len(), |i| at + i + 1);
            }
        }
    };
    let had = |key: &[u8]| KEYS.iter().zip(seen).any(|(k, seen)| seen && *k == key);
    complete(draft, group, &had, next, findings);
    next
}

/// What NetBSD infers, and what it asks for.
fn complete<'a>(
    draft: &mut Draft<'a>,
    group: Option<At<&'a [u8]>>,
    had: &dyn Fn(&[u8]) -> bool,
    next: usize,
    findings: &mut Findings<'_, 'a>,
) {
    let end = column_of(next.saturating_sub(1));
    if let Some(group) = group {
        match &mut draft.account {
            Some(account) if account.group.is_some() => findings.add(group.column, Kind::GroupTwice),
            Some(account) => (account.group, account.dotted) = (Some(group), None),
            None => {}
        }
    }
    if !had(b"exec") {
        draft.program = Some(Program::Internal { column: draft.column });
    }
    let internal = matches!(draft.program, Some(Program::Internal { .. }));
    if !had(b"socktype") {
        draft.socket = draft.protocol.and_then(|protocol| {
            let socket = match protocol.value.transport {
                Transport::Tcp => Socket::Stream,
                Transport::Udp => Socket::Dgram,
                Transport::Unix => return findings.fail(end, Kind::KeyMissing("socktype")),
            };
            Some(At { column: protocol.column, value: socket })
        });
    }
    if !had(b"protocol") {
        findings.add(end, Kind::KeyMissing("protocol"));
    }
    if !had(b"wait") {
        if internal {
            let dgram = draft.socket.is_some_and(|socket| socket.value == Socket::Dgram);
            draft.wait = Some(At { column: draft.column, value: dgram });
        } else {
            findings.add(end, Kind::KeyMissing("wait"));
        }
    }
    // NetBSD wants a user for internal services too; there is nobody to be for them.
    if !had(b"user") && (!internal || group.is_some()) {
        findings.add(end, Kind::KeyMissing("user"));
    }
}

fn value<'a>(
    draft: &mut Draft<'a>,
    group: &mut Option<At<&'a [u8]>>,
    pair: &Pair<'a>,
    findings: &mut Findings<'_, 'a>,
) {
    // As text, since bytes would be compared one by one, in several times the code.
    let key = str::from_utf8(pair.key.value);
    match key {
        Ok("args") => {
            draft.args = pair.values;
            return;
        }
        Ok("ipsec") => return findings.add(pair.key.column, Kind::Ipsec),
        Ok("acceptfilter") => return findings.add(pair.key.column, Kind::AcceptFilter),
        _ => {}
    }
    let Some(word) = single(pair, findings) else { return };
    if pair.key.value == b"exec" {
        draft.program = program(word, findings);
        return;
    }
    let Some(word) = word.plain_at() else {
        return findings.add(word.column, Kind::Escaped);
    };
    match key {
        Ok("bind") => draft.addresses = Addresses { raw: word.value, column: word.column }.check(findings),
        Ok("socktype") => match socket_word(word.value) {
            Some((value, [])) => draft.socket = Some(At { column: word.column, value }),
            _ => findings.add(word.column, Kind::Socket(word.value)),
        },
        Ok("protocol") => draft.protocol = protocol(word, findings),
        Ok("sndbuf") => draft.send_buffer = buffer(word, findings),
        Ok("recvbuf") => draft.receive_buffer = buffer(word, findings),
        Ok("wait") => match word.value {
            b"yes" => draft.wait = Some(At { column: word.column, value: true }),
            b"no" => draft.wait = Some(At { column: word.column, value: false }),
            _ => findings.add(word.column, Kind::YesNo(word.value)),
        },
        Ok("service_max") => draft.limits.per_minute = at_least_one(word, findings),
        Ok("ip_max") => draft.limits.per_minute_source = at_least_one(word, findings),
        Ok("accept_max") => draft.limits.accepts = at_least_one(word, findings),
        Ok("user") => draft.account = account(word, findings),
        Ok("group") if word.value.is_empty() => findings.add(pair.key.column, Kind::KeyEmpty(pair.key.value)),
        Ok("group") => *group = Some(word),
        _ => {}
    }
}

fn single<'a>(pair: &Pair<'a>, findings: &mut Findings<'_, 'a>) -> Option<Word<'a>> {
    let mut words = pair.values;
    let Some(word) = words.next() else {
        return findings.fail(pair.key.column, Kind::KeyEmpty(pair.key.value));
    };
    match words.next() {
        Some(more) => findings.fail(more.column, Kind::KeyMore(pair.key.value)),
        None => Some(word),
    }
}

fn at_least_one<'a>(word: At<&'a [u8]>, findings: &mut Findings<'_, 'a>) -> Option<At<u32>> {
    match number(word.value) {
        Some(0) => findings.fail(word.column, Kind::Zero),
        Some(value) => Some(At { column: word.column, value }),
        None => findings.fail(word.column, Kind::Number(word.value)),
    }
}
