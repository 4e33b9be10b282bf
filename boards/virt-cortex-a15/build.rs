#[path = "../pack.rs"]
mod pack;

fn main() {
    pack::link(&["-Tlink.x"], "memory.x");
    pack::pack(&[b"console"]);
}
