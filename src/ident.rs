//! Whose connection it is, as the client's own machine says: RFC 1413.
//!
//! The answer is worth what that machine is worth. It is written down and compared, never trusted with more.

#![forbid(unsafe_code)]

use core::fmt::Write;

use heapless::String;

use crate::config::value::number;

/// The port of ident servers (RFC 1413 section 2).
pub const PORT: u16 = 113;

/// Longest answer that is read, in bytes; RFC 1413 section 6 allows 1000, libwrap read 511.
pub const REPLY_BYTES: usize = 512;

/// Longest text about a user, in bytes: `UNIX : joe`. A longer one is none: cut, it could be another user's.
pub const USER_BYTES: usize = 128;

/// The question: `client's port,our port` and the end of a line.
pub fn query(client: u16, server: u16) -> String<16> {
    let mut text = String::new();
    // Twice five digits, a comma and two bytes fit.
    let _ = write!(text, "{client},{server}\r\n");
    text
}

/// The line of an answer, without its end; `None` while it has none. RFC 1413 section 6 ends it in CR LF; some servers
/// leave out the CR.
pub fn line(reply: &[u8]) -> Option<&[u8]> {
    let end = reply.iter().position(|&b| b == b'\n')?;
    let line = reply.get(..end)?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// What an answer about these ports says of the user: the text behind `USERID :`, as `UNIX : joe`. `None` for an error,
/// other ports, or a user that is none.
pub fn user_text(line: &[u8], client: u16, server: u16) -> Option<&[u8]> {
    let mut fields = line.splitn(3, |&b| b == b':');
    let (ports, kind, rest) = (fields.next()?, fields.next()?, fields.next()?);
    let mut ports = ports.split(|&b| b == b',').map(|port| number(port.trim_ascii()));
    if (ports.next(), ports.next(), ports.next()) != (Some(Some(client)), Some(Some(server)), None) {
        return None;
    }
    // In capitals, as libwrap wanted it.
    if kind.trim_ascii() != b"USERID" {
        return None;
    }
    let text = rest.trim_ascii();
    user(text)?;
    (text.len() <= USER_BYTES).then_some(text)
}

/// The user in such a text: the first word behind the system's name.
pub fn user(text: &[u8]) -> Option<&[u8]> {
    let colon = text.iter().position(|&b| b == b':')?;
    let (system, user) = (text.get(..colon)?, text.get(colon + 1..)?);
    if system.trim_ascii().is_empty() {
        return None;
    }
    user.split(|b| matches!(b, b' ' | b'\t' | b'\r')).find(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_both_ports() {
        assert_eq!(query(6191, 23).as_str(), "6191,23\r\n");
        assert_eq!(query(65535, 65535).as_str(), "65535,65535\r\n");
    }

    #[test]
    fn an_answer_is_about_our_ports() {
        let text = |line: &'static [u8]| user_text(line, 6191, 23);
        assert_eq!(text(b"6191, 23 : USERID : UNIX : joe"), Some(&b"UNIX : joe"[..]));
        assert_eq!(text(b" 6191 ,23:USERID:UNIX,UTF-8:joe"), Some(&b"UNIX,UTF-8:joe"[..]));
        for other in [
            &b"6191, 24 : USERID : UNIX : joe"[..],
            b"6191 : USERID : UNIX : joe",
            b"6191,23,1 : USERID : UNIX : joe",
            b"-6191,23 : USERID : UNIX : joe",
            b"6191, 23 : userid : UNIX : joe",
            b"6191, 23 : ERROR : NO-USER",
            b"6191, 23 : USERID : : joe",
            b"6191, 23 : USERID : UNIX :  ",
            b"6191, 23 : USERID : UNIX",
            b"6191, 23",
            b"",
        ] {
            assert_eq!(user_text(other, 6191, 23), None, "{other:?}");
        }
        assert_eq!(user(b"UNIX :  joe doe"), Some(&b"joe"[..]));
    }

    #[test]
    fn a_line_has_an_end() {
        assert_eq!(line(b"a : b\r\nmore"), Some(&b"a : b"[..]));
        assert_eq!(line(b"a\n"), Some(&b"a"[..]));
        assert_eq!(line(b"a\r"), None);
    }
}
