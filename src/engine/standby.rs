//! Servers that are started ahead: `standby`, and `keep` of services whose server owns the socket.
//!
//! A standby server has one end of a pair of sockets for its descriptors 0 to 2 and waits there; the daemon has the other.
//! A client is handed to the one that has waited longest: from then on it is a server like all others, with a relay between
//! its client and the pair, and another takes its post. Nothing about a post is a client's: limits and records know nothing
//! of it.

use super::Tables as _;
use super::admission::{Entry, Guest};
use super::relay::{Behind, Relay};
use super::timeout::GRACE_MS;
use super::{Engine, STARVED_MS, Server, State};
use crate::addr::Peer;
use crate::backend::{Backend, End, Given, Pid, ServiceId, Spawn, StreamId};
use crate::builtin::Step;
use crate::capacity::{STANDBY_STARTS_A_TURN, STANDBYS};
use crate::errno::Errno;
use crate::proxy;
use crate::record::{Ending, Fact, Refusal};
use crate::service::{Flags, Proxy, Service, Standing};
use crate::table::ServiceIndex;
use crate::time::{Instant, Now};
use crate::wrappers::Effects;

/// One that ends within this time without having had a client does not work, in milliseconds; one that waited longer may
/// have had enough of it.
const LASTS_MS: u64 = 10_000;
/// The first delay after that; it doubles up to [`LONGEST_MS`].
const FIRST_MS: u64 = 1000;
const LONGEST_MS: u64 = 60_000;

/// A post of a standby server.
pub(super) struct Standby<S> {
    pub service: ServiceIndex,
    /// Servers in a row that ended at it too soon.
    failures: u8,
    post: Post<S>,
}

enum Post<S> {
    /// A server waits for its client.
    Manned { pid: Pid, since: Instant, stream: S },
    /// Until then nobody is started.
    Vacant { until: Instant },
}

/// A standby server that is not wanted any more and has been told to end.
pub(super) struct Dismissed {
    pid: Pid,
    /// When it is killed, if it was not.
    until: Option<Instant>,
}

impl Dismissed {
    pub const fn pid(&self) -> Pid {
        self.pid
    }
}

/// What a client needs from now on.
struct Partner<S> {
    pid: Pid,
    stream: S,
}

impl<B: Backend> Engine<B> {
    /// Standby servers that wait: whose, which, since when.
    pub fn standbys(&self) -> impl Iterator<Item = (ServiceIndex, Pid, Instant)> {
        self.standbys.iter().filter_map(|standby| match &standby.post {
            Post::Manned { pid, since, .. } => Some((standby.service, *pid, *since)),
            Post::Vacant { .. } => None,
        })
    }

    /// Standby servers that were told to end and have not.
    pub fn dismissed(&self) -> usize {
        self.dismissed.len()
    }

    /// When there is something to do about standby servers.
    pub(super) fn standby_due(&self) -> Option<Instant> {
        let vacant = self.standbys.iter().filter_map(|standby| match standby.post {
            Post::Vacant { until } => Some(until),
            Post::Manned { .. } => None,
        });
        vacant.chain(self.dismissed.iter().filter_map(|dismissed| dismissed.until)).min()
    }

    /// Kills those who were told to end and have not; what is to be started is due.
    pub(super) fn look_after_standbys(&mut self, now: Now, b: &mut B) {
        self.is_keeping |= !self.standbys.is_empty();
        for dismissed in &mut self.dismissed {
            if dismissed.until.is_some_and(|at| at <= now.mono) {
                dismissed.until = None;
                b.end(dismissed.pid, End::Kill);
            }
        }
    }

    /// Starts servers that are to be there before anybody comes.
    #[inline(never)]
    pub(super) fn start_ahead(&mut self, now: Now, b: &mut B) {
        self.start_kept(now, b);
        if !B::HAS_STANDBY {
            return;
        }
        let mut starts = STANDBY_STARTS_A_TURN;
        for at in 0..self.runs.len() {
            let index = at as ServiceIndex;
            let wanted = self
                .table()
                .service(index)
                .filter(|service| service.standing == Standing::Ready)
                .map_or(0, |service| usize::from(service.standby));
            let listens = self.runs.get(at).is_some_and(|run| run.listener.is_some());
            let wanted = if listens { wanted } else { 0 };
            let mut posts = self.standbys.iter().filter(|standby| standby.service == index).count();
            while posts < wanted {
                let post = Post::Vacant { until: now.mono };
                if self.standbys.push(Standby { service: index, failures: 0, post }).is_err() {
                    break;
                }
                posts += 1;
            }
        }
        for at in 0..self.standbys.len() {
            let Some(standby) = self.standbys.get(at) else { return };
            let is_due = matches!(standby.post, Post::Vacant { until } if until <= now.mono);
            if !is_due {
                continue;
            }
            if starts == 0 {
                // The others have their turn: after whoever waits to be served.
                return self.expires(Some(now.mono));
            }
            starts -= 1;
            let index = standby.service;
            let listener = self.runs.get(usize::from(index)).and_then(|run| run.listener.as_ref());
            let started = self.start_standby(index, listener, Entry::Plain, b);
            let Some(standby) = self.standbys.get_mut(at) else { return };
            match started {
                Ok(Partner { pid, stream }) => {
                    standby.post = Post::Manned { pid, since: now.mono, stream };
                }
                Err(errno) => {
                    let until = now.mono.plus_ms(STARVED_MS);
                    standby.post = Post::Vacant { until };
                    self.expires(Some(until));
                    self.note(index, Fact::SpawnFailed { errno }, b);
                }
            }
        }
    }

    /// Starts a server at one end of a pair; the other end is ours.
    fn start_standby(
        &self,
        index: ServiceIndex,
        listener: Option<&B::Listener>,
        entry: Entry,
        b: &mut B,
    ) -> Result<Partner<B::Stream>, Errno> {
        let table = self.tables.serving();
        let service = table.service(index).ok_or(Errno::NOENT)?;
        let (stream, theirs) = b.pair()?;
        let effects = (entry != Entry::Plain).then_some(&self.effects);
        let given = Given::Connection(&theirs);
        // Who its client is nobody knows yet; and if one is known, he is to be served like all others.
        let peer = Peer::Unknown;
        let pid = b.spawn(Spawn { table, service, listener, given, peer, effects, command: None })?;
        // The server has it now.
        drop(theirs);
        Ok(Partner { pid, stream })
    }

    /// Whether clients of this service go to standby servers.
    pub(super) const fn is_standby(service: &Service) -> bool {
        B::HAS_STANDBY && service.standby > 0
    }

    /// Answers an admitted client by the standby server that has waited longest; by one that is started for him if there
    /// is none, or if the rule that let him in says something of his server. Gives the connection back if there cannot be.
    pub(super) fn hand_to_standby(
        &mut self,
        guest: &Guest,
        listener: Option<&B::Listener>,
        entry: Entry,
        near: B::Stream,
        now: Now,
        b: &mut B,
    ) -> Result<(), (Refusal, B::Stream)> {
        let Guest { service: index, peer, .. } = *guest;
        let severity = self.severity(entry);
        // `limits` and `must_wait` have seen places, and nothing has taken them since; all the same.
        if self.servers.is_full() || self.relays.is_full() {
            return Err((Refusal::ProcessLimit, near));
        }
        let is_plain = entry == Entry::Plain || is_without_effect(&self.effects);
        let waiting = if is_plain { self.take_standby(index, now, b) } else { None };
        let partner = match waiting.map_or_else(|| self.start_standby(index, listener, entry, b), Ok) {
            Ok(partner) => partner,
            Err(errno) => {
                self.note(index, Fact::SpawnFailed { errno }, b);
                return Err((Refusal::Fork, near));
            }
        };
        let Partner { pid, stream: far } = partner;
        self.serve_with(Server::new(index, pid, peer, None, now));
        self.note_as(index, Fact::Start { pid, peer }, severity, b);
        let proxy = self.table().service(index).map_or(Proxy::No, |service| service.proxy);
        self.tell_peer(proxy, peer, &near, &far, b);
        let relay = Relay::new(index, peer, Behind::Server(pid), near, far, now);
        let Ok(id) = self.relays.insert(relay) else { return Ok(()) };
        self.begins_to_stay(index, now);
        let Some(relay) = self.relays.get(id) else { return Ok(()) };
        let watched = b
            .open(StreamId::Near(id), &relay.near, Step::Read)
            .and_then(|()| b.open(StreamId::Far(id), &relay.far, Step::Read));
        match watched {
            // What either has said already.
            Ok(()) => self.relay_on(id, true, now, b),
            Err(_) => self.close_relay(id, now, b),
        }
        // Another takes its post, once this client has been served.
        self.is_keeping = true;
        Ok(())
    }

    /// Tells who the client is, in front of all that he says.
    pub(super) fn tell_peer(&self, proxy: Proxy, peer: Peer, near: &B::Stream, far: &B::Stream, b: &mut B) {
        if proxy != Proxy::No {
            let header = proxy::header(proxy, peer, b.local(near));
            // A fresh connection has room for so little; and one that is broken is found to be.
            let _ = b.tell(far, &header);
        }
    }

    /// The standby server of a service that has waited longest. One that has ended meanwhile is none.
    fn take_standby(&mut self, index: ServiceIndex, now: Now, b: &mut B) -> Option<Partner<B::Stream>> {
        loop {
            let waiting = self.standbys.iter().enumerate().filter_map(|(at, standby)| match &standby.post {
                Post::Manned { since, pid, .. } if standby.service == index => Some((*since, *pid, at)),
                _ => None,
            });
            let (.., at) = waiting.min()?;
            // The last of the list takes its place: who is in it counts, not where.
            let Standby { post: Post::Manned { pid, stream, .. }, failures, .. } =
                self.standbys.swap_remove(at)
            else {
                return None;
            };
            if b.is_there(&stream) {
                return Some(Partner { pid, stream });
            }
            self.vacate(index, failures, now);
            self.dismiss(pid, stream, now, b);
        }
    }

    /// A server ended too soon at a post that was left: when the next one is started.
    fn vacate(&mut self, index: ServiceIndex, failures: u8, now: Now) -> u64 {
        let ms = (FIRST_MS << u32::from(failures).min(16)).min(LONGEST_MS);
        let until = now.mono.plus_ms(ms);
        let failures = failures.saturating_add(1);
        let _ = self.standbys.push(Standby { service: index, failures, post: Post::Vacant { until } });
        self.expires(Some(until));
        ms
    }

    /// Tells a standby server that it is not wanted any more.
    fn dismiss(&mut self, pid: Pid, stream: B::Stream, now: Now, b: &mut B) {
        b.close(stream);
        let until = Some(now.mono.plus_ms(GRACE_MS));
        // One too many has no time.
        let how = match self.dismissed.push(Dismissed { pid, until }) {
            Ok(()) => End::Ask,
            Err(_) => End::Kill,
        };
        self.expires(until);
        b.end(pid, how);
    }

    /// Leaves them to the process that is their parent: nobody here hears of their ends, and by then another may have the number
    /// of one.
    pub(super) fn forget_standbys(&mut self, b: &mut B) {
        while let Some(Standby { post, .. }) = self.standbys.pop() {
            if let Post::Manned { stream, .. } = post {
                b.close(stream);
            }
        }
        self.dismissed.clear();
    }

    /// Tells all of them. Whoever is still wanted is started anew: a reload is also how a new program, or new settings of
    /// its own, come to be used. An heir starts its own.
    pub fn dismiss_standbys(&mut self, now: Now, b: &mut B) {
        while let Some(Standby { post, .. }) = self.standbys.pop() {
            if let Post::Manned { pid, stream, .. } = post {
                self.dismiss(pid, stream, now, b);
            }
        }
        self.is_keeping = true;
    }

    /// A child ended: whether it was one that nobody had come to.
    pub(super) fn standby_ended(
        &mut self,
        pid: Pid,
        ending: Ending,
        has_failed: bool,
        now: Now,
        b: &mut B,
    ) -> Option<ServiceIndex> {
        if let Some(at) = self.dismissed.iter().position(|dismissed| dismissed.pid == pid) {
            self.dismissed.swap_remove(at);
            return Some(ServiceIndex::MAX);
        }
        let is_it = |standby: &Standby<B::Stream>| matches!(standby.post, Post::Manned { pid: own, .. } if own == pid);
        let at = self.standbys.iter().position(is_it)?;
        let Standby { service: index, failures, post: Post::Manned { since, stream, .. } } =
            self.standbys.swap_remove(at)
        else {
            return None;
        };
        b.close(stream);
        if now.mono.since_ms(since) >= LASTS_MS {
            // Another takes its post at once.
            self.is_keeping = true;
            return Some(index);
        }
        let ms = self.vacate(index, failures, now);
        if !has_failed {
            self.note(index, Fact::StandbyEnded { pid, ending, ms }, b);
        }
        Some(index)
    }

    /// Starts servers of wait services that are to be there before anybody comes (`keep`). Rules and limits are asked as
    /// for a client that may be anybody; if they refuse, the server is started when somebody comes whom they admit.
    fn start_kept(&mut self, now: Now, b: &mut B) {
        for at in 0..self.runs.len() {
            let index = at as ServiceIndex;
            let is_kept = |s: &Service| s.flags.has(Flags::KEEP) && s.is_owned_by_server();
            if !self.table().service(index).is_some_and(is_kept) || self.must_wait(index, now).is_some() {
                continue;
            }
            let Some(run) = self.runs.get_mut(at).filter(|run| run.state == State::Listening) else {
                continue;
            };
            let Some(listener) = run.listener.take() else { continue };
            let guest = Guest { service: index, door: index, peer: Peer::Unknown, local: None };
            if let Ok(entry) = self.admit(&guest, now, b) {
                self.give_socket(&guest, entry, &listener, now, b);
                // Whether something came while it was there tells whether it could have worked.
                if let Some(run) = self.runs.get_mut(at).filter(|run| run.state == State::Busy) {
                    run.stirred = false;
                    b.watch_once(ServiceId { index, generation: self.generation }, &listener);
                }
            }
            if let Some(run) = self.runs.get_mut(at) {
                run.listener = Some(listener);
            }
        }
    }

    /// Bytes that one more of [`STANDBYS`] costs, for memory-budget.md.
    #[cfg(feature = "linux")]
    pub(crate) const STANDBY_BYTES: usize = size_of::<Standby<B::Stream>>() + size_of::<Dismissed>();
}

/// Whether a rule says nothing of the server of whom it lets in.
fn is_without_effect(effects: &Effects) -> bool {
    effects.env().next().is_none()
        && effects.nice.is_none()
        && effects.umask.is_none()
        && effects.identity.is_none()
        && effects.group.is_none()
}

const _: () = assert!(STANDBYS < 65536);
