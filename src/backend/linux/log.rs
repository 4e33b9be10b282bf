//! Where records and messages are written: syslog, files, standard error. Nothing here waits, and nothing is lost
//! without being counted: what could not be written is told as soon as something can be.
//!
//! Lines for files are gathered and written when a turn of the loop ends ([`Log::flush`]): before the daemon sleeps all is
//! in the files, and who floods a service costs no call for each line. What goes to syslog or standard error goes at
//! once.
//!
//! Forms are xinetd's (reference: its manual page xinetd.log(5) and its -filelog output).

use core::fmt::{self, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use super::recorder;
use crate::capacity::{LOG_FILES, LOG_GATHER_BYTES, LOG_LINE_BYTES, PATH_BYTES};
use crate::config::diagnostic::Bytes;
use crate::errno::Errno;
use crate::record::{Level, Record};
use crate::service::{LogFile, LogType};
use crate::zone::Zone;

/// syslog(3)'s facility `daemon`.
pub const FACILITY_DAEMON: u8 = 3;

/// Where the daemon's own messages go, and records whose service names no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Main {
    /// In the foreground. `<N>` before each line tells journald the level. First, so that it is all zero.
    Stderr {
        levels: bool,
    },
    /// -filelog; the path is in [`Log::set_main`]'s argument.
    File,
    Syslog {
        facility: u8,
    },
}

/// What became of the flight recorder.
#[derive(Clone, Copy)]
pub enum News {
    /// Frames cannot be written.
    Stopped(Errno),
    /// They are written again; so many were not.
    Goes { lost: u64 },
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Stopped(Errno::AGAIN) => f.write_str("flight recorder: another process writes to its file"),
            News::Stopped(errno) => write!(f, "flight recorder: {errno}"),
            News::Goes { lost } => write!(f, "flight recorder: goes on; {lost} frames were lost"),
        }
    }
}

/// A line under construction. What does not fit is cut, and the cut is marked.
pub struct Line {
    bytes: [u8; LOG_LINE_BYTES],
    len: usize,
    cut: bool,
}

impl Line {
    pub fn new() -> Line {
        Line { bytes: [0; LOG_LINE_BYTES], len: 0, cut: false }
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// The text, with a mark if it was cut.
    pub fn marked(&mut self) -> &[u8] {
        const CUT: &[u8] = b"...";
        if self.cut {
            // `write_str` left room for this and the line feed.
            if let Some(place) = self.bytes.get_mut(self.len..self.len + CUT.len()) {
                place.copy_from_slice(CUT);
                self.len += CUT.len();
            }
            self.cut = false;
        }
        self.text()
    }

    /// The text with a line feed at its end.
    fn line(&mut self) -> &[u8] {
        self.marked();
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = b'\n';
            self.len += 1;
        }
        self.text()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (LOG_LINE_BYTES - 4).saturating_sub(self.len);
        let taken = text.len().min(room);
        if let (Some(to), Some(from)) =
            (self.bytes.get_mut(self.len..self.len + taken), text.as_bytes().get(..taken))
        {
            to.copy_from_slice(from);
            self.len += taken;
        }
        self.cut |= taken < text.len();
        Ok(())
    }
}

/// A file records are appended to.
struct File {
    path: heapless::Vec<u8, PATH_BYTES>,
    fd: Option<OwnedFd>,
    size: u64,
    soft: u64,
    hard: u64,
    soft_told: bool,
    /// Records not written since the hard limit was reached or an error came.
    lost: u64,
    hard_told: bool,
}

/// What one more of [`LOG_FILES`] costs.
pub(crate) const FILE_BYTES: usize = size_of::<File>();

impl File {
    fn new(path: &[u8], soft: u64, hard: u64) -> Option<File> {
        let path = heapless::Vec::from_slice(path).ok()?;
        Some(File { path, fd: None, size: 0, soft, hard, soft_told: false, lost: 0, hard_told: false })
    }

    fn open(&mut self) {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        self.fd = rustix::fs::open(self.path.as_slice(), flags, Mode::from_raw_mode(0o640)).ok();
        self.look();
    }

    /// Looks how large the file is.
    fn look(&mut self) {
        let stat = self.fd.as_ref().and_then(|fd| rustix::fs::fstat(fd).ok());
        self.size = stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
        self.soft_told &= self.is_over(self.soft, 0);
    }

    /// Whether so many more bytes make it larger than `limit`, if that is one.
    fn is_over(&self, limit: u64, more: usize) -> bool {
        limit > 0 && self.size + more as u64 > limit
    }

    /// Whether so many more bytes may be written.
    fn takes(&mut self, bytes: usize) -> bool {
        if self.fd.is_none() {
            self.open();
        }
        if self.is_over(self.hard, bytes) {
            // Unless somebody has made it shorter meanwhile.
            self.look();
        }
        self.fd.is_some() && !self.is_over(self.hard, bytes)
    }

    /// Appends; how many bytes were written.
    fn write(&self, bytes: &[u8]) -> usize {
        self.fd.as_ref().map_or(0, |fd| rustix::io::write(fd, bytes).unwrap_or(0))
    }
}

/// One of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// First, so that it is all zero.
    Main,
    Service(usize),
}

impl Place {
    fn among<'f>(self, main: &'f mut [File], services: &'f mut [File]) -> Option<&'f mut File> {
        match self {
            Place::Main => main.first_mut(),
            Place::Service(at) => services.get_mut(at),
        }
    }
}

/// Lines for one file that are not written yet. Its size counts them already.
struct Gathered {
    place: Place,
    len: usize,
    bytes: [u8; LOG_GATHER_BYTES],
}

/// All of logging. Large for its files, so it lives in a static; what may be missing is a `Vec` of one place and not an
/// `Option`, because an absent descriptor is -1 and a static is free only if it is all zero.
pub struct Log {
    main: Main,
    main_file: heapless::Vec<File, 1>,
    files: heapless::Vec<File, LOG_FILES>,
    gathered: Gathered,
    syslog: heapless::Vec<OwnedFd, 1>,
    /// Messages for syslog or standard error that could not be written.
    lost: u64,
    tag: Option<&'static str>,
    pid: u32,
    zone: Zone,
    now: i64,
    /// `now` as lines in files begin with it; empty before the first one of a second.
    stamp: heapless::String<20>,
}

impl Log {
    pub const fn new() -> Log {
        Log {
            main: Main::Stderr { levels: false },
            main_file: heapless::Vec::new(),
            files: heapless::Vec::new(),
            gathered: Gathered { place: Place::Main, len: 0, bytes: [0; LOG_GATHER_BYTES] },
            syslog: heapless::Vec::new(),
            lost: 0,
            tag: None,
            pid: 0,
            zone: Zone::UTC,
            now: 0,
            stamp: heapless::String::new(),
        }
    }

    pub fn set_main(&mut self, main: Main, path: &[u8]) {
        self.flush();
        self.main_file.clear();
        if main == Main::File
            && let Some(file) = File::new(path, 0, 0)
        {
            let _ = self.main_file.push(file);
        }
        self.main = main;
    }

    fn tag(&self) -> &'static str {
        self.tag.unwrap_or("usherd")
    }

    pub fn main(&self) -> Main {
        self.main
    }

    /// The name in front of every message: what the daemon was called by.
    pub fn set_tag(&mut self, tag: &'static str, pid: u32) {
        self.tag = Some(tag);
        self.pid = pid;
    }

    pub fn set_zone(&mut self, zone: &Zone) {
        self.zone.clone_from(zone);
        self.stamp.clear();
    }

    /// The time lines are stamped with, in seconds since 1970.
    pub fn set_now(&mut self, unix: i64) {
        if unix != self.now {
            self.now = unix;
            self.stamp.clear();
        }
    }

    /// The time in front of a line in a file; many have the same.
    fn stamp(&mut self) -> &str {
        if self.stamp.is_empty() {
            let _ = self.zone.at(self.now).write_xinetd_stamp(&mut self.stamp);
        }
        &self.stamp
    }

    /// Records to that file too, as frames.
    pub fn set_recorder(&mut self, path: &[u8]) {
        recorder::begin(path, self.pid);
        self.tell_news();
    }

    fn tell_news(&mut self) {
        if let Some(news) = recorder::news() {
            let level = if matches!(news, News::Goes { .. }) { Level::Notice } else { Level::Error };
            self.message(level, format_args!("{news}"));
        }
    }

    /// Closes all files and the way to syslog; they are opened again when next written to, under their own names (log
    /// rotation), and limits begin anew.
    pub fn reopen(&mut self) {
        self.flush();
        recorder::reopen();
        self.syslog.clear();
        if let Some(file) = self.main_file.first_mut() {
            file.fd = None;
        }
        while let Some(File { path, lost, .. }) = self.files.pop() {
            if lost > 0 {
                let text = format_args!("{}: closed; records lost: {lost}", Bytes(&path));
                self.message(Level::Warning, text);
            }
        }
    }

    /// Writes what was gathered. Before the daemon sleeps, forks, becomes another program or ends.
    pub fn flush(&mut self) {
        // What becomes of the lines of a service's file may have to be told in the daemon's own.
        while self.gathered.len > 0 {
            self.flush_once();
        }
    }

    fn flush_once(&mut self) {
        let Log { main_file, files, gathered, .. } = self;
        let place = gathered.place;
        let file = place.among(main_file, files);
        let text = gathered.bytes.get(..gathered.len).unwrap_or(&[]);
        gathered.len = 0;
        let Some(file) = file else { return };
        let rest = text.get(file.write(text)..).unwrap_or(&[]);
        file.size = file.size.saturating_sub(rest.len() as u64);
        let lost = rest.iter().filter(|&&b| b == b'\n').count() as u64;
        file.lost += lost;
        if let Place::Service(at) = place
            && lost > 0
        {
            self.tell_unwritten(at);
        }
    }

    /// Appends a line to a file, now or when the turn ends; whether it can be.
    fn append(&mut self, place: Place, line: &[u8]) -> bool {
        let has_no_room = self.gathered.len + line.len() > LOG_GATHER_BYTES;
        let Log { main_file, files, .. } = self;
        // Then it is looked at how large the file is, and what is not in it yet would not count.
        let is_limit = place.among(main_file, files).is_some_and(|file| file.is_over(file.hard, line.len()));
        if self.gathered.len > 0 && (self.gathered.place != place || has_no_room || is_limit) {
            self.flush_once();
        }
        let Log { main_file, files, .. } = self;
        let Some(file) = place.among(main_file, files) else { return false };
        if !file.takes(line.len()) {
            return false;
        }
        // After a failure each line shows whether it is over.
        if file.lost > 0 {
            let n = file.write(line);
            file.size += n as u64;
            return n == line.len();
        }
        file.size += line.len() as u64;
        let Gathered { place: whose, len, bytes } = &mut self.gathered;
        if let Some(room) = bytes.get_mut(*len..*len + line.len()) {
            room.copy_from_slice(line);
            *len += line.len();
            *whose = place;
        }
        true
    }

    /// Says once that records cannot be written.
    fn tell_unwritten(&mut self, at: usize) {
        let Some(file) = self.files.get_mut(at).filter(|file| !file.hard_told) else { return };
        file.hard_told = true;
        let why = match &file.fd {
            Some(_) if file.is_over(file.hard, LOG_LINE_BYTES) => "Size of log exceeded hard limit; bytes",
            Some(_) => "Log file cannot be written; size",
            None => "Log file cannot be opened; records lost",
        };
        let number = if file.fd.is_some() { file.size } else { 1 };
        let path = file.path.clone();
        self.message(Level::Error, format_args!("{}: {why}: {number}", Bytes(&path)));
    }

    /// Writes a service's record where its log_type says.
    pub fn record(&mut self, record: &Record<'_>) {
        recorder::record(record);
        self.tell_news();
        let place = if record.is_service_record() { record.service.log_type } else { LogType::Daemon };
        // `severity` of hosts_options(5) is about syslog; a file has neither facilities nor levels.
        if let Some((facility, level)) = record.severity {
            let usual = match (place, self.main) {
                (LogType::Syslog { facility, .. }, _) | (LogType::Daemon, Main::Syslog { facility }) => {
                    Some(facility)
                }
                _ => None,
            };
            if let Some(usual) = usual {
                return self.syslog(facility.unwrap_or(usual), level, format_args!("{record}"));
            }
        }
        match place {
            LogType::Daemon => self.write_to_main(record.level(), format_args!("{record}")),
            LogType::Syslog { facility, level } => self.syslog(facility, level, format_args!("{record}")),
            LogType::File(file) => self.write_to_file(record, file),
        }
    }

    /// Writes a message of the daemon's own.
    pub fn message(&mut self, level: Level, text: fmt::Arguments<'_>) {
        recorder::message(level, text);
        self.tell_news();
        self.write_to_main(level, text);
        // These are few, and may be the last thing that is said.
        self.flush();
    }

    fn write_to_main(&mut self, level: Level, text: fmt::Arguments<'_>) {
        match self.main {
            Main::Syslog { facility } => self.syslog(facility, level as u8, text),
            Main::Stderr { levels } => self.stderr(levels, level as u8, text),
            Main::File => {
                let lost = self.main_file.first().map_or(0, |file| file.lost);
                if lost > 0 {
                    let told = format_args!("{lost} messages could not be written");
                    if self.append_to_main(Level::Warning, told)
                        && let Some(file) = self.main_file.first_mut()
                    {
                        file.lost = 0;
                    }
                }
                if !self.append_to_main(level, text)
                    && let Some(file) = self.main_file.first_mut()
                {
                    file.lost += 1;
                }
            }
        }
    }

    fn stderr(&mut self, levels: bool, level: u8, text: fmt::Arguments<'_>) {
        let mut line = Line::new();
        let _ = if levels { write!(line, "<{level}>") } else { write!(line, "{}: ", self.tag()) };
        let _ = line.write_fmt(text);
        self.tell_lost_on_stderr();
        if !write_stderr(line.line()) {
            self.lost += 1;
        }
    }

    fn append_to_main(&mut self, level: Level, text: fmt::Arguments<'_>) -> bool {
        let mut line = Line::new();
        let _ = line.write_str(self.stamp());
        let _ = write!(line, " {}[{}]: {}: ", self.tag(), self.pid, level.word());
        let _ = line.write_fmt(text);
        self.append(Place::Main, line.line())
    }

    fn tell_lost_on_stderr(&mut self) {
        if self.lost > 0 {
            let mut told = Line::new();
            let _ = write!(told, "{}: {} messages could not be written", self.tag(), self.lost);
            if write_stderr(told.line()) {
                self.lost = 0;
            }
        }
    }

    fn write_to_file(&mut self, record: &Record<'_>, to: LogFile) {
        let path = record.table.bytes(to.path);
        let at = self.files.iter().position(|file| file.path.as_slice() == path);
        let at = match at {
            Some(at) => at,
            None => {
                let file = File::new(path, to.soft.into(), to.hard.into());
                if file.is_none_or(|file| self.files.push(file).is_err()) {
                    // One file too many: better in the wrong place than nowhere.
                    return self.write_to_main(record.level(), format_args!("{record}"));
                }
                self.files.len() - 1
            }
        };
        let mut line = Line::new();
        let _ = line.write_str(self.stamp());
        let _ = write!(line, ": {record}");
        let is_taken = self.append(Place::Service(at), line.line());
        let Some(file) = self.files.get_mut(at) else { return };
        if !is_taken {
            file.lost += 1;
            return self.tell_unwritten(at);
        }
        let mut told = None;
        if file.lost > 0 {
            told = Some(("Log file is written again; records lost", file.lost));
            file.lost = 0;
            file.hard_told = false;
        } else if file.is_over(file.soft, 0) && !file.soft_told {
            file.soft_told = true;
            told = Some(("Size of log exceeded soft limit; bytes", file.soft));
        }
        if let Some((what, number)) = told {
            let path = record.table.bytes(to.path);
            self.message(Level::Warning, format_args!("{}: {what}: {number}", Bytes(path)));
        }
    }

    fn syslog(&mut self, facility: u8, level: u8, text: fmt::Arguments<'_>) {
        let mut line = Line::new();
        let _ = write!(line, "<{}>", u32::from(facility) * 8 + u32::from(level));
        let _ = self.zone.at(self.now).write_syslog_stamp(&mut line);
        let _ = write!(line, " {}[{}]: ", self.tag(), self.pid);
        let _ = line.write_fmt(text);
        if self.lost > 0 {
            let mut told = Line::new();
            let _ = write!(told, "<{}>", u32::from(FACILITY_DAEMON) * 8 + Level::Warning as u32);
            let _ = self.zone.at(self.now).write_syslog_stamp(&mut told);
            let _ =
                write!(told, " {}[{}]: {} messages could not be written", self.tag(), self.pid, self.lost);
            if self.send(told.text()) {
                self.lost = 0;
            }
        }
        if !self.send(line.text()) {
            match self.main {
                // Small boards often have no syslogd: whoever watches a foreground daemon sees the records even so.
                Main::Stderr { levels } => self.stderr(levels, level, text),
                Main::Syslog { .. } | Main::File => self.lost += 1,
            }
        }
    }

    /// Sends to syslog; once more over a new socket, because syslogd may have been restarted.
    fn send(&mut self, message: &[u8]) -> bool {
        for _ in 0..2 {
            if self.syslog.is_empty()
                && let Some(fd) = open_syslog()
            {
                let _ = self.syslog.push(fd);
            }
            let Some(fd) = self.syslog.first() else { return false };
            match send(fd, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => return true,
                // syslogd is slow: the message is lost, the way to it is not.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => return false,
                Err(_) => self.syslog.clear(),
            }
        }
        false
    }
}

fn open_syslog() -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok()?;
    connect(&fd, &SocketAddrUnix::new(c"/dev/log").ok()?).ok()?;
    Some(fd)
}

/// Writes a line to standard error if that takes it at once. It may be a pipe whose reader is slow, and it is shared
/// with whoever started us, so it must not be made non-blocking; but a pipe that poll(2) calls writable takes 4096
/// bytes, and a line is shorter.
pub fn write_stderr(line: &[u8]) -> bool {
    const _: () = assert!(LOG_LINE_BYTES <= 4096);
    let fd = stderr();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&now));
    ready.is_ok_and(|n| n > 0) && rustix::io::write(fd, line).is_ok_and(|n| n == line.len())
}

#[allow(unsafe_code)]
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: descriptors 0 to 2 are opened before anything else and never closed.
    unsafe { rustix::stdio::stderr() }
}

/// What a server wrote to its standard error, as it comes: lines of it, and a rest without line feed.
pub fn each_line(bytes: &[u8], mut take: impl FnMut(&[u8])) {
    for line in bytes.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            take(line);
        }
    }
}
