//! A file as lines, through one buffer of fixed size.
//!
//! The reader knows the offset of the next line, so it can leave a file, read an included one through the same
//! buffer and come back; and it can look ahead in a section and return.

#![forbid(unsafe_code)]

use crate::config::source::Files;
use crate::errno::Errno;

/// Where lines come from: an open file, or text that is part of the program.
pub enum Source<H> {
    File(H),
    Memory(&'static [u8]),
}

impl<H> Source<H> {
    fn read_at<F: Files<Handle = H>>(
        &self,
        files: &mut F,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        match self {
            Source::File(handle) => files.read_at(handle, offset, buf),
            Source::Memory(text) => {
                let rest = usize::try_from(offset).ok().and_then(|at| text.get(at..)).unwrap_or(&[]);
                let n = rest.len().min(buf.len());
                for (to, from) in buf.iter_mut().zip(rest) {
                    *to = *from;
                }
                Ok(n)
            }
        }
    }
}

/// What [`Lines::advance`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// A line, now [`Lines::text`].
    Whole,
    /// A line longer than the buffer. It was skipped; `text` is empty.
    TooLong,
}

/// A line reader whose longest line, with its line end, is `N` bytes.
pub struct Lines<const N: usize> {
    buf: [u8; N],
    /// The bytes of `buf` not yet handed out.
    start: usize,
    end: usize,
    /// Offset in the file of the byte behind `end`.
    read: u64,
    /// The line handed out last.
    text: (usize, usize),
    ended: bool,
}

impl<const N: usize> Lines<N> {
    pub const fn new() -> Self {
        Lines { buf: [0; N], start: 0, end: 0, read: 0, text: (0, 0), ended: false }
    }

    /// Forgets what is buffered: the next line is read at `offset`, possibly of another file.
    pub fn restart(&mut self, offset: u64) {
        self.start = 0;
        self.end = 0;
        self.read = offset;
        self.text = (0, 0);
        self.ended = false;
    }

    /// Offset in the file of the next line.
    pub fn offset(&self) -> u64 {
        self.read.saturating_sub((self.end - self.start) as u64)
    }

    /// Goes back, or forward, in the same file, without reading again what is still buffered.
    pub fn seek(&mut self, offset: u64) {
        let first = self.read.saturating_sub(self.end as u64);
        match offset.checked_sub(first).and_then(|at| usize::try_from(at).ok()) {
            Some(at) if at <= self.end => {
                self.start = at;
                self.text = (0, 0);
            }
            _ => self.restart(offset),
        }
    }

    /// The line [`advance`](Lines::advance) found, without its line end.
    pub fn text(&self) -> &[u8] {
        self.buf.get(self.text.0..self.text.1).unwrap_or(&[])
    }

    /// Moves to the next line; `None` at the end of the file. LF and CR LF both end lines; the last line needs
    /// neither.
    pub fn advance<F: Files>(
        &mut self,
        files: &mut F,
        source: &Source<F::Handle>,
    ) -> Result<Option<Line>, Errno> {
        self.take(files, source, false)
    }

    /// Adds the next line to the one handed out if `wanted` says so of both. The line end between them stays, so
    /// that a column can be told as line and column. Whether it was added.
    pub fn join<F: Files>(
        &mut self,
        files: &mut F,
        source: &Source<F::Handle>,
        mut wanted: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<Option<Line>, Errno> {
        // Counted from the beginning of the line, which moves when the buffer is compacted.
        let len = self.text.1 - self.text.0;
        let next = self.start - self.text.0;
        let joined = self.take(files, source, true)?;
        if joined != Some(Line::Whole) {
            return Ok(joined);
        }
        let (text, more) = (self.text(), self.text().get(next..).unwrap_or(&[]));
        if wanted(text.get(..len).unwrap_or(&[]), more) {
            return Ok(joined);
        }
        self.text.1 = self.text.0 + len;
        self.start = self.text.0 + next;
        Ok(None)
    }

    fn take<F: Files>(
        &mut self,
        files: &mut F,
        source: &Source<F::Handle>,
        join: bool,
    ) -> Result<Option<Line>, Errno> {
        if !join {
            self.text = (self.start, self.start);
        }
        // Counted from the beginning of the line, which moves when the buffer is compacted.
        let mut scanned = self.start - self.text.0;
        let mut too_long = false;
        loop {
            let begin = self.text.0;
            let fresh = self.buf.get(begin + scanned..self.end).unwrap_or(&[]);
            if let Some(n) = fresh.iter().position(|&b| b == b'\n') {
                let end = begin + scanned + n;
                return Ok(Some(self.hand_out(end, end + 1, too_long)));
            }
            if self.ended {
                if self.start == self.end && !too_long {
                    return Ok(None);
                }
                return Ok(Some(self.hand_out(self.end, self.end, too_long)));
            }
            scanned = self.end - begin;
            if begin == 0 && self.end == N {
                // Full, and no line end in it: drop it all and look on for the line end.
                too_long = true;
                scanned = 0;
                self.start = 0;
                self.end = 0;
                self.text = (0, 0);
            }
            self.fill(files, source)?;
        }
    }

    fn hand_out(&mut self, end: usize, next: usize, too_long: bool) -> Line {
        self.start = next;
        if too_long {
            self.text = (next, next);
            return Line::TooLong;
        }
        self.text.1 = match self.buf.get(self.text.0..end) {
            Some([.., b'\r']) => end - 1,
            _ => end,
        };
        Line::Whole
    }

    /// Reads more behind what is buffered. What lies before the current line goes when the room is needed.
    fn fill<F: Files>(&mut self, files: &mut F, source: &Source<F::Handle>) -> Result<(), Errno> {
        let begin = self.text.0;
        if self.end == N {
            self.buf.copy_within(begin..self.end, 0);
            self.start -= begin;
            self.end -= begin;
            self.text = (0, self.text.1.saturating_sub(begin));
        }
        let room = self.buf.get_mut(self.end..).unwrap_or(&mut []);
        let n = source.read_at(files, self.read, room)?.min(room.len());
        self.end += n;
        self.read += n as u64;
        self.ended = n == 0;
        Ok(())
    }
}

impl<const N: usize> Default for Lines<N> {
    fn default() -> Self {
        Lines::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::config::source::memory::Tree;
    use std::{string::String, vec::Vec};

    /// All lines of `text` through a buffer of eight bytes; `>` for one that did not fit.
    fn lines(text: &'static str) -> Vec<String> {
        let mut lines = Lines::<8>::new();
        let source = Source::Memory(text.as_bytes());
        let mut files = Tree::default();
        let mut out = Vec::new();
        while let Some(line) = lines.advance(&mut files, &source).unwrap() {
            out.push(match line {
                Line::Whole => String::from_utf8_lossy(lines.text()).into_owned(),
                Line::TooLong => ">".into(),
            });
        }
        out
    }

    #[test]
    fn every_line_end_is_a_line_end() {
        assert_eq!(lines("a\nbc\r\n\nlast"), ["a", "bc", "", "last"]);
        assert_eq!(lines("1234567\n1234567"), ["1234567", "1234567"]);
        assert_eq!(lines("a\n12345678\nb\n"), ["a", ">", "b"]);
        assert_eq!(lines("12345678901234567890123456789\nok"), [">", "ok"]);
        assert_eq!(lines("ok\n12345678901234567890"), ["ok", ">"]);
        assert!(lines("").is_empty());
    }

    #[test]
    fn continuations_join_even_across_a_refill() {
        let mut lines = Lines::<16>::new();
        let source = Source::Memory(b"skip skip\nab\n cd\n\tef\ngh\n");
        let mut files = Tree::default();
        lines.advance(&mut files, &source).unwrap();
        lines.advance(&mut files, &source).unwrap();
        let blank = |_: &[u8], next: &[u8]| matches!(next, [b' ' | b'\t', ..]);
        while lines.join(&mut files, &source, blank).unwrap() == Some(Line::Whole) {}
        assert_eq!(lines.text(), b"ab\n cd\n\tef");
        lines.advance(&mut files, &source).unwrap();
        assert_eq!(lines.text(), b"gh");
    }

    #[test]
    fn a_look_ahead_comes_back_to_where_it_began() {
        let mut lines = Lines::<8>::new();
        let source = Source::Memory(b"one\ntwo\nthree\nfour\n");
        let mut files = Tree::default();
        lines.advance(&mut files, &source).unwrap();
        let offset = lines.offset();
        assert_eq!(offset, 4);
        while lines.advance(&mut files, &source).unwrap().is_some() {}
        lines.seek(offset);
        lines.advance(&mut files, &source).unwrap();
        assert_eq!(lines.text(), b"two");
        lines.seek(offset);
        lines.advance(&mut files, &source).unwrap();
        assert_eq!(lines.text(), b"two");
    }
}
