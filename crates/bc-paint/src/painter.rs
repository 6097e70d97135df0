//! Versions of works as pictures.

use anyhow::{Result, ensure};
use bc_formats::features::CqtSettings;

use crate::arrange;
use crate::dice::Dice;
use crate::draw::{Draw, Taste};
use crate::sound::{self, Picture, grid::Grid};
use crate::work::Work;

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
    /// Bins that do not divide a semitone.
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
