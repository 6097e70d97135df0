//! Stage 4: embeddings become figures.
//!
//! **In**: a checkpoint and the features of an index ([`embed`]), audio files
//! ([`catalogue`]) or a NumPy array of inputs ([`inference`]); or existing embeddings:
//! `embeddings.parquet`, a NumPy array with a text file of cliques, a matrix of
//! distances. **Out**: `embeddings.parquet`; the field's metrics with intervals and what chance
//! would give ([`metrics`]); what a score means ([`bc_calibration`]); a page to look at
//! ([`report`]); and vectors and network in formats that other programs load ([`export`]).
//! [`stage`] does all that one experiment asks for. Searching is bc-search's; the commands of that name
//! hand their arguments on to it ([`forward`]). How well short excerpts find their works is measured by [`excerpts`]. [`baselines`] evaluates classical methods on the same features.

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
