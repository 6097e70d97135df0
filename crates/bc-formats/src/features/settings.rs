//! The settings of the constant-Q transform. Two feature files can be used together only if their settings are equal.

use serde::{Deserialize, Serialize};

/// All settings that change the value of a feature.
///
/// Bin `b` (from 0) is centred on `fmin_hz * 2^(b / bins_per_octave)` Hz. Frame `t` of the unpooled transform is centred on sample
/// `t * hop_length` of the resampled signal. A stored column is the mean of `pool` frames (a remainder at the end is dropped).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CqtSettings {
    /// Rate the audio is resampled to, in Hz.
    pub sample_rate: u32,
    /// Distance of two frames before pooling, in samples.
    pub hop_length: u32,
    /// Number of frequency bins.
    pub bins: u32,
    /// Bins per octave.
    pub bins_per_octave: u32,
    /// Centre of the lowest bin, in Hz.
    pub fmin_hz: f64,
    /// Frames averaged into one stored column.
    pub pool: u32,
}

impl Default for CqtSettings {
    /// Returns ByteCover's transform (Du et al. 2021, section 3.1): 84 bins from C1 at 22,050 Hz, hop 512; pooled by 5, so that
    /// training can still stretch time.
    fn default() -> Self {
        Self {
            sample_rate: 22_050,
            hop_length: 512,
            bins: 84,
            bins_per_octave: 12,
            fmin_hz: 32.703_195_662_574_83,
            pool: 5,
        }
    }
}

impl CqtSettings {
    /// Returns the centre frequency of a bin in Hz.
    pub fn frequency(&self, bin: u32) -> f64 {
        self.fmin_hz * 2f64.powf(f64::from(bin) / f64::from(self.bins_per_octave))
    }

    /// Returns the time from one stored column to the next, in seconds.
    pub fn column_seconds(&self) -> f64 {
        f64::from(self.hop_length) * f64::from(self.pool) / f64::from(self.sample_rate)
    }

    /// Returns the largest number of bins whose centres stay at or below half the sample rate.
    pub fn max_bins(&self) -> u32 {
        let octaves = (f64::from(self.sample_rate) / 2.0 / self.fmin_hz).log2();
        if octaves < 0.0 { 0 } else { (octaves * f64::from(self.bins_per_octave) + 1e-9).floor() as u32 + 1 }
    }

    /// Returns the differences to `other`, as `name: ours against theirs`, for error messages.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut put = |name: &str, a: String, b: String| {
            if a != b {
                found.push(format!("{name}: {a} against {b}"));
            }
        };
        put("sample_rate", self.sample_rate.to_string(), other.sample_rate.to_string());
        put("hop_length", self.hop_length.to_string(), other.hop_length.to_string());
        put("bins", self.bins.to_string(), other.bins.to_string());
        put("bins_per_octave", self.bins_per_octave.to_string(), other.bins_per_octave.to_string());
        put("fmin_hz", self.fmin_hz.to_string(), other.fmin_hz.to_string());
        put("pool", self.pool.to_string(), other.pool.to_string());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_round_trip_exactly() {
        // Without serde_json's float_roundtrip the first is read back as 97.99885899543734, and such features never
        // fit their own configuration.
        for fmin_hz in [97.998_858_995_437_33, 32.703_195_662_574_83, 27.5, 0.1 + 0.2] {
            let settings = CqtSettings { fmin_hz, ..CqtSettings::default() };
            let text = serde_json::to_value(settings).unwrap().to_string();
            let read: CqtSettings = serde_json::from_str(&text).unwrap();
            assert_eq!(read.differences(&settings), Vec::<String>::new());
        }
    }
}
