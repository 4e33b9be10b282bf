//! Capacities from the environment.

use std::{env, fs, path::Path};

/// Name, default, and what it counts. The environment variable is `USHERD_` and the name.
const CAPACITIES: [(&str, usize, &str); 11] = [
    ("SERVICES", 128, "Services in a table. A file with more gets a diagnostic for each one too many."),
    (
        "TEXT_BYTES",
        32768,
        "Bytes of names, paths, arguments and environment words in a table; at most 65536.",
    ),
    ("WORDS", 2048, "Arguments and environment words in a table."),
    ("PREFIXES", 512, "Addresses and networks of access rules in a table."),
    ("GIDS", 512, "Supplementary groups in a table."),
    ("TIMES", 64, "Time ranges of access_times in a table."),
    (
        "SERVERS",
        1024,
        "Programs running at one time. When full, listeners are left alone: clients wait in the kernel's backlog.",
    ),
    ("SESSIONS", 512, "Clients of built-in stream services at one time. When full, as SERVERS."),
    ("LINE_BYTES", 16384, "Longest line of a configuration file, in bytes; xinetd's own limit."),
    ("DRAFT_WORDS", 512, "Arguments, or environment words, of one service."),
    ("DRAFT_PREFIXES", 128, "Addresses and networks in each access rule of one service."),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("capacity.rs"), text).expect("OUT_DIR can be written");
}
