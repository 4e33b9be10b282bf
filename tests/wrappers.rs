//! hosts.allow and hosts.deny, as TCP Wrappers answered.
//!
//! - The recorded cases, data/tcp-wrappers-cases.jsonl: what tcpdmatch 7.6.q said of 314 rules and clients. Where usherd
//!   answers differently, [`DIFFERENCES`] says why; one that is not listed fails the test, and so does a listed one
//!   that is gone.
//! - Files of real projects, with what tcpdmatch said of them, from the corpus.
//! - tcpdmatch itself, tcpdchk and tcpd, from the peers, on random files. `USHERD_CASES` says how many, `USHERD_SEED`
//!   which. They have mounts of their own, for which they need root.
//! - Storms of broken text, which must not break anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::harness::{Random, cases, corpus};
use usherd::config::diagnostic::Diagnostic;
use usherd::config::source::Files;
use usherd::errno::Errno;
use usherd::wrappers::{
    Asked, Check, Commands, Effects, Endpoint, Explanation, Facts, HostName, Language, Need, Opt, Ran,
    Request, Tables, User, Verdict, Which, Who, Why, Wrappers, expand,
};

/// In what an answer differs on purpose. None lets somebody in whom tcpd kept out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Differs {
    /// usherd refuses, and names the mistake.
    Stricter,
    /// The same answer, told at another place.
    Told,
    /// Only tcpdmatch refuses. tcpd does not: `tcpd_lets_in_whom_only_its_tester_refuses` asks it.
    Tester,
}

/// Where the answer is another on purpose, and why.
const DIFFERENCES: &[(&str, Differs, &str)] = &[
    ("client-cidr-trailing-junk", Differs::Stricter, "what stands behind a length may be a second thought"),
    ("v6-bare-never", Differs::Told, "told at the rule that has the mistake"),
    ("v6-prefix-not-a-number", Differs::Stricter, "a length that is no number let every IPv6 client in"),
    ("v6-unbalanced-bracket", Differs::Told, "told at the rule that has the mistake"),
    ("v6-unbalanced-bracket-hides-colon", Differs::Told, "told at the rule that has the mistake"),
    (
        "v6-mapped-hex-spelling",
        Differs::Tester,
        "tcpd never sees an address spelt so; here it is the same one, however it is spelt",
    ),
    (
        "v6-mapped-hex-bracket",
        Differs::Stricter,
        "no client has an IPv4 address in IPv6 form, and the pattern is a mistake",
    ),
    ("except-trailing", Differs::Stricter, "whom to except is missing"),
    ("file-hash-not-comment", Differs::Stricter, "a commented address let its host in"),
    ("file-EXCEPT-not-operator", Differs::Stricter, "the exception was let in"),
    ("syn-indented-hash", Differs::Stricter, "an indented comment let everybody in"),
    ("syn-trailing-hash-is-client", Differs::Stricter, "a comment let the host in that it names"),
    (
        "syn-no-final-newline-allow-no-deny",
        Differs::Stricter,
        "a last line without line end counts where it refuses",
    ),
    ("syn-no-final-newline-deny", Differs::Told, "the line is told"),
    ("syn-no-final-newline-comment-deny", Differs::Told, "the line is told"),
    ("syn-line-2048-bytes-deny", Differs::Told, "the line is told"),
    ("syn-long-comment-deny", Differs::Told, "the line is told"),
    ("syn-allow-is-directory", Differs::Told, "what cannot be read may refuse"),
    ("syn-deny-is-directory", Differs::Stricter, "what cannot be read may refuse"),
    ("syn-allow-unreadable", Differs::Stricter, "what cannot be read may refuse"),
    (
        "opt-user-as-root",
        Differs::Tester,
        "it became the user too early, and then failed to change its group",
    ),
    ("opt-user-as-nobody", Differs::Tester, "it failed to become somebody else"),
    ("mis-v6-mask-text", Differs::Stricter, "a mask in letters let every IPv6 client in"),
];

/// Files in memory. A path may be there and not be readable, or be a directory.
#[derive(Clone, Default)]
struct Tree {
    files: BTreeMap<Vec<u8>, Result<Vec<u8>, Errno>>,
    version: Option<u64>,
    /// Files opened so far.
    opened: usize,
}

impl Tree {
    fn put(&mut self, path: &str, content: &[u8]) {
        self.files.insert(path.into(), Ok(content.into()));
    }

    fn etc() -> Tree {
        let mut tree = Tree::default();
        tree.put("passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n");
        tree.put("group", b"root:x:0:\nnogroup:x:65534:\n");
        tree.put("netgroup", b"friends (h1.example.com,,) (10.9.9.9,,)\n");
        tree
    }
}

impl Files for Tree {
    type Handle = Vec<u8>;

    fn open(&mut self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        self.opened += 1;
        self.files.get(path).cloned().unwrap_or(Err(Errno::NOENT))
    }

    fn read_at(&mut self, file: &Vec<u8>, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let rest = &file[file.len().min(offset as usize)..];
        // Short reads, as a network file system may give.
        let n = rest.len().min(buf.len()).min(700);
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn version(&mut self, _: &[u8]) -> Option<u64> {
        self.version
    }
}

const TABLES: Tables<'static> = Tables {
    allow: b"hosts.allow",
    deny: b"hosts.deny",
    language: Language::Options,
    passwd: b"passwd",
    group: b"group",
    netgroup: b"netgroup",
};

/// A request in words: `unknown` for what is not known.
#[derive(Clone, Debug, Default)]
struct Client {
    daemon: String,
    address: String,
    name: String,
    user: Option<String>,
    server: Option<(String, String)>,
}

impl Client {
    fn request(&self) -> Request<'_> {
        Request {
            daemon: self.daemon.as_bytes(),
            client: Endpoint { port: Some(4000), ..endpoint(&self.address) },
            server: match &self.server {
                Some((_, address)) => Endpoint { port: Some(0), ..endpoint(address) },
                None => Endpoint::default(),
            },
            pid: 42,
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            client_name: host_name(&self.name),
            server_name: host_name(self.server.as_ref().map_or("unknown", |(name, _)| name)),
            user: self.user.as_ref().map_or(User::Unknown, |user| User::Known(user.as_bytes())),
            commands: Commands::Assumed,
        }
    }
}

fn endpoint(text: &str) -> Endpoint<'_> {
    let (address, zone) = text.split_once('%').unwrap_or((text, ""));
    Endpoint { address: address.parse().ok(), zone: zone.as_bytes(), ..Endpoint::default() }
}

fn host_name(text: &str) -> HostName<'_> {
    match text {
        "unknown" => HostName::Unknown,
        "paranoid" => HostName::Paranoid,
        name => HostName::Known(name.as_bytes()),
    }
}

/// The verdict in tcpdmatch's words, and the rule.
fn told(verdict: &Verdict<'_>) -> (&'static str, Option<String>) {
    let (word, decision) = match verdict {
        Verdict::Granted(decision) => ("granted", decision),
        Verdict::Refused(decision) => ("denied", decision),
        Verdict::Delegated(decision) => ("delegated", decision),
        Verdict::Need(need) => panic!("everything is known, but {need:?}"),
    };
    let place = decision.place.map(|place| match place.which {
        Which::Allow => format!("allow:{}", place.last),
        Which::Deny => format!("deny:{}", place.last),
    });
    (word, place)
}

fn evaluate(files: &mut Tree, client: &Client) -> (&'static str, Option<String>, bool, String) {
    let mut wrappers = Wrappers::new();
    let (request, facts) = (client.request(), client.facts());
    let verdict = wrappers.evaluate(files, &TABLES, &request, &facts);
    let (word, place) = told(&verdict);
    let is_faulty = match verdict {
        Verdict::Refused(decision) | Verdict::Delegated(decision) => {
            decision.skipped.is_some() || matches!(decision.why, Why::Fault { .. } | Why::Unreadable { .. })
        }
        Verdict::Granted(_) | Verdict::Need(_) => false,
    };
    let explained = Explanation { verdict: &verdict, tables: &TABLES }.to_string();
    assert!(!explained.is_empty());
    (word, place, is_faulty, explained)
}

#[test]
fn recorded_cases() {
    let text = include_str!("data/tcp-wrappers-cases.jsonl");
    let mut unexpected = String::new();
    let mut differ = 0;
    let mut cases = 0;
    let mut kinds = BTreeMap::<String, u32>::new();
    let mut gone: Vec<_> = DIFFERENCES.to_vec();
    for line in text.lines().filter(|line| !line.is_empty()) {
        cases += 1;
        let case = json::object(line);
        let text = |key: &str| case.get(key).and_then(json::Value::text);
        let name = text("name").unwrap();
        let in_place = |text: &str| text.replace("__DIR__", "/dir").into_bytes();
        let mut files = Tree::etc();
        for which in ["allow", "deny"] {
            let path = format!("hosts.{which}").into_bytes();
            if text("unreadable") == Some(which) {
                files.files.insert(path, Err(Errno::ACCESS));
            } else if text("directory") == Some(which) {
                files.files.insert(path, Err(Errno::ISDIR));
            } else if let Some(content) = text(which) {
                files.files.insert(path, Ok(in_place(content)));
            }
        }
        if let Some(json::Value::Object(all)) = case.get("files") {
            for (path, content) in all {
                files.files.insert(in_place(path), Ok(in_place(content.text().unwrap())));
            }
        }
        let client = Client {
            daemon: text("daemon").unwrap().into(),
            address: text("client_addr").unwrap().into(),
            name: text("client_name").unwrap().into(),
            user: text("user").map(Into::into),
            server: text("server")
                .map(|_| (text("server_name").unwrap().into(), text("server_addr").unwrap().into())),
        };
        let (word, place, is_faulty, explained) = evaluate(&mut files, &client);
        let expected = text("expect").unwrap();
        let matched = text("matched").map(Into::into);
        if word == expected && place == matched {
            continue;
        }
        differ += 1;
        let listed = gone.iter().position(|(listed, ..)| *listed == name).map(|at| gone.remove(at).1);
        let is_listed = match listed {
            Some(Differs::Stricter) => word == "denied" && expected != "denied" && is_faulty,
            Some(Differs::Told) => word == expected,
            Some(Differs::Tester) => word == "granted" && expected == "denied",
            None => false,
        };
        let kind = listed.map_or("not listed".into(), |kind| format!("{kind:?}"));
        *kinds.entry(kind).or_insert(0) += 1;
        if !is_listed {
            writeln!(
                unexpected,
                "{name}: {explained}\n    not {expected} by {matched:?}: {}",
                text("allow").unwrap_or("-").chars().take(60).collect::<String>()
            )
            .unwrap();
        }
    }
    assert!(unexpected.is_empty(), "differences that are not listed:\n{unexpected}");
    assert!(gone.is_empty(), "listed differences that are gone: {gone:?}");
    println!("{cases} cases: {} agree, {differ} differ on purpose: {kinds:?}", cases - differ);
}

/// The files of real projects: what they are read as, how many rules tcpdchk saw in each, what tcpdmatch said.
#[test]
fn files_of_real_projects() {
    let Some(dir) = corpus() else { return };
    let expected = String::from_utf8_lossy(&fs::read(dir.join("EXPECT.tsv")).unwrap()).into_owned();
    let mut matches = 0;
    let mut seen = 0;
    let mut wrong = String::new();
    // Which file, and how many rules.
    let mut read_as = BTreeMap::new();
    let rows: Vec<Vec<&str>> = expected.lines().map(|line| line.splitn(8, '\t').collect()).collect();
    let rows = rows.iter().filter(|row| row[0] == "hosts_access");
    for row in rows {
        let (file, event, text) = (row[1], row[5], row[7]);
        if event == "result" {
            let rest = text.strip_prefix("read as ").unwrap();
            let (name, rest) = rest.split_once(": ").unwrap();
            let rules: u32 = rest.split(' ').next().unwrap().parse().unwrap();
            read_as.insert(file, name);
            seen += 1;
            let mut files = Tree::etc();
            files.put(name, &fs::read(dir.join("hosts_access").join(file)).unwrap());
            let mut said = String::new();
            let count =
                Wrappers::new().check(&mut files, &TABLES, &Check::default(), &mut |d: &Diagnostic<'_>| {
                    writeln!(said, "    {d}").unwrap();
                });
            let (errors, more) = match file {
                // A word without a colon, and no line end.
                "001.conf" => (2, 0),
                // Placeholders that nobody filled in.
                "020.conf" => (1, 0),
                // The last line has no line end: tcpdchk does not count it.
                "002.conf" => (1, 1),
                _ => (0, 0),
            };
            if count.rules != rules + more || count.errors != errors {
                writeln!(wrong, "{file}: {count:?}, tcpdchk {rules} rules\n{said}").unwrap();
            }
        } else if event == "match" {
            matches += 1;
            let name = read_as[file];
            let mut files = Tree::etc();
            files.put(name, &fs::read(dir.join("hosts_access").join(file)).unwrap());
            let (question, answer) = text.split_once(": ").unwrap();
            let (daemon, address) = question.split_once(' ').unwrap();
            let asked = Asked::parse(daemon.as_bytes(), address.as_bytes());
            let (request, facts) = (asked.request(), asked.facts());
            let mut wrappers = Wrappers::new();
            let verdict = wrappers.evaluate(&mut files, &TABLES, &request, &facts);
            let (word, place) = told(&verdict);
            let line = place.map_or("(no rule matches)".into(), |place| {
                format!("by line {}", place.split_once(':').unwrap().1)
            });
            if !format!("{answer} ").starts_with(&format!("{word} {line} ")) {
                writeln!(wrong, "{file}: {question}: {word} {line}, not {answer}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{seen} files, {matches} verdicts");
}

const DAEMONS: &[&str] = &[
    "ALL",
    "in.telnetd",
    "in.ftpd",
    "sshd",
    "in.*",
    "in.?elnetd",
    ".telnetd",
    "in.",
    "KNOWN",
    "all",
    "0",
    "23",
    "SSHD",
];
const SERVERS: &[&str] =
    &["127.0.0.1", "127.0.0.0/8", "ALL", "KNOWN", "UNKNOWN", "localhost", "[::1]", "10.", "LOCAL"];
const HOSTS: &[&str] = &[
    "ALL",
    "all",
    "KNOWN",
    "UNKNOWN",
    "LOCAL",
    "PARANOID",
    "10.",
    "10.1.",
    "10.1.2.3",
    "10.1.2.4",
    "192.168.0.0/16",
    "10.0.0.0/8",
    "10.1.2.0/24",
    "10.1.2.0/255.255.255.0",
    "10.1.2.0/255.255.254.0",
    "10.0.2.0/255.0.255.0",
    "10.1.2.3/32",
    "10.1.2.2/31",
    "0.0.0.0/0.0.0.0",
    "0.0.0.0/1",
    "0xa.0.0.0/8",
    "012.1.0.0/16",
    "10.1.*",
    "10.?.2.?",
    "*.2.3",
    "*",
    ".2.3",
    ".3",
    "127.",
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "local*",
    ".localdomain",
    ".example.com",
    ".EXAMPLE.net",
    "h1.example.com",
    "h1.",
    "*.example.com",
    "shorty",
    "canon.example.net",
    "[::1]",
    "[2001:db8::]/32",
    "[2001:db8::5]",
    "[2001:DB8:0::5]/128",
    "[2001:db8:8000::]/33",
    "[fe80::]/10",
    "[::]/0",
    "LIST",
    "NONE/list",
];
const MISTAKES: &[&str] = &[
    "10.1.2.3/24",
    "0.0.0.0/0",
    "10.1.2.3/255.255.255.255",
    "10.1.2.0/0.0.0.255",
    "10.1.2/24",
    "10.1./16",
    "10.1",
    "10",
    "10.1.2.3/33",
    "10.0.0.0/-8",
    "10.0.0.0/8xyz",
    "10.0.0.0/24.5",
    "10.0.0.0/",
    "010.1.2.3",
    "10.1.2.3.",
    "10.1.2.0-10.1.2.9",
    "!10.1.2.3",
    "\"10.1.2.3\"",
    "10.*/8",
    "[10.1.2.3]",
    "[2001:db8::/32]",
    "[2001:db8::]/129",
    "[2001:db8::]/abc",
    "[2001:db8:*]",
    "[::",
    "]",
    "2001:db8::5",
    "::1",
    "#",
    "# ALL",
    "EXCEPT",
    "EXCEPT EXCEPT",
    "\\",
    "@nosuch",
    "bob@",
    "bob@ALL@ALL",
    "/",
    "10.1.2.3:22",
    ":",
    "any",
    "10.9.9.9;10.1.2.3",
    "BADLIST",
];
const USERS: &[&str] = &["bob", "BOB", "b*", "ALL", "KNOWN", "UNKNOWN", ".ob", "eve"];
const OPTIONS: &[&str] = &[
    "allow",
    "deny",
    "ALLOW",
    "severity mail.info",
    "severity=notice : deny",
    "spawn /bin/true %a : allow",
    "spawn (echo a\\:b) &",
    "twist /bin/echo no",
    "nice",
    "umask 022 : allow",
    "setenv A b c",
    "keepalive: linger 3",
    "rfc931 5",
    "aclexec /bin/true",
    "banners /nowhere",
    "",
    "frobnicate",
    "allow: deny",
    "allow yes",
    "nice fast",
    "umask 8",
    "severity authpriv.info",
    "rfc931 0",
    "allow:",
    "setenv",
    "(/bin/true) &",
];

/// Blanks and hosts up to a line of that many bytes.
fn padded(random: &mut Random, begin: &str, len: usize) -> String {
    let mut text = begin.to_string();
    while text.len() + 10 < len && begin.contains(": ") && random.below(200) > 0 {
        text += " 10.9.9.9";
    }
    text += &" ".repeat(len.saturating_sub(text.len() + 1));
    text
}

/// What one rule file holds. Without mistakes every answer must be that of tcpdmatch.
fn rules(random: &mut Random, dir: &str, is_clean: bool) -> String {
    let mut text = String::new();
    if !is_clean && random.one_in(30) {
        text.push('\u{feff}');
    }
    for _ in 0..random.below(5) {
        // Around what libwrap reads of a line.
        if random.one_in(12) {
            let begin = random.pick(&["ALL: 10.1.2.3", "#", "# ", "ALL: ALL", "in.telnetd: 10.9.9.9", " "]);
            let len = if is_clean { 2047 - random.below(5) } else { 2040 + random.below(16) };
            let mut line = padded(random, begin, len);
            if random.one_in(2) && !(is_clean && begin.starts_with('#')) {
                // Broken once: the two bytes in between do not count.
                let at = random.below(line.len());
                line.insert_str(at, "\\\n");
                // libwrap's buffer holds both for a moment.
                if is_clean && at > 2040 {
                    line = "# never mind".into();
                }
            }
            text += &line;
            text.push('\n');
        }
        let list = |random: &mut Random, word: &mut dyn FnMut(&mut Random) -> String| {
            let mut out = String::new();
            for nth in 0..=random.below(4) {
                if nth > 0 {
                    out += random.pick(&[" ", ",", ", ", "\t", "  "]);
                    if random.one_in(3) {
                        out += random.pick(&["EXCEPT ", "except "]);
                    }
                }
                out += &word(random);
            }
            out
        };
        let daemons = list(random, &mut |random| {
            let daemon = random.pick(DAEMONS);
            match random.below(6) {
                0 => format!("{daemon}@{}", random.pick(SERVERS)),
                1 if !is_clean => random.pick(&["/usr/sbin/sshd", "@sshd", "70000", "sshd@", "LOCAL"]).into(),
                _ => daemon.into(),
            }
        });
        let clients = list(random, &mut |random| {
            let host = if !is_clean && random.one_in(4) { random.pick(MISTAKES) } else { random.pick(HOSTS) };
            let host = host.replace("BADLIST", &format!("{dir}/badlist"));
            let host = host.replace("NONE", dir).replace("LIST", &format!("{dir}/words"));
            if random.one_in(5) { format!("{}@{host}", random.pick(USERS)) } else { host }
        });
        match random.below(12) {
            0 => text += random.pick(&["# a comment\n", "\n", " \t\n", "#ALL: ALL\n"]),
            1 if !is_clean => {
                text +=
                    random.pick(&["ALL ALL\n", " # ALL: ALL\n", "# x \\\n", "ALL:\n", ": ALL\n", "\u{feff}"]);
            }
            _ => {}
        }
        text += &daemons;
        text += random.pick(&[":", " : ", ": ", ":\\\n "]);
        text += &clients;
        if random.one_in(3) {
            write!(text, " : {}", random.pick(OPTIONS)).unwrap();
        }
        text += random.pick(&["\n", "\n", "\r\n", " \n"]);
    }
    if !is_clean && random.one_in(8) {
        match random.below(4) {
            0 => text += random.pick(&["# no end", " ", "ALL: ALL", "ALL: 10.9.9.9", "# x \\\n", "\r", "x"]),
            1 => text += "ALL: ALL\r",
            _ => {
                text.pop();
            }
        }
    }
    text
}

fn tcpdmatch() -> PathBuf {
    let program = crate::harness::net::peers_dir().join("tcpd/usr/sbin/tcpdmatch");
    assert!(program.exists(), "there is no {}: run tools/peers", program.display());
    program
}

const HOSTS_FILE: &str = "127.0.0.1 localhost\n10.1.2.3 h1.example.com h1\n10.1.2.4 shorty\n2001:db8::5 six.example.com\n\
    203.0.113.30 canon.example.net twin.example.net\n203.0.113.31 twin.example.net\n";

/// Runs a program with that file in place of the system's.
const WITH_HOSTS: &str = "mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"";

/// A shell with mounts of its own, which root can have, that runs `script` with the program as its `$0`.
fn mounted(shell: &str, script: &str, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", shell, "-c", script]).arg(program);
    command.env("LD_LIBRARY_PATH", crate::harness::net::peer_libraries());
    command
}

/// Random files and clients, ours and tcpdmatch. Files without mistakes give the same answers; with mistakes usherd
/// may refuse where tcpdmatch does not, never the other way round.
#[test]
fn differential() {
    let program = tcpdmatch();
    let (seed, mut random) = Random::seeded();
    let cases = cases(300);
    let dir = env::temp_dir().join(format!("usherd-wrappers-{}-{seed}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let shown = dir.to_str().unwrap();
    fs::write(dir.join("inetd.conf"), "telnet stream tcp nowait root /usr/sbin/tcpd in.telnetd\n").unwrap();
    let words = b"10.9.9.9 10.1.2.4\n[2001:db8::]/64\nlocalhost\n";
    let bad = b"10.9.9.9,10.1.2.4\n# 10.1.2.3 old\nbob@10.1.2.5 2001:db8:0::5\n";
    fs::write(dir.join("words"), words).unwrap();
    fs::write(dir.join("badlist"), bad).unwrap();
    fs::write(dir.join("hosts"), HOSTS_FILE).unwrap();
    let (mut same, mut stricter) = (0, 0);
    for round in 0..cases {
        let is_clean = random.one_in(2);
        let mut files = Tree::etc();
        files.put(&format!("{shown}/words"), words);
        files.put(&format!("{shown}/badlist"), bad);
        let mut content = String::new();
        for name in ["hosts.allow", "hosts.deny"] {
            let path = dir.join(name);
            let _ = fs::remove_file(&path);
            if !random.one_in(8) {
                let text = rules(&mut random, shown, is_clean);
                fs::write(&path, &text).unwrap();
                files.put(name, text.as_bytes());
                write!(content, "--- {name}\n{text}").unwrap();
            }
        }
        let daemon = random.pick(&["in.telnetd", "sshd", "in.ftpd", "/usr/sbin/sshd", "23"]);
        let server = random.pick(&["", "", "@127.0.0.1", "@10.1.2.3"]);
        let user = random.pick(&["", "", "bob@", "eve@"]);
        let host = random.pick(&[
            "10.1.2.3",
            "10.1.2.4",
            "10.1.2.5",
            "10.2.2.3",
            "192.168.1.1",
            "127.0.0.1",
            "localhost",
            "::1",
            "2001:db8::5",
            "2001:db8:9000::1",
            "fe80::1",
            "unknown",
            "paranoid",
            "h1.example.com",
            "shorty",
            "six.example.com",
            "twin.example.net",
        ]);
        let (service, client) = (format!("{daemon}{server}"), format!("{user}{host}"));
        let output = mounted("sh", WITH_HOSTS, &program)
            .args(["-d", "-i", "inetd.conf", &service, &client])
            .current_dir(&dir)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.contains("\naccess:"), "{output}\n{content}");
        for block in output.split("\n\n") {
            let value =
                |key: &str| block.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_string()));
            let Some(theirs) = value("access:") else { continue };
            let unknown = || "unknown".to_string();
            let client = Client {
                daemon: daemon.into(),
                address: value("client:   address").unwrap_or_else(unknown),
                name: match value("client:   hostname") {
                    Some(name) => name,
                    None if host == "paranoid" => host.into(),
                    None => unknown(),
                },
                user: value("client:   username"),
                server: (!server.is_empty()).then(|| {
                    (
                        value("server:   hostname").unwrap_or_else(unknown),
                        value("server:   address").unwrap_or_else(unknown),
                    )
                }),
            };
            let (ours, _, is_faulty, explained) = evaluate(&mut files, &client);
            if ours == theirs {
                same += 1;
                continue;
            }
            let told = format!(
                "seed {seed} round {round}: {client:?}: {explained}, tcpdmatch says {theirs}\n{content}"
            );
            assert!(!is_clean, "{told}");
            // Only what keeps out, and names the mistake, may be another answer than theirs.
            let is_stricter = ours == "denied" || (ours, &*theirs) == ("delegated", "granted");
            assert!(is_stricter && is_faulty, "{told}");
            stricter += 1;
        }
    }
    fs::remove_dir_all(&dir).unwrap();
    println!("{cases} cases: {same} answers agree, {stricter} are stricter and name the mistake");
}

/// What tcpdchk says and a check does not have to: it looks up the name of every address, and two of what it looks up are
/// about inetd.conf.
const ONLY_TCPDCHK: &[&str] = &[
    "->name lookup failed",
    "has more than one address",
    "service possibly not wrapped",
    "inetd.conf, line ",
];

/// Every complaint of tcpdchk is one of a check, about the same rule: the files of real projects, and random ones.
#[test]
fn a_check_finds_what_tcpdchk_finds() {
    let program = tcpdmatch();
    let tcpdchk = program.with_file_name("tcpdchk");
    let (seed, mut random) = Random::seeded();
    let cases = cases(100);
    let dir = env::temp_dir().join(format!("usherd-tcpdchk-{}-{seed}", std::process::id()));
    fs::create_dir_all(dir.join("dev")).unwrap();
    let shown = dir.to_str().unwrap();
    fs::write(dir.join("inetd.conf"), "telnet stream tcp nowait root /usr/sbin/tcpd in.telnetd\n").unwrap();
    let words = b"10.9.9.9 10.1.2.4\n[2001:db8::]/64\nlocalhost\n";
    let bad = b"10.9.9.9,10.1.2.4\n# 10.1.2.3 old\nbob@10.1.2.5 2001:db8:0::5\n";
    fs::write(dir.join("words"), words).unwrap();
    fs::write(dir.join("badlist"), bad).unwrap();
    fs::write(dir.join("hosts"), HOSTS_FILE).unwrap();
    fs::write(dir.join("nsswitch.conf"), "hosts: files\n").unwrap();
    // It complains to the system log.
    let log = std::os::unix::net::UnixDatagram::bind(dir.join("dev/log")).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buf = [0; 8192];
        while let Ok(n) = log.recv(&mut buf) {
            if sender.send(String::from_utf8_lossy(&buf[..n]).into_owned()).is_err() {
                return;
            }
        }
    });
    let mark = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let mut all: Vec<(String, BTreeMap<&str, Vec<u8>>)> = Vec::new();
    if let Some(corpus) = corpus() {
        for file in fs::read_dir(corpus.join("hosts_access")).unwrap().flatten() {
            for which in ["hosts.allow", "hosts.deny"] {
                let text = fs::read(file.path()).unwrap();
                all.push((format!("{:?} as {which}", file.path()), BTreeMap::from([(which, text)])));
            }
        }
    }
    for round in 0..cases {
        let texts =
            ["hosts.allow", "hosts.deny"].map(|which| (which, rules(&mut random, shown, false).into()));
        all.push((format!("seed {seed} round {round}"), BTreeMap::from(texts)));
    }
    let (mut complaints, mut left_out) = (0, 0);
    let mut missed = String::new();
    for (name, texts) in &all {
        let mut files = Tree::etc();
        files.put(&format!("{shown}/words"), words);
        files.put(&format!("{shown}/badlist"), bad);
        for which in ["hosts.allow", "hosts.deny"] {
            let _ = fs::remove_file(dir.join(which));
            if let Some(text) = texts.get(which) {
                fs::write(dir.join(which), text).unwrap();
                files.put(which, text);
            }
        }
        let script =
            format!("mount --bind dev /dev && mount --bind nsswitch.conf /etc/nsswitch.conf && {WITH_HOSTS}");
        let output = mounted("sh", &script, &tcpdchk)
            .args(["-d", "-v", "-i", "inetd.conf"])
            .current_dir(&dir)
            .output()
            .unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
        mark.send_to(b"mark", dir.join("dev/log")).unwrap();
        let mut found: Vec<(String, u32, String)> = Vec::new();
        let does_resolve = |name: &[u8]| {
            let names = HOSTS_FILE.split_ascii_whitespace();
            names.filter(|word| !word.contains(':')).any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
        };
        let is_daemon = |name: &[u8]| name == b"in.telnetd";
        let check = Check { is_daemon: Some(&is_daemon), does_resolve: Some(&does_resolve) };
        Wrappers::new().check(&mut files, &TABLES, &check, &mut |d: &Diagnostic<'_>| {
            found.push((String::from_utf8_lossy(d.file).into_owned(), d.line, d.to_string()));
        });
        for said in receiver.iter().take_while(|said| said != "mark") {
            let Some((_, said)) = said.split_once("tcpdchk: ") else { panic!("{said}") };
            // Else it only tells an option.
            let Some(said) = said.strip_prefix("warning: ").or(said.strip_prefix("error: ")) else {
                continue;
            };
            // It does not know wildcards, nor daemons by their ports.
            let word = said.split(": ").nth(1).unwrap_or_default();
            let is_new = word.contains(['*', '?']) || word.parse::<u16>().is_ok();
            let is_name = said.contains("host not found") || said.contains("no such process name");
            let is_elsewhere = said.starts_with('/') && !said.starts_with(shown);
            // It takes the CR of a line end for a part of a word, as libwrap does not.
            if is_new && is_name
                || is_elsewhere
                || word.contains('\r')
                || ONLY_TCPDCHK.iter().any(|what| said.contains(what))
            {
                left_out += 1;
                continue;
            }
            let Some((file, rest)) = said.split_once(", line ") else { panic!("{name}: {said}") };
            let (last, what) = rest.split_once(": ").unwrap();
            let last: usize = last.parse().unwrap();
            // Up to the first line of the rule; a line that is not whole was not counted.
            let text = fs::read(dir.join(file)).unwrap();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.split('\n').collect();
            let last = if what.contains("missing newline") { last + 1 } else { last };
            let mut first = last;
            while first > 1 && lines.get(first - 2).is_some_and(|line| line.ends_with('\\')) {
                first -= 1;
            }
            complaints += 1;
            let is_found =
                found.iter().any(|(f, line, _)| f == file && (first..=last).contains(&(*line as usize)));
            // Words behind a # are told as one mistake, and so is a line whose colons a bracket hides: nobody can say what is
            // a client there and what an option. Files that they name are not looked into.
            let is_unread = file.starts_with('/')
                && found.iter().any(|(.., told)| {
                    told.contains("begin a comment") || told.contains("hides the colons behind it")
                });
            if !is_found && !is_unread {
                let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
                writeln!(missed, "{name}: {said} ({first} to {last})\n{text}").unwrap();
            }
        }
    }
    fs::remove_dir_all(&dir).unwrap();
    assert!(missed.is_empty(), "{missed}");
    println!("{} files: {complaints} complaints of tcpdchk, all found; {left_out} not looked for", all.len());
}

/// tcpdmatch refuses three of the recorded cases because of what only it does. tcpd itself is asked about such rules.
#[test]
fn tcpd_lets_in_whom_only_its_tester_refuses() {
    let program = tcpdmatch();
    let tcpd = program.with_file_name("tcpd");
    let dir = env::temp_dir().join(format!("usherd-tcpd-{}", std::process::id()));
    let etc = dir.join("etc");
    fs::create_dir_all(&etc).unwrap();
    for file in ["passwd", "group", "hosts", "nsswitch.conf", "ld.so.cache"] {
        let _ = fs::copy(Path::new("/etc").join(file), etc.join(file));
    }
    fs::write(etc.join("hosts.deny"), "ALL: ALL\n").unwrap();
    let with_etc = "mount --bind etc /etc && exec -a /bin/echo \"$0\" hello";
    // An IPv4 client on an IPv6 socket has a mapped address.
    for (listen, connect, rule) in
        [("127.0.0.1:0", "127.0.0.1", "ALL: ALL: user nobody\n"), ("[::]:0", "127.0.0.1", "ALL: 127.0.0.1\n")]
    {
        fs::write(etc.join("hosts.allow"), rule).unwrap();
        let listener = std::net::TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = std::net::TcpStream::connect((connect, port)).unwrap();
        let socket: std::os::fd::OwnedFd = listener.accept().unwrap().0.into();
        let output = mounted("bash", with_etc, &tcpd).current_dir(&dir).stdin(socket).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n", "{rule}: {output:?}");
    }
    fs::remove_dir_all(&dir).unwrap();
}

/// Both files and a client 10.1.2.3 of in.telnetd, of whom nothing else is known.
fn ask<'w>(wrappers: &'w mut Wrappers, allow: &str, deny: &str, facts: &Facts<'_>) -> Verdict<'w> {
    let mut files = Tree::etc();
    files.put("hosts.allow", allow.as_bytes());
    files.put("hosts.deny", deny.as_bytes());
    let client = Client { daemon: "in.telnetd".into(), address: "10.1.2.3".into(), ..Client::default() };
    wrappers.evaluate(&mut files, &TABLES, &client.request(), facts)
}

fn in_words(allow: &str, deny: &str, facts: &Facts<'_>) -> String {
    let mut wrappers = Wrappers::new();
    let verdict = ask(&mut wrappers, allow, deny, facts);
    Explanation { verdict: &verdict, tables: &TABLES }.to_string()
}

#[test]
fn only_what_the_answer_turns_on_is_asked_for() {
    let nothing = Facts::default();
    let name = Facts { client_name: HostName::Known(b"h1.example.com"), ..nothing };
    for (allow, facts, expected) in [
        ("ALL: .example.com\n", &nothing, "turns on the client's name"),
        ("ALL: .example.com\n", &name, "granted by hosts.allow:1"),
        ("ALL: .example.com 10.1.\n", &nothing, "granted by hosts.allow:1"),
        ("in.ftpd: .example.com\n", &nothing, "refused by hosts.deny:1"),
        ("ALL: 10.2. 10.9.0.0/16 [::]/0 10.1.2.4\n", &nothing, "refused by hosts.deny:1"),
        ("ALL: ALL EXCEPT LOCAL\n", &nothing, "turns on the client's name"),
        ("ALL: 10.1. EXCEPT .example.com 10.1.2.3\n", &nothing, "refused by hosts.deny:1"),
        ("ALL: KNOWN\n", &name, "granted by hosts.allow:1"),
        ("ALL: @friends\n", &nothing, "turns on the client's name"),
        ("ALL: bob@10.1.\n", &nothing, "turns on the client's user"),
        ("ALL: bob@10.2.\n", &nothing, "refused by hosts.deny:1"),
        ("ALL: ALL@10.1.\n", &nothing, "granted by hosts.allow:1"),
        // No address of ours is known, so it has no name either.
        ("ALL@localhost: ALL\n", &nothing, "refused by hosts.deny:1"),
        ("ALL: ALL: spawn echo %u\n", &nothing, "turns on the client's user"),
        ("ALL: ALL: spawn echo %h %c\n", &nothing, "granted by hosts.allow:1\n  spawn echo %h %c"),
        ("ALL: ALL: setenv N %n\n", &nothing, "turns on the client's name"),
        ("ALL: ALL: rfc931\n", &nothing, "turns on the client's user"),
    ] {
        assert_eq!(in_words(allow, "ALL: ALL\n", facts), expected, "{allow}");
    }
    let mut wrappers = Wrappers::new();
    let verdict = ask(&mut wrappers, "ALL: ALL: rfc931 5\n", "", &nothing);
    assert!(matches!(verdict, Verdict::Need(Need::User { seconds: Some(5) })));
}

#[test]
fn commands_decide_whether_their_rule_stands() {
    let allow = "ALL: ALL: aclexec /bin/one %a: aclexec /bin/two\nALL: 10.1.: nice 5\n";
    let mut ran = Vec::new();
    let mut steps = Vec::new();
    for passed in [true, false] {
        let mut wrappers = Wrappers::new();
        let facts = Facts { commands: Commands::Ran(&ran), ..Facts::default() };
        let verdict = ask(&mut wrappers, allow, "ALL: ALL\n", &facts);
        let Verdict::Need(Need::Command { place, nth, command }) = verdict else { panic!("{verdict:?}") };
        steps.push((place.line, nth, command.to_string()));
        ran.push(Ran { place, nth, passed });
    }
    assert_eq!(steps, [(1, 0, "/bin/one %a".into()), (1, 1, "/bin/two".into())]);
    let facts = Facts { commands: Commands::Ran(&ran), ..Facts::default() };
    // What stands below in hosts.allow does not count any more, as in libwrap.
    assert_eq!(in_words(allow, "ALL: ALL\n", &facts), "refused by hosts.deny:1");
    assert_eq!(in_words(allow, "", &facts), "granted: no rule of hosts.allow or hosts.deny matches");
    // In hosts.deny libwrap read a command that failed as leave to come in.
    let deny = "ALL: ALL: aclexec /bin/false\nALL: ALL\n";
    let place = usherd::wrappers::Place { which: Which::Deny, line: 1, last: 1 };
    let facts =
        Facts { commands: Commands::Ran(&[Ran { place, nth: 0, passed: false }]), ..Facts::default() };
    assert_eq!(in_words("", deny, &facts), "refused by hosts.deny:2");
    // allow does not outvote it.
    let place = usherd::wrappers::Place { which: Which::Allow, line: 1, last: 1 };
    let facts =
        Facts { commands: Commands::Ran(&[Ran { place, nth: 0, passed: false }]), ..Facts::default() };
    assert_eq!(
        in_words("ALL: ALL: aclexec /bin/false: allow\n", "ALL: ALL\n", &facts),
        "refused by hosts.deny:1"
    );
}

/// A mistake in hosts.deny let everybody in. Here it refuses whom it may mean, and never grants.
#[test]
fn mistakes_refuse() {
    let facts = Facts { client_name: HostName::Unknown, user: User::Known(b"bob"), ..Facts::default() };
    for clients in [
        "10.1.2.3/24",
        "10.1.2.0/33",
        "10.1.2/24",
        "10.1./16",
        "10.1",
        "10.1.2.3.",
        "010.1.2.3",
        "0.0.0.0/0",
        "10.1.2.3/255.255.255.255",
        "10.1.2.0/0.0.0.255",
        "10.1.2.0/24x",
        "10.1.2.0-10.1.2.9",
        "!10.9.9.9",
        "\"10.1.2.3\"",
        "10.9.9.9;10.1.2.3",
        "[10.1.2.3]",
        "[10.1.2.*]",
        "[::1",
        "[::ffff:10.1.2.3]",
        "[::ffff:0:0]/96",
        "10.*/8",
        "bob@",
        "bob@ALL@ALL",
        "@",
        "@nosuch",
        "/dir/unreadable",
        "/dir/circle",
        "EXCEPT 10.9.9.9",
        "ALL EXCEPT",
        "# 10.1.2.3",
        "",
        "\\ ",
    ] {
        for (allow, deny) in
            [(String::new(), format!("ALL: {clients}\n")), (format!("ALL: {clients}\n"), "ALL: ALL\n".into())]
        {
            let mut files = Tree::etc();
            files.put("hosts.allow", allow.as_bytes());
            files.put("hosts.deny", deny.as_bytes());
            files.files.insert(b"/dir/unreadable".to_vec(), Err(Errno::ACCESS));
            files.put("/dir/circle", b"/dir/circle /dir/circle 10.9.9.9 /dir/circle\n");
            let client =
                Client { daemon: "in.telnetd".into(), address: "10.1.2.3".into(), ..Client::default() };
            let mut wrappers = Wrappers::new();
            let verdict = wrappers.evaluate(&mut files, &TABLES, &client.request(), &facts);
            let Verdict::Refused(decision) = verdict else { panic!("{allow}/{deny}: {verdict:?}") };
            let is_told = matches!(decision.why, Why::Fault { line: 1, .. });
            assert!(is_told || deny == "ALL: ALL\n", "{allow}/{deny}: {decision:?}");
            // A check finds it too.
            let count = wrappers.check(&mut files, &TABLES, &Check::default(), &mut |_: &Diagnostic<'_>| {});
            let is_known_at_run_time_only = clients == "/dir/circle";
            assert!(count.errors > 0 || is_known_at_run_time_only, "{clients}");
        }
    }
    // Exceptions, too: whom it is about is not let in.
    for clients in ["10. EXCEPT 10.1.2.3/24", "ALL EXCEPT \"10.1.2.3\"", "ALL EXCEPT 10.1"] {
        let told = in_words(&format!("ALL: {clients}\n"), "ALL: ALL\n", &facts);
        let because = "refused by hosts.deny:1\n  hosts.allow:1:";
        assert!(told.starts_with(because) && told.contains(" would let it in, but "), "{clients}: {told}");
    }
    // Nobody else is touched where it is clear who is meant.
    for clients in
        ["10.9.2.3/24", "10.9", "010.9.9.9", "[10.9.9.9]", "10.9.2.0-10.9.2.9", "2001:db8::5", "# 10.9.9.9"]
    {
        let told = in_words("", &format!("ALL: {clients}\n"), &facts);
        assert_eq!(told, "granted: no rule of hosts.allow or hosts.deny matches", "{clients}");
    }
    for (allow, deny, expected) in [
        // Lines.
        ("ALL ALL\n", "", "granted"),
        ("", "ALL ALL\n", "refused by hosts.deny:1:1: no colon behind the daemons; write DAEMONS : CLIENTS"),
        ("", " # ALL\n", "granted"),
        (" # ALL: ALL\n", "ALL: ALL\n", "refused by hosts.deny:1"),
        ("", "\u{feff}# ALL: ALL\n", "refused by hosts.deny:1:4: `#` does not begin a comment here"),
        ("", "\u{feff}# words\n", "granted"),
        ("", " # ALL: ALL\n", "refused by hosts.deny:1:2: `#` does not begin a comment here"),
        ("", "# x \\\nALL: ALL\n", "refused by hosts.deny:2:1: the comment above ends in a backslash"),
        ("# x \\\nALL: ALL\n", "ALL: ALL\n", "refused by hosts.deny:1"),
        ("", "\u{feff}ALL: ALL\n", "refused by hosts.deny:1:4: a byte order mark"),
        ("\u{feff}ALL: ALL\n", "", "granted: no rule"),
        ("", "ALL: ALL \\\n", "refused by hosts.deny:1:1: no line follows the backslash"),
        ("ALL: A\0B\n", "", "refused by hosts.allow:1:7: a NUL byte"),
        ("", "/usr/sbin/in.telnetd: ALL\n", "refused by hosts.deny:1:1: what stands there is a path"),
        ("", "/usr/sbin/in.ftpd: ALL\n", "granted"),
        // Options.
        ("ALL: ALL: allow # friends\n", "", "refused by hosts.allow:1:11: what stands there takes no value"),
        ("ALL: 10.9.: frobnicate\n", "", "granted"),
        ("ALL: 2001:db8::5\n", "", "granted"),
    ] {
        let told = in_words(allow, deny, &facts);
        assert!(told.starts_with(expected), "{allow}/{deny}: {told}");
    }
}

#[test]
fn places_are_those_of_the_file() {
    let facts = Facts { client_name: HostName::Unknown, ..Facts::default() };
    let allow = "# one\n\nALL: 10.9. \\\n  10.8. \\\n 10.7.: nice\\\n fast\nsshd: ALL:\\\n frob\\\nnicate\n";
    let told = in_words(&allow.replace("10.7.", "10.1."), "", &facts);
    assert!(told.starts_with("refused by hosts.allow:5:9: what stands there needs a number"), "{told}");
    let told = in_words(&allow.replace("sshd", "ALL"), "", &facts);
    assert!(told.starts_with("refused by hosts.allow:8:2: what stands there is not an option"), "{told}");
    let mut wrappers = Wrappers::new();
    let verdict = ask(&mut wrappers, "\nALL: \\\n 10.1.\\\n2.3\n", "", &facts);
    let Verdict::Granted(decision) = verdict else { panic!("{verdict:?}") };
    assert_eq!(decision.place, Some(usherd::wrappers::Place { which: Which::Allow, line: 2, last: 4 }));
}

#[test]
fn options_are_handed_over_checked_and_expanded() {
    let facts = Facts { user: User::Known(b"a;b$c"), ..Facts::default() };
    let mut wrappers = Wrappers::new();
    let allow = "ALL: ALL: severity local3.debug: spawn (echo %u http\\://x) &: twist /bin/echo %a\n";
    let verdict = ask(&mut wrappers, allow, "", &facts);
    let Verdict::Delegated(decision) = verdict else { panic!("{verdict:?}") };
    let options: Vec<Opt<'_>> = decision.options.iter().collect();
    let [Opt::Severity { facility: Some(facility), level }, Opt::Spawn(spawn), Opt::Twist(twist)] =
        options[..]
    else {
        panic!("{options:?}")
    };
    assert_eq!((facility.0, level.0), (19, 7));
    let client = Client { daemon: "in.telnetd".into(), address: "10.1.2.3".into(), ..Client::default() };
    let mut buf = [0; 100];
    let text = expand(spawn, &client.request(), &facts, &mut buf).unwrap();
    assert_eq!(text, b"(echo a_b_c http://x) &");
    assert_eq!(expand(twist, &client.request(), &facts, &mut buf).unwrap(), b"/bin/echo 10.1.2.3");
}

#[test]
fn the_first_language_has_one_shell_command() {
    let mut files = Tree::etc();
    files.put("hosts.deny", b"ALL: 10.: (/bin/mail -s %d: root) &\n");
    let tables = Tables { language: Language::Shell, ..TABLES };
    let client = Client { daemon: "in.telnetd".into(), address: "10.1.2.3".into(), ..Client::default() };
    let mut wrappers = Wrappers::new();
    let verdict = wrappers.evaluate(&mut files, &tables, &client.request(), &Facts::default());
    let told = Explanation { verdict: &verdict, tables: &tables }.to_string();
    assert_eq!(told, "refused by hosts.deny:1\n  spawn (/bin/mail -s %d: root) &");
    let Verdict::Refused(decision) = verdict else { panic!() };
    assert_eq!(decision.why, Why::Rule);
}

#[test]
fn netgroups_and_files_name_each_other() {
    let facts = Facts { client_name: HostName::Known(b"H1.Example.com"), ..Facts::default() };
    let client = Client { daemon: "in.telnetd".into(), address: "10.1.2.3".into(), ..Client::default() };
    for (netgroup, is_in) in [
        ("friends (h1.example.com,,)\n", true),
        ("# friends\nothers (h1.example.com,,)\nfriends (h2.example.com,bob,)\n", false),
        ("friends (h2,,) others \\\n (h3,,)\nothers (h4,,)(h1.example.com, -, x)\n", true),
        ("friends (,,)\n", true),
        ("friends (-,,)\n", false),
        ("friends friends friends\n", false),
        ("", false),
    ] {
        let mut files = Tree::etc();
        files.put("netgroup", netgroup.as_bytes());
        files.put("hosts.allow", b"ALL: /dir/list\n");
        files.put("/dir/list", b"10.9.9.9\n@friends\n");
        files.put("hosts.deny", b"ALL: ALL\n");
        let mut wrappers = Wrappers::new();
        let verdict = wrappers.evaluate(&mut files, &TABLES, &client.request(), &facts);
        assert_eq!(matches!(verdict, Verdict::Granted(_)), is_in, "{netgroup}");
        // A netgroup that is not known may hold anybody.
        files.put("hosts.allow", b"");
        files.put("hosts.deny", b"ALL: @friends\n");
        let verdict = wrappers.evaluate(&mut files, &TABLES, &client.request(), &facts);
        let is_known = netgroup.starts_with("friends (-") || netgroup.starts_with('#');
        assert_eq!(matches!(verdict, Verdict::Refused(_)), !is_known, "{netgroup}");
    }
}

/// The text of a check, without the cures.
fn checked(files: &mut Tree, check: &Check<'_>) -> Vec<String> {
    let mut said = Vec::new();
    Wrappers::new().check(files, &TABLES, check, &mut |d: &Diagnostic<'_>| {
        let line = d.to_string();
        assert!(line.contains("; "), "{line}");
        said.push(line.split("; ").next().unwrap().to_string());
    });
    said
}

#[test]
fn a_check_finds_everything_at_once() {
    let mut files = Tree::etc();
    files.put(
        "hosts.allow",
        b"sshd, LOCAL: 10.1.2.3/24 bob@012.0.0.0/8\n\
          ALL ALL\n\
          in.telnetd: 2001:db8::5: allow\n\
          in.ftpd: ALL EXCEPT \\\n   !10.1 : banners /none : nice fast\n\
          in.telnetd: ALL: spawn echo %z: user nosuch\n\
          in.telnetd: 10.1.\n\
          nosuchd: /dir/list /dir/none FAIL\n\
          ALL: ALL\n\
          sshd: 10.\n\
          sshd: [::1]: (/bin/true)",
    );
    files.put("/dir/list", b"10.1.2.3, 10.1.2.4\n  bob@10.9.9.9\n10.1.2.3\n# old 10.1\n");
    let is_daemon = |name: &[u8]| [&b"sshd"[..], b"in.ftpd", b"in.telnetd"].contains(&name);
    let said = checked(&mut files, &Check { is_daemon: Some(&is_daemon), ..Check::default() });
    assert_eq!(
        said,
        [
            "hosts.allow:1:7: warning: `LOCAL` has no special meaning among daemons",
            "hosts.allow:1:14: error: `10.1.2.3/24` has bits set outside the mask",
            "hosts.allow:1:30: warning: `012.0.0.0/8` has a part that is read as octal or hexadecimal",
            "hosts.allow:2:1: error: no colon behind the daemons",
            "hosts.allow:3:13: error: `2001:db8::5:` is an IPv6 address without brackets",
            "hosts.allow:5:4: error: `!10.1` has a character that no name and no address has",
            "hosts.allow:5:12: warning: `banners` names a directory that is not there",
            "hosts.allow:5:28: error: `nice` needs a number",
            "hosts.allow:6:18: warning: `spawn` has a % that stands for nothing",
            "hosts.allow:6:33: error: `user` names a user who does not exist",
            "hosts.allow:7: warning: the rule is never reached: see line 6",
            "hosts.allow:8:1: warning: `nosuchd` is no daemon's name here",
            "hosts.allow:8:10: error: `/dir/list` has a mistake in it",
            "/dir/list:1:1: error: `10.1.2.3,` has a comma, which separates nothing in a file",
            "/dir/list:2:3: error: `bob@10.9.9.9` has a user, which a file does not have",
            "/dir/list:4:1: error: `#` does not begin a comment here, but a word",
            "hosts.allow:8:20: warning: `/dir/none` is not there: it names nobody",
            "hosts.allow:8:30: warning: `FAIL` is no longer understood",
            "hosts.allow:10: warning: the rule is never reached: see line 9",
            "hosts.allow:11:14: error: `(/bin/true)` is not an option",
            "hosts.allow:11: warning: the rule is never reached: see line 9",
            "hosts.allow:11: error: the last line has no line end",
        ]
    );
    let mut files = Tree::etc();
    files.put(
        "hosts.deny",
        b"\xef\xbb\xbfALL EXCEPT: 10.1.2.3\nsshd: 10.1. 10.2.\nSSHD: 10.1.,10.2.\n# x \\\nsshd: ALL\n",
    );
    assert_eq!(
        checked(&mut files, &Check::default()),
        [
            "hosts.deny:1:4: error: a byte order mark in front of the first line",
            "hosts.deny:1:4: error: nothing stands on one side of EXCEPT",
            "hosts.deny:3: warning: the rule was there before: see line 2",
            "hosts.deny:5:1: error: the comment above ends in a backslash, which makes this line a part of it",
        ]
    );
}

#[test]
fn a_check_finds_what_names_nobody_or_others() {
    let mut files = Tree::etc();
    files.put(
        "hosts.deny",
        b"in. .telnetd KNOWN FAIL: 10.300. .2.3 .1.2.3.4 . 010. 1..\n\
          sshd: .exam* 10.*. h1.example.com. 10.1. h1.example.com nosuch.example.com UNKNOWN paranoid\n\
          sshd: .bob@ALL @x@10. LOCAL@10. /x@10. FAIL@10. bob@nosuch.example.com\n\
          sshd@nosuch.example.com: @nosuch @friends 10.1.2.3/255.255.0.0 10.1.2.3/16\n\
          sshd: /dir/list\n",
    );
    files.put("/dir/list", b"h1.example.com\nnosuch.example.com 10.300.\n");
    let does_resolve = |name: &[u8]| name == b"h1.example.com";
    let said = checked(&mut files, &Check { does_resolve: Some(&does_resolve), ..Check::default() });
    let nobody = "names nobody: no address and no name is like that";
    assert_eq!(
        said,
        [
            "hosts.deny:1:1: warning: `in.` begins or ends with a dot: it is a part of names".into(),
            "hosts.deny:1:5: warning: `.telnetd` begins or ends with a dot: it is a part of names".into(),
            "hosts.deny:1:14: warning: `KNOWN` is every daemon".into(),
            "hosts.deny:1:20: warning: `FAIL` is no longer understood".into(),
            format!("hosts.deny:1:26: warning: `10.300.` {nobody}"),
            "hosts.deny:1:34: warning: `.2.3` is the end of an address".into(),
            format!("hosts.deny:1:39: warning: `.1.2.3.4` {nobody}"),
            format!("hosts.deny:1:48: warning: `.` {nobody}"),
            format!("hosts.deny:1:50: warning: `010.` {nobody}"),
            format!("hosts.deny:1:55: warning: `1..` {nobody}"),
            format!("hosts.deny:2:7: warning: `.exam*` {nobody}"),
            format!("hosts.deny:2:14: warning: `10.*.` {nobody}"),
            "hosts.deny:2:20: warning: `h1.example.com.` is the beginning of names, whatever domain they are in"
                .into(),
            "hosts.deny:2:57: warning: `nosuch.example.com` is a name that leads to no address".into(),
            "hosts.deny:3:7: warning: `.bob` begins or ends with a dot: it is a part of users' names".into(),
            "hosts.deny:3:16: warning: `@x` begins with a mark that means nothing among users".into(),
            "hosts.deny:3:23: warning: `LOCAL` has no special meaning among users".into(),
            "hosts.deny:3:33: warning: `/x` begins with a mark that means nothing among users".into(),
            "hosts.deny:3:40: warning: `FAIL` is no longer understood".into(),
            "hosts.deny:3:53: warning: `nosuch.example.com` is a name that leads to no address".into(),
            "hosts.deny:4:6: warning: `nosuch.example.com` is a name that leads to no address".into(),
            "hosts.deny:4:26: error: `@nosuch` is no netgroup of the netgroup file".into(),
            "hosts.deny:4:43: error: `10.1.2.3/255.255.0.0` has bits set outside the mask".into(),
            "hosts.deny:4:64: error: `10.1.2.3/16` has bits set outside the mask".into(),
            "/dir/list:2:1: warning: `nosuch.example.com` is a name that leads to no address".into(),
            format!("/dir/list:2:20: warning: `10.300.` {nobody}"),
        ]
    );
}

/// A server that accepts by itself learns who its client is; who starts it does not.
#[test]
fn a_hidden_client_comes_in_only_where_everybody_may() {
    let request = Request {
        daemon: b"in.telnetd",
        client: Endpoint { is_hidden: true, ..Endpoint::default() },
        server: Endpoint { port: Some(23), is_hidden: true, ..Endpoint::default() },
        pid: 42,
    };
    let hidden = "turns on who the client is";
    for (allow, deny, expected) in [
        ("", "", "granted: no rule"),
        ("ALL: ALL\n", "ALL: ALL\n", "granted by hosts.allow:1"),
        ("in.telnetd: *\n", "ALL: ALL\n", "granted by hosts.allow:1"),
        ("23: ALL\n", "ALL: ALL\n", "granted by hosts.allow:1"),
        ("ALL: ALL@ALL\n", "ALL: ALL\n", "granted by hosts.allow:1"),
        ("ALL: /dir/all\n", "ALL: ALL\n", "granted by hosts.allow:1"),
        ("in.ftpd: 10.1.\n", "", "granted: no rule"),
        ("", "in.ftpd: 10.1.\n", "granted: no rule"),
        ("", "ALL: /dir/none\n", "granted: no rule"),
        ("ALL: ALL: spawn echo %a %u %n\n", "", "granted by hosts.allow:1"),
        ("ALL: ALL: rfc931\n", "", "granted by hosts.allow:1"),
        (
            "ALL: ALL EXCEPT 10.1.\n",
            "ALL: ALL\n",
            "refused by hosts.deny:1\n  hosts.allow:1:17 would let it in, but",
        ),
        ("ALL: ALL EXCEPT eve@ALL\n", "ALL: ALL\n", "refused by hosts.deny:1\n  hosts.allow:1:17 would"),
        ("", "ALL: ALL EXCEPT 10.1.\n", "refused by hosts.deny:1:17"),
    ] {
        let told = in_words_of(&request, allow, deny);
        assert!(told.starts_with(expected), "{allow}/{deny}: {told}");
    }
    for pattern in [
        "10.1.2.3",
        "10.",
        "10.0.0.0/8",
        "[2001:db8::5]",
        "[::]/0",
        "h1.example.com",
        ".example.com",
        "10.*",
        "KNOWN",
        "UNKNOWN",
        "PARANOID",
        "LOCAL",
        "@friends",
        "/dir/list",
        "bob@ALL",
        "UNKNOWN@ALL",
        "10.1",
    ] {
        let told = in_words_of(&request, &format!("ALL: {pattern}\n"), "ALL: ALL\n");
        assert!(told.starts_with("refused by hosts.deny:1\n  hosts.allow:1:6 would"), "{pattern}: {told}");
        assert!(told.contains(hidden), "{pattern}: {told}");
        let told = in_words_of(&request, &format!("ALL: {pattern}: deny\n"), "");
        assert!(told.starts_with("refused by hosts.allow:1:6: "), "{pattern}: {told}");
        let told = in_words_of(&request, "", &format!("ALL: {pattern}\n"));
        assert!(
            told.starts_with("refused by hosts.deny:1:6: ") && told.contains(hidden),
            "{pattern}: {told}"
        );
        if !pattern.contains([':', '@', '/']) {
            let told = in_words_of(&request, "", &format!("in.telnetd@{pattern}: ALL\n"));
            assert!(
                told.starts_with("refused by hosts.deny:1:1: ") && told.contains(hidden),
                "{pattern}: {told}"
            );
        }
    }
    // The client of a unix socket has no address: rules call it unknown, and nobody is asked for its name or user.
    let local = Request { daemon: b"in.telnetd", ..Request::default() };
    for (allow, expected) in [
        ("ALL: UNKNOWN\n", "granted by hosts.allow:1"),
        ("ALL: UNKNOWN@ALL\n", "granted by hosts.allow:1"),
        ("ALL: ALL EXCEPT 10.1.\n", "granted by hosts.allow:1"),
        ("ALL: KNOWN LOCAL 10. .example.com bob@ALL\n", "refused by hosts.deny:1"),
        ("ALL: ALL: rfc931: spawn echo %n %N\n", "granted by hosts.allow:1"),
    ] {
        let told = in_words_of(&local, allow, "ALL: ALL\n");
        assert!(told.starts_with(expected) && !told.contains("would"), "{allow}: {told}");
    }
}

fn in_words_of(request: &Request<'_>, allow: &str, deny: &str) -> String {
    let mut files = Tree::etc();
    files.put("hosts.allow", allow.as_bytes());
    files.put("hosts.deny", deny.as_bytes());
    files.put("/dir/all", b"10.9.9.9 ALL");
    files.put("/dir/list", b"10.9.9.9");
    let mut wrappers = Wrappers::new();
    let verdict = wrappers.evaluate(&mut files, &TABLES, request, &Facts::default());
    Explanation { verdict: &verdict, tables: &TABLES }.to_string()
}

#[test]
fn a_question_as_it_is_typed() {
    let asked = Asked::parse(b"sshd@192.0.2.1", b"bob@[fe80::1%eth0]");
    assert_eq!((asked.daemon, asked.user), (&b"sshd"[..], Some(&b"bob"[..])));
    assert_eq!(asked.server, Some(Who::Address("192.0.2.1".parse().unwrap(), b"")));
    assert_eq!(asked.client, Who::Address("fe80::1".parse().unwrap(), b"eth0"));
    assert_eq!(Asked::parse(b"x", b"PARANOID").client, Who::Paranoid);
    assert_eq!(Asked::parse(b"x", b"h.example").client, Who::Name(b"h.example"));
}

/// Text that nobody would write, and half of what somebody did.
#[test]
fn storms_break_nothing() {
    let (seed, mut random) = Random::seeded();
    let rounds = cases(3000);
    for round in 0..rounds {
        let mut files = Tree::etc();
        for name in ["hosts.allow", "hosts.deny", "/dir/words", "/dir/badlist", "netgroup"] {
            let mut text = rules(&mut random, "/dir", false).into_bytes();
            for _ in 0..random.below(12) {
                let at = random.below(text.len() + 1);
                match random.below(6) {
                    0 => text.truncate(at),
                    1 => text.insert(at, random.next() as u8),
                    2 => text.splice(at..at, *b"\\\n").for_each(drop),
                    3 => text.insert(at, *b":[]@/#%\\\n\r\0*. "[..].get(random.below(14)).unwrap()),
                    4 => {
                        let copy = text[at..].to_vec();
                        text.extend_from_slice(&copy);
                    }
                    _ if at < text.len() => {
                        text.remove(at);
                    }
                    _ => {}
                }
            }
            if random.one_in(100) {
                text = text.repeat(200);
            }
            files.put(name, &text);
        }
        let client = Client {
            daemon: random.pick(&["in.telnetd", "", "/", "sshd"]).into(),
            address: random
                .pick(&["10.1.2.3", "2001:db8::5", "fe80::1%lo", "unknown", "::ffff:10.1.2.3"])
                .into(),
            server: random.one_in(2).then(|| ("localhost".into(), "127.0.0.1".into())),
            ..Client::default()
        };
        let request = client.request();
        let mut facts = Facts::default();
        let mut ran: Vec<Ran> = Vec::new();
        let mut wrappers = Wrappers::new();
        let mut effects = Effects::new();
        // Every question is asked once, whatever the files say.
        for asked in 0.. {
            assert!(asked < 200, "seed {seed} round {round}");
            let facts_now = Facts { commands: Commands::Ran(&ran), ..facts };
            let verdict = wrappers.evaluate(&mut files, &TABLES, &request, &facts_now);
            let _ = Explanation { verdict: &verdict, tables: &TABLES }.to_string();
            match verdict {
                Verdict::Need(Need::ClientName) => facts.client_name = HostName::Known(b"h1.example.com"),
                Verdict::Need(Need::ServerName) => facts.server_name = HostName::Unknown,
                Verdict::Need(Need::User { .. }) => facts.user = User::Known(b"bob"),
                Verdict::Need(Need::Command { place, nth, command }) => {
                    let passed = random.one_in(2);
                    assert!(!command.is_empty(), "seed {seed} round {round}");
                    assert!(
                        !ran.iter().any(|r| (r.place, r.nth) == (place, nth)),
                        "seed {seed} round {round}"
                    );
                    ran.push(Ran { place, nth, passed });
                }
                Verdict::Granted(decision) | Verdict::Refused(decision) | Verdict::Delegated(decision) => {
                    let _ = effects.take(&mut files, &TABLES, &decision, &request, &facts, true);
                    for opt in decision.options.iter() {
                        if let Opt::Spawn(value) | Opt::Twist(value) | Opt::Setenv(value) = opt {
                            let _ = expand(value, &request, &facts, &mut [0; 50]);
                        }
                    }
                    break;
                }
            }
        }
        let mut lines = 0;
        wrappers.check(&mut files, &TABLES, &Check::default(), &mut |d: &Diagnostic<'_>| {
            lines += d.to_string().len();
        });
    }
}

/// The same clients again and again, while files change: whatever is kept from one to the next makes no difference.
#[test]
fn who_comes_again_is_told_what_he_would_be_told_anew() {
    let (seed, mut random) = Random::seeded();
    let (mut asked, mut kept, mut datagrams) = (0, 0, 0);
    let mut wrappers = Wrappers::new();
    for round in 0..200 {
        let mut files = Tree { version: Some(round), ..Tree::etc() };
        for name in ["hosts.allow", "hosts.deny"] {
            if !random.one_in(4) {
                // A few: with many, one of them always turns on something that is not kept.
                let rules = rules(&mut random, "/dir", false);
                let few = rules.split_inclusive('\n').take(1 + random.below(3)).collect::<String>();
                files.put(name, few.as_bytes());
            }
        }
        files.put("/dir/words", b"10.1.2.3\n");
        for _ in 0..200 {
            // Not told by a version: whoever is kept must not turn on it.
            let words = random.pick(&["10.1.2.3\n", "bob\n", ""]);
            files.put("/dir/words", words.as_bytes());
            files.put("passwd", random.pick(&["bob:x:7:7::/:/bin/sh\n", ""]).as_bytes());
            let client = Client {
                daemon: random.pick(&["in.telnetd", "/usr/sbin/sshd", &"d".repeat(40)]).into(),
                address: random.pick(&["10.1.2.3", "2001:db8::5", "fe80::1%lo", "unknown"]).into(),
                server: random.one_in(2).then(|| ("localhost".into(), "127.0.0.1".into())),
                ..Client::default()
            };
            let mut request = client.request();
            request.client.is_hidden = random.one_in(10);
            request.server.port = Some(random.below(2) as u16);
            let mut facts = Facts::default();
            if random.one_in(4) {
                facts.client_name = HostName::Known(b"h1.example.com");
            }
            let is_datagram = random.one_in(4);
            if is_datagram {
                facts.user = User::Unknown;
            } else if random.one_in(4) {
                facts.user = User::Known(b"bob");
            }
            if random.one_in(10) {
                facts.commands = Commands::Assumed;
            }
            let before = files.opened;
            let told = format!("{:?}", wrappers.evaluate(&mut files, &TABLES, &request, &facts));
            asked += 1;
            kept += usize::from(files.opened == before);
            datagrams += usize::from(files.opened == before && is_datagram);
            let mut fresh = Wrappers::new();
            let anew =
                fresh.evaluate(&mut Tree { version: None, ..files.clone() }, &TABLES, &request, &facts);
            assert_eq!(told, format!("{anew:?}"), "seed {seed} round {round} {client:?}");
        }
    }
    // Else it would not have been tried.
    assert!(kept > asked / 50 && datagrams > asked / 200, "{kept}, {datagrams} of {asked}");
    println!("{kept} of {asked} were told without a look at a file");
}

#[test]
fn lines_have_a_longest() {
    let longest = usherd::capacity::LINE_BYTES;
    let facts = Facts { client_name: HostName::Unknown, user: User::Unknown, ..Facts::default() };
    for (line, count) in
        [("#", 1), ("[", 1), (" ", 1), ("x EXCEPT ", 9), ("@", 1), ("*?", 2), ("x@y ", 4), ("[::]/0,", 7)]
    {
        let body = line.repeat(longest / count + 2);
        for deny in [
            format!("ALL: {}\nALL: 10.1.2.3\n", &body[..longest - 5]),
            format!("ALL: {}\n", &body[..longest - 3]),
            format!("ALL: {}\\\n{}\n", &body[..longest / 2], &body[..longest / 2 + 10]),
        ] {
            let told = in_words("", &deny, &facts);
            assert!(told.starts_with("refused"), "{line}: {} {told}", deny.len());
            let _ = checked(
                &mut {
                    let mut t = Tree::etc();
                    t.put("hosts.allow", deny.as_bytes());
                    t
                },
                &Check::default(),
            );
        }
    }
    let told = in_words(&format!("ALL: {}\nALL: ALL\n", "10.9.9.9 ".repeat(longest / 9 + 1)), "", &facts);
    assert!(told.starts_with("refused by hosts.allow:1:1: the line is too long"), "{told}");
}

/// libwrap reads a file up to a line that is too long for it, or has no end. Whom it keeps out by that stays out.
#[test]
fn what_libwrap_does_not_read_lets_nobody_in() {
    let facts = Facts::default();
    let line = |text: &str, len: usize| format!("{text}{}\n", " ".repeat(len - 1 - text.len()));
    let (fits, over) = (line("ALL: 10.1.2.3", 2047), line("ALL: 10.1.2.3", 2048));
    let (other, note) = (line("ALL: 10.9.9.9", 2048), line("#", 2048));
    // Two physical lines that make 2047 bytes, or 2048.
    let joined = |len: usize| format!("ALL: 10.9.9.9\\\n{}", line(" 10.1.2.3", len - 13));
    let noted = |len: usize| format!("# one\\\n#{}", line(" two", len - 6));
    for (allow, deny, expected) in [
        (&*fits, "ALL: ALL\n", "granted by hosts.allow:1"),
        (&*joined(2047), "ALL: ALL\n", "granted by hosts.allow:1"),
        ("", &*noted(2046), "granted: no rule"),
        // A line that is too long lets nobody in, and no line behind it does.
        (
            &*over,
            "ALL: ALL\n",
            "refused by hosts.deny:1\n  hosts.allow:1:1 would let it in, but the line has more",
        ),
        (&*joined(2048), "ALL: ALL\n", "refused by hosts.deny:1\n  hosts.allow:2:1 would"),
        (&*format!("{note}ALL: ALL\n"), "ALL: ALL\n", "refused by hosts.deny:1\n  hosts.allow:1:1 would"),
        (&*format!("{}ALL: ALL\n", noted(2048)), "ALL: ALL\n", "refused by hosts.deny:1"),
        (&*format!("{note}ALL: ALL: twist /bin/x\n"), "", "refused by hosts.allow:1:1: the line has more"),
        (&*format!("ALL: ALL\n{note}"), "ALL: ALL\n", "granted by hosts.allow:1"),
        (&*over, "", "granted: no rule"),
        // It refuses if it says so.
        (&*format!("{note}ALL: ALL: deny\n"), "", "refused by hosts.allow:1:1: the line has more"),
        // Nobody is asked who cannot change the answer.
        (&*format!("{note}ALL: .example.com\n"), "ALL: ALL\n", "refused by hosts.deny:1"),
        ("", &*other, "refused by hosts.deny:1:1: the line has more than the 2047 bytes"),
        ("", &*note, "refused by hosts.deny:1:1: the line has more"),
        ("", &*noted(2048), "refused by hosts.deny:2:1: the line has more"),
        ("", &*format!("ALL: 10.1.: allow\n{note}"), "granted by hosts.deny:1"),
        ("", &*format!("{note}ALL: 10.1.: allow\n"), "refused by hosts.deny:1:1: the line has more"),
        // The same without a line end.
        (
            "ALL: ALL",
            "ALL: ALL\n",
            "refused by hosts.deny:1\n  hosts.allow:1:1 would let it in, but the last line",
        ),
        ("ALL: ALL: twist /bin/x", "", "refused by hosts.allow:1:1: the last line has no line end"),
        ("ALL: ALL\nALL: ALL", "ALL: ALL\n", "granted by hosts.allow:1"),
        ("ALL: ALL: deny", "", "refused by hosts.allow:1:1: the last line has no line end"),
        ("ALL: ALL\r", "ALL: ALL\n", "refused by hosts.deny:1"),
        ("", "ALL: 10.9.9.9", "refused by hosts.deny:1:1: the last line has no line end"),
        ("", "ALL: 10.9.9.9\r", "refused by hosts.deny:1:1: the last line has no line end"),
        ("", "\n# nothing", "refused by hosts.deny:2:1: the last line has no line end"),
        ("", "# nothing \\\n", "refused by hosts.deny:1:1: the last line has no line end"),
        ("", "\n ", "refused by hosts.deny:2:1: the last line has no line end"),
        ("", "ALL: ALL: allow", "refused by hosts.deny:1:1: the last line has no line end"),
        ("", "ALL: ALL: twist /bin/x", "refused by hosts.deny:1:1: the last line has no line end"),
        ("", "ALL: .example.com: allow", "refused by hosts.deny:1:1: the last line has no line end"),
        ("", "ALL: ALL", "refused by hosts.deny:1"),
        ("", "ALL: 10.1.: allow\nALL: ALL", "granted by hosts.deny:1"),
    ] {
        let told = in_words(allow, deny, &facts);
        assert!(told.starts_with(expected), "{allow:.30}/{deny:.30}: {told}");
    }
}

/// As much JSON as the cases have.
mod json {
    use std::collections::BTreeMap;

    #[derive(Debug)]
    pub enum Value {
        Text(String),
        Object(BTreeMap<String, Value>),
        List,
        Other,
    }

    impl Value {
        pub fn text(&self) -> Option<&str> {
            match self {
                Value::Text(text) => Some(text),
                _ => None,
            }
        }
    }

    pub fn object(text: &str) -> BTreeMap<String, Value> {
        let mut rest = text.chars().peekable();
        match value(&mut rest) {
            Value::Object(all) => all,
            other => panic!("{other:?}"),
        }
    }

    type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

    fn blanks(rest: &mut Chars<'_>) {
        while rest.next_if(|c| c.is_whitespace() || matches!(c, ',' | ':')).is_some() {}
    }

    fn value(rest: &mut Chars<'_>) -> Value {
        blanks(rest);
        match rest.peek().unwrap() {
            '"' => Value::Text(string(rest)),
            '{' => {
                rest.next();
                let mut all = BTreeMap::new();
                loop {
                    blanks(rest);
                    if rest.next_if_eq(&'}').is_some() {
                        return Value::Object(all);
                    }
                    let key = string(rest);
                    all.insert(key, value(rest));
                }
            }
            '[' => {
                rest.next();
                loop {
                    blanks(rest);
                    if rest.next_if_eq(&']').is_some() {
                        return Value::List;
                    }
                    value(rest);
                }
            }
            _ => {
                while rest.next_if(|c| !matches!(c, ',' | '}' | ']')).is_some() {}
                Value::Other
            }
        }
    }

    fn string(rest: &mut Chars<'_>) -> String {
        assert_eq!(rest.next(), Some('"'));
        let mut text = String::new();
        loop {
            match rest.next().unwrap() {
                '"' => return text,
                '\\' => text.push(match rest.next().unwrap() {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'u' => {
                        let code: String = rest.take(4).collect();
                        char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap()
                    }
                    other => other,
                }),
                other => text.push(other),
            }
        }
    }
}
