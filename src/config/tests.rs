//! What files mean: each test is a file, or a few, and what came of it.

extern crate std;

use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::source::memory::{Tree, text};
use super::*;
use crate::service::{
    Answer, Bind, Cps, DenyTime, Family, Flags, Host, Limit, LogFields, LogType, Proxy, Service, Standing,
    Target,
};
use crate::table::Pattern;

struct Loaded {
    table: Box<Table>,
    said: Vec<String>,
    outcome: Outcome,
}

impl Loaded {
    fn service(&self, id: &str) -> &Service {
        let found = self.table.services().iter().find(|s| self.table.bytes(s.id) == id.as_bytes());
        found.unwrap_or_else(|| panic!("no service {id}; {:#?}", self.said))
    }

    /// Ids of the services that start.
    fn ready(&self) -> Vec<String> {
        self.ids(Standing::Ready)
    }

    fn broken(&self) -> Vec<String> {
        self.ids(Standing::Broken)
    }

    fn ids(&self, standing: Standing) -> Vec<String> {
        let services = self.table.services().iter().filter(|s| s.standing == standing);
        services.map(|s| text(self.table.bytes(s.id))).collect()
    }

    fn argv(&self, id: &str) -> Vec<String> {
        self.words(self.service(id).argv)
    }

    fn words(&self, span: crate::table::Span) -> Vec<String> {
        self.table.words(span).iter().map(|w| text(self.table.bytes(*w))).collect()
    }

    fn only_from(&self, id: &str) -> Vec<String> {
        self.rules(self.service(id).only_from)
    }

    fn rules(&self, span: crate::table::Span) -> Vec<String> {
        self.table
            .rules(span)
            .iter()
            .map(|rule| match rule.pattern {
                Pattern::Network(prefix) => prefix.to_string(),
                Pattern::Name(name) => String::from_utf8_lossy(self.table.bytes(name)).into_owned(),
            })
            .collect()
    }

    /// Everything said, and nothing else.
    #[track_caller]
    fn says(&self, wanted: &[&str]) -> &Loaded {
        assert_eq!(self.said, wanted);
        self
    }

    #[track_caller]
    fn mentions(&self, part: &str) -> &Loaded {
        assert!(self.said.iter().any(|line| line.contains(part)), "nobody said {part}: {:#?}", self.said);
        self
    }
}

/// A system with a few users, services and all programs.
fn system() -> Tree {
    Tree::default()
        .file(
            "/etc/services",
            "ftp 21/tcp\ntftp 69/udp\ntelnet 23/tcp\necho 7/tcp\necho 7/udp\nhttp 80/tcp www\n",
        )
        .file(
            "/etc/passwd",
            "root:x:0:0::/:\nbob:x:1000:1001::/:\nnobody:x:65534:65534::/:\nj.doe:x:7:8::/:\n",
        )
        .file("/etc/group", "root:x:0:\nusers:x:100:bob\nwheel:x:10:bob,root\nbob:x:1001:\n")
        .file(
            "/etc/hosts",
            "127.0.0.1 localhost\n::1 localhost\n10.0.0.5 mgmt\nfd00::5 mgmt\n10.0.0.6 gate\n",
        )
        .file("/sys/class/net/eth0/x", "")
        .program("*")
}

fn load_with(mut files: Tree, path: &str, options: &Options<'_>) -> Loaded {
    let mut table = Box::new(Table::new());
    let mut said = Vec::new();
    let mut loader = Box::new(Loader::new());
    let outcome = loader.load(
        &mut files,
        &mut |d: &Diagnostic<'_>| said.push(d.to_string()),
        &mut table,
        path.as_bytes(),
        options,
    );
    let errors = said.iter().filter(|s| s.contains(": error: ")).count();
    assert_eq!((errors, said.len() - errors), (outcome.errors as usize, outcome.warnings as usize));
    Loaded { table, said, outcome }
}

fn load(files: Tree) -> Loaded {
    load_with(files, "/x.conf", &Options::default())
}

/// One file in xinetd's grammar.
fn conf(text: &str) -> Loaded {
    load(system().file("/x.conf", text))
}

/// One service with `lines` beside what it must have.
fn service(lines: &str) -> Loaded {
    conf(&format!(
        "service s\n{{\ntype = UNLISTED\nsocket_type = stream\nport = 9000\nwait = no\nuser = bob\nserver = /bin/s\n{lines}\n}}\n"
    ))
}

/// One inetd.conf.
fn inetd(text: &str) -> Loaded {
    load_with(
        system().file("/x.conf", text),
        "/x.conf",
        &Options { dialect: Some(Dialect::Inetd), ..Options::default() },
    )
}

const TELNET: &str =
    "service telnet\n{\nsocket_type = stream\nwait = no\nuser = root\nserver = /sbin/in.telnetd\n}\n";

mod sections {
    use super::*;

    #[test]
    fn a_service_is_read_whole() {
        let loaded = conf(concat!(
            "# telnet\n\n\tservice telnet # the old one\r\n{\r\n\tdisable\t= no\r\n  flags = REUSE nodelay IPv4\n",
            "socket_type=stream\nwait =no\nuser= bob\nSERVER = /usr/sbin/in.telnetd # here\nserver_args = -h \"a b\" ''\n",
            "instances = 40\nper_source = UNLIMITED\nnice = -5\numask = 027\ncps = 25 30\nmax_load = 2.5\n",
            "log_on_success += PID HOST\nlog_on_failure = HOST\nlog_type = SYSLOG authpriv notice\n",
            "access_times = 2:00-8:59 12:00-24:00\nenv = A=1 \"B=2 3\"\nenv += C=4\nrlimit_as = 8M\nrlimit_cpu = 5\n",
            "groups = yes\nstderr = log\nexpand = yes\nbacklog = 5\nrcvbuf = 64k\n}",
        ));
        loaded.says(&[]);
        let s = loaded.service("telnet");
        assert_eq!((s.port, s.family, s.line, s.standing), (23, Family::V4, 3, Standing::Ready));
        assert_eq!(loaded.argv("telnet"), ["in.telnetd", "-h", "a b", "''"]);
        assert_eq!((s.instances, s.per_source, s.nice, s.umask), (Some(40), None, Some(-5), Some(0o27)));
        assert_eq!((s.cps, s.max_load), (Some(Cps { rate: 25, pause: 30 }), Some(250)));
        assert_eq!(s.log_on_success, LogFields(LogFields::PID.0 | LogFields::HOST.0));
        assert_eq!(s.log_on_failure, LogFields(LogFields::HOST.0 | LogFields::ATTEMPT.0));
        assert_eq!(s.log_type, LogType::Syslog { facility: 10, level: 5 });
        assert_eq!(loaded.table.times(s.access_times).len(), 2);
        assert_eq!(loaded.words(s.env), ["A=1", "B=2 3", "C=4"]);
        assert_eq!((s.rlimits[0], s.rlimits[1]), (Limit::To(8 << 20), Limit::To(5)));
        assert_eq!((s.identity.uid, s.identity.gid), (Some(1000), Some(1001)));
        assert_eq!(loaded.table.gids(s.identity.groups), [1001, 100, 10]);
        assert_eq!((s.backlog, s.receive_buffer), (5, 65536));
        assert!(s.flags.has(Flags::EXPAND) && s.flags.has(Flags::NODELAY) && !s.waits());
        assert_eq!(loaded.table.c_bytes(s.program), b"/usr/sbin/in.telnetd\0");
    }

    #[test]
    fn the_brace_may_stand_behind_the_head() {
        assert_eq!(conf(&TELNET.replace("telnet\n{", "telnet {")).says(&[]).ready(), ["telnet"]);
        assert_eq!(conf(&format!("\u{feff}{}", TELNET.trim_end())).says(&[]).ready(), ["telnet"]);
    }

    #[test]
    fn a_comment_behind_a_value_takes_nothing_away() {
        // xinetd ignores all three lines, and starts the service for everybody.
        let loaded = service("disable = yes # off for now\n");
        assert_eq!((loaded.ready(), loaded.broken()), ([].into(), [].into()));
        let loaded = service("bind = 127.0.0.1 # local\ninstances = 1 # one");
        assert_eq!(loaded.says(&[]).service("s").bind, Bind::Address("127.0.0.1".parse().unwrap()));
        assert_eq!(loaded.service("s").instances, Some(1));
        service("server_args = -x #y").mentions("a comment ends `server_args` here");
    }

    #[test]
    fn a_mistake_breaks_its_service_and_no_other() {
        let loaded = conf(&format!("service a\n{{\nnice = 3 4\nbogus = 1\nwait = maybe\n}}\n{TELNET}"));
        assert_eq!((loaded.ready(), loaded.broken()), (["telnet".into()].into(), ["a".into()].into()));
        assert!(loaded.outcome.usable && loaded.outcome.complete);
        loaded.says(&[
            "/x.conf:3:6: error: `nice` takes one value, and here are 2; write `nice = NUMBER (-20 to 19)`",
            "/x.conf:4:1: error: unknown attribute `bogus`; `usherd -help attributes` lists them all",
            "/x.conf:5:8: error: `maybe` is no value of `wait`; write `wait = yes | no`",
            "/x.conf:1: error: `socket_type` is missing; add a line such as `socket_type = stream`",
            "/x.conf:1: error: `server` is missing; add a line such as `server = /PATH`",
            "/x.conf:1: error: `user` is missing; add a line such as `user = nobody`",
        ]);
    }

    #[test]
    fn braces_and_heads_that_are_missing_stay_where_they_are() {
        // xinetd loses the next service in each of these cases.
        let next = TELNET.replace("telnet", "ftp");
        for text in [
            format!("{}{next}", TELNET.replace("}\n", "")),
            format!("{}{next}", TELNET.replace("{\n", "")),
            format!("{}{next}", TELNET.replace("wait = no", "wait")),
            format!("{}{next}", TELNET.replace("{\n", "{ wait = no\n")),
            format!("{}{next}", TELNET.replace("}\n", "} x\n")),
            format!("{}{next}", TELNET.replace("service telnet", "service telnet extra")),
        ] {
            let loaded = conf(&text);
            assert_eq!(
                (loaded.ready(), loaded.broken()),
                (["ftp".into()].into(), ["telnet".into()].into()),
                "{text}"
            );
            assert!(loaded.outcome.errors > 0 && loaded.outcome.complete);
        }
        let loaded = conf(&format!("oops\n{next}"));
        assert_eq!(loaded.ready(), ["ftp"]);
        assert!(!loaded.outcome.complete && loaded.outcome.usable);
        conf(&next.replace("}\n", "")).mentions("/x.conf:6: error: the file ends within a section");
    }

    #[test]
    fn a_misspelt_head_is_recognised() {
        let loaded = conf(&TELNET.replace("service", "servce"));
        loaded.says(&["/x.conf:1:1: error: `servce` begins no section; did you mean `service`?"]);
        assert_eq!(loaded.broken(), ["telnet"]);
        let loaded = conf(&format!("defalts\n{{\nonly_from = 10.0.0.1\n}}\n{TELNET}"));
        assert!(!loaded.outcome.usable);
        loaded.mentions("did you mean `defaults`?");
        // A head that is a comment leaves a body that xinetd skips.
        let loaded = conf(&format!("#defaults\n{{\ninstances = 4\n}}\n{TELNET}}}\n"));
        assert_eq!(loaded.ready(), ["telnet"]);
        assert!(!loaded.outcome.complete);
    }

    #[test]
    fn a_disabled_service_is_off_and_its_mistakes_are_warnings() {
        let loaded = conf(
            "service s\n{\nport = 1x\nuser = nosuch\nserver = /none\nredirect = a 1\nflags = SENSOR\ndisable = yes\n}\n",
        );
        assert_eq!(loaded.outcome.errors, 0);
        loaded.mentions("/x.conf:3:8: warning: `1x` is no value of `port`");
        assert_eq!(loaded.table.services().len(), 0);
    }

    #[test]
    fn an_attribute_given_twice_must_say_the_same() {
        let loaded = service("nice = 1\nnice = 1");
        loaded.mentions("warning: `nice` is given again, after line 9");
        assert_eq!(loaded.ready(), ["s"]);
        assert_eq!(service("bind = 10.0.0.5\ninterface = eth0").broken(), ["s"]);
    }

    #[test]
    fn an_unknown_name_gets_a_guess() {
        service("bakclog = 5")
            .says(&["/x.conf:9:1: error: unknown attribute `bakclog`; did you mean `backlog`?"]);
        service("flags = NODELY")
            .says(&["/x.conf:9:9: error: `NODELY` is no word of `flags`; did you mean `NODELAY`?"]);
    }

    #[test]
    fn banners_are_inherited_by_services_whose_clients_can_be_sent_one() {
        let defaults = "defaults\n{\nbanner = /b\nbanner_fail = /f\n}\n";
        let loaded = conf(&format!("{defaults}{}", TELNET.replace("wait", "banner_fail = /mine\nwait")));
        let telnet = *loaded.service("telnet");
        assert_eq!(loaded.table.bytes(telnet.banner), b"/b");
        assert_eq!(loaded.table.bytes(telnet.banner_fail), b"/mine");
        let waits = TELNET.replace("= no", "= yes");
        let loaded = conf(&format!("{defaults}{waits}"));
        assert!(loaded.service("telnet").banner.is_empty() && loaded.said.is_empty(), "{:?}", loaded.said);
        conf(&waits.replace("wait", "banner = /b\nwait")).mentions("`banner` has no effect on this service");
    }

    #[test]
    fn a_banner_that_will_be_cut_is_told() {
        let text = TELNET.replace("wait", "banner = /b\nwait");
        let with = |len: usize| load(system().file("/b", std::vec![b'x'; len]).file("/x.conf", &text));
        with(crate::capacity::BANNER_BYTES).says(&[]);
        let loaded = with(crate::capacity::BANNER_BYTES + 1);
        loaded.mentions("warning: /b is longer than a banner; clients get its first 4096 bytes; shorten it");
        assert_eq!(loaded.ready(), ["telnet"]);
    }

    #[test]
    fn what_is_not_enforced_keeps_its_service_from_starting() {
        for line in ["flags = LABELED", "rpc_version = 1", "rpc_number = 1"] {
            let loaded = service(line);
            assert_eq!(loaded.broken(), ["s"], "{line}");
            assert!(loaded.said[0].contains("by this version"), "{:?}", loaded.said);
        }
        assert_eq!(conf(&TELNET.replace("wait", "type = RPC\nwait")).broken(), ["telnet"]);
        assert_eq!(service("mdns = yes").ready(), ["s"]);
    }

    #[test]
    fn nul_bytes_and_long_lines_are_mistakes_of_their_section() {
        assert_eq!(service("server_args = a\0b").broken(), ["s"]);
        let long = format!("server_args = {}", "x".repeat(LINE_BYTES));
        let loaded = service(&format!("{long}\nnice = 1"));
        loaded.mentions(&format!("/x.conf:9: error: the line is longer than {LINE_BYTES} bytes"));
        assert_eq!(loaded.broken(), ["s"]);
        let fits = format!("server_args = {}", "x".repeat(LINE_BYTES - 14));
        assert_eq!(service(&fits).says(&[]).ready(), ["s"]);
    }
}

mod attributes {
    use super::*;

    #[test]
    fn argv_is_complete_wherever_nameinargs_stands() {
        assert_eq!(service("server_args = -a").argv("s"), ["s", "-a"]);
        assert_eq!(service("").argv("s"), ["s"]);
        assert_eq!(service("server_args = me -a\nflags = NAMEINARGS").argv("s"), ["me", "-a"]);
        service("flags = NAMEINARGS").mentions("`server_args` has no argv[0]");
    }

    #[test]
    fn ports_agree_with_the_services_file() {
        assert_eq!(conf(&TELNET.replace("wait", "port = 23\nwait")).says(&[]).ready(), ["telnet"]);
        conf(&TELNET.replace("wait", "port = 2323\nwait")).says(&[
            "/x.conf:1: error: services(5) gives telnet port 23, not 2323; add `type = UNLISTED`, or write `port = 23`",
        ]);
        conf(&TELNET.replace("telnet\n", "mine\n")).says(&[
            "/x.conf:1: error: there is no mine for tcp in /etc/services; add `type = UNLISTED` and a port, or the line `mine PORT/tcp` to that file",
        ]);
        conf(&TELNET.replace("wait", "type = UNLISTED\nwait")).mentions("`port` is missing");
        assert_eq!(conf(&TELNET.replace("telnet\n", "www\n")).service("www").port, 80);
    }

    #[test]
    fn users_and_groups_are_looked_up_when_the_file_is_read() {
        let ids = |loaded: &Loaded| {
            let identity = loaded.service("s").identity;
            (identity.uid, identity.gid)
        };
        let user = |lines: &str| {
            conf(&format!(
                "service s\n{{\ntype = UNLISTED\nport = 1\nsocket_type = stream\nwait = no\nserver = /s\n{lines}\n}}"
            ))
        };
        assert_eq!(ids(&user("user = bob")), (Some(1000), Some(1001)));
        assert_eq!(ids(&user("group = wheel\nuser = bob")), (Some(1000), Some(10)));
        assert_eq!(ids(&user("user = bob\ngroup = 5")), (Some(1000), Some(5)));
        assert_eq!(ids(&user("user = 12345")), (Some(12345), Some(12345)));
        let numeric = user("user = 1000\ngroups = yes");
        assert_eq!(numeric.table.gids(numeric.service("s").identity.groups), [1001, 100, 10]);
        user("user = eve")
            .says(&["/x.conf:8:8: error: no user `eve` in /etc/passwd; create it there, or write a number"]);
        user("user = bob\ngroup = evil").mentions("no group `evil` in /etc/group");
    }

    #[test]
    fn programs_must_be_there() {
        let files = Tree::default().file("/x.conf", TELNET);
        load(files).says(&[
            "/x.conf:6:10: error: cannot execute /sbin/in.telnetd: No such file or directory (errno = 2); install the program, or write `disable = yes`",
        ]);
        conf(&TELNET.replace("/sbin/", "")).mentions("`in.telnetd` is no whole path");
    }

    #[test]
    fn internal_services_have_a_name_or_a_port() {
        let echo = "service echo\n{\ntype = INTERNAL\nid = e\nsocket_type = dgram\nwait = yes\n}\n";
        let loaded = conf(echo);
        assert_eq!(
            (loaded.says(&[]).service("e").answer, loaded.service("e").port),
            (Answer::Builtin(crate::service::Builtin::Echo), 7)
        );
        let mine =
            conf(&echo.replace("echo\n", "mine\n").replace("INTERNAL", "INTERNAL UNLISTED\nport = 13"));
        assert_eq!(mine.service("e").builtin(), Some(crate::service::Builtin::Daytime));
        conf(&echo.replace("echo\n", "xadmin\n").replace("INTERNAL", "INTERNAL UNLISTED\nport = 7000"))
            .says(&["/x.conf:1: error: no such internal service: xadmin; there are echo, discard, chargen, daytime, time and tcpmux"]);
    }

    #[test]
    fn a_datagram_server_waits() {
        let loaded =
            conf("service tftp\n{\nprotocol = udp\nwait = no\nuser = root\nserver = /sbin/in.tftpd\n}\n");
        assert!(loaded.service("tftp").waits());
        loaded.says(&["/x.conf:1: warning: a datagram server owns its socket: `wait = no` is taken as yes; write `wait = yes`"]);
    }

    #[test]
    fn access_lists_are_edited_in_order() {
        assert_eq!(
            service("only_from = 10.0.0.0/8\nonly_from += mgmt\nonly_from -= 10.0.0.5").only_from("s"),
            ["10.0.0.0/8", "fd00::5/128"]
        );
        assert_eq!(
            service("only_from = 10.0.0.1\nonly_from = 192.168.15.0 # net").only_from("s"),
            ["192.168.15.0/24"]
        );
        let nobody = service("only_from =");
        assert!(
            nobody.says(&[]).service("s").flags.has(Flags::ONLY_FROM) && nobody.only_from("s").is_empty()
        );
        assert!(!service("").service("s").flags.has(Flags::ONLY_FROM));
        service("only_from = 127.0.0.").says(&[
            "/x.conf:9:13: error: `127.0.0.` is not a whole address; write all four numbers, or a network as 127.0.0.0/8",
        ]);
        assert_eq!(service("env -= A=1").broken(), ["s"]);
        assert_eq!(service("env = A").broken(), ["s"]);
        let env = service("passenv =");
        assert!(env.service("s").flags.has(Flags::PASSENV));
    }

    #[test]
    fn log_files_have_limits() {
        let log = |value: &str| match service(&format!("log_type = {value}")).service("s").log_type {
            LogType::File(file) => (file.soft, file.hard),
            other => panic!("{other:?}"),
        };
        assert_eq!(log("FILE /var/log/x"), (0, 0));
        assert_eq!(log("FILE /var/log/x 10K"), (10240, 15360));
        assert_eq!(log("FILE /var/log/x 10M 11M"), (10 << 20, 11 << 20));
        for bad in
            ["FILE x", "FILE", "SYSLOG", "SYSLOG nobody", "SYSLOG daemon loud", "FILE /x 10K 5K", "TAPE /x"]
        {
            assert_eq!(service(&format!("log_type = {bad}")).broken(), ["s"], "{bad}");
        }
    }

    #[test]
    fn nothing_is_read_halfway() {
        for line in [
            "instances = 10s",
            "nice = 20",
            "nice = 0x1",
            "umask = 9",
            "cps = 50",
            "cps = 0 5",
            "cps = a 1",
            "max_load = 0",
            "access_times = 22:00-6:00",
            "port = http",
            "rlimit_cpu = 5K",
            "rlimit_as = lots",
            "backlog = 0",
            "groups = maybe",
            "disable = maybe",
            "only_from = 10.0.0.0/255.0.0.0",
            "only_from = 1.2.3.4,5.6.7.8",
            "stderr = file",
            "id =",
            "nice =",
            "nice += 1",
            "server_args",
            "enabled = x",
            "flags = DISABLE",
            "type = SPECIAL",
            "log_on_failure = RECORD",
            "server_args = \"a",
            "socket_type = raw",
            "protocol = sctp",
            "protocol = udp",
        ] {
            let loaded = service(line);
            assert!(loaded.outcome.errors > 0, "{line}: {:?}", loaded.said);
            assert_eq!(loaded.broken(), ["s"], "{line}");
        }
    }

    #[test]
    fn unix_sockets_have_a_path_and_a_mode() {
        let loaded = conf(
            "service s\n{\nprotocol = unix\nsocket_type = stream\nbind = /run/s\nsocket_mode = 660\nsocket_group = wheel\nwait = no\nuser = bob\nserver = /s\n}",
        );
        let s = loaded.says(&[]).service("s");
        assert!(matches!(s.bind, Bind::Path(path) if loaded.table.bytes(path) == b"/run/s"));
        assert_eq!((s.family, s.node_mode, s.node_gid), (Family::Unix, Some(0o660), Some(10)));
        conf("service s\n{\nprotocol = unix\nsocket_type = stream\nwait = no\nuser = bob\nserver = /s\n}")
            .mentions("needs a path");
    }
}

mod listening {
    use super::*;

    fn place(lines: &str) -> (Bind, Family) {
        let loaded = service(lines);
        assert_eq!(loaded.ready(), ["s"], "{:?}", loaded.said);
        (loaded.service("s").bind, loaded.service("s").family)
    }

    fn at(address: &str) -> Bind {
        Bind::Address(address.parse().unwrap())
    }

    #[test]
    fn the_family_follows_flags_and_address() {
        assert_eq!(place(""), (Bind::Everywhere, Family::Dual));
        assert_eq!(place("flags = IPv6"), (Bind::Everywhere, Family::Dual));
        assert_eq!(place("flags = IPv4 IPv6"), (Bind::Everywhere, Family::Dual));
        assert_eq!(place("flags = IPv4"), (Bind::Everywhere, Family::V4));
        assert_eq!(place("v6only = yes"), (Bind::Everywhere, Family::V6));
        assert_eq!(place("v6only = no"), (Bind::Everywhere, Family::Dual));
        assert_eq!(place("protocol = tcp6"), (Bind::Everywhere, Family::V6));
        assert_eq!(place("protocol = tcp4"), (Bind::Everywhere, Family::V4));
        assert_eq!(place("bind = 0.0.0.0"), (Bind::Everywhere, Family::V4));
        assert_eq!(place("bind = ::"), (Bind::Everywhere, Family::Dual));
        assert_eq!(place("bind = 10.0.0.1"), (at("10.0.0.1"), Family::V4));
        assert_eq!(place("bind = ::ffff:10.0.0.1"), (at("10.0.0.1"), Family::V4));
        assert_eq!(place("interface = ::1"), (at("::1"), Family::V6));
        assert_eq!(place("bind = mgmt"), (at("10.0.0.5"), Family::V4));
        assert_eq!(place("bind = mgmt\nflags = IPv6"), (at("fd00::5"), Family::V6));
    }

    #[test]
    fn a_family_and_an_address_that_do_not_agree_listen_nowhere() {
        // xinetd listens on every address instead.
        for lines in [
            "bind = ::1\nflags = IPv4",
            "bind = 127.0.0.1\nflags = IPv6",
            "bind = gate\nv6only = yes",
            "flags = IPv4\nv6only = yes",
            "bind = fe80::1%2",
            "bind = no.such.host.example",
            "bind = 1.2.3",
            "bind = a/b",
        ] {
            assert_eq!(service(lines).broken(), ["s"], "{lines}");
        }
    }

    #[test]
    fn an_interface_need_not_exist_yet() {
        let loaded = service("bind = eth0");
        assert!(
            matches!(loaded.says(&[]).service("s").bind, Bind::Interface(name) if loaded.table.bytes(name) == b"eth0")
        );
        service("bind = eth9.100").says(&[
            "/x.conf:9:8: warning: there is no interface `eth9.100` now; the service listens when it appears",
        ]);
    }

    #[test]
    fn twins_share_a_port() {
        let twin = |lines: &str, id: &str| TELNET.replace("wait", &format!("id = {id}\n{lines}\nwait"));
        let loaded = conf(&format!("{}{}", twin("flags = IPv6", "six"), twin("flags = IPv4", "four")));
        assert_eq!(
            (loaded.says(&[]).service("six").family, loaded.service("four").family),
            (Family::V6, Family::V4)
        );
        let loaded = conf(&format!("{}{}", twin("", "any"), twin("protocol = tcp6", "six")));
        assert_eq!(
            (loaded.says(&[]).service("any").family, loaded.service("six").family),
            (Family::V4, Family::V6)
        );
        let loaded = conf(&format!("{}{}", twin("bind = 127.0.0.1", "a"), twin("bind = 10.0.0.5", "b")));
        assert_eq!(loaded.says(&[]).ready(), ["a", "b"]);
        let loaded = conf(&format!("{}{}", twin("", "a"), twin("", "b")));
        loaded.says(&["/x.conf:10: error: it would listen where a of /x.conf:1 does; give it another port or `bind`, or disable one of the two"]);
        assert_eq!((loaded.ready(), loaded.broken()), (["a".into()].into(), ["b".into()].into()));
        let loaded = conf(&format!("{}{}", twin("bind = 127.0.0.1", "a"), twin("", "b")));
        assert_eq!(loaded.broken(), ["b"]);
        // What is off does not count.
        assert_eq!(
            conf(&format!("{}{}", twin("disable = yes", "a"), twin("", "b"))).says(&[]).ready(),
            ["b"]
        );
    }
}

mod defaults {
    use super::*;

    #[test]
    fn lists_reach_services_below_and_limits_all() {
        let text = format!(
            "{}defaults\n{{\nonly_from = 10.0.0.0/8\nonly_from = 127.0.0.1\ninstances = 7\nlog_on_success = HOST\npassenv = PATH\ncps = 1 2\n}}\n{}{}",
            TELNET,
            TELNET.replace("telnet", "ftp").replace(
                "wait",
                "only_from += 192.168.0.0\nlog_on_success += PID\ninstances = UNLIMITED\nwait"
            ),
            TELNET.replace("telnet", "http").replace("wait", "only_from = ::1\nwait"),
        );
        let loaded = conf(&text);
        loaded.says(&[]);
        assert_eq!(loaded.only_from("ftp"), ["10.0.0.0/8", "127.0.0.1/32", "192.168.0.0/16"]);
        assert_eq!(loaded.only_from("http"), ["::1/128"]);
        assert!(
            loaded.only_from("telnet").is_empty() && !loaded.service("telnet").flags.has(Flags::ONLY_FROM)
        );
        assert_eq!((loaded.service("telnet").instances, loaded.service("ftp").instances), (Some(7), None));
        assert_eq!(loaded.service("telnet").cps, Some(Cps { rate: 1, pause: 2 }));
        assert_eq!(loaded.service("ftp").log_on_success, LogFields(LogFields::HOST.0 | LogFields::PID.0));
        assert_eq!(loaded.words(loaded.service("http").passenv), ["PATH"]);
    }

    #[test]
    fn without_defaults_cps_is_xinetds() {
        assert_eq!(service("").service("s").cps, Some(Cps { rate: 50, pause: 10 }));
        assert_eq!(service("cps = 0 0").service("s").cps, Some(Cps { rate: 0, pause: 0 }));
    }

    #[test]
    fn a_mistake_in_defaults_makes_the_file_unusable() {
        for lines in [
            "only_from = 127.0.0.",
            "nice = 5",
            "banner = b",
            "instances = x",
            "enabled -= a",
            "log_type = FILE x",
        ] {
            let loaded = conf(&format!("defaults\n{{\n{lines}\n}}\n{TELNET}"));
            assert!(!loaded.outcome.usable && loaded.outcome.errors == 1, "{lines}: {:?}", loaded.said);
        }
        assert!(!conf("defaults\n{\n}\ndefaults\n{\n}\n").outcome.usable);
        // Once in each file is fine.
        let files = system()
            .file("/x.conf", "defaults\n{\ninstances = 5\n}\ninclude /y.conf\n")
            .file("/y.conf", "defaults\n{\numask = 2\ninstances = 5\n}\n");
        let loaded = load(files);
        assert!(loaded.outcome.usable);
        loaded.says(&[
            "/y.conf:4:1: warning: `instances` is given again, after line 3; leave one of the two out",
        ]);
    }

    #[test]
    fn enabled_and_disabled_choose_by_id() {
        let two = format!("{TELNET}{}", TELNET.replace("telnet", "ftp"));
        let run = |lines: &str| conf(&format!("{two}defaults\n{{\n{lines}\n}}\n"));
        assert_eq!(run("enabled = ftp").says(&[]).ready(), ["ftp"]);
        assert!(run("enabled =").says(&[]).ready().is_empty());
        assert_eq!(run("enabled = ftp telnet\ndisabled = FTP").ready(), ["telnet"]);
        run("disabled = tfpt").mentions("/x.conf:17: warning: no service has the id `tfpt`");
        // A broken service never comes back to life (it does in xinetd).
        let loaded =
            conf(&format!("defaults\n{{\nenabled = telnet\n}}\n{}", TELNET.replace("root", "nosuch")));
        assert_eq!((loaded.ready(), loaded.broken()), ([].into(), ["telnet".into()].into()));
    }

    #[test]
    fn a_default_bind_decides_where_services_listen_that_do_not_say() {
        let with = |bind: &str, lines: &str| {
            conf(&format!("{}defaults\n{{\n{bind}\n}}\n", TELNET.replace("wait", &format!("{lines}\nwait"))))
        };
        assert_eq!(
            with("bind = 127.0.0.1", "").service("telnet").bind,
            Bind::Address("127.0.0.1".parse().unwrap())
        );
        assert_eq!(
            with("bind = 127.0.0.1", "bind = 10.0.0.5").service("telnet").bind,
            Bind::Address("10.0.0.5".parse().unwrap())
        );
        assert_eq!(with("bind = 127.0.0.1", "flags = IPv6").broken(), ["telnet"]);
        assert_eq!(
            with("bind = localhost", "flags = IPv6").service("telnet").bind,
            Bind::Address("::1".parse().unwrap())
        );
        assert!(!with("bind = no.such.host", "").outcome.usable);
        assert_eq!(with("v6only = yes", "").service("telnet").family, Family::V6);
        assert_eq!(with("v6only = yes", "flags = IPv4").service("telnet").family, Family::V4);
    }
}

mod clients {
    use super::*;

    #[test]
    fn names_become_rules() {
        let loaded = service(
            "only_from = gate host.example.org .Example.net 10.1.0.0/16\nonly_from += b.example.org\nonly_from -= HOST.example.org\nno_access = .evil",
        );
        let s = loaded.says(&[]).service("s");
        // A name of hosts(5) is its addresses and nothing else.
        assert_eq!(loaded.only_from("s"), ["10.0.0.6/32", ".Example.net", "10.1.0.0/16", "b.example.org"]);
        assert_eq!(loaded.rules(s.no_access), [".evil"]);
        let lines: Vec<u32> = loaded.table.rules(s.only_from).iter().map(|rule| rule.origin.line).collect();
        assert_eq!(lines, [9, 9, 9, 10]);
        let file = loaded.table.rules(s.only_from)[0].origin.file;
        assert_eq!(loaded.table.bytes(file), b"/x.conf");
    }

    #[test]
    fn a_rule_of_defaults_knows_its_line_in_every_service() {
        let loaded =
            conf(&format!("defaults\n{{\nonly_from = .example.org\nno_access = 10.0.0.1\n}}\n{TELNET}"));
        let telnet = loaded.says(&[]).service("telnet");
        let line = |span| loaded.table.rules(span)[0].origin.line;
        assert_eq!((line(telnet.only_from), line(telnet.no_access)), (3, 4));
    }

    #[test]
    fn what_is_no_name_is_a_mistake() {
        for word in ["10.0.0.1O", "10.0.0.l", "a..b", "x", ".", "host.example.org."] {
            for list in ["only_from", "no_access"] {
                assert_eq!(service(&format!("{list} = {word}")).broken(), ["s"], "{word}");
            }
        }
        service("no_access = 10.0.0.1O").says(&[
            "/x.conf:9:13: error: `10.0.0.1O` is no address, not in /etc/hosts, and no name that the DNS can have; write an address, a name as host.example.org, or a domain as .example.org",
        ]);
    }

    #[test]
    fn a_server_that_takes_its_clients_itself_knows_no_names() {
        let said = "/x.conf:3: error: `.evil` cannot be applied to telnet: its server takes its clients itself; the kernel checks them and knows addresses only: write addresses";
        let defaults = "defaults\n{\nno_access = .evil\n}\n";
        let waits = TELNET.replace("wait = no", "wait = yes");
        assert_eq!(conf(&format!("{defaults}{waits}")).says(&[said]).broken(), ["telnet"]);
        assert_eq!(conf(&format!("{defaults}{TELNET}")).says(&[]).ready(), ["telnet"]);
        let datagram = "service s\n{\ntype = UNLISTED\nport = 9\nsocket_type = dgram\nwait = yes\nuser = bob\nserver = /s\nonly_from = h.example.org\n}";
        assert_eq!(conf(datagram).broken(), ["s"]);
        let internal =
            "service echo\n{\ntype = INTERNAL\nsocket_type = dgram\nwait = yes\nonly_from = h.example.org\n}";
        assert_eq!(conf(internal).says(&[]).ready(), ["echo"]);
        // Also where inetd.conf is read beside it.
        let files = system().file("/x.conf", defaults).file("/i.conf", "tftp dgram udp wait bob /t t\n");
        let loaded = load_with(files, "/x.conf", &Options { also: Some(b"/i.conf"), ..Options::default() });
        assert_eq!(loaded.broken(), ["tftp"]);
    }

    #[test]
    fn rules_that_decide_nothing_are_told() {
        service("only_from = 10.1.2.3/8").says(&[
            "/x.conf:9:13: warning: `10.1.2.3/8` has bits behind the 8 that count: it is 10.0.0.0/8; write 10.0.0.0/8, or the address alone if one host is meant",
        ]);
        service("only_from = 10.0.0.0/8\nonly_from += 10.1.0.0/16 10.2.0.0/16").says(&[
            "/x.conf:10: warning: `10.1.0.0/16` of only_from never decides: `10.0.0.0/8` (/x.conf:9) says the same; leave it out",
        ]);
        service("no_access = .org .example.org")
            .mentions("`.example.org` of no_access never decides: `.org`");
        service("only_from = 10.0.0.1\nno_access = 10.0.0.1").says(&[
            "/x.conf:9: warning: `10.0.0.1` is in no_access as well (/x.conf:10), and nobody comes in by it; leave it out of one of the two",
        ]);
        let defaults = "defaults\n{\nonly_from = 10.0.0.0/8\n}\n";
        let with =
            |line: &str| conf(&format!("{defaults}{}", TELNET.replace("wait", &format!("{line}\nwait"))));
        with("only_from += 10.1.0.0")
            .mentions("`10.1.0.0/16` of only_from never decides: `10.0.0.0/8` (/x.conf:3)");
        with("no_access = 10.0.0.0")
            .mentions("/x.conf:8: warning: `10.0.0.0/8` is in only_from as well (/x.conf:3)");
        // Said once, where it stands, and not for every service.
        let twice = conf(&format!("{}{TELNET}", defaults.replace("/8", "/8 10.3.0.0")));
        twice.says(&["/x.conf:3: warning: `10.3.0.0/16` of only_from never decides: `10.0.0.0/8` (/x.conf:3) says the same; leave it out"]);
        for sound in [
            "only_from = 10.0.0.0/8 10.1.2.0/24\nno_access = 10.1.0.0/16",
            "only_from = 0.0.0.0/0 10.1.2.3\nno_access = 10.0.0.0/8",
            "only_from = 0.0.0.0/0 ::/0",
            "only_from = 10.0.0.0/8 10.0.0.1\nno_access = host.example.org",
            "only_from = 127.0.0.1 localhost 127.0.0.1",
            "only_from = .org .example.org\nno_access = .a.example.org",
            "only_from = 10.0.0.0/8\nno_access = 10.0.0.0/9",
            "only_from = 10.0.0.0/8 .example.org",
        ] {
            service(sound).says(&[]);
        }
    }

    fn plain(lines: &str) -> Loaded {
        conf(&format!(
            "service s\n{{\ntype = UNLISTED\nsocket_type = stream\nport = 9000\nwait = no\n{lines}\n}}\n"
        ))
    }

    #[test]
    fn a_redirection_needs_no_program() {
        let target = |lines: &str| match plain(lines).says(&[]).service("s").answer {
            Answer::Redirect(Target { host: Host::Address(address), port }) => (address.to_string(), port),
            other => panic!("{other:?}"),
        };
        assert_eq!(target("redirect = 192.0.2.1 2323"), ("192.0.2.1".into(), 2323));
        assert_eq!(target("redirect = ::1 telnet\nuser = bob"), ("::1".into(), 23));
        assert_eq!(target("redirect = ::ffff:10.0.0.1 1"), ("10.0.0.1".into(), 1));
        // xinetd's choice among the addresses of a name.
        assert_eq!(target("redirect = mgmt 1"), ("10.0.0.5".into(), 1));
        let loaded = plain("redirect = www.example.org 80\nonly_from = .example.org");
        let s = loaded.says(&[]).service("s");
        let Answer::Redirect(Target { host: Host::Name(name), port: 80 }) = s.answer else { panic!("{s:?}") };
        assert_eq!(loaded.table.bytes(name), b"www.example.org");
        assert_eq!((loaded.table.bytes(s.daemon), s.flags.has(Flags::LIBWRAP)), (b"s".as_slice(), true));
        for bad in [
            "redirect = 192.0.2.1 0",
            "redirect = 192.0.2.1 70000",
            "redirect = 192.0.2.1 nosuch",
            "redirect = 192.0.2.1",
            "redirect = [::1] 80",
            "redirect = 192.0.2 80",
            "redirect = .example.org 80",
            "redirect = 192.0.2.1 80\ntype = INTERNAL",
            "redirect = 192.0.2.1 80\nflags = SENSOR",
        ] {
            assert_eq!(plain(bad).broken(), ["s"], "{bad}");
        }
        let text = "service s\n{\ntype = UNLISTED\nport = 9\nredirect = 192.0.2.1 80\n";
        conf(&format!("{text}socket_type = stream\nwait = yes\n}}\n"))
            .mentions("`redirect` does not go with `wait = yes`");
        conf(&format!("{text}socket_type = dgram\nwait = yes\n}}\n"))
            .mentions("`redirect` is for stream services");
        // The manual of xinetd: "this attribute takes priority".
        let both = plain("redirect = 192.0.2.1 80\nserver = /bin/s\nuser = bob");
        both.says(&[
            "/x.conf:1: warning: `server` has no effect on a service with redirect; leave one of the two out",
        ]);
        assert_eq!(both.ready(), ["s"]);
    }

    const MUX: &str = "service tcpmux\n{\ntype = INTERNAL\nsocket_type = stream\nwait = no\n}\n";

    fn muxed(name: &str, lines: &str) -> String {
        format!(
            "service {name}\n{{\ntype = TCPMUX\nsocket_type = stream\nwait = no\nuser = bob\nserver = /bin/m\n{lines}\n}}\n"
        )
    }

    #[test]
    fn tcpmux_leads_to_services_without_a_port() {
        let loaded = conf(&format!(
            "{MUX}{}{}",
            muxed("a", ""),
            muxed("b", "protocol = tcp").replace("TCPMUX", "TCPMUXPLUS UNLISTED")
        ));
        assert_eq!(loaded.says(&[]).ready(), ["tcpmux", "a", "b"]);
        let (mux, a, b) = (loaded.service("tcpmux"), loaded.service("a"), loaded.service("b"));
        assert_eq!((mux.answer, mux.port, mux.flags.has(Flags::MUX)), (Answer::Tcpmux, 1, false));
        assert_eq!((a.answer, a.port, b.port), (Answer::Program, 0, 0));
        assert!(a.flags.has(Flags::MUX) && !a.flags.has(Flags::MUX_PLUS));
        assert!(b.flags.has(Flags::MUX.with(Flags::MUX_PLUS)));
        let by_port =
            MUX.replace("service tcpmux", "service mine").replace("INTERNAL", "INTERNAL UNLISTED\nport = 1");
        assert_eq!(conf(&by_port).says(&[]).service("mine").answer, Answer::Tcpmux);
        let elsewhere = MUX.replace("INTERNAL", "INTERNAL UNLISTED\nport = 10001");
        assert_eq!(conf(&elsewhere).says(&[]).service("tcpmux").answer, Answer::Tcpmux);
        assert_eq!(
            conf(&MUX.replace("stream", "dgram").replace("INTERNAL", "INTERNAL UNLISTED\nport = 1")).broken(),
            ["tcpmux"]
        );
    }

    #[test]
    fn a_name_at_tcpmux_is_one_services() {
        let loaded = conf(&format!("{MUX}{}{}", muxed("a", "id = x"), muxed("A", "")));
        loaded.says(&["/x.conf:16: error: it would have the name at tcpmux of x of /x.conf:7; give it another name, or disable one of the two"]);
        assert_eq!(loaded.broken(), ["A"]);
        // A port of that name is another matter.
        assert_eq!(conf(&format!("{MUX}{TELNET}{}", muxed("telnet", "id = m"))).says(&[]).ready().len(), 3);
    }

    #[test]
    fn nobody_opens_tcpmux_by_itself() {
        conf(&muxed("a", "")).says(&["/x.conf:1: warning: nobody can reach a: there is no tcpmux; add `service tcpmux` with `type = INTERNAL`, `socket_type = stream`, `wait = no`"]);
        for bad in ["port = 5", "bind = 127.0.0.1"] {
            let loaded = conf(&format!("{MUX}{}", muxed("a", bad)));
            assert_eq!(
                (
                    loaded.mentions("has no effect on a service that tcpmux leads to").ready().len(),
                    loaded.outcome.errors
                ),
                (2, 0)
            );
        }
        for bad in ["redirect = 192.0.2.1 9", "flags = SENSOR", "protocol = unix\nbind = /run/s"] {
            assert_eq!(conf(&format!("{MUX}{}", muxed("a", bad))).broken(), ["a"], "{bad}");
        }
        let internal = muxed("echo", "").replace("TCPMUX", "TCPMUX INTERNAL");
        conf(&internal).mentions("`INTERNAL` and `TCPMUX` do not go together");
        assert_eq!(conf(&format!("{MUX}{}", muxed("a", "").replace("stream", "dgram"))).broken(), ["a"]);
        assert_eq!(conf(&format!("{MUX}{}", muxed("a", "").replace("= no", "= yes"))).broken(), ["a"]);
        assert_eq!(
            conf(&format!("{MUX}{}", muxed("a", "").replace("TCPMUX", "TCPMUX TCPMUXPLUS"))).broken(),
            ["a"]
        );
    }

    #[test]
    fn a_sensor_is_internal() {
        let answer = |lines: &str| plain(&format!("flags = SENSOR\n{lines}")).says(&[]).service("s").answer;
        assert_eq!(answer(""), Answer::Sensor(DenyTime::Never));
        assert_eq!(answer("deny_time = 60"), Answer::Sensor(DenyTime::Minutes(60)));
        assert_eq!(answer("deny_time = forever"), Answer::Sensor(DenyTime::Forever));
        assert_eq!(plain("flags = SENSOR\ndeny_time = soon").broken(), ["s"]);
        // xinetd needs one of these.
        let dummy = service("flags = SENSOR\ndeny_time = 5");
        dummy.says(&[
            "/x.conf:1: warning: `server` has no effect on a service with SENSOR; leave one of the two out",
        ]);
        assert_eq!(
            (dummy.ready(), dummy.service("s").answer),
            (["s".into()].into(), Answer::Sensor(DenyTime::Minutes(5)))
        );
        service("deny_time = 5").says(&["/x.conf:1: warning: `deny_time` has no effect without the flag SENSOR; leave it out, or add `flags = SENSOR`"]);
        let datagram = "service s\n{\ntype = UNLISTED INTERNAL\nport = 9\nsocket_type = dgram\nwait = yes\nflags = SENSOR\ndeny_time = FOREVER\n}\n";
        let loaded = conf(datagram);
        loaded.says(&["/x.conf:1: warning: anybody can send datagrams with any address: this sensor keeps nobody out; its clients are recorded; write `deny_time = NEVER`"]);
        assert_eq!(loaded.service("s").answer, Answer::Sensor(DenyTime::Never));
    }

    #[test]
    fn flags_about_clients() {
        assert!(service("flags = IDONLY").says(&[]).service("s").flags.has(Flags::IDONLY));
        let waits = TELNET.replace("wait = no", "wait = yes\nflags = IDONLY");
        assert_eq!(conf(&waits).broken(), ["telnet"]);
        service("flags = INTERCEPT").says(&["/x.conf:1: warning: INTERCEPT has no effect on this service; each of its clients is checked anyway: leave it out"]);
        assert_eq!(conf(&waits.replace("IDONLY", "INTERCEPT")).says(&[]).ready(), ["telnet"]);
        assert!(service("recheck = yes").says(&[]).service("s").flags.has(Flags::RECHECK));
        let defaults = |line: &str| {
            conf(&format!(
                "{}defaults\n{{\nrecheck = yes\n}}\n",
                TELNET.replace("wait", &format!("{line}\nwait"))
            ))
        };
        assert!(defaults("").says(&[]).service("telnet").flags.has(Flags::RECHECK));
        assert!(!defaults("recheck = no").says(&[]).service("telnet").flags.has(Flags::RECHECK));
    }

    #[test]
    fn how_long_who_may_stay() {
        let times = |loaded: &Loaded| {
            let s = loaded.service("s");
            (s.timeout, s.idle_timeout, s.flags.has(Flags::KEEP))
        };
        let builtin = |lines: &str| {
            conf(&format!(
                "service s\n{{\ntype = UNLISTED INTERNAL\nport = 7\nsocket_type = stream\nwait = no\n{lines}\n}}\n"
            ))
        };
        let dgram = |lines: &str| {
            conf(&format!(
                "service s\n{{\ntype = UNLISTED\nport = 69\nsocket_type = dgram\nwait = yes\nuser = bob\nserver = /bin/s\n{lines}\n}}\n"
            ))
        };
        assert_eq!(times(builtin("timeout = 3600\nidle_timeout = 60").says(&[])), (3600, 60, false));
        assert_eq!(times(builtin("timeout = UNLIMITED").says(&[])), (0, 0, false));
        plain("redirect = 192.0.2.1 80\nidle_timeout = 60").says(&[]);
        assert_eq!(times(dgram("timeout = 5\nidle_timeout = 6").says(&[])), (5, 6, false));
        let unseen = "/x.conf:1: warning: `idle_timeout` has no effect on this service; the connections that its server takes do not pass the daemon: write `timeout`";
        let stream = "service s\n{\ntype = UNLISTED\nport = 7\nsocket_type = stream\nwait = yes\nuser = bob\nserver = /s\nidle_timeout = 6\n}\n";
        assert_eq!(times(conf(stream).says(&[unseen])), (0, 0, false));
        assert_eq!(times(dgram("keep = yes").says(&[])), (0, 0, true));
        // No limit, or no time? Whoever writes it is asked.
        for zero in ["timeout = 0", "idle_timeout = 0", "timeout = 5m", "idle_timeout = -1"] {
            assert_eq!(builtin(zero).broken(), ["s"]);
        }
        service("timeout = 60").says(&[]);
        service("idle_timeout = 60").says(&["/x.conf:1: warning: `idle_timeout` has no effect on this service; what its program sends does not pass the daemon: write `timeout`, or `standby`"]);
        service("idle_timeout = UNLIMITED").says(&[]);
        dgram("idle_timeout = 60\nkeep = yes").says(&["/x.conf:1: warning: `idle_timeout` has no effect on this service; leave it out, or `keep`, by which the server stays"]);
        let kept = service("keep = yes");
        kept.says(&["/x.conf:1: warning: `keep` has no effect on this service; it is for programs with `wait = yes`: leave it out"]);
        assert!(!times(&kept).2);
        let answers = "service s\n{\ntype = UNLISTED INTERNAL\nport = 7\nsocket_type = dgram\nwait = yes\ntimeout = 5\nidle_timeout = 5\n}\n";
        conf(answers).says(&[
            "/x.conf:1: warning: `timeout` has no effect on this service; nobody stays with it: leave it out",
            "/x.conf:1: warning: `idle_timeout` has no effect on this service; nobody stays with it: leave it out",
        ]);
        // Those of `defaults` are for whom they can mean something.
        let defaults = "defaults\n{\ntimeout = 100\nidle_timeout = 10\n}\n";
        let loaded = conf(&format!("{defaults}{TELNET}"));
        let telnet = loaded.says(&[]).service("telnet");
        assert_eq!((telnet.timeout, telnet.idle_timeout), (100, 10));
        let loaded = conf(&format!("{defaults}{}", TELNET.replace("wait", "timeout = UNLIMITED\nwait")));
        assert_eq!(loaded.says(&[]).service("telnet").timeout, 0);
    }

    #[test]
    fn who_starts_before_anybody_comes() {
        let loaded = service("standby = 4\nproxy = v2\nidle_timeout = 60\nlog_on_success = TRAFFIC");
        let s = loaded.says(&[]).service("s");
        assert_eq!((s.standby, s.proxy), (4, Proxy::V2));
        plain("redirect = 192.0.2.1 80\nproxy = v1").says(&[]);
        for lines in ["standby = many", "standby = -1", "standby = 1\nproxy = 1", "standby = 65"] {
            assert_eq!(service(lines).broken(), ["s"], "{lines}");
        }
        service("standby = 65").says(&["/x.conf:1: error: no room for this many standby servers; this build holds 64 (STANDBYS); build with USHERD_STANDBYS=128 or more"]);
        service("proxy = v1").says(&["/x.conf:1: error: `proxy` needs `standby` or `redirect`; a server that is given its client's connection can ask for his address"]);
        service("standby = 1\nexpand = yes").says(&["/x.conf:1: error: `standby` and `expand` do not go together; its server is started before its client is known: leave one of the two out"]);
        let none = "/x.conf:1: warning: `standby` has no effect on this service; it is for programs with `wait = no` and a port of their own: leave it out";
        plain("redirect = 192.0.2.1 80\nstandby = 4").says(&[none]);
        let waits = conf(&TELNET.replace("wait = no", "wait = yes\nstandby = 4"));
        assert_eq!(waits.says(&[none]).service("telnet").standby, 0);
        // All together have one room; who is first has it.
        let two = TELNET.replace("wait", "standby = 40\nwait");
        let loaded = conf(&format!("{two}{}", two.replace("service telnet", "service ftp")));
        assert_eq!(loaded.ready(), ["telnet"]);
        assert_eq!(loaded.broken(), ["ftp"]);
        loaded.mentions("no room for its standby servers beside those of others");
    }

    #[test]
    fn facts_that_nobody_can_know_are_told() {
        service("log_on_success = USERID HOST\nlog_on_failure = USERID").says(&[]);
        plain("redirect = 192.0.2.1 80\nlog_on_success = TRAFFIC").says(&[]);
        service("log_on_success = TRAFFIC").says(&["/x.conf:9:18: warning: TRAFFIC is recorded of `redirect`, `standby` and of built-in stream services alone; leave it out: what a program sends does not pass the daemon"]);
        // Of `defaults` it is for the others, and xinetd's way to drop every other service.
        assert_eq!(
            conf(&format!("defaults\n{{\nlog_on_success = TRAFFIC\n}}\n{TELNET}")).says(&[]).ready(),
            ["telnet"]
        );
        conf(&TELNET.replace("wait = no", "wait = yes\nlog_on_success = USERID"))
            .mentions("USERID is recorded of connections");
    }
}

mod wrapping {
    use super::*;

    fn daemon(loaded: &Loaded, id: &str) -> Option<String> {
        let s = loaded.service(id);
        assert!(!s.daemon.is_empty());
        s.flags.has(Flags::LIBWRAP).then(|| text(loaded.table.bytes(s.daemon)))
    }

    #[test]
    fn a_daemon_has_a_name() {
        let of = |lines: &str| daemon(service(lines).says(&[]), "s");
        let prog = |name: &str| Some(String::from(name));
        assert_eq!(daemon(&conf(TELNET), "telnet"), prog("in.telnetd"));
        assert_eq!(of("server_args = /x/me -a\nflags = NAMEINARGS"), prog("me"));
        assert_eq!(of("libwrap = ftpd"), prog("ftpd"));
        assert_eq!(of("libwrap = yes"), prog("s"));
        assert_eq!(of("libwrap = no"), None);
        assert_eq!(of("flags = NOLIBWRAP"), None);
        assert_eq!(of("libwrap = no\nflags = NOLIBWRAP"), None);
        service("libwrap = ftpd\nflags = NOLIBWRAP")
            .mentions("`libwrap` has no effect with the flag NOLIBWRAP");
        assert_eq!(service("libwrap = a@b").broken(), ["s"]);
        let echo = "service echo\n{\ntype = INTERNAL\nid = e\nsocket_type = stream\nwait = no\n}\n";
        assert_eq!(daemon(&conf(echo), "e"), prog("echo"));
        assert_eq!(daemon(&conf(&echo.replace("INTERNAL", "INTERNAL\nflags = SENSOR")), "e"), prog("echo"));
    }

    #[test]
    fn rules_in_the_files_keep_nobody_from_starting() {
        let files = system().file("/etc/hosts.deny", "ALL: ALL\n").file("/x.conf", TELNET);
        assert_eq!(load(files).says(&[]).ready(), ["telnet"]);
    }

    #[test]
    fn tcpd_is_stood_in_for() {
        let loaded = inetd(
            "telnet stream tcp nowait bob /usr/sbin/tcpd in.telnetd -h\nftp stream tcp nowait root /usr/local/tcpd /opt/ftpd -l\ntftp dgram udp wait nobody tcpd in.tftpd\n",
        );
        let program = |id: &str| text(loaded.table.bytes(loaded.service(id).program));
        assert_eq!(program("telnet"), "/usr/sbin/in.telnetd");
        assert_eq!((program("ftp"), program("tftp")), ("/opt/ftpd".into(), "/usr/sbin/in.tftpd".into()));
        assert_eq!(
            (loaded.argv("telnet"), loaded.argv("ftp")),
            (["in.telnetd", "-h"].map(String::from).into(), ["/opt/ftpd", "-l"].map(String::from).into())
        );
        let names = ["telnet", "ftp", "tftp"].map(|id| daemon(&loaded, id).unwrap());
        assert_eq!(names, ["in.telnetd", "ftpd", "in.tftpd"]);
        let s = loaded.service("telnet");
        assert_eq!(s.log_on_success, LogFields(LogFields::PID.0 | LogFields::HOST.0));
        assert_eq!(s.log_on_failure, LogFields(LogFields::HOST.0 | LogFields::ATTEMPT.0));
        assert!(loaded.table.c_bytes(s.program).ends_with(b"in.telnetd\0"));
        let files =
            Tree::default().file("/x.conf", "telnet stream tcp nowait root /usr/sbin/tcpd in.telnetd\n");
        load(files).says(&["/x.conf:1:46: warning: cannot execute this now: No such file or directory (errno = 2); install the program, or make the line a comment"]);
        inetd("telnet stream tcp nowait root /usr/sbin/tcpd tcpd\n").says(&["/x.conf:1:46: error: tcpd has no program behind it and would start itself for ever; write the program behind it, as in `/usr/sbin/tcpd in.telnetd`"]);
    }

    #[test]
    fn tcpd_is_stood_in_for_in_xinetd_conf_too() {
        let tcpd =
            |lines: &str| conf(&TELNET.replace("/sbin/in.telnetd", &format!("/usr/sbin/tcpd\n{lines}")));
        let loaded = tcpd("flags = NAMEINARGS NOLIBWRAP\nserver_args = in.telnetd -h\nlog_on_success = HOST");
        let s = loaded.says(&[]).service("telnet");
        assert_eq!(loaded.table.bytes(s.program), b"/usr/sbin/in.telnetd");
        assert_eq!(loaded.argv("telnet"), ["in.telnetd", "-h"]);
        assert_eq!(daemon(&loaded, "telnet").as_deref(), Some("in.telnetd"));
        assert_eq!((s.log_on_success, s.log_on_failure.has(LogFields::HOST)), (LogFields::HOST, true));
        // So it stands in files, and never worked.
        let loaded = tcpd("server_args = /usr/sbin/talkd");
        loaded.says(&["/x.conf:1: warning: without the flag NAMEINARGS tcpd would start itself for ever; taken as if it were there; add `flags = NAMEINARGS`"]);
        assert_eq!(
            (loaded.argv("telnet"), loaded.ready()),
            (["/usr/sbin/talkd".into()].into(), ["telnet".into()].into())
        );
        assert_eq!(tcpd("").broken(), ["telnet"]);
        assert_eq!(tcpd("flags = NAMEINARGS\nserver_args = /usr/sbin/tcpd in.telnetd").broken(), ["telnet"]);
        // It need not be installed, what is behind it must be.
        let text =
            TELNET.replace("/sbin/in.telnetd", "/usr/sbin/tcpd\nflags = NAMEINARGS\nserver_args = /bin/t");
        assert_eq!(
            load(Tree::default().program("/bin/t").file("/x.conf", &text)).says(&[]).ready(),
            ["telnet"]
        );
        load(Tree::default().file("/x.conf", &text)).says(&["/x.conf:1: error: cannot execute /bin/t: No such file or directory (errno = 2); install the program, or write `disable = yes`"]);
    }

    #[test]
    fn inetd_conf_is_wrapped_where_the_command_line_says_so() {
        let text = "telnet stream tcp nowait root /sbin/in.telnetd t\nhttp stream tcp wait root /w w\ntftp dgram udp wait root /t t\necho stream tcp nowait root internal\n/run/s stream unix nowait root /u u\n";
        let wrapped = |options: Options<'_>| {
            let options = Options { dialect: Some(Dialect::Inetd), ..options };
            let loaded = load_with(system().file("/x.conf", text), "/x.conf", &options);
            let mut names: Vec<String> = ["telnet", "http", "tftp", "echo", "/run/s"]
                .iter()
                .filter_map(|id| daemon(&loaded, id))
                .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(wrapped(Options::default()), "");
        assert_eq!(wrapped(Options { wrap_external: true, ..Options::default() }), "in.telnetd t");
        assert_eq!(wrapped(Options { wrap_internal: true, ..Options::default() }), "echo");
        assert_eq!(wrapped(Options { wrap_streams: true, ..Options::default() }), "in.telnetd u");
    }
}

mod includes {
    use super::*;

    #[test]
    fn a_directory_is_read_in_byte_order_and_says_what_it_skips() {
        let named = |name: &str| TELNET.replace("wait", &format!("id = {name}\nbind = 127.0.0.1\nwait"));
        let files = system()
            .file("/x.conf", "defaults\n{\nenabled = b A a\n}\nincludedir /d\nservice ftp\n{\nid = z\nsocket_type = stream\nwait = no\nuser = root\nserver = /f\n}\n")
            .file("/d/b", named("b"))
            .file("/d/A", named("A").replace("127.0.0.1", "127.0.0.2"))
            .file("/d/telnet.conf", "rubbish")
            .file("/d/old~", "rubbish")
            .file("/d/x.rpmsave", "rubbish")
            .file("/d/.hid", "rubbish")
            .file("/d/sub/f", "rubbish");
        let loaded = load(files);
        loaded.says(&[
            "/x.conf:5: warning: /d/sub is skipped: it is no regular file; move it elsewhere",
            "/x.conf:5: warning: /d/telnet.conf is skipped, as in xinetd: its name has a dot in it; rename it if it is meant to be read",
            // Ids compare without case, as in xinetd; z is known but not enabled.
        ]);
        assert_eq!(loaded.ready(), ["A", "b"]);
        assert!(loaded.outcome.complete);
    }

    #[test]
    fn what_is_behind_an_include_is_read_too() {
        let files = system()
            .file("/etc/x.conf", format!("include y\n{TELNET}include /etc/z\n"))
            .file("/etc/y", TELNET.replace("telnet", "ftp"))
            .file("/etc/z", TELNET.replace("telnet", "http"));
        let loaded = load_with(files, "/etc/x.conf", &Options::default());
        assert_eq!(loaded.says(&[]).ready(), ["ftp", "telnet", "http"]);
        assert_eq!(text(loaded.table.bytes(loaded.service("ftp").file)), "/etc/y");
    }

    #[test]
    fn what_cannot_be_included_is_missing() {
        let loaded = conf(&format!("include /none\nincludedir /nodir\n{TELNET}"));
        loaded.says(&[
            "/x.conf:1:9: error: cannot read /none: No such file or directory (errno = 2); create it, or leave this line out",
            "/x.conf:2: error: cannot read directory /nodir: No such file or directory (errno = 2); create it, or leave this line out",
        ]);
        assert_eq!(loaded.ready(), ["telnet"]);
        assert!(loaded.outcome.usable && !loaded.outcome.complete);
        let loaded = load(system());
        assert!(!loaded.outcome.usable && !loaded.outcome.complete);
        loaded.says(&["/x.conf: error: cannot read the file: No such file or directory (errno = 2); see whether the path is right and may be read"]);
    }

    #[test]
    fn circles_and_depths_end() {
        let files = system().file("/x.conf", "include /y\n").file("/y", format!("include /x.conf\n{TELNET}"));
        let loaded = load(files);
        loaded.mentions("/y:1:9: error: /x.conf is included by itself");
        assert_eq!(loaded.ready(), ["telnet"]);
        let mut files = system().file("/x.conf", "include /0\n");
        for n in 0..20 {
            files = files.file(&format!("/{n}"), format!("include /{}\n", n + 1));
        }
        load(files).mentions("files and directories inside each other");
    }
}

mod inetd_conf {
    use super::*;

    #[test]
    fn records_become_services() {
        let loaded = inetd(
            "telnet stream tcp nowait bob /sbin/tcpd in.telnetd -h\n8080 stream tcp4 nowait.5 root /bin/web\ntftp dgram udp wait nobody /t t\necho dgram udp wait root internal\n",
        );
        loaded.says(&[]);
        let telnet = loaded.service("telnet");
        assert_eq!(
            (telnet.port, telnet.family, telnet.per_minute, telnet.dialect),
            (23, Family::Dual, Some(256), Dialect::Inetd)
        );
        assert_eq!(loaded.argv("telnet"), ["in.telnetd", "-h"]);
        assert_eq!(loaded.table.gids(telnet.identity.groups), [1001, 100, 10]);
        let web = loaded.service("8080");
        assert_eq!(
            (web.port, web.family, web.per_minute, web.identity.uid),
            (8080, Family::V4, Some(5), None)
        );
        assert_eq!(loaded.argv("8080"), ["web"]);
        assert!(loaded.service("tftp").waits());
        assert_eq!(loaded.service("echo").builtin(), Some(crate::service::Builtin::Echo));
    }

    #[test]
    fn accounts_in_all_their_forms() {
        let ids = |user: &str| {
            let loaded = inetd(&format!("telnet stream tcp nowait {user} /t t\n"));
            let s = loaded.service("telnet");
            (s.standing == Standing::Ready).then_some((s.identity.uid, s.identity.gid))
        };
        assert_eq!(ids("bob"), Some((Some(1000), Some(1001))));
        assert_eq!(ids("bob:wheel"), Some((Some(1000), Some(10))));
        assert_eq!(ids("bob.wheel"), Some((Some(1000), Some(10))));
        assert_eq!(ids("j.doe"), Some((Some(7), Some(8))));
        assert_eq!(ids("root"), Some((None, None)));
        assert_eq!(ids("root:wheel"), Some((Some(0), Some(10))));
        assert_eq!(ids("eve"), None);
        assert_eq!(ids("bob.evil"), None);
        assert_eq!(ids("bob/daemon"), None);
    }

    #[test]
    fn addresses_make_sockets() {
        let loaded = inetd(
            "127.0.0.1,mgmt:telnet stream tcp nowait root /t t\n10.0.0.6:\nftp stream tcp nowait root /f f\n*:http stream tcp nowait root /h h\n*:\nwww stream tcp6 nowait root /h h\n",
        );
        let binds: Vec<_> = loaded.says(&[]).table.services().iter().map(|s| (s.bind, s.family)).collect();
        let at = |a: &str, family| (Bind::Address(a.parse().unwrap()), family);
        assert_eq!(
            binds,
            [
                at("127.0.0.1", Family::V4),
                at("10.0.0.5", Family::V4),
                at("fd00::5", Family::V6),
                at("10.0.0.6", Family::V4),
                (Bind::Everywhere, Family::V4),
                (Bind::Everywhere, Family::V6),
            ]
        );
    }

    #[test]
    fn a_part_that_does_not_resolve_is_left_out() {
        let loaded = inetd("127.0.0.1,10.157.x.x:\nftp stream tcp nowait root /f f\n");
        loaded.says(&["/x.conf:1:11: error: `10.157.x.x` is not in the hosts file, and names are not looked up elsewhere; write its address"]);
        assert_eq!((loaded.ready().len(), loaded.broken().len()), (1, 1));
    }

    #[test]
    fn a_default_line_that_is_wrong_opens_nothing() {
        for line in ["127.0.0.1,,::1:", "1.2.3.4.5,:", "fe80::1%eth0:"] {
            let loaded = inetd(&format!("{line}\nftp stream tcp nowait root /f f\n"));
            assert!(loaded.ready().is_empty() && loaded.outcome.errors > 0, "{line} {:?}", loaded.said);
        }
    }

    #[test]
    fn twins_and_repetitions() {
        let loaded = inetd("ftp stream tcp nowait root /a a\nftp stream tcp6 nowait root /b b\n");
        let families: Vec<_> = loaded.says(&[]).table.services().iter().map(|s| s.family).collect();
        assert_eq!(families, [Family::V4, Family::V6]);
        let loaded = inetd("ftp stream tcp nowait root /a a\nftp stream tcp nowait root /b b\n");
        loaded.says(&[
            "/x.conf:2: warning: the entry for ftp replaces that of /x.conf:1; leave one of the two out",
        ]);
        assert_eq!((loaded.ready().len(), loaded.argv("ftp")), (1, ["b".into()].into()));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for line in [
            "rstatd/1-3 dgram rpc/udp wait root /r r",
            "tcpmux/+x stream tcp wait root /x x",
            "tcpmux/echo stream tcp nowait root internal",
            "telnet2 stream tcp nowait root /usr/sbin/tcpd",
            "ftp raw tcp nowait root /f f",
            "nosuch stream tcp nowait root /f f",
            "ftp stream tcp maybe root /f f",
            "ftp stream tcp nowait root",
            "ftp stream tcp nowait root internal",
        ] {
            let loaded = inetd(&format!("{line}\ntelnet stream tcp nowait root /t t\n"));
            assert!(loaded.outcome.errors > 0, "{line}");
            assert_eq!((loaded.ready(), loaded.broken().len()), (["telnet".into()].into(), 1), "{line}");
        }
    }

    #[test]
    fn tcpmux_entries() {
        let loaded = inetd(
            "tcpmux stream tcp nowait root internal\n127.0.0.1:\ntcpmux/+sftp stream tcp nowait bob /s s\ntcpmux/ftp stream tcp nowait root /f f\nftp stream tcp nowait root /f f\n",
        );
        assert_eq!(
            loaded.says(&[]).ready(),
            ["tcpmux", "tcpmux/+sftp", "tcpmux/ftp", "ftp"].map(|id| id.replace('+', ""))
        );
        let (mux, sftp) = (loaded.service("tcpmux"), loaded.service("tcpmux/sftp"));
        assert_eq!(
            (mux.answer, mux.port, loaded.table.bytes(sftp.name)),
            (Answer::Tcpmux, 1, b"sftp".as_slice())
        );
        assert!(sftp.flags.has(Flags::MUX.with(Flags::MUX_PLUS)) && sftp.bind == Bind::Everywhere);
        assert!(!loaded.service("tcpmux/ftp").flags.has(Flags::MUX_PLUS));
        inetd("tcpmux/ftp stream tcp nowait root /f f\n").says(&["/x.conf:1: warning: nobody can reach tcpmux/ftp: there is no tcpmux; add the line `tcpmux stream tcp nowait root internal`"]);
        let loaded = inetd(
            "tcpmux stream tcp nowait root internal\ntcpmux/a stream tcp nowait root /a a\ntcpmux/+A stream tcp nowait root /b b\n",
        );
        loaded.says(&[
            "/x.conf:3: warning: the entry for tcpmux/a replaces that of /x.conf:2; leave one of the two out",
        ]);
        assert_eq!(loaded.argv("tcpmux/A"), ["b"]);
    }

    #[test]
    fn a_missing_program_is_a_warning() {
        let files = Tree::default().file("/x.conf", "telnet stream tcp nowait root /none t\n");
        let loaded = load(files);
        assert_eq!(loaded.ready(), ["telnet"]);
        loaded.says(&["/x.conf:1:31: warning: cannot execute this now: No such file or directory (errno = 2); install the program, or make the line a comment"]);
    }

    #[test]
    fn continuations_and_includes() {
        let files = system()
            .file("/etc/i.conf", "127.0.0.1:\nftp stream tcp nowait\n\troot /f f -a\n.include \"inetd.d/*\"\ntelnet stream tcp nowait root /t t\n")
            .file("/etc/inetd.d/web", "*:http stream tcp nowait root /w w\n10.0.0.5:\n")
            .file("/etc/inetd.d/.hid", "rubbish");
        let loaded =
            load_with(files, "/etc/i.conf", &Options { dialect: Some(Dialect::Inetd), ..Options::default() });
        assert_eq!(loaded.says(&[]).ready(), ["ftp", "http", "telnet"]);
        assert_eq!(loaded.argv("ftp"), ["f", "-a"]);
        // An included file does not change the includer's default.
        assert_eq!(loaded.service("telnet").bind, Bind::Address("127.0.0.1".parse().unwrap()));
        assert_eq!(loaded.service("telnet").line, 5);
    }

    #[test]
    fn beside_xinetd_conf_it_gets_the_defaults_too() {
        let files = system()
            .file(
                "/x.conf",
                format!("defaults\n{{\ninstances = 3\nbind = 127.0.0.1\nonly_from = 10.0.0.0\n}}\n{TELNET}"),
            )
            .file("/etc/inetd.conf", "ftp stream tcp nowait root /f f\ntelnet stream tcp nowait root /t t\n");
        let loaded =
            load_with(files, "/x.conf", &Options { also: Some(b"/etc/inetd.conf"), ..Options::default() });
        assert_eq!(loaded.service("ftp").instances, Some(3));
        assert!(loaded.service("ftp").flags.has(Flags::ONLY_FROM));
        assert_eq!(loaded.only_from("ftp"), ["10.0.0.0/8"]);
        assert_eq!(loaded.service("ftp").bind, Bind::Address("127.0.0.1".parse().unwrap()));
        loaded.says(&["/etc/inetd.conf:2: error: it would listen where telnet of /x.conf:7 does; give it another port or `bind`, or disable one of the two"]);
    }
}

mod other_sources {
    use super::*;

    #[test]
    fn the_built_in_table_needs_nothing() {
        let mut table = Box::new(Table::new());
        let mut said = Vec::new();
        let outcome = Loader::new().load_text(
            &mut Tree::default(),
            &mut |d: &Diagnostic<'_>| said.push(d.to_string()),
            &mut table,
            (BUILTIN_NAME, BUILTIN),
            &Options::default(),
        );
        assert_eq!((said, outcome.usable, outcome.complete), ([].into(), true, true));
        assert_eq!(table.services().len(), 10);
        for s in table.services() {
            assert_eq!((s.standing, s.bind), (Standing::Ready, Bind::Address("127.0.0.1".parse().unwrap())));
            assert_eq!(s.port, s.builtin().unwrap().port() + 10000);
            assert!(!s.log_on_success.is_empty());
        }
    }

    fn words(words: &[&str]) -> Loaded {
        let mut table = Box::new(Table::new());
        let mut said = Vec::new();
        let outcome = Loader::new().load_words(
            &mut system(),
            &mut |d: &Diagnostic<'_>| said.push(d.to_string()),
            &mut table,
            words.iter().map(|w| w.as_bytes()),
            &Options::default(),
        );
        Loaded { table, said, outcome }
    }

    #[test]
    fn a_command_line_is_a_service() {
        let loaded =
            words(&["port=8080", "server=/bin/cat", "server_args=-u \"a b\"", "only_from=127.0.0.1"]);
        let s = loaded.says(&[]).service("cat");
        assert_eq!((s.port, s.standing, s.identity.uid), (8080, Standing::Ready, None));
        assert_eq!(loaded.argv("cat"), ["cat", "-u", "a b"]);
        let loaded = words(&[
            "service=a",
            "port=1",
            "server=/a",
            "env=A=b",
            "service=b",
            "port=2",
            "server=/b",
            "protocol=udp",
        ]);
        assert_eq!(loaded.says(&[]).ready(), ["a", "b"]);
        assert_eq!(loaded.words(loaded.service("a").env), ["A=b"]);
        assert!(loaded.words(loaded.service("b").env).is_empty() && loaded.service("b").waits());
    }

    #[test]
    fn a_program_and_its_arguments_need_no_quotes() {
        let loaded = words(&[
            "port=9000",
            "bind=127.0.0.1",
            "--",
            "/bin/sh",
            "-c",
            "read x; echo \"# $x\"",
            "service=x",
        ]);
        assert_eq!(loaded.says(&[]).argv("sh"), ["sh", "-c", "read x; echo \"# $x\"", "service=x"]);
        assert_eq!(loaded.ready(), ["sh"]);
        assert_eq!(
            words(&["service=echo", "type=INTERNAL", "port=7007"]).says(&[]).service("echo").port,
            7007
        );
    }

    #[test]
    fn its_mistakes_are_told_by_word() {
        let loaded = words(&["port=80x", "server=/bin/cat", "nonsense"]);
        loaded.says(&[
            "command line:1:6: error: `80x` is no value of `port`; write `port = 0 to 65535`",
            "command line:3: error: `nonsense` is no assignment; write `ATTRIBUTE=VALUE`",
        ]);
        assert_eq!(loaded.broken(), ["cat"]);
    }

    #[test]
    fn the_grammar_is_told_by_content() {
        let dialect = |text: &str| {
            let loaded = load(system().file("/x.conf", text));
            loaded.table.services().first().map(|s| s.dialect)
        };
        assert_eq!(dialect(&format!("# x\n\n{TELNET}")), Some(Dialect::Xinetd));
        assert_eq!(dialect(&format!("rubbish\n{TELNET}")), Some(Dialect::Xinetd));
        assert_eq!(dialect("# x\nftp stream tcp nowait root /f f\n"), Some(Dialect::Inetd));
        assert!(load(system().file("/x.conf", "# nothing\n")).says(&[]).outcome.complete);
    }
}

mod capacities {
    use super::*;
    use crate::capacity::SERVICES;

    #[test]
    fn what_does_not_fit_is_said_with_the_capacity_to_raise() {
        let mut text = String::new();
        for n in 0..SERVICES + 2 {
            text += &format!("{} stream tcp nowait root /f f\n", 1000 + n);
        }
        let loaded = inetd(&text);
        assert_eq!((loaded.outcome.errors, loaded.outcome.complete), (2, false));
        loaded.mentions(&format!(
            "no room for another service; this build holds {SERVICES} (SERVICES); build with USHERD_SERVICES="
        ));
        let args = "a ".repeat(crate::capacity::DRAFT_WORDS + 1);
        service(&format!("server_args = {args}")).mentions("USHERD_DRAFT_WORDS");
        let from = "10.0.0.1 ".repeat(crate::capacity::DRAFT_RULES + 1);
        let loaded = service(&format!("only_from = {from}"));
        loaded.mentions("USHERD_DRAFT_RULES");
        assert_eq!(loaded.broken(), ["s"]);
        let mut text = String::new();
        for n in 0..60 {
            text += &TELNET.replace("telnet\n", &format!("s{n}\n")).replace(
                "wait",
                &format!("type = UNLISTED\nport = {}\nserver_args = {}\nwait", n + 1, "x".repeat(1000)),
            );
        }
        let loaded = conf(&text);
        loaded.mentions("USHERD_TEXT_BYTES");
        assert!(!loaded.broken().is_empty() || !loaded.outcome.complete);
    }
}

mod storms {
    use super::*;

    /// xorshift64*: the same seed gives the same storm.
    struct Random(u64);

    impl Random {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
        }
    }

    const SEED: u64 = 0x5eed;

    #[test]
    fn a_restriction_with_a_spoilt_value_never_goes_away() {
        const RESTRICTIONS: [&str; 12] = [
            "only_from = 10.0.0.1 127.0.0.0/8",
            "no_access = 10.0.0.7",
            "access_times = 2:00-3:00",
            "instances = 5",
            "per_source = 2",
            "max_load = 2.5",
            "bind = 127.0.0.1",
            "umask = 077",
            "rlimit_as = 8M",
            "nice = 10",
            "user = bob",
            "passenv = PATH",
        ];
        const JUNK: &[u8] = b"#\"'{},./:-+= \t\r\0x9%\xff";
        let mut random = Random(SEED);
        for round in 0..3000 {
            let mut text = Vec::from(
                "service s\n{\ntype = UNLISTED\nport = 9\nsocket_type = stream\nwait = no\nserver = /s\n"
                    .as_bytes(),
            );
            for restriction in RESTRICTIONS {
                let mut line = restriction.as_bytes().to_vec();
                let value = restriction.find('=').unwrap() + 1;
                for _ in 0..usize::from(random.next(4) == 0) * (1 + random.next(3)) {
                    let at = value + random.next(line.len() - value + 1);
                    match random.next(3) {
                        0 if at < line.len() => drop(line.remove(at)),
                        1 if at < line.len() => line[at] = JUNK[random.next(JUNK.len())],
                        _ => line.insert(at, JUNK[random.next(JUNK.len())]),
                    }
                }
                text.extend(line);
                text.push(b'\n');
            }
            text.extend(b"}\n");
            let loaded = load(system().file("/x.conf", &text));
            let shown = String::from_utf8_lossy(&text);
            if loaded.ready().is_empty() {
                assert!(loaded.outcome.errors > 0, "seed {SEED} round {round}\n{shown}");
                continue;
            }
            let s = loaded.service("s");
            let kept = s.flags.has(Flags::ONLY_FROM)
                && s.flags.has(Flags::PASSENV)
                && !s.access_times.is_empty()
                && s.instances.is_some()
                && s.per_source.is_some()
                && s.max_load.is_some()
                && s.bind != Bind::Everywhere
                && s.umask.is_some()
                && s.nice.is_some()
                && s.rlimits[0] != Limit::Unlimited
                && s.identity.uid.is_some();
            assert!(kept, "seed {SEED} round {round}: {s:?}\n{shown}");
        }
    }

    #[test]
    fn soup_of_tokens_is_survived() {
        const TOKENS: [&str; 40] = [
            "service",
            "defaults",
            "include",
            "includedir",
            "{",
            "}",
            "=",
            "+=",
            "-=",
            "\n",
            "\n",
            "\n",
            " ",
            "\t",
            "#",
            "\"",
            "\\",
            "\0",
            "\r",
            "\u{feff}",
            "telnet",
            "/x.conf",
            "/etc",
            "disable",
            "yes",
            "only_from",
            "10.0.0.{1,2}",
            "flags",
            "IPv4",
            "log_type",
            "FILE",
            "stream",
            "tcp6",
            "nowait.4",
            "root:x",
            "internal",
            ".include",
            "a,b::",
            "9",
            "enabled",
        ];
        let mut random = Random(SEED);
        let mut loader = Box::new(Loader::new());
        let mut table = Box::new(Table::new());
        for round in 0..4000 {
            let mut text = String::new();
            for _ in 0..random.next(60) {
                text += TOKENS[random.next(TOKENS.len())];
                text += ["", " "][random.next(2)];
            }
            let dialect = [None, Some(Dialect::Xinetd), Some(Dialect::Inetd)][random.next(3)];
            let mut files = system().file("/x.conf", &text);
            let mut said = Vec::new();
            let outcome = loader.load(
                &mut files,
                &mut |d: &Diagnostic<'_>| said.push(d.to_string()),
                &mut table,
                b"/x.conf",
                &Options { dialect, notes: true, ..Options::default() },
            );
            assert_eq!(said.len() as u32, outcome.errors + outcome.warnings);
            let broken = table.services().iter().any(|s| s.standing == Standing::Broken);
            let off = text.contains("disable") || text.contains("enabled");
            assert!(
                outcome.errors == 0 || broken || off || !outcome.usable || !outcome.complete,
                "seed {SEED} round {round}: {said:?}\n{text}"
            );
        }
    }
}
