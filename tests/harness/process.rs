//! What a process holds and uses, as the kernel tells it.

use super::until;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// Processor time used so far.
fn used(pid: i32) -> Duration {
    let times = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("schedstat");
    let on_processor = times.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(on_processor.expect("a number"))
}

/// Whoever has nothing to do does nothing: once a process has come to rest, it uses the processor for less than a tenth
/// of half a second.
pub fn is_idle(pid: i32) {
    until("rest", || {
        let before = used(pid);
        sleep(Duration::from_millis(20));
        (used(pid) == before).then_some(())
    });
    let before = used(pid);
    sleep(Duration::from_millis(500));
    let spent = used(pid) - before;
    assert!(spent < Duration::from_millis(50), "{spent:?} of the processor for nothing");
}
