//! Link arguments of the daemon, and capacities from the environment.
//!
//! The daemon has no libc, so nobody supplies start files or libraries. The library, the tests and the tools are
//! linked as usual: every link argument here goes to the package's binaries only.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    link_args();
    capacities();
}

/// How the daemon is linked: no start files, no libraries, and a static file that relocates itself (`src/entry.rs`).
fn link_args() {
    let is_daemon_built = env::var_os("CARGO_FEATURE_LINUX").is_some();
    if !is_daemon_built || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // Without any optimisation the compiler turns the relocating code's own arithmetic into calls that need relocation.
    if env::var("OPT_LEVEL").as_deref() == Ok("0") {
        println!("cargo::error=usherd needs opt-level 1 or more, as Cargo.toml sets it for every profile");
    }
    // `.cargo/config.toml` names lld for the boards; everything else is linked through the C compiler's driver.
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let is_plain_lld = env::var("RUSTC_LINKER").is_ok_and(|linker| linker.contains("lld"));
    // `RUSTFLAGS=-Crelocation-model=static` gives a file for one address.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_fixed = flags.contains("relocation-model=static");
    let args: &[&str] = match (is_plain_lld, is_fixed) {
        // lld brings in nothing that it was not told to, and the compiler has said whether it is `-pie`.
        (true, _) => &["-static", "--no-dynamic-linker", "--build-id=none", "--pack-dyn-relocs=relr"],
        (false, true) => &["-nostartfiles", "-nostdlib", "-static", "-no-pie", NO_BUILD_ID, NO_TABLES_HEADER],
        (false, false) => &[
            "-nostartfiles",
            "-nostdlib",
            "-static-pie",
            "-Wl,--no-dynamic-linker",
            "-Wl,-z,pack-relative-relocs",
            NO_BUILD_ID,
            NO_TABLES_HEADER,
        ],
    };
    for arg in args {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
    // mold knows no linker scripts. The second is for `mold -run cargo build`.
    println!("cargo::rerun-if-env-changed=MOLD_PATH");
    let is_mold = flags.contains("mold") || env::var_os("MOLD_PATH").is_some();
    let is_recorder_built = env::var_os("CARGO_FEATURE_RECORDER").is_some();
    if is_recorder_built && is_mold {
        println!("cargo::error=the feature recorder needs a linker script, and mold knows none");
    }
    if is_recorder_built {
        // What frames are decoded with: strings as symbols, and a number by which their build is known.
        let dir = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        let prefix = if is_plain_lld { "" } else { "-Wl," };
        println!("cargo::rerun-if-changed=src/entry/defmt.x");
        println!("cargo::rustc-link-arg-bins={prefix}--script={dir}/src/entry/defmt.x");
        println!("cargo::rustc-link-arg-bins={prefix}--build-id=sha1");
        println!("cargo::rerun-if-env-changed=DEFMT_LOG");
        if env::var_os("DEFMT_LOG").is_none() {
            println!("cargo::warning=without DEFMT_LOG=info only errors are recorded");
        }
    }
    // mold's file has the tables.
    if !is_plain_lld && !is_mold {
        // Where lld is named, the compiler is told to make no tables in the first place.
        let dir = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{dir}/src/entry/no-tables.ld");
    }
}

const NO_BUILD_ID: &str = "-Wl,--build-id=none";
const NO_TABLES_HEADER: &str = "-Wl,--no-eh-frame-hdr";

/// Name, default, and what it counts. The environment variable is `USHERD_` and the name.
const CAPACITIES: [(&str, usize, &str); 37] = [
    ("SERVICES", 128, "Services in a table. A file with more gets a diagnostic for each one too many."),
    (
        "TEXT_BYTES",
        32768,
        "Bytes of names, paths, arguments and environment words in a table; at most 65536.",
    ),
    ("WORDS", 2048, "Arguments and environment words in a table."),
    ("RULES", 512, "Addresses, networks and names of access rules in a table."),
    ("GIDS", 512, "Supplementary groups in a table."),
    ("TIMES", 64, "Time ranges of access_times in a table."),
    (
        "SERVERS",
        1024,
        "Programs running at one time. When full, listeners are left alone: clients wait in the kernel's backlog.",
    ),
    ("SESSIONS", 512, "Clients of built-in stream services at one time. When full, as SERVERS."),
    ("RELAYS", 256, "Clients of redirected services at one time. When full, as SERVERS."),
    (
        "STANDBYS",
        64,
        "Servers that are started ahead (standby), of all services together. A service whose servers find no room does not start.",
    ),
    (
        "WAITING",
        64,
        "Clients that wait for a name, a user or a command before it is decided whether they may come in; one address, or one IPv6 /64, holds at most an eighth of the places. One too many is refused with lookup_limit.",
    ),
    (
        "IDENTS",
        16,
        "Questions to ident servers at one time; one address, or one IPv6 /64, holds at most a quarter of the places. When full the oldest that only a record waits for makes room for a client that a rule needs the user of; if there is none his user is unknown. A record goes without.",
    ),
    (
        "COMMANDS",
        32,
        "Commands of hosts.allow and hosts.deny (spawn, aclexec) that run at one time. One too many is not run, which is logged; an aclexec that is not run refuses.",
    ),
    (
        "DENIED",
        256,
        "Addresses that sensors keep out. When full, the one that would be let in again soonest makes room.",
    ),
    ("SOURCES", 256, "Client addresses whose starts a minute are counted, for all services together."),
    (
        "NAMES",
        64,
        "Names and addresses of hosts that are asked for or remembered, for access rules with names and for redirect; at most 65535. When full, the one that ended longest ago makes room, at least 5 s after it did; until then who needs one more is told so.",
    ),
    ("SCRATCH_BYTES", 16384, "Bytes a built-in service moves at once; one buffer for all of them."),
    (
        "SPILLS",
        4,
        "Clients of echo that do not read what they are sent and whose unsent bytes are held; those beyond cost a system call more, not memory. At most 32.",
    ),
    (
        "SPAWN_SLOTS",
        16,
        "Children between their birth and their program at one time. When all are taken the next child gets a copy of the daemon's memory, which takes longer.",
    ),
    (
        "FILTER_STEPS",
        4096,
        "Steps of the socket filter that holds the access rules of a wait service: 4 for an IPv4 network, up to 13 for an IPv6 one. The kernel takes at most 4096; a service whose rules need more does not listen.",
    ),
    ("LOG_FILES", 16, "Files that log_type names. Records for one more go to the daemon's log."),
    (
        "LOG_LINE_BYTES",
        1024,
        "Longest line in a log, in bytes; a longer one is cut and the cut marked. At most 4096.",
    ),
    (
        "RECORDER_BYTES",
        131072,
        "Longest file of the flight recorder (feature recorder), in bytes. One that is full is kept until the next one is: at most twice as many are on the disk.",
    ),
    ("STANDALONE_WORDS", 64, "Words of a program, or -set words, on the command line of a single service."),
    (
        "TCP_SOCKETS",
        64,
        "TCP sockets of our own network stack (feature smoltcp): a spare for every service that listens, and connections. A client that finds none is not answered; its system tries again.",
    ),
    ("TCP_BUFFER_BYTES", 4096, "Bytes that each of TCP_SOCKETS holds in each direction."),
    (
        "UDP_SOCKETS",
        16,
        "UDP sockets of our own network stack: one for each datagram service, and one for each question to a name server. A service without one does not listen.",
    ),
    (
        "UDP_BUFFER_BYTES",
        2048,
        "Bytes of datagrams that each of UDP_SOCKETS holds in each direction; more are lost.",
    ),
    ("UDP_PACKETS", 8, "Datagrams that each of UDP_SOCKETS holds in each direction; more are lost."),
    (
        "DATAGRAM_BYTES",
        8192,
        "Largest datagram a built-in service answers or drops, in bytes; one buffer. echo returns at most this many, as inetutils' 8192 and above xinetd's 2048.",
    ),
    (
        "BANNER_BYTES",
        4096,
        "Bytes of a banner that are sent, on the stack; more is cut. A new connection's send buffer holds at least as much, on any kernel.",
    ),
    (
        "EFFECT_BYTES",
        4096,
        "Bytes of the commands, variables and banner paths that the rule of one client comes to, expanded, each with two bytes more. Whom a rule with more is about is refused: a command that is cut is another command.",
    ),
    (
        "VERDICTS",
        32,
        "Verdicts of hosts.allow and hosts.deny that are kept for whoever comes again. The one kept longest makes room.",
    ),
    (
        "PATH_BYTES",
        256,
        "Longest path of a file, in bytes, with the directory of `includedir` before the name.",
    ),
    ("LINE_BYTES", 16384, "Longest line of a configuration file, in bytes; xinetd's own limit."),
    ("DRAFT_WORDS", 512, "Arguments, or environment words, of one service."),
    ("DRAFT_RULES", 128, "Addresses, networks and names in each access list of one service."),
];

/// Writes what `src/capacity.rs` includes.
fn capacities() {
    let mut text = String::new();
    for (name, default, doc) in CAPACITIES {
        let variable = format!("USHERD_{name}");
        println!("cargo::rerun-if-env-changed={variable}");
        let value = match env::var(&variable) {
            Ok(value) => match value.parse::<usize>() {
                Ok(value) if value > 0 => value,
                _ => panic!("{variable} must be a positive number, not {value:?}"),
            },
            Err(_) => default,
        };
        text += &format!("/// {doc} `{variable}` sets it.\npub const {name}: usize = {value};\n");
    }
    text += "/// Every capacity above: its name, its value, its default, and what it counts.\n";
    text += &format!("pub const ADJUSTABLE: [(&str, usize, usize, &str); {}] = [\n", CAPACITIES.len());
    for (name, default, doc) in CAPACITIES {
        text += &format!("    ({name:?}, {name}, {default}, {doc:?}),\n");
    }
    text += "];\n";
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("capacity.rs"), text).expect("OUT_DIR can be written");
}
