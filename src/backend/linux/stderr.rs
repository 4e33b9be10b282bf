//! What servers with `stderr = log` write: lines of the daemon's log, within bounds. A server never waits for the log, and
//! cannot flood it: what is more than [`LINES`] in [`WINDOW_MS`] is read and counted, and the number is told.

use core::cell::Cell;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};

use super::log::{Log, each_line};
use crate::config::diagnostic::Bytes;
use crate::errno::Errno;
use crate::record::Level;
use crate::time::Instant;

/// Lines of one service that are logged in a window.
const LINES: u32 = 200;
const WINDOW_MS: u64 = 10_000;
/// Bytes of the buffer; a longer line becomes several.
const BUFFER: usize = 4096;
/// Reads from one pipe before the next event is looked at.
const READS_A_TURN: usize = 16;

/// The pipe of a service. All its servers have the same write end.
pub struct Pipe {
    read: OwnedFd,
    write: Option<OwnedFd>,
    pub is_watched: Cell<bool>,
    flow: Cell<Flow>,
}

#[derive(Clone, Copy)]
struct Flow {
    begin: Instant,
    lines: u32,
    /// Lines that were not logged.
    more: u64,
}

impl Pipe {
    pub fn new() -> Result<Pipe, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        Ok(Pipe::of(read, write))
    }

    /// The pipe whose ends an earlier [`Pipe::new`] has made.
    pub fn of(read: OwnedFd, write: OwnedFd) -> Pipe {
        let flow = Flow { begin: Instant(0), lines: 0, more: 0 };
        Pipe { read, write: Some(write), is_watched: Cell::new(false), flow: Cell::new(flow) }
    }

    pub fn read_end(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    pub fn write_end(&self) -> Option<BorrowedFd<'_>> {
        self.write.as_ref().map(AsFd::as_fd)
    }

    /// No server gets it any more: when the last that has it ends, it ends too.
    pub fn close_write_end(&mut self) {
        self.write = None;
    }

    /// Logs what has come from the servers of `id`; false when nobody is left who could write more.
    pub fn drain(&self, id: &[u8], now: Instant, log: &mut Log) -> bool {
        let mut buf = [0; BUFFER];
        let mut len = 0;
        let mut is_open = true;
        let mut flow = self.flow.get();
        let mut take = |line: &[u8]| {
            if now.since_ms(flow.begin) >= WINDOW_MS && flow.more == 0 {
                flow = Flow { begin: now, lines: 0, more: 0 };
            }
            if flow.lines < LINES {
                flow.lines += 1;
                log.message(Level::Info, format_args!("{}[stderr]: {}", Bytes(id), Bytes(line)));
            } else {
                flow.more += 1;
            }
        };
        for _ in 0..READS_A_TURN {
            let Some(room) = buf.get_mut(len..) else { break };
            match rustix::io::read(&self.read, room) {
                Ok(0) => {
                    is_open = false;
                    break;
                }
                Ok(n) => len += n,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
            }
            // A line whose end has not come yet stays; one that fills the buffer does not.
            let end = buf.iter().take(len).rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let end = if end == 0 && len == BUFFER { len } else { end };
            each_line(buf.get(..end).unwrap_or(&[]), &mut take);
            buf.copy_within(end..len, 0);
            len -= end;
        }
        // Nothing more is there now: it was meant as it is.
        each_line(buf.get(..len).unwrap_or(&[]), &mut take);
        self.flow.set(flow);
        is_open
    }

    /// When the number of lines that were not logged is to be told, if there are any.
    pub fn due(&self) -> Option<Instant> {
        let flow = self.flow.get();
        (flow.more > 0).then(|| flow.begin.plus_ms(WINDOW_MS))
    }

    /// Tells it, and begins anew.
    pub fn tell(&self, id: &[u8], now: Instant, log: &mut Log) {
        let Flow { more, .. } = self.flow.replace(Flow { begin: now, lines: 0, more: 0 });
        if more > 0 {
            let text = format_args!("{}[stderr]: {more} more lines were not logged", Bytes(id));
            log.message(Level::Warning, text);
        }
    }
}
