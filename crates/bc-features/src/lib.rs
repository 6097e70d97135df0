//! Stage 2: computes pooled constant-Q features of the index's audio, stored as Parquet.
//!
//! **In**: `index.parquet` (its usable versions) and their audio files. **Out**: `part-*.parquet` (one row per version)
//! and `failures.parquet` (one row per version without features) in the folder `[features] output`.
//!
//! Features are made once instead of in every epoch: SHS100K has 7,000 hours of audio, which training never decodes again.
//!
//! - [`plan`] compares index and folder, once for all shards.
//! - [`work`] makes a row from a file, and tries again after temporary errors.
//! - [`store`] writes parts and failure tables, which are never changed.
//! - [`tidy`] drops rows that newer parts replaced, when no other run writes.
//! - [`compact`] merges many small parts into few large ones.
//! - [`array`] and [`plot`] show a single transform.
//! - [`paint`] writes the same files for synthetic versions of works that are given as notes.
//!
//! Because parts are only added, a killed run, a grown index, or concurrent runs of any shards lose no rows.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "the macros of bc_cli do not panic")]

pub mod array;
pub mod cli;
pub mod compact;
pub mod extract;
pub mod folder;
pub mod in_order;
pub mod inspect;
pub mod paint;
pub mod plan;
pub mod plot;
pub mod status;
pub mod store;
pub mod tidy;
pub mod work;
