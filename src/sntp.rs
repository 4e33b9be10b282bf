//! The time of day from a time server, for boards without a clock (SNTP, RFC 5905 section 14).
//!
//! A client asks and believes one answer at a time. It knows nothing until the first one comes: nobody here invents a
//! time. What answers must carry is in [`read`]; that a number nobody can guess comes back is what keeps others from
//! setting our clock.

use crate::time::Instant;

pub const PORT: u16 = 123;
/// Bytes of a packet without extensions.
pub const PACKET: usize = 48;

/// How long an answer may take, in milliseconds.
const ANSWER_MS: u64 = 2000;
/// Between questions while there is no answer: at first, and at most. It doubles.
const FIRST_MS: u64 = 4000;
const LONGEST_MS: u64 = 1_024_000;
/// Between questions once the time is known: a bad crystal (100 parts in a million) is wrong by 0.1 s then.
const STEADY_MS: u64 = 1_024_000;

/// Milliseconds from 1900 to 1970.
const UNIX_MS: i64 = 2_208_988_800_000;
/// Seconds in an era of NTP's timestamps.
const ERA_S: i64 = 1 << 32;

/// Why an answer is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disbelief {
    /// No answer of a server, or not to what was asked.
    Foreign,
    /// The server does not know the time itself.
    Unsynchronised,
    /// It wants to be asked less often, or not at all (kiss-o'-death).
    Refused,
}

/// A question. `cookie` comes back in the answer: it stands where our own time would.
pub fn question(cookie: u64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    // Version 4, client.
    packet[0] = 0x23;
    packet[40..].copy_from_slice(&cookie.to_be_bytes());
    packet
}

/// The time an answer tells, in milliseconds since 1970.
pub fn read(packet: &[u8], cookie: u64) -> Result<i64, Disbelief> {
    let field =
        |at: usize| packet.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let (Some(&[head, stratum, ..]), Some(originate), Some(transmit)) =
        (packet.first_chunk::<4>(), field(24), field(40))
    else {
        return Err(Disbelief::Foreign);
    };
    let (leap, version, mode) = (head >> 6, head >> 3 & 7, head & 7);
    if mode != 4 || !(1..=4).contains(&version) || originate != cookie {
        return Err(Disbelief::Foreign);
    }
    if stratum == 0 {
        return Err(Disbelief::Refused);
    }
    if leap == 3 || stratum > 15 || transmit == 0 {
        return Err(Disbelief::Unsynchronised);
    }
    // RFC 4330 section 3: the first bit tells the era. From 2036 on it is 0 again.
    let seconds = (transmit >> 32) as i64;
    let seconds = if seconds >= ERA_S / 2 { seconds } else { seconds + ERA_S };
    let ms = (((transmit & 0xffff_ffff) * 1000) >> 32) as i64;
    Ok(seconds * 1000 + ms - UNIX_MS)
}

/// The time of day, and when to ask for it again.
#[derive(Clone, Debug)]
pub struct Clock {
    /// What it was, in milliseconds since 1970, and when.
    known: Option<(Instant, i64)>,
    /// Under way: since when, and its cookie.
    asked: Option<(Instant, u64)>,
    next: Instant,
    pause_ms: u64,
}

impl Clock {
    pub const fn new() -> Clock {
        Clock { known: None, asked: None, next: Instant(0), pause_ms: FIRST_MS }
    }

    /// Seconds since 1970; `None` until a server has told.
    pub fn unix(&self, now: Instant) -> Option<i64> {
        let (at, ms) = self.known?;
        Some((ms + i64::try_from(now.since_ms(at)).ok()?).div_euclid(1000))
    }

    /// When something is to be done if no answer comes.
    pub fn next_deadline(&self) -> Instant {
        self.next
    }

    /// Asks as soon as may be: the network is there now.
    pub fn hurry(&mut self, now: Instant) {
        if self.known.is_none() {
            self.next = now;
        }
    }

    /// Asks later: there is no way to the server yet.
    pub fn put_off(&mut self, now: Instant) {
        self.next = now.plus_ms(FIRST_MS);
    }

    /// Whether it is time to ask.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// A question that goes out now.
    pub fn ask(&mut self, cookie: u64, now: Instant) -> [u8; PACKET] {
        self.asked = Some((now, cookie));
        self.next = now.plus_ms(self.pause_ms);
        self.pause_ms = (self.pause_ms * 2).min(LONGEST_MS);
        question(cookie)
    }

    /// Takes an answer; the clock is set if it is believed.
    pub fn answer(&mut self, packet: &[u8], now: Instant) -> Result<(), Disbelief> {
        let (since, cookie) = self.asked.ok_or(Disbelief::Foreign)?;
        let trip = now.since_ms(since);
        if trip > ANSWER_MS {
            return Err(Disbelief::Foreign);
        }
        let told = read(packet, cookie);
        // Once: a second answer to the same question is somebody else's.
        if told != Err(Disbelief::Foreign) {
            self.asked = None;
        }
        // It was written half a round trip ago, as far as anybody knows.
        self.known = Some((now, told? + i64::try_from(trip / 2).unwrap_or(0)));
        self.pause_ms = FIRST_MS;
        self.next = now.plus_ms(STEADY_MS);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server answers that has this timestamp.
    fn answered(question: &[u8; PACKET], transmit: u64) -> [u8; PACKET] {
        let mut packet = [0; PACKET];
        packet[0] = 0x24;
        packet[1] = 2;
        packet[24..32].copy_from_slice(&question[40..]);
        packet[40..].copy_from_slice(&transmit.to_be_bytes());
        packet
    }

    /// 2026-11-22 11:15:14.5 UTC.
    const STAMP: u64 = (1_795_346_114 + 2_208_988_800) << 32 | 1 << 31;

    #[test]
    fn the_clock_is_set_by_an_answer_to_what_was_asked() {
        let mut clock = Clock::new();
        assert!(clock.is_due(Instant(0)) && clock.unix(Instant(0)).is_none());
        let question = clock.ask(77, Instant(0));
        assert_eq!(
            (question[0], clock.is_due(Instant(3999)), clock.is_due(Instant(4000))),
            (0x23, false, true)
        );
        let mut other = answered(&question, STAMP);
        other[31] ^= 1;
        assert_eq!(clock.answer(&other, Instant(50)), Err(Disbelief::Foreign));
        assert_eq!(clock.answer(&answered(&question, STAMP), Instant(100)), Ok(()));
        assert_eq!(clock.unix(Instant(100)), Some(1_795_346_114));
        assert_eq!(clock.unix(Instant(600)), Some(1_795_346_115));
        // Nor a second time.
        assert_eq!(
            clock.answer(&answered(&question, STAMP + (1 << 40)), Instant(101)),
            Err(Disbelief::Foreign)
        );
        assert!(!clock.is_due(Instant(1_000_000)) && clock.is_due(Instant(1_024_100)));
    }

    #[test]
    fn who_does_not_know_or_does_not_want_is_not_believed() {
        for (at, byte, why) in [
            (0, 0xe4, Disbelief::Unsynchronised),
            (1, 0, Disbelief::Refused),
            (1, 16, Disbelief::Unsynchronised),
            (0, 0x23, Disbelief::Foreign),
            (0, 0x04, Disbelief::Foreign),
        ] {
            let mut clock = Clock::new();
            let question = clock.ask(1 << 60, Instant(0));
            let mut packet = answered(&question, STAMP);
            packet[at] = byte;
            assert_eq!(clock.answer(&packet, Instant(1)), Err(why), "{at} {byte:#x}");
            assert_eq!(clock.unix(Instant(1)), None);
        }
        let mut clock = Clock::new();
        let question = clock.ask(5, Instant(0));
        let packet = answered(&question, STAMP);
        for len in 0..PACKET {
            assert_eq!(clock.answer(&packet[..len], Instant(1)), Err(Disbelief::Foreign));
        }
        // And one that comes late may be a replay.
        assert_eq!(clock.answer(&packet, Instant(2001)), Err(Disbelief::Foreign));
    }

    #[test]
    fn the_era_ends_in_2036() {
        let question = question(9);
        let read = |seconds: u64| read(&answered(&question, seconds << 32), 9).map(|ms| ms / 1000);
        assert_eq!(read(0xffff_ffff), Ok(2_085_978_495));
        assert_eq!(read(1), Ok(2_085_978_497));
    }

    #[test]
    fn who_gets_no_answer_asks_less_and_less() {
        let mut clock = Clock::new();
        let mut now = Instant(0);
        let mut pauses = [0; 12];
        for pause in &mut pauses {
            clock.ask(1, now);
            *pause = clock.next_deadline().since_ms(now) / 1000;
            now = clock.next_deadline();
        }
        assert_eq!(pauses, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024, 1024]);
    }
}
