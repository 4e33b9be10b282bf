//! Floods: one of several addresses connects as fast as it can, or keeps the daemon waiting for something, and everybody
//! else is served as if nothing were. Bounded in number and time; nothing leaves the loopback of the test's own network.
//!
//! Times are those of a machine that does other things too: each comparison has a few rounds, and the best of them counts.
//! What is really wrong is wrong in all of them.

use crate::harness::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The address that floods, and the others.
const FLOODER: u8 = 2;
const OTHERS: [u8; 3] = [3, 4, 5];
/// How long a flood takes, and how long the others are measured without one.
const FLOOD: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 10;
/// What one of the others waits between two questions.
const PACE: Duration = Duration::from_millis(3);
/// A flood's p99 is at most so many times the idle one's.
const SLOWER: u32 = 10;
/// Where a flood has programs started all the time, within its share, they and the clients fill two processors, and what a
/// program waits for its first slice is the kernel's (50 ms were seen, of 1 ms that it runs): a shorter idle p99 counts as
/// this one. Where a flood has none started, nothing is forgiven.
const GRAIN: Duration = Duration::from_millis(3);

/// An idle p99 beyond this means that others have the processors: a connection may find the backlog full then, and the
/// kernel tries again after one second, and after three.
const BUSY: Duration = Duration::from_millis(5);
const TRIES: Duration = Duration::from_millis(3500);

/// One test at a time: they are about time.
static TURN: Mutex<()> = Mutex::new(());

const ECHO: u16 = 7;
const PROGRAM: u16 = 9901;
const SECOND: u16 = 9902;

fn echo(more: &str) -> String {
    service("echo", 0, &format!("type = INTERNAL; {more}"))
}

/// A program that says `hi` and ends, or `abc` when it has been told so.
fn greeter(port: u16, more: &str) -> String {
    program(port, "/bin/echo; server_args = hi", more)
}

fn program(port: u16, server: &str, more: &str) -> String {
    service(&format!("greeter{port}"), port, &format!("server = {server}; {more}"))
}

/// Nothing but what a test sets refuses anybody.
const QUIET: &str = "defaults\n{\n\tcps = 0 0\n\tlog_on_success =\n\tlog_on_failure =\n}\n";

/// A test with a network and the processors to itself.
fn alone<R: Send + 'static>(body: impl FnOnce(&Net) -> R + Send + 'static) -> R {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    in_net(body)
}

fn start<'n>(net: &'n Net, conf: &str, ports: &[u16]) -> Daemon<'n> {
    let ports: Vec<_> = ports.iter().map(|port| format!("tcp/{port}")).collect();
    let ports: Vec<_> = ports.iter().map(String::as_str).collect();
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(conf)).ready(&ports)
}

/// A connection from 127.0.0.`sender`. A flood does not stop because one of its connections finds no room.
fn connect(sender: u8, port: u16) -> std::io::Result<TcpStream> {
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, sender), 0));
    let patience = if sender == FLOODER { Duration::from_millis(50) } else { Duration::from_secs(5) };
    connect_from(from, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)
}

/// Whether a service served one client, and how long that took.
fn ask(from: u8, port: u16) -> Option<Duration> {
    let began = Instant::now();
    let mut stream = connect(from, port).ok()?;
    let mut answer = [0; 3];
    let wanted = if port != PROGRAM {
        stream.write_all(b"abc").ok()?;
        b"abc"
    } else {
        b"hi\n"
    };
    stream.read_exact(&mut answer).ok()?;
    let took = began.elapsed();
    if port == PROGRAM {
        // Its program has ended then, and does not count for the next one.
        let _ = stream.read(&mut [0; 1]);
    }
    reset(stream);
    (answer == *wanted).then_some(took)
}

/// What the others got.
#[derive(Default)]
struct Served {
    times: Vec<Duration>,
    failed: usize,
}

impl Served {
    fn p99(&mut self) -> Duration {
        assert!(self.times.len() >= 50, "only {} served, {} not", self.times.len(), self.failed);
        self.times.sort_unstable();
        self.times[self.times.len() * 99 / 100]
    }
}

/// Asks from all other addresses for a while.
fn others(port: u16, pace: Duration, length: Duration) -> Served {
    let threads: Vec<_> = OTHERS
        .into_iter()
        .map(|from| {
            thread::spawn(move || {
                let mut served = Served::default();
                let began = Instant::now();
                while began.elapsed() < length {
                    match ask(from, port) {
                        Some(took) => served.times.push(took),
                        None => served.failed += 1,
                    }
                    thread::sleep(pace);
                }
                served
            })
        })
        .collect();
    let mut all = Served::default();
    for thread in threads {
        let one = thread.join().expect("a client");
        all.times.extend(one.times);
        all.failed += one.failed;
    }
    all
}

/// A flood comes from elsewhere: what it costs its sender is not to be taken from the daemon and its programs.
fn step_back() {
    // SAFETY: no pointers; of Linux's threads each has its own.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, 19) };
}

/// One address that connects as fast as it can, as long as this lives.
struct Flood {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl Flood {
    /// It holds its last `hold` connections and resets those before; of a program it does not wait for the answer.
    fn start(port: u16, hold: usize) -> Flood {
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = thread::spawn(move || {
            step_back();
            let mut held: Vec<TcpStream> = vec![];
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                // No port or no room: that is as fast as it can.
                let Ok(stream) = connect(FLOODER, port) else { continue };
                count += 1;
                if held.len() < hold {
                    held.push(stream);
                } else {
                    reset(stream);
                }
            }
            held.into_iter().for_each(reset);
            count
        });
        Flood { over, thread }
    }

    /// How many connections it made.
    fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a flood")
    }
}

/// Nothing is left: no descriptor, no child, nobody counted. A connection that still waited in the backlog when the flood
/// ended is taken, and its reset found, in a moment of its own.
fn is_clean(daemon: &Daemon, before: (usize, usize)) {
    until(&format!("nobody is left, {before:?} and nothing runs"), || {
        if holdings(daemon.pid()) != before {
            return None;
        }
        let text = daemon.dump();
        let counts: Vec<_> = text.lines().filter(|line| line.contains("running_servers")).collect();
        assert!(!counts.is_empty(), "no service in {text}");
        counts.iter().all(|line| line.trim() == "running_servers = 0").then_some(())
    });
}

/// What a machine without a flood leaves a daemon with.
fn at_rest(daemon: &Daemon) -> (usize, usize) {
    until("rest", || {
        let one = holdings(daemon.pid());
        thread::sleep(Duration::from_millis(50));
        (one.1 == 0 && one == holdings(daemon.pid())).then_some(one)
    })
}

/// While one address floods the first port, the others are served at the second as they are without a flood.
fn is_unharmed(daemon: &Daemon, flooded: u16, measured: u16, hold: usize) {
    is_unharmed_but(daemon, flooded, measured, hold, Duration::ZERO);
}

/// And an idle p99 below `grain` counts as that.
fn is_unharmed_but(daemon: &Daemon, flooded: u16, measured: u16, hold: usize, grain: Duration) {
    assert!(ask(OTHERS[0], measured).is_some(), "{}", daemon.log());
    let before = at_rest(daemon);
    let mut told = vec![];
    for _ in 0..ROUNDS {
        let idle = others(measured, PACE, FLOOD / 2).p99();
        let flood = Flood::start(flooded, hold);
        let mut served = others(measured, PACE, FLOOD);
        let count = flood.end();
        assert_eq!(served.failed, 0, "of {}: {}", served.times.len(), daemon.dump());
        let under = served.p99();
        is_clean(daemon, before);
        let (n, median) = (served.times.len(), served.times[served.times.len() / 2]);
        let line = format!("p99 {idle:?}; beside {count} connections {under:?} of {n}, median {median:?}");
        println!("{line}");
        let most = SLOWER * idle.max(grain);
        if count > 1000 && under < if idle > BUSY { most.max(TRIES) } else { most } {
            return;
        }
        told.push(line);
    }
    panic!("others wait too long, or that was no flood: {told:#?}");
}

/// `cps` counts all sources together: it is only to stay out of the way here.
const SHARE: &str = "per_source = 4; instances = 40; cps = 5000 1";

#[test]
fn a_flood_of_a_builtin_exhausts_its_own_share() {
    alone(|net| is_unharmed(&start(net, &[QUIET, &echo(SHARE)].concat(), &[ECHO]), ECHO, ECHO, 4));
}

#[test]
fn a_flood_of_a_program_exhausts_its_own_share() {
    alone(|net| {
        let conf = [QUIET, &program(SECOND, "/bin/cat", SHARE)].concat();
        is_unharmed(&start(net, &conf, &[SECOND]), SECOND, SECOND, 4);
    });
}

/// The flood has programs started as fast as they end.
#[test]
fn a_flood_of_a_program_that_ends_at_once_exhausts_its_own_share() {
    alone(|net| {
        let share = "per_source = 2; instances = 40; cps = 0 0";
        let conf = [QUIET, &greeter(PROGRAM, share)].concat();
        is_unharmed_but(&start(net, &conf, &[PROGRAM]), PROGRAM, PROGRAM, 0, GRAIN);
    });
}

/// Those whom `per_source` refuses do not count for `cps`: thousands a second, and a limit that the others stay below.
#[test]
fn a_flood_beyond_its_share_does_not_trip_cps() {
    alone(|net| {
        let share = "per_source = 4; instances = 40; cps = 50 3600";
        let daemon = start(net, &[QUIET, &echo(share)].concat(), &[ECHO]);
        let before = at_rest(&daemon);
        // Its share is taken before the flood begins: only what is refused is left.
        let held: Vec<_> = (0..4).map(|_| connect(FLOODER, ECHO).expect("its share")).collect();
        let flood = Flood::start(ECHO, 0);
        // Three of them, ten times a second: with that share less than 50 in any second.
        let served = others(ECHO, Duration::from_millis(100), FLOOD);
        let count = flood.end();
        assert!(count > 1000 && served.times.len() > 20, "{count} {}", served.times.len());
        assert_eq!(served.failed, 0, "{}", daemon.dump());
        assert!(!daemon.log().contains("deactivat"), "{}", daemon.log());
        held.into_iter().for_each(reset);
        is_clean(&daemon, before);
    });
}

#[test]
fn a_flood_that_hosts_deny_refuses_stops_nobody() {
    alone(|net| {
        net.write("/etc/hosts.deny", "sshd: ALL\nALL: 192.0.2. 127.0.0.2\n");
        let daemon = start(net, &[QUIET, &echo("")].concat(), &[ECHO]);
        assert!(ask(FLOODER, ECHO).is_none());
        is_unharmed(&daemon, ECHO, ECHO, 0);
    });
}

#[test]
fn a_flood_from_an_address_that_a_sensor_caught_stops_nobody() {
    alone(|net| {
        let sensor = service("trap", SECOND, "flags = SENSOR; deny_time = FOREVER");
        let daemon = start(net, &[QUIET, &echo(""), &sensor].concat(), &[ECHO, SECOND]);
        assert!(ask(FLOODER, ECHO).is_some());
        drop(connect(FLOODER, SECOND).expect("the trap"));
        until("a word about it", || ask(FLOODER, ECHO).is_none().then_some(()));
        is_unharmed(&daemon, ECHO, ECHO, 0);
    });
}

/// Nothing bounds the flood of one service: the others have their turns all the same.
#[test]
fn a_flood_of_one_service_leaves_the_others_their_turns() {
    alone(|net| {
        let second = service("echo", SECOND, "id = second; type = INTERNAL UNLISTED");
        let daemon = start(net, &[QUIET, &echo(""), &second].concat(), &[ECHO, SECOND]);
        is_unharmed(&daemon, ECHO, SECOND, 0);
    });
}

/// How long after a flood's end the others are served.
fn back_after(conf: &str, hold: usize) -> Duration {
    let conf = [QUIET, conf].concat();
    alone(move |net| {
        let daemon = start(net, &conf, &[ECHO]);
        let before = at_rest(&daemon);
        let flood = Flood::start(ECHO, hold);
        thread::sleep(FLOOD);
        let count = flood.end();
        let ended = Instant::now();
        until("service", || ask(OTHERS[0], ECHO));
        let took = ended.elapsed();
        println!("{count} connections, back after {took:?}");
        is_clean(&daemon, before);
        took
    })
}

#[test]
fn the_service_is_back_within_a_second_of_the_end_of_a_flood() {
    for (limits, hold) in [("cps = 50 0", 0), ("per_source = 4", 4), ("instances = 4", 4)] {
        let took = back_after(&echo(limits), hold);
        assert!(took <= Duration::from_millis(1100), "{limits}: {took:?}");
    }
}

/// However many were still waiting when the pause ended.
#[test]
fn the_service_is_back_when_the_pause_of_cps_is_over() {
    let took = back_after(&echo("cps = 20 2"), 0);
    assert!(took <= Duration::from_millis(3100), "{took:?}");
}

/// The others are served at the port as fast beside those who keep the daemon waiting as without them.
fn is_not_slowed(daemon: &Daemon, port: u16, hinder: impl Fn() -> Vec<TcpStream>) {
    let before = at_rest(daemon);
    let mut told = vec![];
    for _ in 0..ROUNDS {
        let alone = others(port, PACE, FLOOD / 2).p99();
        let hindering = hinder();
        let mut served = others(port, PACE, FLOOD / 2);
        assert_eq!(served.failed, 0, "{}", daemon.dump());
        let beside = served.p99();
        drop(hindering);
        let line = format!("p99 {alone:?} alone, {beside:?} beside them");
        println!("{line}");
        if beside < 3 * alone.max(GRAIN / 4) {
            return is_clean_in_time(daemon, before);
        }
        told.push(line);
    }
    panic!("{told:#?}");
}

/// As before, when names and users that were asked for have been given up, too.
fn is_clean_in_time(daemon: &Daemon, before: (usize, usize)) {
    let deadline = Instant::now() + 4 * PATIENCE;
    while holdings(daemon.pid()) != before {
        assert!(Instant::now() < deadline, "{before:?} {:?}\n{}", holdings(daemon.pid()), daemon.dump());
        thread::sleep(Duration::from_millis(50));
    }
    is_clean(daemon, before);
}

/// Clients of the second service, each from an address of its own.
fn crowd() -> Vec<TcpStream> {
    (20..60).map(|from| connect(from, SECOND).expect("a connection")).collect()
}

#[test]
fn clients_that_never_read_a_banner_slow_nobody() {
    alone(|net| {
        let text: Vec<u8> = (0..1 << 20).map(|n| b'a' + (n % 23) as u8).collect();
        net.write("banner", &text);
        let conf = [QUIET, &echo(""), &program(SECOND, "/bin/cat", "banner = /run/test/banner")].concat();
        let daemon = start(net, &conf, &[ECHO, SECOND]);
        assert!(daemon.log().contains("/run/test/banner is longer than a banner"), "{}", daemon.log());
        let mut reader = connect(FLOODER, SECOND).expect("a connection");
        let mut got = vec![0; 4096];
        reader.read_exact(&mut got).expect("a banner");
        assert!(got == text[..4096], "another banner");
        // And no more of it.
        round_trip(&mut reader, b"abc");
        drop(reader);
        is_not_slowed(&daemon, ECHO, crowd);
    });
}

#[test]
fn a_name_server_that_never_answers_slows_nobody() {
    alone(|net| {
        let server = UdpSocket::bind("127.0.0.53:53").expect("port 53");
        net.write("/etc/resolv.conf", "nameserver 127.0.0.53\n");
        let conf = [QUIET, &echo(""), &program(SECOND, "/bin/cat", "only_from = .example.org")].concat();
        let daemon = start(net, &conf, &[ECHO, SECOND]);
        is_not_slowed(&daemon, ECHO, crowd);
        server.set_nonblocking(true).expect("flag");
        assert!(server.recv(&mut [0; 512]).is_ok(), "nobody asked");
    });
}

#[test]
fn an_identd_that_trickles_slows_nobody() {
    alone(|net| {
        let idents = IdentServer::start(|ports, mut stream| {
            step_back();
            // Until it is given up, at the latest with the daemon's end.
            for byte in format!("{ports} : USERID : UNIX : {}", "j".repeat(1000)).bytes() {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        net.write("/etc/hosts.allow", "cat: joe@ALL\n");
        net.write("/etc/hosts.deny", "cat: ALL\n");
        let conf = [QUIET, &echo(""), &program(SECOND, "/bin/cat", "")].concat();
        let daemon = start(net, &conf, &[ECHO, SECOND]);
        is_not_slowed(&daemon, ECHO, crowd);
        assert!(!idents.asked().is_empty(), "nobody asked");
    });
}
