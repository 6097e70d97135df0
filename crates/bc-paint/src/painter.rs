//! Versions of works as pictures.

use anyhow::{Result, ensure};
use bc_formats::config::PaintConfig;
use bc_formats::features::CqtSettings;

pub use crate::sound::Picture;

use crate::arrange;
use crate::dice::Dice;
use crate::sound::{self, grid::Grid};
use crate::work::Work;

/// Which version: everything that is drawn of it follows from these and the work's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Of the run.
    pub seed: u64,
    /// Versions of one epoch begin near a common place of the work.
    pub epoch: u64,
    /// Its number among them.
    pub version: u64,
}

/// How far versions may differ, from the configuration's section `[paint]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Taste {
    /// Semitones, from and to.
    pub transpose: [i32; 2],
    /// Factors of the tempo, from and to.
    pub tempo: [f32; 2],
    /// The versions' common beginning is drawn from so many seconds of the work.
    pub begin_s: f32,
    /// Seconds that a version begins before or behind it.
    pub spread_s: f32,
    /// Factor of how often sections are left out, repeated or moved.
    pub edits: f32,
}

impl Taste {
    /// What the configuration says.
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

/// Paints versions; shared by threads.
#[derive(Debug, Clone)]
pub struct Painter {
    grid: Grid,
    taste: Taste,
}

impl Painter {
    /// A painter of the transform of `settings`, its columns pooled by `settings.pool`.
    ///
    /// # Errors
    /// Bins that are no parts of a semitone.
    pub fn new(settings: &CqtSettings, taste: Taste) -> Result<Self> {
        ensure!(
            settings.bins_per_octave.is_multiple_of(12),
            "[features] bins_per_octave = {}: painting needs a multiple of 12",
            settings.bins_per_octave
        );
        Ok(Self { grid: Grid::new(settings), taste })
    }

    /// Seconds of a column.
    pub fn column_s(&self) -> f32 {
        self.grid.column_s
    }

    /// Paints `columns` columns of one version of a work: bins x columns magnitudes, all finite.
    pub fn paint(&self, work: &Work, draw: Draw, columns: usize) -> Picture {
        let seconds = columns as f32 * self.grid.column_s;
        let performance = arrange::perform(work, &self.taste, draw, seconds);
        let position = [draw.epoch, draw.version];
        sound::paint(&self.grid, &performance, columns, |purpose| {
            Dice::new(draw.seed, purpose, &work.id, &position)
        })
    }
}
