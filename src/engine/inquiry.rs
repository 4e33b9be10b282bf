//! Questions to ident servers (RFC 1413): each a connection of its own, with a deadline, holding up nobody.

use core::net::{IpAddr, SocketAddr};

use embedded_io::{Read as _, Write as _};
use heapless::Vec;

use super::admission::{Identity, WaitingId};
use super::{Engine, ServiceIndex};
use crate::addr::{Peer, Prefix};
use crate::backend::{Backend, IdentId, StreamId};
use crate::builtin::Step;
use crate::capacity::IDENTS;
use crate::errno::Errno;
use crate::ident::{self, REPLY_BYTES};
use crate::record::Fact;
use crate::time::{Instant, Now};

/// How long an ident server may take if no rule says otherwise, in milliseconds. libwrap gave it 10 seconds and xinetd 30,
/// in which nobody else was served.
const IDENT_MS: u64 = 5000;
/// Places of one address, or of one IPv6 /64, among [`IDENTS`].
const IDENTS_EACH: usize = if IDENTS < 4 { 1 } else { IDENTS / 4 };
/// The most a rule may say.
const LONGEST_MS: u64 = 30_000;

/// What an answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Somebody waits for it.
    Guest(WaitingId),
    /// The log of this service.
    Record(ServiceIndex),
}

pub(super) struct Inquiry<S> {
    pub stream: S,
    /// Whose machine is asked.
    holder: Prefix,
    /// The ports of the connection that is asked about.
    client: u16,
    server: u16,
    is_asked: bool,
    reply: Vec<u8, REPLY_BYTES>,
    pub deadline: Instant,
    pub purpose: Purpose,
}

impl<B: Backend> Engine<B> {
    /// Begins to ask the client's machine whose connection this is. Why not, if not: xinetd's words of a NOID record.
    pub(super) fn ask_user(
        &mut self,
        peer: Peer,
        local: Option<(IpAddr, u16)>,
        seconds: Option<u32>,
        purpose: Purpose,
        now: Now,
        b: &mut B,
    ) -> Result<(), &'static str> {
        let (Peer::Ip { address, port: client }, Some((local, server))) = (peer, local) else {
            return Err("no server");
        };
        // A machine whose ident server hangs holds its own share of places.
        let own = self.idents.iter().filter(|(_, inquiry)| inquiry.holder == Prefix::holder(address)).count();
        if own >= IDENTS_EACH {
            return Err("system error");
        }
        if self.idents.is_full() && !(matches!(purpose, Purpose::Guest(_)) && self.drop_record(b)) {
            return Err("system error");
        }
        let to = SocketAddr::new(address, ident::PORT);
        let stream = b.connect(Some(local), to).map_err(|errno| match errno {
            Errno::CONNREFUSED | Errno::HOSTUNREACH => "no server",
            _ => "system error",
        })?;
        let ms = seconds.map_or(IDENT_MS, |seconds| (u64::from(seconds) * 1000).min(LONGEST_MS));
        let inquiry = Inquiry {
            stream,
            holder: Prefix::holder(address),
            client,
            server,
            is_asked: false,
            reply: Vec::new(),
            deadline: now.mono.plus_ms(ms),
            purpose,
        };
        let Ok(id) = self.idents.insert(inquiry) else { return Err("system error") };
        self.timers_changed = true;
        let Some(inquiry) = self.idents.get(id) else { return Err("system error") };
        if b.open(StreamId::Ident(id), &inquiry.stream, Step::Write).is_err() {
            self.idents.remove(id);
            return Err("system error");
        }
        Ok(())
    }

    /// Makes room for a question that somebody waits for: the oldest of those that only a log waits for is given up. Else
    /// clients of a service that logs users could keep those of another out, with ident servers that hang.
    fn drop_record(&mut self, b: &mut B) -> bool {
        let records = self.idents.iter().filter(|(_, inquiry)| matches!(inquiry.purpose, Purpose::Record(_)));
        let Some((id, _)) = records.min_by_key(|(_, inquiry)| inquiry.deadline) else { return false };
        self.timers_changed = true;
        if let Some(inquiry) = self.idents.remove(id) {
            b.close(inquiry.stream);
        }
        true
    }

    /// An ident server is there, said something, or is gone.
    pub(super) fn inquire(&mut self, id: IdentId, now: Now, b: &mut B) {
        let Some(inquiry) = self.idents.get_mut(id) else { return };
        if !inquiry.is_asked {
            match b.connected(&inquiry.stream) {
                Ok(()) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.inquired(id, Identity::Unknown("no server"), now, b),
            }
            // A fresh connection has room for so little.
            let query = ident::query(inquiry.client, inquiry.server);
            if b.io(&mut inquiry.stream).write(query.as_bytes()) != Ok(query.len()) {
                return self.inquired(id, Identity::Unknown("no server"), now, b);
            }
            inquiry.is_asked = true;
            b.wait_for(StreamId::Ident(id), &inquiry.stream, Step::Read);
        }
        let mut buf = [0; REPLY_BYTES];
        let bad = Identity::Unknown("bad response");
        let user = match b.io(&mut inquiry.stream).read(&mut buf) {
            Err(Errno::AGAIN) => return,
            Err(_) => Identity::Unknown("error while receiving response"),
            Ok(0) => bad,
            Ok(len) => {
                let bytes = buf.get(..len).unwrap_or(&[]);
                let fits = inquiry.reply.extend_from_slice(bytes).is_ok();
                match ident::line(&inquiry.reply) {
                    None if fits => return,
                    None => bad,
                    Some(line) => ident::user_text(line, inquiry.client, inquiry.server)
                        .and_then(|text| Vec::from_slice(text).ok())
                        .map_or(bad, Identity::Known),
                }
            }
        };
        self.inquired(id, user, now, b);
    }

    /// A question has come to its end.
    fn inquired(&mut self, id: IdentId, user: Identity, now: Now, b: &mut B) {
        let Some(inquiry) = self.idents.remove(id) else { return };
        self.timers_changed = true;
        b.close(inquiry.stream);
        match inquiry.purpose {
            Purpose::Guest(id) => self.user_found(id, user, now, b),
            Purpose::Record(service) => {
                if let Identity::Known(text) = &user {
                    self.note(service, Fact::UserId { text }, b);
                }
            }
        }
    }

    /// Gives up questions whose time is over.
    pub(super) fn end_overdue_inquiries(&mut self, now: Now, b: &mut B) {
        while let Some(id) = self.idents.find(|inquiry| inquiry.deadline <= now.mono) {
            self.inquired(id, Identity::Unknown("timeout"), now, b);
        }
    }
}
