//! Files that are looked into at every connection, kept in memory while they do not change.
//!
//! hosts.allow and hosts.deny hold from the moment they are written, so they have to be asked at every connection; but
//! not every connection has to read them. A file of up to [`CACHE_BYTES`] is read once and then only looked at: device,
//! inode, size and both times of change. Once for every connection and datagram: many are taken in one turn of the loop,
//! and who has seen the first of them answered may change a file before he comes again. A larger file is read as it
//! always was; but whether it is still the same is known of it, too.
//!
//! Looking at a file by its path is most of what such a look costs (every directory on the way is looked up), so it is done
//! once a second. Between, its directory and the file itself are looked at through descriptors ([`Proof`]): a directory's
//! times change with every name that comes, goes or is given to another file. What that does not tell (another directory
//! under the same name, a mount on top) holds a second later. A symbolic link, which would need a look at two
//! directories, is looked at by its path always.
//!
//! A file that is changed twice within the grain of its timestamps, to the same size, looks as if it had been changed
//! once. So what was read within [`RACY_S`] of the last change is not believed in the next turn (git calls such
//! entries racily clean).

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, lstat, open, stat};

use super::files::FileSystem;
use crate::capacity::{CACHE_BYTES, CACHED_DIRS, CACHED_FILES, PATH_BYTES};
use crate::config::source::{FileKind, Files};
use crate::errno::Errno;

/// Seconds after a change in which another one may leave no trace: more than the grain of any file system's clock
/// (FAT's is 2 s).
const RACY_S: i64 = 3;

/// What a change would change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    /// Of content and of inode, in seconds and nanoseconds.
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the fields are narrower on 32-bit ARM"
    )]
    fn of(stat: &Stat) -> Stamp {
        Stamp {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}

/// A directory of files that are in the cache.
struct Dir {
    path: heapless::Vec<u8, PATH_BYTES>,
    fd: OwnedFd,
    /// The turn it was looked at last, and what it was then.
    turn: u64,
    stamp: Option<Stamp>,
}

/// Why a file need not be looked at by its path: its directory is what it was just before that was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Proof {
    dir: usize,
    stamp: Stamp,
    /// The second in which it was done.
    second: i64,
}

/// What is known of a file, apart from its bytes.
#[derive(Debug)]
struct Entry {
    path: heapless::Vec<u8, PATH_BYTES>,
    /// Counts what the entry has stood for, so that a handle or a version of before is recognised.
    generation: u32,
    /// The turn it was looked at last, or the part of one: see [`Cache::look_again`].
    turn: u64,
    state: State,
    proof: Option<Proof>,
    /// The file, if it is there and there is a proof.
    fd: Option<OwnedFd>,
}

impl Entry {
    /// Nothing is known yet: turns count from 1.
    fn new(path: heapless::Vec<u8, PATH_BYTES>, generation: u32) -> Entry {
        Entry { path, generation, turn: 0, state: State::Absent, proof: None, fd: None }
    }

    fn is_absent(&self, path: &[u8], turn: u64) -> bool {
        self.path.as_slice() == path && self.turn == turn && self.state == State::Absent
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Absent,
    /// It is there; its bytes too, unless they are too many.
    There {
        stamp: Stamp,
        len: Option<usize>,
        is_settled: bool,
    },
}

/// The files, and those of them that are in memory.
pub struct Cache {
    entries: heapless::Vec<Entry, CACHED_FILES>,
    dirs: heapless::Vec<Dir, CACHED_DIRS>,
    bytes: [[u8; CACHE_BYTES]; CACHED_FILES],
    turn: u64,
    /// The time of day at the beginning of the turn, in seconds.
    now: i64,
}

/// What a look at a path has found.
enum Look {
    /// It is as it was, or is now known.
    Known { at: usize, generation: u32, is_held: bool },
    /// Nothing can be said of it but what is read.
    Opened(<FileSystem as Files>::Handle),
}

/// An open file.
pub enum Handle {
    File(<FileSystem as Files>::Handle),
    Held { at: usize, generation: u32 },
}

impl Cache {
    pub const fn new() -> Cache {
        Cache {
            entries: heapless::Vec::new(),
            dirs: heapless::Vec::new(),
            bytes: [[0; CACHE_BYTES]; CACHED_FILES],
            turn: 0,
            now: 0,
        }
    }

    /// A new turn of the loop begins.
    pub fn begin_turn(&mut self, unix: i64) {
        self.turn = self.turn.wrapping_add(1);
        self.now = unix;
    }

    /// Somebody else is asked about: what has changed since the last one holds for him.
    pub fn look_again(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// The entry for a path: its own, a free one, or the one that was not looked at for the longest time.
    fn entry(&mut self, path: &[u8]) -> Option<usize> {
        if let Some(at) = self.entries.iter().position(|entry| entry.path.as_slice() == path) {
            return Some(at);
        }
        let path = heapless::Vec::from_slice(path).ok()?;
        let path = match self.entries.push(Entry::new(path, 0)) {
            Ok(()) => return Some(self.entries.len() - 1),
            Err(Entry { path, .. }) => path,
        };
        let (at, oldest) = self.entries.iter_mut().enumerate().min_by_key(|(_, entry)| entry.turn)?;
        // What is read in this turn may be read on in this turn.
        if oldest.turn == self.turn {
            return None;
        }
        *oldest = Entry::new(path, oldest.generation.wrapping_add(1));
        Some(at)
    }

    /// Reads a file into its entry, if it is not too large for that.
    fn load(&mut self, at: usize, path: &[u8]) -> Result<Look, Errno> {
        let file = match FileSystem.open(path) {
            Err(Errno::NOENT) => return Err(self.absent(at)),
            other => other?,
        };
        let found = fstat(&file)?;
        let stamp = Stamp::of(&found);
        let (Some(entry), Some(bytes)) = (self.entries.get_mut(at), self.bytes.get_mut(at)) else {
            return Ok(Look::Opened(file));
        };
        entry.generation = entry.generation.wrapping_add(1);
        entry.state = State::Absent;
        entry.turn = 0;
        // A device, as /dev/null, has no size to go by.
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(Look::Opened(file));
        }
        let mut len = 0;
        if usize::try_from(stamp.size).is_ok_and(|size| size < CACHE_BYTES) {
            while let Some(room) = bytes.get_mut(len..)
                && !room.is_empty()
            {
                match FileSystem.read_at(&file, len as u64, room)? {
                    0 => break,
                    n => len += n,
                }
            }
            // Those of /proc say that they are empty, and are not.
            if len == CACHE_BYTES || (stamp.size == 0 && len > 0) {
                return Ok(Look::Opened(file));
            }
        }
        let is_held = stamp.size == 0 || len > 0;
        // Written to while it was read: it will look different, unless that was too soon as well.
        let last = stamp.modified.0.max(stamp.changed.0);
        let is_settled = self.now.saturating_sub(last) >= RACY_S;
        entry.state = State::There { stamp, len: is_held.then_some(len), is_settled };
        entry.turn = self.turn;
        Ok(Look::Known { at, generation: entry.generation, is_held })
    }

    /// Nothing is there, for this turn.
    fn absent(&mut self, at: usize) -> Errno {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.state = State::Absent;
            entry.turn = self.turn;
        }
        Errno::NOENT
    }

    /// What the directory is now; looked at once a turn.
    fn dir_stamp(&mut self, at: usize) -> Option<Stamp> {
        let dir = self.dirs.get_mut(at)?;
        if dir.turn != self.turn {
            dir.stamp = fstat(&dir.fd).ok().map(|stat| Stamp::of(&stat));
            dir.turn = self.turn;
        }
        dir.stamp
    }

    /// What the directory of a path is before the path is looked at, if that can be relied on.
    fn proof(&mut self, path: &[u8]) -> Option<Proof> {
        let parent = match path.iter().rposition(|&b| b == b'/')? {
            0 => b"/".as_slice(),
            slash => path.get(..slash)?,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = || open(parent, flags, Mode::empty()).ok();
        let dir = match self.dirs.iter().position(|dir| dir.path.as_slice() == parent) {
            Some(at) => {
                // Another one may have its name by now.
                let by_path = Stamp::of(&stat(parent).ok()?);
                if self
                    .dir_stamp(at)
                    .is_none_or(|known| known.inode != by_path.inode || known.device != by_path.device)
                {
                    self.dirs.get_mut(at)?.fd = opened()?;
                    self.dirs.get_mut(at)?.turn = 0;
                }
                at
            }
            None => {
                let path = heapless::Vec::from_slice(parent).ok()?;
                self.dirs.push(Dir { path, fd: opened()?, turn: 0, stamp: None }).ok()?;
                self.dirs.len() - 1
            }
        };
        let stamp = self.dir_stamp(dir)?;
        let last = stamp.modified.0.max(stamp.changed.0);
        (self.now.saturating_sub(last) >= RACY_S).then_some(Proof { dir, stamp, second: self.now })
    }

    /// The entry is up to date, and `proof` is from before that was seen by its path.
    fn prove(&mut self, at: usize, proof: Option<Proof>) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        let is_proved = match entry.state {
            // A symbolic link that leads nowhere yet is there.
            State::Absent => {
                entry.fd = None;
                proof.is_some() && lstat(entry.path.as_slice()).is_err_and(|e| e == rustix::io::Errno::NOENT)
            }
            State::There { stamp, is_settled, .. } => {
                let is_same = |fd: &OwnedFd| fstat(fd).is_ok_and(|stat| Stamp::of(&stat) == stamp);
                if !entry.fd.as_ref().is_some_and(is_same) {
                    // Of a symbolic link this is the link itself, which is not the same as what it leads to.
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    entry.fd = open(entry.path.as_slice(), flags, Mode::empty()).ok().filter(is_same);
                }
                is_settled && entry.fd.is_some()
            }
        };
        entry.proof = proof.filter(|_| is_proved);
    }

    /// Whether nothing can have happened to a file since it was looked at by its path.
    fn is_untouched(&mut self, at: usize) -> bool {
        let Some(proof) = self.entries.get(at).and_then(|entry| entry.proof) else { return false };
        if proof.second != self.now || self.dir_stamp(proof.dir) != Some(proof.stamp) {
            return false;
        }
        let Some(entry) = self.entries.get(at) else { return false };
        match (entry.state, &entry.fd) {
            (State::Absent, _) => true,
            (State::There { stamp, .. }, Some(fd)) => fstat(fd).is_ok_and(|stat| Stamp::of(&stat) == stamp),
            (State::There { .. }, None) => false,
        }
    }

    /// Makes sure, once a turn, that the entry for a path is up to date.
    fn look(&mut self, path: &[u8]) -> Result<Look, Errno> {
        let Some(at) = self.entry(path) else { return FileSystem.open(path).map(Look::Opened) };
        let turn = self.turn;
        let is_seen = self.entries.get(at).is_some_and(|entry| entry.turn == turn) || self.is_untouched(at);
        let Some(entry) = self.entries.get_mut(at) else { return Err(Errno::IO) };
        if is_seen {
            entry.turn = turn;
            return match entry.state {
                State::Absent => Err(Errno::NOENT),
                State::There { len, .. } => {
                    Ok(Look::Known { at, generation: entry.generation, is_held: len.is_some() })
                }
            };
        }
        // What it stood for until now counts for nothing, whatever becomes of the look.
        entry.proof = None;
        let proof = self.proof(path);
        let looked = self.look_by_path(at, path);
        if matches!(looked, Ok(Look::Known { .. }) | Err(Errno::NOENT)) {
            self.prove(at, proof);
        }
        looked
    }

    fn look_by_path(&mut self, at: usize, path: &[u8]) -> Result<Look, Errno> {
        let found = match stat(path) {
            Ok(stat) => Stamp::of(&stat),
            Err(rustix::io::Errno::NOENT) => return Err(self.absent(at)),
            Err(errno) => return Err(errno.into()),
        };
        let turn = self.turn;
        if let Some(entry) = self.entries.get_mut(at)
            && let State::There { stamp, len, is_settled: true } = entry.state
            && stamp == found
        {
            entry.turn = turn;
            return Ok(Look::Known { at, generation: entry.generation, is_held: len.is_some() });
        }
        self.load(at, path)
    }

    fn open(&mut self, path: &[u8]) -> Result<Handle, Errno> {
        match self.look(path)? {
            Look::Known { at, generation, is_held: true } => Ok(Handle::Held { at, generation }),
            Look::Known { .. } => FileSystem.open(path).map(Handle::File),
            Look::Opened(file) => Ok(Handle::File(file)),
        }
    }

    /// What is read between this and the next look may be newer than what the number stands for: it will be another
    /// one then.
    fn version(&mut self, path: &[u8]) -> Option<u64> {
        match self.look(path) {
            Ok(Look::Known { at, generation, .. }) => Some(((at as u64) << 32) | u64::from(generation)),
            // An entry that stands for something has been loaded, so it is not 0. Without an entry it may be there when it
            // is read.
            Err(Errno::NOENT) => {
                self.entries.iter().any(|entry| entry.is_absent(path, self.turn)).then_some(0)
            }
            Ok(Look::Opened(_)) | Err(_) => None,
        }
    }

    fn read_at(&mut self, file: &Handle, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let (at, generation) = match file {
            Handle::File(file) => return FileSystem.read_at(file, offset, buf),
            Handle::Held { at, generation } => (*at, *generation),
        };
        let entry = self.entries.get(at).filter(|entry| entry.generation == generation);
        let Some(State::There { len: Some(len), .. }) = entry.map(|entry| entry.state) else {
            return Err(Errno::IO);
        };
        let bytes = self.bytes.get(at).and_then(|bytes| bytes.get(..len)).unwrap_or(&[]);
        let rest = usize::try_from(offset).ok().and_then(|from| bytes.get(from..)).unwrap_or(&[]);
        let n = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(n)
    }
}

/// The file system, with a cache or without: one type, so that the code that reads files is in the program once.
pub struct Disk {
    cache: Option<&'static mut Cache>,
}

impl Disk {
    pub const fn cached(cache: &'static mut Cache) -> Disk {
        Disk { cache: Some(cache) }
    }

    /// For what is read once: configuration files.
    pub const fn plain() -> Disk {
        Disk { cache: None }
    }

    pub fn begin_turn(&mut self, unix: i64) {
        if let Some(cache) = &mut self.cache {
            cache.begin_turn(unix);
        }
    }

    pub fn look_again(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.look_again();
        }
    }
}

impl Files for Disk {
    type Handle = Handle;

    fn open(&mut self, path: &[u8]) -> Result<Handle, Errno> {
        match &mut self.cache {
            Some(cache) => cache.open(path),
            None => FileSystem.open(path).map(Handle::File),
        }
    }

    fn read_at(&mut self, file: &Handle, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        match (&mut self.cache, file) {
            (_, Handle::File(file)) => FileSystem.read_at(file, offset, buf),
            (Some(cache), Handle::Held { .. }) => cache.read_at(file, offset, buf),
            (None, Handle::Held { .. }) => Err(Errno::IO),
        }
    }

    fn next_name(&mut self, dir: &[u8], after: &[u8], buf: &mut [u8]) -> Result<Option<usize>, Errno> {
        FileSystem.next_name(dir, after, buf)
    }

    fn kind(&mut self, path: &[u8]) -> Result<FileKind, Errno> {
        FileSystem.kind(path)
    }

    fn executable(&mut self, path: &[u8]) -> Result<(), Errno> {
        FileSystem.executable(path)
    }

    fn version(&mut self, path: &[u8]) -> Option<u64> {
        self.cache.as_mut()?.version(path)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;
    use std::vec::Vec;
    use std::{env, format, fs, process};

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = env::temp_dir().join(format!("usherd-cache-{name}-{}", process::id()));
            fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Opens and reads a file in a new turn, at a time of day.
    fn read(cache: &mut Cache, path: &std::path::Path, unix: i64) -> Result<(bool, Vec<u8>), Errno> {
        cache.begin_turn(unix);
        let handle = cache.open(path.as_os_str().as_bytes())?;
        let mut all = Vec::new();
        let mut buf = [0; 100];
        loop {
            match cache.read_at(&handle, all.len() as u64, &mut buf)? {
                0 => return Ok((matches!(handle, Handle::Held { .. }), all)),
                n => all.extend(&buf[..n]),
            }
        }
    }

    fn now() -> i64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
    }

    #[test]
    fn a_change_is_seen_however_soon_it_comes() {
        let dir = Dir::new("change");
        let mut cache = Box::new(Cache::new());
        let file = dir.path("hosts.deny");
        assert_eq!(read(&mut cache, &file, now()), Err(Errno::NOENT));
        // The same size every time, and sooner than any clock ticks.
        for n in 0..200 {
            let text = format!("{n:03}");
            fs::write(&file, &text).unwrap();
            assert_eq!(read(&mut cache, &file, now()), Ok((true, text.into_bytes())));
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(read(&mut cache, &file, now()), Err(Errno::NOENT));
    }

    #[test]
    fn a_change_within_a_turn_is_seen_by_the_next_one_who_comes() {
        let dir = Dir::new("within");
        let path = dir.path("hosts.deny");
        std::fs::write(&path, "ALL: 1\n").unwrap();
        let mut cache = Cache::new();
        assert_eq!(read(&mut cache, &path, now()).unwrap().1, b"ALL: 1\n");
        std::fs::write(&path, "ALL: 2\n").unwrap();
        cache.look_again();
        let file = cache.open(path.to_str().unwrap().as_bytes()).unwrap();
        let mut buf = [0; 64];
        let n = cache.read_at(&file, 0, &mut buf).unwrap();
        assert_eq!(&buf[..n], b"ALL: 2\n");
        std::fs::remove_file(&path).unwrap();
        cache.look_again();
        assert!(cache.open(path.to_str().unwrap().as_bytes()).is_err());
    }

    #[test]
    fn what_has_settled_is_not_read_again() {
        let dir = Dir::new("settled");
        let mut cache = Box::new(Cache::new());
        let file = dir.path("hosts.allow");
        fs::write(&file, "ALL: ALL").unwrap();
        let later = now() + 10;
        assert_eq!(read(&mut cache, &file, later), Ok((true, b"ALL: ALL".to_vec())));
        // Only a change of the entry itself would tell that it was read.
        cache.bytes[0][0] = b'X';
        assert_eq!(read(&mut cache, &file, later), Ok((true, b"XLL: ALL".to_vec())));
        // Another file under the same name, of the same size.
        fs::write(dir.path("new"), "ALL: 10.").unwrap();
        fs::rename(dir.path("new"), &file).unwrap();
        assert_eq!(read(&mut cache, &file, later + 1), Ok((true, b"ALL: 10.".to_vec())));
    }

    /// A directory that was changed long ago, so that the next change is told from that one.
    fn aged(dir: &Dir) {
        let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        fs::File::open(&dir.0).unwrap().set_modified(past).unwrap();
    }

    #[test]
    fn a_change_is_seen_within_the_second_of_a_look() {
        let (dir, other) = (Dir::new("second"), Dir::new("other"));
        let mut cache = Box::new(Cache::new());
        let file = dir.path("hosts.deny");
        let later = now() + 100;
        let mut expect = |text: Option<&str>| {
            for _ in 0..2 {
                let found = read(&mut cache, &file, later);
                assert_eq!(found.ok().map(|(_, bytes)| bytes), text.map(|text| text.as_bytes().to_vec()));
            }
        };
        aged(&dir);
        expect(None);
        fs::write(&file, "ALL: ALL").unwrap();
        expect(Some("ALL: ALL"));
        fs::write(&file, "ALL: KNOWN").unwrap();
        expect(Some("ALL: KNOWN"));
        aged(&dir);
        expect(Some("ALL: KNOWN"));
        fs::write(other.path("new"), "ALL: LOCAL").unwrap();
        fs::rename(other.path("new"), &file).unwrap();
        expect(Some("ALL: LOCAL"));
        aged(&dir);
        expect(Some("ALL: LOCAL"));
        fs::remove_file(&file).unwrap();
        expect(None);
        // What a link leads to is in a directory that nobody watches.
        std::os::unix::fs::symlink(other.path("hosts.deny"), &file).unwrap();
        aged(&dir);
        expect(None);
        fs::write(other.path("hosts.deny"), "ALL: 10.").unwrap();
        expect(Some("ALL: 10."));
        fs::rename(other.path("hosts.deny"), other.path("old")).unwrap();
        fs::write(other.path("hosts.deny"), "ALL: 11.").unwrap();
        expect(Some("ALL: 11."));
    }

    #[test]
    fn another_directory_under_the_same_name_is_seen_a_second_later() {
        let dir = Dir::new("moved");
        // Not its own name, which would change its times, but that of one above it.
        let etc = Dir(dir.path("root/etc"));
        let mut cache = Box::new(Cache::new());
        fs::create_dir_all(&etc.0).unwrap();
        aged(&etc);
        let file = etc.path("hosts.deny");
        let later = now() + 100;
        assert_eq!(read(&mut cache, &file, later), Err(Errno::NOENT));
        fs::rename(dir.path("root"), dir.path("old")).unwrap();
        fs::create_dir_all(&etc.0).unwrap();
        fs::write(&file, "ALL: ALL").unwrap();
        // Which also shows that its path is not looked at before.
        assert_eq!(read(&mut cache, &file, later), Err(Errno::NOENT));
        assert_eq!(read(&mut cache, &file, later + 1), Ok((true, b"ALL: ALL".to_vec())));
        fs::remove_file(&file).unwrap();
        aged(&etc);
        assert_eq!(read(&mut cache, &file, later + 1), Err(Errno::NOENT));
    }

    #[test]
    fn large_files_and_more_files_than_there_is_room_for_are_read_as_ever() {
        let dir = Dir::new("large");
        let mut cache = Box::new(Cache::new());
        let large = dir.path("large");
        fs::write(&large, std::vec![b'x'; CACHE_BYTES]).unwrap();
        assert_eq!(read(&mut cache, &large, now()), Ok((false, std::vec![b'x'; CACHE_BYTES])));
        fs::write(&large, "small").unwrap();
        assert_eq!(read(&mut cache, &large, now()), Ok((true, b"small".to_vec())));
        for round in 0..3 {
            for n in 0..2 * CACHED_FILES {
                let file = dir.path(&format!("{n}"));
                let text = format!("{round} {n}");
                fs::write(&file, &text).unwrap();
                assert_eq!(read(&mut cache, &file, now()), Ok((true, text.into_bytes())));
            }
        }
        // All open in one turn: the last ones find no place.
        cache.begin_turn(now());
        let handles: Vec<Handle> = (0..2 * CACHED_FILES)
            .map(|n| cache.open(dir.path(&format!("{n}")).as_os_str().as_bytes()).unwrap())
            .collect();
        for (n, handle) in handles.iter().enumerate() {
            let mut buf = [0; 10];
            let len = cache.read_at(handle, 0, &mut buf).unwrap();
            assert_eq!(&buf[..len], format!("2 {n}").as_bytes());
        }
    }

    #[test]
    fn a_version_stands_for_one_content() {
        let dir = Dir::new("version");
        let mut cache = Box::new(Cache::new());
        let path = dir.path("hosts.deny");
        let mut version = |unix| {
            cache.begin_turn(unix);
            cache.version(path.as_os_str().as_bytes())
        };
        assert_eq!(version(now()), Some(0));
        // Each look is of another second, and so by its path.
        let mut later = now() + 10;
        let mut later = || {
            later += 1;
            later
        };
        let mut seen = std::vec![0];
        for text in ["", "ALL: ALL", "ALL: 10.", &"x".repeat(CACHE_BYTES), &"y".repeat(CACHE_BYTES)] {
            fs::write(&path, text).unwrap();
            let first = version(later()).unwrap();
            assert!(!seen.contains(&first), "{text:.10}");
            // It has settled, and nobody has changed it.
            assert_eq!(version(later()), Some(first), "{text:.10}");
            // It may be changed without a trace.
            fs::write(&path, text).unwrap();
            let fresh = version(now()).unwrap();
            assert_ne!(version(now()), Some(fresh), "{text:.10}");
            seen.extend([first, fresh]);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(version(later()), Some(0));
        // It was there when it was looked at, and was gone when it was opened.
        assert_eq!(cache.load(0, path.as_os_str().as_bytes()).err(), Some(Errno::NOENT));
        assert!(cache.entries[0].is_absent(path.as_os_str().as_bytes(), cache.turn));
        // Neither has a size or times to go by.
        for other in ["/dev/null", "/proc/self/status"] {
            cache.begin_turn(later());
            assert_eq!(cache.version(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_handle_of_before_is_not_believed() {
        let dir = Dir::new("handle");
        let mut cache = Box::new(Cache::new());
        let file = dir.path("a");
        fs::write(&file, "one").unwrap();
        cache.begin_turn(now());
        let old = cache.open(file.as_os_str().as_bytes()).unwrap();
        fs::write(&file, "other").unwrap();
        assert_eq!(read(&mut cache, &file, now()), Ok((true, b"other".to_vec())));
        assert_eq!(cache.read_at(&old, 0, &mut [0; 10]), Err(Errno::IO));
    }
}
