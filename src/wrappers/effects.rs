//! What the options of a rule come to: commands, variables and numbers, ready to be carried out.
//!
//! A [`Decision`] borrows the line its rule stands in. This is what is kept of it until a child is made: every text is
//! expanded and ends in a NUL byte, every name is a number. What does not fit is an error, and then nothing is kept: a
//! command that is cut is another command.

use heapless::Vec;

use super::expand::{self, Long};
use super::list::base_name;
use super::option::{Opt, Value, is_blank, trimmed};
use super::problem::Fault;
use super::{Decision, Facts, Request, Tables};
use crate::capacity::{EFFECT_BYTES, EFFECT_VARIABLES};
use crate::config::source::Files;
use crate::names;

/// Filled from the options of a rule.
#[derive(Clone, Debug)]
pub struct Effects {
    /// Added to the nice value.
    pub nice: Option<i32>,
    pub umask: Option<u16>,
    /// User and group. Supplementary groups are none: the rule takes privileges away.
    pub identity: Option<(u32, u32)>,
    /// What `group` says. It is the group of `identity` already; alone it changes the group and leaves the user.
    pub group: Option<u32>,
    pub keepalive: bool,
    /// Seconds; 0 switches it off.
    pub linger: Option<u32>,
    /// A `Vec` of one place and not an `Option`: a static is free only if it is all zero.
    severity: Vec<(Option<u8>, u8), 1>,
    /// Texts, each behind a byte that tells its [`Kind`] and in front of a NUL byte.
    text: [u8; EFFECT_BYTES],
    len: usize,
    variables: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Variable = b'=',
    Spawn = b'&',
    Command = b'>',
    Banner = b'/',
}

impl Effects {
    pub const fn new() -> Self {
        Effects {
            nice: None,
            umask: None,
            identity: None,
            group: None,
            keepalive: false,
            linger: None,
            severity: Vec::new(),
            text: [0; EFFECT_BYTES],
            len: 0,
            variables: 0,
        }
    }

    pub fn clear(&mut self) {
        let Effects { nice, umask, identity, group, keepalive, linger, severity, text: _, len, variables } =
            self;
        (*nice, *umask, *identity, *group, *keepalive, *linger) = (None, None, None, None, false, None);
        severity.clear();
        (*len, *variables) = (0, 0);
    }

    /// Keeps what the options of a decision come to, instead of what was kept before. With an error the client is to be
    /// refused, and nothing is kept. Only root can become somebody else.
    pub fn take<F: Files>(
        &mut self,
        files: &mut F,
        tables: &Tables<'_>,
        decision: &Decision<'_>,
        request: &Request<'_>,
        facts: &Facts<'_>,
        is_root: bool,
    ) -> Result<(), Fault> {
        self.clear();
        let mut taken =
            decision.options.iter().try_for_each(|opt| self.add(files, tables, opt, request, facts));
        if !is_root && (self.identity.is_some() || self.group.is_some()) {
            taken = taken.and(Err(Fault::NotRoot));
        }
        if taken.is_err() {
            self.clear();
        }
        if let (Some(identity), Some(group)) = (&mut self.identity, self.group) {
            identity.1 = group;
        }
        taken
    }

    fn add<F: Files>(
        &mut self,
        files: &mut F,
        tables: &Tables<'_>,
        opt: Opt<'_>,
        request: &Request<'_>,
        facts: &Facts<'_>,
    ) -> Result<(), Fault> {
        match opt {
            // The verdict has them, or they were carried out before it.
            Opt::Allow | Opt::Deny | Opt::Aclexec(_) | Opt::Rfc931(_) => {}
            Opt::Spawn(value) => {
                let len = self.expand(value, request, facts)?;
                self.close(Kind::Spawn, len)?;
            }
            Opt::Twist(value) => {
                let len = self.expand(value, request, facts)?;
                self.close(Kind::Command, len)?;
            }
            Opt::Setenv(value) => self.variable(value, request, facts)?,
            Opt::Banners(directory) => self.banner_path(directory, request)?,
            Opt::Severity { facility, level } => {
                self.severity.clear();
                let _ = self.severity.push((facility.map(|f| f.0), level.0));
            }
            Opt::Keepalive => self.keepalive = true,
            Opt::Linger(seconds) => self.linger = Some(seconds),
            Opt::Nice(by) => self.nice = Some(self.nice.unwrap_or(0).saturating_add(by)),
            Opt::Umask(mask) => self.umask = Some(mask),
            Opt::User { name, group } => {
                let user =
                    names::user_by_name(files, tables.passwd, name).map_err(|_| Fault::NamesUnreadable)?;
                let user = user.ok_or(Fault::NoUser)?;
                let group = match group {
                    Some(group) => group_number(files, tables, group)?,
                    None => user.gid,
                };
                self.identity = Some((user.uid, group));
            }
            Opt::Group(name) => self.group = Some(group_number(files, tables, name)?),
        }
        Ok(())
    }

    /// Writes an expansion where the next text begins, and tells its length.
    fn expand(&mut self, value: Value<'_>, request: &Request<'_>, facts: &Facts<'_>) -> Result<usize, Fault> {
        let begin = self.begin();
        let room = self.text.get_mut(begin..).ok_or(Fault::OptionsLong)?;
        let len = expand::write(value, request, facts, room).map_err(|Long| Fault::OptionsLong)?;
        let text = room.get(..len).unwrap_or(&[]);
        // An expansion that is empty may leave blanks at both ends.
        let kept = trimmed(text).len();
        let lead = text.iter().position(|b| !is_blank(*b)).unwrap_or(0);
        room.copy_within(lead..lead + kept, 0);
        Ok(kept)
    }

    fn variable(&mut self, value: Value<'_>, request: &Request<'_>, facts: &Facts<'_>) -> Result<(), Fault> {
        if self.variables == EFFECT_VARIABLES {
            return Err(Fault::OptionsLong);
        }
        let len = self.expand(value, request, facts)?;
        let begin = self.begin();
        let room = self.text.get_mut(begin..).ok_or(Fault::OptionsLong)?;
        let text = room.get(..len).unwrap_or(&[]);
        let name = text.iter().position(|b| is_blank(*b)).unwrap_or(len);
        if name == 0 || text.get(..name).is_none_or(|name| name.contains(&b'=')) {
            return Err(Fault::BadVariable);
        }
        let kept = trimmed(text.get(name..).unwrap_or(&[])).len();
        room.copy_within(len - kept..len, name + usize::from(kept > 0));
        *room.get_mut(name).ok_or(Fault::OptionsLong)? = b'=';
        self.variables += 1;
        self.close(Kind::Variable, name + 1 + kept)
    }

    fn banner_path(&mut self, directory: Value<'_>, request: &Request<'_>) -> Result<(), Fault> {
        let begin = self.begin();
        let room = self.text.get_mut(begin..).ok_or(Fault::OptionsLong)?;
        let mut len = 0;
        for byte in directory.bytes().chain([b'/']).chain(base_name(request.daemon).iter().copied()) {
            // Behind one the path would be another.
            if byte == 0 {
                return Err(Fault::Nul);
            }
            *room.get_mut(len).ok_or(Fault::OptionsLong)? = byte;
            len += 1;
        }
        self.close(Kind::Banner, len)
    }

    /// Where the next text begins.
    fn begin(&self) -> usize {
        self.len.saturating_add(1)
    }

    /// Makes the bytes written there a text.
    fn close(&mut self, kind: Kind, len: usize) -> Result<(), Fault> {
        let end = self.begin().saturating_add(len);
        *self.text.get_mut(end).ok_or(Fault::OptionsLong)? = 0;
        *self.text.get_mut(self.len).ok_or(Fault::OptionsLong)? = kind as u8;
        self.len = end + 1;
        Ok(())
    }

    /// The texts of one kind, each with its NUL byte.
    fn texts(&self, kind: Kind) -> impl Iterator<Item = &[u8]> + Clone {
        let texts = self.text.get(..self.len).unwrap_or(&[]).split_inclusive(|&b| b == 0);
        texts.filter_map(move |text| text.strip_prefix(&[kind as u8]))
    }

    /// Facility, if the rule says, and level, by their numbers of syslog(3).
    pub fn severity(&self) -> Option<(Option<u8>, u8)> {
        self.severity.first().copied()
    }

    /// `NAME=VALUE` words, each with a NUL byte behind it. Of those with one name the last; they go before what the
    /// service says of its environment.
    pub fn env(&self) -> impl Iterator<Item = &[u8]> {
        let name = |word: &[u8]| word.iter().position(|&b| b == b'=').map(|at| at + 1);
        let mut rest = self.texts(Kind::Variable);
        core::iter::from_fn(move || {
            loop {
                let word = rest.next()?;
                let own = name(word).and_then(|at| word.get(..at))?;
                if !rest.clone().any(|later| later.starts_with(own)) {
                    return Some(word);
                }
            }
        })
    }

    /// Commands to be run beside, in this order, with /dev/null on descriptors 0, 1 and 2; each ends in a NUL byte.
    pub fn spawns(&self) -> impl Iterator<Item = &[u8]> {
        self.texts(Kind::Spawn)
    }

    /// The command that is run instead of the server, of a [`Delegated`](super::Verdict::Delegated) verdict; it ends in a
    /// NUL byte.
    pub fn command(&self) -> Option<&[u8]> {
        self.texts(Kind::Command).last()
    }

    /// Files that are sent to the client first, through [`expand_banner`](super::expand_banner), in this order; each
    /// path ends in a NUL byte. One that is not there is none.
    pub fn banners(&self) -> impl Iterator<Item = &[u8]> {
        self.texts(Kind::Banner)
    }
}

fn group_number<F: Files>(files: &mut F, tables: &Tables<'_>, name: &[u8]) -> Result<u32, Fault> {
    let group = names::group_by_name(files, tables.group, name).map_err(|_| Fault::NamesUnreadable)?;
    group.ok_or(Fault::NoGroup)
}

impl Default for Effects {
    fn default() -> Self {
        Effects::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::config::source::memory::Tree;
    use crate::wrappers::{Endpoint, HostName, Language, Options, User, Why};
    use std::string::String;
    use std::vec::Vec;

    fn taken(options: &str, effects: &mut Effects) -> Result<(), Fault> {
        let request = Request {
            daemon: b"/usr/sbin/in.telnetd",
            client: Endpoint { address: "10.1.2.3".parse().ok(), port: Some(4000), ..Endpoint::default() },
            server: Endpoint::default(),
            pid: 7,
        };
        let facts = Facts {
            client_name: HostName::Known(b"h1`rm -rf`.example"),
            user: User::Known(b"$(reboot);a'b\"c\n\0|&"),
            ..Facts::default()
        };
        let mut files = Tree::default()
            .file("/etc/passwd", "root:x:0:0:::\nbob:x:1000:100:::\n")
            .file("/etc/group", "root:x:0:\nusers:x:100:\nkmem:x:15:\n");
        let options = Options::new(Some(options.as_bytes()), Language::Options);
        let decision = Decision { place: None, why: Why::Rule, options, skipped: None };
        effects.take(&mut files, &Tables::default(), &decision, &request, &facts, true)
    }

    fn words<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        texts
            .map(|text| {
                let text = text.strip_suffix(b"\0").expect("a NUL byte behind it");
                String::from_utf8(text.into()).unwrap()
            })
            .collect()
    }

    #[test]
    fn every_option_has_its_effect() {
        let mut effects = Effects::new();
        let options = "severity local3.debug: spawn echo %a: spawn (echo %d) & : setenv WHO %u@%h: nice: nice -3: \
                       umask 027: keepalive: linger 5: user bob.kmem: banners /etc/ban\\:ners: rfc931 5: \
                       setenv EMPTY: setenv WHO  me  too : twist /bin/echo %c";
        taken(options, &mut effects).unwrap();
        assert_eq!(words(effects.spawns()), ["echo 10.1.2.3", "(echo in.telnetd) &"]);
        assert_eq!(words(effects.env()), ["EMPTY=", "WHO=me  too"]);
        assert_eq!(
            words(effects.command().into_iter()),
            ["/bin/echo __reboot__a_b_c____@h1_rm_-rf_.example"]
        );
        assert!(effects.command().unwrap().ends_with(b"\0"));
        assert_eq!(words(effects.banners()), ["/etc/ban:ners/in.telnetd"]);
        assert_eq!((effects.nice, effects.umask, effects.linger), (Some(7), Some(0o27), Some(5)));
        assert_eq!((effects.identity, effects.group), (Some((1000, 15)), None));
        assert_eq!((effects.keepalive, effects.severity()), (true, Some((Some(19), 7))));
        // Nothing stays for the next.
        taken("severity info", &mut effects).unwrap();
        assert_eq!(words(effects.spawns().chain(effects.env()).chain(effects.banners())), [""; 0]);
        assert_eq!((effects.command(), effects.nice, effects.identity), (None, None, None));
        assert_eq!((effects.keepalive, effects.severity()), (false, Some((None, 6))));
    }

    #[test]
    fn who_the_server_becomes() {
        let mut effects = Effects::new();
        for (options, identity, group) in [
            ("user bob", Some((1000, 100)), None),
            ("group kmem", None, Some(15)),
            ("group kmem: user bob", Some((1000, 15)), Some(15)),
            ("user bob: group kmem", Some((1000, 15)), Some(15)),
            ("user bob.users: group kmem", Some((1000, 15)), Some(15)),
            ("user root", Some((0, 0)), None),
            ("user bob.users: user root", Some((0, 0)), None),
        ] {
            taken(options, &mut effects).unwrap();
            assert_eq!((effects.identity, effects.group), (identity, group), "{options}");
        }
        // Gone since the verdict.
        assert_eq!(taken("keepalive: user eve", &mut effects), Err(Fault::NoUser));
        assert_eq!(taken("keepalive: user bob.eve", &mut effects), Err(Fault::NoGroup));
        assert!(!effects.keepalive && effects.identity.is_none());
    }

    #[test]
    fn what_a_client_says_is_harmless() {
        let mut effects = Effects::new();
        taken("spawn echo '%u' \"%h\" `%n`: setenv U %u: setenv X%u x", &mut effects).unwrap();
        let host = "h1_rm_-rf_.example";
        assert_eq!(words(effects.spawns()), [std::format!("echo '__reboot__a_b_c____' \"{host}\" `{host}`")]);
        assert_eq!(words(effects.env()), ["U=__reboot__a_b_c____", "X__reboot__a_b_c____=x"]);
        // A name that has become none.
        assert_eq!(taken("setenv %z", &mut effects), Err(Fault::BadVariable));
        assert_eq!(taken("setenv %z %z", &mut effects), Err(Fault::BadVariable));
        taken("setenv %z \x0cA  b", &mut effects).unwrap();
        assert_eq!(words(effects.env()), ["\x0cA=b"]);
        taken("setenv %z A  b", &mut effects).unwrap();
        assert_eq!(words(effects.env()), ["A=b"]);
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let mut effects = Effects::new();
        // The kind in front, the NUL byte behind.
        let fits = "x".repeat(EFFECT_BYTES - 2);
        taken(&std::format!("spawn {fits}"), &mut effects).unwrap();
        assert_eq!(words(effects.spawns()), [&*fits]);
        for options in [
            std::format!("spawn {fits}x"),
            std::format!("twist {fits}x"),
            std::format!("spawn {fits}%a"),
            std::format!("spawn {fits}: spawn y"),
            std::format!("setenv {fits}"),
            std::format!("setenv A {fits}"),
            std::format!("spawn y: banners /{fits}"),
            std::format!("keepalive: {}nice", "setenv A b:".repeat(EFFECT_VARIABLES + 1)),
        ] {
            assert_eq!(taken(&options, &mut effects), Err(Fault::OptionsLong), "{options:.40}");
            assert_eq!((effects.spawns().count(), effects.command(), effects.keepalive), (0, None, false));
        }
        // One byte less at a time: whatever fits is whole.
        for len in EFFECT_BYTES - 40..EFFECT_BYTES {
            let text = "y".repeat(len);
            for options in [std::format!("setenv A {text}"), std::format!("setenv {text}: setenv B c")] {
                if taken(&options, &mut effects).is_ok() {
                    let whole: usize = effects.env().map(|word| word.len() + 1).sum();
                    assert_eq!(whole, effects.len, "{len}");
                }
            }
        }
        assert_eq!(taken("setenv A b:".repeat(EFFECT_VARIABLES).trim_end_matches(':'), &mut effects), Ok(()));
        assert_eq!(words(effects.env()), ["A=b"]);
    }
}
