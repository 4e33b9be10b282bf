//! The conformance scripts over a cable in memory: a daemon on one end, clients on smoltcp at the other, a virtual clock.

extern crate std;

use core::convert::Infallible;
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;
use std::{format, println, vec};

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use smoltcp::iface::SocketStorage;
use smoltcp::phy::{DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::storage::PacketMetadata;

use super::*;
use crate::backend::sim::Dice;
use crate::builtin::Stream;
use crate::config::diagnostic::Diagnostic;
use crate::config::source::memory::Tree;
use crate::config::{self, Loader};
use crate::engine::TablePair;

use crate::conformance::{SCRIPTS, Sight, World, configuration};

/// 2026-11-22 11:15:14 UTC, when the clock is 0.
const UNIX: i64 = 1_795_346_114;
const OURS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
/// How long a client waits for anything, in milliseconds.
const PATIENCE: u64 = 5000;
/// How long for what should not come.
const MOMENT: u64 = 300;

/// Frames on their way from one end of a cable to the other.
type Frames = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a cable, which may lose, double and swap one of so many frames that come out of it.
struct Plug {
    coming: Frames,
    going: Frames,
    trouble: Option<(usize, Dice)>,
}

struct Received(Vec<u8>);

struct Sent(Frames);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sent {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.borrow_mut().push_back(frame);
        result
    }
}

impl Device for Plug {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent;

    fn receive(&mut self, _: StackInstant) -> Option<(Received, Sent)> {
        let mut coming = self.coming.borrow_mut();
        let mut frame = coming.pop_front()?;
        if let Some((one_of, dice)) = &mut self.trouble {
            match dice.below(*one_of) {
                0 => frame = coming.pop_front()?,
                1 => coming.push_front(frame.clone()),
                2 => {
                    if let Some(next) = coming.pop_front() {
                        coming.push_front(core::mem::replace(&mut frame, next));
                    }
                }
                // Ethernet's own checksum is none of ours, and ARP has no other.
                3 if frame[12..14] == [8, 0] => {
                    let at = 14 + dice.below(frame.len() - 14);
                    frame[at] ^= 1 << dice.below(8);
                }
                _ => {}
            }
        }
        Some((Received(frame), Sent(Rc::clone(&self.going))))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Sent> {
        Some(Sent(Rc::clone(&self.going)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A service of somebody's own: says how many lines all clients have said together, after each of them.
#[derive(Default)]
struct Counter {
    lines: u32,
}

impl Own for Counter {
    /// What is still to be said.
    type Client = Vec<u8>;

    fn talk<S: Stream>(
        &mut self,
        service: u8,
        rest: &mut Vec<u8>,
        io: &mut S,
        _: Now,
    ) -> Result<Step, Errno> {
        assert_eq!(service, 1);
        loop {
            while !rest.is_empty() {
                if !io.write_ready()? {
                    return Ok(Step::Write);
                }
                let n = io.write(rest)?;
                rest.drain(..n);
            }
            let mut buf = [0; 64];
            match io.read(&mut buf) {
                Ok(0) => return Ok(Step::Close),
                Ok(n) => {
                    let lines = buf[..n].iter().filter(|byte| **byte == b'\n').count();
                    self.lines += lines as u32;
                    rest.extend(format!("{}\n", self.lines).into_bytes());
                }
                Err(Errno::AGAIN) => return Ok(Step::Read),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// A serial line: what has come and is not read, what was written, and how much more there is room for.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<WireState>>);

#[derive(Default)]
struct WireState {
    coming: VecDeque<u8>,
    gone: Vec<u8>,
    room: usize,
}

impl ErrorType for Wire {
    type Error = Infallible;
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let coming = &mut self.0.borrow_mut().coming;
        assert!(!coming.is_empty(), "a driver would wait here");
        let n = buf.len().min(coming.len());
        buf.iter_mut().zip(coming.drain(..n)).for_each(|(to, from)| *to = from);
        Ok(n)
    }
}

impl ReadReady for Wire {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!self.0.borrow().coming.is_empty())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let mut state = self.0.borrow_mut();
        assert!(state.room > 0, "a driver would wait here");
        let n = bytes.len().min(state.room);
        state.gone.extend(&bytes[..n]);
        state.room -= n;
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl WriteReady for Wire {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.borrow().room > 0)
    }
}

impl Line for Wire {
    fn path(&self) -> &[u8] {
        b"/uart1"
    }
}

struct TestHost {
    wire: Wire,
    files: Tree,
    own: Counter,
    records: Rc<RefCell<Vec<String>>>,
    random: u32,
}

impl Host for TestHost {
    type Tables = TablePair;
    type Files = Tree;
    type Pipe = NoPipe;
    type Own = Counter;

    type Line = Wire;

    fn own(&mut self) -> (&mut Counter, &mut [Wire]) {
        (&mut self.own, core::slice::from_mut(&mut self.wire))
    }

    fn files(&mut self) -> &mut Tree {
        &mut self.files
    }

    fn record(&mut self, record: &Record<'_>) {
        self.records.borrow_mut().push(format!("{record}"));
    }

    fn random(&mut self) -> u32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random
    }
}

fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

type Daemon = Smoltcp<'static, Plug, TestHost>;

/// A daemon and its clients.
struct Bench {
    engine: Box<Engine<Daemon>>,
    daemon: Daemon,
    wire: Wire,
    records: Rc<RefCell<Vec<String>>>,
    clients: Interface,
    cable: Plug,
    sockets: SocketSet<'static>,
    connections: Vec<SocketHandle>,
    /// Port, and where the first datagram comes from.
    datagrams: BTreeMap<String, SocketHandle>,
    next_port: u16,
    clock: u64,
    wakes: usize,
    patience: u64,
}

const CLIENTS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 7, 0, 11),
    Ipv4Addr::new(10, 7, 0, 12),
    Ipv4Addr::new(10, 7, 0, 13),
    Ipv4Addr::new(10, 7, 0, 14),
];

impl Bench {
    fn new(conf: &str) -> Bench {
        let (there, back) = (Frames::default(), Frames::default());
        let device = Plug { coming: Rc::clone(&there), going: Rc::clone(&back), trouble: None };
        let mut cable = Plug { coming: back, going: there, trouble: None };
        let records = Rc::default();
        let wire = Wire::default();
        let host = TestHost {
            wire: wire.clone(),
            files: Tree::default(),
            own: Counter::default(),
            records: Rc::clone(&records),
            random: 7,
        };
        let addresses = Addresses {
            ethernet: [2, 0, 0, 0, 0, 1],
            ipv4: Ipv4::Static { address: OURS, bits: 24, router: None },
            ipv6: None,
            router6: None,
            time_server: Some(IpAddr::V4(CLIENTS[3])),
        };
        let mut daemon =
            Smoltcp::new(device, addresses, leak(Buffers::new()), leak(Sockets::new()), host, Instant(0));
        let mut engine = Box::new(Engine::<Daemon>::new());
        let mut files = Tree::default().file("/conf", conf);
        let mut said = Vec::new();
        let mut report = |d: &Diagnostic<'_>| said.push(format!("{d}"));
        let mut loader = Box::new(Loader::new());
        let options = config::Options { own: &[b"other", b"counter"], ..config::Options::default() };
        let outcome = loader.load(&mut files, &mut report, engine.spare(), b"/conf", &options);
        assert!(outcome.usable && outcome.errors == 0, "{said:?}");
        let now = Now { mono: Instant(0), unix: Some(UNIX) };
        engine.adopt(now, &mut daemon);
        let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 2]).into());
        config.random_seed = 42;
        let mut clients = Interface::new(config, &mut cable, StackInstant::ZERO);
        clients.update_ip_addrs(|all| {
            for address in CLIENTS {
                all.push(IpCidr::Ipv4(Ipv4Cidr::new(address, 24))).unwrap();
            }
        });
        let places: &'static mut [SocketStorage<'static>] =
            Box::leak((0..256).map(|_| SocketStorage::EMPTY).collect::<Vec<_>>().into_boxed_slice());
        Bench {
            engine,
            daemon,
            wire,
            records,
            clients,
            cable,
            sockets: SocketSet::new(places),
            connections: Vec::new(),
            datagrams: BTreeMap::new(),
            next_port: 50_000,
            clock: 0,
            wakes: 0,
            patience: PATIENCE,
        }
    }

    fn now(&self) -> Now {
        Now { mono: Instant(self.clock), unix: Some(UNIX + (self.clock / 1000) as i64) }
    }

    /// Everything that happens now; when something will.
    fn settle(&mut self) -> Option<u64> {
        for _ in 0..100_000 {
            let now = self.now();
            let due = Smoltcp::turn(&mut self.engine, &mut self.daemon, now);
            self.wakes += 1;
            let at = stack_time(now.mono);
            self.clients.poll(at, &mut self.cable, &mut self.sockets);
            let clients = self.clients.poll_at(at, &self.sockets).map(|at| at.total_millis() as u64);
            let is_moving = !self.cable.coming.borrow().is_empty() || !self.cable.going.borrow().is_empty();
            let due = due.map(|at| at.0).into_iter().chain(clients).min();
            if !is_moving && due.is_none_or(|at| at > self.clock) {
                return due;
            }
        }
        panic!("it never comes to rest: {:?}", self.records.borrow());
    }

    /// Lets time pass until something is so; `false` if it is not within that time.
    fn until(&mut self, ms: u64, mut is_so: impl FnMut(&mut Bench) -> bool) -> bool {
        let end = self.clock + ms;
        loop {
            let due = self.settle();
            if is_so(self) {
                return true;
            }
            if self.clock >= end {
                return false;
            }
            self.clock = due.unwrap_or(end).clamp(self.clock + 1, end);
        }
    }

    fn socket(&mut self, client: usize) -> &mut tcp::Socket<'static> {
        let handle = self.connections[client];
        self.sockets.get_mut(handle)
    }
}

impl World for Bench {
    fn has_addresses(&self) -> bool {
        true
    }

    fn connect(&mut self, from: u8, port: u16) -> usize {
        let buffer = || tcp::SocketBuffer::new(vec![0u8; 65536].leak() as &'static mut [u8]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        self.next_port += 1;
        let local = IpEndpoint::new(CLIENTS[usize::from(from) - 1].into(), self.next_port);
        socket.set_nagle_enabled(false);
        socket.connect(self.clients.context(), (IpAddress::from(IpAddr::V4(OURS)), port), local).unwrap();
        self.connections.push(self.sockets.add(socket));
        self.connections.len() - 1
    }

    fn send(&mut self, client: usize, bytes: &[u8]) -> usize {
        self.until(self.patience, |bench| bench.socket(client).state() != tcp::State::SynSent);
        // Not for ever: the other end may wait for its bytes to be read, and gives up after SILENCE_MS.
        self.until(self.patience.min(SILENCE_MS / 4), |bench| {
            let socket = bench.socket(client);
            socket.can_send() || socket.state() != tcp::State::Established
        });
        let sent = self.socket(client).send_slice(bytes).unwrap_or(0);
        self.settle();
        sent
    }

    fn receive(&mut self, client: usize, most: usize) -> Vec<u8> {
        self.until(self.patience, |bench| {
            let socket = bench.socket(client);
            socket.recv_queue() >= most
                || socket.recv_queue() == socket.recv_capacity()
                || !(socket.may_recv() || socket.state() == tcp::State::SynSent)
        });
        let mut bytes = vec![0; most];
        let n = self.socket(client).recv_slice(&mut bytes).unwrap_or(0);
        bytes.truncate(n);
        self.settle();
        bytes
    }

    fn sight(&mut self, client: usize) -> Sight {
        self.until(MOMENT, |bench| !bench.socket(client).may_recv());
        let socket = self.socket(client);
        if socket.may_recv() || socket.state() == tcp::State::SynSent {
            return Sight::Open;
        }
        match socket.recv(|_| (0, ())) {
            Err(tcp::RecvError::Finished) => Sight::Ended,
            _ => Sight::Reset,
        }
    }

    fn finish(&mut self, client: usize) {
        self.socket(client).close();
        self.settle();
    }

    fn leave(&mut self, client: usize) {
        let socket = self.socket(client);
        socket.close();
        let _ = socket.recv(|bytes| (bytes.len(), ()));
        self.until(MOMENT, |bench| {
            let socket = bench.socket(client);
            let _ = socket.recv(|bytes| (bytes.len(), ()));
            !socket.is_open()
        });
    }

    fn reset(&mut self, client: usize) {
        self.socket(client).abort();
        self.settle();
    }

    fn ask(&mut self, client: &str, from: u8, port: u16, bytes: &[u8]) {
        let next_port = &mut self.next_port;
        let sockets = &mut self.sockets;
        let handle = *self.datagrams.entry(client.into()).or_insert_with(|| {
            let buffer = || {
                let meta = vec![PacketMetadata::EMPTY; 32].leak() as &'static mut [_];
                udp::PacketBuffer::new(meta, vec![0u8; 65536].leak() as &'static mut [u8])
            };
            let mut socket = udp::Socket::new(buffer(), buffer());
            *next_port += 1;
            socket.bind((IpAddress::from(IpAddr::V4(CLIENTS[usize::from(from) - 1])), *next_port)).unwrap();
            sockets.add(socket)
        });
        let to = IpEndpoint::new(IpAddr::V4(OURS).into(), port);
        self.sockets.get_mut::<udp::Socket>(handle).send_slice(bytes, to).unwrap();
        self.settle();
    }

    fn datagram(&mut self, client: &str, soon: bool) -> Option<Vec<u8>> {
        let handle = self.datagrams[client];
        let patience = if soon { MOMENT } else { self.patience };
        self.until(patience, |bench| bench.sockets.get::<udp::Socket>(handle).can_recv());
        let (bytes, _) = self.sockets.get_mut::<udp::Socket>(handle).recv().ok()?;
        Some(bytes.to_vec())
    }

    fn pass(&mut self, ms: u64) {
        self.until(ms, |_| false);
    }

    fn unix(&self) -> Option<i64> {
        self.now().unix
    }
}

#[test]
fn the_conformance_scripts() {
    let conf = configuration(&format!("{}", CLIENTS[2]));
    for script in SCRIPTS {
        let mut bench = Bench::new(&conf);

        let done = script.play(&mut bench);
        let word = if done { "passed" } else { "-" };
        println!("conformance: memory {} {word}: {}", script.name, script.promise());
        bench.is_clean();
    }
}

/// A board has no time of day until a server tells it, and only one that was asked can.
#[test]
fn the_time_is_a_servers_to_tell() {
    let mut bench = Bench::new(&configuration("10.7.0.13"));
    let buffer = || {
        let meta = vec![PacketMetadata::EMPTY; 8].leak() as &'static mut [_];
        udp::PacketBuffer::new(meta, vec![0u8; 2048].leak() as &'static mut [u8])
    };
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind((IpAddress::from(IpAddr::V4(CLIENTS[3])), sntp::PORT)).unwrap();
    let server = bench.sockets.add(socket);
    assert!(bench.until(10_000, |bench| bench.sockets.get::<udp::Socket>(server).can_recv()));
    assert_eq!(bench.daemon.unix(Instant(bench.clock)), None);
    let socket = bench.sockets.get_mut::<udp::Socket>(server);
    let (question, from) = socket.recv().map(|(bytes, from)| (bytes.to_vec(), from)).unwrap();
    assert!(from.endpoint.port >= DYNAMIC_PORTS);
    let mut answer = vec![0; sntp::PACKET];
    (answer[0], answer[1]) = (0x24, 3);
    answer[24..32].copy_from_slice(&question[40..]);
    let seconds = (UNIX + 2_208_988_800) as u32;
    answer[40..44].copy_from_slice(&seconds.to_be_bytes());
    socket.send_slice(&answer, from).unwrap();
    let asked = bench.clock;
    assert!(bench.until(100, |bench| bench.daemon.unix(Instant(bench.clock)).is_some()));
    assert_eq!(bench.daemon.unix(Instant(asked + 5000)), Some(UNIX + 5));
    // Its socket is free again, and nobody is asked for a while.
    assert!(bench.daemon.datagrams.iter().all(|d| d.purpose != Use::Clock));
    assert!(!bench.until(900_000, |bench| bench.sockets.get::<udp::Socket>(server).can_recv()));
}

#[test]
fn services_of_ones_own_have_rules_and_limits_like_others() {
    let mut bench = Bench::new(
        "service counter\n{\n\ttype = INTERNAL UNLISTED\n\tprotocol = tcp\n\tport = 99\n\twait = no\n\t\
         only_from = 10.7.0.11 10.7.0.12\n\tinstances = 2\n\tlog_on_success = HOST EXIT\n\tlog_on_failure = HOST\n}\n",
    );
    let first = bench.connect(1, 99);
    bench.send(first, b"a\nb\n");
    assert_eq!(bench.receive(first, 2), b"2\n");
    let second = bench.connect(2, 99);
    bench.send(second, b"c\n");
    assert_eq!(bench.receive(second, 2), b"3\n");
    for (client, why) in [(3, "address"), (1, "service_limit")] {
        let refused = bench.connect(client, 99);
        assert_eq!((bench.receive(refused, 1).len(), bench.sight(refused)), (0, Sight::Ended));
        let records = bench.records.borrow();
        assert!(records.iter().any(|r| r.contains("FAIL") && r.contains(why)), "{why}: {records:?}");
    }
    bench.finish(first);
    assert_eq!((bench.receive(first, 1).len(), bench.sight(first)), (0, Sight::Ended));
    let third = bench.connect(1, 99);
    bench.send(third, b"d\n");
    assert_eq!(bench.receive(third, 2), b"4\n");
    bench.is_clean();
}

/// Losses cost time, never bytes. (What is changed on the way the checksums find.)
/// A serial line has the services of the network, for who sends the first byte, and is never waited for.
#[test]
fn a_serial_line_is_served_as_far_as_it_takes_bytes() {
    let on_line = |service: &str, more: &str| {
        format!(
            "service {service}\n{{\n type = INTERNAL UNLISTED\n protocol = unix\n socket_type = stream\n bind = /uart1\n wait = no\n \
             log_on_success = HOST\n{more}}}\n"
        )
    };
    let says = |bench: &mut Bench, coming: &[u8], room: usize| {
        {
            let mut state = bench.wire.0.borrow_mut();
            state.coming.extend(coming);
            state.room = room;
        }
        bench.settle();
        core::mem::take(&mut bench.wire.0.borrow_mut().gone)
    };
    let mut bench = Bench::new(&on_line("echo", ""));
    assert_eq!(says(&mut bench, b"hello", 3), b"hel");
    assert_eq!(bench.wire.0.borrow().coming, *b"lo");
    assert_eq!(says(&mut bench, b"", 1), b"l");
    assert_eq!(says(&mut bench, b", you", 100), b"o, you");
    assert_eq!(*bench.records.borrow(), ["START: echo from=<no address>"]);

    let mut bench = Bench::new(&on_line("chargen", ""));
    assert_eq!(says(&mut bench, b"", 10), b"");
    assert_eq!(says(&mut bench, b"?", 10), b"!\"#$%&'()*");
    assert_eq!(says(&mut bench, b"", 5), b"+,-./");

    let mut bench = Bench::new(&on_line("daytime", ""));
    assert_eq!(says(&mut bench, b"?", 100).len(), 26);
    // It has ended, with what was not read of it; what comes now is another client.
    assert_eq!(says(&mut bench, b"?", 100).len(), 26);

    let mut bench = Bench::new(&on_line("counter", ""));
    assert_eq!(says(&mut bench, b"one\ntwo\n", 100), b"2\n");
    assert_eq!(says(&mut bench, b"three\n", 100), b"3\n");

    // That line is not there. (Two services on one line are a mistake in the file.)
    let bench = Bench::new(&on_line("counter", "").replace("uart1", "uart2"));
    let records = bench.records.borrow();
    assert!(
        records
            .iter()
            .any(|r| r.starts_with("bind failed (No such device (errno = 19)). service = counter, ")),
        "{records:?}"
    );
}

#[test]
fn frames_may_be_lost_doubled_swapped_and_changed() {
    let conf = configuration("10.7.0.13");
    for seed in 1..6 {
        for script in SCRIPTS.iter().take(7) {
            let mut bench = Bench::new(&conf);
            // One in ten is lost in each direction, and waits double.
            bench.patience = 3_600_000;
            bench.cable.trouble = Some((20, Dice::new(seed)));
            bench.daemon.device().trouble = Some((20, Dice::new(seed + 1000)));
            println!("seed {seed} {}", script.name);
            script.play(&mut bench);
            bench.cable.trouble = None;
            bench.daemon.device().trouble = None;
            bench.is_clean();
        }
    }
}

const ECHO: u16 = 7007;

/// More at once than one service may let wait: some come a second later.
#[test]
fn a_burst_is_served_whole() {
    let mut bench = Bench::new(&configuration("10.7.0.13"));
    let all: Vec<usize> =
        (0..(BACKLOG + 20).min(bench.room())).map(|n| bench.connect(1 + (n % 4) as u8, ECHO)).collect();
    for &client in &all {
        assert_eq!(bench.send(client, b"hello"), 5);
    }
    for &client in &all {
        assert_eq!(bench.receive(client, 5), b"hello", "client {client}");
    }
    bench.is_clean();
}

/// A device that tells of each frame once told of these before the turn. One that was left would have waited for the next one
/// to come, and a virtio device whose buffers all held frames waited for ever.
#[test]
fn a_turn_that_leaves_frames_is_followed_by_another() {
    let mut bench = Bench::new(&configuration("10.7.0.13"));
    bench.settle();
    let now = bench.now();
    for n in 0..FRAMES_A_TURN as u32 + 1 {
        let mut frame = handshake(n, ECHO);
        // For somebody else.
        frame[5] ^= 0x55;
        bench.cable.going.borrow_mut().push_back(frame);
    }
    let mut turns = 1;
    while Smoltcp::turn(&mut bench.engine, &mut bench.daemon, now) == Some(now.mono) {
        turns += 1;
    }
    assert!(turns > 1, "they are more than one turn takes");
    assert!(bench.cable.going.borrow().is_empty());
}

/// The pool is empty: nobody is reset, and who waits comes in when another leaves.
#[test]
fn who_finds_no_socket_comes_in_later() {
    let mut bench = Bench::new(&configuration("10.7.0.13"));
    let first: Vec<usize> = (0..bench.room())
        .map(|_| {
            let client = bench.connect(1, ECHO);
            bench.send(client, b"hello");
            assert_eq!(bench.receive(client, 5), b"hello");
            client
        })
        .collect();
    let late = bench.connect(2, ECHO);
    bench.pass(1500);
    assert_eq!(bench.socket(late).state(), tcp::State::SynSent);
    // The others have their spares.
    let other = bench.connect(2, 7009);
    assert_eq!(bench.send(other, b"hello"), 5);
    bench.leave(first[0]);
    assert_eq!(bench.send(late, b"late"), 4);
    assert_eq!(bench.receive(late, 4), b"late");
    bench.is_clean();
}

/// Handshakes that nobody finishes, from everywhere: they take the place of each other, and not for long.
#[test]
fn a_flood_of_handshakes_leaves_the_service_up() {
    let mut bench = Bench::new(&configuration("10.7.0.13"));
    let before = bench.connect(1, ECHO);
    bench.send(before, b"hello");
    for n in 0..5000u32 {
        bench.cable.going.borrow_mut().push_back(handshake(n, ECHO));
        if n % 10 == 0 {
            bench.pass(1);
        }
    }
    assert_eq!(bench.receive(before, 5), b"hello");
    let other = bench.connect(1, 7009);
    assert_eq!(bench.send(other, b"hello"), 5);
    // A second after its end, as the client tries again.
    let after = bench.connect(1, ECHO);
    bench.pass(1000);
    assert_eq!(bench.send(after, b"after"), 5);
    assert_eq!(bench.receive(after, 5), b"after");
    bench.is_clean();
}

/// A spare that had listened for a while before its client came was taken for a handshake of that age, and given to the next
/// one who found none.
#[test]
fn a_handshake_begins_with_its_client() {
    let mut bench = Bench::new(&configuration("10.7.0.13"));
    let before = bench.connect(1, ECHO);
    assert_eq!(bench.send(before, b"hello"), 5);
    // No turn in between.
    bench.clock += 10_000;
    let client = bench.connect(1, ECHO);
    let at = stack_time(Instant(bench.clock));
    bench.clients.poll(at, &mut bench.cable, &mut bench.sockets);
    for n in 0..BACKLOG as u32 {
        bench.cable.going.borrow_mut().push_back(handshake(n, ECHO));
    }
    bench.patience = 100;
    assert_eq!(bench.send(client, b"hello"), 5);
    bench.is_clean();
}

/// Who resets his handshake puts its socket back into LISTEN, where another had taken its place already: each time one socket
/// more was lost to all other services.
#[test]
fn handshakes_that_are_reset_leave_one_spare() {
    let mut bench = Bench::new(&configuration("10.7.0.13"));
    let before = bench.connect(1, ECHO);
    assert_eq!(bench.send(before, b"hello"), 5);
    for _ in 0..3 {
        let client = bench.connect(1, ECHO);
        let now = bench.now();
        bench.clients.poll(stack_time(now.mono), &mut bench.cable, &mut bench.sockets);
        Smoltcp::turn(&mut bench.engine, &mut bench.daemon, now);
        bench.reset(client);
    }
    bench.is_clean();
}

/// Frames of anything: cut, lengthened, changed anywhere. The board goes on serving.
#[test]
fn no_frames_stop_it() {
    let mut bench = Bench::new(&configuration("10.7.0.13"));
    let client = bench.connect(1, ECHO);
    bench.send(client, b"hello");
    assert_eq!(bench.receive(client, 5), b"hello");
    for seed in 1..40 {
        let mut dice = Dice::new(seed);
        for n in 0..500 {
            let mut frame = handshake(n, [ECHO, 7019, 7037][dice.below(3)]);
            // IPv6, ARP and fragments too.
            let (high, low) = [(8, 0), (0x86, 0xdd), (8, 6)][dice.below(3)];
            (frame[12], frame[13]) = (high, low);
            for _ in 0..dice.below(6) {
                let at = dice.below(frame.len());
                frame[at] = dice.roll() as u8;
            }
            match dice.below(4) {
                0 => frame.truncate(dice.below(frame.len())),
                1 => frame.extend((0..dice.below(1400)).map(|_| dice.roll() as u8)),
                _ => {}
            }
            bench.cable.going.borrow_mut().push_back(frame);
        }
        bench.pass(10);
    }
    // What was learnt of false neighbours is forgotten after a minute.
    bench.pass(70_000);
    let client = bench.connect(2, ECHO);
    bench.patience = 60_000;
    assert_eq!(bench.send(client, b"after"), 5);
    assert_eq!(bench.receive(client, 5), b"after");
    bench.is_clean();
}

/// One of them alone would be asked for in a second, and the others after it: what they sent says where they are.
#[test]
fn neighbours_are_known_by_what_they_send() {
    let mut bench = Bench::new(&configuration("10.7.0.99"));
    let all: Vec<usize> = (1..=4).map(|from| bench.connect(from, ECHO)).collect();
    bench.patience = 100;
    for client in all {
        assert_eq!(bench.send(client, b"hello"), 5);
        assert_eq!(bench.receive(client, 5), b"hello", "client {client}");
    }
    // Among many who do not exist, too.
    for n in 0..50 {
        bench.cable.going.borrow_mut().push_back(handshake(n, 7019));
    }
    bench.pass(1);
    let late = bench.connect(3, ECHO);
    assert_eq!(bench.send(late, b"late"), 4);
    assert_eq!(bench.receive(late, 4), b"late");
    bench.is_clean();
}

/// The stack makes room for a neighbour by forgetting the oldest; of many that came in the same millisecond that was nearly
/// the newest, and the gate, which had told of it, did not tell again. A client in the middle of a flood then waited until the
/// stack had asked for somebody who does not exist as long as he had a place.
#[test]
fn a_client_is_not_forgotten_for_those_of_a_flood() {
    let mut bench = Bench::new(&configuration("10.7.0.99"));
    let client = bench.connect(1, ECHO);
    assert_eq!(bench.send(client, b"hello"), 5);
    assert_eq!(bench.receive(client, 5), b"hello");
    bench.patience = 100;
    for n in 0..20 {
        let flood = |bench: &mut Bench, range: core::ops::Range<u32>| {
            // Nobody listens there: a service with a full backlog would not have them come so far.
            let frames = range.map(|n| handshake(n, 9999));
            bench.cable.going.borrow_mut().extend(frames);
        };
        bench.pass(1);
        flood(&mut bench, n * 100..n * 100 + 40 + n);
        let now = bench.now();
        bench.socket(client).send_slice(b"still").unwrap();
        bench.clients.poll(stack_time(now.mono), &mut bench.cable, &mut bench.sockets);
        flood(&mut bench, n * 100 + 40 + n..n * 100 + 45 + n);
        assert_eq!(bench.receive(client, 5), b"still", "round {n}");
    }
    // Nor when it has said nothing for so long that the stack has forgotten all of them.
    bench.pass(70_000);
    bench.cable.going.borrow_mut().extend((0..BACKLOG as u32).map(|n| handshake(n, ECHO)));
    assert_eq!(bench.send(client, b"again"), 5);
    assert_eq!(bench.receive(client, 5), b"again");
}

/// The nth SYN of a flood.
fn handshake(n: u32, port: u16) -> Vec<u8> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl,
        TcpPacket, TcpRepr, TcpSeqNumber,
    };
    let from = Ipv4Addr::new(10, 7, 0, 100 + (n % 100) as u8);
    let tcp = TcpRepr {
        src_port: 1024 + (n % 60_000) as u16,
        dst_port: port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(n as i32),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: OURS,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress([2, 0, 0, 0, 0, 9]),
        dst_addr: EthernetAddress([2, 0, 0, 0, 0, 1]),
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut frame = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame));
    let all = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &all);
    let (from, to) = (IpAddress::from(IpAddr::V4(from)), IpAddress::from(IpAddr::V4(OURS)));
    tcp.emit(&mut TcpPacket::new_unchecked(&mut frame[14 + ip.buffer_len()..]), &from, &to, &all);
    frame
}

impl Bench {
    /// Clients that one service can have: all sockets but the spares of the others.
    fn room(&self) -> usize {
        let is_stream = |port: &&Port| port.socket == SocketType::Stream;
        TCP_SOCKETS + 1 - self.daemon.ports.iter().flatten().filter(is_stream).count()
    }

    /// Once all clients have left, the pool is as it was, and nothing wakes the daemon any more.
    fn is_clean(&mut self) {
        for client in 0..self.connections.len() {
            self.socket(client).abort();
        }
        self.until(2 * CLOSING_MS, |_| false);
        let daemon = &self.daemon;
        let listening =
            daemon.ports.iter().flatten().filter(|port| port.socket == SocketType::Stream).count();
        let count = |is: fn(&Role) -> bool| daemon.connections.iter().filter(|c| is(&c.role)).count();
        assert_eq!(count(|role| matches!(role, Role::Spare { .. })), listening);
        assert_eq!(count(|role| *role == Role::Free), TCP_SOCKETS - listening);
        assert_eq!(self.engine.running(), 0);
        self.daemon.addresses.time_server = None;
        let before = self.wakes;
        self.until(3_600_000, |_| false);
        assert!(self.wakes - before <= 2, "{} wake-ups in an idle hour", self.wakes - before);
    }
}
