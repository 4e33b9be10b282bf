//! Copying, filling and comparing memory.
//!
//! The daemon moves little of it: payload stays in the kernel or passes through one buffer. So these are small first,
//! and fast where that is cheap: short copies without a loop, long ones by the processor's own instruction on x86_64 and
//! by words elsewhere.
//!
//! The compiler knows such loops, and replaces them by calls to the functions they implement; which then call
//! themselves. [`opaque`] in each loop keeps it from recognising them.
//!
//! Nothing here is exported under a C name, so that tests can hold it against the standard library (`tests/mem.rs`).

use core::arch::asm;

const WORD: usize = size_of::<usize>();

/// Whether a word may be read from and written to any address at no cost. Where it may not, the compiler would make it
/// out of bytes.
const ANY_ADDRESS: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
#[inline(always)]
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: as said.
    unsafe {
        if !copy_short(to, from, len) {
            copy_up(to, from, len);
        }
    }
}

/// # Safety
/// `from` is readable and `to` writable for `len` bytes.
#[inline(always)]
pub unsafe fn copy_overlapping(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: as said. Upwards is right when `to` is below `from` or behind its end; the subtraction says both at once.
    unsafe {
        if copy_short(to, from, len) {
        } else if to.addr().wrapping_sub(from.addr()) >= len {
            copy_up(to, from, len);
        } else {
            copy_down(to, from, len);
        }
    }
}

/// # Safety
/// `to` is writable for `len` bytes.
#[inline(always)]
pub unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: writes `len` bytes from `to` upwards; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") len => _, inout("rdi") to => _, in("al") byte,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: every address is below `to + len`.
    unsafe {
        let mut at = 0;
        if len >= 2 * WORD {
            let word = usize::from_ne_bytes([byte; WORD]);
            while !to.add(at).addr().is_multiple_of(WORD) {
                *to.add(at) = byte;
                at += 1;
                opaque();
            }
            while at + WORD <= len {
                *to.add(at).cast::<usize>() = word;
                at += WORD;
                opaque();
            }
        }
        while at < len {
            *to.add(at) = byte;
            at += 1;
            opaque();
        }
    }
}

/// Less than, equal to or greater than zero, by the first byte that differs.
///
/// # Safety
/// Both are readable for `len` bytes.
#[inline(always)]
pub unsafe fn compare(left: *const u8, right: *const u8, len: usize) -> i32 {
    let mut at = 0;
    // SAFETY: every address is below the start plus `len`.
    unsafe {
        if ANY_ADDRESS {
            while at + WORD <= len && load::<usize>(left.add(at)) == load::<usize>(right.add(at)) {
                at += WORD;
                opaque();
            }
        }
        while at < len {
            let (l, r) = (*left.add(at), *right.add(at));
            if l != r {
                return i32::from(l) - i32::from(r);
            }
            at += 1;
            opaque();
        }
    }
    0
}

/// # Safety
/// `string` is readable up to and including its first zero byte.
#[inline(always)]
pub unsafe fn length(string: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: goes no further than the zero.
    while unsafe { *string.add(len) } != 0 {
        len += 1;
        opaque();
    }
    len
}

/// Copies the two ends, which overlap each other unless the length is exactly twice theirs. Everything is loaded before
/// anything is stored, so it does not matter whether the two sides overlap. Says whether that was enough.
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, len: usize) -> bool {
    #[inline(always)]
    unsafe fn ends<T: Copy>(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the caller has checked that `len` is at least one T.
        unsafe {
            let last = len - size_of::<T>();
            let head = load::<T>(from);
            let tail = load::<T>(from.add(last));
            store(to, head);
            store(to.add(last), tail);
        }
    }
    if !ANY_ADDRESS {
        return len == 0;
    }
    // SAFETY: each arm touches both ends of `len` bytes, and no more than `len`.
    unsafe {
        match len {
            0 => {}
            1 => *to = *from,
            2..4 => ends::<u16>(to, from, len),
            4..8 => ends::<u32>(to, from, len),
            8..16 => ends::<u64>(to, from, len),
            16..=32 => ends::<u128>(to, from, len),
            _ => return false,
        }
    }
    true
}

/// From the first byte to the last.
#[inline(always)]
unsafe fn copy_up(to: *mut u8, from: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: copies `len` bytes upwards; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: every address is below the start plus `len`.
    unsafe {
        let mut at = 0;
        if len >= 2 * WORD && can_use_words(to, from) {
            while !ANY_ADDRESS && !to.add(at).addr().is_multiple_of(WORD) {
                *to.add(at) = *from.add(at);
                at += 1;
                opaque();
            }
            // Four words at once, loads first, so that the processor does not wait for each of them.
            while at + 4 * WORD <= len {
                let a = load_word(from.add(at));
                let b = load_word(from.add(at + WORD));
                let c = load_word(from.add(at + 2 * WORD));
                let d = load_word(from.add(at + 3 * WORD));
                store_word(to.add(at), a);
                store_word(to.add(at + WORD), b);
                store_word(to.add(at + 2 * WORD), c);
                store_word(to.add(at + 3 * WORD), d);
                at += 4 * WORD;
                opaque();
            }
            while at + WORD <= len {
                store_word(to.add(at), load_word(from.add(at)));
                at += WORD;
                opaque();
            }
        }
        while at < len {
            *to.add(at) = *from.add(at);
            at += 1;
            opaque();
        }
    }
}

/// From the last byte to the first: for a move to a higher address that overlaps.
#[inline(always)]
unsafe fn copy_down(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: every address is below the start plus `len`.
    unsafe {
        let mut at = len;
        if can_use_words(to, from) {
            while !ANY_ADDRESS && at > 0 && !to.add(at).addr().is_multiple_of(WORD) {
                at -= 1;
                *to.add(at) = *from.add(at);
                opaque();
            }
            while at >= WORD {
                at -= WORD;
                store_word(to.add(at), load_word(from.add(at)));
                opaque();
            }
        }
        while at > 0 {
            at -= 1;
            *to.add(at) = *from.add(at);
            opaque();
        }
    }
}

/// Whether both sides are aligned after the same number of bytes, where alignment matters.
#[inline(always)]
fn can_use_words(to: *mut u8, from: *const u8) -> bool {
    ANY_ADDRESS || (to.addr() ^ from.addr()).is_multiple_of(WORD)
}

/// # Safety
/// `from` is readable for a word, and aligned unless any address will do.
#[inline(always)]
unsafe fn load_word(from: *const u8) -> usize {
    // SAFETY: as said.
    unsafe { if ANY_ADDRESS { load(from) } else { *from.cast() } }
}

/// # Safety
/// `to` is writable for a word, and aligned unless any address will do.
#[inline(always)]
unsafe fn store_word(to: *mut u8, word: usize) {
    // SAFETY: as said.
    unsafe { if ANY_ADDRESS { store(to, word) } else { *to.cast() = word } }
}

/// An integer at any address. `read_unaligned` says the same with a call to `memcpy` when nothing is optimised.
#[repr(C, packed)]
struct Anywhere<T>(T);

/// # Safety
/// `from` is readable for one T.
#[inline(always)]
unsafe fn load<T: Copy>(from: *const u8) -> T {
    // SAFETY: as said.
    unsafe { (*from.cast::<Anywhere<T>>()).0 }
}

/// # Safety
/// `to` is writable for one T.
#[inline(always)]
unsafe fn store<T: Copy>(to: *mut u8, value: T) {
    // SAFETY: as said.
    unsafe { (*to.cast::<Anywhere<T>>()).0 = value }
}

/// Something the compiler cannot look into, and that costs nothing.
#[inline(always)]
fn opaque() {
    // SAFETY: no instructions.
    unsafe { asm!("", options(nomem, nostack, preserves_flags)) }
}
