//! The `init` section: what the daemon does before it serves, where it is the machine's first process
//! ([`boot`](crate::boot)).
//!
//! A mistake in it stays with its line. The machine boots with what is right, for nobody could mend a machine that does not.

#![forbid(unsafe_code)]

use core::fmt;

use super::Context;
use super::diagnostic::Bytes;
use super::draft::Draft;
use super::source::Files;
use super::token::{Assignment, Operator, Quoting};
use crate::boot::{ATTRIBUTES, Attribute, Key, Settings};

/// What the section says.
pub type Said = Settings;

/// Whether this program can be a first process.
pub const IS_BUILT: bool = true;

pub const NOTHING: Said = Settings::new();

pub fn clear(said: &mut Said) {
    said.clear();
}

/// Takes one attribute of the section.
pub(super) fn set<F: Files>(
    cx: &mut Context<'_, F>,
    draft: &mut Draft,
    said: &mut Said,
    assignment: &Assignment<'_>,
) {
    let Assignment { name, operator, column, values } = *assignment;
    let Some(attribute) = Attribute::by_name(name.bytes) else {
        let what = format_args!("`{}` is no attribute of `init`", Bytes(name.bytes));
        return match Attribute::nearest(name.bytes) {
            Some(near) => cx.wrong(draft, name.column, what, format_args!("did you mean `{near}`?")),
            None => {
                cx.wrong(draft, name.column, what, format_args!("`usherd -help attributes` lists them all"))
            }
        };
    };
    let form = format_args!("write `{} = {}`", attribute.name, attribute.values);
    match values.check() {
        Err((Quoting::Open | Quoting::Glued, column)) => {
            let what = format_args!("a quote that is not closed, or something right behind it");
            return cx.wrong(draft, column, what, form);
        }
        Ok(0) => {
            let what = format_args!("`{}` has no value", attribute.name);
            return cx.wrong(draft, column, what, form);
        }
        Ok(_) => {}
    }
    // Modules of two lines come one after the other, whichever operator stands there.
    let fits = operator == Operator::Set || (operator == Operator::Add && attribute.key == Key::Modules);
    if !fits {
        let what = format_args!("`{}` does not take `{}`", attribute.name, operator.text());
        return cx.wrong(draft, column, what, form);
    }
    if let Err(wrong) = said.set(attribute.key, &mut values.sound().map(|word| word.bytes)) {
        let column = values.sound().next().map_or(column, |word| word.column);
        cx.wrong(draft, column, format_args!("`{}`: {wrong}", attribute.name), form);
    }
}

/// The section for `usherd -help attributes`.
pub fn help(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\nthe section `init`, for a first process:\n")?;
    for a in &ATTRIBUTES {
        write!(f, "  {} = {}\n      {}; without it: {}\n", a.name, a.values, a.help, a.default)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use crate::boot::{Ipv4, Settings};
    use crate::config::diagnostic::Diagnostic;
    use crate::config::source::memory::Tree;
    use crate::config::{Loader, Options, Outcome};
    use crate::table::Table;

    fn load(conf: &str) -> (Settings, Vec<String>, Outcome) {
        let (mut table, mut loader) = (Box::new(Table::new()), Box::new(Loader::new()));
        let mut said = Vec::new();
        let mut files = Tree::default().file("/c", conf);
        let mut report = |d: &Diagnostic<'_>| said.push(d.to_string());
        let outcome = loader.load(&mut files, &mut report, &mut table, b"/c", &Options::default());
        (loader.boot().clone(), said, outcome)
    }

    #[test]
    fn a_section_says_what_a_machine_needs() {
        let (boot, said, outcome) = load(
            "init\n{\n\tmodules = virtio_mmio failover\n\tmodules += virtio_net\n\taddress = 192.0.2.7/24 fd00::7/64\n\
             \trouter = 192.0.2.1 # ours\n\thostname = board\n}\n",
        );
        assert!(said.is_empty() && outcome.usable && outcome.complete, "{said:?}");
        assert!(boot.modules().eq([&b"virtio_mmio"[..], b"failover", b"virtio_net"]));
        assert_eq!(boot.ipv4, Ipv4::Static { address: "192.0.2.7".parse().unwrap(), bits: 24 });
        assert_eq!((boot.hostname.as_slice(), boot.router6), (&b"board"[..], None));
        // The brace behind the head; and what was said before is forgotten with its file.
        let (boot, said, _) = load("init {\n\tinterface = eth1\n}\n");
        assert_eq!((boot.interface.as_slice(), said.len()), (&b"eth1"[..], 0));
        assert_eq!(load("defaults\n{\n}\n").0.modules().count(), 0);
    }

    #[test]
    fn a_mistake_stays_with_its_line() {
        let (boot, said, outcome) = load(
            "init\n{\n\tadress = dhcp\n\taddress = 192.0.2.7\n\tmodules -= x\n\tbogus = y\n\thostname =\n\tconsole = sh\n\
             \tinterface = \"eth0\n\trouter = 192.0.2.1\n}\n",
        );
        assert_eq!(
            said,
            [
                "/c:3:2: error: `adress` is no attribute of `init`; did you mean `address`?",
                "/c:4:12: error: `address`: `192.0.2.7` is not understood; write `address = dhcp | none | ADDRESS/BITS ...`",
                "/c:5:10: error: `modules` does not take `-=`; write `modules = NAME or /PATH ...`",
                "/c:6:2: error: `bogus` is no attribute of `init`; `usherd -help attributes` lists them all",
                "/c:7:11: error: `hostname` has no value; write `hostname = NAME`",
                "/c:8:12: error: `console`: `sh` is not understood; write `console = /PATH`",
                "/c:9:14: error: a quote that is not closed, or something right behind it; write `interface = NAME`",
            ]
        );
        assert!(boot.router4.is_some() && boot.ipv4 == Ipv4::Unsaid);
        // All services start none the less.
        assert!(outcome.usable && outcome.complete && outcome.errors == 7);
    }

    /// A service of inetd.conf may have the name.
    #[test]
    fn an_inetd_conf_is_still_one() {
        let (boot, said, _) = load("init stream tcp nowait root /bin/init init\n");
        assert_eq!(boot.modules().count(), 0);
        assert!(said.iter().all(|line| !line.contains("section")), "{said:?}");
    }
}
