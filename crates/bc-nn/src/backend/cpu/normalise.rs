//! The inner loops of the normalisations, on one group of values at a time.

use super::Uninit;
use crate::simd::vectorized;

/// Number of values that are summed in 32 bits before the sum continues in 64 bits.
const BLOCK: usize = 2048;
/// Number of partial sums, so that additions do not have to wait for each other.
const LANES: usize = 64;

/// The function `x * factor + offset`: a normalisation with its scale and shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) factor: f32,
    pub(crate) offset: f32,
}

impl Affine {
    pub(super) fn new(mean: f32, inverse: f32, gamma: f32, beta: f32) -> Self {
        let factor = inverse * gamma;
        Self { factor, offset: beta - mean * factor }
    }
}

/// Computes the mean and biased variance, in two passes (the second is in cache, and there is no cancellation).
pub(super) fn moments(x: &[f32]) -> (f64, f64) {
    let count = x.len().max(1) as f64;
    let mean = sum(x) / count;
    (mean, squares(x, mean as f32) / count)
}

vectorized! {
    fn sum(x: &[f32]) -> f64 {
        let mut total = 0f64;
        for block in x.chunks(BLOCK) {
            let mut lanes = [0f32; LANES];
            let (parts, rest) = block.as_chunks::<LANES>();
            for part in parts {
                for (lane, x) in lanes.iter_mut().zip(part) {
                    *lane += x;
                }
            }
            total += f64::from(lanes.iter().sum::<f32>() + rest.iter().sum::<f32>());
        }
        total
    }
}

vectorized! {
    fn squares(x: &[f32], mean: f32) -> f64 {
        let mut total = 0f64;
        for block in x.chunks(BLOCK) {
            let mut lanes = [0f32; LANES];
            let (parts, rest) = block.as_chunks::<LANES>();
            for part in parts {
                for (lane, x) in lanes.iter_mut().zip(part) {
                    *lane += (x - mean) * (x - mean);
                }
            }
            let rest: f32 = rest.iter().map(|x| (x - mean) * (x - mean)).sum();
            total += f64::from(lanes.iter().sum::<f32>() + rest);
        }
        total
    }
}

vectorized! {
    /// Writes `max(affine(x), floor)` to y.
    pub(super) fn affine(y: &mut [Uninit], x: &[f32], affine: Affine, floor: f32) {
        for (y, x) in y.iter_mut().zip(x) {
            let value = x * affine.factor + affine.offset;
            // `f32::max` would hide NaN, and a diverged run would look healthy.
            y.write(if value < floor { floor } else { value });
        }
    }
}

vectorized! {
    /// Writes `max(max(affine(x), floor) + shortcut, 0)` to y.
    pub(super) fn affine_add_relu(
        y: &mut [Uninit],
        x: &[f32],
        affine: Affine,
        floor: f32,
        shortcut: &[f32],
    ) {
        for ((y, x), shortcut) in y.iter_mut().zip(x).zip(shortcut) {
            let value = x * affine.factor + affine.offset;
            let sum = if value < floor { floor } else { value } + shortcut;
            y.write(if sum < 0.0 { 0.0 } else { sum });
        }
    }
}

vectorized! {
    /// Applies [`affine`] in place.
    pub(super) fn affine_in_place(y: &mut [f32], affine: Affine, floor: f32) {
        for y in y {
            let value = *y * affine.factor + affine.offset;
            *y = if value < floor { floor } else { value };
        }
    }
}

vectorized! {
    /// Applies [`affine_add_relu`] in place.
    pub(super) fn affine_add_relu_in_place(y: &mut [f32], affine: Affine, floor: f32, shortcut: &[f32]) {
        for (y, shortcut) in y.iter_mut().zip(shortcut) {
            let value = *y * affine.factor + affine.offset;
            let sum = if value < floor { floor } else { value } + shortcut;
            *y = if sum < 0.0 { 0.0 } else { sum };
        }
    }
}

vectorized! {
    /// Sets dy to zero where y is not above zero (as in PyTorch, the gradient at zero is zero).
    pub(super) fn mask_in_place(dy: &mut [f32], y: &[f32]) {
        for (dy, y) in dy.iter_mut().zip(y) {
            *dy = if *y > 0.0 { *dy } else { 0.0 };
        }
    }
}

vectorized! {
    /// Computes the sums of g and of `g * (x - mean)`. g is dy where `affine(x)` is above the floor, and else zero.
    pub(super) fn gradient_sums(x: &[f32], dy: &[f32], affine: Affine, floor: f32, mean: f32) -> (f64, f64) {
        const HALF: usize = LANES / 2;
        let (mut sum, mut product) = (0f64, 0f64);
        for (x, dy) in x.chunks(BLOCK).zip(dy.chunks(BLOCK)) {
            let (mut sums, mut products) = ([0f32; HALF], [0f32; HALF]);
            let (x_parts, x_rest) = x.as_chunks::<HALF>();
            let (dy_parts, dy_rest) = dy.as_chunks::<HALF>();
            for (x, dy) in x_parts.iter().zip(dy_parts) {
                for lane in 0..HALF {
                    let g = if x[lane] * affine.factor + affine.offset > floor { dy[lane] } else { 0.0 };
                    sums[lane] += g;
                    products[lane] += g * (x[lane] - mean);
                }
            }
            for (lane, (x, dy)) in x_rest.iter().zip(dy_rest).enumerate() {
                let g = if x * affine.factor + affine.offset > floor { *dy } else { 0.0 };
                sums[lane] += g;
                products[lane] += g * (x - mean);
            }
            sum += f64::from(sums.iter().sum::<f32>());
            product += f64::from(products.iter().sum::<f32>());
        }
        (sum, product)
    }
}

vectorized! {
    /// Computes [`gradient`], and overwrites dy with it.
    pub(super) fn gradient_in_place(
        dy: &mut [f32],
        x: &[f32],
        affine: Affine,
        floor: f32,
        slope: f32,
        constant: f32,
    ) {
        for (dy, x) in dy.iter_mut().zip(x) {
            let g = if x * affine.factor + affine.offset > floor { *dy } else { 0.0 };
            *dy = affine.factor * g + (slope * x + constant);
        }
    }
}

vectorized! {
    /// Writes `factor * g + slope * x + constant` to dx, with g as in [`gradient_sums`].
    pub(super) fn gradient(
        dx: &mut [Uninit],
        x: &[f32],
        dy: &[f32],
        affine: Affine,
        floor: f32,
        slope: f32,
        constant: f32,
    ) {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            let g = if x * affine.factor + affine.offset > floor { *dy } else { 0.0 };
            dx.write(affine.factor * g + (slope * x + constant));
        }
    }
}
