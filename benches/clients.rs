//! Clients for `tools/figures` and `tools/performance`: `clients ADDRESS:PORT SECONDS KIND [CLIENTS [IDLE]]`. Prints how many a
//! second, how many, and how long one took in microseconds: the median. IDLE others have been echoed a byte on a connection
//! each, and say nothing meanwhile.
//!
//! | KIND | what each client does over and over | counted |
//! |---|---|---|
//! | `wait` | connects, waits for the end of the connection | connections |
//! | `talk` | connects, sends a byte, waits for one, resets the connection | connections |
//! | `trips` | on one connection: sends a byte, waits for one | bytes that came back |
//! | `bytes` | on one connection: sends as much as it can while it reads what comes back | bytes that came back |
//! | `datagrams` | sends a datagram, waits for one, for 0.2 s at most | datagrams that came back |
//! | `burst` | sends 1000 datagrams at once, waits until no more come back | the share that came back, in place of how many a second |

#[path = "../tests/harness/reset.rs"]
mod reset;

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use reset::reset;

/// So long may a service keep a client waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Datagrams of a burst.
const BURST: usize = 1000;
/// When nothing has come for so long, what has not been answered is lost.
const LOST: Duration = Duration::from_millis(200);

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn ask(address: SocketAddr, talks: bool) -> Result<()> {
    let mut stream = connect(address)?;
    let mut answer = [0; 8];
    if talks {
        stream.write_all(b"x")?;
    }
    let n = stream.read(&mut answer)?;
    if n == 0 {
        return Err(Error::other("refused"));
    }
    if !talks {
        while stream.read(&mut answer)? > 0 {}
    }
    reset(stream);
    Ok(())
}

/// Sends until `until`, then waits for the rest; how much came back, which is all.
fn pour(stream: &TcpStream, until: Instant) -> Result<u64> {
    let sender = stream.try_clone()?;
    let sent = thread::spawn(move || {
        let (chunk, mut sent) = ([b'x'; 65536], 0);
        while Instant::now() < until {
            sent += (&sender).write(&chunk)? as u64;
        }
        sender.shutdown(Shutdown::Write)?;
        Ok::<u64, Error>(sent)
    });
    let (mut chunk, mut count) = ([0; 65536], 0);
    loop {
        match (&*stream).read(&mut chunk)? {
            0 => break,
            n => count += n as u64,
        }
    }
    let sent = sent.join().expect("a sender")?;
    assert_eq!(count, sent, "bytes that came back");
    Ok(count)
}

/// A socket for datagrams from and to one service, with room for all answers to a burst.
fn datagrams(address: SocketAddr, patience: Duration) -> Result<UdpSocket> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(patience))?;
    let bytes: libc::c_int = 8 << 20;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the number lives until the call returns.
    let rc = unsafe {
        let option = (&raw const bytes).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, option, size)
    };
    assert_eq!(rc, 0, "SO_RCVBUFFORCE needs root");
    Ok(socket)
}

/// How many of so many datagrams that are sent at once are answered.
fn answered(socket: &UdpSocket, datagrams: usize) -> Result<u64> {
    let mut count = 0;
    for _ in 0..datagrams {
        socket.send(b"x")?;
    }
    while count < datagrams as u64 {
        match socket.recv(&mut [0; 8]) {
            Ok(_) => count += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// What one client did.
#[derive(Default)]
struct Done {
    count: u64,
    /// Bursts, or times for each that is counted.
    times: Vec<Duration>,
    took: Duration,
}

/// Does `once` for so long; it says how much it did.
fn repeat(length: Duration, mut once: impl FnMut(Instant) -> Result<u64>) -> Result<Done> {
    let mut done = Done::default();
    let began = Instant::now();
    while done.took < length {
        let before = done.took;
        done.count += once(began)?;
        done.took = began.elapsed();
        done.times.push(done.took - before);
    }
    Ok(done)
}

fn run(kind: &str, address: SocketAddr, length: Duration, start: &Barrier) -> Result<Done> {
    match kind {
        "wait" | "talk" => {
            start.wait();
            repeat(length, |_| ask(address, kind == "talk").map(|()| 1))
        }
        "trips" | "bytes" => {
            let mut stream = connect(address)?;
            start.wait();
            let done = if kind == "bytes" {
                repeat(length, |began| pour(&stream, began + length))
            } else {
                repeat(length, |_| {
                    stream.write_all(b"x")?;
                    stream.read_exact(&mut [0]).map(|()| 1)
                })
            };
            reset(stream);
            done
        }
        "datagrams" => {
            let socket = datagrams(address, LOST)?;
            start.wait();
            repeat(length, |_| answered(&socket, 1))
        }
        "burst" => {
            let socket = datagrams(address, LOST)?;
            start.wait();
            repeat(length, |_| answered(&socket, BURST))
        }
        _ => panic!("KIND is wait, talk, trips, bytes, datagrams or burst"),
    }
}

/// Without the others, who may wait for this client to begin.
fn unserved(error: &Error) -> ! {
    eprintln!("not served: {error}");
    std::process::exit(1)
}

fn main() {
    // `cargo test` and `cargo bench` start it with words of their own, or with none.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let [address, seconds, kind, rest @ ..] = words.as_slice() else { return };
    let address: SocketAddr = address.parse().expect("ADDRESS:PORT");
    let length = Duration::from_secs_f64(seconds.parse().expect("SECONDS"));
    let number = |at: usize, or: usize| rest.get(at).map_or(or, |word| word.parse().expect("a number"));
    let (clients, idle) = (number(0, 1), number(1, 0));
    let idle: Vec<TcpStream> = (0..idle)
        .map(|_| {
            let echoed = || {
                let mut stream = connect(address)?;
                stream.write_all(b"x")?;
                stream.read_exact(&mut [0])?;
                Ok(stream)
            };
            echoed().unwrap_or_else(|error| unserved(&error))
        })
        .collect();
    let start = Barrier::new(clients);
    let all: Vec<Done> = thread::scope(|scope| {
        let one = || run(kind, address, length, &start).unwrap_or_else(|error| unserved(&error));
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    idle.into_iter().for_each(reset);
    let count: u64 = all.iter().map(|one| one.count).sum();
    let rate: f64 = all.iter().map(|one| one.count as f64 / one.took.as_secs_f64()).sum();
    let mut times: Vec<Duration> = all.into_iter().flat_map(|one| one.times).collect();
    times.sort_unstable();
    let median = times[times.len() / 2].as_nanos() as f64 / 1000.0;
    if kind == "burst" {
        println!("{:.4} {count} {median:.1}", count as f64 / (times.len() * BURST) as f64);
    } else {
        println!("{rate:.0} {count} {median:.1}");
    }
}
