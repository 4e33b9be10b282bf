//! hosts.allow and hosts.deny in front of real servers: who comes in, and what a rule does besides.

use crate::harness::*;
use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const LOGS: &str = "log_on_success = HOST PID; log_on_failure = HOST";
const HERE: &str = "127.0.0.1:9901";

/// `hello` on port 9901 and `probe` on 9902, both wrapped, in usherd's own language; `lines` are hello's.
fn conf(lines: &str) -> String {
    service("hello", 9901, &format!("server = /run/test/hello; libwrap = hello; {LOGS}; {lines}"))
        + &service("probe", 9902, &format!("server = /run/test/probe; libwrap = probe; {LOGS}"))
}

fn programs(net: &Net) {
    net.script("hello", HELLO);
    net.script("copies", COPIES);
}

fn start<'n>(net: &'n Net, text: &str) -> Daemon<'n> {
    programs(net);
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(text)).ready(&["tcp/9901"])
}

fn allow(net: &Net, text: &str) {
    net.write("/etc/hosts.allow", text);
}

fn deny(net: &Net, text: &str) {
    net.write("/etc/hosts.deny", text);
}

/// What a client with that address hears.
fn heard(source: &str, to: &str) -> String {
    text(&read_to_end(&mut tcp_from(&format!("{source}:0"), to)))
}

fn hello(source: &str) -> bool {
    match heard(source, HERE).as_str() {
        "hello\n" => true,
        "" => false,
        other => panic!("{other:?}"),
    }
}

/// What the probe on port 9902 tells of itself, behind that first word.
fn told(subject: &str) -> Vec<String> {
    let all = listen_to("127.0.0.1:9902");
    assert!(all.ends_with("end\n"), "{all:?}");
    all.lines().filter_map(|line| line.strip_prefix(subject)?.strip_prefix(' ')).map(str::to_owned).collect()
}

/// The text of a file that a command writes at some time, once it has a line.
fn written(path: &str) -> String {
    until(path, || fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')))
}

// ---- who comes in ----

#[test]
fn addresses_decide_and_changes_count_at_the_next_connection() {
    in_net(|net| {
        let daemon = start(net, &conf(""));
        assert!(hello("127.0.0.1"));
        deny(net, "hello: 127.0.0.2\n");
        assert!(!hello("127.0.0.2"));
        assert!(hello("127.0.0.1"));
        daemon.wait_log("libwrap refused connection to hello (libwrap=hello) from 127.0.0.2 by hosts.deny:1");
        daemon.wait_log("FAIL: hello libwrap from=127.0.0.2");
        // In place and at once, as an editor or a ban tool writes it.
        fs::write("/etc/hosts.deny", "# nobody\nALL: ALL\n").expect("write");
        assert!(!hello("127.0.0.1"));
        fs::write("/etc/hosts.allow", "hello: 127.0.0.0/255.0.0.0 EXCEPT 127.0.0.2\n").expect("write");
        assert!(hello("127.0.0.1"));
        assert!(!hello("127.0.0.2"));
        // Same length, same second.
        fs::write("/etc/hosts.allow", "hello: 127.0.0.0/255.0.0.0 EXCEPT 127.0.0.1\n").expect("write");
        assert!(!hello("127.0.0.1"));
        assert!(hello("127.0.0.2"));
        fs::remove_file("/etc/hosts.allow").expect("remove");
        assert!(!hello("127.0.0.2"));
        fs::remove_file("/etc/hosts.deny").expect("remove");
        assert!(hello("127.0.0.2"));
    });
}

#[test]
fn the_address_a_client_came_to_decides() {
    in_net(|net| {
        allow(net, "hello@127.0.0.5: 127.0.0.1\n9902@127.0.0.1: ALL\n");
        deny(net, "ALL: ALL\n");
        let _daemon = start(net, &conf(""));
        assert_eq!(heard("127.0.0.1", "127.0.0.5:9901"), "hello\n");
        assert_eq!(heard("127.0.0.1", "127.0.0.6:9901"), "");
        assert_eq!(heard("127.0.0.2", "127.0.0.5:9901"), "");
        // A number in place of the daemon is the port.
        assert!(listen_to("127.0.0.1:9902").ends_with("end\n"));
        assert_eq!(listen_to("127.0.0.5:9902"), "");
    });
}

/// Our end of an IPv4 connection is an IPv4 address, also on an IPv6 socket.
#[test]
fn the_address_a_client_came_to_decides_on_an_ipv6_socket_too() {
    in_net(|net| {
        allow(net, "hello@127.0.0.5 hello@[::1]: ALL\n");
        deny(net, "ALL: ALL\n");
        let _daemon = start(net, &conf("flags = IPv6"));
        assert_eq!(heard("127.0.0.1", "127.0.0.5:9901"), "hello\n");
        assert_eq!(heard("127.0.0.1", "127.0.0.6:9901"), "");
        assert_eq!(listen_to("[::1]:9901"), "hello\n");
    });
}

/// What a ban tool has written for years.
#[test]
fn a_large_file_is_read_to_its_end() {
    in_net(|net| {
        let daemon = start(net, &conf(""));
        let mut all = String::new();
        for n in 0..50_000 {
            all += &format!("hello: 10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255);
        }
        deny(net, &(all + "hello: 127.0.0.2\n"));
        let begin = Instant::now();
        for _ in 0..10 {
            assert!(hello("127.0.0.1"));
            assert!(!hello("127.0.0.2"));
        }
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        daemon.wait_log("by hosts.deny:50001");
    });
}

/// What has no end, or nobody at the other side, in the place of a file.
#[test]
fn devices_and_fifos_in_the_place_of_files_stop_nobody() {
    in_net(|net| {
        let daemon = start(net, &conf(""));
        let fifo = std::ffi::CString::new("/etc/fifo").expect("no NUL");
        // SAFETY: a NUL-terminated string.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        let begin = Instant::now();
        for path in ["/etc/fifo", "/dev/zero", "/dev/urandom", "/dev/full", "/dev/tty", "/etc", "/etc/none"] {
            allow(net, &format!("hello: {path}\nhello: 127.0.0.1: banners /dev: banners /etc/none\n"));
            deny(net, "hello: ALL\n");
            assert!(!hello("127.0.0.2"), "{path}");
            // One that cannot be read may be about anybody: the rule behind it may be left alone or not.
            let _ = hello("127.0.0.1");
            for which in ["hosts.allow", "hosts.deny"] {
                allow(net, "");
                deny(net, "hello: ALL\n");
                let _ = fs::remove_file(format!("/etc/{which}"));
                std::os::unix::fs::symlink(path, format!("/etc/{which}")).expect("link");
                let got_in = hello("127.0.0.1");
                let may = which == "hosts.deny" && path == "/etc/none";
                assert_eq!(got_in, may, "{which} is {path}: {}", daemon.log());
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    });
}

#[test]
fn the_files_may_be_elsewhere() {
    in_net(|net| {
        programs(net);
        fs::create_dir("/run/test/rules").expect("directory");
        deny(net, "ALL: ALL\n");
        net.write("/run/test/rules/hosts.deny", "hello: 127.0.0.2\n");
        let file = net.write("conf", conf(""));
        let args = ["-hosts", "/run/test/rules", "-format", "xinetd"];
        let _daemon = Daemon::start_with(net, Subject::Usherd, file, &args).ready(&["tcp/9901"]);
        assert!(hello("127.0.0.1"));
        assert!(!hello("127.0.0.2"));
    });
}

#[test]
fn an_ipv6_client_is_matched_by_its_address_and_an_ipv4_client_by_his() {
    in_net(|net| {
        allow(net, "hello: [::1] 127.0.0.0/8\n");
        deny(net, "ALL: ALL\n");
        let daemon = start(net, &conf("flags = IPv6"));
        assert_eq!(listen_to("[::1]:9901"), "hello\n");
        assert!(hello("127.0.0.1"));
        allow(net, "hello: [::]/0\n");
        assert!(!hello("127.0.0.1"), "an IPv4 client is no IPv6 client");
        assert_eq!(listen_to("[::1]:9901"), "hello\n");
        daemon.wait_log("from 127.0.0.1 by hosts.deny:1");
    });
}

/// A mistake in front of the rule that lets in, and files that cannot be read, let nobody in.
#[test]
fn mistakes_refuse_and_are_told_with_their_place() {
    in_net(|net| {
        deny(net, "ALL: ALL\n");
        let daemon = start(net, &conf(""));
        allow(net, "hello: 127.0.0.1: nonsense\n");
        assert!(!hello("127.0.0.1"));
        daemon.wait_log("by hosts.allow:1:19: ");
        let _ = fs::remove_file("/etc/hosts.allow");
        fs::create_dir("/etc/hosts.allow").expect("directory");
        assert!(!hello("127.0.0.1"));
        daemon.wait_log("hosts.allow cannot be read");
    });
}

#[test]
fn a_group_of_patterns_in_a_file_is_read_anew() {
    in_net(|net| {
        net.write("/etc/friends", "127.0.0.1\n");
        allow(net, "hello: /etc/friends\n");
        deny(net, "ALL: ALL\n");
        let _daemon = start(net, &conf(""));
        assert!(hello("127.0.0.1"));
        assert!(!hello("127.0.0.2"));
        net.write("/etc/friends", "127.0.0.1\n127.0.0.2\n");
        assert!(hello("127.0.0.2"));
    });
}

#[test]
fn services_of_the_daemon_itself_are_wrapped() {
    in_net(|net| {
        deny(net, "echo: 127.0.0.2\ndaytime: ALL\n");
        let own = |name: &str, port: u16, more: &str| {
            service(name, port, &format!("type = INTERNAL UNLISTED; libwrap = yes; {LOGS}; {more}"))
        };
        let dgram = own("echo", 9903, "id = echo-dgram; socket_type = dgram; wait = yes");
        let daemon = start(net, &(own("echo", 9901, "") + &own("daytime", 9902, "") + &dgram));
        assert_eq!(ask_tcp(HERE, b"x"), b"x");
        assert_eq!(heard("127.0.0.2", HERE), "");
        assert_eq!(listen_to("127.0.0.1:9902"), "");
        daemon.wait_log(
            "libwrap refused connection to daytime (libwrap=daytime) from 127.0.0.1 by hosts.deny:2",
        );
        assert_eq!(ask_udp("127.0.0.1:9903", b"x"), b"x");
        assert!(silent(&udp("127.0.0.2:0", "127.0.0.1:9903"), b"x"));
        daemon.wait_log(
            "libwrap refused connection to echo-dgram (libwrap=echo) from 127.0.0.2 by hosts.deny:1",
        );
    });
}

/// The first datagram decides about the server; the sender of a later one is not asked about, as it is with tcpd.
#[test]
fn a_datagram_server_is_started_for_whom_the_rules_admit() {
    in_net(|net| {
        deny(net, "udponce: 127.0.0.2\n");
        programs(net);
        let lines =
            format!("socket_type = dgram; wait = yes; server = /run/test/udponce; libwrap = udponce; {LOGS}");
        let daemon = Daemon::start(net, Subject::Usherd, Conf::Xinetd(&service("once", 9901, &lines)))
            .ready(&["udp/9901"]);
        let banned = udp("127.0.0.2:0", HERE);
        assert!(silent(&banned, b"x"));
        daemon
            .wait_log("libwrap refused connection to once (libwrap=udponce) from 127.0.0.2 by hosts.deny:1");
        assert!(!daemon.log().contains("START"), "{}", daemon.log());
        assert_eq!(ask_udp(HERE, b"mine"), b"mine");
        assert!(silent(&banned, b"x"));
        assert_eq!(ask_udp(HERE, b"mine too"), b"mine too");
    });
}

/// Nobody knows who will be accepted: only rules for everybody can let in.
#[test]
fn a_server_that_accepts_by_itself_starts_only_where_everybody_may_come() {
    in_net(|net| {
        let lines = format!("wait = yes; server = /run/test/acceptecho; libwrap = acceptecho; {LOGS}");
        let daemon = start(net, &service("takes", 9901, &lines));
        let echoes = || {
            let mut stream = tcp(HERE);
            // One that is turned away may be reset at once.
            let _ = stream.write_all(b"x");
            let _ = stream.shutdown(Shutdown::Write);
            fate(stream).starts_with("\"x\"")
        };
        assert!(echoes(), "without rules");
        allow(net, "acceptecho: ALL\n");
        deny(net, "ALL: ALL\n");
        assert!(echoes(), "all may");
        allow(net, "acceptecho: 127.0.0.1\n");
        assert!(!echoes(), "some may");
        daemon.wait_log("libwrap refused connection to takes (libwrap=acceptecho) from");
        fs::remove_file("/etc/hosts.allow").expect("remove");
        deny(net, "acceptecho: 127.0.0.9\n");
        assert!(!echoes(), "some may not");
        deny(net, "other: 127.0.0.9\n");
        assert!(echoes(), "rules about others");
    });
}

// ---- what a rule does besides ----

#[test]
fn spawn_runs_beside_the_server() {
    in_net(|net| {
        // All that is open there, but the directory that is being listed.
        allow(
            net,
            "hello: 127.0.0.1: spawn (echo %d %a %h %c %s %r %p; ls -l /proc/self/fd | grep -v /fd$) \\\n\
             > /run/test/out.new 2>&1 && mv /run/test/out.new /run/test/out &\n",
        );
        let daemon = start(net, &conf(""));
        let client = tcp(HERE);
        let port = client.local_addr().expect("an address").port();
        assert_eq!(fate(client), "\"hello\\n\" end");
        let out = written("/run/test/out");
        let mut lines = out.lines();
        let first = format!("hello 127.0.0.1 127.0.0.1 127.0.0.1 hello@127.0.0.1 {port} {}", daemon.pid());
        assert_eq!(lines.next(), Some(first.as_str()));
        let open: Vec<&str> = lines.filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to).collect();
        assert!(!open.iter().any(|to| to.contains("socket")), "{out}");
        assert!(open.contains(&"/dev/null"), "{out}");
    });
}

/// So many commands run at one time; whose is one too many is served, and the log says so.
#[test]
fn commands_that_hang_use_up_their_places_and_no_more() {
    in_net(|net| {
        allow(net, "hello: 127.0.0.1: spawn exec sleep 60\nhello: 127.0.0.2: aclexec true\n");
        deny(net, "hello: ALL\n");
        let daemon = start(net, &conf("cps = 0 0"));
        for _ in 0..40 {
            assert!(hello("127.0.0.1"));
        }
        daemon.wait_log("hello: a command of hosts.allow or hosts.deny was not run");
        assert!(!hello("127.0.0.2"), "nobody can tell whether its rule stands");
        assert!(listen_to("127.0.0.1:9902").ends_with("end\n"), "others are served");
    });
}

/// The command gets the socket, and the datagram is still in it.
#[test]
fn twist_answers_a_datagram_in_place_of_its_server() {
    in_net(|net| {
        programs(net);
        deny(
            net,
            "udponce: 127.0.0.2: twist dd bs=512 count=1 2>/dev/null | tr a-z A-Z > /run/test/new; mv /run/test/new /run/test/out\n",
        );
        let lines =
            format!("socket_type = dgram; wait = yes; server = /run/test/udponce; libwrap = udponce; {LOGS}");
        let conf = service("once", 9901, &lines);
        let daemon = Daemon::start(net, Subject::Usherd, Conf::Xinetd(&conf)).ready(&["udp/9901"]);
        udp("127.0.0.2:0", HERE).send(b"let me in\n").expect("send");
        assert_eq!(written("/run/test/out"), "LET ME IN\n", "{}", daemon.log());
        assert_eq!(ask_udp(HERE, b"mine"), b"mine");
    });
}

/// What a client has a hand in stays text in the shell.
#[test]
fn a_name_is_no_command() {
    in_net(|net| {
        net.write("/etc/hosts", "127.0.0.1 localhost\n127.0.0.7 a;touch${IFS}/run/test/bad;\n");
        let _names = NameServer::start(
            net,
            &[
                "PTR 127.0.0.6 $(touch${IFS}/run/test/bad).test",
                "A $(touch${IFS}/run/test/bad).test 127.0.0.6",
            ],
        );
        let _idents = IdentServer::of("`touch${IFS}/run/test/bad`;$(id)'\"|&");
        allow(net, "hello: ALL: twist echo %n %u\n");
        let _daemon = start(net, &conf(""));
        for source in ["127.0.0.6", "127.0.0.7"] {
            let said = heard(source, HERE);
            let (name, user) = said.trim_end().split_once(' ').expect("two words");
            assert!(["unknown", "paranoid"].contains(&name), "{said}");
            assert_eq!(user, "_touch__IFS_/run/test/bad____id_____", "{said}");
        }
        assert!(!std::path::Path::new("/run/test/bad").exists());
    });
}

#[test]
fn spawn_of_a_refusing_rule_runs_too() {
    in_net(|net| {
        deny(net, "hello: ALL: spawn echo %a was refused by %d > /run/test/out\n");
        let _daemon = start(net, &conf(""));
        assert!(!hello("127.0.0.2"));
        assert_eq!(written("/run/test/out"), "127.0.0.2 was refused by hello\n");
    });
}

/// tcpd waited for it.
#[test]
fn a_spawn_that_hangs_holds_up_nobody() {
    in_net(|net| {
        allow(net, "hello: ALL: spawn exec sleep 60\n");
        let begin = Instant::now();
        let mut daemon = start(net, &conf(""));
        for _ in 0..5 {
            assert!(hello("127.0.0.1"));
        }
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        assert!(begin.elapsed() < Duration::from_secs(5), "the end waits for {:?}", begin.elapsed());
    });
}

#[test]
fn twist_takes_the_place_of_the_server() {
    in_net(|net| {
        net.script("never", "#!/bin/sh\ntouch /run/test/started\n");
        deny(net, "hello: ALL: twist read line; echo \"%a may not $line\"; echo and goes >&2\n");
        let daemon = start(net, &conf("").replace("/run/test/hello", "/run/test/never"));
        assert_eq!(text(&ask_tcp(HERE, b"say hello\n")), "127.0.0.1 may not say hello\nand goes\n");
        assert!(!std::path::Path::new("/run/test/started").exists());
        daemon.wait_log("START: hello pid=");
    });
}

/// A built-in service has no server, and a command takes its place all the same.
#[test]
fn twist_takes_the_place_of_a_built_in_service() {
    in_net(|net| {
        allow(net, "echo: 127.0.0.1: twist tr a-z A-Z\n");
        let conf = service("echo", 9901, &format!("type = INTERNAL UNLISTED; libwrap = yes; {LOGS}"));
        let _daemon = start(net, &conf);
        assert_eq!(text(&ask_tcp(HERE, b"loud\n")), "LOUD\n");
        assert_eq!(text(&read_n(&mut whisper("127.0.0.2"), 6)), "quiet\n");
    });
}

fn whisper(source: &str) -> TcpStream {
    let mut stream = tcp_from(&format!("{source}:0"), HERE);
    stream.write_all(b"quiet\n").expect("send");
    stream
}

#[test]
fn setenv_umask_nice_keepalive_and_user_are_the_servers() {
    in_net(|net| {
        let daemon = start(net, &conf(""));
        assert_eq!((told("umask"), told("keepalive")), (vec!["022".into()], vec!["0".into()]));
        allow(
            net,
            "probe: ALL: setenv WHO %d from %a: setenv LANG de: umask 027: nice 7: keepalive: user alice.ftp\n",
        );
        let all = told("");
        assert!(all.is_empty());
        let env = told("env");
        for entry in ["WHO=probe from 127.0.0.1", "LANG=de", "REMOTE_HOST=127.0.0.1"] {
            assert!(env.iter().any(|e| e == entry), "{entry} in {env:?}");
        }
        assert!(!env.iter().any(|e| e == "LANG=C"), "{env:?}");
        assert_eq!(told("umask"), ["027"]);
        assert_eq!(told("nice"), ["7"]);
        assert_eq!(told("keepalive"), ["1"]);
        assert_eq!(told("uid"), ["1234 1234 1234"]);
        assert_eq!(told("gid"), ["1301 1301 1301"]);
        assert_eq!(told("groups"), ["[1301]"], "a rule takes privileges away");
        assert_eq!(told("capabilities"), ["0000000000000000"], "{}", daemon.log());
        // The next client is another.
        allow(net, "");
        assert_eq!((told("umask"), told("uid")), (vec!["022".into()], vec!["0 0 0".into()]));
        allow(net, "probe: ALL: group dialout: nice\n");
        assert_eq!((told("gid"), told("nice")), (vec!["2001 2001 2001".into()], vec!["10".into()]));
        assert_eq!(told("uid"), ["0 0 0"]);
    });
}

/// A rule may take privileges away, and give none.
#[test]
fn user_of_a_rule_is_for_servers_of_root() {
    in_net(|net| {
        allow(net, "probe: ALL: user root\n");
        let daemon = start(
            net,
            &conf("").replace(
                "9902\n\tsocket_type = stream\n\twait = no\n\tuser = root",
                "9902\n\tsocket_type = stream\n\twait = no\n\tuser = alice",
            ),
        );
        assert_eq!(fate(tcp("127.0.0.1:9902")), "\"\" end");
        daemon.wait_log("by hosts.allow:1:1: what stands there changes user or group of a server that does not run as root");
        allow(net, "hello: ALL: user nosuchuser\n");
        assert_eq!(fate(tcp(HERE)), "\"\" end");
        daemon.wait_log("by hosts.allow:1:13: ");
    });
}

#[test]
fn linger_is_the_servers() {
    in_net(|net| {
        let perl = "#!/usr/bin/perl\nuse Socket;\nprint join(' ', unpack('ii', getsockopt(STDIN, SOL_SOCKET, SO_LINGER))), \
                    ' ', unpack('i', getsockopt(STDIN, SOL_SOCKET, SO_KEEPALIVE)), \"\\n\";\n";
        let daemon = start(net, &conf(""));
        net.script("hello", perl);
        assert_eq!(heard("127.0.0.1", HERE), "0 0 0\n");
        allow(net, "hello: 127.0.0.1: linger 5: keepalive\nhello: 127.0.0.2: linger 0\n");
        assert_eq!(heard("127.0.0.1", HERE), "1 5 1\n", "{}", daemon.log());
        assert_eq!(heard("127.0.0.2", HERE), "0 0 0\n");
    });
}

#[test]
fn severity_chooses_facility_and_level_of_the_records() {
    in_net(|net| {
        programs(net);
        allow(net, "hello: 127.0.0.1: severity local5.debug\nhello: 127.0.0.2: severity notice: deny\n");
        deny(net, "hello: ALL: severity mail.crit\n");
        let echo = service("echo", 9903, &format!("type = INTERNAL UNLISTED; libwrap = hello; {LOGS}"));
        let file = net.write("conf", conf("") + &echo);
        let args = ["-dontfork", "-syslog", "daemon", "-f", file.to_str().expect("a path")];
        let _daemon = Daemon::run(net, Subject::Usherd, &args).ready(&["tcp/9901", "tcp/9903"]);
        assert!(hello("127.0.0.1"));
        assert!(!hello("127.0.0.2"));
        assert!(!hello("127.0.0.3"));
        assert_eq!(ask_tcp("127.0.0.1:9903", b"x"), b"x");
        let is_told = |number: u32, what: &str| {
            until(what, || {
                let lines = net.syslog();
                let found = lines.lines().find(|line| line.contains(what))?.to_owned();
                assert!(found.starts_with(&format!("<{number}>")), "{what} should be {number}:\n{lines}");
                Some(())
            });
        };
        // Facility times 8 and the level.
        is_told(21 * 8 + 7, "START: hello");
        is_told(3 * 8 + 5, "FAIL: hello libwrap from=127.0.0.2");
        is_told(3 * 8 + 5, "refused connection to hello (libwrap=hello) from 127.0.0.2");
        is_told(2 * 8 + 2, "FAIL: hello libwrap from=127.0.0.3");
        is_told(21 * 8 + 7, "START: echo");
    });
}

#[test]
fn banners_of_a_rule_are_sent_first() {
    in_net(|net| {
        fs::create_dir("/etc/banners").expect("directory");
        net.write("/etc/banners/hello", "Welcome to %d, %a.\n100%% secure\n");
        allow(net, "hello: 127.0.0.1: banners /etc/banners\n");
        deny(net, "hello probe: ALL: banners /etc/banners\n");
        let _daemon = start(
            net,
            &conf(
                "banner = /etc/banners/always; banner_success = /etc/banners/success; banner_fail = /etc/banners/fail",
            ),
        );
        net.write("/etc/banners/always", "always %a\n");
        net.write("/etc/banners/success", "success\n");
        net.write("/etc/banners/fail", "fail\n");
        let banner = |source| format!("Welcome to hello, {source}.\r\n100% secure\r\n");
        assert_eq!(heard("127.0.0.1", HERE), format!("always %a\n{}success\nhello\n", banner("127.0.0.1")));
        assert_eq!(heard("127.0.0.2", HERE), format!("always %a\n{}fail\n", banner("127.0.0.2")));
        // No file, no banner.
        assert_eq!(heard("127.0.0.2", "127.0.0.1:9902"), "");
    });
}

#[test]
fn aclexec_decides_whether_its_rule_stands() {
    in_net(|net| {
        allow(net, "hello: ALL: aclexec test %a = 127.0.0.1\n");
        deny(net, "hello: ALL\n");
        let daemon = start(net, &conf(""));
        assert!(hello("127.0.0.1"));
        assert!(!hello("127.0.0.2"));
        daemon.wait_log("from 127.0.0.2 by hosts.deny:1");
        assert!(hello("127.0.0.1"));
    });
}

#[test]
fn aclexec_has_no_part_in_the_connection() {
    in_net(|net| {
        allow(net, "hello: ALL: aclexec cat; ls -l /proc/self/fd > /run/test/out; echo for nobody\n");
        let _daemon = start(net, &conf("").replace("/run/test/hello", "/run/test/copies"));
        assert_eq!(text(&ask_tcp(HERE, b"not for it")), "not for it");
        let out = written("/run/test/out");
        assert!(!out.contains("socket"), "{out}");
    });
}

#[test]
fn an_aclexec_that_hangs_refuses_its_client_and_holds_up_nobody() {
    in_net(|net| {
        deny(net, "hello: 127.0.0.2: aclexec sleep 60\n");
        let daemon = start(net, &conf(""));
        let begin = Instant::now();
        let mut stuck = tcp_from("127.0.0.2:0", HERE);
        stuck.set_read_timeout(Some(Duration::from_secs(15))).expect("time-out");
        for _ in 0..20 {
            assert!(hello("127.0.0.1"));
        }
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        assert_eq!(read_to_end(&mut stuck), b"");
        let took = begin.elapsed();
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(13), "{took:?}");
        daemon.wait_log("libwrap refused connection to hello (libwrap=hello) from 127.0.0.2");
        until("no child is left", || children(daemon.pid()).is_empty().then_some(()));
    });
}

#[test]
fn a_rule_may_want_a_user_for_its_words() {
    in_net(|net| {
        let idents = IdentServer::of("joe");
        allow(net, "hello: ALL: rfc931 2: spawn echo %u %c > /run/test/out\n");
        let _daemon = start(net, &conf(""));
        assert!(hello("127.0.0.1"));
        assert_eq!(written("/run/test/out"), "joe joe@127.0.0.1\n");
        assert_eq!(idents.asked().len(), 1);
    });
}

/// Who is on this machine has no address: only rules for everybody are about him.
#[test]
fn clients_of_a_unix_socket_meet_rules_for_all() {
    in_net(|net| {
        let lines = format!(
            "protocol = unix; bind = /run/test/socket; server = /run/test/hello; libwrap = hello; {LOGS}"
        );
        let text = service("local", 0, &lines).replace("\tport = 0\n", "");
        let daemon = start(net, &(text + &service("hello", 9901, "server = /run/test/hello")));
        let heard = || {
            let mut stream = std::os::unix::net::UnixStream::connect("/run/test/socket").expect("connect");
            stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
            let mut all = String::new();
            std::io::Read::read_to_string(&mut stream, &mut all).expect("read");
            all
        };
        assert_eq!(heard(), "hello\n");
        deny(net, "hello: 127.0.0.1 .example.org\n");
        assert_eq!(heard(), "hello\n", "{}", daemon.log());
        deny(net, "hello: ALL\n");
        assert_eq!(heard(), "");
        allow(net, "hello: ALL: twist echo %a %h\n");
        assert_eq!(heard(), "unknown unknown\n");
    });
}

/// Rules, then the service's own: both must let in.
#[test]
fn only_from_and_hosts_files_both_decide() {
    in_net(|net| {
        deny(net, "hello: 127.0.0.1\n");
        let daemon = start(net, &conf("only_from = 127.0.0.1 127.0.0.2"));
        assert!(!hello("127.0.0.1"));
        assert!(hello("127.0.0.2"));
        assert!(!hello("127.0.0.3"));
        daemon.wait_log("FAIL: hello libwrap from=127.0.0.1");
        daemon.wait_log("FAIL: hello address from=127.0.0.3");
    });
}

// ---- whose name, and whether at all ----

#[test]
fn a_service_may_have_another_name_or_none() {
    in_net(|net| {
        deny(net, "hello copies other named: ALL\n");
        let lines = |more: &str| format!("server = /run/test/hello; {LOGS}; {more}");
        let conf = service("first", 9901, &lines(""))
            + &service("second", 9902, &lines("libwrap = no"))
            + &service("third", 9903, &lines("flags = NOLIBWRAP"))
            + &service("fourth", 9904, &lines("libwrap = fifth"))
            + &service("fifth", 9905, &lines("libwrap = named"))
            + &service("sixth", 9906, &lines("flags = NAMEINARGS; server_args = /usr/bin/other -x"))
            + &service("seventh", 9907, &lines("libwrap = yes"));
        programs(net);
        let file = net.write("conf", conf);
        let daemon = Daemon::start_with(net, Subject::Usherd, file, &["-format", "xinetd"])
            .ready(&["tcp/9901", "tcp/9907"]);
        let heard: Vec<String> = (9901..=9907).map(|port| listen_to(&format!("127.0.0.1:{port}"))).collect();
        assert_eq!(heard, ["", "hello\n", "hello\n", "hello\n", "", "", ""], "{}", daemon.log());
        daemon.wait_log("libwrap refused connection to first (libwrap=hello) from 127.0.0.1 by hosts.deny:1");
        daemon.wait_log("libwrap refused connection to fifth (libwrap=named)");
        daemon.wait_log("libwrap refused connection to sixth (libwrap=other)");
    });
}

/// tcpd need not be there: the daemon stands in for it.
#[test]
fn tcpd_in_inetd_conf_is_stood_in_for() {
    in_net(|net| {
        programs(net);
        allow(net, "hello: 127.0.0.1\nin.named: 127.0.0.1\n");
        deny(net, "ALL: ALL: twist echo refused %d\n");
        net.append("/etc/services", "one 9901/tcp\ntwo 9902/tcp\nthree 9903/tcp\n");
        let conf = "one stream tcp nowait root /usr/sbin/tcpd /run/test/hello -a\n\
                    two stream tcp nowait root /usr/sbin/tcpd /run/test/in.named -b\n\
                    three stream tcp nowait root /run/test/copies copies\n";
        net.script("in.named", "#!/bin/sh\necho \"$# $1\"\n");
        let daemon = Daemon::start(net, Subject::Usherd, Conf::Inetd(conf)).ready(&["tcp/9901", "tcp/9903"]);
        assert!(hello("127.0.0.1"));
        assert_eq!(heard("127.0.0.2", HERE), "refused hello\n");
        assert_eq!(heard("127.0.0.1", "127.0.0.1:9902"), "1 -b\n");
        assert_eq!(heard("127.0.0.2", "127.0.0.1:9902"), "refused in.named\n");
        // Without tcpd in front nobody asks.
        assert_eq!(ask_tcp("127.0.0.1:9903", b"x"), b"x");
        daemon.wait_log("START: one pid=");
    });
}

#[test]
fn tcpd_in_xinetd_conf_is_stood_in_for() {
    in_net(|net| {
        allow(net, "hello: 127.0.0.1\n");
        deny(net, "ALL: ALL\n");
        let lines = "server = /usr/sbin/tcpd; flags = NAMEINARGS; server_args = /run/test/hello -a";
        let daemon = start(net, &service("one", 9901, lines));
        assert!(hello("127.0.0.1"));
        assert!(!hello("127.0.0.2"));
        daemon.wait_log("libwrap refused connection to one (libwrap=hello) from 127.0.0.2 by hosts.deny:1");
        daemon.wait_log("FAIL: one libwrap from=127.0.0.2");
    });
}

/// The same files, the real tcpd behind openbsd-inetd: what clients hear is the same.
#[test]
fn tcpd_itself_answers_the_same() {
    in_net(|net| {
        programs(net);
        net.append("/etc/services", "one 9901/tcp\n");
        fs::create_dir("/etc/banners").expect("directory");
        net.write("/etc/banners/hello", "%s for %c\n");
        allow(
            net,
            "hello: 127.0.0.1\n\
             hello: 127.0.0.2: twist /bin/echo %d %a %h\n\
             hello: 127.0.0.3: setenv WHO %a\n\
             hello: 127.0.0.4: umask 027: nice 3\n\
             hello: 127.0.0.5: banners /etc/banners\n\
             hello: 127.0.0.6: aclexec /bin/false\n\
             hello: 127.0.0.7: spawn (echo %a > /run/test/out)\n",
        );
        deny(net, "hello: 127.0.0.6: twist /bin/echo no %n\n");
        net.script("hello", "#!/bin/sh\necho \"hello $WHO $(umask) $(nice)\"\n");
        let tcpd = net.peer("tcpd", "usr/sbin/tcpd");
        let talk = |subject, program: &str| {
            let conf = format!("one stream tcp nowait root {program} /run/test/hello -a\n");
            let _daemon = Daemon::start(net, subject, Conf::Inetd(&conf)).ready(&["tcp/9901"]);
            let mut all: Vec<String> = (1..=8).map(|n| heard(&format!("127.0.0.{n}"), HERE)).collect();
            all.push(written("/run/test/out"));
            fs::remove_file("/run/test/out").expect("remove");
            all
        };
        let real = talk(Subject::OpenbsdInetd, tcpd.to_str().expect("a path"));
        let ours = talk(Subject::Usherd, "/usr/sbin/tcpd");
        assert_eq!(ours, real);
        assert_eq!(real[1], "hello 127.0.0.2 127.0.0.2\n");
    });
}

fn ask_tcp_or_nothing(to: &str) -> bool {
    let mut stream = tcp(to);
    let _ = stream.write_all(b"x");
    let _ = stream.shutdown(Shutdown::Write);
    fate(stream).starts_with("\"x\"")
}

/// Called as inetd: -w wraps programs, -W services of the daemon, -l programs with a connection each, and logs them.
#[test]
fn inetds_options_wrap() {
    in_net(|net| {
        programs(net);
        deny(net, "ALL: ALL\n");
        net.append("/etc/services", "one 9901/tcp\n");
        let conf = "one stream tcp nowait root /run/test/hello hello\necho stream tcp nowait root internal\n";
        net.write("conf", conf);
        let who = |option: &str| {
            let shell =
                format!("ln -sf \"$1\" /run/test/inetd; exec /run/test/inetd {option} /run/test/conf");
            let launch = Launch { shell: Some(&shell), ..Launch::default() };
            let daemon = Daemon::launch(net, Subject::Usherd, &[], launch).ready(&["tcp/9901", "tcp/7"]);
            let heard = (hello("127.0.0.1"), ask_tcp_or_nothing("127.0.0.1:7"));
            let log = daemon.log();
            if option == "-dl" {
                assert!(log.contains("FAIL: one libwrap from=127.0.0.1"), "{log}");
                assert!(log.contains("from 127.0.0.1 by hosts.deny:1"), "{log}");
            }
            heard
        };
        assert_eq!(who("-d"), (true, true));
        assert_eq!(who("-dw"), (false, true));
        assert_eq!(who("-dW"), (true, false));
        assert_eq!(who("-dwW"), (false, false));
        assert_eq!(who("-dl"), (false, true));
    });
}
