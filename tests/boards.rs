//! Firmware on boards in QEMU: the conformance scripts, memory, boots.

mod cable;
mod wire;

use crate::conformance::outside::{Outside, PORTS, play};
use crate::conformance::script::configuration;
use crate::harness::*;
use cable::Cable;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::{HEADERS, Wire};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The address of all firmware's network controllers.
const ETHERNET: [u8; 6] = [0x02, b'u', b's', b'h', 0, 1];
/// What QEMU is told of a board.
struct Machine {
    /// Its folder in `boards`.
    board: &'static str,
    qemu: &'static str,
    args: &'static [&'static str],
    card: Card,
    /// The symbols at the ends of its stack.
    stack: (&'static str, &'static str),
}

/// How a machine comes by its network controller.
enum Card {
    /// It has one, of that model.
    OnBoard(&'static str),
    /// It is given one, of that name.
    Device(&'static str),
}

impl Machine {
    /// Its arguments, with its controller at a network of that kind.
    fn arguments(&self, network: &str) -> Vec<String> {
        let mut args: Vec<String> = self.args.iter().map(|arg| arg.to_string()).collect();
        match self.card {
            Card::OnBoard(model) => args.extend(["-nic".into(), format!("{network},model={model}")]),
            Card::Device(name) => {
                args.extend(["-netdev".into(), format!("{network},id=n0")]);
                args.extend(["-device".into(), format!("{name},netdev=n0")]);
            }
        }
        args
    }
}

const LM3S6965EVB: Machine = Machine {
    board: "lm3s6965evb",
    qemu: "qemu-system-arm",
    args: &["-M", "lm3s6965evb"],
    card: Card::OnBoard("stellaris"),
    stack: CORTEX_M,
};

const MPS2_AN385: Machine = Machine {
    board: "mps2-an385",
    qemu: "qemu-system-arm",
    args: &["-M", "mps2-an385"],
    card: Card::OnBoard("lan9118"),
    stack: CORTEX_M,
};

const VIRT_CORTEX_A15: Machine = Machine {
    board: "virt-cortex-a15",
    qemu: "qemu-system-arm",
    // Virtio's older registers, which is what QEMU has if it is not asked for the others.
    args: &["-M", "virt", "-cpu", "cortex-a15"],
    card: Card::Device("virtio-net-device"),
    stack: VIRT,
};

const VIRT_CORTEX_A53: Machine = Machine {
    board: "virt-cortex-a53",
    qemu: "qemu-system-aarch64",
    args: &["-M", "virt", "-cpu", "cortex-a53", "-global", "virtio-mmio.force-legacy=false"],
    card: Card::Device("virtio-net-device"),
    stack: VIRT,
};

/// As cortex-m-rt names them: from the variables to the end of RAM.
const CORTEX_M: (&str, &str) = ("__sheap", "_stack_start");
/// As the boards' linker scripts do.
const VIRT: (&str, &str) = ("stack_low", "stack_high");

/// Firmware as its folder has it, or with what is in the environment. One name is one environment, and is built once.
fn build(board: &str, name: &str, environment: &[(&str, &str)]) -> &'static Path {
    // All of them land in one place.
    static BUILT: Mutex<BTreeMap<String, &Path>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let name = format!("{board}-{name}");
    if let Some(firmware) = built.get(&name) {
        return firmware;
    }
    let done = Command::new(format!("{ROOT}/tools/cross"))
        .arg(format!("boards/{board}"))
        .envs(environment.iter().copied())
        // The cargo that runs this test is not the one that builds firmware.
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("tools/cross");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let file = Path::new(ROOT).join("target/boards").join(board).join("usherd");
    let firmware = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    fs::copy(file, &firmware).expect("firmware");
    let firmware = Box::leak(firmware.into_boxed_path());
    built.insert(name, firmware);
    firmware
}

/// Firmware with the services of the scripts.
fn build_for_scripts(board: &str, more: &[(&str, &str)]) -> &'static Path {
    // Nobody is the third client there.
    build_for(&configuration("192.0.2.3"), board, "scripts", more)
}

/// Firmware with the services of a configuration.
fn build_for(text: &str, board: &str, name: &str, more: &[(&str, &str)]) -> &'static Path {
    let conf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{board}-{name}.conf"));
    if fs::read_to_string(&conf).ok().as_deref() != Some(text) {
        fs::write(&conf, text).expect("a configuration");
    }
    let conf = conf.to_str().expect("a printable path");
    let environment = [&[("USHERD_BOARD_CONF", conf)], more].concat();
    build(board, name, &environment)
}

/// QEMU's own network; `ports` are led to the board's ports of the same numbers.
fn user_network(ports: &[(&str, u16)]) -> String {
    let mut network = String::from("user");
    for (kind, port) in ports {
        network += &format!(",hostfwd={kind}:127.0.0.1:{port}-:{port}");
    }
    network
}

/// A board in QEMU, in the network of a test.
struct Board {
    qemu: Child,
    log: PathBuf,
    monitor: PathBuf,
    /// The symbols at the ends of its stack.
    stack: (&'static str, &'static str),
}

impl Board {
    /// Switched on, and ready by its log.
    fn start(net: &Net, machine: &Machine, ports: &[(&str, u16)], firmware: &Path) -> Board {
        let board = Board::switch_on(net, machine, &user_network(ports), firmware);
        until("the board is ready", || board.log().contains("ready: 10.0.2.15").then_some(()));
        board
    }

    /// On a network of that kind of QEMU's.
    fn switch_on(net: &Net, machine: &Machine, network: &str, firmware: &Path) -> Board {
        let dir = net.dir();
        let (log, monitor) = (dir.join("uart"), dir.join("monitor"));
        let qemu = Command::new(machine.qemu)
            .args(machine.arguments(network))
            .args(["-display", "none", "-kernel"])
            .arg(firmware)
            .arg("-serial")
            .arg(format!("file:{}", log.display()))
            .arg("-serial")
            .arg(format!("unix:{},server,nowait", dir.join("uart1").display()))
            .arg("-monitor")
            .arg(format!("unix:{},server,nowait", monitor.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error} (tools/setup installs it)", machine.qemu));
        Board { qemu, log, monitor, stack: machine.stack }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Bytes of stack that were used, and that there are. It grows down; what it never reached is painted.
    fn stack(&self, firmware: &Path, net: &Net) -> (usize, usize) {
        let (low, high) = (symbol(firmware, self.stack.0), symbol(firmware, self.stack.1));
        let stack = self.memory(low, high - low, net);
        let untouched = stack.chunks(4).take_while(|word| *word == [0xcc; 4]).count() * 4;
        (stack.len() - untouched, stack.len())
    }

    /// How often its loop has gone round.
    fn turns(&self, firmware: &Path, net: &Net) -> u32 {
        let bytes = self.memory(symbol(firmware, "usherd_firmware::TURNS"), 4, net);
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }

    /// Waits until its loop does not go round any more: what is still to be acknowledged, and what the network's router
    /// has to say, ends soon.
    fn until_quiet(&self, firmware: &Path, net: &Net) {
        let mut before = self.turns(firmware, net);
        assert!(before > 0, "the counter is read from where it is");
        until("two quiet seconds", || {
            std::thread::sleep(Duration::from_secs(2));
            let now = self.turns(firmware, net);
            (core::mem::replace(&mut before, now) == now).then_some(())
        });
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

/// Where a symbol is.
fn symbol(firmware: &Path, name: &str) -> u32 {
    let nm = Command::new("nm").arg("-C").arg(firmware).output().expect("nm of binutils");
    let text = String::from_utf8(nm.stdout).expect("text");
    let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).expect(name);
    let (address, _) = line.split_once(' ').expect("an address");
    u32::from_str_radix(address, 16).expect("an address below 4 GB")
}

/// Bytes of code, of variables that begin as something, and of the others; a stack that is a section is none of them.
fn sizes(firmware: &Path) -> [usize; 3] {
    let size = |form: &str| {
        let size = Command::new("size").arg(form).arg(firmware).output().expect("size of binutils");
        String::from_utf8(size.stdout).expect("text")
    };
    let number = |word: &str| word.parse::<usize>().expect("a number");
    let table = size("-B");
    let line = table.lines().nth(1).expect("a line");
    let bytes: Vec<usize> = line.split_whitespace().take(3).map(number).collect();
    let sections = size("-A");
    let stacks = sections.lines().filter(|line| line.starts_with(".stack"));
    let stack: usize = stacks.filter_map(|line| line.split_whitespace().nth(1)).map(number).sum();
    [bytes[0], bytes[1], bytes[2] - stack]
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

#[test]
fn lm3s6965evb_keeps_its_budget() {
    keeps_its_budget(&LM3S6965EVB);
}

#[test]
fn mps2_an385_keeps_its_budget() {
    keeps_its_budget(&MPS2_AN385);
}

#[test]
fn virt_cortex_a15_keeps_its_budget() {
    keeps_its_budget(&VIRT_CORTEX_A15);
}

#[test]
fn virt_cortex_a53_keeps_its_budget() {
    keeps_its_budget(&VIRT_CORTEX_A53);
}

/// Bytes of flash, and of RAM with the stack, that memory-budget.md allows a board.
fn budget(board: &str) -> (usize, usize) {
    let page = fs::read_to_string(format!("{ROOT}/memory-budget.md")).expect("memory-budget.md");
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {board} | "))).expect(board);
    let mut cells = row.split(" | ").map(|cell| cell.parse().expect("bytes"));
    (cells.next().expect("flash"), cells.next().expect("RAM"))
}

/// `tools/budget` reads what this prints.
fn keeps_its_budget(machine: &'static Machine) {
    let (most_flash, most_ram) = budget(machine.board);
    let firmware = build(machine.board, "default", &[]);
    let [code, data, bss] = sizes(firmware);
    let (flash, statics) = (code + data, data + bss);
    in_net(move |net| {
        // Ports below 1024 are this network's as much as the board's.
        let ports = [7, 9, 13, 19, 37, 1023].map(|port| ("tcp", port)).into_iter();
        let ports: Vec<_> = ports.chain([("udp", 7), ("udp", 37)]).collect();
        let board = Board::start(net, machine, &ports, firmware);
        // All that goes deep: some clients at one time, refusals, datagrams, records.
        for _ in 0..3 {
            let mut echoes: Vec<_> = (0..3).map(|_| tcp("127.0.0.1:7")).collect();
            for echo in &echoes {
                // Who finds no socket tries again, and QEMU's network waits longer each time: 6 seconds, 12, 24.
                echo.set_read_timeout(Some(6 * PATIENCE)).expect("a time-out");
            }
            echoes.iter_mut().for_each(|echo| round_trip(echo, &[b'x'; 2000]));
            let mut chargen = tcp("127.0.0.1:19");
            read_n(&mut chargen, 5000);
            assert!(ask_tcp("127.0.0.1:13", b"").is_empty(), "nobody knows the time here");
            assert_eq!(ask_udp("127.0.0.1:7", b"datagram"), b"datagram");
            let said = ask_tcp("127.0.0.1:1023", b"time\nwhat?\nquit\n");
            assert_eq!(text(&said), "> not known\r\n> there are uptime, time and quit\r\n> ");
        }
        let (stack, _) = board.stack(firmware, net);
        let name = machine.board;
        println!("{name}: text {code}, data {data}, bss {bss}, stack {stack}");
        assert!(flash <= most_flash, "{flash} bytes of flash, {most_flash} are allowed");
        assert!(statics + stack <= most_ram, "{statics} and {stack} bytes of RAM, {most_ram} are allowed");
    });
}

/// The same service over a serial line as over the network, with a record of who came.
#[test]
fn a_serial_line_has_a_service() {
    let firmware = build(LM3S6965EVB.board, "default", &[]);
    in_net(move |net| {
        let board = Board::start(net, &LM3S6965EVB, &[("tcp", 1023)], firmware);
        let mut line = UnixStream::connect(net.dir().join("uart1")).expect("the serial line");
        line.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let count = |record: &str| board.log().matches(record).count();
        for n in 1..=2 {
            line.write_all(b"time\nquit\n").expect("a line that is read");
            let mut said = [0; 15];
            line.read_exact(&mut said).expect("an answer");
            assert_eq!(text(&said), "> not known\r\n> ");
            // What comes before he has left goes with him, and that he leaves is written down before he has.
            until("he has left", || (count("EXIT: serial-console ") == n).then_some(()));
            board.until_quiet(firmware, net);
        }
        assert_eq!(count("START: serial-console from=<no address>"), 2);
        assert_eq!(text(&ask_tcp("127.0.0.1:1023", b"time\nquit\n")), "> not known\r\n> ");
        until("his record", || (count("START: console from=10.0.2.2") == 1).then_some(()));
    });
}

/// How many clients of echo are served at one time.
fn clients_at_once(to: SocketAddr) -> usize {
    let mut served = Vec::new();
    while let Ok(mut client) = TcpStream::connect_timeout(&to, Duration::from_secs(2)) {
        client.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
        let mut echo = [0];
        if client.write_all(b"?").is_err() || client.read_exact(&mut echo).is_err() {
            break;
        }
        served.push(client);
    }
    served.len()
}

#[test]
fn a_bad_network_leaves_lm3s6965evb_as_it_was() {
    leaves_it_as_it_was(&LM3S6965EVB);
}

#[test]
fn a_bad_network_leaves_virt_cortex_a53_as_it_was() {
    leaves_it_as_it_was(&VIRT_CORTEX_A53);
}

/// A bad network: frames lost, doubled, swapped, in parts, overlapping ones; then a flood of handshakes, whole ones and
/// spoiled ones. The board goes on serving, is not switched on anew, and has as many places for clients as before.
fn leaves_it_as_it_was(machine: &'static Machine) {
    let firmware = build(machine.board, "default", &[]);
    in_net(move |net| {
        let (cable, network) = Cable::lay("tap0");
        let _addresses = cable::Addresses::give("tap0", "10.7.0.1");
        let board = Board::switch_on(net, machine, &network, firmware);
        until("the board is ready", || board.log().contains("ready: 10.7.0.1").then_some(()));
        let echo: SocketAddr = "10.7.0.1:7".parse().expect("an address");
        let most = clients_at_once(echo);
        assert!(most >= 4, "{most} clients");

        cable.trouble(true);
        let bytes: Vec<u8> = (0..30_000u32).map(|n| (n / 7) as u8).collect();
        let mut client = tcp_from("10.7.0.11:0", "10.7.0.1:7");
        // What is lost again and again comes later and later.
        client.set_read_timeout(Some(6 * PATIENCE)).expect("a time-out");
        let mut writer = client.try_clone().expect("a second handle");
        let sent = bytes.clone();
        let sender = std::thread::spawn(move || {
            writer.write_all(&sent).expect("a board that reads");
            writer.shutdown(std::net::Shutdown::Write).expect("a half-close");
        });
        let heard = read_to_end(&mut client);
        sender.join().expect("the sender");
        assert!(heard == bytes, "{} of {} bytes", heard.len(), bytes.len());
        cable.trouble(false);

        let mut random = Random(7);
        let mut before = tcp_from("10.7.0.11:0", "10.7.0.1:7");
        round_trip(&mut before, b"hello");
        for round in 0..12 {
            for n in 0..250 {
                let mut frame = ethernet::handshake((ETHERNET, [10, 7, 0, 1]), round * 250 + n, 7);
                if n % 2 == 0 {
                    ethernet::spoil(&mut frame, &mut random);
                }
                cable.send(&frame);
            }
            round_trip(&mut before, b"still here");
        }
        drop(before);
        until("all places are free again", || (clients_at_once(echo) >= most).then_some(()));
        assert_eq!(board.log().matches("ready: 10.7.0.1").count(), 1, "it was switched on once");
    });
}

#[test]
fn an_idle_lm3s6965evb_sleeps() {
    sleeps_when_idle(&LM3S6965EVB);
}

#[test]
fn an_idle_mps2_an385_sleeps() {
    sleeps_when_idle(&MPS2_AN385);
}

#[test]
fn an_idle_virt_cortex_a15_sleeps() {
    sleeps_when_idle(&VIRT_CORTEX_A15);
}

#[test]
fn an_idle_virt_cortex_a53_sleeps() {
    sleeps_when_idle(&VIRT_CORTEX_A53);
}

/// Nothing to do, nothing done: no clock ticks, and no device is asked.
fn sleeps_when_idle(machine: &'static Machine) {
    let firmware = build(machine.board, "default", &[]);
    in_net(move |net| {
        let board = Board::start(net, machine, &[("tcp", 7)], firmware);
        let mut client = tcp("127.0.0.1:7");
        round_trip(&mut client, b"hello");
        board.until_quiet(firmware, net);
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
    // With an address of its own, which no other test here has.
    let more = [
        ("CROSS_FEATURES", "defmt"),
        ("USHERD_BOARD_ADDRESS", "10.0.2.15/24"),
        ("USHERD_BOARD_ROUTER", "10.0.2.2"),
    ];
    let firmware = build_for(&conf, LM3S6965EVB.board, "frames", &more);
    let [code, data, bss] = sizes(firmware);
    let (flash, statics) = (code + data, data + bss);
    assert!(flash <= 160 * 1024, "{flash} bytes of flash");
    let on_board = in_net(move |net| {
        let ports = [7007, 7009, 7013, 7019].map(|port| ("tcp", port));
        let board = Board::switch_on(net, &LM3S6965EVB, &user_network(&ports), firmware);
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
fn twenty_boots_of_lm3s6965evb() {
    reaches_the_first_echo_every_time(&LM3S6965EVB);
}

#[test]
fn twenty_boots_of_mps2_an385() {
    reaches_the_first_echo_every_time(&MPS2_AN385);
}

#[test]
fn twenty_boots_of_virt_cortex_a15() {
    reaches_the_first_echo_every_time(&VIRT_CORTEX_A15);
}

#[test]
fn twenty_boots_of_virt_cortex_a53() {
    reaches_the_first_echo_every_time(&VIRT_CORTEX_A53);
}

/// Twenty of twenty.
fn reaches_the_first_echo_every_time(machine: &'static Machine) {
    let firmware = build(machine.board, "default", &[]);
    for _ in 0..20 {
        in_net(move |net| {
            let _board = Board::start(net, machine, &[("tcp", 7)], firmware);
            assert_eq!(ask_tcp("127.0.0.1:7", b"first"), b"first");
        });
    }
}

#[test]
fn lm3s6965evb_loses_no_byte_of_a_frame() {
    let answers = loses_no_byte_of_a_frame(&LM3S6965EVB);
    assert_eq!(answers, BURST, "QEMU holds back what this card has no room for");
}

#[test]
fn mps2_an385_loses_no_byte_of_a_frame() {
    let answers = loses_no_byte_of_a_frame(&MPS2_AN385);
    assert!((1..BURST).contains(&answers), "{answers} of {BURST}: this card has room for six");
}

#[test]
fn virt_cortex_a15_loses_no_byte_of_a_frame() {
    let answers = loses_no_byte_of_a_frame(&VIRT_CORTEX_A15);
    assert_eq!(answers, BURST, "QEMU holds back what this card has no room for");
}

#[test]
fn virt_cortex_a53_loses_no_byte_of_a_frame() {
    let answers = loses_no_byte_of_a_frame(&VIRT_CORTEX_A53);
    assert_eq!(answers, BURST, "QEMU holds back what this card has no room for");
}

/// The largest frame.
const FRAME: usize = 1514;
/// More of those than any card holds, and fewer than the cable.
const BURST: u16 = 64;

/// Frames of every length come and go whole. What is too short or too long, or more than the card can hold, is lost alone.
/// How many of [`BURST`] at once were answered.
fn loses_no_byte_of_a_frame(machine: &'static Machine) -> u16 {
    let firmware = build(machine.board, "default", &[]);
    in_net(move |net| {
        let mut wire = Wire::new();
        let board = Board::switch_on(net, machine, &Wire::network(), firmware);
        let address: Ipv6Addr = until("its own address", || {
            let log = board.log();
            // A line that is not yet whole has another address.
            let (whole, _) = log.rsplit_once('\n')?;
            whole.lines().find_map(|line| line.trim().strip_prefix("ready: "))?.parse().ok()
        });
        wire.meet(address);
        let data: Vec<u8> = (0..FRAME).map(|n| (n * 7 + n / 256) as u8).collect();
        let ask = |len: usize| {
            wire.send(&wire.request(len as u16, &data[..len]));
            let (sequence, answer) = wire.reply(PATIENCE).unwrap_or_else(|| panic!("no echo of {len} bytes"));
            assert_eq!((usize::from(sequence), &answer[..]), (len, &data[..len]));
        };
        (0..=FRAME - HEADERS).for_each(ask);
        // Nothing in them is a lie but that they are frames.
        for len in (1..HEADERS).chain(FRAME + 1..FRAME + 20).chain([1600, 2000, 2047, 2048, 4000]) {
            let mut frame = wire.request(0xffff, &[0; 4096]);
            frame.truncate(len);
            wire.send(&frame);
        }
        ask(100);
        for sequence in 0..BURST {
            wire.send(&wire.request(sequence, &data[..FRAME - HEADERS]));
        }
        let answers = core::iter::from_fn(|| wire.reply(Duration::from_secs(2))).count();
        (0..=FRAME - HEADERS).step_by(97).for_each(ask);
        board.until_quiet(firmware, net);
        ask(1000);
        answers as u16
    })
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

#[test]
fn mps2_an385() {
    // QEMU leads it to ours.
    let firmware = build_for_scripts(MPS2_AN385.board, &[("USHERD_BOARD_TIME_SERVER", "10.0.2.2")]);
    play_on(&MPS2_AN385, firmware);
}

#[test]
fn virt_cortex_a15() {
    let more = [("USHERD_BOARD_TIME_SERVER", "10.0.2.2")];
    play_on(&VIRT_CORTEX_A15, build_for_scripts(VIRT_CORTEX_A15.board, &more));
}

#[test]
fn virt_cortex_a53() {
    let more = [("USHERD_BOARD_TIME_SERVER", "10.0.2.2")];
    play_on(&VIRT_CORTEX_A53, build_for_scripts(VIRT_CORTEX_A53.board, &more));
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
