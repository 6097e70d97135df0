//! Transforms a stream of samples to magnitudes, block by block.

use std::sync::Arc;

use bc_formats::features::CqtSettings;
use rayon::prelude::*;
use realfft::{RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::kernel::{HALF_BAND, Kernel, window_length};
use super::simd::fold;
use crate::need::Need;

/// Blocks are at least this many times the longest window, so that little of a block is overlap.
const BLOCK_WINDOWS: usize = 8;

/// Everything about a transform that does not depend on the signal; computed once and shared by threads.
#[derive(Clone)]
pub struct CqtPlan {
    settings: CqtSettings,
    kernels: Arc<Vec<Kernel>>,
    /// Samples of the signal per sample at the settings' rate.
    oversampling: usize,
    /// The smallest power of two that is at least the longest window; half of it is reflected at either end.
    window: usize,
    /// Number of frames that the inverse FFTs of a block give; a block has `columns * hop` samples.
    columns: usize,
    /// Number of these frames whose windows are inside the block.
    frames: usize,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// Advances the spectrum by half a sample, for windows of odd length.
    half_sample: Arc<Vec<Complex32>>,
}

impl CqtPlan {
    /// Plans the transform of `settings`, which must have passed their checks
    /// (bins below half the sample rate, hop of at least one sample).
    pub fn new(settings: CqtSettings) -> Self {
        let hop = settings.hop_length as usize;
        // What stays pending after a block, a window less a hop, must hold what is reflected at the end, half a window.
        let window = window_length(&settings, 0).next_power_of_two().max(4 * hop);
        let columns = (BLOCK_WINDOWS * window).div_ceil(hop).next_power_of_two();
        let block = columns * hop;
        let kernels =
            (0..settings.bins).into_par_iter().map(|bin| Kernel::new(&settings, bin, block)).collect();
        let half_sample = (0..=block / 2)
            .map(|point| {
                let angle = -std::f64::consts::PI * point as f64 / block as f64;
                Complex32::new(angle.cos() as f32, angle.sin() as f32)
            })
            .collect();
        Self {
            settings,
            kernels: Arc::new(kernels),
            oversampling: 1,
            window,
            columns,
            frames: (block - window) / hop + 1,
            forward: RealFftPlanner::new().plan_fft_forward(block),
            inverse: FftPlanner::new().plan_fft_inverse(columns),
            half_sample: Arc::new(half_sample),
        }
    }

    /// Returns the same transform for a signal with `times` as many samples per second.
    ///
    /// A block that is longer by that factor has the same spectrum (scaled) up to half the settings' rate. Using only this
    /// part of it is an ideal low-pass filter, so no resampling is needed.
    pub fn oversampled(&self, times: usize) -> Self {
        let forward = RealFftPlanner::new().plan_fft_forward(self.block() * times);
        Self { oversampling: times, forward, ..self.clone() }
    }

    /// Returns the part of a signal that the transform uses: up to the upper end of the highest bin's band.
    pub fn need(&self) -> Need {
        let (settings, top) = (&self.settings, self.settings.bins.saturating_sub(1));
        let rate = f64::from(settings.sample_rate);
        let half_band = HALF_BAND * rate / window_length(settings, top) as f64;
        let highest_hz = (settings.frequency(top) + half_band).min(rate / 2.0);
        Need { sample_rate: settings.sample_rate, highest_hz }
    }

    /// Returns the settings it was planned for.
    pub fn settings(&self) -> &CqtSettings {
        &self.settings
    }

    /// Returns the number of samples of a block, at the settings' rate.
    fn block(&self) -> usize {
        self.columns * self.settings.hop_length as usize
    }

    /// Returns the number of samples of the signal from one frame to the next.
    fn hop(&self) -> usize {
        self.settings.hop_length as usize * self.oversampling
    }

    /// Returns the number of samples of the signal that are reflected at either end.
    fn edge(&self) -> usize {
        self.window / 2 * self.oversampling
    }
}

/// The transform of one signal, fed in pieces of any size. Memory: about one block.
pub struct CqtStream<'a> {
    plan: &'a CqtPlan,
    /// Samples that later frames need, including the reflection.
    pending: Vec<f32>,
    /// Number of samples that were pushed.
    samples: usize,
    /// Number of frames that were passed on.
    given: usize,
    /// Whether the reflection at the start has been added.
    padded: bool,
    scratch: Scratch,
}

struct Scratch {
    block: Vec<f32>,
    spectrum: Vec<Complex32>,
    early: Vec<Complex32>,
    forward: Vec<Complex32>,
    folded: Vec<Complex32>,
    inverse: Vec<Complex32>,
    magnitudes: Vec<f32>,
}

impl<'a> CqtStream<'a> {
    /// Creates a stream without samples.
    pub fn new(plan: &'a CqtPlan) -> Self {
        let scratch = Scratch {
            block: plan.forward.make_input_vec(),
            spectrum: plan.forward.make_output_vec(),
            early: vec![Complex32::ZERO; plan.block() / 2 + 1],
            forward: plan.forward.make_scratch_vec(),
            folded: vec![Complex32::ZERO; plan.columns],
            inverse: vec![Complex32::ZERO; plan.inverse.get_inplace_scratch_len()],
            magnitudes: vec![0.0; plan.settings.bins as usize * plan.frames],
        };
        Self { plan, pending: Vec::new(), samples: 0, given: 0, padded: false, scratch }
    }

    /// Adds samples, and calls `take(magnitudes, stride, frames)` with the frames that are complete: bin `b` of frame `t` is
    /// `magnitudes[b * stride + t]`.
    pub fn push(&mut self, samples: &[f32], take: &mut impl FnMut(&[f32], usize, usize)) {
        // Piecewise, since what is pending moves to the front after every block.
        for piece in samples.chunks(self.plan.frames * self.plan.hop()) {
            self.push_piece(piece, take);
        }
    }

    fn push_piece(&mut self, samples: &[f32], take: &mut impl FnMut(&[f32], usize, usize)) {
        self.samples += samples.len();
        self.pending.extend_from_slice(samples);
        let edge = self.plan.edge();
        if !self.padded && self.pending.len() > edge {
            let head: Vec<f32> = (1..=edge).rev().map(|n| self.pending[n]).collect();
            self.pending.splice(0..0, head);
            self.padded = true;
        }
        if self.padded {
            while self.pending.len() >= self.plan.block() * self.plan.oversampling {
                self.run_block(self.plan.frames, take);
            }
        }
    }

    /// Ends the signal: reflects its end and passes on the remaining frames. A signal of n > 0 samples has `n / hop + 1` frames
    /// in total, an empty one none.
    pub fn finish(mut self, take: &mut impl FnMut(&[f32], usize, usize)) {
        if self.samples == 0 {
            return;
        }
        let edge = self.plan.edge();
        // The end is the last sample that a signal at the settings' rate would have.
        let beyond = (self.samples - 1) % self.plan.oversampling;
        self.pending.truncate(self.pending.len() - beyond);
        if self.padded {
            let end = self.pending.len();
            let tail: Vec<f32> = (1..=edge).map(|n| self.pending[end - 1 - n]).collect();
            self.pending.extend_from_slice(&tail);
        } else {
            self.pending = reflect_short(&self.pending, edge);
        }
        let total =
            self.samples.div_ceil(self.plan.oversampling) / self.plan.settings.hop_length as usize + 1;
        while self.given < total {
            let block = self.plan.block() * self.plan.oversampling;
            if self.pending.len() < block {
                self.pending.resize(block, 0.0);
            }
            self.run_block(self.plan.frames.min(total - self.given), take);
        }
    }

    fn run_block(&mut self, frames: usize, take: &mut impl FnMut(&[f32], usize, usize)) {
        let plan = self.plan;
        let block = plan.block() * plan.oversampling;
        let scratch = &mut self.scratch;
        // Turned by half a window, so that a frame's centre and not its start is the origin:
        // that takes the linear phase of every even kernel away.
        let centre = plan.edge();
        scratch.block[..block - centre].copy_from_slice(&self.pending[centre..block]);
        scratch.block[block - centre..].copy_from_slice(&self.pending[..centre]);
        plan.forward
            .process_with_scratch(&mut scratch.block, &mut scratch.spectrum, &mut scratch.forward)
            .expect("the buffers are of the planned lengths");
        for ((out, value), turn) in
            scratch.early.iter_mut().zip(&scratch.spectrum).zip(plan.half_sample.iter())
        {
            *out = value * turn;
        }
        let stride = plan.frames;
        let scale = 1.0 / plan.oversampling as f32;
        for (bin, kernel) in plan.kernels.iter().enumerate() {
            let spectrum = if kernel.odd { &scratch.early } else { &scratch.spectrum };
            fold(&mut scratch.folded, spectrum, kernel);
            plan.inverse.process_with_scratch(&mut scratch.folded, &mut scratch.inverse);
            let row = &mut scratch.magnitudes[bin * stride..(bin + 1) * stride];
            for (out, value) in row.iter_mut().zip(&scratch.folded) {
                *out = scale * value.norm_sqr().sqrt();
            }
        }
        take(&scratch.magnitudes, stride, frames);
        self.given += frames;
        self.pending.drain(..frames * plan.hop());
    }
}

/// Returns a signal that is shorter than the reflection, reflected repeatedly.
fn reflect_short(samples: &[f32], edge: usize) -> Vec<f32> {
    let last = samples.len() as isize - 1;
    (-(edge as isize)..samples.len() as isize + edge as isize)
        .map(|n| {
            if last == 0 {
                return samples[0];
            }
            let turned = n.rem_euclid(2 * last);
            samples[turned.min(2 * last - turned) as usize]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of `samples`, pushed whole.
    fn frames(plan: &CqtPlan, samples: &[f32]) -> Vec<f32> {
        let mut stream = CqtStream::new(plan);
        let mut all = Vec::new();
        let bins = plan.settings.bins as usize;
        let mut take = |magnitudes: &[f32], stride: usize, frames: usize| {
            for frame in 0..frames {
                all.extend((0..bins).map(|bin| magnitudes[bin * stride + frame]));
            }
        };
        stream.push(samples, &mut take);
        stream.finish(&mut take);
        all
    }

    #[test]
    fn stream_may_end_at_a_block_boundary() {
        // Windows of 363 samples and fewer, so that the hop is longer than half of any.
        let settings = CqtSettings { hop_length: 512, bins: 12, fmin_hz: 1_000.0, ..CqtSettings::default() };
        for times in [1, 2] {
            let plan = match CqtPlan::new(settings) {
                plan if times == 1 => plan,
                plan => plan.oversampled(2),
            };
            let rate = (times * settings.sample_rate as usize) as f32;
            let tone = |n: usize| (n as f32 / rate * 1_000.0 * std::f32::consts::TAU).cos();
            let block = plan.block() * times;
            for length in (block - plan.edge() - 2..).take(4).chain((7_680 * times - 1..).take(3)) {
                let samples: Vec<f32> = (0..length).map(tone).collect();
                let magnitudes = frames(&plan, &samples);
                let count = length.div_ceil(times) / 512 + 1;
                assert_eq!(magnitudes.len(), 12 * count, "{length}");
                // A steady tone in the lowest bin, reflected or not, sounds the same from a window after the start on.
                let steady = magnitudes[12 * 4];
                let worst =
                    (2..count - 2).map(|frame| (magnitudes[12 * frame] - steady).abs()).fold(0.0, f32::max);
                assert!(steady > 1.0 && worst < 0.01 * steady, "{length}: {worst} of {steady}");
            }
        }
    }

    #[test]
    fn half_rate_is_sufficient_only_below_the_band_of_the_highest_bin() {
        let halves = |bins: u32, rate: u32| {
            let settings = CqtSettings { bins, ..CqtSettings::default() };
            CqtPlan::new(settings).need().is_met_by_half(rate)
        };
        assert!(halves(84, 44_100) && halves(84, 48_000));
        // The band of the 96th bin ends beyond 11,025 Hz, and the signal of half of 44,100 Hz is right to 10,336.
        assert!(!halves(96, 44_100) && halves(96, 48_000));
    }
}
