//! What the daemon is to the system it runs on: becoming a daemon, service managers, one service from the command
//! line, sockets and logs that come and go.

use crate::harness::*;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

fn run<'n>(net: &'n Net, args: &[&str]) -> Daemon<'n> {
    Daemon::run(net, Subject::Usherd, args)
}

fn launch<'n>(net: &'n Net, args: &[&str], launch: Launch) -> Daemon<'n> {
    Daemon::launch(net, Subject::Usherd, args, launch)
}

/// Runs the daemon in the foreground on a configuration in xinetd's grammar.
fn serve<'n>(net: &'n Net, text: &str) -> Daemon<'n> {
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(text))
}

/// What usherd answers to a command line that makes it end by itself, or go into the background.
fn ends(net: &Net, args: &[&str]) -> (i32, String) {
    let mut daemon = run(net, args);
    let status = daemon.wait_exit();
    (status.code().expect("an exit status"), daemon.said())
}

/// An echo over TCP at a port.
fn echo_at(port: u16, lines: &str) -> String {
    service("echo", port, &format!("type = INTERNAL UNLISTED; {lines}"))
}

fn echo() -> String {
    format!("{NO_BRAKE}{}", echo_at(9907, ""))
}

fn echoes(to: &str) -> bool {
    ask_tcp(to, b"hello") == b"hello"
}

// ---- becoming a daemon ----

/// Runs the daemon in the background, and returns its exit status, what it said, and the number in its pid file.
fn background(net: &Net, args: &[&str]) -> (i32, String, i32) {
    let (code, said) = ends(net, args);
    (code, said, pid_of("/run/usherd.pid"))
}

fn pid_of(path: &str) -> i32 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn is_gone(pid: i32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn signal(pid: i32, signal: i32) {
    assert!(pid > 1, "no such process: {pid}");
    // SAFETY: plain system call.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// A word of /proc/PID/stat behind the name of the program, counted from the state.
fn stat(pid: i32, word: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    rest.split(' ').nth(word).and_then(|w| w.parse().ok()).expect("a number")
}

#[test]
fn the_first_process_ends_when_all_listen() {
    in_net(|net| {
        net.write("conf", echo());
        for _ in 0..5 {
            let (code, said, pid) = background(net, &["-f", "/run/test/conf"]);
            // Nothing to wait for: who has the exit status has the service.
            assert!(echoes("127.0.0.1:9907"));
            assert_eq!((code, said.as_str()), (0, ""), "nothing to say to the terminal");
            // Whoever collects the log may be slower than we are.
            let started = format!("usherd[{pid}]: Started working: 1 available service");
            until("the log", || net.syslog().contains(&started).then_some(()));
            signal(pid, libc::SIGTERM);
            until("the daemon's end", || is_gone(pid).then_some(()));
            assert!(!Path::new("/run/usherd.pid").exists());
        }
    });
}

#[test]
fn a_daemon_stands_alone() {
    in_net(|net| {
        net.write("conf", echo());
        let open = File::open("/dev/zero").expect("open");
        let inherited = vec![open.as_raw_fd(); 50];
        let mut first = launch(net, &["-f", "/run/test/conf"], Launch { inherited, ..Launch::default() });
        assert_eq!(first.wait_exit().code(), Some(0));
        let pid = pid_of("/run/usherd.pid");
        let (parent, group, session, terminal) = (stat(pid, 1), stat(pid, 2), stat(pid, 3), stat(pid, 4));
        assert_ne!(parent, std::process::id() as i32);
        assert_ne!(parent, first.pid());
        // A session of its own whose leader is gone: no terminal it opens can become its own.
        assert_ne!(session, pid);
        assert_ne!(group, first.pid());
        assert!(is_gone(session));
        assert_eq!(terminal, 0);
        let at = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).expect("link");
        assert_eq!(at("cwd"), Path::new("/"));
        for fd in 0..3 {
            assert_eq!(at(&format!("fd/{fd}")), Path::new("/dev/null"));
        }
        let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten().collect();
        assert!(!open.iter().any(|e| fs::read_link(e.path()).is_ok_and(|to| to == Path::new("/dev/zero"))));
        assert!(open.len() < 12, "{}", open.len());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        assert!(status.contains("Umask:\t0022"), "{status}");
        assert_eq!(fs::read_to_string("/run/usherd.pid").expect("pid file"), format!("{pid}\n"));
        assert_eq!(fs::metadata("/run/usherd.pid").expect("pid file").permissions().mode() & 0o777, 0o644);
        // INT is the terminal's, and there is none.
        signal(pid, libc::SIGINT);
        assert!(echoes("127.0.0.1:9907"));
    });
}

#[test]
fn a_second_daemon_is_refused() {
    in_net(|net| {
        net.write("conf", echo());
        let (code, _, pid) = background(net, &["-f", "/run/test/conf"]);
        assert_eq!(code, 0);
        for more in [&["-stayalive"][..], &["-dontfork", "-pidfile", "/run/usherd.pid"]] {
            let (code, said) = ends(net, &[&["-f", "/run/test/conf"], more].concat());
            assert_eq!(code, 1);
            assert!(said.contains(&format!("already running as process {pid}")), "{said}");
        }
        assert_eq!(pid_of("/run/usherd.pid"), pid);
        assert!(echoes("127.0.0.1:9907"));
        // The lock dies with its holder, whatever is in the file.
        signal(pid, libc::SIGKILL);
        until("the daemon's end", || is_gone(pid).then_some(()));
        let (code, said, new) = background(net, &["-f", "/run/test/conf"]);
        assert_eq!((code, said.as_str()), (0, ""));
        assert_ne!(new, pid);
        assert!(echoes("127.0.0.1:9907"));
    });
}

#[test]
fn nothing_starts_with_status_1() {
    in_net(|net| {
        let cases = [
            ("defaults\n{\n\tinstances = some\n}\n", "instances"),
            ("defaults\n{\n}\n", "no services"),
            (&service("x", 9908, "server = /none"), "/none"),
            ("service x\n{\n\twait = no\n", "no service can be started (4 errors, see above)"),
        ];
        for (text, word) in cases {
            net.write("conf", text);
            let (code, said) = ends(net, &["-f", "/run/test/conf"]);
            assert_eq!(code, 1, "{text}: {said}");
            assert!(said.contains(word), "{text}: {said}");
            assert!(!Path::new("/run/usherd.pid").exists());
        }
        let (code, said) = ends(net, &["-f", "/run/test/nowhere"]);
        assert_eq!(code, 1);
        assert!(said.contains("/run/test/nowhere"), "{said}");
        net.write("conf", echo());
        let (code, said) = ends(net, &["-f", "/run/test/conf", "-pidfile", "/none/pid"]);
        assert_eq!(code, 1);
        assert!(said.contains("/none/pid"), "{said}");
    });
}

#[test]
fn some_services_start_with_status_3() {
    in_net(|net| {
        let taken = TcpListener::bind("127.0.0.1:9908").expect("bind");
        let cases = [
            service("x", 9908, "server = /none"),
            service("x", 9908, "bind = 127.0.0.1; server = /bin/true"),
        ];
        for (text, word) in cases.iter().zip(["/none", "bind failed"]) {
            net.write("conf", format!("{}{text}", echo()));
            let (code, said, pid) = background(net, &["-f", "/run/test/conf"]);
            assert_eq!(code, 3, "{said}");
            assert!(said.contains(word), "{said}");
            assert!(echoes("127.0.0.1:9907"));
            assert!(net.syslog().contains("Started working: 1 available service"));
            signal(pid, libc::SIGTERM);
            until("the daemon's end", || is_gone(pid).then_some(()));
        }
        drop(taken);
    });
}

#[test]
fn closed_standard_descriptors_are_no_sockets() {
    in_net(|net| {
        net.write("conf", echo());
        let shell = Some("exec <&- >&- 2>&-; exec \"$@\"");
        let mut first = launch(net, &["-f", "/run/test/conf"], Launch { shell, ..Launch::default() });
        assert_eq!(first.wait_exit().code(), Some(0));
        assert!(echoes("127.0.0.1:9907"));
        let pid = pid_of("/run/usherd.pid");
        for fd in 0..3 {
            let to = fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("link");
            assert_eq!(to, Path::new("/dev/null"));
        }
    });
}

// ---- service managers ----

/// The next message to a service manager.
fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    manager.set_read_timeout(Some(PATIENCE)).expect("time-out");
    let n = manager.recv(&mut buffer).expect("a message from the daemon");
    text(&buffer[..n])
}

#[test]
fn a_notify_manager_is_told() {
    for address in ["/run/test/notify", "@usherd.test"] {
        in_net(move |net| {
            let manager = match address.strip_prefix('@') {
                Some(name) => {
                    let address = SocketAddr::from_abstract_name(name).expect("name");
                    UnixDatagram::bind_addr(&address)
                }
                None => UnixDatagram::bind(address),
            };
            let manager = manager.expect("bind");
            net.set_env("NOTIFY_SOCKET", Some(address));
            net.write("conf", echo());
            // Without -dontfork: being told where to notify is enough to stay.
            let mut daemon = run(net, &["-f", "/run/test/conf"]);
            assert!(told(&manager).starts_with("READY=1\n"));
            assert!(echoes("127.0.0.1:9907"));
            assert!(daemon.running());
            assert!(!Path::new("/run/usherd.pid").exists(), "in the foreground nobody needs it");
            daemon.signal(libc::SIGHUP);
            let reloading = told(&manager);
            let us = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::trim);
            let us: u64 = us.and_then(|us| us.parse().ok()).unwrap_or_else(|| panic!("{reloading}"));
            let now = fs::read_to_string("/proc/uptime").expect("uptime");
            let now: f64 = now.split(' ').next().and_then(|s| s.parse().ok()).expect("seconds");
            assert!((us as f64 / 1e6 - now).abs() < 5.0, "{us} µs, up {now} s");
            assert!(told(&manager).starts_with("READY=1\n"));
            daemon.signal(libc::SIGTERM);
            assert!(told(&manager).starts_with("STOPPING=1\n"));
            assert_eq!(daemon.wait_exit().code(), Some(0));
        });
    }
}

#[test]
fn a_watchdog_is_fed_in_half_its_time() {
    in_net(|net| {
        let manager = UnixDatagram::bind("/run/test/notify").expect("bind");
        net.set_env("NOTIFY_SOCKET", Some("/run/test/notify"));
        net.set_env("WATCHDOG_USEC", Some("400000"));
        net.write("conf", echo());
        let _daemon = run(net, &["-f", "/run/test/conf"]);
        assert!(told(&manager).starts_with("READY=1\n"));
        let begin = Instant::now();
        for _ in 0..5 {
            assert_eq!(told(&manager), "WATCHDOG=1\n");
        }
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_millis(1900), "{took:?}");
    });
    // Meant for another process: not ours to feed.
    in_net(|net| {
        let manager = UnixDatagram::bind("/run/test/notify").expect("bind");
        net.set_env("NOTIFY_SOCKET", Some("/run/test/notify"));
        net.set_env("WATCHDOG_USEC", Some("100000"));
        net.set_env("WATCHDOG_PID", Some("1"));
        net.write("conf", echo());
        let _daemon = run(net, &["-f", "/run/test/conf"]);
        assert!(told(&manager).starts_with("READY=1\n"));
        manager.set_read_timeout(Some(Duration::from_millis(400))).expect("time-out");
        assert!(manager.recv(&mut [0; 64]).is_err());
    });
}

#[test]
fn the_journal_gets_levels() {
    in_net(|net| {
        let text = format!("{}{}", echo(), service("x", 9908, "server = /none"));
        net.write("conf", text);
        for (right, first) in [(true, "<5>Started working"), (false, "usherd: Started working")] {
            let (mut ours, theirs) = std::io::pipe().expect("pipe");
            let kind = File::from(std::os::fd::OwnedFd::from(ours.try_clone().expect("clone")));
            let meta = kind.metadata().expect("stat");
            let inode = if right { meta.ino() } else { meta.ino() + 1 };
            net.set_env("JOURNAL_STREAM", Some(&format!("{}:{inode}", meta.dev())));
            let special = Launch { stderr: Some(theirs.into()), ..Launch::default() };
            let daemon = launch(net, &["-dontfork", "-f", "/run/test/conf"], special).ready(&["tcp/9907"]);
            daemon.signal(libc::SIGTERM);
            let mut all = String::new();
            ours.read_to_string(&mut all).expect("read");
            assert!(all.lines().any(|line| line.starts_with(first)), "{all}");
        }
    });
}

/// Starts the daemon with sockets of a service manager.
fn activated<'n>(net: &'n Net, args: &[&str], sockets: Vec<i32>, pid: &str) -> Daemon<'n> {
    let shell = format!("LISTEN_PID={pid} LISTEN_FDS={} LISTEN_FDNAMES=a:b exec \"$@\"", sockets.len());
    launch(net, args, Launch { shell: Some(&shell), inherited: sockets, ..Launch::default() })
}

#[test]
fn sockets_of_a_service_manager_are_adopted() {
    in_net(|net| {
        let tcp = TcpListener::bind("127.0.0.1:9901").expect("bind");
        let udp = UdpSocket::bind("0.0.0.0:9902").expect("bind");
        let unix = UnixListener::bind("/run/test/socket").expect("bind");
        let stray = TcpListener::bind("127.0.0.1:9999").expect("bind");
        let inode = fs::metadata("/run/test/socket").expect("stat").ino();
        let conf = [
            service("probe", 9901, "server = /run/test/probe"),
            service("datagrams", 9902, "socket_type = dgram; wait = yes; server = /run/test/udpecho"),
            service(
                "local",
                0,
                "type = UNLISTED; protocol = unix; server = /bin/cat; bind = /run/test/socket",
            ),
        ];
        net.write("conf", conf.concat());
        let sockets = vec![tcp.as_raw_fd(), udp.as_raw_fd(), unix.as_raw_fd(), stray.as_raw_fd()];
        // Somebody who came before the daemon is served by it.
        let mut early = TcpStream::connect("127.0.0.1:9901").expect("connect");
        let mut daemon = activated(net, &["-dontfork", "-f", "/run/test/conf"], sockets, "$$");
        early.set_read_timeout(Some(PATIENCE)).expect("time-out");
        assert!(text(&read_to_end(&mut early)).ends_with("end\n"));
        drop((tcp, udp, unix, stray));
        daemon.wait_log("1 sockets of LISTEN_FDS belong to no service");
        until("the stray socket's end", || refused("127.0.0.1:9999").then_some(()));
        let found = listen_to("127.0.0.1:9901");
        assert!(!found.contains("env LISTEN_"), "{found}");
        let descriptors: Vec<_> = found.lines().filter(|line| line.starts_with("fd ")).collect();
        assert_eq!(descriptors, ["fd 0 socket", "fd 1 same as 0", "fd 2 same as 0"]);
        assert_eq!(ask_udp("127.0.0.1:9902", b"ping"), b"ping");
        let mut local = UnixStream::connect("/run/test/socket").expect("connect");
        local.write_all(b"x").expect("send");
        local.read_exact(&mut [0; 1]).expect("echo");
        // Adopted over a reload, too; and the node is not ours to remove.
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("Reconfigured: new=0 old=3 dropped=0");
        assert!(listen_to("127.0.0.1:9901").ends_with("end\n"));
        daemon.signal(libc::SIGTERM);
        assert_eq!(daemon.wait_exit().code(), Some(0));
        assert_eq!(fs::metadata("/run/test/socket").expect("still there").ino(), inode);
    });
}

#[test]
fn sockets_meant_for_another_process_are_closed() {
    in_net(|net| {
        let tcp = TcpListener::bind("127.0.0.1:9901").expect("bind");
        let conf = service("probe", 9901, "bind = 127.0.0.1; server = /run/test/probe");
        net.write("conf", conf);
        let daemon = activated(net, &["-dontfork", "-f", "/run/test/conf"], vec![tcp.as_raw_fd()], "1");
        daemon.wait_log("bind failed");
        leave(tcp);
        drop(tcp_eventually("127.0.0.1:9901"));
        let found = listen_to("127.0.0.1:9901");
        assert!(!found.contains("env LISTEN_"), "{found}");
    });
}

// ---- one service from the command line ----

#[test]
fn arguments_reach_the_program_as_they_are() {
    in_net(|net| {
        let words = ["a b", "", "\"q\"", "%a %%", "-v", "--", "#x", "\\", "'"];
        let args = [&["-tcp", "127.0.0.1:9901", "/run/test/probe"][..], &words].concat();
        let daemon = run(net, &args).ready(&["tcp/9901"]);
        let found = listen_to("127.0.0.1:9901");
        for (n, word) in words.iter().enumerate() {
            let line = format!("argv {} {}\n", n + 1, word.escape_debug());
            assert!(found.contains(&line), "no {line:?} in {found}");
        }
        daemon.wait_log("usherd: probe on tcp 127.0.0.1:9901");
        daemon.wait_log("Started working: 1 available service");
    });
}

#[test]
fn programs_are_found_by_name_and_place() {
    in_net(|net| {
        for (n, (program, more)) in
            [("cat", None), ("./copy", Some("cd /run/test")), ("test/copy", Some("cd /run"))]
                .iter()
                .enumerate()
        {
            net.script("copy", COPIES);
            let shell = more.map(|cd| format!("{cd} && exec \"$@\""));
            let place = format!("127.0.0.1:{}", 9910 + n);
            let special = Launch { shell: shell.as_deref(), ..Launch::default() };
            let _daemon = launch(net, &["-tcp", &place, program], special);
            drop(tcp_eventually(&place));
            assert!(echoes(&place));
        }
    });
}

#[test]
fn udp_and_builtins_and_settings() {
    in_net(|net| {
        let _udp = run(net, &["-udp", "9902", "/run/test/udpecho"]).ready(&["udp/9902"]);
        assert_eq!(ask_udp("127.0.0.1:9902", b"ping"), b"ping");
        assert_eq!(ask_udp("[::1]:9902", b"ping"), b"ping");
    });
    in_net(|net| {
        let echo = run(net, &["-tcp", "[::1]:9907", "-builtin", "echo"]).ready(&["tcp6/9907"]);
        assert!(echoes("[::1]:9907"));
        // The words that come before its name once were read as a service without one.
        echo.wait_log("START: echo");
        assert!(!echo.said().contains("error:"), "{}", echo.said());
        assert!(refused("127.0.0.1:9907"));
        let _echo = run(net, &["-udp", "127.0.0.1:9907", "-builtin", "echo"]).ready(&["udp/9907"]);
        assert_eq!(ask_udp("127.0.0.1:9907", b"ping"), b"ping");
    });
    in_net(|net| {
        let set = ["-set", "only_from=127.0.0.2", "-set", "instances=1", "-set", "log_on_failure=HOST"];
        let args = [&["-tcp", "9901"][..], &set, &["cat"]].concat();
        let daemon = run(net, &args).ready(&["tcp/9901"]);
        let mut one = tcp_from("127.0.0.2:0", "127.0.0.1:9901");
        round_trip(&mut one, b"x");
        assert_eq!(fate(tcp_from("127.0.0.2:0", "127.0.0.1:9901")), "\"\" end");
        assert_eq!(fate(tcp("127.0.0.1:9901")), "\"\" end");
        daemon.wait_log("FAIL: cat service_limit from=127.0.0.2");
        daemon.wait_log("FAIL: cat address from=127.0.0.1");
    });
    in_net(|net| {
        // What is set replaces what would be assumed.
        let args = ["-tcp", "9901", "-set", "wait=yes", "-set", "stderr=null", "/run/test/acceptecho"];
        let _daemon = run(net, &args).ready(&["tcp/9901"]);
        assert!(echoes("127.0.0.1:9901"));
        assert!(echoes("127.0.0.1:9901"));
    });
}

#[test]
fn a_command_line_that_cannot_be_served_is_refused() {
    in_net(|net| {
        let cases: [(&[&str], i32, &str); 15] = [
            (&["-tcp"], 2, "-tcp"),
            (&["-tcp", "9901"], 2, "need a program"),
            (&["-tcp", "9901", "-builtin", "echo", "x"], 2, "unexpected word x"),
            (&["-t", "/run/test/conf"], 2, "write -f /run/test/conf"),
            (&["-tcp", "9901", "-set", "instances", "cat"], 2, "attribute=value"),
            (&["-tcp", "9901", "-f", "/etc/x", "cat"], 2, "exclude"),
            (&["-tcp", "9901x", "cat"], 1, "9901x"),
            (&["-tcp", "70000", "cat"], 1, "70000"),
            (&["-tcp", "[::1]", "cat"], 1, "[::1]"),
            (&["-tcp", "127.0.0.256:9901", "cat"], 1, "127.0.0.256"),
            (&["-tcp", "9901", "no-such-program"], 1, "no-such-program: No such file"),
            (&["-tcp", "9901", "./no-such-program"], 1, "/no-such-program: No such file"),
            (&["-tcp", "9901", "-set", "foo=bar", "cat"], 1, "foo"),
            (&["-tcp", "9901", "-builtin", "ecco"], 1, "ecco"),
            (&["-dontfork", "-tcp", "9901", "/none"], 1, "/none"),
        ];
        for (args, status, word) in cases {
            let (code, said) = ends(net, args);
            assert_eq!(code, status, "{args:?}: {said}");
            assert!(said.contains(word), "{args:?}: {said}");
        }
    });
}

// ---- servers that own the socket ----

/// Says when it was started, and ends without looking at what waits.
const HASTY: &str = "#!/bin/sh\necho >> /run/test/starts\n";

fn starts() -> usize {
    fs::read_to_string("/run/test/starts").map_or(0, |text| text.len())
}

fn wait_service(kind: &str, program: &str) -> String {
    let lines = format!("socket_type = {kind}; wait = yes; server = {program}");
    format!("{NO_BRAKE}{}", service("waits", 9901, &lines))
}

/// Starts of a server that does not do its work become rare, and it has its chance again when it does.
fn a_hasty_server(kind: &'static str, good: &'static str, answer: fn()) {
    in_net(move |net| {
        net.script("server", HASTY);
        let proto = if kind == "dgram" { "udp/9901" } else { "tcp/9901" };
        let daemon = serve(net, &wait_service(kind, "/run/test/server")).ready(&[proto]);
        if kind == "dgram" {
            client::udp("127.0.0.1:0", "127.0.0.1:9901").send(b"hello").expect("send");
        } else {
            // It has left when it is taken.
            drop(tcp("127.0.0.1:9901"));
        }
        std::thread::sleep(Duration::from_secs(3));
        // At once four times, then after 0.2, 0.4, 0.8, 1.6 seconds.
        assert!((6..10).contains(&starts()), "{} starts in 3 seconds\n{}", starts(), daemon.log());
        daemon.wait_log("waits: server ends without taking what waits for it");
        net.script("server", &format!("#!/bin/sh\nexec /run/test/{good}\n"));
        answer();
        // And is trusted again: no delay is left over.
        let begin = Instant::now();
        answer();
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    });
}

#[test]
fn a_datagram_server_that_takes_nothing_is_slowed_down() {
    a_hasty_server("dgram", "udponce", || assert_eq!(ask_udp("127.0.0.1:9901", b"hello"), b"hello"));
}

#[test]
fn a_stream_server_that_takes_nothing_is_slowed_down() {
    a_hasty_server("stream", "acceptecho", || assert!(echoes("127.0.0.1:9901")));
}

#[test]
fn equal_datagrams_are_told_apart() {
    in_net(|net| {
        let daemon = serve(net, &wait_service("dgram", "/run/test/udponce")).ready(&["udp/9901"]);
        let client = udp("127.0.0.1:0", "127.0.0.1:9901");
        let begin = Instant::now();
        for _ in 0..200 {
            client.send(b"the same").expect("send");
        }
        for n in 0..200 {
            assert_eq!(answer(&client).as_deref(), Some(&b"the same"[..]), "answer {n}\n{}", daemon.log());
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert!(!daemon.log().contains("without taking"), "{}", daemon.log());
    });
}

#[test]
fn a_queue_as_long_as_before_may_be_another() {
    in_net(|net| {
        // As many clients as there are wait again and again: each server leaves a queue like the one it found.
        let daemon = serve(net, &wait_service("stream", "/run/test/acceptecho")).ready(&["tcp/9901"]);
        let begin = Instant::now();
        let clients: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..50).for_each(|_| assert!(echoes("127.0.0.1:9901")))))
            .collect();
        for client in clients {
            client.join().expect("every client is served");
        }
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
        assert!(!daemon.log().contains("without taking"), "{}", daemon.log());
    });
}

#[test]
fn servers_get_no_control_messages_they_did_not_ask_for() {
    in_net(|net| {
        let daemon = serve(net, &wait_service("dgram", "/run/test/probe")).ready(&["udp/9901"]);
        let client = udp("127.0.0.1:0", "127.0.0.1:9901");
        client.send(b"?").expect("send");
        let found = text(&answer(&client).expect("an answer"));
        assert!(found.contains("timestamps 0\n"), "{found}\n{}", daemon.log());
    });
}

#[test]
fn a_listener_that_is_kept_serves_as_the_new_file_says() {
    in_net(|net| {
        net.script("complains", "#!/bin/sh\necho complaint >&2\n");
        let program = |wait: &str, lines: &str| {
            let lines = format!("socket_type = stream; wait = {wait}; {lines}");
            format!("{NO_BRAKE}{}", service("x", 9901, &lines))
        };
        let daemon = serve(net, &format!("{NO_BRAKE}{}", echo_at(9901, "id = x"))).ready(&["tcp/9901"]);
        assert!(echoes("127.0.0.1:9901"));
        let mut reloads = 0;
        let mut reload = |text: String| {
            reloads += 1;
            daemon.reload(&text);
            daemon.wait_log_times("Reconfigured: new=0 old=1 dropped=0 kept=1", reloads);
        };
        reload(program("no", "server = /run/test/probe"));
        assert!(listen_to("127.0.0.1:9901").contains("blocking true\n"));
        reload(program("yes", "server = /run/test/probe"));
        let found = listen_to("127.0.0.1:9901");
        assert!(found.contains("socket inet6 stream listening\n"), "{found}");
        assert!(found.contains("blocking true\n"), "{found}");
        reload(program("no", "server = /run/test/complains; stderr = log"));
        assert_eq!(listen_to("127.0.0.1:9901"), "");
        daemon.wait_log("x[stderr]: complaint");
        reload(program("no", "server = /run/test/complains"));
        assert_eq!(listen_to("127.0.0.1:9901"), "complaint\n");
        reload(format!("{NO_BRAKE}{}", echo_at(9901, "id = x")));
        assert!(echoes("127.0.0.1:9901"));
    });
}

// ---- attributes of ours ----

#[test]
fn standard_error_goes_where_it_is_told() {
    in_net(|net| {
        net.script(
            "complains",
            "#!/bin/sh\necho answer\necho complaint >&2\nprintf 'two\\r\\nlines\\nand a rest' >&2\n",
        );
        let conf: String = ["client", "log", "null"]
            .iter()
            .zip(9901..)
            .map(|(to, port)| {
                let lines = "server = /run/test/complains; stderr = ";
                service(to, port, &format!("{lines}{to}"))
            })
            .collect();
        let daemon = serve(net, &conf).ready(&["tcp/9901", "tcp/9902", "tcp/9903"]);
        assert_eq!(listen_to("127.0.0.1:9901"), "answer\ncomplaint\ntwo\r\nlines\nand a rest");
        assert_eq!(listen_to("127.0.0.1:9902"), "answer\n");
        assert_eq!(listen_to("127.0.0.1:9903"), "answer\n");
        for line in ["complaint", "two", "lines", "and a rest"] {
            daemon.wait_log(&format!("INFO: log[stderr]: {line}\n"));
        }
        assert!(!daemon.log().contains("client[stderr]") && !daemon.log().contains("null[stderr]"));
    });
}

#[test]
fn a_megabyte_of_standard_error_neither_blocks_nor_floods() {
    in_net(|net| {
        let line = "x".repeat(99);
        net.write("lines", format!("{line}\n").repeat(10_000));
        net.script("floods", "#!/bin/sh\ncat /run/test/lines >&2\necho done\n");
        let program = "server = /run/test/floods; stderr = log";
        let conf = format!("{NO_BRAKE}{}{}", service("floods", 9901, program), echo_at(9907, ""));
        let mut daemon = serve(net, &conf).ready(&["tcp/9901", "tcp/9907"]);
        let begin = Instant::now();
        assert_eq!(listen_to("127.0.0.1:9901"), "done\n");
        assert!(echoes("127.0.0.1:9907"));
        assert!(begin.elapsed() < Duration::from_secs(2));
        let logged = daemon.log().matches(&format!("floods[stderr]: {line}\n")).count();
        assert!((190..=200).contains(&logged), "{logged} lines");
        // The rest is a number, now or at the end.
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        let log = daemon.log();
        let more = log
            .lines()
            .find_map(|line| line.split_once("[stderr]: ")?.1.strip_suffix(" more lines were not logged"));
        let more: usize = more.and_then(|more| more.parse().ok()).unwrap_or_else(|| panic!("{log}"));
        // Where two reads meet a line may come as two.
        assert!((9_800..10_400).contains(&more), "{more}");
    });
}

#[test]
fn servers_outlive_their_service_with_their_standard_error() {
    in_net(|net| {
        // Says on its standard error what it is told.
        net.script(
            "tells",
            "#!/bin/sh\nwhile read -r line; do echo \"$line\" >&2; echo said; done\necho bye >&2\n",
        );
        let tells = service("tells", 9901, "server = /run/test/tells; stderr = log");
        let mut daemon = serve(net, &format!("{}{tells}", echo())).ready(&["tcp/9901", "tcp/9907"]);
        let mut client = tcp("127.0.0.1:9901");
        let mut say = |word: &str| {
            client.write_all(format!("{word}\n").as_bytes()).expect("send");
            assert_eq!(read_n(&mut client, 5), b"said\n");
        };
        say("one");
        daemon.wait_log("tells[stderr]: one");
        daemon.reload(&echo());
        daemon.wait_log("dropped=1");
        say("two");
        daemon.wait_log("tells[stderr]: two");
        // The last words at the end are heard as well.
        drop(client);
        daemon.wait_log("tells[stderr]: bye");
        daemon.signal(libc::SIGTERM);
        assert_eq!(daemon.wait_exit().code(), Some(0));
    });
}

#[test]
fn arguments_are_expanded_when_asked_for() {
    in_net(|net| {
        let args = "%a %r %A %R %d %% a%ab %x % \"%a %r\"";
        let of = |name: &str, port, more: &str| {
            let lines = format!("server = /run/test/probe; server_args = {args}; {more}");
            service(name, port, &lines)
        };
        let conf = format!("{}{}", of("plain", 9901, ""), of("expanded", 9902, "expand = yes"));
        let _daemon = serve(net, &conf).ready(&["tcp/9901", "tcp/9902"]);
        let found = listen_to("127.0.0.1:9901");
        assert!(found.contains("argv 1 %a\n") && found.contains("argv 6 %%\n"), "{found}");
        for (from, to, client, server) in [
            ("127.0.0.3:0", "127.0.0.1:9902", "127.0.0.3", "127.0.0.1"),
            ("[::1]:0", "[::1]:9902", "::1", "::1"),
        ] {
            let mut stream = if from.starts_with('[') { tcp(to) } else { tcp_from(from, to) };
            let port = stream.local_addr().expect("address").port();
            let found = text(&read_to_end(&mut stream));
            let words = [
                client,
                &port.to_string(),
                server,
                "9902",
                "expanded",
                "%",
                &format!("a{client}b"),
                "%x",
                "%",
                &format!("{client} {port}"),
            ];
            for (n, word) in words.iter().enumerate() {
                assert!(found.contains(&format!("argv {} {word}\n", n + 1)), "no {word} in {found}");
            }
        }
    });
}

#[test]
fn the_socket_is_passed_as_sd_listen_fds_expects() {
    in_net(|net| {
        let of = |name, port, lines: &str| {
            service(name, port, &format!("{lines}; server = /run/test/probe; listen_fds = yes"))
        };
        let conf = [
            of("each", 9901, "socket_type = stream; wait = no"),
            of("waits", 9902, "socket_type = stream; wait = yes"),
            of("datagrams", 9903, "socket_type = dgram; wait = yes"),
        ];
        net.set_env("LISTEN_FDS", Some("7"));
        let daemon = serve(net, &conf.concat()).ready(&["tcp/9901", "tcp/9902", "udp/9903"]);
        let all = [
            ("each", listen_to("127.0.0.1:9901"), "plain"),
            ("waits", listen_to("127.0.0.1:9902"), "listening"),
            ("datagrams", text(&ask_udp("127.0.0.1:9903", b"?")), "plain"),
        ];
        for (name, found, kind) in all {
            assert!(
                found.contains("env LISTEN_FDS=1\n") && !found.contains("LISTEN_FDS=7"),
                "{name}: {found}"
            );
            let pid = found.lines().find_map(|line| line.strip_prefix("pid ")).expect("a pid");
            assert!(found.contains(&format!("env LISTEN_PID={pid}\n")), "{name}: {found}");
            assert!(found.contains("fd 3 same as 0\n"), "{name}: {found}");
            assert!(!found.contains("fd 4 "), "{name}: {found}");
            assert!(found.lines().any(|l| l.starts_with("socket ") && l.ends_with(kind)), "{name}: {found}");
        }
        drop(daemon);
    });
}

/// What ss(8) would show as Send-Q of a listener: its backlog.
fn backlog(port: u16) -> u32 {
    let out = std::process::Command::new("ss").args(["-Hltn", "sport", "=", &format!(":{port}")]).output();
    let out = text(&out.expect("ss").stdout);
    let words: Vec<_> = out.split_whitespace().collect();
    words.get(2).and_then(|w| w.parse().ok()).unwrap_or_else(|| panic!("{out:?}"))
}

#[test]
fn backlog_and_buffers_are_set() {
    in_net(|net| {
        let of = |more: &str| {
            service(
                "probe",
                9901,
                &format!("socket_type = stream; wait = yes; server = /run/test/probe; {more}"),
            )
        };
        let mut daemon = serve(net, &of("backlog = 7; rcvbuf = 20K; sndbuf = 30000")).ready(&["tcp/9901"]);
        assert_eq!(backlog(9901), 7);
        let found = listen_to("127.0.0.1:9901");
        // The kernel doubles what it is asked for.
        assert!(found.contains("buffers 40960 60000\n"), "{found}");
        daemon.reload(&of("backlog = 9; rcvbuf = 20K; sndbuf = 30000"));
        until("the new backlog", || (backlog(9901) == 9).then_some(()));
        // Another buffer needs another socket.
        daemon.reload(&of("rcvbuf = 10K"));
        daemon.wait_log_times("Reconfigured: ", 2);
        assert!(listen_to("127.0.0.1:9901").contains("buffers 20480 "));
        assert_eq!(backlog(9901), 1024);
        assert!(daemon.running());
    });
}

#[test]
fn unix_sockets_have_their_mode_and_owner_and_leave_no_node() {
    in_net(|net| {
        let of = |name: &str, more: &str| {
            let lines = format!(
                "type = UNLISTED; protocol = unix; bind = /run/test/{name}; server = /bin/cat; {more}"
            );
            service(name, 0, &lines)
        };
        let conf = [
            of("one", "socket_mode = 600; socket_user = nobody; socket_group = 7"),
            of("two", "socket_type = stream; wait = no"),
            of("three", "socket_type = dgram; wait = yes").replace("/bin/cat", "/run/test/udponce"),
        ];
        let conf = conf.concat();
        let node = |name: &str| {
            let meta = fs::metadata(Path::new("/run/test").join(name)).expect("node");
            (meta.ino(), meta.permissions().mode() & 0o777, meta.uid(), meta.gid())
        };
        let talks = || {
            let mut stream = UnixStream::connect("/run/test/one").expect("connect");
            stream.write_all(b"x").expect("send");
            stream.read_exact(&mut [0; 1]).expect("echo");
            let own = Path::new("/run/test/own");
            let _ = fs::remove_file(own);
            let datagrams = UnixDatagram::bind(own).expect("bind");
            datagrams.connect("/run/test/three").expect("connect");
            datagrams.send(b"ping").expect("send");
            datagrams.set_read_timeout(Some(PATIENCE)).expect("time-out");
            assert_eq!(datagrams.recv(&mut [0; 9]).expect("answer"), 4);
        };
        let mut daemon = serve(net, &conf);
        daemon.wait_log("Started working: 3");
        talks();
        let (inode, mode, uid, gid) = node("one");
        assert_eq!((mode, uid, gid), (0o600, 65534, 7));
        assert_eq!(node("two").1, 0o666);
        // The same over a reload.
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("kept=3");
        assert_eq!(node("one").0, inode);
        talks();
        // Replaced after a crash.
        daemon.signal(libc::SIGKILL);
        daemon.wait_exit();
        drop(daemon);
        assert_eq!(node("one").0, inode);
        let mut daemon = serve(net, &conf);
        daemon.wait_log("Started working: 3");
        talks();
        // What somebody else has put there is his.
        fs::remove_file("/run/test/two").expect("remove");
        let other = UnixListener::bind("/run/test/two").expect("bind");
        daemon.signal(libc::SIGTERM);
        assert_eq!(daemon.wait_exit().code(), Some(0));
        for (name, there) in [("one", false), ("two", true), ("three", false)] {
            assert_eq!(Path::new("/run/test").join(name).exists(), there, "{name}");
        }
        drop(other);
        // A file that is no socket is not removed.
        drop(daemon);
        net.write("three", "precious");
        let daemon = serve(net, &conf);
        daemon.wait_log("bind failed (Address already in use");
        assert_eq!(fs::read_to_string("/run/test/three").expect("file"), "precious");
    });
}

// ---- places that come and go ----

#[test]
fn an_address_may_come_later() {
    in_net(|net| {
        let conf =
            format!("{}{}", echo_at(9907, "bind = 10.9.8.7"), echo_at(9908, "id = six; bind = fd00::7"));
        let daemon = serve(net, &conf).ready(&["tcp/9907", "tcp6/9908"]);
        daemon.wait_log("Started working: 2 available services");
        ip("addr add 10.9.8.7/32 dev lo");
        net.add_address("fd00::7");
        assert!(echoes("10.9.8.7:9907"));
        assert!(echoes("[fd00::7]:9908"));
        assert!(refused("127.0.0.1:9907"));
    });
}

#[test]
fn an_interface_may_come_later() {
    in_net(|net| {
        let daemon = serve(net, &format!("{}{}", echo(), echo_at(9908, "id = near; bind = near0")))
            .ready(&["tcp/9907"]);
        daemon.wait_log("bind failed (No such device (errno = 19)). service = near, tcp near0:9908");
        ip("netns add far");
        ip("link add near0 type veth peer name far0 netns far");
        ip("addr add 10.9.8.1/24 dev near0");
        ip("link set near0 up");
        ip("-n far addr add 10.9.8.2/24 dev far0");
        ip("-n far link set far0 up");
        daemon.wait_log("Activating service near: listening on tcp near0:9908");
        let script =
            "exec 3<>/dev/tcp/10.9.8.1/9908 && echo hello >&3 && read -r line <&3 && echo \"got $line\"";
        let out =
            net.command("ip").args(["netns", "exec", "far", "bash", "-c", script]).output().expect("ip");
        assert_eq!(text(&out.stdout), "got hello\n", "{}", text(&out.stderr));
        // And nobody from elsewhere.
        assert!(refused("127.0.0.1:9908"));
    });
}

#[test]
fn an_address_in_use_is_tried_again() {
    in_net(|net| {
        let stream = TcpListener::bind("0.0.0.0:9908").expect("bind");
        let datagrams = UdpSocket::bind("0.0.0.0:9908").expect("bind");
        let udp = "socket_type = dgram; wait = yes; id = datagrams; server = /run/test/udpecho";
        let conf = [echo(), echo_at(9908, "id = stream"), service("x", 9908, udp)].concat();
        net.write("conf", &conf);
        let (code, said, pid) = background(net, &["-f", "/run/test/conf"]);
        assert_eq!(code, 3, "{said}");
        for service in ["stream, tcp", "datagrams, udp"] {
            let line = format!("bind failed (Address already in use (errno = 98)). service = {service}");
            assert!(said.contains(&line), "{said}");
        }
        // The others do not wait for it.
        assert!(echoes("127.0.0.1:9907"));
        leave(stream);
        drop(datagrams);
        drop(tcp_eventually("127.0.0.1:9908"));
        assert!(echoes("127.0.0.1:9908"));
        assert_eq!(ask_udp("127.0.0.1:9908", b"ping"), b"ping");
        until("a word about it", || {
            net.syslog().contains("Activating service datagrams: listening on udp *:9908").then_some(())
        });
        signal(pid, libc::SIGTERM);
    });
}

#[test]
fn a_kernel_without_ipv6_serves_ipv4() {
    in_net(|net| {
        let conf = format!("{}{}", echo(), echo_at(9908, "id = six; flags = IPv6; v6only = yes"));
        net.write("conf", &conf);
        let special = Launch { without_ipv6: true, ..Launch::default() };
        let args = ["-dontfork", "-f", "/run/test/conf"];
        let daemon = launch(net, &args, special).ready(&["tcp4/9907"]);
        assert!(echoes("127.0.0.1:9907"));
        daemon.wait_log("bind failed (Address family not supported by protocol (errno = 97)). service = six");
        assert!(!daemon.log().contains("service = echo"), "{}", daemon.log());
        drop(daemon);
        // inetd.conf: the line without a family has two halves, and one is nothing to talk about.
        net.write("conf", "echo stream tcp nowait root internal\n");
        let special = Launch { without_ipv6: true, ..Launch::default() };
        let daemon = launch(net, &args, special).ready(&["tcp4/7"]);
        assert!(echoes("127.0.0.1:7"));
        assert!(!daemon.log().contains("bind failed"), "{}", daemon.log());
    });
    in_net(|net| {
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").expect("sysctl");
        let daemon = serve(net, &echo()).ready(&["tcp/9907"]);
        assert!(echoes("127.0.0.1:9907"));
        assert!(!daemon.log().contains("failed"), "{}", daemon.log());
    });
}

// ---- logs ----

/// A service whose every connection makes one record, of a length that is always the same.
fn recorded(lines: &str) -> String {
    format!("{NO_BRAKE}{}", echo_at(9907, &format!("log_on_success = HOST; {lines}")))
}

const RECORD: usize = "26/11/23@01:39:29: START: echo from=127.0.0.1\n".len();

fn lines_of(path: &str) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn a_log_file_has_limits_and_a_shortened_one_goes_on() {
    in_net(|net| {
        let limits = format!("log_type = FILE /run/test/records {} {}", 3 * RECORD, 5 * RECORD);
        let mut daemon = serve(net, &recorded(&limits)).ready(&["tcp/9907"]);
        for n in 0..9 {
            assert!(echoes("127.0.0.1:9907"));
            until("a record", || (lines_of("/run/test/records") == (n + 1).min(5)).then_some(()));
            let log = daemon.log();
            assert_eq!(
                log.matches("records: Size of log exceeded soft limit").count(),
                usize::from(n >= 3),
                "{n}: {log}"
            );
            assert_eq!(
                log.matches("records: Size of log exceeded hard limit").count(),
                usize::from(n >= 5),
                "{n}: {log}"
            );
        }
        // Emptied by somebody, as logrotate's copytruncate does.
        File::options().write(true).truncate(true).open("/run/test/records").expect("truncate");
        assert!(echoes("127.0.0.1:9907"));
        daemon.wait_log("records: Log file is written again; records lost: 4\n");
        assert_eq!(lines_of("/run/test/records"), 1);
        // And all over again; this time the end comes first.
        for _ in 0..6 {
            assert!(echoes("127.0.0.1:9907"));
        }
        daemon.wait_log("Size of log exceeded hard");
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        let log = daemon.log();
        assert_eq!(log.matches("exceeded soft limit").count(), 2, "{log}");
        assert_eq!(log.matches("exceeded hard limit").count(), 2, "{log}");
        assert!(log.contains("records: closed; records lost: 2\n"), "{log}");
    });
}

/// Lines that wait for the end of a turn count as well: a look at the file, which does not have them yet, let in as many again.
#[test]
fn a_log_file_has_its_limit_also_for_many_at_once() {
    in_net(|net| {
        let limits = format!("log_type = FILE /run/test/records {} {}", 3 * RECORD, 5 * RECORD);
        let daemon = serve(net, &recorded(&limits)).ready(&["tcp/9907"]);
        daemon.signal(libc::SIGSTOP);
        let waiting: Vec<_> =
            (0..20).map(|_| TcpStream::connect("127.0.0.1:9907").expect("a client")).collect();
        daemon.signal(libc::SIGCONT);
        daemon.wait_log("records: Size of log exceeded hard limit");
        drop(waiting);
        assert!(echoes("127.0.0.1:9907"));
        assert_eq!(lines_of("/run/test/records"), 5);
    });
}

/// Lines are written when a turn ends, and what becomes of them is known only then. None is told to be written that is not,
/// and each that is not is counted.
#[test]
fn records_of_a_full_disk_are_counted_each() {
    in_net(|net| {
        symlink("/dev/full", "/run/test/records").expect("link");
        let mut daemon = serve(net, &recorded("log_type = FILE /run/test/records")).ready(&["tcp/9907"]);
        let clients = 40;
        // Many in one turn: they are there before the daemon goes on.
        daemon.signal(libc::SIGSTOP);
        let waiting: Vec<_> =
            (0..clients).map(|_| TcpStream::connect("127.0.0.1:9907").expect("a client")).collect();
        daemon.signal(libc::SIGCONT);
        daemon.wait_log("records: Log file cannot be written; size: 0\n");
        drop(waiting);
        for _ in 0..3 {
            assert!(echoes("127.0.0.1:9907"));
        }
        // There is room again.
        fs::remove_file("/run/test/records").expect("remove");
        daemon.signal(libc::SIGHUP);
        daemon.wait_log(&format!("records: closed; records lost: {}\n", clients + 3));
        assert!(echoes("127.0.0.1:9907"));
        until("a record", || (lines_of("/run/test/records") == 1).then_some(()));
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        assert_eq!(daemon.log().matches("cannot be written").count(), 1, "{}", daemon.log());
    });
}

#[test]
fn log_files_are_opened_again_on_a_reload() {
    in_net(|net| {
        let conf = recorded("log_type = FILE /run/test/records");
        let daemon = serve(net, &conf).ready(&["tcp/9907"]);
        assert!(echoes("127.0.0.1:9907"));
        until("a record", || (lines_of("/run/test/records") == 1).then_some(()));
        for name in ["records", "daemon.log"] {
            fs::rename(format!("/run/test/{name}"), format!("/run/test/{name}.1")).expect("rename");
        }
        assert!(echoes("127.0.0.1:9907"));
        until("a record", || (lines_of("/run/test/records.1") == 2).then_some(()));
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("Reconfigured");
        assert!(echoes("127.0.0.1:9907"));
        until("a record", || (lines_of("/run/test/records") == 1).then_some(()));
        assert_eq!(lines_of("/run/test/records.1"), 2);
        assert!(!fs::read_to_string("/run/test/daemon.log.1").expect("old log").contains("Reconfigured"));
    });
}

#[test]
fn what_a_log_file_did_not_take_is_counted() {
    in_net(|net| {
        let mut daemon = {
            net.write("conf", echo());
            run(net, &["-dontfork", "-filelog", "/run/test/later/log", "-f", "/run/test/conf"])
                .ready(&["tcp/9907"])
        };
        net.write("conf", echo().replace("9907", "9908"));
        daemon.signal(libc::SIGHUP);
        daemon.wait_open("tcp/9908");
        // Who is served there comes after the reload's last word: one was said at the start, two about the reload.
        assert!(echoes("127.0.0.1:9908"));
        fs::create_dir("/run/test/later").expect("directory");
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        let log = fs::read_to_string("/run/test/later/log").expect("log");
        assert!(log.contains("WARNING: 3 messages could not be written\n"), "{log}");
        assert!(log.ends_with("NOTICE: Exiting...\n"), "{log}");
    });
}

#[test]
fn records_go_to_syslog_with_facility_and_level() {
    in_net(|net| {
        let conf = recorded("log_type = SYSLOG local3 warning");
        let daemon = serve(net, &conf).ready(&["tcp/9907"]);
        assert!(echoes("127.0.0.1:9907"));
        // local3 is 19, warning is 4.
        let record = until("a record", || {
            net.syslog().lines().find(|line| line.contains("START: echo")).map(str::to_owned)
        });
        assert!(record.starts_with("<156>"), "{record}");
        assert!(
            record.ends_with(&format!(" usherd[{}]: START: echo from=127.0.0.1", daemon.pid())),
            "{record}"
        );
    });
}

#[test]
fn without_syslogd_a_foreground_daemon_shows_the_records() {
    in_net(|net| {
        fs::remove_file("/dev/log").expect("remove");
        net.write("conf", recorded("log_type = SYSLOG authpriv"));
        let daemon = run(net, &["-dontfork", "-f", "/run/test/conf"]).ready(&["tcp/9907"]);
        assert!(echoes("127.0.0.1:9907"));
        until("a record", || daemon.said().contains("usherd: START: echo from=127.0.0.1\n").then_some(()));
        assert!(!daemon.said().contains("could not be written"), "{}", daemon.said());
    });
}

#[test]
fn syslogd_may_go_and_come_back() {
    in_net(|net| {
        fs::remove_file("/dev/log").expect("remove");
        let syslogd = || UnixDatagram::bind("/dev/log").expect("bind");
        let hear = |socket: &UnixDatagram| {
            let message = told(socket);
            message.split_once("]: ").map_or(message.clone(), |(_, text)| text.to_owned())
        };
        net.write("conf", recorded(""));
        let args = ["-dontfork", "-syslog", "daemon", "-f", "/run/test/conf"];
        let daemon = run(net, &args).ready(&["tcp/9907"]);
        // Nobody was there when the daemon started: one message lost, and one client's.
        assert!(echoes("127.0.0.1:9907"));
        let first = syslogd();
        assert!(echoes("127.0.0.1:9907"));
        assert_eq!(hear(&first), "2 messages could not be written");
        assert_eq!(hear(&first), "START: echo from=127.0.0.1");
        // A restart without a message meanwhile loses nothing.
        drop(first);
        fs::remove_file("/dev/log").expect("remove");
        let second = syslogd();
        assert!(echoes("127.0.0.1:9907"));
        assert_eq!(hear(&second), "START: echo from=127.0.0.1");
        drop(second);
        fs::remove_file("/dev/log").expect("remove");
        for _ in 0..5 {
            assert!(echoes("127.0.0.1:9907"));
        }
        let third = syslogd();
        assert!(echoes("127.0.0.1:9907"));
        assert_eq!(hear(&third), "5 messages could not be written");
        assert_eq!(hear(&third), "START: echo from=127.0.0.1");
        // One that is there and does not read blocks nobody.
        for _ in 0..300 {
            assert!(echoes("127.0.0.1:9907"));
        }
        third.set_nonblocking(true).expect("non-blocking");
        let mut heard = 0;
        while third.recv(&mut [0; 1024]).is_ok() {
            heard += 1;
        }
        assert!(echoes("127.0.0.1:9907"));
        third.set_nonblocking(false).expect("blocking");
        assert_eq!(hear(&third), format!("{} messages could not be written", 300 - heard));
        drop(daemon);
    });
}

#[test]
fn a_full_pipe_blocks_nobody() {
    in_net(|net| {
        net.write("conf", recorded(""));
        let (mut ours, theirs) = std::io::pipe().expect("pipe");
        let special = Launch { stderr: Some(theirs.into()), ..Launch::default() };
        let mut daemon = launch(net, &["-dontfork", "-f", "/run/test/conf"], special).ready(&["tcp/9907"]);
        // More lines than a pipe holds, each "usherd: START: echo from=127.0.0.1".
        const LINES: usize = 3000;
        for _ in 0..LINES {
            assert!(echoes("127.0.0.1:9907"));
        }
        let mut part = [0; 4096];
        let mut all = vec![];
        while all.len() < 8192 {
            let n = ours.read(&mut part).expect("read");
            all.extend_from_slice(&part[..n]);
        }
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        ours.read_to_end(&mut all).expect("read");
        let all = text(&all);
        assert!(all.starts_with(
            "usherd: Started working: 1 available service\nusherd: START: echo from=127.0.0.1\n"
        ));
        let told = all.matches("START: echo from=127.0.0.1\n").count();
        let lost: usize = all
            .lines()
            .filter_map(|line| line.strip_prefix("usherd: ")?.strip_suffix(" messages could not be written"))
            .map(|number| number.parse::<usize>().expect("a number"))
            .sum();
        assert!(lost > 0);
        assert_eq!(told + lost, LINES, "{}", &all[all.len() - 300..]);
        assert!(all.ends_with("usherd: Exiting...\n"));
    });
}

#[test]
fn refused_datagrams_do_not_fill_the_log() {
    in_net(|net| {
        let lines = "type = INTERNAL UNLISTED; socket_type = dgram; wait = yes; log_on_failure = HOST";
        let conf = service("echo", 9907, lines);
        let mut daemon = serve(net, &format!("{NO_BRAKE}{conf}")).ready(&["udp/9907"]);
        // From the port of another echo, from twenty addresses, five each.
        for n in 1..=20 {
            let client = udp(&format!("127.0.0.{n}:7"), "127.0.0.1:9907");
            (0..5).for_each(|_| assert_eq!(client.send(b"x").expect("send"), 1));
        }
        daemon.wait_log("FAIL: echo loop from=127.0.0.10\n");
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        let log = daemon.log();
        assert_eq!(log.matches("FAIL: echo loop from=").count(), 10, "{log}");
        let counted =
            log.lines().filter(|line| line.contains("FAIL: echo 90 more datagrams within ")).count();
        assert_eq!(counted, 1, "{log}");
    });
}

// ---- several daemons ----

/// With REUSEPORT several daemons are at one port, and each has clients; when one ends, the others have them all.
#[test]
fn several_daemons_share_a_port() {
    in_net(|net| {
        net.write("conf", NO_BRAKE.to_owned() + &echo_at(9907, "flags = REUSEPORT; log_on_success = HOST"));
        let log = |n: u32| fs::read_to_string(format!("/run/test/log{n}")).unwrap_or_default();
        let start = |n: u32| {
            let (log, pid) = (format!("/run/test/log{n}"), format!("/run/pid{n}"));
            run(net, &["-dontfork", "-filelog", &log, "-pidfile", &pid, "-f", "/run/test/conf"])
        };
        let (first, second) = (start(1), start(2));
        for n in [1, 2] {
            until("it is ready", || log(n).contains("Started working").then_some(()));
        }
        let clients: Vec<_> = (0..64)
            .map(|_| {
                let mut client = tcp("127.0.0.1:9907");
                round_trip(&mut client, b"hello");
                client
            })
            .collect();
        let served = |n: u32| log(n).matches("START: echo").count();
        until("all have a record", || (served(1) + served(2) == 64).then_some(()));
        // The kernel deals them out by a hash of both ends: one of 2^63 times all go to one.
        assert!(served(1) > 0 && served(2) > 0, "{} and {}", served(1), served(2));
        drop(clients);
        drop(first);
        let before = served(2);
        for _ in 0..16 {
            assert!(echoes("127.0.0.1:9907"));
        }
        until("the other one has them all", || (served(2) == before + 16).then_some(()));
        drop(second);
    });
}
