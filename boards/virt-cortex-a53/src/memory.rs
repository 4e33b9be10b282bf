//! What is where, for the processor: devices below 1 GB, RAM above, at their own addresses. With it on from the first
//! instruction, RAM is cached, and a hypervisor sees what we write.

use aarch64_rt::{InitialPagetable, initial_pagetable};

// Of a block of 1 GB (ARM ARM, "VMSAv8-64 block descriptor formats"): valid, has been accessed, which of the two kinds
// of memory in DEFAULT_MAIR.
const BLOCK: usize = 1 | 1 << 10;
/// Devices, and nothing that runs.
const DEVICES: usize = BLOCK | 1 << 54 | 1 << 53;
/// Cached, and shared between processors as devices are.
const RAM: usize = BLOCK | 1 << 2 | 3 << 8;

initial_pagetable!({
    let mut table = [0; 512];
    table[0] = DEVICES;
    table[1] = RAM | 0x4000_0000;
    InitialPagetable(table)
});
