//! The super-server itself, as a function of its inputs.
//!
//! An [`Event`] and the time go in; what is to be done comes out as calls of the [`Backend`]. A connection's life is
//! one walk, and this file keeps its order: listener ready, taken, admitted or refused, answered by a built-in service
//! or by a server, ended, slot free, recorded. The bytes of built-in services do not pass through here: they go between
//! a session's [`Talk`] and its stream.
//!
//! No clock, and no file or random number but through the backend: the same inputs give the same calls.

mod admission;
mod inquiry;
mod relay;
mod reload;
mod standby;
mod succession;
mod tables;
mod timeout;

use core::net::IpAddr;

use heapless::Vec;

use crate::addr::Peer;
use crate::backend::{Backend, End, Given, Pid, ServiceId, SessionId, Spawn, StreamId};
use crate::builtin::{self, Chargen, Step, Talk};
use crate::capacity::{
    ACCEPTS_A_TURN, BANNER_BYTES, COMMANDS, DATAGRAM_BYTES, DATAGRAMS_A_TURN, IDENTS, PATH_BYTES, RELAYS,
    SCRATCH_BYTES, SERVERS, SERVICES, SESSIONS, STANDBYS, WAITING,
};
use crate::config::source::Files;
use crate::errno::Errno;
use crate::limits::{Denied, Refusals, Sources, Window};
use crate::record::{Banner, ChildStep, Ending, Fact, Record, Refusal};
use crate::resolver::{QuestionId, Resolver};
use crate::service::{Answer, Builtin, DenyTime, Dialect, Family, Flags, Service, SocketType};
use crate::slots::Slots;
use crate::table::{ServiceIndex, Table};
use crate::tcpmux;
use crate::time::{Instant, Now};
use crate::wrappers::{Effects, Place, Why, Wrappers};
use crate::zone::Zone;
use admission::{Caller, Command, Entry, Guest, Known, Waiting};
use inquiry::{Inquiry, Purpose};
use relay::Relay;
use standby::{Dismissed, Standby};
pub use succession::Tenancy;
pub use tables::{OneTable, TablePair, Tables};
pub use timeout::GRACE_MS;
use timeout::Notice;

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// Something waits at a service's listener.
    Ready(ServiceId),
    /// A watched stream has something to read, has room again, or is gone.
    Stream(StreamId),
    /// A child ended. `failed` tells which step before its program went wrong, if one did.
    Ended { pid: Pid, ending: Ending, failed: Option<(ChildStep, Errno)> },
    /// A name server answered, or cannot.
    Answer(QuestionId),
    /// A deadline of [`Engine::next_deadline`] may have come.
    Tick,
}

impl Event {
    /// Tells it as a frame, with what one of its kind is worth: servers that end and answers that come are fewer than the
    /// rest.
    #[cfg(feature = "defmt")]
    fn frame(self) {
        match self {
            Event::Ended { .. } | Event::Answer(_) => defmt::debug!("{}", self),
            Event::Ready(_) | Event::Stream(_) | Event::Tick => defmt::trace!("{}", self),
        }
    }

    #[cfg(not(feature = "defmt"))]
    const fn frame(self) {}
}

/// What a service is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// Not started: broken or departed; or the daemon has stopped listening.
    #[default]
    Off,
    /// Taking clients as they come.
    Listening,
    /// Its wait server owns the socket.
    Busy,
    /// All places are taken; clients wait in the backlog until one is free.
    Full,
    /// Takes nobody until then (cps, starts a minute, a hasty wait server, no descriptors).
    Paused { until: Instant },
    /// Has no socket yet; tries again then.
    Retry { at: Instant },
}

/// A service at run time. What is configured is in the table at the same index.
struct Run<L> {
    listener: Option<L>,
    state: State,
    /// The pause was announced (cps, starts a minute): its end is, too.
    told: bool,
    /// Servers and sessions of it that live.
    running: u16,
    /// Connections or starts since it was configured first.
    started: u64,
    refused: u64,
    /// Refused datagrams, as far as they are told one by one.
    refusals: Refusals,
    cps: Window,
    /// At most so many more have waited through the pause of `cps`. They came in all of its seconds, not in this one: what
    /// is too much of them is refused and begins no other pause.
    late: u16,
    minute: Window,
    /// Wait servers in a row that ended at once and took nothing.
    hasty: u8,
    /// Something came to the socket that its server owns since that was last looked at.
    stirred: bool,
    /// A reload came while a server owned the socket: it is made right when that server has ended.
    refits_later: bool,
    /// Failures in a row to make the socket.
    listen_failures: u8,
    chargen: Option<Chargen>,
}

impl<L> Run<L> {
    const fn new() -> Self {
        Run {
            listener: None,
            state: State::Off,
            told: false,
            running: 0,
            started: 0,
            refused: 0,
            refusals: Refusals::new(),
            cps: Window::new(),
            late: 0,
            minute: Window::new(),
            hasty: 0,
            stirred: false,
            refits_later: false,
            listen_failures: 0,
            chargen: None,
        }
    }
}

/// A program that runs.
struct Server {
    service: ServiceIndex,
    pid: Pid,
    peer: Peer,
    began: Instant,
    /// Owns the service's socket; what waited there when it was started.
    holds: Option<u64>,
    /// Owns a socket that its service has no more: another that wants the place cannot have it yet.
    blocks: bool,
    /// When it was looked last whether anything comes to the socket that it owns, and how often in a row nothing had.
    looked: Instant,
    quiet: u8,
    /// How much had been taken from it then ([`Backend::taken`]).
    taken: u64,
    notice: Notice,
}

impl Server {
    fn new(service: ServiceIndex, pid: Pid, peer: Peer, holds: Option<u64>, now: Now) -> Server {
        let (began, notice) = (now.mono, Notice::None);
        Server { service, pid, peer, began, holds, blocks: false, looked: began, quiet: 0, taken: 0, notice }
    }
}

/// A client of a built-in stream service.
struct Session<S, C> {
    service: ServiceIndex,
    peer: Peer,
    began: Instant,
    /// When something came or could be sent last.
    last: Instant,
    /// When it must have said what it wants: tcpmux.
    deadline: Option<Instant>,
    talk: Talk,
    /// Of a service of the firmware's own.
    own: C,
    waits_for: Step,
    moved: u64,
    stream: S,
}

impl<S, C: Default> Session<S, C> {
    fn new(guest: &Guest, talk: Talk, stream: S, now: Now) -> Self {
        let waits_for = talk.first();
        let Guest { service, peer, .. } = *guest;
        let own = C::default();
        let began = now.mono;
        let last = began;
        Session { service, peer, began, last, deadline: None, talk, own, waits_for, moved: 0, stream }
    }
}

/// Facility and level that a rule of hosts.allow or hosts.deny names, if one does.
type Severity = Option<(Option<u8>, u8)>;

/// Why nobody is taken from a backlog.
#[derive(Clone, Copy)]
enum Obstacle {
    /// The table of servers, or of sessions, is full.
    Table,
    /// inetd's limit of servers at one time.
    Instances,
    /// Starts a minute.
    Minute { until: Instant, seconds: u64 },
}

/// What a reload did, in services.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Same socket, same settings or new ones.
    pub kept: u16,
    pub added: u16,
    pub removed: u16,
    /// Broken in the new files; the running predecessor was kept.
    pub preserved: u16,
    /// Broken in the new files, and the table has no room to keep the predecessor: it stopped listening.
    pub lost: u16,
}

/// A look at one service for the state dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    pub state: State,
    pub running: u16,
    pub started: u64,
    pub refused: u64,
}

/// A wait server that lived shorter than this and took nothing is hasty.
const HASTY_MS: u64 = 1000;
/// Hasty servers in a row that are started again at once.
const HASTY_FREE: u8 = 3;
/// The first delay after that; it doubles up to [`HASTY_LONGEST_MS`].
const HASTY_FIRST_MS: u64 = 200;
const HASTY_LONGEST_MS: u64 = 10_000;
/// Between attempts to make a socket: 1, 2, 4 … seconds, at most this. An address may come up any time.
const LISTEN_LONGEST_S: u64 = 16;
/// Pause after accept or fork found no descriptors, memory or processes.
const STARVED_MS: u64 = 1000;

// Handles and counts are 16 bits wide.
const _: () = assert!(SERVERS + SESSIONS < 65536);

pub struct Engine<B: Backend> {
    tables: B::Tables,
    generation: u16,
    runs: Vec<Run<B::Listener>, SERVICES>,
    servers: Slots<Server, SERVERS>,
    sessions: Slots<Session<B::Stream, B::OwnClient>, SESSIONS>,
    /// Those of tcpmux, which have deadlines.
    unnamed: u16,
    relays: Slots<Relay<B::Stream>, RELAYS>,
    /// Servers that wait for clients, and those that were told to wait no longer.
    standbys: Vec<Standby<B::Stream>, STANDBYS>,
    dismissed: Vec<Dismissed, STANDBYS>,
    /// Clients of whom something has to be found out first.
    waiting: Slots<Waiting<B::Stream>, WAITING>,
    idents: Slots<Inquiry<B::Stream>, IDENTS>,
    /// Commands of hosts.allow and hosts.deny that run.
    commands: Vec<Command, COMMANDS>,
    command_failures: Window,
    resolver: Resolver<B::Question>,
    wrappers: Wrappers,
    hosts_allow: Vec<u8, PATH_BYTES>,
    hosts_deny: Vec<u8, PATH_BYTES>,
    /// What the rule of hosts.allow or hosts.deny that was found last asks for.
    effects: Effects,
    /// Why they refused last; empty if it is no rule that did.
    reason: Vec<(Option<Place>, Why), 1>,
    /// Our own, for `%p`.
    pid: Pid,
    is_root: bool,
    denied: Denied,
    sources: Sources,
    zone: Zone,
    /// Most servers at one time (-limit); the table's size bounds it too.
    limit: Option<u32>,
    /// That a table is full has been logged, and it has not been half empty since.
    full_told: bool,
    /// The earliest deadline, and whether it must be looked for again.
    deadline: Option<Instant>,
    timers_changed: bool,
    /// Nobody's `timeout` or `idle_timeout` is over before that; part of the deadline.
    expiry: Option<Instant>,
    /// Something listens again, or a post is free: servers that are to be there ahead may be missing.
    is_keeping: bool,
    /// Where [`place_free`](Engine::place_free) begins to look for a service that waits for a place.
    woken_first: ServiceIndex,
    scratch: [u8; SCRATCH_BYTES],
    datagram: [u8; DATAGRAM_BYTES],
}

impl<B: Backend> Engine<B> {
    pub const fn new() -> Self {
        Engine {
            tables: B::Tables::NEW,
            generation: 0,
            runs: Vec::new(),
            servers: Slots::new(),
            sessions: Slots::new(),
            unnamed: 0,
            relays: Slots::new(),
            standbys: Vec::new(),
            dismissed: Vec::new(),
            waiting: Slots::new(),
            idents: Slots::new(),
            commands: Vec::new(),
            command_failures: Window::new(),
            resolver: Resolver::new(),
            wrappers: Wrappers::new(),
            hosts_allow: Vec::new(),
            hosts_deny: Vec::new(),
            effects: Effects::new(),
            reason: Vec::new(),
            pid: 0,
            is_root: false,
            denied: Denied::new(),
            sources: Sources::new(),
            zone: Zone::UTC,
            limit: None,
            full_told: false,
            deadline: None,
            timers_changed: false,
            expiry: None,
            is_keeping: false,
            woken_first: 0,
            scratch: [0; SCRATCH_BYTES],
            datagram: [0; DATAGRAM_BYTES],
        }
    }

    /// The table that serves.
    pub fn table(&self) -> &Table {
        self.tables.serving()
    }

    /// The table beside it, for the next [`adopt`](Engine::adopt); the only one, for [`begin`](Engine::begin).
    pub fn spare(&mut self) -> &mut Table {
        self.tables.filling()
    }

    /// The table that is being filled, and who reads hosts.allow and hosts.deny and carries them out: for questions before
    /// anything is served.
    pub fn examine(&mut self) -> (&Table, &mut Wrappers, &mut Effects) {
        (self.tables.filling(), &mut self.wrappers, &mut self.effects)
    }

    pub fn set_zone(&mut self, zone: Zone) {
        self.zone = zone;
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Where hosts.allow and hosts.deny are, and who we are, of which their rules may speak; `false` if a path is too long.
    pub fn set_hosts(&mut self, allow: &[u8], deny: &[u8], pid: Pid, is_root: bool) -> bool {
        self.pid = pid;
        self.is_root = is_root;
        self.hosts_allow.clear();
        self.hosts_deny.clear();
        self.hosts_allow.extend_from_slice(allow).is_ok() && self.hosts_deny.extend_from_slice(deny).is_ok()
    }

    /// Most servers at one time, over all services (xinetd's -limit).
    pub fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
    }

    /// Servers that live, and clients of our own.
    pub fn running(&self) -> usize {
        let ahead = if B::HAS_STANDBY { self.standbys().count() + self.dismissed.len() } else { 0 };
        self.clients() + ahead
    }

    /// The same without servers that have no client yet.
    fn clients(&self) -> usize {
        self.servers.len() + self.sessions.len() + self.relays.len() + self.waiting.len()
    }

    /// The service and address of everybody who is served, and who waits to be. The client of a standby server is that
    /// server as long as it lives, and then what is still on its way to him.
    fn tenants(&self) -> impl Iterator<Item = (ServiceIndex, Option<IpAddr>)> {
        let servers = self.servers.iter().map(|(_, s)| (s.service, s.peer));
        let sessions = self.sessions.iter().map(|(_, s)| (s.service, s.peer));
        let relays = self.relays.iter().filter(|(_, r)| r.is_tenant()).map(|(_, r)| (r.service, r.peer));
        let waiting = self.waiting.iter().map(|(_, w)| (w.guest.service, w.guest.peer));
        servers.chain(sessions).chain(relays).chain(waiting).map(|(service, peer)| (service, peer.address()))
    }

    /// Programs that run.
    pub fn servers(&self) -> impl Iterator<Item = (ServiceIndex, Pid, Peer, Instant)> {
        self.servers.iter().map(|(_, s)| (s.service, s.pid, s.peer, s.began))
    }

    /// Clients of built-in and redirected services, and those whose standby servers are reached through us.
    pub fn sessions(&self) -> impl Iterator<Item = (ServiceIndex, Peer, Instant, u64)> {
        let sessions = self.sessions.iter().map(|(_, s)| (s.service, s.peer, s.began, s.moved));
        sessions.chain(self.relays.iter().map(|(_, r)| (r.service, r.peer, r.began, r.moved())))
    }

    /// Clients of whom something is being found out.
    pub fn waiting(&self) -> impl Iterator<Item = (ServiceIndex, Peer)> {
        self.waiting.iter().map(|(_, w)| (w.guest.service, w.guest.peer))
    }

    /// Connections of our own: to hosts that services redirect to, to standby servers, and to ident servers.
    pub fn outgoing(&self) -> usize {
        self.relays.len() + self.idents.len() + self.standbys().count()
    }

    /// Commands of hosts.allow and hosts.deny that run.
    pub fn commands(&self) -> usize {
        self.commands.len()
    }

    /// Whom sensors keep out.
    pub fn denied(&self, now: Now) -> impl Iterator<Item = (crate::addr::Prefix, Option<Instant>)> {
        self.denied.iter(now.mono)
    }

    pub fn status(&self, index: ServiceIndex) -> Option<Status> {
        let run = self.runs.get(usize::from(index))?;
        Some(Status { state: run.state, running: run.running, started: run.started, refused: run.refused })
    }

    /// The listener of a service, for backends that describe it.
    pub fn listener(&self, index: ServiceIndex) -> Option<&B::Listener> {
        self.runs.get(usize::from(index))?.listener.as_ref()
    }

    /// Services that should listen and do not.
    pub fn unheard(&self) -> usize {
        self.runs.iter().filter(|run| matches!(run.state, State::Retry { .. })).count()
    }

    /// When [`Event::Tick`] is due, or `None` if nothing is: an idle daemon never wakes up.
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The earliest deadline of all services. Looked for only after one may have changed: the loop asks for it at every
    /// turn, and most turns change none.
    fn find_deadline(&self) -> Option<Instant> {
        let services = self
            .runs
            .iter()
            .flat_map(|run| {
                let turn = match run.state {
                    State::Paused { until } => Some(until),
                    State::Retry { at } => Some(at),
                    _ => None,
                };
                [turn, run.refusals.due()]
            })
            .flatten()
            .min();
        let sessions = match self.unnamed {
            0 => None,
            _ => self.sessions.iter().filter_map(|(_, session)| session.deadline).min(),
        };
        let inquiries = self.idents.iter().map(|(_, inquiry)| inquiry.deadline).min();
        let relays = self.relays.iter().filter_map(|(_, relay)| relay.deadline).min();
        let others = [self.waiting_deadline(), self.resolver.next_deadline(), self.expiry];
        [services, sessions, inquiries, relays].into_iter().chain(others).flatten().min()
    }

    fn refresh_deadline(&mut self) {
        if self.timers_changed {
            self.timers_changed = false;
            self.deadline = self.find_deadline();
        }
    }

    /// Takes one event. Not inlined: the loop that calls it stays on the stack for good, and should be small there.
    #[inline(never)]
    pub fn handle(&mut self, event: Event, now: Now, b: &mut B) {
        event.frame();
        match event {
            Event::Ready(id) => {
                if id.generation == self.generation {
                    self.ready(id.index, now, b);
                }
            }
            Event::Stream(StreamId::Session(id)) => self.go_on(id, now, b),
            Event::Stream(StreamId::Near(id)) => self.relay_on(id, false, now, b),
            Event::Stream(StreamId::Far(id)) => self.relay_on(id, true, now, b),
            Event::Stream(StreamId::Ident(id)) => self.inquire(id, now, b),
            Event::Answer(id) => {
                self.timers_changed = true;
                let ended = {
                    let (files, mut network) = b.resolving();
                    self.resolver.answered(id, now.mono, files, &mut network)
                };
                if ended.is_some() {
                    self.resume_named(now, b);
                }
            }
            Event::Ended { pid, ending, failed } => self.ended(pid, ending, failed, now, b),
            Event::Tick => self.tick(now, b),
        }
        if B::RUNS_PROGRAMS && core::mem::take(&mut self.is_keeping) {
            self.start_ahead(now, b);
        }
        self.refresh_deadline();
        #[cfg(any(test, debug_assertions, feature = "sim"))]
        self.check_invariants();
    }

    /// Something waits at the listener of service `index`.
    fn ready(&mut self, index: ServiceIndex, now: Now, b: &mut B) {
        let Some(run) = self.runs.get_mut(usize::from(index)) else { return };
        if run.state == State::Busy {
            return self.stirs(index);
        }
        if run.state != State::Listening {
            return;
        }
        // The listener leaves its place while clients are taken, so that everything else of the engine can be used.
        let Some(listener) = run.listener.take() else { return };
        let Some(service) = self.table().service(index) else { return };
        match (service.builtin(), service.socket) {
            (Some(builtin), SocketType::Dgram) => {
                self.answer_datagrams(index, builtin, &listener, now, b);
            }
            (None, SocketType::Dgram) if !service.is_program() => {
                self.sense_datagrams(index, &listener, now, b)
            }
            _ if service.is_owned_by_server() => self.start_wait_server(index, &listener, now, b),
            _ => self.take_connections(index, &listener, now, b),
        }
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.listener = Some(listener);
        }
    }

    fn take_connections(&mut self, index: ServiceIndex, listener: &B::Listener, now: Now, b: &mut B) {
        let mut failures = 0;
        for turn in 0..ACCEPTS_A_TURN {
            let mut obstacle = self.must_wait(index, now);
            if turn == 0 && obstacle.is_some_and(|obstacle| self.may_make_room(index, obstacle)) {
                self.make_room(now, b);
                obstacle = self.must_wait(index, now);
            }
            if let Some(obstacle) = obstacle {
                // Behind the first client nobody may be waiting: then there is nothing to say or to hold back.
                if turn == 0 {
                    self.hold_back(index, listener, obstacle, b);
                }
                return;
            }
            let (stream, peer) = match b.accept(listener) {
                Ok(taken) => taken,
                Err(Errno::AGAIN) => return self.count_late(index, true),
                Err(errno) if is_starved(errno) => {
                    self.hold_starved(index, listener, errno, now, b);
                    return;
                }
                // A client that left before it was taken (ECONNABORTED, EPROTO), or one whose network failed:
                // accept(2) says to try again. But not for ever, if it is the socket that is broken.
                Err(errno) => {
                    failures += 1;
                    if failures == ACCEPTS_A_TURN {
                        self.hold_starved(index, listener, errno, now, b);
                    }
                    continue;
                }
            };
            self.banner(index, Banner::Always, &stream, b);
            let guest = Guest { service: index, door: index, peer, local: None };
            let caller = Caller { guest, listener: Some(listener), stream };
            self.arrive(caller, Known::default(), now, b);
            self.count_late(index, false);
            // A pause may have begun, and the next client belongs into the backlog.
            if self.runs.get(usize::from(index)).is_none_or(|run| run.state != State::Listening) {
                return;
            }
        }
    }

    /// Why nobody may be taken from the backlog now, if so.
    fn must_wait(&self, index: ServiceIndex, now: Now) -> Option<Obstacle> {
        let service = self.table().service(index)?;
        let run = self.runs.get(usize::from(index))?;
        let full = match service.answer {
            Answer::Redirect(_) => self.relays.is_full(),
            Answer::Program => self.servers.is_full() || (Self::is_standby(service) && self.relays.is_full()),
            _ => timeout::holds_sessions(service) && self.sessions.is_full(),
        };
        if full {
            return Some(Obstacle::Table);
        }
        // inetd's own limits leave clients in the backlog; xinetd's `instances` refuses them (see `limits`).
        if service.dialect == Dialect::Inetd
            // With no places at all nobody would ever wake it: `limits` refuses.
            && service.instances.is_some_and(|places| places > 0 && u32::from(run.running) >= places)
        {
            return Some(Obstacle::Instances);
        }
        if service.per_minute.is_some_and(|limit| run.minute.is_minute_full(now.mono, limit)) {
            let until = run.minute.minute_end();
            return Some(Obstacle::Minute { until, seconds: until.since_ms(now.mono).div_ceil(1000) });
        }
        None
    }

    /// Whether our own end of a connection may matter to what is asked about its client.
    fn asks_for_local(&self, index: ServiceIndex) -> bool {
        self.table().service(index).is_some_and(|s| s.flags.has(Flags::LIBWRAP) || s.flags.has(Flags::IDONLY))
    }

    /// Leaves clients in the backlog, and says so.
    fn hold_back(&mut self, index: ServiceIndex, listener: &B::Listener, obstacle: Obstacle, b: &mut B) {
        let state = match obstacle {
            Obstacle::Table => {
                // Once per episode: every client that leaves lets the next one in and fills the table again.
                if !self.full_told {
                    self.full_told = true;
                    self.note(index, Fact::TableFull, b);
                }
                State::Full
            }
            Obstacle::Instances => State::Full,
            Obstacle::Minute { until, seconds } => {
                self.note(index, Fact::MinutePause { seconds }, b);
                self.hold_told(index, listener, until, b);
                return;
            }
        };
        self.hold(index, listener, state, b);
    }

    /// Stops watching a listener for a while.
    fn hold(&mut self, index: ServiceIndex, listener: &B::Listener, state: State, b: &mut B) {
        self.timers_changed = true;
        let id = ServiceId { index, generation: self.generation };
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.state = state;
            b.watch(id, listener, false);
        }
        if state == State::Full {
            self.waits_for_room();
        }
    }

    /// Whether clients are being taken from its backlog. One who waited for an answer comes in whatever his door is doing
    /// by then: it may be in a pause, full, or another service's since a reload, and a server may own its socket.
    fn is_taking(&self, index: ServiceIndex) -> bool {
        self.runs.get(usize::from(index)).is_some_and(|run| run.state == State::Listening)
    }

    /// Takes nobody until then, which has been announced.
    fn hold_told(&mut self, index: ServiceIndex, listener: &B::Listener, until: Instant, b: &mut B) {
        self.hold(index, listener, State::Paused { until }, b);
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.told = true;
        }
    }

    /// Takes nobody for a second: the system has no descriptor or no memory for one more, or nothing else works.
    fn hold_starved(
        &mut self,
        index: ServiceIndex,
        listener: &B::Listener,
        errno: Errno,
        now: Now,
        b: &mut B,
    ) {
        self.note(index, Fact::AcceptFailed { errno }, b);
        let until = now.mono.plus_ms(STARVED_MS);
        self.hold(index, listener, State::Paused { until }, b);
    }

    /// Begins the pause of `cps`; false if it is 0 seconds long, which refuses just what is too much, or if this is about
    /// those who waited through the last one.
    fn pause_for_cps(&mut self, index: ServiceIndex, listener: &B::Listener, now: Now, b: &mut B) -> bool {
        let pause = self.table().service(index).and_then(|s| s.cps).map_or(0, |cps| cps.pause);
        if pause == 0 || self.runs.get(usize::from(index)).is_some_and(|run| run.late > 0) {
            return false;
        }
        let seconds = u64::from(pause);
        self.note(index, Fact::CpsPause { seconds }, b);
        self.hold_told(index, listener, now.mono.plus_s(seconds), b);
        true
    }

    /// One of those who may have waited through a pause has been taken, or there `is_none` left. Whoever comes after them
    /// is counted anew.
    fn count_late(&mut self, index: ServiceIndex, is_none: bool) {
        let Some(run) = self.runs.get_mut(usize::from(index)).filter(|run| run.late > 0) else { return };
        run.late = if is_none { 0 } else { run.late - 1 };
        if run.late == 0 {
            run.cps = Window::new();
        }
    }

    fn refuse(&mut self, index: ServiceIndex, refusal: Refusal, peer: Peer, b: &mut B) {
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.refused += 1;
        }
        let severity = if refusal == Refusal::Libwrap {
            let (place, why) = self.reason.first().copied().unwrap_or((None, Why::NoRule));
            let severity = self.effects.severity();
            self.note_as(index, Fact::Wrapped { peer, place, why }, severity, b);
            severity
        } else {
            None
        };
        self.note_as(index, Fact::Fail { refusal, peer }, severity, b);
    }

    /// Refuses a datagram. Whoever can send one can send thousands, with whatever source: they are told so that the log
    /// stays readable, and all are counted.
    fn refuse_datagram(&mut self, index: ServiceIndex, refusal: Refusal, peer: Peer, now: Now, b: &mut B) {
        let Some(run) = self.runs.get_mut(usize::from(index)) else { return };
        let was_due = run.refusals.due();
        if run.refusals.take(now.mono, refusal, peer) {
            self.refuse(index, refusal, peer, b);
            return;
        }
        run.refused += 1;
        self.timers_changed |= run.refusals.due() != was_due;
    }

    /// Tells how many datagrams were refused beyond those that have been told; all of it, if `at_once`.
    fn tell_refusals(&mut self, at_once: bool, now: Now, b: &mut B) {
        for index in 0..self.runs.len() {
            let Some(run) = self.runs.get_mut(index) else { return };
            if run.refusals.due().is_some_and(|at| at_once || at <= now.mono)
                && let Some((count, seconds)) = run.refusals.end(now.mono)
            {
                self.note(index as ServiceIndex, Fact::FailMore { count, seconds }, b);
            }
        }
    }

    /// Writes down a fact about a service, if its settings want it.
    fn note(&self, index: ServiceIndex, fact: Fact<'_>, b: &mut B) {
        self.note_as(index, fact, None, b);
    }

    /// What the rule that has just let somebody in so says of his record.
    fn severity(&self, entry: Entry) -> Severity {
        if entry == Entry::Plain { None } else { self.effects.severity() }
    }

    /// The same, for the log that a rule of hosts.allow or hosts.deny names.
    fn note_as(&self, index: ServiceIndex, fact: Fact<'_>, severity: Severity, b: &mut B) {
        let table = self.table();
        let Some(service) = table.service(index) else { return };
        let record = Record { table, service, fact, severity };
        if record.wanted() {
            b.record(&record);
        }
    }

    /// Sends one of a service's banners, if it has that one.
    #[inline(never)]
    fn banner(&self, index: ServiceIndex, which: Banner, stream: &B::Stream, b: &mut B) {
        let table = self.table();
        let Some(path) = table.service(index).map(|service| which.path(service)) else { return };
        if path.is_empty() {
            return;
        }
        // The stack holds it: the scratch buffer may hold what a session is just moving.
        let mut text = [0; BANNER_BYTES];
        let sent = read_head(b.files(), table.bytes(path), &mut text)
            .and_then(|len| b.tell(stream, text.get(..len).unwrap_or(&[])));
        if let Err(errno) = sent {
            self.note(index, Fact::BannerFailed { which, errno }, b);
        }
    }

    /// Answers an admitted client.
    fn answer(&mut self, caller: Caller<'_, B>, entry: Entry, now: Now, b: &mut B) {
        let Caller { guest, listener, stream } = caller;
        let Guest { service: index, peer, .. } = guest;
        let Some(service) = self.table().service(index) else { return b.close(stream) };
        if entry != Entry::Twisted && !service.is_program() {
            let severity = self.severity(entry);
            return match service.answer {
                Answer::Builtin(builtin) => self.converse(&guest, builtin, stream, severity, now, b),
                Answer::Tcpmux => self.read_name(&guest, stream, severity, now, b),
                Answer::Own(own) => self.let_talk(&guest, own, stream, severity, now, b),
                Answer::Redirect(_) => self.redirect(guest, stream, severity, now, b),
                Answer::Sensor(time) => {
                    self.started(index, peer, severity, b);
                    self.sense(index, time, peer, now, b);
                    b.close(stream);
                }
                Answer::Program => {}
            };
        }
        if entry != Entry::Twisted && Self::is_standby(service) {
            let handed = self.hand_to_standby(&guest, listener, entry, stream, now, b);
            let Err((refusal, stream)) = handed else { return };
            return self.turn_back(&guest, listener, stream, refusal, now, b);
        }
        // Only what was accepted for a program is as programs expect it.
        let is_ready = (service.is_program() && guest.door == index) || b.hand_over(&stream).is_ok();
        let started = match is_ready {
            true => self.start_server(&guest, entry, listener, Some(&stream), now, b),
            false => Err(Refusal::Fork),
        };
        if let Err(refusal) = started {
            self.turn_back(&guest, listener, stream, refusal, now, b);
        }
    }

    /// No server can be had for an admitted client now: the clients behind this one would only meet the same.
    fn turn_back(
        &mut self,
        guest: &Guest,
        listener: Option<&B::Listener>,
        stream: B::Stream,
        refusal: Refusal,
        now: Now,
        b: &mut B,
    ) {
        self.refuse(guest.service, refusal, guest.peer, b);
        b.close(stream);
        if let Some(listener) = listener
            && self.is_taking(guest.door)
        {
            let until = now.mono.plus_ms(STARVED_MS);
            self.hold(guest.door, listener, State::Paused { until }, b);
        }
    }

    /// Keeps the client of a sensor out from now on.
    fn sense(&mut self, index: ServiceIndex, time: DenyTime, peer: Peer, now: Now, b: &mut B) {
        let (minutes, until) = match time {
            DenyTime::Never => (Some(0), Some(now.mono)),
            DenyTime::Minutes(minutes) => (Some(minutes), Some(now.mono.plus_s(u64::from(minutes) * 60))),
            DenyTime::Forever => (None, None),
        };
        if time != DenyTime::Never
            && let Some(address) = peer.address()
        {
            self.denied.add(address, until, now.mono);
        }
        self.note(index, Fact::Sensed { peer, minutes }, b);
    }

    /// Takes the datagrams of a sensor. Anybody can send them in anybody's name: they are recorded, as few lines as
    /// refused ones, and keep nobody out.
    fn sense_datagrams(&mut self, index: ServiceIndex, listener: &B::Listener, now: Now, b: &mut B) {
        for _ in 0..DATAGRAMS_A_TURN {
            let Ok((_, peer)) = b.receive(listener, &mut self.datagram) else {
                return self.count_late(index, true);
            };
            let guest = Guest { service: index, door: index, peer, local: None };
            if let Err(refusal) = self.admit(&guest, now, b) {
                self.refuse_datagram(index, refusal, peer, now, b);
                if refusal == Refusal::ConnectionsPerSecond && self.pause_for_cps(index, listener, now, b) {
                    return;
                }
                self.count_late(index, false);
                continue;
            }
            self.count_late(index, false);
            self.started(index, peer, None, b);
            self.sense(index, DenyTime::Never, peer, now, b);
        }
    }

    /// Begins to read the name of the service a client of tcpmux wants.
    fn read_name(&mut self, guest: &Guest, stream: B::Stream, severity: Severity, now: Now, b: &mut B) {
        let Guest { service: index, peer, .. } = *guest;
        let deadline = Some(now.mono.plus_ms(tcpmux::LINE_MS));
        let talk = Talk::Mux(tcpmux::Line::default());
        let session = Session { deadline, ..Session::new(guest, talk, stream, now) };
        if self.open_session(session, now, b) {
            self.unnamed += 1;
            self.timers_changed = true;
            self.started(index, peer, severity, b);
        }
    }

    /// A client of tcpmux has sent more of its line.
    fn go_on_reading(&mut self, id: SessionId, now: Now, b: &mut B) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Talk::Mux(line) = &mut session.talk else { return };
        let progress = line.read(&mut b.io(&mut session.stream));
        match progress {
            Ok(tcpmux::Progress::More) => {}
            Ok(tcpmux::Progress::Whole) => self.send_on(id, now, b),
            Ok(tcpmux::Progress::Bad) => {
                let _ = b.tell(&session.stream, tcpmux::BAD_LINE);
                self.close_session(id, now, b);
            }
            Err(_) => self.close_session(id, now, b),
        }
    }

    /// A client of tcpmux has named a service: it goes there, with that service's rules and limits.
    fn send_on(&mut self, id: SessionId, now: Now, b: &mut B) {
        let Some(session) = self.sessions.get(id) else { return };
        let Talk::Mux(line) = &session.talk else { return };
        let table = self.table();
        if line.name().eq_ignore_ascii_case(tcpmux::HELP) {
            for service in table.services().iter().filter(|s| is_behind_mux(s)) {
                let _ = b.tell(&session.stream, table.bytes(service.name));
                let _ = b.tell(&session.stream, b"\r\n");
            }
            return self.close_session(id, now, b);
        }
        let wanted = table
            .services()
            .iter()
            .position(|s| is_behind_mux(s) && table.bytes(s.name).eq_ignore_ascii_case(line.name()));
        let Some(service) = wanted.map(|at| at as ServiceIndex) else {
            let _ = b.tell(&session.stream, tcpmux::UNKNOWN);
            return self.close_session(id, now, b);
        };
        let Some(Session { service: door, peer, began, stream, .. }) = self.sessions.remove(id) else {
            return;
        };
        self.unnamed = self.unnamed.saturating_sub(1);
        self.timers_changed = true;
        let seconds = now.mono.since_s(began);
        self.note(door, Fact::Exit { pid: 0, peer, ending: Ending::Exited(0), seconds }, b);
        b.unwatch(&stream);
        let listener = self.runs.get_mut(usize::from(door)).and_then(|run| run.listener.take());
        let guest = Guest { service, door, peer, local: None };
        match self.must_wait(service, now) {
            None => {
                let caller = Caller { guest, listener: listener.as_ref(), stream };
                self.arrive(caller, Known::default(), now, b);
            }
            // A backlog is what it does not have.
            Some(obstacle) => {
                let refusal = match obstacle {
                    Obstacle::Table => Refusal::ProcessLimit,
                    Obstacle::Instances => Refusal::ServiceLimit,
                    Obstacle::Minute { .. } => Refusal::PerMinuteLimit,
                };
                let caller = Caller { guest, listener: listener.as_ref(), stream };
                self.turn_away(caller, &Known::default(), refusal, now, b);
            }
        }
        if let (Some(listener), Some(run)) = (listener, self.runs.get_mut(usize::from(door))) {
            run.listener = Some(listener);
        }
        self.place_free(door, now, b);
    }

    /// A client of a built-in service is being answered.
    fn started(&mut self, index: ServiceIndex, peer: Peer, severity: Severity, b: &mut B) {
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.started += 1;
        }
        self.note_as(index, Fact::Start { pid: 0, peer }, severity, b);
    }

    /// Begins the session of a client of a built-in service.
    fn converse(
        &mut self,
        guest: &Guest,
        builtin: Builtin,
        mut stream: B::Stream,
        severity: Severity,
        now: Now,
        b: &mut B,
    ) {
        let Guest { service: index, peer, .. } = *guest;
        let Some(service) = self.table().service(index) else { return };
        let Some(mut talk) = Talk::new(builtin, service.dialect, now, &self.zone) else {
            self.refuse(index, Refusal::NoTime, peer, b);
            b.close(stream);
            return;
        };
        let mut moved = 0;
        let mut waits_for = talk.first();
        let says = matches!(talk, Talk::Say { .. });
        if says {
            // A fresh connection has room: daytime and time end right here, without a slot.
            self.started(index, peer, severity, b);
            let mut io = b.io(&mut stream);
            match talk.go_on(&mut io, &mut self.scratch, &mut moved) {
                Ok(Step::Close) => {
                    drop(io);
                    b.close(stream);
                    return;
                }
                Ok(step) => waits_for = step,
                Err(_) => return,
            }
        }
        let session = Session { waits_for, moved, ..Session::new(guest, talk, stream, now) };
        if self.open_session(session, now, b) && !says {
            self.started(index, peer, severity, b);
        }
    }

    /// Begins the session of a client of a service of the firmware's own.
    fn let_talk(
        &mut self,
        guest: &Guest,
        own: u8,
        stream: B::Stream,
        severity: Severity,
        now: Now,
        b: &mut B,
    ) {
        if self.open_session(Session::new(guest, Talk::Own(own), stream, now), now, b) {
            self.started(guest.service, guest.peer, severity, b);
        }
    }

    /// Gives a session its place; if there is none, its client is refused.
    fn open_session(&mut self, session: Session<B::Stream, B::OwnClient>, now: Now, b: &mut B) -> bool {
        let (index, peer) = (session.service, session.peer);
        let Ok(id) = self.sessions.insert(session) else {
            self.refuse(index, Refusal::ProcessLimit, peer, b);
            return false;
        };
        let Some(session) = self.sessions.get(id) else { return false };
        if b.open(StreamId::Session(id), &session.stream, session.waits_for).is_err() {
            self.refuse(index, Refusal::ProcessLimit, peer, b);
            self.sessions.remove(id);
            return false;
        }
        self.begins_to_stay(index, now);
        if self.sessions.is_full() {
            self.waits_for_room();
        }
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.running += 1;
        }
        true
    }

    /// Goes on with a client of a built-in service.
    fn go_on(&mut self, id: SessionId, now: Now, b: &mut B) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if matches!(session.talk, Talk::Mux(_)) {
            return self.go_on_reading(id, now, b);
        }
        session.last = now.mono;
        let next = if let Talk::Own(own) = session.talk {
            b.talk(own, &mut session.own, &mut session.stream, now)
        } else {
            session.talk.go_on(&mut b.io(&mut session.stream), &mut self.scratch, &mut session.moved)
        };
        match next {
            Ok(Step::Close) => self.close_session(id, now, b),
            Ok(step) if step == session.waits_for => {}
            Ok(step) => {
                session.waits_for = step;
                b.wait_for(StreamId::Session(id), &session.stream, step);
            }
            // The connection is broken.
            Err(_) => self.close_session(id, now, b),
        }
    }

    fn close_session(&mut self, id: SessionId, now: Now, b: &mut B) {
        let Some(session) = self.sessions.remove(id) else { return };
        let Session { service: index, peer, began, stream, talk, moved, .. } = session;
        if matches!(talk, Talk::Mux(_)) {
            self.unnamed = self.unnamed.saturating_sub(1);
            self.timers_changed = true;
        }
        b.close(stream);
        let seconds = now.mono.since_s(began);
        self.note(index, Fact::Exit { pid: 0, peer, ending: Ending::Exited(0), seconds }, b);
        let (received, sent) = match talk {
            // Its bytes are a name, which is in the next record.
            Talk::Mux(_) | Talk::Own(_) => return self.place_free(index, now, b),
            Talk::Echo => (moved, moved),
            Talk::Discard => (moved, 0),
            Talk::Chargen(_) | Talk::Say { .. } => (0, moved),
        };
        self.note(index, Fact::Traffic { received, sent }, b);
        self.place_free(index, now, b);
    }

    /// Starts a server for a connection or, without one, for the service's own socket; on success it has a slot and START
    /// is written.
    fn start_server(
        &mut self,
        guest: &Guest,
        entry: Entry,
        listener: Option<&B::Listener>,
        connection: Option<&B::Stream>,
        now: Now,
        b: &mut B,
    ) -> Result<(), Refusal> {
        let Guest { service: index, peer, .. } = *guest;
        let table = self.table();
        let Some(service) = table.service(index) else { return Err(Refusal::ServiceLimit) };
        // `limits` has seen a free slot, and nothing has taken it since; a full table is refused all the same.
        if self.servers.is_full() {
            return Err(Refusal::ProcessLimit);
        }
        let (given, holds) = match (connection, listener) {
            (Some(stream), _) => (Given::Connection(stream), None),
            (None, Some(listener)) => (Given::Listener(listener), Some(b.mark(listener))),
            (None, None) => return Err(Refusal::Fork),
        };
        let effects = (entry != Entry::Plain).then_some(&self.effects);
        let command = effects.filter(|_| entry == Entry::Twisted).and_then(Effects::command);
        let severity = self.severity(entry);
        let pid = match b.spawn(Spawn { table, service, listener, given, peer, effects, command }) {
            Ok(pid) => pid,
            Err(errno) => {
                self.note(index, Fact::SpawnFailed { errno }, b);
                return Err(Refusal::Fork);
            }
        };
        self.serve_with(Server::new(index, pid, peer, holds, now));
        self.note_as(index, Fact::Start { pid, peer }, severity, b);
        Ok(())
    }

    /// A server serves from now on: it has its place, which somebody has seen free.
    fn serve_with(&mut self, server: Server) {
        if let Some(run) = self.runs.get_mut(usize::from(server.service)) {
            run.running += 1;
            run.started += 1;
        }
        self.begins_to_serve(&server);
        let inserted = self.servers.insert(server).is_ok();
        debug_assert!(inserted);
    }

    /// Something waits for a wait service: its server gets the socket itself.
    fn start_wait_server(&mut self, index: ServiceIndex, listener: &B::Listener, now: Now, b: &mut B) {
        if let Some(obstacle) = self.must_wait(index, now) {
            self.hold_back(index, listener, obstacle, b);
            return;
        }
        let Some(service) = self.table().service(index) else { return };
        let is_dgram = service.socket == SocketType::Dgram;
        let peer = if is_dgram { b.sender(listener) } else { Peer::Unknown };
        if is_dgram && peer == Peer::Unknown {
            // Another process took it, or its checksum was wrong: nothing waits after all.
            return;
        }
        let guest = Guest { service: index, door: index, peer, local: None };
        let admitted = self.admit(&guest, now, b);
        if admitted.is_ok_and(|entry| entry != Entry::Plain) || admitted == Err(Refusal::Libwrap) {
            self.run_spawns(&guest, Some(listener), now, b);
        }
        if let Err(refusal) = admitted {
            // During a pause nobody is turned away: who waits goes on waiting.
            if refusal == Refusal::ConnectionsPerSecond && self.pause_for_cps(index, listener, now, b) {
                return;
            }
            // What may not come in must not be asked about again: it is taken away.
            if is_dgram {
                self.refuse_datagram(index, refusal, peer, now, b);
                let _ = b.receive(listener, &mut self.datagram);
                return;
            }
            self.refuse(index, refusal, peer, b);
            match b.accept(listener) {
                Ok((stream, _)) => b.close(stream),
                Err(errno) if is_starved(errno) => self.hold_starved(index, listener, errno, now, b),
                Err(_) => {}
            }
            return;
        }
        self.give_socket(&guest, admitted.unwrap_or(Entry::Plain), listener, now, b);
    }

    /// Starts the server that owns its service's socket.
    fn give_socket(&mut self, guest: &Guest, entry: Entry, listener: &B::Listener, now: Now, b: &mut B) {
        let state = match self.start_server(guest, entry, Some(listener), None, now, b) {
            Ok(()) => State::Busy,
            // Nobody is turned away here either: what waits has its server a little later.
            Err(_) => State::Paused { until: now.mono.plus_ms(STARVED_MS) },
        };
        if let Some(run) = self.runs.get_mut(usize::from(guest.service)) {
            // What it was started for.
            run.stirred = true;
        }
        self.hold(guest.service, listener, state, b);
    }

    /// Answers datagrams of a built-in service.
    fn answer_datagrams(
        &mut self,
        index: ServiceIndex,
        builtin: Builtin,
        listener: &B::Listener,
        now: Now,
        b: &mut B,
    ) {
        for _ in 0..DATAGRAMS_A_TURN {
            let Ok((len, peer)) = b.receive(listener, &mut self.datagram) else {
                return self.count_late(index, true);
            };
            let entry = match self.admit_datagram(index, peer, now, b) {
                Ok(entry) => entry,
                Err(refusal) => {
                    self.refuse_datagram(index, refusal, peer, now, b);
                    if refusal == Refusal::ConnectionsPerSecond && self.pause_for_cps(index, listener, now, b)
                    {
                        return;
                    }
                    self.count_late(index, false);
                    continue;
                }
            };
            self.count_late(index, false);
            let table = self.tables.serving();
            let at = usize::from(index);
            let (Some(service), Some(run)) = (table.service(index), self.runs.get_mut(at)) else { return };
            let dialect = service.dialect;
            let chargen = run.chargen.get_or_insert(Chargen::new(dialect));
            let request = self.datagram.get(..len).unwrap_or(&[]);
            let out = &mut self.scratch;
            let answer = builtin::answer(builtin, dialect, request, out, now, &self.zone, chargen);
            if let Some(bytes) = answer.and_then(|len| self.scratch.get(..len)) {
                // Lost like any datagram if the socket has no room.
                let _ = b.reply(listener, peer, bytes);
            } else if matches!(builtin, Builtin::Daytime | Builtin::Time) {
                self.refuse_datagram(index, Refusal::NoTime, peer, now, b);
                continue;
            }
            self.started(index, peer, self.severity(entry), b);
        }
    }

    /// A datagram's sender must be allowed in, and must not be another service that would answer our answer
    /// (CVE-1999-0103).
    fn admit_datagram(
        &mut self,
        index: ServiceIndex,
        peer: Peer,
        now: Now,
        b: &mut B,
    ) -> Result<Entry, Refusal> {
        if self.reflects(peer, b) {
            return Err(Refusal::Reflector);
        }
        let guest = Guest { service: index, door: index, peer, local: None };
        let admitted = self.admit(&guest, now, b);
        if admitted.is_ok_and(|entry| entry != Entry::Plain) || admitted == Err(Refusal::Libwrap) {
            self.run_spawns(&guest, None, now, b);
        }
        // A command cannot answer a datagram that has been taken.
        match admitted? {
            Entry::Twisted => Err(Refusal::Libwrap),
            entry => Ok(entry),
        }
    }

    /// Whether an answer to `peer` could be answered in turn, for ever: it has the port of a service that answers
    /// datagrams on any machine, or the address of a group, or is one of our own services.
    fn reflects(&self, peer: Peer, b: &mut B) -> bool {
        let Peer::Ip { address, port } = peer else { return false };
        // qotd (RFC 865) and the portmapper answer whatever they are sent, as the built-in services do.
        const ANSWERING: [u16; 8] = [0, 7, 9, 13, 17, 19, 37, 111];
        if ANSWERING.contains(&port) {
            return true;
        }
        let group = match address {
            core::net::IpAddr::V4(v4) => {
                v4.is_multicast() || v4.is_broadcast() || v4.octets().first() == Some(&0)
            }
            core::net::IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
        };
        if group {
            return true;
        }
        let ours = self.table().services().iter().any(|s| {
            s.socket == SocketType::Dgram
                && s.builtin().is_some()
                && s.port == port
                && s.family != Family::Unix
        });
        // A port below 1024 is no client's on any system; ours are no client's at our own addresses.
        ours && (port < 1024 || b.is_own(peer))
    }

    /// A child ended.
    fn ended(&mut self, pid: Pid, ending: Ending, failed: Option<(ChildStep, Errno)>, now: Now, b: &mut B) {
        let passed = failed.is_none().then_some(ending == Ending::Exited(0));
        if self.command_ended(pid, passed, now, b) {
            return;
        }
        if B::HAS_STANDBY
            && let Some(index) = self.standby_ended(pid, ending, failed.is_some(), now, b)
        {
            if let Some((what, errno)) = failed {
                self.note_failed(index, what, errno, b);
            }
            return;
        }
        // Not a server: an orphan that came to us because we are process 1.
        let Some(id) = self.servers.iter().find(|(_, s)| s.pid == pid).map(|(id, _)| id) else { return };
        let Some(server) = self.servers.remove(id) else { return };
        let Server { service: index, peer, began, holds, blocks, .. } = server;
        match failed {
            Some((what, errno)) => {
                self.note_failed(index, what, errno, b);
                self.refuse(index, Refusal::Exec, peer, b);
            }
            None => {
                let seconds = now.mono.since_s(began);
                self.note(index, Fact::Exit { pid, peer, ending, seconds }, b);
            }
        }
        if let Some(mark) = holds {
            // A child that never became its program took nothing, whatever arrived meanwhile.
            let mark = failed.is_none().then_some(mark);
            self.take_back(index, mark, began, now, b);
        }
        if B::HAS_STANDBY && self.inherits(pid, now, b) {
            self.wake_full(now, b);
        } else {
            self.place_free(index, now, b);
        }
        if blocks {
            self.listen_again(now, b);
        }
    }

    /// What went wrong in a child before its program began.
    fn note_failed(&self, index: ServiceIndex, what: ChildStep, errno: Errno, b: &mut B) {
        let fact = match what {
            ChildStep::Exec => Fact::ExecFailed { errno },
            _ => Fact::ChildFailed { what, errno },
        };
        self.note(index, fact, b);
    }

    /// A wait server ended: its socket is watched again, at once unless it does not do its work.
    /// `mark` is what waited when it was started, `None` if it never ran.
    fn take_back(&mut self, index: ServiceIndex, mark: Option<u64>, began: Instant, now: Now, b: &mut B) {
        self.timers_changed = true;
        let Some(run) = self.runs.get_mut(usize::from(index)).filter(|run| run.state == State::Busy) else {
            return;
        };
        run.state = State::Listening;
        self.is_keeping = true;
        if core::mem::take(&mut run.refits_later) && !self.refit(index, b) {
            self.listen(index, now, b);
            return;
        }
        let Some(run) = self.runs.get_mut(usize::from(index)) else { return };
        let Some(listener) = &run.listener else { return };
        // One that was there before anybody came has something to take only if something came.
        let is_kept = B::RUNS_PROGRAMS
            && self.tables.serving().service(index).is_some_and(|s| s.flags.has(Flags::KEEP));
        let worked = now.mono.since_ms(began) >= HASTY_MS
            || mark.is_some_and(|mark| {
                if is_kept && mark == 0 { run.stirred } else { mark == 0 || b.mark(listener) != mark }
            });
        run.hasty = if worked { 0 } else { run.hasty.saturating_add(1) };
        if run.hasty <= HASTY_FREE {
            b.watch(ServiceId { index, generation: self.generation }, listener, true);
            return;
        }
        let doublings = u32::from(run.hasty - HASTY_FREE - 1).min(16);
        let ms = (HASTY_FIRST_MS << doublings).min(HASTY_LONGEST_MS);
        run.state = State::Paused { until: now.mono.plus_ms(ms) };
        self.note(index, Fact::Hasty { ms }, b);
    }

    /// A server or session of a service is gone: who waits for its place may have it.
    fn place_free(&mut self, index: ServiceIndex, now: Now, b: &mut B) {
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.running = run.running.saturating_sub(1);
        }
        if self.running() == 0 && self.standbys.is_empty() && self.expiry.take().is_some() {
            // Nobody is timed: an idle daemon never wakes up.
            self.timers_changed = true;
        }
        self.wake_full(now, b);
    }

    /// Lets those whose clients wait for a place take them, if there is one.
    fn wake_full(&mut self, now: Now, b: &mut B) {
        let mut any_woken = false;
        if self.servers.len() <= SERVERS / 2
            && self.sessions.len() <= SESSIONS / 2
            && self.relays.len() <= RELAYS / 2
        {
            self.full_told = false;
        }
        let generation = self.generation;
        let services = self.runs.len();
        let first = usize::from(self.woken_first);
        // What is watched first is reported first and takes the place: everyone is first in turn.
        for index in (first..services).chain(0..first.min(services)) {
            let id = ServiceId { index: index as ServiceIndex, generation };
            if !self.runs.get(index).is_some_and(|run| run.state == State::Full)
                || matches!(self.must_wait(id.index, now), Some(Obstacle::Table | Obstacle::Instances))
            {
                continue;
            }
            if let Some(run) = self.runs.get_mut(index)
                && let Some(listener) = &run.listener
            {
                run.state = State::Listening;
                self.is_keeping = true;
                b.watch(id, listener, true);
                if !any_woken {
                    any_woken = true;
                    self.woken_first = id.index + 1;
                }
            }
        }
    }

    /// Ends pauses that are over and tries again to listen where that failed.
    fn tick(&mut self, now: Now, b: &mut B) {
        self.timers_changed = true;
        self.tell_refusals(false, now, b);
        self.end_overdue_relays(now, b);
        self.end_overdue_inquiries(now, b);
        self.resume_overdue(now, b);
        self.tick_resolver(now, b);
        self.end_silent_sessions(now, b);
        self.end_overstayers(now, b);
        for index in 0..self.runs.len() {
            let generation = self.generation;
            let late = self.table().service(index as u16).map_or(0, Service::most_waiting);
            let Some(run) = self.runs.get_mut(index) else { return };
            let id = ServiceId { index: index as u16, generation };
            match run.state {
                State::Paused { until } if until <= now.mono => {
                    let Some(listener) = &run.listener else { continue };
                    run.state = State::Listening;
                    self.is_keeping = true;
                    b.watch(id, listener, true);
                    if core::mem::take(&mut run.told) {
                        run.late = late;
                        self.note(id.index, Fact::Resumed, b);
                    }
                }
                State::Retry { at } if at <= now.mono => self.listen(id.index, now, b),
                _ => {}
            }
        }
    }

    /// Asks other name servers where one keeps silent.
    fn tick_resolver(&mut self, now: Now, b: &mut B) {
        let mut is_any_found = false;
        loop {
            let (_, mut network) = b.resolving();
            match self.resolver.tick(now.mono, &mut network) {
                Some(_) => is_any_found = true,
                None => break,
            }
        }
        if is_any_found {
            self.resume_named(now, b);
        }
    }

    /// Closes clients of tcpmux that do not say what they want.
    fn end_silent_sessions(&mut self, now: Now, b: &mut B) {
        while self.unnamed > 0 {
            let is_due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now.mono);
            let Some(id) = self.sessions.iter().find(|(_, s)| is_due(s.deadline)).map(|(id, _)| id) else {
                return;
            };
            self.close_session(id, now, b);
        }
    }

    /// Somebody may have waited for just the socket that is closed now.
    fn listen_again(&mut self, now: Now, b: &mut B) {
        for index in 0..self.runs.len() {
            if self.runs.get(index).is_some_and(|run| matches!(run.state, State::Retry { .. })) {
                self.listen(index as ServiceIndex, now, b);
            }
        }
    }

    /// Makes the socket a service has right for its settings; `false` if it has none, or has none any more.
    fn refit(&mut self, index: ServiceIndex, b: &mut B) -> bool {
        let table = self.tables.serving();
        let at = usize::from(index);
        let (Some(service), Some(run)) = (table.service(index), self.runs.get_mut(at)) else { return false };
        let Some(listener) = &mut run.listener else { return false };
        let is_owned = run.state == State::Busy;
        if b.refit(table, service, listener, is_owned).is_ok() {
            run.refits_later |= is_owned;
            return true;
        }
        // Better no socket than one that lets in whom it should not; a server that owns it keeps it for itself.
        if let Some(listener) = run.listener.take() {
            b.retire(table, service, listener);
        }
        run.state = State::Off;
        for server in self.servers.values_mut().filter(|server| server.service == index) {
            server.holds = None;
        }
        false
    }

    /// Makes a service's socket; if that fails, arranges for another try.
    fn listen(&mut self, index: ServiceIndex, now: Now, b: &mut B) {
        self.timers_changed = true;
        let table = self.tables.serving();
        let at = usize::from(index);
        let (Some(service), Some(run)) = (table.service(index), self.runs.get_mut(at)) else { return };
        match b.listen(table, service) {
            Ok(listener) => {
                b.watch(ServiceId { index, generation: self.generation }, &listener, true);
                run.listener = Some(listener);
                run.state = State::Listening;
                self.is_keeping = true;
                if run.listen_failures > 0 {
                    run.listen_failures = 0;
                    self.note(index, Fact::ListenRecovered, b);
                }
            }
            Err(Errno::AFNOSUPPORT) if service.flags.has(Flags::IF_IPV6) => run.state = State::Off,
            Err(errno) => {
                let retry = (1 << u32::from(run.listen_failures).min(8)).min(LISTEN_LONGEST_S);
                run.state = State::Retry { at: now.mono.plus_s(retry) };
                run.listen_failures = run.listen_failures.saturating_add(1);
                // Said once, and again when it works; the state dump shows the rest.
                if run.listen_failures == 1 {
                    self.note(index, Fact::ListenFailed { errno, retry }, b);
                }
            }
        }
    }

    /// Stops listening everywhere, for good.
    pub fn stop_listening(&mut self, now: Now, b: &mut B) {
        self.tell_refusals(true, now, b);
        let table = self.tables.serving();
        for (run, service) in self.runs.iter_mut().zip(table.services()) {
            if let Some(listener) = run.listener.take() {
                b.retire(table, service, listener);
            }
            run.state = State::Off;
            run.told = false;
        }
        self.dismiss_standbys(now, b);
        // What a wait server holds is its own now.
        for server in self.servers.values_mut() {
            server.holds = None;
        }
        // Questions that were asked still end in time.
        self.timers_changed = true;
        self.refresh_deadline();
    }

    /// Tells all servers to end.
    pub fn end_servers(&mut self, how: End, b: &mut B) {
        for (_, server) in self.servers.iter() {
            b.end(server.pid, how);
        }
        for dismissed in &self.dismissed {
            b.end(dismissed.pid(), how);
        }
        self.end_commands(how, b);
    }

    /// Closes all clients of our own: of built-in and redirected services, and those that wait; and asks for no user any
    /// more.
    pub fn end_sessions(&mut self, now: Now, b: &mut B) {
        self.end_waiting(b);
        while let Some(id) = self.idents.find(|_| true) {
            if let Some(inquiry) = self.idents.remove(id) {
                b.close(inquiry.stream);
            }
        }
        // Those who have a server end with it.
        while let Some(id) = self.relays.find(Relay::is_tenant) {
            self.close_relay(id, now, b);
        }
        loop {
            let next = self.sessions.iter().next().map(|(id, _)| id);
            let Some(id) = next else { break };
            self.close_session(id, now, b);
        }
        self.refresh_deadline();
    }

    /// What must always be true; checked after every event of debug builds and of simulations.
    #[cfg(any(test, debug_assertions, feature = "sim"))]
    fn check_invariants(&self) {
        assert_eq!(self.deadline, self.find_deadline(), "a deadline changed unnoticed");
        for (index, run) in self.runs.iter().enumerate() {
            let index = index as ServiceIndex;
            let live = self.tenants().filter(|(service, _)| *service == index).count();
            assert_eq!(usize::from(run.running), live, "service {index} counts what runs");
            let has_socket = run.listener.is_some();
            match run.state {
                State::Off | State::Retry { .. } => assert!(!has_socket),
                _ => assert!(has_socket),
            }
            if run.state == State::Full {
                assert!(self.running() > 0, "service {index} waits for a place nobody will leave");
            }
            assert!(!run.told || matches!(run.state, State::Paused { .. }), "a pause that was told");
            let holders =
                self.servers.iter().filter(|(_, s)| s.service == index && s.holds.is_some()).count();
            assert!(holders <= 1, "one wait server at a time");
            assert_eq!(run.state == State::Busy, holders == 1, "busy means a wait server holds it");
        }
        let services = self.runs.len();
        assert_eq!(services, self.table().services().len());
        if let Some(at) = self.find_expiry() {
            assert!(self.expiry.is_some_and(|expiry| expiry <= at), "somebody's time is over unnoticed");
        }
        let nowhere = |index: ServiceIndex| index != ServiceIndex::MAX && usize::from(index) >= services;
        assert!(!self.tenants().any(|(service, _)| nowhere(service)));
        let unnamed = self.sessions.iter().filter(|(_, s)| matches!(s.talk, Talk::Mux(_))).count();
        assert_eq!(usize::from(self.unnamed), unnamed, "sessions that have deadlines");
    }
}

impl<B: Backend> Default for Engine<B> {
    fn default() -> Self {
        Engine::new()
    }
}

/// Whether tcpmux leads to it.
const fn is_behind_mux(service: &crate::service::Service) -> bool {
    service.flags.has(Flags::MUX) && matches!(service.standing, crate::service::Standing::Ready)
}

/// Reads the beginning of a file, as much as `buf` holds.
fn read_head<F: Files>(files: &mut F, path: &[u8], buf: &mut [u8]) -> Result<usize, Errno> {
    let file = files.open(path)?;
    let mut len = 0;
    while let Some(rest) = buf.get_mut(len..)
        && !rest.is_empty()
    {
        match files.read_at(&file, len as u64, rest)? {
            0 => break,
            n => len += n,
        }
    }
    Ok(len)
}

/// Whether accept(2) failed for want of something that others may give back: trying at once would only spin.
const fn is_starved(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)
}

/// Bytes that one more of each capacity costs here, for memory-budget.md.
#[cfg(feature = "linux")]
pub(crate) struct BytesEach {
    pub run: usize,
    pub server: usize,
    pub session: usize,
    pub relay: usize,
    pub standby: usize,
    pub waiting: usize,
    pub ident: usize,
    pub command: usize,
    pub denied: usize,
}

#[cfg(feature = "linux")]
pub(crate) const fn bytes_each<B: Backend>() -> BytesEach {
    BytesEach {
        run: size_of::<Run<B::Listener>>(),
        server: Slots::<Server, SERVERS>::BYTES_EACH,
        session: Slots::<Session<B::Stream, B::OwnClient>, SESSIONS>::BYTES_EACH,
        relay: Slots::<Relay<B::Stream>, RELAYS>::BYTES_EACH,
        standby: Engine::<B>::STANDBY_BYTES,
        waiting: Slots::<Waiting<B::Stream>, WAITING>::BYTES_EACH,
        ident: Slots::<Inquiry<B::Stream>, IDENTS>::BYTES_EACH,
        command: size_of::<Command>(),
        denied: Denied::BYTES_EACH,
    }
}

#[cfg(test)]
mod tests;
