//! ResNet-IBN with GeM pooling and a BNNeck (Du et al. 2021, section 3).

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

use bc_formats::config::Bottleneck as Variant;

use crate::gradients::Gradients;
use crate::layers::{
    ConvNorm, ConvNormTrace, ConvSizes, Norm, Parameter, Wanted, Weights, linear, linear_back,
};
use crate::ops::gem::{gem, gem_gradient};
use crate::ops::max_pool::{Chosen, max_pool, max_pool_gradient};
use crate::ops::norm::{Kept, Then};
use crate::settings::{EXPANSION, NetworkSettings, Stage};

/// What the network says of a batch.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// (B, embedding), before the BNNeck: what the triplet loss sees.
    pub f_t: Tensor,
    /// (B, embedding), behind it: what is compared in retrieval.
    pub f_c: Tensor,
    /// (B, classes).
    pub logits: Tensor,
}

struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    conv3: ConvNorm,
    downsample: Option<ConvNorm>,
    /// What follows the third norm, before the sum.
    then: Then,
}

impl Block {
    fn new(
        weights: &mut Weights<'_>,
        variant: Variant,
        stage: Stage,
        number: usize,
        inputs: usize,
    ) -> Result<Self> {
        let prefix = format!("layer{}.{number}", stage.number);
        let stride = if number == 0 { stage.stride } else { 1 };
        let (planes, outputs) = (stage.planes, stage.planes * EXPANSION);
        let bias = variant == Variant::Orfium;
        let mut layer = |conv: &str, norm: &str, sizes: &ConvSizes, ibn: bool| {
            ConvNorm::new(weights, [&format!("{prefix}.{conv}"), &format!("{prefix}.{norm}")], sizes, ibn)
        };
        let sizes =
            |inputs, outputs, kernel, stride, bias| ConvSizes { inputs, outputs, kernel, stride, bias };
        Ok(Self {
            conv1: layer("conv1", "ibn", &sizes(inputs, planes, 1, 1, bias), stage.ibn)?,
            conv2: layer("conv2", "batch_norm2", &sizes(planes, planes, 3, stride, bias), false)?,
            conv3: layer("conv3", "batch_norm3", &sizes(planes, outputs, 1, 1, bias), false)?,
            downsample: if number == 0 {
                Some(layer("downsample.0", "downsample.1", &sizes(inputs, outputs, 1, stride, false), false)?)
            } else {
                None
            },
            then: if bias { Then::Relu } else { Then::Nothing },
        })
    }

    fn infer(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.conv1.infer(x, Then::Relu, None)?;
        let y = self.conv2.infer(&y, Then::Relu, None)?;
        match &self.downsample {
            None => self.conv3.infer(&y, self.then, Some(x)),
            Some(downsample) => {
                let shortcut = downsample.infer(x, Then::Nothing, None)?;
                self.conv3.infer(&y, self.then, Some(&shortcut))
            }
        }
    }

    fn train(&self, x: &Tensor) -> candle_core::Result<(Tensor, BlockTrace)> {
        let (y, conv1) = self.conv1.train(x, Then::Relu, None)?;
        let (y, conv2) = self.conv2.train(&y, Then::Relu, None)?;
        let (shortcut, downsample) = match &self.downsample {
            None => (x.clone(), None),
            Some(layer) => {
                let (shortcut, trace) = layer.train(x, Then::Nothing, None)?;
                (shortcut, Some(trace))
            }
        };
        let (y, conv3) = self.conv3.train(&y, self.then, Some(&shortcut))?;
        Ok((y.clone(), BlockTrace { conv1, conv2, conv3, downsample, y }))
    }

    fn back(
        &self,
        trace: BlockTrace,
        dy: Tensor,
        gradients: &mut Gradients,
    ) -> candle_core::Result<Option<Tensor>> {
        let BlockTrace { conv1, conv2, conv3, downsample, y } = trace;
        let (dx, shortcut) = self.conv3.back(conv3, dy, Some(&y), Wanted::Fresh, gradients)?;
        drop(y);
        let dx = match dx {
            Some(dx) => self.conv2.back(conv2, dx, None, Wanted::Fresh, gradients)?.0,
            None => None,
        };
        let (Some(dx), Some(mut shortcut)) = (dx, shortcut) else { return Ok(None) };
        if let (Some(layer), Some(trace)) = (&self.downsample, downsample)
            && let (Some(dx), _) = layer.back(trace, shortcut.clone(), None, Wanted::Fresh, gradients)?
        {
            shortcut = dx;
        }
        Ok(self.conv1.back(conv1, dx, None, Wanted::Onto(shortcut), gradients)?.0)
    }
}

/// What the way back through a [`Block`] needs.
struct BlockTrace {
    conv1: ConvNormTrace,
    conv2: ConvNormTrace,
    conv3: ConvNormTrace,
    downsample: Option<ConvNormTrace>,
    y: Tensor,
}

/// A training pass: what the network said, and what the way back needs.
///
/// `f_t` and `logits` of the outputs are leaves of candle's graph: losses are built from
/// them, `backward` of a loss gives their gradients, and [`Pass::back`] goes on from there.
/// Several passes may feed one loss.
pub struct Pass {
    outputs: Outputs,
    f_t: Var,
    logits: Var,
    trace: Trace,
}

struct Trace {
    stem: ConvNormTrace,
    pool: Chosen,
    blocks: Vec<BlockTrace>,
    /// What was pooled, the exponent, and the result (channels, B).
    last: Tensor,
    p: f32,
    pooled: Tensor,
    /// f_t as an image, for the neck.
    neck: (Tensor, Kept),
    f_c: Tensor,
}

impl Pass {
    /// What the network said.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Adds the gradients of the network's parameters, from those that a loss gave f_t and
    /// the logits; none are added if the loss depends on neither. Frees what was kept as it goes.
    ///
    /// # Errors
    /// Gradients of another network.
    pub fn back(self, network: &ByteCover, loss: &GradStore, gradients: &mut Gradients) -> Result<()> {
        let Self { f_t, logits, trace, .. } = self;
        let of_features = loss.get(&f_t).map(columns).transpose()?;
        let of_logits = loss.get(&logits).map(columns).transpose()?;
        Ok(network.back(trace, of_features, of_logits, gradients)?)
    }
}

/// The network with its weights.
pub struct ByteCover {
    settings: NetworkSettings,
    stem: ConvNorm,
    blocks: Vec<Block>,
    p: Parameter,
    projection: Option<Parameter>,
    neck: Norm,
    classifier: Parameter,
    parameters: Vec<(String, Var)>,
    buffers: Vec<(String, Var)>,
}

impl ByteCover {
    /// Fresh weights, drawn from the seed as PyTorch draws them by default.
    ///
    /// # Errors
    /// A device without memory for them.
    pub fn new(settings: &NetworkSettings, seed: u64, device: &Device) -> Result<Self> {
        let mut weights = Weights::new(seed, device);
        let stem = ConvSizes { inputs: 1, outputs: settings.width, kernel: 7, stride: 2, bias: false };
        let stem = ConvNorm::new(&mut weights, ["conv1", "batch_norm1"], &stem, false)?;
        let mut blocks = Vec::new();
        let mut inputs = settings.width;
        for stage in settings.stages() {
            for number in 0..stage.blocks {
                blocks.push(Block::new(&mut weights, settings.variant, stage, number, inputs)?);
                inputs = stage.planes * EXPANSION;
            }
        }
        let p = weights.constant("gem_pool.p".to_owned(), 3.0, 1)?;
        let projection = match settings.projection {
            0 => None,
            size => Some(weights.linear("projection", inputs, size)?),
        };
        let neck = Norm::new(&mut weights, "bn_fc", settings.embedding(), 0)?;
        let classifier = weights.linear("fc", settings.embedding(), settings.classes)?;
        let Weights { parameters, buffers, .. } = weights;
        let settings = settings.clone();
        Ok(Self { settings, stem, blocks, p, projection, neck, classifier, parameters, buffers })
    }

    /// Its sizes.
    pub fn settings(&self) -> &NetworkSettings {
        &self.settings
    }

    /// The evaluation mode: by running statistics, without a way back. x is (B, bins,
    /// frames), the pooled CQT magnitudes.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn forward(&self, x: &Tensor) -> Result<Outputs> {
        let (f_t, f_c) = self.features(x)?;
        let logits = linear(&f_c, &self.classifier)?;
        Ok(Outputs { f_t: rows(&f_t)?, f_c: rows(&f_c)?, logits: rows(&logits)? })
    }

    /// f_t and f_c of x in evaluation mode, without the classifier's work.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn embed(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (f_t, f_c) = self.features(x)?;
        Ok((rows(&f_t)?, rows(&f_c)?))
    }

    fn images(&self, x: &Tensor) -> Result<Tensor> {
        let (_, bins, frames) = x.dims3().context("the network's input is batch x bins x frames")?;
        anyhow::ensure!(
            bins == self.settings.bins && frames > 0,
            "the network was made for {} bins, its input has {bins} x {frames}",
            self.settings.bins
        );
        Ok(x.contiguous()?.unsqueeze(0)?)
    }

    fn exponent(&self) -> candle_core::Result<f32> {
        self.p.value().reshape(())?.to_scalar()
    }

    /// f_t and f_c, (embedding, B).
    fn features(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let x = self.stem.infer(&self.images(x)?, Then::Relu, None)?;
        let (mut x, _) = max_pool(&x)?;
        for block in &self.blocks {
            x = block.infer(&x)?;
        }
        let mut f_t = gem(&x, self.exponent()?)?;
        if let Some(projection) = &self.projection {
            f_t = linear(&f_t, projection)?;
        }
        let (size, batch) = f_t.dims2()?;
        let f_c = self.neck.infer(&f_t.reshape((size, batch, 1, 1))?, None, Then::Nothing, None)?;
        Ok((f_t, f_c.reshape((size, batch))?))
    }

    /// The training mode: normalisations go by the batch, running statistics move.
    ///
    /// # Errors
    /// Another number of bins; a batch of one.
    pub fn train(&self, x: &Tensor) -> Result<Pass> {
        let (x, stem) = self.stem.train(&self.images(x)?, Then::Relu, None)?;
        let (mut x, pool) = max_pool(&x)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, trace) = block.train(&x)?;
            blocks.push(trace);
            x = y;
        }
        let p = self.exponent()?;
        let pooled = gem(&x, p)?;
        let f_t = match &self.projection {
            Some(projection) => linear(&pooled, projection)?,
            None => pooled.clone(),
        };
        let (size, batch) = f_t.dims2()?;
        let image = f_t.reshape((size, batch, 1, 1))?;
        let (f_c, kept) = self.neck.train(&image, None, Then::Nothing, None)?;
        let f_c = f_c.reshape((size, batch))?;
        let logits = Var::from_tensor(&rows(&linear(&f_c, &self.classifier)?)?)?;
        let f_t = Var::from_tensor(&rows(&f_t)?)?;
        let outputs =
            Outputs { f_t: f_t.as_tensor().clone(), f_c: rows(&f_c)?, logits: logits.as_tensor().clone() };
        let trace = Trace { stem, pool, blocks, last: x, p, pooled, neck: (image, kept), f_c };
        Ok(Pass { outputs, f_t, logits, trace })
    }

    /// From the gradients of f_t and of the logits (both with a sample a column).
    fn back(
        &self,
        trace: Trace,
        of_features: Option<Tensor>,
        of_logits: Option<Tensor>,
        gradients: &mut Gradients,
    ) -> candle_core::Result<()> {
        let Trace { stem, pool, mut blocks, last, p, pooled, neck: (image, kept), f_c } = trace;
        let mut dy = of_features;
        if let Some(of_logits) = of_logits {
            let of_neck = linear_back(&f_c, &of_logits, &self.classifier, None, gradients)?;
            let of_neck = of_neck.reshape(image.shape())?;
            let (through, _) = self.neck.back(&image, &kept, of_neck, None, gradients)?;
            let through = through.reshape(f_c.shape())?;
            dy = Some(match dy {
                Some(dy) => (dy + through)?,
                None => through,
            });
        }
        let Some(mut dy) = dy else { return Ok(()) };
        if let Some(projection) = &self.projection {
            dy = linear_back(&pooled, &dy, projection, None, gradients)?;
        }
        let (mut dy, dp) = gem_gradient(&last, p, &pooled, &dy)?;
        gradients.add(self.p.place, &[dp])?;
        drop(last);
        for block in self.blocks.iter().rev() {
            let Some(trace) = blocks.pop() else { break };
            match block.back(trace, dy, gradients)? {
                Some(dx) => dy = dx,
                None => return Ok(()),
            }
        }
        let dy = max_pool_gradient(&dy, &pool)?;
        self.stem.back(stem, dy, None, Wanted::Nothing, gradients)?;
        Ok(())
    }

    /// What is trained, by PyTorch's names and in PyTorch's order.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        self.parameters.clone()
    }

    /// Running statistics, by PyTorch's names.
    pub fn buffers(&self) -> Vec<(String, Var)> {
        self.buffers.clone()
    }

    /// See [`NetworkSettings::flops`].
    pub fn flops(&self, bins: usize, frames: usize) -> f64 {
        self.settings.flops(bins, frames)
    }
}

/// A sample a row.
fn rows(x: &Tensor) -> candle_core::Result<Tensor> {
    x.t()?.contiguous()
}

/// The transpose of rows (B, embedding).
fn columns(x: &Tensor) -> candle_core::Result<Tensor> {
    x.t()?.contiguous()
}
