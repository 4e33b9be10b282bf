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

use core::net::IpAddr;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use heapless::Vec;
use smoltcp::phy::Device;
pub use static_cell::{ConstStaticCell, StaticCell};
use usherd::backend::smoltcp::{Addresses, Host, Ipv4, NoPipe, Smoltcp};
pub use usherd::backend::smoltcp::{Buffers, Line, NoLine, Sockets};
use usherd::capacity::LINES;
use usherd::config::source::NoFiles;
pub use usherd::engine::Engine;
use usherd::engine::OneTable;
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

    /// Writes to the serial line that the log goes to.
    fn write(bytes: &[u8]);

    /// Other serial lines, which services can be bound to; [`NoLine`] for none.
    type Line: Wakes + Line;

    fn lines(&mut self) -> Vec<Self::Line, LINES> {
        Vec::new()
    }
}

/// A device that wakes the processor when it has something to do.
pub trait Wakes {
    /// What it wanted the processor for has been heard: what comes from now on wakes it again.
    fn acknowledge(&mut self);
}

impl Wakes for NoLine {
    fn acknowledge(&mut self) {}
}

/// A network controller.
pub trait Card: Device + Wakes {}

impl<D: Device + Wakes> Card for D {}

/// The stack on a board.
pub type Stack<B, C> = Smoltcp<'static, C, Bare<B>>;

/// What a board has besides the network.
pub struct Bare<B: Board> {
    files: NoFiles,
    console: Console,
    lines: Vec<B::Line, LINES>,
    random: u32,
}

impl<B: Board> Host for Bare<B> {
    type Tables = OneTable;
    type Files = NoFiles;
    type Pipe = NoPipe;
    type Own = Console;

    type Line = B::Line;

    fn own(&mut self) -> (&mut Console, &mut [B::Line]) {
        (&mut self.console, &mut self.lines)
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

/// All of it, in statics: what a `main` gives to [`run`], once.
#[macro_export]
macro_rules! memory {
    ($board:ty, $card:ty) => {{
        use $crate::{Buffers, ConstStaticCell, Engine, Memory, Sockets, Stack, StaticCell};
        static ENGINE: ConstStaticCell<Engine<Stack<$board, $card>>> = ConstStaticCell::new(Engine::new());
        static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
        static SOCKETS: ConstStaticCell<Sockets<'static>> = ConstStaticCell::new(Sockets::new());
        static STACK: StaticCell<Stack<$board, $card>> = StaticCell::new();
        Memory { engine: ENGINE.take(), buffers: BUFFERS.take(), sockets: SOCKETS.take(), stack: &STACK }
    }};
}

/// The table of the board, as its `build.rs` has packed it.
#[macro_export]
macro_rules! table {
    () => {
        include_bytes!(concat!(env!("OUT_DIR"), "/table"))
    };
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
    let lines = board.lines();
    let stack = start(card, lines, ethernet, (buffers, sockets, stack), now.mono);
    if engine.spare().unpack(table).is_err() {
        log.trouble("the table is another version's: build all of it anew");
    }
    engine.begin(now, stack);
    let mut told = None;
    loop {
        TURNS.store(TURNS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        stack.device().acknowledge();
        stack.host.lines.iter_mut().for_each(Wakes::acknowledge);
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
    lines: Vec<B::Line, LINES>,
    ethernet: [u8; 6],
    (buffers, sockets, place): (
        &'static mut Buffers,
        &'static mut Sockets<'static>,
        &'static StaticCell<Stack<B, C>>,
    ),
    now: Instant,
) -> &'static mut Stack<B, C> {
    let addresses =
        Addresses { ethernet, ipv4: ipv4(), ipv6: None, router6: None, time_server: time_server() };
    let host = Bare { files: NoFiles, console: Console, lines, random: 0x5eed };
    place.init_with(|| Smoltcp::new(card, addresses, buffers, sockets, host, now))
}

/// What `USHERD_BOARD_ADDRESS` and `USHERD_BOARD_ROUTER` said when this was built; `pack.rs` has checked them. Without, a server
/// on the network tells.
fn ipv4() -> Ipv4 {
    let given = option_env!("USHERD_BOARD_ADDRESS").and_then(|text| text.split_once('/'));
    match given.map(|(address, bits)| (address.parse(), bits.parse())) {
        Some((Ok(address), Ok(bits))) => {
            let router = option_env!("USHERD_BOARD_ROUTER").and_then(|router| router.parse().ok());
            Ipv4::Static { address, bits, router }
        }
        _ => Ipv4::Dhcp,
    }
}

/// The address of a time server (SNTP), if there was one in `USHERD_BOARD_TIME_SERVER` when this was built.
fn time_server() -> Option<IpAddr> {
    option_env!("USHERD_BOARD_TIME_SERVER")?.parse().ok()
}

/// Says why the firmware stops.
pub fn tell<B: Board>(info: &PanicInfo<'_>) {
    Log::<B>::new().panicked(info);
}
