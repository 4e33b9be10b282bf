//! `usherd -match SERVICE CLIENT`: whether that client would come in, and which rules say so.
//!
//! What tcpdmatch(8) is for hosts.allow and hosts.deny, for everything that decides: the same functions are asked in
//! the same order as for a real client. A name is looked up where a rule turns on it, as it would be then.

use core::fmt::{self, Write as _};
use core::net::IpAddr;

use heapless::Vec;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use super::cache::Disk;
use super::{Names, Question, Source};
use crate::access::{self, Outcome};
use crate::addr::{HostName, Peer};
use crate::capacity::LINE_BYTES;
use crate::config::diagnostic::Bytes;
use crate::errno::Errno;
use crate::resolver::{ADDRESSES, Lookup, Resolver};
use crate::service::{Flags, Service, SocketType, Standing};
use crate::table::{Origin, Table};
use crate::time::Now;
use crate::wrappers::{
    Asked, Effects, Endpoint, Explanation, Facts, Need, Request, Tables, User, Verdict, Who, Wrappers,
};

/// What is asked, and all that it is asked of.
pub struct Matter<'a> {
    pub service: &'a [u8],
    pub client: &'a [u8],
    /// Minute of the local day.
    pub minute: Option<u16>,
    pub table: &'a Table,
    pub tables: Tables<'a>,
}

/// A look-up that takes longer was answered by nobody, in milliseconds.
const MUTE_MS: u64 = 1500;

/// Asks name servers and waits for them: nobody else is served here.
pub struct Asker {
    epoll: OwnedFd,
    resolver: Resolver<Question>,
    clock: fn() -> Now,
    /// Name servers did not answer: what they know nobody can tell.
    pub is_mute: bool,
}

impl Asker {
    pub fn new(clock: fn() -> Now) -> Result<Asker, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Asker { epoll, resolver: Resolver::new(), clock, is_mute: false })
    }

    /// Whether a name has an address; once name servers have kept silent, every name may have one.
    pub fn does_resolve(&mut self, name: &[u8]) -> bool {
        if self.is_mute {
            return true;
        }
        let begin = (self.clock)().mono;
        let does = !self.addresses_of(name).is_empty();
        self.is_mute = !does && (self.clock)().mono.since_ms(begin) >= MUTE_MS;
        does || self.is_mute
    }

    fn wait(&mut self) {
        let now = (self.clock)().mono;
        let Some(until) = self.resolver.next_deadline() else { return };
        let ms = until.since_ms(now) + 1;
        let timeout = Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: ((ms % 1000) * 1_000_000) as _ };
        let none = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [none; 8];
        let count = epoll::wait(&self.epoll, &mut events, Some(&timeout)).unwrap_or(0);
        let now = (self.clock)().mono;
        let mut names = Names::new(&self.epoll);
        for event in events.get(..count).unwrap_or(&[]) {
            let event = *event;
            if let Some(Source::Question(id)) = Source::from_data(event.data) {
                let _ = self.resolver.answered(id, now, &mut Disk::plain(), &mut names);
            }
        }
        while self.resolver.tick(now, &mut names).is_some() {}
    }

    fn name_of(&mut self, address: IpAddr) -> HostName<'_> {
        loop {
            let now = (self.clock)().mono;
            let mut names = Names::new(&self.epoll);
            match self.resolver.name_of(address, now, &mut Disk::plain(), &mut names) {
                Lookup::Pending => self.wait(),
                Lookup::Done | Lookup::Full => break,
            }
        }
        self.known_name(Some(address), true)
    }

    /// What is known of a name; once it was asked for, that it is unknown too.
    fn known_name(&self, address: Option<IpAddr>, is_asked: bool) -> HostName<'_> {
        let Some(address) = address else { return HostName::Unknown };
        match self.resolver.name(address, (self.clock)().mono) {
            HostName::NotAsked if is_asked => HostName::Unknown,
            name => name,
        }
    }

    fn addresses_of(&mut self, name: &[u8]) -> Vec<IpAddr, ADDRESSES> {
        loop {
            let now = (self.clock)().mono;
            let mut names = Names::new(&self.epoll);
            match self.resolver.addresses_of(name, now, &mut Disk::plain(), &mut names) {
                Lookup::Pending => self.wait(),
                Lookup::Done | Lookup::Full => break,
            }
        }
        let found = self.resolver.addresses(name, (self.clock)().mono).unwrap_or(&[]);
        Vec::from_slice(found).unwrap_or_default()
    }
}

/// What is said of one service and one address, in bytes: one rule with its options, in which every byte may be escaped,
/// and a line of some hundred bytes for everything else.
const LINES_BYTES: usize = 4 * LINE_BYTES + 2048;

/// Two blanks more in front of all lines but the first.
struct Indented<'a>(&'a mut dyn fmt::Write);

impl fmt::Write for Indented<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.split_inclusive('\n').try_for_each(|line| {
            self.0.write_str(line)?;
            if line.ends_with('\n') { self.0.write_str("  ") } else { Ok(()) }
        })
    }
}

/// Says whether the client would come in; `Ok(false)` if anything refuses it.
#[inline(never)]
pub fn explain(
    question: &Matter<'_>,
    wrappers: &mut Wrappers,
    effects: &mut Effects,
    clock: fn() -> Now,
    out: &mut dyn fmt::Write,
) -> Result<bool, Errno> {
    let asked = Asked::parse(question.service, question.client);
    let mut asker = Asker::new(clock)?;
    let mut addresses = Vec::<Option<IpAddr>, ADDRESSES>::new();
    match asked.client {
        Who::Address(address, _) => drop(addresses.push(Some(address))),
        Who::Name(name) => {
            for address in asker.addresses_of(name) {
                let _ = addresses.push(Some(address));
            }
            if addresses.is_empty() {
                let _ = writeln!(out, "{}: no address of that name is found", Bytes(name));
                return Err(Errno::NOENT);
            }
        }
        Who::Unknown | Who::Paranoid => drop(addresses.push(None)),
    }
    let table = question.table;
    let is_meant = |service: &Service| {
        let same = |text| table.bytes(text).eq_ignore_ascii_case(asked.daemon);
        same(service.id) || same(service.name)
    };
    let by_daemon = |service: &Service| {
        service.flags.has(Flags::LIBWRAP) && table.bytes(service.daemon).eq_ignore_ascii_case(asked.daemon)
    };
    let is_any_meant = table.services().iter().any(is_meant);
    let is_chosen = |service: &Service| if is_any_meant { is_meant(service) } else { by_daemon(service) };
    let mut is_all_granted = true;
    for address in &addresses {
        let mut is_any = false;
        for service in table.services().iter().filter(|service| is_chosen(service)) {
            is_any = true;
            is_all_granted &=
                one(question, &asked, &mut asker, (wrappers, effects), Some(service), *address, out);
        }
        if !is_any {
            let _ = writeln!(
                out,
                "no service is named {}; as a daemon of {} and {}:",
                Bytes(asked.daemon),
                Bytes(question.tables.allow),
                Bytes(question.tables.deny)
            );
            is_all_granted &= one(question, &asked, &mut asker, (wrappers, effects), None, *address, out);
        }
    }
    Ok(is_all_granted)
}

/// One service and one address.
fn one(
    question: &Matter<'_>,
    asked: &Asked<'_>,
    asker: &mut Asker,
    (wrappers, effects): (&mut Wrappers, &mut Effects),
    service: Option<&Service>,
    address: Option<IpAddr>,
    out: &mut dyn fmt::Write,
) -> bool {
    let mut lines = heapless::String::<LINES_BYTES>::new();
    let mut is_granted = true;
    let mut is_name_asked = false;
    if service.is_some_and(|service| service.standing == Standing::Broken) {
        is_granted = false;
        let _ = writeln!(lines, "  not served: there is a mistake in what the file says of it");
    }
    if let Some(service) = service {
        is_granted &= rules(question, asker, service, address, &mut is_name_asked, &mut lines);
    }
    if service.is_none_or(|service| service.flags.has(Flags::LIBWRAP)) {
        is_granted &=
            hosts(question, asked, asker, (wrappers, effects), service, address, is_name_asked, &mut lines);
    } else {
        let _ = writeln!(lines, "  hosts.allow, hosts.deny: not asked for this service");
    }
    if let Some(service) = service {
        if service.flags.has(Flags::IDONLY) {
            is_granted &= asked.user.is_some();
            let _ = match asked.user {
                Some(user) => writeln!(lines, "  IDONLY: let in as {}", Bytes(user)),
                None => {
                    writeln!(lines, "  IDONLY: kept out, unless its ident server names a user: USER@CLIENT")
                }
            };
        }
        let _ = limits(service, &mut lines);
    }
    let id = service.map_or(asked.daemon, |service| question.table.bytes(service.id));
    let _ = write!(out, "{}: {}", Bytes(id), if is_granted { "granted" } else { "refused" });
    if let Some(address) = address {
        let _ = write!(out, " to {address}");
    }
    if let HostName::Known(name) = asker.known_name(address, false) {
        let _ = write!(out, " ({})", Bytes(name));
    }
    let _ = writeln!(out);
    let _ = out.write_str(&lines);
    is_granted
}

/// only_from, no_access and access_times.
fn rules(
    question: &Matter<'_>,
    asker: &mut Asker,
    service: &Service,
    address: Option<IpAddr>,
    is_name_asked: &mut bool,
    out: &mut dyn fmt::Write,
) -> bool {
    let table = question.table;
    let peer = address.map_or(Peer::Unknown, |address| Peer::ip(address, 0));
    let mut decision = access::decide(table, service, peer, HostName::NotAsked);
    if let (Outcome::NeedsName, Some(address)) = (decision.outcome, address) {
        *is_name_asked = true;
        let name = asker.name_of(address);
        let _ = match name {
            HostName::Known(name) => writeln!(out, "  its name is {}", Bytes(name)),
            HostName::Paranoid => writeln!(out, "  its name does not lead back to it"),
            _ => writeln!(out, "  it has no name"),
        };
        decision = access::decide(table, service, peer, name);
    }
    let is_admitted = decision.outcome == Outcome::Admitted;
    let word = if is_admitted { "let in" } else { "kept out" };
    let _ = match decision.by {
        Some(Origin { file, line }) if line > 0 => {
            writeln!(out, "  only_from, no_access: {word} by {}:{line}", Bytes(table.bytes(file)))
        }
        Some(_) => writeln!(out, "  only_from, no_access: {word}"),
        None if is_admitted && service.flags.has(Flags::ONLY_FROM) => writeln!(out, "  only_from: let in"),
        None if is_admitted => writeln!(out, "  only_from, no_access: no rule is about it"),
        None => writeln!(out, "  only_from: kept out, it is not named there"),
    };
    let mut is_time = true;
    if !service.access_times.is_empty() {
        is_time = question.minute.is_some_and(|minute| access::admits_minute(table, service, minute));
        let (hour, minute) = question.minute.map_or((0, 0), |minute| (minute / 60, minute % 60));
        let word = if is_time { "is one of them" } else { "is none of them" };
        let _ = writeln!(out, "  access_times: {hour}:{minute:02} {word}");
    }
    is_admitted && is_time
}

/// hosts.allow and hosts.deny.
#[allow(clippy::too_many_arguments, reason = "all of it is what is asked about")]
fn hosts(
    question: &Matter<'_>,
    asked: &Asked<'_>,
    asker: &mut Asker,
    (wrappers, effects): (&mut Wrappers, &mut Effects),
    service: Option<&Service>,
    address: Option<IpAddr>,
    mut is_name_asked: bool,
    out: &mut dyn fmt::Write,
) -> bool {
    let typed = asked.request();
    let daemon = service.map_or(asked.daemon, |service| question.table.bytes(service.daemon));
    // Its server accepts by itself: who comes is not known when it is asked.
    let is_hidden =
        service.is_some_and(|service| service.is_owned_by_server() && service.socket == SocketType::Stream);
    let request = Request {
        daemon,
        client: Endpoint { address: address.filter(|_| !is_hidden), is_hidden, ..typed.client },
        server: Endpoint { port: service.map(|service| service.port).or(typed.server.port), ..typed.server },
        ..typed
    };
    let told = asked.facts();
    loop {
        let client_name = match asked.client {
            Who::Unknown | Who::Paranoid => told.client_name,
            _ => asker.known_name(address, is_name_asked),
        };
        let facts = Facts { client_name, user: asked.user.map_or(User::Unknown, User::Known), ..told };
        let verdict = wrappers.evaluate(&mut Disk::plain(), &question.tables, &request, &facts);
        if let (Verdict::Need(Need::ClientName), Some(address), false) = (&verdict, address, is_name_asked) {
            is_name_asked = true;
            let _ = asker.name_of(address);
            continue;
        }
        let explanation = Explanation { verdict: &verdict, tables: &question.tables };
        let _ = write!(Indented(out), "  hosts.allow, hosts.deny: {explanation}");
        let _ = out.write_char('\n');
        if is_hidden {
            let _ = writeln!(out, "    its server accepts by itself: rules about one client let nobody in");
        }
        let (Verdict::Granted(decision) | Verdict::Delegated(decision)) = verdict else { return false };
        let is_root = service.is_none_or(|service| service.identity.is_root());
        let taken = effects.take(&mut Disk::plain(), &question.tables, &decision, &request, &facts, is_root);
        if let Err(fault) = taken {
            let _ = writeln!(out, "    but {fault}");
        }
        return taken.is_ok();
    }
}

/// What a client that is let in may still meet.
fn limits(service: &Service, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut lead = "  limits: ";
    let mut limit = |text: fmt::Arguments<'_>| {
        out.write_str(core::mem::replace(&mut lead, ", "))?;
        out.write_fmt(text)
    };
    if let Some(most) = service.instances {
        limit(format_args!("instances {most}"))?;
    }
    if let Some(most) = service.per_source {
        limit(format_args!("per_source {most}"))?;
    }
    if let Some(cps) = service.cps.filter(|cps| cps.rate > 0 || cps.pause > 0) {
        limit(format_args!("cps {} {}", cps.rate, cps.pause))?;
    }
    if let Some(load) = service.max_load {
        limit(format_args!("max_load {}.{:02}", load / 100, load % 100))?;
    }
    if let Some(most) = service.per_minute {
        limit(format_args!("{most} starts a minute"))?;
    }
    if let Some(most) = service.per_minute_source {
        limit(format_args!("{most} starts a minute for one address"))?;
    }
    if lead == ", " { out.write_char('\n') } else { Ok(()) }
}
