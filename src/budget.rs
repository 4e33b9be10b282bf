//! What memory the daemon can use: all of it is in statics, and what a capacity costs is in its type.
//!
//! A program tells its own (`-help capacities`), whatever machine it was built for; memory-budget.md is written from that, and its
//! first part by this module's tests.

use core::fmt;

use crate::backend::Backend;
use crate::backend::linux::{Cache, Linux, Spawner, Spills, log, spawn};
use crate::capacity::{ADJUSTABLE, SCRATCH_BYTES, SPILLS};
use crate::config::{self, Loader};
use crate::engine::{self, Engine};
use crate::limits::Window;
use crate::resolver::Resolver;
use crate::service::{Minutes, Service};
use crate::table::{Rule, Text};
use crate::wrappers::VERDICT_BYTES;

/// The statics of `src/main.rs`, without those of the feature `tap`.
const STATICS: [(&str, usize); 6] = [
    ("ENGINE", size_of::<Engine<Linux>>()),
    ("LOADER", size_of::<Loader>()),
    ("SPILLS", size_of::<Spills>()),
    ("SPAWNER", size_of::<Spawner>()),
    ("CACHE", size_of::<Cache>()),
    ("LOG", size_of::<log::Log>()),
];

const STATICS_BYTES: usize = {
    let mut bytes = 0;
    let mut nth = 0;
    while nth < STATICS.len() {
        bytes += STATICS[nth].1;
        nth += 1;
    }
    bytes
};

/// Those of the feature `tap`: another engine, and the stack's sockets with their buffers.
#[cfg(feature = "tap")]
const TAP_BYTES: usize = size_of::<Engine<crate::backend::linux::tap::TapStack>>()
    + size_of::<crate::backend::smoltcp::Buffers>()
    + size_of::<crate::backend::smoltcp::Sockets<'static>>();
#[cfg(not(feature = "tap"))]
const TAP_BYTES: usize = 0;

/// Bytes of statics that one more of each capacity costs, without what the feature `tap` adds, in the order of [`ADJUSTABLE`].
const EACH: [(&str, usize); ADJUSTABLE.len()] = {
    const fn twice<T>() -> usize {
        2 * size_of::<T>()
    }
    let each = engine::bytes_each::<Linux>();
    [
        ("SERVICES", twice::<Service>() + each.run + config::SERVICE_BYTES),
        ("TEXT_BYTES", twice::<u8>()),
        ("WORDS", twice::<Text>()),
        ("RULES", twice::<Rule>()),
        ("GIDS", twice::<u32>()),
        ("TIMES", twice::<Minutes>()),
        ("SERVERS", each.server),
        ("SESSIONS", each.session),
        ("RELAYS", each.relay),
        ("STANDBYS", each.standby),
        ("WAITING", each.waiting),
        ("IDENTS", each.ident),
        ("COMMANDS", each.command),
        ("DENIED", each.denied),
        ("SOURCES", size_of::<(u16, core::net::IpAddr, Window)>()),
        ("NAMES", Resolver::<<Linux as Backend>::Question>::BYTES_EACH),
        ("SCRATCH_BYTES", 1 + SPILLS),
        ("SPILLS", SCRATCH_BYTES),
        ("SPAWN_SLOTS", spawn::SLOT_BYTES),
        ("FILTER_STEPS", 0),
        ("LOG_FILES", log::FILE_BYTES),
        ("LOG_LINE_BYTES", 0),
        ("RECORDER_BYTES", 0),
        ("STANDALONE_WORDS", 0),
        // Not in the daemon: it has the kernel's.
        ("TCP_SOCKETS", 0),
        ("TCP_BUFFER_BYTES", 0),
        ("UDP_SOCKETS", 0),
        ("UDP_BUFFER_BYTES", 0),
        ("UDP_PACKETS", 0),
        ("DATAGRAM_BYTES", 1),
        ("BANNER_BYTES", 0),
        ("EFFECT_BYTES", 1),
        ("VERDICTS", VERDICT_BYTES),
        ("PATH_BYTES", 0),
        // The line buffer of files, and two of hosts.allow and hosts.deny.
        ("LINE_BYTES", 3),
        ("DRAFT_WORDS", DRAFT_WORD_LISTS * size_of::<Text>()),
        ("DRAFT_RULES", DRAFT_RULE_LISTS * size_of::<Rule>()),
    ]
};

/// Lists of words and of rules that a service has while files are read.
const DRAFT_WORD_LISTS: usize = 2 * 5;
const DRAFT_RULE_LISTS: usize = 2 * 2;

// In one order, so that nothing is looked up.
const _: () = {
    let mut nth = 0;
    while nth < EACH.len() {
        let (here, there) = (EACH[nth].0.as_bytes(), ADJUSTABLE[nth].0.as_bytes());
        assert!(here.len() == there.len(), "EACH is in the order of ADJUSTABLE");
        let mut at = 0;
        while at < here.len() {
            assert!(here[at] == there[at], "EACH is in the order of ADJUSTABLE");
            at += 1;
        }
        nth += 1;
    }
};

/// Values of the capacities, apart from their descriptions, which stay out of the program.
const VALUES: [usize; EACH.len()] = {
    let mut values = [0; EACH.len()];
    let mut nth = 0;
    while nth < values.len() {
        values[nth] = ADJUSTABLE[nth].1;
        nth += 1;
    }
    values
};

/// What `usherd -help capacities` says: what this program was built with, in bytes. `tools/budget` reads it.
pub struct Help;

impl fmt::Display for Help {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capacities this program was built with (memory-budget.md says what each is for):\n\n")?;
        #[cfg(feature = "tap")]
        f.write_str("Without what -tap serves with, which is only in the sum below.\n\n")?;
        writeln!(f, "{:<28}{:>8}{:>12}{:>10}", "", "value", "bytes each", "together")?;
        for ((name, each), value) in EACH.iter().zip(VALUES) {
            writeln!(f, "USHERD_{name:<21}{value:>8}{each:>12}{:>10}", each * value)?;
        }
        f.write_str("\nAll memory it can ever use, besides its stack:\n\n")?;
        for (name, bytes) in STATICS {
            writeln!(f, "{name:<48}{bytes:>10}")?;
        }
        #[cfg(feature = "tap")]
        writeln!(f, "{:<48}{TAP_BYTES:>10}", "what -tap serves with")?;
        writeln!(f, "{:<48}{:>10}", "together", STATICS_BYTES + TAP_BYTES)
    }
}

#[cfg(test)]
mod tests;
