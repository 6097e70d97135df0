//! How much of each split is usable, and the fingerprint that says which tracks these are.

use std::collections::HashSet;
use std::fmt;

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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coverage(pub Vec<SplitCoverage>);

impl Coverage {
    /// Counts `versions`.
    pub fn of(versions: &[Version]) -> Self {
        Self::where_usable(versions, Version::usable)
    }

    /// The same where another rule says what is usable.
    pub fn where_usable(versions: &[Version], usable: impl Fn(&Version) -> bool) -> Self {
        let count = |split: Split, only_usable: bool| {
            let of_split =
                versions.iter().filter(|version| version.split == split && (!only_usable || usable(version)));
            let cliques: HashSet<&str> = of_split.clone().map(|version| version.clique_id.as_str()).collect();
            [of_split.count(), cliques.len()]
        };
        let splits = Split::ALL.iter().map(|&split| SplitCoverage {
            split,
            listed: count(split, false),
            usable: count(split, true),
            fingerprint: Index::coverage_fingerprint_where(versions, split, &usable),
        });
        Self(splits.filter(|split| split.listed[0] > 0).collect())
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<6} {:>21} {:>19}", "", "listed", "usable")?;
        writeln!(f, "split     versions   cliques  versions   cliques  coverage")?;
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
