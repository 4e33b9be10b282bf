//! The harness of the black-box tests: a network of its own per test, the daemon under test (ours or one of the
//! older programs), and a service program that tells how it was started.
//!
//! Every test body runs inside [`in_net`]. A test names the [`Subject`]s it runs against; what the older programs
//! do is expected of them as strictly as of ours, so a test that passes is known to test something.
#![allow(dead_code, unused_imports)] // every test file is a program of its own and uses its part of this

pub mod client;
pub mod conf;
pub mod corpus;
pub mod daemon;
pub mod ethernet;
pub mod frames;
pub mod net;
pub mod probe;
pub mod process;
pub mod random;
pub mod reset;
pub mod transcript;
pub mod world;

pub use client::*;
pub use conf::*;
pub use corpus::corpus;
pub use daemon::{Conf, Daemon, Launch, Subject, is_open, usherd};
pub use net::{Net, dhcp_server, in_net, ip};
pub use process::*;
pub use random::*;
pub use reset::reset;
pub use transcript::{Difference, compare, expect};
pub use world::{IdentServer, NameServer};

use std::time::{Duration, Instant};

/// How long anything that must happen may take. Generous, because it is only ever waited for in full by a
/// test that fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Who understands xinetd.conf.
pub fn xinetd_family() -> Vec<Subject> {
    vec![Subject::Xinetd, Subject::Usherd]
}

/// Who understands inetd.conf.
pub fn inetd_family() -> Vec<Subject> {
    vec![Subject::OpenbsdInetd, Subject::InetutilsInetd, Subject::Usherd]
}

/// Asks again and again until there is an answer: never a sleep for luck, always a deadline.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
