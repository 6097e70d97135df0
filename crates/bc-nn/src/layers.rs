//! Layers with weights: what a network is built of, each weight under PyTorch's name.

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::gradients::Gradients;
use crate::ops::conv2d::{Geometry, conv2d, conv2d_input_gradient, conv2d_then, conv2d_weight_gradient};
use crate::ops::norm::{Kept, Source, Statistics, Then, fixed, norm, norm_gradient};

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
    fn drawn(&mut self, name: String, shape: &[usize], fan_in: usize) -> Result<Parameter> {
        let bound = 1.0 / (fan_in as f32).sqrt();
        let values =
            (0..shape.iter().product()).map(|_| self.rng.random_range(-bound..bound)).collect::<Vec<f32>>();
        Ok(self.parameter(name, Var::from_vec(values, shape, self.device)?))
    }

    fn parameter(&mut self, name: String, var: Var) -> Parameter {
        self.parameters.push((name, var.clone()));
        Parameter { var, place: self.parameters.len() - 1 }
    }

    pub fn constant(&mut self, name: String, value: f64, count: usize) -> Result<Parameter> {
        let var = Var::from_tensor(&Tensor::full(value as f32, count, self.device)?)?;
        Ok(self.parameter(name, var))
    }

    fn statistic(&mut self, name: String, value: f64, count: usize) -> Result<Var> {
        let var = Var::from_tensor(&Tensor::full(value as f32, count, self.device)?)?;
        self.buffers.push((name, var.clone()));
        Ok(var)
    }

    /// A linear layer without bias: (outputs, inputs).
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Parameter> {
        self.drawn(format!("{name}.weight"), &[outputs, inputs], inputs)
    }
}

/// A weight and its place in the network's list.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub var: Var,
    pub place: usize,
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

/// A linear layer without bias is a convolution with one place.
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

/// The way back through [`linear`]; returns the gradient of x, added to `onto`.
pub(crate) fn linear_back(
    x: &Tensor,
    dy: &Tensor,
    weight: &Parameter,
    onto: Option<Tensor>,
    gradients: &mut Gradients,
) -> Result<Tensor> {
    let (images, dy) = (as_images(x)?, as_images(dy)?);
    let (dw, add) = gradients.slot(weight.place);
    conv2d_weight_gradient(&as_images(dw)?, &images, &dy, POINTWISE, add)?;
    let onto = onto.map(|onto| as_images(&onto)).transpose()?;
    conv2d_input_gradient(&dy, &as_images(&weight.value())?, images.shape(), POINTWISE, onto)?
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

/// What the way back through a [`ConvNorm`] needs.
pub(crate) struct ConvNormTrace {
    x: Tensor,
    /// Between convolution and normalisation.
    between: Tensor,
    kept: Kept,
}

/// What to do with the gradient of a layer's input.
pub(crate) enum Wanted {
    /// Nobody needs it.
    Nothing,
    /// It is alone.
    Fresh,
    /// Another branch's gradient of the same tensor, to add it to.
    Onto(Tensor),
}

impl ConvNorm {
    /// With the names of the convolution and of the normalisation.
    pub fn new(weights: &mut Weights<'_>, names: [&str; 2], sizes: &ConvSizes, ibn: bool) -> Result<Self> {
        let ConvSizes { inputs, outputs, kernel: [height, width], geometry, bias } = *sizes;
        let fan_in = inputs * height * width;
        let weight =
            weights.drawn(format!("{}.weight", names[0]), &[outputs, inputs, height, width], fan_in)?;
        let bias =
            if bias { Some(weights.drawn(format!("{}.bias", names[0]), &[outputs], fan_in)?) } else { None };
        let norm = Norm::new(weights, names[1], outputs, if ibn { outputs / 2 } else { 0 })?;
        Ok(Self { weight, bias, geometry, norm })
    }

    /// (C, B, H, W) to (C', B, H', W'), see [`norm`]; by running statistics.
    pub fn infer(&self, x: &Tensor, then: Then, shortcut: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.weight.value();
        if self.norm.instance.is_some() {
            let x = conv2d(x, &weight, self.geometry)?;
            return self.norm.infer(&x, self.bias.as_ref(), then, shortcut);
        }
        let affine = fixed(&self.norm.running()?, &self.norm.table(self.bias.as_ref())?);
        conv2d_then(x, &weight, self.geometry, &affine, then.floor(), shortcut)
    }

    /// As [`ConvNorm::infer`], by the batch's statistics; the running ones move.
    pub fn train(
        &self,
        x: &Tensor,
        then: Then,
        shortcut: Option<&Tensor>,
    ) -> Result<(Tensor, ConvNormTrace)> {
        let between = conv2d(x, &self.weight.value(), self.geometry)?;
        let (y, kept) = self.norm.train(&between, self.bias.as_ref(), then, shortcut)?;
        Ok((y, ConvNormTrace { x: x.clone(), between, kept }))
    }

    /// The way back; `y` is what [`ConvNorm::train`] gave if it had a shortcut. Returns the
    /// gradients of the input (if wanted) and of the shortcut.
    pub fn back(
        &self,
        trace: ConvNormTrace,
        dy: Tensor,
        y: Option<&Tensor>,
        wanted: Wanted,
        gradients: &mut Gradients,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ConvNormTrace { x, between, kept } = trace;
        let (dy, shortcut) = self.norm.back(&between, &kept, dy, y, gradients)?;
        drop(between);
        if let Some(bias) = &self.bias {
            gradients.add(bias.place, &vec![0.0; dy.dim(0)?])?;
        }
        let (dw, add) = gradients.slot(self.weight.place);
        conv2d_weight_gradient(dw, &x, &dy, self.geometry, add)?;
        let onto = match wanted {
            Wanted::Nothing => return Ok((None, shortcut)),
            Wanted::Fresh => None,
            Wanted::Onto(other) => Some(other),
        };
        let dx = conv2d_input_gradient(&dy, &self.weight.value(), x.shape(), self.geometry, onto)?;
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
    pub fn infer(
        &self,
        x: &Tensor,
        bias: Option<&Parameter>,
        then: Then,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let running = self.running()?;
        let instance = self.instance_channels()?;
        let (y, _, _) = norm(x, self.table(bias)?, instance, Source::Running(&running), then, shortcut)?;
        Ok(y)
    }

    /// As [`Norm::infer`], by the batch's statistics; the running ones move.
    pub fn train(
        &self,
        x: &Tensor,
        bias: Option<&Parameter>,
        then: Then,
        shortcut: Option<&Tensor>,
    ) -> Result<(Tensor, Kept)> {
        let instance = self.instance_channels()?;
        let (y, kept, found) = norm(x, self.table(bias)?, instance, Source::Batch, then, shortcut)?;
        if found.count < 2 {
            candle_core::bail!(
                "batch norm needs more than one value a channel in training; use larger batches"
            );
        }
        // Running variances are unbiased, as in PyTorch.
        let unbiased = found.count as f64 / (found.count - 1) as f64;
        moved(&self.mean, &found.mean, 1.0)?;
        moved(&self.variance, &found.variance, unbiased)?;
        Ok((y, kept))
    }

    /// The way back, see [`ConvNorm::back`]: gradients of x and of the shortcut.
    pub fn back(
        &self,
        x: &Tensor,
        kept: &Kept,
        dy: Tensor,
        y: Option<&Tensor>,
        gradients: &mut Gradients,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let found = norm_gradient(kept, x, dy, y)?;
        let instance = self.instance_channels()?;
        for (row, values) in found.rows.chunks(found.rows.len() / 2).enumerate() {
            let (own, rest) = values.split_at(instance);
            if let Some(parameters) = &self.instance {
                gradients.add(parameters[row].place, own)?;
            }
            gradients.add(self.batch[row].place, rest)?;
        }
        Ok((found.dx, found.shortcut))
    }
}

fn moved(running: &Var, batch: &[f32], factor: f64) -> Result<()> {
    let old = running.as_detached_tensor().to_dtype(DType::F32)?;
    let new = Tensor::from_slice(batch, batch.len(), running.device())?;
    running.set(&((old * (1.0 - MOMENTUM))? + (new * (MOMENTUM * factor))?)?)
}
