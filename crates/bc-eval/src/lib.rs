//! Stage 4: computes embeddings and their figures.
//!
//! **In**: a checkpoint and the features of an index ([`embed`]), audio files
//! ([`catalogue`]) or a NumPy array of inputs ([`inference`]); or existing embeddings:
//! `embeddings.parquet`, a NumPy array with a text file of cliques, a matrix of
//! distances. **Out**: `embeddings.parquet`; the field's metrics with intervals and chance
//! level ([`metrics`]); the probabilities of scores ([`bc_calibration`]); a report
//! ([`report`]); and vectors and network in formats that other programs load ([`export`]).
//! [`stage`] runs all of this for one experiment. Searching belongs to bc-search; the commands of that name
//! forward their arguments to it ([`forward`]). [`excerpts`] measures how well short excerpts find their works. [`baselines`]
//! evaluates classical methods on the same features.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "the macros of bc_cli do not panic")]

pub mod analysis;
pub mod baselines;
pub mod catalogue;
pub mod cli;
pub mod embed;
pub mod excerpts;
pub mod export;
pub mod forward;
pub mod inference;
pub mod metrics;
pub mod report;
pub mod stage;
