//! When all files are read: `defaults` reach the services, addresses and families are decided, doubles are found, and
//! what is not to run is taken out.
//!
//! xinetd applies some attributes of `defaults` when a section is opened (see [`Draft::open`](super::draft)) and the
//! rest here, so that it does not matter where in the files `defaults` stands.

#![forbid(unsafe_code)]

use core::fmt;
use core::net::IpAddr;

use heapless::Vec;

use super::attr::Key;
use super::diagnostic::{Bytes, Severity};
use super::draft::{Draft, Lists, Spot, Wish};
use super::source::Files;
use super::{Context, Loader, mark, rules};
use crate::addr::plain;
use crate::capacity::{SERVICES, STANDBYS};
use crate::errno::Errno;
use crate::names;
use crate::service::{Answer, Bind, Cps, Dialect, Family, Flags, LogFields, Service, SocketType, Standing};
use crate::table::{Full, Pattern, Span, Table, Text};

/// Supplementary groups of one user.
const USER_GROUPS: usize = 128;

/// xinetd's cps where none is set.
const DEFAULT_CPS: Cps = Cps { rate: 50, pause: 10 };

/// Where a bind word leads: an interface, or the addresses of a name, of which a literal has one.
#[derive(Clone, Copy, Debug, Default)]
struct Target {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    interface: Option<Text>,
}

/// Access rules in the table.
#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    only_from: Span,
    no_access: Span,
}

impl Loader {
    pub(super) fn settle<F: Files>(&mut self, cx: &mut Context<'_, F>, defaults: &Draft) {
        self.switch_off(cx, defaults);
        let default_bind = default_bind(cx, defaults);
        rules::check(cx, &self.defaults.only_from, &self.defaults.no_access, |_| true);
        let rules = self.default_rules(cx, defaults);
        for (i, wish) in self.wishes.iter().enumerate() {
            let Some(service) = cx.table.services_mut().get_mut(i).filter(|_| !wish.off) else { continue };
            inherit(service, wish, defaults, rules);
            let service = *service;
            if !service.flags.has(Flags::MUX) {
                bind(cx, i, &service, wish, default_bind, defaults);
            }
            if service.is_owned_by_server() && service.standing == Standing::Ready {
                addresses_alone(cx, i, &service);
            }
            if service.flags.has(Flags::GROUPS) && service.standing == Standing::Ready {
                groups(cx, i, &service, wish);
            }
        }
        self.narrow(cx);
        self.doubles(cx);
        self.unreachable(cx);
        self.standbys(cx);
        let mut wishes = self.wishes.iter();
        cx.table.retain_services(|_| wishes.next().is_none_or(|wish| !wish.off));
        pair(cx.table);
    }

    /// The access rules of `defaults`, for entries of inetd.conf. xinetd leaves those without.
    fn default_rules<F: Files>(&self, cx: &mut Context<'_, F>, defaults: &Draft) -> Rules {
        let Lists { only_from, no_access, .. } = &self.defaults;
        let entries = cx.table.services().iter().any(|s| s.dialect == Dialect::Inetd);
        if !entries || (only_from.is_empty() && no_access.is_empty()) {
            return Rules::default();
        }
        let pushed = cx.table.push_rules(only_from).and_then(|only_from| {
            let no_access = cx.table.push_rules(no_access)?;
            Ok(Rules { only_from, no_access })
        });
        pushed.unwrap_or_else(|full| {
            cx.usable = false;
            (cx.file, cx.line) = (defaults.service.file, 0);
            cx.error(0, format_args!("no room for the access rules of `defaults`"), format_args!("{full}"));
            Rules::default()
        })
    }

    /// `enabled` and `disabled`.
    fn switch_off<F: Files>(&mut self, cx: &mut Context<'_, F>, defaults: &Draft) {
        let same = |cx: &Context<'_, F>, id: Text, word: Text| {
            cx.table.bytes(id).eq_ignore_ascii_case(cx.table.bytes(word))
        };
        let (enabled, disabled) = (&self.defaults.enabled, &self.defaults.disabled);
        for word in enabled.iter().chain(disabled) {
            let known = cx.table.services().iter().any(|s| same(cx, s.id, *word));
            let off = self.off.contains(&mark(core::iter::once(cx.table.bytes(*word))));
            if !known && !off {
                let Context { say, table, .. } = cx;
                let what = format_args!("no service has the id `{}`", Bytes(table.bytes(*word)));
                let cure = format_args!("`enabled` and `disabled` take ids; leave it out if it is gone");
                let (file, line) = (table.bytes(defaults.service.file), defaults.service.line);
                say.say(Severity::Warning, file, line, 0, what, cure);
            }
        }
        let only_enabled = defaults.wish.given.has(Key::Enabled);
        for (service, wish) in cx.table.services().iter().zip(&mut self.wishes) {
            let listed = |list: &[Text]| list.iter().any(|word| same(cx, service.id, *word));
            wish.off |= (only_enabled && !listed(enabled)) || listed(disabled);
        }
    }

    /// Two services on one port may share it if one takes IPv4 and the other IPv6. One that takes both gives up the
    /// family that the other asks for by name.
    fn narrow<F: Files>(&mut self, cx: &mut Context<'_, F>) {
        for i in 0..self.wishes.len() {
            for j in 0..self.wishes.len() {
                let (Some(wide), Some(other)) = (self.live(cx.table, i), self.live(cx.table, j)) else {
                    continue;
                };
                let Some(wish) = self.wishes.get(i).filter(|_| i != j) else { continue };
                let same = wide.socket == other.socket && wide.port == other.port && wide.port != 0;
                if !same || wide.family != Family::Dual || !same_bind(cx.table, wide, other) {
                    continue;
                }
                let unflagged = !wish.v4 && !wish.v6;
                let narrowed = match other.family {
                    // In inetd.conf `tcp` makes way for `tcp4`; in xinetd.conf only the flag IPv6 does.
                    Family::V4 if wish.v6 && !wish.v4 => Family::V6,
                    Family::V4 if unflagged && wide.dialect == Dialect::Inetd => Family::V6,
                    Family::V6 if unflagged => Family::V4,
                    _ => continue,
                };
                if let Some(service) = cx.table.services_mut().get_mut(i) {
                    service.family = narrowed;
                }
            }
        }
    }

    /// Two services cannot listen at one place. In inetd.conf the later line replaces the earlier one; elsewhere the
    /// later service is refused.
    fn doubles<F: Files>(&mut self, cx: &mut Context<'_, F>) {
        for later in 0..self.wishes.len() {
            for earlier in 0..later {
                let Context { say, table, .. } = &mut *cx;
                let (Some(a), Some(b)) = (self.live(table, earlier), self.live(table, later)) else {
                    continue;
                };
                let Some(overlap) = overlap(table, a, b) else { continue };
                let replaces =
                    a.dialect == Dialect::Inetd && b.dialect == Dialect::Inetd && overlap == Overlap::Same;
                let (name, file, line) = (Bytes(table.bytes(a.id)), Bytes(table.bytes(a.file)), a.line);
                if replaces {
                    let what = format_args!("the entry for {name} replaces that of {file}:{line}");
                    let cure = format_args!("leave one of the two out");
                    say.say(Severity::Warning, table.bytes(b.file), b.line, 0, what, cure);
                    if let Some(wish) = self.wishes.get_mut(earlier) {
                        wish.off = true;
                    }
                    continue;
                }
                let (what, cure) = if b.flags.has(Flags::MUX) {
                    ("it would have the name at tcpmux of", "give it another name, or disable one of the two")
                } else {
                    ("it would listen where", "give it another port or `bind`, or disable one of the two")
                };
                let does = if b.flags.has(Flags::MUX) { "" } else { " does" };
                let what = format_args!("{what} {name} of {file}:{line}{does}");
                say.say(Severity::Error, table.bytes(b.file), b.line, 0, what, format_args!("{cure}"));
                if let Some(service) = table.services_mut().get_mut(later) {
                    service.standing = Standing::Broken;
                }
            }
        }
    }

    /// Services that only tcpmux leads to, and no tcpmux. inetutils opens its port by itself; here none is opened that
    /// nobody wrote.
    fn unreachable<F: Files>(&self, cx: &mut Context<'_, F>) {
        let Context { say, table, .. } = cx;
        let services = || (0..self.wishes.len()).filter_map(|i| self.live(table, i));
        let Some(lost) = services().find(|s| s.flags.has(Flags::MUX)) else { return };
        if services().any(|s| s.answer == Answer::Tcpmux) {
            return;
        }
        let what = format_args!("nobody can reach {}: there is no tcpmux", Bytes(table.bytes(lost.id)));
        let cure = match lost.dialect {
            Dialect::Inetd => "add the line `tcpmux stream tcp nowait root internal`",
            Dialect::Xinetd => {
                "add `service tcpmux` with `type = INTERNAL`, `socket_type = stream`, `wait = no`"
            }
        };
        say.say(Severity::Warning, table.bytes(lost.file), lost.line, 0, what, format_args!("{cure}"));
    }

    /// All standby servers together need room; those who come first in the files have it.
    fn standbys<F: Files>(&self, cx: &mut Context<'_, F>) {
        let mut room = STANDBYS;
        for i in 0..self.wishes.len() {
            let Some(service) = self.live(cx.table, i) else { continue };
            match room.checked_sub(usize::from(service.standby)) {
                Some(rest) => room = rest,
                None => {
                    let full = Full { capacity: "STANDBYS", value: STANDBYS };
                    let what = format_args!("no room for its standby servers beside those of others");
                    fail(cx, i, Spot::default(), what, format_args!("{full}"));
                }
            }
        }
    }

    /// Service `i`, if it is going to run.
    fn live<'t>(&self, table: &'t Table, i: usize) -> Option<&'t Service> {
        let off = self.wishes.get(i).is_none_or(|wish| wish.off);
        table.services().get(i).filter(|s| !off && s.standing == Standing::Ready)
    }
}

/// A service and its wish enter the table.
pub(super) fn push<F: Files>(
    wishes: &mut Vec<Wish, SERVICES>,
    cx: &mut Context<'_, F>,
    service: Service,
    wish: Wish,
) {
    match cx.table.push_service(service) {
        // One wish for each service: the two lists are equally long.
        Ok(_) => drop(wishes.push(wish)),
        Err(full) => {
            cx.complete = false;
            cx.error(0, format_args!("no room for another service"), format_args!("{full}"));
        }
    }
}

/// An error about service `i`, at a place of its own or where it begins.
fn fail<F: Files>(
    cx: &mut Context<'_, F>,
    i: usize,
    spot: Spot,
    what: fmt::Arguments<'_>,
    cure: fmt::Arguments<'_>,
) {
    let Some(service) = cx.table.services_mut().get_mut(i) else { return };
    service.standing = Standing::Broken;
    let (file, line, column) =
        if spot.line > 0 { (spot.file, spot.line, spot.column) } else { (service.file, service.line, 0) };
    cx.say.say(Severity::Error, cx.table.bytes(file), line, column, what, cure);
}

/// What `defaults` gives a service that does not say.
fn inherit(service: &mut Service, wish: &Wish, defaults: &Draft, rules: Rules) {
    let wanted = |key: Key| defaults.wish.given.has(key) && !wish.given.has(key);
    let d = &defaults.service;
    if service.dialect == Dialect::Inetd {
        if defaults.wish.given.has(Key::OnlyFrom) {
            service.flags = service.flags.with(Flags::ONLY_FROM);
        }
        (service.only_from, service.no_access) = (rules.only_from, rules.no_access);
        (service.log_on_success, service.log_on_failure) = (d.log_on_success, d.log_on_failure);
    }
    if wanted(Key::Instances) {
        service.instances = d.instances;
    }
    if wanted(Key::Umask) {
        service.umask = d.umask;
    }
    if wanted(Key::PerSource) {
        service.per_source = d.per_source;
    }
    if wanted(Key::Groups) {
        let groups = d.flags.has(Flags::GROUPS);
        service.flags =
            if groups { service.flags.with(Flags::GROUPS) } else { service.flags.without(Flags::GROUPS) };
    }
    if wanted(Key::Recheck) && d.flags.has(Flags::RECHECK) {
        service.flags = service.flags.with(Flags::RECHECK);
    }
    if wanted(Key::Timeout) {
        service.timeout = d.timeout;
    }
    if wanted(Key::IdleTimeout) {
        service.idle_timeout = d.idle_timeout;
    }
    if wish.tcpd {
        // tcpd logged who came and who was turned away; so does the daemon, unless somebody says what to log.
        let unsaid = |key: Key| !wish.given.has(key) && !defaults.wish.given.has(key);
        if unsaid(Key::LogOnSuccess) {
            service.log_on_success = LogFields(LogFields::PID.0 | LogFields::HOST.0);
        }
        if unsaid(Key::LogOnFailure) {
            service.log_on_failure = LogFields(LogFields::HOST.0 | LogFields::ATTEMPT.0);
        }
    }
    if wanted(Key::MaxLoad) {
        service.max_load = d.max_load;
    }
    if wanted(Key::LogType) {
        service.log_type = d.log_type;
    }
    if wanted(Key::Cps) {
        service.cps = d.cps;
    }
    if service.cps.is_none() && service.dialect == Dialect::Xinetd {
        service.cps = Some(DEFAULT_CPS);
    }
}

/// A server that owns its socket takes its clients itself, past all rules but those that the kernel applies, and the
/// kernel knows no names.
fn addresses_alone<F: Files>(cx: &mut Context<'_, F>, i: usize, service: &Service) {
    let Context { say, table, .. } = cx;
    let rules = table.rules(service.only_from).iter().chain(table.rules(service.no_access));
    let named = rules.clone().find_map(|rule| match rule.pattern {
        Pattern::Name(name) => Some((name, rule.origin)),
        Pattern::Network(_) => None,
    });
    let Some((name, at)) = named else { return };
    let (name, id) = (Bytes(table.bytes(name)), Bytes(table.bytes(service.id)));
    let what = format_args!("`{name}` cannot be applied to {id}: its server takes its clients itself");
    let cure = format_args!("the kernel checks them and knows addresses only: write addresses");
    say.say(Severity::Error, table.bytes(at.file), at.line, 0, what, cure);
    if let Some(service) = table.services_mut().get_mut(i) {
        service.standing = Standing::Broken;
    }
}

/// Where services listen that do not say.
fn default_bind<F: Files>(cx: &mut Context<'_, F>, defaults: &Draft) -> Option<Target> {
    if defaults.wish.given.has(Key::Bind) && !defaults.wish.bind.is_empty() {
        let target = target(cx, defaults.wish.bind, defaults.wish.bind_at);
        cx.usable &= target.is_some();
        return target;
    }
    cx.options.bind.map(literal)
}

fn literal(address: IpAddr) -> Target {
    match plain(address) {
        address @ IpAddr::V4(_) => Target { v4: Some(address), ..Target::default() },
        address => Target { v6: Some(address), ..Target::default() },
    }
}

/// What a bind word means; a word that means nothing is reported.
fn target<F: Files>(cx: &mut Context<'_, F>, word: Text, spot: Spot) -> Option<Target> {
    let bytes = cx.table.bytes(word);
    if let Some(address) = core::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()) {
        return Some(literal(address));
    }
    let mut found = Target::default();
    let hosts = names::addresses_of(cx.files, cx.options.hosts, bytes, |address| {
        let slot = if address.is_ipv4() { &mut found.v4 } else { &mut found.v6 };
        slot.get_or_insert(address);
        true
    });
    let Context { say, table, files, options, .. } = cx;
    let bytes = table.bytes(word);
    let name = Bytes(bytes);
    let file = table.bytes(spot.file);
    let mut tell = |severity, what: fmt::Arguments<'_>, cure: fmt::Arguments<'_>| {
        say.say(severity, file, spot.line, spot.column, what, cure);
    };
    match hosts {
        Ok(true) => return Some(found),
        Ok(false) => {}
        Err(errno) => {
            let what = format_args!("cannot read {}: {errno}", Bytes(options.hosts));
            tell(Severity::Error, what, format_args!("write an address"));
            return None;
        }
    }
    if bytes.contains(&b'%') {
        let what = format_args!("`{name}`: an address with a scope cannot be bound by this version");
        tell(Severity::Error, what, format_args!("write the name of the interface alone"));
        return None;
    }
    let exists = interface_exists(*files, options.interfaces, bytes);
    if exists == Some(true) || (exists == Some(false) && may_appear(bytes)) {
        if exists == Some(false) {
            let what = format_args!("there is no interface `{name}` now");
            tell(Severity::Warning, what, format_args!("the service listens when it appears"));
        }
        return Some(Target { interface: Some(word), ..Target::default() });
    }
    let what = format_args!("`{name}` is no address, no name in {} and no interface", Bytes(options.hosts));
    tell(
        Severity::Error,
        what,
        format_args!("write an address such as 192.0.2.5, or the name of an interface"),
    );
    None
}

/// `None` for what cannot be the name of an interface.
fn interface_exists<F: Files>(files: &mut F, dir: &[u8], name: &[u8]) -> Option<bool> {
    /// IFNAMSIZ of Linux, without the NUL.
    const LONGEST: usize = 15;
    let fine = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'@');
    if name.len() > LONGEST || !name.iter().all(fine) || matches!(name, b"" | b"." | b"..") {
        return None;
    }
    let mut path = Vec::<u8, { 64 + LONGEST }>::new();
    path.extend_from_slice(dir).ok()?;
    path.push(b'/').ok()?;
    path.extend_from_slice(name).ok()?;
    Some(files.kind(&path).is_ok())
}

/// Whether an interface of this name may come: with a dot in it only as a VLAN (`eth0.100`), else it rather is the
/// name of a host that hosts(5) does not know.
fn may_appear(name: &[u8]) -> bool {
    match name.iter().position(|&b| b == b'.') {
        Some(dot) => {
            name.get(dot + 1..).is_some_and(|vlan| !vlan.is_empty() && vlan.iter().all(u8::is_ascii_digit))
        }
        None => true,
    }
}

/// Decides where service `i` listens, and with which family.
fn bind<F: Files>(
    cx: &mut Context<'_, F>,
    i: usize,
    service: &Service,
    wish: &Wish,
    default: Option<Target>,
    defaults: &Draft,
) {
    if service.family == Family::Unix {
        if service.bind == Bind::Everywhere
            && let Some(service) = cx.table.services_mut().get_mut(i)
        {
            service.bind = Bind::Path(wish.bind);
        }
        return;
    }
    let own = wish.given.has(Key::Bind);
    let target = match service.bind {
        // An entry of inetd.conf, resolved when it was read.
        Bind::Address(address) => Some(literal(address)),
        _ if own && wish.bind.is_empty() => None,
        _ if own => match target(cx, wish.bind, wish.bind_at) {
            Some(target) => Some(target),
            None => {
                if let Some(service) = cx.table.services_mut().get_mut(i) {
                    service.standing = Standing::Broken;
                }
                return;
            }
        },
        _ => default,
    };
    let v6only = service.dialect == Dialect::Xinetd && defaults.wish.v6only && !wish.given.has(Key::V6only);
    match place(wish, v6only, target) {
        Ok((bind, family)) => {
            if let Some(service) = cx.table.services_mut().get_mut(i) {
                service.bind = bind;
                service.family = family;
            }
        }
        Err(clash) => {
            let cure = format_args!("bind an address of the family that is asked for, or ask for the other");
            fail(cx, i, wish.bind_at, format_args!("{clash}"), cure);
        }
    }
}

/// An entry of inetd.conf whose server owns the socket and that names no family gets two sockets, as from OpenBSD's
/// inetd, not one for both: servers of that age read `struct sockaddr_in` and know nothing of mapped addresses. If the
/// table has no place for the other half, IPv4 alone is served.
fn pair(table: &mut Table) {
    for i in 0..table.services().len() {
        let Some(service) = table.services_mut().get_mut(i) else { return };
        if service.standing != Standing::Ready
            || service.dialect != Dialect::Inetd
            || service.family != Family::Dual
            || !service.is_owned_by_server()
        {
            continue;
        }
        service.family = Family::V4;
        let other = Service { family: Family::V6, flags: service.flags.with(Flags::IF_IPV6), ..*service };
        let _ = table.push_service(other);
    }
}

/// Where to listen and with which family. xinetd listened everywhere when the two did not agree.
fn place(wish: &Wish, default_v6only: bool, target: Option<Target>) -> Result<(Bind, Family), &'static str> {
    let only4 = wish.family == Some(Family::V4) || (wish.v4 && !wish.v6);
    let only6 = wish.family == Some(Family::V6) || wish.v6only;
    let wants6 = only6 || (wish.v6 && !wish.v4);
    if only4 && wants6 {
        return Err("IPv4 alone is asked for, and IPv6 too");
    }
    let open6 = if only6 || default_v6only { Family::V6 } else { Family::Dual };
    let Some(target) = target else {
        return Ok((Bind::Everywhere, if only4 { Family::V4 } else { open6 }));
    };
    if let Some(name) = target.interface {
        return Ok((Bind::Interface(name), if only4 { Family::V4 } else { open6 }));
    }
    // A name with both kinds of address means its IPv4 address unless IPv6 is asked for, as in xinetd.
    let address = if wants6 { target.v6 } else { target.v4.or(target.v6.filter(|_| !only4)) };
    match address {
        Some(address @ IpAddr::V4(_)) if address.is_unspecified() => Ok((Bind::Everywhere, Family::V4)),
        Some(address @ IpAddr::V4(_)) => Ok((Bind::Address(address), Family::V4)),
        Some(address) if address.is_unspecified() => Ok((Bind::Everywhere, open6)),
        Some(address) => Ok((Bind::Address(address), Family::V6)),
        None if wants6 => Err("an IPv4 address is bound, but IPv6 is asked for"),
        None => Err("an IPv6 address is bound, but IPv4 is asked for"),
    }
}

/// Looks up the groups of the user of service `i`.
fn groups<F: Files>(cx: &mut Context<'_, F>, i: usize, service: &Service, wish: &Wish) {
    let Some(uid) = service.identity.uid else { return };
    let mut gids = Vec::<u32, USER_GROUPS>::new();
    let mut fits = true;
    let looked_up = user_name(cx, uid, wish).and_then(|name| {
        // With another `group`, xinetd's initgroups(3) still adds the user's own from passwd(5); the inetds add the other.
        let user = match (&name, service.dialect) {
            (Some(name), Dialect::Xinetd) => cx.user_by_name(name)?,
            _ => None,
        };
        let _ = user.map(|user| user.gid).or(service.identity.gid).map(|gid| gids.push(gid));
        let Some(name) = name else { return Ok(()) };
        names::groups_of(cx.files, cx.options.group, &name, |gid| {
            fits &= gids.contains(&gid) || gids.push(gid).is_ok();
            fits
        })
    });
    if let Err(errno) = looked_up {
        let what = format_args!("cannot look up the groups of its user: {errno}");
        return fail(cx, i, Spot::default(), what, format_args!("write `groups = no`"));
    }
    if !fits {
        let what = format_args!("its user is in more than {USER_GROUPS} groups");
        return fail(cx, i, Spot::default(), what, format_args!("write `groups = no`"));
    }
    match cx.table.push_gids(&gids) {
        Ok(span) => {
            if let Some(service) = cx.table.services_mut().get_mut(i) {
                service.identity.groups = span;
            }
        }
        Err(full) => {
            fail(
                cx,
                i,
                Spot::default(),
                format_args!("no room for the groups of its user"),
                format_args!("{full}"),
            );
        }
    }
}

/// The login name, even where the file has the number. A number without a login has no groups but its own.
fn user_name<F: Files>(cx: &mut Context<'_, F>, uid: u32, wish: &Wish) -> Result<Option<names::Name>, Errno> {
    let user = cx.table.bytes(wish.user);
    if super::value::number::<u32>(user).is_none()
        && let Ok(name) = names::Name::from_slice(user)
    {
        return Ok(Some(name));
    }
    Ok(names::user_by_uid(cx.files, cx.options.passwd, uid)?.map(|user| user.name))
}

fn same_bind(table: &Table, a: &Service, b: &Service) -> bool {
    match (a.bind, b.bind) {
        (Bind::Interface(a), Bind::Interface(b)) | (Bind::Path(a), Bind::Path(b)) => {
            table.bytes(a) == table.bytes(b)
        }
        (a, b) => a == b,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overlap {
    /// The very same place.
    Same,
    /// One listens at an address, the other at all of them.
    Covers,
}

/// Whether two services cannot both listen.
fn overlap(table: &Table, earlier: &Service, later: &Service) -> Option<Overlap> {
    let (a, b) = (earlier, later);
    if a.flags.has(Flags::MUX) || b.flags.has(Flags::MUX) {
        let name = |service: &Service| table.bytes(service.name);
        let same =
            a.flags.has(Flags::MUX) && b.flags.has(Flags::MUX) && name(a).eq_ignore_ascii_case(name(b));
        return same.then_some(Overlap::Same);
    }
    if a.family == Family::Unix || b.family == Family::Unix {
        return (a.family == b.family && same_bind(table, a, b)).then_some(Overlap::Same);
    }
    if a.socket != b.socket || a.port != b.port || a.port == 0 {
        return None;
    }
    if matches!((a.family, b.family), (Family::V4, Family::V6) | (Family::V6, Family::V4)) {
        return None;
    }
    if same_bind(table, a, b) {
        return Some(Overlap::Same);
    }
    match (a.bind, b.bind) {
        // xinetd refuses this order for both kinds of socket.
        (Bind::Address(_), Bind::Everywhere) => Some(Overlap::Covers),
        // Datagrams go to the more precise of two sockets; two listening streams exclude each other.
        (Bind::Everywhere, Bind::Address(_)) if a.socket == SocketType::Stream => Some(Overlap::Covers),
        _ => None,
    }
}
