//! The inputs of the random choices of a version: its seed and position, and the ranges of the configuration.

use bc_formats::config::PaintConfig;

/// The seed and position of a version: together with the work's id they determine all its random choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionSeed {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the epoch; versions of one epoch begin near a common point of the work.
    pub epoch: u64,
    /// Number of the version among those of its work and epoch.
    pub version: u64,
}

/// How far versions may differ from the source, as configured in section `[paint]`.
#[derive(Debug, Clone, PartialEq)]
pub struct VariationRange {
    /// Smallest and largest transposition in semitones.
    pub transpose: [i32; 2],
    /// Smallest and largest factor of the tempo.
    pub tempo: [f32; 2],
    /// The point near which the versions of an epoch begin is drawn from the first `begin_s` seconds of the work.
    pub begin_s: f32,
    /// Maximum number of seconds by which a version begins before or after that point.
    pub spread_s: f32,
    /// Factor on the probabilities that sections are left out, repeated or moved.
    pub edits: f32,
}

impl VariationRange {
    /// Reads the ranges from the configuration.
    pub fn from_config(config: &PaintConfig) -> Self {
        Self {
            transpose: config.transpose,
            tempo: config.tempo.map(|factor| factor as f32),
            begin_s: config.begin_s as f32,
            spread_s: config.spread_s as f32,
            edits: config.edits as f32,
        }
    }
}
