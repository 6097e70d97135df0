//! The decoder compiled for the processor's vectors. The only module of this crate with `unsafe`: one call of a function
//! that needs AVX2 and BMI2, behind the test that the processor has them.

use super::{Decoder, Parts};
use crate::Fault;

impl Decoder {
    /// [`Self::granules_plain`], as fast as the processor can; the samples are the same to the bit.
    pub(super) fn granules(
        &mut self,
        parts: &Parts,
        begin: usize,
        done: &mut usize,
        out: &mut Vec<f32>,
    ) -> Result<(), Fault> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi2") {
            // SAFETY: the line above asked the processor for what `granules_avx2` is compiled for.
            return unsafe { self.granules_avx2(parts, begin, done, out) };
        }
        self.granules_plain(parts, begin, done, out)
    }

    /// [`Self::granules_plain`] compiled for vectors of eight numbers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi2")]
    fn granules_avx2(
        &mut self,
        parts: &Parts,
        begin: usize,
        done: &mut usize,
        out: &mut Vec<f32>,
    ) -> Result<(), Fault> {
        self.granules_plain(parts, begin, done, out)
    }
}
