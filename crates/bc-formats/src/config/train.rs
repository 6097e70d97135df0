//! `[train]`: optimisation, batches, schedule, checkpoints.

use std::path::PathBuf;

use super::section::{Check, Found, section};

section! {
    /// Training.
    TrainConfig as "train" {
        /// Folder of the run: checkpoints, metrics, curves.
        run: PathBuf = "runs/demo".into();
        /// Seed of everything that is drawn.
        seed: u64 = 1;
    }
}

impl Check for TrainConfig {
    fn check(&self, found: &mut Found<'_>) {
        found.not_empty("run", &self.run);
    }
}
