//! Stage 4: embeddings become figures and answers.
//!
//! **In**: `embeddings.parquet`, or a NumPy array with a text file of cliques, or a matrix of
//! distances. **Out**: the field's metrics with intervals and what chance would give
//! ([`metrics`]), the nearest versions of an indexed one ([`search`]), and the vectors in forms
//! that vector databases take ([`export`]).

pub mod array;
pub mod export;
pub mod metrics;
pub mod search;
