//! The conformance scripts against the daemon on Linux sockets and behind a TAP device, from clients in a network of their own.

pub mod outside;
pub mod script;

use crate::harness::*;
use outside::{Outside, play};
use script::configuration;
use std::net::{IpAddr, Ipv4Addr};

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
    use crate::harness::ethernet::{handshake, spoil};
    use std::io::{Read, Write};
    use std::path::Path;
    use std::time::Duration;

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
                    let mut frame = handshake((frames.to, [10, 7, 0, 1]), round * 250 + n, 7007);
                    spoil(&mut frame, &mut random);
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
