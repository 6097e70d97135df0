//! Answers queries: the works of an index that a recording may be a version of, one line per work, the likeliest first.

mod alignment;
mod candidates;
mod cohort;
mod cohort_scores;
mod evidence;
pub mod query;
mod searcher;
mod table;
mod windows;
mod works;

use serde::Serialize;

use crate::aligned::Aligned;
use crate::index::Row;
use bc_calibration::PairKind;
pub use evidence::{QueryEvidence, WorkEvidence};
pub use query::Query;
pub use searcher::{Options, Searcher};
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
    /// The kind of the pair of query and best version: same audio if a version is the same file, near-identical audio, same work, or
    /// unsure; absent without a calibration, unless it is the same file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PairKind>,
    /// The index entry of the best version.
    #[serde(flatten)]
    pub row: Row,
    /// Where the best window of the query begins, in seconds.
    pub query_start_s: f64,
    /// Where the best indexed window begins, in seconds; 0 for whole recordings.
    pub start_s: f32,
    /// Versions of this work in the index, the best one included.
    pub versions: usize,
    /// Paths of the next best versions.
    pub other_versions: Vec<String>,
    /// The alignment of the query with the best version; absent unless requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alignment: Option<Aligned>,
}

/// The answer to one query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Path or name of the query.
    pub query: String,
    /// The works, likeliest first, one line each; if short windows were compared, works with a probability above 0.5 come first, and the others
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
    /// Path or name of the query.
    pub query: String,
    /// Why there is no answer.
    pub error: String,
}
