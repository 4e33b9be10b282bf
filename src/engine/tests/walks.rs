//! Clients of whom something has to be found out, and clients that are led elsewhere.

use super::*;
use crate::capacity::NAMES;

const NS: &str = "ask 127.0.0.1:53";

// Names.

#[test]
fn a_name_is_looked_up_while_its_client_waits() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&[".example.org", "10.0.0.0/8"])]);
    sim.knows_host("192.0.2.1", "host.example.org");
    sim.client("192.0.2.1").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        &format!("{NS} PTR 1.2.0.192.in-addr.arpa"),
        &format!("{NS} A host.example.org"),
        "spawn ssh pid=1",
        "record START: ssh pid=1 from=192.0.2.1",
    ]);
    // Known by now: nobody is asked. And for an address that a network lets in nobody ever is.
    sim.client("192.0.2.1").connects("ssh");
    sim.client("10.1.2.3").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "spawn ssh pid=2",
        "record START: ssh pid=2 from=192.0.2.1",
        "accept ssh 10.1.2.3",
        "spawn ssh pid=3",
        "record START: ssh pid=3 from=10.1.2.3",
    ]);
    sim.check_quiet();
}

#[test]
fn who_has_no_name_or_a_false_one_is_refused() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&[".example.org"])]);
    sim.knows_name("PTR", "1.2.0.192.in-addr.arpa", "host.example.org");
    sim.knows_name("A", "host.example.org", "192.0.2.200");
    let liar = sim.client("192.0.2.1").connects("ssh");
    let nameless = sim.client("192.0.2.2").connects("ssh");
    assert_eq!((sim.sees(liar), sim.sees(nameless)), (Sight::Eof, Sight::Eof));
    let lines = sim.transcript();
    assert!(lines.contains(&"record FAIL: ssh address from=192.0.2.1".into()), "{lines:?}");
    assert!(lines.contains(&"record FAIL: ssh address from=192.0.2.2".into()), "{lines:?}");
    sim.check_quiet();
}

#[test]
fn a_name_server_that_keeps_silent_holds_up_its_own_client_alone() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&[".example.org", "10.0.0.0/8"])]);
    sim.silences_names(true);
    let waits = sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.sees(waits), Sight::Taken);
    assert_eq!((sim.running("ssh"), sim.engine.waiting().count()), (1, 1));
    sim.transcript();
    sim.client("10.0.0.1").connects("ssh");
    sim.expect(&["accept ssh 10.0.0.1", "spawn ssh pid=1", "record START: ssh pid=1 from=10.0.0.1"]);
    sim.passes_s(1);
    assert_eq!(sim.sees(waits), Sight::Taken);
    sim.passes_s(5);
    assert_eq!(sim.sees(waits), Sight::Eof);
    let lines = sim.transcript();
    assert_eq!(lines.iter().filter(|line| line.starts_with("record")).count(), 1);
    assert!(lines.contains(&"record FAIL: ssh address from=192.0.2.1".into()), "{lines:?}");
    assert_eq!(sim.engine.waiting().count(), 0);
    sim.check_quiet();
}

#[test]
fn one_address_waits_in_its_own_share() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&[".example.org"])]);
    sim.knows_host("192.0.2.2", "host.example.org");
    sim.silences_names(true);
    let all: Vec<Connection> = (0..WAITING).map(|_| sim.client("192.0.2.1").connects("ssh")).collect();
    let waiting = all.iter().filter(|at| sim.sees(**at) == Sight::Taken).count();
    assert_eq!(waiting, WAITING / 8);
    assert!(sim.transcript().contains(&"record FAIL: ssh lookup_limit from=192.0.2.1".into()));
    // All of them wait for one look-up, and another address still has its place.
    let asked = sim.asked().len();
    let other = sim.client("192.0.2.2").connects("ssh");
    assert_eq!((sim.sees(other), sim.asked().len()), (Sight::Taken, asked + 1));
    sim.silences_names(false);
    assert!(sim.transcript().contains(&"record START: ssh pid=1 from=192.0.2.2".into()));
    sim.check_quiet();
}

#[test]
fn who_waits_counts_among_the_clients() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&[".example.org"]).instances(2).per_source(1)]);
    sim.knows_host("192.0.2.1", "a.example.org");
    sim.knows_host("192.0.2.2", "b.example.org");
    sim.silences_names(true);
    sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.2").connects("ssh");
    sim.client("192.0.2.3").connects("ssh");
    let records: Vec<String> = sim.transcript().into_iter().filter(|l| l.starts_with("record")).collect();
    assert_eq!(
        records,
        ["record FAIL: ssh per_source_limit from=192.0.2.1", "record FAIL: ssh service_limit from=192.0.2.3",]
    );
    sim.silences_names(false);
    assert_eq!((sim.running("ssh"), sim.alive().len()), (2, 2));
    sim.check_quiet();
}

/// His name was asked for before it turned out that there was no room for him.
#[test]
fn who_has_no_room_costs_nobody_a_question() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&["10.0.0.0/8", ".example.org"]).instances(1)]);
    sim.client("10.0.0.1").connects("ssh");
    let before = sim.asked().len();
    for n in 2..100 {
        sim.client(&format!("192.0.2.{n}")).connects("ssh");
    }
    assert_eq!((sim.asked().len(), sim.engine.waiting().count()), (before, 0));
    assert!(sim.transcript().contains(&"record FAIL: ssh service_limit from=192.0.2.99".into()));
    sim.check_quiet();
}

/// Whoever sends datagrams in others' names took all look-ups there are.
#[test]
fn look_ups_for_datagrams_leave_half_to_connections() {
    let mut sim = serving(&[
        udp("talk", 518).wait().only_from(&[".example.org"]),
        tcp("ssh", 22).only_from(&[".example.org"]),
    ]);
    sim.knows_host("192.0.2.1", "host.example.org");
    sim.silences_names(true);
    for n in 0..2 * NAMES {
        sim.client(&format!("198.51.100.{n}")).sends("talk", b"hello");
    }
    assert_eq!(sim.asked().len(), NAMES / 2);
    let c = sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.sees(c), Sight::Taken);
    sim.silences_names(false);
    assert!(sim.transcript().contains(&"record START: ssh pid=1 from=192.0.2.1".into()));
}

/// One IPv6 /64 has as many addresses as it likes, each with a name that takes long to find.
#[test]
fn look_ups_of_one_network_leave_the_rest_to_others() {
    let mut sim = serving(&[udp("talk", 518).wait().only_from(&[".example.org"])]);
    sim.silences_names(true);
    for n in 0..NAMES {
        sim.client(&format!("2001:db8::{n:x}")).sends("talk", b"hello");
    }
    assert_eq!(sim.asked().len(), NAMES / 8);
    sim.client("2001:db8:0:1::1").sends("talk", b"hello");
    assert_eq!(sim.asked().len(), NAMES / 8 + 1);
}

#[test]
fn a_flood_that_a_name_refuses_does_not_trip_cps() {
    let mut sim = serving(&[tcp("ssh", 22).no_access(&[".evil"]).cps(3, 10)]);
    sim.knows_host("192.0.2.66", "host.evil");
    sim.knows_host("192.0.2.1", "host.good");
    for _ in 0..20 {
        sim.client("192.0.2.66").connects("ssh");
    }
    assert_eq!(sim.state("ssh"), Some(State::Listening));
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.alive().len(), 1);
    sim.check_quiet();
}

#[test]
fn a_datagram_does_not_wait_for_a_name() {
    let mut sim = serving(&[udp("talk", 518).wait().only_from(&[".example.org"])]);
    sim.knows_host("192.0.2.1", "host.example.org");
    sim.client("192.0.2.1").sends("talk", b"hello");
    let lines = sim.transcript();
    assert!(lines.contains(&"record FAIL: talk name_pending from=192.0.2.1".into()), "{lines:?}");
    sim.client("192.0.2.1").sends("talk", b"hello?");
    assert!(sim.transcript().contains(&"record START: talk pid=1 from=192.0.2.1".into()));
}

#[test]
fn a_reload_does_not_lose_who_waits() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&[".example.org"])]);
    sim.knows_host("192.0.2.1", "host.example.org");
    sim.silences_names(true);
    let a = sim.client("192.0.2.1").connects("ssh");
    // A place before it in the table, and rules that let everybody of another domain in.
    reload(&mut sim, &[tcp("pop", 110), tcp("ssh", 22).only_from(&[".example.net"])]);
    assert_eq!((sim.running("ssh"), sim.running("pop")), (1, 0));
    sim.silences_names(false);
    assert_eq!(sim.sees(a), Sight::Eof);
    let b = sim.client("192.0.2.1").connects("pop");
    assert_eq!(sim.sees(b), Sight::Taken);
    // A service that goes takes those who wait with it, whoever they turn out to be.
    sim.knows_host("192.0.2.7", "host.example.net");
    sim.silences_names(true);
    let c = sim.client("192.0.2.7").connects("ssh");
    assert_eq!(sim.sees(c), Sight::Taken);
    reload(&mut sim, &[tcp("pop", 110)]);
    sim.silences_names(false);
    assert_eq!((sim.sees(c), sim.alive().len()), (Sight::Eof, 1));
    assert_eq!(sim.engine.waiting().count(), 0);
}

#[test]
fn the_end_of_the_daemon_is_the_end_of_waiting() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&[".example.org"])]);
    sim.silences_names(true);
    let a = sim.client("192.0.2.1").connects("ssh");
    sim.terminates();
    assert_eq!(sim.sees(a), Sight::Eof);
    assert_eq!(sim.engine.running(), 0);
}

// Users.

#[test]
fn idonly_asks_before_the_server_starts() {
    let mut sim = serving(&[tcp("ssh", 22).flag(Flags::IDONLY).success(LogFields::USERID)]);
    let c = sim.client("192.0.2.1").port(6191).connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "connect 192.0.2.1:113 from 198.51.100.1",
        "open 113 192.0.2.1, waits for room",
    ]);
    let identd = sim.dialled(113);
    sim.picks_up(identd);
    assert_eq!(sim.heard(identd), b"6191,22\r\n");
    sim.transcript();
    sim.says(identd, b"6191, 22 : USERID : UN");
    sim.expect(&[]);
    sim.says(identd, b"IX : joe\r\n");
    sim.expect(&[
        "close 113 192.0.2.1",
        "record USERID: ssh UNIX : joe",
        "spawn ssh pid=1",
        "record START: ssh pid=1 from=192.0.2.1",
    ]);
    assert_eq!(sim.sees(c), Sight::Taken);
    sim.check_quiet();
}

#[test]
fn idonly_refuses_who_is_nobody() {
    let mut sim = serving(&[tcp("ssh", 22).flag(Flags::IDONLY)]);
    let no = |sim: &mut Simulation, why: &str, script: &dyn Fn(&mut Simulation, Connection)| {
        sim.transcript();
        let c = sim.client("192.0.2.1").port(6191).connects("ssh");
        let identd = sim.dialled(113);
        script(sim, identd);
        let lines = sim.transcript();
        assert!(lines.contains(&format!("record NOID: ssh 192.0.2.1 {why}")), "{lines:?}");
        assert!(lines.contains(&"record FAIL: ssh identity from=192.0.2.1".into()), "{lines:?}");
        assert_eq!(sim.sees(c), Sight::Eof);
        sim.check_quiet();
    };
    no(&mut sim, "no server", &|sim, identd| sim.hangs_up(identd, Errno::CONNREFUSED));
    no(&mut sim, "timeout", &|sim, _| sim.passes_s(6));
    no(&mut sim, "bad response", &|sim, identd| {
        sim.picks_up(identd);
        sim.says(identd, b"6191, 22 : ERROR : NO-USER\r\n");
    });
    no(&mut sim, "bad response", &|sim, identd| {
        sim.picks_up(identd);
        sim.half_closes(identd);
    });
    // A server that sends without end is not listened to without end.
    no(&mut sim, "bad response", &|sim, identd| {
        sim.picks_up(identd);
        sim.says(identd, &[b'x'; 4096]);
    });
    // One that trickles has its time, no more.
    no(&mut sim, "timeout", &|sim, identd| {
        sim.picks_up(identd);
        for _ in 0..6 {
            sim.says(identd, b"6");
            sim.passes_s(1);
        }
    });
}

#[test]
fn a_user_for_the_log_holds_up_nobody() {
    let mut sim =
        serving(&[tcp("ssh", 22).success(LogFields::USERID).failure(LogFields::USERID).instances(1)]);
    sim.client("192.0.2.1").port(6191).connects("ssh");
    assert_eq!(sim.alive(), [1]);
    let identd = sim.dialled(113);
    sim.transcript();
    sim.picks_up(identd);
    sim.says(identd, b"6191,22:USERID:UNIX:joe\r\n");
    assert!(sim.transcript().contains(&"record USERID: ssh UNIX:joe".into()));
    let refused = sim.client("192.0.2.2").port(6192).connects("ssh");
    assert_eq!(sim.sees(refused), Sight::Eof);
    let identd = sim.dialled(113);
    sim.picks_up(identd);
    sim.says(identd, b"6192,22:USERID:UNIX:eve\r\n");
    assert!(sim.transcript().contains(&"record USERID: ssh UNIX:eve".into()));
    // More questions than there is room for, or than one address may have: the log goes without.
    for _ in 0..IDENTS {
        sim.client("192.0.2.3").connects("ssh");
    }
    assert_eq!(sim.engine.outgoing(), IDENTS / 4);
    for n in 0..2 * IDENTS {
        sim.client(&format!("198.51.100.{}", 100 + n)).connects("ssh");
    }
    assert_eq!(sim.engine.outgoing(), IDENTS);
    sim.passes_s(6);
    assert_eq!(sim.engine.outgoing(), 0);
    sim.check_quiet();
}

#[test]
fn a_question_for_the_log_makes_room_for_a_client_who_waits() {
    let mut sim = serving(&[tcp("ssh", 22).success(LogFields::USERID), tcp("rsh", 514).flag(Flags::IDONLY)]);
    for n in 0..IDENTS {
        sim.client(&format!("198.51.100.{}", 100 + n)).connects("ssh");
    }
    assert_eq!(sim.engine.outgoing(), IDENTS);
    sim.transcript();
    let c = sim.client("192.0.2.1").port(6191).connects("rsh");
    let lines = sim.transcript();
    assert!(lines.contains(&"close 113 198.51.100.100".into()), "{lines:?}");
    assert_eq!((sim.engine.outgoing(), sim.sees(c)), (IDENTS, Sight::Taken));
    let identd = sim.dialled(113);
    sim.picks_up(identd);
    sim.says(identd, b"6191,514:USERID:UNIX:joe\r\n");
    assert!(sim.transcript().iter().any(|line| line.starts_with("record START: rsh")));
    // Of those who wait none makes room for another.
    for n in 0..IDENTS + 1 {
        sim.client(&format!("192.0.2.{}", 10 + n)).connects("rsh");
    }
    let lines = sim.transcript();
    assert_eq!(lines.iter().filter(|line| line.starts_with("record NOID")).count(), 1, "{lines:?}");
    assert_eq!(sim.engine.outgoing(), IDENTS);
    sim.passes_s(6);
    assert_eq!(sim.engine.outgoing(), 0);
    sim.check_quiet();
}

// redirect.

#[test]
fn a_redirected_client_talks_to_another_host() {
    let mut sim = serving(&[tcp("web", 80).redirects("2001:db8::7", 8080).success(LogFields::TRAFFIC)]);
    let c = sim.client("192.0.2.1").connects("web");
    sim.expect(&[
        "accept web 192.0.2.1",
        "record START: web pid=0 from=192.0.2.1",
        "connect [2001:db8::7]:8080",
        "open web 192.0.2.1, is over",
        "open 8080 2001:db8::7, waits for room",
    ]);
    // What is sent before the other host has answered is not lost.
    sim.says(c, b"GET /");
    let far = sim.dialled(8080);
    sim.picks_up(far);
    assert_eq!(sim.heard(far), b"GET /");
    // A client that has sent its request gets the answer.
    sim.half_closes(c);
    assert_eq!(sim.sees(far), Sight::Finished);
    sim.says(far, b"200 OK");
    assert_eq!(sim.heard(c), b"200 OK");
    sim.passes_s(3);
    sim.half_closes(far);
    assert_eq!((sim.sees(c), sim.sees(far)), (Sight::Eof, Sight::Eof));
    let lines = sim.transcript();
    assert_eq!(
        lines.get(lines.len() - 2..).unwrap(),
        [
            "record EXIT: web status=0 pid=0 duration=3(sec) from=192.0.2.1",
            "record TRAFFIC: web in=5(bytes) out=6(bytes)",
        ]
    );
    assert_eq!(sim.engine.running(), 0);
    sim.check_quiet();
}

#[test]
fn a_slow_reader_of_a_relay_costs_its_socket_alone() {
    let mut sim = serving(&[tcp("web", 80).redirects("192.0.2.80", 8080)]);
    let c = sim.client("192.0.2.1").pace(Pace::WhenTold).connects("web");
    let far = sim.dialled(8080);
    sim.picks_up(far);
    let long: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    sim.says(far, &long);
    sim.half_closes(far);
    // And the other way goes on meanwhile.
    sim.says(c, b"still here?");
    assert_eq!(sim.heard(far), b"still here?");
    sim.sets_pace(c, Pace::PerMs(1000));
    sim.passes_ms(300);
    assert!(sim.heard(c) == long);
    assert_eq!(sim.sees(c), Sight::Finished);
    sim.half_closes(c);
    assert_eq!(sim.engine.running(), 0);
    sim.check_quiet();
}

#[test]
fn a_host_that_is_not_there_ends_its_client() {
    let mut sim = serving(&[tcp("web", 80).redirects("192.0.2.80", 8080)]);
    let c = sim.client("192.0.2.1").connects("web");
    sim.hangs_up(sim.dialled(8080), Errno::CONNREFUSED);
    let lines = sim.transcript();
    let said = "record web: can't connect to remote host 192.0.2.80:8080: Connection refused (errno = 111)";
    assert!(lines.contains(&said.into()), "{lines:?}");
    assert_eq!(sim.sees(c), Sight::Eof);
    let c = sim.client("192.0.2.1").connects("web");
    sim.passes_s(31);
    assert_eq!(sim.sees(c), Sight::Eof);
    assert!(sim.transcript().iter().any(|line| line.contains("timed out")));
    // A client that leaves first takes the attempt with it.
    let c = sim.client("192.0.2.1").connects("web");
    sim.vanishes(c);
    assert_eq!(sim.engine.running(), 0);
    sim.fails_next(Call::Connect, Errno::MFILE);
    let c = sim.client("192.0.2.1").connects("web");
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.check_quiet();
}

#[test]
fn a_broken_side_ends_a_relay_when_the_rest_is_delivered() {
    let mut sim = serving(&[tcp("web", 80).redirects("192.0.2.80", 8080)]);
    let c = sim.client("192.0.2.1").connects("web");
    let far = sim.dialled(8080);
    sim.picks_up(far);
    sim.vanishes(far);
    assert_eq!((sim.sees(c), sim.engine.running()), (Sight::Eof, 0));
    let c = sim.client("192.0.2.1").connects("web");
    let far = sim.dialled(8080);
    sim.picks_up(far);
    sim.half_closes(c);
    sim.vanishes(c);
    assert_eq!((sim.sees(far), sim.engine.running()), (Sight::Eof, 0));
    sim.check_quiet();
}

#[test]
fn a_redirect_by_name_asks_for_it() {
    let mut sim = Simulation::new();
    sim.knows_name("A", "web.example.org", "192.0.2.80");
    let fill = |table: &mut Table| {
        let name = table.push_text(b"web.example.org").unwrap();
        let target = Target { host: Host::Name(name), port: 8080 };
        tcp("web", 80).answers(Answer::Redirect(target)).push(table);
    };
    sim.reload(fill);
    let c = sim.client("192.0.2.1").connects("web");
    sim.picks_up(sim.dialled(8080));
    sim.says(c, b"x");
    assert_eq!(sim.heard(sim.dialled(8080)), b"x");
    // Where nobody knows the name.
    let mut sim = Simulation::new();
    sim.reload(fill);
    let c = sim.client("192.0.2.1").connects("web");
    sim.passes_s(6);
    assert_eq!(sim.sees(c), Sight::Eof);
    let lines = sim.transcript();
    assert!(lines.iter().any(|line| line.contains("web.example.org: no address")), "{lines:?}");
    sim.check_quiet();
}

// What a rule of hosts.allow says of the record.

#[test]
fn the_severity_of_a_rule_is_that_of_whoever_it_lets_in() {
    let mut sim = Simulation::new();
    assert!(sim.engine.set_hosts(b"/etc/hosts.allow", b"/etc/hosts.deny", 7, true));
    // Every service has its own name as its daemon here.
    let rules = "ALL: 192.0.2.1: severity local5.debug\nALL: 192.0.2.2: severity crit\n";
    sim.has_file("/etc/hosts.allow", rules);
    sim.has_file("/etc/hosts.deny", "ALL: ALL\n");
    sim.knows_name("A", "web.example.org", "192.0.2.80");
    sim.reload(|table| {
        tcp("ssh", 22).wrapped().push(table);
        tcp("echo", 7).answers(Answer::Builtin(Builtin::Echo)).wrapped().push(table);
        tcp("open", 8).answers(Answer::Builtin(Builtin::Echo)).push(table);
        let name = table.push_text(b"web.example.org").unwrap();
        let target = Target { host: Host::Name(name), port: 8080 };
        tcp("web", 80).answers(Answer::Redirect(target)).wrapped().push(table);
    });
    let mut starts = |source: &str, service: &str| {
        sim.transcript();
        sim.client(source).connects(service);
        let lines = sim.transcript();
        let start = lines.into_iter().find(|line| line.starts_with("record START"));
        start.and_then(|line| line.split_once(" as ").map(|(_, severity)| String::from(severity)))
    };
    for service in ["ssh", "echo", "web"] {
        assert_eq!(starts("192.0.2.1", service).as_deref(), Some("Some(21) 7"), "{service}");
        assert_eq!(starts("192.0.2.2", service).as_deref(), Some("None 2"), "{service}");
    }
    // Nothing of it stays for services that are not wrapped.
    assert_eq!(starts("192.0.2.2", "open"), None);
}

// tcpmux.

fn mux() -> Vec<Draft> {
    vec![
        tcp("tcpmux", 1).answers(Answer::Tcpmux),
        tcp("uptime", 0).flag(Flags::MUX).flag(Flags::MUX_PLUS).only_from(&["192.0.2.0/24"]),
        tcp("raw", 0).flag(Flags::MUX).instances(1),
    ]
}

#[test]
fn tcpmux_hands_its_client_on_with_every_byte() {
    let mut sim = serving(&mux());
    let c = sim.client("192.0.2.1").connects("tcpmux");
    sim.transcript();
    sim.says(c, b"UpTi");
    sim.says(c, b"me\r\nand more");
    sim.expect(&[
        "record EXIT: tcpmux status=0 pid=0 duration=0(sec) from=192.0.2.1",
        "tell tcpmux 192.0.2.1 \"+Go\\r\\n\"",
        "hand over tcpmux 192.0.2.1",
        "spawn uptime pid=1",
        "record START: uptime pid=1 from=192.0.2.1",
    ]);
    assert_eq!(sim.heard(c), b"+Go\r\n");
    assert_eq!(sim.unread(c), b"and more");
    assert_eq!((sim.running("tcpmux"), sim.running("uptime")), (0, 1));
    sim.exits(1, 0);
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.check_quiet();
}

#[test]
fn what_tcpmux_leads_to_has_rules_and_limits_of_its_own() {
    let mut sim = serving(&mux());
    let stranger = sim.client("198.51.100.9").connects("tcpmux");
    sim.says(stranger, b"uptime\r\n");
    assert_eq!(sim.heard(stranger), b"-Service not available\r\n");
    assert_eq!(sim.sees(stranger), Sight::Eof);
    assert!(sim.transcript().contains(&"record FAIL: uptime address from=198.51.100.9".into()));
    let first = sim.client("198.51.100.9").connects("tcpmux");
    sim.says(first, b"raw\r\n");
    assert_eq!((sim.heard(first), sim.sees(first)), (vec![], Sight::Taken));
    let second = sim.client("198.51.100.9").connects("tcpmux");
    sim.says(second, b"raw\n");
    assert_eq!(sim.heard(second), b"-Service not available\r\n");
    assert!(sim.transcript().contains(&"record FAIL: raw service_limit from=198.51.100.9".into()));
    sim.check_quiet();
}

#[test]
fn tcpmux_answers_help_and_nonsense() {
    let mut sim = serving(&[mux(), vec![tcp("ssh", 22)]].concat());
    let answer = |sim: &mut Simulation, line: &[u8]| {
        let c = sim.client("192.0.2.1").connects("tcpmux");
        sim.says(c, line);
        assert_eq!(sim.sees(c), Sight::Eof);
        sim.heard(c)
    };
    assert_eq!(answer(&mut sim, b"HELP\r\n"), b"uptime\r\nraw\r\n");
    // xinetd once led to every service this way (CVE-2012-0862).
    assert_eq!(answer(&mut sim, b"ssh\r\n"), b"-Service name not found\r\n");
    assert_eq!(answer(&mut sim, b"\r\n"), b"-Service name not found\r\n");
    assert_eq!(answer(&mut sim, &[b'x'; 100]), b"-Error reading service name\r\n");
    let silent = sim.client("192.0.2.1").connects("tcpmux");
    sim.says(silent, b"upti");
    sim.passes_s(9);
    assert_eq!(sim.sees(silent), Sight::Taken);
    sim.passes_s(2);
    assert_eq!(sim.sees(silent), Sight::Eof);
    let gone = sim.client("192.0.2.1").connects("tcpmux");
    sim.half_closes(gone);
    assert_eq!(sim.engine.running(), 0);
    sim.check_quiet();
}

#[test]
fn a_name_is_asked_for_behind_tcpmux_too() {
    let mut sim = serving(&[
        tcp("tcpmux", 1).answers(Answer::Tcpmux),
        tcp("uptime", 0).flag(Flags::MUX).flag(Flags::MUX_PLUS).only_from(&[".example.org"]),
    ]);
    sim.knows_host("192.0.2.1", "host.example.org");
    let c = sim.client("192.0.2.1").connects("tcpmux");
    sim.says(c, b"uptime\r\n");
    assert_eq!((sim.heard(c), sim.alive().len()), (b"+Go\r\n".to_vec(), 1));
    sim.check_quiet();
}

// Sensors.

#[test]
fn a_sensor_keeps_its_client_out_of_everything() {
    let time = DenyTime::Minutes(1);
    let mut sim = serving(&[
        tcp("trap", 23).answers(Answer::Sensor(time)).no_access(&["192.0.2.100/32"]),
        tcp("ssh", 22),
        udp("echo", 7).is(Builtin::Echo),
    ]);
    let c = sim.client("192.0.2.1").connects("trap");
    assert_eq!(sim.sees(c), Sight::Eof);
    let lines = sim.transcript();
    let said = "record trap: adding 192.0.2.1 to the global_no_access list for 1 minutes";
    assert!(lines.contains(&said.into()), "{lines:?}");
    sim.client("192.0.2.1").connects("ssh");
    assert!(sim.transcript().contains(&"record FAIL: ssh address from=192.0.2.1".into()));
    sim.client("192.0.2.1").sends("echo", b"x");
    assert!(sim.replies().is_empty());
    sim.client("192.0.2.2").connects("ssh");
    assert_eq!(sim.alive(), [1]);
    // It outlives a reload, and ends in time.
    reload(&mut sim, &[tcp("ssh", 22)]);
    sim.passes_s(58);
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.alive(), [1]);
    sim.passes_s(2);
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.alive(), [1, 2]);
}

#[test]
fn a_datagram_keeps_nobody_out() {
    let mut sim = serving(&[udp("trap", 69).answers(Answer::Sensor(DenyTime::Forever)), tcp("ssh", 22)]);
    sim.client("192.0.2.1").sends("trap", b"x");
    assert!(sim.transcript().iter().any(|line| line.contains("trap: 192.0.2.1 came")));
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.alive(), [1]);
}

// recheck.

#[test]
fn a_reload_shows_out_who_may_not_be_there_any_more() {
    let mut sim = serving(&[
        tcp("ssh", 22),
        tcp("echo", 7).is(Builtin::Echo),
        tcp("web", 80).redirects("192.0.2.80", 8080),
        tcp("pop", 110),
    ]);
    for name in ["ssh", "echo", "web", "pop"] {
        sim.client("192.0.2.1").connects(name);
        sim.client("192.0.2.2").connects(name);
    }
    sim.transcript();
    let no = |draft: Draft| draft.no_access(&["192.0.2.1/32"]);
    reload(
        &mut sim,
        &[
            no(tcp("ssh", 22)).flag(Flags::RECHECK),
            no(tcp("echo", 7).is(Builtin::Echo)).flag(Flags::RECHECK),
            no(tcp("web", 80).redirects("192.0.2.80", 8080)).flag(Flags::RECHECK),
            no(tcp("pop", 110)),
        ],
    );
    let lines = sim.transcript();
    assert_eq!(lines.iter().filter(|line| line.starts_with("end ")).collect::<Vec<_>>(), ["end pid=1 TERM"]);
    let said = "record ssh: server 1 of 192.0.2.1 is told to end: address";
    assert!(lines.contains(&said.into()), "{lines:?}");
    let running = |name| sim.running(name);
    assert_eq!((running("ssh"), running("echo"), running("web"), running("pop")), (2, 1, 1, 2));
    sim.check_quiet();
}

#[test]
fn of_those_too_many_the_last_are_shown_out() {
    let mut sim = serving(&[tcp("ssh", 22)]);
    for n in 1..=4 {
        sim.client(&format!("192.0.2.{n}")).connects("ssh");
        sim.passes_s(1);
    }
    sim.transcript();
    reload(&mut sim, &[tcp("ssh", 22).instances(2).flag(Flags::RECHECK)]);
    let ended: Vec<String> = sim.transcript().into_iter().filter(|line| line.starts_with("end ")).collect();
    assert_eq!(ended, ["end pid=3 TERM", "end pid=4 TERM"]);
}
