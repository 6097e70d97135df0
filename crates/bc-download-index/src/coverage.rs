//! How much of each split is usable, and a fingerprint of the usable tracks.

use std::collections::HashMap;
use std::fmt;

use bc_formats::fingerprint::{Digest, digest};
use bc_formats::index::{Index, Split, Version};
use serde::Serialize;

/// Counts of one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitCoverage {
    /// The split.
    pub split: Split,
    /// Versions and cliques in the lists.
    pub listed: [usize; 2],
    /// Versions and cliques with usable audio.
    pub usable: [usize; 2],
    /// Hash of the sorted usable version ids.
    pub fingerprint: String,
}

/// Counts of every split that has versions.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Coverage(pub Vec<SplitCoverage>);

/// Counts versions as they come.
#[derive(Debug)]
pub struct Counter {
    usable: fn(&Version) -> bool,
    /// For each split, the number of listed versions and the ids of the usable ones.
    splits: Vec<(usize, Vec<Box<str>>)>,
    /// For each clique of a split (by the digest of its id), whether one of its versions is usable.
    cliques: HashMap<(Split, Digest), bool>,
}

impl Counter {
    /// Creates a counter without versions; `usable` decides which versions count as usable.
    pub fn new(usable: fn(&Version) -> bool) -> Self {
        let splits = Split::ALL.iter().map(|_| Default::default()).collect();
        Self { usable, splits, cliques: HashMap::new() }
    }

    /// Counts a version.
    pub fn add(&mut self, version: &Version) {
        let usable = (self.usable)(version);
        let of_clique = self.cliques.entry((version.split, digest(&version.clique_id))).or_default();
        *of_clique |= usable;
        let (listed, ids) = &mut self.splits[version.split as usize];
        *listed += 1;
        if usable {
            ids.push(version.version_id.as_str().into());
        }
    }

    /// Returns the counts.
    pub fn finish(self) -> Coverage {
        let mut cliques = [[0; 2]; 4];
        for ((split, _), usable) in self.cliques {
            cliques[split as usize][0] += 1;
            cliques[split as usize][1] += usize::from(usable);
        }
        let splits = Split::ALL.iter().zip(self.splits).filter(|(_, (listed, _))| *listed > 0);
        let splits = splits.map(|(&split, (listed, ids))| {
            let clique_counts = cliques[split as usize];
            SplitCoverage {
                split,
                listed: [listed, clique_counts[0]],
                usable: [ids.len(), clique_counts[1]],
                fingerprint: Index::coverage_fingerprint_of(ids),
            }
        });
        Coverage(splits.collect())
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<6} {:>21} {:>19}", "", "listed", "usable")?;
        writeln!(f, "split     versions   cliques  versions   cliques  fingerprint")?;
        for split in &self.0 {
            writeln!(
                f,
                "{:<6} {:>11} {:>9} {:>9} {:>9}  {}",
                split.split,
                split.listed[0],
                split.listed[1],
                split.usable[0],
                split.usable[1],
                split.fingerprint
            )?;
        }
        Ok(())
    }
}
