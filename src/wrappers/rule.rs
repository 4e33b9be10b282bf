//! A file as rules: logical lines, cut at their colons.

use super::problem::Fault;
use crate::capacity::LINE_BYTES;
use crate::config::lines::{self, Lines, Source};
use crate::config::source::Files;
use crate::errno::Errno;

/// What separates the words of a list. Elsewhere they are blanks.
pub(super) const fn is_separator(byte: u8) -> bool {
    // Nearly every byte is decided by the first comparison.
    byte <= b',' && matches!(byte, b' ' | b',' | b'\t' | b'\r' | b'\n')
}

/// What a logical line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// Blank, or a comment.
    Nothing,
    Rule,
    /// It cannot be told what it says. The offset is into [`Rules::text`].
    Broken(Fault, usize),
}

/// Reads rules one by one. Every offset is into the text of the current one.
pub(super) struct Rules {
    lines: Lines<BUFFER>,
    /// A rule of several lines, without backslashes and line ends.
    joined: heapless::Vec<u8, LINE_BYTES>,
    is_joined: bool,
    /// Where the line begins in the file.
    offset: u64,
    /// The text begins here: behind a byte order mark.
    begin: usize,
    first: u32,
    last: u32,
    marks: Marks,
    /// The rule is one only if it refuses.
    /// A `Vec` of one place and not an `Option`: a static is free only if it is all zero.
    doubt: heapless::Vec<(Fault, usize), 1>,
    /// The line before was a comment that ends in a backslash: libwrap takes this one for a part of it.
    in_comment: bool,
    /// Bytes that libwrap's line has already, where this one goes on with it.
    carried: u64,
    /// Where libwrap stops reading the file: a line longer than [`LIBWRAP_LINE`].
    unread: Option<u32>,
    /// This line is one.
    is_over: bool,
}

/// What bytes of a line mean something to all of it.
#[derive(Clone, Copy)]
struct Marks {
    /// The first two colons outside of brackets; the length of the text if there is none.
    colons: [usize; 2],
    nul: Option<usize>,
    /// A bracket in front of the second colon that has no other half.
    unbalanced: Option<usize>,
    /// There is a colon behind it.
    is_hidden: bool,
    has_hash: bool,
}

/// The bytes that [`Marks`] are about: few, in lines that are read at every connection.
static IS_MARK: [bool; 256] = {
    let mut all = [false; 256];
    let marks = *b"[]:#\0";
    let mut at = 0;
    while at < marks.len() {
        all[marks[at] as usize] = true;
        at += 1;
    }
    all
};

/// A line with CR LF behind it.
const BUFFER: usize = LINE_BYTES + 2;

/// Longest logical line that libwrap reads, with its line feed. It reads a file no further than to a longer one.
const LIBWRAP_LINE: u64 = 2047;

const MARK: &[u8] = b"\xef\xbb\xbf";

impl Rules {
    pub const fn new() -> Self {
        Rules {
            lines: Lines::new(),
            joined: heapless::Vec::new(),
            is_joined: false,
            offset: 0,
            begin: 0,
            first: 0,
            last: 0,
            marks: Marks { colons: [0; 2], nul: None, unbalanced: None, is_hidden: false, has_hash: false },
            doubt: heapless::Vec::new(),
            in_comment: false,
            carried: 0,
            unread: None,
            is_over: false,
        }
    }

    pub fn open<F: Files>(&mut self, files: &mut F, path: &[u8]) -> Result<Source<F::Handle>, Errno> {
        let handle = files.open(path)?;
        self.lines.restart(0);
        self.joined.clear();
        self.is_joined = false;
        self.last = 0;
        self.in_comment = false;
        self.carried = 0;
        self.unread = None;
        Ok(Source::File(handle))
    }

    /// Moves to the next logical line; `None` at the end of the file.
    pub fn advance<F: Files>(
        &mut self,
        files: &mut F,
        source: &Source<F::Handle>,
    ) -> Result<Option<Line>, Errno> {
        self.is_joined = false;
        self.begin = 0;
        self.doubt.clear();
        self.is_over = false;
        self.first = self.last.saturating_add(1);
        self.offset = self.lines.offset();
        let Some(line) = self.lines.advance(files, source)? else { return Ok(None) };
        self.last = self.first;
        self.measure(self.offset);
        let in_comment = core::mem::take(&mut self.in_comment);
        if line == lines::Line::TooLong {
            self.cut();
            return Ok(Some(Line::Broken(Fault::LineTooLong, 0)));
        }
        if self.first == 1 && self.lines.text().starts_with(MARK) {
            self.begin = MARK.len();
            let _ = self.doubt.push((Fault::ByteOrderMark, 0));
        }
        // Behind a mark it is a rule for libwrap.
        if self.begin == 0 && self.text().first() == Some(&b'#') {
            self.in_comment = self.goes_on();
            return Ok(Some(Line::Nothing));
        }
        if in_comment {
            let _ = self.doubt.push((Fault::CommentGoesOn, 0));
        }
        let fault = if self.goes_on() { self.join(files, source)? } else { None };
        self.cut();
        Ok(Some(match fault {
            Some(fault) => Line::Broken(fault, 0),
            None => self.classify(),
        }))
    }

    /// A backslash stands directly before the line feed. Before CR LF it joins nothing, as in libwrap: it is a word
    /// that nobody is called, and what follows a line of its own.
    fn goes_on(&self) -> bool {
        let raw = self.lines.text();
        let with_both = self.offset.saturating_add(raw.len() as u64).saturating_add(2);
        raw.ends_with(b"\\") && self.lines.offset() < with_both
    }

    /// Counts the line that begins at `from` as libwrap's buffer does: with its end, and with what it goes on with.
    fn measure(&mut self, from: u64) {
        let size = self.lines.offset().saturating_sub(from);
        if self.carried.saturating_add(size) > LIBWRAP_LINE {
            self.unread.get_or_insert(self.last);
            self.is_over = true;
        }
        // The backslash and the line feed leave room for what follows.
        self.carried = if self.goes_on() { self.carried.saturating_add(size).saturating_sub(2) } else { 0 };
    }

    /// Joins what backslashes at line ends hold together.
    fn join<F: Files>(&mut self, files: &mut F, source: &Source<F::Handle>) -> Result<Option<Fault>, Errno> {
        while self.goes_on() {
            let from = self.lines.offset();
            match self.lines.join(files, source, |_, _| true)? {
                Some(lines::Line::Whole) => {
                    self.last = self.last.saturating_add(1);
                    self.measure(from);
                }
                Some(lines::Line::TooLong) => {
                    self.last = self.last.saturating_add(1);
                    return Ok(Some(Fault::LineTooLong));
                }
                None => return Ok(Some(Fault::Dangling)),
            }
        }
        self.joined.clear();
        let raw = self.lines.text().get(self.begin..).unwrap_or(&[]);
        let mut at = 0;
        while let Some(&byte) = raw.get(at) {
            let joint = joint(raw, at);
            if joint > 0 {
                at += joint;
                continue;
            }
            if self.joined.push(byte).is_err() {
                return Ok(Some(Fault::LineTooLong));
            }
            at += 1;
        }
        self.is_joined = true;
        Ok(None)
    }

    /// Finds what there is to find in the bytes of the line, in one go: lines are read at every connection.
    fn cut(&mut self) {
        let text = self.text();
        let mut marks =
            Marks { colons: [text.len(); 2], nul: None, unbalanced: None, is_hidden: false, has_hash: false };
        let (mut depth, mut found) = (0i32, 0);
        for (at, byte) in text.iter().enumerate() {
            if !IS_MARK[usize::from(*byte)] {
                continue;
            }
            match byte {
                b'[' | b']' if found < 2 => {
                    if depth == 0 {
                        marks.unbalanced = Some(at);
                        marks.is_hidden = false;
                    }
                    depth = depth.saturating_add(if *byte == b'[' { 1 } else { -1 });
                }
                b':' if found < 2 => match marks.colons.get_mut(found) {
                    Some(colon) if depth == 0 => {
                        *colon = at;
                        found += 1;
                    }
                    _ => marks.is_hidden = true,
                },
                b'#' => marks.has_hash = true,
                0 => marks.nul = marks.nul.or(Some(at)),
                _ => {}
            }
        }
        if depth == 0 {
            marks.unbalanced = None;
        }
        self.marks = marks;
    }

    fn classify(&self) -> Line {
        let text = self.text();
        let Some(start) = text.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')) else {
            return Line::Nothing;
        };
        let Marks { colons: [first, _], nul, unbalanced, is_hidden, .. } = self.marks;
        if let Some(at) = nul {
            return Line::Broken(Fault::Nul, at);
        }
        if first == text.len() && text.get(start) == Some(&b'#') {
            return Line::Nothing;
        }
        match unbalanced {
            // A bracket that is never closed hides the colons behind it.
            Some(at) if is_hidden => Line::Broken(Fault::Unbalanced, at),
            _ if first == text.len() => Line::Broken(Fault::NoColon, start),
            _ => Line::Rule,
        }
    }

    /// The rule, lines joined.
    pub fn text(&self) -> &[u8] {
        let text = if self.is_joined { &self.joined } else { self.lines.text() };
        let begin = if self.is_joined { 0 } else { self.begin };
        text.get(begin..).unwrap_or(&[])
    }

    /// Offsets of the daemon list and of the client list.
    pub fn lists(&self) -> [(usize, usize); 2] {
        let [first, second] = self.marks.colons;
        [(0, first), (first + 1, second)]
    }

    /// What stands behind the second colon; `None` without one.
    pub fn options(&self) -> Option<&[u8]> {
        self.text().get(self.options_at()..)
    }

    pub fn options_at(&self) -> usize {
        self.marks.colons[1] + 1
    }

    pub fn has_hash(&self) -> bool {
        self.marks.has_hash
    }

    pub fn doubt(&self) -> Option<(Fault, usize)> {
        self.doubt.first().copied()
    }

    /// The physical lines of the rule.
    pub fn line(&self) -> u32 {
        self.first
    }

    pub fn last(&self) -> u32 {
        self.last
    }

    /// The line up to which libwrap reads the file.
    pub fn unread(&self) -> Option<u32> {
        self.unread
    }

    /// Whether the line just read is too long for libwrap.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The file has ended, and not with a whole line, as libwrap sees it.
    pub fn ends_inside<F: Files>(&self, files: &mut F, source: &Source<F::Handle>) -> bool {
        self.in_comment || self.is_unterminated(files, source)
    }

    /// The line just read ends the file without a line end.
    pub fn is_unterminated<F: Files>(&self, files: &mut F, source: &Source<F::Handle>) -> bool {
        let Source::File(handle) = source else { return false };
        let mut byte = [0];
        let Some(before) = self.lines.offset().checked_sub(1) else { return false };
        matches!(files.read_at(handle, before, &mut byte), Ok(1)) && byte != *b"\n"
    }

    /// The bytes of the line as they are in the file, when an offset is turned into a place.
    fn raw(&self) -> &[u8] {
        self.lines.text()
    }

    /// Line and column, from 1, of an offset.
    pub fn place_of(&self, offset: usize) -> (u32, u32) {
        let raw = self.raw();
        let (mut line, mut column) = (self.first, 1u32);
        let mut at = 0;
        let mut left = offset.saturating_add(self.begin);
        loop {
            let joint = if self.is_joined { joint(raw, at) } else { 0 };
            if joint > 0 {
                at += joint;
                line = line.saturating_add(1);
                column = 1;
            } else if left == 0 || at >= raw.len() {
                return (line, column);
            } else {
                at += 1;
                left -= 1;
                column = column.saturating_add(1);
            }
        }
    }
}

/// Length of the backslash and line feed at `at`, if there is one.
fn joint(raw: &[u8], at: usize) -> usize {
    match raw.get(at..) {
        Some([b'\\', b'\n', ..]) => 2,
        _ => 0,
    }
}

/// The first `delimiter` that is in no brackets.
pub(super) fn split(text: &[u8], delimiter: u8) -> Option<usize> {
    let mut depth = 0i32;
    text.iter().position(|&byte| {
        match byte {
            b'[' => depth = depth.saturating_add(1),
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && byte == delimiter
    })
}
