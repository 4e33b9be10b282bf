//! Rules of only_from and no_access that say nothing.
//!
//! They are no mistakes, since the more specific rule wins and a tie refuses, but whoever wrote them meant something
//! that they do not do. At most one warning is given for each line.

#![forbid(unsafe_code)]

use core::fmt;

use super::Context;
use super::diagnostic::{Bytes, Severity};
use super::source::Files;
use crate::addr::{Prefix, ends_in};
use crate::table::{Origin, Pattern, Rule, Table};

/// Looks at the rules of both lists whose origin is `own`: the others were looked at where they stand.
pub(super) fn check<F: Files>(
    cx: &mut Context<'_, F>,
    only_from: &[Rule],
    no_access: &[Rule],
    own: impl Fn(Origin) -> bool,
) {
    ties(cx, only_from, no_access, &own);
    shadowed(cx, "only_from", only_from, no_access, &own);
    shadowed(cx, "no_access", no_access, only_from, &own);
}

/// What is let in and kept out alike is kept out.
fn ties<F: Files>(
    cx: &mut Context<'_, F>,
    only_from: &[Rule],
    no_access: &[Rule],
    own: &dyn Fn(Origin) -> bool,
) {
    let mut said = Origin::default();
    for only in only_from {
        let Some(no) = no_access.iter().find(|no| is_same(cx.table, only.pattern, no.pattern)) else {
            continue;
        };
        let (here, there) = if own(only.origin) { (only, no) } else { (no, only) };
        if !own(here.origin) || here.origin == said {
            continue;
        }
        said = here.origin;
        let table = &*cx.table;
        let (shown, place) = (Shown(table, only.pattern), Place(table, there.origin));
        let list = if here == only { "no_access" } else { "only_from" };
        let what = format_args!("`{shown}` is in {list} as well ({place}), and nobody comes in by it");
        let cure = format_args!("leave it out of one of the two");
        cx.say.say(Severity::Warning, table.bytes(here.origin.file), here.origin.line, 0, what, cure);
    }
}

/// A rule within a broader one of its list, with none of the other list between the two, never decides.
fn shadowed<F: Files>(
    cx: &mut Context<'_, F>,
    name: &str,
    list: &[Rule],
    other: &[Rule],
    own: &dyn Fn(Origin) -> bool,
) {
    let mut said = Origin::default();
    for rule in list.iter().filter(|rule| own(rule.origin)) {
        let table = &*cx.table;
        let covers = list.iter().filter(|cover| is_within(table, rule.pattern, cover.pattern));
        let Some(cover) = covers.max_by_key(|cover| precision(cover.pattern, table)) else { continue };
        let between = |other: &Rule| lies_between(table, other.pattern, rule.pattern, cover.pattern);
        if rule.origin == said || other.iter().any(between) {
            continue;
        }
        said = rule.origin;
        let (inner, outer) = (Shown(table, rule.pattern), Shown(table, cover.pattern));
        let place = Place(table, cover.origin);
        let what = format_args!("`{inner}` of {name} never decides: `{outer}` ({place}) says the same");
        let cure = format_args!("leave it out");
        cx.say.say(Severity::Warning, table.bytes(rule.origin.file), rule.origin.line, 0, what, cure);
    }
}

/// Of two patterns that hold a third, the better match has more of it.
fn precision(pattern: Pattern, table: &Table) -> usize {
    match pattern {
        Pattern::Network(network) => usize::from(network.bits()),
        Pattern::Name(name) => table.bytes(name).len(),
    }
}

fn is_same(table: &Table, a: Pattern, b: Pattern) -> bool {
    match (a, b) {
        (Pattern::Name(a), Pattern::Name(b)) => table.bytes(a).eq_ignore_ascii_case(table.bytes(b)),
        (a, b) => a == b,
    }
}

/// Whether all that `inner` means is meant by `outer`, and more. The same written twice is no reason to speak.
fn is_within(table: &Table, inner: Pattern, outer: Pattern) -> bool {
    match (inner, outer) {
        (Pattern::Network(inner), Pattern::Network(outer)) => {
            outer.bits() < inner.bits() && outer.contains(inner.address())
        }
        (Pattern::Name(inner), Pattern::Name(outer)) => {
            let (inner, outer) = (table.bytes(inner), table.bytes(outer));
            outer.starts_with(b".") && ends_in(inner, outer)
        }
        _ => false,
    }
}

/// Whether `other`, of the other list, may win against `cover` and not against `rule`. In doubt it may.
fn lies_between(table: &Table, other: Pattern, rule: Pattern, cover: Pattern) -> bool {
    match (rule, other) {
        (Pattern::Network(rule), Pattern::Network(other)) => {
            usize::from(other.bits()) >= precision(cover, table)
                && other.bits() <= rule.bits()
                && other.contains(rule.address())
        }
        // The name of a host says as much as its address; a domain less than any network.
        (Pattern::Network(rule), Pattern::Name(name)) => {
            let all = if rule.address().is_ipv4() { 32 } else { 128 };
            rule.bits() == all && !table.bytes(name).starts_with(b".")
        }
        (Pattern::Name(_), _) => true,
    }
}

struct Shown<'t>(&'t Table, Pattern);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Pattern::Network(network) if network == Prefix::host(network.address()) => {
                write!(f, "{}", network.address())
            }
            Pattern::Network(network) => write!(f, "{network}"),
            Pattern::Name(name) => write!(f, "{}", Bytes(self.0.bytes(name))),
        }
    }
}

struct Place<'t>(&'t Table, Origin);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Bytes(self.0.bytes(self.1.file)), self.1.line)
    }
}
