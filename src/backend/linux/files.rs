//! Configuration files, read from the file system.

use core::mem::MaybeUninit;

use rustix::fd::OwnedFd;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir, accessat, fstat, makedev, openat, stat,
};

use crate::capacity::NAME_BYTES;
use crate::config::source::{FileKind, Files};
use crate::errno::Errno;

/// Longest file that is read, in bytes: a thousand times the largest services file there is.
const LONGEST_FILE: u64 = 64 << 20;

pub struct FileSystem;

impl Files for FileSystem {
    type Handle = OwnedFd;

    fn open(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        // NONBLOCK: a FIFO in the way must not stop a daemon; NOCTTY: a terminal must not become ours.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = openat(CWD, path, flags, Mode::empty())?;
        let found = fstat(&file)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => Ok(file),
            FileType::Directory => Err(Errno::ISDIR),
            // Links to it switch files off.
            FileType::CharacterDevice if found.st_rdev == makedev(1, 3) => Ok(file),
            // It may have no end, as /dev/zero, or give what it has only once.
            _ => Err(Errno::INVAL),
        }
    }

    fn read_at(&mut self, file: &OwnedFd, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        // A file with a hole of terabytes has no end either, as far as a daemon that reloads is concerned.
        if offset > LONGEST_FILE {
            return Err(Errno::FBIG);
        }
        loop {
            match rustix::io::pread(file, &mut *buf, offset) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn next_name(&mut self, dir: &[u8], after: &[u8], buf: &mut [u8]) -> Result<Option<usize>, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let dir = openat(CWD, dir, flags, Mode::empty())?;
        let mut space = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&dir, &mut space);
        let mut least = [0u8; NAME_BYTES];
        let mut least_len = None;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || name <= after {
                continue;
            }
            let best = least_len.and_then(|len| least.get(..len));
            if best.is_none_or(|best| name < best)
                && let Some(place) = least.get_mut(..name.len())
            {
                place.copy_from_slice(name);
                least_len = Some(name.len());
            }
        }
        let Some(name) = least_len.and_then(|len| least.get(..len)) else { return Ok(None) };
        buf.get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name);
        Ok(Some(name.len()))
    }

    fn kind(&mut self, path: &[u8]) -> Result<FileKind, Errno> {
        Ok(match FileType::from_raw_mode(stat(path)?.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            _ => FileKind::Other,
        })
    }

    fn executable(&mut self, path: &[u8]) -> Result<(), Errno> {
        match self.kind(path)? {
            FileKind::Regular => Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?),
            FileKind::Directory => Err(Errno::ISDIR),
            FileKind::Other => Err(Errno::ACCESS),
        }
    }
}
