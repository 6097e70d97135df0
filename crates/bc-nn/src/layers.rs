//! Layers with weights: what a network is built of, each weight under PyTorch's name.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::gradients::Gradients;
use crate::ops::conv2d::{conv2d, conv2d_affine, conv2d_input_gradient, conv2d_weight_gradient};
use crate::ops::geometry::Geometry;
use crate::ops::norm::{Activation, Saved, Source, Statistics, fold_statistics, norm, norm_gradient};
use crate::peers::Peers;

/// Share of the batch in the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Makes weights from a seed and keeps the list of them, in PyTorch's order.
pub(crate) struct Weights<'a> {
    device: &'a Device,
    rng: ChaCha8Rng,
    /// With whom the norms share their batches.
    peers: Option<Arc<dyn Peers>>,
    /// What is trained.
    pub parameters: Vec<(String, Var)>,
    /// Running statistics.
    pub buffers: Vec<(String, Var)>,
}

impl<'a> Weights<'a> {
    pub fn new(seed: u64, device: &'a Device, peers: Option<Arc<dyn Peers>>) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { device, rng, peers, parameters: Vec::new(), buffers: Vec::new() }
    }

    /// Uniform in +-1/sqrt(fan in): PyTorch's default for convolutions and linear layers.
    fn uniform(&mut self, name: String, shape: &[usize], fan_in: usize) -> Result<Parameter> {
        let bound = 1.0 / (fan_in as f32).sqrt();
        let values =
            (0..shape.iter().product()).map(|_| self.rng.random_range(-bound..bound)).collect::<Vec<f32>>();
        Ok(self.parameter(name, Var::from_vec(values, shape, self.device)?))
    }

    fn parameter(&mut self, name: String, var: Var) -> Parameter {
        self.parameters.push((name, var.clone()));
        Parameter { var, index: self.parameters.len() - 1 }
    }

    pub fn constant(&mut self, name: String, value: f64, count: usize) -> Result<Parameter> {
        let var = Var::from_tensor(&Tensor::full(value as f32, count, self.device)?)?;
        Ok(self.parameter(name, var))
    }

    fn buffer(&mut self, name: String, value: f64, count: usize) -> Result<Var> {
        let var = Var::from_tensor(&Tensor::full(value as f32, count, self.device)?)?;
        self.buffers.push((name, var.clone()));
        Ok(var)
    }

    /// A linear layer without bias: (outputs, inputs).
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Parameter> {
        self.uniform(format!("{name}.weight"), &[outputs, inputs], inputs)
    }
}

/// A weight and its index in the network's list.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub var: Var,
    pub index: usize,
}

impl Parameter {
    /// Its value, without a graph.
    pub fn value(&self) -> Tensor {
        self.var.as_detached_tensor()
    }

    /// Its value, where it is a single one.
    pub fn scalar(&self) -> Result<f32> {
        self.value().reshape(())?.to_scalar()
    }

    pub fn to_vec(&self) -> Result<Vec<f32>> {
        self.value().to_vec1()
    }
}

/// A linear layer without bias is a convolution with one position.
const POINTWISE: Geometry = Geometry::square(1, 0);

fn as_images(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    x.reshape((rows, columns, 1, 1))
}

/// `weight x` of (inputs, batch).
pub(crate) fn linear(x: &Tensor, weight: &Parameter) -> Result<Tensor> {
    let y = conv2d(&as_images(x)?, &as_images(&weight.value())?, POINTWISE)?;
    let (outputs, batch, _, _) = y.dims4()?;
    y.reshape((outputs, batch))
}

/// The backward pass of [`linear`]; returns the gradient of x, added to `add_to`.
pub(crate) fn linear_backward(
    x: &Tensor,
    dy: &Tensor,
    weight: &Parameter,
    add_to: Option<Tensor>,
    gradients: &mut Gradients,
) -> Result<Tensor> {
    let (images, dy) = (as_images(x)?, as_images(dy)?);
    gradients.write(weight.index, |dw, add| {
        conv2d_weight_gradient(&as_images(dw)?, &images, &dy, POINTWISE, add)
    })?;
    let add_to = add_to.map(|add_to| as_images(&add_to)).transpose()?;
    conv2d_input_gradient(&dy, &as_images(&weight.value())?, images.shape(), POINTWISE, add_to)?
        .reshape(x.shape())
}

/// A convolution followed by a normalisation, which adds the convolution's bias.
pub(crate) struct ConvNorm {
    weight: Parameter,
    bias: Option<Parameter>,
    geometry: Geometry,
    norm: Norm,
}

/// Sizes of a convolution.
pub(crate) struct ConvSizes {
    pub inputs: usize,
    pub outputs: usize,
    /// Height and width.
    pub kernel: [usize; 2],
    pub geometry: Geometry,
    pub bias: bool,
}

impl ConvSizes {
    /// A square kernel that keeps the size at stride 1, without a bias.
    pub fn square(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        let geometry = Geometry::square(stride, kernel / 2);
        Self { inputs, outputs, kernel: [kernel; 2], geometry, bias: false }
    }
}

/// What the backward pass through a [`ConvNorm`] needs.
pub(crate) struct ConvNormSaved {
    x: Tensor,
    /// Between convolution and normalisation.
    between: Tensor,
    saved: Saved,
}

/// What becomes of the gradient of the input of a layer.
pub(crate) enum InputGradient {
    /// Nobody needs it: it is not computed.
    Skip,
    /// It is written into a new tensor.
    New,
    /// It is added to this, the gradient that another branch gave the same tensor.
    AddTo(Tensor),
}

impl ConvNorm {
    /// With the names of the convolution and of the normalisation.
    pub fn new(weights: &mut Weights<'_>, names: [&str; 2], sizes: &ConvSizes, ibn: bool) -> Result<Self> {
        let ConvSizes { inputs, outputs, kernel: [height, width], geometry, bias } = *sizes;
        let fan_in = inputs * height * width;
        let weight =
            weights.uniform(format!("{}.weight", names[0]), &[outputs, inputs, height, width], fan_in)?;
        let bias = if bias {
            Some(weights.uniform(format!("{}.bias", names[0]), &[outputs], fan_in)?)
        } else {
            None
        };
        let norm = Norm::new(weights, names[1], outputs, if ibn { outputs / 2 } else { 0 })?;
        Ok(Self { weight, bias, geometry, norm })
    }

    /// (C, B, H, W) to (C', B, H', W'), see [`norm`]; by running statistics.
    pub fn forward(&self, x: &Tensor, activation: Activation, shortcut: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.weight.value();
        if self.norm.instance.is_some() {
            let x = conv2d(x, &weight, self.geometry)?;
            return self.norm.forward(&x, self.bias.as_ref(), activation, shortcut);
        }
        let affine = fold_statistics(&self.norm.running()?, &self.norm.table(self.bias.as_ref())?);
        conv2d_affine(x, &weight, self.geometry, &affine, activation.floor(), shortcut)
    }

    /// As [`ConvNorm::forward`], by the batch's statistics; the running ones are updated.
    pub fn forward_train(
        &self,
        x: &Tensor,
        activation: Activation,
        shortcut: Option<&Tensor>,
    ) -> Result<(Tensor, ConvNormSaved)> {
        let between = conv2d(x, &self.weight.value(), self.geometry)?;
        let (y, saved) = self.norm.forward_train(&between, self.bias.as_ref(), activation, shortcut)?;
        Ok((y, ConvNormSaved { x: x.clone(), between, saved }))
    }

    /// The backward pass; `y` is what [`ConvNorm::forward_train`] gave if it had a shortcut. Returns the
    /// gradients of the input (if asked for) and of the shortcut.
    pub fn backward(
        &self,
        saved: ConvNormSaved,
        dy: Tensor,
        y: Option<&Tensor>,
        input: InputGradient,
        gradients: &mut Gradients,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ConvNormSaved { x, between, saved } = saved;
        let (dy, shortcut) = self.norm.backward(&between, &saved, dy, y, gradients)?;
        drop(between);
        if let Some(bias) = &self.bias {
            gradients.add(bias.index, &vec![0.0; dy.dim(0)?])?;
        }
        gradients
            .write(self.weight.index, |dw, add| conv2d_weight_gradient(dw, &x, &dy, self.geometry, add))?;
        let add_to = match input {
            InputGradient::Skip => return Ok((None, shortcut)),
            InputGradient::New => None,
            InputGradient::AddTo(other) => Some(other),
        };
        let dx = conv2d_input_gradient(&dy, &self.weight.value(), x.shape(), self.geometry, add_to)?;
        Ok((Some(dx), shortcut))
    }
}

/// A batch norm, or IBN: instance norm on the first channels.
pub(crate) struct Norm {
    /// Scale and shift of the instance norm.
    instance: Option<[Parameter; 2]>,
    batch: [Parameter; 2],
    mean: Var,
    variance: Var,
    peers: Option<Arc<dyn Peers>>,
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
        let mean = weights.buffer(format!("{batch_name}.running_mean"), 0.0, rest)?;
        let variance = weights.buffer(format!("{batch_name}.running_var"), 1.0, rest)?;
        Ok(Self { instance: own, batch, mean, variance, peers: weights.peers.clone() })
    }

    /// Rows of scale, shift and a convolution's bias, instance norm's channels first.
    fn table(&self, bias: Option<&Parameter>) -> Result<Vec<f32>> {
        let mut table = Vec::new();
        for row in 0..2 {
            if let Some(instance) = &self.instance {
                table.extend(instance[row].to_vec()?);
            }
            table.extend(self.batch[row].to_vec()?);
        }
        if let Some(bias) = bias {
            table.extend(bias.to_vec()?);
        }
        Ok(table)
    }

    /// Channels of the instance norm.
    fn instance_channels(&self) -> Result<usize> {
        self.instance.as_ref().map_or(Ok(0), |instance| instance[0].var.dim(0))
    }

    fn running(&self) -> Result<Statistics> {
        Ok(Statistics { mean: self.mean.to_vec1()?, variance: self.variance.to_vec1()?, count: 0 })
    }

    /// x is (C, B, H, W).
    pub fn forward(
        &self,
        x: &Tensor,
        bias: Option<&Parameter>,
        activation: Activation,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let running = self.running()?;
        let instance = self.instance_channels()?;
        let (y, _, _) =
            norm(x, self.table(bias)?, instance, Source::Running(&running), activation, shortcut)?;
        Ok(y)
    }

    /// As [`Norm::forward`], by the batch's statistics; the running ones are updated.
    pub fn forward_train(
        &self,
        x: &Tensor,
        bias: Option<&Parameter>,
        activation: Activation,
        shortcut: Option<&Tensor>,
    ) -> Result<(Tensor, Saved)> {
        let instance = self.instance_channels()?;
        let source = self.peers.as_deref().map_or(Source::Batch, Source::Shared);
        let (y, saved, batch) = norm(x, self.table(bias)?, instance, source, activation, shortcut)?;
        if batch.count < 2 {
            candle_core::bail!(
                "batch norm needs more than one value per channel in training; use larger batches"
            );
        }
        // Running variances are unbiased, as in PyTorch.
        let unbiased = batch.count as f64 / (batch.count - 1) as f64;
        update_running(&self.mean, &batch.mean, 1.0)?;
        update_running(&self.variance, &batch.variance, unbiased)?;
        Ok((y, saved))
    }

    /// The backward pass, see [`ConvNorm::backward`]: gradients of x and of the shortcut.
    pub fn backward(
        &self,
        x: &Tensor,
        saved: &Saved,
        dy: Tensor,
        y: Option<&Tensor>,
        gradients: &mut Gradients,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let norm = norm_gradient(saved, x, dy, y, self.peers.as_deref())?;
        let instance = self.instance_channels()?;
        for (row, values) in norm.rows.chunks(norm.rows.len() / 2).enumerate() {
            let (own, rest) = values.split_at(instance);
            if let Some(parameters) = &self.instance {
                gradients.add(parameters[row].index, own)?;
            }
            gradients.add(self.batch[row].index, rest)?;
        }
        Ok((norm.dx, norm.shortcut))
    }
}

fn update_running(running: &Var, batch: &[f32], factor: f64) -> Result<()> {
    let old = running.as_detached_tensor().to_dtype(DType::F32)?;
    let new = Tensor::from_slice(batch, batch.len(), running.device())?;
    running.set(&((old * (1.0 - MOMENTUM))? + (new * (MOMENTUM * factor))?)?)
}
