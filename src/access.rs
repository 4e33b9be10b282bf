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

use crate::addr::{HostName, Peer, ends_in};
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
        [b'.', ..] => ends_in(name, pattern),
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
    use std::format;
    use std::string::String;
    use std::vec::Vec;

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

    // ---- against another reading of the same manual ----

    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: u64) -> u64 {
            // xorshift64*
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
        }

        fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
            all[self.below(all.len() as u64) as usize]
        }
    }

    /// Few of each, so that they meet.
    const ADDRESSES: [&str; 9] = [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.1.1",
        "10.128.0.1",
        "192.0.2.1",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:1::1",
        "::ffff:10.0.0.1",
    ];
    const BITS_V4: [&str; 7] = ["0", "1", "8", "9", "24", "31", "32"];
    const BITS_V6: [&str; 7] = ["0", "1", "32", "48", "64", "127", "128"];
    const NAMES: [&str; 5] =
        ["a.example.org", "b.example.org", "a.b.example.org", "example.org", "A.Example.COM"];
    const DOMAINS: [&str; 5] = [".org", ".example.org", ".b.example.org", ".com", ".EXAMPLE.com"];

    fn random_list(dice: &mut Dice) -> Vec<String> {
        (0..dice.below(5))
            .map(|_| match dice.below(4) {
                0 => dice.pick(&NAMES).into(),
                1 => dice.pick(&DOMAINS).into(),
                _ => {
                    let address = dice.pick(&ADDRESSES[..8]);
                    let bits = if address.contains(':') { dice.pick(&BITS_V6) } else { dice.pick(&BITS_V4) };
                    format!("{address}/{bits}")
                }
            })
            .collect()
    }

    /// The bits of an address as text, a mapped one's as IPv4.
    fn bits(address: &str) -> String {
        match address.parse::<IpAddr>().unwrap().to_canonical() {
            IpAddr::V4(v4) => format!("{:032b}", u32::from(v4)),
            IpAddr::V6(v6) => format!("{:0128b}", u128::from(v6)),
        }
    }

    /// How much a pattern says if it matches: networks by their length, a host as a whole address, domains by their own
    /// length and all of them less than any network.
    fn weight(pattern: &str, address: &str, name: Option<&str>) -> Option<i64> {
        if let Some((net, len)) = pattern.split_once('/') {
            let (net, address, len) = (bits(net), bits(address), len.parse::<usize>().unwrap());
            let is_in = net.len() == address.len() && net[..len] == address[..len];
            return is_in.then_some(len as i64);
        }
        let (name, pattern) = (name?.to_lowercase(), pattern.to_lowercase());
        if pattern.starts_with('.') {
            let is_in = name.ends_with(&pattern) && name != pattern;
            return is_in.then_some(pattern.len() as i64 - 1000);
        }
        (name == pattern).then_some(bits(address).len() as i64)
    }

    /// All that match, the weightiest first and of equals the one that refuses: that one decides.
    fn model(only: &[String], no: &[String], restricted: bool, address: &str, name: Option<&str>) -> bool {
        let mut all: Vec<(i64, bool)> = Vec::new();
        for (list, admits) in [(only, true), (no, false)] {
            all.extend(list.iter().filter_map(|rule| Some((weight(rule, address, name)?, admits))));
        }
        all.sort_by_key(|&(weight, admits)| (-weight, admits));
        all.first().map_or(!restricted, |&(_, admits)| admits)
    }

    /// Names that change the answer: one that matches any set of the patterns that a real name can match at once.
    fn possible_names(lists: [&[String]; 2]) -> Vec<String> {
        let mut names: Vec<String> = ["nobody.invalid".into()].into();
        for pattern in lists.into_iter().flatten().filter(|pattern| !pattern.contains('/')) {
            names.push(if pattern.starts_with('.') { format!("x{pattern}") } else { pattern.clone() });
        }
        names
    }

    #[test]
    fn random_rules_mean_what_an_independent_model_says() {
        let seed = match std::env::var("ACCESS_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1,
        };
        std::println!("ACCESS_SEED={seed}");
        let mut dice = Dice(seed);
        let mut asked = 0;
        for case in 0..20_000 {
            let (only, no) = (random_list(&mut dice), random_list(&mut dice));
            let address = dice.pick(&ADDRESSES);
            fn texts(list: &[String]) -> Vec<&str> {
                list.iter().map(String::as_str).collect()
            }
            let s = service(&texts(&only), &texts(&no));
            let restricted = !only.is_empty();
            let what = |name: &str| format!("case {case}, seed {seed}: {only:?} {no:?} {address} {name}");
            let says = |name: Option<&str>| model(&only, &no, restricted, address, name);
            for name in NAMES.iter().chain(&["other.test", "x.example.org", "x.com"]) {
                let wanted = if says(Some(name)) { Outcome::Admitted } else { Outcome::Refused };
                assert_eq!(outcome(&s, address, HostName::Known(name.as_bytes())), wanted, "{}", what(name));
            }
            // Whether a name could change it, and who has none is let in only if no name could keep him out.
            let mut answers: Vec<bool> = possible_names([&only, &no]).iter().map(|n| says(Some(n))).collect();
            answers.push(says(None));
            let unnamed = outcome(&s, address, HostName::NotAsked);
            let is_turning = answers.iter().any(|answer| *answer != answers[0]);
            match unnamed {
                Outcome::NeedsName => asked += 1,
                certain => {
                    assert!(!is_turning, "{}", what("turns on the name"));
                    assert_eq!(certain == Outcome::Admitted, answers[0], "{}", what("-"));
                }
            }
            let no_name = says(None) && answers.iter().all(|answer| *answer);
            for name in [HostName::Unknown, HostName::Paranoid] {
                assert_eq!(outcome(&s, address, name) == Outcome::Admitted, no_name, "{}", what("unknown"));
            }
        }
        assert!((1000..15_000).contains(&asked), "{asked} turned on a name");
    }
}
