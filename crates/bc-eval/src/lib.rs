//! Stage 4: embeddings become figures and answers.
//!
//! **In**: a checkpoint and the features of an index ([`embed`]), audio files ([`recording`],
//! [`catalogue`]) or a NumPy array of inputs ([`inference`]); or embeddings that are there
//! already: `embeddings.parquet`, a NumPy array with a text file of cliques, a matrix of
//! distances. **Out**: `embeddings.parquet`; the field's metrics with intervals and what chance
//! would give ([`metrics`]); what a score means ([`calibration`]); a page that people look at
//! ([`report`]); the works that a recording may be a version of ([`search`]), or whether two are
//! of one ([`compare`]); and vectors and network in forms that other programs take ([`export`]).
//! What classical methods find on the same features is in [`baselines`].
//! [`stage`] does all that one experiment asks for.

pub mod baselines;
pub mod calibration;
pub mod catalogue;
pub mod cli;
pub mod compare;
pub mod embed;
pub mod embedder;
pub mod export;
pub mod inference;
pub mod lengths;
pub mod metrics;
pub mod origin;
pub mod recording;
pub mod report;
mod saving;
pub mod search;
pub mod stage;
mod versions;
pub mod windows;
