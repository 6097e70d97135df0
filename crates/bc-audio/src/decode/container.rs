//! Reads all files but MP3 files: symphonia reads the container, and decodes all codecs but MP3.

use std::io::ErrorKind;

use symphonia::core::codecs::audio::well_known::{CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatReader, Track, TrackType};
use symphonia::core::packet::Packet;

use super::error::DecodeError;
use super::mix::{effects, mix};
use super::mp3::FrameDecoder;
use super::stream::{CODECS, Header, Piece, Reading, reading_error};
use crate::deadline::Deadline;

/// An open container.
pub(super) struct Container {
    format: Box<dyn FormatReader>,
    codec: Codec,
    track: u32,
    reading: Reading,
    samples: u64,
    interleaved: Vec<f32>,
}

/// The decoder of the packets.
enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    Mp3(Box<FrameDecoder>),
}

impl Container {
    /// Opens the audio track of a container; also returns the content of its header.
    pub fn new(format: Box<dyn FormatReader>, reading: Reading) -> Result<(Self, Header), DecodeError> {
        let (codec, track, header) = track_of(&*format, reading)?;
        Ok((Self { format, codec, track, reading, samples: 0, interleaved: Vec::new() }, header))
    }

    /// Returns the number of samples so far, per channel.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Decodes the next packet to `mono`; `None` at the end.
    pub fn advance(&mut self, deadline: Deadline, mono: &mut Vec<f32>) -> Result<Option<Piece>, DecodeError> {
        loop {
            deadline.check()?;
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(None),
                // Another stream follows the one that ended (chained Ogg), with its own tracks.
                Err(Error::ResetRequired) => {
                    (self.codec, self.track, _) = track_of(&*self.format, self.reading)?;
                    continue;
                }
                // A file that is cut off inside a packet ends there; the missing part shows in its length, if it declares one.
                Err(Error::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    mono.clear();
                    let failed = u32::from(self.samples == 0);
                    return Ok(Some(Piece { failed, last: true, ..Piece::default() }));
                }
                Err(error) => return Err(reading_error(error, deadline, DecodeError::Broken)),
            };
            if packet.track_id == self.track {
                let piece = self.decode(&packet, mono)?;
                self.samples += mono.len() as u64;
                return Ok(Some(piece));
            }
        }
    }

    fn decode(&mut self, packet: &Packet, mono: &mut Vec<f32>) -> Result<Piece, DecodeError> {
        mono.clear();
        let decoder = match &mut self.codec {
            Codec::Symphonia(decoder) => decoder,
            Codec::Mp3(decoder) => {
                let Some(piece) = decoder.decode(&packet.data, mono) else {
                    return Ok(Piece { failed: 1, ..Piece::default() });
                };
                let count = |samples: u64| usize::try_from(samples).unwrap_or(usize::MAX);
                let end = mono.len().saturating_sub(count(packet.trim_end.get()));
                let start = count(packet.trim_start.get()).min(end);
                mono.truncate(end);
                mono.drain(..start);
                return Ok(piece);
            }
        };
        let failed = Piece { failed: 1, ..Piece::default() };
        let audio = match decoder.decode(packet) {
            Ok(audio) => audio,
            Err(Error::DecodeError(_) | Error::IoError(_)) => return Ok(failed),
            Err(Error::ResetRequired) => {
                decoder.reset();
                return Ok(failed);
            }
            Err(error) => return Err(DecodeError::Broken(error.to_string())),
        };
        let (rate, channels) = (audio.spec().rate(), audio.spec().channels().count());
        if audio.frames() == 0 || channels == 0 || rate == 0 {
            return Ok(Piece::default());
        }
        let effects = effects(audio.spec().channels());
        audio.copy_to_vec_interleaved(&mut self.interleaved);
        let sound = mix(&self.interleaved, channels, &effects, mono);
        Ok(Piece {
            rate,
            channels: channels as u32,
            decoded: u32::from(sound),
            failed: u32::from(!sound),
            last: false,
        })
    }
}

/// Returns the audio track of a container.
fn track_of(format: &dyn FormatReader, reading: Reading) -> Result<(Codec, u32, Header), DecodeError> {
    let track = format
        .default_track(TrackType::Audio)
        .ok_or_else(|| DecodeError::NotAudio("no audio track".into()))?;
    let parameters = track
        .codec_params
        .as_ref()
        .and_then(|parameters| parameters.audio())
        .ok_or_else(|| DecodeError::Unsupported("unknown codec".into()))?;
    // For MPEG's older layers symphonia guesses the length from the first frames, and cuts the rest off.
    let guessed = [CODEC_ID_MP1, CODEC_ID_MP2].contains(&parameters.codec);
    let decoder = CODECS
        .make_audio_decoder(parameters, &AudioDecoderOptions::default().gapless(!guessed))
        .map_err(|error| DecodeError::Unsupported(error.to_string()))?;
    let codec_name = decoder.codec_info().short_name.to_owned();
    let header = Header::of_codec(codec_name, declared_s(track).filter(|_| !guessed));
    let codec = if parameters.codec == CODEC_ID_MP3 {
        Codec::Mp3(Box::new(FrameDecoder::whole(reading.mp3)?))
    } else {
        Codec::Symphonia(decoder)
    };
    Ok((codec, track.id, header))
}

fn declared_s(track: &Track) -> Option<f64> {
    let rate = track.codec_params.as_ref()?.audio()?.sample_rate?;
    Some(track.num_frames? as f64 / f64::from(rate.max(1)))
}
