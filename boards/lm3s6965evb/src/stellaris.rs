//! The Ethernet controller of the Stellaris LM3S6965 (data sheet, chapter 17).

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use usherd_cortex_m::{interrupt, register};
use usherd_firmware::Wakes;

const BASE: usize = 0x4004_8000;
const INTERRUPT: usize = BASE;
const INTERRUPT_MASK: usize = BASE + 0x04;
const RECEIVE_CONTROL: usize = BASE + 0x08;
const TRANSMIT_CONTROL: usize = BASE + 0x0c;
const DATA: usize = BASE + 0x10;
const ADDRESS_LOW: usize = BASE + 0x14;
const ADDRESS_HIGH: usize = BASE + 0x18;
const WAITING: usize = BASE + 0x34;
const TRANSMIT: usize = BASE + 0x38;

/// The largest frame: Ethernet's header and 1500 bytes.
const FRAME: usize = 1514;

/// The number of its interrupt.
const IRQ: u16 = 42;

/// Room for a frame in each direction. Statics, because each would be on the stack three times on its way here.
pub struct Frames {
    received: [u8; FRAME],
    sent: [u8; FRAME],
}

impl Frames {
    pub const fn new() -> Frames {
        Frames { received: [0; FRAME], sent: [0; FRAME] }
    }
}

pub struct Stellaris {
    frames: &'static mut Frames,
}

impl Stellaris {
    pub fn start(address: [u8; 6], frames: &'static mut Frames) -> Stellaris {
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
        interrupt::listen_to(IRQ);
        Stellaris { frames }
    }
}

impl Wakes for Stellaris {
    fn acknowledge(&mut self) {
        register::write(INTERRUPT, 1);
        interrupt::clear(IRQ);
    }
}

pub struct Received<'d>(&'d [u8]);

pub struct Sending<'d>(&'d mut [u8; FRAME]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = self.0.get_mut(..len.min(FRAME)).unwrap_or_default();
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
    type TxToken<'d> = Sending<'d>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        if register::read(WAITING) & 0x3f == 0 {
            return None;
        }
        // Its length, which counts itself and the checksum behind the frame, and then the frame.
        let first = register::read(DATA).to_le_bytes();
        let whole = usize::from(u16::from_le_bytes([first[0], first[1]]));
        let len = whole.saturating_sub(6).min(FRAME);
        let Frames { received, sent } = &mut *self.frames;
        let mut at = 0;
        let mut take = |byte: u8| {
            if let Some(place) = received.get_mut(at) {
                *place = byte;
            }
            at += 1;
        };
        first.into_iter().skip(2).for_each(&mut take);
        for _ in 1..whole.div_ceil(4) {
            register::read(DATA).to_le_bytes().into_iter().for_each(&mut take);
        }
        Some((Received(received.get(..len)?), Sending(sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.frames.sent))
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
