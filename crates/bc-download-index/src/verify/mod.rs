//! Opens and decodes every file of an index.
//!
//! **In**: an index and its files. **Out**: the index with statuses, lengths, codecs and hashes;
//! `coverage.md` and a histogram of clique sizes next to it. Results are recorded in
//! `<index>.verify.jsonl` ([`state`]), so that a killed run continues where it was. The statuses are derived from these
//! records alone ([`judge`]), so that they do not depend on the order of the work. Before they are written into the index,
//! it is read again under its lock, so that changes that `build` made meanwhile are kept.

pub mod inspect_file;
pub mod judge;
pub mod report;
mod run;
pub mod state;
pub mod status;

pub use run::{Options, run};
