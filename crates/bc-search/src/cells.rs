//! Pairs of near vectors without looking at all pairs.
//!
//! Pivots are drawn evenly from the vectors; a vector belongs to the cell of its nearest pivot, and looks into the cells of its `probes`
//! nearest ones. With twice the square root of N pivots that is some `N * sqrt(N) * (2 + probes / 2)` products in the place of `N * N`.
//! A pair is missed where neither looks into the other's cell; [`crate::duplicates`] measures how often that is.

use bc_retrieval::Smallest;
use rayon::prelude::*;

use anyhow::Result;

use crate::index::vectors::{VectorFile, in_memory};
use crate::index::{Index, Recording};
use crate::scan::nearest::ScoredRow;
use crate::scan::{self, Queries};

/// Vectors that are compared with the pivots together.
const AT_ONCE: usize = 256;
/// Queries that are compared with a cell together: their scores fit a cache.
const TOGETHER: usize = 64;

/// A pair with its score, as indices into the given recordings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearPair {
    /// The recording that was compared with a cell.
    pub one: u32,
    /// The recording of that cell.
    pub other: u32,
    /// Their cosine.
    pub score: f32,
}

/// Recordings by cells.
pub struct Cells<'a> {
    index: &'a Index,
    recordings: &'a [Recording],
    /// By cell: the indices of its recordings.
    members: Vec<Vec<u32>>,
    /// By cell: the indices of the recordings that are compared with it.
    visitors: Vec<Vec<u32>>,
}

/// The rows of some recordings of an index of whole recordings, one vector each.
pub fn gathered(index: &Index, recordings: impl Iterator<Item = Recording>) -> Result<VectorFile> {
    let stored = recordings.map(|at| {
        let segment = &index.segments[at.segment as usize];
        Ok(segment.vectors.stored(segment.keys.vectors_of(at.number).0))
    });
    in_memory(index.manifest.storage, index.dim(), stored)
}

/// The same rows as queries.
pub fn queries(index: &Index, recordings: impl Iterator<Item = Recording>) -> Queries {
    let vectors: Vec<f32> = recordings
        .flat_map(|at| {
            let segment = &index.segments[at.segment as usize];
            segment.vectors.vector(segment.keys.vectors_of(at.number).0)
        })
        .collect();
    Queries::new(&vectors, index.dim(), index.manifest.storage)
}

impl<'a> Cells<'a> {
    /// Puts recordings, of one vector each, into cells.
    ///
    /// # Errors
    /// None for recordings of this index.
    pub fn of(index: &'a Index, recordings: &'a [Recording], probes: usize) -> Result<Self> {
        let count = ((2.0 * (recordings.len() as f64).sqrt()) as usize).clamp(1, recordings.len().max(1));
        let pivots = (0..count).map(|cell| recordings[cell * recordings.len() / count]);
        let pivots = gathered(index, pivots)?;
        let probes = probes.clamp(1, count);
        let nearest: Vec<Vec<u32>> = recordings
            .par_chunks(AT_ONCE)
            .flat_map_iter(|some| {
                let asked = queries(index, some.iter().copied());
                let scores = scan::scores_of_rows(&pivots, 0, count, &asked);
                let of = |query: usize| {
                    let mut best = Smallest::new(probes);
                    for cell in 0..count {
                        let score = scores[cell * asked.len() + query];
                        best.push(ScoredRow { score, segment: 0, row: cell as u32 });
                    }
                    best.into_sorted().into_iter().map(|found| found.row).collect()
                };
                (0..asked.len()).map(of).collect::<Vec<Vec<u32>>>()
            })
            .collect();
        let mut made =
            Self { index, recordings, members: vec![Vec::new(); count], visitors: vec![Vec::new(); count] };
        for (place, cells) in nearest.iter().enumerate() {
            made.members[cells[0] as usize].push(place as u32);
            cells.iter().for_each(|cell| made.visitors[*cell as usize].push(place as u32));
        }
        Ok(made)
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The pairs of a cell whose score is at least the threshold `least` of the recording that is compared with it.
    ///
    /// # Errors
    /// None for recordings of this index.
    pub fn pairs(&self, cell: usize, least: &[f32]) -> Result<Vec<NearPair>> {
        let members = &self.members[cell];
        let at = |place: &u32| self.recordings[*place as usize];
        let rows = gathered(self.index, members.iter().map(at))?;
        let mut found = Vec::new();
        for some in self.visitors[cell].chunks(TOGETHER) {
            let asked = queries(self.index, some.iter().map(at));
            let scores = scan::scores_of_rows(&rows, 0, members.len(), &asked);
            for (other, scores) in members.iter().zip(scores.chunks_exact(some.len().max(1))) {
                for (one, score) in some.iter().zip(scores) {
                    if *score >= least[*one as usize] && one != other {
                        found.push(NearPair { one: *one, other: *other, score: *score });
                    }
                }
            }
        }
        Ok(found)
    }
}
