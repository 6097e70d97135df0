//! Counts the versions of an index for its reports.

use std::collections::{BTreeMap, HashMap};

use bc_formats::fingerprint::{Digest, digest};
use bc_formats::index::{Status, Version};

use crate::coverage::{Counter, Coverage};

/// Counts of the versions so far.
#[derive(Debug)]
pub struct Tally {
    statuses: BTreeMap<Status, usize>,
    files: usize,
    usable: Counter,
    detail: Option<Detail>,
}

/// Counts that only a report needs.
#[derive(Debug)]
struct Detail {
    if_all_usable: Counter,
    faults: Vec<String>,
    unusable_files: u64,
    /// Usable versions by clique.
    cliques: HashMap<Digest, u32>,
}

/// Counts of an index. The fields after `coverage` are empty unless the tally counts in detail.
#[derive(Debug, Default)]
pub struct Figures {
    statuses: BTreeMap<Status, usize>,
    /// How many versions have a file.
    pub files: usize,
    /// How much of each split is usable.
    pub coverage: Coverage,
    /// The coverage as it would be if every file were usable.
    pub coverage_if_all_usable: Coverage,
    /// A line for each file that is not usable.
    pub faults: Vec<String>,
    /// How many versions have a file that is not usable, or could not be read.
    pub unusable_files: u64,
    /// Number of cliques by their number of usable versions.
    pub clique_sizes: BTreeMap<u32, u32>,
}

impl Tally {
    /// Creates a tally without versions; with `detail`, it also counts what only the report of `verify` needs.
    pub fn new(detail: bool) -> Self {
        let detail = detail.then(|| Detail {
            if_all_usable: Counter::new(|version| version.audio_path.is_some()),
            faults: Vec::new(),
            unusable_files: 0,
            cliques: HashMap::new(),
        });
        Self { statuses: BTreeMap::new(), files: 0, usable: Counter::new(Version::usable), detail }
    }

    /// Counts a version.
    pub fn add(&mut self, version: &Version) {
        *self.statuses.entry(version.status).or_default() += 1;
        self.files += usize::from(version.audio_path.is_some());
        self.usable.add(version);
        let Some(detail) = &mut self.detail else { return };
        detail.if_all_usable.add(version);
        let bad = !version.usable() || version.reason.is_some();
        detail.unusable_files += u64::from(version.audio_path.is_some() && bad);
        *detail.cliques.entry(digest(&version.clique_id)).or_default() += u32::from(version.usable());
        if let Some(path) = version.audio_path.as_deref().filter(|_| version.status != Status::Ok) {
            let reason = version.reason.as_deref().unwrap_or_default();
            detail.faults.push(format!("{} ({path}): {}: {reason}", version.version_id, version.status));
        }
    }

    /// Ends the count after the last version.
    #[must_use]
    pub fn finish(self) -> Figures {
        let Self { statuses, files, usable, detail } = self;
        let figures = Figures { statuses, files, coverage: usable.finish(), ..Figures::default() };
        let Some(Detail { if_all_usable, faults, unusable_files, cliques }) = detail else { return figures };
        let mut clique_sizes = BTreeMap::new();
        for size in cliques.into_values() {
            *clique_sizes.entry(size).or_default() += 1;
        }
        Figures {
            coverage_if_all_usable: if_all_usable.finish(),
            faults,
            unusable_files,
            clique_sizes,
            ..figures
        }
    }
}

impl Figures {
    /// Returns how many versions there are.
    pub fn versions(&self) -> usize {
        self.statuses.values().sum()
    }

    /// Returns how many versions have this status.
    pub fn with_status(&self, status: Status) -> usize {
        self.statuses.get(&status).copied().unwrap_or(0)
    }
}
