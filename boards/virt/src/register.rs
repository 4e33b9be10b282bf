//! Registers at fixed places.
#![allow(unsafe_code)]

/// Reads a register.
pub fn read(address: usize) -> u32 {
    // SAFETY: every address that comes here is one of a register of the interrupt controller or the serial line: aligned, always
    // there, and no memory of Rust's. Reading some has effects on the device, and on nothing else.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address).read_volatile() }
}

/// Writes a register.
pub fn write(address: usize, value: u32) {
    // SAFETY: as for `read`; none of them makes a device write to memory.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value) };
}
