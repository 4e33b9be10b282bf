//! Interrupts that wake the processor. None is ever taken: the loop looks at everything itself.

use crate::register;

const ENABLE: usize = 0xe000_e100;
const CLEAR_PENDING: usize = 0xe000_e280;

/// An interrupt wakes the processor from now on.
pub fn listen_to(irq: u16) {
    register::write(ENABLE + usize::from(irq / 32) * 4, 1 << (irq % 32));
}

/// An interrupt has been seen to. Its device is to be told before: while that asks for one, this has no effect.
pub fn clear(irq: u16) {
    register::write(CLEAR_PENDING + usize::from(irq / 32) * 4, 1 << (irq % 32));
}
