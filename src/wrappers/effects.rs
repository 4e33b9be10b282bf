//! What the rule that let a client in changes about its server.

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
}

impl Effects {
    /// `NAME=VALUE` words, each with a NUL byte behind it.
    pub fn env(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::empty()
    }
}
