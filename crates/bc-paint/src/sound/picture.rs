//! The matrix in which versions are painted.

/// A matrix of bins x columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Number of rows.
    pub bins: usize,
    /// Number of values of a row.
    pub columns: usize,
    /// The values, row-major, the lowest bin first.
    pub values: Vec<f32>,
}

impl Picture {
    /// Creates a picture of zeros.
    pub fn zeros(bins: usize, columns: usize) -> Self {
        Self { bins, columns, values: vec![0.0; bins * columns] }
    }

    /// Returns the values of a bin.
    pub fn row(&self, bin: usize) -> &[f32] {
        &self.values[bin * self.columns..(bin + 1) * self.columns]
    }

    /// Returns the values of a bin for modification.
    pub fn row_mut(&mut self, bin: usize) -> &mut [f32] {
        &mut self.values[bin * self.columns..(bin + 1) * self.columns]
    }

    /// Adds `factor * values` to a bin from column `from` on.
    pub fn add(&mut self, bin: usize, from: usize, values: &[f32], factor: f32) {
        let row = &mut self.row_mut(bin)[from..from + values.len()];
        for (out, value) in row.iter_mut().zip(values) {
            *out += factor * value;
        }
    }
}
