//! The key-invariant body: convolutions on a ring of twelve pitch classes.
//!
//! The stem reads three octaves at once at every bin; the octaves it is found in are merged by
//! their maximum and mean, so that a pitch class is left. From there on every convolution
//! goes round the ring of twelve: a transposed song turns the ring, and the maximum and mean over
//! the ring at the end do not see a turn. Blocks are residual with IBN (Pan et al. 2018),
//! GeM (Radenović et al. 2018) pools over time.

use anyhow::Result;
use candle_core::Tensor;

use crate::gradients::Gradients;
use crate::layers::{ConvNorm, ConvNormTrace, ConvSizes, Parameter, Wanted, Weights};
use crate::ops::conv2d::Geometry;
use crate::ops::gem::{gem, gem_gradient};
use crate::ops::max_mean::{Chosen, max_mean, max_mean_gradient};
use crate::ops::norm::Then;
use crate::ops::time_mean::{time_mean, time_mean_gradient};
use crate::settings::{PITCH_CLASSES, RingSettings};

struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    /// Over time.
    stride: usize,
    downsample: Option<ConvNorm>,
}

/// What the way back through a [`Block`] needs.
struct BlockTrace {
    x: Tensor,
    conv1: ConvNormTrace,
    conv2: ConvNormTrace,
    downsample: Option<ConvNormTrace>,
    y: Tensor,
}

/// A 3x3 convolution round the ring, with a stride over time.
fn around(inputs: usize, outputs: usize, stride: usize) -> ConvSizes {
    let geometry = Geometry { stride: [1, stride], padding: [1, 1], ring: true };
    ConvSizes { inputs, outputs, kernel: [3, 3], geometry, bias: false }
}

impl Block {
    fn new(
        weights: &mut Weights<'_>,
        prefix: &str,
        [inputs, outputs]: [usize; 2],
        stride: usize,
    ) -> Result<Self> {
        let mut layer = |conv: &str, norm: &str, sizes: &ConvSizes, ibn: bool| {
            ConvNorm::new(weights, [&format!("{prefix}.{conv}"), &format!("{prefix}.{norm}")], sizes, ibn)
        };
        let downsample = ConvSizes::square(inputs, outputs, 1, 1);
        Ok(Self {
            conv1: layer("conv1", "norm1", &around(inputs, outputs, stride), true)?,
            conv2: layer("conv2", "norm2", &around(outputs, outputs, 1), false)?,
            stride,
            downsample: if inputs == outputs && stride == 1 {
                None
            } else {
                Some(layer("downsample.0", "downsample.1", &downsample, false)?)
            },
        })
    }

    fn infer(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.conv1.infer(x, Then::Relu, None)?;
        let shortcut = match &self.downsample {
            None => x.clone(),
            Some(layer) => layer.infer(&time_mean(x, self.stride)?, Then::Nothing, None)?,
        };
        self.conv2.infer(&y, Then::Nothing, Some(&shortcut))
    }

    fn train(&self, x: &Tensor) -> candle_core::Result<(Tensor, BlockTrace)> {
        let (y, conv1) = self.conv1.train(x, Then::Relu, None)?;
        let (shortcut, downsample) = match &self.downsample {
            None => (x.clone(), None),
            Some(layer) => {
                let (shortcut, trace) = layer.train(&time_mean(x, self.stride)?, Then::Nothing, None)?;
                (shortcut, Some(trace))
            }
        };
        let (y, conv2) = self.conv2.train(&y, Then::Nothing, Some(&shortcut))?;
        Ok((y.clone(), BlockTrace { x: x.clone(), conv1, conv2, downsample, y }))
    }

    fn back(
        &self,
        trace: BlockTrace,
        dy: Tensor,
        gradients: &mut Gradients,
    ) -> candle_core::Result<Option<Tensor>> {
        let BlockTrace { x, conv1, conv2, downsample, y } = trace;
        let (dx, shortcut) = self.conv2.back(conv2, dy, Some(&y), Wanted::Fresh, gradients)?;
        drop(y);
        let (Some(dx), Some(mut shortcut)) = (dx, shortcut) else { return Ok(None) };
        if let (Some(layer), Some(trace)) = (&self.downsample, downsample)
            && let (Some(dx), _) = layer.back(trace, shortcut.clone(), None, Wanted::Fresh, gradients)?
        {
            shortcut = time_mean_gradient(&dx, x.shape(), self.stride)?;
        }
        drop(x);
        Ok(self.conv1.back(conv1, dx, None, Wanted::Onto(shortcut), gradients)?.0)
    }
}

/// What the way back through a [`Body`] needs.
pub(crate) struct Trace {
    stem: ConvNormTrace,
    octaves: Option<Chosen>,
    mix: ConvNormTrace,
    blocks: Vec<BlockTrace>,
    /// What was pooled over time (channels, B * 12, 1, columns), the exponent, the result.
    last: Tensor,
    p: f32,
    pooled: Tensor,
    ring: Chosen,
}

/// Everything in front of the embedding.
pub(crate) struct Body {
    stem: ConvNorm,
    /// Octaves that leave the stem; 0 where the input has twelve bins, a ring itself.
    octaves: usize,
    mix: ConvNorm,
    blocks: Vec<Block>,
    p: Parameter,
}

impl Body {
    pub fn new(settings: &RingSettings, weights: &mut Weights<'_>) -> Result<Self> {
        let octaves = settings.octaves()?;
        let (kernel, geometry) = settings.stem();
        let width = settings.width;
        let stem = ConvSizes { inputs: 1, outputs: width, kernel, geometry, bias: false };
        let stem = ConvNorm::new(weights, ["stem", "stem_norm"], &stem, false)?;
        let merged = if octaves > 0 { 2 * width } else { width };
        let mix = ConvSizes::square(merged, width, 1, 1);
        let mix = ConvNorm::new(weights, ["mix", "mix_norm"], &mix, false)?;
        let mut blocks = Vec::new();
        for block in settings.residual_blocks() {
            let prefix = format!("layer{}.{}", block.stage, block.number);
            blocks.push(Block::new(weights, &prefix, [block.inputs, block.outputs], block.stride)?);
        }
        let p = weights.constant("gem_pool.p".to_owned(), 3.0, 1)?;
        Ok(Self { stem, octaves, mix, blocks, p })
    }

    /// (1, B, bins, frames) to (channels, B), by running statistics.
    pub fn infer(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = self.stem.infer(x, Then::Relu, None)?;
        if self.octaves > 0 {
            x = max_mean(&x, self.octaves)?.0;
        }
        x = self.mix.infer(&x, Then::Relu, None)?;
        for block in &self.blocks {
            x = block.infer(&x)?;
        }
        let (channels, batch, _, _) = x.dims4()?;
        let y = gem(&over_time(&x)?, self.p.scalar()?)?;
        Ok(on_ring(&y, channels, batch)?.0)
    }

    /// As [`Body::infer`], by the batch's statistics.
    pub fn train(&self, x: &Tensor) -> candle_core::Result<(Tensor, Trace)> {
        let (mut x, stem) = self.stem.train(x, Then::Relu, None)?;
        let mut octaves = None;
        if self.octaves > 0 {
            let (y, chosen) = max_mean(&x, self.octaves)?;
            (x, octaves) = (y, Some(chosen));
        }
        let (mut x, mix) = self.mix.train(&x, Then::Relu, None)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, trace) = block.train(&x)?;
            blocks.push(trace);
            x = y;
        }
        let (channels, batch, _, _) = x.dims4()?;
        let (last, p) = (over_time(&x)?, self.p.scalar()?);
        let pooled = gem(&last, p)?;
        let (y, ring) = on_ring(&pooled, channels, batch)?;
        Ok((y, Trace { stem, octaves, mix, blocks, last, p, pooled, ring }))
    }

    /// From the gradient of what [`Body::train`] gave.
    pub fn back(&self, trace: Trace, dy: &Tensor, gradients: &mut Gradients) -> candle_core::Result<()> {
        let Trace { stem, octaves, mix, mut blocks, last, p, pooled, ring } = trace;
        let dy = max_mean_gradient(dy, &ring)?.reshape(pooled.shape())?;
        let (dx, dp) = gem_gradient(&last, p, &pooled, &dy)?;
        gradients.add(self.p.place, &[dp])?;
        let (channels, all, _, columns) = last.dims4()?;
        drop(last);
        let mut dy = dx.reshape((channels, all / PITCH_CLASSES, PITCH_CLASSES, columns))?;
        for block in self.blocks.iter().rev() {
            let Some(trace) = blocks.pop() else { break };
            match block.back(trace, dy, gradients)? {
                Some(dx) => dy = dx,
                None => return Ok(()),
            }
        }
        let (Some(mut dy), _) = self.mix.back(mix, dy, None, Wanted::Fresh, gradients)? else {
            return Ok(());
        };
        if let Some(chosen) = &octaves {
            dy = max_mean_gradient(&dy, chosen)?;
        }
        self.stem.back(stem, dy, None, Wanted::Nothing, gradients)?;
        Ok(())
    }
}

/// (C, B, 12, columns) as (C, B * 12, 1, columns): what GeM pools is time alone.
fn over_time(x: &Tensor) -> candle_core::Result<Tensor> {
    let (channels, batch, height, width) = x.dims4()?;
    x.reshape((channels, batch * height, 1, width))
}

/// (C, B * 12) to (2 C, B): the maximum and the mean over the ring.
fn on_ring(x: &Tensor, channels: usize, batch: usize) -> candle_core::Result<(Tensor, Chosen)> {
    let (y, chosen) = max_mean(&x.reshape((channels, batch, PITCH_CLASSES, 1))?, PITCH_CLASSES)?;
    Ok((y.reshape((2 * channels, batch))?, chosen))
}
