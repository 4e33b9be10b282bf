//! `usherd -match` and `usherd -t`: what they say of a configuration, and that the daemon then does just that.

use crate::harness::*;
use std::time::{Duration, Instant};

/// Exit status, and all that it says.
fn asks(net: &Net, args: &[&str]) -> (i32, String) {
    let mut daemon = Daemon::run(net, Subject::Usherd, &[&["-f", "/run/test/conf"], args].concat());
    let status = daemon.wait_exit();
    (status.code().expect("an exit status"), daemon.said())
}

fn matches(net: &Net, service: &str, client: &str) -> (i32, String) {
    asks(net, &["-match", service, client])
}

fn lines(net: &Net) {
    net.script("hello", HELLO);
    let conf = "defaults\n{\n\tno_access = 127.0.0.66\n\tcps = 0 0\n}\n".to_owned()
        + &service(
            "hello",
            9901,
            "server = /run/test/hello; only_from = 127.0.0.0/24; no_access += 127.0.0.8; libwrap = in.hello; instances = 7",
        )
        + &service("named", 9902, "server = /run/test/hello; only_from = .example.org; libwrap = no")
        + &service("timed", 9903, "server = /run/test/hello; access_times = 8:00-12:30; libwrap = no");
    net.write("conf", conf);
}

#[test]
fn the_rule_that_decides_is_told_with_its_place() {
    in_net(|net| {
        lines(net);
        let (status, said) = matches(net, "hello", "127.0.0.1");
        assert_eq!(
            said,
            "hello: granted to 127.0.0.1\n  \
             only_from, no_access: let in by /run/test/conf:14\n  \
             hosts.allow, hosts.deny: granted: no rule of /etc/hosts.allow or /etc/hosts.deny matches\n  \
             limits: instances 7\n"
        );
        assert_eq!(status, 0);
        let (status, said) = matches(net, "hello", "127.0.0.8");
        assert!(
            said.starts_with(
                "hello: refused to 127.0.0.8\n  only_from, no_access: kept out by /run/test/conf:15\n"
            ),
            "{said}"
        );
        assert_eq!(status, 1);
        let (status, said) = matches(net, "hello", "127.0.0.66");
        assert!(said.contains("kept out by /run/test/conf:3\n"), "{said}");
        assert_eq!(status, 1);
        let (status, said) = matches(net, "hello", "192.0.2.1");
        assert!(said.contains("only_from: kept out, it is not named there\n"), "{said}");
        assert_eq!(status, 1);
        let (status, said) = matches(net, "hello", "::1");
        assert!(said.starts_with("hello: refused to ::1\n"), "{said}");
        assert_eq!(status, 1);
    });
}

#[test]
fn nobody_comes_in_to_what_is_not_served() {
    in_net(|net| {
        net.script("hello", HELLO);
        net.write("conf", service("hello", 9901, "server = /run/test/hello; onli_from = 127.0.0.2"));
        let (status, said) = matches(net, "hello", "127.0.0.1");
        assert!(said.contains("hello: refused to 127.0.0.1\n  not served: "), "{said}");
        assert_eq!(status, 1);
    });
}

/// As nobody would be served then.
#[test]
fn nobody_comes_in_where_the_file_cannot_be_used() {
    in_net(|net| {
        assert_eq!(matches(net, "hello", "127.0.0.1").0, 1);
        net.script("hello", HELLO);
        let conf = "defaults\n{\n\tonly_from = 127.0.0.\n}\n".to_owned()
            + &service("hello", 9901, "server = /run/test/hello");
        net.write("conf", conf);
        let (status, said) = matches(net, "hello", "127.0.0.1");
        assert!(!said.contains("granted") && said.contains("/run/test/conf:3:"), "{said}");
        assert_eq!(status, 1);
    });
}

#[test]
fn what_cannot_be_carried_out_is_refused() {
    in_net(|net| {
        net.script("hello", HELLO);
        let conf = service("hello", 9901, "server = /run/test/hello; libwrap = in.hello")
            + &service("nobodys", 9902, "server = /run/test/hello; libwrap = in.other; user = nobody");
        net.write("conf", conf);
        net.write("/etc/hosts.allow", "in.hello: ALL: user nosuchuser\nin.other: ALL: user daemon\n");
        let (status, said) = matches(net, "hello", "127.0.0.1");
        assert!(
            said.contains("refused by /etc/hosts.allow:1:16: ") && said.contains("a user who does not"),
            "{said}"
        );
        assert_eq!(status, 1);
        let (status, said) = matches(net, "nobodys", "127.0.0.1");
        assert!(said.contains("    but what stands there changes user or group"), "{said}");
        assert_eq!(status, 1);
    });
}

#[test]
fn idonly_wants_a_user() {
    in_net(|net| {
        net.script("hello", HELLO);
        net.write("conf", service("hello", 9901, "server = /run/test/hello; flags = IDONLY"));
        let (status, said) = matches(net, "hello", "127.0.0.1");
        assert!(said.contains("  IDONLY: kept out, "), "{said}");
        assert_eq!(status, 1);
        let (status, said) = matches(net, "hello", "joe@127.0.0.1");
        assert!(said.contains("  IDONLY: let in as joe\n"), "{said}");
        assert_eq!(status, 0);
    });
}

/// It was cut where the options of a rule were longer than a buffer of ours.
#[test]
fn long_rules_are_told_whole() {
    in_net(|net| {
        net.script("hello", HELLO);
        net.write("conf", service("hello", 9901, "server = /run/test/hello; libwrap = in.hello"));
        let long = "x".repeat(1900);
        net.write("/etc/hosts.allow", format!("in.hello: ALL: setenv LONG {long}\n"));
        let (status, said) = matches(net, "hello", "127.0.0.1");
        assert!(said.contains(&format!("    setenv LONG {long}\n")) && said.contains("limits"), "{said}");
        assert_eq!(status, 0);
    });
}

#[test]
fn rules_of_hosts_allow_are_told_with_their_options() {
    in_net(|net| {
        lines(net);
        net.write("/etc/hosts.allow", "# first\nin.hello: 127.0.0.1: setenv A b: spawn echo %a\n");
        net.write("/etc/hosts.deny", "in.hello: 127.0.0.2: twist echo no\nin.hello: ALL\n");
        let (status, said) = matches(net, "hello", "127.0.0.1");
        assert!(
            said.contains("  hosts.allow, hosts.deny: granted by /etc/hosts.allow:2\n    setenv A b\n    spawn echo %a\n"),
            "{said}"
        );
        assert_eq!(status, 0);
        let (_, said) = matches(net, "hello", "127.0.0.2");
        assert!(said.contains("delegated by /etc/hosts.deny:1\n    twist echo no\n"), "{said}");
        let (status, said) = matches(net, "hello", "127.0.0.3");
        assert!(said.contains("refused by /etc/hosts.deny:2\n"), "{said}");
        assert_eq!(status, 1);
        // By the daemon's name, as tcpdmatch(8) takes it.
        let (status, said) = matches(net, "in.hello", "127.0.0.3");
        assert!(said.starts_with("hello: refused to 127.0.0.3\n"), "{said}");
        assert_eq!(status, 1);
        // Not asked where the service says so.
        let (status, said) = asks(net, &["-match", "timed", "127.0.0.3", "-at", "09:00"]);
        assert!(said.contains("hosts.allow, hosts.deny: not asked for this service\n"), "{said}");
        assert_eq!(status, 0);
    });
}

#[test]
fn users_servers_and_words_can_be_given() {
    in_net(|net| {
        lines(net);
        net.write("/etc/hosts.allow", "in.hello@127.0.0.5: joe@ALL\nin.hello: PARANOID\n");
        net.write("/etc/hosts.deny", "ALL: ALL\n");
        assert_eq!(matches(net, "hello@127.0.0.5", "joe@127.0.0.1").0, 0);
        assert_eq!(matches(net, "hello@127.0.0.5", "eve@127.0.0.1").0, 1);
        assert_eq!(matches(net, "hello@127.0.0.6", "joe@127.0.0.1").0, 1);
        assert_eq!(matches(net, "hello", "127.0.0.1").0, 1);
        // As the client of no rule of the service's own: they are about addresses.
        assert_eq!(matches(net, "sshd", "paranoid").0, 1);
        net.write("/etc/hosts.allow", "ALL: PARANOID\n");
        assert_eq!(matches(net, "sshd", "paranoid").0, 0);
        assert_eq!(matches(net, "sshd", "unknown").0, 1);
    });
}

#[test]
fn a_time_can_be_given() {
    in_net(|net| {
        lines(net);
        let at = |time: &str| asks(net, &["-match", "timed", "127.0.0.1", "-at", time]);
        for (time, status, said) in [
            ("08:00", 0, "access_times: 8:00 is one of them"),
            ("12:30", 0, "access_times: 12:30 is one of them"),
            ("12:31", 1, "access_times: 12:31 is none of them"),
            ("7:59", 1, "access_times: 7:59 is none of them"),
        ] {
            let (code, all) = at(time);
            assert!(all.contains(said) && code == status, "{time}: {code} {all}");
        }
        assert_eq!(at("25:00").0, 2);
        assert_eq!(at("noon").0, 2);
    });
}

#[test]
fn names_are_looked_up_as_they_would_be_then() {
    in_net(|net| {
        lines(net);
        let _names = NameServer::start(
            net,
            &[
                "PTR 127.0.0.10 a.example.org",
                "A a.example.org 127.0.0.10",
                "A two.example.org 127.0.0.10",
                "A two.example.org 127.0.0.11",
                "PTR 127.0.0.12 liar.example.org",
                "A liar.example.org 127.0.0.99",
            ],
        );
        let (status, said) = matches(net, "named", "127.0.0.10");
        assert!(
            said.starts_with("named: granted to 127.0.0.10 (a.example.org)\n  its name is a.example.org\n"),
            "{said}"
        );
        assert_eq!(status, 0);
        let (status, said) = matches(net, "named", "127.0.0.12");
        assert!(said.contains("its name does not lead back to it\n"), "{said}");
        assert_eq!(status, 1);
        let (status, said) = matches(net, "named", "127.0.0.13");
        assert!(said.contains("it has no name\n"), "{said}");
        assert_eq!(status, 1);
        // A client by its name: one answer for each address, and all of them count.
        let (status, said) = matches(net, "named", "two.example.org");
        assert!(
            said.contains("named: granted to 127.0.0.10") && said.contains("named: refused to 127.0.0.11"),
            "{said}"
        );
        assert_eq!(status, 1);
        let (status, said) = matches(net, "named", "nobody.example.org");
        assert_eq!((status, said.as_str()), (2, "nobody.example.org: no address of that name is found\n"));
    });
}

#[test]
fn a_service_that_is_not_there_is_a_daemon_of_hosts_allow() {
    in_net(|net| {
        lines(net);
        net.write("/etc/hosts.deny", "sshd: 127.0.0.9\n");
        let (status, said) = matches(net, "sshd", "127.0.0.9");
        assert!(
            said.starts_with("no service is named sshd; as a daemon of /etc/hosts.allow and /etc/hosts.deny:\nsshd: refused to 127.0.0.9\n"),
            "{said}"
        );
        assert_eq!(status, 1);
        assert_eq!(matches(net, "sshd", "127.0.0.8").0, 0);
    });
}

#[test]
fn a_silent_name_server_does_not_hold_it_for_ever() {
    in_net(|net| {
        lines(net);
        let _names = NameServer::start(net, &["PTR 127.0.0.10 SILENCE"]);
        let begin = Instant::now();
        assert_eq!(matches(net, "named", "127.0.0.10").0, 1);
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    });
}

/// Whatever it says of an address, the daemon does.
#[test]
fn the_daemon_does_what_it_says() {
    in_net(|net| {
        lines(net);
        net.write("/etc/hosts.allow", "in.hello: 127.0.0.2 127.0.0.16/28 EXCEPT 127.0.0.20\n");
        net.write("/etc/hosts.deny", "in.hello: 127.0.0.0/255.255.255.192\n");
        let file = "/run/test/conf".into();
        let _daemon = Daemon::start_with(net, Subject::Usherd, file, &[]).ready(&["tcp/9901"]);
        for n in [1, 2, 3, 8, 16, 19, 20, 31, 32, 63, 64, 66, 200] {
            let source = format!("127.0.0.{n}");
            let (status, said) = matches(net, "hello", &source);
            let heard = text(&read_to_end(&mut tcp_from(&format!("{source}:0"), "127.0.0.1:9901")));
            assert_eq!(status == 0, heard == "hello\n", "{source}: {said}");
        }
    });
}

// ---- -t ----

/// The warnings and errors of a check.
fn check(net: &Net, conf: &str) -> (i32, String) {
    net.script("hello", HELLO);
    net.write("conf", conf);
    asks(net, &["-t"])
}

#[test]
fn a_check_tells_of_networks_that_mean_more_or_less_than_they_say() {
    in_net(|net| {
        let conf = service(
            "hello",
            9901,
            "server = /run/test/hello; only_from = 192.0.2.5/24 10.0.0.0/8 10.1.0.0/16",
        );
        let (status, said) = check(net, &conf);
        println!("{said}");
        assert_eq!(status, 0);
        assert!(said.contains("/run/test/conf:9:"), "{said}");
        assert!(said.contains("192.0.2.5/24"), "{said}");
        assert!(said.contains("10.1.0.0/16"), "{said}");
    });
}

#[test]
fn a_check_reads_hosts_allow_and_hosts_deny() {
    in_net(|net| {
        net.write("/etc/hosts.allow", "hello: 10.1.2.3/24\nnodaemon: ALL\nhello: ALL\nhello: 127.0.0.1\n");
        net.write("/etc/hosts.deny", "hello: ALL: nonsense\n");
        let (status, said) = check(net, &service("hello", 9901, "server = /run/test/hello; libwrap = hello"));
        println!("{said}");
        for place in
            ["/etc/hosts.allow:1:", "/etc/hosts.allow:2:", "/etc/hosts.allow:4:", "/etc/hosts.deny:1:"]
        {
            assert!(said.contains(place), "{place} in\n{said}");
        }
        assert!(said.contains("nodaemon"), "{said}");
        assert_eq!(status, 1, "a mistake that refuses is an error");
    });
}

#[test]
fn a_check_tells_of_names_without_an_address() {
    in_net(|net| {
        let _names = NameServer::start(net, &["A here.example.org 127.0.0.1"]);
        let conf = service(
            "hello",
            9901,
            "server = /run/test/hello; only_from = gone.example.org here.example.org two.test",
        );
        let (status, said) = check(net, &conf);
        println!("{said}");
        assert_eq!(status, 0);
        assert!(said.contains("gone.example.org"), "{said}");
        assert!(!said.contains("`here.example.org`") && !said.contains("two.test"), "{said}");
    });
}
