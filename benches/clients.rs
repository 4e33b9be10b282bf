//! Clients for `tools/figures`: `clients ADDRESS:PORT SECONDS KIND [CLIENTS]`. Prints how many a second, and how many.
//!
//! | KIND | what each client does over and over | counted |
//! |---|---|---|
//! | `wait` | connects, waits for the end of the connection | connections |
//! | `talk` | connects, sends a byte, waits for one, resets the connection | connections |
//! | `trips` | on one connection: sends a byte, waits for one | bytes that came back |
//! | `bytes` | on one connection: sends as much as it can while it reads what comes back | bytes that came back |

#[path = "../tests/harness/reset.rs"]
mod reset;

use std::io::{Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use reset::reset;

/// So long may a service keep a client waiting.
const PATIENCE: Duration = Duration::from_secs(10);

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
        return Err(std::io::Error::other("refused"));
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
        Ok::<u64, std::io::Error>(sent)
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

fn main() {
    // `cargo test` and `cargo bench` start it with words of their own, or with none.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let [address, seconds, kind, rest @ ..] = words.as_slice() else { return };
    let address: SocketAddr = address.parse().expect("ADDRESS:PORT");
    let length = Duration::from_secs_f64(seconds.parse().expect("SECONDS"));
    let clients: usize = rest.first().map_or(1, |word| word.parse().expect("CLIENTS"));
    let start = Barrier::new(clients);
    let run = || {
        let stays = match kind.as_str() {
            "wait" | "talk" => None,
            "trips" | "bytes" => Some(connect(address).expect("a connection")),
            _ => panic!("KIND is wait, talk, trips or bytes"),
        };
        start.wait();
        let began = Instant::now();
        let mut count = 0;
        match &stays {
            None => {
                while began.elapsed() < length {
                    ask(address, kind == "talk").expect("service");
                    count += 1;
                }
            }
            Some(stream) if kind == "bytes" => count = pour(stream, began + length).expect("echo"),
            Some(stream) => {
                let mut stream: &TcpStream = stream;
                while began.elapsed() < length {
                    stream.write_all(b"x").expect("service");
                    stream.read_exact(&mut [0]).expect("echo");
                    count += 1;
                }
            }
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        stays.into_iter().for_each(reset);
        (rate, count)
    };
    let (rate, count) = thread::scope(|scope| {
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(run)).collect();
        let all = all.into_iter().map(|client| client.join().expect("a client"));
        all.fold((0.0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    println!("{rate:.0} {count}");
}
