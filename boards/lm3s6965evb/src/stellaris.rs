//! The Ethernet controller of the Stellaris LM3S6965 (data sheet, chapter 17).

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::register;

const BASE: usize = 0x4004_8000;
const INTERRUPT: usize = BASE;
const INTERRUPT_MASK: usize = BASE + 0x04;
const RECEIVE_CONTROL: usize = BASE + 0x08;
const TRANSMIT_CONTROL: usize = BASE + 0x0c;
const DATA: usize = BASE + 0x10;
const ADDRESS_LOW: usize = BASE + 0x14;
const ADDRESS_HIGH: usize = BASE + 0x18;
const FRAMES: usize = BASE + 0x34;
const TRANSMIT: usize = BASE + 0x38;

/// The largest frame: Ethernet's header and 1500 bytes.
const FRAME: usize = 1514;

/// The number of its interrupt.
pub const IRQ: u16 = 42;

pub struct Stellaris {
    frame: [u8; FRAME],
}

impl Stellaris {
    pub fn start(address: [u8; 6]) -> Stellaris {
        let [a, b, c, d, e, f] = address;
        register::write(RECEIVE_CONTROL, 0);
        register::write(ADDRESS_LOW, u32::from_le_bytes([a, b, c, d]));
        register::write(ADDRESS_HIGH, u32::from_le_bytes([e, f, 0, 0]));
        // Interrupts on a received frame. Full duplex, checksums appended, short frames filled up.
        register::write(INTERRUPT_MASK, 1);
        register::write(TRANSMIT_CONTROL, 0x17);
        // Clear what is there; multicast for IPv6; drop what is broken.
        register::write(RECEIVE_CONTROL, 0x10);
        register::write(RECEIVE_CONTROL, 0x0b);
        Stellaris { frame: [0; FRAME] }
    }

    /// The interrupt has been seen: the next frame raises it again.
    pub fn acknowledge(&mut self) {
        register::write(INTERRUPT, 1);
    }
}

pub struct Received<'d>(&'d [u8]);

pub struct Sending;

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Sending {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = [0; FRAME];
        let frame = frame.get_mut(..len.min(FRAME)).unwrap_or_default();
        let result = f(frame);
        // The queue takes words: the length of what is behind Ethernet's header, and then the frame.
        let length = (frame.len() as u16).saturating_sub(14).to_le_bytes();
        let mut bytes = length.iter().chain(frame.iter()).copied();
        while let Some(first) = bytes.next() {
            let mut next = || bytes.next().unwrap_or(0);
            register::write(DATA, u32::from_le_bytes([first, next(), next(), next()]));
        }
        register::write(TRANSMIT, 1);
        // The next one may not begin before this one is on its way.
        while register::read(TRANSMIT) & 1 != 0 {}
        result
    }
}

impl Device for Stellaris {
    type RxToken<'d> = Received<'d>;
    type TxToken<'d> = Sending;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending)> {
        if register::read(FRAMES) & 0x3f == 0 {
            return None;
        }
        // Its length, which counts itself and the checksum behind the frame, and then the frame.
        let first = register::read(DATA).to_le_bytes();
        let whole = usize::from(u16::from_le_bytes([first[0], first[1]]));
        let len = whole.saturating_sub(6).min(FRAME);
        let mut at = 0;
        let mut take = |byte: u8| {
            if let Some(place) = self.frame.get_mut(at) {
                *place = byte;
            }
            at += 1;
        };
        first.into_iter().skip(2).for_each(&mut take);
        for _ in 1..whole.div_ceil(4) {
            register::read(DATA).to_le_bytes().into_iter().for_each(&mut take);
        }
        Some((Received(self.frame.get(..len)?), Sending))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending> {
        Some(Sending)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        // It holds 31 frames, and one at a time goes out.
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}
