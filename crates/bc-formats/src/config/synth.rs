//! `[synth]`: the synthetic demo set.

use std::path::PathBuf;

use super::section::{Check, Found, section};

section! {
    /// The synthetic set of covers that `bc-download-index synth` writes.
    SynthConfig as "synth" {
        /// Folder the audio and its metadata are written to.
        output: PathBuf = "data/demo".into();
        /// Seed of everything that is drawn.
        seed: u64 = 1;
    }
}

impl Check for SynthConfig {
    fn check(&self, found: &mut Found<'_>) {
        found.not_empty("output", &self.output);
    }
}
