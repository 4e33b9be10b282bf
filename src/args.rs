//! The command line: usherd's own, xinetd's and the inetds', by the name the program is called by.
//!
//! xinetd's options are single-dash words and xinetd ignored those it did not know: a typing error started the daemon.
//! Here an unknown option is refused. The inetds' options are letters with values behind them.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::Vec;

use crate::capacity::STANDALONE_WORDS;
use crate::config::attr::{FACILITIES, value_of};
use crate::config::diagnostic::Bytes;
use crate::config::value::{self, number};
use crate::service::Dialect;

/// Whose command line it is: decided by the name the program was called by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Personality {
    Usherd,
    Xinetd,
    Inetd,
}

impl Personality {
    /// By the last component of `argv[0]`, so that a link named `inetd` or `xinetd` is enough.
    pub fn of(argv0: &[u8]) -> Personality {
        match argv0.rsplit(|b| *b == b'/').next() {
            Some(b"xinetd") => Personality::Xinetd,
            Some(b"inetd" | b"inetutils-inetd" | b"openbsd-inetd") => Personality::Inetd,
            _ => Personality::Usherd,
        }
    }

    /// The tag of log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Personality::Usherd => "usherd",
            Personality::Xinetd => "xinetd",
            Personality::Inetd => "inetd",
        }
    }

    /// Where the pid file is if nobody says otherwise.
    pub const fn pid_file(self) -> &'static [u8] {
        match self {
            Personality::Usherd => b"/run/usherd.pid",
            Personality::Xinetd => b"/run/xinetd.pid",
            Personality::Inetd => b"/run/inetd.pid",
        }
    }

    /// Where the state dump goes.
    pub const fn dump_file(self) -> &'static [u8] {
        match self {
            Personality::Xinetd => b"/run/xinetd.dump",
            _ => b"/run/usherd.dump",
        }
    }
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Task<'a> {
    #[default]
    Serve,
    /// -t: read the files, report, exit.
    Check,
    Help,
    /// The attributes of service sections.
    HelpAttributes,
    /// What the program was built with.
    HelpCapacities,
    Version,
    /// -match: tell whether that client may come in to that service, and by which rule.
    Match {
        service: &'a [u8],
        /// An address or a name.
        client: &'a [u8],
        /// Minute of the local day; `None`: now.
        at: Option<u16>,
    },
}

/// Where program messages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogTo<'a> {
    Syslog { facility: u8 },
    File(&'a [u8]),
    Stderr,
}

/// One service without a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standalone<'a> {
    pub is_udp: bool,
    /// `PORT`, `ADDRESS:PORT`, `[ADDRESS]:PORT`, with names allowed for both.
    pub place: &'a [u8],
    /// The name of a built-in service; else `program` is run.
    pub builtin: Option<&'a [u8]>,
    /// `attribute=value` words of -set.
    pub settings: Vec<&'a [u8], STANDALONE_WORDS>,
    /// Program and arguments.
    pub program: Vec<&'a [u8], STANDALONE_WORDS>,
}

/// A TAP device, and where the services behind it are to be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tap<'a> {
    pub name: &'a [u8],
    /// Address and bits of its network; `None`: a DHCP server tells.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// Besides the link-local one.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    pub router4: Option<Ipv4Addr>,
    pub router6: Option<Ipv6Addr>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    pub personality: Personality,
    pub task: Task<'a>,
    pub file: Option<&'a [u8]>,
    pub dialect: Option<Dialect>,
    /// -inetd_compat: /etc/inetd.conf as well.
    pub also_inetd_conf: bool,
    pub foreground: bool,
    pub debug: bool,
    pub stay_alive: bool,
    pub log_to: Option<LogTo<'a>>,
    /// `Some(None)`: none at all (inetutils' bare -p).
    pub pid_file: Option<Option<&'a [u8]>>,
    /// Most servers at one time.
    pub limit: Option<u32>,
    pub per_minute: Option<u32>,
    pub per_minute_source: Option<u32>,
    pub instances: Option<u32>,
    pub per_source: Option<u32>,
    pub backlog: Option<u16>,
    pub bind: Option<core::net::IpAddr>,
    /// -E: services of inetd.conf get the daemon's whole environment.
    pub keep_environment: bool,
    /// inetd's -l: every connection is logged, and hosts.allow and hosts.deny apply to nowait stream programs.
    pub log_connections: bool,
    /// FreeBSD's -w: hosts.allow and hosts.deny apply to the programs of inetd.conf.
    pub wrap_external: bool,
    /// FreeBSD's -W: the same for its internal services.
    pub wrap_internal: bool,
    /// The directory with hosts.allow and hosts.deny; `None`: /etc.
    pub hosts_dir: Option<&'a [u8]>,
    /// -recorder: an absolute path.
    pub recorder: Option<&'a [u8]>,
    pub standalone: Option<Standalone<'a>>,
    /// -tap: on a network stack of our own.
    pub tap: Option<Tap<'a>>,
    /// -ready-fd: the descriptor that is told when all services listen.
    pub ready_fd: Option<u16>,
}

impl Options<'_> {
    /// Whether what it says depends on the directory it is said in.
    pub fn has_relative_path(&self) -> bool {
        let is_relative = |path: Option<&[u8]>| path.is_some_and(|path| !path.starts_with(b"/"));
        self.standalone.is_some() || is_relative(self.file) || is_relative(self.hosts_dir)
    }

    /// What a machine's first process may be told: it serves, in front, on the kernel's network, and does not end.
    pub fn of_first_process(mut self) -> Self {
        self.task = Task::Serve;
        (self.foreground, self.stay_alive, self.tap) = (true, true, None);
        self
    }

    pub fn new(personality: Personality) -> Self {
        Options {
            personality,
            task: Task::Serve,
            file: None,
            dialect: match personality {
                Personality::Inetd => Some(Dialect::Inetd),
                Personality::Xinetd => Some(Dialect::Xinetd),
                Personality::Usherd => None,
            },
            also_inetd_conf: false,
            foreground: false,
            debug: false,
            stay_alive: false,
            log_to: None,
            pid_file: None,
            limit: None,
            per_minute: None,
            per_minute_source: None,
            instances: None,
            per_source: None,
            backlog: None,
            bind: None,
            keep_environment: false,
            log_connections: false,
            wrap_external: false,
            wrap_internal: false,
            hosts_dir: None,
            recorder: None,
            standalone: None,
            tap: None,
            ready_fd: None,
        }
    }
}

/// Why a command line is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misuse<'a> {
    Unknown(&'a [u8]),
    /// An option without its value.
    Missing(&'a [u8]),
    /// An option whose value is not one; what it should be.
    Bad {
        option: &'a [u8],
        value: &'a [u8],
        wanted: &'static str,
    },
    /// A word too many.
    Extra(&'a [u8]),
    /// Two options that exclude each other.
    Both(&'static str),
    /// -tcp or -udp without anything to run.
    NothingToRun,
    /// What cannot be done here.
    Unsupported {
        option: &'a [u8],
        why: &'static str,
    },
}

impl fmt::Display for Misuse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misuse::Unknown(option) => write!(f, "unknown option {}", Bytes(option)),
            Misuse::Missing(option) => write!(f, "option {} needs a value", Bytes(option)),
            Misuse::Bad { option, value, wanted } => {
                write!(f, "option {}: {} is not {wanted}", Bytes(option), Bytes(value))
            }
            // Forgetting `-f` is the first mistake there is.
            Misuse::Extra(word) if word.contains(&b'/') || word.ends_with(b".conf") => {
                write!(f, "unexpected word {0}; to read that file, write -f {0}", Bytes(word))
            }
            Misuse::Extra(word) => write!(f, "unexpected word {}", Bytes(word)),
            Misuse::Both(options) => write!(f, "{options} exclude each other"),
            Misuse::NothingToRun => f.write_str("-tcp and -udp need a program, or -builtin and a name"),
            Misuse::Unsupported { option, why } => write!(f, "option {}: {why}", Bytes(option)),
        }
    }
}

/// What `--help` prints.
pub const USAGE: &str = "\
usage: usherd [options]                          serve what the configuration file says
       usherd [options] -tcp [ADDR:]PORT PROGRAM [ARG...]   serve one program, no file
       usherd [options] -udp [ADDR:]PORT PROGRAM [ARG...]   the same for datagrams
       usherd [options] -tcp [ADDR:]PORT -builtin NAME      echo discard chargen daytime time

Files: -f FILE, else /etc/usherd.conf, /etc/xinetd.conf, /etc/inetd.conf, the first that exists.
With none of them, the built-in services are served on loopback, ports 10007 10009 10013 10019 10037.

  -f FILE            read this file; xinetd.conf or inetd.conf is told by its content
  -format xinetd|inetd   do not guess
  -inetd_compat      read /etc/inetd.conf as well, if there is one
  -t                 check the files, report every mistake, exit 0 or 1; nothing is served
  -match SERVICE CLIENT [-at TIME]   tell whether CLIENT, an address or a name, may come in to SERVICE, and by
                     which rule; at HH:MM, else now; nothing is served
  -dontfork, -d      stay in the foreground, log to standard error (-d: say more)
  -stayalive         run even with nothing to serve (so does -dontfork)
  -syslog FACILITY   messages to syslog (the default when in the background: daemon)
  -filelog FILE      messages to a file
  -recorder FILE     what is logged goes to FILE too, in frames that usherd-decode reads; when it is full it becomes
                     FILE.old; if usherd was built with the feature recorder
  -hosts DIR         hosts.allow and hosts.deny are in DIR, not in /etc
  -pidfile FILE      instead of /run/usherd.pid
  -ready-fd N        write a line to descriptor N when all services listen (s6)
  -limit N           at most N servers at one time
  -tap NAME [-address ADDR/BITS] [-router ADDR]   serve on a network stack of our own behind this TAP device, with
                     an address by DHCP or that one; in the foreground, if usherd was built with the feature tap
  -set ATTR=VALUE    with -tcp or -udp: any attribute of a service section, as only_from=127.0.0.1
  -help attributes   every attribute, with what it takes
  -help capacities   the limits this program was built with, and their memory
  -version, --help

Signals: HUP reads the files again, TERM ends all servers and exits, QUIT exits and leaves them,
USR1 writes /run/usherd.dump, USR2 goes on as the program that is in its place now and cuts nobody off.
Called as xinetd or inetd it takes those programs' options and files.
";

/// Reads a command line; the first word is the program's name.
pub fn parse<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Options<'a>, Misuse<'a>> {
    let mut words = words.peekable();
    let personality = Personality::of(words.next().unwrap_or(b"usherd"));
    let mut options = Options::new(personality);
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix(b"-").filter(|name| !name.is_empty()) else {
            // A plain word is inetd's file, or begins the standalone program.
            match &mut options.standalone {
                Some(standalone) if standalone.builtin.is_none() => {
                    for word in core::iter::once(word).chain(words) {
                        standalone.program.push(word).map_err(|_| Misuse::Extra(word))?;
                    }
                    return finish(options);
                }
                _ if personality == Personality::Inetd && options.file.is_none() => {
                    options.file = Some(word);
                    continue;
                }
                _ => return Err(Misuse::Extra(word)),
            }
        };
        if name == b"-" {
            let Some(standalone) = options.standalone.as_mut() else { return Err(Misuse::Extra(word)) };
            for word in words {
                standalone.program.push(word).map_err(|_| Misuse::Extra(word))?;
            }
            return finish(options);
        }
        let mut value = || words.next().ok_or(Misuse::Missing(word));
        if personality == Personality::Inetd && letters(name, word, &mut options, &mut value)? {
            continue;
        }
        let long = name.strip_prefix(b"-").unwrap_or(name);
        // As text, since bytes would be compared one by one, in several times the code.
        match str::from_utf8(long) {
            Ok("help" | "h" | "?") => {
                options.task = match words.peek() {
                    Some(&b"attributes") => Task::HelpAttributes,
                    Some(&b"capacities") => Task::HelpCapacities,
                    _ => Task::Help,
                };
                return Ok(options);
            }
            Ok("version") => {
                options.task = Task::Version;
                return Ok(options);
            }
            Ok("f") => options.file = Some(value()?),
            Ok("t") if matches!(options.task, Task::Match { .. }) => {
                return Err(Misuse::Both("-t and -match"));
            }
            Ok("t") => options.task = Task::Check,
            Ok("match") if options.task == Task::Check => return Err(Misuse::Both("-t and -match")),
            Ok("match") => options.task = Task::Match { service: value()?, client: value()?, at: None },
            Ok("at") => {
                let value = value()?;
                let Some(minute) = minute(value) else {
                    return Err(Misuse::Bad { option: word, value, wanted: "HH:MM" });
                };
                let Task::Match { at, .. } = &mut options.task else {
                    return Err(Misuse::Unsupported { option: word, why: "comes after -match" });
                };
                *at = Some(minute);
            }
            Ok("d") => {
                options.foreground = true;
                options.debug = true;
            }
            Ok("dontfork") => {
                options.foreground = true;
                options.stay_alive = true;
            }
            Ok("stayalive") => options.stay_alive = true,
            Ok("inetd_compat") => options.also_inetd_conf = true,
            Ok("format") => {
                let value = value()?;
                options.dialect = Some(match str::from_utf8(value) {
                    Ok("xinetd") => Dialect::Xinetd,
                    Ok("inetd") => Dialect::Inetd,
                    _ => return Err(Misuse::Bad { option: word, value, wanted: "xinetd or inetd" }),
                });
            }
            Ok("syslog") => {
                let value = value()?;
                let Some(facility) = value_of(&FACILITIES, value) else {
                    return Err(Misuse::Bad { option: word, value, wanted: "a facility of syslog(3)" });
                };
                if matches!(options.log_to, Some(LogTo::File(_))) {
                    return Err(Misuse::Both("-syslog and -filelog"));
                }
                options.log_to = Some(LogTo::Syslog { facility });
            }
            Ok("filelog") => {
                if matches!(options.log_to, Some(LogTo::Syslog { .. })) {
                    return Err(Misuse::Both("-syslog and -filelog"));
                }
                options.log_to = Some(LogTo::File(value()?));
            }
            Ok("recorder") => {
                let value = value()?;
                if !value.starts_with(b"/") {
                    return Err(Misuse::Bad { option: word, value, wanted: "an absolute path" });
                }
                options.recorder = Some(value);
            }
            Ok("pidfile") => options.pid_file = Some(Some(value()?)),
            Ok("hosts") => options.hosts_dir = Some(value()?),
            Ok("tap") => {
                let name = value()?;
                options.tap = Some(Tap { name, ipv4: None, ipv6: None, router4: None, router6: None });
                options.foreground = true;
            }
            Ok("address" | "router") => {
                let Some(tap) = &mut options.tap else {
                    return Err(Misuse::Unsupported { option: word, why: "comes after -tap" });
                };
                let value = value()?;
                match tap_address(value, long == b"router") {
                    Some((IpAddr::V4(address), None)) => tap.router4 = Some(address),
                    Some((IpAddr::V6(address), None)) => tap.router6 = Some(address),
                    Some((IpAddr::V4(address), Some(bits))) => tap.ipv4 = Some((address, bits)),
                    Some((IpAddr::V6(address), Some(bits))) => tap.ipv6 = Some((address, bits)),
                    None => {
                        let wanted = if long == b"router" { "an address" } else { "ADDRESS/BITS" };
                        return Err(Misuse::Bad { option: word, value, wanted });
                    }
                }
            }
            Ok("ready-fd") => {
                let value = value()?;
                let fd = number(value).filter(|fd| *fd > 2);
                options.ready_fd =
                    Some(fd.ok_or(Misuse::Bad { option: word, value, wanted: "a descriptor from 3 on" })?);
            }
            Ok("limit") => options.limit = Some(count(word, value()?)?),
            // xinetd's, without anything to do here: helpers of USERID and the periodic self-check do not exist.
            Ok("logprocs" | "shutdownprocs" | "cc") => {
                count(word, value()?)?;
            }
            Ok("reuse") => {}
            Ok("tcp" | "udp") => {
                if options.standalone.is_some() {
                    return Err(Misuse::Both("-tcp and -udp"));
                }
                options.standalone = Some(Standalone {
                    is_udp: long == b"udp",
                    place: value()?,
                    builtin: None,
                    settings: Vec::new(),
                    program: Vec::new(),
                });
            }
            Ok("builtin" | "set") => {
                let value = value()?;
                let Some(standalone) = &mut options.standalone else {
                    return Err(Misuse::Unsupported { option: word, why: "comes after -tcp or -udp" });
                };
                if long == b"builtin" {
                    standalone.builtin = Some(value);
                } else if !value.contains(&b'=') {
                    return Err(Misuse::Bad { option: word, value, wanted: "attribute=value" });
                } else {
                    standalone.settings.push(value).map_err(|_| Misuse::Extra(value))?;
                }
            }
            _ => return Err(Misuse::Unknown(word)),
        }
    }
    finish(options)
}

fn finish(options: Options<'_>) -> Result<Options<'_>, Misuse<'_>> {
    if let Some(standalone) = &options.standalone {
        if standalone.builtin.is_none() && standalone.program.is_empty() {
            return Err(Misuse::NothingToRun);
        }
        if options.file.is_some() {
            return Err(Misuse::Both("-f and -tcp or -udp"));
        }
    }
    if options.tap.is_some() && options.ready_fd.is_some() {
        return Err(Misuse::Both("-tap and -ready-fd"));
    }
    Ok(options)
}

/// `HH:MM`, as access_times has it; 24:00 is no time of a day.
fn minute(text: &[u8]) -> Option<u16> {
    value::minute(text).filter(|minute| *minute < 24 * 60)
}

/// An address, with the bits of its network unless it is a router's.
fn tap_address(text: &[u8], is_router: bool) -> Option<(IpAddr, Option<u8>)> {
    let address = |text: &[u8]| core::str::from_utf8(text).ok()?.parse::<IpAddr>().ok();
    if is_router {
        return Some((address(text)?, None));
    }
    let slash = text.iter().position(|&b| b == b'/')?;
    let (address, bits) = (address(text.get(..slash)?)?, number(text.get(slash + 1..)?)?);
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, Some(bits)))
}

fn count<'a>(option: &'a [u8], value: &'a [u8]) -> Result<u32, Misuse<'a>> {
    number(value).ok_or(Misuse::Bad { option, value, wanted: "a number" })
}

/// The letters of the inetds: `-dR100`, `-q 20`. Returns whether `name` was made of them.
fn letters<'a>(
    name: &'a [u8],
    word: &'a [u8],
    options: &mut Options<'a>,
    value: &mut dyn FnMut() -> Result<&'a [u8], Misuse<'a>>,
) -> Result<bool, Misuse<'a>> {
    // inetutils' long forms.
    match str::from_utf8(name) {
        Ok("-debug") => {
            options.foreground = true;
            options.debug = true;
            return Ok(true);
        }
        Ok("-foreground") => {
            options.foreground = true;
            return Ok(true);
        }
        // The servers' environment has these always.
        Ok("-environment" | "-resolve") => return Ok(true),
        Ok("-pidfile") => {
            options.pid_file = Some(None);
            return Ok(true);
        }
        _ => {}
    }
    if let Some(file) = name.strip_prefix(b"-pidfile=") {
        options.pid_file = Some(Some(file));
        return Ok(true);
    }
    if let Some(rate) = name.strip_prefix(b"-rate=") {
        options.per_minute = Some(count(word, rate)?);
        return Ok(true);
    }
    // Words that are ours are not read as letters: all of xinetd's and usherd's have more than one.
    let ours: [&[u8]; 19] = [
        b"help",
        b"version",
        b"dontfork",
        b"stayalive",
        b"format",
        b"syslog",
        b"filelog",
        b"pidfile",
        b"hosts",
        b"limit",
        b"ready-fd",
        b"tcp",
        b"udp",
        b"set",
        b"match",
        b"at",
        b"tap",
        b"address",
        b"router",
    ];
    if name.first() == Some(&b'-') || ours.contains(&name) {
        return Ok(false);
    }
    let mut rest = name;
    while let Some((letter, after)) = rest.split_first() {
        rest = after;
        match letter {
            b'd' => {
                options.foreground = true;
                options.debug = true;
            }
            b'i' | b'f' => options.foreground = true,
            b'e' => options.log_to = Some(LogTo::Stderr),
            b'E' => options.keep_environment = true,
            b'l' => options.log_connections = true,
            b't' if matches!(options.task, Task::Match { .. }) => return Err(Misuse::Both("-t and -match")),
            b't' => options.task = Task::Check,
            b'h' => options.task = Task::Help,
            b'w' => options.wrap_external = true,
            b'W' => options.wrap_internal = true,
            b'R' | b'q' | b'a' | b'c' | b'C' | b's' | b'p' => {
                let value = if rest.is_empty() { value()? } else { core::mem::take(&mut rest) };
                match letter {
                    b'R' => options.per_minute = Some(count(word, value)?),
                    b'q' => {
                        let backlog = number(value).ok_or(Misuse::Bad {
                            option: word,
                            value,
                            wanted: "a number up to 65535",
                        })?;
                        options.backlog = Some(backlog);
                    }
                    b'a' => {
                        let address =
                            number(value).ok_or(Misuse::Bad { option: word, value, wanted: "an address" })?;
                        options.bind = Some(address);
                    }
                    b'c' => options.instances = Some(count(word, value)?),
                    b'C' => options.per_minute_source = Some(count(word, value)?),
                    b's' => options.per_source = Some(count(word, value)?),
                    _ => options.pid_file = Some(Some(value)),
                }
            }
            _ => return Err(Misuse::Unknown(word)),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options<'a>(line: &'a str) -> Result<Options<'a>, Misuse<'a>> {
        parse(line.split(' ').map(str::as_bytes))
    }

    #[test]
    fn xinetds_options_are_single_dash_words() {
        let o =
            options("/usr/sbin/xinetd -d -f /x -syslog local3 -pidfile /p -limit 7 -inetd_compat").unwrap();
        assert_eq!(o.personality, Personality::Xinetd);
        assert_eq!(o.file, Some(b"/x".as_slice()));
        assert_eq!(o.log_to, Some(LogTo::Syslog { facility: 19 }));
        assert_eq!(o.limit, Some(7));
        assert!(o.debug && o.foreground && o.also_inetd_conf);
        assert_eq!(o.dialect, Some(Dialect::Xinetd));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(options("usherd -dontfrok"), Err(Misuse::Unknown(b"-dontfrok")));
        assert_eq!(options("xinetd extra"), Err(Misuse::Extra(b"extra")));
        assert_eq!(options("usherd -f"), Err(Misuse::Missing(b"-f")));
        assert_eq!(options("inetd -Z"), Err(Misuse::Unknown(b"-Z")));
        assert_eq!(options("usherd -syslog daemon -filelog /x"), Err(Misuse::Both("-syslog and -filelog")));
        assert!(matches!(options("usherd -limit ten"), Err(Misuse::Bad { .. })));
        assert_eq!(options("usherd -ready-fd 3").unwrap().ready_fd, Some(3));
        assert!(matches!(options("usherd -ready-fd 2"), Err(Misuse::Bad { .. })));
        assert_eq!(options("usherd -tap t0 -ready-fd 3"), Err(Misuse::Both("-tap and -ready-fd")));
        assert_eq!(options("xinetd --help").unwrap().task, Task::Help);
        assert_eq!(options("usherd -help attributes").unwrap().task, Task::HelpAttributes);
        assert_eq!(options("usherd -help capacities").unwrap().task, Task::HelpCapacities);
    }

    #[test]
    fn a_client_is_asked_about() {
        let at = |line: &'static str| match options(line).unwrap().task {
            Task::Match { service: b"ftp", client: b"192.0.2.1", at } => at,
            other => panic!("{other:?}"),
        };
        assert_eq!(at("usherd -f /x -match ftp 192.0.2.1"), None);
        assert_eq!(at("usherd -match ftp 192.0.2.1 -at 09:30"), Some(9 * 60 + 30));
        assert_eq!(at("usherd -match ftp 192.0.2.1 -at 9:30"), Some(9 * 60 + 30));
        assert_eq!(at("inetd -match ftp 192.0.2.1 -at 23:59"), Some(23 * 60 + 59));
        for time in ["930", "24:00", "12:60", "12:3", "noon", "2026-01-01T10:00"] {
            let words = [b"usherd".as_slice(), b"-match", b"a", b"b", b"-at", time.as_bytes()];
            assert!(matches!(parse(words.into_iter()), Err(Misuse::Bad { .. })), "{time}");
        }
        assert_eq!(options("usherd -match ftp"), Err(Misuse::Missing(b"-match")));
        assert_eq!(options("usherd -t -match a b"), Err(Misuse::Both("-t and -match")));
        assert_eq!(options("usherd -match a b -t"), Err(Misuse::Both("-t and -match")));
        assert!(matches!(options("usherd -at 10:00"), Err(Misuse::Unsupported { .. })));
    }

    #[test]
    fn inetds_options_are_letters() {
        let o = options("inetd -diR100 -q 20 -l /etc/other.conf").unwrap();
        assert_eq!(o.personality, Personality::Inetd);
        assert!(o.foreground && o.log_connections);
        assert_eq!((o.per_minute, o.backlog), (Some(100), Some(20)));
        assert_eq!(o.file, Some(b"/etc/other.conf".as_slice()));
        assert_eq!(options("inetd -p /run/x").unwrap().pid_file, Some(Some(b"/run/x".as_slice())));
        assert_eq!(options("inetd --pidfile").unwrap().pid_file, Some(None));
        let o = options("inetd -wWl -hosts /x").unwrap();
        assert!(o.wrap_external && o.wrap_internal && o.log_connections);
        assert_eq!(o.hosts_dir, Some(b"/x".as_slice()));
        assert_eq!(options("usherd -hosts").unwrap_err(), Misuse::Missing(b"-hosts"));
    }

    #[test]
    fn one_service_without_a_file() {
        let o = options("usherd -tcp 127.0.0.1:7000 -set instances=5 /bin/cat -u -").unwrap();
        let s = o.standalone.unwrap();
        assert_eq!(s.place, b"127.0.0.1:7000");
        assert_eq!(s.program.as_slice(), [b"/bin/cat".as_slice(), b"-u", b"-"]);
        assert_eq!(s.settings.as_slice(), [b"instances=5".as_slice()]);
        let o = options("usherd -udp 7 -builtin echo").unwrap();
        assert_eq!(o.standalone.unwrap().builtin, Some(b"echo".as_slice()));
        assert_eq!(options("usherd -tcp 7"), Err(Misuse::NothingToRun));
        assert_eq!(options("usherd -tcp 7 -builtin echo more"), Err(Misuse::Extra(b"more")));
    }
}
