//! Exact nearest-neighbour search and the usual retrieval metrics over embeddings.
//!
//! In: vectors (row-major, versions x dimensions) or a matrix of distances, a clique number for each
//! version, and a [`Policy`]. Out: [`Metrics`], or one [`QueryResult`] per query; and the nearest candidates of a query.
//!
//! Published codebases differ in their evaluation rules, so the rules are an argument: see [`Policy::named`]. Distances
//! are computed block by block, never as a whole matrix, and the ranks of the relevant candidates are found by counting
//! nearer ones, without sorting a row.
//!
//! ```
//! use bc_retrieval::{Policy, Vectors, evaluate};
//! let vectors = [1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.9];
//! let metrics = evaluate(&Vectors { vectors: &vectors, dim: 2 }, &[0, 0, 1, 1], &Policy::default())?;
//! assert_eq!(metrics.map, 1.0);
//! # Ok::<(), bc_retrieval::Error>(())
//! ```

mod distances;
mod metrics;
mod policy;
mod product;
mod ranks;
mod reciprocal;
mod scaling;
mod search;
mod smallest;
mod windows;

pub use distances::{Distance, Vectors, cosine};
pub use metrics::{Chance, Interval, Metrics, intervals};
pub use policy::{OwnEntry, Policy, Unmatched};
pub use ranks::{Labelled, QueryResult, rank_against, rank_all, rank_matrix};
pub use reciprocal::{Reciprocal, rerank_reciprocal};
pub use scaling::scale_locally;
pub use search::{Closest, Neighbour, closest_by_group, each_row, nearest};
pub use smallest::Smallest;
pub use windows::{Sides, WindowSearch, WindowSets, chamfer};

/// Errors in the input of an evaluation or search.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Lengths that do not match.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The name of the length that does not match.
        what: &'static str,
        /// The length that fits the other inputs.
        expected: usize,
        /// The length that was given.
        found: usize,
    },
    /// A vector or distance that is infinite or not a number.
    #[error("row {row} holds a value that is not a finite number; remove or recompute that version")]
    NotFinite {
        /// 0-based row.
        row: usize,
    },
    /// There is no query with a relevant candidate.
    #[error("no version has another version of its clique among the candidates, so nothing can be measured")]
    NothingToMeasure,
    /// A query without a relevant candidate under a policy that does not allow it.
    #[error(
        "query {query} has no other version of its clique, which this policy refuses; leave such versions out or use another policy"
    )]
    Unmatched {
        /// 0-based number of the query.
        query: usize,
    },
    /// A policy whose name is unknown.
    #[error("no policy is called {name:?}; there are {known}")]
    UnknownPolicy {
        /// The requested name.
        name: String,
        /// The known names.
        known: String,
    },
}

/// Computes the metrics of all versions against all others.
///
/// `cliques` holds one number for each row of `vectors`.
///
/// # Errors
/// When the lengths differ, a value is not finite, or there is nothing to measure.
pub fn evaluate(vectors: &Vectors<'_>, cliques: &[u32], policy: &Policy) -> Result<Metrics, Error> {
    Metrics::from_results(&rank_all(vectors, cliques, policy)?, policy)
}
