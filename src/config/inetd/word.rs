//! Where words begin and end, and what their quotes mean.

use super::At;
use super::problem::Kind;

/// A word of a record, quotes and escapes not yet taken away.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    raw: &'a [u8],
    style: Style,
    /// Of its first byte, the quote if there is one.
    pub column: u32,
}

/// How words are quoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    /// Positional records: a word that begins with a quote ends with it, and has no escapes; others are literal.
    Record,
    /// Key/value: quotes anywhere, with escapes inside; `#`, `,` and `;` end a word.
    Keyed,
}

/// The buffer given to [`Word::copy_to`] is too small; this many bytes are needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong(pub usize);

impl core::fmt::Display for TooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the word has {} bytes", self.0)
    }
}

impl core::error::Error for TooLong {}

impl<'a> Word<'a> {
    /// The bytes meant, if they stand in the text as one piece: always, except for escapes and for quotes inside a
    /// word of a key/value definition.
    pub fn plain(self) -> Option<&'a [u8]> {
        self.plain_at().map(|at| at.value)
    }

    /// [`plain`](Self::plain) with the column of its first byte, behind the quote if there is one.
    pub fn plain_at(self) -> Option<At<&'a [u8]>> {
        let inner = match *self.raw {
            [quote, ref inner @ .., last] if is_quote(quote) && last == quote => {
                let whole = self.style == Style::Record || !inner.iter().any(|&b| b == quote || b == b'\\');
                whole.then_some(inner)
            }
            _ => None,
        };
        match inner {
            Some(inner) => Some(At { column: self.column.saturating_add(1), value: inner }),
            None if self.style == Style::Record || !self.raw.iter().any(|&b| is_quote(b)) => {
                Some(At { column: self.column, value: self.raw })
            }
            None => None,
        }
    }

    /// How many bytes are meant.
    pub fn len(self) -> usize {
        self.bytes().count()
    }

    pub fn is_empty(self) -> bool {
        self.bytes().next().is_none()
    }

    /// The bytes meant, quotes and escapes taken away. There is never a NUL among them.
    pub fn bytes(self) -> impl Iterator<Item = u8> + use<'a> {
        match self.plain() {
            Some(plain) => Unquoted { rest: plain, quote: None, literal: true },
            None => Unquoted { rest: self.raw, quote: None, literal: false },
        }
    }

    /// Writes the bytes meant to the start of `buf` and returns how many. On an error `buf` holds nothing of use.
    pub fn copy_to(self, buf: &mut [u8]) -> Result<usize, TooLong> {
        let mut len = 0;
        for b in self.bytes() {
            *buf.get_mut(len).ok_or_else(|| TooLong(self.len()))? = b;
            len += 1;
        }
        Ok(len)
    }

    /// Whether the word stands in quotes as a whole or in part.
    pub(super) fn is_quoted(self) -> bool {
        match self.style {
            Style::Record => self.raw.first().is_some_and(|&b| is_quote(b)),
            Style::Keyed => self.raw.iter().any(|&b| is_quote(b)),
        }
    }

    pub(super) fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Column of its last byte.
    pub(super) fn last_column(self) -> u32 {
        self.column.saturating_add(column_of(self.raw.len()).saturating_sub(2))
    }
}

struct Unquoted<'a> {
    rest: &'a [u8],
    quote: Option<u8>,
    literal: bool,
}

impl Iterator for Unquoted<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            let (&b, rest) = self.rest.split_first()?;
            self.rest = rest;
            if self.literal {
                return Some(b);
            }
            match self.quote {
                None if is_quote(b) => self.quote = Some(b),
                Some(quote) if b == quote => self.quote = None,
                Some(_) if b == b'\\' => {
                    // A wrong escape never gets here: its record is broken.
                    let (b, len) = escape(self.rest).unwrap_or((b, 0));
                    self.rest = self.rest.get(len..).unwrap_or_default();
                    return Some(b);
                }
                _ => return Some(b),
            }
        }
    }
}

/// The words of an argument list, in order.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    text: &'a [u8],
    at: usize,
    end: usize,
    style: Style,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a [u8], at: usize, end: usize, style: Style) -> Self {
        Words { text: &text[..end.min(text.len())], at, end: end.min(text.len()), style }
    }

    pub(super) fn none() -> Self {
        Words { text: &[], at: 0, end: 0, style: Style::Record }
    }

    /// Offset behind the last word given.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next word and what is wrong with its quotes.
    pub(super) fn next_checked(&mut self) -> Option<(Word<'a>, Option<(usize, Kind<'a>)>)> {
        let start = skip(self.text, self.at, self.style);
        let scan = scan(self.text, start, self.style);
        if scan.end <= start {
            // The end, or a separator of the key/value form, which is not ours to cross.
            self.at = self.end;
            return None;
        }
        self.at = scan.end;
        let word = Word { raw: &self.text[start..scan.end], style: self.style, column: column_of(start) };
        Some((word, scan.fault))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        self.next_checked().map(|(word, _)| word)
    }
}

/// Columns count from 1.
pub(super) fn column_of(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX).saturating_add(1)
}

pub(super) fn is_quote(b: u8) -> bool {
    matches!(b, b'"' | b'\'')
}

/// Whether a physical line ends at `i`: at a line feed, CR LF, or the end of the text with or without a CR.
pub(super) fn line_ends(text: &[u8], i: usize) -> bool {
    matches!(text.get(i..), None | Some([] | [b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..]))
}

/// Whether the byte at `i` is a backslash that joins its physical line with the next: the last of an odd number.
pub(super) fn joins(text: &[u8], i: usize) -> bool {
    text.get(i) == Some(&b'\\')
        && line_ends(text, i + 1)
        && text[..=i].iter().rev().take_while(|&&b| b == b'\\').count() % 2 == 1
}

/// Whether the byte at `i` separates words.
pub(super) fn is_blank(text: &[u8], i: usize) -> bool {
    match text.get(i) {
        Some(b' ' | b'\t' | b'\n') => true,
        Some(b'\r') => line_ends(text, i),
        Some(b'\\') => joins(text, i),
        _ => false,
    }
}

/// The first offset from `at` on that is no blank and, in the key/value form, not in a comment.
pub(super) fn skip(text: &[u8], mut at: usize, style: Style) -> usize {
    while at < text.len() {
        if is_blank(text, at) {
            at += 1;
        } else if style == Style::Keyed && text[at] == b'#' {
            at = line_feed(text, at);
        } else {
            break;
        }
    }
    at
}

/// Offset of the line feed that ends the physical line `at` is in, or the length of the text.
pub(super) fn line_feed(text: &[u8], at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.iter().position(|&b| b == b'\n')).map_or(text.len(), |i| at + i)
}

pub(super) struct Scan<'a> {
    /// Behind the word; where it began if there is none.
    pub end: usize,
    pub fault: Option<(usize, Kind<'a>)>,
}

/// The word that begins at `at`.
pub(super) fn scan<'a>(text: &'a [u8], at: usize, style: Style) -> Scan<'a> {
    match style {
        Style::Record => scan_record(text, at),
        Style::Keyed => scan_keyed(text, at),
    }
}

fn scan_record(text: &[u8], at: usize) -> Scan<'_> {
    let mut fault = None;
    let mut end = at;
    if let Some(&quote) = text.get(at).filter(|&&b| is_quote(b)) {
        // FreeBSD ends the word at the second quote, NetBSD at the next blank: only where both agree is it sure.
        let line = &text[at + 1..line_feed(text, at)];
        match line.iter().position(|&b| b == quote) {
            None => {
                let end = at + 1 + line.len();
                return Scan { end, fault: Some((at, Kind::Unclosed)) };
            }
            Some(len) => {
                end = at + 1 + len + 1;
                if end < text.len() && !is_blank(text, end) {
                    fault = Some((end, Kind::AfterQuote));
                }
            }
        }
    }
    while end < text.len() && !is_blank(text, end) {
        end += 1;
    }
    if end > at && fault.is_none() && joins(text, end) {
        // busybox takes backslash and line feed away and nothing else, so the next line would go on with this word.
        let next = line_feed(text, end) + 1;
        if next < text.len() && !is_blank(text, next) {
            fault = Some((end, Kind::Split));
        }
    }
    Scan { end, fault }
}

fn scan_keyed(text: &[u8], at: usize) -> Scan<'_> {
    let mut fault = None;
    let mut quote: Option<(u8, usize)> = None;
    let mut i = at;
    while let Some(&b) = text.get(i) {
        match quote {
            None if is_blank(text, i) || matches!(b, b'#' | b',' | b';') => break,
            None if is_quote(b) => quote = Some((b, i)),
            None => {}
            Some(_) if b == b'\n' => break,
            Some((q, _)) if b == q => quote = None,
            Some(_) if b == b'\\' => match escape(&text[i + 1..]) {
                Some((0, _)) => fault = fault.or(Some((i, Kind::Nul))),
                Some((_, len)) => i += len,
                None => fault = fault.or(Some((i, Kind::Escape))),
            },
            Some(_) => {}
        }
        i += 1;
    }
    if let Some((_, start)) = quote {
        fault = Some((start, Kind::Unclosed));
    }
    Scan { end: i, fault }
}

/// The byte that the escape behind a backslash means, and the length of the escape.
fn escape(rest: &[u8]) -> Option<(u8, usize)> {
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    match *rest {
        [b @ (b'\\' | b'\'' | b'"'), ..] => Some((b, 1)),
        [b'n', ..] => Some((b'\n', 1)),
        [b't', ..] => Some((b'\t', 1)),
        [b'r', ..] => Some((b'\r', 1)),
        [b'x', high, low, ..] => Some((hex(high)? << 4 | hex(low)?, 3)),
        _ => None,
    }
}
