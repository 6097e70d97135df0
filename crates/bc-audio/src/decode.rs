//! Decodes an audio file to blocks of mono samples.
//!
//! MP3, AAC/M4A, Vorbis, FLAC, WAV, AIFF, ALAC, and Opus in Ogg or WebM. The kind of
//! file is recognised by its content; the extension is only a hint. A frame (packet) that does not decode
//! is counted and skipped, as players do; a stream that cannot continue is an error. The caller decides how much may fail
//! ([`Frames::error_share`]).
//!
//! MP3 is framed and decoded by [`bc_mp3`] (at half its rate if the caller's [`Need`](crate::need::Need) allows it), Opus by
//! [`bc_opus`], and everything else by symphonia.

mod container;
mod ending;
mod error;
mod frames;
mod mix;
mod mp3;
mod stream;

use std::fs::File;
use std::io;
use std::path::Path;

use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::well_known::FORMAT_ID_MP3;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use crate::deadline::{Deadline, Timed};
use container::Container;
pub use error::DecodeError;
pub use frames::Frames;
use mp3::Mp3File;
use stream::reading_error;
pub use stream::{Header, Reading};

/// Sample rates that are accepted. A damaged header can claim any rate, and the
/// resampler's memory grows with it.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Maximum number of other bytes before the first frame of an MP3 file.
const MOST_JUNK: u64 = 4 << 20;

enum Source {
    Mp3(Box<Mp3File>),
    Container(Box<Container>),
}

/// An open file.
pub struct Decoder {
    source: Source,
    /// What is needed to examine the end of the file, once its audio is decoded.
    ending: Option<(ending::Kind, Timed)>,
    deadline: Deadline,
    header: Header,
    mono: Vec<f32>,
    ready: bool,
    ended: bool,
    frames: Frames,
}

impl Decoder {
    /// Opens a file and decodes its first frame, which determines rate and channels.
    ///
    /// # Errors
    /// A file that is no audio of a known kind, that holds no audio, or that takes longer than `deadline`, which also applies to
    /// the blocks that follow.
    pub fn open(path: &Path, deadline: Deadline, reading: Reading) -> Result<Self, DecodeError> {
        let Opened { source, header, ending } = open(path, deadline, reading)?;
        let mut opened = Self {
            source,
            ending,
            deadline,
            header,
            mono: Vec::new(),
            ready: false,
            ended: false,
            frames: Frames::default(),
        };
        if !opened.advance()? {
            return Err(match opened.frames.failed {
                0 => DecodeError::Empty,
                failed => DecodeError::Broken(format!("none of {failed} frames is valid")),
            });
        }
        opened.ready = true;
        Ok(opened)
    }

    /// Returns rate, channels, codec and declared length; after the last block also what the end of the file shows.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the sample rate of the blocks: that of the header, or half of it.
    pub fn block_rate(&self) -> u32 {
        match &self.source {
            Source::Mp3(file) if file.is_halved() => self.header.sample_rate / 2,
            _ => self.header.sample_rate,
        }
    }

    /// Returns the number of samples so far, per channel and at the file's rate.
    fn samples(&self) -> u64 {
        match &self.source {
            Source::Mp3(file) => file.samples(),
            Source::Container(container) => container.samples(),
        }
    }

    /// Returns the length of what was decoded, in seconds.
    pub fn decoded_s(&self) -> f64 {
        self.samples() as f64 / f64::from(self.header.sample_rate.max(1))
    }

    /// Returns how many frames decoded so far, and how many were skipped because they do not.
    pub fn frames(&self) -> Frames {
        self.frames
    }

    /// Decodes the next block of mono samples (the mean of the channels), which is not empty; `None` at the end.
    ///
    /// # Errors
    /// A stream that cannot continue, a file that can no longer be read, a deadline that is over.
    pub fn next_block(&mut self) -> Result<Option<&[f32]>, DecodeError> {
        if !std::mem::take(&mut self.ready) && !self.advance()? {
            return Ok(None);
        }
        Ok(Some(&self.mono))
    }

    /// Decodes the next samples to `self.mono`; false at the end.
    fn advance(&mut self) -> Result<bool, DecodeError> {
        while !self.ended {
            let piece = match &mut self.source {
                Source::Mp3(file) => file.advance(self.deadline, &mut self.mono),
                Source::Container(container) => container.advance(self.deadline, &mut self.mono),
            }?;
            let Some(piece) = piece else { break };
            self.ended = piece.last;
            self.frames.decoded += piece.decoded;
            self.frames.failed += piece.failed;
            if piece.rate > 0 {
                self.check_format(piece.rate, piece.channels)?;
            }
            if !self.mono.is_empty() {
                return Ok(true);
            }
        }
        self.ended = true;
        self.examine_ending()?;
        Ok(false)
    }

    /// Examines the end of the file, once, and adds what it shows to the header.
    fn examine_ending(&mut self) -> Result<(), DecodeError> {
        match self.ending.take() {
            Some((kind, file)) => ending::examine(kind, file, &mut self.header),
            None => Ok(()),
        }
    }

    /// Uses the first frame's rate as the file's, and refuses a frame with another rate.
    fn check_format(&mut self, rate: u32, channels: u32) -> Result<(), DecodeError> {
        if !RATES.contains(&rate) {
            return Err(DecodeError::Broken(format!("it claims {rate} samples per second")));
        }
        if self.header.sample_rate == 0 {
            self.header.sample_rate = rate;
            self.header.channels = channels;
        } else if rate != self.header.sample_rate {
            return Err(DecodeError::Broken(format!(
                "the sample rate changes from {} to {rate} Hz after {:.1} s",
                self.header.sample_rate,
                self.decoded_s()
            )));
        }
        Ok(())
    }
}

/// A file whose format is known.
struct Opened {
    source: Source,
    header: Header,
    ending: Option<(ending::Kind, Timed)>,
}

/// Detects the format of a file and opens it.
fn open(path: &Path, deadline: Deadline, reading: Reading) -> Result<Opened, DecodeError> {
    // Checked before opening, because opening a pipe waits for ever.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(DecodeError::NotAudio("not a regular file".into()));
    }
    let length = about.len();
    if length == 0 {
        return Err(DecodeError::Empty);
    }
    let timed = || io::Result::Ok(Timed { file: File::open(path)?, length, deadline });
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let mut reader = bc_mp3::Reader::new(timed()?, Some(length));
    let mut open_mp3 = |most_junk: u64| -> Result<Option<Opened>, DecodeError> {
        match reader.peek_first(most_junk)? {
            None => Ok(None),
            Some(first) => {
                let reader = std::mem::replace(&mut reader, bc_mp3::Reader::new(timed()?, Some(length)));
                let (file, header) = Mp3File::new(reader, &first, reading)?;
                Ok(Some(Opened { source: Source::Mp3(Box::new(file)), header, ending: None }))
            }
        }
    };
    // At the beginning or after tags, no other format looks like three MP3 frames in a row.
    if let Some(opened) = open_mp3(0)? {
        return Ok(opened);
    }
    let probed = probe(timed()?, extension);
    let is_mp3 = probed.as_ref().is_ok_and(|format| format.format_info().format == FORMAT_ID_MP3);
    if (is_mp3 || probed.is_err())
        && let Some(opened) = open_mp3(MOST_JUNK)?
    {
        return Ok(opened);
    }
    if is_mp3 || reader.info().is_some() {
        return Err(DecodeError::Empty);
    }
    let format = probed.map_err(|error| reading_error(error, deadline, DecodeError::NotAudio))?;
    let kind = ending::Kind::of(format.format_info().format);
    let ending = kind.map(|kind| io::Result::Ok((kind, timed()?))).transpose()?;
    let (container, header) = Container::new(format, reading)?;
    Ok(Opened { source: Source::Container(Box::new(container)), header, ending })
}

/// Lets symphonia detect the format of a file.
fn probe(timed: Timed, extension: &str) -> symphonia::core::errors::Result<Box<dyn FormatReader>> {
    let stream = MediaSourceStream::new(Box::new(timed), Default::default());
    let mut hint = Hint::new();
    if !extension.is_empty() {
        hint.with_extension(extension);
    }
    symphonia::default::get_probe().probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
}
