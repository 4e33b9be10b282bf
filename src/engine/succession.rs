//! One program takes another's place: what the engine of the newer is told, and what that of the older keeps.
//!
//! Servers and listening sockets go to the heir. Conversations, relays and clients of whom something is being found out stay
//! with the predecessor, which takes nobody any more and ends with the last of them.

use super::{Engine, Instant, Peer, Pid, Server, ServiceId, ServiceIndex, State};
use crate::backend::Backend;
use crate::time::Now;

/// A running server, as one engine tells it to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tenancy {
    /// `ServiceIndex::MAX` if its service is there no more.
    pub service: ServiceIndex,
    pub pid: Pid,
    pub peer: Peer,
    pub began: Instant,
    /// Owns the service's socket; what waited there when it was started.
    pub holds: Option<u64>,
    /// Owns a socket that its service has no more.
    pub blocks: bool,
}

impl<B: Backend> Engine<B> {
    /// What there is to tell an heir.
    pub fn tenancies(&self) -> impl Iterator<Item = Tenancy> {
        self.servers.iter().map(|(_, server)| {
            let Server { service, pid, peer, began, holds, blocks, .. } = *server;
            Tenancy { service, pid, peer, began, holds, blocks }
        })
    }

    /// Takes in a server that the predecessor started, after the table was adopted; false if there is no place for it.
    pub fn inherit(&mut self, tenancy: Tenancy, now: Now, b: &mut B) -> bool {
        let Tenancy { service, pid, peer, began, mut holds, mut blocks } = tenancy;
        let generation = self.generation;
        let run = self.runs.get_mut(usize::from(service));
        let service = if run.is_some() { service } else { ServiceIndex::MAX };
        let socket = run.as_ref().filter(|run| run.state == State::Listening);
        if holds.is_some() && socket.is_none_or(|run| run.listener.is_none()) {
            holds = None;
            blocks = true;
        }
        // It is looked at anew from here on, whether anything comes to its socket.
        let server = Server { began, blocks, ..Server::new(service, pid, peer, holds, now) };
        if self.servers.insert(server).is_err() {
            return false;
        }
        if let Some(run) = run {
            run.running += 1;
            if holds.is_some() {
                run.state = State::Busy;
                if let Some(listener) = &run.listener {
                    b.watch(ServiceId { index: service, generation }, listener, false);
                }
            }
        }
        true
    }

    /// Whether a client waits for a command whose end only this process hears of.
    pub fn awaits_command(&self) -> bool {
        self.commands.iter().any(super::Command::is_awaited)
    }

    /// Keeps what no heir can take over. Servers and sockets are somebody else's from here on.
    pub fn resign(&mut self, now: Now, b: &mut B) {
        while let Some(id) = self.servers.find(|_| true) {
            let Some(server) = self.servers.remove(id) else { break };
            if let Some(run) = self.runs.get_mut(usize::from(server.service)) {
                run.running = run.running.saturating_sub(1);
            }
        }
        self.forget_standbys(b);
        self.stop_listening(now, b);
        // Their ends are not told here: as if they could not have been run.
        while let Some(pid) = self.commands.last().map(super::Command::pid) {
            self.command_ended(pid, None, now, b);
        }
    }
}
