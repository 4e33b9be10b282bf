//! The kernel's command line, as /proc/cmdline has it: what of it is about us.

#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::{Attribute, Ipv4, Key, Settings, Wrong};

/// Bytes of the command line that are read: the kernel's own limit on ARM (COMMAND_LINE_SIZE) is 1024 or 2048.
pub const LINE: usize = 4096;

/// A word of the command line that is not taken, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem<'a> {
    /// `usherd.` and a name that is none.
    Unknown,
    Wrong(Wrong<'a>),
}

/// Takes every word that is about us; `tell` hears of those that are not right, with their columns from 1.
///
/// Words are parted by blanks; quotes keep blanks together, as in the kernel's parser (kernel/params.c). What stands behind
/// `--` are arguments of the program, not parameters.
pub fn read<'l>(line: &'l [u8], settings: &mut Settings, tell: &mut dyn FnMut(&'l [u8], usize, Problem<'l>)) {
    for (word, column) in words(line) {
        if word == b"--" {
            return;
        }
        let Some(equals) = word.iter().position(|b| *b == b'=') else { continue };
        let (name, value) = (word.get(..equals).unwrap_or(&[]), word.get(equals + 1..).unwrap_or(&[]));
        let value = unquoted(value);
        if name == b"ip" {
            if let Err(wrong) = ip(value, settings) {
                tell(word, column, Problem::Wrong(wrong));
            }
            continue;
        }
        let Some(name) = name.strip_prefix(b"usherd.") else { continue };
        match Attribute::by_name(name) {
            None => tell(word, column, Problem::Unknown),
            Some(attribute) => {
                if let Err(wrong) = settings.set(attribute.key, &mut value.split(|b| *b == b',')) {
                    tell(word, column, Problem::Wrong(wrong));
                }
            }
        }
    }
}

/// The words of the line with their columns.
fn words(line: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let rest = line.get(at..)?;
        at += rest.iter().position(|b| !b.is_ascii_whitespace())?;
        let rest = line.get(at..)?;
        let mut quoted = false;
        let ends = |b: &u8| {
            quoted ^= *b == b'"';
            b.is_ascii_whitespace() && !quoted
        };
        let len = rest.iter().position(ends).unwrap_or(rest.len());
        let word = (rest.get(..len)?, at + 1);
        at += len;
        Some(word)
    })
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// `ip=`, as nfsroot.rst has it: a way to get addresses, or
/// `CLIENT:SERVER:ROUTER:MASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0`, each of which may be empty. The servers of NFS and of
/// the time are not ours to ask.
fn ip<'l>(value: &'l [u8], settings: &mut Settings) -> Result<(), Wrong<'l>> {
    let way = |word: &'l [u8]| match core::str::from_utf8(word) {
        Ok("on" | "any" | "dhcp" | "both") => Ok(Ipv4::Dhcp),
        Ok("off" | "none") => Ok(Ipv4::Off),
        // BOOTP and RARP are not spoken here.
        _ => Err(Wrong::Value(word)),
    };
    if !value.contains(&b':') {
        // As in the kernel, nothing means that nothing is to be done.
        settings.ipv4 = if value.is_empty() { Ipv4::Off } else { way(value)? };
        return Ok(());
    }
    let mut next = settings.clone();
    let mut fields = [&value[..0]; 10];
    for (field, text) in fields.iter_mut().zip(value.split(|b| *b == b':')) {
        *field = text;
    }
    let [client, _, router, mask, hostname, device, autoconf, dns0, dns1, _] = fields;
    let address = |word: &'l [u8]| {
        let text = core::str::from_utf8(word).ok();
        text.and_then(|text| text.parse::<Ipv4Addr>().ok()).ok_or(Wrong::Value(word))
    };
    match (client, autoconf) {
        (b"" | b"0.0.0.0", b"") => next.ipv4 = Ipv4::Dhcp,
        (b"" | b"0.0.0.0", autoconf) => next.ipv4 = way(autoconf)?,
        (client, _) => {
            let address = address(client)?;
            let bits = match mask {
                b"" => class_bits(address),
                mask => {
                    let text = core::str::from_utf8(mask).ok().and_then(|text| text.parse().ok());
                    text.and_then(mask_bits).ok_or(Wrong::Value(mask))?
                }
            };
            next.ipv4 = Ipv4::Static { address, bits };
        }
    }
    if !router.is_empty() {
        next.router4 = Some(address(router)?).filter(|router| !router.is_unspecified());
    }
    if !hostname.is_empty() {
        // What stands behind its first dot is the domain.
        let host = hostname.split(|b| *b == b'.').next().unwrap_or(hostname);
        next.set(Key::Hostname, &mut core::iter::once(host))?;
    }
    if !device.is_empty() {
        next.set(Key::Interface, &mut core::iter::once(device))?;
    }
    let mut servers = [dns0, dns1].into_iter().filter(|word| !word.is_empty() && *word != b"0.0.0.0");
    if servers.clone().next().is_some() {
        next.set(Key::Nameserver, &mut servers)?;
    }
    *settings = next;
    Ok(())
}

/// The bits of a netmask; `None` if they are not all in front, or if there are none.
pub fn mask_bits(mask: Ipv4Addr) -> Option<u8> {
    let mask = mask.to_bits();
    (mask.leading_ones() + mask.trailing_zeros() == 32 && mask != 0).then_some(mask.leading_ones() as u8)
}

/// The bits of a network whose mask nobody tells, by the class of old (RFC 791).
pub fn class_bits(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    /// What a line comes to, and what is told of it.
    fn read(line: &str) -> (Settings, Vec<String>) {
        let mut settings = Settings::new();
        let mut told = vec![];
        super::read(line.as_bytes(), &mut settings, &mut |word, column, _| {
            told.push(format!("{column} {}", String::from_utf8_lossy(word)));
        });
        (settings, told)
    }

    #[test]
    fn words_about_us_are_taken_and_all_others_left() {
        let (s, told) = read(
            "console=ttyAMA0 root=/dev/ram usherd.modules=virtio_mmio,failover usherd.hostname=board dwc2.x=1\t\
             usherd.address=192.0.2.7/24,2001:db8::1/64 usherd.console=\"/bin/sh\" -- usherd.hostname=other\n",
        );
        assert!(told.is_empty(), "{told:?}");
        assert!(s.modules().eq([&b"virtio_mmio"[..], b"failover"]));
        assert_eq!((s.hostname.as_slice(), s.console.as_slice()), (&b"board"[..], &b"/bin/sh"[..]));
        assert!(s.ipv6.is_some());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_changes_nothing() {
        let (s, told) = read(
            "quiet usherd.adress=dhcp usherd.address=192.0.2.7 ip=10.0.0.1::::::bogus: usherd.hostname=",
        );
        assert_eq!(told, ["7 usherd.adress=dhcp", "26 usherd.address=192.0.2.7", "75 usherd.hostname="]);
        assert_eq!(s.ipv4, Ipv4::Static { address: Ipv4Addr::new(10, 0, 0, 1), bits: 8 });
        for word in [
            "ip=bootp",
            "ip=rarp",
            "ip=10.0.0.1:::255.0.255.0",
            "ip=10.0.0",
            "ip=10.0.0.x::",
            "ip=10.0.0.1::x",
        ] {
            let (s, told) = read(word);
            assert_eq!((s.ipv4, told), (Ipv4::Unsaid, vec![format!("1 {word}")]));
        }
    }

    #[test]
    fn ip_has_two_forms() {
        for (word, ipv4) in [
            ("ip=dhcp", Ipv4::Dhcp),
            ("ip=on", Ipv4::Dhcp),
            ("ip=any", Ipv4::Dhcp),
            ("ip=none", Ipv4::Off),
            ("ip=off", Ipv4::Off),
            ("ip=", Ipv4::Off),
            ("ip=:::::eth1:dhcp", Ipv4::Dhcp),
            ("ip=:::::eth1", Ipv4::Dhcp),
            ("ip=::::::off", Ipv4::Off),
            ("ip=10.0.2.15:::255.255.255.0", Ipv4::Static { address: Ipv4Addr::new(10, 0, 2, 15), bits: 24 }),
            // Without a mask by its class.
            ("ip=172.16.0.9::", Ipv4::Static { address: Ipv4Addr::new(172, 16, 0, 9), bits: 16 }),
        ] {
            let (s, told) = read(word);
            assert_eq!((s.ipv4, told.len()), (ipv4, 0), "{word}");
        }
        let (s, _) = read(
            "ip=192.0.2.7:192.0.2.2:192.0.2.1:255.255.255.128:board.example.org:eth0:off:9.9.9.9:1.1.1.1:192.0.2.3",
        );
        assert_eq!(s.ipv4, Ipv4::Static { address: Ipv4Addr::new(192, 0, 2, 7), bits: 25 });
        assert_eq!(s.router4, Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!((s.hostname.as_slice(), s.interface.as_slice()), (&b"board"[..], &b"eth0"[..]));
        assert_eq!(s.name_servers.len(), 2);
    }

    #[test]
    fn the_command_line_counts_before_the_file_and_adds_modules() {
        let mut s = Settings::new();
        s.set(Key::Modules, &mut [&b"of_file"[..]].into_iter()).unwrap();
        s.set(Key::Address, &mut [&b"192.0.2.7/24"[..]].into_iter()).unwrap();
        super::read(b"usherd.modules=of_line usherd.address=dhcp", &mut s, &mut |_, _, _| panic!());
        assert!(s.modules().eq([&b"of_file"[..], b"of_line"]));
        assert_eq!(s.ipv4, Ipv4::Dhcp);
    }

    #[test]
    fn masks_are_ones_in_front() {
        for (mask, bits) in [
            ([255, 255, 255, 0], Some(24)),
            ([255, 255, 255, 255], Some(32)),
            ([128, 0, 0, 0], Some(1)),
            ([0, 0, 0, 0], None),
            ([255, 0, 255, 0], None),
            ([0, 255, 255, 255], None),
        ] {
            assert_eq!(mask_bits(Ipv4Addr::from(mask)), bits, "{mask:?}");
        }
    }
}
