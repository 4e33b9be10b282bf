//! `redirect`: a client here, a connection to another host there, and bytes in between; and the same with a standby server
//! in place of the host.
//!
//! xinetd ended both as soon as either said that it would send no more, so a client that half-closed after its request
//! got no answer. Here each direction ends by itself. Nothing is held in a relay: what one side does not take stays in
//! the other's socket, or in one of the backend's few buffers.

use core::net::SocketAddr;

use super::Tables as _;
use super::{Engine, Guest, ServiceIndex, Severity};
use crate::addr::Peer;
use crate::backend::{Backend, Pid, RelayId, StreamId};
use crate::builtin::{Forward, Step};
use crate::capacity::TURN_BYTES;
use crate::errno::Errno;
use crate::record::{Ending, Fact, Refusal};
use crate::resolver::Lookup;
use crate::service::{Answer, Host, Proxy, Target};
use crate::time::{Instant, Now};

/// How long the other host may take to answer a connection, in milliseconds.
const CONNECT_MS: u64 = 30_000;

/// Whom a client is led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behind {
    Host(SocketAddr),
    /// A standby server, which lives.
    Server(Pid),
    /// One that has ended. What it said may still be on its way.
    Ended,
}

/// One way of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Way {
    moved: u64,
    /// Nothing more will come this way.
    is_ended: bool,
    /// The receiver takes nothing now.
    is_blocked: bool,
    /// There was nothing more to take when it was looked at last.
    is_empty: bool,
}

/// A client of a redirected service, or of one with standby servers.
pub(super) struct Relay<S> {
    pub service: ServiceIndex,
    pub peer: Peer,
    pub began: Instant,
    /// When something came last, or could be sent.
    pub last: Instant,
    behind: Behind,
    /// Until then the other host must have answered; `None` once it has.
    pub deadline: Option<Instant>,
    pub near: S,
    pub far: S,
    /// From the client, and to it.
    ways: [Way; 2],
    waits_for: [Step; 2],
    /// One side is broken: what still waits for the other goes out, no more.
    is_broken: bool,
}

impl<S> Relay<S> {
    pub fn new(service: ServiceIndex, peer: Peer, behind: Behind, near: S, far: S, now: Now) -> Relay<S> {
        // A host has to answer first; a server is there.
        let is_host = matches!(behind, Behind::Host(_));
        let (deadline, waits_for) = match is_host {
            true => (Some(now.mono.plus_ms(CONNECT_MS)), [Step::Close, Step::Write]),
            false => (None, [Step::Read, Step::Read]),
        };
        Relay {
            service,
            peer,
            began: now.mono,
            last: now.mono,
            behind,
            deadline,
            near,
            far,
            ways: [Way::default(); 2],
            waits_for,
            is_broken: false,
        }
    }

    /// Whether it stands for its client where clients are counted: as long as there is a server, that does.
    pub const fn is_tenant(&self) -> bool {
        self.server().is_none()
    }

    /// The standby server, while it lives.
    pub const fn server(&self) -> Option<Pid> {
        match self.behind {
            Behind::Server(pid) => Some(pid),
            Behind::Host(_) | Behind::Ended => None,
        }
    }

    const fn host(&self) -> Option<SocketAddr> {
        match self.behind {
            Behind::Host(host) => Some(host),
            Behind::Server(_) | Behind::Ended => None,
        }
    }

    /// Bytes moved in both directions.
    pub fn moved(&self) -> u64 {
        let [there, back] = self.ways;
        there.moved + back.moved
    }
}

impl<B: Backend> Engine<B> {
    /// Begins the relay of an admitted client.
    pub(super) fn redirect(
        &mut self,
        guest: Guest,
        stream: B::Stream,
        severity: Severity,
        now: Now,
        b: &mut B,
    ) {
        let index = guest.service;
        let table = self.tables.serving();
        let Some(Answer::Redirect(Target { host, port })) =
            table.service(index).map(|service| service.answer)
        else {
            return b.close(stream);
        };
        let address = match host {
            Host::Address(address) => Some(address),
            Host::Name(name) => {
                let name = table.bytes(name);
                if self.resolver.addresses(name, now.mono).is_none()
                    && let Err(refusal) = self.may_wait(&guest)
                {
                    self.refuse(index, refusal, guest.peer, b);
                    return b.close(stream);
                }
                self.timers_changed = true;
                let lookup = {
                    let (files, mut network) = b.resolving();
                    self.resolver.addresses_of(name, now.mono, files, &mut network)
                };
                match lookup {
                    Lookup::Done => {
                        self.resolver.addresses(name, now.mono).and_then(|found| found.first()).copied()
                    }
                    Lookup::Pending => return self.wait_for_host(guest, stream, severity, now, b),
                    Lookup::Full => {
                        self.refuse(index, Refusal::LookupLimit, guest.peer, b);
                        return b.close(stream);
                    }
                }
            }
        };
        // `must_wait` has seen a free place; while he waited for a name others may have taken it.
        if self.relays.is_full() {
            self.refuse(index, Refusal::ProcessLimit, guest.peer, b);
            return b.close(stream);
        }
        self.started(index, guest.peer, severity, b);
        let to = address.map(|address| SocketAddr::new(address, port));
        let begun = to.ok_or(Errno::NOENT).and_then(|to| Ok((to, b.connect(None, to)?)));
        let (to, far) = match begun {
            Ok(begun) => begun,
            Err(errno) => {
                self.note(index, Fact::ConnectFailed { to, errno }, b);
                let ending = Ending::Exited(0);
                self.note(index, Fact::Exit { pid: 0, peer: guest.peer, ending, seconds: 0 }, b);
                return b.close(stream);
            }
        };
        let relay = Relay::new(index, guest.peer, Behind::Host(to), stream, far, now);
        let Ok(id) = self.relays.insert(relay) else { return };
        self.timers_changed = true;
        self.begins_to_stay(index, now);
        if let Some(run) = self.runs.get_mut(usize::from(index)) {
            run.running += 1;
        }
        let Some(relay) = self.relays.get(id) else { return };
        let watched = b
            .open(StreamId::Near(id), &relay.near, Step::Close)
            .and_then(|()| b.open(StreamId::Far(id), &relay.far, Step::Write));
        if let Err(errno) = watched {
            self.note(index, Fact::ConnectFailed { to: Some(to), errno }, b);
            self.close_relay(id, now, b);
        }
    }

    /// Before the other host has answered nothing is asked of the client: an event is its end. Whether it has answered now.
    fn is_answered(&mut self, id: RelayId, is_far: bool, now: Now, b: &mut B) -> bool {
        let Some(relay) = self.relays.get_mut(id) else { return false };
        match if is_far { b.connected(&relay.far) } else { Err(Errno::CONNRESET) } {
            Ok(()) => {
                relay.deadline = None;
                self.timers_changed = true;
                let Some(relay) = self.relays.get(id) else { return false };
                let proxy = self.table().service(relay.service).map_or(Proxy::No, |service| service.proxy);
                self.tell_peer(proxy, relay.peer, &relay.near, &relay.far, b);
                true
            }
            Err(Errno::AGAIN) => false,
            Err(errno) => {
                let (index, to) = (relay.service, relay.host());
                if is_far {
                    self.note(index, Fact::ConnectFailed { to, errno }, b);
                }
                self.close_relay(id, now, b);
                false
            }
        }
    }

    /// A stream of a relay has something, has room, or is gone.
    pub(super) fn relay_on(&mut self, id: RelayId, is_far: bool, now: Now, b: &mut B) {
        if self.relays.get(id).is_some_and(|relay| relay.deadline.is_some())
            && !self.is_answered(id, is_far, now, b)
        {
            return;
        }
        let Some(relay) = self.relays.get_mut(id) else { return };
        relay.last = now.mono;
        let [near_step, far_step] = relay.waits_for;
        let step = if is_far { far_step } else { near_step };
        // Watched for nothing, and still reported: it is broken, or both ways through it have ended, of which it would
        // be told again and again.
        if step == Step::Close {
            let stream = if is_far { &relay.far } else { &relay.near };
            relay.is_broken |= !matches!(b.connected(stream), Ok(()) | Err(Errno::AGAIN));
            b.unwatch(stream);
        }
        let has_ended = relay.behind == Behind::Ended;
        let Relay { near, far, ways: [there, back], is_broken, .. } = relay;
        let scratch = &mut self.scratch;
        let mut carry = |way: &mut Way, from: &mut B::Stream, to: &mut B::Stream, b: &mut B| {
            way.is_blocked = false;
            way.is_empty = false;
            let mut budget = TURN_BYTES;
            while !way.is_ended && budget > 0 {
                match b.relay(from, to, scratch) {
                    Ok(Forward::Moved(n)) => {
                        way.moved += n as u64;
                        budget = budget.saturating_sub(n);
                    }
                    Ok(Forward::Empty) => {
                        way.is_empty = true;
                        return;
                    }
                    Ok(Forward::Blocked) => {
                        way.is_blocked = true;
                        return;
                    }
                    Ok(Forward::End) => {
                        way.is_ended = true;
                        b.finish(to);
                    }
                    Err(_) => {
                        way.is_ended = true;
                        *is_broken = true;
                    }
                }
            }
        };
        carry(there, near, far, b);
        carry(back, far, near, b);
        let is_done = |way: &Way| way.is_ended || way.is_empty;
        // Nobody reads what the client of a server that has ended still says.
        let is_over = (back.is_ended && (there.is_ended || has_ended))
            || (*is_broken && is_done(there) && is_done(back));
        if is_over {
            return self.close_relay(id, now, b);
        }
        let step = |reads: &Way, writes: &Way| match (!reads.is_ended && !reads.is_blocked, writes.is_blocked)
        {
            (true, true) => Step::Both,
            (true, false) => Step::Read,
            (false, true) => Step::Write,
            (false, false) => Step::Close,
        };
        let steps = [step(there, back), step(back, there)];
        if steps != relay.waits_for {
            let [near, far] = steps;
            let [near_before, far_before] = core::mem::replace(&mut relay.waits_for, steps);
            if near != near_before {
                b.wait_for(StreamId::Near(id), &relay.near, near);
            }
            if far != far_before {
                b.wait_for(StreamId::Far(id), &relay.far, far);
            }
        }
    }

    pub(super) fn close_relay(&mut self, id: RelayId, now: Now, b: &mut B) {
        let Some(relay) = self.relays.remove(id) else { return };
        self.timers_changed = true;
        let Relay { service: index, peer, began, behind, near, far, ways: [there, back], .. } = relay;
        b.close(near);
        b.close(far);
        if let Behind::Host(_) = behind {
            let seconds = now.mono.since_s(began);
            self.note(index, Fact::Exit { pid: 0, peer, ending: Ending::Exited(0), seconds }, b);
        }
        self.note(index, Fact::Traffic { received: there.moved, sent: back.moved }, b);
        match behind {
            Behind::Host(_) | Behind::Ended => self.place_free(index, now, b),
            // Its client has gone; it may have something left to do.
            Behind::Server(_) => self.wake_full(now, b),
        }
    }

    /// A server has ended: whether what it said to its client is still on the way, who is counted by that from now on.
    pub(super) fn inherits(&mut self, pid: Pid, now: Now, b: &mut B) -> bool {
        let Some(id) = self.relays.find(|relay| relay.behind == Behind::Server(pid)) else { return false };
        let Some(relay) = self.relays.get_mut(id) else { return false };
        relay.behind = Behind::Ended;
        // The server's time is the relay's from now on, and may be over.
        let index = relay.service;
        let timeout = self.tables.serving().service(index).map_or(0, |service| service.timeout);
        if timeout > 0 {
            let at = relay.began.plus_s(u64::from(timeout));
            self.expires(Some(at));
        }
        // Its end may have been seen before.
        self.relay_on(id, true, now, b);
        true
    }

    /// Gives up connections that nobody answered.
    pub(super) fn end_overdue_relays(&mut self, now: Now, b: &mut B) {
        while let Some(id) = self.relays.find(|relay| relay.deadline.is_some_and(|at| at <= now.mono)) {
            let Some((index, to)) = self.relays.get(id).map(|relay| (relay.service, relay.host())) else {
                return;
            };
            self.note(index, Fact::ConnectFailed { to, errno: Errno::TIMEDOUT }, b);
            self.close_relay(id, now, b);
        }
    }
}
