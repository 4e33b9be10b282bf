//! Files, one inside the other: `include`, `includedir` and `.include`, and which grammar a file is in.

#![forbid(unsafe_code)]

use heapless::Vec;

use super::diagnostic::Bytes;
use super::draft::{Draft, Kind};
use super::lines::{Line, Lines, Source};
use super::source::{FileKind, Files};
use super::token::{Assignment, Operator, Word, Words};
use super::{BUFFER, Context, Loader, WORDS_NAME, base_name, set};
use crate::capacity::{DRAFT_WORDS, INCLUDE_DEPTH, LINE_BYTES, NAME_BYTES, PATH_BYTES};
use crate::errno::Errno;
use crate::service::Dialect;
use crate::table::{Full, Text};

/// An open file and how far it was read.
pub(super) struct Frame<H> {
    pub source: Source<H>,
    pub path: Text,
    /// The line read last.
    pub line: u32,
    /// Where to go on when an included file is done.
    pub offset: u64,
    pub dialect: Dialect,
    /// xinetd: this file had its `defaults` section.
    pub has_defaults: bool,
    /// inetd: the line that says where entries listen that do not say, or empty.
    pub addresses: Text,
}

impl<H> Frame<H> {
    /// Moves to the next line of the file and keeps count.
    pub fn next_line<F: Files<Handle = H>>(
        &mut self,
        lines: &mut Lines<BUFFER>,
        cx: &mut Context<'_, F>,
    ) -> Result<Option<Line>, Errno> {
        let line = lines.advance(cx.files, &self.source)?;
        if line.is_some() {
            self.line = self.line.saturating_add(1);
        }
        cx.line = self.line;
        Ok(line)
    }
}

/// A directory, or what of it a pattern matches, read name by name.
struct Folder {
    dir: Text,
    /// What names must match; `None` for includedir's own rule.
    pattern: Option<Text>,
    /// The name read last.
    after: Vec<u8, NAME_BYTES>,
    dialect: Dialect,
    addresses: Text,
    /// The directive that named it.
    file: Text,
    line: u32,
}

#[allow(clippy::large_enum_variant, reason = "there is no heap to put a folder in, and there are few levels")]
enum Level<H> {
    File(Frame<H>),
    Folder(Folder),
}

/// Why a grammar stopped reading its file.
pub(super) enum Step {
    End,
    /// `include PATH`.
    File {
        path: Text,
        column: u32,
    },
    /// `includedir DIR`.
    Folder {
        dir: Text,
    },
    /// `.include DIR/PATTERN`.
    Matching {
        dir: Text,
        pattern: Text,
    },
}

/// How far the words of a command line have come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    /// Assignments.
    No,
    /// Behind `--`.
    Path,
    Arguments,
}

type Stack<H> = Vec<Level<H>, INCLUDE_DEPTH>;

impl Loader {
    /// Reads the file at `path` and all it includes. If it is the `first` and cannot be read, nothing is usable.
    pub(super) fn read_path<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        defaults: &mut Draft,
        path: &[u8],
        dialect: Option<Dialect>,
        first: bool,
    ) {
        cx.line = 0;
        match cx.table.push_text(path) {
            Ok(text) => cx.file = text,
            Err(full) => return cx.error(0, format_args!("no room for the path"), format_args!("{full}")),
        }
        let source = match cx.files.open(path) {
            Ok(handle) => Source::File(handle),
            Err(errno) => {
                cx.error(
                    0,
                    format_args!("cannot read the file: {errno}"),
                    format_args!("see whether the path is right and may be read"),
                );
                cx.complete = false;
                cx.usable &= !first;
                return;
            }
        };
        let dialect = match dialect {
            Some(dialect) => Ok(dialect),
            None => self.dialect_of(cx, &source),
        };
        match dialect {
            Ok(dialect) => self.read(cx, defaults, source, dialect, first),
            Err(errno) => {
                cx.error(
                    0,
                    format_args!("cannot read the file: {errno}"),
                    format_args!("see whether the path is right and may be read"),
                );
                cx.complete = false;
                cx.usable &= !first;
            }
        }
    }

    pub(super) fn read_memory<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        defaults: &mut Draft,
        name: &[u8],
        text: &'static [u8],
    ) {
        cx.file = cx.table.push_text(name).unwrap_or_default();
        self.read(cx, defaults, Source::Memory(text), Dialect::Xinetd, true);
    }

    /// Words of the command line, each one an assignment. The number of a word stands for its line.
    pub(super) fn read_words<'w, F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        words: impl Iterator<Item = &'w [u8]>,
    ) {
        cx.file = cx.table.push_text(WORDS_NAME).unwrap_or_default();
        let defaults = Draft::new();
        let mut open: Option<(Draft, u32)> = None;
        let mut in_program = Program::No;
        for (word, number) in words.zip(1u32..) {
            let assignment = Assignment::parse(word);
            let begins = in_program == Program::No && assignment.is_some_and(|a| a.name.is("service"));
            if begins && let Some((draft, line)) = open.take() {
                self.end_words(cx, draft, line);
            }
            cx.line = number;
            let (draft, _) = open.get_or_insert_with(|| {
                (Draft::open(Kind::Words, &defaults, &self.defaults, &mut self.section), number)
            });
            if in_program != Program::No || (word == b"--" && !begins) {
                in_program = self.program_word(cx, draft, word, in_program);
                continue;
            }
            match assignment {
                _ if word.contains(&0) => {
                    let what = format_args!("a NUL byte in a word");
                    cx.wrong(draft, 0, what, format_args!("leave it out"));
                }
                None => {
                    let what = format_args!("`{}` is no assignment", Bytes(word));
                    cx.wrong(draft, 0, what, format_args!("write `ATTRIBUTE=VALUE`"));
                }
                Some(a) if begins => match a.values.sound().next().filter(|name| !name.bytes.is_empty()) {
                    Some(name) => draft.service.name = cx.table.push_text(name.bytes).unwrap_or_default(),
                    None => {
                        let what = format_args!("a service without a name");
                        cx.wrong(draft, 0, what, format_args!("write `service=NAME`"));
                    }
                },
                Some(a) => set::set(cx, draft, &mut self.section, &a),
            }
        }
        if let Some((draft, line)) = open {
            self.end_words(cx, draft, line);
        }
    }

    /// A word behind `--`: the program, then its arguments as they are.
    fn program_word<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        draft: &mut Draft,
        word: &[u8],
        before: Program,
    ) -> Program {
        match before {
            Program::No => return Program::Path,
            Program::Path => {
                let name = Word { bytes: b"server", column: 0 };
                let values = Words::whole(word);
                let server = Assignment { name, operator: Operator::Set, column: 0, values };
                set::set(cx, draft, &mut self.section, &server);
            }
            Program::Arguments => {
                let pushed = cx.table.push_text(word).and_then(|text| {
                    let full = Full { capacity: "DRAFT_WORDS", value: DRAFT_WORDS };
                    self.section.args.push(text).map_err(|_| full)
                });
                if let Err(full) = pushed {
                    cx.full(draft, 0, "this argument", full);
                }
            }
        }
        if word.contains(&0) {
            cx.wrong(draft, 0, format_args!("a NUL byte in a word"), format_args!("leave it out"));
        }
        Program::Arguments
    }

    fn end_words<F: Files>(&mut self, cx: &mut Context<'_, F>, mut draft: Draft, line: u32) {
        cx.line = line;
        if draft.service.name.is_empty() {
            draft.service.name = base_name(cx.table, draft.service.program);
        }
        self.end_section(cx, draft, line);
    }

    /// Which grammar a file is in, by its content.
    fn dialect_of<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        source: &Source<F::Handle>,
    ) -> Result<Dialect, Errno> {
        const KEYWORDS: [&str; 4] = ["service", "defaults", "include", "includedir"];
        self.lines.restart(0);
        let mut first = true;
        while let Some(line) = self.lines.advance(cx.files, source)? {
            let text = self.lines.text();
            let mut words = Words::new(text.strip_prefix(BOM).unwrap_or(text));
            let Some(Ok(word)) = words.next().filter(|_| line == Line::Whole) else { continue };
            if word.bytes == b"{" && words.next().is_none() {
                return Ok(Dialect::Xinetd);
            }
            // A service of inetd.conf may have that name: its line goes on.
            let is_init =
                word.is("init") && words.next().is_none_or(|word| word.is_ok_and(|word| word.bytes == b"{"));
            if first && (is_init || KEYWORDS.iter().any(|keyword| word.is(keyword))) {
                return Ok(Dialect::Xinetd);
            }
            first = false;
        }
        Ok(if first { Dialect::Xinetd } else { Dialect::Inetd })
    }

    fn read<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        defaults: &mut Draft,
        source: Source<F::Handle>,
        dialect: Dialect,
        first: bool,
    ) {
        let mut stack = Stack::<F::Handle>::new();
        let frame = Frame {
            source,
            path: cx.file,
            line: 0,
            offset: 0,
            dialect,
            has_defaults: false,
            addresses: Text::default(),
        };
        self.lines.restart(0);
        let _ = stack.push(Level::File(frame));
        loop {
            let top = stack.len();
            let opened = match stack.last_mut() {
                None => return,
                Some(Level::Folder(folder)) => match next_file(cx, folder) {
                    Some(path) => {
                        (cx.file, cx.line) = (folder.file, folder.line);
                        Some((path, 0, folder.dialect, folder.addresses))
                    }
                    None => None,
                },
                Some(Level::File(frame)) => {
                    (cx.file, cx.line) = (frame.path, frame.line);
                    let step = match frame.dialect {
                        Dialect::Xinetd => self.xinetd(cx, defaults, frame),
                        Dialect::Inetd => self.inetd(cx, frame),
                    };
                    frame.offset = self.lines.offset();
                    match step {
                        Ok(Step::End) => None,
                        Ok(Step::File { path, column }) => {
                            Some((path, column, frame.dialect, frame.addresses))
                        }
                        Ok(Step::Folder { dir }) => {
                            let folder = folder(frame, dir, None);
                            push(cx, &mut stack, Level::Folder(folder));
                            continue;
                        }
                        Ok(Step::Matching { dir, pattern }) => {
                            let folder = folder(frame, dir, Some(pattern));
                            push(cx, &mut stack, Level::Folder(folder));
                            continue;
                        }
                        Err(errno) => {
                            let what = format_args!("cannot read on: {errno}");
                            cx.error(0, what, format_args!("what follows in this file is not known"));
                            cx.complete = false;
                            cx.usable &= !(first && top == 1);
                            None
                        }
                    }
                }
            };
            match opened {
                Some((path, column, dialect, addresses)) => {
                    self.include(cx, &mut stack, path, column, dialect, addresses);
                }
                None => {
                    stack.pop();
                    self.resume(&stack);
                }
            }
        }
    }

    /// Makes the line reader go on where the file on top of the stack was left.
    fn resume<H>(&mut self, stack: &Stack<H>) {
        if let Some(Level::File(frame)) = stack.last() {
            self.lines.restart(frame.offset);
        }
    }

    fn include<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        stack: &mut Stack<F::Handle>,
        path: Text,
        column: u32,
        dialect: Dialect,
        addresses: Text,
    ) {
        let open = |level: &Level<F::Handle>| match level {
            Level::File(frame) => cx.table.bytes(frame.path) == cx.table.bytes(path),
            Level::Folder(_) => false,
        };
        if stack.iter().any(open) {
            complain(cx, column, path, "is included by itself", "leave one of the two out");
            return;
        }
        match cx.files.open(cx.table.bytes(path)) {
            Err(errno) => {
                cx.complete = false;
                let Context { say, table, file, line, .. } = cx;
                let path = Bytes(table.bytes(path));
                let what = format_args!("cannot read {path}: {errno}");
                let cure = format_args!("create it, or leave this line out");
                say.say(super::Severity::Error, table.bytes(*file), *line, column, what, cure);
            }
            Ok(handle) => {
                let frame = Frame {
                    source: Source::File(handle),
                    path,
                    line: 0,
                    offset: 0,
                    dialect,
                    has_defaults: false,
                    addresses,
                };
                if push(cx, stack, Level::File(frame)) {
                    self.lines.restart(0);
                }
            }
        }
    }
}

/// The mark that some editors put at the beginning of a file (UTF-8's byte order mark).
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Complains about a line that does not fit the buffer.
pub(super) const TOO_LONG: (&str, usize) = ("LINE_BYTES", LINE_BYTES);

fn push<F: Files>(cx: &mut Context<'_, F>, stack: &mut Stack<F::Handle>, level: Level<F::Handle>) -> bool {
    let fits = stack.push(level).is_ok();
    if !fits {
        cx.complete = false;
        let what = format_args!("more than {INCLUDE_DEPTH} files and directories inside each other");
        cx.error(0, what, format_args!("include what this line names from a file further out"));
    }
    fits
}

fn folder<H>(frame: &Frame<H>, dir: Text, pattern: Option<Text>) -> Folder {
    let Frame { path: file, line, dialect, addresses, .. } = *frame;
    Folder { dir, pattern, after: Vec::new(), dialect, addresses, file, line }
}

fn complain<F: Files>(cx: &mut Context<'_, F>, column: u32, path: Text, what: &str, cure: &str) {
    cx.complete = false;
    let Context { say, table, file, line, .. } = cx;
    let path = Bytes(table.bytes(path));
    let severity = super::Severity::Error;
    say.say(
        severity,
        table.bytes(*file),
        *line,
        column,
        format_args!("{path} {what}"),
        format_args!("{cure}"),
    );
}

/// The path of the next file of a directory that is to be read.
fn next_file<F: Files>(cx: &mut Context<'_, F>, folder: &mut Folder) -> Option<Text> {
    (cx.file, cx.line) = (folder.file, folder.line);
    loop {
        let mut buf = [0; NAME_BYTES];
        let len = match cx.files.next_name(cx.table.bytes(folder.dir), &folder.after, &mut buf) {
            Ok(Some(len)) => len,
            Ok(None) => return None,
            Err(errno) => {
                cx.complete = false;
                let Context { say, table, file, line, .. } = cx;
                let what = format_args!("cannot read directory {}: {errno}", Bytes(table.bytes(folder.dir)));
                let cure = format_args!("create it, or leave this line out");
                say.say(super::Severity::Error, table.bytes(*file), *line, 0, what, cure);
                return None;
            }
        };
        let name = buf.get(..len).unwrap_or(&[]);
        if name <= folder.after.as_slice() {
            // A file system that answers so would keep us here for ever.
            return None;
        }
        folder.after = Vec::from_slice(name).unwrap_or_default();
        let wanted = match folder.pattern {
            Some(pattern) => matches(cx.table.bytes(pattern), name),
            None => is_config(name),
        };
        if !wanted {
            if folder.pattern.is_none() && looks_meant(name) {
                warn(
                    cx,
                    folder,
                    name,
                    "is skipped, as in xinetd: its name has a dot in it",
                    "rename it if it is meant to be read",
                );
            }
            continue;
        }
        let Some(path) = join(cx, folder.dir, name) else { continue };
        match cx.files.kind(cx.table.bytes(path)) {
            Ok(FileKind::Regular) => return Some(path),
            Ok(FileKind::Directory | FileKind::Other) => {
                warn(cx, folder, name, "is skipped: it is no regular file", "move it elsewhere");
            }
            Err(errno) => {
                cx.complete = false;
                let Context { say, table, file, line, .. } = cx;
                let what = format_args!("cannot read {}: {errno}", Bytes(table.bytes(path)));
                let cure = format_args!("repair or remove it");
                say.say(super::Severity::Error, table.bytes(*file), *line, 0, what, cure);
            }
        }
    }
}

fn warn<F: Files>(cx: &mut Context<'_, F>, folder: &Folder, name: &[u8], what: &str, cure: &str) {
    let Context { say, table, file, line, .. } = cx;
    let dir = table.bytes(folder.dir);
    let slash = if dir.ends_with(b"/") { "" } else { "/" };
    let (dir, name) = (Bytes(dir), Bytes(name));
    let what = format_args!("{dir}{slash}{name} {what}");
    say.say(super::Severity::Warning, table.bytes(*file), *line, 0, what, format_args!("{cure}"));
}

/// xinetd's rule for names in an includedir.
fn is_config(name: &[u8]) -> bool {
    !name.contains(&b'.') && !name.ends_with(b"~")
}

/// Whether a name that is skipped was perhaps meant to be read: not a hidden file, and not one of those that
/// package managers and editors leave.
fn looks_meant(name: &[u8]) -> bool {
    const LEFTOVERS: [&[u8]; 11] = [
        b".rpmsave",
        b".rpmnew",
        b".rpmorig",
        b".dpkg-",
        b".ucf-",
        b".swp",
        b".bak",
        b".old",
        b".orig",
        b".save",
        b".disabled",
    ];
    let leftover = |end: &[u8]| name.windows(end.len()).any(|part| part == end);
    !name.starts_with(b".") && !name.ends_with(b"~") && !LEFTOVERS.into_iter().any(leftover)
}

/// Whether a name matches a pattern with `*` and `?`. A leading dot must be matched by a dot.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    // Where to go on if a `*` has to take one byte more.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == byte => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, taken)) => {
                    p = after;
                    n = taken + 1;
                    star = Some((after, n));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&c| c == b'*'))
}

/// `dir` and `name` as one path in the table.
fn join<F: Files>(cx: &mut Context<'_, F>, dir: Text, name: &[u8]) -> Option<Text> {
    let mut path = Vec::<u8, PATH_BYTES>::new();
    let dir = cx.table.bytes(dir);
    let fits = path.extend_from_slice(dir).is_ok()
        && (dir.is_empty() || dir.ends_with(b"/") || path.push(b'/').is_ok())
        && path.extend_from_slice(name).is_ok();
    store_path(cx, fits.then_some(path))
}

/// The path of an include directive: as written, or seen from the directory of the file it stands in. xinetd
/// saw it from where the daemon was started, and from `/` after a reload.
pub(super) fn resolve<F: Files>(cx: &mut Context<'_, F>, path: Text) -> Option<Text> {
    let mut whole = Vec::<u8, PATH_BYTES>::new();
    let (file, path) = (cx.table.bytes(cx.file), cx.table.bytes(path));
    let dir = match file.iter().rposition(|&b| b == b'/') {
        Some(slash) if !path.starts_with(b"/") => file.get(..=slash).unwrap_or(&[]),
        _ => &[],
    };
    let fits = whole.extend_from_slice(dir).is_ok() && whole.extend_from_slice(path).is_ok();
    store_path(cx, fits.then_some(whole))
}

/// What `.include` names: one file, or the files of a directory whose names match.
pub(super) fn resolve_pattern<F: Files>(cx: &mut Context<'_, F>, pattern: Text, column: u32) -> Option<Step> {
    let bytes = cx.table.bytes(pattern);
    let slash = bytes.iter().rposition(|&b| b == b'/');
    let name = slash.map_or(0, |slash| slash + 1);
    let wild = |bytes: &[u8]| bytes.iter().any(|b| matches!(b, b'*' | b'?' | b'['));
    let (dir, last) = (bytes.get(..name).unwrap_or(&[]), bytes.get(name..).unwrap_or(&[]));
    if wild(dir) || last.contains(&b'[') || last.is_empty() {
        cx.complete = false;
        let what = format_args!("this pattern is not supported");
        cx.error(column, what, format_args!("`*` and `?` may stand in the last part of a path"));
        return None;
    }
    if !wild(last) {
        return resolve(cx, pattern).map(|path| Step::File { path, column });
    }
    let last = cx.table.tail(pattern, name);
    let dir = cx.table.head(pattern, name);
    let dir = resolve(cx, dir)?;
    Some(Step::Matching { dir, pattern: last })
}

fn store_path<F: Files>(cx: &mut Context<'_, F>, path: Option<Vec<u8, PATH_BYTES>>) -> Option<Text> {
    let Some(path) = path else {
        cx.complete = false;
        let what = format_args!("the path of a file to include is longer than {PATH_BYTES} bytes");
        cx.error(0, what, format_args!("move the file to a shorter path"));
        return None;
    };
    cx.table.push_text(&path).map_err(|full| no_room(cx, full)).ok()
}

fn no_room<F: Files>(cx: &mut Context<'_, F>, full: Full) {
    cx.complete = false;
    cx.error(0, format_args!("no room for the path of a file to include"), format_args!("{full}"));
}

/// `path`, copied to the table.
pub(super) fn put_path<F: Files>(cx: &mut Context<'_, F>, path: &[u8]) -> Option<Text> {
    cx.table.push_text(path).map_err(|full| no_room(cx, full)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_are_skipped_and_some_of_them_told() {
        for (name, read, told) in [
            ("telnet", true, false),
            ("a.conf", false, true),
            ("telnet.rpmsave", false, false),
            ("x.dpkg-dist", false, false),
            (".hid", false, false),
            ("old~", false, false),
            ("a.conf~", false, false),
        ] {
            assert_eq!(is_config(name.as_bytes()), read, "{name}");
            assert_eq!(!read && looks_meant(name.as_bytes()), told, "{name}");
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, yes) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            ("*", "a", true),
            ("*", ".a", false),
            ("a?c*e", "abcde", true),
            ("a?c*e", "abcd", false),
            ("**a", "bba", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), yes, "{pattern} {name}");
        }
    }
}
