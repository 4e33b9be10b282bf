//! What `tools/figures tap` compares `usherd -tap` with, in one program:
//!
//! - `bare NAME ADDRESS/BITS PORT SOCKETS BYTES`: echo on smoltcp as its example `server.rs` does it;
//! - `mirror NAME`: brings the kernel's own TCP behind the TAP device.

mod bare;
mod mirror;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{word} is no number"));
    match words.as_slice() {
        ["bare", name, address, port, sockets, bytes] => {
            let port = port.parse().expect("PORT");
            bare::serve(name, address.parse().expect("ADDRESS/BITS"), port, number(sockets), number(bytes));
        }
        ["mirror", name] => mirror::serve(name).expect("a TAP device"),
        _ => panic!("usage: bare NAME ADDRESS/BITS PORT SOCKETS BYTES | mirror NAME"),
    }
}
