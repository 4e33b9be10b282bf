//! Service programs for the tests, hidden in the test program itself.
//!
//! The harness mounts the running test program under the names below; executed by one of those names it is the
//! service program instead, and is done before the runtime of a normal program has begun. So there is nothing
//! else to build or install, and what it reports is what the daemon handed over: an interpreter or Rust's own
//! start would already have changed signals and descriptors.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int};
use std::fmt::Write as _;
use std::fs;
use std::mem::{size_of, zeroed};

/// Runs before `main` and before anything of the runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    // The path given to execve, which unlike argv[0] the daemon's configuration cannot change.
    // SAFETY: the kernel sets it to a string on the initial stack.
    let path = unsafe { CStr::from_ptr(libc::getauxval(libc::AT_EXECFN) as *const _) };
    let Ok(path) = path.to_str() else { return };
    match path.rsplit('/').next() {
        Some("probe") => probe(),
        Some("udpecho") => udp_echo(500, usize::MAX),
        Some("udponce") => udp_echo(5000, 1),
        Some("acceptecho") => accept_echo(),
        Some("sessionecho") => copy(0, 1),
        // A server for `wait` that would stay for ever.
        Some("udpstays") => udp_echo(-1, usize::MAX),
        Some("attacker") => attack(),
        _ => return,
    }
    // SAFETY: nothing is left to be flushed.
    unsafe { libc::_exit(0) }
}

/// Tells the client everything about the process it got: one fact per line, first word the subject.
fn probe() {
    // First, before this function opens anything itself.
    let descriptors = descriptors();
    let mut out = String::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
    let strings = |file| -> Vec<String> {
        let all = fs::read(file).unwrap_or_default();
        let all = all.strip_suffix(&[0]).unwrap_or(&all);
        if all.is_empty() { vec![] } else { all.split(|b| *b == 0).map(text).collect() }
    };
    for (n, arg) in strings("/proc/self/cmdline").iter().enumerate() {
        let _ = writeln!(out, "argv {n} {arg}");
    }
    let mut environment = strings("/proc/self/environ");
    environment.sort();
    for entry in environment {
        let _ = writeln!(out, "env {entry}");
    }
    identity(&mut out);
    limits(&mut out);
    // Only for who compares them: the number is another each time.
    if out.contains("env LISTEN_PID=") {
        let _ = writeln!(out, "pid {}", std::process::id());
    }
    let cwd = fs::read_link("/proc/self/cwd").map_or("?".into(), |p| p.display().to_string());
    let _ = writeln!(out, "cwd {cwd}");
    for line in descriptors {
        let _ = writeln!(out, "fd {line}");
    }
    let kind = option(0, libc::SOL_SOCKET, libc::SO_TYPE);
    let listening = option(0, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Some(1);
    socket(&mut out, kind, listening);
    signals(&mut out);
    out.push_str("end\n");

    let bytes = out.as_bytes();
    // SAFETY: the buffers are valid for the lengths given.
    unsafe {
        if kind == Some(libc::SOCK_DGRAM) {
            let mut packet = [0u8; 64];
            if let Some((_, peer, len)) = receive(&mut packet, 5000) {
                libc::sendto(0, bytes.as_ptr().cast(), bytes.len(), 0, (&raw const peer).cast(), len);
            }
            return;
        }
        let fd = if listening { libc::accept(0, std::ptr::null_mut(), std::ptr::null_mut()) } else { 1 };
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = libc::write(fd, rest.as_ptr().cast(), rest.len());
            if n <= 0 {
                return;
            }
            rest = &rest[n as usize..];
        }
    }
}

fn identity(out: &mut String) {
    // SAFETY: plain system calls on valid buffers.
    unsafe {
        let (mut r, mut e, mut s) = (0, 0, 0);
        libc::getresuid(&mut r, &mut e, &mut s);
        let _ = writeln!(out, "uid {r} {e} {s}");
        libc::getresgid(&mut r, &mut e, &mut s);
        let _ = writeln!(out, "gid {r} {e} {s}");
        let mut groups = [0; 64];
        let n = libc::getgroups(64, groups.as_mut_ptr()).max(0) as usize;
        groups[..n].sort_unstable();
        let _ = writeln!(out, "groups {:?}", &groups[..n]);
        let _ = writeln!(out, "umask {:03o}", libc::umask(0));
        let _ = writeln!(out, "nice {}", libc::getpriority(libc::PRIO_PROCESS, 0));
        let pid = libc::getpid();
        let _ = writeln!(out, "session {}", if libc::getsid(0) == pid { "leader" } else { "inherited" });
        let _ = writeln!(out, "pgrp {}", if libc::getpgrp() == pid { "leader" } else { "inherited" });
        let tty = libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
        let _ = writeln!(out, "tty {}", if tty < 0 { "none" } else { "some" });
        if tty >= 0 {
            libc::close(tty);
        }
    }
}

fn limits(out: &mut String) {
    let all = [
        ("as", libc::RLIMIT_AS),
        ("core", libc::RLIMIT_CORE),
        ("cpu", libc::RLIMIT_CPU),
        ("data", libc::RLIMIT_DATA),
        ("fsize", libc::RLIMIT_FSIZE),
        ("locks", libc::RLIMIT_LOCKS),
        ("memlock", libc::RLIMIT_MEMLOCK),
        ("msgqueue", libc::RLIMIT_MSGQUEUE),
        ("nice", libc::RLIMIT_NICE),
        ("nofile", libc::RLIMIT_NOFILE),
        ("nproc", libc::RLIMIT_NPROC),
        ("rss", libc::RLIMIT_RSS),
        ("rtprio", libc::RLIMIT_RTPRIO),
        ("rttime", libc::RLIMIT_RTTIME),
        ("sigpending", libc::RLIMIT_SIGPENDING),
        ("stack", libc::RLIMIT_STACK),
    ];
    for (name, resource) in all {
        // SAFETY: a valid buffer.
        let limit = unsafe {
            let mut limit: libc::rlimit = zeroed();
            libc::getrlimit(resource, &mut limit);
            limit
        };
        let show = |v: libc::rlim_t| {
            if v == libc::RLIM_INFINITY { "unlimited".into() } else { v.to_string() }
        };
        let _ = writeln!(out, "rlimit {name} {} {}", show(limit.rlim_cur), show(limit.rlim_max));
    }
}

fn descriptors() -> Vec<String> {
    let mut numbers: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let mut first = BTreeMap::new();
    let mut lines = vec![];
    for fd in numbers {
        // The directory's own descriptor is gone by now.
        let Ok(target) = fs::read_link(format!("/proc/self/fd/{fd}")) else {
            continue;
        };
        let target = target.display().to_string();
        let kind = target.split(":[").next().unwrap_or_default().to_owned();
        match first.get(&target) {
            Some(earlier) => lines.push(format!("{fd} same as {earlier}")),
            None => lines.push(format!("{fd} {kind}")),
        }
        first.entry(target).or_insert(fd);
    }
    lines
}

fn option(fd: c_int, level: c_int, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: value and len describe each other.
    let rc = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut len) };
    (rc == 0).then_some(value)
}

fn socket(out: &mut String, kind: Option<c_int>, listening: bool) {
    let domain = match option(0, libc::SOL_SOCKET, libc::SO_DOMAIN) {
        Some(libc::AF_INET) => "inet",
        Some(libc::AF_INET6) => "inet6",
        Some(libc::AF_UNIX) => "unix",
        Some(_) => "other",
        None => "none",
    };
    let kind_name = match kind {
        Some(libc::SOCK_STREAM) => "stream",
        Some(libc::SOCK_DGRAM) => "dgram",
        Some(_) => "other",
        None => "none",
    };
    let _ = writeln!(out, "socket {domain} {kind_name} {}", if listening { "listening" } else { "plain" });
    let number = |v: Option<c_int>| v.map_or("-".into(), |v| v.to_string());
    if domain == "inet6" {
        let _ = writeln!(out, "v6only {}", number(option(0, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)));
    }
    if kind == Some(libc::SOCK_STREAM) {
        let (receive, send) = (
            number(option(0, libc::SOL_SOCKET, libc::SO_RCVBUF)),
            number(option(0, libc::SOL_SOCKET, libc::SO_SNDBUF)),
        );
        if listening {
            let _ = writeln!(out, "buffers {receive} {send}");
        }
        let _ = writeln!(out, "nodelay {}", number(option(0, libc::IPPROTO_TCP, libc::TCP_NODELAY)));
    }
    if kind == Some(libc::SOCK_DGRAM) {
        let _ = writeln!(out, "timestamps {}", number(option(0, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)));
    }
    let _ = writeln!(out, "keepalive {}", number(option(0, libc::SOL_SOCKET, libc::SO_KEEPALIVE)));
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(0, libc::F_GETFL) };
    let _ = writeln!(out, "blocking {}", flags & libc::O_NONBLOCK == 0);
}

fn signals(out: &mut String) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let wanted = [
        ("SigBlk", "blocked"),
        ("SigIgn", "ignored"),
        ("SigCgt", "caught"),
        ("CapEff", "capabilities"),
        ("NoNewPrivs", "no_new_privs"),
        ("Seccomp", "seccomp"),
    ];
    for line in status.lines() {
        if let Some((key, value)) = line.split_once(':')
            && let Some((_, name)) = wanted.iter().find(|w| w.0 == key)
        {
            let _ = writeln!(out, "{name} {}", value.trim());
        }
    }
}

/// One datagram from descriptor 0, if one comes within the time.
fn receive(
    buffer: &mut [u8],
    milliseconds: c_int,
) -> Option<(usize, libc::sockaddr_storage, libc::socklen_t)> {
    // SAFETY: the buffers are valid for the lengths given.
    unsafe {
        let mut poll = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
        if libc::poll(&mut poll, 1, milliseconds) != 1 {
            return None;
        }
        let mut peer: libc::sockaddr_storage = zeroed();
        let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let n = libc::recvfrom(
            0,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut peer).cast(),
            &mut len,
        );
        (n >= 0).then_some((n as usize, peer, len))
    }
}

/// A server for `wait` on a datagram socket: answers until nobody asks any more.
fn udp_echo(idle: c_int, most: usize) {
    let mut buffer = vec![0; 65536];
    for _ in 0..most {
        let Some((n, peer, len)) = receive(&mut buffer, idle) else {
            return;
        };
        // SAFETY: the buffers are valid for the lengths given.
        unsafe { libc::sendto(0, buffer.as_ptr().cast(), n, 0, (&raw const peer).cast(), len) };
    }
}

/// A server for `wait` on a listening socket: one connection, then it ends and the daemon listens again.
fn accept_echo() {
    // SAFETY: no pointers.
    let fd = unsafe { libc::accept(0, std::ptr::null_mut(), std::ptr::null_mut()) };
    copy(fd, fd);
}

/// Says what it hears, to the end.
fn copy(from: c_int, to: c_int) {
    let mut buffer = [0u8; 4096];
    // SAFETY: the buffer is valid for the lengths given.
    unsafe {
        loop {
            let n = libc::read(from, buffer.as_mut_ptr().cast(), buffer.len());
            if n <= 0 || libc::write(to, buffer.as_ptr().cast(), n as usize) != n {
                return;
            }
        }
    }
}

/// Does to the children of a daemon whatever their user may do, until it is killed. Its arguments: the daemon's
/// number, and the daemon's program, which no child may be caught running: between the change of user and exec it
/// is still the daemon's code, perhaps in the daemon's memory, and must be closed to that user.
fn attack() {
    let arguments = fs::read("/proc/self/cmdline").unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    let mut arguments = arguments.split('\0').skip(1);
    let daemon = arguments.next().unwrap_or_default();
    let program = arguments.next().unwrap_or_default();
    let list = format!("/proc/{daemon}/task/{daemon}/children");
    println!("begins");
    let mut hit = [false; 4];
    for round in 0usize.. {
        let children = fs::read_to_string(&list).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|p| p.parse::<i32>().ok()) {
            if let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe"))
                && exe.to_str() == Some(program)
            {
                println!("hole");
            }
            // SAFETY: no memory of ours is involved.
            let rc = unsafe {
                match round % 4 {
                    0 => libc::kill(pid, libc::SIGSTOP),
                    1 => libc::kill(pid, libc::SIGCONT),
                    2 => libc::kill(pid, libc::SIGKILL),
                    _ => libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) as c_int,
                }
            };
            if rc == 0 && !hit[round % 4] {
                hit[round % 4] = true;
                println!("{} worked", ["stop", "continue", "kill", "trace"][round % 4]);
            }
        }
    }
}
