//! What the parsers are fed with, and what must hold whatever it is. Each target is a plain function that panics when
//! something does not hold: cargo-fuzz calls it, and so does the `replay` binary.

mod tree;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::SocketAddr;

use usherd::args;
use usherd::config::diagnostic::Diagnostic;
use usherd::config::token::{Assignment, Words};
use usherd::config::{Loader, Options, Outcome};
use usherd::errno::Errno;
use usherd::names;
use usherd::resolver::dns::is_host_name;
use usherd::resolver::{HostName, LOOKUP_MS, Lookup, Network, Paths, QuestionId, Resolver, Subject};
use usherd::service::{Bind, Dialect, Family, Service, SocketType, Standing};
use usherd::table::Table;
use usherd::time::Instant;
use usherd::zone::{TzSource, Zone, parse_tz_variable};

use tree::Tree;

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 7] = [
    ("tokens", tokens),
    ("xinetd", xinetd),
    ("inetd", inetd),
    ("args", args),
    ("zone", zone),
    ("names", names),
    ("dns", dns),
];

/// Lines of xinetd's grammar as words.
pub fn tokens(data: &[u8]) {
    for line in data.split(|b| *b == b'\n') {
        let inside = |bytes: &[u8], column: u32| {
            let at = column as usize - 1;
            let quoted = line.get(at) == Some(&b'"') && line[at + 1..].starts_with(bytes);
            assert!(quoted || line[at..].starts_with(bytes), "a word is where its column says");
        };
        let mut words = Words::new(line);
        let mut last = 0;
        let mut sound = true;
        for word in words {
            match word {
                Ok(word) => {
                    inside(word.bytes, word.column);
                    assert!(word.column > last, "columns rise");
                    last = word.column;
                }
                Err((_, column)) => {
                    assert!(column >= 1 && column as usize <= line.len());
                    sound = false;
                    break;
                }
            }
        }
        match words.check() {
            Ok(count) => {
                assert!(sound);
                assert_eq!(words.sound().count(), count);
                assert_eq!(words.by_ref().count(), count);
            }
            Err(_) => assert!(!sound),
        }
        if let Some(column) = Words::new(line).comment() {
            assert_eq!(line[column as usize - 1], b'#');
        }
        if let Some(assignment) = Assignment::parse(line) {
            inside(assignment.name.bytes, assignment.name.column);
            inside(assignment.operator.text().as_bytes(), assignment.column);
            let _ = assignment.values.check();
        }
    }
}

/// A configuration in xinetd's grammar. `%FILE NAME` at the beginning of a line begins another file.
pub fn xinetd(data: &[u8]) {
    load(data, Some(Dialect::Xinetd));
    load(data, None);
}

/// The same in inetd's grammars.
pub fn inetd(data: &[u8]) {
    load(data, Some(Dialect::Inetd));
}

struct Parts {
    loader: Box<Loader>,
    table: Box<Table>,
}

fn load(data: &[u8], dialect: Option<Dialect>) {
    thread_local! {
        // One for all inputs, as the daemon has one for all reloads: nothing of an input may be left for the next.
        static PARTS: RefCell<Parts> = RefCell::new(Parts {
            loader: Box::new(Loader::new()),
            table: Box::new(Table::new()),
        });
    }
    let mut files = Tree::of(data);
    PARTS.with_borrow_mut(|Parts { loader, table }| {
        for options in [
            Options { dialect, ..Options::default() },
            Options { dialect, notes: true, also: Some(b"/etc/inetd.conf"), ..Options::default() },
        ] {
            let first = load_once(loader, table, &mut files, &options);
            let services = table.services().to_vec();
            let second = load_once(loader, table, &mut files, &options);
            assert_eq!(first, second, "the same text says the same");
            assert!(table.services() == services.as_slice(), "and gives the same services");
            for service in table.services() {
                check(table, service);
            }
            let mut other = Box::new(Table::new());
            for service in table.services() {
                if let Ok(copy) = other.copy(table, service) {
                    assert_eq!(other.bytes(copy.program), table.bytes(service.program));
                }
            }
        }
    });
}

fn load_once(
    loader: &mut Loader,
    table: &mut Table,
    files: &mut Tree,
    options: &Options,
) -> (Outcome, String) {
    let mut said = String::new();
    let (mut errors, mut warnings) = (0, 0);
    let outcome = loader.load(
        files,
        &mut |d: &Diagnostic<'_>| {
            let line = d.to_string();
            assert!(!line.chars().any(char::is_control), "a diagnostic is one line of text: {line:?}");
            match d.severity {
                usherd::config::diagnostic::Severity::Error => errors += 1,
                usherd::config::diagnostic::Severity::Warning => warnings += 1,
            }
            let _ = writeln!(said, "{line}");
        },
        table,
        b"/etc/conf",
        options,
    );
    assert_eq!((outcome.errors, outcome.warnings), (errors, warnings), "what is counted is what is said");
    let broken = table.services().iter().any(|service| service.standing == Standing::Broken);
    assert!(!broken || outcome.errors > 0, "what is broken has its reason:\n{said}");
    assert!(outcome.usable || outcome.errors > 0);
    (outcome, said)
}

/// What the daemon takes for granted of a service that starts.
fn check(table: &Table, service: &Service) {
    if service.standing != Standing::Ready {
        return;
    }
    assert!(!table.bytes(service.id).is_empty());
    match service.bind {
        Bind::Path(path) => {
            assert_eq!(service.family, Family::Unix);
            assert!(table.bytes(path).starts_with(b"/"));
        }
        _ => assert!(service.family != Family::Unix && service.port > 0),
    }
    for word in table.words(service.argv).iter().chain(table.words(service.env)) {
        let bytes = table.c_bytes(*word);
        assert_eq!(bytes.iter().position(|b| *b == 0), Some(bytes.len() - 1), "a C string");
    }
    if service.builtin().is_none() {
        // inetd's grammar allows a path from the root directory, with a warning.
        let is_inetd = service.dialect == Dialect::Inetd;
        assert!(is_inetd || table.bytes(service.program).starts_with(b"/"));
        assert!(!table.bytes(service.program).is_empty());
        assert!(!table.words(service.argv).is_empty());
        let path = table.c_bytes(service.program);
        assert_eq!(path.iter().position(|b| *b == 0), Some(path.len() - 1), "a C string");
    }
    table.rules(service.only_from);
    table.rules(service.no_access);
    table.times(service.access_times);
    table.gids(service.identity.groups);
}

/// A command line, words parted by NUL.
pub fn args(data: &[u8]) {
    match args::parse(data.split(|b| *b == 0)) {
        Ok(options) => {
            let _ = format!("{options:?}");
        }
        Err(misuse) => {
            let line = misuse.to_string();
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

/// TZif files, POSIX rules and values of TZ, by the first byte.
pub fn zone(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let zone = match kind % 3 {
        0 => Zone::from_tzif(data),
        1 => Zone::from_posix(data),
        _ => match parse_tz_variable(Some(data)) {
            Ok(TzSource::Posix(rule)) => Zone::from_posix(rule),
            Ok(TzSource::Path(path)) => {
                assert!(path.starts_with(b"/"));
                return;
            }
            _ => return,
        },
    };
    let Ok(zone) = zone else { return };
    let mut times = vec![i64::MIN, -1, 0, 1, i64::MAX, 253_402_300_800, -62_167_219_201];
    // Every quarter of a day of a year, and every 10 years of some centuries.
    times.extend((0..1464).map(|n| 1_795_000_000 + n * 21_600));
    times.extend((-100..100).map(|n| n * 315_576_000));
    for unix in times {
        let local = zone.at(unix);
        assert!(local.year <= 9999 && (1..=12).contains(&local.month) && (1..=31).contains(&local.day));
        assert!(local.hour < 24 && local.minute_of_day() < 1440);
        let mut text = String::new();
        local.write_ctime(&mut text).expect("a date");
        local.write_xinetd_daytime(&mut text).expect("a date");
        local.write_xinetd_stamp(&mut text).expect("a date");
        local.write_syslog_stamp(&mut text).expect("a date");
        assert!(text.is_ascii() && !text.chars().any(char::is_control), "{text:?}");
    }
}

/// services(5), passwd(5), group(5) and hosts(5): the input is each of them.
pub fn names(data: &[u8]) {
    let mut files = Tree::default();
    files.add(b"/f", data);
    let f = &mut files;
    for socket in [SocketType::Stream, SocketType::Dgram] {
        for name in [&b"echo"[..], b"probe", b"", b"ftp"] {
            if let Ok(Some(port)) = names::port_of(f, b"/f", name, socket) {
                assert!(port.number > 0);
            }
        }
        for number in [7, 21, 9901] {
            if let Ok(Some(port)) = names::service_at(f, b"/f", number, socket) {
                assert_eq!(port.number, number);
            }
        }
    }
    for name in [&b"root"[..], b"alice", b"0", b""] {
        if let Ok(Some(user)) = names::user_by_name(f, b"/f", name) {
            assert_eq!(user.name.as_slice(), name);
        }
        let _ = names::group_by_name(f, b"/f", name);
        let _ = names::groups_of(f, b"/f", name, |_| true);
        let _ = names::addresses_of(f, b"/f", name, |_| true);
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let _ = names::name_at(f, b"/f", address, |found| (found == name).then_some(()));
        names::protocol(name);
    }
    for uid in [0, 1000, u32::MAX] {
        if let Ok(Some(user)) = names::user_by_uid(f, b"/f", uid) {
            assert_eq!(user.uid, uid);
        }
    }
}

/// A name server's answers: each begins with its length, 2 bytes. Bits of the first byte: 0 and 1 choose what is
/// looked up; 2: the number of the question is put into each answer, so that what follows is read; 3: so is the question; 4:
/// what follows is not answers but resolv.conf(5).
pub fn dns(data: &[u8]) {
    thread_local! {
        static RESOLVER: RefCell<Box<Resolver<()>>> = RefCell::new(Box::new(Resolver::new()));
    }
    let Some((flags, mut data)) = data.split_first() else { return };
    let mut files = Tree::of(b"");
    if flags & 16 != 0 {
        files.add(b"/etc/resolv.conf", data);
        data = &[];
    }
    RESOLVER.with_borrow_mut(|resolver| {
        // What the input before said is not to be remembered.
        **resolver = Resolver::new();
        let _ = resolver.configure(&mut files, Paths::default());
        let mut server = Server { flags: *flags, data, asked: None };
        let begun = Instant(1000);
        let mut now = begun;
        let address = if flags & 1 != 0 { "2001:db8::7" } else { "192.0.2.7" }.parse().expect("an address");
        let name = b"www.example";
        let is_name = flags & 2 == 0;
        let lookup = if is_name {
            resolver.name_of(address, now, &mut files, &mut server)
        } else {
            resolver.addresses_of(name, now, &mut files, &mut server)
        };
        assert!(lookup != Lookup::Full);
        let mut ended = 0;
        while let Some(next) = resolver.next_deadline() {
            let before = server.data.len();
            let (id, _) = server.asked.clone().expect("a question");
            let end = resolver.answered(id, now, &mut files, &mut server).or_else(|| {
                // Nothing came of it: time goes on.
                if before == server.data.len() {
                    assert!(next > now);
                    now = next;
                }
                resolver.tick(now, &mut server)
            });
            if let Some(end) = end {
                let wanted = if is_name { Subject::NameOf(address) } else { Subject::AddressesOf(name) };
                assert!(resolver.subject(end) == Some(wanted));
                ended += 1;
            }
        }
        assert_eq!(ended, usize::from(lookup == Lookup::Pending), "one look-up has one end");
        assert!(now <= begun.plus_ms(LOOKUP_MS));
        if is_name {
            match resolver.name(address, now) {
                HostName::NotAsked => panic!("it was asked for"),
                HostName::Known(name) => assert!(is_host_name(name)),
                HostName::Unknown | HostName::Paranoid => {}
            }
        } else {
            let addresses = resolver.addresses(name, now).expect("it was asked for");
            assert!(addresses.iter().all(|address| *address == address.to_canonical()));
        }
    });
}

struct Server<'a> {
    flags: u8,
    data: &'a [u8],
    asked: Option<(QuestionId, Vec<u8>)>,
}

impl Network for Server<'_> {
    type Question = ();

    fn ask(&mut self, id: QuestionId, _: SocketAddr, query: &[u8]) -> Result<(), Errno> {
        self.asked = Some((id, query.to_vec()));
        Ok(())
    }

    fn answer(&mut self, (): &(), buf: &mut [u8]) -> Result<usize, Errno> {
        let Some((len, rest)) = self.data.split_first_chunk() else { return Err(Errno::AGAIN) };
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        self.data = rest;
        let query = self.asked.as_ref().map_or(&[][..], |(_, query)| query);
        let mut message = message.to_vec();
        let put = |to: &mut [u8], from: &[u8]| to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        if self.flags & 4 != 0 {
            put(&mut message, query.get(..2).unwrap_or(&[]));
        }
        if self.flags & 8 != 0 {
            put(message.get_mut(12..).unwrap_or(&mut []), query.get(12..).unwrap_or(&[]));
        }
        let len = message.len().min(buf.len());
        buf[..len].copy_from_slice(&message[..len]);
        Ok(len)
    }

    fn random(&mut self) -> u32 {
        4
    }
}
