//! The daemon: from the command line to the loop, and what signals do to it.

use core::cell::RefCell;
use core::ffi::CStr;
use core::fmt::{self, Write as _};
use core::mem::MaybeUninit;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, setrlimit, wait, waitpid,
};

use super::cache::Disk;
use super::init::{self, Init};
use super::log::{self, FACILITY_DAEMON, Log, Main};
use super::notify::Notify;
use super::spawn::Heritage;
use super::succession::{self, Origin, Will};
use super::sys::{self, SignalSet};
#[cfg(feature = "tap")]
use super::tap;
use super::{Cache, Linux, Source, Spawner, Spills, dump, matching};
use crate::args::{self, LogTo, Misuse, Options, Personality, Standalone, Task, USAGE};
use crate::backend::{Backend, End};
use crate::budget;
use crate::capacity::{PATH_BYTES, PREDECESSORS};
use crate::config::diagnostic::{Bytes, Diagnostic, Severity};
use crate::config::source::Files;
use crate::config::value::number;
use crate::config::{self, Loader, Outcome};
use crate::engine::{Changes, Engine, Event, GRACE_MS};
use crate::errno::Errno;
use crate::record::{Ending, Level, ListensAt};
use crate::service::{Bind, Builtin, Dialect, Flags, LogFields, Service, SocketType, Standing};
use crate::table::{Pattern, Rule, Table};
use crate::time::{Instant, Now};
use crate::wrappers::{self, Tables};
use crate::zone::{self, TzSource, Zone};

/// The large parts, each a static of the binary: all zero at start, so that they cost no bytes in the file and no
/// memory before they are used.
pub struct Parts {
    pub engine: &'static mut Engine<Linux>,
    pub loader: &'static mut Loader,
    pub spills: &'static mut Spills,
    pub cache: &'static mut Cache,
    pub spawner: &'static mut Spawner,
    pub log: &'static mut Log,
    /// Parts of the program in memory that are never written to: address and size.
    pub unwritten: [(usize, usize); 2],
    /// Bytes of the kernel's pages.
    pub page: usize,
    #[cfg(feature = "tap")]
    pub tap: TapParts,
}

/// What `-tap` needs besides.
#[cfg(feature = "tap")]
pub struct TapParts {
    pub engine: &'static mut Engine<tap::TapStack>,
    pub buffers: &'static mut crate::backend::smoltcp::Buffers,
    pub sockets: &'static mut crate::backend::smoltcp::Sockets<'static>,
}

/// Exit statuses.
mod status {
    /// All is well: every service listens, or the files are right (-t).
    pub const WELL: i32 = 0;
    /// Nothing runs.
    pub const FAILED: i32 = 1;
    /// The command line is wrong.
    pub const USAGE: i32 = 2;
    /// The daemon runs, but not every service does; the diagnostics say which.
    pub const PARTLY: i32 = 3;
}

/// What a service manager is told when all services listen.
const READY: &[u8] = b"READY=1\nSTATUS=serving\n";

const HUP: u32 = 1;
const INT: u32 = 2;
const QUIT: u32 = 3;
const USR1: u32 = 10;
const USR2: u32 = 12;
const PIPE: u32 = 13;
const TERM: u32 = 15;
const CHLD: u32 = 17;

/// Read from the signalfd. In the background INT does nothing: there nobody presses Ctrl-C.
const HANDLED: SignalSet = SignalSet::of(&[HUP, INT, QUIT, USR1, USR2, TERM, CHLD]);
/// Blocked: those, and SIGPIPE, which a broken pipe's errno says as well.
const BLOCKED: SignalSet = SignalSet::of(&[HUP, INT, QUIT, USR1, USR2, PIPE, TERM, CHLD]);

/// After they are killed at the end, servers have this long to be gone.
const KILL_GRACE_MS: u64 = 1000;
/// Between attempts to reload while a child still reads the table that would be overwritten.
const RELOAD_AGAIN_MS: u64 = 20;

/// A newer program has this long to check the files.
const CHECK_MS: u64 = 60_000;
/// Clients who wait for the end of a command have this long before a newer program begins all the same.
const COMMANDS_MS: u64 = 15_000;
/// Between looks whether they still do.
const COMMANDS_AGAIN_MS: u64 = 50;

/// Takes the place of `main`; returns the exit status.
pub fn run<I: Iterator<Item = &'static CStr> + Clone>(args: I, environment: I, parts: Parts) -> i32 {
    let name = args.clone().next().map_or(b"".as_slice(), CStr::to_bytes);
    let mut first = Init::begin(name);
    open_descriptors(c"/dev/null");
    if let Some(status) = init::order(name) {
        return status;
    }
    let options = match (args::parse(args.clone().map(CStr::to_bytes)), &first) {
        (Ok(options), None) => options,
        (Ok(options), Some(_)) => options.of_first_process(),
        (Err(misuse), None) => return refuse(&misuse),
        (Err(misuse), Some(_)) => {
            say(format_args!("usherd: {misuse}; the arguments are left out\n"));
            Options::new(Personality::Usherd).of_first_process()
        }
    };
    let status = start(&options, args, environment, parts, &mut first);
    match first {
        Some(first) => first.leave(),
        None => status,
    }
}

/// Does what the options ask for; returns the exit status.
fn start<I: Iterator<Item = &'static CStr> + Clone>(
    options: &Options<'_>,
    args: I,
    environment: I,
    parts: Parts,
    first: &mut Option<Init>,
) -> i32 {
    match options.task {
        Task::Serve | Task::Check | Task::Match { .. } => {}
        Task::Help => return print(format_args!("{USAGE}")),
        Task::HelpAttributes => return print(format_args!("{}", config::attr::Help)),
        Task::HelpCapacities => return print(format_args!("{}", budget::Help)),
        Task::Version => return print(format_args!("usherd {}\n", env!("CARGO_PKG_VERSION"))),
    }
    let environment = Environment(environment);
    let chosen = Sources::choose(options).and_then(|files| Ok((files, Hosts::choose(options)?)));
    match (chosen, options.task) {
        (Ok((files, hosts)), Task::Check) => check(options, &files, &hosts, parts),
        (Ok((files, hosts)), Task::Match { service, client, at }) => {
            set_zone(environment.get(b"TZ"), parts.engine, parts.log);
            let now = read_clocks();
            let minute = at.or(now.unix.map(|unix| parts.engine.zone().at(unix).minute_of_day()));
            answer(options, &files, &hosts, parts, (service, client, minute))
        }
        #[cfg(not(feature = "recorder"))]
        (Ok(_), _) if options.recorder.is_some() => {
            say(format_args!(
                "usherd: -recorder: built without it; see `cargo build --profile recorder --features recorder`\n"
            ));
            status::USAGE
        }
        #[cfg(feature = "tap")]
        (Ok((files, hosts)), _) if let Some(tap) = &options.tap => {
            serve_tap(options, tap, &files, &hosts, &environment, parts)
        }
        #[cfg(not(feature = "tap"))]
        (Ok(_), _) if options.tap.is_some() => {
            say(format_args!("usherd: -tap: built without it; see `cargo build --release --features tap`\n"));
            status::USAGE
        }
        (Ok((files, hosts)), _) => serve(options, &files, &hosts, args, &environment, parts, first),
        (Err(problem), _) => Failure::Path(problem).tell(),
    }
}

/// Where hosts.allow and hosts.deny are: /etc, or what -hosts says.
struct Hosts {
    allow: heapless::Vec<u8, PATH_BYTES>,
    deny: heapless::Vec<u8, PATH_BYTES>,
}

impl Hosts {
    fn choose<'a>(options: &Options<'a>) -> Result<Hosts, PathProblem<'a>> {
        let dir = options.hosts_dir.unwrap_or(b"/etc");
        let path = |name: &[u8]| {
            let mut path = absolute(dir)?;
            let fits = path.push(b'/').is_ok() && path.extend_from_slice(name).is_ok();
            if fits { Ok(path) } else { Err(PathProblem { path: dir, why: "the path is too long" }) }
        };
        Ok(Hosts { allow: path(b"hosts.allow")?, deny: path(b"hosts.deny")? })
    }

    fn tables(&self) -> Tables<'_> {
        Tables { allow: &self.allow, deny: &self.deny, ..Tables::default() }
    }
}

/// -match.
#[inline(never)]
fn answer(
    options: &Options<'_>,
    files: &Sources,
    hosts: &Hosts,
    parts: Parts,
    (service, client, minute): (&[u8], &[u8], Option<u16>),
) -> i32 {
    let mut report = |d: &Diagnostic<'_>| {
        // What -t warns of is not asked here; what does not start lets nobody in.
        if d.severity == Severity::Error {
            print_diagnostic(d);
        }
    };
    let outcome = files.load(options, parts.loader, parts.engine.spare(), &mut report);
    if !outcome.usable {
        return Failure::Unusable.tell();
    }
    let (table, wrappers, effects) = parts.engine.examine();
    let matter = matching::Matter { service, client, minute, table, tables: hosts.tables() };
    match matching::explain(&matter, wrappers, effects, read_clocks, &mut Stdout) {
        Ok(true) => status::WELL,
        Ok(false) => status::FAILED,
        Err(_) => status::USAGE,
    }
}

/// Why the daemon does not start.
enum Failure<'a> {
    Path(PathProblem<'a>),
    Unusable,
    NoServices { personality: Personality, errors: u32 },
    Pid(PidProblem<'a>),
    Call { what: &'static str, errno: Errno },
}

impl Failure<'_> {
    /// Says it on standard error; the exit status.
    fn tell(&self) -> i32 {
        match self {
            Failure::Path(problem) => say(format_args!("usherd: {problem}\n")),
            Failure::Unusable => {
                say(format_args!("usherd: the configuration cannot be used; nothing is started\n"));
            }
            Failure::NoServices { personality, errors: 0 } => {
                say(format_args!("{}: no services. Exiting...\n", personality.name()));
            }
            Failure::NoServices { personality, errors } => {
                let s = plural(*errors as usize);
                let name = personality.name();
                say(format_args!(
                    "{name}: no service can be started ({errors} error{s}, see above). Exiting...\n"
                ));
            }
            Failure::Pid(problem) => say(format_args!("usherd: {problem}\n")),
            Failure::Call { what, errno } => say(format_args!("usherd: {what}: {errno}\n")),
        }
        status::FAILED
    }
}

/// The environment the daemon was started with.
struct Environment<I>(I);

impl<I: Iterator<Item = &'static CStr> + Clone> Environment<I> {
    fn get(&self, name: &[u8]) -> Option<&'static [u8]> {
        self.0.clone().find_map(|entry| entry.to_bytes().strip_prefix(name)?.strip_prefix(b"="))
    }

    fn number(&self, name: &[u8]) -> Option<u64> {
        number(self.get(name)?)
    }

    /// How many sockets a service manager left for us from descriptor 3 on (sd_listen_fds(3)).
    fn inherited_sockets(&self) -> i32 {
        let own = rustix::process::getpid().as_raw_pid() as u64;
        let count = self.number(b"LISTEN_FDS").filter(|_| self.number(b"LISTEN_PID") == Some(own));
        i32::try_from(count.unwrap_or(0).min(1024)).unwrap_or(0)
    }
}

/// -t.
#[inline(never)]
fn check(options: &Options<'_>, files: &Sources, hosts: &Hosts, parts: Parts) -> i32 {
    let mut outcome = files.load(options, parts.loader, parts.engine.spare(), &mut print_diagnostic);
    let (table, wrappers, _) = parts.engine.examine();
    let asker = RefCell::new(matching::Asker::new(read_clocks).ok());
    outcome.warnings += check_names(table, &asker);
    let is_wrapped = |service: &Service| service.flags.has(Flags::LIBWRAP);
    if table.services().iter().any(is_wrapped) {
        let is_daemon = |name: &[u8]| {
            let is_it = |service: &Service| table.bytes(service.daemon).eq_ignore_ascii_case(name);
            table.services().iter().any(|service| is_wrapped(service) && is_it(service))
        };
        let does_resolve =
            |name: &[u8]| asker.borrow_mut().as_mut().is_none_or(|asker| asker.does_resolve(name));
        let check = wrappers::Check { is_daemon: Some(&is_daemon), does_resolve: Some(&does_resolve) };
        let found = wrappers.check(&mut Disk::plain(), &hosts.tables(), &check, &mut |d: &Diagnostic<'_>| {
            print_diagnostic(d);
        });
        outcome.errors += found.errors;
        outcome.warnings += found.warnings;
    }
    if asker.borrow().as_ref().is_some_and(|asker| asker.is_mute) {
        say(format_args!(
            "usherd: name servers do not answer; whether names of rules have addresses is not known\n"
        ));
    }
    files.report_check(&outcome, table)
}

/// Warns of hosts in only_from and no_access that have no address: such a rule is about nobody.
fn check_names(table: &Table, asker: &RefCell<Option<matching::Asker>>) -> u32 {
    let mut count = 0;
    let mut told: heapless::Vec<Rule, 16> = heapless::Vec::new();
    for service in table.services() {
        for rule in table.rules(service.only_from).iter().chain(table.rules(service.no_access)) {
            let Pattern::Name(name) = rule.pattern else { continue };
            let name = table.bytes(name);
            let does = name.starts_with(b".")
                || asker.borrow_mut().as_mut().is_none_or(|asker| asker.does_resolve(name));
            // A rule of `defaults` is in every service.
            if does || told.contains(rule) {
                continue;
            }
            let _ = told.push(*rule);
            count += 1;
            print_diagnostic(&Diagnostic {
                severity: Severity::Warning,
                file: table.bytes(rule.origin.file),
                line: rule.origin.line,
                column: 0,
                what: format_args!("no address of `{}` is found: the rule is about nobody", Bytes(name)),
                cure: format_args!("write a name that hosts(5) or a name server knows, or an address"),
            });
        }
    }
    count
}

#[inline(never)]
fn serve<I: Iterator<Item = &'static CStr> + Clone>(
    options: &Options<'_>,
    files: &Sources,
    hosts: &Hosts,
    args: I,
    environment: &Environment<I>,
    parts: Parts,
    first: &mut Option<Init>,
) -> i32 {
    let Parts { engine, loader, spills, cache, spawner, log, unwritten, page, .. } = parts;
    let (outcome, ready) = match load_first(options, files, loader, engine.spare()) {
        Ok(loaded) => loaded,
        Err(failure) => match (failure.tell(), &first) {
            (status, None) => return status,
            // Whatever of it could be read may lack a restriction. It can be mended, and read again.
            (_, Some(_)) => {
                engine.spare().clear();
                (Outcome { errors: 1, warnings: 0, usable: false, complete: false }, 0)
            }
        },
    };

    let notify_socket = environment.get(b"NOTIFY_SOCKET").filter(|path| !path.is_empty());
    let foreground = options.foreground || notify_socket.is_some() || files.stays_in_front();
    let inherited = environment.inherited_sockets();
    let will = environment.number(succession::NAME).and_then(Will::find);
    // An older program that was ready has said so.
    let ready_fd = match options.ready_fd.filter(|_| will.is_none()) {
        Some(fd) => match sys::adopt(i32::from(fd)) {
            Some(fd) => Some(fd),
            None => return Failure::Call { what: "-ready-fd", errno: Errno::BADF }.tell(),
        },
        None => None,
    };
    if will.is_none() {
        sys::close_from(3 + inherited, ready_fd.as_ref().map(AsFd::as_fd));
    }
    let each_argument = |take: &mut dyn FnMut(&'static CStr)| args.clone().for_each(take);
    let each_variable = |take: &mut dyn FnMut(&'static CStr)| environment.0.clone().for_each(take);
    let origin = Origin::new(&each_argument, &each_variable, options.has_relative_path());
    let umask = rustix::process::umask(Mode::from_raw_mode(0o022)).as_raw_mode();
    sys::reset_signal_actions();
    let report_to = if foreground || will.is_some() {
        None
    } else {
        match detach() {
            Ok(Role::Daemon(pipe)) => Some(pipe),
            Ok(Role::First(pipe, child)) => return wait_for_daemon(&pipe, child),
            Err(errno) => return Failure::Call { what: "cannot become a daemon", errno }.tell(),
        }
    };
    let _ = rustix::process::chdir(c"/");
    if options.also_inetd_conf {
        // update-inetd(8) sends HUP to the process of /run/inetd.pid if that is its name.
        sys::set_name(c"inetd");
    }

    let levels = environment.get(b"JOURNAL_STREAM").is_some_and(is_journal);
    log.set_main(Main::Stderr { levels: foreground && levels }, b"");
    let pid = equip(options, environment, hosts, engine, spawner, log, umask as u32);
    let notify = match notify_socket {
        Some(address) => {
            let own = environment.number(b"WATCHDOG_PID").is_none_or(|number| number == u64::from(pid));
            let watchdog = environment.number(b"WATCHDOG_USEC").filter(|us| own && *us > 0);
            Notify::new(address, watchdog).unwrap_or(Notify::NONE)
        }
        None => Notify::NONE,
    };
    if let Some(first) = first {
        first.prepare(loader, log);
    }
    let started = Linux::new(spills, cache, spawner, log, inherited)
        .and_then(|linux| Ok((receive_signals(&linux, first.as_ref())?, linux)))
        .map_err(|errno| Failure::Call { what: "cannot start", errno });
    let (signals, mut linux) = match started {
        Ok(started) => started,
        Err(failure) => return failure.tell(),
    };
    let mut predecessors = heapless::Vec::new();
    if let Some(will) = &will {
        will.open(&mut linux, |pid| {
            let _ = predecessors.push(pid);
        });
    }
    let pid_file = match options.pid_file {
        Some(path) => path,
        None if foreground => None,
        None => Some(options.personality.pid_file()),
    };
    let locked = will.as_ref().and_then(Will::pid_file);
    let pid_file = match pid_file.map(|path| PidFile::take(path, pid, locked)).transpose() {
        Ok(pid_file) => pid_file,
        Err(problem) => return Failure::Pid(problem).tell(),
    };

    if let Some(first) = first
        && let Err(errno) = first.join(&linux.epoll, read_clocks(), linux.log)
    {
        linux.log.message(Level::Error, format_args!("the network cannot be set up: {errno}"));
    }
    let mut daemon = Daemon {
        first: first.as_mut(),
        engine,
        linux,
        loader,
        options,
        files,
        signals,
        notify,
        pid_file,
        ending: None,
        stderr_due: None,
        unwritten,
        page,
        is_fat: true,
        foreground,
        origin,
        succession: None,
        predecessors,
    };
    let unheard = daemon.open_services();
    let status = if outcome.errors == 0 && unheard == 0 { status::WELL } else { status::PARTLY };
    log_to_its_place(options, foreground, levels, daemon.linux.log);
    if let Some(will) = will {
        daemon.inherit(&will);
    }
    if status != status::WELL && !foreground {
        // The diagnostics went to whoever started us; the log at least says that there were any.
        daemon.linux.log.message(
            Level::Error,
            format_args!(
                "{} errors in the configuration, {unheard} services do not listen yet",
                outcome.errors
            ),
        );
    }
    let available = ready - unheard.min(ready);
    daemon.linux.log.message(
        Level::Notice,
        format_args!("Started working: {available} available service{}", plural(available)),
    );
    daemon.notify.say(READY);
    if let Some(fd) = ready_fd {
        // s6's and others' protocol: a line, and nothing more.
        let _ = rustix::io::write(&fd, b"\n");
    }
    if let Some(pipe) = report_to {
        let null = daemon.linux.null.as_fd();
        for fd in 0..3 {
            let _ = sys::duplicate_to(null, fd);
        }
        let _ = rustix::io::write(&pipe, &[status as u8]);
        drop(pipe);
    }
    daemon.serve()
}

/// Fills the first table, telling whoever has started us what is wrong; how many services there are to start.
fn load_first<'o>(
    options: &Options<'o>,
    files: &Sources,
    loader: &mut Loader,
    table: &mut Table,
) -> Result<(Outcome, usize), Failure<'o>> {
    // Before anything of the daemon's is readable to others; see `spawn` for why it must be.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let outcome = files.load(options, loader, table, &mut print_diagnostic);
    if !outcome.usable {
        return Err(Failure::Unusable);
    }
    let ready = ready_services(table);
    // The one service of a command line will not be mended by a reload.
    if ready == 0 && (!options.stay_alive || options.standalone.is_some()) {
        return Err(Failure::NoServices { personality: options.personality, errors: outcome.errors });
    }
    Ok((outcome, ready))
}

/// Fills the spare table again, telling the log what is wrong and what becomes of it; whether the table is to serve.
fn load_again<B: Backend>(
    options: &Options<'_>,
    files: &Sources,
    loader: &mut Loader,
    engine: &mut Engine<B>,
    log: &mut Log,
) -> bool {
    log.message(Level::Notice, format_args!("Starting reconfiguration"));
    log.reopen();
    let outcome = files.load(options, loader, engine.spare(), &mut |d| {
        let level = match d.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        };
        log.message(level, format_args!("{d}"));
    });
    if !outcome.usable || !outcome.complete {
        log.message(
            Level::Error,
            format_args!(
                "reconfiguration failed: {} error{}; nothing was changed",
                outcome.errors,
                plural(outcome.errors as usize)
            ),
        );
        return false;
    }
    for index in 0..engine.spare().services().len() {
        let spare = engine.spare();
        let Some(service) = spare.services().get(index).filter(|s| s.standing == Standing::Broken) else {
            continue;
        };
        // Both tables belong to the engine, so what is compared with the other has to be taken out of this one.
        let mut id = heapless::Vec::<u8, ID_HEAD>::new();
        let _ = id.extend_from_slice(id_head(spare.bytes(service.id)));
        let table = engine.table();
        let goes_on = table
            .services()
            .iter()
            .any(|s| s.standing == Standing::Ready && id_head(table.bytes(s.id)) == id.as_slice());
        let fate = if goes_on { "goes on with its settings of before" } else { "is not started" };
        log.message(Level::Warning, format_args!("service {}: {fate}", Bytes(&id)));
    }
    true
}

/// Tells the log what a reload has changed, of so many services.
fn tell_changes(changes: &Changes, old: usize, log: &mut Log) {
    let Changes { kept, added, removed, preserved, lost } = changes;
    log.message(
        Level::Notice,
        format_args!(
            "Reconfigured: new={added} old={old} dropped={removed} kept={kept} preserved={preserved} lost={lost} (services)"
        ),
    );
}

/// From standard error, where start-up problems belong, to where messages are to go from now on.
fn log_to_its_place(options: &Options<'_>, foreground: bool, levels: bool, log: &mut Log) {
    let (main, path): (Main, &[u8]) = match options.log_to {
        Some(LogTo::Syslog { facility }) => (Main::Syslog { facility }, b""),
        Some(LogTo::File(path)) => (Main::File, path),
        Some(LogTo::Stderr) => (Main::Stderr { levels }, b""),
        None if foreground => (Main::Stderr { levels }, b""),
        None => (Main::Syslog { facility: FACILITY_DAEMON }, b""),
    };
    log.set_main(main, path);
}

/// What the engine, the log and servers know of this process.
fn equip<B: Backend, I: Iterator<Item = &'static CStr> + Clone>(
    options: &Options<'_>,
    environment: &Environment<I>,
    hosts: &Hosts,
    engine: &mut Engine<B>,
    spawner: &mut Spawner,
    log: &mut Log,
    umask: u32,
) -> u32 {
    let pid = rustix::process::getpid().as_raw_pid() as u32;
    log.set_tag(options.personality.name(), pid);
    if let Some(path) = options.recorder {
        log.set_recorder(path);
    }
    spawner.set_heritage(Heritage {
        umask,
        nice: rustix::process::getpriority_process(None).unwrap_or(0),
        files: raise_descriptor_limit(),
        uid: rustix::process::getuid().as_raw(),
    });
    if makes_dumpable() {
        spawner.share_nothing();
    }
    let left_out = spawner.set_environment(environment.0.clone(), !options.keep_environment);
    if left_out > 0 {
        log.message(
            Level::Warning,
            format_args!("{left_out} environment variables had no place and are not handed on"),
        );
    }
    set_zone(environment.get(b"TZ"), engine, log);
    engine.set_limit(options.limit);
    engine.set_hosts(&hosts.allow, &hosts.deny, pid, rustix::process::getuid().is_root());
    pid
}

/// -tap: the loop of [`Daemon::serve`], for what there is of it there.
#[cfg(feature = "tap")]
#[inline(never)]
fn serve_tap<I: Iterator<Item = &'static CStr> + Clone>(
    options: &Options<'_>,
    tap: &args::Tap<'_>,
    files: &Sources,
    hosts: &Hosts,
    environment: &Environment<I>,
    parts: Parts,
) -> i32 {
    use crate::backend::smoltcp::{Addresses, Ipv4, Smoltcp};
    let Parts { loader, cache, spawner, log, unwritten, page, tap: statics, .. } = parts;
    let TapParts { engine, buffers, sockets } = statics;
    if let Err(failure) = load_first(options, files, loader, engine.spare()) {
        return failure.tell();
    }
    sys::close_from(3, None);
    let umask = rustix::process::umask(Mode::from_raw_mode(0o022)).as_raw_mode();
    sys::reset_signal_actions();
    let _ = rustix::process::chdir(c"/");
    let levels = environment.get(b"JOURNAL_STREAM").is_some_and(is_journal);
    log.set_main(Main::Stderr { levels }, b"");
    equip(options, environment, hosts, engine, spawner, log, umask as u32);
    let started = tap::LinuxHost::new(cache, spawner, log).and_then(|host| {
        sys::set_signal_mask(BLOCKED);
        let signals = sys::signal_fd(HANDLED)?;
        host.watch_signals(signals.as_fd())?;
        Ok((host, signals))
    });
    let (host, signals) = match started {
        Ok(started) => started,
        Err(errno) => return Failure::Call { what: "cannot start", errno }.tell(),
    };
    let device = match tap::Tap::open(tap.name) {
        Ok(device) => device,
        Err(errno) => return Failure::Call { what: "cannot open the TAP device", errno }.tell(),
    };
    if let Err(errno) = host.watch(device.as_fd()) {
        return Failure::Call { what: "cannot watch the TAP device", errno }.tell();
    }
    let addresses = Addresses {
        ethernet: tap::ethernet(tap.name),
        ipv4: match tap.ipv4 {
            Some((address, bits)) => Ipv4::Static { address, bits, router: tap.router4 },
            None => Ipv4::Dhcp,
        },
        ipv6: tap.ipv6,
        router6: tap.router6,
        // The kernel knows the time.
        time_server: None,
    };
    let now = read_clocks();
    let mut stack = Smoltcp::new(device, addresses, buffers, sockets, host, now.mono);
    log_to_its_place(options, true, levels, stack.host.log);
    stack.host.set_now(now);
    engine.adopt(now, &mut stack);
    let mut reload = false;
    let mut is_fat = true;
    let mut ending: Option<(End, Instant)> = None;
    let mut told = heapless::Vec::<core::net::IpAddr, 4>::new();
    loop {
        let now = read_clocks();
        stack.host.set_now(now);
        let mut due = Smoltcp::turn(engine, &mut stack, now);
        stack.host.log.flush();
        if !stack.addresses().eq(told.iter().copied()) {
            told = stack.addresses().take(told.capacity()).collect();
            let mut line = heapless::String::<256>::new();
            tap::describe(&stack, tap.name, &mut line);
            stack.host.log.message(Level::Notice, format_args!("{line}"));
        }
        if let Some((how, at)) = ending {
            if engine.running() == 0 {
                return status::WELL;
            }
            if at <= now.mono {
                match how {
                    End::Ask => {
                        engine.end_servers(End::Kill, &mut stack);
                        ending = Some((End::Kill, now.mono.plus_ms(KILL_GRACE_MS)));
                    }
                    End::Kill => return status::WELL,
                }
            }
            due = due.into_iter().chain(ending.map(|(_, at)| at)).min();
        }
        if reload && ending.is_none() {
            if stack.host.spawner.is_spare_read() {
                due = Some(now.mono.plus_ms(RELOAD_AGAIN_MS));
            } else {
                reload = false;
                if load_again(options, files, loader, engine, stack.host.log) {
                    let old = ready_services(engine.table());
                    let changes = engine.adopt(now, &mut stack);
                    stack.host.spawner.reloaded();
                    tell_changes(&changes, old, stack.host.log);
                }
                is_fat = true;
                continue;
            }
        }
        // Rounded up by a millisecond: waking too early would mean going round once more.
        let ms = due.map(|at| match at.since_ms(now.mono) {
            0 => 0,
            ms => ms + 1,
        });
        if is_fat {
            is_fat = false;
            slim(loader, unwritten, page);
        }
        match stack.host.wait(ms) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(errno) => return Failure::Call { what: "epoll_wait", errno }.tell(),
        }
        while let Some(signal) = sys::next_signal(signals.as_fd()) {
            let now = read_clocks();
            match signal {
                CHLD => {
                    while let Some((pid, ending)) = next_ended() {
                        let failed = stack.host.spawner.reaped(pid);
                        engine.handle(Event::Ended { pid, ending, failed }, now, &mut stack);
                    }
                }
                HUP | USR2 => reload = true,
                TERM | INT => {
                    stack.host.log.message(Level::Notice, format_args!("Exiting..."));
                    engine.stop_listening(now, &mut stack);
                    engine.end_sessions(now, &mut stack);
                    engine.end_servers(End::Ask, &mut stack);
                    ending.get_or_insert((End::Ask, now.mono.plus_ms(GRACE_MS)));
                }
                QUIT => {
                    stack.host.log.flush();
                    return status::WELL;
                }
                _ => {}
            }
        }
    }
}

/// A child that has ended.
pub(super) fn next_ended() -> Option<(u32, Ending)> {
    while let Ok(Some((pid, how))) = wait(WaitOptions::NOHANG) {
        let ending = match (how.exit_status(), how.terminating_signal()) {
            (Some(status), _) => Ending::Exited(status as u8),
            (None, Some(signal)) => Ending::Signalled(signal as u8),
            // Stopped or continued, which was not asked for.
            (None, None) => continue,
        };
        return Some((pid.as_raw_pid() as u32, ending));
    }
    None
}

/// Bytes by which the log tells services apart at a reload.
const ID_HEAD: usize = 64;

fn id_head(id: &[u8]) -> &[u8] {
    id.get(..id.len().min(ID_HEAD)).unwrap_or(id)
}

fn ready_services(table: &Table) -> usize {
    table.services().iter().filter(|service| service.standing == Standing::Ready).count()
}

/// From here on signals wait to be read.
fn receive_signals(linux: &Linux, first: Option<&Init>) -> Result<OwnedFd, Errno> {
    let more = first.map_or(SignalSet(0), Init::signals);
    sys::set_signal_mask(SignalSet(BLOCKED.0 | more.0));
    let signals = sys::signal_fd(SignalSet(HANDLED.0 | more.0))?;
    epoll::add(&linux.epoll, &signals, Source::Signals.data(), EventFlags::IN)?;
    Ok(signals)
}

/// What is read, and read again on HUP.
#[allow(clippy::large_enum_variant, reason = "there is one, on the stack, for as long as the daemon runs")]
enum Sources {
    /// An absolute path: after the start the working directory is `/`.
    File(heapless::Vec<u8, PATH_BYTES>),
    /// The table that is part of the program.
    Builtin,
    /// One service from the command line.
    Words,
}

/// Where the configuration is looked for when nobody says.
const PLACES: [&[u8]; 3] = [b"/etc/usherd.conf", b"/etc/xinetd.conf", INETD_CONF];
const INETD_CONF: &[u8] = b"/etc/inetd.conf";

/// A path that cannot be used, and why.
struct PathProblem<'a> {
    path: &'a [u8],
    why: &'static str,
}

impl fmt::Display for PathProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Bytes(self.path), self.why)
    }
}

/// The path from the root on: after the start the working directory is `/`.
fn absolute(path: &[u8]) -> Result<heapless::Vec<u8, PATH_BYTES>, PathProblem<'_>> {
    let mut whole = heapless::Vec::new();
    let too_long = PathProblem { path, why: "the path is too long" };
    if !path.starts_with(b"/") {
        let mut here = [MaybeUninit::uninit(); PATH_BYTES];
        let here = current_directory(&mut here).unwrap_or(b"");
        if whole.extend_from_slice(here).is_err() || whole.push(b'/').is_err() {
            return Err(too_long);
        }
    }
    whole.extend_from_slice(path).map_err(|_| too_long)?;
    Ok(whole)
}

impl Sources {
    fn choose<'a>(options: &Options<'a>) -> Result<Sources, PathProblem<'a>> {
        if options.standalone.is_some() {
            return Ok(Sources::Words);
        }
        let path: &[u8] = match (options.file, options.personality) {
            (Some(path), _) => path,
            (None, Personality::Xinetd) => b"/etc/xinetd.conf",
            (None, Personality::Inetd) => b"/etc/inetd.conf",
            (None, Personality::Usherd) => {
                match PLACES.into_iter().find(|path| Disk::plain().kind(path).is_ok()) {
                    Some(path) => path,
                    None => return Ok(Sources::Builtin),
                }
            }
        };
        Ok(Sources::File(absolute(path)?))
    }

    /// Without a file somebody types: it must not vanish into the background.
    fn stays_in_front(&self) -> bool {
        !matches!(self, Sources::File(_))
    }

    fn load(
        &self,
        options: &Options<'_>,
        loader: &mut Loader,
        table: &mut Table,
        report: &mut dyn FnMut(&Diagnostic<'_>),
    ) -> Outcome {
        let mut settings = config::Options {
            dialect: options.dialect,
            // Where no package has services of an inetd, none has made the file.
            also: Some(INETD_CONF).filter(|path| {
                options.also_inetd_conf && Disk::plain().kind(path).err() != Some(Errno::NOENT)
            }),
            bind: options.bind,
            // -R 0 is FreeBSD's and busybox' word for no limit, which is what we have unless told otherwise: a limit
            // that shuts everybody out because of one is the family's leading complaint.
            per_minute: options.per_minute.filter(|n| *n > 0),
            per_minute_source: options.per_minute_source.filter(|n| *n > 0),
            instances: options.instances.filter(|n| *n > 0),
            per_source: options.per_source.filter(|n| *n > 0),
            wrap_external: options.wrap_external,
            wrap_internal: options.wrap_internal,
            wrap_streams: options.log_connections,
            ..config::Options::default()
        };
        let mut report = |d: &Diagnostic<'_>| report(d);
        let outcome = match (self, &options.standalone) {
            (Sources::File(path), _) => {
                // -inetd_compat on inetd.conf itself would read it twice.
                if path.as_slice() == INETD_CONF {
                    settings.also = None;
                }
                loader.load(&mut Disk::plain(), &mut report, table, path, &settings)
            }
            (Sources::Words, Some(standalone)) => {
                load_standalone(loader, table, standalone, &mut report, &settings)
            }
            (Sources::Builtin | Sources::Words, _) => {
                let text = (b"built-in table".as_slice(), config::BUILTIN);
                loader.load_text(&mut Disk::plain(), &mut report, table, text, &settings)
            }
        };
        // Behind a TAP device there is no loopback, and somebody else may be there.
        if matches!(self, Sources::Builtin) && options.tap.is_some() {
            let is_harmless = |service: &Service| {
                (service.socket, service.builtin()) != (SocketType::Dgram, Some(Builtin::Chargen))
            };
            table.retain_services(is_harmless);
            table.services_mut().iter_mut().for_each(|service| service.bind = Bind::Everywhere);
        }
        for service in table.services_mut() {
            if service.backlog == 0 {
                service.backlog = options.backlog.unwrap_or(0);
            }
            if options.log_connections && service.dialect == Dialect::Inetd {
                service.log_on_success = LogFields(LogFields::PID.0 | LogFields::HOST.0);
                service.log_on_failure = LogFields::HOST;
            }
        }
        outcome
    }

    /// What -t says after the diagnostics.
    fn report_check(&self, outcome: &Outcome, table: &Table) -> i32 {
        let ready = if outcome.usable { ready_services(table) } else { 0 };
        let name: &[u8] = match self {
            Sources::File(path) => path,
            Sources::Builtin => b"built-in table",
            Sources::Words => b"command line",
        };
        let (errors, warnings) = (outcome.errors, outcome.warnings);
        say(format_args!(
            "{}: {ready} service{} would start, {errors} error{}, {warnings} warning{}\n",
            Bytes(name),
            plural(ready),
            plural(errors as usize),
            plural(warnings as usize),
        ));
        if errors == 0 && outcome.usable { status::WELL } else { status::FAILED }
    }
}

/// Makes one service from the command line, through the same attributes as one in a file.
fn load_standalone(
    loader: &mut Loader,
    table: &mut Table,
    standalone: &Standalone<'_>,
    report: &mut dyn FnMut(&Diagnostic<'_>),
    settings: &config::Options<'_>,
) -> Outcome {
    // `[v6]:port`, `address:port`, `port`: the last colon outside brackets divides.
    let place = standalone.place;
    let colon = place.iter().rposition(|b| matches!(b, b':' | b']'));
    let (bind, port) = match colon.filter(|at| place.get(*at) == Some(&b':')) {
        Some(at) => (place.get(..at).unwrap_or(&[]), place.get(at + 1..).unwrap_or(&[])),
        None => (&[][..], place),
    };
    let bind = bind.strip_prefix(b"[").and_then(|b| b.strip_suffix(b"]")).unwrap_or(bind);
    let mut path = heapless::Vec::new();
    if let Some(program) = standalone.program.first() {
        find_program(program, &mut path);
    }
    let mut words: [heapless::Vec<u8, { PATH_BYTES + 16 }>; 8] = [const { heapless::Vec::new() }; 8];
    let mut count = 0;
    let mut word = |name: &[u8], value: &[u8]| {
        // What -set says is meant instead of ours.
        let is_set = standalone.settings.iter().any(|setting| setting.starts_with(name));
        if let Some(word) = words.get_mut(count).filter(|_| !is_set) {
            // A value that does not fit is cut here and refused by the attribute: no port or address is so long.
            let _ = word.extend_from_slice(name);
            let _ = word.extend_from_slice(value.get(..value.len().min(PATH_BYTES)).unwrap_or(&[]));
            count += 1;
        }
    };
    // First, because this word begins a service: what came before it would be one of its own, without a name.
    if let Some(builtin) = standalone.builtin {
        word(b"service=", builtin);
        word(b"type=", b"INTERNAL UNLISTED");
    } else {
        // Like tcpserver's: what a program complains about is for the person at the terminal.
        word(b"stderr=", b"log");
    }
    // Whoever types a command wants to see what comes of it, refusals above all.
    word(b"log_on_success=", b"PID HOST EXIT DURATION");
    word(b"log_on_failure=", b"HOST");
    word(b"socket_type=", if standalone.is_udp { b"dgram" } else { b"stream" });
    word(b"wait=", if standalone.is_udp { b"yes" } else { b"no" });
    word(b"port=", port);
    if !bind.is_empty() && bind != b"*" {
        word(b"bind=", bind);
    }
    // The program and its arguments are taken as the shell gave them, blanks and quotes included.
    let program: &[&[u8]] = if standalone.program.is_empty() { &[] } else { &[b"--", &path] };
    let all = words
        .iter()
        .take(count)
        .map(|word| word.as_slice())
        .chain(standalone.settings.iter().copied())
        .chain(program.iter().copied())
        .chain(standalone.program.iter().skip(1).copied());
    loader.load_words(&mut Disk::plain(), &mut |d: &Diagnostic<'_>| report(d), table, all, settings)
}

/// The path of a program, looked for in PATH's usual places if it is a plain name.
fn find_program(name: &[u8], path: &mut heapless::Vec<u8, PATH_BYTES>) {
    const DIRECTORIES: [&[u8]; 6] =
        [b"/usr/local/sbin/", b"/usr/local/bin/", b"/usr/sbin/", b"/usr/bin/", b"/sbin/", b"/bin/"];
    if !name.contains(&b'/') {
        for directory in DIRECTORIES {
            path.clear();
            let fits = path.extend_from_slice(directory).and_then(|()| path.extend_from_slice(name));
            if fits.is_ok() && Disk::plain().executable(path).is_ok() {
                return;
            }
        }
        // Nowhere: the diagnostic names the last place.
        return;
    }
    path.clear();
    let name = name.strip_prefix(b"./").unwrap_or(name);
    if !name.starts_with(b"/") {
        let mut here = [MaybeUninit::uninit(); PATH_BYTES];
        if let Some(here) = current_directory(&mut here) {
            let _ =
                path.extend_from_slice(here).and_then(|()| path.push(b'/').map_err(|_| Default::default()));
        }
    }
    let _ = path.extend_from_slice(name);
}

const fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

struct Daemon<'a, 'o> {
    /// We are the machine's first process.
    first: Option<&'a mut Init>,
    engine: &'static mut Engine<Linux>,
    linux: Linux,
    loader: &'static mut Loader,
    options: &'a Options<'o>,
    files: &'a Sources,
    signals: OwnedFd,
    notify: Notify,
    pid_file: Option<PidFile<'o>>,
    /// After TERM: when the next, harder, step is due.
    ending: Option<(End, Instant)>,
    /// When lines of servers' standard error that were not logged are to be told.
    stderr_due: Option<Instant>,
    unwritten: [(usize, usize); 2],
    page: usize,
    /// Memory of a start or reload has not been given back yet.
    is_fat: bool,
    foreground: bool,
    origin: Origin<'a>,
    succession: Option<Succession>,
    /// Processes that still have clients of older programs.
    predecessors: heapless::Vec<u32, PREDECESSORS>,
}

/// How far a newer program is from taking our place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Succession {
    /// This child checks the files; it is killed then.
    Checks { pid: u32, until: Instant },
    /// The files are read once more here, so that every socket is as they say; or, if they are wrong for the other, so that
    /// the log tells how.
    Reloads { is_right: bool },
    /// It begins as soon as no client waits for a command, at the latest then.
    Begins { until: Instant },
}

/// Gives back the memory that only starting or reloading needed. Most of the program's pages and of its stack serve for that
/// alone, and would lie there until the next reload. Inlined into the loop: of the program, what runs from here to the
/// next wait comes back, in pieces of 64 KB around each place that is touched.
#[inline(always)]
fn slim(loader: &mut Loader, unwritten: [(usize, usize); 2], page: usize) {
    sys::give_back_loader(loader, page);
    for part in unwritten {
        sys::give_back_file(part, page);
    }
    sys::give_back_stack(page);
}

/// What the loop does next.
enum Next {
    Go,
    Exit(i32),
}

impl Daemon<'_, '_> {
    /// Makes the loaded table the one that serves; how many services do not listen yet.
    fn open_services(&mut self) -> usize {
        let now = read_clocks();
        self.linux.set_now(now);
        self.engine.adopt(now, &mut self.linux);
        let unused = self.linux.inherited.drop_rest();
        if unused > 0 {
            self.linux.log.message(
                Level::Warning,
                format_args!("{unused} sockets of LISTEN_FDS belong to no service and are closed"),
            );
        }
        if self.files.stays_in_front() || self.options.debug {
            self.invite();
        }
        self.engine.unheard()
    }

    /// Shows where services listen, and what to type to try one: to somebody who has no file to look into.
    fn invite(&self) {
        let table = self.engine.table();
        let listens = |index: usize| self.engine.listener(index as u16).is_some();
        let services = || table.services().iter().enumerate().filter(|(at, _)| listens(*at)).map(|(_, s)| s);
        let mut line = heapless::String::<256>::new();
        for service in services() {
            line.clear();
            let id = Bytes(table.bytes(service.id));
            let _ = write!(line, "usherd: {id} on {}", ListensAt { table, service });
            say(format_args!("{line}\n"));
        }
        let stream = services().find(|s| s.socket == SocketType::Stream && s.port > 0);
        if let Some(service) = stream {
            let host = match service.bind {
                Bind::Address(address) => address,
                _ => core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST),
            };
            say(format_args!("usherd: try: nc {host} {}    (Ctrl-C here ends the daemon)\n", service.port));
        }
    }

    #[inline(never)]
    fn serve(&mut self) -> i32 {
        // Zero is not a valid event; the kernel overwrites what it reports.
        let none = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [none; 64];
        let mut next_sign_of_life = self.notify.watchdog_ms.map(|ms| read_clocks().mono.plus_ms(ms));
        let mut reload_at: Option<Instant> = None;
        let mut succession_at: Option<Instant> = None;
        loop {
            let deadline = [
                self.engine.next_deadline(),
                next_sign_of_life,
                succession_at,
                reload_at,
                self.ending.map(|(_, at)| at),
                self.stderr_due,
                self.first.as_ref().and_then(|first| first.next_deadline()),
            ]
            .into_iter()
            .flatten()
            .min();
            let timeout = deadline.map(|at| {
                let ms = at.since_ms(read_clocks().mono);
                // Rounded up by a millisecond: waking too early would mean going round once more.
                let ms = if ms == 0 { 0 } else { ms + 1 };
                Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: ((ms % 1000) * 1_000_000) as _ }
            });
            if self.is_fat && self.first.as_mut().is_none_or(|first| first.is_up()) {
                self.is_fat = false;
                slim(self.loader, self.unwritten, self.page);
            }
            self.linux.log.flush();
            let count = match epoll::wait(&self.linux.epoll, &mut events, timeout.as_ref()) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => {
                    // Nothing is left that could be done without it.
                    self.linux.log.message(Level::Error, format_args!("epoll_wait: {}", Errno::from(errno)));
                    return status::FAILED;
                }
            };
            let now = read_clocks();
            self.linux.set_now(now);
            for event in events.get(..count).unwrap_or(&[]) {
                let event = *event;
                match Source::from_data(event.data) {
                    Some(Source::Listener(id)) => {
                        self.engine.handle(Event::Ready(id), now, &mut self.linux);
                    }
                    Some(Source::Stream(id)) => {
                        self.engine.handle(Event::Stream(id), now, &mut self.linux);
                    }
                    Some(Source::Question(id)) => {
                        self.engine.handle(Event::Answer(id), now, &mut self.linux);
                    }
                    Some(Source::Stderr(id)) => self.read_stderr(id.index, now),
                    Some(Source::Retired(place)) => self.linux.read_retired(place),
                    Some(Source::Signals) => {
                        while let Some(signal) = sys::next_signal(self.signals.as_fd()) {
                            let signal = self.first.as_mut().map_or(signal, |first| first.meaning(signal));
                            match self.signal(signal, now) {
                                Next::Go => {}
                                Next::Exit(status) => return self.leave(status, now),
                            }
                            match signal {
                                HUP if !self.linux.is_predecessor => reload_at = Some(now.mono),
                                USR2 => self.begin_succession(now),
                                _ => {}
                            }
                        }
                    }
                    Some(Source::Boot(part)) => {
                        if let Some(first) = &mut self.first {
                            first.ready(part, now, self.linux.log);
                        }
                    }
                    None => {}
                }
            }
            if let Some(first) = &mut self.first {
                first.turn(now, self.linux.log);
            }
            if self.engine.next_deadline().is_some_and(|at| at <= now.mono) {
                self.engine.handle(Event::Tick, now, &mut self.linux);
            }
            if self.ending.is_some() {
                // Who is about to end does not open again what it has closed.
                reload_at = None;
                self.succession = None;
            }
            succession_at = match self.succession {
                Some(Succession::Checks { pid, until }) if until <= now.mono => {
                    sys::end(pid, End::Kill);
                    None
                }
                Some(Succession::Checks { until, .. }) => Some(until),
                Some(Succession::Reloads { .. }) => {
                    reload_at = reload_at.or(Some(now.mono));
                    None
                }
                Some(Succession::Begins { until }) if until > now.mono && self.engine.awaits_command() => {
                    Some(now.mono.plus_ms(COMMANDS_AGAIN_MS))
                }
                Some(Succession::Begins { .. }) => {
                    self.succeed(now);
                    if self.linux.is_predecessor {
                        // The manager hears from the heir, which has read the files.
                        next_sign_of_life = None;
                        reload_at = None;
                    }
                    None
                }
                None => None,
            };
            if self.stderr_due.is_some_and(|at| at <= now.mono) {
                self.tell_stderr(now);
            }
            if reload_at.is_some_and(|at| at <= now.mono) {
                // A child between birth and program may still read the table that would be filled anew.
                reload_at = if self.linux.spawner.is_spare_read() {
                    Some(now.mono.plus_ms(RELOAD_AGAIN_MS))
                } else {
                    let is_whole = self.reload(now);
                    if let Some(Succession::Reloads { is_right }) = self.succession {
                        self.succession = self.reloaded_for_heir(is_right && is_whole, now);
                        succession_at = self.succession.map(|_| now.mono);
                    }
                    None
                };
            }
            if let (Some(at), Some(ms)) = (next_sign_of_life, self.notify.watchdog_ms)
                && at <= now.mono
            {
                self.notify.say(b"WATCHDOG=1\n");
                next_sign_of_life = Some(now.mono.plus_ms(ms));
            }
            if self.linux.is_predecessor && self.engine.running() == 0 && !self.linux.hears_retired() {
                return self.leave(status::WELL, now);
            }
            if let Some((step, at)) = self.ending {
                if self.is_alone() {
                    return self.leave(status::WELL, now);
                }
                if at <= now.mono {
                    match step {
                        End::Ask => {
                            self.engine.end_servers(End::Kill, &mut self.linux);
                            if let Some(first) = &self.first {
                                first.kill_all();
                            }
                            self.ending = Some((End::Kill, now.mono.plus_ms(KILL_GRACE_MS)));
                        }
                        End::Kill => {
                            self.tell_predecessors(Signal::KILL);
                            return self.leave(status::WELL, now);
                        }
                    }
                }
            }
        }
    }

    #[inline(never)]
    fn signal(&mut self, signal: u32, now: Now) -> Next {
        match signal {
            CHLD => self.reap(now),
            INT if !self.foreground => {}
            TERM | INT => {
                self.linux.log.message(Level::Notice, format_args!("Exiting..."));
                self.notify.say(b"STOPPING=1\n");
                self.engine.stop_listening(now, &mut self.linux);
                self.engine.end_sessions(now, &mut self.linux);
                self.engine.end_servers(End::Ask, &mut self.linux);
                self.tell_predecessors(Signal::TERM);
                if self.is_alone() {
                    return Next::Exit(status::WELL);
                }
                self.ending.get_or_insert((End::Ask, now.mono.plus_ms(GRACE_MS)));
            }
            QUIT => {
                self.linux.log.message(Level::Notice, format_args!("Exiting..."));
                self.notify.say(b"STOPPING=1\n");
                self.tell_predecessors(Signal::QUIT);
                return Next::Exit(status::WELL);
            }
            USR1 if !self.linux.is_predecessor => self.dump(now),
            _ => {}
        }
        Next::Go
    }

    /// Takes in every child that has ended; as process 1 also those that are nobody's any more.
    #[inline(never)]
    fn reap(&mut self, now: Now) {
        while let Some((pid, ending)) = next_ended() {
            if matches!(self.succession, Some(Succession::Checks { pid: checks, .. }) if checks == pid) {
                self.checked(ending);
                continue;
            }
            self.predecessors.retain(|predecessor| *predecessor != pid);
            if let Some(first) = &mut self.first
                && first.reaped(pid, now, self.linux.log)
            {
                continue;
            }
            let failed = self.linux.spawner.reaped(pid);
            self.engine.handle(Event::Ended { pid, ending, failed }, now, &mut self.linux);
        }
    }

    /// Whether nobody is left whose end is to be waited for.
    fn is_alone(&self) -> bool {
        self.engine.running() == 0
            && self.predecessors.is_empty()
            && self.first.as_ref().is_none_or(|first| first.is_alone())
    }

    fn tell_predecessors(&self, signal: Signal) {
        for pid in self.predecessors.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// USR2: what is in the program's place now is to take ours, if the files are right for it.
    #[inline(never)]
    fn begin_succession(&mut self, now: Now) {
        if self.linux.is_predecessor || self.succession.is_some() || self.ending.is_some() {
            return;
        }
        let program = Bytes(self.origin.program());
        match self.origin.check(self.linux.null.as_fd()) {
            Ok(pid) => {
                let text = format_args!("Checking whether {program} can go on from here");
                self.linux.log.message(Level::Notice, text);
                self.succession = Some(Succession::Checks { pid, until: now.mono.plus_ms(CHECK_MS) });
            }
            Err(errno) => {
                self.linux.log.message(Level::Error, format_args!("cannot check {program}: {errno}"));
                self.succession = Some(Succession::Reloads { is_right: false });
            }
        }
    }

    /// The newer program has checked the files. If they are wrong for it, a reload tells how.
    #[inline(never)]
    fn checked(&mut self, ending: Ending) {
        let is_right = ending == Ending::Exited(0);
        self.succession = Some(Succession::Reloads { is_right });
        if !is_right {
            let program = Bytes(self.origin.program());
            let (how, number) = match ending {
                Ending::Exited(status) => ("status", status),
                Ending::Signalled(signal) => ("signal", signal),
            };
            self.linux.log.message(Level::Error, format_args!("{program} -t ended with {how} {number}"));
        }
    }

    /// What comes after the reload: the newer program, or nothing, if with it services were lost that go on with us.
    #[inline(never)]
    fn reloaded_for_heir(&mut self, is_whole: bool, now: Now) -> Option<Succession> {
        if is_whole && !self.predecessors.is_full() {
            return Some(Succession::Begins { until: now.mono.plus_ms(COMMANDS_MS) });
        }
        let why = if is_whole { "too many older ones still have clients" } else { "see above" };
        let text = format_args!("going on with the program that runs: {why}");
        self.linux.log.message(Level::Error, text);
        None
    }

    /// Becomes the newer program. Returns if that fails, and in the process that keeps the clients it cannot have.
    #[inline(never)]
    fn succeed(&mut self, now: Now) {
        self.succession = None;
        self.say_reloading();
        // Or two processes would write the same lines.
        self.linux.log.flush();
        if let Err(errno) = self.try_to_succeed(now) {
            let program = Bytes(self.origin.program());
            self.linux.log.message(Level::Error, format_args!("cannot become {program}: {errno}"));
        }
        self.notify.say(READY);
    }

    #[inline(never)]
    #[allow(unsafe_code)]
    fn try_to_succeed(&mut self, now: Now) -> Result<(), Errno> {
        let is_needed = self.engine.sessions().next().is_some()
            || self.engine.waiting().next().is_some()
            || self.linux.hears_retired();
        let mut waits = None;
        if is_needed {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            // SAFETY: the daemon has one thread.
            let pid = unsafe { sys::fork()? };
            if pid == 0 {
                drop(write);
                self.become_predecessor(&read, now);
                return Ok(());
            }
            let _ = self.predecessors.push(pid);
            waits = Some(write);
        }
        let pid_file = self.pid_file.as_ref().map(|pid_file| pid_file.file.as_fd());
        let result = Will::new().and_then(|will| {
            will.write(self.engine, pid_file, &self.predecessors)?;
            self.linux.log.message(Level::Notice, format_args!("Becoming {}", Bytes(self.origin.program())));
            self.engine.dismiss_standbys(now, &mut self.linux);
            self.linux.log.flush();
            // The newer program finds everything as we found it.
            let Heritage { umask, files, .. } = self.linux.spawner.heritage();
            rustix::process::umask(Mode::from_raw_mode(umask as _));
            set_soft_descriptor_limit(files.0);
            will.pass_on(true, self.engine, pid_file);
            let errno = self.origin.become_heir(&will);
            will.pass_on(false, self.engine, pid_file);
            rustix::process::umask(Mode::from_raw_mode(0o022));
            raise_descriptor_limit();
            Err(errno)
        });
        if let Some(write) = waits {
            // There is no heir: the copy ends.
            let _ = rustix::io::write(&write, b"0");
            let _ = self.predecessors.pop();
        }
        result
    }

    /// The copy of the daemon that keeps what an heir cannot have.
    #[inline(never)]
    fn become_predecessor(&mut self, heir: &OwnedFd, now: Now) {
        // The end of the pipe: the other process is another program now.
        while match rustix::io::read(heir, &mut [0; 1]) {
            Ok(0) => false,
            Err(rustix::io::Errno::INTR) => true,
            _ => sys::exit(status::WELL),
        } {}
        self.notify = Notify::NONE;
        self.predecessors.clear();
        if let Some(pid_file) = self.pid_file.take() {
            pid_file.leave();
        }
        // Signals are told to whoever made the descriptor.
        let _ = epoll::delete(&self.linux.epoll, &self.signals);
        match receive_signals(&self.linux, None) {
            Ok(signals) => self.signals = signals,
            Err(errno) => {
                self.linux.log.message(Level::Error, format_args!("signals: {errno}"));
            }
        }
        self.linux
            .log
            .set_tag(self.options.personality.name(), rustix::process::getpid().as_raw_pid() as u32);
        self.linux.is_predecessor = true;
        self.linux.spawner.forget_children();
        self.engine.resign(now, &mut self.linux);
        let text = format_args!("{} clients of the program before stay here", self.engine.running());
        self.linux.log.message(Level::Notice, text);
    }

    /// Takes over what an older program has left.
    #[inline(never)]
    fn inherit(&mut self, will: &Will) {
        let (known, lost) = will.inherit(self.engine, read_clocks(), &mut self.linux);
        let earlier = self.predecessors.len();
        self.linux.log.message(
            Level::Notice,
            format_args!(
                "Took the place of an older program: servers={known} processes with older clients={earlier}"
            ),
        );
        if lost > 0 {
            let text = format_args!("{lost} servers have no place here: their ends will not be recorded");
            self.linux.log.message(Level::Warning, text);
        }
        // Who ended between the two programs.
        self.reap(read_clocks());
    }

    fn say_reloading(&self) {
        let mut message = heapless::String::<64>::new();
        let _ = writeln!(message, "RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_us());
        self.notify.say(message.as_bytes());
    }

    /// Reads the files again; whether all of them could be used.
    #[inline(never)]
    fn reload(&mut self, now: Now) -> bool {
        self.say_reloading();
        let Daemon { engine, linux, loader, options, files, .. } = self;
        let mut is_whole = false;
        if load_again(options, files, loader, engine, linux.log) {
            let old = ready_services(engine.table());
            let changes = engine.adopt(now, linux);
            linux.spawner.reloaded();
            tell_changes(&changes, old, linux.log);
            is_whole = changes.preserved == 0 && changes.lost == 0;
        }
        self.notify.say(READY);
        self.is_fat = true;
        is_whole
    }

    #[inline(never)]
    fn dump(&mut self, now: Now) {
        let path = self.options.personality.dump_file();
        let text = format_args!("generated state dump in file {}", Bytes(path));
        match dump::write(path, self.engine, now) {
            Ok(()) => self.linux.log.message(Level::Notice, text),
            Err(errno) => {
                self.linux.log.message(Level::Error, format_args!("state dump {}: {errno}", Bytes(path)));
            }
        }
    }

    /// What servers with `stderr = log` wrote.
    #[inline(never)]
    fn read_stderr(&mut self, index: u16, now: Now) {
        let Some(pipe) = self.engine.listener(index).and_then(|listener| listener.stderr.as_ref()) else {
            return;
        };
        let table = self.engine.table();
        let Some(service) = table.service(index) else { return };
        pipe.drain(table.bytes(service.id), now.mono, self.linux.log);
        self.stderr_due = self.stderr_due.into_iter().chain(pipe.due()).min();
    }

    /// Tells how much of it was not logged, where it is time.
    #[inline(never)]
    fn tell_stderr(&mut self, now: Now) {
        self.stderr_due = None;
        let table = self.engine.table();
        for (index, service) in table.services().iter().enumerate() {
            let listener = self.engine.listener(index as u16);
            let Some(pipe) = listener.and_then(|listener| listener.stderr.as_ref()) else { continue };
            match pipe.due() {
                Some(at) if at <= now.mono => pipe.tell(table.bytes(service.id), now.mono, self.linux.log),
                at => self.stderr_due = self.stderr_due.into_iter().chain(at).min(),
            }
        }
    }

    #[inline(never)]
    fn leave(&mut self, status: i32, now: Now) -> i32 {
        self.engine.stop_listening(now, &mut self.linux);
        self.linux.drain_retired();
        // What is still to be said about lost records is said now.
        self.linux.log.reopen();
        self.pid_file = None;
        status
    }
}

/// Writes text to standard error, whole; for messages to the person who started us.
pub(super) fn say(text: fmt::Arguments<'_>) {
    struct Stderr;
    impl fmt::Write for Stderr {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                match rustix::io::write(log::stderr(), rest) {
                    Ok(n) => rest = rest.get(n..).unwrap_or(&[]),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return Err(fmt::Error),
                }
            }
            Ok(())
        }
    }
    // One write for one line: collected first, so that lines of several processes do not mix.
    let mut line = heapless::String::<2048>::new();
    if line.write_fmt(text).is_ok() {
        let _ = Stderr.write_str(&line);
    } else {
        let _ = Stderr.write_fmt(text);
    }
}

struct Stdout;

impl fmt::Write for Stdout {
    #[allow(unsafe_code)]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: descriptors 0 to 2 are open from the first line of `run` on.
            match rustix::io::write(unsafe { rustix::stdio::stdout() }, rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or(&[]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(fmt::Error),
            }
        }
        Ok(())
    }
}

/// Writes to standard output; the exit status says whether that worked.
fn print(text: fmt::Arguments<'_>) -> i32 {
    if Stdout.write_fmt(text).is_ok() { status::WELL } else { status::FAILED }
}

fn print_diagnostic(diagnostic: &Diagnostic<'_>) {
    say(format_args!("{diagnostic}\n"));
}

fn refuse(misuse: &Misuse<'_>) -> i32 {
    say(format_args!("usherd: {misuse}\nusherd --help tells all options\n"));
    status::USAGE
}

/// Opens a device for whichever of 0, 1 and 2 is closed, so that no socket of ours lands there.
pub(super) fn open_descriptors(device: &CStr) {
    while let Ok(fd) = rustix::fs::open(device, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) {
        if fd.as_raw_fd() > 2 {
            return;
        }
        // Stays open for good.
        core::mem::forget(fd);
    }
}

/// Whether a process that changes its user can be looked into by that user (fs.suid_dumpable is 1, proc(5)).
fn makes_dumpable() -> bool {
    let mut value = [0; 1];
    let mut disk = Disk::plain();
    disk.open(b"/proc/sys/fs/suid_dumpable")
        .and_then(|file| disk.read_at(&file, 0, &mut value))
        .is_ok_and(|_| value == *b"1")
}

/// The clocks, read once for everything that came out of one wait.
pub(super) fn read_clocks() -> Now {
    use rustix::time::{ClockId, clock_gettime};
    let mono = clock_gettime(ClockId::Monotonic);
    let real = clock_gettime(ClockId::Realtime);
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "32-bit fields on some targets")]
    Now {
        mono: Instant(mono.tv_sec as u64 * 1000 + mono.tv_nsec as u64 / 1_000_000),
        unix: Some(i64::from(real.tv_sec)),
    }
}

/// Whether standard error is what JOURNAL_STREAM, `device:inode`, says it is: the variable is inherited further than the
/// descriptor.
fn is_journal(stream: &[u8]) -> bool {
    let mut numbers = stream.split(|b| *b == b':').map(number::<u64>);
    let (Some(Some(device)), Some(Some(inode))) = (numbers.next(), numbers.next()) else { return false };
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the fields are narrower on 32-bit ARM"
    )]
    rustix::fs::fstat(log::stderr()).is_ok_and(|s| s.st_dev as u64 == device && s.st_ino as u64 == inode)
}

/// As many descriptors as the system allows; what there was before is what servers get.
fn raise_descriptor_limit() -> (u64, u64) {
    let was = getrlimit(Resource::Nofile);
    let (soft, hard) = (was.current.unwrap_or(u64::MAX), was.maximum.unwrap_or(u64::MAX));
    if soft < hard {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: was.maximum, maximum: was.maximum });
    }
    (soft, hard)
}

/// Servers of an older program that a newer one starts have the limit that the older was started with.
fn set_soft_descriptor_limit(soft: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: (soft != u64::MAX).then_some(soft), maximum });
}

/// Sets the local time zone; it stays UTC where it cannot be told.
#[inline(never)]
fn set_zone<B: Backend>(tz: Option<&'static [u8]>, engine: &mut Engine<B>, log: &mut Log) {
    let zone = match zone::parse_tz_variable(tz) {
        Ok(TzSource::Path(path)) => {
            let mut bytes = [0; zone::ZONE_BYTES + 1];
            let mut len = 0;
            let Ok(file) = Disk::plain().open(&path) else { return };
            while let Some(rest) = bytes.get_mut(len..)
                && !rest.is_empty()
            {
                match Disk::plain().read_at(&file, len as u64, rest) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => len += n,
                }
            }
            Zone::from_tzif(bytes.get(..len).unwrap_or(&[]))
        }
        Ok(TzSource::Posix(text)) => Zone::from_posix(text),
        Ok(TzSource::Utc) | Err(_) => return,
    };
    if let Ok(zone) = zone {
        log.set_zone(&zone);
        engine.set_zone(zone);
    }
}

fn current_directory(buf: &mut [MaybeUninit<u8>]) -> Option<&[u8]> {
    let (path, rest) = rustix::fs::readlinkat_raw(rustix::fs::CWD, c"/proc/self/cwd", buf).ok()?;
    // A path that fills the buffer may have been cut.
    if rest.is_empty() { None } else { Some(&*path) }
}

/// Who we are after detaching.
enum Role {
    /// The process that was started: waits for the daemon's word.
    First(OwnedFd, u32),
    Daemon(OwnedFd),
}

/// daemon(7)'s classic recipe, up to the process that stays: fork, a session of its own, SIGHUP ignored while its
/// leader ends, fork again so that no terminal can ever become ours.
#[allow(unsafe_code)]
fn detach() -> Result<Role, Errno> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the daemon has one thread.
    let child = unsafe { sys::fork()? };
    if child > 0 {
        return Ok(Role::First(read, child));
    }
    drop(read);
    rustix::process::setsid()?;
    sys::ignore_signal(HUP, true);
    // SAFETY: as above.
    let daemon = unsafe { sys::fork() };
    match daemon {
        Ok(0) => {
            sys::ignore_signal(HUP, false);
            Ok(Role::Daemon(write))
        }
        Ok(_) => sys::exit(status::WELL),
        Err(errno) => {
            say(format_args!("usherd: cannot become a daemon: {errno}\n"));
            sys::exit(status::FAILED)
        }
    }
}

/// The first process: exits with what the daemon says once it listens, or with failure if it ends without a word.
fn wait_for_daemon(pipe: &OwnedFd, child: u32) -> i32 {
    let _ = waitpid(rustix::process::Pid::from_raw(child as i32), WaitOptions::empty());
    let mut word = [0; 1];
    loop {
        match rustix::io::read(pipe, &mut word) {
            Ok(1) => return i32::from(word[0]),
            Err(rustix::io::Errno::INTR) => {}
            _ => return status::FAILED,
        }
    }
}

/// A file with our pid in it, locked as long as we live, removed when we end.
struct PidFile<'a> {
    /// Nothing if it is somebody else's by now.
    path: Option<&'a [u8]>,
    file: OwnedFd,
}

enum PidProblem<'a> {
    /// Another daemon holds the lock.
    Running {
        path: &'a [u8],
        pid: Option<u64>,
    },
    Failed {
        path: &'a [u8],
        errno: Errno,
    },
}

impl fmt::Display for PidProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PidProblem::Running { path, pid: Some(pid) } => {
                write!(f, "already running as process {pid} (its pid file is {})", Bytes(path))
            }
            PidProblem::Running { path, pid: None } => {
                write!(f, "already running: {} is locked", Bytes(path))
            }
            PidProblem::Failed { path, errno } => {
                write!(f, "pid file {}: {errno}; -pidfile names another place", Bytes(path))
            }
        }
    }
}

impl<'a> PidFile<'a> {
    /// `locked` is what an older program has left. It is given up here if it is not the file of that name; the lock is in the
    /// way of nobody then.
    fn take(path: &'a [u8], pid: u32, locked: Option<OwnedFd>) -> Result<PidFile<'a>, PidProblem<'a>> {
        let failed = |errno: rustix::io::Errno| PidProblem::Failed { path, errno: errno.into() };
        if let Some(file) = locked
            && is_file_of_name(&file, path).map_err(failed)?
        {
            return Ok(PidFile { path: Some(path), file });
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = loop {
            let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut text = [0; 16];
                    let n = rustix::io::pread(&file, &mut text, 0).unwrap_or(0);
                    let digits = text.get(..n).unwrap_or(&[]).trim_ascii();
                    return Err(PidProblem::Running { path, pid: number(digits) });
                }
                Err(errno) => return Err(failed(errno)),
            }
            // A daemon that was just ending may have removed the file between our two calls: then nobody else would
            // ever see our lock.
            if is_file_of_name(&file, path).map_err(failed)? {
                break file;
            }
        };
        let mut text = heapless::String::<16>::new();
        let _ = writeln!(text, "{pid}");
        rustix::fs::ftruncate(&file, 0).map_err(failed)?;
        rustix::io::pwrite(&file, text.as_bytes(), 0).map_err(failed)?;
        Ok(PidFile { path: Some(path), file })
    }

    /// Closes it and leaves the file to another process, which has it open too: the lock stays with that (flock(2)).
    fn leave(mut self) {
        self.path = None;
    }
}

fn is_file_of_name(file: &OwnedFd, path: &[u8]) -> Result<bool, rustix::io::Errno> {
    let ours = rustix::fs::fstat(file)?;
    let there = rustix::fs::stat(path);
    Ok(there.is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)))
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.path {
            let _ = rustix::fs::unlink(path);
        }
    }
}
