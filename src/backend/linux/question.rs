//! Questions to name servers: a socket each, with a port of its own that nobody can guess.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Source, sys};
use crate::errno::Errno;
use crate::resolver::{Network, QuestionId};

/// The way to name servers.
pub struct Names<'a> {
    epoll: &'a OwnedFd,
}

/// A question that was sent. Dropping it closes its socket.
pub struct Question {
    pub(super) socket: OwnedFd,
    id: QuestionId,
}

/// Reported once, and then no more until asked for again: a child whose program has not begun has our sockets too, and
/// what it holds must not go on reporting after we have closed ours.
const ONCE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

impl<'a> Names<'a> {
    pub const fn new(epoll: &'a OwnedFd) -> Names<'a> {
        Names { epoll }
    }
}

impl Network for Names<'_> {
    type Question = Question;

    fn ask(&mut self, id: QuestionId, server: SocketAddr, query: &[u8]) -> Result<Question, Errno> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
        // The kernel lets in nothing from elsewhere.
        rustix::net::connect(&socket, &reachable(server))?;
        send(&socket, query, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        epoll::add(self.epoll, &socket, Source::Question(id).data(), ONCE)?;
        Ok(Question { socket, id })
    }

    fn answer(&mut self, question: &Question, buf: &mut [u8]) -> Result<usize, Errno> {
        match recv(&question.socket, buf, RecvFlags::DONTWAIT) {
            Ok((len, _)) => Ok(len),
            Err(rustix::io::Errno::AGAIN) => {
                epoll::modify(self.epoll, &question.socket, Source::Question(question.id).data(), ONCE)?;
                Err(Errno::AGAIN)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn random(&mut self) -> u32 {
        random()
    }
}

/// A number that nobody can guess.
pub fn random() -> u32 {
    let mut bytes = [0; 4];
    // While a board has just started the pool is not filled, and waiting for it would stop the daemon: what the kernel has then is
    // the best there is. Asked for by GRND_INSECURE: a read of /dev/urandom, which gives the same, first makes randomness out of
    // jitter since Linux 5.18, for two seconds on a Raspberry Pi Zero. Kernels before 5.6 know no such flag, and do not do that.
    let has_some = |n: rustix::io::Result<usize>| n.is_ok_and(|n| n == 4);
    let has_asked = [GetRandomFlags::NONBLOCK, GetRandomFlags::INSECURE]
        .into_iter()
        .any(|flags| has_some(getrandom(&mut bytes, flags)));
    if !has_asked {
        let read = rustix::fs::open(c"/dev/urandom", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::read(&file, &mut bytes));
        if !has_some(read) {
            // Neither: the port of the question is still the kernel's own choice.
            return sys::monotonic_us() as u32;
        }
    }
    u32::from_ne_bytes(bytes)
}

/// resolv.conf(5) may say 0.0.0.0 for this machine. A connected socket hears only from where the answer says it comes
/// from.
fn reachable(server: SocketAddr) -> SocketAddr {
    let address = match server.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => return server,
    };
    SocketAddr::new(address, server.port())
}
