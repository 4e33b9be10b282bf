//! Questions to name servers over a network stack of our own. One more than there are sockets is not asked: the look-up fails.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};

use heapless::Vec;
use smoltcp::iface::SocketSet;
use smoltcp::socket::udp;
use smoltcp::wire::{IpAddress, IpEndpoint};

use super::storage::Claim;
use super::{Datagrams, Use, dynamic_port};
use crate::addr::plain;
use crate::capacity::UDP_SOCKETS;
use crate::errno::Errno;
use crate::resolver::{Network, QuestionId};

/// The way to name servers: a datagram socket for each question.
pub struct Names<'s, 'a> {
    pub(super) sockets: &'s mut SocketSet<'a>,
    pub(super) datagrams: &'s mut Vec<Datagrams, UDP_SOCKETS>,
    pub(super) claims: &'a [AtomicBool],
    pub(super) random: [u32; 2],
}

impl<'a> Network for Names<'_, 'a> {
    type Question = Claim<'a>;

    fn ask(&mut self, id: QuestionId, server: SocketAddr, query: &[u8]) -> Result<Claim<'a>, Errno> {
        // A question that was dropped in this turn has its socket still.
        let is_free = |(at, datagrams): (usize, &Datagrams)| match datagrams.purpose {
            Use::Free => true,
            Use::Question { .. } => self.claims.get(at).is_some_and(|flag| !flag.load(Ordering::Relaxed)),
            Use::Port(_) | Use::Clock => false,
        };
        let at = self.datagrams.iter().enumerate().position(is_free).ok_or(Errno::NOBUFS)?;
        let port = dynamic_port(self.random());
        let datagrams = self.datagrams.get_mut(at).ok_or(Errno::NOBUFS)?;
        let socket = self.sockets.get_mut::<udp::Socket>(datagrams.handle);
        let server = IpEndpoint::new(IpAddress::from(plain(server.ip())), server.port());
        socket.close();
        socket.bind(port).map_err(|_| Errno::ADDRINUSE)?;
        datagrams.purpose = Use::Question { id, server };
        let claim = Claim::take(at, self.claims).ok_or(Errno::NOBUFS)?;
        socket.send_slice(query, server).map_err(|_| Errno::HOSTUNREACH)?;
        Ok(claim)
    }

    fn answer(&mut self, question: &Claim<'a>, buf: &mut [u8]) -> Result<usize, Errno> {
        let datagrams = self.datagrams.get(question.at).ok_or(Errno::AGAIN)?;
        let Use::Question { server, .. } = datagrams.purpose else { return Err(Errno::AGAIN) };
        let socket = self.sockets.get_mut::<udp::Socket>(datagrams.handle);
        loop {
            let (bytes, from) = socket.recv().map_err(|_| Errno::AGAIN)?;
            // As a connected socket has it: nobody else's word counts.
            if from.endpoint == server {
                let n = bytes.len().min(buf.len());
                for (to, from) in buf.iter_mut().zip(bytes) {
                    *to = *from;
                }
                return Ok(n);
            }
        }
    }

    fn random(&mut self) -> u32 {
        // Both halves come from the host, one for each call that one look-up makes.
        self.random.rotate_left(1);
        self.random[0]
    }
}
