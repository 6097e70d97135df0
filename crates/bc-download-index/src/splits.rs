//! Splits by clique: drawn where the source has none, refused where a clique crosses them.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, bail};
use bc_formats::index::{Split, Version};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Of fewer cliques than this a held-out split has what its share says, be it none.
const FEWEST_TO_SPLIT: usize = 6;
/// A single held-out clique measures nothing: every other version of the split is a match.
const FEWEST_HELD_OUT: usize = 2;

/// Draws the split of every clique; depends on the clique ids, the seed and the shares alone.
pub fn draw(versions: &mut [Version], seed: u64, shares: [f64; 3]) {
    let cliques: BTreeSet<String> = versions.iter().map(|version| version.clique_id.clone()).collect();
    let mut cliques: Vec<String> = cliques.into_iter().collect();
    cliques.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let count = |share: f64| {
        let count = (cliques.len() as f64 * share).round() as usize;
        if share > 0.0 && cliques.len() >= FEWEST_TO_SPLIT { count.max(FEWEST_HELD_OUT) } else { count }
    };
    let (val, test) = (count(shares[1]), count(shares[2]));
    let of_clique: HashMap<String, Split> = cliques
        .into_iter()
        .enumerate()
        .map(|(source, clique)| {
            let split = match source {
                source if source < test => Split::Test,
                source if source < test + val => Split::Val,
                _ => Split::Train,
            };
            (clique, split)
        })
        .collect();
    for version in versions {
        version.split = of_clique[&version.clique_id];
    }
}

/// Refuses a clique that is in two splits: its versions would leak. `split_sources` says where the lists put each
/// version into its split; it may be empty.
pub fn refuse_crossing(versions: &[Version], split_sources: &[String]) -> Result<()> {
    let source = |at: usize| split_sources.get(at).map(|source| format!(", {source}")).unwrap_or_default();
    let mut firsts: HashMap<&str, usize> = HashMap::new();
    for (at, version) in versions.iter().enumerate().filter(|(_, version)| version.split != Split::None) {
        let first_at = *firsts.entry(&version.clique_id).or_insert(at);
        let first = &versions[first_at];
        if first.split != version.split {
            bail!(
                "clique {} is in the splits {} (version {}{}) and {} (version {}{}); a clique must not cross \
                 splits, or the figures are of songs that were trained on",
                version.clique_id,
                first.split,
                first.version_id,
                source(first_at),
                version.split,
                version.version_id,
                source(at)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_splits_keep_cliques_whole_and_the_shares() {
        let mut versions: Vec<Version> =
            (0..300).map(|n| Version::new(format!("v{n}"), format!("c{}", n / 3))).collect();
        draw(&mut versions, 7, [0.8, 0.1, 0.1]);
        refuse_crossing(&versions, &[]).unwrap();
        let count = |split| versions.iter().filter(|version| version.split == split).count();
        assert_eq!([count(Split::Train), count(Split::Val), count(Split::Test)], [240, 30, 30]);
        let mut turned: Vec<Version> = versions.iter().rev().cloned().collect();
        draw(&mut turned, 7, [0.8, 0.1, 0.1]);
        turned.reverse();
        assert_eq!(versions, turned);
        let few = &mut versions[..30];
        draw(few, 7, [0.8, 0.1, 0.1]);
        let held_out = few.iter().filter(|version| version.split != Split::Train).count();
        assert_eq!(held_out, 12, "two cliques each");
        draw(&mut versions, 7, [0.8, 0.1, 0.1]);
        versions[1].split = if versions[0].split == Split::Train { Split::Test } else { Split::Train };
        assert!(refuse_crossing(&versions, &[]).unwrap_err().to_string().contains("clique c0"));
    }
}
