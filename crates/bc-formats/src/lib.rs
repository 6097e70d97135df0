//! The file formats that the stages exchange, and the configuration that they share.
//!
//! **In**: paths. **Out**: plain structs ([`index::Index`], [`features::FeatureRow`],
//! [`embeddings::Embeddings`], [`config::Config`]) or the same structs written as
//! Parquet, JSON and TOML.
//!
//! The stages share nothing at run time, so everything that one stage must know about the output of another is in the file itself:
//! each file has a [`provenance::Provenance`] (format and version, settings, fingerprint, fingerprints of its inputs). A reader
//! compares these and refuses files that do not match. A file appears under its name only when it is complete ([`atomic`]). The
//! exact schemas are in `docs/FORMATS.md`.

pub mod array;
pub mod atomic;
pub mod audio_root;
pub mod config;
pub mod embeddings;
pub mod features;
pub mod fingerprint;
pub mod index;
pub mod lock;
pub mod provenance;
pub mod retry;
pub mod run;
mod table;
