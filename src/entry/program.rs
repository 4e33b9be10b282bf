//! What is written down beside frames, so that they can be decoded: which build this is, and where it was loaded.
//!
//! Notes: System V ABI, "Note Section"; the build's number is what GNU ld and lld put there by `--build-id`.

use super::relocate::{Header, PT_LOAD, Program};

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// How far the file's addresses are off, and the number of the build; empty if it was linked without one.
///
/// # Safety
/// `header` is where this file's ELF header was loaded.
pub unsafe fn identity(header: *const u8) -> (usize, &'static [u8]) {
    // SAFETY: as in `relocate`. Notes are among what is loaded, and never written to.
    unsafe {
        let header = header.cast::<Header>();
        let programs = header.byte_add((*header).programs_at).cast::<Program>();
        let mut base = 0;
        for index in 0..(*header).programs {
            let program = programs.add(usize::from(index));
            if (*program).kind == PT_LOAD && (*program).offset == 0 {
                base = header.addr().wrapping_sub((*program).address);
            }
        }
        for index in 0..(*header).programs {
            let program = programs.add(usize::from(index));
            if (*program).kind != PT_NOTE {
                continue;
            }
            let at = header.with_addr(base.wrapping_add((*program).address)).cast::<u8>();
            if let Some(build) = build(core::slice::from_raw_parts(at, (*program).file_size)) {
                return (base, build);
            }
        }
        (base, &[])
    }
}

/// The number among notes: each is three words (bytes of name, bytes of content, type), the name and the content, both
/// filled up to whole words.
fn build(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let (words, _) = notes.as_chunks::<4>();
        let &[name, content, kind] = words.first_chunk::<3>()?;
        let [name, content, kind] = [name, content, kind].map(u32::from_ne_bytes);
        let rest = notes.get(12..)?;
        let (name, content) = (name as usize, content as usize);
        let content_at = name.next_multiple_of(4);
        if kind == NT_GNU_BUILD_ID && rest.get(..name)? == b"GNU\0" {
            return rest.get(content_at..content_at.checked_add(content)?);
        }
        notes = rest.get(content_at.checked_add(content.checked_next_multiple_of(4)?)?..)?;
    }
}
