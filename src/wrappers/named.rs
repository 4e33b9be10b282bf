//! What a pattern only names: a file of hosts, a netgroup.

use super::list::{Answer, Context, Side};
use super::pattern::Host;
use super::problem::Fault;
use crate::config::lines::{Line, Lines, Source};
use crate::config::source::Files;
use crate::errno::Errno;
use crate::names::LINE;

/// Files in files, netgroups in netgroups.
pub(super) const DEPTH: u8 = 8;

/// Longest word of a file, in bytes: longer than any name or address.
const WORD: usize = 512;

impl<F: Files> Context<'_, F> {
    /// Whether a word of the file is the host. A file that is not there has none.
    pub(super) fn in_file(&mut self, path: &[u8], side: Side, at: usize, depth: u8) -> Answer {
        let deep = Answer::Doubt(Fault::FileDeep, at);
        if depth == DEPTH {
            return deep;
        }
        let Some(left) = self.left.checked_sub(1) else { return deep };
        self.left = left;
        let handle = match self.files.open(path) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Answer::No,
            Err(_) => return Answer::Doubt(Fault::FileUnreadable, at),
        };
        let mut words = Words::new();
        let mut answer = Answer::No;
        // Behind a # up to the line's end, and behind EXCEPT up to the file's, words are doubtful.
        let mut comment = 0;
        let mut is_except = false;
        loop {
            match words.advance(self.files, &handle) {
                Ok(Some(Word::Whole)) => {}
                Ok(Some(Word::TooLong)) => {
                    answer = answer.or(Answer::Doubt(Fault::WordTooLong, at));
                    continue;
                }
                Ok(None) => return answer,
                Err(_) => return Answer::Doubt(Fault::FileUnreadable, at),
            }
            let text = words.text();
            if text.eq_ignore_ascii_case(b"EXCEPT") && comment != words.line {
                is_except = true;
                answer = answer.doubted(Some(Fault::FileExcept), at);
                continue;
            }
            if text.first() == Some(&b'#') {
                comment = words.line;
                continue;
            }
            // What comes behind could only make it certain, or take it back.
            if answer == Answer::Yes {
                continue;
            }
            let doubt = if comment == words.line {
                Some(Fault::Hash)
            } else if is_except {
                Some(Fault::FileExcept)
            } else {
                None
            };
            answer = answer.or(self.file_word(text, side, at, depth).doubted(doubt, at));
        }
    }

    fn file_word(&mut self, word: &[u8], side: Side, at: usize, depth: u8) -> Answer {
        let (host, fault) = file_word(word);
        match host {
            FileWord::Host(Host::File(path)) => self.in_file(path, side, at, depth + 1),
            FileWord::Host(Host::Netgroup(group)) => match self.name(side, at) {
                Ok(name) => self.in_netgroup(group, name, at),
                Err(unsure) => unsure,
            },
            FileWord::Host(host) => self.host(host, side, at),
            FileWord::List(list) => list
                .split(|&b| b == b',')
                .filter(|part| !part.is_empty())
                .fold(Answer::No, |all, part| all.or(self.host(Host::parse(part).0, side, at))),
        }
        .doubted(fault, at)
    }

    /// Whether the netgroup has a host of that name, in any domain.
    pub(super) fn in_netgroup(&mut self, group: &[u8], name: &[u8], at: usize) -> Answer {
        self.netgroup(group, name, at, 0)
    }

    fn netgroup(&mut self, group: &[u8], name: &[u8], at: usize, depth: u8) -> Answer {
        let deep = Answer::Doubt(Fault::NetgroupDeep, at);
        if depth == DEPTH {
            return deep;
        }
        let Some(left) = self.left.checked_sub(1) else { return deep };
        self.left = left;
        let mut lines = Lines::<LINE>::new();
        if let Err(fault) = find_netgroup(self.files, self.tables.netgroup, group, &mut lines) {
            return Answer::Doubt(fault, at);
        }
        members(lines.text()).skip(1).fold(Answer::No, |answer, member| match (answer, member) {
            (Answer::Yes, _) => answer,
            (_, Member::Host(host)) => {
                answer.or(Answer::of(host.is_empty() || host.eq_ignore_ascii_case(name)))
            }
            (_, Member::Group(inner)) => answer.or(self.netgroup(inner, name, at, depth + 1)),
        })
    }
}

/// What is wrong with the name of a netgroup.
pub(super) fn netgroup_fault<F: Files>(files: &mut F, path: &[u8], group: &[u8]) -> Option<Fault> {
    find_netgroup(files, path, group, &mut Lines::new()).err()
}

/// Reads up to the line of a netgroup.
fn find_netgroup<F: Files>(
    files: &mut F,
    path: &[u8],
    group: &[u8],
    lines: &mut Lines<LINE>,
) -> Result<(), Fault> {
    let unreadable = |_: Errno| Fault::NetgroupUnreadable;
    let source = match files.open(path) {
        Ok(handle) => Source::File(handle),
        Err(Errno::NOENT) => return Err(Fault::NetgroupUnknown),
        Err(_) => return Err(Fault::NetgroupUnreadable),
    };
    loop {
        match lines.advance(files, &source).map_err(unreadable)? {
            Some(Line::Whole) => {}
            // Whom it names is not known.
            Some(Line::TooLong) => return Err(Fault::NetgroupUnreadable),
            None => return Err(Fault::NetgroupUnknown),
        }
        loop {
            match lines.join(files, &source, |text, _| text.ends_with(b"\\")).map_err(unreadable)? {
                Some(Line::Whole) => {}
                Some(Line::TooLong) => return Err(Fault::NetgroupUnreadable),
                None => break,
            }
        }
        if members(lines.text()).next() == Some(Member::Group(group)) {
            return Ok(());
        }
    }
}

/// What stands in a netgroup: its name first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Member<'a> {
    Group(&'a [u8]),
    /// The host of `(host, user, domain)`; empty for every host.
    Host(&'a [u8]),
}

fn members(line: &[u8]) -> impl Iterator<Item = Member<'_>> {
    let mut rest = line;
    core::iter::from_fn(move || {
        let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\\' | b'\r' | b'\n');
        let start = rest.iter().position(|b| !is_blank(b))?;
        let word = rest.get(start..)?;
        if let [b'#', ..] = word {
            return None;
        }
        if let [b'(', triple @ ..] = word {
            let end = triple.iter().position(|&b| b == b')').unwrap_or(triple.len());
            rest = triple.get(end + 1..).unwrap_or(&[]);
            let host = triple.get(..end)?.split(|&b| b == b',').next()?;
            return Some(Member::Host(host.trim_ascii()));
        }
        let end = word.iter().position(|b| is_blank(b) || *b == b'(').unwrap_or(word.len());
        rest = word.get(end..).unwrap_or(&[]);
        word.get(..end).map(Member::Group)
    })
}

/// A word of a file.
pub(super) enum FileWord<'a> {
    Host(Host<'a>),
    /// Words with commas between them.
    List(&'a [u8]),
}

/// What a word of a file means. Neither users nor commas are understood there.
pub(super) fn file_word(word: &[u8]) -> (FileWord<'_>, Option<Fault>) {
    if word.first() != Some(&b'/') && word.contains(&b',') {
        return (FileWord::List(word), Some(Fault::FileComma));
    }
    if !matches!(word.first(), Some(b'@' | b'/'))
        && let Some(at) = word.iter().position(|&b| b == b'@')
    {
        let host = Host::parse(word.get(at + 1..).unwrap_or(&[])).0;
        return (FileWord::Host(host), Some(Fault::FileUser));
    }
    let (host, fault) = Host::parse(word);
    (FileWord::Host(host), fault)
}

pub(super) enum Word {
    /// A word, now [`Words::text`].
    Whole,
    /// One longer than the buffer. It was skipped; `text` is empty.
    TooLong,
}

/// The words of a file, whatever blanks are between them.
pub(super) struct Words {
    buf: [u8; WORD],
    start: usize,
    end: usize,
    read: u64,
    /// The word handed out last.
    text: (usize, usize),
    /// Line and column of the word handed out last, from 1.
    pub line: u32,
    pub column: u32,
    /// Those of the byte at `start`.
    next: (u32, u32),
}

impl Words {
    pub fn new() -> Self {
        Words { buf: [0; WORD], start: 0, end: 0, read: 0, text: (0, 0), line: 0, column: 0, next: (1, 1) }
    }

    pub fn advance<F: Files>(&mut self, files: &mut F, file: &F::Handle) -> Result<Option<Word>, Errno> {
        // Up to the first byte of a word.
        loop {
            let Some(&byte) = self.buf.get(self.start..self.end).and_then(<[u8]>::first) else {
                if self.fill(files, file)? == 0 {
                    return Ok(None);
                }
                continue;
            };
            if !is_blank(byte) {
                break;
            }
            self.step(byte);
        }
        (self.line, self.column) = self.next;
        let mut scanned = 0;
        let mut is_too_long = false;
        loop {
            let fresh = self.buf.get(self.start + scanned..self.end).unwrap_or(&[]);
            match fresh.iter().position(|&b| is_blank(b)) {
                Some(n) => {
                    scanned += n;
                    break;
                }
                None => scanned += fresh.len(),
            }
            if self.start == 0 && self.end == WORD {
                is_too_long = true;
                self.next.1 = self.next.1.saturating_add(u32::try_from(scanned).unwrap_or(u32::MAX));
                self.start = self.end;
                scanned = 0;
            }
            if self.fill(files, file)? == 0 {
                break;
            }
        }
        let begin = self.start;
        self.start = begin + scanned;
        self.next.1 = self.next.1.saturating_add(u32::try_from(scanned).unwrap_or(u32::MAX));
        if is_too_long {
            self.text = (0, 0);
            return Ok(Some(Word::TooLong));
        }
        self.text = (begin, self.start);
        Ok(Some(Word::Whole))
    }

    /// The word [`advance`](Words::advance) found.
    pub fn text(&self) -> &[u8] {
        self.buf.get(self.text.0..self.text.1).unwrap_or(&[])
    }

    fn step(&mut self, byte: u8) {
        self.start += 1;
        self.next = match byte {
            b'\n' => (self.next.0.saturating_add(1), 1),
            _ => (self.next.0, self.next.1.saturating_add(1)),
        };
    }

    /// Reads more; what was handed out makes room.
    fn fill<F: Files>(&mut self, files: &mut F, file: &F::Handle) -> Result<usize, Errno> {
        if self.start > 0 && self.start <= self.end {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = self.buf.get_mut(self.end..).unwrap_or(&mut []);
        let n = files.read_at(file, self.read, room)?.min(room.len());
        self.end += n;
        self.read = self.read.saturating_add(n as u64);
        Ok(n)
    }
}

/// isspace(3).
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}
