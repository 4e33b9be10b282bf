//! A connection of smoltcp's as built-in services see one.

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp;

use super::Connection;
use super::line::{self, Line};
use crate::builtin::{Forward, Stream};
use crate::capacity::TCP_SOCKETS;
use crate::errno::Errno;

/// A connection, or a serial line, for the length of one event.
pub enum Io<'s, 'a, L> {
    Socket(&'s mut tcp::Socket<'a>),
    Line(&'s mut L),
    /// One that is broken.
    Broken,
}

impl<'s, 'a, L> Io<'s, 'a, L> {
    /// The stream that is claimed as `at`.
    pub(super) fn at(
        at: usize,
        connections: &[Connection],
        sockets: &'s mut SocketSet<'a>,
        lines: &'s mut [L],
    ) -> Io<'s, 'a, L> {
        match (connections.get(at), at.checked_sub(TCP_SOCKETS).and_then(|n| lines.get_mut(n))) {
            (Some(connection), _) => Io::Socket(sockets.get_mut(connection.handle)),
            (None, Some(line)) => Io::Line(line),
            (None, None) => Io::Broken,
        }
    }
}

/// Bytes that a socket would take now.
pub(super) fn room(socket: &tcp::Socket<'_>) -> Result<usize, Errno> {
    if !socket.may_send() {
        return Err(Errno::CONNRESET);
    }
    Ok(socket.send_capacity().saturating_sub(socket.send_queue()))
}

/// Takes what waits at a socket, as far as `buf` and `room` go.
pub(super) fn take(socket: &mut tcp::Socket<'_>, buf: &mut [u8], room: usize) -> Result<Forward, Errno> {
    if !socket.can_recv() {
        return match ended(socket)? {
            true => Ok(Forward::End),
            false => Ok(Forward::Empty),
        };
    }
    let most = room.min(buf.len());
    match buf.get_mut(..most).map(|buf| socket.recv_slice(buf)) {
        Some(Ok(0)) | None => Ok(Forward::Blocked),
        Some(Ok(n)) => Ok(Forward::Moved(n)),
        Some(Err(_)) => Err(Errno::CONNRESET),
    }
}

/// Of a socket without input: whether the other end has said that there will be no more.
fn ended(socket: &mut tcp::Socket<'_>) -> Result<bool, Errno> {
    match socket.recv(|_| (0, ())) {
        Ok(()) => Ok(false),
        Err(tcp::RecvError::Finished) => Ok(true),
        Err(tcp::RecvError::InvalidState) => Err(Errno::CONNRESET),
    }
}

impl<L> ErrorType for Io<'_, '_, L> {
    type Error = Errno;
}

impl<L: Line> Read for Io<'_, '_, L> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let room = buf.len();
        match self {
            Io::Socket(socket) => match take(socket, buf, room)? {
                Forward::Moved(n) => Ok(n),
                Forward::End => Ok(0),
                Forward::Empty | Forward::Blocked => Err(Errno::AGAIN),
            },
            Io::Line(line) => line::read(*line, buf),
            Io::Broken => Err(Errno::CONNRESET),
        }
    }
}

impl<L: Line> Write for Io<'_, '_, L> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Io::Socket(socket) if room(socket)? == 0 && !bytes.is_empty() => Err(Errno::AGAIN),
            Io::Socket(socket) => socket.send_slice(bytes).map_err(|_| Errno::CONNRESET),
            Io::Line(line) => line::write(*line, bytes),
            Io::Broken => Err(Errno::CONNRESET),
        }
    }

    fn flush(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}

impl<L: Line> ReadReady for Io<'_, '_, L> {
    fn read_ready(&mut self) -> Result<bool, Errno> {
        Ok(match self {
            Io::Socket(socket) => socket.can_recv() || !socket.may_recv(),
            Io::Line(line) => line::is_readable(*line),
            Io::Broken => true,
        })
    }
}

impl<L: Line> WriteReady for Io<'_, '_, L> {
    fn write_ready(&mut self) -> Result<bool, Errno> {
        Ok(match self {
            Io::Socket(socket) => socket.can_send() || !socket.may_send(),
            Io::Line(line) => line::is_writable(*line),
            Io::Broken => true,
        })
    }
}

impl<L: Line> Stream for Io<'_, '_, L> {
    fn forward(&mut self, scratch: &mut [u8]) -> Result<Forward, Errno> {
        match self {
            Io::Socket(socket) => {
                let room = room(socket)?;
                let moved = take(socket, scratch, room)?;
                if let Forward::Moved(n) = moved {
                    let _ = socket.send_slice(scratch.get(..n).unwrap_or(&[]));
                }
                Ok(moved)
            }
            // A byte at a time: what there is no room for stays in the line.
            Io::Line(line) => {
                let mut moved = 0;
                while moved < scratch.len() && line::is_readable(*line) {
                    if !line::is_writable(*line) {
                        return Ok(if moved == 0 { Forward::Blocked } else { Forward::Moved(moved) });
                    }
                    let mut byte = [0];
                    let n = line::read(*line, &mut byte)?;
                    if n == 0 {
                        return Ok(Forward::End);
                    }
                    moved += line::write(*line, byte.get(..n).unwrap_or(&[]))?;
                }
                Ok(if moved == 0 { Forward::Empty } else { Forward::Moved(moved) })
            }
            Io::Broken => Err(Errno::CONNRESET),
        }
    }
}
