//! Access rules as a socket filter, for services whose server owns the socket.
//!
//! A wait server reads from whoever sends: the daemon sees one datagram, or nobody at all, and could only check that.
//! xinetd left it at that, and its manual says so. Here the kernel checks every packet before the server can see it
//! (socket(7), SO_ATTACH_FILTER), with the rules that [`access`](crate::access) applies elsewhere: the most specific
//! network that holds the sender decides, and a tie refuses. Refused packets are dropped in silence; a TCP client's
//! attempt times out.
//!
//! The program is classic BPF (linux/filter.h). Packets of IPv4 clients of an IPv6 socket are IPv4 packets here.

use core::cmp::Reverse;
use core::net::IpAddr;

use heapless::Vec;

use crate::addr::Prefix;
use crate::capacity::FILTER_STEPS;
use crate::service::{Flags, Service};
use crate::table::{Pattern, Rule, Table};

/// `struct sock_filter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Step {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`, and the same for a byte.
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE: u16 = 0x30;
/// `BPF_ALU | BPF_AND | BPF_K`, `BPF_ALU | BPF_RSH | BPF_K`.
const AND: u16 = 0x54;
const SHIFT_RIGHT: u16 = 0x74;
/// `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_JMP | BPF_JA`.
const IF_EQUAL: u16 = 0x15;
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`: so many bytes of the packet are kept.
const RETURN: u16 = 0x06;
const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// `SKF_NET_OFF`: offsets from here on count from the network header.
const NETWORK: u32 = 0xfff0_0000;
/// Offset of the source address in an IPv4 and an IPv6 header (RFC 791 section 3.1, RFC 8200 section 3).
const SOURCE_4: u32 = NETWORK + 12;
const SOURCE_6: u32 = NETWORK + 8;

/// A filter program.
pub type Program = Vec<Step, FILTER_STEPS>;

/// The rules of a service, by their numbers.
struct Rules<'a> {
    no_access: &'a [Rule],
    only_from: &'a [Rule],
}

impl Rules<'_> {
    fn count(&self) -> usize {
        self.no_access.len() + self.only_from.len()
    }

    /// The network of one, and whether it lets in. A packet has no name; such services are refused when the file is read.
    fn get(&self, nth: usize) -> Option<(Prefix, bool)> {
        let (rule, allows) = match self.no_access.get(nth) {
            Some(rule) => (rule, false),
            None => (self.only_from.get(nth - self.no_access.len())?, true),
        };
        match rule.pattern {
            Pattern::Network(prefix) => Some((prefix, allows)),
            Pattern::Name(_) => None,
        }
    }

    /// Their numbers as they are asked: the first that matches decides, so the most significant bits come first, and of equals
    /// the one that refuses.
    fn in_order(&self) -> Option<Vec<u16, { FILTER_STEPS / 4 }>> {
        let key =
            |nth: u16| self.get(usize::from(nth)).map(|(prefix, allows)| (Reverse(prefix.bits()), allows));
        let mut order = Vec::new();
        for nth in 0..self.count() {
            let nth = nth as u16;
            key(nth)?;
            order.push(nth).ok()?;
            // By insertion: a service has few rules, and the code of `sort_unstable` is 2 KB.
            for at in (1..order.len()).rev() {
                if key(order[at - 1]) <= key(order[at]) {
                    break;
                }
                order.swap(at - 1, at);
            }
        }
        Some(order)
    }
}

/// Writes the rules of a service as a filter; `None` if they do not fit. In place: returned, its 32 KB would be on the stack several
/// times.
pub fn write(table: &Table, service: &Service, out: &mut Program) -> Option<()> {
    let rules =
        Rules { no_access: table.rules(service.no_access), only_from: table.rules(service.only_from) };
    let order = rules.in_order()?;
    let each = || order.iter().filter_map(|nth| rules.get(usize::from(*nth)));
    let otherwise = if service.flags.has(Flags::ONLY_FROM) { NOTHING } else { ALL };

    push(out, LOAD_BYTE, NETWORK)?;
    push(out, SHIFT_RIGHT, 4)?;
    out.push(Step { code: IF_EQUAL, if_true: 1, if_false: 0, k: 4 }).ok()?;
    let jump = out.len();
    push(out, JUMP, 0)?;
    for (prefix, allows) in each() {
        if let IpAddr::V4(address) = prefix.address() {
            matches(out, &[(SOURCE_4, address.to_bits())], prefix.bits(), allows)?;
        }
    }
    push(out, RETURN, otherwise)?;
    // The jump counts from the step behind it.
    let distance = (out.len() - jump - 1) as u32;
    out.get_mut(jump)?.k = distance;
    for (prefix, allows) in each() {
        if let IpAddr::V6(address) = prefix.address() {
            let bits = address.to_bits();
            let words = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
            let [a, b, c, d] = words;
            let at = |n: u32| SOURCE_6 + 4 * n;
            matches(out, &[(at(0), a), (at(1), b), (at(2), c), (at(3), d)], prefix.bits(), allows)?;
        }
    }
    push(out, RETURN, otherwise)
}

fn push(out: &mut Program, code: u16, k: u32) -> Option<()> {
    out.push(Step { code, if_true: 0, if_false: 0, k }).ok()
}

/// If the first `bits` bits of these words are as given, this is the decision; else on to what follows.
fn matches(out: &mut Program, words: &[(u32, u32)], bits: u8, allows: bool) -> Option<()> {
    let bits = u32::from(bits);
    let count = bits.div_ceil(32);
    for (n, (at, value)) in (0..count).zip(words) {
        let mask = u32::MAX << (32 - (bits - 32 * n).min(32));
        push(out, LOAD_WORD, *at)?;
        push(out, AND, mask)?;
        // Past the words that are left, three steps each, and the decision.
        let past = 3 * (count - 1 - n) + 1;
        out.push(Step { code: IF_EQUAL, if_true: 0, if_false: past as u8, k: value & mask }).ok()?;
    }
    push(out, RETURN, if allows { ALL } else { NOTHING })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access;
    use crate::addr::{HostName, Peer};
    use crate::table::Origin;
    use std::boxed::Box;

    /// What the kernel would do with a packet from `source`.
    fn run(program: &Program, source: IpAddr) -> bool {
        let mut header = [0u8; 40];
        match source {
            IpAddr::V4(v4) => {
                header[0] = 0x45;
                header[12..16].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                header[0] = 0x60;
                header[8..24].copy_from_slice(&v6.octets());
            }
        }
        let (mut a, mut at) = (0u32, 0);
        loop {
            let step = program[at];
            at += 1;
            let offset = step.k.wrapping_sub(NETWORK) as usize;
            match step.code {
                LOAD_BYTE => a = u32::from(header[offset]),
                LOAD_WORD => a = u32::from_be_bytes(header[offset..offset + 4].try_into().unwrap()),
                AND => a &= step.k,
                SHIFT_RIGHT => a >>= step.k,
                JUMP => at += step.k as usize,
                IF_EQUAL => at += usize::from(if a == step.k { step.if_true } else { step.if_false }),
                RETURN => return step.k != 0,
                code => panic!("code {code:#x}"),
            }
        }
    }

    /// Property: the filter and `access` decide alike, whatever the rules.
    #[test]
    fn the_filter_decides_as_access_does() {
        let mut seed = 7u64;
        let mut dice = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..300 {
            let mut table = Box::new(Table::new());
            // Few distinct bits, so that networks overlap and addresses hit them.
            let address = |dice: &mut dyn FnMut(u64) -> u64| -> IpAddr {
                if dice(2) == 0 {
                    IpAddr::from([10, dice(2) as u8, dice(2) as u8, dice(3) as u8])
                } else {
                    let [a, b, c] = [dice(2), dice(2), dice(3)].map(u128::from);
                    IpAddr::from((0x2001_0db8u128 << 96 | a << 80 | b << 40 | c).to_be_bytes())
                }
            };
            let list =
                |dice: &mut dyn FnMut(u64) -> u64| {
                    let mut prefixes = std::vec::Vec::new();
                    for _ in 0..dice(6) {
                        let a = address(dice);
                        let most = if a.is_ipv4() { 33 } else { 129 };
                        prefixes.extend(Prefix::new(a, dice(most) as u8).map(|prefix| Rule {
                            pattern: Pattern::Network(prefix),
                            origin: Origin::default(),
                        }));
                    }
                    prefixes
                };
            let only_from = table.push_rules(&list(&mut dice)).unwrap();
            let no_access = table.push_rules(&list(&mut dice)).unwrap();
            let flags = if dice(2) == 0 { Flags::ONLY_FROM } else { Flags::default() };
            // Without the flag there is no list.
            let only_from = if flags.has(Flags::ONLY_FROM) { only_from } else { Default::default() };
            let service = Service { only_from, no_access, flags, ..Service::default() };
            let mut program = Program::new();
            write(&table, &service, &mut program).unwrap();
            for _ in 0..100 {
                let source = address(&mut dice);
                assert_eq!(
                    run(&program, source),
                    access::decide(&table, &service, Peer::ip(source, 1), HostName::NotAsked).outcome
                        == access::Outcome::Admitted,
                    "{source}: {:?} {:?}",
                    table.rules(only_from),
                    table.rules(no_access)
                );
            }
        }
    }
}
