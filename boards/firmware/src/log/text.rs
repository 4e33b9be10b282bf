//! The serial line, for text.

use core::fmt::{self, Write as _};
use core::marker::PhantomData;
use core::net::IpAddr;
use core::panic::PanicInfo;

use usherd::record::Record;
use usherd::time::Instant;

use crate::Board;

pub(crate) struct Log<B>(PhantomData<B>);

impl<B: Board> Log<B> {
    pub const fn new() -> Log<B> {
        Log(PhantomData)
    }

    /// Lines carry no time: whoever reads them as they come has a clock.
    pub fn set_now(&mut self, _: Instant) {}

    pub fn record(&mut self, record: &Record<'_>) {
        let _ = writeln!(self, "{record}");
    }

    pub fn ready(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let _ = write!(self, "ready:");
        for address in addresses {
            let _ = write!(self, " {address}");
        }
        let _ = writeln!(self);
    }

    pub fn trouble(&mut self, what: &'static str) {
        let _ = writeln!(self, "{what}");
    }

    pub fn panicked(&mut self, info: &PanicInfo<'_>) {
        let _ = writeln!(self, "{info}");
    }
}

impl<B: Board> fmt::Write for Log<B> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        B::write(text.as_bytes());
        Ok(())
    }
}
