#[path = "../pack.rs"]
mod pack;

fn main() {
    // --nmagic: sections are not aligned to pages, which flash does not have.
    pack::link(&["-Tlink.x", "--nmagic"], "memory.x");
    pack::pack(&[b"console"]);
}
