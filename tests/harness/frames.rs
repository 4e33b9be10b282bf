//! Text from frames, by tools/decode.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Builds the decoder. Before anything that has to be quick: it may take a while.
pub fn build_decoder() -> &'static Path {
    static DECODER: OnceLock<PathBuf> = OnceLock::new();
    DECODER.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/decode");
        let built = Command::new("cargo")
            .args(["build", "--locked", "--manifest-path"])
            .arg(workspace.join("Cargo.toml"))
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .expect("cargo");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        workspace.join("target/debug/usherd-decode")
    })
}

/// One line of what a decoder printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub time: String,
    pub level: String,
    pub text: String,
}

/// What the frames in `file` say, and what the decoder says of the file itself: `-- …`.
pub fn decode(elf: &Path, file: &Path) -> (Vec<Told>, Vec<String>, Option<i32>) {
    let Output { stdout, stderr, status } =
        Command::new(build_decoder()).args([elf, file]).output().expect("the decoder");
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    let text = String::from_utf8(stdout).expect("text");
    let (notes, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("-- "));
    let told = |line: &str| {
        let (time, rest) = line.split_once(' ').expect("a time");
        let (level, text) = (&rest[..5], &rest[6..]);
        Told { time: time.into(), level: level.trim_end().into(), text: text.into() }
    };
    (lines.into_iter().map(told).collect(), notes.into_iter().map(String::from).collect(), status.code())
}

/// Level and text of a daemon's log, as frames would tell them, of those lines whose text is wanted:
/// `26/11/23@01:13:27 usherd[26178]: INFO: text`.
pub fn logged(log: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (_, rest) = line.split_once("]: ").expect("a pid");
        let (level, text) = rest.split_once(": ").expect("a level");
        let level = match level {
            "WARNING" => "WARN",
            "NOTICE" => "INFO",
            level => level,
        };
        (level.to_owned(), text.to_owned())
    };
    log.lines().map(line).filter(|(_, text)| is_wanted(text)).collect()
}

/// A copy of a program without its symbols.
pub fn stripped(program: &Path, to: &Path) {
    let done = Command::new("strip").arg("-o").arg(to).arg(program).status().expect("strip of binutils");
    assert!(done.success());
    assert!(fs::metadata(to).expect("a copy").len() < fs::metadata(program).expect("a program").len());
}
