//! A static file that can be loaded anywhere.
//!
//! The daemon is a position-independent executable without a dynamic linker, so that the kernel may choose its address
//! (ASLR). What a dynamic linker would do is little: add the load address to the words that hold addresses (tables of
//! functions, references in constants), then take away the right to write to those of them that are constants.
//!
//! A file linked at a fixed address has nothing to relocate, and passes through here unchanged.
//!
//! ELF: Tool Interface Standard 1.2 and the System V ABI, "Program Loading and Dynamic Linking"; each architecture's
//! processor supplement has the number of its RELATIVE relocation. RELR: the generic ABI's 2018 addition.

use syscalls::{Errno, Sysno, syscall};

use super::Start;

pub const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_GNU_RELRO: u32 = 0x6474_e552;

const DT_NULL: usize = 0;
const DT_RELA: usize = 7;
const DT_RELASZ: usize = 8;
const DT_REL: usize = 17;
const DT_RELSZ: usize = 18;
const DT_RELRSZ: usize = 35;
const DT_RELR: usize = 36;

pub const AT_PAGESZ: usize = 6;
const PROT_READ: usize = 1;

/// "Load address plus addend": the only kind there is in a file that imports nothing.
#[cfg(target_arch = "x86_64")]
const RELATIVE: usize = 8;
#[cfg(target_arch = "aarch64")]
const RELATIVE: usize = 1027;
#[cfg(target_arch = "arm")]
const RELATIVE: usize = 23;
#[cfg(target_arch = "riscv64")]
const RELATIVE: usize = 3;

/// The kind's bits in a relocation's `info` word.
const KIND: usize = if cfg!(target_pointer_width = "64") { 0xffff_ffff } else { 0xff };

/// `Elf64_Ehdr` or `Elf32_Ehdr`.
#[repr(C)]
pub struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: usize,
    pub programs_at: usize,
    sections_at: usize,
    flags: u32,
    size: u16,
    program_size: u16,
    pub programs: u16,
}

/// `Elf64_Phdr` or `Elf32_Phdr`: the same fields, with the flags in another place.
#[repr(C)]
pub struct Program {
    pub kind: u32,
    #[cfg(target_pointer_width = "64")]
    flags: u32,
    pub offset: usize,
    pub address: usize,
    physical: usize,
    pub file_size: usize,
    memory_size: usize,
    #[cfg(target_pointer_width = "32")]
    flags: u32,
    align: usize,
}

/// Relocates the running file, and protects what was only written to for that.
///
/// # Safety
/// `header` is where this file's ELF header was loaded, and nothing has used a relocated word yet.
#[inline(never)]
pub unsafe fn relocate(header: *const u8, start: &Start) -> Result<(), Errno> {
    // SAFETY: the tables describe this very file as the linker made it and the kernel loaded it, so everything they
    // point to is there; and it is writable until this function's last line.
    unsafe {
        let header = header.cast::<Header>();
        let programs = header.byte_add((*header).programs_at).cast::<Program>();
        // All addresses in the file are off by the same distance. It shows in the segment that begins with the header.
        let mut base = 0;
        let mut dynamic = None;
        let mut relro = None;
        for index in 0..(*header).programs {
            let program = programs.add(usize::from(index));
            match (*program).kind {
                PT_LOAD if (*program).offset == 0 => base = header.addr().wrapping_sub((*program).address),
                PT_DYNAMIC => dynamic = Some((*program).address),
                PT_GNU_RELRO => relro = Some(((*program).address, (*program).memory_size)),
                _ => {}
            }
        }
        let image = Image { header, base };
        if let Some(address) = dynamic {
            image.relocate(image.at(address));
        }
        match relro {
            Some((address, size)) => image.protect(address, size, start.aux(AT_PAGESZ).unwrap_or(4096)),
            None => Ok(()),
        }
    }
}

/// Where the parts of the file lie that are never written to: code and constants without addresses in them.
///
/// # Safety
/// `header` is where this file's ELF header was loaded.
pub unsafe fn unwritten(header: *const u8) -> [(usize, usize); 2] {
    const PF_W: u32 = 2;
    let mut parts = [(0, 0); 2];
    let mut count = 0;
    // SAFETY: as in `relocate`.
    unsafe {
        let header = header.cast::<Header>();
        let programs = header.byte_add((*header).programs_at).cast::<Program>();
        let mut base = 0;
        for index in 0..(*header).programs {
            let program = programs.add(usize::from(index));
            if (*program).kind != PT_LOAD {
                continue;
            }
            if (*program).offset == 0 {
                base = header.addr().wrapping_sub((*program).address);
            }
            if (*program).flags & PF_W == 0 && count < parts.len() {
                parts[count] = (base.wrapping_add((*program).address), (*program).memory_size);
                count += 1;
            }
        }
    }
    parts
}

/// The file in memory.
struct Image {
    /// Every pointer into the file is derived from this one.
    header: *const Header,
    /// What to add to an address in the file to get one in memory.
    base: usize,
}

impl Image {
    fn at(&self, address: usize) -> *mut usize {
        self.header.with_addr(self.base.wrapping_add(address)).cast_mut().cast()
    }

    /// # Safety
    /// `entry` points to the file's dynamic section.
    unsafe fn relocate(&self, mut entry: *const usize) {
        let [mut rela, mut rela_size, mut rel, mut rel_size, mut relr, mut relr_size] = [0; 6];
        // SAFETY: see the function `relocate`; the section ends with DT_NULL.
        unsafe {
            while *entry != DT_NULL {
                let value = *entry.add(1);
                match *entry {
                    DT_RELA => rela = value,
                    DT_RELASZ => rela_size = value,
                    DT_REL => rel = value,
                    DT_RELSZ => rel_size = value,
                    DT_RELR => relr = value,
                    DT_RELRSZ => relr_size = value,
                    _ => {}
                }
                entry = entry.add(2);
            }
            // Offset, info and addend.
            let (mut entry, end) = (self.at(rela), self.at(rela + rela_size));
            while entry < end {
                if *entry.add(1) & KIND == RELATIVE {
                    *self.at(*entry) = self.base.wrapping_add(*entry.add(2));
                }
                entry = entry.add(3);
            }
            // Offset and info; the addend is in the word itself.
            let (mut entry, end) = (self.at(rel), self.at(rel + rel_size));
            while entry < end {
                if *entry.add(1) & KIND == RELATIVE {
                    self.add_base(self.at(*entry));
                }
                entry = entry.add(2);
            }
            // The same, packed: an even entry is an offset, an odd one has a bit for each of the words that follow.
            let (mut entry, end) = (self.at(relr), self.at(relr + relr_size));
            let mut next = self.at(0);
            while entry < end {
                if *entry & 1 == 0 {
                    self.add_base(self.at(*entry));
                    next = self.at(*entry).add(1);
                } else {
                    let mut bits = *entry >> 1;
                    let mut word = next;
                    while bits != 0 {
                        if bits & 1 != 0 {
                            self.add_base(word);
                        }
                        bits >>= 1;
                        word = word.wrapping_add(1);
                    }
                    next = next.wrapping_add(usize::BITS as usize - 1);
                }
                entry = entry.add(1);
            }
        }
    }

    /// # Safety
    /// `word` is in the file's writable data and holds an address as the file has it.
    unsafe fn add_base(&self, word: *mut usize) {
        // SAFETY: as said.
        unsafe { *word = (*word).wrapping_add(self.base) }
    }

    /// Makes the whole pages of a range read-only. The linker has seen to it that nothing else shares its last page.
    fn protect(&self, address: usize, size: usize, page: usize) -> Result<(), Errno> {
        let begin = self.at(address).addr() & !(page - 1);
        let end = self.at(address + size).addr() & !(page - 1);
        if begin < end {
            // SAFETY: the range holds constants only: relocated by now, never written again.
            unsafe { syscall!(Sysno::mprotect, begin, end - begin, PROT_READ)? };
        }
        Ok(())
    }
}
