//! The key-invariant body: convolutions on a ring of twelve pitch classes.
//!
//! The stem reads three octaves at once at every bin; the octaves it is found in are merged by
//! their maximum and mean, so that a pitch class is left. From there on every convolution
//! runs round the ring of twelve: a transposed song rotates the ring, and the maximum and mean over
//! the ring at the end do not depend on the rotation. Blocks are residual with IBN (Pan et al. 2018),
//! GeM (Radenović et al. 2018) pools over time.

use anyhow::Result;
use candle_core::Tensor;

use crate::gradients::Gradients;
use crate::layers::{ConvNorm, ConvNormSaved, ConvSizes, InputGradient, Parameter, Weights};
use crate::ops::gem::{gem, gem_gradient};
use crate::ops::geometry::Geometry;
use crate::ops::max_mean::{Argmax, max_mean, max_mean_gradient};
use crate::ops::norm::Activation;
use crate::ops::time_mean::{time_mean, time_mean_gradient};
use crate::settings::{PITCH_CLASSES, RingSettings};

struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    /// Over time.
    stride: usize,
    downsample: Option<ConvNorm>,
}

/// What the backward pass through a [`Block`] needs.
struct BlockSaved {
    x: Tensor,
    conv1: ConvNormSaved,
    conv2: ConvNormSaved,
    downsample: Option<ConvNormSaved>,
    y: Tensor,
}

/// A 3x3 convolution round the ring, with a stride over time.
fn ring_conv(inputs: usize, outputs: usize, stride: usize) -> ConvSizes {
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
            conv1: layer("conv1", "norm1", &ring_conv(inputs, outputs, stride), true)?,
            conv2: layer("conv2", "norm2", &ring_conv(outputs, outputs, 1), false)?,
            stride,
            downsample: if inputs == outputs && stride == 1 {
                None
            } else {
                Some(layer("downsample.0", "downsample.1", &downsample, false)?)
            },
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.conv1.forward(x, Activation::Relu, None)?;
        let shortcut = match &self.downsample {
            None => x.clone(),
            Some(layer) => layer.forward(&time_mean(x, self.stride)?, Activation::Identity, None)?,
        };
        self.conv2.forward(&y, Activation::Identity, Some(&shortcut))
    }

    fn forward_train(&self, x: &Tensor) -> candle_core::Result<(Tensor, BlockSaved)> {
        let (y, conv1) = self.conv1.forward_train(x, Activation::Relu, None)?;
        let (shortcut, downsample) = match &self.downsample {
            None => (x.clone(), None),
            Some(layer) => {
                let (shortcut, saved) =
                    layer.forward_train(&time_mean(x, self.stride)?, Activation::Identity, None)?;
                (shortcut, Some(saved))
            }
        };
        let (y, conv2) = self.conv2.forward_train(&y, Activation::Identity, Some(&shortcut))?;
        Ok((y.clone(), BlockSaved { x: x.clone(), conv1, conv2, downsample, y }))
    }

    fn backward(
        &self,
        saved: BlockSaved,
        dy: Tensor,
        gradients: &mut Gradients,
    ) -> candle_core::Result<Option<Tensor>> {
        let BlockSaved { x, conv1, conv2, downsample, y } = saved;
        let (dx, shortcut) = self.conv2.backward(conv2, dy, Some(&y), InputGradient::New, gradients)?;
        drop(y);
        let (Some(dx), Some(mut shortcut)) = (dx, shortcut) else { return Ok(None) };
        if let (Some(layer), Some(saved)) = (&self.downsample, downsample)
            && let (Some(dx), _) =
                layer.backward(saved, shortcut.clone(), None, InputGradient::New, gradients)?
        {
            shortcut = time_mean_gradient(&dx, x.shape(), self.stride)?;
        }
        drop(x);
        Ok(self.conv1.backward(conv1, dx, None, InputGradient::AddTo(shortcut), gradients)?.0)
    }
}

/// What the backward pass through a [`Body`] needs.
pub(crate) struct Saved {
    stem: ConvNormSaved,
    octaves: Option<Argmax>,
    mix: ConvNormSaved,
    blocks: Vec<BlockSaved>,
    /// What was pooled over time (channels, B * 12, 1, columns), the exponent, the result.
    last: Tensor,
    p: f32,
    pooled: Tensor,
    ring: Argmax,
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
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = self.stem.forward(x, Activation::Relu, None)?;
        if self.octaves > 0 {
            x = max_mean(&x, self.octaves)?.0;
        }
        x = self.mix.forward(&x, Activation::Relu, None)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let (channels, batch, _, _) = x.dims4()?;
        let y = gem(&rows_into_batch(&x)?, self.p.scalar()?)?;
        Ok(pool_ring(&y, channels, batch)?.0)
    }

    /// As [`Body::forward`], by the batch's statistics.
    pub fn forward_train(&self, x: &Tensor) -> candle_core::Result<(Tensor, Saved)> {
        let (mut x, stem) = self.stem.forward_train(x, Activation::Relu, None)?;
        let mut octaves = None;
        if self.octaves > 0 {
            let (y, argmax) = max_mean(&x, self.octaves)?;
            (x, octaves) = (y, Some(argmax));
        }
        let (mut x, mix) = self.mix.forward_train(&x, Activation::Relu, None)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, saved) = block.forward_train(&x)?;
            blocks.push(saved);
            x = y;
        }
        let (channels, batch, _, _) = x.dims4()?;
        let (last, p) = (rows_into_batch(&x)?, self.p.scalar()?);
        let pooled = gem(&last, p)?;
        let (y, ring) = pool_ring(&pooled, channels, batch)?;
        Ok((y, Saved { stem, octaves, mix, blocks, last, p, pooled, ring }))
    }

    /// From the gradient of what [`Body::forward_train`] gave.
    pub fn backward(&self, saved: Saved, dy: &Tensor, gradients: &mut Gradients) -> candle_core::Result<()> {
        let Saved { stem, octaves, mix, mut blocks, last, p, pooled, ring } = saved;
        let dy = max_mean_gradient(dy, &ring)?.reshape(pooled.shape())?;
        let (dx, dp) = gem_gradient(&last, p, &pooled, &dy)?;
        gradients.add(self.p.index, &[dp])?;
        let (channels, all, _, columns) = last.dims4()?;
        drop(last);
        let mut dy = dx.reshape((channels, all / PITCH_CLASSES, PITCH_CLASSES, columns))?;
        for block in self.blocks.iter().rev() {
            let Some(saved) = blocks.pop() else { break };
            match block.backward(saved, dy, gradients)? {
                Some(dx) => dy = dx,
                None => return Ok(()),
            }
        }
        let (Some(mut dy), _) = self.mix.backward(mix, dy, None, InputGradient::New, gradients)? else {
            return Ok(());
        };
        if let Some(argmax) = &octaves {
            dy = max_mean_gradient(&dy, argmax)?;
        }
        self.stem.backward(stem, dy, None, InputGradient::Skip, gradients)?;
        Ok(())
    }
}

/// (C, B, 12, columns) as (C, B * 12, 1, columns): what GeM pools is time alone.
fn rows_into_batch(x: &Tensor) -> candle_core::Result<Tensor> {
    let (channels, batch, height, width) = x.dims4()?;
    x.reshape((channels, batch * height, 1, width))
}

/// (C, B * 12) to (2 C, B): the maximum and the mean over the ring.
fn pool_ring(x: &Tensor, channels: usize, batch: usize) -> candle_core::Result<(Tensor, Argmax)> {
    let (y, argmax) = max_mean(&x.reshape((channels, batch, PITCH_CLASSES, 1))?, PITCH_CLASSES)?;
    Ok((y.reshape((2 * channels, batch))?, argmax))
}
