//! What the daemon asks of others before it lets somebody in: the names of clients from name servers, their users from
//! ident servers. Whoever answers, lies, or keeps silent, the right ones come in and everybody else is served meanwhile.

use crate::harness::*;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

fn start<'n>(net: &'n Net, conf: &str, ports: &[&str]) -> Daemon<'n> {
    net.script("hello", HELLO);
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(conf)).ready(ports)
}

/// A service that says hello on port 9901.
fn hello(lines: &str) -> String {
    service("hello", 9901, &format!("server = /run/test/hello; log_on_failure = HOST; {lines}"))
}

/// What a client with that address hears on port 9901.
fn from(source: &str) -> String {
    text(&read_to_end(&mut tcp_from(&format!("{source}:0"), "127.0.0.1:9901")))
}

// ---- names ----

#[test]
fn a_client_comes_in_by_its_name_and_by_its_domain() {
    in_net(|net| {
        let _names = NameServer::start(
            net,
            &[
                "PTR 127.0.0.10 desk.example.org",
                "A desk.example.org 127.0.0.10",
                "PTR 127.0.0.11 a.b.example.net",
                "A a.b.example.net 127.0.0.11",
                "PTR 127.0.0.12 other.example.org",
                "A other.example.org 127.0.0.12",
            ],
        );
        let rules = "only_from = desk.example.org .example.net";
        let daemon = start(net, &hello(rules), &["tcp/9901"]);
        assert_eq!(from("127.0.0.10"), "hello\n");
        assert_eq!(from("127.0.0.11"), "hello\n");
        assert_eq!(from("127.0.0.12"), "");
        // Nobody knows this one's name.
        assert_eq!(from("127.0.0.13"), "");
        for source in ["127.0.0.12", "127.0.0.13"] {
            daemon.wait_log(&format!("FAIL: hello address from={source}"));
        }
    });
}

#[test]
fn no_access_by_name_keeps_out_whoever_has_no_name_too() {
    in_net(|net| {
        let _names = NameServer::start(
            net,
            &[
                "PTR 127.0.0.10 good.example.org",
                "A good.example.org 127.0.0.10",
                "PTR 127.0.0.11 evil.example.org",
                "A evil.example.org 127.0.0.11",
            ],
        );
        let _daemon = start(net, &hello("no_access = evil.example.org"), &["tcp/9901"]);
        assert_eq!(from("127.0.0.10"), "hello\n");
        assert_eq!(from("127.0.0.11"), "");
        assert_eq!(from("127.0.0.13"), "");
    });
}

/// Anyone may call his own addresses what he likes.
#[test]
fn a_name_that_does_not_lead_back_is_none() {
    in_net(|net| {
        let names = NameServer::start(
            net,
            &[
                "PTR 127.0.0.10 desk.example.org",
                "A desk.example.org 127.0.0.99",
                "PTR 127.0.0.11 gone.example.org",
            ],
        );
        let _daemon = start(net, &hello("only_from = .example.org"), &["tcp/9901"]);
        assert_eq!(from("127.0.0.10"), "");
        assert_eq!(from("127.0.0.11"), "");
        assert!(names.asked().contains(&"A desk.example.org".into()), "{:?}", names.asked());
    });
}

#[test]
fn an_address_that_decides_asks_nobody() {
    in_net(|net| {
        let names = NameServer::start(net, &[]);
        let _daemon = start(net, &hello("only_from = 127.0.0.1 .example.org"), &["tcp/9901"]);
        assert_eq!(from("127.0.0.1"), "hello\n");
        assert_eq!(names.asked(), [""; 0]);
        assert_eq!(from("127.0.0.2"), "", "two.test, which the hosts file says");
        assert_eq!(names.asked(), [""; 0]);
    });
}

#[test]
fn the_hosts_file_goes_before_name_servers() {
    in_net(|net| {
        let names =
            NameServer::start(net, &["PTR 127.0.0.2 liar.example.org", "A liar.example.org 127.0.0.2"]);
        let conf = hello("only_from = .test");
        let _daemon = start(net, &conf, &["tcp/9901"]);
        assert_eq!(from("127.0.0.2"), "hello\n");
        assert_eq!(names.asked(), [""; 0]);
        // And its changes count, a little later than at once.
        net.write("/etc/hosts", "127.0.0.4 four.test\n");
        assert_eq!(from("127.0.0.4"), "hello\n");
    });
}

#[test]
fn what_is_known_is_not_asked_again() {
    in_net(|net| {
        let names = NameServer::start(net, &["PTR 127.0.0.10 a.example.org", "A a.example.org 127.0.0.10"]);
        let conf = hello("only_from = a.example.org")
            + &service("other", 9902, "server = /run/test/hello; only_from = .example.org");
        let _daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        assert_eq!(from("127.0.0.10"), "hello\n");
        let asked = ["PTR 10.0.0.127.in-addr.arpa", "A a.example.org"];
        assert_eq!(names.asked(), asked);
        assert_eq!(from("127.0.0.10"), "hello\n");
        assert_eq!(text(&read_to_end(&mut tcp_from("127.0.0.10:0", "127.0.0.1:9902"))), "hello\n");
        assert_eq!(names.asked(), asked);
    });
}

#[test]
fn clients_over_ipv6_have_names_too() {
    in_net(|net| {
        net.add_address("2001:db8::7");
        let names =
            NameServer::start(net, &["PTR 2001:db8::7 six.example.org", "AAAA six.example.org 2001:db8::7"]);
        let conf = hello("only_from = six.example.org; flags = IPv6");
        let _daemon = start(net, &conf, &["tcp/9901"]);
        assert_eq!(listen_to("[2001:db8::7]:9901"), "hello\n");
        assert_eq!(listen_to("[::1]:9901"), "");
        assert_eq!(listen_to("127.0.0.1:9901"), "");
        assert_eq!(names.asked()[1], "AAAA six.example.org");
    });
}

/// A server that keeps silent costs the client its entrance, and nobody else anything.
#[test]
fn a_silent_name_server_refuses_within_seconds_and_holds_up_nobody() {
    in_net(|net| {
        let names = NameServer::start(net, &["PTR 127.0.0.10 SILENCE"]);
        let conf = hello("only_from = .example.org 127.0.0.1");
        let daemon = start(net, &conf, &["tcp/9901"]);
        let begin = Instant::now();
        let mut waits = tcp_from("127.0.0.10:0", "127.0.0.1:9901");
        until("a question", || (!names.asked().is_empty()).then_some(()));
        for _ in 0..20 {
            assert_eq!(from("127.0.0.1"), "hello\n");
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "others waited {:?}", begin.elapsed());
        assert_eq!(text(&read_to_end(&mut waits)), "");
        assert!(begin.elapsed() < Duration::from_secs(7), "refused after {:?}", begin.elapsed());
        daemon.wait_log("FAIL: hello address from=127.0.0.10");
        assert!(names.asked().len() > 1, "asked once, {:?}", names.asked());
    });
}

/// Whoever goes while his name is looked up leaves nothing behind, and one address has a share of the places.
#[test]
fn one_address_cannot_have_all_places_of_those_who_wait() {
    in_net(|net| {
        let _names = NameServer::start(
            net,
            &["PTR 127.0.0.10 SILENCE", "PTR 127.0.0.11 a.example.org", "A a.example.org 127.0.0.11"],
        );
        let conf = NO_BRAKE.to_owned() + &hello("only_from = .example.org");
        let daemon = start(net, &conf, &["tcp/9901"]);
        // Who was refused has been forgotten: the daemon is at rest.
        assert_eq!(from("127.0.0.1"), "");
        let before = holdings(daemon.pid());
        let crowd: Vec<_> = (0..100).map(|_| tcp_from("127.0.0.10:0", "127.0.0.1:9901")).collect();
        daemon.wait_log("FAIL: hello lookup_limit from=127.0.0.10");
        assert_eq!(from("127.0.0.11"), "hello\n");
        drop(crowd);
        until("all have gone", || (holdings(daemon.pid()) == before).then_some(()));
    });
}

#[test]
fn a_datagram_is_let_in_once_the_name_of_its_sender_is_known() {
    in_net(|net| {
        let names = NameServer::start(net, &["PTR 127.0.0.10 a.example.org", "A a.example.org 127.0.0.10"]);
        let conf = service(
            "echo",
            9907,
            "type = INTERNAL UNLISTED; socket_type = dgram; wait = yes; only_from = .example.org; log_on_failure = HOST",
        );
        let daemon = start(net, &conf, &["udp/9907"]);
        let client = UdpSocket::bind("127.0.0.10:0").expect("bind");
        client.set_read_timeout(Some(PATIENCE)).expect("time-out");
        client.send_to(b"first", "127.0.0.1:9907").expect("send");
        daemon.wait_log("FAIL: echo name_pending from=127.0.0.10");
        until("both questions", || (names.asked().len() == 2).then_some(()));
        let second = until("an answer", || {
            client.send_to(b"second", "127.0.0.1:9907").expect("send");
            client.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
            answer(&client)
        });
        assert_eq!(text(&second), "second");
    });
}

/// PARANOID, KNOWN and %h of hosts.allow turn on the same names.
#[test]
fn rules_of_hosts_allow_know_names() {
    in_net(|net| {
        let _names = NameServer::start(
            net,
            &[
                "PTR 127.0.0.10 a.example.org",
                "A a.example.org 127.0.0.10",
                "PTR 127.0.0.11 liar.example.org",
                "A liar.example.org 127.0.0.99",
            ],
        );
        net.write(
            "/etc/hosts.allow",
            "hello: PARANOID: twist echo liar %n\nhello: .example.org: twist echo %h %c\n",
        );
        net.write("/etc/hosts.deny", "hello: UNKNOWN: twist echo nobody %n\n");
        let daemon = start(net, &hello("libwrap = yes"), &["tcp/9901"]);
        assert_eq!(from("127.0.0.10"), "a.example.org a.example.org\n", "{}", daemon.log());
        assert_eq!(from("127.0.0.11"), "liar paranoid\n");
        assert_eq!(from("127.0.0.13"), "nobody unknown\n");
        assert_eq!(from("127.0.0.2"), "hello\n");
    });
}

// ---- users ----

#[test]
fn the_user_of_a_client_is_recorded_in_the_background() {
    in_net(|net| {
        let idents = IdentServer::of("joe");
        let conf = hello("log_on_success = HOST USERID PID");
        let daemon = start(net, &conf, &["tcp/9901"]);
        assert_eq!(listen_to("127.0.0.1:9901"), "hello\n");
        daemon.wait_log("USERID: hello UNIX : joe");
        let asked = idents.asked();
        assert!(asked.len() == 1 && asked[0].ends_with(",9901\r\n"), "{asked:?}");
    });
}

#[test]
fn the_user_of_a_refused_client_is_recorded_too() {
    in_net(|net| {
        let _idents = IdentServer::of("eve");
        let conf = hello("log_on_failure = HOST USERID; only_from = 192.0.2.1")
            .replace("log_on_failure = HOST\n", "");
        let daemon = start(net, &conf, &["tcp/9901"]);
        assert_eq!(listen_to("127.0.0.1:9901"), "");
        daemon.wait_log("USERID: hello UNIX : eve");
    });
}

/// The answer of an ident server is a stranger's text in our log.
#[test]
fn what_an_ident_server_says_is_escaped() {
    in_net(|net| {
        let _idents = IdentServer::of("joe\x1b[2J\u{0}x");
        let daemon = start(net, &hello("log_on_success = HOST USERID"), &["tcp/9901"]);
        assert_eq!(listen_to("127.0.0.1:9901"), "hello\n");
        daemon.wait_log("USERID: hello UNIX : joe");
        let log = daemon.log();
        assert!(!log.contains('\x1b') && !log.contains('\0'), "{log:?}");
    });
}

#[test]
fn idonly_lets_in_who_has_a_user_and_no_one_else() {
    in_net(|net| {
        let _idents = IdentServer::start(|ports, mut stream| {
            let ours = stream.local_addr().expect("our end").ip().to_string();
            let says = if ours.ends_with("127.0.0.10") { "USERID : UNIX : joe" } else { "ERROR : NO-USER" };
            let _ = stream.write_all(format!("{ports} : {says}\r\n").as_bytes());
        });
        let conf = hello("flags = IDONLY; log_on_success = HOST USERID");
        let daemon = start(net, &conf, &["tcp/9901"]);
        assert_eq!(from("127.0.0.10"), "hello\n", "{}", daemon.log());
        daemon.wait_log("USERID: hello UNIX : joe");
        assert_eq!(from("127.0.0.11"), "");
        daemon.wait_log("NOID: hello 127.0.0.11 bad response");
        daemon.wait_log("FAIL: hello identity from=127.0.0.11");
    });
}

#[test]
fn idonly_refuses_at_once_where_there_is_no_ident_server() {
    in_net(|net| {
        let begin = Instant::now();
        let daemon = start(net, &hello("flags = IDONLY"), &["tcp/9901"]);
        assert_eq!(listen_to("127.0.0.1:9901"), "");
        daemon.wait_log("NOID: hello 127.0.0.1 no server");
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    });
}

#[test]
fn hosts_allow_asks_for_the_user_where_a_rule_names_one() {
    in_net(|net| {
        let idents = IdentServer::of("joe");
        net.write("/etc/hosts.allow", "hello: eve@127.0.0.11 joe@127.0.0.10\n");
        net.write("/etc/hosts.deny", "ALL: ALL\n");
        let daemon = start(net, &hello("libwrap = hello"), &["tcp/9901"]);
        assert_eq!(from("127.0.0.10"), "hello\n", "{}", daemon.log());
        assert_eq!(from("127.0.0.11"), "");
        assert_eq!(idents.asked().len(), 2);
        assert_eq!(from("127.0.0.12"), "");
        assert_eq!(idents.asked().len(), 2, "no rule is about that address");
        daemon.wait_log("libwrap refused connection to hello (libwrap=hello) from 127.0.0.12");
    });
}

/// A byte every 100 ms: each is progress, and the whole is too late. Others are served meanwhile, and a rule may say how
/// long it waits.
#[test]
fn an_ident_server_that_trickles_is_given_up() {
    in_net(|net| {
        let idents = IdentServer::start(|ports, mut stream: TcpStream| {
            for byte in format!("{ports} : USERID : UNIX : {}\r\n", "j".repeat(400)).bytes() {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        net.write(
            "/etc/hosts.allow",
            "hello: 127.0.0.10: rfc931 1: twist echo user=%u\nhello: j@127.0.0.11\n",
        );
        net.write("/etc/hosts.deny", "hello: 127.0.0.11\n");
        let _daemon = start(net, &hello("libwrap = hello"), &["tcp/9901"]);
        let begin = Instant::now();
        let mut slow = tcp_from("127.0.0.11:0", "127.0.0.1:9901");
        assert_eq!(from("127.0.0.10"), "user=unknown\n");
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
        assert_eq!(from("127.0.0.12"), "hello\n");
        assert_eq!(text(&read_to_end(&mut slow)), "");
        let took = begin.elapsed();
        assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
        assert_eq!(idents.asked().len(), 2);
    });
}

/// Two questions, two lines, and a line about other ports: only what answers the question counts.
#[test]
fn an_answer_about_other_ports_is_none() {
    in_net(|net| {
        let _idents = IdentServer::start(|_, mut stream| {
            let _ = stream.write_all(b"1 , 2 : USERID : UNIX : root\r\n");
        });
        let daemon = start(net, &hello("flags = IDONLY"), &["tcp/9901"]);
        assert_eq!(listen_to("127.0.0.1:9901"), "");
        daemon.wait_log("NOID: hello 127.0.0.1 bad response");
    });
}

/// The socket is IPv6, the client is not: he is asked for, and asked, as the IPv4 client he is.
#[test]
fn an_ipv4_client_of_an_ipv6_socket_has_a_user() {
    in_net(|net| {
        let idents = IdentServer::of("joe");
        let daemon = start(net, &hello("flags = IDONLY IPv6"), &["tcp/9901"]);
        assert_eq!(from("127.0.0.10"), "hello\n", "{}", daemon.log());
        assert_eq!(listen_to("[::1]:9901"), "hello\n", "{}", daemon.log());
        assert_eq!(idents.asked().len(), 2);
    });
}

/// A name, a user and a command, one after the other.
#[test]
fn everything_may_have_to_be_found_out_about_one_client() {
    in_net(|net| {
        let names = NameServer::start(net, &["PTR 127.0.0.10 a.example.org", "A a.example.org 127.0.0.10"]);
        let idents = IdentServer::of("joe");
        net.write("/etc/hosts.allow", "hello: joe@.example.org: aclexec test %u = joe: twist echo %u %h\n");
        net.write("/etc/hosts.deny", "ALL: ALL\n");
        let conf =
            hello("libwrap = hello; flags = IDONLY; only_from = .example.org; log_on_success = USERID");
        let daemon = start(net, &conf, &["tcp/9901"]);
        assert_eq!(from("127.0.0.10"), "joe a.example.org\n", "{}", daemon.log());
        assert_eq!((names.asked().len(), idents.asked().len()), (2, 1), "each is asked once");
        daemon.wait_log("USERID: hello UNIX : joe");
    });
}

/// Somebody whose ident server hangs comes again and again: who needs his user to come in has a place all the same.
#[test]
fn ident_servers_that_hang_keep_nobody_else_out() {
    in_net(|net| {
        let idents = IdentServer::start(|ports, mut stream| {
            let ours = stream.local_addr().expect("our end").ip().to_string();
            if ours.ends_with("127.0.0.10") {
                // Until it is given up.
                let _ = stream.read(&mut [0; 1]);
            }
            let _ = stream.write_all(format!("{ports} : USERID : UNIX : joe\r\n").as_bytes());
        });
        let conf = NO_BRAKE.to_owned()
            + &hello("log_on_success = USERID")
            + &service("strict", 9902, "server = /run/test/hello; flags = IDONLY");
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        for _ in 0..40 {
            assert_eq!(from("127.0.0.10"), "hello\n");
        }
        until("questions", || (idents.asked().len() >= 4).then_some(()));
        assert_eq!(
            text(&read_to_end(&mut tcp_from("127.0.0.11:0", "127.0.0.1:9902"))),
            "hello\n",
            "{}",
            daemon.log()
        );
    });
}

/// Nobody waits for those who wait: the end is at once.
#[test]
fn the_daemon_ends_while_clients_wait() {
    in_net(|net| {
        let names = NameServer::start(net, &["PTR 127.0.0.10 SILENCE"]);
        net.write("/etc/hosts.allow", "hello: 127.0.0.11: aclexec sleep 60\n");
        let conf = hello("only_from = .example.org 127.0.0.11; libwrap = hello");
        let mut daemon = start(net, &conf, &["tcp/9901"]);
        let mut waits = ["127.0.0.10:0", "127.0.0.11:0"].map(|source| tcp_from(source, "127.0.0.1:9901"));
        until("a question", || (!names.asked().is_empty()).then_some(()));
        let begin = Instant::now();
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        for client in &mut waits {
            assert_eq!(read_to_end(client), b"");
        }
    });
}
