//! The fixed table of services and the pools their strings and lists live in.
//!
//! Two tables exist: the one that serves, and the one a reload fills beside it. Nothing is ever removed from a
//! table singly; it is cleared as a whole before it is filled. So a pool is a plain vector that only grows, and a
//! [`Text`] or [`Span`] stays good as long as its table does.

use heapless::Vec;

use crate::addr::Prefix;
use crate::capacity::{GIDS, RULES, SERVICES, TEXT_BYTES, TIMES, WORDS};
use crate::service::{Minutes, Service};

/// A string in [`Table`]'s text pool, followed there by a NUL byte. The default is the empty string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Text {
    start: u16,
    len: u16,
}

impl Text {
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A range of one of [`Table`]'s lists. Which one, its field says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Span {
    pub start: u16,
    pub len: u16,
}

impl Span {
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A pool is full. Displays as what to raise and how, the cure of a diagnostic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// The constant in [`capacity`](crate::capacity), which is also the environment variable's name after `USHERD_`.
    pub capacity: &'static str,
    pub value: usize,
}

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "this build holds {} ({}); build with USHERD_{}={} or more",
            self.value,
            self.capacity,
            self.capacity,
            self.value.saturating_mul(2)
        )
    }
}

macro_rules! full {
    ($capacity:ident) => {
        Full { capacity: stringify!($capacity), value: $capacity }
    };
}

/// Whom a word of only_from or no_access means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Pattern {
    Network(Prefix),
    /// The name of a host or, with a dot in front, of all hosts of a domain; letters of either case.
    Name(Text),
}

/// Where something stands in a file, to be told to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Origin {
    pub file: Text,
    /// From 1.
    pub line: u32,
}

/// One word of only_from or no_access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Rule {
    pub pattern: Pattern,
    pub origin: Origin,
}

/// Index of a service in the table that holds it.
pub type ServiceIndex = u16;

#[cfg_attr(feature = "packed", derive(serde::Serialize))]
pub struct Table {
    services: Vec<Service, SERVICES>,
    text: Vec<u8, TEXT_BYTES>,
    words: Vec<Text, WORDS>,
    rules: Vec<Rule, RULES>,
    gids: Vec<u32, GIDS>,
    times: Vec<Minutes, TIMES>,
}

const _: () = assert!(TEXT_BYTES <= 65536 && WORDS <= 65536 && RULES <= 65536 && SERVICES <= 4096);

impl Table {
    pub const fn new() -> Table {
        Table {
            services: Vec::new(),
            text: Vec::new(),
            words: Vec::new(),
            rules: Vec::new(),
            gids: Vec::new(),
            times: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        self.services.clear();
        self.text.clear();
        self.words.clear();
        self.rules.clear();
        self.gids.clear();
        self.times.clear();
    }

    pub fn services(&self) -> &[Service] {
        &self.services
    }

    pub fn services_mut(&mut self) -> &mut [Service] {
        &mut self.services
    }

    pub fn service(&self, index: ServiceIndex) -> Option<&Service> {
        self.services.get(usize::from(index))
    }

    pub fn push_service(&mut self, service: Service) -> Result<ServiceIndex, Full> {
        let index = self.services.len();
        self.services.push(service).map_err(|_| full!(SERVICES))?;
        Ok(index as ServiceIndex)
    }

    /// Removes the services for which `keep` is false; the order of the others stays.
    pub fn retain_services(&mut self, keep: impl FnMut(&Service) -> bool) {
        self.services.retain(keep);
    }

    pub fn bytes(&self, text: Text) -> &[u8] {
        let start = usize::from(text.start);
        self.text.get(start..start + usize::from(text.len)).unwrap_or(&[])
    }

    /// The string with the NUL byte behind it, as system calls want it. Empty texts share one NUL.
    pub fn c_bytes(&self, text: Text) -> &[u8] {
        if text.is_empty() {
            return b"\0";
        }
        let start = usize::from(text.start);
        self.text.get(start..start + usize::from(text.len) + 1).unwrap_or(b"\0")
    }

    /// What `text` is from byte `from` on, without a copy.
    pub fn tail(&self, text: Text, from: usize) -> Text {
        let from = from.min(usize::from(text.len)) as u16;
        Text { start: text.start + from, len: text.len - from }
    }

    /// What `text` is before byte `to`, without a copy. It has no NUL behind it: not for system calls.
    pub fn head(&self, text: Text, to: usize) -> Text {
        Text { start: text.start, len: text.len.min(u16::try_from(to).unwrap_or(u16::MAX)) }
    }

    /// Copies `bytes` into the text pool, with a NUL behind them.
    pub fn push_text(&mut self, bytes: &[u8]) -> Result<Text, Full> {
        if bytes.is_empty() {
            return Ok(Text::default());
        }
        let start = self.text.len();
        if TEXT_BYTES - start < bytes.len() + 1 {
            return Err(full!(TEXT_BYTES));
        }
        // The check above leaves room for both, so neither can fail half way.
        let pushed = self.text.extend_from_slice(bytes).is_ok() && self.text.push(0).is_ok();
        debug_assert!(pushed);
        Ok(Text { start: start as u16, len: bytes.len() as u16 })
    }

    /// As [`push_text`](Table::push_text), from bytes that do not lie in one piece.
    pub fn push_bytes(&mut self, bytes: impl Iterator<Item = u8>) -> Result<Text, Full> {
        let start = self.text.len();
        for byte in bytes.chain([0]) {
            if self.text.push(byte).is_err() {
                self.text.truncate(start);
                return Err(full!(TEXT_BYTES));
            }
        }
        Ok(Text { start: start as u16, len: (self.text.len() - start - 1) as u16 })
    }

    pub fn words(&self, span: Span) -> &[Text] {
        part(&self.words, span)
    }

    pub fn push_words(&mut self, words: &[Text]) -> Result<Span, Full> {
        push_all(&mut self.words, words).ok_or(full!(WORDS))
    }

    pub fn rules(&self, span: Span) -> &[Rule] {
        part(&self.rules, span)
    }

    pub fn push_rules(&mut self, rules: &[Rule]) -> Result<Span, Full> {
        push_all(&mut self.rules, rules).ok_or(full!(RULES))
    }

    pub fn gids(&self, span: Span) -> &[u32] {
        part(&self.gids, span)
    }

    pub fn push_gids(&mut self, gids: &[u32]) -> Result<Span, Full> {
        push_all(&mut self.gids, gids).ok_or(full!(GIDS))
    }

    pub fn times(&self, span: Span) -> &[Minutes] {
        part(&self.times, span)
    }

    pub fn push_times(&mut self, times: &[Minutes]) -> Result<Span, Full> {
        push_all(&mut self.times, times).ok_or(full!(TIMES))
    }

    /// Bytes and entries in use, for the state dump and memory-budget.md: services, text bytes, words, rules,
    /// gids, times.
    pub fn in_use(&self) -> [(&'static str, usize, usize); 6] {
        [
            ("SERVICES", self.services.len(), SERVICES),
            ("TEXT_BYTES", self.text.len(), TEXT_BYTES),
            ("WORDS", self.words.len(), WORDS),
            ("RULES", self.rules.len(), RULES),
            ("GIDS", self.gids.len(), GIDS),
            ("TIMES", self.times.len(), TIMES),
        ]
    }

    /// Adds a copy of a service of another table, with all its strings and lists. A reload keeps a removed service
    /// whose servers still run this way.
    pub fn adopt(&mut self, from: &Table, service: &Service) -> Result<ServiceIndex, Full> {
        let copy = self.copy(from, service)?;
        self.push_service(copy)
    }

    /// A service of another table with all its strings and lists in the pools of this one, to be put in a place that
    /// is there already: a reload keeps the running predecessor of a broken service this way.
    pub fn copy(&mut self, from: &Table, service: &Service) -> Result<Service, Full> {
        use crate::service::{Answer, Bind, Host, LogFile, LogType, Target};
        let mut copy = *service;
        for text in [
            &mut copy.name,
            &mut copy.id,
            &mut copy.file,
            &mut copy.program,
            &mut copy.daemon,
            &mut copy.banner,
            &mut copy.banner_success,
            &mut copy.banner_fail,
        ] {
            *text = self.push_text(from.bytes(*text))?;
        }
        match &mut copy.bind {
            Bind::Interface(text) | Bind::Path(text) => *text = self.push_text(from.bytes(*text))?,
            Bind::Everywhere | Bind::Address(_) => {}
        }
        if let LogType::File(LogFile { path, .. }) = &mut copy.log_type {
            *path = self.push_text(from.bytes(*path))?;
        }
        for span in [&mut copy.argv, &mut copy.env, &mut copy.passenv] {
            let start = self.words.len();
            for word in from.words(*span) {
                let word = self.push_text(from.bytes(*word))?;
                self.words.push(word).map_err(|_| full!(WORDS))?;
            }
            *span = Span { start: start as u16, len: span.len };
        }
        if let Answer::Redirect(Target { host: Host::Name(name), .. }) = &mut copy.answer {
            *name = self.push_text(from.bytes(*name))?;
        }
        // Most rules come from the same file as those before them.
        let mut file = (Text::default(), Text::default());
        for span in [&mut copy.only_from, &mut copy.no_access] {
            let start = self.rules.len();
            for rule in from.rules(*span) {
                let mut rule = *rule;
                if let Pattern::Name(name) = &mut rule.pattern {
                    *name = self.push_text(from.bytes(*name))?;
                }
                if file.0 != rule.origin.file {
                    file = (rule.origin.file, self.push_text(from.bytes(rule.origin.file))?);
                }
                rule.origin.file = file.1;
                self.rules.push(rule).map_err(|_| full!(RULES))?;
            }
            *span = Span { start: start as u16, len: span.len };
        }
        copy.identity.groups = self.push_gids(from.gids(copy.identity.groups))?;
        copy.access_times = self.push_times(from.times(copy.access_times))?;
        Ok(copy)
    }
}

/// Why a packed table cannot be used: it was packed by another version of usherd, or for other capacities.
#[cfg(feature = "packed")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unpackable;

#[cfg(feature = "packed")]
impl Table {
    /// Writes the table into `out`, for firmware that has no files to read; the bytes it takes. `None` if they do not fit.
    /// Whoever [unpacks](Table::unpack) it must be built from the same version.
    pub fn pack<'o>(&self, out: &'o mut [u8]) -> Option<&'o [u8]> {
        postcard::to_slice(self, out).ok().map(|packed| &*packed)
    }

    /// Makes this table the packed one. If it does not fit, this one is empty.
    pub fn unpack(&mut self, packed: &[u8]) -> Result<(), Unpackable> {
        self.clear();
        let Table { services, text, words, rules, gids, times } = self;
        let unpacked = take(services, packed)
            .and_then(|rest| take(text, rest))
            .and_then(|rest| take(words, rest))
            .and_then(|rest| take(rules, rest))
            .and_then(|rest| take(gids, rest))
            .and_then(|rest| take(times, rest));
        if unpacked.is_err() {
            self.clear();
        }
        unpacked.map(drop)
    }
}

/// Takes a list from the beginning of packed bytes, item by item: a whole one on its way would need a small board's stack.
/// What is behind it.
#[cfg(feature = "packed")]
#[inline(never)]
fn take<'p, T: serde::Deserialize<'p>, const N: usize>(
    list: &mut Vec<T, N>,
    packed: &'p [u8],
) -> Result<&'p [u8], Unpackable> {
    let (len, mut rest) = postcard::take_from_bytes::<u32>(packed).map_err(|_| Unpackable)?;
    for _ in 0..len {
        let (item, behind) = postcard::take_from_bytes(rest).map_err(|_| Unpackable)?;
        list.push(item).map_err(|_| Unpackable)?;
        rest = behind;
    }
    Ok(rest)
}

impl Default for Table {
    fn default() -> Self {
        Table::new()
    }
}

fn part<T>(list: &[T], span: Span) -> &[T] {
    let start = usize::from(span.start);
    list.get(start..start + usize::from(span.len)).unwrap_or(&[])
}

/// All of `items` or, if they do not fit, none of them.
fn push_all<T: Clone, const N: usize>(list: &mut Vec<T, N>, items: &[T]) -> Option<Span> {
    let start = list.len();
    list.extend_from_slice(items).ok()?;
    Some(Span { start: start as u16, len: items.len() as u16 })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    #[test]
    fn texts_end_in_nul_and_survive_adoption() {
        let mut old = Box::new(Table::new());
        let name = old.push_text(b"echo").unwrap();
        let word = old.push_text(b"-v").unwrap();
        let argv = old.push_words(&[name, word]).unwrap();
        let service = Service { name, id: name, argv, ..Service::default() };
        let index = old.push_service(service).unwrap();
        assert_eq!(old.c_bytes(name), b"echo\0");

        let mut new = Box::new(Table::new());
        new.push_text(b"something before").unwrap();
        let copied = new.adopt(&old, old.service(index).unwrap()).unwrap();
        let copy = new.service(copied).unwrap();
        assert_eq!(new.bytes(copy.id), b"echo");
        let words: std::vec::Vec<_> = new.words(copy.argv).iter().map(|w| new.bytes(*w)).collect();
        assert_eq!(words, [b"echo".as_slice(), b"-v"]);
    }

    #[test]
    #[cfg(feature = "packed")]
    fn a_packed_table_is_the_same_one_again() {
        use crate::config::source::memory::Tree;
        use crate::config::{self, Loader};
        let conf = "defaults\n{\n\tno_access = 10.3.0.0/16 .evil.example\n}\nservice echo\n{\n\ttype = INTERNAL UNLISTED\n\t\
                    protocol = tcp\n\tport = 7\n\twait = no\n\tonly_from = 10.0.0.0/8 fd00::/8\n\tcps = 5 9\n\t\
                    access_times = 8:00-18:00\n}\n";
        let mut files = Tree::default().file("/conf", conf);
        let mut table = Box::new(Table::new());
        let mut report = |d: &config::diagnostic::Diagnostic<'_>| panic!("{d}");
        Loader::new().load(&mut files, &mut report, &mut table, b"/conf", &config::Options::default());
        let mut bytes = [0; 4096];
        let packed = table.pack(&mut bytes).unwrap();
        let mut other = Box::new(Table::new());
        other.unpack(packed).unwrap();
        assert_eq!(other.services(), table.services());
        let service = other.services()[0];
        assert_eq!((other.bytes(service.id), other.rules(service.no_access).len()), (b"echo".as_slice(), 2));
        assert_eq!(other.rules(service.only_from), table.rules(service.only_from));
        assert_eq!(other.times(service.access_times), [Minutes { from: 480, to: 1080 }]);
        for len in 0..packed.len() {
            assert_eq!(other.unpack(&packed[..len]), Err(Unpackable));
            assert!(other.services().is_empty());
        }
    }

    #[test]
    fn a_full_pool_takes_nothing_and_names_itself() {
        let mut table = Box::new(Table::new());
        let big = [b'x'; 4096];
        let mut last = Ok(Text::default());
        for _ in 0..=TEXT_BYTES / 4096 {
            last = table.push_text(&big);
        }
        let full = last.unwrap_err();
        assert_eq!(full.capacity, "TEXT_BYTES");
        let used = table.in_use()[1].1;
        assert!(table.push_text(&[b'y'; 4095]).is_err() || used + 4096 <= TEXT_BYTES);
    }
}
