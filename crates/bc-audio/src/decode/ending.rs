//! What symphonia does not report of a container: whether its end or a piece of it is missing, and whether the file goes on
//! where the audio ends. The bytes of the file are examined once more, after its audio was decoded.

mod chunks;
mod flac;
mod ogg;

use std::io::{Seek, SeekFrom};

use symphonia::core::errors::Error;
use symphonia::core::formats::FormatId;
use symphonia::core::formats::well_known::{FORMAT_ID_AIFF, FORMAT_ID_FLAC, FORMAT_ID_OGG, FORMAT_ID_WAVE};

use super::error::DecodeError;
use super::stream::{Header, reading_error};
use crate::deadline::Timed;

/// The container of a file whose end is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// RIFF/WAVE, AIFF: chunks with their lengths.
    Chunks,
    Flac,
    Ogg,
}

impl Kind {
    /// Returns the kind of a container; `None` for one whose end is not examined.
    pub fn of(format: FormatId) -> Option<Self> {
        match format {
            FORMAT_ID_WAVE | FORMAT_ID_AIFF => Some(Self::Chunks),
            FORMAT_ID_FLAC => Some(Self::Flac),
            FORMAT_ID_OGG => Some(Self::Ogg),
            _ => None,
        }
    }
}

/// Examines a file whose audio was decoded, and adds what it finds to the file's header.
///
/// # Errors
/// A file that can no longer be read, a deadline that is over.
pub(super) fn examine(kind: Kind, mut file: Timed, header: &mut Header) -> Result<(), DecodeError> {
    let (length, deadline) = (file.length, file.deadline);
    let unread = |error| reading_error(Error::IoError(error), deadline, DecodeError::Broken);
    file.seek(SeekFrom::Start(0)).map_err(unread)?;
    let unused = match kind {
        Kind::Chunks => chunks::bytes_after_chunks(&mut file, length).map_err(unread)?,
        Kind::Flac => flac::bytes_of_second(&mut file, length).map_err(unread)?,
        Kind::Ogg => {
            let pages = ogg::scan(file, || deadline.check())?;
            header.end_is_missing = pages.end_is_missing;
            if pages.pages_are_lost {
                header.declared_s = Some(header.declared_s.unwrap_or(0.0).max(pages.seconds));
            }
            pages.bytes_after
        }
    };
    header.unused_share = unused as f64 / length.max(1) as f64;
    Ok(())
}
