//! Layers with weights: what a network is built of, each weight under PyTorch's name.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::network::Mode;
use crate::ops::conv2d::conv2d;
use crate::ops::norm::{Source, Statistics, Then, norm};

/// Share of the batch in the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Makes weights from a seed and keeps the list of them, in PyTorch's order.
pub(crate) struct Weights<'a> {
    device: &'a Device,
    rng: ChaCha8Rng,
    /// What is trained.
    pub parameters: Vec<(String, Var)>,
    /// Running statistics.
    pub buffers: Vec<(String, Var)>,
}

impl<'a> Weights<'a> {
    pub fn new(seed: u64, device: &'a Device) -> Self {
        Self { device, rng: ChaCha8Rng::seed_from_u64(seed), parameters: Vec::new(), buffers: Vec::new() }
    }

    /// Uniform in +-1/sqrt(fan in): PyTorch's default for convolutions and linear layers.
    fn drawn(&mut self, name: String, shape: &[usize], fan_in: usize) -> Result<Var> {
        let bound = 1.0 / (fan_in as f32).sqrt();
        let values =
            (0..shape.iter().product()).map(|_| self.rng.random_range(-bound..bound)).collect::<Vec<f32>>();
        let var = Var::from_vec(values, shape, self.device)?;
        self.parameters.push((name, var.clone()));
        Ok(var)
    }

    pub fn constant(&mut self, name: String, value: f64, count: usize) -> Result<Var> {
        let var = Var::from_tensor(&Tensor::full(value as f32, count, self.device)?)?;
        self.parameters.push((name, var.clone()));
        Ok(var)
    }

    fn statistic(&mut self, name: String, value: f64, count: usize) -> Result<Var> {
        let var = Var::from_tensor(&Tensor::full(value as f32, count, self.device)?)?;
        self.buffers.push((name, var.clone()));
        Ok(var)
    }

    /// A linear layer without bias: (outputs, inputs).
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Var> {
        self.drawn(format!("{name}.weight"), &[outputs, inputs], inputs)
    }
}

/// The value of a weight; in evaluation without the graph behind it.
pub(crate) fn value(var: &Var, mode: Mode) -> Tensor {
    match mode {
        Mode::Train => var.as_tensor().clone(),
        Mode::Eval => var.as_detached_tensor(),
    }
}

/// `weight x` of (inputs, batch).
pub(crate) fn linear(x: &Tensor, weight: &Var, mode: Mode) -> Result<Tensor> {
    let (inputs, batch) = x.dims2()?;
    let weight = value(weight, mode);
    let outputs = weight.dim(0)?;
    conv2d(&x.reshape((inputs, batch, 1, 1))?, &weight.reshape((outputs, inputs, 1, 1))?, 1, 0)?
        .reshape((outputs, batch))
}

/// A convolution followed by a normalisation, which adds the convolution's bias.
pub(crate) struct ConvNorm {
    weight: Var,
    bias: Option<Var>,
    stride: usize,
    padding: usize,
    norm: Norm,
}

/// Sizes of a convolution.
pub(crate) struct ConvSizes {
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub bias: bool,
}

impl ConvNorm {
    /// With the names of the convolution and of the normalisation.
    pub fn new(weights: &mut Weights<'_>, names: [&str; 2], sizes: &ConvSizes, ibn: bool) -> Result<Self> {
        let ConvSizes { inputs, outputs, kernel, stride, bias } = *sizes;
        let fan_in = inputs * kernel * kernel;
        let weight =
            weights.drawn(format!("{}.weight", names[0]), &[outputs, inputs, kernel, kernel], fan_in)?;
        let bias =
            if bias { Some(weights.drawn(format!("{}.bias", names[0]), &[outputs], fan_in)?) } else { None };
        let norm = Norm::new(weights, names[1], outputs, if ibn { outputs / 2 } else { 0 })?;
        Ok(Self { weight, bias, stride, padding: kernel / 2, norm })
    }

    /// (C, B, H, W) to (C', B, H', W'), see [`norm`].
    pub fn forward(&self, x: &Tensor, mode: Mode, then: Then, shortcut: Option<&Tensor>) -> Result<Tensor> {
        let x = conv2d(x, &value(&self.weight, mode), self.stride, self.padding)?;
        self.norm.forward(&x, self.bias.as_ref(), mode, then, shortcut)
    }
}

/// A batch norm, or IBN: instance norm on the first channels.
pub(crate) struct Norm {
    /// Scale and shift of the instance norm.
    instance: Option<[Var; 2]>,
    batch: [Var; 2],
    mean: Var,
    variance: Var,
}

impl Norm {
    pub fn new(weights: &mut Weights<'_>, name: &str, channels: usize, instance: usize) -> Result<Self> {
        let rest = channels - instance;
        let (own, batch_name) = if instance > 0 {
            let own = [
                weights.constant(format!("{name}.IN.weight"), 1.0, instance)?,
                weights.constant(format!("{name}.IN.bias"), 0.0, instance)?,
            ];
            (Some(own), format!("{name}.BN"))
        } else {
            (None, name.to_owned())
        };
        let batch = [
            weights.constant(format!("{batch_name}.weight"), 1.0, rest)?,
            weights.constant(format!("{batch_name}.bias"), 0.0, rest)?,
        ];
        let mean = weights.statistic(format!("{batch_name}.running_mean"), 0.0, rest)?;
        let variance = weights.statistic(format!("{batch_name}.running_var"), 1.0, rest)?;
        Ok(Self { instance: own, batch, mean, variance })
    }

    /// x is (C, B, H, W); in training the running statistics move.
    pub fn forward(
        &self,
        x: &Tensor,
        bias: Option<&Var>,
        mode: Mode,
        then: Then,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let row = |which: usize| match &self.instance {
            Some(instance) => {
                Tensor::cat(&[value(&instance[which], mode), value(&self.batch[which], mode)], 0)
            }
            None => Ok(value(&self.batch[which], mode)),
        };
        let mut rows = vec![row(0)?, row(1)?];
        rows.extend(bias.map(|bias| value(bias, mode)));
        let table = Tensor::stack(&rows, 0)?;
        let channels = self.instance.as_ref().map_or(Ok(0), |instance| instance[0].dim(0))?;
        let source = match mode {
            Mode::Train => Source::Batch,
            Mode::Eval => Source::Running(Arc::new(Statistics {
                mean: self.mean.to_vec1()?,
                variance: self.variance.to_vec1()?,
                count: 0,
            })),
        };
        let (y, statistics) = norm(x, &table, channels, source, then, shortcut)?;
        if mode == Mode::Train {
            if statistics.count < 2 {
                candle_core::bail!(
                    "batch norm needs more than one value a channel in training; use larger batches"
                );
            }
            // Running variances are unbiased, as in PyTorch.
            let unbiased = statistics.count as f64 / (statistics.count - 1) as f64;
            moved(&self.mean, &statistics.mean, 1.0)?;
            moved(&self.variance, &statistics.variance, unbiased)?;
        }
        Ok(y)
    }
}

fn moved(running: &Var, batch: &[f32], factor: f64) -> Result<()> {
    let old = running.as_detached_tensor().to_dtype(DType::F32)?;
    let new = Tensor::from_slice(batch, batch.len(), running.device())?;
    running.set(&((old * (1.0 - MOMENTUM))? + (new * (MOMENTUM * factor))?)?)
}
