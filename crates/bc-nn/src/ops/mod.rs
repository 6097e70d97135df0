//! The operators that candle lacks or computes slowly: each a pair of plain functions on
//! slices (forward and backward) behind candle's `CustomOp` and `InplaceOp`, without
//! candle's graph: the network runs its backward pass itself, so that gradients are
//! added where they belong and activations are freed as it goes.
//!
//! All tensors are (channels, batch, height, width), 32-bit, contiguous: with the channels
//! first a convolution of a whole batch is one product of matrices, and what batch norm
//! averages lies in one run of memory. Only the CPU side is here; `cuda_fwd` of each operator is where
//! cuDNN and own kernels will go, and until then a tensor on a GPU is refused with candle's own message.

pub mod conv2d;
pub mod gem;
pub mod geometry;
mod im2col;
pub mod max_mean;
pub mod max_pool;
pub mod norm;
mod normalise;
mod product;
mod tile;
pub mod time_mean;
mod transpose;

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, Layout, Result, Shape, Tensor, bail};

/// The values of a contiguous 32-bit tensor.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("the operator needs a contiguous tensor")
    };
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// A result for candle.
pub(crate) fn result(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// The values of a contiguous 32-bit tensor that an operator changes.
pub(crate) fn in_place<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((from, to))) => Ok(&mut values[from..to]),
        _ => bail!("the operator needs a contiguous tensor of 32 bits"),
    }
}

/// A value that is not written yet. Zeroing what is overwritten anyway would cost one more pass through memory.
pub(crate) type Unwritten = MaybeUninit<f32>;

/// `count` values, which `fill` writes all: it returns its argument as what it is then (see [`written`] and
/// [`zeroed`]).
///
/// # Panics
/// Other memory comes back, or less of it.
pub(crate) fn fresh(count: usize, fill: impl FnOnce(&mut [Unwritten]) -> &mut [f32]) -> Vec<f32> {
    let mut values = Vec::<f32>::with_capacity(count);
    let start = values.as_ptr();
    let filled = fill(&mut values.spare_capacity_mut()[..count]);
    assert!(filled.as_ptr() == start && filled.len() == count, "not all of the values were written");
    // SAFETY: a slice of `f32` is of written values, and this one is the first `count` of the capacity.
    unsafe { values.set_len(count) };
    values
}

/// Calls `work` with the values of a contiguous 32-bit tensor on the CPU.
pub(crate) fn read<T>(x: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = x.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else { bail!("the operator runs on the CPU") };
    Ok(work(values(storage, layout)?))
}

/// Values that were all written.
///
/// # Safety
/// Every one of them was.
pub(crate) unsafe fn written(values: &mut [Unwritten]) -> &mut [f32] {
    // SAFETY: the caller's.
    unsafe { values.assume_init_mut() }
}

/// Zeros.
pub(crate) fn zeroed(values: &mut [Unwritten]) -> &mut [f32] {
    values.fill(Unwritten::new(0.0));
    // SAFETY: all were written by the line above.
    unsafe { written(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_values_are_those_that_were_written() {
        assert_eq!(fresh(3, zeroed), [0.0; 3]);
        assert!(fresh(0, zeroed).is_empty());
        let counted = fresh(2, |values| {
            values.iter_mut().zip([1.0, 2.0]).for_each(|(value, number)| {
                value.write(number);
            });
            // SAFETY: both were.
            unsafe { written(values) }
        });
        assert_eq!(counted, [1.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "not all of the values were written")]
    fn fewer_values_than_promised_are_no_result() {
        fresh(3, |values| zeroed(&mut values[..2]));
    }
}

#[cfg(test)]
pub(crate) mod gradient_check {
    //! Backward passes against central differences of the forward pass.

    use candle_core::{Result, Tensor};

    /// Values without ties, the same at every call.
    pub(crate) fn values(count: usize, seed: u32) -> Vec<f32> {
        let mix = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8;
        (0..count as u32).map(|n| mix(n ^ seed << 20) as f32 / 8_388_608.0 - 1.0).collect()
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Compares `backward(inputs, dy)` (one gradient per input) with central differences of
    /// `sum(forward(inputs) * dy)` over `step` (short where a kink is near).
    pub(crate) fn check(
        inputs: &[Tensor],
        forward: impl Fn(&[Tensor]) -> Result<Tensor>,
        backward: impl Fn(&[Tensor], &Tensor) -> Result<Vec<Tensor>>,
        step: f32,
        tolerance: f64,
    ) {
        let out = forward(inputs).unwrap();
        let weights = values(out.elem_count(), 99);
        let dy = Tensor::from_vec(weights.clone(), out.shape(), out.device()).unwrap();
        let gradients = backward(inputs, &dy).unwrap();
        assert_eq!(gradients.len(), inputs.len());
        let value = |inputs: &[Tensor]| {
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
                    inputs[number] = Tensor::from_vec(shifted, input.shape(), input.device()).unwrap();
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
