//! The sections of xinetd.conf(5), which usherd.conf shares.
//!
//! ```text
//! file    := { section | include }
//! section := ("service" NAME | "defaults" | "init") "{" { ATTRIBUTE OPERATOR { VALUE } } "}"
//! include := ("include" FILE | "includedir" DIRECTORY)
//! ```
//!
//! Each line is one attribute; braces stand on their own lines, the opening one also behind the head. Whatever is
//! wrong stays with its section: where xinetd skipped to the next lone `}` and took a good service with it, reading
//! goes on at the next line.

#![forbid(unsafe_code)]

use super::attr;
use super::diagnostic::Bytes;
use super::draft::{Draft, Kind, Lists};
use super::lines::{Line, Lines};
use super::read::{BOM, Frame, Step, TOO_LONG, put_path, resolve};
use super::source::Files;
use super::token::{Assignment, Operator, Word, Words};
use super::{BUFFER, Context, Loader, close, init, mark, set, settle};
use crate::errno::Errno;

/// What a line outside of sections says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Service,
    Defaults,
    Init,
    Include,
    IncludeDir,
}

const KEYWORDS: [(&str, Keyword); 5] = [
    ("service", Keyword::Service),
    ("defaults", Keyword::Defaults),
    ("init", Keyword::Init),
    ("include", Keyword::Include),
    ("includedir", Keyword::IncludeDir),
];

/// The keyword a line begins with, unless it is an attribute of that name.
fn keyword(text: &[u8]) -> Option<Keyword> {
    let first = Words::new(text).next()?.ok()?;
    let (_, keyword) = KEYWORDS.iter().find(|(name, _)| first.is(name))?;
    if Assignment::parse(text).is_some() { None } else { Some(*keyword) }
}

impl Loader {
    /// Reads sections up to the end of the file or an include directive.
    pub(super) fn xinetd<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        defaults: &mut Draft,
        frame: &mut Frame<F::Handle>,
    ) -> Result<Step, Errno> {
        // The head of a section that ended without `}` was read already.
        let mut again = false;
        loop {
            if !again {
                match frame.next_line(&mut self.lines, cx)? {
                    None => return Ok(Step::End),
                    Some(Line::TooLong) => {
                        cx.complete = false;
                        let what = format_args!("the line is longer than {} bytes", TOO_LONG.1);
                        cx.error(0, what, format_args!("part it; or build with USHERD_{}", TOO_LONG.0));
                        continue;
                    }
                    Some(Line::Whole) => {}
                }
            }
            again = false;
            let text = self.text(frame);
            if text.contains(&0) {
                cx.complete = false;
                cx.error(0, format_args!("a NUL byte in the line"), format_args!("leave it out"));
                continue;
            }
            let mut words = Words::new(text);
            let Some(Ok(first)) = words.next() else {
                if let Err((_, column)) = Words::new(text).check() {
                    cx.complete = false;
                    cx.error(
                        column,
                        format_args!("a quote outside of sections"),
                        format_args!("leave it out"),
                    );
                }
                continue;
            };
            match keyword(text) {
                Some(Keyword::Service) => again = self.service(cx, defaults, frame, false)?,
                Some(Keyword::Defaults) => again = self.defaults(cx, defaults, frame)?,
                Some(Keyword::Init) => again = self.init(cx, frame)?,
                Some(keyword @ (Keyword::Include | Keyword::IncludeDir)) => {
                    let Some(path) = operand(cx, first, words) else { continue };
                    let column = path.column;
                    let Some(path) = put_path(cx, path.bytes) else { continue };
                    let Some(path) = resolve(cx, path) else { continue };
                    return Ok(match keyword {
                        Keyword::IncludeDir => Step::Folder { dir: path },
                        _ => Step::File { path, column },
                    });
                }
                None => again = self.stray(cx, defaults, frame)?,
            }
        }
    }

    /// The line we are at.
    fn text<H>(&self, frame: &Frame<H>) -> &[u8] {
        let text = self.lines.text();
        if frame.line == 1 { text.strip_prefix(BOM).unwrap_or(text) } else { text }
    }

    /// A line that begins nothing. Nobody can say what it was meant to be, so something is missing from the table.
    fn stray<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        defaults: &mut Draft,
        frame: &mut Frame<F::Handle>,
    ) -> Result<bool, Errno> {
        cx.complete = false;
        let text = self.text(frame);
        let Some(Ok(first)) = Words::new(text).next() else { return Ok(false) };
        let opens = is_open(text) || Words::new(text).sound().last().is_some_and(|w| w.bytes == b"{");
        if first.bytes.starts_with(b"}") {
            cx.error(first.column, format_args!("`}}` without a section"), format_args!("leave it out"));
            return Ok(false);
        }
        if is_open(text) {
            let what = format_args!("a section without a head");
            cx.error(first.column, what, format_args!("write `service NAME` or `defaults` before it"));
            return self.skip(cx, frame);
        }
        let name = Bytes(first.bytes);
        match attr::nearest(first.bytes, KEYWORDS.iter().map(|(name, _)| *name)) {
            // Whatever it limits would not be limited.
            Some(near @ "defaults") => {
                cx.usable = false;
                let what = format_args!("`{name}` begins no section");
                cx.error(
                    first.column,
                    what,
                    format_args!("did you mean `{near}`? Then every service lacks it"),
                );
            }
            Some(near @ "service") => {
                let what = format_args!("`{name}` begins no section");
                cx.error(first.column, what, format_args!("did you mean `{near}`?"));
                return self.service(cx, defaults, frame, true);
            }
            Some(near) => {
                let what = format_args!("`{name}` begins no section");
                cx.error(first.column, what, format_args!("did you mean `{near}`?"));
            }
            None => {
                let what = format_args!("`{name}` begins no section");
                let cure = "sections begin with `service NAME` or `defaults`; a comment begins with `#`";
                cx.error(first.column, what, format_args!("{cure}"));
            }
        }
        if opens {
            return self.skip(cx, frame);
        }
        // Its body, if it has one, is not to be taken for more stray lines.
        let (offset, line) = (self.lines.offset(), frame.line);
        loop {
            match frame.next_line(&mut self.lines, cx)? {
                Some(Line::Whole) if Words::new(self.lines.text()).next().is_none() => {}
                Some(Line::Whole) if is_open(self.lines.text()) => return self.skip(cx, frame),
                _ => break,
            }
        }
        self.lines.seek(offset);
        (frame.line, cx.line) = (line, line);
        Ok(false)
    }

    /// Moves behind the end of a section; true if the next section begins at the line we are at.
    fn skip<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: &mut Frame<F::Handle>,
    ) -> Result<bool, Errno> {
        while frame.next_line(&mut self.lines, cx)?.is_some() {
            let text = self.lines.text();
            if is_close(text) {
                return Ok(false);
            }
            if matches!(keyword(text), Some(Keyword::Service | Keyword::Defaults | Keyword::Init)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A service section, from its head on. `broken`: its keyword was misspelt.
    fn service<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        defaults: &Draft,
        frame: &mut Frame<F::Handle>,
        broken: bool,
    ) -> Result<bool, Errno> {
        let start = frame.line;
        let mut draft = Draft::open(Kind::Service, defaults, &self.defaults, &mut self.section);
        draft.broken = broken;
        let text = self.text(frame);
        let name = Words::new(text).sound().nth(1);
        match name.filter(|name| !name.bytes.is_empty() && name.bytes != b"{") {
            Some(name) => match cx.table.push_text(name.bytes) {
                Ok(name) => draft.service.name = name,
                Err(full) => cx.full(&mut draft, name.column, "the name", full),
            },
            None => {
                cx.complete = false;
                let what = format_args!("a service without a name");
                cx.wrong(&mut draft, 0, what, format_args!("write `service NAME`"));
            }
        }
        let opened = Self::head(cx, &mut draft, text, 2);
        draft.disabled = self.is_disabled(cx, frame)?;
        let again = body(&mut self.lines, cx, &mut draft, &mut self.section, frame, opened);
        let end = frame.line;
        self.end_section(cx, draft, start);
        cx.line = end;
        again
    }

    fn defaults<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        defaults: &mut Draft,
        frame: &mut Frame<F::Handle>,
    ) -> Result<bool, Errno> {
        if frame.has_defaults {
            let what = format_args!("a second `defaults` in one file");
            cx.wrong(defaults, 0, what, format_args!("put both into one section"));
        }
        frame.has_defaults = true;
        let opened = Self::head(cx, defaults, self.text(frame), 1);
        let again = body(&mut self.lines, cx, defaults, &mut self.defaults, frame, opened);
        cx.usable &= !defaults.broken;
        again
    }

    /// What is to be done before anything is served, if this is the machine's first process.
    fn init<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: &mut Frame<F::Handle>,
    ) -> Result<bool, Errno> {
        if !init::IS_BUILT {
            let what = format_args!("`init` has no effect: this program is no first process");
            cx.warning(0, what, format_args!("build it with `--features init`"));
            return self.skip(cx, frame);
        }
        let mut draft = Draft { kind: Kind::Init, ..Draft::new() };
        let opened = Self::head(cx, &mut draft, self.text(frame), 1);
        body(&mut self.lines, cx, &mut draft, &mut self.defaults, frame, opened)
    }

    /// What stands behind the first `skip` words of a section's head; whether that is the brace.
    fn head<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, text: &[u8], skip: usize) -> bool {
        if let Err((_, column)) = Words::new(text).check() {
            cx.wrong(draft, column, format_args!("a quote that is not closed"), format_args!("leave it out"));
        }
        let mut words = Words::new(text).sound().skip(skip);
        match words.next() {
            None => false,
            Some(brace) if brace.bytes == b"{" => {
                if let Some(more) = words.next() {
                    behind(cx, draft, more, "{");
                }
                true
            }
            Some(more) => {
                let what = format_args!("`{}` behind the head of a section", Bytes(more.bytes));
                cx.wrong(
                    draft,
                    more.column,
                    what,
                    format_args!("leave it out, or make it a comment with `#`"),
                );
                words.last().is_some_and(|w| w.bytes == b"{")
            }
        }
    }

    /// Looks ahead for `disable = yes`, wherever in the section it stands.
    fn is_disabled<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: &Frame<F::Handle>,
    ) -> Result<bool, Errno> {
        let offset = self.lines.offset();
        let mut disabled = false;
        while self.lines.advance(cx.files, &frame.source)?.is_some() {
            let text = self.lines.text();
            if is_close(text) || keyword(text).is_some() {
                break;
            }
            if let Some(a) = Assignment::parse(text)
                && a.name.is("disable")
                && a.operator == Operator::Set
                && a.values.check() == Ok(1)
                && a.values.sound().all(|value| value.is("yes"))
            {
                disabled = true;
                break;
            }
        }
        self.lines.seek(offset);
        Ok(disabled)
    }

    /// The section that began at `line` is complete.
    pub(super) fn end_section<F: Files>(&mut self, cx: &mut Context<'_, F>, mut draft: Draft, line: u32) {
        cx.line = line;
        draft.service.file = cx.file;
        draft.service.line = line;
        let id = if draft.service.id.is_empty() { draft.service.name } else { draft.service.id };
        match close::close(cx, draft, &mut self.section) {
            Some((service, wish)) => settle::push(&mut self.wishes, cx, service, wish),
            None => {
                let _ = self.off.push(mark(core::iter::once(cx.table.bytes(id))));
            }
        }
    }
}

/// The lines of a section. True if it ended at the head of the next one.
fn body<F: Files>(
    lines: &mut Lines<BUFFER>,
    cx: &mut Context<'_, F>,
    draft: &mut Draft,
    lists: &mut Lists,
    frame: &mut Frame<F::Handle>,
    mut opened: bool,
) -> Result<bool, Errno> {
    loop {
        match frame.next_line(lines, cx)? {
            None => {
                let what = format_args!("the file ends within a section");
                cx.wrong(draft, 0, what, format_args!("add the `}}` that ends it"));
                return Ok(false);
            }
            Some(Line::TooLong) => {
                let what = format_args!("the line is longer than {} bytes", TOO_LONG.1);
                cx.wrong(draft, 0, what, format_args!("part it; or build with USHERD_{}", TOO_LONG.0));
                continue;
            }
            Some(Line::Whole) => {}
        }
        let text = lines.text();
        if text.contains(&0) {
            cx.wrong(draft, 0, format_args!("a NUL byte in the line"), format_args!("leave it out"));
            continue;
        }
        let mut words = Words::new(text);
        let first = match words.next() {
            None => continue,
            // The quotes of an attribute's values are looked at with the attribute.
            Some(first) => first.unwrap_or(Word { bytes: b"\"", column: 1 }),
        };
        if let Some(keyword) = keyword(text) {
            let what = format_args!("`{}` within a section", Bytes(first.bytes));
            cx.wrong(draft, first.column, what, format_args!("end the section with `}}` first"));
            match keyword {
                Keyword::Service | Keyword::Defaults | Keyword::Init => return Ok(true),
                Keyword::Include | Keyword::IncludeDir => {
                    // It is not followed from here, so something is missing.
                    cx.complete = false;
                    continue;
                }
            }
        }
        if first.bytes == b"{" {
            if opened {
                let what = format_args!("a second `{{`");
                cx.wrong(draft, first.column, what, format_args!("leave it out"));
            } else if let Some(Ok(more)) = words.next() {
                behind(cx, draft, more, "{");
            }
            opened = true;
            continue;
        }
        if !opened {
            let what = format_args!("`{{` is missing before this line");
            cx.wrong(
                draft,
                first.column,
                what,
                format_args!("write it on a line of its own, or behind the head"),
            );
            opened = true;
        }
        if first.bytes.starts_with(b"}") {
            if first.bytes != b"}" || words.next().is_some() {
                behind(cx, draft, first, "}");
            }
            return Ok(false);
        }
        match Assignment::parse(text) {
            Some(assignment) => set::set(cx, draft, lists, &assignment),
            None => {
                let what = format_args!("`{}` has no operator behind it", Bytes(first.bytes));
                let cure = format_args!("write `{} = VALUE`", Bytes(first.bytes));
                cx.wrong(draft, first.column, what, cure);
            }
        }
    }
}

/// Whether a line is `{` alone.
fn is_open(text: &[u8]) -> bool {
    let mut words = Words::new(text);
    matches!((words.next(), words.next()), (Some(Ok(Word { bytes: b"{", .. })), None))
}

/// Whether a line ends a section.
fn is_close(text: &[u8]) -> bool {
    matches!(Words::new(text).next(), Some(Ok(Word { bytes: [b'}', ..], .. })))
}

fn behind<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, word: Word<'_>, brace: &str) {
    let what = format_args!("something behind `{brace}`");
    cx.wrong(draft, word.column, what, format_args!("put it on a line of its own"));
}

/// The one word behind an include directive.
fn operand<'w, F: Files>(
    cx: &mut Context<'_, F>,
    directive: Word<'_>,
    mut words: Words<'w>,
) -> Option<Word<'w>> {
    let path = words.next();
    let more = words.next();
    if let (Some(Ok(path)), None) = (path, more)
        && !path.bytes.is_empty()
    {
        return Some(path);
    }
    cx.complete = false;
    let name = Bytes(directive.bytes);
    let what = format_args!("`{name}` takes one path");
    cx.error(
        directive.column,
        what,
        format_args!("write a line for each; a path with blanks goes in quotes"),
    );
    None
}
