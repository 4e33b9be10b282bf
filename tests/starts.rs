//! The daemon starts: its own entry point, its own relocation, no libc.

use std::fs;
use std::process::{Command, Output};

use crate::harness::usherd;

fn run(args: &[&str]) -> Output {
    Command::new(usherd()).args(args).output().expect("the daemon was built with this test")
}

#[test]
fn says_its_version() {
    let output = run(&["-version"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), concat!("usherd ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_unknown_option_is_an_error() {
    let output = run(&["-no-such-option"]);
    assert!(!output.stderr.is_empty());
    assert_eq!(output.status.code(), Some(2));
}

/// Loaded at random addresses, needs no dynamic linker, and no page can be both written and executed.
#[test]
#[cfg(target_pointer_width = "64")]
fn the_file_is_static_movable_and_protected() {
    const DYN: u16 = 3;
    const LOAD: u32 = 1;
    const INTERP: u32 = 3;
    const GNU_STACK: u32 = 0x6474_e551;
    const GNU_RELRO: u32 = 0x6474_e552;
    const EXECUTE: u32 = 1;
    const WRITE: u32 = 2;

    let file = fs::read(usherd()).unwrap();
    let u16_at = |at: usize| u16::from_ne_bytes(file[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_ne_bytes(file[at..at + 8].try_into().unwrap());
    let header = usize::try_from(u64_at(32)).unwrap();
    let kinds_and_flags: Vec<_> = (0..usize::from(u16_at(56)))
        .map(|index| header + index * usize::from(u16_at(54)))
        .map(|at| (u32_at(at), u32_at(at + 4)))
        .collect();

    assert_eq!(u16_at(16), DYN);
    let mut found_stack = false;
    let mut found_relro = false;
    for (kind, flags) in kinds_and_flags {
        assert_ne!(kind, INTERP);
        if kind == LOAD {
            assert_ne!(flags & (WRITE | EXECUTE), WRITE | EXECUTE);
        }
        if kind == GNU_STACK {
            found_stack = true;
            assert_eq!(flags & EXECUTE, 0);
        }
        found_relro |= kind == GNU_RELRO;
    }
    assert!(found_stack && found_relro);
}
