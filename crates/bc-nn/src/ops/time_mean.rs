//! The mean of neighbouring columns: what a shortcut does where its block strides over time.

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Unwritten, fresh, read, written};

/// Rows that a thread works on at once.
const ROWS: usize = 64;

/// (C, B, H, W) to (C, B, H, ceil(W / stride)): means of `stride` columns, of fewer at the end
/// (PyTorch's `AvgPool2d((1, stride), ceil_mode=True)`).
///
/// # Errors
/// A stride of 0; a tensor without columns.
pub fn time_mean(x: &Tensor, stride: usize) -> Result<Tensor> {
    let (channels, batch, height, width) = x.dims4()?;
    if stride == 0 || width == 0 {
        candle_core::bail!("means of {stride} of {width} columns");
    }
    let columns = width.div_ceil(stride);
    let y = read(x, |x| {
        fresh(channels * batch * height * columns, |y| {
            y.par_chunks_mut(ROWS * columns).zip(x.par_chunks(ROWS * width)).for_each(|(y, x)| {
                for (y, x) in y.chunks_exact_mut(columns).zip(x.chunks_exact(width)) {
                    for (y, x) in y.iter_mut().zip(x.chunks(stride)) {
                        y.write(x.iter().sum::<f32>() / x.len() as f32);
                    }
                }
            });
            // SAFETY: x has `width` values for each `columns` of y, and those are as many as chunks of `stride`.
            unsafe { written(y) }
        })
    })?;
    Tensor::from_vec(y, (channels, batch, height, columns), x.device())
}

/// The gradient of an input of shape `x` of [`time_mean`].
///
/// # Errors
/// A gradient of another shape.
pub fn time_mean_gradient(dy: &Tensor, x: &Shape, stride: usize) -> Result<Tensor> {
    let (channels, batch, height, width) = x.dims4()?;
    let columns = width.div_ceil(stride.max(1));
    if stride == 0 || dy.dims() != [channels, batch, height, columns] {
        candle_core::bail!("a gradient of {:?} for means of {stride} columns of {x:?}", dy.shape());
    }
    let dx = read(dy, |dy| {
        fresh(x.elem_count(), |dx| {
            dx.par_chunks_mut(ROWS * width).zip(dy.par_chunks(ROWS * columns)).for_each(|(dx, dy)| {
                for (dx, dy) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(columns)) {
                    for (dx, dy) in dx.chunks_mut(stride).zip(dy) {
                        let share = *dy / dx.len() as f32;
                        dx.fill(Unwritten::new(share));
                    }
                }
            });
            // SAFETY: dy's shape was compared: it has a value for each chunk of `stride` of each row of dx.
            unsafe { written(dx) }
        })
    })?;
    Tensor::from_vec(dx, x.clone(), dy.device())
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check;
    use super::*;
    use candle_core::Device;

    #[test]
    fn gradients_are_differences_and_a_rest_counts_by_itself() {
        for (stride, width) in [(1, 5), (2, 6), (2, 7), (3, 7)] {
            let values = gradient_check::values(3 * 2 * 4 * width, 3);
            let x = Tensor::from_vec(values, (3, 2, 4, width), &Device::Cpu).unwrap();
            let shape = x.shape().clone();
            gradient_check::check(
                &[x],
                |inputs| time_mean(&inputs[0], stride),
                |_, dy| Ok(vec![time_mean_gradient(dy, &shape, stride)?]),
                1e-2,
                1e-3,
            );
        }
        let x = Tensor::new(&[1f32, 3.0, 7.0], &Device::Cpu).unwrap().reshape((1, 1, 1, 3)).unwrap();
        assert_eq!(time_mean(&x, 2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), [2.0, 7.0]);
    }
}
