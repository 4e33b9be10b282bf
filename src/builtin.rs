//! The services usherd answers itself, written once for every kind of stream.
//!
//! RFC 862 (echo), 863 (discard), 864 (chargen), 867 (daytime), 868 (time). The bytes are those of the program whose
//! file configured the service ([`Dialect`]): inetd and xinetd disagree about chargen and daytime, and scripts compare.
//!
//! A stream is anything with embedded-io's traits: an epoll socket, a smoltcp socket, the simulator's, a UART.

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use heapless::{String, Vec};

use crate::capacity::TURN_BYTES;
use crate::errno::Errno;
use crate::service::{Builtin, Dialect};
use crate::tcpmux;
use crate::time::Now;
use crate::zone::Zone;

/// What [`Stream::forward`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forward {
    /// That many bytes went from input to output.
    Moved(usize),
    /// Nothing waits at the input.
    Empty,
    /// The output takes nothing more now.
    Blocked,
    /// The input has ended, and everything it held has gone out.
    End,
}

/// A byte stream a built-in service is served over. Nothing here blocks: `read` and `write` answer [`Errno::AGAIN`]
/// where embedded-io's would wait; callers ask `read_ready` and `write_ready` first.
pub trait Stream: Read + Write + ReadReady + WriteReady + ErrorType<Error = Errno> {
    /// Moves what waits at the input to the output, at most once through `scratch`. What the output does not take
    /// stays with the stream (in the kernel, as far as possible), never in the session: that is all echo needs, and
    /// only the stream knows how to leave bytes unread.
    fn forward(&mut self, scratch: &mut [u8]) -> Result<Forward, Errno>;
}

/// Services of the firmware's own for TCP clients, named in its configuration like the built-in ones, with the rules and
/// limits that it gives them.
pub trait Own {
    /// What is remembered of one client.
    type Client: Default;

    /// Goes on with a client of the nth service, as far as the stream allows: first when he has just come. Never waits:
    /// what is returned is what it wants to be called for next. An error closes the connection.
    fn talk<S: Stream>(
        &mut self,
        service: u8,
        client: &mut Self::Client,
        io: &mut S,
        now: Now,
    ) -> Result<Step, Errno>;
}

/// None of its own.
pub struct NoOwn;

impl Own for NoOwn {
    type Client = ();

    fn talk<S: Stream>(&mut self, _: u8, _: &mut (), _: &mut S, _: Now) -> Result<Step, Errno> {
        Ok(Step::Close)
    }
}

/// What a session waits for next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Input.
    Read,
    /// Room for output; input is left alone.
    Write,
    /// Either.
    Both,
    /// The session is over.
    Close,
}

/// One client of a built-in stream service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Talk {
    Echo,
    Discard,
    Chargen(Chargen),
    /// tcpmux: reads the name of a service. The engine goes on from there.
    Mux(tcpmux::Line),
    /// The firmware's: the backend goes on with it ([`Backend::talk`](crate::backend::Backend::talk)).
    Own(u8),
    /// Says one thing and ends: daytime, time.
    Say {
        what: Saying,
        sent: u8,
    },
}

/// What daytime or time says: 26 bytes, or a few more with a long zone abbreviation; 4 bytes.
pub type Saying = Vec<u8, 48>;

impl Talk {
    /// The session of a new client; `None` if the service tells the time and the time is not known.
    pub fn new(builtin: Builtin, dialect: Dialect, now: Now, zone: &Zone) -> Option<Talk> {
        Some(match builtin {
            Builtin::Echo => Talk::Echo,
            Builtin::Discard => Talk::Discard,
            Builtin::Chargen => Talk::Chargen(Chargen::new(dialect)),
            Builtin::Daytime | Builtin::Time => {
                Talk::Say { what: tell(builtin, dialect, now, zone)?, sent: 0 }
            }
        })
    }

    /// What a new session waits for first.
    pub const fn first(&self) -> Step {
        match self {
            Talk::Echo | Talk::Discard | Talk::Mux(_) => Step::Read,
            Talk::Chargen(_) | Talk::Say { .. } | Talk::Own(_) => Step::Write,
        }
    }

    /// Goes on as far as the stream allows, at most [`TURN_BYTES`] bytes, and adds what it moved to `moved`.
    pub fn go_on<S: Stream>(
        &mut self,
        io: &mut S,
        scratch: &mut [u8],
        moved: &mut u64,
    ) -> Result<Step, Errno> {
        let mut budget = TURN_BYTES;
        loop {
            let n = match self {
                Talk::Echo => match io.forward(scratch)? {
                    Forward::Moved(n) => {
                        // Less than asked for: the input is empty, and finding out costs a call.
                        if n < scratch.len() {
                            *moved += n as u64;
                            return Ok(if io.write_ready()? { Step::Read } else { Step::Write });
                        }
                        n
                    }
                    Forward::Empty => return Ok(Step::Read),
                    Forward::Blocked => return Ok(Step::Write),
                    Forward::End => return Ok(Step::Close),
                },
                Talk::Discard => {
                    if !io.read_ready()? {
                        return Ok(Step::Read);
                    }
                    match io.read(scratch) {
                        Ok(0) => return Ok(Step::Close),
                        Ok(n) => n,
                        Err(Errno::AGAIN) => return Ok(Step::Read),
                        Err(errno) => return Err(errno),
                    }
                }
                Talk::Chargen(chargen) => {
                    if !io.write_ready()? {
                        return Ok(Step::Write);
                    }
                    let mut ahead = chargen.clone();
                    let filled = ahead.fill(scratch);
                    match io.write(scratch.get(..filled).unwrap_or(&[])) {
                        Ok(n) => {
                            chargen.advance(n);
                            n
                        }
                        Err(Errno::AGAIN) => return Ok(Step::Write),
                        Err(errno) => return Err(errno),
                    }
                }
                Talk::Mux(line) => {
                    return Ok(match line.read(io)? {
                        tcpmux::Progress::More => Step::Read,
                        tcpmux::Progress::Whole | tcpmux::Progress::Bad => Step::Close,
                    });
                }
                Talk::Own(_) => return Ok(Step::Close),
                Talk::Say { what, sent } => {
                    let rest = what.get(usize::from(*sent)..).unwrap_or(&[]);
                    if rest.is_empty() {
                        return Ok(Step::Close);
                    }
                    match io.write(rest) {
                        Ok(n) => {
                            *sent += n as u8;
                            n
                        }
                        Err(Errno::AGAIN) => return Ok(Step::Write),
                        Err(errno) => return Err(errno),
                    }
                }
            };
            *moved += n as u64;
            budget = budget.saturating_sub(n);
            if budget == 0 {
                return Ok(self.first());
            }
        }
    }
}

/// What daytime and time answer; `None` while the time of day is not known: neither invents one.
fn tell(builtin: Builtin, dialect: Dialect, now: Now, zone: &Zone) -> Option<Saying> {
    let unix = now.unix?;
    if builtin == Builtin::Time {
        let mut bytes = Saying::new();
        bytes.extend_from_slice(&rfc868(unix)).ok()?;
        return Some(bytes);
    }
    let local = zone.at(unix);
    let mut text: String<48> = String::new();
    match dialect {
        Dialect::Inetd => local.write_ctime(&mut text),
        Dialect::Xinetd => local.write_xinetd_daytime(&mut text),
    }
    .ok()?;
    text.push_str("\r\n").ok()?;
    Some(text.into_bytes())
}

/// RFC 868: seconds since 1900-01-01 00:00 UTC, 32 bits, most significant first. They wrap on 2036-02-07 06:28:16 UTC
/// and go on from 0; a client tells the era by its own clock, as with NTP (RFC 5905 section 6).
pub fn rfc868(unix: i64) -> [u8; 4] {
    const SECONDS_1900_TO_1970: i64 = 2_208_988_800;
    (unix.wrapping_add(SECONDS_1900_TO_1970) as u32).to_be_bytes()
}

/// Answers one datagram: copies the answer into `out` and returns its length; `None` for no answer. `chargen` is the
/// service's place in the endless text, which goes on from datagram to datagram.
pub fn answer(
    builtin: Builtin,
    dialect: Dialect,
    request: &[u8],
    out: &mut [u8],
    now: Now,
    zone: &Zone,
    chargen: &mut Chargen,
) -> Option<usize> {
    match builtin {
        Builtin::Echo => {
            out.get_mut(..request.len())?.copy_from_slice(request);
            Some(request.len())
        }
        Builtin::Discard => None,
        Builtin::Chargen => {
            // xinetd fills 1024 bytes and ends them in CR LF; the inetds send one line.
            let len = match dialect {
                Dialect::Xinetd => 1024,
                Dialect::Inetd => LINE,
            };
            let out = out.get_mut(..len)?;
            chargen.fill_datagram(out);
            Some(len)
        }
        Builtin::Daytime | Builtin::Time => {
            let what = tell(builtin, dialect, now, zone)?;
            out.get_mut(..what.len())?.copy_from_slice(&what);
            Some(what.len())
        }
    }
}

/// Bytes of a chargen line: 72 characters, CR, LF.
const LINE: usize = 74;

/// The place in chargen's endless text.
///
/// inetd: the 95 printable characters from blank on, each line starting one further (RFC 864's picture).
/// xinetd: 93 characters from `!` to `}`; each line starts one further, and after 95 lines the start is `!` again
/// (observed: lines 93 and 95 both equal line 0).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chargen {
    first: u8,
    characters: u8,
    /// Lines before the start returns to the first character.
    period: u8,
    line: u8,
    column: u8,
}

impl Chargen {
    pub const fn new(dialect: Dialect) -> Chargen {
        match dialect {
            Dialect::Inetd => Chargen { first: b' ', characters: 95, period: 95, line: 0, column: 0 },
            Dialect::Xinetd => Chargen { first: b'!', characters: 93, period: 95, line: 0, column: 0 },
        }
    }

    fn line(&self) -> [u8; LINE] {
        let mut text = [0; LINE];
        let mut c = self.line % self.characters;
        for byte in &mut text[..LINE - 2] {
            *byte = self.first + c;
            c = if c + 1 == self.characters { 0 } else { c + 1 };
        }
        text[LINE - 2] = b'\r';
        text[LINE - 1] = b'\n';
        text
    }

    /// Fills `out` from here on and moves behind it; returns the bytes written, all of `out`.
    fn fill(&mut self, out: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..)
            && !rest.is_empty()
        {
            let line = self.line();
            let piece = line.get(usize::from(self.column)..).unwrap_or(&[]);
            let n = piece.len().min(rest.len());
            for (to, from) in rest.iter_mut().zip(piece) {
                *to = *from;
            }
            filled += n;
            self.advance(n);
        }
        filled
    }

    /// Whole lines, the last one shortened and ended in CR LF at the end of `out`.
    fn fill_datagram(&mut self, out: &mut [u8]) {
        self.column = 0;
        for chunk in out.chunks_mut(LINE) {
            let line = self.line();
            let text = chunk.len().saturating_sub(2);
            for (index, byte) in chunk.iter_mut().enumerate() {
                *byte = match index.checked_sub(text) {
                    None => line.get(index).copied().unwrap_or(b' '),
                    Some(0) => b'\r',
                    Some(_) => b'\n',
                };
            }
            self.advance(LINE);
        }
    }

    /// Moves `bytes` further in the text.
    fn advance(&mut self, bytes: usize) {
        let column = usize::from(self.column) + bytes;
        let lines = column / LINE;
        self.column = (column % LINE) as u8;
        self.line = ((usize::from(self.line) + lines) % usize::from(self.period)) as u8;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn text(dialect: Dialect, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        Chargen::new(dialect).fill(&mut out);
        out
    }

    #[test]
    fn chargen_of_xinetd_skips_blank_and_tilde_and_starts_again_after_95_lines() {
        let out = text(Dialect::Xinetd, 97 * LINE);
        assert_eq!(out[..6], [0x21, 0x22, 0x23, 0x24, 0x25, 0x26]);
        assert_eq!(out[70..76], [0x67, 0x68, 0x0d, 0x0a, 0x22, 0x23]);
        assert!(!out.contains(&b'~') && !out.contains(&b' '));
        assert_eq!(out[93 * LINE..94 * LINE], out[..LINE]);
        assert_eq!(out[95 * LINE..96 * LINE], out[..LINE]);
    }

    #[test]
    fn chargen_of_inetd_is_all_of_printable_ascii() {
        let out = text(Dialect::Inetd, 96 * LINE);
        assert_eq!(out[0], b' ');
        assert_eq!(out[LINE], b'!');
        assert!(out.contains(&b'~'));
        assert_eq!(out[95 * LINE..], out[..LINE]);
    }

    /// Property: however the text is cut into writes, the bytes are the same.
    #[test]
    fn chargen_goes_on_where_a_short_write_ended() {
        for dialect in [Dialect::Inetd, Dialect::Xinetd] {
            let whole = text(dialect, 20_000);
            let mut chargen = Chargen::new(dialect);
            let mut pieces = Vec::new();
            let mut step = 1;
            while pieces.len() < whole.len() {
                let mut scratch = [0; 997];
                let n = chargen.clone().fill(&mut scratch).min(step);
                pieces.extend_from_slice(&scratch[..n]);
                chargen.advance(n);
                step = step * 7 % 991 + 1;
            }
            assert!(pieces[..whole.len()] == whole[..]);
        }
    }

    #[test]
    fn a_chargen_datagram_of_xinetd_has_13_lines_and_one_of_60_characters() {
        let mut out = [0; 2048];
        let mut chargen = Chargen::new(Dialect::Xinetd);
        let now = Now::default();
        let n = answer(Builtin::Chargen, Dialect::Xinetd, b"", &mut out, now, &Zone::UTC, &mut chargen);
        assert_eq!(n, Some(1024));
        assert_eq!(out[13 * LINE..1022].len(), 60);
        assert_eq!(&out[1022..1024], b"\r\n");
        assert_eq!(chargen.line, 14);
    }

    #[test]
    fn time_is_rfc868_and_wraps_in_2036() {
        // The RFC's own example: 2,208,988,800 corresponds to 00:00 1 Jan 1970 GMT.
        assert_eq!(rfc868(0), 2_208_988_800u32.to_be_bytes());
        assert_eq!(rfc868(2_085_978_495), [0xff; 4]);
        assert_eq!(rfc868(2_085_978_496), [0; 4]);
    }

    #[test]
    fn who_does_not_know_the_time_does_not_tell_it() {
        let unknown = Now::default();
        assert_eq!(Talk::new(Builtin::Daytime, Dialect::Inetd, unknown, &Zone::UTC), None);
        assert_eq!(Talk::new(Builtin::Time, Dialect::Inetd, unknown, &Zone::UTC), None);
        let known = Now { unix: Some(1_795_346_114), ..unknown };
        let Some(Talk::Say { what, .. }) = Talk::new(Builtin::Daytime, Dialect::Inetd, known, &Zone::UTC)
        else {
            panic!("daytime says something");
        };
        assert_eq!(what.as_slice(), b"Sun Nov 22 11:15:14 2026\r\n");
    }
}
