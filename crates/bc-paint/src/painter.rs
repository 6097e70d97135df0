//! Paints versions of works as pictures.

use anyhow::{Result, ensure};
use bc_formats::features::CqtSettings;

use crate::arrange;
use crate::random_stream::RandomStream;
use crate::sound::{self, Picture, grid::Grid};
use crate::version_seed::{VariationRange, VersionSeed};
use crate::work::Work;

/// Paints versions of works; can be shared by threads.
#[derive(Debug, Clone)]
pub struct Painter {
    grid: Grid,
    range: VariationRange,
}

impl Painter {
    /// Creates a painter for the transform of `settings`, whose columns are pooled by `settings.pool`.
    ///
    /// # Errors
    /// The number of bins per octave is not a multiple of 12.
    pub fn new(settings: &CqtSettings, range: VariationRange) -> Result<Self> {
        ensure!(
            settings.bins_per_octave.is_multiple_of(12),
            "[features] bins_per_octave = {}: painting needs a multiple of 12",
            settings.bins_per_octave
        );
        Ok(Self { grid: Grid::new(settings), range })
    }

    /// Returns the duration of a column in seconds.
    pub fn column_s(&self) -> f32 {
        self.grid.column_s
    }

    /// Paints the first `columns` columns of one version of a work: bins x columns magnitudes, all finite.
    pub fn paint(&self, work: &Work, version: VersionSeed, columns: usize) -> Picture {
        let seconds = columns as f32 * self.grid.column_s;
        let performance = arrange::perform(work, &self.range, version, seconds);
        let position = [version.epoch, version.version];
        sound::paint(&self.grid, &performance, columns, |purpose| {
            RandomStream::new(version.seed, purpose, &work.id, &position)
        })
    }
}
