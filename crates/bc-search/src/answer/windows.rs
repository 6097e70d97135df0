//! Scores candidates again by their short windows.
//!
//! A cover leaves sections out, moves them and plays at another tempo, so one vector per recording averages over what two
//! recordings share. Candidates that whole recordings found are compared window by window: the Chamfer similarity of
//! [`bc_retrieval::chamfer`], at the query's best tempo. The scores of the best are then scaled by their neighbourhoods
//! (local scaling, as [`bc_retrieval::scale_locally`]): a recording that is near to many of its rivals is a hub, and its score counts for less.

use std::ops::Range;

use bc_retrieval::{Sides, chamfer};
use rayon::prelude::*;

use super::query::Query;
use crate::index::{Index, Recording};
use crate::scan::{self, Queries};

/// Number of best candidates that are compared with each other for local scaling.
const RIVALS: usize = 50;

/// The windows of a query, at each of its tempi.
pub(super) struct QueryWindows {
    queries: Queries,
    /// For each tempo, the columns of its windows in the scores.
    spans: Vec<Range<usize>>,
}

impl QueryWindows {
    /// The windows of `query`; `None` if the index or the query has none.
    pub fn new(query: &Query, index: &Index) -> Option<Self> {
        let storage = index.segments.iter().find_map(|segment| segment.windows.as_ref())?.vectors.storage;
        let (mut vectors, mut spans, mut before) = (Vec::new(), Vec::new(), 0);
        for windows in query.tempi.iter().filter(|windows| !windows.is_empty()) {
            windows.iter().for_each(|window| vectors.extend_from_slice(&window.vector));
            spans.push(before..before + windows.len());
            before += windows.len();
        }
        let windows = Self { queries: Queries::new(&vectors, index.dim(), storage), spans };
        (windows.queries.len() == before && before > 0).then_some(windows)
    }

    /// The windows of a recording of the index, at its own tempo.
    fn from_recording(index: &Index, recording: Recording) -> Option<Self> {
        let windows = index.segments[recording.segment as usize].windows.as_ref()?;
        let parts = index.short_windows(recording);
        let vectors: Vec<f32> = parts.iter().flat_map(|(_, vector)| vector).copied().collect();
        let queries = Queries::new(&vectors, index.dim(), windows.vectors.storage);
        Some(Self { queries, spans: std::iter::once(0..parts.len()).collect() })
    }

    /// The similarity to a recording of the index, from -1 to 1.
    fn score(&self, index: &Index, recording: Recording, sides: Sides) -> Option<f32> {
        let windows = index.segments[recording.segment as usize].windows.as_ref()?;
        let (first, end) = windows.keys.vectors_of(recording.number);
        let cosines = scan::scores_of_rows(&windows.vectors, first, end, &self.queries);
        let mut scratch = vec![0.0; end - first];
        let similarity =
            |span: &Range<usize>| chamfer(&cosines, self.queries.len(), span.clone(), &mut scratch, sides);
        let best = self.spans.iter().map(similarity).fold(f32::NEG_INFINITY, f32::max);
        (end > first).then(|| best.clamp(-1.0, 1.0))
    }

    /// The similarities to recordings of the index, in their order.
    pub fn scores(&self, index: &Index, recordings: &[Recording], sides: Sides) -> Option<Vec<f32>> {
        recordings.par_iter().map(|recording| self.score(index, *recording, sides)).collect()
    }
}

/// Locally scaled scores: twice each similarity in `scores` (the best first) minus the recording's mean similarity to its
/// `neighbours` nearest among the best. Those that are not among the best follow in their order.
pub(super) fn locally_scaled(
    index: &Index,
    recordings: &[Recording],
    scores: &[f32],
    neighbours: usize,
) -> Vec<f32> {
    let rivals = &recordings[..recordings.len().min(RIVALS)];
    let count = neighbours.min(rivals.len().saturating_sub(1));
    if count == 0 {
        return scores.to_vec();
    }
    // Similarities are symmetric, because both recordings are at their own tempo.
    let rows: Vec<Vec<f32>> = rivals
        .par_iter()
        .enumerate()
        .map(|(position, recording)| {
            let windows = QueryWindows::from_recording(index, *recording);
            windows
                .and_then(|windows| windows.scores(index, &rivals[..position], Sides::Both))
                .unwrap_or_default()
        })
        .collect();
    let similarity = |a: usize, b: usize| rows[a.max(b)].get(a.min(b)).copied().unwrap_or(0.0);
    let hubness = |rival: usize| {
        let mut others: Vec<f32> =
            (0..rivals.len()).filter(|other| *other != rival).map(|other| similarity(rival, other)).collect();
        others.sort_unstable_by(|a, b| b.total_cmp(a));
        others[..count].iter().sum::<f32>() / count as f32
    };
    // Below any scaled score.
    const PENALTY: f32 = 10.0;
    let scaled = |(position, score): (usize, &f32)| {
        if position < rivals.len() { 2.0 * score - hubness(position) } else { score - PENALTY }
    };
    scores.iter().enumerate().map(scaled).collect()
}
