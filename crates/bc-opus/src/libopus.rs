//! The reference decoder behind a safe face; the only module with `unsafe`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use unsafe_libopus::{
    OPUS_OK, OPUS_SET_GAIN_REQUEST, OpusMSDecoder, opus_multistream_decode_float,
    opus_multistream_decoder_create, opus_multistream_decoder_ctl, opus_multistream_decoder_destroy,
    opus_packet_get_nb_samples,
};

use crate::head::Head;

/// Samples per second and channel, whatever the encoder was given.
pub(crate) const RATE: u32 = 48_000;
/// Samples per channel of the longest packet: 120 ms.
pub(crate) const LONGEST: usize = 5_760;

/// Decoders of all streams of a track, with their state from packet to packet.
pub(crate) struct Libopus {
    state: NonNull<OpusMSDecoder>,
    channels: usize,
}

// SAFETY: the state is plain memory that no other thread knows of, and libopus has no mutable globals.
unsafe impl Send for Libopus {}
// SAFETY: nothing is done with the state through a shared reference.
unsafe impl Sync for Libopus {}

impl Drop for Libopus {
    fn drop(&mut self) {
        // SAFETY: the state came from `opus_multistream_decoder_create` and is not used again.
        unsafe { opus_multistream_decoder_destroy(self.state.as_ptr()) }
    }
}

impl Libopus {
    pub fn new(head: &Head) -> Result<Self, &'static str> {
        let channels = usize::from(head.channels);
        if head.mapping.len() != channels {
            return Err("opus: the channel mapping is damaged");
        }
        let mut code = OPUS_OK;
        // SAFETY: libopus reads `channels` bytes of the mapping, as many as there are, and checks the rest.
        let state = unsafe {
            opus_multistream_decoder_create(
                RATE as i32,
                i32::from(head.channels),
                i32::from(head.streams),
                i32::from(head.coupled),
                head.mapping.as_ptr(),
                &mut code,
            )
        };
        let Some(state) = NonNull::new(state).filter(|_| code == OPUS_OK) else {
            return Err("opus: the channel mapping is impossible");
        };
        let decoder = Self { state, channels };
        // SAFETY: the state is valid; this request takes one number, and any 16-bit one is allowed.
        let set = unsafe {
            opus_multistream_decoder_ctl!(state.as_ptr(), OPUS_SET_GAIN_REQUEST, i32::from(head.gain))
        };
        if set == OPUS_OK { Ok(decoder) } else { Err("opus: the gain cannot be set") }
    }

    /// Decodes a packet to interleaved samples; returns samples per channel. After a panic of the decoder,
    /// which is an error like others, it must be made anew.
    pub fn decode(&mut self, packet: &[u8], interleaved: &mut Vec<f32>) -> Result<usize, Failure> {
        let frames = duration(packet).ok_or(Failure::Invalid)?;
        let length = i32::try_from(packet.len()).map_err(|_| Failure::Invalid)?;
        interleaved.clear();
        interleaved.resize(frames * self.channels, 0.0);
        // SAFETY: the packet is `length` bytes long, the output has room for `frames` samples of every
        // channel, and libopus writes no more than it is told there is room for.
        let decoded = catch_unwind(AssertUnwindSafe(|| unsafe {
            opus_multistream_decode_float(
                self.state.as_ptr(),
                packet.as_ptr(),
                length,
                interleaved.as_mut_ptr(),
                frames as i32,
                0,
            )
        }));
        match decoded.map(usize::try_from) {
            Ok(Ok(decoded)) if (1..=frames).contains(&decoded) => {
                interleaved.truncate(decoded * self.channels);
                Ok(decoded)
            }
            Ok(_) => Err(Failure::Invalid),
            Err(_) => Err(Failure::Panicked),
        }
    }
}

/// Why a packet gives no samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is none of Opus.
    Invalid,
    /// The decoder met what its authors held impossible, and its state is not to be trusted.
    Panicked,
}

/// Samples per channel that a packet says it holds, 120 to 5,760; `None` if it is empty or says more.
pub(crate) fn duration(packet: &[u8]) -> Option<usize> {
    let length = i32::try_from(packet.len()).ok().filter(|length| *length > 0)?;
    // SAFETY: libopus reads the first byte, and the second where the length allows.
    let samples = unsafe { opus_packet_get_nb_samples(packet.as_ptr(), length, RATE as i32) };
    usize::try_from(samples).ok().filter(|samples| (1..=LONGEST).contains(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_rfc_6716() {
        // Table 2: SILK of 10 to 60 ms, hybrid of 10 and 20, CELT of 2.5 to 20; one frame per packet.
        for (config, milliseconds) in [(0, 10.0), (3, 60.0), (12, 10.0), (15, 20.0), (16, 2.5), (31, 20.0)] {
            assert_eq!(duration(&[config << 3]), Some((milliseconds * 48.0) as usize), "{config}");
        }
        assert_eq!(duration(&[31 << 3 | 1]), Some(1_920));
        assert_eq!(duration(&[31 << 3 | 3, 6]), Some(5_760));
        assert_eq!(duration(&[31 << 3 | 3, 7]), None, "140 ms");
        assert_eq!(duration(&[31 << 3 | 3, 0]), None, "no frame");
        assert_eq!(duration(&[31 << 3 | 3]), None, "no count");
        assert_eq!(duration(&[]), None);
    }
}
