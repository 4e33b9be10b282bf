//! Firmware on boards in QEMU: the conformance scripts, memory, boots.

mod harness;
#[path = "conformance/outside.rs"]
mod outside;
#[path = "conformance/script.rs"]
mod script;

use harness::frames;
use harness::*;
use outside::{Outside, play};
use script::configuration;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The address of all firmware's network controllers.
const ETHERNET: [u8; 6] = [0x02, b'u', b's', b'h', 0, 1];
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
    let conf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{board}.conf"));
    // Nobody is the third client there.
    let text = configuration("192.0.2.3");
    if fs::read_to_string(&conf).ok().as_ref() != Some(&text) {
        fs::write(&conf, text).expect("a configuration");
    }
    let conf = conf.to_str().expect("a printable path");
    let environment = [&[("USHERD_BOARD_CONF", conf)], more].concat();
    build(board, &format!("{board}-scripts"), &environment)
}

/// A board in QEMU, in the network of a test.
struct Board {
    qemu: Child,
    log: PathBuf,
    monitor: PathBuf,
}

impl Board {
    /// `ports` are led to the board's ports of the same numbers.
    fn start(net: &Net, machine: &Machine, ports: &[(&str, u16)], firmware: &Path) -> Board {
        let mut network = String::from("user");
        for (kind, port) in ports {
            network += &format!(",hostfwd={kind}:127.0.0.1:{port}-:{port}");
        }
        let board = Board::on(net, machine, &network, firmware);
        until("the board is ready", || board.log().contains("ready: 10.0.2.15").then_some(()));
        board
    }

    /// On a network of that kind of QEMU's.
    fn on(net: &Net, machine: &Machine, network: &str, firmware: &Path) -> Board {
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
    let size = Command::new("size").arg(firmware).output().expect("size of binutils");
    let table = String::from_utf8(size.stdout).expect("text");
    let line = table.lines().nth(1).expect("a line");
    let bytes: Vec<usize> = line.split_whitespace().take(3).map_while(|n| n.parse().ok()).collect();
    let (flash, statics) = (bytes[0] + bytes[1], bytes[1] + bytes[2]);
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

/// The same service over a serial line as over the network, with a record of who came.
#[test]
fn a_serial_line_has_a_service() {
    let firmware = build(LM3S6965EVB.board, "lm3s6965evb-serial", &[]);
    in_net(move |net| {
        let board = Board::start(net, &LM3S6965EVB, &[("tcp", 1023)], firmware);
        let mut line = UnixStream::connect(net.dir().join("uart1")).expect("the serial line");
        line.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        for _ in 0..2 {
            line.write_all(b"time\nquit\n").expect("a line that is read");
            let mut said = [0; 15];
            line.read_exact(&mut said).expect("an answer");
            assert_eq!(text(&said), "> not known\r\n> ");
        }
        assert_eq!(text(&ask_tcp("127.0.0.1:1023", b"time\nquit\n")), "> not known\r\n> ");
        let came = |from: &str| board.log().matches(&format!("START: {from}")).count();
        until("all records", || (came("serial-console from=<no address>") == 2).then_some(()));
        assert_eq!(came("console from=10.0.2.2"), 1);
    });
}

/// A cable from a TAP device of this network to a board: QEMU takes each datagram for an Ethernet frame.
struct Cable {
    to_board: UdpSocket,
    is_troubled: Arc<AtomicBool>,
    is_cut: Arc<AtomicBool>,
    pumps: Vec<JoinHandle<()>>,
}

impl Cable {
    /// The cable, and what QEMU is told of it.
    fn lay(name: &str) -> (Cable, String) {
        let to_board = UdpSocket::bind("127.0.0.1:0").expect("our end");
        // A port that is free now, and nobody else is here to take it.
        let free = UdpSocket::bind("127.0.0.1:0").expect("the board's end").local_addr().expect("an address");
        let ours = to_board.local_addr().expect("an address");
        to_board.connect(free).expect("the board's end");
        to_board.set_read_timeout(Some(TICK)).expect("a time-out");
        let tap = tap(name);
        let is_troubled = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::new(AtomicBool::new(false));
        let pump = |is_to_board: bool| {
            let (mut tap, socket) =
                (tap.try_clone().expect("a handle"), to_board.try_clone().expect("a handle"));
            let (is_troubled, is_cut) = (Arc::clone(&is_troubled), Arc::clone(&is_cut));
            std::thread::spawn(move || {
                let (mut bytes, mut trouble) = ([0; 2048], Trouble { random: Random(7), held: None });
                while !is_cut.load(Ordering::Relaxed) {
                    let taken = if is_to_board {
                        // A TAP device has no time-outs.
                        if is_readable(&tap, TICK) { tap.read(&mut bytes) } else { continue }
                    } else {
                        socket.recv(&mut bytes)
                    };
                    // QEMU is not there yet, or not any more.
                    let Ok(n) = taken else { continue };
                    let frames = match is_troubled.load(Ordering::Relaxed) {
                        true => trouble.meets(&bytes[..n]),
                        false => vec![bytes[..n].to_vec()],
                    };
                    for frame in frames {
                        // What nobody takes is lost, as on cables.
                        let _ = if is_to_board { socket.send(&frame) } else { tap.write(&frame) };
                    }
                }
            })
        };
        let pumps = vec![pump(true), pump(false)];
        let network = format!("socket,udp={ours},localaddr={free}");
        (Cable { to_board, is_troubled, is_cut, pumps }, network)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.pumps.drain(..).for_each(|pump| pump.join().expect("a pump"));
    }
}

/// How long a pump waits before it looks whether the cable is cut.
const TICK: Duration = Duration::from_millis(50);

/// What frames meet on a bad network.
struct Trouble {
    random: Random,
    held: Option<Vec<u8>>,
}

impl Trouble {
    /// What arrives now in place of a frame: it doubled, the one before behind it, half of it before it, parts of it, nothing.
    fn meets(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let mut arrive = match self.random.below(40) {
            0 => vec![],
            1 => frames::fragments(frame),
            2..8 => vec![frame.to_vec(), frame.to_vec()],
            8..16 => frames::half_segment(frame).into_iter().chain([frame.to_vec()]).collect(),
            16..20 if self.held.is_none() => {
                self.held = Some(frame.to_vec());
                return vec![];
            }
            _ => vec![frame.to_vec()],
        };
        arrive.extend(self.held.take());
        arrive
    }
}

/// A TAP device of this network, up, with 10.7.0.11 to 14.
fn tap(name: &str) -> fs::File {
    let tap = fs::File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    // IFF_TAP | IFF_NO_PI
    request[16..18].copy_from_slice(&0x1002u16.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes a struct ifreq, which has 40 bytes.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), 0x4004_54ca, request.as_mut_ptr()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    ip(&format!("link set {name} up"));
    for n in 11..=14 {
        ip(&format!("addr add 10.7.0.{n}/24 dev {name}"));
    }
    tap
}

fn is_readable(file: &fs::File, wait: Duration) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives until the call returns.
    unsafe { libc::poll(&mut poll, 1, wait.as_millis() as i32) == 1 }
}

/// How many clients of echo are served at one time.
fn clients_at_once(to: SocketAddr) -> usize {
    let mut served = Vec::new();
    while let Ok(mut client) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) {
        client.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
        let mut echo = [0];
        if client.write_all(b"?").is_err() || client.read_exact(&mut echo).is_err() {
            break;
        }
        served.push(client);
    }
    served.len()
}

/// A bad network: frames lost, doubled, swapped, in parts, overlapping ones; then a flood of handshakes, whole ones and
/// spoiled ones. The board goes on serving, is not switched on anew, and has as many places for clients as before.
#[test]
fn a_bad_network_leaves_a_board_as_it_was() {
    let firmware = build(LM3S6965EVB.board, "lm3s6965evb-static", &[("USHERD_BOARD_ADDRESS", "10.7.0.1/24")]);
    in_net(move |net| {
        let (cable, network) = Cable::lay("tap0");
        let board = Board::on(net, &LM3S6965EVB, &network, firmware);
        until("the board is ready", || board.log().contains("ready: 10.7.0.1").then_some(()));
        let echo: SocketAddr = "10.7.0.1:7".parse().expect("an address");
        let most = clients_at_once(echo);
        assert!(most >= 4, "{most} clients");

        cable.is_troubled.store(true, Ordering::Relaxed);
        let bytes: Vec<u8> = (0..30_000u32).map(|n| (n / 7) as u8).collect();
        let mut client = tcp_from("10.7.0.11:0", "10.7.0.1:7");
        client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut writer = client.try_clone().expect("a second handle");
        let sent = bytes.clone();
        let sender = std::thread::spawn(move || {
            writer.write_all(&sent).expect("a board that reads");
            writer.shutdown(std::net::Shutdown::Write).expect("a half-close");
        });
        let heard = read_to_end(&mut client);
        sender.join().expect("the sender");
        assert!(heard == bytes, "{} of {} bytes", heard.len(), bytes.len());
        cable.is_troubled.store(false, Ordering::Relaxed);

        let mut random = Random(7);
        let mut before = tcp_from("10.7.0.11:0", "10.7.0.1:7");
        round_trip(&mut before, b"hello");
        for round in 0..12 {
            for n in 0..250 {
                let mut frame = frames::handshake((ETHERNET, [10, 7, 0, 1]), round * 250 + n, 7);
                if n % 2 == 0 {
                    frames::spoil(&mut frame, &mut random);
                }
                let _ = cable.to_board.send(&frame);
            }
            round_trip(&mut before, b"still here");
        }
        drop(before);
        until("all places are free again", || (clients_at_once(echo) == most).then_some(()));
        assert_eq!(board.log().matches("ready: 10.7.0.1").count(), 1, "it was switched on once");
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
