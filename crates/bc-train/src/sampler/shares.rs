//! Which items of a batch each rank computes.

use std::ops::Range;

use super::Composition;

/// How batches are split among ranks, seen from one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankSplit {
    composition: Composition,
    rank: usize,
    size: usize,
}

impl RankSplit {
    /// Splits batches of this composition among `size` ranks, seen from `rank`.
    pub fn new(composition: Composition, rank: usize, size: usize) -> Self {
        Self { composition, rank, size }
    }

    /// Splits a batch of `items` items; cliques and triplets stay whole.
    pub fn shares(&self, items: usize) -> Shares {
        let units = |rank: usize| self.units(items) * rank / self.size;
        let positions_by_rank: Vec<Vec<u32>> =
            (0..self.size).map(|rank| self.positions(items, units(rank)..units(rank + 1))).collect();
        let idle = positions_by_rank[self.rank].is_empty();
        let own = if idle { self.positions(items, 0..1) } else { positions_by_rank[self.rank].clone() };
        Shares { own, idle, positions_by_rank }
    }

    /// Returns the number of cliques or triplets of a batch.
    fn units(&self, items: usize) -> usize {
        match self.composition {
            Composition::RandomTriplets { .. } => items / 3,
            Composition::Pk { versions, .. } => items / versions,
        }
    }

    /// Returns the positions in a batch of `items` items at which the items of some cliques or triplets are.
    fn positions(&self, items: usize, units: Range<usize>) -> Vec<u32> {
        match self.composition {
            // A batch of triplets is laid out in thirds.
            Composition::RandomTriplets { .. } => (0..3)
                .flat_map(|third| units.clone().map(move |unit| (third * (items / 3) + unit) as u32))
                .collect(),
            Composition::Pk { versions, .. } => {
                ((units.start * versions) as u32..(units.end * versions) as u32).collect()
            }
        }
    }
}

/// The positions of one batch, by rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// What this rank computes, ascending within each third of a batch of triplets.
    own: Vec<u32>,
    /// Whether this rank has no share. It then computes the first clique or triplet, because all ranks must take part in
    /// the exchanges; its results do not count.
    idle: bool,
    /// The positions that each rank computes.
    positions_by_rank: Vec<Vec<u32>>,
}

impl Shares {
    /// Returns the positions that this rank computes.
    pub fn own(&self) -> &[u32] {
        &self.own
    }

    /// Returns whether this rank has no share, because the batch has fewer cliques or triplets than there are ranks.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Returns the number of items that count, for each rank.
    pub fn counts(&self) -> Vec<usize> {
        self.positions_by_rank.iter().map(Vec::len).collect()
    }

    /// Returns for every position of the batch its index among the items of all ranks, taken one rank after the other.
    pub fn order(&self) -> Vec<u32> {
        let positions: Vec<u32> = self.positions_by_rank.iter().flatten().copied().collect();
        let mut order = vec![0; positions.len()];
        for (number, position) in positions.into_iter().enumerate() {
            order[position as usize] = number as u32;
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_keep_cliques_and_triplets_whole() {
        let pk = Composition::Pk { cliques: 5, versions: 2 };
        let own = |composition, items, rank, size| {
            RankSplit::new(composition, rank, size).shares(items).own().to_vec()
        };
        assert_eq!(own(pk, 10, 0, 1), (0..10).collect::<Vec<_>>());
        assert_eq!(own(pk, 10, 0, 2), [0, 1, 2, 3]);
        assert_eq!(own(pk, 10, 1, 2), [4, 5, 6, 7, 8, 9]);
        let triplets = Composition::RandomTriplets { triplets: 8, min_triplets: 1 };
        assert_eq!(own(triplets, 15, 0, 2), [0, 1, 5, 6, 10, 11]);
        assert_eq!(own(triplets, 15, 1, 2), [2, 3, 4, 7, 8, 9, 12, 13, 14]);
    }

    #[test]
    fn each_position_belongs_to_one_rank_and_order_finds_it() {
        for composition in [
            Composition::Pk { cliques: 5, versions: 3 },
            Composition::RandomTriplets { triplets: 5, min_triplets: 1 },
        ] {
            for size in 1..8 {
                let shares: Vec<Shares> =
                    (0..size).map(|rank| RankSplit::new(composition, rank, size).shares(15)).collect();
                let all: Vec<u32> =
                    shares.iter().filter(|s| !s.is_idle()).flat_map(|s| s.own.clone()).collect();
                let found: Vec<u32> = shares[0].order().iter().map(|&number| all[number as usize]).collect();
                assert_eq!(found, (0..15).collect::<Vec<u32>>(), "{size} ranks");
                assert_eq!(shares[0].counts().iter().sum::<usize>(), 15);
                let idle = shares.iter().filter(|share| share.is_idle()).count();
                assert_eq!(idle, size.saturating_sub(5));
                assert!(shares.iter().all(|share| share.own.len() >= 3));
            }
        }
    }
}
