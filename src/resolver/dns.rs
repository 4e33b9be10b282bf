//! DNS messages (RFC 1035 section 4): one question is written, and the answer to it is read.
//!
//! By hand, because file size is what usherd exists for: a small program (x86_64, optimised for size) that writes one
//! question and reads one answer grew by 12.5 kB with the `domain` crate 0.12 (heapless, no allocator), by 4.8 kB with
//! this module. It needs no memory beside the message, either: names are compared where they stand.
//!
//! A message comes from whoever can guess a port and a number, so every offset in it is a claim. What does not hold
//! makes the message [`Broken`]; nothing here panics, calls itself, or goes round.

#![forbid(unsafe_code)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::Vec;

/// Longest name of a host, in bytes, as libwrap's.
pub const HOST_BYTES: usize = 127;

/// A name as text, without the last dot. The longest that is ever asked for is one of these, too: ip6.arpa names have
/// 72 bytes.
pub type Name = Vec<u8, HOST_BYTES, u8>;

/// Longest message in a datagram without EDNS (RFC 1035 section 4.2.1). Longer ones are not asked for.
pub const MESSAGE_BYTES: usize = 512;

/// Longest question this module writes: the header, a name with a length before it and a zero behind it, type and class.
pub const QUERY_BYTES: usize = HEADER + HOST_BYTES + 2 + 4;

/// Aliases followed from the name asked for to the name with the records. Delegation needs one or two (RFC 2317); more in
/// a message of 512 bytes lead nowhere, or round.
const ALIASES: usize = 8;

const HEADER: usize = 12;
/// Longest name on the wire (RFC 1035 section 2.3.4).
const NAME_OCTETS: usize = 255;
const LABEL_OCTETS: usize = 63;

const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;

/// Flags and codes of the header's second word.
const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0xf << 11;
const AUTHORITATIVE: u16 = 1 << 10;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;
const CODE: u16 = 0xf;
const CODE_NO_SUCH_NAME: u16 = 3;

/// What a question asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// IPv4 addresses of a host.
    A,
    /// IPv6 addresses of a host.
    Aaaa,
    /// The name of an address.
    Ptr,
}

impl Kind {
    /// The kind of record that holds addresses like this one.
    pub const fn of(address: IpAddr) -> Kind {
        match address {
            IpAddr::V4(_) => Kind::A,
            IpAddr::V6(_) => Kind::Aaaa,
        }
    }

    /// TYPE (RFC 1035 section 3.2.2, RFC 3596 section 2.1).
    const fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Ptr => 12,
            Kind::Aaaa => 28,
        }
    }
}

/// The message contradicts itself, or ends too early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// Whether these bytes can be the name of a host: up to [`HOST_BYTES`] letters, digits, `-`, `_` and dots between
/// labels of 1 to 63. None begins with `-` (as glibc has it): such a word may end up on a command line.
pub fn is_host_name(name: &[u8]) -> bool {
    name.len() <= HOST_BYTES
        && name.first() != Some(&b'-')
        && name.split(|b| *b == b'.').all(|label| {
            (1..=LABEL_OCTETS).contains(&label.len())
                && label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// Whether a name could be taken for an address: one that is, and anything whose last label is a number, as `10.1` and
/// `0x7f000001` are to inet_aton(3). No top-level domain is a number.
pub fn is_numeric(name: &[u8]) -> bool {
    let last = name.rsplit(|b| *b == b'.').next().unwrap_or(&[]);
    let is_number = match last {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        digits => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
    };
    is_number || core::str::from_utf8(name).is_ok_and(|text| text.parse::<IpAddr>().is_ok())
}

/// The name under which the name of an address is kept (RFC 1035 section 3.5, RFC 3596 section 2.5).
pub fn reverse(address: IpAddr) -> Name {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let mut name = Name::new();
    // 72 bytes at most.
    let mut push = |bytes: &[u8]| {
        let _ = name.extend_from_slice(bytes);
    };
    match address {
        IpAddr::V4(address) => {
            for octet in address.octets().into_iter().rev() {
                let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                let leading = if octet >= 100 { 0 } else { 1 + usize::from(octet < 10) };
                push(digits.get(leading..).unwrap_or(&[]));
                push(b".");
            }
            push(b"in-addr.arpa");
        }
        IpAddr::V6(address) => {
            for octet in address.octets().into_iter().rev() {
                for nibble in [octet & 0xf, octet >> 4] {
                    push(&[HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'), b'.']);
                }
            }
            push(b"ip6.arpa");
        }
    }
    name
}

/// Writes a question: recursion desired, one name, no EDNS. The name is a host's ([`is_host_name`]) or a [`reverse`] one.
pub fn query(id: u16, name: &[u8], kind: Kind) -> Vec<u8, QUERY_BYTES> {
    let mut message = Vec::new();
    // A Name fits, by the length of QUERY_BYTES.
    let mut push = |bytes: &[u8]| {
        let _ = message.extend_from_slice(bytes);
    };
    push(&id.to_be_bytes());
    for word in [RECURSION_DESIRED, 1, 0, 0, 0] {
        push(&word.to_be_bytes());
    }
    for label in name.split(|b| *b == b'.') {
        push(&[label.len() as u8]);
        push(label);
    }
    push(&[0]);
    push(&kind.number().to_be_bytes());
    push(&CLASS_IN.to_be_bytes());
    message
}

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// There are records, to be kept so many seconds.
    Found(u32),
    /// There are no such records of this name, or there is no such name. So many seconds; 0 if the server did not say
    /// (RFC 2308 section 5).
    Nothing { seconds: u32, is_no_name: bool },
    /// The server does not know, does not want to, or makes no sense: another may.
    Failed,
}

/// A message that answers a question.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    message: &'a [u8],
    kind: Kind,
    flags: u16,
    /// Where the records begin.
    begin: usize,
    answers: u16,
    authorities: u16,
}

impl<'a> Answer<'a> {
    /// The message, if it is the answer to this question; `None` if it is somebody else's, which says nothing.
    pub fn to(message: &'a [u8], id: u16, name: &[u8], kind: Kind) -> Option<Answer<'a>> {
        let flags = word(message, 2)?;
        let is_answer = word(message, 0)? == id && flags & (RESPONSE | OPCODE) == RESPONSE;
        if !is_answer || word(message, 4)? != 1 {
            return None;
        }
        let mut labels = Labels::new(message, HEADER);
        for wanted in name.split(|b| *b == b'.') {
            if !labels.next().ok()??.eq_ignore_ascii_case(wanted) {
                return None;
            }
        }
        if labels.next().ok()?.is_some() {
            return None;
        }
        let behind = skip_name(message, HEADER)?;
        if word(message, behind)? != kind.number() || word(message, behind + 2)? != CLASS_IN {
            return None;
        }
        Some(Answer {
            message,
            kind,
            flags,
            begin: behind + 4,
            answers: word(message, 6)?,
            authorities: word(message, 8)?,
        })
    }

    /// Hands the data of every record asked for to `each`, by its place in the message. `aliases`: also those of the
    /// name that CNAME records of the answer lead to.
    pub fn read(&self, aliases: bool, each: &mut dyn FnMut(&Datum<'a>)) -> Said {
        let code = self.flags & CODE;
        if code != 0 && code != CODE_NO_SUCH_NAME {
            return Said::Failed;
        }
        // Nobody's data, from a server that does not look further: a referral (res_send(3) goes on likewise).
        if code == 0 && self.answers == 0 && self.flags & (AUTHORITATIVE | RECURSION_AVAILABLE) == 0 {
            return Said::Failed;
        }
        match self.found(aliases, each) {
            Err(Broken) => Said::Failed,
            Ok(Some(seconds)) => Said::Found(seconds),
            Ok(None) => Said::Nothing { seconds: self.negative_ttl(), is_no_name: code == CODE_NO_SUCH_NAME },
        }
    }

    /// For how long the records are good that were handed to `each`; `None` if there were none.
    fn found(&self, aliases: bool, each: &mut dyn FnMut(&Datum<'a>)) -> Result<Option<u32>, Broken> {
        let mut owner = HEADER;
        let mut seconds = u32::MAX;
        // The records of a chain may stand in any order, so each alias is looked for from the beginning.
        for _ in 0..if aliases { ALIASES } else { 0 } {
            let mut next = None;
            self.each_record(owner, TYPE_CNAME, &mut |record| next = Some((record.data, record.ttl)))?;
            let Some((target, ttl)) = next else { break };
            owner = target;
            seconds = seconds.min(ttl);
        }
        let mut found = None;
        let mut broken = Ok(());
        self.each_record(owner, self.kind.number(), &mut |record| {
            let datum = Datum { message: self.message, at: record.data, len: record.len };
            match self.kind {
                Kind::A if record.len != 4 => broken = Err(Broken),
                Kind::Aaaa if record.len != 16 => broken = Err(Broken),
                _ => each(&datum),
            }
            seconds = seconds.min(record.ttl);
            found = Some(seconds);
        })?;
        broken.map(|()| found)
    }

    /// Hands the records in the answer section of one owner and type to `each`. Of a message that was cut to a datagram (TC)
    /// those before the cut count.
    fn each_record(&self, owner: usize, number: u16, each: &mut dyn FnMut(&Record)) -> Result<(), Broken> {
        let mut at = self.begin;
        for _ in 0..self.answers {
            let Some(record) = Record::read(self.message, at) else {
                return if self.flags & TRUNCATED != 0 { Ok(()) } else { Err(Broken) };
            };
            at = record.behind();
            if record.is(number) && is_same_name(self.message, record.owner, owner)? {
                each(&record);
            }
        }
        Ok(())
    }

    /// For how long there is nothing: the smaller of the SOA record's TTL and its last number (RFC 2308 section 5).
    fn negative_ttl(&self) -> u32 {
        let mut at = self.begin;
        for n in 0..u32::from(self.answers) + u32::from(self.authorities) {
            let Some(record) = Record::read(self.message, at) else { break };
            at = record.behind();
            if n >= u32::from(self.answers) && record.is(TYPE_SOA) && record.len >= 20 {
                return long(self.message, at - 4).map_or(0, |minimum| record.ttl.min(ttl(minimum)));
            }
        }
        0
    }
}

/// The data of a record.
#[derive(Clone, Copy, Debug)]
pub struct Datum<'a> {
    message: &'a [u8],
    at: usize,
    len: usize,
}

impl Datum<'_> {
    /// The address in an A or AAAA record.
    pub fn address(&self) -> Option<IpAddr> {
        let data = self.message.get(self.at..self.at + self.len)?;
        if let Ok(octets) = <[u8; 4]>::try_from(data) {
            return Some(IpAddr::V4(Ipv4Addr::from(octets)));
        }
        <[u8; 16]>::try_from(data).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
    }

    /// The name in a PTR record as text. `Ok(None)`: it is too long, or has a dot that parts no labels.
    pub fn name(&self) -> Result<Option<Name>, Broken> {
        if skip_name(self.message, self.at) != Some(self.at + self.len) {
            return Err(Broken);
        }
        let mut name = Some(Name::new());
        let mut labels = Labels::new(self.message, self.at);
        while let Some(label) = labels.next()? {
            name = name.filter(|_| !label.contains(&b'.')).and_then(|mut name| {
                if !name.is_empty() {
                    name.push(b'.').ok()?;
                }
                name.extend_from_slice(label).ok()?;
                Some(name)
            });
        }
        Ok(name)
    }
}

/// A record, by its places in the message.
struct Record {
    owner: usize,
    number: u16,
    class: u16,
    ttl: u32,
    data: usize,
    len: usize,
}

impl Record {
    /// The record at `at`, all of it in the message.
    fn read(message: &[u8], at: usize) -> Option<Record> {
        let behind = skip_name(message, at)?;
        let data = behind + 10;
        let len = usize::from(word(message, behind + 8)?);
        message.get(data..data + len)?;
        Some(Record {
            owner: at,
            number: word(message, behind)?,
            class: word(message, behind + 2)?,
            ttl: ttl(long(message, behind + 4)?),
            data,
            len,
        })
    }

    fn is(&self, number: u16) -> bool {
        self.number == number && self.class == CLASS_IN
    }

    fn behind(&self) -> usize {
        self.data + self.len
    }
}

/// A TTL whose first bit is set means 0 (RFC 2181 section 8).
const fn ttl(seconds: u32) -> u32 {
    if seconds > i32::MAX as u32 { 0 } else { seconds }
}

/// The labels of a name in a message.
struct Labels<'a> {
    message: &'a [u8],
    at: usize,
    /// A pointer leads to before this, a prior occurrence of a name (RFC 1035 section 4.1.4), so there are no circles.
    before: usize,
    octets: usize,
}

impl<'a> Labels<'a> {
    const fn new(message: &'a [u8], at: usize) -> Self {
        Labels { message, at, before: at, octets: 0 }
    }

    fn next(&mut self) -> Result<Option<&'a [u8]>, Broken> {
        loop {
            match step(self.message, self.at).ok_or(Broken)? {
                Step::End => return Ok(None),
                Step::Label(label) => {
                    self.octets += 1 + label.len();
                    self.at += 1 + label.len();
                    // The zero at the end counts.
                    return if self.octets < NAME_OCTETS { Ok(Some(label)) } else { Err(Broken) };
                }
                Step::Pointer(to) if to < self.before => {
                    self.before = to;
                    self.at = to;
                }
                Step::Pointer(_) => return Err(Broken),
            }
        }
    }
}

/// What stands at a place in a name.
enum Step<'a> {
    End,
    Label(&'a [u8]),
    Pointer(usize),
}

fn step(message: &[u8], at: usize) -> Option<Step<'_>> {
    let len = *message.get(at)?;
    match len >> 6 {
        0 if len == 0 => Some(Step::End),
        0 => message.get(at + 1..at + 1 + usize::from(len)).map(Step::Label),
        3 => word(message, at).map(|to| Step::Pointer(usize::from(to & 0x3fff))),
        // 01 was tried and is obsolete (RFC 6891 section 5), 10 never was anything.
        _ => None,
    }
}

/// The place behind a name: behind its zero or its first pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match step(message, at)? {
            Step::End => return Some(at + 1),
            Step::Pointer(_) => return Some(at + 2),
            Step::Label(label) => at += 1 + label.len(),
        }
    }
}

/// Whether two names in a message are the same, letters of either case.
fn is_same_name(message: &[u8], a: usize, b: usize) -> Result<bool, Broken> {
    let (mut a, mut b) = (Labels::new(message, a), Labels::new(message, b));
    loop {
        match (a.next()?, b.next()?) {
            (None, None) => return Ok(true),
            (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => {}
            _ => return Ok(false),
        }
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn long(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
