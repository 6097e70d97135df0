//! Inspects a file without extracting features.

use std::path::Path;

use crate::deadline::{Deadline, guarded};
use crate::decode::{DecodeError, Decoder, Frames, Header, Reading};
use crate::extract::Limits;

/// The result of one pass over a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Rate, channels, codec, and the length that the header declares, if any.
    pub header: Header,
    /// Decoded length in seconds; the declared one after [`headers`].
    pub duration_s: Option<f64>,
    /// Largest magnitude of the mono mix, full scale is 1; `None` after [`headers`].
    pub peak: Option<f32>,
    /// Root mean square of the mono mix; `None` after [`headers`].
    pub rms: Option<f32>,
    /// Frames (packets) that decoded, and those that did not.
    pub frames: Frames,
}

/// Decodes the whole file.
///
/// # Errors
/// No audio, a stream that cannot continue, or audio beyond the limits.
pub fn whole(path: &Path, limits: Limits) -> Result<Inspection, DecodeError> {
    guarded(|| decode_whole(path, limits))
}

fn decode_whole(path: &Path, limits: Limits) -> Result<Inspection, DecodeError> {
    let deadline = Deadline::after(limits.decode_timeout_s);
    let mut decoder = Decoder::open(path, deadline, Reading { need: None, mp3: limits.mp3 })?;
    let mut found = headers_of(&decoder);
    let rate = f64::from(found.header.sample_rate);
    let (mut samples, mut squares, mut peak) = (0u64, 0.0f64, 0.0f32);
    while let Some(block) = decoder.next_block()? {
        samples += block.len() as u64;
        peak = block.iter().fold(peak, |peak, value| peak.max(value.abs()));
        squares += block.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
        if samples as f64 > limits.longest_s * rate {
            return Err(DecodeError::TooLong { limit_s: limits.longest_s });
        }
    }
    if samples == 0 {
        return Err(DecodeError::Empty);
    }
    found.header = decoder.header().clone();
    found.frames = decoder.frames();
    found.duration_s = Some(samples as f64 / rate);
    found.peak = Some(peak);
    found.rms = Some((squares / samples as f64).sqrt() as f32);
    Ok(found)
}

/// Reads the headers and decodes the first packet.
///
/// # Errors
/// No audio of a known kind.
pub fn headers(path: &Path) -> Result<Inspection, DecodeError> {
    guarded(|| {
        let deadline = Deadline::after(Limits::default().decode_timeout_s);
        Decoder::open(path, deadline, Reading::default()).map(|decoder| headers_of(&decoder))
    })
}

fn headers_of(decoder: &Decoder) -> Inspection {
    let (header, frames) = (decoder.header().clone(), decoder.frames());
    Inspection { duration_s: header.declared_s, header, peak: None, rms: None, frames }
}
