//! Numbers by chance that a failure can be had again with.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64: good enough for tests, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    /// With the seed of this run, which is told: `USHERD_SEED`, or another each time.
    pub fn seeded() -> (u64, Random) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        let given = std::env::var("USHERD_SEED").ok();
        let seed = given.map_or(now, |seed| seed.parse().expect("USHERD_SEED is a number"));
        println!("USHERD_SEED={seed}");
        (seed, Random(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// So many random cases: `USHERD_CASES`, or the number that a test has by itself.
pub fn cases(usual: u32) -> u32 {
    std::env::var("USHERD_CASES").map_or(usual, |n| n.parse().expect("USHERD_CASES is a number"))
}

/// Bytes without a period that fits any buffer's size.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..len).map(|_| random.next() as u8).collect()
}
