//! `%` in commands and variables: what is known of a request, as text.
//!
//! What a client can choose, its name and user, becomes part of a shell command. So every byte of an expansion that
//! is not a letter, a digit or one of ``!@%-_=+:,./`` becomes `_`, as in the original; the rule's own text stays.

use core::fmt::{self, Write};

use super::list::{address_text, base_name};
use super::option::{Value, is_named, trimmed};
use super::{Endpoint, Facts, HostName, Request, User};

/// The expansion does not fit into the buffer: it must not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Long;

impl fmt::Display for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the expansion is too long")
    }
}

impl core::error::Error for Long {}

/// Writes `value` with its expansions into `buf`, blanks at both ends left out.
pub fn expand<'b>(
    value: Value<'_>,
    request: &Request<'_>,
    facts: &Facts<'_>,
    buf: &'b mut [u8],
) -> Result<&'b [u8], Long> {
    let len = write(value, request, facts, buf)?;
    let text: &'b [u8] = buf;
    Ok(trimmed(text.get(..len).unwrap_or(&[])))
}

/// Writes `value` with its expansions to the beginning of `buf`, and tells the length.
pub(super) fn write(
    value: Value<'_>,
    request: &Request<'_>,
    facts: &Facts<'_>,
    buf: &mut [u8],
) -> Result<usize, Long> {
    let mut out = Out { buf, len: 0 };
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte).map_err(|_| Long)?;
            continue;
        }
        let written = match bytes.next() {
            // A % at the end stays.
            None => out.push(b'%'),
            Some(letter) => expansion(letter, request, facts, &mut out),
        };
        written.map_err(|_| Long)?;
    }
    Ok(out.len)
}

/// What a client is sent of a banner file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Banner<'b> {
    pub text: &'b [u8],
    /// There was no room for more.
    pub is_cut: bool,
}

/// Makes what `banners` sends of the bytes of a file: NUL bytes at the beginning as they are, which prepare a client of
/// some protocols; then every line with its expansions, and CR LF behind it.
pub fn expand_banner<'b>(
    file: &[u8],
    request: &Request<'_>,
    facts: &Facts<'_>,
    buf: &'b mut [u8],
) -> Banner<'b> {
    let mut out = Out { buf, len: 0 };
    let mut bytes = file.iter().copied().peekable();
    let mut is_cut = false;
    while let Some(byte) = bytes.next() {
        let written = match byte {
            b'\n' => out.push(b'\r').and_then(|()| out.push(b'\n')),
            b'%' => match bytes.peek().copied() {
                // At the end of the file it stays; the end of a line does, not being its letter.
                None => out.push(b'%'),
                Some(b'\n') => Ok(()),
                Some(letter) => {
                    bytes.next();
                    expansion(letter, request, facts, &mut out)
                }
            },
            _ => out.push(byte),
        };
        if written.is_err() {
            is_cut = true;
            break;
        }
    }
    let Out { buf, len } = out;
    let text: &'b [u8] = buf;
    Banner { text: text.get(..len).unwrap_or(&[]), is_cut }
}

/// A code that somebody has to be asked for, or that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    User,
    ClientName,
    ServerName,
    /// Any other that there is.
    Other,
    None,
}

/// The codes in a value.
pub(super) fn codes(value: Value<'_>) -> impl Iterator<Item = Code> {
    let mut bytes = value.bytes();
    core::iter::from_fn(move || {
        bytes.find(|&b| b == b'%')?;
        Some(match bytes.next()? {
            b'u' => Code::User,
            b'n' => Code::ClientName,
            b'N' => Code::ServerName,
            b'a' | b'A' | b'c' | b'd' | b'h' | b'H' | b'p' | b'r' | b'R' | b's' | b'S' | b'%' => Code::Other,
            _ => Code::None,
        })
    })
}

fn expansion(letter: u8, request: &Request<'_>, facts: &Facts<'_>, out: &mut Out<'_>) -> fmt::Result {
    let (client, server) = (&request.client, &request.server);
    let daemon = base_name(request.daemon);
    match letter {
        b'a' => out.address(client),
        b'A' => out.address(server),
        b'h' => out.host(client, facts.client_name),
        b'H' => out.host(server, facts.server_name),
        b'n' => out.name(facts.client_name),
        b'N' => out.name(facts.server_name),
        b'c' => {
            if let User::Known(user) = facts.user {
                out.foreign(user)?;
                out.push(b'@')?;
            }
            out.host(client, facts.client_name)
        }
        b's' | b'S' => {
            out.foreign(daemon)?;
            let is_anywhere = server.address.is_some() || is_named(facts.server_name, server).is_some();
            if !is_anywhere {
                return Ok(());
            }
            out.push(b'@')?;
            out.host(server, facts.server_name)
        }
        b'd' => out.foreign(daemon),
        b'p' => write!(out, "{}", request.pid),
        b'r' => write!(out, "{}", client.port.unwrap_or(0)),
        b'R' => write!(out, "{}", server.port.unwrap_or(0)),
        b'u' => match facts.user {
            User::Known(user) => out.foreign(user),
            User::NotAsked | User::Unknown => out.foreign(b"unknown"),
        },
        b'%' => out.push(b'%'),
        _ => Ok(()),
    }
}

struct Out<'b> {
    buf: &'b mut [u8],
    len: usize,
}

impl Out<'_> {
    fn push(&mut self, byte: u8) -> fmt::Result {
        *self.buf.get_mut(self.len).ok_or(fmt::Error)? = byte;
        self.len += 1;
        Ok(())
    }

    /// Text from outside.
    fn foreign(&mut self, text: &[u8]) -> fmt::Result {
        text.iter().try_for_each(|&byte| self.push(if is_harmless(byte) { byte } else { b'_' }))
    }

    fn address(&mut self, end: &Endpoint<'_>) -> fmt::Result {
        self.foreign(address_text(end).as_bytes())
    }

    fn name(&mut self, name: HostName<'_>) -> fmt::Result {
        match name {
            HostName::Known(name) => self.foreign(name),
            HostName::Paranoid => self.foreign(b"paranoid"),
            HostName::NotAsked | HostName::Unknown => self.foreign(b"unknown"),
        }
    }

    /// The name if it is known and good, else the address.
    fn host(&mut self, end: &Endpoint<'_>, name: HostName<'_>) -> fmt::Result {
        match is_named(name, end) {
            Some(name) => self.foreign(name),
            None => self.address(end),
        }
    }
}

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.foreign(text.as_bytes())
    }
}

const fn is_harmless(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'@' | b'%' | b'-' | b'_' | b'=' | b'+' | b':' | b',' | b'.' | b'/')
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    fn expanded(value: &str, facts: &Facts<'_>) -> String {
        let end = |text: &str, port| Endpoint {
            address: text.parse().ok(),
            port: Some(port),
            ..Endpoint::default()
        };
        let request = Request {
            daemon: b"/usr/sbin/in.telnetd",
            client: end("10.1.2.3", 4000),
            server: end("2001:db8::1", 23),
            pid: 77,
        };
        let mut buf = [0; 300];
        String::from_utf8(expand(Value(value.as_bytes()), &request, facts, &mut buf).unwrap().into()).unwrap()
    }

    #[test]
    fn every_code() {
        let bare = Facts::default();
        let text = "%a|%A|%c|%d|%h|%H|%n|%N|%p|%r|%R|%s|%u|%%|%z|%";
        assert_eq!(
            expanded(text, &bare),
            "10.1.2.3|2001:db8::1|10.1.2.3|in.telnetd|10.1.2.3|2001:db8::1|unknown|unknown|77|4000|23|\
             in.telnetd@2001:db8::1|unknown|%||%"
        );
        let facts = Facts {
            client_name: HostName::Known(b"h1.example.com"),
            server_name: HostName::Paranoid,
            user: User::Known(b"a;b$c"),
            ..Facts::default()
        };
        assert_eq!(
            expanded(text, &facts),
            "10.1.2.3|2001:db8::1|a_b_c@h1.example.com|in.telnetd|h1.example.com|2001:db8::1|h1.example.com|paranoid|\
             77|4000|23|in.telnetd@2001:db8::1|a_b_c|%||%"
        );
    }

    #[test]
    fn what_does_not_fit_is_not_used() {
        let mut buf = [0; 4];
        let (request, facts) = (Request::default(), Facts::default());
        assert_eq!(expand(Value(b"12345"), &request, &facts, &mut buf), Err(Long));
        assert_eq!(expand(Value(b"%a"), &request, &facts, &mut buf), Err(Long));
        assert_eq!(expand(Value(b" \\:ab "), &request, &facts, &mut [0; 5]), Ok(&b":ab"[..]));
    }

    #[test]
    fn banners() {
        let request = Request { daemon: b"in.ftpd", ..Request::default() };
        let facts = Facts { user: User::Known(b"b\nb"), ..Facts::default() };
        for (file, expected) in [
            (&b""[..], &b""[..]),
            (b"\0\0hello %u\nfrom %d\n", b"\0\0hello b_b\r\nfrom in.ftpd\r\n"),
            (b"100%\n%", b"100\r\n%"),
            (b"%%%z|%\0|no end", b"%||no end"),
            (b"\r\n", b"\r\r\n"),
        ] {
            let mut buf = [0; 64];
            let banner = expand_banner(file, &request, &facts, &mut buf);
            assert_eq!(banner, Banner { text: expected, is_cut: false });
            for room in 0..expected.len() {
                let mut buf = [0; 64];
                let banner = expand_banner(file, &request, &facts, &mut buf[..room]);
                assert!(banner.is_cut && banner.text == &expected[..room], "{room}");
            }
        }
    }
}
