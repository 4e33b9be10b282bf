//! Who may stay how long, servers that are there before anybody comes, and who gives way.

use super::*;
use crate::capacity::SESSIONS;

fn timeout(draft: Draft, seconds: u32) -> Draft {
    draft.with(|s| s.timeout = seconds)
}

fn idle(draft: Draft, seconds: u32) -> Draft {
    draft.with(|s| s.idle_timeout = seconds)
}

fn echo() -> Draft {
    tcp("echo", 7).is(Builtin::Echo)
}

// Clients of our own.

#[test]
fn a_client_that_says_nothing_has_its_time() {
    let mut sim = serving(&[idle(echo(), 10)]);
    let quiet = sim.client("192.0.2.1").connects("echo");
    let busy = sim.client("192.0.2.2").connects("echo");
    sim.transcript();
    for _ in 0..3 {
        sim.passes_s(4);
        sim.says(busy, b"x");
    }
    sim.expect(&[
        "record TIMEOUT: echo idle_timeout pid=0 from=192.0.2.1",
        "close echo 192.0.2.1",
        "record EXIT: echo status=0 pid=0 duration=10(sec) from=192.0.2.1",
    ]);
    assert_eq!((sim.sees(quiet), sim.sees(busy)), (Sight::Eof, Sight::Taken));
    sim.passes_ms(9_999);
    assert_eq!(sim.sees(busy), Sight::Taken);
    sim.passes_ms(1);
    assert_eq!(sim.sees(busy), Sight::Eof);
    assert_eq!(sim.heard(busy), b"xxx");
    // Nobody is timed any more.
    assert_eq!(sim.engine.next_deadline(), None);
    sim.check_quiet();
}

/// Bytes count whichever way they go: a client that reads slowly is not idle, one that does not read at all is.
#[test]
fn a_client_that_reads_is_not_idle() {
    let mut sim = serving(&[idle(tcp("chargen", 19).is(Builtin::Chargen), 10)]);
    let slow = sim.client("192.0.2.1").pace(Pace::PerMs(1)).connects("chargen");
    let stuck = sim.client("192.0.2.2").pace(Pace::WhenTold).connects("chargen");
    sim.passes_s(30);
    assert_eq!((sim.sees(slow), sim.sees(stuck)), (Sight::Taken, Sight::Eof));
    sim.check_quiet();
}

#[test]
fn a_client_that_never_rests_has_its_time_too() {
    let mut sim = serving(&[timeout(idle(echo(), 3), 10)]);
    let busy = sim.client("192.0.2.1").connects("echo");
    for _ in 0..9 {
        sim.says(busy, b"x");
        sim.passes_s(1);
    }
    assert_eq!(sim.sees(busy), Sight::Taken);
    sim.transcript();
    sim.passes_s(1);
    sim.expect(&[
        "record TIMEOUT: echo timeout pid=0 from=192.0.2.1",
        "close echo 192.0.2.1",
        "record EXIT: echo status=0 pid=0 duration=10(sec) from=192.0.2.1",
    ]);
    sim.check_quiet();
}

#[test]
fn both_ends_of_a_redirected_connection_are_closed() {
    let mut sim = serving(&[idle(tcp("web", 80).redirects("192.0.2.80", 8080), 10)]);
    let client = sim.client("192.0.2.1").connects("web");
    let host = sim.dialled(8080);
    sim.picks_up(host);
    sim.passes_s(8);
    // Whichever side says something.
    sim.says(host, b"x");
    sim.passes_s(8);
    assert_eq!(sim.sees(client), Sight::Taken);
    sim.passes_s(2);
    assert_eq!((sim.sees(client), sim.sees(host)), (Sight::Eof, Sight::Eof));
    assert!(sim.transcript().contains(&"record TIMEOUT: web idle_timeout pid=0 from=192.0.2.1".into()));
    sim.check_quiet();
}

#[test]
fn a_reload_changes_the_time_of_those_who_are_there() {
    let mut sim = serving(&[echo()]);
    let client = sim.client("192.0.2.1").connects("echo");
    sim.passes_s(100);
    reload(&mut sim, &[idle(echo(), 120)]);
    sim.passes_s(19);
    assert_eq!(sim.sees(client), Sight::Taken);
    sim.passes_s(1);
    assert_eq!(sim.sees(client), Sight::Eof);
    let client = sim.client("192.0.2.1").connects("echo");
    reload(&mut sim, &[echo()]);
    assert_eq!(sim.engine.next_deadline(), None);
    sim.passes_s(1000);
    assert_eq!(sim.sees(client), Sight::Taken);
}

/// Until now 512 clients that said nothing kept everybody out for ever.
#[test]
fn who_was_silent_longest_gives_way_when_there_is_no_place() {
    let mut sim = serving(&[echo(), tcp("discard", 9).is(Builtin::Discard)]);
    let crowd: Vec<Connection> = (0..SESSIONS)
        .map(|n| sim.client(&format!("10.0.{}.{}", n / 250, n % 250)).connects("echo"))
        .collect();
    sim.passes_s(20);
    sim.says(crowd[0], b"x");
    let newcomer = sim.client("192.0.2.1").connects("discard");
    let next = sim.client("192.0.2.2").connects("echo");
    sim.passes_ms(39_999);
    assert_eq!(sim.sees(newcomer), Sight::Waiting);
    sim.transcript();
    sim.passes_ms(1);
    assert_eq!((sim.sees(newcomer), sim.sees(next)), (Sight::Taken, Sight::Taken));
    let lines = sim.transcript();
    assert!(lines.contains(&"record TIMEOUT: echo place_needed pid=0 from=10.0.0.1".into()), "{lines:?}");
    assert!(lines.contains(&"record TIMEOUT: echo place_needed pid=0 from=10.0.0.2".into()), "{lines:?}");
    // Not one more than had to; and who has said something stays.
    let gone = crowd.iter().filter(|at| sim.sees(**at) == Sight::Eof).count();
    assert_eq!((gone, sim.sees(crowd[0])), (2, Sight::Taken));
    assert_eq!(sim.engine.sessions().count(), SESSIONS);
    // Nobody waits, nobody has to go.
    sim.passes_s(1000);
    assert_eq!((sim.engine.sessions().count(), sim.engine.next_deadline()), (SESSIONS, None));
    sim.check_quiet();
}

#[test]
fn who_talks_gives_way_to_nobody() {
    let mut sim = serving(&[echo()]);
    let crowd: Vec<Connection> = (0..SESSIONS).map(|_| sim.client("192.0.2.1").connects("echo")).collect();
    let newcomer = sim.client("192.0.2.2").connects("echo");
    for _ in 0..10 {
        sim.together(|sim| crowd.iter().for_each(|at| sim.says(*at, b"x")));
        sim.passes_s(50);
    }
    assert_eq!(sim.sees(newcomer), Sight::Waiting);
    sim.vanishes(crowd[7]);
    assert_eq!(sim.sees(newcomer), Sight::Taken);
    sim.check_quiet();
}

// Programs.

#[test]
fn a_server_that_stays_too_long_is_told_and_then_killed() {
    let mut sim = serving(&[timeout(tcp("ssh", 22), 60)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.passes_s(30);
    sim.client("192.0.2.2").connects("ssh");
    sim.transcript();
    sim.passes_s(30);
    sim.expect(&["record TIMEOUT: ssh timeout pid=1 from=192.0.2.1", "end pid=1 TERM"]);
    sim.passes_ms(4_999);
    sim.expect(&[]);
    sim.passes_ms(1);
    sim.expect(&["end pid=1 KILL"]);
    sim.dies(1, 9);
    sim.passes_s(25);
    sim.dies(2, 15);
    sim.transcript();
    assert_eq!(sim.engine.next_deadline(), None);
    sim.passes_s(100);
    sim.expect(&[]);
    sim.check_quiet();
}

/// The daemon does not see what a server does with its client, and asks only of what it sees.
#[test]
fn a_server_that_was_given_its_client_is_not_idle() {
    let mut sim = serving(&[idle(tcp("ssh", 22), 10)]);
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.engine.next_deadline(), None);
    sim.passes_s(100);
    assert_eq!(sim.alive(), [1]);
}

#[test]
fn a_wait_server_to_whom_nobody_comes_is_told_to_end() {
    let mut sim = serving(&[idle(udp("talk", 518).wait(), 40)]);
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.takes(1);
    sim.transcript();
    // Looked at every ten seconds: it was started for something, and then nothing came four times.
    sim.passes_s(49);
    sim.expect(&[]);
    sim.passes_s(1);
    sim.expect(&["record TIMEOUT: talk idle_timeout pid=1 from=192.0.2.1", "end pid=1 TERM"]);
    // Whoever comes meanwhile is not lost: the next server has him.
    sim.client("192.0.2.2").sends("talk", b"y");
    sim.dies(1, 15);
    sim.expect(&[
        "record EXIT: talk signal=15 pid=1 duration=50(sec) from=192.0.2.1",
        "watch talk",
        "spawn talk pid=2",
        "record START: talk pid=2 from=192.0.2.2",
        "leave talk",
    ]);
    sim.check_quiet();
}

#[test]
fn a_wait_server_to_whom_somebody_comes_stays() {
    let mut sim = serving(&[idle(udp("talk", 518).wait(), 40)]);
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.takes(1);
    for _ in 0..30 {
        sim.passes_s(17);
        sim.client("192.0.2.1").sends("talk", b"x");
        sim.takes(1);
    }
    assert_eq!(sim.alive(), [1]);
    assert!(!sim.transcript().iter().any(|line| line.contains("TIMEOUT")));
    // A reload does not make it forget.
    reload(&mut sim, &[idle(udp("talk", 518).wait(), 40)]);
    sim.passes_s(39);
    assert!(!sim.transcript().iter().any(|line| line.contains("TIMEOUT")));
    sim.passes_s(12);
    assert!(sim.transcript().contains(&"end pid=1 TERM".into()));
}

/// It is there, but does not take what has come: idle it is not, and only `timeout` ends it.
#[test]
fn a_wait_server_that_hangs_is_not_idle() {
    let mut sim = serving(&[timeout(idle(udp("talk", 518).wait(), 40), 200)]);
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.passes_s(199);
    assert!(!sim.transcript().iter().any(|line| line.contains("TIMEOUT")));
    sim.passes_s(1);
    assert!(sim.transcript().contains(&"record TIMEOUT: talk timeout pid=1 from=192.0.2.1".into()));
}

// keep.

fn kept(draft: Draft) -> Draft {
    draft.wait().flag(Flags::KEEP)
}

#[test]
fn a_kept_server_is_there_before_anybody_comes() {
    let mut sim = Simulation::new();
    reload(&mut sim, &[kept(udp("talk", 518))]);
    sim.expect(&[
        "listen talk udp *:518",
        "watch talk",
        "spawn talk pid=1",
        "record START: talk pid=1 from=<no address>",
        "leave talk",
        "watch talk once",
    ]);
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.takes(1);
    sim.passes_s(10);
    sim.transcript();
    sim.exits(1, 0);
    sim.expect(&[
        "record EXIT: talk status=0 pid=1 duration=10(sec) from=<no address>",
        "watch talk",
        "spawn talk pid=2",
        "record START: talk pid=2 from=<no address>",
        "leave talk",
        "watch talk once",
    ]);
    sim.check_quiet();
    sim.terminates();
    sim.exits(2, 0);
    assert_eq!((sim.engine.running(), sim.alive().len()), (0, 0));
}

/// As a server that takes nothing: not in a loop.
#[test]
fn a_kept_server_that_ends_at_once_is_started_ever_more_slowly() {
    let mut sim = serving(&[kept(tcp("web", 80))]);
    let mut starts = Vec::new();
    for pid in 1..=8 {
        while !sim.alive().contains(&pid) {
            sim.passes_ms(100);
        }
        starts.push(sim.now().mono.0);
        sim.exits(pid, 1);
    }
    let gaps: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [0, 0, 0, 200, 400, 800, 1600]);
    // Who comes meanwhile waits as long.
    let client = sim.client("192.0.2.1").connects("web");
    assert_eq!(sim.sees(client), Sight::Waiting);
    sim.passes_s(4);
    assert_eq!(sim.alive(), [9]);
    sim.check_quiet();
}

#[test]
fn a_kept_server_that_serves_and_ends_is_there_again_at_once() {
    let mut sim = serving(&[kept(tcp("web", 80))]);
    for pid in 1..=20 {
        sim.client("192.0.2.1").connects("web");
        sim.takes(pid);
        sim.exits(pid, 0);
        assert_eq!(sim.alive(), [pid + 1]);
    }
    sim.check_quiet();
}

/// What the rules say of somebody unknown; if they want to know him, the server waits for somebody who comes.
#[test]
fn rules_that_ask_who_comes_are_kept() {
    let mut sim = Simulation::new();
    sim.has_file("/etc/hosts.deny", "talk: ALL EXCEPT 192.0.2.1\n");
    reload(&mut sim, &[kept(udp("talk", 518)).wrapped()]);
    assert_eq!((sim.alive().len(), sim.state("talk")), (0, Some(State::Listening)));
    sim.client("192.0.2.2").sends("talk", b"x");
    assert_eq!(sim.alive().len(), 0);
    sim.client("192.0.2.1").sends("talk", b"x");
    assert_eq!(sim.alive(), [1]);
    sim.check_quiet();
}

#[test]
fn a_reload_starts_and_leaves_kept_servers() {
    let mut sim = serving(&[udp("talk", 518).wait()]);
    assert_eq!(sim.alive().len(), 0);
    reload(&mut sim, &[kept(udp("talk", 518))]);
    assert_eq!(sim.alive(), [1]);
    reload(&mut sim, &[kept(udp("talk", 518))]);
    assert_eq!(sim.alive(), [1]);
    reload(&mut sim, &[udp("talk", 518).wait()]);
    sim.exits(1, 0);
    assert_eq!((sim.alive().len(), sim.state("talk")), (0, Some(State::Listening)));
    sim.check_quiet();
}
