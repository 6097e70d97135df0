//! Resamples to the configured rate, block by block.
//!
//! rubato's synchronous FFT resampler: exact rational ratios and linear phase. Its delay is
//! removed, so that sample n of the output has the time of sample `n * in / out`.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

/// Minimum number of input samples per call, which is also the length of the anti-aliasing filter.
const CHUNK: usize = 4096;

/// Returns the number of input samples per call for a pair of rates. The filter's delay is half of that: an even multiple of the
/// smallest exact ratio makes the delay a whole number of output samples, so that it can be removed.
fn chunk(from: u32, to: u32) -> usize {
    let (mut a, mut b) = (from, to);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    CHUNK.next_multiple_of(2 * (from / a) as usize)
}

/// Converts a stream of samples to another rate.
pub struct Resample {
    /// `None` if the rates are equal.
    resampler: Option<Fft<f32>>,
    pending: Vec<f32>,
    output: Vec<f32>,
    /// Number of output samples that are still to be dropped, because of the filter's delay.
    delay: usize,
    ratio: (u64, u64),
    taken: u64,
    given: u64,
}

impl Resample {
    /// Creates a stream from `from` Hz to `to` Hz.
    ///
    /// # Errors
    /// A rate of zero, or a ratio that the resampler refuses.
    pub fn new(from: u32, to: u32) -> Result<Self, String> {
        let resampler = if from == to {
            None
        } else {
            let resampler = Fft::new_custom(
                from as usize,
                to as usize,
                chunk(from, to),
                1,
                1,
                WindowFunction::BlackmanHarris2,
                FixedSync::Input,
            );
            Some(resampler.map_err(|error| error.to_string())?)
        };
        Ok(Self {
            delay: resampler.as_ref().map_or(0, |resampler| resampler.output_delay()),
            output: vec![0.0; resampler.as_ref().map_or(0, |resampler| resampler.output_frames_max())],
            resampler,
            pending: Vec::new(),
            ratio: (u64::from(from), u64::from(to)),
            taken: 0,
            given: 0,
        })
    }

    /// Adds samples, and calls `take` with the output that is complete.
    pub fn push(&mut self, samples: &[f32], take: &mut impl FnMut(&[f32])) -> Result<(), String> {
        self.taken += samples.len() as u64;
        if self.resampler.is_none() {
            take(samples);
            return Ok(());
        }
        self.pending.extend_from_slice(samples);
        let mut used = 0;
        while let Some(resampler) = &self.resampler {
            let needed = resampler.input_frames_next();
            if self.pending.len() - used < needed {
                break;
            }
            self.step(used, needed, u64::MAX, take)?;
            used += needed;
        }
        self.pending.drain(..used);
        Ok(())
    }

    /// Ends the stream and passes on the remaining output: in total `ceil(samples * to / from)` samples.
    pub fn finish(mut self, take: &mut impl FnMut(&[f32])) -> Result<(), String> {
        if self.resampler.is_none() {
            return Ok(());
        }
        let total = (self.taken * self.ratio.1).div_ceil(self.ratio.0);
        while self.given < total {
            let needed = self.resampler.as_ref().map_or(0, |resampler| resampler.input_frames_next());
            self.pending.resize(needed, 0.0);
            self.step(0, needed, total, take)?;
            self.pending.clear();
        }
        Ok(())
    }

    fn step(
        &mut self,
        from: usize,
        count: usize,
        total: u64,
        take: &mut impl FnMut(&[f32]),
    ) -> Result<(), String> {
        let Some(resampler) = &mut self.resampler else { return Ok(()) };
        let input =
            InterleavedSlice::new(&self.pending[from..from + count], 1, count).map_err(|e| e.to_string())?;
        let capacity = self.output.len();
        let mut output =
            InterleavedSlice::new_mut(&mut self.output, 1, capacity).map_err(|e| e.to_string())?;
        let (_, written) =
            resampler.process_into_buffer(&input, &mut output, None).map_err(|error| error.to_string())?;
        let skipped = self.delay.min(written);
        self.delay -= skipped;
        let left = usize::try_from(total - self.given).unwrap_or(usize::MAX);
        let end = written.min(skipped.saturating_add(left));
        self.given += (end - skipped) as u64;
        take(&self.output[skipped..end]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(from: u32, to: u32, samples: &[f32], piece: usize) -> Vec<f32> {
        let mut resample = Resample::new(from, to).unwrap();
        let mut out = Vec::new();
        for piece in samples.chunks(piece) {
            resample.push(piece, &mut |samples| out.extend_from_slice(samples)).unwrap();
        }
        resample.finish(&mut |samples| out.extend_from_slice(samples)).unwrap();
        out
    }

    #[test]
    fn resampled_sine_keeps_phase_and_length_with_any_piece_size() {
        for from in [44_100u32, 48_000, 16_000, 22_050, 32_000] {
            let tone = |rate: u32, n: usize| {
                (n as f64 / f64::from(rate) * 440.0 * std::f64::consts::TAU).sin() as f32
            };
            let samples: Vec<f32> = (0..from as usize).map(|n| tone(from, n)).collect();
            let out = run(from, 22_050, &samples, 1_000);
            assert_eq!(out.len(), 22_050, "from {from}");
            assert_eq!(out, run(from, 22_050, &samples, 4_567));
            let worst = (2_000..20_000).map(|n| (out[n] - tone(22_050, n)).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-4, "from {from}: {worst}");
        }
    }
}
