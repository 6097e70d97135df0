//! Computes distances between vectors, one block of queries at a time.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::product::products;

/// Maximum size of a block of distances in bytes.
const MAX_BLOCK_BYTES: usize = 64 << 20;

/// The distance function of two vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// 1 - the cosine of the vectors, from 0 to 2.
    Cosine,
    /// Euclidean length of the difference.
    Euclidean,
    /// The dot product, negated so that smaller is nearer.
    Dot,
}

impl Distance {
    /// Returns the name used in configurations and results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Euclidean => "euclidean",
            Self::Dot => "dot",
        }
    }
}

/// Vectors in rows: `vectors` holds rows x `dim` numbers.
#[derive(Debug, Clone, Copy)]
pub struct Vectors<'a> {
    /// Row-major numbers.
    pub vectors: &'a [f32],
    /// Numbers per row.
    pub dim: usize,
}

impl Vectors<'_> {
    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.vectors.len().checked_div(self.dim).unwrap_or(0)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.rows() * self.dim != self.vectors.len() {
            let expected = self.rows() * self.dim;
            return Err(Error::Shape { what: "numbers in whole rows", expected, found: self.vectors.len() });
        }
        match self.vectors.iter().position(|x| !x.is_finite()) {
            Some(index) => Err(Error::NotFinite { row: index / self.dim }),
            None => Ok(()),
        }
    }
}

/// Vectors that are preprocessed for one distance function, so that a matrix product gives the distances.
pub(crate) struct Prepared {
    vectors: Vec<f32>,
    /// Squared lengths; empty unless the distance is Euclidean.
    squares: Vec<f64>,
    dim: usize,
    distance: Distance,
}

impl Prepared {
    /// Prepares vectors. For the Euclidean distance, `centre` is subtracted to reduce cancellation; it must be the same for queries
    /// and candidates.
    pub(crate) fn new(rows: &Vectors<'_>, distance: Distance, centre: &[f32]) -> Self {
        let dim = rows.dim;
        let mut vectors = rows.vectors.to_vec();
        let mut squares = Vec::new();
        match distance {
            Distance::Dot => {}
            Distance::Cosine => vectors.par_chunks_mut(dim).for_each(|row| {
                let length = square(row).sqrt() as f32;
                if length > 0.0 {
                    row.iter_mut().for_each(|x| *x /= length);
                }
            }),
            Distance::Euclidean => {
                let lengths = vectors.par_chunks_mut(dim).map(|row| {
                    row.iter_mut().zip(centre).for_each(|(x, c)| *x -= c);
                    square(row)
                });
                squares = lengths.collect();
            }
        }
        Self { vectors, squares, dim, distance }
    }

    fn rows(&self) -> usize {
        self.vectors.len() / self.dim
    }

    /// Writes the dot products of some rows with all candidates to `out` (rows x candidates), on this thread alone.
    pub(crate) fn products_of(&self, rows: std::ops::Range<usize>, candidates: &Self, out: &mut [f32]) {
        let rows = &self.vectors[rows.start * self.dim..rows.end * self.dim];
        products(rows, &candidates.vectors, self.dim, out, gemm::Parallelism::None);
    }
}

/// Computes the mean row of the candidates.
pub(crate) fn centre(candidates: &Vectors<'_>) -> Vec<f32> {
    let mut sum = vec![0f64; candidates.dim];
    for row in candidates.vectors.chunks_exact(candidates.dim) {
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x));
    }
    let rows = candidates.rows().max(1) as f64;
    sum.into_iter().map(|s| (s / rows) as f32).collect()
}

/// Computes the cosine of two vectors with the same number of values; 0 if one of them is all zeros.
#[must_use]
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product: f64 = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    let lengths = (square(a) * square(b)).sqrt();
    if lengths > 0.0 { (product / lengths).clamp(-1.0, 1.0) as f32 } else { 0.0 }
}

fn square(row: &[f32]) -> f64 {
    row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

/// Calls `each(query, distances to all candidates)` for every query, in parallel within a block,
/// and returns the results in order of the queries.
pub(crate) fn by_query<T: Send>(
    queries: &Prepared,
    candidates: &Prepared,
    each: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> Vec<T> {
    let mut answers = Vec::with_capacity(queries.rows());
    by_block(queries, candidates, |first, rows| {
        let rows = rows.par_chunks_mut(candidates.rows()).enumerate();
        answers.par_extend(rows.map(|(i, row)| each(first + i, row)));
    });
    answers
}

/// Calls `each(first query, distances)` for one block of queries after the other, where the distances are queries of the block x
/// candidates. Memory does not grow with the number of queries.
pub(crate) fn by_block(queries: &Prepared, candidates: &Prepared, mut each: impl FnMut(usize, &mut [f32])) {
    let (count, width) = (queries.rows(), candidates.rows());
    let block_rows = (MAX_BLOCK_BYTES / 4 / width.max(1)).clamp(16, 1024).min(count.max(1));
    let mut buffer = vec![0f32; block_rows * width];
    for first in (0..count).step_by(block_rows) {
        let height = block_rows.min(count - first);
        let rows = &mut buffer[..height * width];
        let parallelism = gemm::Parallelism::Rayon(0);
        let block = &queries.vectors[first * queries.dim..][..height * queries.dim];
        products(block, &candidates.vectors, queries.dim, rows, parallelism);
        rows.par_chunks_mut(width)
            .enumerate()
            .for_each(|(i, row)| to_distances(queries, first + i, candidates, row));
        each(first, rows);
    }
}

fn to_distances(queries: &Prepared, query: usize, candidates: &Prepared, row: &mut [f32]) {
    match queries.distance {
        Distance::Dot => row.iter_mut().for_each(|x| *x = -*x),
        Distance::Cosine => row.iter_mut().for_each(|x| *x = (1.0 - *x).clamp(0.0, 2.0)),
        Distance::Euclidean => {
            let own = queries.squares[query];
            for (x, other) in row.iter_mut().zip(&candidates.squares) {
                *x = ((own + other - 2.0 * f64::from(*x)).max(0.0) as f32).sqrt();
            }
        }
    }
}
