//! How long clients and servers may stay (`timeout`, `idle_timeout`), and servers that are there before anybody comes
//! (`keep`).

use crate::harness::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const LOGS: &str = "log_on_success = HOST PID EXIT DURATION";

fn echo(port: u16, lines: &str) -> String {
    service("echo", port, &format!("type = INTERNAL UNLISTED; {LOGS}; {lines}"))
}

fn start<'n>(net: &'n Net, conf: &str, ports: &[&str]) -> Daemon<'n> {
    net.script("copies", COPIES);
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(conf)).ready(ports)
}

/// The only server there is.
fn server(daemon: &Daemon<'_>) -> i32 {
    until("one server", || match children(daemon.pid())[..] {
        [pid] => Some(pid),
        _ => None,
    })
}

/// A regression: clients of echo that said nothing were there for ever.
#[test]
fn an_idle_client_is_closed_and_a_busy_one_is_not() {
    in_net(|net| {
        let daemon = start(net, &echo(9901, "idle_timeout = 1"), &["tcp/9901"]);
        let mut idle = tcp("127.0.0.1:9901");
        let mut busy = tcp("127.0.0.2:9901");
        let begin = Instant::now();
        for _ in 0..20 {
            round_trip(&mut busy, b"x");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(begin.elapsed() >= Duration::from_secs(2));
        round_trip(&mut busy, b"still here");
        assert_eq!(read_to_end(&mut idle), b"");
        daemon.wait_log("TIMEOUT: echo idle_timeout pid=0 from=127.0.0.1");
        assert_eq!(daemon.log().matches("TIMEOUT").count(), 1);
        assert_eq!(read_to_end(&mut busy), b"");
        is_idle(daemon.pid());
    });
}

#[test]
fn a_redirected_client_has_its_time() {
    in_net(|net| {
        let host = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = host.local_addr().expect("an address").port();
        let lines = format!("redirect = 127.0.0.1 {port}; idle_timeout = 1; {LOGS}");
        let daemon = start(net, &service("led", 9901, &lines), &["tcp/9901"]);
        let mut client = tcp("127.0.0.1:9901");
        let (mut far, _) = host.accept().expect("a connection");
        far.write_all(b"hello").expect("send");
        assert_eq!(read_n(&mut client, 5), b"hello");
        assert_eq!(read_to_end(&mut client), b"");
        assert_eq!(far.read(&mut [0; 8]).expect("an end"), 0);
        daemon.wait_log("TIMEOUT: led idle_timeout pid=0 from=127.0.0.1");
    });
}

#[test]
fn a_server_that_stays_too_long_is_ended() {
    in_net(|net| {
        // One that ends when it is told to, and one that does not.
        net.script("stubborn", "#!/bin/sh\ntrap '' TERM\necho here\nwhile :; do sleep 1; done\n");
        let of = |name: &str, port| {
            service(name, port, &format!("server = /run/test/{name}; timeout = 1; {LOGS}"))
        };
        let conf = of("copies", 9901) + &of("stubborn", 9902);
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        let mut told = tcp("127.0.0.1:9901");
        let mut killed = tcp("127.0.0.1:9902");
        round_trip(&mut told, b"hello");
        assert_eq!(read_n(&mut killed, 5), b"here\n");
        assert_eq!(read_to_end(&mut told), b"");
        daemon.wait_log("EXIT: copies signal=15");
        assert_eq!(read_to_end(&mut killed), b"");
        daemon.wait_log("EXIT: stubborn signal=9");
        let log = daemon.log();
        let line = |name| log.lines().find(|l| l.contains(&format!("TIMEOUT: {name} timeout"))).is_some();
        assert!(line("copies") && line("stubborn"), "{log}");
        is_idle(daemon.pid());
    });
}

fn datagrams(lines: &str) -> String {
    let all = format!("socket_type = dgram; wait = yes; server = /run/test/udpstays; {LOGS}; {lines}");
    service("datagrams", 9901, &all)
}

#[test]
fn a_kept_server_is_there_before_anybody_comes_and_again_when_it_has_ended() {
    in_net(|net| {
        let mut daemon = start(net, &datagrams("keep = yes"), &["udp/9901"]);
        let first = server(&daemon);
        assert_eq!(ask_udp("127.0.0.1:9901", b"x"), b"x");
        // Long enough not to be one that ends at once.
        std::thread::sleep(Duration::from_millis(1000));
        assert_eq!(server(&daemon), first);
        // SAFETY: a child of the daemon, which is there.
        unsafe { libc::kill(first, libc::SIGKILL) };
        daemon.wait_log_times("START: datagrams", 2);
        assert_ne!(server(&daemon), first);
        assert_eq!(ask_udp("127.0.0.1:9901", b"y"), b"y");
        // A reload keeps it, one without `keep` does not start it again.
        let second = server(&daemon);
        daemon.reload(&datagrams("keep = yes; umask = 077"));
        daemon.wait_log("Reconfigured");
        assert_eq!(server(&daemon), second);
        daemon.reload(&datagrams(""));
        daemon.wait_log_times("Reconfigured", 2);
        assert_eq!(server(&daemon), second);
        // SAFETY: as above.
        unsafe { libc::kill(second, libc::SIGKILL) };
        daemon.wait_log_times("EXIT: datagrams signal=9", 2);
        until("nobody", || children(daemon.pid()).is_empty().then_some(()));
        daemon.reload(&datagrams("keep = yes"));
        daemon.wait_log_times("Reconfigured", 3);
        let third = server(&daemon);
        daemon.signal(libc::SIGTERM);
        assert!(daemon.wait_exit().success());
        until("nothing left", || (!std::path::Path::new(&format!("/proc/{third}")).exists()).then_some(()));
    });
}

/// Not in a loop, and its clients are not lost.
#[test]
fn a_kept_server_that_cannot_start_is_tried_ever_more_slowly() {
    in_net(|net| {
        net.script("fails", "#!/bin/sh\nexit 3\n");
        let lines = format!("wait = yes; server = /run/test/fails; keep = yes; {LOGS}");
        let daemon = start(net, &service("kept", 9901, &lines), &["tcp/9901"]);
        daemon.wait_log("kept: server ends without taking what waits for it; next start in 0.8 seconds");
        assert!(daemon.log().matches("START").count() < 8, "{}", daemon.log());
        let mut client = tcp("127.0.0.1:9901");
        net.script("fails", "#!/bin/sh\nexec /run/test/acceptecho\n");
        round_trip(&mut client, b"at last");
    });
}

/// Whoever asks while it is there, while it ends or after it has ended is answered. A quick server has taken what came before
/// the daemon could see that it waits: the kernel's stamp tells all the same.
#[test]
fn a_wait_server_ends_when_nobody_comes_and_nobody_notices() {
    in_net(|net| {
        let daemon = start(net, &datagrams("idle_timeout = 1"), &["udp/9901"]);
        let first = ask_udp("127.0.0.1:9901", b"one");
        assert_eq!(first, b"one");
        let pid = server(&daemon);
        // It stays as long as somebody comes: five clients in each second, which is the pace and not a wait for anything.
        for _ in 0..15 {
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(ask_udp("127.0.0.1:9901", b"more"), b"more");
        }
        assert_eq!(children(daemon.pid()), [pid]);
        for round in 1..=3 {
            daemon.wait_log_times("TIMEOUT: datagrams idle_timeout", round);
            daemon.wait_log_times("EXIT: datagrams signal=15", round);
            assert_eq!(ask_udp("127.0.0.1:9901", b"again"), b"again");
        }
        assert_eq!(daemon.log().matches("START").count(), 4);
    });
}
