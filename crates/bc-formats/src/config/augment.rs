//! `[augment]`: what is done to training crops.

use serde::{Deserialize, Serialize};

use super::section::{Check, SectionProblems, section};

/// What shares one stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StretchScope {
    /// Every crop of a batch; the batch gets longer or shorter.
    Batch,
    /// One crop, which keeps its length: more or less of the track is read.
    Crop,
}

section! {
    /// Augmentation of training crops, on magnitudes; each with a probability and a range, drawn
    /// uniformly. In this order: stretch, transposition, tilt, octaves, power, noise, scale, gain, SpecAugment
    /// (whose masks come before the scale where silence is not zero after it: "log-centred", "chroma").
    AugmentConfig as "augment" {
        /// Probability of a time stretch.
        stretch_probability: f64 = 0.0;
        /// Range of its rate: above 1 is faster.
        stretch: [f64; 2] = [0.7, 1.3];
        /// No stretch if the rate drawn is within this of 1.
        stretch_dead_zone: f64 = 0.0;
        /// One rate a "batch" (which gets longer or shorter) or a "crop" (which keeps its length).
        stretch_scope: StretchScope = StretchScope::Crop;
        /// Probability of a transposition.
        transpose_probability: f64 = 0.0;
        /// Its range in bins: up if positive.
        transpose_bins: [i32; 2] = [-12, 12];
        /// Probability of a tilt of the spectrum.
        tilt_probability: f64 = 0.0;
        /// Its range in decibels per octave: brighter if positive.
        tilt_db_per_octave: [f64; 2] = [-3.0, 3.0];
        /// Probability that every octave gets its own level: for a scale that sums octaves ("chroma").
        octaves_probability: f64 = 0.0;
        /// Standard deviation of an octave's level in decibels.
        octaves_db: f64 = 6.0;
        /// Probability that the magnitudes, as shares of the crop's maximum, are raised to a power: other programs' chroma
        /// is of squared magnitudes, of peaks alone, or compressed.
        power_probability: f64 = 0.0;
        /// Range of the exponent: above 1 keeps the loudest.
        power: [f64; 2] = [0.7, 2.5];
        /// Probability of added noise.
        noise_probability: f64 = 0.0;
        /// Its range in decibels, relative to the crop's root mean square.
        noise_db: [f64; 2] = [-40.0, -20.0];
        /// Probability of another level.
        gain_probability: f64 = 0.0;
        /// Its range in decibels.
        gain_db: [f64; 2] = [-6.0, 6.0];
        /// Probability of SpecAugment: one band of bins and one stretch of frames are silenced.
        specaugment_probability: f64 = 0.0;
        /// Range of the share of bins.
        specaugment_bins: [f64; 2] = [0.15, 0.15];
        /// Range of the share of frames.
        specaugment_frames: [f64; 2] = [0.15, 0.15];
    }
}

impl Check for AugmentConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        let probabilities = [
            ("stretch_probability", self.stretch_probability),
            ("transpose_probability", self.transpose_probability),
            ("tilt_probability", self.tilt_probability),
            ("octaves_probability", self.octaves_probability),
            ("power_probability", self.power_probability),
            ("noise_probability", self.noise_probability),
            ("gain_probability", self.gain_probability),
            ("specaugment_probability", self.specaugment_probability),
        ];
        for (key, probability) in probabilities {
            problems.within(key, probability, 0.0..=1.0, "");
        }
        problems.within("octaves_db", self.octaves_db, 0.0..=60.0, "dB");
        problems.within("stretch_dead_zone", self.stretch_dead_zone, 0.0..=1.0, "");
        let semitones = self.transpose_bins.map(f64::from);
        let ranges = [
            ("stretch", self.stretch, 0.1, 10.0),
            ("transpose_bins", semitones, -1_000.0, 1_000.0),
            ("tilt_db_per_octave", self.tilt_db_per_octave, -60.0, 60.0),
            ("power", self.power, 0.05, 20.0),
            ("noise_db", self.noise_db, -200.0, 60.0),
            ("gain_db", self.gain_db, -200.0, 60.0),
            ("specaugment_bins", self.specaugment_bins, 0.0, 1.0),
            ("specaugment_frames", self.specaugment_frames, 0.0, 1.0),
        ];
        for (key, [low, high], min, max) in ranges {
            problems.require(
                low <= high && low >= min && high <= max,
                key,
                format!("is [{low}, {high}], but must be [low, high] from {min} to {max}"),
            );
        }
    }
}
