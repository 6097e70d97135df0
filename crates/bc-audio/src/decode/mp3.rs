//! Reads MP3 files: [`bc_mp3`] splits them into frames, and it or symphonia decodes the frames.

use bc_formats::config::Mp3Decoder;
use bc_mp3::{FrameError, Output, Reader, Trim};
use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::error::DecodeError;
use super::mix::{mix, sane};
use super::stream::{CODECS, Header, Piece, Reading};
use crate::deadline::{Deadline, Timed};

/// An open MP3 file.
pub(super) struct Mp3File {
    reader: Reader<Timed>,
    decoder: FrameDecoder,
    trim: Trim,
    halved: bool,
    samples: Vec<f32>,
    /// Number of frames at the beginning whose main data would be before the beginning of the file.
    cut_at_start: u32,
    started: bool,
    ended: bool,
}

impl Mp3File {
    /// Opens a file whose first frame was found; also returns the content of its header.
    pub fn new(
        reader: Reader<Timed>,
        first: &bc_mp3::Header,
        reading: Reading,
    ) -> Result<(Self, Header), DecodeError> {
        let rate = first.sample_rate();
        let mut trim = Trim::new(reader.info());
        let halved =
            reading.mp3 == Mp3Decoder::Own && reading.need.is_some_and(|need| need.is_met_by_half(rate));
        let decoder = if halved {
            let phase = trim.phase();
            trim = trim.halved();
            FrameDecoder::Own(bc_mp3::Decoder::new(Output::HalfMono { phase }))
        } else {
            FrameDecoder::whole(reading.mp3)?
        };
        let frames = reader.info().and_then(|info| info.frames);
        let declared_s = frames.map(|frames| {
            let samples = u64::from(frames) * first.samples() as u64;
            samples.saturating_sub(trim.declared()) as f64 / f64::from(rate)
        });
        let header = Header::of_codec("mp3".into(), declared_s);
        let file = Self {
            reader,
            decoder,
            trim,
            halved,
            samples: Vec::new(),
            cut_at_start: 0,
            started: false,
            ended: false,
        };
        Ok((file, header))
    }

    /// Returns whether samples come at half the file's rate.
    pub fn is_halved(&self) -> bool {
        self.halved
    }

    /// Returns the number of samples so far, per channel and at the file's rate.
    pub fn samples(&self) -> u64 {
        self.trim.length(self.reader.frames())
    }

    /// Decodes the next frame to `mono`, or at the end the samples that were held back; `None` after that.
    pub fn advance(&mut self, deadline: Deadline, mono: &mut Vec<f32>) -> Result<Option<Piece>, DecodeError> {
        mono.clear();
        deadline.check()?;
        if self.ended {
            return Ok(None);
        }
        let Some(frame) = self.reader.next_frame()? else {
            self.ended = true;
            let frames = self.reader.frames();
            self.trim.finish(frames, mono);
            let failed = if self.started { 0 } else { self.cut_at_start };
            return Ok(Some(Piece { failed, last: true, ..Piece::default() }));
        };
        let (rate, channels) = (frame.header.sample_rate(), frame.header.channels() as u32);
        let (length, cut_off) = (frame.header.samples() as u64, frame.cut_off);
        self.samples.clear();
        let decoded = self.decoder.samples(&frame, &mut self.samples);
        let sound = sane(&mut self.samples);
        self.trim.push(&self.samples, length, mono);
        let mut piece = Piece { rate, channels, ..Piece::default() };
        match decoded {
            Ok(()) if sound => {
                self.started = true;
                piece.decoded = 1;
            }
            // A recording of a stream, or a cut, begins like that: it is not damaged.
            Err(FrameError::Reservoir) if !self.started => self.cut_at_start += 1,
            // Nor is the frame before a cut: the length shows that the end is missing.
            Err(_) if cut_off && self.started => {}
            _ => piece.failed = 1,
        }
        Ok(Some(piece))
    }
}

/// The decoder of MP3 frames.
pub(super) enum FrameDecoder {
    Own(bc_mp3::Decoder),
    Symphonia(Box<dyn AudioDecoder>, Vec<f32>),
}

impl FrameDecoder {
    /// Returns a decoder of the mean of the channels at the full rate.
    pub fn whole(by: Mp3Decoder) -> Result<Self, DecodeError> {
        Ok(match by {
            Mp3Decoder::Own => Self::Own(bc_mp3::Decoder::new(Output::Mono)),
            Mp3Decoder::Symphonia => {
                let mut parameters = AudioCodecParameters::new();
                parameters.for_codec(CODEC_ID_MP3);
                let decoder = CODECS
                    .make_audio_decoder(&parameters, &AudioDecoderOptions::default())
                    .map_err(|error| DecodeError::Unsupported(error.to_string()))?;
                Self::Symphonia(decoder, Vec::new())
            }
        })
    }

    /// Decodes a single frame (the packet of a container) to `mono`; `None` if it is not a frame.
    pub fn decode(&mut self, bytes: &[u8], mono: &mut Vec<f32>) -> Option<Piece> {
        let header = bc_mp3::Header::read(bytes).ok()?;
        let decoded =
            self.samples(&bc_mp3::Frame { header, bytes, cut_off: false }, mono).is_ok() && sane(mono);
        let (rate, channels) = (header.sample_rate(), header.channels() as u32);
        let (decoded, failed) = (u32::from(decoded), u32::from(!decoded));
        Some(Piece { rate, channels, decoded, failed, last: false })
    }

    /// Appends the samples of a frame to `out`; a frame that does not decode gives equally many zeros.
    fn samples(&mut self, frame: &bc_mp3::Frame, out: &mut Vec<f32>) -> Result<(), FrameError> {
        let (decoder, interleaved) = match self {
            Self::Own(decoder) => return decoder.decode(frame.bytes, out),
            Self::Symphonia(decoder, interleaved) => (decoder, interleaved),
        };
        let packet = Packet::new(0, Timestamp::ZERO, Duration::ZERO, frame.bytes);
        let samples = frame.header.samples();
        let decoded = match decoder.decode(&packet) {
            Ok(audio) if audio.frames() == samples => {
                let channels = audio.spec().channels().count();
                audio.copy_to_vec_interleaved(interleaved);
                mix(interleaved, channels, &[], out);
                Ok(())
            }
            _ => Err(FrameError::Invalid("symphonia does not decode it")),
        };
        out.resize(samples, 0.0);
        decoded
    }
}
