//! The raw system calls that rustix does not offer. All of the backend's `unsafe` is here and in [`spawn`](super::spawn).
//!
//! Each function is short, takes and returns safe types, and says why its call is sound. Numbers and layouts are the
//! kernel's asm-generic ones (linux-raw-sys); the four architectures usherd runs on share them where they are used.
#![allow(unsafe_code)]

use core::net::IpAddr;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use syscalls::{Sysno, syscall};

use crate::backend::End;
use crate::errno::Errno;

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Errno {
        Errno(errno.raw_os_error() as u16)
    }
}

impl From<syscalls::Errno> for Errno {
    fn from(errno: syscalls::Errno) -> Errno {
        Errno(errno.into_raw() as u16)
    }
}

/// A set of signals as the kernel has it: bit `n - 1` is signal `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    pub const fn of(signals: &[u32]) -> SignalSet {
        let mut bits = 0;
        let mut at = 0;
        while at < signals.len() {
            bits |= 1 << (signals[at] - 1);
            at += 1;
        }
        SignalSet(bits)
    }
}

/// Bytes of the kernel's signal set, which every call on one wants to hear.
const SET_BYTES: usize = size_of::<SignalSet>();

/// Replaces the signal mask and returns the old one (sigprocmask(2), SIG_SETMASK).
pub fn set_signal_mask(set: SignalSet) -> SignalSet {
    const SIG_SETMASK: usize = 2;
    let mut old = SignalSet::default();
    // SAFETY: both pointers are to live sets of the size given. The call cannot fail with these arguments.
    let _ = unsafe { syscall!(Sysno::rt_sigprocmask, SIG_SETMASK, &raw const set, &raw mut old, SET_BYTES) };
    old
}

/// Gives every signal its default action, so that servers inherit no ignored one (signal(7): exec keeps ignored
/// signals ignored; inetutils' inetd leaks SIGPIPE that way).
pub fn reset_signal_actions() {
    // An all-zero struct sigaction means SIG_DFL, no flags, empty mask, on every architecture; 64 bytes are more than
    // any of them has.
    let default = [0u64; 8];
    for signal in 1..=64usize {
        // SAFETY: the kernel only reads the struct. SIGKILL and SIGSTOP answer EINVAL, which is as good.
        let _ = unsafe { syscall!(Sysno::rt_sigaction, signal, default.as_ptr(), 0, SET_BYTES) };
    }
}

/// Makes a descriptor from which the signals of `set` are read (signalfd(2)), non-blocking and close-on-exec.
pub fn signal_fd(set: SignalSet) -> Result<OwnedFd, Errno> {
    const SFD_NONBLOCK_CLOEXEC: usize = 0o4000 | 0o2_000_000;
    // SAFETY: the set is live and has the size given; the result is a new descriptor that nothing else owns.
    unsafe {
        let fd = syscall!(Sysno::signalfd4, -1isize, &raw const set, SET_BYTES, SFD_NONBLOCK_CLOEXEC)?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// The next signal's number, or `None` when no more wait.
pub fn next_signal(fd: BorrowedFd<'_>) -> Option<u32> {
    // struct signalfd_siginfo is 128 bytes and begins with ssi_signo.
    let mut info = [0u8; 128];
    match rustix::io::read(fd, &mut info) {
        Ok(128) => info.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)),
        _ => None,
    }
}

/// fork(2). In the child, which has a copy of everything, returns 0.
///
/// # Safety
/// The process must have one thread.
pub unsafe fn fork() -> Result<u32, Errno> {
    const SIGCHLD: usize = 17;
    // SAFETY: without CLONE_VM and without a stack the child goes on with copies of ours.
    let pid = unsafe { syscall!(Sysno::clone, SIGCHLD, 0, 0, 0, 0)? };
    Ok(pid as u32)
}

/// Marks every descriptor from `first` on but `spared` as not ours: closes them all. close_range(2) is from Linux 5.9; before that
/// /proc/self/fd tells which are open. Never a loop over all numbers there could be: that took xinetd minutes.
pub fn close_from(first: RawFd, spared: Option<BorrowedFd<'_>>) {
    let spared = spared.map(|fd| fd.as_raw_fd()).filter(|fd| *fd >= first);
    let behind = spared.map_or(first, |fd| fd + 1);
    let before = spared.filter(|fd| *fd > first).map(|fd| (first, (fd - 1) as u32));
    // SAFETY: nothing else of ours is open from there on; callers run before they have opened anything.
    let close = |(from, to): (RawFd, u32)| unsafe { syscall!(Sysno::close_range, from, to, 0) }.is_ok();
    if before.is_none_or(close) && close((behind, u32::MAX)) {
        return;
    }
    let Ok(dir) = rustix::fs::open("/proc/self/fd", READ_DIR, rustix::fs::Mode::empty()) else { return };
    let own = dir.as_raw_fd();
    let mut buf = [core::mem::MaybeUninit::uninit(); 2048];
    // Closing while reading may skip entries, so go on until a pass closes nothing; each pass closes something.
    loop {
        let mut closed = false;
        let _ = rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(0));
        let mut entries = rustix::fs::RawDir::new(&dir, &mut buf);
        while let Some(Ok(entry)) = entries.next() {
            let number = core::str::from_utf8(entry.file_name().to_bytes()).ok();
            let Some(fd) = number.and_then(|text| text.parse::<RawFd>().ok()) else { continue };
            if fd >= first && fd != own && Some(fd) != spared {
                // SAFETY: as above.
                closed |= unsafe { syscall!(Sysno::close, fd) }.is_ok();
            }
        }
        if !closed {
            return;
        }
    }
}

const READ_DIR: rustix::fs::OFlags =
    rustix::fs::OFlags::DIRECTORY.union(rustix::fs::OFlags::RDONLY).union(rustix::fs::OFlags::CLOEXEC);

/// Takes over a descriptor that was open when the program started (LISTEN_FDS).
pub fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: only asks whether the number is open; then it becomes ours. Callers adopt each number once, at start.
    unsafe {
        let borrowed = BorrowedFd::borrow_raw(fd);
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).ok()?;
        Some(OwnedFd::from_raw_fd(fd))
    }
}

/// Makes `fd` the descriptor `to` as well (dup2(2)).
pub fn duplicate_to(fd: BorrowedFd<'_>, to: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() == to {
        return Ok(());
    }
    // SAFETY: `to` is one of 0, 1, 2, which nobody owns.
    unsafe { syscall!(Sysno::dup3, fd.as_raw_fd(), to, 0)? };
    Ok(())
}

fn set_option<T>(fd: BorrowedFd<'_>, level: usize, name: usize, value: &T, len: usize) -> Result<(), Errno> {
    debug_assert!(len <= size_of_val(value));
    // SAFETY: the kernel reads `len` bytes of `value`, which is at least that long.
    unsafe { syscall!(Sysno::setsockopt, fd.as_raw_fd(), level, name, core::ptr::from_ref(value), len)? };
    Ok(())
}

/// Makes a TCP socket of an IPv4 client, accepted on an IPv6 listener, an IPv4 socket (ipv6(7), IPV6_ADDRFORM), so that
/// a server which knows only AF_INET understands its own socket. xinetd does the same.
pub fn become_ipv4(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    const IPPROTO_IPV6: usize = 41;
    const IPV6_ADDRFORM: usize = 1;
    const AF_INET: u32 = 2;
    set_option(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &AF_INET, size_of::<u32>())
}

/// Lets the kernel choose the port of a socket that is about to be bound to an address when it is connected (ip(7),
/// IP_BIND_ADDRESS_NO_PORT, from Linux 4.2; IPv6 sockets take it too): only then can two connections to different places
/// have the same one, and an address does not run out of ports. Older kernels choose at once.
pub fn bind_without_port(fd: BorrowedFd<'_>) {
    const IPPROTO_IP: usize = 0;
    const IP_BIND_ADDRESS_NO_PORT: usize = 24;
    let _ = set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &1u32, size_of::<u32>());
}

/// Tells a server, and what it started in its process group, to end.
pub fn end(pid: crate::backend::Pid, how: End) {
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    let signal = match how {
        End::Ask => Signal::TERM,
        End::Kill => Signal::KILL,
    };
    let Some(pid) = Pid::from_raw(pid as i32) else { return };
    // Each server leads a process group of its own, from a moment after its birth on.
    if kill_process_group(pid, signal).is_err() {
        let _ = kill_process(pid, signal);
    }
}

/// The 1-minute load average in hundredths.
pub fn load() -> Option<u32> {
    // sysinfo(2): fixed point with 16 bits behind the point.
    let [one, ..] = rustix::system::sysinfo().loads;
    #[allow(clippy::useless_conversion, reason = "the field is an unsigned long")]
    u32::try_from((u64::from(one) * 100) >> 16).ok()
}

/// Restricts a socket to an interface (socket(7), SO_BINDTODEVICE): ENODEV while there is none of that name.
pub fn bind_to_device(fd: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    const SOL_SOCKET: usize = 1;
    const SO_BINDTODEVICE: usize = 25;
    // IFNAMSIZ, with its NUL.
    let mut padded = [0u8; 16];
    padded.get_mut(..name.len()).filter(|p| p.len() < 16).ok_or(Errno::NODEV)?.copy_from_slice(name);
    set_option(fd, SOL_SOCKET, SO_BINDTODEVICE, &padded, name.len() + 1)
}

/// The interface that a socket is restricted to, or nothing.
pub fn bound_device<'b>(fd: BorrowedFd<'_>, name: &'b mut [u8; 16]) -> Result<&'b [u8], Errno> {
    const SOL_SOCKET: usize = 1;
    const SO_BINDTODEVICE: usize = 25;
    let mut len = name.len() as u32;
    // SAFETY: the kernel writes at most `len` bytes to `name` and the length to `len`.
    unsafe {
        syscall!(
            Sysno::getsockopt,
            fd.as_raw_fd(),
            SOL_SOCKET,
            SO_BINDTODEVICE,
            name.as_mut_ptr(),
            &raw mut len
        )?;
    }
    Ok(name.split(|b| *b == 0).next().unwrap_or(&[]))
}

/// Makes a program decide which packets a socket receives (socket(7), SO_ATTACH_FILTER), in place of any before it.
pub fn attach_filter(fd: BorrowedFd<'_>, program: &[super::filter::Step]) -> Result<(), Errno> {
    const SOL_SOCKET: usize = 1;
    const SO_ATTACH_FILTER: usize = 26;
    #[repr(C)]
    struct Fprog {
        len: u16,
        steps: *const super::filter::Step,
    }
    let len = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    // The kernel copies the steps, `len` of them, before the call returns.
    let program = Fprog { len, steps: program.as_ptr() };
    set_option(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, size_of::<Fprog>())
}

/// Takes away what [`attach_filter`] made, if anything.
pub fn detach_filter(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    const SOL_SOCKET: usize = 1;
    const SO_DETACH_FILTER: usize = 27;
    match set_option(fd, SOL_SOCKET, SO_DETACH_FILTER, &0u32, size_of::<u32>()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Connections that wait at a listening TCP socket to be accepted (tcp(7), TCP_INFO: tcpi_unacked of a listener).
pub fn accept_queue(fd: BorrowedFd<'_>) -> Option<u32> {
    const IPPROTO_TCP: usize = 6;
    const TCP_INFO: usize = 11;
    // Eight bytes, then rto, ato, snd_mss, rcv_mss, unacked: as in every kernel that has TCP_INFO.
    let mut info = [0u32; 7];
    let mut len = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `len` bytes to `info` and the length to `len`.
    unsafe {
        syscall!(Sysno::getsockopt, fd.as_raw_fd(), IPPROTO_TCP, TCP_INFO, &raw mut info, &raw mut len)
            .ok()?;
    }
    if len as usize >= size_of_val(&info) { Some(info[6]) } else { None }
}

/// When the datagram arrived that was taken last from a socket of IP, by whichever process: a number for it, 0 if there was
/// none (socket(7), SIOCGSTAMP). Other sockets do not tell.
pub fn last_taken(fd: BorrowedFd<'_>) -> Option<u64> {
    const SIOCGSTAMPNS: usize = 0x8907;
    // Seconds and nanoseconds, each as long as the kernel's `long`.
    let mut stamp = [0usize; 2];
    // SAFETY: the kernel writes two of its longs to `stamp`.
    match unsafe { syscall!(Sysno::ioctl, fd.as_raw_fd(), SIOCGSTAMPNS, &raw mut stamp) } {
        Ok(_) => Some((stamp[0] as u64).wrapping_mul(1_000_000_000).wrapping_add(stamp[1] as u64)),
        Err(syscalls::Errno::ENOENT) => Some(0),
        Err(_) => None,
    }
}

/// The datagram that waits first at a socket.
pub struct Head {
    /// How much of it is in the buffer.
    pub len: usize,
    /// How long it is.
    pub whole: usize,
    /// The sender's address, as the kernel has it.
    pub from: [u8; 128],
    pub from_len: usize,
    /// The control message with the time of its arrival; zeros where the kernel gives none.
    pub stamp: [u8; 64],
}

/// Looks at the datagram that waits first at a socket, without taking it and without waiting.
///
/// Two datagrams with the same bytes from the same sender differ in the time of arrival. The kernel writes it down with
/// the datagram when it comes or, at the latest, when it is first looked at; it stays the same from then on. The
/// option is off again afterwards: a server that asks for control messages of its own must not find its buffer taken.
pub fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Head, Errno> {
    const SOL_SOCKET: usize = 1;
    const SO_TIMESTAMPNS: usize = 35;
    const MSG_PEEK_TRUNC_DONTWAIT: usize = 0x2 | 0x20 | 0x40;
    /// struct iovec.
    #[repr(C)]
    struct Part {
        base: *mut u8,
        len: usize,
    }
    /// struct msghdr.
    #[repr(C)]
    struct Message {
        name: *mut u8,
        name_len: u32,
        parts: *mut Part,
        count: usize,
        control: *mut u8,
        control_len: usize,
        flags: u32,
    }
    /// The kernel wants control messages aligned as its own size_t.
    #[repr(align(8))]
    struct Control([u8; 64]);

    let mut head = Head { len: 0, whole: 0, from: [0; 128], from_len: 0, stamp: [0; 64] };
    let mut control = Control([0; 64]);
    let mut part = Part { base: buf.as_mut_ptr(), len: buf.len() };
    let mut message = Message {
        name: head.from.as_mut_ptr(),
        name_len: head.from.len() as u32,
        parts: &raw mut part,
        count: 1,
        control: control.0.as_mut_ptr(),
        control_len: control.0.len(),
        flags: 0,
    };
    // Without it the datagrams' own bytes must do.
    let _ = set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, &1u32, size_of::<u32>());
    // SAFETY: the message points to live buffers of the lengths given; the kernel writes to nothing else.
    let result =
        unsafe { syscall!(Sysno::recvmsg, fd.as_raw_fd(), &raw mut message, MSG_PEEK_TRUNC_DONTWAIT) };
    let _ = set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, &0u32, size_of::<u32>());
    head.whole = result?;
    head.len = head.whole.min(buf.len());
    head.from_len = (message.name_len as usize).min(head.from.len());
    head.stamp = control.0;
    Ok(head)
}

/// The time of a clock that also counts while the machine sleeps, in microseconds: what sd_notify(3) wants with
/// RELOADING=1.
pub fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000).wrapping_add(now.tv_nsec as u64 / 1000)
}

/// Whether `address` is one of this machine's: a socket without IP_FREEBIND can be bound to it.
pub fn is_own_address(address: IpAddr) -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .is_ok_and(|fd| bind(fd.as_fd(), &core::net::SocketAddr::new(address, 0)).is_ok())
}

/// Sets what a signal does: ignored, or its default.
pub fn ignore_signal(signal: u32, ignored: bool) {
    // struct sigaction begins with the handler; SIG_IGN is 1, SIG_DFL 0.
    let mut action = [0usize; 16];
    action[0] = usize::from(ignored);
    // SAFETY: as in `reset_signal_actions`.
    let _ = unsafe { syscall!(Sysno::rt_sigaction, signal, action.as_ptr(), 0, SET_BYTES) };
}

/// Sets the name that /proc/PID/stat and ps(1) show, up to 15 bytes of it.
pub fn set_name(name: &core::ffi::CStr) {
    const PR_SET_NAME: usize = 15;
    // SAFETY: the kernel reads the string up to its NUL.
    let _ = unsafe { syscall!(Sysno::prctl, PR_SET_NAME, name.as_ptr()) };
}

/// Makes standard input this process's controlling terminal, if it can be (ioctl_tty(2)).
#[cfg(feature = "init")]
pub fn take_terminal() {
    const TIOCSCTTY: usize = 0x540e;
    // SAFETY: takes numbers alone.
    let _ = unsafe { syscall!(Sysno::ioctl, 0, TIOCSCTTY, 0) };
}

/// Becomes another program (execve(2)); comes back with the reason why not. At most seven arguments and variables each.
#[cfg(feature = "init")]
pub fn execute(
    program: &core::ffi::CStr,
    arguments: &[&core::ffi::CStr],
    environment: &[&core::ffi::CStr],
) -> Errno {
    let pointers = |strings: &[&core::ffi::CStr]| {
        let mut list = [core::ptr::null(); 8];
        // The last stays null.
        list.iter_mut().zip(strings.iter().take(7)).for_each(|(place, string)| *place = string.as_ptr());
        list
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: strings that end with NUL, and lists that end with null; all of them live until the call returns.
    let result =
        unsafe { syscall!(Sysno::execve, program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    result.err().map_or(Errno::NOEXEC, Errno::from)
}

/// Ends the process at once.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: ends the process; descriptors are closed by the kernel, and nothing else needs cleaning up.
        let _ = unsafe { syscall!(Sysno::exit_group, status) };
    }
}

/// Gives back the memory of whole pages in a range (madvise(2), MADV_DONTNEED): a page of the file is read again when it
/// is needed, any other page is zero from now on.
///
/// # Safety
/// What the range holds must be unmodified since it was mapped from the file, or not needed any more and right as zeros.
#[inline(always)]
unsafe fn give_back(address: usize, size: usize, page: usize) {
    const MADV_DONTNEED: usize = 4;
    if let Some((from, size)) = whole_pages(address, size, page) {
        // SAFETY: as the caller says. A failure changes nothing.
        let _ = unsafe { syscall!(Sysno::madvise, from, size, MADV_DONTNEED) };
    }
}

/// The whole pages of a range, if there are any. The page must be the kernel's own: it rounds a length up to its pages,
/// and on 64-bit ARM those may be 16 or 64 KB, so that a range cut to smaller ones would end in somebody else's memory.
#[inline(always)]
fn whole_pages(address: usize, size: usize, page: usize) -> Option<(usize, usize)> {
    let from = address.checked_next_multiple_of(page)?;
    let to = address.checked_add(size)? & !(page - 1);
    (from < to).then(|| (from, to - from))
}

/// Gives back pages of the file that are never written to. Those still needed come back by themselves, with others
/// around them that are in the page cache: up to 64 KB, but not beyond the mapping they lie in. So the mapping is first cut
/// into pieces by a property in which every other one differs and which means nothing here (MADV_DONTDUMP: the daemon is
/// never dumped).
#[inline(always)]
pub fn give_back_file(part: (usize, usize), page: usize) {
    const MADV_DONTDUMP: usize = 16;
    const PIECE: usize = 16 * 1024;
    if page <= PIECE {
        let end = (part.0 + part.1) & !(PIECE - 1);
        let mut piece = part.0.next_multiple_of(2 * PIECE);
        while piece < end {
            // SAFETY: says only what a core dump should leave out. A failure leaves the mapping in one piece.
            let _ = unsafe { syscall!(Sysno::madvise, piece, PIECE, MADV_DONTDUMP) };
            piece += 2 * PIECE;
        }
    }
    // SAFETY: the parts are mapped from the file and not writable.
    unsafe { give_back(part.0, part.1, page) };
}

/// Gives back what the stack needed below the caller's own frame.
#[inline(always)]
pub fn give_back_stack(page: usize) {
    /// More than any path of the daemon uses: making the filter of a wait service needs 200 KB. Pages that were never used
    /// cost nothing here, and below the stack the kernel keeps a megabyte free.
    const DEEPEST: usize = 512 * 1024;
    let top: usize;
    // SAFETY: reads the stack pointer.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("mov {}, rsp", out(reg) top, options(nomem, nostack, preserves_flags));
        #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
        core::arch::asm!("mov {}, sp", out(reg) top, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "riscv64")]
        core::arch::asm!("mv {}, sp", out(reg) top, options(nomem, nostack, preserves_flags));
    }
    // What x86_64 lets a function use below its stack pointer (System V ABI, section 3.2.2) stays.
    let top = top - 128;
    // SAFETY: nothing below the stack pointer and that zone is in use, and there are no signal handlers.
    unsafe { give_back(top - DEEPEST, DEEPEST, page) };
}

/// Gives back a loader's memory between two uses. It is as new then: all zero.
pub fn give_back_loader(loader: &mut crate::config::Loader, page: usize) {
    // SAFETY: a new loader is all zero (`Loader::new` in a static lies in .bss), so after its drop zeros make it new, also
    // where it shares a page with something else. The last call gives back the pages it has for itself, in whose place
    // the kernel puts zeros.
    unsafe {
        let loader = core::ptr::from_mut(loader);
        loader.drop_in_place();
        loader.write_bytes(0, 1);
        give_back(loader.addr(), size_of::<crate::config::Loader>(), page);
    }
}

#[cfg(test)]
mod tests {
    use super::whole_pages;

    #[test]
    fn only_pages_that_lie_in_the_range_as_a_whole_are_given_back() {
        for page in [4096, 16384, 65536] {
            for address in (0x7fff_0000..0x7fff_0000 + 2 * page).step_by(1024) {
                for size in [0, 1, page - 1, page, page + 1, 192 * 1024] {
                    let Some((from, len)) = whole_pages(address, size, page) else {
                        assert!(size < 2 * page);
                        continue;
                    };
                    // What the kernel makes of the length.
                    let to = from + len.next_multiple_of(page);
                    assert!(from % page == 0 && from >= address && to <= address + size);
                }
            }
        }
    }
}
