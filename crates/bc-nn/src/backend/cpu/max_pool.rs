//! Max pooling with 3x3 windows, stride 2 and padding 1, as in ResNet's stem.

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::super::{Array, Shape};
use super::{Uninit, array, assume_init, values, vec_filled_by, zeroed};
use crate::simd::vectorized;

fn out_size(size: usize) -> usize {
    (size - 1) / 2 + 1
}

/// The origin of each maximum.
pub struct Argmax {
    /// For each output, the position in its window (0 to 8).
    taps: Vec<u8>,
    /// Shape of the input.
    shape: Shape,
}

vectorized! {
    /// Splits a row into its even and odd columns; for an odd width, the last odd column is a value that is never the
    /// maximum.
    fn split_columns(row: &[f32], even: &mut [f32], odd: &mut [f32]) {
        let (pairs, rest) = row.as_chunks::<2>();
        for ((pair, even), odd) in pairs.iter().zip(even.iter_mut()).zip(odd.iter_mut()) {
            [*even, *odd] = *pair;
        }
        if let (Some(value), Some(even), Some(odd)) = (rest.first(), even.last_mut(), odd.last_mut()) {
            (*even, *odd) = (*value, f32::NEG_INFINITY);
        }
    }
}

vectorized! {
    /// Keeps the greater value (or NaN), and records where it came from.
    fn greater(best: &mut [f32], taps: &mut [u32], values: &[f32], tap: u32) {
        for ((best, found), value) in best.iter_mut().zip(taps).zip(values) {
            let better = *value > *best || value.is_nan();
            *best = if better { *value } else { *best };
            *found = if better { tap } else { *found };
        }
    }
}

/// Pools one channel of one sample; writes all of `y` and `taps`.
fn pool_plane(x: &[f32], height: usize, width: usize, y: &mut [Uninit], taps: &mut [u8]) {
    let out_width = out_size(width);
    let mut even = vec![0f32; out_width];
    // The odd columns, moved by one: the first window begins with the padding.
    let mut odd = vec![f32::NEG_INFINITY; out_width + 1];
    let mut found = vec![0u32; out_width];
    for (row, (y, taps)) in y.chunks_mut(out_width).zip(taps.chunks_mut(out_width)).enumerate() {
        y.fill(Uninit::new(f32::NEG_INFINITY));
        // SAFETY: the line above wrote all of the row.
        let y = unsafe { assume_init(y) };
        for ky in (0..3).filter(|ky| (1..=height).contains(&(2 * row + ky))) {
            split_columns(&x[(2 * row + ky - 1) * width..][..width], &mut even, &mut odd[1..]);
            let tap = 3 * ky as u32;
            greater(y, &mut found, &odd[..out_width], tap);
            greater(y, &mut found, &even, tap + 1);
            greater(y, &mut found, &odd[1..], tap + 2);
        }
        for (tap, found) in taps.iter_mut().zip(&found) {
            *tap = *found as u8;
        }
    }
}

/// Computes the maxima of x (C, B, H, W): (C, B, ceil(H / 2), ceil(W / 2)). Also returns what the backward pass needs.
///
/// # Errors
/// An array of another backend.
pub fn max_pool(x: &Array) -> Result<(Array, Argmax)> {
    let shape = x.shape();
    let [channels, batch, height, width] = shape;
    let x = values(x)?;
    let (out_height, out_width) = (out_size(height), out_size(width));
    let plane = out_height * out_width;
    let mut taps = vec![0u8; channels * batch * plane];
    let y = vec_filled_by(taps.len(), |y| {
        y.par_chunks_mut(plane)
            .zip(taps.par_chunks_mut(plane))
            .zip(x.par_chunks(height * width))
            .for_each(|((y, taps), x)| pool_plane(x, height, width, y, taps));
        // SAFETY: y, taps and x have the same number of planes, and each plane of y was written.
        unsafe { assume_init(y) }
    });
    Ok((array(y, [channels, batch, out_height, out_width]), Argmax { taps, shape }))
}

/// Computes the gradient of the input of [`max_pool`].
///
/// # Errors
/// A gradient of another shape.
pub fn max_pool_gradient(dy: &Array, argmax: &Argmax) -> Result<Array> {
    let Argmax { taps, shape } = argmax;
    let [channels, batch, height, width] = *shape;
    let (out_width, plane) = (out_size(width), out_size(height) * out_size(width));
    if dy.count() != taps.len() || taps.len() != channels * batch * plane {
        bail!("a gradient of {:?} for {} maxima", dy.shape(), taps.len());
    }
    let dy = values(dy)?;
    let dx = vec_filled_by(shape.iter().product(), |dx| {
        dx.par_chunks_mut(height * width).zip(dy.par_chunks(plane)).zip(taps.par_chunks(plane)).for_each(
            |((dx, dy), taps)| {
                let dx = zeroed(dx);
                let rows = dy.chunks(out_width).zip(taps.chunks(out_width));
                for (y, (dy, taps)) in rows.enumerate() {
                    for (x, (dy, tap)) in dy.iter().zip(taps).enumerate() {
                        let (ky, kx) = (usize::from(tap / 3), usize::from(tap % 3));
                        dx[(2 * y + ky - 1) * width + 2 * x + kx - 1] += dy;
                    }
                }
            },
        );
        // SAFETY: dx, dy and taps have the same number of planes, and each plane of dx was zeroed.
        unsafe { assume_init(dx) }
    });
    Ok(array(dx, *shape))
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{self, flat};
    use super::*;

    #[test]
    fn odd_and_even_sizes_pool_as_pytorchs_and_gradients_are_differences() {
        for (height, width, out) in [(5, 8, [3, 4]), (6, 7, [3, 4]), (1, 1, [1, 1]), (2, 41, [1, 21])] {
            let x: Vec<f32> = (0..2 * height * width).map(|n| (n * 37 % 101) as f32).collect();
            let x = array(x, [1, 2, height, width]);
            assert_eq!(max_pool(&x).unwrap().0.shape(), [1, 2, out[0], out[1]]);
            let forward = |inputs: &[Array]| Ok(max_pool(&inputs[0])?.0);
            let backward =
                |inputs: &[Array], dy: &Array| Ok(vec![max_pool_gradient(dy, &max_pool(&inputs[0])?.1)?]);
            gradient_check::check(std::slice::from_ref(&x), forward, backward, 1e-2, 1e-2);
        }
    }

    #[test]
    fn nan_stays_visible() {
        let mut x = vec![1f32; 30];
        x[7] = f32::NAN;
        let y = flat(&max_pool(&array(x, [1, 1, 5, 6])).unwrap().0);
        assert_eq!(y.iter().filter(|y| y.is_nan()).count(), 4, "{y:?}");
    }
}
