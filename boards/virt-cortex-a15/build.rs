#[path = "../pack.rs"]
mod pack;

fn main() {
    println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed=memory.x");
    pack::pack(&[b"console"]);
}
