//! Batch and instance normalisation with what follows them: ReLU, or the end of a bottleneck.
//!
//! One operator serves batch norm, instance norm and their mixture IBN (Pan et al. 2018):
//! the first `instance` channels are normalised over each sample, the others over the batch.
//! With the channels first, what is normalised together lies in one run of memory: a
//! *group*. The bias of a convolution in front is added here, where it is free.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::normalise::{self, Affine, ends_bottleneck, gradient, gradient_sums, mask, moments};
use super::{result, values};

/// Added to the variance, as in PyTorch.
const EPSILON: f64 = 1e-5;

/// Mean and (biased) variance of each channel that is normalised over the batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// Means.
    pub mean: Vec<f32>,
    /// Variances.
    pub variance: Vec<f32>,
    /// Values that each was taken over.
    pub count: usize,
}

/// What happens behind the normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// ReLU.
    Relu,
}

/// Which values are normalised together.
#[derive(Debug, Clone, Copy)]
struct Groups {
    batch: usize,
    places: usize,
    instance: usize,
}

impl Groups {
    fn new(shape: &Shape, instance: usize) -> Result<Self> {
        let (channels, batch, height, width) = shape.dims4()?;
        Ok(Self { batch, places: height * width, instance: instance.min(channels) })
    }

    /// Values of a channel.
    fn run(&self) -> usize {
        self.batch * self.places
    }

    /// Values of a group of a channel.
    fn size(&self, channel: usize) -> usize {
        if channel < self.instance { self.places } else { self.run() }
    }

    /// The number of a channel's first group.
    fn first(&self, channel: usize) -> usize {
        if channel <= self.instance {
            channel * self.batch
        } else {
            self.instance * (self.batch - 1) + channel
        }
    }
}

/// Mean and inverse standard deviation of a group.
#[derive(Debug, Clone, Copy)]
struct Scale {
    mean: f32,
    inverse: f32,
}

/// Rows of the parameters: scale, shift and, if there is a third, the convolution's bias.
fn parameters<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<[&'a [f32]; 3]> {
    let (rows, channels) = layout.shape().dims2()?;
    let all = values(storage, layout)?;
    let bias = if rows > 2 { &all[2 * channels..] } else { &[] };
    Ok([&all[..channels], &all[channels..2 * channels], bias])
}

enum Kind {
    /// Statistics of the batch, which are left in the cell.
    Batch(Arc<Mutex<Statistics>>),
    /// Given ones.
    Fixed(Arc<Statistics>),
}

struct Norm {
    instance: usize,
    /// Below this the normalised value is cut: zero for a ReLU.
    floor: f32,
    kind: Kind,
    /// Of each group; kept for the backward pass.
    scales: Mutex<Vec<Scale>>,
}

fn locked<T>(cell: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Norm {
    /// The scale of every group (without the convolution's bias, which cancels except
    /// against fixed statistics).
    fn measure(&self, x: &[f32], groups: &Groups, bias: &[f32]) -> Vec<Scale> {
        let measured: Vec<(Vec<Scale>, f32, f32)> = x
            .par_chunks(groups.run())
            .enumerate()
            .map(|(channel, run)| {
                if let Kind::Fixed(fixed) = &self.kind
                    && channel >= groups.instance
                {
                    let place = channel - groups.instance;
                    let inverse = (1.0 / (f64::from(fixed.variance[place]) + EPSILON).sqrt()) as f32;
                    let mean = fixed.mean[place] - bias.get(channel).copied().unwrap_or(0.0);
                    return (vec![Scale { mean, inverse }], 0.0, 0.0);
                }
                let mut last = (0.0, 0.0);
                let scales = run
                    .chunks(groups.size(channel))
                    .map(|group| {
                        let (mean, variance) = moments(group);
                        last = (mean as f32, variance as f32);
                        Scale { mean: last.0, inverse: (1.0 / (variance + EPSILON).sqrt()) as f32 }
                    })
                    .collect();
                (scales, last.0, last.1)
            })
            .collect();
        if let Kind::Batch(cell) = &self.kind {
            let of_batch = &measured[groups.instance..];
            let bias = |place: usize| bias.get(groups.instance + place).copied().unwrap_or(0.0);
            *locked(cell) = Statistics {
                mean: of_batch.iter().enumerate().map(|(place, (_, mean, _))| mean + bias(place)).collect(),
                variance: of_batch.iter().map(|(_, _, variance)| *variance).collect(),
                count: groups.run(),
            };
        }
        measured.into_iter().flat_map(|(scales, _, _)| scales).collect()
    }

    fn forward(
        &self,
        x: &[f32],
        groups: &Groups,
        parameters: [&[f32]; 3],
        shortcut: Option<&[f32]>,
    ) -> Vec<f32> {
        let [gamma, beta, bias] = parameters;
        let scales = self.measure(x, groups, bias);
        let run = groups.run();
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(run).zip(x.par_chunks(run)).enumerate().for_each(|(channel, (y, x))| {
            let size = groups.size(channel);
            for (group, (y, x)) in y.chunks_mut(size).zip(x.chunks(size)).enumerate() {
                let scale = scales[groups.first(channel) + group];
                let affine = Affine::new(scale.mean, scale.inverse, gamma[channel], beta[channel]);
                match shortcut {
                    None => normalise::apply(y, x, affine, self.floor),
                    Some(shortcut) => {
                        let from = channel * run + group * size;
                        ends_bottleneck(y, x, affine, self.floor, &shortcut[from..from + size]);
                    }
                }
            }
        });
        *locked(&self.scales) = scales;
        y
    }

    /// Gradients of x and of the parameters, from x and the gradient of what left the
    /// normalisation (after its ReLU, if it has one).
    fn backward(&self, x: &Tensor, table: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        if matches!(self.kind, Kind::Fixed(_)) {
            candle_core::bail!("the evaluation mode has no backward pass");
        }
        let rows = Arc::new(Mutex::new(Vec::new()));
        let op = NormGradient {
            instance: self.instance,
            floor: self.floor,
            scales: locked(&self.scales).clone(),
            rows: rows.clone(),
        };
        let dx = x.apply_op3_no_bwd(dy, table, &op)?;
        let rows = std::mem::take(&mut *locked(&rows));
        Ok((dx, Tensor::from_vec(rows, table.shape(), x.device())?))
    }
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        table: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let groups = Groups::new(lx.shape(), self.instance)?;
        result(self.forward(values(x, lx)?, &groups, parameters(table, lt)?, None), lx.shape().clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        table: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, rows) = self.backward(x, table, &dy.contiguous()?)?;
        Ok((Some(dx), Some(rows)))
    }
}

/// The normalisation with the sum and the ReLU at the end of a bottleneck.
struct NormAddRelu(Norm);

impl CustomOp3 for NormAddRelu {
    fn name(&self) -> &'static str {
        "norm-add-relu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        table: &CpuStorage,
        lt: &Layout,
        shortcut: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let groups = Groups::new(lx.shape(), self.0.instance)?;
        let shortcut = values(shortcut, ls)?;
        result(
            self.0.forward(values(x, lx)?, &groups, parameters(table, lt)?, Some(shortcut)),
            lx.shape().clone(),
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        table: &Tensor,
        _: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let passed = dy.contiguous()?.apply_op2_no_bwd(y, &Mask)?;
        let (dx, rows) = self.0.backward(x, table, &passed)?;
        Ok((Some(dx), Some(rows), Some(passed)))
    }
}

/// dy where y is above zero (PyTorch's convention: nothing passes at zero).
struct Mask;

impl CustomOp2 for Mask {
    fn name(&self) -> &'static str {
        "relu-gradient"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        ld: &Layout,
        y: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        const BLOCK: usize = 1 << 14;
        let (dy, y) = (values(dy, ld)?, values(y, ly)?);
        let mut out = vec![0f32; dy.len()];
        out.par_chunks_mut(BLOCK)
            .zip(dy.par_chunks(BLOCK))
            .zip(y.par_chunks(BLOCK))
            .for_each(|((out, dy), y)| mask(out, dy, y));
        result(out, ld.shape().clone())
    }
}

/// dx of (x, dy, parameters); leaves the gradients of the parameters in `rows`.
struct NormGradient {
    instance: usize,
    floor: f32,
    scales: Vec<Scale>,
    rows: Arc<Mutex<Vec<f32>>>,
}

impl CustomOp3 for NormGradient {
    fn name(&self) -> &'static str {
        "norm-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        dy: &CpuStorage,
        ld: &Layout,
        table: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let groups = Groups::new(lx.shape(), self.instance)?;
        let (x, dy) = (values(x, lx)?, values(dy, ld)?);
        let [gamma, beta, bias] = parameters(table, lt)?;
        let run = groups.run();
        let mut dx = vec![0f32; x.len()];
        let sums: Vec<(f32, f32)> = dx
            .par_chunks_mut(run)
            .zip(x.par_chunks(run))
            .zip(dy.par_chunks(run))
            .enumerate()
            .map(|(channel, ((dx, x), dy))| {
                let size = groups.size(channel);
                let (mut shift, mut scale_sum) = (0f64, 0f64);
                let parts = dx.chunks_mut(size).zip(x.chunks(size)).zip(dy.chunks(size));
                for (group, ((dx, x), dy)) in parts.enumerate() {
                    let scale = self.scales[groups.first(channel) + group];
                    let affine = Affine::new(scale.mean, scale.inverse, gamma[channel], beta[channel]);
                    let (sum, product) = gradient_sums(x, dy, affine, self.floor, scale.mean);
                    let product = product * f64::from(scale.inverse);
                    shift += sum;
                    scale_sum += product;
                    // dx = a (g - mean(g) - x^ mean(g x^)), x^ the normalised input.
                    let a = f64::from(affine.factor);
                    let slope = -a * f64::from(scale.inverse) * product / size as f64;
                    let constant = -a * sum / size as f64 - slope * f64::from(scale.mean);
                    gradient(dx, x, dy, affine, self.floor, slope as f32, constant as f32);
                }
                (scale_sum as f32, shift as f32)
            })
            .collect();
        // Normalisation takes a constant away, so the convolution's bias has no gradient.
        let none = vec![0.0; bias.len()];
        *locked(&self.rows) = sums.iter().map(|s| s.0).chain(sums.iter().map(|s| s.1)).chain(none).collect();
        result(dx, lx.shape().clone())
    }
}

/// Where a normalisation takes its means and variances from.
pub enum Source {
    /// The batch.
    Batch,
    /// Running statistics; there is no backward pass.
    Running(Arc<Statistics>),
}

/// A normalisation of x (C, B, H, W): the first `instance` channels over each sample, the
/// others over the batch or by running statistics. `table` (2 or 3, C) has scale, shift and
/// the bias of the convolution in front. With a `shortcut` of x's shape the result is
/// `relu(then(normalised) + shortcut)`. Returns the statistics of the batch, empty for running ones.
///
/// # Errors
/// Shapes that do not fit.
pub fn norm(
    x: &Tensor,
    table: &Tensor,
    instance: usize,
    source: Source,
    then: Then,
    shortcut: Option<&Tensor>,
) -> Result<(Tensor, Statistics)> {
    let cell = Arc::new(Mutex::new(Statistics::default()));
    let (channels, _, _, _) = x.dims4()?;
    let expected = channels - instance.min(channels);
    let kind = match source {
        Source::Batch => Kind::Batch(cell.clone()),
        Source::Running(fixed) if fixed.mean.len() == expected && fixed.variance.len() == expected => {
            Kind::Fixed(fixed)
        }
        Source::Running(fixed) => {
            candle_core::bail!("statistics of {} channels for {expected}", fixed.mean.len())
        }
    };
    if table.dims2()?.1 != channels || shortcut.is_some_and(|s| s.shape() != x.shape()) {
        candle_core::bail!("a normalisation of {:?} by parameters {:?}", x.shape(), table.shape());
    }
    let floor = if then == Then::Relu { 0.0 } else { f32::NEG_INFINITY };
    let op = Norm { instance, floor, kind, scales: Mutex::default() };
    let (x, table) = (x.contiguous()?, table.contiguous()?);
    let y = match shortcut {
        None => x.apply_op2(&table, op)?,
        Some(shortcut) => x.apply_op3(&table, &shortcut.contiguous()?, NormAddRelu(op))?,
    };
    let statistics = std::mem::take(&mut *locked(&cell));
    Ok((y, statistics))
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check;
    use super::*;
    use candle_core::{Device, Var};

    fn var(shape: &[usize], seed: u32) -> Var {
        Var::from_vec(gradient_check::values(shape.iter().product(), seed), shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn gradients_are_differences_for_every_mixture_and_ending() {
        let (x, table, shortcut) = (var(&[4, 3, 5, 7], 1), var(&[2, 4], 2), var(&[4, 3, 5, 7], 5));
        for then in [Then::Nothing, Then::Relu] {
            for instance in [0, 2, 4] {
                let f = || norm(&x, &table, instance, Source::Batch, then, None).map(|(y, _)| y);
                gradient_check::check(&[x.clone(), table.clone()], f, 1e-3, 2e-2);
                let f = || norm(&x, &table, instance, Source::Batch, then, Some(&shortcut)).map(|(y, _)| y);
                gradient_check::check(&[x.clone(), table.clone(), shortcut.clone()], f, 1e-3, 2e-2);
            }
        }
    }

    #[test]
    fn statistics_are_those_of_the_batch_with_the_convolutions_bias() {
        let x = Tensor::from_vec(vec![1f32, 2.0, 3.0, 6.0], (1, 2, 1, 2), &Device::Cpu).unwrap();
        let table = Tensor::new(&[[1f32], [0.0], [10.0]], &Device::Cpu).unwrap();
        let (y, statistics) = norm(&x, &table, 0, Source::Batch, Then::Nothing, None).unwrap();
        assert_eq!((statistics.mean[0], statistics.variance[0], statistics.count), (13.0, 3.5, 4));
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((y[3] - 3.0 / 3.50001f32.sqrt()).abs() < 1e-5);
        // The same by running statistics, where the bias counts.
        let fixed = Arc::new(Statistics { mean: vec![13.0], variance: vec![3.5], count: 4 });
        let (again, _) = norm(&x, &table, 0, Source::Running(fixed), Then::Nothing, None).unwrap();
        let again = again.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
