//! Configuration text becomes a [`Table`](crate::table::Table) and diagnostics.

pub mod diagnostic;
pub mod source;
