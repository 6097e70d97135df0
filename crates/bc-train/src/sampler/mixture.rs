//! P cliques x K versions whose cliques come from several pools, each with a share of every batch.
//!
//! A pool is a source of works or the training split. Its cliques are shuffled and used one after another,
//! and shuffled again when all have been used, so that small pools repeat while large ones are used once.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use rand::Rng;
use rand::seq::SliceRandom;

use super::pk::group;

/// A clique of a pool: its label and its items. A single item is repeated as often as versions are needed.
pub type PoolClique = (u32, Vec<u32>);

/// Cliques that share a part of every batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its name in messages.
    pub name: String,
    /// Share of the cliques of a batch; those of all pools add up to 1.
    pub share: f64,
    /// Its cliques, no label twice.
    pub cliques: Vec<PoolClique>,
}

/// Batches of several pools.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// P: different cliques of a batch.
    pub cliques: usize,
    /// K: versions of each.
    pub versions: usize,
    /// The pools that cliques are drawn from, each with a share above 0.
    pub pools: Vec<Pool>,
    /// Number of batches of a pass; 0 stands for as many as it takes to use every clique of every pool once.
    pub batches_per_pass: usize,
}

impl Mixture {
    /// Checks that every pool can fill a batch with different cliques.
    ///
    /// # Errors
    /// A pool with too few cliques.
    pub(super) fn check(&self) -> Result<()> {
        for pool in &self.pools {
            let (found, p) = (pool.cliques.len(), self.cliques);
            if found < p {
                bail!(
                    "[train] cliques_per_batch = {p}, but {} has {found} cliques to train on: set cliques_per_batch \
                     to at most {found}, or give that source no share",
                    pool.name
                );
            }
        }
        Ok(())
    }

    /// Batches of one pass.
    pub(super) fn batches(&self) -> usize {
        if self.batches_per_pass > 0 {
            return self.batches_per_pass;
        }
        // Slightly less before rounding up, because the shares themselves are rounded.
        let batches_of_pool =
            |pool: &Pool| (pool.cliques.len() as f64 / (pool.share * self.cliques as f64) - 1e-6).ceil();
        self.pools.iter().map(batches_of_pool).fold(1.0, f64::max) as usize
    }

    /// Draws the batches of one pass, each a list of items. The number of cliques that a batch takes from a pool is the
    /// pool's share of P, rounded up or down so that the shares hold over the pass. A clique that is in two pools (with
    /// equal ids) is one class, and is never twice in a batch.
    pub(super) fn pass(&self, rng: &mut impl Rng) -> Vec<Vec<u32>> {
        let batches = self.batches();
        let pools = self.pool_of_slots(batches * self.cliques);
        let mut decks: Vec<Deck<'_>> = self.pools.iter().map(Deck::new).collect();
        pools
            .chunks(self.cliques)
            .map(|pools| {
                let mut labels: Vec<u32> = Vec::with_capacity(self.cliques);
                let mut items = Vec::with_capacity(self.cliques * self.versions);
                for &pool in pools {
                    let (label, members) = decks[pool].next(&labels, rng);
                    let mut members = members.clone();
                    members.shuffle(rng);
                    labels.push(*label);
                    items.extend(group(&members, 0, self.versions));
                }
                items
            })
            .collect()
    }

    /// Returns the index of the pool from which each of `slots` is filled: always the pool that lacks most of its share.
    fn pool_of_slots(&self, slots: usize) -> Vec<usize> {
        let mut given = vec![0usize; self.pools.len()];
        (1..=slots)
            .map(|slot| {
                let deficit = |pool: usize| self.pools[pool].share * slot as f64 - given[pool] as f64;
                let next = (0..given.len()).max_by(|a, b| deficit(*a).total_cmp(&deficit(*b))).unwrap_or(0);
                given[next] += 1;
                next
            })
            .collect()
    }
}

/// The cliques of a pool in random order, shuffled anew whenever all have been used.
struct Deck<'a> {
    pool: &'a Pool,
    /// Cliques that were not used since the last shuffle.
    waiting: VecDeque<&'a PoolClique>,
}

impl<'a> Deck<'a> {
    fn new(pool: &'a Pool) -> Self {
        Self { pool, waiting: VecDeque::new() }
    }

    /// Takes the next clique that is not in `taken`; skipped cliques keep their turn. A checked pool has more
    /// cliques than are taken, so there is one at the latest after the next shuffle.
    fn next(&mut self, taken: &[u32], rng: &mut impl Rng) -> &'a PoolClique {
        loop {
            if let Some(slot) = self.waiting.iter().position(|(label, _)| !taken.contains(label))
                && let Some(clique) = self.waiting.remove(slot)
            {
                return clique;
            }
            let mut cliques: Vec<&PoolClique> = self.pool.cliques.iter().collect();
            cliques.shuffle(rng);
            self.waiting.extend(cliques);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomness::generator;
    use proptest::prelude::*;

    /// Pools of works with the labels from `first` on.
    fn pool(share: f64, labels: std::ops::Range<u32>) -> Pool {
        Pool {
            name: "songs".into(),
            share,
            cliques: labels.map(|label| (label, vec![1000 + label])).collect(),
        }
    }

    #[test]
    fn error_names_the_pool_that_cannot_fill_a_batch() {
        let pools = vec![pool(0.5, 0..20), pool(0.5, 20..23)];
        let mixture = Mixture { cliques: 4, versions: 2, pools, batches_per_pass: 0 };
        let error = mixture.check().unwrap_err().to_string();
        assert!(error.contains("songs has 3 cliques") && error.contains("at most 3"), "{error}");
    }

    #[test]
    fn pass_ends_when_the_largest_pool_was_used_once() {
        // 100 cliques with 2 in each batch, 30 with 6 in each batch.
        let pools = vec![pool(0.25, 0..100), pool(0.75, 100..130)];
        let mixture = Mixture { cliques: 8, versions: 2, pools, batches_per_pass: 0 };
        assert_eq!(mixture.batches(), 50);
        let passed: Vec<u32> = mixture.pass(&mut generator(1, "test", &[])).concat();
        let times = |label: u32| passed.iter().filter(|item| **item == 1000 + label).count();
        assert!((0..100).all(|label| times(label) == 2));
        assert!((100..130).all(|label| times(label) == 20), "each of 30 in every tenth of the 300 slots");
    }

    proptest! {
        #[test]
        fn batches_have_different_cliques_in_the_shares_of_their_pools(
            p in 2usize..9, k in 2usize..5, share in 0.05f64..0.95, common in 0u32..12, seed in 0u64..50,
        ) {
            // The second pool knows some labels of the first.
            let pools = vec![pool(share, 0..12), pool(1.0 - share, 12 - common..30)];
            let mixture = Mixture { cliques: p, versions: k, pools, batches_per_pass: 40 };
            mixture.check().unwrap();
            let pass = mixture.pass(&mut generator(seed, "test", &[]));
            prop_assert_eq!(pass.len(), 40);
            prop_assert_eq!(&pass, &mixture.pass(&mut generator(seed, "test", &[])));
            let pool_of_slots = mixture.pool_of_slots(40 * p);
            for (batch, pools) in pass.iter().zip(pool_of_slots.chunks(p)) {
                prop_assert_eq!(batch.len(), p * k);
                let mut labels: Vec<u32> = batch.chunks(k).map(|group| group[0]).collect();
                prop_assert!(batch.chunks(k).all(|group| group.iter().all(|item| *item == group[0])));
                labels.sort_unstable();
                labels.dedup();
                prop_assert_eq!(labels.len(), p);
                let first = pools.iter().filter(|pool| **pool == 0).count() as f64;
                prop_assert!((first - share * p as f64).abs() < 1.0 + 1e-9, "{} of {}", first, share * p as f64);
            }
        }
    }
}
