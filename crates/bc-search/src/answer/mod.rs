//! The works of an index that a recording may be a version of: one line per work, the likeliest first.

mod alignment;
pub mod query;
mod searcher;
mod table;
mod windows;
mod works;

use serde::Serialize;

use crate::aligned::Aligned;
use crate::index::Row;
use bc_calibration::Kind;
pub use query::Query;
pub use searcher::{Options, QueryEvidence, Searcher, WorkEvidence};
pub use table::table;

/// A work that the query may be a version of, by its best version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// Rank, from 1: by probability, or by score without a calibration.
    pub rank: usize,
    /// Similarity of the best version, from -1 to 1: the cosine of two vectors, or that of short windows where the index keeps them.
    pub score: f32,
    /// The probability that the query is a version of this work; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// What the query and the best version are: the same audio, one work, or unsure; absent without a calibration, unless it is
    /// the same file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What the index knows of the best version.
    #[serde(flatten)]
    pub row: Row,
    /// Where the window of the query that fits best begins, in seconds.
    pub query_start_s: f64,
    /// Where the indexed window that fits best begins, in seconds; 0 of whole recordings.
    pub start_s: f32,
    /// Versions of this work in the index, the best one included.
    pub versions: usize,
    /// Paths of the next best ones.
    pub other_versions: Vec<String>,
    /// The alignment of the query with the best version; absent if it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alignment: Option<Aligned>,
}

/// The answer to one query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The path asked for.
    pub query: String,
    /// The works, likeliest first, one line each; where short windows were compared, works that are likelier than not come first, and the others
    /// follow in the order of their locally scaled scores.
    pub hits: Vec<Hit>,
    /// The probability that the index holds no version of the query's work; absent without a
    /// calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability_of_none: Option<f64>,
}

/// A query without an answer, as it is written to JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// The path asked for.
    pub query: String,
    /// Why there is no answer.
    pub error: String,
}
