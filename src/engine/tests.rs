//! Scripts against the simulation. They read like the protocol: who does what, and what the engine does about it.
//!
//! The storm at the end plays thousands of random steps; a failure prints the seed to replay.

extern crate std;

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::addr::Prefix;
use crate::backend::sim::{Call, Connection, Dice, Pace, Sight, Simulation};
use crate::capacity::TEXT_BYTES;
use crate::service::{Bind, Cps, Host, LogFields, Minutes, Proxy, Service, Standing, Target};
use crate::table::{Origin, Pattern, Rule, Span, Text};

mod conformance;
mod edges;
mod standby;
mod succession;
mod timeouts;
mod walks;
mod wrapped;

/// A service as a test writes it down; its strings and lists come into the table with it.
#[derive(Clone)]
struct Draft {
    id: String,
    service: Service,
    argv: Vec<String>,
    env: Vec<String>,
    only_from: Vec<&'static str>,
    no_access: Vec<&'static str>,
    times: Vec<Minutes>,
    banners: [&'static str; 3],
    /// The name of the host it redirects to, if it has one.
    host: &'static str,
}

fn tcp(id: &str, port: u16) -> Draft {
    Draft {
        id: id.into(),
        service: Service {
            port,
            log_on_success: LogFields(
                LogFields::PID.0 | LogFields::HOST.0 | LogFields::EXIT.0 | LogFields::DURATION.0,
            ),
            log_on_failure: LogFields::HOST,
            ..Service::default()
        },
        argv: vec![id.into()],
        env: Vec::new(),
        only_from: Vec::new(),
        no_access: Vec::new(),
        times: Vec::new(),
        banners: [""; 3],
        host: "",
    }
}

fn udp(id: &str, port: u16) -> Draft {
    tcp(id, port).with(|s| s.socket = SocketType::Dgram)
}

impl Draft {
    fn with(mut self, change: impl FnOnce(&mut Service)) -> Draft {
        change(&mut self.service);
        self
    }

    fn wait(self) -> Draft {
        self.with(|s| s.flags = s.flags.with(Flags::WAIT))
    }

    fn is(self, builtin: Builtin) -> Draft {
        self.with(|s| s.answer = Answer::Builtin(builtin))
    }

    fn inetd(self) -> Draft {
        self.with(|s| s.dialect = Dialect::Inetd)
    }

    /// Always, on success, on refusal.
    fn banners(mut self, paths: [&'static str; 3]) -> Draft {
        self.banners = paths;
        self
    }

    fn broken(self) -> Draft {
        self.with(|s| s.standing = Standing::Broken)
    }

    fn at(self, address: &str) -> Draft {
        self.with(|s| s.bind = Bind::Address(address.parse().unwrap()))
    }

    fn instances(self, n: u32) -> Draft {
        self.with(|s| s.instances = Some(n))
    }

    fn cps(self, rate: u32, pause: u32) -> Draft {
        self.with(|s| s.cps = Some(Cps { rate, pause }))
    }

    fn per_minute(self, n: u32) -> Draft {
        self.with(|s| s.per_minute = Some(n))
    }

    fn per_source(self, n: u32) -> Draft {
        self.with(|s| s.per_source = Some(n))
    }

    fn args(mut self, words: &[&str]) -> Draft {
        self.argv = words.iter().map(|word| String::from(*word)).collect();
        self
    }

    fn env(mut self, words: &[&str]) -> Draft {
        self.env = words.iter().map(|word| String::from(*word)).collect();
        self
    }

    fn only_from(mut self, rules: &[&'static str]) -> Draft {
        self.only_from = rules.to_vec();
        self.with(|s| s.flags = s.flags.with(Flags::ONLY_FROM))
    }

    fn no_access(mut self, rules: &[&'static str]) -> Draft {
        self.no_access = rules.to_vec();
        self
    }

    fn times(mut self, from: u16, to: u16) -> Draft {
        self.times.push(Minutes { from, to });
        self
    }

    fn flag(self, flag: Flags) -> Draft {
        self.with(|s| s.flags = s.flags.with(flag))
    }

    fn answers(self, answer: Answer) -> Draft {
        self.with(|s| s.answer = answer)
    }

    fn success(self, fields: LogFields) -> Draft {
        self.with(|s| s.log_on_success = LogFields(s.log_on_success.0 | fields.0))
    }

    fn failure(self, fields: LogFields) -> Draft {
        self.with(|s| s.log_on_failure = LogFields(s.log_on_failure.0 | fields.0))
    }

    fn redirects(self, address: &str, port: u16) -> Draft {
        self.answers(Answer::Redirect(Target { host: Host::Address(address.parse().unwrap()), port }))
    }

    fn wrapped(self) -> Draft {
        self.flag(Flags::LIBWRAP)
    }

    /// Led to a host by its name.
    fn redirects_by_name(mut self, name: &'static str, port: u16) -> Draft {
        self.host = name;
        self.redirects("192.0.2.80", port)
    }

    fn push(&self, table: &mut Table) {
        let mut service = self.service;
        if let Answer::Redirect(Target { host, .. }) = &mut service.answer
            && !self.host.is_empty()
        {
            *host = Host::Name(table.push_text(self.host.as_bytes()).unwrap());
        }
        service.id = table.push_text(self.id.as_bytes()).unwrap();
        service.name = service.id;
        service.daemon = service.id;
        service.program = table.push_text(format!("/usr/sbin/{}", self.id).as_bytes()).unwrap();
        fn words(table: &mut Table, words: &[String]) -> Span {
            let words: Vec<Text> = words.iter().map(|w| table.push_text(w.as_bytes()).unwrap()).collect();
            table.push_words(&words).unwrap()
        }
        service.argv = words(table, &self.argv);
        service.env = words(table, &self.env);
        // `address/bits`, or a name.
        let rules = |table: &mut Table, rules: &[&str]| {
            let rules: Vec<Rule> = rules
                .iter()
                .map(|rule| {
                    let pattern = match rule.split_once('/') {
                        Some((address, bits)) => Pattern::Network(
                            Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap(),
                        ),
                        None => Pattern::Name(table.push_text(rule.as_bytes()).unwrap()),
                    };
                    Rule { pattern, origin: Origin::default() }
                })
                .collect();
            table.push_rules(&rules).unwrap()
        };
        [service.banner, service.banner_success, service.banner_fail] =
            self.banners.map(|path| table.push_text(path.as_bytes()).unwrap());
        service.only_from = rules(table, &self.only_from);
        service.no_access = rules(table, &self.no_access);
        service.access_times = table.push_times(&self.times).unwrap();
        table.push_service(service).unwrap();
    }
}

fn reload(sim: &mut Simulation, drafts: &[Draft]) -> Changes {
    sim.reload(|table| drafts.iter().for_each(|draft| draft.push(table)))
}

/// A daemon with these services, after its start.
fn serving(drafts: &[Draft]) -> Simulation {
    let mut sim = Simulation::new();
    reload(&mut sim, drafts);
    sim.transcript();
    sim
}

fn changes(kept: u16, added: u16, removed: u16, preserved: u16) -> Changes {
    Changes { kept, added, removed, preserved, lost: 0 }
}

fn paused(sim: &Simulation, id: &str) -> bool {
    matches!(sim.state(id), Some(State::Paused { .. }))
}

fn status(sim: &Simulation, id: &str) -> Status {
    sim.engine.status(sim.index(id).unwrap()).unwrap()
}

// The walk of a connection.

#[test]
fn a_client_gets_a_server() {
    let mut sim = Simulation::new();
    assert_eq!(reload(&mut sim, &[tcp("ssh", 22)]), changes(0, 1, 0, 0));
    sim.expect(&["listen ssh tcp *:22", "watch ssh"]);
    let c = sim.client("192.0.2.1").connects("ssh");
    sim.expect(&["accept ssh 192.0.2.1", "spawn ssh pid=1", "record START: ssh pid=1 from=192.0.2.1"]);
    assert_eq!(sim.spawned(1).argv, ["ssh"]);
    assert_eq!(sim.running("ssh"), 1);
    sim.passes_s(7);
    sim.exits(1, 3);
    sim.expect(&["record EXIT: ssh status=3 pid=1 duration=7(sec) from=192.0.2.1"]);
    assert_eq!(sim.sees(c), Sight::Eof);
    assert_eq!(sim.engine.running(), 0);
    sim.client("::ffff:192.0.2.9").connects("tcp/22");
    sim.dies(2, 9);
    sim.expect(&[
        "accept ssh 192.0.2.9",
        "spawn ssh pid=2",
        "record START: ssh pid=2 from=192.0.2.9",
        "record EXIT: ssh signal=9 pid=2 duration=0(sec) from=192.0.2.9",
    ]);
    sim.check_quiet();
}

#[test]
fn a_wait_server_owns_the_socket_until_it_ends() {
    let mut sim = serving(&[udp("talk", 518).wait()]);
    sim.client("192.0.2.1").sends("talk", b"hello");
    sim.expect(&["spawn talk pid=1", "record START: talk pid=1 from=192.0.2.1", "leave talk"]);
    assert_eq!(sim.state("talk"), Some(State::Busy));
    assert!(sim.takes(1));
    sim.client("192.0.2.2").sends("talk", b"me too");
    sim.expect(&[]);
    // What came while it ran is not lost: the next server finds it.
    sim.exits(1, 0);
    sim.expect(&[
        "record EXIT: talk status=0 pid=1 duration=0(sec) from=192.0.2.1",
        "watch talk",
        "spawn talk pid=2",
        "record START: talk pid=2 from=192.0.2.2",
        "leave talk",
    ]);
    sim.takes(2);
    sim.exits(2, 0);
    sim.transcript();
    assert_eq!(sim.state("talk"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn a_stream_wait_server_accepts_itself() {
    let mut sim = serving(&[tcp("pop", 110).wait()]);
    let first = sim.client("192.0.2.1").connects("pop");
    sim.expect(&["spawn pop pid=1", "record START: pop pid=1 from=<no address>", "leave pop"]);
    assert!(sim.takes(1));
    let second = sim.client("192.0.2.2").connects("pop");
    assert!(sim.takes(1));
    assert_eq!((sim.sees(first), sim.sees(second)), (Sight::Taken, Sight::Taken));
    sim.exits(1, 0);
    sim.expect(&["record EXIT: pop status=0 pid=1 duration=0(sec) from=<no address>", "watch pop"]);
    assert_eq!(sim.sees(first), Sight::Eof);
}

// Built-in services.

#[test]
fn echo_gives_back_what_it_gets() {
    let mut sim = serving(&[tcp("echo", 7).is(Builtin::Echo)]);
    let c = sim.client("192.0.2.1").connects("echo");
    sim.expect(&[
        "accept echo 192.0.2.1",
        "open echo 192.0.2.1, waits for input",
        "record START: echo pid=0 from=192.0.2.1",
    ]);
    sim.says(c, b"one");
    assert_eq!(sim.heard(c), b"one");
    sim.together(|sim| {
        sim.says(c, b"two");
        sim.half_closes(c);
    });
    // What it said last comes back before the end.
    assert_eq!(sim.heard(c), b"two");
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.expect(&["close echo 192.0.2.1", "record EXIT: echo status=0 pid=0 duration=0(sec) from=192.0.2.1"]);
    sim.check_quiet();
}

#[test]
fn a_slow_reader_of_echo_waits_alone() {
    let mut sim = serving(&[tcp("echo", 7).is(Builtin::Echo)]);
    let slow = sim.client("192.0.2.1").pace(Pace::WhenTold).connects("echo");
    let quick = sim.client("192.0.2.2").connects("echo");
    sim.transcript();
    let long: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    sim.says(slow, &long);
    sim.expect(&["echo 192.0.2.1, waits for room"]);
    sim.says(quick, b"still here?");
    assert_eq!(sim.heard(quick), b"still here?");
    sim.half_closes(slow);
    sim.sets_pace(slow, Pace::PerMs(1000));
    sim.passes_ms(300);
    assert!(sim.heard(slow) == long);
    assert_eq!(sim.sees(slow), Sight::Eof);
    assert_eq!(sim.running("echo"), 1);
    sim.check_quiet();
}

#[test]
fn a_client_that_vanishes_frees_its_place() {
    let mut sim = serving(&[tcp("echo", 7).is(Builtin::Echo), tcp("discard", 9).is(Builtin::Discard)]);
    let e = sim.client("192.0.2.1").connects("echo");
    let d = sim.client("192.0.2.2").connects("discard");
    sim.says(d, &[0; 100_000]);
    sim.transcript();
    sim.vanishes(e);
    sim.expect(&["close echo 192.0.2.1", "record EXIT: echo status=0 pid=0 duration=0(sec) from=192.0.2.1"]);
    sim.half_closes(d);
    sim.expect(&[
        "close discard 192.0.2.2",
        "record EXIT: discard status=0 pid=0 duration=0(sec) from=192.0.2.2",
    ]);
    assert_eq!(sim.heard(d), b"");
    assert_eq!(sim.engine.running(), 0);
}

#[test]
fn chargen_writes_as_fast_as_its_client_reads() {
    let mut sim = serving(&[tcp("chargen", 19).is(Builtin::Chargen)]);
    let c = sim.client("192.0.2.1").pace(Pace::WhenTold).connects("chargen");
    sim.expect(&[
        "accept chargen 192.0.2.1",
        "open chargen 192.0.2.1, waits for room",
        "record START: chargen pid=0 from=192.0.2.1",
    ]);
    sim.reads(c, 74);
    sim.reads(c, 6);
    assert_eq!(sim.heard(c).split_at(74).1, b"\"#$%&'");
    sim.vanishes(c);
    assert_eq!(sim.engine.running(), 0);
}

#[test]
fn daytime_and_time_take_no_place() {
    let mut sim = serving(&[
        tcp("daytime", 13).is(Builtin::Daytime).inetd(),
        tcp("time", 37).is(Builtin::Time),
        tcp("xdaytime", 1013).is(Builtin::Daytime),
    ]);
    let c = sim.client("192.0.2.1").connects("daytime");
    sim.expect(&[
        "accept daytime 192.0.2.1",
        "record START: daytime pid=0 from=192.0.2.1",
        "close daytime 192.0.2.1",
    ]);
    assert_eq!(sim.heard(c), b"Sun Nov 22 11:15:14 2026\r\n");
    let c = sim.client("192.0.2.1").connects("time");
    assert_eq!(sim.heard(c), (1_795_346_114u32.wrapping_add(2_208_988_800)).to_be_bytes());
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.transcript();
    sim.sets_clock(None);
    let c = sim.client("192.0.2.1").connects("daytime");
    sim.expect(&[
        "accept daytime 192.0.2.1",
        "record FAIL: daytime no_time from=192.0.2.1",
        "close daytime 192.0.2.1",
    ]);
    assert_eq!((sim.heard(c), sim.sees(c)), (vec![], Sight::Eof));
    assert_eq!(status(&sim, "daytime").started, 1);
    assert_eq!(status(&sim, "daytime").refused, 1);
}

#[test]
fn datagrams_are_answered_in_full_bursts() {
    let mut sim = serving(&[udp("echo", 7).is(Builtin::Echo), udp("discard", 9).is(Builtin::Discard)]);
    sim.client("192.0.2.1").sends("echo", b"hello");
    sim.expect(&[
        "receive echo 192.0.2.1 5 bytes",
        "reply echo 192.0.2.1 5 bytes",
        "record START: echo pid=0 from=192.0.2.1",
    ]);
    sim.client("192.0.2.1").sends("discard", b"hello");
    sim.expect(&["receive discard 192.0.2.1 5 bytes", "record START: discard pid=0 from=192.0.2.1"]);
    sim.replies();
    sim.together(|sim| {
        for n in 0..500u32 {
            sim.client("192.0.2.1").sends("echo", &n.to_be_bytes());
        }
    });
    let answers = sim.replies();
    assert_eq!(answers.len(), 500);
    assert!(answers.iter().zip(0u32..).all(|((_, bytes), n)| *bytes == n.to_be_bytes()));
    // An empty datagram is answered by an empty one.
    sim.client("192.0.2.1").sends("echo", b"");
    assert_eq!(sim.replies()[0].1, b"");
    assert_eq!(status(&sim, "echo").started, 502);
}

#[test]
fn no_two_services_answer_each_other() {
    let mut sim = serving(&[udp("echo", 7).is(Builtin::Echo), udp("mirror", 10007).is(Builtin::Echo)]);
    for (address, port) in [
        ("192.0.2.1", 7),
        ("192.0.2.2", 19),
        ("192.0.2.3", 0),
        ("255.255.255.255", 5000),
        ("224.0.0.1", 5000),
        ("0.0.0.0", 5000),
        ("ff02::1", 5000),
        // Our own other service, whichever of our addresses it speaks from.
        ("127.0.0.1", 10007),
        ("198.51.100.1", 10007),
    ] {
        sim.client(address).port(port).sends("echo", b"x");
        let got = sim.transcript();
        assert_eq!(got.len(), 2, "{got:?}");
        assert_eq!(got[1], format!("record FAIL: echo loop from={address}"));
    }
    assert!(sim.replies().is_empty());
    assert_eq!((status(&sim, "echo").started, status(&sim, "echo").refused), (0, 9));
    // Somebody else's client may use that port.
    sim.client("192.0.2.1").port(10007).sends("echo", b"x");
    assert_eq!(sim.replies().len(), 1);
}

/// The lines about refused datagrams since the last look.
fn fails(sim: &mut Simulation) -> Vec<String> {
    sim.transcript().into_iter().filter(|line| line.starts_with("record FAIL")).collect()
}

#[test]
fn a_flood_of_refused_datagrams_is_told_in_few_lines_and_counted_whole() {
    let drafts = [
        udp("echo", 7).is(Builtin::Echo),
        udp("mirror", 10007).is(Builtin::Echo).no_access(&["0.0.0.0/0"]),
        udp("talk", 518).wait().no_access(&["0.0.0.0/0"]),
    ];
    let mut sim = serving(&drafts);
    let floods = |sim: &mut Simulation, service: &'static str, n: u32| {
        sim.together(|sim| {
            for n in 0..n {
                let from = format!("192.0.2.{}", n % 200);
                sim.client(&from).port(7).sends(service, b"x");
            }
        });
    };
    for (n, (service, reason)) in
        [("echo", "loop"), ("mirror", "loop"), ("talk", "address")].into_iter().enumerate()
    {
        floods(&mut sim, service, 1000);
        let lines = fails(&mut sim);
        assert_eq!(lines.len(), 10, "{lines:?}");
        assert_eq!(lines[9], format!("record FAIL: {service} {reason} from=192.0.2.9"));
        // Nothing is due before the minute is over, and then one line, with the datagrams that came meanwhile.
        sim.passes_s(20);
        floods(&mut sim, service, 7);
        sim.passes_s(39);
        assert!(fails(&mut sim).is_empty());
        sim.passes_s(1);
        assert_eq!(fails(&mut sim), [format!("record FAIL: {service} 997 more datagrams within 60 seconds")]);
        assert_eq!(status(&sim, service).refused, 1007);
        // An idle daemon does not wake up for it.
        sim.check_quiet();
        assert!(n < 3 && sim.engine.next_deadline().is_none());
    }
    // The same sender again is no news within the minute; another is, and so is the same one later.
    for (address, told) in [("192.0.2.1", true), ("192.0.2.1", false), ("192.0.2.2", true)] {
        sim.client(address).port(9).sends("echo", b"x");
        assert_eq!(fails(&mut sim).len(), usize::from(told), "{address}");
    }
    sim.passes_s(60);
    assert_eq!(fails(&mut sim), ["record FAIL: echo 1 more datagrams within 60 seconds"]);
    sim.client("192.0.2.2").port(9).sends("echo", b"x");
    assert_eq!(fails(&mut sim).len(), 1);
    sim.passes_s(60);
    // Three episodes without anything left to tell.
    sim.client("192.0.2.2").port(9).sends("echo", b"x");
    assert_eq!(fails(&mut sim).len(), 1);
    // A reload and the end do not wait for the minute.
    floods(&mut sim, "mirror", 15);
    reload(&mut sim, &drafts[..1]);
    assert_eq!(fails(&mut sim)[10], "record FAIL: mirror 5 more datagrams within 0 seconds");
    floods(&mut sim, "echo", 15);
    sim.terminates();
    let lines = fails(&mut sim);
    assert_eq!(lines.last().map(String::as_str), Some("record FAIL: echo 5 more datagrams within 0 seconds"));
}

#[test]
fn a_datagram_that_asks_for_the_unknown_time_is_refused_once() {
    let mut sim = serving(&[udp("time", 37).is(Builtin::Time)]);
    sim.sets_clock(None);
    sim.client("192.0.2.1").sends("time", b"");
    sim.expect(&["receive time 192.0.2.1 0 bytes", "record FAIL: time no_time from=192.0.2.1"]);
    assert_eq!((status(&sim, "time").started, status(&sim, "time").refused), (0, 1));
}

#[test]
fn a_session_that_cannot_be_watched_was_never_started() {
    let mut sim = serving(&[tcp("echo", 7).is(Builtin::Echo), tcp("chargen", 19).is(Builtin::Chargen)]);
    sim.fails_next(Call::Open, Errno::NOMEM);
    sim.client("192.0.2.1").connects("echo");
    sim.expect(&[
        "accept echo 192.0.2.1",
        "open echo 192.0.2.1: Cannot allocate memory (errno = 12)",
        "record FAIL: echo process_limit from=192.0.2.1",
        "drop echo 192.0.2.1",
    ]);
    assert_eq!((status(&sim, "echo").started, status(&sim, "echo").refused), (0, 1));
    // A client that is gone before the first byte: it started, so it ends.
    sim.together(|sim| {
        let c = sim.client("192.0.2.1").connects("chargen");
        sim.vanishes(c);
    });
    sim.expect(&[
        "accept chargen 192.0.2.1",
        "open chargen 192.0.2.1, waits for room",
        "record START: chargen pid=0 from=192.0.2.1",
        "close chargen 192.0.2.1",
        "record EXIT: chargen status=0 pid=0 duration=0(sec) from=192.0.2.1",
    ]);
}

#[test]
fn who_only_tells_the_time_needs_no_place() {
    let mut sim = serving(&[tcp("echo", 7).is(Builtin::Echo), tcp("daytime", 13).is(Builtin::Daytime)]);
    for _ in 0..SESSIONS {
        sim.client("192.0.2.1").connects("echo");
    }
    let c = sim.client("192.0.2.1").connects("daytime");
    assert_eq!(sim.sees(c), Sight::Eof);
    assert!(!sim.heard(c).is_empty());
}

// Limits.

#[test]
fn banners_go_out_before_the_check_and_after_it() {
    let mut sim = serving(&[tcp("ssh", 22).instances(1).banners(["/hello", "/welcome", "/sorry"])]);
    for name in ["hello", "welcome", "sorry"] {
        sim.has_file(&format!("/{name}"), &format!("{name}\n"));
    }
    sim.client("192.0.2.1").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "tell ssh 192.0.2.1 \"hello\\n\"",
        "tell ssh 192.0.2.1 \"welcome\\n\"",
        "spawn ssh pid=1",
        "record START: ssh pid=1 from=192.0.2.1",
    ]);
    sim.client("192.0.2.2").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.2",
        "tell ssh 192.0.2.2 \"hello\\n\"",
        "tell ssh 192.0.2.2 \"sorry\\n\"",
        "record FAIL: ssh service_limit from=192.0.2.2",
        "close ssh 192.0.2.2",
    ]);
}

#[test]
fn xinetd_refuses_whom_instances_leaves_no_place() {
    let mut sim = serving(&[tcp("ssh", 22).instances(1)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    let c = sim.client("192.0.2.2").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.2",
        "record FAIL: ssh service_limit from=192.0.2.2",
        "close ssh 192.0.2.2",
    ]);
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.exits(1, 0);
    sim.client("192.0.2.2").connects("ssh");
    assert_eq!(sim.alive(), [2]);
}

#[test]
fn inetd_leaves_whom_instances_leaves_no_place_in_the_backlog() {
    let mut sim = serving(&[tcp("ssh", 22).inetd().instances(1)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    let c = sim.client("192.0.2.2").connects("ssh");
    sim.expect(&["leave ssh"]);
    assert_eq!((sim.sees(c), sim.state("ssh")), (Sight::Waiting, Some(State::Full)));
    sim.exits(1, 0);
    sim.expect(&[
        "record EXIT: ssh status=0 pid=1 duration=0(sec) from=192.0.2.1",
        "watch ssh",
        "accept ssh 192.0.2.2",
        "spawn ssh pid=2",
        "record START: ssh pid=2 from=192.0.2.2",
    ]);
    sim.check_quiet();
}

#[test]
fn per_source_counts_a_client_address() {
    let mut sim = serving(&[tcp("ssh", 22).per_source(1), tcp("echo", 7).is(Builtin::Echo).per_source(1)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.client("::ffff:192.0.2.1").connects("ssh");
    sim.client("192.0.2.2").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "spawn ssh pid=1",
        "record START: ssh pid=1 from=192.0.2.1",
        "accept ssh 192.0.2.1",
        "record FAIL: ssh per_source_limit from=192.0.2.1",
        "close ssh 192.0.2.1",
        "accept ssh 192.0.2.2",
        "spawn ssh pid=2",
        "record START: ssh pid=2 from=192.0.2.2",
    ]);
    let c = sim.client("192.0.2.1").connects("echo");
    let refused = sim.client("192.0.2.1").connects("echo");
    assert_eq!((sim.sees(c), sim.sees(refused)), (Sight::Taken, Sight::Eof));
    sim.half_closes(c);
    let again = sim.client("192.0.2.1").connects("echo");
    assert_eq!(sim.sees(again), Sight::Taken);
}

#[test]
fn cps_pauses_and_nobody_loses_count() {
    let mut sim = serving(&[tcp("ssh", 22).cps(2, 4).instances(3)]);
    sim.together(|sim| {
        for n in 1..=4 {
            sim.client(&format!("192.0.2.{n}")).connects("ssh");
        }
    });
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "spawn ssh pid=1",
        "record START: ssh pid=1 from=192.0.2.1",
        "accept ssh 192.0.2.2",
        "spawn ssh pid=2",
        "record START: ssh pid=2 from=192.0.2.2",
        "accept ssh 192.0.2.3",
        "record FAIL: ssh connections per second from=192.0.2.3",
        "close ssh 192.0.2.3",
        "record Deactivating service ssh due to excessive incoming connections.  Restarting in 4 seconds.",
        "leave ssh",
    ]);
    sim.passes_ms(3999);
    sim.expect(&[]);
    sim.passes_ms(1);
    // Two servers still live (xinetd forgot them here), so there is one place.
    sim.expect(&[
        "watch ssh",
        "record Activating service ssh",
        "accept ssh 192.0.2.4",
        "spawn ssh pid=3",
        "record START: ssh pid=3 from=192.0.2.4",
    ]);
    sim.client("192.0.2.5").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.5",
        "record FAIL: ssh service_limit from=192.0.2.5",
        "close ssh 192.0.2.5",
    ]);
    for pid in 1..=3 {
        sim.exits(pid, 0);
    }
    assert_eq!(sim.running("ssh"), 0);
    sim.check_quiet();
}

#[test]
fn who_waited_through_a_pause_begins_no_other() {
    let mut sim = serving(&[tcp("ssh", 22).cps(2, 4)]);
    sim.together(|sim| {
        for n in 1..=8 {
            sim.client(&format!("192.0.2.{n}")).connects("ssh");
        }
    });
    sim.passes_ms(3999);
    sim.transcript();
    sim.passes_ms(1);
    // Two of the five who waited have the places of this second; then counting begins anew.
    let after: Vec<String> = sim.transcript().into_iter().filter(|line| line.contains("record")).collect();
    assert_eq!(
        after,
        [
            "record Activating service ssh",
            "record START: ssh pid=3 from=192.0.2.4",
            "record START: ssh pid=4 from=192.0.2.5",
            "record FAIL: ssh connections per second from=192.0.2.6",
            "record FAIL: ssh connections per second from=192.0.2.7",
            "record FAIL: ssh connections per second from=192.0.2.8",
        ]
    );
    for n in 11..=13 {
        sim.client(&format!("192.0.2.{n}")).connects("ssh");
    }
    let after: Vec<String> = sim.transcript().into_iter().filter(|line| line.contains("record")).collect();
    assert_eq!(
        after,
        [
            "record START: ssh pid=5 from=192.0.2.11",
            "record START: ssh pid=6 from=192.0.2.12",
            "record FAIL: ssh connections per second from=192.0.2.13",
            "record Deactivating service ssh due to excessive incoming connections.  Restarting in 4 seconds.",
        ]
    );
}

#[test]
fn per_minute_pauses_to_the_end_of_the_minute() {
    let mut sim = serving(&[tcp("ssh", 22).inetd().per_minute(2)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.passes_s(20);
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    let c = sim.client("192.0.2.2").connects("ssh");
    sim.expect(&["record ssh/tcp server failing (looping), service paused for 40 seconds", "leave ssh"]);
    assert_eq!(sim.sees(c), Sight::Waiting);
    sim.passes_s(40);
    sim.expect(&[
        "watch ssh",
        "record Activating service ssh",
        "accept ssh 192.0.2.2",
        "spawn ssh pid=3",
        "record START: ssh pid=3 from=192.0.2.2",
    ]);
}

#[test]
fn per_minute_source_counts_a_client_address() {
    let mut sim = serving(&[tcp("ssh", 22).inetd().with(|s| s.per_minute_source = Some(1))]);
    sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.2").connects("ssh");
    assert_eq!(sim.alive(), [1, 2]);
    sim.transcript();
    sim.client("192.0.2.1").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "record FAIL: ssh connections per minute from=192.0.2.1",
        "close ssh 192.0.2.1",
    ]);
    sim.passes_s(60);
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.alive(), [1, 2, 3]);
}

#[test]
fn who_may_not_come_in_does_not_trip_cps() {
    let mut sim =
        serving(&[tcp("ssh", 22).only_from(&["10.0.0.0/8"]).no_access(&["10.0.0.1/32"]).cps(1, 60)]);
    for address in ["192.0.2.1", "10.0.0.1", "::1"] {
        sim.client(address).connects("ssh");
        sim.expect(&[
            &format!("accept ssh {address}"),
            &format!("record FAIL: ssh address from={address}"),
            &format!("close ssh {address}"),
        ]);
    }
    sim.client("10.0.0.2").connects("ssh");
    assert_eq!(sim.alive(), [1]);
}

#[test]
fn access_times_are_local_minutes() {
    // It is 11:15.
    let mut sim = serving(&[tcp("day", 1).times(660, 675), tcp("night", 2).times(0, 674)]);
    sim.client("192.0.2.1").connects("day");
    sim.client("192.0.2.1").connects("night");
    sim.passes_s(60);
    sim.client("192.0.2.1").connects("day");
    sim.sets_clock(None);
    sim.client("192.0.2.1").connects("day");
    let fails: Vec<String> = sim.transcript().into_iter().filter(|line| line.contains("FAIL")).collect();
    assert_eq!(
        fails,
        [
            "record FAIL: night time from=192.0.2.1",
            "record FAIL: day time from=192.0.2.1",
            "record FAIL: day time from=192.0.2.1",
        ]
    );
    assert_eq!(sim.alive(), [1]);
}

#[test]
fn max_load_refuses_while_the_load_is_that_high() {
    let mut sim = serving(&[tcp("ssh", 22).with(|s| s.max_load = Some(250))]);
    sim.sets_load(Some(250));
    sim.client("192.0.2.1").connects("ssh");
    sim.expect(&["accept ssh 192.0.2.1", "record FAIL: ssh load from=192.0.2.1", "close ssh 192.0.2.1"]);
    sim.sets_load(Some(249));
    sim.client("192.0.2.1").connects("ssh");
    sim.sets_load(None);
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.alive(), [1, 2]);
}

#[test]
fn limit_bounds_all_servers_together() {
    let mut sim = serving(&[
        tcp("ssh", 22),
        udp("talk", 518).wait(),
        tcp("pop", 110).wait(),
        tcp("echo", 7).is(Builtin::Echo),
    ]);
    sim.engine.set_limit(Some(1));
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    sim.client("192.0.2.2").connects("ssh");
    sim.client("192.0.2.2").sends("talk", b"x");
    sim.client("192.0.2.2").connects("pop");
    sim.expect(&[
        "accept ssh 192.0.2.2",
        "record FAIL: ssh process_limit from=192.0.2.2",
        "close ssh 192.0.2.2",
        "record FAIL: talk process_limit from=192.0.2.2",
        "receive talk 192.0.2.2 1 bytes",
        "record FAIL: pop process_limit from=<no address>",
        "accept pop 192.0.2.2",
        "close pop 192.0.2.2",
    ]);
    // Built-in services start none.
    let c = sim.client("192.0.2.2").connects("echo");
    assert_eq!(sim.sees(c), Sight::Taken);
    sim.exits(1, 0);
    sim.client("192.0.2.2").sends("talk", b"x");
    assert_eq!(sim.alive(), [2]);
    sim.check_quiet();
}

#[test]
fn a_full_table_of_servers_leaves_clients_in_the_backlog() {
    let mut sim = serving(&[tcp("ssh", 22), udp("talk", 518).wait(), tcp("echo", 7).is(Builtin::Echo)]);
    for _ in 0..SERVERS {
        sim.client("192.0.2.1").connects("ssh");
    }
    assert_eq!(sim.engine.running(), SERVERS);
    sim.transcript();
    let c = sim.client("192.0.2.2").connects("ssh");
    sim.client("192.0.2.3").sends("talk", b"x");
    sim.expect(&[
        "record service ssh: no free place for another server; clients wait in the backlog",
        "leave ssh",
        "leave talk",
    ]);
    assert_eq!(sim.sees(c), Sight::Waiting);
    let e = sim.client("192.0.2.2").connects("echo");
    assert_eq!(sim.sees(e), Sight::Taken);
    // One place: one of them gets it, the other goes on waiting, and nobody says so a second time.
    sim.transcript();
    sim.exits(1, 0);
    sim.expect(&[
        "record EXIT: ssh status=0 pid=1 duration=0(sec) from=192.0.2.1",
        "watch ssh",
        "watch talk",
        "accept ssh 192.0.2.2",
        &format!("spawn ssh pid={}", SERVERS + 1),
        &format!("record START: ssh pid={} from=192.0.2.2", SERVERS + 1),
        "leave talk",
    ]);
    sim.exits(2, 0);
    assert_eq!(sim.state("talk"), Some(State::Busy));
    sim.check_quiet();
}

#[test]
fn a_full_table_of_sessions_leaves_clients_in_the_backlog() {
    let mut sim = serving(&[tcp("echo", 7).is(Builtin::Echo), tcp("ssh", 22)]);
    let all: Vec<Connection> = (0..SESSIONS).map(|_| sim.client("192.0.2.1").connects("echo")).collect();
    sim.transcript();
    let c = sim.client("192.0.2.2").connects("echo");
    sim.expect(&[
        "record service echo: no free place for another server; clients wait in the backlog",
        "leave echo",
    ]);
    sim.client("192.0.2.2").connects("ssh");
    assert_eq!((sim.sees(c), sim.alive()), (Sight::Waiting, vec![1]));
    sim.vanishes(all[1]);
    assert_eq!(sim.sees(c), Sight::Taken);
    sim.check_quiet();
}

#[test]
fn cps_leaves_what_waits_for_a_wait_server() {
    let mut sim = serving(&[udp("talk", 518).wait().cps(1, 5), tcp("pop", 110).wait().cps(1, 5)]);
    for (service, pid) in [("talk", 1), ("pop", 3)] {
        let connects = |sim: &mut Simulation, n: u8| {
            let client = sim.client(&format!("192.0.2.{n}"));
            if service == "talk" {
                client.sends(service, b"x");
            } else {
                client.connects(service);
            }
        };
        connects(&mut sim, 1);
        sim.takes(pid);
        sim.exits(pid, 0);
        sim.transcript();
        connects(&mut sim, 2);
        // Nobody is turned away, so nobody is said to be.
        sim.expect(&[
            &format!(
                "record Deactivating service {service} due to excessive incoming connections.  \
                 Restarting in 5 seconds."
            ),
            &format!("leave {service}"),
        ]);
        assert_eq!(status(&sim, service).refused, 0);
        sim.passes_s(5);
        assert_eq!(sim.alive(), [pid + 1]);
        assert!(sim.takes(pid + 1));
        sim.exits(pid + 1, 0);
        sim.check_quiet();
    }
}

#[test]
fn cps_with_a_pause_of_nothing_refuses_just_what_is_too_much() {
    let mut sim = serving(&[
        tcp("ssh", 22).cps(1, 0),
        udp("talk", 518).wait().cps(1, 0),
        udp("echo", 7).is(Builtin::Echo).cps(1, 0),
    ]);
    sim.together(|sim| {
        for _ in 0..3 {
            sim.client("192.0.2.1").connects("ssh");
        }
    });
    let refused = ["record FAIL: ssh connections per second from=192.0.2.1", "close ssh 192.0.2.1"];
    let got = sim.transcript();
    assert_eq!(got[4..6], refused);
    assert_eq!(got[7..], refused);
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.takes(1 + 1);
    sim.exits(1 + 1, 0);
    sim.transcript();
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.expect(&[
        "record FAIL: talk connections per second from=192.0.2.1",
        "receive talk 192.0.2.1 1 bytes",
    ]);
    sim.together(|sim| {
        for _ in 0..3 {
            sim.client("192.0.2.1").sends("echo", b"x");
        }
    });
    assert_eq!(sim.replies().len(), 1);
    assert_eq!(status(&sim, "echo").refused, 2);
    sim.passes_s(1);
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.alive(), [1, 3]);
}

#[test]
fn only_starts_count_for_per_minute_source() {
    let mut sim = serving(&[udp("talk", 518).wait().cps(1, 5).with(|s| s.per_minute_source = Some(1))]);
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.takes(1);
    sim.exits(1, 0);
    // This one trips cps, waits, and is asked about a second time: its first start is still to come.
    sim.client("192.0.2.2").sends("talk", b"x");
    assert!(paused(&sim, "talk"));
    sim.passes_s(5);
    assert_eq!(sim.alive(), [2]);
    sim.takes(2);
    sim.exits(2, 0);
    sim.passes_s(5);
    sim.transcript();
    sim.client("192.0.2.2").sends("talk", b"x");
    assert_eq!(sim.transcript()[0], "record FAIL: talk connections per minute from=192.0.2.2");
}

#[test]
fn a_service_without_places_holds_nobody_back_for_ever() {
    let mut sim =
        serving(&[tcp("ssh", 22).inetd().instances(0), udp("talk", 518).wait().inetd().instances(0)]);
    let c = sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.1").sends("talk", b"x");
    assert_eq!(sim.sees(c), Sight::Eof);
    assert_eq!((sim.state("ssh"), sim.state("talk")), (Some(State::Listening), Some(State::Listening)));
    assert_eq!((status(&sim, "ssh").refused, status(&sim, "talk").refused), (1, 1));
    sim.check_quiet();
}

#[test]
fn a_client_that_cannot_be_known_is_not_let_in_by_rules() {
    // A stream wait server accepts itself: nobody knows whom. Rules that cannot be applied refuse.
    for service in [
        tcp("pop", 110).wait().no_access(&["192.0.2.0/24"]),
        tcp("pop", 110).wait().only_from(&["192.0.2.0/24"]),
    ] {
        let mut sim = serving(&[service]);
        let c = sim.client("192.0.2.1").connects("pop");
        assert_eq!((sim.sees(c), sim.alive()), (Sight::Eof, vec![]));
        sim.expect(&[
            "record FAIL: pop address from=<no address>",
            "accept pop 192.0.2.1",
            "close pop 192.0.2.1",
        ]);
    }
}

#[test]
fn services_that_wait_for_a_place_take_turns() {
    let mut sim = serving(&[tcp("a", 1), tcp("b", 2), tcp("c", 3)]);
    for _ in 0..SERVERS {
        sim.client("192.0.2.1").connects("a");
    }
    // There is always somebody waiting at each.
    for _ in 0..20 {
        for service in ["a", "b", "c"] {
            sim.client("192.0.2.1").connects(service);
        }
    }
    for pid in 1..=3 {
        sim.exits(pid, 0);
    }
    let next = |sim: &Simulation, n: u32| sim.spawned(SERVERS as Pid + n).id;
    let mut ids = [next(&sim, 1), next(&sim, 2), next(&sim, 3)];
    ids.sort();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[test]
fn who_is_full_by_itself_is_not_woken_by_others() {
    let mut sim = serving(&[tcp("ssh", 22).inetd().instances(1), tcp("web", 80)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.2").connects("ssh");
    sim.client("192.0.2.1").connects("web");
    sim.transcript();
    sim.exits(2, 0);
    sim.expect(&["record EXIT: web status=0 pid=2 duration=0(sec) from=192.0.2.1"]);
}

// What goes wrong.

#[test]
fn a_failed_fork_refuses_one_client_and_the_others_wait() {
    let mut sim = serving(&[tcp("ssh", 22), udp("talk", 518).wait()]);
    sim.fails_next(Call::Spawn, Errno::AGAIN);
    sim.together(|sim| {
        sim.client("192.0.2.1").connects("ssh");
        sim.client("192.0.2.2").connects("ssh");
    });
    sim.expect(&[
        "accept ssh 192.0.2.1",
        "spawn ssh: Resource temporarily unavailable (errno = 11)",
        "record ssh: fork failed: Resource temporarily unavailable (errno = 11)",
        "record FAIL: ssh fork from=192.0.2.1",
        "close ssh 192.0.2.1",
        "leave ssh",
    ]);
    sim.passes_s(1);
    assert_eq!(sim.alive(), [1]);
    sim.transcript();
    sim.check_quiet();
}

#[test]
fn a_program_that_cannot_be_executed_is_a_failure() {
    let mut sim = serving(&[tcp("ssh", 22)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    sim.fails(1, ChildStep::Exec, Errno::NOENT);
    sim.fails(2, ChildStep::Uid, Errno::PERM);
    sim.expect(&[
        "record ssh: execv( /usr/sbin/ssh ) failed: No such file or directory (errno = 2)",
        "record FAIL: ssh exec from=192.0.2.1",
        "record ssh: setuid failed: Operation not permitted (errno = 1)",
        "record FAIL: ssh exec from=192.0.2.1",
    ]);
    assert_eq!(sim.engine.running(), 0);
    // An orphan that came to process 1 is nobody's server.
    sim.deliver(Event::Ended { pid: 999, ending: Ending::Exited(0), failed: None });
    sim.expect(&[]);
}

#[test]
fn accept_without_descriptors_waits_a_second() {
    let mut sim = serving(&[tcp("ssh", 22)]);
    sim.fails_next(Call::Accept, Errno::MFILE);
    sim.client("192.0.2.1").connects("ssh");
    sim.expect(&[
        "accept ssh: Too many open files (errno = 24)",
        "record service ssh, accept: Too many open files (errno = 24); trying again in 1 second",
        "leave ssh",
    ]);
    sim.passes_s(1);
    assert_eq!(sim.alive(), [1]);
    // A client that left in the backlog is nothing to wait for.
    sim.transcript();
    sim.fails_next(Call::Accept, Errno::CONNABORTED);
    sim.together(|sim| {
        sim.client("192.0.2.1").connects("ssh");
        sim.client("192.0.2.2").connects("ssh");
    });
    sim.expect(&[
        "accept ssh: Software caused connection abort (errno = 103)",
        "accept ssh 192.0.2.2",
        "spawn ssh pid=2",
        "record START: ssh pid=2 from=192.0.2.2",
    ]);
}

#[test]
fn a_hasty_wait_server_is_started_again_later_and_later() {
    let mut sim = serving(&[udp("talk", 518).wait()]);
    sim.client("192.0.2.1").sends("talk", b"x");
    // Three times for nothing.
    for pid in 1..=3 {
        sim.exits(pid, 1);
        assert_eq!(sim.alive(), [pid + 1]);
    }
    let mut pid = 4;
    for ms in [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
        sim.transcript();
        sim.exits(pid, 1);
        let got = sim.transcript();
        assert_eq!(
            got[1],
            format!(
                "record talk: server ends without taking what waits for it; next start in {}.{} seconds",
                ms / 1000,
                ms % 1000 / 100
            )
        );
        sim.passes_ms(ms - 1);
        assert!(sim.alive().is_empty());
        sim.passes_ms(1);
        pid += 1;
        assert_eq!(sim.alive(), [pid]);
        // Its pause was its own; nothing is said about it.
        sim.expect(&[
            "watch talk",
            &format!("spawn talk pid={pid}"),
            &format!("record START: talk pid={pid} from=192.0.2.1"),
            "leave talk",
        ]);
    }
    // One that does its work brings it back to normal.
    sim.takes(pid);
    sim.exits(pid, 0);
    assert_eq!(sim.state("talk"), Some(State::Listening));
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.exits(pid + 1, 1);
    assert_eq!(sim.alive(), [pid + 2]);
    sim.check_quiet();
}

#[test]
fn a_socket_that_cannot_be_made_is_tried_again() {
    let mut sim = Simulation::new();
    for _ in 0..7 {
        sim.fails_next(Call::Listen, Errno::ADDRNOTAVAIL);
    }
    reload(&mut sim, &[tcp("ssh", 22).at("192.0.2.99")]);
    sim.expect(&[
        "listen ssh tcp 192.0.2.99:22: Cannot assign requested address (errno = 99)",
        "record bind failed (Cannot assign requested address (errno = 99)). service = ssh, \
         tcp 192.0.2.99:22; trying again in 1 second",
    ]);
    assert_eq!(sim.engine.unheard(), 1);
    let mut at = 0;
    for wait in [1, 2, 4, 8, 16, 16] {
        at += wait;
        sim.passes_ms(wait * 1000 - 1);
        sim.expect(&[]);
        sim.passes_ms(1);
        sim.expect(&["listen ssh tcp 192.0.2.99:22: Cannot assign requested address (errno = 99)"]);
    }
    sim.passes_s(16);
    sim.expect(&[
        "listen ssh tcp 192.0.2.99:22",
        "watch ssh",
        "record Activating service ssh: listening on tcp 192.0.2.99:22",
    ]);
    assert_eq!((at, sim.engine.unheard()), (47, 0));
    sim.check_quiet();
}

#[test]
fn late_events_are_recognised() {
    let mut sim = serving(&[tcp("ssh", 22), tcp("echo", 7).is(Builtin::Echo)]);
    let old = ServiceId { index: 0, generation: 1 };
    reload(&mut sim, &[tcp("ssh", 22), tcp("echo", 7).is(Builtin::Echo)]);
    let c = sim.client("192.0.2.1").connects("echo");
    sim.transcript();
    // A listener from before the reload; a place that does not exist.
    sim.together(|sim| {
        sim.client("192.0.2.1").connects("ssh");
        sim.deliver(Event::Ready(old));
        sim.deliver(Event::Ready(ServiceId { index: 77, generation: 2 }));
        sim.expect(&[]);
    });
    assert_eq!(sim.alive(), [1]);
    // A session whose slot has another client now.
    let first = SessionId { index: 0, generation: 0 };
    sim.vanishes(c);
    let d = sim.client("192.0.2.2").connects("echo");
    sim.transcript();
    sim.together(|sim| {
        sim.says(d, b"not yet");
        sim.deliver(Event::Stream(StreamId::Session(first)));
        assert_eq!(sim.heard(d), b"");
        sim.deliver(Event::Stream(StreamId::Session(SessionId { index: 0, generation: 1 })));
        assert_eq!(sim.heard(d), b"not yet");
    });
    // A tick that comes too early changes nothing.
    sim.deliver(Event::Tick);
    sim.expect(&[]);
}

#[test]
fn the_end_of_the_daemon_tells_everybody() {
    let mut sim = serving(&[tcp("ssh", 22), tcp("echo", 7).is(Builtin::Echo), udp("talk", 518).wait()]);
    sim.client("192.0.2.1").connects("ssh");
    let c = sim.client("192.0.2.2").connects("echo");
    sim.client("192.0.2.3").sends("talk", b"x");
    sim.transcript();
    sim.terminates();
    sim.expect(&[
        "unlisten ssh",
        "unlisten echo",
        "unlisten talk",
        "end pid=1 TERM",
        "end pid=2 TERM",
        "close echo 192.0.2.2",
        "record EXIT: echo status=0 pid=0 duration=0(sec) from=192.0.2.2",
    ]);
    assert_eq!(sim.sees(c), Sight::Eof);
    sim.dies(1, 15);
    sim.dies(2, 15);
    sim.expect(&[
        "record EXIT: ssh signal=15 pid=1 duration=0(sec) from=192.0.2.1",
        "record EXIT: talk signal=15 pid=2 duration=0(sec) from=192.0.2.3",
    ]);
    assert_eq!(sim.engine.running(), 0);
    sim.passes_s(100);
    sim.expect(&[]);
}

#[test]
fn a_failed_fork_leaves_what_waits_for_a_wait_server() {
    let mut sim = serving(&[udp("talk", 518).wait()]);
    sim.fails_next(Call::Spawn, Errno::AGAIN);
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.expect(&[
        "spawn talk: Resource temporarily unavailable (errno = 11)",
        "record talk: fork failed: Resource temporarily unavailable (errno = 11)",
        "leave talk",
    ]);
    assert_eq!(status(&sim, "talk").refused, 0);
    sim.passes_s(1);
    sim.expect(&["watch talk", "spawn talk pid=1", "record START: talk pid=1 from=192.0.2.1", "leave talk"]);
}

#[test]
fn a_refused_client_of_a_stream_wait_service_may_have_left() {
    let mut sim = serving(&[tcp("pop", 110).wait().instances(0)]);
    sim.fails_next(Call::Accept, Errno::CONNABORTED);
    sim.client("192.0.2.1").connects("pop");
    assert_eq!(sim.state("pop"), Some(State::Listening));
    sim.fails_next(Call::Accept, Errno::MFILE);
    let c = sim.client("192.0.2.1").connects("pop");
    assert!(paused(&sim, "pop"));
    sim.passes_s(1);
    assert_eq!((sim.sees(c), sim.state("pop")), (Sight::Eof, Some(State::Listening)));
}

#[test]
fn the_end_of_a_pause_is_told_if_its_beginning_was() {
    let mut sim = serving(&[udp("talk", 518).wait().cps(1, 5)]);
    sim.client("192.0.2.1").sends("talk", b"x");
    // It ends at once, for nothing, and cps comes before the second start.
    sim.exits(1, 1);
    assert!(paused(&sim, "talk"));
    sim.transcript();
    sim.passes_s(5);
    assert_eq!(sim.transcript()[..2], ["watch talk", "record Activating service talk"]);
}

#[test]
fn an_accept_that_never_works_does_not_spin() {
    let mut sim = serving(&[tcp("ssh", 22)]);
    // A wait server before it called shutdown(2) on the socket, say.
    for _ in 0..2 * ACCEPTS_A_TURN {
        sim.fails_next(Call::Accept, Errno::INVAL);
    }
    sim.client("192.0.2.1").connects("ssh");
    let got = sim.transcript();
    assert_eq!(
        got[ACCEPTS_A_TURN..],
        ["record service ssh, accept: Invalid argument (errno = 22); trying again in 1 second", "leave ssh",]
    );
    sim.passes_s(2);
    assert_eq!(sim.alive(), [1]);
}

#[test]
fn a_wait_server_that_never_runs_is_hasty_whatever_arrives_meanwhile() {
    let mut sim = serving(&[udp("talk", 518).wait()]);
    sim.marks_by_count();
    sim.client("192.0.2.1").sends("talk", b"x");
    for pid in 1..=4 {
        sim.client("192.0.2.1").sends("talk", b"more");
        sim.fails(pid, ChildStep::Exec, Errno::NOENT);
    }
    assert!(paused(&sim, "talk"));
    assert!(sim.alive().is_empty());
    sim.passes_ms(200);
    assert_eq!(sim.alive(), [5]);
}

// Reload.

#[test]
fn an_unchanged_service_keeps_socket_servers_and_counters() {
    let services = [tcp("ssh", 22).cps(3, 10), tcp("echo", 7).is(Builtin::Echo), udp("talk", 518).wait()];
    let mut sim = serving(&services);
    sim.client("192.0.2.1").connects("ssh");
    sim.client("192.0.2.1").connects("ssh");
    let c = sim.client("192.0.2.2").connects("echo");
    sim.transcript();
    assert_eq!(reload(&mut sim, &services), changes(3, 0, 0, 0));
    sim.expect(&[]);
    assert_eq!((sim.running("ssh"), sim.running("echo")), (2, 1));
    assert_eq!(status(&sim, "ssh").started, 2);
    sim.says(c, b"still there");
    assert_eq!(sim.heard(c), b"still there");
    // The second goes on being counted: one more, and then it is too much.
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.transcript()[1], "record FAIL: ssh connections per second from=192.0.2.1");
    // A pause lasts through a reload.
    sim.passes_s(5);
    reload(&mut sim, &services);
    assert!(paused(&sim, "ssh"));
    sim.passes_s(5);
    assert_eq!(sim.state("ssh"), Some(State::Listening));
    for pid in 1..=3 {
        sim.exits(pid, 0);
    }
    assert_eq!(sim.running("ssh"), 0);
    sim.check_quiet();
}

#[test]
fn the_order_of_services_means_nothing() {
    let (a, b, c) = (tcp("a", 1), tcp("b", 2), udp("c", 3).wait());
    let mut sim = serving(&[a.clone(), b.clone(), c.clone()]);
    sim.client("192.0.2.1").connects("a");
    sim.client("192.0.2.1").connects("b");
    sim.client("192.0.2.1").connects("b");
    sim.client("192.0.2.1").sends("c", b"x");
    sim.transcript();
    assert_eq!(reload(&mut sim, &[c, b, a]), changes(3, 0, 0, 0));
    sim.expect(&[]);
    assert_eq!((sim.running("a"), sim.running("b"), sim.running("c")), (1, 2, 1));
    assert_eq!(sim.state("c"), Some(State::Busy));
    sim.takes(4);
    sim.exits(4, 0);
    assert_eq!(sim.state("c"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn new_arguments_are_for_the_next_server() {
    let mut sim = serving(&[tcp("ssh", 22).args(&["ssh", "-old"])]);
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    assert_eq!(reload(&mut sim, &[tcp("ssh", 22).args(&["ssh", "-new"])]), changes(1, 0, 0, 0));
    sim.expect(&[]);
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.spawned(1).argv, ["ssh", "-old"]);
    assert_eq!(sim.spawned(2).argv, ["ssh", "-new"]);
    assert_eq!(sim.running("ssh"), 2);
}

#[test]
fn a_new_port_is_a_new_socket_of_the_same_service() {
    let mut sim = serving(&[tcp("ssh", 22).instances(2)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    assert_eq!(reload(&mut sim, &[tcp("ssh", 2222).instances(2)]), changes(1, 0, 0, 0));
    sim.expect(&["unlisten ssh", "listen ssh tcp *:2222", "watch ssh"]);
    let old = sim.client("192.0.2.1").connects("tcp/22");
    assert_eq!(sim.sees(old), Sight::Refused);
    sim.client("192.0.2.1").connects("ssh");
    // The server from the old port still counts.
    sim.transcript();
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.transcript()[1], "record FAIL: ssh service_limit from=192.0.2.1");
    sim.exits(1, 0);
    assert_eq!(sim.running("ssh"), 1);
    sim.check_quiet();
}

#[test]
fn a_wildcard_and_an_address_take_turns_on_a_port() {
    let mut sim = serving(&[tcp("ssh", 22)]);
    reload(&mut sim, &[tcp("ssh", 22).at("127.0.0.1")]);
    sim.expect(&["unlisten ssh", "listen ssh tcp 127.0.0.1:22", "watch ssh"]);
    reload(&mut sim, &[tcp("ssh", 22).at("127.0.0.1"), tcp("ssh2", 22).at("127.0.0.2")]);
    sim.expect(&["listen ssh2 tcp 127.0.0.2:22", "watch ssh2"]);
    reload(&mut sim, &[tcp("ssh", 22)]);
    sim.expect(&["unlisten ssh", "unlisten ssh2", "listen ssh tcp *:22", "watch ssh"]);
    sim.check_quiet();
}

#[test]
fn a_service_under_a_new_name_keeps_its_place() {
    let mut sim = serving(&[tcp("ssh", 22)]);
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    assert_eq!(reload(&mut sim, &[tcp("login", 22)]), changes(1, 0, 0, 0));
    sim.expect(&[]);
    sim.exits(1, 0);
    sim.expect(&["record EXIT: login status=0 pid=1 duration=0(sec) from=192.0.2.1"]);
}

#[test]
fn a_mistake_keeps_the_predecessor_word_for_word() {
    let good = tcp("ssh", 22)
        .args(&["ssh", "-D", "a b"])
        .env(&["A=1", "B=two"])
        .only_from(&["192.0.2.0/24"])
        .no_access(&["192.0.2.66/32"])
        .times(0, 1439)
        .instances(2);
    let mut sim = serving(&[tcp("echo", 7).is(Builtin::Echo), good]);
    sim.client("192.0.2.1").connects("ssh");
    sim.transcript();
    // Twice: the copy of a copy is as good.
    for _ in 0..2 {
        let new = [tcp("web", 80), tcp("ssh", 0).broken(), tcp("echo", 7).is(Builtin::Echo)];
        assert_eq!(reload(&mut sim, &new).preserved, 1);
    }
    sim.expect(&["listen web tcp *:80", "watch web"]);
    assert_eq!(sim.engine.table().services().len(), 3);
    sim.client("192.0.2.66").connects("ssh");
    sim.client("198.51.100.7").connects("ssh");
    sim.client("192.0.2.2").connects("ssh");
    sim.client("192.0.2.3").connects("ssh");
    sim.expect(&[
        "accept ssh 192.0.2.66",
        "record FAIL: ssh address from=192.0.2.66",
        "close ssh 192.0.2.66",
        "accept ssh 198.51.100.7",
        "record FAIL: ssh address from=198.51.100.7",
        "close ssh 198.51.100.7",
        "accept ssh 192.0.2.2",
        "spawn ssh pid=2",
        "record START: ssh pid=2 from=192.0.2.2",
        "accept ssh 192.0.2.3",
        "record FAIL: ssh service_limit from=192.0.2.3",
        "close ssh 192.0.2.3",
    ]);
    let mut first = sim.spawned(1);
    let second = sim.spawned(2);
    assert_eq!(second.argv, ["ssh", "-D", "a b"]);
    assert_eq!(second.env, ["A=1", "B=two"]);
    assert_eq!(second.program, "/usr/sbin/ssh");
    first.pid = 2;
    assert_eq!(first.argv, second.argv);
    sim.check_quiet();
}

#[test]
fn a_mistake_in_a_new_service_keeps_it_from_starting() {
    let mut sim = Simulation::new();
    assert_eq!(reload(&mut sim, &[tcp("ssh", 22).broken()]), changes(0, 0, 0, 0));
    sim.expect(&[]);
    assert_eq!(reload(&mut sim, &[tcp("ssh", 22)]), changes(0, 1, 0, 0));
    sim.expect(&["listen ssh tcp *:22", "watch ssh"]);
}

#[test]
fn servers_of_a_removed_service_live_on() {
    let mut sim = serving(&[tcp("ssh", 22), tcp("echo", 7).is(Builtin::Echo), tcp("web", 80)]);
    sim.client("192.0.2.1").connects("ssh");
    let c = sim.client("192.0.2.1").connects("echo");
    sim.passes_s(3);
    sim.transcript();
    assert_eq!(reload(&mut sim, &[tcp("web", 80)]), changes(1, 0, 2, 0));
    sim.expect(&["unlisten ssh", "unlisten echo"]);
    assert_eq!((sim.state("ssh"), sim.running("ssh")), (Some(State::Off), 1));
    sim.says(c, b"hello");
    assert_eq!(sim.heard(c), b"hello");
    // Again, with a server that still lives: it is still there. The session ends in between.
    sim.half_closes(c);
    reload(&mut sim, &[tcp("web", 80)]);
    assert_eq!((sim.index("echo"), sim.running("ssh")), (None, 1));
    sim.transcript();
    sim.exits(1, 0);
    sim.expect(&["record EXIT: ssh status=0 pid=1 duration=3(sec) from=192.0.2.1"]);
    reload(&mut sim, &[tcp("web", 80)]);
    assert_eq!(sim.engine.table().services().len(), 1);
    sim.check_quiet();
}

#[test]
fn a_service_that_comes_back_finds_its_servers() {
    let mut sim = serving(&[tcp("ssh", 22).instances(1), tcp("web", 80)]);
    sim.client("192.0.2.1").connects("ssh");
    reload(&mut sim, &[tcp("web", 80)]);
    assert_eq!(reload(&mut sim, &[tcp("web", 80), tcp("ssh", 22).instances(1)]), changes(1, 1, 0, 0));
    assert_eq!(sim.running("ssh"), 1);
    sim.transcript();
    sim.client("192.0.2.1").connects("ssh");
    assert_eq!(sim.transcript()[1], "record FAIL: ssh service_limit from=192.0.2.1");
    sim.check_quiet();
}

#[test]
fn a_busy_wait_service_stays_busy_over_a_reload() {
    let mut sim = serving(&[udp("talk", 518).wait()]);
    sim.client("192.0.2.1").sends("talk", b"x");
    reload(&mut sim, &[udp("talk", 518).wait().args(&["talk", "-v"])]);
    assert_eq!(sim.state("talk"), Some(State::Busy));
    sim.takes(1);
    sim.client("192.0.2.2").sends("talk", b"y");
    assert_eq!(sim.alive(), [1]);
    sim.exits(1, 0);
    assert_eq!(sim.spawned(2).argv, ["talk", "-v"]);
    // Over a mistake, too.
    reload(&mut sim, &[udp("talk", 518).broken()]);
    assert_eq!(sim.state("talk"), Some(State::Busy));
    sim.takes(2);
    sim.exits(2, 0);
    assert_eq!(sim.state("talk"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn a_busy_wait_service_that_moves_leaves_its_server_the_old_socket() {
    let mut sim = serving(&[udp("talk", 518).wait()]);
    sim.client("192.0.2.1").sends("talk", b"x");
    sim.transcript();
    reload(&mut sim, &[udp("talk", 519).wait()]);
    sim.expect(&["unlisten talk", "listen talk udp *:519", "watch talk"]);
    sim.client("192.0.2.1").sends("udp/519", b"y");
    assert_eq!(sim.alive(), [1, 2]);
    assert_eq!(sim.running("talk"), 2);
    // The end of the old one says nothing about the new socket.
    sim.exits(1, 0);
    assert_eq!(sim.state("talk"), Some(State::Busy));
    sim.takes(2);
    sim.exits(2, 0);
    assert_eq!(sim.state("talk"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn a_busy_wait_service_that_was_removed_and_comes_back_waits_for_its_socket() {
    let mut sim = serving(&[udp("talk", 518).wait(), tcp("web", 80)]);
    sim.client("192.0.2.1").sends("talk", b"x");
    reload(&mut sim, &[tcp("web", 80)]);
    assert_eq!((sim.state("talk"), sim.running("talk")), (Some(State::Off), 1));
    reload(&mut sim, &[tcp("web", 80), udp("talk", 518).wait()]);
    // Its old server has the socket still.
    assert!(matches!(sim.state("talk"), Some(State::Retry { .. })));
    sim.passes_s(20);
    sim.transcript();
    sim.exits(1, 0);
    sim.expect(&[
        "record EXIT: talk status=0 pid=1 duration=20(sec) from=192.0.2.1",
        "listen talk udp *:518",
        "watch talk",
        "record Activating service talk: listening on udp *:518",
    ]);
    assert_eq!(sim.state("talk"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn wait_and_nowait_change_places() {
    let mut sim = serving(&[tcp("pop", 110).wait()]);
    sim.client("192.0.2.1").connects("pop");
    sim.transcript();
    reload(&mut sim, &[tcp("pop", 110)]);
    sim.expect(&[]);
    assert_eq!(sim.state("pop"), Some(State::Busy));
    sim.takes(1);
    sim.client("192.0.2.2").connects("pop");
    sim.exits(1, 0);
    sim.expect(&[
        "record EXIT: pop status=0 pid=1 duration=0(sec) from=<no address>",
        "watch pop",
        "accept pop 192.0.2.2",
        "spawn pop pid=2",
        "record START: pop pid=2 from=192.0.2.2",
    ]);
    reload(&mut sim, &[tcp("pop", 110).wait()]);
    sim.client("192.0.2.3").connects("pop");
    assert_eq!((sim.state("pop"), sim.running("pop")), (Some(State::Busy), 2));
    sim.exits(2, 0);
    assert_eq!(sim.state("pop"), Some(State::Busy));
    sim.takes(3);
    sim.exits(3, 0);
    assert_eq!(sim.state("pop"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn services_of_one_name_are_told_apart_by_their_places() {
    let old = [tcp("echo", 7).is(Builtin::Echo), udp("echo", 7).is(Builtin::Echo), tcp("echo", 1007)];
    let mut sim = serving(&old);
    sim.client("192.0.2.1").connects("tcp/1007");
    let c = sim.client("192.0.2.1").connects("tcp/7");
    sim.transcript();
    let new = [old[2].clone(), old[1].clone(), old[0].clone()];
    assert_eq!(reload(&mut sim, &new), changes(3, 0, 0, 0));
    sim.expect(&[]);
    assert_eq!(sim.engine.status(0).unwrap().running, 1);
    assert_eq!(sim.engine.status(2).unwrap().running, 1);
    // One of them moves, one is gone.
    assert_eq!(reload(&mut sim, &[tcp("echo", 2007), tcp("echo", 7).is(Builtin::Echo)]), changes(2, 0, 1, 0));
    sim.expect(&["unlisten echo", "unlisten echo", "listen echo tcp *:2007", "watch echo"]);
    sim.half_closes(c);
    sim.exits(1, 0);
    assert_eq!(sim.engine.running(), 0);
    sim.check_quiet();
}

#[test]
fn a_raised_limit_lets_in_who_waits() {
    let mut sim = serving(&[tcp("ssh", 22).inetd().instances(1)]);
    sim.client("192.0.2.1").connects("ssh");
    let c = sim.client("192.0.2.2").connects("ssh");
    reload(&mut sim, &[tcp("ssh", 22).inetd().instances(1)]);
    assert_eq!((sim.sees(c), sim.state("ssh")), (Sight::Waiting, Some(State::Full)));
    reload(&mut sim, &[tcp("ssh", 22).inetd().instances(2)]);
    assert_eq!(sim.sees(c), Sight::Taken);
    sim.check_quiet();
}

#[test]
fn a_reload_tries_at_once_to_listen() {
    let mut sim = Simulation::new();
    for _ in 0..5 {
        sim.fails_next(Call::Listen, Errno::ADDRNOTAVAIL);
    }
    reload(&mut sim, &[tcp("ssh", 22)]);
    sim.passes_s(8);
    sim.transcript();
    reload(&mut sim, &[tcp("ssh", 22)]);
    sim.expect(&["listen ssh tcp *:22: Cannot assign requested address (errno = 99)"]);
    reload(&mut sim, &[tcp("ssh", 22)]);
    sim.expect(&["listen ssh tcp *:22", "watch ssh", "record Activating service ssh: listening on tcp *:22"]);
    sim.check_quiet();
}

#[test]
fn the_starts_of_a_client_are_counted_over_a_reload() {
    let counted = |id: &str, port| tcp(id, port).with(|s| s.per_minute_source = Some(1));
    let mut sim = serving(&[counted("a", 1), counted("b", 2), counted("c", 3)]);
    sim.client("192.0.2.1").connects("a");
    sim.client("192.0.2.2").connects("c");
    reload(&mut sim, &[counted("d", 4), counted("c", 3), counted("a", 1)]);
    sim.transcript();
    sim.client("192.0.2.1").connects("a");
    assert_eq!(sim.transcript()[1], "record FAIL: a connections per minute from=192.0.2.1");
    sim.client("192.0.2.2").connects("c");
    assert_eq!(sim.transcript()[1], "record FAIL: c connections per minute from=192.0.2.2");
    sim.client("192.0.2.1").connects("c");
    sim.client("192.0.2.2").connects("d");
    assert_eq!(sim.alive(), [1, 2, 3, 4]);
}

#[test]
fn a_mistake_takes_the_predecessor_of_its_own_kind() {
    // inetd.conf names echo twice; the broken line comes first in the new file.
    let (stream, dgram) = (tcp("echo", 7).is(Builtin::Echo), udp("echo", 7).is(Builtin::Echo));
    for new in [[udp("echo", 0).broken(), stream.clone()], [stream.clone(), udp("echo", 0).broken()]] {
        let mut sim = serving(&[stream.clone(), dgram.clone()]);
        assert_eq!(reload(&mut sim, &new), changes(1, 0, 0, 1));
        sim.expect(&[]);
        assert_eq!(sim.engine.unheard(), 0);
        sim.client("192.0.2.1").sends("udp/7", b"x");
        assert_eq!(sim.replies().len(), 1);
        let c = sim.client("192.0.2.1").connects("tcp/7");
        assert_eq!(sim.sees(c), Sight::Taken);
        sim.check_quiet();
    }
    // What is broken may not even say what it is.
    let mut sim = serving(&[stream.clone(), dgram]);
    assert_eq!(reload(&mut sim, &[tcp("echo", 0).broken(), stream]), changes(1, 0, 0, 1));
    sim.expect(&[]);
}

#[test]
fn a_table_full_of_services_still_keeps_the_predecessor_of_a_mistake() {
    let services = |last: Draft| -> Vec<Draft> {
        (1..SERVICES as u16).map(|n| tcp(&format!("s{n}"), n)).chain([last]).collect()
    };
    let mut sim = serving(&services(tcp("ssh", 2222)));
    let all = SERVICES as u16 - 1;
    assert_eq!(reload(&mut sim, &services(tcp("ssh", 0).broken())), changes(all, 0, 0, 1));
    sim.expect(&[]);
    assert_eq!(sim.state("ssh"), Some(State::Listening));
}

#[test]
fn servers_of_a_service_for_which_there_is_no_room_any_more_still_end() {
    let mut sim = serving(&[tcp("gone", 9999), udp("busy", 9998).wait()]);
    sim.client("192.0.2.1").connects("gone");
    sim.client("192.0.2.1").sends("busy", b"x");
    let all: Vec<Draft> = (1..=SERVICES as u16).map(|n| tcp(&format!("s{n}"), n)).collect();
    assert_eq!(reload(&mut sim, &all), changes(0, SERVICES as u16, 2, 0));
    sim.transcript();
    assert_eq!(sim.engine.running(), 2);
    reload(&mut sim, &all);
    sim.exits(1, 0);
    sim.exits(2, 0);
    sim.expect(&[]);
    assert_eq!(sim.engine.running(), 0);
    sim.check_quiet();
}

#[test]
fn a_full_pool_keeps_mistakes_before_what_is_gone() {
    let long = |id: &str, port, n| tcp(id, port).args(&["x".repeat(n).as_str()]);
    let third = TEXT_BYTES / 3;
    let mut sim = serving(&[long("gone", 1, TEXT_BYTES / 2), long("kept", 2, third)]);
    sim.client("192.0.2.1").connects("gone");
    // Room for one of them.
    let new = [long("new", 3, third), tcp("kept", 2).broken()];
    assert_eq!(reload(&mut sim, &new), changes(0, 1, 1, 1));
    assert_eq!(sim.state("kept"), Some(State::Listening));
    sim.exits(1, 0);
    assert_eq!(sim.engine.running(), 0);
}

#[test]
fn a_mistake_in_what_was_gone_and_is_right_again_finds_its_servers() {
    let mut sim = serving(&[tcp("ssh", 22).instances(1)]);
    sim.client("192.0.2.1").connects("ssh");
    reload(&mut sim, &[]);
    assert_eq!(reload(&mut sim, &[tcp("ssh", 22).broken()]), changes(0, 0, 0, 0));
    assert_eq!((sim.state("ssh"), sim.running("ssh")), (Some(State::Off), 1));
    assert_eq!(reload(&mut sim, &[tcp("ssh", 22).instances(1)]), changes(0, 1, 0, 0));
    assert_eq!((sim.state("ssh"), sim.running("ssh")), (Some(State::Listening), 1));
    assert_eq!(sim.engine.table().services().len(), 1);
    sim.exits(1, 0);
    assert_eq!(sim.running("ssh"), 0);
}

#[test]
fn a_mistake_whose_predecessor_does_not_fit_is_counted() {
    let long = |id: &str, port| tcp(id, port).args(&["x".repeat(TEXT_BYTES / 2 + 1).as_str()]);
    let mut sim = serving(&[long("ssh", 22)]);
    sim.client("192.0.2.1").connects("ssh");
    let result = reload(&mut sim, &[tcp("ssh", 22).broken(), long("new", 3)]);
    assert_eq!(result, Changes { lost: 1, added: 1, ..Changes::default() });
    assert_eq!((sim.state("ssh"), sim.running("ssh")), (Some(State::Off), 1));
    // The next attempt finds its servers.
    reload(&mut sim, &[tcp("ssh", 22)]);
    assert_eq!((sim.state("ssh"), sim.running("ssh")), (Some(State::Listening), 1));
}

#[test]
fn servers_of_a_removed_service_are_not_those_of_the_next_at_its_place() {
    let mut sim = serving(&[tcp("old", 22)]);
    sim.client("192.0.2.1").connects("old");
    reload(&mut sim, &[]);
    assert_eq!(reload(&mut sim, &[tcp("new", 22).instances(1)]), changes(0, 1, 0, 0));
    assert_eq!((sim.running("old"), sim.running("new")), (1, 0));
    sim.transcript();
    sim.exits(1, 0);
    sim.expect(&["record EXIT: old status=0 pid=1 duration=0(sec) from=192.0.2.1"]);
}

#[test]
fn a_place_keeps_its_socket_whoever_owns_it() {
    let mut sim = serving(&[tcp("a", 1).inetd().instances(1), tcp("b", 2), udp("w", 3).wait()]);
    sim.client("192.0.2.1").connects("a");
    let waiting = sim.client("192.0.2.1").connects("a");
    assert_eq!(sim.sees(waiting), Sight::Waiting);
    sim.transcript();
    // The two exchange their ports; who waits at a port has its new service.
    assert_eq!(reload(&mut sim, &[tcp("a", 2), tcp("b", 1), udp("w", 3).wait()]), changes(3, 0, 0, 0));
    assert_eq!(sim.sees(waiting), Sight::Taken);
    let got = sim.transcript();
    assert_eq!(got[2], "spawn b pid=2");
    assert!(!got.iter().any(|line| line.contains("listen")), "{got:?}");
    assert_eq!((sim.running("a"), sim.running("b")), (1, 1));
    // The socket of a busy wait service is its server's until that ends.
    sim.client("192.0.2.1").sends("w", b"x");
    reload(&mut sim, &[tcp("a", 2), tcp("b", 1), udp("w", 4).wait(), udp("v", 3).wait()]);
    assert!(matches!(sim.state("v"), Some(State::Retry { .. })));
    sim.exits(3, 0);
    assert_eq!(sim.state("v"), Some(State::Listening));
    sim.check_quiet();
}

#[test]
fn a_service_that_could_not_listen_inherits_the_socket_it_lacked() {
    let mut sim = serving(&[tcp("a", 1), tcp("b", 1)]);
    assert!(matches!(sim.state("b"), Some(State::Retry { .. })));
    assert_eq!(reload(&mut sim, &[tcp("a", 2), tcp("b", 1)]), changes(2, 0, 0, 0));
    sim.expect(&["listen a tcp *:2", "watch a", "record Activating service b: listening on tcp *:1"]);
    assert_eq!(reload(&mut sim, &[tcp("a", 3), tcp("b", 1), tcp("c", 2)]), changes(2, 1, 0, 0));
    sim.expect(&["listen a tcp *:3", "watch a"]);
    sim.passes_s(60);
    sim.check_quiet();
}

// The storm.

/// A service of a random table. Few ids and places, so that tables have much in common.
fn random_draft(dice: &mut Dice) -> Draft {
    let id = ["a", "b", "c", "d", "e", "f"][dice.below(6)];
    let port = [7, 13, 22, 518, 10007, 10008][dice.below(6)];
    let mut draft = if dice.chance(500) { tcp(id, port) } else { udp(id, port).wait() };
    if dice.chance(400) {
        draft = draft.is(Builtin::ALL[dice.below(5)]);
    } else if dice.chance(300) {
        draft = draft.wait();
    }
    match dice.below(100) {
        0..10 => draft = tcp(id, port).redirects("192.0.2.80", 8080),
        10..14 => draft = tcp(id, port).redirects_by_name("web.example.org", 8080),
        14..24 => draft = tcp(id, 1).answers(Answer::Tcpmux),
        24..34 => {
            draft = if dice.chance(500) { tcp(id, 0) } else { tcp(id, 0).is(Builtin::ALL[dice.below(5)]) };
            draft = draft.flag(Flags::MUX);
            if dice.chance(500) {
                draft = draft.flag(Flags::MUX_PLUS);
            }
        }
        34..40 => {
            let time = [DenyTime::Never, DenyTime::Minutes(1), DenyTime::Minutes(2)][dice.below(3)];
            draft =
                if dice.chance(700) { tcp(id, port) } else { udp(id, port) }.answers(Answer::Sensor(time));
        }
        _ => {}
    }
    if dice.chance(300) {
        draft = draft.wrapped();
    }
    if dice.chance(200) {
        draft = draft.only_from(&[".example.org", "127.0.0.0/8", "two.example.net"]);
    } else if dice.chance(100) {
        draft = draft.no_access(&[".example.org", "2001:db8::/64"]);
    }
    for (flag, chance) in [(Flags::IDONLY, 80), (Flags::RECHECK, 200)] {
        if dice.chance(chance) {
            draft = draft.flag(flag);
        }
    }
    if dice.chance(150) {
        draft = draft.success(LogFields::USERID).failure(LogFields::USERID);
    }
    if dice.chance(200) {
        draft = draft.with(|s| s.identity.uid = Some(65534));
    }
    if dice.chance(250) {
        draft = draft.at(["127.0.0.1", "192.0.2.200"][dice.below(2)]);
    }
    if dice.chance(100) {
        draft = draft.with(|s| s.family = Family::V6);
    }
    if dice.chance(500) {
        draft = draft.inetd();
    }
    if dice.chance(300) {
        draft = draft.instances(dice.below(4) as u32);
    }
    if dice.chance(300) {
        draft = draft.cps(1 + dice.below(4) as u32, dice.below(4) as u32);
    }
    if dice.chance(200) {
        draft = draft.per_minute(1 + dice.below(10) as u32);
    }
    if dice.chance(200) {
        draft = draft.per_source(1 + dice.below(3) as u32);
    }
    if dice.chance(200) {
        draft = draft.with(|s| s.per_minute_source = Some(5));
    }
    if dice.chance(100) {
        draft = draft.no_access(&["192.0.2.1/32"]);
    }
    if dice.chance(100) {
        draft = draft.only_from(&["192.0.2.0/30", "2001:db8::/32"]);
    }
    if dice.chance(50) {
        draft = draft.times(0, 700);
    }
    if dice.chance(50) {
        draft = draft.with(|s| s.max_load = Some(200));
    }
    if dice.chance(250) {
        let (timeout, idle) = (dice.below(120) as u32, dice.below(60) as u32);
        draft = draft.with(|s| (s.timeout, s.idle_timeout) = (timeout, idle));
    }
    if draft.service.is_program() && !draft.service.is_owned_by_server() && dice.chance(400) {
        draft = draft.with(|s| s.standby = 1 + dice.below(4) as u16);
    }
    if dice.chance(200) {
        draft = draft.with(|s| s.proxy = Proxy::V1);
    }
    if draft.service.is_owned_by_server() && dice.chance(200) {
        draft = draft.flag(Flags::KEEP);
    }
    if dice.chance(150) {
        draft = draft.broken();
    }
    draft
}

fn random_table(dice: &mut Dice) -> Vec<Draft> {
    (0..dice.below(8)).map(|_| random_draft(dice)).collect()
}

/// Rules for a hosts.allow or hosts.deny, some of them with mistakes.
fn random_rules(dice: &mut Dice) -> String {
    const CLIENTS: [&str; 12] = [
        "ALL",
        "192.0.2.",
        "192.0.2.1",
        "[2001:db8::]/32",
        ".example.org",
        "two.example.net",
        "joe@ALL",
        "KNOWN",
        "UNKNOWN",
        "PARANOID",
        "ALL EXCEPT .example.org",
        "10.1.2.3/8",
    ];
    const OPTIONS: [&str; 16] = [
        "",
        "",
        "",
        ": allow",
        ": deny",
        ": spawn /bin/log %a %h",
        ": spawn /bin/one: spawn /bin/two",
        ": twist /bin/echo no",
        ": aclexec /bin/check %a",
        ": aclexec /bin/check %h: aclexec /bin/again",
        ": setenv WHO %u@%h: nice 5: umask 027",
        ": severity local1.debug: keepalive: linger 5",
        ": rfc931 2: spawn /bin/log %u",
        ": banners /etc/banners",
        ": user nobody",
        ": nonsense",
    ];
    let mut rules = String::new();
    for _ in 0..dice.below(5) {
        let daemons = ["ALL", "a", "b c", "d, e", "ALL EXCEPT f"][dice.below(5)];
        rules += &format!("{daemons}: {}{}\n", CLIENTS[dice.below(12)], OPTIONS[dice.below(16)]);
    }
    rules
}

/// One run of random steps. Returns all that the engine did.
fn storm(seed: u64, steps: usize) -> Vec<String> {
    let mut dice = Dice::new(seed);
    let mut sim = Simulation::new();
    let mut all = Vec::new();
    let mut connections: Vec<Connection> = Vec::new();
    // Half of the tables come back later, so that services do, too.
    let tables: Vec<Vec<Draft>> = (0..4).map(|_| random_table(&mut dice)).collect();
    sim.knows_host("192.0.2.1", "one.example.org");
    sim.knows_host("192.0.2.2", "two.example.net");
    // This one lies.
    sim.knows_name("PTR", "3.2.0.192.in-addr.arpa", "one.example.org");
    sim.knows_name("A", "web.example.org", "192.0.2.80");
    sim.has_file("/etc/banners/a", "you are %u@%h\n");
    if dice.chance(500) {
        sim.marks_by_count();
    }
    let mut table = Vec::new();
    for step in 0..steps {
        sim.remark(&format!("-- step {step}"));
        random_step(&mut sim, &mut dice, &tables, &mut table, &mut connections);
        sim.check_quiet();
        all.extend(sim.transcript());
    }
    if dice.chance(300) {
        // TERM in the middle of it: servers may take their time.
        sim.terminates();
        for pid in sim.alive() {
            sim.passes_ms(dice.below(2000) as u64);
            sim.exits(pid, 0);
        }
        // What standby servers said last has been on its way to these.
        for c in &connections {
            sim.vanishes(*c);
        }
        // What was asked of name servers ends by itself.
        sim.passes_s(6);
        sim.check_quiet();
        assert_eq!((sim.engine.running(), sim.engine.outgoing(), sim.engine.next_deadline()), (0, 0, None));
        all.extend(sim.transcript());
        return all;
    }
    // Calm: everybody leaves, and whoever waits still gets his turn.
    sim.remark("-- calm");
    sim.troubles(0, 0);
    sim.engine.set_limit(None);
    sim.sets_load(None);
    // Those that are kept would always be there.
    let all_end = |draft: &Draft| {
        draft.clone().with(|s| {
            (s.standing, s.standby) = (Standing::Ready, 0);
            s.flags = s.flags.without(Flags::KEEP);
        })
    };
    reload(&mut sim, &table.iter().map(all_end).collect::<Vec<Draft>>());
    let mut rounds = 0;
    let is_busy = |engine: &Engine<_>| engine.running() > 0 || engine.commands() > 0 || engine.outgoing() > 0;
    while is_busy(&sim.engine) || !sim.waiting().is_empty() {
        for c in &connections {
            sim.vanishes(*c);
        }
        connections.clear();
        for pid in sim.alive() {
            while sim.takes(pid) {}
            sim.exits(pid, 0);
        }
        sim.jumps_ms(61_000);
        sim.check_quiet();
        rounds += 1;
        assert!(rounds < 1000, "somebody waits for ever");
    }
    sim.jumps_ms(61_000);
    sim.check_quiet();
    for index in 0..sim.engine.table().services().len() as ServiceIndex {
        assert!(!matches!(sim.engine.status(index).unwrap().state, State::Paused { .. } | State::Full));
    }
    sim.terminates();
    sim.check_quiet();
    all.extend(sim.transcript());
    all
}

fn random_step(
    sim: &mut Simulation,
    dice: &mut Dice,
    tables: &[Vec<Draft>],
    table: &mut Vec<Draft>,
    connections: &mut Vec<Connection>,
) {
    const CLIENTS: [&str; 6] =
        ["192.0.2.1", "192.0.2.2", "192.0.2.3", "::ffff:192.0.2.1", "2001:db8::1", "127.0.0.1"];
    let connection = |dice: &mut Dice, connections: &[Connection]| {
        // Those who came last are most likely to be there still.
        connections.get(connections.len().saturating_sub(1 + dice.below(12))).copied()
    };
    match dice.below(130) {
        0..25 => {
            let together = dice.chance(300);
            let clients = if together { 1 + dice.below(40) } else { 1 };
            let port = [1, 7, 13, 22, 518, 10007, 10008][dice.below(7)];
            sim.together(|sim| {
                for _ in 0..clients {
                    let pace =
                        if dice.chance(50) { Pace::PerMs(1 + dice.below(100)) } else { Pace::WhenTold };
                    let client = sim.client(CLIENTS[dice.below(6)]).pace(pace);
                    connections.push(client.connects(&format!("tcp/{port}")));
                }
            });
        }
        25..40 => {
            let port = [7, 13, 22, 518, 10007, 10008][dice.below(6)];
            let burst = if dice.chance(200) { dice.below(100) } else { 1 };
            sim.together(|sim| {
                for _ in 0..burst {
                    let source = if dice.chance(50) { 7 } else { 30000 + dice.below(5) as u16 };
                    let client = sim.client(CLIENTS[dice.below(6)]).port(source);
                    client.sends(&format!("udp/{port}"), &[b'x'; 100][..dice.below(100)]);
                }
            });
        }
        40..50 => {
            if let Some(c) = connection(dice, connections) {
                let bytes = vec![b'x'; dice.below(200_000)];
                sim.together(|sim| {
                    sim.says(c, &bytes);
                    if dice.chance(200) {
                        sim.half_closes(c);
                    }
                    if dice.chance(100) {
                        sim.vanishes(c);
                    }
                });
            }
        }
        50..58 => {
            if let Some(c) = connection(dice, connections) {
                sim.reads(c, dice.below(100_000));
            }
        }
        58..62 => {
            if let Some(c) = connection(dice, connections) {
                sim.vanishes(c);
            }
        }
        62..82 => {
            let alive = sim.alive();
            let many = if dice.chance(100) { alive.len() } else { alive.len().min(1 + dice.below(3)) };
            for _ in 0..many {
                let alive = sim.alive();
                let Some(pid) = alive.get(dice.below(alive.len())).copied() else { break };
                if dice.chance(600) {
                    sim.takes(pid);
                }
                match dice.below(10) {
                    0 => sim.fails(pid, ChildStep::Exec, Errno::NOENT),
                    1 => sim.dies(pid, 9),
                    2 => {}
                    _ => sim.exits(pid, 0),
                }
            }
        }
        82..88 => sim.passes_ms(dice.below(1500) as u64),
        88..91 => sim.jumps_ms(dice.below(100_000) as u64),
        91..96 => {
            let drafts = match tables.get(dice.below(8)) {
                Some(known) => known.clone(),
                None => random_table(dice),
            };
            reload(sim, &drafts);
            *table = drafts;
        }
        96 => sim.troubles(dice.roll(), [0, 0, 20, 300][dice.below(4)]),
        97 => sim.engine.set_limit([Some(3), Some(20), None][dice.below(3)]),
        98 => {
            sim.sets_load([None, Some(100), Some(300)][dice.below(3)]);
            let unix = sim.now().unix.or(Some(1_795_346_114));
            sim.sets_clock(if dice.chance(200) { None } else { unix });
        }
        // Clients of tcpmux.
        99..104 => {
            let line =
                ["a\r\n", "B\n", "c\r\nand more", "d", "\r\n", "e\n", "help\r\n", "ssh\r\n"][dice.below(8)];
            let client = sim.client(CLIENTS[dice.below(6)]).pace(Pace::WhenTold);
            let connection = client.connects("tcp/1");
            connections.push(connection);
            sim.says(connection, line.as_bytes());
        }
        // Those whom the daemon called: ident servers, and hosts that services redirect to.
        104..112 => {
            for _ in 0..1 + dice.below(4) {
                let ringing = sim.ringing();
                if let Some(at) = ringing.get(dice.below(ringing.len())) {
                    match dice.below(4) {
                        0 => sim.hangs_up(*at, [Errno::CONNREFUSED, Errno::HOSTUNREACH][dice.below(2)]),
                        _ => sim.picks_up(*at),
                    }
                }
                let called = sim.called();
                let Some(at) = called.get(dice.below(called.len())).copied() else { continue };
                let asked = String::from_utf8_lossy(&sim.heard(at)).into_owned();
                match dice.below(8) {
                    0 => sim.vanishes(at),
                    1 => sim.half_closes(at),
                    2 => sim.says(at, &vec![b'y'; dice.below(100_000)]),
                    3 => sim.says(at, format!("{} : ERROR : NO-USER\r\n", asked.trim()).as_bytes()),
                    _ => sim.says(at, format!("{} : USERID : UNIX : joe\r\n", asked.trim()).as_bytes()),
                }
            }
        }
        112..115 => sim.silences_names(dice.chance(500)),
        115..118 => {
            let path = ["/etc/hosts.allow", "/etc/hosts.deny"][dice.below(2)];
            sim.has_file(path, &random_rules(dice));
        }
        // Servers at one end of a pair.
        118..128 => {
            for _ in 0..1 + dice.below(4) {
                let pairs = sim.paired();
                let Some((pid, at)) = pairs.get(dice.below(pairs.len())).copied() else { break };
                match dice.below(8) {
                    0 => sim.half_closes(at),
                    1 => sim.exits(pid, 0),
                    2 => sim.dies(pid, 9),
                    3 | 4 => sim.reads(at, dice.below(100_000)),
                    _ => sim.says(at, &vec![b'z'; dice.below(200_000)]),
                }
            }
        }
        // Events that are late, early or made up.
        _ => {
            let index = dice.below(10) as u16;
            let generation = dice.below(40) as u16;
            sim.deliver(Event::Ready(ServiceId { index, generation }));
            for stream in [StreamId::Session, StreamId::Near, StreamId::Far, StreamId::Ident] {
                sim.deliver(Event::Stream(stream(SessionId { index, generation })));
            }
            sim.deliver(Event::Ended { pid: 0, ending: Ending::Exited(0), failed: None });
            sim.deliver(Event::Tick);
            sim.settle();
        }
    }
}

/// `USHERD_SEED=7 cargo test storm` replays one; `USHERD_STORMS=1000` plays that many. Full tables are met in a build
/// with small ones: `USHERD_SERVERS=4 USHERD_SESSIONS=3 USHERD_SERVICES=7 USHERD_SOURCES=2`.
#[test]
fn storms_leave_everything_in_order() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("USHERD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("USHERD_STORMS").unwrap_or(30),
    };
    /// Says which seed it was when a storm ends in a panic.
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                std::eprintln!("the storm of USHERD_SEED={} failed", self.0);
            }
        }
    }
    for seed in seeds {
        let tell = Tell(seed);
        storm(seed, 500);
        drop(tell);
    }
}

#[test]
fn the_same_seed_is_the_same_storm() {
    let first = storm(4711, 1500);
    assert!(first.len() > 2500, "{} lines", first.len());
    assert!(first == storm(4711, 1500));
    assert!(first != storm(4712, 1500));
}
