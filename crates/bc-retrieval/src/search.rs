//! The nearest candidates of a query.

use std::cmp::Ordering;

use crate::distances::{Prepared, by_query, centre};
use crate::{Distance, Embeddings, Error};

/// A candidate and its distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Row of the candidate.
    pub row: usize,
    /// Its distance from the query.
    pub distance: f32,
}

/// The `k` nearest candidates of every query, nearest first, ties in order of the rows.
///
/// # Errors
/// When the dimensions differ or a value is not finite.
pub fn nearest(
    queries: &Embeddings<'_>,
    candidates: &Embeddings<'_>,
    distance: Distance,
    k: usize,
) -> Result<Vec<Vec<Neighbour>>, Error> {
    queries.check()?;
    candidates.check()?;
    if queries.dim != candidates.dim {
        let (expected, found) = (candidates.dim, queries.dim);
        return Err(Error::Shape { what: "dimensions of the query", expected, found });
    }
    if candidates.rows() == 0 {
        return Ok(vec![Vec::new(); queries.rows()]);
    }
    let centre = centre(candidates);
    let left = Prepared::new(queries, distance, &centre);
    let right = Prepared::new(candidates, distance, &centre);
    Ok(by_query(&left, &right, |_, row| least(row, k)))
}

fn least(row: &[f32], k: usize) -> Vec<Neighbour> {
    let order = |a: &Neighbour, b: &Neighbour| -> Ordering {
        a.distance.total_cmp(&b.distance).then(a.row.cmp(&b.row))
    };
    let mut found: Vec<Neighbour> =
        row.iter().enumerate().map(|(row, distance)| Neighbour { row, distance: *distance }).collect();
    if k < found.len() {
        found.select_nth_unstable_by(k, order);
        found.truncate(k);
    }
    found.sort_unstable_by(order);
    found
}
