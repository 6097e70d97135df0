//! Types that the decoders of all kinds of files share: options, headers, and the result of one step.

use std::sync::LazyLock;

use bc_formats::config::Mp3Decoder;
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::errors::Error;

use super::error::DecodeError;
use crate::deadline::Deadline;
use crate::need::Need;

/// The codecs that symphonia decodes, and Opus.
pub(super) static CODECS: LazyLock<CodecRegistry> = LazyLock::new(|| {
    let mut registry = CodecRegistry::new();
    symphonia::default::register_enabled_codecs(&mut registry);
    registry.register_audio_decoder::<bc_opus::OpusDecoder>();
    registry
});

/// The fields of a file's headers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Header {
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Short name of the codec, such as `mp3`.
    pub codec: String,
    /// Length in seconds, if the file declares it. Ogg declares it by the positions of its pages, which count only where pages are
    /// lost.
    pub declared_s: Option<f64>,
    /// Whether the mark of the end is missing (Ogg): the file may be cut off, or recorded from a live stream. Known at the end.
    pub end_is_missing: bool,
    /// Share of the file's bytes behind the end of the audio that it declares (WAV, AIFF, FLAC, Ogg). Known at the end.
    pub unused_share: f64,
}

impl Header {
    /// Returns the header of a file before its first frame, which tells rate and channels.
    pub(super) fn of_codec(codec: String, declared_s: Option<f64>) -> Self {
        Self { codec, declared_s, ..Self::default() }
    }
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// The part of the signal that is needed; `None` for all of it. Decoding only a part may be faster and give another
    /// [`super::Decoder::block_rate`].
    pub need: Option<Need>,
    /// Which decoder decodes MP3.
    pub mp3: Mp3Decoder,
}

/// The result of one step through a file: no frame, one frame, or at the end the samples that were held back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Piece {
    /// Rate in Hz; 0 if there are no samples.
    pub(super) rate: u32,
    pub(super) channels: u32,
    /// Number of frames that decoded.
    pub(super) decoded: u32,
    /// Number of frames that did not decode.
    pub(super) failed: u32,
    /// Whether this is the last piece.
    pub(super) last: bool,
}

/// Converts symphonia's error: to an error about the deadline if the time is over, to one about the disk or the network if it
/// failed, and else with `otherwise`.
pub(super) fn reading_error(
    error: Error,
    deadline: Deadline,
    otherwise: fn(String) -> DecodeError,
) -> DecodeError {
    if let Err(late) = deadline.check() {
        return late;
    }
    match error {
        Error::IoError(error) if is_temporary(&error) => DecodeError::Unreadable(error),
        error => otherwise(error.to_string()),
    }
}

/// Returns whether an error comes from the disk or the network. Parsers use other kinds to report missing or wrong bytes.
fn is_temporary(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    error.raw_os_error().is_some()
        || !matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput | Other)
}
