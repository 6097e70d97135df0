//! Checks that arbitrary bytes as an Opus track must pass.

use bc_opus::OpusDecoder;
use bc_testing::memory::within;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder};
use symphonia::core::errors::Error;
use symphonia::core::packet::PacketBuilder;

/// The length of the header in a byte, the header; for each packet its length in two bytes, little-endian, and the packet.
pub fn opus(bytes: &[u8]) {
    within((32 << 20) + 16 * bytes.len(), || decode(bytes));
}

fn decode(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let Some((head, mut rest)) = rest.split_at_checked(length.into()) else { return };
    let mut parameters = AudioCodecParameters::new();
    parameters.with_extra_data(head.into());
    let Ok(mut decoder) = OpusDecoder::try_new(&parameters) else { return };
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (packet, after) = after.split_at(length);
        rest = after;
        let packet = PacketBuilder::new().track_id(0).pts(0.into()).dur(0u64.into()).data(packet).build();
        let mut samples = Vec::<f32>::new();
        match decoder.decode(&packet) {
            Ok(audio) => {
                assert!(audio.frames() <= 5_760, "{} frames", audio.frames());
                audio.copy_to_vec_interleaved(&mut samples);
                assert!(samples.iter().all(|sample| sample.is_finite()), "a sample that is not finite");
            }
            Err(Error::DecodeError(_)) => assert_eq!(decoder.last_decoded().frames(), 0),
            Err(error) => panic!("{error}"),
        }
    }
}
