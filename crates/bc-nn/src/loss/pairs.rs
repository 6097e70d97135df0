//! Losses over all pairs of a batch.

use anyhow::{Result, ensure};

use super::{Directions, Loss, Rows, dot};
use crate::backend::cpu::{View, matmul};

/// Which rows of a batch are versions of one work.
struct Pairs<'a> {
    labels: &'a [u32],
    /// Number of positives of each row.
    positives: Vec<usize>,
}

impl<'a> Pairs<'a> {
    fn new(rows: usize, labels: &'a [u32]) -> Result<Self> {
        ensure!(labels.len() == rows, "{} labels for {rows} rows", labels.len());
        let others = |a: usize| (0..rows).filter(|b| *b != a && labels[a] == labels[*b]).count();
        Ok(Self { labels, positives: (0..rows).map(others).collect() })
    }

    /// Returns whether `a` and `b` are two different rows, and versions of one work.
    fn positive(&self, a: usize, b: usize) -> bool {
        a != b && self.labels[a] == self.labels[b]
    }
}

/// Computes the supervised contrastive loss (Khosla et al. 2020, equation 2) of rows by their cosines: for each row with a
/// positive, the mean over its positives of
/// `-ln(exp(s_p / temperature) / sum over all others of exp(s / temperature))`; the mean over these rows.
///
/// # Errors
/// Another number of labels than rows; no two equal labels.
pub fn supervised_contrastive(x: Rows<'_>, labels: &[u32], temperature: f64) -> Result<Loss> {
    let rows = x.count();
    let pairs = Pairs::new(rows, labels)?;
    let anchors = pairs.positives.iter().filter(|count| **count > 0).count();
    ensure!(anchors > 0, "a contrastive loss needs a batch with two versions of one work");
    let z = Directions::of(x);
    let view = View::new(&z.values, rows, x.dim);
    let cosines = matmul(view, view.transposed());
    let mut value = 0f64;
    // The derivative by each cosine, and with it that by its mirror image.
    let mut of_cosines = vec![0f32; rows * rows];
    for (a, positives) in pairs.positives.iter().enumerate().filter(|(_, count)| **count > 0) {
        let similarity = |b: usize| f64::from(cosines[a * rows + b]) / temperature;
        let others = || (0..rows).filter(|b| *b != a);
        // Cosines are at most 1: shifted by that, no power overflows, whatever the temperature.
        let power = |b: usize| (similarity(b) - 1.0 / temperature).exp();
        let powers: f64 = others().map(power).sum();
        let log_sum = powers.ln() + 1.0 / temperature;
        let weight = 1.0 / (*positives * anchors) as f64;
        for b in others() {
            let positive = pairs.positive(a, b);
            if positive {
                value += weight * (log_sum - similarity(b));
            }
            let share = *positives as f64 * power(b) / powers - f64::from(u8::from(positive));
            let slope = (weight * share / temperature) as f32;
            of_cosines[a * rows + b] += slope;
            of_cosines[b * rows + a] += slope;
        }
    }
    let dz = matmul(View::new(&of_cosines, rows, rows), view);
    Ok(Loss { value: value as f32, gradient: z.backward(dz) })
}

/// Returns the rows minus their mean row.
fn centred(x: Rows<'_>) -> Vec<f32> {
    let mut mean = vec![0f64; x.dim];
    for row in x.iter() {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / x.count() as f64);
    }
    let less = |row: &[f32]| {
        row.iter().zip(&mean).map(|(x, mean)| (f64::from(*x) - mean) as f32).collect::<Vec<_>>()
    };
    x.iter().flat_map(less).collect()
}

/// Computes the alignment and uniformity loss of CLEWS (Serrà et al. 2025, section 3.3): `mean(d+) + ln(mean(exp(-5 d-)))`,
/// where d is the squared Euclidean distance divided by the number of dimensions, over all pairs of versions of one work (d+)
/// and of two works (d-).
///
/// # Errors
/// Another number of labels than rows; no positive or no negative pair.
pub fn alignment_uniformity(x: Rows<'_>, labels: &[u32]) -> Result<Loss> {
    /// Of CLEWS.
    const STEEPNESS: f64 = 5.0;
    let rows = x.count();
    let pairs = Pairs::new(rows, labels)?;
    let positives: usize = pairs.positives.iter().sum();
    let negatives = rows * (rows - 1) - positives;
    ensure!(
        positives > 0 && negatives > 0,
        "this loss needs a batch with two versions of one work and another work"
    );
    // Distances do not depend on where the rows are: near the origin less of them cancels.
    let centred = centred(x);
    let x = Rows::new(&centred, x.dim);
    let view = View::new(x.values, rows, x.dim);
    let products = matmul(view, view.transposed());
    let squares: Vec<f64> = x.iter().map(|row| dot(row, row)).collect();
    let distance = |a: usize, b: usize| {
        (squares[a] + squares[b] - 2.0 * f64::from(products[a * rows + b])) / x.dim as f64
    };
    let apart = || (0..rows).flat_map(|a| (0..rows).map(move |b| (a, b))).filter(|(a, b)| a != b);
    let other_works = || apart().filter(|&(a, b)| !pairs.positive(a, b));
    // Shifted by the smallest distance: with powers that all vanish the logarithm would too.
    let least = other_works().map(|(a, b)| distance(a, b)).fold(f64::INFINITY, f64::min);
    let power = |a: usize, b: usize| (-STEEPNESS * (distance(a, b) - least)).exp();
    let powers: f64 = other_works().map(|(a, b)| power(a, b)).sum();
    let alignment: f64 =
        apart().filter(|&(a, b)| pairs.positive(a, b)).map(|(a, b)| distance(a, b) / positives as f64).sum();
    let uniformity = (powers / negatives as f64).ln() - STEEPNESS * least;
    let by_distance = |a: usize, b: usize| match pairs.positive(a, b) {
        true => 1.0 / positives as f64,
        false => -STEEPNESS * power(a, b) / powers,
    };
    // d is symmetric: the gradient of row a is 4 / dimensions times the sum over b of (its derivative) (a - b).
    let mut slopes = vec![0f32; rows * rows];
    for (a, slopes) in slopes.chunks_exact_mut(rows).enumerate() {
        let mut sum = 0f64;
        for b in (0..rows).filter(|b| *b != a) {
            let slope = 4.0 / x.dim as f64 * by_distance(a, b);
            slopes[b] = -slope as f32;
            sum += slope;
        }
        slopes[a] = sum as f32;
    }
    let gradient = matmul(View::new(&slopes, rows, rows), view);
    Ok(Loss { value: (alignment + uniformity) as f32, gradient })
}
