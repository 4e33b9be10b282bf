//! A new table takes the place of the one that serves.

use heapless::Vec;

use super::Tables as _;
use super::inquiry::Purpose;
use super::relay::Relay;
use super::tables::{OneTable, TablePair};
use super::{Changes, Engine, Run, Server, Session, State};
use crate::access::{self, Outcome};
use crate::addr::{HostName, Peer};
use crate::backend::{Backend, End, ServiceId};
use crate::capacity::SERVICES;
use crate::record::{Fact, Refusal};
use crate::service::{Family, Flags, Service, Standing};
use crate::table::{ServiceIndex, Table};
use crate::time::{Instant, Now};

impl<B: Backend> Engine<B> {
    /// Serves what the [`spare`](Engine::spare) table says, where nothing was served before and no other table will come.
    pub fn begin(&mut self, now: Now, b: &mut B)
    where
        B: Backend<Tables = OneTable>,
    {
        for _ in self.tables.serving().services() {
            let _ = self.runs.push(Run::new());
        }
        for index in 0..self.runs.len() {
            self.attend(index as ServiceIndex, now, b);
        }
        self.timers_changed = true;
        self.refresh_deadline();
    }

    /// Listens for a service as it is now, on the socket it has or on a new one.
    fn attend(&mut self, index: ServiceIndex, now: Now, b: &mut B) {
        let Some(service) = self.table().service(index) else { return };
        let wants_socket = service.standing == Standing::Ready && !service.flags.has(Flags::MUX);
        let generation = self.generation;
        let Some(run) = self.runs.get_mut(usize::from(index)) else { return };
        if !wants_socket {
            run.listener = None;
            run.state = State::Off;
            return;
        }
        if !self.refit(index, b) {
            self.listen(index, now, b);
            return;
        }
        let Some(run) = self.runs.get_mut(usize::from(index)) else { return };
        let Some(listener) = &run.listener else { return };
        // A limit that was raised may let in who waited; a pause ends at its own time.
        if run.state == State::Full {
            run.state = State::Listening;
        }
        self.is_keeping = true;
        b.watch(ServiceId { index, generation }, listener, run.state == State::Listening);
        if core::mem::take(&mut run.listen_failures) > 0 {
            self.note(index, Fact::ListenRecovered, b);
        }
    }
}

impl<B: Backend<Tables = TablePair>> Engine<B> {
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
        if B::HAS_STANDBY {
            self.dismiss_standbys(now, b);
        }
        let mut changes = Changes::default();
        let (old, new) = self.tables.both_mut();
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

        self.hand_over_runs(&successors, b);
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
        let successor = |index: ServiceIndex| {
            successors.get(usize::from(index)).copied().flatten().unwrap_or(ServiceIndex::MAX)
        };
        for session in self.sessions.values_mut() {
            session.service = successor(session.service);
        }
        for relay in self.relays.values_mut() {
            relay.service = successor(relay.service);
        }
        for waiting in self.waiting.values_mut() {
            waiting.guest.service = successor(waiting.guest.service);
            waiting.guest.door = successor(waiting.guest.door);
        }
        for inquiry in self.idents.values_mut() {
            if let Purpose::Record(service) = &mut inquiry.purpose {
                *service = successor(*service);
            }
        }
        self.sources.renumber(|index| successors.get(usize::from(index)).copied().flatten());
        self.tables.swap();
        self.generation = self.generation.wrapping_add(1);

        for index in 0..self.runs.len() {
            let is_ready =
                self.table().service(index as ServiceIndex).map(|s| s.standing) == Some(Standing::Ready);
            let is_new = !continued.get(index).copied().unwrap_or(false);
            changes.added += u16::from(is_ready && is_new);
            self.attend(index as ServiceIndex, now, b);
        }
        self.oust(now, b);
        if B::RUNS_PROGRAMS && core::mem::take(&mut self.is_keeping) {
            self.start_ahead(now, b);
        }
        self.expiry = self.find_expiry();
        self.timers_changed = true;
        self.refresh_deadline();
        #[cfg(any(test, debug_assertions, feature = "sim"))]
        self.check_invariants();
        changes
    }

    /// Gives each service of the new table what its predecessor had, and closes what nobody has any more.
    ///
    /// Apart, so that its runs are not on the stack any more when sockets are made.
    #[inline(never)]
    fn hand_over_runs(&mut self, successors: &[Option<ServiceIndex>], b: &mut B) {
        let (old, new) = self.tables.both_mut();
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
                // Nobody looks while the tables change places.
                to.stirred = true;
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
        // that do not exist, here and on the stack.
        for (run, service) in self.runs.iter_mut().zip(old.services()) {
            if let Some(listener) = run.listener.take() {
                b.retire(old, service, listener);
            }
        }
        self.runs.clear();
        for run in &mut runs {
            let _ = self.runs.push(core::mem::replace(run, Run::new()));
        }
    }
}

impl<B: Backend> Engine<B> {
    /// Applies access rules and limits to what runs of services that ask for it (`recheck`), as xinetd.conf(5) promised:
    /// who may not come in any more, or is one too many by now, is told to end. Of those too many the last go first.
    ///
    /// hosts.allow and hosts.deny are not asked again, and a name only if it is known: nothing here waits.
    fn oust(&mut self, now: Now, b: &mut B) {
        for (_, server) in self.servers.iter() {
            let Server { service, pid, peer, began, .. } = *server;
            if let Some(refusal) = self.ousts(service, peer, began, now) {
                self.note(service, Fact::Ousted { pid, peer, refusal }, b);
                b.end(pid, End::Ask);
            }
        }
        while let Some(id) = self.sessions.find(|s| self.ousts(s.service, s.peer, s.began, now).is_some()) {
            let Some(&Session { service, peer, began, .. }) = self.sessions.get(id) else { return };
            let Some(refusal) = self.ousts(service, peer, began, now) else { return };
            self.note(service, Fact::Ousted { pid: 0, peer, refusal }, b);
            self.close_session(id, now, b);
        }
        let is_own = |relay: &Relay<B::Stream>| relay.is_tenant();
        while let Some(id) =
            self.relays.find(|r| is_own(r) && self.ousts(r.service, r.peer, r.began, now).is_some())
        {
            let Some(&Relay { service, peer, began, .. }) = self.relays.get(id) else { return };
            let Some(refusal) = self.ousts(service, peer, began, now) else { return };
            self.note(service, Fact::Ousted { pid: 0, peer, refusal }, b);
            self.close_relay(id, now, b);
        }
    }

    /// Why one that came then may not be there any more, if so.
    pub(super) fn ousts(&self, index: ServiceIndex, peer: Peer, began: Instant, now: Now) -> Option<Refusal> {
        let table = self.table();
        let service = table.service(index).filter(|s| s.flags.has(Flags::RECHECK))?;
        let name = peer.address().map_or(HostName::Unknown, |address| self.resolver.name(address, now.mono));
        // Who takes his clients himself has some that nobody here knows.
        if !service.is_owned_by_server()
            && access::decide(table, service, peer, name).outcome == Outcome::Refused
        {
            return Some(Refusal::Address);
        }
        if !service.access_times.is_empty() {
            let minute = now.unix.map(|unix| self.zone.at(unix).minute_of_day());
            if !minute.is_some_and(|minute| access::admits_minute(table, service, minute)) {
                return Some(Refusal::Time);
            }
        }
        let earlier = |peer: Option<Peer>| {
            let servers = self.servers.iter().map(|(_, s)| (s.service, s.peer, s.began));
            let sessions = self.sessions.iter().map(|(_, s)| (s.service, s.peer, s.began));
            let relays = self.relays.iter().filter(|(_, r)| r.is_tenant());
            let relays = relays.map(|(_, r)| (r.service, r.peer, r.began));
            servers
                .chain(sessions)
                .chain(relays)
                .filter(|(service, from, came)| {
                    *service == index
                        && *came < began
                        && peer.is_none_or(|peer| peer.address() == from.address())
                })
                .count() as u64
        };
        if service
            .per_source
            .is_some_and(|most| peer.address().is_some() && earlier(Some(peer)) >= u64::from(most))
        {
            return Some(Refusal::PerSourceLimit);
        }
        service
            .instances
            .is_some_and(|most| earlier(None) >= u64::from(most))
            .then_some(Refusal::ServiceLimit)
    }
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
    const MADE_WITH: Flags = Flags(Flags::NODELAY.0 | Flags::KEEPALIVE.0 | Flags::REUSE_PORT.0);
    // Behind tcpmux there is no socket, only names.
    let is_behind_mux = a.flags.has(Flags::MUX) || b.flags.has(Flags::MUX);
    bind && !is_behind_mux
        && a.socket == b.socket
        && a.family == b.family
        && a.port == b.port
        && a.flags.0 & MADE_WITH.0 == b.flags.0 & MADE_WITH.0
        && a.send_buffer == b.send_buffer
        && a.receive_buffer == b.receive_buffer
        && (a.node_mode, a.node_uid, a.node_gid) == (b.node_mode, b.node_uid, b.node_gid)
}
