//! One line of xinetd.conf(5) as words with columns.
//!
//! Words are separated by blanks and tabs. A word that begins with `"` goes to the next `"`, blanks and all; a quote
//! anywhere else is an ordinary character, as every quote is in xinetd. A word that begins with `#` ends the line:
//! xinetd took it, and what followed, for values, and dropped the attribute for having too many.

#![forbid(unsafe_code)]

/// A word, without its quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word<'a> {
    pub bytes: &'a [u8],
    /// Of its first byte, from 1; of the quote if there is one.
    pub column: u32,
}

impl Word<'_> {
    /// Whether this is `name`, letters of either case.
    pub fn is(&self, name: &str) -> bool {
        self.bytes.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// What is wrong with a quoted word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quoting {
    /// No second quote on the line.
    Open,
    /// Something other than a blank behind the second quote.
    Glued,
}

/// The words of a line from some place on. Copies are cheap: a line may be read more than once.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    pub const fn new(line: &'a [u8]) -> Words<'a> {
        Words { line, at: 0 }
    }

    /// The words alone, once [`Words::check`] has found them sound.
    pub fn sound(self) -> impl Iterator<Item = Word<'a>> + Clone {
        let mut words = self;
        core::iter::from_fn(move || words.next()?.ok())
    }

    /// How many words there are, or what is wrong with which column.
    pub fn check(self) -> Result<usize, (Quoting, u32)> {
        let mut count = 0;
        for word in self {
            word?;
            count += 1;
        }
        Ok(count)
    }

    /// Column of the comment that ends the line, if one does.
    pub fn comment(mut self) -> Option<u32> {
        while self.next().is_some() {}
        self.rest().first().is_some_and(|&b| b == b'#').then(|| self.column())
    }

    /// What is left of the line, from a word or comment on.
    fn rest(&mut self) -> &'a [u8] {
        let rest = self.line.get(self.at..).unwrap_or(&[]);
        self.at += rest.iter().position(|&b| !is_blank(b)).unwrap_or(rest.len());
        self.line.get(self.at..).unwrap_or(&[])
    }

    fn column(&self) -> u32 {
        u32::try_from(self.at + 1).unwrap_or(u32::MAX)
    }

    /// Moves past `bytes`, if the line goes on with them here.
    fn eat(&mut self, bytes: &[u8]) -> bool {
        let found = self.line.get(self.at..).is_some_and(|rest| rest.starts_with(bytes));
        if found {
            self.at += bytes.len();
        }
        found
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Result<Word<'a>, (Quoting, u32)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest();
        let column = self.column();
        match rest {
            [] | [b'#', ..] => None,
            [b'"', quoted @ ..] => {
                let Some(len) = quoted.iter().position(|&b| b == b'"') else {
                    self.at = self.line.len();
                    return Some(Err((Quoting::Open, column)));
                };
                self.at += len + 2;
                if self.line.get(self.at).is_some_and(|&b| !is_blank(b)) {
                    let column = self.column();
                    self.at = self.line.len();
                    return Some(Err((Quoting::Glued, column)));
                }
                Some(Ok(Word { bytes: quoted.get(..len).unwrap_or(&[]), column }))
            }
            _ => {
                let len = rest.iter().position(|&b| is_blank(b)).unwrap_or(rest.len());
                self.at += len;
                Some(Ok(Word { bytes: rest.get(..len).unwrap_or(&[]), column }))
            }
        }
    }
}

/// The white space of xinetd.conf within a line.
pub const fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

/// What an attribute's values do to those it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `=`
    Set,
    /// `+=`
    Add,
    /// `-=`
    Remove,
}

impl Operator {
    pub const fn text(self) -> &'static str {
        match self {
            Operator::Set => "=",
            Operator::Add => "+=",
            Operator::Remove => "-=",
        }
    }
}

/// `NAME OP VALUE ...`, with or without blanks around the operator.
#[derive(Clone, Copy, Debug)]
pub struct Assignment<'a> {
    pub name: Word<'a>,
    pub operator: Operator,
    /// Where the operator stands.
    pub column: u32,
    pub values: Words<'a>,
}

impl<'a> Assignment<'a> {
    /// The assignment a line is; `None` if it has no operator behind its first word.
    pub fn parse(line: &'a [u8]) -> Option<Assignment<'a>> {
        let mut words = Words::new(line);
        let rest = words.rest();
        let column = words.column();
        let len = rest.iter().enumerate().position(|(i, &b)| {
            is_blank(b) || b == b'=' || (matches!(b, b'+' | b'-') && rest.get(i + 1) == Some(&b'='))
        })?;
        if len == 0 {
            return None;
        }
        let name = Word { bytes: rest.get(..len)?, column };
        words.at += len;
        words.rest();
        let column = words.column();
        let operator = if words.eat(b"=") {
            Operator::Set
        } else if words.eat(b"+=") {
            Operator::Add
        } else if words.eat(b"-=") {
            Operator::Remove
        } else {
            return None;
        };
        Some(Assignment { name, operator, column, values: words })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn words(line: &str) -> Vec<(String, u32)> {
        Words::new(line.as_bytes())
            .sound()
            .map(|w| (String::from_utf8_lossy(w.bytes).into_owned(), w.column))
            .collect()
    }

    fn of(line: &str) -> Vec<String> {
        words(line).into_iter().map(|(w, _)| w).collect()
    }

    #[test]
    fn blanks_part_words() {
        assert_eq!(words("  a\tbc  d"), [("a".into(), 3), ("bc".into(), 5), ("d".into(), 9)]);
        assert!(of(" \t ").is_empty());
    }

    #[test]
    fn quotes_count_at_the_beginning_of_a_word() {
        assert_eq!(of(r#"-c "a b" c"#), ["-c", "a b", "c"]);
        assert_eq!(of(r#"--log-file="/var/x y" 'a b'"#), [r#"--log-file="/var/x"#, "y\"", "'a", "b'"]);
        assert_eq!(of(r#""""#), [""]);
        assert_eq!(Words::new(br#"a "b c"#).check(), Err((Quoting::Open, 3)));
        assert_eq!(Words::new(br#"a "b"c"#).check(), Err((Quoting::Glued, 6)));
    }

    #[test]
    fn a_comment_begins_a_word() {
        assert_eq!(of("yes # off for now"), ["yes"]);
        assert_eq!(of("a#b #c"), ["a#b"]);
        assert_eq!(of(r##""# no" x"##), ["# no", "x"]);
        assert_eq!(Words::new(b"a #b").comment(), Some(3));
        assert_eq!(Words::new(b"a#b").comment(), None);
    }

    #[test]
    fn an_operator_needs_no_blanks() {
        for line in ["nice=3", "nice =3", "nice= 3", "\tnice\t=\t3\t"] {
            let a = Assignment::parse(line.as_bytes()).unwrap();
            assert_eq!((a.name.bytes, a.operator), (&b"nice"[..], Operator::Set), "{line}");
            assert_eq!(a.values.check(), Ok(1), "{line}");
        }
        let add = Assignment::parse(b"env+=A=b").unwrap();
        assert_eq!((add.operator, add.column), (Operator::Add, 4));
        assert_eq!(add.values.sound().next().unwrap().bytes, b"A=b");
        assert_eq!(Assignment::parse(b"only_from -= ::1").unwrap().operator, Operator::Remove);
        for line in ["nice", "nice 3", "= 3", "", "nice + = 3"] {
            assert!(Assignment::parse(line.as_bytes()).is_none(), "{line}");
        }
    }
}
