//! Clients that are led on: by `redirect` to another host, by tcpmux to the service they name.

use crate::harness::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

fn start<'n>(net: &'n Net, conf: &str, ports: &[&str]) -> Daemon<'n> {
    net.script("copies", COPIES);
    net.script("hello", HELLO);
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(conf)).ready(ports)
}

// ---- redirect ----

/// A service on port 9901 that is led on.
fn redirected(to: &str, lines: &str) -> String {
    let log = "log_on_success = HOST PID EXIT DURATION TRAFFIC; log_on_failure = HOST";
    service("led", 9901, &format!("redirect = {to}; {log}; {lines}"))
}

/// A host to be led to, that does this with each of its clients.
fn host(at: &str, serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> u16 {
    let listener = TcpListener::bind(at).unwrap_or_else(|e| panic!("bind {at}: {e}"));
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
            stream.set_write_timeout(Some(PATIENCE)).expect("time-out");
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// xinetd closed both ways as soon as one had ended: such a client got no answer.
#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    in_net(|net| {
        let port = host("127.0.0.1:0", |mut stream| {
            let all = read_to_end(&mut stream);
            let _ = stream.write_all(format!("you said {}", text(&all)).as_bytes());
        });
        let daemon = start(net, &redirected(&format!("127.0.0.1 {port}"), ""), &["tcp/9901"]);
        assert_eq!(text(&ask_tcp("127.0.0.1:9901", b"all of this")), "you said all of this");
        daemon.wait_log("TRAFFIC: led in=11(bytes) out=20(bytes)");
        daemon.wait_log("EXIT: led status=0");
        daemon.wait_log("START: led pid=0 from=127.0.0.1");
    });
}

#[test]
fn a_host_that_has_said_all_still_hears_the_client() {
    in_net(|net| {
        let (tell, told) = std::sync::mpsc::channel();
        let port = host("127.0.0.1:0", move |mut stream| {
            let _ = stream.write_all(b"that is all");
            stream.shutdown(Shutdown::Write).expect("shut down");
            let _ = tell.send(text(&read_to_end(&mut stream)));
        });
        let daemon = start(net, &redirected(&format!("127.0.0.1 {port}"), ""), &["tcp/9901"]);
        let mut client = tcp("127.0.0.1:9901");
        assert_eq!(text(&read_to_end(&mut client)), "that is all");
        for part in ["I ", "go ", "on"] {
            client.write_all(part.as_bytes()).expect("send");
        }
        drop(client);
        assert_eq!(told.recv_timeout(PATIENCE).as_deref(), Ok("I go on"));
        daemon.wait_log("TRAFFIC: led in=7(bytes) out=11(bytes)");
    });
}

#[test]
fn an_ipv4_client_is_led_to_an_ipv6_host_and_back() {
    in_net(|net| {
        let port = host("[::1]:0", |mut stream| {
            let peer = stream.peer_addr().expect("peer").ip();
            let _ = stream.write_all(peer.to_string().as_bytes());
        });
        let back = host("127.0.0.1:0", |mut stream| {
            let _ = stream.write_all(b"over IPv4");
        });
        let conf = redirected(&format!("::1 {port}"), "")
            + &service("six", 9902, &format!("flags = IPv6; redirect = 127.0.0.1 {back}"));
        let _daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        assert_eq!(listen_to("127.0.0.1:9901"), "::1");
        assert_eq!(listen_to("[::1]:9902"), "over IPv4");
    });
}

#[test]
fn a_host_that_is_not_there_ends_its_client_and_is_told() {
    in_net(|net| {
        let daemon = start(net, &redirected("127.0.0.1 9", ""), &["tcp/9901"]);
        assert_eq!(fate(tcp("127.0.0.1:9901")), "\"\" end");
        daemon.wait_log("led: can't connect to remote host 127.0.0.1:9: Connection refused");
        daemon.wait_log("TRAFFIC: led in=0(bytes) out=0(bytes)");
        // The next one is tried again.
        let _host = TcpListener::bind("127.0.0.1:9").expect("bind");
        let client = tcp("127.0.0.1:9901");
        assert_eq!(text(&listen_a_while(&client)), "");
        daemon.wait_log("START: led");
        let log = daemon.log();
        assert_eq!(log.matches("can't connect").count(), 1, "{log}");
    });
}

/// The client breaks off while the other host has not answered yet: nothing of it stays.
#[test]
fn a_client_that_breaks_off_before_the_host_answers_leaves_nothing() {
    in_net(|net| {
        // A full backlog does not answer: two connections fill one of length 1.
        let full = TcpListener::bind("127.0.0.1:0").expect("bind");
        // SAFETY: a descriptor of ours.
        unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&full), 0) };
        let to = full.local_addr().expect("an address");
        let _fill: Vec<_> =
            (0..3).map(|_| TcpStream::connect_timeout(&to, Duration::from_millis(200))).collect();
        let conf = redirected(&format!("127.0.0.1 {}", to.port()), "");
        let daemon = start(net, &conf, &["tcp/9901"]);
        let before = descriptors(daemon.pid());
        let client = tcp("127.0.0.1:9901");
        until("two connections", || (descriptors(daemon.pid()) == before + 2).then_some(()));
        reset(client);
        until("none", || (descriptors(daemon.pid()) == before).then_some(()));
        daemon.wait_log("EXIT: led");
    });
}

#[test]
fn much_goes_both_ways_at_once_and_nothing_is_lost() {
    const MUCH: usize = 20 << 20;
    in_net(|net| {
        let exchange = |mut stream: TcpStream, own: u64, other: u64| {
            let mut reader = stream.try_clone().expect("clone a socket");
            let read = thread::spawn(move || {
                let mut all = Vec::with_capacity(MUCH);
                reader.read_to_end(&mut all).map(|_| all)
            });
            stream.write_all(&noise(own, MUCH)).expect("send");
            stream.shutdown(Shutdown::Write).expect("shut down");
            read.join().expect("reader").expect("read") == noise(other, MUCH)
        };
        let (tell, told) = std::sync::mpsc::channel();
        let port = host("127.0.0.1:0", move |stream| {
            let _ = tell.send(exchange(stream, 1, 2));
        });
        let daemon = start(net, &redirected(&format!("127.0.0.1 {port}"), ""), &["tcp/9901"]);
        assert!(exchange(tcp("127.0.0.1:9901"), 2, 1), "what the host sent is another");
        assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "what the client sent is another");
        daemon.wait_log(&format!("TRAFFIC: led in={MUCH}(bytes) out={MUCH}(bytes)"));
    });
}

/// A host that does not read holds up its client and nobody else, and what it does not take is not piled up.
#[test]
fn a_host_that_does_not_read_stops_its_client() {
    in_net(|net| {
        let (let_go, go) = std::sync::mpsc::channel::<()>();
        let go = std::sync::Arc::new(std::sync::Mutex::new(go));
        let port = host("127.0.0.1:0", move |mut stream| {
            let _ = go.lock().expect("lock").recv_timeout(PATIENCE);
            let all = read_to_end(&mut stream);
            let _ = stream.write_all(all.len().to_string().as_bytes());
        });
        let conf = redirected(&format!("127.0.0.1 {port}"), "")
            + &service("copies", 9902, "server = /run/test/copies");
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        let mut client = tcp("127.0.0.1:9901");
        client.set_write_timeout(Some(Duration::from_millis(300))).expect("time-out");
        let mut sent = 0;
        while let Ok(n) = client.write(&[b'x'; 65536]) {
            sent += n;
            assert!(sent < 100 << 20, "somebody takes everything");
        }
        round_trip(&mut tcp("127.0.0.1:9902"), b"others\n");
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("status");
        let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
        let rss: usize = rss.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(rss < 4096, "{rss} kB");
        let_go.send(()).expect("go");
        client.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(text(&read_to_end(&mut client)), sent.to_string());
    });
}

/// One way is over, and nobody says anything on the other: nothing is done for it.
#[test]
fn half_closed_relays_cost_nothing() {
    in_net(|net| {
        let port = host("127.0.0.1:0", |mut stream| {
            let mut word = [0; 1];
            let _ = stream.read_exact(&mut word);
            if word == *b"h" {
                let _ = stream.shutdown(Shutdown::Write);
            }
            thread::sleep(PATIENCE);
        });
        let daemon = start(net, &redirected(&format!("127.0.0.1 {port}"), ""), &["tcp/9901"]);
        let mut host_is_done = tcp("127.0.0.1:9901");
        host_is_done.write_all(b"h").expect("send");
        assert_eq!(read_to_end(&mut host_is_done), b"");
        let mut client_is_done = tcp("127.0.0.1:9901");
        client_is_done.write_all(b"c").expect("send");
        client_is_done.shutdown(Shutdown::Write).expect("shut down");
        let mut is_full = tcp("127.0.0.1:9901");
        is_full.set_write_timeout(Some(Duration::from_millis(200))).expect("time-out");
        is_full.write_all(b"f").expect("send");
        while is_full.write(&[b'x'; 65536]).is_ok() {}
        is_idle(daemon.pid());
    });
}

/// A host by a name that name servers know, looked up for each client; and one that nobody knows.
#[test]
fn a_host_by_name_is_looked_up() {
    in_net(|net| {
        let port = host("127.0.0.5:0", |mut stream| {
            let _ = stream.write_all(b"here");
        });
        let _names = NameServer::start(net, &["A far.example.org 127.0.0.5"]);
        let conf = redirected(&format!("far.example.org {port}"), "")
            + &service("lost", 9902, "redirect = gone.example.org 7");
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        assert_eq!(listen_to("127.0.0.1:9901"), "here");
        assert_eq!(listen_to("127.0.0.1:9902"), "");
        daemon.wait_log(
            "lost: can't connect to remote host gone.example.org: no address of that name is found",
        );
    });
}

#[test]
fn instances_count_who_is_led_on() {
    in_net(|net| {
        let port = host("127.0.0.1:0", |mut stream| {
            let _ = stream.write_all(b"in\n");
            let _ = read_to_end(&mut stream);
        });
        let conf = redirected(&format!("127.0.0.1 {port}"), "instances = 2");
        let daemon = start(net, &conf, &["tcp/9901"]);
        let mut in_it = [tcp("127.0.0.1:9901"), tcp("127.0.0.1:9901")];
        for client in &mut in_it {
            assert_eq!(read_n(client, 3), b"in\n");
        }
        assert_eq!(listen_to("127.0.0.1:9901"), "");
        daemon.wait_log("FAIL: led service_limit from=127.0.0.1");
        drop(in_it);
        until("a place", || {
            let mut client = tcp("127.0.0.1:9901");
            client.shutdown(Shutdown::Write).expect("shut down");
            (read_to_end(&mut client) == b"in\n").then_some(())
        });
    });
}

// ---- tcpmux ----

/// tcpmux on port 9901, `probe` (TCPMUX) and `plus` (TCPMUXPLUS) behind it.
fn muxed(more: &str) -> String {
    let log = "log_on_success = HOST PID; log_on_failure = HOST";
    let mux = service("tcpmux", 9901, &format!("type = INTERNAL UNLISTED; {log}"));
    let behind = |name: &str, kind: &str, lines: &str| {
        let lines = format!("type = {kind}; server = /run/test/copies; {log}; {lines}");
        service(name, 0, &lines)
    };
    mux + &behind("own", "TCPMUX", "")
        + &behind("plus", "TCPMUXPLUS", "")
        + &behind("ruled", "TCPMUXPLUS", more)
}

const MUX: &str = "127.0.0.1:9901";

fn mux(question: &str) -> String {
    text(&ask_tcp(MUX, question.as_bytes()))
}

#[test]
fn tcpmux_leads_to_the_service_that_is_named() {
    in_net(|net| {
        let daemon = start(net, &muxed(""), &["tcp/9901"]);
        // What comes with the name is the program's.
        assert_eq!(mux("plus\r\nand this"), "+Go\r\nand this");
        assert_eq!(mux("own\r\nand this"), "and this");
        assert_eq!(mux("PLUS\nany case, and no CR\r\n"), "+Go\r\nany case, and no CR\r\n");
        assert_eq!(mux("nobody\r\n"), "-Service name not found\r\n");
        assert_eq!(mux("\r\n"), "-Service name not found\r\n");
        assert_eq!(mux("plus"), "-Error reading service name\r\n");
        assert_eq!(mux(""), "-Error reading service name\r\n");
        assert_eq!(mux(&"x".repeat(1000)), "-Error reading service name\r\n");
        let help = mux("HELP\r\n");
        assert_eq!(help.lines().collect::<Vec<_>>(), ["own", "plus", "ruled"], "{help:?}");
        daemon.wait_log("START: plus pid=");
    });
}

#[test]
fn a_name_may_come_byte_by_byte() {
    in_net(|net| {
        let _daemon = start(net, &muxed(""), &["tcp/9901"]);
        let mut client = tcp(MUX);
        client.set_nodelay(true).expect("nodelay");
        for byte in b"plus\r" {
            client.write_all(&[*byte]).expect("send");
            assert_eq!(text(&listen_for(&client, 20)), "");
        }
        client.write_all(b"\nfirst ").expect("send");
        assert_eq!(text(&read_n(&mut client, 11)), "+Go\r\nfirst ");
        round_trip(&mut client, b"second");
    });
}

/// Whatever comes within so many milliseconds.
fn listen_for(stream: &TcpStream, ms: u64) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_millis(ms))).expect("time-out");
    let all = net::drain(stream);
    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    all
}

#[test]
fn rules_and_limits_behind_tcpmux_are_those_of_the_service() {
    in_net(|net| {
        let daemon = start(net, &muxed("only_from = 127.0.0.9; instances = 1"), &["tcp/9901"]);
        assert_eq!(mux("ruled\r\n"), "-Service not available\r\n");
        daemon.wait_log("FAIL: ruled address from=127.0.0.1");
        let mut first = tcp_from("127.0.0.9:0", MUX);
        first.write_all(b"ruled\r\n").expect("send");
        assert_eq!(read_n(&mut first, 5), b"+Go\r\n");
        let mut second = tcp_from("127.0.0.9:0", MUX);
        second.write_all(b"ruled\r\n").expect("send");
        assert_eq!(text(&read_to_end(&mut second)), "-Service not available\r\n");
        daemon.wait_log("FAIL: ruled service_limit from=127.0.0.9");
        round_trip(&mut first, b"still here");
        // Others are not touched.
        assert_eq!(mux("plus\r\nx"), "+Go\r\nx");
    });
}

#[test]
fn hosts_deny_knows_services_behind_tcpmux() {
    in_net(|net| {
        net.write("/etc/hosts.deny", "ruledaemon: ALL\n");
        let daemon = start(net, &muxed("libwrap = ruledaemon"), &["tcp/9901"]);
        assert_eq!(mux("ruled\r\n"), "-Service not available\r\n");
        daemon.wait_log("libwrap refused connection to ruled (libwrap=ruledaemon) from 127.0.0.1");
        assert_eq!(mux("plus\r\nx"), "+Go\r\nx");
    });
}

/// The command takes the place of the service, and the client has its line and its bytes all the same.
#[test]
fn a_command_takes_the_place_of_a_service_behind_tcpmux() {
    in_net(|net| {
        net.write("/etc/hosts.allow", "ruledaemon: ALL: setenv WHO %a: twist echo $WHO; exec cat\n");
        let daemon = start(net, &muxed("libwrap = ruledaemon"), &["tcp/9901"]);
        assert_eq!(mux("ruled\r\nand this"), "+Go\r\n127.0.0.1\nand this", "{}", daemon.log());
    });
}

#[test]
fn a_client_of_tcpmux_that_keeps_silent_is_closed_after_ten_seconds() {
    in_net(|net| {
        let _daemon = start(net, &muxed(""), &["tcp/9901"]);
        let begin = Instant::now();
        let mut silent = tcp(MUX);
        let mut slow = tcp(MUX);
        for stream in [&silent, &slow] {
            stream.set_read_timeout(Some(Duration::from_secs(15))).expect("time-out");
        }
        slow.write_all(b"plu").expect("send");
        assert_eq!(mux("plus\r\nothers"), "+Go\r\nothers");
        assert_eq!(read_to_end(&mut silent), b"");
        assert_eq!(read_to_end(&mut slow), b"");
        let took = begin.elapsed();
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(13), "{took:?}");
    });
}

/// Who has named his service is not closed after ten seconds, though tcpmux would.
#[test]
fn inetd_conf_has_services_behind_tcpmux() {
    in_net(|net| {
        net.script("copies", COPIES);
        let conf = "tcpmux stream tcp nowait root internal\n\
                    tcpmux/own stream tcp nowait root /run/test/copies copies\n\
                    tcpmux/+plus stream tcp nowait root /run/test/copies copies\n";
        net.append("/etc/services", "tcpmux 1/tcp\n");
        let _daemon = Daemon::start(net, Subject::Usherd, Conf::Inetd(conf)).ready(&["tcp/1"]);
        assert_eq!(text(&ask_tcp("127.0.0.1:1", b"own\r\nx")), "x");
        assert_eq!(text(&ask_tcp("127.0.0.1:1", b"plus\r\nx")), "+Go\r\nx");
        assert_eq!(text(&ask_tcp("127.0.0.1:1", b"+plus\r\nx")), "-Service name not found\r\n");
        assert_eq!(text(&ask_tcp("127.0.0.1:1", b"help\r\n")), "own\r\nplus\r\n");
    });
}

/// A reload between the name's first half and its second.
#[test]
fn a_reload_does_not_disturb_who_is_naming_his_service() {
    in_net(|net| {
        let daemon = start(net, &muxed(""), &["tcp/9901"]);
        let mut client = tcp(MUX);
        client.write_all(b"pl").expect("send");
        daemon.wait_log("START: tcpmux");
        daemon.reload(&muxed("").replace("service own", "service mine"));
        daemon.wait_log("Reconfigured");
        client.write_all(b"us\r\nx").expect("send");
        assert_eq!(read_n(&mut client, 6), b"+Go\r\nx");
        assert_eq!(mux("own\r\n"), "-Service name not found\r\n");
        assert_eq!(mux("mine\r\nx"), "x");
    });
}
