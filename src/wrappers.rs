//! hosts.allow and hosts.deny: who may come in, as TCP Wrappers' users wrote it down.
//!
//! ```text
//!  Files ── rule ── list ──┬── pattern      is it this host?
//!           (a logical     ├── named        /file, @netgroup
//!            line, cut     └── option ── expand
//!            at colons)        (what a rule that matched does)
//! ```
//!
//! - **Straight from the text, at every connection**, as libwrap did: a rule holds from the moment the file is
//!   written, ban tools may make the files as long as they like, and there is no table to be too small for them and no
//!   second copy to be out of date. A line costs what its bytes cost to look at, far less than the process that
//!   follows; a backend that wants to spare the reading gives [`Files`] that keep these two in memory while size and
//!   time of change stay the same. If it tells [versions](Files::version) too, whoever comes again while both files are
//!   the same is told what he was told before.
//! - **It never waits.** What has to be asked of the network is a [`Fact`](Facts); if a rule turns on one that is not
//!   known the answer is [`Verdict::Need`], and the same question is put again with it. Nothing is asked for that
//!   cannot change the answer: `ALL: .example.com 10.1.` looks up no name for 10.1.2.3.
//! - **What can be read in two ways is read so that it refuses.** libwrap skipped patterns it did not understand, so a
//!   mistake in hosts.deny let everybody in. Here such a pattern *may* match: a rule that
//!   grants does not count then, one that refuses does, and the verdict tells the place and what to write.
//!   docs/differences.md has the list.
//!
//! To be read with hosts_access(5) and hosts_options(5).

#![forbid(unsafe_code)]

mod check;
mod effects;
mod expand;
mod explain;
mod list;
mod named;
mod option;
mod pattern;
mod problem;
mod recent;
mod rule;

pub use check::{Check, Count, DoesResolve, IsDaemon};
pub use effects::Effects;
pub use expand::{Banner, Long, expand, expand_banner};
pub use explain::{Asked, Explanation, Who};
pub use option::{Facility, Level, Opt, Options, Value};
pub use problem::{Fault, Weight};

#[cfg(feature = "linux")]
pub(crate) use recent::VERDICT_BYTES;

pub use crate::addr::HostName;

use core::net::IpAddr;

use crate::addr::Peer;
use crate::config::lines::Source;
use crate::config::source::Files;
use crate::errno::Errno;
use crate::tell::told;
use list::{Answer, Context};
use option::Effect;
use recent::{Question, Recent, Said};
use rule::{Line, Rules};

/// Which files, and how they are read.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    pub allow: &'a [u8],
    pub deny: &'a [u8],
    pub language: Language,
    pub passwd: &'a [u8],
    pub group: &'a [u8],
    pub netgroup: &'a [u8],
}

impl Default for Tables<'_> {
    fn default() -> Self {
        Tables {
            allow: b"/etc/hosts.allow",
            deny: b"/etc/hosts.deny",
            language: Language::Options,
            passwd: b"/etc/passwd",
            group: b"/etc/group",
            netgroup: b"/etc/netgroup",
        }
    }
}

impl<'a> Tables<'a> {
    pub const fn path(&self, which: Which) -> &'a [u8] {
        match which {
            Which::Allow => self.allow,
            Which::Deny => self.deny,
        }
    }
}

/// What stands behind the second colon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// hosts_options(5), as every distribution has built it.
    Options,
    /// One shell command, as hosts_access(5) had it first.
    Shell,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Allow,
    Deny,
}

told!(Which, |which, f| {
    let which = *which;
    spell!(
        f,
        match which {
            Which::Allow => "hosts.allow",
            Which::Deny => "hosts.deny",
        }
    )
});

/// A connection, or a datagram, for which somebody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The server's name; of a path only the last part counts.
    pub daemon: &'a [u8],
    pub client: Endpoint<'a>,
    pub server: Endpoint<'a>,
    /// What `%p` becomes.
    pub pid: u32,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoint<'a> {
    /// A mapped IPv4 address counts as plain. `None`: a unix socket, which rules call unknown, or a hidden one.
    pub address: Option<IpAddr>,
    /// The interface of a link-local address, by name; empty if there is none or it is not known.
    pub zone: &'a [u8],
    pub port: Option<u16>,
    /// It has an address that only the server will learn, as one that accepts by itself does. What turns on who it is
    /// is doubtful then: only a rule for everybody grants, and any that may be about it refuses.
    pub is_hidden: bool,
}

impl From<Peer> for Endpoint<'_> {
    fn from(peer: Peer) -> Self {
        Endpoint { address: peer.address(), zone: &[], port: peer.port(), is_hidden: false }
    }
}

/// What has been asked so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    pub client_name: HostName<'a>,
    pub server_name: HostName<'a>,
    /// Of a datagram nobody can be asked: say `Unknown`.
    pub user: User<'a>,
    pub commands: Commands<'a>,
}

/// What the client's machine says of its user (RFC 1413). It may say anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum User<'a> {
    #[default]
    NotAsked,
    Unknown,
    Known(&'a [u8]),
}

/// What became of `aclexec` commands.
#[derive(Clone, Copy, Debug)]
pub enum Commands<'a> {
    /// None is run and all succeed: a dry run, as tcpdmatch makes it.
    Assumed,
    Ran(&'a [Ran]),
}

impl Default for Commands<'_> {
    fn default() -> Self {
        Commands::Ran(&[])
    }
}

/// The `nth` aclexec (0 is the first) of the rule at `place` was run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ran {
    pub place: Place,
    pub nth: u8,
    /// Its status was 0.
    pub passed: bool,
}

/// A rule: its first line and its last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub which: Which,
    pub line: u32,
    pub last: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// The client may come in, once the options are carried out.
    Granted(Decision<'a>),
    Refused(Decision<'a>),
    /// Instead of the server the command of the last option, a `twist`, is run.
    Delegated(Decision<'a>),
    /// Ask, then evaluate again with the answer in [`Facts`].
    Need(Need<'a>),
}

/// How a verdict came about, and what it brings with it.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// `None`: no rule matched, which grants; or a file could not be read, which refuses.
    pub place: Option<Place>,
    pub why: Why,
    /// What to carry out, from left to right. All of it was checked.
    pub options: Options<'a>,
    /// The first rule that would have let the client in but for a mistake.
    pub skipped: Option<Skipped>,
}

/// A rule that does not count because of what is wrong with it, there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skipped {
    pub which: Which,
    pub fault: Fault,
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The rule at the place matched.
    Rule,
    /// No rule did.
    NoRule,
    /// A mistake in the rule, at that line and column: it refuses because it might match, or because it does and its
    /// options cannot be carried out.
    Fault { fault: Fault, line: u32, column: u32 },
    /// A file could not be read.
    Unreadable { which: Which, errno: Errno },
}

/// What a rule turns on and nobody has asked yet.
#[derive(Clone, Copy, Debug)]
pub enum Need<'a> {
    ClientName,
    ServerName,
    /// `seconds`: how long to wait for the answer, if the rule says.
    User {
        seconds: Option<u32>,
    },
    /// Run the command, expanded as all are, and note in [`Facts::commands`] how it ended.
    Command {
        place: Place,
        nth: u8,
        command: Value<'a>,
    },
}

/// Evaluates rules. One is enough for the whole program: it holds one line, and the last verdicts.
pub struct Wrappers {
    rules: Rules,
    recent: Recent,
}

/// What the rules came to, before it is bound to the line it came from.
enum Found {
    Decided { outcome: Outcome, place: Option<Place>, why: Why },
    Need { need: Wanted, place: Place },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Granted,
    Refused,
    Delegated,
}

/// [`Need`] without what is borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    ClientName,
    ServerName,
    User { seconds: Option<u32> },
    Command { nth: u8 },
}

impl<'a> Facts<'a> {
    /// With what nobody can be asked: an end without address has neither name nor user.
    fn settled(mut self, request: &Request<'_>) -> Facts<'a> {
        let has_client = request.client.address.is_some();
        if !has_client && self.client_name == HostName::NotAsked {
            self.client_name = HostName::Unknown;
        }
        if !has_client && self.user == User::NotAsked {
            self.user = User::Unknown;
        }
        if request.server.address.is_none() && self.server_name == HostName::NotAsked {
            self.server_name = HostName::Unknown;
        }
        self
    }
}

impl Wrappers {
    pub const fn new() -> Self {
        Wrappers { rules: Rules::new(), recent: Recent::new() }
    }

    /// Whether the rules let a client in. The answer for the same files and facts is always the same.
    pub fn evaluate<F: Files>(
        &mut self,
        files: &mut F,
        tables: &Tables<'_>,
        request: &Request<'_>,
        facts: &Facts<'_>,
    ) -> Verdict<'_> {
        let versions = files.version(tables.allow).zip(files.version(tables.deny)).map(<[u64; 2]>::from);
        let facts = facts.settled(request);
        // Together, or neither is of use.
        let asked = versions.zip(Question::of(request, &facts));
        if let Some((versions, question)) = &asked
            && let Some(said) = self.recent.said(*versions, question)
        {
            return said.verdict(Options::NONE);
        }
        let mut cx = Context::new(files, tables, request, &facts);
        let found = [Which::Allow, Which::Deny].into_iter().find_map(|which| self.scan(&mut cx, which));
        let (skipped, is_lasting, has_options) = (cx.skipped, cx.is_lasting(), cx.has_options);
        let found =
            found.unwrap_or(Found::Decided { outcome: Outcome::Granted, place: None, why: Why::NoRule });
        let options = Options::new(self.rules.options(), tables.language);
        match found {
            Found::Decided { outcome, place, why } => {
                let said = Said { outcome, place, why, skipped };
                if let Some((versions, question)) = asked
                    && is_lasting
                    && !matches!(why, Why::Unreadable { .. })
                {
                    self.recent.keep(versions, question, said);
                }
                said.verdict(if why == Why::Rule && has_options { options } else { Options::NONE })
            }
            Found::Need { need, place } => Verdict::Need(match need {
                Wanted::ClientName => Need::ClientName,
                Wanted::ServerName => Need::ServerName,
                Wanted::User { seconds } => Need::User { seconds },
                Wanted::Command { nth } => {
                    let command = options.commands().nth(usize::from(nth)).unwrap_or_default();
                    Need::Command { place, nth, command }
                }
            }),
        }
    }

    /// Goes through one file up to the rule that decides.
    fn scan<F: Files>(&mut self, cx: &mut Context<'_, F>, which: Which) -> Option<Found> {
        let refused = |place, why| Some(Found::Decided { outcome: Outcome::Refused, place, why });
        let file = match self.rules.open(cx.files, cx.tables.path(which)) {
            Ok(file) => file,
            Err(Errno::NOENT) => return None,
            Err(errno) => return refused(None, Why::Unreadable { which, errno }),
        };
        loop {
            let line = match self.rules.advance(cx.files, &file) {
                Ok(line) => line,
                Err(errno) => return refused(None, Why::Unreadable { which, errno }),
            };
            let place = Place { which, line: self.rules.line(), last: self.rules.last() };
            let Some(line) = line else {
                // libwrap refuses everybody whom no rule above has let in.
                let fault = Why::Fault { fault: Fault::NoNewline, line: place.last, column: 1 };
                let place = Place { line: place.last, ..place };
                let is_cut = which == Which::Deny && self.rules.ends_inside(cx.files, &file);
                return if is_cut { refused(Some(place), fault) } else { None };
            };
            match line {
                Line::Nothing | Line::Rule if which == Which::Deny && self.rules.unread().is_some() => {
                    let line = self.rules.unread().unwrap_or(place.line);
                    return refused(Some(place), Why::Fault { fault: Fault::LineOver, line, column: 1 });
                }
                Line::Nothing => {}
                // Nothing but a rule that grants could have been meant in hosts.allow: it has no options.
                Line::Broken(Fault::NoColon, _) if which == Which::Allow => {}
                Line::Broken(fault, at) => {
                    let (line, column) = self.rules.place_of(at);
                    return refused(Some(place), Why::Fault { fault, line, column });
                }
                Line::Rule => {
                    let found = self.rule(cx, &file, place);
                    if found.is_some() || core::mem::take(&mut cx.is_left) {
                        return found;
                    }
                }
            }
        }
    }

    /// What the rule just read decides, if it matches.
    fn rule<F: Files>(
        &self,
        cx: &mut Context<'_, F>,
        file: &Source<F::Handle>,
        place: Place,
    ) -> Option<Found> {
        let decided = |outcome, why| Some(Found::Decided { outcome, place: Some(place), why });
        let refused = |fault, (line, column)| decided(Outcome::Refused, Why::Fault { fault, line, column });
        let need = |need| Some(Found::Need { need, place });
        let answer = cx.matches(&self.rules);
        if answer == Answer::No {
            return None;
        }
        let options = Options::new(self.rules.options(), cx.tables.language);
        cx.has_options |= options.fields().next().is_some();
        let effect = option::effect(options, cx.files, cx.tables, place.which);
        let is_opening = matches!(effect, Ok(Effect::Grant | Effect::Delegate));
        let mut doubt = match answer {
            Answer::Doubt(fault, at) => Some((fault, at)),
            _ => self.rules.doubt(),
        }
        .map(|(fault, at)| (fault, self.rules.place_of(at)))
        .or(self.rules.unread().map(|line| (Fault::LineOver, (line, 1))));
        let is_told = is_opening || place.which == Which::Allow;
        if doubt.is_none() && is_told && self.rules.is_unterminated(cx.files, file) {
            doubt = Some((Fault::NoNewline, (place.last, 1)));
        }
        // A twist in place of the server keeps out, too.
        let does_count = doubt.is_none() || effect != Ok(Effect::Grant);
        match (answer, doubt) {
            // Whatever the answer, it changes nothing.
            (Answer::Need(_), _) if !does_count => return None,
            (Answer::Need(wanted), _) => return need(wanted),
            (_, Some((fault, (line, column)))) if !does_count => {
                let skipped = Skipped { which: place.which, fault, line, column };
                cx.skipped.get_or_insert(skipped);
                return None;
            }
            (_, Some((fault, at))) => return refused(fault, at),
            (_, None) => {}
        }
        let effect = match effect {
            Ok(effect) => effect,
            Err((fault, at)) => return refused(fault, self.rules.place_of(self.rules.options_at() + at)),
        };
        if let Some(wanted) = options.first_need(cx.facts) {
            return need(wanted);
        }
        if let Commands::Ran(ran) = cx.facts.commands {
            for nth in 0..u8::try_from(options.commands().count()).unwrap_or(u8::MAX) {
                match ran.iter().find(|r| r.place == place && r.nth == nth) {
                    Some(Ran { passed: true, .. }) => {}
                    Some(Ran { passed: false, .. }) => {
                        // No later rule of hosts.allow lets anybody in then, as in libwrap.
                        cx.is_left = place.which == Which::Allow;
                        return None;
                    }
                    None => return need(Wanted::Command { nth }),
                }
            }
        }
        let outcome = match effect {
            Effect::Grant => Outcome::Granted,
            Effect::Refuse => Outcome::Refused,
            Effect::Delegate => Outcome::Delegated,
        };
        decided(outcome, Why::Rule)
    }
}

impl Said {
    fn verdict(self, options: Options<'_>) -> Verdict<'_> {
        let Said { outcome, place, why, skipped } = self;
        let decision = Decision { place, why, options, skipped };
        match outcome {
            Outcome::Granted => Verdict::Granted(decision),
            Outcome::Refused => Verdict::Refused(decision),
            Outcome::Delegated => Verdict::Delegated(decision),
        }
    }
}

impl Default for Wrappers {
    fn default() -> Self {
        Wrappers::new()
    }
}
