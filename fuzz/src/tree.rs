//! Files in memory.

use std::collections::BTreeMap;

use usherd::config::source::{FileKind, Files};
use usherd::errno::Errno;

const SERVICES: &[u8] = include_bytes!("../../tests/data/services");
const PASSWD: &[u8] = include_bytes!("../../tests/data/passwd");
const GROUP: &[u8] = include_bytes!("../../tests/data/group");

#[derive(Default)]
pub struct Tree {
    files: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Tree {
    /// The usual files of a system, and those of the input: the text up to a line `%FILE NAME` is /etc/conf.
    pub fn of(data: &[u8]) -> Tree {
        let mut tree = Tree::default();
        tree.add(b"/etc/services", SERVICES);
        tree.add(b"/etc/passwd", PASSWD);
        tree.add(b"/etc/group", GROUP);
        tree.add(b"/etc/hosts", b"192.0.2.1 host.test host\n2001:db8::1 host\n");
        tree.add(b"/sys/class/net/eth0/address", b"");
        let mut name = b"/etc/conf".to_vec();
        let mut text = Vec::new();
        for line in data.split_inclusive(|b| *b == b'\n') {
            match line.strip_prefix(b"%FILE ") {
                Some(next) => {
                    tree.add(&name, &text);
                    text.clear();
                    name = next.trim_ascii().to_vec();
                }
                None => text.extend_from_slice(line),
            }
        }
        tree.add(&name, &text);
        tree
    }

    pub fn add(&mut self, path: &[u8], text: &[u8]) {
        self.files.insert(path.to_vec(), text.to_vec());
    }

    fn inside<'a>(&'a self, dir: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut prefix = dir.to_vec();
        if !prefix.ends_with(b"/") {
            prefix.push(b'/');
        }
        self.files.keys().filter_map(move |path| path.strip_prefix(prefix.as_slice()))
    }
}

impl Files for Tree {
    type Handle = Vec<u8>;

    fn open(&mut self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        self.files.get(path).cloned().ok_or(Errno::NOENT)
    }

    fn read_at(&mut self, file: &Vec<u8>, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let rest = file.get(offset as usize..).unwrap_or(&[]);
        // Short reads, of lengths that change.
        let n = rest.len().min(buf.len()).min(700 + offset as usize % 601);
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn next_name(&mut self, dir: &[u8], after: &[u8], buf: &mut [u8]) -> Result<Option<usize>, Errno> {
        if self.inside(dir).next().is_none() {
            return Err(Errno::NOENT);
        }
        let names = self.inside(dir).map(|rest| rest.split(|b| *b == b'/').next().unwrap_or(&[]));
        let Some(name) = names.filter(|name| !name.is_empty() && *name > after).min() else {
            return Ok(None);
        };
        buf.get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name);
        Ok(Some(name.len()))
    }

    fn kind(&mut self, path: &[u8]) -> Result<FileKind, Errno> {
        if self.files.contains_key(path) {
            Ok(FileKind::Regular)
        } else if self.inside(path).next().is_some() {
            Ok(FileKind::Directory)
        } else {
            Err(Errno::NOENT)
        }
    }

    fn executable(&mut self, path: &[u8]) -> Result<(), Errno> {
        if path.starts_with(b"/") && !path.ends_with(b"/") { Ok(()) } else { Err(Errno::NOENT) }
    }

    /// Nothing changes while an input is looked at.
    fn version(&mut self, _: &[u8]) -> Option<u64> {
        Some(0)
    }
}
