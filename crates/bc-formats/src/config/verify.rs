//! `[verify]`: checking the audio files of an index.

use super::section::{Check, SectionProblems, section};

section! {
    /// Checking the audio files of an index.
    VerifyConfig as "verify" {
        /// A file whose loudest sample stays below this is silence; dB of full scale.
        silence_db: f64 = -60.0;
        /// Share of frames (packets) that may fail to decode; [features] max_error_share is as strict.
        bad_packets: f64 = 0.01;
        /// Share of its declared length that a file may lack before it counts as cut off.
        missing_share: f64 = 0.05;
        /// Longest audio in seconds.
        longest_s: f64 = 21_600.0;
        /// Longest time to decode a file, in seconds.
        patience_s: f64 = 120.0;
    }
}

impl Check for VerifyConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        problems.within("silence_db", self.silence_db, -200.0..=0.0, "dB");
        problems.within("bad_packets", self.bad_packets, 0.0..=1.0, "");
        problems.within("missing_share", self.missing_share, 0.0..=1.0, "");
        problems.within("longest_s", self.longest_s, 1.0..=1e6, "s");
        problems.within("patience_s", self.patience_s, 1.0..=1e6, "s");
    }
}
