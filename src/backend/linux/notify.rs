//! Telling a service manager how things stand: sd_notify(3)'s protocol, datagrams of `KEY=VALUE` lines.

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};

use crate::errno::Errno;

/// The way to the manager. Without one, saying something does nothing.
pub struct Notify {
    to: Option<(OwnedFd, SocketAddrUnix)>,
    /// Milliseconds between signs of life, half of what the manager waits.
    pub watchdog_ms: Option<u64>,
}

impl Notify {
    pub const NONE: Notify = Notify { to: None, watchdog_ms: None };

    /// `address` is NOTIFY_SOCKET: a path, or `@` and an abstract name. `watchdog_us` is WATCHDOG_USEC, if
    /// WATCHDOG_PID is ours.
    pub fn new(address: &[u8], watchdog_us: Option<u64>) -> Result<Notify, Errno> {
        let address = match address.strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name)?,
            None => SocketAddrUnix::new(address)?,
        };
        let fd = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let watchdog_ms = watchdog_us.map(|us| (us / 2000).max(1));
        Ok(Notify { to: Some((fd, address)), watchdog_ms })
    }

    /// Sends one message; never waits. A manager that does not listen is not our trouble.
    pub fn say(&self, message: &[u8]) {
        if let Some((fd, address)) = &self.to {
            let _ = sendto(fd, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, address);
        }
    }
}
