//! What a machine needs before it can serve anybody, where the daemon is its first process: modules, an interface with
//! addresses, a name.
//!
//! It is said in the `init` section of the configuration file, or on the kernel's command line: `usherd.NAME=VALUE`, with
//! commas between values, for every attribute of that section, and the kernel's own `ip=`
//! (Documentation/admin-guide/nfs/nfsroot.rst). The command line counts before the file, except that modules of both are
//! loaded.

#![forbid(unsafe_code)]

pub mod line;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::Vec;

use crate::capacity::{BOOT_MODULES_BYTES, PATH_BYTES};
use crate::config::attr::nearest;
use crate::config::diagnostic::Bytes;
use crate::config::value::number;
use crate::resolver::SERVERS;

/// Where the IPv4 address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ipv4 {
    /// Nobody has said: a DHCP server is asked.
    #[default]
    Unsaid,
    Dhcp,
    Static {
        address: Ipv4Addr,
        bits: u8,
    },
    /// The interface is not touched.
    Off,
}

/// An attribute of the `init` section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    Modules,
    Interface,
    Address,
    Router,
    Nameserver,
    Hostname,
    Console,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    pub name: &'static str,
    pub key: Key,
    /// Values it takes: one, or as many as there are.
    pub is_list: bool,
    pub values: &'static str,
    pub default: &'static str,
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    key: Key,
    values: &'static str,
    default: &'static str,
    help: &'static str,
) -> Attribute {
    let is_list = matches!(key, Key::Modules | Key::Address | Key::Router | Key::Nameserver);
    Attribute { name, key, is_list, values, default, help }
}

// Two lines a row: what it is, and what it means.
#[rustfmt::skip]
pub static ATTRIBUTES: [Attribute; 7] = [
    row("modules", Key::Modules, "NAME or /PATH ...", "none",
        "modules of the kernel, loaded in this order; NAME is /lib/modules/NAME.ko"),
    row("interface", Key::Interface, "NAME", "the first that is not loopback",
        "the network interface that gets the addresses"),
    row("address", Key::Address, "dhcp | none | ADDRESS/BITS ...", "dhcp",
        "one for IPv4, and one for IPv6 besides what routers announce; none: the interface is left as it is"),
    row("router", Key::Router, "ADDRESS ...", "what DHCP says; none",
        "the way to other networks, one for IPv4 and one for IPv6"),
    row("nameserver", Key::Nameserver, "ADDRESS ...", "what DHCP says; none",
        "up to three, written to /etc/resolv.conf"),
    row("hostname", Key::Hostname, "NAME", "the kernel's",
        "the machine's name; told to the DHCP server"),
    row("console", Key::Console, "/PATH", "none",
        "a program on the console, a shell perhaps: a way in if all else fails. Started again when it ends"),
];

impl Attribute {
    pub fn by_name(name: &[u8]) -> Option<&'static Attribute> {
        ATTRIBUTES.iter().find(|a| name.eq_ignore_ascii_case(a.name.as_bytes()))
    }

    /// The name most like `name`, if one is like enough to have been meant.
    pub fn nearest(name: &[u8]) -> Option<&'static str> {
        nearest(name, ATTRIBUTES.iter().map(|a| a.name))
    }
}

/// Why a value is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong<'a> {
    /// It is not what the attribute takes.
    Value(&'a [u8]),
    /// A second one where there is place for one.
    Second(&'a [u8]),
    /// There is room for so many bytes or values.
    Full(usize),
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Value(word) => write!(f, "`{}` is not understood", Bytes(word)),
            Wrong::Second(word) => write!(f, "`{}` is one too many of its kind", Bytes(word)),
            Wrong::Full(room) => write!(f, "there is room for {room}"),
        }
    }
}

/// An interface's name (IFNAMSIZ, with a zero behind it).
pub type Interface = Vec<u8, 15, u8>;

/// What was said. All zero: nothing.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Each with a NUL behind it.
    modules: Vec<u8, BOOT_MODULES_BYTES>,
    pub interface: Interface,
    pub ipv4: Ipv4,
    pub ipv6: Option<(Ipv6Addr, u8)>,
    pub router4: Option<Ipv4Addr>,
    pub router6: Option<Ipv6Addr>,
    pub name_servers: Vec<IpAddr, SERVERS, u8>,
    /// At most what the kernel takes (HOST_NAME_MAX).
    pub hostname: Vec<u8, 64, u8>,
    pub console: Vec<u8, PATH_BYTES>,
}

impl Settings {
    pub const fn new() -> Settings {
        Settings {
            modules: Vec::new(),
            interface: Vec::new(),
            ipv4: Ipv4::Unsaid,
            ipv6: None,
            router4: None,
            router6: None,
            name_servers: Vec::new(),
            hostname: Vec::new(),
            console: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        *self = Settings::new();
    }

    /// Names and paths, in the order they are to be loaded.
    pub fn modules(&self) -> impl Iterator<Item = &[u8]> {
        self.modules.split(|b| *b == 0).filter(|name| !name.is_empty())
    }

    /// Takes the values of an attribute in place of those it has; those of `modules` are added.
    pub fn set<'w>(&mut self, key: Key, words: &mut dyn Iterator<Item = &'w [u8]>) -> Result<(), Wrong<'w>> {
        let mut next = self.clone_of(key);
        for word in words {
            next.add(key, word)?;
        }
        // As a whole or not at all.
        *self = next;
        Ok(())
    }

    /// A copy without the values of an attribute.
    fn clone_of(&self, key: Key) -> Settings {
        let mut copy = self.clone();
        match key {
            Key::Modules => {}
            Key::Interface => copy.interface.clear(),
            Key::Address => (copy.ipv4, copy.ipv6) = (Ipv4::Unsaid, None),
            Key::Router => (copy.router4, copy.router6) = (None, None),
            Key::Nameserver => copy.name_servers.clear(),
            Key::Hostname => copy.hostname.clear(),
            Key::Console => copy.console.clear(),
        }
        copy
    }

    fn add<'w>(&mut self, key: Key, word: &'w [u8]) -> Result<(), Wrong<'w>> {
        let wrong = Wrong::Value(word);
        let bad = |b: &u8| !b.is_ascii_graphic();
        if word.is_empty() || word.iter().any(bad) {
            return Err(wrong);
        }
        match key {
            Key::Modules => {
                // Else it could be any file of the system.
                if !word.starts_with(b"/") && word.contains(&b'/') {
                    return Err(wrong);
                }
                let full = Wrong::Full(BOOT_MODULES_BYTES);
                if BOOT_MODULES_BYTES - self.modules.len() < word.len() + 1 {
                    return Err(full);
                }
                self.modules
                    .extend_from_slice(word)
                    .and_then(|()| self.modules.extend_from_slice(b"\0"))
                    .map_err(|_| full)
            }
            Key::Interface if word.contains(&b'/') => Err(wrong),
            Key::Interface => put(&mut self.interface, word),
            Key::Address => self.add_address(word),
            Key::Router => match address(word).ok_or(wrong)? {
                IpAddr::V4(address) if self.router4.is_none() => {
                    self.router4 = Some(address);
                    Ok(())
                }
                IpAddr::V6(address) if self.router6.is_none() => {
                    self.router6 = Some(address);
                    Ok(())
                }
                _ => Err(Wrong::Second(word)),
            },
            Key::Nameserver => {
                let address = address(word).ok_or(wrong)?;
                self.name_servers.push(address).map_err(|_| Wrong::Full(SERVERS))
            }
            Key::Hostname => put(&mut self.hostname, word),
            Key::Console if !word.starts_with(b"/") => Err(wrong),
            Key::Console => {
                if !self.console.is_empty() {
                    return Err(Wrong::Second(word));
                }
                self.console.extend_from_slice(word).map_err(|_| Wrong::Full(PATH_BYTES))
            }
        }
    }

    fn add_address<'w>(&mut self, word: &'w [u8]) -> Result<(), Wrong<'w>> {
        let ipv4 = match core::str::from_utf8(word) {
            Ok("dhcp") => Ipv4::Dhcp,
            Ok("none") => Ipv4::Off,
            _ => match network(word).ok_or(Wrong::Value(word))? {
                (IpAddr::V4(address), bits) => Ipv4::Static { address, bits },
                (IpAddr::V6(address), bits) if self.ipv6.is_none() => {
                    self.ipv6 = Some((address, bits));
                    return Ok(());
                }
                _ => return Err(Wrong::Second(word)),
            },
        };
        if self.ipv4 != Ipv4::Unsaid {
            return Err(Wrong::Second(word));
        }
        self.ipv4 = ipv4;
        Ok(())
    }

    /// Whether the interface is to be used at all. A static IPv6 address alone does not ask for DHCP.
    pub fn wants_network(&self) -> bool {
        self.ipv4 != Ipv4::Off
    }

    /// Whether a DHCP server is to be asked.
    pub fn wants_dhcp(&self) -> bool {
        match self.ipv4 {
            Ipv4::Dhcp => true,
            Ipv4::Unsaid => self.ipv6.is_none(),
            Ipv4::Static { .. } | Ipv4::Off => false,
        }
    }
}

/// Keeps one word.
fn put<'w, const N: usize>(to: &mut Vec<u8, N, u8>, word: &'w [u8]) -> Result<(), Wrong<'w>> {
    if !to.is_empty() {
        return Err(Wrong::Second(word));
    }
    to.extend_from_slice(word).map_err(|_| Wrong::Full(N))
}

fn address(word: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = core::str::from_utf8(word).ok()?.parse().ok()?;
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

/// An address a machine can have, and the bits of its network.
fn network(word: &[u8]) -> Option<(IpAddr, u8)> {
    let slash = word.iter().position(|b| *b == b'/')?;
    let (address, bits) = (address(word.get(..slash)?)?, number::<u8>(word.get(slash + 1..)?)?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    ((1..=most).contains(&bits) && address != IpAddr::V4(Ipv4Addr::BROADCAST)).then_some((address, bits))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    fn said(lines: &[(Key, &'static str)]) -> Result<Settings, Wrong<'static>> {
        let mut settings = Settings::new();
        for (key, line) in lines {
            settings.set(*key, &mut line.split(' ').map(str::as_bytes))?;
        }
        Ok(settings)
    }

    #[test]
    fn one_address_of_each_family() {
        let s = said(&[(Key::Address, "192.0.2.7/24 2001:db8::7/64"), (Key::Router, "192.0.2.1 fe80::1")]);
        let s = s.unwrap();
        assert_eq!(s.ipv4, Ipv4::Static { address: "192.0.2.7".parse().unwrap(), bits: 24 });
        assert_eq!(s.ipv6, Some(("2001:db8::7".parse().unwrap(), 64)));
        assert_eq!((s.router4, s.router6), ("192.0.2.1".parse().ok(), "fe80::1".parse().ok()));
        assert!(s.wants_network() && !s.wants_dhcp());
        assert!(said(&[]).unwrap().wants_dhcp());
        assert!(!said(&[(Key::Address, "2001:db8::7/64")]).unwrap().wants_dhcp());
        assert!(said(&[(Key::Address, "dhcp 2001:db8::7/64")]).unwrap().wants_dhcp());
        assert!(!said(&[(Key::Address, "none")]).unwrap().wants_network());
    }

    #[test]
    fn what_no_machine_can_have_is_refused() {
        for word in [
            "192.0.2.7",
            "192.0.2.7/33",
            "192.0.2.7/0",
            "0.0.0.0/8",
            "224.0.0.1/24",
            "255.255.255.255/8",
            "::/64",
            "x/24",
            "DHCP/1",
            "192.0.2.7/24/1",
            "/24",
            "",
        ] {
            assert_eq!(said(&[(Key::Address, word)]).unwrap_err(), Wrong::Value(word.as_bytes()), "{word}");
        }
        for word in ["dhcp none", "dhcp dhcp", "192.0.2.7/24 dhcp", "::1/64 ::2/64"] {
            let second = word.split(' ').nth(1).unwrap().as_bytes();
            assert_eq!(said(&[(Key::Address, word)]).unwrap_err(), Wrong::Second(second), "{word}");
        }
        assert!(said(&[(Key::Interface, "../eth0")]).is_err());
        assert!(said(&[(Key::Interface, "eth0 eth1")]).is_err());
        assert!(said(&[(Key::Interface, "a-name-that-is-too-long")]).is_err());
        assert!(said(&[(Key::Console, "bin/sh")]).is_err());
        assert!(said(&[(Key::Nameserver, "1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4")]).is_err());
        assert!(said(&[(Key::Modules, "../../etc/passwd")]).is_err());
        assert!(said(&[(Key::Hostname, "a\u{7}b")]).is_err());
    }

    #[test]
    fn modules_are_added_and_all_else_replaced() {
        let lines =
            [(Key::Modules, "a b"), (Key::Modules, "/c.ko"), (Key::Hostname, "one"), (Key::Hostname, "two")];
        let s = said(&lines).unwrap();
        assert!(s.modules().eq([&b"a"[..], b"b", b"/c.ko"]));
        assert_eq!(s.hostname, b"two");
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let long = format!("first {}", "m".repeat(BOOT_MODULES_BYTES));
        let mut s = Settings::new();
        assert_eq!(
            s.set(Key::Modules, &mut long.split(' ').map(str::as_bytes)),
            Err(Wrong::Full(BOOT_MODULES_BYTES))
        );
        assert_eq!(s.modules().count(), 0);
    }

    #[test]
    fn every_attribute_is_found_by_its_name() {
        for a in &ATTRIBUTES {
            assert_eq!(Attribute::by_name(a.name.as_bytes()).map(|found| found.key), Some(a.key));
        }
        assert_eq!(Attribute::nearest(b"modul"), Some("modules"));
        assert_eq!(Attribute::nearest(b"adress"), Some("address"));
    }
}
