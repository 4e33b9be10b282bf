//! Who may come in, by address, name and time of day.
//!
//! xinetd.conf(5) promises that of `only_from` and `no_access` the more specific match wins; the program let
//! `no_access` win always. Here the manual's reading holds, and a tie refuses. `only_from` that names nobody admits
//! nobody.
//!
//! A name is asked for only if the answer turns on it, and a client whose name turns out to be none, or not to lead back
//! to him, is refused then: xinetd let such clients pass a `no_access` by name (CVE-2000-0536 was the same).

#![forbid(unsafe_code)]

use core::net::IpAddr;

use crate::addr::{HostName, Peer};
use crate::service::{Flags, Service};
use crate::table::{Origin, Pattern, Rule, Table};

/// What the address rules of a service say of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Admitted,
    Refused,
    /// It turns on the client's name, which has not been asked for.
    NeedsName,
}

/// What the rules say, and the one that says it: `None` if it is that no rule matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    pub outcome: Outcome,
    pub by: Option<Origin>,
}

/// How specific a match is; the greater wins. A domain says less than any network, a longer one more than a shorter
/// one, and the name of a host as much as its address.
type Rank = u16;

const NETWORK: Rank = 256;

fn network(bits: u8) -> Rank {
    NETWORK + Rank::from(bits)
}

/// The rank of a match by that name pattern, for a client of that family.
fn named(pattern: &[u8], address: IpAddr) -> Rank {
    match pattern {
        [b'.', ..] => Rank::try_from(pattern.len()).unwrap_or(NETWORK).min(NETWORK - 1),
        _ => network(if address.is_ipv4() { 32 } else { 128 }),
    }
}

/// Whether `name` is that host, or one of that domain.
fn is_named(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [b'.', ..] => {
            let from = name.len().checked_sub(pattern.len()).filter(|&from| from > 0);
            from.and_then(|from| name.get(from..)).is_some_and(|end| end.eq_ignore_ascii_case(pattern))
        }
        _ => name.eq_ignore_ascii_case(pattern),
    }
}

/// The best matches of a list.
#[derive(Clone, Copy, Default)]
struct Best {
    /// By address alone, or by the name where it is known.
    certain: Option<(Rank, Origin)>,
    /// The best that a name could still add.
    possible: Option<(Rank, Origin)>,
}

fn best(table: &Table, rules: &[Rule], address: IpAddr, name: HostName<'_>) -> Best {
    let mut best = Best::default();
    let raise = |slot: &mut Option<(Rank, Origin)>, rank: Rank, origin: Origin| {
        if slot.is_none_or(|(before, _)| before < rank) {
            *slot = Some((rank, origin));
        }
    };
    for rule in rules {
        match rule.pattern {
            Pattern::Network(prefix) if prefix.contains(address) => {
                raise(&mut best.certain, network(prefix.bits()), rule.origin);
            }
            Pattern::Network(_) => {}
            Pattern::Name(text) => {
                let pattern = table.bytes(text);
                let rank = named(pattern, address);
                match name {
                    HostName::Known(name) if is_named(pattern, name) => {
                        raise(&mut best.certain, rank, rule.origin);
                    }
                    HostName::Known(_) => {}
                    _ => raise(&mut best.possible, rank, rule.origin),
                }
            }
        }
    }
    best
}

/// What the address rules say of `peer`. A client of a unix socket has no address and is in no list; one that is not
/// known yet (a wait server will accept it) might be in any, so rules refuse it.
pub fn decide(table: &Table, service: &Service, peer: Peer, name: HostName<'_>) -> Decision {
    let restricted = service.flags.has(Flags::ONLY_FROM);
    let certain = |is_admitted: bool, by| {
        let outcome = if is_admitted { Outcome::Admitted } else { Outcome::Refused };
        Decision { outcome, by }
    };
    if !restricted && service.no_access.is_empty() {
        return certain(true, None);
    }
    let Some(address) = peer.address() else { return certain(!restricted && peer == Peer::Local, None) };
    let allowed = best(table, table.rules(service.only_from), address, name);
    let denied = best(table, table.rules(service.no_access), address, name);
    let verdict = match (allowed.certain, denied.certain) {
        (Some((allowed, by)), Some((denied, _))) if allowed > denied => certain(true, Some(by)),
        (_, Some((_, by))) => certain(false, Some(by)),
        (Some((_, by)), None) => certain(true, Some(by)),
        (None, None) => certain(!restricted, None),
    };
    // Only a better match of the other list could change that.
    let rank = |best: Option<(Rank, Origin)>| best.map_or(0, |(rank, _)| rank);
    let doubt = match verdict.outcome {
        Outcome::Admitted => denied.possible.filter(|(rank_of, _)| *rank_of >= rank(allowed.certain)),
        _ => allowed.possible.filter(|(rank_of, _)| *rank_of > rank(denied.certain)),
    };
    match (doubt, name) {
        (None, _) => verdict,
        (Some((_, by)), HostName::NotAsked) => Decision { outcome: Outcome::NeedsName, by: Some(by) },
        // He has no name, or a false one, and might be the one who is meant.
        (Some((_, by)), _) => match verdict.outcome {
            Outcome::Admitted => certain(false, Some(by)),
            _ => verdict,
        },
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
    use crate::addr::Prefix;
    use std::boxed::Box;

    fn service(only: &[&str], no: &[&str]) -> (Box<Table>, Service) {
        let mut table = Box::new(Table::new());
        let mut parse = |list: &[&str]| {
            let mut rules = std::vec::Vec::new();
            for text in list {
                let pattern = match text.split_once('/') {
                    Some((address, bits)) => Pattern::Network(
                        Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap(),
                    ),
                    None => Pattern::Name(table.push_text(text.as_bytes()).unwrap()),
                };
                rules.push(Rule { pattern, origin: Origin::default() });
            }
            table.push_rules(&rules).unwrap()
        };
        let (only_from, no_access) = (parse(only), parse(no));
        let flags = if only.is_empty() { Flags::default() } else { Flags::ONLY_FROM };
        (table, Service { only_from, no_access, flags, ..Service::default() })
    }

    fn outcome((table, service): &(Box<Table>, Service), address: &str, name: HostName<'_>) -> Outcome {
        decide(table, service, Peer::ip(address.parse().unwrap(), 1), name).outcome
    }

    fn admits(s: &(Box<Table>, Service), address: &str) -> bool {
        let outcome = outcome(s, address, HostName::NotAsked);
        assert_ne!(outcome, Outcome::NeedsName);
        outcome == Outcome::Admitted
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
        let refused = |peer| decide(&table, &s, peer, HostName::NotAsked).outcome == Outcome::Refused;
        assert!(refused(Peer::ip("127.0.0.1".parse().unwrap(), 1)));
        assert!(refused(Peer::Local));
    }

    #[test]
    fn a_mapped_client_is_an_ipv4_client() {
        let s = service(&["127.0.0.0/8"], &[]);
        assert!(admits(&s, "::ffff:127.0.0.1"));
        let six = service(&["::/0"], &[]);
        assert!(!admits(&six, "::ffff:127.0.0.1"));
    }

    #[test]
    fn a_name_is_asked_for_only_if_the_answer_turns_on_it() {
        let s = service(&["10.0.0.0/8", ".example.org", "host.example.net"], &["10.9.0.0/16"]);
        assert!(admits(&s, "10.1.1.1"));
        // The domain says less than the network that refuses; the host says more.
        assert_eq!(outcome(&s, "10.9.1.1", HostName::NotAsked), Outcome::NeedsName);
        assert_eq!(outcome(&s, "10.9.1.1", HostName::Known(b"a.example.org")), Outcome::Refused);
        assert_eq!(outcome(&s, "10.9.1.1", HostName::Known(b"HOST.example.net")), Outcome::Admitted);
        let ask = "192.0.2.1";
        assert_eq!(outcome(&s, ask, HostName::NotAsked), Outcome::NeedsName);
        assert_eq!(outcome(&s, ask, HostName::Known(b"www.Example.ORG")), Outcome::Admitted);
        assert_eq!(outcome(&s, ask, HostName::Known(b"example.org")), Outcome::Refused);
        assert_eq!(outcome(&s, ask, HostName::Known(b"www.example.org.evil")), Outcome::Refused);
        assert_eq!(outcome(&s, ask, HostName::Unknown), Outcome::Refused);
        assert_eq!(outcome(&s, ask, HostName::Paranoid), Outcome::Refused);
        let domain_only = service(&[".example.org"], &["10.9.0.0/16"]);
        assert!(!admits(&domain_only, "10.9.1.1"));
    }

    #[test]
    fn who_has_no_name_may_be_the_one_who_is_kept_out() {
        let s = service(&[], &["bad.example.org", ".evil"]);
        assert_eq!(outcome(&s, "192.0.2.1", HostName::NotAsked), Outcome::NeedsName);
        assert_eq!(outcome(&s, "192.0.2.1", HostName::Known(b"good.example.org")), Outcome::Admitted);
        assert_eq!(outcome(&s, "192.0.2.1", HostName::Known(b"bad.example.org")), Outcome::Refused);
        assert_eq!(outcome(&s, "192.0.2.1", HostName::Known(b"x.y.evil")), Outcome::Refused);
        assert_eq!(outcome(&s, "192.0.2.1", HostName::Unknown), Outcome::Refused);
        // An address that is let in says as much as a host's name, and a tie refuses.
        let s = service(&["192.0.2.1/32"], &[".evil"]);
        assert!(admits(&s, "192.0.2.1"));
    }
}
