//! Where the daemon's life begins, and where it ends by accident.
//!
//! The kernel jumps to `_start` with a stack that holds the arguments, the environment and the auxiliary vector, one
//! after the other. Here that stack becomes a [`Start`], the file is moved to where the kernel loaded it, and
//! `main` is called. The rest is what the compiler expects somebody to supply when there is no libc: the panic handler,
//! and the functions on memory that generated code calls by name.
//!
//! This module belongs to the binary and must stay out of the library: a library that exports `memcpy` would take the
//! place of libc's in every program and test it is linked with.
#![allow(unsafe_code)]

mod mem;
#[cfg(feature = "recorder")]
mod program;
mod relocate;

use core::arch::naked_asm;
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use rustix::fd::BorrowedFd;
use rustix::process::{Signal, getpid, kill_process};
use syscalls::{Sysno, syscall};

/// What the kernel hands to a new program. It lies on the initial stack and stays there as long as the process lives.
#[derive(Clone, Copy)]
pub struct Start {
    args: *const *const c_char,
    env: *const *const c_char,
    aux: *const [usize; 2],
    header: *const u8,
}

impl Start {
    /// # Safety
    /// `stack` is the stack pointer as it was at `_start`, and what it points to has not been written since; `header` is
    /// where the file's own header was loaded.
    unsafe fn from_stack(stack: *const usize, header: *const u8) -> Start {
        // argc, that many pointers and a null; pointers and a null; pairs of numbers and a pair that begins with zero.
        unsafe {
            let args = stack.add(1).cast::<*const c_char>();
            let env = args.add(*stack + 1);
            let mut end = env;
            while !(*end).is_null() {
                end = end.add(1);
            }
            Start { args, env, aux: end.add(1).cast(), header }
        }
    }

    /// The arguments, the program's own name first. Whoever starts a program may leave out even the name.
    pub fn args(&self) -> Strings {
        Strings { next: self.args }
    }

    /// Address and size of the parts of the file in memory that are never written to.
    pub fn unwritten(&self) -> [(usize, usize); 2] {
        // SAFETY: `from_stack` was given the header.
        unsafe { relocate::unwritten(self.header) }
    }

    /// How far the file's addresses are off, and the number of its build.
    #[cfg(feature = "recorder")]
    pub fn identity(&self) -> (usize, &'static [u8]) {
        // SAFETY: `from_stack` was given the header.
        unsafe { program::identity(self.header) }
    }

    /// Bytes of a page of memory, as the kernel says.
    pub fn page(&self) -> usize {
        self.aux(relocate::AT_PAGESZ).filter(|page| page.is_power_of_two()).unwrap_or(65536)
    }

    /// The environment, each entry as `NAME=value`.
    pub fn env(&self) -> Strings {
        Strings { next: self.env }
    }

    /// One value of the auxiliary vector, by its `AT_` number.
    pub fn aux(&self, key: usize) -> Option<usize> {
        let mut entry = self.aux;
        loop {
            // SAFETY: the vector ends with a pair whose key is zero, and the walk goes no further than that.
            match unsafe { *entry } {
                [0, _] => return None,
                [found, value] if found == key => return Some(value),
                _ => entry = entry.wrapping_add(1),
            }
        }
    }
}

/// Strings from the initial stack, up to the null pointer that ends the list.
#[derive(Clone)]
pub struct Strings {
    next: *const *const c_char,
}

impl Iterator for Strings {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: the list ends with a null pointer and we stay on it; everything before it points to a C string that
        // nobody writes to any more.
        unsafe {
            let string = *self.next;
            if string.is_null() {
                return None;
            }
            self.next = self.next.add(1);
            Some(CStr::from_ptr(string))
        }
    }
}

/// Descriptor 2.
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: the number is only ever used to write to. If it was closed, the write fails with EBADF; if something else
    // was opened in its place, that gets the text, as with every program.
    unsafe { rustix::stdio::stderr() }
}

/// The first instructions: give Rust the stack pointer, and the place where the file's own header was loaded.
///
/// That place has to come from an instruction relative to the program counter. Rust would read an external symbol's
/// address from a table, and that table is one of the things that are still to be relocated. The kernel has aligned the
/// stack as calls want it on all four; the frame pointer and return address are cleared where a debugger looks for the
/// end of the stack.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        ".hidden __ehdr_start",
        "lea rsi, [rip + __ehdr_start]",
        "call {enter}",
        "ud2",
        enter = sym enter,
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "mov x29, xzr",
        "mov x30, xzr",
        "mov x0, sp",
        ".hidden __ehdr_start",
        "adrp x1, __ehdr_start",
        "add x1, x1, :lo12:__ehdr_start",
        "b {enter}",
        enter = sym enter,
    );
    // `.arch`: the assembler would otherwise take the oldest ARM there is, whatever the compiler was told. A file for ARMv6
    // must not say that it has Thumb-2 code: what the linker puts between far functions depends on it. The rest is written
    // so that it means the same in ARM and in Thumb state.
    #[cfg(target_arch = "arm")]
    naked_asm!(
        ".if {is_thumb}",
        ".arch armv6t2",
        ".else",
        ".arch armv6",
        ".endif",
        "mov fp, #0",
        "mov lr, #0",
        "mov r0, sp",
        "ldr r1, 2f",
        "1: add r1, r1, pc",
        "b {enter}",
        ".hidden __ehdr_start",
        // The program counter reads two instructions ahead.
        ".p2align 2",
        "2: .word __ehdr_start - (1b + {ahead})",
        is_thumb = const cfg!(target_feature = "thumb-mode") as u8,
        ahead = const if cfg!(target_feature = "thumb-mode") { 4 } else { 8 },
        enter = sym enter,
    );
    // The linker may turn addresses into offsets from `gp`, so `gp` has to be right before anything else, and must
    // itself not be found that way.
    #[cfg(target_arch = "riscv64")]
    naked_asm!(
        ".option push",
        ".option norelax",
        "lla gp, __global_pointer$",
        ".option pop",
        "mv fp, zero",
        "mv ra, zero",
        "mv a0, sp",
        ".hidden __ehdr_start",
        "lla a1, __ehdr_start",
        "tail {enter}",
        enter = sym enter,
    );
}

/// Nothing in this function may need relocating: no table of functions, no formatting. `run` is a function of its own so
/// that the compiler cannot move its first loads up here.
unsafe extern "C" fn enter(stack: *const usize, header: *const u8) -> ! {
    // SAFETY: `_start` passes both as they are, and nothing has run before.
    unsafe {
        let start = Start::from_stack(stack, header);
        let protected = relocate::relocate(header, &start);
        run(start, protected)
    }
}

#[inline(never)]
fn run(start: Start, protected: Result<(), syscalls::Errno>) -> ! {
    if let Err(errno) = protected {
        panic!("relocated constants cannot be made read-only: {errno}");
    }
    exit(crate::main(start))
}

/// Ends the process, with all its threads and without any cleaning up: there is nothing to clean up.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { syscall!(Sysno::exit_group, code) };
    }
}

/// Says where and why on standard error, then dies as `abort` does, so that a supervisor sees a crash.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut line = Line { bytes: [0; 512], len: 0 };
    let _ = line.write_str("usherd: panic");
    if let Some(at) = info.location() {
        let _ = write!(line, " at {}:{}", at.file(), at.line());
    }
    let _ = write!(line, ": {}", info.message());
    let line = line.finish();
    let _ = rustix::io::write(stderr(), line);
    #[cfg(feature = "recorder")]
    usherd::backend::linux::recorder::panicked(line);
    let _ = kill_process(getpid(), Signal::ABORT);
    // Still here: process 1 is not killed by its own signals, and a blocked signal waits. The same number as a shell shows.
    exit(134)
}

/// One line of text of bounded length; what does not fit is cut off.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    fn finish(&mut self) -> &[u8] {
        // `write_str` leaves room for this.
        self.bytes[self.len] = b'\n';
        &self.bytes[..=self.len]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        let taken = text.len().min(room);
        self.bytes[self.len..][..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        if taken < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The ready-made `core` was compiled for programs that unwind, and its tables name this function. Ours abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The same in the 32-bit ARM tables.
#[cfg(target_arch = "arm")]
#[unsafe(no_mangle)]
extern "C" fn __aeabi_unwind_cpp_pr0() {}

/// And for functions with longer unwinding rules.
#[cfg(target_arch = "arm")]
#[unsafe(no_mangle)]
extern "C" fn __aeabi_unwind_cpp_pr1() {}

/// The functions that generated code calls by name.
///
/// `compiler_builtins` has them too, but exports them only where the target is known to have no libc (`…-none`); for
/// `…-linux-…` it leaves them to libc, and a ready-made `core` cannot be told otherwise. A `core` built along with the
/// daemon can (`-Zbuild-std-features=compiler-builtins-mem`), and then its functions are weak: these win. So there is one
/// set of them, on every target and with every toolchain.
mod exported {
    use super::mem;
    use core::ffi::{c_char, c_int};

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        // SAFETY: here and below, what the function of that name asks of its caller is what ours asks.
        unsafe { mem::copy(to, from, len) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        unsafe { mem::copy_overlapping(to, from, len) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: c_int, len: usize) -> *mut u8 {
        unsafe { mem::fill(to, byte as u8, len) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> c_int {
        unsafe { mem::compare(left, right, len) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> c_int {
        unsafe { mem::compare(left, right, len) }
    }

    /// 64-bit ARM: a ready-made `core` asks before `main` whether the processor has the atomic instructions of ARMv8.1, from a
    /// list of constructors that nobody goes through here. Were it asked, it would stay with those that all processors have.
    #[cfg(target_arch = "aarch64")]
    #[unsafe(no_mangle)]
    extern "C" fn getauxval(_: usize) -> usize {
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(string: *const c_char) -> usize {
        unsafe { mem::length(string.cast()) }
    }
}
