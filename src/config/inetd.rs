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

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

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

/// A finding of [`parse`] and where the next definition of the line begins.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<'a> {
    pub line: Line<'a>,
    /// Offset to go on from; the length of the text when there is nothing more in it. Always larger than the
    /// offset given, unless that was the end.
    pub next: usize,
}

/// Reads the definition of `text` that begins at offset `from`; all that is wrong with it goes to `report`, in no
/// particular order of columns. A line with a finding of [`Weight::Error`] is never a [`Line::Record`].
pub fn parse<'a>(text: &'a [u8], from: usize, report: &mut dyn FnMut(&Problem<'a>)) -> Parsed<'a> {
    let _ = (from, report);
    Parsed { line: Line::Nothing, next: text.len() }
}

/// Whether `text`, the physical lines joined so far, cannot end here: its last line ends in a backslash, or a
/// key/value definition waits for its `;`. At the end of the file parse it as it is: that is reported.
pub fn needs_more(text: &[u8]) -> bool {
    let _ = text;
    false
}

/// Whether the physical line `next` goes on with the record in `text`: it begins with a blank, as in the BSDs, and
/// is neither empty nor a comment nor a whole record of its own, which GNU inetutils and busybox would see in it.
pub fn continues(text: &[u8], next: &[u8]) -> bool {
    let _ = (text, next);
    false
}

/// Which physical line of `text` a column lies in (0 is the first), and its column there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

pub fn place(text: &[u8], column: u32) -> Place {
    let _ = text;
    Place { line: 0, column }
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
    /// argv, argv[0] first; without any word argv[0] is the base name of the program. No expansion of any kind.
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
    /// If `user` does not exist: the user before its last dot, and the group behind it.
    pub dotted: Option<(At<&'a [u8]>, At<&'a [u8]>)>,
    /// FreeBSD's login class after a slash.
    pub class: Option<At<&'a [u8]>>,
}

#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// A service of the daemon itself: chosen by the canonical name of the service, or by its port.
    Internal { column: u32 },
    /// Not empty; a warning was given if it is not an absolute path.
    Path(Word<'a>),
}

/// A word of a record, quotes and escapes not yet taken away.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    raw: &'a [u8],
    style: Style,
    /// Of its first byte, the quote if there is one.
    pub column: u32,
}

/// How words are quoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// Positional records: a word that begins with a quote ends with it, and has no escapes; others are literal.
    Record,
    /// Key/value: quotes anywhere, with escapes inside.
    KeyValue,
}

/// The buffer given to [`Word::copy_to`] is too small; this many bytes are needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong(pub usize);

impl<'a> Word<'a> {
    /// The bytes meant, if they stand in the text as one piece: always, except for escapes and for quotes inside a
    /// word.
    pub fn plain(self) -> Option<&'a [u8]> {
        Some(self.raw)
    }

    /// Bytes meant.
    pub fn len(self) -> usize {
        self.raw.len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Writes the bytes meant to the start of `buf` and returns how many. There is never a NUL among them.
    pub fn copy_to(self, buf: &mut [u8]) -> Result<usize, TooLong> {
        let _ = (buf, self.style);
        Err(TooLong(self.len()))
    }
}

/// The words of an argument list, in order.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    text: &'a [u8],
    at: usize,
    end: usize,
    style: Style,
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let _ = (self.text, self.at, self.end, self.style);
        None
    }
}

impl<'a> Addresses<'a> {
    /// The list as it is written.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Its parts, at least one.
    pub fn iter(&self) -> impl Iterator<Item = At<Address<'a>>> {
        core::iter::empty()
    }
}

/// How much a finding weighs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// Right here, but another inetd reads it differently: for `usherd -t` alone.
    Note,
    Warning,
    Error,
}

/// One finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem<'a> {
    /// From 1, at most the length of the text.
    pub column: u32,
    kind: Kind<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind<'a> {
    Todo(&'a [u8]),
}

impl<'a> Problem<'a> {
    pub fn weight(&self) -> Weight {
        Weight::Error
    }

    /// What is wrong, for [`Diagnostic::what`](super::diagnostic::Diagnostic::what).
    pub fn what(&self) -> impl fmt::Display + use<'a> {
        let Kind::Todo(bytes) = self.kind;
        super::diagnostic::Bytes(bytes)
    }

    /// What to write instead, or what follows; never empty.
    pub fn cure(&self) -> impl fmt::Display + use<'a> {
        ""
    }
}
