//! Runs the targets without cargo-fuzz: over the corpus, then over mutations of it.
//!
//!     replay [SECONDSs | COUNT] [seed=N] [TARGET...] [FILE...]
//!
//! A FILE is given to the one TARGET named, without mutations. The n-th mutation of a seed is always the same.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use usherd_fuzz::{TARGETS, Target};

/// One input must not take longer than this: on a board it is some fifty times as long.
const LONGEST: Duration = Duration::from_secs(2);
/// Longest input that mutations make.
const MOST: usize = 100_000;

enum Amount {
    Count(u64),
    Time(Duration),
}

fn main() -> ExitCode {
    let mut amount = Amount::Count(10_000);
    let mut seed = 1;
    let mut targets = Vec::new();
    let mut files = Vec::new();
    for word in std::env::args().skip(1) {
        if let Some(target) = TARGETS.iter().find(|(name, _)| *name == word) {
            targets.push(*target);
        } else if let Some(number) = word.strip_prefix("seed=").and_then(|n| n.parse().ok()) {
            seed = number;
        } else if let Some(seconds) = word.strip_suffix('s').and_then(|n| n.parse().ok()) {
            amount = Amount::Time(Duration::from_secs(seconds));
        } else if let Ok(count) = word.parse() {
            amount = Amount::Count(count);
        } else if Path::new(&word).is_file() {
            files.push(word);
        } else {
            eprintln!("{word}: no target, amount or file");
            return ExitCode::from(2);
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    if let Amount::Time(all) = &mut amount {
        *all /= targets.len() as u32;
    }
    let mut failures = 0;
    for target in targets {
        if files.is_empty() {
            failures += usize::from(!fuzz(target, &amount, seed));
        }
        for file in &files {
            let data = fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}"));
            failures += usize::from(!run(target, &data));
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The corpus, then mutations; false at the first input that fails.
fn fuzz(target: Target, amount: &Amount, seed: u64) -> bool {
    let begun = Instant::now();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.0);
    let mut paths: Vec<_> = fs::read_dir(&dir).expect("a corpus").flatten().map(|e| e.path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a file")).collect();
    if !corpus.iter().all(|data| run(target, data)) {
        return false;
    }
    let mut count = 0;
    loop {
        let over = match amount {
            Amount::Count(most) => count >= *most,
            Amount::Time(time) => begun.elapsed() >= *time,
        };
        if over {
            println!("{}: {} files, {count} mutations, {:?}", target.0, corpus.len(), begun.elapsed());
            return true;
        }
        count += 1;
        let data = mutate(&corpus, &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ count << 20 | 1));
        if !run(target, &data) {
            return false;
        }
    }
}

/// Gives one input to a target; if that panics or takes too long, keeps the input.
fn run((name, body): Target, data: &[u8]) -> bool {
    let begun = Instant::now();
    let sound = catch_unwind(|| body(data)).is_ok();
    let took = begun.elapsed();
    if sound && took < LONGEST {
        return true;
    }
    let hash =
        data.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    let path = dir.join(format!("{hash:016x}"));
    let kept = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, data));
    eprintln!(
        "{name}: {} after {took:?}: {} {kept:?}",
        if sound { "slow" } else { "failed" },
        path.display()
    );
    false
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        value as usize % n.max(1)
    }
}

/// What parsers stumble over.
const WORDS: [&[u8]; 40] = [
    b"\0",
    b"\xff",
    b"\"",
    b"\\",
    b"#",
    b"\r\n",
    b"\n",
    b"\t",
    b"=",
    b"+=",
    b"-=",
    b"{",
    b"}\n",
    b":",
    b"/",
    b",",
    b"!",
    b"0",
    b"-1",
    b"65535",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"0.0.0.0/0",
    b"::/0",
    b"[::1]:7",
    b"/33",
    b"%FILE /etc/d/x\n",
    b"include /etc/conf\n",
    b"includedir /etc/d\n",
    b".include \"/etc/d/*\"\n",
    b"service ",
    b"defaults\n{\n",
    b"instances = ",
    b"only_from += ",
    b"EST5EDT,M3.2.0,M11.1.0/167",
    b"<+99>",
    b"J366",
    b"\xc2\x85",
    b"UNLIMITED",
];

fn mutate(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut data = corpus.get(dice.below(corpus.len())).cloned().unwrap_or_default();
    for _ in 0..=dice.below(8) {
        let at = dice.below(data.len() + 1);
        let end = at + dice.below((data.len() - at).min(64) + 1);
        match dice.below(9) {
            0 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            1 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = dice.below(256) as u8;
                }
            }
            2 => drop(data.drain(at..end)),
            3 => {
                let word = WORDS[dice.below(WORDS.len())];
                drop(data.splice(at..at, word.iter().copied()));
            }
            4 => {
                let word = WORDS[dice.below(WORDS.len())];
                drop(data.splice(at..end, word.iter().copied()));
            }
            5 => {
                // Over every capacity there is.
                let times = [2, 20, 300, 3000][dice.below(4)];
                let piece = data[at..end].repeat(times);
                drop(data.splice(at..at, piece));
            }
            6 => {
                // Whole lines, again and again.
                let from = data[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
                let to = data[at..].iter().position(|b| *b == b'\n').map_or(data.len(), |n| at + n + 1);
                let piece = data[from..to].repeat([1, 2, 150][dice.below(3)]);
                drop(data.splice(from..from, piece));
            }
            7 => data.truncate(at),
            _ => {
                if let Some(other) = corpus.get(dice.below(corpus.len())) {
                    let from = dice.below(other.len() + 1);
                    let to = from + dice.below(other.len() - from + 1);
                    drop(data.splice(at..end, other[from..to].iter().copied()));
                }
            }
        }
        data.truncate(MOST);
    }
    data
}
