//! Fetches the audio that an index lacks, with yt-dlp.
//!
//! **In**: an index with ids or urls. **Out**: `<dataset_path>/<id>.<extension>`, each complete when it appears under that
//! name, and statuses in the index. Unfinished files are in `<dataset_path>/.incoming` ([`incoming`]), from where
//! yt-dlp continues; failures are recorded in `<dataset_path>/.failed*.jsonl` ([`ledger`]), so that no run
//! asks again for videos that are gone. A kill loses at most the downloads that were in work.

pub mod address;
mod child;
pub mod fetch;
pub mod incoming;
pub mod ledger;
pub mod messages;
pub mod pace;
pub mod plan;
mod run;
pub mod watchdog;
pub mod yt_dlp;

pub use run::{Options, run};
