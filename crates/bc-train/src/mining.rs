//! Mining: which triplets of a batch enter the loss.
//!
//! Mining only reads the values of the embeddings. The loss is then computed on the selected rows: gradients flow through
//! these, and not through the selection.

use rand::{Rng, RngExt};

/// Rows of a batch: `anchors[i]`, `positives[i]` and `negatives[i]` are one triplet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Triplets {
    /// Rows compared with the other two.
    pub anchors: Vec<u32>,
    /// Rows of the anchor's clique, other than the anchor.
    pub positives: Vec<u32>,
    /// Rows of another clique.
    pub negatives: Vec<u32>,
}

impl Triplets {
    fn push(&mut self, anchor: usize, positive: usize, negative: usize) {
        self.anchors.push(anchor as u32);
        self.positives.push(positive as u32);
        self.negatives.push(negative as u32);
    }

    /// Borrows the triplets in the form that the loss functions take.
    pub fn as_lists(&self) -> bc_nn::loss::Triplets<'_> {
        bc_nn::loss::Triplets {
            anchors: &self.anchors,
            positives: &self.positives,
            negatives: &self.negatives,
        }
    }

    /// Returns the number of triplets.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Returns whether there are no triplets.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Returns the triplets of a batch whose rows are `n` anchors, then `n` positives, then `n` negatives.
    pub fn in_thirds(n: usize) -> Self {
        let n = n as u32;
        Self {
            anchors: (0..n).collect(),
            positives: (n..2 * n).collect(),
            negatives: (2 * n..3 * n).collect(),
        }
    }
}

/// Squared Euclidean distances between all rows of a batch.
#[derive(Debug, Clone)]
pub struct Distances {
    n: usize,
    squared: Vec<f32>,
}

impl Distances {
    /// Wraps an `n` x `n` matrix of squared distances.
    ///
    /// # Panics
    /// `squared` does not hold `n * n` values.
    pub fn new(n: usize, squared: Vec<f32>) -> Self {
        assert_eq!(squared.len(), n * n);
        Self { n, squared }
    }

    /// Returns the squared distance of rows `i` and `j`.
    fn at(&self, i: usize, j: usize) -> f32 {
        self.squared[i * self.n + j]
    }
}

/// Pairs every row with its farthest positive and its nearest negative (Hermans et al. 2017,
/// equation 5). Rows without either are left out.
pub fn batch_hard(distances: &Distances, labels: &[u32]) -> Triplets {
    let mut triplets = Triplets::default();
    for a in 0..labels.len() {
        let positive =
            positives(labels, a).max_by(|&i, &j| distances.at(a, i).total_cmp(&distances.at(a, j)));
        let negative =
            negatives(labels, a).min_by(|&i, &j| distances.at(a, i).total_cmp(&distances.at(a, j)));
        if let (Some(p), Some(n)) = (positive, negative) {
            triplets.push(a, p, n);
        }
    }
    triplets
}

/// Combines every pair of a row and a positive with the nearest negative that is farther than the
/// positive (Schroff et al. 2015, section 3.2); with the farthest negative if none is.
pub fn semi_hard(distances: &Distances, labels: &[u32]) -> Triplets {
    let mut triplets = Triplets::default();
    for a in 0..labels.len() {
        for p in positives(labels, a) {
            let farther = negatives(labels, a)
                .filter(|&n| distances.at(a, n) > distances.at(a, p))
                .min_by(|&i, &j| distances.at(a, i).total_cmp(&distances.at(a, j)));
            let negative = farther.or_else(|| {
                negatives(labels, a).max_by(|&i, &j| distances.at(a, i).total_cmp(&distances.at(a, j)))
            });
            if let Some(n) = negative {
                triplets.push(a, p, n);
            }
        }
    }
    triplets
}

/// Pairs every row with a random positive and a random negative.
pub fn random(labels: &[u32], rng: &mut impl Rng) -> Triplets {
    let mut triplets = Triplets::default();
    for a in 0..labels.len() {
        let p: Vec<usize> = positives(labels, a).collect();
        let n: Vec<usize> = negatives(labels, a).collect();
        if !p.is_empty() && !n.is_empty() {
            triplets.push(a, p[rng.random_range(0..p.len())], n[rng.random_range(0..n.len())]);
        }
    }
    triplets
}

/// Returns the other rows of the anchor's clique.
fn positives(labels: &[u32], anchor: usize) -> impl Iterator<Item = usize> + '_ {
    (0..labels.len()).filter(move |&i| i != anchor && labels[i] == labels[anchor])
}

/// Returns the rows of other cliques than the anchor's.
fn negatives(labels: &[u32], anchor: usize) -> impl Iterator<Item = usize> + '_ {
    (0..labels.len()).filter(move |&i| labels[i] != labels[anchor])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomness::generator;
    use proptest::prelude::*;

    fn between(points: &[f32], n: usize) -> Distances {
        let squared = match points.len() / n.max(1) {
            0 => Vec::new(),
            dim => bc_nn::loss::squared_distances(bc_nn::loss::Rows::new(points, dim)),
        };
        Distances::new(n, squared)
    }

    // Five points on a line: clique 0 at 0, 1 and 5; clique 1 at 2 and 9.
    const POINTS: [f32; 5] = [0.0, 1.0, 5.0, 2.0, 9.0];
    const LABELS: [u32; 5] = [0, 0, 0, 1, 1];

    #[test]
    fn batch_hard_takes_the_farthest_positive_and_the_nearest_negative() {
        let t = batch_hard(&between(&POINTS, 5), &LABELS);
        assert_eq!(t.anchors, [0, 1, 2, 3, 4]);
        assert_eq!(t.positives, [2, 2, 0, 4, 3]);
        assert_eq!(t.negatives, [3, 3, 3, 1, 2]);
    }

    #[test]
    fn semi_hard_takes_the_nearest_negative_beyond_the_positive() {
        let t = semi_hard(&between(&POINTS, 5), &LABELS);
        let triplets: Vec<_> = (0..t.len()).map(|i| (t.anchors[i], t.positives[i], t.negatives[i])).collect();
        // (2, 0), (2, 1), (3, 4), (4, 3): no negative lies beyond the positive, so the farthest.
        assert_eq!(
            triplets,
            [(0, 1, 3), (0, 2, 4), (1, 0, 4), (1, 2, 4), (2, 0, 4), (2, 1, 4), (3, 4, 2), (4, 3, 1)]
        );
    }

    #[test]
    fn in_thirds_gives_anchors_positives_negatives() {
        let t = Triplets::in_thirds(2);
        assert_eq!((t.anchors, t.positives, t.negatives), (vec![0, 1], vec![2, 3], vec![4, 5]));
    }

    proptest! {
        #[test]
        fn every_triplet_has_a_positive_and_a_negative(
            labels in prop::collection::vec(0u32..4, 0..16), seed in any::<u64>(),
        ) {
            let mut rng = generator(seed, "test", &[]);
            let points: Vec<f32> = (0..labels.len() * 2).map(|_| rng.random()).collect();
            let d = between(&points, labels.len());
            for t in [batch_hard(&d, &labels), semi_hard(&d, &labels), random(&labels, &mut rng)] {
                for i in 0..t.len() {
                    let [a, p, n] = [t.anchors[i], t.positives[i], t.negatives[i]].map(|x| x as usize);
                    prop_assert_ne!(a, p);
                    prop_assert_eq!(labels[a], labels[p]);
                    prop_assert_ne!(labels[a], labels[n]);
                }
            }
        }
    }
}
