//! Checks a list as a whole ([`Unique`]), and draws splits by clique where the source has none.

use bc_formats::index::{Conflict, Split, Unique, Version};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::importers::SourcePosition;

/// With fewer cliques than this, a held-out split gets exactly its share, even if that is none.
const MIN_CLIQUES_TO_SPLIT: usize = 6;
/// Minimum of held-out cliques: with a single one, every other version of the split is a match, which measures nothing.
const MIN_HELD_OUT: usize = 2;

/// The ids, cliques and splits of the versions so far.
#[derive(Debug, Default)]
pub struct Splits {
    known: Unique<SourcePosition>,
    /// The names of all cliques, as long as no version is in a split.
    names: Vec<String>,
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
        let first_of_clique = self.known.add(version, position)?;
        if version.split != Split::None && !self.given {
            self.given = true;
            self.names = Vec::new();
        }
        if first_of_clique && !self.given {
            self.names.push(version.clique_id.clone());
        }
        Ok(())
    }

    /// How many versions there are.
    pub fn versions(&self) -> usize {
        self.known.versions()
    }

    /// Draws the split of every clique if no version is in one; depends on the clique ids, the seed and the shares alone.
    /// The ids are forgotten.
    pub fn draw_unless_given(&mut self, seed: u64, shares: [f64; 3]) {
        self.known.forget_ids();
        if self.given {
            return;
        }
        let mut cliques = std::mem::take(&mut self.names);
        cliques.sort_unstable();
        cliques.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let count = |share: f64| {
            let count = (cliques.len() as f64 * share).round() as usize;
            if share > 0.0 && cliques.len() >= MIN_CLIQUES_TO_SPLIT { count.max(MIN_HELD_OUT) } else { count }
        };
        let (val, test) = (count(shares[1]), count(shares[2]));
        for (index, clique) in cliques.iter().enumerate() {
            let split = match index {
                index if index < test => Split::Test,
                index if index < test + val => Split::Val,
                _ => Split::Train,
            };
            self.known.set_split(clique, split);
        }
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
        splits.draw_unless_given(7, [0.8, 0.1, 0.1]);
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
