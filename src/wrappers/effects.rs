//! What the rule that let a client in changes about its server.

use super::{Decision, Facts, Long, Request, Tables};
use crate::config::source::Files;

/// Filled from the options of a rule.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Added to the nice value.
    pub nice: Option<i32>,
    pub umask: Option<u16>,
    /// User and group.
    pub identity: Option<(u32, u32)>,
    pub keepalive: bool,
    pub linger: Option<u32>,
    pub severity: Option<(Option<u8>, u8)>,
}

impl Effects {
    pub const fn new() -> Effects {
        Effects { nice: None, umask: None, identity: None, keepalive: false, linger: None, severity: None }
    }
    pub fn clear(&mut self) {
        *self = Effects::new();
    }
    pub fn take<F: Files>(
        &mut self,
        _: &Decision<'_>,
        _: &Request<'_>,
        _: &Facts<'_>,
        _: &mut F,
        _: &Tables<'_>,
    ) -> Result<(), Long> {
        Ok(())
    }
    /// `NAME=VALUE` words, each with a NUL byte behind it.
    pub fn env(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::empty()
    }
    pub fn spawns(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::empty()
    }
    pub fn command(&self) -> Option<&[u8]> {
        None
    }
    pub fn banner(&self) -> Option<&[u8]> {
        None
    }
}
pub fn expand_banner(_: &[u8], _: &Request<'_>, _: &Facts<'_>, _: &mut [u8]) -> usize {
    0
}
