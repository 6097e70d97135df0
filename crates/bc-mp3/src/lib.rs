//! MP3: from a file's bytes to samples.
//!
//! **In**: any [`std::io::Read`]. **Out**: its frames ([`Reader`], which skips tags, pictures and junk and finds
//! the next frame after damage), of each frame its samples ([`Decoder`]) or a [`FrameError`] with the reason why it does not decode, and
//! the signal without the samples that an encoder added at its ends ([`Trim`]). All of Layer III is decoded: MPEG-1, MPEG-2
//! and MPEG-2.5, all windows, intensity stereo, free format.
//!
//! This is a separate crate for two reasons. *Speed*: features need one channel and frequencies far below a file's highest,
//! while a decoder for playback computes all channels of all 32 subbands. Here channels are downmixed before the
//! costly transforms (which are linear; the side channel of mid/side stereo is not even read), and for half the rate the upper
//! 16 subbands are skipped from the Huffman code on ([`Output`]). *Trust*: a file is decoded to its end, whatever
//! its header says, and frames that do not decode are counted and never concealed.
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

/// Up to this share of the full rate the signal of half the rate ([`Output::HalfMono`]) is accurate: the 16th subband,
/// the last one, overlaps the 17th.
pub const HALF_RATE_PASSBAND: f64 = 15.0 / 64.0;

/// Why a frame does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The frame's main data begin in frames that are missing: the stream was cut or joined before it.
    Reservoir,
    /// The frame is invalid, for this reason.
    Invalid(&'static str),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reservoir => f.write_str("its main data begins in frames that are missing"),
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for FrameError {}
