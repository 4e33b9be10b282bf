//! One configuration, several daemons, the same result.
//!
//! Each row of a table is a test. It is run under every daemon that reads the file's grammar, must show the lines
//! that the row expects, and usherd's transcript must equal that of the daemon it replaces, but for the differences
//! on purpose in [`DIFFERENCES`].

use crate::harness::*;
use std::io::{Read, Write};
use std::net::TcpListener;

/// Where usherd differs on purpose, and why.
const DIFFERENCES: &[Difference] = &[
    Difference {
        rows: &["inetd::dgram_wait_udp6", "inetd::dgram_wait_udp_from_v6"],
        line: "v6only 0",
        becomes: "v6only 1",
        of: Subject::OpenbsdInetd,
        why: "an IPv6 socket beside an IPv4 one takes IPv6 alone, for udp as for tcp",
    },
    Difference {
        rows: &["inetd::nowait_max_reached"],
        line: "served 3",
        becomes: "served 4",
        of: Subject::OpenbsdInetd,
        why: "nowait.4 means four, not three",
    },
    Difference {
        rows: &["inetd::tcp_from_v6"],
        line: "v6only 1",
        becomes: "v6only 0",
        of: Subject::OpenbsdInetd,
        why: "one socket for both families where the server gets a connection and cannot tell",
    },
    Difference {
        rows: &["inetd::quoted_argument"],
        line: "env ",
        becomes: "",
        of: Subject::InetutilsInetd,
        why: "the environment of services of inetd.conf is cleaned, as by OpenBSD's inetd",
    },
    Difference {
        rows: &["inetd::quoted_argument"],
        line: "env ",
        becomes: "",
        of: Subject::Usherd,
        why: "the environment of services of inetd.conf is cleaned, as by OpenBSD's inetd",
    },
    Difference {
        rows: &["inetd::quoted_argument"],
        line: "umask 002",
        becomes: "umask 022",
        of: Subject::InetutilsInetd,
        why: "nobody else may write what a server writes unless the file says so",
    },
    Difference {
        rows: &["inetd::quoted_argument"],
        line: "ignored 0000000000001000",
        becomes: "ignored 0000000000000000",
        of: Subject::InetutilsInetd,
        why: "servers have the default action for every signal, SIGPIPE too",
    },
    Difference {
        rows: &["*"],
        line: "env REMOTE_HOST=::ffff:",
        becomes: "env REMOTE_HOST=",
        of: Subject::Xinetd,
        why: "an IPv4 client has an IPv4 address, whatever socket it came through",
    },
    Difference {
        rows: &["*"],
        line: "env REMOTE_HOST=<no address>",
        becomes: "",
        of: Subject::Xinetd,
        why: "a variable without a value helps nobody: the server accepts its clients itself",
    },
    Difference {
        rows: &["inetd::*"],
        line: "env REMOTE_HOST=",
        becomes: "",
        of: Subject::Usherd,
        why: "xinetd's variable, for services of inetd.conf too",
    },
    Difference {
        rows: &["*"],
        line: "env REMOTE_PORT=",
        becomes: "",
        of: Subject::Usherd,
        why: "asked for by xinetd's users for years",
    },
    Difference {
        rows: &["*"],
        line: "env PROTO=",
        becomes: "",
        of: Subject::Usherd,
        why: "the names that tcpserver and inetutils gave them",
    },
    Difference {
        rows: &["*"],
        line: "env TCP",
        becomes: "",
        of: Subject::Usherd,
        why: "the names that tcpserver and inetutils gave them",
    },
    Difference {
        rows: &["*"],
        line: "env UDP",
        becomes: "",
        of: Subject::Usherd,
        why: "the same for datagrams",
    },
    Difference {
        rows: &["xinetd::nice_minus_as_nobody"],
        line: "nice 0",
        becomes: "nice -5",
        of: Subject::Xinetd,
        why: "set while still privileged, so that it has an effect",
    },
    Difference {
        rows: &["xinetd::rlimit_files_above_hard_limit"],
        line: "rlimit nofile 256 1024",
        becomes: "rlimit nofile 1024 1024",
        of: Subject::Xinetd,
        why: "as much of it as the daemon may give",
    },
    Difference {
        rows: &["xinetd::log_of_refused_address"],
        line: "log START",
        becomes: "",
        of: Subject::Xinetd,
        why: "the address is checked before a child exists",
    },
    Difference {
        rows: &["xinetd::log_of_refused_address"],
        line: "log EXIT",
        becomes: "",
        of: Subject::Xinetd,
        why: "the address is checked before a child exists",
    },
    Difference {
        rows: &["xinetd::log_of_a_server"],
        line: "log EXIT: probe status=3 pid=N duration=N(sec)",
        becomes: "log EXIT: probe status=3 pid=N duration=N(sec) from=127.0.0.1",
        of: Subject::Xinetd,
        why: "who it was is the question that the log is read for",
    },
    Difference {
        rows: &["xinetd::log_of_a_server"],
        line: "log START: probe pid=N from=::ffff:",
        becomes: "log START: probe pid=N from=",
        of: Subject::Xinetd,
        why: "an IPv4 client has an IPv4 address, whatever socket it came through",
    },
    // only_from and no_access
    Difference {
        rows: &["xinetd::access_lists_overlap"],
        line: "127.0.1.5 out",
        becomes: "127.0.1.5 in",
        of: Subject::Xinetd,
        why: "of two lists that match the more specific one counts, as xinetd.conf(5) says",
    },
    Difference {
        rows: &["xinetd::access_lists_overlap_v6"],
        line: "fd00::5 out",
        becomes: "fd00::5 in",
        of: Subject::Xinetd,
        why: "of two lists that match the more specific one counts, as xinetd.conf(5) says",
    },
    Difference {
        rows: &["xinetd::access_mapped_v4_socket"],
        line: "127.0.0.2 out",
        becomes: "127.0.0.2 in",
        of: Subject::Xinetd,
        why: "an IPv4 client has an IPv4 address, whatever socket it came through",
    },
    Difference {
        rows: &["xinetd::access_name"],
        line: "127.0.0.1 out",
        becomes: "127.0.0.1 in",
        of: Subject::Xinetd,
        why: "the name of an IPv4 client does not depend on the socket it came through: xinetd looks up ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_domain"],
        line: "127.0.0.2 out",
        becomes: "127.0.0.2 in",
        of: Subject::Xinetd,
        why: "the name of an IPv4 client does not depend on the socket it came through: xinetd looks up ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_name_no_access"],
        line: "127.0.0.1 in",
        becomes: "127.0.0.1 out",
        of: Subject::Xinetd,
        why: "the name of an IPv4 client does not depend on the socket it came through: xinetd looks up ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_name_no_access"],
        line: "127.0.0.2 in",
        becomes: "127.0.0.2 out",
        of: Subject::Xinetd,
        why: "the name of an IPv4 client does not depend on the socket it came through: xinetd looks up ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_name_alias"],
        line: "127.0.0.2 out",
        becomes: "127.0.0.2 in",
        of: Subject::Xinetd,
        why: "a name of /etc/hosts is its addresses there, also if it is not the first of its line",
    },
    Difference {
        rows: &["xinetd::access_domain_no_access"],
        line: "127.0.1.5 in",
        becomes: "127.0.1.5 out",
        of: Subject::Xinetd,
        why: "a client without a name may be one of that domain, and nobody comes in by having none",
    },
    Difference {
        rows: &["xinetd::access_domain_no_access"],
        line: "127.0.2.9 in",
        becomes: "127.0.2.9 out",
        of: Subject::Xinetd,
        why: "a client without a name may be one of that domain, and nobody comes in by having none",
    },
    Difference {
        rows: &["xinetd::access_domain_no_access"],
        line: "127.9.0.1 in",
        becomes: "127.9.0.1 out",
        of: Subject::Xinetd,
        why: "a client without a name may be one of that domain, and nobody comes in by having none",
    },
    Difference {
        rows: &["xinetd::access_v6_128"],
        line: "::1 out",
        becomes: "::1 in",
        of: Subject::Xinetd,
        why: "all 128 bits are the address: xinetd takes it for a name",
    },
    Difference {
        rows: &["xinetd::access_v6_everybody"],
        line: "127.0.0.1 out",
        becomes: "127.0.0.1 in",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_zero_prefix"],
        line: "127.0.0.1 in",
        becomes: "127.0.0.1 out",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_everybody"],
        line: "127.0.0.2 out",
        becomes: "127.0.0.2 in",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_zero_prefix"],
        line: "127.0.0.2 in",
        becomes: "127.0.0.2 out",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_everybody"],
        line: "127.0.1.5 out",
        becomes: "127.0.1.5 in",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_zero_prefix"],
        line: "127.0.1.5 in",
        becomes: "127.0.1.5 out",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_everybody"],
        line: "127.0.2.9 out",
        becomes: "127.0.2.9 in",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_zero_prefix"],
        line: "127.0.2.9 in",
        becomes: "127.0.2.9 out",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_everybody"],
        line: "127.9.0.1 out",
        becomes: "127.9.0.1 in",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_v6_zero_prefix"],
        line: "127.9.0.1 in",
        becomes: "127.9.0.1 out",
        of: Subject::Xinetd,
        why: "an IPv6 network has no IPv4 clients: xinetd compares ::ffff:127.0.0.1",
    },
    Difference {
        rows: &["xinetd::access_taken_back_host_bits"],
        line: "127.0.1.5 in",
        becomes: "127.0.1.5 out",
        of: Subject::Xinetd,
        why: "127.0.1.77/24 is 127.0.1.0/24, also where it is taken away",
    },
    Difference {
        rows: &["xinetd::access_taken_back_address_of_name"],
        line: "127.0.0.1 in",
        becomes: "127.0.0.1 out",
        of: Subject::Xinetd,
        why: "a name of /etc/hosts is its addresses, also where they are taken away",
    },
    // inetd.conf
    Difference {
        rows: &["*"],
        line: "env inetd_dummy=",
        becomes: "",
        of: Subject::OpenbsdInetd,
        why: "padding for its process title, of no use to a server",
    },
    Difference {
        rows: &["inetd::*"],
        line: "env PATH=",
        becomes: "",
        of: Subject::Usherd,
        why: "openbsd removes by name what the shell that started it may have set; ours hands on the same in both grammars",
    },
    Difference {
        rows: &["inetd::*"],
        line: "env HOME=",
        becomes: "",
        of: Subject::Usherd,
        why: "as for PATH",
    },
    Difference {
        rows: &["inetd::carriage_returns"],
        line: "argv 1 a\\r",
        becomes: "argv 1 a",
        of: Subject::OpenbsdInetd,
        why: "the end of a line is no part of an argument, however it is written",
    },
];

/// What usherd does not do yet: such a service is kept from starting, and says why, rather than run without what its
/// file asks for. Rows end in `*` where all that begin so are meant.
const KEPT_FROM_STARTING: &[(&str, &str)] = &[
    // The family finds out at each connection.
    ("inetd::unknown_user", "no user `nosuchuser`"),
];

/// Waits a while until nobody holds the port any more: a wait server that one daemon leaves behind would be asked in
/// place of the next one's. One that stays for good is the row's affair.
fn gone(port: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while is_open(port) && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Whether usherd is right not to start this row's service; if so, that it does not, and says why.
fn is_kept_from_starting(row: &str, subject: Subject, net: &Net, conf: Conf, port: &str) -> bool {
    let meant = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => row.starts_with(start),
        None => row == pattern,
    };
    let Some((_, why)) = KEPT_FROM_STARTING.iter().find(|(pattern, _)| meant(pattern)) else {
        return false;
    };
    if subject != Subject::Usherd {
        return false;
    }
    let daemon = Daemon::start(net, subject, conf);
    daemon.wait_log("Started working: 0 available services");
    daemon.wait_log(why);
    assert!(!is_open(port), "{row}: {port} is open");
    true
}

// ---- xinetd.conf ----

/// A row's text is the attributes of one service, completed with what every service needs; an optional part before
/// `---` is put before that service. Lines in that part that begin with `@` and a path go into that file instead.
fn xinetd_conf(net: &Net, row: &str) -> String {
    let (before, attributes) = row.split_once("---").unwrap_or(("", row));
    let (files, before): (Vec<_>, Vec<_>) = before.lines().partition(|l| l.starts_with('@'));
    for line in files {
        let (path, text) = line[1..].split_once(' ').expect("@path text");
        net.append(path, &format!("{text}\n"));
    }
    let before = before.join("\n");
    let mut text = format!("{before}\nservice probe\n{{\n{attributes}\n");
    for (name, value) in
        [("socket_type", "stream"), ("wait", "no"), ("user", "root"), ("server", "/run/test/probe")]
    {
        if !attributes.lines().any(|l| l.split_whitespace().next() == Some(name)) {
            text.push_str(&format!("\t{name} = {value}\n"));
        }
    }
    text.push_str("}\n");
    text
}

/// Small servers.
fn scripts(net: &Net) {
    net.script("hello", HELLO);
    net.script("exit3", "#!/bin/sh\nexit 3\n");
    net.script("killed", "#!/bin/sh\nkill -9 $$\n");
    net.script("noisy", "#!/bin/sh\necho out\necho err >&2\n");
}

type Ask = fn(&Net) -> String;

fn xinetd_row(row: &'static str, conf: &'static str, ask: Ask, lines: &'static [&'static str]) {
    in_net(move |net| {
        scripts(net);
        let conf = xinetd_conf(net, conf);
        let mut transcripts = vec![];
        for subject in xinetd_family() {
            net.write("service.log", "");
            let port = if conf.contains("= dgram") { "udp/9901" } else { "tcp/9901" };
            if is_kept_from_starting(row, subject, net, Conf::Xinetd(&conf), port) {
                continue;
            }
            let daemon = Daemon::start(net, subject, Conf::Xinetd(&conf)).ready(&[port]);
            let transcript = ask(net);
            drop(daemon);
            gone(port);
            let ours: Vec<_> = lines.iter().map(|l| expected(row, subject, l)).collect();
            let ours: Vec<_> = ours.iter().map(String::as_str).filter(|l| !l.is_empty()).collect();
            expect(row, subject, &transcript, &ours);
            transcripts.push((subject, transcript));
        }
        let first = &transcripts[0];
        for other in &transcripts[1..] {
            compare(row, (first.0, &first.1), (other.0, &other.1), DIFFERENCES);
        }
    });
}

/// Rows state what the old daemon shows; of usherd the same is expected after the differences on purpose.
fn expected(row: &str, subject: Subject, line: &str) -> String {
    if subject == Subject::Usherd && !line.starts_with('!') {
        return transcript::translate(row, line, DIFFERENCES);
    }
    line.to_owned()
}

macro_rules! xinetd_table {
    ($($name:ident: $conf:literal, $ask:expr, [$($line:literal),* $(,)?];)*) => {
        mod xinetd { use super::*; $(
            #[test]
            fn $name() { xinetd_row(concat!("xinetd::", stringify!($name)), $conf, $ask, &[$($line),*]) }
        )* }
    };
}

// What a client does; each gives a transcript.

fn v4(_: &Net) -> String {
    listen_to("127.0.0.1:9901")
}

fn v6(_: &Net) -> String {
    listen_to("[::1]:9901")
}

fn udp4(_: &Net) -> String {
    text(&ask_udp("127.0.0.1:9901", b"?"))
}

fn udp6(_: &Net) -> String {
    text(&ask_udp("[::1]:9901", b"?"))
}

/// Only the first address is served.
fn only(yes: &str, no: &[&str]) -> String {
    let mut out = listen_to(yes);
    for to in no {
        out.push_str(&format!("{to} refused {}\n", refused(to)));
    }
    out
}

/// A second client while the first is being served, and one after.
fn while_busy(other: &str) -> String {
    let mut first = tcp_from("127.0.0.1:0", "127.0.0.1:9901");
    round_trip(&mut first, b"first\n");
    let second = tcp_from(&format!("{other}:0"), "127.0.0.1:9901");
    second.set_read_timeout(Some(net::A_WHILE)).expect("time-out");
    let mut out = format!("meanwhile {}\n", fate(second));
    round_trip(&mut first, b"still there\n");
    drop(first);
    until("a free place", || {
        let mut next = tcp_from("127.0.0.1:0", "127.0.0.1:9901");
        let _ = next.write_all(b"next\n");
        let mut back = [0; 5];
        (next.read_exact(&mut back).is_ok() && &back == b"next\n").then_some(())
    });
    out.push_str("afterwards served\n");
    out
}

/// What becomes of clients of many addresses: `127.0.0.1 in`.
fn many(net: &Net) -> String {
    clients(net, &CLIENTS)
}

/// The same, of a service for IPv4.
fn many_v4(net: &Net) -> String {
    clients(net, &CLIENTS[..5])
}

fn clients(net: &Net, clients: &[&str]) -> String {
    net.add_address("fd00::5");
    clients.iter().map(|client| format!("{client} {}\n", came(&fate_of(client, 9901)))).collect()
}

/// In or out, of a service that says hello.
fn came(fate: &str) -> &str {
    match fate {
        "\"hello\\n\" end" => "in",
        "\"\" end" => "out",
        other => other,
    }
}

/// What a client gets that says nothing and waits for the end.
fn silent_client(_: &Net) -> String {
    format!("client {}\n", fate(tcp("127.0.0.1:9901")))
}

/// The service's log, without what differs from run to run, once it has so many lines.
fn service_log(net: &Net, lines: usize) -> String {
    let path = net.dir().join("service.log");
    let log = until("lines in the log", || {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        (log.lines().count() >= lines).then_some(log)
    });
    let mut out = String::new();
    for line in log.lines() {
        let (stamp, rest) = line.split_once(": ").expect("a time stamp");
        let digits = |s: &str, sep| s.split(sep).all(|n: &str| n.parse::<u32>().is_ok());
        let (day, time) = stamp.split_once('@').expect("day@time");
        assert!(digits(day, '/') && digits(time, ':') && time.len() == 8, "{stamp}");
        let words: Vec<String> = rest
            .split(' ')
            .map(|w| match w.split_once('=') {
                Some(("pid", n)) if n != "0" => "pid=N".into(),
                Some(("duration", n)) if n.ends_with("(sec)") => "duration=N(sec)".into(),
                _ => w.to_owned(),
            })
            .collect();
        out.push_str(&format!("log {}\n", words.join(" ")));
    }
    out
}

xinetd_table! {
    // arguments
    plain: "", v4, [
        "argv 0 probe", "!argv 1", "cwd /", "session leader", "pgrp leader", "tty none", "umask 022", "nice 0",
        "uid 0 0 0", "gid 0 0 0", "groups []", "fd 0 socket", "fd 1 same as 0", "fd 2 same as 0", "!fd 3",
        "socket inet stream plain", "blocking true", "blocked 0000000000000000", "ignored 0000000000000000",
        "env CANARY=sings", "env PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "env REMOTE_HOST=::ffff:127.0.0.1", "rlimit nofile 1024 1024", "rlimit stack 8388608 unlimited",
    ];
    server_args: "server_args = -x\tone   two=2 $HOME \\n %d", v4, [
        "argv 0 probe", "argv 1 -x", "argv 2 one", "argv 3 two=2", "argv 4 $HOME", "argv 5 \\\\n", "argv 6 %d", "!argv 7",
    ];
    nameinargs: "flags = NAMEINARGS\nserver_args = other -l", v4, ["argv 0 other", "argv 1 -l", "!argv 2"];
    // identity
    user_by_name: "user = alice", v4, ["uid 1234 1234 1234", "gid 1235 1235 1235", "groups []", "capabilities 0000000000000000"];
    user_by_number: "user = 12345", v4, ["uid 12345 12345 12345", "gid 12345 12345 12345", "groups []"];
    user_by_number_of_alice: "user = 1234", v4, ["uid 1234 1234 1234"];
    group_by_name: "user = alice\ngroup = video", v4, ["uid 1234 1234 1234", "gid 2002 2002 2002", "groups []"];
    group_by_number: "user = alice\ngroup = 4711", v4, ["gid 4711 4711 4711", "groups []"];
    groups_yes: "user = alice\ngroups = yes", v4, ["gid 1235 1235 1235", "groups [1235, 2001, 2002]"];
    groups_yes_with_group: "user = alice\ngroup = bob\ngroups = yes", v4, ["gid 1237 1237 1237", "groups [1235, 2001, 2002]"];
    groups_no: "user = alice\ngroups = no", v4, ["groups []"];
    groups_from_defaults: "defaults\n{\n\tgroups = yes\n}\n---user = alice", v4, ["groups [1235, 2001, 2002]"];
    // umask, nice, limits
    umask: "umask = 027", v4, ["umask 027"];
    umask_zero: "umask = 0", v4, ["umask 000"];
    umask_from_defaults: "defaults\n{\n\tumask = 077\n}\n---", v4, ["umask 077"];
    umask_over_defaults: "defaults\n{\n\tumask = 077\n}\n---umask = 007", v4, ["umask 007"];
    nice_plus: "nice = 5", v4, ["nice 5"];
    nice_plus_as_nobody: "nice = 5\nuser = nobody", v4, ["nice 5"];
    nice_minus: "nice = -5", v4, ["nice -5"];
    nice_minus_as_nobody: "nice = -5\nuser = nobody", v4, ["nice 0"];
    rlimit_as: "rlimit_as = 64M", v4, ["rlimit as 67108864 67108864"];
    rlimit_cpu: "rlimit_cpu = 10", v4, ["rlimit cpu 10 10"];
    rlimit_data: "rlimit_data = 65536K", v4, ["rlimit data 67108864 67108864"];
    rlimit_rss: "rlimit_rss = 1000000", v4, ["rlimit rss 1000000 1000000"];
    rlimit_stack: "rlimit_stack = 4M", v4, ["rlimit stack 4194304 4194304"];
    rlimit_stack_unlimited: "rlimit_stack = UNLIMITED", v4, ["rlimit stack unlimited unlimited"];
    rlimit_files: "rlimit_files = 64", v4, ["rlimit nofile 64 64"];
    rlimit_files_above_hard_limit: "rlimit_files = 2000\nuser = nobody", v4, ["rlimit nofile 256 1024"];
    rlimits_as_nobody: "user = nobody\nrlimit_as = 64M\nrlimit_files = 32\nrlimit_cpu = 5", v4, [
        "rlimit as 67108864 67108864", "rlimit nofile 32 32", "rlimit cpu 5 5",
    ];
    // environment
    env: "env = ONE=1 TWO=2=2", v4, ["env CANARY=sings", "env ONE=1", "env TWO=2=2"];
    env_added: "env = ONE=1\nenv += TWO=2", v4, ["env ONE=1", "env TWO=2"];
    env_overrides: "env = CANARY=dead HOME=/", v4, ["env CANARY=dead", "!env CANARY=sings", "env HOME=/"];
    passenv_empty: "passenv =", v4, ["!env CANARY", "!env PATH", "!env HOME", "env REMOTE_HOST=::ffff:127.0.0.1"];
    passenv: "passenv = CANARY LANG", v4, ["env CANARY=sings", "env LANG=C", "!env PATH"];
    passenv_and_env: "passenv = LANG\nenv = ONE=1", v4, ["!env CANARY", "env LANG=C", "env ONE=1"];
    passenv_from_defaults: "defaults\n{\n\tpassenv = LANG\n}\n---passenv += CANARY", v4, [
        "env CANARY=sings", "env LANG=C", "!env PATH",
    ];
    passenv_taken_back: "defaults\n{\n\tpassenv = LANG CANARY\n}\n---passenv -= CANARY", v4, ["env LANG=C", "!env CANARY"];
    // addresses
    dual_from_v6: "", v6, ["socket inet6 stream plain", "env REMOTE_HOST=::1"];
    flag_ipv4: "flags = IPv4", |_| only("127.0.0.1:9901", &["[::1]:9901"]), [
        "socket inet stream plain", "env REMOTE_HOST=127.0.0.1", "[::1]:9901 refused true",
    ];
    flag_ipv6: "flags = IPv6", |_| only("[::1]:9901", &[]), ["socket inet6 stream plain", "env REMOTE_HOST=::1"];
    flag_ipv6_is_dual: "flags = IPv6", v4, ["socket inet stream plain", "env REMOTE_HOST=::ffff:127.0.0.1"];
    flags_ipv4_and_ipv6: "flags = IPv4 IPv6", v6, ["socket inet6 stream plain"];
    v6only: "flags = IPv6\nv6only = yes", |_| only("[::1]:9901", &["127.0.0.1:9901"]), [
        "socket inet6 stream plain", "127.0.0.1:9901 refused true",
    ];
    bind: "bind = 127.0.0.2", |_| only("127.0.0.2:9901", &["127.0.0.1:9901", "[::1]:9901"]), [
        "127.0.0.1:9901 refused true", "[::1]:9901 refused true", "env REMOTE_HOST=127.0.0.1",
    ];
    bind_v6: "bind = ::1", |_| only("[::1]:9901", &["127.0.0.1:9901"]), ["127.0.0.1:9901 refused true"];
    bind_by_name: "flags = IPv4\nbind = two.test", |_| only("127.0.0.2:9901", &["127.0.0.1:9901"]), ["127.0.0.1:9901 refused true"];
    interface_is_bind: "interface = 127.0.0.3", |_| only("127.0.0.3:9901", &["127.0.0.1:9901"]), ["127.0.0.1:9901 refused true"];
    // socket options
    nodelay: "flags = NODELAY", v4, ["nodelay 1", "keepalive 0"];
    keepalive: "flags = KEEPALIVE", v4, ["nodelay 0", "keepalive 1"];
    // wait
    dgram_wait: "socket_type = dgram\nwait = yes", udp4, [
        "socket inet6 dgram plain", "blocking true", "fd 2 same as 0", "!fd 3", "session leader", "env REMOTE_HOST=::ffff:127.0.0.1",
    ];
    dgram_wait_v4: "socket_type = dgram\nwait = yes\nflags = IPv4\nuser = alice", udp4, [
        "socket inet dgram plain", "uid 1234 1234 1234", "env REMOTE_HOST=127.0.0.1",
    ];
    dgram_wait_v6: "socket_type = dgram\nwait = yes\nflags = IPv6", udp6, ["socket inet6 dgram plain", "env REMOTE_HOST=::1"];
    stream_wait: "wait = yes", v4, [
        "socket inet6 stream listening", "blocking true", "fd 2 same as 0", "!fd 3", "env REMOTE_HOST=<no address>",
    ];
    stream_wait_takes_turns: "wait = yes\nserver = /run/test/acceptecho\nflags = IPv4", |_| {
        let mut out = String::new();
        for n in 0..3 {
            let back = ask_tcp("127.0.0.1:9901", format!("turn {n}\n").as_bytes());
            out.push_str(&text(&back));
        }
        out
    }, ["turn 0", "turn 1", "turn 2"];
    dgram_wait_server_stays: "socket_type = dgram\nwait = yes\nserver = /run/test/udpecho", |_| {
        let client = udp("127.0.0.1:0", "127.0.0.1:9901");
        for n in 0..20u8 {
            client.send(&[b'a' + n]).expect("send");
            assert_eq!(answer(&client), Some(vec![b'a' + n]));
        }
        "twenty answers\n".into()
    }, ["twenty answers"];
    // the bytes of a server
    stderr_goes_to_the_client: "server = /run/test/noisy", silent_client, ["client \"out\\nerr\\n\" end"];
    a_plain_copy: "server = /bin/cat", |_| format!("{:?}\n", text(&ask_tcp("127.0.0.1:9901", b"a\0b\r\n\xc3\xa4"))), ["\"a\\0b\\r\\nä\""];
    a_server_that_reads_nothing: "server = /bin/true", silent_client, ["client \"\" end"];
    type_unlisted: "type = UNLISTED\nport = 9901", v4, ["argv 0 probe"];
    // limits
    instances: "instances = 1\nserver = /bin/cat", |_| while_busy("127.0.0.2"), ["meanwhile \"\" end", "afterwards served"];
    instances_from_defaults: "defaults\n{\n\tinstances = 1\n}\n---server = /bin/cat", |_| while_busy("127.0.0.2"), ["meanwhile \"\" end"];
    instances_two: "instances = 2\nserver = /bin/cat", |_| while_busy("127.0.0.1"), ["meanwhile \"\" open"];
    instances_zero: "instances = 0", silent_client, ["client \"\" end"];
    per_source: "per_source = 1\nserver = /bin/cat", |_| while_busy("127.0.0.1"), ["meanwhile \"\" end", "afterwards served"];
    per_source_of_another: "per_source = 1\nserver = /bin/cat", |_| while_busy("127.0.0.2"), ["meanwhile \"\" open"];
    // access
    only_from: "only_from = 127.0.0.1", v4, ["argv 0 probe"];
    only_from_another: "only_from = 127.0.0.9", silent_client, ["client \"\" end"];
    only_from_network: "only_from = 127.0.0.0/30", v4, ["argv 0 probe"];
    only_from_zeros: "only_from = 127.0.0.0", v4, ["argv 0 probe"];
    only_from_factorised: "only_from = 127.0.0.{1,2}", v4, ["argv 0 probe"];
    only_from_nobody: "only_from =", silent_client, ["client \"\" end"];
    no_access: "no_access = 127.0.0.1", silent_client, ["client \"\" end"];
    no_access_wins_a_tie: "only_from = 127.0.0.1\nno_access = 127.0.0.1", silent_client, ["client \"\" end"];
    access_lists_added: "defaults\n{\n\tonly_from = 127.0.0.9\n}\n---only_from += 127.0.0.1", v4, ["argv 0 probe"];
    access_lists_replaced: "defaults\n{\n\tonly_from = 127.0.0.1\n}\n---only_from = 127.0.0.9", silent_client, ["client \"\" end"];
    // access, by clients of many addresses
    access_exact: "only_from = 127.0.1.5 ::1\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 out", "::1 in", "fd00::5 out",
    ];
    access_zeros_24: "only_from = 127.0.1.0 127.9.0.0\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 in", "::1 out", "fd00::5 out",
    ];
    access_zeros_16: "only_from = 127.0.0.0\nno_access = 127.9.0.0\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_zeros_8: "only_from = 127.0.0.0\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 out", "fd00::5 out",
    ];
    access_zeros_alone: "only_from = 0.0.0.0\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 out", "fd00::5 out",
    ];
    access_zeros_and_v6: "only_from = 0.0.0.0 ::1\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 in", "fd00::5 out",
    ];
    access_prefix: "only_from = 127.0.0.0/23\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_prefix_host_bits: "only_from = 127.0.1.77/24\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_prefix_of_zeros: "only_from = 127.0.0.0/31 127.0.0.2/32\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_prefix_0: "only_from = 0.0.0.0/0\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 out", "fd00::5 out",
    ];
    access_prefix_30: "no_access = 127.0.0.0/30\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 in", "fd00::5 in",
    ];
    access_factorised_last: "only_from = 127.0.0.{2,7}\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 in", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_factorised_third: "only_from = 127.0.{1,2}\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_factorised_second: "only_from = 127.{9,10}\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 in", "::1 out", "fd00::5 out",
    ];
    access_factorised_no_access: "no_access = 127.0.{0,2}\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 in", "::1 in", "fd00::5 in",
    ];
    access_v6_exact: "only_from = fd00::5\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 in",
    ];
    access_v6_spelt_out: "only_from = fd00:0:0:0:0:0:0:5\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 in",
    ];
    access_v6_prefix: "only_from = fd00::/8\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 in",
    ];
    access_v6_prefix_127: "only_from = fd00::4/127\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 in",
    ];
    access_v6_no_access: "no_access = fd00::/64\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 in", "fd00::5 out",
    ];
    access_v6_128: "only_from = ::1/128 127.0.0.1\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_v6_zero_prefix: "only_from = ::/64\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 in", "fd00::5 out",
    ];
    access_v6_everybody: "no_access = ::/0\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_v6_unspecified: "only_from = ::\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_mapped: "only_from = ::ffff:127.0.0.2\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 in", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_mapped_v4_socket: "flags = IPv4\nonly_from = ::ffff:127.0.0.2\nserver = /run/test/hello", many_v4, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out",
    ];
    access_v4_socket: "flags = IPv4\nonly_from = 127.0.0.{1,2} 127.0.1.0\nno_access = 127.9.0.0/16\nserver = /run/test/hello", many_v4, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 out",
    ];
    access_name: "only_from = localhost\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_name_v4_socket: "flags = IPv4\nonly_from = LOCALHOST two.test\nserver = /run/test/hello", many_v4, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out",
    ];
    access_domain_v4_socket: "flags = IPv4\nonly_from = .test\nserver = /run/test/hello", many_v4, [
        "127.0.0.1 out", "127.0.0.2 in", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out",
    ];
    access_domain_no_access: "flags = IPv4\nno_access = .test\nserver = /run/test/hello", many_v4, [
        "127.0.0.1 in", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in",
    ];
    access_name_alias: "only_from = two\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_name_no_access: "no_access = localhost two.test\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 in", "fd00::5 in",
    ];
    access_domain: "only_from = .test\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_nobody: "only_from =\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_nobody_kept_out: "no_access =\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 in", "fd00::5 in",
    ];
    access_defaults: "defaults\n{\nonly_from = 127.0.0.0/24 fd00::5\nno_access = 127.0.0.2\n}\n---server = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 in",
    ];
    access_defaults_twice: "defaults\n{\nonly_from = 127.0.0.1\nonly_from = 127.0.1.5\n}\n---server = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_defaults_added: "defaults\n{\nonly_from = 127.0.0.1\nonly_from += 127.0.2.9\n}\n---only_from += ::1\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 in", "127.9.0.1 out", "::1 in", "fd00::5 out",
    ];
    access_defaults_taken_back: "defaults\n{\nonly_from = 127.0.0.1 127.0.1.5 ::1\nno_access = 127.9.0.1\n}\n---only_from -= 127.0.0.1 ::1\nno_access -= 127.9.0.1\nonly_from += 127.9.0.1\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 in", "::1 out", "fd00::5 out",
    ];
    access_defaults_all_taken_back: "defaults\n{\nonly_from = 127.0.0.1 127.0.0.0/16\n}\n---only_from -= 127.0.0.0/16 127.0.0.1\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_defaults_taken_back_in_defaults: "defaults\n{\nno_access = 127.0.0.1 127.0.0.2\nno_access -= 127.0.0.1\n}\n---server = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 in", "127.9.0.1 in", "::1 in", "fd00::5 in",
    ];
    access_taken_back_that_is_not_there: "only_from = 127.0.0.0/24\nonly_from -= 127.0.0.1\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 in", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_taken_back_of_two: "only_from = 127.0.1.5 127.0.1.5\nonly_from -= 127.0.1.5\nserver = /run/test/hello", many_v4, ["127.0.1.5 out"];
    access_taken_back_host_bits: "only_from = 127.0.1.77/24\nonly_from -= 127.0.1.0\nserver = /run/test/hello", many_v4, ["127.0.1.5 in"];
    access_taken_back_of_several: "no_access = 127.0.{1,2}\nno_access -= 127.0.1.0\nserver = /run/test/hello", many_v4, [
        "127.0.1.5 in", "127.0.2.9 out",
    ];
    access_taken_back_address_of_name: "flags = IPv4\nonly_from = localhost\nonly_from -= 127.0.0.1\nserver = /run/test/hello", many_v4, ["127.0.0.1 in"];
    access_taken_back_name: "only_from = localhost 127.0.1.5\nonly_from -= localhost\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_taken_back_factorised: "only_from = 127.0.{1,2}\nonly_from -= 127.0.{1,2}\nonly_from += 127.9.0.1\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 in", "::1 out", "fd00::5 out",
    ];
    access_taken_back_other_spelling: "only_from = 127.0.1.0 127.9.0.1\nonly_from -= 127.0.1.0/24\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 in", "::1 out", "fd00::5 out",
    ];
    access_defaults_replaced: "defaults\n{\nonly_from = 127.0.0.1\nno_access = 127.0.1.5\n}\n---only_from = 127.0.1.0 127.0.2.0\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 in", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_defaults_emptied: "defaults\n{\nno_access = 127.0.0.1\nonly_from = 127.0.0.1 ::1\n}\n---no_access =\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 in", "fd00::5 out",
    ];
    access_lists_replaced_twice: "only_from = 127.0.0.1\nonly_from = 127.0.0.2\nonly_from += 127.0.1.5\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 in", "127.0.1.5 in", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_lists_overlap: "only_from = 127.0.1.5 127.0.0.0/24\nno_access = 127.0.1.0 127.0.0.2\nserver = /run/test/hello", many, [
        "127.0.0.1 in", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 out", "fd00::5 out",
    ];
    access_lists_tie: "only_from = 127.0.0.0/24 ::1\nno_access = 127.0.0.0/24\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 in", "fd00::5 out",
    ];
    access_lists_overlap_v6: "only_from = fd00::5 ::1\nno_access = fd00::/16\nserver = /run/test/hello", many, [
        "127.0.0.1 out", "127.0.0.2 out", "127.0.1.5 out", "127.0.2.9 out", "127.9.0.1 out", "::1 in", "fd00::5 out",
    ];
    access_times_never: "access_times = 0:00-0:01", |_| {
        // Refused at any time of day but the first two minutes.
        format!("client {}\n", fate(tcp("127.0.0.1:9901")))
    }, ["client \"\" end"];
    access_times_always: "access_times = 0:00-12:00 12:00-23:59", v4, ["argv 0 probe"];
    // hosts.allow and hosts.deny, asked for the name of the server
    wrapped_denied: "@/etc/hosts.deny ALL: ALL\n---", silent_client, ["client \"\" end"];
    wrapped_allowed: "@/etc/hosts.deny ALL: ALL\n@/etc/hosts.allow probe: 127.0.0.1\n---", v4, ["argv 0 probe"];
    wrapped_other_allowed: "@/etc/hosts.deny ALL: ALL\n@/etc/hosts.allow other: ALL\n---", silent_client, ["client \"\" end"];
    wrapped_by_argv0: "@/etc/hosts.deny ALL: ALL\n@/etc/hosts.allow other: ALL\n---flags = NAMEINARGS\nserver_args = other", v4, ["argv 0 other"];
    wrapped_by_attribute: "@/etc/hosts.deny ALL: ALL\n@/etc/hosts.allow third: ALL\n---libwrap = third", v4, ["argv 0 probe"];
    wrapped_not: "@/etc/hosts.deny ALL: ALL\n---flags = NOLIBWRAP", v4, ["argv 0 probe"];
    wrapped_by_prefix: "@/etc/hosts.deny ALL: ALL EXCEPT 127.0.0.\n---", v4, ["argv 0 probe"];
    wrapped_by_net: "@/etc/hosts.deny probe: 127.0.0.0/255.255.255.248\n---", silent_client, ["client \"\" end"];
    wrapped_by_v6_net: "@/etc/hosts.deny ALL: ALL\n@/etc/hosts.allow probe: [::1]\n---", v6, ["argv 0 probe"];
    wrapped_by_name: "@/etc/hosts.deny ALL: ALL\n@/etc/hosts.allow probe: localhost\n---flags = IPv4", v4, ["argv 0 probe"];
    wrapped_after_only_from: "@/etc/hosts.allow ALL: ALL\n---only_from = 127.0.0.9", silent_client, ["client \"\" end"];
    // banners
    banner: "banner = /run/test/banner\nserver = /bin/true", with_banner, ["client \"hello\\n\" end"];
    banner_success: "banner_success = /run/test/banner\nserver = /bin/true", with_banner, ["client \"hello\\n\" end"];
    banner_fail: "banner_fail = /run/test/banner\nonly_from = 127.0.0.9", with_banner, ["client \"hello\\n\" end"];
    banner_before_refusal: "banner = /run/test/banner\ninstances = 0", with_banner, ["client \"hello\\n\" end"];
    // redirect
    redirect: "redirect = 127.0.0.1 9902", |_| {
        let target = TcpListener::bind("127.0.0.1:9902").expect("bind");
        let mut client = tcp("127.0.0.1:9901");
        let (mut server, _) = target.accept().expect("accept");
        client.write_all(b"to the server\n").expect("send");
        let mut out = text(&read_n(&mut server, 14));
        server.write_all(b"to the client\n").expect("send");
        drop(server);
        out.push_str(&text(&read_to_end(&mut client)));
        out
    }, ["to the server", "to the client"];
    redirect_to_nobody: "redirect = 127.0.0.1 9902", silent_client, ["client \"\" end"];
    // the service's log
    log_of_a_server: "log_type = FILE /run/test/service.log\nlog_on_success = PID HOST EXIT DURATION\nserver = /run/test/exit3", |net| {
        format!("client {}\n{}", fate(tcp("127.0.0.1:9901")), service_log(net, 2))
    }, ["log START: probe pid=N from=::ffff:127.0.0.1", "log EXIT: probe status=3 pid=N duration=N(sec)"];
    log_of_refused_address: "log_type = FILE /run/test/service.log\nlog_on_success = PID EXIT\nlog_on_failure = HOST\nonly_from = 127.0.0.9\nflags = IPv4", |net| {
        let client = fate(tcp("127.0.0.1:9901"));
        until("the FAIL line", || service_log(net, 1).contains("FAIL").then_some(()));
        format!("client {client}\n{}", service_log(net, 1))
    }, ["log FAIL: probe address from=127.0.0.1"];
    log_of_a_limit: "log_type = FILE /run/test/service.log\nlog_on_failure = HOST\ninstances = 0\nflags = IPv4", |net| {
        format!("client {}\n{}", fate(tcp("127.0.0.1:9901")), service_log(net, 1))
    }, ["log FAIL: probe service_limit from=127.0.0.1"];
    log_of_a_signal: "log_type = FILE /run/test/service.log\nlog_on_success = EXIT\nserver = /run/test/killed", |net| {
        format!("client {}\n{}", fate(tcp("127.0.0.1:9901")), service_log(net, 2))
    }, ["log EXIT: probe signal=9"];
    no_log_without_log_type: "log_on_success = PID HOST EXIT", |net| {
        let dump = v4(net);
        format!("{dump}{}", service_log(net, 0))
    }, ["!log"];
}

/// Ranges of minutes around this one: both ends belong to them, and one of several is enough.
#[test]
fn access_times_around_now() {
    in_net(|net| {
        scripts(net);
        let minute = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("after 1970").as_secs() / 60
        };
        for subject in xinetd_family() {
            // All services are asked within one minute.
            let (fates, rows) = until("a minute that lasts", || {
                let now = minute();
                // It is between twelve and one where the daemons are; a zone's name has what to add to get to UTC.
                net.set_env("TZ", Some(&format!("HERE{:+}", (now / 60 % 24) as i64 - 12)));
                let at = |minute: u64| format!("{}:{:02}", minute / 60, minute % 60);
                let here = 12 * 60 + now % 60;
                let (before, after) = (format!("0:00-{}", at(here - 1)), format!("{}-23:59", at(here + 1)));
                let rows = [
                    (format!("{}-{}", at(here), at(here + 1)), "in"),
                    (format!("{}-{}", at(here - 1), at(here)), "in"),
                    (before.clone(), "out"),
                    (after.clone(), "out"),
                    (format!("{before} {after}"), "out"),
                    (format!("{before} {}-23:59", at(here)), "in"),
                ];
                let services = rows.iter().zip(9901..).map(|((times, _), port)| {
                    format!(
                        "service s{port}\n{{\ntype = UNLISTED\nport = {port}\nsocket_type = stream\nwait = no\n\
                         user = root\nserver = /run/test/hello\naccess_times = {times}\n}}\n"
                    )
                });
                let conf: String = services.collect();
                let _daemon = Daemon::start(net, subject, Conf::Xinetd(&conf))
                    .ready(&["tcp/9901", "tcp/9902", "tcp/9903", "tcp/9904", "tcp/9905", "tcp/9906"]);
                let fates = [9901, 9902, 9903, 9904, 9905, 9906].map(|port| fate_of("127.0.0.1", port));
                (minute() == now).then_some((fates, rows))
            });
            for (fate, (times, expected)) in fates.iter().zip(&rows) {
                assert_eq!(came(fate), *expected, "{subject:?}, access_times = {times}");
            }
        }
    });
}

/// Six datagrams, and a server that takes one and ends: five wait in the socket's queue meanwhile.
#[test]
fn datagrams_that_wait_for_a_server() {
    in_net(|net| {
        for subject in xinetd_family() {
            let conf = xinetd_conf(net, "socket_type = dgram\nwait = yes\nserver = /run/test/udponce");
            let _daemon = Daemon::start(net, subject, Conf::Xinetd(&conf)).ready(&["udp/9901"]);
            let client = udp("127.0.0.1:0", "127.0.0.1:9901");
            client.set_read_timeout(Some(2 * net::A_WHILE)).expect("time-out");
            for n in 0..6 {
                client.send(&[n]).expect("send");
            }
            let answered = (0..6).filter(|_| answer(&client).is_some()).count();
            // xinetd empties the queue when a server ends.
            let all = if subject == Subject::Xinetd { 1..=5 } else { 6..=6 };
            assert!(all.contains(&answered), "{subject:?}: {answered} of 6 answered");
        }
    });
}

// ---- inetd.conf ----

/// A line of a row may begin with `openbsd|`, `inetutils|` or `usherd|` when it holds for that one alone; the line
/// `inetutils|unknown` says that this daemon does not know the form and is left out.
fn inetd_row(row: &'static str, conf: &'static str, ask: Ask, lines: &'static [&'static str]) {
    in_net(move |net| {
        scripts(net);
        let mut transcripts = vec![];
        for subject in inetd_family() {
            let tag = match subject {
                Subject::OpenbsdInetd => "openbsd",
                Subject::InetutilsInetd => "inetutils",
                _ => "usherd",
            };
            let ours: Vec<String> = lines
                .iter()
                .filter_map(|line| match line.split_once('|') {
                    Some((who, line)) => (who == tag).then(|| line.to_owned()),
                    None => Some(expected(row, subject, line)),
                })
                .collect();
            if ours.iter().any(|l| l == "unknown") {
                continue;
            }
            let port = if conf.contains("dgram") { "udp/9901" } else { "tcp/9901" };
            if is_kept_from_starting(row, subject, net, Conf::Inetd(conf), port) {
                continue;
            }
            let daemon = Daemon::start(net, subject, Conf::Inetd(conf)).ready(&[port]);
            let transcript = ask(net);
            drop(daemon);
            gone(port);
            let ours: Vec<_> = ours.iter().map(String::as_str).filter(|l| !l.is_empty()).collect();
            expect(row, subject, &transcript, &ours);
            transcripts.push((subject, transcript));
        }
        // What the two old ones agree on or not is their affair; ours follows the first that knows the form.
        let first = &transcripts[0];
        for other in transcripts[1..].iter().filter(|t| t.0 == Subject::Usherd) {
            compare(row, (first.0, &first.1), (other.0, &other.1), DIFFERENCES);
        }
    });
}

macro_rules! inetd_table {
    ($($name:ident: $conf:literal, $ask:expr, [$($line:literal),* $(,)?];)*) => {
        mod inetd { use super::*; $(
            #[test]
            fn $name() { inetd_row(concat!("inetd::", stringify!($name)), $conf, $ask, &[$($line),*]) }
        )* }
    };
}

inetd_table! {
    plain: "probe stream tcp nowait root /run/test/probe probe\n", v4, [
        "argv 0 probe", "!argv 1", "cwd /", "session leader", "tty none", "nice 0", "uid 0 0 0", "gid 0 0 0",
        "fd 0 socket", "fd 1 same as 0", "fd 2 same as 0", "!fd 3", "socket inet stream plain", "blocking true",
        "blocked 0000000000000000", "rlimit nofile 256 1024", "env CANARY=sings", "env TZ=UTC",
        "openbsd|umask 022", "inetutils|umask 002", "usherd|umask 022",
        "openbsd|ignored 0000000000000000", "inetutils|ignored 0000000000001000", "usherd|ignored 0000000000000000",
        "openbsd|!env PATH", "openbsd|!env HOME", "inetutils|env HOME=/root",
    ];
    // arguments
    argv: "probe stream tcp nowait root /run/test/probe other -x  a#b\t$HOME\n", v4, [
        "argv 0 other", "argv 1 -x", "argv 2 a#b", "argv 3 $HOME", "!argv 4",
    ];
    argv_with_hash_word: "probe stream tcp nowait root /run/test/probe probe # no comment\n", v4, [
        "argv 1 #", "argv 2 no", "argv 3 comment",
    ];
    no_arguments: "probe stream tcp nowait root /run/test/probe\n", v4, ["argv 0 probe", "openbsd|!argv 1", "usherd|!argv 1"];
    nineteen_arguments: "probe stream tcp nowait root /run/test/probe p 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18\n", v4, [
        "argv 18 18", "!argv 19",
    ];
    quoted_argument: "probe stream tcp nowait root /run/test/probe probe \"two words\" 'three more words'\n", v4, [
        "openbsd|unknown", "argv 1 two words", "argv 2 three more words", "!argv 3",
    ];
    continued_by_a_blank: "probe stream tcp nowait root\n\t/run/test/probe probe a\n b\n", v4, [
        "inetutils|unknown", "argv 1 a", "argv 2 b",
    ];
    last_line_without_end: "probe stream tcp nowait root /run/test/probe probe a", v4, ["argv 1 a", "!argv 2"];
    comments_and_blank_lines: "# one\n\n#two\nprobe stream tcp nowait root /run/test/probe probe a\n# three\n", v4, ["argv 1 a"];
    carriage_returns: "probe stream tcp nowait root /run/test/probe probe a\r\n", v4, [
        "openbsd|argv 1 a\\r", "inetutils|argv 1 a", "usherd|argv 1 a",
    ];
    broken_line_before: "what is this\nprobe stream tcp nowait root /run/test/probe probe a\n", v4, ["argv 1 a"];
    // identity
    user: "probe stream tcp nowait alice /run/test/probe probe\n", v4, [
        "uid 1234 1234 1234", "gid 1235 1235 1235", "groups [1235, 2001, 2002]", "capabilities 0000000000000000",
    ];
    user_dot_group: "probe stream tcp nowait alice.bob /run/test/probe probe\n", v4, ["uid 1234 1234 1234", "gid 1237 1237 1237"];
    user_colon_group: "probe stream tcp nowait alice:bob /run/test/probe probe\n", v4, ["uid 1234 1234 1234", "gid 1237 1237 1237"];
    nobody: "probe stream tcp nowait nobody /run/test/probe probe\n", v4, ["uid 65534 65534 65534", "gid 65534 65534 65534"];
    // the service
    by_number: "9901 stream tcp nowait root /run/test/probe probe\n", v4, ["argv 0 probe"];
    by_alias: "alias stream tcp nowait root /run/test/probe probe\n", v4, ["argv 0 probe"];
    // addresses
    tcp_from_v6: "probe stream tcp nowait root /run/test/probe probe\n", v6, ["inetutils|unknown", "socket inet6 stream plain"];
    tcp4: "probe stream tcp4 nowait root /run/test/probe probe\n", |_| only("127.0.0.1:9901", &["[::1]:9901"]), [
        "socket inet stream plain", "[::1]:9901 refused true",
    ];
    tcp6: "probe stream tcp6 nowait root /run/test/probe probe\n", |_| only("[::1]:9901", &["127.0.0.1:9901"]), [
        "socket inet6 stream plain",
        "openbsd|127.0.0.1:9901 refused true", "inetutils|127.0.0.1:9901 refused false", "usherd|127.0.0.1:9901 refused true",
    ];
    address: "127.0.0.2:probe stream tcp4 nowait root /run/test/probe probe\n", |_| only("127.0.0.2:9901", &["127.0.0.1:9901"]), [
        "127.0.0.1:9901 refused true",
    ];
    address_and_tcp: "127.0.0.2:9901 stream tcp nowait root /run/test/probe probe\n", |_| only("127.0.0.2:9901", &["127.0.0.1:9901", "[::1]:9901"]), [
        "127.0.0.1:9901 refused true", "[::1]:9901 refused true",
    ];
    two_addresses: "127.0.0.2,127.0.0.3:9901 stream tcp4 nowait root /run/test/probe probe\n", |_| {
        listen_to("127.0.0.2:9901") + &only("127.0.0.3:9901", &["127.0.0.1:9901"])
    }, ["127.0.0.1:9901 refused true"];
    address_by_name: "two.test:9901 stream tcp4 nowait root /run/test/probe probe\n", |_| only("127.0.0.2:9901", &["127.0.0.1:9901"]), [
        "127.0.0.1:9901 refused true",
    ];
    any_address: "*:9901 stream tcp4 nowait root /run/test/probe probe\n", v4, ["argv 0 probe"];
    address_v6: "[::1]:9901 stream tcp6 nowait root /run/test/probe probe\n", v6, ["inetutils|unknown", "socket inet6 stream plain"];
    default_address: "127.0.0.3:\nprobe stream tcp4 nowait root /run/test/probe probe\n", |_| only("127.0.0.3:9901", &["127.0.0.1:9901"]), [
        "127.0.0.1:9901 refused true",
    ];
    default_address_and_back: "127.0.0.3:\n*:\nprobe stream tcp4 nowait root /run/test/probe probe\n", v4, [
        // Its second default line is read from memory it has already given back.
        "inetutils|unknown", "argv 0 probe",
    ];
    // wait
    dgram_wait: "probe dgram udp wait root /run/test/probe probe a\n", udp4, [
        "argv 1 a", "socket inet dgram plain", "blocking true", "fd 2 same as 0", "!fd 3",
    ];
    dgram_wait_udp4: "probe dgram udp4 wait alice /run/test/probe probe\n", udp4, ["socket inet dgram plain", "uid 1234 1234 1234"];
    dgram_wait_udp6: "probe dgram udp6 wait root /run/test/probe probe\n", udp6, ["socket inet6 dgram plain"];
    dgram_wait_udp_from_v6: "probe dgram udp wait root /run/test/probe probe\n", udp6, ["inetutils|unknown", "socket inet6 dgram plain"];
    dgram_wait_max: "probe dgram udp wait.9 root /run/test/probe probe\n", udp4, ["socket inet dgram plain"];
    dgram_wait_server_stays: "probe dgram udp wait root /run/test/udpecho udpecho\n", |_| {
        let client = udp("127.0.0.1:0", "127.0.0.1:9901");
        for n in 0..20u8 {
            client.send(&[b'a' + n]).expect("send");
            assert_eq!(answer(&client), Some(vec![b'a' + n]));
        }
        "twenty answers\n".into()
    }, ["twenty answers"];
    // One datagram per server; the others wait in the socket's queue and are not lost.
    dgram_wait_one_each: "probe dgram udp wait root /run/test/udponce udponce\n", |_| {
        let client = udp("127.0.0.1:0", "127.0.0.1:9901");
        for n in 0..6u8 {
            client.send(&[b'a' + n]).expect("send");
        }
        (0..6).map(|_| text(&answer(&client).expect("an answer")) + "\n").collect()
    }, ["a", "b", "c", "d", "e", "f"];
    stream_wait: "probe stream tcp4 wait root /run/test/probe probe\n", v4, ["socket inet stream listening", "blocking true"];
    stream_wait_takes_turns: "probe stream tcp4 wait root /run/test/acceptecho acceptecho\n", |_| {
        let mut out = String::new();
        for n in 0..3 {
            out.push_str(&text(&ask_tcp("127.0.0.1:9901", format!("turn {n}\n").as_bytes())));
        }
        out
    }, ["turn 0", "turn 1", "turn 2"];
    // limits
    nowait_max: "probe stream tcp nowait.40 root /run/test/probe probe a\n", v4, ["argv 1 a"];
    nowait_max_reached: "probe stream tcp4 nowait.4 root /run/test/probe probe\n", |_| {
        // The rule of the family: the count ends a service's minute, not the service's life on a high port.
        let served = (0..8).filter(|_| {
            // Whom usherd does not serve in this minute it leaves in the backlog, where the others cut him off.
            let stream = std::net::TcpStream::connect("127.0.0.1:9901");
            stream.is_ok_and(|mut s| {
                let patience = std::time::Duration::from_millis(1500);
                s.set_read_timeout(Some(patience)).is_ok() && s.read_to_end(&mut vec![]).is_ok_and(|n| n > 0)
            })
        });
        format!("served {}\n", served.count())
    }, ["openbsd|served 3", "inetutils|served 4", "usherd|served 4"];
    // what can go wrong
    missing_program: "probe stream tcp nowait root /nonexistent/program p\n", silent_client, ["client \"\" end"];
    unknown_user: "probe stream tcp nowait nosuchuser /run/test/probe probe\n", silent_client, ["inetutils|unknown", "client \"\" end"];
    // the bytes of a server
    stderr_goes_to_the_client: "probe stream tcp nowait root /run/test/noisy noisy\n", silent_client, ["client \"out\\nerr\\n\" end"];
    a_plain_copy: "probe stream tcp nowait root /bin/cat cat\n", |_| format!("{:?}\n", text(&ask_tcp("127.0.0.1:9901", b"a\0b\r\n"))), [
        "\"a\\0b\\r\\n\"",
    ];
}

#[test]
fn unix_socket_of_inetd_conf() {
    in_net(|net| {
        for subject in inetd_family().into_iter().filter(|s| *s != Subject::InetutilsInetd) {
            let path = net.dir().join("socket");
            let line = "/run/test/socket stream unix nowait root /run/test/probe probe a\n";
            let _daemon = Daemon::start(net, subject, Conf::Inetd(line));
            let client = until("the unix socket", || std::os::unix::net::UnixStream::connect(&path).ok());
            client.set_read_timeout(Some(PATIENCE)).expect("time-out");
            let dump = text(&net::drain(client));
            expect("unix", subject, &dump, &["argv 1 a", "socket unix stream plain", "fd 2 same as 0"]);
        }
    });
}

fn with_banner(net: &Net) -> String {
    net.write("banner", "hello\n");
    silent_client(net)
}
