//! The memory of the stack, laid out by whoever starts it, and the engine's claims on parts of it.

use core::sync::atomic::{AtomicBool, Ordering};

use smoltcp::iface::SocketStorage;
use smoltcp::socket::udp;
use smoltcp::storage::PacketMetadata;

use crate::capacity::{
    LINES, SERVICES, TCP_BUFFER_BYTES, TCP_SOCKETS, UDP_BUFFER_BYTES, UDP_PACKETS, UDP_SOCKETS,
};

/// What all sockets read and write. All zero: a static of it takes no room in the file.
pub struct Buffers {
    pub(super) received: [[u8; TCP_BUFFER_BYTES]; TCP_SOCKETS],
    pub(super) sent: [[u8; TCP_BUFFER_BYTES]; TCP_SOCKETS],
    pub(super) datagrams_received: [[u8; UDP_BUFFER_BYTES]; UDP_SOCKETS],
    pub(super) datagrams_sent: [[u8; UDP_BUFFER_BYTES]; UDP_SOCKETS],
    pub(super) streams: [AtomicBool; TCP_SOCKETS + LINES],
    pub(super) ports: [AtomicBool; SERVICES],
    pub(super) questions: [AtomicBool; UDP_SOCKETS],
}

impl Buffers {
    pub const fn new() -> Buffers {
        Buffers {
            received: [[0; TCP_BUFFER_BYTES]; TCP_SOCKETS],
            sent: [[0; TCP_BUFFER_BYTES]; TCP_SOCKETS],
            datagrams_received: [[0; UDP_BUFFER_BYTES]; UDP_SOCKETS],
            datagrams_sent: [[0; UDP_BUFFER_BYTES]; UDP_SOCKETS],
            streams: [const { AtomicBool::new(false) }; TCP_SOCKETS + LINES],
            ports: [const { AtomicBool::new(false) }; SERVICES],
            questions: [const { AtomicBool::new(false) }; UDP_SOCKETS],
        }
    }
}

/// The sockets themselves. Not all zero when empty: apart from [`Buffers`], which a static holds for nothing.
pub struct Sockets<'a> {
    pub(super) places: [SocketStorage<'a>; TCP_SOCKETS + UDP_SOCKETS + 1],
    pub(super) received: [[PacketMetadata<udp::UdpMetadata>; UDP_PACKETS]; UDP_SOCKETS],
    pub(super) sent: [[PacketMetadata<udp::UdpMetadata>; UDP_PACKETS]; UDP_SOCKETS],
}

impl Sockets<'_> {
    pub const fn new() -> Self {
        Sockets {
            places: [const { SocketStorage::EMPTY }; TCP_SOCKETS + UDP_SOCKETS + 1],
            received: [[PacketMetadata::EMPTY; UDP_PACKETS]; UDP_SOCKETS],
            sent: [[PacketMetadata::EMPTY; UDP_PACKETS]; UDP_SOCKETS],
        }
    }
}

/// A connection, a listener or a question in the engine's hands. Dropping it gives it back. Atomic only so that all of it may be
/// in a static; nothing but one loop looks at it.
pub struct Claim<'a> {
    pub(super) at: usize,
    is_held: &'a AtomicBool,
}

impl<'a> Claim<'a> {
    pub(super) fn take(at: usize, flags: &'a [AtomicBool]) -> Option<Claim<'a>> {
        let is_held = flags.get(at)?;
        is_held.store(true, Ordering::Relaxed);
        Some(Claim { at, is_held })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.is_held.store(false, Ordering::Relaxed);
    }
}
