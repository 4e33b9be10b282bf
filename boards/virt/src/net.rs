//! The network controller: virtio-net (Virtual I/O Device 1.2, section 5.1), in the first of the machine's places for virtio
//! devices that has one.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use usherd_firmware::{ConstStaticCell, Wakes};
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::board;

/// Where a virtio device can be, how many of these places there are, and the first one's interrupt.
const PLACE: usize = 0x0a00_0000;
const PLACE_BYTES: usize = 0x200;
const PLACES: usize = 32;
const IRQ: usize = 48;

/// Frames that are with the device at one time, in each direction.
const FRAMES: usize = 16;
/// The largest frame: Ethernet's header and 1500 bytes.
const FRAME: usize = 1514;
/// The device's header stands before each; how long it is depends on the device.
const HEADER: usize = 12;

type Buffer = [u8; HEADER + FRAME];

/// Room for frames. Statics, because each would be on the stack three times on its way here.
pub struct Frames {
    received: [Buffer; FRAMES],
    sent: [Buffer; FRAMES],
}

impl Frames {
    pub const fn new() -> Frames {
        Frames { received: [[0; HEADER + FRAME]; FRAMES], sent: [[0; HEADER + FRAME]; FRAMES] }
    }
}

type Net = VirtIONetRaw<Flat, MmioTransport<'static>, FRAMES>;

pub struct VirtioNet {
    net: Net,
    frames: &'static mut Frames,
    /// The device's name for each of `frames.received` that it has. What it has not is being looked at.
    receiving: [Option<u16>; FRAMES],
    /// Likewise of `frames.sent`, with its bytes. What the device has not is free.
    sending: [Option<(u16, usize)>; FRAMES],
}

impl VirtioNet {
    /// The machine's network controller, or a panic that says that there is none.
    pub fn start(frames: &'static mut Frames) -> VirtioNet {
        let (place, transport) = (0..PLACES)
            .filter_map(|place| Some((place, transport(place)?)))
            .find(|(_, transport)| transport.device_type() == DeviceType::Network)
            .expect("a network controller: -device virtio-net-device");
        let net = VirtIONetRaw::new(transport).expect("a controller as the standard has it");
        let mut card = VirtioNet { net, frames, receiving: [None; FRAMES], sending: [None; FRAMES] };
        card.offer();
        board::listen_to(IRQ + place);
        card
    }

    /// Its address: the machine's.
    pub fn ethernet(&self) -> [u8; 6] {
        self.net.mac_address()
    }

    /// Gives the device all buffers that it may receive to.
    #[allow(unsafe_code)]
    fn offer(&mut self) {
        for (buffer, name) in self.frames.received.iter_mut().zip(&mut self.receiving) {
            if name.is_none() {
                // SAFETY: from now on it has a name, and until `received` takes that away nobody looks at this buffer; it is
                // a static, so it stays.
                *name = unsafe { self.net.receive_begin(buffer) }.ok();
            }
        }
    }

    /// The next frame that was received: its buffer, and where in it the frame is.
    #[allow(unsafe_code)]
    fn received(&mut self) -> Option<(usize, core::ops::Range<usize>)> {
        loop {
            // The device has to see how far frames were taken before it is asked whether there are more: either it
            // interrupts for the next one, or we see it here (2.7.7).
            fence(Ordering::SeqCst);
            let name = self.net.poll_receive()?;
            let at = self.receiving.iter().position(|with| *with == Some(name))?;
            let buffer = self.frames.received.get_mut(at)?;
            // SAFETY: the device is done with the buffer of that name, and this is that one.
            let done = unsafe { self.net.receive_complete(name, buffer) };
            *self.receiving.get_mut(at)? = None;
            if let Ok((header, len)) = done {
                return Some((at, header..header + len));
            }
            // Shorter than its own header: the device may have the buffer again.
            self.offer();
        }
    }

    /// A buffer to send with. None is left if the device has all of them.
    #[allow(unsafe_code)]
    fn free(&mut self) -> Option<usize> {
        loop {
            // As for `received`.
            fence(Ordering::SeqCst);
            let Some(name) = self.net.poll_transmit() else { break };
            let is_that = |with: &Option<(u16, usize)>| with.is_some_and(|(its, _)| its == name);
            let at = self.sending.iter().position(is_that)?;
            let (_, len) = self.sending.get_mut(at)?.take()?;
            let bytes = self.frames.sent.get(at)?.get(..len)?;
            // SAFETY: these are the bytes that were given to the device with that name.
            unsafe { self.net.transmit_complete(name, bytes) }.ok()?;
        }
        self.sending.iter().position(Option::is_none)
    }
}

/// The virtio device at a place, if there is one.
#[allow(unsafe_code)]
fn transport(place: usize) -> Option<MmioTransport<'static>> {
    let header = core::ptr::with_exposed_provenance_mut(PLACE + place * PLACE_BYTES);
    // SAFETY: the machine has registers of a virtio device there, though perhaps no device behind them, of that size and
    // aligned to it; `VirtioNet::start`, which is called once, is the only one to make a driver of them.
    unsafe { MmioTransport::new(NonNull::new(header)?, PLACE_BYTES) }.ok()
}

impl Wakes for VirtioNet {
    fn acknowledge(&mut self) {
        self.net.ack_interrupt();
    }
}

pub struct Received<'d>(&'d [u8]);

pub struct Sending<'d> {
    net: &'d mut Net,
    buffer: &'d mut Buffer,
    name: &'d mut Option<(u16, usize)>,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Sending<'_> {
    #[allow(unsafe_code)]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let header = self.net.fill_buffer_header(self.buffer).unwrap_or(HEADER);
        let end = header + len.min(FRAME);
        let result = f(self.buffer.get_mut(header..end).unwrap_or_default());
        if let Some(bytes) = self.buffer.get(..end) {
            // SAFETY: from now on it has a name, and until `VirtioNet::free` takes that away nobody looks at this buffer; it
            // is a static, so it stays.
            *self.name = unsafe { self.net.transmit_begin(bytes) }.ok().map(|name| (name, end));
        }
        result
    }
}

impl Device for VirtioNet {
    type RxToken<'d> = Received<'d>;
    type TxToken<'d> = Sending<'d>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        // The last one has been looked at.
        self.offer();
        // There must be room for an answer.
        let free = self.free()?;
        let (at, frame) = self.received()?;
        let VirtioNet { net, frames, sending, .. } = self;
        let received = Received(frames.received.get(at)?.get(frame)?);
        Some((received, Sending { net, buffer: frames.sent.get_mut(free)?, name: sending.get_mut(free)? }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        let free = self.free()?;
        let VirtioNet { net, frames, sending, .. } = self;
        Some(Sending { net, buffer: frames.sent.get_mut(free)?, name: sending.get_mut(free)? })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.max_burst_size = Some(FRAMES);
        capabilities
    }
}

/// Memory as the device sees it: as the processor does, at the same addresses.
struct Flat;

/// What the driver asks for at one time, at most: the two halves of a queue.
#[repr(C, align(4096))]
struct Pages([u8; 2 * PAGE_SIZE]);

/// For two queues, each in two halves; the older kind of device wants both halves side by side.
static QUEUES: [ConstStaticCell<Pages>; 4] = [const { ConstStaticCell::new(Pages([0; 2 * PAGE_SIZE])) }; 4];

// SAFETY: what is said of each function is what the trait asks for.
#[allow(unsafe_code)]
unsafe impl Hal for Flat {
    /// From statics that nobody has had yet: aligned, zero, and nobody else's ever. 0 tells the driver that there is none.
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let fits = pages * PAGE_SIZE <= size_of::<Pages>();
        match QUEUES.iter().filter(|_| fits).find_map(ConstStaticCell::try_take) {
            Some(place) => {
                let start = NonNull::from(&mut place.0).cast::<u8>();
                (start.as_ptr().expose_provenance() as PhysAddr, start)
            }
            None => (0, NonNull::dangling()),
        }
    }

    /// Nothing comes back: the controller is there as long as the machine.
    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    /// At the same address. For PCI only, which is not used.
    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(core::ptr::with_exposed_provenance_mut(address as usize)).unwrap_or(NonNull::dangling())
    }

    /// At the same address, and what the processor has written the device sees.
    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
