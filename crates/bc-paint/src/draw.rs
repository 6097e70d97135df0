//! The input of a random version: its position and the settings of the configuration.

use bc_formats::config::PaintConfig;

/// Which version: everything that is drawn of it follows from these and the work's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Seed of the run.
    pub seed: u64,
    /// Versions of one epoch begin near a common place of the work.
    pub epoch: u64,
    /// Number of the version among those of its work and epoch.
    pub version: u64,
}

/// How far versions may differ, from the configuration's section `[paint]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Taste {
    /// Semitones, from and to.
    pub transpose: [i32; 2],
    /// Factors of the tempo, from and to.
    pub tempo: [f32; 2],
    /// The versions' common beginning is drawn from this many seconds of the work.
    pub begin_s: f32,
    /// Seconds that a version begins before or behind it.
    pub spread_s: f32,
    /// Factor of how often sections are left out, repeated or moved.
    pub edits: f32,
}

impl Taste {
    /// The settings of the configuration.
    pub fn of(config: &PaintConfig) -> Self {
        Self {
            transpose: config.transpose,
            tempo: config.tempo.map(|factor| factor as f32),
            begin_s: config.begin_s as f32,
            spread_s: config.spread_s as f32,
            edits: config.edits as f32,
        }
    }
}
