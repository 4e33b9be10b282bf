//! Firmware on boards in QEMU: the conformance scripts, memory, boots.

mod harness;
#[path = "conformance/outside.rs"]
mod outside;
#[path = "conformance/script.rs"]
mod script;

use harness::*;
use outside::{Outside, play};
use script::configuration;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// All ports of `usherd.conf`, and one where nobody listens.
const PORTS: [(&str, u16); 12] = [
    ("tcp", 7007),
    ("tcp", 7009),
    ("tcp", 7019),
    ("tcp", 7037),
    ("tcp", 7101),
    ("tcp", 7102),
    ("tcp", 7103),
    ("tcp", 7104),
    ("tcp", 7999),
    ("udp", 7007),
    ("udp", 7009),
    ("udp", 7037),
];

/// What QEMU is told of a board.
struct Machine {
    /// Its folder in `boards`.
    board: &'static str,
    qemu: &'static str,
    args: &'static [&'static str],
    card: Card,
}

/// How a machine comes by its network controller.
enum Card {
    /// It has one, of that model.
    OnBoard(&'static str),
}

impl Machine {
    /// Its arguments, with its controller at a network of that kind.
    fn arguments(&self, network: &str) -> Vec<String> {
        let mut args: Vec<String> = self.args.iter().map(|arg| arg.to_string()).collect();
        match self.card {
            Card::OnBoard(model) => args.extend(["-nic".into(), format!("{network},model={model}")]),
        }
        args
    }
}

const LM3S6965EVB: Machine = Machine {
    board: "lm3s6965evb",
    qemu: "qemu-system-arm",
    args: &["-M", "lm3s6965evb"],
    card: Card::OnBoard("stellaris"),
};

/// Firmware as its folder has it.
fn build(board: &str, name: &str, environment: &[(&str, &str)]) -> &'static Path {
    // All of them land in one place.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let done = Command::new(format!("{ROOT}/tools/cross"))
        .arg(format!("boards/{board}"))
        .envs(environment.iter().copied())
        // The cargo that runs this test is not the one that builds firmware.
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("tools/cross");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let built = Path::new(ROOT).join("target/boards").join(board).join("usherd");
    let firmware = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::copy(built, &firmware).expect("firmware");
    Box::leak(firmware.into_boxed_path())
}

/// Firmware with the services of the scripts.
fn build_for_scripts(board: &str, more: &[(&str, &str)]) -> &'static Path {
    // Nobody is the third client there.
    build_for(&configuration("192.0.2.3"), board, &format!("{board}-scripts"), more)
}

/// Firmware with the services of a configuration.
fn build_for(text: &str, board: &str, name: &str, more: &[(&str, &str)]) -> &'static Path {
    let conf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.conf"));
    if fs::read_to_string(&conf).ok().as_deref() != Some(text) {
        fs::write(&conf, text).expect("a configuration");
    }
    let conf = conf.to_str().expect("a printable path");
    let environment = [&[("USHERD_BOARD_CONF", conf)], more].concat();
    build(board, name, &environment)
}

/// A board in QEMU, in the network of a test.
struct Board {
    qemu: Child,
    log: PathBuf,
    monitor: PathBuf,
}

impl Board {
    /// Switched on, and ready by its log.
    fn start(net: &Net, machine: &Machine, ports: &[(&str, u16)], firmware: &Path) -> Board {
        let board = Board::switch_on(net, machine, ports, firmware);
        until("the board is ready", || board.log().contains("ready: 10.0.2.15").then_some(()));
        board
    }

    /// `ports` are led to the board's ports of the same numbers.
    fn switch_on(net: &Net, machine: &Machine, ports: &[(&str, u16)], firmware: &Path) -> Board {
        let dir = net.dir();
        let (log, monitor) = (dir.join("uart"), dir.join("monitor"));
        let mut network = String::from("user");
        for (kind, port) in ports {
            network += &format!(",hostfwd={kind}:127.0.0.1:{port}-:{port}");
        }
        let qemu = Command::new(machine.qemu)
            .args(machine.arguments(&network))
            .args(["-display", "none", "-kernel"])
            .arg(firmware)
            .arg("-serial")
            .arg(format!("file:{}", log.display()))
            .arg("-monitor")
            .arg(format!("unix:{},server,nowait", monitor.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error} (tools/setup installs it)", machine.qemu));
        Board { qemu, log, monitor }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Bytes of stack that were used, and that there are. It grows down from the end of RAM to the variables; what it
    /// never reached is painted.
    fn stack(&self, firmware: &Path, net: &Net) -> (usize, usize) {
        let (low, high) = (symbol(firmware, "__sheap"), symbol(firmware, "_stack_start"));
        let stack = self.memory(low, high - low, net);
        let untouched = stack.chunks(4).take_while(|word| *word == [0xcc; 4]).count() * 4;
        (stack.len() - untouched, stack.len())
    }

    /// How often its loop has gone round.
    fn turns(&self, firmware: &Path, net: &Net) -> u32 {
        let bytes = self.memory(symbol(firmware, "usherd_firmware::TURNS"), 4, net);
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }

    /// A part of its memory.
    fn memory(&self, from: u32, len: u32, net: &Net) -> Vec<u8> {
        let file = net.dir().join("memory");
        let _ = fs::remove_file(&file);
        let mut monitor = BufReader::new(UnixStream::connect(&self.monitor).expect("the monitor"));
        let mut words = |words: &str| {
            monitor.get_mut().write_all(words.as_bytes()).expect("the monitor");
            let mut line = String::new();
            monitor.read_line(&mut line).expect("the monitor");
        };
        words(&format!("pmemsave {from} {len} \"{}\"\n", file.display()));
        until("the memory", || fs::read(&file).ok().filter(|bytes| bytes.len() == len as usize))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if std::thread::panicking() {
            eprintln!("--- the board's serial line\n{}---", self.log());
        }
    }
}

/// Bytes of flash, and of variables.
fn board_bytes(firmware: &Path) -> (usize, usize) {
    let size = Command::new("size").arg(firmware).output().expect("size of binutils");
    let table = String::from_utf8(size.stdout).expect("text");
    let line = table.lines().nth(1).expect("a line");
    let bytes: Vec<usize> = line.split_whitespace().take(3).map_while(|n| n.parse().ok()).collect();
    (bytes[0] + bytes[1], bytes[1] + bytes[2])
}

/// Where a symbol is.
fn symbol(firmware: &Path, name: &str) -> u32 {
    let nm = Command::new("nm").arg("-C").arg(firmware).output().expect("nm of binutils");
    let text = String::from_utf8(nm.stdout).expect("text");
    let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).expect(name);
    u32::from_str_radix(&line[..8], 16).expect("an address")
}

/// A time server for one client, at this network's loopback (SNTP, RFC 5905).
fn tell_the_time() {
    let socket = UdpSocket::bind("127.0.0.1:123").expect("the port of time servers");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut question = [0; 48];
    let (n, from) = socket.recv_from(&mut question).expect("a question");
    assert_eq!((n, question[0] & 7), (48, 3), "a client's");
    let mut answer = [0; 48];
    (answer[0], answer[1]) = (0x24, 1);
    answer[24..32].copy_from_slice(&question[40..]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() + 2_208_988_800;
    answer[40..44].copy_from_slice(&(now as u32).to_be_bytes());
    socket.send_to(&answer, from).expect("an answer");
}

/// With eight services and access rules: 160 KB of flash, 48 KB of RAM with the stack.
#[test]
fn lm3s6965evb_keeps_its_budget() {
    let firmware = build(LM3S6965EVB.board, "lm3s6965evb-default", &[]);
    let (flash, statics) = board_bytes(firmware);
    in_net(move |net| {
        // Ports below 1024 are this network's as much as the board's.
        let ports = [7, 9, 13, 19, 37, 1023].map(|port| ("tcp", port)).into_iter();
        let ports: Vec<_> = ports.chain([("udp", 7), ("udp", 37)]).collect();
        let board = Board::start(net, &LM3S6965EVB, &ports, firmware);
        // All that goes deep: some clients at one time, refusals, datagrams, records.
        for _ in 0..3 {
            let mut echoes: Vec<_> = (0..3).map(|_| tcp("127.0.0.1:7")).collect();
            echoes.iter_mut().for_each(|echo| round_trip(echo, &[b'x'; 2000]));
            let mut chargen = tcp("127.0.0.1:19");
            read_n(&mut chargen, 5000);
            assert!(ask_tcp("127.0.0.1:13", b"").is_empty(), "nobody knows the time here");
            assert_eq!(ask_udp("127.0.0.1:7", b"datagram"), b"datagram");
            let said = ask_tcp("127.0.0.1:1023", b"time\nwhat?\nquit\n");
            assert_eq!(text(&said), "> not known\r\n> there are uptime, time and quit\r\n> ");
        }
        let (stack, _) = board.stack(firmware, net);
        println!("lm3s6965evb: {flash} bytes of flash, {statics} of variables, {stack} of stack");
        assert!(flash <= 160 * 1024, "{flash} bytes of flash");
        assert!(statics + stack <= 48 * 1024, "{statics} and {stack} bytes of RAM");
    });
}

/// Nothing to do, nothing done: no clock ticks, and no device is asked.
#[test]
fn an_idle_board_sleeps() {
    let firmware = build(LM3S6965EVB.board, "lm3s6965evb-idle", &[]);
    in_net(move |net| {
        let board = Board::start(net, &LM3S6965EVB, &[("tcp", 7)], firmware);
        let mut client = tcp("127.0.0.1:7");
        round_trip(&mut client, b"hello");
        // What is still to be acknowledged, and what the network's router has to say, ends soon.
        let mut before = board.turns(firmware, net);
        assert!(before > 0, "the counter is read from where it is");
        until("two quiet seconds", || {
            std::thread::sleep(Duration::from_secs(2));
            let now = board.turns(firmware, net);
            (core::mem::replace(&mut before, now) == now).then_some(())
        });
        round_trip(&mut client, b"still here");
    });
}

/// Services for [`frames_of_a_board_say_what_linux_logs`].
fn services_with_records() -> String {
    let builtin = |id: &str, kind: &str, port: u16, more: &str| {
        service(kind, port, &format!("id = {id}; type = INTERNAL UNLISTED; {more}"))
    };
    let mut conf =
        String::from("defaults\n{\n\tcps = 0 0\n\tlog_on_success = PID HOST EXIT DURATION TRAFFIC\n");
    conf += "\tlog_on_failure = HOST\n}\n";
    conf += &builtin("talks", "echo", 7007, "");
    conf += &builtin("generates", "chargen", 7019, "per_source = 1");
    conf += &builtin("holds-one", "discard", 7009, "instances = 1");
    conf += &builtin("lets-nobody-in", "discard", 7013, "no_access = 10.0.2.2 127.0.0.1");
    // The service of the firmware's own is not there.
    conf
}

/// The same clients at a daemon and at a board: `lines` is what either has written down of them so far.
fn visit(lines: &dyn Fn() -> usize) {
    let written = |n: usize| until("records", || (lines() >= n).then_some(()));
    let mut echo = tcp("127.0.0.1:7007");
    round_trip(&mut echo, b"hello");
    written(1);
    drop(echo);
    written(3);
    let mut chargen = tcp("127.0.0.1:7019");
    read_n(&mut chargen, 100);
    written(4);
    fate(tcp("127.0.0.1:7019"));
    written(5);
    reset(chargen);
    written(7);
    let mut first = tcp("127.0.0.1:7009");
    first.write_all(b"nobody reads this").expect("room");
    written(8);
    fate(tcp("127.0.0.1:7009"));
    written(9);
    drop(first);
    written(11);
    fate(tcp("127.0.0.1:7013"));
    written(12);
}

/// Without what is another at each run: who the client is, how long it took, how much of an endless stream was sent.
fn facts(lines: Vec<(String, String)>) -> Vec<String> {
    let fact = |(level, text): (String, String)| {
        let text = text.replace("10.0.2.2", "CLIENT").replace("127.0.0.1", "CLIENT");
        let word = |word: &str| match word.split_once('=') {
            Some(("duration", _)) => "duration=…".to_owned(),
            Some(("out", _)) if text.starts_with("TRAFFIC: generates") => "out=…".to_owned(),
            _ => word.to_owned(),
        };
        let words: Vec<_> = text.split(' ').map(word).collect();
        format!("{level} {}", words.join(" "))
    };
    lines.into_iter().map(fact).collect()
}

/// What the board writes on its serial line in frames, and what the daemon writes to its log in text, are the same facts.
#[test]
fn frames_of_a_board_say_what_linux_logs() {
    frames::build_decoder();
    let conf = services_with_records();
    let more = [("CROSS_FEATURES", "defmt")];
    let firmware = build_for(&conf, LM3S6965EVB.board, "lm3s6965evb-frames", &more);
    let (flash, statics) = board_bytes(firmware);
    assert!(flash <= 160 * 1024, "{flash} bytes of flash");
    let on_board = in_net(move |net| {
        let ports = [7007, 7009, 7013, 7019].map(|port| ("tcp", port));
        let board = Board::switch_on(net, &LM3S6965EVB, &ports, firmware);
        until("the serial line", || board.log.exists().then_some(()));
        let told = || frames::decode(firmware, &board.log).0;
        let is_record = |told: &frames::Told| !told.text.starts_with("ready: ");
        until("the board is ready", || {
            told().iter().any(|told| told.text.starts_with("ready: 10.0.2.15 ")).then_some(())
        });
        visit(&|| told().iter().filter(|told| is_record(told)).count());
        let times: Vec<f64> = told().iter().map(|told| told.time.parse().expect("seconds")).collect();
        assert!(times.is_sorted() && times.iter().all(|time| (0.0..100.0).contains(time)), "{times:?}");
        let (stack, _) = board.stack(firmware, net);
        println!("lm3s6965evb with defmt: {flash} bytes of flash, {statics} of variables, {stack} of stack");
        assert!(statics + stack <= 48 * 1024, "{statics} and {stack} bytes of RAM");
        told().into_iter().filter(is_record).map(|told| (told.level, told.text)).collect::<Vec<_>>()
    });
    let on_linux = in_net(move |net| {
        let daemon =
            Daemon::start(net, Subject::Usherd, Conf::Xinetd(&conf)).ready(&["tcp/7007", "tcp/7013"]);
        let lines = || frames::logged(&daemon.log(), |text| !text.starts_with("Started working"));
        visit(&|| lines().len());
        lines()
    });
    assert_eq!(facts(on_board), facts(on_linux));
}

#[test]
fn twenty_boots_of_twenty_reach_the_first_echo() {
    let firmware = build(LM3S6965EVB.board, "lm3s6965evb-boots", &[]);
    for _ in 0..20 {
        in_net(move |net| {
            let _board = Board::start(net, &LM3S6965EVB, &[("tcp", 7)], firmware);
            assert_eq!(ask_tcp("127.0.0.1:7", b"first"), b"first");
        });
    }
}

#[test]
fn lm3s6965evb() {
    let more = [
        ("USHERD_SERVICES", "13"),
        ("USHERD_TEXT_BYTES", "512"),
        ("USHERD_TCP_SOCKETS", "15"),
        ("USHERD_UDP_SOCKETS", "5"),
        ("USHERD_UDP_PACKETS", "8"),
        ("USHERD_SESSIONS", "8"),
        ("USHERD_TCP_BUFFER_BYTES", "256"),
        // QEMU leads it to ours.
        ("USHERD_BOARD_TIME_SERVER", "10.0.2.2"),
    ];
    let firmware = build_for_scripts(LM3S6965EVB.board, &more);
    play_on(&LM3S6965EVB, firmware);
}

/// The scripts, each on a board that was just switched on.
fn play_on(machine: &'static Machine, firmware: &'static Path) {
    play(machine.board, |script| {
        in_net(move |net| {
            let clock = std::thread::spawn(tell_the_time);
            let board = Board::start(net, machine, &PORTS, firmware);
            clock.join().expect("a time server");
            let mut outside = Outside::new(Ipv4Addr::LOCALHOST.into(), Vec::new());
            let done = script.play(&mut outside);
            let (used, room) = board.stack(firmware, net);
            assert!(used + 512 < room, "{used} of {room} bytes of stack: it reaches the variables");
            done
        })
    });
}
