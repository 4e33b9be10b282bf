//! Servers that are started ahead (`standby`): who is served by them, what becomes of them, and that nothing is lost.

use crate::harness::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LOGS: &str = "log_on_success = HOST PID EXIT DURATION TRAFFIC; log_on_failure = HOST";

fn web(lines: &str) -> String {
    NO_BRAKE.to_owned() + &service("web", 9901, &format!("server = /run/test/copies; {LOGS}; {lines}"))
}

fn start<'n>(net: &'n Net, conf: &str) -> Daemon<'n> {
    net.script("copies", COPIES);
    net.script("greets", "#!/bin/sh\necho hello\nexec cat\n");
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(conf)).ready(&["tcp/9901"])
}

/// So many children, and none more.
fn servers(daemon: &Daemon<'_>, count: usize) -> Vec<i32> {
    until(&format!("{count} servers"), || Some(children(daemon.pid())).filter(|all| all.len() == count))
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory of ours is involved; at worst the process has ended.
    unsafe { libc::kill(pid, signal) };
}

#[test]
fn a_client_meets_a_server_that_was_there_before() {
    in_net(|net| {
        let daemon = start(net, &web("standby = 2").replace("copies", "greets"));
        let before = servers(&daemon, 2);
        let mut client = tcp("127.0.0.1:9901");
        assert_eq!(read_n(&mut client, 6), b"hello\n");
        // Another has taken its post, and it is still the same server.
        let after = servers(&daemon, 3);
        assert!(before.iter().all(|pid| after.contains(pid)), "{before:?} {after:?}");
        round_trip(&mut client, b"still there");
        client.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(read_to_end(&mut client), b"");
        daemon.wait_log("EXIT: web status=0");
        daemon.wait_log("TRAFFIC: web in=11(bytes) out=17(bytes)");
        let log = daemon.log();
        assert_eq!(log.matches("START").count(), 1, "{log}");
        assert!(
            before.iter().any(|pid| log.contains(&format!("START: web pid={pid} from=127.0.0.1"))),
            "{log}"
        );
        servers(&daemon, 2);
        let dump = daemon.dump();
        assert!(dump.contains("standby = 2") && dump.contains("Standby servers:"), "{dump}");
        is_idle(daemon.pid());
    });
}

/// It has no client yet, and may not be told who he is.
#[test]
fn what_a_standby_server_finds() {
    in_net(|net| {
        let daemon = start(net, &web("standby = 1; user = nobody; env = A=1").replace("copies", "probe"));
        let said = listen_to("127.0.0.1:9901");
        for line in [
            "socket unix stream plain",
            "env A=1",
            "uid 65534 65534 65534",
            "fd 0 socket",
            "fd 1 same as 0",
            "fd 2 same as 0",
            "blocking true",
            "session leader",
        ] {
            assert!(said.lines().any(|l| l == line), "{line} is missing in\n{said}");
        }
        assert!(!said.contains("REMOTE_HOST") && !said.contains("fd 3"), "{said}");
        drop(daemon);
    });
}

#[test]
fn a_server_is_told_who_its_client_is() {
    in_net(|net| {
        let v2 = service("two", 9902, &format!("server = /run/test/copies; {LOGS}; standby = 1; proxy = v2"));
        let daemon = start(net, &(web("standby = 1; proxy = v1") + &v2)).ready(&["tcp/9902"]);
        let mut client = tcp_from("127.0.0.5:0", "127.0.0.1:9901");
        let port = client.local_addr().expect("an address").port();
        client.write_all(b"hello").expect("send");
        client.shutdown(Shutdown::Write).expect("shut down");
        let wanted = format!("PROXY TCP4 127.0.0.5 127.0.0.1 {port} 9901\r\nhello");
        assert_eq!(text(&read_to_end(&mut client)), wanted);
        let mut client = tcp_from("127.0.0.5:0", "127.0.0.1:9902");
        let port = client.local_addr().expect("an address").port();
        client.shutdown(Shutdown::Write).expect("shut down");
        let mut wanted = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x05\x7f\0\0\x01".to_vec();
        wanted.extend(port.to_be_bytes());
        wanted.extend(9902u16.to_be_bytes());
        assert_eq!(read_to_end(&mut client), wanted);
        drop(daemon);
    });
}

#[test]
fn a_host_is_told_who_its_client_is() {
    in_net(|net| {
        let host = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = host.local_addr().expect("an address").port();
        let conf = service("web", 9901, &format!("redirect = 127.0.0.1 {to}; proxy = v1; {LOGS}"));
        let _daemon = start(net, &conf);
        let mut client = tcp_from("127.0.0.5:0", "127.0.0.1:9901");
        let port = client.local_addr().expect("an address").port();
        client.write_all(b"hello").expect("send");
        client.shutdown(Shutdown::Write).expect("shut down");
        let (mut far, _) = host.accept().expect("a connection");
        let wanted = format!("PROXY TCP4 127.0.0.5 127.0.0.1 {port} 9901\r\nhello");
        assert_eq!(text(&read_to_end(&mut far)), wanted);
    });
}

/// Also of those that were started for a client because nobody waited: their service's listener was not at its place then,
/// and what they said was lost.
#[test]
fn what_servers_complain_of_is_logged() {
    in_net(|net| {
        net.script("complains", "#!/bin/sh\necho whoops >&2\nexec cat\n");
        let daemon = start(net, &web("standby = 1; stderr = log").replace("copies", "complains"));
        servers(&daemon, 1);
        let clients: Vec<TcpStream> = (0..5).map(|_| tcp("127.0.0.1:9901")).collect();
        servers(&daemon, 6);
        daemon.wait_log_times("web[stderr]: whoops", 6);
        drop(clients);
    });
}

/// A slow reader of much holds up his server, not the daemon; and a half-closed question is answered.
#[test]
fn flow_control_goes_through() {
    in_net(|net| {
        net.script("pours", "#!/bin/sh\ncat >/dev/null\nhead -c 20000000 /dev/zero\n");
        let daemon = start(net, &web("standby = 1").replace("copies", "pours"));
        let mut client = tcp("127.0.0.1:9901");
        client.write_all(&vec![b'x'; 300_000]).expect("send");
        client.shutdown(Shutdown::Write).expect("shut down");
        std::thread::sleep(Duration::from_millis(300));
        let mut other = tcp("127.0.0.2:9901");
        other.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(read_to_end(&mut other).len(), 20_000_000);
        let memory = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("status");
        let rss = memory.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS").trim().to_owned();
        let kb: u64 = rss.trim_end_matches(" kB").parse().expect("a number");
        assert!(kb < 2000, "the daemon holds {kb} kB");
        assert_eq!(read_to_end(&mut client).len(), 20_000_000);
        daemon.wait_log_times("TRAFFIC: web in=300000(bytes) out=20000000(bytes)", 1);
        daemon.wait_log_times("TRAFFIC: web in=0(bytes) out=20000000(bytes)", 1);
    });
}

#[test]
fn a_reload_replaces_who_waits_and_term_ends_all() {
    in_net(|net| {
        let mut daemon = start(net, &web("standby = 3"));
        let before = servers(&daemon, 3);
        let mut client = tcp("127.0.0.1:9901");
        round_trip(&mut client, b"hello");
        servers(&daemon, 4);
        daemon.reload(&web("standby = 2"));
        daemon.wait_log("Reconfigured");
        round_trip(&mut client, b"still there");
        let after = servers(&daemon, 3);
        assert_eq!(before.iter().filter(|pid| after.contains(pid)).count(), 1, "{before:?} {after:?}");
        daemon.signal(libc::SIGTERM);
        assert!(daemon.wait_exit().success());
        assert_eq!(read_to_end(&mut client), b"");
        for pid in after {
            until("an end", || (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
        }
    });
}

#[test]
fn a_program_that_does_not_stay_is_not_started_in_a_loop() {
    in_net(|net| {
        net.script("fails", "#!/bin/sh\nexit 3\n");
        let daemon = start(net, &web("standby = 2").replace("copies", "fails"));
        daemon.wait_log("ended before anybody came (status=3); next one in 2 seconds");
        let log = daemon.log();
        assert!(log.matches("ended before anybody came").count() <= 4, "{log}");
        assert_eq!(listen_to("127.0.0.1:9901"), "");
        daemon.wait_log("EXIT: web status=3");
    });
}

/// One session: what is sent comes back, then the end. What came of it: bytes sent, bytes that came back, whether it was
/// whole. Some half-close before they read, some read before they half-close, some leave in the middle.
fn session(number: usize, tally: &Tally) {
    let mut stream = tcp("127.0.0.1:9901");
    let sent: Vec<u8> = (0..1 + number * 37 % 3000).map(|n| (number + n) as u8).collect();
    let is_killed = |e: &std::io::Error| {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        matches!(e.kind(), ConnectionReset | BrokenPipe)
    };
    if let Err(e) = stream.write_all(&sent) {
        assert!(is_killed(&e), "{e}");
    }
    if number % 10 == 3 {
        tally.left.fetch_add(1, Ordering::Relaxed);
        return;
    }
    if number.is_multiple_of(2) {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut back = vec![];
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => back.extend_from_slice(&buffer[..n]),
            Err(e) => {
                assert!(is_killed(&e), "session {number}: {e}");
                break;
            }
        }
        if number % 2 == 1 && back.len() >= sent.len() {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    // Nothing that was not sent, nothing twice, nothing out of order.
    assert!(sent.starts_with(&back), "session {number}: {} of {} bytes", back.len(), sent.len());
    let whole = back.len() == sent.len();
    if whole { &tally.whole } else { &tally.cut }.fetch_add(1, Ordering::Relaxed);
    tally.back.fetch_add(back.len(), Ordering::Relaxed);
}

#[derive(Default)]
struct Tally {
    whole: AtomicUsize,
    cut: AtomicUsize,
    left: AtomicUsize,
    back: AtomicUsize,
}

/// The sum of that number over all TRAFFIC lines.
fn traffic(log: &str, which: &str) -> usize {
    let numbers = log
        .lines()
        .filter(|l| l.contains("TRAFFIC: web"))
        .filter_map(|l| l.split(which).nth(1)?.split("(bytes)").next()?.parse::<usize>().ok());
    numbers.sum()
}

/// 10,000 sessions by 8 clients at a time, while standby servers and servers are killed at random, and the configuration
/// is read again and again. Whoever was not cut by a kill got every byte; the daemon's sums are those of the clients; and
/// no process and no descriptor is left.
#[test]
fn ten_thousand_sessions_lose_nothing() {
    const SESSIONS: usize = 10_000;
    in_net(|net| {
        let conf = |n: usize| {
            let lines = format!("server = /run/test/sessionecho; {LOGS}; standby = {n}");
            NO_BRAKE.to_owned() + &service("web", 9901, &lines)
        };
        let daemon = start(net, &conf(8));
        servers(&daemon, 8);
        let before = descriptors(daemon.pid());
        let tally = Tally::default();
        let next = AtomicUsize::new(0);
        let kills = AtomicUsize::new(0);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= SESSIONS {
                            return;
                        }
                        session(number, &tally);
                    }
                });
            }
            let mut dice = 4711u64;
            let mut reloads = 0;
            while next.load(Ordering::Relaxed) < SESSIONS {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let all = children(daemon.pid());
                if !all.is_empty() {
                    kill(all[(dice >> 33) as usize % all.len()], libc::SIGKILL);
                    kills.fetch_add(1, Ordering::Relaxed);
                }
                if dice >> 60 == 0 {
                    reloads += 1;
                    daemon.reload(&conf(4 + reloads % 8));
                    daemon.wait_log_times("Reconfigured", reloads);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let took = begin.elapsed();
        let [whole, cut, left, back] =
            [&tally.whole, &tally.cut, &tally.left, &tally.back].map(|n| n.load(Ordering::Relaxed));
        println!("{whole} whole, {cut} cut by {kills:?} kills, {left} left early, in {took:?}");
        assert_eq!(whole + cut + left, SESSIONS);
        assert!(cut <= kills.load(Ordering::Relaxed), "{cut} sessions were cut by {kills:?} kills");
        daemon.reload(&conf(8));
        until("all sessions are over", || {
            let log = daemon.log();
            let ends = log.matches("EXIT: web").count();
            let sums = log.matches("TRAFFIC: web").count();
            (log.matches("START: web").count() == SESSIONS && ends == SESSIONS && sums == SESSIONS)
                .then_some(())
        });
        let log = daemon.log();
        // Those who left early were sent something too.
        let (came, went) = (traffic(&log, " in="), traffic(&log, " out="));
        assert!(went >= back && went <= came, "{back} bytes came back of {went} of {came}");
        servers(&daemon, 8);
        assert_eq!(descriptors(daemon.pid()), before);
        is_idle(daemon.pid());
    });
}

/// A client who is gone is not served: nobody is left to read what he sent, and no server stays.
#[test]
fn who_leaves_at_once_leaves_nothing() {
    in_net(|net| {
        let daemon = start(net, &web("standby = 2"));
        servers(&daemon, 2);
        let before = descriptors(daemon.pid());
        for _ in 0..200 {
            drop(TcpStream::connect("127.0.0.1:9901").expect("connect"));
        }
        daemon.wait_log_times("EXIT: web", 200);
        servers(&daemon, 2);
        assert_eq!(descriptors(daemon.pid()), before);
    });
}
