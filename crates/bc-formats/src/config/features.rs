//! `[features]`: the constant-Q transform and where its output goes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::section::{Check, SectionProblems, section};
use crate::features::CqtSettings;
use crate::retry::Retry;

/// The decoder for MP3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mp3Decoder {
    /// `bc-mp3`.
    #[default]
    Own,
    /// symphonia, on the frames that `bc-mp3` finds.
    Symphonia,
}

section! {
    /// The constant-Q transform (Du et al. 2021, section 3.1) and where bc-features writes it.
    FeaturesConfig as "features" {
        /// The index to read.
        index: PathBuf = "data/demo/index.parquet".into();
        /// Folder of the feature files.
        output: PathBuf = "data/demo/features".into();
        /// Rate the audio is resampled to, in Hz.
        sample_rate: u32 = 22_050;
        /// Samples between two frames.
        hop_length: u32 = 512;
        /// Number of frequency bins.
        bins: u32 = 84;
        /// Bins per octave.
        bins_per_octave: u32 = 12;
        /// Centre of the lowest bin, in Hz (C1).
        fmin_hz: f64 = 32.703_195_662_574_83;
        /// Frames averaged into one stored column.
        pool: u32 = 5;
        /// Longest time a file may take, in seconds; one that takes longer becomes a failure row and is tried again
        /// by the next run. The same default as [verify], so that what one takes the other takes.
        patience_s: f64 = 120.0;
        /// Longest audio in seconds; a file that decodes to more becomes a failure row.
        longest_s: f64 = 21_600.0;
        /// How often a file is tried again in the same run after an I/O error that may pass (EIO, ESTALE, a file
        /// that ends too early ...), and how often a run is after such an error of its output folder.
        retries: u32 = 3;
        /// Seconds before the first further try; each later wait is twice as long, up to five minutes.
        retry_wait_s: f64 = 1.0;
        /// A feature file ends after this many versions. Larger for millions of versions, so that there are fewer files.
        part_versions: u32 = 128;
        /// A feature file ends after about this many hours of audio: with the key above, what a kill can lose.
        part_hours: f64 = 6.0;
        /// Share of a file's frames (packets) that may fail to decode; with more it becomes a failure row.
        max_error_share: f64 = 0.01;
        /// Decoder for MP3: "own", which is several times as fast and supports all of Layer III, or "symphonia".
        mp3: Mp3Decoder = Mp3Decoder::Own;
    }
}

impl FeaturesConfig {
    /// Returns the settings of the transform, as feature files record them.
    pub fn cqt(&self) -> CqtSettings {
        CqtSettings {
            sample_rate: self.sample_rate,
            hop_length: self.hop_length,
            bins: self.bins,
            bins_per_octave: self.bins_per_octave,
            fmin_hz: self.fmin_hz,
            pool: self.pool,
        }
    }
}

impl FeaturesConfig {
    /// Returns how often operations are tried again after a temporary I/O error.
    pub fn retry(&self) -> Retry {
        Retry { retries: self.retries, wait_s: self.retry_wait_s }
    }
}

impl Check for FeaturesConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        problems.not_empty("index", &self.index);
        problems.not_empty("output", &self.output);
        problems.within("sample_rate", self.sample_rate, 1_000..=768_000, "Hz");
        problems.within("hop_length", self.hop_length, 16..=65_536, "samples");
        problems.within("bins_per_octave", self.bins_per_octave, 1..=192, "");
        problems.within("fmin_hz", self.fmin_hz, 1.0..=20_000.0, "Hz");
        problems.within("pool", self.pool, 1..=1_000, "frames");
        problems.within("patience_s", self.patience_s, 0.01..=1e6, "s");
        problems.within("longest_s", self.longest_s, 1.0..=1e6, "s");
        problems.within("retries", self.retries, 0..=1_000, "");
        problems.within("retry_wait_s", self.retry_wait_s, 0.0..=3_600.0, "s");
        problems.within("part_versions", self.part_versions, 1..=1_000_000, "versions");
        problems.within("part_hours", self.part_hours, 0.001..=100_000.0, "h");
        problems.within("max_error_share", self.max_error_share, 0.0..=1.0, "");
        let max_bins = self.cqt().max_bins();
        problems.require(
            (1..=max_bins).contains(&self.bins),
            "bins",
            format!(
                "is {}, but at fmin_hz = {} and {} Hz at most {max_bins} bins are below half the sample rate",
                self.bins, self.fmin_hz, self.sample_rate
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VerifyConfig;

    #[test]
    fn verify_and_features_have_the_same_default_limits() {
        let (features, verify) = (FeaturesConfig::default(), VerifyConfig::default());
        assert_eq!(features.patience_s, verify.patience_s);
        assert_eq!(features.longest_s, verify.longest_s);
    }
}
