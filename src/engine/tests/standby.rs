//! Servers that are started ahead, each to wait for one client.

use super::*;
use crate::capacity::{RELAYS, STANDBY_STARTS_A_TURN};
use crate::service::Proxy;

fn ready(draft: Draft, n: u16) -> Draft {
    draft.with(|s| s.standby = n)
}

fn told(draft: Draft, proxy: Proxy) -> Draft {
    draft.with(|s| s.proxy = proxy)
}

/// What the server read.
fn server_heard(sim: &mut Simulation, pid: Pid) -> String {
    let at = sim.partner(pid);
    sim.reads(at, usize::MAX);
    String::from_utf8_lossy(&sim.heard(at)).into_owned()
}

#[test]
fn a_client_meets_a_server_that_has_waited() {
    let mut sim = Simulation::new();
    reload(&mut sim, &[ready(tcp("web", 80), 2)]);
    sim.expect(&["listen web tcp *:80", "watch web", "spawn web pid=1", "spawn web pid=2"]);
    assert_eq!((sim.running("web"), sim.engine.standbys().count()), (0, 2));
    // What a server says before anybody is there is what its client hears first.
    let at = sim.partner(1);
    sim.says(at, b"220 ready\r\n");
    sim.transcript();
    let client = sim.client("192.0.2.1").connects("web");
    sim.expect(&[
        "accept web 192.0.2.1",
        "record START: web pid=1 from=192.0.2.1",
        "open web 192.0.2.1, waits for input",
        "open pair-1 <no address>, waits for input",
        "spawn web pid=3",
    ]);
    assert_eq!(sim.heard(client), b"220 ready\r\n");
    sim.says(client, b"GET\r\n");
    assert_eq!(server_heard(&mut sim, 1), "GET\r\n");
    assert_eq!((sim.running("web"), sim.engine.standbys().count()), (1, 2));
    sim.passes_s(7);
    sim.says(at, b"bye");
    sim.exits(1, 0);
    assert_eq!(sim.heard(client), b"bye");
    sim.expect(&[
        "record EXIT: web status=0 pid=1 duration=7(sec) from=192.0.2.1",
        "finish web 192.0.2.1",
        "close web 192.0.2.1",
        "close pair-1 <no address>",
    ]);
    assert_eq!((sim.sees(client), sim.running("web")), (Sight::Eof, 0));
    assert_eq!(sim.engine.next_deadline(), None);
    sim.check_quiet();
}

#[test]
fn each_way_ends_by_itself() {
    let mut sim = serving(&[ready(tcp("web", 80), 1).success(LogFields::TRAFFIC)]);
    let client = sim.client("192.0.2.1").connects("web");
    let server = sim.partner(1);
    sim.says(client, b"question");
    sim.half_closes(client);
    assert_eq!(server_heard(&mut sim, 1), "question");
    assert_eq!((sim.sees(server), sim.sees(client)), (Sight::Finished, Sight::Taken));
    sim.says(server, b"a long answer");
    sim.half_closes(server);
    assert_eq!((sim.heard(client), sim.sees(client)), (b"a long answer".to_vec(), Sight::Eof));
    // Its client is gone, and it still does something: it counts until it ends.
    assert_eq!(sim.running("web"), 1);
    let lines = sim.transcript();
    assert!(lines.contains(&"record TRAFFIC: web in=8(bytes) out=13(bytes)".into()), "{lines:?}");
    sim.exits(1, 0);
    assert_eq!(sim.running("web"), 0);
    sim.check_quiet();
}

/// A client that reads slowly gets all that his server said before it ended, and is counted as long as that takes.
#[test]
fn what_a_server_said_last_arrives() {
    let mut sim = serving(&[ready(tcp("web", 80), 1).instances(1)]);
    let client = sim.client("192.0.2.1").pace(Pace::WhenTold).connects("web");
    let server = sim.partner(1);
    let text: Vec<u8> = (0..500_000u32).map(|n| (n % 251) as u8).collect();
    sim.says(server, &text);
    sim.exits(1, 0);
    assert_eq!((sim.running("web"), sim.alive()), (1, vec![2]));
    let other = sim.client("192.0.2.2").connects("web");
    assert_eq!(sim.sees(other), Sight::Eof);
    assert!(sim.transcript().contains(&"record FAIL: web service_limit from=192.0.2.2".into()));
    let mut heard = Vec::new();
    while heard.len() < text.len() {
        // The last of it is his system's.
        let is_over = text.len() - heard.len() <= 64 * 1024;
        assert!(is_over || (sim.sees(client), sim.running("web")) == (Sight::Taken, 1));
        sim.reads(client, 10_000);
        heard.extend(sim.heard(client));
    }
    assert!(heard == text);
    assert_eq!((sim.sees(client), sim.running("web")), (Sight::Eof, 0));
    sim.check_quiet();
}

/// One side was broken and the other had more than one turn moves: the rest of it was lost.
#[test]
fn a_long_answer_arrives_though_nobody_reads_what_its_client_says() {
    let mut sim = serving(&[ready(tcp("web", 80), 1)]);
    let client = sim.client("192.0.2.1").connects("web");
    let server = sim.partner(1);
    let text = vec![b'x'; 300_000];
    sim.together(|sim| {
        sim.says(server, &text);
        sim.says(client, b"too late");
        sim.exits(1, 0);
    });
    assert_eq!(sim.heard(client).len(), text.len());
    assert_eq!(sim.sees(client), Sight::Eof);
    sim.check_quiet();
}

#[test]
fn a_server_is_told_who_its_client_is() {
    let mut sim =
        serving(&[told(ready(tcp("web", 80), 1), Proxy::V1), told(ready(tcp("bin", 81), 1), Proxy::V2)]);
    let client = sim.client("192.0.2.1").port(40000).connects("web");
    sim.says(client, b"GET\r\n");
    assert_eq!(server_heard(&mut sim, 1), "PROXY TCP4 192.0.2.1 198.51.100.1 40000 80\r\nGET\r\n");
    sim.client("192.0.2.1").connects("bin");
    assert!(server_heard(&mut sim, 2).starts_with("\r\n\r\n\0\r\nQUIT\n"));
    sim.check_quiet();
}

#[test]
fn a_host_is_told_who_its_client_is() {
    let mut sim = serving(&[told(tcp("web", 80).redirects("192.0.2.80", 8080), Proxy::V1)]);
    let client = sim.client("192.0.2.1").port(40000).connects("web");
    sim.says(client, b"GET\r\n");
    let host = sim.dialled(8080);
    sim.picks_up(host);
    let said = String::from_utf8_lossy(&sim.heard(host)).into_owned();
    assert_eq!(said, "PROXY TCP4 192.0.2.1 198.51.100.1 40000 80\r\nGET\r\n");
    sim.check_quiet();
}

#[test]
fn more_clients_than_servers_have_one_started_for_them() {
    let mut sim = serving(&[ready(tcp("web", 80), 2)]);
    sim.together(|sim| {
        for n in 1..=5 {
            sim.client(&format!("192.0.2.{n}")).connects("web");
        }
    });
    assert_eq!((sim.running("web"), sim.engine.standbys().count(), sim.alive().len()), (5, 2, 7));
    for pid in 1..=5 {
        let at = sim.partner(pid);
        sim.says(at, b"hello");
        sim.exits(pid, 0);
    }
    assert_eq!((sim.running("web"), sim.alive()), (0, vec![6, 7]));
    sim.check_quiet();
}

/// Who serves one client must not be the next one's.
#[test]
fn limits_and_records_know_sessions_alone() {
    let mut sim = serving(&[ready(tcp("web", 80), 3).instances(2).per_source(1)]);
    sim.engine.set_limit(Some(2));
    sim.client("192.0.2.1").connects("web");
    sim.client("192.0.2.1").connects("web");
    sim.client("192.0.2.2").connects("web");
    sim.client("192.0.2.3").connects("web");
    let records: Vec<String> =
        sim.transcript().into_iter().filter(|line| line.starts_with("record")).collect();
    assert_eq!(
        records,
        [
            "record START: web pid=1 from=192.0.2.1",
            "record FAIL: web per_source_limit from=192.0.2.1",
            "record START: web pid=2 from=192.0.2.2",
            "record FAIL: web service_limit from=192.0.2.3",
        ]
    );
    assert_eq!((sim.running("web"), sim.engine.standbys().count()), (2, 3));
    sim.check_quiet();
}

#[test]
fn a_server_that_ends_before_anybody_comes_is_replaced_ever_more_slowly() {
    let mut sim = serving(&[ready(tcp("web", 80), 1)]);
    sim.exits(1, 3);
    sim.expect(&[
        "close pair-1 <no address>",
        "record web: standby server 1 ended before anybody came (status=3); next one in 1 seconds",
    ]);
    let mut gaps = Vec::new();
    for pid in 2..=9 {
        let from = sim.now().mono;
        while !sim.alive().contains(&pid) {
            sim.passes_ms(100);
        }
        gaps.push(sim.now().mono.since_ms(from));
        sim.dies(pid, 9);
    }
    assert_eq!(gaps, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    // Who comes meanwhile has one started for him, and the post is as before.
    let client = sim.client("192.0.2.1").connects("web");
    assert_eq!((sim.sees(client), sim.alive()), (Sight::Taken, vec![10]));
    sim.passes_s(60);
    assert_eq!(sim.alive(), [10, 11]);
    // One that waited long has only had enough of it.
    sim.passes_s(10);
    sim.transcript();
    sim.exits(11, 0);
    sim.expect(&["close pair-11 <no address>", "spawn web pid=12"]);
    sim.check_quiet();
}

#[test]
fn a_program_that_cannot_be_executed_is_told_and_not_tried_in_a_loop() {
    let mut sim = serving(&[ready(tcp("web", 80), 1)]);
    sim.fails(1, ChildStep::Exec, Errno::NOENT);
    sim.expect(&[
        "close pair-1 <no address>",
        "record web: execv( /usr/sbin/web ) failed: No such file or directory (errno = 2)",
    ]);
    sim.passes_ms(999);
    sim.expect(&[]);
    sim.passes_ms(1);
    sim.expect(&["spawn web pid=2"]);
    // No process to be had: later.
    sim.fails_next(Call::Spawn, Errno::AGAIN);
    sim.client("192.0.2.1").connects("web");
    let lines = sim.transcript();
    assert!(
        lines.contains(&"record web: fork failed: Resource temporarily unavailable (errno = 11)".into()),
        "{lines:?}"
    );
    sim.passes_s(1);
    assert_eq!(sim.alive(), [2, 3]);
    sim.check_quiet();
}

/// It was killed, and nobody has told the daemon yet when a client comes.
#[test]
fn a_dead_server_is_given_to_nobody() {
    let mut sim = serving(&[ready(tcp("web", 80), 2)]);
    let at = sim.partner(1);
    // All that is seen of a server that has ended, until its end is told.
    sim.half_closes(at);
    let client = sim.client("192.0.2.1").connects("web");
    let second = sim.partner(2);
    sim.says(second, b"hello");
    assert_eq!(sim.heard(client), b"hello");
    assert!(sim.transcript().contains(&"end pid=1 TERM".into()));
    sim.exits(1, 0);
    sim.passes_s(1);
    assert_eq!((sim.running("web"), sim.engine.standbys().count(), sim.engine.dismissed()), (1, 2, 0));
    sim.check_quiet();
}

#[test]
fn a_reload_replaces_those_who_wait_and_nobody_who_serves() {
    let mut sim = serving(&[ready(tcp("web", 80), 2)]);
    let client = sim.client("192.0.2.1").connects("web");
    sim.transcript();
    reload(&mut sim, &[ready(tcp("web", 80), 1)]);
    let lines = sim.transcript();
    for line in ["end pid=2 TERM", "end pid=3 TERM", "spawn web pid=4"] {
        assert!(lines.contains(&line.into()), "{lines:?}");
    }
    assert_eq!((sim.engine.standbys().count(), sim.engine.dismissed()), (1, 2));
    let server = sim.partner(1);
    sim.says(server, b"still here");
    assert_eq!(sim.heard(client), b"still here");
    sim.exits(2, 0);
    // The other does not end when it is told.
    sim.passes_s(5);
    assert!(sim.transcript().contains(&"end pid=3 KILL".into()));
    sim.dies(3, 9);
    assert_eq!(sim.engine.next_deadline(), None);
    reload(&mut sim, &[tcp("web", 80)]);
    sim.exits(4, 0);
    assert_eq!((sim.engine.standbys().count(), sim.alive()), (0, vec![1]));
    sim.check_quiet();
}

#[test]
fn who_is_served_at_the_end_is_served_to_the_end() {
    let mut sim = serving(&[ready(tcp("web", 80), 2)]);
    let client = sim.client("192.0.2.1").connects("web");
    sim.terminates();
    let lines = sim.transcript();
    for pid in 1..=3 {
        assert!(lines.contains(&format!("end pid={pid} TERM")), "{lines:?}");
    }
    sim.exits(2, 0);
    sim.exits(3, 0);
    let server = sim.partner(1);
    sim.says(server, b"last words");
    sim.exits(1, 0);
    assert_eq!((sim.heard(client), sim.sees(client)), (b"last words".to_vec(), Sight::Eof));
    assert_eq!((sim.engine.running(), sim.engine.outgoing(), sim.alive().len()), (0, 0, 0));
}

#[test]
fn a_silent_client_and_his_server_go_together() {
    let mut sim = serving(&[ready(tcp("web", 80), 1).with(|s| s.idle_timeout = 10)]);
    let client = sim.client("192.0.2.1").connects("web");
    sim.passes_s(9);
    sim.says(client, b"x");
    sim.passes_s(9);
    assert_eq!(sim.sees(client), Sight::Taken);
    sim.transcript();
    sim.passes_s(1);
    sim.expect(&[
        "record TIMEOUT: web idle_timeout pid=1 from=192.0.2.1",
        "close web 192.0.2.1",
        "close pair-1 <no address>",
        "end pid=1 TERM",
    ]);
    sim.passes_s(5);
    sim.expect(&["end pid=1 KILL"]);
    sim.dies(1, 9);
    assert_eq!((sim.running("web"), sim.engine.next_deadline()), (0, None));
    sim.check_quiet();
}

#[test]
fn a_server_has_its_time_from_when_its_client_came() {
    let mut sim = serving(&[ready(tcp("web", 80), 1).with(|s| s.timeout = 10)]);
    sim.passes_s(100);
    let client = sim.client("192.0.2.1").connects("web");
    sim.passes_ms(9_999);
    assert!(!sim.transcript().iter().any(|line| line.contains("TIMEOUT")));
    sim.passes_ms(1);
    sim.expect(&["record TIMEOUT: web timeout pid=1 from=192.0.2.1", "end pid=1 TERM"]);
    // It may still say good-bye.
    let server = sim.partner(1);
    sim.says(server, b"bye");
    sim.dies(1, 15);
    assert_eq!(sim.heard(client), b"bye");
    sim.check_quiet();
}

/// What a rule says of the server of whom it lets in cannot be said to one that runs.
#[test]
fn a_rule_about_the_server_has_one_started() {
    let mut sim = Simulation::new();
    sim.has_file("/etc/hosts.allow", "web: 192.0.2.1: setenv WHO %a: nice 5\nweb: 192.0.2.2: keepalive\n");
    sim.has_file("/etc/hosts.deny", "ALL: ALL\n");
    reload(&mut sim, &[ready(tcp("web", 80), 1).wrapped()]);
    sim.client("192.0.2.1").connects("web");
    let server = sim.spawned(2);
    assert_eq!((server.env, server.nice), (vec!["WHO=192.0.2.1".into()], Some(5)));
    sim.client("192.0.2.2").connects("web");
    assert_eq!(sim.engine.servers().map(|(_, pid, ..)| pid).collect::<Vec<_>>(), [2, 1]);
    sim.client("192.0.2.3").connects("web");
    assert!(sim.transcript().contains(&"record FAIL: web libwrap from=192.0.2.3".into()));
    sim.check_quiet();
}

#[test]
fn when_all_places_are_taken_clients_wait() {
    let mut sim = serving(&[ready(tcp("web", 80), 1)]);
    let crowd: Vec<Connection> = (0..=RELAYS).map(|_| sim.client("192.0.2.1").connects("web")).collect();
    assert_eq!((sim.sees(crowd[RELAYS]), sim.state("web")), (Sight::Waiting, Some(State::Full)));
    sim.check_quiet();
    sim.exits(1, 0);
    assert_eq!(sim.sees(crowd[RELAYS]), Sight::Taken);
    sim.check_quiet();
}

/// Whoever waits to be served is served between them.
#[test]
fn many_servers_are_started_a_few_at_a_time() {
    let many = 3 * STANDBY_STARTS_A_TURN as u16;
    let mut sim = Simulation::new();
    let mut first = 0;
    sim.together(|sim| {
        reload(sim, &[ready(tcp("web", 80), many)]);
        first = sim.engine.standbys().count();
    });
    assert_eq!(first, STANDBY_STARTS_A_TURN);
    assert_eq!((sim.engine.standbys().count(), sim.engine.next_deadline()), (usize::from(many), None));
}

/// The older program is not their parent any more: it would wait for ends that it never hears of, and kill whoever has their
/// numbers by then.
#[test]
fn who_resigns_leaves_those_who_wait_to_the_heir() {
    let mut sim = Simulation::new();
    reload(&mut sim, &[ready(tcp("web", 80), 2)]);
    let client = sim.client("192.0.2.1").connects("web");
    sim.says(client, b"x");
    // One that was told to end just before, too.
    reload(&mut sim, &[ready(tcp("web", 80), 1)]);
    assert!(sim.engine.dismissed() > 0);
    sim.transcript();
    sim.resigns();
    assert_eq!((sim.engine.standbys().count(), sim.engine.dismissed()), (0, 0));
    assert_eq!(sim.engine.running(), 1);
    let told = sim.transcript();
    assert!(!told.iter().any(|line| line.starts_with("end pid")), "{told:?}");
    sim.vanishes(client);
    sim.passes_s(20);
    assert_eq!(sim.engine.running(), 0);
    let told = sim.transcript();
    assert!(!told.iter().any(|line| line.starts_with("end pid")), "{told:?}");
}
