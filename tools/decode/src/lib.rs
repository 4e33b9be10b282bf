//! Text from frames of defmt.
//!
//! A stream of frames is cut at its zero bytes, since no frame has one in it (rzCOBS). Whatever is damaged is one piece
//! between two zeros, and what follows is whole again: a frame that was torn when the power went, the beginning of a stream
//! that somebody listened to too late.
//!
//! Frames hold numbers of strings, and only the program that wrote them knows the strings. A board's stream is from the one
//! program it runs. A file of `usherd -recorder` is from many runs, maybe of several builds; each run begins with a
//! [`Header`], behind an empty piece, which no frame is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use defmt_decoder::Table;
use object::{Object, ObjectSection};

/// Bytes of the longest piece that can be a frame. Decoding goes as deep as a frame is long.
const LONGEST: usize = 16 << 10;

/// What the daemon writes at the beginning of each run and each file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The build's number (`--build-id`), in hexadecimal digits.
    pub build: String,
    /// What was added to the numbers of strings: the low 16 bits of where the program was loaded.
    pub base: u16,
    pub pid: u32,
}

impl Header {
    /// `usherd frames build=4f2a… base=7000 pid=1234`.
    fn parse(piece: &[u8]) -> Option<Header> {
        let mut words = str::from_utf8(piece).ok()?.strip_prefix("usherd frames ")?.split(' ');
        let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let build = value("build")?.to_owned();
        let base = u16::from_str_radix(value("base")?, 16).ok()?;
        let pid = value("pid")?.parse().ok()?;
        words.next().is_none().then_some(Header { build, base, pid })
    }
}

/// What is found in a stream, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// The daemon began a run, or another file within one.
    Header(Header),
    Line {
        /// As the program's timestamp says.
        time: String,
        /// `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`.
        level: &'static str,
        text: String,
    },
    /// So many bytes that are no frame, or not of this program.
    Damage(usize),
    /// A frame of a build that nobody has given.
    Unknown,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Header(Header { build, pid, .. }) => write!(f, "-- process {pid}, build {build}"),
            Item::Line { time, level, text } => write!(f, "{time} {level:5} {text}"),
            Item::Damage(bytes) => write!(f, "-- {bytes} bytes that are no frame"),
            Item::Unknown => f.write_str("-- a frame of another build"),
        }
    }
}

/// A program that writes frames.
pub struct Program {
    elf: Vec<u8>,
    build: String,
    /// Its strings, by what was added to their numbers, as far as that was asked for.
    tables: RefCell<BTreeMap<u16, Table>>,
}

impl Program {
    /// Takes an ELF file that still has its symbols.
    pub fn new(elf: Vec<u8>) -> Result<Program, Box<dyn Error>> {
        let file = object::File::parse(&*elf)?;
        let build = file.build_id()?.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
        let table =
            Table::parse(&elf)?.ok_or("it has no strings of defmt: built without them, or stripped")?;
        Ok(Program { elf, build, tables: BTreeMap::from([(0, table)]).into() })
    }

    /// The build's number, in hexadecimal digits; empty if it was linked without one.
    pub fn build(&self) -> &str {
        &self.build
    }

    /// The strings, with what was added to their numbers.
    fn table(&self, base: u16) -> Result<Table, Box<dyn Error>> {
        if let Some(table) = self.tables.borrow().get(&base) {
            return Ok(table.clone());
        }
        let mut elf = self.elf.clone();
        add_base(&mut elf, base)?;
        let table = Table::parse(&elf)?.ok_or("no strings of defmt")?;
        self.tables.borrow_mut().insert(base, table.clone());
        Ok(table)
    }
}

/// Changes the addresses of all symbols in `.defmt`: the decoder knows no base.
fn add_base(elf: &mut [u8], base: u16) -> Result<(), Box<dyn Error>> {
    let file = object::File::parse(&*elf)?;
    let is_64 = file.is_64();
    let strings = file.section_by_name(".defmt").ok_or("no section .defmt")?.index().0;
    let symbols = file.section_by_name(".symtab").ok_or("it is stripped")?;
    let (at, size) = symbols.file_range().ok_or("no symbols")?;
    let (at, size) = (usize::try_from(at)?, usize::try_from(size)?);
    let symbols = elf.get_mut(at..at + size).ok_or("the symbols are not there")?;
    // Elf64_Sym: name 4, info 1, other 1, section 2, value 8, size 8. Elf32_Sym: name 4, value 4, size 4, info 1, other 1,
    // section 2.
    let (entry, section, value) = if is_64 { (24, 6, 8) } else { (16, 14, 4) };
    for symbol in symbols.chunks_exact_mut(entry) {
        if usize::from(u16::from_le_bytes([symbol[section], symbol[section + 1]])) == strings {
            let number = u16::from_le_bytes([symbol[value], symbol[value + 1]]).wrapping_add(base);
            symbol[value..value + 2].copy_from_slice(&number.to_le_bytes());
        }
    }
    Ok(())
}

/// Decodes a stream as it comes.
pub struct Stream<'a> {
    programs: &'a [Program],
    /// The strings of the run that the stream is in; none if its build is not given.
    table: Option<Table>,
    piece: Vec<u8>,
    /// The piece before was empty.
    is_header_due: bool,
}

impl<'a> Stream<'a> {
    /// Of one of these programs; of the first, loaded where it was linked to, until a header says otherwise.
    pub fn new(programs: &'a [Program]) -> Result<Stream<'a>, Box<dyn Error>> {
        let first = programs.first().ok_or("no program is given, that is an ELF file with symbols")?;
        let table = Some(first.table(0)?);
        Ok(Stream { programs, table, piece: Vec::new(), is_header_due: false })
    }

    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8], found: &mut impl FnMut(Item)) {
        for &byte in bytes {
            if byte != 0 {
                self.piece.push(byte);
                continue;
            }
            let piece = std::mem::take(&mut self.piece);
            if piece.is_empty() {
                self.is_header_due = true;
            } else {
                found(self.read(&piece));
                self.is_header_due = false;
            }
        }
    }

    /// The stream has ended: what is left is a part of a frame.
    pub fn finish(&mut self, found: &mut impl FnMut(Item)) {
        let piece = std::mem::take(&mut self.piece);
        if !piece.is_empty() {
            found(Item::Damage(piece.len()));
        }
    }

    fn read(&mut self, piece: &[u8]) -> Item {
        if self.is_header_due
            && let Some(header) = Header::parse(piece)
        {
            let program = self.programs.iter().find(|program| program.build == header.build);
            self.table = program.and_then(|program| program.table(header.base).ok());
            return Item::Header(header);
        }
        let Some(table) = &self.table else { return Item::Unknown };
        // The decoder takes some damage for its own mistake, and panics.
        let line = catch_unwind(AssertUnwindSafe(|| line(table, piece)));
        line.ok().flatten().unwrap_or(Item::Damage(piece.len()))
    }
}

fn line(table: &Table, piece: &[u8]) -> Option<Item> {
    if piece.len() > LONGEST {
        return None;
    }
    let mut decoder = table.new_stream_decoder();
    decoder.received(piece);
    decoder.received(&[0]);
    let frame = decoder.decode().ok()?;
    let time = frame.display_timestamp().map(|time| time.to_string()).unwrap_or_default();
    let level = frame.level().map_or("", |level| level.as_str());
    let level =
        ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].into_iter().find(|name| name.eq_ignore_ascii_case(level));
    Some(Item::Line { time, level: level.unwrap_or(""), text: frame.display_message().to_string() })
}

/// All that is in a recording.
pub fn decode(programs: &[Program], bytes: &[u8]) -> Result<Vec<Item>, Box<dyn Error>> {
    let mut stream = Stream::new(programs)?;
    let mut items = Vec::new();
    let mut found = |item| items.push(item);
    stream.take(bytes, &mut found);
    stream.finish(&mut found);
    Ok(items)
}
