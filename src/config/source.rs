//! Where configuration text comes from, as the loader sees it.
//!
//! The core does no I/O: a backend implements this over its file system, tests over a few strings. Files are read
//! by offset, so that an including file costs no buffer while an included one is read.

use crate::errno::Errno;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    Regular,
    Directory,
    Other,
}

pub trait Files {
    /// An open file. Dropping it closes it.
    type Handle;

    /// Opens a file for reading. Never blocks on what is not a regular file.
    fn open(&mut self, path: &[u8]) -> Result<Self::Handle, Errno>;

    /// Reads at `offset` bytes from the start; 0 is the end of the file. May return less than asked for.
    fn read_at(&mut self, file: &Self::Handle, offset: u64, buf: &mut [u8]) -> Result<usize, Errno>;

    /// The entry of directory `dir` that comes first in byte order after `after` (empty: the very first), copied
    /// into `buf`; its length, or `None` when there is none. `.` and `..` are left out. Asking again for every
    /// name costs a scan each, and spares storing and sorting a directory of any size.
    fn next_name(&mut self, dir: &[u8], after: &[u8], buf: &mut [u8]) -> Result<Option<usize>, Errno>;

    /// What `path` is, symbolic links followed.
    fn kind(&mut self, path: &[u8]) -> Result<FileKind, Errno>;

    /// Whether the daemon could execute `path` (access(2) with X_OK, a regular file).
    fn executable(&mut self, path: &[u8]) -> Result<(), Errno>;
}
