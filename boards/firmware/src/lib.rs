//! What the firmware of all boards shares: the loop, the log, a service of its own. A board brings its devices.
#![no_std]
#![deny(unsafe_code)]

pub mod console;
#[cfg(not(feature = "defmt"))]
#[path = "log/text.rs"]
mod log;
#[cfg(feature = "defmt")]
#[path = "log/frames.rs"]
mod log;

use core::marker::PhantomData;
use core::net::IpAddr;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use smoltcp::phy::Device;
pub use static_cell::{ConstStaticCell, StaticCell};
use usherd::backend::smoltcp::{Addresses, Buffers, Host, Ipv4, NoPipe, Smoltcp, Sockets};
use usherd::config::source::NoFiles;
use usherd::engine::{Engine, OneTable};
use usherd::record::Record;
use usherd::time::{Instant, Now};

use console::Console;
use log::Log;

/// A board without its network: a clock, an alarm and a serial line.
pub trait Board: 'static {
    /// Milliseconds since the start.
    fn now(&mut self) -> u64;

    /// Sleeps until a device wants something, at most so many milliseconds. It may wake for nothing.
    fn sleep(&mut self, ms: Option<u64>);

    /// A counter that is too fast for anybody outside to tell.
    fn jitter() -> u32;

    /// Writes to the serial line.
    fn write(bytes: &[u8]);
}

/// A network controller.
pub trait Card: Device {
    /// What it wanted the processor for has been heard: what comes from now on wakes it again.
    fn acknowledge(&mut self);
}

/// The stack on a board.
pub type Stack<B, C> = Smoltcp<'static, C, Bare<B>>;

/// What a board has besides the network.
pub struct Bare<B> {
    files: NoFiles,
    console: Console,
    random: u32,
    board: PhantomData<B>,
}

impl<B: Board> Host for Bare<B> {
    type Tables = OneTable;
    type Files = NoFiles;
    type Pipe = NoPipe;
    type Own = Console;

    fn own(&mut self) -> &mut Console {
        &mut self.console
    }

    fn files(&mut self) -> &mut NoFiles {
        &mut self.files
    }

    fn record(&mut self, record: &Record<'_>) {
        Log::<B>::new().record(record);
    }

    /// These chips have no source of chance: what the clock says when frames come is the best there is.
    fn random(&mut self) -> u32 {
        // Numerical Recipes' generator, stirred with the counter.
        self.random = (self.random ^ B::jitter()).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random ^ self.random >> 16
    }
}

/// How often the loop has gone round. A debugger, or a test, sees from it whether an idle board sleeps.
pub static TURNS: AtomicU32 = AtomicU32::new(0);

/// Where all of it is: statics of the firmware, each of a type that only it can name.
pub struct Memory<B: Board, C: Card + 'static> {
    pub engine: &'static mut Engine<Stack<B, C>>,
    pub buffers: &'static mut Buffers,
    pub sockets: &'static mut Sockets<'static>,
    pub stack: &'static StaticCell<Stack<B, C>>,
}

/// Serves what `table` says, for ever.
///
/// `table` is as `pack.rs` has packed it when the firmware was built; `ethernet` the card's address.
pub fn run<B: Board, C: Card>(
    mut board: B,
    card: C,
    ethernet: [u8; 6],
    table: &[u8],
    memory: Memory<B, C>,
) -> ! {
    let Memory { engine, buffers, sockets, stack } = memory;
    let mut now = Now { mono: Instant(board.now()), unix: None };
    let mut log = Log::<B>::new();
    let stack = start(card, ethernet, (buffers, sockets, stack), now.mono);
    if engine.spare().unpack(table).is_err() {
        log.trouble("the table is another version's: build all of it anew");
    }
    engine.begin(now, stack);
    let mut told = None;
    loop {
        TURNS.store(TURNS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        stack.device().acknowledge();
        now.mono = Instant(board.now());
        log.set_now(now.mono);
        now.unix = stack.unix(now.mono);
        let due = Smoltcp::turn(engine, stack, now);
        let address = stack.addresses().next();
        if address != told {
            told = address;
            log.ready(stack.addresses());
        }
        board.sleep(due.map(|at| at.since_ms(now.mono)));
    }
}

/// Apart from [`run`], so that what it needs of the stack comes back.
#[inline(never)]
fn start<B: Board, C: Card>(
    card: C,
    ethernet: [u8; 6],
    (buffers, sockets, place): (
        &'static mut Buffers,
        &'static mut Sockets<'static>,
        &'static StaticCell<Stack<B, C>>,
    ),
    now: Instant,
) -> &'static mut Stack<B, C> {
    let addresses =
        Addresses { ethernet, ipv4: Ipv4::Dhcp, ipv6: None, router6: None, time_server: time_server() };
    let host = Bare { files: NoFiles, console: Console, random: 0x5eed, board: PhantomData };
    place.init_with(|| Smoltcp::new(card, addresses, buffers, sockets, host, now))
}

/// The address of a time server (SNTP), if there was one in `USHERD_BOARD_TIME_SERVER` when this was built.
fn time_server() -> Option<IpAddr> {
    option_env!("USHERD_BOARD_TIME_SERVER")?.parse().ok()
}

/// Says why the firmware stops.
pub fn tell<B: Board>(info: &PanicInfo<'_>) {
    Log::<B>::new().panicked(info);
}
