//! The end of a section: attributes that depend on each other are put together, whatever their order was.

#![forbid(unsafe_code)]

use super::attr::Key;
use super::diagnostic::{Bytes, Severity};
use super::draft::{Draft, Kind, Lists, Spot, Wish};
use super::source::Files;
use super::{Context, base_name, behind_tcpd, is_tcpd, rules};
use crate::capacity::{DRAFT_WORDS, STANDBYS};
use crate::names;
use crate::service::{
    Answer, Builtin, DenyTime, Dialect, Family, Flags, LogFields, Proxy, Service, SocketType, Standing,
};
use crate::table::{Full, Text};

/// The names of what the daemon answers itself, for people.
pub(super) const BUILTINS: &str = "echo, discard, chargen, daytime, time and tcpmux";

/// RFC 1078.
pub(super) const TCPMUX: &[u8] = b"tcpmux";
pub(super) const TCPMUX_PORT: u16 = 1;

/// The section has ended: what is missing is reported, what it needs of the system looked up, and the service goes
/// into the table with its wish. `None`: it is off, or there is no room for it.
pub(super) fn close<F: Files>(
    cx: &mut Context<'_, F>,
    mut draft: Draft,
    lists: &mut Lists,
) -> Option<(Service, Wish)> {
    let draft = &mut draft;
    if draft.service.id.is_empty() {
        draft.service.id = draft.service.name;
    }
    complete(cx, draft);
    if draft.disabled {
        return None;
    }
    if is_program(draft) {
        arguments(cx, draft, lists);
    }
    wrapping(cx, draft, lists);
    facts(cx, draft);
    let first = cx.line;
    let file = cx.file;
    rules::check(cx, &lists.only_from, &lists.no_access, |origin| {
        origin.file == file && origin.line >= first
    });
    let stored = store(cx, draft, lists);
    if let Err(full) = stored {
        cx.full(draft, 0, "the lists of this service", full);
    }
    draft.service.dialect = Dialect::Xinetd;
    draft.service.standing = if draft.broken { Standing::Broken } else { Standing::Ready };
    Some((draft.service, draft.wish))
}

/// Attributes that depend on each other, whatever their order was.
fn complete<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft) {
    let words = draft.kind == Kind::Words;
    if words && draft.socket.is_none() && draft.protocol.is_none_or(|p| p.socket.is_none()) {
        draft.socket = Some(SocketType::Stream);
    }
    let unix = draft.protocol.is_some_and(|p| p.family == Some(Family::Unix));
    let socket = match (draft.socket, draft.protocol.and_then(|p| p.socket)) {
        (Some(a), Some(b)) if a != b => {
            let what = format_args!("`socket_type` and `protocol` do not go together");
            cx.wrong(draft, 0, what, format_args!("stream goes with tcp, dgram with udp"));
            None
        }
        (None, None) => {
            // A mistake in either was reported already.
            if !draft.has(Key::SocketType) && (unix || !draft.has(Key::Protocol)) {
                missing(cx, draft, "socket_type", "stream");
            }
            None
        }
        (a, b) => a.or(b),
    };
    draft.service.socket = socket.unwrap_or_default();
    if unix {
        draft.service.family = Family::Unix;
        unix_socket(cx, draft);
    } else {
        if draft.mux.is_none() {
            port(cx, draft, socket);
        }
        for (key, name) in [
            (Key::SocketMode, "socket_mode"),
            (Key::SocketUser, "socket_user"),
            (Key::SocketGroup, "socket_group"),
        ] {
            if draft.has(key) {
                let what =
                    format_args!("`{name}` has no effect on {} sockets", draft.service.protocol_name());
                cx.warning(0, what, format_args!("it is for `protocol = unix`"));
            }
        }
    }
    answer(cx, draft, socket);
    let program = is_program(draft);
    if !draft.has(Key::Wait) && !words {
        missing(cx, draft, "wait", if socket == Some(SocketType::Dgram) { "yes" } else { "no" });
    }
    if socket == Some(SocketType::Dgram) && program && !draft.service.waits() && draft.has(Key::Wait) && !unix
    {
        let what = format_args!("a datagram server owns its socket: `wait = no` is taken as yes");
        cx.warning(0, what, format_args!("write `wait = yes`"));
    }
    if socket == Some(SocketType::Dgram) && program {
        draft.flag(Flags::WAIT, true);
    }
    peers(cx, draft, socket);
    if socket == Some(SocketType::Dgram) || (draft.service.waits() && program) {
        // Nobody is connected to the daemon that could be sent one; those of `defaults` are for the others.
        for (key, name) in [
            (Key::Banner, "banner"),
            (Key::BannerSuccess, "banner_success"),
            (Key::BannerFail, "banner_fail"),
        ] {
            if draft.has(key) {
                let what = format_args!("`{name}` has no effect on this service");
                cx.warning(0, what, format_args!("banners are for stream services with `wait = no`"));
            }
        }
        let service = &mut draft.service;
        [service.banner, service.banner_success, service.banner_fail] = [Text::default(); 3];
    }
    ahead(cx, draft);
    stay(cx, draft);
}

/// Servers that are started ahead, and who is told who comes.
fn ahead<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft) {
    if draft.service.standby > 0 {
        let is_fit = is_program(draft) && !draft.service.is_owned_by_server() && draft.mux.is_none();
        if !is_fit {
            let what = format_args!("`standby` has no effect on this service");
            let cure = "it is for programs with `wait = no` and a port of their own: leave it out";
            cx.warning(0, what, format_args!("{cure}"));
            draft.service.standby = 0;
        } else if draft.service.flags.has(Flags::EXPAND) {
            let what = format_args!("`standby` and `expand` do not go together");
            let cure = "its server is started before its client is known: leave one of the two out";
            cx.wrong(draft, 0, what, format_args!("{cure}"));
        } else if usize::from(draft.service.standby) > STANDBYS {
            let full = Full { capacity: "STANDBYS", value: STANDBYS };
            cx.full(draft, 0, "this many standby servers", full);
        }
    }
    let is_told = draft.service.standby > 0 || draft.has(Key::Redirect);
    if draft.service.proxy != Proxy::No && !is_told {
        let what = format_args!("`proxy` needs `standby` or `redirect`");
        let cure = format_args!("a server that is given its client's connection can ask for his address");
        cx.wrong(draft, 0, what, cure);
    }
}

/// How long clients and servers may stay, where the daemon can tell.
fn stay<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft) {
    let service = &draft.service;
    let is_owned = service.is_owned_by_server();
    let has_sessions = service.socket == SocketType::Stream && !matches!(service.answer, Answer::Sensor(_));
    let is_kept = service.flags.has(Flags::KEEP);
    // Of other sockets that a server owns the kernel does not say when something was taken from them.
    let is_seen = is_owned && service.socket == SocketType::Dgram && service.family != Family::Unix;
    if draft.has(Key::Timeout) && !has_sessions && !is_owned {
        let what = format_args!("`timeout` has no effect on this service");
        cx.warning(0, what, format_args!("nobody stays with it: leave it out"));
    }
    if draft.has(Key::IdleTimeout) && draft.service.idle_timeout > 0 {
        let what = format_args!("`idle_timeout` has no effect on this service");
        if is_owned && is_kept {
            cx.warning(0, what, format_args!("leave it out, or `keep`, by which the server stays"));
        } else if is_owned && !is_seen {
            let cure = "the connections that its server takes do not pass the daemon: write `timeout`";
            cx.warning(0, what, format_args!("{cure}"));
        } else if !is_owned && is_program(draft) && draft.service.standby == 0 {
            let cure = "what its program sends does not pass the daemon: write `timeout`, or `standby`";
            let cure = format_args!("{cure}");
            cx.warning(0, what, cure);
        } else if !is_owned && !has_sessions {
            cx.warning(0, what, format_args!("nobody stays with it: leave it out"));
        }
    }
    if is_owned && !is_seen {
        draft.service.idle_timeout = 0;
    }
    if is_kept && !is_owned {
        let what = format_args!("`keep` has no effect on this service");
        cx.warning(0, what, format_args!("it is for programs with `wait = yes`: leave it out"));
        draft.flag(Flags::KEEP, false);
    }
}

fn missing<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, name: &str, example: &str) {
    cx.wrong(
        draft,
        0,
        format_args!("`{name}` is missing"),
        format_args!("add a line such as `{name} = {example}`"),
    );
}

fn unix_socket<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft) {
    if !cx.table.bytes(draft.wish.bind).starts_with(b"/") {
        let what = format_args!("a unix socket needs a path");
        cx.wrong(draft, 0, what, format_args!("add a line such as `bind = /run/NAME.sock`"));
    }
    if draft.has(Key::Port) {
        let what = format_args!("a unix socket has no `port`");
        cx.wrong(draft, 0, what, format_args!("leave it out"));
    }
    draft.flag(Flags::UNLISTED, true);
}

fn port<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, socket: Option<SocketType>) {
    if draft.kind == Kind::Words && draft.has(Key::Port) {
        draft.flag(Flags::UNLISTED, true);
    }
    draft.service.port = draft.port.unwrap_or_default();
    if draft.service.flags.has(Flags::UNLISTED) {
        if !draft.has(Key::Port) {
            missing(cx, draft, "port", "10080");
        }
        return;
    }
    let Some(socket) = socket.filter(|_| !draft.disabled) else { return };
    let path = cx.options.services;
    let name = draft.service.name;
    let found = names::port_of(cx.files, path, cx.table.bytes(name), socket);
    match (found, draft.port) {
        (Ok(Some(found)), Some(port)) if found.number != port => {
            draft.broken = true;
            let Context { say, table, file, line, .. } = cx;
            say.say(
                Severity::Error,
                table.bytes(*file),
                *line,
                0,
                format_args!(
                    "services(5) gives {} port {}, not {port}",
                    Bytes(table.bytes(name)),
                    found.number
                ),
                format_args!("add `type = UNLISTED`, or write `port = {}`", found.number),
            );
        }
        (Ok(Some(found)), _) => draft.service.port = found.number,
        (Ok(None), _) => {
            draft.broken = true;
            let Context { say, table, file, line, .. } = cx;
            let (name, protocol) = (Bytes(table.bytes(name)), draft.service.protocol_name());
            say.say(
                Severity::Error,
                table.bytes(*file),
                *line,
                0,
                format_args!("there is no {name} for {protocol} in {}", Bytes(path)),
                format_args!(
                    "add `type = UNLISTED` and a port, or the line `{name} PORT/{protocol}` to that file"
                ),
            );
        }
        (Err(errno), _) => cx.unreadable(draft, 0, path, errno),
    }
}

/// Whether a program is meant to answer.
fn is_program(draft: &Draft) -> bool {
    !draft.internal && !draft.sensor && !draft.has(Key::Redirect)
}

/// What answers, of which there can be one.
fn answer<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, socket: Option<SocketType>) {
    let wanted = [
        (draft.sensor, "SENSOR"),
        // The manual of xinetd says that a sensor is internal, so it may say so itself.
        (draft.internal && !draft.sensor, "INTERNAL"),
        (draft.has(Key::Redirect), "redirect"),
        (draft.mux.is_some(), "TCPMUX"),
    ];
    let mut wanted = wanted.into_iter().filter(|(is, _)| *is).map(|(_, name)| name);
    let first = wanted.next();
    if let (Some(a), Some(b)) = (first, wanted.next()) {
        let what = format_args!("`{a}` and `{b}` do not go together");
        cx.wrong(draft, 0, what, format_args!("a service is answered in one way: leave one of the two out"));
    }
    if draft.sensor {
        sensor(cx, draft, socket);
    } else if draft.internal {
        builtin(cx, draft, socket);
    } else if draft.has(Key::Redirect) {
        redirect(cx, draft, socket);
    } else {
        if !draft.has(Key::Server) {
            missing(cx, draft, "server", "/PATH");
        }
        if !draft.has(Key::User) && draft.kind != Kind::Words {
            missing(cx, draft, "user", "nobody");
        }
    }
    if let Some(plus) = draft.mux {
        mux(cx, draft, socket, plus);
    }
    if !is_program(draft) && draft.has(Key::Server) {
        let kind = first.unwrap_or_default();
        let what = format_args!("`server` has no effect on a service with {kind}");
        cx.warning(0, what, format_args!("leave one of the two out"));
    }
    if draft.has(Key::DenyTime) && !draft.sensor {
        let what = format_args!("`deny_time` has no effect without the flag SENSOR");
        cx.warning(0, what, format_args!("leave it out, or add `flags = SENSOR`"));
    }
}

/// Whoever comes to a sensor is kept out. The sender of a datagram is not: anybody can write any address into one, and
/// would decide by it who is shut out.
fn sensor<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, socket: Option<SocketType>) {
    if socket == Some(SocketType::Dgram) && draft.deny_time != DenyTime::Never {
        let what = format_args!("anybody can send datagrams with any address: this sensor keeps nobody out");
        cx.warning(0, what, format_args!("its clients are recorded; write `deny_time = NEVER`"));
        draft.deny_time = DenyTime::Never;
    }
    draft.service.answer = Answer::Sensor(draft.deny_time);
}

/// As in xinetd it goes before `server`.
fn redirect<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, socket: Option<SocketType>) {
    if socket == Some(SocketType::Dgram) {
        let what = format_args!("`redirect` is for stream services");
        cx.wrong(draft, 0, what, format_args!("datagrams cannot be handed on: leave it out"));
    } else if draft.service.waits() {
        let what = format_args!("`redirect` does not go with `wait = yes`");
        cx.wrong(draft, 0, what, format_args!("the daemon takes each connection itself: write `wait = no`"));
    }
    if let Some(target) = draft.redirect {
        draft.service.answer = Answer::Redirect(target);
    }
}

/// A service that tcpmux leads to has no socket of its own. xinetd demands UNLISTED as well, and refuses the sample of
/// its own manual, which has it not.
fn mux<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, socket: Option<SocketType>, plus: bool) {
    if socket == Some(SocketType::Dgram) || draft.service.family == Family::Unix {
        let what = format_args!("tcpmux leads to stream services of TCP alone");
        cx.wrong(draft, 0, what, format_args!("write `socket_type = stream` and `protocol = tcp`"));
    }
    if draft.service.waits() {
        let what = format_args!("tcpmux does not lead to services with `wait = yes`");
        cx.wrong(draft, 0, what, format_args!("tcpmux takes each connection itself: write `wait = no`"));
    }
    for (key, name) in [(Key::Port, "port"), (Key::Bind, "bind")] {
        if draft.has(key) {
            let what = format_args!("`{name}` has no effect on a service that tcpmux leads to");
            cx.warning(0, what, format_args!("leave it out; it is that of the service `tcpmux`"));
        }
    }
    draft.flag(Flags::MUX, true);
    draft.flag(Flags::MUX_PLUS, plus);
    draft.flag(Flags::UNLISTED, true);
}

/// Flags about each client of a service.
fn peers<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, socket: Option<SocketType>) {
    let owned = draft.service.waits() && is_program(draft);
    let stream = socket != Some(SocketType::Dgram) && draft.service.family != Family::Unix;
    if draft.service.flags.has(Flags::IDONLY) && (owned || !stream) {
        let what = format_args!("IDONLY is for stream services of TCP with `wait = no`");
        let cure = format_args!("nobody else can be asked for: leave it out, and use only_from");
        cx.wrong(draft, 0, what, cure);
    }
    if draft.intercept && !owned {
        let what = format_args!("INTERCEPT has no effect on this service");
        cx.warning(0, what, format_args!("each of its clients is checked anyway: leave it out"));
    }
}

/// Facts that the section itself wants recorded, and that nobody can know of this service. Those of `defaults` are for
/// the others.
fn facts<F: Files>(cx: &mut Context<'_, F>, draft: &Draft) {
    let service = &draft.service;
    let stream = service.socket == SocketType::Stream;
    let counted = match service.answer {
        Answer::Redirect(_) => true,
        Answer::Program => service.standby > 0,
        Answer::Builtin(_) => stream,
        _ => false,
    };
    let mut warn = |at: Spot, what: &str, cure: &str| {
        let file = cx.table.bytes(at.file);
        let (what, cure) = (format_args!("{what}"), format_args!("{cure}"));
        cx.say.say(Severity::Warning, file, at.line, at.column, what, cure);
    };
    let at = draft.traffic_at;
    if at.line > 0 && !counted && service.log_on_success.has(LogFields::TRAFFIC) {
        let what = "TRAFFIC is recorded of `redirect`, `standby` and of built-in stream services alone";
        warn(at, what, "leave it out: what a program sends does not pass the daemon");
    }
    let at = draft.userid_at;
    let wanted =
        service.log_on_success.has(LogFields::USERID) || service.log_on_failure.has(LogFields::USERID);
    if at.line > 0 && wanted && (!stream || service.is_owned_by_server()) {
        let what = "USERID is recorded of connections that the daemon itself takes alone";
        warn(at, what, "leave it out: there is nobody to ask who this service's clients are");
    }
}

/// Whether hosts.allow and hosts.deny apply, and to which name.
fn wrapping<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, lists: &Lists) {
    if draft.wish.tcpd {
        // tcpd asked whatever xinetd was told.
        draft.flag(Flags::LIBWRAP, true);
    } else if draft.unwrapped {
        if draft.has(Key::Libwrap) && draft.service.flags.has(Flags::LIBWRAP) {
            let what = format_args!("`libwrap` has no effect with the flag NOLIBWRAP");
            cx.warning(0, what, format_args!("leave one of the two out"));
        }
        draft.flag(Flags::LIBWRAP, false);
    }
    if !draft.service.daemon.is_empty() {
        return;
    }
    draft.service.daemon = match lists.args.first() {
        Some(argv0) if is_program(draft) && draft.service.flags.has(Flags::NAME_IN_ARGS) => {
            base_name(cx.table, *argv0)
        }
        _ if is_program(draft) => base_name(cx.table, draft.service.program),
        _ => draft.service.name,
    };
}

fn builtin<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, socket: Option<SocketType>) {
    let name = cx.table.bytes(draft.service.name);
    let own = cx.options.own.iter().position(|own| own.eq_ignore_ascii_case(name));
    if let Some(own) = own.and_then(|own| u8::try_from(own).ok()) {
        draft.service.answer = Answer::Own(own);
        if socket == Some(SocketType::Dgram) || draft.service.waits() {
            let what = format_args!("the firmware's own services are for streams with `wait = no`");
            cx.wrong(draft, 0, what, format_args!("write `socket_type = stream` and `wait = no`"));
        }
        return;
    }
    let by_name = Builtin::by_name(name);
    let mux = name.eq_ignore_ascii_case(TCPMUX) || (by_name.is_none() && draft.service.port == TCPMUX_PORT);
    if mux && socket != Some(SocketType::Dgram) {
        draft.service.answer = Answer::Tcpmux;
        return;
    }
    match by_name.or_else(|| Builtin::by_port(draft.service.port)) {
        Some(builtin) => draft.service.answer = Answer::Builtin(builtin),
        None => {
            draft.broken = true;
            let severity = if draft.disabled { Severity::Warning } else { Severity::Error };
            cx.say.say(
                severity,
                cx.table.bytes(cx.file),
                cx.line,
                0,
                format_args!("no such internal service: {}", Bytes(name)),
                format_args!("there are {BUILTINS}"),
            );
        }
    }
}

/// argv: with argv[0] in front unless the arguments have it.
fn arguments<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, lists: &mut Lists) {
    let name = base_name(cx.table, draft.service.program);
    if is_tcpd(cx.table.bytes(name)) {
        return stand_in(cx, draft, lists);
    }
    if draft.service.flags.has(Flags::NAME_IN_ARGS) {
        if lists.args.is_empty() {
            let what = format_args!("NAMEINARGS, but `server_args` has no argv[0]");
            let cure = format_args!("write the program's name as its first word, or leave the flag out");
            cx.wrong(draft, 0, what, cure);
        }
    } else if lists.args.insert(0, name).is_err() {
        let full = Full { capacity: "DRAFT_WORDS", value: DRAFT_WORDS };
        cx.full(draft, 0, "this many arguments", full);
    }
}

/// The program behind tcpd is started at once; what tcpd does, the daemon does.
fn stand_in<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, lists: &Lists) {
    draft.wish.tcpd = true;
    if !draft.service.flags.has(Flags::NAME_IN_ARGS) {
        let what = format_args!(
            "without the flag NAMEINARGS tcpd would start itself for ever; taken as if it were there"
        );
        cx.warning(0, what, format_args!("add `flags = NAMEINARGS`"));
        draft.flag(Flags::NAME_IN_ARGS, true);
    }
    let argv0 = lists.args.first().copied().unwrap_or_default();
    match behind_tcpd(cx.table, argv0) {
        Ok(Ok(program)) => draft.service.program = program,
        Ok(Err(what)) => {
            let cure = format_args!("write the program as the first word of `server_args`");
            return cx.wrong(draft, 0, format_args!("{what}"), cure);
        }
        Err(full) => return cx.full(draft, 0, "the path of a program", full),
    }
    let Context { table, files, say, file, line, .. } = cx;
    let program = table.bytes(draft.service.program);
    if let Err(errno) = files.executable(program) {
        draft.broken = true;
        let what = format_args!("cannot execute {}: {errno}", Bytes(program));
        let cure = format_args!("install the program, or write `disable = yes`");
        say.say(Severity::Error, table.bytes(*file), *line, 0, what, cure);
    }
}

fn store<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, lists: &Lists) -> Result<(), Full> {
    let service = &mut draft.service;
    service.argv = cx.table.push_words(&lists.args)?;
    service.env = cx.table.push_words(&lists.env)?;
    service.passenv = cx.table.push_words(&lists.passenv)?;
    service.only_from = cx.table.push_rules(&lists.only_from)?;
    service.no_access = cx.table.push_rules(&lists.no_access)?;
    service.access_times = cx.table.push_times(&lists.times)?;
    Ok(())
}
