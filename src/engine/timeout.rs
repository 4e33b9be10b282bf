//! How long clients and servers may stay: `timeout`, `idle_timeout`, and who gives way when there is no place left.
//!
//! Nobody who is served pays for it: a deadline is worked out from when he came or was last heard of, once for all that
//! are timed. What is remembered is not later than the earliest of them; it may be too early when somebody has left or
//! was heard of again, and is then worked out anew, at the cost of one wake-up.

use super::Tables as _;
use super::relay::Relay;
use super::{Engine, Obstacle, Server, ServiceIndex, Session, State};
use crate::addr::Peer;
use crate::backend::{Backend, End, Pid};
use crate::builtin::Talk;
use crate::record::{Fact, Overstay};
use crate::service::{Answer, Builtin, Flags, Service};
use crate::slots::Handle;
use crate::time::{Instant, Now};

/// Servers that were told to end have this long before they are killed, in milliseconds.
pub const GRACE_MS: u64 = 5000;
/// A client of a built-in service of whom nothing was heard for so long gives way to one who waits for a place, in
/// milliseconds.
const YIELD_MS: u64 = 60_000;
/// Of so many parts of `idle_timeout` a wait server must have been idle in all.
const QUIET: u8 = 4;

/// Whether a server was told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    None,
    /// SIGTERM; it is killed then.
    Asked {
        until: Instant,
    },
    Killed,
}

/// When somebody has to go, and for which reason.
type Due = (Instant, Overstay);

/// When who came then, and was last heard of then, has to go.
fn due(timeout: u32, idle_timeout: u32, began: Instant, last: Instant) -> Option<Due> {
    let end =
        |seconds: u32, from: Instant, why| (seconds > 0).then(|| (from.plus_s(u64::from(seconds)), why));
    let timeout = end(timeout, began, Overstay::Timeout);
    let idle = end(idle_timeout, last, Overstay::IdleTimeout);
    timeout.into_iter().chain(idle).min_by_key(|(at, _)| *at)
}

/// Milliseconds between two looks at whether anything comes to the socket of a wait server.
fn look_ms(service: &Service) -> Option<u64> {
    let is_timed = service.idle_timeout > 0 && !service.flags.has(Flags::KEEP);
    is_timed.then(|| u64::from(service.idle_timeout) * 1000 / u64::from(QUIET))
}

/// Whether its clients take places of [`SESSIONS`](crate::capacity::SESSIONS).
pub(super) const fn holds_sessions(service: &Service) -> bool {
    match service.answer {
        Answer::Builtin(builtin) => !matches!(builtin, Builtin::Daytime | Builtin::Time),
        Answer::Tcpmux | Answer::Own(_) => true,
        Answer::Program | Answer::Redirect(_) | Answer::Sensor(_) => false,
    }
}

impl<B: Backend> Engine<B> {
    /// Somebody came who may stay until then.
    pub(super) fn expires(&mut self, at: Option<Instant>) {
        let earlier = |than: Option<Instant>| than.into_iter().chain(at).min();
        self.expiry = earlier(self.expiry);
        self.deadline = earlier(self.deadline);
    }

    /// A client of our own came to this service now.
    pub(super) fn begins_to_stay(&mut self, index: ServiceIndex, now: Now) {
        let due = self
            .table()
            .service(index)
            .and_then(|service| due(service.timeout, service.idle_timeout, now.mono, now.mono));
        self.expires(due.map(|(at, _)| at));
    }

    /// A server of this service was started now.
    pub(super) fn begins_to_serve(&mut self, server: &Server) {
        self.expires(self.server_due(server));
    }

    fn session_due(&self, session: &Session<B::Stream, B::OwnClient>) -> Option<Due> {
        let service = self.table().service(session.service)?;
        due(service.timeout, service.idle_timeout, session.began, session.last)
    }

    fn relay_due(&self, relay: &Relay<B::Stream>) -> Option<Due> {
        let service = self.table().service(relay.service)?;
        // A server has its own `timeout`, and its client goes when it has ended.
        let timeout = if relay.is_tenant() { service.timeout } else { 0 };
        due(timeout, service.idle_timeout, relay.began, relay.last)
    }

    fn tell_overstayer(&self, index: ServiceIndex, pid: Pid, peer: Peer, due: Option<Due>, b: &mut B) {
        if let Some((_, why)) = due {
            self.note(index, Fact::TimedOut { pid, peer, why }, b);
        }
    }

    /// When there is something to do about a server.
    fn server_due(&self, server: &Server) -> Option<Instant> {
        match server.notice {
            Notice::Asked { until } => return Some(until),
            Notice::Killed => return None,
            Notice::None => {}
        }
        let service = self.table().service(server.service)?;
        let end = (service.timeout > 0).then(|| server.began.plus_s(u64::from(service.timeout)));
        let look = look_ms(service).filter(|_| server.holds.is_some()).map(|ms| server.looked.plus_ms(ms));
        end.into_iter().chain(look).min()
    }

    /// The earliest moment at which somebody has to go, or is to be looked at.
    pub(super) fn find_expiry(&self) -> Option<Instant> {
        let sessions = self.sessions.iter().filter_map(|(_, session)| self.session_due(session));
        let relays = self.relays.iter().filter_map(|(_, relay)| self.relay_due(relay));
        let clients = sessions.chain(relays).map(|(at, _)| at);
        let servers = self.servers.iter().filter_map(|(_, server)| self.server_due(server));
        let ahead = if B::HAS_STANDBY { self.standby_due() } else { None };
        clients.chain(servers).chain(self.yields_at()).chain(ahead).min()
    }

    /// Ends those whose time is over.
    pub(super) fn end_overstayers(&mut self, now: Now, b: &mut B) {
        if self.expiry.is_none_or(|at| at > now.mono) {
            return;
        }
        let is_over = |due: &Due| due.0 <= now.mono;
        while let Some(id) = self.sessions.find(|s| self.session_due(s).as_ref().is_some_and(is_over)) {
            let Some(session) = self.sessions.get(id) else { return };
            self.tell_overstayer(session.service, 0, session.peer, self.session_due(session), b);
            self.close_session(id, now, b);
        }
        while let Some(id) = self.relays.find(|r| self.relay_due(r).as_ref().is_some_and(is_over)) {
            let Some(relay) = self.relays.get(id) else { return };
            let pid = relay.server().unwrap_or(0);
            self.tell_overstayer(relay.service, pid, relay.peer, self.relay_due(relay), b);
            self.close_relay(id, now, b);
            if let Some(server) = self.servers.values_mut().find(|server| server.pid == pid)
                && server.notice == Notice::None
            {
                server.notice = Notice::Asked { until: now.mono.plus_ms(GRACE_MS) };
                b.end(pid, End::Ask);
            }
        }
        if B::RUNS_PROGRAMS {
            while let Some(id) = self.servers.find(|s| self.server_due(s).is_some_and(|at| at <= now.mono)) {
                self.look_at(id, now, b);
            }
        }
        if self.yields_at().is_some_and(|at| at <= now.mono) {
            self.make_room(now, b);
        }
        if B::HAS_STANDBY {
            self.look_after_standbys(now, b);
        }
        self.expiry = self.find_expiry();
    }

    /// Something is to be done about a server: it is due. Afterwards it is not any more.
    fn look_at(&mut self, id: Handle, now: Now, b: &mut B) {
        let table = self.tables.serving();
        let Some(server) = self.servers.get_mut(id) else { return };
        let (index, pid, peer) = (server.service, server.pid, server.peer);
        if let Notice::Asked { .. } = server.notice {
            server.notice = Notice::Killed;
            return b.end(pid, End::Kill);
        }
        let Some(service) = table.service(index) else { return };
        let timeout = u64::from(service.timeout);
        let mut why = Overstay::Timeout;
        if timeout == 0 || server.began.plus_s(timeout) > now.mono {
            why = Overstay::IdleTimeout;
            server.looked = now.mono;
            let Some(listener) = self.runs.get(usize::from(index)).and_then(|run| run.listener.as_ref())
            else {
                return;
            };
            let taken = b.taken(listener);
            let is_quiet = taken == Some(server.taken) && b.mark(listener) == 0;
            server.taken = taken.unwrap_or(0);
            server.quiet = if is_quiet { server.quiet + 1 } else { 0 };
            if server.quiet < QUIET {
                return;
            }
        }
        server.notice = Notice::Asked { until: now.mono.plus_ms(GRACE_MS) };
        self.note(index, Fact::TimedOut { pid, peer, why }, b);
        b.end(pid, End::Ask);
    }

    /// Something came to a socket that a server owns.
    pub(super) fn stirs(&mut self, index: ServiceIndex) {
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.stirred = true;
        }
    }

    /// Of whom nothing was heard longest among those who give way.
    fn idlest(&self) -> Option<(Handle, Instant)> {
        // What a service of the firmware's own is about is for its author to say.
        let gives_way = |s: &Session<B::Stream, B::OwnClient>| !matches!(s.talk, Talk::Own(_));
        let sessions = self.sessions.iter().filter(|(_, session)| gives_way(session));
        sessions.map(|(id, session)| (id, session.last)).min_by_key(|(_, last)| *last)
    }

    /// When somebody gives way to those who wait for a place in the table of sessions, if any do.
    fn yields_at(&self) -> Option<Instant> {
        if !self.sessions.is_full() {
            return None;
        }
        let waits = |(service, run): (&Service, &super::Run<B::Listener>)| {
            run.state == State::Full && holds_sessions(service)
        };
        self.table().services().iter().zip(&self.runs).any(waits).then(|| self.idlest())?.map(yields)
    }

    /// Closes the client of whom nothing was heard longest, if that is long enough.
    pub(super) fn make_room(&mut self, now: Now, b: &mut B) {
        let Some((id, last)) = self.idlest() else { return };
        let Some(&Session { service, peer, .. }) = self.sessions.get(id) else { return };
        if last.plus_ms(YIELD_MS) <= now.mono {
            self.note(service, Fact::TimedOut { pid: 0, peer, why: Overstay::PlaceNeeded }, b);
            self.close_session(id, now, b);
        }
    }

    /// Somebody waits at this service's listener: whether a place can be made for him.
    pub(super) fn may_make_room(&self, index: ServiceIndex, obstacle: Obstacle) -> bool {
        matches!(obstacle, Obstacle::Table) && self.table().service(index).is_some_and(holds_sessions)
    }

    /// A client waits for a place in the table of sessions.
    pub(super) fn waits_for_room(&mut self) {
        self.expires(self.yields_at());
    }
}

fn yields((_, last): (Handle, Instant)) -> Instant {
    last.plus_ms(YIELD_MS)
}
