//! What a process holds and uses, as the kernel tells it.

use super::until;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use usherd::capacity::{CACHED_DIRS, CACHED_FILES};

/// How many descriptors it holds, but for those through which the daemon looks at hosts.allow, hosts.deny and their like: it
/// has them from its first client on, and they are few.
pub fn descriptors(pid: i32) -> usize {
    let flags = |name: &OsStr| {
        let info = fs::read_to_string(Path::new(&format!("/proc/{pid}/fdinfo")).join(name)).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        i32::from_str_radix(flags.trim(), 8).ok()
    };
    let all = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten();
    let is_path =
        |file: &fs::DirEntry| flags(&file.file_name()).is_some_and(|flags| flags & libc::O_PATH != 0);
    let (paths, others): (Vec<_>, Vec<_>) = all.partition(is_path);
    assert!(paths.len() <= CACHED_FILES + CACHED_DIRS, "{} files and directories are looked at", paths.len());
    others.len()
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
