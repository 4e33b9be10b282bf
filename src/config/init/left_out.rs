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
