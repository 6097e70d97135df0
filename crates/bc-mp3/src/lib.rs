//! MP3: from a file's bytes to samples.
//!
//! **In**: any [`std::io::Read`]. **Out**: its frames ([`Reader`], which skips tags, pictures and junk and finds
//! the next frame after damage), of each frame its samples ([`Decoder`]) or a [`Fault`] that reports what is wrong with it, and
//! the signal without what an encoder added at its ends ([`Trim`]). All of Layer III is decoded: MPEG-1, MPEG-2
//! and MPEG-2.5, all windows, intensity stereo, free format.
//!
//! A crate of its own for two reasons. *Speed*: features want one channel and frequencies far below a file's highest,
//! while a decoder for listeners computes all channels of all 32 subbands. Here channels are added before the
//! costly transforms (which are linear; of mid/side stereo the side is not even read), and for half the rate the upper
//! 16 subbands are left out from the Huffman code on ([`Output`]). *Trust*: a file is decoded as long as it is, whatever
//! its header says, and what does not decode is counted and never made up.
//!
//! Names are those of ISO/IEC 11172-3 (MPEG-1) and 13818-3 (MPEG-2).

mod band_tables;
mod bands;
mod bits;
mod codes;
#[cfg(test)]
mod coding_tools;
mod decoder;
mod gapless;
mod header;
mod huffman;
mod hybrid;
mod info;
mod reader;
mod requantize;
mod reservoir;
mod scalefactors;
mod side_info;
mod stereo;
mod synthesis;
mod tags;

pub use decoder::{Decoder, Output};
pub use gapless::Trim;
pub use header::{Header, Mode, Version};
pub use info::Info;
pub use reader::{Frame, Reader};

/// Up to this share of the full rate the signal of half the rate ([`Output::HalfMono`]) is right: the 16th subband,
/// the last, shares its slopes with the 17th.
pub const HALF_IS_RIGHT_TO: f64 = 15.0 / 64.0;

/// Why a frame does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its main data begins in frames that are not there: the stream was cut or joined before it.
    Reservoir,
    /// What it says cannot be, in words.
    Invalid(&'static str),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reservoir => f.write_str("its main data begins in frames that are not there"),
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fault {}
