//! Computes the pooled CQT magnitude of a file. Apart from the result, memory does not depend on its length.

use std::path::Path;

use bc_formats::config::{FeaturesConfig, Mp3Decoder};
use bc_formats::features::CqtSettings;
use half::f16;

use crate::cqt::{CqtPlan, CqtStream};
use crate::deadline::{Deadline, watched};
use crate::decode::{DecodeError, Decoder, Frames, Header, Reading};
use crate::resample::Resample;

/// Limits on the time and length of a file and on its errors, and the decoder for MP3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Maximum length of the audio, in seconds.
    pub longest_s: f64,
    /// Maximum time for decoding the file, in seconds.
    pub decode_timeout_s: f64,
    /// Maximum share of frames that do not decode.
    pub max_error_share: f64,
    /// Which decoder decodes MP3.
    pub mp3: Mp3Decoder,
}

impl Limits {
    /// Returns the limits that `[features]` sets.
    pub fn of(config: &FeaturesConfig) -> Self {
        Self {
            longest_s: config.longest_s,
            decode_timeout_s: config.patience_s,
            max_error_share: config.max_error_share,
            mp3: config.mp3,
        }
    }
}

impl Default for Limits {
    /// Returns the limits of an empty `[features]`.
    fn default() -> Self {
        Self::of(&FeaturesConfig::default())
    }
}

/// The features of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Features<T = f16> {
    /// Magnitudes, bins x frames, row-major, lowest bin first.
    pub magnitude: Vec<T>,
    /// Number of pooled columns.
    pub frames: usize,
    /// Decoded length in seconds.
    pub duration_s: f64,
    /// Rate, channels, codec of the file.
    pub header: Header,
    /// Frames of the file that decoded, and those that did not.
    pub file_frames: Frames,
}

/// Extracts features. It holds the plans of the transform, which clones share.
#[derive(Clone)]
pub struct Extractor {
    plan: CqtPlan,
    /// The plan for twice the configured rate, which most files have: they need no resampling.
    twice: CqtPlan,
    limits: Limits,
}

impl Extractor {
    /// Plans the transform of `settings`.
    pub fn new(settings: CqtSettings, limits: Limits) -> Self {
        let plan = CqtPlan::new(settings);
        Self { twice: plan.oversampled(2), plan, limits }
    }

    /// Returns the settings it was planned for.
    pub fn settings(&self) -> &CqtSettings {
        self.plan.settings()
    }

    /// Returns the limits of a file.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Decodes, mixes, resamples, transforms and pools a file.
    ///
    /// # Errors
    /// A file that does not decode, including a panic or an endless loop of a decoder; limits that are exceeded.
    pub fn file(&self, path: &Path) -> Result<Features, DecodeError> {
        self.within_deadline(path)
    }

    /// Computes the features of a file like [`Self::file`], with magnitudes of 32 bits.
    pub fn file_exact(&self, path: &Path) -> Result<Features<f32>, DecodeError> {
        self.within_deadline(path)
    }

    fn within_deadline<T: Stored>(&self, path: &Path) -> Result<Features<T>, DecodeError> {
        let (extractor, path) = (self.clone(), path.to_owned());
        watched(self.limits.decode_timeout_s, move || extractor.decoded(&path))
    }

    fn decoded<T: Stored>(&self, path: &Path) -> Result<Features<T>, DecodeError> {
        let deadline = Deadline::after(self.limits.decode_timeout_s);
        let reading = Reading { need: Some(self.plan.need()), mp3: self.limits.mp3 };
        self.transformed(Decoder::open(path, deadline, reading)?)
    }

    fn transformed<T: Stored>(&self, mut decoder: Decoder) -> Result<Features<T>, DecodeError> {
        let broken = DecodeError::Broken;
        let (plan, mut resample) = self.at_rate(decoder.block_rate()).map_err(broken)?;
        let mut stream = CqtStream::new(plan);
        let mut pooled = Pooled::new(self.settings());
        while let Some(block) = decoder.next_block()? {
            resample
                .push(block, &mut |samples| {
                    stream.push(samples, &mut |m, stride, frames| pooled.add(m, stride, frames))
                })
                .map_err(broken)?;
            if decoder.decoded_s() > self.limits.longest_s {
                return Err(DecodeError::TooLong { limit_s: self.limits.longest_s });
            }
        }
        let (share, max_error_share) = (decoder.frames().error_share(), self.limits.max_error_share);
        if share > max_error_share {
            return Err(DecodeError::Errors { share, max_error_share });
        }
        resample
            .finish(&mut |samples| {
                stream.push(samples, &mut |m, stride, frames| pooled.add(m, stride, frames))
            })
            .map_err(broken)?;
        stream.finish(&mut |m, stride, frames| pooled.add(m, stride, frames));
        let (magnitude, frames) = pooled.finish();
        if frames == 0 {
            return Err(self.too_short(&decoder));
        }
        Ok(Features {
            magnitude,
            frames,
            duration_s: decoder.decoded_s(),
            header: decoder.header().clone(),
            file_frames: decoder.frames(),
        })
    }

    /// Returns the error of a file that is shorter than one column.
    fn too_short(&self, decoder: &Decoder) -> DecodeError {
        let settings = self.settings();
        // A frame of the transform is centred on its sample, so the first one needs no more than that.
        let samples = (f64::from(settings.pool) - 1.0) * f64::from(settings.hop_length) + 1.0;
        DecodeError::TooShort {
            duration_s: decoder.decoded_s(),
            needed_s: samples / f64::from(settings.sample_rate),
        }
    }

    /// Returns the plan for signals of `rate`, and the resampler to the plan's rate.
    fn at_rate(&self, rate: u32) -> Result<(&CqtPlan, Resample), String> {
        let target = self.settings().sample_rate;
        let (plan, taken) = if rate == 2 * target { (&self.twice, rate) } else { (&self.plan, target) };
        Ok((plan, Resample::new(rate, taken)?))
    }

    /// Computes the pooled magnitude, in 32 bits, of mono samples at `rate`, as [`Self::file_exact`] has it of a
    /// file that decodes to them: bins x frames, row-major, and the number of frames.
    ///
    /// # Errors
    /// A rate that the resampler refuses.
    pub fn samples_exact(&self, samples: &[f32], rate: u32) -> Result<(Vec<f32>, usize), String> {
        let (plan, mut resample) = self.at_rate(rate)?;
        let mut stream = CqtStream::new(plan);
        let mut pooled = Pooled::new(self.settings());
        // Piece by piece, as a file comes: all at once would be moved after every block.
        for piece in samples.chunks(1 << 16) {
            resample.push(piece, &mut |samples| {
                stream.push(samples, &mut |m, stride, frames| pooled.add(m, stride, frames))
            })?;
        }
        resample.finish(&mut |samples| {
            stream.push(samples, &mut |m, stride, frames| pooled.add(m, stride, frames))
        })?;
        stream.finish(&mut |m, stride, frames| pooled.add(m, stride, frames));
        Ok(pooled.finish())
    }

    /// Computes the pooled magnitude of samples that are already mono and at the configured rate:
    /// bins x frames, row-major, and the number of frames.
    pub fn samples(&self, samples: &[f32]) -> (Vec<f16>, usize) {
        let mut stream = CqtStream::new(&self.plan);
        let mut pooled = Pooled::new(self.settings());
        stream.push(samples, &mut |m, stride, frames| pooled.add(m, stride, frames));
        stream.finish(&mut |m, stride, frames| pooled.add(m, stride, frames));
        pooled.finish()
    }
}

/// A type in which magnitudes are stored.
trait Stored: Copy + Send + 'static {
    fn of(value: f32) -> Self;
}

impl Stored for f16 {
    fn of(value: f32) -> Self {
        // The largest finite number instead of infinity, which later stages could not use.
        Self::from_f32(value.min(Self::MAX.to_f32()))
    }
}

impl Stored for f32 {
    fn of(value: f32) -> Self {
        value
    }
}

/// The means over `pool` frames, collected column after column until the number of columns is known.
struct Pooled<T> {
    bins: usize,
    pool: usize,
    sums: Vec<f32>,
    filled: usize,
    columns: Vec<T>,
}

impl<T: Stored> Pooled<T> {
    fn new(settings: &CqtSettings) -> Self {
        let bins = settings.bins as usize;
        Self { bins, pool: settings.pool as usize, sums: vec![0.0; bins], filled: 0, columns: Vec::new() }
    }

    fn add(&mut self, magnitudes: &[f32], stride: usize, frames: usize) {
        let share = 1.0 / self.pool as f32;
        for frame in 0..frames {
            for (bin, sum) in self.sums.iter_mut().enumerate() {
                *sum += magnitudes[bin * stride + frame];
            }
            self.filled += 1;
            if self.filled == self.pool {
                self.columns.extend(self.sums.iter().map(|sum| T::of(sum * share)));
                self.sums.fill(0.0);
                self.filled = 0;
            }
        }
    }

    fn finish(self) -> (Vec<T>, usize) {
        let frames = self.columns.len() / self.bins;
        let mut rows = vec![T::of(0.0); self.columns.len()];
        for (frame, column) in self.columns.chunks_exact(self.bins).enumerate() {
            for (bin, value) in column.iter().enumerate() {
                rows[bin * frames + frame] = *value;
            }
        }
        (rows, frames)
    }
}
