//! Every attribute of a service, once.
//!
//! The parser's look-up, the check of operators and value counts, the guess behind an unknown name, the text of
//! `usherd -help attributes` and docs/attributes.md all come from [`ATTRIBUTES`].

#![forbid(unsafe_code)]

use core::fmt;

use super::init;
use crate::boot;
use crate::service::LogFields;

/// Which attribute. The order is that of xinetd.conf(5), then ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Key {
    Id,
    Type,
    Flags,
    Disable,
    SocketType,
    Protocol,
    Wait,
    User,
    Group,
    Groups,
    Instances,
    Nice,
    Server,
    ServerArgs,
    Libwrap,
    OnlyFrom,
    NoAccess,
    AccessTimes,
    LogType,
    LogOnSuccess,
    LogOnFailure,
    RpcVersion,
    RpcNumber,
    Env,
    Passenv,
    Port,
    Redirect,
    Bind,
    V6only,
    Banner,
    BannerSuccess,
    BannerFail,
    PerSource,
    Cps,
    MaxLoad,
    Umask,
    Enabled,
    Disabled,
    RlimitAs,
    RlimitCpu,
    RlimitData,
    RlimitRss,
    RlimitStack,
    RlimitFiles,
    DenyTime,
    Mdns,
    Stderr,
    Expand,
    ListenFds,
    Backlog,
    Rcvbuf,
    Sndbuf,
    SocketMode,
    SocketUser,
    SocketGroup,
    Recheck,
    Timeout,
    IdleTimeout,
    Keep,
    Standby,
    Proxy,
}

/// How many keys there are.
pub const KEYS: usize = Key::Proxy as usize + 1;

/// A set of attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Given(u64);

const _: () = assert!(KEYS <= 64);

impl Given {
    pub const fn has(self, key: Key) -> bool {
        self.0 & (1 << key as u64) != 0
    }

    pub fn add(&mut self, key: Key) {
        self.0 |= 1 << key as u64;
    }
}

/// The sections an attribute may stand in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Service,
    Defaults,
    Both,
}

impl Place {
    pub const fn text(self) -> &'static str {
        match self {
            Place::Service => "service",
            Place::Defaults => "defaults",
            Place::Both => "service, defaults",
        }
    }
}

/// The operators an attribute takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operators {
    /// `=`, once in a section.
    Once,
    /// `=` and `+=`, as often as wanted.
    Grow,
    /// `=`, `+=` and `-=`, as often as wanted.
    Edit,
}

impl Operators {
    pub const fn text(self) -> &'static str {
        match self {
            Operators::Once => "=",
            Operators::Grow => "= +=",
            Operators::Edit => "= += -=",
        }
    }
}

/// How many values an attribute takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    One,
    Two,
    /// One or more.
    Some,
    /// Any number; none at all means something too.
    Any,
}

impl Count {
    pub const fn admits(self, count: usize) -> bool {
        match self {
            Count::One => count == 1,
            Count::Two => count == 2,
            Count::Some => count > 0,
            Count::Any => true,
        }
    }

    pub const fn text(self) -> &'static str {
        match self {
            Count::One => "one value",
            Count::Two => "two values",
            Count::Some => "at least one value",
            Count::Any => "any number of values",
        }
    }
}

/// What becomes of an attribute in this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Enforced,
    /// Understood, but nothing acts on it yet: a service that asks for it is kept from starting.
    NotYet,
    /// Means nothing here and never will.
    Never,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    pub name: &'static str,
    pub key: Key,
    pub place: Place,
    pub operators: Operators,
    pub count: Count,
    /// What to write behind the operator.
    pub values: &'static str,
    /// What holds without it.
    pub default: &'static str,
    pub help: &'static str,
    pub effect: Effect,
}

impl Attribute {
    /// The attribute of a name, letters of either case.
    pub fn by_name(name: &[u8]) -> Option<&'static Attribute> {
        ATTRIBUTES.iter().find(|a| name.eq_ignore_ascii_case(a.name.as_bytes()))
    }

    /// The name most like `name`, if one is like enough to have been meant.
    pub fn nearest(name: &[u8]) -> Option<&'static str> {
        nearest(name, ATTRIBUTES.iter().map(|a| a.name))
    }

    const fn not_yet(mut self) -> Attribute {
        self.effect = Effect::NotYet;
        self
    }

    const fn grows(mut self) -> Attribute {
        self.operators = Operators::Grow;
        self
    }

    const fn never(mut self) -> Attribute {
        self.effect = Effect::Never;
        self
    }
}

const fn row(
    name: &'static str,
    key: Key,
    place: Place,
    count: Count,
    values: &'static str,
    default: &'static str,
    help: &'static str,
) -> Attribute {
    let operators = match count {
        Count::Any => Operators::Edit,
        _ => Operators::Once,
    };
    Attribute { name, key, place, operators, count, values, default, help, effect: Effect::Enforced }
}

use Count::{Any, One, Some as Many, Two};
use Place::{Both, Defaults, Service};

// Two lines a row: what it is, and what it means.
#[rustfmt::skip]
pub static ATTRIBUTES: [Attribute; KEYS + 1] = [
    row("id", Key::Id, Service, One, "NAME", "the service's name",
        "what logs, `enabled`, `disabled` and a reload know the service by"),
    row("type", Key::Type, Service, Many, "INTERNAL | UNLISTED ...", "none",
        "what kind of service it is, see below"),
    row("flags", Key::Flags, Service, Many, "FLAG ...", "none",
        "see below"),
    row("disable", Key::Disable, Service, One, "yes | no", "no",
        "yes: the service is off; what is wrong with its section is a warning"),
    row("socket_type", Key::SocketType, Service, One, "stream | dgram", "from protocol",
        "stream for TCP, dgram for UDP, either for unix sockets"),
    row("protocol", Key::Protocol, Service, One, "tcp | udp | unix | tcp4 | tcp6 | udp4 | udp6", "from socket_type",
        "4 or 6 behind it tells the family; `unix` needs `bind = /PATH`"),
    row("wait", Key::Wait, Service, One, "yes | no", "must be given",
        "yes: the server gets the listening socket itself and owns it until it ends; no: one server for each connection"),
    row("user", Key::User, Service, One, "NAME or UID", "must be given for a program",
        "who the server runs as; looked up in passwd(5) when the file is read"),
    row("group", Key::Group, Service, One, "NAME or GID", "the user's group; the same number for a UID",
        "the server's group; looked up in group(5) when the file is read"),
    row("groups", Key::Groups, Both, One, "yes | no", "no",
        "yes: the server also has every group that lists its user; no: none but its own"),
    row("instances", Key::Instances, Both, One, "NUMBER | UNLIMITED", "UNLIMITED",
        "servers of the service at one time; 0 refuses everybody"),
    row("nice", Key::Nice, Service, One, "NUMBER (-20 to 19)", "unchanged",
        "added to the daemon's nice value, while still privileged"),
    row("server", Key::Server, Service, One, "/PATH", "must be given for a program",
        "the program to start; must be there and executable"),
    row("server_args", Key::ServerArgs, Service, Many, "WORD ...", "none",
        "the arguments, without argv[0] unless the flag NAMEINARGS is set"),
    row("libwrap", Key::Libwrap, Service, One, "NAME | yes | no", "base name of the server, or of argv[0] with NAMEINARGS; the service's name if no program answers",
        "the daemon name in hosts.allow(5) and hosts.deny(5); no: they do not apply"),
    row("only_from", Key::OnlyFrom, Both, Any, "ADDRESS ...", "everybody",
        "who may connect; given without a value: nobody. Addresses and names, see below"),
    row("no_access", Key::NoAccess, Both, Any, "ADDRESS ...", "nobody",
        "who may not connect; where only_from has a client too, the more specific of the two holds, and a tie refuses"),
    row("access_times", Key::AccessTimes, Service, Many, "H:MM-H:MM ...", "always",
        "when clients may connect, in local time, both ends included; up to 24:00, not over midnight"),
    row("log_type", Key::LogType, Both, Many, "SYSLOG FACILITY [LEVEL] | FILE /PATH [SOFT [HARD]]", "the daemon's log",
        "where the service's records go; sizes in bytes, K or M"),
    row("log_on_success", Key::LogOnSuccess, Both, Any, "PID | HOST | USERID | EXIT | DURATION | TRAFFIC ...", "nothing",
        "what records of clients tell; USERID: the user that the client's ident server names; TRAFFIC: the bytes of `redirect`, `standby` and built-in stream services"),
    row("log_on_failure", Key::LogOnFailure, Both, Any, "HOST | USERID | ATTEMPT ...", "nothing",
        "what FAIL records tell; USERID: the user that the client's ident server names"),
    row("rpc_version", Key::RpcVersion, Service, One, "N or N-M", "none",
        "versions an RPC service registers").not_yet(),
    row("rpc_number", Key::RpcNumber, Service, One, "NUMBER", "from rpc(5)",
        "program number of an unlisted RPC service").not_yet(),
    row("env", Key::Env, Service, Any, "NAME=VALUE ...", "none",
        "added to the server's environment; \"NAME=VALUE\" in quotes may hold blanks").grows(),
    row("passenv", Key::Passenv, Both, Any, "NAME ...", "everything",
        "what the server gets of the daemon's environment; given without a value: nothing"),
    row("port", Key::Port, Service, One, "0 to 65535", "from services(5)",
        "must be the one in services(5) unless the service is UNLISTED; 0: any free port"),
    row("redirect", Key::Redirect, Service, Two, "HOST PORT", "none",
        "hand the connection on to another host, whose bytes come back; `server` and `user` are not needed. PORT: a number or a name in services(5). HOST: an address, a name in hosts(5), looked up when the file is read, or any other name, looked up for each client"),
    row("bind", Key::Bind, Both, One, "ADDRESS, name of hosts(5), INTERFACE, or /PATH with `protocol = unix`", "every address",
        "where to listen"),
    row("interface", Key::Bind, Both, One, "as bind", "every address",
        "another name of bind"),
    row("v6only", Key::V6only, Both, One, "yes | no", "no",
        "yes: IPv6 clients alone, even on the wildcard address"),
    row("banner", Key::Banner, Both, One, "/PATH", "none",
        "a file to send to every client before anything is checked; stream services with wait = no"),
    row("banner_success", Key::BannerSuccess, Both, One, "/PATH", "none",
        "a file to send to a client that is let in; stream services with wait = no"),
    row("banner_fail", Key::BannerFail, Both, One, "/PATH", "none",
        "a file to send to a client that is refused; stream services with wait = no"),
    row("per_source", Key::PerSource, Both, One, "NUMBER | UNLIMITED", "UNLIMITED",
        "servers of the service at one time for one client address"),
    row("cps", Key::Cps, Both, Two, "RATE SECONDS", "50 10",
        "more than RATE connections a second pause the service for SECONDS; 0 0 switches it off"),
    row("max_load", Key::MaxLoad, Both, One, "NUMBER (1.5)", "off",
        "refuse while the one-minute load average is this or more"),
    row("umask", Key::Umask, Both, One, "octal, 0 to 777", "the daemon's, with 022 added",
        "file mode creation mask of the server"),
    row("enabled", Key::Enabled, Defaults, Any, "ID ...", "all",
        "only these services run").grows(),
    row("disabled", Key::Disabled, Defaults, Any, "ID ...", "none",
        "these services do not run, even if enabled").grows(),
    row("rlimit_as", Key::RlimitAs, Service, One, "BYTES, with K, M or G | UNLIMITED", "the daemon's",
        "address space of the server"),
    row("rlimit_cpu", Key::RlimitCpu, Service, One, "SECONDS | UNLIMITED", "the daemon's",
        "processor time of the server"),
    row("rlimit_data", Key::RlimitData, Service, One, "BYTES, with K, M or G | UNLIMITED", "the daemon's",
        "data segment of the server"),
    row("rlimit_rss", Key::RlimitRss, Service, One, "BYTES, with K, M or G | UNLIMITED", "the daemon's",
        "resident set of the server"),
    row("rlimit_stack", Key::RlimitStack, Service, One, "BYTES, with K, M or G | UNLIMITED", "the daemon's",
        "stack of the server"),
    row("rlimit_files", Key::RlimitFiles, Service, One, "NUMBER, with K or M | UNLIMITED", "the daemon's hard limit",
        "descriptors of the server"),
    row("deny_time", Key::DenyTime, Service, One, "MINUTES | FOREVER | NEVER", "NEVER",
        "how long a SENSOR keeps its clients out of every service; NEVER: they are recorded, no more"),
    row("mdns", Key::Mdns, Both, One, "yes | no", "no",
        "gone from xinetd since 2017; no effect").never(),
    row("stderr", Key::Stderr, Service, One, "client | log | null", "client",
        "where the server's standard error goes; log: 200 lines in 10 seconds, the rest is counted"),
    row("expand", Key::Expand, Service, One, "yes | no", "no",
        "replace in server_args: %a %r address and port of the client, %A %R ours, %d the service's id, %% a percent sign"),
    row("listen_fds", Key::ListenFds, Service, One, "yes | no", "no",
        "pass the socket as sd_listen_fds(3) expects it too: on descriptor 3, with LISTEN_FDS and LISTEN_PID"),
    row("backlog", Key::Backlog, Service, One, "1 to 65535", "1024",
        "connections the kernel holds until they are taken; net.core.somaxconn caps it"),
    row("rcvbuf", Key::Rcvbuf, Service, One, "BYTES, with K or M", "the kernel's",
        "receive buffer of the socket"),
    row("sndbuf", Key::Sndbuf, Service, One, "BYTES, with K or M", "the kernel's",
        "send buffer of the socket"),
    row("socket_mode", Key::SocketMode, Service, One, "octal, 0 to 777", "666",
        "mode of a unix socket's node"),
    row("socket_user", Key::SocketUser, Service, One, "NAME or UID", "the daemon",
        "owner of a unix socket's node"),
    row("socket_group", Key::SocketGroup, Service, One, "NAME or GID", "the daemon's",
        "group of a unix socket's node"),
    row("recheck", Key::Recheck, Both, One, "yes | no", "no",
        "yes: a reload applies access rules and limits to servers that run, and ends those that may not be there any more (SIGTERM)"),
    row("timeout", Key::Timeout, Both, One, "SECONDS | UNLIMITED", "UNLIMITED",
        "how long a client may be served: then his connection is closed, or his server told to end (SIGTERM, five seconds later SIGKILL)"),
    row("idle_timeout", Key::IdleTimeout, Both, One, "SECONDS | UNLIMITED", "UNLIMITED",
        "how long a client of `redirect`, `standby` or of a built-in stream service may be there without a byte that comes or can be sent; of datagrams with wait = yes: how long a server may stay that takes none, up to a quarter longer. Then as `timeout`. Of other servers the daemon does not see what they do"),
    row("keep", Key::Keep, Service, One, "yes | no", "no",
        "yes: the server of a service with wait = yes is started before anybody comes, and again when it has ended"),
    row("standby", Key::Standby, Service, One, "NUMBER", "0",
        "servers that are started before anybody comes, each to wait for one client; stream services with wait = no. A server then has one end of a socket pair, knows no address of its client (see `proxy`), and what is said passes the daemon"),
    row("proxy", Key::Proxy, Service, One, "v1 | v2", "nothing",
        "with `standby` or `redirect`: tell the server, or the other host, who the client is by the header of the PROXY protocol of that version, in front of what the client says"),
];

/// A word of `flags` or `type`.
#[derive(Clone, Copy, Debug)]
pub struct Choice<T> {
    pub name: &'static str,
    pub meaning: T,
    pub help: &'static str,
    pub effect: Effect,
}

/// The word meant, letters of either case.
pub fn choice<T>(choices: &'static [Choice<T>], word: &[u8]) -> Option<&'static Choice<T>> {
    choices.iter().find(|c| word.eq_ignore_ascii_case(c.name.as_bytes()))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    Reuse,
    Intercept,
    NoRetry,
    IdOnly,
    NameInArgs,
    NoDelay,
    KeepAlive,
    NoLibwrap,
    Sensor,
    V4,
    V6,
    Labeled,
    ReusePort,
}

const fn flag(name: &'static str, meaning: Flag, effect: Effect, help: &'static str) -> Choice<Flag> {
    Choice { name, meaning, help, effect }
}

pub static FLAGS: [Choice<Flag>; 13] = [
    flag("REUSE", Flag::Reuse, Effect::Enforced, "nothing: SO_REUSEADDR is always set"),
    flag(
        "INTERCEPT",
        Flag::Intercept,
        Effect::Enforced,
        "check every peer of a wait = yes server: done always, in the kernel, by address",
    ),
    flag("NORETRY", Flag::NoRetry, Effect::Enforced, "do not try again when a process could not be made"),
    flag("IDONLY", Flag::IdOnly, Effect::Enforced, "only clients whose ident server names a user"),
    flag(
        "NAMEINARGS",
        Flag::NameInArgs,
        Effect::Enforced,
        "the first word of server_args is argv[0], wherever the flag stands",
    ),
    flag("NODELAY", Flag::NoDelay, Effect::Enforced, "set TCP_NODELAY"),
    flag("KEEPALIVE", Flag::KeepAlive, Effect::Enforced, "set SO_KEEPALIVE"),
    flag("NOLIBWRAP", Flag::NoLibwrap, Effect::Enforced, "hosts.allow(5) and hosts.deny(5) do not apply"),
    flag(
        "SENSOR",
        Flag::Sensor,
        Effect::Enforced,
        "whoever connects is kept out of every service for deny_time, but not from a server that takes its clients itself (wait = yes); needs no server",
    ),
    flag("IPv4", Flag::V4, Effect::Enforced, "IPv4 clients alone"),
    flag(
        "IPv6",
        Flag::V6,
        Effect::Enforced,
        "an IPv6 socket, which takes IPv4 clients too unless v6only or an IPv4 service on the same port says otherwise",
    ),
    flag("LABELED", Flag::Labeled, Effect::NotYet, "run the server in the SELinux context of its client"),
    flag(
        "REUSEPORT",
        Flag::ReusePort,
        Effect::Enforced,
        "set SO_REUSEPORT: several daemons listen on the port, and the kernel deals clients out; limits are each daemon's own",
    ),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Rpc,
    Internal,
    Unlisted,
    Tcpmux,
    TcpmuxPlus,
}

pub static TYPES: [Choice<Type>; 5] = [
    Choice {
        name: "RPC",
        meaning: Type::Rpc,
        help: "registered with the portmapper",
        effect: Effect::NotYet,
    },
    Choice {
        name: "INTERNAL",
        meaning: Type::Internal,
        help: "answered by the daemon: echo, discard, chargen, daytime, time; tcpmux",
        effect: Effect::Enforced,
    },
    Choice {
        name: "UNLISTED",
        meaning: Type::Unlisted,
        help: "not looked up in services(5); needs a port",
        effect: Effect::Enforced,
    },
    Choice {
        name: "TCPMUX",
        meaning: Type::Tcpmux,
        help: "reached through tcpmux by its name, without a port of its own; the server answers for itself",
        effect: Effect::Enforced,
    },
    Choice {
        name: "TCPMUXPLUS",
        meaning: Type::TcpmuxPlus,
        help: "the same; the daemon answers +Go",
        effect: Effect::Enforced,
    },
];

/// What log_on_success takes.
pub static SUCCESS: [(&str, LogFields); 6] = [
    ("PID", LogFields::PID),
    ("HOST", LogFields::HOST),
    ("USERID", LogFields::USERID),
    ("EXIT", LogFields::EXIT),
    ("DURATION", LogFields::DURATION),
    ("TRAFFIC", LogFields::TRAFFIC),
];

/// What log_on_failure takes.
pub static FAILURE: [(&str, LogFields); 3] =
    [("HOST", LogFields::HOST), ("USERID", LogFields::USERID), ("ATTEMPT", LogFields::ATTEMPT)];

/// Facilities of syslog(3) with their numbers in RFC 5424.
pub static FACILITIES: [(&str, u8); 17] = [
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("user", 1),
    ("mail", 2),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

pub static LEVELS: [(&str, u8); 8] = [
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];

/// The value beside a word of a list, letters of either case.
pub fn value_of<T: Copy>(list: &'static [(&'static str, T)], word: &[u8]) -> Option<T> {
    list.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| *value)
}

/// Of `names` the one most like `word`: at most two letters added, dropped or changed, and fewer than half.
pub fn nearest(word: &[u8], names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    names
        .map(|name| (distance(word, name.as_bytes()), name))
        .filter(|(distance, name)| *distance <= 2 && distance * 2 < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein's distance, letters of either case; large for words longer than any name here.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const LONGEST: usize = 24;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX / 4;
    }
    // One row of the matrix: the cost of turning the bytes of `a` seen so far into each beginning of `b`.
    let mut row = [0; LONGEST + 1];
    for (i, cost) in row.iter_mut().enumerate() {
        *cost = i;
    }
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cost, y) in row.iter_mut().skip(1).zip(b) {
            let change = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = *cost;
            left = change.min(diagonal + 1).min(left + 1);
            *cost = left;
        }
    }
    row.get(b.len()).copied().unwrap_or(usize::MAX / 4)
}

/// All attributes for a terminal, as `usherd -help attributes` prints them.
pub struct Help;

impl fmt::Display for Help {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attributes of a section, with the operators they take:\n")?;
        for a in &ATTRIBUTES {
            write!(f, "\n  {} {} {}\n", a.name, a.operators.text(), a.values)?;
            writeln!(f, "      {}", a.help)?;
            writeln!(f, "      in: {}; without it: {}{}", a.place.text(), a.default, note(a.effect))?;
        }
        f.write_str("\nflags:\n")?;
        for c in &FLAGS {
            writeln!(f, "  {:<11} {}{}", c.name, c.help, note(c.effect))?;
        }
        f.write_str("\ntype:\n")?;
        for c in &TYPES {
            writeln!(f, "  {:<11} {}{}", c.name, c.help, note(c.effect))?;
        }
        f.write_str("\naddresses of only_from and no_access:\n")?;
        for (form, meaning) in ADDRESSES {
            writeln!(f, "  {form:<18} {meaning}")?;
        }
        init::help(f)
    }
}

const fn note(effect: Effect) -> &'static str {
    match effect {
        Effect::NotYet => "; NOT ENFORCED by this version: keeps the service from starting",
        Effect::Enforced | Effect::Never => "",
    }
}

/// The address forms of only_from and no_access.
pub const ADDRESSES: [(&str, &str); 9] = [
    ("192.0.2.5", "this address; zeros at the end stand for anything: 192.0.2.0 is 192.0.2.0/24"),
    ("0.0.0.0", "every IPv4 address"),
    ("192.0.2.0/26", "a network"),
    (
        "192.0.{2,3,8}",
        "several networks: the last number given is one of these, those behind it are anything",
    ),
    ("2001:db8::7", "this address"),
    ("2001:db8::/32", "a network; ::/0 is every IPv6 address and no IPv4 address"),
    ("mgmt", "a name in hosts(5): its addresses there, looked up when the file is read"),
    (
        "host.example.org",
        "any other name: clients whose address leads to this name and whose name leads back to their address, looked up \
         when they connect; not for servers that own their socket. Names of networks(5) are not looked up",
    ),
    (".example.org", "the same for all names that end so; less specific than any network"),
];

/// All attributes as docs/attributes.md.
pub struct Page;

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(concat!(
            "# Attributes\n\n",
            "What may stand in a `service` or `defaults` section of usherd.conf and xinetd.conf. This page is\n",
            "written from the table the parser itself uses (`src/config/attr.rs`); `usherd -help attributes` prints\n",
            "the same. An attribute marked **not enforced** is understood, but nothing acts on it yet: a service\n",
            "that asks for it is kept from starting rather than left unprotected.\n\n",
            "| attribute | in | operators | values | without it | meaning |\n|---|---|---|---|---|---|\n",
        ))?;
        for a in &ATTRIBUTES {
            let (place, operators) = (a.place.text(), a.operators.text());
            write!(f, "| `{}` | {place} | `{operators}` | {} | ", a.name, Cell(a.values))?;
            writeln!(f, "{} | {}{} |", Cell(a.default), Cell(a.help), mark(a.effect))?;
        }
        f.write_str("\n## flags\n\n| flag | meaning |\n|---|---|\n")?;
        for c in &FLAGS {
            writeln!(f, "| `{}` | {}{} |", c.name, Cell(c.help), mark(c.effect))?;
        }
        f.write_str("\n## type\n\n| type | meaning |\n|---|---|\n")?;
        for c in &TYPES {
            writeln!(f, "| `{}` | {}{} |", c.name, Cell(c.help), mark(c.effect))?;
        }
        f.write_str("\n## Addresses of only_from and no_access\n\n| form | meaning |\n|---|---|\n")?;
        for (form, meaning) in ADDRESSES {
            writeln!(f, "| `{form}` | {} |", Cell(meaning))?;
        }
        f.write_str(concat!(
            "\n## The section `init`\n\n",
            "What a machine needs whose first process is usherd ([boot.md](boot.md)), if it was built with the feature\n",
            "`init`; else the section is passed over with a warning. Each of them may also stand on the kernel's\n",
            "command line, as `usherd.NAME=VALUE,VALUE`.\n\n",
            "| attribute | values | without it | meaning |\n|---|---|---|---|\n",
        ))?;
        for a in &boot::ATTRIBUTES {
            writeln!(f, "| `{}` | {} | {} | {} |", a.name, Cell(a.values), Cell(a.default), Cell(a.help))?;
        }
        Ok(())
    }
}

const fn mark(effect: Effect) -> &'static str {
    match effect {
        Effect::NotYet => " (**not enforced**)",
        Effect::Enforced | Effect::Never => "",
    }
}

/// A text in a table of Markdown, where a bar would end the cell.
struct Cell(&'static str);

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.split('|').enumerate() {
            if i > 0 {
                f.write_str("\\|")?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/attributes.md");

    #[test]
    fn the_committed_page_is_the_table() {
        let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
        let hint = "run `cargo test --lib write_the_page -- --ignored`";
        assert!(committed == Page.to_string(), "docs/attributes.md is not what the table says: {hint}");
    }

    #[test]
    #[ignore = "writes docs/attributes.md"]
    fn write_the_page() {
        std::fs::write(PAGE, Page.to_string()).unwrap();
    }

    #[test]
    fn every_key_has_a_row_and_every_row_a_meaning() {
        for (i, a) in ATTRIBUTES.iter().enumerate() {
            assert!(!a.help.is_empty() && !a.values.is_empty() && !a.default.is_empty(), "{}", a.name);
            assert!(a.name == "interface" || Attribute::by_name(a.name.as_bytes()).unwrap().key == a.key);
            assert!(ATTRIBUTES.iter().skip(i + 1).all(|b| b.name != a.name), "{} twice", a.name);
        }
        let mut seen = Given::default();
        ATTRIBUTES.iter().for_each(|a| seen.add(a.key));
        assert_eq!(seen.0.count_ones() as usize, KEYS);
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(Attribute::nearest(b"bakclog"), Some("backlog"));
        assert_eq!(Attribute::nearest(b"only_form"), Some("only_from"));
        assert_eq!(Attribute::nearest(b"Servers"), Some("server"));
        assert_eq!(Attribute::nearest(b"logtype"), Some("log_type"));
        assert_eq!(Attribute::nearest(b"x"), None);
        assert_eq!(Attribute::nearest(b"bogusnet"), None);
        assert_eq!(Attribute::nearest(&[b'a'; 500]), None);
    }

    #[test]
    fn help_names_every_attribute() {
        let help = Help.to_string();
        assert!(ATTRIBUTES.iter().all(|a| help.contains(a.name)));
        assert!(help.contains("  nice = NUMBER (-20 to 19)\n"));
    }
}
