//! Entries of inetd.conf(5): a [record](super::inetd::Record) becomes a service for each of its addresses.

#![forbid(unsafe_code)]

use core::fmt;
use core::net::IpAddr;

use heapless::Vec;

use super::attr::Key;
use super::close::{BUILTINS, TCPMUX, TCPMUX_PORT};
use super::diagnostic::{Bytes, Severity};
use super::draft::Wish;
use super::inetd::{
    self, Account, Address, Addresses, At, Family as Suffix, Line as Entry, Program, Record,
    Service as Which, Socket, Transport, Weight,
};
use super::lines::Line;
use super::read::{BOM, Frame, Step, TOO_LONG, resolve_pattern};
use super::source::Files;
use super::value::number;
use super::{Context, Loader, base_name, behind_tcpd, is_tcpd, settle};
use crate::capacity::{DRAFT_WORDS, SERVICES};
use crate::errno::Errno;
use crate::names;
use crate::service::{Answer, Bind, Builtin, Dialect, Family, Flags, Service, SocketType, Standing};
use crate::table::{Full, Text};

/// What stands in front of the name of an entry behind tcpmux.
const MUX_PREFIX: &[u8] = b"tcpmux/";

/// Longest list of addresses of a default line.
const LIST_BYTES: usize = 1024;

impl Loader {
    /// Reads entries up to the end of the file or an include directive.
    pub(super) fn inetd<F: Files>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: &mut Frame<F::Handle>,
    ) -> Result<Step, Errno> {
        loop {
            let mut line = frame.next_line(&mut self.lines, cx)?;
            let first = frame.line;
            let wanted = |text: &[u8], next: &[u8]| inetd::needs_more(text) || inetd::continues(text, next);
            while line == Some(Line::Whole) {
                match self.lines.join(cx.files, &frame.source, wanted)? {
                    None => break,
                    joined => line = joined,
                }
                frame.line = frame.line.saturating_add(1);
            }
            cx.line = first;
            match line {
                None => return Ok(Step::End),
                Some(Line::TooLong) => {
                    cx.complete = false;
                    let what = format_args!("the line is longer than {} bytes", TOO_LONG.1);
                    cx.error(0, what, format_args!("part it; or build with USHERD_{}", TOO_LONG.0));
                    continue;
                }
                Some(Line::Whole) => {}
            }
            let mut text = self.lines.text();
            if first == 1 {
                text = text.strip_prefix(BOM).unwrap_or(text);
            }
            let mut from = 0;
            loop {
                let parsed = inetd::parse(text, from, &mut |problem| {
                    let severity = match problem.weight() {
                        Weight::Note if !cx.options.notes => return,
                        Weight::Note | Weight::Warning => Severity::Warning,
                        Weight::Error => Severity::Error,
                    };
                    let place = inetd::place(text, problem.column);
                    let (what, cure) = (problem.what(), problem.cure());
                    let (file, line) = (cx.table.bytes(cx.file), first.saturating_add(place.line));
                    cx.say.say(
                        severity,
                        file,
                        line,
                        place.column,
                        format_args!("{what}"),
                        format_args!("{cure}"),
                    );
                });
                let mut reading = Reading { cx, text, first, broken: false };
                match parsed.line {
                    Entry::Nothing | Entry::Policy { .. } => {}
                    Entry::Record(record) => reading.record(&record, frame.addresses, &mut self.wishes),
                    Entry::Broken(broken) => {
                        if text.trim_ascii().ends_with(b":") {
                            // A default line: what it was to limit must not listen where it did not want to.
                            frame.addresses = reading.nowhere();
                        }
                        reading.broken(broken.service, &mut self.wishes);
                    }
                    Entry::DefaultAddress(addresses) => {
                        frame.addresses = reading.default_addresses(addresses)
                    }
                    Entry::Include { pattern, column } => {
                        if let Some(step) = reading.include(pattern, column) {
                            return Ok(step);
                        }
                    }
                }
                if parsed.next >= text.len() || parsed.next <= from {
                    break;
                }
                from = parsed.next;
            }
        }
    }
}

/// A logical line, and what its entries are looked up with.
struct Reading<'r, 'c, 't, F: Files> {
    cx: &'r mut Context<'c, F>,
    text: &'t [u8],
    /// Its first physical line.
    first: u32,
    /// An error was reported for the entry.
    broken: bool,
}

impl<F: Files> Reading<'_, '_, '_, F> {
    fn say(&mut self, severity: Severity, column: u32, what: fmt::Arguments<'_>, cure: fmt::Arguments<'_>) {
        let place = inetd::place(self.text, column);
        let line = self.first.saturating_add(place.line);
        self.cx.say.say(severity, self.cx.table.bytes(self.cx.file), line, place.column, what, cure);
    }

    fn wrong(&mut self, column: u32, what: fmt::Arguments<'_>, cure: fmt::Arguments<'_>) {
        self.broken = true;
        self.say(Severity::Error, column, what, cure);
    }

    fn warning(&mut self, column: u32, what: fmt::Arguments<'_>, cure: fmt::Arguments<'_>) {
        self.say(Severity::Warning, column, what, cure);
    }

    fn full(&mut self, column: u32, full: Full) {
        self.wrong(column, format_args!("no room for this entry"), format_args!("{full}"));
    }

    fn put(&mut self, column: u32, bytes: &[u8]) -> Text {
        self.cx.table.push_text(bytes).unwrap_or_else(|full| {
            self.full(column, full);
            Text::default()
        })
    }

    fn put_word(&mut self, word: inetd::Word<'_>) -> Text {
        self.cx.table.push_bytes(word.bytes()).unwrap_or_else(|full| {
            self.full(word.column, full);
            Text::default()
        })
    }

    fn not_supported(&mut self, column: u32, what: &str) {
        let cure = format_args!("the entry is kept from starting; the others are not touched");
        self.wrong(column, format_args!("{what} not supported by this version"), cure);
    }

    /// An entry whose line has mistakes: enough of it to find its running predecessor.
    fn broken(&mut self, service: Option<At<Which<'_>>>, wishes: &mut Vec<Wish, SERVICES>) {
        let Some(service) = service else {
            self.cx.complete = false;
            return;
        };
        let name = self.name(service);
        let service = Service { standing: Standing::Broken, ..self.base(service.value, name) };
        // Where it wanted to listen is not looked at.
        settle::push(wishes, self.cx, service, Wish::default());
    }

    /// What all entries have in common. One behind tcpmux has its whole first word for an id, so that logs do not
    /// take it for the service that has that name on a port.
    fn base(&self, which: Which<'_>, id: Text) -> Service {
        let name = match which {
            Which::Mux { .. } => self.cx.table.tail(id, MUX_PREFIX.len()),
            _ => id,
        };
        Service {
            name,
            id,
            file: self.cx.file,
            line: self.first,
            dialect: Dialect::Inetd,
            flags: Flags::NAME_IN_ARGS,
            ..Service::default()
        }
    }

    /// What the service is called, which is also what logs know it by.
    fn name(&mut self, service: At<Which<'_>>) -> Text {
        match service.value {
            Which::Name(name) | Which::Rpc { name, .. } => self.put(service.column, name),
            Which::Mux { name, .. } => {
                let name = MUX_PREFIX.iter().chain(name).copied();
                self.cx.table.push_bytes(name).unwrap_or_else(|full| {
                    self.full(service.column, full);
                    Text::default()
                })
            }
            Which::Path { path, .. } => self.put(service.column, path),
            Which::Port(port) => {
                let digits = [10_000, 1000, 100, 10, 1].map(|unit| b'0' + (port / unit % 10) as u8);
                let zeros = digits.iter().take(4).take_while(|&&digit| digit == b'0').count();
                self.put(service.column, digits.get(zeros..).unwrap_or(&[]))
            }
        }
    }

    fn record(&mut self, record: &Record<'_>, default: Text, wishes: &mut Vec<Wish, SERVICES>) {
        if !record.enabled {
            return;
        }
        self.cx.line = inetd::place(self.text, record.column).line.saturating_add(self.first);
        let name = self.name(record.service);
        let mut service = self.base(record.service.value, name);
        service.line = self.cx.line;
        let mut wish = Wish::default();
        self.socket(record, &mut service, &mut wish);
        self.service(record, &mut service);
        self.program(record, &mut service, &mut wish);
        self.wrapping(&mut service, &wish);
        if let (Answer::Program, Some(account)) = (service.answer, record.account) {
            self.account(account, &mut service, &mut wish);
        }
        self.limits(record, &mut service);
        if self.broken {
            service.standing = Standing::Broken;
        }
        // One behind tcpmux has no socket either that could be at an address.
        if service.family == Family::Unix || service.flags.has(Flags::MUX) {
            return settle::push(wishes, self.cx, service, wish);
        }
        match record.addresses {
            Some(addresses) => self.each_address(addresses, service, wish, true, wishes),
            None if default.is_empty() => settle::push(wishes, self.cx, service, wish),
            None => {
                // What is wrong with the default line was reported there.
                // Longer ones were refused there.
                match Vec::<u8, LIST_BYTES>::from_slice(self.cx.table.bytes(default)) {
                    Ok(list) => self.each_address(Addresses::new(&list, 0), service, wish, false, wishes),
                    Err(_) => self.cx.usable = false,
                }
            }
        }
    }

    fn socket(&mut self, record: &Record<'_>, service: &mut Service, wish: &mut Wish) {
        service.socket = match record.socket.value {
            Socket::Stream => SocketType::Stream,
            Socket::Dgram => SocketType::Dgram,
            Socket::Raw | Socket::Rdm | Socket::Seqpacket => {
                self.not_supported(record.socket.column, "this socket type is");
                SocketType::Stream
            }
        };
        let protocol = record.protocol.value;
        if protocol.rpc {
            self.not_supported(record.protocol.column, "RPC services are");
        }
        if protocol.transport == Transport::Unix {
            service.family = Family::Unix;
        }
        match protocol.family {
            Suffix::Unsaid => {}
            Suffix::V4 => wish.family = Some(Family::V4),
            Suffix::V6 => wish.family = Some(Family::V6),
            Suffix::Dual => (wish.v4, wish.v6) = (true, true),
        }
        service.send_buffer = record.send_buffer.map_or(0, |b| b.value);
        service.receive_buffer = record.receive_buffer.map_or(0, |b| b.value);
        if record.wait.value {
            service.flags = service.flags.with(Flags::WAIT);
        }
    }

    /// Port or path.
    fn service(&mut self, record: &Record<'_>, service: &mut Service) {
        let column = record.service.column;
        match record.service.value {
            Which::Port(port) => {
                service.port = port;
                service.flags = service.flags.with(Flags::UNLISTED);
            }
            Which::Name(name) => {
                let path = self.cx.options.services;
                match names::port_of(self.cx.files, path, name, service.socket) {
                    Ok(Some(port)) => service.port = port.number,
                    Ok(None) => {
                        let (name, protocol) = (Bytes(name), service.protocol_name());
                        let what = format_args!("there is no {name} for {protocol} in {}", Bytes(path));
                        let cure = format_args!(
                            "write the port, or add the line `{name} PORT/{protocol}` to that file"
                        );
                        self.wrong(column, what, cure);
                    }
                    Err(errno) => self.unreadable(column, path, errno),
                }
            }
            Which::Rpc { .. } if record.protocol.value.rpc => {}
            Which::Rpc { .. } => self.not_supported(column, "RPC services are"),
            Which::Mux { plus, .. } => {
                service.flags = service.flags.with(Flags::MUX).with(Flags::UNLISTED);
                if plus {
                    service.flags = service.flags.with(Flags::MUX_PLUS);
                }
                if service.waits() {
                    let what = format_args!("tcpmux does not lead to services that wait");
                    let cure = format_args!("tcpmux takes each connection itself: write nowait");
                    self.wrong(record.wait.column, what, cure);
                }
                if let Some(addresses) = record.addresses {
                    let what = format_args!("a service behind tcpmux has no address");
                    let cure =
                        format_args!("remove what stands in front of it; it is that of the entry tcpmux");
                    self.warning(addresses.column, what, cure);
                }
            }
            Which::Path { path, node } => {
                service.bind = Bind::Path(self.put(column, path));
                service.flags = service.flags.with(Flags::UNLISTED);
                if let Some(node) = node {
                    service.node_mode = node.mode.map(|mode| mode.value);
                    service.node_uid = node.user.and_then(|user| self.user(user)).map(|user| user.uid);
                    service.node_gid = node.group.and_then(|group| self.group(group));
                }
            }
        }
    }

    fn program(&mut self, record: &Record<'_>, service: &mut Service, wish: &mut Wish) {
        let path = match record.program {
            Program::Internal { column } => return self.builtin(record, column, service),
            Program::Path(path) => path,
        };
        service.program = self.put_word(path);
        if service.socket == SocketType::Dgram && !service.waits() {
            let what = format_args!("a datagram server owns its socket: nowait is taken as wait");
            self.warning(record.wait.column, what, format_args!("write wait"));
            service.flags = service.flags.with(Flags::WAIT);
        }
        let mut argv = Vec::<Text, DRAFT_WORDS>::new();
        for word in record.args {
            let text = self.put_word(word);
            if argv.push(text).is_err() {
                return self.full(word.column, Full { capacity: "DRAFT_WORDS", value: DRAFT_WORDS });
            }
        }
        let name = base_name(self.cx.table, service.program);
        if argv.is_empty() {
            let _ = argv.push(name);
        }
        let mut column = path.column;
        if is_tcpd(self.cx.table.bytes(name)) {
            wish.tcpd = true;
            let mut args = record.args;
            column = args.next().map_or(column, |word| word.column);
            match behind_tcpd(self.cx.table, argv.first().copied().unwrap_or_default()) {
                Ok(Ok(program)) => service.program = program,
                Ok(Err(what)) => {
                    let cure = format_args!("write the program behind it, as in `/usr/sbin/tcpd in.telnetd`");
                    return self.wrong(column, format_args!("{what}"), cure);
                }
                Err(full) => return self.full(column, full),
            }
        }
        let program = self.cx.table.bytes(service.program);
        if program.starts_with(b"/")
            && let Err(errno) = self.cx.files.executable(program)
        {
            let what = format_args!("cannot execute this now: {errno}");
            self.warning(column, what, format_args!("install the program, or make the line a comment"));
        }
        match self.cx.table.push_words(&argv) {
            Ok(span) => service.argv = span,
            Err(full) => self.full(path.column, full),
        }
    }

    /// Whether hosts.allow and hosts.deny apply, and to which name: where tcpd stood in front of the program, and where
    /// the command line says so. FreeBSD and openbsd-inetd have no name for a server that takes its clients itself.
    fn wrapping(&mut self, service: &mut Service, wish: &Wish) {
        let options = self.cx.options;
        let (ip, stream) = (service.family != Family::Unix, service.socket == SocketType::Stream);
        let program = service.is_program();
        let on = if program {
            wish.tcpd
                || (options.wrap_external && ip && !(stream && service.waits()))
                || (options.wrap_streams && stream && !service.waits())
        } else {
            options.wrap_internal && ip
        };
        if on {
            service.flags = service.flags.with(Flags::LIBWRAP);
        }
        service.daemon = if program { base_name(self.cx.table, service.program) } else { service.name };
    }

    /// A service of the daemon itself, by its name, an alias of it, or its port.
    fn builtin(&mut self, record: &Record<'_>, column: u32, service: &mut Service) {
        let named = match record.service.value {
            Which::Name(name) => Builtin::by_name(name),
            Which::Mux { .. } => {
                let what = format_args!("tcpmux leads to programs alone");
                return self.wrong(column, what, format_args!("write the program in place of `internal`"));
            }
            _ => None,
        };
        let name = self.cx.table.bytes(service.name);
        let mux = name.eq_ignore_ascii_case(TCPMUX) || (named.is_none() && service.port == TCPMUX_PORT);
        if mux && service.socket == SocketType::Stream && service.family != Family::Unix {
            service.answer = Answer::Tcpmux;
            return;
        }
        match named.or_else(|| Builtin::by_port(service.port)).filter(|_| service.family != Family::Unix) {
            Some(builtin) => service.answer = Answer::Builtin(builtin),
            None => {
                let what = format_args!("no such internal service");
                self.wrong(column, what, format_args!("there are {BUILTINS}"));
            }
        }
    }

    fn unreadable(&mut self, column: u32, path: &[u8], errno: Errno) {
        let what = format_args!("cannot read {}: {errno}", Bytes(path));
        self.wrong(column, what, format_args!("make the file readable, or write the number"));
    }

    /// A user by name or number, or a complaint.
    fn user(&mut self, word: At<&[u8]>) -> Option<names::User> {
        let user = self.find_user(word)?;
        if user.is_none() {
            let what = format_args!("no user `{}` in {}", Bytes(word.value), Bytes(self.cx.options.passwd));
            self.wrong(word.column, what, format_args!("create it there, or write a number"));
        }
        user
    }

    /// The outer `None`: nobody can tell, and that was reported.
    fn find_user(&mut self, word: At<&[u8]>) -> Option<Option<names::User>> {
        let path = self.cx.options.passwd;
        let found = match number(word.value) {
            Some(uid) => names::user_by_uid(self.cx.files, path, uid)
                .map(|user| user.or(Some(names::User { uid, gid: uid, name: names::Name::new() }))),
            None => self.cx.user_by_name(word.value),
        };
        found.map_err(|errno| self.unreadable(word.column, path, errno)).ok()
    }

    fn group(&mut self, word: At<&[u8]>) -> Option<u32> {
        if let Some(gid) = number(word.value) {
            return Some(gid);
        }
        let path = self.cx.options.group;
        match names::group_by_name(self.cx.files, path, word.value) {
            Ok(Some(gid)) => return Some(gid),
            Ok(None) => {
                let what = format_args!("no group `{}` in {}", Bytes(word.value), Bytes(path));
                self.wrong(word.column, what, format_args!("create it there, or write a number"));
            }
            Err(errno) => self.unreadable(word.column, path, errno),
        }
        None
    }

    /// Who the server runs as. For root without a group nothing is changed, as in the BSDs and GNU inetutils.
    fn account(&mut self, account: Account<'_>, service: &mut Service, wish: &mut Wish) {
        if let Some(class) = account.class {
            let what = format_args!("login class `{}` cannot be applied by this version", Bytes(class.value));
            let cure =
                "remove it; the entry is kept from starting rather than left without the limits of its class";
            self.wrong(class.column, what, format_args!("{cure}"));
        }
        let Some(whole) = self.find_user(account.user) else { return };
        let (word, user, group) = match (whole, account.dotted) {
            (Some(user), _) => (account.user, Some(user), account.group),
            (None, Some(halves)) => (halves.user, self.user(halves.user), Some(halves.group)),
            (None, None) => (account.user, self.user(account.user), account.group),
        };
        let Some(user) = user else { return };
        let gid = match group {
            Some(group) => match self.group(group) {
                Some(gid) => Some(gid),
                None => return,
            },
            None => None,
        };
        if user.uid == 0 && gid.is_none() {
            return;
        }
        service.identity.uid = Some(user.uid);
        service.identity.gid = Some(gid.unwrap_or(user.gid));
        service.flags = service.flags.with(Flags::GROUPS);
        wish.user = self.put(word.column, word.value);
    }

    fn limits(&mut self, record: &Record<'_>, service: &mut Service) {
        let options = self.cx.options;
        let limits = record.limits;
        // FreeBSD's 0 is no limit.
        let given = |number: Option<At<u32>>, default: Option<u32>| match number {
            Some(number) => Some(number.value).filter(|n| *n > 0),
            None => default,
        };
        service.per_minute = given(limits.per_minute, options.per_minute);
        service.per_minute_source = given(limits.per_minute_source, options.per_minute_source);
        if !service.waits() {
            service.instances = given(limits.children, options.instances);
            service.per_source = given(limits.children_source, options.per_source);
        }
        if let Some(accepts) = limits.accepts {
            let what = format_args!("the number of connections taken at a time has no effect here");
            self.warning(
                accepts.column,
                what,
                format_args!("remove it: no service can keep the others waiting"),
            );
        }
    }

    /// One service for each address of a list. `tell`: what does not resolve was not yet reported.
    fn each_address(
        &mut self,
        addresses: Addresses<'_>,
        service: Service,
        mut wish: Wish,
        tell: bool,
        wishes: &mut Vec<Wish, SERVICES>,
    ) {
        wish.given.add(Key::Bind);
        for part in addresses.iter() {
            let mut found = Vec::<IpAddr, 16>::new();
            let everywhere = part.value == Address::Any;
            if !everywhere && !self.addresses(part, tell, &mut found) {
                settle::push(wishes, self.cx, Service { standing: Standing::Broken, ..service }, wish);
                continue;
            }
            if everywhere {
                settle::push(wishes, self.cx, service, wish);
            }
            for address in found {
                settle::push(wishes, self.cx, Service { bind: Bind::Address(address), ..service }, wish);
            }
        }
    }

    /// The addresses of one part of a list; false if there are none.
    fn addresses(&mut self, part: At<Address<'_>>, tell: bool, found: &mut Vec<IpAddr, 16>) -> bool {
        let path = self.cx.options.hosts;
        let (what, cure) = match part.value {
            Address::Any => return true,
            Address::Ip(address) => return found.push(address).is_ok(),
            Address::Scoped(..) => {
                ("addresses with a scope are not supported by this version", "write another address")
            }
            Address::Name(name) => match names::addresses_of(self.cx.files, path, name, |a| {
                found.push(a).is_ok()
            }) {
                Ok(true) => return true,
                Ok(false) => {
                    ("is not in the hosts file, and names are not looked up elsewhere", "write its address")
                }
                Err(_) => ("cannot be looked up: the hosts file is not readable", "write its address"),
            },
        };
        if tell {
            // The broken part alone does not run.
            let list = self.text.get(part.column.saturating_sub(1) as usize..).unwrap_or(&[]);
            let len = list.iter().position(|b| matches!(b, b',' | b':' | b' ' | b'\t')).unwrap_or(list.len());
            let name = Bytes(list.get(..len).unwrap_or(&[]));
            self.say(Severity::Error, part.column, format_args!("`{name}` {what}"), format_args!("{cure}"));
        }
        false
    }

    /// `ADDRESSES:` alone on a line.
    fn default_addresses(&mut self, addresses: Addresses<'_>) -> Text {
        for part in addresses.iter() {
            self.addresses(part, true, &mut Vec::new());
        }
        if addresses.raw().len() > LIST_BYTES {
            let what = format_args!("a default line of more than {LIST_BYTES} bytes");
            self.wrong(addresses.column, what, format_args!("write the addresses before each entry"));
            return self.nowhere();
        }
        let text = self.put(addresses.column, addresses.raw());
        // Without room for it the entries below would listen everywhere.
        self.cx.usable &= !text.is_empty() || addresses.raw().is_empty();
        if addresses.raw().is_empty() { self.put(addresses.column, b"*") } else { text }
    }

    /// A default address at which no entry can listen.
    fn nowhere(&mut self) -> Text {
        let text = self.put(1, b"?");
        self.cx.usable &= !text.is_empty();
        text
    }

    fn include(&mut self, pattern: inetd::Word<'_>, column: u32) -> Option<Step> {
        let pattern = self.put_word(pattern);
        let place = inetd::place(self.text, column);
        self.cx.line = self.first.saturating_add(place.line);
        resolve_pattern(self.cx, pattern, place.column)
    }
}
