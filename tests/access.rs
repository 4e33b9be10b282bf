//! Who may come in, where the daemon itself never sees who comes: wait services, whose servers own the socket.

mod harness;

use harness::*;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

fn conf(more: &str, wait: &str) -> String {
    let service = |name: &str, kind: &str, server: &str, port: u16| {
        format!(
            "service {name}\n{{\n\ttype = UNLISTED\n\tport = {port}\n\tsocket_type = {kind}\n\twait = {wait}\n\
             \tuser = root\n\tserver = /run/test/{server}\n\t{more}\n}}\n"
        )
    };
    service("datagrams", "dgram", "udpecho", 9901) + &service("streams", "stream", "acceptecho", 9902)
}

/// What a datagram from this address of ours is answered.
fn datagram_from(source: &str) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((source, 0)).expect("an address of lo");
    socket.set_read_timeout(Some(Duration::from_millis(400))).expect("a time");
    socket.send_to(b"let me in", "127.0.0.1:9901").expect("send");
    let mut buf = [0; 64];
    socket.recv(&mut buf).ok().map(|n| buf[..n].to_vec())
}

/// Whether a connection from this address comes about within a moment.
fn connects_from(source: Ipv4Addr) -> bool {
    let source = SocketAddr::from((source, 0));
    let fd = connect_from(source, "127.0.0.1:9902".parse().expect("an address"));
    fd.is_some_and(|mut stream: TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(400))).expect("a time");
        use std::io::Write;
        stream.write_all(b"?").is_ok() && stream.read(&mut [0; 8]).is_ok_and(|n| n > 0)
    })
}

/// std has no way to choose the source of a connection.
fn connect_from(source: SocketAddr, to: SocketAddr) -> Option<TcpStream> {
    use std::os::fd::FromRawFd;
    let address = |at: SocketAddr| {
        let SocketAddr::V4(at) = at else { panic!("IPv4 alone") };
        libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: at.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*at.ip()).to_be() },
            sin_zero: [0; 8],
        }
    };
    let size = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: plain calls on a socket of our own; the send timeout bounds connect.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let stream = TcpStream::from_raw_fd(fd);
        let patience = libc::timeval { tv_sec: 0, tv_usec: 400_000 };
        let patience_size = size_of::<libc::timeval>() as u32;
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const patience).cast(),
            patience_size,
        );
        let (from, to) = (address(source), address(to));
        let bound = libc::bind(fd, (&raw const from).cast(), size) == 0;
        (bound && libc::connect(fd, (&raw const to).cast(), size) == 0).then_some(stream)
    }
}

/// xinetd checks the first sender of a datagram alone, and refuses every client of a wait stream service or none; the
/// server then reads from anybody. Here the rules hold for the socket, whoever reads from it, and change at a reload.
#[test]
fn wait_servers_meet_only_whom_the_rules_admit() {
    in_net(|net| {
        let rules = "only_from = 127.0.0.0/30\n\tno_access = 127.0.0.2";
        let ports = ["udp/9901", "tcp/9902"];
        let daemon = Daemon::start(net, Subject::Usherd, Conf::Xinetd(&conf(rules, "yes"))).ready(&ports);
        // The server of the first datagram stays, and reads whatever comes after.
        assert_eq!(datagram_from("127.0.0.1").as_deref(), Some(b"let me in".as_slice()));
        assert_eq!(datagram_from("127.0.0.2"), None);
        assert_eq!(datagram_from("127.0.0.9"), None);
        assert!(connects_from(Ipv4Addr::new(127, 0, 0, 1)));
        assert!(!connects_from(Ipv4Addr::new(127, 0, 0, 2)));
        assert!(!connects_from(Ipv4Addr::new(127, 0, 0, 9)));

        net.write("conf", conf("only_from = 127.0.0.9", "yes"));
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("Reconfigured");
        assert_eq!(datagram_from("127.0.0.1"), None, "the running server is bound by the new rules");
        assert_eq!(datagram_from("127.0.0.9").as_deref(), Some(b"let me in".as_slice()));
        assert!(!connects_from(Ipv4Addr::LOCALHOST));
        assert!(connects_from(Ipv4Addr::new(127, 0, 0, 9)));
    });
}

/// A regression: the socket that a reload kept stayed non-blocking, and its wait server's first accept failed.
#[test]
fn a_kept_socket_becomes_a_wait_servers_and_back() {
    in_net(|net| {
        let nowait = conf("", "no").replace("acceptecho", "copies");
        net.script("copies", "#!/bin/sh\nexec cat\n");
        let daemon = Daemon::start(net, Subject::Usherd, Conf::Xinetd(&nowait)).ready(&["tcp/9902"]);
        assert!(connects_from(Ipv4Addr::LOCALHOST));
        net.write("conf", conf("", "yes"));
        daemon.signal(libc::SIGHUP);
        daemon.wait_log("Reconfigured");
        assert!(connects_from(Ipv4Addr::LOCALHOST), "{}", daemon.log());
        net.write("conf", nowait);
        daemon.signal(libc::SIGHUP);
        until("the second reload", || (daemon.log().matches("Reconfigured").count() == 2).then_some(()));
        assert!(connects_from(Ipv4Addr::LOCALHOST), "{}", daemon.log());
    });
}
