//! `[verify]`: checking the audio files of an index.

use super::section::{Check, Found, section};

section! {
    /// Checking the audio files of an index.
    VerifyConfig as "verify" {
        /// Workers in parallel.
        workers: usize = 2;
    }
}

impl Check for VerifyConfig {
    fn check(&self, found: &mut Found<'_>) {
        found.within("workers", self.workers, 1..=1024, "");
    }
}
