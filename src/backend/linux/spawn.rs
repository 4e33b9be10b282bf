//! How a server is started, fast: a child that shares the daemon's memory until its program begins.
//!
//! fork(2) copies page tables; vfork(2) stops the parent until exec. Here the child shares memory (CLONE_VM) and runs on
//! a stack of its own, and the parent goes on accepting at once. The child gets everything it needs in a `Slot` that
//! nobody changes before the kernel says the child has let go of the memory (CLONE_CHILD_CLEARTID writes 0 to `tid` when
//! it execs or exits), so its work is: read the slot, make system calls, exec.
//!
//! When the kernel refuses (user-mode QEMU does not know CLONE_VM alone), CLONE_VFORK is added: the parent then waits for
//! the exec, which is a moment. When all slots stay taken, the child gets a copy of the memory as from fork(2): an exec
//! can take any time (a dead network file system; a user who holds a lease on his program, fcntl(2)), and must hold up
//! nobody but its own client.
//!
//! The texts of arguments lie in the configuration table. A reload must not overwrite the table a child still reads:
//! [`Spawner::is_spare_read`] says whether any does.
//!
//! The child is the daemon as far as the kernel's permission checks go, until it has changed its user; from then on it
//! shares memory with the daemon while being somebody else. That is sound only because the daemon is not dumpable
//! (PR_SET_DUMPABLE 0, set at start): that user can then neither attach to it nor make it dump core, which before Linux
//! 5.16 killed everybody who shares the memory. Changing the user makes memory as dumpable as fs.suid_dumpable says
//! (proc(5)), which is 2 where crashes are collected; so the child says 0 again, with all signals blocked till then.
//! Where it is 1 no child shares memory at all.
#![allow(unsafe_code)]

use core::arch::naked_asm;
use core::ffi::c_char;
use core::fmt::Write as _;
use core::net::IpAddr;
use core::ptr::null;
use core::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::RawFd;
use syscalls::{Sysno, syscall};

use crate::addr::Peer;
use crate::capacity::SPAWN_SLOTS;
use crate::errno::Errno;
use crate::record::ChildStep;
use crate::service::{Flags, Limit, Resource, Service};
use crate::table::{Table, Text};
use crate::wrappers::Effects;

/// Bytes of a child's stack. It makes some twenty system calls from one function.
pub(crate) const STACK_BYTES: usize = 8192;
/// argv and envp together, with their nulls.
const POINTERS: usize = 1280;
/// Bytes for what differs from client to client: REMOTE_HOST and its relatives, arguments with `%` replaced, a command of
/// up to 4096 bytes and the variables that go with it. What needs more is not started (E2BIG).
pub(crate) const TEXT_BYTES: usize = 6144;
/// Variables of the daemon's own environment that can be handed on. More are left out, and said so at start.
pub const ENVIRONMENT: usize = 256;

/// What a child is to do, in numbers.
#[derive(Clone, Copy)]
struct Plan {
    program: *const u8,
    argv: *const *const u8,
    envp: *const *const u8,
    /// Where the child writes its own pid in decimal (LISTEN_PID), or null.
    pid_text: *mut u8,
    connection: RawFd,
    stderr: RawFd,
    /// The socket on descriptor 3 as well.
    listen_fds: bool,
    /// `None`: stays as it is.
    groups: Option<(*const u32, usize)>,
    gid: Option<u32>,
    uid: Option<u32>,
    umask: u32,
    nice: Option<i32>,
    /// Seconds of SO_LINGER for the connection; 0: none.
    linger: u32,
    limits: [Option<(u64, u64)>; Resource::ALL.len()],
}

impl Plan {
    /// All zero, so that a slot that was never used is nothing in the file.
    const EMPTY: Plan = Plan {
        program: null(),
        argv: null(),
        envp: null(),
        pid_text: core::ptr::null_mut(),
        connection: 0,
        stderr: 0,
        listen_fds: false,
        groups: None,
        gid: None,
        uid: None,
        umask: 0,
        nice: None,
        linger: 0,
        limits: [None; Resource::ALL.len()],
    };
}

/// A child between its birth and its program.
#[repr(C, align(16))]
struct Slot {
    /// Not 0 while the child uses the slot; the kernel writes the 0.
    tid: AtomicU32,
    /// Step and errno of what went wrong, or 0.
    failure: AtomicU32,
    pid: u32,
    /// The table its child reads is the one that serves since this reload.
    reload: u32,
    plan: Plan,
    /// The group of a rule's `user` option: the plan points here.
    group: [u32; 1],
    pointers: [*const u8; POINTERS],
    text: [u8; TEXT_BYTES],
    stack: Stack,
}

/// What one more of [`SPAWN_SLOTS`] costs.
pub(crate) const SLOT_BYTES: usize = size_of::<Slot>();

#[repr(align(16))]
struct Stack {
    _bytes: [u8; STACK_BYTES],
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            tid: AtomicU32::new(0),
            failure: AtomicU32::new(0),
            pid: 0,
            reload: 0,
            plan: Plan::EMPTY,
            group: [0],
            pointers: [null(); POINTERS],
            text: [0; TEXT_BYTES],
            stack: Stack { _bytes: [0; STACK_BYTES] },
        }
    }
}

/// What a server is to be given.
pub struct Order<'a> {
    pub table: &'a Table,
    pub service: &'a Service,
    /// The connection, or the service's own socket, or /dev/null.
    pub socket: RawFd,
    pub stderr: RawFd,
    /// `socket` is /dev/null: nothing is passed as LISTEN_FDS.
    pub gets_nothing: bool,
    pub peer: Peer,
    /// The address and port the client reached.
    pub local: Option<(IpAddr, u16)>,
    /// What the rule that let the client in changes.
    pub effects: Option<&'a Effects>,
    /// Run by the shell in place of the program; may end in a NUL byte. Copied: the caller's memory may change.
    pub command: Option<&'a [u8]>,
    /// Seconds of SO_LINGER for the connection; 0: none.
    pub linger: u32,
}

/// What all servers inherit from how the daemon was started.
#[derive(Clone, Copy)]
pub struct Heritage {
    /// File mode creation mask the daemon was started with.
    pub umask: u32,
    pub nice: i32,
    /// Soft and hard limit of descriptors the daemon was started with.
    pub files: (u64, u64),
    pub uid: u32,
}

pub struct Spawner {
    slots: [Slot; SPAWN_SLOTS],
    /// For children that get a copy of the memory: free again as soon as they have it.
    copied: Slot,
    /// No child may share memory.
    copies_always: bool,
    /// Reloads so far.
    reload: u32,
    heritage: Heritage,
    /// Pointers to `NAME=value` strings that live as long as the process; unused ones are null.
    environment: [*const c_char; ENVIRONMENT],
    /// The same without what inetd launders (DISPLAY, HOME, LD_…): see [`LAUNDERED`].
    is_laundered: [bool; ENVIRONMENT],
    variables: usize,
}

/// Set by the daemon for each server, or about the daemon alone: never handed on from its own environment.
const OWN: [&[u8]; 15] = [
    super::succession::VARIABLE,
    b"REMOTE_HOST=",
    b"REMOTE_PORT=",
    b"PROTO=",
    b"TCPREMOTEIP=",
    b"TCPREMOTEPORT=",
    b"TCPLOCALIP=",
    b"TCPLOCALPORT=",
    b"LISTEN_FDS=",
    b"LISTEN_PID=",
    b"LISTEN_FDNAMES=",
    b"NOTIFY_SOCKET=",
    b"WATCHDOG_USEC=",
    b"WATCHDOG_PID=",
    b"JOURNAL_STREAM=",
];

/// What OpenBSD's inetd removes before it starts anything, by prefix (observed; -E keeps it): who started the daemon is
/// nobody's business.
const LAUNDERED: [&[u8]; 21] = [
    b"DISPLAY=",
    b"EDITOR=",
    b"GROUP=",
    b"HOME=",
    b"IFS=",
    b"LD_",
    b"LOGNAME=",
    b"MAIL=",
    b"PATH=",
    b"PRINTER=",
    b"PWD=",
    b"SHELL=",
    b"SHLVL=",
    b"SSH",
    b"TERM",
    b"TMP",
    b"USER=",
    b"VISUAL=",
    b"OLDPWD=",
    b"SUDO_",
    b"_=",
];

impl Spawner {
    pub const fn new() -> Spawner {
        Spawner {
            slots: [const { Slot::new() }; SPAWN_SLOTS],
            copied: Slot::new(),
            copies_always: false,
            reload: 0,
            heritage: Heritage { umask: 0, nice: 0, files: (0, 0), uid: 0 },
            environment: [null(); ENVIRONMENT],
            is_laundered: [false; ENVIRONMENT],
            variables: 0,
        }
    }

    /// From now on every child gets a copy of the memory.
    pub fn share_nothing(&mut self) {
        self.copies_always = true;
    }

    pub fn set_heritage(&mut self, heritage: Heritage) {
        self.heritage = heritage;
    }

    pub const fn heritage(&self) -> Heritage {
        self.heritage
    }

    /// After a fork: the children of before share another process' memory.
    pub fn forget_children(&mut self) {
        // Slots that were never used are left untouched: they have no memory yet.
        for slot in
            self.slots.iter_mut().filter(|slot| slot.pid != 0 || slot.tid.load(Ordering::Relaxed) != 0)
        {
            slot.tid.store(0, Ordering::Relaxed);
            slot.failure.store(0, Ordering::Relaxed);
            slot.pid = 0;
        }
    }

    /// Takes note of the daemon's environment; `launder` as OpenBSD's inetd does for services of inetd.conf. Returns
    /// how many variables had no place.
    pub fn set_environment(
        &mut self,
        environment: impl Iterator<Item = &'static core::ffi::CStr>,
        launder: bool,
    ) -> usize {
        self.variables = 0;
        let mut left_out = 0;
        for entry in environment {
            let bytes = entry.to_bytes();
            if OWN.iter().any(|own| bytes.starts_with(own)) {
                continue;
            }
            let at = self.variables;
            match (self.environment.get_mut(at), self.is_laundered.get_mut(at)) {
                (Some(place), Some(laundered)) => {
                    *place = entry.as_ptr();
                    *laundered = launder && LAUNDERED.iter().any(|name| bytes.starts_with(name));
                    self.variables += 1;
                }
                _ => left_out += 1,
            }
        }
        left_out
    }

    /// Whether a child still reads the table that served before the last reload.
    pub fn is_spare_read(&self) -> bool {
        self.slots.iter().any(|slot| slot.reload != self.reload && slot.tid.load(Ordering::Acquire) != 0)
    }

    /// The tables have changed places.
    pub fn reloaded(&mut self) {
        self.reload = self.reload.wrapping_add(1);
    }

    /// Whether no child shares memory, and with it, so far, descriptors.
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.tid.load(Ordering::Acquire) == 0)
    }

    /// Starts a server. What goes wrong in the child is known when it is [`reaped`](Spawner::reaped).
    pub fn spawn(&mut self, order: &Order<'_>) -> Result<u32, Errno> {
        let index = if self.copies_always { None } else { self.free_slot() };
        let Spawner { slots, copied, reload, heritage, environment, is_laundered, variables, .. } = self;
        let shared = index.and_then(|index| slots.get_mut(index));
        let way = if shared.is_some() { Way::Share } else { Way::Copy };
        let slot = shared.unwrap_or(copied);
        let inherited = environment.get(..*variables).unwrap_or(&[]);
        let laundered = is_laundered.get(..*variables).unwrap_or(&[]);
        prepare(slot, order, heritage, inherited, laundered)?;
        slot.failure.store(0, Ordering::Relaxed);
        slot.reload = *reload;
        if way == Way::Copy {
            return start(slot, way);
        }
        slot.tid.store(1, Ordering::Release);
        let pid = match start(slot, way) {
            // EINVAL: a kernel, or user-mode QEMU, that shares memory only with a parent that waits.
            Err(Errno::INVAL) => {
                let pid = start(slot, Way::ShareAndWait);
                // The child has let go by now. Where vfork is really fork, as in QEMU, it wrote that into its own copy, and
                // this slot would be taken for ever.
                slot.tid.store(0, Ordering::Release);
                pid
            }
            other => other,
        };
        match pid {
            Ok(pid) => {
                slot.pid = pid;
                Ok(pid)
            }
            Err(errno) => {
                slot.tid.store(0, Ordering::Release);
                Err(errno)
            }
        }
    }

    /// A slot that no child uses. A slot whose child failed keeps the reason until that child is reaped, if there are
    /// others.
    fn free_slot(&self) -> Option<usize> {
        let is_free = |slot: &Slot| slot.tid.load(Ordering::Acquire) == 0;
        let has_no_news = |slot: &Slot| slot.failure.load(Ordering::Relaxed) == 0;
        self.slots
            .iter()
            .position(|slot| is_free(slot) && has_no_news(slot))
            .or_else(|| self.slots.iter().position(is_free))
    }

    /// A child was reaped: what went wrong before its program began, if anything did.
    pub fn reaped(&mut self, pid: u32) -> Option<(ChildStep, Errno)> {
        let slot = self.slots.iter_mut().find(|slot| slot.pid == pid)?;
        slot.pid = 0;
        let failure = slot.failure.swap(0, Ordering::Relaxed);
        let step = ChildStep::ALL.into_iter().find(|step| *step as u32 == failure >> 16)?;
        Some((step, Errno(failure as u16)))
    }
}

/// Appends text to a slot, and gives it out as a C string.
struct SlotText<'a> {
    bytes: &'a mut [u8; TEXT_BYTES],
    len: usize,
}

impl SlotText<'_> {
    /// Copies one string; its place. One with a NUL inside would come out cut.
    fn copy(&mut self, bytes: &[u8]) -> Result<*const u8, Errno> {
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        if bytes.contains(&0) {
            return Err(Errno::INVAL);
        }
        self.string(|out| out.push(bytes))
    }

    /// Writes one string and its NUL; its place.
    fn string(&mut self, write: impl FnOnce(&mut Self) -> core::fmt::Result) -> Result<*const u8, Errno> {
        let from = self.len;
        write(self).map_err(|_| Errno::TOOBIG)?;
        self.push(b"\0").map_err(|_| Errno::TOOBIG)?;
        self.bytes.get(from..).map(<[u8]>::as_ptr).ok_or(Errno::TOOBIG)
    }

    fn push(&mut self, bytes: &[u8]) -> core::fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + bytes.len()).ok_or(core::fmt::Error)?;
        to.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }
}

impl core::fmt::Write for SlotText<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push(text.as_bytes())
    }
}

/// The pointers of a slot, filled from the front.
struct Pointers<'a> {
    list: &'a mut [*const u8; POINTERS],
    len: usize,
}

impl Pointers<'_> {
    fn push(&mut self, pointer: *const u8) -> Result<(), Errno> {
        *self.list.get_mut(self.len).ok_or(Errno::TOOBIG)? = pointer;
        self.len += 1;
        Ok(())
    }
}

/// Whether `entry`, `NAME=value`, gives the variable that `other`, `NAME` or `NAME=value`, names.
fn is_same_variable(entry: &[u8], other: &[u8]) -> bool {
    let name = |bytes: &[u8]| bytes.iter().position(|b| *b == b'=').unwrap_or(bytes.len());
    entry.get(..name(entry)) == other.get(..name(other))
}

/// The shell that runs commands, and the name it is given.
const SHELL: &core::ffi::CStr = c"/bin/sh";
const SHELL_ARGUMENTS: [&core::ffi::CStr; 2] = [c"sh", c"-c"];

/// Gives the server the variables that `added` brings, then the service's own, then the daemon's. What comes first shadows
/// the rest; among those of `added` the last of a name counts, as setenv(3) would have it.
fn push_environment<'a, I: Iterator<Item = &'a [u8]>>(
    pointers: &mut Pointers<'_>,
    text: &mut SlotText<'_>,
    order: &Order<'_>,
    added: impl Fn() -> I,
    inherited: &[*const c_char],
    laundered: &[bool],
) -> Result<(), Errno> {
    let (table, service) = (order.table, order.service);
    let is_added = |bytes: &[u8]| added().any(|word| is_same_variable(bytes, word));
    for (at, word) in added().enumerate() {
        if !added().skip(at + 1).any(|later| is_same_variable(word, later)) {
            pointers.push(text.copy(word)?)?;
        }
    }
    let own = table.words(service.env);
    for word in own {
        if !is_added(table.bytes(*word)) {
            pointers.push(table.c_bytes(*word).as_ptr())?;
        }
    }
    for (pointer, laundered) in inherited.iter().zip(laundered) {
        // SAFETY: `set_environment` took it from the initial stack, where it stays as long as the process.
        let bytes = unsafe { core::ffi::CStr::from_ptr(*pointer) }.to_bytes();
        let passed = if service.flags.has(Flags::PASSENV) {
            table.words(service.passenv).iter().any(|name| is_same_variable(bytes, table.bytes(*name)))
        } else {
            !(*laundered && service.dialect == crate::service::Dialect::Inetd)
        };
        if passed && !own.iter().any(|word| is_same_variable(bytes, table.bytes(*word))) && !is_added(bytes) {
            pointers.push(pointer.cast())?;
        }
    }
    Ok(())
}

/// The user and group that a rule gives a server. Only root can become somebody else, and a service that its file runs as
/// somebody must not become somebody else by a rule, least of all root.
fn imposed_identity(order: &Order<'_>, heritage: &Heritage) -> Result<Option<(Option<u32>, u32)>, Errno> {
    let identity = order.effects.and_then(|effects| effects.identity).map(|(uid, gid)| (Some(uid), gid));
    // `group` alone leaves the user.
    let group = order.effects.and_then(|effects| effects.group).map(|gid| (None, gid));
    let Some(identity) = identity.or(group) else { return Ok(None) };
    let is_roots = matches!(order.service.identity.uid, None | Some(0));
    if heritage.uid == 0 && is_roots { Ok(Some(identity)) } else { Err(Errno::PERM) }
}

/// Writes into the slot what the child needs.
fn prepare(
    slot: &mut Slot,
    order: &Order<'_>,
    heritage: &Heritage,
    inherited: &[*const c_char],
    laundered: &[bool],
) -> Result<(), Errno> {
    let (table, service) = (order.table, order.service);
    let c = |text: Text| table.c_bytes(text).as_ptr();
    let imposed = imposed_identity(order, heritage)?;
    let mut text = SlotText { bytes: &mut slot.text, len: 0 };
    let mut pointers = Pointers { list: &mut slot.pointers, len: 0 };

    if let Some(command) = order.command {
        for word in SHELL_ARGUMENTS {
            pointers.push(word.as_ptr().cast())?;
        }
        pointers.push(text.copy(command)?)?;
    } else {
        for word in table.words(service.argv) {
            let bytes = table.bytes(*word);
            if service.flags.has(Flags::EXPAND) && bytes.contains(&b'%') {
                pointers.push(text.string(|out| expand(out, bytes, order))?)?;
            } else {
                pointers.push(c(*word))?;
            }
        }
    }
    pointers.push(null())?;
    let env_from = pointers.len;

    let added = || order.effects.into_iter().flat_map(Effects::env);
    push_environment(&mut pointers, &mut text, order, added, inherited, laundered)?;
    // Nothing where there is no address: a variable that says so helps no script.
    if let Peer::Ip { address, port } = order.peer {
        pointers.push(text.string(|out| write!(out, "REMOTE_HOST={address}"))?)?;
        pointers.push(text.string(|out| write!(out, "REMOTE_PORT={port}"))?)?;
        // ucspi-tcp's names, which tcpserver's and inetutils' servers know.
        let proto = match service.socket {
            crate::service::SocketType::Stream => "TCP",
            crate::service::SocketType::Dgram => "UDP",
        };
        pointers.push(text.string(|out| write!(out, "PROTO={proto}"))?)?;
        pointers.push(text.string(|out| write!(out, "{proto}REMOTEIP={address}"))?)?;
        pointers.push(text.string(|out| write!(out, "{proto}REMOTEPORT={port}"))?)?;
        if let Some((address, port)) = order.local {
            pointers.push(text.string(|out| write!(out, "{proto}LOCALIP={address}"))?)?;
            pointers.push(text.string(|out| write!(out, "{proto}LOCALPORT={port}"))?)?;
        }
    }
    let mut pid_text = core::ptr::null_mut();
    let listen_fds = service.flags.has(Flags::LISTEN_FDS) && !order.gets_nothing;
    if listen_fds {
        pointers.push(text.string(|out| out.write_str("LISTEN_FDS=1"))?)?;
        let variable = text.string(|out| out.write_str("LISTEN_PID=0000000000"))?;
        pointers.push(variable)?;
        pid_text = variable.cast_mut().wrapping_add("LISTEN_PID=".len());
    }
    pointers.push(null())?;

    let groups = service.flags.has(Flags::GROUPS).then(|| table.gids(service.identity.groups));
    let is_root = heritage.uid == 0;
    // Only root can change groups; a daemon that is somebody runs services of that somebody alone (setuid says so).
    let has_identity = service.identity.uid.is_some() || service.identity.gid.is_some();
    let mut limits = [None; Resource::ALL.len()];
    for ((limit, place), resource) in service.rlimits.iter().zip(&mut limits).zip(Resource::ALL) {
        *place = match *limit {
            Limit::To(value) => Some((value, value)),
            Limit::Unlimited => Some((u64::MAX, u64::MAX)),
            // xinetd raises the soft limit of descriptors to the hard one for every server; inetd leaves it.
            Limit::Inherit if resource == Resource::Files => Some(match service.dialect {
                crate::service::Dialect::Xinetd => (heritage.files.1, heritage.files.1),
                crate::service::Dialect::Inetd => heritage.files,
            }),
            Limit::Inherit => None,
        };
    }
    let argv = pointers.list.as_ptr();
    let groups = groups.unwrap_or(&[]);
    let mut plan = Plan {
        program: if order.command.is_some() { SHELL.as_ptr().cast() } else { c(service.program) },
        argv,
        envp: argv.wrapping_add(env_from),
        pid_text,
        connection: order.socket,
        stderr: order.stderr,
        listen_fds,
        groups: (is_root && has_identity).then_some((groups.as_ptr(), groups.len())),
        gid: service.identity.gid.filter(|_| is_root),
        uid: service.identity.uid.filter(|uid| *uid != heritage.uid || is_root),
        umask: service.umask.map_or(heritage.umask | 0o022, u32::from),
        nice: service.nice.map(|nice| nice_value(heritage.nice, i32::from(nice))),
        linger: order.linger,
        limits,
    };
    if let Some(umask) = order.effects.and_then(|effects| effects.umask) {
        plan.umask = u32::from(umask);
    }
    if let Some(nice) = order.effects.and_then(|effects| effects.nice) {
        plan.nice = Some(nice_value(plan.nice.unwrap_or(heritage.nice), nice));
    }
    if let Some((uid, gid)) = imposed {
        slot.group = [gid];
        plan.groups = Some((slot.group.as_ptr(), slot.group.len()));
        plan.gid = Some(gid);
        plan.uid = uid.or(plan.uid);
    }
    slot.plan = plan;
    Ok(())
}

/// A nice value changed by `by`, within the system's bounds.
fn nice_value(from: i32, by: i32) -> i32 {
    from.saturating_add(by).clamp(-20, 19)
}

/// Writes a word of server_args with `%a` and `%r` (client's address and port), `%A` and `%R` (server's), `%d` (the
/// service's id) and `%%` replaced, the letters of hosts_access(5). What follows any other `%` stays as it is.
fn expand(out: &mut SlotText<'_>, word: &[u8], order: &Order<'_>) -> core::fmt::Result {
    let mut rest = word;
    while let Some(at) = rest.iter().position(|b| *b == b'%') {
        out.push(rest.get(..at).unwrap_or(&[]))?;
        match rest.get(at + 1) {
            Some(b'a') => write!(out, "{}", order.peer)?,
            Some(b'r') => write!(out, "{}", order.peer.port().unwrap_or(0))?,
            Some(b'A') => match order.local {
                Some((address, _)) => write!(out, "{address}")?,
                None => out.write_str("<no address>")?,
            },
            Some(b'R') => write!(out, "{}", order.local.map_or(order.service.port, |(_, port)| port))?,
            Some(b'd') => out.push(order.table.bytes(order.service.id))?,
            Some(b'%') => out.push(b"%")?,
            Some(other) => out.push(&[b'%', *other])?,
            None => out.push(b"%")?,
        }
        rest = rest.get(at + 2..).unwrap_or(&[]);
    }
    out.push(rest)
}

/// What a child does with the daemon's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Share,
    /// And the daemon waits until its program has begun.
    ShareAndWait,
    Copy,
}

const CLONE_VM: usize = 0x100;
const CLONE_VFORK: usize = 0x4000;
const CLONE_CHILD_CLEARTID: usize = 0x20_0000;
const SIGCHLD: usize = 17;

fn start(slot: &mut Slot, way: Way) -> Result<u32, Errno> {
    let flags = match way {
        Way::Share => CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD,
        Way::ShareAndWait => CLONE_VM | CLONE_VFORK | CLONE_CHILD_CLEARTID | SIGCHLD,
        Way::Copy => SIGCHLD,
    };
    let slot = core::ptr::from_mut(slot);
    // SAFETY: the stack belongs to the slot, which no other child uses while `tid` is not 0, and which is a static's
    // (`Spawner` is never moved once it has children). Its top holds what `clone_child` takes from it: argument and
    // function. The child runs `child` alone, which never returns.
    let result = unsafe {
        let top = (&raw mut (*slot).stack).cast::<u8>().add(STACK_BYTES).cast::<usize>().sub(2);
        top.write(slot as usize);
        top.add(1).write(child as *const () as usize);
        clone_child(flags, top, core::ptr::null_mut(), (*slot).tid.as_ptr())
    };
    if result < 0 { Err(Errno(-result as u16)) } else { Ok(result as u32) }
}

/// clone(2) whose child begins on another stack with the function and argument found there. It cannot be a call into
/// Rust code, which would return in the child to a frame that is not on its stack.
#[unsafe(naked)]
unsafe extern "C" fn clone_child(
    flags: usize,
    stack: *mut usize,
    parent_tid: *mut u32,
    child_tid: *mut u32,
) -> isize {
    // The argument order of the raw call differs: x86_64 has child_tid before tls, the others after.
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "mov r10, rcx",
        "xor r8d, r8d",
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        "xor ebp, ebp",
        "pop rdi",
        "pop rax",
        "call rax",
        "ud2",
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "mov x4, x3",
        "mov x3, xzr",
        "mov x8, #220",
        "svc #0",
        "cbz x0, 2f",
        "ret",
        "2:",
        "mov x29, xzr",
        "mov x30, xzr",
        "ldp x0, x1, [sp], #16",
        "blr x1",
        "brk #1",
    );
    #[cfg(target_arch = "arm")]
    naked_asm!(
        // As at the daemon's start (src/entry.rs).
        ".if {is_thumb}",
        ".arch armv6t2",
        ".else",
        ".arch armv6",
        ".endif",
        "push {{r4, r7}}",
        "mov r4, r3",
        "mov r3, #0",
        "mov r7, #120",
        "svc #0",
        "cmp r0, #0",
        "beq 2f",
        "pop {{r4, r7}}",
        "bx lr",
        "2:",
        "mov fp, #0",
        "mov lr, #0",
        "pop {{r0, r1}}",
        "blx r1",
        "udf #0",
        is_thumb = const cfg!(target_feature = "thumb-mode") as u8,
    );
    #[cfg(target_arch = "riscv64")]
    naked_asm!(
        "mv a4, a3",
        "li a3, 0",
        "li a7, 220",
        "ecall",
        "beqz a0, 2f",
        "ret",
        "2:",
        "mv fp, zero",
        "mv ra, zero",
        "ld a0, 0(sp)",
        "ld a1, 8(sp)",
        "addi sp, sp, 16",
        "jalr a1",
        "unimp",
    );
}

/// The child, from birth to program. Makes system calls on the slot's memory and nothing else: no function of the
/// daemon, no static. Order: descriptors, session, limits and nice while still privileged, umask, groups, gid, uid,
/// signal mask last, so that no signal meets a half-made child.
unsafe extern "C" fn child(slot: *const Slot) -> ! {
    // SAFETY: the parent filled the slot before the clone and leaves it alone until `tid` is 0.
    let slot = unsafe { &*slot };
    // SAFETY: as above, for everything the plan points to.
    let (step, errno) = unsafe { become_server(&slot.plan) };
    slot.failure.store((step as u32) << 16 | u32::from(errno.0), Ordering::Relaxed);
    loop {
        // SAFETY: ends this process. 126 and 127 are what shells say of a program that cannot be executed.
        let _ = unsafe { syscall!(Sysno::exit_group, if errno == Errno::NOENT { 127 } else { 126 }) };
    }
}

/// Does what the plan says; returns only what went wrong.
unsafe fn become_server(plan: &Plan) -> (ChildStep, Errno) {
    macro_rules! step {
        ($step:expr, $($call:tt)*) => {
            // SAFETY: the arguments are numbers, or pointers into the slot and the table, which stay as they are.
            if let Err(errno) = unsafe { syscall!($($call)*) } {
                return ($step, errno.into());
            }
        };
    }
    for (fd, to) in [(plan.connection, 0), (plan.connection, 1), (plan.stderr, 2)] {
        step!(ChildStep::Descriptors, Sysno::dup3, fd, to, 0);
    }
    if plan.listen_fds {
        if plan.connection == 3 {
            const F_SETFD: usize = 2;
            step!(ChildStep::Descriptors, Sysno::fcntl, 3, F_SETFD, 0);
        } else {
            step!(ChildStep::Descriptors, Sysno::dup3, plan.connection, 3, 0);
        }
    }
    if plan.linger > 0 {
        const SOL_SOCKET: usize = 1;
        const SO_LINGER: usize = 13;
        let linger = [1, plan.linger];
        // SAFETY: the kernel reads two numbers. What it does not allow is left.
        let _ = unsafe { syscall!(Sysno::setsockopt, 0, SOL_SOCKET, SO_LINGER, linger.as_ptr(), 8) };
    }
    if !plan.pid_text.is_null() {
        // SAFETY: the parent left ten digits and a NUL there.
        unsafe { write_pid(plan.pid_text) };
    }
    step!(ChildStep::Session, Sysno::setsid);
    for (limit, resource) in plan.limits.iter().zip(Resource::ALL) {
        if let Some(limit) = limit {
            let number = match resource {
                Resource::Cpu => 0,
                Resource::Data => 2,
                Resource::Stack => 3,
                Resource::Rss => 5,
                Resource::Files => 7,
                Resource::As => 9,
            };
            // struct rlimit64 is two 64-bit numbers on every architecture, unlike setrlimit's own.
            let pair = [limit.0, limit.1];
            // SAFETY: the kernel reads two numbers.
            if let Err(errno) = unsafe { syscall!(Sysno::prlimit64, 0, number, pair.as_ptr(), 0) } {
                if Errno::from(errno) != Errno::PERM {
                    return (ChildStep::Limits, errno.into());
                }
                // More than the daemon itself may have, and it may not raise it: all there is, which is stricter.
                let mut now = [0u64; 2];
                step!(ChildStep::Limits, Sysno::prlimit64, 0, number, 0, now.as_mut_ptr());
                now[0] = now[1];
                step!(ChildStep::Limits, Sysno::prlimit64, 0, number, now.as_ptr(), 0);
            }
        }
    }
    if let Some(nice) = plan.nice {
        const PRIO_PROCESS: usize = 0;
        step!(ChildStep::Nice, Sysno::setpriority, PRIO_PROCESS, 0, nice);
    }
    step!(ChildStep::Session, Sysno::umask, plan.umask);
    if let Some((groups, count)) = plan.groups {
        step!(ChildStep::Groups, SETGROUPS, count, groups);
    }
    if let Some(gid) = plan.gid {
        step!(ChildStep::Gid, SETGID, gid);
    }
    const SIG_SETMASK: usize = 2;
    if let Some(uid) = plan.uid {
        let all = [u64::MAX; 1];
        step!(ChildStep::Session, Sysno::rt_sigprocmask, SIG_SETMASK, all.as_ptr(), 0, 8);
        step!(ChildStep::Uid, SETUID, uid);
        const PR_SET_DUMPABLE: usize = 4;
        step!(ChildStep::Uid, Sysno::prctl, PR_SET_DUMPABLE, 0);
    }
    let none = [0u64; 1];
    step!(ChildStep::Session, Sysno::rt_sigprocmask, SIG_SETMASK, none.as_ptr(), 0, 8);
    step!(ChildStep::Exec, Sysno::execve, plan.program, plan.argv, plan.envp);
    (ChildStep::Exec, Errno::NOEXEC)
}

/// The calls whose plain names mean 16-bit ids on 32-bit ARM.
#[cfg(target_arch = "arm")]
use ids::*;
#[cfg(target_arch = "arm")]
mod ids {
    use syscalls::Sysno;
    pub const SETGROUPS: Sysno = Sysno::setgroups32;
    pub const SETGID: Sysno = Sysno::setgid32;
    pub const SETUID: Sysno = Sysno::setuid32;
}
#[cfg(not(target_arch = "arm"))]
const SETGROUPS: Sysno = Sysno::setgroups;
#[cfg(not(target_arch = "arm"))]
const SETGID: Sysno = Sysno::setgid;
#[cfg(not(target_arch = "arm"))]
const SETUID: Sysno = Sysno::setuid;

/// Writes the child's own pid in decimal over ten bytes, and a NUL behind it.
unsafe fn write_pid(to: *mut u8) {
    // SAFETY: cannot fail.
    let mut pid = unsafe { syscall!(Sysno::getpid) }.unwrap_or(0);
    let mut digits = [0u8; 10];
    let mut len = 0;
    while len == 0 || pid > 0 {
        digits[len] = b'0' + (pid % 10) as u8;
        pid /= 10;
        len += 1;
    }
    for (at, digit) in digits[..len].iter().rev().enumerate() {
        // SAFETY: at most ten digits; the caller left room for them and the NUL.
        unsafe { to.add(at).write(*digit) };
    }
    // SAFETY: as above.
    unsafe { to.add(len).write(0) };
}

#[cfg(test)]
mod tests;
