//! only_from and no_access, asked of the real xinetd: the same lists, the same clients, the same answers.
//!
//! One configuration has a service for every pair of lists, and every client asks all of them, of xinetd first and then of
//! usherd. Where the answers differ [`why`] must know it. `USHERD_CASES` says how many random lists, `USHERD_SEED`
//! which.

mod harness;

use harness::*;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

/// Who asks. All of them are this machine.
const CLIENTS: [&str; 7] =
    ["127.0.0.1", "127.0.0.2", "127.0.1.5", "127.0.2.9", "127.9.0.1", "::1", "fd00::5"];

/// A service's two lists, as they stand in its section.
#[derive(Clone, Debug)]
struct Lists {
    only_from: Option<String>,
    no_access: Option<String>,
}

impl Lists {
    fn of(only_from: &str, no_access: &str) -> Lists {
        let list = |text: &str| (text != "-").then(|| text.to_owned());
        Lists { only_from: list(only_from), no_access: list(no_access) }
    }

    fn lines(&self) -> String {
        let line = |name: &str, list: &Option<String>| {
            list.as_ref().map_or(String::new(), |list| format!("\t{name} = {list}\n"))
        };
        line("only_from", &self.only_from) + &line("no_access", &self.no_access)
    }
}

/// Every form of an address, alone and against another; `-` for no list.
const WRITTEN: &[(&str, &str)] = &[
    ("-", "-"),
    ("127.0.0.1", "-"),
    ("127.0.0.1 127.0.2.9", "-"),
    ("127.0.1.0", "-"),
    ("127.0.0.0", "-"),
    ("0.0.0.0", "-"),
    ("127.0.0.0/8", "-"),
    ("127.0.0.0/23", "-"),
    ("127.0.1.5/32", "-"),
    ("127.0.0.0/0", "-"),
    ("127.0.{1,2}", "-"),
    ("127.0.0.{1,2}", "-"),
    ("127.{0,9}", "-"),
    ("::1", "-"),
    ("fd00::5", "-"),
    ("fd00::/16", "-"),
    ("fd00::/8 127.0.0.2", "-"),
    ("::/0", "-"),
    ("fd00::5/128", "-"),
    ("localhost", "-"),
    ("", "-"),
    ("-", "127.0.0.1"),
    ("-", "127.0.1.0"),
    ("-", "127.0.0.0/8"),
    ("-", "127.0.{1,2}"),
    ("-", "::1"),
    ("-", "fd00::/64"),
    ("-", "localhost"),
    ("-", "0.0.0.0/0"),
    ("127.0.0.0/8", "127.0.1.0"),
    ("127.0.0.0/8", "127.0.1.5 ::1"),
    ("127.0.1.5", "127.0.1.0"),
    ("127.0.1.0", "127.0.1.0"),
    ("0.0.0.0/0 ::1", "127.9.0.0"),
];

/// Networks as (address, bits), for what both lists say of a client.
fn matches(list: &Option<String>, client: IpAddr) -> bool {
    let Some(list) = list else { return false };
    list.split_whitespace().any(|word| {
        if word == "localhost" {
            return client.is_loopback() && matches!(client.to_string().as_str(), "127.0.0.1" | "::1");
        }
        let (net, bits) = match word.split_once('/') {
            Some((net, bits)) => (net.to_owned(), bits.parse::<u32>().unwrap()),
            None if word.contains('{') => return true,
            None if word.contains(':') => (word.to_owned(), 128),
            None => {
                let zeros = word.split('.').rev().take_while(|part| *part == "0").count() as u32;
                (word.to_owned(), 32 - 8 * zeros)
            }
        };
        match (net.parse().unwrap(), client) {
            (IpAddr::V4(net), IpAddr::V4(client)) => {
                (net.to_bits() ^ client.to_bits()).leading_zeros() >= bits.min(32)
            }
            (IpAddr::V6(net), IpAddr::V6(client)) => {
                (net.to_bits() ^ client.to_bits()).leading_zeros() >= bits
            }
            _ => false,
        }
    })
}

/// Why usherd may answer otherwise than xinetd. Each has its row in docs/differences.md.
fn why(lists: &Lists, client: IpAddr, ours: bool) -> Option<&'static str> {
    let words = |list: &Option<String>| list.clone().unwrap_or_default();
    let all = words(&lists.only_from) + " " + &words(&lists.no_access);
    if matches(&lists.only_from, client) && matches(&lists.no_access, client) {
        return Some("of two lists the more specific match wins, as the manual says");
    }
    if all.contains("/128") {
        return Some("xinetd takes an address with /128 for the name of a host");
    }
    if client.is_ipv4() && all.split_whitespace().any(|word| word.contains(':') && word.contains('/')) {
        return Some("xinetd compares an IPv6 network with the mapped address of an IPv4 client");
    }
    if client.is_ipv4() && all.contains("localhost") {
        return Some("xinetd looks for the name of a mapped address, which is in no hosts file");
    }
    if !ours
        && client.is_ipv6()
        && all.split_whitespace().any(|word| word == "0.0.0.0" || word.ends_with("/0"))
    {
        return Some("0.0.0.0 is every IPv4 client");
    }
    None
}

const FIRST_PORT: u16 = 9000;

fn configuration(all: &[Lists]) -> String {
    let mut text = String::from("defaults\n{\n\tinstances = 100\n\tcps = 10000 1\n}\n");
    for (n, lists) in all.iter().enumerate() {
        text += &format!(
            "service s{n}\n{{\n\ttype = UNLISTED\n\tflags = IPv6 NOLIBWRAP\n\tport = {}\n\tsocket_type = stream\n\tprotocol = tcp\n\twait = no\n\tuser = root\n\tserver = /bin/echo\n\tserver_args = in\n{}}}\n",
            FIRST_PORT + n as u16,
            lists.lines()
        );
    }
    text
}

/// Whether each client gets in to each service.
fn answers(net: &Net, subject: Subject, all: &[Lists]) -> Vec<[bool; CLIENTS.len()]> {
    let text = configuration(all);
    let last = format!("tcp/{}", FIRST_PORT + all.len() as u16 - 1);
    let daemon = Daemon::start(net, subject, Conf::Xinetd(&text)).ready(&[&last]);
    let answers = (0..all.len())
        .map(|n| {
            CLIENTS.map(|client| {
                let port = FIRST_PORT + n as u16;
                let from: IpAddr = client.parse().unwrap();
                let to: SocketAddr = match from {
                    IpAddr::V4(_) => ([127, 0, 0, 1], port).into(),
                    IpAddr::V6(_) => (std::net::Ipv6Addr::LOCALHOST, port).into(),
                };
                let from = SocketAddr::new(from, 0).to_string();
                let mut stream = tcp_from(&from, &to.to_string());
                let mut heard = String::new();
                // A reset is a refusal, too.
                let _ = stream.read_to_string(&mut heard);
                heard == "in\n"
            })
        })
        .collect();
    drop(daemon);
    answers
}

fn compare(net: &Net, all: &[Lists]) -> (usize, usize) {
    let status = Command::new("ip").args(["addr", "add", "fd00::5/128", "dev", "lo"]).status();
    assert!(status.expect("ip runs").success());
    let theirs = answers(net, Subject::Xinetd, all);
    let ours = answers(net, Subject::Usherd, all);
    let (mut same, mut differ) = (0, 0);
    let mut wrong = Vec::new();
    for ((lists, theirs), ours) in all.iter().zip(&theirs).zip(&ours) {
        for ((client, theirs), ours) in CLIENTS.iter().zip(theirs).zip(ours) {
            if theirs == ours {
                same += 1;
            } else if why(lists, client.parse().unwrap(), *ours).is_some() {
                differ += 1;
            } else {
                wrong.push(format!("{client}: xinetd {theirs}, usherd {ours}: {lists:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} disagreements without a reason:\n{}", wrong.len(), wrong.join("\n"));
    (same, differ)
}

#[test]
fn every_form_of_an_address_means_what_xinetd_makes_of_it() {
    in_net(|net| {
        let all: Vec<Lists> = WRITTEN.iter().map(|(only, no)| Lists::of(only, no)).collect();
        let (same, differ) = compare(net, &all);
        println!("{same} answers alike, {differ} differ for a reason");
        assert!(same > 5 * differ);
    });
}

#[test]
fn random_lists_mean_what_xinetd_makes_of_them() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("USHERD_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let cases = number("USHERD_CASES").unwrap_or(40).min(100);
    println!("USHERD_SEED={seed}");
    in_net(move |net| {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut dice = move |n: u64| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
        };
        let word = |dice: &mut dyn FnMut(u64) -> u64| match dice(6) {
            0 => format!("127.{}.{}.{}", dice(2) * 9, dice(3), dice(10)),
            1 => format!("127.{}.{}.0", dice(2) * 9, dice(3)),
            2 => format!("127.0.{}.{}/{}", dice(3), dice(10), 8 + dice(25)),
            3 => format!("127.0.{{{},{}}}", dice(3), dice(3)),
            4 => ["::1", "fd00::5", "fd00::6"][dice(3) as usize].to_owned(),
            _ => format!("fd00::{}/{}", dice(9), 8 * (1 + dice(15))),
        };
        let list = |dice: &mut dyn FnMut(u64) -> u64| match dice(4) {
            0 => None,
            n => Some((0..n).map(|_| word(dice)).collect::<Vec<_>>().join(" ")),
        };
        let all: Vec<Lists> =
            (0..cases).map(|_| Lists { only_from: list(&mut dice), no_access: list(&mut dice) }).collect();
        let (same, differ) = compare(net, &all);
        println!("{same} answers alike, {differ} differ for a reason");
    });
}
