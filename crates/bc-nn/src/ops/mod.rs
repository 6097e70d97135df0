//! The operators that candle lacks or computes slowly: each a pair of plain functions on
//! slices (forward and backward) behind a candle `CustomOp`, so that candle's graph strings them together.
//!
//! All tensors are (channels, batch, height, width), 32-bit, contiguous: with the channels
//! first a convolution of a whole batch is one product of matrices, and what batch norm
//! averages lies in one run of memory. Only the CPU side is here; `cuda_fwd` of each operator is where cuDNN and own kernels will go, and until then
//! a tensor on a GPU is refused with candle's own message.

pub mod conv2d;
pub mod gem;
pub mod max_pool;
pub mod norm;
mod normalise;
mod product;

use candle_core::{CpuStorage, Layout, Result, Shape, bail};

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

#[cfg(test)]
pub(crate) mod gradient_check {
    //! Backward passes against central differences of the forward pass.

    use candle_core::{Result, Tensor, Var};

    /// Values without ties, the same at every call.
    pub(crate) fn values(count: usize, seed: u32) -> Vec<f32> {
        let mix = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8;
        (0..count as u32).map(|n| mix(n ^ seed << 20) as f32 / 8_388_608.0 - 1.0).collect()
    }

    /// Compares every input's gradient of `sum(f(inputs) * weights)` with central differences
    /// over `step` (short where a kink is near).
    pub(crate) fn check(inputs: &[Var], f: impl Fn() -> Result<Tensor>, step: f32, tolerance: f64) {
        let out = f().unwrap();
        let weights = Tensor::from_vec(values(out.elem_count(), 99), out.shape(), out.device()).unwrap();
        let loss = |out: &Tensor| (out * &weights).unwrap().sum_all().unwrap();
        let gradients = loss(&out).backward().unwrap();
        let value = || {
            let out = f().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let weights = weights.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            out.iter().zip(&weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        for (number, input) in inputs.iter().enumerate() {
            let ours = gradients.get(input).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let base = input.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let scale = ours.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
            for place in (0..base.len()).step_by((base.len() / 40).max(1)) {
                let at = |delta: f32| {
                    let mut moved = base.clone();
                    moved[place] += delta;
                    input.set(&Tensor::from_vec(moved, input.shape(), input.device()).unwrap()).unwrap();
                    value()
                };
                let central = (at(step) - at(-step)) / (2.0 * f64::from(step));
                at(0.0);
                let error = (central - f64::from(ours[place])).abs() / f64::from(scale);
                assert!(
                    error < tolerance,
                    "input {number}, place {place}: {} against {central}",
                    ours[place]
                );
            }
        }
    }
}
