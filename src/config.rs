//! Configuration text becomes a [`Table`] and diagnostics.
//!
//! ```text
//!  files ── lines ──┬─ xinetd: token -> attr -> draft ──┐
//!  (include,        │                                   ├─ push ── settle ── Table
//!   includedir)     └─ inetd: record -> entry ──────────┘
//! ```
//!
//! - A line is read into one buffer; a section of xinetd.conf becomes a `draft`, a line of inetd.conf an
//!   `entry`. What a service needs of the system (its port, user, groups, program) is looked up then.
//! - When all files are read the table is settled (`settle`): what `defaults` says is applied, addresses and families
//!   are decided, doubles found, services that are not enabled taken out.
//! - Mistakes are reported all in one go, each with its place and what to write instead. A service with a mistake
//!   stays in the table as [`Standing::Broken`](crate::service::Standing::Broken).

#![forbid(unsafe_code)]

pub mod attr;
mod close;
pub mod diagnostic;
mod draft;
mod entry;
pub mod inetd;
#[cfg(feature = "init")]
mod init;
#[cfg(not(feature = "init"))]
#[path = "config/init/left_out.rs"]
mod init;
pub mod lines;
mod read;
mod rules;
mod set;
mod settle;
pub mod source;
pub mod token;
pub mod value;
mod xinetd;

#[cfg(test)]
mod tests;

use core::fmt;
use core::net::IpAddr;

use heapless::Vec;

use crate::capacity::{LINE_BYTES, PATH_BYTES, SERVICES};
use crate::errno::Errno;
use crate::names;
use crate::service::Dialect;
use crate::table::{Full, Table, Text};
use diagnostic::{Diagnostic, Report, Severity};
use draft::{Draft, Lists, Wish};
use lines::Lines;
use source::Files;

/// The table that runs when there is no configuration at all: xinetd's grammar, on ports anyone may use.
pub const BUILTIN: &[u8] = include_bytes!("config/builtin.conf");

/// What the diagnostics of [`BUILTIN`] call it.
pub const BUILTIN_NAME: &[u8] = b"built-in table";

/// What the diagnostics of [`Loader::load_words`] call it.
pub const WORDS_NAME: &[u8] = b"command line";

/// How files are read, and where the system keeps its names.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// `None`: told by the content. A file is xinetd's if its first line that says anything begins with `service`,
    /// `defaults`, `include` or `includedir`, or if it has a line that is `{` alone.
    pub dialect: Option<Dialect>,
    /// A second file, read after the first as inetd.conf(5) (xinetd's -inetd_compat).
    pub also: Option<&'a [u8]>,
    pub services: &'a [u8],
    pub passwd: &'a [u8],
    pub group: &'a [u8],
    pub hosts: &'a [u8],
    /// The directory that has an entry for every network interface.
    pub interfaces: &'a [u8],
    /// Report, as warnings, what other inetds read differently in an inetd.conf.
    pub notes: bool,
    /// Where services listen that do not say (inetd's -a).
    pub bind: Option<IpAddr>,
    /// Starts per minute of inetd.conf entries that do not say (inetd's -R); `None`: any number.
    pub per_minute: Option<u32>,
    /// The same for one client address (FreeBSD's -C).
    pub per_minute_source: Option<u32>,
    /// Servers at one time of nowait inetd.conf entries that do not say (FreeBSD's -c).
    pub instances: Option<u32>,
    /// The same for one client address (FreeBSD's -s).
    pub per_source: Option<u32>,
    /// hosts.allow and hosts.deny apply to programs of inetd.conf (FreeBSD's -w).
    pub wrap_external: bool,
    /// The same for what the daemon answers itself (FreeBSD's -W).
    pub wrap_internal: bool,
    /// The same for nowait stream programs (openbsd-inetd's -l).
    pub wrap_streams: bool,
    /// Names of internal services that the firmware has besides ours (see [`builtin::Own`](crate::builtin::Own)), at most
    /// 256. The daemon has none.
    pub own: &'a [&'a [u8]],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            dialect: None,
            also: None,
            services: b"/etc/services",
            passwd: b"/etc/passwd",
            group: b"/etc/group",
            hosts: b"/etc/hosts",
            interfaces: b"/sys/class/net",
            notes: false,
            bind: None,
            per_minute: Some(256),
            per_minute_source: None,
            instances: None,
            per_source: None,
            wrap_external: false,
            wrap_internal: false,
            wrap_streams: false,
            own: &[],
        }
    }
}

/// What came of loading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub errors: u32,
    pub warnings: u32,
    /// The table may be used. Not so if the first file could not be read or a `defaults` section has a mistake: then
    /// restrictions may be missing from every service.
    pub usable: bool,
    /// Every file was read, and everything in them belongs to some section. If not, services may be missing that the
    /// files mean to have: at start the others may run, at a reload the old table stays.
    pub complete: bool,
}

/// Reads configuration into a table. One is enough for the whole program; it is large and may live in a static.
pub struct Loader {
    lines: Lines<BUFFER>,
    /// Lists of the section being read.
    section: Lists,
    /// Lists of all `defaults` sections together.
    defaults: Lists,
    /// Beside each service of the table, what only matters until the table is settled.
    wishes: Vec<Wish, SERVICES>,
    /// Marks of the ids of services that are off, so that naming them in `disabled` is no mistake.
    off: Vec<u64, SERVICES>,
}

/// What one more service costs while files are read.
#[cfg(feature = "linux")]
pub(crate) const SERVICE_BYTES: usize = size_of::<Wish>() + size_of::<u64>();

/// What of it the feature `init` adds: what is said in the section being read, and in all of them.
#[cfg(all(test, feature = "linux"))]
pub(crate) const INIT_BYTES: usize = 2 * size_of::<init::Said>();

/// A line with CR LF behind it.
const BUFFER: usize = LINE_BYTES + 2;

impl Loader {
    pub const fn new() -> Loader {
        Loader {
            lines: Lines::new(),
            section: Lists::new(),
            defaults: Lists::new(),
            wishes: Vec::new(),
            off: Vec::new(),
        }
    }

    /// Clears `table` and fills it from the file at `path` and all it includes.
    pub fn load<F: Files>(
        &mut self,
        files: &mut F,
        report: &mut impl Report,
        table: &mut Table,
        path: &[u8],
        options: &Options<'_>,
    ) -> Outcome {
        let mut cx = self.begin(files, report, table, options);
        let mut defaults = Draft::new();
        self.read_path(&mut cx, &mut defaults, path, options.dialect, true);
        if let Some(also) = options.also {
            self.read_path(&mut cx, &mut defaults, also, Some(Dialect::Inetd), false);
        }
        self.settle(&mut cx, &defaults);
        cx.outcome()
    }

    /// Clears `table` and fills it from a text in xinetd's grammar that is part of the program, as [`BUILTIN`] is.
    pub fn load_text<F: Files>(
        &mut self,
        files: &mut F,
        report: &mut impl Report,
        table: &mut Table,
        (name, text): (&[u8], &'static [u8]),
        options: &Options<'_>,
    ) -> Outcome {
        let mut cx = self.begin(files, report, table, options);
        let mut defaults = Draft::new();
        self.read_memory(&mut cx, &mut defaults, name, text);
        self.settle(&mut cx, &defaults);
        cx.outcome()
    }

    /// Clears `table` and fills it from words of a command line, each an assignment of a `service` section:
    /// `port=8080`, `server=/bin/cat`, `server_args=-u`. `service=NAME` begins a service and may be left out before
    /// the first; without a name it has that of its program. Such a service is UNLISTED if it has a port, does not
    /// wait and runs as the daemon's own user unless it says otherwise. Behind a word `--` stand its program and
    /// the program's arguments, each as it is.
    pub fn load_words<'w, F: Files>(
        &mut self,
        files: &mut F,
        report: &mut impl Report,
        table: &mut Table,
        words: impl Iterator<Item = &'w [u8]>,
        options: &Options<'_>,
    ) -> Outcome {
        let mut cx = self.begin(files, report, table, options);
        self.read_words(&mut cx, words);
        self.settle(&mut cx, &Draft::new());
        cx.outcome()
    }

    /// What the `init` section of the files says that were loaded last.
    pub fn boot(&self) -> &init::Said {
        &self.defaults.boot
    }

    fn begin<'a, F: Files>(
        &mut self,
        files: &'a mut F,
        report: &'a mut dyn Report,
        table: &'a mut Table,
        options: &'a Options<'a>,
    ) -> Context<'a, F> {
        table.clear();
        self.section.clear();
        self.defaults.clear();
        self.wishes.clear();
        self.off.clear();
        let say = Sayings { report, errors: 0, warnings: 0 };
        Context {
            files,
            table,
            say,
            options,
            file: Text::default(),
            line: 0,
            usable: true,
            complete: true,
            user: None,
        }
    }
}

impl Default for Loader {
    fn default() -> Self {
        Loader::new()
    }
}

/// What every step of loading works with.
struct Context<'a, F: Files> {
    files: &'a mut F,
    table: &'a mut Table,
    say: Sayings<'a>,
    options: &'a Options<'a>,
    /// Where we are.
    file: Text,
    line: u32,
    usable: bool,
    complete: bool,
    /// Who was looked up last: most services have the user of the one before.
    user: Option<names::User>,
}

impl<F: Files> Context<'_, F> {
    /// An entry of passwd(5).
    fn user_by_name(&mut self, name: &[u8]) -> Result<Option<names::User>, Errno> {
        // A name that is too long to be kept is kept as none.
        if self.user.as_ref().is_none_or(|user| user.name.is_empty() || user.name != name) {
            self.user = names::user_by_name(self.files, self.options.passwd, name)?;
        }
        Ok(self.user.clone())
    }

    fn outcome(&self) -> Outcome {
        let Sayings { errors, warnings, .. } = self.say;
        Outcome { errors, warnings, usable: self.usable, complete: self.complete }
    }

    /// An error at a column of the line we are at.
    fn error(&mut self, column: u32, what: fmt::Arguments<'_>, cure: fmt::Arguments<'_>) {
        self.say.say(Severity::Error, self.table.bytes(self.file), self.line, column, what, cure);
    }

    fn warning(&mut self, column: u32, what: fmt::Arguments<'_>, cure: fmt::Arguments<'_>) {
        self.say.say(Severity::Warning, self.table.bytes(self.file), self.line, column, what, cure);
    }
}

/// Hands diagnostics on and counts them.
struct Sayings<'a> {
    report: &'a mut dyn Report,
    errors: u32,
    warnings: u32,
}

impl Sayings<'_> {
    fn say(
        &mut self,
        severity: Severity,
        file: &[u8],
        line: u32,
        column: u32,
        what: fmt::Arguments<'_>,
        cure: fmt::Arguments<'_>,
    ) {
        match severity {
            Severity::Warning => self.warnings = self.warnings.saturating_add(1),
            Severity::Error => self.errors = self.errors.saturating_add(1),
        }
        self.report.report(&Diagnostic { severity, file, line, column, what, cure });
    }
}

/// The last component of a path, without a copy.
fn base_name(table: &Table, path: Text) -> Text {
    let base = table.bytes(path).iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    table.tail(path, base)
}

/// Whether a program of that name is TCP Wrappers' own. usherd does itself what tcpd is there for, so that the program
/// behind it is started at once.
fn is_tcpd(base: &[u8]) -> bool {
    base == b"tcpd"
}

/// The program that tcpd starts when it is called by that name, or why there is none.
fn behind_tcpd(table: &mut Table, argv0: Text) -> Result<Result<Text, &'static str>, Full> {
    /// Where Debian's tcpd looks for programs.
    const DIR: &[u8] = b"/usr/sbin/";
    let name = table.bytes(argv0);
    if name.is_empty() || is_tcpd(table.bytes(base_name(table, argv0))) {
        return Ok(Err("tcpd has no program behind it and would start itself for ever"));
    }
    if name.starts_with(b"/") {
        return Ok(Ok(argv0));
    }
    let mut path = Vec::<u8, PATH_BYTES>::new();
    if path.extend_from_slice(DIR).and_then(|()| path.extend_from_slice(name)).is_err() {
        return Ok(Err("the path of the program behind tcpd is too long"));
    }
    table.push_text(&path).map(Ok)
}

/// FNV-1a over words, letters as they are: tells whether a value given twice is the same, and whether an id was seen.
/// With 64 bits nobody meets a collision by accident, and by intent one could only repeat one's own attribute.
fn mark<'a>(words: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for word in words {
        for byte in word.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
