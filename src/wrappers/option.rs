//! What a rule does when it matches: the fields behind the second colon.

use super::expand::{self, Code};
use super::problem::Fault;
use super::{Endpoint, Facts, HostName, Language, Tables, User, Wanted, Which};
use crate::config::attr::{LEVELS, value_of};
use crate::config::source::Files;
use crate::errno::Errno;
use crate::names;

/// Bytes of an option as the file has them: `\:` stands for a colon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Value<'a>(pub(super) &'a [u8]);

impl<'a> Value<'a> {
    /// What they mean.
    pub fn bytes(self) -> impl Iterator<Item = u8> + use<'a> {
        let raw = self.0;
        raw.iter()
            .enumerate()
            .filter(move |(at, byte)| **byte != b'\\' || raw.get(at + 1) != Some(&b':'))
            .map(|(_, byte)| *byte)
    }

    /// Copies what they mean, if there is room.
    pub fn copy_to(self, buf: &mut [u8]) -> Option<&mut [u8]> {
        let mut len = 0;
        for byte in self.bytes() {
            *buf.get_mut(len)? = byte;
            len += 1;
        }
        buf.get_mut(..len)
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// One option, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opt<'a> {
    Allow,
    Deny,
    /// Run it with /dev/null on descriptors 0, 1 and 2. Expand it first.
    Spawn(Value<'a>),
    /// Run it instead of the server. Expand it first.
    Twist(Value<'a>),
    /// Was run, and succeeded: see [`Need::Command`](super::Need::Command).
    Aclexec(Value<'a>),
    /// How this client is logged, let in or not. The facility may be left to the daemon.
    Severity {
        facility: Option<Facility>,
        level: Level,
    },
    Keepalive,
    /// Seconds; 0 switches it off.
    Linger(u32),
    /// The user was asked for before the verdict.
    Rfc931(Option<u32>),
    /// The directory that has a file for the daemon, to be sent to the client first.
    Banners(Value<'a>),
    /// To be added to the nice value.
    Nice(i32),
    /// `NAME VALUE`. Expand it first.
    Setenv(Value<'a>),
    Umask(u16),
    User {
        name: &'a [u8],
        group: Option<&'a [u8]>,
    },
    Group(&'a [u8]),
}

/// The facilities hosts_options(5) knows, with their numbers of syslog(3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facility(pub u8);

/// The levels of syslog(3), by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level(pub u8);

/// Not those of xinetd.conf(5): libwrap refuses whom a rule with another one is about.
static FACILITIES: [(&str, u8); 17] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// The options of a rule, from left to right.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// `None`: the rule has no second colon.
    text: Option<&'a [u8]>,
    language: Language,
}

impl<'a> Options<'a> {
    pub(super) const NONE: Options<'static> = Options { text: None, language: Language::Options };

    pub(super) const fn new(text: Option<&'a [u8]>, language: Language) -> Self {
        Options { text, language }
    }

    /// All of them. Those of a verdict are good.
    pub fn iter(self) -> impl Iterator<Item = Opt<'a>> + use<'a> {
        self.fields().map_while(|(_, field)| field.ok())
    }

    /// Each with the offset of its name in the text, and of what is wrong with it.
    pub(super) fn fields(self) -> Fields<'a> {
        Fields { text: self.text, language: self.language, at: 0 }
    }

    /// The commands of its aclexec options.
    pub(super) fn commands(self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        self.iter().filter_map(|opt| match opt {
            Opt::Aclexec(command) => Some(command),
            _ => None,
        })
    }

    /// What must be known before they can be carried out, and is not.
    pub(super) fn first_need(self, facts: &Facts<'_>) -> Option<Wanted> {
        self.iter().find_map(|opt| match opt {
            Opt::Rfc931(seconds) if facts.user == User::NotAsked => Some(Wanted::User { seconds }),
            Opt::Spawn(value) | Opt::Twist(value) | Opt::Aclexec(value) | Opt::Setenv(value) => {
                expand::codes(value).find_map(|code| match code {
                    Code::User if facts.user == User::NotAsked => Some(Wanted::User { seconds: None }),
                    Code::ClientName if facts.client_name == HostName::NotAsked => Some(Wanted::ClientName),
                    Code::ServerName if facts.server_name == HostName::NotAsked => Some(Wanted::ServerName),
                    _ => None,
                })
            }
            _ => None,
        })
    }
}

/// See [`Options::fields`].
pub(super) struct Fields<'a> {
    text: Option<&'a [u8]>,
    language: Language,
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (usize, Result<Opt<'a>, Fault>);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.text?;
        let rest = text.get(self.at..)?;
        if self.language == Language::Shell {
            self.text = None;
            let value = trimmed(rest);
            return (!value.is_empty()).then_some((0, Ok(Opt::Spawn(Value(value)))));
        }
        let end = rest
            .iter()
            .enumerate()
            .position(|(at, &b)| b == b':' && at.checked_sub(1).and_then(|at| rest.get(at)) != Some(&b'\\'));
        let field = rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
        let blanks = field.iter().position(|b| !is_blank(*b)).unwrap_or(field.len());
        let place = self.at + blanks;
        let is_last = end.is_none();
        match end {
            Some(end) => self.at += end + 1,
            None => self.text = None,
        }
        Some((place, parse(trimmed(field), is_last)))
    }
}

pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !is_blank(*b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !is_blank(*b)).map_or(start, |at| at + 1);
    text.get(start..end).unwrap_or(&[])
}

/// One field, `NAME`, `NAME VALUE` or `NAME = VALUE`.
fn parse(field: &[u8], is_last: bool) -> Result<Opt<'_>, Fault> {
    let end = field.iter().position(|&b| is_blank(b) || b == b'=').unwrap_or(field.len());
    let (name, rest) = (field.get(..end).unwrap_or(&[]), trimmed(field.get(end..).unwrap_or(&[])));
    // One = belongs to the name, a second one to the value.
    let value = trimmed(rest.strip_prefix(b"=").unwrap_or(rest));
    if name.is_empty() {
        return Err(Fault::OptionEmpty);
    }
    let mut folded = [0; 9];
    let folded = folded.get_mut(..name.len()).ok_or(unknown(field))?;
    folded.copy_from_slice(name);
    folded.make_ascii_lowercase();
    let needed = || if value.is_empty() { Err(Fault::ValueMissing) } else { Ok(Value(value)) };
    let none = |opt| if value.is_empty() { Ok(opt) } else { Err(Fault::ValueExtra) };
    let last = |opt| if is_last { Ok(opt) } else { Err(Fault::NotLast) };
    // As text, since bytes would be compared one by one, in several times the code.
    match core::str::from_utf8(folded) {
        Ok("allow") => none(Opt::Allow).and_then(last),
        Ok("deny") => none(Opt::Deny).and_then(last),
        Ok("spawn") => needed().map(Opt::Spawn),
        Ok("twist") => needed().map(Opt::Twist).and_then(last),
        Ok("aclexec") => needed().map(Opt::Aclexec),
        Ok("severity") => needed().and_then(|value| severity(value.0)),
        Ok("keepalive") => none(Opt::Keepalive),
        Ok("linger") => {
            let seconds = number(needed()?.0).and_then(|n| u32::try_from(n).ok());
            seconds.map(Opt::Linger).ok_or(Fault::BadLinger)
        }
        Ok("rfc931") if value.is_empty() => Ok(Opt::Rfc931(None)),
        Ok("rfc931") => {
            let seconds = number(value).and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
            seconds.map(|n| Opt::Rfc931(Some(n))).ok_or(Fault::BadTimeout)
        }
        Ok("banners") => needed().map(Opt::Banners),
        Ok("nice") if value.is_empty() => Ok(Opt::Nice(10)),
        Ok("nice") => number(value).map(Opt::Nice).ok_or(Fault::BadNice),
        Ok("setenv") => {
            let value = needed()?;
            let name = value.0.split(|&b| is_blank(b)).next().unwrap_or(&[]);
            if name.contains(&b'=') { Err(Fault::BadVariable) } else { Ok(Opt::Setenv(value)) }
        }
        Ok("umask") => octal(needed()?.0).map(Opt::Umask).ok_or(Fault::BadUmask),
        Ok("user") => {
            let Value(value) = needed()?;
            let dot = value.iter().position(|&b| b == b'.');
            let name = value.get(..dot.unwrap_or(value.len())).unwrap_or(value);
            Ok(Opt::User { name, group: dot.and_then(|dot| value.get(dot + 1..)) })
        }
        Ok("group") => needed().map(|value| Opt::Group(value.0)),
        _ => Err(unknown(field)),
    }
}

fn unknown(field: &[u8]) -> Fault {
    match field.first() {
        Some(b'(' | b'/') => Fault::OptionSpawnWord,
        _ => Fault::OptionUnknown,
    }
}

fn severity(value: &[u8]) -> Result<Opt<'_>, Fault> {
    let (facility, level) = match value.iter().position(|&b| b == b'.') {
        Some(dot) => (value.get(..dot), value.get(dot + 1..)),
        None => (None, Some(value)),
    };
    let bad = Fault::BadSeverity;
    let facility = match facility {
        Some(word) => Some(Facility(value_of(&FACILITIES, word).ok_or(bad)?)),
        None => None,
    };
    let level = Level(level.and_then(|word| value_of(&LEVELS, word)).ok_or(bad)?);
    Ok(Opt::Severity { facility, level })
}

fn number(text: &[u8]) -> Option<i32> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn octal(text: &[u8]) -> Option<u16> {
    let digits = core::str::from_utf8(text).ok()?;
    u16::from_str_radix(digits, 8).ok().filter(|&mask| mask <= 0o777)
}

/// What a rule comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    Grant,
    Refuse,
    Delegate,
}

/// What a rule of that file comes to with its options, or the first thing that is wrong with them and its offset.
pub(super) fn effect<F: Files>(
    options: Options<'_>,
    files: &mut F,
    tables: &Tables<'_>,
    which: Which,
) -> Result<Effect, (Fault, usize)> {
    let mut effect = match which {
        Which::Allow => Effect::Grant,
        Which::Deny => Effect::Refuse,
    };
    for (at, field) in options.fields() {
        let opt = field.map_err(|fault| (fault, at))?;
        match opt {
            Opt::Allow => effect = Effect::Grant,
            Opt::Deny => effect = Effect::Refuse,
            Opt::Twist(_) => effect = Effect::Delegate,
            Opt::User { .. } | Opt::Group(_) => accounts(opt, files, tables).map_err(|fault| (fault, at))?,
            _ => {}
        }
    }
    Ok(effect)
}

/// Whether user and group exist.
pub(super) fn accounts<F: Files>(opt: Opt<'_>, files: &mut F, tables: &Tables<'_>) -> Result<(), Fault> {
    let (user, group) = match opt {
        Opt::User { name, group } => (Some(name), group),
        Opt::Group(group) => (None, Some(group)),
        _ => return Ok(()),
    };
    let unreadable = |_: Errno| Fault::NamesUnreadable;
    if let Some(group) = group {
        names::group_by_name(files, tables.group, group).map_err(unreadable)?.ok_or(Fault::NoGroup)?;
    }
    if let Some(user) = user {
        names::user_by_name(files, tables.passwd, user).map_err(unreadable)?.ok_or(Fault::NoUser)?;
    }
    Ok(())
}

/// The words that tell who somebody is, for `%c` and `%s`.
pub(super) fn is_named<'a>(name: HostName<'a>, end: &Endpoint<'_>) -> Option<&'a [u8]> {
    match name {
        HostName::Known(name) if end.address.is_some() || !name.is_empty() => Some(name),
        _ => None,
    }
}

impl Facility {
    pub fn word(self) -> &'static str {
        word_of(&FACILITIES, self.0)
    }
}

impl Level {
    pub fn word(self) -> &'static str {
        word_of(&LEVELS, self.0)
    }
}

fn word_of(table: &'static [(&'static str, u8)], number: u8) -> &'static str {
    table.iter().find(|(_, n)| *n == number).map_or("?", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn all(text: &str) -> Vec<Result<Opt<'_>, Fault>> {
        Options::new(Some(text.as_bytes()), Language::Options).fields().map(|(_, field)| field).collect()
    }

    #[test]
    fn fields_names_and_values() {
        assert_eq!(
            all(" severity = mail.info : nice: ALLOW "),
            [
                Ok(Opt::Severity { facility: Some(Facility(2)), level: Level(6) }),
                Ok(Opt::Nice(10)),
                Ok(Opt::Allow),
            ]
        );
        assert_eq!(
            all("setenv A http\\://x : umask 022"),
            [Ok(Opt::Setenv(Value(b"A http\\://x"))), Ok(Opt::Umask(0o22)),]
        );
        assert_eq!(
            all("user bob.staff:group x"),
            [Ok(Opt::User { name: b"bob", group: Some(b"staff") }), Ok(Opt::Group(b"x")),]
        );
        assert_eq!(Value(b"a\\:b\\c").bytes().collect::<Vec<_>>(), b"a:b\\c");
    }

    #[test]
    fn every_mistake_has_its_fault() {
        for (text, fault) in [
            ("", Fault::OptionEmpty),
            ("allow:", Fault::NotLast),
            ("allow yes", Fault::ValueExtra),
            ("frobnicate", Fault::OptionUnknown),
            ("averyverylongname", Fault::OptionUnknown),
            ("(/bin/true) &", Fault::OptionSpawnWord),
            ("spawn", Fault::ValueMissing),
            ("severity ==info", Fault::BadSeverity),
            ("severity mail.", Fault::BadSeverity),
            ("severity .info", Fault::BadSeverity),
            ("nice fast", Fault::BadNice),
            ("linger -1", Fault::BadLinger),
            ("umask 1022", Fault::BadUmask),
            ("umask 8", Fault::BadUmask),
            ("rfc931 0", Fault::BadTimeout),
            ("setenv =FOO=bar", Fault::BadVariable),
        ] {
            assert_eq!(all(text).first(), Some(&Err(fault)), "{text}");
        }
    }
}
