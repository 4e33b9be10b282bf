//! The serial line, for frames of defmt. tools/decode makes text of them.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::net::IpAddr;
use core::panic::PanicInfo;

use heapless::Vec;
use smoltcp::config::IFACE_MAX_ADDR_COUNT;
use usherd::addr::Ip;
use usherd::record::Record;
use usherd::time::Instant;

use crate::Board;

/// What the logger needs, which has no values of its own.
struct Serial {
    encoder: defmt::Encoder,
    is_begun: bool,
    write: fn(&[u8]),
    now: Instant,
}

struct Place(UnsafeCell<Serial>);

// SAFETY: there is one processor, and interrupts are never taken.
#[allow(unsafe_code)]
unsafe impl Sync for Place {}

static SERIAL: Place = Place(UnsafeCell::new(Serial {
    encoder: defmt::Encoder::new(),
    is_begun: false,
    write: |_| {},
    now: Instant(0),
}));

#[allow(unsafe_code)]
fn serial<T>(use_it: impl FnOnce(&mut Serial) -> T) -> T {
    // SAFETY: nothing interrupts, and nothing in this file asks for it while it has it.
    use_it(unsafe { &mut *SERIAL.0.get() })
}

#[defmt::global_logger]
struct Logger;

// SAFETY: nothing interrupts, so no frame is begun within another.
#[allow(unsafe_code)]
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        serial(|s| {
            if s.is_begun {
                // A panic has come within a frame. A new encoder begins with what ends it.
                s.encoder = defmt::Encoder::new();
            }
            s.is_begun = true;
            s.encoder.start_frame(s.write);
        });
    }

    unsafe fn write(bytes: &[u8]) {
        serial(|s| s.encoder.write(bytes, s.write));
    }

    unsafe fn release() {
        serial(|s| {
            s.encoder.end_frame(s.write);
            s.is_begun = false;
        });
    }

    unsafe fn flush() {}
}

// Since the start.
defmt::timestamp!("{=u64:ms}", serial(|s| s.now.0));

pub(crate) struct Log<B>(PhantomData<B>);

impl<B: Board> Log<B> {
    pub fn new() -> Log<B> {
        serial(|s| s.write = B::write);
        Log(PhantomData)
    }

    pub fn set_now(&mut self, now: Instant) {
        serial(|s| s.now = now);
    }

    pub fn record(&mut self, record: &Record<'_>) {
        record.frame();
    }

    pub fn ready(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        defmt::info!("{}", Ready(addresses.map(Ip).take(IFACE_MAX_ADDR_COUNT).collect()));
    }

    pub fn trouble(&mut self, what: &'static str) {
        defmt::error!("{=str}", what);
    }

    /// Without the numbers that may be in its message: to put them there would take all of text formatting.
    pub fn panicked(&mut self, info: &PanicInfo<'_>) {
        let message = info.message().as_str().unwrap_or("see there");
        match info.location() {
            Some(at) => defmt::error!("panicked at {=str}:{=u32}: {=str}", at.file(), at.line(), message),
            None => defmt::error!("panicked: {=str}", message),
        }
    }
}

struct Ready(Vec<Ip, IFACE_MAX_ADDR_COUNT>);

impl defmt::Format for Ready {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "ready:");
        for address in &self.0 {
            defmt::write!(f, " {}", address);
        }
    }
}
