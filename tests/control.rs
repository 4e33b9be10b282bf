//! What the one who runs the daemon does: signals, reloads, the pid file, the log, checks of a file.

use crate::harness::*;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A service on port 9901 that copies, without a brake on new connections, in the grammar of the subject.
fn copies(subject: Subject, args: &str) -> String {
    match subject {
        Subject::Usherd | Subject::Xinetd => {
            let lines = format!("server = /run/test/copies; server_args = {args}");
            NO_BRAKE.to_owned() + &service("probe", 0, &lines)
        }
        _ => format!("probe stream tcp nowait.100000 root /run/test/copies copies {args}\n"),
    }
}

/// Says its argument, then copies.
const SAYS_AND_COPIES: &str = "#!/bin/sh\necho $1\nexec cat\n";

fn conf(subject: Subject, text: &str) -> Conf<'_> {
    match subject {
        Subject::Usherd | Subject::Xinetd => Conf::Xinetd(text),
        _ => Conf::Inetd(text),
    }
}

fn everybody() -> Vec<Subject> {
    let mut all = xinetd_family();
    all.extend(inetd_family().into_iter().filter(|s| *s != Subject::Usherd));
    all
}

/// Runs a test with each daemon serving [`copies`], each in a network of its own.
fn each(subjects: Vec<Subject>, test: fn(&Net, &mut Daemon)) {
    for subject in subjects {
        in_net(move |net| {
            println!("{subject:?}");
            net.script("copies", SAYS_AND_COPIES);
            let text = copies(subject, "one");
            let mut daemon = Daemon::start(net, subject, conf(subject, &text)).ready(&["tcp/9901"]);
            test(net, &mut daemon);
        });
    }
}

/// A running server, and what it said first.
fn session(says: &str) -> std::net::TcpStream {
    let mut client = tcp("127.0.0.1:9901");
    assert_eq!(text(&read_n(&mut client, says.len() + 1)), format!("{says}\n"));
    round_trip(&mut client, b"x\n");
    client
}

// ---- ends ----

#[test]
fn term_ends_the_daemon_and_removes_the_pid_file() {
    each(everybody(), |_, daemon| {
        let inetd = Path::new("/run/inetd.pid");
        let path = if inetd.exists() { inetd } else { Path::new("/run/daemon.pid") };
        let pid = fs::read_to_string(path).expect("pid file");
        assert_eq!(pid, format!("{}\n", daemon.pid()));
        daemon.signal(libc::SIGTERM);
        let status = daemon.wait_exit();
        match daemon.subject {
            // It just dies.
            Subject::InetutilsInetd => assert_eq!(status.signal(), Some(libc::SIGTERM)),
            _ => {
                assert_eq!(status.code(), Some(0));
                assert!(!path.exists(), "the pid file is still there");
            }
        }
        assert!(refused("127.0.0.1:9901"));
    });
}

#[test]
fn term_and_running_servers() {
    each(everybody(), |_, daemon| {
        let mut client = session("one");
        daemon.signal(libc::SIGTERM);
        daemon.wait_exit();
        if daemon.subject == Subject::Usherd {
            // As xinetd's manual says; the program itself spares its external servers.
            assert_eq!(client.read(&mut [0; 8]).ok(), Some(0));
        } else {
            round_trip(&mut client, b"still there\n");
        }
    });
}

#[test]
fn quit_leaves_running_servers() {
    each(xinetd_family(), |_, daemon| {
        let mut client = session("one");
        daemon.signal(libc::SIGQUIT);
        assert_eq!(daemon.wait_exit().code(), Some(0));
        round_trip(&mut client, b"still there\n");
        assert!(refused("127.0.0.1:9901"));
    });
}

// ---- reload ----

#[test]
fn reload_spares_sessions_and_takes_new_arguments() {
    each(everybody(), |_, daemon| {
        let mut old = session("one");
        daemon.reload(&copies(daemon.subject, "two"));
        until("the new argument", || {
            let mut client = tcp("127.0.0.1:9901");
            (read_n(&mut client, 4) == b"two\n").then_some(())
        });
        round_trip(&mut old, b"still there\n");
        assert!(daemon.running());
    });
}

#[test]
fn reloads_under_load_lose_nobody() {
    each(everybody(), |_, daemon| {
        let over = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let (stop, count) = (over.clone(), served.clone());
        let client = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                session("one");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..30 {
            let before = served.load(Ordering::Relaxed);
            daemon.signal(libc::SIGHUP);
            until("a client served after a reload", || {
                let more = served.load(Ordering::Relaxed) > before + 1;
                (more || client.is_finished()).then_some(())
            });
        }
        over.store(true, Ordering::Relaxed);
        client.join().expect("every client is served");
        assert!(daemon.running());
    });
}

#[test]
fn reload_without_a_file() {
    each(everybody(), |net, daemon| {
        fs::remove_file(net.dir().join("conf")).expect("remove");
        let before = daemon.log().len();
        daemon.signal(libc::SIGHUP);
        if daemon.subject == Subject::OpenbsdInetd {
            assert_eq!(daemon.wait_exit().code(), Some(1));
            return;
        }
        // The old table stays, and the log says so.
        until("a word about it", || (daemon.log().len() > before).then_some(()));
        for _ in 0..20 {
            session("one");
        }
        assert!(daemon.running());
    });
}

#[test]
fn reload_with_a_mistake_in_the_service() {
    each(xinetd_family(), |_, daemon| {
        let mut client = session("one");
        daemon.reload(&copies(daemon.subject, "two").replace("wait = no", "wait = perhaps"));
        if daemon.subject == Subject::Xinetd {
            // Without any service left it would wait or end; either way nobody is served, sessions included.
            daemon.wait_closed("tcp/9901");
            let end = client.read(&mut [0; 8]);
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            return;
        }
        until("a line about the mistake", || daemon.log().contains("perhaps").then_some(()));
        round_trip(&mut client, b"still there\n");
        session("one");
    });
}

#[test]
fn reload_with_a_mistake_in_defaults() {
    each(xinetd_family(), |_, daemon| {
        let mut client = session("one");
        daemon.reload(&copies(daemon.subject, "two").replace("cps = 0 0", "instances = some"));
        if daemon.subject == Subject::Xinetd {
            daemon.wait_exit();
            return;
        }
        until("a line about the mistake", || daemon.log().contains("some").then_some(()));
        round_trip(&mut client, b"still there\n");
        session("one");
    });
}

// ---- endurance ----

#[test]
fn nothing_is_left_of_served_clients() {
    each(everybody(), |_, daemon| {
        session("one");
        until("the first server's end", || children(daemon.pid()).is_empty().then_some(()));
        let before = holdings(daemon.pid());
        for n in 0..200 {
            let mut client = tcp("127.0.0.1:9901");
            if n % 3 != 0 {
                read_n(&mut client, 4);
            }
            if n % 3 == 2 {
                client.write_all(b"unread answer\n").expect("send");
            }
        }
        let what = "all servers reaped and all descriptors closed";
        until(what, || (holdings(daemon.pid()) == before).then_some(()));
        session("one");
    });
}

#[test]
fn the_user_of_a_service_cannot_harm_the_daemon() {
    for subject in everybody() {
        in_net(move |net| {
            println!("{subject:?}");
            let text = match subject {
                Subject::Usherd | Subject::Xinetd => {
                    let probe = service("probe", 0, "user = nobody; server = /bin/true");
                    NO_BRAKE.to_owned() + &probe + &builtin("daytime", "stream")
                }
                _ => "probe stream tcp nowait.100000 nobody /bin/true true\n\
                      daytime stream tcp nowait root internal\n"
                    .into(),
            };
            let mut daemon = Daemon::start(net, subject, conf(subject, &text)).ready(&["tcp/9901", "tcp/13"]);
            let program = fs::read_link(format!("/proc/{}/exe", daemon.pid())).expect("its program");
            let mut attacker = Command::new(net.dir().join("attacker"))
                .arg(daemon.pid().to_string())
                .arg(program)
                .uid(65534)
                .gid(65534)
                .stdout(Stdio::piped())
                .spawn()
                .expect("attacker");
            let mut says = attacker.stdout.take().expect("piped");
            let mut begins = [0; 7];
            says.read_exact(&mut begins).expect("the attack");

            let start = Instant::now();
            let mut longest = Duration::ZERO;
            let mut connections = vec![];
            while start.elapsed() < Duration::from_secs(2) {
                for _ in 0..10 {
                    // Whether these are served is up to the attacker.
                    connections.push(tcp("127.0.0.1:9901"));
                }
                let asked = Instant::now();
                assert!(!read_to_end(&mut tcp("127.0.0.1:13")).is_empty());
                longest = longest.max(asked.elapsed());
                if connections.len() > 100 {
                    connections.drain(..50);
                }
            }
            attacker.kill().expect("end the attack");
            attacker.wait().expect("wait");
            println!("others waited at most {longest:?}");
            // How long others wait with the old daemons is their affair.
            let patient = daemon.subject != Subject::Usherd;
            assert!(patient || longest < Duration::from_secs(1), "somebody waited {longest:?}");
            let mut found = String::new();
            says.read_to_string(&mut found).expect("what it found");
            println!("{found}");
            // A started program is its user's; an attack that never met one proves nothing.
            assert!(found.contains("worked"), "no child was ever met");
            assert!(!found.contains("hole"), "a child was open to its user before exec");

            drop(connections);
            until("all children gone", || {
                let left = children(daemon.pid());
                for pid in &left {
                    // SAFETY: plain system call.
                    unsafe { libc::kill(*pid, libc::SIGCONT) };
                }
                left.is_empty().then_some(())
            });
            assert!(daemon.running());
            assert_eq!(listen_to("127.0.0.1:9901"), "");
        });
    }
}

// ---- logs and dumps ----

#[test]
fn syslog_gets_the_messages() {
    for subject in xinetd_family() {
        in_net(move |net| {
            net.script("copies", SAYS_AND_COPIES);
            let conf = net.write("conf", copies(subject, "one"));
            let conf = conf.to_str().expect("a printable path");
            let args = ["-dontfork", "-syslog", "local3", "-f", conf];
            let mut daemon = Daemon::run(net, subject, &args).ready(&["tcp/9901"]);
            // local3 is facility 19: whatever the level, the number is between 152 and 159.
            let ours = |line: &str| line.starts_with("<15") && line.contains(&format!("[{}]", daemon.pid()));
            until("a line in syslog", || net.syslog().lines().any(ours).then_some(()));
            daemon.signal(libc::SIGTERM);
            daemon.wait_exit();
        });
    }
}

#[test]
fn syslog_tells_of_a_missing_program() {
    for subject in inetd_family() {
        in_net(move |net| {
            let line = "probe stream tcp nowait root /nonexistent/program p\n";
            let daemon = Daemon::start(net, subject, Conf::Inetd(line)).ready(&["tcp/9901"]);
            assert_eq!(listen_to("127.0.0.1:9901"), "");
            daemon.wait_log("/nonexistent/program");
        });
    }
}

#[test]
fn usr1_writes_the_state() {
    each(xinetd_family(), |_, daemon| {
        let _client = session("one");
        let dump = daemon.dump();
        for words in ["Service = probe", "/run/test/copies", "running_servers = 1"] {
            assert!(dump.contains(words), "no {words:?} in\n{dump}");
        }
        session("one");
    });
}

// ---- ours alone ----

/// What usherd answers to a command line that makes it end by itself.
fn usherd_ends(net: &Net, args: &[&str]) -> (Option<i32>, String) {
    let mut daemon = Daemon::run(net, Subject::Usherd, args);
    let status = daemon.wait_exit();
    (status.code(), daemon.log())
}

#[test]
fn check_of_a_file() {
    in_net(|net| {
        net.script("copies", SAYS_AND_COPIES);
        net.write("conf", copies(Subject::Usherd, "one"));
        let (code, said) = usherd_ends(net, &["-t", "-f", "/run/test/conf"]);
        assert_eq!(code, Some(0), "{said}");
        net.write("conf", copies(Subject::Usherd, "one").replace("wait = no", "wait = perhaps"));
        let (code, said) = usherd_ends(net, &["-t", "-f", "/run/test/conf"]);
        assert_ne!(code, Some(0), "{said}");
        assert!(said.contains("/run/test/conf:8:"), "no file and line in {said}");
        net.write("conf", copies(Subject::InetutilsInetd, "one"));
        let (code, said) = usherd_ends(net, &["-t", "-f", "/run/test/conf"]);
        assert_eq!(code, Some(0), "an inetd.conf is recognised: {said}");
        let (code, _) = usherd_ends(net, &["-t", "-format", "xinetd", "-f", "/run/test/conf"]);
        assert_ne!(code, Some(0), "but not if it must be an xinetd.conf");
        let (code, _) = usherd_ends(net, &["-t", "-f", "/run/test/nothing"]);
        assert_ne!(code, Some(0));
    });
}

#[test]
fn an_unknown_option_is_an_error() {
    in_net(|net| {
        let (code, said) = usherd_ends(net, &["-dontfrok"]);
        assert!(code.is_some_and(|c| c != 0), "{code:?}");
        assert!(said.contains("-dontfrok"), "{said}");
    });
}

/// A section for a first process: built without the feature `init`, a daemon passes it over and reads on.
#[test]
fn an_init_section_belongs_to_a_first_process() {
    in_net(|net| {
        net.write("conf", "init\n{\n\tbogus = 1\n}\ndefaults\n{\n\tnice = 3\n}\n");
        let (code, said) = usherd_ends(net, &["-t", "-f", "/run/test/conf"]);
        let first = if is_built_with_init() {
            "/run/test/conf:3:2: error: `bogus` is no attribute of `init`"
        } else {
            "/run/test/conf:1: warning: `init` has no effect: this program is no first process; build it with `--features init`"
        };
        assert!(said.contains(first), "{said}");
        let second = "/run/test/conf:7:2: error: `nice` cannot stand in `defaults`; write it in each service that needs it";
        assert!(said.contains(second), "{said}");
        assert_eq!(code, Some(1));
    });
}

/// Whether the daemon under test is: that of `USHERD_BIN` is built as it is installed.
fn is_built_with_init() -> bool {
    cfg!(feature = "init") && std::env::var_os("USHERD_BIN").is_none()
}
