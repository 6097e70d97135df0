//! A safe interface to the reference decoder; the only module of this crate with `unsafe`.

#![allow(unsafe_code, reason = "libopus by its interface of C")]

use std::ffi::c_int;
use std::ptr::NonNull;

use crate::head::Head;

/// `OPUS_OK` of `opus_defines.h`.
const OK: c_int = 0;
/// `OPUS_SET_GAIN_REQUEST` of `opus_defines.h`, with a 32-bit number of 1/256 dB.
const SET_GAIN: c_int = 4034;

/// `OpusMSDecoder` of `opus_multistream.h`, of which only pointers exist here.
#[repr(C)]
struct State {
    _opaque: [u8; 0],
}

// As `opus.h` and `opus_multistream.h` declare them, with opus_int32 as i32.
unsafe extern "C" {
    fn opus_multistream_decoder_create(
        rate: i32,
        channels: c_int,
        streams: c_int,
        coupled_streams: c_int,
        mapping: *const u8,
        error: *mut c_int,
    ) -> *mut State;
    fn opus_multistream_decode_float(
        state: *mut State,
        data: *const u8,
        length: i32,
        pcm: *mut f32,
        frame_size: c_int,
        decode_fec: c_int,
    ) -> c_int;
    fn opus_multistream_decoder_ctl(state: *mut State, request: c_int, ...) -> c_int;
    fn opus_multistream_decoder_destroy(state: *mut State);
    fn opus_packet_get_nb_samples(packet: *const u8, length: i32, rate: i32) -> c_int;
}

/// Samples per second and channel, whatever the encoder was given.
pub(crate) const RATE: u32 = 48_000;
/// Samples per channel of the longest packet: 120 ms.
pub(crate) const LONGEST: usize = 5_760;

/// Decoders of all streams of a track, with their state from packet to packet.
pub(crate) struct Libopus {
    state: NonNull<State>,
    channels: usize,
}

// SAFETY: the state is plain memory that no other thread uses, and libopus has no mutable globals.
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
        let mut code = OK;
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
        let Some(state) = NonNull::new(state).filter(|_| code == OK) else {
            return Err("opus: the channel mapping is impossible");
        };
        let decoder = Self { state, channels };
        // SAFETY: the state is valid; this request takes one number, and any 16-bit one is allowed.
        let set = unsafe { opus_multistream_decoder_ctl(state.as_ptr(), SET_GAIN, i32::from(head.gain)) };
        if set == OK { Ok(decoder) } else { Err("opus: the gain cannot be set") }
    }

    /// Decodes a packet to interleaved samples; returns samples per channel, `None` if it is no valid packet.
    pub fn decode(&mut self, packet: &[u8], interleaved: &mut Vec<f32>) -> Option<usize> {
        let frames = duration(packet)?;
        let length = i32::try_from(packet.len()).ok()?;
        interleaved.clear();
        interleaved.resize(frames * self.channels, 0.0);
        // SAFETY: the packet is `length` bytes long, the output has room for `frames` samples of every
        // channel, and libopus writes no more samples than the room given to it.
        let decoded = unsafe {
            opus_multistream_decode_float(
                self.state.as_ptr(),
                packet.as_ptr(),
                length,
                interleaved.as_mut_ptr(),
                frames as c_int,
                0,
            )
        };
        // Errors are negative.
        let decoded = usize::try_from(decoded).ok().filter(|decoded| (1..=frames).contains(decoded))?;
        interleaved.truncate(decoded * self.channels);
        Some(decoded)
    }
}

/// Returns the samples per channel that a packet says it holds, 120 to 5,760; `None` if it is empty or says more.
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
    fn durations_match_rfc_6716() {
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
