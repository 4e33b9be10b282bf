//! Configuration text becomes a [`Table`](crate::table::Table) and diagnostics.

pub mod attr;
pub mod diagnostic;
pub mod lines;
pub mod source;
pub mod token;
pub mod value;
