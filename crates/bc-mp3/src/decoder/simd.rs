//! The decoder compiled for the processor's vectors. The only module of this crate with `unsafe`: one call of a function
//! that needs AVX2 and BMI2, called after checking that the CPU has them.

#![allow(unsafe_code, reason = "a call of instructions that the processor was checked for")]

use super::{Decoder, Parts};
use crate::FrameError;

impl Decoder {
    /// Decodes granules like [`Self::granules_plain`], with the widest vectors of the processor; the samples are the same to the bit.
    pub(super) fn granules(
        &mut self,
        parts: &Parts,
        begin: usize,
        done: &mut usize,
        out: &mut Vec<f32>,
    ) -> Result<(), FrameError> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi2") {
            // SAFETY: the line above asked the processor for what `granules_avx2` is compiled for.
            return unsafe { self.granules_avx2(parts, begin, done, out) };
        }
        self.granules_plain(parts, begin, done, out)
    }

    /// Runs [`Self::granules_plain`] compiled for vectors of eight numbers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi2")]
    fn granules_avx2(
        &mut self,
        parts: &Parts,
        begin: usize,
        done: &mut usize,
        out: &mut Vec<f32>,
    ) -> Result<(), FrameError> {
        self.granules_plain(parts, begin, done, out)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::decoder::Output;
    use crate::reader::Reader;
    use crate::side_info::SideInfo;

    /// The first frame of each fixture, which needs no bytes of an earlier one; one fixture and output under Miri.
    #[test]
    fn simd_and_scalar_samples_are_bit_identical() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "mp3"));
        let mut decoded = 0;
        for path in files.take(if cfg!(miri) { 1 } else { usize::MAX }) {
            let bytes = std::fs::read(&path).unwrap();
            let mut reader = Reader::new(&bytes[..], None);
            let frame = reader.next_frame().unwrap().unwrap();
            let header = &frame.header;
            let side = &SideInfo::read(header, frame.bytes).unwrap();
            let main_data = &frame.bytes[header.bytes() + header.side_info_bytes()..];
            let parts = Parts { header, side, main_data };
            let outputs = [Output::HalfMono { phase: 1 }, Output::Mono, Output::Channels];
            for output in outputs.into_iter().take(if cfg!(miri) { 1 } else { 3 }) {
                let (mut ours, mut plain) = (Vec::new(), Vec::new());
                Decoder::new(output).granules(&parts, 0, &mut 0, &mut ours).unwrap();
                Decoder::new(output).granules_plain(&parts, 0, &mut 0, &mut plain).unwrap();
                let bits =
                    |samples: &[f32]| samples.iter().map(|sample| sample.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&ours), bits(&plain), "{} as {output:?}", path.display());
                decoded += ours.len();
            }
        }
        assert!(decoded > if cfg!(miri) { 100 } else { 10_000 }, "{decoded} samples");
    }
}
