//! The flight recorder (`-recorder FILE`): what it keeps, through restarts, kills and lack of room.

use crate::harness::frames::{Told, build_decoder, decode, logged, stripped};
use crate::harness::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const FILE: &str = "/run/test/frames";
/// `RECORDER_BYTES`, as it is by default.
const FULL: u64 = 131_072;

fn configuration(net: &Net) -> String {
    let ends = net.script("ends", "#!/bin/sh\nread line\nexit 3\n");
    let dies = net.script("dies", "#!/bin/sh\necho so it is >&2\nkill -9 $$\n");
    let goes = net.script("goes", HELLO);
    let holds = net.script("holds", "#!/bin/sh\nls -l /proc/self/fd\n");
    let mut conf = String::from("defaults\n{\n\tcps = 0 0\n\tlog_on_failure = HOST\n");
    conf += "\tlog_on_success = PID HOST EXIT DURATION TRAFFIC\n}\n";
    conf += &service("echo", 7001, "type = INTERNAL UNLISTED; user = nobody");
    conf += &service("closed", 7002, "server = /bin/cat; no_access = 0.0.0.0/0");
    conf += &service("ends", 7003, &format!("server = {}", ends.display()));
    conf += &service("dies", 7004, &format!("server = {}; stderr = log", dies.display()));
    conf += &service("goes", 7005, &format!("server = {}", goes.display()));
    conf += &service("holds", 7006, &format!("server = {}", holds.display()));
    conf
}

fn start<'n>(net: &'n Net, conf: &Path) -> Daemon<'n> {
    let daemon =
        Daemon::start_with(net, Subject::Usherd, conf.into(), &["-format", "xinetd", "-recorder", FILE]);
    daemon.ready(&["tcp/7001", "tcp/7003"])
}

fn told(told: &[Told]) -> Vec<(String, String)> {
    told.iter().map(|told| (told.level.clone(), told.text.clone())).collect()
}

#[test]
fn what_is_recorded_is_what_is_logged() {
    build_decoder();
    in_net(|net| {
        let conf = net.write("conf", configuration(net));
        let mut daemon = start(net, &conf);
        for client in ["127.0.0.1:0", "127.0.0.2:0"] {
            let mut echo = tcp_from(client, "127.0.0.1:7001");
            round_trip(&mut echo, b"hello");
        }
        daemon.wait_log_times("TRAFFIC: echo", 2);
        fate(tcp("127.0.0.1:7002"));
        daemon.wait_log("FAIL: closed address from=127.0.0.1");
        ask_tcp("127.0.0.1:7003", b"line\n");
        daemon.wait_log("EXIT: ends status=3");
        ask_tcp("127.0.0.1:7004", b"");
        daemon.wait_log("EXIT: dies signal=9");
        fs::remove_file("/run/test/goes").expect("a program");
        ask_tcp("127.0.0.1:7005", b"");
        daemon.wait_log("goes: execv(");
        daemon.reload(&configuration(net).replace("port = 7002", "port = 7O02"));
        daemon.wait_log("Reconfigured:");
        daemon.signal(libc::SIGTERM);
        assert_eq!(daemon.wait_exit().code(), Some(0));
        let (frames, notes, status) = decode(&usherd(), Path::new(FILE));
        assert_eq!(status, Some(0), "{notes:?}");
        let all = logged(&daemon.log(), |_| true);
        assert!(all.iter().any(|(level, text)| level == "ERROR" && text.contains("7O02")), "{all:?}");
        assert!(all.iter().any(|(_, text)| text == "dies[stderr]: so it is"), "{all:?}");
        assert_eq!(told(&frames), all);
        // Times of this very minute, or of the one before.
        let now = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:"]).output().expect("date");
        let hour = text(&now.stdout);
        assert!(frames.iter().any(|told| told.time.starts_with(hour.trim())) || hour.is_empty());
        assert!(frames.windows(2).all(|pair| pair[0].time <= pair[1].time), "{frames:?}");
        assert_eq!(fs::metadata(FILE).expect("a file").permissions().mode() & 0o777, 0o640);
    });
}

/// The daemon may be installed without symbols, and killed at any time; the next one goes on with the same file.
#[test]
fn a_restart_keeps_what_the_run_before_wrote() {
    build_decoder();
    in_net(|net| {
        let conf = net.write("conf", configuration(net));
        let installed = net.dir().join("installed");
        stripped(&usherd(), &installed);
        let script = format!("shift; exec {} \"$@\"", installed.display());
        let args =
            ["-dontfork", "-format", "xinetd", "-recorder", FILE, "-f", conf.to_str().expect("a path")];
        let mut pids = Vec::new();
        for run in 1..=3 {
            let launch = Launch { shell: Some(&script), ..Launch::default() };
            let mut daemon = Daemon::launch(net, Subject::Usherd, &args, launch).ready(&["tcp/7001"]);
            pids.push(daemon.pid());
            // What a program of a service has open is its own.
            let open = text(&ask_tcp("127.0.0.1:7006", b""));
            assert!(open.contains("socket:") && !open.contains("frames"), "{open}");
            daemon.wait_log_times("EXIT: holds", 1);
            daemon.signal(if run == 2 { libc::SIGKILL } else { libc::SIGQUIT });
            daemon.wait_exit();
        }
        let (frames, notes, status) = decode(&usherd(), Path::new(FILE));
        assert_eq!(status, Some(0), "{notes:?}");
        let runs: Vec<_> = pids.iter().map(|pid| format!("-- process {pid}, build ")).collect();
        assert!(notes.iter().zip(&runs).all(|(note, run)| note.starts_with(run)), "{notes:?}");
        assert_eq!(notes.len(), runs.len());
        let times = |text: &str| frames.iter().filter(|told| told.text.starts_with(text)).count();
        assert_eq!((times("START: holds"), times("EXIT: holds"), times("Exiting...")), (3, 3, 2));
    });
}

#[test]
fn the_file_does_not_grow_and_the_last_frames_are_kept() {
    build_decoder();
    in_net(|net| {
        let conf = net.write("conf", configuration(net));
        let client = || {
            let mut echo = tcp("127.0.0.1:7001");
            round_trip(&mut echo, b"hello");
        };
        let daemon = start(net, &conf);
        client();
        daemon.wait_log("TRAFFIC: echo");
        drop(daemon);
        // As if there had been many clients: what one wrote, over and over.
        let one = fs::read(FILE).expect("frames");
        let often = (FULL as usize - 300) / one.len();
        let mut many = one.repeat(often);
        let rest = FULL as usize - 300 - many.len();
        // A frame that was torn, too.
        many.extend(vec![b'x'; rest]);
        fs::write(FILE, &many).expect("frames");
        let daemon = start(net, &conf);
        for nth in 1..=20 {
            client();
            daemon.wait_log_times("TRAFFIC: echo", nth);
        }
        let older = fs::metadata("/run/test/frames.old").expect("the older half");
        let newer = fs::metadata(FILE).expect("the newer half");
        assert!(older.size() <= FULL && older.size() > FULL - 1000, "{}", older.size());
        assert!(newer.size() < 4000, "{}", newer.size());
        let (frames, notes, status) = decode(&usherd(), Path::new(FILE));
        assert_eq!(status, Some(3), "the torn one is told");
        assert!(notes.iter().any(|note| note == &format!("-- {rest} bytes that are no frame")), "{notes:?}");
        assert_eq!(frames.iter().filter(|told| told.text.starts_with("TRAFFIC: echo")).count(), often + 20);
        // The second time, what was the older half is gone.
        drop(daemon);
        let full = [fs::read("/run/test/frames.old").expect("frames"), vec![b'x'; 300]].concat();
        fs::write(FILE, &full).expect("frames");
        let daemon = start(net, &conf);
        client();
        daemon.wait_log("TRAFFIC: echo");
        assert!(fs::metadata(FILE).expect("the newer half").size() < 4000);
        assert!(fs::read("/run/test/frames.old").expect("the older half") == full);
    });
}

/// A full disk costs frames, which is told, and nothing else; two daemons never write to one file.
#[test]
fn what_cannot_be_recorded_is_told_and_counted() {
    build_decoder();
    in_net(|net| {
        let conf = net.write("conf", configuration(net));
        let disk = net.dir().join("disk");
        fs::create_dir(&disk).expect("a directory");
        let mount = |args: &[&str]| {
            assert!(std::process::Command::new("mount").args(args).status().expect("mount").success());
        };
        mount(&["-t", "tmpfs", "-o", "size=8k", "none", "/run/test/disk"]);
        let args = ["-format", "xinetd", "-recorder", "/run/test/disk/frames"];
        let daemon = Daemon::start_with(net, Subject::Usherd, conf.clone(), &args).ready(&["tcp/7001"]);
        let client = || round_trip(&mut tcp("127.0.0.1:7001"), b"hello");
        fs::write(disk.join("full"), [0; 4096]).expect("a full disk");
        until("the disk is full", || {
            client();
            daemon.log().contains("flight recorder: No space left on device").then_some(())
        });
        fs::remove_file(disk.join("full")).expect("room");
        client();
        daemon.wait_log("frames were lost");
        // A short frame may have found the room that a longer one has not.
        let times = daemon.log().matches("flight recorder: No space").count();
        assert!(times <= 3, "{times} times");
        let (frames, _, status) = decode(&usherd(), &disk.join("frames"));
        assert_eq!(status, Some(0));
        assert!(frames.iter().any(|told| told.text.starts_with("flight recorder: goes on; ")), "{frames:?}");

        let other = net.write("other", service("echo", 7011, "type = INTERNAL UNLISTED"));
        let other = other.to_str().expect("a path");
        let args = ["-dontfork", "-format", "xinetd", "-f", other, "-recorder", "/run/test/disk/frames"];
        let second = Daemon::run(net, Subject::Usherd, &args).ready(&["tcp/7011"]);
        assert!(second.said().contains("another process writes to its file"), "{}", second.said());
        round_trip(&mut tcp("127.0.0.1:7011"), b"serves all the same");
    });
}

#[test]
fn a_path_must_be_absolute() {
    let output =
        std::process::Command::new(usherd()).args(["-recorder", "frames"]).output().expect("the daemon");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("option -recorder: frames is not an absolute path"));
}
