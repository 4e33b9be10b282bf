//! Who may come in, by address and time of day.
//!
//! xinetd.conf(5) promises that of `only_from` and `no_access` the more specific match wins; the program let
//! `no_access` win always. Here the manual's reading holds, and a tie refuses. `only_from` that names nobody admits
//! nobody.

use core::net::IpAddr;

use crate::addr::{Peer, Prefix};
use crate::service::{Flags, Service};
use crate::table::Table;

/// Significant bits of the most specific network that holds `address`.
fn best(prefixes: &[Prefix], address: IpAddr) -> Option<u8> {
    prefixes.iter().filter(|p| p.contains(address)).map(Prefix::bits).max()
}

/// Whether the address rules let `peer` in. A peer without an address is in no list.
pub fn admits_address(table: &Table, service: &Service, peer: Peer) -> bool {
    let restricted = service.flags.has(Flags::ONLY_FROM);
    if !restricted && service.no_access.is_empty() {
        return true;
    }
    let Some(address) = peer.address() else { return !restricted };
    let allowed = best(table.prefixes(service.only_from), address);
    let denied = best(table.prefixes(service.no_access), address);
    match (allowed, denied) {
        (Some(allowed), Some(denied)) => allowed > denied,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => !restricted,
    }
}

/// Whether `minute` of the local day, 0 to 1439, lies in access_times. Both ends of a range belong to it.
pub fn admits_minute(table: &Table, service: &Service, minute: u16) -> bool {
    let times = table.times(service.access_times);
    times.is_empty() || times.iter().any(|range| range.from <= minute && minute <= range.to)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    fn service(only: &[&str], no: &[&str]) -> (Box<Table>, Service) {
        let mut table = Box::new(Table::new());
        let parse = |list: &[&str]| -> std::vec::Vec<Prefix> {
            list.iter()
                .map(|text| {
                    let (address, bits) = text.split_once('/').unwrap();
                    Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
                })
                .collect()
        };
        let only_from = table.push_prefixes(&parse(only)).unwrap();
        let no_access = table.push_prefixes(&parse(no)).unwrap();
        let flags = if only.is_empty() { Flags::default() } else { Flags::ONLY_FROM };
        (table, Service { only_from, no_access, flags, ..Service::default() })
    }

    fn admits((table, service): &(Box<Table>, Service), address: &str) -> bool {
        admits_address(table, service, Peer::ip(address.parse().unwrap(), 1))
    }

    #[test]
    fn the_more_specific_rule_wins_and_a_tie_refuses() {
        let s = service(&["10.0.0.5/32"], &["10.0.0.0/24"]);
        assert!(admits(&s, "10.0.0.5"));
        assert!(!admits(&s, "10.0.0.6"));
        assert!(!admits(&s, "192.0.2.1"));
        let tie = service(&["10.0.0.0/24"], &["10.0.0.0/24"]);
        assert!(!admits(&tie, "10.0.0.5"));
        let open = service(&[], &["10.0.0.0/24"]);
        assert!(admits(&open, "192.0.2.1"));
        assert!(!admits(&open, "10.0.0.1"));
    }

    #[test]
    fn only_from_that_names_nobody_admits_nobody() {
        let (table, mut s) = service(&[], &[]);
        s.flags = Flags::ONLY_FROM;
        assert!(!admits_address(&table, &s, Peer::ip("127.0.0.1".parse().unwrap(), 1)));
        assert!(!admits_address(&table, &s, Peer::Local));
    }

    #[test]
    fn a_mapped_client_is_an_ipv4_client() {
        let s = service(&["127.0.0.0/8"], &[]);
        assert!(admits(&s, "::ffff:127.0.0.1"));
        let six = service(&["::/0"], &[]);
        assert!(!admits(&six, "::ffff:127.0.0.1"));
    }
}
