//! Finds pairs of near vectors without comparing all pairs.
//!
//! Pivots are drawn evenly from the vectors; a vector belongs to the cell of its nearest pivot, and is compared with the cells of its
//! `probes` nearest pivots. With twice the square root of N pivots that is about `N * sqrt(N) * (2 + probes / 2)` products instead of
//! `N * N`. A pair is missed if neither vector is compared with the other's cell; [`crate::duplicates`] measures how often that is.

use bc_retrieval::Smallest;
use rayon::prelude::*;

use anyhow::Result;

use crate::index::vectors::{VectorFile, in_memory};
use crate::index::{Index, Recording};
use crate::scan::nearest::ScoredRow;
use crate::scan::{self, Queries};

/// Number of vectors that are compared with the pivots at once.
const PIVOT_BATCH: usize = 256;
/// Number of queries that are compared with a cell at once: their scores fit a cache.
const CELL_BATCH: usize = 64;

/// A pair with its score, as indices into the given recordings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearPair {
    /// The recording that was compared with a cell.
    pub query: u32,
    /// The recording of that cell.
    pub member: u32,
    /// Cosine of the two vectors.
    pub score: f32,
}

/// Recordings, grouped into cells.
pub struct Cells<'a> {
    index: &'a Index,
    recordings: &'a [Recording],
    /// For each cell, the indices of its recordings.
    members: Vec<Vec<u32>>,
    /// For each cell, the indices of the recordings that are compared with it.
    compared: Vec<Vec<u32>>,
}

/// Copies the stored vectors of recordings of one vector each.
pub fn copy_vectors(index: &Index, recordings: impl Iterator<Item = Recording>) -> Result<VectorFile> {
    let stored = recordings.map(|recording| {
        let segment = &index.segments[recording.segment as usize];
        Ok(segment.vectors.stored(segment.keys.vectors_of(recording.number).0))
    });
    in_memory(index.manifest.storage, index.dim(), stored)
}

/// The vectors of recordings of one vector each, as queries.
pub fn queries(index: &Index, recordings: impl Iterator<Item = Recording>) -> Queries {
    let vectors: Vec<f32> = recordings
        .flat_map(|recording| {
            let segment = &index.segments[recording.segment as usize];
            segment.vectors.vector(segment.keys.vectors_of(recording.number).0)
        })
        .collect();
    Queries::new(&vectors, index.dim(), index.manifest.storage)
}

impl<'a> Cells<'a> {
    /// Assigns recordings of one vector each to cells.
    ///
    /// # Errors
    /// Does not fail for recordings of this index.
    pub fn new(index: &'a Index, recordings: &'a [Recording], probes: usize) -> Result<Self> {
        let count = ((2.0 * (recordings.len() as f64).sqrt()) as usize).clamp(1, recordings.len().max(1));
        let pivots = (0..count).map(|cell| recordings[cell * recordings.len() / count]);
        let pivots = copy_vectors(index, pivots)?;
        let probes = probes.clamp(1, count);
        let nearest: Vec<Vec<u32>> = recordings
            .par_chunks(PIVOT_BATCH)
            .flat_map_iter(|batch| {
                let batch_queries = queries(index, batch.iter().copied());
                let scores = scan::scores_of_rows(&pivots, 0, count, &batch_queries);
                let nearest_cells = |query: usize| {
                    let mut best = Smallest::new(probes);
                    for cell in 0..count {
                        let score = scores[cell * batch_queries.len() + query];
                        best.push(ScoredRow { score, segment: 0, row: cell as u32 });
                    }
                    best.into_sorted().into_iter().map(|pivot| pivot.row).collect()
                };
                (0..batch_queries.len()).map(nearest_cells).collect::<Vec<Vec<u32>>>()
            })
            .collect();
        let mut cells =
            Self { index, recordings, members: vec![Vec::new(); count], compared: vec![Vec::new(); count] };
        for (position, nearest) in nearest.iter().enumerate() {
            cells.members[nearest[0] as usize].push(position as u32);
            nearest.iter().for_each(|cell| cells.compared[*cell as usize].push(position as u32));
        }
        Ok(cells)
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The pairs of a cell whose score is at least the threshold in `min_scores` of the recording that is compared with it.
    ///
    /// # Errors
    /// Does not fail for recordings of this index.
    pub fn pairs(&self, cell: usize, min_scores: &[f32]) -> Result<Vec<NearPair>> {
        let members = &self.members[cell];
        let recording = |position: &u32| self.recordings[*position as usize];
        let rows = copy_vectors(self.index, members.iter().map(recording))?;
        let mut pairs = Vec::new();
        for batch in self.compared[cell].chunks(CELL_BATCH) {
            let batch_queries = queries(self.index, batch.iter().map(recording));
            let scores = scan::scores_of_rows(&rows, 0, members.len(), &batch_queries);
            for (member, scores) in members.iter().zip(scores.chunks_exact(batch.len().max(1))) {
                for (query, score) in batch.iter().zip(scores) {
                    if *score >= min_scores[*query as usize] && query != member {
                        pairs.push(NearPair { query: *query, member: *member, score: *score });
                    }
                }
            }
        }
        Ok(pairs)
    }
}
