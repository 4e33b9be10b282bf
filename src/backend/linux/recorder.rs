//! A flight recorder (`-recorder FILE`): what is logged, as frames of defmt in a file that does not grow.
//!
//! FILE is appended to. Before it would be larger than [`RECORDER_BYTES`] it becomes FILE.old, and a new one is begun: so at
//! least that many of the last bytes are kept, at most twice as many, and whoever looks needs no index to find the end. A
//! frame is in the kernel's hands when the call that made it returns; a daemon that is killed loses none.
//!
//! A restart appends to what the run before has left. Each run, and each file, begins with a header, since what follows can
//! only be decoded with the program that wrote it: its build, and where it was loaded, which is in the numbers of strings
//! (see `src/entry/defmt.x`). In front of a header are two zeros: one ends a frame that was torn, the other is an empty frame,
//! by which the header is known.
//!
//! tools/decode reads it.

use core::cell::UnsafeCell;
use core::fmt::{self, Write as _};

use heapless::{String, Vec};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};

use super::log::{Line, News};
use crate::capacity::{FRAME_BYTES, PATH_BYTES, RECORDER_BYTES};
use crate::config::diagnostic::Bytes;
use crate::errno::Errno;
use crate::record::{Level, Record};

/// Of `usherd frames build=… base=… pid=…`, with a number of 20 bytes as SHA-1 gives.
const HEADER_BYTES: usize = 128;

/// What may be missing is a `Vec` of one place, so that the static is all zero.
struct Recorder {
    encoder: defmt::Encoder,
    /// The frame that is being made.
    frame: Vec<u8, FRAME_BYTES>,
    is_begun: bool,
    is_cut: bool,
    path: Vec<u8, PATH_BYTES>,
    older: Vec<u8, { PATH_BYTES + OLD.len() }>,
    file: Vec<OwnedFd, 1>,
    size: usize,
    header: String<HEADER_BYTES>,
    /// Frames that could not be written since one could.
    lost: u64,
    /// Until somebody has been told.
    news: Option<News>,
}

const OLD: &[u8] = b".old";

const _: () = assert!(HEADER_BYTES + FRAME_BYTES <= RECORDER_BYTES);

struct Place(UnsafeCell<Recorder>);

// SAFETY: the daemon has one thread. Its children share its memory until they are programs, and make no frames.
#[allow(unsafe_code)]
unsafe impl Sync for Place {}

static RECORDER: Place = Place(UnsafeCell::new(Recorder {
    encoder: defmt::Encoder::new(),
    frame: Vec::new(),
    is_begun: false,
    is_cut: false,
    path: Vec::new(),
    older: Vec::new(),
    file: Vec::new(),
    size: 0,
    header: String::new(),
    lost: 0,
    news: None,
}));

/// The recorder, for as long as `use_it` runs, which makes no frame.
#[allow(unsafe_code)]
fn recorder<T>(use_it: impl FnOnce(&mut Recorder) -> T) -> T {
    // SAFETY: there is one thread, and nothing in this file asks for the recorder while it has it, or panics then.
    use_it(unsafe { &mut *RECORDER.0.get() })
}

#[defmt::global_logger]
struct Logger;

// SAFETY: there is one thread and no interrupt, so no frame is begun within another.
#[allow(unsafe_code)]
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        recorder(|r| {
            if r.is_begun {
                // A panic has come within a frame.
                r.encoder = defmt::Encoder::new();
            }
            r.frame.clear();
            (r.is_begun, r.is_cut) = (true, false);
            let Recorder { encoder, frame, is_cut, .. } = r;
            encoder.start_frame(|bytes| *is_cut |= frame.extend_from_slice(bytes).is_err());
        });
    }

    unsafe fn write(bytes: &[u8]) {
        recorder(|r| {
            let Recorder { encoder, frame, is_cut, .. } = r;
            encoder.write(bytes, |bytes| *is_cut |= frame.extend_from_slice(bytes).is_err());
        });
    }

    unsafe fn release() {
        recorder(|r| {
            let Recorder { encoder, frame, is_cut, .. } = r;
            encoder.end_frame(|bytes| *is_cut |= frame.extend_from_slice(bytes).is_err());
            r.is_begun = false;
            r.put();
        });
    }

    unsafe fn flush() {}
}

defmt::timestamp!("{=u64:iso8601ms}", {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "32-bit fields on some targets")]
    let ms = i64::from(now.tv_sec) as u64 * 1000 + now.tv_nsec as u64 / 1_000_000;
    ms
});

impl Recorder {
    /// Writes the frame that was made.
    fn put(&mut self) {
        if self.path.is_empty() {
            return;
        }
        match self.write() {
            Ok(()) if self.lost == 0 => {}
            Ok(()) => self.news = Some(News::Goes { lost: core::mem::take(&mut self.lost) }),
            Err(errno) => self.fails(errno),
        }
    }

    fn fails(&mut self, errno: Errno) {
        if self.lost == 0 {
            self.news = Some(News::Stopped(errno));
        }
        self.lost += 1;
    }

    fn write(&mut self) -> Result<(), Errno> {
        if self.is_cut {
            return Err(Errno::TOOBIG);
        }
        if self.file.is_empty() {
            self.open()?;
        }
        if self.size + self.frame.len() > RECORDER_BYTES {
            self.begin_anew()?;
        }
        let Recorder { file, frame, size, .. } = self;
        let Some(file) = file.first() else { return Err(Errno::NOENT) };
        append(file, size, frame)
    }

    /// Opens the file, and begins with the header.
    fn open(&mut self) -> Result<(), Errno> {
        // Neither a link that somebody has put there nor what a write could wait for.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = rustix::fs::open(self.path.as_slice(), flags, Mode::from_raw_mode(0o640))?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        // The frames of two programs in one file could not be told apart.
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        self.size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if self.size.saturating_add(self.header.len()) > RECORDER_BYTES {
            let _ = self.file.push(file);
            return self.begin_anew();
        }
        append(&file, &mut self.size, self.header.as_bytes())?;
        let _ = self.file.push(file);
        Ok(())
    }

    /// Makes the file the older one, and begins another.
    fn begin_anew(&mut self) -> Result<(), Errno> {
        match rustix::fs::rename(self.path.as_slice(), self.older.as_slice()) {
            Ok(()) => {
                self.file.clear();
                self.open()
            }
            // Somebody has taken it away.
            Err(rustix::io::Errno::NOENT) => {
                self.file.clear();
                self.open()
            }
            // Then at least it does not grow, and the last frames are the ones that are kept.
            Err(_) => {
                let Recorder { file, header, size, .. } = self;
                let Some(file) = file.first() else { return Err(Errno::NOENT) };
                rustix::fs::ftruncate(file, 0)?;
                *size = 0;
                append(file, size, header.as_bytes())
            }
        }
    }
}

/// Appends all of it or nothing.
fn append(file: &OwnedFd, size: &mut usize, bytes: &[u8]) -> Result<(), Errno> {
    let written = rustix::io::write(file, bytes)?;
    if written < bytes.len() {
        let _ = rustix::fs::ftruncate(file, *size as u64);
        return Err(Errno::NOSPC);
    }
    *size += written;
    Ok(())
}

/// What program this is: where it was loaded, and the number of its build.
pub fn set_program(base: usize, build: &[u8]) {
    recorder(|r| {
        r.header.clear();
        let _ = r.header.push_str("\0\0usherd frames build=");
        for byte in build {
            let _ = write!(r.header, "{byte:02x}");
        }
        let _ = write!(r.header, " base={:04x}", base as u16);
    });
}

/// Records to that file from now on.
pub fn begin(path: &[u8], pid: u32) {
    recorder(|r| {
        let _ = write!(r.header, " pid={pid}\0");
        r.path.clear();
        r.older.clear();
        let fits = r.older.extend_from_slice(path).is_ok() && r.older.extend_from_slice(OLD).is_ok();
        let opened = match r.path.extend_from_slice(path) {
            Ok(()) if fits => r.open(),
            _ => Err(Errno::NAMETOOLONG),
        };
        if let Err(errno) = opened {
            r.fails(errno);
        }
    });
}

/// Opens the file again under its name when there is something to write.
pub fn reopen() {
    recorder(|r| r.file.clear());
}

/// What the log should say, if that has changed since this was asked last.
pub fn news() -> Option<News> {
    recorder(|r| r.news.take())
}

pub fn record(record: &Record<'_>) {
    record.frame();
}

/// The daemon's last words, which in the background nobody else hears.
pub fn panicked(line: &[u8]) {
    message(Level::Error, format_args!("{}", Bytes(line.trim_ascii_end())));
}

/// A message of the daemon's own. They are few, and remain text.
pub fn message(level: Level, text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    let _ = line.write_fmt(text);
    // A text that was cut may end within a letter.
    let text = line.marked().utf8_chunks().next().map_or("", |chunk| chunk.valid());
    match level {
        Level::Error => defmt::error!("{=str}", text),
        Level::Warning => defmt::warn!("{=str}", text),
        Level::Notice | Level::Info => defmt::info!("{=str}", text),
    }
}
