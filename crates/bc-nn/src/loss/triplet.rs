//! The triplet loss, and the distances by which triplets are chosen.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::{Loss, Rows};

/// Added to each difference before its norm is taken, as in PyTorch's pairwise distance.
const PAIRWISE_EPSILON: f32 = 1e-6;

/// Rows of a batch: `anchors[i]`, `positives[i]` and `negatives[i]` are one triplet.
#[derive(Debug, Clone, Copy)]
pub struct Triplets<'a> {
    /// Rows compared with the other two.
    pub anchors: &'a [u32],
    /// Rows of the anchor's clique.
    pub positives: &'a [u32],
    /// Rows of another clique.
    pub negatives: &'a [u32],
}

/// Computes the mean of `max(0, |a - p| - |a - n| + margin)` over triplets of rows, Euclidean (PyTorch's TripletMarginLoss).
///
/// # Errors
/// Lists of different lengths; no triplet; rows out of range.
pub fn triplet_margin(x: Rows<'_>, triplets: Triplets<'_>, margin: f64) -> Result<Loss> {
    let Triplets { anchors, positives, negatives } = triplets;
    ensure!(
        !anchors.is_empty() && positives.len() == anchors.len() && negatives.len() == anchors.len(),
        "{} anchors, {} positives and {} negatives do not form triplets",
        anchors.len(),
        positives.len(),
        negatives.len()
    );
    let last = [anchors, positives, negatives].concat().into_iter().max().unwrap_or(0);
    ensure!((last as usize) < x.count(), "a triplet of row {last} of {}", x.count());
    let share = 1.0 / anchors.len() as f32;
    let (mut value, mut gradient) = (0f64, vec![0f32; x.values.len()]);
    for ((&a, &p), &n) in anchors.iter().zip(positives).zip(negatives) {
        let [a, p, n] = [a, p, n].map(|row| row as usize);
        let (to_positive, to_negative) = (distance(x.row(a), x.row(p)), distance(x.row(a), x.row(n)));
        let over = to_positive - to_negative + margin;
        // NaN must stay visible.
        if over <= 0.0 {
            continue;
        }
        value += over;
        for (other, distance, sign) in [(p, to_positive, 1.0), (n, to_negative, -1.0)] {
            // Where rows are equal the distance has no slope.
            let factor = if distance == 0.0 { 0.0 } else { sign * share / distance as f32 };
            for place in 0..x.dim {
                let slope = factor * (x.row(a)[place] - x.row(other)[place] + PAIRWISE_EPSILON);
                gradient[a * x.dim + place] += slope;
                gradient[other * x.dim + place] -= slope;
            }
        }
    }
    Ok(Loss { value: (value / anchors.len() as f64) as f32, gradient })
}

/// Computes a distance like PyTorch's `pairwise_distance`.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |(a, b): (&f32, &f32)| f64::from(a - b + PAIRWISE_EPSILON).powi(2);
    a.iter().zip(b).map(square).sum::<f64>().sqrt()
}

/// Computes the squared Euclidean distances between all rows: a square matrix, row-major.
pub fn squared_distances(x: Rows<'_>) -> Vec<f32> {
    let n = x.count();
    let mut squared = vec![0.0; n * n];
    squared.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, row)| {
        for (j, value) in row.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            *value = x.row(i).iter().zip(x.row(j)).map(|(a, b)| (a - b) * (a - b)).sum();
        }
    });
    squared
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Triplets<'static> = Triplets { anchors: &[0], positives: &[1], negatives: &[2] };

    #[test]
    fn a_triplet_beyond_the_margin_costs_nothing() {
        let loss = |p, n| triplet_margin(Rows::new(&[0.0, 0.0, p, 0.0, n, 0.0], 2), ONE, 0.3).unwrap();
        assert_eq!(loss(1.0, 2.0), Loss { value: 0.0, gradient: vec![0.0; 6] });
        let loss = loss(2.0, 1.0);
        assert!((loss.value - 1.3).abs() < 1e-5);
        // The anchor moves by the difference of two directions, the others away from it and towards it.
        assert!(loss.gradient[0].abs() < 1e-5 && (loss.gradient[2] - 1.0).abs() < 1e-5);
        assert!((loss.gradient[4] + 1.0).abs() < 1e-5);
    }

    #[test]
    fn triplets_of_absent_rows_are_refused_and_nan_stays() {
        let values = [0.0, 0.0, 1.0, 0.0];
        assert!(triplet_margin(Rows::new(&values, 2), ONE, 0.3).is_err());
        let values = [f32::NAN, 0.0, 1.0, 0.0, 2.0, 0.0];
        assert!(triplet_margin(Rows::new(&values, 2), ONE, 0.3).unwrap().value.is_nan());
    }
}
