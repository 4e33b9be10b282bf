//! The `init` section of a program that was built without the feature `init`: it is passed over, with a warning.

#![forbid(unsafe_code)]

use core::fmt;

use super::Context;
use super::draft::Draft;
use super::source::Files;
use super::token::Assignment;

pub type Said = ();

pub const IS_BUILT: bool = false;

pub const NOTHING: Said = ();

pub fn clear(_: &mut Said) {}

pub(super) fn set<F: Files>(_: &mut Context<'_, F>, _: &mut Draft, _: &mut Said, _: &Assignment<'_>) {}

pub fn help(_: &mut fmt::Formatter<'_>) -> fmt::Result {
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::string::ToString;
    use std::vec::Vec;

    use crate::config::diagnostic::Diagnostic;
    use crate::config::source::memory::Tree;
    use crate::config::{Loader, Options};
    use crate::table::Table;

    #[test]
    fn the_section_is_passed_over_with_a_warning() {
        let (mut table, mut loader) = (Box::new(Table::new()), Box::new(Loader::new()));
        let mut said = Vec::new();
        let mut files = Tree::default().file("/c", "init\n{\n\tbogus = 1\n}\ndefaults\n{\n\tnice = 3\n}\n");
        let mut report = |d: &Diagnostic<'_>| said.push(d.to_string());
        let outcome = loader.load(&mut files, &mut report, &mut table, b"/c", &Options::default());
        assert_eq!(
            said,
            [
                "/c:1: warning: `init` has no effect: this program is no first process; build it with `--features init`",
                "/c:7:2: error: `nice` cannot stand in `defaults`; write it in each service that needs it",
            ]
        );
        assert_eq!((outcome.errors, outcome.warnings), (1, 1));
    }
}
