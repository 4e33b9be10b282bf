//! The built-in services, byte for byte, over both transports and in both flavours.

use crate::harness::net::A_WHILE;
use crate::harness::*;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What one daemon, configured in one grammar, answers.
struct Case {
    subject: Subject,
    conf: Conf<'static>,
    /// An address on which it answers datagrams.
    udp: &'static str,
    chargen: Chargen,
    daytime: Daytime,
    time: TimeAnswer,
    /// Whether every datagram of a burst gets its answer.
    burst: bool,
    /// Whether a datagram from another service's port is answered, which is how a forged one starts a ping-pong.
    answers_services: bool,
}

/// 72 characters a line from a ring; each line begins one further.
struct Chargen {
    first: u8,
    ring: usize,
    /// How many lines follow that rule: xinetd's ring has a fault at its seam.
    lines: usize,
    datagram: usize,
}

#[derive(Clone, Copy)]
enum Daytime {
    /// `22 NOV 2026 11:03:26 UTC`
    Xinetd,
    /// `Sun Nov 22 11:15:14 2026`
    Ctime,
}

#[derive(Clone, Copy)]
enum TimeAnswer {
    FourBytes,
    /// inetutils writes a `long`: four zero bytes too many on 64-bit machines.
    EightBytes,
}

const XINETD_CHARGEN: Chargen = Chargen { first: b'!', ring: 93, lines: 93, datagram: 1024 };
const INETD_CHARGEN: Chargen = Chargen { first: b' ', ring: 95, lines: 200, datagram: 74 };

const NAMES: [&str; 5] = ["echo", "discard", "chargen", "daytime", "time"];
const PORTS: [&str; 10] =
    ["tcp/7", "tcp/9", "tcp/19", "tcp/13", "tcp/37", "udp/7", "udp/9", "udp/19", "udp/13", "udp/37"];

fn xinetd_conf() -> Conf<'static> {
    // The brake on new connections is not what is tested here.
    let mut text = NO_BRAKE.to_owned();
    for name in NAMES {
        text += &builtin(name, "stream");
        text += &builtin(name, "dgram");
    }
    Conf::Xinetd(text.leak())
}

fn inetd_conf() -> Conf<'static> {
    let mut text = String::new();
    for name in NAMES {
        text.push_str(&format!("{name}\tstream\ttcp\tnowait\troot\tinternal\n"));
        text.push_str(&format!("{name}\tdgram\tudp\twait\troot\tinternal\n"));
    }
    Conf::Inetd(text.leak())
}

fn cases() -> Vec<Case> {
    let mut all = vec![];
    for subject in xinetd_family() {
        all.push(Case {
            subject,
            conf: xinetd_conf(),
            udp: "127.0.0.1",
            chargen: XINETD_CHARGEN,
            daytime: Daytime::Xinetd,
            time: TimeAnswer::FourBytes,
            // xinetd empties the queue after every datagram.
            burst: subject != Subject::Xinetd,
            answers_services: subject == Subject::Xinetd,
        });
    }
    for subject in inetd_family() {
        all.push(Case {
            subject,
            conf: inetd_conf(),
            // openbsd takes every question from 127.x for a forged one.
            udp: if subject == Subject::OpenbsdInetd { "[::1]" } else { "127.0.0.1" },
            chargen: INETD_CHARGEN,
            daytime: Daytime::Ctime,
            time: match subject {
                Subject::InetutilsInetd => TimeAnswer::EightBytes,
                _ => TimeAnswer::FourBytes,
            },
            burst: true,
            // openbsd for the reason above.
            answers_services: subject == Subject::InetutilsInetd,
        });
    }
    all
}

/// Runs a test against every daemon, each in a network of its own; the daemon must have survived it.
fn each(test: fn(&Case)) {
    for case in cases() {
        in_net(move |net| {
            println!("{:?}, {}", case.subject, grammar(&case));
            let mut daemon = Daemon::start(net, case.subject, case.conf).ready(&PORTS);
            test(&case);
            assert!(daemon.running(), "the daemon died");
        });
    }
}

fn grammar(case: &Case) -> &'static str {
    match case.conf {
        Conf::Xinetd(_) => "configured like xinetd",
        Conf::Inetd(_) => "configured like inetd",
    }
}

fn at(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

/// One datagram's answer. A daemon that throws waiting questions away may be asked again.
fn ask(case: &Case, port: u16, question: &[u8]) -> Vec<u8> {
    let to = at(case.udp, port);
    if case.burst {
        return ask_udp(&to, question);
    }
    insist(&udp("0.0.0.0:0", &to), question)
}

/// Asks until there is an answer.
fn insist(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    client.set_read_timeout(Some(A_WHILE)).expect("time-out");
    until("an answer", || {
        client.send(question).expect("send");
        answer(client)
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

// ---- echo ----

#[test]
fn echo_tcp_gives_back_what_it_gets() {
    each(|_| {
        let mut client = tcp("127.0.0.1:7");
        round_trip(&mut client, b"one\r\n");
        round_trip(&mut client, b"\0\xff\x80\n");
        round_trip(&mut client, b"x");
    });
}

#[test]
fn echo_tcp_after_a_half_close() {
    each(|_| {
        let question = noise(1, 100_000);
        let mut client = tcp("127.0.0.1:7");
        let mut sender = client.try_clone().expect("clone");
        let copy = question.clone();
        let thread = std::thread::spawn(move || {
            sender.write_all(&copy).expect("send");
            sender.shutdown(Shutdown::Write).expect("shut down");
        });
        let back = read_to_end(&mut client);
        thread.join().expect("sender");
        assert!(back == question, "{} of {} bytes came back, or others", back.len(), question.len());
        assert_eq!(ask_tcp("127.0.0.1:7", b""), b"");
    });
}

#[test]
fn echo_tcp_two_million_bytes() {
    each(|_| {
        let question = noise(1, 2_000_000);
        let mut client = tcp("127.0.0.1:7");
        let mut sender = client.try_clone().expect("clone");
        let copy = question.clone();
        let thread = std::thread::spawn(move || sender.write_all(&copy).expect("send"));
        let back = read_n(&mut client, question.len());
        thread.join().expect("sender");
        assert!(back == question, "other bytes came back");
    });
}

#[test]
fn echo_tcp_many_clients_at_once() {
    each(|_| {
        let mut clients: Vec<_> = (0..50).map(|_| tcp("127.0.0.1:7")).collect();
        for round in 0..3 {
            for (n, client) in clients.iter_mut().enumerate() {
                round_trip(client, format!("{round} {n}\n").as_bytes());
            }
        }
    });
}

#[test]
fn echo_tcp_clients_that_reset() {
    each(|_| {
        for n in 0..50 {
            let mut client = tcp("127.0.0.1:7");
            if n % 2 == 0 {
                client.write_all(b"never read").expect("send");
            }
            reset(client);
        }
        round_trip(&mut tcp("127.0.0.1:7"), b"still there");
    });
}

#[test]
fn echo_udp_gives_back_what_it_gets() {
    each(|case| {
        for question in [&b"x"[..], b"", b"\0\r\n\xff", &noise(1, 1400), &noise(1, 2048)] {
            assert!(ask(case, 7, question) == question, "{} bytes", question.len());
        }
    });
}

#[test]
fn echo_udp_never_answers_with_more() {
    each(|case| {
        let question = noise(1, 5000);
        let back = ask(case, 7, &question);
        assert!(back.len() >= 2048 && question.starts_with(&back), "{} bytes", back.len());
    });
}

#[test]
fn echo_udp_a_burst() {
    each(|case| {
        let to = at(case.udp, 7);
        let from = if to.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" };
        let client = udp(from, &to);
        for n in 0..50u8 {
            client.send(&[n; 32]).expect("send");
        }
        let mut answered = BTreeSet::new();
        client.set_read_timeout(Some(A_WHILE)).expect("time-out");
        while let Some(back) = answer(&client) {
            assert_eq!(back.len(), 32);
            assert!(answered.insert(back[0]), "answered twice");
        }
        if case.burst {
            assert_eq!(answered.len(), 50);
        } else {
            println!("{} of 50 were answered", answered.len());
            assert!(!answered.is_empty());
        }
    });
}

#[test]
fn echo_over_ipv6() {
    each(|case| {
        if case.subject == Subject::InetutilsInetd {
            // Its `tcp` and `udp` are IPv4 alone.
            assert!(refused("[::1]:7"));
            return;
        }
        round_trip(&mut tcp("[::1]:7"), b"over six");
        assert_eq!(insist(&udp("[::1]:0", "[::1]:7"), b"over six"), b"over six");
    });
}

// ---- discard ----

#[test]
fn discard_says_nothing() {
    each(|case| {
        assert_eq!(ask_tcp("127.0.0.1:9", &noise(1, 1_000_000)), b"");
        let to = at(case.udp, 9);
        let client = udp(if to.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" }, &to);
        assert!(silent(&client, b"hello"));
    });
}

// ---- chargen ----

fn chargen_line(chargen: &Chargen, start: usize, width: usize) -> Vec<u8> {
    let mut line: Vec<u8> = (0..width).map(|i| chargen.first + ((start + i) % chargen.ring) as u8).collect();
    line.extend_from_slice(b"\r\n");
    line
}

#[test]
fn chargen_tcp_is_a_ring() {
    each(|case| {
        let mut client = tcp("127.0.0.1:19");
        for n in 0..case.chargen.lines {
            let line = read_n(&mut client, 74);
            assert_eq!(text(&line), text(&chargen_line(&case.chargen, n, 72)), "line {n}");
        }
    });
}

#[test]
fn chargen_udp_is_a_piece_of_the_ring() {
    each(|case| {
        let back = ask(case, 19, b"?");
        assert_eq!(back.len(), case.chargen.datagram);
        let mut rest = &back[..];
        let mut start = (back[0] - case.chargen.first) as usize;
        while !rest.is_empty() {
            let width = 72.min(rest.len() - 2);
            let line = chargen_line(&case.chargen, start, width);
            assert_eq!(text(&rest[..line.len()]), text(&line));
            rest = &rest[line.len()..];
            start += 1;
        }
    });
}

#[test]
fn chargen_tcp_to_a_client_that_goes() {
    each(|_| {
        for _ in 0..5 {
            let mut client = tcp("127.0.0.1:19");
            read_n(&mut client, 1000);
        }
        round_trip(&mut tcp("127.0.0.1:7"), b"still there");
    });
}

// ---- daytime and time ----

/// The text for a second, in a zone so far east of Greenwich.
fn daytime_text(case: &Case, second: u64, zone: &str, east: u64) -> String {
    let second = second + east;
    let (day, of_day) = (second / 86400, second % 86400);
    let (year, month, day_of_month) = civil(day as i64);
    let clock = format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    let month = &"JanFebMarAprMayJunJulAugSepOctNovDec"[month * 3..month * 3 + 3];
    let weekday = (day as usize + 4) % 7;
    let weekday = &"SunMonTueWedThuFriSat"[weekday * 3..weekday * 3 + 3];
    match case.daytime {
        Daytime::Xinetd => {
            format!("{day_of_month:02} {} {year} {clock} {zone}\r\n", month.to_uppercase())
        }
        Daytime::Ctime => format!("{weekday} {month} {day_of_month:2} {clock} {year}\r\n"),
    }
}

/// Year, month from 0, and day from 1 of a day after 1970-01-01.
fn civil(mut day: i64) -> (i64, usize, i64) {
    let leap = |y: i64| y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let mut year = 1970;
    while day >= 365 + i64::from(leap(year)) {
        day -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    lengths[1] += i64::from(leap(year));
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (year, month, day + 1)
}

#[test]
fn daytime_is_one_line() {
    each(|case| {
        let before = now();
        let stream = read_to_end(&mut tcp("127.0.0.1:13"));
        let datagram = ask(case, 13, b"");
        // time(2), which the old daemons ask, is a tick behind the clock asked here.
        let right: Vec<String> = (before - 1..=now()).map(|s| daytime_text(case, s, "UTC", 0)).collect();
        assert!(right.contains(&text(&stream)), "{:?}, not {right:?}", text(&stream));
        assert!(right.contains(&text(&datagram)), "{:?}, not {right:?}", text(&datagram));
    });
}

#[test]
fn daytime_is_local_time() {
    for case in cases() {
        in_net(move |net| {
            println!("{:?}, {}", case.subject, grammar(&case));
            net.set_env("TZ", None);
            net.write("/etc/localtime", net::zone_file("XYZ", 20_700, "XYZ-5:45"));
            let _daemon = Daemon::start(net, case.subject, case.conf).ready(&PORTS);
            let before = now();
            let stream = read_to_end(&mut tcp("127.0.0.1:13"));
            // As above.
            let right: Vec<String> =
                (before - 1..=now()).map(|s| daytime_text(&case, s, "XYZ", 20_700)).collect();
            assert!(right.contains(&text(&stream)), "{:?}, not {right:?}", text(&stream));
        });
    }
}

#[test]
fn time_is_seconds_since_1900() {
    each(|case| {
        let before = now();
        let stream = read_to_end(&mut tcp("127.0.0.1:37"));
        let datagram = ask(case, 37, b"");
        let right = before..=now();
        for answer in [stream, datagram] {
            let (seconds, rest) = answer.split_first_chunk().expect("four bytes");
            let seconds = u32::from_be_bytes(*seconds);
            // Modulo 2^32: the count begins anew in 2036.
            let unix = seconds.wrapping_sub(2_208_988_800);
            assert!(right.contains(&u64::from(unix)), "{unix}, not {right:?}");
            match case.time {
                TimeAnswer::FourBytes => assert_eq!(rest, b""),
                TimeAnswer::EightBytes => assert_eq!(rest, [0; 4]),
            }
        }
    });
}

// ---- clients that do harm ----

/// Sends until the other side takes no more, at most so much. Gives the number of bytes it took.
fn fill(stream: &mut TcpStream, most: usize) -> usize {
    let block = noise(1, 1 << 16);
    let mut sent = 0;
    let mut last = Instant::now();
    stream.set_nonblocking(true).expect("non-blocking");
    while sent < most && last.elapsed() < A_WHILE {
        match stream.write(&block[sent % block.len()..]) {
            Ok(n) => {
                sent += n;
                last = Instant::now();
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(e) => panic!("after {sent} bytes: {e}"),
        }
    }
    stream.set_nonblocking(false).expect("blocking");
    sent
}

/// Everybody else is served at once.
fn others_are_served(case: &Case) {
    let start = Instant::now();
    round_trip(&mut tcp("127.0.0.1:7"), b"me too");
    assert!(!read_to_end(&mut tcp("127.0.0.1:13")).is_empty());
    assert_eq!(ask_tcp("127.0.0.1:9", b"take this"), b"");
    assert_eq!(ask(case, 7, b"and me"), b"and me");
    read_n(&mut tcp("127.0.0.1:19"), 740);
    let took = start.elapsed();
    // How long the old daemons let one client hold up another is their affair.
    assert!(took < Duration::from_secs(2) || case.subject != Subject::Usherd, "others waited {took:?}");
}

#[test]
fn a_client_that_never_reads_its_echo() {
    each(|case| {
        const MOST: usize = 50_000_000;
        let mut hog = tcp("127.0.0.1:7");
        let sent = fill(&mut hog, MOST);
        assert!(sent < MOST, "somebody keeps {sent} bytes for a client that does not read");
        others_are_served(case);
        // When it reads at last, nothing is missing: what was not taken stayed with the sender.
        hog.shutdown(Shutdown::Write).expect("shut down");
        let back = read_to_end(&mut hog);
        assert_eq!(back.len(), sent);
        let block = noise(1, 1 << 16);
        assert!(back.chunks(block.len()).all(|c| c == &block[..c.len()]), "other bytes came back");
    });
}

#[test]
fn clients_that_never_read_chargen() {
    each(|case| {
        let hogs: Vec<_> = (0..5).map(|_| tcp("127.0.0.1:19")).collect();
        others_are_served(case);
        drop(hogs);
        others_are_served(case);
    });
}

#[test]
fn clients_that_say_nothing() {
    each(|case| {
        let idle: Vec<_> = ["127.0.0.1:7", "127.0.0.1:9"].repeat(20).into_iter().map(tcp).collect();
        others_are_served(case);
        for mut client in idle {
            client.set_nonblocking(true).expect("non-blocking");
            let still = client.read(&mut [0; 1]).expect_err("nothing to read");
            assert_eq!(still.kind(), ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn a_datagram_from_another_service() {
    for case in cases() {
        in_net(move |net| {
            println!("{:?}, {}", case.subject, grammar(&case));
            // On one address, so that the ports of another are free for the forged questions.
            let (conf, is_xinetd) = match case.conf {
                Conf::Xinetd(text) => (text.replace("cps =", "bind = 127.0.0.1\n\tcps ="), true),
                Conf::Inetd(text) => (format!("127.0.0.1:\n{text}"), false),
            };
            let conf = if is_xinetd { Conf::Xinetd(&conf) } else { Conf::Inetd(&conf) };
            let _daemon = Daemon::start(net, case.subject, conf).ready(&PORTS);
            for service in [7, 19] {
                // As if echo or chargen on another machine had sent it.
                for from in ["127.0.0.9:7", "127.0.0.9:19"] {
                    let client = udp(from, &at("127.0.0.1", service));
                    if case.answers_services {
                        insist(&client, b"ping");
                    } else {
                        assert!(silent(&client, b"ping"), "{service} answered {from}");
                    }
                }
            }
        });
    }
}
