//! The stack is painted at start: how deep it went can be read from memory.
#![allow(unsafe_code)]

unsafe extern "C" {
    /// The stack's lowest word, by the board's linker script. It grows down to there.
    static mut stack_low: u32;
}

/// What the stack is painted with.
const PAINT: u32 = 0xcccc_cccc;
/// More than what lies between a variable of this function and the end of its frame.
const FRAME: usize = 512;

/// Paints what is not in use yet.
#[inline(never)]
pub fn paint() {
    let here = 0_u8;
    let end = (&raw const here).addr() - FRAME;
    let mut word = &raw mut stack_low;
    while word.addr() < end {
        // SAFETY: from the stack's end to below this function's frame: nobody's memory, as interrupts, which would use it,
        // are masked. Volatile: nobody but a debugger reads it.
        unsafe {
            word.write_volatile(PAINT);
            word = word.add(1);
        }
    }
}
