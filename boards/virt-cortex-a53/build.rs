#[path = "../pack.rs"]
mod pack;

fn main() {
    pack::link(&["-Timage.ld", "-Tmemory.ld"], "memory.ld");
    pack::pack(&[b"console"]);
}
