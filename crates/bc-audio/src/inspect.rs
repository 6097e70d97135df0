//! What a file holds, without making features of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::decode::{DecodeError, Decoder, Header};
use crate::extract::Limits;
use crate::patience::{Deadline, guarded};

/// What one pass over a file finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Rate, channels, codec, and the length that the header declares, where it can be relied on.
    pub header: Header,
    /// Decoded length in seconds; the declared one after [`headers`].
    pub duration_s: Option<f64>,
    /// Largest magnitude of the mono mix, full scale is 1; `None` after [`headers`].
    pub peak: Option<f32>,
    /// Root mean square of the mono mix; `None` after [`headers`].
    pub rms: Option<f32>,
    /// Packets that decoded.
    pub packets: u32,
    /// Packets that did not.
    pub errors: u32,
}

/// Decodes the whole file.
///
/// # Errors
/// No audio, a stream that cannot go on, or audio beyond the limits.
pub fn whole(path: &Path, limits: Limits) -> Result<Inspection, DecodeError> {
    guarded(|| decode_whole(path, limits))
}

fn decode_whole(path: &Path, limits: Limits) -> Result<Inspection, DecodeError> {
    let deadline = Deadline::after(limits.patience_s);
    let mut decoder = Decoder::open(path, deadline)?;
    let mut found = headers_of(&decoder, path)?;
    let rate = f64::from(found.header.sample_rate);
    let (mut samples, mut squares, mut peak) = (0u64, 0.0f64, 0.0f32);
    found.packets = 0;
    while let Some(block) = decoder.next_block()? {
        samples += block.len() as u64;
        peak = block.iter().fold(peak, |peak, value| peak.max(value.abs()));
        squares += block.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
        found.packets += 1;
        if samples as f64 > limits.longest_s * rate {
            return Err(DecodeError::TooLong { limit_s: limits.longest_s });
        }
    }
    if samples == 0 {
        return Err(DecodeError::Empty);
    }
    found.errors = decoder.errors();
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
    guarded(|| headers_of(&Decoder::open(path, Deadline::after(Limits::default().patience_s))?, path))
}

fn headers_of(decoder: &Decoder, path: &Path) -> Result<Inspection, DecodeError> {
    let mut header = decoder.header().clone();
    // Without a count of frames in the file, readers of MP3 estimate the length from its size.
    if header.codec == "mp3" && !counts_frames(path)? {
        header.declared_s = None;
    }
    let (duration_s, errors) = (header.declared_s, decoder.errors());
    Ok(Inspection { header, duration_s, peak: None, rms: None, packets: 1, errors })
}

/// Whether an MP3 begins with a Xing, Info or VBRI frame.
fn counts_frames(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let mut head = [0u8; 10];
    let read = file.read(&mut head)?;
    let id3 = read == 10 && head.starts_with(b"ID3");
    let tag = if id3 { 10 + head[6..].iter().fold(0u64, |n, &b| n << 7 | u64::from(b & 127)) } else { 0 };
    file.seek(SeekFrom::Start(tag))?;
    let mut first = Vec::new();
    file.take(4096).read_to_end(&mut first)?;
    Ok(first.windows(4).any(|word| matches!(word, b"Xing" | b"Info" | b"VBRI")))
}
