//! Approximate search: a graph for each large segment of an index.
//!
//! **In**: an index. **Out**: for each of its large segments a file `segments/<name>.ann` with a graph over its rows (HNSW: Malkov and
//! Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small world graphs", IEEE
//! TPAMI 42, 2020; made by usearch). A graph holds links and no vectors: distances are those of the index's own rows, by the
//! products of [`crate::scan`]. Segments never change, so a graph is valid as long as its segment exists; segments
//! without a graph (new or small ones) are searched exactly, and removed recordings are left out.
//!
//! A graph only makes searches faster: it can be removed and rebuilt at any time, and a program without the feature `ann` ignores it.

#[cfg(not(feature = "ann"))]
mod absent;
#[cfg(feature = "ann")]
mod build;
#[cfg(feature = "ann")]
mod graph;
#[cfg(feature = "ann")]
mod search;
#[cfg(feature = "ann")]
mod sidecar;
#[cfg(feature = "ann")]
mod view;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::index::segment;

#[cfg(not(feature = "ann"))]
pub use absent::{Graphs, build, damaged};
#[cfg(feature = "ann")]
pub use {build::build, search::Graphs, sidecar::damaged};

/// How to build graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Links of a row (M of HNSW), twice as many on the lowest level: more links raise recall, size and time.
    pub connectivity: usize,
    /// Candidate rows that are examined for the links of a new row (efConstruction of HNSW).
    pub expansion: usize,
    /// Minimum number of vectors of a segment to get a graph; smaller segments are searched exactly.
    pub min_vectors: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connectivity: 16, expansion: 128, min_vectors: 20_000 }
    }
}

/// The cost and the recall of a graph that was built.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BuiltGraph {
    /// The segment's name.
    pub segment: String,
    /// Number of its vectors.
    pub vectors: usize,
    /// Seconds that building took.
    pub build_s: f64,
    /// Bytes of the graph.
    pub bytes: u64,
    /// Share of the ten exactly nearest rows that the graph finds, with rows of the segment as queries.
    pub recall_at_10: f64,
    /// Median seconds of a query by the graph.
    pub query_s: f64,
    /// Seconds of an exact query, as one of a batch.
    pub exact_query_s: f64,
}

/// The file of a segment's graph.
#[must_use]
pub fn file(index: &Path, name: &str) -> PathBuf {
    segment::folder(index).join(segment::graph_name(name))
}
