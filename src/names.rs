//! Names in the system's files: services(5), passwd(5), group(5), hosts(5) and the protocols usherd speaks.
//!
//! The files are read line by line through a small buffer each time a name is asked for: when a configuration is loaded,
//! and for rules that turn on a name, a user or a netgroup. There is no name service switch: what NIS, LDAP or
//! systemd's nss modules know, usherd does not; numbers are accepted wherever names are. A line of one of these
//! files that is longer than [`LINE`] bytes is not seen: whom it names does not exist here, so what depends on it
//! is refused, not opened.

#![forbid(unsafe_code)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::Vec;

use crate::addr::plain;
use crate::config::lines::{Line, Lines, Source};
use crate::config::source::Files;
use crate::config::value::number;
use crate::errno::Errno;
use crate::service::{Family, SocketType};

/// Longest line, with its line end, that is looked at in the system's files.
pub const LINE: usize = 4096;

/// Longest name that is handed back.
pub const NAME: usize = 64;

/// A name found in a file.
pub type Name = Vec<u8, NAME>;

/// What a protocol word means: `tcp`, `udp` and their numbers 6 and 17, each with a family digit behind it if one
/// is to be told, and `unix`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// `None`: unix sockets come as streams and as datagrams.
    pub socket: Option<SocketType>,
    /// `None`: whatever else says.
    pub family: Option<Family>,
}

/// The protocol of a word, letters of either case.
pub fn protocol(word: &[u8]) -> Option<Protocol> {
    const WORDS: [(&[u8], Option<SocketType>, Option<Family>); 9] = [
        (b"tcp", Some(SocketType::Stream), None),
        (b"udp", Some(SocketType::Dgram), None),
        (b"tcp4", Some(SocketType::Stream), Some(Family::V4)),
        (b"udp4", Some(SocketType::Dgram), Some(Family::V4)),
        (b"tcp6", Some(SocketType::Stream), Some(Family::V6)),
        (b"udp6", Some(SocketType::Dgram), Some(Family::V6)),
        (b"6", Some(SocketType::Stream), None),
        (b"17", Some(SocketType::Dgram), None),
        (b"unix", None, Some(Family::Unix)),
    ];
    WORDS
        .iter()
        .find(|(name, ..)| word.eq_ignore_ascii_case(name))
        .map(|&(_, socket, family)| Protocol { socket, family })
}

/// An entry of services(5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub number: u16,
    /// The first name of the entry; empty if longer than [`NAME`].
    pub name: Name,
}

/// The port of a service by its name or an alias, letters as they are. A standard name that the file lacks, or
/// all of them where there is no file, are known without it.
pub fn port_of<F: Files>(
    files: &mut F,
    path: &[u8],
    name: &[u8],
    socket: SocketType,
) -> Result<Option<Port>, Errno> {
    let found = find(files, path, |line| {
        let entry = ServicesLine::parse(line)?;
        (entry.is(socket) && entry.names().any(|n| n == name)).then(|| entry.port())
    })?;
    Ok(found.or_else(|| {
        STANDARD.iter().find(|s| s.is(socket) && s.names().any(|n| n.as_bytes() == name)).map(Standard::port)
    }))
}

/// The service that has a port.
pub fn service_at<F: Files>(
    files: &mut F,
    path: &[u8],
    port: u16,
    socket: SocketType,
) -> Result<Option<Port>, Errno> {
    let found = find(files, path, |line| {
        let entry = ServicesLine::parse(line)?;
        (entry.is(socket) && entry.number == port).then(|| entry.port())
    })?;
    Ok(found.or_else(|| STANDARD.iter().find(|s| s.is(socket) && s.number == port).map(Standard::port)))
}

/// An entry of passwd(5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub name: Name,
}

pub fn user_by_name<F: Files>(files: &mut F, path: &[u8], name: &[u8]) -> Result<Option<User>, Errno> {
    user(files, path, &|entry, _| entry == name)
}

pub fn user_by_uid<F: Files>(files: &mut F, path: &[u8], uid: u32) -> Result<Option<User>, Errno> {
    user(files, path, &|_, entry| entry == uid)
}

fn user<F: Files>(
    files: &mut F,
    path: &[u8],
    wanted: &dyn Fn(&[u8], u32) -> bool,
) -> Result<Option<User>, Errno> {
    let found = find(files, path, |line| {
        let [name, _, uid, gid] = colons(line)?;
        let (uid, gid) = (number(uid)?, number(gid)?);
        if name.is_empty() || !wanted(name, uid) {
            return None;
        }
        Some(User { uid, gid, name: Name::from_slice(name).unwrap_or_default() })
    })?;
    // A board without passwd(5) still has its root.
    Ok(found.or_else(|| {
        let name = Name::from_slice(b"root").unwrap_or_default();
        wanted(&name, 0).then_some(User { uid: 0, gid: 0, name })
    }))
}

/// The number of a group.
pub fn group_by_name<F: Files>(files: &mut F, path: &[u8], name: &[u8]) -> Result<Option<u32>, Errno> {
    let found = find(files, path, |line| {
        let [entry, _, gid] = colons(line)?;
        if entry == name { number(gid) } else { None }
    })?;
    Ok(found.or((name == b"root").then_some(0)))
}

/// Every group that lists `user` as a member, in the order of the file, as initgroups(3) sets them beside the
/// user's own. `each` returns false to stop.
pub fn groups_of<F: Files>(
    files: &mut F,
    path: &[u8],
    user: &[u8],
    mut each: impl FnMut(u32) -> bool,
) -> Result<(), Errno> {
    find(files, path, |line| {
        let [_, _, gid, members] = colons(line)?;
        let gid = number(gid)?;
        if !members.split(|&b| b == b',').any(|m| m.trim_ascii() == user) {
            return None;
        }
        if each(gid) { None } else { Some(()) }
    })
    .map(|_| ())
}

/// Every address hosts(5) gives a name, letters of either case. `localhost` has its two addresses even where no
/// file says so. Whether there was any.
pub fn addresses_of<F: Files>(
    files: &mut F,
    path: &[u8],
    name: &[u8],
    mut each: impl FnMut(IpAddr) -> bool,
) -> Result<bool, Errno> {
    each_address(files, path, name, &mut each)
}

/// [`addresses_of`], once in the program instead of once for each caller.
fn each_address<F: Files>(
    files: &mut F,
    path: &[u8],
    name: &[u8],
    each: &mut dyn FnMut(IpAddr) -> bool,
) -> Result<bool, Errno> {
    let mut any = false;
    find(files, path, |line| {
        let mut words = words(line);
        let address = core::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        if !words.any(|w| w.eq_ignore_ascii_case(name)) {
            return None;
        }
        any = true;
        if each(address) { None } else { Some(()) }
    })?;
    if !any && name.eq_ignore_ascii_case(b"localhost") {
        any = true;
        let _ = each(IpAddr::V4(Ipv4Addr::LOCALHOST)) && each(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    Ok(any)
}

/// The first answer of `wanted` to a name that hosts(5) gives an address: the first name of each line that has it. A
/// mapped IPv4 address counts as plain. The loopback addresses are `localhost` even where no file says so (RFC 6761
/// section 6.3).
pub fn name_at<F: Files, T>(
    files: &mut F,
    path: &[u8],
    address: IpAddr,
    mut wanted: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Option<T>, Errno> {
    let found = find(files, path, |line| {
        let mut words = words(line);
        let entry: IpAddr = core::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        if plain(entry) != plain(address) {
            return None;
        }
        wanted(words.next()?)
    })?;
    let is_localhost =
        matches!(plain(address), IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST));
    Ok(found.or_else(|| if is_localhost { wanted(b"localhost") } else { None }))
}

/// The first answer of `wanted` to a line. A file that does not exist has no lines.
fn find<F: Files, T>(
    files: &mut F,
    path: &[u8],
    mut wanted: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Option<T>, Errno> {
    let mut found = None;
    each_line(files, path, &mut |line| {
        found = line.and_then(&mut wanted);
        found.is_none()
    })?;
    Ok(found)
}

/// Hands every line to `each` until it returns false; `None` stands for a line that is too long.
pub(crate) fn each_line<F: Files>(
    files: &mut F,
    path: &[u8],
    each: &mut dyn FnMut(Option<&[u8]>) -> bool,
) -> Result<(), Errno> {
    let source = match files.open(path) {
        Ok(handle) => Source::File(handle),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut lines = Lines::<LINE>::new();
    while let Some(line) = lines.advance(files, &source)? {
        let go_on = each(match line {
            Line::Whole => Some(lines.text()),
            Line::TooLong => None,
        });
        if !go_on {
            break;
        }
    }
    Ok(())
}

/// The words of a line up to a `#`.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = line.split(|&b| b == b'#').next().unwrap_or(&[]);
    line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty())
}

/// The first `N` fields of a line of passwd(5) or group(5).
fn colons<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let mut fields = line.split(|&b| b == b':');
    let mut out = [&line[..0]; N];
    for field in &mut out {
        *field = fields.next()?;
    }
    Some(out)
}

struct ServicesLine<'a> {
    line: &'a [u8],
    number: u16,
    protocol: &'a [u8],
}

impl<'a> ServicesLine<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let port = words(line).nth(1)?;
        let slash = port.iter().position(|&b| b == b'/')?;
        // Port 0 is none: to bind(2) it means any that is free.
        let number = number(port.get(..slash)?).filter(|number| *number > 0)?;
        Some(ServicesLine { line, number, protocol: port.get(slash + 1..)? })
    }

    fn is(&self, socket: SocketType) -> bool {
        self.protocol == protocol_name(socket)
    }

    fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        words(self.line).enumerate().filter(|(i, _)| *i != 1).map(|(_, word)| word)
    }

    fn port(&self) -> Port {
        let name = self.names().next().unwrap_or(&[]);
        Port { number: self.number, name: Name::from_slice(name).unwrap_or_default() }
    }
}

const fn protocol_name(socket: SocketType) -> &'static [u8] {
    match socket {
        SocketType::Stream => b"tcp",
        SocketType::Dgram => b"udp",
    }
}

struct Standard {
    /// The canonical name, then aliases, with blanks between them.
    names: &'static str,
    number: u16,
    tcp: bool,
    udp: bool,
}

impl Standard {
    fn is(&self, socket: SocketType) -> bool {
        match socket {
            SocketType::Stream => self.tcp,
            SocketType::Dgram => self.udp,
        }
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.split(' ')
    }

    fn port(&self) -> Port {
        let name = self.names().next().unwrap_or_default();
        Port { number: self.number, name: Name::from_slice(name.as_bytes()).unwrap_or_default() }
    }
}

const fn tcp(names: &'static str, number: u16) -> Standard {
    Standard { names, number, tcp: true, udp: false }
}

const fn udp(names: &'static str, number: u16) -> Standard {
    Standard { names, number, tcp: false, udp: true }
}

const fn both(names: &'static str, number: u16) -> Standard {
    Standard { names, number, tcp: true, udp: true }
}

/// What super-servers are asked to serve, with IANA's ports, for systems whose services(5) is missing or short.
static STANDARD: [Standard; 50] = [
    tcp("tcpmux", 1),
    both("echo", 7),
    both("discard sink null", 9),
    tcp("systat users", 11),
    both("daytime", 13),
    tcp("netstat", 15),
    tcp("qotd quote", 17),
    both("chargen ttytst source", 19),
    tcp("ftp-data", 20),
    tcp("ftp", 21),
    tcp("ssh", 22),
    tcp("telnet", 23),
    tcp("smtp mail", 25),
    both("time timserver", 37),
    tcp("whois nicname", 43),
    both("domain", 53),
    udp("tftp", 69),
    tcp("gopher", 70),
    tcp("finger", 79),
    tcp("http www", 80),
    tcp("pop2", 109),
    tcp("pop3 pop-3", 110),
    tcp("auth authentication tap ident", 113),
    tcp("nntp readnews untp", 119),
    udp("ntp", 123),
    tcp("imap2 imap", 143),
    udp("snmp", 161),
    tcp("https", 443),
    udp("syslog", 514),
    udp("biff comsat", 512),
    tcp("exec", 512),
    tcp("login", 513),
    tcp("shell cmd", 514),
    tcp("printer spooler", 515),
    udp("talk", 517),
    udp("ntalk", 518),
    tcp("uucp uucpd", 540),
    tcp("klogin", 543),
    tcp("kshell krcmd", 544),
    tcp("swat", 901),
    tcp("rsync", 873),
    tcp("imaps", 993),
    tcp("pop3s", 995),
    tcp("cvspserver", 2401),
    tcp("distcc", 3632),
    tcp("svn subversion", 3690),
    tcp("git", 9418),
    tcp("nrpe", 5666),
    tcp("amanda", 10080),
    tcp("sane-port sane", 6566),
];

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::config::source::memory::Tree;
    use std::vec::Vec;

    fn etc() -> Tree {
        Tree::default()
            .file("/etc/services", "# ports\nhttp\t80/tcp www web # WorldWideWeb\nmydns 5300/udp\nbad x/tcp\nbad 0/tcp\nmydns 5301/tcp\n")
            .file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n+nis\nbob:x:1000:1001::/home/bob:/bin/sh\nnobody:x:65534:65534:n:/:/\n")
            .file("/etc/group", "root:x:0:\nusers:x:100:alice, bob\nbob:x:1001:\nwheel:x:10:bob,root\n")
            .file("/etc/hosts", "127.0.0.1 localhost\n10.0.0.5\tmgmt.example mgmt # console\nfd00::5 MGMT\nnonsense mgmt\n")
    }

    fn port(name: &str, socket: SocketType) -> Option<u16> {
        port_of(&mut etc(), b"/etc/services", name.as_bytes(), socket).unwrap().map(|p| p.number)
    }

    #[test]
    fn services_are_known_by_name_alias_and_port() {
        use SocketType::{Dgram, Stream};
        assert_eq!(port("web", Stream), Some(80));
        assert_eq!(port("web", Dgram), None);
        assert_eq!((port("mydns", Dgram), port("mydns", Stream)), (Some(5300), Some(5301)));
        let found = service_at(&mut etc(), b"/etc/services", 80, Stream).unwrap().unwrap();
        assert_eq!(found.name, b"http");
        assert_eq!(port("bad", Stream), None);
    }

    #[test]
    fn standard_names_need_no_file() {
        use SocketType::{Dgram, Stream};
        let mut none = Tree::default();
        assert_eq!(port_of(&mut none, b"/x", b"ident", Stream).unwrap().unwrap().name, b"auth");
        assert_eq!(port("sink", Dgram), Some(9));
        assert_eq!(service_at(&mut none, b"/x", 123, Dgram).unwrap().unwrap().name, b"ntp");
        assert!(port_of(&mut none, b"/x", b"no-such", Stream).unwrap().is_none());
    }

    #[test]
    fn users_and_groups_come_from_their_files() {
        let bob = user_by_name(&mut etc(), b"/etc/passwd", b"bob").unwrap().unwrap();
        assert_eq!((bob.uid, bob.gid), (1000, 1001));
        assert_eq!(user_by_uid(&mut etc(), b"/etc/passwd", 65534).unwrap().unwrap().name, b"nobody");
        assert!(user_by_name(&mut etc(), b"/etc/passwd", b"+nis").unwrap().is_none());
        assert_eq!(group_by_name(&mut etc(), b"/etc/group", b"wheel").unwrap(), Some(10));
        assert_eq!(group_by_name(&mut etc(), b"/etc/group", b"whee").unwrap(), None);
        let mut gids = Vec::new();
        groups_of(&mut etc(), b"/etc/group", b"bob", |gid| {
            gids.push(gid);
            true
        })
        .unwrap();
        assert_eq!(gids, [100, 10]);
        // No passwd at all, as on a board that boots straight into us.
        assert_eq!(user_by_name(&mut Tree::default(), b"/p", b"root").unwrap().unwrap().uid, 0);
    }

    #[test]
    fn hosts_give_every_address_of_a_name() {
        let mut all = Vec::new();
        let any = addresses_of(&mut etc(), b"/etc/hosts", b"mgmt", |a| {
            all.push(std::string::ToString::to_string(&a));
            true
        });
        assert_eq!((any, all), (Ok(true), ["10.0.0.5".into(), "fd00::5".into()].into()));
        assert_eq!(addresses_of(&mut etc(), b"/etc/hosts", b"nowhere", |_| true), Ok(false));
    }

    #[test]
    fn hosts_have_the_first_name_of_their_line() {
        let mut hosts = Tree::default()
            .file("/h", "::ffff:10.0.0.5 mapped m\n10.0.0.5 plain # p\n10.0.0.6 # none\n127.0.0.1 board\n");
        let mut name = |address: &str, skip: &[u8]| {
            let wanted = |name: &[u8]| (name != skip).then(|| Name::from_slice(name).unwrap());
            name_at(&mut hosts, b"/h", address.parse().unwrap(), wanted).unwrap().unwrap_or_default()
        };
        assert_eq!(
            (name("10.0.0.5", b"").as_slice(), name("10.0.0.5", b"mapped").as_slice()),
            (&b"mapped"[..], &b"plain"[..])
        );
        assert_eq!(
            (name("10.0.0.6", b"").as_slice(), name("127.0.0.1", b"").as_slice()),
            (&b""[..], &b"board"[..])
        );
        // RFC 6761.
        assert_eq!(name("::1", b""), b"localhost");
        let mut count = 0;
        addresses_of(&mut Tree::default(), b"/h", b"LocalHost", |_| {
            count += 1;
            true
        })
        .unwrap();
        assert_eq!(count, 2);
    }

    #[test]
    fn protocol_words_tell_socket_and_family() {
        let tcp6 = protocol(b"TCP6").unwrap();
        assert_eq!((tcp6.socket, tcp6.family), (Some(SocketType::Stream), Some(Family::V6)));
        assert_eq!(protocol(b"17").unwrap().socket, Some(SocketType::Dgram));
        assert_eq!(protocol(b"unix").unwrap().family, Some(Family::Unix));
        assert_eq!(protocol(b"sctp"), None);
    }
}
