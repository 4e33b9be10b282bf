//! Values of attributes, from their text.
//!
//! Nothing is read halfway: `10s`, `0x10` and `5.5` are no numbers, and what xinetd cut off or guessed is refused.

#![forbid(unsafe_code)]

use core::net::{IpAddr, Ipv4Addr};
use core::str::FromStr;

use crate::addr::{Prefix, plain};
use crate::service::{DenyTime, Limit, Minutes};

pub fn yes_no(word: &[u8]) -> Option<bool> {
    if word.eq_ignore_ascii_case(b"yes") {
        Some(true)
    } else if word.eq_ignore_ascii_case(b"no") {
        Some(false)
    } else {
        None
    }
}

/// A decimal number; with a sign only if `T` has negative values.
pub fn number<T: FromStr>(word: &[u8]) -> Option<T> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(word).ok()?.parse().ok()
}

/// A number, or `None` for UNLIMITED.
pub fn limit(word: &[u8]) -> Option<Option<u32>> {
    if word.eq_ignore_ascii_case(b"UNLIMITED") { Some(None) } else { number(word).map(Some) }
}

/// A number of seconds, or UNLIMITED: 0. Not 0 itself, which some would take for no limit and others for no time.
pub fn seconds(word: &[u8]) -> Option<u32> {
    match limit(word)? {
        None => Some(0),
        Some(seconds) => Some(seconds).filter(|seconds| *seconds > 0),
    }
}

/// A number with K, M or G behind it.
pub fn size(word: &[u8]) -> Option<u64> {
    let (digits, shift) = match word {
        [digits @ .., b'k' | b'K'] => (digits, 10),
        [digits @ .., b'm' | b'M'] => (digits, 20),
        [digits @ .., b'g' | b'G'] => (digits, 30),
        digits => (digits, 0),
    };
    number::<u64>(digits)?.checked_mul(1 << shift)
}

/// A resource limit. 0 sets none, as in xinetd.
pub fn rlimit(word: &[u8]) -> Option<Limit> {
    if word.eq_ignore_ascii_case(b"UNLIMITED") {
        return Some(Limit::Unlimited);
    }
    Some(match size(word)? {
        0 => Limit::Inherit,
        n => Limit::To(n),
    })
}

/// An octal number from 0 to 777.
pub fn octal(word: &[u8]) -> Option<u16> {
    let mut value = 0u16;
    if word.is_empty() {
        return None;
    }
    for b in word {
        if !(b'0'..=b'7').contains(b) {
            return None;
        }
        value = value * 8 + u16::from(b - b'0');
        if value > 0o777 {
            return None;
        }
    }
    Some(value)
}

/// How long a sensor keeps its clients out. 0 is NEVER, as in xinetd.
pub fn deny_time(word: &[u8]) -> Option<DenyTime> {
    match word {
        _ if word.eq_ignore_ascii_case(b"FOREVER") => Some(DenyTime::Forever),
        _ if word.eq_ignore_ascii_case(b"NEVER") => Some(DenyTime::Never),
        _ => number(word)
            .map(|minutes| if minutes == 0 { DenyTime::Never } else { DenyTime::Minutes(minutes) }),
    }
}

/// A positive number with a decimal point, in hundredths, rounded up: `1.5` is 150.
pub fn hundredths(word: &[u8]) -> Option<u32> {
    let (whole, part) = match word.iter().position(|&b| b == b'.') {
        Some(dot) => (word.get(..dot)?, word.get(dot + 1..)?),
        None => (word, &b"0"[..]),
    };
    if part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |i: usize| u32::from(part.get(i).copied().unwrap_or(b'0') - b'0');
    let more = u32::from(part.iter().skip(2).any(|&b| b != b'0'));
    let whole = if whole.is_empty() { 0 } else { number::<u32>(whole)? };
    let value = whole.checked_mul(100)?.checked_add(digit(0) * 10 + digit(1) + more)?;
    (value > 0).then_some(value)
}

/// `H:MM-H:MM`, both ends included. `24:00` is the end of the day, as in the sample of xinetd.conf(5), which xinetd
/// itself refuses.
pub fn minutes(word: &[u8]) -> Option<Minutes> {
    let dash = word.iter().position(|&b| b == b'-')?;
    let from = minute(word.get(..dash)?)?;
    let to = minute(word.get(dash + 1..)?)?;
    (from < to).then_some(Minutes { from, to: to.min(24 * 60 - 1) })
}

/// `HH:MM` or `H:MM`, as minutes from midnight: 0 to 1440.
pub fn minute(word: &[u8]) -> Option<u16> {
    let colon = word.iter().position(|&b| b == b':')?;
    let (hour, minute) = (word.get(..colon)?, word.get(colon + 1..)?);
    if hour.len() > 2 || minute.len() != 2 {
        return None;
    }
    let (hour, minute): (u16, u16) = (number(hour)?, number(minute)?);
    (minute < 60 && (hour < 24 || (hour, minute) == (24, 0))).then_some(hour * 60 + minute)
}

/// One word of only_from or no_access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address<'a> {
    Prefix(Prefix),
    /// `a.b.{c,d}`: a network for each number of the list.
    Several(Several<'a>),
    /// A host name, or `.domain`.
    Name(&'a [u8]),
}

/// The networks of a factorised address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Several<'a> {
    /// The octets before the braces, the rest zero.
    base: u32,
    /// How many octets those are.
    octets: u8,
    list: &'a [u8],
}

impl Several<'_> {
    /// The networks; `None` for what is no number from 0 to 255.
    pub fn prefixes(self) -> impl Iterator<Item = Option<Prefix>> {
        let Several { base, octets, .. } = self;
        self.list.split(|&b| b == b',').map(move |part| {
            let value = u32::from(number::<u8>(part)?);
            let shift = 24u32.checked_sub(8 * u32::from(octets))?;
            Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(base | value << shift)), 8 * (octets + 1))
        })
    }
}

/// Why a word is no address, and what to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoAddress {
    pub what: &'static str,
    pub cure: &'static str,
}

const fn no(what: &'static str, cure: &'static str) -> NoAddress {
    NoAddress { what, cure }
}

const FORMS: &str = "write addresses as 192.0.2.5, 192.0.2.0/24 or 2001:db8::/32, with blanks between them";

/// Reads a word of only_from or no_access.
pub fn address(word: &[u8]) -> Result<Address<'_>, NoAddress> {
    if word.eq_ignore_ascii_case(b"ALL") {
        return Err(no("is no address", "write `0.0.0.0/0 ::/0` for everybody"));
    }
    if let Some(open) = word.iter().position(|&b| b == b'{') {
        return several(word, open).ok_or(no("is no list of networks", "write it as 192.0.{2,3}"));
    }
    if word.contains(&b',') {
        return Err(no("has a comma in it", "put a blank between addresses"));
    }
    let text = core::str::from_utf8(word).unwrap_or("\0");
    if let Some((net, bits)) = text.split_once('/') {
        return network(net, bits).map(Address::Prefix);
    }
    match IpAddr::from_str(text) {
        Ok(IpAddr::V4(address)) => {
            // Zeros at the end stand for anything.
            let bits = match address.octets() {
                [0, 0, 0, 0] => 0,
                [_, 0, 0, 0] => 8,
                [_, _, 0, 0] => 16,
                [_, _, _, 0] => 24,
                _ => 32,
            };
            return Prefix::new(IpAddr::V4(address), bits)
                .map(Address::Prefix)
                .ok_or(no("is no address", FORMS));
        }
        Ok(address) => return Ok(Address::Prefix(Prefix::host(address))),
        Err(_) => {}
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        // inet_aton(3), which xinetd uses, makes 127.0.0.1 of `127.1` and 0.0.0.127 of `127`.
        return Err(no("is not a whole address", "write all four numbers, or a network as 127.0.0.0/8"));
    }
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        return Ok(Address::Name(word));
    }
    Err(no("is no address", FORMS))
}

fn network(net: &str, bits: &str) -> Result<Prefix, NoAddress> {
    if bits.contains('.') {
        let cure = "write how many bits count: 255.255.255.0 is /24, 255.255.0.0 is /16, 255.0.0.0 is /8";
        return Err(no("has a mask in it, which xinetd misreads", cure));
    }
    let address = IpAddr::from_str(net).map_err(|_| no("is no network", FORMS))?;
    let most = "an IPv4 address has 32 bits, an IPv6 address 128";
    let bits = number::<u8>(bits.as_bytes()).ok_or(no("has no number of bits behind the slash", most))?;
    Prefix::new(address, bits).ok_or(no("has too many bits behind the slash", most))
}

/// The network that `word` means, if there are bits behind those that count in it: it may not be the one that is meant.
pub fn with_host_bits(word: &[u8]) -> Option<Prefix> {
    let (net, bits) = core::str::from_utf8(word).ok()?.split_once('/')?;
    let prefix = network(net, bits).ok()?;
    let address = IpAddr::from_str(net).ok()?;
    let address = if prefix.address().is_ipv4() { plain(address) } else { address };
    (prefix.address() != address).then_some(prefix)
}

/// Whether the DNS can have a host or, with a dot in front, a domain of that name. The last part of a name in it begins
/// with a letter and has two of them at least, so that a mistyped address such as `10.0.0.1O` is not taken for a name
/// that nobody has.
pub fn is_host_name(word: &[u8]) -> bool {
    /// Longest name, and longest part of one (RFC 1035).
    const LONGEST: (usize, usize) = (253, 63);
    let name = word.strip_prefix(b".").unwrap_or(word);
    let mut parts = name.split(|&b| b == b'.');
    let sound = name.len() <= LONGEST.0 && parts.clone().all(|part| (1..=LONGEST.1).contains(&part.len()));
    sound && parts.next_back().is_some_and(|last| matches!(last, [b'a'..=b'z' | b'A'..=b'Z', _, ..]))
}

fn several(word: &[u8], open: usize) -> Option<Address<'_>> {
    let before = word.get(..open)?;
    let list = word.get(open + 1..)?.strip_suffix(b"}")?;
    let mut base = 0u32;
    let mut octets = 0u8;
    if !before.is_empty() {
        for part in before.strip_suffix(b".")?.split(|&b| b == b'.') {
            base |= u32::from(number::<u8>(part)?) << 24u32.checked_sub(8 * u32::from(octets))?;
            octets += 1;
        }
    }
    let several = Several { base, octets, list };
    several.prefixes().all(|p| p.is_some()).then_some(Address::Several(several))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[test]
    fn numbers_are_read_whole() {
        assert_eq!(number::<u32>(b"10"), Some(10));
        assert_eq!(number::<i8>(b"-20"), Some(-20));
        for junk in ["", "-", "+1", "10s", "0x10", "5.5", "-1", "99999999999", "٣"] {
            assert_eq!(number::<u32>(junk.as_bytes()), None, "{junk}");
        }
        assert_eq!(limit(b"unlimited"), Some(None));
        assert_eq!(limit(b"0"), Some(Some(0)));
    }

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(size(b"128M"), Some(128 << 20));
        assert_eq!(size(b"1k"), Some(1024));
        assert_eq!(size(b"M"), None);
        assert_eq!(size(b"99999999999999999G"), None);
        assert_eq!(rlimit(b"UNLIMITED"), Some(Limit::Unlimited));
        assert_eq!(rlimit(b"0"), Some(Limit::Inherit));
    }

    #[test]
    fn masks_are_octal_and_loads_decimal() {
        assert_eq!(octal(b"002"), Some(2));
        assert_eq!(octal(b"0777"), Some(0o777));
        assert_eq!((octal(b"8"), octal(b"1000"), octal(b"")), (None, None, None));
        assert_eq!(hundredths(b"2"), Some(200));
        assert_eq!(hundredths(b".5"), Some(50));
        assert_eq!(hundredths(b"1.051"), Some(106));
        assert_eq!((hundredths(b"0"), hundredths(b"1."), hundredths(b"2x")), (None, None, None));
    }

    #[test]
    fn times_of_day_run_to_midnight_at_most() {
        assert_eq!(minutes(b"2:00-8:59"), Some(Minutes { from: 120, to: 539 }));
        assert_eq!(minutes(b"12:00-24:00"), Some(Minutes { from: 720, to: 1439 }));
        for junk in
            ["22:00-6:00", "2:0-3:00", "1:00-1:00", "24:00-24:00", "1:60-2:00", "1:00-24:01", "1-2", ""]
        {
            assert_eq!(minutes(junk.as_bytes()), None, "{junk}");
        }
    }

    fn all(word: &str) -> Vec<String> {
        match address(word.as_bytes()) {
            Ok(Address::Prefix(p)) => [p.to_string()].into(),
            Ok(Address::Several(s)) => s.prefixes().map(|p| p.unwrap().to_string()).collect(),
            Ok(Address::Name(n)) => [String::from_utf8_lossy(n).into_owned()].into(),
            Err(e) => ["! ".to_string() + e.what].into(),
        }
    }

    #[test]
    fn addresses_come_in_all_of_xinetds_forms() {
        assert_eq!(all("127.0.1.0"), ["127.0.1.0/24"]);
        assert_eq!(all("127.9.0.0"), ["127.9.0.0/16"]);
        assert_eq!(all("0.0.0.0"), ["0.0.0.0/0"]);
        assert_eq!(all("10.50.90.31"), ["10.50.90.31/32"]);
        assert_eq!(all("127.0.{1,2}"), ["127.0.1.0/24", "127.0.2.0/24"]);
        assert_eq!(all("{10,172}"), ["10.0.0.0/8", "172.0.0.0/8"]);
        assert_eq!(all("1.2.3.{4}"), ["1.2.3.4/32"]);
        assert_eq!(all("192.231.139.77/24"), ["192.231.139.0/24"]);
        assert_eq!(all("::1"), ["::1/128"]);
        assert_eq!(all("::1/128"), ["::1/128"]);
        assert_eq!(all("::/0"), ["::/0"]);
        assert_eq!(all("::ffff:127.0.0.1"), ["127.0.0.1/32"]);
        assert_eq!(all("mgmt.example"), ["mgmt.example"]);
        assert_eq!(all(".example"), [".example"]);
    }

    #[test]
    fn a_network_is_written_without_the_host() {
        let means = |word: &str| with_host_bits(word.as_bytes()).map(|p| p.to_string());
        assert_eq!(means("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(means("2001:db8::1/32").as_deref(), Some("2001:db8::/32"));
        assert_eq!(means("::ffff:10.1.2.3/104").as_deref(), Some("10.0.0.0/8"));
        for fine in
            ["10.0.0.0/8", "0.0.0.0/0", "::/0", "10.1.2.3/32", "::ffff:10.0.0.0/104", "10.0.0.1", "a/b"]
        {
            assert_eq!(means(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_mistyped_address_is_no_name() {
        for name in ["host", "mgmt.example.org", ".example.org", ".lan", "a_b.xn--p1ai", "3com.com", "h2"] {
            assert!(is_host_name(name.as_bytes()), "{name}");
        }
        let long = "a.".repeat(130) + "org";
        for junk in ["10.0.0.1O", "10.0.0.l", "1O", "a..org", ".", "..org", "a.org.", "", "x", &long] {
            assert!(!is_host_name(junk.as_bytes()), "{junk}");
        }
    }

    #[test]
    fn sensors_keep_out_for_minutes() {
        assert_eq!(deny_time(b"60"), Some(DenyTime::Minutes(60)));
        assert_eq!(
            (deny_time(b"forever"), deny_time(b"0")),
            (Some(DenyTime::Forever), Some(DenyTime::Never))
        );
        assert_eq!((deny_time(b"-1"), deny_time(b"5m")), (None, None));
    }

    #[test]
    fn what_xinetd_misread_is_refused() {
        for (word, why) in [
            ("127", "not a whole address"),
            ("127.0.0.", "not a whole address"),
            ("10.0.0.0/255.0.0.0", "mask"),
            ("10.0.0.0/33", "too many bits"),
            ("10.0.0.0/", "no number of bits"),
            ("1.2.3.4,5.6.7.8", "comma"),
            ("ALL", "no address"),
            ("$(bogusnet)", "no address"),
            ("1.2.{3,400}", "no list"),
            ("1.2.3.4.{5}", "no list"),
            ("{", "no list"),
            ("1:2", "no address"),
            ("", "not a whole address"),
        ] {
            assert!(all(word)[0].contains(why), "{word}: {:?}", all(word));
        }
    }
}
