//! Finds files that several versions have: versions of different works whose lists name files of one name, for example.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bc_formats::fingerprint::{Digest, digest};
use bc_formats::index::Version;

/// The files of the versions so far, and those that several versions have.
#[derive(Debug, Default)]
pub struct SharedFiles {
    /// Number of versions so far.
    rows: usize,
    /// The row of the first version that has a file, by the digest of its path.
    first_rows: HashMap<Digest, usize>,
    /// Number of versions that have the file of an earlier one.
    versions: usize,
    first: Option<FirstShared>,
}

/// The first file that was found for a second version.
#[derive(Debug, PartialEq)]
pub struct FirstShared {
    /// Path of the file.
    pub path: String,
    /// The rows of two versions that have it, from 0.
    pub rows: [usize; 2],
}

impl SharedFiles {
    /// Adds the next version, whose audio was looked for.
    pub fn add(&mut self, version: &Version) {
        let row = self.rows;
        self.rows += 1;
        let Some(path) = &version.audio_path else { return };
        match self.first_rows.entry(digest(path)) {
            Entry::Vacant(entry) => drop(entry.insert(row)),
            Entry::Occupied(earlier) => {
                self.versions += 1;
                let rows = [*earlier.get(), row];
                self.first.get_or_insert_with(|| FirstShared { path: path.clone(), rows });
            }
        }
    }

    /// Returns how many versions have the file of an earlier one.
    pub fn versions(&self) -> usize {
        self.versions
    }

    /// Returns the first of these files.
    pub fn first(&self) -> Option<&FirstShared> {
        self.first.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_several_versions_are_counted_and_the_first_is_named() {
        let mut shared = SharedFiles::default();
        for path in [None, Some("a.wav"), Some("b.wav"), None, Some("b.wav"), Some("a.wav"), Some("b.wav")] {
            let mut version = Version::new("v", "c");
            version.audio_path = path.map(str::to_owned);
            shared.add(&version);
        }
        assert_eq!(shared.versions(), 3);
        assert_eq!(shared.first(), Some(&FirstShared { path: "b.wav".into(), rows: [2, 4] }));
    }
}
