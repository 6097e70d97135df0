//! Stage 4: embeddings become figures and answers.
//!
//! **In**: a checkpoint and the features of an index ([`embed`]); or embeddings that are there
//! already: `embeddings.parquet`, a NumPy array with a text file of cliques, a matrix of
//! distances. **Out**: `embeddings.parquet`; the field's metrics with intervals and what chance
//! would give ([`metrics`]); a page that people look at ([`report`]); the nearest versions of
//! a recording ([`search`]); and the vectors in forms that vector databases take ([`export`]).
//! [`stage`] does all that one experiment asks for.

pub mod cli;
pub mod embed;
pub mod embedder;
pub mod export;
pub mod lengths;
pub mod metrics;
pub mod report;
pub mod search;
pub mod stage;
