//! The end of a section: attributes that depend on each other are put together, whatever their order was.

#![forbid(unsafe_code)]

use super::Context;
use super::attr::Key;
use super::diagnostic::{Bytes, Severity};
use super::draft::{Draft, Kind, Lists, Wish};
use super::source::Files;
use crate::capacity::DRAFT_WORDS;
use crate::names;
use crate::service::{Answer, Builtin, Dialect, Family, Flags, Service, SocketType, Standing};
use crate::table::{Full, Text};

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
    if !draft.internal {
        arguments(cx, draft, lists);
    }
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
        port(cx, draft, socket);
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
    if draft.internal {
        builtin(cx, draft);
    } else {
        if !draft.has(Key::Server) && !draft.has(Key::Redirect) {
            missing(cx, draft, "server", "/PATH");
        }
        if !draft.has(Key::User) && !words {
            missing(cx, draft, "user", "nobody");
        }
    }
    if !draft.has(Key::Wait) && !words {
        missing(cx, draft, "wait", if socket == Some(SocketType::Dgram) { "yes" } else { "no" });
    }
    if socket == Some(SocketType::Dgram)
        && !draft.internal
        && !draft.service.waits()
        && draft.has(Key::Wait)
        && !unix
    {
        let what = format_args!("a datagram server owns its socket: `wait = no` is taken as yes");
        cx.warning(0, what, format_args!("write `wait = yes`"));
    }
    if socket == Some(SocketType::Dgram) && !draft.internal {
        draft.flag(Flags::WAIT, true);
    }
    if socket == Some(SocketType::Dgram) || (draft.service.waits() && !draft.internal) {
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

fn builtin<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft) {
    let name = cx.table.bytes(draft.service.name);
    match Builtin::by_name(name).or_else(|| Builtin::by_port(draft.service.port)) {
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
                format_args!("there are echo, discard, chargen, daytime and time"),
            );
        }
    }
    if draft.has(Key::Server) {
        let what = format_args!("`server` has no effect on an INTERNAL service");
        cx.warning(0, what, format_args!("leave one of the two out"));
    }
}

/// argv: with argv[0] in front unless the arguments have it.
fn arguments<F: Files>(cx: &mut Context<'_, F>, draft: &mut Draft, lists: &mut Lists) {
    let program = cx.table.bytes(draft.service.program);
    let base = program.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let name = cx.table.tail(draft.service.program, base);
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
