//! The fields of a record: what each word may be, and how they go together.

use super::problem::{Field, Findings, Kind};
use super::word::{Style, Word, Words, column_of, skip};
use super::{
    Account, Addresses, At, Broken, Dotted, Family, Limits, Line, Node, Program, Protocol, Record, Service,
    Socket, Transport, keyed,
};
use crate::config::value::number;

/// Whether an indented line is a record of its own.
pub(super) fn is_whole(line: &[u8]) -> bool {
    let mut words = Words::new(line, 0, line.len(), Style::Record);
    words.next();
    if keyed::begins(line, words.at()).is_some_and(|(_, body)| keyed::has_key(line, body)) {
        return true;
    }
    let mut looks = |field: Field| words.next().is_some_and(|word| looks_like(field, word));
    looks(Field::Socket) && (looks(Field::Protocol) || looks(Field::Wait))
}

fn looks_like(field: Field, word: Word<'_>) -> bool {
    let Some(word) = word.plain() else { return false };
    match field {
        Field::Service => true,
        Field::Socket => socket_word(word).is_some(),
        Field::Protocol => protocol_word(word.split(|&b| b == b',').next().unwrap_or_default()).is_some(),
        Field::Wait => {
            let rest = word.strip_prefix(b"no").unwrap_or(word).strip_prefix(b"wait");
            rest.is_some_and(|rest| matches!(rest, [] | [b'.' | b':' | b'/', ..]))
        }
        Field::User => !looks_like_program(word),
        Field::Program => looks_like_program(word),
    }
}

fn looks_like_program(word: &[u8]) -> bool {
    word.starts_with(b"/") || word == b"internal"
}

/// `stream`, `stream,N` and `stream:FILTER`, as far as the part before the separator goes.
pub(super) fn socket_word(word: &[u8]) -> Option<(Socket, &[u8])> {
    let len = word.iter().position(|b| matches!(b, b',' | b':')).unwrap_or(word.len());
    Some((Socket::parse(&word[..len])?, &word[len..]))
}

/// A protocol without buffer sizes, and whether it has one of FreeBSD's and NetBSD's `faith` and FreeBSD's `ttcp`.
fn protocol_word(word: &[u8]) -> Option<(Protocol, bool, bool)> {
    if word == b"unix" {
        let protocol = Protocol { transport: Transport::Unix, family: Family::Unsaid, rpc: false };
        return Some((protocol, false, false));
    }
    let (word, rpc) = word.strip_prefix(b"rpc/").map_or((word, false), |word| (word, true));
    let (word, faith_first) = word.strip_prefix(b"faith/").map_or((word, false), |word| (word, true));
    let (word, faith_last) = word.strip_suffix(b"/faith").map_or((word, false), |word| (word, true));
    let (word, ttcp) = word.strip_suffix(b"/ttcp").map_or((word, false), |word| (word, true));
    let (transport, suffix) = match word {
        [b't', b'c', b'p', suffix @ ..] => (Transport::Tcp, suffix),
        [b'u', b'd', b'p', suffix @ ..] => (Transport::Udp, suffix),
        _ => return None,
    };
    let family = match suffix {
        b"" => Family::Unsaid,
        b"4" => Family::V4,
        b"6" | b"6only" => Family::V6,
        b"46" => Family::Dual,
        _ => return None,
    };
    let faith = faith_first || faith_last;
    if (faith || ttcp) && (rpc || transport != Transport::Tcp) {
        return None;
    }
    Some((Protocol { transport, family, rpc }, faith, ttcp))
}

/// Bytes, with k or m for 1024 or its square, below 2 GiB as the socket options are ints.
fn size(word: &[u8]) -> Option<u32> {
    let (digits, unit) = match word {
        [digits @ .., b'k'] => (digits, 1 << 10),
        [digits @ .., b'm'] => (digits, 1 << 20),
        _ => (word, 1),
    };
    number::<u32>(digits)?.checked_mul(unit).filter(|&n| n > 0 && i32::try_from(n).is_ok())
}

/// A record as far as it is read, from either form.
pub(super) struct Draft<'a> {
    pub column: u32,
    pub enabled: bool,
    pub addresses: Option<Addresses<'a>>,
    /// `ADDRESSES:SERVICE`, or what stands for it.
    pub service: Option<At<&'a [u8]>>,
    pub socket: Option<At<Socket>>,
    pub protocol: Option<At<Protocol>>,
    pub send_buffer: Option<At<u32>>,
    pub receive_buffer: Option<At<u32>>,
    pub wait: Option<At<bool>>,
    pub limits: Limits,
    pub account: Option<Account<'a>>,
    pub program: Option<Program<'a>>,
    pub args: Words<'a>,
}

/// Reads the fields of a positional record behind the service, and tells where the arguments begin.
pub(super) fn fill<'a>(
    draft: &mut Draft<'a>,
    text: &'a [u8],
    words: Words<'a>,
    findings: &mut Findings<'_, 'a>,
) -> usize {
    const FIELDS: [Field; 5] = [Field::Socket, Field::Protocol, Field::Wait, Field::User, Field::Program];
    let mut rest = words;
    let mut last_column = column_of(rest.at().saturating_sub(1));
    for (i, field) in FIELDS.into_iter().enumerate() {
        let before = rest;
        let Some(word) = rest.next() else {
            for field in &FIELDS[i..] {
                findings.add(last_column, Kind::Missing(*field));
            }
            return text.len();
        };
        // A field left out shows in that this word and the one behind it look like the next two fields.
        if let Some(&next) = FIELDS.get(i + 1) {
            let mut behind = rest;
            let fits = FIELDS.get(i + 2).is_none_or(|&f| behind.next().is_some_and(|w| looks_like(f, w)));
            if !looks_like(field, word) && looks_like(next, word) && fits {
                findings.add(word.column, Kind::Missing(field));
                rest = before;
                continue;
            }
        }
        last_column = word.last_column();
        if field == Field::Program {
            draft.program = program(word, findings);
            continue;
        }
        // Words of records are always of one piece.
        let Some(word) = word.plain_at() else { continue };
        match field {
            Field::Socket => draft.socket = socket(word, &mut draft.limits, findings),
            Field::Protocol => {
                let (head, sizes) = split_once(word, b',');
                draft.protocol = protocol(head, findings);
                if let Some(sizes) = sizes {
                    buffers(sizes, draft, findings);
                }
            }
            Field::Wait => draft.wait = wait(word, &mut draft.limits, findings),
            _ => draft.account = account(word, findings),
        }
    }
    draft.args = rest;
    skip(text, rest.at(), Style::Record)
}

/// What stands before and behind the first `by`.
fn split_once(word: At<&[u8]>, by: u8) -> (At<&[u8]>, Option<At<&[u8]>>) {
    match word.value.iter().position(|&b| b == by) {
        Some(i) => (
            At { value: &word.value[..i], ..word },
            Some(At { column: word.column.saturating_add(column_of(i)), value: &word.value[i + 1..] }),
        ),
        None => (word, None),
    }
}

fn socket<'a>(
    word: At<&'a [u8]>,
    limits: &mut Limits,
    findings: &mut Findings<'_, 'a>,
) -> Option<At<Socket>> {
    let Some((socket, rest)) = socket_word(word.value) else {
        return findings.fail(word.column, Kind::Socket(word.value));
    };
    let column = word.column.saturating_add(column_of(word.value.len() - rest.len()));
    match rest {
        [] => {}
        [b',', digits @ ..] => match number(digits).filter(|&n| n > 0) {
            Some(n) => limits.accepts = Some(At { column, value: n }),
            None => return findings.fail(column, Kind::Number(digits)),
        },
        _ => findings.add(column, Kind::AcceptFilter),
    }
    Some(At { column: word.column, value: socket })
}

pub(super) fn protocol<'a>(word: At<&'a [u8]>, findings: &mut Findings<'_, 'a>) -> Option<At<Protocol>> {
    let Some((protocol, faith, ttcp)) = protocol_word(word.value) else {
        return findings.fail(word.column, Kind::Protocol(word.value));
    };
    if faith {
        return findings.fail(word.column, Kind::Faith);
    }
    if ttcp {
        findings.add(word.column, Kind::Ttcp);
    }
    if protocol.family == Family::V6 && word.value.ends_with(b"6") {
        findings.add(word.column, Kind::Tcp6);
    }
    Some(At { column: word.column, value: protocol })
}

/// `sndbuf=SIZE,rcvbuf=SIZE` behind the protocol.
fn buffers<'a>(sizes: At<&'a [u8]>, draft: &mut Draft<'a>, findings: &mut Findings<'_, 'a>) {
    let mut rest = Some(sizes);
    while let Some(parts) = rest {
        let (part, behind) = split_once(parts, b',');
        rest = behind;
        let (key, value) = split_once(part, b'=');
        let slot = match key.value {
            b"sndbuf" => &mut draft.send_buffer,
            b"rcvbuf" => &mut draft.receive_buffer,
            _ => {
                findings.add(part.column, Kind::BufferKey(part.value));
                continue;
            }
        };
        if slot.is_some() {
            findings.add(key.column, Kind::Twice(key.value));
            continue;
        }
        match value {
            Some(value) => *slot = buffer(value, findings),
            None => findings.add(part.column, Kind::BufferKey(part.value)),
        }
    }
}

pub(super) fn buffer<'a>(word: At<&'a [u8]>, findings: &mut Findings<'_, 'a>) -> Option<At<u32>> {
    match size(word.value) {
        Some(value) => Some(At { column: word.column, value }),
        None => findings.fail(word.column, Kind::Size(word.value)),
    }
}

fn wait<'a>(word: At<&'a [u8]>, limits: &mut Limits, findings: &mut Findings<'_, 'a>) -> Option<At<bool>> {
    let bare = word.value.strip_prefix(b"no");
    let Some(rest) = bare.unwrap_or(word.value).strip_prefix(b"wait") else {
        return findings.fail(word.column, Kind::Wait(word.value));
    };
    let wait = Some(At { column: word.column, value: bare.is_none() });
    let mut column = word.column.saturating_add(column_of(word.value.len() - rest.len()));
    match rest {
        [] => wait,
        [b'.' | b':', digits @ ..] => match number(digits) {
            Some(0) => findings.fail(column, Kind::Zero),
            Some(value) => {
                limits.per_minute = Some(At { column, value });
                wait
            }
            None => findings.fail(column, Kind::Number(digits)),
        },
        [b'/', numbers @ ..] => {
            let slots =
                &mut [&mut limits.children, &mut limits.per_minute_source, &mut limits.children_source];
            let mut good = true;
            for (i, digits) in numbers.split(|&b| b == b'/').enumerate() {
                match (slots.get_mut(i), number(digits)) {
                    (Some(slot), Some(value)) => **slot = Some(At { column, value }),
                    (None, _) => {
                        findings.add(word.column, Kind::Wait(word.value));
                        return None;
                    }
                    (_, None) => {
                        findings.add(column, Kind::Number(digits));
                        good = false;
                    }
                }
                column = column.saturating_add(column_of(digits.len()));
            }
            if let Some(children) = limits.children.filter(|children| children.value > 32767) {
                return findings.fail(children.column, Kind::Children);
            }
            wait.filter(|_| good)
        }
        _ => findings.fail(word.column, Kind::Wait(word.value)),
    }
}

pub(super) fn account<'a>(word: At<&'a [u8]>, findings: &mut Findings<'_, 'a>) -> Option<Account<'a>> {
    let (name, class) = split_once(word, b'/');
    let (user, group) = split_once(name, b':');
    let parts = [Some(user), group, class];
    let empty = parts.into_iter().flatten().any(|part| part.value.is_empty());
    let more =
        [group, class].into_iter().flatten().any(|part| part.value.iter().any(|b| matches!(b, b':' | b'/')));
    if empty || more {
        return findings.fail(word.column, Kind::Account(word.value));
    }
    let dot = user.value.iter().rposition(|&b| b == b'.').filter(|_| group.is_none());
    let dotted = dot.filter(|&dot| dot > 0 && dot + 1 < user.value.len()).map(|dot| Dotted {
        user: At { column: user.column, value: &user.value[..dot] },
        group: At { column: user.column.saturating_add(column_of(dot)), value: &user.value[dot + 1..] },
    });
    Some(Account { user, group, dotted, class })
}

pub(super) fn program<'a>(word: Word<'a>, findings: &mut Findings<'_, 'a>) -> Option<Program<'a>> {
    if word.is_empty() {
        return findings.fail(word.column, Kind::Empty(Field::Program));
    }
    if word.plain() == Some(b"internal") {
        return Some(Program::Internal { column: word.column });
    }
    if word.bytes().next() != Some(b'/') {
        findings.add(word.column, Kind::NotAbsolute(word.plain().unwrap_or(word.raw())));
    }
    Some(Program::Path(word))
}

impl<'a> Draft<'a> {
    pub fn new(column: u32, service: Word<'a>) -> Self {
        Draft {
            column,
            enabled: true,
            addresses: None,
            service: service.plain_at(),
            socket: None,
            protocol: None,
            send_buffer: None,
            receive_buffer: None,
            wait: None,
            limits: Limits::default(),
            account: None,
            program: None,
            args: Words::none(),
        }
    }

    /// Checks the fields against each other.
    pub fn finish(mut self, findings: &mut Findings<'_, 'a>) -> Line<'a> {
        let service = self.service.and_then(|word| self.split(word, findings));
        if let Some(service) = service {
            self.check_service(service, findings);
        }
        if let (Some(socket), Some(protocol)) = (self.socket, self.protocol) {
            let transport = protocol.value.transport;
            if matches!(
                (socket.value, transport),
                (Socket::Stream, Transport::Udp) | (Socket::Dgram, Transport::Tcp)
            ) {
                findings.add(protocol.column, Kind::Mismatch(socket.value, transport));
            }
        }
        let mut args = self.args;
        let first = args.next();
        match (self.program, first) {
            (Some(Program::Internal { .. }), Some(word)) if args.next().is_some() => {
                findings.add(word.column, Kind::InternalArguments);
            }
            (Some(Program::Path(_)), Some(word)) if word.bytes().next() == Some(b'-') => {
                // A login shell is meant by `-sh`; options have more often lost their argv[0].
                findings.add(word.column, Kind::DashFirst(word.plain().unwrap_or(word.raw())));
            }
            _ => {}
        }
        if !findings.any_error() {
            if let (Some(service), Some(socket), Some(protocol), Some(wait), Some(program)) =
                (service, self.socket, self.protocol, self.wait, self.program)
            {
                return Line::Record(Record {
                    column: self.column,
                    enabled: self.enabled,
                    addresses: self.addresses,
                    service,
                    socket,
                    protocol,
                    send_buffer: self.send_buffer,
                    receive_buffer: self.receive_buffer,
                    wait,
                    limits: self.limits,
                    account: self.account,
                    program,
                    args: self.args,
                });
            }
            debug_assert!(false, "a record is incomplete and nobody said so");
        }
        Line::Broken(Broken {
            column: self.column,
            addresses: self.addresses,
            service,
            socket: self.socket,
            protocol: self.protocol,
        })
    }

    /// Takes the addresses off the first word and reads the rest of it.
    fn split(&mut self, word: At<&'a [u8]>, findings: &mut Findings<'_, 'a>) -> Option<At<Service<'a>>> {
        if word.value.starts_with(b"/") {
            return Some(At { column: word.column, value: Service::Path { path: word.value, node: None } });
        }
        let path = word.value.windows(2).position(|pair| pair == b":/");
        if word.value.starts_with(b":") && path.is_some() {
            let service = node(word, findings)?;
            return Some(At { column: word.column, value: service });
        }
        let colon = path.or_else(|| word.value.iter().rposition(|&b| b == b':'));
        let name = match colon {
            None => word,
            Some(colon) => {
                let addresses = Addresses { raw: &word.value[..colon], column: word.column };
                if self.addresses.is_some() {
                    return findings.fail(word.column, Kind::AddressTwice);
                }
                self.addresses = addresses.check(findings);
                At { column: word.column.saturating_add(column_of(colon)), value: &word.value[colon + 1..] }
            }
        };
        let value = service(name, findings)?;
        Some(At { column: name.column, value })
    }

    fn check_service(&self, service: At<Service<'a>>, findings: &mut Findings<'_, 'a>) {
        if let (Service::Path { .. }, Some(addresses)) = (service.value, self.addresses) {
            findings.add(addresses.column, Kind::UnixAddress);
        }
        let Some(protocol) = self.protocol else { return };
        let Protocol { transport, rpc, .. } = protocol.value;
        match service.value {
            Service::Path { .. } if transport != Transport::Unix => {
                findings.add(protocol.column, Kind::PathProtocol);
            }
            Service::Path { .. } => {}
            _ if transport == Transport::Unix => findings.add(service.column, Kind::UnixService),
            Service::Rpc { .. } if !rpc => findings.add(protocol.column, Kind::RpcProtocol),
            Service::Rpc { .. } => {}
            _ if rpc => findings.add(service.column, Kind::RpcNoVersion),
            Service::Mux { .. } => {
                let stream = self.socket.is_none_or(|socket| socket.value == Socket::Stream);
                if !stream || transport != Transport::Tcp {
                    findings.add(service.column, Kind::MuxProtocol);
                }
            }
            Service::Name(_) | Service::Port(_) => {}
        }
    }
}

/// `:USER:GROUP:MODE:/PATH`.
fn node<'a>(word: At<&'a [u8]>, findings: &mut Findings<'_, 'a>) -> Option<Service<'a>> {
    let (_, user) = split_once(word, b':');
    let (user, group) = user.map(|rest| split_once(rest, b':'))?;
    let parts = group.map(|rest| split_once(rest, b':')).and_then(|(group, mode)| {
        let (mode, path) = split_once(mode?, b':');
        Some((group, mode, path.filter(|path| path.value.starts_with(b"/"))?))
    });
    let Some((group, mode, path)) = parts else {
        return findings.fail(word.column, Kind::NodeForm);
    };
    let given = |part: At<&'a [u8]>| Some(part).filter(|part| !part.value.is_empty());
    let mode = match given(mode) {
        None => None,
        Some(digits) => match octal(digits.value) {
            Some(value) => Some(At { column: digits.column, value }),
            None => return findings.fail(digits.column, Kind::NodeMode(digits.value)),
        },
    };
    Some(Service::Path {
        path: path.value,
        node: Some(Node { user: given(user), group: given(group), mode }),
    })
}

fn octal(digits: &[u8]) -> Option<u16> {
    digits
        .iter()
        .try_fold(0u16, |n, b| Some(n.checked_mul(8)? + u16::from(b.checked_sub(b'0').filter(|&d| d < 8)?)))
        .filter(|&mode| mode <= 0o7777)
}

/// What stands behind the addresses.
fn service<'a>(word: At<&'a [u8]>, findings: &mut Findings<'_, 'a>) -> Option<Service<'a>> {
    let name = word.value;
    if name.is_empty() {
        return findings.fail(word.column, Kind::Empty(Field::Service));
    }
    if name.starts_with(b"/") {
        return Some(Service::Path { path: name, node: None });
    }
    if let Some(rest) = name.strip_prefix(b"tcpmux/") {
        let (rest, plus) = rest.strip_prefix(b"+").map_or((rest, false), |rest| (rest, true));
        if rest.is_empty() {
            return findings.fail(word.column, Kind::MuxName);
        }
        return Some(Service::Mux { name: rest, plus });
    }
    if let (program, Some(versions)) = split_once(word, b'/') {
        let (low, high) = split_once(versions, b'-');
        let low = number(low.value);
        return match (low, high.map_or(low, |high| number(high.value))) {
            (Some(low), Some(high)) if low <= high && !program.value.is_empty() => {
                Some(Service::Rpc { name: program.value, low, high })
            }
            _ => findings.fail(versions.column, Kind::RpcVersion(versions.value)),
        };
    }
    let digits = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    if name.strip_prefix(b"+").is_some_and(digits) {
        return findings.fail(word.column, Kind::PortSign(name));
    }
    if digits(name) {
        let port = number::<u16>(name).filter(|&port| port > 0);
        return match port {
            Some(port) => Some(Service::Port(port)),
            None => findings.fail(word.column, Kind::Port(name)),
        };
    }
    Some(Service::Name(name))
}
