//! One word of a list: what it means, and whether it is this host, user or daemon.
//!
//! A word is looked at anew whenever it is met. What libwrap could never match, or matched by an accident of C, gets a
//! [`Fault`] and the widest sense it could have been meant in.

use core::net::{IpAddr, Ipv6Addr};

use super::problem::Fault;
use super::rule::split;
use crate::addr::ends_in;

/// What a word means as a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Host<'a> {
    Netgroup(&'a [u8]),
    File(&'a [u8]),
    Known,
    Local,
    V4 {
        net: u32,
        mask: u32,
    },
    Between(u32, u32),
    V6 {
        net: u128,
        bits: u8,
    },
    /// One address, of one interface if it says so.
    One6(Ipv6Addr, &'a [u8]),
    Text(Text<'a>),
    Nobody,
}

/// What a word means as text, letters of either case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Text<'a> {
    Glob(&'a [u8]),
    Suffix(&'a [u8]),
    All,
    Known,
    Prefix(&'a [u8]),
    Exact(&'a [u8]),
}

impl<'a> Text<'a> {
    pub fn parse(word: &'a [u8]) -> Self {
        Text::parse_with(word, Classes::of(word))
    }

    /// The same for a word whose bytes, or those of a longer one, have been looked at.
    pub fn parse_with(word: &'a [u8], classes: Classes) -> Self {
        if classes.has(Classes::GLOB) && word.iter().any(|b| matches!(b, b'*' | b'?')) {
            return Text::Glob(word);
        }
        match word {
            [b'.', ..] => Text::Suffix(word),
            _ if word.eq_ignore_ascii_case(b"ALL") => Text::All,
            _ if word.eq_ignore_ascii_case(b"KNOWN") => Text::Known,
            [.., b'.'] => Text::Prefix(word),
            _ => Text::Exact(word),
        }
    }

    /// Whether it matches whatever there is.
    pub fn is_all(self) -> bool {
        match self {
            Text::All => true,
            Text::Glob(pattern) => pattern.iter().all(|&b| b == b'*'),
            _ => false,
        }
    }

    pub fn matches(self, subject: &[u8]) -> bool {
        match self {
            Text::Glob(pattern) => glob(pattern, subject),
            Text::Suffix(suffix) => ends_in(subject, suffix),
            Text::All => true,
            Text::Known => !subject.eq_ignore_ascii_case(UNKNOWN),
            Text::Prefix(prefix) => {
                subject.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }
            Text::Exact(text) => subject.eq_ignore_ascii_case(text),
        }
    }
}

pub(super) const UNKNOWN: &[u8] = b"unknown";
pub(super) const PARANOID: &[u8] = b"paranoid";

/// `*` is any text and `?` any byte.
fn glob(pattern: &[u8], subject: &[u8]) -> bool {
    let (mut p, mut s) = (0, 0);
    // The last `*`, and how much of the subject it takes.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let is_same = match (pattern.get(p), subject.get(s)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p + 1, s));
                p += 1;
                continue;
            }
            (Some(b'?'), Some(_)) => true,
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        };
        if is_same {
            p += 1;
            s += 1;
        } else if let Some((behind, taken)) = star.filter(|&(_, taken)| taken < subject.len()) {
            star = Some((behind, taken + 1));
            p = behind;
            s = taken + 1;
        } else {
            return false;
        }
    }
}

impl<'a> Host<'a> {
    /// Whether the word can be a name too, so that somebody has to ask for the client's.
    pub fn may_be_name(self) -> bool {
        match self {
            Host::Text(Text::All) => false,
            Host::Text(Text::Glob(word) | Text::Suffix(word) | Text::Prefix(word) | Text::Exact(word)) => {
                word.iter().any(|b| !matches!(b, b'0'..=b'9' | b'.'))
            }
            Host::Text(Text::Known) | Host::Known | Host::Local | Host::Netgroup(_) => true,
            _ => false,
        }
    }

    /// What a word means as a host, and what is wrong with it. With an error the sense is the widest it could have.
    pub fn parse(word: &'a [u8]) -> (Self, Option<Fault>) {
        Host::parse_with(word, Classes::of(word))
    }

    /// The same for a word whose bytes have been looked at.
    pub fn parse_with(word: &'a [u8], classes: Classes) -> (Self, Option<Fault>) {
        // Most words of long files.
        if classes.is_numeric() && !word.is_empty() {
            return numbers(word);
        }
        let everybody = |fault| (Host::Text(Text::All), Some(fault));
        match word {
            [] => return everybody(Fault::HostEmpty),
            [b'@'] => return everybody(Fault::NetgroupEmpty),
            [b'@', name @ ..] => return (Host::Netgroup(name), None),
            [b'/', ..] => return (Host::File(word), None),
            // It may begin a comment, or be meant without.
            [b'#', ..] => {
                let rest = word.iter().position(|&b| b != b'#').and_then(|at| word.get(at..));
                return rest.map_or((Host::Nobody, Some(Fault::Hash)), |rest| {
                    (Host::parse(rest).0, Some(Fault::Hash))
                });
            }
            _ if word.eq_ignore_ascii_case(b"KNOWN") => return (Host::Known, None),
            _ if word.eq_ignore_ascii_case(b"LOCAL") => return (Host::Local, None),
            _ => {}
        }
        if classes.has(Classes::AT) {
            return everybody(Fault::HostAt);
        }
        if classes.has(Classes::SLASH)
            && let Some(at) = split(word, b'/')
        {
            let (net, mask) = (word.get(..at).unwrap_or(&[]), word.get(at + 1..).unwrap_or(&[]));
            return network(net, mask);
        }
        if classes.has(Classes::BRACKET) {
            return bracketed(word);
        }
        if classes.has(Classes::GLOB) {
            let fault = classes.has(Classes::ODD).then_some(Fault::Odd);
            return (Host::Text(if fault.is_some() { Text::All } else { Text::Glob(word) }), fault);
        }
        if classes.has(Classes::COLON) {
            return bare(word);
        }
        if classes.has(Classes::ODD) || classes.has(Classes::SLASH) {
            return everybody(Fault::Odd);
        }
        if !classes.has(Classes::LETTER) {
            return dashed(word);
        }
        let text = Text::parse(word);
        let fault = match text {
            Text::Exact(_) if [&b"FAIL"[..]].iter().any(|w| word.eq_ignore_ascii_case(w)) => {
                Some(Fault::Fail)
            }
            Text::Exact(_) if [&b"ANY"[..], b"NONE"].iter().any(|w| word.eq_ignore_ascii_case(w)) => {
                Some(Fault::NoKeyword)
            }
            _ => None,
        };
        (Host::Text(text), fault)
    }

    /// Whether it is this address, for those that look at nothing else.
    pub fn is_address(self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Host::V4 { net, mask }, Some(IpAddr::V4(a))) => a.to_bits() & mask == net,
            (Host::Between(from, to), Some(IpAddr::V4(a))) => (from..=to).contains(&a.to_bits()),
            (Host::V6 { net, bits }, Some(IpAddr::V6(a))) => {
                (net ^ a.to_bits()).leading_zeros() >= u32::from(bits)
            }
            (Host::One6(one, _), Some(IpAddr::V6(a))) => one == a,
            _ => false,
        }
    }
}

/// What kinds of bytes a word has.
#[derive(Clone, Copy)]
pub(super) struct Classes(u8);

impl Classes {
    /// Any byte of a name that is no digit, dot or dash: what makes it no address.
    const LETTER: u8 = 1;
    const DASH: u8 = 2;
    const SLASH: u8 = 4;
    const BRACKET: u8 = 8;
    pub const GLOB: u8 = 16;
    const COLON: u8 = 32;
    const ODD: u8 = 64;
    pub const AT: u8 = 128;

    pub fn of(word: &[u8]) -> Self {
        Classes(word.iter().fold(0, |all, byte| all | CLASSES[usize::from(*byte)]))
    }

    pub const fn has(self, class: u8) -> bool {
        self.0 & class != 0
    }

    /// Digits and dots alone.
    pub const fn is_numeric(self) -> bool {
        self.0 == 0
    }
}

/// The class of every byte: rules are looked at at every connection, and this is what they cost.
static CLASSES: [u8; 256] = {
    let mut all = [Classes::ODD; 256];
    let mut byte = 0;
    while byte < 256 {
        all[byte] = match byte as u8 {
            b'0'..=b'9' | b'.' => 0,
            b'-' => Classes::DASH,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'+' | b'%' | b'=' | 128.. => Classes::LETTER,
            b'/' => Classes::SLASH,
            b'[' | b']' => Classes::BRACKET,
            b'*' | b'?' => Classes::GLOB,
            b':' => Classes::COLON,
            b'@' => Classes::AT,
            _ => Classes::ODD,
        };
        byte += 1;
    }
    all
};

/// A word of digits, dots and dashes.
fn dashed(word: &[u8]) -> (Host<'_>, Option<Fault>) {
    let at = word.iter().position(|&b| b == b'-').unwrap_or(word.len());
    let (from, to) = (word.get(..at).unwrap_or(&[]), word.get(at + 1..).unwrap_or(&[]));
    match (decimal(from, 4), decimal(to, 4)) {
        (Some(from), Some(to)) => (Host::Between(from, to), Some(Fault::Range)),
        // 10-1-2-3.example may be a name, 10-1-2-3 too.
        _ => (Host::Text(Text::parse(word)), None),
    }
}

/// A word of digits and dots.
fn numbers(word: &[u8]) -> (Host<'_>, Option<Fault>) {
    let one = |net| Host::V4 { net, mask: u32::MAX };
    match (dotted(word), word) {
        (_, [b'.', ..]) => (Host::Text(Text::Suffix(word)), None),
        (Some(Dotted { address, parts: 4, ends_in_dot: true, .. }), _) => {
            (one(address), Some(Fault::BadAddress))
        }
        (_, [.., b'.']) => (Host::Text(Text::Prefix(word)), None),
        (Some(Dotted { address, parts: 4, is_spelling: true, .. }), _) => (one(address), None),
        (Some(Dotted { address, parts: 4, .. }), _) => (one(address), Some(Fault::NotCanonical)),
        (Some(Dotted { address, parts, .. }), _) => {
            (Host::V4 { net: address, mask: prefix(8 * parts) }, Some(Fault::Short))
        }
        (None, _) => (Host::Text(Text::All), Some(Fault::BadAddress)),
    }
}

/// An IPv6 address without brackets: in a file, or in brackets that hide it.
fn bare(word: &[u8]) -> (Host<'_>, Option<Fault>) {
    let Some((address, zone)) = scoped(word) else { return (Host::Text(Text::All), Some(Fault::Brackets)) };
    // Compared as text: it has to be spelt as addresses are.
    if is_spelling(address, word.strip_suffix(zone).unwrap_or(word)) {
        return (Host::One6(address, zone), None);
    }
    (Host::One6(address, zone), Some(Fault::BareV6))
}

/// Whether `text`, perhaps with a % at its end, is how `address` is written.
fn is_spelling(address: Ipv6Addr, text: &[u8]) -> bool {
    let mut spelt = heapless::String::<48>::new();
    let _ = core::fmt::Write::write_fmt(&mut spelt, format_args!("{address}"));
    spelt.as_bytes().eq_ignore_ascii_case(text.strip_suffix(b"%").unwrap_or(text))
}

/// `[2001:db8::1]`, with all that it is mistaken for.
fn bracketed(word: &[u8]) -> (Host<'_>, Option<Fault>) {
    let everybody = |fault| (Host::Text(Text::All), Some(fault));
    let [b'[', inner @ .., b']'] = word else { return everybody(Fault::Brackets) };
    if inner.iter().any(|b| matches!(b, b'*' | b'?')) {
        return (Host::Text(Text::Glob(inner)), Some(Fault::BracketGlob));
    }
    if let Some((address, zone)) = scoped(inner) {
        return match address.to_ipv4_mapped() {
            Some(plain) => (Host::V4 { net: plain.to_bits(), mask: u32::MAX }, Some(Fault::Mapped)),
            None => (Host::One6(address, zone), None),
        };
    }
    if let Some(at) = inner.iter().position(|&b| b == b'/') {
        let (net, mask) = (inner.get(..at).unwrap_or(&[]), inner.get(at + 1..).unwrap_or(&[]));
        return match (scoped(net), length(mask)) {
            (Some((net, _)), Length::Good(bits)) if bits <= 128 => {
                (Host::V6 { net: net.to_bits(), bits }, Some(Fault::LengthInside))
            }
            _ => everybody(Fault::Brackets),
        };
    }
    match decimal(inner, 4) {
        Some(net) => (Host::V4 { net, mask: u32::MAX }, Some(Fault::BracketV4)),
        None => everybody(Fault::Brackets),
    }
}

/// `NET/MASK` and `NET/LENGTH`.
fn network<'a>(net: &'a [u8], mask: &'a [u8]) -> (Host<'a>, Option<Fault>) {
    let everybody = |fault| (Host::Text(Text::All), Some(fault));
    if let [b'[', inner @ .., b']'] = net
        && let Some((net, _)) = scoped(inner)
    {
        return network6(net, mask, None);
    }
    if net.contains(&b':')
        && let Some((net, _)) = scoped(net)
    {
        return network6(net, mask, Some(Fault::BareV6));
    }
    let (net, fault) = match (quad(net), net) {
        (Some(quad), _) => (quad.address, quad.is_odd.then_some(Fault::NotDecimal)),
        (None, [b'[', inner @ .., b']']) => match decimal(inner, 4) {
            Some(net) => (net, Some(Fault::BracketV4)),
            None => return everybody(Fault::BadNet),
        },
        (None, _) => {
            let short = net.strip_suffix(b".").unwrap_or(net);
            match (1..4).find_map(|parts| decimal(short, parts)) {
                Some(net) => (net, Some(Fault::ShortNet)),
                None => return everybody(Fault::BadNet),
            }
        }
    };
    let (mask, worse) = if let Some(quad) = quad(mask) {
        let mask = quad.address;
        let is_scattered = mask.leading_ones() + mask.trailing_zeros() != 32 && mask != 0;
        match mask {
            u32::MAX => (mask, Some(Fault::AllOnes)),
            _ if mask.trailing_ones() + mask.leading_zeros() == 32 && mask != 0 && net & !mask != 0 => {
                (!mask, Some(Fault::Inverse))
            }
            _ if is_scattered => (mask, Some(Fault::Scattered)),
            _ => (mask, quad.is_odd.then_some(Fault::NotDecimal)),
        }
    } else {
        match length(mask) {
            Length::Good(0) => (0, Some(Fault::LengthZero)),
            Length::Good(bits) if bits <= 32 => (prefix(u32::from(bits)), None),
            Length::Good(_) => return everybody(Fault::BadLength),
            Length::Junk(bits) if (1..=32).contains(&bits) && !mask.contains(&b'.') => {
                (prefix(u32::from(bits)), Some(Fault::LengthJunk))
            }
            Length::Junk(_) => return everybody(Fault::BadMask),
        }
    };
    // Errors are told before what is only strange.
    let fault = match (fault, worse) {
        (Some(fault), _) if fault.is_error() => Some(fault),
        (fault, worse) => worse.or(fault),
    };
    let has_host_bits = net & !mask != 0;
    let fault =
        if has_host_bits && !fault.is_some_and(Fault::is_error) { Some(Fault::HostBits) } else { fault };
    (Host::V4 { net: net & mask, mask }, fault)
}

fn network6(net: Ipv6Addr, mask: &[u8], fault: Option<Fault>) -> (Host<'_>, Option<Fault>) {
    let plain = net.to_ipv4_mapped();
    let net = net.to_bits();
    if let (Some(plain), Length::Good(bits @ 96..=128)) = (plain, length(mask)) {
        let mask = prefix(u32::from(bits) - 96);
        return (Host::V4 { net: plain.to_bits() & mask, mask }, Some(Fault::Mapped));
    }
    match length(mask) {
        Length::Good(bits) if bits <= 128 => (Host::V6 { net, bits }, fault),
        Length::Good(_) => (Host::V6 { net, bits: 0 }, Some(Fault::BadLength)),
        Length::Junk(bits) => {
            let bits = if bits <= 128 { bits } else { 0 };
            (Host::V6 { net, bits }, Some(fault.unwrap_or(Fault::LengthJunk)))
        }
    }
}

enum Length {
    Good(u8),
    /// The number in front of what is none, 0 if there is none.
    Junk(u8),
}

/// A length as atoi(3) reads it.
fn length(text: &[u8]) -> Length {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = digits.iter().take(count).fold(0u8, |n, b| n.saturating_mul(10).saturating_add(b - b'0'));
    if count > 0 && count == digits.len() { Length::Good(number) } else { Length::Junk(number) }
}

const fn prefix(bits: u32) -> u32 {
    match u32::MAX.checked_shl(32 - if bits > 32 { 32 } else { bits }) {
        Some(mask) => mask,
        None => 0,
    }
}

pub(super) fn ip(text: &[u8]) -> Option<IpAddr> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// An IPv6 address, and its interface behind a %.
pub(super) fn scoped(text: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let at = text.iter().position(|&b| b == b'%');
    let (address, zone) = match at {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, &text[..0]),
    };
    match ip(address)? {
        IpAddr::V6(address) if at.is_none() || !zone.is_empty() => Some((address, zone)),
        _ => None,
    }
}

/// `parts` decimal numbers with dots between them, leading zeros as people mean them; those missing are 0.
fn decimal(text: &[u8], parts: u32) -> Option<u32> {
    dotted(text).filter(|d| d.parts == parts && !d.ends_in_dot).map(|d| d.address)
}

/// Up to four decimal numbers with dots between them.
struct Dotted {
    address: u32,
    parts: u32,
    /// No number has a zero in front.
    is_spelling: bool,
    ends_in_dot: bool,
}

fn dotted(text: &[u8]) -> Option<Dotted> {
    let mut all = Dotted { address: 0, parts: 0, is_spelling: true, ends_in_dot: false };
    let (mut number, mut digits) = (0u32, 0);
    for &byte in text {
        match byte {
            b'0'..=b'9' if digits < 3 => {
                all.is_spelling &= digits == 0 || number != 0;
                number = number * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 => {
                all.add(number)?;
                (number, digits) = (0, 0);
            }
            _ => return None,
        }
    }
    all.ends_in_dot = digits == 0;
    if digits > 0 {
        all.add(number)?;
    }
    (all.parts > 0).then_some(all)
}

impl Dotted {
    fn add(&mut self, number: u32) -> Option<()> {
        if number > 255 || self.parts == 4 {
            return None;
        }
        self.address |= number << (24 - 8 * self.parts);
        self.parts += 1;
        Some(())
    }
}

struct Quad {
    address: u32,
    /// Not as it is usually written.
    is_odd: bool,
}

/// Four numbers as inet_addr(3) reads them: in octal behind a 0, in hexadecimal behind 0x.
fn quad(text: &[u8]) -> Option<Quad> {
    // Nearly all are written so. A length is no quad.
    match dotted(text) {
        Some(Dotted { address, parts: 4, is_spelling: true, ends_in_dot: false }) => {
            return Some(Quad { address, is_odd: false });
        }
        Some(Dotted { parts: 1, .. }) => return None,
        _ => {}
    }
    let mut quad = Quad { address: 0, is_odd: false };
    let mut count = 0;
    for part in text.split(|&b| b == b'.') {
        let (digits, radix) = match part {
            [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
            [b'0', digits @ ..] if !digits.is_empty() => (digits, 8),
            _ => (part, 10),
        };
        quad.is_odd |= radix != 10;
        if digits.is_empty() || digits.len() > 8 || digits.first() == Some(&b'+') || count == 4 {
            return None;
        }
        let number = u32::from_str_radix(core::str::from_utf8(digits).ok()?, radix).ok()?;
        if number > 255 {
            return None;
        }
        quad.address |= number << (24 - 8 * count);
        count += 1;
    }
    (count == 4).then_some(quad)
}

/// The address a rule would have meant that was cut at its first colon, if `text` begins with one.
pub(super) fn uncut(text: &[u8]) -> Option<Host<'_>> {
    let len = text.iter().take_while(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')).count();
    // `dead::allow` is none.
    if text.get(len).is_some_and(|b| !matches!(b, b' ' | b',' | b'\t' | b'\r' | b'\n' | b'/' | b'%')) {
        return None;
    }
    let address = text.get(..len)?.strip_suffix(b":").filter(|t| !t.ends_with(b":")).or(text.get(..len))?;
    match ip(address)? {
        IpAddr::V6(address) => Some(match text.get(len..) {
            Some([b'/', rest @ ..]) => {
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                match length(rest.get(..digits)?) {
                    Length::Good(bits) if bits <= 128 => Host::V6 { net: address.to_bits(), bits },
                    _ => Host::V6 { net: 0, bits: 0 },
                }
            }
            _ => Host::One6(address, &[]),
        }),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn parsed(word: &str) -> (Host<'_>, Option<Fault>) {
        Host::parse(word.as_bytes())
    }

    #[test]
    fn networks_of_every_spelling() {
        let v4 = |a: [u8; 4], bits| Host::V4 { net: u32::from_be_bytes(a), mask: prefix(bits) };
        for (word, host, fault) in [
            ("10.1.2.0/24", v4([10, 1, 2, 0], 24), None),
            ("10.1.2.0/255.255.255.0", v4([10, 1, 2, 0], 24), None),
            ("10.0.0.0/+8", v4([10, 0, 0, 0], 8), None),
            ("10.0.0.0/08", v4([10, 0, 0, 0], 8), None),
            ("0.0.0.0/0.0.0.0", v4([0, 0, 0, 0], 0), None),
            ("10.1.2.3/24", v4([10, 1, 2, 0], 24), Some(Fault::HostBits)),
            ("0.0.0.0/0", v4([0, 0, 0, 0], 0), Some(Fault::LengthZero)),
            ("10.1.2.3/255.255.255.255", v4([10, 1, 2, 3], 32), Some(Fault::AllOnes)),
            ("10.1.2.0/0.0.0.255", v4([10, 1, 2, 0], 24), Some(Fault::Inverse)),
            ("10.0.0.0/8xyz", v4([10, 0, 0, 0], 8), Some(Fault::LengthJunk)),
            ("10.1.2/24", v4([10, 1, 2, 0], 24), Some(Fault::ShortNet)),
            ("10.1./16", v4([10, 1, 0, 0], 16), Some(Fault::ShortNet)),
            ("012.0.0.0/8", v4([10, 0, 0, 0], 8), Some(Fault::NotDecimal)),
            ("10.1", v4([10, 1, 0, 0], 16), Some(Fault::Short)),
            ("010.1.2.3", v4([10, 1, 2, 3], 32), Some(Fault::NotCanonical)),
            ("[10.1.2.3]", v4([10, 1, 2, 3], 32), Some(Fault::BracketV4)),
            ("10.1.2.3/33", Host::Text(Text::All), Some(Fault::BadLength)),
            ("10.0.0.0/", Host::Text(Text::All), Some(Fault::BadMask)),
            ("10.1.0.0/255.255", Host::Text(Text::All), Some(Fault::BadMask)),
            ("10.*/8", Host::Text(Text::All), Some(Fault::BadNet)),
            ("300.1.1.1", Host::Text(Text::All), Some(Fault::BadAddress)),
            ("!10.1.2.3", Host::Text(Text::All), Some(Fault::Odd)),
            ("[::]/0", Host::V6 { net: 0, bits: 0 }, None),
            ("[::]/129", Host::V6 { net: 0, bits: 0 }, Some(Fault::BadLength)),
            ("[::]/abc", Host::V6 { net: 0, bits: 0 }, Some(Fault::LengthJunk)),
            ("[::/16]", Host::V6 { net: 0, bits: 16 }, Some(Fault::LengthInside)),
            ("[::ffff:10.1.2.3]", v4([10, 1, 2, 3], 32), Some(Fault::Mapped)),
            ("[::ffff:a01:203]/112", v4([10, 1, 0, 0], 16), Some(Fault::Mapped)),
            ("[::ffff:0:0]/96", v4([0, 0, 0, 0], 0), Some(Fault::Mapped)),
            ("[::ffff:0:0]/95", Host::V6 { net: 0xffff << 32, bits: 95 }, None),
            ("[::1%lo]", Host::One6(Ipv6Addr::LOCALHOST, b"lo"), None),
            ("::1", Host::One6(Ipv6Addr::LOCALHOST, b""), None),
            ("0::1", Host::One6(Ipv6Addr::LOCALHOST, b""), Some(Fault::BareV6)),
            ("h.example", Host::Text(Text::Exact(b"h.example")), None),
        ] {
            assert_eq!(parsed(word), (host, fault), "{word}");
        }
    }

    #[test]
    fn wildcards() {
        for (pattern, subject, expected) in [
            ("*", "", true),
            ("**a", "bba", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "", false),
            ("10.?.*", "10.1.2.3", true),
            ("", "", true),
            ("", "x", false),
            ("*?", "x", true),
            ("H*", "host", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), subject.as_bytes()), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn an_address_cut_at_its_colon_is_found_again() {
        assert_eq!(uncut(b"::1"), Some(Host::One6(Ipv6Addr::LOCALHOST, b"")));
        assert_eq!(uncut(b"::1: allow"), Some(Host::One6(Ipv6Addr::LOCALHOST, b"")));
        assert_eq!(uncut(b"::/12 x"), Some(Host::V6 { net: 0, bits: 12 }));
        assert_eq!(uncut(b"dead::allow"), None);
        assert_eq!(uncut(b"abcd: allow"), None);
        assert_eq!(uncut(b""), None);
    }
}
