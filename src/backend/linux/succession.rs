//! A newer program takes the daemon's place, in the same process: whoever supervises it sees the same pid, its children stay
//! its children, its sockets stay open, and clients in their backlogs notice nothing.
//!
//! What the older program keeps in its own memory cannot be told to another: clients of built-in and redirected services, and
//! those of whom something is being found out. A copy of the process, the predecessor, goes on with these until the last is
//! gone. The rest is written down, and execve(2) does what is left.
//!
//! | who | what becomes of it |
//! |---|---|
//! | listening sockets, pipes for standard error, the locked pid file | stay open over execve, and the will says which is which |
//! | servers | children of the process as before; the will says whose they are |
//! | clients inside the daemon, pipes of services that are gone | stay with the predecessor |
//! | starts a minute, `cps`, what sensors and the resolver remember | forgotten, as by a restart |

#![allow(unsafe_code)]

use core::ffi::CStr;
use core::net::{IpAddr, Ipv6Addr};
use core::ptr::null;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{MemfdFlags, OFlags};
use rustix::io::FdFlags;
use syscalls::{Sysno, syscall};

use super::listen::Ours;
use super::{Linux, sys};
use crate::addr::Peer;
use crate::capacity::PATH_BYTES;
use crate::engine::{Engine, Tenancy};
use crate::errno::Errno;
use crate::table::ServiceIndex;
use crate::time::{Instant, Now};

/// The variable that names the will's descriptor.
pub const NAME: &[u8] = b"USHERD_HEIR";
/// The same as the beginning of an entry of the environment.
pub const VARIABLE: &[u8] = b"USHERD_HEIR=";

/// Words of an entry of the will.
const WORDS: usize = 16;
/// An entry: what it is about, then what [`Will`] says there. Later programs may add kinds and may give meaning to words that
/// are 0 now; nothing else may change, for any program reads the will of any other.
type Entry = [u32; WORDS];

const BYTES: usize = size_of::<Entry>();

/// Whose will it is: the process.
const TESTATOR: u32 = 0x7573_6801;
/// A socket: its descriptor, whether its node is ours, and both ends of the pipe for standard error (0: there is none).
const SOCKET: u32 = 2;
/// A server.
const SERVER: u32 = 3;
/// The pid file's descriptor.
const PID_FILE: u32 = 4;
/// A process that still has clients of before.
const PREDECESSOR: u32 = 5;

/// What an older program leaves to a newer one: entries in a file that exists in memory alone.
pub struct Will(OwnedFd);

impl Will {
    pub fn new() -> Result<Will, Errno> {
        let will = Will(rustix::fs::memfd_create(c"usherd heir", MemfdFlags::CLOEXEC)?);
        will.add(TESTATOR, &[own_pid()])?;
        Ok(will)
    }

    /// The will that an older program of this process has left, if there is one.
    pub fn find(fd: u64) -> Option<Will> {
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd > 2)?;
        let will = Will(sys::adopt(fd)?);
        let is_ours = will.entries().next().is_some_and(|entry| entry[..2] == [TESTATOR, own_pid()]);
        if !is_ours {
            // Whatever it is, it is not ours to close.
            core::mem::forget(will);
            return None;
        }
        Some(will)
    }

    #[inline(never)]
    fn add(&self, kind: u32, words: &[u32]) -> Result<(), Errno> {
        let mut bytes = [0; BYTES];
        for (place, word) in bytes.chunks_exact_mut(4).zip([kind].iter().chain(words)) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        match rustix::io::write(&self.0, &bytes)? {
            BYTES => Ok(()),
            _ => Err(Errno::NOSPC),
        }
    }

    #[inline(never)]
    fn entry(&self, at: u64) -> Option<Entry> {
        let mut bytes = [0; BYTES];
        let n = rustix::io::pread(&self.0, &mut bytes, at * BYTES as u64).ok()?;
        let mut entry = [0; WORDS];
        for (word, place) in entry.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(place.try_into().ok()?);
        }
        (n == BYTES).then_some(entry)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        (0..).map_while(|at| self.entry(at))
    }

    /// Writes down what the engine's services and servers have, and who came before us.
    pub fn write(
        &self,
        engine: &Engine<Linux>,
        pid_file: Option<BorrowedFd<'_>>,
        predecessors: &[u32],
    ) -> Result<(), Errno> {
        let number = |fd: BorrowedFd<'_>| fd.as_raw_fd() as u32;
        for listener in listeners(engine) {
            let pipe = listener.stderr.as_ref();
            let read = pipe.map_or(0, |pipe| number(pipe.read_end()));
            let write = pipe.and_then(|pipe| pipe.write_end()).map_or(0, number);
            let is_node = u32::from(listener.has_node());
            self.add(SOCKET, &[number(listener.fd.as_fd()), is_node, read, write])?;
        }
        for tenancy in engine.tenancies() {
            let socket = engine.listener(tenancy.service).map_or(0, |listener| number(listener.fd.as_fd()));
            let table = engine.table();
            let id = table.service(tenancy.service).map_or(0, |service| hash(table.bytes(service.id)));
            let mark = tenancy.holds.unwrap_or(0);
            let flags = u32::from(tenancy.holds.is_some()) | u32::from(tenancy.blocks) << 1;
            let (address, port) = match tenancy.peer {
                Peer::Ip { address: IpAddr::V4(v4), port } => (v4.to_ipv6_mapped(), u32::from(port)),
                Peer::Ip { address: IpAddr::V6(v6), port } => (v6, u32::from(port)),
                // No port has these numbers.
                Peer::Local => (Ipv6Addr::UNSPECIFIED, LOCAL),
                Peer::Unknown => (Ipv6Addr::UNSPECIFIED, UNKNOWN),
            };
            let [a, b, c, d] = quarters(address);
            let began = tenancy.began.0;
            let words = [
                tenancy.pid,
                socket,
                id,
                flags,
                began as u32,
                (began >> 32) as u32,
                mark as u32,
                (mark >> 32) as u32,
                port,
                a,
                b,
                c,
                d,
            ];
            self.add(SERVER, &words)?;
        }
        if let Some(fd) = pid_file {
            self.add(PID_FILE, &[number(fd)])?;
        }
        for pid in predecessors {
            self.add(PREDECESSOR, &[*pid])?;
        }
        Ok(())
    }

    /// The sockets, for services to take; and those who came before us, of whom it holds `predecessors` at most.
    pub fn open(&self, linux: &mut Linux, mut predecessor: impl FnMut(u32)) {
        for entry in self.entries() {
            match entry {
                [SOCKET, fd, is_node, read, write, ..] => {
                    let Some(fd) = sys::adopt(fd as RawFd) else { continue };
                    // 0 stands for none, and is nobody's to adopt.
                    let end = |number: u32| if number > 2 { sys::adopt(number as RawFd) } else { None };
                    let ours = Ours { is_node: is_node != 0, pipe: end(read).zip(end(write)) };
                    let _ = linux.inherited.add(fd, Some(ours));
                }
                [PREDECESSOR, pid, ..] => predecessor(pid),
                _ => {}
            }
        }
    }

    /// The locked pid file.
    pub fn pid_file(&self) -> Option<OwnedFd> {
        let entry = self.entries().find(|entry| entry[0] == PID_FILE)?;
        sys::adopt(entry[1] as RawFd)
    }

    /// Gives the servers to the services that have their sockets now, or their names; how many there are, and for how many
    /// there was no place.
    pub fn inherit(&self, engine: &mut Engine<Linux>, now: Now, linux: &mut Linux) -> (usize, usize) {
        let (mut known, mut lost) = (0, 0);
        for entry in self.entries() {
            let [SERVER, pid, socket, id, flags, began, began_high, mark, mark_high, port, a, b, c, d, ..] =
                entry
            else {
                continue;
            };
            let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
            let services = engine.table().services().len() as ServiceIndex;
            let by_socket = |index: &ServiceIndex| {
                engine.listener(*index).is_some_and(|listener| listener.fd.as_raw_fd() as u32 == socket)
            };
            let by_name = |index: &ServiceIndex| {
                let table = engine.table();
                table.service(*index).is_some_and(|service| hash(table.bytes(service.id)) == id)
            };
            let service = (0..services).find(by_socket).or_else(|| (0..services).find(by_name));
            let tenancy = Tenancy {
                service: service.unwrap_or(ServiceIndex::MAX),
                pid,
                peer: match port {
                    LOCAL => Peer::Local,
                    UNKNOWN => Peer::Unknown,
                    port => Peer::ip(IpAddr::V6(joined([a, b, c, d])), port as u16),
                },
                began: Instant(wide(began, began_high)),
                holds: (flags & 1 != 0).then_some(wide(mark, mark_high)),
                blocks: flags & 2 != 0,
            };
            if engine.inherit(tenancy, now, linux) { known += 1 } else { lost += 1 }
        }
        (known, lost)
    }

    /// Lets the next program have it, and what it speaks of; or not, if there is no next program after all.
    pub fn pass_on(&self, passed: bool, engine: &Engine<Linux>, pid_file: Option<BorrowedFd<'_>>) {
        let flags = if passed { FdFlags::empty() } else { FdFlags::CLOEXEC };
        let set = |fd: BorrowedFd<'_>| {
            let _ = rustix::io::fcntl_setfd(fd, flags);
        };
        for listener in listeners(engine) {
            set(listener.fd.as_fd());
            if let Some(pipe) = &listener.stderr {
                set(pipe.read_end());
                pipe.write_end().into_iter().for_each(set);
            }
        }
        pid_file.into_iter().chain([self.0.as_fd()]).for_each(set);
    }
}

const LOCAL: u32 = 0x1_0000;
const UNKNOWN: u32 = 0x1_0001;

fn listeners(engine: &Engine<Linux>) -> impl Iterator<Item = &super::Listener> {
    (0..engine.table().services().len()).filter_map(|index| engine.listener(index as ServiceIndex))
}

fn quarters(address: Ipv6Addr) -> [u32; 4] {
    let bits = address.to_bits();
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
}

fn joined(quarters: [u32; 4]) -> Ipv6Addr {
    Ipv6Addr::from_bits(quarters.into_iter().fold(0, |bits, quarter| bits << 32 | u128::from(quarter)))
}

/// FNV-1a of a service's id.
fn hash(id: &[u8]) -> u32 {
    id.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_pid() as u32
}

/// Gives each string of a list to a function.
pub type Each<'a> = &'a dyn Fn(&mut dyn FnMut(&'static CStr));

/// How this program was started, so that the next can be started alike.
pub struct Origin<'a> {
    /// Its file, with a NUL; empty if that cannot be told.
    program: heapless::Vec<u8, PATH_BYTES>,
    arguments: Each<'a>,
    environment: Each<'a>,
    /// Where relative paths of the command line begin, if there are any.
    directory: Option<OwnedFd>,
}

/// Fewer arguments, and fewer variables, than this can be given to a next program.
const WORDS_GIVEN: usize = 512;

/// Pointers to C strings, and a null behind them.
struct Pointers {
    list: [*const u8; WORDS_GIVEN],
    len: usize,
}

impl Pointers {
    const fn new() -> Self {
        Pointers { list: [null(); WORDS_GIVEN], len: 0 }
    }

    #[inline(never)]
    fn push(&mut self, string: &CStr) {
        if let Some(place) = self.list.get_mut(self.len) {
            *place = string.as_ptr().cast();
        }
        self.len += 1;
    }

    /// Whether all of them, and the null, have a place.
    const fn fit(&self) -> bool {
        self.len < WORDS_GIVEN
    }
}

impl<'a> Origin<'a> {
    /// To be asked for at the start: the file's name may be another's later. `relative`: the command line has such paths.
    pub fn new(arguments: Each<'a>, environment: Each<'a>, relative: bool) -> Origin<'a> {
        let mut buffer = [core::mem::MaybeUninit::uninit(); PATH_BYTES];
        let program = rustix::fs::readlinkat_raw(rustix::fs::CWD, c"/proc/self/exe", &mut buffer)
            .ok()
            .filter(|(_, rest)| !rest.is_empty())
            .and_then(|(path, _)| {
                let path: &[u8] = path;
                // Its file was replaced before we looked: what is there now is the one that is meant.
                let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
                let mut program = heapless::Vec::from_slice(path).ok()?;
                program.push(0).ok()?;
                Some(program)
            });
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            if relative { rustix::fs::open(c".", flags, rustix::fs::Mode::empty()).ok() } else { None };
        Origin { program: program.unwrap_or_default(), arguments, environment, directory }
    }

    /// The program's file, for messages.
    pub fn program(&self) -> &[u8] {
        self.program.strip_suffix(b"\0").unwrap_or(b"the program")
    }

    /// Starts what is at the program's place now with the same command line, to check the files alone (-t); its pid.
    pub fn check(&self, null: BorrowedFd<'_>) -> Result<u32, Errno> {
        // SAFETY: the daemon has one thread.
        let child = unsafe { sys::fork()? };
        if child > 0 {
            return Ok(child);
        }
        for fd in 0..3 {
            let _ = sys::duplicate_to(null, fd);
        }
        sys::set_signal_mask(sys::SignalSet::default());
        let _ = self.execute(true, None);
        sys::exit(127)
    }

    /// Becomes what is at the program's place now, with the same command line; returns only if that fails.
    pub fn become_heir(&self, will: &Will) -> Errno {
        let mut number = heapless::String::<32>::new();
        // VARIABLE is text.
        let _ = core::fmt::Write::write_fmt(
            &mut number,
            format_args!("{}{}\0", VARIABLE.escape_ascii(), will.0.as_raw_fd()),
        );
        let variable = CStr::from_bytes_with_nul(number.as_bytes()).ok();
        let errno = self.execute(false, variable);
        let _ = rustix::process::chdir(c"/");
        errno
    }

    #[inline(never)]
    fn execute(&self, checks: bool, variable: Option<&CStr>) -> Errno {
        let mut argv = Pointers::new();
        (self.arguments)(&mut |word| {
            argv.push(word);
            if checks && argv.len == 1 {
                argv.push(c"-t");
            }
        });
        let mut envp = Pointers::new();
        (self.environment)(&mut |entry| {
            // What these speak of was taken, or is not there any more.
            let is_past = |name: &&[u8]| entry.to_bytes().starts_with(name);
            if ![VARIABLE, b"LISTEN_FDS=", b"LISTEN_PID=", b"LISTEN_FDNAMES="].iter().any(is_past) {
                envp.push(entry);
            }
        });
        variable.into_iter().for_each(|variable| envp.push(variable));
        if !argv.fit() || !envp.fit() {
            return Errno::TOOBIG;
        }
        if self.program.is_empty() {
            return Errno::NOENT;
        }
        if let Some(directory) = &self.directory
            && let Err(errno) = rustix::process::fchdir(directory)
        {
            return errno.into();
        }
        // SAFETY: three pointers to what lives until the call succeeds or returns: a string with a NUL, and two lists of
        // such that end with a null.
        match unsafe {
            syscall!(Sysno::execve, self.program.as_ptr(), argv.list.as_ptr(), envp.list.as_ptr())
        } {
            Ok(_) => Errno::NOEXEC,
            Err(errno) => errno.into(),
        }
    }
}
