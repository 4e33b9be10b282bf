//! hosts.allow and hosts.deny at the door: whom they let in, what they have to ask for that, and what comes with it.

use super::*;
use crate::capacity::COMMANDS;

/// Services of a daemon whose hosts.allow is this, with a hosts.deny that lets nobody else in.
fn allowing(rules: &str, drafts: &[Draft]) -> Simulation {
    let mut sim = serving(drafts);
    sim.has_file("/etc/hosts.allow", rules);
    sim.has_file("/etc/hosts.deny", "# nobody else\nALL: ALL\n");
    sim
}

fn ssh() -> Draft {
    tcp("ssh", 22).wrapped()
}

const BY_DENY: [&str; 2] = [
    "record libwrap refused connection to ssh (libwrap=ssh) from 192.0.2.2 by hosts.deny:2",
    "record FAIL: ssh libwrap from=192.0.2.2",
];

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

#[test]
fn files_decide_as_they_are_when_a_client_comes() {
    let mut sim = allowing("ssh: 192.0.2.1\n", &[ssh(), tcp("pop", 110)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.expect(&["accept ssh 192.0.2.1", "spawn ssh pid=1", "record START: ssh pid=1 from=192.0.2.1"]);
    sim.client("192.0.2.2").connects("ssh");
    sim.expect(&["accept ssh 192.0.2.2", BY_DENY[0], BY_DENY[1], "close ssh 192.0.2.2"]);
    // A service that is not wrapped has nothing to do with it.
    sim.client("192.0.2.2").connects("pop");
    assert_eq!(sim.alive(), [1, 2]);
    sim.has_file("/etc/hosts.deny", "");
    sim.client("192.0.2.2").connects("ssh");
    assert_eq!(sim.alive(), [1, 2, 3]);
    // Nothing can be read in two ways without refusing.
    sim.has_file("/etc/hosts.deny", "ssh: 192.0.2.2/24\n");
    let c = sim.client("192.0.2.2").connects("ssh");
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.check_quiet();
}

/// The resolver had forgotten the name by the time the user was given up on: the client was unknown then, not `PARANOID`,
/// and no rule was about him.
#[test]
fn a_name_stays_with_the_client_however_long_the_rest_takes() {
    let mut sim = serving(&[ssh()]);
    sim.has_file("/etc/hosts.allow", "ssh: .corp.example\nssh: backup@ALL: rfc931 90\n");
    sim.has_file("/etc/hosts.deny", "ssh: PARANOID\n");
    sim.knows_name("PTR", "1.2.0.192.in-addr.arpa", "host.example.org");
    sim.knows_name("A", "host.example.org", "192.0.2.200");
    let liar = sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.sees(liar), Sight::Taken);
    sim.passes_s(100);
    assert_eq!((sim.sees(liar), sim.alive().len()), (Sight::Eof, 0));
    assert!(has(&sim.transcript(), "record FAIL: ssh libwrap from=192.0.2.1"));
    sim.check_quiet();
}

#[test]
fn only_from_is_asked_before_them_and_limits_after() {
    let mut sim =
        allowing("ssh: ALL: spawn /bin/log %a\n", &[ssh().only_from(&["192.0.2.0/24"]).instances(1)]);
    sim.client("198.51.100.9").connects("ssh");
    sim.expect(&[
        "accept ssh 198.51.100.9",
        "record FAIL: ssh address from=198.51.100.9",
        "close ssh 198.51.100.9",
    ]);
    sim.client("192.0.2.1").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "spawn ssh pid=1 sh -c /bin/log 192.0.2.1",
        "spawn ssh pid=2",
        "record START: ssh pid=2 from=192.0.2.1",
    ]);
    // Its command runs for those who really come in.
    sim.client("192.0.2.2").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.2",
        "record FAIL: ssh service_limit from=192.0.2.2",
        "close ssh 192.0.2.2",
    ]);
    sim.check_quiet();
}

#[test]
fn a_rule_that_turns_on_a_name_lets_its_client_wait() {
    let mut sim = allowing("ssh: 192.0.2.7, .example.org\n", &[ssh()]);
    sim.knows_host("192.0.2.1", "host.example.org");
    sim.knows_name("PTR", "2.2.0.192.in-addr.arpa", "host.example.org");
    sim.silences_names(true);
    let c = sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.7").connects("ssh");
    assert_eq!((sim.sees(c), sim.engine.waiting().count(), sim.alive()), (Sight::Taken, 1, vec![1]));
    sim.silences_names(false);
    assert_eq!((sim.engine.waiting().count(), sim.alive()), (0, vec![1, 2]));
    // A name that does not lead back is none that a rule grants by.
    sim.transcript();
    sim.client("192.0.2.2").connects("ssh");
    let lines = sim.transcript();
    assert!(
        lines.ends_with(&[BY_DENY[0].into(), BY_DENY[1].into(), "close ssh 192.0.2.2".into()]),
        "{lines:?}"
    );
    sim.check_quiet();
}

#[test]
fn a_rule_that_turns_on_a_user_asks_for_him() {
    let mut sim = allowing("ssh: joe@192.0.2.2: setenv WHO %u\n", &[ssh()]);
    let comes = |sim: &mut Simulation, user: &str| {
        sim.transcript();
        let c = sim.client("192.0.2.2").port(6191).connects("ssh");
        let identd = sim.dialled(113);
        sim.picks_up(identd);
        sim.says(identd, format!("6191, 22 : USERID : UNIX : {user}\r\n").as_bytes());
        sim.sees(c)
    };
    assert_eq!(comes(&mut sim, "joe"), Sight::Taken);
    assert_eq!(sim.spawned(1).env, ["WHO=joe"]);
    assert_eq!(comes(&mut sim, "eve"), Sight::Eof);
    assert!(has(&sim.transcript(), BY_DENY[0]));
    // For another address no user is asked for.
    sim.client("192.0.2.3").connects("ssh");
    assert!(!has(&sim.transcript(), "connect 192."));
    sim.check_quiet();
}

#[test]
fn rfc931_asks_for_as_long_as_it_says() {
    let mut sim = allowing("ssh: ALL: rfc931 2: setenv WHO %u\n", &[ssh()]);
    sim.client("192.0.2.1").connects("ssh");
    sim.passes_ms(1999);
    assert_eq!((sim.alive().len(), sim.engine.waiting().count()), (0, 1));
    sim.passes_ms(1);
    assert_eq!((sim.alive().len(), sim.engine.waiting().count()), (1, 0));
    assert_eq!(sim.spawned(1).env, ["WHO=unknown"]);
    sim.check_quiet();
}

#[test]
fn an_aclexec_decides_before_its_client_comes_in() {
    let mut sim = allowing("ssh: ALL: aclexec /bin/check %a\nssh: 192.0.2.2\n", &[ssh()]);
    sim.client("192.0.2.1").connects("ssh");
    sim.expect(&["accept ssh 192.0.2.1", "spawn ssh pid=1 sh -c /bin/check 192.0.2.1"]);
    assert_eq!((sim.running("ssh"), sim.engine.commands()), (1, 1));
    sim.exits(1, 0);
    sim.expect(&["spawn ssh pid=2", "record START: ssh pid=2 from=192.0.2.1"]);
    // Its rule does not stand, and nothing behind it in hosts.allow does.
    let c = sim.client("192.0.2.2").connects("ssh");
    sim.transcript();
    sim.exits(3, 1);
    sim.expect(&[BY_DENY[0], BY_DENY[1], "close ssh 192.0.2.2"]);
    assert_eq!((sim.sees(c), sim.engine.commands()), (Sight::Eof, 0));
    sim.check_quiet();
}

#[test]
fn an_aclexec_that_cannot_tell_refuses() {
    let mut sim = allowing("ssh: ALL: aclexec /bin/check\n", &[ssh()]);
    let by_rule = "refused connection to ssh (libwrap=ssh) from 192.0.2.1 by hosts.allow:1";
    // One that hangs is killed.
    let c = sim.client("192.0.2.1").connects("ssh");
    sim.passes_ms(9_999);
    assert_eq!(sim.sees(c), Sight::Taken);
    sim.transcript();
    sim.passes_ms(1);
    let lines = sim.transcript();
    assert!(has(&lines, "end pid=1 KILL") && has(&lines, by_rule), "{lines:?}");
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.dies(1, 9);
    // One that never becomes its program.
    let c = sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    sim.fails(2, ChildStep::Exec, Errno::NOENT);
    assert!(has(&sim.transcript(), by_rule));
    assert_eq!(sim.sees(c), Sight::Eof);
    // One for which there is no process.
    sim.fails_next(Call::Spawn, Errno::AGAIN);
    let c = sim.client("192.0.2.1").connects("ssh");
    let lines = sim.transcript();
    assert!(
        has(&lines, "a command of hosts.allow or hosts.deny was not run") && has(&lines, by_rule),
        "{lines:?}"
    );
    assert_eq!((sim.sees(c), sim.engine.commands()), (Sight::Eof, 0));
    assert_eq!(sim.state("ssh"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn the_end_of_a_command_is_no_end_of_a_server() {
    let mut sim = allowing("ssh: ALL: aclexec /bin/check\n", &[ssh()]);
    let c = sim.client("192.0.2.1").connects("ssh");
    // Its client's service goes while it runs: nobody is served, and nothing is left.
    reload(&mut sim, &[tcp("pop", 110)]);
    sim.exits(1, 0);
    assert_eq!((sim.sees(c), sim.alive(), sim.engine.running()), (Sight::Eof, vec![], 0));
    // So it is when the daemon ends.
    let mut sim = allowing("ssh: ALL: aclexec /bin/check\n", &[ssh()]);
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    sim.terminates();
    assert!(has(&sim.transcript(), "end pid=1 TERM"));
    sim.exits(1, 0);
    assert_eq!((sim.alive(), sim.engine.commands()), (vec![], 0));
}

#[test]
fn commands_run_beside_a_client_and_are_not_waited_for() {
    let mut sim = serving(&[ssh()]);
    sim.has_file("/etc/hosts.deny", "ssh: 192.0.2.2: spawn /bin/log %a: spawn /bin/mail %d\n");
    sim.client("192.0.2.2").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.2",
        "spawn ssh pid=1 sh -c /bin/log 192.0.2.2",
        "spawn ssh pid=2 sh -c /bin/mail ssh",
        "record libwrap refused connection to ssh (libwrap=ssh) from 192.0.2.2 by hosts.deny:1",
        BY_DENY[1],
        "close ssh 192.0.2.2",
    ]);
    assert_eq!((sim.engine.commands(), sim.engine.running()), (2, 0));
    sim.exits(1, 7);
    sim.exits(2, 0);
    sim.expect(&[]);
    // There are never more than there is room for: the client is served, or refused, without.
    sim.has_file("/etc/hosts.deny", "");
    sim.has_file("/etc/hosts.allow", "ssh: ALL: spawn /bin/log\n");
    for n in 0..COMMANDS + 1 {
        sim.client(&format!("198.51.100.{}", n + 1)).connects("ssh");
    }
    assert_eq!((sim.engine.commands(), sim.running("ssh")), (COMMANDS, COMMANDS as u16 + 1));
    let lines = sim.transcript();
    let said = lines.iter().filter(|line| line.contains("was not run")).count();
    assert_eq!(said, 1, "{lines:?}");
    sim.check_quiet();
}

#[test]
fn twist_takes_the_place_of_whatever_answers() {
    let mut sim =
        allowing("ALL: ALL: twist /bin/echo no %a\n", &[ssh(), tcp("echo", 7).is(Builtin::Echo).wrapped()]);
    let c = sim.client("192.0.2.1").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "spawn ssh pid=1 sh -c /bin/echo no 192.0.2.1",
        "record START: ssh pid=1 from=192.0.2.1",
    ]);
    assert_eq!(sim.sees(c), Sight::Taken);
    sim.exits(1, 0);
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.transcript();
    sim.client("192.0.2.1").connects("echo");
    sim.expect(&[
        "accept echo 192.0.2.1",
        "hand over echo 192.0.2.1",
        "spawn echo pid=2 sh -c /bin/echo no 192.0.2.1",
        "record START: echo pid=2 from=192.0.2.1",
    ]);
    assert_eq!((sim.running("echo"), sim.engine.servers().count()), (1, 1));
    sim.check_quiet();
}

#[test]
fn what_a_rule_asks_for_reaches_its_server_and_no_other() {
    let rules = "ssh: 192.0.2.1: setenv WHO %a: nice 5: umask 027: keepalive: linger 5: banners /etc/banners\nssh: ALL\n";
    let mut sim = allowing(rules, &[ssh()]);
    sim.has_file("/etc/banners/ssh", "you are %a\n");
    let c = sim.client("192.0.2.1").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "keepalive",
        "linger 5",
        "tell ssh 192.0.2.1 \"you are 192.0.2.1\\r\\n\"",
        "spawn ssh pid=1",
        "record START: ssh pid=1 from=192.0.2.1",
    ]);
    assert_eq!(sim.heard(c), b"you are 192.0.2.1\r\n");
    let server = sim.spawned(1);
    assert_eq!((server.env, server.nice, server.umask), (vec!["WHO=192.0.2.1".into()], Some(5), Some(0o27)));
    sim.client("192.0.2.2").connects("ssh");
    let server = sim.spawned(2);
    assert_eq!((server.env, server.nice, server.umask), (vec![], None, None));
    sim.check_quiet();
}

#[test]
fn only_a_server_of_root_becomes_somebody_else() {
    let nobody = ssh().with(|s| s.identity.uid = Some(65534));
    let mut sim = allowing("ALL: ALL: user joe\n", &[nobody, tcp("pop", 110).wrapped()]);
    sim.has_file("/etc/passwd", "joe:x:1000:1000::/:/bin/sh\n");
    let c = sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.sees(c), Sight::Eof);
    assert!(has(&sim.transcript(), "by hosts.allow:1:1: "));
    let c = sim.client("192.0.2.1").connects("pop");
    assert_eq!(sim.sees(c), Sight::Taken);
    // Nor where we are not root ourselves.
    sim.engine.set_hosts(b"/etc/hosts.allow", b"/etc/hosts.deny", 1, false);
    let c = sim.client("192.0.2.1").connects("pop");
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.check_quiet();
}

#[test]
fn a_client_nobody_has_seen_comes_in_where_everybody_may() {
    let mut sim = allowing("pop: ALL: setenv A b\n", &[tcp("pop", 110).wait().wrapped()]);
    sim.client("192.0.2.1").connects("pop");
    assert_eq!((sim.state("pop"), sim.spawned(1).env), (Some(State::Busy), vec!["A=b".into()]));
    sim.takes(1);
    sim.exits(1, 0);
    // A rule for some may not be about him; one that refuses some may be.
    for (allow, deny) in
        [("pop: 192.0.2.\n", "ALL: ALL\n"), ("pop: joe@ALL\n", "ALL: ALL\n"), ("", "pop: 10.\n")]
    {
        sim.has_file("/etc/hosts.allow", allow);
        sim.has_file("/etc/hosts.deny", deny);
        sim.transcript();
        let c = sim.client("192.0.2.1").connects("pop");
        assert_eq!(sim.sees(c), Sight::Eof, "{allow}{deny}");
        let lines = sim.transcript();
        assert!(has(&lines, "record FAIL: pop libwrap from=<no address>"), "{lines:?}");
        assert!(!has(&lines, "ask ") && !has(&lines, "connect "), "{lines:?}");
    }
    // Without a rule that could be about him he comes in.
    sim.has_file("/etc/hosts.deny", "ssh: ALL\n");
    sim.client("192.0.2.1").connects("pop");
    assert_eq!(sim.state("pop"), Some(State::Busy));
    sim.check_quiet();
}

#[test]
fn a_datagram_is_judged_by_what_is_known_of_it() {
    let mut sim = allowing(
        "echo: 192.0.2.1, .example.org\necho: 192.0.2.5: twist /bin/no\necho: 192.0.2.6: aclexec /bin/yes\n",
        &[udp("echo", 7).is(Builtin::Echo).wrapped(), udp("talk", 518).wait().wrapped()],
    );
    sim.knows_host("192.0.2.2", "host.example.org");
    let answered = |sim: &mut Simulation, address: &str| {
        sim.client(address).port(5000).sends("echo", b"x");
        sim.replies().len()
    };
    assert_eq!(answered(&mut sim, "192.0.2.1"), 1);
    // His name is asked for, and known when he tries again.
    assert_eq!(answered(&mut sim, "192.0.2.2"), 0);
    assert!(has(&sim.transcript(), "record FAIL: echo name_pending from=192.0.2.2"));
    assert_eq!(answered(&mut sim, "192.0.2.2"), 1);
    for (n, address) in ["192.0.2.3", "192.0.2.5", "192.0.2.6"].iter().enumerate() {
        answered(&mut sim, address);
        sim.transcript();
        assert_eq!(answered(&mut sim, address), 0, "{n}");
        assert_eq!((sim.alive().len(), sim.engine.commands()), (0, 0));
    }
    // What comes with the rule for the first datagram is the server's.
    sim.has_file("/etc/hosts.allow", "talk: 192.0.2.: setenv FROM %a: nice 3\n");
    sim.client("192.0.2.9").sends("talk", b"x");
    assert_eq!((sim.spawned(1).env, sim.spawned(1).nice), (vec!["FROM=192.0.2.9".into()], Some(3)));
    sim.check_quiet();
}

// Whatever changes while somebody waits.

#[test]
fn who_waited_while_his_place_was_taken_is_told_so() {
    let mut sim = serving(&[
        tcp("web", 80).redirects_by_name("web.example.org", 8080),
        tcp("full", 81).redirects("192.0.2.81", 8081),
    ]);
    sim.knows_name("A", "web.example.org", "192.0.2.80");
    sim.silences_names(true);
    let c = sim.client("192.0.2.1").connects("web");
    for n in 0..RELAYS {
        sim.client(&format!("198.51.{}.{}", n / 200, n % 200 + 1)).connects("full");
    }
    assert_eq!((sim.sees(c), sim.running("full")), (Sight::Taken, RELAYS as u16));
    sim.transcript();
    sim.silences_names(false);
    assert_eq!(sim.sees(c), Sight::Eof);
    let lines = sim.transcript();
    assert!(
        has(&lines, "record FAIL: web process_limit from=192.0.2.1") && !has(&lines, "START"),
        "{lines:?}"
    );
    sim.check_quiet();
}

#[test]
fn who_waited_for_a_service_whose_server_now_takes_its_clients_is_not_given_to_it() {
    let draft = || tcp("ssh", 22).only_from(&[".example.org"]);
    let mut sim = serving(&[draft()]);
    sim.knows_host("192.0.2.1", "host.example.org");
    sim.silences_names(true);
    let c = sim.client("192.0.2.1").connects("ssh");
    reload(&mut sim, &[tcp("ssh", 22).wait()]);
    sim.client("192.0.2.2").connects("ssh");
    assert_eq!(sim.state("ssh"), Some(State::Busy));
    sim.silences_names(false);
    assert_eq!((sim.sees(c), sim.alive().len()), (Sight::Eof, 1));
    assert_eq!(sim.state("ssh"), Some(State::Busy));
    sim.check_quiet();
}

#[test]
fn who_waited_begins_no_pause_in_a_pause() {
    let mut sim = serving(&[tcp("ssh", 22).only_from(&[".example.org"]).cps(1, 10)]);
    let wait = WAITING.min(6);
    for n in 1..=wait {
        sim.knows_host(&format!("192.0.2.{n}"), &format!("host{n}.example.org"));
    }
    sim.silences_names(true);
    for n in 1..=wait {
        sim.client(&format!("192.0.2.{n}")).connects("ssh");
    }
    sim.transcript();
    sim.silences_names(false);
    let lines = sim.transcript();
    let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!((count("START"), count("FAIL")), (1, wait - 1));
    assert_eq!(count("leave ssh"), 1);
    assert_eq!(count("seconds"), 1, "one pause is told: {lines:?}");
    sim.check_quiet();
}

#[test]
fn a_name_behind_tcpmux_is_no_successor_of_another() {
    let mux = |id: &str| tcp(id, 0).flag(Flags::MUX);
    let mut sim = serving(&[tcp("tcpmux", 1).answers(Answer::Tcpmux), mux("uptime")]);
    let c = sim.client("192.0.2.1").connects("tcpmux");
    sim.says(c, b"uptime\r\n");
    assert_eq!(sim.running("uptime"), 1);
    let changes = reload(&mut sim, &[tcp("tcpmux", 1).answers(Answer::Tcpmux), mux("shell").instances(1)]);
    assert_eq!((changes.added, changes.removed), (1, 1));
    assert_eq!((sim.running("shell"), sim.alive().len()), (0, 1));
    let c = sim.client("192.0.2.1").connects("tcpmux");
    sim.says(c, b"shell\r\n");
    assert_eq!(sim.running("shell"), 1);
    sim.exits(1, 0);
    assert_eq!(sim.running("shell"), 1);
    sim.check_quiet();
}

#[test]
fn who_waited_behind_tcpmux_for_what_is_there_no_more_is_not_served() {
    let named = |draft: Draft| draft.only_from(&[".example.org"]);
    let door = || tcp("tcpmux", 1).answers(Answer::Tcpmux);
    let mut sim = serving(&[door(), named(tcp("uptime", 0).flag(Flags::MUX))]);
    sim.knows_host("192.0.2.1", "host.example.org");
    sim.silences_names(true);
    let c = sim.client("192.0.2.1").connects("tcpmux");
    sim.says(c, b"uptime\r\n");
    assert_eq!(sim.running("uptime"), 1);
    // It has a port of its own now.
    reload(&mut sim, &[door(), named(tcp("uptime", 2000))]);
    sim.silences_names(false);
    assert_eq!((sim.sees(c), sim.alive().len(), sim.running("uptime")), (Sight::Eof, 0, 0));
    sim.check_quiet();
}
