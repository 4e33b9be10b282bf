//! memory-budget.md's first part: what capacities and statics take on x86_64, without features that are off by default.

use core::fmt;
use std::format;
use std::string::{String, ToString};

use super::*;
use crate::backend::linux::filter::Step;
use crate::capacity::{
    ACCEPTS_A_TURN, BOOT_MODULES_BYTES, CACHE_BYTES, CACHED_DIRS, CACHED_FILES, DATAGRAMS_A_TURN,
    EFFECT_VARIABLES, FRAME_BYTES, INCLUDE_DEPTH, LINES, LOG_GATHER_BYTES, NAME_BYTES, PREDECESSORS,
    STANDBY_STARTS_A_TURN, TURN_BYTES,
};
use crate::table::Table;

/// What each of [`STATICS`] is for.
fn purpose(name: &str) -> &'static str {
    match name {
        "ENGINE" => "two tables, what runs, the buffers of built-in services",
        "LOADER" => "used while files are read, then given back",
        "SPILLS" => "used once an echo client does not read",
        "SPAWNER" => "a slot is used once that many children start at one time",
        "CACHE" => "hosts.allow, hosts.deny and their like, once there are any",
        "LOG" => "log files by name",
        _ => panic!("say here what {name} is for"),
    }
}

/// [`STATICS`] without the feature `init`, which is off by default.
fn statics() -> impl Iterator<Item = (&'static str, usize)> {
    STATICS
        .into_iter()
        .map(|(name, bytes)| (name, if name == "LOADER" { bytes - config::INIT_BYTES } else { bytes }))
}

/// How the bytes of a capacity come about.
fn why(name: &str) -> String {
    let twice = |bytes: usize| format!("2 tables × {bytes}");
    match name {
        "SERVICES" => {
            let run = engine::bytes_each::<Linux>().run;
            let (service, reading) = (size_of::<Service>(), config::SERVICE_BYTES);
            format!("2 tables × {service}, {run} at run time, {reading} while files are read")
        }
        "TEXT_BYTES" => twice(1),
        "WORDS" => twice(size_of::<Text>()),
        "RULES" => twice(size_of::<Rule>()),
        "GIDS" => twice(size_of::<u32>()),
        "TIMES" => twice(size_of::<Minutes>()),
        "SERVERS" | "SESSIONS" | "RELAYS" => "a slot".into(),
        "SOURCES" => "an address and its minute".into(),
        "NAMES" => "a name, addresses, what is asked".into(),
        "STANDBYS" => "a server that waits, and one that was told not to".into(),
        "WAITING" => "a slot, with what has been found out".into(),
        "IDENTS" => "a slot, with the answer".into(),
        "COMMANDS" => "a process and who waits for it".into(),
        "DENIED" => "a network and a time".into(),
        "SCRATCH_BYTES" => format!("the scratch buffer and {SPILLS} spill buffers"),
        "SPILLS" => "a buffer of SCRATCH_BYTES".into(),
        "SPAWN_SLOTS" => {
            format!("{} of it the child's stack, {} its texts", spawn::STACK_BYTES, spawn::TEXT_BYTES)
        }
        "FILTER_STEPS" => {
            format!(
                "{} bytes of stack while a socket is made, and half of one for the order of rules",
                size_of::<Step>()
            )
        }
        "LOG_FILES" => "a path and what is known of the file".into(),
        "LOG_LINE_BYTES" => "1 byte of stack while a line is written".into(),
        "RECORDER_BYTES" => "on the disk; none in memory".into(),
        "STANDALONE_WORDS" => format!("{} bytes of stack", 2 * size_of::<&[u8]>()),
        "LINE_BYTES" => "the line buffer of files, and two of hosts.allow and hosts.deny".into(),
        "DRAFT_WORDS" => format!("{DRAFT_WORD_LISTS} lists × {}", size_of::<Text>()),
        "DRAFT_RULES" => format!("{DRAFT_RULE_LISTS} lists × {}", size_of::<Rule>()),
        "DATAGRAM_BYTES" => "one buffer".into(),
        "BANNER_BYTES" => "1 byte of stack while a banner is sent".into(),
        "EFFECT_BYTES" => {
            "one buffer, and in each spawn slot; on the stack while a command is expanded".into()
        }
        "VERDICTS" => "what was asked, and what was said".into(),
        "PATH_BYTES" => "1 in each of LOG_FILES; else on the stack while files are read".into(),
        "TCP_SOCKETS" => "with smoltcp a socket of about 500 bytes, and two buffers".into(),
        "TCP_BUFFER_BYTES" => "with smoltcp two for each of TCP_SOCKETS".into(),
        "UDP_SOCKETS" => "with smoltcp a socket of about 300 bytes, and two buffers".into(),
        "UDP_BUFFER_BYTES" => "with smoltcp two for each of UDP_SOCKETS".into(),
        "UDP_PACKETS" => "with smoltcp about 100 for each of UDP_SOCKETS".into(),
        _ => panic!("say here what one more of {name} costs"),
    }
}

/// The rest of `src/capacity.rs`.
const FIXED: [(&str, usize, &str); 15] = [
    ("INCLUDE_DEPTH", INCLUDE_DEPTH, "on the stack while files are read"),
    ("NAME_BYTES", NAME_BYTES, "in each level of include"),
    ("LINES", LINES, "with smoltcp, less than 50 each"),
    ("PREDECESSORS", PREDECESSORS, "4 each, on the stack"),
    ("EFFECT_VARIABLES", EFFECT_VARIABLES, "none: how many of the above may be variables"),
    ("LOG_GATHER_BYTES", LOG_GATHER_BYTES, "one buffer, in LOG"),
    ("CACHED_FILES", CACHED_FILES, "as many buffers of CACHE_BYTES"),
    ("CACHED_DIRS", CACHED_DIRS, "a path of PATH_BYTES each, and a descriptor"),
    ("CACHE_BYTES", CACHE_BYTES, "a buffer for each of CACHED_FILES"),
    ("FRAME_BYTES", FRAME_BYTES, "one buffer, with the feature recorder"),
    ("BOOT_MODULES_BYTES", BOOT_MODULES_BYTES, "none; with the feature init two in LOADER, and one of stack"),
    ("TURN_BYTES", TURN_BYTES, "none: how long one client's turn is"),
    ("ACCEPTS_A_TURN", ACCEPTS_A_TURN, "none, likewise"),
    ("DATAGRAMS_A_TURN", DATAGRAMS_A_TURN, "none, likewise"),
    ("STANDBY_STARTS_A_TURN", STANDBY_STARTS_A_TURN, "none, likewise"),
];

struct Page;

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(concat!(
            "# Memory budget\n\n",
            "All memory that usherd ever uses is laid out when it is built: statics, one stack, no heap. Statics begin\n",
            "as zeros that take no memory; the kernel gives a page when it is first written to. So the numbers here are\n",
            "the most that can be used, and what an idle daemon really has is in [docs/figures.md](docs/figures.md).\n\n",
            "This first part is written from the sizes of the types on x86_64 (`src/budget.rs`), and a test compares\n",
            "them: `cargo test --lib budget -- --ignored` writes it anew. What a program was built with it tells itself:\n",
            "`usherd -help capacities`. Other processors are [below](#boards-with-linux).\n\n",
            "## Capacities\n\n",
            "Each is set by an environment variable when the daemon is built: `USHERD_SERVICES=256 cargo build --release`.\n",
            "What does not fit in a file gets a diagnostic that names the capacity.\n\n",
            "| capacity | default | bytes each | together | what it counts | its bytes |\n|---|---|---|---|---|---|\n",
        ))?;
        for ((name, value, _, doc), (_, each)) in ADJUSTABLE.into_iter().zip(EACH) {
            let (together, why) = (each * value, why(name));
            writeln!(f, "| `USHERD_{name}` | {value} | {each} | {together} | {doc} | {why} |")?;
        }
        f.write_str(concat!("\n## Statics\n\n", "| static | bytes | what for |\n|---|---|---|\n",))?;
        for (name, bytes) in statics() {
            writeln!(f, "| `{name}` | {bytes} | {} |", purpose(name))?;
        }
        let total: usize = statics().map(|(_, bytes)| bytes).sum();
        writeln!(f, "| together | {total} | |")?;
        let (table, counted) = (size_of::<Table>(), counted());
        writeln!(
            f,
            "\nA table is {table} bytes, and there are two, for reload. What no capacity above accounts for is"
        )?;
        writeln!(f, "{} bytes.", total - counted)?;
        f.write_str("\n## Stacks\n\n")?;
        writeln!(
            f,
            "The daemon runs on the stack the kernel gives it. A child between its birth and its program has"
        )?;
        writeln!(
            f,
            "{} bytes in its spawn slot: it makes some twenty system calls from one function.",
            spawn::STACK_BYTES
        )?;
        f.write_str(concat!(
            "\n## What is not adjustable\n\n",
            "| constant | value | its bytes |\n|---|---|---|\n",
        ))?;
        for (name, value, why) in FIXED {
            writeln!(f, "| `{name}` | {value} | {why} |")?;
        }
        f.write_str("\n`src/capacity.rs` says what each is for.\n")
    }
}

/// Bytes of statics that some capacity accounts for. The spill buffers are in two of them.
fn counted() -> usize {
    let all: usize = EACH.iter().zip(VALUES).map(|((_, each), value)| each * value).sum();
    // And the buffers that cannot be adjusted.
    all - size_of::<Spills>() + CACHED_FILES * CACHE_BYTES + LOG_GATHER_BYTES
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/memory-budget.md");
/// From here on the page is `tools/budget`'s.
const REST: &str = "\n## Boards with Linux\n";

#[test]
#[cfg(target_arch = "x86_64")]
fn the_budget_is_kept() {
    if ADJUSTABLE.iter().any(|(_, value, default, _)| value != default) {
        return;
    }
    let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
    let hint = "if that is meant, `cargo test --lib budget -- --ignored` writes it anew";
    let (ours, _) = committed.split_once(REST).unwrap_or((&committed, ""));
    assert!(ours == Page.to_string(), "sizes are not what memory-budget.md says: {hint}");
}

#[test]
#[ignore = "writes memory-budget.md"]
fn write_the_budget() {
    let committed = std::fs::read_to_string(PAGE).unwrap();
    let (_, rest) = committed.split_once(REST).unwrap();
    std::fs::write(PAGE, format!("{Page}{REST}{rest}")).unwrap();
}

/// Nothing large is missing from the list.
#[test]
fn capacities_account_for_nearly_all_memory() {
    let total: usize = statics().map(|(_, bytes)| bytes).sum();
    let rest = total - counted();
    assert!(rest < total / 20, "{rest} bytes of {total} are in no capacity");
}

/// The page has every constant of `src/capacity.rs`.
#[test]
fn the_list_of_constants_is_complete() {
    let code = include_str!("../capacity.rs");
    for name in code.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()) {
        assert!(FIXED.iter().any(|(fixed, ..)| *fixed == name), "{name} is not in FIXED");
    }
}
