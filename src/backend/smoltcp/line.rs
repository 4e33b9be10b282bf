//! Serial lines: what a board has besides its network. A service is bound to one as to a unix socket, by a path
//! (`protocol = unix`, `bind = /uart1`), and its rules and limits are the same.
//!
//! A line is always there and knows no connections. Whoever sends the first byte has come, and is there until his service has
//! enough of him.

use embedded_io::{Read, ReadReady, Write, WriteReady};

use crate::backend::StreamId;
use crate::builtin::Step;
use crate::errno::Errno;

/// A serial line, with embedded-io's traits as drivers have them. `read` and `write` are not asked before they are ready, and
/// then take or give what they can at once. What comes in must wake the processor, and so must room for what goes out.
pub trait Line: Read + ReadReady + Write + WriteReady {
    /// What services are bound to: `/uart1`.
    fn path(&self) -> &[u8];
}

/// Where there are none.
pub enum NoLine {}

impl embedded_io::ErrorType for NoLine {
    type Error = core::convert::Infallible;
}

impl Read for NoLine {
    fn read(&mut self, _: &mut [u8]) -> Result<usize, Self::Error> {
        match *self {}
    }
}

impl ReadReady for NoLine {
    fn read_ready(&mut self) -> Result<bool, Self::Error> {
        match *self {}
    }
}

impl Write for NoLine {
    fn write(&mut self, _: &[u8]) -> Result<usize, Self::Error> {
        match *self {}
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        match *self {}
    }
}

impl WriteReady for NoLine {
    fn write_ready(&mut self) -> Result<bool, Self::Error> {
        match *self {}
    }
}

impl Line for NoLine {
    fn path(&self) -> &[u8] {
        match *self {}
    }
}

/// Who is at a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Seat {
    #[default]
    Empty,
    /// A client, and what he waits for.
    Taken { watch: Option<(StreamId, Step)> },
}

/// Whether something waits at a line, or it is broken, which reading it will tell.
pub(super) fn is_readable<L: Line>(line: &mut L) -> bool {
    line.read_ready().unwrap_or(true)
}

/// Whether there is room at a line, or it is broken, which writing to it will tell.
pub(super) fn is_writable<L: Line>(line: &mut L) -> bool {
    line.write_ready().unwrap_or(true)
}

/// Takes what has come, never waits.
pub(super) fn read<L: Line>(line: &mut L, buf: &mut [u8]) -> Result<usize, Errno> {
    if !is_readable(line) {
        return Err(Errno::AGAIN);
    }
    line.read(buf).map_err(|_| Errno::IO)
}

/// Writes what there is room for, never waits.
pub(super) fn write<L: Line>(line: &mut L, bytes: &[u8]) -> Result<usize, Errno> {
    if !is_writable(line) {
        return Err(Errno::AGAIN);
    }
    line.write(bytes).map_err(|_| Errno::IO)
}

/// A client has left: what he sent and nobody read goes with him, as when a connection is closed. Else it would be the next
/// one's first byte. Of more than this the rest is.
pub(super) fn forget<L: Line>(line: &mut L) {
    let mut unread = [0; 16];
    for _ in 0..16 {
        if !matches!(read(line, &mut unread), Ok(1..)) {
            break;
        }
    }
}

/// Whether a client's watch has come to something.
pub(super) fn is_ready<L: Line>(line: &mut L, step: Step) -> bool {
    match step {
        Step::Read => is_readable(line),
        Step::Write => is_writable(line),
        Step::Both => is_readable(line) || is_writable(line),
        Step::Close => false,
    }
}
