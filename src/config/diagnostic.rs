//! What is wrong with a file: a value with a place, a statement and a cure.
//!
//! Diagnostics are handed out one by one as they are found, all of them, and are never stored or printed here:
//! `usherd -t` writes them to standard error, a running daemon to its log.

use core::fmt;

use crate::tell::told;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Understood, but without effect here, or surely not what was meant.
    Warning,
    /// Keeps its service from starting; in `defaults`, the whole file from being used.
    Error,
}

/// One finding. Displays as `file:line:column: error: what; cure`.
#[derive(Clone, Copy)]
pub struct Diagnostic<'a> {
    pub severity: Severity,
    /// The file's path as it was given or included; empty for the command line.
    pub file: &'a [u8],
    /// 1 for the first line; 0 where the file as a whole is meant.
    pub line: u32,
    /// 1 for the first byte of the line; 0 where the line as a whole is meant.
    pub column: u32,
    /// What is wrong.
    pub what: fmt::Arguments<'a>,
    /// What to write instead, or what follows from it.
    pub cure: fmt::Arguments<'a>,
}

impl fmt::Display for Diagnostic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}", Bytes(self.file))?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        write!(f, ": {severity}: {}", self.what)?;
        // An empty cure writes nothing, so its separator must not be written either.
        match self.cure.as_str() {
            Some("") => Ok(()),
            _ => write!(f, "; {}", self.cure),
        }
    }
}

/// Takes diagnostics as they are found.
pub trait Report {
    fn report(&mut self, diagnostic: &Diagnostic<'_>);
}

impl<F: FnMut(&Diagnostic<'_>)> Report for F {
    fn report(&mut self, diagnostic: &Diagnostic<'_>) {
        self(diagnostic)
    }
}

/// Bytes from a file or a client, displayed as text: printable ASCII and valid UTF-8 as they are, everything
/// else as `\xHH`, so that no log line and no terminal can be forged from outside.
pub struct Bytes<'a>(pub &'a [u8]);

told!(Bytes<'_>, |bytes, f| {
    for chunk in bytes.0.utf8_chunks() {
        // C1 controls are terminal commands as much as C0 ones.
        for part in chunk.valid().split_inclusive(char::is_control) {
            let control = part.chars().next_back().filter(|c| c.is_control());
            let text = part.strip_suffix(char::is_control).unwrap_or(part);
            if !text.is_empty() {
                tell!(f, "{}", text)?;
            }
            if let Some(control) = control {
                tell!(f, "\\x{:02x}", control as u32)?;
            }
        }
        for byte in chunk.invalid() {
            tell!(f, "\\x{:02x}", *byte)?;
        }
    }
    Ok(())
});
