//! For the build scripts of boards: reads the configuration, tells its mistakes as `usherd -t` does, and leaves the table as
//! bytes in `$OUT_DIR/table`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::{env, fs, process};

use usherd::config::diagnostic::{Diagnostic, Severity};
use usherd::config::source::NoFiles;
use usherd::config::{Loader, Options};
use usherd::table::Table;

/// Stops the build if a variable is there and not what it should be.
fn check(name: &str, what: &str, is_right: impl Fn(&str) -> bool) {
    println!("cargo::rerun-if-env-changed={name}");
    if let Ok(value) = env::var(name)
        && !is_right(&value)
    {
        println!("cargo::error={name} is `{value}`: write {what}");
        process::exit(1);
    }
}

/// Checks where the board shall be: the firmware reads it as it is.
fn check_addresses() {
    check(
        "USHERD_BOARD_ADDRESS",
        "its IPv4 address and the bits of its network, as 192.168.1.2/24",
        |value| {
            value.split_once('/').is_some_and(|(address, bits)| {
                address.parse::<Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
            })
        },
    );
    check("USHERD_BOARD_ROUTER", "the IPv4 address of the router", |value| value.parse::<Ipv4Addr>().is_ok());
    check("USHERD_BOARD_TIME_SERVER", "the address of a time server", |value| {
        value.parse::<IpAddr>().is_ok()
    });
}

/// What the linker is told, with a script that is in the board's folder. Not among the compiler's flags, so that `core` is
/// built once for all boards of a target, and the library alone.
pub fn link(args: &[&str], script: &str) {
    println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed={script}");
    for arg in args {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}

/// Packs `usherd.conf`, or the file that `USHERD_BOARD_CONF` names. `own` are the firmware's own services, by place.
pub fn pack(own: &[&[u8]]) {
    check_addresses();
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        // defmt's own, which it leaves where the linker looks.
        println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    }
    println!("cargo::rerun-if-changed=../pack.rs");
    println!("cargo::rerun-if-env-changed=USHERD_BOARD_CONF");
    let path = env::var("USHERD_BOARD_CONF").unwrap_or_else(|_| "usherd.conf".into());
    println!("cargo::rerun-if-changed={path}");
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // It lives as long as the build does.
    let text: &'static [u8] = Box::leak(text.into_boxed_slice());
    let mut is_wrong = false;
    let mut report = |d: &Diagnostic<'_>| {
        let kind = if d.severity == Severity::Error { "error" } else { "warning" };
        is_wrong |= d.severity == Severity::Error;
        println!("cargo::{kind}={d}");
    };
    let mut table = Box::new(Table::new());
    let mut loader = Box::new(Loader::new());
    let options = Options { own, ..Options::default() };
    // The files of the machine that builds are none of the board's: names of services and hosts are not looked up there.
    loader.load_text(&mut NoFiles, &mut report, &mut table, (path.as_bytes(), text), &options);
    if is_wrong {
        process::exit(1);
    }
    let mut bytes = vec![0; 65536];
    let packed = table.pack(&mut bytes).expect("a table is smaller than that");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("table"), packed).expect("OUT_DIR can be written");
}
