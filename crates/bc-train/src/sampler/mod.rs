//! Which versions form which batch, and how long its crops are.
//!
//! An epoch is one pass over the training split for each crop length. Every batch has
//! one length, so nothing is padded to another item's size. The plan of an epoch is a
//! function of seed and epoch alone: a position in training is two numbers.

mod mixture;
mod pk;
mod shares;
mod triplets;

use anyhow::{Result, bail};
use rand::seq::SliceRandom;

use crate::randomness::generator;

pub use mixture::{Mixture, Pool, PoolClique};
pub use shares::{RankSplit, Shares};

/// The training split, by label: which versions belong together.
#[derive(Debug, Clone, Default)]
pub struct Cliques {
    /// The versions (positions in the training split) of every label.
    pub members: Vec<Vec<u32>>,
}

impl Cliques {
    /// Groups versions by their labels; labels count from 0 without a gap.
    pub fn from_labels(labels: &[u32]) -> Self {
        let count = labels.iter().max().map_or(0, |&m| m as usize + 1);
        let mut members = vec![Vec::new(); count];
        for (version, &label) in labels.iter().enumerate() {
            members[label as usize].push(version as u32);
        }
        Self { members }
    }

    /// Returns the labels of cliques that can give an anchor and a positive.
    pub(crate) fn with_a_pair(&self) -> Vec<u32> {
        (0..self.members.len() as u32).filter(|&c| self.members[c as usize].len() >= 2).collect()
    }
}

/// Which cliques and how many versions of each a batch consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Composition {
    /// Anchors, then as many positives, then as many negatives, drawn at random: every
    /// version of a clique with a pair is an anchor once per pass.
    RandomTriplets {
        /// Triplets of a batch.
        triplets: usize,
        /// Triplets of the smallest batch: 2 where anchors, positives and negatives pass the network separately,
        /// because batch norm cannot be trained on a batch of one.
        min_triplets: usize,
    },
    /// `cliques` different cliques with `versions` versions each, neighbours in the batch.
    Pk {
        /// P: cliques per batch.
        cliques: usize,
        /// K: versions of each.
        versions: usize,
    },
}

impl Composition {
    /// Items in a full batch.
    pub fn items(&self) -> usize {
        match *self {
            Composition::RandomTriplets { triplets, .. } => 3 * triplets,
            Composition::Pk { cliques, versions } => cliques * versions,
        }
    }
}

/// The order of the batches of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// All batches of the first length, then of the second ...
    PerEpochPasses,
    /// The batches of all lengths, shuffled.
    Mixed,
}

/// One batch to be assembled.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchPlan {
    /// Length of every crop in the batch, in seconds.
    pub length_s: f64,
    /// Positions in the training split, or of works after it (see [`crate::data::DataSet`]).
    pub items: Vec<u32>,
}

/// The source from which batches are drawn.
#[derive(Debug, Clone)]
enum BatchSource {
    Split(Cliques),
    Mixture(Mixture),
}

/// Plans epochs.
#[derive(Debug, Clone)]
pub struct Sampler {
    seed: u64,
    composition: Composition,
    order: Order,
    lengths_s: Vec<f64>,
    source: BatchSource,
}

impl Sampler {
    /// Checks that the split can fill a batch.
    ///
    /// # Errors
    /// No clique has two versions, there is only one clique, or fewer cliques with two
    /// versions than a batch asks for.
    pub fn new(
        seed: u64,
        composition: Composition,
        order: Order,
        lengths_s: Vec<f64>,
        cliques: Cliques,
    ) -> Result<Self> {
        let pairs = cliques.with_a_pair().len();
        let filled = cliques.members.iter().filter(|m| !m.is_empty()).count();
        if pairs == 0 {
            bail!(
                "the training split has no clique with two versions ({filled} cliques, none with a pair): \
                 a positive cannot be drawn. Check the index's split and status columns, or give a larger set"
            );
        }
        if filled < 2 {
            bail!(
                "the training split has a single clique: a negative cannot be drawn; give at least two cliques"
            );
        }
        if let Composition::Pk { cliques: p, .. } = composition
            && pairs < p
        {
            bail!(
                "[train] cliques_per_batch = {p}, but the training split has {pairs} cliques of at least two \
                 versions: set cliques_per_batch to at most {pairs}"
            );
        }
        Ok(Self { seed, composition, order, lengths_s, source: BatchSource::Split(cliques) })
    }

    /// Creates a sampler of batches whose cliques come from several pools.
    ///
    /// # Errors
    /// A pool with fewer cliques than a batch has.
    pub fn from_mixture(seed: u64, order: Order, lengths_s: Vec<f64>, mixture: Mixture) -> Result<Self> {
        mixture.check()?;
        let composition = Composition::Pk { cliques: mixture.cliques, versions: mixture.versions };
        Ok(Self { seed, composition, order, lengths_s, source: BatchSource::Mixture(mixture) })
    }

    /// Passes per epoch.
    pub fn passes(&self) -> usize {
        self.lengths_s.len()
    }

    /// Batches per pass; every pass of every epoch has the same number.
    pub fn batches_per_pass(&self) -> usize {
        match (&self.source, self.composition) {
            (BatchSource::Mixture(mixture), _) => mixture.batches(),
            (BatchSource::Split(split), Composition::RandomTriplets { triplets, min_triplets }) => {
                triplets::batches(split, triplets, min_triplets)
            }
            (BatchSource::Split(split), Composition::Pk { cliques, versions }) => {
                pk::batches(split, cliques, versions)
            }
        }
    }

    /// Batches per epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.batches_per_pass() * self.passes()
    }

    /// Returns which cliques and how many versions of each a batch consists of.
    pub fn composition(&self) -> Composition {
        self.composition
    }

    /// Returns all batches of epoch `epoch` (from 0), in order.
    pub fn epoch(&self, epoch: u64) -> Vec<BatchPlan> {
        let mut batches = Vec::with_capacity(self.batches_per_epoch());
        for (pass, &length_s) in self.lengths_s.iter().enumerate() {
            let mut rng = generator(self.seed, "sampler", &[epoch, pass as u64]);
            let items = match (&self.source, self.composition) {
                (BatchSource::Mixture(mixture), _) => mixture.pass(&mut rng),
                (BatchSource::Split(split), Composition::RandomTriplets { triplets, min_triplets }) => {
                    triplets::pass(split, triplets, min_triplets, &mut rng)
                }
                (BatchSource::Split(split), Composition::Pk { cliques, versions }) => {
                    pk::pass(split, cliques, versions, &mut rng)
                }
            };
            batches.extend(items.into_iter().map(|items| BatchPlan { length_s, items }));
        }
        if self.order == Order::Mixed {
            batches.shuffle(&mut generator(self.seed, "order", &[epoch]));
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(sizes: &[usize]) -> Vec<u32> {
        sizes.iter().enumerate().flat_map(|(label, &n)| vec![label as u32; n]).collect()
    }

    fn sampler(sizes: &[usize], composition: Composition, order: Order) -> Result<Sampler> {
        let cliques = Cliques::from_labels(&labels(sizes));
        Sampler::new(3, composition, order, vec![100.0, 150.0, 200.0], cliques)
    }

    #[test]
    fn split_without_a_pair_or_with_too_few_cliques_is_refused() {
        let c = Composition::RandomTriplets { triplets: 2, min_triplets: 1 };
        let e = sampler(&[1, 1, 1], c, Order::Mixed).unwrap_err().to_string();
        assert!(e.contains("no clique with two versions"), "{e}");
        let e = sampler(&[4], c, Order::Mixed).unwrap_err().to_string();
        assert!(e.contains("single clique"), "{e}");
        let e = sampler(&[2, 2, 1], Composition::Pk { cliques: 3, versions: 2 }, Order::Mixed).unwrap_err();
        assert!(e.to_string().contains("at most 2"), "{e}");
    }

    #[test]
    fn passes_are_in_order_or_mixed() {
        let sizes = [3; 20];
        let c = Composition::RandomTriplets { triplets: 4, min_triplets: 1 };
        let ordered = sampler(&sizes, c, Order::PerEpochPasses).unwrap();
        let lengths: Vec<f64> = ordered.epoch(0).iter().map(|b| b.length_s).collect();
        assert!(lengths.is_sorted());
        assert_eq!(lengths.len(), ordered.batches_per_epoch());
        let mixed: Vec<f64> =
            sampler(&sizes, c, Order::Mixed).unwrap().epoch(0).iter().map(|b| b.length_s).collect();
        assert!(!mixed.is_sorted());
        let mut sorted = mixed;
        sorted.sort_by(f64::total_cmp);
        assert_eq!(sorted, lengths);
    }

    #[test]
    fn epoch_plan_is_reproducible_and_differs_from_the_next() {
        let s = sampler(&[3; 20], Composition::Pk { cliques: 5, versions: 2 }, Order::Mixed).unwrap();
        assert_eq!(s.epoch(4), s.clone().epoch(4));
        assert_ne!(s.epoch(4), s.epoch(5));
    }

    proptest! {
        #[test]
        fn triplets_hold_a_positive_and_a_negative_and_use_every_anchor_once(
            sizes in prop::collection::vec(1usize..7, 2..25), triplets in 1usize..9, min_triplets in 1usize..3, epoch in 0u64..5,
        ) {
            prop_assume!(sizes.iter().any(|&n| n > 1) && triplets >= min_triplets);
            let labels = labels(&sizes);
            let s = sampler(&sizes, Composition::RandomTriplets { triplets, min_triplets }, Order::PerEpochPasses).unwrap();
            let plan = s.epoch(epoch);
            prop_assert_eq!(plan.len(), s.batches_per_epoch());
            let mut anchors = Vec::new();
            for batch in &plan[..s.batches_per_pass()] {
                let n = batch.items.len() / 3;
                prop_assert_eq!(batch.items.len(), 3 * n);
                prop_assert!(n >= min_triplets && n <= triplets.max(2 * min_triplets - 1));
                for i in 0..n {
                    let (a, p, q) = (batch.items[i], batch.items[n + i], batch.items[2 * n + i]);
                    prop_assert_ne!(a, p);
                    prop_assert_eq!(labels[a as usize], labels[p as usize]);
                    prop_assert_ne!(labels[a as usize], labels[q as usize]);
                    anchors.push(a);
                }
            }
            anchors.sort_unstable();
            anchors.dedup();
            let possible: usize = sizes.iter().filter(|&&n| n > 1).sum();
            prop_assert_eq!(anchors.len(), possible);
        }

        #[test]
        fn pk_batches_hold_p_cliques_of_k_versions_and_use_every_small_clique(
            sizes in prop::collection::vec(1usize..12, 3..30), p in 2usize..6, k in 2usize..5, epoch in 0u64..5,
        ) {
            let pairs = sizes.iter().filter(|&&n| n > 1).count();
            prop_assume!(pairs >= p);
            let labels = labels(&sizes);
            let s = sampler(&sizes, Composition::Pk { cliques: p, versions: k }, Order::PerEpochPasses).unwrap();
            let plan = s.epoch(epoch);
            prop_assert_eq!(plan.len(), s.batches_per_epoch());
            let mut seen = vec![false; labels.len()];
            for batch in &plan[..s.batches_per_pass()] {
                prop_assert_eq!(batch.items.len(), p * k);
                let mut cliques = Vec::new();
                for group in batch.items.chunks(k) {
                    let clique = labels[group[0] as usize];
                    prop_assert!(group.iter().all(|&i| labels[i as usize] == clique));
                    let mut distinct = group.to_vec();
                    distinct.sort_unstable();
                    distinct.dedup();
                    prop_assert_eq!(distinct.len(), k.min(sizes[clique as usize]));
                    cliques.push(clique);
                    group.iter().for_each(|&i| seen[i as usize] = true);
                }
                cliques.sort_unstable();
                cliques.dedup();
                prop_assert_eq!(cliques.len(), p);
            }
            if sizes.iter().all(|&n| n <= k) {
                for (version, seen) in seen.iter().enumerate() {
                    prop_assert_eq!(*seen, sizes[labels[version] as usize] > 1);
                }
            }
        }
    }
}
