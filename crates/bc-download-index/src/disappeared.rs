//! Refuses to record that most files of an index have disappeared: their disk is more likely not mounted.

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;

/// Number of files that may disappear without `--drop-missing`. (A tenth of all files may, too, but never all of several files.)
const MAX_UNASKED: usize = 10;

/// Counts of the versions that had a file when the index was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disappeared {
    /// Versions that had a file.
    pub had: usize,
    /// Those of them whose file is absent now.
    pub gone: usize,
}

impl Disappeared {
    /// Returns the sum of two counts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { had: self.had + other.had, gone: self.gone + other.gone }
    }

    /// Refuses to continue if nearly all of the files may be elsewhere.
    ///
    /// # Errors
    /// More files than may disappear are absent.
    pub fn require_few(self, config: &IndexConfig) -> Result<()> {
        let Self { had, gone } = self;
        let all = gone == had && had > 1;
        if all || gone > MAX_UNASKED.max(had / 10) {
            bail!(
                "{gone} of the {had} files that {} lists are absent; is the disk of [index] dataset_path = \"{}\" mounted? The index is \
                 left as it is. If the files are gone for good, `bc-download-index verify --drop-missing` marks them as missing; if they \
                 are elsewhere now, correct dataset_path and run `build`",
                config.output.display(),
                config.dataset_path.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_or_more_than_a_tenth_must_not_disappear_unasked() {
        let refused = |had, gone| Disappeared { had, gone }.require_few(&IndexConfig::default()).is_err();
        for (had, gone) in [(2, 2), (10, 10), (20, 11), (1_000, 101)] {
            assert!(refused(had, gone), "{gone} of {had}");
        }
        for (had, gone) in [(0, 0), (1, 1), (2, 1), (11, 10), (1_000, 100)] {
            assert!(!refused(had, gone), "{gone} of {had}");
        }
    }
}
