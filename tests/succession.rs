//! A newer program takes the daemon's place (USR2): nobody who is there is cut off, and nobody who comes is turned away.

use crate::harness::*;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the daemon's own copy of the program is, to be replaced.
const PROGRAM: &str = "/run/test/usherd";

/// Puts a program of its own there, as an installation does: a new file under the old name.
fn install() -> u64 {
    let new = format!("{PROGRAM}.new");
    fs::copy(usherd(), &new).expect("copy");
    fs::rename(&new, PROGRAM).expect("rename");
    fs::metadata(PROGRAM).expect("stat").ino()
}

fn start<'n>(net: &'n Net, text: &str, more: &[&str]) -> Daemon<'n> {
    net.write("conf", text);
    install();
    let args = [&["-dontfork", "-f", "/run/test/conf"], more].concat();
    let shell = Some("shift; exec /run/test/usherd \"$@\"");
    Daemon::launch(net, Subject::Usherd, &args, Launch { shell, ..Launch::default() })
}

fn pid_of(path: &str) -> i32 {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    text.trim().parse().expect("a pid")
}

/// Which file a process is running.
fn program_of(pid: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/exe")).map_or(0, |meta| meta.ino())
}

/// A new program takes the daemon's place.
fn succeed(daemon: &Daemon) {
    const DONE: &str = "Took the place of an older program";
    let before = daemon.log().matches(DONE).count();
    let file = install();
    daemon.signal(libc::SIGUSR2);
    daemon.wait_log_times(DONE, before + 1);
    assert_eq!(program_of(daemon.pid()), file);
}

fn echo(name: &str, port: u16, lines: &str) -> String {
    service("echo", port, &format!("id = {name}; type = INTERNAL UNLISTED; {lines}"))
}

const LOGS: &str = "log_type = SYSLOG daemon; log_on_success = PID HOST EXIT; log_on_failure = HOST";

#[test]
fn nobody_is_cut_off() {
    in_net(|net| {
        net.script(
            "talks",
            "#!/bin/sh\nwhile read -r line; do echo \"$line\"; echo \"said $line\" >&2; done\n",
        );
        // A wait server: one client after the other, and it goes when it is told to.
        net.script(
            "waits",
            "#!/usr/bin/env python3\nimport socket\ns = socket.socket(fileno=0)\nwhile True:\n    c, _ = s.accept()\n    \
             line = c.recv(100)\n    c.sendall(line)\n    c.close()\n    if line == b'end': break\n",
        );
        let host = TcpListener::bind("127.0.0.1:9990").expect("bind");
        let conf = [
            NO_BRAKE.to_string(),
            echo("echo", 9901, ""),
            service("talks", 9902, &format!("server = /run/test/talks; stderr = log; instances = 2; {LOGS}")),
            service("waits", 9903, &format!("wait = yes; server = /run/test/waits; {LOGS}")),
            service("led", 9904, "redirect = 127.0.0.1 9990"),
            service("local", 0, "protocol = unix; bind = /run/test/socket; server = /bin/cat"),
            // Two that differ in their address alone.
            service("one", 9905, "bind = 127.0.0.1; server = /run/test/hello1"),
            service("two", 9905, "bind = 127.0.0.2; server = /run/test/hello2"),
        ]
        .concat();
        net.script("hello1", "#!/bin/sh\necho one\n");
        net.script("hello2", "#!/bin/sh\necho two\n");
        let mut daemon = start(net, &conf, &[]).ready(&["tcp/9901", "tcp/9902", "tcp/9903", "tcp/9904"]);

        let mut echoed = tcp("127.0.0.1:9901");
        round_trip(&mut echoed, b"before\n");
        let mut talked = tcp("127.0.0.1:9902");
        round_trip(&mut talked, b"before\n");
        assert_eq!(ask_tcp("127.0.0.1:9903", b"first"), b"first");
        let mut led = tcp("127.0.0.1:9904");
        let (mut far, _) = host.accept().expect("accept");
        led.write_all(b"x").expect("send");
        far.read_exact(&mut [0; 1]).expect("receive");
        let mut local = UnixStream::connect("/run/test/socket").expect("connect");
        local.set_read_timeout(Some(PATIENCE)).expect("time-out");
        let inode = fs::metadata("/run/test/socket").expect("stat").ino();
        let waits = children(daemon.pid());

        for round in ["once", "twice"] {
            succeed(&daemon);
            // The conversations inside the daemon go on, in another process.
            round_trip(&mut echoed, round.as_bytes());
            led.write_all(b"there").expect("send");
            let mut five = [0; 5];
            far.read_exact(&mut five).expect("receive");
            far.write_all(b"again").expect("send");
            assert_eq!(read_n(&mut led, 5), b"again");
            // So do servers, and what they complain about is logged.
            round_trip(&mut talked, format!("{round}\n").as_bytes());
            daemon.wait_log(&format!("talks[stderr]: said {round}"));
            local.write_all(b"there").expect("send");
            local.read_exact(&mut five).expect("receive");
            // The wait server has its socket, and there is no second one.
            assert_eq!(ask_tcp("127.0.0.1:9903", round.as_bytes()), round.as_bytes());
            // Everything listens, where it did.
            assert_eq!(ask_tcp("127.0.0.1:9901", b"new"), b"new");
            assert_eq!(listen_to("127.0.0.1:9905"), "one\n");
            assert_eq!(listen_to("127.0.0.2:9905"), "two\n");
            assert_eq!(fs::metadata("/run/test/socket").expect("stat").ino(), inode);
        }
        for pid in waits {
            assert!(children(daemon.pid()).contains(&pid), "a child as before");
        }
        // Servers of before count.
        let mut second = tcp("127.0.0.1:9902");
        round_trip(&mut second, b"second\n");
        assert_eq!(listen_to("127.0.0.1:9902"), "");
        assert!(net.syslog().contains("FAIL: talks service_limit from=127.0.0.1"), "{}", net.syslog());
        drop(talked);
        until("the end of a server of before", || {
            net.syslog().contains("EXIT: talks status=0").then_some(())
        });
        // A wait server that ends gives its socket back.
        assert_eq!(ask_tcp("127.0.0.1:9903", b"end"), b"end");
        until("its end", || net.syslog().contains("EXIT: waits status=0").then_some(()));
        assert_eq!(ask_tcp("127.0.0.1:9903", b"another"), b"another");

        // The process that keeps clients of before ends with the last of them; nothing is left open for them.
        assert!(daemon.log().contains("processes with older clients=1"), "{}", daemon.log());
        let older: Vec<i32> = children(daemon.pid()).into_iter().filter(|pid| is_daemon(*pid)).collect();
        assert!(!older.is_empty());
        drop((echoed, led, far));
        until("the end of older programs", || {
            older.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
        // And everything ends with the daemon.
        let echoed = tcp("127.0.0.1:9901");
        succeed(&daemon);
        daemon.signal(libc::SIGTERM);
        assert_eq!(daemon.wait_exit().code(), Some(0));
        assert_eq!(fate(echoed), "\"\" end");
        assert!(!Path::new("/run/test/socket").exists());
    });
}

/// A server that serves a client through the daemon stays with who keeps that client; those that wait for one are replaced by
/// the newer program's own.
#[test]
fn clients_of_standby_servers_are_not_cut_off() {
    in_net(|net| {
        let conf = NO_BRAKE.to_owned()
            + &service(
                "ready",
                9901,
                &format!("server = /bin/cat; standby = 2; {LOGS}; log_on_success += TRAFFIC"),
            );
        let mut daemon = start(net, &conf, &[]).ready(&["tcp/9901"]);
        let servers = |daemon: &Daemon, count: usize| {
            until(&format!("{count} servers"), || {
                let all: Vec<i32> =
                    children(daemon.pid()).into_iter().filter(|pid| !is_daemon(*pid)).collect();
                (all.len() == count).then_some(all)
            })
        };
        let waited = servers(&daemon, 2);
        let mut first = tcp("127.0.0.1:9901");
        round_trip(&mut first, b"before");
        let before = servers(&daemon, 3);
        let serves =
            *waited.iter().find(|pid| net.syslog().contains(&format!("pid={pid} "))).expect("who serves");

        succeed(&daemon);
        round_trip(&mut first, b"after");
        // Who serves, and two of the newer program's.
        let after = servers(&daemon, 3);
        assert_eq!(before.iter().filter(|pid| after.contains(pid)).collect::<Vec<_>>(), [&serves]);
        let mut second = tcp("127.0.0.1:9901");
        round_trip(&mut second, b"new");
        servers(&daemon, 4);

        // Each ends with his client, and is recorded once.
        first.shutdown(std::net::Shutdown::Write).expect("shut down");
        assert_eq!(read_to_end(&mut first), b"");
        servers(&daemon, 3);
        until("the older program's end", || {
            (!children(daemon.pid()).into_iter().any(is_daemon)).then_some(())
        });
        until("a record", || {
            net.syslog().contains(&format!("EXIT: ready status=0 pid={serves}")).then_some(())
        });
        assert_eq!(net.syslog().matches("EXIT: ready").count(), 1, "{}", net.syslog());
        drop(second);
        servers(&daemon, 2);
        daemon.signal(libc::SIGTERM);
        assert_eq!(daemon.wait_exit().code(), Some(0));
    });
}

fn is_daemon(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "usherd")
}

#[test]
fn nobody_is_turned_away_meanwhile() {
    in_net(|net| {
        let conf =
            format!("{NO_BRAKE}{}{}", echo("echo", 9901, ""), service("cat", 9902, "server = /bin/cat"));
        let daemon = start(net, &conf, &[]).ready(&["tcp/9901", "tcp/9902"]);
        let file = install();
        daemon.signal(libc::SIGUSR2);
        let (mut asked, deadline) = (0, Instant::now() + PATIENCE);
        // Until the new program is there, and a while longer.
        let mut more = 50;
        while more > 0 {
            assert!(Instant::now() < deadline, "no new program");
            for port in [9901, 9902] {
                assert_eq!(ask_tcp(&format!("127.0.0.1:{port}"), b"hello"), b"hello", "client {asked}");
                asked += 1;
            }
            more -= i32::from(program_of(daemon.pid()) == file);
        }
        assert!(daemon.log().contains("Took the place of an older program"));
    });
}

#[test]
fn a_program_that_cannot_go_on_changes_nothing() {
    in_net(|net| {
        let text = format!("{NO_BRAKE}{}", echo("echo", 9901, ""));
        let daemon = start(net, &text, &[]).ready(&["tcp/9901"]);
        let file = program_of(daemon.pid());
        let mut open = tcp("127.0.0.1:9901");
        let mut times = 0;
        let mut stays = |why: &str| {
            daemon.signal(libc::SIGUSR2);
            times += 1;
            daemon.wait_log_times("going on with the program that runs", times);
            daemon.wait_log(why);
            assert_eq!(program_of(daemon.pid()), file);
            round_trip(&mut open, b"still here");
            assert_eq!(ask_tcp("127.0.0.1:9901", b"new"), b"new");
        };
        net.script("other", "#!/bin/sh\nexit 7\n");
        fs::rename("/run/test/other", PROGRAM).expect("rename");
        stays("-t ended with status 7");
        fs::write("/run/test/other", &fs::read(format!("/proc/{}/exe", daemon.pid())).expect("read")[..5000])
            .expect("write");
        fs::set_permissions("/run/test/other", std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("mode");
        fs::rename("/run/test/other", PROGRAM).expect("rename");
        stays("-t ended with ");
        fs::remove_file(PROGRAM).expect("remove");
        stays("-t ended with status 127");
        // The files: what goes on with us would not start with another.
        install();
        net.write("conf", text.replace("9901", "99O1"));
        stays("`99O1` is no value of `port`");
        net.write("conf", text);
        let file = install();
        daemon.signal(libc::SIGUSR2);
        until("the new program", || (program_of(daemon.pid()) == file).then_some(()));
        round_trip(&mut open, b"and here");
    });
}

#[test]
fn a_daemon_in_the_background_keeps_its_pid_file() {
    in_net(|net| {
        net.write("conf", format!("{NO_BRAKE}{}", echo("echo", 9901, "")));
        install();
        // Relative paths mean what they meant.
        let start = |args: &str| {
            let shell = format!("cd /run/test; umask 027; ulimit -Sn 200; exec ./usherd {args}");
            let output = net.command("/bin/sh").args(["-c", &shell]).output().expect("run");
            (output.status.code(), text(&output.stderr))
        };
        assert_eq!(start("-f conf"), (Some(0), String::new()));
        let pid: i32 = pid_of("/run/usherd.pid");
        let mut open = tcp("127.0.0.1:9901");
        for _ in 0..2 {
            let file = install();
            // SAFETY: plain system call.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGUSR2) }, 0);
            until("the new program", || (program_of(pid) == file).then_some(()));
            round_trip(&mut open, b"hello");
            assert_eq!(ask_tcp("127.0.0.1:9901", b"new"), b"new");
            let (code, said) = start("-f conf");
            assert_eq!(code, Some(1));
            assert!(said.contains(&format!("already running as process {pid}")), "{said}");
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
            assert!(status.contains("Umask:\t0022"), "{status}");
        }
        // SAFETY: plain system call.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        until("the end", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
        assert!(!Path::new("/run/usherd.pid").exists());
        drop(open);
        // A predecessor has no part in the lock.
        net.write("conf", format!("{NO_BRAKE}{}", echo("echo", 9901, "")));
        assert_eq!(start("-f conf"), (Some(0), String::new()));
        let pid: i32 = pid_of("/run/usherd.pid");
        let mut open = tcp("127.0.0.1:9901");
        round_trip(&mut open, b"hello");
        let file = install();
        // SAFETY: plain system call.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGUSR2) }, 0);
        until("the new program", || (program_of(pid) == file).then_some(()));
        assert_eq!(ask_tcp("127.0.0.1:9901", b"new"), b"new");
        // SAFETY: plain system call.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        until("the end", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
        round_trip(&mut open, b"still here");
        assert_eq!(start("-f conf"), (Some(0), String::new()));
        assert_eq!(ask_tcp("127.0.0.1:9901", b"new"), b"new");
    });
}

#[test]
fn servers_inherit_what_the_first_program_was_started_with() {
    in_net(|net| {
        net.script("asks", "#!/bin/sh\numask\nulimit -Sn\nenv | grep -c -e ^USHERD -e ^LISTEN\n");
        let conf = format!("{NO_BRAKE}{}", service("asks", 9901, "server = /run/test/asks"));
        let daemon = start(net, &conf, &[]).ready(&["tcp/9901"]);
        let before = listen_to("127.0.0.1:9901");
        succeed(&daemon);
        assert_eq!(listen_to("127.0.0.1:9901"), before);
    });
}

#[test]
fn a_service_manager_sees_a_reload() {
    in_net(|net| {
        let manager = UnixDatagram::bind("/run/test/notify").expect("bind");
        manager.set_read_timeout(Some(PATIENCE)).expect("time-out");
        net.set_env("NOTIFY_SOCKET", Some("/run/test/notify"));
        net.set_env("WATCHDOG_USEC", Some("400000"));
        let daemon = start(net, &format!("{NO_BRAKE}{}", echo("echo", 9901, "")), &[]);
        let told = || {
            let mut buffer = [0; 4096];
            let n = manager.recv(&mut buffer).expect("a message from the daemon");
            text(&buffer[..n]).lines().next().unwrap_or_default().to_string()
        };
        assert_eq!(told(), "READY=1");
        let _open = tcp("127.0.0.1:9901");
        install();
        daemon.signal(libc::SIGUSR2);
        let said: Vec<String> =
            std::iter::repeat_with(told).filter(|word| word != "WATCHDOG=1").take(4).collect();
        assert_eq!(said, ["RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]);
        assert!(daemon.log().contains("Took the place"));
        // One of the two feeds it, in half its time.
        let begin = Instant::now();
        for _ in 0..4 {
            assert_eq!(told(), "WATCHDOG=1");
        }
        assert!(begin.elapsed() > Duration::from_millis(550), "{:?}", begin.elapsed());
    });
}

#[test]
fn readiness_is_a_line_on_a_descriptor() {
    in_net(|net| {
        net.write("conf", format!("{NO_BRAKE}{}", echo("echo", 9901, "")));
        install();
        for (how, listens) in [("-dontfork", 9), ("", 3)] {
            // What nobody spoke of is closed.
            let shell = format!(
                "exec 4>/run/test/other {listens}>&1 1>/dev/null; exec /run/test/usherd -f /run/test/conf -pidfile /run/test/pid -ready-fd {listens} {how}"
            );
            // No program in between that would have the descriptor too.
            let mut command = Command::new("/bin/sh");
            let mut child = command.args(["-c", &shell]).stdout(Stdio::piped()).spawn().expect("spawn");
            let mut ready = BufReader::new(child.stdout.take().expect("a pipe"));
            let mut line = String::new();
            ready.read_line(&mut line).expect("read");
            assert_eq!(line, "\n", "{how}");
            assert_eq!(ask_tcp("127.0.0.1:9901", b"there"), b"there");
            line.clear();
            assert_eq!(ready.read_line(&mut line).expect("read"), 0, "it is closed then");
            let pid = pid_of("/run/test/pid");
            assert!(
                !Path::new(&format!("/proc/{pid}/fd/4")).exists()
                    || fs::read_link(format!("/proc/{pid}/fd/4")).expect("link")
                        != Path::new("/run/test/other")
            );
            // A new program does not say it again: the number is another's by now.
            let file = install();
            // SAFETY: plain system call.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGUSR2) }, 0);
            until("the new program", || (program_of(pid) == file).then_some(()));
            assert_eq!(ask_tcp("127.0.0.1:9901", b"there"), b"there");
            // SAFETY: plain system call.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
            until("the end", || TcpStream::connect("127.0.0.1:9901").is_err().then_some(()));
            child.wait().expect("wait");
        }
    });
    in_net(|net| {
        install();
        net.write("conf", echo("echo", 9901, ""));
        let output =
            net.command(PROGRAM).args(["-f", "/run/test/conf", "-ready-fd", "7"]).output().expect("run");
        assert_eq!(
            (output.status.code(), text(&output.stderr).as_str()),
            (Some(1), "usherd: -ready-fd: Bad file descriptor (errno = 9)\n")
        );
    });
}
