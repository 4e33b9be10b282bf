//! One configured service: what every file format turns into.
//!
//! A [`Service`] is plain data. Its strings and lists live in the shared pools of the [`Table`](crate::table::Table)
//! that holds it; the fields here are ranges into them, so a service with three arguments pays for three.

use core::net::IpAddr;

use crate::table::{Span, Text};

/// Which family of files a service was written in. It decides the bytes of chargen and daytime, what happens at
/// the `instances` limit and where standard error goes, so that a file means what it always meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Dialect {
    /// xinetd.conf(5), and usherd.conf, which shares its grammar.
    #[default]
    Xinetd,
    /// inetd.conf(5) of any descent.
    Inetd,
}

/// Whether an entry of the table may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Standing {
    #[default]
    Ready,
    /// Named by a file that has a mistake in it: never started, and on reload its running predecessor is kept.
    Broken,
    /// Gone from the files while servers of it still run: does not listen, disappears with the last server.
    Departed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum SocketType {
    #[default]
    Stream,
    Dgram,
}

/// The address family a service listens with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Family {
    /// An IPv6 socket that takes IPv4 clients too, or an IPv4 socket where the kernel has no IPv6.
    #[default]
    Dual,
    V4,
    /// IPv6 alone.
    V6,
    /// A unix socket; `bind` is its path.
    Unix,
}

/// Where a service listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Bind {
    #[default]
    Everywhere,
    Address(IpAddr),
    /// A network interface, by name; it need not exist yet.
    Interface(Text),
    /// The path of a unix socket.
    Path(Text),
}

/// The services usherd answers itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Builtin {
    /// RFC 862.
    Echo,
    /// RFC 863.
    Discard,
    /// RFC 864.
    Chargen,
    /// RFC 867.
    Daytime,
    /// RFC 868.
    Time,
}

impl Builtin {
    pub const ALL: [Builtin; 5] =
        [Builtin::Echo, Builtin::Discard, Builtin::Chargen, Builtin::Daytime, Builtin::Time];

    /// The name in services(5).
    pub const fn name(self) -> &'static str {
        match self {
            Builtin::Echo => "echo",
            Builtin::Discard => "discard",
            Builtin::Chargen => "chargen",
            Builtin::Daytime => "daytime",
            Builtin::Time => "time",
        }
    }

    /// The port IANA gave it, the same for TCP and UDP.
    pub const fn port(self) -> u16 {
        match self {
            Builtin::Echo => 7,
            Builtin::Discard => 9,
            Builtin::Chargen => 19,
            Builtin::Daytime => 13,
            Builtin::Time => 37,
        }
    }

    /// The built-in of that name or of one of its aliases in services(5), letters of either case.
    pub fn by_name(name: &[u8]) -> Option<Builtin> {
        const ALIASES: [(&[u8], Builtin); 4] = [
            (b"sink", Builtin::Discard),
            (b"null", Builtin::Discard),
            (b"ttytst", Builtin::Chargen),
            (b"timserver", Builtin::Time),
        ];
        Builtin::ALL
            .into_iter()
            .find(|b| name.eq_ignore_ascii_case(b.name().as_bytes()))
            .or_else(|| ALIASES.iter().find(|(n, _)| name.eq_ignore_ascii_case(n)).map(|(_, b)| *b))
    }

    pub fn by_port(port: u16) -> Option<Builtin> {
        Builtin::ALL.into_iter().find(|b| b.port() == port)
    }
}

/// What answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Answer {
    /// A program, started on demand.
    #[default]
    Program,
    Builtin(Builtin),
    /// Another host: bytes go there and back.
    Redirect(Target),
    /// The service that the client's first line names (RFC 1078).
    Tcpmux,
    /// Nobody: whoever comes is kept out of every service for that long.
    Sensor(DenyTime),
    /// The firmware, by a service of its own: its place among [`Options::own`](crate::config::Options::own).
    Own(u8),
}

/// Where `redirect` leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Target {
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Host {
    Address(IpAddr),
    /// A name that is looked up for each client.
    Name(Text),
}

/// deny_time: how long a sensor keeps its clients out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum DenyTime {
    /// They are recorded, no more.
    #[default]
    Never,
    Minutes(u32),
    /// Until the daemon ends.
    Forever,
}

/// Where a server's standard error goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Stderr {
    /// To the client, as inetd and xinetd have it.
    #[default]
    Client,
    /// Line by line to the daemon's log, with the service's name.
    Log,
    Null,
}

/// How a server is told who its client is, in front of what the client says (`proxy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Proxy {
    #[default]
    No,
    /// A line.
    V1,
    /// In binary.
    V2,
}

/// One bit per yes-or-no property of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Flags(pub u32);

impl Flags {
    /// The server owns the listening or datagram socket until it ends.
    pub const WAIT: Flags = Flags(1 << 0);
    /// The first word of server_args is `argv[0]` (xinetd's NAMEINARGS; always so for inetd.conf).
    pub const NAME_IN_ARGS: Flags = Flags(1 << 1);
    pub const NODELAY: Flags = Flags(1 << 2);
    pub const KEEPALIVE: Flags = Flags(1 << 3);
    /// Supplementary groups of the user are set (xinetd's `groups = yes`, always so for inetd.conf); else none.
    pub const GROUPS: Flags = Flags(1 << 4);
    /// A failed fork is not tried again.
    pub const NORETRY: Flags = Flags(1 << 5);
    /// `%a %r %A %R %d %%` in arguments are replaced (ours).
    pub const EXPAND: Flags = Flags(1 << 6);
    /// LISTEN_FDS and LISTEN_PID are set and the socket is on descriptor 3 too (ours).
    pub const LISTEN_FDS: Flags = Flags(1 << 7);
    /// Only what `passenv` names is passed; else the daemon's whole environment.
    pub const PASSENV: Flags = Flags(1 << 8);
    /// hosts.allow and hosts.deny apply, to the daemon name [`Service::daemon`].
    pub const LIBWRAP: Flags = Flags(1 << 9);
    /// The service is named in services(5) or meant to be; else UNLISTED.
    pub const UNLISTED: Flags = Flags(1 << 10);
    /// The IPv6 half of an entry that names no family: where the kernel has no IPv6 it is silently off.
    pub const IF_IPV6: Flags = Flags(1 << 12);
    /// `only_from` was given, even if it names nobody: whoever it does not name is refused.
    pub const ONLY_FROM: Flags = Flags(1 << 11);
    /// Reached through tcpmux by its name: it has no socket of its own (types TCPMUX and TCPMUXPLUS).
    pub const MUX: Flags = Flags(1 << 13);
    /// The daemon answers `+Go` before the server starts (TCPMUXPLUS).
    pub const MUX_PLUS: Flags = Flags(1 << 14);
    /// Only clients whose ident server names a user (IDONLY).
    pub const IDONLY: Flags = Flags(1 << 15);
    /// A reload applies access rules and limits to servers that run (ours).
    pub const RECHECK: Flags = Flags(1 << 16);
    /// The server that owns the socket is started before anybody comes, and again when it has ended (ours).
    pub const KEEP: Flags = Flags(1 << 17);
    /// Other daemons of the same user may listen there as well (ours).
    pub const REUSE_PORT: Flags = Flags(1 << 18);

    pub const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }

    pub const fn with(self, flag: Flags) -> Flags {
        Flags(self.0 | flag.0)
    }

    pub const fn without(self, flag: Flags) -> Flags {
        Flags(self.0 & !flag.0)
    }
}

/// The resources setrlimit(2) bounds, as far as xinetd.conf names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Resource {
    As,
    Cpu,
    Data,
    Rss,
    Stack,
    Files,
}

impl Resource {
    pub const ALL: [Resource; 6] =
        [Resource::As, Resource::Cpu, Resource::Data, Resource::Rss, Resource::Stack, Resource::Files];
}

/// Soft and hard limit of a resource, set to the same value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Limit {
    /// What the daemon itself has (`files`: the daemon's hard limit, as in xinetd).
    #[default]
    Inherit,
    /// Bytes; seconds for `cpu`; descriptors for `files`.
    To(u64),
    Unlimited,
}

/// Which facts a START, EXIT or FAIL line carries (log_on_success, log_on_failure).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct LogFields(pub u8);

impl LogFields {
    pub const PID: LogFields = LogFields(1 << 0);
    pub const HOST: LogFields = LogFields(1 << 1);
    pub const USERID: LogFields = LogFields(1 << 2);
    pub const EXIT: LogFields = LogFields(1 << 3);
    pub const DURATION: LogFields = LogFields(1 << 4);
    pub const TRAFFIC: LogFields = LogFields(1 << 5);
    pub const ATTEMPT: LogFields = LogFields(1 << 6);

    pub const fn has(self, field: LogFields) -> bool {
        self.0 & field.0 == field.0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Where a service's records go (log_type).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum LogType {
    /// The daemon's own log. xinetd writes such records nowhere; a refusal nobody can see helps nobody.
    #[default]
    Daemon,
    /// Facility 0 to 23 and severity 0 to 7 of RFC 5424.
    Syslog {
        facility: u8,
        level: u8,
    },
    File(LogFile),
}

/// A file that records are appended to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct LogFile {
    pub path: Text,
    /// Bytes at which a warning is logged; 0: never.
    pub soft: u32,
    /// Bytes at which writing stops; 0: never.
    pub hard: u32,
}

/// The identity a server runs with, looked up when the file is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Identity {
    /// `None`: the daemon's own.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Supplementary groups, a range of the table's `gids`; set only with [`Flags::GROUPS`].
    pub groups: Span,
}

impl Identity {
    /// Whether servers can become somebody else, if the daemon can.
    pub fn is_root(&self) -> bool {
        self.uid.is_none_or(|uid| uid == 0)
    }
}

/// `cps`: more than `rate` connections a second pause the service for `pause` seconds. 0 and 0 switch it off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Cps {
    pub rate: u32,
    pub pause: u32,
}

/// An inclusive range of minutes of the day, 0 to 1439, in local time (access_times).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Minutes {
    pub from: u16,
    pub to: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Service {
    /// The name in services(5), or any name if unlisted.
    pub name: Text,
    /// What logs and reloads know it by; the name unless the file says otherwise.
    pub id: Text,
    pub file: Text,
    /// The line the service begins on, from 1.
    pub line: u32,
    pub dialect: Dialect,
    pub standing: Standing,
    pub answer: Answer,
    pub socket: SocketType,
    pub family: Family,
    pub bind: Bind,
    /// 0: any free port (and unix sockets).
    pub port: u16,
    pub flags: Flags,
    /// The program's path, NUL-terminated in the table.
    pub program: Text,
    /// argv, `argv[0]` included: a range of the table's `words`.
    pub argv: Span,
    /// `NAME=value` words, a range of `words`.
    pub env: Span,
    /// Names to pass, a range of `words`; only with [`Flags::PASSENV`].
    pub passenv: Span,
    pub identity: Identity,
    /// File mode creation mask of the server; `None`: the daemon's, with 022 added.
    pub umask: Option<u16>,
    /// Added to the daemon's own nice value.
    pub nice: Option<i8>,
    pub rlimits: [Limit; 6],
    /// Servers at one time; `None`: as many as fit.
    pub instances: Option<u32>,
    /// Servers at one time for one client address.
    pub per_source: Option<u32>,
    pub cps: Option<Cps>,
    /// Refuse while the 1-minute load average is at least this, in hundredths.
    pub max_load: Option<u32>,
    /// Starts per minute (inetd's `nowait.N` and its relatives); then a pause to the end of that minute.
    pub per_minute: Option<u32>,
    /// Starts per minute for one client address (FreeBSD's third number, NetBSD's ip_max).
    pub per_minute_source: Option<u32>,
    /// Seconds that a client may be served, or a server may run; 0: for ever (ours).
    pub timeout: u32,
    /// Seconds in which nothing comes and nothing can be sent, after which a client or a server that owns its socket is
    /// told to end; 0: for ever (ours).
    pub idle_timeout: u32,
    /// Servers that are started ahead, to wait for clients (ours).
    pub standby: u16,
    pub proxy: Proxy,
    /// The daemon name of hosts.allow(5) and hosts.deny(5); with [`Flags::LIBWRAP`].
    pub daemon: Text,
    /// Range of the table's `rules`; with [`Flags::ONLY_FROM`] whoever is not in it is refused.
    pub only_from: Span,
    pub no_access: Span,
    /// Range of the table's `times`; empty: always.
    pub access_times: Span,
    /// Files sent to every client before anything is checked, to one that is let in, to one that is refused.
    pub banner: Text,
    pub banner_success: Text,
    pub banner_fail: Text,
    pub log_type: LogType,
    pub log_on_success: LogFields,
    pub log_on_failure: LogFields,
    pub stderr: Stderr,
    /// SO_SNDBUF and SO_RCVBUF in bytes; 0: the kernel's choice.
    pub send_buffer: u32,
    pub receive_buffer: u32,
    /// Connections the kernel holds until they are taken; 0: [`DEFAULT_BACKLOG`].
    pub backlog: u16,
    /// Owner and mode of a unix socket's node.
    pub node_mode: Option<u16>,
    pub node_uid: Option<u32>,
    pub node_gid: Option<u32>,
}

/// listen(2)'s backlog where none is set. The kernel caps it at net.core.somaxconn.
pub const DEFAULT_BACKLOG: u16 = 1024;

impl Service {
    /// How many connections the kernel holds for it until they are taken, and about as many datagrams; none, if they are
    /// its server's to take.
    pub fn most_waiting(&self) -> u16 {
        let backlog = if self.backlog == 0 { DEFAULT_BACKLOG } else { self.backlog };
        // listen(2) gives one more.
        if self.is_owned_by_server() { 0 } else { backlog.saturating_add(1) }
    }

    pub const fn waits(&self) -> bool {
        self.flags.has(Flags::WAIT)
    }

    /// `tcp`, `udp` or `unix`, for people.
    pub const fn protocol_name(&self) -> &'static str {
        match (self.family, self.socket) {
            (Family::Unix, _) => "unix",
            (_, SocketType::Stream) => "tcp",
            (_, SocketType::Dgram) => "udp",
        }
    }

    pub const fn builtin(&self) -> Option<Builtin> {
        match self.answer {
            Answer::Builtin(builtin) => Some(builtin),
            _ => None,
        }
    }

    /// Whether a program answers, which may own the service's socket.
    pub const fn is_program(&self) -> bool {
        matches!(self.answer, Answer::Program)
    }

    /// Whether its servers get its socket itself, to take from it what they like.
    pub fn is_owned_by_server(&self) -> bool {
        self.is_program() && (self.waits() || self.socket == SocketType::Dgram)
    }
}
