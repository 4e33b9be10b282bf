//! Both files, rule by rule, with everything that is wrong: what tcpdchk(8) finds, and what it does not.

use core::fmt;

use heapless::Vec;

use super::expand::{self, Code};
use super::list::{SEGMENTS, cut_address, port, split_at, words};
use super::named::{self, FileWord, Word, Words, file_word};
use super::option::{self, Opt, Options};
use super::pattern::{Host, Text};
use super::problem::{Fault, Weight};
use super::rule::Line;
use super::{Tables, Which, Wrappers};
use crate::capacity::PATH_BYTES;
use crate::config::diagnostic::{Bytes, Diagnostic, Report, Severity};
use crate::config::source::{FileKind, Files};
use crate::errno::Errno;

/// What a check takes into account.
#[derive(Clone, Copy, Default)]
pub struct Check<'a> {
    /// Whether there is a daemon of that name; without it names are not looked at.
    pub is_daemon: Option<IsDaemon<'a>>,
    /// Whether there is an address for a host's name; without it names are not asked for.
    pub does_resolve: Option<DoesResolve<'a>>,
}

pub type IsDaemon<'a> = &'a dyn Fn(&[u8]) -> bool;
pub type DoesResolve<'a> = &'a dyn Fn(&[u8]) -> bool;

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    pub rules: u32,
    pub errors: u32,
    pub warnings: u32,
}

/// Rules that are remembered to find those never reached. Of those behind it is not told.
const REMEMBERED: usize = 256;

/// What earlier rules of the file leave to later ones.
struct Earlier {
    /// The line of a rule for all daemons and all clients.
    all: Option<u32>,
    /// Daemons that all clients are decided for, and the line.
    daemons: Vec<(u64, u32), REMEMBERED>,
    /// Daemon and client lists.
    lists: Vec<(u64, u32), REMEMBERED>,
}

impl Wrappers {
    /// Reports everything that is wrong with both files. A file that is not there is empty.
    pub fn check<F: Files>(
        &mut self,
        files: &mut F,
        tables: &Tables<'_>,
        check: &Check<'_>,
        report: &mut dyn Report,
    ) -> Count {
        let mut teller = Teller { report, file: &[], count: Count::default() };
        for which in [Which::Allow, Which::Deny] {
            teller.file = tables.path(which);
            self.check_file(files, tables, check, &mut teller);
        }
        teller.count
    }

    fn check_file<F: Files>(
        &mut self,
        files: &mut F,
        tables: &Tables<'_>,
        check: &Check<'_>,
        teller: &mut Teller<'_>,
    ) {
        let file = match self.rules.open(files, teller.file) {
            Ok(file) => file,
            Err(Errno::NOENT) => return,
            Err(errno) => return teller.unreadable(errno),
        };
        let mut earlier = Earlier { all: None, daemons: Vec::new(), lists: Vec::new() };
        loop {
            let line = match self.rules.advance(files, &file) {
                Ok(Some(line)) => line,
                Ok(None) => {
                    if self.rules.ends_inside(files, &file) {
                        teller.fault(Fault::NoNewline, (self.rules.last(), 0), &[]);
                    }
                    return;
                }
                Err(errno) => return teller.unreadable(errno),
            };
            if self.rules.is_over() && line != Line::Broken(Fault::LineTooLong, 0) {
                teller.fault(Fault::LineOver, (self.rules.line(), 0), &[]);
            }
            match line {
                Line::Nothing => {
                    // libwrap takes a comment behind it for a rule.
                    if let Some((Fault::ByteOrderMark, at)) = self.rules.doubt() {
                        teller.fault(Fault::ByteOrderMark, self.rules.place_of(at), &[]);
                    }
                }
                Line::Broken(fault, at) => teller.fault(fault, self.rules.place_of(at), &[]),
                Line::Rule => {
                    teller.count.rules = teller.count.rules.saturating_add(1);
                    self.check_rule(files, tables, check, &mut earlier, teller);
                }
            }
        }
    }

    fn check_rule<F: Files>(
        &self,
        files: &mut F,
        tables: &Tables<'_>,
        check: &Check<'_>,
        earlier: &mut Earlier,
        teller: &mut Teller<'_>,
    ) {
        let rules = &self.rules;
        let text = rules.text();
        let place = |at| rules.place_of(at);
        if let Some((fault, at)) = rules.doubt() {
            teller.fault(fault, place(at), &[]);
        }
        let [daemons, clients] = rules.lists();
        each(text, daemons, Fault::NoDaemons, |at, seen| match seen {
            Seen::Fault(fault) => teller.fault(fault, place(at), &[]),
            Seen::Word(word) => {
                let (daemon, host) = split_at(word);
                if let Some(fault) = daemon_fault(daemon, check) {
                    teller.fault(fault, place(at), daemon);
                }
                if let Some(host) = host {
                    host_word(files, tables, check, host, teller, place(at + word.len() - host.len()));
                }
            }
        });
        let cut = cut_address(text, clients);
        let list = cut.map_or(clients, |(at, _)| (clients.0, at.min(clients.1)));
        if cut.is_none() || words(text, list).next().is_some() {
            each(text, list, Fault::NoClients, |at, seen| match seen {
                Seen::Fault(fault) => teller.fault(fault, place(at), &[]),
                Seen::Word(word) => {
                    let (user, host) = match split_at(word) {
                        (user, Some(host)) => (user, host),
                        (host, None) => (&[][..], host),
                    };
                    if let Some(fault) = user_fault(user) {
                        teller.fault(fault, place(at), user);
                    }
                    host_word(files, tables, check, host, teller, place(at + word.len() - host.len()));
                }
            });
        }
        if let Some((at, _)) = cut {
            // The rest of the address would be complained about as an option.
            teller.fault(Fault::BareV6, place(at), text.get(at..).map_or(&[], first_word));
            return;
        }
        let mut is_certain = rules.doubt().is_none();
        for (at, field) in Options::new(rules.options(), tables.language).fields() {
            let at = rules.options_at() + at;
            let word = text.get(at..).map_or(&[][..], option_name);
            match field.and_then(|opt| option::accounts(opt, files, tables).map(|()| opt)) {
                Err(fault) => {
                    teller.fault(fault, place(at), word);
                    // What stands behind may be the rest of a value with a colon in it.
                    if field.is_err() {
                        break;
                    }
                }
                Ok(Opt::Aclexec(_)) => is_certain = false,
                Ok(Opt::Banners(directory)) => {
                    let mut path = [0; PATH_BYTES];
                    let kind = directory.copy_to(&mut path).map(|path| files.kind(path));
                    if !matches!(kind, Some(Ok(FileKind::Directory))) {
                        teller.fault(Fault::NoBanners, place(at), word);
                    }
                }
                Ok(_) => {}
            }
            if let Ok(Opt::Spawn(value) | Opt::Twist(value) | Opt::Aclexec(value) | Opt::Setenv(value)) =
                field
                && expand::codes(value).any(|code| code == Code::None)
            {
                teller.fault(Fault::Percent, place(at), word);
            }
        }
        if let Some((fault, line)) = earlier.note(text, daemons, clients, rules.line(), is_certain) {
            teller.earlier(fault, rules.line(), line);
        }
    }
}

/// What stands in a list.
enum Seen<'a> {
    Word(&'a [u8]),
    Fault(Fault),
}

/// Goes through a list: every word but EXCEPT, and what is wrong with the list itself.
fn each(text: &[u8], range: (usize, usize), empty: Fault, mut tell: impl FnMut(usize, Seen<'_>)) {
    let mut is_empty = true;
    let mut excepts = 0u32;
    for (at, word) in words(text, range) {
        if word.first() == Some(&b'#') {
            tell(at, Seen::Fault(Fault::Hash));
            return;
        }
        if !word.eq_ignore_ascii_case(b"EXCEPT") {
            is_empty = false;
            tell(at, Seen::Word(word));
            continue;
        }
        if is_empty {
            tell(at, Seen::Fault(Fault::ExceptNothing));
        }
        excepts += 1;
        if excepts == SEGMENTS as u32 {
            tell(at, Seen::Fault(Fault::ExceptDeep));
        }
        is_empty = true;
    }
    if is_empty {
        let fault = if excepts == 0 { empty } else { Fault::ExceptNothing };
        tell(range.0, Seen::Fault(fault));
    }
}

fn daemon_fault(word: &[u8], check: &Check<'_>) -> Option<Fault> {
    match (Text::parse(word), word) {
        (_, [b'/', ..]) => Some(Fault::DaemonPath),
        (_, [b'@', ..]) => Some(Fault::DaemonMark),
        (Text::Suffix(_) | Text::Prefix(_), _) => Some(Fault::DaemonPart),
        (Text::Known, _) => Some(Fault::DaemonKnown),
        (Text::Exact(_), _) if word.iter().all(u8::is_ascii_digit) => {
            port(word).is_none().then_some(Fault::PortTooBig)
        }
        (Text::Exact(_), _) if is_one_of(word, &[b"LOCAL", b"UNKNOWN", b"PARANOID"]) => {
            Some(Fault::DaemonReserved)
        }
        (Text::Exact(_), _) if is_one_of(word, &[b"FAIL"]) => Some(Fault::Fail),
        (Text::Exact(_), _) => check.is_daemon.and_then(|is| (!is(word)).then_some(Fault::DaemonUnknown)),
        _ => None,
    }
}

fn user_fault(word: &[u8]) -> Option<Fault> {
    match (Text::parse(word), word) {
        (_, [b'/' | b'@', ..]) => Some(Fault::UserMark),
        (Text::Suffix(_) | Text::Prefix(_), _) => Some(Fault::UserPart),
        (Text::Exact(_), _) if is_one_of(word, &[b"LOCAL", b"PARANOID"]) => Some(Fault::UserReserved),
        (Text::Exact(_), _) if is_one_of(word, &[b"FAIL"]) => Some(Fault::Fail),
        _ => None,
    }
}

fn is_one_of(word: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// A pattern that says what it says, and yet is hardly what was meant.
fn host_fault(host: Host<'_>, check: &Check<'_>) -> Option<Fault> {
    let Host::Text(text) = host else { return None };
    let is_numeric = |word: &[u8]| word.iter().all(|b| matches!(b, b'0'..=b'9' | b'.'));
    match text {
        Text::Suffix(word) | Text::Prefix(word) if is_numeric(word) => match text {
            _ if !may_be_part(word) => Some(Fault::Never),
            Text::Suffix(_) => Some(Fault::NumberEnd),
            _ => None,
        },
        Text::Prefix(_) => Some(Fault::NamePrefix),
        // Here dots are dots, and no name and no address has one at an end.
        Text::Glob([b'.', ..] | [.., b'.']) => Some(Fault::Never),
        Text::Exact(word) if !is_one_of(word, &[b"UNKNOWN", b"PARANOID"]) => {
            check.does_resolve.and_then(|does| (!does(word)).then_some(Fault::NameUnknown))
        }
        _ => None,
    }
}

/// Whether an IPv4 address can begin with `10.1.`, or end with `.2.3`.
fn may_be_part(word: &[u8]) -> bool {
    let inner = word.strip_prefix(b".").or(word.strip_suffix(b".")).unwrap_or(word);
    let is_number = |part: &[u8]| match part {
        [] => false,
        [b'0', _, ..] => false,
        _ => core::str::from_utf8(part).is_ok_and(|part| part.parse::<u8>().is_ok()),
    };
    inner.split(|&b| b == b'.').count() < 4 && inner.split(|&b| b == b'.').all(is_number)
}

fn host_word<F: Files>(
    files: &mut F,
    tables: &Tables<'_>,
    check: &Check<'_>,
    word: &[u8],
    teller: &mut Teller<'_>,
    place: (u32, u32),
) {
    let (host, fault) = Host::parse(word);
    if let Some(fault) = fault.or_else(|| host_fault(host, check)) {
        teller.fault(fault, place, word);
    }
    match host {
        Host::File(path) => file(files, check, path, teller, place),
        Host::Netgroup(group) if fault.is_none() => {
            if let Some(fault) = named::netgroup_fault(files, tables.netgroup, group) {
                teller.fault(fault, place, word);
            }
        }
        _ => {}
    }
}

/// The words of a file that a rule names. What it names itself is not followed.
fn file<F: Files>(files: &mut F, check: &Check<'_>, path: &[u8], teller: &mut Teller<'_>, place: (u32, u32)) {
    let handle = match files.open(path) {
        Ok(handle) => handle,
        Err(Errno::NOENT) => return teller.fault(Fault::FileMissing, place, path),
        Err(_) => return teller.fault(Fault::FileUnreadable, place, path),
    };
    let mut words = Words::new();
    let mut found = 0u32;
    let mut comment = 0;
    loop {
        let word = match words.advance(files, &handle) {
            Ok(None) => return,
            Err(_) => return teller.fault(Fault::FileUnreadable, place, path),
            Ok(Some(word)) => word,
        };
        let text = words.text();
        if words.line == comment {
            continue;
        }
        let fault = match word {
            Word::TooLong => Some(Fault::WordTooLong),
            Word::Whole if text.first() == Some(&b'#') => {
                comment = words.line;
                Some(Fault::Hash)
            }
            Word::Whole if text.eq_ignore_ascii_case(b"EXCEPT") => Some(Fault::FileExcept),
            Word::Whole => match file_word(text) {
                (FileWord::Host(host), None) => host_fault(host, check),
                (_, fault) => fault,
            },
        };
        let Some(fault) = fault else { continue };
        found = found.saturating_add(1);
        if found == 1 && fault.is_error() {
            teller.fault(Fault::InFile, place, path);
        }
        // The first few tell what kind of file it is.
        if found <= 10 {
            teller.within(path, fault, (words.line, words.column), text);
        }
    }
}

fn first_word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&b| matches!(b, b' ' | b',' | b'\t' | b'\r')).unwrap_or(text.len());
    text.get(..end).unwrap_or(&[])
}

fn option_name(text: &[u8]) -> &[u8] {
    let end =
        text.iter().position(|&b| matches!(b, b' ' | b'=' | b':' | b'\t' | b'\r')).unwrap_or(text.len());
    text.get(..end).unwrap_or(&[])
}

impl Earlier {
    /// Remembers a rule, and tells the line of one that leaves nothing to it.
    fn note(
        &mut self,
        text: &[u8],
        daemons: (usize, usize),
        clients: (usize, usize),
        line: u32,
        is_certain: bool,
    ) -> Option<(Fault, u32)> {
        let is_plain = |range| {
            !words(text, range).any(|(_, w)| w.eq_ignore_ascii_case(b"EXCEPT") || w.first() == Some(&b'#'))
        };
        let is_all =
            |range| is_plain(range) && words(text, range).any(|(_, w)| w.eq_ignore_ascii_case(b"ALL"));
        let both = mark(words(text, daemons).chain([(0, &b":"[..])]).chain(words(text, clients)));
        let mut covering = self.all.map(|line| (Fault::Shadowed, line));
        if covering.is_none() && is_plain(daemons) && words(text, daemons).next().is_some() {
            let mut first = None;
            let is_covered = words(text, daemons).all(|word| {
                let hash = mark([word].into_iter());
                let found = self.daemons.iter().find(|(seen, _)| *seen == hash).map(|(_, line)| *line);
                first = first.or(found);
                found.is_some()
            });
            covering = first.filter(|_| is_covered).map(|line| (Fault::Shadowed, line));
        }
        let twin = self.lists.iter().find(|(seen, _)| *seen == both).map(|(_, line)| (Fault::Twice, *line));
        if is_certain {
            // When the memory is full less is told, nothing wrong.
            let _ = self.lists.push((both, line));
            if is_all(clients) {
                if is_all(daemons) {
                    self.all.get_or_insert(line);
                } else if is_plain(daemons) {
                    for word in words(text, daemons) {
                        let _ = self.daemons.push((mark([word].into_iter()), line));
                    }
                }
            }
        }
        covering.or(twin)
    }
}

/// FNV-1a over words, letters of either case.
fn mark<'a>(words: impl Iterator<Item = (usize, &'a [u8])>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (_, word) in words {
        for byte in word.iter().chain(&[0]) {
            hash = (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

/// Hands findings on and counts them.
struct Teller<'a> {
    report: &'a mut dyn Report,
    file: &'a [u8],
    count: Count,
}

impl Teller<'_> {
    fn fault(&mut self, fault: Fault, place: (u32, u32), word: &[u8]) {
        let file = self.file;
        self.within(file, fault, place, word);
    }

    /// A fault in that file.
    fn within(&mut self, file: &[u8], fault: Fault, (line, column): (u32, u32), word: &[u8]) {
        let severity = match fault.weight() {
            Weight::Warning => Severity::Warning,
            Weight::Error => Severity::Error,
        };
        let (what, cure) = (fault.what(), fault.cure());
        if fault.is_of_word() && !word.is_empty() {
            // A word can be as long as the line; its beginning is enough to find it.
            let (shown, dots) = if word.len() > 64 { (word.get(..64), "...") } else { (Some(word), "") };
            let shown = Bytes(shown.unwrap_or(&[]));
            self.say(
                severity,
                file,
                (line, column),
                format_args!("`{shown}{dots}` {what}"),
                format_args!("{cure}"),
            );
        } else {
            self.say(severity, file, (line, column), format_args!("{what}"), format_args!("{cure}"));
        }
    }

    /// A rule that an earlier one makes idle.
    fn earlier(&mut self, fault: Fault, line: u32, earlier: u32) {
        let (file, what, cure) = (self.file, fault.what(), fault.cure());
        let what = format_args!("{what}: see line {earlier}");
        self.say(Severity::Warning, file, (line, 0), what, format_args!("{cure}"));
    }

    fn unreadable(&mut self, errno: Errno) {
        let file = self.file;
        let what = format_args!("the file cannot be read: {errno}");
        let cure = format_args!("everybody is refused; make it a file that may be read");
        self.say(Severity::Error, file, (0, 0), what, cure);
    }

    fn say(
        &mut self,
        severity: Severity,
        file: &[u8],
        (line, column): (u32, u32),
        what: fmt::Arguments<'_>,
        cure: fmt::Arguments<'_>,
    ) {
        match severity {
            Severity::Warning => self.count.warnings = self.count.warnings.saturating_add(1),
            Severity::Error => self.count.errors = self.count.errors.saturating_add(1),
        }
        self.report.report(&Diagnostic { severity, file, line, column, what, cure });
    }
}
