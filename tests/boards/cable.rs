//! A cable between the kernel's stack and a board in QEMU, good or bad.

use crate::harness::*;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A cable from a TAP device of this network to a board: QEMU takes each datagram for an Ethernet frame.
pub struct Cable {
    to_board: UdpSocket,
    is_troubled: Arc<AtomicBool>,
    is_cut: Arc<AtomicBool>,
    pumps: Vec<JoinHandle<()>>,
}

impl Cable {
    /// The cable, and what QEMU is told of it.
    pub fn lay(name: &str) -> (Cable, String) {
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

    /// Whether frames meet trouble from now on, in both directions.
    pub fn trouble(&self, is_troubled: bool) {
        self.is_troubled.store(is_troubled, Ordering::Relaxed);
    }

    /// One more frame for the board. What it does not take is lost, as on cables.
    pub fn send(&self, frame: &[u8]) {
        let _ = self.to_board.send(frame);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.pumps.drain(..).for_each(|pump| pump.join().expect("a pump"));
    }
}

/// A DHCP server at our end of a cable.
pub struct Addresses(Child);

impl Addresses {
    /// Gives that one address to whoever asks at an interface.
    pub fn give(interface: &str, address: &str) -> Addresses {
        let command = dhcp_server(interface, address, "1h");
        let (program, words) = command.split_once(' ').expect("words");
        let said = File::create("/run/test/dnsmasq").expect("a file");
        // Nobody else has the address, so nobody is asked for three seconds whether he has.
        let server =
            Command::new(program).args(words.split_whitespace()).arg("--no-ping").stderr(said).spawn();
        let addresses = Addresses(server.expect("dnsmasq (tools/setup installs it)"));
        // A board whose first question is lost asks again after ten seconds.
        until("the DHCP server", || Addresses::said().contains("DHCP, IP range").then_some(()));
        addresses
    }

    fn said() -> String {
        fs::read_to_string("/run/test/dnsmasq").unwrap_or_default()
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if std::thread::panicking() {
            eprintln!("--- the DHCP server\n{}---", Addresses::said());
        }
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
            1 => ethernet::fragments(frame),
            2..8 => vec![frame.to_vec(), frame.to_vec()],
            8..16 => ethernet::half_segment(frame).into_iter().chain([frame.to_vec()]).collect(),
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
fn tap(name: &str) -> File {
    let tap = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
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

fn is_readable(file: &File, wait: Duration) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives until the call returns.
    unsafe { libc::poll(&mut poll, 1, wait.as_millis() as i32) == 1 }
}
