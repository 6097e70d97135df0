//! The scores of all pairs of a split.

use std::collections::BTreeMap;

use bc_formats::embeddings::Embeddings;
use bc_formats::index::Split;

/// Versions of one split with unit vectors.
pub struct Versions<'a> {
    /// Clique of each.
    pub cliques: Vec<&'a str>,
    vectors: Vec<Vec<f32>>,
}

/// Most versions whose pairs are looked at: half a million pairs.
const MOST: usize = 1000;

impl<'a> Versions<'a> {
    /// The versions of `split`, or of whole cliques spread evenly over it where there are many.
    pub fn of(embeddings: &'a Embeddings, split: Split) -> Self {
        let mut by_clique: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, label) in embeddings.labels.iter().enumerate().filter(|(_, label)| label.split == split) {
            by_clique.entry(&label.clique_id).or_default().push(row);
        }
        let count: usize = by_clique.values().map(Vec::len).sum();
        let every = count.div_ceil(MOST).max(1);
        let mut versions = Self { cliques: Vec::new(), vectors: Vec::new() };
        let dim = embeddings.dim;
        for (clique, rows) in by_clique.into_iter().step_by(every) {
            for row in rows {
                versions.cliques.push(clique);
                versions.vectors.push(unit(&embeddings.vectors[row * dim..][..dim]));
            }
        }
        versions
    }

    /// Number of versions.
    pub fn len(&self) -> usize {
        self.cliques.len()
    }

    /// Cosine of two versions.
    pub fn score(&self, a: usize, b: usize) -> f64 {
        f64::from(dot(&self.vectors[a], &self.vectors[b]))
    }

    /// Scores of pairs of one clique, and of two.
    pub fn pairs(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut same, mut other) = (Vec::new(), Vec::new());
        for a in 0..self.len() {
            for b in 0..a {
                let one = self.cliques[a] == self.cliques[b];
                if one { &mut same } else { &mut other }.push(self.score(a, b));
            }
        }
        (same, other)
    }
}

/// The vector at length 1.
#[must_use]
pub fn unit(vector: &[f32]) -> Vec<f32> {
    let length = dot(vector, vector).sqrt().max(1e-12);
    vector.iter().map(|value| value / length).collect()
}

/// The inner product.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
