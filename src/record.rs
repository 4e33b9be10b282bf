//! What happened, as values; and the text that xinetd's users know.
//!
//! A [`Record`] is numbers and references, made on the spot and handed to the backend. Text and frames of defmt (both from
//! the walk in this file) or counters are readers of the same value. Field order and wording of START, EXIT and FAIL are
//! xinetd.log(5)'s as observed; an address is added to EXIT lines, and IPv4 clients are written as IPv4.

use core::net::SocketAddr;

use crate::addr::{Peer, Socket};
use crate::config::diagnostic::Bytes;
use crate::errno::Errno;
use crate::service::{Answer, Bind, Host, LogFields, Service, Target};
use crate::table::{Table, Text};
use crate::tell::told;
use crate::wrappers::{Place, Why};

/// Why a client was turned away. Displays as the word in a FAIL line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// only_from or no_access.
    Address,
    /// access_times.
    Time,
    /// max_load.
    Load,
    /// instances.
    ServiceLimit,
    /// per_source.
    PerSourceLimit,
    /// The daemon's own limit of servers (-limit, or the table is full).
    ProcessLimit,
    /// cps.
    ConnectionsPerSecond,
    /// Starts a minute from this address.
    PerMinuteLimit,
    /// The system could not make a process.
    Fork,
    /// The program could not be executed.
    Exec,
    /// A datagram that would start two services answering each other.
    Reflector,
    /// The time of day is not known yet, and this service only tells the time.
    NoTime,
    /// hosts.allow or hosts.deny.
    Libwrap,
    /// Too many clients, or this one's address too often, wait for names and users already.
    LookupLimit,
    /// A datagram whose sender's name has to be looked up: the next one from him may find it known.
    NamePending,
    /// No ident server names a user, and the service wants one (IDONLY).
    Identity,
}

told!(Refusal, |refusal, f| {
    let refusal = *refusal;
    spell!(
        f,
        match refusal {
            Refusal::Address => "address",
            Refusal::Time => "time",
            Refusal::Load => "load",
            Refusal::ServiceLimit => "service_limit",
            Refusal::PerSourceLimit => "per_source_limit",
            Refusal::ProcessLimit => "process_limit",
            Refusal::ConnectionsPerSecond => "connections per second",
            Refusal::PerMinuteLimit => "connections per minute",
            Refusal::Fork => "fork",
            Refusal::Exec => "exec",
            Refusal::Reflector => "loop",
            Refusal::NoTime => "no_time",
            Refusal::Libwrap => "libwrap",
            Refusal::LookupLimit => "lookup_limit",
            Refusal::NamePending => "name_pending",
            Refusal::Identity => "identity",
        }
    )
});

/// How a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ending {
    /// The exit status, 0 to 255.
    Exited(u8),
    /// Killed by that signal.
    Signalled(u8),
}

/// Why somebody may stay no longer. Displays as the word in a TIMEOUT line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overstay {
    Timeout,
    IdleTimeout,
    /// Others wait for a place, and nothing has come from him for long.
    PlaceNeeded,
}

told!(Overstay, |why, f| {
    let why = *why;
    spell!(
        f,
        match why {
            Overstay::Timeout => "timeout",
            Overstay::IdleTimeout => "idle_timeout",
            Overstay::PlaceNeeded => "place_needed",
        }
    )
});

/// The banners of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Banner {
    Always,
    Success,
    Fail,
}

impl Banner {
    /// The path in `service`, empty for none.
    pub const fn path(self, service: &Service) -> Text {
        match self {
            Banner::Always => service.banner,
            Banner::Success => service.banner_success,
            Banner::Fail => service.banner_fail,
        }
    }
}

/// What happened to a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact<'a> {
    /// A server runs; `pid` is 0 for a built-in service.
    Start { pid: u32, peer: Peer },
    /// A server ended after `seconds`.
    Exit { pid: u32, peer: Peer, ending: Ending, seconds: u64 },
    /// A client was refused.
    Fail { refusal: Refusal, peer: Peer },
    /// What the client's ident server says of its user: `UNIX : joe` (RFC 1413). It may say anything.
    UserId { text: &'a [u8] },
    /// No ident server named a user, and the service wants one.
    NoId { peer: Peer, why: &'static str },
    /// Bytes that came from a client and went to it.
    Traffic { received: u64, sent: u64 },
    /// A rule of hosts.allow or hosts.deny refuses; which, and why.
    Wrapped { peer: Peer, place: Option<Place>, why: Why },
    /// A command of hosts.allow or hosts.deny could not be run.
    CommandFailed { errno: Errno },
    /// A sensor keeps that address out from now on; `None`: for good, 0: not at all.
    Sensed { peer: Peer, minutes: Option<u32> },
    /// Where the service redirects to cannot be reached.
    ConnectFailed { to: Option<SocketAddr>, errno: Errno },
    /// After a reload that server may not be there any more: it is told to end.
    Ousted { pid: u32, peer: Peer, refusal: Refusal },
    /// A client or a server has been there for too long: it is closed, or told to end; `pid` is 0 for a client of our own.
    TimedOut { pid: u32, peer: Peer, why: Overstay },
    /// So many more datagrams were refused within `seconds`, without a record each.
    FailMore { count: u64, seconds: u64 },
    /// The service could not listen; tried again in `retry` seconds.
    ListenFailed { errno: Errno, retry: u64 },
    /// It listens after all.
    ListenRecovered,
    /// cps was exceeded: nobody is taken from the backlog for that many seconds.
    CpsPause { seconds: u64 },
    /// More starts than the line allows a minute: nobody is taken from the backlog for that many seconds.
    MinutePause { seconds: u64 },
    /// A pause is over.
    Resumed,
    /// accept(2) failed for want of descriptors or memory; tried again in a second.
    AcceptFailed { errno: Errno },
    /// The table of servers or sessions is full; clients wait in the backlog.
    TableFull,
    /// No process could be made for a client.
    SpawnFailed { errno: Errno },
    /// The program could not be executed.
    ExecFailed { errno: Errno },
    /// A banner's file could not be read or sent; the client goes on without it.
    BannerFailed { which: Banner, errno: Errno },
    /// A standby server ended before it had a client; another is started in `ms` milliseconds.
    StandbyEnded { pid: u32, ending: Ending, ms: u64 },
    /// A wait server ends again and again without taking what waits for it; started again in `ms` milliseconds.
    Hasty { ms: u64 },
    /// A child setting could not be made; the child ended before it became the program.
    ChildFailed { what: ChildStep, errno: Errno },
}

/// What a child does between its birth and its program, in that order; the step that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum ChildStep {
    Descriptors = 1,
    Session,
    Limits,
    Nice,
    Groups,
    Gid,
    Uid,
    Exec,
}

impl ChildStep {
    pub const ALL: [ChildStep; 8] = [
        ChildStep::Descriptors,
        ChildStep::Session,
        ChildStep::Limits,
        ChildStep::Nice,
        ChildStep::Groups,
        ChildStep::Gid,
        ChildStep::Uid,
        ChildStep::Exec,
    ];

    const fn call(self) -> &'static str {
        match self {
            ChildStep::Descriptors => "dup2",
            ChildStep::Session => "setsid",
            ChildStep::Limits => "setrlimit",
            ChildStep::Nice => "setpriority",
            ChildStep::Groups => "setgroups",
            ChildStep::Gid => "setgid",
            ChildStep::Uid => "setuid",
            ChildStep::Exec => "execve",
        }
    }
}

/// Severities of RFC 5424, as far as the daemon uses them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

impl Level {
    /// The word xinetd puts into a -filelog line.
    pub const fn word(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warning => "WARNING",
            Level::Notice => "NOTICE",
            Level::Info => "INFO",
        }
    }
}

/// A fact about a service, ready to be read.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub table: &'a Table,
    pub service: &'a Service,
    pub fact: Fact<'a>,
    /// What a rule of hosts.allow or hosts.deny says of the log of this client: facility, if it does, and level of
    /// syslog(3).
    pub severity: Option<(Option<u8>, u8)>,
}

impl Record<'_> {
    /// Whether the service's own log settings ask for this record. Facts about the daemon's work are always asked
    /// for, and go to the daemon's log.
    pub fn wanted(&self) -> bool {
        match self.fact {
            Fact::Start { .. } | Fact::TimedOut { .. } => !self.service.log_on_success.is_empty(),
            Fact::Exit { .. } => {
                self.service.log_on_success.has(LogFields::EXIT)
                    || self.service.log_on_success.has(LogFields::DURATION)
            }
            Fact::Fail { .. } | Fact::FailMore { .. } => !self.service.log_on_failure.is_empty(),
            Fact::Traffic { .. } => self.service.log_on_success.has(LogFields::TRAFFIC),
            _ => true,
        }
    }

    /// Whether the record belongs where `log_type` says; else in the daemon's log.
    pub const fn is_service_record(&self) -> bool {
        matches!(
            self.fact,
            Fact::Start { .. }
                | Fact::Exit { .. }
                | Fact::TimedOut { .. }
                | Fact::Fail { .. }
                | Fact::FailMore { .. }
                | Fact::UserId { .. }
                | Fact::NoId { .. }
                | Fact::Traffic { .. }
        )
    }

    pub fn level(&self) -> Level {
        match self.fact {
            Fact::Start { .. } | Fact::Exit { .. } | Fact::UserId { .. } | Fact::Traffic { .. } => {
                Level::Info
            }
            Fact::Fail { .. }
            | Fact::FailMore { .. }
            | Fact::NoId { .. }
            | Fact::TimedOut { .. }
            | Fact::Wrapped { why: Why::Rule | Why::NoRule, .. }
            | Fact::Ousted { .. }
            | Fact::Resumed
            | Fact::ListenRecovered => Level::Notice,
            Fact::Sensed { .. } | Fact::CpsPause { .. } | Fact::MinutePause { .. } | Fact::TableFull => {
                Level::Warning
            }
            _ => Level::Error,
        }
    }

    /// Writes it as a frame of its level, if `DEFMT_LOG` asked for that level when this was built.
    #[cfg(feature = "defmt")]
    pub fn frame(&self) {
        match self.level() {
            Level::Error => defmt::error!("{}", self),
            Level::Warning => defmt::warn!("{}", self),
            Level::Notice | Level::Info => defmt::info!("{}", self),
        }
    }
}

told!(Record<'_>, |record, f| {
    let (table, service) = (record.table, record.service);
    let id = Bytes(table.bytes(service.id));
    let success = service.log_on_success;
    match record.fact {
        Fact::Start { pid, peer } => {
            tell!(f, "START: {}", id)?;
            if success.has(LogFields::PID) {
                tell!(f, " pid={}", pid)?;
            }
            if success.has(LogFields::HOST) {
                tell!(f, " from={}", peer)?;
            }
            Ok(())
        }
        Fact::Exit { pid, peer, ending, seconds } => {
            tell!(f, "EXIT: {}", id)?;
            if success.has(LogFields::EXIT) {
                match ending {
                    Ending::Exited(status) => tell!(f, " status={}", status)?,
                    Ending::Signalled(signal) => tell!(f, " signal={}", signal)?,
                }
            }
            if success.has(LogFields::PID) {
                tell!(f, " pid={}", pid)?;
            }
            if success.has(LogFields::DURATION) {
                tell!(f, " duration={}(sec)", seconds)?;
            }
            if success.has(LogFields::HOST) {
                tell!(f, " from={}", peer)?;
            }
            Ok(())
        }
        Fact::Fail { refusal, peer } => {
            tell!(f, "FAIL: {} {}", id, refusal)?;
            if service.log_on_failure.has(LogFields::HOST) {
                tell!(f, " from={}", peer)?;
            }
            Ok(())
        }
        Fact::UserId { text } => tell!(f, "USERID: {} {}", id, Bytes(text)),
        Fact::NoId { peer, why } => tell!(f, "NOID: {} {} {}", id, peer, why),
        Fact::Traffic { received, sent } => {
            tell!(f, "TRAFFIC: {} in={}(bytes) out={}(bytes)", id, received, sent)
        }
        Fact::Wrapped { peer, place, why } => {
            let daemon = Bytes(table.bytes(service.daemon));
            tell!(f, "libwrap refused connection to {} (libwrap={}) from {}", id, daemon, peer)?;
            match (why, place) {
                (Why::Unreadable { which, errno }, _) => tell!(f, ": {} cannot be read: {}", which, errno),
                (Why::Fault { fault, line, column }, Some(place)) => {
                    tell!(f, " by {}:{}:{}: {}", place.which, line, column, fault)
                }
                (_, Some(place)) => tell!(f, " by {}:{}", place.which, place.line),
                (_, None) => Ok(()),
            }
        }
        Fact::CommandFailed { errno } => {
            tell!(f, "{}: a command of hosts.allow or hosts.deny was not run: {}", id, errno)
        }
        Fact::Sensed { peer, minutes: None } => {
            tell!(f, "{}: adding {} to the global_no_access list for ever", id, peer)
        }
        Fact::Sensed { peer, minutes: Some(0) } => {
            tell!(f, "{}: {} came; deny_time keeps nobody out", id, peer)
        }
        Fact::Sensed { peer, minutes: Some(minutes) } => {
            tell!(f, "{}: adding {} to the global_no_access list for {} minutes", id, peer, minutes)
        }
        Fact::ConnectFailed { to, errno } => {
            tell!(f, "{}: can't connect to remote host ", id)?;
            match (to, service.answer) {
                (Some(to), _) => tell!(f, "{}: {}", Socket(to), errno),
                (None, Answer::Redirect(Target { host: Host::Name(name), .. })) => {
                    tell!(f, "{}: no address of that name is found", Bytes(table.bytes(name)))
                }
                (None, _) => tell!(f, "{}", errno),
            }
        }
        Fact::Ousted { pid, peer, refusal } => {
            tell!(f, "{}: server {} of {} is told to end: {}", id, pid, peer, refusal)
        }
        Fact::TimedOut { pid, peer, why } => {
            tell!(f, "TIMEOUT: {} {}", id, why)?;
            if success.has(LogFields::PID) {
                tell!(f, " pid={}", pid)?;
            }
            if success.has(LogFields::HOST) {
                tell!(f, " from={}", peer)?;
            }
            Ok(())
        }
        Fact::FailMore { count, seconds } => {
            tell!(f, "FAIL: {} {} more datagrams within {} seconds", id, count, seconds)
        }
        Fact::ListenFailed { errno, retry } => {
            let (at, s) = (ListensAt { table, service }, if retry == 1 { "" } else { "s" });
            tell!(
                f,
                "bind failed ({}). service = {}, {}; trying again in {} second{}",
                errno,
                id,
                at,
                retry,
                s
            )
        }
        Fact::ListenRecovered => {
            tell!(f, "Activating service {}: listening on {}", id, ListensAt { table, service })
        }
        Fact::CpsPause { seconds } => tell!(
            f,
            "Deactivating service {} due to excessive incoming connections.  Restarting in {} seconds.",
            id,
            seconds
        ),
        Fact::MinutePause { seconds } => tell!(
            f,
            "{}/{} server failing (looping), service paused for {} seconds",
            id,
            service.protocol_name(),
            seconds
        ),
        Fact::Resumed => tell!(f, "Activating service {}", id),
        Fact::AcceptFailed { errno } => {
            tell!(f, "service {}, accept: {}; trying again in 1 second", id, errno)
        }
        Fact::TableFull => {
            tell!(f, "service {}: no free place for another server; clients wait in the backlog", id)
        }
        Fact::SpawnFailed { errno } => tell!(f, "{}: fork failed: {}", id, errno),
        Fact::ExecFailed { errno } => {
            tell!(f, "{}: execv( {} ) failed: {}", id, Bytes(table.bytes(service.program)), errno)
        }
        Fact::BannerFailed { which, errno } => {
            let path = table.bytes(which.path(service));
            tell!(f, "{}: banner {}: {}", id, Bytes(path), errno)
        }
        Fact::Hasty { ms } => tell!(
            f,
            "{}: server ends without taking what waits for it; next start in {}.{} seconds",
            id,
            ms / 1000,
            ms % 1000 / 100
        ),
        Fact::StandbyEnded { pid, ending, ms } => {
            tell!(f, "{}: standby server {} ended before anybody came (", id, pid)?;
            match ending {
                Ending::Exited(status) => tell!(f, "status={}", status)?,
                Ending::Signalled(signal) => tell!(f, "signal={}", signal)?,
            }
            tell!(f, "); next one in {} seconds", ms / 1000)
        }
        Fact::ChildFailed { what, errno } => tell!(f, "{}: {} failed: {}", id, what.call(), errno),
    }
});

/// Where a service listens: `tcp *:7`, `udp 127.0.0.1:7`, `tcp [::1]:7`, `tcp eth0:7`, `unix /run/x`.
pub struct ListensAt<'a> {
    pub table: &'a Table,
    pub service: &'a Service,
}

told!(ListensAt<'_>, |at, f| {
    let (table, service) = (at.table, at.service);
    let protocol = service.protocol_name();
    match service.bind {
        Bind::Everywhere => tell!(f, "{} *:{}", protocol, service.port),
        Bind::Address(address) => tell!(f, "{} {}", protocol, Socket(SocketAddr::new(address, service.port))),
        Bind::Interface(name) => tell!(f, "{} {}:{}", protocol, Bytes(table.bytes(name)), service.port),
        Bind::Path(path) => tell!(f, "{} {}", protocol, Bytes(table.bytes(path))),
    }
});
