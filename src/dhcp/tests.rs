//! A server in words: what it is asked, what it says, and what becomes of the client.

extern crate std;

use super::*;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec as List;

const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 7];
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// A client, its network and the time.
struct Sim {
    client: Client,
    now: Instant,
    /// What it sent last.
    packet: List<u8>,
}

impl Sim {
    fn new() -> Sim {
        let mut client = Client::new(HARDWARE, b"board");
        client.link_up(Instant(5000), 0x1234_5678);
        Sim { client, now: Instant(5000), packet: vec![] }
    }

    /// Lets the time pass until something is due; what that was.
    fn next(&mut self) -> (u64, Change, String) {
        let Some(at) = self.client.next_deadline() else { return (0, Change::Nothing, "nothing".into()) };
        let waited = at.since_ms(self.now);
        self.now = self.now.max(at);
        // In the middle of the spread.
        let mut packet = [0; PACKET];
        let (change, sent) = self.client.turn(self.now, 1000, &mut packet);
        let text = match sent {
            None => "nothing".into(),
            Some((to, len)) => {
                self.packet = packet[..len].to_vec();
                format!(
                    "{} to {}",
                    describe(&self.packet),
                    match to {
                        To::Everybody => "everybody".into(),
                        To::Server(server) => format!("{server}"),
                    }
                )
            }
        };
        (waited, change, text)
    }

    fn sends(&mut self, text: &str) -> u64 {
        let (waited, change, sent) = self.next();
        assert_eq!((change, sent.as_str()), (Change::Nothing, text));
        waited
    }

    fn answer(&self, kind: u8, options: &[(u8, &[u8])]) -> List<u8> {
        let mut packet = vec![0; FIXED];
        packet[..3].copy_from_slice(&[2, 1, 6]);
        packet[4..8].copy_from_slice(&self.packet[4..8]);
        packet[16..20].copy_from_slice(&OURS.octets());
        packet[28..34].copy_from_slice(&HARDWARE);
        packet.extend(COOKIE);
        packet.extend([53, 1, kind, 54, 4]);
        packet.extend(SERVER.octets());
        for (code, value) in options {
            packet.extend([*code, value.len() as u8]);
            packet.extend(*value);
        }
        packet.push(255);
        packet
    }

    fn hears(&mut self, packet: &[u8]) -> Change {
        self.client.receive(packet, self.now, 99)
    }

    fn is_bound(&mut self, packet: &[u8]) -> Lease {
        match self.hears(packet) {
            Change::Bound(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// Through to an address, for so many seconds.
    fn bound(seconds: u32) -> Sim {
        let mut sim = Sim::new();
        sim.sends("discover to everybody");
        let offer = sim.answer(2, &[]);
        assert_eq!(sim.hears(&offer), Change::Nothing);
        sim.sends("request 10.0.2.15 of 10.0.2.2 to everybody");
        let ack = sim.ack(seconds);
        sim.is_bound(&ack);
        sim
    }

    fn ack(&self, seconds: u32) -> List<u8> {
        self.answer(5, &[(1, &[255, 255, 255, 0]), (51, &seconds.to_be_bytes())])
    }
}

/// A client's packet, checked as a server would.
fn describe(packet: &[u8]) -> String {
    assert!(packet.len() >= 300 && packet[..3] == [1, 1, 6] && packet[236..240] == COOKIE);
    assert_eq!(packet[28..34], HARDWARE);
    let address = |bytes: &[u8]| Ipv4Addr::from([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let (mut text, mut rest) = (String::new(), &packet[240..]);
    while rest[0] != 255 {
        let value = &rest[2..2 + usize::from(rest[1])];
        match rest[0] {
            53 => text += ["", "discover", "", "request"][usize::from(value[0])],
            50 => text += &format!(" {}", address(value)),
            54 => text += &format!(" of {}", address(value)),
            61 => assert_eq!(value, [1, 2, 0, 0, 0, 0, 7]),
            12 => assert_eq!(value, b"board"),
            55 => assert!(value.contains(&1) && value.contains(&3) && value.contains(&6)),
            other => panic!("option {other}"),
        }
        rest = &rest[2 + value.len()..];
    }
    let ours = address(&packet[12..]);
    if !ours.is_unspecified() {
        text += &format!(" at {ours}");
    }
    // Who has no address hears only what goes to all.
    assert_eq!(packet[10] == 0x80, ours.is_unspecified());
    text
}

#[test]
fn an_address_is_asked_for_offered_requested_and_given() {
    let mut sim = Sim::new();
    assert_eq!(sim.sends("discover to everybody"), 0);
    let offer = sim.answer(2, &[]);
    assert_eq!(sim.hears(&offer), Change::Nothing);
    assert_eq!(sim.sends("request 10.0.2.15 of 10.0.2.2 to everybody"), 0);
    let ack = sim.answer(
        5,
        &[
            (1, &[255, 255, 255, 0]),
            (3, &[10, 0, 2, 2, 10, 0, 2, 3]),
            (6, &[10, 0, 2, 3, 9, 9, 9, 9, 0, 0, 0, 0]),
            (51, &86400u32.to_be_bytes()),
            (58, &1000u32.to_be_bytes()),
            (59, &2000u32.to_be_bytes()),
        ],
    );
    let lease = sim.is_bound(&ack);
    assert_eq!((lease.address, lease.bits, lease.router), (OURS, 24, Some(SERVER)));
    assert_eq!(lease.name_servers, [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(9, 9, 9, 9)]);
    assert_eq!((lease.server, lease.seconds), (SERVER, 86400));
    assert_eq!(sim.client.lease(), Some(&lease));
    // The server's own T1 and T2.
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 1_000_000);
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 500_000);
}

#[test]
fn silence_is_asked_less_and_less() {
    let mut sim = Sim::new();
    let waits: List<u64> = (0..7).map(|_| sim.sends("discover to everybody") / 1000).collect();
    assert_eq!(waits, [0, 4, 8, 16, 32, 64, 64]);
    // It says how long it has tried.
    assert_eq!(u16::from_be_bytes([sim.packet[8], sim.packet[9]]), 188);
}

#[test]
fn who_offers_and_then_keeps_silent_is_given_up() {
    let mut sim = Sim::new();
    sim.sends("discover to everybody");
    let offer = sim.answer(2, &[]);
    sim.hears(&offer);
    for _ in 0..4 {
        sim.sends("request 10.0.2.15 of 10.0.2.2 to everybody");
    }
    sim.sends("discover to everybody");
}

#[test]
fn a_lease_is_made_longer_in_time_and_by_anybody_at_last() {
    let mut sim = Sim::bound(1600);
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 800_000);
    let ack = sim.ack(1600);
    assert_eq!(sim.is_bound(&ack).seconds, 1600);
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 800_000);
    // Nobody answers: half of what is left until T2, which is at 1400 s.
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 300_000);
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 150_000);
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 75_000);
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 60_000);
    assert_eq!(sim.sends("request at 10.0.2.15 to everybody"), 15_000);
    assert_eq!(sim.sends("request at 10.0.2.15 to everybody"), 100_000);
    assert_eq!(sim.sends("request at 10.0.2.15 to everybody"), 60_000);
    let lease = sim.client.lease().cloned().unwrap();
    let (waited, change, sent) = sim.next();
    assert_eq!((waited, change, sent.as_str()), (40_000, Change::Lost(lease), "discover to everybody"));
    assert_eq!(sim.client.lease(), None);
}

#[test]
fn another_server_may_take_over() {
    let mut sim = Sim::bound(1600);
    while sim.next().2 != "request at 10.0.2.15 to everybody" {}
    let mut ack = sim.ack(3200);
    ack[245..249].copy_from_slice(&[10, 0, 2, 77]);
    let lease = sim.is_bound(&ack);
    assert_eq!((lease.server, lease.seconds), (Ipv4Addr::new(10, 0, 2, 77), 3200));
    sim.sends("request at 10.0.2.15 to 10.0.2.77");
}

#[test]
fn an_address_that_is_taken_back_is_lost_at_once() {
    let mut sim = Sim::bound(1600);
    sim.sends("request at 10.0.2.15 to 10.0.2.2");
    let nak = sim.answer(6, &[]);
    assert!(matches!(sim.hears(&nak), Change::Lost(lease) if lease.address == OURS));
    assert_eq!(sim.sends("discover to everybody"), 0);
}

#[test]
fn who_refuses_what_he_offered_is_not_asked_for_ever() {
    let mut sim = Sim::new();
    sim.sends("discover to everybody");
    let offer = sim.answer(2, &[]);
    sim.hears(&offer);
    sim.sends("request 10.0.2.15 of 10.0.2.2 to everybody");
    let nak = sim.answer(6, &[]);
    assert_eq!(sim.hears(&nak), Change::Nothing);
    assert_eq!(sim.sends("discover to everybody"), 4000);
}

#[test]
fn a_cable_put_in_again_asks_for_the_same_address() {
    let mut sim = Sim::bound(1600);
    sim.client.link_down();
    sim.now = sim.now.plus_s(100);
    sim.client.link_up(sim.now, 77);
    assert_eq!(sim.sends("request 10.0.2.15 to everybody"), 0);
    let ack = sim.ack(1600);
    sim.is_bound(&ack);
    // In another network.
    sim.client.link_down();
    sim.client.link_up(sim.now, 78);
    sim.sends("request 10.0.2.15 to everybody");
    let nak = sim.answer(6, &[]);
    assert!(matches!(sim.hears(&nak), Change::Lost(_)));
    // Where nobody answers, it is kept as long as it was given for.
    let mut sim = Sim::bound(1600);
    sim.client.link_down();
    sim.client.link_up(sim.now, 79);
    sim.sends("request 10.0.2.15 to everybody");
    sim.sends("request 10.0.2.15 to everybody");
    assert_eq!(sim.next().2, "nothing");
    sim.sends("request at 10.0.2.15 to 10.0.2.2");
}

#[test]
fn without_a_link_nothing_is_asked_and_the_lease_ends_in_time() {
    let mut sim = Sim::bound(1600);
    sim.client.link_down();
    let (waited, change, sent) = sim.next();
    assert!(waited == 1_600_000 && matches!(change, Change::Lost(_)) && sent == "nothing");
    assert_eq!(sim.client.next_deadline(), None);
    let mut new = Sim::new();
    new.client.link_down();
    assert_eq!(new.client.next_deadline(), None);
}

#[test]
fn a_lease_for_ever_is_never_asked_about_again() {
    let mut sim = Sim::bound(u32::MAX);
    assert_eq!(sim.client.next_deadline(), None);
    sim.client.link_down();
    assert_eq!(sim.client.next_deadline(), None);
}

#[test]
fn leases_too_short_or_of_unknown_length_are_no_flood() {
    let mut sim = Sim::bound(1);
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 30_000);
    let mut sim = Sim::new();
    sim.sends("discover to everybody");
    let offer = sim.answer(2, &[]);
    sim.hears(&offer);
    sim.sends("request 10.0.2.15 of 10.0.2.2 to everybody");
    // Without a mask by its class, without a time for an hour; T1 and T2 out of order are not believed.
    let ack =
        sim.answer(5, &[(58, &9000u32.to_be_bytes()), (59, &1u32.to_be_bytes()), (1, &[255, 0, 255, 0])]);
    let lease = sim.is_bound(&ack);
    assert_eq!((lease.seconds, lease.bits), (3600, 8));
    assert_eq!(sim.sends("request at 10.0.2.15 to 10.0.2.2"), 1_800_000);
}

#[test]
fn what_is_not_for_us_or_not_whole_is_not_heard() {
    let mut sim = Sim::new();
    sim.sends("discover to everybody");
    let offer = sim.answer(2, &[(3, &[10, 0, 2, 2])]);
    // Cut anywhere but between two options, changed where it says for whom it is.
    for len in 0..offer.len() - 1 {
        let mut client = sim.client.clone();
        client.receive(&offer[..len], sim.now, 1);
        assert_eq!(client.next_deadline() == Some(sim.now), len == 249, "{len}");
    }
    for at in [0, 1, 2, 4, 7, 28, 33, 236, 239] {
        let mut packet = offer.clone();
        packet[at] ^= 0x40;
        sim.hears(&packet);
        assert_ne!(sim.client.next_deadline(), Some(sim.now), "{at}");
    }
    // An address that nobody can have, an ACK nobody asked for.
    for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let mut packet = offer.clone();
        packet[16..20].copy_from_slice(&address);
        sim.hears(&packet);
        assert_ne!(sim.client.next_deadline(), Some(sim.now));
    }
    let ack = sim.ack(1600);
    assert_eq!(sim.hears(&ack), Change::Nothing);
    sim.hears(&offer);
    sim.sends("request 10.0.2.15 of 10.0.2.2 to everybody");
    // Another address, another server.
    for at in [19, 248] {
        let mut packet = sim.ack(1600);
        packet[at] ^= 1;
        assert_eq!(sim.hears(&packet), Change::Nothing);
    }
    sim.is_bound(&ack);
}

#[test]
fn options_may_stand_where_names_would() {
    let mut sim = Sim::new();
    sim.sends("discover to everybody");
    let offer = sim.answer(2, &[]);
    sim.hears(&offer);
    sim.sends("request 10.0.2.15 of 10.0.2.2 to everybody");
    let mut ack = sim.answer(5, &[(52, &[3])]);
    ack[108..116].copy_from_slice(&[0, 1, 4, 255, 255, 0, 0, 255]);
    ack[44..51].copy_from_slice(&[51, 4, 0, 0, 14, 16, 255]);
    let lease = sim.is_bound(&ack);
    assert_eq!((lease.bits, lease.seconds), (16, 3600));
}

/// Any bytes at any time: no panic, and never more than a packet in half a minute.
#[test]
fn noise_makes_no_flood() {
    let mut state = 7u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut sim = Sim::new();
    let mut sent = 0;
    let start = sim.now;
    for _ in 0..20_000 {
        if sim.client.next_deadline().is_some_and(|at| at <= sim.now) {
            sent += u32::from(sim.next().2 != "nothing");
        }
        let mut packet =
            sim.answer((random() % 8) as u8, &[(51, &(random() >> (random() % 32)).to_be_bytes())]);
        for _ in 0..random() % 3 {
            let at = random() as usize % packet.len();
            packet[at] = random() as u8;
        }
        sim.hears(&packet);
        sim.now = sim.now.plus_ms(u64::from(random() % 20_000));
    }
    let seconds = sim.now.since_s(start);
    assert!(u64::from(sent) < seconds / 5, "{sent} packets in {seconds} s");
}
