//! ByteCover's body: ResNet-IBN with GeM pooling (Du et al. 2021, sections 3.1 and 3.2).

use anyhow::Result;
use candle_core::Tensor;

use bc_formats::config::Bottleneck as Variant;

use crate::gradients::Gradients;
use crate::layers::{ConvNorm, ConvNormSaved, ConvSizes, InputGradient, Parameter, Weights};
use crate::ops::gem::{gem, gem_gradient};
use crate::ops::max_pool::{Argmax, max_pool, max_pool_gradient};
use crate::ops::norm::Activation;
use crate::settings::{ByteCoverSettings, EXPANSION, Stage};

struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    conv3: ConvNorm,
    downsample: Option<ConvNorm>,
    /// What follows the third norm, before the sum.
    activation: Activation,
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
        let sizes = |inputs, outputs, kernel, stride, bias| ConvSizes {
            bias,
            ..ConvSizes::square(inputs, outputs, kernel, stride)
        };
        Ok(Self {
            conv1: layer("conv1", "ibn", &sizes(inputs, planes, 1, 1, bias), stage.ibn)?,
            conv2: layer("conv2", "batch_norm2", &sizes(planes, planes, 3, stride, bias), false)?,
            conv3: layer("conv3", "batch_norm3", &sizes(planes, outputs, 1, 1, bias), false)?,
            downsample: if number == 0 {
                Some(layer("downsample.0", "downsample.1", &sizes(inputs, outputs, 1, stride, false), false)?)
            } else {
                None
            },
            activation: if bias { Activation::Relu } else { Activation::Identity },
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.conv1.forward(x, Activation::Relu, None)?;
        let y = self.conv2.forward(&y, Activation::Relu, None)?;
        match &self.downsample {
            None => self.conv3.forward(&y, self.activation, Some(x)),
            Some(downsample) => {
                let shortcut = downsample.forward(x, Activation::Identity, None)?;
                self.conv3.forward(&y, self.activation, Some(&shortcut))
            }
        }
    }

    fn forward_train(&self, x: &Tensor) -> candle_core::Result<(Tensor, BlockSaved)> {
        let (y, conv1) = self.conv1.forward_train(x, Activation::Relu, None)?;
        let (y, conv2) = self.conv2.forward_train(&y, Activation::Relu, None)?;
        let (shortcut, downsample) = match &self.downsample {
            None => (x.clone(), None),
            Some(layer) => {
                let (shortcut, saved) = layer.forward_train(x, Activation::Identity, None)?;
                (shortcut, Some(saved))
            }
        };
        let (y, conv3) = self.conv3.forward_train(&y, self.activation, Some(&shortcut))?;
        Ok((y.clone(), BlockSaved { conv1, conv2, conv3, downsample, y }))
    }

    fn backward(
        &self,
        saved: BlockSaved,
        dy: Tensor,
        gradients: &mut Gradients,
    ) -> candle_core::Result<Option<Tensor>> {
        let BlockSaved { conv1, conv2, conv3, downsample, y } = saved;
        let (dx, shortcut) = self.conv3.backward(conv3, dy, Some(&y), InputGradient::New, gradients)?;
        drop(y);
        let dx = match dx {
            Some(dx) => self.conv2.backward(conv2, dx, None, InputGradient::New, gradients)?.0,
            None => None,
        };
        let (Some(dx), Some(mut shortcut)) = (dx, shortcut) else { return Ok(None) };
        if let (Some(layer), Some(saved)) = (&self.downsample, downsample)
            && let (Some(dx), _) =
                layer.backward(saved, shortcut.clone(), None, InputGradient::New, gradients)?
        {
            shortcut = dx;
        }
        Ok(self.conv1.backward(conv1, dx, None, InputGradient::AddTo(shortcut), gradients)?.0)
    }
}

/// What the backward pass through a [`Block`] needs.
struct BlockSaved {
    conv1: ConvNormSaved,
    conv2: ConvNormSaved,
    conv3: ConvNormSaved,
    downsample: Option<ConvNormSaved>,
    y: Tensor,
}

/// What the backward pass through a [`Body`] needs.
pub(crate) struct Saved {
    stem: ConvNormSaved,
    pool: Argmax,
    blocks: Vec<BlockSaved>,
    /// What was pooled, the exponent, and the result (channels, B).
    last: Tensor,
    p: f32,
    pooled: Tensor,
}

/// Everything in front of the embedding.
pub(crate) struct Body {
    stem: ConvNorm,
    blocks: Vec<Block>,
    p: Parameter,
}

impl Body {
    pub fn new(settings: &ByteCoverSettings, weights: &mut Weights<'_>) -> Result<Self> {
        let stem = ConvSizes::square(1, settings.width, 7, 2);
        let stem = ConvNorm::new(weights, ["conv1", "batch_norm1"], &stem, false)?;
        let mut blocks = Vec::new();
        let mut inputs = settings.width;
        for stage in settings.stages() {
            for number in 0..stage.blocks {
                blocks.push(Block::new(weights, settings.variant, stage, number, inputs)?);
                inputs = stage.planes * EXPANSION;
            }
        }
        let p = weights.constant("gem_pool.p".to_owned(), 3.0, 1)?;
        Ok(Self { stem, blocks, p })
    }

    /// (1, B, bins, frames) to (channels, B), by running statistics.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.stem.forward(x, Activation::Relu, None)?;
        let (mut x, _) = max_pool(&x)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        gem(&x, self.p.scalar()?)
    }

    /// As [`Body::forward`], by the batch's statistics.
    pub fn forward_train(&self, x: &Tensor) -> candle_core::Result<(Tensor, Saved)> {
        let (x, stem) = self.stem.forward_train(x, Activation::Relu, None)?;
        let (mut x, pool) = max_pool(&x)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, saved) = block.forward_train(&x)?;
            blocks.push(saved);
            x = y;
        }
        let p = self.p.scalar()?;
        let pooled = gem(&x, p)?;
        Ok((pooled.clone(), Saved { stem, pool, blocks, last: x, p, pooled }))
    }

    /// From the gradient of what [`Body::forward_train`] gave.
    pub fn backward(&self, saved: Saved, dy: &Tensor, gradients: &mut Gradients) -> candle_core::Result<()> {
        let Saved { stem, pool, mut blocks, last, p, pooled } = saved;
        let (mut dy, dp) = gem_gradient(&last, p, &pooled, dy)?;
        gradients.add(self.p.index, &[dp])?;
        drop(last);
        for block in self.blocks.iter().rev() {
            let Some(saved) = blocks.pop() else { break };
            match block.backward(saved, dy, gradients)? {
                Some(dx) => dy = dx,
                None => return Ok(()),
            }
        }
        let dy = max_pool_gradient(&dy, &pool)?;
        self.stem.backward(stem, dy, None, InputGradient::Skip, gradients)?;
        Ok(())
    }
}
