//! The versions of one split with vectors of length one, and the scores of their pairs.

use std::collections::HashMap;

use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;

/// About as many versions as all pairs are looked at of: half a million pairs.
const SAMPLE: usize = 1000;

/// The versions of one split, or some of them.
pub struct Versions<'a> {
    /// What each is.
    pub labels: Vec<&'a Label>,
    /// Clique of each, numbered as they first come in the split.
    pub cliques: Vec<u32>,
    /// Vectors of length one, a row each.
    pub vectors: Vec<f32>,
    /// Length of a row.
    pub dim: usize,
}

impl<'a> Versions<'a> {
    /// All of `split`.
    pub fn of(embeddings: &'a Embeddings, split: Split) -> Self {
        let dim = embeddings.dim.max(1);
        let mut versions = Self { labels: Vec::new(), cliques: Vec::new(), vectors: Vec::new(), dim };
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        for (label, vector) in embeddings.labels.iter().zip(embeddings.vectors.chunks_exact(dim)) {
            if label.split == split {
                let next = numbers.len() as u32;
                versions.labels.push(label);
                versions.cliques.push(*numbers.entry(&label.clique_id).or_insert(next));
                versions.vectors.extend(unit(vector));
            }
        }
        versions
    }

    /// Whole cliques, evenly spread over these; all of them where they are few.
    pub fn sample(&self) -> Self {
        let cliques = self.clique_count();
        let keep = (cliques * SAMPLE / self.len().max(1)).clamp(1, cliques.max(1));
        let kept = |clique: u32| (clique as usize * keep) % cliques < keep;
        let rows = (0..self.len()).filter(|row| kept(self.cliques[*row])).take(2 * SAMPLE);
        let mut some = Self { labels: Vec::new(), cliques: Vec::new(), vectors: Vec::new(), dim: self.dim };
        for row in rows {
            some.labels.push(self.labels[row]);
            some.cliques.push(self.cliques[row]);
            some.vectors.extend_from_slice(self.vector(row));
        }
        some
    }

    /// Number of versions.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Number of cliques, with those that a sample left out.
    pub fn clique_count(&self) -> usize {
        self.cliques.iter().max().map_or(0, |most| *most as usize + 1)
    }

    /// The vector of a version.
    pub fn vector(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.dim..][..self.dim]
    }

    /// Cosine of two versions.
    pub fn score(&self, a: usize, b: usize) -> f32 {
        dot(self.vector(a), self.vector(b))
    }

    /// The score of every pair, and whether it is of one clique.
    pub fn pairs(&self) -> Vec<(f32, bool)> {
        let mut pairs = Vec::with_capacity(self.len() * self.len() / 2);
        for a in 0..self.len() {
            for b in 0..a {
                pairs.push((self.score(a, b), self.cliques[a] == self.cliques[b]));
            }
        }
        pairs
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
