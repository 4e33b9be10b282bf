//! One port for many services: RFC 1078.
//!
//! The client's first line is the name of a service, letters of either case. The answer is a line that begins with `+` or
//! `-`; behind a `+` the service begins. Whatever a client sends behind its line is the service's: the old programs read
//! it with the line and lost it, so the line is read byte by byte here.

#![forbid(unsafe_code)]

use embedded_io::Read;
use heapless::Vec;

use crate::errno::Errno;

/// Longest name, in bytes.
pub const NAME_BYTES: usize = 64;

/// How long a client may take for its line, in milliseconds: FreeBSD's inetd allows ten seconds.
pub const LINE_MS: u64 = 10_000;

/// Sent before a TCPMUXPLUS service begins. (xinetd sent a NUL byte behind it.)
pub const GO: &[u8] = b"+Go\r\n";
pub const UNKNOWN: &[u8] = b"-Service name not found\r\n";
pub const UNAVAILABLE: &[u8] = b"-Service not available\r\n";
pub const BAD_LINE: &[u8] = b"-Error reading service name\r\n";

/// The name that asks for the names of all services.
pub const HELP: &[u8] = b"help";

/// The line, as far as it has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Line {
    bytes: Vec<u8, NAME_BYTES, u8>,
}

/// What became of reading on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Its end has not come yet.
    More,
    /// [`Line::name`] is whole.
    Whole,
    /// It is longer than any name, or the client ended without one.
    Bad,
}

impl Line {
    /// Reads on, up to the end of the line and no further.
    pub fn read<R: Read<Error = Errno>>(&mut self, from: &mut R) -> Result<Progress, Errno> {
        loop {
            let mut byte = [0];
            match from.read(&mut byte) {
                Ok(0) => return Ok(Progress::Bad),
                Ok(_) if byte == *b"\n" => return Ok(Progress::Whole),
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(Progress::More),
                Err(errno) => return Err(errno),
            }
            if self.bytes.extend_from_slice(&byte).is_err() {
                return Ok(Progress::Bad);
            }
        }
    }

    /// The name; the CR in front of the line feed is not part of it.
    pub fn name(&self) -> &[u8] {
        self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec as StdVec;

    /// Gives what it has in pieces: the end of a piece is [`Errno::AGAIN`].
    struct Pieces(StdVec<StdVec<u8>>, bool);

    impl embedded_io::ErrorType for Pieces {
        type Error = Errno;
    }

    impl Read for Pieces {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
            match self.0.first_mut() {
                None if self.1 => Ok(0),
                None => Err(Errno::AGAIN),
                Some(piece) if piece.is_empty() => {
                    self.0.remove(0);
                    Err(Errno::AGAIN)
                }
                Some(piece) => {
                    buf[0] = piece.remove(0);
                    Ok(1)
                }
            }
        }
    }

    fn pieces(all: &[&str], ended: bool) -> Pieces {
        Pieces(all.iter().map(|piece| piece.as_bytes().to_vec()).collect(), ended)
    }

    #[test]
    fn a_line_may_come_in_pieces_and_what_follows_stays() {
        let mut from = pieces(&["da", "yti", "me\r\nGET"], false);
        let mut line = Line::default();
        assert_eq!(line.read(&mut from), Ok(Progress::More));
        assert_eq!(line.read(&mut from), Ok(Progress::More));
        assert_eq!(line.read(&mut from), Ok(Progress::Whole));
        assert_eq!(line.name(), b"daytime");
        assert_eq!(from.0.concat(), b"GET");
    }

    #[test]
    fn a_line_without_end_is_none() {
        let mut line = Line::default();
        assert_eq!(line.read(&mut pieces(&["echo"], true)), Ok(Progress::More));
        assert_eq!(line.read(&mut pieces(&[], true)), Ok(Progress::Bad));
        let long = "x".repeat(NAME_BYTES + 1);
        assert_eq!(Line::default().read(&mut pieces(&[&long], false)), Ok(Progress::Bad));
        let mut line = Line::default();
        let longest = "x".repeat(NAME_BYTES) + "\n";
        assert_eq!(line.read(&mut pieces(&[&longest], false)), Ok(Progress::Whole));
        assert_eq!(line.name().len(), NAME_BYTES);
    }
}
