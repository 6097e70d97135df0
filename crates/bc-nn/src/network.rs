//! ResNet-IBN with GeM pooling and a BNNeck (Du et al. 2021, section 3).

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var};

use bc_formats::config::Bottleneck as Variant;

use crate::layers::{ConvNorm, ConvSizes, Norm, Weights, linear, value};
use crate::ops::gem::gem;
use crate::ops::max_pool::max_pool;
use crate::ops::norm::Then;
use crate::settings::{EXPANSION, NetworkSettings, Stage};

/// How normalisations work, and whether a graph is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By the batch; running statistics move; a graph is kept for the backward pass.
    Train,
    /// By running statistics; no graph.
    Eval,
}

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

    fn forward(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let y = self.conv1.forward(x, mode, Then::Relu, None)?;
        let y = self.conv2.forward(&y, mode, Then::Relu, None)?;
        match &self.downsample {
            None => self.conv3.forward(&y, mode, self.then, Some(x)),
            Some(downsample) => {
                let shortcut = downsample.forward(x, mode, Then::Nothing, None)?;
                self.conv3.forward(&y, mode, self.then, Some(&shortcut))
            }
        }
    }
}

/// The network with its weights.
pub struct ByteCover {
    settings: NetworkSettings,
    stem: ConvNorm,
    blocks: Vec<Block>,
    p: Var,
    projection: Option<Var>,
    neck: Norm,
    classifier: Var,
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

    /// x is (B, bins, frames): the pooled CQT magnitudes.
    ///
    /// # Errors
    /// Another number of bins; a batch of one in training.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Outputs> {
        let (f_t, f_c) = self.features(x, mode)?;
        let logits = linear(&f_c, &self.classifier, mode)?;
        Ok(Outputs { f_t: rows(&f_t)?, f_c: rows(&f_c)?, logits: rows(&logits)? })
    }

    /// f_t and f_c of x in evaluation mode, without the classifier's work.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn embed(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (f_t, f_c) = self.features(x, Mode::Eval)?;
        Ok((rows(&f_t)?, rows(&f_c)?))
    }

    /// f_t and f_c, (embedding, B).
    fn features(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        let (_, bins, frames) = x.dims3().context("the network's input is batch x bins x frames")?;
        anyhow::ensure!(
            bins == self.settings.bins && frames > 0,
            "the network was made for {} bins, its input has {bins} x {frames}",
            self.settings.bins
        );
        let x = self.stem.forward(&x.unsqueeze(0)?, mode, Then::Relu, None)?;
        let mut x = max_pool(&x)?;
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        let mut f_t = gem(&x, &value(&self.p, mode))?;
        if let Some(projection) = &self.projection {
            f_t = linear(&f_t, projection, mode)?;
        }
        let (size, batch) = f_t.dims2()?;
        let f_c = self.neck.forward(&f_t.reshape((size, batch, 1, 1))?, None, mode, Then::Nothing, None)?;
        Ok((f_t, f_c.reshape((size, batch))?))
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

fn rows(x: &Tensor) -> candle_core::Result<Tensor> {
    x.t()?.contiguous()
}
