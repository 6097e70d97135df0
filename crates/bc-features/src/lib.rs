//! Stage 2: the index's audio becomes pooled constant-Q features in Parquet.
//!
//! **In**: `index.parquet` (its usable versions) and their audio files. **Out**:
//! `part-*.parquet` (a row a version) and `failures.parquet` (a row a version that gave none) in
//! the folder `[features] output`.
//!
//! The features are made once and not in every epoch: on SHS100K that is 7,000 hours of audio
//! that training never decodes again. What is already there and still valid is kept
//! ([`plan`], [`status`]), so a killed run, a grown index, or a second shard adds rows and loses none. [`array`] and
//! [`plot`] are for people who want to look at a transform. [`paint`] writes the same files of made-up
//! versions of works that are there as notes.

pub mod array;
pub mod cli;
pub mod extract;
pub mod folder;
pub mod in_order;
pub mod inspect;
pub mod paint;
pub mod plan;
pub mod plot;
pub mod status;
