//! The figures that are reported of an index, counted version by version.

use std::collections::{BTreeMap, HashMap};

use bc_formats::fingerprint::{Digest, digest};
use bc_formats::index::{Status, Version};

use crate::coverage::{Counter, Coverage};

/// Counts of an index.
#[derive(Debug)]
pub struct Tally {
    statuses: BTreeMap<Status, usize>,
    files: usize,
    after: Counter,
    detail: Option<Detail>,
    coverage: Coverage,
}

/// What only a report needs.
#[derive(Debug)]
struct Detail {
    before: Counter,
    faults: Vec<String>,
    unusable_files: u64,
    /// Usable versions by clique.
    cliques: HashMap<Digest, u32>,
}

impl Tally {
    /// Of no version; with `detail` where a report is to be made of it.
    pub fn new(detail: bool) -> Self {
        let detail = detail.then(|| Detail {
            before: Counter::new(|version| version.audio_path.is_some()),
            faults: Vec::new(),
            unusable_files: 0,
            cliques: HashMap::new(),
        });
        Self {
            statuses: BTreeMap::new(),
            files: 0,
            after: Counter::new(Version::usable),
            detail,
            coverage: Coverage(Vec::new()),
        }
    }

    /// Counts one.
    pub fn add(&mut self, version: &Version) {
        *self.statuses.entry(version.status).or_default() += 1;
        self.files += usize::from(version.audio_path.is_some());
        self.after.add(version);
        let Some(detail) = &mut self.detail else { return };
        detail.before.add(version);
        let bad = !version.usable() || version.reason.is_some();
        detail.unusable_files += u64::from(version.audio_path.is_some() && bad);
        *detail.cliques.entry(digest(&version.clique_id)).or_default() += u32::from(version.usable());
        if let Some(path) = version.audio_path.as_deref().filter(|_| version.status != Status::Ok) {
            let reason = version.reason.as_deref().unwrap_or_default();
            detail.faults.push(format!("{} ({path}): {}: {reason}", version.version_id, version.status));
        }
    }

    /// After the last version.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.coverage = std::mem::replace(&mut self.after, Counter::new(Version::usable)).finish();
        self
    }

    /// How many versions there are.
    pub fn versions(&self) -> usize {
        self.statuses.values().sum()
    }

    /// How many have a file.
    pub fn files(&self) -> usize {
        self.files
    }

    /// How many have this status.
    pub fn with_status(&self, status: Status) -> usize {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// How much of each split is usable.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The same as if every file were usable.
    pub fn take_coverage_before(&mut self) -> Coverage {
        let none = || Counter::new(Version::usable);
        self.detail.as_mut().map_or(none(), |detail| std::mem::replace(&mut detail.before, none())).finish()
    }

    /// A line for each file that is not usable.
    pub fn faults(&self) -> &[String] {
        self.detail.as_ref().map_or(&[], |detail| &detail.faults)
    }

    /// How many versions have a file that is not usable, or could not be read.
    pub fn unusable_files(&self) -> u64 {
        self.detail.as_ref().map_or(0, |detail| detail.unusable_files)
    }

    /// How many cliques have so many usable versions.
    pub fn clique_sizes(&self) -> BTreeMap<u32, u32> {
        let mut sizes = BTreeMap::new();
        for size in self.detail.iter().flat_map(|detail| detail.cliques.values()) {
            *sizes.entry(*size).or_default() += 1;
        }
        sizes
    }
}
