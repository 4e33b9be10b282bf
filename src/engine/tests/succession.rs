//! One program after another: what the newer counts, and what the older keeps.

use super::*;

fn services() -> [Draft; 3] {
    [tcp("ssh", 22).instances(2), udp("talk", 518).wait(), tcp("echo", 7).is(Builtin::Echo)]
}

/// Ends a server that an older program started.
fn ends(sim: &mut Simulation, pid: Pid) {
    sim.deliver(Event::Ended { pid, ending: Ending::Exited(0), failed: None });
    sim.settle();
}

#[test]
fn servers_of_before_count_and_hold_what_they_held() {
    let mut old = serving(&services());
    old.client("192.0.2.1").connects("ssh");
    old.client("192.0.2.2").sends("talk", b"hello");
    let told: Vec<Tenancy> = old.engine.tenancies().collect();
    assert_eq!(told.len(), 2);

    let mut new = serving(&services());
    new.transcript();
    for tenancy in told {
        // Its number is nobody else's here.
        assert!(new.inherits(Tenancy { pid: tenancy.pid + 100, ..tenancy }));
    }
    new.expect(&["leave talk"]);
    assert_eq!((new.running("ssh"), new.state("talk")), (1, Some(State::Busy)));
    // One more has room, the next has not.
    new.client("192.0.2.3").connects("ssh");
    new.client("192.0.2.4").connects("ssh");
    let lines = new.transcript();
    assert!(lines.contains(&"record START: ssh pid=1 from=192.0.2.3".into()), "{lines:?}");
    assert!(lines.contains(&"record FAIL: ssh service_limit from=192.0.2.4".into()), "{lines:?}");
    // What waits at the socket waits for the server that has it.
    new.client("192.0.2.5").sends("talk", b"hello");
    new.expect(&[]);
    ends(&mut new, 102);
    new.expect(&[
        "record EXIT: talk status=0 pid=102 duration=0(sec) from=192.0.2.2",
        "watch talk",
        "spawn talk pid=2",
        "record START: talk pid=2 from=192.0.2.5",
        "leave talk",
    ]);
    ends(&mut new, 101);
    new.expect(&["record EXIT: ssh status=0 pid=101 duration=0(sec) from=192.0.2.1"]);
}

#[test]
fn a_server_whose_service_is_gone_is_known_all_the_same() {
    let mut sim = serving(&services());
    let lost = Tenancy {
        service: ServiceIndex::MAX,
        pid: 101,
        peer: Peer::Unknown,
        began: Instant(0),
        holds: Some(7),
        blocks: false,
    };
    assert!(sim.inherits(lost));
    assert_eq!(sim.engine.running(), 1);
    ends(&mut sim, 101);
    assert_eq!(sim.engine.running(), 0);
    sim.check_quiet();
}

#[test]
fn servers_without_a_place_are_refused() {
    let mut sim = serving(&services());
    let tenancy = |n: usize| Tenancy {
        service: 0,
        pid: 1000 + n as u32,
        peer: Peer::Unknown,
        began: Instant(0),
        holds: None,
        blocks: false,
    };
    assert!((0..SERVERS).all(|n| sim.inherits(tenancy(n))));
    assert!(!sim.inherits(tenancy(SERVERS)));
    assert_eq!(usize::from(sim.running("ssh")), SERVERS);
}

#[test]
fn who_resigns_keeps_his_conversations_and_nothing_else() {
    let mut sim = serving(&services());
    let talks = sim.client("192.0.2.1").connects("echo");
    sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.2").sends("talk", b"hello");
    sim.resigns();
    assert_eq!(sim.engine.running(), 1);
    sim.says(talks, b"still here");
    assert_eq!(sim.heard(talks), b"still here");
    sim.half_closes(talks);
    assert_eq!((sim.sees(talks), sim.engine.running()), (Sight::Eof, 0));
}
