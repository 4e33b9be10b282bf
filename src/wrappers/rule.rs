//! A file as rules: logical lines, cut at their colons.

use super::problem::Fault;
use crate::capacity::LINE_BYTES;
use crate::config::lines::{self, Lines, Source};
use crate::config::source::Files;
use crate::errno::Errno;

/// What separates the words of a list. Elsewhere they are blanks.
pub(super) const fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b',' | b'\t' | b'\r' | b'\n')
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
    /// The text begins here: behind a byte order mark.
    begin: usize,
    first: u32,
    last: u32,
    /// Offsets of the colons; equal to the length of the text if there is none.
    colons: [usize; 2],
    /// The rule is one only if it refuses.
    doubt: Option<(Fault, usize)>,
    /// The line before was a comment that ends in a backslash: libwrap takes this one for a part of it.
    in_comment: bool,
}

/// A line with CR LF behind it.
const BUFFER: usize = LINE_BYTES + 2;

const MARK: &[u8] = b"\xef\xbb\xbf";

impl Rules {
    pub const fn new() -> Self {
        Rules {
            lines: Lines::new(),
            joined: heapless::Vec::new(),
            is_joined: false,
            begin: 0,
            first: 0,
            last: 0,
            colons: [0; 2],
            doubt: None,
            in_comment: false,
        }
    }

    pub fn open<F: Files>(&mut self, files: &mut F, path: &[u8]) -> Result<Source<F::Handle>, Errno> {
        let handle = files.open(path)?;
        self.lines.restart(0);
        self.joined.clear();
        self.is_joined = false;
        self.last = 0;
        self.in_comment = false;
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
        self.doubt = None;
        self.first = self.last.saturating_add(1);
        let Some(line) = self.lines.advance(files, source)? else { return Ok(None) };
        self.last = self.first;
        let in_comment = core::mem::take(&mut self.in_comment);
        if line == lines::Line::TooLong {
            self.cut();
            return Ok(Some(Line::Broken(Fault::LineTooLong, 0)));
        }
        if self.first == 1 && self.lines.text().starts_with(MARK) {
            self.begin = MARK.len();
            self.doubt = Some((Fault::ByteOrderMark, 0));
        }
        if self.text().first() == Some(&b'#') {
            self.in_comment = self.text().ends_with(b"\\");
            return Ok(Some(Line::Nothing));
        }
        if in_comment {
            self.doubt = Some((Fault::CommentGoesOn, 0));
        }
        if self.text().ends_with(b"\\") && !self.join(files, source)? {
            self.cut();
            return Ok(Some(Line::Broken(Fault::LineTooLong, 0)));
        }
        self.cut();
        Ok(Some(self.classify()))
    }

    /// Joins what backslashes at line ends hold together; false if it does not fit.
    fn join<F: Files>(&mut self, files: &mut F, source: &Source<F::Handle>) -> Result<bool, Errno> {
        loop {
            match self.lines.join(files, source, |text, _| text.ends_with(b"\\"))? {
                Some(lines::Line::Whole) => self.last = self.last.saturating_add(1),
                Some(lines::Line::TooLong) => {
                    self.last = self.last.saturating_add(1);
                    return Ok(false);
                }
                None => break,
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
                return Ok(false);
            }
            at += 1;
        }
        self.is_joined = true;
        Ok(true)
    }

    fn cut(&mut self) {
        let text = self.text();
        let end = text.len();
        let first = colon(text, 0).unwrap_or(end);
        let second = colon(text, first + 1).unwrap_or(end);
        self.colons = [first, second];
    }

    fn classify(&self) -> Line {
        let text = self.text();
        let Some(start) = text.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')) else {
            return Line::Nothing;
        };
        if let Some(at) = text.iter().position(|&b| b == 0) {
            return Line::Broken(Fault::Nul, at);
        }
        let [first, second] = self.colons;
        if first == text.len() && text.get(start) == Some(&b'#') {
            return Line::Nothing;
        }
        // A bracket that is never closed hides the colons behind it.
        if second == text.len()
            && let Some(at) = unbalanced(text, first)
            && text.get(at..).is_some_and(|hidden| hidden.contains(&b':'))
        {
            return Line::Broken(Fault::Unbalanced, at);
        }
        if first == text.len() { Line::Broken(Fault::NoColon, start) } else { Line::Rule }
    }

    /// The rule, lines joined.
    pub fn text(&self) -> &[u8] {
        let text = if self.is_joined { &self.joined } else { self.lines.text() };
        let begin = if self.is_joined { 0 } else { self.begin };
        text.get(begin..).unwrap_or(&[])
    }

    /// Offsets of the daemon list and of the client list.
    pub fn lists(&self) -> [(usize, usize); 2] {
        let [first, second] = self.colons;
        [(0, first), (first + 1, second)]
    }

    /// What stands behind the second colon; `None` without one.
    pub fn options(&self) -> Option<&[u8]> {
        self.text().get(self.options_at()..)
    }

    pub fn options_at(&self) -> usize {
        self.colons[1] + 1
    }

    pub fn doubt(&self) -> Option<(Fault, usize)> {
        self.doubt
    }

    /// The physical lines of the rule.
    pub fn line(&self) -> u32 {
        self.first
    }

    pub fn last(&self) -> u32 {
        self.last
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

/// Length of the backslash and line end at `at`, if there is one.
fn joint(raw: &[u8], at: usize) -> usize {
    match raw.get(at..) {
        Some([b'\\', b'\n', ..]) => 2,
        Some([b'\\', b'\r', b'\n', ..]) => 3,
        // The file ends behind a backslash.
        Some([b'\\']) => 1,
        _ => 0,
    }
}

/// The first colon from `from` on that is in no brackets.
fn colon(text: &[u8], from: usize) -> Option<usize> {
    split(text.get(from..)?, b':').map(|at| from + at)
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

/// Where brackets begin that do not come in pairs, in what follows the first colon, or in all if there is none.
fn unbalanced(text: &[u8], first: usize) -> Option<usize> {
    let from = if first == text.len() { 0 } else { first };
    let mut depth = 0i32;
    let mut opened = from;
    for (at, byte) in text.iter().enumerate().skip(from) {
        match byte {
            b'[' => {
                if depth == 0 {
                    opened = at;
                }
                depth = depth.saturating_add(1);
            }
            b']' => {
                if depth == 0 {
                    opened = at;
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    (depth != 0).then_some(opened)
}
