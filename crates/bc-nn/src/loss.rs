//! The two losses (Du et al. 2021, section 3.3), equal to PyTorch's.

use candle_core::{D, Result, Tensor};

/// Added to each difference before its norm is taken, as in PyTorch's pairwise distance.
const PAIRWISE_EPSILON: f64 = 1e-6;

/// Mean cross entropy of logits (B, classes) with label smoothing: a share `smoothing` of
/// the target is spread evenly over all classes.
///
/// # Errors
/// Labels that are not as many as rows, or not below the number of classes.
pub fn cross_entropy_smoothed(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if labels.len() != rows || labels.iter().any(|label| *label as usize >= classes) {
        candle_core::bail!("{} labels for {rows} rows of {classes} classes", labels.len());
    }
    // The maximum shifts the logits without changing the loss; it takes no part in the graph.
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_probability = shifted.broadcast_sub(&log_sum)?;
    let index = Tensor::from_slice(labels, (rows, 1), logits.device())?;
    let of_label = log_probability.gather(&index, 1)?.mean_all()?;
    let of_all = log_probability.mean_all()?;
    ((of_label * (smoothing - 1.0))? + (of_all * -smoothing)?)?.reshape(())
}

/// Mean of `max(0, |a - p| - |a - n| + margin)` over rows, Euclidean (PyTorch's TripletMarginLoss).
///
/// # Errors
/// Shapes that differ.
pub fn triplet_margin(
    anchors: &Tensor,
    positives: &Tensor,
    negatives: &Tensor,
    margin: f64,
) -> Result<Tensor> {
    let distance = |to: &Tensor| ((anchors - to)? + PAIRWISE_EPSILON)?.sqr()?.sum(1)?.sqrt();
    ((distance(positives)? - distance(negatives)?)? + margin)?.relu()?.mean_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn smoothing_is_a_mixture_with_the_even_target() {
        let logits = Tensor::new(&[[1f32, 2.0, 0.5], [0.0, 0.0, 3.0]], &Device::Cpu).unwrap();
        let loss = cross_entropy_smoothed(&logits, &[1, 0], 0.1).unwrap().to_scalar::<f32>().unwrap();
        let row = |logits: [f64; 3], label: usize| {
            let log_sum = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
            let even = logits.iter().map(|l| log_sum - l).sum::<f64>() / 3.0;
            0.9 * (log_sum - logits[label]) + 0.1 * even
        };
        let expected = (row([1.0, 2.0, 0.5], 1) + row([0.0, 0.0, 3.0], 0)) / 2.0;
        assert!((f64::from(loss) - expected).abs() < 1e-6, "{loss} against {expected}");
        assert!(cross_entropy_smoothed(&logits, &[3, 0], 0.1).is_err());
    }

    #[test]
    fn a_triplet_beyond_the_margin_costs_nothing() {
        let at = |x: f32| Tensor::new(&[[x, 0.0]], &Device::Cpu).unwrap();
        let loss = |p, n| triplet_margin(&at(0.0), &at(p), &at(n), 0.3).unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(loss(1.0, 2.0), 0.0);
        assert!((loss(2.0, 1.0) - 1.3).abs() < 1e-5);
    }
}
