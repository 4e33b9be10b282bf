//! What the parsers are fed with, and what must hold whatever it is. Each target is a plain function that panics when
//! something does not hold: cargo-fuzz calls it, and so does the `replay` binary.

mod tree;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::SocketAddr;

use embedded_io::{ErrorType, Read};
use usherd::args;
use usherd::config::diagnostic::Diagnostic;
use usherd::config::token::{Assignment, Words};
use usherd::config::{Loader, Options, Outcome, value};
use usherd::errno::Errno;
use usherd::ident as user;
use usherd::names;
use usherd::resolver::dns::is_host_name;
use usherd::resolver::{HostName, LOOKUP_MS, Lookup, Network, Paths, QuestionId, Resolver, Subject};
use usherd::service::{Bind, Dialect, Family, Flags, Service, SocketType, Standing};
use usherd::table::Table;
use usherd::tcpmux::{Line, NAME_BYTES, Progress};
use usherd::time::Instant;
use usherd::wrappers::{
    Check, Commands, Effects, Endpoint, Facts, Language, Need, Ran, Request, Tables, User, Verdict, Why,
    Wrappers, expand_banner,
};
use usherd::zone::{TzSource, Zone, parse_tz_variable};

use tree::Tree;

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 11] = [
    ("tokens", tokens),
    ("xinetd", xinetd),
    ("inetd", inetd),
    ("args", args),
    ("zone", zone),
    ("names", names),
    ("dns", dns),
    ("hosts", hosts),
    ("ident", ident),
    ("tcpmux", tcpmux),
    ("values", values),
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
        // Behind tcpmux a service has a name and no port.
        _ => assert!(service.family != Family::Unix && (service.port > 0 || service.flags.has(Flags::MUX))),
    }
    for word in table.words(service.argv).iter().chain(table.words(service.env)) {
        let bytes = table.c_bytes(*word);
        assert_eq!(bytes.iter().position(|b| *b == 0), Some(bytes.len() - 1), "a C string");
    }
    if service.is_program() {
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

/// hosts.allow and, behind a line `%FILE /etc/hosts.deny`, hosts.deny; other files may follow. Bits of the first byte: 0:
/// the client has an IPv6 address; 1: only its server will know it; 2: it is a datagram's; 3: it has a name, 4: a false
/// one; 5: it has a user; 6: commands succeed; 7: hosts_access(5) without options.
pub fn hosts(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let is = |bit: u8| flags & 1 << bit != 0;
    let mut files = Tree::of(data);
    let language = if is(7) { Language::Shell } else { Language::Options };
    let tables = Tables { allow: b"/etc/conf", language, ..Tables::default() };
    let address = if is(0) { "2001:db8::7" } else { "192.0.2.7" }.parse().expect("an address");
    let client = Endpoint {
        address: (!is(1)).then_some(address),
        port: (!is(1)).then_some(40000),
        is_hidden: is(1),
        ..Endpoint::default()
    };
    let here = "198.51.100.1".parse().expect("an address");
    let server = Endpoint { address: Some(here), port: Some(7), ..Endpoint::default() };
    let request = Request { daemon: b"in.thing", client, server, pid: 4711 };
    let mut ran: Vec<Ran> = Vec::new();
    let user = if is(2) { User::Unknown } else { User::NotAsked };
    let (mut client_name, mut server_name, mut user) = (HostName::NotAsked, HostName::NotAsked, user);
    let mut wrappers = Wrappers::new();
    let mut effects = Box::new(Effects::new());
    for round in 0.. {
        // Two names, a user, and what commands there are: each is asked for once.
        assert!(round <= 3 + ran.len(), "what is known is not asked for again");
        let facts = Facts { client_name, server_name, user, commands: Commands::Ran(&ran) };
        let first = format!("{:?}", wrappers.evaluate(&mut files, &tables, &request, &facts));
        let verdict = wrappers.evaluate(&mut files, &tables, &request, &facts);
        assert_eq!(first, format!("{verdict:?}"), "the same question has the same answer");
        match verdict {
            Verdict::Granted(decision) | Verdict::Delegated(decision) => {
                assert!(matches!(decision.why, Why::Rule | Why::NoRule), "a mistake lets nobody in: {first}");
                let taken = effects.take(&mut files, &tables, &decision, &request, &facts, true);
                let texts =
                    effects.env().chain(effects.spawns()).chain(effects.banners()).chain(effects.command());
                for text in texts {
                    assert_eq!(text.iter().position(|b| *b == 0), Some(text.len() - 1), "a C string");
                    assert!(taken.is_ok(), "of what does not fit nothing is kept");
                }
                assert!(effects.env().all(|word| word.contains(&b'=')));
                break;
            }
            Verdict::Refused(decision) => {
                let _ = effects.take(&mut files, &tables, &decision, &request, &facts, true);
                break;
            }
            Verdict::Need(_) if is(1) && ran.len() > 64 => return,
            Verdict::Need(need) => match need {
                Need::ClientName => {
                    assert!(client_name == HostName::NotAsked && !is(1));
                    client_name = match (is(3), is(4)) {
                        (true, false) => HostName::Known(b"gw.example.org"),
                        (true, true) => HostName::Paranoid,
                        (false, _) => HostName::Unknown,
                    };
                }
                Need::ServerName => {
                    assert!(server_name == HostName::NotAsked);
                    server_name = HostName::Unknown;
                }
                Need::User { .. } => {
                    assert!(user == User::NotAsked && !is(1) && !is(2));
                    user = if is(5) { User::Known(b"joe") } else { User::Unknown };
                }
                Need::Command { place, nth, .. } => {
                    assert!(!ran.iter().any(|ran| (ran.place, ran.nth) == (place, nth)));
                    if ran.len() == 100 {
                        return;
                    }
                    ran.push(Ran { place, nth, passed: is(6) });
                }
            },
        }
    }
    let check = Check { is_daemon: None, does_resolve: None };
    let mut told = 0;
    let count = wrappers.check(&mut files, &tables, &check, &mut |d: &Diagnostic<'_>| {
        let line = d.to_string();
        assert!(!line.chars().any(char::is_control), "a diagnostic is one line of text: {line:?}");
        told += 1;
    });
    assert_eq!(count.errors + count.warnings, told);
    let mut out = [0; 512];
    let facts = Facts { client_name, server_name, user, ..Facts::default() };
    assert!(expand_banner(data, &request, &facts, &mut out).text.len() <= 512);
}

/// What an ident server sends, in pieces that end where the first byte says.
pub fn ident(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    // No more of it is read.
    let data = &data[..data.len().min(user::REPLY_BYTES)];
    let whole = user::line(data);
    // A line that is there stays the same, whatever follows.
    for end in (0..data.len()).step_by(usize::from(*step).max(1)) {
        if let Some(line) = user::line(&data[..end]) {
            assert_eq!(Some(line), whole);
        }
    }
    let Some(line) = whole else { return };
    assert!(!line.contains(&b'\n'));
    if let Some(text) = user::user_text(line, 6191, 23) {
        assert!(text.len() <= user::USER_BYTES && text.trim_ascii() == text);
        let name = user::user(text).expect("a text about a user has one");
        assert!(!name.is_empty() && !name.contains(&b' '));
        // Other ports are another connection.
        assert_eq!(user::user_text(line, 6191, 24), None);
        assert_eq!(user::user_text(line, 6192, 23), None);
    }
}

/// What a client of tcpmux sends: the first byte says how long the pieces are in which it comes, 0 that it never ends.
pub fn tcpmux(data: &[u8]) {
    struct Client<'a> {
        rest: &'a [u8],
        /// What of it has come.
        come: usize,
        is_endless: bool,
    }
    impl ErrorType for Client<'_> {
        type Error = Errno;
    }
    impl Read for Client<'_> {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
            let n = buf.len().min(self.come);
            if n == 0 && (self.is_endless || !self.rest.is_empty()) {
                return Err(Errno::AGAIN);
            }
            let (read, rest) = self.rest.split_at(n);
            buf[..n].copy_from_slice(read);
            (self.rest, self.come) = (rest, self.come - n);
            Ok(n)
        }
    }
    let Some((piece, data)) = data.split_first() else { return };
    let is_endless = *piece == 0;
    let mut client = Client { rest: data, come: 0, is_endless };
    let mut line = Line::default();
    let progress = loop {
        match line.read(&mut client).expect("nothing fails") {
            Progress::More if is_endless && client.rest.is_empty() => break Progress::More,
            Progress::More => client.come = usize::from(*piece).max(1).min(client.rest.len()),
            progress => break progress,
        }
    };
    let end = data.iter().position(|b| *b == b'\n');
    match progress {
        Progress::Whole => {
            let end = end.expect("a line ends");
            assert_eq!(client.rest, &data[end + 1..], "what is behind the line is the service's");
            assert_eq!(line.name(), data[..end].strip_suffix(b"\r").unwrap_or(&data[..end]));
        }
        Progress::Bad => assert!(end.is_none_or(|end| end > NAME_BYTES)),
        Progress::More => assert!(end.is_none() && is_endless),
    }
}

/// Words of only_from, access_times, deny_time and other values, parted by blanks.
pub fn values(data: &[u8]) {
    for word in data.split(u8::is_ascii_whitespace) {
        match value::address(word) {
            Ok(value::Address::Prefix(prefix)) => {
                assert!(prefix.contains(prefix.address()));
                let text = prefix.to_string();
                let again = value::address(text.as_bytes());
                // (An address whose last numbers are 0 means a network.)
                if text.contains('/') {
                    assert_eq!(again, Ok(value::Address::Prefix(prefix)), "{text}");
                }
            }
            Ok(value::Address::Several(several)) => assert!(several.prefixes().count() > 0),
            Ok(value::Address::Name(name)) => {
                assert_eq!(name, word);
                let _ = value::is_host_name(name);
            }
            Err(no) => assert!(!no.what.is_empty() && !no.cure.is_empty()),
        }
        let _ = value::with_host_bits(word);
        if let Some(minutes) = value::minutes(word) {
            assert!(minutes.from <= minutes.to && minutes.to < 24 * 60);
        }
        let _ = (value::deny_time(word), value::hundredths(word), value::octal(word), value::rlimit(word));
        let _ = (value::limit(word), value::size(word), value::yes_no(word));
    }
}
