//! Why a file gives no audio.

use super::frames::percents_apart;

/// Why a file gives no audio. `Display` is the reason that tables show.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file can't be read at all, or not to its end.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// Not an audio file of a known kind, or one without an audio track.
    #[error("is not audio of a known format ({0})")]
    NotAudio(String),
    /// Audio, but of a codec that is not built in.
    #[error("has a codec that cannot be decoded ({0})")]
    Unsupported(String),
    /// The audio stops decoding.
    #[error("does not decode: {0}")]
    Broken(String),
    /// Too much of it does not decode.
    #[error("{}", too_many_errors(*share, *max_error_share))]
    Errors {
        /// Share of frames that do not decode.
        share: f64,
        /// The share allowed.
        max_error_share: f64,
    },
    /// Longer than the configured limit.
    #[error("is longer than the {limit_s} s allowed")]
    TooLong {
        /// The limit in seconds.
        limit_s: f64,
    },
    /// Took more time than allowed.
    #[error("took longer than the {limit_s} s allowed")]
    TooSlow {
        /// The limit in seconds.
        limit_s: f64,
    },
    /// The decoder, or the code after it, panicked.
    #[error("the decoder panicked ({0})")]
    Panicked(String),
    /// Decodes to less than one column of features takes.
    #[error(
        "holds {duration_s:.3} s of audio, but a column of features takes {needed_s:.3} s ([features] pool and hop_length)"
    )]
    TooShort {
        /// Decoded length in seconds.
        duration_s: f64,
        /// Least length in seconds.
        needed_s: f64,
    },
    /// Decodes to nothing.
    #[error("holds no audio")]
    Empty,
}

/// Returns the message of [`DecodeError::Errors`].
fn too_many_errors(share: f64, max_error_share: f64) -> String {
    let [share, allowed] = percents_apart(share, max_error_share);
    format!("{share} of the frames do not decode (max_error_share is {allowed})")
}

impl DecodeError {
    /// Returns whether a file may be usable with other settings: limits, or those of the transform.
    #[must_use]
    pub fn depends_on_settings(&self) -> bool {
        matches!(self, Self::Errors { .. } | Self::TooLong { .. } | Self::TooShort { .. })
    }
}
