//! How many may come in, and how fast: the counters of one service.
//!
//! Every window counts on the monotonic clock. A limit never closes the listener: while a service pauses, the
//! kernel's backlog holds its clients, and nobody else can take its port.

use core::net::IpAddr;

use heapless::Vec;

use crate::addr::{Peer, Prefix};
use crate::capacity::{DENIED, SOURCES};
use crate::record::Refusal;
use crate::service::Cps;
use crate::time::Instant;

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;

/// Refused datagrams that are written down one by one in a minute; the rest is counted and told as a number. A source
/// costs its sender nothing, so this holds for all of them together.
const REFUSALS_TOLD: u8 = 10;

/// Keeps refused datagrams from filling the log. What it is asked about is told at once, or counted until it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Refusals {
    begin: Instant,
    told: u8,
    /// What was told last: not repeated within the minute.
    last: Option<(Refusal, Peer)>,
    more: u64,
}

impl Refusals {
    pub const fn new() -> Refusals {
        Refusals { begin: Instant(0), told: 0, last: None, more: 0 }
    }

    /// Whether this one is to be told by itself.
    pub fn take(&mut self, now: Instant, refusal: Refusal, peer: Peer) -> bool {
        if self.more == 0 && now.since_ms(self.begin) >= MINUTE_MS {
            *self = Refusals { begin: now, ..Refusals::new() };
        }
        // From another port it is the same sender.
        let same = self.last.is_some_and(|(before, from)| {
            before == refusal
                && (from == peer || (from.address().is_some() && from.address() == peer.address()))
        });
        if same || self.told >= REFUSALS_TOLD {
            self.more += 1;
            return false;
        }
        self.told += 1;
        self.last = Some((refusal, peer));
        true
    }

    /// When the number is to be told, if there is one.
    pub fn due(&self) -> Option<Instant> {
        (self.more > 0).then(|| self.begin.plus_ms(MINUTE_MS))
    }

    /// Begins anew; the number to be told, and the seconds it took to come together.
    pub fn end(&mut self, now: Instant) -> Option<(u64, u64)> {
        let Refusals { begin, more, .. } = core::mem::replace(self, Refusals::new());
        (more > 0).then(|| (more, now.since_s(begin)))
    }
}

/// Counts what happens in windows of a fixed length, each beginning with its first event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Window {
    begin: Instant,
    count: u32,
}

impl Window {
    pub const fn new() -> Window {
        Window { begin: Instant(0), count: 0 }
    }

    /// Counts one event of a window `length` ms long, unless `limit` events are in it already.
    fn take(&mut self, now: Instant, length: u64, limit: u32) -> bool {
        if self.count == 0 || now.since_ms(self.begin) >= length {
            *self = Window { begin: now, count: 0 };
        }
        if self.count >= limit {
            return false;
        }
        self.count += 1;
        true
    }

    /// cps: whether one more connection fits into this second.
    pub fn take_cps(&mut self, now: Instant, cps: Cps) -> bool {
        (cps.rate == 0 && cps.pause == 0) || self.take(now, SECOND_MS, cps.rate)
    }

    /// Whether one more start fits into this minute.
    pub fn take_minute(&mut self, now: Instant, limit: u32) -> bool {
        self.take(now, MINUTE_MS, limit)
    }

    /// When the minute that is counted in ends.
    pub fn minute_end(&self) -> Instant {
        self.begin.plus_ms(MINUTE_MS)
    }

    pub fn is_minute_full(&self, now: Instant, limit: u32) -> bool {
        self.count >= limit && now.since_ms(self.begin) < MINUTE_MS
    }
}

/// Starts a minute for each client address of each service that counts them, in one table for all. When it is full
/// the source that began longest ago is forgotten, as FreeBSD's inetd does: an attacker with that many addresses is
/// bounded by the service's own limits.
#[derive(Default)]
pub struct Sources {
    entries: Vec<(u16, IpAddr, Window), SOURCES>,
}

impl Sources {
    pub const fn new() -> Sources {
        Sources { entries: Vec::new() }
    }

    /// Gives each service its index after a reload; what `index` gives none is forgotten.
    pub fn renumber(&mut self, index: impl Fn(u16) -> Option<u16>) {
        self.entries.retain_mut(|(service, _, _)| match index(*service) {
            Some(new) => {
                *service = new;
                true
            }
            None => false,
        });
    }

    /// Whether `address` had `limit` starts of `service` in this minute already.
    pub fn is_full(&self, service: u16, address: IpAddr, now: Instant, limit: u32) -> bool {
        let known = self.entries.iter().find(|(s, a, _)| *s == service && *a == address);
        limit == 0 || known.is_some_and(|(_, _, window)| window.is_minute_full(now, limit))
    }

    /// Counts a start of `service` for `address`, unless it had `limit` in this minute already.
    pub fn take(&mut self, service: u16, address: IpAddr, now: Instant, limit: u32) -> bool {
        let known = self.entries.iter_mut().find(|(s, a, _)| *s == service && *a == address);
        if let Some((_, _, window)) = known {
            return window.take_minute(now, limit);
        }
        let mut window = Window::default();
        let taken = window.take_minute(now, limit);
        if let Err(entry) = self.entries.push((service, address, window))
            && let Some(oldest) = self.entries.iter_mut().min_by_key(|(_, _, window)| window.begin)
        {
            *oldest = entry;
        }
        taken
    }
}

/// Whom sensors keep out, and until when. An IPv6 client is kept out with its whole /64: see [`Prefix::holder`].
#[derive(Default)]
pub struct Denied {
    /// `None`: for good.
    entries: Vec<(Prefix, Option<Instant>), DENIED>,
}

impl Denied {
    /// What one more of [`DENIED`] costs.
    pub const BYTES_EACH: usize = size_of::<(Prefix, Option<Instant>)>();

    pub const fn new() -> Denied {
        Denied { entries: Vec::new() }
    }

    /// Keeps `address` out; from now on if it is kept out already, and never for shorter than it is.
    pub fn add(&mut self, address: IpAddr, until: Option<Instant>, now: Instant) {
        let prefix = Prefix::holder(address);
        self.entries.retain(|(_, until)| until.is_none_or(|until| until > now));
        let longest = |until: Option<Instant>| until.map_or(u64::MAX, |until| until.0);
        if let Some((_, before)) = self.entries.iter_mut().find(|(known, _)| *known == prefix) {
            if longest(until) > longest(*before) {
                *before = until;
            }
            return;
        }
        if let Err(entry) = self.entries.push((prefix, until))
            && let Some(soonest) = self.entries.iter_mut().min_by_key(|(_, until)| longest(*until))
        {
            *soonest = entry;
        }
    }

    pub fn holds(&self, address: IpAddr, now: Instant) -> bool {
        self.entries
            .iter()
            .any(|(prefix, until)| prefix.contains(address) && until.is_none_or(|until| until > now))
    }

    /// Who is kept out now.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = (Prefix, Option<Instant>)> {
        self.entries.iter().copied().filter(move |(_, until)| until.is_none_or(|until| until > now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cps_counts_in_seconds_and_zero_zero_is_off() {
        let mut window = Window::default();
        let cps = Cps { rate: 3, pause: 4 };
        let at = |ms: u64| Instant(100_000 + ms);
        assert!((0..3).all(|n| window.take_cps(at(n), cps)));
        assert!(!window.take_cps(at(999), cps));
        assert!(window.take_cps(at(1000), cps));
        let off = Cps { rate: 0, pause: 0 };
        assert!((0..1000).all(|_| window.take_cps(at(1000), off)));
    }

    #[test]
    fn who_is_denied_is_let_in_again_in_time() {
        let mut denied = Denied::new();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        denied.add(ip("192.0.2.1"), Some(Instant(1000)), Instant(0));
        denied.add(ip("2001:db8::1"), None, Instant(0));
        assert!(denied.holds(ip("192.0.2.1"), Instant(999)));
        assert!(!denied.holds(ip("192.0.2.1"), Instant(1000)));
        assert!(!denied.holds(ip("192.0.2.2"), Instant(0)));
        assert!(denied.holds(ip("2001:db8::ffff:1"), Instant(u64::MAX)));
        assert!(!denied.holds(ip("2001:db8:0:1::1"), Instant(0)));
        // Coming again makes it longer, never shorter.
        denied.add(ip("192.0.2.1"), Some(Instant(500)), Instant(0));
        assert!(denied.holds(ip("192.0.2.1"), Instant(999)));
        denied.add(ip("192.0.2.1"), None, Instant(0));
        denied.add(ip("192.0.2.1"), Some(Instant(2000)), Instant(0));
        assert!(denied.holds(ip("192.0.2.1"), Instant(3000)));
    }

    #[test]
    fn a_full_list_of_denied_lets_the_soonest_go() {
        let mut denied = Denied::new();
        let address = |n: usize| IpAddr::from((0x0a00_0000 + n as u32).to_be_bytes());
        for n in 0..DENIED {
            denied.add(address(n), Some(Instant(1000 + n as u64)), Instant(0));
        }
        denied.add(address(DENIED), None, Instant(0));
        assert!(!denied.holds(address(0), Instant(0)));
        assert!((1..=DENIED).all(|n| denied.holds(address(n), Instant(0))));
    }

    #[test]
    fn a_full_table_of_sources_forgets_the_oldest() {
        let mut sources = Sources::new();
        let address = |n: usize| IpAddr::from((0x0a00_0000 + n as u32).to_be_bytes());
        for n in 0..SOURCES {
            assert!(sources.take(0, address(n), Instant(n as u64), 1));
        }
        assert!(!sources.take(0, address(0), Instant(SOURCES as u64), 1));
        assert!(sources.take(0, address(SOURCES), Instant(SOURCES as u64), 1));
        assert!(!sources.take(0, address(1), Instant(SOURCES as u64), 1));
        assert!(sources.take(0, address(0), Instant(SOURCES as u64), 1));
    }
}
