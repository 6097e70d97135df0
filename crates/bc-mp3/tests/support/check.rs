//! Checks that arbitrary bytes must pass. Tests run them on files, the fuzz target on its own inputs.

use bc_mp3::{Decoder, Output, Reader};

/// Frames and decodes `bytes` to all kinds of output.
///
/// # Panics
/// Where the outputs contradict each other.
pub fn check(bytes: &[u8]) {
    let mut reader = Reader::new(bytes, Some(bytes.len() as u64));
    let outputs = [Output::Channels, Output::Mono, Output::HalfMono { phase: 1 }];
    let mut decoders = outputs.map(Decoder::new);
    let (mut total, mut channels, mut comparable) = (0, None, true);
    while let Some(frame) = reader.next_frame().expect("memory can be read") {
        total += frame.bytes.len();
        let header = frame.header;
        let [mut all, mut mono, mut half] = [const { Vec::new() }; 3];
        let decoded = decoders[0].decode(frame.bytes, &mut all);
        let in_mono = decoders[1].decode(frame.bytes, &mut mono);
        let in_half = decoders[2].decode(frame.bytes, &mut half);
        assert_eq!(all.len(), header.samples() * header.channels());
        assert_eq!((mono.len(), half.len()), (header.samples(), header.samples() / 2));
        assert!([&all, &mono, &half].iter().all(|samples| samples.iter().all(|sample| sample.is_finite())));
        // Less is read for one channel and half the rate, and so less can be wrong.
        assert!(decoded.is_err() || in_mono.is_ok(), "{in_mono:?}");
        assert!(in_mono.is_err() || in_half.is_ok(), "{in_half:?}");
        // A fault leaves the decoders in different states, and so does a channel that comes or goes.
        comparable &= decoded.is_ok() && channels.is_none_or(|known| known == header.channels());
        channels = Some(header.channels());
        if comparable {
            let mean = |frame: &[f32]| frame.iter().sum::<f32>() / frame.len() as f32;
            let loudest = all.iter().fold(1.0f32, |max, sample| max.max(sample.abs()));
            for (frame, sample) in all.chunks_exact(header.channels()).zip(&mono) {
                assert!((mean(frame) - sample).abs() <= 1e-4 * loudest, "{frame:?} {sample} {loudest}");
            }
        }
    }
    assert!(total <= bytes.len(), "{total} bytes of frames in {}", bytes.len());
}
