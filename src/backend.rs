//! What the engine asks of the system below it: the actions.
//!
//! Actions leave the engine through this trait, not through a queue. A queue would need a capacity to be argued for
//! every input (a reload of 128 services is one input), and a failed action's errno would come back as an event for a
//! state that has moved on; a call gives it back in the same step. Transcripts for tests come from an implementation
//! that writes down its calls (`backend/sim.rs`).

use crate::addr::Peer;
use crate::builtin::{Step, Stream};
use crate::errno::Errno;
use crate::record::Record;
use crate::service::Service;
use crate::slots::Handle;
use crate::table::Table;

#[cfg(feature = "linux")]
pub mod linux;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

/// Names a service to the backend: its place in the table, and the table's generation, so that readiness of a
/// listener from before a reload is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceId {
    pub index: u16,
    pub generation: u16,
}

/// Names a client of a built-in stream service.
pub type SessionId = Handle;

/// Names a running server.
pub type ServerId = Handle;

/// A process, as the system numbers it.
pub type Pid = u32;

/// What a server is given on descriptors 0 to 2.
pub enum Given<'a, L, S> {
    /// One client's connection (nowait).
    Connection(&'a S),
    /// The service's own socket (wait).
    Listener(&'a L),
}

/// A server to be started.
pub struct Spawn<'a, L, S> {
    pub table: &'a Table,
    pub service: &'a Service,
    /// The service's own socket, also where the server gets a connection: what else belongs to the service hangs on it.
    pub listener: &'a L,
    pub given: Given<'a, L, S>,
    pub peer: Peer,
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
    /// A service's bound socket. Dropping it closes it.
    type Listener;
    /// A connection. Dropping it closes it.
    type Stream;
    /// A connection in the hands of a built-in service.
    type Io<'a>: Stream
    where
        Self: 'a;

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

    /// Watches a new client of a built-in service. Fails where the system can watch no more.
    fn open(&mut self, id: SessionId, stream: &Self::Stream, wait_for: Step) -> Result<(), Errno>;

    /// Changes what a client is watched for. [`Step::Close`] is not asked for: dropping the stream ends it.
    fn wait_for(&mut self, id: SessionId, stream: &Self::Stream, step: Step);

    /// The stream as a built-in service sees it. Readiness starts from what the system reported last.
    fn io<'a>(&'a mut self, stream: &'a mut Self::Stream) -> Self::Io<'a>;

    /// Sends a file, at most [`BANNER_BYTES`](crate::capacity::BANNER_BYTES) of it, to a client that has just come; `path`
    /// ends in a NUL byte. Never waits: a fresh connection has room for it.
    fn banner(&mut self, stream: &Self::Stream, path: &[u8]) -> Result<(), Errno>;

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
