//! Ranks the relevant candidates of each query.

use rayon::prelude::*;

use crate::distances::{Prepared, by_query, centre};
use crate::{Error, OwnEntry, Policy, Vectors};

/// Up to this many relevant candidates, one pass over the row per candidate is faster than one pass with a binary search per
/// distance.
const MAX_PASSES: usize = 16;

/// The result of one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryResult {
    /// Row of the query.
    pub query: usize,
    /// Ranks of the query's relevant candidates, ascending, from 1; empty when it has none.
    pub ranks: Vec<u32>,
    /// Number of candidates that were ranked.
    pub candidates: u32,
    /// Number of candidates that rank last whatever the distances: the query itself under [`OwnEntry::Last`].
    pub always_last: u32,
}

impl QueryResult {
    /// Computes the average precision: the mean over the relevant candidates of the number of relevant ones up to their rank,
    /// divided by the rank.
    #[must_use]
    pub fn average_precision(&self) -> f64 {
        let precisions =
            self.ranks.iter().zip(1u32..).map(|(rank, number)| f64::from(number) / f64::from(*rank));
        precisions.sum::<f64>() / self.ranks.len() as f64
    }
}

/// The vectors of a set of versions, with their cliques and identities.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// The vectors, one row per version.
    pub vectors: Vectors<'a>,
    /// The clique numbers, one per version.
    pub cliques: &'a [u32],
    /// The identities, one number per version; a candidate of the query's identity is the query itself.
    pub ids: &'a [u32],
}

/// Ranks all versions of a set against all others.
///
/// # Errors
/// When the lengths differ or a value is not finite.
pub fn rank_all(vectors: &Vectors<'_>, cliques: &[u32], policy: &Policy) -> Result<Vec<QueryResult>, Error> {
    vectors.check()?;
    require_equal("clique numbers", vectors.rows(), cliques.len())?;
    if cliques.is_empty() {
        return Err(Error::NothingToMeasure);
    }
    let prepared = Prepared::new(vectors, policy.distance, &centre(vectors));
    let relevance = Relevance::new(cliques, cliques);
    Ok(by_query(&prepared, &prepared, |query, row| relevance.rank(query, Some(query), row, policy.own_entry)))
}

/// Ranks queries against candidates of another set, which may hold the queries too.
///
/// # Errors
/// When the lengths or dimensions differ or a value is not finite.
pub fn rank_against(
    queries: &Labelled<'_>,
    candidates: &Labelled<'_>,
    policy: &Policy,
) -> Result<Vec<QueryResult>, Error> {
    for set in [queries, candidates] {
        set.vectors.check()?;
        require_equal("clique numbers", set.vectors.rows(), set.cliques.len())?;
        require_equal("identities", set.vectors.rows(), set.ids.len())?;
        if set.ids.is_empty() {
            return Err(Error::NothingToMeasure);
        }
    }
    require_equal("dimensions of the candidates", queries.vectors.dim, candidates.vectors.dim)?;
    let centre = centre(&candidates.vectors);
    let left = Prepared::new(&queries.vectors, policy.distance, &centre);
    let right = Prepared::new(&candidates.vectors, policy.distance, &centre);
    let relevance = Relevance::new(queries.cliques, candidates.cliques);
    let position: std::collections::HashMap<u32, usize> =
        candidates.ids.iter().enumerate().map(|(row, id)| (*id, row)).collect();
    Ok(by_query(&left, &right, |query, row| {
        relevance.rank(query, position.get(&queries.ids[query]).copied(), row, policy.own_entry)
    }))
}

/// Ranks the versions of a matrix of distances (versions x versions, row-major; a row is a query).
///
/// # Errors
/// When the matrix is not square or a value is not finite.
pub fn rank_matrix(distances: &[f32], cliques: &[u32], policy: &Policy) -> Result<Vec<QueryResult>, Error> {
    let width = cliques.len();
    require_equal("distances", width * width, distances.len())?;
    if width == 0 {
        return Err(Error::NothingToMeasure);
    }
    if let Some(index) = distances.iter().position(|x| !x.is_finite()) {
        return Err(Error::NotFinite { row: index / width });
    }
    let relevance = Relevance::new(cliques, cliques);
    let rows = distances.par_chunks(width).enumerate();
    Ok(rows
        .map(|(query, row)| relevance.rank(query, Some(query), &mut row.to_vec(), policy.own_entry))
        .collect())
}

/// Refuses lengths that differ; `what` names the counted thing in the error.
fn require_equal(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Shape { what, expected, found }) }
}

/// Which candidates are relevant to a query.
struct Relevance<'a> {
    query_cliques: &'a [u32],
    members: std::collections::HashMap<u32, Vec<usize>>,
}

impl<'a> Relevance<'a> {
    fn new(query_cliques: &'a [u32], candidate_cliques: &[u32]) -> Self {
        let mut members = std::collections::HashMap::<u32, Vec<usize>>::new();
        for (row, clique) in candidate_cliques.iter().enumerate() {
            members.entry(*clique).or_default().push(row);
        }
        Self { query_cliques, members }
    }

    fn rank(&self, query: usize, own: Option<usize>, row: &mut [f32], own_entry: OwnEntry) -> QueryResult {
        let members = self.members.get(&self.query_cliques[query]).map_or(&[][..], Vec::as_slice);
        let drop_nearest = own_entry == OwnEntry::NearestDropped;
        let relevant: Vec<usize> =
            members.iter().copied().filter(|row| drop_nearest || Some(*row) != own).collect();
        let mut candidates = row.len() as u32;
        if let Some(own) = own {
            row[own] = if drop_nearest { row[own] } else { f32::INFINITY };
            candidates -= u32::from(own_entry == OwnEntry::LeftOut);
        }
        let mut ranks = ranks_of(row, &relevant);
        if drop_nearest {
            candidates -= 1;
            ranks.retain(|rank| *rank > 1);
            ranks.iter_mut().for_each(|rank| *rank -= 1);
        }
        let always_last = u32::from(own.is_some() && own_entry == OwnEntry::Last);
        QueryResult { query, ranks, candidates, always_last }
    }
}

/// Computes the ranks of the `relevant` columns, from 1 and ascending; ties go to the column that comes first.
fn ranks_of(row: &[f32], relevant: &[usize]) -> Vec<u32> {
    if relevant.len() > MAX_PASSES {
        return ranks_of_many(row, relevant);
    }
    let mut ranks: Vec<u32> = relevant
        .iter()
        .map(|&column| {
            let distance = row[column];
            let before = count(&row[..column], |x| x <= distance);
            1 + before + count(&row[column + 1..], |x| x < distance)
        })
        .collect();
    ranks.sort_unstable();
    ranks
}

/// Counts the distances that satisfy `nearer`. Wrapping addition, because the checked one prevents vectorisation.
fn count(row: &[f32], nearer: impl Fn(f32) -> bool) -> u32 {
    row.iter().fold(0u32, |sum, x| sum.wrapping_add(u32::from(nearer(*x))))
}

/// Computes the same as [`ranks_of`] in one pass over the row, which is faster for many relevant columns.
fn ranks_of_many(row: &[f32], relevant: &[usize]) -> Vec<u32> {
    let mut keys: Vec<(f32, usize)> = relevant.iter().map(|column| (row[*column], *column)).collect();
    keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let farthest = keys.last().map_or(f32::NEG_INFINITY, |key| key.0);
    // Slot i counts the candidates between the (i-1)th and the ith relevant one, the former included.
    let mut slots = vec![0u32; keys.len() + 1];
    for (column, x) in row.iter().enumerate() {
        if *x <= farthest {
            slots[keys.partition_point(|key| key.0 < *x || (key.0 == *x && key.1 <= column))] += 1;
        }
    }
    let mut before = 0;
    let ranks = slots.iter().take(keys.len()).map(|slot| {
        before += slot;
        before + 1
    });
    ranks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rank_counts_agree_with_a_stable_sort_even_with_ties() {
        let row: Vec<f32> = (0..200u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 28) as f32).collect();
        let relevant: Vec<usize> = (0..200).step_by(13).collect();
        let mut order: Vec<usize> = (0..200).collect();
        order.sort_by(|a, b| row[*a].total_cmp(&row[*b]));
        let mut expected: Vec<u32> = relevant
            .iter()
            .map(|column| 1 + order.iter().position(|x| x == column).unwrap() as u32)
            .collect();
        expected.sort_unstable();
        assert_eq!(ranks_of(&row, &relevant), expected);
        assert_eq!(ranks_of_many(&row, &relevant), expected);
    }
}
