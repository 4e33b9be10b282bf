//! inetd.conf of every descent: 4.3BSD records as OpenBSD, Debian, FreeBSD, NetBSD, GNU inetutils and busybox read
//! them, and NetBSD's key/value definitions. One logical line in, plain borrowed data and findings out.
//!
//! The parser is pure: it resolves no name, opens no file and stores nothing. The loader owns the buffer and asks
//! [`needs_more`] and [`continues`] which physical lines belong together:
//!
//! ```text
//! text = first physical line, without its line feed
//! while needs_more(text) or (there is a next line and continues(text, next)):
//!     text = text + LF + next            (the line feed stays: a comment ends there, and places are counted by it)
//! from = 0
//! loop:
//!     parsed = parse(text, from, report) (NetBSD allows several definitions on a line)
//!     use parsed.line; from = parsed.next; stop when from = the length of text
//! ```
//!
//! Columns count bytes of `text` from 1; [`place`] turns one into a physical line and a column in it.

#![forbid(unsafe_code)]

mod keyed;
mod problem;
mod record;
mod word;

#[cfg(test)]
mod tests;

pub use problem::{Problem, Weight};
pub use word::{TooLong, Word, Words};

use core::net::{IpAddr, Ipv6Addr};

use keyed::Tail;
use problem::{Field, Findings, Kind};
use record::{Draft, socket_word};
use word::{Style, column_of, joins, line_feed, skip};

/// What one logical line, or one definition of it, says.
#[allow(clippy::large_enum_variant, reason = "there is no heap to put the record in, and one line at a time")]
#[derive(Clone, Copy, Debug)]
pub enum Line<'a> {
    /// Empty, or a comment.
    Nothing,
    Record(Record<'a>),
    /// A record with errors, all of them reported. What could be read of it tells the loader which running
    /// service to leave alone.
    Broken(Broken<'a>),
    /// `ADDRESSES:` alone: where the records below listen that name no address, until the next such line or the
    /// end of the file. Holds [`Address::Any`] for `*:`.
    DefaultAddress(Addresses<'a>),
    /// NetBSD's `.include "GLOB"`, relative to the including file.
    Include {
        pattern: Word<'a>,
        column: u32,
    },
    /// FreeBSD's and NetBSD's `#@ POLICY` for IPsec: reported as a warning, without effect.
    Policy {
        column: u32,
    },
}

/// What [`parse`] read, and where the next definition of the line begins.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<'a> {
    pub line: Line<'a>,
    /// Offset to go on from; the length of the text when there is nothing more in it. Always larger than the
    /// offset given, unless that was the end.
    pub next: usize,
}

/// Reads the definition of `text` that begins at offset `from`; all that is wrong with it goes to `report`, in no
/// particular order of columns. A line with a finding of [`Weight::Error`] is a [`Line::Broken`].
pub fn parse<'a>(text: &'a [u8], from: usize, report: &mut dyn FnMut(&Problem<'a>)) -> Parsed<'a> {
    let findings = &mut Findings::new(text, report);
    let end = text.len();
    let at = skip(text, from.min(end), Style::Record);
    match text.get(at) {
        None => Parsed { line: Line::Nothing, next: end },
        Some(b'#') => comment(text, at, findings),
        Some(_) => definition(text, at, findings),
    }
}

/// Whether `text`, the physical lines joined so far, cannot end here: its last line ends in a backslash, or a
/// key/value definition waits for its `;`. At the end of the file parse it as it is: that is reported.
pub fn needs_more(text: &[u8]) -> bool {
    match keyed::tail(text) {
        Tail::Comment => false,
        Tail::Open => true,
        Tail::Other | Tail::Record => dangles(text).is_some(),
    }
}

/// Whether the physical line `next` goes on with the record in `text`: it begins with a blank, as in the BSDs, and
/// is neither empty nor a comment nor a whole record of its own, which GNU inetutils and busybox would see in it.
pub fn continues(text: &[u8], next: &[u8]) -> bool {
    let start = skip(next, 0, Style::Record);
    matches!(next, [b' ' | b'\t', ..])
        && !matches!(next.get(start), None | Some(b'#'))
        && matches!(keyed::tail(text), Tail::Record)
        && !record::is_whole(next)
}

/// Which physical line of `text` a column lies in (0 is the first), and its column there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

pub fn place(text: &[u8], column: u32) -> Place {
    let offset = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX).min(text.len());
    let before = &text[..offset];
    let line = before.iter().filter(|&&b| b == b'\n').count();
    Place {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: column_of(offset - line_start(text, offset)),
    }
}

/// A value and the column it begins in, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At<T> {
    pub column: u32,
    pub value: T,
}

/// One service. A key/value definition gives the same as the positional line that means the same.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Of its first word.
    pub column: u32,
    /// `off` of a key/value definition: checked like the others, but does not listen.
    pub enabled: bool,
    /// `None`: the default addresses in force.
    pub addresses: Option<Addresses<'a>>,
    pub service: At<Service<'a>>,
    pub socket: At<Socket>,
    pub protocol: At<Protocol>,
    /// SO_SNDBUF and SO_RCVBUF, in bytes.
    pub send_buffer: Option<At<u32>>,
    pub receive_buffer: Option<At<u32>>,
    /// The server owns the socket until it ends. For internal services the word is formal.
    pub wait: At<bool>,
    pub limits: Limits,
    /// `None` only where an internal service may do without (key/value).
    pub account: Option<Account<'a>>,
    pub program: Program<'a>,
    /// argv, `argv[0]` first; without any word `argv[0]` is the base name of the program. No expansion of any kind.
    pub args: Words<'a>,
}

/// What could be read of a record with errors.
#[derive(Clone, Copy, Debug)]
pub struct Broken<'a> {
    pub column: u32,
    pub addresses: Option<Addresses<'a>>,
    pub service: Option<At<Service<'a>>>,
    pub socket: Option<At<Socket>>,
    pub protocol: Option<At<Protocol>>,
}

/// Everything before the last colon of the first word, or NetBSD's `bind`: a list with commas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses<'a> {
    raw: &'a [u8],
    pub column: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address<'a> {
    /// `*`, or nothing before the colon.
    Any,
    /// With or without brackets.
    Ip(IpAddr),
    /// `fe80::1%eth0`.
    Scoped(Ipv6Addr, &'a [u8]),
    /// To be resolved; each of its addresses gets a socket.
    Name(&'a [u8]),
}

/// Which service a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service<'a> {
    /// A name or alias of services(5).
    Name(&'a [u8]),
    /// 1 to 65535.
    Port(u16),
    /// `NAME/VERSION` or `NAME/LOW-HIGH`, with protocols `rpc/...` only.
    Rpc { name: &'a [u8], low: u32, high: u32 },
    /// `tcpmux/NAME`; `tcpmux/+NAME` if the daemon answers `+Go` for the server (RFC 1078).
    Mux { name: &'a [u8], plus: bool },
    /// A unix socket. FreeBSD's `:USER:GROUP:MODE:PATH` says who owns the node.
    Path { path: &'a [u8], node: Option<Node<'a>> },
}

/// Owner, group and mode of a unix socket's node. Empty fields are `None`: the daemon's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node<'a> {
    pub user: Option<At<&'a [u8]>>,
    pub group: Option<At<&'a [u8]>>,
    /// At most 0o7777.
    pub mode: Option<At<u16>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Socket {
    Stream,
    Dgram,
    Raw,
    Rdm,
    Seqpacket,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub transport: Transport,
    pub family: Family,
    /// `rpc/tcp`, `rpc/udp`.
    pub rpc: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Tcp,
    Udp,
    Unix,
}

/// The suffix of the protocol word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// None: both families, or the one of the address.
    Unsaid,
    /// `4`
    V4,
    /// `6` and `6only`: IPv6 alone.
    V6,
    /// `46`: one socket for both.
    Dual,
}

/// The numbers of all dialects. Those of FreeBSD's wait field may be 0, which is no limit there; others are at
/// least 1. `None` where the file says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Starts per minute: `nowait.N`, NetBSD's `nowait:N` and `service_max`.
    pub per_minute: Option<At<u32>>,
    /// FreeBSD's first number: servers at one time.
    pub children: Option<At<u32>>,
    /// FreeBSD's second number and NetBSD's `ip_max`: starts per minute for one client address.
    pub per_minute_source: Option<At<u32>>,
    /// FreeBSD's third number: servers at one time for one client address.
    pub children_source: Option<At<u32>>,
    /// NetBSD's `stream,N` and `accept_max`: connections taken before others have their turn.
    pub accepts: Option<At<u32>>,
}

/// Who a server runs as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account<'a> {
    /// In `a.b` without a colon: the whole word, to be tried as a user first.
    pub user: At<&'a [u8]>,
    /// After a colon, or NetBSD's `group`.
    pub group: Option<At<&'a [u8]>>,
    /// If `user` does not exist: the two halves of the word.
    pub dotted: Option<Dotted<'a>>,
    /// FreeBSD's login class after a slash.
    pub class: Option<At<&'a [u8]>>,
}

/// `user.group`, split at its last dot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dotted<'a> {
    pub user: At<&'a [u8]>,
    pub group: At<&'a [u8]>,
}

#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// A service of the daemon itself: chosen by the canonical name of the service, or by its port.
    Internal { column: u32 },
    /// Not empty; a warning was given if it is not an absolute path.
    Path(Word<'a>),
}

impl<'a> Addresses<'a> {
    /// A list that was read before, such as that of a default line.
    pub const fn new(raw: &'a [u8], column: u32) -> Self {
        Addresses { raw, column }
    }

    /// The list as it is written.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Its parts, at least one.
    pub fn iter(&self) -> impl Iterator<Item = At<Address<'a>>> + use<'a> {
        self.parts().map(|part| At {
            column: part.column,
            // Parts that are neither were reported as errors.
            value: Address::parse(part.value).unwrap_or(Address::Name(part.value)),
        })
    }

    fn parts(&self) -> impl Iterator<Item = At<&'a [u8]>> + use<'a> {
        let mut column = self.column;
        self.raw.split(|&b| b == b',').map(move |value| {
            let part = At { column, value };
            column = column.saturating_add(column_of(value.len()));
            part
        })
    }

    fn check(self, findings: &mut Findings<'_, 'a>) -> Option<Self> {
        let mut good = true;
        for part in self.parts() {
            if part.value.is_empty() && !self.raw.is_empty() {
                findings.add(part.column, Kind::AddressEmpty);
                good = false;
            } else if Address::parse(part.value).is_none() {
                findings.add(part.column, Kind::AddressBad(part.value));
                good = false;
            }
        }
        good.then_some(self)
    }
}

impl<'a> Address<'a> {
    /// `None` for what is neither an address nor can be a host name.
    fn parse(part: &'a [u8]) -> Option<Self> {
        if part.is_empty() || part == b"*" {
            return Some(Address::Any);
        }
        let (inner, bracketed) = match part {
            [b'[', inner @ .., b']'] => (inner, true),
            _ => (part, false),
        };
        if let Some(ip) = parse_ip(inner) {
            return Some(Address::Ip(ip)).filter(|_| !bracketed || ip.is_ipv6());
        }
        if let Some(percent) = inner.iter().position(|&b| b == b'%') {
            let (address, zone) = (&inner[..percent], &inner[percent + 1..]);
            return match parse_ip(address) {
                Some(IpAddr::V6(address)) if !zone.is_empty() => Some(Address::Scoped(address, zone)),
                _ => None,
            };
        }
        // Digits and dots alone are a mistyped address, not a name: no top-level domain is a number.
        let numeric = inner.iter().all(|b| b.is_ascii_digit() || *b == b'.');
        let name =
            !bracketed && !numeric && !inner.iter().any(|b| matches!(b, b':' | b'[' | b']' | b'/' | b'*'));
        name.then_some(Address::Name(part))
    }
}

impl Socket {
    const fn name(self) -> &'static str {
        match self {
            Socket::Stream => "stream",
            Socket::Dgram => "dgram",
            Socket::Raw => "raw",
            Socket::Rdm => "rdm",
            Socket::Seqpacket => "seqpacket",
        }
    }

    fn parse(word: &[u8]) -> Option<Socket> {
        [Socket::Stream, Socket::Dgram, Socket::Raw, Socket::Rdm, Socket::Seqpacket]
            .into_iter()
            .find(|socket| socket.name().as_bytes() == word)
    }
}

impl Transport {
    const fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Unix => "unix",
        }
    }
}

fn parse_ip(bytes: &[u8]) -> Option<IpAddr> {
    core::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Offset of the backslash that joins the last physical line with one that is not there.
fn dangles(text: &[u8]) -> Option<usize> {
    let last = text.strip_suffix(b"\r").unwrap_or(text).len().checked_sub(1)?;
    joins(text, last).then_some(last)
}

fn line_start(text: &[u8], at: usize) -> usize {
    text[..at].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1)
}

fn comment<'a>(text: &'a [u8], at: usize, findings: &mut Findings<'_, 'a>) -> Parsed<'a> {
    let end = line_feed(text, at);
    let next = (end + 1).min(text.len());
    let line = &text[at..end];
    // `#@(#)` is a what(1) string, not a policy.
    if line.starts_with(b"#@") && !line.starts_with(b"#@(#)") && at == line_start(text, at) {
        findings.add(column_of(at), Kind::Policy);
        return Parsed { line: Line::Policy { column: column_of(at) }, next };
    }
    if let Some(last) = dangles(&text[..end]).filter(|&last| last > at) {
        findings.add(column_of(last), Kind::CommentBackslash);
    }
    Parsed { line: Line::Nothing, next }
}

/// Everything from the first byte of a line that is no comment.
fn definition<'a>(text: &'a [u8], at: usize, findings: &mut Findings<'_, 'a>) -> Parsed<'a> {
    let mut words = Words::new(text, at, text.len(), Style::Record);
    let column = column_of(at);
    let broken = Broken { column, addresses: None, service: None, socket: None, protocol: None };
    let nothing = Parsed { line: Line::Broken(broken), next: text.len() };
    let Some(first) = words.next() else {
        return Parsed { line: Line::Nothing, next: text.len() };
    };
    let Some(head) = first.plain_at() else { return nothing };

    if head.value.starts_with(b".") && !first.is_quoted() {
        check_words(text, at, usize::MAX, findings);
        return Parsed { line: directive(first, words, broken, findings), next: text.len() };
    }

    let mut draft = Draft::new(column, first);
    let mut service = first;
    // `ADDRESSES:` alone, or with a blank behind the colon.
    if let [addresses @ .., b':'] = head.value {
        let addresses = Addresses { raw: addresses, column: head.column };
        let mut rest = words;
        match rest.next() {
            None => {
                check_words(text, at, usize::MAX, findings);
                let line = match addresses.check(findings) {
                    Some(addresses) if !findings.any_error() => Line::DefaultAddress(addresses),
                    _ => Line::Broken(broken),
                };
                return Parsed { line, next: text.len() };
            }
            Some(word) if word.plain().is_some_and(|word| socket_word(word).is_some()) => {
                findings.add(first.last_column(), Kind::Missing(Field::Service));
                draft.addresses = addresses.check(findings);
                draft.service = None;
            }
            Some(word) => {
                draft.addresses = addresses.check(findings);
                words = rest;
                service = word;
                draft.service = word.plain_at();
            }
        }
    }
    if let Some((enabled, body)) = keyed::begins(text, words.at()) {
        draft.enabled = enabled;
        if let (_, Some((at, kind))) = rescan(text, service) {
            findings.add(column_of(at), kind);
        }
        let next = keyed::fill(&mut draft, text, body, findings);
        nul(text, at, next, findings);
        return Parsed { line: draft.finish(findings), next };
    }
    if let Some(last) = dangles(text) {
        findings.add(column_of(last), Kind::Dangling);
    }
    let arguments = record::fill(&mut draft, text, words, findings);
    check_words(text, at, arguments, findings);
    Parsed { line: draft.finish(findings), next: text.len() }
}

fn rescan<'a>(text: &'a [u8], word: Word<'a>) -> (usize, Option<(usize, Kind<'a>)>) {
    let at = usize::try_from(word.column.saturating_sub(1)).unwrap_or(usize::MAX).min(text.len());
    let scan = word::scan(text, at, Style::Record);
    (scan.end, scan.fault)
}

fn directive<'a>(
    first: Word<'a>,
    mut words: Words<'a>,
    broken: Broken<'a>,
    findings: &mut Findings<'_, 'a>,
) -> Line<'a> {
    if first.raw() != b".include" {
        findings.add(first.column, Kind::Directive(first.raw()));
        return Line::Broken(broken);
    }
    let Some(pattern) = words.next().filter(|word| !word.is_empty()) else {
        findings.add(first.last_column(), Kind::IncludeMissing);
        return Line::Broken(broken);
    };
    if let Some(more) = words.next() {
        findings.add(more.column, Kind::IncludeMore);
    }
    if findings.any_error() {
        return Line::Broken(broken);
    }
    Line::Include { pattern, column: first.column }
}

fn nul(text: &[u8], from: usize, to: usize, findings: &mut Findings<'_, '_>) {
    if let Some(i) = text[from..to.min(text.len())].iter().position(|&b| b == 0) {
        findings.add(column_of(from + i), Kind::Nul);
    }
}

/// What is wrong with the words of a positional record as words; arguments begin at offset `arguments`.
fn check_words<'a>(text: &'a [u8], from: usize, arguments: usize, findings: &mut Findings<'_, 'a>) {
    nul(text, from, text.len(), findings);
    let mut words = Words::new(text, from, text.len(), Style::Record);
    let (mut inside, mut hash, mut continued) = (false, false, false);
    let mut behind = from;
    while let Some((word, fault)) = words.next_checked() {
        let start = words.at() - word.raw().len();
        if let Some((at, kind)) = fault {
            findings.add(column_of(at), kind);
        }
        let new_line = text[behind..start].iter().rposition(|&b| b == b'\n').map(|i| behind + i);
        behind = words.at();
        if let Some(feed) = new_line {
            let joined = dangles(&text[..feed]).is_some();
            if word.raw().starts_with(b"#") {
                findings.add(word.column, Kind::CommentInRecord);
                continue;
            }
            if !joined && !continued {
                continued = true;
                findings.add(word.column, Kind::Continued);
            }
        }
        if start < arguments {
            continue;
        }
        if word.raw().starts_with(b"#") && !hash {
            hash = true;
            findings.add(word.column, Kind::Hash);
        }
        if !word.is_quoted()
            && !inside
            && let Some(i) = word.raw().iter().position(|&b| word::is_quote(b))
        {
            inside = true;
            findings.add(column_of(start + i), Kind::QuoteInside);
        }
    }
}
