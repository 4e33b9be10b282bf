//! One attribute line: found in the [table](super::attr), checked against its row, and written into the draft.

#![forbid(unsafe_code)]

use heapless::Vec;

use super::attr::{self, Attribute, Count, Effect, Key, Operators, Place, choice, value_of};
use super::diagnostic::Bytes;
use super::draft::{DRAFT_TIMES, Draft, Kind, Lists, Spot};
use super::source::Files;
use super::token::{Assignment, Operator, Quoting, Word, Words};
use super::value::{self, Address};
use super::{Context, base_name, init, is_tcpd, mark};
use crate::addr::{Prefix, plain};
use crate::capacity::{BANNER_BYTES, DRAFT_RULES, DRAFT_WORDS, NAME_BYTES};
use crate::names;
use crate::service::{Cps, Flags, Host, LogFields, LogFile, LogType, Proxy, SocketType, Stderr, Target};
use crate::table::{Full, Origin, Pattern, Rule, Text};

/// One attribute line of a section.
struct Setting<'s, 'c, F: Files> {
    cx: &'s mut Context<'c, F>,
    draft: &'s mut Draft,
    lists: &'s mut Lists,
    attribute: &'static Attribute,
    operator: Operator,
    values: Words<'s>,
}

/// Sets an attribute of a section; whatever is wrong is reported and marks the draft broken.
pub(super) fn set<F: Files>(
    cx: &mut Context<'_, F>,
    draft: &mut Draft,
    lists: &mut Lists,
    assignment: &Assignment<'_>,
) {
    if draft.kind == Kind::Init {
        return init::set(cx, draft, &mut lists.boot, assignment);
    }
    let Assignment { name, operator, column, values } = *assignment;
    let Some(attribute) = Attribute::by_name(name.bytes) else {
        let what = format_args!("unknown attribute `{}`", Bytes(name.bytes));
        return match Attribute::nearest(name.bytes) {
            Some(near) => cx.wrong(draft, name.column, what, format_args!("did you mean `{near}`?")),
            None => {
                cx.wrong(draft, name.column, what, format_args!("`usherd -help attributes` lists them all"))
            }
        };
    };
    let misplaced = match draft.kind {
        Kind::Defaults => attribute.place == Place::Service,
        Kind::Service | Kind::Words | Kind::Init => attribute.place == Place::Defaults,
    };
    if misplaced {
        let (here, there) = match draft.kind {
            Kind::Defaults => ("`defaults`", "each service that needs it"),
            Kind::Service | Kind::Words | Kind::Init => ("a service", "`defaults`"),
        };
        let what = format_args!("`{}` cannot stand in {here}", attribute.name);
        return cx.wrong(draft, name.column, what, format_args!("write it in {there}"));
    }
    let count = match values.check() {
        Ok(count) => count,
        Err((Quoting::Open, column)) => {
            let what = format_args!("a quote is opened and not closed");
            return cx.wrong(draft, column, what, format_args!("write the second `\"` on the same line"));
        }
        Err((Quoting::Glued, column)) => {
            let what = format_args!("text right behind a closing quote");
            return cx.wrong(
                draft,
                column,
                what,
                format_args!("put a blank there, or the whole word in quotes"),
            );
        }
    };
    let fits = match attribute.operators {
        Operators::Once => operator == Operator::Set,
        Operators::Grow => operator != Operator::Remove,
        Operators::Edit => true,
    };
    if !fits {
        let what = format_args!("`{}` does not take `{}`", attribute.name, operator.text());
        let cure = format_args!("it takes {}", attribute.operators.text());
        return cx.wrong(draft, column, what, cure);
    }
    if !attribute.count.admits(count) {
        let form = format_args!("write `{} = {}`", attribute.name, attribute.values);
        let wanted = attribute.count.text();
        let what = format_args!("`{}` takes {wanted}, and here are {count}", attribute.name);
        return cx.wrong(draft, column, what, form);
    }
    if attribute.operators == Operators::Once && is_repeated(cx, draft, attribute, name.column, values) {
        return;
    }
    if let (Key::ServerArgs | Key::Env, Some(column)) = (attribute.key, values.comment()) {
        let what = format_args!("a comment ends `{}` here; xinetd would have passed it on", attribute.name);
        cx.warning(column, what, format_args!("if it is meant, put the word in quotes: \"#...\""));
    }
    match attribute.effect {
        Effect::Enforced => Setting { cx, draft, lists, attribute, operator, values }.apply(),
        Effect::NotYet if draft.disabled => draft.wish.given.add(attribute.key),
        Effect::NotYet => not_yet(cx, draft, name.column, attribute.name),
        Effect::Never => {
            let what = format_args!("`{}` has no effect", attribute.name);
            cx.warning(name.column, what, format_args!("leave it out: {}", attribute.help));
        }
    }
}

fn not_yet<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, column: u32, name: &str) {
    let what = format_args!("`{name}` is not enforced by this version");
    let cure = match draft.kind {
        Kind::Defaults => "the file is not used rather than its services left unprotected",
        Kind::Service | Kind::Words | Kind::Init => {
            "the service is kept from starting rather than left unprotected"
        }
    };
    cx.wrong(draft, column, what, format_args!("{cure}"));
}

/// Whether a `=`-once attribute was given before; that is reported. The same value again changes nothing.
fn is_repeated<F: Files>(
    cx: &mut Context<'_, F>,
    draft: &mut Draft,
    attribute: &Attribute,
    column: u32,
    values: Words<'_>,
) -> bool {
    let key = attribute.key;
    let mark = mark(values.sound().map(|w| w.bytes));
    let slot = (draft.marks.get_mut(key as usize), draft.lines.get_mut(key as usize));
    let (Some(old), Some(line)) = slot else { return false };
    if !draft.wish.given.has(key) {
        draft.wish.given.add(key);
        (*old, *line) = (mark, cx.line);
        return false;
    }
    let (same, first) = (*old == mark, *line);
    let what = format_args!("`{}` is given again, after line {first}", attribute.name);
    if same {
        cx.warning(column, what, format_args!("leave one of the two out"));
    } else {
        cx.wrong(draft, column, what, format_args!("leave out the one that is not meant"));
    }
    true
}

impl<F: Files> Setting<'_, '_, F> {
    fn apply(mut self) {
        let first = self.values.sound().next();
        self.draft.wish.given.add(self.attribute.key);
        match (self.attribute.count, first) {
            (Count::One, Some(word)) => self.one(word),
            _ => self.many(),
        }
    }

    /// A word that does not say what the attribute needs.
    fn bad(&mut self, word: Word<'_>) {
        let a = self.attribute;
        let what = format_args!("`{}` is no value of `{}`", Bytes(word.bytes), a.name);
        self.cx.wrong(self.draft, word.column, what, format_args!("write `{} = {}`", a.name, a.values));
    }

    /// The value, or a complaint and `None`.
    fn good<T>(&mut self, word: Word<'_>, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.bad(word);
        }
        value
    }

    /// Attributes with exactly one value.
    fn one(&mut self, word: Word<'_>) {
        let bytes = word.bytes;
        match self.attribute.key {
            Key::Id => {
                if bytes.is_empty() || bytes.len() > NAME_BYTES {
                    return self.bad(word);
                }
                self.draft.service.id = self.cx.text(self.draft, word);
            }
            Key::Disable => {
                let off = self.good(word, value::yes_no(bytes)) == Some(true);
                self.draft.disabled |= off;
            }
            Key::SocketType => match () {
                () if word.is("stream") => self.draft.socket = Some(SocketType::Stream),
                () if word.is("dgram") => self.draft.socket = Some(SocketType::Dgram),
                () if ["raw", "seqpacket", "rdm"].iter().any(|name| word.is(name)) => self.unsupported(word),
                () => self.bad(word),
            },
            Key::Protocol => match names::protocol(bytes) {
                Some(protocol) => {
                    self.draft.protocol = Some(protocol);
                    self.draft.wish.family = protocol.family;
                }
                None if bytes.iter().all(u8::is_ascii_alphanumeric) => self.unsupported(word),
                None => self.bad(word),
            },
            Key::Wait => {
                let wait = self.good(word, value::yes_no(bytes));
                self.draft.flag(Flags::WAIT, wait == Some(true));
            }
            Key::User => self.user(word),
            Key::Group => {
                if let Some(gid) = self.group(word) {
                    self.draft.service.identity.gid = Some(gid);
                }
            }
            Key::Groups => {
                let groups = self.good(word, value::yes_no(bytes));
                self.draft.flag(Flags::GROUPS, groups == Some(true));
            }
            Key::Instances => {
                self.draft.service.instances = self.good(word, value::limit(bytes)).flatten();
            }
            Key::PerSource => {
                self.draft.service.per_source = self.good(word, value::limit(bytes)).flatten();
            }
            Key::Nice => {
                let nice = value::number::<i8>(bytes).filter(|n| (-20..=19).contains(n));
                self.draft.service.nice = self.good(word, nice);
            }
            Key::Server => self.server(word),
            Key::Libwrap => self.libwrap(word),
            Key::Banner => self.draft.service.banner = self.banner(word),
            Key::BannerSuccess => self.draft.service.banner_success = self.banner(word),
            Key::BannerFail => self.draft.service.banner_fail = self.banner(word),
            Key::Port => self.draft.port = self.good(word, value::number(bytes)),
            Key::Bind => {
                let Context { file, line, .. } = *self.cx;
                self.draft.wish.bind = self.cx.text(self.draft, word);
                self.draft.wish.bind_at = Spot { file, line, column: word.column };
                if bytes.is_empty() {
                    self.bad(word);
                }
            }
            Key::V6only => self.draft.wish.v6only = self.good(word, value::yes_no(bytes)) == Some(true),
            Key::MaxLoad => self.draft.service.max_load = self.good(word, value::hundredths(bytes)),
            Key::Umask => self.draft.service.umask = self.good(word, value::octal(bytes)),
            Key::RlimitAs => self.rlimit(word, 0),
            Key::RlimitCpu => {
                let plain = bytes.last().is_some_and(u8::is_ascii_digit) || word.is("UNLIMITED");
                if plain { self.rlimit(word, 1) } else { self.bad(word) }
            }
            Key::RlimitData => self.rlimit(word, 2),
            Key::RlimitRss => self.rlimit(word, 3),
            Key::RlimitStack => self.rlimit(word, 4),
            Key::RlimitFiles => self.rlimit(word, 5),
            Key::Stderr => match () {
                () if word.is("client") => self.draft.service.stderr = Stderr::Client,
                () if word.is("log") => self.draft.service.stderr = Stderr::Log,
                () if word.is("null") => self.draft.service.stderr = Stderr::Null,
                () => self.bad(word),
            },
            Key::Expand => {
                let expand = self.good(word, value::yes_no(bytes));
                self.draft.flag(Flags::EXPAND, expand == Some(true));
            }
            Key::ListenFds => {
                let listen_fds = self.good(word, value::yes_no(bytes));
                self.draft.flag(Flags::LISTEN_FDS, listen_fds == Some(true));
            }
            Key::Backlog => {
                let backlog = value::number(bytes).filter(|n| *n > 0);
                self.draft.service.backlog = self.good(word, backlog).unwrap_or_default();
            }
            Key::Rcvbuf => self.draft.service.receive_buffer = self.buffer(word),
            Key::Sndbuf => self.draft.service.send_buffer = self.buffer(word),
            Key::SocketMode => self.draft.service.node_mode = self.good(word, value::octal(bytes)),
            Key::SocketUser => {
                self.draft.service.node_uid = match value::number(bytes) {
                    Some(uid) => Some(uid),
                    None => self.look_up_user(word).map(|user| user.uid),
                }
            }
            Key::SocketGroup => self.draft.service.node_gid = self.group(word),
            Key::DenyTime => {
                self.draft.deny_time = self.good(word, value::deny_time(bytes)).unwrap_or_default();
            }
            Key::Recheck => {
                let recheck = self.good(word, value::yes_no(bytes));
                self.draft.flag(Flags::RECHECK, recheck == Some(true));
            }
            Key::Timeout => {
                self.draft.service.timeout = self.good(word, value::seconds(bytes)).unwrap_or_default();
            }
            Key::IdleTimeout => {
                self.draft.service.idle_timeout = self.good(word, value::seconds(bytes)).unwrap_or_default();
            }
            Key::Keep => {
                let keep = self.good(word, value::yes_no(bytes));
                self.draft.flag(Flags::KEEP, keep == Some(true));
            }
            Key::Standby => self.draft.service.standby = self.good(word, value::number(bytes)).unwrap_or(0),
            Key::Proxy => match () {
                () if word.is("v1") => self.draft.service.proxy = Proxy::V1,
                () if word.is("v2") => self.draft.service.proxy = Proxy::V2,
                () => self.bad(word),
            },
            // Not enforced, without effect, or with any number of values.
            _ => {}
        }
    }

    /// Attributes with several values.
    fn many(&mut self) {
        match self.attribute.key {
            Key::Type => self.types(),
            Key::Flags => self.flags(),
            Key::ServerArgs => self.words(|l| &mut l.args),
            Key::Env => self.env(),
            Key::Passenv => {
                self.draft.flag(Flags::PASSENV, true);
                self.words(|l| &mut l.passenv);
            }
            Key::Enabled | Key::Disabled => {
                // Where to look if an id turns out to be nobody's.
                (self.draft.service.file, self.draft.service.line) = (self.cx.file, self.cx.line);
                match self.attribute.key {
                    Key::Enabled => self.words(|l| &mut l.enabled),
                    _ => self.words(|l| &mut l.disabled),
                }
            }
            Key::OnlyFrom => {
                self.draft.flag(Flags::ONLY_FROM, true);
                self.addresses(|l| &mut l.only_from);
            }
            Key::NoAccess => self.addresses(|l| &mut l.no_access),
            Key::AccessTimes => {
                for word in self.values.sound() {
                    if let Some(range) = self.good(word, value::minutes(word.bytes))
                        && self.lists.times.push(range).is_err()
                    {
                        let full = Full { capacity: "access_times of one service", value: DRAFT_TIMES };
                        let what = format_args!("more time ranges than a service may have");
                        self.cx.wrong(self.draft, word.column, what, format_args!("at most {}", full.value));
                    }
                }
            }
            Key::Redirect => self.redirect(),
            Key::LogType => self.log_type(),
            Key::LogOnSuccess => {
                let fields = self.log_fields(&attr::SUCCESS, self.draft.service.log_on_success);
                self.draft.service.log_on_success = fields;
            }
            Key::LogOnFailure => {
                let mut fields = self.log_fields(&attr::FAILURE, self.draft.service.log_on_failure);
                if !fields.is_empty() {
                    fields = LogFields(fields.0 | LogFields::ATTEMPT.0);
                }
                self.draft.service.log_on_failure = fields;
            }
            Key::Cps => {
                let mut words = self.values.sound();
                if let (Some(rate), Some(pause)) = (words.next(), words.next()) {
                    let values = self
                        .good(rate, value::number::<u32>(rate.bytes))
                        .zip(self.good(pause, value::number::<u32>(pause.bytes)));
                    match values {
                        // A pause that nothing ever ends, or that begins at once.
                        Some((0, 1..)) => self.bad(rate),
                        Some((rate, pause)) => self.draft.service.cps = Some(Cps { rate, pause }),
                        None => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn unsupported(&mut self, word: Word<'_>) {
        let what = format_args!("{} `{}` is not supported", self.attribute.name, Bytes(word.bytes));
        let cure = format_args!("usherd serves {}", self.attribute.values);
        self.cx.wrong(self.draft, word.column, what, cure);
    }

    fn types(&mut self) {
        for word in self.values.sound() {
            let Some(found) = choice(&attr::TYPES, word.bytes) else {
                self.unknown_choice(word, attr::TYPES.iter().map(|c| c.name));
                continue;
            };
            match found.meaning {
                attr::Type::Internal => self.draft.internal = true,
                attr::Type::Unlisted => self.draft.flag(Flags::UNLISTED, true),
                attr::Type::Tcpmux | attr::Type::TcpmuxPlus => {
                    let plus = found.meaning == attr::Type::TcpmuxPlus;
                    if self.draft.mux.replace(plus).is_some_and(|other| other != plus) {
                        let what = format_args!("types TCPMUX and TCPMUXPLUS exclude each other");
                        let cure = format_args!("write TCPMUXPLUS if the daemon is to answer `+Go`");
                        self.cx.wrong(self.draft, word.column, what, cure);
                    }
                }
                attr::Type::Rpc if self.draft.disabled => {}
                attr::Type::Rpc => {
                    let what = format_args!("type {} is not supported by this version", found.name);
                    let cure = format_args!("the service is kept from starting");
                    self.cx.wrong(self.draft, word.column, what, cure);
                }
            }
        }
    }

    fn flags(&mut self) {
        for word in self.values.sound() {
            let Some(found) = choice(&attr::FLAGS, word.bytes) else {
                self.unknown_choice(word, attr::FLAGS.iter().map(|c| c.name));
                continue;
            };
            if found.effect == Effect::NotYet {
                if !self.draft.disabled {
                    not_yet(self.cx, self.draft, word.column, found.name);
                }
                continue;
            }
            match found.meaning {
                attr::Flag::NoRetry => self.draft.flag(Flags::NORETRY, true),
                attr::Flag::NameInArgs => self.draft.flag(Flags::NAME_IN_ARGS, true),
                attr::Flag::NoDelay => self.draft.flag(Flags::NODELAY, true),
                attr::Flag::KeepAlive => self.draft.flag(Flags::KEEPALIVE, true),
                attr::Flag::NoLibwrap => self.draft.unwrapped = true,
                attr::Flag::IdOnly => self.draft.flag(Flags::IDONLY, true),
                attr::Flag::Intercept => self.draft.intercept = true,
                attr::Flag::Sensor => self.draft.sensor = true,
                attr::Flag::ReusePort => self.draft.flag(Flags::REUSE_PORT, true),
                attr::Flag::V4 => self.draft.wish.v4 = true,
                attr::Flag::V6 => self.draft.wish.v6 = true,
                attr::Flag::Reuse | attr::Flag::Labeled => {}
            }
        }
    }

    fn unknown_choice(&mut self, word: Word<'_>, choices: impl Iterator<Item = &'static str>) {
        let what = format_args!("`{}` is no word of `{}`", Bytes(word.bytes), self.attribute.name);
        match attr::nearest(word.bytes, choices) {
            Some(near) => {
                self.cx.wrong(self.draft, word.column, what, format_args!("did you mean `{near}`?"));
            }
            None => {
                let cure = format_args!("`usherd -help attributes` lists them all");
                self.cx.wrong(self.draft, word.column, what, cure);
            }
        }
    }

    /// A list of words, changed as the operator says. In `defaults` `=` adds, as in xinetd.
    fn words(&mut self, list: fn(&mut Lists) -> &mut Vec<Text, DRAFT_WORDS>) {
        if self.operator == Operator::Set && self.draft.kind != Kind::Defaults {
            list(self.lists).clear();
        }
        for word in self.values.sound() {
            if self.operator == Operator::Remove {
                let table = &self.cx.table;
                list(self.lists).retain(|text| table.bytes(*text) != word.bytes);
                continue;
            }
            let text = self.cx.text(self.draft, word);
            if list(self.lists).push(text).is_err() {
                let full = Full { capacity: "DRAFT_WORDS", value: DRAFT_WORDS };
                return self.cx.full(self.draft, word.column, "this word", full);
            }
        }
    }

    fn env(&mut self) {
        for word in self.values.sound() {
            if matches!(word.bytes.iter().position(|&b| b == b'='), None | Some(0)) {
                self.bad(word);
            }
        }
        self.words(|l| &mut l.env);
    }

    /// A list of networks and names, changed as the operator says. In `defaults` `=` adds, as in xinetd.
    fn addresses(&mut self, list: fn(&mut Lists) -> &mut Vec<Rule, DRAFT_RULES>) {
        if self.operator == Operator::Set && self.draft.kind != Kind::Defaults {
            list(self.lists).clear();
        }
        let remove = self.operator == Operator::Remove;
        let origin = Origin { file: self.cx.file, line: self.cx.line };
        for word in self.values.sound() {
            let rules = list(self.lists);
            let mut fits = true;
            let mut take = |prefix: Prefix| {
                let pattern = Pattern::Network(prefix);
                if remove {
                    rules.retain(|rule| rule.pattern != pattern);
                } else {
                    fits &= rules.push(Rule { pattern, origin }).is_ok();
                }
                fits
            };
            match value::address(word.bytes) {
                Ok(Address::Prefix(prefix)) => {
                    take(prefix);
                    if word.bytes == b"::" {
                        let what = format_args!("`::` is one address that no client has");
                        self.cx.warning(
                            word.column,
                            what,
                            format_args!("write `::/0` for every IPv6 client"),
                        );
                    }
                    if let Some(network) = value::with_host_bits(word.bytes).filter(|_| !remove) {
                        let (written, bits) = (Bytes(word.bytes), network.bits());
                        let what = format_args!(
                            "`{written}` has bits behind the {bits} that count: it is {network}"
                        );
                        let cure = format_args!("write {network}, or the address alone if one host is meant");
                        self.cx.warning(word.column, what, cure);
                    }
                }
                Ok(Address::Several(several)) => several.prefixes().flatten().for_each(|p| {
                    take(p);
                }),
                Ok(Address::Name(_)) if self.draft.disabled => {}
                Ok(Address::Name(name)) => {
                    let path = self.cx.options.hosts;
                    match names::addresses_of(self.cx.files, path, name, |a| take(Prefix::host(a))) {
                        Ok(true) => {}
                        Ok(false) => fits = self.host_name(word, list, origin),
                        Err(errno) => self.cx.unreadable(self.draft, word.column, path, errno),
                    }
                }
                Err(no) => {
                    let what = format_args!("`{}` {}", Bytes(word.bytes), no.what);
                    self.cx.wrong(self.draft, word.column, what, format_args!("{}", no.cure));
                }
            }
            if !fits {
                let full = Full { capacity: "DRAFT_RULES", value: DRAFT_RULES };
                return self.cx.full(self.draft, word.column, "this address", full);
            }
        }
    }

    /// A name that hosts(5) does not have is matched by the names of clients. False: there is no room for it.
    fn host_name(
        &mut self,
        word: Word<'_>,
        list: fn(&mut Lists) -> &mut Vec<Rule, DRAFT_RULES>,
        origin: Origin,
    ) -> bool {
        if !value::is_host_name(word.bytes) {
            self.no_host(word, "write an address, a name as host.example.org, or a domain as .example.org");
            return true;
        }
        if self.operator == Operator::Remove {
            let table = &self.cx.table;
            list(self.lists).retain(|rule| match rule.pattern {
                Pattern::Name(name) => !table.bytes(name).eq_ignore_ascii_case(word.bytes),
                Pattern::Network(_) => true,
            });
            return true;
        }
        let pattern = Pattern::Name(self.cx.text(self.draft, word));
        list(self.lists).push(Rule { pattern, origin }).is_ok()
    }

    fn no_host(&mut self, word: Word<'_>, cure: &str) {
        let name = Bytes(word.bytes);
        let hosts = Bytes(self.cx.options.hosts);
        let what = format_args!("`{name}` is no address, not in {hosts}, and no name that the DNS can have");
        self.cx.wrong(self.draft, word.column, what, format_args!("{cure}"));
    }

    /// Where a connection is handed on to.
    fn redirect(&mut self) {
        let mut words = self.values.sound();
        let (Some(host), Some(port)) = (words.next(), words.next()) else { return };
        if self.draft.disabled {
            return;
        }
        self.draft.redirect = self.host(host).zip(self.port(port)).map(|(host, port)| Target { host, port });
    }

    /// A name in hosts(5) is looked up now, any other for each client. Of several addresses the first IPv4 address is
    /// taken, as by xinetd.
    fn host(&mut self, word: Word<'_>) -> Option<Host> {
        if let Some(address) = core::str::from_utf8(word.bytes).ok().and_then(|text| text.parse().ok()) {
            return Some(Host::Address(plain(address)));
        }
        let path = self.cx.options.hosts;
        let (mut v4, mut v6) = (None, None);
        let found = names::addresses_of(self.cx.files, path, word.bytes, |address| {
            let address = plain(address);
            let slot = if address.is_ipv4() { &mut v4 } else { &mut v6 };
            slot.get_or_insert(address);
            true
        });
        match found {
            Err(errno) => self.cx.unreadable(self.draft, word.column, path, errno),
            Ok(_) if v4.or(v6).is_some() => return v4.or(v6).map(Host::Address),
            Ok(_) if value::is_host_name(word.bytes) && !word.bytes.starts_with(b".") => {
                return Some(Host::Name(self.cx.text(self.draft, word)));
            }
            Ok(_) => self.no_host(word, "write an address without brackets, or a name as host.example.org"),
        }
        None
    }

    /// The number of a TCP port, or its name.
    fn port(&mut self, word: Word<'_>) -> Option<u16> {
        if word.bytes.first().is_none_or(|b| b.is_ascii_digit() || *b == b'-') {
            return self.good(word, value::number(word.bytes).filter(|port| *port > 0));
        }
        let path = self.cx.options.services;
        match names::port_of(self.cx.files, path, word.bytes, SocketType::Stream) {
            Ok(Some(port)) => return Some(port.number),
            Ok(None) => {
                let what = format_args!("there is no {} for tcp in {}", Bytes(word.bytes), Bytes(path));
                self.cx.wrong(self.draft, word.column, what, format_args!("write the port's number"));
            }
            Err(errno) => self.cx.unreadable(self.draft, word.column, path, errno),
        }
        None
    }

    /// xinetd takes a name alone. Nobody calls a daemon `yes` or `no`.
    fn libwrap(&mut self, word: Word<'_>) {
        match value::yes_no(word.bytes) {
            Some(on) => self.draft.flag(Flags::LIBWRAP, on),
            // hosts.allow(5) parts names by these.
            None if word.bytes.is_empty() || word.bytes.iter().any(|b| b" \t,:@".contains(b)) => {
                self.bad(word)
            }
            None => self.draft.service.daemon = self.cx.text(self.draft, word),
        }
    }

    fn log_fields(&mut self, choices: &'static [(&'static str, LogFields)], old: LogFields) -> LogFields {
        let replace = self.operator == Operator::Set && self.draft.kind != Kind::Defaults;
        let mut fields = if replace { LogFields::default() } else { old };
        for word in self.values.sound() {
            let Some(field) = value_of(choices, word.bytes) else {
                self.unknown_choice(word, choices.iter().map(|(name, _)| *name));
                continue;
            };
            if self.operator == Operator::Remove {
                fields = LogFields(fields.0 & !field.0);
                continue;
            }
            fields = LogFields(fields.0 | field.0);
            let spot = Spot { file: self.cx.file, line: self.cx.line, column: word.column };
            match field {
                LogFields::TRAFFIC => self.draft.traffic_at = spot,
                LogFields::USERID => self.draft.userid_at = spot,
                _ => {}
            }
        }
        fields
    }

    fn log_type(&mut self) {
        let mut words = self.values.sound();
        let (Some(kind), second, third, fourth, more) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            return;
        };
        let log_type = match (second, third, fourth, more) {
            (Some(facility), level, None, None) if kind.is("SYSLOG") => {
                let number = self.good(facility, value_of(&attr::FACILITIES, facility.bytes));
                let level = match level {
                    Some(level) => self.good(level, value_of(&attr::LEVELS, level.bytes)),
                    None => value_of(&attr::LEVELS, b"info"),
                };
                number.zip(level).map(|(facility, level)| LogType::Syslog { facility, level })
            }
            (Some(path), soft, hard, None) if kind.is("FILE") => self.log_file(path, soft, hard),
            _ => {
                self.bad(kind);
                None
            }
        };
        if let Some(log_type) = log_type {
            self.draft.service.log_type = log_type;
        }
    }

    fn log_file(
        &mut self,
        path: Word<'_>,
        soft: Option<Word<'_>>,
        hard: Option<Word<'_>>,
    ) -> Option<LogType> {
        if !path.bytes.starts_with(b"/") {
            let what = format_args!("`{}` is no whole path", Bytes(path.bytes));
            let cure = format_args!("the daemon runs in `/`; write the path from there on");
            self.cx.wrong(self.draft, path.column, what, cure);
            return None;
        }
        let mut bytes = |word: Option<Word<'_>>| match word {
            None => Some(None),
            Some(word) => {
                let size = value::size(word.bytes).and_then(|n| u32::try_from(n).ok());
                self.good(word, size).map(Some)
            }
        };
        let (soft, hard) = (bytes(soft)?.unwrap_or(0), bytes(hard)?);
        let hard = match (soft, hard) {
            (_, Some(hard)) => hard,
            (0, None) => 0,
            // xinetd's: one percent more, but at least 5 KiB and at most 20.
            (soft, None) => soft.saturating_add((soft / 100).clamp(5 << 10, 20 << 10)),
        };
        if hard < soft {
            self.bad(path);
            return None;
        }
        Some(LogType::File(LogFile { path: self.cx.text(self.draft, path), soft, hard }))
    }

    fn rlimit(&mut self, word: Word<'_>, resource: usize) {
        if let (Some(limit), Some(slot)) =
            (self.good(word, value::rlimit(word.bytes)), self.draft.service.rlimits.get_mut(resource))
        {
            *slot = limit;
        }
        if value::size(word.bytes) == Some(0) {
            let what = format_args!("0 sets no `{}`", self.attribute.name);
            self.cx.warning(word.column, what, format_args!("leave it out, or write a limit"));
        }
    }

    fn buffer(&mut self, word: Word<'_>) -> u32 {
        let size = value::size(word.bytes).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        self.good(word, size).unwrap_or_default()
    }

    /// The path of a banner. That the file is there now is not asked: it may be made later, and is read for each client.
    /// If it is there, a word about an end that clients will not see.
    fn banner(&mut self, word: Word<'_>) -> Text {
        if !word.bytes.starts_with(b"/") {
            let what = format_args!("`{}` is no whole path", Bytes(word.bytes));
            self.cx.wrong(self.draft, word.column, what, format_args!("write /.../NAME"));
        }
        let files = &mut *self.cx.files;
        let is_longer = files
            .open(word.bytes)
            .and_then(|file| files.read_at(&file, BANNER_BYTES as u64, &mut [0; 1]))
            .is_ok_and(|len| len > 0);
        if is_longer {
            let what = format_args!("{} is longer than a banner", Bytes(word.bytes));
            let cure = format_args!("clients get its first {BANNER_BYTES} bytes; shorten it");
            self.cx.warning(word.column, what, cure);
        }
        self.cx.text(self.draft, word)
    }

    fn server(&mut self, word: Word<'_>) {
        self.draft.service.program = self.cx.text(self.draft, word);
        if !word.bytes.starts_with(b"/") {
            let what = format_args!("`{}` is no whole path", Bytes(word.bytes));
            return self.cx.wrong(
                self.draft,
                word.column,
                what,
                format_args!("PATH is not searched; write /.../NAME"),
            );
        }
        // It is not started: see `close`.
        let tcpd = is_tcpd(self.cx.table.bytes(base_name(self.cx.table, self.draft.service.program)));
        if self.draft.disabled || tcpd {
            return;
        }
        if let Err(errno) = self.cx.files.executable(word.bytes) {
            let what = format_args!("cannot execute {}: {errno}", Bytes(word.bytes));
            let cure = format_args!("install the program, or write `disable = yes`");
            self.cx.wrong(self.draft, word.column, what, cure);
        }
    }

    fn user(&mut self, word: Word<'_>) {
        self.draft.wish.user = self.cx.text(self.draft, word);
        let (uid, gid) = match value::number(word.bytes) {
            // xinetd's rule: the same number for both.
            Some(uid) => (uid, uid),
            None => match self.look_up_user(word) {
                Some(user) => (user.uid, user.gid),
                None => return,
            },
        };
        self.draft.service.identity.uid = Some(uid);
        // `group`, wherever it stands, goes before.
        self.draft.service.identity.gid.get_or_insert(gid);
    }

    fn look_up_user(&mut self, word: Word<'_>) -> Option<names::User> {
        if self.draft.disabled {
            return None;
        }
        let path = self.cx.options.passwd;
        match self.cx.user_by_name(word.bytes) {
            Ok(Some(user)) => Some(user),
            Ok(None) => {
                self.unknown_name(word, "user", path);
                None
            }
            Err(errno) => {
                self.cx.unreadable(self.draft, word.column, path, errno);
                None
            }
        }
    }

    fn group(&mut self, word: Word<'_>) -> Option<u32> {
        if let Some(gid) = value::number(word.bytes) {
            return Some(gid);
        }
        if self.draft.disabled {
            return None;
        }
        let path = self.cx.options.group;
        match names::group_by_name(self.cx.files, path, word.bytes) {
            Ok(Some(gid)) => return Some(gid),
            Ok(None) => self.unknown_name(word, "group", path),
            Err(errno) => self.cx.unreadable(self.draft, word.column, path, errno),
        }
        None
    }

    fn unknown_name(&mut self, word: Word<'_>, what: &str, path: &[u8]) {
        let what = format_args!("no {what} `{}` in {}", Bytes(word.bytes), Bytes(path));
        self.cx.wrong(self.draft, word.column, what, format_args!("create it there, or write a number"));
    }
}
