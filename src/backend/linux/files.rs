//! Configuration files, read from the file system.

use core::mem::MaybeUninit;

use rustix::fd::OwnedFd;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir, accessat, openat, stat};

use crate::capacity::NAME_BYTES;
use crate::config::source::{FileKind, Files};
use crate::errno::Errno;

pub struct FileSystem;

impl Files for FileSystem {
    type Handle = OwnedFd;

    fn open(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        // NONBLOCK: a FIFO in the way must not stop a daemon; NOCTTY: a terminal must not become ours.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(openat(CWD, path, flags, Mode::empty())?)
    }

    fn read_at(&mut self, file: &OwnedFd, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::pread(file, &mut *buf, offset) {
                Err(rustix::io::Errno::INTR) => {}
                // /proc files and pipes cannot be read at an offset; only regular files are configuration.
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
