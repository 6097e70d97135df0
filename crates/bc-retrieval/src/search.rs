//! Finds the nearest candidates of a query, and the nearest ones of every group of candidates.

use std::cmp::Ordering;

use crate::distances::{Prepared, by_block, by_query, centre};
use crate::smallest::Smallest;
use crate::{Distance, Error, Vectors};

/// A candidate and its distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Row of the candidate.
    pub row: usize,
    /// Distance of the candidate from the query.
    pub distance: f32,
}

/// The nearest pair of a query and a candidate of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closest {
    /// Row of the query.
    pub query: usize,
    /// Row of the candidate.
    pub row: usize,
    /// Distance of the query and the candidate.
    pub distance: f32,
}

/// Prepares queries and candidates for matrix products; returns `None` if there are no queries or no candidates.
fn prepared(
    queries: &Vectors<'_>,
    candidates: &Vectors<'_>,
    distance: Distance,
) -> Result<Option<(Prepared, Prepared)>, Error> {
    queries.check()?;
    candidates.check()?;
    if candidates.rows() == 0 || queries.rows() == 0 {
        return Ok(None);
    }
    if queries.dim != candidates.dim {
        let (expected, found) = (candidates.dim, queries.dim);
        return Err(Error::Shape { what: "dimensions of the query", expected, found });
    }
    let centre = centre(candidates);
    Ok(Some((Prepared::new(queries, distance, &centre), Prepared::new(candidates, distance, &centre))))
}

/// Finds the `k` nearest candidates of every query, nearest first, ties in order of the rows.
///
/// # Errors
/// When the dimensions differ or a value is not finite.
pub fn nearest(
    queries: &Vectors<'_>,
    candidates: &Vectors<'_>,
    distance: Distance,
    k: usize,
) -> Result<Vec<Vec<Neighbour>>, Error> {
    let Some((left, right)) = prepared(queries, candidates, distance)? else {
        return Ok(vec![Vec::new(); queries.rows()]);
    };
    Ok(by_query(&left, &right, |_, row| nearest_of_row(row, k)))
}

/// Finds the nearest pair of a query and a candidate for every group of candidates, for example the best windows of
/// each version. `groups` holds the group of each candidate, below `count`. Ties go to the query and the row that
/// come first. Memory: one entry per group and a block of distances, whatever the number of queries.
///
/// # Errors
/// When the lengths or dimensions differ or a value is not finite.
pub fn closest_by_group(
    queries: &Vectors<'_>,
    candidates: &Vectors<'_>,
    distance: Distance,
    groups: &[u32],
    count: usize,
) -> Result<Vec<Option<Closest>>, Error> {
    let require_length = |what, expected, found| {
        if expected == found { Ok(()) } else { Err(Error::Shape { what, expected, found }) }
    };
    require_length("group numbers", candidates.rows(), groups.len())?;
    let largest = groups.iter().max().map_or(0, |largest| *largest as usize + 1);
    require_length("groups", count.max(largest), count)?;
    let mut best: Vec<Option<Closest>> = vec![None; count];
    each_row(queries, candidates, distance, |query, row| {
        for (row, (distance, group)) in row.iter().zip(groups).enumerate() {
            let old = &mut best[*group as usize];
            if old.is_none_or(|old| *distance < old.distance) {
                *old = Some(Closest { query, row, distance: *distance });
            }
        }
    })?;
    Ok(best)
}

/// Calls `each(query, its distances to all candidates)` in order of the queries; only a block of
/// distances is held at a time.
///
/// # Errors
/// When the dimensions differ or a value is not finite.
pub fn each_row(
    queries: &Vectors<'_>,
    candidates: &Vectors<'_>,
    distance: Distance,
    mut each: impl FnMut(usize, &[f32]),
) -> Result<(), Error> {
    let Some((left, right)) = prepared(queries, candidates, distance)? else { return Ok(()) };
    by_block(&left, &right, |first, rows| {
        for (i, row) in rows.chunks(candidates.rows()).enumerate() {
            each(first + i, row);
        }
    });
    Ok(())
}

impl Eq for Neighbour {}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Neighbour {
    /// Orders by distance, ties by row.
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.row.cmp(&other.row))
    }
}

/// Finds the `k` nearest candidates of a row of distances; memory does not grow with the row.
fn nearest_of_row(row: &[f32], k: usize) -> Vec<Neighbour> {
    let mut nearest = Smallest::new(k);
    for (row, distance) in row.iter().enumerate() {
        nearest.push(Neighbour { row, distance: *distance });
    }
    nearest.into_sorted()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_k_nearest_are_those_of_a_sort_even_with_ties() {
        let row: Vec<f32> = (0..500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 27) as f32).collect();
        let mut sorted: Vec<Neighbour> =
            row.iter().enumerate().map(|(row, distance)| Neighbour { row, distance: *distance }).collect();
        sorted.sort();
        for k in [0, 1, 7, 499, 500, 600] {
            assert_eq!(nearest_of_row(&row, k), sorted[..k.min(500)], "k = {k}");
        }
    }

    #[test]
    fn the_closest_pair_of_each_group_matches_a_plain_loop() {
        let vectors: Vec<f32> =
            (0..90u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 4096.0 - 0.5).collect();
        let (queries, candidates) =
            (Vectors { vectors: &vectors[..18], dim: 3 }, Vectors { vectors: &vectors[18..], dim: 3 });
        let groups: Vec<u32> = (0..24).map(|row| row % 5).collect();
        let found = closest_by_group(&queries, &candidates, Distance::Euclidean, &groups, 6).unwrap();
        for (group, found) in found.iter().enumerate() {
            let mut best: Option<Closest> = None;
            for (query, a) in vectors[..18].chunks(3).enumerate() {
                for (row, b) in vectors[18..].chunks(3).enumerate().filter(|(row, _)| row % 5 == group) {
                    let distance =
                        a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt() as f32;
                    if best.is_none_or(|best| distance < best.distance) {
                        best = Some(Closest { query, row, distance });
                    }
                }
            }
            match (found, best) {
                (Some(a), Some(b)) => {
                    assert_eq!((a.query, a.row), (b.query, b.row));
                    assert!((a.distance - b.distance).abs() < 1e-5);
                }
                (found, best) => assert_eq!(*found, best, "group {group}"),
            }
        }
        assert!(closest_by_group(&queries, &candidates, Distance::Dot, &groups[1..], 6).is_err());
        assert!(closest_by_group(&queries, &candidates, Distance::Dot, &groups, 4).is_err());
    }
}
