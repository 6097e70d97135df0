//! The mean of neighbouring columns, for shortcuts of blocks with a stride over time.

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::super::{Array, Shape};
use super::{Uninit, array, assume_init, values, vec_filled_by};

/// Number of rows that a thread works on at once.
const ROWS: usize = 64;

/// Computes the means of `stride` neighbouring columns (of fewer at the end) of x (C, B, H, W): (C, B, H, ceil(W / stride)), as
/// PyTorch's `AvgPool2d((1, stride), ceil_mode=True)`.
///
/// # Errors
/// A stride of 0; a tensor without columns.
pub fn time_mean(x: &Array, stride: usize) -> Result<Array> {
    let [channels, batch, height, width] = x.shape();
    if stride == 0 || width == 0 {
        bail!("means of {stride} of {width} columns");
    }
    let columns = width.div_ceil(stride);
    let x = values(x)?;
    let y = vec_filled_by(channels * batch * height * columns, |y| {
        y.par_chunks_mut(ROWS * columns).zip(x.par_chunks(ROWS * width)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(columns).zip(x.chunks_exact(width)) {
                for (y, x) in y.iter_mut().zip(x.chunks(stride)) {
                    y.write(x.iter().sum::<f32>() / x.len() as f32);
                }
            }
        });
        // SAFETY: x has `width` values for each `columns` of y, and those are as many as chunks of `stride`.
        unsafe { assume_init(y) }
    });
    Ok(array(y, [channels, batch, height, columns]))
}

/// Computes the gradient of an input of shape `x` of [`time_mean`].
///
/// # Errors
/// A gradient of another shape.
pub fn time_mean_gradient(dy: &Array, x: Shape, stride: usize) -> Result<Array> {
    let [channels, batch, height, width] = x;
    let columns = width.div_ceil(stride.max(1));
    if stride == 0 || dy.shape() != [channels, batch, height, columns] {
        bail!("a gradient of {:?} for means of {stride} columns of {x:?}", dy.shape());
    }
    let dy = values(dy)?;
    let dx = vec_filled_by(x.iter().product(), |dx| {
        dx.par_chunks_mut(ROWS * width).zip(dy.par_chunks(ROWS * columns)).for_each(|(dx, dy)| {
            for (dx, dy) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(columns)) {
                for (dx, dy) in dx.chunks_mut(stride).zip(dy) {
                    let share = *dy / dx.len() as f32;
                    dx.fill(Uninit::new(share));
                }
            }
        });
        // SAFETY: dy's shape was compared: it has a value for each chunk of `stride` of each row of dx.
        unsafe { assume_init(dx) }
    });
    Ok(array(dx, x))
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{self, flat, test_array};
    use super::*;

    #[test]
    fn gradients_are_differences_and_a_rest_counts_by_itself() {
        for (stride, width) in [(1, 5), (2, 6), (2, 7), (3, 7)] {
            let x = test_array([3, 2, 4, width], 3);
            let shape = x.shape();
            gradient_check::check(
                &[x],
                |inputs| time_mean(&inputs[0], stride),
                |_, dy| Ok(vec![time_mean_gradient(dy, shape, stride)?]),
                1e-2,
                1e-3,
            );
        }
        let x = array(vec![1.0, 3.0, 7.0], [1, 1, 1, 3]);
        assert_eq!(flat(&time_mean(&x, 2).unwrap()), [2.0, 7.0]);
    }
}
