//! Maximum and mean over octaves, or over the pitch classes of a ring.

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::super::{Array, Shape};
use super::{array, assume_init, values, vec_filled_by};

/// Which group each maximum came from, and the shape of the input.
pub struct Argmax {
    rows: Vec<u8>,
    shape: Shape,
    groups: usize,
}

/// Computes maxima and means of x (C, B, groups * H, W) over groups of rows: (2 C, B, H, W), the channels of the maxima first.
/// Row h of the result is taken over the rows h, h + H, h + 2 H, ...
///
/// # Errors
/// A height that is no multiple of `groups`; more than 256 groups.
pub fn max_mean(x: &Array, groups: usize) -> Result<(Array, Argmax)> {
    let [channels, batch, height, width] = x.shape();
    if groups == 0 || groups > 256 || !height.is_multiple_of(groups) {
        bail!("{height} rows are no {groups} groups of equal size");
    }
    let inner = height / groups * width;
    let half = channels * batch * inner;
    let mut rows = vec![0u8; half];
    let share = 1.0 / groups as f32;
    let x = values(x)?;
    let y = vec_filled_by(2 * half, |y| {
        let (most, mean) = y.split_at_mut(half);
        most.par_chunks_mut(inner)
            .zip(mean.par_chunks_mut(inner))
            .zip(rows.par_chunks_mut(inner))
            .zip(x.par_chunks(groups * inner))
            .for_each(|(((most, mean), rows), x)| {
                let (first, others) = x.split_at(inner);
                let (most, mean) = (most.write_copy_of_slice(first), mean.write_copy_of_slice(first));
                for (number, x) in (1u8..).zip(others.chunks_exact(inner)) {
                    for (((most, mean), row), x) in
                        most.iter_mut().zip(mean.iter_mut()).zip(rows.iter_mut()).zip(x)
                    {
                        // `f32::max` would hide NaN.
                        let higher = *x > *most || x.is_nan();
                        *most = if higher { *x } else { *most };
                        *row = if higher { number } else { *row };
                        *mean += *x;
                    }
                }
                mean.iter_mut().for_each(|mean| *mean *= share);
            });
        // SAFETY: x has `groups * inner` values for each `inner` of either half, and the first group was copied.
        unsafe { assume_init(y) }
    });
    let y = array(y, [2 * channels, batch, height / groups, width]);
    Ok((y, Argmax { rows, shape: [channels, batch, height, width], groups }))
}

/// Computes the gradient of the input of [`max_mean`]; among equal values the first counts as the maximum.
///
/// # Errors
/// A gradient of another shape.
pub fn max_mean_gradient(dy: &Array, argmax: &Argmax) -> Result<Array> {
    let Argmax { rows, shape: [_, _, height, width], groups } = argmax;
    let (groups, half) = (*groups, rows.len());
    if dy.count() != 2 * half {
        bail!("a gradient of {:?} for {half} maxima", dy.shape());
    }
    let inner = height / groups * width;
    let share = 1.0 / groups as f32;
    let dy = values(dy)?;
    let (most, mean) = dy.split_at(half);
    let dx = vec_filled_by(groups * half, |dx| {
        dx.par_chunks_mut(groups * inner)
            .zip(most.par_chunks(inner).zip(mean.par_chunks(inner)))
            .zip(rows.par_chunks(inner))
            .for_each(|((dx, (most, mean)), rows)| {
                for (number, dx) in (0u8..=255).zip(dx.chunks_exact_mut(inner)) {
                    for (((dx, most), mean), row) in dx.iter_mut().zip(most).zip(mean).zip(rows) {
                        dx.write(mean * share + if *row == number { *most } else { 0.0 });
                    }
                }
            });
        // SAFETY: `dy` was compared with `rows`, and every one of at most 256 groups of dx was written.
        unsafe { assume_init(dx) }
    });
    Ok(array(dx, argmax.shape))
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{self, flat, test_array};
    use super::*;

    #[test]
    fn gradients_are_differences() {
        for groups in [1, 3, 6] {
            let forward = |inputs: &[Array]| Ok(max_mean(&inputs[0], groups)?.0);
            let backward = |inputs: &[Array], dy: &Array| {
                Ok(vec![max_mean_gradient(dy, &max_mean(&inputs[0], groups)?.1)?])
            };
            gradient_check::check(&[test_array([3, 2, 6, 5], 3)], forward, backward, 1e-3, 2e-3);
        }
    }

    #[test]
    fn octaves_are_gathered_by_pitch_class_and_nan_stays() {
        let x = array(vec![1f32, 5.0, 3.0, 2.0, f32::NAN, 0.0], [1, 1, 6, 1]);
        let y = flat(&max_mean(&x, 3).unwrap().0);
        assert!(y[0].is_nan() && y[2].is_nan(), "{y:?}");
        assert!(y[1] == 5.0 && (y[3] - 7.0 / 3.0).abs() < 1e-6, "{y:?}");
        assert!(max_mean(&x, 4).is_err());
    }
}
