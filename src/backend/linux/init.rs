//! The first process of a machine: what nobody else does there.
//!
//! We are that if we are process 1 and called `init` or `linuxrc`, as the kernel calls us; process 1 of a container, called
//! `usherd`, is a daemon like any other. Three things make the difference:
//!
//! - **Before anything is served** the file systems of the kernel are mounted, standard output is the console, and what
//!   the `init` section and the kernel's command line say is done ([`boot`](crate::boot)).
//! - **Signals mean what an init's mean** ([`Init::meaning`]), so that `reboot`, `poweroff` and Ctrl-Alt-Del work.
//! - **It never ends.** The kernel stops when its first process does. What fails is told on the console, and everything
//!   else goes on; at the very last it waits for the signal to go down ([`hold`]).

mod network;
mod route;

use core::ffi::CStr;
use core::fmt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname};

use super::cache::Disk;
use super::daemon::{next_ended, open_descriptors, read_clocks, say};
use super::log::Log;
use super::sys::{self, SignalSet};
use crate::boot::line::{self, Problem};
use crate::boot::{ATTRIBUTES, Settings};
use crate::capacity::PATH_BYTES;
use crate::config::Loader;
use crate::config::diagnostic::Bytes;
use crate::config::source::Files;
use crate::errno::Errno;
use crate::names::{each_line, words};
use crate::record::Level;
use crate::time::{Instant, Now};
use network::Network;

const HUP: u32 = 1;
const INT: u32 = 2;
const QUIT: u32 = 3;
const USR1: u32 = 10;
const USR2: u32 = 12;
const TERM: u32 = 15;
const CHLD: u32 = 17;
const PWR: u32 = 30;

/// What only a start needs is kept for so long: until its network is there, the machine is starting still.
const UP_MS: u64 = 2000;
/// Between two starts of the program on the console.
const CONSOLE_AGAIN_MS: u64 = 1000;
/// What is left when everybody has been killed has so long to be gone.
const GONE_MS: u64 = 1000;

/// How a machine goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finale {
    Reboot,
    PowerOff,
    Halt,
}

impl Finale {
    /// busybox' and sysvinit's signals. INT is the kernel's word for Ctrl-Alt-Del, PWR what a failing power supply, or a
    /// container's owner, sends.
    const fn of(signal: u32) -> Option<Finale> {
        match signal {
            INT | TERM => Some(Finale::Reboot),
            USR2 | PWR => Some(Finale::PowerOff),
            USR1 => Some(Finale::Halt),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Finale::Reboot => "reboots",
            Finale::PowerOff => "is switched off",
            Finale::Halt => "halts",
        }
    }
}

/// What of a first process an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Interfaces.
    Links,
    /// Answers of DHCP servers.
    Dhcp,
}

impl Part {
    pub const fn number(self) -> u16 {
        self as u16
    }

    pub const fn from_number(number: u16) -> Option<Part> {
        match number {
            0 => Some(Part::Links),
            1 => Some(Part::Dhcp),
            _ => None,
        }
    }
}

/// Called by one of these names, the program tells process 1 to take the machine down; the exit status.
pub fn order(name: &[u8]) -> Option<i32> {
    let signal = match str::from_utf8(base(name)) {
        Ok("reboot") => Signal::TERM,
        Ok("poweroff") => Signal::USR2,
        Ok("halt") => Signal::USR1,
        _ => return None,
    };
    match kill_process(Pid::INIT, signal) {
        Ok(()) => Some(0),
        Err(errno) => {
            say(format_args!("{}: {}\n", Bytes(base(name)), Errno::from(errno)));
            Some(1)
        }
    }
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

/// The program on the console.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Console {
    /// There is none.
    None,
    /// To be started then.
    Due(Instant),
    Running(u32),
}

pub struct Init {
    settings: Settings,
    /// Who loads the modules of the kernel's command line.
    loading: Option<Pid>,
    /// When what only a start needs is given back.
    up_at: Option<Instant>,
    network: Option<Network>,
    epoll: Option<OwnedFd>,
    console: Console,
    finale: Option<Finale>,
}

impl Init {
    /// Takes the machine over, if that is what we are for.
    pub fn begin(name: &[u8]) -> Option<Init> {
        let is_first = rustix::process::getpid() == Pid::INIT && matches!(base(name), b"init" | b"linuxrc");
        if !is_first {
            return None;
        }
        let _ = rustix::process::umask(Mode::from_raw_mode(0o022));
        let mut init = Init {
            settings: Settings::new(),
            loading: None,
            up_at: None,
            network: None,
            epoll: None,
            console: Console::None,
            finale: None,
        };
        let (proc, others) = MOUNTS.split_at(1);
        let mut failed = mount_these(proc);
        init.load_ahead();
        failed = failed.or(mount_these(others));
        open_descriptors(c"/dev/console");
        if let Some((target, errno)) = failed {
            say(format_args!("usherd: {}: cannot be mounted: {errno}\n", Bytes(target.to_bytes())));
        }
        Some(init)
    }

    /// Has a child load the modules of the kernel's command line, which takes as long as all else together, while another
    /// processor mounts the rest, reads the files and opens services. What went wrong there `load_modules` meets again, and tells.
    fn load_ahead(&mut self) {
        // Who does not know takes himself for one.
        let processors = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
        let _ = read_command_line(&mut self.settings, &mut |_| {});
        if processors < 2 || self.settings.modules().next().is_none() {
            return;
        }
        let child = start_child(|| {
            for name in self.settings.modules() {
                let _ = load_module(name);
            }
            0
        });
        self.loading = child.ok().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    }

    /// Signals that are read, besides the daemon's own.
    pub const fn signals(&self) -> SignalSet {
        SignalSet::of(&[HUP, INT, QUIT, USR1, USR2, TERM, CHLD, PWR])
    }

    /// Does what the files and the kernel's command line ask for and what needs no network. Of modules, those that the
    /// files have and no child loads: they are to be there before anything is served.
    pub fn prepare(&mut self, loader: &Loader, log: &mut Log) {
        let ahead = core::mem::take(&mut self.settings);
        self.settings.clone_from(loader.boot());
        let read = read_command_line(&mut self.settings, &mut |told| {
            log.message(Level::Error, format_args!("{told}"));
        });
        if let Err(errno) = read {
            log.message(Level::Error, format_args!("{}: {errno}", Bytes(COMMAND_LINE)));
        }
        if let Some(pid) = self.loading
            && !loader.boot().modules().all(|name| ahead.modules().any(|other| other == name))
        {
            // What stands in the file may need those, and nothing is served before it is there.
            let _ = waitpid(Some(pid), WaitOptions::empty());
            self.loading = None;
        }
        if self.loading.is_none() {
            self.load_modules(log);
        }
        if !self.settings.hostname.is_empty()
            && let Err(errno) = sethostname(&self.settings.hostname)
        {
            log.message(Level::Error, format_args!("hostname: {}", Errno::from(errno)));
        }
        if !self.settings.console.is_empty() {
            self.console = Console::Due(Instant(0));
        }
    }

    /// Loads the modules that are not there yet.
    fn load_modules(&self, log: &mut Log) {
        for name in self.settings.modules().filter(|name| !is_loaded(name)) {
            if let Err(errno) = load_module(name) {
                log.message(Level::Error, format_args!("module {}: {errno}", Bytes(name)));
            }
        }
    }

    /// Begins what goes on in the loop. From here on Ctrl-Alt-Del is a signal.
    pub fn join(&mut self, epoll: &OwnedFd, now: Now, log: &mut Log) -> Result<(), Errno> {
        // Not in a container, whose machine is not ours.
        let _ = reboot(RebootCommand::CadOff);
        if let Some(pid) = self.loading
            && let Ok(Some(_)) = waitpid(Some(pid), WaitOptions::NOHANG)
        {
            // Before signals were read.
            self.loading = None;
            self.load_modules(log);
        }
        self.up_at = Some(now.mono.plus_ms(UP_MS));
        self.epoll = Some(rustix::io::fcntl_dupfd_cloexec(epoll, 3)?);
        self.network = Some(Network::start(epoll, &self.settings, now, self.loading.is_none(), log)?);
        Ok(())
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let console = match self.console {
            Console::Due(at) => Some(at),
            Console::None | Console::Running(_) => None,
        };
        let network = self.network.as_ref().and_then(Network::next_deadline);
        [console, network, self.up_at].into_iter().flatten().min()
    }

    /// Whether the start is over.
    pub fn is_up(&mut self) -> bool {
        if self.up_at.is_some_and(|at| at <= read_clocks().mono) {
            self.up_at = None;
        }
        self.up_at.is_none()
    }

    pub fn ready(&mut self, part: Part, now: Now, log: &mut Log) {
        let (Some(network), Some(epoll)) = (&mut self.network, &self.epoll) else { return };
        match part {
            Part::Links => network.look(epoll, &self.settings, now, log),
            Part::Dhcp => network.hear(now, &self.settings, log),
        }
    }

    /// Does what is due.
    pub fn turn(&mut self, now: Now, log: &mut Log) {
        if let Some(network) = &mut self.network {
            network.turn(now, &self.settings, log);
        }
        if let Console::Due(at) = self.console
            && at <= now.mono
            && self.finale.is_none()
        {
            self.console = match start_on_console(&self.settings.console) {
                Ok(pid) => Console::Running(pid),
                Err(errno) => {
                    log.message(Level::Error, format_args!("console: {errno}"));
                    Console::None
                }
            };
        }
    }

    /// What a signal means to the daemon. One that takes the machine down is TERM to it; a state dump, whose USR1 is
    /// taken, is QUIT, and a reload HUP.
    pub fn meaning(&mut self, signal: u32) -> u32 {
        let Some(finale) = Finale::of(signal) else {
            return if signal == QUIT { USR1 } else { signal };
        };
        if self.finale.is_none() {
            self.finale = Some(finale);
            say(format_args!("usherd: the machine {}\n", finale.word()));
            // Everybody: servers, what they left behind, and the program on the console.
            let _ = kill_process_group(Pid::INIT, Signal::TERM);
        }
        TERM
    }

    /// Whether a child that has ended was of this module's.
    pub fn reaped(&mut self, pid: u32, now: Now, log: &mut Log) -> bool {
        if self.loading.is_some_and(|loading| loading.as_raw_pid().cast_unsigned() == pid) {
            self.loading = None;
            self.load_modules(log);
            return true;
        }
        let is_ours = self.console == Console::Running(pid);
        if is_ours {
            self.console = Console::Due(now.mono.plus_ms(CONSOLE_AGAIN_MS));
            if self.finale.is_none() {
                log.message(
                    Level::Notice,
                    format_args!("console: the program has ended and is started again"),
                );
            }
        }
        is_ours
    }

    /// Whether nobody is left who would have to end: all orphans are children of ours.
    pub fn is_alone(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
    }

    pub fn kill_all(&self) {
        let _ = kill_process_group(Pid::INIT, Signal::KILL);
    }

    /// The loop has ended: takes the machine down if that was asked for, and does not come back in any case.
    pub fn leave(self) -> ! {
        hold(self.finale, self.signals())
    }
}

/// The end of every way: goes down, now or when a signal says so.
fn hold(finale: Option<Finale>, signals: SignalSet) -> ! {
    let mut finale = finale;
    sys::set_signal_mask(signals);
    let fd = sys::signal_fd(signals).ok();
    if finale.is_none() {
        say(format_args!("usherd: nothing can be served; this machine waits for Ctrl-Alt-Del or a signal\n"));
        let _ = reboot(RebootCommand::CadOff);
    }
    loop {
        if let Some(how) = finale.take() {
            let errno = go_down(how);
            say(format_args!("usherd: the kernel does not: {errno}\n"));
        }
        while next_ended().is_some() {}
        // Without signals to read, orphans are looked for every second.
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        match &fd {
            Some(fd) => {
                let _ = poll(&mut [PollFd::new(fd, PollFlags::IN)], None);
                while let Some(signal) = sys::next_signal(fd.as_fd()) {
                    finale = finale.or(Finale::of(signal));
                }
            }
            None => drop(poll(&mut [], Some(&second))),
        }
    }
}

/// Ends whoever is left, writes everything to where it belongs, and leaves the rest to the kernel. Comes back only with
/// the reason why it would not.
fn go_down(how: Finale) -> Errno {
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
    let until = read_clocks().mono.plus_ms(GONE_MS);
    loop {
        while next_ended().is_some() {}
        let is_alone = rustix::process::wait(WaitOptions::NOHANG).is_err();
        if is_alone || read_clocks().mono >= until {
            break;
        }
        // What dies takes no longer than this, or it hangs in the kernel.
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
    }
    // Logs, too: a file that is open for writing keeps its file system from being clean.
    sys::close_from(3, None);
    rustix::fs::sync();
    unmount_all();
    rustix::fs::sync();
    let command = match how {
        Finale::Reboot => RebootCommand::Restart,
        Finale::PowerOff => RebootCommand::PowerOff,
        Finale::Halt => RebootCommand::Halt,
    };
    match reboot(command) {
        Ok(()) => Errno::INVAL,
        Err(errno) => errno.into(),
    }
}

/// Where, what, how, and with which options. /proc is first, with the kernel's command line.
const MOUNTS: [Mount; 6] = [
    (c"/proc", c"proc", MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC), c""),
    (c"/sys", c"sysfs", MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC), c""),
    (c"/dev", c"devtmpfs", MountFlags::NOSUID, c"mode=0755"),
    (c"/dev/pts", c"devpts", MountFlags::NOSUID.union(MountFlags::NOEXEC), c"gid=5,mode=620,ptmxmode=666"),
    (c"/run", c"tmpfs", MountFlags::NOSUID.union(MountFlags::NODEV), c"mode=0755"),
    (c"/tmp", c"tmpfs", MountFlags::NOSUID.union(MountFlags::NODEV), c"mode=1777"),
];

type Mount = (&'static CStr, &'static CStr, MountFlags, &'static CStr);

/// Mounts what is not mounted yet; one that could not be, if any.
fn mount_these(mounts: &[Mount]) -> Option<(&'static CStr, Errno)> {
    let mut failed = None;
    for &(target, kind, flags, options) in mounts {
        let _ = rustix::fs::mkdir(target, Mode::from_raw_mode(0o755));
        let device = |path: &CStr| rustix::fs::stat(path).ok().map(|stat| stat.st_dev);
        let above = if target == c"/dev/pts" { c"/dev" } else { c"/" };
        let own = device(target);
        if own.is_some() && own != device(above) {
            // The kernel did it, or whoever started this container.
            continue;
        }
        match mount(kind, target, kind, flags, options) {
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(errno) => failed = failed.or(Some((target, errno.into()))),
        }
    }
    failed
}

/// Unmounts what can be, the last mounted first; what cannot is made read-only.
fn unmount_all() {
    const TABLE: &[u8] = b"/proc/self/mounts";
    let mut count = 0;
    let _ = each_line(&mut Disk::plain(), TABLE, &mut |_| {
        count += 1;
        true
    });
    // What is above the nth goes first, so the nth stays the nth.
    for nth in (0..count).rev() {
        let mut at = 0;
        let mut target = heapless::Vec::<u8, { PATH_BYTES + 1 }>::new();
        let _ = each_line(&mut Disk::plain(), TABLE, &mut |line| {
            at += 1;
            if at <= nth {
                return true;
            }
            let mut fields = words(line.unwrap_or(&[])).skip(1);
            if let (Some(path), Some(kind)) = (fields.next(), fields.next())
                && !matches!(kind, b"proc" | b"sysfs" | b"devtmpfs" | b"devpts" | b"rootfs")
            {
                put_unescaped(path, &mut target);
            }
            false
        });
        if target.is_empty() {
            continue;
        }
        if unmount(target.as_slice(), UnmountFlags::empty()).is_err() {
            let _ = mount_remount(target.as_slice(), MountFlags::RDONLY, c"");
        }
    }
}

/// A path as the table of mounts has it: blanks and their like are a backslash and three octal digits.
fn put_unescaped<const N: usize>(path: &[u8], to: &mut heapless::Vec<u8, N>) {
    let mut rest = path;
    to.clear();
    while let [first, after @ ..] = rest {
        let (byte, after) = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            _ => (*first, after),
        };
        if to.push(byte).is_err() {
            // Another path than the one that is meant.
            return to.clear();
        }
        rest = after;
    }
}

const COMMAND_LINE: &[u8] = b"/proc/cmdline";

/// Takes what the kernel's command line says about us.
fn read_command_line(settings: &mut Settings, tell: &mut dyn FnMut(Told<'_>)) -> Result<(), Errno> {
    let mut text = [0; line::LINE];
    let mut disk = Disk::plain();
    let len = disk.open(COMMAND_LINE).and_then(|file| disk.read_at(&file, 0, &mut text))?;
    line::read(text.get(..len).unwrap_or(&[]), settings, &mut |word, column, problem| {
        tell(Told { word, column, problem });
    });
    Ok(())
}

/// What is wrong with a word of the command line.
struct Told<'a> {
    word: &'a [u8],
    column: usize,
    problem: Problem<'a>,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { word, column, problem } = self;
        write!(f, "/proc/cmdline:1:{column}: error: `{}`: ", Bytes(word))?;
        match problem {
            Problem::Wrong(wrong) => write!(f, "{wrong}; it is left out"),
            Problem::Unknown => {
                f.write_str("is no attribute of `init`; there are")?;
                ATTRIBUTES.iter().try_for_each(|a| write!(f, " {}", a.name))
            }
        }
    }
}

/// Whether the kernel has a module of that name, or of that file's; those built into it are there as well, if they have
/// parameters.
fn is_loaded(name: &[u8]) -> bool {
    let mut path = heapless::Vec::<u8, { PATH_BYTES + 1 }>::new();
    let name = base(name);
    let name = name.split(|b| *b == b'.').next().unwrap_or(name);
    let is_whole =
        path.extend_from_slice(b"/sys/module/").and_then(|()| path.extend_from_slice(name)).is_ok();
    // A file's name may have either; the kernel has made one of them.
    path.iter_mut().filter(|b| **b == b'-').for_each(|b| *b = b'_');
    is_whole && rustix::fs::access(path.as_slice(), rustix::fs::Access::EXISTS).is_ok()
}

/// Loads one module; one that is there already is as good.
fn load_module(name: &[u8]) -> Result<(), Errno> {
    let mut path = heapless::Vec::<u8, { PATH_BYTES + 1 }>::new();
    let parts: [&[u8]; 3] =
        if name.starts_with(b"/") { [b"", name, b""] } else { [b"/lib/modules/", name, b".ko"] };
    for part in parts {
        path.extend_from_slice(part).map_err(|_| Errno::NAMETOOLONG)?;
    }
    let file = rustix::fs::open(path.as_slice(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match finit_module(&file, c"", 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Has a child do this and nothing else, with its exit status; its pid.
#[allow(unsafe_code)]
fn start_child(work: impl FnOnce() -> i32) -> Result<u32, Errno> {
    // SAFETY: the daemon has one thread.
    match unsafe { sys::fork()? } {
        0 => sys::exit(work()),
        pid => Ok(pid),
    }
}

/// Starts a program with the console as its terminal.
fn start_on_console(path: &[u8]) -> Result<u32, Errno> {
    let mut text = heapless::Vec::<u8, { PATH_BYTES + 1 }>::new();
    text.extend_from_slice(path)
        .and_then(|()| text.extend_from_slice(b"\0"))
        .map_err(|_| Errno::NAMETOOLONG)?;
    let program = CStr::from_bytes_with_nul(&text).map_err(|_| Errno::INVAL)?;
    start_child(|| {
        // /dev/console itself is nobody's controlling terminal; what it stands for can be, if the kernel says which that is.
        let _ = rustix::process::setsid();
        sys::take_terminal();
        sys::set_signal_mask(SignalSet::default());
        let environment = [c"HOME=/", c"TERM=linux", c"PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
        let errno = sys::execute(program, &[program], &environment);
        say(format_args!("usherd: {}: {errno}\n", Bytes(path)));
        127
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_paths_are_found_again() {
        let of = |path: &[u8]| {
            let mut to = heapless::Vec::<u8, 8>::new();
            put_unescaped(path, &mut to);
            to
        };
        assert_eq!(of(b"/a\\040b"), b"/a b");
        assert_eq!(of(b"/a\\134"), b"/a\\");
        assert_eq!(of(b"\\\\04\\0"), b"\\\\04\\0");
        assert_eq!(of(b"/too-long"), b"");
    }

    #[test]
    fn signals_are_those_of_other_inits() {
        assert_eq!(Finale::of(TERM), Some(Finale::Reboot));
        assert_eq!(Finale::of(INT), Some(Finale::Reboot));
        assert_eq!(Finale::of(USR1), Some(Finale::Halt));
        assert_eq!(Finale::of(USR2), Some(Finale::PowerOff));
        assert_eq!(Finale::of(PWR), Some(Finale::PowerOff));
        assert_eq!((Finale::of(HUP), Finale::of(QUIT), Finale::of(CHLD)), (None, None, None));
    }

    #[test]
    fn nobody_else_is_a_first_process() {
        assert!(Init::begin(b"/sbin/init").is_none());
        assert_eq!(order(b"/usr/sbin/usherd"), None);
    }
}
