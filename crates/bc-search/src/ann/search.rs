//! Finds the nearest rows by graphs, and by an exact search of segments that have none.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::graph::Graph;
use crate::index::{Index, VectorId};
use crate::scan::nearest::TopK;
use crate::scan::{self, Queries, ScoredRow};

/// The graphs of an index, by segment.
#[derive(Debug, Clone)]
pub struct Graphs(BTreeMap<String, Arc<Graph>>);

impl Graphs {
    /// Opens the graphs of an index, reusing those of `open_graphs`.
    ///
    /// # Errors
    /// There are no graphs; a graph that is damaged or of other vectors.
    pub fn open(index: &Index, open_graphs: Option<&Self>) -> Result<Self> {
        let mut graphs = BTreeMap::new();
        for entry in &index.manifest.segments {
            let already_open = open_graphs.and_then(|graphs| graphs.0.get(&entry.name).cloned());
            let opened = match already_open {
                Some(graph) => Some(graph),
                None => Graph::open(&index.path, entry)?.map(Arc::new),
            };
            graphs.extend(opened.map(|graph| (entry.name.clone(), graph)));
        }
        ensure!(
            !graphs.is_empty() || open_graphs.is_some(),
            "no segment of {0} has a graph; build them with `bc-search ann build --index {0}`, or search exactly",
            index.path.display()
        );
        Ok(Self(graphs))
    }

    /// The `k` best vectors of every query, as [`scan::nearest`], but approximate: some of the best may be missed. Scores are exact.
    #[must_use]
    pub fn nearest(&self, index: &Index, queries: &Queries, k: usize) -> Vec<Vec<ScoredRow>> {
        let graphs: Vec<Option<&Arc<Graph>>> =
            index.manifest.segments.iter().map(|entry| self.0.get(&entry.name)).collect();
        let exact = scan::nearest_of_segments(index, queries, k, |segment| {
            graphs.get(segment as usize).copied().flatten().is_none()
        });
        let by_query = exact.into_par_iter().enumerate().map(|(number, exact)| {
            let query = queries.single(number);
            let mut best = TopK::new(k);
            exact.into_iter().for_each(|row| best.push(row));
            for (segment, graph) in (0u32..).zip(&graphs) {
                let Some(graph) = graph else { continue };
                nearest_in_segment(index, segment, graph, &query, k)
                    .into_iter()
                    .for_each(|row| best.push(row));
            }
            best.into_sorted()
        });
        by_query.collect()
    }
}

/// The rows that the graph of a segment finds, with their exact scores.
pub(super) fn nearest_in_segment(
    index: &Index,
    segment: u32,
    graph: &Graph,
    query: &Queries,
    k: usize,
) -> Vec<ScoredRow> {
    let searched = &index.segments[segment as usize];
    let is_present = |row: u64| {
        let source = searched.keys.sources().get(row as usize);
        source.is_some_and(|source| !searched.removed.has(source.recording))
    };
    let rows = match graph.nearest(query, k, is_present) {
        Ok(rows) => rows,
        Err(error) => {
            // A graph only makes searches faster.
            tracing::warn!("a segment is searched exactly: {error:#}");
            let exact = scan::nearest_of_segments(index, query, k, |number| number == segment);
            return exact.into_iter().flatten().collect();
        }
    };
    let vectors: Vec<VectorId> =
        rows.into_iter().map(|row| VectorId { segment, row: row as usize }).collect();
    let scores = scan::scores_of(index, &vectors, query);
    let scored = vectors.iter().zip(scores);
    scored.map(|(vector, score)| ScoredRow { score, segment, row: vector.row as u32 }).collect()
}
