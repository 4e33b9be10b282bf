//! A verdict in words, and the question behind `usherd -match SERVICE CLIENT`.

use core::fmt::{self, Write};
use core::net::IpAddr;

use super::pattern::{PARANOID, UNKNOWN, ip, scoped};
use super::{
    Commands, Decision, Endpoint, Facts, HostName, Need, Opt, Request, Skipped, Tables, User, Value, Verdict,
    Why,
};
use crate::config::diagnostic::Bytes;

/// `DAEMON[@SERVER]` and `[USER@]CLIENT`, as tcpdmatch(8) takes them.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub daemon: &'a [u8],
    pub server: Option<Who<'a>>,
    pub user: Option<&'a [u8]>,
    pub client: Who<'a>,
}

/// One end, as somebody typed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who<'a> {
    /// With its interface, if there is one behind a %.
    Address(IpAddr, &'a [u8]),
    /// To be resolved, if addresses are to be matched too.
    Name(&'a [u8]),
    /// The words `unknown` and `paranoid`, which stand for clients without a name, or with a false one.
    Unknown,
    Paranoid,
}

impl<'a> Who<'a> {
    fn parse(word: &'a [u8]) -> Self {
        let bare = word.strip_prefix(b"[").and_then(|word| word.strip_suffix(b"]")).unwrap_or(word);
        if let Some((address, zone)) = scoped(bare) {
            return Who::Address(IpAddr::V6(address), zone);
        }
        match ip(bare) {
            Some(address) => Who::Address(address, &[]),
            None if word.eq_ignore_ascii_case(UNKNOWN) => Who::Unknown,
            None if word.eq_ignore_ascii_case(PARANOID) => Who::Paranoid,
            None => Who::Name(word),
        }
    }

    fn endpoint(self) -> Endpoint<'a> {
        match self {
            Who::Address(address, zone) => Endpoint { address: Some(address), zone, ..Endpoint::default() },
            Who::Name(_) | Who::Unknown | Who::Paranoid => Endpoint::default(),
        }
    }

    fn name(self) -> HostName<'a> {
        match self {
            Who::Name(name) => HostName::Known(name),
            Who::Paranoid => HostName::Paranoid,
            Who::Address(..) | Who::Unknown => HostName::Unknown,
        }
    }
}

impl<'a> Asked<'a> {
    pub fn parse(service: &'a [u8], client: &'a [u8]) -> Self {
        let at = |word: &[u8]| word.iter().position(|&b| b == b'@').filter(|&at| at > 0);
        let (daemon, server) = match at(service) {
            Some(at) => (service.get(..at).unwrap_or(&[]), service.get(at + 1..).map(Who::parse)),
            None => (service, None),
        };
        let (user, client) = match at(client) {
            Some(at) => (client.get(..at), client.get(at + 1..).unwrap_or(&[])),
            None => (None, client),
        };
        Asked { daemon, server, user, client: Who::parse(client) }
    }

    /// The request. Who resolves names fills in the addresses.
    pub fn request(&self) -> Request<'a> {
        Request {
            daemon: self.daemon,
            client: self.client.endpoint(),
            server: self.server.map_or(Endpoint::default(), Who::endpoint),
            pid: 0,
        }
    }

    /// What was said, and nothing asked: nobody has a name or a user who was not given one, and commands succeed.
    pub fn facts(&self) -> Facts<'a> {
        Facts {
            client_name: self.client.name(),
            server_name: self.server.map_or(HostName::Unknown, Who::name),
            user: self.user.map_or(User::Unknown, User::Known),
            commands: Commands::Assumed,
        }
    }
}

/// Displays as a line that tells what happens and which rule says so, and a line for each of its options.
pub struct Explanation<'a> {
    pub verdict: &'a Verdict<'a>,
    pub tables: &'a Tables<'a>,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Granted(decision) => self.decision(f, "granted", decision),
            Verdict::Refused(decision) => self.decision(f, "refused", decision),
            Verdict::Delegated(decision) => self.decision(f, "delegated", decision),
            Verdict::Need(need) => f.write_str(match need {
                Need::ClientName => "turns on the client's name",
                Need::ServerName => "turns on the server's name",
                Need::User { .. } => "turns on the client's user",
                Need::Command { .. } => "turns on a command",
            }),
        }
    }
}

impl Explanation<'_> {
    fn decision(&self, f: &mut fmt::Formatter<'_>, what: &str, decision: &Decision<'_>) -> fmt::Result {
        f.write_str(what)?;
        match decision.why {
            Why::NoRule => {
                let (allow, deny) = (Bytes(self.tables.allow), Bytes(self.tables.deny));
                write!(f, ": no rule of {allow} or {deny} matches")?;
            }
            Why::Unreadable { which, errno } => {
                write!(f, ": {} cannot be read: {errno}", Bytes(self.tables.path(which)))?;
            }
            Why::Rule | Why::Fault { .. } => {
                let Some(place) = decision.place else { return Ok(()) };
                write!(f, " by {}", Bytes(self.tables.path(place.which)))?;
                match decision.why {
                    Why::Fault { fault, line, column } => write!(f, ":{line}:{column}: {fault}")?,
                    _ => write!(f, ":{}", place.line)?,
                }
            }
        }
        if let Some(Skipped { which, fault, line, column }) = decision.skipped {
            let file = Bytes(self.tables.path(which));
            write!(f, "\n  {file}:{line}:{column} would let it in, but {fault}")?;
        }
        for opt in decision.options.iter() {
            write!(f, "\n  {opt}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As it is in the file; what a terminal would obey is escaped.
        write!(f, "{}", Bytes(self.0))
    }
}

/// As it is written in a rule.
impl fmt::Display for Opt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opt::Allow => f.write_str("allow"),
            Opt::Deny => f.write_str("deny"),
            Opt::Spawn(value) => write!(f, "spawn {value}"),
            Opt::Twist(value) => write!(f, "twist {value}"),
            Opt::Aclexec(value) => write!(f, "aclexec {value}"),
            Opt::Severity { facility, level } => {
                f.write_str("severity ")?;
                if let Some(facility) = facility {
                    write!(f, "{}.", facility.word())?;
                }
                f.write_str(level.word())
            }
            Opt::Keepalive => f.write_str("keepalive"),
            Opt::Linger(seconds) => write!(f, "linger {seconds}"),
            Opt::Rfc931(None) => f.write_str("rfc931"),
            Opt::Rfc931(Some(seconds)) => write!(f, "rfc931 {seconds}"),
            Opt::Banners(value) => write!(f, "banners {value}"),
            Opt::Nice(by) => write!(f, "nice {by}"),
            Opt::Setenv(value) => write!(f, "setenv {value}"),
            Opt::Umask(mask) => write!(f, "umask {mask:03o}"),
            Opt::User { name, group } => {
                write!(f, "user {}", Bytes(name))?;
                if let Some(group) = group {
                    f.write_char('.')?;
                    write!(f, "{}", Bytes(group))?;
                }
                Ok(())
            }
            Opt::Group(name) => write!(f, "group {}", Bytes(name)),
        }
    }
}
