//! Re-ranks distances by mutual neighbours.
//!
//! k-reciprocal encoding (Zhong et al. 2017, "Re-ranking person re-identification with k-reciprocal encoding", sections 3.2 to
//! 3.5): two recordings are near where their sets of mutual neighbours overlap. It needs no labels, only the collection that is
//! searched; it helps where works have many versions, and can lower the figures where they have few.

use rayon::prelude::*;

/// Settings of the re-ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reciprocal {
    /// Number of neighbours among which mutual ones are searched for (k1).
    pub neighbours: usize,
    /// Number of neighbours, including the recording itself, whose sets are averaged (k2).
    pub averaged: usize,
    /// Weight of the distance itself in the result (lambda); the rest is the Jaccard distance of the sets.
    pub weight: f32,
    /// Whether the nearest other recording stays the nearest, so that a right first result is kept.
    pub keep_nearest: bool,
}

/// Neighbours with their weights, which add up to 1, by ascending recording.
type Encoding = Vec<(u32, f32)>;

/// Replaces a square matrix of distances by `weight` x distance + (1 - `weight`) x Jaccard distance, where distances are first
/// scaled to [0, 1] by the smallest and the largest distance of two recordings. Only the order of the results is
/// meaningful. Memory: `neighbours` numbers for each recording.
///
/// # Panics
/// When the matrix is not `width` x `width`.
pub fn rerank_reciprocal(distances: &mut [f32], width: usize, settings: &Reciprocal) {
    assert_eq!(distances.len(), width * width, "a square matrix");
    if width < 2 {
        return;
    }
    to_unit_range(distances, width);
    let ranked: Vec<Vec<u32>> = distances
        .par_chunks(width)
        .enumerate()
        .map(|(own, row)| nearest(own, row, settings.neighbours))
        .collect();
    let encode =
        |own: usize| encoding(own, &distances[own * width..(own + 1) * width], &ranked, settings.neighbours);
    let encodings: Vec<Encoding> = (0..width).into_par_iter().map(encode).collect();
    let averaged: Vec<Encoding> = ranked
        .par_iter()
        .map(|ranks| mean(ranks.iter().take(settings.averaged.max(1)), &encodings))
        .collect();
    // For each recording, the sets that contain it, with their weights.
    let mut holders: Vec<Vec<(u32, f32)>> = vec![Vec::new(); width];
    for (recording, own) in averaged.iter().enumerate() {
        own.iter().for_each(|(member, weight)| holders[*member as usize].push((recording as u32, *weight)));
    }
    distances.par_chunks_mut(width).enumerate().for_each(|(own, row)| {
        let first = ranked[own].get(1).copied();
        let mut common = vec![0f32; width];
        for (member, weight) in &averaged[own] {
            for (other, other_weight) in &holders[*member as usize] {
                common[*other as usize] += weight.min(*other_weight);
            }
        }
        for (distance, common) in row.iter_mut().zip(&common) {
            let jaccard = 1.0 - common / (2.0 - common);
            *distance = settings.weight * *distance + (1.0 - settings.weight) * jaccard;
        }
        if let Some(first) = first.filter(|_| settings.keep_nearest) {
            let others = row.iter().enumerate().filter(|(other, _)| *other != own);
            row[first as usize] = others.fold(f32::INFINITY, |smallest, (_, d)| smallest.min(*d)) - 1e-3;
        }
    });
}

/// Maps the distances of two recordings linearly to 0 to 1; a recording has distance 0 from itself.
fn to_unit_range(distances: &mut [f32], width: usize) {
    let between =
        || distances.iter().enumerate().filter(|(index, _)| index / width != index % width).map(|(_, d)| *d);
    let (smallest, largest) =
        between().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, m), d| (l.min(d), m.max(d)));
    let factor = if largest > smallest { 1.0 / (largest - smallest) } else { 0.0 };
    distances.iter_mut().for_each(|distance| *distance = (*distance - smallest) * factor);
    (0..width).for_each(|own| distances[own * width + own] = 0.0);
}

/// Returns the recording itself and its `count` nearest others, nearest first, ties by number.
fn nearest(own: usize, row: &[f32], count: usize) -> Vec<u32> {
    let mut others: Vec<u32> = (0..row.len() as u32).filter(|other| *other as usize != own).collect();
    let by = |a: &u32, b: &u32| row[*a as usize].total_cmp(&row[*b as usize]).then(a.cmp(b));
    if count < others.len() {
        others.select_nth_unstable_by(count, by);
        others.truncate(count);
    }
    others.sort_unstable_by(by);
    others.insert(0, own as u32);
    others
}

/// Returns the mutual neighbours of `own`, ascending, including itself: those of its first `count` neighbours that
/// have `own` among their first `count`.
fn mutual(own: usize, ranked: &[Vec<u32>], count: usize) -> Vec<u32> {
    let first = |recording: usize| ranked[recording].iter().take(count + 1);
    let mut found: Vec<u32> = first(own)
        .copied()
        .filter(|other| first(*other as usize).any(|back| *back as usize == own))
        .collect();
    found.sort_unstable();
    found
}

/// Computes the encoding of `own`: its mutual neighbours, joined by the sets of those mutual neighbours whose own
/// sets overlap with it by more than two thirds. The weights are exp(-distance), scaled to a sum of 1.
fn encoding(own: usize, row: &[f32], ranked: &[Vec<u32>], count: usize) -> Encoding {
    let set = mutual(own, ranked, count);
    let mut wider = set.clone();
    for candidate in &set {
        let theirs = mutual(*candidate as usize, ranked, count.div_ceil(2));
        let shared = theirs.iter().filter(|member| set.binary_search(member).is_ok()).count();
        if 3 * shared > 2 * theirs.len() {
            wider.extend(theirs);
        }
    }
    wider.sort_unstable();
    wider.dedup();
    let mut weighted: Encoding =
        wider.into_iter().map(|other| (other, (-row[other as usize]).exp())).collect();
    let sum: f32 = weighted.iter().map(|(_, weight)| weight).sum();
    weighted.iter_mut().for_each(|(_, weight)| *weight /= sum);
    weighted
}

/// Computes the mean of several encodings.
fn mean<'a>(recordings: impl ExactSizeIterator<Item = &'a u32>, encodings: &[Encoding]) -> Encoding {
    let share = 1.0 / recordings.len() as f32;
    let mut sums = std::collections::BTreeMap::<u32, f32>::new();
    for recording in recordings {
        for (member, weight) in &encodings[*recording as usize] {
            *sums.entry(*member).or_default() += share * weight;
        }
    }
    sums.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(neighbours: usize) -> Reciprocal {
        Reciprocal { neighbours, averaged: 2, weight: 0.5, keep_nearest: false }
    }

    /// Two works of three versions; 0 is a little nearer to 5, of the other work, than to its own version 2.
    fn chain() -> Vec<f32> {
        let mut matrix = vec![0.9f32; 36];
        let near =
            [(0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.55), (3, 4, 0.1), (4, 5, 0.1), (3, 5, 0.1), (0, 5, 0.5)];
        (0..6).for_each(|own| matrix[own * 7] = 0.0);
        for (a, b, distance) in near {
            (matrix[a * 6 + b], matrix[b * 6 + a]) = (distance, distance);
        }
        matrix
    }

    #[test]
    fn mutual_neighbours_come_before_others_that_are_only_near() {
        let mut matrix = chain();
        rerank_reciprocal(&mut matrix, 6, &settings(2));
        assert!(matrix[2] < matrix[5], "{:?}", &matrix[..6]);
        assert!(matrix.iter().all(|d| d.is_finite()));
    }

    #[test]
    fn reranked_distances_match_the_formula() {
        // Three recordings in a row; with one neighbour each, 0 and 1 are mutual, 2 has no mutual one but itself.
        let mut matrix = vec![0.0f32, 0.2, 0.9, 0.2, 0.0, 0.6, 0.9, 0.6, 0.0];
        let settings = Reciprocal { averaged: 1, ..settings(1) };
        rerank_reciprocal(&mut matrix, 3, &settings);
        // Unit range: 0.2 is 0, 0.6 is 4/7, 0.9 is 1. The sets of 0 and 1 are {0, 1} with exp(0) each: equal, Jaccard 0.
        assert!(matrix[1].abs() < 1e-6, "{matrix:?}");
        // Nothing in common with 2: Jaccard 1.
        assert!(
            (matrix[2] - 1.0).abs() < 1e-6 && (matrix[5] - 0.5 * (4.0 / 7.0 + 1.0)).abs() < 1e-6,
            "{matrix:?}"
        );
    }

    #[test]
    fn keep_nearest_keeps_the_nearest_first() {
        let mut matrix = chain();
        // 2's nearest is 1; make 5 the nearest of 0 by hand.
        (matrix[5], matrix[30]) = (0.05, 0.05);
        rerank_reciprocal(&mut matrix, 6, &Reciprocal { keep_nearest: true, ..settings(2) });
        let nearest = (1..6).min_by(|a, b| matrix[*a].total_cmp(&matrix[*b])).unwrap();
        assert_eq!(nearest, 5);
    }

    #[test]
    fn one_recording_or_equal_distances_stay_finite() {
        rerank_reciprocal(&mut [0.0], 1, &settings(3));
        let mut equal = vec![0.3f32; 16];
        rerank_reciprocal(&mut equal, 4, &settings(30));
        assert!(equal.iter().all(|d| d.is_finite()));
    }
}
