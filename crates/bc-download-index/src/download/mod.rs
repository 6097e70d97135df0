//! Fetches what an index lacks, with yt-dlp.
//!
//! **In**: an index with ids or urls. **Out**: `<dataset_path>/<id>.<extension>`, each whole when it
//! appears, and statuses in the index. Unfinished files are in `<dataset_path>/.incoming` ([`incoming`]), from where
//! yt-dlp continues; failures are noted in `<dataset_path>/.failed*.jsonl` ([`ledger`]), so that no run
//! asks again for what is gone. A kill loses at most what was under way.

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
