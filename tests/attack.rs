//! Hostile clients, hostile users of the same machine, careless administrators: whatever they do, everybody else is
//! served as if nothing were, and nothing is left behind. Ours alone; what the older daemons make of it is their affair.

use crate::harness::*;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A service on port 9901, or 9902 if it has another name.
fn program(name: &str, server: &str) -> String {
    service(name, if name == "probe" { 9901 } else { 9902 }, &format!("server = {server}"))
}

fn start<'n>(net: &'n Net, conf: &str, ports: &[&str]) -> Daemon<'n> {
    net.script("copies", COPIES);
    Daemon::start(net, Subject::Usherd, Conf::Xinetd(conf)).ready(ports)
}

fn fifo(path: &str) {
    let path = CString::new(path).expect("no NUL");
    // SAFETY: a NUL-terminated string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o666) }, 0);
}

/// Whether the daemon still copies on port 9901.
fn serves() {
    round_trip(&mut tcp("127.0.0.1:9901"), b"still there\n");
}

/// Holds a file so that nobody can open it, not even to execute it, until this is dropped or the kernel's patience
/// (45 s) is over: what any user may do to a file of his own, and what a dead network file system does to all of its.
struct Held(#[allow(dead_code)] File);

fn hold(path: &Path) -> Held {
    let file = File::options().read(true).open(path).expect("a file");
    // SAFETY: no pointers. SIGIO, which the breaking of the lease sends, is not to end the tests.
    unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
        assert_eq!(libc::fcntl(file.as_raw_fd(), 1024, libc::F_WRLCK), 0, "a lease");
    }
    Held(file)
}

// ---- local users ----

#[test]
fn a_fifo_in_the_place_of_the_dump_stops_nobody() {
    in_net(|net| {
        fifo("/run/usherd.dump");
        let daemon = start(net, &program("probe", "/run/test/copies"), &["tcp/9901"]);
        daemon.signal(libc::SIGUSR1);
        daemon.wait_log("state dump");
        serves();
        // One with a reader would take the dump, and tell who is connected.
        let _reader = File::options().read(true).write(true).open("/run/usherd.dump").expect("fifo");
        daemon.signal(libc::SIGUSR1);
        serves();
        assert!(!daemon.log().contains("generated"), "{}", daemon.log());
    });
}

#[test]
fn links_and_foreign_files_in_the_place_of_the_dump_stay_as_they_are() {
    in_net(|net| {
        let daemon = start(net, &program("probe", "/run/test/copies"), &["tcp/9901"]);
        net.write("precious", "precious");
        symlink("/run/test/precious", "/run/usherd.dump").expect("link");
        daemon.signal(libc::SIGUSR1);
        daemon.wait_log("state dump");
        fs::remove_file("/run/usherd.dump").expect("remove");
        fs::hard_link("/run/test/precious", "/run/usherd.dump").expect("link");
        let before = daemon.log().len();
        daemon.signal(libc::SIGUSR1);
        until("a word about it", || (daemon.log().len() > before).then_some(()));
        assert_eq!(fs::read_to_string("/run/test/precious").expect("file"), "precious");
        serves();
    });
}

/// 40 clients of a program that nobody can open for now: whoever wants something else has it.
#[test]
fn a_program_that_does_not_start_stops_no_other() {
    in_net(|net| {
        let stuck = net.script("stuck", COPIES);
        let conf = [
            NO_BRAKE,
            &program("probe", "/run/test/copies"),
            &program("probe2", "/run/test/stuck"),
            &builtin("echo", "stream"),
        ]
        .concat();
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902", "tcp/7"]);
        let mut echo = tcp("127.0.0.1:7");
        round_trip(&mut echo, b"x\n");
        let held = hold(&stuck);
        let mut waiting: Vec<_> = (0..40).map(|_| tcp("127.0.0.1:9902")).collect();
        until("children that wait", || (children(daemon.pid()).len() >= 40).then_some(()));
        let asked = Instant::now();
        for _ in 0..20 {
            serves();
        }
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "others waited {took:?}");
        // A client that goes while children still have its socket: it is closed, and nothing spins.
        echo.write_all(b"unread").expect("send");
        drop(echo);
        is_idle(daemon.pid());
        // The first reload is not held up either.
        daemon.reload(&conf.replace("probe2", "probe3"));
        daemon.wait_log("Reconfigured");
        serves();
        drop(held);
        // Nobody is lost, and nobody gets what the new table says instead.
        for client in &mut waiting {
            round_trip(client, b"at last\n");
        }
        drop(waiting);
        until("all gone", || children(daemon.pid()).is_empty().then_some(()));
    });
}

/// A user who owns a directory exchanges the node of a unix socket for a link while it is being made.
#[test]
fn the_owner_of_a_directory_cannot_have_other_files_opened_to_all() {
    in_net(|net| {
        let secret = net.write("secret", "secret");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("mode");
        let text = |path: &str| {
            let lines = format!("type = UNLISTED; protocol = unix; server = /run/test/copies; bind = {path}");
            service("sock", 0, &lines) + &program("probe", "/run/test/copies")
        };
        fs::create_dir("/run/test/theirs").expect("directory");
        let daemon = start(net, &text("/run/test/theirs/a"), &["tcp/9901"]);
        let mode = fs::metadata("/run/test/theirs/a").expect("node").mode();
        assert_eq!(mode & 0o7777, 0o666);
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let attack = std::thread::spawn(move || {
            let mut hits = 0;
            let path = c"/run/test/theirs/b";
            symlink("/run/test/secret", "/run/test/theirs/link").expect("link");
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: NUL-terminated strings.
                if unsafe { libc::access(path.as_ptr(), libc::F_OK) } == 0 {
                    // SAFETY: as above.
                    unsafe { libc::rename(c"/run/test/theirs/link".as_ptr(), path.as_ptr()) };
                    hits += 1;
                    let _ = fs::remove_file("/run/test/theirs/b");
                    symlink("/run/test/secret", "/run/test/theirs/link").expect("link");
                }
            }
            hits
        });
        for round in 0..200 {
            daemon.reload(&text(if round % 2 == 0 { "/run/test/theirs/b" } else { "/run/test/theirs/a" }));
            daemon.wait_log_times("Reconfigured", round + 1);
        }
        over.store(true, Ordering::Relaxed);
        assert!(attack.join().expect("attack") > 0, "the attack never hit");
        let secret = fs::metadata(&secret).expect("secret");
        assert_eq!((secret.mode() & 0o7777, secret.uid()), (0o600, 0));
        serves();
    });
}

// ---- clients ----

/// More clients of a missing program than there are slots for what went wrong, at once with others.
#[test]
fn a_burst_for_a_missing_program_costs_nobody_else_anything() {
    in_net(|net| {
        let conf =
            [NO_BRAKE, &program("probe", "/run/test/copies"), &program("probe2", "/run/test/gone")].concat();
        net.script("gone", COPIES);
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902"]);
        fs::remove_file("/run/test/gone").expect("remove");
        for _ in 0..20 {
            // All wait in the backlogs when the daemon goes on.
            daemon.signal(libc::SIGSTOP);
            let bad: Vec<_> = (0..32).map(|_| tcp("127.0.0.1:9902")).collect();
            let mut good: Vec<_> = (0..20).map(|_| tcp("127.0.0.1:9901")).collect();
            daemon.signal(libc::SIGCONT);
            for client in &mut good {
                round_trip(client, b"x\n");
            }
            for mut client in bad {
                assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
            }
        }
        assert!(!daemon.log().contains("EAGAIN") && !daemon.log().contains("fork"), "{}", daemon.log());
    });
}

#[test]
fn who_has_no_descriptors_left_serves_again_when_there_are_some() {
    in_net(|net| {
        let conf = [NO_BRAKE, &program("probe", "/run/test/copies"), &builtin("echo", "stream")].concat();
        let daemon = start(net, &conf, &["tcp/9901", "tcp/7"]);
        let limit = libc::rlimit { rlim_cur: 40, rlim_max: 40 };
        // SAFETY: a valid limit.
        let rc = unsafe { libc::prlimit(daemon.pid(), libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
        assert_eq!(rc, 0);
        let clients: Vec<_> = (0..200).map(|_| tcp("127.0.0.1:7")).collect();
        daemon.wait_log("errno = 24");
        is_idle(daemon.pid());
        // A dump and a reload must survive that too.
        daemon.signal(libc::SIGUSR1);
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("reconfiguration");
        drop(clients);
        serves();
        round_trip(&mut tcp("127.0.0.1:7"), b"x\n");
    });
}

#[test]
fn clients_that_vanish_leave_nothing() {
    in_net(|net| {
        let conf = [
            NO_BRAKE,
            &program("probe", "/run/test/copies"),
            &program("probe2", "/bin/true"),
            &builtin("echo", "stream"),
            &builtin("chargen", "stream"),
        ]
        .concat();
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9902", "tcp/7", "tcp/19"]);
        serves();
        until("idle", || children(daemon.pid()).is_empty().then_some(()));
        let before = holdings(daemon.pid());
        let rss = |pid| fs::read_to_string(format!("/proc/{pid}/statm")).expect("statm");
        println!("{:?} {}", before, rss(daemon.pid()));
        let rounds = std::env::var("ATTACK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
        for n in 0..rounds {
            for to in ["127.0.0.1:9901", "127.0.0.1:9902", "127.0.0.1:7", "127.0.0.1:19"] {
                let mut client = tcp(to);
                match n % 4 {
                    0 => {}
                    1 => reset(client),
                    2 => {
                        let _ = client.write_all(b"never read");
                    }
                    _ => {
                        let _ = client.shutdown(std::net::Shutdown::Write);
                        if to.ends_with(":9902") {
                            let _ = client.read(&mut [0; 1]);
                        }
                    }
                }
            }
        }
        until("nothing is left", || (holdings(daemon.pid()) == before).then_some(()));
        println!("{}", rss(daemon.pid()));
        serves();
    });
}

#[test]
fn two_thousand_idle_clients_of_a_builtin_leave_the_others_alone() {
    in_net(|net| {
        let conf = [
            NO_BRAKE,
            &program("probe", "/run/test/copies"),
            &builtin("discard", "stream"),
            &builtin("daytime", "stream"),
        ]
        .concat();
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
        // SAFETY: a valid limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        let daemon = start(net, &conf, &["tcp/9901", "tcp/9", "tcp/13"]);
        let before = holdings(daemon.pid());
        let idle: Vec<_> = (0..2000)
            .map_while(|_| {
                let to = "127.0.0.1:9".parse().expect("an address");
                TcpStream::connect_timeout(&to, Duration::from_millis(300)).ok()
            })
            .collect();
        println!("{} connected", idle.len());
        for _ in 0..20 {
            serves();
            assert!(!listen_to("127.0.0.1:13").is_empty());
        }
        is_idle(daemon.pid());
        drop(idle);
        until("nothing is left", || (holdings(daemon.pid()) == before).then_some(()));
        let _client = tcp("127.0.0.1:9");
        until("discard again", || (descriptors(daemon.pid()) == before.0 + 1).then_some(()));
    });
}

#[test]
fn datagrams_of_every_size_and_from_every_port() {
    in_net(|net| {
        let mut conf = NO_BRAKE.to_owned();
        for name in ["echo", "discard", "chargen", "daytime", "time"] {
            conf += &builtin(name, "dgram");
        }
        conf += &program("probe", "/run/test/copies");
        let daemon = start(net, &conf, &["tcp/9901", "udp/7", "udp/9", "udp/13", "udp/19", "udp/37"]);
        for from in [0u16, 1, 20, 111, 1023, 1024] {
            let socket = UdpSocket::bind(("127.0.0.1", from)).expect("a port");
            socket.set_nonblocking(true).expect("flag");
            for to in [7u16, 9, 13, 19, 37] {
                for size in [0, 1, 8191, 8192, 8193, 65507] {
                    let _ = socket.send_to(&vec![b'x'; size], ("127.0.0.1", to));
                }
            }
        }
        let socket = udp("0.0.0.0:0", "127.0.0.1:7");
        let all = vec![b'y'; 65507];
        until("an answer behind the flood", || {
            let _ = socket.send(&all);
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
            answer(&socket).map(|a| assert_eq!(a.len(), 8192))
        });
        serves();
        is_idle(daemon.pid());
    });
}

// ---- the one who runs it ----

#[test]
fn a_thousand_reloads_lose_nobody() {
    in_net(|net| {
        let conf = [NO_BRAKE, &program("probe", "/run/test/copies")].concat();
        let daemon = start(net, &conf, &["tcp/9901"]);
        let over = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let (over, served) = (over.clone(), served.clone());
                std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        serves();
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..1000 {
            daemon.signal(libc::SIGHUP);
            std::thread::sleep(Duration::from_millis(1));
        }
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("every client is served");
        }
        println!(
            "{} served, {} reloads",
            served.load(Ordering::Relaxed),
            daemon.log().matches("Reconfigured").count()
        );
    });
}

#[test]
fn whatever_lies_where_the_configuration_was_the_old_one_stays() {
    in_net(|net| {
        let conf = program("probe", "/run/test/copies");
        let daemon = start(net, &conf, &["tcp/9901"]);
        let path = "/run/test/conf";
        let hole = || File::create(path).and_then(|file| file.set_len(1 << 40)).expect("a file with a hole");
        let huge = format!("{conf}{}", "#\n".repeat(4 << 20));
        let makes: [(&str, &dyn Fn()); 8] = [
            ("directory", &|| fs::create_dir(path).expect("directory")),
            ("fifo", &|| fifo(path)),
            ("loop", &|| symlink(path, path).expect("link")),
            ("nowhere", &|| symlink("/nonexistent", path).expect("link")),
            ("endless", &|| symlink("/dev/zero", path).expect("link")),
            ("hole", &hole),
            ("binary", &|| fs::write(path, fs::read("/bin/true").expect("a program")).expect("file")),
            ("line", &|| fs::write(path, vec![b'x'; 1 << 20]).expect("file")),
        ];
        for (what, make) in makes {
            println!("{what}");
            let _ = fs::remove_file(path);
            make();
            let failed = || daemon.log().matches("reconfiguration failed").count();
            let before = failed();
            let begun = Instant::now();
            daemon.signal(libc::SIGHUP);
            until("a refusal", || (failed() > before).then_some(()));
            println!("{:?}", begun.elapsed());
            serves();
            let _ = fs::remove_dir(path);
        }
        let _ = fs::remove_file(path);
        fs::write(path, huge).expect("file");
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("Reconfigured");
        serves();
    });
}

#[test]
fn logs_that_cannot_be_written_hold_nobody_up() {
    for what in ["directory", "fifo", "loop", "full"] {
        in_net(move |net| {
            net.script("copies", COPIES);
            let log = "/run/test/log";
            match what {
                "directory" => fs::create_dir(log).expect("directory"),
                "fifo" => fifo(log),
                "loop" => symlink(log, log).expect("link"),
                _ => symlink("/dev/full", log).expect("link"),
            }
            let lines = "server = /run/test/copies; log_type = FILE /run/test/log; log_on_success = PID HOST";
            let conf = net.write("conf", NO_BRAKE.to_owned() + &service("probe", 9901, lines));
            let conf = conf.to_str().expect("printable");
            let args = ["-dontfork", "-filelog", log, "-f", conf];
            let daemon = Daemon::run(net, Subject::Usherd, &args).ready(&["tcp/9901"]);
            // A FIFO with a reader that never reads fills up.
            let _reader = (what == "fifo").then(|| File::options().read(true).write(true).open(log));
            serves();
            until("rest", || children(daemon.pid()).is_empty().then_some(()));
            let before = holdings(daemon.pid());
            for _ in 0..700 {
                drop(tcp("127.0.0.1:9901"));
            }
            serves();
            until("nothing is left", || (holdings(daemon.pid()) == before).then_some(()));
        });
    }
}

#[test]
fn a_link_in_the_place_of_the_pid_file_is_not_followed() {
    in_net(|net| {
        net.script("copies", COPIES);
        net.write("precious", "precious");
        symlink("/run/test/precious", "/run/daemon.pid").expect("link");
        let conf = net.write("conf", program("probe", "/run/test/copies"));
        let conf = conf.to_str().expect("printable");
        for what in ["link", "fifo"] {
            let args = ["-dontfork", "-pidfile", "/run/daemon.pid", "-f", conf];
            let mut daemon = Daemon::run(net, Subject::Usherd, &args);
            let status = daemon.wait_exit();
            assert_eq!(status.code(), Some(1), "{what}");
            assert!(fs::symlink_metadata("/run/daemon.pid").is_ok(), "{what} was removed");
            fs::remove_file("/run/daemon.pid").expect("remove");
            fifo("/run/daemon.pid");
        }
        assert_eq!(fs::read_to_string("/run/test/precious").expect("file"), "precious");
        assert!(fs::metadata("/run/daemon.pid").expect("fifo").file_type().is_fifo());
    });
}

/// Servers that do not want to end are killed after their time; until then nothing listens, not even after a reload.
#[test]
fn a_reload_does_not_undo_the_end() {
    in_net(|net| {
        net.script("stubborn", "#!/bin/sh\ntrap '' TERM\necho up\nwhile :; do sleep 1; done\n");
        let conf = [NO_BRAKE, &program("probe", "/run/test/stubborn")].concat();
        let mut daemon = start(net, &conf, &["tcp/9901"]);
        let mut client = tcp("127.0.0.1:9901");
        assert_eq!(read_n(&mut client, 3), b"up\n");
        let begun = Instant::now();
        daemon.signal(libc::SIGTERM);
        daemon.wait_closed("tcp/9901");
        daemon.signal(libc::SIGHUP);
        // It must not happen: a reload takes a few milliseconds.
        std::thread::sleep(net::A_WHILE);
        assert!(refused("127.0.0.1:9901"), "it listens again");
        assert_eq!(daemon.wait_exit().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(8));
        // The whole group is gone, the sleeping grandchild included.
        assert_eq!(client.read(&mut [0; 1]).expect("the end"), 0);
    });
}

/// A wait server leaves a grandchild that holds the socket: the service goes on.
#[test]
fn a_grandchild_with_the_socket_does_not_end_the_service() {
    in_net(|net| {
        net.script("leaves", "#!/bin/sh\n(sleep 30 &) >/dev/null 2>&1\n/run/test/acceptecho\n");
        let conf =
            [NO_BRAKE, &program("probe", "/run/test/leaves").replace("wait = no", "wait = yes")].concat();
        let daemon = start(net, &conf, &["tcp/9901"]);
        for _ in 0..3 {
            serves();
        }
        daemon.signal(libc::SIGHUP);
        serves();
    });
}
