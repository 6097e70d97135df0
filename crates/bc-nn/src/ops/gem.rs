//! Generalised-mean pooling (Radenović et al. 2018) with a learned exponent.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{result, values};

/// Values are at least this, so that powers exist.
const FLOOR: f32 = 1e-6;

struct Gem;

fn exponent(p: &[f32]) -> f64 {
    f64::from(p.first().copied().unwrap_or(1.0))
}

/// Mean of `clamp(x)^p` of a plane.
fn mean_power(x: &[f32], p: f64) -> f64 {
    let integer = p == 3.0;
    let sum: f64 = x
        .iter()
        .map(|value| {
            let value = f64::from(value.max(FLOOR));
            if integer { value * value * value } else { value.powf(p) }
        })
        .sum();
    sum / x.len() as f64
}

impl CustomOp2 for Gem {
    fn name(&self) -> &'static str {
        "gem"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        p: &CpuStorage,
        lp: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (channels, batch, height, width) = lx.shape().dims4()?;
        let (x, p) = (values(x, lx)?, exponent(values(p, lp)?));
        let y = x.par_chunks(height * width).map(|x| mean_power(x, p).powf(1.0 / p) as f32).collect();
        result(y, (channels, batch))
    }

    fn bwd(
        &self,
        x: &Tensor,
        p: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, _, height, width) = x.dims4()?;
        let exponent = f64::from(p.flatten_all()?.to_vec1::<f32>()?[0]);
        let (values, pooled, gradient) = (
            x.flatten_all()?.to_vec1::<f32>()?,
            y.flatten_all()?.to_vec1::<f32>()?,
            dy.flatten_all()?.to_vec1::<f32>()?,
        );
        let places = height * width;
        let mut dx = vec![0f32; values.len()];
        let dp: Vec<f64> = dx
            .par_chunks_mut(places)
            .zip(values.par_chunks(places))
            .enumerate()
            .map(|(plane, (dx, x))| {
                let (y, dy) = (f64::from(pooled[plane]), f64::from(gradient[plane]));
                // y = m^(1/p), m the mean of x^p: dy/dx = y^(1-p) x^(p-1) / n,
                // dy/dp = y (mean(x^p ln x) / (p m) - ln m / p^2).
                let factor = dy * y.powf(1.0 - exponent) / places as f64;
                let (mut mean, mut logs) = (0f64, 0f64);
                for (dx, value) in dx.iter_mut().zip(x) {
                    let clamped = f64::from(value.max(FLOOR));
                    let power = clamped.powf(exponent);
                    mean += power;
                    logs += power * clamped.ln();
                    *dx = if *value < FLOOR { 0.0 } else { (factor * power / clamped) as f32 };
                }
                let mean = mean / places as f64;
                let logs = logs / places as f64;
                dy * y * (logs / (exponent * mean) - mean.ln() / (exponent * exponent))
            })
            .collect();
        let dp = dp.iter().sum::<f64>() as f32;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(vec![dp], p.shape(), p.device())?),
        ))
    }
}

/// (C, B, H, W) and the exponent (1) to (C, B).
pub fn gem(x: &Tensor, p: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(p, Gem)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check;
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn gradients_of_values_and_exponent_are_differences() {
        for exponent in [3.0f32, 2.3] {
            let values: Vec<f32> =
                gradient_check::values(2 * 3 * 20, 4).iter().map(|v| v.abs() + 0.2).collect();
            let x = Var::from_vec(values, &[2, 3, 4, 5], &Device::Cpu).unwrap();
            let p = Var::from_vec(vec![exponent], &[1], &Device::Cpu).unwrap();
            gradient_check::check(&[x.clone(), p.clone()], || gem(&x, &p), 1e-2, 5e-3);
        }
    }
}
