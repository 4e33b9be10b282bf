//! What a decoded frame says is what the text says: for every kind of record, whoever the client and whatever the names.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use usherd::addr::{Ip, Peer, Socket};
use usherd::backend::{ServiceId, StreamId};
use usherd::config::diagnostic::Bytes;
use usherd::engine::Event;
use usherd::errno::Errno;
use usherd::record::{Banner, ChildStep, Ending, Fact, Overstay, Record, Refusal};
use usherd::service::{Answer, Bind, Family, Host, LogFields, Service, SocketType, Target};
use usherd::slots::Handle;
use usherd::table::Table;
use usherd::wrappers::{Fault, Place, Which, Why};
use usherd_decode::{Item, Program, decode};

#[path = "../../../tests/harness/random.rs"]
#[allow(dead_code, reason = "a part of it is for other tests")]
mod random;
use random::Random;

thread_local! {
    static WRITTEN: RefCell<(defmt::Encoder, Vec<u8>)> = const { RefCell::new((defmt::Encoder::new(), Vec::new())) };
}

/// Keeps what a thread writes for that thread.
#[defmt::global_logger]
struct Logger;

// SAFETY: nothing is shared between threads, and no frame is begun within another.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        WRITTEN.with_borrow_mut(|(encoder, written)| encoder.start_frame(|bytes| written.extend(bytes)));
    }

    unsafe fn flush() {}

    unsafe fn release() {
        WRITTEN.with_borrow_mut(|(encoder, written)| encoder.end_frame(|bytes| written.extend(bytes)));
    }

    unsafe fn write(bytes: &[u8]) {
        WRITTEN.with_borrow_mut(|(encoder, written)| encoder.write(bytes, |bytes| written.extend(bytes)));
    }
}

defmt::timestamp!("{=u64:ms}", 4711);

/// This program, and a header that says where it was loaded.
fn myself() -> (Program, Vec<u8>) {
    let elf = std::fs::read("/proc/self/exe").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let exe = std::fs::read_link("/proc/self/exe").unwrap();
    let line = maps.lines().find(|line| line.ends_with(exe.to_str().unwrap())).unwrap();
    let base = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    let program = Program::new(elf).unwrap();
    let header = format!("\0\0usherd frames build={} base={:04x} pid=1\0", program.build(), base as u16);
    (program, header.into())
}

/// What is decoded of all that this thread has written since it was asked last.
fn decoded() -> Vec<String> {
    let written = WRITTEN.with_borrow_mut(|(_, written)| std::mem::take(written));
    let (program, mut stream) = myself();
    stream.extend(written);
    let mut items = decode(&[program], &stream).unwrap().into_iter();
    assert!(matches!(items.next(), Some(Item::Header(_))));
    let text = |item| match item {
        Item::Line { time, text, .. } => {
            assert_eq!(time, "4.711");
            text
        }
        other => panic!("{other}"),
    };
    items.map(text).collect()
}

const NAMES: &[&[u8]] = &[
    b"echo",
    b"",
    b"daytime stream",
    "b\u{fc}ro \u{2713} \u{10ffff}".as_bytes(),
    b"a\nb\r\tc\0d\x7f\x1b[31mred",
    "next\u{85}line \u{9b}31m".as_bytes(),
    b"\xff\xfe broken \xe2\x82 in \xf0\x9f the middle \xc3",
    b"{} {=u8} {{ }} %s %n \\x41 \"quoted\" 'and' \\",
    b"\x01",
    b"x\x02",
    b"\x80",
    b"\x03\x03\x03y\x04\x04",
    &[b'n'; 300],
];

fn addresses() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = [
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "1::",
        "::ffff:192.0.2.1",
        "::ffff:0:1",
        "::192.0.2.1",
        "fe80::75:73ff:fe68:1",
        "2001:db8:0:1:0:0:0:1",
        "2001:db8:0:0:1:0:0:1",
        "1:0:2:0:3:0:4:0",
        "0:1:0:2:0:3:0:4",
        "1:2:3:4:5:6:7:8",
        "0:0:3:4:5:6:7:8",
        "1:2:3:4:5:6:0:0",
        "1:2:3:4:5:6:7:0",
        "0:2:3:4:5:6:7:8",
        "64:ff9b::192.0.2.33",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect();
    // Every pattern of zeros.
    for zeros in 0..256_u16 {
        let segments = std::array::from_fn(|at| if zeros & 1 << at == 0 { 0x1f << at } else { 0 });
        all.push(Ipv6Addr::from_segments(segments).into());
    }
    all
}

#[test]
fn addresses_are_written_as_text_writes_them() {
    let mut texts = Vec::new();
    for address in addresses() {
        defmt::println!("{}", Ip(address));
        texts.push(address.to_string());
        for port in [0, 7, 65535] {
            let socket = SocketAddr::new(address, port);
            defmt::println!("{}", Socket(socket));
            texts.push(socket.to_string());
        }
        if let IpAddr::V6(address) = address {
            let socket = SocketAddr::V6(SocketAddrV6::new(address, 7, 0, 2));
            defmt::println!("{}", Socket(socket));
            texts.push(socket.to_string());
        }
        // A mapped client is an IPv4 client everywhere.
        let peer = Peer::ip(address, 7);
        defmt::println!("{}", peer);
        texts.push(peer.to_string());
    }
    assert_eq!(decoded(), texts);
    for (address, text) in addresses().into_iter().zip(addresses()) {
        assert_eq!(Ip(address).to_string(), text.to_string());
        let socket = SocketAddr::new(address, 7);
        assert_eq!(Socket(socket).to_string(), socket.to_string());
    }
}

#[test]
fn names_are_written_as_text_writes_them() {
    let (_, mut random) = Random::seeded();
    let mut texts = Vec::new();
    let mut names: Vec<Vec<u8>> = NAMES.iter().map(|name| name.to_vec()).collect();
    names.extend((0..=255).map(|byte| vec![b'a', byte, b'z']));
    for _ in 0..200 {
        let len = random.below(40);
        names.push((0..len).map(|_| random.next() as u8).collect());
    }
    for name in &names {
        defmt::println!("{}", Bytes(name));
        texts.push(Bytes(name).to_string());
    }
    assert_eq!(decoded(), texts);
}

#[test]
fn every_errno_is_written_as_text_writes_it() {
    let all = (0..=200).chain([u16::MAX]).map(Errno);
    all.clone().for_each(|errno| defmt::println!("{}", errno));
    assert_eq!(decoded(), all.map(|errno| errno.to_string()).collect::<Vec<_>>());
}

/// Which kind it is, among [`KINDS`]. A new one does not compile until it is here and in [`fact`].
fn kind(fact: &Fact<'_>) -> usize {
    match fact {
        Fact::Start { .. } => 0,
        Fact::Exit { .. } => 1,
        Fact::Fail { .. } => 2,
        Fact::UserId { .. } => 3,
        Fact::NoId { .. } => 4,
        Fact::Traffic { .. } => 5,
        Fact::Wrapped { .. } => 6,
        Fact::CommandFailed { .. } => 7,
        Fact::Sensed { .. } => 8,
        Fact::ConnectFailed { .. } => 9,
        Fact::Ousted { .. } => 10,
        Fact::FailMore { .. } => 11,
        Fact::ListenFailed { .. } => 12,
        Fact::ListenRecovered => 13,
        Fact::CpsPause { .. } => 14,
        Fact::MinutePause { .. } => 15,
        Fact::Resumed => 16,
        Fact::AcceptFailed { .. } => 17,
        Fact::TableFull => 18,
        Fact::SpawnFailed { .. } => 19,
        Fact::ExecFailed { .. } => 20,
        Fact::BannerFailed { .. } => 21,
        Fact::Hasty { .. } => 22,
        Fact::TimedOut { .. } => 23,
        Fact::StandbyEnded { .. } => 24,
        Fact::ChildFailed { .. } => 25,
    }
}
const KINDS: usize = 26;

const REFUSALS: [Refusal; 16] = [
    Refusal::Address,
    Refusal::Time,
    Refusal::Load,
    Refusal::ServiceLimit,
    Refusal::PerSourceLimit,
    Refusal::ProcessLimit,
    Refusal::ConnectionsPerSecond,
    Refusal::PerMinuteLimit,
    Refusal::Fork,
    Refusal::Exec,
    Refusal::Reflector,
    Refusal::NoTime,
    Refusal::Libwrap,
    Refusal::LookupLimit,
    Refusal::NamePending,
    Refusal::Identity,
];

/// Of a line and of a word; with short texts and with those of several lines.
const FAULTS: [Fault; 8] = [
    Fault::LineTooLong,
    Fault::NoNewline,
    Fault::LineOver,
    Fault::BadNet,
    Fault::ShortNet,
    Fault::OptionUnknown,
    Fault::BadSeverity,
    Fault::Percent,
];

/// Numbers at the edges of what they are kept in.
fn number(random: &mut Random) -> u64 {
    let width = [1, 8, 16, 32, 64][random.below(5)];
    [0, 1, random.next(), u64::MAX][random.below(4)] >> (64 - width)
}

fn one_of<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

fn fact(kind: usize, random: &mut Random, addresses: &[IpAddr]) -> Fact<'static> {
    let peer = match random.below(8) {
        0 => Peer::Local,
        1 => Peer::Unknown,
        _ => Peer::ip(one_of(random, addresses), random.next() as u16),
    };
    let pid = number(random) as u32;
    let errno = Errno(one_of(random, &[1, 2, 11, 24, 98, 111, 133, 4095]));
    let refusal = one_of(random, &REFUSALS);
    let (seconds, count) = (number(random), number(random));
    let byte = random.next() as u8;
    let ending = one_of(random, &[Ending::Exited(byte), Ending::Signalled(byte)]);
    let place = Place { which: one_of(random, &[Which::Allow, Which::Deny]), line: pid, last: pid };
    match kind {
        0 => Fact::Start { pid, peer },
        1 => Fact::Exit { pid, peer, ending, seconds },
        2 => Fact::Fail { refusal, peer },
        3 => Fact::UserId { text: one_of(random, NAMES) },
        4 => Fact::NoId { peer, why: one_of(random, &["", "no answer", "the port is not there: {}"]) },
        5 => Fact::Traffic { received: seconds, sent: count },
        6 => {
            let fault = one_of(random, &FAULTS);
            let why = match random.below(4) {
                0 => Why::Rule,
                1 => Why::NoRule,
                2 => Why::Fault { fault, line: pid, column: seconds as u32 },
                _ => Why::Unreadable { which: place.which, errno },
            };
            Fact::Wrapped { peer, place: Some(place).filter(|_| random.one_in(2)), why }
        }
        7 => Fact::CommandFailed { errno },
        8 => Fact::Sensed { peer, minutes: one_of(random, &[None, Some(0), Some(1), Some(pid)]) },
        9 => {
            let to = SocketAddr::new(one_of(random, addresses), pid as u16);
            Fact::ConnectFailed { to: Some(to).filter(|_| random.one_in(2)), errno }
        }
        10 => Fact::Ousted { pid, peer, refusal },
        11 => Fact::FailMore { count, seconds },
        12 => Fact::ListenFailed { errno, retry: seconds },
        13 => Fact::ListenRecovered,
        14 => Fact::CpsPause { seconds },
        15 => Fact::MinutePause { seconds },
        16 => Fact::Resumed,
        17 => Fact::AcceptFailed { errno },
        18 => Fact::TableFull,
        19 => Fact::SpawnFailed { errno },
        20 => Fact::ExecFailed { errno },
        21 => {
            let which = one_of(random, &[Banner::Always, Banner::Success, Banner::Fail]);
            Fact::BannerFailed { which, errno }
        }
        22 => Fact::Hasty { ms: seconds },
        23 => {
            let why = one_of(random, &[Overstay::Timeout, Overstay::IdleTimeout, Overstay::PlaceNeeded]);
            Fact::TimedOut { pid, peer, why }
        }
        24 => Fact::StandbyEnded { pid, ending, ms: seconds },
        _ => Fact::ChildFailed { what: one_of(random, &ChildStep::ALL), errno },
    }
}

fn service(table: &mut Table, random: &mut Random, addresses: &[IpAddr]) -> Service {
    let mut name = || {
        let name = one_of(random, NAMES);
        table.push_text(name).expect("the table has room")
    };
    let [id, daemon, program, path, banner, host] = std::array::from_fn(|_| name());
    let address = one_of(random, addresses);
    Service {
        id,
        daemon,
        program,
        banner,
        banner_success: id,
        banner_fail: host,
        family: one_of(random, &[Family::V4, Family::V6, Family::Unix]),
        socket: one_of(random, &[SocketType::Stream, SocketType::Dgram]),
        bind: one_of(
            random,
            &[Bind::Everywhere, Bind::Address(address), Bind::Interface(path), Bind::Path(path)],
        ),
        port: random.next() as u16,
        answer: match random.below(3) {
            0 => Answer::Redirect(Target { host: Host::Name(host), port: 7 }),
            1 => Answer::Redirect(Target { host: Host::Address(address), port: 7 }),
            _ => Answer::Program,
        },
        log_on_success: LogFields(random.next() as u8),
        log_on_failure: LogFields(random.next() as u8),
        ..Service::default()
    }
}

#[test]
fn every_kind_of_record_is_written_as_text_writes_it() {
    let (_, mut random) = Random::seeded();
    let addresses = addresses();
    let mut table = Box::new(Table::new());
    let mut kinds = BTreeSet::new();
    for _ in 0..8 {
        table.clear();
        let service = service(&mut table, &mut random, &addresses);
        let mut texts = Vec::new();
        for case in 0..40 * KINDS {
            let fact = fact(case % KINDS, &mut random, &addresses);
            kinds.insert(kind(&fact));
            let record = Record { table: &table, service: &service, fact, severity: None };
            defmt::println!("{}", record);
            texts.push(record.to_string());
        }
        assert_eq!(decoded(), texts);
    }
    assert_eq!(kinds, (0..KINDS).collect());
}

#[test]
fn every_refusal_and_what_is_wrong_with_rules_is_written_as_text_writes_it() {
    let mut table = Box::new(Table::new());
    let service = Service { log_on_failure: LogFields::HOST, ..Service::default() };
    table.clear();
    let peer = Peer::ip(Ipv4Addr::LOCALHOST.into(), 1);
    let mut texts = Vec::new();
    for refusal in REFUSALS {
        let record =
            Record { table: &table, service: &service, fact: Fact::Fail { refusal, peer }, severity: None };
        defmt::println!("{}", record);
        texts.push(record.to_string());
    }
    for fault in FAULTS {
        defmt::println!("{} {} {}", fault, fault.what(), fault.cure());
        texts.push(format!("{} {} {}", fault, fault.what(), fault.cure()));
    }
    assert_eq!(decoded(), texts);
}

#[test]
fn events_are_written_as_debug_writes_them() {
    let id = Handle { index: 65535, generation: 7 };
    let mut events = vec![
        Event::Ready(ServiceId { index: 3, generation: 300 }),
        Event::Answer(id),
        Event::Tick,
        Event::Stream(StreamId::Session(id)),
        Event::Stream(StreamId::Near(id)),
        Event::Stream(StreamId::Far(id)),
        Event::Stream(StreamId::Ident(id)),
        Event::Ended { pid: 4_000_000_000, ending: Ending::Exited(255), failed: None },
    ];
    let failed = ChildStep::ALL.map(|step| Some((step, Errno::NOENT)));
    events.extend(failed.map(|failed| Event::Ended { pid: 1, ending: Ending::Signalled(9), failed }));
    events.iter().for_each(|event| defmt::println!("{}", event));
    // The text of an errno is better than its number alone.
    let text = |event: &Event| format!("{event:?}").replace("Errno(2)", &Errno::NOENT.to_string());
    assert_eq!(decoded(), events.iter().map(text).collect::<Vec<_>>());
}

/// Some records, as a stream that a recorder would have written; and the same in text.
fn recording() -> (Program, Vec<u8>, Vec<String>) {
    let mut table = Box::new(Table::new());
    table.clear();
    let service = Service { id: table.push_text(b"echo").unwrap(), ..Service::default() };
    let mut texts = Vec::new();
    for count in 0..40 {
        let fact = Fact::FailMore { count, seconds: 1 };
        let record = Record { table: &table, service: &service, fact, severity: None };
        defmt::println!("{}", record);
        texts.push(record.to_string());
    }
    let (program, mut stream) = myself();
    stream.extend(WRITTEN.with_borrow_mut(|(_, written)| std::mem::take(written)));
    (program, stream, texts)
}

fn lines(items: &[Item]) -> Vec<&str> {
    fn text(item: &Item) -> Option<&str> {
        match item {
            Item::Line { text, .. } => Some(text),
            _ => None,
        }
    }
    items.iter().filter_map(text).collect()
}

#[test]
fn a_recording_that_was_cut_off_is_read_up_to_there() {
    let (program, stream, texts) = recording();
    let programs = [program];
    let whole = decode(&programs, &stream).unwrap();
    assert_eq!(lines(&whole), texts);
    let mut ends = BTreeSet::new();
    for len in (0..stream.len()).step_by(5) {
        let items = decode(&programs, &stream[..len]).unwrap();
        let read = lines(&items);
        assert_eq!(read, texts[..read.len()]);
        let damaged = items.iter().filter(|item| matches!(item, Item::Damage(_))).count();
        assert!(damaged <= 1, "{items:?}");
        ends.insert(read.len());
    }
    assert!(ends.len() > 30, "{ends:?}");
}

#[test]
fn damage_costs_the_frames_that_it_is_in() {
    let (_, mut random) = Random::seeded();
    let (program, stream, texts) = recording();
    let programs = [program];
    let header = stream[2..].iter().position(|byte| *byte == 0).unwrap() + 3;
    for _ in 0..200 {
        let mut damaged = stream.clone();
        let len = 1 + random.below(30);
        let at = header + random.below(stream.len() - header - len);
        damaged[at..at + len].iter_mut().for_each(|byte| *byte = random.next() as u8);
        let items = decode(&programs, &damaged).unwrap();
        let read = lines(&items);
        let lost = texts.iter().filter(|text| !read.contains(&text.as_str())).count();
        // The frames that 30 bytes can be in, and one that a zero has been taken from the end of.
        assert!(lost <= 4, "{lost} of {items:?}");
    }
}

#[test]
fn what_is_no_recording_is_told() {
    let (_, mut random) = Random::seeded();
    let (program, stream, _) = recording();
    let build = program.build().to_owned();
    let programs = [program];
    for _ in 0..20 {
        let noise: Vec<u8> = (0..random.below(20_000)).map(|_| random.next() as u8).collect();
        decode(&programs, &noise).unwrap();
        // As deep as it goes.
        let nested: Vec<u8> = noise.iter().map(|byte| byte % 5).collect();
        decode(&programs, &nested).unwrap();
    }
    let other = String::from_utf8_lossy(&stream).replace(&build, &"0".repeat(build.len()));
    let items = decode(&programs, other.as_bytes()).unwrap();
    assert!(matches!(items[0], Item::Header(_)) && lines(&items).is_empty(), "{items:?}");
    assert_eq!(items[1], Item::Unknown);
    assert!(Program::new(b"\x7fELF".to_vec()).is_err());
    assert!(Program::new(std::fs::read("/bin/true").unwrap()).is_err());
}
