//! `[synth]`: the synthetic demo set.

use std::path::PathBuf;

use super::section::{Check, SectionProblems, section};

section! {
    /// The synthetic set of covers that `bc-download-index synth` writes.
    SynthConfig as "synth" {
        /// Folder the audio and its metadata are written to.
        output: PathBuf = "data/demo".into();
        /// Seed of everything that is drawn.
        seed: u64 = 1;
        /// Composed songs, each a clique.
        cliques: u32 = 120;
        /// Versions of each song.
        versions: u32 = 4;
        /// Length of a version at its song's own tempo; versions differ by their tempo and form.
        seconds: f64 = 30.0;
        /// Cliques of the validation split.
        val_cliques: u32 = 20;
        /// Cliques of the test split.
        test_cliques: u32 = 24;
        /// Versions are transposed by up to this many semitones, up or down.
        transposition: u32 = 6;
        /// Versions are up to this many times faster or slower than the song.
        tempo_factor: f64 = 1.25;
        /// Sample rate of the files.
        sample_rate: u32 = 22_050;
    }
}

impl Check for SynthConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        problems.not_empty("output", &self.output);
        problems.within("cliques", self.cliques, 1..=100_000, "cliques");
        problems.within("versions", self.versions, 1..=1_000, "versions");
        problems.require((2.0..=600.0).contains(&self.seconds), "seconds", "must be from 2 to 600 seconds");
        problems.require(
            self.val_cliques.saturating_add(self.test_cliques) < self.cliques,
            "cliques",
            "must leave training cliques besides val_cliques and test_cliques",
        );
        problems.within("transposition", self.transposition, 0..=11, "semitones");
        problems.require((1.0..=2.0).contains(&self.tempo_factor), "tempo_factor", "must be from 1 to 2");
        problems.within("sample_rate", self.sample_rate, 8_000..=96_000, "Hz");
    }
}
