//! What the rules said lately, for whoever comes again while both files are the same.
//!
//! A rule costs what its bytes cost to look at, which for a built-in service is as much as all the rest. Only what
//! follows from the two files and from addresses is kept: no name, no user, no command, no other file, no options.

use core::net::IpAddr;

use heapless::Vec;

use super::{Commands, Facts, HostName, Outcome, Place, Request, Skipped, User, Why};
use crate::capacity::VERDICTS;

/// The longest daemon whose verdicts are kept, in bytes; others are evaluated every time.
const DAEMON: usize = 32;

/// All that a verdict may turn on, apart from the files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    client: IpAddr,
    server: Option<IpAddr>,
    port: Option<u16>,
    daemon: Vec<u8, DAEMON>,
    /// He is one of whom nobody can be asked for a user: the sender of a datagram.
    is_user_unknown: bool,
}

/// What the rules came to without options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub outcome: Outcome,
    pub place: Option<Place>,
    pub why: Why,
    pub skipped: Option<Skipped>,
}

/// Of each of [`VERDICTS`].
#[cfg(feature = "linux")]
pub(crate) const VERDICT_BYTES: usize = size_of::<(Question, Said)>();

/// Of both files.
pub(super) type Versions = [u64; 2];

pub(super) struct Recent {
    versions: Versions,
    kept: Vec<(Question, Said), VERDICTS>,
    /// Whose place the next one takes once all are taken.
    oldest: usize,
}

impl Question {
    /// `None` if more is known, or matters, than is kept. The facts are settled.
    pub fn of(request: &Request<'_>, facts: &Facts<'_>) -> Option<Question> {
        let Facts { client_name, server_name, user, commands } = facts;
        let Request { daemon, client, server, pid: _ } = request;
        // Our end of a datagram has no address, and so no name.
        let no_name = if server.address.is_some() { HostName::NotAsked } else { HostName::Unknown };
        let is_nothing_asked = (*client_name, *server_name) == (HostName::NotAsked, no_name)
            && matches!(user, User::NotAsked | User::Unknown)
            && matches!(commands, Commands::Ran([]));
        let is_plain = [client, server].iter().all(|end| !end.is_hidden && end.zone.is_empty());
        if !is_nothing_asked || !is_plain {
            return None;
        }
        Some(Question {
            client: client.address?,
            server: server.address,
            port: server.port,
            daemon: Vec::from_slice(daemon).ok()?,
            is_user_unknown: *user == User::Unknown,
        })
    }
}

impl Recent {
    pub const fn new() -> Self {
        Recent { versions: [0; 2], kept: Vec::new(), oldest: 0 }
    }

    /// What was said to the same question, if the files are still those.
    pub fn said(&self, versions: Versions, question: &Question) -> Option<Said> {
        let mut kept = self.kept.iter().filter(|_| self.versions == versions);
        kept.find(|(asked, _)| asked == question).map(|(_, said)| *said)
    }

    /// Keeps what was said; with other files than before, that alone.
    pub fn keep(&mut self, versions: Versions, question: Question, said: Said) {
        if self.versions != versions {
            self.kept.clear();
            self.versions = versions;
        }
        if let Err(new) = self.kept.push((question, said)) {
            if let Some(old) = self.kept.get_mut(self.oldest) {
                *old = new;
            }
            self.oldest = (self.oldest + 1) % VERDICTS;
        }
    }
}
