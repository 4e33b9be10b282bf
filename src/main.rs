//! The daemon.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod entry;

use usherd::backend::linux::daemon::{self, Parts};
use usherd::backend::linux::log::Log;
use usherd::backend::linux::{Cache, Linux, Spawner, Spills};
use usherd::config::Loader;
use usherd::engine::Engine;

// All zero at start: none of them takes room in the file, and none takes memory before it is used.
static mut ENGINE: Engine<Linux> = Engine::new();
static mut LOADER: Loader = Loader::new();
static mut SPILLS: Spills = Spills::new();
static mut CACHE: Cache = Cache::new();
static mut SPAWNER: Spawner = Spawner::new();
static mut LOG: Log = Log::new();
#[cfg(feature = "tap")]
static mut TAP_ENGINE: Engine<usherd::backend::linux::tap::TapStack> = Engine::new();
#[cfg(feature = "tap")]
static mut BUFFERS: usherd::backend::smoltcp::Buffers = usherd::backend::smoltcp::Buffers::new();
#[cfg(feature = "tap")]
static mut SOCKETS: usherd::backend::smoltcp::Sockets<'static> = usherd::backend::smoltcp::Sockets::new();

#[allow(unsafe_code, clippy::deref_addrof, reason = "a reference to a static mut goes through a raw pointer")]
fn main(start: entry::Start) -> i32 {
    #[cfg(feature = "recorder")]
    {
        let (base, build) = start.identity();
        usherd::backend::linux::recorder::set_program(base, build);
    }
    // SAFETY: `main` is called once, by the only thread there is, and nothing else names these statics.
    let parts = unsafe {
        Parts {
            engine: &mut *(&raw mut ENGINE),
            loader: &mut *(&raw mut LOADER),
            spills: &mut *(&raw mut SPILLS),
            cache: &mut *(&raw mut CACHE),
            spawner: &mut *(&raw mut SPAWNER),
            log: &mut *(&raw mut LOG),
            unwritten: start.unwritten(),
            page: start.page(),
            #[cfg(feature = "tap")]
            tap: daemon::TapParts {
                engine: &mut *(&raw mut TAP_ENGINE),
                buffers: &mut *(&raw mut BUFFERS),
                sockets: &mut *(&raw mut SOCKETS),
            },
        }
    };
    daemon::run(start.args(), start.env(), parts)
}
