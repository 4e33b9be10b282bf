//! `redirect`: a client here, a connection to another host there, and bytes in between.
//!
//! xinetd ended both as soon as either said that it would send no more, so a client that half-closed after its request
//! got no answer. Here each direction ends by itself. Nothing is held in a relay: what one side does not take stays in
//! the other's socket, or in one of the backend's few buffers.

use core::net::SocketAddr;

use super::Tables as _;
use super::{Engine, Guest, ServiceIndex, Severity};
use crate::addr::Peer;
use crate::backend::{Backend, RelayId, StreamId};
use crate::builtin::{Forward, Step};
use crate::capacity::TURN_BYTES;
use crate::errno::Errno;
use crate::record::{Ending, Fact, Refusal};
use crate::resolver::Lookup;
use crate::service::{Answer, Host, Target};
use crate::time::{Instant, Now};

/// How long the other host may take to answer a connection, in milliseconds.
const CONNECT_MS: u64 = 30_000;

/// One way of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Way {
    moved: u64,
    /// Nothing more will come this way.
    is_ended: bool,
    /// The receiver takes nothing now.
    is_blocked: bool,
}

/// A client of a redirected service.
pub(super) struct Relay<S> {
    pub service: ServiceIndex,
    pub peer: Peer,
    pub began: Instant,
    /// When something came last, or could be sent.
    pub last: Instant,
    to: SocketAddr,
    /// Until then the other host must have answered; `None` once it has.
    pub deadline: Option<Instant>,
    near: S,
    far: S,
    /// From the client, and to it.
    ways: [Way; 2],
    waits_for: [Step; 2],
    /// One side is broken: what still waits for the other goes out, no more.
    is_broken: bool,
}

impl<S> Relay<S> {
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
        let relay = Relay {
            service: index,
            peer: guest.peer,
            began: now.mono,
            last: now.mono,
            to,
            deadline: Some(now.mono.plus_ms(CONNECT_MS)),
            near: stream,
            far,
            ways: [Way::default(); 2],
            waits_for: [Step::Close, Step::Write],
            is_broken: false,
        };
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

    /// A stream of a relay has something, has room, or is gone.
    pub(super) fn relay_on(&mut self, id: RelayId, is_far: bool, now: Now, b: &mut B) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        relay.last = now.mono;
        if relay.deadline.is_some() {
            // Before the other host has answered nothing is asked of the client: an event is its end.
            let answer = if is_far { b.connected(&relay.far) } else { Err(Errno::CONNRESET) };
            match answer {
                Ok(()) => {
                    relay.deadline = None;
                    self.timers_changed = true;
                }
                Err(Errno::AGAIN) => return,
                Err(errno) => {
                    let (index, to) = (relay.service, Some(relay.to));
                    if is_far {
                        self.note(index, Fact::ConnectFailed { to, errno }, b);
                    }
                    return self.close_relay(id, now, b);
                }
            }
        }
        let [near_step, far_step] = relay.waits_for;
        let step = if is_far { far_step } else { near_step };
        // Watched for nothing, and still reported: it is broken, or both ways through it have ended, of which it would
        // be told again and again.
        if step == Step::Close {
            let stream = if is_far { &relay.far } else { &relay.near };
            relay.is_broken |= !matches!(b.connected(stream), Ok(()) | Err(Errno::AGAIN));
            b.unwatch(stream);
        }
        let Relay { near, far, ways: [there, back], is_broken, .. } = relay;
        let scratch = &mut self.scratch;
        let mut carry = |way: &mut Way, from: &mut B::Stream, to: &mut B::Stream, b: &mut B| {
            way.is_blocked = false;
            let mut budget = TURN_BYTES;
            while !way.is_ended && budget > 0 {
                match b.relay(from, to, scratch) {
                    Ok(Forward::Moved(n)) => {
                        way.moved += n as u64;
                        budget = budget.saturating_sub(n);
                    }
                    Ok(Forward::Empty) => return,
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
        let is_over = (there.is_ended && back.is_ended)
            || (*is_broken && (there.is_ended || !there.is_blocked) && (back.is_ended || !back.is_blocked));
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
        let Relay { service: index, peer, began, near, far, ways: [there, back], .. } = relay;
        b.close(near);
        b.close(far);
        let seconds = now.mono.since_s(began);
        self.note(index, Fact::Exit { pid: 0, peer, ending: Ending::Exited(0), seconds }, b);
        self.note(index, Fact::Traffic { received: there.moved, sent: back.moved }, b);
        self.place_free(index, now, b);
    }

    /// Gives up connections that nobody answered.
    pub(super) fn end_overdue_relays(&mut self, now: Now, b: &mut B) {
        while let Some(id) = self.relays.find(|relay| relay.deadline.is_some_and(|at| at <= now.mono)) {
            let Some((index, to)) = self.relays.get(id).map(|relay| (relay.service, relay.to)) else {
                return;
            };
            self.note(index, Fact::ConnectFailed { to: Some(to), errno: Errno::TIMEDOUT }, b);
            self.close_relay(id, now, b);
        }
    }
}
