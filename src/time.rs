//! Time as plain integers. No clock lives here: backends read theirs and pass the value in, so that any run can
//! be replayed.

/// Milliseconds of a clock that never goes back and starts anywhere (CLOCK_MONOTONIC on Linux). All windows,
/// pauses and retries count on it: setting the time of day must not freeze a limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// This instant and `ms` milliseconds.
    pub const fn plus_ms(self, ms: u64) -> Instant {
        Instant(self.0.saturating_add(ms))
    }

    /// This instant and `s` seconds.
    pub const fn plus_s(self, s: u64) -> Instant {
        self.plus_ms(s.saturating_mul(1000))
    }

    /// Milliseconds from `earlier` to this instant; 0 if `earlier` is later.
    pub const fn since_ms(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds from `earlier` to this instant, as the `duration=` of an EXIT line counts them.
    pub const fn since_s(self, earlier: Instant) -> u64 {
        self.since_ms(earlier) / 1000
    }
}

/// What the clocks said when an event was taken from its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    pub mono: Instant,
    /// Seconds since 1970-01-01 00:00 UTC, or `None` where the time of day is not known (a board before its
    /// first SNTP answer).
    pub unix: Option<i64>,
}
