//! Clients for `tools/figures checks`: `clients PORT SECONDS [WORDS]`.
//!
//! Two of them connect one after the other as fast as they are served: send a byte, wait for one, close; or, without
//! WORDS, wait for the end of the connection. Prints how many a second were served.

#[path = "../tests/harness/reset.rs"]
mod reset;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use reset::reset;

const CLIENTS: u32 = 2;

fn ask(port: u16, talks: bool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
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

fn main() {
    // `cargo test` and `cargo bench` start it with words of their own, or with none.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let [port, seconds, rest @ ..] = words.as_slice() else { return };
    let port: u16 = port.parse().expect("PORT");
    let length = Duration::from_secs_f64(seconds.parse().expect("SECONDS"));
    let talks = !rest.is_empty();
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                let mut count = 0u32;
                while began.elapsed() < length {
                    ask(port, talks).expect("service");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u32 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    println!("{:.0}", f64::from(count) / began.elapsed().as_secs_f64());
}
