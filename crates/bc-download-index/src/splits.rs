//! Checks a list as a whole ([`Unique`]), and draws splits by clique where the source has none.

use std::collections::HashMap;

use bc_formats::index::{Conflict, Split, Unique, Version};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::importers::SourcePosition;

/// With fewer cliques than this, a held-out split gets exactly its share, even if that is none.
const MIN_CLIQUES_TO_SPLIT: usize = 6;
/// Minimum of held-out cliques: with a single one, every other version of the split is a match, which measures nothing.
const MIN_HELD_OUT: usize = 2;

/// Counts of cliques whose splits were drawn or kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Cliques that stay in their splits.
    pub kept: usize,
    /// Cliques that are new.
    pub new: usize,
    /// All cliques in val.
    pub val: usize,
    /// All cliques in test.
    pub test: usize,
}

/// The ids, cliques and splits of the versions so far.
#[derive(Debug, Default)]
pub struct Splits {
    known: Unique<SourcePosition>,
    /// The number of versions of each clique, as long as no version is in a split.
    sizes: HashMap<String, usize>,
    given: bool,
}

impl Splits {
    /// Records the next version.
    ///
    /// # Errors
    /// The version conflicts with an earlier one.
    pub fn add(
        &mut self,
        position: SourcePosition,
        version: &Version,
    ) -> Result<(), Conflict<SourcePosition>> {
        self.known.add(version, position)?;
        if version.split != Split::None && !self.given {
            self.given = true;
            self.sizes = HashMap::new();
        }
        if !self.given {
            match self.sizes.get_mut(&version.clique_id) {
                Some(size) => *size += 1,
                None => {
                    self.sizes.insert(version.clique_id.clone(), 1);
                }
            }
        }
        Ok(())
    }

    /// How many versions there are.
    pub fn versions(&self) -> usize {
        self.known.versions()
    }

    /// Whether the source has a version with this one's id, and its clique; before splits are drawn.
    pub fn has(&self, version: &Version) -> bool {
        self.known.has(version)
    }

    /// Whether a version of the source is in a split.
    pub fn given(&self) -> bool {
        self.given
    }

    /// Draws the split of every clique if no version is in one. A clique that has an `earlier` split stays in it: a network may have
    /// been trained on it. The splits of the others depend on the clique ids, the seed and the shares alone. Cliques of a single version
    /// are held out last, since no query finds a match in them. The ids are forgotten.
    pub fn draw_unless_given(
        &mut self,
        seed: u64,
        shares: [f64; 3],
        earlier: &HashMap<String, Split>,
    ) -> Drawn {
        self.known.forget_ids();
        if self.given {
            return Drawn::default();
        }
        let mut cliques: Vec<(String, usize)> = std::mem::take(&mut self.sizes).into_iter().collect();
        cliques.sort_unstable();
        cliques.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        cliques.sort_by_key(|(_, size)| *size < 2);
        let count = |share: f64| {
            let count = (cliques.len() as f64 * share).round() as usize;
            if share > 0.0 && cliques.len() >= MIN_CLIQUES_TO_SPLIT { count.max(MIN_HELD_OUT) } else { count }
        };
        let (mut val, mut test) = (count(shares[1]), count(shares[2]));
        let (kept, new): (Vec<_>, Vec<_>) =
            cliques.into_iter().partition(|(clique, _)| earlier.contains_key(clique));
        let mut drawn = Drawn { kept: kept.len(), new: new.len(), ..Drawn::default() };
        let mut put = |clique: &str, split| {
            drawn.val += usize::from(split == Split::Val);
            drawn.test += usize::from(split == Split::Test);
            self.known.set_split(clique, split);
        };
        for (clique, _) in &kept {
            let split = earlier[clique];
            match split {
                Split::Val => val = val.saturating_sub(1),
                Split::Test => test = test.saturating_sub(1),
                _ => {}
            }
            put(clique, split);
        }
        for (index, (clique, _)) in new.iter().enumerate() {
            let split = match index {
                index if index < test => Split::Test,
                index if index < test + val => Split::Val,
                _ => Split::Train,
            };
            put(clique, split);
        }
        drawn
    }

    /// The split of a version: its own, or that which was drawn for its clique.
    pub fn split_of(&self, version: &Version) -> Split {
        if self.given {
            return version.split;
        }
        self.known.split_of(&version.clique_id).unwrap_or(version.split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(versions: &[Version]) -> Result<Splits, Conflict<SourcePosition>> {
        let mut splits = Splits::default();
        for (at, version) in versions.iter().enumerate() {
            splits.add(SourcePosition { at, line: 0 }, version)?;
        }
        Ok(splits)
    }

    fn drawn(versions: &[Version]) -> Vec<Split> {
        let mut splits = read(versions).unwrap();
        splits.draw_unless_given(7, [0.8, 0.1, 0.1], &HashMap::new());
        versions.iter().map(|version| splits.split_of(version)).collect()
    }

    #[test]
    fn drawn_splits_keep_cliques_whole_and_have_their_shares() {
        let mut versions: Vec<Version> =
            (0..300).map(|n| Version::new(format!("v{n}"), format!("c{}", n / 3))).collect();
        let splits = drawn(&versions);
        let count = |splits: &[Split], split| splits.iter().filter(|&&other| other == split).count();
        assert_eq!([Split::Train, Split::Val, Split::Test].map(|split| count(&splits, split)), [240, 30, 30]);
        assert!(splits.chunks(3).all(|clique| clique.iter().all(|split| *split == clique[0])));
        let reversed: Vec<Version> = versions.iter().rev().cloned().collect();
        assert_eq!(drawn(&reversed).into_iter().rev().collect::<Vec<_>>(), splits);
        assert_eq!(30 - count(&drawn(&versions[..30]), Split::Train), 12, "two cliques each");
        for (version, split) in versions.iter_mut().zip(splits) {
            version.split = split;
        }
        read(&versions).unwrap();
        let (other, first) = if versions[0].split == Split::Train {
            (Split::Test, Split::Train)
        } else {
            (Split::Train, versions[0].split)
        };
        versions[1].split = other;
        assert_eq!(read(&versions).unwrap_err(), Conflict::Crossing(first, SourcePosition::default()));
        versions[1] = versions[0].clone();
        assert_eq!(read(&versions).unwrap_err(), Conflict::Twice);
    }

    #[test]
    fn cliques_of_an_earlier_index_stay_in_their_splits_and_the_shares_are_met_by_new_ones() {
        let versions: Vec<Version> =
            (0..120).map(|n| Version::new(format!("v{n}"), format!("c{}", n / 2))).collect();
        let before = drawn(&versions[..80]);
        let earlier: HashMap<String, Split> = versions
            .iter()
            .zip(&before)
            .map(|(version, split)| (version.clique_id.clone(), *split))
            .collect();
        let mut splits = read(&versions).unwrap();
        let counts = splits.draw_unless_given(7, [0.8, 0.1, 0.1], &earlier);
        assert_eq!(counts, Drawn { kept: 40, new: 20, val: 6, test: 6 });
        let after: Vec<Split> = versions.iter().map(|version| splits.split_of(version)).collect();
        assert_eq!(after[..80], before);
        let held_out = |split| after.iter().filter(|&&one| one == split).count() / 2;
        assert_eq!((held_out(Split::Val), held_out(Split::Test)), (6, 6));
        assert_ne!(drawn(&versions)[..80], before, "drawn anew, some would have moved");
    }

    #[test]
    fn cliques_of_one_version_are_held_out_last() {
        let clique = |n: usize| if n < 20 { n / 2 } else { n };
        let versions: Vec<Version> =
            (0..110).map(|n| Version::new(format!("v{n}"), format!("c{}", clique(n)))).collect();
        // 100 cliques, 10 of which have two versions.
        let splits = drawn(&versions);
        let held_out = |range: std::ops::Range<usize>| {
            splits[range].iter().filter(|split| **split != Split::Train).count()
        };
        assert_eq!((held_out(0..20), held_out(20..110)), (20, 10));
    }

    #[test]
    fn no_split_is_drawn_if_a_version_is_in_one() {
        let mut versions: Vec<Version> =
            (0..9).map(|n| Version::new(format!("v{n}"), format!("c{n}"))).collect();
        versions[5].split = Split::Val;
        let splits = drawn(&versions);
        assert!(splits.iter().enumerate().all(|(n, split)| (*split == Split::Val) == (n == 5)), "{splits:?}");
    }

    #[test]
    fn drawn_splits_are_those_of_earlier_releases() {
        // By version 0.2 (`splits::draw`), so that an index which is built again stays the same.
        let versions: Vec<Version> =
            (0..12).map(|n| Version::new(format!("v{n}"), format!("c{n}"))).collect();
        let text: String = drawn(&versions).iter().map(|split| &split.as_str()[..2]).collect();
        assert_eq!(text, PINNED);
    }

    const PINNED: &str = "tetrtrvatrtrtrtrtrtevatr";
}
