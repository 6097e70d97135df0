//! An audio file as blocks of mono samples.
//!
//! MP3, AAC/M4A, Vorbis, FLAC, WAV, AIFF, ALAC, and Opus in Ogg or WebM. What the file
//! is, its content tells; the extension is only a hint. A packet that does not decode
//! is counted and passed over (players do the same); a stream that cannot go on is an error.
//!
//! Who says what is needed of a file ([`Need`]) may get MP3 at half its rate, from [`crate::mp3`].

use std::fs::File;
use std::path::Path;
use std::sync::LazyLock;

use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use crate::mp3::{self, Need, Unusual};
use crate::patience::{Deadline, Timed};

/// Sample rates that are taken for real. A damaged header can claim any, and what the
/// resampler allocates grows with it.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

static CODECS: LazyLock<CodecRegistry> = LazyLock::new(|| {
    let mut registry = CodecRegistry::new();
    symphonia::default::register_enabled_codecs(&mut registry);
    registry.register_audio_decoder::<bc_opus::OpusDecoder>();
    registry
});

/// Samples beyond this (full scale is 1: 48 dB above it) are damage, as those that are no numbers.
const LOUDEST: f32 = 256.0;

/// Why a file gives no audio. `Display` is the reason that tables show.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file can't be read at all.
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
    /// A decoder (or what follows it) met something that its authors held impossible.
    #[error("the decoder panicked ({0})")]
    Panicked(String),
    /// Decodes to nothing.
    #[error("holds no audio")]
    Empty,
    /// Only of a decoder that was opened for a [`Need`]: the file wants [`Decoder::open`].
    #[error("is an unusual MP3 ({0})")]
    Unusual(&'static str),
}

/// What the headers say.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Short name of the codec, such as `mp3`.
    pub codec: String,
    /// Length in seconds as declared, if it is.
    pub declared_s: Option<f64>,
}

/// Who makes samples of packets.
enum Codec {
    Any(Box<dyn AudioDecoder>),
    Mp3(mp3::Track),
}

/// An open file.
pub struct Decoder {
    format: Box<dyn FormatReader>,
    codec: Codec,
    track: u32,
    deadline: Deadline,
    header: Header,
    decoded: u64,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
    ready: bool,
    errors: u32,
}

impl Decoder {
    /// Opens a file and decodes its first packet, which settles rate and channels.
    ///
    /// # Errors
    /// A file that is no audio of a known kind, that holds none, or that takes beyond `deadline`,
    /// which holds for the blocks that follow, too.
    pub fn open(path: &Path, deadline: Deadline) -> Result<Self, DecodeError> {
        Self::open_with(path, deadline, None)
    }

    /// The same for someone who needs only part of the signal and so, perhaps, gets it sooner: blocks
    /// are of [`Self::block_rate`].
    ///
    /// # Errors
    /// Those of [`Self::open`]; then and later, [`DecodeError::Unusual`] of a file that must be begun anew with it.
    pub fn open_for(path: &Path, deadline: Deadline, need: Need) -> Result<Self, DecodeError> {
        Self::open_with(path, deadline, Some(need))
    }

    fn open_with(path: &Path, deadline: Deadline, need: Option<Need>) -> Result<Self, DecodeError> {
        // Asked before opening, which waits for ever on a pipe.
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            return Err(DecodeError::NotAudio("not a regular file".into()));
        }
        if about.len() == 0 {
            return Err(DecodeError::Empty);
        }
        let timed = Timed { file: File::open(path)?, length: about.len(), deadline };
        let stream = MediaSourceStream::new(Box::new(timed), Default::default());
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
            hint.with_extension(extension);
        }
        let format = symphonia::default::get_probe()
            .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|error| late_or(deadline, DecodeError::NotAudio(error.to_string())))?;
        let track = format
            .default_track(TrackType::Audio)
            .ok_or_else(|| DecodeError::NotAudio("no audio track".into()))?;
        let parameters = track
            .codec_params
            .as_ref()
            .and_then(|parameters| parameters.audio())
            .ok_or_else(|| DecodeError::Unsupported("unknown codec".into()))?;
        let decoder = CODECS
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|error| DecodeError::Unsupported(error.to_string()))?;
        let name = decoder.codec_info().short_name.to_owned();
        let codec = match need {
            Some(need) if parameters.codec == CODEC_ID_MP3 => Codec::Mp3(mp3::Track::new(need)),
            _ => Codec::Any(decoder),
        };
        let declared = parameters.sample_rate.zip(track.num_frames);
        let header = Header {
            sample_rate: 0,
            channels: 0,
            codec: name,
            declared_s: declared.map(|(rate, frames)| frames as f64 / f64::from(rate.max(1))),
        };
        let track = track.id;
        let mut opened = Self {
            format,
            codec,
            track,
            deadline,
            header,
            decoded: 0,
            interleaved: Vec::new(),
            mono: Vec::new(),
            ready: false,
            errors: 0,
        };
        if !opened.advance()? {
            return Err(if opened.errors > 0 {
                DecodeError::Broken(format!("none of {} packets is valid", opened.errors))
            } else {
                DecodeError::Empty
            });
        }
        opened.ready = true;
        Ok(opened)
    }

    /// Rate, channels, codec.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Samples a second in blocks: those of the header or half of them.
    pub fn block_rate(&self) -> u32 {
        match &self.codec {
            Codec::Mp3(track) if track.is_halved() => self.header.sample_rate / 2,
            _ => self.header.sample_rate,
        }
    }

    /// Length of what was decoded, in seconds.
    pub fn decoded_s(&self) -> f64 {
        self.decoded as f64 / f64::from(self.header.sample_rate.max(1))
    }

    /// Packets passed over because they do not decode.
    pub fn errors(&self) -> u32 {
        self.errors
    }

    /// The next block of mono samples (the mean of the channels), `None` at the end.
    pub fn next_block(&mut self) -> Result<Option<&[f32]>, DecodeError> {
        if !std::mem::take(&mut self.ready) && !self.advance()? {
            return Ok(None);
        }
        Ok(Some(&self.mono))
    }

    fn advance(&mut self) -> Result<bool, DecodeError> {
        loop {
            self.deadline.check()?;
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(false),
                // A file cut off inside a packet ends there.
                Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    self.errors += 1;
                    return Ok(false);
                }
                Err(error) => {
                    return Err(late_or(self.deadline, DecodeError::Broken(error.to_string())));
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            let Some((rate, channels)) = self.decode(&packet)? else { continue };
            if !RATES.contains(&rate) {
                return Err(DecodeError::Broken(format!("it claims {rate} samples a second")));
            }
            if self.header.sample_rate == 0 {
                self.header.sample_rate = rate;
                self.header.channels = channels;
            } else if rate != self.header.sample_rate {
                return Err(DecodeError::Broken(format!(
                    "the sample rate changes from {} to {rate} Hz",
                    self.header.sample_rate
                )));
            }
            return Ok(true);
        }
    }

    /// A packet's samples to `mono`; its rate and channels, or `None` if there are no samples.
    fn decode(&mut self, packet: &Packet) -> Result<Option<(u32, u32)>, DecodeError> {
        let decoder = match &mut self.codec {
            Codec::Any(decoder) => decoder,
            Codec::Mp3(track) => {
                let unusual = |Unusual(what)| DecodeError::Unusual(what);
                self.decoded += track.decode(packet, &mut self.interleaved).map_err(unusual)?;
                mix(&self.interleaved, 1, &mut self.mono);
                let Some((channels, rate)) = track.format() else { return Ok(None) };
                return Ok((!self.mono.is_empty()).then_some((rate, channels)));
            }
        };
        let audio = match decoder.decode(packet) {
            Ok(audio) => audio,
            Err(Error::DecodeError(_) | Error::IoError(_)) => {
                self.errors += 1;
                return Ok(None);
            }
            Err(error) => return Err(DecodeError::Broken(error.to_string())),
        };
        let (rate, channels) = (audio.spec().rate(), audio.spec().channels().count());
        if audio.frames() == 0 || channels == 0 || rate == 0 {
            return Ok(None);
        }
        audio.copy_to_vec_interleaved(&mut self.interleaved);
        mix(&self.interleaved, channels, &mut self.mono);
        self.decoded += self.mono.len() as u64;
        Ok(Some((rate, channels as u32)))
    }
}

/// Why reading failed: because the time was over, or else `error`.
fn late_or(deadline: Deadline, error: DecodeError) -> DecodeError {
    deadline.check().err().unwrap_or(error)
}

/// The mean of the channels; what cannot be a sample counts as silence.
fn mix(interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) {
    mono.clear();
    let share = 1.0 / channels as f32;
    let sane = |value: f32| if value.abs() <= LOUDEST { value } else { 0.0 };
    match channels {
        1 => mono.extend(interleaved.iter().map(|&value| sane(value))),
        2 => mono.extend(interleaved.chunks_exact(2).map(|pair| sane((pair[0] + pair[1]) * 0.5))),
        _ => mono
            .extend(interleaved.chunks_exact(channels).map(|frame| sane(frame.iter().sum::<f32>() * share))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_sample_is_silence() {
        let mut mono = Vec::new();
        mix(&[0.5, 1.5, f32::NAN, 0.5, 3e38, 3e38, -1e6, 0.0, -200.0, -100.0], 2, &mut mono);
        assert_eq!(mono, [1.0, 0.0, 0.0, 0.0, -150.0]);
        mix(&[f32::INFINITY, 257.0, -256.0], 1, &mut mono);
        assert_eq!(mono, [0.0, 0.0, -256.0]);
    }
}
