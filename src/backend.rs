//! What the engine asks of the system below it: the actions.
//!
//! Actions leave the engine through this trait, not through a queue. A queue would need a capacity to be argued for
//! every input (a reload of 128 services is one input), and a failed action's errno would come back as an event for a
//! state that has moved on; a call gives it back in the same step. Transcripts for tests come from an implementation
//! that writes down its calls (`backend/sim.rs`).

use core::net::{IpAddr, SocketAddr};

use crate::addr::Peer;
use crate::builtin::{Forward, Step, Stream};
use crate::config::source::Files;
use crate::engine::Tables;
use crate::errno::Errno;
use crate::record::Record;
use crate::resolver::Network;
use crate::service::Service;
use crate::slots::Handle;
use crate::table::Table;
use crate::time::Now;
use crate::wrappers::Effects;

#[cfg(feature = "linux")]
pub mod linux;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(feature = "smoltcp")]
pub mod smoltcp;

/// Names a service to the backend: its place in the table, and the table's generation, so that readiness of a
/// listener from before a reload is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ServiceId {
    pub index: u16,
    pub generation: u16,
}

/// Names a client of a built-in stream service.
pub type SessionId = Handle;

/// Names a client of a redirected service.
pub type RelayId = Handle;

/// Names a question to an ident server.
pub type IdentId = Handle;

/// Names a stream that is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StreamId {
    /// A client of a built-in service.
    Session(SessionId),
    /// A client of a redirected service, and the connection to where it is redirected.
    Near(RelayId),
    Far(RelayId),
    Ident(IdentId),
}

/// A process, as the system numbers it.
pub type Pid = u32;

/// What a server is given on descriptors 0 to 2.
pub enum Given<'a, L, S> {
    /// One client's connection (nowait).
    Connection(&'a S),
    /// The service's own socket (wait).
    Listener(&'a L),
    /// /dev/null: a command that goes with a client and does not talk to it.
    Nothing,
}

/// A server to be started.
pub struct Spawn<'a, L, S> {
    pub table: &'a Table,
    pub service: &'a Service,
    /// The socket the client came to, also where the server gets a connection: what else belongs to the service hangs
    /// on it. It is tcpmux's for a service that is reached through it; `None` if that one listens no more.
    pub listener: Option<&'a L>,
    pub given: Given<'a, L, S>,
    pub peer: Peer,
    /// What the rule of hosts.allow or hosts.deny that let the client in changes about its server.
    pub effects: Option<&'a Effects>,
    /// Run by `/bin/sh -c` instead of the service's program, with its user and everything else of it; ends in a NUL byte.
    pub command: Option<&'a [u8]>,
}

/// Which servers are to be told to end, and how hard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// SIGTERM.
    Ask,
    /// SIGKILL.
    Kill,
}

pub trait Backend {
    /// Whether the engine has a table beside the one that serves, for a reload.
    type Tables: Tables;

    /// A service's bound socket. Dropping it closes it.
    type Listener;
    /// A connection. Dropping it closes it.
    type Stream;
    /// A connection in the hands of a built-in service.
    type Io<'a>: Stream
    where
        Self: 'a;
    /// Files, for hosts.allow and hosts.deny, for names and banners. Read at every connection: a backend keeps in memory
    /// what has not changed.
    type Files: Files;

    /// A question to a name server.
    type Question;
    /// What [`Resolver`](crate::resolver::Resolver) asks its questions through.
    type Network<'a>: Network<Question = Self::Question>
    where
        Self: 'a;

    /// What is remembered of a client of a service of the firmware's own.
    type OwnClient: Default;

    /// Goes on with a client of the nth of those services ([`Own`](crate::builtin::Own)). Where there are none nothing is
    /// configured to come here.
    fn talk(
        &mut self,
        service: u8,
        client: &mut Self::OwnClient,
        stream: &mut Self::Stream,
        now: Now,
    ) -> Result<Step, Errno> {
        let _ = (service, client, stream, now);
        Ok(Step::Close)
    }

    /// The files, as they are now.
    fn files(&mut self) -> &mut Self::Files;

    /// What the resolver needs: the files, and the way to name servers.
    fn resolving(&mut self) -> (&mut Self::Files, Self::Network<'_>);

    /// Makes the service's socket and listens, not yet watched.
    fn listen(&mut self, table: &Table, service: &Service) -> Result<Self::Listener, Errno>;

    /// Whether sockets that a server will own let in only whom the access rules of their service admit, from the moment
    /// [`listen`](Backend::listen) or [`refit`](Backend::refit) makes them so. If not, the engine refuses whom it cannot check.
    const GUARDS: bool;

    /// Makes a socket that was kept over a reload right for what `service` says now: who owns it, where servers' standard
    /// error goes, whom it lets in. `is_owned`: a server from before has it still, and must not be disturbed in how it
    /// reads; the same is asked for again when that server has ended.
    fn refit(
        &mut self,
        table: &Table,
        service: &Service,
        listener: &mut Self::Listener,
        is_owned: bool,
    ) -> Result<(), Errno>;

    /// Closes a listener of a service; servers that it was given to, or whose connections came from it, may still run.
    fn retire(&mut self, table: &Table, service: &Service, listener: Self::Listener) {
        let _ = (table, service);
        drop(listener);
    }

    /// Reports [`Ready`](crate::engine::Event::Ready) with this `id` from now on whenever something waits at the
    /// listener, or never again. Asking for what is so already is allowed.
    fn watch(&mut self, id: ServiceId, listener: &Self::Listener, on: bool);

    /// Reports [`Ready`](crate::engine::Event::Ready) once when something waits at a listener that a server owns, or as soon
    /// as something does. Until it is asked for again nothing more of it is reported, whatever comes.
    fn watch_once(&mut self, id: ServiceId, listener: &Self::Listener) {
        let _ = (id, listener);
    }

    /// A number that stays the same for as long as nothing is taken from a socket that a server owns; 0 if nothing ever was.
    /// `None` where the system does not say.
    fn taken(&mut self, listener: &Self::Listener) -> Option<u64> {
        let _ = listener;
        None
    }

    /// Whether there are programs to run. Where not, what is about them alone is left out.
    const RUNS_PROGRAMS: bool;

    /// Takes a connection, never waits: [`Errno::AGAIN`] if there is none.
    fn accept(&mut self, listener: &Self::Listener) -> Result<(Self::Stream, Peer), Errno>;

    /// Takes a datagram into `buf`, never waits. A longer one is cut to `buf`.
    fn receive(&mut self, listener: &Self::Listener, buf: &mut [u8]) -> Result<(usize, Peer), Errno>;

    /// Sends a datagram; one that cannot go now is lost, as datagrams may be.
    fn reply(&mut self, listener: &Self::Listener, peer: Peer, bytes: &[u8]) -> Result<(), Errno>;

    /// Who sent the datagram that waits, without taking it; [`Peer::Unknown`] if none waits.
    fn sender(&mut self, listener: &Self::Listener) -> Peer;

    /// A mark of what waits at a listener: 0 for nothing; the same number as before if nothing of it was taken in
    /// between; most likely another number if something was.
    fn mark(&mut self, listener: &Self::Listener) -> u64;

    /// Whether `peer` is one of this machine's own addresses.
    fn is_own(&mut self, peer: Peer) -> bool;

    /// Watches a stream from now on. Fails where the system can watch no more. [`Step::Close`] watches for nothing but
    /// the stream's end.
    fn open(&mut self, id: StreamId, stream: &Self::Stream, wait_for: Step) -> Result<(), Errno>;

    /// Changes what a stream is watched for.
    fn wait_for(&mut self, id: StreamId, stream: &Self::Stream, step: Step);

    /// Watches a stream no more, until it is [waited for](Backend::wait_for) again.
    fn unwatch(&mut self, stream: &Self::Stream);

    /// Watches a stream no more and makes it what a program expects: blocking, IPv4 for an IPv4 client.
    fn hand_over(&mut self, stream: &Self::Stream) -> Result<(), Errno>;

    /// Begins a connection, never waits: the stream can be [opened](Backend::open) and becomes writable, or fails, when
    /// that is decided. `from` is the address it comes from, the system's choice if there is none.
    fn connect(&mut self, from: Option<IpAddr>, to: SocketAddr) -> Result<Self::Stream, Errno>;

    /// Whether a connection that [was begun](Backend::connect) is there; [`Errno::AGAIN`] while it is not decided.
    fn connected(&mut self, stream: &Self::Stream) -> Result<(), Errno>;

    /// Our own end of a connection: address and port. `None` for a unix socket.
    fn local(&mut self, stream: &Self::Stream) -> Option<(IpAddr, u16)>;

    /// Moves what waits at `from` to `to`, at most once through `scratch`; what `to` does not take stays with `from`.
    fn relay(
        &mut self,
        from: &mut Self::Stream,
        to: &mut Self::Stream,
        scratch: &mut [u8],
    ) -> Result<Forward, Errno>;

    /// Whether there can be standby servers: [`pair`](Backend::pair) works.
    const HAS_STANDBY: bool;

    /// A pair of connected streams: what is written to one is read from the other. A server can be
    /// [given](Given::Connection) the second, which is dropped then.
    fn pair(&mut self) -> Result<(Self::Stream, Self::Stream), Errno> {
        Err(Errno::NOSYS)
    }

    /// Whether the other end of a stream may still say something, as far as is known by now.
    fn is_there(&mut self, stream: &Self::Stream) -> bool {
        let _ = stream;
        true
    }

    /// Tells the other end that nothing more will come (a half-close).
    fn finish(&mut self, stream: &Self::Stream);

    /// Sets SO_KEEPALIVE, or SO_LINGER to so many seconds (0: off), for hosts_options(5). What the system does not allow
    /// is left.
    fn keep_alive(&mut self, stream: &Self::Stream);
    fn linger(&mut self, stream: &Self::Stream, seconds: u32);

    /// The stream as a built-in service sees it. Readiness starts from what the system reported last.
    fn io<'a>(&'a mut self, stream: &'a mut Self::Stream) -> Self::Io<'a>;

    /// Sends at most [`BANNER_BYTES`](crate::capacity::BANNER_BYTES) to a client that has just come. Never waits: a fresh
    /// connection has room for it, and what finds none is lost.
    fn tell(&mut self, stream: &Self::Stream, bytes: &[u8]) -> Result<(), Errno>;

    /// Closes so that what was written reaches the client: unread input must not turn the end into a reset.
    /// A stream that was [opened](Backend::open) ends here, whatever became of its client: the watch on it must end too.
    fn close(&mut self, stream: Self::Stream);

    /// Starts a server. What goes wrong in the child afterwards comes with its
    /// [`Ended`](crate::engine::Event::Ended).
    fn spawn(&mut self, spawn: Spawn<'_, Self::Listener, Self::Stream>) -> Result<Pid, Errno>;

    /// Tells a server, and what it started in its process group, to end.
    fn end(&mut self, pid: Pid, how: End);

    /// The 1-minute load average in hundredths, or `None` where there is none.
    fn load(&mut self) -> Option<u32>;

    /// Writes down what happened. Never waits.
    fn record(&mut self, record: &Record<'_>);
}
