//! A section under construction: [attributes are set](super::set) one by one, then the section is
//! [closed](super::close) and becomes a service.
//!
//! Strings go straight to the table's pool; lists, which `+=` and `-=` may still change, are kept apart until the
//! section ends.

#![forbid(unsafe_code)]

use core::fmt;

use heapless::Vec;

use super::attr::{Given, KEYS, Key};
use super::diagnostic::{Bytes, Severity};
use super::source::Files;
use super::token::Word;
use super::{Context, init};
use crate::capacity::{DRAFT_RULES, DRAFT_WORDS};
use crate::errno::Errno;
use crate::names;
use crate::service::{DenyTime, Family, Flags, Minutes, Service, SocketType, Target};
use crate::table::{Full, Rule, Text};

/// Time ranges of one service.
pub(super) const DRAFT_TIMES: usize = 16;

/// The lists of a section.
pub(super) struct Lists {
    pub args: Vec<Text, DRAFT_WORDS>,
    pub env: Vec<Text, DRAFT_WORDS>,
    pub passenv: Vec<Text, DRAFT_WORDS>,
    pub only_from: Vec<Rule, DRAFT_RULES>,
    pub no_access: Vec<Rule, DRAFT_RULES>,
    pub times: Vec<Minutes, DRAFT_TIMES>,
    /// Of `defaults`.
    pub enabled: Vec<Text, DRAFT_WORDS>,
    pub disabled: Vec<Text, DRAFT_WORDS>,
    /// Of `init`; kept with those of `defaults`.
    pub boot: init::Said,
}

impl Lists {
    pub const fn new() -> Lists {
        Lists {
            args: Vec::new(),
            env: Vec::new(),
            passenv: Vec::new(),
            only_from: Vec::new(),
            no_access: Vec::new(),
            times: Vec::new(),
            enabled: Vec::new(),
            disabled: Vec::new(),
            boot: init::NOTHING,
        }
    }

    pub fn clear(&mut self) {
        self.args.clear();
        self.env.clear();
        self.passenv.clear();
        self.only_from.clear();
        self.no_access.clear();
        self.times.clear();
        self.enabled.clear();
        self.disabled.clear();
        init::clear(&mut self.boot);
    }
}

/// What is being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Service,
    Defaults,
    /// A service given on the command line.
    Words,
    /// The machine's own section.
    Init,
}

/// Where an attribute was given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spot {
    pub file: Text,
    pub line: u32,
    pub column: u32,
}

/// What a service asks for that can only be decided when all files are read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Attributes the section gave itself; `defaults` does not replace them.
    pub given: Given,
    /// The value of `bind`.
    pub bind: Text,
    pub bind_at: Spot,
    /// The flags IPv4 and IPv6.
    pub v4: bool,
    pub v6: bool,
    /// The family of the protocol word.
    pub family: Option<Family>,
    pub v6only: bool,
    /// The user, for whom supplementary groups are looked up.
    pub user: Text,
    /// tcpd stood in front of the program.
    pub tcpd: bool,
    /// To be taken out when the table is settled.
    pub off: bool,
}

pub(super) struct Draft {
    pub kind: Kind,
    pub service: Service,
    pub wish: Wish,
    /// It will not run: its mistakes are warnings, and nothing is looked up for it.
    pub disabled: bool,
    /// An error was reported.
    pub broken: bool,
    pub socket: Option<SocketType>,
    pub protocol: Option<names::Protocol>,
    pub port: Option<u16>,
    pub internal: bool,
    pub sensor: bool,
    pub deny_time: DenyTime,
    pub redirect: Option<Target>,
    /// Type TCPMUX or, true, TCPMUXPLUS.
    pub mux: Option<bool>,
    /// The flag INTERCEPT.
    pub intercept: bool,
    /// The flag NOLIBWRAP.
    pub unwrapped: bool,
    /// Where the section itself asks for facts that not every service has.
    pub traffic_at: Spot,
    pub userid_at: Spot,
    /// The line and the mark of the value of each attribute that may be given once.
    pub lines: [u32; KEYS],
    pub marks: [u64; KEYS],
}

impl Draft {
    /// The draft of all `defaults` sections.
    pub fn new() -> Draft {
        Draft {
            kind: Kind::Defaults,
            service: Service::default(),
            wish: Wish::default(),
            disabled: false,
            broken: false,
            socket: None,
            protocol: None,
            port: None,
            internal: false,
            sensor: false,
            deny_time: DenyTime::Never,
            redirect: None,
            mux: None,
            intercept: false,
            unwrapped: false,
            traffic_at: Spot::default(),
            userid_at: Spot::default(),
            lines: [0; KEYS],
            marks: [0; KEYS],
        }
    }

    /// A service section opens: some attributes come from the `defaults` read so far.
    pub fn open(kind: Kind, defaults: &Draft, from: &Lists, lists: &mut Lists) -> Draft {
        let mut draft = Draft { kind, ..Draft::new() };
        draft.flag(Flags::LIBWRAP, true);
        draft.service.log_on_success = defaults.service.log_on_success;
        draft.service.log_on_failure = defaults.service.log_on_failure;
        draft.service.banner = defaults.service.banner;
        draft.service.banner_success = defaults.service.banner_success;
        draft.service.banner_fail = defaults.service.banner_fail;
        for (flag, key) in [(Flags::ONLY_FROM, Key::OnlyFrom), (Flags::PASSENV, Key::Passenv)] {
            if defaults.wish.given.has(key) {
                draft.service.flags = draft.service.flags.with(flag);
            }
        }
        lists.clear();
        // Equal capacities: what one holds the other holds.
        lists.only_from.clone_from(&from.only_from);
        lists.no_access.clone_from(&from.no_access);
        lists.passenv.clone_from(&from.passenv);
        draft
    }

    pub fn has(&self, key: Key) -> bool {
        self.wish.given.has(key)
    }

    pub fn flag(&mut self, flag: Flags, on: bool) {
        let flags = self.service.flags;
        self.service.flags = if on { flags.with(flag) } else { flags.without(flag) };
    }
}

impl<F: Files> Context<'_, F> {
    /// A mistake in a section, at a column of the line we are at.
    pub(super) fn wrong(
        &mut self,
        draft: &mut Draft,
        column: u32,
        what: fmt::Arguments<'_>,
        cure: fmt::Arguments<'_>,
    ) {
        draft.broken = true;
        let severity = if draft.disabled { Severity::Warning } else { Severity::Error };
        self.say.say(severity, self.table.bytes(self.file), self.line, column, what, cure);
    }

    /// Something does not fit.
    pub(super) fn full(&mut self, draft: &mut Draft, column: u32, what: &str, full: Full) {
        self.wrong(draft, column, format_args!("no room for {what}"), format_args!("{full}"));
    }

    pub(super) fn text(&mut self, draft: &mut Draft, word: Word<'_>) -> Text {
        self.table.push_text(word.bytes).unwrap_or_else(|full| {
            self.full(draft, word.column, "this text", full);
            Text::default()
        })
    }

    /// The daemon cannot know: the file that would tell cannot be read.
    pub(super) fn unreadable(&mut self, draft: &mut Draft, column: u32, path: &[u8], errno: Errno) {
        self.wrong(
            draft,
            column,
            format_args!("cannot read {}: {errno}", Bytes(path)),
            format_args!("what is looked up there is not known; make the file readable, or write the number"),
        );
    }
}
