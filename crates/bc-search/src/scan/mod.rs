//! Exact search: every row of the index against all queries of a batch.
//!
//! Blocks of rows that fit a core's cache are multiplied with all queries ([`products`]); each thread keeps the best rows of each
//! query ([`nearest`]). The speed of a single query is limited by memory bandwidth; a batch reads the rows once.

pub mod nearest;
pub mod products;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;

use crate::index::vectors::VectorFile;
use crate::index::{Index, Segment, Storage, VectorId};
pub use nearest::ScoredRow;
use nearest::TopK;
use products::{INTEGERS, InstructionSet};

/// Bytes of rows that are multiplied at a time: part of a core's L2 cache.
const BLOCK_BYTES: usize = 128 << 10;
/// Bytes of rows that a thread scans at a time.
const SPAN_BYTES: usize = 4 << 20;

/// Queries in the form in which they are multiplied with rows of an index.
pub struct Queries {
    width: usize,
    count: usize,
    floats: Vec<f32>,
    integers: Vec<i16>,
}

impl Queries {
    /// Number of queries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no queries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A single query of the batch.
    ///
    /// # Panics
    /// If there is no query of this number.
    #[must_use]
    pub fn single(&self, number: usize) -> Self {
        let span = number * self.width..(number + 1) * self.width;
        let integers = self.integers.get(span.clone()).unwrap_or_default().to_vec();
        Self { width: self.width, count: 1, floats: self.floats[span].to_vec(), integers }
    }

    /// Prepares vectors of `dim` numbers each, one after another, of any non-zero length, which are scaled to length 1. A vector of
    /// zeros scores 0 with everything.
    #[must_use]
    pub fn new(vectors: &[f32], dim: usize, storage: Storage) -> Self {
        let width = Storage::padded(dim);
        let mut floats = Vec::with_capacity(vectors.len() / dim.max(1) * width);
        for vector in vectors.chunks_exact(dim.max(1)) {
            let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            let share = if length > 0.0 { 1.0 / length } else { 0.0 };
            floats.extend(vector.iter().map(|value| (f64::from(*value) * share) as f32));
            floats.resize(floats.len() + width - dim, 0.0);
        }
        let count = floats.len() / width.max(1);
        let mut queries = Self { width, count, floats, integers: Vec::new() };
        if storage == Storage::Int8 {
            queries.integers = queries.floats.iter().map(|value| (value * INTEGERS).round() as i16).collect();
        }
        queries
    }
}

/// The scores of rows `first` to `end` of a file: `scores[row * queries + query]`.
fn score(
    instructions: InstructionSet,
    file: &VectorFile,
    [first, end]: [usize; 2],
    queries: &Queries,
    integer_products: &mut Vec<i32>,
    scores: &mut [f32],
) {
    let bytes = file.row_bytes(first, end);
    match file.storage {
        Storage::F16 => {
            let rows: &[f16] = bytemuck::cast_slice(bytes);
            products::floats(instructions, rows, &queries.floats, queries.width, scores);
        }
        Storage::Int8 => {
            let rows: &[i8] = bytemuck::cast_slice(bytes);
            integer_products.resize(scores.len(), 0);
            products::integers(instructions, rows, &queries.integers, queries.width, integer_products);
            let scales = file.scales(first, end);
            for ((scores, products), scale) in
                scores.chunks_mut(queries.count).zip(integer_products.chunks(queries.count)).zip(scales)
            {
                let factor = scale / INTEGERS;
                scores
                    .iter_mut()
                    .zip(products)
                    .for_each(|(score, product)| *score = *product as f32 * factor);
            }
        }
    }
}

/// The rows `first` to `end` of a segment, which a thread scans at a time.
#[derive(Clone, Copy)]
struct Span {
    segment: u32,
    first: usize,
    end: usize,
}

/// Divides the segments that `is_searched` accepts into spans.
fn spans(index: &Index, is_searched: impl Fn(u32) -> bool) -> Vec<Span> {
    let mut spans = Vec::new();
    for (segment, number) in index.segments.iter().zip(0u32..).filter(|(_, number)| is_searched(*number)) {
        let rows = (SPAN_BYTES / segment.vectors.stride.max(1)).max(1);
        let firsts = (0..segment.vectors.rows).step_by(rows);
        spans.extend(firsts.map(|first| {
            let end = (first + rows).min(segment.vectors.rows);
            Span { segment: number, first, end }
        }));
    }
    spans
}

/// The `k` best vectors of every query among those whose recordings were not removed, the best first.
#[must_use]
pub fn nearest(index: &Index, queries: &Queries, k: usize) -> Vec<Vec<ScoredRow>> {
    nearest_with(index, queries, k, InstructionSet::detect())
}

/// As [`nearest()`], with a given instruction set.
#[must_use]
pub fn nearest_with(
    index: &Index,
    queries: &Queries,
    k: usize,
    instructions: InstructionSet,
) -> Vec<Vec<ScoredRow>> {
    nearest_in(spans(index, |_| true), index, queries, k, instructions)
}

/// As [`nearest()`], of only those segments that `is_searched` accepts.
#[must_use]
pub fn nearest_of_segments(
    index: &Index,
    queries: &Queries,
    k: usize,
    is_searched: impl Fn(u32) -> bool,
) -> Vec<Vec<ScoredRow>> {
    nearest_in(spans(index, is_searched), index, queries, k, InstructionSet::detect())
}

fn nearest_in(
    spans: Vec<Span>,
    index: &Index,
    queries: &Queries,
    k: usize,
    instructions: InstructionSet,
) -> Vec<Vec<ScoredRow>> {
    let next = AtomicUsize::new(0);
    let empty = || -> Vec<TopK> { (0..queries.count).map(|_| TopK::new(k)).collect() };
    let all = Mutex::new(empty());
    let work = || {
        let mut best = empty();
        let mut worker = Worker { instructions, queries, integer_products: Vec::new(), scores: Vec::new() };
        while let Some(span) = spans.get(next.fetch_add(1, Ordering::Relaxed)) {
            worker.scan(&index.segments[span.segment as usize], *span, &mut best);
        }
        let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.iter_mut().zip(best).for_each(|(all, best)| all.merge(best));
    };
    if queries.count > 0 && k > 0 {
        rayon::scope(|scope| {
            for _ in 0..rayon::current_num_threads().min(spans.len()) {
                scope.spawn(|_| work());
            }
        });
    }
    let all = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.into_iter().map(TopK::into_sorted).collect()
}

/// The buffers of one thread of a search.
struct Worker<'a> {
    instructions: InstructionSet,
    queries: &'a Queries,
    integer_products: Vec<i32>,
    scores: Vec<f32>,
}

impl Worker<'_> {
    /// Multiplies the rows of a span with all queries, and adds the best to `best`, one list per query.
    fn scan(&mut self, segment: &Segment, span: Span, best: &mut [TopK]) {
        let rows = (BLOCK_BYTES / segment.vectors.stride).max(1);
        let mut first = span.first;
        while first < span.end {
            let end = (first + rows).min(span.end);
            self.scores.resize((end - first) * self.queries.count, 0.0);
            score(
                self.instructions,
                &segment.vectors,
                [first, end],
                self.queries,
                &mut self.integer_products,
                &mut self.scores,
            );
            for (row, scores) in (first..end).zip(self.scores.chunks_exact(self.queries.count)) {
                for (score, best) in scores.iter().zip(best.iter_mut()) {
                    if *score >= best.min_score {
                        let recording = segment.keys.sources()[row].recording;
                        if !segment.removed.has(recording) {
                            best.push(ScoredRow { score: *score, segment: span.segment, row: row as u32 });
                        }
                    }
                }
            }
            first = end;
        }
    }
}

/// The scores of rows `first` to `end` of a file with all queries: `scores[row * queries + query]`.
#[must_use]
pub fn scores_of_rows(file: &VectorFile, first: usize, end: usize, queries: &Queries) -> Vec<f32> {
    let mut scores = vec![0.0; (end - first) * queries.count];
    if !scores.is_empty() {
        score(InstructionSet::detect(), file, [first, end], queries, &mut Vec::new(), &mut scores);
    }
    scores
}

/// The score of one row with one query.
#[cfg(feature = "ann")]
pub(crate) fn score_of_row(
    instructions: InstructionSet,
    file: &VectorFile,
    row: usize,
    query: &Queries,
) -> f32 {
    let mut scores = [0.0];
    // The buffer for integers is allocated once per thread.
    thread_local!(static BUFFER: std::cell::RefCell<Vec<i32>> = const { std::cell::RefCell::new(Vec::new()) });
    BUFFER.with_borrow_mut(|integer_products| {
        score(instructions, file, [row, row + 1], query, integer_products, &mut scores)
    });
    scores[0]
}

/// The scores of given vectors with all queries, as in a search: `scores[vector * queries + query]`.
#[must_use]
pub fn scores_of(index: &Index, vectors: &[VectorId], queries: &Queries) -> Vec<f32> {
    let (instructions, mut integer_products) = (InstructionSet::detect(), Vec::new());
    let mut scores = vec![0.0; vectors.len() * queries.count];
    for (VectorId { segment, row }, scores) in vectors.iter().zip(scores.chunks_mut(queries.count.max(1))) {
        let file = &index.segments[*segment as usize].vectors;
        score(instructions, file, [*row, row + 1], queries, &mut integer_products, scores);
    }
    scores
}
