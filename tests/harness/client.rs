//! Clients. They run on the test's own thread, which lives in the test's network.

use super::net::{A_WHILE, drain};
use super::{PATIENCE, until};
use std::io::{ErrorKind, Read, Write};
use std::mem::size_of;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

fn parse(address: &str) -> SocketAddr {
    address.parse().unwrap_or_else(|e| panic!("{address}: {e}"))
}

/// A connection that cannot block a test for ever.
pub fn tcp(to: &str) -> TcpStream {
    let stream = TcpStream::connect_timeout(&parse(to), PATIENCE);
    let stream = stream.unwrap_or_else(|e| panic!("connect to {to}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("time-out");
    stream
}

/// Whether a connection is refused.
pub fn refused(to: &str) -> bool {
    let error = TcpStream::connect_timeout(&parse(to), PATIENCE).err();
    error.is_some_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

/// Everything a server says to a client that says nothing.
pub fn listen_to(to: &str) -> String {
    let mut stream = tcp(to);
    text(&read_to_end(&mut stream))
}

/// Sends, ends its own direction, and reads all that comes back.
pub fn ask_tcp(to: &str, question: &[u8]) -> Vec<u8> {
    let mut stream = tcp(to);
    stream.write_all(question).expect("send");
    stream.shutdown(Shutdown::Write).expect("shut down");
    read_to_end(&mut stream)
}

/// Reads to the end; a server that does not close is a failure.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = vec![];
    stream.read_to_end(&mut all).unwrap_or_else(|e| panic!("after {:?}: {e}", text(&all)));
    all
}

/// Reads exactly so many bytes.
pub fn read_n(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut all = vec![0; n];
    stream.read_exact(&mut all).unwrap_or_else(|e| panic!("read {n} bytes: {e}"));
    all
}

/// What became of a connection: what it was sent before it ended.
pub fn fate(mut stream: TcpStream) -> String {
    let mut all = vec![];
    match stream.read_to_end(&mut all) {
        Ok(_) => format!("{:?} end", text(&all)),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => format!("{:?} reset", text(&all)),
        Err(e) if e.kind() == ErrorKind::WouldBlock => format!("{:?} open", text(&all)),
        Err(e) => panic!("{e}"),
    }
}

/// A datagram client bound to `from` (port 0: any) and connected to `to`.
pub fn udp(from: &str, to: &str) -> UdpSocket {
    let socket = UdpSocket::bind(from).unwrap_or_else(|e| panic!("bind {from}: {e}"));
    socket.connect(to).unwrap_or_else(|e| panic!("connect to {to}: {e}"));
    socket.set_read_timeout(Some(PATIENCE)).expect("time-out");
    socket
}

fn any_port(to: &str) -> &'static str {
    if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }
}

/// One question, one answer.
pub fn ask_udp(to: &str, question: &[u8]) -> Vec<u8> {
    let socket = udp(any_port(to), to);
    socket.send(question).expect("send");
    answer(&socket).unwrap_or_else(|| panic!("no answer from udp {to}"))
}

/// The next answer, if one comes in time.
pub fn answer(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 65536];
    socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec())
}

/// Whether a question stays without an answer for a while.
pub fn silent(socket: &UdpSocket, question: &[u8]) -> bool {
    socket.set_read_timeout(Some(A_WHILE)).expect("time-out");
    socket.send(question).is_ok() && answer(socket).is_none()
}

/// Whatever comes within the stream's time-out.
pub fn listen_a_while(stream: &TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(A_WHILE)).expect("time-out");
    drain(stream)
}

/// Sends and gets the same back, on a connection that stays open.
pub fn round_trip(stream: &mut TcpStream, question: &[u8]) {
    stream.write_all(question).expect("send");
    let back = read_n(stream, question.len());
    assert_eq!(text(&back), text(question));
}

/// Nobody is let in there any more. Closing alone would do later: a process that another test has forked and that has not come to
/// its own program yet has a copy, and who connected meanwhile was reset.
pub fn leave(listener: TcpListener) {
    // SAFETY: of a socket that lives until the call returns.
    let status = unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

/// Connects as soon as the service takes connections again.
pub fn tcp_eventually(to: &str) -> TcpStream {
    until(&format!("connect to {to}"), || TcpStream::connect(parse(to)).ok());
    tcp(to)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The kernel's form of an address, and its length.
fn raw(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros is an address of no family; the greater type has room and alignment for the others.
    unsafe {
        let mut out: libc::sockaddr_storage = std::mem::zeroed();
        let len = match address {
            SocketAddr::V4(a) => {
                let to = &mut *(&raw mut out).cast::<libc::sockaddr_in>();
                to.sin_family = libc::AF_INET as libc::sa_family_t;
                to.sin_port = a.port().to_be();
                to.sin_addr.s_addr = u32::from(*a.ip()).to_be();
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(a) => {
                let to = &mut *(&raw mut out).cast::<libc::sockaddr_in6>();
                to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                to.sin6_port = a.port().to_be();
                to.sin6_addr.s6_addr = a.ip().octets();
                size_of::<libc::sockaddr_in6>()
            }
        };
        (out, len as libc::socklen_t)
    }
}

/// A connection from one of our own addresses, which std cannot choose; neither this nor its reading and writing takes
/// longer than `patience`.
pub fn connect_from(from: SocketAddr, to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    use std::os::fd::FromRawFd;
    let family = if from.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers; the descriptor gets one owner.
    let stream = unsafe {
        match libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) {
            -1 => return Err(std::io::Error::last_os_error()),
            fd => TcpStream::from_raw_fd(fd),
        }
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let fd = stream.as_raw_fd();
    let ((near, near_len), (far, far_len)) = (raw(from), raw(to));
    let one: libc::c_int = 1;
    // SAFETY: the option and the addresses live until the calls return.
    unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, (&raw const one).cast(), 4);
        // The port is chosen when both ends are known: one address has enough of them for a flood then.
        libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const one).cast(), 4);
        if libc::bind(fd, (&raw const near).cast(), near_len) != 0
            || libc::connect(fd, (&raw const far).cast(), far_len) != 0
        {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(stream)
}

/// A connection from `127.0.0.2:0`, `[fd00::5]:0`.
pub fn tcp_from(from: &str, to: &str) -> TcpStream {
    connect_from(parse(from), parse(to), PATIENCE).unwrap_or_else(|e| panic!("{from} to {to}: {e}"))
}

/// Clients of many addresses, of both families; the last is given to lo by [`Net::add_address`].
pub const CLIENTS: [&str; 7] =
    ["127.0.0.1", "127.0.0.2", "127.0.1.5", "127.0.2.9", "127.9.0.1", "::1", "fd00::5"];

/// What a client of that address gets at that port.
pub fn fate_of(client: &str, port: u16) -> String {
    let stream = match client.contains(':') {
        true => tcp_from(&format!("[{client}]:0"), &format!("[::1]:{port}")),
        false => tcp_from(&format!("{client}:0"), &format!("127.0.0.1:{port}")),
    };
    fate(stream)
}
