//! A piece of features for the network.

use half::f16;

/// `bins x frames` magnitudes, row-major (bin 0 first).
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// Number of rows.
    pub bins: usize,
    /// Number of columns.
    pub frames: usize,
    /// `bins * frames` values.
    pub data: Vec<f32>,
}

impl Patch {
    /// Creates a patch of zeros.
    pub fn zeros(bins: usize, frames: usize) -> Self {
        Self { bins, frames, data: vec![0.0; bins * frames] }
    }

    /// Returns the values of one bin over time.
    pub fn row(&self, bin: usize) -> &[f32] {
        &self.data[bin * self.frames..(bin + 1) * self.frames]
    }

    /// Returns the values of one bin over time, to change.
    pub fn row_mut(&mut self, bin: usize) -> &mut [f32] {
        &mut self.data[bin * self.frames..(bin + 1) * self.frames]
    }
}

/// Stored features of a whole track, borrowed: `bins x frames`, row-major.
#[derive(Debug, Clone, Copy)]
pub struct TrackView<'a> {
    /// Number of rows.
    pub bins: usize,
    /// Number of stored columns.
    pub frames: usize,
    /// `bins * frames` magnitudes.
    pub values: &'a [f16],
}
