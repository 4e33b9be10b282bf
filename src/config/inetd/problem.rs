//! What can be wrong with a line, and what to write instead.

use core::fmt;

use super::word::column_of;
use super::{Socket, Transport};
use crate::config::diagnostic::Bytes;

/// How much a finding weighs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// Right here, but another inetd reads it differently: for `usherd -t` alone.
    Note,
    /// Understood, but without effect here, or surely not what was meant.
    Warning,
    /// Keeps the service from starting.
    Error,
}

/// One finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem<'a> {
    /// From 1, at most the length of the text.
    pub column: u32,
    pub(super) kind: Kind<'a>,
}

impl<'a> Problem<'a> {
    pub fn weight(&self) -> Weight {
        self.kind.weight()
    }

    /// What is wrong, for [`Diagnostic::what`](crate::config::diagnostic::Diagnostic::what).
    pub fn what(&self) -> impl fmt::Display + use<'a> {
        What(self.kind)
    }

    /// What to write instead, or what follows from it; never empty.
    pub fn cure(&self) -> impl fmt::Display + use<'a> {
        Cure(self.kind)
    }
}

/// Hands findings out and remembers whether the line can still become a record.
pub(super) struct Findings<'r, 'a> {
    report: &'r mut dyn FnMut(&Problem<'a>),
    last_column: u32,
    errors: bool,
}

impl<'r, 'a> Findings<'r, 'a> {
    pub fn new(text: &[u8], report: &'r mut dyn FnMut(&Problem<'a>)) -> Self {
        Findings { report, last_column: column_of(text.len().saturating_sub(1)), errors: false }
    }

    pub fn add(&mut self, column: u32, kind: Kind<'a>) {
        self.errors |= kind.weight() == Weight::Error;
        (self.report)(&Problem { column: column.clamp(1, self.last_column), kind });
    }

    /// An error, as an answer.
    pub fn fail<T>(&mut self, column: u32, kind: Kind<'a>) -> Option<T> {
        debug_assert!(kind.weight() == Weight::Error);
        self.add(column, kind);
        None
    }

    pub fn any_error(&self) -> bool {
        self.errors
    }
}

/// The fields of a positional record, in order, and the keys that stand for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Service,
    Socket,
    Protocol,
    Wait,
    User,
    Program,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::Service => "service name",
            Field::Socket => "socket type",
            Field::Protocol => "protocol",
            Field::Wait => "wait or nowait",
            Field::User => "user",
            Field::Program => "program",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind<'a> {
    // Notes.
    Continued,
    CommentBackslash,
    Tcp6,
    QuoteInside,
    // Warnings.
    Policy,
    Ipsec,
    AcceptFilter,
    Ttcp,
    NotAbsolute(&'a [u8]),
    DashFirst(&'a [u8]),
    Hash,
    InternalArguments,
    UnixAddress,
    Dangling,
    // Errors of words and lines.
    Nul,
    Unclosed,
    AfterQuote,
    Split,
    Escape,
    Escaped,
    CommentInRecord,
    Directive(&'a [u8]),
    IncludeMissing,
    IncludeMore,
    // Errors of fields.
    Missing(Field),
    Empty(Field),
    AddressEmpty,
    AddressBad(&'a [u8]),
    AddressTwice,
    Port(&'a [u8]),
    PortSign(&'a [u8]),
    RpcVersion(&'a [u8]),
    RpcNoVersion,
    RpcProtocol,
    MuxName,
    MuxProtocol,
    NodeForm,
    NodeMode(&'a [u8]),
    PathProtocol,
    UnixService,
    Socket(&'a [u8]),
    Protocol(&'a [u8]),
    Faith,
    Mismatch(Socket, Transport),
    BufferKey(&'a [u8]),
    Size(&'a [u8]),
    Twice(&'a [u8]),
    Wait(&'a [u8]),
    Number(&'a [u8]),
    Zero,
    Children,
    Account(&'a [u8]),
    GroupTwice,
    // Errors of key/value definitions.
    Equals,
    Unfinished,
    Key(&'a [u8]),
    KeyEmpty(&'a [u8]),
    KeyMore(&'a [u8]),
    YesNo(&'a [u8]),
    KeyMissing(&'static str),
}

impl Kind<'_> {
    fn weight(self) -> Weight {
        match self {
            Kind::Continued | Kind::CommentBackslash | Kind::Tcp6 | Kind::QuoteInside => Weight::Note,
            Kind::Policy
            | Kind::Ipsec
            | Kind::AcceptFilter
            | Kind::Ttcp
            | Kind::NotAbsolute(_)
            | Kind::DashFirst(_)
            | Kind::Hash
            | Kind::InternalArguments
            | Kind::UnixAddress
            | Kind::Dangling => Weight::Warning,
            _ => Weight::Error,
        }
    }
}

struct What<'a>(Kind<'a>);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |f: &mut fmt::Formatter<'_>, bytes: &[u8], rest: &str| {
            // A word can be as long as the line; its beginning is enough to find it.
            let (shown, dots) = if bytes.len() > 64 { (&bytes[..64], "...") } else { (bytes, "") };
            write!(f, "`{}{dots}` {rest}", Bytes(shown))
        };
        f.write_str(match self.0 {
            Kind::Continued => "an indented line goes on with the record above it",
            Kind::CommentBackslash => "a comment ends with its line in spite of the backslash",
            Kind::Tcp6 => "this is IPv6 alone",
            Kind::QuoteInside => "a quote inside a word is passed on as it is",
            Kind::Policy => "an IPsec policy has no effect here",
            Kind::Ipsec => "`ipsec` has no effect here",
            Kind::AcceptFilter => "an accept filter has no effect here",
            Kind::Ttcp => "`/ttcp` has no effect here",
            Kind::NotAbsolute(path) => return quoted(f, path, "is not an absolute path"),
            Kind::DashFirst(word) => return quoted(f, word, "becomes the program's own name (argv[0])"),
            Kind::Hash => "`#` does not begin a comment among arguments",
            Kind::InternalArguments => "arguments of internal services have no effect here",
            Kind::UnixAddress => "a unix socket has no address",
            Kind::Dangling => "there is no line behind the backslash",
            Kind::Nul => "a NUL byte",
            Kind::Unclosed => "the quote is not closed on its line",
            Kind::AfterQuote => "text right behind the closing quote",
            Kind::Split => "a word runs into the backslash that joins two lines",
            Kind::Escape => "an unknown escape",
            Kind::Escaped => "escapes and quotes inside a word are understood in `exec` and `args` alone",
            Kind::CommentInRecord => "a comment in the middle of a record",
            Kind::Directive(word) => return quoted(f, word, "is not a directive"),
            Kind::IncludeMissing => "`.include` without a file",
            Kind::IncludeMore => "more than one word behind `.include`",
            Kind::Missing(field) => return write!(f, "the {} is missing", field.name()),
            Kind::Empty(field) => return write!(f, "the {} is empty", field.name()),
            Kind::AddressEmpty => "an empty address in the list",
            Kind::AddressBad(address) => return quoted(f, address, "is not an address"),
            Kind::AddressTwice => "the addresses are given twice",
            Kind::Port(port) => return quoted(f, port, "is not a port"),
            Kind::PortSign(port) => return quoted(f, port, "is not a port"),
            Kind::RpcVersion(version) => return quoted(f, version, "is not an RPC version"),
            Kind::RpcNoVersion => "an RPC service without a version",
            Kind::RpcProtocol => "a version, but the protocol is not an RPC one",
            Kind::MuxName => "the name of the tcpmux service is empty",
            Kind::MuxProtocol => "a tcpmux service that is not stream tcp",
            Kind::NodeForm => "owner and mode of a unix socket are not complete",
            Kind::NodeMode(mode) => return quoted(f, mode, "is not a mode"),
            Kind::PathProtocol => "a path, but the protocol is not unix",
            Kind::UnixService => "protocol unix, but the service is not an absolute path",
            Kind::Socket(word) => return quoted(f, word, "is not a socket type"),
            Kind::Protocol(word) => return quoted(f, word, "is not a protocol"),
            Kind::Faith => "there is no IPv6-to-IPv4 translation (faith) here",
            Kind::Mismatch(socket, transport) => {
                return write!(f, "socket type {} does not go with {}", socket.name(), transport.name());
            }
            Kind::BufferKey(word) => return quoted(f, word, "is neither sndbuf=SIZE nor rcvbuf=SIZE"),
            Kind::Size(word) => return quoted(f, word, "is not a size"),
            Kind::Twice(word) => return quoted(f, word, "is given twice"),
            Kind::Wait(word) => return quoted(f, word, "is neither wait nor nowait"),
            Kind::Number(word) => return quoted(f, word, "is not a number this can be"),
            Kind::Zero => "0 starts a minute",
            Kind::Children => "more than 32767 servers at one time",
            Kind::Account(word) => return quoted(f, word, "is not USER, USER:GROUP or USER.GROUP"),
            Kind::GroupTwice => "the group is given twice",
            Kind::Equals => "`=` is missing behind the key",
            Kind::Unfinished => "the `;` that ends the definition is missing",
            Kind::Key(key) => return quoted(f, key, "is not a key"),
            Kind::KeyEmpty(key) => return quoted(f, key, "has no value"),
            Kind::KeyMore(key) => return quoted(f, key, "has more than one value"),
            Kind::YesNo(word) => return quoted(f, word, "is neither yes nor no"),
            Kind::KeyMissing(key) => return write!(f, "`{key}` is missing"),
        })
    }
}

struct Cure<'a>(Kind<'a>);

impl fmt::Display for Cure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Continued => "GNU inetutils and busybox read a record of its own",
            Kind::CommentBackslash => "busybox takes the next line for a part of the comment",
            Kind::Tcp6 => "GNU inetutils and busybox mean both families: write tcp46 or udp46 for that",
            Kind::QuoteInside => "NetBSD takes it away; put the quote at the beginning of the word to quote",
            Kind::Policy | Kind::Ipsec => "set it up with the system's own tools",
            Kind::AcceptFilter => "remove it",
            Kind::Ttcp => "the service is an ordinary one",
            Kind::NotAbsolute(_) => "busybox searches PATH, others the root directory: write the whole path",
            Kind::DashFirst(_) => "write the program's name in front of its first option",
            Kind::Hash => "it is passed on, while busybox cuts the line here: put comments on lines of their own",
            Kind::InternalArguments => "remove them",
            Kind::UnixAddress => "remove what stands in front of the path",
            Kind::Dangling => "remove the backslash",
            Kind::Nul => "no word can hold one: remove it",
            Kind::Unclosed => "close it; a word that is to begin with a quote stands in quotes of the other kind",
            Kind::AfterQuote => "FreeBSD begins a new word here and NetBSD does not: quote the whole word",
            Kind::Split => "put a blank before it: some join the two halves and some do not",
            Kind::Escape => "there are \\\\ \\n \\t \\r \\' \\\" \\xHH",
            Kind::Escaped => "write the word as it is, or in quotes as a whole",
            Kind::CommentInRecord => "put it before the record",
            Kind::Directive(_) => "there is only `.include \"PATTERN\"`",
            Kind::IncludeMissing => "write `.include \"PATTERN\"`",
            Kind::IncludeMore => "quote a pattern with blanks, and give each pattern a line",
            Kind::Missing(_) => "a record is: service type protocol wait user program [name argument ...]",
            Kind::Empty(_) => "write one",
            Kind::AddressEmpty => "remove a comma, or write * for every address",
            Kind::AddressBad(_) => "write 192.0.2.1, 2001:db8::1, [2001:db8::1], a host name, or * for all",
            Kind::AddressTwice => "write them once: ADDRESSES:SERVICE, or `bind`",
            Kind::Port(_) => "ports are 1 to 65535",
            Kind::PortSign(_) => "write the digits alone",
            Kind::RpcVersion(_) => "write NAME/1 or NAME/1-3",
            Kind::RpcNoVersion => "write NAME/1 or NAME/1-3",
            Kind::RpcProtocol => "write rpc/tcp or rpc/udp, or the name alone",
            Kind::MuxName => "write tcpmux/NAME or tcpmux/+NAME",
            Kind::MuxProtocol => "tcpmux is for stream tcp only",
            Kind::NodeForm => "write :USER:GROUP:MODE:/PATH; each of the three may be empty",
            Kind::NodeMode(_) => "modes are octal, 0 to 7777",
            Kind::PathProtocol => "write unix as protocol",
            Kind::UnixService => "write the path of the socket as service",
            Kind::Socket(_) => "write stream, dgram, raw, rdm or seqpacket",
            Kind::Protocol(_) => "write tcp, udp (with 4, 6, 46 or 6only), unix, rpc/tcp or rpc/udp",
            Kind::Faith => "remove the line",
            Kind::Mismatch(..) => "stream goes with tcp, dgram with udp, both with unix",
            Kind::BufferKey(_) => "write tcp,sndbuf=64k,rcvbuf=64k",
            Kind::Size(_) => "write bytes, or a number with k or m, below 2 GiB",
            Kind::Twice(_) => "remove one",
            Kind::Wait(_) => "write wait or nowait, with .STARTS, :STARTS or /SERVERS[/STARTS[/SERVERS]] behind it",
            Kind::Number(_) => "write decimal digits alone, below 4294967296",
            Kind::Zero => "busybox means no limit by it, NetBSD no start at all: leave the number out",
            Kind::Children => "write less, or 0 for no limit",
            Kind::Account(_) => "write the user's name, and a colon and a group behind it if needed",
            Kind::GroupTwice => "write it in `user` or in `group`",
            Kind::Equals => "write key = value, and a comma before the next key",
            Kind::Unfinished => "write one behind its last value",
            Kind::Key(_) => {
                "keys are bind socktype acceptfilter protocol sndbuf recvbuf wait service_max ip_max accept_max user \
                 group exec args ipsec"
            }
            Kind::KeyEmpty(_) => "write one behind the =",
            Kind::KeyMore(_) => "quote a value with blanks, and write a comma before the next key",
            Kind::YesNo(_) => "write wait = yes or wait = no",
            Kind::KeyMissing(_) => "add it to the definition",
        })
    }
}
