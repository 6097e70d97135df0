//! Which items of a batch each rank computes.

use std::ops::Range;

use super::Composition;

/// How batches are cut among ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankSplit {
    composition: Composition,
    rank: usize,
    size: usize,
}

impl RankSplit {
    /// The share of `rank` of `size`.
    pub fn new(composition: Composition, rank: usize, size: usize) -> Self {
        Self { composition, rank, size }
    }

    /// A batch of this many items: whole cliques stay together, and so do whole triplets.
    pub fn shares(&self, items: usize) -> Shares {
        let units = |rank: usize| self.units(items) * rank / self.size;
        let of: Vec<Vec<u32>> =
            (0..self.size).map(|rank| self.places(items, units(rank)..units(rank + 1))).collect();
        let silent = of[self.rank].is_empty();
        let own = if silent { self.places(items, 0..1) } else { of[self.rank].clone() };
        Shares { own, silent, of }
    }

    /// Cliques or triplets of a batch.
    fn units(&self, items: usize) -> usize {
        match self.composition {
            Composition::RandomTriplets { .. } => items / 3,
            Composition::Pk { versions, .. } => items / versions,
        }
    }

    /// The positions of some of its cliques or triplets.
    fn places(&self, items: usize, units: Range<usize>) -> Vec<u32> {
        match self.composition {
            // In thirds, as the batch is.
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
    /// This rank has no share, and computes the first clique or triplet so that it takes part in what
    /// all ranks do together; its results do not count.
    silent: bool,
    of: Vec<Vec<u32>>,
}

impl Shares {
    /// The positions that this rank computes.
    pub fn own(&self) -> &[u32] {
        &self.own
    }

    /// Whether nothing of what this rank computes counts: the batch has fewer cliques or triplets than there are ranks.
    pub fn is_idle(&self) -> bool {
        self.silent
    }

    /// Items that count, of each rank.
    pub fn counts(&self) -> Vec<usize> {
        self.of.iter().map(Vec::len).collect()
    }

    /// For every position of the batch, its index among the items of all ranks, one rank after the other.
    pub fn order(&self) -> Vec<u32> {
        let places: Vec<u32> = self.of.iter().flatten().copied().collect();
        let mut order = vec![0; places.len()];
        for (number, place) in places.into_iter().enumerate() {
            order[place as usize] = number as u32;
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cliques_and_triplets_stay_whole() {
        let pk = Composition::Pk { cliques: 5, versions: 2 };
        let own = |composition, items, rank, size| {
            RankSplit::new(composition, rank, size).shares(items).own().to_vec()
        };
        assert_eq!(own(pk, 10, 0, 1), (0..10).collect::<Vec<_>>());
        assert_eq!(own(pk, 10, 0, 2), [0, 1, 2, 3]);
        assert_eq!(own(pk, 10, 1, 2), [4, 5, 6, 7, 8, 9]);
        let triplets = Composition::RandomTriplets { triplets: 8, least: 1 };
        assert_eq!(own(triplets, 15, 0, 2), [0, 1, 5, 6, 10, 11]);
        assert_eq!(own(triplets, 15, 1, 2), [2, 3, 4, 7, 8, 9, 12, 13, 14]);
    }

    #[test]
    fn every_place_is_one_ranks_and_the_order_finds_it() {
        for composition in [
            Composition::Pk { cliques: 5, versions: 3 },
            Composition::RandomTriplets { triplets: 5, least: 1 },
        ] {
            for size in 1..8 {
                let shares: Vec<Shares> =
                    (0..size).map(|rank| RankSplit::new(composition, rank, size).shares(15)).collect();
                let all: Vec<u32> =
                    shares.iter().filter(|s| !s.is_idle()).flat_map(|s| s.own.clone()).collect();
                let found: Vec<u32> = shares[0].order().iter().map(|&number| all[number as usize]).collect();
                assert_eq!(found, (0..15).collect::<Vec<u32>>(), "{size} ranks");
                assert_eq!(shares[0].counts().iter().sum::<usize>(), 15);
                let silent = shares.iter().filter(|share| share.is_idle()).count();
                assert_eq!(silent, size.saturating_sub(5));
                assert!(shares.iter().all(|share| share.own.len() >= 3));
            }
        }
    }
}
