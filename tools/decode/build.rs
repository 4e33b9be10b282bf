//! The tests write frames of their own, so they are linked like a program that does.

use std::env;

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../src/entry/defmt.x");
    println!("cargo::rustc-link-arg-tests=-Wl,-T,{here}/../../src/entry/defmt.x");
}
