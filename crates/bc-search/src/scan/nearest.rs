//! Collects the best rows of a query while rows are scanned.

use std::cmp::Ordering;

use bc_retrieval::Smallest;

use crate::index::VectorId;

/// A row with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredRow {
    /// Cosine of the row and the query.
    pub score: f32,
    /// Number of the segment.
    pub segment: u32,
    /// Number of the vector in the segment.
    pub row: u32,
}

impl ScoredRow {
    /// The vector.
    pub fn vector(&self) -> VectorId {
        VectorId { segment: self.segment, row: self.row as usize }
    }
}

impl Eq for ScoredRow {}

impl PartialOrd for ScoredRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ScoredRow {
    /// The best first: by descending score, ties in order of the rows.
    fn cmp(&self, other: &Self) -> Ordering {
        let position = |row: &Self| (row.segment, row.row);
        other.score.total_cmp(&self.score).then(position(self).cmp(&position(other)))
    }
}

/// The `k` best rows so far.
pub struct TopK {
    best: Smallest<ScoredRow>,
    /// Minimum score that a row needs to be among the best.
    pub min_score: f32,
}

impl TopK {
    /// An empty list for `k` rows.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { best: Smallest::new(k), min_score: f32::NEG_INFINITY }
    }

    /// Adds a row that may be among the best.
    pub fn push(&mut self, row: ScoredRow) {
        self.best.push(row);
        if self.best.is_full() {
            self.min_score = self.best.largest().map_or(f32::INFINITY, |worst| worst.score);
        }
    }

    /// Adds the rows of another list.
    pub fn merge(&mut self, other: Self) {
        other.best.into_unsorted().for_each(|row| self.push(row));
    }

    /// The rows, the best first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<ScoredRow> {
        self.best.into_sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_k_equals_a_sort_in_any_order_of_insertion() {
        let all: Vec<ScoredRow> = (0..500u32)
            .map(|row| ScoredRow {
                score: (row.wrapping_mul(2_654_435_761) >> 27) as f32,
                segment: row % 3,
                row,
            })
            .collect();
        let mut sorted = all.clone();
        sorted.sort();
        for k in [0, 1, 7, 499, 500, 600] {
            let (mut one, mut two) = (TopK::new(k), TopK::new(k));
            for found in &all {
                if found.row % 2 == 0 { &mut one } else { &mut two }.push(*found);
            }
            two.merge(one);
            assert_eq!(two.into_sorted(), sorted[..k.min(500)], "k = {k}");
        }
    }
}
