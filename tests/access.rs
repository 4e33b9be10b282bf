//! Who may come in: where the daemon itself never sees who comes (wait services, whose servers own the socket), whom a
//! sensor keeps out, who may stay after a reload, and how many.

use crate::harness::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

fn conf(more: &str, wait: &str) -> String {
    let of = |name: &str, kind: &str, server: &str, port: u16| {
        let lines = format!("socket_type = {kind}; wait = {wait}; server = /run/test/{server}; {more}");
        service(name, port, &lines)
    };
    of("datagrams", "dgram", "udpecho", 9901) + &of("streams", "stream", "acceptecho", 9902)
}

/// What a datagram from this address of ours is answered.
fn datagram_from(source: &str) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((source, 0)).expect("an address of lo");
    socket.set_read_timeout(Some(Duration::from_millis(400))).expect("a time");
    socket.send_to(b"let me in", "127.0.0.1:9901").expect("send");
    let mut buf = [0; 64];
    socket.recv(&mut buf).ok().map(|n| buf[..n].to_vec())
}

/// Whether a connection from this address is served within a moment.
fn connects_from(source: Ipv4Addr) -> bool {
    let (from, to) = (SocketAddr::from((source, 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, 9902)));
    connect_from(from, to, Duration::from_millis(400)).is_ok_and(|mut stream| {
        stream.write_all(b"?").is_ok() && stream.read(&mut [0; 8]).is_ok_and(|n| n > 0)
    })
}

/// xinetd checks the first sender of a datagram alone, and refuses every client of a wait stream service or none; the
/// server then reads from anybody. Here the rules hold for the socket, whoever reads from it, and change at a reload.
#[test]
fn wait_servers_meet_only_whom_the_rules_admit() {
    in_net(|net| {
        let rules = "only_from = 127.0.0.0/30; no_access = 127.0.0.2";
        let ports = ["udp/9901", "tcp/9902"];
        let daemon = Daemon::start(net, Subject::Usherd, Conf::Xinetd(&conf(rules, "yes"))).ready(&ports);
        // The server of the first datagram stays, and reads whatever comes after.
        assert_eq!(datagram_from("127.0.0.1").as_deref(), Some(b"let me in".as_slice()));
        assert_eq!(datagram_from("127.0.0.2"), None);
        assert_eq!(datagram_from("127.0.0.9"), None);
        assert!(connects_from(Ipv4Addr::new(127, 0, 0, 1)));
        assert!(!connects_from(Ipv4Addr::new(127, 0, 0, 2)));
        assert!(!connects_from(Ipv4Addr::new(127, 0, 0, 9)));

        net.write("conf", conf("only_from = 127.0.0.9", "yes"));
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("Reconfigured");
        assert_eq!(datagram_from("127.0.0.1"), None, "the running server is bound by the new rules");
        assert_eq!(datagram_from("127.0.0.9").as_deref(), Some(b"let me in".as_slice()));
        assert!(!connects_from(Ipv4Addr::LOCALHOST));
        assert!(connects_from(Ipv4Addr::new(127, 0, 0, 9)));
    });
}

/// A regression: the socket that a reload kept stayed non-blocking, and its wait server's first accept failed.
#[test]
fn a_kept_socket_becomes_a_wait_servers_and_back() {
    in_net(|net| {
        let nowait = conf("", "no").replace("acceptecho", "copies");
        net.script("copies", COPIES);
        let daemon = Daemon::start(net, Subject::Usherd, Conf::Xinetd(&nowait)).ready(&["tcp/9902"]);
        assert!(connects_from(Ipv4Addr::LOCALHOST));
        net.write("conf", conf("", "yes"));
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("Reconfigured");
        assert!(connects_from(Ipv4Addr::LOCALHOST), "{}", daemon.log());
        net.write("conf", nowait);
        daemon.signal(libc::SIGHUP);
        daemon.wait_log_times("Reconfigured", 2);
        assert!(connects_from(Ipv4Addr::LOCALHOST), "{}", daemon.log());
    });
}

// ---- sensors ----

const LOGS: &str = "log_on_success = HOST PID; log_on_failure = HOST";

/// Says hello and stays.
fn greeter(port: u16, lines: &str) -> String {
    let name = format!("greeter{port}");
    service(&name, port, &format!("server = /run/test/greets; {LOGS}; {lines}"))
}

fn start<'n>(net: &'n Net, conf: &str, ports: &[&str]) -> Daemon<'n> {
    net.script("greets", "#!/bin/sh\necho hello\nexec cat\n");
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(conf)).ready(ports)
}

/// A client with that address who has been greeted; or nobody, if he is refused.
fn comes(source: &str, port: u16) -> Option<TcpStream> {
    let mut stream = tcp_from(&format!("{source}:0"), &format!("127.0.0.1:{port}"));
    let mut said = [0; 6];
    let is_greeted = stream.read_exact(&mut said).is_ok();
    assert!(!is_greeted || &said == b"hello\n", "{said:?}");
    is_greeted.then_some(stream)
}

fn sensor(port: u16, deny_time: &str) -> String {
    service("trap", port, &format!("flags = SENSOR; deny_time = {deny_time}; {LOGS}"))
}

fn connect_to_trap(source: &str, port: u16) {
    let mut stream = tcp_from(&format!("{source}:0"), &format!("127.0.0.1:{port}"));
    assert_eq!(text(&read_to_end(&mut stream)), "");
}

#[test]
fn who_meets_a_sensor_is_kept_out_of_every_service() {
    in_net(|net| {
        let builtin = service("echo", 9904, &format!("type = INTERNAL UNLISTED; {LOGS}"));
        let conf = [&greeter(9901, ""), &greeter(9902, ""), &sensor(9903, "FOREVER"), &builtin]
            .map(String::as_str)
            .concat();
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902", "tcp/9903", "tcp/9904"]);
        let mut before = comes("127.0.0.5", 9901).expect("a place");
        connect_to_trap("127.0.0.5", 9903);
        daemon.wait_log("trap: adding 127.0.0.5 to the global_no_access list for ever");
        for port in [9901, 9902] {
            assert!(comes("127.0.0.5", port).is_none());
            daemon.wait_log(&format!("FAIL: greeter{port} address from=127.0.0.5"));
            assert!(comes("127.0.0.6", port).is_some());
        }
        connect_to_trap("127.0.0.5", 9904);
        daemon.wait_log("FAIL: echo address from=127.0.0.5");
        // Who was in stays.
        round_trip(&mut before, b"still here");
        // A reload forgets nobody, not even one that takes the sensor away.
        daemon.reload(&conf.replace("FOREVER", "5"));
        daemon.wait_log("Reconfigured");
        assert!(comes("127.0.0.5", 9901).is_none());
        daemon.reload(&greeter(9901, ""));
        daemon.wait_log_times("Reconfigured", 2);
        assert!(comes("127.0.0.5", 9901).is_none());
        assert!(comes("127.0.0.6", 9901).is_some());
        let dump = daemon.dump();
        assert!(dump.contains("127.0.0.5"), "{dump}");
    });
}

#[test]
fn a_sensor_says_for_how_long() {
    in_net(|net| {
        let conf = greeter(9901, "") + &sensor(9903, "7");
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9903"]);
        connect_to_trap("127.0.0.5", 9903);
        daemon.wait_log("trap: adding 127.0.0.5 to the global_no_access list for 7 minutes");
        assert!(comes("127.0.0.5", 9901).is_none());
        daemon.reload(&(greeter(9901, "") + &sensor(9903, "NEVER")));
        daemon.wait_log("Reconfigured");
        connect_to_trap("127.0.0.6", 9903);
        daemon.wait_log("trap: 127.0.0.6 came; deny_time keeps nobody out");
        assert!(comes("127.0.0.6", 9901).is_some());
    });
}

/// Who may not meet the sensor is not kept out by it.
#[test]
fn a_sensor_has_rules_like_any_service() {
    in_net(|net| {
        let conf =
            greeter(9901, "") + &sensor(9903, "FOREVER").replace("flags", "no_access = 127.0.0.5\n\tflags");
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9903"]);
        connect_to_trap("127.0.0.5", 9903);
        daemon.wait_log("FAIL: trap address from=127.0.0.5");
        assert!(comes("127.0.0.5", 9901).is_some());
    });
}

/// The first datagram is a server's reason to start; who accepts connections by himself knows nothing of sensors, which
/// docs/attributes.md says.
#[test]
fn a_sensor_keeps_out_of_datagram_servers_too() {
    in_net(|net| {
        let lines = format!("socket_type = dgram; wait = yes; server = /run/test/udponce; {LOGS}");
        let conf = service("once", 9901, &lines) + &sensor(9903, "FOREVER");
        let daemon = start(net, &conf, &["udp/9901", "tcp/9903"]);
        connect_to_trap("127.0.0.5", 9903);
        daemon.wait_log("trap: adding 127.0.0.5");
        assert!(silent(&udp("127.0.0.5:0", "127.0.0.1:9901"), b"x"));
        daemon.wait_log("FAIL: once address from=127.0.0.5");
        assert_eq!(ask_udp("127.0.0.1:9901", b"mine"), b"mine");
    });
}

/// Anybody can send a datagram in anybody's name.
#[test]
fn a_datagram_to_a_sensor_keeps_nobody_out() {
    in_net(|net| {
        let trap = service(
            "trap",
            9903,
            &format!("flags = SENSOR; deny_time = FOREVER; socket_type = dgram; wait = yes; {LOGS}"),
        );
        let daemon = start(net, &(greeter(9901, "") + &trap), &["tcp/9901", "udp/9903"]);
        udp("127.0.0.5:0", "127.0.0.1:9903").send(b"x").expect("send");
        daemon.wait_log("trap: 127.0.0.5 came");
        assert!(comes("127.0.0.5", 9901).is_some());
    });
}

// ---- recheck ----

/// Whether a connection is over.
fn is_over(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    !matches!(stream.read(&mut [0; 64]), Ok(1..))
}

#[test]
fn a_reload_shows_out_who_may_not_be_there_any_more() {
    in_net(|net| {
        let host = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = host.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            let mut all = vec![];
            for mut stream in host.incoming().flatten() {
                let _ = stream.write_all(b"hello\n");
                all.push(stream);
            }
        });
        let conf = |rules: &str| {
            let echo =
                service("echo", 9904, &format!("type = INTERNAL UNLISTED; recheck = yes; {LOGS}; {rules}"));
            greeter(9901, &format!("recheck = yes; {rules}"))
                + &greeter(9902, rules)
                + &service(
                    "led",
                    9903,
                    &format!("redirect = 127.0.0.1 {port}; recheck = yes; {LOGS}; {rules}"),
                )
                + &echo
        };
        let daemon = start(net, &conf(""), &["tcp/9901", "tcp/9902", "tcp/9903", "tcp/9904"]);
        let all = |source: &str| -> Vec<TcpStream> {
            let mut all: Vec<_> = [9901, 9902, 9903].map(|port| comes(source, port).expect("a place")).into();
            let mut echo = tcp_from(&format!("{source}:0"), "127.0.0.1:9904");
            round_trip(&mut echo, b"x");
            all.push(echo);
            all
        };
        let (mut stays, mut goes) = (all("127.0.0.1"), all("127.0.0.2"));
        daemon.reload(&conf("only_from = 127.0.0.1"));
        daemon.wait_log("Reconfigured");
        for n in [0, 2, 3] {
            assert!(is_over(&mut goes[n]), "{n}");
        }
        // Without recheck nobody is shown out.
        round_trip(&mut goes[1], b"still here");
        for n in [0, 1, 3] {
            round_trip(&mut stays[n], b"still here");
        }
        for id in ["greeter9901", "led", "echo"] {
            let log = daemon.log();
            let told: Vec<&str> = log.lines().filter(|l| l.contains(&format!("{id}: server "))).collect();
            assert!(told.len() == 1 && told[0].ends_with("of 127.0.0.2 is told to end: address"), "{log}");
        }
        assert!(comes("127.0.0.2", 9902).is_none());
    });
}

#[test]
fn a_lower_limit_shows_out_those_who_came_last() {
    in_net(|net| {
        let conf = |limits: &str| NO_BRAKE.to_owned() + &greeter(9901, &format!("recheck = yes; {limits}"));
        let daemon = start(net, &conf("instances = 5"), &["tcp/9901"]);
        let mut clients: Vec<TcpStream> = (0..4)
            .map(|n| {
                // Who came first is told by the clock.
                std::thread::sleep(Duration::from_millis(20));
                comes(if n < 2 { "127.0.0.1" } else { "127.0.0.2" }, 9901).expect("a place")
            })
            .collect();
        daemon.reload(&conf("instances = 3"));
        until("one to go", || daemon.log().contains("told to end: service_limit").then_some(()));
        assert!(is_over(&mut clients[3]));
        for client in &mut clients[..3] {
            round_trip(client, b"still here");
        }
        daemon.reload(&conf("instances = 3; per_source = 1"));
        until("one to go", || daemon.log().contains("told to end: per_source_limit").then_some(()));
        assert!(is_over(&mut clients[1]));
        round_trip(&mut clients[0], b"still here");
        round_trip(&mut clients[2], b"still here");
    });
}

#[test]
fn a_rule_about_hosts_files_is_not_asked_again() {
    in_net(|net| {
        let conf = greeter(9901, "recheck = yes; libwrap = greeter");
        let daemon = start(net, &conf, &["tcp/9901"]);
        let mut client = comes("127.0.0.1", 9901).expect("a place");
        net.write("/etc/hosts.deny", "greeter: ALL\n");
        daemon.reload(&conf);
        daemon.wait_log("Reconfigured");
        round_trip(&mut client, b"still here");
        assert!(comes("127.0.0.1", 9901).is_none());
    });
}

// ---- limits ----

/// The number of those of these clients who get in; they stay.
fn crowd(sources: &[&str], port: u16) -> Vec<TcpStream> {
    sources.iter().filter_map(|source| comes(source, port)).collect()
}

#[test]
fn instances_at_one_less_at_the_number_and_at_one_more() {
    in_net(|net| {
        let conf = NO_BRAKE.to_owned() + &greeter(9901, "instances = 3") + &greeter(9902, "instances = 0");
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        let mut clients = crowd(&["127.0.0.1"; 2], 9901);
        assert_eq!(clients.len(), 2);
        clients.extend(comes("127.0.0.1", 9901));
        assert_eq!(clients.len(), 3);
        assert!(comes("127.0.0.1", 9901).is_none());
        daemon.wait_log("FAIL: greeter9901 service_limit from=127.0.0.1");
        clients.pop();
        until("a place", || comes("127.0.0.1", 9901));
        assert!(comes("127.0.0.1", 9902).is_none());
        daemon.wait_log("FAIL: greeter9902 service_limit from=127.0.0.1");
    });
}

#[test]
fn per_source_is_a_share_for_each_address() {
    in_net(|net| {
        let conf = NO_BRAKE.to_owned() + &greeter(9901, "per_source = 2; instances = 5");
        let daemon = start(net, &conf, &["tcp/9901"]);
        let all = ["127.0.0.1", "127.0.0.2"];
        let mut clients = crowd(&all, 9901);
        clients.extend(crowd(&all, 9901));
        assert_eq!(clients.len(), 4);
        assert_eq!(crowd(&all, 9901).len(), 0);
        for source in all {
            daemon.wait_log(&format!("FAIL: greeter9901 per_source_limit from={source}"));
        }
        let last = crowd(&["127.0.0.3"], 9901);
        assert_eq!(last.len(), 1);
        // Full by now: his own share is not the reason.
        assert!(comes("127.0.0.4", 9901).is_none());
        daemon.wait_log("FAIL: greeter9901 service_limit from=127.0.0.4");
    });
}

#[test]
fn the_limit_of_the_command_line_is_for_all_services_together() {
    in_net(|net| {
        net.script("greets", "#!/bin/sh\necho hello\nexec cat\n");
        let echo = service("echo", 9904, "type = INTERNAL UNLISTED");
        let conf = NO_BRAKE.to_owned() + &greeter(9901, "") + &greeter(9902, "") + &echo;
        let file = net.write("conf", conf);
        let args = ["-format", "xinetd", "-limit", "3"];
        let daemon = Daemon::start_with(net, Subject::Usherd, file, &args).ready(&["tcp/9901", "tcp/9902"]);
        let mut clients = crowd(&["127.0.0.1"; 2], 9901);
        clients.extend(comes("127.0.0.1", 9902));
        assert_eq!(clients.len(), 3);
        for port in [9901, 9902] {
            assert!(comes("127.0.0.1", port).is_none());
            daemon.wait_log(&format!("FAIL: greeter{port} process_limit from=127.0.0.1"));
        }
        // What needs no server is served.
        assert_eq!(ask_tcp("127.0.0.1:9904", b"x"), b"x");
        clients.remove(0);
        until("a place", || comes("127.0.0.1", 9902));
    });
}

/// The number is exceeded, one client is refused, those behind it wait out the pause, and none is lost.
#[test]
fn cps_pauses_and_comes_back() {
    in_net(|net| {
        let conf = greeter(9901, "cps = 5 2") + &greeter(9902, "");
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        let begin = Instant::now();
        let clients = crowd(&["127.0.0.1"; 5], 9901);
        assert_eq!(clients.len(), 5);
        assert!(
            begin.elapsed() < Duration::from_millis(900),
            "too slow for this test: {:?}",
            begin.elapsed()
        );
        assert!(comes("127.0.0.1", 9901).is_none());
        daemon.wait_log(
            "Deactivating service greeter9901 due to excessive incoming connections.  Restarting in 2 seconds.",
        );
        daemon.wait_log("FAIL: greeter9901 connections per second from=127.0.0.1");
        let paused = Instant::now();
        assert!(comes("127.0.0.1", 9902).is_some(), "others are served");
        let waits = comes("127.0.0.1", 9901);
        assert!(waits.is_some(), "whoever waits is served after the pause");
        let took = paused.elapsed();
        assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(4), "{took:?}");
        daemon.wait_log("Activating service greeter9901");
        let log = daemon.log();
        assert_eq!(log.matches("START: greeter9901").count(), 6, "{log}");
        assert_eq!(log.matches("FAIL: greeter9901").count(), 1, "{log}");
        assert_eq!(log.matches("Deactivating").count(), 1, "{log}");
    });
}

/// Who may not come in does not use up what all share.
#[test]
fn who_is_refused_does_not_count_for_cps() {
    in_net(|net| {
        let conf = greeter(9901, "cps = 5 10; no_access = 127.0.0.5");
        let daemon = start(net, &conf, &["tcp/9901"]);
        for _ in 0..40 {
            assert!(comes("127.0.0.5", 9901).is_none());
        }
        assert!(comes("127.0.0.1", 9901).is_some());
        assert!(!daemon.log().contains("Deactivating"), "{}", daemon.log());
    });
}

/// A storm of clients from many addresses: never more than there are places, and the counts are right after it.
#[test]
fn a_storm_leaves_the_counts_right() {
    in_net(|net| {
        let conf = NO_BRAKE.to_owned() + &greeter(9901, "instances = 10; per_source = 3");
        let daemon = start(net, &conf, &["tcp/9901"]);
        for _ in 0..5 {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    std::thread::spawn(move || {
                        let source = format!("127.0.0.{}", 10 + n);
                        (0..5).filter_map(|_| comes(&source, 9901)).collect::<Vec<_>>()
                    })
                })
                .collect();
            let clients: Vec<Vec<TcpStream>> =
                threads.into_iter().map(|t| t.join().expect("clients")).collect();
            let each: Vec<usize> = clients.iter().map(Vec::len).collect();
            assert!(each.iter().all(|n| *n <= 3), "{each:?}");
            assert_eq!(each.iter().sum::<usize>(), 10, "{each:?}");
            drop(clients);
            until("all have gone", || children(daemon.pid()).is_empty().then_some(()));
        }
        assert!(comes("127.0.0.1", 9901).is_some());
    });
}
