//! Random only_from and no_access, asked of xinetd and of usherd by clients of many addresses.
//!
//! What each of the two should answer is worked out here as well, so that they differ where that is meant and nowhere
//! else: where both lists match a client, and in the forms that xinetd misreads (`Form::seen_by`). `USHERD_CASES` says
//! how many configurations, `USHERD_SEED` which.

use crate::harness::*;
use std::fmt::Write;
use std::net::IpAddr;

/// One word of a list, and what it means.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Form {
    text: &'static str,
    /// Networks, as addresses and significant bits.
    nets: &'static [(&'static str, u32)],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Plain,
    /// xinetd keeps the bits that do not count, and `-=` must have them.
    HostBits,
    /// xinetd looks up the client's name, which IPv4 clients of an IPv6 socket have not.
    Name,
    /// xinetd takes it for a name that nobody has, or matches it on IPv6 sockets alone.
    Host128,
    Mapped,
}

const fn form(text: &'static str, kind: Kind, nets: &'static [(&'static str, u32)]) -> Form {
    Form { text, kind, nets }
}

const FORMS: &[Form] = &[
    form("127.0.0.1", Kind::Plain, &[("127.0.0.1", 32)]),
    form("127.0.0.2", Kind::Plain, &[("127.0.0.2", 32)]),
    form("127.0.1.5", Kind::Plain, &[("127.0.1.5", 32)]),
    form("127.0.1.5/32", Kind::Plain, &[("127.0.1.5", 32)]),
    form("127.0.2.9", Kind::Plain, &[("127.0.2.9", 32)]),
    form("10.9.8.7", Kind::Plain, &[("10.9.8.7", 32)]),
    form("127.0.1.0", Kind::Plain, &[("127.0.1.0", 24)]),
    form("127.0.1.0/24", Kind::Plain, &[("127.0.1.0", 24)]),
    form("127.0.1.77/24", Kind::HostBits, &[("127.0.1.0", 24)]),
    form("127.9.0.0", Kind::Plain, &[("127.9.0.0", 16)]),
    form("127.0.0.0", Kind::Plain, &[("127.0.0.0", 8)]),
    form("127.0.0.0/24", Kind::Plain, &[("127.0.0.0", 24)]),
    form("127.0.0.0/23", Kind::Plain, &[("127.0.0.0", 23)]),
    form("127.0.0.0/31", Kind::Plain, &[("127.0.0.0", 31)]),
    form("127.0.0.2/31", Kind::Plain, &[("127.0.0.2", 31)]),
    form("0.0.0.0", Kind::Plain, &[("0.0.0.0", 0)]),
    form("0.0.0.0/0", Kind::Plain, &[("0.0.0.0", 0)]),
    form("127.0.{1,2}", Kind::Plain, &[("127.0.1.0", 24), ("127.0.2.0", 24)]),
    form("127.0.0.{2,7}", Kind::Plain, &[("127.0.0.2", 32), ("127.0.0.7", 32)]),
    form("127.{9,10}", Kind::Plain, &[("127.9.0.0", 16), ("127.10.0.0", 16)]),
    form("::1", Kind::Plain, &[("::1", 128)]),
    form("fd00::5", Kind::Plain, &[("fd00::5", 128)]),
    form("fd00:0::0:5", Kind::Plain, &[("fd00::5", 128)]),
    form("fd00::/8", Kind::Plain, &[("fd00::", 8)]),
    form("fd00::/64", Kind::Plain, &[("fd00::", 64)]),
    form("fd00::4/127", Kind::Plain, &[("fd00::4", 127)]),
    form("::/0", Kind::Plain, &[("::", 0)]),
    form("::/64", Kind::Plain, &[("::", 64)]),
    form("::/90", Kind::Plain, &[("::", 90)]),
    form("::1/128", Kind::Host128, &[("::1", 128)]),
    form("::ffff:127.0.1.5", Kind::Mapped, &[("127.0.1.5", 32)]),
    form("localhost", Kind::Name, &[("127.0.0.1", 32)]),
    form("two.test", Kind::Name, &[("127.0.0.2", 32)]),
];

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// How many bits say that the client is in that network.
fn held(&(net, length): &(&str, u32), client: IpAddr) -> Option<u32> {
    let net: IpAddr = net.parse().expect("an address");
    let skipped = if net.is_ipv4() { 96 } else { 0 };
    let same = (bits(net) ^ bits(client)).leading_zeros();
    (net.is_ipv4() == client.is_ipv4() && same >= skipped + length).then_some(length)
}

impl Form {
    fn matches(&self, client: IpAddr) -> bool {
        self.nets.iter().any(|net| held(net, client).is_some())
    }

    /// Whether xinetd sees the client in it, on a socket for IPv6 or for IPv4 alone.
    fn seen_by_xinetd(&self, client: IpAddr, is_v6: bool) -> bool {
        match self.kind {
            Kind::Host128 => false,
            Kind::Mapped if !is_v6 => false,
            Kind::Name if is_v6 && client.is_ipv4() => false,
            _ if self.matches(client) => true,
            // Compared with ::ffff:a.b.c.d, all of whose first 80 bits are zero.
            Kind::Plain if is_v6 && client.is_ipv4() => {
                self.nets.iter().any(|(net, length)| *net == "::" && *length <= 80)
            }
            _ => false,
        }
    }

    /// Whether `-=` of this takes `other`, of one network, away from xinetd's list.
    fn is_for_xinetd(&self, other: &Form) -> bool {
        // What it never matches it takes away all the same.
        let kind = if self.kind == Kind::Host128 { Kind::Plain } else { self.kind };
        kind == other.kind && self.nets.contains(&other.nets[0])
    }
}

/// A list as each of the two has it, and the lines that make it.
#[derive(Clone, Default)]
struct List {
    is_set: bool,
    /// Each with one network.
    theirs: Vec<Form>,
    /// Networks: usherd's lists know no forms.
    ours: Vec<(&'static str, u32)>,
}

impl List {
    fn change(&mut self, random: &mut Random, name: &str, is_defaults: bool, text: &mut String) {
        let operator = ["=", "+=", "+=", "-="][random.below(4)];
        // An empty list of defaults is set too.
        let words = random.below(4);
        write!(text, "\t{name} {operator}").expect("a line");
        if operator == "=" && !is_defaults {
            *self = List::default();
        }
        self.is_set = true;
        for _ in 0..words {
            // What is taken away is often there.
            let there = match self.theirs.len() {
                n @ 1.. if operator == "-=" && !random.one_in(3) => Some(self.theirs[random.below(n)].text),
                _ => None,
            };
            // As it was written, with all its networks.
            let form = FORMS.iter().find(|form| Some(form.text) == there);
            let form = *form.unwrap_or_else(|| &FORMS[random.below(FORMS.len())]);
            write!(text, " {}", form.text).expect("a word");
            if operator == "-=" {
                self.theirs.retain(|other| !form.is_for_xinetd(other));
                self.ours.retain(|net| !form.nets.contains(net));
            } else {
                self.theirs.extend(form.nets.chunks(1).map(|nets| Form { nets, ..form }));
                self.ours.extend(form.nets);
            }
        }
        text.push('\n');
    }

    fn random(&mut self, random: &mut Random, name: &str, is_defaults: bool, text: &mut String) {
        for _ in 0..[0, 1, 1, 2, 3][random.below(5)] {
            self.change(random, name, is_defaults, text);
        }
    }
}

struct Service {
    only: List,
    no: List,
    is_v6: bool,
}

#[derive(Default)]
struct Tally {
    same: u32,
    both: u32,
    misread: u32,
}

impl Service {
    fn theirs(&self, client: IpAddr) -> bool {
        let is_in = |list: &List| list.theirs.iter().any(|form| form.seen_by_xinetd(client, self.is_v6));
        (!self.only.is_set || is_in(&self.only)) && !is_in(&self.no)
    }

    fn ours(&self, client: IpAddr) -> bool {
        let best = |list: &List| list.ours.iter().filter_map(|net| held(net, client)).max();
        match (best(&self.only), best(&self.no)) {
            (Some(only), Some(no)) => only > no,
            (only, no) => no.is_none() && (only.is_some() || !self.only.is_set),
        }
    }

    /// Whether both lists match the client, so that the more specific rule may win.
    fn is_in_both(&self, client: IpAddr) -> bool {
        let is_in = |list: &List| list.theirs.iter().any(|form| form.matches(client));
        is_in(&self.only) && is_in(&self.no)
    }
}

const SERVICES: u16 = 8;

fn random_case(random: &mut Random) -> (String, Vec<Service>) {
    let mut text = "defaults\n{\n".to_owned();
    let (mut only, mut no) = (List::default(), List::default());
    if random.one_in(2) {
        only.random(random, "only_from", true, &mut text);
        no.random(random, "no_access", true, &mut text);
    }
    text.push_str("}\n");
    let mut services = vec![];
    for port in 9901..9901 + SERVICES {
        let (mut only, mut no) = (only.clone(), no.clone());
        let is_v6 = !random.one_in(3);
        writeln!(text, "service s{port}\n{{\n\ttype = UNLISTED\n\tport = {port}\n\tsocket_type = stream")
            .expect("text");
        writeln!(text, "\twait = no\n\tuser = root\n\tserver = /run/test/hello").expect("text");
        if !is_v6 {
            text.push_str("\tflags = IPv4\n");
        }
        only.random(random, "only_from", false, &mut text);
        no.random(random, "no_access", false, &mut text);
        text.push_str("}\n");
        services.push(Service { only, no, is_v6 });
    }
    (text, services)
}

#[test]
fn random_access_lists() {
    let (seed, mut random) = Random::seeded();
    let cases = cases(30);
    in_net(move |net| {
        net.add_address("fd00::5");
        net.script("hello", HELLO);
        let ports: Vec<String> = (9901..9901 + SERVICES).map(|port| format!("tcp/{port}")).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let mut tally = Tally::default();
        for case in 0..cases {
            let (conf, services) = random_case(&mut random);
            for subject in xinetd_family() {
                let daemon = Daemon::start(net, subject, Conf::Xinetd(&conf)).ready(&ports);
                for (service, port) in services.iter().zip(9901..) {
                    for client in CLIENTS {
                        if client.contains(':') && !service.is_v6 {
                            continue;
                        }
                        let address = client.parse().expect("an address");
                        let (theirs, ours) = (service.theirs(address), service.ours(address));
                        let expected = if subject == Subject::Xinetd { theirs } else { ours };
                        let fate = fate_of(client, port);
                        let is_in = match &*fate {
                            "\"hello\\n\" end" => true,
                            "\"\" end" => false,
                            other => panic!("seed {seed} case {case}: {subject:?} {client} {port}: {other}"),
                        };
                        assert_eq!(
                            is_in, expected,
                            "USHERD_SEED={seed} case {case}: {subject:?}, {client} of s{port}\n{conf}"
                        );
                        if subject == Subject::Usherd {
                            match (theirs == ours, service.is_in_both(address)) {
                                (true, _) => tally.same += 1,
                                (false, true) => tally.both += 1,
                                (false, false) => tally.misread += 1,
                            }
                        }
                    }
                }
                drop(daemon);
            }
        }
        let Tally { same, both, misread } = tally;
        println!(
            "{cases} cases: {same} answers agree, {both} differ for a client of both lists, {misread} for a form that xinetd misreads"
        );
        // Of most seeds it is more than ten times as many; 1795908068708995270 has nine.
        assert!(same > 5 * (both + misread), "too little of it is compared");
    });
}
