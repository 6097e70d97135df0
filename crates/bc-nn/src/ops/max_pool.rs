//! Max pooling 3x3, stride 2, padding 1, as ResNet's stem has it.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{result, values};

struct MaxPool {
    /// Of each output, the place in its plane that it came from.
    places: Mutex<Vec<u32>>,
}

fn out_size(size: usize) -> usize {
    (size - 1) / 2 + 1
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (channels, batch, height, width) = layout.shape().dims4()?;
        let x = values(x, layout)?;
        let (out_height, out_width) = (out_size(height), out_size(width));
        let plane = out_height * out_width;
        let mut y = vec![0f32; channels * batch * plane];
        let mut places = vec![0u32; y.len()];
        y.par_chunks_mut(plane).zip(places.par_chunks_mut(plane)).zip(x.par_chunks(height * width)).for_each(
            |((y, places), x)| {
                for row in 0..out_height {
                    let rows = (2 * row).saturating_sub(1)..(2 * row + 2).min(height);
                    for column in 0..out_width {
                        let columns = (2 * column).saturating_sub(1)..(2 * column + 2).min(width);
                        let (mut most, mut place) = (f32::NEG_INFINITY, rows.start * width + columns.start);
                        for iy in rows.clone() {
                            for ix in columns.clone() {
                                let value = x[iy * width + ix];
                                if value > most {
                                    (most, place) = (value, iy * width + ix);
                                }
                            }
                        }
                        y[row * out_width + column] = x[place];
                        places[row * out_width + column] = place as u32;
                    }
                }
            },
        );
        *self.places.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = places;
        result(y, (channels, batch, out_height, out_width))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let places =
            std::mem::take(&mut *self.places.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Ok(Some(dy.contiguous()?.apply_op2_no_bwd(x, &MaxPoolGradient { places })?))
    }
}

/// dx of (dy, x).
struct MaxPoolGradient {
    places: Vec<u32>,
}

impl CustomOp2 for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "max-pool-gradient"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        ld: &Layout,
        _: &CpuStorage,
        lx: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, _, height, width) = lx.shape().dims4()?;
        let dy = values(dy, ld)?;
        let plane = out_size(height) * out_size(width);
        let mut dx = vec![0f32; lx.shape().elem_count()];
        dx.par_chunks_mut(height * width)
            .zip(dy.par_chunks(plane))
            .zip(self.places.par_chunks(plane))
            .for_each(|((dx, dy), places)| {
                for (place, dy) in places.iter().zip(dy) {
                    dx[*place as usize] += dy;
                }
            });
        result(dx, lx.shape().clone())
    }
}

/// (C, B, H, W) to (C, B, ceil(H / 2), ceil(W / 2)).
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(MaxPool { places: Mutex::default() })
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check;
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn odd_and_even_sizes_pool_as_pytorchs_and_gradients_are_differences() {
        for (height, width, out) in [(5, 8, [3, 4]), (6, 7, [3, 4]), (1, 1, [1, 1])] {
            let x: Vec<f32> = (0..2 * height * width).map(|n| (n * 37 % 101) as f32).collect();
            let x = Var::from_vec(x, &[1, 2, height, width], &Device::Cpu).unwrap();
            assert_eq!(max_pool(&x).unwrap().dims(), [1, 2, out[0], out[1]]);
            gradient_check::check(std::slice::from_ref(&x), || max_pool(&x), 1e-2, 1e-2);
        }
    }
}
