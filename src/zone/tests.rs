use super::*;
use std::string::{String, ToString};
use std::vec::Vec;

/// Files of tzdata 2025b and what Python and GNU date say about them; `generate.py` beside them made both.
macro_rules! tzif {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/data/zoneinfo/", $name)).as_slice()
    };
}

const FILES: [(&str, &[u8]); 12] = [
    ("Africa/Casablanca", tzif!("Africa_Casablanca")),
    ("America/New_York", tzif!("America_New_York")),
    ("America/New_York", tzif!("America_New_York.fat")),
    ("America/St_Johns", tzif!("America_St_Johns")),
    ("Asia/Hebron", tzif!("Asia_Hebron.fat")),
    ("Asia/Kathmandu", tzif!("Asia_Kathmandu")),
    ("Asia/Kolkata", tzif!("Asia_Kolkata")),
    ("Australia/Lord_Howe", tzif!("Australia_Lord_Howe")),
    ("Europe/Berlin", tzif!("Europe_Berlin")),
    ("Europe/Dublin", tzif!("Europe_Dublin")),
    ("Pacific/Apia", tzif!("Pacific_Apia")),
    ("Pacific/Chatham", tzif!("Pacific_Chatham")),
];

const EXPECTED: &str = include_str!("../../tests/data/zoneinfo/expected.txt");

fn file(name: &str) -> &'static [u8] {
    FILES.iter().find(|(known, _)| *known == name).unwrap().1
}

fn describe(local: LocalTime) -> String {
    let LocalTime { year, month, day, hour, minute, second, weekday, abbreviation, utc_offset } = local;
    std::format!("{year} {month} {day} {hour} {minute} {second} {weekday} {utc_offset} {abbreviation}")
}

fn written(write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) -> String {
    let mut out = String::new();
    write(&mut out).unwrap();
    out
}

/// A rule as text, at an instant.
fn posix(rule: &str, unix_seconds: i64) -> String {
    let local = Zone::from_posix(rule.as_bytes()).unwrap().at(unix_seconds);
    std::format!("{} {}", local.abbreviation, local.utc_offset)
}

/// One byte at a time: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Whatever a zone was made of, it answers for every instant.
fn ask_everything(zone: &Zone, random: &mut Random) {
    for unix_seconds in
        [i64::MIN, -1, 0, 1_795_342_514, i64::MAX, random.next() as i64, (random.next() >> 24) as i64]
    {
        let local = zone.at(unix_seconds);
        assert!((1..=12).contains(&local.month) && (1..=31).contains(&local.day), "{local:?}");
        assert!(local.hour < 24 && local.minute < 60 && local.second < 60 && local.weekday < 7, "{local:?}");
        assert!(!local.abbreviation.as_str().is_empty(), "{local:?}");
        assert!(local.minute_of_day() < 1440);
        written(|out| local.write_ctime(out));
    }
}

// Against other implementations

#[test]
fn every_zone_agrees_with_python_and_gnu_date() {
    let mut checked = 0;
    for line in EXPECTED.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(' ').unwrap();
        let (unix_seconds, expected) = rest.split_once(' ').unwrap();
        let unix_seconds = unix_seconds.parse().unwrap();
        let mut zones: Vec<Zone> = FILES
            .iter()
            .filter(|(known, _)| *known == name)
            .map(|(_, bytes)| Zone::from_tzif(bytes).unwrap())
            .collect();
        if zones.is_empty() {
            zones.push(Zone::from_posix(name.as_bytes()).unwrap());
        }
        for zone in zones {
            // Hebron has more changes than are kept; what it was like before then is forgotten.
            if name == "Asia/Hebron" && unix_seconds < 1_480_000_000 {
                continue;
            }
            assert_eq!(describe(zone.at(unix_seconds)), expected, "{name} at {unix_seconds}");
            checked += 1;
        }
    }
    assert!(checked > 250, "only {checked} lines");
}

#[test]
fn the_first_bytes_of_a_fat_file_alone_are_version_1() {
    // A version 1 file ends after its first block; its times have 32 bits and no rule follows them.
    let fat = tzif!("America_New_York.fat");
    let second = fat.windows(4).rposition(|window| window == b"TZif").unwrap();
    let mut old = fat[..second].to_vec();
    old[4] = 0;
    let zone = Zone::from_tzif(&old).unwrap();
    assert_eq!(describe(zone.at(1_795_342_514)), "2026 11 22 5 15 14 0 -18000 EST");
    assert_eq!(zone.at(1_785_000_000).abbreviation.as_str(), "EDT");
    // 2037 is the last year it knows; after that nothing changes.
    assert_eq!(zone.at(4_120_000_000).abbreviation.as_str(), "EST");
}

// What a zone holds

#[test]
fn fat_and_slim_files_give_the_same_zone() {
    let slim = Zone::from_tzif(tzif!("America_New_York")).unwrap();
    let fat = Zone::from_tzif(tzif!("America_New_York.fat")).unwrap();
    assert_eq!((slim.transitions_used, fat.transitions_used), (175, 175), "from 236 in the fat file");
    assert_eq!((slim.first_kind, &slim.tail), (fat.first_kind, &fat.tail));
    for (one, other) in slim.transitions.iter().zip(&fat.transitions) {
        // The fat file numbers its kinds differently.
        assert_eq!(one.unix_seconds(), other.unix_seconds());
        assert_eq!(slim.at(one.unix_seconds()), fat.at(one.unix_seconds()));
    }
}

#[test]
fn a_zone_is_small_and_starts_as_utc() {
    assert_eq!(size_of::<Zone>(), 1640, "tell memory-budget.md");
    assert_eq!(Zone::default(), Zone::UTC);
    assert_eq!(describe(Zone::UTC.at(0)), "1970 1 1 0 0 0 4 0 UTC");
    assert_eq!(describe(Zone::UTC.at(1_795_342_514)), "2026 11 22 10 15 14 0 0 UTC");
}

#[test]
fn the_oldest_changes_make_room_for_the_newest() {
    let zone = Zone::from_tzif(file("Asia/Hebron")).unwrap();
    assert_eq!(usize::from(zone.transitions_used), ZONE_TRANSITIONS);
    let oldest = zone.transitions[0].unix_seconds();
    assert_eq!((zone.at(oldest).year, zone.at(oldest).month), (2016, 10));
    // What held just before is known; what held long before is taken to be the same.
    assert_eq!(zone.at(oldest).abbreviation.as_str(), "EET");
    assert_eq!(zone.at(oldest - 1).abbreviation.as_str(), "EEST");
    assert_eq!(zone.at(i64::MIN).abbreviation.as_str(), "EEST");
}

#[test]
fn packed_transitions_keep_sign_and_kind() {
    for unix_seconds in [-Transition::LIMIT, -4_260_212_372, -1, 0, 1, 3_703_456_800, Transition::LIMIT] {
        let transition = Transition::new(unix_seconds, 23);
        assert_eq!((transition.unix_seconds(), transition.kind()), (unix_seconds, 23));
    }
}

#[test]
fn instants_beyond_the_calendar_are_held_at_its_ends() {
    assert_eq!(describe(Zone::UTC.at(i64::MIN)), "0 1 1 0 0 0 6 0 UTC");
    assert_eq!(describe(Zone::UTC.at(i64::MAX)), "9999 12 31 23 59 59 5 0 UTC");
    let east = Zone::from_posix(b"AAA-24").unwrap();
    assert_eq!(describe(east.at(i64::MAX)), "9999 12 31 23 59 59 5 86400 AAA");
}

#[test]
fn every_day_of_a_millennium_has_the_date_after_the_day_before() {
    let (mut year, mut month, mut day) = (1599, 12, 31);
    for days in days_until(1600, 1, 1)..days_until(2600, 1, 1) {
        day += 1;
        if day > days_in_month(year, month) {
            (month, day) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
        assert_eq!(date_of(days), (year, month, day));
        assert_eq!(days_until(year, month, day), days);
    }
}

// Rules

#[test]
fn summer_all_year_has_no_gap_at_new_year() {
    // RFC 9636 section 3.3 has the first as its example; 2027-01-01 00:00 to 04:00 UTC.
    for hour in 0..5 {
        assert_eq!(posix("XXX3EDT4,0/0,J365/23", 1_798_761_600 + hour * 3600), "EDT -14400");
        assert_eq!(posix("EST5EDT,0/0,J365/25", 1_798_761_600 + hour * 3600), "EDT -14400");
    }
}

#[test]
fn hours_may_be_negative_or_days_long() {
    // Nuuk changes at -1 o'clock on Sunday, which is Saturday 23:00; 2026-03-29 01:00 UTC.
    assert_eq!(posix("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1_774_745_999), "-02 -7200");
    assert_eq!(posix("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1_774_746_000), "-01 -3600");
    // Hebron: 50 hours after the fourth Thursday of March is Saturday two o'clock; 2026-03-28 00:00 UTC.
    assert_eq!(posix("EET-2EEST,M3.4.4/50,M10.4.4/50", 1_774_655_999), "EET 7200");
    assert_eq!(posix("EET-2EEST,M3.4.4/50,M10.4.4/50", 1_774_656_000), "EEST 10800");
}

#[test]
fn summer_without_dates_is_american() {
    let with = Zone::from_posix(b"EST5EDT,M3.2.0,M11.1.0").unwrap();
    assert_eq!(Zone::from_posix(b"EST5EDT").unwrap(), with);
    assert_eq!(Zone::from_posix(b"EST5EDT4").unwrap(), with);
}

#[test]
fn malformed_rules_are_refused() {
    let malformed = [
        "",
        "CET",
        "1",
        "CE-1",
        "CET-25",
        "CET-1:60",
        "CET-1:00:60",
        "CET-",
        "CET--1",
        "CET-1CEST,",
        "CET-1CEST,M3.5.0",
        "CET-1CEST,M13.5.0,M10.5.0",
        "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,M3.5.7,M10.5.0",
        "CET-1CEST,M3.0.0,M1.5.0",
        "CET-1CEST,J0,J3",
        "CET-1CEST,J366,J3",
        "CET-1CEST,366,3",
        "CET-1CEST,M3.5.0/168,M10.5.0",
        "<+01-1",
        "<+0>-1",
        "CET-1CEST,M3.5.0,M10.5.0 ",
        "CET-1CEST,M3.5.0,M10.5.0,",
        "LONGERTHAN9-1",
        "CET-0001",
        "<+1\u{e9}>-1",
        "CET-1 CEST",
    ];
    for rule in malformed {
        assert_eq!(Zone::from_posix(rule.as_bytes()), Err(ZoneError::Rule), "{rule:?}");
    }
}

// TZ

#[test]
fn tz_is_read_like_elsewhere() {
    let path = |value: Option<&'static str>| match parse_tz_variable(value.map(str::as_bytes)) {
        Ok(TzSource::Path(path)) => String::from_utf8(path.to_vec()).unwrap(),
        Ok(TzSource::Posix(rule)) => std::format!("rule {}", core::str::from_utf8(rule).unwrap()),
        Ok(TzSource::Utc) => "utc".to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(path(None), "/etc/localtime");
    for value in ["", ":", "UTC", ":UTC"] {
        assert_eq!(path(Some(value)), "utc");
    }
    assert_eq!(path(Some("Europe/Berlin")), "/usr/share/zoneinfo/Europe/Berlin");
    assert_eq!(path(Some(":Europe/Berlin")), "/usr/share/zoneinfo/Europe/Berlin");
    assert_eq!(path(Some("CET")), "/usr/share/zoneinfo/CET");
    assert_eq!(path(Some("Etc/GMT+5")), "/usr/share/zoneinfo/Etc/GMT+5");
    assert_eq!(path(Some(":EST5EDT")), "/usr/share/zoneinfo/EST5EDT");
    assert_eq!(path(Some("/etc/zone")), "/etc/zone");
    assert_eq!(path(Some(":/etc/zone")), "/etc/zone");
    assert_eq!(path(Some("CET-1CEST,M3.5.0,M10.5.0/3")), "rule CET-1CEST,M3.5.0,M10.5.0/3");
    assert_eq!(path(Some("<+0530>-5:30")), "rule <+0530>-5:30");
    assert_eq!(path(Some("UTC0")), "rule UTC0");
    let unusable = ZoneError::Path.to_string();
    assert_eq!(path(Some("../../etc/shadow")), unusable);
    assert_eq!(path(Some("Europe/\0Berlin")), unusable);
    let long = std::vec![b'x'; ZONE_PATH_BYTES + 1];
    assert_eq!(parse_tz_variable(Some(&long)), Err(ZoneError::Path));
}

// Text

#[test]
fn stamps_have_the_bytes_that_others_write() {
    let local = Zone::UTC.at(1_795_346_114);
    assert_eq!(written(|out| local.write_ctime(out)), "Sun Nov 22 11:15:14 2026");
    assert_eq!(written(|out| local.write_xinetd_daytime(out)), "22 NOV 2026 11:15:14 UTC");
    assert_eq!(written(|out| local.write_xinetd_stamp(out)), "26/11/22@11:15:14");
    assert_eq!(written(|out| local.write_syslog_stamp(out)), "Nov 22 11:15:14");
    assert_eq!(local.minute_of_day(), 11 * 60 + 15);
}

#[test]
fn a_single_digit_is_padded_with_a_blank_a_zero_or_nothing() {
    let local = Zone::from_posix(b"<+0530>-5:30").unwrap().at(1_109_642_645);
    assert_eq!(written(|out| local.write_ctime(out)), "Tue Mar  1 07:34:05 2005");
    assert_eq!(written(|out| local.write_xinetd_daytime(out)), "01 MAR 2005 07:34:05 +0530");
    assert_eq!(written(|out| local.write_xinetd_stamp(out)), "05/3/1@07:34:05");
    assert_eq!(written(|out| local.write_syslog_stamp(out)), "Mar  1 07:34:05");
}

// Hostile files

#[test]
fn broken_files_are_refused_with_the_reason() {
    let berlin = file("Europe/Berlin");
    let refused = |bytes: &[u8]| Zone::from_tzif(bytes).unwrap_err();
    assert_eq!(refused(b""), ZoneError::Truncated);
    assert_eq!(refused(&[b'x'; 100]), ZoneError::NotTzif);
    assert_eq!(refused(&[0; ZONE_BYTES + 1]), ZoneError::TooLarge);
    for length in 0..berlin.len() {
        assert_eq!(refused(&berlin[..length]), ZoneError::Truncated, "{length} bytes");
    }
    // The second header, and the counts in it, are what is believed.
    let second = berlin.windows(4).rposition(|window| window == b"TZif").unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = berlin.to_vec();
        bytes[second + at] = value;
        bytes
    };
    assert_eq!(refused(&changed(0, b't')), ZoneError::NotTzif);
    assert_eq!(refused(&changed(39, 200)), ZoneError::Truncated, "more kinds than there are bytes");
    assert_eq!(refused(&changed(36, 1)), ZoneError::Truncated, "16 million kinds");
    assert_eq!(refused(&changed(44, 0x7f)), ZoneError::Inconsistent, "the first change is after the second");
}

#[test]
fn small_files_are_judged_by_their_content() {
    /// A file without changes: so many leap seconds, kinds that are UTC, and a rule.
    fn made(leap_seconds: u32, kinds: u32, abbreviation: &[u8], rule: &[u8]) -> Result<Zone, ZoneError> {
        let mut bytes = Vec::new();
        for time_size in [4, 8] {
            bytes.extend_from_slice(b"TZif2");
            bytes.extend_from_slice(&[0; 15]);
            for count in [0, 0, leap_seconds, 0, kinds, abbreviation.len() as u32] {
                bytes.extend_from_slice(&count.to_be_bytes());
            }
            bytes.resize(bytes.len() + kinds as usize * 6, 0);
            bytes.extend_from_slice(abbreviation);
            bytes.resize(bytes.len() + leap_seconds as usize * (time_size + 4), 0);
        }
        bytes.extend_from_slice(rule);
        Zone::from_tzif(&bytes)
    }
    let utc = "2026 11 22 10 15 14 0 0 ABC";
    let berlin = "2026 11 22 11 15 14 0 3600 CET";
    assert_eq!(describe(made(0, 1, b"ABC\0", b"\n\n").unwrap().at(1_795_342_514)), utc);
    // Without changes the rule holds always, whatever the first kind is (RFC 9636 section 3.2).
    assert_eq!(describe(made(0, 1, b"ABC\0", b"\nCET-1\n").unwrap().at(1_795_342_514)), berlin);
    assert_eq!(made(0, 1, b"ABC\0", b"\nCET-1"), Err(ZoneError::Truncated));
    assert_eq!(made(0, 1, b"ABC\0", b"\nCET1\xff\n"), Err(ZoneError::Rule));
    assert_eq!(made(1, 1, b"ABC\0", b"\n\n"), Err(ZoneError::LeapSeconds));
    assert_eq!(made(0, 0, b"ABC\0", b"\n\n"), Err(ZoneError::Inconsistent));
    assert_eq!(made(0, 24, b"ABC\0", b"\n\n").map(|_| ()), Ok(()));
    assert_eq!(made(0, 25, b"ABC\0", b"\n\n"), Err(ZoneError::TooManyKinds));
    assert_eq!(made(0, 1, b"ABC", b"\n\n"), Err(ZoneError::Inconsistent), "no NUL");
    assert_eq!(made(0, 1, b"\0", b"\n\n"), Err(ZoneError::Abbreviation));
    assert_eq!(made(0, 1, b"A\nB\0", b"\n\n"), Err(ZoneError::Abbreviation), "a log line must stay one");
}

#[test]
fn no_bytes_make_it_panic() {
    const SEED: u64 = 20_261_122;
    let mut random = Random(SEED);
    let mut accepted = 0;
    for round in 0..20_000 {
        let (_, original) = FILES[random.below(FILES.len())];
        let mut bytes = original.to_vec();
        match round % 4 {
            0 => bytes.truncate(random.below(original.len() + 1)),
            1 => bytes.iter_mut().skip(5).for_each(|byte| *byte = random.next() as u8),
            _ => {
                for _ in 0..=random.below(4) {
                    // Headers are where it hurts, so half of the changes go to the first hundred bytes.
                    let span = if random.below(2) == 0 { 100.min(bytes.len()) } else { bytes.len() };
                    let at = random.below(span);
                    bytes[at] = random.next() as u8;
                }
            }
        }
        if let Ok(zone) = Zone::from_tzif(&bytes) {
            accepted += 1;
            ask_everything(&zone, &mut random);
        }
    }
    assert!(accepted > 1000, "seed {SEED}: only {accepted} of the changed files were accepted");
}

#[test]
fn no_rule_makes_it_panic() {
    const SEED: u64 = 19_991_231;
    const LETTERS: &[u8] = b"CETCEST<>+-0123456789,,./MJ:\n";
    let mut random = Random(SEED);
    let mut accepted = 0;
    for round in 0..50_000 {
        let mut text = if round % 2 == 0 { b"CET-1CEST,M3.5.0,J300/3".to_vec() } else { Vec::new() };
        for _ in 0..random.below(8) {
            let letter = LETTERS[random.below(LETTERS.len())];
            let at = random.below(text.len() + 1);
            match text.get_mut(at) {
                Some(byte) if random.below(2) == 0 => *byte = letter,
                _ => text.insert(at, letter),
            }
        }
        let _ = parse_tz_variable(Some(&text));
        if let Ok(zone) = Zone::from_posix(&text) {
            accepted += 1;
            ask_everything(&zone, &mut random);
        }
    }
    assert!(accepted > 1000, "seed {SEED}: only {accepted} rules were accepted");
}
