//! `[index]`: which data set, where its audio is, how it is split.

use std::path::PathBuf;

use super::section::{Check, SectionProblems, section};

/// The kinds of source that can be imported.
pub const SOURCES: [&str; 9] =
    ["shs100k", "orfium", "coverhunter", "da-tacos", "discogs-vi", "covers80", "folder", "csv", "synth"];

section! {
    /// What bc-download-index makes the index from.
    IndexConfig as "index" {
        /// The kind of source: shs100k, orfium, coverhunter, da-tacos, discogs-vi, covers80, folder, csv or
        /// synth.
        source: String = "synth".into();
        /// Folder of the lists, or the table itself (csv; coverhunter, da-tacos and discogs-vi take either);
        /// not read for folder.
        meta: PathBuf = "data/demo".into();
        /// Folder of the audio. A file is looked for at the path the source names below it, else as
        /// <dataset_path>/<version id>.<file_extension>. Or "s3://bucket/prefix": objects of an S3-like store, which the
        /// variables AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name (feature `s3`).
        dataset_path: PathBuf = "data/demo".into();
        /// Extension of the audio files without the dot; empty: any known one.
        file_extension: String = String::new();
        /// Folder that the index's audio paths begin at, relative to the folder of the index file, or absolute; it
        /// holds dataset_path. With it, index and audio may be moved together ("." where the audio is next to or
        /// below the index). Empty: paths are relative to the working directory.
        audio_root: String = String::new();
        /// Where the index is written.
        output: PathBuf = "data/demo/index.parquet".into();
        /// Seed of drawn splits.
        seed: u64 = 1;
        /// Shares of cliques in train, val and test, where the source gives no splits. They add up to 1.
        /// From six cliques on, a share above 0 is at least two cliques. A clique that is already in the index keeps its split.
        shares: [f64; 3] = [0.8, 0.1, 0.1];
        /// csv: column of the version id; empty: numbered by row.
        column_id: String = "id".into();
        /// csv: column of the clique id.
        column_clique: String = "clique".into();
        /// csv: column of the audio path.
        column_path: String = "path".into();
        /// csv: column of the title; a column that the table lacks stays empty.
        column_title: String = "title".into();
        /// csv: column of the performer.
        column_performer: String = "performer".into();
        /// csv: column of the length in seconds, which `verify` measures later.
        column_duration: String = "duration_s".into();
        /// csv: column of the split (train, val, test, none).
        column_split: String = "split".into();
        /// csv: column of the source url.
        column_url: String = "url".into();
    }
}

impl Check for IndexConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        let known = SOURCES.join(", ");
        problems.require(
            SOURCES.contains(&self.source.as_str()),
            "source",
            format!("is `{}`, but known are {known}", self.source),
        );
        problems.not_empty("output", &self.output);
        let sum: f64 = self.shares.iter().sum();
        problems.require(
            self.shares.iter().all(|share| (0.0..=1.0).contains(share)) && (sum - 1.0).abs() < 1e-6,
            "shares",
            format!("are {:?}, but must be three numbers from 0 to 1 that add up to 1", self.shares),
        );
    }
}
