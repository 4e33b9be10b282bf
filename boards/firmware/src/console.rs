//! A service of the firmware's own: a small command line. `usherd.conf` says who may come to it, and how many.

use core::fmt::Write as _;

use heapless::String;
use usherd::builtin::{Own, Step, Stream};
use usherd::errno::Errno;
use usherd::time::Now;

/// Bytes of a command; a longer one is none.
const COMMAND: usize = 16;

pub struct Console;

/// One client.
#[derive(Default)]
pub struct Line {
    command: String<COMMAND>,
    is_too_long: bool,
    /// What is still to be said to him.
    answer: String<64>,
    is_greeted: bool,
    is_over: bool,
}

impl Line {
    fn say(&mut self, text: core::fmt::Arguments<'_>) {
        // All that is said fits.
        let _ = self.answer.write_fmt(text);
    }

    fn obey(&mut self, now: Now) {
        let command = core::mem::take(&mut self.command);
        match command.trim() {
            _ if core::mem::take(&mut self.is_too_long) => self.say(format_args!("too long\r\n")),
            "" => {}
            "uptime" => self.say(format_args!("{} s\r\n", now.mono.0 / 1000)),
            "time" => match now.unix {
                Some(unix) => self.say(format_args!("{unix}\r\n")),
                None => self.say(format_args!("not known\r\n")),
            },
            "quit" => self.is_over = true,
            _ => self.say(format_args!("there are uptime, time and quit\r\n")),
        }
        if !self.is_over {
            self.say(format_args!("> "));
        }
    }
}

impl Own for Console {
    type Client = Line;

    fn talk<S: Stream>(&mut self, _: u8, client: &mut Line, io: &mut S, now: Now) -> Result<Step, Errno> {
        if !core::mem::replace(&mut client.is_greeted, true) {
            client.say(format_args!("> "));
        }
        loop {
            while !client.answer.is_empty() {
                if !io.write_ready()? {
                    return Ok(Step::Write);
                }
                let n = io.write(client.answer.as_bytes())?;
                let rest = client.answer.get(n..).and_then(|rest| String::try_from(rest).ok());
                client.answer = rest.unwrap_or_default();
            }
            if client.is_over {
                return Ok(Step::Close);
            }
            // One byte at a time: an answer has gone out before the next command is read.
            let mut byte = [0];
            match io.read(&mut byte) {
                Ok(0) => return Ok(Step::Close),
                Ok(_) if byte == *b"\n" => client.obey(now),
                Ok(_) => client.is_too_long |= client.command.push(char::from(byte[0])).is_err(),
                Err(Errno::AGAIN) => return Ok(Step::Read),
                Err(errno) => return Err(errno),
            }
        }
    }
}
