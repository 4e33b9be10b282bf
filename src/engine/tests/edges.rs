//! Every limit at its edge: one below it, at it, one beyond. And what a reload, and a clock that stands still or jumps, do
//! to a pause.

use super::*;

/// How many of `clients`, who come one after the other and stay, get in.
fn admitted(draft: Draft, clients: usize, from: fn(usize) -> String) -> usize {
    let id = draft.id.clone();
    let mut sim = serving(&[draft]);
    for n in 0..clients {
        sim.client(&from(n)).connects(&id);
    }
    sim.check_quiet();
    sim.alive().len()
}

fn each(n: usize) -> String {
    format!("192.0.2.{}", n + 1)
}

fn one(_: usize) -> String {
    "192.0.2.1".into()
}

#[test]
fn limits_let_in_as_many_as_they_say() {
    for most in [1, 2, 5] {
        let n = most as usize;
        for clients in [n - 1, n, n + 1, n + 3] {
            let wanted = clients.min(n);
            let says = |what: &str, got| assert_eq!(got, wanted, "{what} {most} and {clients} clients");
            says("instances", admitted(tcp("ssh", 22).instances(most), clients, each));
            says("inetd's number", admitted(tcp("ssh", 22).inetd().instances(most), clients, each));
            says("per_source", admitted(tcp("ssh", 22).per_source(most), clients, one));
            says("cps", admitted(tcp("ssh", 22).cps(most, 10), clients, each));
            says("cps without a pause", admitted(tcp("ssh", 22).cps(most, 0), clients, each));
            says("starts a minute", admitted(tcp("ssh", 22).inetd().per_minute(most), clients, each));
            let source = tcp("ssh", 22).inetd().with(|s| s.per_minute_source = Some(most));
            says("starts a minute of one", admitted(source, clients, one));
        }
    }
    assert_eq!(admitted(tcp("ssh", 22).per_source(1), 5, each), 5);
    assert_eq!(admitted(tcp("ssh", 22).instances(0), 2, each), 0);
}

#[test]
fn the_limit_of_the_daemon_counts_servers_of_all_services() {
    for most in 1..4 {
        let mut sim = serving(&[tcp("ssh", 22), tcp("pop", 110), tcp("echo", 7).is(Builtin::Echo)]);
        sim.engine.set_limit(Some(most));
        for n in 0..3 {
            for id in ["ssh", "pop", "echo"] {
                sim.client(&each(n)).connects(id);
            }
        }
        assert_eq!(sim.alive().len(), most as usize);
        // What we answer ourselves is no server.
        assert_eq!(sim.running("echo"), 3);
        let gone = sim.alive()[0];
        sim.exits(gone, 0);
        sim.client(&each(9)).connects("ssh");
        assert_eq!(sim.alive().len(), most as usize);
        sim.check_quiet();
    }
}

#[test]
fn max_load_and_access_times_hold_at_their_very_ends() {
    let mut sim = serving(&[tcp("ssh", 22).with(|s| s.max_load = Some(150))]);
    for (load, is_in) in [(149, true), (150, false), (151, false)] {
        sim.sets_load(Some(load));
        let before = sim.alive().len();
        sim.client("192.0.2.1").connects("ssh");
        assert_eq!(sim.alive().len() > before, is_in, "{load}");
    }
    let mut sim = serving(&[tcp("ssh", 22).times(9 * 60, 17 * 60)]);
    let midnight = sim.now().unix.unwrap() / 86400 * 86400;
    for (second, is_in) in
        [(9 * 3600 - 1, false), (9 * 3600, true), (17 * 3600 + 59, true), (17 * 3600 + 60, false)]
    {
        sim.sets_clock(Some(midnight + second));
        let before = sim.alive().len();
        sim.client("192.0.2.1").connects("ssh");
        assert_eq!(sim.alive().len() > before, is_in, "second {second} of the day");
    }
}

#[test]
fn a_pause_ends_at_its_own_time_whatever_is_reloaded_in_it() {
    let draft = || tcp("ssh", 22).cps(1, 10);
    let mut sim = serving(&[draft()]);
    sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.2").connects("ssh");
    assert!(paused(&sim, "ssh"));
    sim.passes_s(4);
    // Nothing new, another limit, another service before it: the pause is that of before.
    reload(&mut sim, &[draft()]);
    assert!(paused(&sim, "ssh"));
    reload(&mut sim, &[tcp("pop", 110), tcp("ssh", 22).cps(100, 1)]);
    assert!(paused(&sim, "ssh"));
    let waits = sim.client("192.0.2.3").connects("ssh");
    sim.passes_ms(5999);
    assert_eq!(sim.sees(waits), Sight::Waiting);
    sim.passes_ms(1);
    assert_eq!(sim.sees(waits), Sight::Taken);
    // The first client counts on.
    assert_eq!(sim.running("ssh"), 2);
    sim.check_quiet();
}

#[test]
fn a_clock_that_stands_still_holds_limits_and_lets_nobody_slip() {
    let mut sim = serving(&[tcp("ssh", 22).cps(3, 5)]);
    // All in one instant.
    for n in 0..3 {
        sim.client(&each(n)).connects("ssh");
    }
    assert_eq!(sim.state("ssh"), Some(State::Listening));
    sim.client(&each(3)).connects("ssh");
    assert!(paused(&sim, "ssh"));
    // The time of day may say what it likes: a year ahead, a year back, nothing at all.
    let now = sim.now().unix.unwrap();
    for unix in [Some(now + 31_536_000), Some(now - 31_536_000), None] {
        sim.sets_clock(unix);
        sim.deliver(Event::Tick);
        assert!(paused(&sim, "ssh"));
    }
    sim.passes_s(5);
    assert_eq!(sim.state("ssh"), Some(State::Listening));
    // A machine that was suspended: the pause is over when it wakes, once.
    for n in 4..9 {
        sim.client(&each(n)).connects("ssh");
    }
    assert!(paused(&sim, "ssh"));
    sim.jumps_ms(3_600_000);
    assert_eq!(sim.state("ssh"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn a_flood_of_one_uses_up_its_own_share_alone() {
    let mut sim = serving(&[tcp("ssh", 22).per_source(2).instances(10).cps(20, 10)]);
    for _ in 0..200 {
        sim.client("192.0.2.66").connects("ssh");
    }
    assert_eq!(sim.running("ssh"), 2);
    assert_eq!(sim.state("ssh"), Some(State::Listening));
    for n in 0..4 {
        let c = sim.client(&each(n)).connects("ssh");
        assert_eq!(sim.sees(c), Sight::Taken);
    }
    // When its two are gone it has its share again, and no more.
    sim.exits(1, 0);
    sim.exits(2, 0);
    sim.passes_s(1);
    for _ in 0..200 {
        sim.client("192.0.2.66").connects("ssh");
    }
    assert_eq!(sim.running("ssh"), 6);
    assert_eq!(status(&sim, "ssh").refused, 198 + 198);
    sim.check_quiet();
}
