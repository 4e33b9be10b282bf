//! Link arguments of the daemon.
//!
//! The daemon has no libc, so nobody supplies start files or libraries. The library, the tests and the tools are
//! linked as usual: every argument here goes to the package's binaries only.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    link_args();
}

/// How the daemon is linked: no start files, no libraries, and a static file that relocates itself (`src/entry.rs`).
fn link_args() {
    let is_daemon_built = env::var_os("CARGO_FEATURE_LINUX").is_some();
    if !is_daemon_built || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // Without any optimisation the compiler turns the relocating code's own arithmetic into calls that need relocation.
    if env::var("OPT_LEVEL").as_deref() == Ok("0") {
        println!(
            "cargo::error=usherd needs opt-level 1 or more, as Cargo.toml sets it for every profile"
        );
    }
    // `.cargo/config.toml` names lld for the boards; everything else is linked through the C compiler's driver.
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let is_plain_lld = env::var("RUSTC_LINKER").is_ok_and(|linker| linker.contains("lld"));
    // `RUSTFLAGS=-Crelocation-model=static` gives a file for one address.
    let is_fixed = env::var("CARGO_ENCODED_RUSTFLAGS")
        .is_ok_and(|flags| flags.contains("relocation-model=static"));
    let args: &[&str] = match (is_plain_lld, is_fixed) {
        // lld brings in nothing that it was not told to, and the compiler has said whether it is `-pie`.
        (true, _) => &["-static", "--no-dynamic-linker", "--build-id=none"],
        (false, true) => &[
            "-nostartfiles",
            "-nostdlib",
            "-static",
            "-no-pie",
            NO_BUILD_ID,
        ],
        (false, false) => &[
            "-nostartfiles",
            "-nostdlib",
            "-static-pie",
            "-Wl,--no-dynamic-linker",
            NO_BUILD_ID,
        ],
    };
    for arg in args {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}

const NO_BUILD_ID: &str = "-Wl,--build-id=none";
