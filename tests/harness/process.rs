//! What a process holds and uses, as the kernel tells it.

use super::until;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// How many descriptors it holds.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count()
}

/// Its children, the dead included.
pub fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    list.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
}

/// How many descriptors and how many children: what must not grow.
pub fn holdings(pid: i32) -> (usize, usize) {
    (descriptors(pid), children(pid).len())
}

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
