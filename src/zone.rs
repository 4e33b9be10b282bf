//! Local time for log stamps, the daytime service and `access_times`.
//!
//! Read RFC 9636 ("The Time Zone Information Format (TZif)") sections 3.1 to 3.3 before touching the first
//! half of this file, and POSIX.1-2024 XBD 8.3 (`TZ`) before the second.
//!
//! There is no libc to ask, and no allocator to hold a time zone database. The caller finds out where the
//! rules are ([`parse_tz_variable`]), reads that one file, and hands its bytes over; what is kept is a
//! [`Zone`] of fixed size that answers every later question without I/O:
//!
//! ```
//! use usherd::zone::{TzSource, Zone, parse_tz_variable};
//!
//! let zone = match parse_tz_variable(Some(b"CET-1CEST,M3.5.0,M10.5.0/3")) {
//!     Ok(TzSource::Posix(text)) => Zone::from_posix(text).unwrap(),
//!     Ok(TzSource::Path(_)) => unreachable!("here the caller reads the file for Zone::from_tzif"),
//!     Ok(TzSource::Utc) | Err(_) => Zone::default(),
//! };
//! let local = zone.at(1_795_342_514);
//! assert_eq!((local.hour, local.minute, local.abbreviation.as_str()), (11, 15, "CET"));
//! ```
//!
//! Three surprises worth knowing:
//!
//! - Files as Debian ships them ("fat") list every change until 2037, although the rule in the footer says
//!   the same. Such changes are dropped while loading, so a fat and a slim file give the same [`Zone`].
//! - Of what is left, the newest [`ZONE_TRANSITIONS`] changes are kept. In tzdata 2025b that is everything,
//!   but for Asia/Gaza and Asia/Hebron, which list Ramadan up to 2086: they begin in 2016, and earlier
//!   instants are shown with the offset that held then.
//! - Leap seconds do not exist here: Unix time does not count them. The files under `right/` do, and are
//!   refused rather than read 27 seconds wrong.
//!
//! By hand, because jiff-core 0.1.8 parses TZif files only with an allocator. What it offers without one, the
//! rules, is 14 KB of code (x86_64, `opt-level = 3`): as much as this whole module, files and stamps
//! included.
#![forbid(unsafe_code)]

use core::fmt;

/// Longest TZif file that is accepted, in bytes: the size of the buffer a caller needs.
///
/// The largest file of tzdata 2025b (fat, Asia/Hebron) has 3872.
pub const ZONE_BYTES: usize = 4096;

/// How many changes of local time a [`Zone`] remembers; 6 bytes each.
///
/// Morocco needs the most of all zones that fit, 197; Gaza and Hebron would need 310.
pub const ZONE_TRANSITIONS: usize = 200;

/// How many kinds of local time (offset and abbreviation) a [`Zone`] remembers; 16 bytes each.
///
/// tzdata 2025b needs 18 (Europe/Vilnius).
pub const ZONE_KINDS: usize = 24;

/// Longest time zone abbreviation, in bytes; tzdata has at most five, `+10:30:25` is the longest offset
/// spelled out.
pub const ABBREVIATION_BYTES: usize = 9;

/// Longest path of a TZif file, in bytes. The longest name in tzdata makes 52 of them.
pub const ZONE_PATH_BYTES: usize = 128;

// Zones are read once and stamps written seldom: size counts more than speed in this file. Without its few
// `inline(never)` it would be 3 KB larger.

const SECONDS_PER_DAY: i64 = 86_400;

/// Where the rules for local time come from, as told by the environment variable `TZ`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TzSource<'a> {
    /// A TZif file: read it and give its bytes to [`Zone::from_tzif`].
    Path(ZonePath),
    /// A rule spelled out, known to be well-formed: give it to [`Zone::from_posix`].
    Posix(&'a [u8]),
    /// Coordinated universal time; there is nothing to read.
    Utc,
}

/// The absolute path of a TZif file, without a closing NUL.
pub type ZonePath = heapless::Vec<u8, ZONE_PATH_BYTES>;

/// Reads the environment variable `TZ` (POSIX.1-2024 XBD 8.3) the way GNU and musl systems do; `None` when it
/// is unset.
///
/// | `TZ` | source |
/// |---|---|
/// | unset | the file `/etc/localtime` |
/// | empty, `:`, `UTC` or `:UTC` | UTC |
/// | `/path` or `:/path` | that file |
/// | `CET-1CEST,M3.5.0,M10.5.0/3` | that rule |
/// | `NAME` or `:NAME` | the file `/usr/share/zoneinfo/NAME` |
///
/// A text that is a rule is never looked up as a file, as in musl. The names of tzdata that read like rules
/// (`EST5EDT`, `GMT+0` and a few more) mean the same in both ways.
///
/// # Errors
///
/// [`ZoneError::Path`] for a path that is too long, climbs with `..` or holds a NUL. Then, as whenever the
/// file cannot be read, UTC is the answer that misleads nobody: its abbreviation stands in every stamp that
/// has one.
pub fn parse_tz_variable(value: Option<&[u8]>) -> Result<TzSource<'_>, ZoneError> {
    let Some(value) = value else {
        return zone_path(b"", b"/etc/localtime").map(TzSource::Path);
    };
    let (name, may_be_rule) = match value.strip_prefix(b":") {
        Some(name) => (name, false),
        None => (value, true),
    };
    if name.is_empty() || name == b"UTC" {
        return Ok(TzSource::Utc);
    }
    if may_be_rule && parse_posix(name).is_ok() {
        return Ok(TzSource::Posix(name));
    }
    let directory: &[u8] = if name.starts_with(b"/") { b"" } else { b"/usr/share/zoneinfo/" };
    zone_path(directory, name).map(TzSource::Path)
}

fn zone_path(directory: &[u8], name: &[u8]) -> Result<ZonePath, ZoneError> {
    if name.contains(&0) || name.split(|&byte| byte == b'/').any(|part| part == b"..") {
        return Err(ZoneError::Path);
    }
    let mut path = ZonePath::new();
    path.extend_from_slice(directory).map_err(|_| ZoneError::Path)?;
    path.extend_from_slice(name).map_err(|_| ZoneError::Path)?;
    Ok(path)
}

/// The rules of local time for one place.
///
/// The value has 1640 bytes and owns all it needs. [`Zone::UTC`] is all zero, so that a static of this type
/// costs nothing in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Ascending; the first `transitions_used` are meant.
    transitions: [Transition; ZONE_TRANSITIONS],
    transitions_used: u16,
    /// Index of the kind in force before the first transition.
    first_kind: u8,
    kinds: [Kind; ZONE_KINDS],
    /// What holds from the last transition on; always, if there is none.
    tail: Tail,
}

impl Zone {
    /// Coordinated universal time, the zone of a system that knows no better.
    ///
    /// For statics; [`Zone::default`] is the same, but made at run time instead of copied from a page of
    /// zeros.
    pub const UTC: Zone = Zone::without_transitions(Tail::Utc);

    const fn without_transitions(tail: Tail) -> Zone {
        Zone {
            transitions: [Transition([0; 6]); ZONE_TRANSITIONS],
            transitions_used: 0,
            first_kind: 0,
            kinds: [Kind::ZERO; ZONE_KINDS],
            tail,
        }
    }

    /// Reads the contents of a TZif file, of any version (RFC 9636 section 3).
    ///
    /// Any bytes may be given; what is not a whole and consistent file is an error.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the file. The caller then stays with the zone it has, or with [`Zone::UTC`].
    pub fn from_tzif(file: &[u8]) -> Result<Zone, ZoneError> {
        if file.len() > ZONE_BYTES {
            return Err(ZoneError::TooLarge);
        }
        let mut reader = Reader { rest: file };
        let mut block = Block::read(&mut reader, 4)?;
        let mut footer: &[u8] = b"";
        if block.version >= b'2' {
            // The first block is for readers of 1988: its times have 32 bits. The second says it again with
            // 64, and then comes what holds after the last of them (RFC 9636 section 3, figure 1).
            block = Block::read(&mut reader, 8)?;
            footer = reader.footer()?;
        }
        Zone::from_block(&block, footer)
    }

    /// Reads a rule such as `CET-1CEST,M3.5.0,M10.5.0/3` or `<+0530>-5:30` (POSIX.1-2024 XBD 8.3, with the
    /// wider range of hours of RFC 9636 section 3.3).
    ///
    /// Summer time without dates (`EST5EDT`) follows the dates of the United States, as in glibc and musl.
    ///
    /// # Errors
    ///
    /// [`ZoneError::Rule`] when the text is no such rule from its first byte to its last.
    pub fn from_posix(text: &[u8]) -> Result<Zone, ZoneError> {
        Ok(Zone::without_transitions(parse_posix(text)?))
    }

    /// Local time at `unix_seconds`, seconds since 1970-01-01 00:00:00 UTC.
    ///
    /// Defined for every value; what lies outside the years 0 to 9999 is shown as the nearest second inside.
    pub fn at(&self, unix_seconds: i64) -> LocalTime {
        // A little more than those years, whatever the offset is.
        let unix_seconds = unix_seconds.clamp(-Transition::LIMIT, Transition::LIMIT);
        LocalTime::new(unix_seconds, self.kind_at(unix_seconds))
    }

    fn kind_at(&self, unix_seconds: i64) -> Kind {
        let transitions = self.transitions.get(..usize::from(self.transitions_used)).unwrap_or_default();
        let passed = transitions.partition_point(|transition| transition.unix_seconds() <= unix_seconds);
        let latest = match passed.checked_sub(1).and_then(|index| transitions.get(index)) {
            Some(transition) => transition.kind(),
            None => self.first_kind,
        };
        let latest = self.kind(latest);
        if passed == transitions.len() { self.tail.at(unix_seconds, latest).0 } else { latest }
    }

    fn from_block(block: &Block<'_>, footer: &[u8]) -> Result<Zone, ZoneError> {
        let mut zone = Zone::default();
        if block.has_leap_seconds {
            return Err(ZoneError::LeapSeconds);
        }
        let kind_count = block.kinds.len();
        if kind_count == 0 {
            return Err(ZoneError::Inconsistent);
        }
        if kind_count > ZONE_KINDS {
            return Err(ZoneError::TooManyKinds);
        }
        for (slot, record) in zone.kinds.iter_mut().zip(block.kinds) {
            *slot = block.kind(record)?;
        }
        let mut previous = i64::MIN;
        for index in 0..block.transition_count() {
            let (unix_seconds, kind) = block.transition(index);
            if usize::from(kind) >= kind_count || (index > 0 && unix_seconds <= previous) {
                return Err(ZoneError::Inconsistent);
            }
            previous = unix_seconds;
        }
        // An empty footer: nothing is known about later times (section 3.3), so nothing changes any more.
        zone.tail = if footer.is_empty() { Tail::LatestKind } else { parse_posix(footer)? };

        let count = zone.count_without_repetition_of_the_tail(block);
        let dropped = count.saturating_sub(ZONE_TRANSITIONS);
        // "Local time for timestamps before the first transition is specified by the first time type"
        // (section 3.2).
        zone.first_kind = match dropped.checked_sub(1) {
            Some(index) => block.transition(index).1,
            None => 0,
        };
        for (slot, index) in zone.transitions.iter_mut().zip(dropped..count) {
            let (unix_seconds, kind) = block.transition(index);
            *slot = Transition::new(unix_seconds, kind);
        }
        zone.transitions_used = (count - dropped) as u16;
        Ok(zone)
    }

    /// How many of the block's transitions are needed, if the tail takes over at the last of them.
    ///
    /// One is kept always: it marks the start of the time that the rule covers.
    fn count_without_repetition_of_the_tail(&self, block: &Block<'_>) -> usize {
        // Does the tail alone say what the transition at `index` says, until an instant?
        let repeats = |index: usize, until: i64| {
            let (unix_seconds, kind) = block.transition(index);
            let kind = self.kind(kind);
            let (same, holds_until) = self.tail.at(unix_seconds, kind);
            same == kind && holds_until >= until
        };
        let mut count = block.transition_count();
        if self.tail == Tail::LatestKind || count == 0 || !repeats(count - 1, i64::MIN) {
            return count;
        }
        while count >= 2 && repeats(count - 2, block.transition(count - 1).0) {
            count -= 1;
        }
        count
    }

    fn kind(&self, index: u8) -> Kind {
        self.kinds.get(usize::from(index)).copied().unwrap_or(Kind::UTC)
    }
}

impl Default for Zone {
    fn default() -> Self {
        Zone::without_transitions(Tail::Utc)
    }
}

/// One instant as the clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Year of the Gregorian calendar, 0 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59; Unix time has no leap seconds.
    pub second: u8,
    /// Days since Sunday, 0 to 6.
    pub weekday: u8,
    /// What this kind of local time is called, such as `CEST`.
    pub abbreviation: Abbreviation,
    /// Seconds east of UTC.
    pub utc_offset: i32,
}

impl LocalTime {
    fn new(unix_seconds: i64, kind: Kind) -> LocalTime {
        /// 0000-01-01 00:00:00 and 9999-12-31 23:59:59.
        const RANGE: (i64, i64) = (-62_167_219_200, 253_402_300_799);
        let local = (unix_seconds + i64::from(kind.utc_offset)).clamp(RANGE.0, RANGE.1);
        let days = day_of(local);
        let second_of_day = local.rem_euclid(SECONDS_PER_DAY) as u32;
        let (year, month, day) = date_of(days);
        LocalTime {
            year: year as u16,
            month,
            day,
            hour: (second_of_day / 3600) as u8,
            minute: (second_of_day / 60 % 60) as u8,
            second: (second_of_day % 60) as u8,
            weekday: weekday_of(days),
            abbreviation: kind.abbreviation,
            utc_offset: kind.utc_offset,
        }
    }

    /// Minutes since local midnight, 0 to 1439: what `access_times` is compared with.
    pub fn minute_of_day(&self) -> u16 {
        u16::from(self.hour) * 60 + u16::from(self.minute)
    }

    /// Writes the form of `ctime` in the C locale, which inetd's daytime sends: `Sun Nov 22 11:15:14 2026`.
    pub fn write_ctime(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write("a b e H:M:S Y", out)
    }

    /// Writes the form of xinetd's daytime: `22 NOV 2026 11:03:26 UTC`.
    pub fn write_xinetd_daytime(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write("d B Y H:M:S Z", out)
    }

    /// Writes the stamp of xinetd's log files: `26/11/22@11:08:30`; month and day are not padded
    /// (`18/9/19@20:35:20`).
    pub fn write_xinetd_stamp(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write("y/n/f@H:M:S", out)
    }

    /// Writes the TIMESTAMP of a syslog message (RFC 3164 section 4.1.2), day padded with a blank:
    /// `Nov  2 11:15:14`.
    pub fn write_syslog_stamp(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write("b e H:M:S", out)
    }

    /// Like `strftime`, with every letter a conversion and no `%` before it. The letters are those of
    /// `strftime` too, but for `B` (`b` in upper case), `n` (month) and `f` (day), both without padding.
    fn write(&self, form: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        let month = MONTHS.get(usize::from(self.month).wrapping_sub(1)).copied().unwrap_or("???");
        for letter in form.chars() {
            match letter {
                'a' => out.write_str(WEEKDAYS.get(usize::from(self.weekday)).copied().unwrap_or("???")),
                'b' => out.write_str(month),
                'B' => month.chars().try_for_each(|letter| out.write_char(letter.to_ascii_uppercase())),
                'd' => write_two_digits(self.day, Some('0'), out),
                'e' => write_two_digits(self.day, Some(' '), out),
                'f' => write_two_digits(self.day, None, out),
                'n' => write_two_digits(self.month, None, out),
                'H' => write_two_digits(self.hour, Some('0'), out),
                'M' => write_two_digits(self.minute, Some('0'), out),
                'S' => write_two_digits(self.second, Some('0'), out),
                'y' => write_two_digits((self.year % 100) as u8, Some('0'), out),
                'Y' => {
                    write_two_digits((self.year / 100) as u8, Some('0'), out)?;
                    write_two_digits((self.year % 100) as u8, Some('0'), out)
                }
                'Z' => out.write_str(self.abbreviation.as_str()),
                separator => out.write_char(separator),
            }?;
        }
        Ok(())
    }
}

#[inline(never)]
fn write_two_digits(value: u8, padding: Option<char>, out: &mut dyn fmt::Write) -> fmt::Result {
    let digit = |value: u8| char::from(b'0' + value % 10);
    if let Some(tens) = if value >= 10 { Some(digit(value / 10)) } else { padding } {
        out.write_char(tens)?;
    }
    out.write_char(digit(value))
}

/// The name of a kind of local time, such as `CEST` or `+0530`: at most [`ABBREVIATION_BYTES`] ASCII letters,
/// digits and signs, so that it can stand in a log line as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Abbreviation {
    bytes: [u8; ABBREVIATION_BYTES],
    length: u8,
}

impl Abbreviation {
    const ZERO: Abbreviation = Abbreviation { bytes: [0; ABBREVIATION_BYTES], length: 0 };
    const UTC: Abbreviation = Abbreviation { bytes: *b"UTC\0\0\0\0\0\0", length: 3 };

    fn new(text: &[u8]) -> Option<Abbreviation> {
        let mut bytes = [0; ABBREVIATION_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-');
        let valid = text.len() >= 3 && text.iter().all(allowed);
        valid.then_some(Abbreviation { bytes, length: text.len() as u8 })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for Abbreviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Abbreviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why local time is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneError {
    /// The file has more than [`ZONE_BYTES`] bytes.
    TooLarge,
    /// The file does not start like a TZif file.
    NotTzif,
    /// The file ends too early.
    Truncated,
    /// Parts of the file contradict each other, or a value is outside its range.
    Inconsistent,
    /// The file counts leap seconds, as those under `right/` do.
    LeapSeconds,
    /// The file has more than [`ZONE_KINDS`] kinds of local time.
    TooManyKinds,
    /// An abbreviation is shorter than 3 or longer than [`ABBREVIATION_BYTES`] bytes, or not alphanumeric.
    Abbreviation,
    /// A POSIX rule, in `TZ` or at the end of a file, is not well-formed.
    Rule,
    /// The name in `TZ` is longer than [`ZONE_PATH_BYTES`], climbs with `..` or holds a NUL.
    Path,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ZoneError::TooLarge => "time zone file is too large",
            ZoneError::NotTzif => "not a time zone file",
            ZoneError::Truncated => "time zone file is truncated",
            ZoneError::Inconsistent => "time zone file contradicts itself",
            ZoneError::LeapSeconds => "time zone file counts leap seconds",
            ZoneError::TooManyKinds => "time zone file has too many kinds of local time",
            ZoneError::Abbreviation => "time zone abbreviation is not 3 to 9 letters, digits or signs",
            ZoneError::Rule => "malformed POSIX time zone rule",
            ZoneError::Path => "time zone name cannot be used as a path",
        })
    }
}

impl core::error::Error for ZoneError {}

/// A kind of local time ("local time type" in RFC 9636). Whether it counts as summer time makes no difference
/// here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    /// Seconds east of UTC.
    utc_offset: i32,
    abbreviation: Abbreviation,
}

impl Kind {
    const ZERO: Kind = Kind { utc_offset: 0, abbreviation: Abbreviation::ZERO };
    const UTC: Kind = Kind { utc_offset: 0, abbreviation: Abbreviation::UTC };
    /// Offsets that POSIX text and tzdata can produce, in seconds; RFC 9636 section 3.2 asks for no more.
    const OFFSETS: core::ops::RangeInclusive<i32> = -93_599..=93_599;
}

/// From an instant on, a kind holds. Six bytes: the instant as a big-endian 40-bit number, enough for 17 000
/// years on either side of 1970, and the index of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transition([u8; 6]);

impl Transition {
    /// Largest instant that fits; the smallest is `-LIMIT`.
    const LIMIT: i64 = (1 << 39) - 1;

    /// `unix_seconds` lies within `-LIMIT..=LIMIT`.
    fn new(unix_seconds: i64, kind: u8) -> Transition {
        let [_, _, _, a, b, c, d, e] = unix_seconds.to_be_bytes();
        Transition([a, b, c, d, e, kind])
    }

    fn unix_seconds(self) -> i64 {
        let [a, b, c, d, e, _] = self.0;
        i64::from_be_bytes([a, b, c, d, e, 0, 0, 0]) >> 24
    }

    fn kind(self) -> u8 {
        self.0[5]
    }
}

/// What holds after the last transition. `repr` makes sure that UTC, the first, is zero in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tail {
    Utc,
    /// Whatever held last.
    LatestKind,
    Fixed(Kind),
    Alternating(Alternation),
}

impl Tail {
    /// The kind that holds at an instant, and the instant until which it does. `latest` is what held before.
    fn at(&self, unix_seconds: i64, latest: Kind) -> (Kind, i64) {
        match self {
            Tail::Utc => (Kind::UTC, i64::MAX),
            Tail::LatestKind => (latest, i64::MAX),
            Tail::Fixed(kind) => (*kind, i64::MAX),
            Tail::Alternating(rule) => rule.at(unix_seconds),
        }
    }
}

/// Two kinds of local time that take turns every year. "Summer" is the alternative one; in Dublin it is
/// winter, and in the south it spans the new year.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alternation {
    standard: Kind,
    summer: Kind,
    summer_starts: YearlyChange,
    summer_ends: YearlyChange,
}

impl Alternation {
    fn at(&self, unix_seconds: i64) -> (Kind, i64) {
        let (year, _, _) = date_of(day_of(unix_seconds));
        let mut latest = (self.standard, i64::MIN);
        let mut until = i64::MAX;
        // The year (UTC) around the instant, the one before and the one after: local years begin elsewhere,
        // and a rule may point a week past either end.
        for year in year - 1..=year + 1 {
            let start = (self.summer, self.summer_starts.in_year(year, &self.standard));
            let end = (self.standard, self.summer_ends.in_year(year, &self.summer));
            for change in [start, end] {
                if change.1 > unix_seconds {
                    until = until.min(change.1);
                } else if change.1 >= latest.1 {
                    // Of two changes at one instant the later year's wins: so a summer that lasts from new
                    // year to new year ("all year" in RFC 9636 section 3.3) has no gap.
                    latest = change;
                }
            }
        }
        (latest.0, until)
    }
}

/// A day in every year, and a time on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct YearlyChange {
    day: Day,
    /// Seconds after the start of that day in the local time that holds until then; may be negative or
    /// several days.
    second: i32,
}

impl YearlyChange {
    /// As Unix seconds, if `before` holds until then.
    fn in_year(self, year: i32, before: &Kind) -> i64 {
        i64::from(self.day.in_year(year)) * SECONDS_PER_DAY + i64::from(self.second - before.utc_offset)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// `J1` to `J365`: 29 February is never counted, so 1 March is always 60.
    Julian(u16),
    /// `0` to `365`: 29 February counts where there is one.
    Ordinal(u16),
    /// `Mm.w.d`: the `week`-th such weekday (days since Sunday) of the month, or the last if `week` is 5.
    Weekday { month: u8, week: u8, weekday: u8 },
}

impl Day {
    /// As days since 1970-01-01.
    fn in_year(self, year: i32) -> i32 {
        let month = if let Day::Weekday { month, .. } = self { month } else { 1 };
        let first = days_until(year, month, 1);
        first
            + match self {
                Day::Julian(day) => i32::from(day) - 1 + i32::from(day >= 60 && days_in_month(year, 2) == 29),
                Day::Ordinal(day) => i32::from(day),
                Day::Weekday { month, week, weekday } => {
                    let ahead = (weekday + 7 - weekday_of(first)) % 7;
                    let day = ahead + 7 * (week - 1);
                    // The fifth may not exist; then the fourth is the last.
                    i32::from(if day < days_in_month(year, month) { day } else { day - 7 })
                }
            }
    }
}

/// One header and the data block behind it (RFC 9636 sections 3.1 and 3.2), cut into its columns.
struct Block<'a> {
    version: u8,
    /// Bytes per time: 4 in the first block, 8 in the second.
    time_size: usize,
    times: &'a [u8],
    time_kinds: &'a [u8],
    /// Offset (4 bytes), whether it is summer time, start of the abbreviation.
    kinds: &'a [[u8; 6]],
    abbreviations: &'a [u8],
    has_leap_seconds: bool,
}

impl<'a> Block<'a> {
    fn read(reader: &mut Reader<'a>, time_size: usize) -> Result<Block<'a>, ZoneError> {
        let head = reader.take(20)?;
        let [b'T', b'Z', b'i', b'f', version, ..] = *head else {
            return Err(ZoneError::NotTzif);
        };
        let mut counts = [0; 6];
        for count in &mut counts {
            *count = reader.count()?;
        }
        let [utc_marks, standard_marks, leap_seconds, transitions, kinds, abbreviation_bytes] = counts;

        let times = reader.take(transitions * time_size)?;
        let time_kinds = reader.take(transitions)?;
        let (kinds, _) = reader.take(kinds * 6)?.as_chunks();
        let abbreviations = reader.take(abbreviation_bytes)?;
        reader.take(leap_seconds * (time_size + 4))?;
        // How the rules were written in tzdata's source; no reader needs it any more.
        reader.take(standard_marks)?;
        reader.take(utc_marks)?;
        let has_leap_seconds = leap_seconds > 0;
        Ok(Block { version, time_size, times, time_kinds, kinds, abbreviations, has_leap_seconds })
    }

    fn transition_count(&self) -> usize {
        self.time_kinds.len()
    }

    /// The instant and the index of the kind that begins there. `index` is less than `transition_count()`.
    ///
    /// Old files start with the big bang: it is moved to where a [`Transition`] and the calendar can follow.
    #[inline(never)]
    fn transition(&self, index: usize) -> (i64, u8) {
        let time = self.times.get(index * self.time_size..).unwrap_or_default();
        let unix_seconds = match (self.time_size, time) {
            (8, &[a, b, c, d, e, f, g, h, ..]) => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            (_, &[a, b, c, d, ..]) => i64::from(i32::from_be_bytes([a, b, c, d])),
            _ => i64::MAX,
        };
        let unix_seconds = unix_seconds.clamp(-Transition::LIMIT, Transition::LIMIT);
        (unix_seconds, self.time_kinds.get(index).copied().unwrap_or(u8::MAX))
    }

    fn kind(&self, record: &[u8; 6]) -> Result<Kind, ZoneError> {
        let [a, b, c, d, _, start] = *record;
        let utc_offset = i32::from_be_bytes([a, b, c, d]);
        if !Kind::OFFSETS.contains(&utc_offset) {
            return Err(ZoneError::Inconsistent);
        }
        let text = self.abbreviations.get(usize::from(start)..).ok_or(ZoneError::Inconsistent)?;
        let length = text.iter().position(|&byte| byte == 0).ok_or(ZoneError::Inconsistent)?;
        let abbreviation = text.get(..length).and_then(Abbreviation::new).ok_or(ZoneError::Abbreviation)?;
        Ok(Kind { utc_offset, abbreviation })
    }
}

/// What is left to read of a file.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline(never)]
    fn take(&mut self, length: usize) -> Result<&'a [u8], ZoneError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ZoneError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number of records. One that no file of [`ZONE_BYTES`] can hold is refused here, so that no product
    /// of it overflows.
    #[inline(never)]
    fn count(&mut self) -> Result<usize, ZoneError> {
        match *self.take(4)? {
            [0, 0, high, low] if usize::from(u16::from_be_bytes([high, low])) <= ZONE_BYTES => {
                Ok(usize::from(u16::from_be_bytes([high, low])))
            }
            _ => Err(ZoneError::Truncated),
        }
    }

    /// The rule between two line feeds (section 3.3). What a later version may put behind it is not looked
    /// at.
    fn footer(&mut self) -> Result<&'a [u8], ZoneError> {
        let line = self.rest.strip_prefix(b"\n").ok_or(ZoneError::Truncated)?;
        let length = line.iter().position(|&byte| byte == b'\n').ok_or(ZoneError::Truncated)?;
        line.get(..length).ok_or(ZoneError::Truncated)
    }
}

/// Reads a rule: `std offset [ dst [ offset ] [ , start [ /time ] , end [ /time ] ] ]`.
fn parse_posix(text: &[u8]) -> Result<Tail, ZoneError> {
    let mut rule = RuleText { rest: text };
    let tail = rule.tail().ok_or(ZoneError::Rule)?;
    if rule.rest.is_empty() { Ok(tail) } else { Err(ZoneError::Rule) }
}

/// What is left to read of a rule. Each method takes one part off the front, or answers `None` if it is not
/// there.
struct RuleText<'a> {
    rest: &'a [u8],
}

impl RuleText<'_> {
    fn tail(&mut self) -> Option<Tail> {
        let standard = Kind { abbreviation: self.abbreviation()?, utc_offset: -self.clock(24)? };
        if self.rest.is_empty() {
            return Some(Tail::Fixed(standard));
        }
        let abbreviation = self.abbreviation()?;
        let utc_offset = match self.rest.first() {
            None | Some(b',') => standard.utc_offset + 3600,
            Some(_) => -self.clock(24)?,
        };
        let (summer_starts, summer_ends) = if self.rest.is_empty() {
            // POSIX leaves the dates to the implementation: glibc and musl know the American ones since 2007.
            let mut dates = RuleText { rest: b",M3.2.0,M11.1.0" };
            (dates.change()?, dates.change()?)
        } else {
            (self.change()?, self.change()?)
        };
        Some(Tail::Alternating(Alternation {
            standard,
            summer: Kind { abbreviation, utc_offset },
            summer_starts,
            summer_ends,
        }))
    }

    /// `CET`, or `<+0530>` if it is not of letters only.
    fn abbreviation(&mut self) -> Option<Abbreviation> {
        let quoted = self.skip(b'<');
        let ends = |byte: &u8| if quoted { *byte == b'>' } else { !byte.is_ascii_alphabetic() };
        let length = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        if quoted && !self.skip(b'>') {
            return None;
        }
        Abbreviation::new(text)
    }

    /// `[+-]hh[:mm[:ss]]`, in seconds.
    #[inline(never)]
    fn clock(&mut self, hours_at_most: u16) -> Option<i32> {
        let negative = self.skip(b'-');
        if !negative {
            self.skip(b'+');
        }
        let mut seconds = 0;
        for (unit, most) in [(3600, hours_at_most), (60, 59), (1, 59)] {
            seconds += unit * i32::from(self.number(0, most)?);
            if !self.skip(b':') {
                return Some(if negative { -seconds } else { seconds });
            }
        }
        None // a colon behind the seconds
    }

    /// `,M3.5.0/2` or with `J60` or `59`; two o'clock if no time is given. Hours reach from -167 to 167 (RFC
    /// 9636 section 3.3); POSIX itself stops at 0 and 24.
    fn change(&mut self) -> Option<YearlyChange> {
        if !self.skip(b',') {
            return None;
        }
        let day = if self.skip(b'M') {
            let month = self.number(1, 12)?;
            let week = self.skip(b'.').then(|| self.number(1, 5))??;
            let weekday = self.skip(b'.').then(|| self.number(0, 6))??;
            Day::Weekday { month: month as u8, week: week as u8, weekday: weekday as u8 }
        } else if self.skip(b'J') {
            Day::Julian(self.number(1, 365)?)
        } else {
            Day::Ordinal(self.number(0, 365)?)
        };
        let second = if self.skip(b'/') { self.clock(167)? } else { 2 * 3600 };
        Some(YearlyChange { day, second })
    }

    /// A decimal number of at most three digits, within bounds.
    #[inline(never)]
    fn number(&mut self, least: u16, most: u16) -> Option<u16> {
        let mut value = 0;
        let mut digits = 0;
        while let Some((&digit @ b'0'..=b'9', rest)) = self.rest.split_first() {
            value = value * 10 + u16::from(digit - b'0');
            digits += 1;
            if digits > 3 {
                return None;
            }
            self.rest = rest;
        }
        (digits > 0 && (least..=most).contains(&value)).then_some(value)
    }

    #[inline(never)]
    fn skip(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }
}

/// The day (UTC) of an instant, as days since 1970-01-01.
///
/// All instants in this file lie within [`Transition::LIMIT`], so that days and years need 32 bits only:
/// 64-bit division is a function call on small processors.
fn day_of(unix_seconds: i64) -> i32 {
    unix_seconds.div_euclid(SECONDS_PER_DAY) as i32
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `month` 1 to 12.
///
/// Years are taken to begin in March, so that the leap day comes last, and 400 of them have 146 097 days
/// (<https://howardhinnant.github.io/date_algorithms.html>, `days_from_civil`).
#[inline(never)]
fn days_until(year: i32, month: u8, day: u8) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (i32::from(month) + 9) % 12;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + i32::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date of a day, as year, month and day; the reverse of [`days_until`] (`civil_from_days` in the same
/// place).
fn date_of(days_since_1970: i32) -> (i32, u8, u8) {
    let days = days_since_1970 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i32::from(month <= 2);
    (year, month as u8, day as u8)
}

/// Days since Sunday: 1970 began on a Thursday.
fn weekday_of(days_since_1970: i32) -> u8 {
    (days_since_1970 + 4).rem_euclid(7) as u8
}

fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests;
