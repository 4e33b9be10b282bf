//! The Ethernet controller: a LAN9220 on the board, and a LAN9118 in QEMU, which is the same to a driver (their data sheets,
//! chapter 5).
//!
//! It wants a pause of up to 0.2 µs between some accesses. At 25 MHz those here are further apart.

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use usherd_cortex_m::{interrupt, register};
use usherd_firmware::Wakes;

const BASE: usize = 0x4020_0000;
const RECEIVE_DATA: usize = BASE;
const TRANSMIT_DATA: usize = BASE + 0x20;
const RECEIVE_STATUS: usize = BASE + 0x40;
const INTERRUPT_CONFIGURATION: usize = BASE + 0x54;
const INTERRUPT: usize = BASE + 0x58;
const INTERRUPT_ENABLE: usize = BASE + 0x5c;
const LEVELS: usize = BASE + 0x68;
const RECEIVE_CONFIGURATION: usize = BASE + 0x6c;
const TRANSMIT_CONFIGURATION: usize = BASE + 0x70;
const HARDWARE_CONFIGURATION: usize = BASE + 0x74;
const RECEIVED: usize = BASE + 0x7c;
const FREE: usize = BASE + 0x80;
const POWER: usize = BASE + 0x84;
const MAC_COMMAND: usize = BASE + 0xa4;
const MAC_DATA: usize = BASE + 0xa8;

/// Registers behind `MAC_COMMAND`, and those behind `MII_ACCESS`, of the PHY.
const MAC_CONTROL: u32 = 1;
const MAC_ADDRESS_HIGH: u32 = 2;
const MAC_ADDRESS_LOW: u32 = 3;
const MII_ACCESS: u32 = 6;
const MII_DATA: u32 = 7;
const PHY_CONTROL: u32 = 0;
const PHY_ADVERTISEMENT: u32 = 4;

/// There is at least one frame.
const A_FRAME: u32 = 1 << 3;

/// The largest frame: Ethernet's header and 1500 bytes.
const FRAME: usize = 1514;
/// The smallest: a header.
const HEADER: usize = 14;
/// The checksum behind a frame.
const CHECKSUM: usize = 4;

/// The number of its interrupt.
const IRQ: u16 = 13;

/// How often something is looked at before it is taken for broken. The chip takes less than 1 ms for each.
const PATIENCE: u32 = 1_000_000;

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

pub struct Lan9118 {
    frames: &'static mut Frames,
}

impl Lan9118 {
    pub fn start(address: [u8; 6], frames: &'static mut Frames) -> Lan9118 {
        // Once it is awake, all of it anew.
        wait_for(POWER, 1, 1);
        register::write(HARDWARE_CONFIGURATION, 1);
        wait_for(HARDWARE_CONFIGURATION, 1, 0);
        // 5 KB for sending, which leaves 10.5 KB for frames that come. Bit 20 must be one.
        register::write(HARDWARE_CONFIGURATION, 1 << 20 | 5 << 16);
        // An interrupt as long as there is a frame; a line that is driven, and high then.
        register::write(LEVELS, 0x4800_0000);
        register::write(INTERRUPT_ENABLE, A_FRAME);
        register::write(INTERRUPT_CONFIGURATION, 1 << 8 | 1 << 4 | 1);
        // Full duplex alone is offered, so that nothing else can come out and the MAC need not be told later.
        write_phy(PHY_ADVERTISEMENT, 1 << 8 | 1 << 6 | 1);
        write_phy(PHY_CONTROL, 1 << 12 | 1 << 9);
        let [a, b, c, d, e, f] = address;
        write_mac(MAC_ADDRESS_LOW, u32::from_le_bytes([a, b, c, d]));
        write_mac(MAC_ADDRESS_HIGH, u32::from_le_bytes([e, f, 0, 0]));
        // Sends; what became of a frame nobody asks, and it may be forgotten. Frames come as they are, at whole words.
        register::write(TRANSMIT_CONFIGURATION, 1 << 2 | 1 << 1);
        register::write(RECEIVE_CONFIGURATION, 0);
        // Full duplex, multicast for IPv6, sends and receives.
        write_mac(MAC_CONTROL, 1 << 20 | 1 << 19 | 1 << 3 | 1 << 2);
        interrupt::listen_to(IRQ);
        Lan9118 { frames }
    }
}

/// Waits until `bits` of a register are `wanted`; what never are is a chip that will not answer later either.
fn wait_for(address: usize, bits: u32, wanted: u32) {
    for _ in 0..PATIENCE {
        if register::read(address) & bits == wanted {
            break;
        }
    }
}

/// Writes a register of the MAC, which is behind two others.
fn write_mac(number: u32, value: u32) {
    register::write(MAC_DATA, value);
    register::write(MAC_COMMAND, 1 << 31 | number);
    wait_for(MAC_COMMAND, 1 << 31, 0);
}

fn read_mac(number: u32) -> u32 {
    register::write(MAC_COMMAND, 1 << 31 | 1 << 30 | number);
    wait_for(MAC_COMMAND, 1 << 31, 0);
    register::read(MAC_DATA)
}

/// Writes a register of the PHY, which is behind two of the MAC. The one within the chip has number 1.
fn write_phy(number: u32, value: u32) {
    write_mac(MII_DATA, value);
    write_mac(MII_ACCESS, 1 << 11 | number << 6 | 1 << 1 | 1);
    for _ in 0..PATIENCE {
        if read_mac(MII_ACCESS) & 1 == 0 {
            break;
        }
    }
}

impl Wakes for Lan9118 {
    fn acknowledge(&mut self) {
        register::write(INTERRUPT, A_FRAME);
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
        // One piece, the first and the last; then its length again. The chip fills up short frames and appends the checksum.
        let length = frame.len() as u32;
        register::write(TRANSMIT_DATA, 1 << 13 | 1 << 12 | length);
        register::write(TRANSMIT_DATA, length);
        for bytes in frame.chunks(4) {
            let mut word = [0; 4];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            register::write(TRANSMIT_DATA, u32::from_le_bytes(word));
        }
        result
    }
}

/// There is room for a frame with the two words before it, whatever its length is going to be.
fn is_free() -> bool {
    register::read(FREE) & 0xffff >= (FRAME as u32).next_multiple_of(4) + 8
}

impl Device for Lan9118 {
    type RxToken<'d> = Received<'d>;
    type TxToken<'d> = Sending<'d>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let Frames { received, sent } = &mut *self.frames;
        // Without room for an answer it stays where it is.
        while register::read(RECEIVED) & 0x00ff_0000 != 0 && is_free() {
            let status = register::read(RECEIVE_STATUS);
            let whole = (status >> 16 & 0x3fff) as usize;
            // Every word of it is read, wanted or not: passing over it (RX_FFWD) needs four words at least, and QEMU
            // forgets to give back their room.
            let mut words = (0..whole.div_ceil(4)).map(|_| register::read(RECEIVE_DATA).to_le_bytes());
            for (place, word) in received.chunks_mut(4).zip(&mut words) {
                place.iter_mut().zip(word).for_each(|(to, from)| *to = from);
            }
            words.for_each(drop);
            let len = whole.saturating_sub(CHECKSUM);
            // Bit 15: it is broken.
            if status & 1 << 15 == 0 && (HEADER..=FRAME).contains(&len) {
                return Some((Received(received.get(..len)?), Sending(sent)));
            }
        }
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        is_free().then_some(Sending(&mut self.frames.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        // As many of the largest wait in 10.5 KB.
        capabilities.max_burst_size = Some(6);
        capabilities
    }
}
