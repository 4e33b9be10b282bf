//! A connection of smoltcp's as built-in services see one.

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use smoltcp::socket::tcp;

use crate::builtin::{Forward, Stream};
use crate::errno::Errno;

/// A connection for the length of one event; `None` is one that is broken.
pub struct Io<'s, 'a>(pub(super) Option<&'s mut tcp::Socket<'a>>);

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

impl ErrorType for Io<'_, '_> {
    type Error = Errno;
}

impl Read for Io<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let room = buf.len();
        match take(self.0.as_deref_mut().ok_or(Errno::CONNRESET)?, buf, room)? {
            Forward::Moved(n) => Ok(n),
            Forward::End => Ok(0),
            Forward::Empty | Forward::Blocked => Err(Errno::AGAIN),
        }
    }
}

impl Write for Io<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let socket = self.0.as_deref_mut().ok_or(Errno::CONNRESET)?;
        if room(socket)? == 0 && !bytes.is_empty() {
            return Err(Errno::AGAIN);
        }
        socket.send_slice(bytes).map_err(|_| Errno::CONNRESET)
    }

    fn flush(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}

impl ReadReady for Io<'_, '_> {
    fn read_ready(&mut self) -> Result<bool, Errno> {
        Ok(self.0.as_deref().is_none_or(|socket| socket.can_recv() || !socket.may_recv()))
    }
}

impl WriteReady for Io<'_, '_> {
    fn write_ready(&mut self) -> Result<bool, Errno> {
        Ok(self.0.as_deref().is_none_or(|socket| socket.can_send() || !socket.may_send()))
    }
}

impl Stream for Io<'_, '_> {
    fn forward(&mut self, scratch: &mut [u8]) -> Result<Forward, Errno> {
        let socket = self.0.as_deref_mut().ok_or(Errno::CONNRESET)?;
        let room = room(socket)?;
        let moved = take(socket, scratch, room)?;
        if let Forward::Moved(n) = moved {
            let _ = socket.send_slice(scratch.get(..n).unwrap_or(&[]));
        }
        Ok(moved)
    }
}
