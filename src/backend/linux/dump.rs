//! The state dump of SIGUSR1: every service with its state, counters and limits, and who is being served.

use core::fmt::{self, Write as _};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

use super::Linux;
use crate::config::diagnostic::Bytes;
use crate::engine::{Engine, State};
use crate::errno::Errno;
use crate::record::ListensAt;
use crate::service::{Answer, DenyTime, Flags, Host, LogType, Proxy, Service, Standing, Target};
use crate::table::{Pattern, Span, Table};
use crate::time::Now;

/// Writes the dump to `path`, over an earlier one. Readable by its owner alone: it tells who is connected.
///
/// Whoever else may write to the directory could have left something there: a FIFO that nobody reads must not stop us
/// (NONBLOCK), a link must not lead us to other files, and a file of somebody else's must not become readable to him.
pub fn write(path: &[u8], engine: &Engine<Linux>, now: Now) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
    let found = rustix::fs::fstat(&file)?;
    let is_ours = rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::RegularFile
        && found.st_nlink == 1
        && found.st_uid == rustix::process::geteuid().as_raw();
    if !is_ours {
        return Err(Errno::EXIST);
    }
    rustix::fs::ftruncate(&file, 0)?;
    let mut out = Buffered { file, bytes: heapless::Vec::new(), errno: None };
    let _ = text(&mut out, engine, now);
    out.flush();
    out.errno.map_or(Ok(()), Err)
}

/// Collects small writes.
struct Buffered {
    file: OwnedFd,
    bytes: heapless::Vec<u8, 1024>,
    errno: Option<Errno>,
}

impl Buffered {
    fn flush(&mut self) {
        let mut rest = self.bytes.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or(&[]),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    self.errno = Some(errno.into());
                    break;
                }
            }
        }
        self.bytes.clear();
    }
}

impl fmt::Write for Buffered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.bytes.is_full() {
                self.flush();
            }
            let _ = self.bytes.push(byte);
        }
        if self.errno.is_some() { Err(fmt::Error) } else { Ok(()) }
    }
}

fn text(out: &mut Buffered, engine: &Engine<Linux>, now: Now) -> fmt::Result {
    let table = engine.table();
    write!(out, "INTERNAL STATE DUMP: usherd {}\nCurrent time: ", env!("CARGO_PKG_VERSION"))?;
    match now.unix {
        Some(unix) => engine.zone().at(unix).write_ctime(out)?,
        None => out.write_str("unknown")?,
    }
    out.write_str("\n\nTables (in use / room):")?;
    for (name, used, room) in table.in_use() {
        write!(out, " {name} {used}/{room}")?;
    }
    out.write_str("\n\nServices:\n")?;
    for (index, service) in table.services().iter().enumerate() {
        write!(out, "Service = {}\n\tState = ", Bytes(table.bytes(service.id)))?;
        let status = engine.status(index as u16);
        match (service.standing, status.map(|s| s.state)) {
            (Standing::Broken, _) => out.write_str("Broken: not started")?,
            (Standing::Departed, _) => out.write_str("Departed: its last servers still run")?,
            (Standing::Ready, Some(State::Listening)) => out.write_str("Active")?,
            (Standing::Ready, Some(State::Busy)) => out.write_str("Active: its server owns the socket")?,
            (Standing::Ready, Some(State::Full)) => out.write_str("Full: clients wait in the backlog")?,
            (Standing::Ready, Some(State::Paused { until })) => {
                write!(out, "Suspended for {} ms", until.since_ms(now.mono))?;
            }
            (Standing::Ready, Some(State::Retry { at })) => {
                write!(out, "Cannot listen; next try in {} ms", at.since_ms(now.mono))?;
            }
            (Standing::Ready, Some(State::Off) | None) => out.write_str("Off")?,
        }
        write!(out, "\n\tListens = {}", ListensAt { table, service })?;
        settings(out, table, service)?;
        if let Some(status) = status {
            let (running, started, refused) = (status.running, status.started, status.refused);
            write!(out, "\n\trunning_servers = {running}\n\tStarted = {started}\n\tRefused = {refused}\n")?;
        }
    }
    out.write_str("\nServers:\n")?;
    let name = |index| table.service(index).map_or(b"(removed)".as_slice(), |s| table.bytes(s.id));
    for (service, pid, peer, began) in engine.servers() {
        let seconds = now.mono.since_s(began);
        writeln!(out, "\t{} pid={pid} from={peer} since={seconds}(sec)", Bytes(name(service)))?;
    }
    out.write_str("\nStandby servers:\n")?;
    for (service, pid, since) in engine.standbys() {
        let seconds = now.mono.since_s(since);
        writeln!(out, "\t{} pid={pid} since={seconds}(sec)", Bytes(name(service)))?;
    }
    out.write_str("\nSessions of built-in, redirected and standby services:\n")?;
    for (service, peer, began, moved) in engine.sessions() {
        let seconds = now.mono.since_s(began);
        writeln!(out, "\t{} from={peer} since={seconds}(sec) moved={moved}(bytes)", Bytes(name(service)))?;
    }
    out.write_str("\nClients that wait for a name, a user or a command:\n")?;
    for (service, peer) in engine.waiting() {
        writeln!(out, "\t{} from={peer}", Bytes(name(service)))?;
    }
    // xinetd's name for them.
    out.write_str("\nglobal_no_access:\n")?;
    for (prefix, until) in engine.denied(now) {
        match until {
            Some(until) => writeln!(out, "\t{prefix} for {}(sec)", until.since_s(now.mono))?,
            None => writeln!(out, "\t{prefix} for ever")?,
        }
    }
    out.write_str("END OF DUMP\n")
}

fn settings(out: &mut Buffered, table: &Table, service: &Service) -> fmt::Result {
    write!(out, "\n\tDefined = {}:{}", Bytes(table.bytes(service.file)), service.line)?;
    match service.answer {
        Answer::Builtin(builtin) => write!(out, "\n\tInternal = {}", builtin.name())?,
        Answer::Tcpmux => out.write_str("\n\tInternal = tcpmux")?,
        Answer::Own(_) => out.write_str("\n\tInternal = own")?,
        Answer::Sensor(time) => {
            out.write_str("\n\tSensor, deny_time = ")?;
            match time {
                DenyTime::Never => out.write_str("never")?,
                DenyTime::Minutes(minutes) => write!(out, "{minutes} minutes")?,
                DenyTime::Forever => out.write_str("forever")?,
            }
        }
        Answer::Redirect(Target { host, port }) => match host {
            Host::Address(address) => write!(out, "\n\tRedirect = {address}:{port}")?,
            Host::Name(name) => write!(out, "\n\tRedirect = {}:{port}", Bytes(table.bytes(name)))?,
        },
        Answer::Program => {
            write!(out, "\n\tServer = {}\n\tServer argv =", Bytes(table.bytes(service.program)))?;
            for word in table.words(service.argv) {
                write!(out, " {}", Bytes(table.bytes(*word)))?;
            }
        }
    }
    write!(out, "\n\twait = {}", if service.waits() { "yes" } else { "no" })?;
    if let Some(uid) = service.identity.uid {
        write!(out, "\n\tuser = {uid}")?;
    }
    if let Some(gid) = service.identity.gid {
        write!(out, "\n\tgroup = {gid}")?;
    }
    for (name, limit) in [
        ("Instances", service.instances),
        ("PER_SOURCE", service.per_source),
        ("Per minute", service.per_minute),
        ("Per minute and source", service.per_minute_source),
    ] {
        if let Some(limit) = limit {
            write!(out, "\n\t{name} = {limit}")?;
        }
    }
    for (name, seconds) in [("Timeout", service.timeout), ("Idle timeout", service.idle_timeout)] {
        if seconds > 0 {
            write!(out, "\n\t{name} = {seconds}(sec)")?;
        }
    }
    if service.flags.has(Flags::KEEP) {
        out.write_str("\n\tkeep = yes")?;
    }
    if service.standby > 0 {
        write!(out, "\n\tstandby = {}", service.standby)?;
    }
    match service.proxy {
        Proxy::No => {}
        Proxy::V1 => out.write_str("\n\tproxy = v1")?,
        Proxy::V2 => out.write_str("\n\tproxy = v2")?,
    }
    if let Some(cps) = service.cps {
        write!(out, "\n\tCPS = max conn:{} wait:{}", cps.rate, cps.pause)?;
    }
    if let Some(load) = service.max_load {
        write!(out, "\n\tMax load = {}.{:02}", load / 100, load % 100)?;
    }
    out.write_str("\n\tOnly from:")?;
    if !service.flags.has(Flags::ONLY_FROM) {
        out.write_str(" All sites")?;
    } else if service.only_from.is_empty() {
        out.write_str(" Nobody")?;
    }
    write_rules(out, table, service.only_from)?;
    out.write_str("\n\tNo access:")?;
    if service.no_access.is_empty() {
        out.write_str(" No blocked sites")?;
    }
    write_rules(out, table, service.no_access)?;
    match service.log_type {
        LogType::Daemon => out.write_str("\n\tLogging to the daemon's log"),
        LogType::Syslog { facility, level } => {
            write!(out, "\n\tLogging to syslog. Facility = {facility}, level = {level}")
        }
        LogType::File(file) => write!(
            out,
            "\n\tLogging to file: {} (soft={} hard={})",
            Bytes(table.bytes(file.path)),
            file.soft,
            file.hard
        ),
    }
}

fn write_rules(out: &mut dyn fmt::Write, table: &Table, rules: Span) -> fmt::Result {
    for rule in table.rules(rules) {
        match rule.pattern {
            Pattern::Network(prefix) => write!(out, " {prefix}")?,
            Pattern::Name(name) => write!(out, " {}", Bytes(table.bytes(name)))?,
        }
    }
    Ok(())
}
