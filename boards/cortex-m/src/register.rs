//! Registers of the processor and of devices.
#![allow(unsafe_code)]

/// Reads a register.
pub fn read(address: usize) -> u32 {
    // SAFETY: every address in the firmware of these boards is one of a register: aligned, always there, and no memory of
    // Rust's. Reading some has effects on the device, and on nothing else.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address).read_volatile() }
}

/// Writes a register.
pub fn write(address: usize, value: u32) {
    // SAFETY: as for `read`; none of them makes a device write to memory.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value) };
}
