//! The CPU backend. Each operator is a pair of plain functions on slices (forward and backward), without an autograd graph:
//! the network runs its backward pass itself, so that gradients are accumulated in place and activations are freed early.
//!
//! An array is contiguous in memory, in the order (channels, batch, height, width), with 32-bit values. Because channels come
//! first, the convolution of a whole batch is one matrix product, and the values that batch norm averages are contiguous.

#![allow(
    unsafe_code,
    reason = "kernels: memory that is written before it is read, blocks that threads share, instructions of vectors"
)]

mod adam;
pub mod conv2d;
pub mod gem;
mod im2col;
pub mod max_mean;
pub mod max_pool;
pub mod norm;
mod normalise;
mod operators;
mod product;
mod rows;
mod tile;
pub mod time_mean;
mod transpose;
mod winograd;

use std::mem::MaybeUninit;

use anyhow::Result;

use super::{Array, Shape};
use crate::memory::prefer_huge_pages;
pub use operators::Cpu;
pub(crate) use product::{View, matmul};

/// Returns the values of an array.
pub(crate) fn values(x: &Array) -> Result<&[f32]> {
    Ok(x.data::<Vec<f32>>()?)
}

/// Returns the values of an array that an operator overwrites.
pub(crate) fn in_place(x: &mut Array) -> Result<&mut [f32]> {
    Ok(x.data_mut::<Vec<f32>>()?)
}

/// Creates an array of these values.
pub(crate) fn array(values: Vec<f32>, shape: Shape) -> Array {
    assert_eq!(values.len(), shape.iter().product::<usize>());
    Array::new(shape, values)
}

/// A value that is not written yet. Zeroing memory that is overwritten anyway would cost one more pass over it.
pub(crate) type Uninit = MaybeUninit<f32>;

/// Returns `count` values that `fill` writes. `fill` must write all of them, and return its argument as initialised memory
/// (with [`assume_init`] or [`zeroed`]).
///
/// # Panics
/// `fill` returns other memory than its argument, or only a part of it.
pub(crate) fn vec_filled_by(count: usize, fill: impl FnOnce(&mut [Uninit]) -> &mut [f32]) -> Vec<f32> {
    let mut values = Vec::<f32>::with_capacity(count);
    prefer_huge_pages(values.spare_capacity_mut());
    let start = values.as_ptr();
    let filled = fill(&mut values.spare_capacity_mut()[..count]);
    assert!(filled.as_ptr() == start && filled.len() == count, "not all of the values were written");
    // SAFETY: a slice of `f32` is of written values, and this one is the first `count` of the capacity.
    unsafe { values.set_len(count) };
    values
}

/// Returns the values as initialised memory.
///
/// # Safety
/// All values were written.
pub(crate) unsafe fn assume_init(values: &mut [Uninit]) -> &mut [f32] {
    // SAFETY: the caller's.
    unsafe { values.assume_init_mut() }
}

/// Fills memory with zeros, and returns it as initialised memory.
pub(crate) fn zeroed(values: &mut [Uninit]) -> &mut [f32] {
    values.fill(Uninit::new(0.0));
    // SAFETY: all were written by the line above.
    unsafe { assume_init(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_vector_has_the_values_that_were_written() {
        assert_eq!(vec_filled_by(3, zeroed), [0.0; 3]);
        assert!(vec_filled_by(0, zeroed).is_empty());
        let counted = vec_filled_by(2, |values| {
            values.iter_mut().zip([1.0, 2.0]).for_each(|(value, number)| {
                value.write(number);
            });
            // SAFETY: both were.
            unsafe { assume_init(values) }
        });
        assert_eq!(counted, [1.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "not all of the values were written")]
    fn fewer_values_than_promised_are_no_result() {
        vec_filled_by(3, |values| zeroed(&mut values[..2]));
    }
}

#[cfg(test)]
pub(crate) mod gradient_check {
    //! Backward passes against central differences of the forward pass.

    use anyhow::Result;
    /// Values without ties, the same at every call.
    pub(crate) use bc_testing::signed_values as values;

    use super::super::{Array, Shape};
    use super::array;

    /// An array of such values.
    pub(crate) fn test_array(shape: Shape, seed: u32) -> Array {
        array(values(shape.iter().product(), seed), shape)
    }

    pub(crate) fn flat(x: &Array) -> Vec<f32> {
        super::values(x).unwrap().to_vec()
    }

    /// The largest difference.
    pub(crate) fn difference(a: &Array, b: &Array) -> f32 {
        assert_eq!(a.shape(), b.shape());
        flat(a).iter().zip(flat(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Compares `backward(inputs, dy)` (one gradient per input) with central differences of
    /// `sum(forward(inputs) * dy)` over `step` (short where a kink is near).
    pub(crate) fn check(
        inputs: &[Array],
        forward: impl Fn(&[Array]) -> Result<Array>,
        backward: impl Fn(&[Array], &Array) -> Result<Vec<Array>>,
        step: f32,
        tolerance: f64,
    ) {
        let out = forward(inputs).unwrap();
        let weights = values(out.count(), 99);
        let dy = array(weights.clone(), out.shape());
        let gradients = backward(inputs, &dy).unwrap();
        assert_eq!(gradients.len(), inputs.len());
        let value = |inputs: &[Array]| {
            let out = flat(&forward(inputs).unwrap());
            out.iter().zip(&weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        for (number, input) in inputs.iter().enumerate() {
            let ours = flat(&gradients[number]);
            let base = flat(input);
            assert_eq!(gradients[number].shape(), input.shape());
            let scale = ours.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
            for index in (0..base.len()).step_by((base.len() / 40).max(1)) {
                let at = |delta: f32| {
                    let mut shifted = base.clone();
                    shifted[index] += delta;
                    let mut inputs = inputs.to_vec();
                    inputs[number] = array(shifted, input.shape());
                    value(&inputs)
                };
                let central = (at(step) - at(-step)) / (2.0 * f64::from(step));
                let error = (central - f64::from(ours[index])).abs() / f64::from(scale);
                assert!(
                    error < tolerance,
                    "input {number}, value {index}: {} and not {central} ({error:.1e})",
                    ours[index]
                );
            }
        }
    }
}
