//! Generalised-mean pooling (Radenović et al. 2018) with a learned exponent.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::super::Array;
use super::{Uninit, array, assume_init, values, vec_filled_by};
use crate::simd::vectorized;

/// Minimum to which values are clamped, so that their powers exist.
const FLOOR: f32 = 1e-6;

/// Clamps a value to [`FLOOR`].
fn clamped(x: f32) -> f64 {
    // `f32::max` would hide NaN.
    f64::from(if x < FLOOR { FLOOR } else { x })
}

/// Computes the natural logarithm of a finite number of at least [`FLOOR`], to 1e-13, without branches.
#[inline(always)]
fn logarithm(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    /// 2^52 as a number and as bits: adding it turns small whole numbers into low bits and back.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    let bits = x.to_bits();
    let mantissa = f64::from_bits(bits & MANTISSA | 1023 << 52);
    let exponent = f64::from_bits(bits >> 52 | WHOLE.to_bits()) - WHOLE - 1023.0;
    let high = mantissa > SQRT_2;
    let mantissa = if high { mantissa * 0.5 } else { mantissa };
    let exponent = if high { exponent + 1.0 } else { exponent };
    // ln m = 2 artanh((m - 1) / (m + 1)), whose argument is below 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let mut series = 1.0 / 15.0;
    for denominator in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = series * z + 1.0 / denominator;
    }
    exponent * LN_2 + 2.0 * s * series
}

/// Computes e to the power of `x`, with a relative error of 1e-13, without branches.
#[inline(always)]
fn exponential(x: f64) -> f64 {
    /// 1.5 * 2^52: adding it rounds to a whole number, which is then in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = x.clamp(-708.0, 709.0);
    let shifted = x * LOG2_E + ROUND;
    let rest = x - (shifted - ROUND) * LN_2;
    let mut series = 1.0;
    for divisor in [12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0] {
        series = 1.0 + series * rest * (1.0 / divisor);
    }
    series * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// Pads fewer than 16 values with ones.
#[inline(always)]
fn padded(rest: &[f32]) -> [f32; 16] {
    let mut values = [1.0; 16];
    values[..rest.len()].copy_from_slice(rest);
    values
}

/// Computes `clamp(x)^p`.
#[inline(always)]
fn power(x: f32, p: f64) -> f64 {
    let value = clamped(x);
    if x.is_finite() { exponential(p * logarithm(value)) } else { value }
}

vectorized! {
    /// Computes the sum of `clamp(x)^p`.
    fn sum_of_powers(x: &[f32], p: f64) -> f64 {
        let mut lanes = [0f64; 16];
        let (parts, rest) = x.as_chunks::<16>();
        if p == 3.0 {
            for part in parts {
                for (lane, x) in lanes.iter_mut().zip(part) {
                    let value = clamped(*x);
                    *lane += value * value * value;
                }
            }
        } else {
            for part in parts {
                for (lane, x) in lanes.iter_mut().zip(part) {
                    *lane += power(*x, p);
                }
            }
        }
        // In short rows most values are in the remainder, which should be vectorised too.
        let (last, mut powers) = (padded(rest), [0f64; 16]);
        for (power_of, x) in powers.iter_mut().zip(&last) {
            *power_of = power(*x, p);
        }
        lanes.iter().sum::<f64>() + powers[..rest.len()].iter().sum::<f64>()
    }
}

#[inline(always)]
fn slope(x: f32, p: f64, factor: f64, dx: &mut Uninit) -> f64 {
    let value = clamped(x);
    let log = logarithm(value);
    let power = exponential((p - 1.0) * log);
    dx.write(if x < FLOOR { 0.0 } else { (factor * power) as f32 });
    power * value * log
}

vectorized! {
    /// Writes `factor * clamp(x)^(p - 1)` (zero below the floor) and returns the sum of `clamp(x)^p ln(clamp(x))`.
    fn slopes(x: &[f32], p: f64, factor: f64, dx: &mut [Uninit]) -> f64 {
        let mut lanes = [0f64; 16];
        let (x_parts, x_rest) = x.as_chunks::<16>();
        let (dx_parts, dx_rest) = dx.as_chunks_mut::<16>();
        for (x, dx) in x_parts.iter().zip(dx_parts) {
            for lane in 0..16 {
                lanes[lane] += slope(x[lane], p, factor, &mut dx[lane]);
            }
        }
        let (x_last, mut dx_last, mut sums) = (padded(x_rest), [Uninit::new(0.0); 16], [0f64; 16]);
        for lane in 0..16 {
            sums[lane] = slope(x_last[lane], p, factor, &mut dx_last[lane]);
        }
        dx_rest.copy_from_slice(&dx_last[..dx_rest.len()]);
        lanes.iter().sum::<f64>() + sums[..x_rest.len()].iter().sum::<f64>()
    }
}

/// Computes the generalised mean of x (C, B, H, W) over height and width, the p-th root of the mean p-th power: (C, B).
///
/// # Errors
/// An array of another backend.
pub fn gem(x: &Array, p: f32) -> Result<Array> {
    let [channels, batch, height, width] = x.shape();
    let (x, p, positions) = (values(x)?, f64::from(p), height * width);
    let y = x
        .par_chunks(positions)
        .map(|x| (sum_of_powers(x, p) / positions as f64).powf(1.0 / p) as f32)
        .collect();
    Ok(array(y, [channels, batch, 1, 1]))
}

/// Computes the gradients of x and of the exponent, from x, the result y and its gradient.
///
/// # Errors
/// Shapes that do not fit.
pub fn gem_gradient(x: &Array, p: f32, y: &Array, dy: &Array) -> Result<(Array, f32)> {
    let shape = x.shape();
    let [channels, batch, height, width] = shape;
    if y.shape() != dy.shape() || y.shape() != [channels, batch, 1, 1] {
        bail!("a gradient of {:?} for {:?} of {shape:?}", dy.shape(), y.shape());
    }
    let (x, y, dy) = (values(x)?, values(y)?, values(dy)?);
    let (p, positions) = (f64::from(p), height * width);
    let mut parts = Vec::new();
    let dx = vec_filled_by(x.len(), |dx| {
        dx.par_chunks_mut(positions)
            .zip(x.par_chunks(positions))
            .zip(y.par_iter().zip(dy))
            .map(|((dx, x), (y, dy))| {
                let (y, dy) = (f64::from(*y), f64::from(*dy));
                // y = m^(1/p), m the mean of x^p: dy/dx = y^(1-p) x^(p-1) / n,
                // dy/dp = y (mean(x^p ln x) / (p m) - ln m / p^2).
                let logs = slopes(x, p, dy * y.powf(1.0 - p) / positions as f64, dx) / positions as f64;
                let mean = y.powf(p);
                dy * y * (logs / (p * mean) - y.ln() / p)
            })
            .collect_into_vec(&mut parts);
        // SAFETY: x is as long as dx and y and dy have a value for each of its planes (their shapes were compared
        // above), so every plane of dx was written.
        unsafe { assume_init(dx) }
    });
    Ok((array(dx, shape), parts.iter().sum::<f64>() as f32))
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{self, flat};
    use super::*;

    #[test]
    fn gradients_of_values_and_exponent_are_differences() {
        for exponent in [3.0f32, 2.3] {
            let values: Vec<f32> =
                gradient_check::values(2 * 3 * 20, 4).iter().map(|v| v.abs() + 0.2).collect();
            let x = array(values, [2, 3, 4, 5]);
            let p = array(vec![exponent], [1, 1, 1, 1]);
            let power = |p: &Array| flat(p)[0];
            let forward = |inputs: &[Array]| gem(&inputs[0], power(&inputs[1]));
            let backward = |inputs: &[Array], dy: &Array| {
                let p = power(&inputs[1]);
                let (dx, dp) = gem_gradient(&inputs[0], p, &gem(&inputs[0], p)?, dy)?;
                Ok(vec![dx, array(vec![dp], [1, 1, 1, 1])])
            };
            gradient_check::check(&[x, p], forward, backward, 1e-2, 5e-3);
        }
    }

    #[test]
    fn logarithms_and_powers_are_those_of_the_standard_library() {
        for n in 0..4000 {
            let x = f64::from((1e-6f64 * 1.02f64.powi(n / 2)) as f32);
            assert!((logarithm(x) - x.ln()).abs() < 1e-12 * x.ln().abs().max(1.0), "{x}");
            let y = f64::from(n - 2000) * 0.35;
            assert!((exponential(y) / y.exp() - 1.0).abs() < 1e-12, "{y}");
        }
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        let x = array(vec![1f32, f32::NAN, 2.0, f32::INFINITY], [2, 1, 1, 2]);
        for p in [3.0, 2.5] {
            let y = flat(&gem(&x, p).unwrap());
            assert!(y[0].is_nan() && y[1] == f32::INFINITY, "{y:?}");
        }
    }
}
