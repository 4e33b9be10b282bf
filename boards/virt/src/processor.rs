//! The processor's own timer, and how it sleeps. Of its timers the virtual one (ARM ARM, "The Generic Timer"): every
//! exception level may use that.

use core::sync::atomic::{Ordering, fence};

#[cfg(target_arch = "arm")]
use aarch32_cpu::asm::wfi;
#[cfg(not(target_arch = "arm"))]
use aarch64_cpu::asm::wfi;

pub use timer::{arm, count, disarm, frequency};

/// Waits for an interrupt, or not at all if a device wants something already.
pub fn wait() {
    // What a device is to see has been written.
    fence(Ordering::SeqCst);
    wfi();
}

/// Does nothing any more.
pub fn halt() -> ! {
    loop {
        wait();
    }
}

#[cfg(target_arch = "arm")]
mod timer {
    use aarch32_cpu::register::{CntVct, Cntfrq, CntvCtl, CntvCval};

    /// What it has counted.
    pub fn count() -> u64 {
        CntVct::read().0
    }

    /// How many it counts in a second: the machine's firmware, here QEMU, has written it there.
    pub fn frequency() -> u64 {
        u64::from(Cntfrq::read().0)
    }

    /// Its interrupt comes once it has counted so far.
    pub fn arm(count: u64) {
        CntvCval::write(CntvCval(count));
        CntvCtl::write(CntvCtl::new_with_raw_value(0).with_enable(true));
    }

    /// No interrupt comes of it.
    pub fn disarm() {
        CntvCtl::write(CntvCtl::new_with_raw_value(0));
    }
}

#[cfg(not(target_arch = "arm"))]
mod timer {
    use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0, Readable, Writeable};

    /// What it has counted.
    pub fn count() -> u64 {
        CNTVCT_EL0.get()
    }

    /// How many it counts in a second: the machine's firmware, here QEMU, has written it there.
    pub fn frequency() -> u64 {
        CNTFRQ_EL0.get()
    }

    /// Its interrupt comes once it has counted so far.
    pub fn arm(count: u64) {
        CNTV_CVAL_EL0.set(count);
        CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
    }

    /// No interrupt comes of it.
    pub fn disarm() {
        CNTV_CTL_EL0.set(0);
    }
}
