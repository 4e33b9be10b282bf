//! Whether a client may come in: his own share first, then rules, what has to be asked for them, and what all share.
//!
//! ```text
//!  arrive ──> own share ──> judge ──> admitted ──> limits ──> enter ──> answered
//!    ^            └─────────> ├─────> refused ───> turned away
//!    │                        └─────> turns on a name, a user, a command ──> wait
//!    └───────────────────────────────────────── resume <── the answer, or its deadline
//! ```
//!
//! [`judge`](Engine::judge) is asked from the beginning whenever something more is known: rules are cheap, and nothing
//! is remembered of them that could be wrong by then. Who waits holds one place in one table, and his connection; he
//! counts among the clients of his service, so that he uses up his own share and no one else's.

use core::net::IpAddr;

use heapless::Vec;

use super::Tables as _;
use super::{Engine, Purpose, ServiceIndex, Severity};
use crate::access::{self, Outcome};
use crate::addr::{HostName, Peer, Prefix};
use crate::backend::{Backend, End, Given, Pid, Spawn};
use crate::capacity::{BANNER_BYTES, COMMANDS, EFFECT_BYTES, NAMES, WAITING};
use crate::errno::Errno;
use crate::ident;
use crate::record::{Banner, Fact, Refusal};
use crate::resolver::Lookup;
use crate::resolver::dns::Name;
use crate::service::{Answer, Family, Flags, Host, LogFields, Service, SocketType, Standing, Target};
use crate::slots::Handle;
use crate::table::Table;
use crate::tcpmux;
use crate::time::{Instant, Now};
use crate::wrappers::{
    self, Commands, Effects, Endpoint, Facts, Need, Place, Ran, Request, User, Verdict, Why,
};

/// Places of one address, or of one IPv6 /64, among [`WAITING`].
const WAITING_EACH: usize = if WAITING < 8 { 1 } else { WAITING / 8 };
/// Results of aclexec commands that one client's rules may turn on; one more refuses.
const RAN: usize = 4;
/// Longest wait for a command, in milliseconds. One that runs longer is killed, and its client refused.
const COMMAND_MS: u64 = 10_000;
/// Spawn commands that could not be run, told in a minute.
const COMMAND_FAILURES_TOLD: u32 = 10;
/// Longest wait for a name. The resolver gives up earlier by itself.
const NAME_MS: u64 = crate::resolver::LOOKUP_MS + 1000;

/// Names a client that waits.
pub(super) type WaitingId = Handle;

/// A client at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Guest {
    /// The service he wants.
    pub service: ServiceIndex,
    /// The service at whose socket he came: another one if tcpmux sent him on.
    pub door: ServiceIndex,
    pub peer: Peer,
    /// Our end of his connection.
    pub local: Option<(IpAddr, u16)>,
}

/// A guest with his connection, which has not been answered yet.
pub(super) struct Caller<'a, B: Backend> {
    pub guest: Guest,
    /// The socket of the door, if it still listens.
    pub listener: Option<&'a B::Listener>,
    pub stream: B::Stream,
}

/// What is known of a guest's user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Identity {
    #[default]
    NotAsked,
    /// And why.
    Unknown(&'static str),
    /// `UNIX : joe`.
    Known(Vec<u8, { ident::USER_BYTES }, u8>),
}

/// What was found out about the name of an address. It stays with the guest, for the resolver may forget it before he
/// has waited for all the rest, and a host that is merely unknown is not the one that hosts.deny names or `PARANOID` is
/// about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Named {
    #[default]
    NotAsked,
    Unknown,
    Paranoid,
    Known(Name),
}

/// What has been found out about a guest for the sake of rules.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Known {
    client_name: Named,
    server_name: Named,
    pub user: Identity,
    ran: Vec<Ran, RAN, u8>,
    /// A command could not be run, or did not end in time: nobody can tell whether its rule stands.
    is_stuck: bool,
}

/// How a guest comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Plain,
    /// By hosts.allow and hosts.deny; [`Engine::effects`] has what goes with it.
    Wrapped,
    /// And a command of theirs takes the place of the server.
    Twisted,
}

/// What is to be found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    /// The name of an address, the guest's or our own.
    Name(IpAddr),
    /// Of the guest; for so many seconds, if a rule says.
    User { seconds: Option<u32> },
    /// Whether a command succeeds. Its text is the first `len` bytes of the scratch buffer.
    Command { place: Place, nth: u8, len: usize },
    /// The addresses of the host that the service redirects to: the guest is in already, and this is what the rule that
    /// let him in says of his record.
    Addresses { severity: Severity },
}

pub(super) enum Judgement {
    Admitted(Entry),
    Refused(Refusal),
    Wants(Want),
}

/// A guest that waits for something to be found out.
pub(super) struct Waiting<S> {
    pub guest: Guest,
    known: Known,
    want: Want,
    deadline: Instant,
    stream: S,
}

/// A command of hosts.allow or hosts.deny that runs.
pub(super) struct Command {
    pid: Pid,
    /// Who waits for its end: an aclexec.
    waiting: Option<(WaitingId, Place, u8)>,
}

impl Command {
    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) const fn is_awaited(&self) -> bool {
        self.waiting.is_some()
    }
}

impl Named {
    /// What the resolver says once it was asked; what it cannot tell by then is unknown.
    fn of(name: HostName<'_>) -> Named {
        match name {
            HostName::NotAsked | HostName::Unknown => Named::Unknown,
            HostName::Paranoid => Named::Paranoid,
            HostName::Known(text) => Name::from_slice(text).map_or(Named::Unknown, Named::Known),
        }
    }

    /// An end without address has no name.
    fn host_name(&self, address: Option<IpAddr>) -> HostName<'_> {
        match self {
            _ if address.is_none() => HostName::Unknown,
            Named::NotAsked => HostName::NotAsked,
            Named::Unknown => HostName::Unknown,
            Named::Paranoid => HostName::Paranoid,
            Named::Known(name) => HostName::Known(name),
        }
    }
}

impl Known {
    /// Of a datagram nobody can be asked.
    fn of_datagram() -> Known {
        Known { user: Identity::Unknown("datagram"), ..Known::default() }
    }

    fn named(&mut self, address: IpAddr, guest: &Guest, name: HostName<'_>) {
        if guest.peer.address() == Some(address) {
            self.client_name = Named::of(name);
        }
        if guest.local.is_some_and(|(local, _)| local == address) {
            self.server_name = Named::of(name);
        }
    }

    fn facts(&self, guest: &Guest) -> Facts<'_> {
        Facts {
            client_name: self.client_name.host_name(guest.peer.address()),
            server_name: self.server_name.host_name(guest.local.map(|(address, _)| address)),
            user: match &self.user {
                Identity::NotAsked => User::NotAsked,
                Identity::Unknown(_) => User::Unknown,
                Identity::Known(text) => ident::user(text).map_or(User::Unknown, User::Known),
            },
            commands: Commands::Ran(&self.ran),
        }
    }
}

impl Guest {
    /// What hosts.allow and hosts.deny are asked.
    fn request<'a>(&self, service: &Service, table: &'a Table, pid: Pid) -> Request<'a> {
        Request {
            daemon: table.bytes(service.daemon),
            client: Endpoint { is_hidden: self.peer == Peer::Unknown, ..Endpoint::from(self.peer) },
            server: Endpoint {
                address: self.local.map(|(address, _)| address),
                port: self.local.map(|(_, port)| port).or(Some(service.port)),
                ..Endpoint::default()
            },
            pid,
        }
    }
}

impl<B: Backend> Engine<B> {
    /// A connection was taken: answers it, turns it away, or lets it wait.
    #[inline(never)]
    pub(super) fn arrive(&mut self, mut caller: Caller<'_, B>, mut known: Known, now: Now, b: &mut B) {
        // First of all, and before a single file is looked at: this is what a flood from one address costs.
        if let Err(refusal) = self.own_share(&caller.guest, now) {
            return self.turn_away(caller, &known, refusal, now, b);
        }
        if caller.guest.local.is_none() && self.asks_for_local(caller.guest.service) {
            caller.guest.local = b.local(&caller.stream);
        }
        let guest = caller.guest;
        let entry = loop {
            match self.judge(&guest, &known, now, b) {
                Judgement::Admitted(entry) => break entry,
                Judgement::Refused(refusal) => {
                    if refusal == Refusal::Libwrap {
                        self.run_spawns(&guest, caller.listener, now, b);
                        self.wrapped_banner(&guest, &known, &caller.stream, b);
                    }
                    return self.turn_away(caller, &known, refusal, now, b);
                }
                Judgement::Wants(want) => {
                    if let Want::Name(address) = want
                        && self.is_named(address, &guest, &mut known, now)
                    {
                        continue;
                    }
                    // Who would not be let in whatever is found out costs nobody a question.
                    let entry = Entry::Plain;
                    if let Err(refusal) = self.limits(&guest, entry, b).and_then(|()| self.may_wait(&guest)) {
                        return self.turn_away(caller, &known, refusal, now, b);
                    }
                    if let Want::Name(address) = want {
                        match self.look_up(address, now, b) {
                            Lookup::Done => {
                                known.named(address, &guest, self.resolver.name(address, now.mono));
                                continue;
                            }
                            Lookup::Pending => {}
                            Lookup::Full => {
                                return self.turn_away(caller, &known, Refusal::LookupLimit, now, b);
                            }
                        }
                    }
                    return self.wait(caller, known, want, now, b);
                }
            }
        };
        match self.limits(&guest, entry, b).and_then(|()| self.take_place(&guest, now)) {
            Ok(()) => self.enter(caller, &known, entry, now, b),
            Err(refusal) => self.turn_away(caller, &known, refusal, now, b),
        }
    }

    /// Whether the sender of a datagram may come in, or whoever will be accepted by a server that owns its socket.
    /// Neither can wait: a datagram whose sender's name is not known yet is refused, and the next one may find it known.
    pub(super) fn admit(&mut self, guest: &Guest, now: Now, b: &mut B) -> Result<Entry, Refusal> {
        self.own_share(guest, now)?;
        let mut known = Known::of_datagram();
        let entry = loop {
            match self.judge(guest, &known, now, b) {
                Judgement::Admitted(entry) => break entry,
                Judgement::Refused(refusal) => return Err(refusal),
                Judgement::Wants(Want::Name(address)) => {
                    if self.is_named(address, guest, &mut known, now) {
                        continue;
                    }
                    self.limits(guest, Entry::Plain, b)?;
                    // Whose address stands in a datagram need not have sent it, so shares of addresses do not help.
                    if self.resolver.asking() >= NAMES / 2 {
                        return Err(Refusal::LookupLimit);
                    }
                    match self.look_up(address, now, b) {
                        Lookup::Done => known.named(address, guest, self.resolver.name(address, now.mono)),
                        Lookup::Pending => return Err(Refusal::NamePending),
                        Lookup::Full => return Err(Refusal::LookupLimit),
                    }
                }
                Judgement::Wants(_) => {
                    self.reason.clear();
                    return Err(Refusal::Libwrap);
                }
            }
        };
        self.limits(guest, entry, b)?;
        self.take_place(guest, now)?;
        Ok(entry)
    }

    /// What the rules say, knowing just that. Who is refused for what only he did (a sensor, his address, the time) is
    /// asked about before limits, so that he does not use up what all share: a client that may not come in cannot trip
    /// `cps`.
    fn judge(&mut self, guest: &Guest, known: &Known, now: Now, b: &mut B) -> Judgement {
        use Judgement::{Admitted, Refused, Wants};
        let table = self.tables.serving();
        let Some(service) = table.service(guest.service) else { return Refused(Refusal::ServiceLimit) };
        let peer = guest.peer;
        if peer.address().is_some_and(|address| self.denied.holds(address, now.mono)) {
            return Refused(Refusal::Address);
        }
        // What the resolver knows from somebody else counts only where the rules turn on it: what `%h` stands for does
        // not depend on who came before.
        let facts = known.facts(guest);
        // Whoever waits at a socket that its server will own has passed the guard, if there is one.
        let is_guarded = B::GUARDS && peer == Peer::Unknown && service.family != Family::Unix;
        if !is_guarded {
            match (access::decide(table, service, peer, facts.client_name).outcome, peer.address()) {
                (Outcome::Admitted, _) => {}
                (Outcome::NeedsName, Some(address)) => return Wants(Want::Name(address)),
                (Outcome::Refused | Outcome::NeedsName, _) => return Refused(Refusal::Address),
            }
        }
        if !service.access_times.is_empty() {
            // Without the time of day nobody can tell whether this is the time.
            let minute = now.unix.map(|unix| self.zone.at(unix).minute_of_day());
            if !minute.is_some_and(|minute| access::admits_minute(table, service, minute)) {
                return Refused(Refusal::Time);
            }
        }
        let mut entry = Entry::Plain;
        if service.flags.has(Flags::LIBWRAP) {
            let request = guest.request(service, table, self.pid);
            let tables = wrappers::Tables {
                allow: &self.hosts_allow,
                deny: &self.hosts_deny,
                ..wrappers::Tables::default()
            };
            self.effects.clear();
            self.reason.clear();
            let verdict = self.wrappers.evaluate(b.files(), &tables, &request, &facts);
            let (decision, outcome) = match verdict {
                Verdict::Granted(decision) => (decision, Ok(Entry::Wrapped)),
                Verdict::Delegated(decision) => (decision, Ok(Entry::Twisted)),
                Verdict::Refused(decision) => (decision, Err(Refusal::Libwrap)),
                Verdict::Need(need) => {
                    let local = guest.local.map(|(address, _)| address);
                    return match need {
                        Need::ClientName => peer.address().map(Want::Name),
                        Need::ServerName => local.map(Want::Name),
                        Need::User { seconds } => Some(Want::User { seconds }),
                        Need::Command { place, nth, command } if !known.is_stuck && !known.ran.is_full() => {
                            command_text(command, &request, &facts, &mut self.scratch)
                                .map(|len| Want::Command { place, nth, len })
                        }
                        Need::Command { place, .. } => {
                            let _ = self.reason.push((Some(place), Why::Rule));
                            None
                        }
                    }
                    .map_or(Refused(Refusal::Libwrap), Wants);
                }
            };
            let mut why = decision.why;
            // Whom a file makes somebody a rule must not make somebody else.
            let is_root = self.is_root && service.identity.is_root();
            let taken = self.effects.take(b.files(), &tables, &decision, &request, &facts, is_root);
            if let (Err(fault), Some(place)) = (taken, decision.place) {
                why = Why::Fault { fault, line: place.line, column: 1 };
            }
            let _ = self.reason.push((decision.place, why));
            match outcome {
                Ok(found) if taken.is_ok() => entry = found,
                _ => return Refused(Refusal::Libwrap),
            }
        }
        if service.flags.has(Flags::IDONLY) {
            match &known.user {
                Identity::Known(_) => {}
                Identity::NotAsked => return Wants(Want::User { seconds: None }),
                Identity::Unknown(why) => {
                    self.note(guest.service, Fact::NoId { peer, why }, b);
                    return Refused(Refusal::Identity);
                }
            }
        }
        Admitted(entry)
    }

    /// Whether there is room for one more in the share of his own address.
    fn own_share(&self, guest: &Guest, now: Now) -> Result<(), Refusal> {
        let index = guest.service;
        let service = self.table().service(index).ok_or(Refusal::ServiceLimit)?;
        if let (Some(most), Some(address)) = (service.per_source, guest.peer.address()) {
            let own = self.tenants().filter(|t| *t == (index, Some(address))).count();
            if own as u64 >= u64::from(most) {
                return Err(Refusal::PerSourceLimit);
            }
        }
        if let (Some(most), Some(address)) = (service.per_minute_source, guest.peer.address())
            && self.sources.is_full(index, address, now.mono, most)
        {
            return Err(Refusal::PerMinuteLimit);
        }
        Ok(())
    }

    /// Whether there is room for one more who comes in that way, in what all share.
    fn limits(&self, guest: &Guest, entry: Entry, b: &mut B) -> Result<(), Refusal> {
        let index = guest.service;
        let (Some(service), Some(run)) = (self.table().service(index), self.runs.get(usize::from(index)))
        else {
            return Err(Refusal::ServiceLimit);
        };
        if service.instances.is_some_and(|most| u32::from(run.running) >= most) {
            return Err(Refusal::ServiceLimit);
        }
        if service.max_load.is_some_and(|most| b.load().is_some_and(|load| load >= most)) {
            return Err(Refusal::Load);
        }
        if (service.is_program() || entry == Entry::Twisted)
            && (self.servers.is_full()
                || self.limit.is_some_and(|limit| self.servers.len() as u64 >= u64::from(limit)))
        {
            return Err(Refusal::ProcessLimit);
        }
        Ok(())
    }

    /// Counts one who really comes in.
    fn take_place(&mut self, guest: &Guest, now: Now) -> Result<(), Refusal> {
        let index = guest.service;
        let table = self.tables.serving();
        let at = usize::from(index);
        let (Some(service), Some(run)) = (table.service(index), self.runs.get_mut(at)) else {
            return Err(Refusal::ServiceLimit);
        };
        if service.cps.is_some_and(|cps| !run.cps.take_cps(now.mono, cps)) {
            return Err(Refusal::ConnectionsPerSecond);
        }
        if let Some(limit) = service.per_minute {
            run.minute.take_minute(now.mono, limit);
        }
        // Only who really comes in is counted: one who trips `cps` and waits on is asked about again.
        if let (Some(most), Some(address)) = (service.per_minute_source, guest.peer.address()) {
            self.sources.take(index, address, now.mono, most);
        }
        Ok(())
    }

    /// A connection that may not come in.
    pub(super) fn turn_away(
        &mut self,
        caller: Caller<'_, B>,
        known: &Known,
        refusal: Refusal,
        now: Now,
        b: &mut B,
    ) {
        let Caller { guest, listener, stream } = caller;
        self.banner(guest.service, Banner::Fail, &stream, b);
        if guest.door != guest.service {
            let _ = b.tell(&stream, tcpmux::UNAVAILABLE);
        }
        self.refuse(guest.service, refusal, guest.peer, b);
        self.record_user(&guest, &stream, known, false, now, b);
        b.close(stream);
        if refusal == Refusal::ConnectionsPerSecond
            && guest.door == guest.service
            && self.is_taking(guest.door)
            && let Some(listener) = listener
        {
            self.pause_for_cps(guest.service, listener, now, b);
        }
    }

    /// A connection that may come in.
    fn enter(&mut self, caller: Caller<'_, B>, known: &Known, entry: Entry, now: Now, b: &mut B) {
        let Caller { guest, listener, stream } = &caller;
        let guest = *guest;
        if entry != Entry::Plain {
            self.run_spawns(&guest, *listener, now, b);
            if self.effects.keepalive {
                b.keep_alive(stream);
            }
            if let Some(seconds) = self.effects.linger {
                b.linger(stream, seconds);
            }
            self.wrapped_banner(&guest, known, stream, b);
        }
        self.banner(guest.service, Banner::Success, stream, b);
        let Some(service) = self.table().service(guest.service) else { return b.close(caller.stream) };
        if service.flags.has(Flags::MUX_PLUS) {
            let _ = b.tell(stream, tcpmux::GO);
        }
        self.record_user(&guest, stream, known, true, now, b);
        self.answer(caller, entry, now, b);
    }

    /// Puts a client's user into the log, if the service wants him there: asked for in the background, unless a rule
    /// has asked already.
    fn record_user(
        &mut self,
        guest: &Guest,
        stream: &B::Stream,
        known: &Known,
        is_success: bool,
        now: Now,
        b: &mut B,
    ) {
        let Some(service) = self.table().service(guest.service) else { return };
        let fields = if is_success { service.log_on_success } else { service.log_on_failure };
        if !fields.has(LogFields::USERID) || service.socket != SocketType::Stream {
            return;
        }
        match &known.user {
            Identity::Known(text) => self.note(guest.service, Fact::UserId { text }, b),
            Identity::Unknown(_) => {}
            Identity::NotAsked => {
                let local = guest.local.or_else(|| b.local(stream));
                // If it cannot be asked for there is nothing to record.
                let _ = self.ask_user(guest.peer, local, None, Purpose::Record(guest.service), now, b);
            }
        }
    }

    /// Whether there is a place for one more who waits. He is there already, as far as limits go.
    pub(super) fn may_wait(&self, guest: &Guest) -> Result<(), Refusal> {
        let holder = |peer: Peer| peer.address().map(Prefix::holder);
        let own = self.waiting.iter().filter(|(_, w)| holder(w.guest.peer) == holder(guest.peer)).count();
        if own >= WAITING_EACH || self.waiting.is_full() { Err(Refusal::LookupLimit) } else { Ok(()) }
    }

    /// Puts a guest aside until something is found out; that he [may](Engine::may_wait) has been asked.
    fn wait(&mut self, caller: Caller<'_, B>, known: Known, want: Want, now: Now, b: &mut B) {
        let ms = match want {
            Want::Name(_) | Want::Addresses { .. } => NAME_MS,
            // It has a deadline of its own.
            Want::User { .. } => u64::from(u32::MAX),
            Want::Command { .. } => COMMAND_MS,
        };
        let deadline = now.mono.plus_ms(ms);
        let Caller { guest, listener, stream } = caller;
        let waiting = Waiting { guest, known, want, deadline, stream };
        let Ok(id) = self.waiting.insert(waiting) else { return };
        if let Some(run) = self.runs.get_mut(usize::from(guest.service)) {
            run.running += 1;
        }
        self.timers_changed = true;
        let begun = match want {
            Want::Name(_) | Want::Addresses { .. } => Ok(()),
            Want::User { seconds } => {
                self.ask_user(guest.peer, guest.local, seconds, Purpose::Guest(id), now, b)
            }
            Want::Command { place, nth, len } => {
                let text = self.scratch.get(..len).unwrap_or(&[]);
                let errand = Errand { guest: &guest, text, effects: None, waiting: Some((id, place, nth)) };
                let table = self.tables.serving();
                let begun = errand.begin(&mut self.commands, table, listener, b);
                if let Err(errno) = begun {
                    self.note(guest.service, Fact::CommandFailed { errno }, b);
                }
                begun.map_err(|_| "system error")
            }
        };
        if let Err(why) = begun {
            self.give_up(id, why, now);
            self.go_in(id, listener, now, b);
        }
    }

    /// Nothing will be found out about one who waits.
    fn give_up(&mut self, id: WaitingId, why: &'static str, now: Now) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        match waiting.want {
            Want::Name(address) => {
                waiting.known.named(address, &waiting.guest, self.resolver.name(address, now.mono));
            }
            Want::User { .. } => waiting.known.user = Identity::Unknown(why),
            Want::Command { .. } => waiting.known.is_stuck = true,
            Want::Addresses { .. } => {}
        }
    }

    /// Goes on with one who waited, with the listener he came by in its place.
    pub(super) fn resume(&mut self, id: WaitingId, now: Now, b: &mut B) {
        let Some(door) = self.waiting.get(id).map(|waiting| waiting.guest.door) else { return };
        let listener = self.runs.get_mut(usize::from(door)).and_then(|run| run.listener.take());
        self.go_in(id, listener.as_ref(), now, b);
        if let (Some(listener), Some(run)) = (listener, self.runs.get_mut(usize::from(door))) {
            run.listener = Some(listener);
        }
        self.wake_full(now, b);
    }

    fn go_in(&mut self, id: WaitingId, listener: Option<&B::Listener>, now: Now, b: &mut B) {
        let Some(Waiting { guest, known, want, stream, .. }) = self.waiting.remove(id) else { return };
        self.timers_changed = true;
        if let Some(run) = self.runs.get_mut(usize::from(guest.service)) {
            run.running = run.running.saturating_sub(1);
        }
        // His service went with a reload, or its server takes its clients itself by now, or tcpmux, by which he came, does not
        // lead to it any more.
        let is_there = self.table().service(guest.service).is_some_and(|service| {
            service.standing == Standing::Ready
                && !service.is_owned_by_server()
                && (guest.door == guest.service || super::is_behind_mux(service))
        });
        if !is_there {
            b.close(stream);
            return;
        }
        match want {
            // He is in, and a reload meanwhile may ask for him to be looked at again.
            Want::Addresses { severity } => match self.ousts(guest.service, guest.peer, now.mono, now) {
                Some(refusal) => {
                    self.refuse(guest.service, refusal, guest.peer, b);
                    b.close(stream);
                }
                None => self.redirect(guest, stream, severity, now, b),
            },
            _ => self.arrive(Caller { guest, listener, stream }, known, now, b),
        }
    }

    /// The user of one who waits is known, or will not be.
    pub(super) fn user_found(&mut self, id: WaitingId, user: Identity, now: Now, b: &mut B) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.known.user = user;
            self.resume(id, now, b);
        }
    }

    /// Goes on with all whose name has been found out.
    pub(super) fn resume_named(&mut self, now: Now, b: &mut B) {
        let mut found = Vec::<WaitingId, WAITING>::new();
        for (id, waiting) in self.waiting.iter() {
            let is_found = match waiting.want {
                Want::Name(address) => self.resolver.name(address, now.mono) != HostName::NotAsked,
                Want::Addresses { .. } => match self.redirect_host(waiting.guest.service) {
                    Some(name) => self.resolver.addresses(name, now.mono).is_some(),
                    None => true,
                },
                _ => false,
            };
            if is_found {
                let _ = found.push(id);
            }
        }
        // All of them first: what one of them asks for next may take the place of what the others have waited for.
        for &id in &found {
            self.give_up(id, "", now);
        }
        for id in found {
            self.resume(id, now, b);
        }
    }

    /// Goes on with all who have waited long enough.
    pub(super) fn resume_overdue(&mut self, now: Now, b: &mut B) {
        let mut overdue = Vec::<WaitingId, WAITING>::new();
        for (id, _) in self.waiting.iter().filter(|(_, waiting)| waiting.deadline <= now.mono) {
            let _ = overdue.push(id);
        }
        for id in overdue {
            for command in &mut self.commands {
                if command.waiting.take_if(|(waiting, ..)| *waiting == id).is_some() {
                    b.end(command.pid, End::Kill);
                }
            }
            self.give_up(id, "timeout", now);
            self.resume(id, now, b);
        }
    }

    /// The earliest deadline of those who wait.
    pub(super) fn waiting_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|(_, waiting)| waiting.deadline).min()
    }

    /// The name a service redirects to, if it is a name.
    pub(super) fn redirect_host(&self, index: ServiceIndex) -> Option<&[u8]> {
        match self.table().service(index)?.answer {
            Answer::Redirect(Target { host: Host::Name(name), .. }) => Some(self.table().bytes(name)),
            _ => None,
        }
    }

    /// Whether the resolver knows the name of an address, or that it has none, without asking anybody; the guest's then.
    fn is_named(&self, address: IpAddr, guest: &Guest, known: &mut Known, now: Now) -> bool {
        let name = self.resolver.name(address, now.mono);
        let is_known = name != HostName::NotAsked;
        if is_known {
            known.named(address, guest, name);
        }
        is_known
    }

    fn look_up(&mut self, address: IpAddr, now: Now, b: &mut B) -> Lookup {
        let (files, mut network) = b.resolving();
        self.timers_changed = true;
        self.resolver.name_of(address, now.mono, files, &mut network)
    }

    /// One who is in waits for the address of the host he is led to.
    pub(super) fn wait_for_host(
        &mut self,
        guest: Guest,
        stream: B::Stream,
        severity: Severity,
        now: Now,
        b: &mut B,
    ) {
        let want = Want::Addresses { severity };
        self.wait(Caller { guest, listener: None, stream }, Known::default(), want, now, b);
    }

    /// Runs the `spawn` commands of the rule that has just decided. They are not waited for.
    pub(super) fn run_spawns(&mut self, guest: &Guest, listener: Option<&B::Listener>, now: Now, b: &mut B) {
        let mut failed = None;
        for text in self.effects.spawns() {
            let table = self.tables.serving();
            let errand = Errand { guest, text, effects: Some(&self.effects), waiting: None };
            if let Err(errno) = errand.begin(&mut self.commands, table, listener, b) {
                failed = Some(errno);
            }
        }
        // Datagrams cost their senders nothing.
        if let Some(errno) = failed
            && self.command_failures.take_minute(now.mono, COMMAND_FAILURES_TOLD)
        {
            self.note(guest.service, Fact::CommandFailed { errno }, b);
        }
    }

    /// A child ended that is no server: whether it was a command. `passed`: its status was 0; `None` if it never became
    /// its program.
    pub(super) fn command_ended(&mut self, pid: Pid, passed: Option<bool>, now: Now, b: &mut B) -> bool {
        let Some(at) = self.commands.iter().position(|command| command.pid == pid) else { return false };
        let Command { waiting, .. } = self.commands.swap_remove(at);
        if let Some((id, place, nth)) = waiting
            && let Some(waiting) = self.waiting.get_mut(id)
        {
            // Room for one more was seen when it was begun.
            waiting.known.is_stuck |=
                passed.is_none_or(|passed| waiting.known.ran.push(Ran { place, nth, passed }).is_err());
            self.resume(id, now, b);
        }
        true
    }

    /// Tells all commands to end.
    pub(super) fn end_commands(&mut self, how: End, b: &mut B) {
        for command in &self.commands {
            b.end(command.pid, how);
        }
    }

    /// Closes all who wait.
    pub(super) fn end_waiting(&mut self, b: &mut B) {
        while let Some(id) = self.waiting.find(|_| true) {
            if let Some(waiting) = self.waiting.remove(id) {
                if let Some(run) = self.runs.get_mut(usize::from(waiting.guest.service)) {
                    run.running = run.running.saturating_sub(1);
                }
                b.close(waiting.stream);
            }
        }
        self.timers_changed = true;
    }

    /// Sends the file that the `banners` option of the rule names, expanded.
    #[inline(never)]
    fn wrapped_banner(&mut self, guest: &Guest, known: &Known, stream: &B::Stream, b: &mut B) {
        if self.effects.banners().next().is_none() {
            return;
        }
        let table = self.table();
        let Some(service) = table.service(guest.service) else { return };
        let request = guest.request(service, table, self.pid);
        let facts = known.facts(guest);
        let mut raw = [0; BANNER_BYTES];
        let mut out = [0; BANNER_BYTES];
        for path in self.effects.banners() {
            let path = path.strip_suffix(b"\0").unwrap_or(path);
            // A file that is not there is none.
            let Ok(len) = super::read_head(b.files(), path, &mut raw) else { continue };
            let text = raw.get(..len).unwrap_or(&[]);
            let banner = wrappers::expand_banner(text, &request, &facts, &mut out);
            let _ = b.tell(stream, banner.text);
        }
    }
}

/// The command of a rule, expanded, with a NUL byte behind it; its length, or `None` if it does not fit.
#[inline(never)]
fn command_text(
    command: wrappers::Value<'_>,
    request: &Request<'_>,
    facts: &Facts<'_>,
    buf: &mut [u8],
) -> Option<usize> {
    let mut text = [0; EFFECT_BYTES];
    let text = wrappers::expand(command, request, facts, &mut text).ok()?;
    buf.get_mut(..text.len())?.copy_from_slice(text);
    *buf.get_mut(text.len())? = 0;
    Some(text.len() + 1)
}

/// A command that goes with a guest.
struct Errand<'a> {
    guest: &'a Guest,
    text: &'a [u8],
    effects: Option<&'a Effects>,
    waiting: Option<(WaitingId, Place, u8)>,
}

impl Errand<'_> {
    /// Starts it with the user and everything else of the guest's service.
    fn begin<B: Backend>(
        &self,
        commands: &mut Vec<Command, COMMANDS>,
        table: &Table,
        listener: Option<&B::Listener>,
        b: &mut B,
    ) -> Result<(), Errno> {
        if commands.is_full() {
            return Err(Errno::AGAIN);
        }
        let Errand { guest, text, effects, waiting } = *self;
        let service = table.service(guest.service).ok_or(Errno::INVAL)?;
        let (peer, command, given) = (guest.peer, Some(text), Given::Nothing);
        let pid = b.spawn(Spawn { table, service, listener, given, peer, effects, command })?;
        let _ = commands.push(Command { pid, waiting });
        Ok(())
    }
}
