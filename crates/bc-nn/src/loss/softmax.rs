//! Cross entropy, of logits or of cosines.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::{Directions, Loss, Rows};
use crate::backend::cpu::{View, matmul};

/// Computes the mean cross entropy of logits (one row of classes for each label) with label smoothing: a share `smoothing` of
/// the target is spread evenly over all classes.
///
/// # Errors
/// Another number of labels than rows, or labels not below the number of classes.
pub fn cross_entropy_smoothed(logits: Rows<'_>, labels: &[u32], smoothing: f64) -> Result<Loss> {
    let (rows, classes) = (logits.count(), logits.dim);
    ensure!(
        labels.len() == rows && rows > 0 && labels.iter().all(|label| (*label as usize) < classes),
        "{} labels for {rows} rows of {classes} classes",
        labels.len()
    );
    let mut gradient = vec![0f32; logits.values.len()];
    let share = 1.0 / rows as f64;
    let losses: Vec<f64> = gradient
        .par_chunks_exact_mut(classes)
        .zip(logits.values.par_chunks_exact(classes))
        .zip(labels)
        .map(|((gradient, logits), label)| row(gradient, logits, *label as usize, smoothing, share))
        .collect();
    Ok(Loss { value: (losses.iter().sum::<f64>() * share) as f32, gradient })
}

/// Computes the loss of one row; `gradient` becomes `share` times its derivative: the softmax minus the target.
fn row(gradient: &mut [f32], logits: &[f32], label: usize, smoothing: f64, share: f64) -> f64 {
    // Not `f32::max`, which hides NaN.
    let most =
        logits.iter().fold(f32::NEG_INFINITY, |most, x| if *x > most || x.is_nan() { *x } else { most });
    let (mut powers, mut shifted) = (0f64, 0f64);
    for (power, logit) in gradient.iter_mut().zip(logits) {
        *power = (logit - most).exp();
        powers += f64::from(*power);
        shifted += f64::from(logit - most);
    }
    let log_sum = powers.ln();
    let evenly = smoothing / logits.len() as f64;
    let (scale, less) = ((share / powers) as f32, (share * evenly) as f32);
    gradient.iter_mut().for_each(|power| *power = *power * scale - less);
    gradient[label] -= (share * (1.0 - smoothing)) as f32;
    log_sum - (1.0 - smoothing) * f64::from(logits[label] - most) - evenly * shifted
}

/// A loss that depends on the rows and on the classifier's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Cosine {
    /// The loss, with its gradient with respect to the rows.
    pub loss: Loss,
    /// Its gradient with respect to the weights.
    pub weights: Vec<f32>,
}

/// Computes [`cross_entropy_smoothed`] on logits that are `scale` times the cosines of the rows x with the rows of the
/// classifier's weights (one for each class). This is the normalised softmax loss without a margin (Wang et al. 2017,
/// "NormFace", section 3.3).
///
/// # Errors
/// The errors of [`cross_entropy_smoothed`]; rows of different lengths.
pub fn cosine_cross_entropy(
    x: Rows<'_>,
    weights: Rows<'_>,
    labels: &[u32],
    scale: f64,
    smoothing: f64,
) -> Result<Cosine> {
    ensure!(x.dim == weights.dim, "cosines of rows of {} and of {} values", x.dim, weights.dim);
    let (rows, classes, dim) = (x.count(), weights.count(), x.dim);
    let (x, weights) = (Directions::of(x), Directions::of(weights));
    let (x_view, w_view) = (View::new(&x.values, rows, dim), View::new(&weights.values, classes, dim));
    let scaled = |mut values: Vec<f32>| {
        values.iter_mut().for_each(|value| *value *= scale as f32);
        values
    };
    let logits = scaled(matmul(x_view, w_view.transposed()));
    let Loss { value, gradient } = cross_entropy_smoothed(Rows::new(&logits, classes), labels, smoothing)?;
    let of_cosines = scaled(gradient);
    let of_cosines = View::new(&of_cosines, rows, classes);
    let gradient = x.backward(matmul(of_cosines, w_view));
    Ok(Cosine {
        loss: Loss { value, gradient },
        weights: weights.backward(matmul(of_cosines.transposed(), x_view)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_a_mixture_with_the_even_target() {
        let logits = [1f32, 2.0, 0.5, 0.0, 0.0, 3.0];
        let found = cross_entropy_smoothed(Rows::new(&logits, 3), &[1, 0], 0.1).unwrap();
        let row = |logits: [f64; 3], label: usize| {
            let log_sum = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
            let even = logits.iter().map(|l| log_sum - l).sum::<f64>() / 3.0;
            0.9 * (log_sum - logits[label]) + 0.1 * even
        };
        let expected = (row([1.0, 2.0, 0.5], 1) + row([0.0, 0.0, 3.0], 0)) / 2.0;
        assert!((f64::from(found.value) - expected).abs() < 1e-6, "{} against {expected}", found.value);
        // Softmax and target both sum to one.
        assert!(found.gradient.chunks(3).all(|row| row.iter().sum::<f32>().abs() < 1e-6));
        assert!(cross_entropy_smoothed(Rows::new(&logits, 3), &[3, 0], 0.1).is_err());
        assert!(cross_entropy_smoothed(Rows::new(&logits, 3), &[0], 0.1).is_err());
    }

    #[test]
    fn nan_stays_visible() {
        let found = cross_entropy_smoothed(Rows::new(&[1.0, f32::NAN, 0.5], 3), &[0], 0.1).unwrap();
        assert!(found.value.is_nan() && found.gradient[0].is_nan());
    }
}
