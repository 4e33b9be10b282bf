//! The daemon.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod entry;

use rustix::io::write;

fn main(start: entry::Start) -> i32 {
    let mut code = 0;
    for arg in start.args().skip(1) {
        match arg.to_bytes() {
            b"-version" => {
                let _ =
                    write(entry::stdout(), concat!("usherd ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
            }
            _ => {
                let _ = write(entry::stderr(), b"usherd: unknown option\n");
                code = 2;
            }
        }
    }
    code
}
