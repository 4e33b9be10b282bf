//! The conformance scripts in the simulation.

use std::collections::BTreeMap;
use std::println;

use super::*;
use crate::backend::sim::Visitor;
use crate::config::source::memory::Tree;
use crate::config::{self, Loader};

use crate::conformance::{self, SCRIPTS, World, configuration};

/// What a client has on its way to the daemon before it has to wait.
const ROOM: usize = 64 * 1024;

struct Played {
    sim: Simulation,
    /// `None` where nobody listens.
    connections: Vec<Option<Connection>>,
    /// What was received and not asked for yet.
    received: Vec<Vec<u8>>,
    datagrams: BTreeMap<String, Peer>,
    answers: Vec<(Peer, Vec<u8>)>,
}

impl Played {
    fn new(conf: &str) -> Played {
        let mut sim = Simulation::new();
        let mut files = Tree::default().file("/conf", conf);
        let options = config::Options::default();
        sim.reload(|table| {
            let mut said = Vec::new();
            let mut report = |d: &config::diagnostic::Diagnostic<'_>| said.push(format!("{d}"));
            Loader::new().load(&mut files, &mut report, table, b"/conf", &options);
            assert!(said.is_empty(), "{said:?}");
        });
        Played {
            sim,
            connections: Vec::new(),
            received: Vec::new(),
            datagrams: BTreeMap::new(),
            answers: Vec::new(),
        }
    }

    fn visitor(&mut self, from: u8) -> Visitor<'_> {
        self.sim.client(&format!("192.0.2.{from}"))
    }

    /// The service at a port.
    fn service(&self, port: u16, socket: SocketType) -> Option<String> {
        let table = self.sim.engine.table();
        let service = table.services().iter().find(|s| s.port == port && s.socket == socket)?;
        Some(String::from_utf8(table.bytes(service.id).to_vec()).unwrap())
    }
}

impl World for Played {
    fn has_addresses(&self) -> bool {
        true
    }

    fn connect(&mut self, from: u8, port: u16) -> usize {
        let id = self.service(port, SocketType::Stream);
        let at = id.map(|id| self.visitor(from).pace(Pace::WhenTold).connects(&id));
        self.connections.push(at);
        self.received.push(Vec::new());
        self.connections.len() - 1
    }

    fn send(&mut self, client: usize, bytes: &[u8]) -> usize {
        let Some(at) = self.connections[client] else { return 0 };
        let n = bytes.len().min(ROOM.saturating_sub(self.sim.unread(at).len()));
        self.sim.says(at, &bytes[..n]);
        n
    }

    fn receive(&mut self, client: usize, most: usize) -> Vec<u8> {
        let Some(at) = self.connections[client] else { return Vec::new() };
        while self.received[client].len() < most {
            self.sim.reads(at, most - self.received[client].len());
            let more = self.sim.heard(at);
            if more.is_empty() {
                break;
            }
            self.received[client].extend(more);
        }
        let n = most.min(self.received[client].len());
        self.received[client].drain(..n).collect()
    }

    fn sight(&mut self, client: usize) -> conformance::Sight {
        match self.connections[client].map(|at| self.sim.sees(at)) {
            Some(Sight::Waiting | Sight::Taken | Sight::Finished) => conformance::Sight::Open,
            Some(Sight::Eof) => conformance::Sight::Ended,
            Some(Sight::Reset | Sight::Refused) | None => conformance::Sight::Reset,
        }
    }

    fn finish(&mut self, client: usize) {
        if let Some(at) = self.connections[client] {
            self.sim.half_closes(at);
        }
    }

    fn leave(&mut self, client: usize) {
        self.reset(client);
    }

    fn reset(&mut self, client: usize) {
        if let Some(at) = self.connections[client] {
            self.sim.vanishes(at);
        }
    }

    fn ask(&mut self, client: &str, from: u8, port: u16, bytes: &[u8]) {
        let number = 40_000 + self.datagrams.len() as u16;
        let peer = Peer::ip(format!("192.0.2.{from}").parse().unwrap(), number);
        let Peer::Ip { port: number, .. } = *self.datagrams.entry(client.into()).or_insert(peer) else {
            unreachable!()
        };
        if let Some(id) = self.service(port, SocketType::Dgram) {
            self.visitor(from).port(number).sends(&id, bytes);
        }
        let answers = self.sim.replies();
        self.answers.extend(answers);
    }

    fn datagram(&mut self, client: &str, _: bool) -> Option<Vec<u8>> {
        let peer = self.datagrams[client];
        let at = self.answers.iter().position(|(to, _)| *to == peer)?;
        Some(self.answers.remove(at).1)
    }

    fn pass(&mut self, ms: u64) {
        self.sim.passes_ms(ms);
    }

    fn unix(&self) -> Option<i64> {
        self.sim.now().unix
    }
}

#[test]
fn the_conformance_scripts() {
    for script in SCRIPTS {
        let mut played = Played::new(&configuration("192.0.2.3"));
        let word = if script.play(&mut played) { "passed" } else { "-" };
        println!("conformance: sim {} {word}: {}", script.name, script.promise());
        played.sim.check_quiet();
    }
}
