//! ByteCover's body: ResNet-IBN with GeM pooling (Du et al. 2021, sections 3.1 and 3.2).

use anyhow::Result;
use candle_core::Tensor;

use bc_formats::config::Bottleneck as Variant;

use crate::gradients::Gradients;
use crate::layers::{ConvNorm, ConvNormTrace, ConvSizes, Parameter, Wanted, Weights};
use crate::ops::gem::{gem, gem_gradient};
use crate::ops::max_pool::{Chosen, max_pool, max_pool_gradient};
use crate::ops::norm::Then;
use crate::settings::{ByteCoverSettings, EXPANSION, Stage};

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

/// What the way back through a [`Body`] needs.
pub(crate) struct Trace {
    stem: ConvNormTrace,
    pool: Chosen,
    blocks: Vec<BlockTrace>,
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
    pub fn infer(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.stem.infer(x, Then::Relu, None)?;
        let (mut x, _) = max_pool(&x)?;
        for block in &self.blocks {
            x = block.infer(&x)?;
        }
        gem(&x, self.p.scalar()?)
    }

    /// As [`Body::infer`], by the batch's statistics.
    pub fn train(&self, x: &Tensor) -> candle_core::Result<(Tensor, Trace)> {
        let (x, stem) = self.stem.train(x, Then::Relu, None)?;
        let (mut x, pool) = max_pool(&x)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, trace) = block.train(&x)?;
            blocks.push(trace);
            x = y;
        }
        let p = self.p.scalar()?;
        let pooled = gem(&x, p)?;
        Ok((pooled.clone(), Trace { stem, pool, blocks, last: x, p, pooled }))
    }

    /// From the gradient of what [`Body::train`] gave.
    pub fn back(&self, trace: Trace, dy: &Tensor, gradients: &mut Gradients) -> candle_core::Result<()> {
        let Trace { stem, pool, mut blocks, last, p, pooled } = trace;
        let (mut dy, dp) = gem_gradient(&last, p, &pooled, dy)?;
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
}
