//! Every capacity of the core, in one place.
//!
//! What does not fit in a table gets a diagnostic that names the constant here; what does not fit at run time
//! has a defined answer, stated beside the constant. The bytes each one costs stand in `memory-budget.md`.
//! A constant that can be raised for a board is read from an environment variable when the crate is built, as
//! smoltcp does: `USHERD_SERVICES=256 cargo build --release`.

include!(concat!(env!("OUT_DIR"), "/capacity.rs"));

/// Levels of `include`, `includedir` and `.include` that may be open at once. A file that includes itself stops
/// here at the latest (xinetd recursed until it had no descriptors left).
pub const INCLUDE_DEPTH: usize = 8;

/// Longest file name that `includedir` and `.include` consider, in bytes (Linux's NAME_MAX).
pub const NAME_BYTES: usize = 255;

/// Bytes a built-in stream service may move for one client before the next client has its turn.
pub const TURN_BYTES: usize = 64 * 1024;

/// Servers started ahead of their clients before the next event is looked at.
pub const STANDBY_STARTS_A_TURN: usize = 8;

/// Connections taken from one listener before the next event is looked at.
pub const ACCEPTS_A_TURN: usize = 32;

/// Bytes of lines for log files that are written together. A line that does not fit has those before it written.
pub const LOG_GATHER_BYTES: usize = 4096;
const _: () = assert!(LOG_LINE_BYTES <= LOG_GATHER_BYTES);

/// Files that are kept in memory while they do not change: hosts.allow, hosts.deny, and what they or the resolver read, as
/// hosts and resolv.conf. One more is
/// read as often as it is asked for.
pub const CACHED_FILES: usize = 4;

/// Directories of [`CACHED_FILES`] that are looked at in place of each path. A file of one more is looked at by its path.
pub const CACHED_DIRS: usize = 2;

/// Bytes of each of [`CACHED_FILES`]. A file that is as large or larger is read as often as it is asked for.
pub const CACHE_BYTES: usize = 8192;

/// Datagrams answered for one built-in service before the next event is looked at.
pub const DATAGRAMS_A_TURN: usize = 64;

/// Serial lines of a board that services can be bound to. One more is not found by its path.
pub const LINES: usize = 2;

/// Longest frame of the flight recorder (feature recorder), in bytes. One that is longer is not written, which is logged; of
/// what is in records, only names and answers full of control characters make one so long.
pub const FRAME_BYTES: usize = 4 * LOG_LINE_BYTES;

/// Variables that one rule may set; with more, as above.
pub const EFFECT_VARIABLES: usize = 16;

/// Processes that still have clients of older programs, whose place newer ones have taken. With so many, no newer program
/// takes the place of this one before one of them has ended. Four bytes each.
pub const PREDECESSORS: usize = 8;

/// Bytes of the names of modules that are loaded at boot, each with one more. A list that is longer is told, and not loaded.
pub const BOOT_MODULES_BYTES: usize = 1024;
