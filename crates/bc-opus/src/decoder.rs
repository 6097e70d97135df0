//! The decoder for symphonia's codec registry: packets in, trimmed samples out.

use symphonia::core::audio::{
    AsGenericAudioBufferRef, AudioBuffer, AudioMut, AudioSpec, Channels, GenericAudioBufferRef, layouts,
};
use symphonia::core::codecs::CodecInfo;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions, FinalizeResult,
};
use symphonia::core::codecs::registry::{RegisterableAudioDecoder, SupportedAudioCodec};
use symphonia::core::errors::{Result, decode_error, unsupported_error};
use symphonia::core::packet::PacketRef;

use crate::head::{Head, Refusal};
use crate::libopus::{LONGEST, Libopus, RATE, duration};

/// Decodes Opus at 48 kHz; register it with
/// [`CodecRegistry::register_audio_decoder`](symphonia::core::codecs::registry::CodecRegistry::register_audio_decoder).
pub struct OpusDecoder {
    parameters: AudioCodecParameters,
    head: Head,
    libopus: Libopus,
    /// Samples per channel still to drop from the start. Short packets make that more than one packet.
    pre_skip: usize,
    interleaved: Vec<f32>,
    buffer: AudioBuffer<f32>,
}

impl OpusDecoder {
    /// Creates a decoder for a track.
    ///
    /// # Errors
    /// A header that is damaged, or of a channel mapping that is not decoded.
    pub fn try_new(parameters: &AudioCodecParameters) -> Result<Self> {
        let head = match (&parameters.extra_data, &parameters.channels) {
            (Some(bytes), _) => Head::parse(bytes),
            (None, Some(channels)) => Head::plain(channels.count()),
            (None, None) => Err(Refusal::Invalid("opus: neither a header nor a number of channels")),
        };
        let head = match head {
            Ok(head) => head,
            Err(Refusal::Unsupported(what)) => return unsupported_error(what),
            Err(Refusal::Invalid(what)) => return decode_error(what),
        };
        let libopus = Libopus::new(&head).or_else(decode_error)?;
        let channels = match head.channels {
            1 => layouts::CHANNEL_LAYOUT_MONO,
            2 => layouts::CHANNEL_LAYOUT_STEREO,
            // In Vorbis's order, which is not that of symphonia's positions.
            more => Channels::Discrete(u16::from(more)),
        };
        let buffer = AudioBuffer::new(AudioSpec::new(RATE, channels), LONGEST);
        Ok(Self {
            parameters: parameters.clone(),
            pre_skip: usize::from(head.pre_skip),
            head,
            libopus,
            interleaved: Vec::new(),
            buffer,
        })
    }

    /// Counts `frames` samples as seen; returns how many of them belong to the pre-skip.
    fn skip(&mut self, frames: usize) -> usize {
        let skipped = self.pre_skip.min(frames);
        self.pre_skip -= skipped;
        skipped
    }
}

impl AudioDecoder for OpusDecoder {
    fn reset(&mut self) {
        // A new one, since it cannot fail for a header that it took before.
        if let Ok(libopus) = Libopus::new(&self.head) {
            self.libopus = libopus;
        }
        // After a seek packets are no longer those of the start.
        self.pre_skip = 0;
        self.buffer.clear();
    }

    fn codec_info(&self) -> &CodecInfo {
        &Self::supported_codecs()[0].info
    }

    fn codec_params(&self) -> &AudioCodecParameters {
        &self.parameters
    }

    fn decode_ref(&mut self, packet: &PacketRef<'_>) -> Result<GenericAudioBufferRef<'_>> {
        self.buffer.clear();
        let Some(frames) = self.libopus.decode(packet.data, &mut self.interleaved) else {
            self.skip(duration(packet.data).unwrap_or(0));
            return decode_error("opus: invalid packet");
        };
        self.buffer.render_uninit(Some(frames));
        self.buffer.copy_from_slice_interleaved(&self.interleaved);
        // Where a demuxer trims the start by itself, that is the pre-skip again.
        let start = self.skip(frames).max(packet.trim_start.get() as usize);
        self.buffer.trim(start, packet.trim_end.get() as usize);
        Ok(self.buffer.as_generic_audio_buffer_ref())
    }

    fn finalize(&mut self) -> FinalizeResult {
        FinalizeResult::default()
    }

    fn last_decoded(&self) -> GenericAudioBufferRef<'_> {
        self.buffer.as_generic_audio_buffer_ref()
    }
}

impl RegisterableAudioDecoder for OpusDecoder {
    fn try_registry_new(
        parameters: &AudioCodecParameters,
        _: &AudioDecoderOptions,
    ) -> Result<Box<dyn AudioDecoder>> {
        Ok(Box::new(Self::try_new(parameters)?))
    }

    fn supported_codecs() -> &'static [SupportedAudioCodec] {
        const CODECS: [SupportedAudioCodec; 1] = [SupportedAudioCodec {
            id: CODEC_ID_OPUS,
            info: CodecInfo { short_name: "opus", long_name: "Opus", profiles: &[] },
        }];
        &CODECS
    }
}
