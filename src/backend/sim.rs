//! The simulation: a world of sockets, clients and children in memory, on a virtual clock.
//!
//! [`Sim`] is the backend; it writes every action of the engine down in a transcript. [`Simulation`] puts an engine on
//! top and lets a test (or a fuzzer) play the rest of the world: clients connect, send, read slowly, half-close or
//! vanish; servers take what waits, exit or fail; time passes; calls fail, as scripted or at random from a seed.
//! Readiness is level-triggered and comes in batches, as epoll's does, so that what an earlier event of a batch did may
//! have made a later one stale. The same script gives the same transcript, always.
//!
//! It needs `std`, which the core does without: it exists in tests and with the feature `sim`.
#![forbid(unsafe_code)]

extern crate std;

use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use std::borrow::ToOwned;
use std::boxed::Box;
use std::collections::VecDeque;
use std::format;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};

use crate::addr::Peer;
use crate::backend::{Backend, End, Given, Pid, ServiceId, Spawn, StreamId};
use crate::builtin::{Forward, Step, Stream};
use crate::config::source::memory::Tree;
use crate::engine::{Changes, Engine, Event, State, TablePair, Tenancy};
use crate::errno::Errno;
use crate::record::{ChildStep, Ending, ListensAt, Record};
use crate::resolver::{Network, QuestionId};
use crate::service::{Bind, Family, Flags, Service, SocketType, Standing};
use crate::table::Table;
use crate::time::{Instant, Now};

/// The daemon's own address, as its clients know it.
const LOCAL: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(198, 51, 100, 1));

/// What a client's side of a connection holds before the server's writes have to wait.
const ROOM: usize = 64 * 1024;
/// Events in a row without time passing after which the engine is said to spin.
const SPIN: usize = 100_000;

/// A generator of numbers that look random: xorshift64*.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.roll() >> 33) as usize).checked_rem(n).unwrap_or(0)
    }

    /// True `n` times of a thousand.
    pub fn chance(&mut self, n: usize) -> bool {
        self.below(1000) < n
    }
}

/// What can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Listen,
    Accept,
    Open,
    Spawn,
    Connect,
    Pair,
}

impl Call {
    const ALL: [Call; 6] = [Call::Listen, Call::Accept, Call::Open, Call::Spawn, Call::Connect, Call::Pair];

    /// What the system says when it fails.
    const fn errnos(self) -> &'static [Errno] {
        match self {
            Call::Listen => &[Errno::ADDRINUSE, Errno::ADDRNOTAVAIL, Errno::ACCESS, Errno::NODEV],
            Call::Accept => &[Errno::CONNABORTED, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::PROTO],
            Call::Open => &[Errno::NOMEM],
            Call::Spawn => &[Errno::AGAIN, Errno::NOMEM],
            Call::Connect => &[Errno::MFILE, Errno::HOSTUNREACH],
            Call::Pair => &[Errno::MFILE],
        }
    }
}

/// Names a connection of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection(usize);

/// How fast a client takes what it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    AtOnce,
    /// That many bytes in a millisecond.
    PerMs(usize),
    /// Only with [`Simulation::reads`].
    WhenTold,
}

/// What a client sees of its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// In the backlog.
    Waiting,
    /// Taken by the daemon or by a server.
    Taken,
    /// The other side will send no more, and still reads.
    Finished,
    /// The other side has closed.
    Eof,
    Reset,
    /// Nobody listens.
    Refused,
}

/// A server as it was started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spawned {
    pub pid: Pid,
    pub id: String,
    pub program: String,
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub peer: Peer,
    /// What `/bin/sh -c` runs, if it is a command.
    pub command: Option<String>,
    pub nice: Option<i32>,
    pub umask: Option<u16>,
    /// The socket it was given, if it was the service's own.
    socket: Option<usize>,
    connection: Option<usize>,
    alive: bool,
    /// It was killed, and need not be known any more.
    is_killed: bool,
}

/// A place to listen at, comparable over tables.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Spot {
    Everywhere,
    Address(IpAddr),
    Interface(Vec<u8>),
    Path(Vec<u8>),
}

struct Socket {
    name: String,
    kind: SocketType,
    family: Family,
    spot: Spot,
    port: u16,
    /// The daemon has it open.
    ours: bool,
    /// Children that have it open.
    holders: Vec<Pid>,
    watch: Option<ServiceId>,
    /// It is reported once.
    is_once: bool,
    /// The place in the line of what is reported next: epoll puts what it has reported, and what is newly watched, at
    /// the end.
    turn: u64,
    backlog: VecDeque<usize>,
    datagrams: VecDeque<(Peer, Vec<u8>)>,
    /// Connections and datagrams taken so far.
    taken: u64,
}

impl Socket {
    fn is_open(&self) -> bool {
        self.ours || !self.holders.is_empty()
    }

    fn is_ready(&self) -> bool {
        !self.backlog.is_empty() || !self.datagrams.is_empty()
    }

    fn waiting(&self) -> usize {
        self.backlog.len() + self.datagrams.len()
    }

    /// Whether the kernel would not let both be bound.
    fn excludes(&self, other: &Socket) -> bool {
        let family = match (self.family, other.family) {
            (Family::Unix, Family::Unix) => return self.spot == other.spot,
            (Family::Unix, _) | (_, Family::Unix) => return false,
            (Family::V4, Family::V6) | (Family::V6, Family::V4) => false,
            _ => true,
        };
        let spot = match (&self.spot, &other.spot) {
            (Spot::Address(a), Spot::Address(b)) => a == b,
            (Spot::Interface(a), Spot::Interface(b)) => a == b,
            (Spot::Everywhere, _) | (_, Spot::Everywhere) => true,
            _ => false,
        };
        self.kind == other.kind && self.port == other.port && self.port != 0 && family && spot
    }
}

/// A connection that the daemon began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialled {
    No,
    /// Nobody has answered yet.
    Ringing,
    Failed(Errno),
}

/// A question to a name server.
struct Asked {
    id: QuestionId,
    server: SocketAddr,
    query: Vec<u8>,
    answers: VecDeque<Vec<u8>>,
    is_open: bool,
}

/// A question in the daemon's hands. Dropping it closes its socket.
pub struct Question {
    number: usize,
    world: Rc<RefCell<World>>,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.world.borrow_mut().questions[self.number].is_open = false;
    }
}

/// The way to name servers.
pub struct Names {
    world: Rc<RefCell<World>>,
}

impl Network for Names {
    type Question = Question;

    fn ask(&mut self, id: QuestionId, server: SocketAddr, query: &[u8]) -> Result<Question, Errno> {
        let mut world = self.world.borrow_mut();
        let (kind, name) = question_text(query);
        world.write(format!("ask {server} {kind} {name}"));
        let mut answers = VecDeque::new();
        if !world.are_names_silent {
            answers.push_back(dns_answer(query, &world.zone));
        }
        world.questions.push(Asked { id, server, query: query.to_owned(), answers, is_open: true });
        Ok(Question { number: world.questions.len() - 1, world: Rc::clone(&self.world) })
    }

    fn answer(&mut self, question: &Question, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut world = self.world.borrow_mut();
        let answer = world.questions[question.number].answers.pop_front().ok_or(Errno::AGAIN)?;
        let n = answer.len().min(buf.len());
        buf[..n].copy_from_slice(&answer[..n]);
        Ok(n)
    }

    fn random(&mut self) -> u32 {
        self.world.borrow_mut().dice.roll() as u32
    }
}

/// Kind and name of a question, in words.
fn question_text(query: &[u8]) -> (&'static str, String) {
    let mut name = Vec::new();
    let mut at = 12;
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push(text(&query[at + 1..end]));
        at = end;
    }
    let kind = match u16::from_be_bytes([query[at + 1], query[at + 2]]) {
        1 => "A",
        12 => "PTR",
        28 => "AAAA",
        _ => "?",
    };
    (kind, name.join("."))
}

/// What a name server with these records answers (RFC 1035 section 4): `(kind, name, data)`.
fn dns_answer(query: &[u8], zone: &[(String, String, String)]) -> Vec<u8> {
    let (kind, name) = question_text(query);
    let found = zone.iter().filter(|(k, n, _)| k == kind && n.eq_ignore_ascii_case(&name));
    let records: Vec<Vec<u8>> = found
        .map(|(_, _, data)| match data.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => address.octets().to_vec(),
            Ok(IpAddr::V6(address)) => address.octets().to_vec(),
            Err(_) => {
                let labels = data.split('.').flat_map(|label| {
                    core::iter::once(label.len() as u8).chain(label.bytes()).collect::<Vec<u8>>()
                });
                labels.chain([0]).collect()
            }
        })
        .collect();
    let mut answer = query.to_owned();
    // A response, recursion available; no such name if there is nothing.
    answer[2] |= 0x80;
    answer[3] = 0x80 | if records.is_empty() { 3 } else { 0 };
    answer[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    let end = answer.len();
    for data in records {
        answer.extend([0xc0, 12]);
        answer.extend_from_slice(&query[end - 4..end]);
        answer.extend([0, 0, 0, 60]);
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    answer
}

struct Client {
    peer: Peer,
    /// Where the daemon is reached.
    local: Option<(IpAddr, u16)>,
    dialled: Dialled,
    /// The daemon will send no more.
    is_finished: bool,
    /// The service's name when it was reached.
    name: String,
    sight: Sight,
    pace: Pace,
    /// Sent by the client, not read yet.
    to_server: VecDeque<u8>,
    half_closed: bool,
    vanished: bool,
    /// Written to the client, not taken by it yet.
    to_client: VecDeque<u8>,
    /// Taken by the client.
    heard: Vec<u8>,
    /// The daemon has it open.
    ours: bool,
    holder: Option<Pid>,
    session: Option<(StreamId, Step)>,
    /// The other end is a server's, by a pair.
    is_paired: bool,
    /// The server at the other end, while it lives.
    partner: Option<Pid>,
}

impl Client {
    fn new(peer: Peer, name: String, pace: Pace) -> Client {
        Client {
            peer,
            local: None,
            dialled: Dialled::No,
            is_finished: false,
            name,
            sight: Sight::Refused,
            pace,
            to_server: VecDeque::new(),
            half_closed: false,
            vanished: false,
            to_client: VecDeque::new(),
            heard: Vec::new(),
            ours: false,
            holder: None,
            session: None,
            is_paired: false,
            partner: None,
        }
    }

    /// The server at the other end has ended: what is sent to it fails.
    fn is_deaf(&self) -> bool {
        self.is_paired && self.partner.is_none()
    }

    fn room(&self) -> usize {
        ROOM.saturating_sub(self.to_client.len())
    }

    fn take(&mut self, most: usize) {
        let n = self.to_client.len().min(most);
        self.heard.extend(self.to_client.drain(..n));
    }

    fn drained(&mut self) {
        if self.pace == Pace::AtOnce {
            self.take(usize::MAX);
        }
    }

    /// Whether epoll would report it for what it is watched for. Errors are always reported.
    fn is_ready(&self, step: Step) -> bool {
        if self.dialled == Dialled::Ringing {
            return false;
        }
        let reads = !self.to_server.is_empty() || self.half_closed;
        self.vanished
            || self.dialled != Dialled::No
            || self.is_deaf()
            || match step {
                Step::Read => reads,
                Step::Write => self.room() > 0,
                Step::Both => reads || self.room() > 0,
                // Both ways have ended: EPOLLHUP is reported whatever is asked for.
                Step::Close => self.half_closed && self.is_finished,
            }
    }
}

struct World {
    now: Now,
    lines: Vec<String>,
    sockets: Vec<Socket>,
    clients: Vec<Client>,
    /// Clients that read at a pace of their own.
    paced: Vec<usize>,
    spawned: Vec<Spawned>,
    replies: Vec<(Peer, Vec<u8>)>,
    questions: Vec<Asked>,
    /// What name servers know: kind, name, data.
    zone: Vec<(String, String, String)>,
    are_names_silent: bool,
    own: Vec<IpAddr>,
    load: Option<u32>,
    faults: VecDeque<(Call, Errno)>,
    dice: Dice,
    turns: u64,
    /// How many calls of a thousand fail by themselves.
    trouble: usize,
    /// Marks are what a kernel can tell (how much waits), not what the trait asks for at best (what waits first).
    marks_count: bool,
}

impl World {
    fn write(&mut self, line: String) {
        self.lines.push(line);
    }

    fn fault(&mut self, call: Call) -> Option<Errno> {
        if let Some(at) = self.faults.iter().position(|(c, _)| *c == call) {
            return self.faults.remove(at).map(|(_, errno)| errno);
        }
        if self.trouble > 0 && self.dice.chance(self.trouble) {
            let errnos = call.errnos();
            let at = self.dice.below(errnos.len());
            return errnos.get(at).copied();
        }
        None
    }

    /// A connection is closed on the server's side by whoever had it last.
    fn hang_up(&mut self, client: usize, reset: bool) {
        let client = &mut self.clients[client];
        if client.ours || client.holder.is_some() {
            return;
        }
        if matches!(client.sight, Sight::Taken | Sight::Finished) {
            client.sight = if reset { Sight::Reset } else { Sight::Eof };
        }
    }

    /// A socket that nobody has open any more resets who waits at it.
    fn abandon(&mut self, socket: usize) {
        if self.sockets[socket].is_open() {
            return;
        }
        self.sockets[socket].watch = None;
        self.sockets[socket].datagrams.clear();
        while let Some(client) = self.sockets[socket].backlog.pop_front() {
            self.clients[client].sight = Sight::Reset;
        }
    }

    /// Clients that read at a pace of their own and have something to read.
    fn slow_readers(&self) -> impl Iterator<Item = usize> {
        let unread = |at: &usize| !self.clients[*at].to_client.is_empty();
        self.paced.iter().copied().filter(unread)
    }

    fn find(&self, service: &str) -> Option<usize> {
        self.sockets.iter().position(|s| {
            let kind = match (s.family, s.kind) {
                (Family::Unix, _) => "unix",
                (_, SocketType::Stream) => "tcp",
                (_, SocketType::Dgram) => "udp",
            };
            s.is_open() && (s.name == service || service == format!("{kind}/{}", s.port))
        })
    }
}

/// A listening or datagram socket of the simulation. Dropping it closes the daemon's side.
pub struct Listener {
    number: usize,
    world: Rc<RefCell<World>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        let socket = &mut world.sockets[self.number];
        socket.ours = false;
        let line = format!("unlisten {}", socket.name);
        world.write(line);
        world.abandon(self.number);
    }
}

/// The daemon's side of a connection of the simulation.
pub struct Accepted {
    number: usize,
    world: Rc<RefCell<World>>,
    closing: bool,
    /// The other end of a pair, which a server is to get.
    is_theirs: bool,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        let client = &mut world.clients[self.number];
        if self.is_theirs {
            client.half_closed |= client.partner.is_none();
            return;
        }
        client.ours = false;
        client.session = None;
        let handed_over = client.holder.is_some();
        let unread = !client.to_server.is_empty();
        if !self.closing && !handed_over {
            let line = format!("drop {} {}", client.name, client.peer);
            world.write(line);
        }
        world.hang_up(self.number, unread && !self.closing);
    }
}

/// A connection in the hands of a built-in service.
pub struct Io<'a>(&'a mut Accepted);

impl ErrorType for Io<'_> {
    type Error = Errno;
}

impl Read for Io<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut world = self.0.world.borrow_mut();
        let client = &mut world.clients[self.0.number];
        if client.vanished {
            return Err(Errno::CONNRESET);
        }
        if client.to_server.is_empty() {
            return if client.half_closed { Ok(0) } else { Err(Errno::AGAIN) };
        }
        let n = client.to_server.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(client.to_server.drain(..n)) {
            *to = from;
        }
        Ok(n)
    }
}

impl ReadReady for Io<'_> {
    fn read_ready(&mut self) -> Result<bool, Errno> {
        Ok(self.0.world.borrow().clients[self.0.number].is_ready(Step::Read))
    }
}

impl Write for Io<'_> {
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        let mut world = self.0.world.borrow_mut();
        let client = &mut world.clients[self.0.number];
        if client.vanished {
            return Err(Errno::CONNRESET);
        }
        let n = client.room().min(buf.len());
        if n == 0 && !buf.is_empty() {
            return Err(Errno::AGAIN);
        }
        client.to_client.extend(&buf[..n]);
        client.drained();
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}

impl WriteReady for Io<'_> {
    fn write_ready(&mut self) -> Result<bool, Errno> {
        Ok(self.0.world.borrow().clients[self.0.number].is_ready(Step::Write))
    }
}

impl Stream for Io<'_> {
    fn forward(&mut self, scratch: &mut [u8]) -> Result<Forward, Errno> {
        let room = {
            let world = self.0.world.borrow();
            let client = &world.clients[self.0.number];
            match (client.vanished, client.to_server.is_empty(), client.half_closed) {
                (true, _, _) => return Err(Errno::CONNRESET),
                (_, true, true) => return Ok(Forward::End),
                (_, true, false) => return Ok(Forward::Empty),
                (_, false, _) => client.room(),
            }
        };
        if room == 0 {
            return Ok(Forward::Blocked);
        }
        let most = room.min(scratch.len());
        let n = self.read(&mut scratch[..most])?;
        self.write(&scratch[..n])?;
        Ok(Forward::Moved(n))
    }
}

/// The backend.
pub struct Sim {
    world: Rc<RefCell<World>>,
    files: Tree,
    /// Sessions that are watched: what epoll would know.
    sessions: Vec<usize>,
}

impl Backend for Sim {
    type Tables = TablePair;
    type Listener = Listener;
    type Stream = Accepted;
    type OwnClient = ();
    type Io<'a> = Io<'a>;

    type Files = Tree;

    const GUARDS: bool = false;
    const RUNS_PROGRAMS: bool = true;

    fn files(&mut self) -> &mut Tree {
        &mut self.files
    }

    type Question = Question;
    type Network<'a> = Names;

    fn resolving(&mut self) -> (&mut Tree, Names) {
        (&mut self.files, Names { world: Rc::clone(&self.world) })
    }

    fn unwatch(&mut self, stream: &Accepted) {
        self.world.borrow_mut().clients[stream.number].session = None;
    }

    fn hand_over(&mut self, stream: &Accepted) -> Result<(), Errno> {
        let mut world = self.world.borrow_mut();
        let client = &mut world.clients[stream.number];
        client.session = None;
        let line = format!("hand over {} {}", client.name, client.peer);
        world.write(line);
        Ok(())
    }

    fn connect(&mut self, from: Option<IpAddr>, to: SocketAddr) -> Result<Accepted, Errno> {
        let mut world = self.world.borrow_mut();
        let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
        if let Some(errno) = world.fault(Call::Connect) {
            world.write(format!("connect {to}{from}: {errno}"));
            return Err(errno);
        }
        world.write(format!("connect {to}{from}"));
        let peer = Peer::ip(to.ip(), to.port());
        world.clients.push(Client {
            sight: Sight::Taken,
            dialled: Dialled::Ringing,
            ours: true,
            ..Client::new(peer, to.port().to_string(), Pace::AtOnce)
        });
        let number = world.clients.len() - 1;
        Ok(Accepted { number, world: Rc::clone(&self.world), closing: false, is_theirs: false })
    }

    const HAS_STANDBY: bool = true;

    fn pair(&mut self) -> Result<(Accepted, Accepted), Errno> {
        let mut world = self.world.borrow_mut();
        if let Some(errno) = world.fault(Call::Pair) {
            world.write(format!("pair: {errno}"));
            return Err(errno);
        }
        world.clients.push(Client {
            sight: Sight::Taken,
            ours: true,
            is_paired: true,
            ..Client::new(Peer::Local, "pair".into(), Pace::WhenTold)
        });
        let number = world.clients.len() - 1;
        let end = |is_theirs| Accepted { number, world: Rc::clone(&self.world), closing: false, is_theirs };
        Ok((end(false), end(true)))
    }

    fn is_there(&mut self, stream: &Accepted) -> bool {
        let client = &self.world.borrow().clients[stream.number];
        !client.to_server.is_empty() || !client.half_closed
    }

    fn connected(&mut self, stream: &Accepted) -> Result<(), Errno> {
        let world = self.world.borrow();
        let client = &world.clients[stream.number];
        match client.dialled {
            Dialled::Ringing => Err(Errno::AGAIN),
            Dialled::Failed(errno) => Err(errno),
            Dialled::No if client.vanished => Err(Errno::CONNRESET),
            Dialled::No => Ok(()),
        }
    }

    fn local(&mut self, stream: &Accepted) -> Option<(IpAddr, u16)> {
        self.world.borrow().clients[stream.number].local
    }

    fn relay(
        &mut self,
        from: &mut Accepted,
        to: &mut Accepted,
        scratch: &mut [u8],
    ) -> Result<Forward, Errno> {
        let room = {
            let world = self.world.borrow();
            let (from, to) = (&world.clients[from.number], &world.clients[to.number]);
            match (from.vanished || to.vanished, from.to_server.is_empty(), from.half_closed) {
                (true, _, _) => return Err(Errno::CONNRESET),
                (_, true, true) => return Ok(Forward::End),
                (_, true, false) => return Ok(Forward::Empty),
                (_, false, _) => to.room(),
            }
        };
        if self.world.borrow().clients[to.number].is_deaf() {
            return Err(Errno::CONNRESET);
        }
        if room == 0 {
            return Ok(Forward::Blocked);
        }
        let most = room.min(scratch.len());
        let n = Io(from).read(&mut scratch[..most])?;
        Io(to).write(&scratch[..n])?;
        Ok(Forward::Moved(n))
    }

    fn finish(&mut self, stream: &Accepted) {
        let mut world = self.world.borrow_mut();
        let client = &mut world.clients[stream.number];
        client.is_finished = true;
        client.sight = Sight::Finished;
        let line = format!("finish {} {}", client.name, client.peer);
        world.write(line);
    }

    fn keep_alive(&mut self, _stream: &Accepted) {
        self.world.borrow_mut().write("keepalive".into());
    }

    fn linger(&mut self, _stream: &Accepted, seconds: u32) {
        self.world.borrow_mut().write(format!("linger {seconds}"));
    }

    fn refit(&mut self, _: &Table, _: &Service, _: &mut Self::Listener, _: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn listen(&mut self, table: &Table, service: &Service) -> Result<Listener, Errno> {
        let mut world = self.world.borrow_mut();
        let name = text(table.bytes(service.id));
        let at = ListensAt { table, service }.to_string();
        let socket = Socket {
            name: name.clone(),
            kind: service.socket,
            family: service.family,
            spot: match service.bind {
                Bind::Everywhere => Spot::Everywhere,
                Bind::Address(address) => Spot::Address(address),
                Bind::Interface(name) => Spot::Interface(table.bytes(name).to_owned()),
                Bind::Path(path) => Spot::Path(table.bytes(path).to_owned()),
            },
            port: service.port,
            ours: true,
            holders: Vec::new(),
            watch: None,
            is_once: false,
            turn: 0,
            backlog: VecDeque::new(),
            datagrams: VecDeque::new(),
            taken: 0,
        };
        let in_use = world.sockets.iter().any(|other| other.is_open() && other.excludes(&socket));
        let fault = world.fault(Call::Listen).or(in_use.then_some(Errno::ADDRINUSE));
        if let Some(errno) = fault {
            world.write(format!("listen {name} {at}: {errno}"));
            return Err(errno);
        }
        world.write(format!("listen {name} {at}"));
        world.sockets.push(socket);
        Ok(Listener { number: world.sockets.len() - 1, world: Rc::clone(&self.world) })
    }

    fn watch(&mut self, id: ServiceId, listener: &Listener, on: bool) {
        let mut world = self.world.borrow_mut();
        world.turns += 1;
        let turn = world.turns;
        let socket = &mut world.sockets[listener.number];
        let was = socket.watch.is_some() && !socket.is_once;
        socket.watch = on.then_some(id);
        socket.is_once = false;
        if was != on {
            socket.turn = turn;
            let line = format!("{} {}", if on { "watch" } else { "leave" }, socket.name);
            world.write(line);
        }
    }

    fn watch_once(&mut self, id: ServiceId, listener: &Listener) {
        let mut world = self.world.borrow_mut();
        world.turns += 1;
        let turn = world.turns;
        let socket = &mut world.sockets[listener.number];
        (socket.watch, socket.is_once, socket.turn) = (Some(id), true, turn);
        let line = format!("watch {} once", socket.name);
        world.write(line);
    }

    fn accept(&mut self, listener: &Listener) -> Result<(Accepted, Peer), Errno> {
        let mut world = self.world.borrow_mut();
        if world.sockets[listener.number].backlog.is_empty() {
            return Err(Errno::AGAIN);
        }
        let name = world.sockets[listener.number].name.clone();
        if let Some(errno) = world.fault(Call::Accept) {
            world.write(format!("accept {name}: {errno}"));
            if matches!(errno, Errno::CONNABORTED | Errno::PROTO) {
                // The client that left is not in the backlog any more.
                let gone = world.sockets[listener.number].backlog.pop_front();
                if let Some(gone) = gone {
                    world.clients[gone].sight = Sight::Reset;
                }
            }
            return Err(errno);
        }
        let Some(number) = world.sockets[listener.number].backlog.pop_front() else {
            return Err(Errno::AGAIN);
        };
        world.sockets[listener.number].taken += 1;
        let client = &mut world.clients[number];
        client.ours = true;
        client.sight = Sight::Taken;
        let peer = client.peer;
        world.write(format!("accept {name} {peer}"));
        Ok((Accepted { number, world: Rc::clone(&self.world), closing: false, is_theirs: false }, peer))
    }

    fn receive(&mut self, listener: &Listener, buf: &mut [u8]) -> Result<(usize, Peer), Errno> {
        let mut world = self.world.borrow_mut();
        let socket = &mut world.sockets[listener.number];
        let Some((peer, bytes)) = socket.datagrams.pop_front() else { return Err(Errno::AGAIN) };
        socket.taken += 1;
        let n = bytes.len().min(buf.len());
        buf[..n].copy_from_slice(&bytes[..n]);
        let line = format!("receive {} {peer} {n} bytes", socket.name);
        world.write(line);
        Ok((n, peer))
    }

    fn reply(&mut self, listener: &Listener, peer: Peer, bytes: &[u8]) -> Result<(), Errno> {
        let mut world = self.world.borrow_mut();
        let line = format!("reply {} {peer} {} bytes", world.sockets[listener.number].name, bytes.len());
        world.write(line);
        world.replies.push((peer, bytes.to_owned()));
        Ok(())
    }

    fn sender(&mut self, listener: &Listener) -> Peer {
        let world = self.world.borrow();
        world.sockets[listener.number].datagrams.front().map_or(Peer::Unknown, |(peer, _)| *peer)
    }

    fn mark(&mut self, listener: &Listener) -> u64 {
        let world = self.world.borrow();
        let socket = &world.sockets[listener.number];
        match socket.waiting() {
            0 => 0,
            n if world.marks_count => n as u64,
            _ => socket.taken + 1,
        }
    }

    fn taken(&mut self, listener: &Listener) -> Option<u64> {
        Some(self.world.borrow().sockets[listener.number].taken)
    }

    fn is_own(&mut self, peer: Peer) -> bool {
        peer.address().is_some_and(|address| self.world.borrow().own.contains(&address))
    }

    fn open(&mut self, id: StreamId, stream: &Accepted, wait_for: Step) -> Result<(), Errno> {
        let mut world = self.world.borrow_mut();
        let fault = world.fault(Call::Open);
        let client = &mut world.clients[stream.number];
        let who = format!("{} {}", client.name, client.peer);
        if let Some(errno) = fault {
            world.write(format!("open {who}: {errno}"));
            return Err(errno);
        }
        client.session = Some((id, wait_for));
        world.write(format!("open {who}, {}", wish(wait_for)));
        if !self.sessions.contains(&stream.number) {
            self.sessions.push(stream.number);
        }
        Ok(())
    }

    fn tell(&mut self, stream: &Accepted, bytes: &[u8]) -> Result<(), Errno> {
        let mut world = self.world.borrow_mut();
        let client = &world.clients[stream.number];
        let line = format!("tell {} {} {:?}", client.name, client.peer, text(bytes));
        world.write(line);
        let client = &mut world.clients[stream.number];
        client.to_client.extend(bytes);
        client.drained();
        Ok(())
    }

    fn wait_for(&mut self, id: StreamId, stream: &Accepted, step: Step) {
        let mut world = self.world.borrow_mut();
        let client = &mut world.clients[stream.number];
        client.session = Some((id, step));
        let line = format!("{} {}, {}", client.name, client.peer, wish(step));
        world.write(line);
    }

    fn io<'a>(&'a mut self, stream: &'a mut Accepted) -> Io<'a> {
        Io(stream)
    }

    fn close(&mut self, mut stream: Accepted) {
        stream.closing = true;
        let mut world = self.world.borrow_mut();
        let client = &world.clients[stream.number];
        let line = format!("close {} {}", client.name, client.peer);
        world.write(line);
    }

    fn spawn(&mut self, spawn: Spawn<'_, Listener, Accepted>) -> Result<Pid, Errno> {
        let mut world = self.world.borrow_mut();
        let Spawn { table, service, given, peer, effects, command, .. } = spawn;
        let id = text(table.bytes(service.id));
        if let Some(errno) = world.fault(Call::Spawn) {
            world.write(format!("spawn {id}: {errno}"));
            return Err(errno);
        }
        let pid = world.spawned.len() as Pid + 1;
        let command = command.map(|command| text(command.strip_suffix(b"\0").unwrap_or(command)));
        let words =
            |span| table.words(span).iter().map(|word| text(table.bytes(*word))).collect::<Vec<String>>();
        let (mut socket, mut connection) = (None, None);
        match given {
            Given::Connection(stream) if stream.is_theirs => {
                let client = &mut world.clients[stream.number];
                client.partner = Some(pid);
                client.peer = Peer::Local;
                client.name = format!("pair-{pid}");
            }
            Given::Connection(stream) => {
                world.clients[stream.number].holder = Some(pid);
                connection = Some(stream.number);
            }
            Given::Listener(listener) => {
                world.sockets[listener.number].holders.push(pid);
                socket = Some(listener.number);
            }
            Given::Nothing => {}
        }
        world.spawned.push(Spawned {
            pid,
            id: id.clone(),
            program: text(table.bytes(service.program)),
            argv: words(service.argv),
            env: effects
                .iter()
                .flat_map(|effects| effects.env())
                .map(|word| text(word.strip_suffix(b"\0").unwrap_or(word)))
                .chain(words(service.env))
                .collect(),
            peer,
            nice: effects.and_then(|effects| effects.nice),
            umask: effects.and_then(|effects| effects.umask),
            command: command.clone(),
            socket,
            connection,
            alive: true,
            is_killed: false,
        });
        world.write(match command {
            Some(command) => format!("spawn {id} pid={pid} sh -c {command}"),
            None => format!("spawn {id} pid={pid}"),
        });
        Ok(pid)
    }

    fn end(&mut self, pid: Pid, how: End) {
        let how = match how {
            End::Ask => "TERM",
            End::Kill => "KILL",
        };
        let mut world = self.world.borrow_mut();
        world.write(format!("end pid={pid} {how}"));
        if how == "KILL"
            && let Some(server) = world.spawned.get_mut(pid as usize - 1)
        {
            server.is_killed = true;
        }
    }

    fn load(&mut self) -> Option<u32> {
        self.world.borrow().load
    }

    fn record(&mut self, record: &Record<'_>) {
        let line = match record.severity {
            Some((facility, level)) => format!("record {record} as {facility:?} {level}"),
            None => format!("record {record}"),
        };
        self.world.borrow_mut().write(line);
    }
}

fn wish(step: Step) -> &'static str {
    match step {
        Step::Read => "waits for input",
        Step::Write => "waits for room",
        Step::Both => "waits for input and room",
        Step::Close => "is over",
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An engine and the world around it.
pub struct Simulation {
    pub engine: Box<Engine<Sim>>,
    sim: Sim,
    world: Rc<RefCell<World>>,
    /// Events are held back while a script lets several things happen at once.
    held: bool,
    /// The daemon was told to end.
    ended: bool,
    next_port: u16,
}

impl Default for Simulation {
    fn default() -> Self {
        Simulation::new()
    }
}

impl Simulation {
    /// An engine without services, at 2026-11-22 11:15:14 UTC.
    pub fn new() -> Simulation {
        let world = Rc::new(RefCell::new(World {
            now: Now { mono: Instant(1_000_000), unix: Some(1_795_346_114) },
            lines: Vec::new(),
            sockets: Vec::new(),
            clients: Vec::new(),
            paced: Vec::new(),
            spawned: Vec::new(),
            replies: Vec::new(),
            questions: Vec::new(),
            zone: Vec::new(),
            are_names_silent: false,
            own: ["127.0.0.1", "::1", "198.51.100.1"].iter().flat_map(|text| text.parse()).collect(),
            load: None,
            faults: VecDeque::new(),
            dice: Dice::new(0),
            turns: 0,
            trouble: 0,
            marks_count: false,
        }));
        let sim = Sim { world: Rc::clone(&world), files: Tree::default(), sessions: Vec::new() };
        let mut engine = Box::new(Engine::new());
        engine.set_hosts(b"/etc/hosts.allow", b"/etc/hosts.deny", 1, true);
        Simulation { engine, sim, world, held: false, ended: false, next_port: 40000 }
    }

    pub fn now(&self) -> Now {
        self.world.borrow().now
    }

    /// What the engine did since this was asked last.
    pub fn transcript(&mut self) -> Vec<String> {
        core::mem::take(&mut self.world.borrow_mut().lines)
    }

    /// The engine did just this since the last time.
    #[track_caller]
    pub fn expect(&mut self, lines: &[&str]) {
        let got = self.transcript();
        assert!(got == lines, "expected:\n  {}\ngot:\n  {}", lines.join("\n  "), got.join("\n  "));
    }

    /// Fills the spare table and puts it in place.
    pub fn reload(&mut self, fill: impl FnOnce(&mut Table)) -> Changes {
        let spare = self.engine.spare();
        spare.clear();
        fill(spare);
        let now = self.now();
        let changes = self.engine.adopt(now, &mut self.sim);
        self.settle();
        changes
    }

    /// The state of the first service with that id.
    pub fn state(&self, id: &str) -> Option<State> {
        let at = self.index(id)?;
        self.engine.status(at).map(|status| status.state)
    }

    /// The place of the first service with that id.
    pub fn index(&self, id: &str) -> Option<u16> {
        let table = self.engine.table();
        table.services().iter().position(|s| table.bytes(s.id) == id.as_bytes()).map(|n| n as u16)
    }

    /// Servers and sessions of the first service with that id; 0 if there is none.
    pub fn running(&self, id: &str) -> u16 {
        self.index(id).and_then(|at| self.engine.status(at)).map_or(0, |status| status.running)
    }

    /// Gives the engine one event, true or not.
    pub fn deliver(&mut self, event: Event) {
        let now = self.now();
        self.engine.handle(event, now, &mut self.sim);
    }

    /// Lets all that `script` does happen before the engine hears of any of it.
    pub fn together(&mut self, script: impl FnOnce(&mut Simulation)) {
        self.held = true;
        script(self);
        self.held = false;
        self.settle();
    }

    /// Delivers what there is to deliver, until there is nothing more.
    pub fn settle(&mut self) {
        if self.held {
            return;
        }
        let mut spent = 0;
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return;
            }
            for event in &batch {
                self.deliver(*event);
                spent += 1;
            }
            if spent >= SPIN {
                let lines = self.transcript();
                let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or(&[]);
                panic!("the engine spins, told of {batch:?}; it did:\n  {}", last.join("\n  "));
            }
        }
    }

    /// What one epoll_wait would return.
    fn batch(&mut self) -> Vec<Event> {
        let mut batch = Vec::new();
        for asked in &self.world.borrow().questions {
            if asked.is_open && !asked.answers.is_empty() {
                batch.push(Event::Answer(asked.id));
            }
        }
        if self.engine.next_deadline().is_some_and(|at| at <= self.now().mono) {
            batch.push(Event::Tick);
        }
        let mut world = self.world.borrow_mut();
        let mut ready: Vec<(u64, usize)> = Vec::new();
        for (at, socket) in world.sockets.iter().enumerate() {
            if socket.watch.is_some() && socket.is_ready() {
                ready.push((socket.turn, at));
            }
        }
        ready.sort_unstable();
        for (_, at) in ready {
            world.turns += 1;
            let turn = world.turns;
            let socket = &mut world.sockets[at];
            socket.turn = turn;
            batch.extend(socket.watch.map(Event::Ready));
            if core::mem::take(&mut socket.is_once) {
                socket.watch = None;
            }
        }
        self.sim.sessions.retain(|at| world.clients[*at].session.is_some());
        for at in &self.sim.sessions {
            let client = &world.clients[*at];
            if let Some((id, step)) = client.session
                && client.is_ready(step)
            {
                batch.push(Event::Stream(id));
            }
        }
        batch
    }

    /// Time passes; deadlines are kept and slow clients read.
    pub fn passes_ms(&mut self, ms: u64) {
        let end = self.now().mono.plus_ms(ms);
        loop {
            let now = self.now().mono;
            if now >= end {
                return;
            }
            let slow = self.world.borrow().slow_readers().next().is_some();
            let mut next = self.engine.next_deadline().map_or(end, |at| at.min(end)).max(now.plus_ms(1));
            if slow {
                next = now.plus_ms(1);
            }
            self.jumps_ms(next.since_ms(now));
        }
    }

    pub fn passes_s(&mut self, s: u64) {
        self.passes_ms(s * 1000);
    }

    /// Time jumps (a machine was suspended): whatever was due in between is late.
    pub fn jumps_ms(&mut self, ms: u64) {
        {
            let mut world = self.world.borrow_mut();
            let before = world.now.mono;
            world.now.mono = before.plus_ms(ms);
            let seconds = world.now.mono.0 / 1000 - before.0 / 1000;
            if let Some(unix) = &mut world.now.unix {
                *unix += seconds as i64;
            }
            let slow: Vec<usize> = world.slow_readers().collect();
            for at in slow {
                let client = &mut world.clients[at];
                if let Pace::PerMs(n) = client.pace {
                    client.take(n.saturating_mul(ms as usize));
                }
            }
        }
        self.settle();
    }

    /// The time of day, in seconds since 1970, or that it is not known.
    pub fn sets_clock(&mut self, unix: Option<i64>) {
        self.world.borrow_mut().now.unix = unix;
    }

    /// There is a file of that content.
    pub fn has_file(&mut self, path: &str, text: &str) {
        self.sim.files.write(path, text);
    }

    /// Name servers know this: `("PTR", "1.2.0.192.in-addr.arpa", "host.example.org")`.
    pub fn knows_name(&mut self, kind: &str, name: &str, data: &str) {
        self.world.borrow_mut().zone.push((kind.into(), name.into(), data.into()));
    }

    /// Both records that lead from an IPv4 address to a name and back.
    pub fn knows_host(&mut self, address: &str, name: &str) {
        let mut octets: Vec<&str> = address.split('.').collect();
        octets.reverse();
        self.knows_name("PTR", &format!("{}.in-addr.arpa", octets.join(".")), name);
        self.knows_name("A", name, address);
    }

    /// From now on name servers keep silent, or answer all that they were asked.
    pub fn silences_names(&mut self, is_silent: bool) {
        {
            let mut world = self.world.borrow_mut();
            world.are_names_silent = is_silent;
            let World { questions, zone, .. } = &mut *world;
            if !is_silent {
                for asked in questions.iter_mut().filter(|asked| asked.is_open && asked.answers.is_empty()) {
                    asked.answers.push_back(dns_answer(&asked.query, zone));
                }
            }
        }
        self.settle();
    }

    /// Whom the daemon asked for names so far, question by question.
    pub fn asked(&self) -> Vec<SocketAddr> {
        self.world.borrow().questions.iter().map(|asked| asked.server).collect()
    }

    /// The connection that the daemon began last to that port.
    pub fn dialled(&self, port: u16) -> Connection {
        let world = self.world.borrow();
        let is_it = |client: &Client| client.local.is_none() && client.peer.port() == Some(port);
        Connection(
            world.clients.iter().rposition(is_it).unwrap_or_else(|| panic!("nobody called port {port}")),
        )
    }

    /// Whom the daemon calls, and who has not answered yet.
    pub fn ringing(&self) -> Vec<Connection> {
        self.outgoing(|client| client.dialled == Dialled::Ringing)
    }

    /// Whom the daemon called and who answered.
    pub fn called(&self) -> Vec<Connection> {
        self.outgoing(|client| client.dialled == Dialled::No)
    }

    fn outgoing(&self, is_meant: impl Fn(&Client) -> bool) -> Vec<Connection> {
        let world = self.world.borrow();
        let clients = world.clients.iter().enumerate();
        let is_ours = |client: &Client| client.ours && client.local.is_none() && client.peer != Peer::Local;
        clients.filter(|(_, c)| is_ours(c) && is_meant(c)).map(|(at, _)| Connection(at)).collect()
    }

    /// Whoever the daemon calls answers.
    pub fn picks_up(&mut self, at: Connection) {
        self.client_mut(at, |client| client.dialled = Dialled::No);
    }

    /// Whoever the daemon calls does not.
    pub fn hangs_up(&mut self, at: Connection, errno: Errno) {
        self.client_mut(at, |client| client.dialled = Dialled::Failed(errno));
    }

    /// The 1-minute load average in hundredths.
    pub fn sets_load(&mut self, load: Option<u32>) {
        self.world.borrow_mut().load = load;
    }

    /// The next such call fails, after those that were announced before.
    pub fn fails_next(&mut self, call: Call, errno: Errno) {
        self.world.borrow_mut().faults.push_back((call, errno));
    }

    /// From now on `per_mille` calls of a thousand fail, chosen by `seed`; 0 for none.
    pub fn troubles(&mut self, seed: u64, per_mille: usize) {
        let mut world = self.world.borrow_mut();
        world.dice = Dice::new(seed);
        world.trouble = per_mille;
    }

    /// Marks of what waits are how much waits from now on: they change when something arrives.
    pub fn marks_by_count(&mut self) {
        self.world.borrow_mut().marks_count = true;
    }

    /// A client with that address. Its port is a new one for every client unless it is set.
    pub fn client(&mut self, address: &str) -> Visitor<'_> {
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(40000);
        let peer = match address.parse() {
            Ok(address) => Peer::ip(address, port),
            Err(_) => Peer::Local,
        };
        Visitor { simulation: self, peer, pace: Pace::AtOnce }
    }

    fn client_mut(&mut self, at: Connection, change: impl FnOnce(&mut Client)) {
        change(&mut self.world.borrow_mut().clients[at.0]);
        self.settle();
    }

    pub fn says(&mut self, at: Connection, bytes: &[u8]) {
        self.client_mut(at, |client| client.to_server.extend(bytes));
    }

    /// The client sends no more and goes on reading.
    pub fn half_closes(&mut self, at: Connection) {
        self.client_mut(at, |client| client.half_closed = true);
    }

    /// The client is gone: whatever is sent to it is answered with a reset.
    pub fn vanishes(&mut self, at: Connection) {
        self.client_mut(at, |client| client.vanished = true);
    }

    /// A client that reads when told takes that many bytes, at most.
    pub fn reads(&mut self, at: Connection, bytes: usize) {
        self.client_mut(at, |client| client.take(bytes));
    }

    /// Changes how fast a client reads.
    pub fn sets_pace(&mut self, at: Connection, pace: Pace) {
        self.client_mut(at, |client| {
            client.pace = pace;
            client.drained();
        });
        if matches!(pace, Pace::PerMs(_)) {
            let paced = &mut self.world.borrow_mut().paced;
            paced.retain(|known| *known != at.0);
            paced.push(at.0);
        }
    }

    /// What the client has read since this was asked last.
    pub fn heard(&mut self, at: Connection) -> Vec<u8> {
        core::mem::take(&mut self.world.borrow_mut().clients[at.0].heard)
    }

    /// What the client has sent and nobody has read.
    pub fn unread(&self, at: Connection) -> Vec<u8> {
        self.world.borrow().clients[at.0].to_server.iter().copied().collect()
    }

    pub fn sees(&self, at: Connection) -> Sight {
        self.world.borrow().clients[at.0].sight
    }

    /// Datagrams that were answered since this was asked last.
    pub fn replies(&mut self) -> Vec<(Peer, Vec<u8>)> {
        core::mem::take(&mut self.world.borrow_mut().replies)
    }

    /// The server with that pid, as it was started.
    pub fn spawned(&self, pid: Pid) -> Spawned {
        self.world.borrow().spawned[pid as usize - 1].clone()
    }

    /// Addresses of who waits in a backlog or a datagram queue that somebody has open.
    pub fn waiting(&self) -> Vec<Peer> {
        let world = self.world.borrow();
        let open = world.sockets.iter().filter(|s| s.is_open());
        open.flat_map(|s| {
            let clients = s.backlog.iter().map(|at| world.clients[*at].peer);
            clients.chain(s.datagrams.iter().map(|(peer, _)| *peer))
        })
        .collect()
    }

    /// Our end of the pair whose other end that server has: what it says, reads and closes goes through here.
    pub fn partner(&self, pid: Pid) -> Connection {
        let name = format!("pair-{pid}");
        let world = self.world.borrow();
        let at = world.clients.iter().position(|client| client.name == name);
        Connection(at.unwrap_or_else(|| panic!("server {pid} has no pair")))
    }

    /// Servers that live at one end of a pair, and our ends.
    pub fn paired(&self) -> Vec<(Pid, Connection)> {
        let world = self.world.borrow();
        let clients = world.clients.iter().enumerate();
        clients.filter_map(|(at, client)| Some((client.partner?, Connection(at)))).collect()
    }

    /// Pids of servers that live.
    pub fn alive(&self) -> Vec<Pid> {
        self.world.borrow().spawned.iter().filter(|s| s.alive).map(|s| s.pid).collect()
    }

    /// A wait server takes the connection or datagram that waits first; whether there was one.
    pub fn takes(&mut self, pid: Pid) -> bool {
        let mut world = self.world.borrow_mut();
        let Some(at) = world.spawned[pid as usize - 1].socket else { return false };
        let socket = &mut world.sockets[at];
        if let Some(client) = socket.backlog.pop_front() {
            socket.taken += 1;
            world.clients[client].sight = Sight::Taken;
            world.clients[client].holder = Some(pid);
            return true;
        }
        let taken = socket.datagrams.pop_front().is_some();
        socket.taken += u64::from(taken);
        taken
    }

    /// A server exits.
    pub fn exits(&mut self, pid: Pid, status: u8) {
        self.ends(pid, Ending::Exited(status), None);
    }

    /// A server is killed.
    pub fn dies(&mut self, pid: Pid, signal: u8) {
        self.ends(pid, Ending::Signalled(signal), None);
    }

    /// A child ends before it became its program.
    pub fn fails(&mut self, pid: Pid, step: ChildStep, errno: Errno) {
        self.ends(pid, Ending::Exited(127), Some((step, errno)));
    }

    fn ends(&mut self, pid: Pid, ending: Ending, failed: Option<(ChildStep, Errno)>) {
        {
            let mut world = self.world.borrow_mut();
            let server = &mut world.spawned[pid as usize - 1];
            assert!(core::mem::take(&mut server.alive), "pid {pid} has ended before");
            if let Some(socket) = server.socket {
                world.sockets[socket].holders.retain(|holder| *holder != pid);
                world.abandon(socket);
            }
            for at in 0..world.clients.len() {
                if world.clients[at].partner == Some(pid) {
                    world.clients[at].partner = None;
                    world.clients[at].half_closed = true;
                }
                if world.clients[at].holder == Some(pid) {
                    world.clients[at].holder = None;
                    world.hang_up(at, false);
                }
            }
        }
        self.deliver(Event::Ended { pid, ending, failed });
        self.settle();
    }

    /// What the daemon does when it is told to end: TERM.
    pub fn terminates(&mut self) {
        let now = self.now();
        self.ended = true;
        self.engine.stop_listening(now, &mut self.sim);
        self.engine.end_servers(End::Ask, &mut self.sim);
        self.engine.end_sessions(now, &mut self.sim);
        self.settle();
    }

    /// A newer program is told of a server by the one whose place it takes.
    pub fn inherits(&mut self, tenancy: Tenancy) -> bool {
        let now = self.now();
        self.engine.inherit(tenancy, now, &mut self.sim)
    }

    /// A newer program has taken this one's place.
    pub fn resigns(&mut self) {
        let now = self.now();
        self.ended = true;
        self.engine.resign(now, &mut self.sim);
        self.settle();
    }

    /// Every kind of call that can fail, for scripts that choose one.
    pub const fn calls() -> [Call; 6] {
        Call::ALL
    }

    /// What must be true when nothing is left to deliver: nobody waits where the engine could have taken him.
    pub fn check_quiet(&self) {
        let world = self.world.borrow();
        for socket in &world.sockets {
            assert!(
                socket.watch.is_none() || !socket.is_ready(),
                "{} waits at a watched socket",
                socket.waiting()
            );
        }
        let table = self.engine.table();
        for index in 0..table.services().len() as u16 {
            let Some(status) = self.engine.status(index) else { panic!("service {index} has no state") };
            let watched = self
                .engine
                .listener(index)
                .map(|listener| &world.sockets[listener.number])
                .map(|socket| socket.watch.filter(|_| !socket.is_once).map(|id| id.index));
            let id = table.service(index).map(|s| text(table.bytes(s.id))).unwrap_or_default();
            match status.state {
                State::Listening => assert_eq!(watched, Some(Some(index)), "{id} listens"),
                State::Off | State::Retry { .. } => assert_eq!(watched, None, "{id} has no socket"),
                State::Busy | State::Full | State::Paused { .. } => {
                    assert_eq!(watched, Some(None), "{id} takes nobody: {:?}", status.state);
                }
            }
            let ready = table
                .service(index)
                .is_some_and(|s| s.standing == Standing::Ready && !s.flags.has(Flags::MUX));
            assert_eq!(status.state != State::Off, ready && !self.ended, "{id} does what it should");
            if let State::Paused { until: at } | State::Retry { at } = status.state {
                assert!(at > world.now.mono, "{id} is overdue");
            }
        }
        let alive = world.spawned.iter().filter(|s| s.alive).count();
        let ahead = self.engine.standbys().count() + self.engine.dismissed();
        let children = self.engine.servers().count() + self.engine.commands() + ahead;
        let killed = world.spawned.iter().filter(|s| s.alive && s.is_killed).count();
        assert!(children <= alive, "every server and command is a child");
        assert!(children >= alive - killed, "every child is a server or a command");
        let sessions = world
            .clients
            .iter()
            .filter(|c| matches!(c.session, Some((StreamId::Session(_) | StreamId::Near(_), _))));
        assert_eq!(self.engine.sessions().count(), sessions.count(), "every session has a client");
        let open = world.clients.iter().filter(|c| c.ours).count();
        let known = self.engine.sessions().count() + self.engine.waiting().count() + self.engine.outgoing();
        assert_eq!(open, known, "no connection is forgotten");
        let asking = world.questions.iter().filter(|asked| asked.is_open).count();
        assert!(asking <= crate::capacity::NAMES, "no question is forgotten");
    }

    /// Writes a line of the script into the transcript.
    pub fn remark(&mut self, line: &str) {
        self.world.borrow_mut().write(line.to_string());
    }
}

/// A client about to do something.
pub struct Visitor<'a> {
    simulation: &'a mut Simulation,
    peer: Peer,
    pace: Pace,
}

impl Visitor<'_> {
    /// With this port.
    pub fn port(mut self, number: u16) -> Self {
        if let Peer::Ip { port, .. } = &mut self.peer {
            *port = number;
        }
        self
    }

    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Connects to a service, by its id or as `tcp/22`.
    pub fn connects(self, service: &str) -> Connection {
        let Visitor { simulation, peer, pace } = self;
        let number = {
            let mut world = simulation.world.borrow_mut();
            let found = world.find(service);
            let number = world.clients.len();
            let name = found.map_or_else(|| service.to_owned(), |at| world.sockets[at].name.clone());
            let port = found.map_or(0, |at| world.sockets[at].port);
            world.clients.push(Client {
                local: peer.address().map(|_| (LOCAL, port)),
                sight: if found.is_some() { Sight::Waiting } else { Sight::Refused },
                ..Client::new(peer, name, pace)
            });
            if matches!(pace, Pace::PerMs(_)) {
                world.paced.push(number);
            }
            if let Some(at) = found {
                world.sockets[at].backlog.push_back(number);
            }
            number
        };
        simulation.settle();
        Connection(number)
    }

    /// Sends a datagram to a service, by its id or as `udp/7`.
    pub fn sends(self, service: &str, bytes: &[u8]) {
        let Visitor { simulation, peer, .. } = self;
        {
            let mut world = simulation.world.borrow_mut();
            if let Some(at) = world.find(service) {
                world.sockets[at].datagrams.push_back((peer, bytes.to_owned()));
            }
        }
        simulation.settle();
    }
}
