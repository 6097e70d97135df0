//! The versions of one split, and the scores of their pairs.

use std::collections::HashMap;

use anyhow::Result;
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;
use bc_retrieval::{Distance, Vectors};

/// Number of versions in a sample; the pairs of 1000 versions are about half a million.
const SAMPLE_VERSIONS: usize = 1000;

/// The versions of one split, or some of them.
pub struct Versions<'a> {
    /// The label of each version.
    pub labels: Vec<&'a Label>,
    /// The clique of each version, numbered in order of first appearance in the split.
    pub cliques: Vec<u32>,
    /// Embeddings as the network returned them (not scaled), one row per version.
    pub vectors: Vec<f32>,
    /// Number of values of a row.
    pub dim: usize,
    /// Scores that are used instead of the cosines of `vectors`, such as those of short windows.
    measured: Option<Measured<'a>>,
}

/// A square matrix of scores, and the row of each version.
struct Measured<'a> {
    scores: &'a [f32],
    width: usize,
    rows: Vec<usize>,
}

impl<'a> Versions<'a> {
    /// Returns all versions of `split`.
    pub fn of_split(embeddings: &'a Embeddings, split: Split) -> Self {
        let dim = embeddings.dim.max(1);
        let mut versions = Self::empty(dim);
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        for (label, vector) in embeddings.labels.iter().zip(embeddings.vectors.chunks_exact(dim)) {
            if label.split == split {
                let next = numbers.len() as u32;
                versions.labels.push(label);
                versions.cliques.push(*numbers.entry(&label.clique_id).or_insert(next));
                versions.vectors.extend_from_slice(vector);
            }
        }
        versions
    }

    /// Creates versions whose scores are given: `scores` is a square matrix, in which row i holds the scores of version i with all
    /// versions.
    pub fn of_scores(labels: &[&'a Label], scores: &'a [f32]) -> Self {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let cliques = labels.iter().map(|label| {
            let next = numbers.len() as u32;
            *numbers.entry(&label.clique_id).or_insert(next)
        });
        let measured = Measured { scores, width: labels.len(), rows: (0..labels.len()).collect() };
        let cliques = cliques.collect();
        Self { labels: labels.to_vec(), cliques, measured: Some(measured), ..Self::empty(1) }
    }

    fn empty(dim: usize) -> Self {
        Self { labels: Vec::new(), cliques: Vec::new(), vectors: Vec::new(), dim, measured: None }
    }

    /// Returns a sample of whole cliques, spread evenly; all of them if there are few.
    pub fn sample(&self) -> Self {
        let cliques = self.clique_count();
        let keep = (cliques * SAMPLE_VERSIONS / self.len().max(1)).clamp(1, cliques.max(1));
        let is_kept = |clique: u32| (clique as usize * keep) % cliques < keep;
        let rows = (0..self.len()).filter(|row| is_kept(self.cliques[*row])).take(2 * SAMPLE_VERSIONS);
        let mut sample = Self::empty(self.dim);
        sample.measured = self.measured.as_ref().map(|all| Measured {
            scores: all.scores,
            width: all.width,
            rows: Vec::new(),
        });
        for row in rows {
            sample.labels.push(self.labels[row]);
            sample.cliques.push(self.cliques[row]);
            match (&mut sample.measured, &self.measured) {
                (Some(sampled), Some(all)) => sampled.rows.push(all.rows[row]),
                _ => sample.vectors.extend_from_slice(self.vector(row)),
            }
        }
        sample
    }

    /// Returns the number of versions.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns whether there are no versions.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the number of cliques, including those that a sample left out.
    pub fn clique_count(&self) -> usize {
        self.cliques.iter().max().map_or(0, |largest| *largest as usize + 1)
    }

    /// Returns the vector of a version.
    pub fn vector(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.dim..][..self.dim]
    }

    /// Returns the vectors of all versions as rows.
    pub fn rows(&self) -> Vectors<'_> {
        Vectors { vectors: &self.vectors, dim: self.dim }
    }

    /// Returns the number of cliques that have a version here.
    pub fn distinct_cliques(&self) -> usize {
        self.sizes().len()
    }

    /// Returns the number of cliques with two versions or more.
    pub fn repeated_cliques(&self) -> usize {
        self.sizes().values().filter(|size| **size > 1).count()
    }

    /// Counts the pairs of one clique and the pairs of two.
    pub fn pair_counts(&self) -> PairCounts {
        let pairs = |count: u64| count * count.saturating_sub(1) / 2;
        let same = self.sizes().values().map(|size| pairs(*size)).sum();
        PairCounts { same, other: pairs(self.len() as u64) - same }
    }

    fn sizes(&self) -> HashMap<u32, u64> {
        let mut sizes: HashMap<u32, u64> = HashMap::new();
        for clique in &self.cliques {
            *sizes.entry(*clique).or_default() += 1;
        }
        sizes
    }

    /// Calls `each(version, scores with all versions)` in order of the versions. Scores are cosines, or the given scores.
    ///
    /// # Errors
    /// A vector that is not finite.
    pub fn each_score(&self, mut each: impl FnMut(usize, &[f32])) -> Result<()> {
        let mut scores = vec![0f32; self.len()];
        if let Some(measured) = &self.measured {
            for (version, row) in measured.rows.iter().enumerate() {
                let all = &measured.scores[row * measured.width..][..measured.width];
                scores.iter_mut().zip(&measured.rows).for_each(|(score, other)| *score = all[*other]);
                each(version, &scores);
            }
            return Ok(());
        }
        bc_retrieval::each_row(&self.rows(), &self.rows(), Distance::Cosine, |row, distances| {
            scores.iter_mut().zip(distances).for_each(|(score, distance)| *score = 1.0 - distance);
            each(row, &scores);
        })?;
        Ok(())
    }

    /// Returns the score of every pair, and whether the pair is of one clique.
    ///
    /// # Errors
    /// A vector that is not finite.
    pub fn pairs(&self) -> Result<Vec<(f32, bool)>> {
        let mut pairs = Vec::with_capacity(self.len() * self.len() / 2);
        self.each_score(|a, scores| {
            let earlier = scores[..a].iter().zip(&self.cliques);
            pairs.extend(earlier.map(|(score, clique)| (*score, *clique == self.cliques[a])));
        })?;
        Ok(pairs)
    }
}

/// Number of pairs of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PairCounts {
    /// Number of pairs of versions of one clique.
    pub same: u64,
    /// Number of pairs of versions of two cliques.
    pub other: u64,
}

impl PairCounts {
    /// Computes the precision over these pairs of a threshold that accepts a share `recall` of the pairs of one clique and a share
    /// `false_alarms` of the others; 1 if nothing is accepted. The shares can be measured on a sample of whole cliques, but not the
    /// precision: with a fraction f of the cliques, the number of pairs of one clique shrinks by f, that of the others by f squared.
    pub fn precision(&self, recall: f64, false_alarms: f64) -> f64 {
        let (right, wrong) = (recall * self.same as f64, false_alarms * self.other as f64);
        if right + wrong > 0.0 { right / (right + wrong) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cliques` x `versions`, drawn around their cliques' directions.
    fn split(cliques: usize, versions: usize) -> Embeddings {
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let mut vectors = Vec::new();
        for _ in 0..cliques {
            let centre: Vec<f32> = (0..8).map(|_| noise()).collect();
            for _ in 0..versions {
                vectors.extend(centre.iter().map(|value| value + 0.9 * noise()));
            }
        }
        crate::test_embeddings::embeddings(8, versions, vectors, |_| Split::Test)
    }

    /// Precision, recall and false alarms at a score, counted over all pairs of `versions`.
    fn counted_rates(versions: &Versions<'_>, threshold: f32) -> (f64, f64, f64) {
        let pairs = versions.pairs().unwrap();
        let count = |one: bool, threshold: f32| {
            pairs.iter().filter(|pair| pair.1 == one && pair.0 >= threshold).count() as f64
        };
        let (right, wrong) = (count(true, threshold), count(false, threshold));
        (right / (right + wrong), right / count(true, -2.0), wrong / count(false, -2.0))
    }

    #[test]
    fn a_sample_gives_the_precision_of_the_whole_split() {
        let embeddings = split(1500, 4);
        let all = Versions::of_split(&embeddings, Split::Test);
        let some = all.sample();
        assert!(some.len() < all.len() / 4, "{} of {} is no sample", some.len(), all.len());
        assert_eq!(all.pair_counts().same, 1500 * 6);
        let (exact, ..) = counted_rates(&all, 0.9);
        let (in_sample, recall, false_alarms) = counted_rates(&some, 0.9);
        let found = all.pair_counts().precision(recall, false_alarms);
        let odds = |precision: f64| precision / (1.0 - precision);
        assert!((odds(found) / odds(exact) - 1.0).abs() < 0.3, "{found}, exactly {exact}");
        assert!(odds(in_sample) > 3.0 * odds(exact), "{in_sample} in the sample, {exact} in the whole split");
    }
}
