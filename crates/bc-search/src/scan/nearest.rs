//! The best rows of a query, while rows come by.

use std::cmp::Ordering;

use bc_retrieval::Smallest;

/// A row with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Cosine.
    pub score: f32,
    /// Segment.
    pub segment: u32,
    /// Vector in the segment.
    pub row: u32,
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    /// The best first: higher scores, and of equal ones the row that comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |found: &Self| (found.segment, found.row);
        other.score.total_cmp(&self.score).then(place(self).cmp(&place(other)))
    }
}

/// The `k` best so far.
pub struct Nearest {
    best: Smallest<Found>,
    /// What a row must score at least to count.
    pub least: f32,
}

impl Nearest {
    /// Without rows.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { best: Smallest::new(k), least: f32::NEG_INFINITY }
    }

    /// A row that may be among the best.
    pub fn push(&mut self, found: Found) {
        self.best.push(found);
        if self.best.is_full() {
            self.least = self.best.largest().map_or(f32::INFINITY, |worst| worst.score);
        }
    }

    /// Takes over those of another.
    pub fn merge(&mut self, other: Self) {
        other.best.into_unsorted().for_each(|found| self.push(found));
    }

    /// The best first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Found> {
        self.best.into_sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_gives_what_a_sort_gives_in_whatever_order_rows_come() {
        let all: Vec<Found> = (0..500u32)
            .map(|row| Found { score: (row.wrapping_mul(2_654_435_761) >> 27) as f32, segment: row % 3, row })
            .collect();
        let mut sorted = all.clone();
        sorted.sort();
        for k in [0, 1, 7, 499, 500, 600] {
            let (mut one, mut two) = (Nearest::new(k), Nearest::new(k));
            for found in &all {
                if found.row % 2 == 0 { &mut one } else { &mut two }.push(*found);
            }
            two.merge(one);
            assert_eq!(two.into_sorted(), sorted[..k.min(500)], "k = {k}");
        }
    }
}
