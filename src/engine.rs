//! The super-server itself, as a function of its inputs.
//!
//! An [`Event`] and the time go in; what is to be done comes out as calls of the [`Backend`]. A connection's life is
//! one walk, and this file keeps its order: listener ready, taken, admitted or refused, answered by a built-in service
//! or by a server, ended, slot free, recorded. The bytes of built-in services do not pass through here: they go between
//! a session's [`Talk`] and its stream.
//!
//! No clock, no randomness, no files: the same inputs give the same calls.

use heapless::Vec;

use crate::access;
use crate::addr::{HostName, Peer};
use crate::backend::{Backend, End, Given, Pid, ServiceId, SessionId, Spawn, StreamId};
use crate::builtin::{self, Chargen, Step, Talk};
use crate::capacity::{
    ACCEPTS_A_TURN, BANNER_BYTES, DATAGRAM_BYTES, DATAGRAMS_A_TURN, SCRATCH_BYTES, SERVERS, SERVICES,
    SESSIONS,
};
use crate::config::source::Files;
use crate::errno::Errno;
use crate::limits::{Refusals, Sources, Window};
use crate::record::{Banner, ChildStep, Ending, Fact, Record, Refusal};
use crate::service::{Builtin, Dialect, Family, Flags, Service, SocketType, Standing};
use crate::slots::Slots;
use crate::table::{ServiceIndex, Table};
use crate::time::{Instant, Now};
use crate::zone::Zone;

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Something waits at a service's listener.
    Ready(ServiceId),
    /// A watched stream has something to read, has room again, or is gone.
    Stream(StreamId),
    /// A child ended. `failed` tells which step before its program went wrong, if one did.
    Ended { pid: Pid, ending: Ending, failed: Option<(ChildStep, Errno)> },
    /// A deadline of [`Engine::next_deadline`] may have come.
    Tick,
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
    minute: Window,
    /// Wait servers in a row that ended at once and took nothing.
    hasty: u8,
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
            minute: Window::new(),
            hasty: 0,
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
}

/// A client of a built-in stream service.
struct Session<S> {
    service: ServiceIndex,
    peer: Peer,
    began: Instant,
    talk: Talk,
    waits_for: Step,
    moved: u64,
    stream: S,
}

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
    tables: [Table; 2],
    active: bool,
    generation: u16,
    runs: Vec<Run<B::Listener>, SERVICES>,
    servers: Slots<Server, SERVERS>,
    sessions: Slots<Session<B::Stream>, SESSIONS>,
    sources: Sources,
    zone: Zone,
    /// Most servers at one time (-limit); the table's size bounds it too.
    limit: Option<u32>,
    /// That a table is full has been logged, and it has not been half empty since.
    full_told: bool,
    /// The earliest deadline, and whether it must be looked for again.
    deadline: Option<Instant>,
    timers_changed: bool,
    /// Where [`place_free`](Engine::place_free) begins to look for a service that waits for a place.
    woken_first: ServiceIndex,
    scratch: [u8; SCRATCH_BYTES],
    datagram: [u8; DATAGRAM_BYTES],
}

impl<B: Backend> Engine<B> {
    pub const fn new() -> Self {
        Engine {
            tables: [Table::new(), Table::new()],
            active: false,
            generation: 0,
            runs: Vec::new(),
            servers: Slots::new(),
            sessions: Slots::new(),
            sources: Sources::new(),
            zone: Zone::UTC,
            limit: None,
            full_told: false,
            deadline: None,
            timers_changed: false,
            woken_first: 0,
            scratch: [0; SCRATCH_BYTES],
            datagram: [0; DATAGRAM_BYTES],
        }
    }

    /// The table that serves.
    pub fn table(&self) -> &Table {
        let [first, second] = &self.tables;
        if self.active { second } else { first }
    }

    /// The table beside it, for the next [`adopt`](Engine::adopt).
    pub fn spare(&mut self) -> &mut Table {
        let [first, second] = &mut self.tables;
        if self.active { first } else { second }
    }

    pub fn set_zone(&mut self, zone: Zone) {
        self.zone = zone;
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Most servers at one time, over all services (xinetd's -limit).
    pub fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
    }

    /// Servers and sessions that live.
    pub fn running(&self) -> usize {
        self.servers.len() + self.sessions.len()
    }

    /// Programs that run.
    pub fn servers(&self) -> impl Iterator<Item = (ServiceIndex, Pid, Peer, Instant)> {
        self.servers.iter().map(|(_, s)| (s.service, s.pid, s.peer, s.began))
    }

    /// Clients of built-in services.
    pub fn sessions(&self) -> impl Iterator<Item = (ServiceIndex, Peer, Instant, u64)> {
        self.sessions.iter().map(|(_, s)| (s.service, s.peer, s.began, s.moved))
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
        self.runs
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
            .min()
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
        match event {
            Event::Ready(id) => {
                if id.generation == self.generation {
                    self.ready(id.index, now, b);
                }
            }
            Event::Stream(StreamId::Session(id)) => self.go_on(id, now, b),
            Event::Stream(_) => {}
            Event::Ended { pid, ending, failed } => self.ended(pid, ending, failed, now, b),
            Event::Tick => self.tick(now, b),
        }
        self.refresh_deadline();
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Something waits at the listener of service `index`.
    fn ready(&mut self, index: ServiceIndex, now: Now, b: &mut B) {
        let Some(run) = self.runs.get_mut(usize::from(index)) else { return };
        if run.state != State::Listening {
            return;
        }
        // The listener leaves its place while clients are taken, so that everything else of the engine can be used.
        let Some(listener) = run.listener.take() else { return };
        let Some(service) = self.table().service(index) else { return };
        match (service.builtin(), service.socket, service.waits()) {
            (Some(builtin), SocketType::Dgram, _) => {
                self.answer_datagrams(index, builtin, &listener, now, b);
            }
            (Some(_), SocketType::Stream, _) | (None, SocketType::Stream, false) => {
                self.take_connections(index, &listener, now, b);
            }
            (None, SocketType::Stream, true) | (None, SocketType::Dgram, _) => {
                self.start_wait_server(index, &listener, now, b);
            }
        }
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.listener = Some(listener);
        }
    }

    fn take_connections(&mut self, index: ServiceIndex, listener: &B::Listener, now: Now, b: &mut B) {
        let mut failures = 0;
        for turn in 0..ACCEPTS_A_TURN {
            if let Some(obstacle) = self.must_wait(index, now) {
                // Behind the first client nobody may be waiting: then there is nothing to say or to hold back.
                if turn == 0 {
                    self.hold_back(index, listener, obstacle, b);
                }
                return;
            }
            let (stream, peer) = match b.accept(listener) {
                Ok(taken) => taken,
                Err(Errno::AGAIN) => return,
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
            match self.admit(index, peer, now, b) {
                Ok(()) => {
                    self.banner(index, Banner::Success, &stream, b);
                    self.answer(index, stream, peer, listener, now, b);
                }
                Err(refusal) => {
                    self.banner(index, Banner::Fail, &stream, b);
                    self.refuse(index, refusal, peer, b);
                    b.close(stream);
                    if refusal == Refusal::ConnectionsPerSecond {
                        self.pause_for_cps(index, listener, now, b);
                    }
                }
            }
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
        let full = match service.builtin() {
            Some(Builtin::Daytime | Builtin::Time) => false,
            Some(_) => self.sessions.is_full(),
            None => self.servers.is_full(),
        };
        if full {
            return Some(Obstacle::Table);
        }
        // inetd's own limits leave clients in the backlog; xinetd's `instances` refuses them (see `admit`).
        if service.dialect == Dialect::Inetd
            // With no places at all nobody would ever wake it: `admit` refuses.
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

    /// Begins the pause of `cps`; false if it is 0 seconds long, which refuses just what is too much.
    fn pause_for_cps(&mut self, index: ServiceIndex, listener: &B::Listener, now: Now, b: &mut B) -> bool {
        let pause = self.table().service(index).and_then(|s| s.cps).map_or(0, |cps| cps.pause);
        if pause == 0 {
            return false;
        }
        let seconds = u64::from(pause);
        self.note(index, Fact::CpsPause { seconds }, b);
        self.hold_told(index, listener, now.mono.plus_s(seconds), b);
        true
    }

    /// Whether `peer` may come in. Who is refused for what only he did (address, time, his own share) is asked about
    /// first, so that he does not use up what all share: a client that may not come in cannot trip `cps`.
    fn admit(&mut self, index: ServiceIndex, peer: Peer, now: Now, b: &mut B) -> Result<(), Refusal> {
        let [first, second] = &self.tables;
        let table = if self.active { second } else { first };
        let at = usize::from(index);
        let (Some(service), Some(run)) = (table.service(index), self.runs.get_mut(at)) else {
            return Err(Refusal::ServiceLimit);
        };
        // Whoever waits at a socket that its server will own has passed the guard, if there is one.
        let guarded = B::GUARDS && peer == Peer::Unknown && service.family != Family::Unix;
        if !guarded
            && access::decide(table, service, peer, HostName::NotAsked).outcome != access::Outcome::Admitted
        {
            return Err(Refusal::Address);
        }
        if !service.access_times.is_empty() {
            // Without the time of day nobody can tell whether this is the time.
            let minute = now.unix.map(|unix| self.zone.at(unix).minute_of_day());
            if !minute.is_some_and(|minute| access::admits_minute(table, service, minute)) {
                return Err(Refusal::Time);
            }
        }
        if let (Some(most), Some(address)) = (service.per_source, peer.address()) {
            let servers = self.servers.iter().filter(|(_, s)| s.service == index);
            let sessions = self.sessions.iter().filter(|(_, s)| s.service == index);
            let own = servers.filter(|(_, s)| s.peer.address() == Some(address)).count()
                + sessions.filter(|(_, s)| s.peer.address() == Some(address)).count();
            if own as u64 >= u64::from(most) {
                return Err(Refusal::PerSourceLimit);
            }
        }
        if let (Some(most), Some(address)) = (service.per_minute_source, peer.address())
            && self.sources.is_full(index, address, now.mono, most)
        {
            return Err(Refusal::PerMinuteLimit);
        }
        if service.instances.is_some_and(|most| u32::from(run.running) >= most) {
            return Err(Refusal::ServiceLimit);
        }
        if service.max_load.is_some_and(|most| b.load().is_some_and(|load| load >= most)) {
            return Err(Refusal::Load);
        }
        if service.builtin().is_none()
            && (self.servers.is_full()
                || self.limit.is_some_and(|limit| self.servers.len() as u64 >= u64::from(limit)))
        {
            return Err(Refusal::ProcessLimit);
        }
        if service.cps.is_some_and(|cps| !run.cps.take_cps(now.mono, cps)) {
            return Err(Refusal::ConnectionsPerSecond);
        }
        if let Some(limit) = service.per_minute {
            run.minute.take_minute(now.mono, limit);
        }
        // Only who really comes in is counted: one who trips `cps` and waits on is asked about again.
        if let (Some(most), Some(address)) = (service.per_minute_source, peer.address()) {
            self.sources.take(index, address, now.mono, most);
        }
        Ok(())
    }

    fn refuse(&mut self, index: ServiceIndex, refusal: Refusal, peer: Peer, b: &mut B) {
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.refused += 1;
        }
        self.note(index, Fact::Fail { refusal, peer }, b);
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
    fn note(&self, index: ServiceIndex, fact: Fact, b: &mut B) {
        let table = self.table();
        let Some(service) = table.service(index) else { return };
        let record = Record { table, service, fact };
        if record.wanted() {
            b.record(&record);
        }
    }

    /// Sends one of a service's banners, if it has that one.
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
    fn answer(
        &mut self,
        index: ServiceIndex,
        stream: B::Stream,
        peer: Peer,
        listener: &B::Listener,
        now: Now,
        b: &mut B,
    ) {
        let Some(service) = self.table().service(index) else { return };
        match service.builtin() {
            Some(builtin) => self.converse(index, builtin, stream, peer, now, b),
            None => {
                if let Err(refusal) = self.start_server(index, listener, Some(&stream), peer, now, b) {
                    self.refuse(index, refusal, peer, b);
                    b.close(stream);
                    // No process now: the clients behind this one would only meet the same.
                    let until = now.mono.plus_ms(STARVED_MS);
                    self.hold(index, listener, State::Paused { until }, b);
                }
            }
        }
    }

    /// A client of a built-in service is being answered.
    fn started(&mut self, index: ServiceIndex, peer: Peer, b: &mut B) {
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.started += 1;
        }
        self.note(index, Fact::Start { pid: 0, peer }, b);
    }

    /// Begins the session of a client of a built-in service.
    fn converse(
        &mut self,
        index: ServiceIndex,
        builtin: Builtin,
        mut stream: B::Stream,
        peer: Peer,
        now: Now,
        b: &mut B,
    ) {
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
            self.started(index, peer, b);
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
        let session = Session { service: index, peer, began: now.mono, talk, waits_for, moved, stream };
        let Ok(id) = self.sessions.insert(session) else {
            self.refuse(index, Refusal::ProcessLimit, peer, b);
            return;
        };
        let Some(session) = self.sessions.get(id) else { return };
        if b.open(StreamId::Session(id), &session.stream, waits_for).is_err() {
            self.refuse(index, Refusal::ProcessLimit, peer, b);
            self.sessions.remove(id);
            return;
        }
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.running += 1;
        }
        if !says {
            self.started(index, peer, b);
        }
    }

    /// Goes on with a client of a built-in service.
    fn go_on(&mut self, id: SessionId, now: Now, b: &mut B) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let mut io = b.io(&mut session.stream);
        let next = session.talk.go_on(&mut io, &mut self.scratch, &mut session.moved);
        drop(io);
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
        let Some(Session { service: index, peer, began, stream, .. }) = self.sessions.remove(id) else {
            return;
        };
        b.close(stream);
        let seconds = now.mono.since_s(began);
        self.note(index, Fact::Exit { pid: 0, peer, ending: Ending::Exited(0), seconds }, b);
        self.place_free(index, now, b);
    }

    /// Starts a server for a connection or, without one, for the service's own socket; on success it has a slot and START
    /// is written.
    fn start_server(
        &mut self,
        index: ServiceIndex,
        listener: &B::Listener,
        connection: Option<&B::Stream>,
        peer: Peer,
        now: Now,
        b: &mut B,
    ) -> Result<(), Refusal> {
        let table = self.table();
        let Some(service) = table.service(index) else { return Err(Refusal::ServiceLimit) };
        // `admit` has seen a free slot, and nothing has taken it since; a full table is refused all the same.
        if self.servers.is_full() {
            return Err(Refusal::ProcessLimit);
        }
        let (given, holds) = match connection {
            Some(stream) => (Given::Connection(stream), None),
            None => (Given::Listener(listener), Some(b.mark(listener))),
        };
        let pid = match b.spawn(Spawn { table, service, listener, given, peer, effects: None, command: None })
        {
            Ok(pid) => pid,
            Err(errno) => {
                self.note(index, Fact::SpawnFailed { errno }, b);
                return Err(Refusal::Fork);
            }
        };
        let server = Server { service: index, pid, peer, began: now.mono, holds, blocks: false };
        let inserted = self.servers.insert(server).is_ok();
        debug_assert!(inserted);
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.running += 1;
            run.started += 1;
        }
        self.note(index, Fact::Start { pid, peer }, b);
        Ok(())
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
        if let Err(refusal) = self.admit(index, peer, now, b) {
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
        match self.start_server(index, listener, None, peer, now, b) {
            Ok(()) => self.hold(index, listener, State::Busy, b),
            // Nobody is turned away here either: what waits has its server a little later.
            Err(_) => {
                let until = now.mono.plus_ms(STARVED_MS);
                self.hold(index, listener, State::Paused { until }, b);
            }
        }
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
            let Ok((len, peer)) = b.receive(listener, &mut self.datagram) else { return };
            if let Err(refusal) = self.admit_datagram(index, peer, now, b) {
                self.refuse_datagram(index, refusal, peer, now, b);
                if refusal == Refusal::ConnectionsPerSecond && self.pause_for_cps(index, listener, now, b) {
                    return;
                }
                continue;
            }
            let [first, second] = &self.tables;
            let table = if self.active { second } else { first };
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
            self.started(index, peer, b);
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
    ) -> Result<(), Refusal> {
        if self.reflects(peer, b) {
            return Err(Refusal::Reflector);
        }
        self.admit(index, peer, now, b)
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
        // Not a server: an orphan that came to us because we are process 1.
        let Some(id) = self.servers.iter().find(|(_, s)| s.pid == pid).map(|(id, _)| id) else { return };
        let Some(server) = self.servers.remove(id) else { return };
        let Server { service: index, peer, began, holds, blocks, .. } = server;
        match failed {
            Some((what, errno)) => {
                let fact = match what {
                    ChildStep::Exec => Fact::ExecFailed { errno },
                    _ => Fact::ChildFailed { what, errno },
                };
                self.note(index, fact, b);
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
        self.place_free(index, now, b);
        if blocks {
            self.listen_again(now, b);
        }
    }

    /// A wait server ended: its socket is watched again, at once unless it does not do its work.
    /// `mark` is what waited when it was started, `None` if it never ran.
    fn take_back(&mut self, index: ServiceIndex, mark: Option<u64>, began: Instant, now: Now, b: &mut B) {
        self.timers_changed = true;
        let Some(run) = self.runs.get_mut(usize::from(index)).filter(|run| run.state == State::Busy) else {
            return;
        };
        run.state = State::Listening;
        if core::mem::take(&mut run.refits_later) && !self.refit(index, b) {
            self.listen(index, now, b);
            return;
        }
        let Some(run) = self.runs.get_mut(usize::from(index)) else { return };
        let Some(listener) = &run.listener else { return };
        let worked = now.mono.since_ms(began) >= HASTY_MS
            || mark.is_some_and(|mark| mark == 0 || b.mark(listener) != mark);
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
        let mut any_woken = false;
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.running = run.running.saturating_sub(1);
        }
        if self.servers.len() <= SERVERS / 2 && self.sessions.len() <= SESSIONS / 2 {
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
        for index in 0..self.runs.len() {
            let generation = self.generation;
            let Some(run) = self.runs.get_mut(index) else { return };
            let id = ServiceId { index: index as u16, generation };
            match run.state {
                State::Paused { until } if until <= now.mono => {
                    let Some(listener) = &run.listener else { continue };
                    run.state = State::Listening;
                    b.watch(id, listener, true);
                    if core::mem::take(&mut run.told) {
                        self.note(id.index, Fact::Resumed, b);
                    }
                }
                State::Retry { at } if at <= now.mono => self.listen(id.index, now, b),
                _ => {}
            }
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
        let [first, second] = &self.tables;
        let table = if self.active { second } else { first };
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
        let [first, second] = &self.tables;
        let table = if self.active { second } else { first };
        let at = usize::from(index);
        let (Some(service), Some(run)) = (table.service(index), self.runs.get_mut(at)) else { return };
        match b.listen(table, service) {
            Ok(listener) => {
                b.watch(ServiceId { index, generation: self.generation }, &listener, true);
                run.listener = Some(listener);
                run.state = State::Listening;
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

    /// Puts the [`spare`](Engine::spare) table, which is filled, in the place of the one that serves; at the start
    /// that one is empty.
    ///
    /// A service of the new table is the successor of one with its id (or of the one with its very address) and keeps
    /// counters and servers; the socket stays with the place, with all who wait there. Sessions and servers of services
    /// that are gone live on; their entry is kept, without listening, until the last has ended. Sockets that are not
    /// wanted any more are closed before new ones are opened, because a wildcard and an address on the same port exclude
    /// each other.
    pub fn adopt(&mut self, now: Now, b: &mut B) -> Changes {
        // Now, while their services are surely there.
        self.tell_refusals(true, now, b);
        let mut changes = Changes::default();
        let [first, second] = &mut self.tables;
        let (old, new) = if self.active { (&*second, first) } else { (&*first, second) };
        // Successor of each old service.
        let mut successors: Vec<Option<ServiceIndex>, SERVICES> = Vec::new();
        let mut taken = [false; SERVICES];
        // Whether a service that listened, or tried to, goes on as this one of the new table.
        let mut continued = [false; SERVICES];
        for _ in old.services() {
            let _ = successors.push(None);
        }
        // Ids need not be unique (inetd.conf names echo twice), so the surest signs come first: the same id at the same
        // address, then the same id for the same kind of socket. A broken service may not even say of what kind it
        // is, and must not take the predecessor of a sound one.
        for round in 0..5 {
            for (index, (service, successor)) in old.services().iter().zip(&mut successors).enumerate() {
                let alive = self.runs.get(index).is_some_and(|run| run.running > 0);
                if successor.is_some() || (service.standing == Standing::Broken && !alive) {
                    continue;
                }
                let found = new.services().iter().enumerate().position(|(n, candidate)| {
                    let same_id = old.bytes(service.id) == new.bytes(candidate.id);
                    let same_kind = service.socket == candidate.socket
                        && (service.family == Family::Unix) == (candidate.family == Family::Unix);
                    let broken = candidate.standing == Standing::Broken;
                    let same_place = !broken && same_place(old, service, new, candidate);
                    let fits = match round {
                        0 => same_id && same_place,
                        1 => same_id && same_kind && !broken,
                        2 => same_id && same_kind,
                        3 => same_id && broken,
                        // A new name for what listens there; what has departed listens nowhere.
                        _ => same_place && service.standing == Standing::Ready,
                    };
                    fits && !taken.get(n).copied().unwrap_or(true)
                });
                if let Some(n) = found {
                    if let Some(taken) = taken.get_mut(n) {
                        *taken = true;
                    }
                    *successor = Some(n as ServiceIndex);
                }
            }
        }
        for (service, successor) in old.services().iter().zip(&successors) {
            let Some(n) = *successor else { continue };
            if service.standing != Standing::Ready {
                continue;
            }
            if let Some(continued) = continued.get_mut(usize::from(n)) {
                *continued = true;
            }
            if new.service(n).is_none_or(|candidate| candidate.standing != Standing::Broken) {
                changes.kept += 1;
                continue;
            }
            // Its predecessor goes on, word for word.
            match new.copy(old, service) {
                Ok(copy) => {
                    if let Some(place) = new.services_mut().get_mut(usize::from(n)) {
                        *place = copy;
                    }
                    changes.preserved += 1;
                }
                Err(_) => changes.lost += 1,
            }
        }
        // After them, because room may be short: this is for the records of servers that end later, no more.
        for (index, (service, successor)) in old.services().iter().zip(&mut successors).enumerate() {
            if successor.is_some() {
                continue;
            }
            if service.standing == Standing::Ready {
                changes.removed += 1;
            }
            let alive = self.runs.get(index).is_some_and(|run| run.running > 0);
            if alive && let Ok(copy) = new.adopt(old, service) {
                if let Some(entry) = new.services_mut().get_mut(usize::from(copy)) {
                    entry.standing = Standing::Departed;
                }
                *successor = Some(copy);
            }
        }

        let mut runs: Vec<Run<B::Listener>, SERVICES> = Vec::new();
        for _ in new.services() {
            let _ = runs.push(Run::new());
        }
        for (index, successor) in successors.iter().enumerate() {
            let (Some(run), Some(service)) = (self.runs.get_mut(index), old.services().get(index)) else {
                continue;
            };
            let Some(n) = *successor else { continue };
            let (Some(to), Some(candidate)) = (runs.get_mut(usize::from(n)), new.service(n)) else {
                continue;
            };
            let keeps_socket =
                candidate.standing == Standing::Ready && same_place(old, service, new, candidate);
            to.running = run.running;
            to.started = run.started;
            to.refused = run.refused;
            to.cps = run.cps;
            to.minute = run.minute;
            to.chargen = run.chargen.take().filter(|_| service.dialect == candidate.dialect);
            if keeps_socket {
                to.listener = run.listener.take();
                to.hasty = run.hasty;
                to.listen_failures = run.listen_failures;
                to.state = run.state;
                to.told = run.told;
            }
        }
        // A place that is in both tables keeps its socket and who waits there, even if its service is another now. Not if
        // a wait server has it: that one's service is told when it ends, and no other.
        for (to, candidate) in runs.iter_mut().zip(new.services()) {
            if to.listener.is_some() || candidate.standing != Standing::Ready {
                continue;
            }
            let left = self.runs.iter_mut().zip(old.services()).find(|(run, service)| {
                run.listener.is_some() && run.state != State::Busy && same_place(old, service, new, candidate)
            });
            if let Some((run, _)) = left {
                to.listener = run.listener.take();
                to.state = State::Listening;
                to.told = false;
            }
        }
        // What was not handed on closes here. Entry by entry: moving the whole vector would touch the memory of services
        // that do not exist.
        for (run, service) in self.runs.iter_mut().zip(old.services()) {
            if let Some(listener) = run.listener.take() {
                b.retire(old, service, listener);
            }
        }
        self.runs.clear();
        for run in runs {
            let _ = self.runs.push(run);
        }
        for server in self.servers.values_mut() {
            let old_index = server.service;
            server.service =
                successors.get(usize::from(old_index)).copied().flatten().unwrap_or(ServiceIndex::MAX);
            let kept = self
                .runs
                .get(usize::from(server.service))
                .is_some_and(|run| run.state == State::Busy && run.listener.is_some());
            if !kept {
                // Its socket is not the service's any more: its end gives nothing back.
                server.blocks |= server.holds.take().is_some();
            }
        }
        for session in self.sessions.values_mut() {
            session.service =
                successors.get(usize::from(session.service)).copied().flatten().unwrap_or(ServiceIndex::MAX);
        }
        self.sources.renumber(|index| successors.get(usize::from(index)).copied().flatten());
        self.active = !self.active;
        self.generation = self.generation.wrapping_add(1);

        for index in 0..self.runs.len() {
            let index = index as ServiceIndex;
            let Some(service) = self.table().service(index) else { continue };
            let standing = service.standing;
            let generation = self.generation;
            let Some(run) = self.runs.get_mut(usize::from(index)) else { continue };
            if standing != Standing::Ready {
                run.listener = None;
                run.state = State::Off;
                continue;
            }
            if !continued.get(usize::from(index)).copied().unwrap_or(false) {
                changes.added += 1;
            }
            if !self.refit(index, b) {
                self.listen(index, now, b);
                continue;
            }
            let Some(run) = self.runs.get_mut(usize::from(index)) else { continue };
            let Some(listener) = &run.listener else { continue };
            // A limit that was raised may let in who waited; a pause ends at its own time.
            if run.state == State::Full {
                run.state = State::Listening;
            }
            b.watch(ServiceId { index, generation }, listener, run.state == State::Listening);
            if core::mem::take(&mut run.listen_failures) > 0 {
                self.note(index, Fact::ListenRecovered, b);
            }
        }
        self.timers_changed = true;
        self.refresh_deadline();
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// Stops listening everywhere, for good.
    pub fn stop_listening(&mut self, now: Now, b: &mut B) {
        self.tell_refusals(true, now, b);
        self.deadline = None;
        let [first, second] = &self.tables;
        let table = if self.active { second } else { first };
        for (run, service) in self.runs.iter_mut().zip(table.services()) {
            if let Some(listener) = run.listener.take() {
                b.retire(table, service, listener);
            }
            run.state = State::Off;
            run.told = false;
        }
        // What a wait server holds is its own now.
        for server in self.servers.values_mut() {
            server.holds = None;
        }
    }

    /// Tells all servers to end.
    pub fn end_servers(&mut self, how: End, b: &mut B) {
        for (_, server) in self.servers.iter() {
            b.end(server.pid, how);
        }
    }

    /// Closes all clients of built-in services.
    pub fn end_sessions(&mut self, now: Now, b: &mut B) {
        loop {
            let next = self.sessions.iter().next().map(|(id, _)| id);
            let Some(id) = next else { return };
            self.close_session(id, now, b);
        }
    }

    /// What must always be true; checked after every event of a debug build.
    #[cfg(debug_assertions)]
    fn check_invariants(&self) {
        debug_assert_eq!(self.deadline, self.find_deadline(), "a deadline changed unnoticed");
        for (index, run) in self.runs.iter().enumerate() {
            let index = index as ServiceIndex;
            let live = self.servers.iter().filter(|(_, s)| s.service == index).count()
                + self.sessions.iter().filter(|(_, s)| s.service == index).count();
            debug_assert_eq!(usize::from(run.running), live, "service {index} counts what runs");
            let has_socket = run.listener.is_some();
            match run.state {
                State::Off | State::Retry { .. } => debug_assert!(!has_socket),
                _ => debug_assert!(has_socket),
            }
            if run.state == State::Full {
                debug_assert!(self.running() > 0, "service {index} waits for a place nobody will leave");
            }
            debug_assert!(!run.told || matches!(run.state, State::Paused { .. }), "a pause that was told");
            let holders =
                self.servers.iter().filter(|(_, s)| s.service == index && s.holds.is_some()).count();
            debug_assert!(holders <= 1, "one wait server at a time");
            debug_assert_eq!(run.state == State::Busy, holders == 1, "busy means a wait server holds it");
        }
        let services = self.runs.len();
        debug_assert_eq!(services, self.table().services().len());
        let nowhere = |index: ServiceIndex| index != ServiceIndex::MAX && usize::from(index) >= services;
        debug_assert!(!self.servers.iter().any(|(_, s)| nowhere(s.service)));
        debug_assert!(!self.sessions.iter().any(|(_, s)| nowhere(s.service)));
    }
}

impl<B: Backend> Default for Engine<B> {
    fn default() -> Self {
        Engine::new()
    }
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

/// Whether two services of two tables listen on the same socket: kind, family, address and port, and for an answer
/// by the same kind of owner.
fn same_place(old: &Table, a: &Service, new: &Table, b: &Service) -> bool {
    use crate::service::Bind;
    let bind = match (a.bind, b.bind) {
        (Bind::Interface(x), Bind::Interface(y)) | (Bind::Path(x), Bind::Path(y)) => {
            old.bytes(x) == new.bytes(y)
        }
        (x, y) => x == y,
    };
    // Options that are set when the socket is made make another socket when they change.
    const MADE_WITH: Flags = Flags(Flags::NODELAY.0 | Flags::KEEPALIVE.0);
    bind && a.socket == b.socket
        && a.family == b.family
        && a.port == b.port
        && a.flags.0 & MADE_WITH.0 == b.flags.0 & MADE_WITH.0
        && a.send_buffer == b.send_buffer
        && a.receive_buffer == b.receive_buffer
        && (a.node_mode, a.node_uid, a.node_gid) == (b.node_mode, b.node_uid, b.node_gid)
}

/// Bytes that one more service, server and session costs here, for memory-budget.md.
#[cfg(all(test, feature = "linux"))]
pub(crate) const fn bytes_each<B: Backend>() -> [usize; 3] {
    [
        size_of::<Run<B::Listener>>(),
        Slots::<Server, SERVERS>::BYTES_EACH,
        Slots::<Session<B::Stream>, SESSIONS>::BYTES_EACH,
    ]
}

#[cfg(test)]
mod tests;
