//! `[paint]`: synthetic versions of works that are given as notes.

use std::path::PathBuf;

use super::section::{Check, SectionProblems, section};

section! {
    /// Features of synthetic versions, painted straight from notes (bc-features paint).
    PaintConfig as "paint" {
        /// Works as notes: folders, .tar or .tar.xz of MIDI files with POP909's layout (NNN/NNN.mid, tracks MELODY,
        /// BRIDGE, PIANO), or tunes as JSON lines (.jsonl, .jsonl.xz).
        sources: Vec<PathBuf> = Vec::new();
        /// Weight of each source: a work of weight 2 gets twice the versions. Empty: 1 each.
        weights: Vec<f64> = Vec::new();
        /// JSON object with lists of works, "train" and "val". A source of which it names no work is trained on as
        /// a whole, but for held_out. Empty: none.
        splits: PathBuf = PathBuf::new();
        /// Share of the works of a source without lists that become validation works, chosen by a hash of their ids.
        held_out: f64 = 0.0;
        /// Folder that index.parquet and features/ are written to.
        output: PathBuf = "data/painted".into();
        /// Versions of a training work.
        versions: u32 = 24;
        /// Versions of a validation work.
        val_versions: u32 = 3;
        /// Length of a version in seconds.
        seconds: f64 = 60.0;
        /// Seed of everything that is drawn.
        seed: u64 = 1;
        /// Semitones that a version is moved by, from and to.
        transpose: [i32; 2] = [-6, 6];
        /// Factor of a version's tempo, from and to.
        tempo: [f64; 2] = [0.7, 1.4];
        /// All versions of a work begin near a common position, drawn from this many seconds of the work.
        begin_s: f64 = 15.0;
        /// Seconds that a version begins before or after the common position: 0 is the same bars for all, the length
        /// of the works is any position.
        spread_s: f64 = 6.0;
        /// Factor of how often sections are left out, repeated or moved, and of introductions; 0: never.
        edits: f64 = 1.0;
    }
}

impl Check for PaintConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        problems.require(
            self.weights.is_empty() || self.weights.len() == self.sources.len(),
            "weights",
            format!(
                "are {}, but there are {} sources: one weight each, or none",
                self.weights.len(),
                self.sources.len()
            ),
        );
        problems.require(
            self.weights.iter().all(|weight| (0.0..=1000.0).contains(weight)),
            "weights",
            "must be from 0 to 1000",
        );
        problems.within("held_out", self.held_out, 0.0..=0.9, "");
        problems.not_empty("output", &self.output);
        problems.within("versions", self.versions, 1..=100_000, "");
        problems.within("val_versions", self.val_versions, 0..=100_000, "");
        problems.within("seconds", self.seconds, 1.0..=3600.0, "s");
        let [low, high] = self.transpose;
        problems.require(
            -24 <= low && low <= high && high <= 24,
            "transpose",
            format!("is [{low}, {high}], but must be from a smaller to a larger number of semitones within -24 to 24"),
        );
        let [slow, fast] = self.tempo;
        problems.require(
            0.25 <= slow && slow <= fast && fast <= 4.0,
            "tempo",
            format!("is [{slow}, {fast}], but must be from a smaller to a larger factor within 0.25 to 4"),
        );
        problems.within("begin_s", self.begin_s, 0.0..=36_000.0, "s");
        problems.within("spread_s", self.spread_s, 0.0..=36_000.0, "s");
        problems.within("edits", self.edits, 0.0..=2.0, "");
    }
}
