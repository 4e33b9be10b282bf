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
    ///
    /// Where nobody includes directories or starts programs, this and the next two stay as they are: nothing is there.
    fn next_name(&mut self, _dir: &[u8], _after: &[u8], _buf: &mut [u8]) -> Result<Option<usize>, Errno> {
        Err(Errno::NOENT)
    }

    /// What `path` is, symbolic links followed.
    fn kind(&mut self, _path: &[u8]) -> Result<FileKind, Errno> {
        Err(Errno::NOENT)
    }

    /// Whether the daemon could execute `path` (access(2) with X_OK, a regular file).
    fn executable(&mut self, _path: &[u8]) -> Result<(), Errno> {
        Err(Errno::NOENT)
    }

    /// A number that is another one whenever what is read at `path` may be something else than it was; a file that is
    /// not there has one too. `None`: that cannot be told.
    fn version(&mut self, _path: &[u8]) -> Option<u64> {
        None
    }
}

/// A machine without files.
pub struct NoFiles;

impl Files for NoFiles {
    type Handle = core::convert::Infallible;

    fn open(&mut self, _: &[u8]) -> Result<Self::Handle, Errno> {
        Err(Errno::NOENT)
    }

    fn read_at(&mut self, file: &Self::Handle, _: u64, _: &mut [u8]) -> Result<usize, Errno> {
        match *file {}
    }

    /// There never are any.
    fn version(&mut self, _: &[u8]) -> Option<u64> {
        Some(0)
    }
}

/// Files in memory, for tests.
#[cfg(any(test, feature = "sim"))]
pub mod memory {
    extern crate std;
    use super::{FileKind, Files};
    use crate::errno::Errno;
    use std::{collections::BTreeMap, string::String, vec::Vec};

    /// Paths and contents. A path that ends in a slash is a directory; a path in `programs` may be executed.
    #[derive(Default)]
    pub struct Tree {
        files: BTreeMap<Vec<u8>, Vec<u8>>,
        programs: Vec<Vec<u8>>,
        writes: u64,
    }

    impl Tree {
        pub fn file(mut self, path: &str, text: impl AsRef<[u8]>) -> Tree {
            self.files.insert(path.into(), text.as_ref().to_vec());
            self
        }

        /// Writes a file, or another content into it.
        pub fn write(&mut self, path: &str, text: impl AsRef<[u8]>) {
            self.writes += 1;
            self.files.insert(path.into(), text.as_ref().to_vec());
        }

        pub fn program(mut self, path: &str) -> Tree {
            self.programs.push(path.into());
            self
        }
    }

    impl Files for Tree {
        type Handle = Vec<u8>;

        fn open(&mut self, path: &[u8]) -> Result<Vec<u8>, Errno> {
            self.files.get(path).cloned().ok_or(Errno::NOENT)
        }

        fn read_at(&mut self, file: &Vec<u8>, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
            let rest = file.get(offset as usize..).unwrap_or(&[]);
            // Short reads, as a pipe or a network file system may give.
            let n = rest.len().min(buf.len()).min(1000);
            buf[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }

        fn next_name(&mut self, dir: &[u8], after: &[u8], buf: &mut [u8]) -> Result<Option<usize>, Errno> {
            let mut prefix = dir.to_vec();
            if !prefix.ends_with(b"/") {
                prefix.push(b'/');
            }
            let mut inside =
                self.files.keys().filter_map(|path| path.strip_prefix(prefix.as_slice())).peekable();
            if inside.peek().is_none() {
                return Err(Errno::NOENT);
            }
            let next = inside
                .map(|rest| rest.split(|&b| b == b'/').next().unwrap_or(&[]))
                .filter(|name| !name.is_empty() && *name > after)
                .min();
            match next {
                None => Ok(None),
                Some(name) if name.len() > buf.len() => Err(Errno::NAMETOOLONG),
                Some(name) => {
                    buf[..name.len()].copy_from_slice(name);
                    Ok(Some(name.len()))
                }
            }
        }

        fn kind(&mut self, path: &[u8]) -> Result<FileKind, Errno> {
            let mut dir = path.to_vec();
            dir.push(b'/');
            if self.files.contains_key(path) {
                Ok(FileKind::Regular)
            } else if self.files.keys().any(|p| p.starts_with(&dir)) {
                Ok(FileKind::Directory)
            } else {
                Err(Errno::NOENT)
            }
        }

        fn executable(&mut self, path: &[u8]) -> Result<(), Errno> {
            let found = self.programs.iter().any(|p| p == path || p == b"*");
            if found { Ok(()) } else { Err(Errno::NOENT) }
        }

        fn version(&mut self, _: &[u8]) -> Option<u64> {
            Some(self.writes)
        }
    }

    /// Escapes for failure messages.
    pub fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }
}
