//! usherd on a Cortex-M3: the same services, rules and limits as on Linux, from the table in `usherd.conf`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod board;
mod console;
mod register;
mod stellaris;

use core::fmt::Write as _;
use core::net::IpAddr;
use core::panic::PanicInfo;

use usherd::backend::smoltcp::{Addresses, Buffers, Host, Ipv4, NoPipe, Smoltcp, Sockets};
use usherd::config::source::NoFiles;
use usherd::engine::Engine;
use usherd::record::Record;
use usherd::time::{Instant, Now};

use board::{Board, Serial};
use console::Console;
use stellaris::{Frames, Stellaris};

/// The table, as `build.rs` has packed it.
static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/table"));

type Stack = Smoltcp<'static, Stellaris, Bare>;

static mut ENGINE: Engine<Stack> = Engine::new();
static mut BUFFERS: Buffers = Buffers::new();
static mut SOCKETS: Sockets<'static> = Sockets::new();
static mut FRAMES: Frames = Frames::new();
static mut STACK: Option<Stack> = None;

/// What there is besides the network: a serial line.
struct Bare {
    files: NoFiles,
    console: Console,
    random: u32,
}

impl Host for Bare {
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
        let _ = writeln!(Serial, "{record}");
    }

    /// The chip has no source of chance: what the clock says when frames come is the best there is.
    fn random(&mut self) -> u32 {
        // Numerical Recipes' generator, stirred with the cycle counter.
        let stir = register::read(0xe000_e018);
        self.random = (self.random ^ stir).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random ^ self.random >> 16
    }
}

/// Locally administered; a board of one's own gets one of one's own.
const ETHERNET: [u8; 6] = [0x02, b'u', b's', b'h', 0, 1];

#[cortex_m_rt::entry]
#[allow(unsafe_code, clippy::deref_addrof, reason = "a reference to a static mut goes through a raw pointer")]
fn main() -> ! {
    // SAFETY: `main` runs once, interrupts are never taken, and nothing else names these statics.
    let (engine, parts) = unsafe {
        let (buffers, sockets) = (&mut *(&raw mut BUFFERS), &mut *(&raw mut SOCKETS));
        (&mut *(&raw mut ENGINE), (&mut *(&raw mut FRAMES), buffers, sockets, &mut *(&raw mut STACK)))
    };
    let mut board = Board::start();
    let mut now = Now { mono: Instant(board.now()), unix: None };
    let stack = start(parts, now.mono);
    board::listen_to(stellaris::IRQ);
    if engine.spare().unpack(TABLE).is_err() {
        let _ = writeln!(Serial, "the table is another version's: build all of it anew");
    }
    engine.adopt(now, stack);
    let mut told = None;
    loop {
        stack.device().acknowledge();
        board::clear(stellaris::IRQ);
        now.mono = Instant(board.now());
        now.unix = stack.unix(now.mono);
        let due = Smoltcp::turn(engine, stack, now);
        let address = stack.addresses().next();
        if address != told {
            told = address;
            let _ = write!(Serial, "ready:");
            for address in stack.addresses() {
                let _ = write!(Serial, " {address}");
            }
            let _ = writeln!(Serial);
        }
        board.sleep(due.map(|at| at.since_ms(now.mono)));
    }
}

/// The address of a time server (SNTP), if there was one in `USHERD_BOARD_TIME_SERVER` when this was built.
fn time_server() -> Option<IpAddr> {
    option_env!("USHERD_BOARD_TIME_SERVER")?.parse().ok()
}

type Parts =
    (&'static mut Frames, &'static mut Buffers, &'static mut Sockets<'static>, &'static mut Option<Stack>);

/// Apart from `main`, so that what it needs of the stack comes back.
#[inline(never)]
fn start((frames, buffers, sockets, place): Parts, now: Instant) -> &'static mut Stack {
    let device = Stellaris::start(ETHERNET, frames);
    let addresses = Addresses {
        ethernet: ETHERNET,
        ipv4: Ipv4::Dhcp,
        ipv6: None,
        router6: None,
        time_server: time_server(),
    };
    let host = Bare { files: NoFiles, console: Console, random: 0x5eed };
    place.insert(Smoltcp::new(device, addresses, buffers, sockets, host, now))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Serial, "{info}");
    loop {
        cortex_m::asm::udf();
    }
}
