//! Configuration files of real projects, which are not part of this repository: tests/README.md says what belongs there.

use std::env;
use std::io::{Write, stderr};
use std::path::PathBuf;

/// The directory that `USHERD_CORPUS` names. Without the variable there is none, and that is said.
pub fn corpus() -> Option<PathBuf> {
    let Some(dir) = env::var_os("USHERD_CORPUS").map(PathBuf::from) else {
        // Not by a macro, whose output a test that passes does not show.
        let _ = writeln!(stderr(), "NOT TESTED: no corpus; set USHERD_CORPUS to its directory");
        return None;
    };
    assert!(dir.join("EXPECT.tsv").exists(), "USHERD_CORPUS={}: there is no EXPECT.tsv", dir.display());
    Some(dir)
}
