//! One walk over a value, for both its readers: text, and frames.
//!
//! A frame of [defmt](https://defmt.ferrous-systems.com) has the numbers of format strings and what is put into them; the
//! strings stay in the file that was built, for whoever decodes the frame. A decoded frame must say what the text says, so
//! both come from one body: `told` makes `Display` of it and, with the feature `defmt`, `defmt::Format`. In the body
//! `tell` takes the place of `write`. Format strings are those that both understand: `{}` and `{:02x}`, no names in them.

/// Implements `Display` and `defmt::Format`: `told!(Type, |value, f| body)`, where the body says what there is to say by
/// `tell!(f, "...", ...)` and `spell!`, and comes to a `fmt::Result`.
macro_rules! told {
    ($type:ty, |$value:ident, $f:ident| $body:expr) => {
        impl core::fmt::Display for $type {
            #[allow(unused_imports, reason = "few bodies need both")]
            fn fmt(&self, $f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                use core::write as tell;

                use crate::tell::spell_text as spell;
                let $value = self;
                $body
            }
        }

        #[cfg(feature = "defmt")]
        impl defmt::Format for $type {
            #[allow(unused_imports, reason = "few bodies need both")]
            fn format(&self, $f: defmt::Formatter<'_>) {
                use crate::tell::{spell_frame as spell, tell_frame as tell};
                let $value = self;
                let walk = || -> core::fmt::Result { $body };
                // A logger takes all that it is given.
                let _ = walk();
            }
        }
    };
}
pub(crate) use told;

/// `spell!(f, match value { A => "a", B => "b" })`: one of several texts. Its last argument, if there is one, is what to do
/// with values that are not among them.
macro_rules! spell_text {
    ($f:expr, match $value:ident { $($pattern:pat => $text:tt $(,)?)* }) => {
        $f.write_str(match $value { $($pattern => $text,)* })
    };
    ($f:expr, match $value:ident { $($pattern:pat => $text:tt $(,)?)* }, $other:expr) => {
        $f.write_str(match $value { $($pattern => $text,)* _ => $other })
    };
}
pub(crate) use spell_text;

#[cfg(feature = "defmt")]
macro_rules! tell_frame {
    ($f:expr, $($format:tt)*) => {{
        defmt::write!($f, $($format)*);
        core::fmt::Result::Ok(())
    }};
}
#[cfg(feature = "defmt")]
pub(crate) use tell_frame;

#[cfg(feature = "defmt")]
macro_rules! spell_frame {
    ($f:expr, match $value:ident { $($pattern:pat => $text:tt $(,)?)* } $(, $other:expr)?) => {{
        match $value {
            $($pattern => crate::tell::spell_frame!(@text $f, $text),)*
            $(_ => $other,)?
        }
        core::fmt::Result::Ok(())
    }};
    // A long text is formatted as a block.
    (@text $f:expr, { $text:literal }) => { defmt::write!($f, $text) };
    (@text $f:expr, $text:literal) => { defmt::write!($f, $text) };
}
#[cfg(feature = "defmt")]
pub(crate) use spell_frame;
