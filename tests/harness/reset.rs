//! Connections that end with a reset. Alone in its file, since benches/clients.rs has it too.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Closes a connection with a reset: what was sent to it is gone, and neither end keeps its port for a while.
pub fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    let option = (&raw const linger).cast();
    // SAFETY: the structure lives until the call returns.
    let rc = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, option, size) };
    assert_eq!(rc, 0, "SO_LINGER");
}
