//! `[index]`: which data set, where its audio lies, how it is split.

use std::path::PathBuf;

use super::section::{Check, Found, section};

section! {
    /// What bc-download-index makes the index from.
    IndexConfig as "index" {
        /// The kind of source: shs100k, orfium, coverhunter, da-tacos, discogs-vi, covers80, folder, csv or synth.
        source: String = "synth".into();
        /// Folder or file of the lists.
        meta: PathBuf = "data/demo".into();
        /// Folder of the audio: <dataset_path>/<version id>.<file_extension>, or the path the source names below it.
        dataset_path: PathBuf = "data/demo".into();
        /// Extension of the audio files without the dot; empty: any known one.
        file_extension: String = String::new();
        /// Where the index is written.
        output: PathBuf = "data/demo/index.parquet".into();
    }
}

impl Check for IndexConfig {
    fn check(&self, found: &mut Found<'_>) {
        found.not_empty("source", &self.source);
        found.not_empty("output", &self.output);
    }
}
