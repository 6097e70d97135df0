//! Losses and their gradients in closed form: the two of ByteCover (Du et al. 2021, section 3.3), with PyTorch's values, and
//! losses over all pairs of a batch or on the cosines of embeddings with the classifier's weights.
//!
//! **In**: rows of one sample each. **Out**: a number, and its derivative with respect to every value of the rows. These
//! functions are the reference for every backend, which may compute the first two on its device
//! ([`Operators::cross_entropy`](crate::backend::Operators::cross_entropy)).

mod pairs;
mod softmax;
mod triplet;

pub use pairs::{alignment_uniformity, supervised_contrastive};
pub use softmax::{Cosine, cosine_cross_entropy, cross_entropy_smoothed};
pub use triplet::{Triplets, squared_distances, triplet_margin};

/// A matrix with one row for each sample.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// All values, row after row.
    pub values: &'a [f32],
    /// Number of values of a row.
    pub dim: usize,
}

impl<'a> Rows<'a> {
    /// Views `values` as rows of `dim` values.
    ///
    /// # Panics
    /// `values` is not a whole number of rows.
    pub fn new(values: &'a [f32], dim: usize) -> Self {
        assert!(dim > 0 && values.len().is_multiple_of(dim), "{} values in rows of {dim}", values.len());
        Self { values, dim }
    }

    /// Returns the number of rows.
    pub fn count(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Returns one row.
    pub fn row(&self, number: usize) -> &'a [f32] {
        &self.values[number * self.dim..][..self.dim]
    }

    /// Iterates over the rows.
    pub fn iter(&self) -> std::slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.dim)
    }
}

/// The value of a loss, and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The value.
    pub value: f32,
    /// Its derivative with respect to each value of the rows.
    pub gradient: Vec<f32>,
}

/// Computes the scalar product.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Rows divided by their Euclidean norm, and the norms.
struct Directions {
    values: Vec<f32>,
    norms: Vec<f32>,
    dim: usize,
}

impl Directions {
    fn of(rows: Rows<'_>) -> Self {
        // Rows of zeros get no direction, and no division by zero.
        let norms: Vec<f32> = rows.iter().map(|row| (dot(row, row) + 1e-24).sqrt() as f32).collect();
        let unit = |(row, norm): (&'_ [f32], &f32)| row.iter().map(|x| x / norm).collect::<Vec<_>>();
        Self { values: rows.iter().zip(&norms).flat_map(unit).collect(), norms, dim: rows.dim }
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.values, self.dim)
    }

    /// Computes the derivative with respect to the rows, from that with respect to their directions z: `(dz - z (z
    /// dz)) / norm`.
    fn backward(&self, mut dz: Vec<f32>) -> Vec<f32> {
        for ((dz, z), norm) in dz.chunks_exact_mut(self.dim).zip(self.rows().iter()).zip(&self.norms) {
            let along = dot(z, dz) as f32;
            dz.iter_mut().zip(z).for_each(|(dz, z)| *dz = (*dz - z * along) / norm);
        }
        dz
    }
}
