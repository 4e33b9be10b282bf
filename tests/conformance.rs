//! The conformance scripts against the daemon on Linux sockets, from clients in a network of their own.

mod harness;

use harness::*;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[path = "conformance/script.rs"]
mod script;

use script::{SCRIPTS, Sight, World, configuration};

/// How long a client waits for what should not come.
const MOMENT: Duration = Duration::from_millis(200);

/// Clients on the sockets of this machine, of a daemon wherever it is.
struct Outside {
    server: IpAddr,
    /// The clients' addresses; none, if the daemon sees them all as one.
    addresses: Vec<IpAddr>,
    connections: Vec<Option<TcpStream>>,
    datagrams: BTreeMap<String, UdpSocket>,
}

impl Outside {
    fn new(server: IpAddr, addresses: Vec<IpAddr>) -> Outside {
        Outside { server, addresses, connections: Vec::new(), datagrams: BTreeMap::new() }
    }

    fn from(&self, nth: u8) -> SocketAddr {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        SocketAddr::new(self.addresses.get(usize::from(nth) - 1).copied().unwrap_or(any), 0)
    }

    fn stream(&mut self, client: usize) -> Option<&mut TcpStream> {
        self.connections[client].as_mut()
    }
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl World for Outside {
    fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    fn connect(&mut self, from: u8, port: u16) -> usize {
        let stream = connect_from(self.from(from), SocketAddr::new(self.server, port), PATIENCE).ok();
        if let Some(stream) = &stream {
            stream.set_nodelay(true).expect("an option");
            stream.set_write_timeout(Some(MOMENT)).expect("an option");
        }
        self.connections.push(stream);
        self.connections.len() - 1
    }

    fn send(&mut self, client: usize, bytes: &[u8]) -> usize {
        self.stream(client).and_then(|stream| stream.write(bytes).ok()).unwrap_or(0)
    }

    fn receive(&mut self, client: usize, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let Some(stream) = self.stream(client) else { return Vec::new() };
        let mut len = 0;
        while len < most {
            match stream.read(&mut bytes[len..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => len += n,
            }
        }
        bytes.truncate(len);
        bytes
    }

    fn sight(&mut self, client: usize) -> Sight {
        let Some(stream) = self.stream(client) else { return Sight::Reset };
        stream.set_read_timeout(Some(MOMENT)).expect("an option");
        let seen = stream.peek(&mut [0]);
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        match seen {
            Ok(0) => Sight::Ended,
            Ok(_) => Sight::Open,
            Err(error) if is_late(&error) => Sight::Open,
            Err(_) => Sight::Reset,
        }
    }

    fn finish(&mut self, client: usize) {
        if let Some(stream) = self.stream(client) {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn leave(&mut self, client: usize) {
        self.connections[client] = None;
    }

    fn reset(&mut self, client: usize) {
        if let Some(stream) = self.connections[client].take() {
            reset(stream);
        }
    }

    fn ask(&mut self, client: &str, from: u8, port: u16, bytes: &[u8]) {
        let from = self.from(from);
        let to = SocketAddr::new(self.server, port);
        let socket = self
            .datagrams
            .entry(client.into())
            .or_insert_with(|| UdpSocket::bind(from).expect("a datagram socket"));
        socket.send_to(bytes, to).expect("a datagram");
    }

    fn datagram(&mut self, client: &str, soon: bool) -> Option<Vec<u8>> {
        let socket = &self.datagrams[client];
        socket.set_read_timeout(Some(if soon { MOMENT } else { PATIENCE })).expect("an option");
        let mut bytes = [0; 2048];
        let n = socket.recv(&mut bytes).ok()?;
        Some(bytes[..n].to_vec())
    }

    fn pass(&mut self, ms: u64) {
        // Time itself is what the script is about.
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn unix(&self) -> Option<i64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        Some(now as i64)
    }
}

/// Plays all of them, each with a daemon of its own, and prints its row of the matrix.
fn play(name: &str, mut play: impl FnMut(&'static script::Script) -> bool) {
    for script in SCRIPTS {
        let began = Instant::now();
        let word = if play(script) { "passed" } else { "-" };
        println!("conformance: {name} {} {word} ({:?}): {}", script.name, began.elapsed(), script.promise());
    }
}

#[test]
fn linux_sockets() {
    play("linux", |script| {
        in_net(move |net| {
            let clients: Vec<IpAddr> = (1..=4).map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n))).collect();
            let conf = configuration("127.0.0.3");
            let ports = ["tcp/7007", "udp/7007", "tcp/7104"];
            let daemon = Daemon::start(net, Subject::Usherd, Conf::Xinetd(&conf)).ready(&ports);
            let done = script.play(&mut Outside::new(Ipv4Addr::LOCALHOST.into(), clients));
            drop(daemon);
            done
        })
    });
}

#[cfg(feature = "tap")]
mod tap {
    use super::*;
    use std::path::Path;

    const OURS: &str = "10.7.0.1";

    /// The daemon behind a TAP device, with clients at 10.7.0.11 to 14 and fd07::11.
    pub fn start<'n>(net: &'n Net, conf: &str, more: &[&str]) -> Daemon<'n> {
        net.write("conf", conf);
        start_with(net, &[&["-f", "/run/test/conf"], more].concat())
    }

    fn start_with<'n>(net: &'n Net, more: &[&str]) -> Daemon<'n> {
        let args = ["-tap", "tap0", "-address", "10.7.0.1/24", "-address", "fd07::1/64"];
        let daemon = Daemon::run(net, Subject::Usherd, &[&args, more].concat());
        until("the device", || Path::new("/proc/sys/net/ipv6/conf/tap0").exists().then_some(()));
        ip("link set tap0 up");
        for n in 11..=14 {
            ip(&format!("addr add 10.7.0.{n}/24 dev tap0"));
        }
        ip("addr add fd07::11/64 dev tap0 nodad");
        until("the stack", || daemon.said().contains(OURS).then_some(()));
        daemon
    }

    #[test]
    fn a_tap_device() {
        play("tap", |script| {
            in_net(move |net| {
                let clients: Vec<IpAddr> =
                    (11..=14).map(|n| IpAddr::V4(Ipv4Addr::new(10, 7, 0, n))).collect();
                let daemon = start(net, &configuration("10.7.0.13"), &[]);
                let done = script.play(&mut Outside::new(OURS.parse().expect("an address"), clients));
                drop(daemon);
                done
            })
        });
    }

    /// A program has a socket pair for its connection: all bytes go through it, and each end's half-close.
    #[test]
    fn programs_answer_behind_a_tap_device() {
        in_net(|net| {
            net.script("greet", "#!/bin/sh\necho hello $REMOTE_HOST\ncat\necho bye\n");
            net.script("flood", "#!/bin/sh\nyes | head -c 3000000\n");
            let conf = service("greet", 7201, "server = /run/test/greet")
                + &service("flood", 7202, "server = /run/test/flood");
            let daemon = start(net, &conf, &[]);
            let mut client = tcp_from("10.7.0.12:0", "10.7.0.1:7201");
            let much = "0123456789abcdef".repeat(20_000);
            let mut writer = client.try_clone().expect("a second handle");
            let sent = much.clone();
            let sender = std::thread::spawn(move || {
                writer.write_all(sent.as_bytes()).expect("a program that reads");
                writer.shutdown(std::net::Shutdown::Write).expect("a half-close");
            });
            let heard = read_to_end(&mut client);
            sender.join().expect("the sender");
            assert!(heard == format!("hello 10.7.0.12\n{much}bye\n").into_bytes(), "{} bytes", heard.len());
            assert_eq!(read_to_end(&mut tcp_from("10.7.0.11:0", "10.7.0.1:7202")).len(), 3_000_000);
            // One that leaves in the middle: its program gets SIGPIPE, and nothing is left.
            let mut rude = tcp_from("10.7.0.11:0", "10.7.0.1:7202");
            rude.read_exact(&mut [0; 1000]).expect("some of it");
            reset(rude);
            until("all programs have ended", || children(daemon.pid()).is_empty().then_some(()));
            let mut v6 = tcp_from("[fd07::11]:0", "[fd07::1]:7201");
            v6.shutdown(std::net::Shutdown::Write).expect("a half-close");
            assert_eq!(text(&read_to_end(&mut v6)), "hello fd07::11\nbye\n");
        });
    }

    /// Frames that nobody should send: a flood of handshakes from everywhere, and what is cut, lengthened and changed of them.
    /// The daemon goes on serving, and keeps nothing of it.
    #[test]
    fn broken_frames_behind_a_tap_device_stop_nobody() {
        in_net(|net| {
            let daemon = start(net, &configuration("10.7.0.13"), &[]);
            let mut before = tcp_from("10.7.0.11:0", "10.7.0.1:7007");
            round_trip(&mut before, b"hello");
            let held = holdings(daemon.pid());
            let frames = Frames::open("tap0");
            let mut random = Random(7);
            for round in 0..40 {
                for n in 0..250 {
                    let mut frame = frames.handshake(round * 250 + n, 7007);
                    for _ in 0..random.below(5) {
                        let at = random.below(frame.len());
                        frame[at] = random.next() as u8;
                    }
                    match random.below(4) {
                        0 => frame.truncate(14 + random.below(frame.len() - 14)),
                        1 => frame.extend((0..random.below(1400)).map(|_| random.next() as u8)),
                        _ => {}
                    }
                    // Most of them for us, whatever else they say.
                    frame[..6].copy_from_slice(&frames.to);
                    frames.send(&frame);
                }
                round_trip(&mut before, b"still here");
            }
            // Who comes now finds a place as soon as half-open ones have had their time.
            let mut after = tcp_from("10.7.0.12:0", "10.7.0.1:7007");
            round_trip(&mut after, b"hello");
            assert_eq!(holdings(daemon.pid()), held);
        });
    }

    /// Raw frames into a device.
    struct Frames {
        socket: std::os::fd::OwnedFd,
        device: libc::sockaddr_ll,
        to: [u8; 6],
    }

    impl Frames {
        fn open(device: &str) -> Frames {
            use std::os::fd::FromRawFd;
            // The kernel has asked for our address by now.
            let neighbours = std::fs::read_to_string("/proc/thread-self/net/arp").expect("neighbours");
            let line = neighbours.lines().find(|line| line.starts_with("10.7.0.1 ")).expect("ours");
            let address = line.split_whitespace().nth(3).expect("an Ethernet address");
            let bytes: Vec<u8> =
                address.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
            let name = std::ffi::CString::new(device).expect("a name");
            // SAFETY: the name lives until the call returns; the descriptor gets one owner; zeros are a valid address.
            unsafe {
                let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
                assert!(fd >= 0, "{}", std::io::Error::last_os_error());
                let mut device: libc::sockaddr_ll = std::mem::zeroed();
                device.sll_family = libc::AF_PACKET as u16;
                device.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
                device.sll_halen = 6;
                Frames {
                    socket: std::os::fd::OwnedFd::from_raw_fd(fd),
                    device,
                    to: bytes.try_into().expect("six bytes"),
                }
            }
        }

        fn send(&self, frame: &[u8]) {
            use std::os::fd::AsRawFd;
            let (address, size) = (&raw const self.device, size_of::<libc::sockaddr_ll>());
            // SAFETY: frame and address live until the call returns. A full queue loses it, as networks do.
            unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    address.cast(),
                    size as libc::socklen_t,
                );
            }
        }

        /// The nth SYN of a flood, from an address where nobody is.
        fn handshake(&self, n: u32, port: u16) -> Vec<u8> {
            let mut frame = self.to.to_vec();
            frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
            let from = [10, 7, 0, 100 + (n % 100) as u8];
            let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
            ip.extend(from);
            ip.extend([10, 7, 0, 1]);
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum);
            let mut tcp = Vec::new();
            tcp.extend((1024 + (n % 60_000) as u16).to_be_bytes());
            tcp.extend(port.to_be_bytes());
            tcp.extend(n.to_be_bytes());
            tcp.extend([0, 0, 0, 0, 0x50, 2, 16, 0, 0, 0, 0, 0]);
            let pseudo = [&ip[12..20], &[0, 6, 0, 20], &tcp].concat();
            let sum = checksum(&pseudo);
            tcp[16..18].copy_from_slice(&sum);
            frame.extend(ip);
            frame.extend(tcp);
            frame
        }
    }

    /// RFC 1071, of an even number of bytes.
    fn checksum(bytes: &[u8]) -> [u8; 2] {
        let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
    }

    /// The loopback of the built-in table is not there, and was listened at in vain.
    #[test]
    fn without_a_file_the_builtin_services_are_at_the_stacks_own_address() {
        in_net(|net| {
            // A test's own /etc has empty ones.
            for file in ["xinetd.conf", "inetd.conf"] {
                std::fs::remove_file(Path::new("/etc").join(file)).expect("a file of this test");
            }
            let daemon = start_with(net, &[]);
            assert_eq!(ask_tcp("10.7.0.1:10007", b"hello"), b"hello");
            assert!(silent(&udp("10.7.0.11:0", "10.7.0.1:10019"), b"?"), "chargen is a reflector's");
            assert!(!daemon.said().contains("failed"), "{}", daemon.said());
        });
    }

    /// Nothing to do, nothing done: the loop waits as long as nothing comes.
    #[test]
    fn an_idle_stack_wakes_nobody() {
        in_net(|net| {
            let daemon = start(net, &configuration("10.7.0.13"), &[]);
            let _client = {
                let mut client = tcp_from("10.7.0.11:0", "10.7.0.1:7007");
                round_trip(&mut client, b"hello");
                client
            };
            let switches = || {
                let status =
                    std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("status");
                let line = status.lines().find(|line| line.starts_with("voluntary_ctxt")).expect("a count");
                line.split_whitespace().last().and_then(|n| n.parse::<u64>().ok()).expect("a number")
            };
            // The kernel's own frames (router solicitations, reports of groups) end after a few seconds.
            let mut before = switches();
            until("two quiet seconds", || {
                std::thread::sleep(Duration::from_secs(2));
                let now = switches();
                (core::mem::replace(&mut before, now) == now).then_some(())
            });
        });
    }
}

mod boards {
    use super::*;
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::{Mutex, PoisonError};

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
        fn start(net: &Net, machine: &[&str], nic: &str, ports: &[(&str, u16)], firmware: &Path) -> Board {
            let dir = net.dir();
            let (log, monitor) = (dir.join("uart"), dir.join("monitor"));
            let mut nic = format!("user,{nic}");
            for (kind, port) in ports {
                nic += &format!(",hostfwd={kind}:127.0.0.1:{port}-:{port}");
            }
            let qemu = Command::new("qemu-system-arm")
                .args(machine)
                .args(["-display", "none", "-nic", &nic, "-kernel"])
                .arg(firmware)
                .arg("-serial")
                .arg(format!("file:{}", log.display()))
                .arg("-monitor")
                .arg(format!("unix:{},server,nowait", monitor.display()))
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("qemu-system-arm (tools/setup installs it)");
            let board = Board { qemu, log, monitor };
            until("the board is ready", || board.log().contains("ready: 10.0.2.15").then_some(()));
            board
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

        /// A part of its memory.
        fn memory(&self, from: u32, len: u32, net: &Net) -> Vec<u8> {
            let file = net.dir().join("memory");
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
        let nm = Command::new("nm").arg(firmware).output().expect("nm of binutils");
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

    const LM3S6965EVB: [&str; 2] = ["-M", "lm3s6965evb"];

    /// With eight services and access rules: 160 KB of flash, 48 KB of RAM with the stack.
    #[test]
    fn lm3s6965evb_keeps_its_budget() {
        let firmware = build("lm3s6965evb", "lm3s6965evb-default", &[]);
        let size = Command::new("size").arg(firmware).output().expect("size of binutils");
        let table = String::from_utf8(size.stdout).expect("text");
        let line = table.lines().nth(1).expect("a line");
        let bytes: Vec<usize> = line.split_whitespace().take(3).map_while(|n| n.parse().ok()).collect();
        let (flash, statics) = (bytes[0] + bytes[1], bytes[1] + bytes[2]);
        in_net(move |net| {
            // Ports below 1024 are this network's as much as the board's.
            let ports = [7, 9, 13, 19, 37, 1023].map(|port| ("tcp", port)).into_iter();
            let ports: Vec<_> = ports.chain([("udp", 7), ("udp", 37)]).collect();
            let board = Board::start(net, &LM3S6965EVB, "model=stellaris", &ports, firmware);
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

    #[test]
    fn twenty_boots_of_twenty_reach_the_first_echo() {
        let firmware = build("lm3s6965evb", "lm3s6965evb-boots", &[]);
        for _ in 0..20 {
            in_net(move |net| {
                let _board = Board::start(net, &LM3S6965EVB, "model=stellaris", &[("tcp", 7)], firmware);
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
        let firmware = build_for_scripts("lm3s6965evb", &more);
        play("lm3s6965evb", |script| {
            in_net(move |net| {
                let clock = std::thread::spawn(tell_the_time);
                let board = Board::start(net, &LM3S6965EVB, "model=stellaris", &PORTS, firmware);
                clock.join().expect("a time server");
                let mut outside = Outside::new(Ipv4Addr::LOCALHOST.into(), Vec::new());
                let done = script.play(&mut outside);
                let (used, room) = board.stack(firmware, net);
                assert!(used + 512 < room, "{used} of {room} bytes of stack: it reaches the variables");
                done
            })
        });
    }
}
