//! The key-invariant body: convolutions on a ring of twelve pitch classes.
//!
//! The stem is a convolution whose kernel spans three octaves. The octaves of its result are merged by their maximum and
//! their mean, so that only pitch classes are left. From there on every convolution is circular over the twelve pitch
//! classes: transposing a song rotates the ring, and the maximum and mean over the ring at the end do not depend on the
//! rotation. Blocks are residual with IBN (Pan et al. 2018), and GeM (Radenović et al. 2018) pools over time.

use anyhow::{Context, Result};

use crate::backend::geometry::Geometry;
use crate::backend::{Array, BackwardPass, Epilogue, Operators, Saved as SavedOf, Shape, TrainPass, Weights};
use crate::layers::{ConvNorm, ConvNormSaved, ConvSizes, ParameterBuilder};
use crate::parameters::Parameter;
use crate::recompute::SavedPart;
use crate::settings::{PITCH_CLASSES, RingSettings};

/// A residual block.
struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    /// Stride over time.
    stride: usize,
    downsample: Option<ConvNorm>,
}

/// What the backward pass through a [`Block`] needs.
struct BlockSaved {
    /// Shape of the input.
    x: Shape,
    conv1: ConvNormSaved,
    conv2: ConvNormSaved,
    downsample: Option<ConvNormSaved>,
    y: Array,
}

/// Returns the sizes of a 3x3 convolution that is circular over the ring and has a stride over time.
fn ring_conv(inputs: usize, outputs: usize, stride: usize) -> ConvSizes {
    let geometry = Geometry { stride: [1, stride], padding: [1, 1], ring: true };
    ConvSizes { inputs, outputs, kernel: [3, 3], geometry, bias: false }
}

impl Block {
    fn new(
        builder: &mut ParameterBuilder,
        prefix: &str,
        [inputs, outputs]: [usize; 2],
        stride: usize,
    ) -> Self {
        let mut layer = |conv: &str, norm: &str, sizes: &ConvSizes, ibn: bool| {
            ConvNorm::new(builder, [&format!("{prefix}.{conv}"), &format!("{prefix}.{norm}")], sizes, ibn)
        };
        let downsample = ConvSizes::square(inputs, outputs, 1, 1);
        Self {
            conv1: layer("conv1", "norm1", &ring_conv(inputs, outputs, stride), true),
            conv2: layer("conv2", "norm2", &ring_conv(outputs, outputs, 1), false),
            stride,
            downsample: (inputs != outputs || stride != 1)
                .then(|| layer("downsample.0", "downsample.1", &downsample, false)),
        }
    }

    fn forward(&self, weights: Weights<'_>, x: &Array) -> Result<Array> {
        let y = self.conv1.forward(weights, x, Epilogue::RELU)?;
        let shortcut = match &self.downsample {
            None => x.clone(),
            Some(layer) => {
                layer.forward(weights, &weights.backend.time_mean(x, self.stride)?, Epilogue::NOTHING)?
            }
        };
        self.conv2.forward(weights, &y, Epilogue { shortcut: Some(&shortcut), ..Epilogue::NOTHING })
    }

    fn forward_train(&self, x: &Array, pass: &mut TrainPass<'_>) -> Result<(Array, BlockSaved)> {
        let (y, conv1) = self.conv1.forward_train(x, Epilogue::RELU, pass)?;
        let (shortcut, downsample) = match &self.downsample {
            None => (x.clone(), None),
            Some(layer) => {
                let x = pass.backend.time_mean(x, self.stride)?;
                let (shortcut, saved) = layer.forward_train(&x, Epilogue::NOTHING, pass)?;
                (shortcut, Some(saved))
            }
        };
        let end = Epilogue { shortcut: Some(&shortcut), ..Epilogue::NOTHING };
        let (y, conv2) = self.conv2.forward_train(&y, end, pass)?;
        Ok((y.clone(), BlockSaved { x: x.shape(), conv1, conv2, downsample, y }))
    }

    fn backward(&self, saved: BlockSaved, dy: Array, pass: &mut BackwardPass<'_>) -> Result<Array> {
        let BlockSaved { x, conv1, conv2, downsample, y } = saved;
        let (dx, shortcut) = self.conv2.backward(conv2, dy, Some(&y), None, pass)?;
        drop(y);
        let mut shortcut = shortcut.context("a block without a shortcut")?;
        if let (Some(layer), Some(saved)) = (&self.downsample, downsample) {
            let (dx, _) = layer.backward(saved, shortcut, None, None, pass)?;
            shortcut = pass.backend.time_mean_backward(&dx, x, self.stride)?;
        }
        Ok(self.conv1.backward(conv1, dx, None, Some(shortcut), pass)?.0)
    }
}

/// What the backward pass through the front (stem, octaves, mix) needs.
struct FrontSaved {
    stem: ConvNormSaved,
    octaves: Option<SavedOf>,
    mix: ConvNormSaved,
}

/// What the backward pass through a [`Body`] needs.
pub(crate) struct Saved {
    front: SavedPart<FrontSaved>,
    blocks: Vec<SavedPart<BlockSaved>>,
    /// Input (channels, B * 12, 1, columns) and result of the pooling over time.
    last: Array,
    pooled: Array,
    ring: SavedOf,
}

/// The network before the embedding.
pub(crate) struct Body {
    stem: ConvNorm,
    /// Number of octaves in the result of the stem; 0 if the input is a chromagram of twelve bins.
    octaves: usize,
    mix: ConvNorm,
    blocks: Vec<Block>,
    p: Parameter,
}

impl Body {
    pub fn new(settings: &RingSettings, builder: &mut ParameterBuilder) -> Result<Self> {
        let octaves = settings.octaves()?;
        let (kernel, geometry) = settings.stem();
        let width = settings.width;
        let stem = ConvSizes { inputs: 1, outputs: width, kernel, geometry, bias: false };
        let stem = ConvNorm::new(builder, ["stem", "stem_norm"], &stem, false);
        let merged = if octaves > 0 { 2 * width } else { width };
        let mix = ConvSizes::square(merged, width, 1, 1);
        let mix = ConvNorm::new(builder, ["mix", "mix_norm"], &mix, false);
        let mut blocks = Vec::new();
        for block in settings.residual_blocks() {
            let prefix = format!("layer{}.{}", block.stage, block.number);
            blocks.push(Block::new(builder, &prefix, [block.inputs, block.outputs], block.stride));
        }
        let p = builder.constant("gem_pool.p".to_owned(), 3.0, 1);
        Ok(Self { stem, octaves, mix, blocks, p })
    }

    /// Computes the pooled channels (channels, B) of x (1, B, bins, frames), by running statistics.
    pub fn forward(&self, weights: Weights<'_>, x: &Array) -> Result<Array> {
        let mut x = self.stem.forward(weights, x, Epilogue::RELU)?;
        if self.octaves > 0 {
            x = weights.backend.max_mean(&x, self.octaves)?.0;
        }
        x = self.mix.forward(weights, &x, Epilogue::RELU)?;
        for block in &self.blocks {
            x = block.forward(weights, &x)?;
        }
        let [channels, batch, _, _] = x.shape();
        let y = weights.backend.gem(&rows_into_batch(x)?, weights.parameters, self.p)?;
        Ok(pool_ring(weights.backend, y, channels, batch)?.0)
    }

    fn front_train(&self, x: &Array, pass: &mut TrainPass<'_>) -> Result<(Array, FrontSaved)> {
        let (mut x, stem) = self.stem.forward_train(x, Epilogue::RELU, pass)?;
        let mut octaves = None;
        if self.octaves > 0 {
            let (y, argmax) = pass.backend.max_mean(&x, self.octaves)?;
            (x, octaves) = (y, Some(argmax));
        }
        let (y, mix) = self.mix.forward_train(&x, Epilogue::RELU, pass)?;
        Ok((y, FrontSaved { stem, octaves, mix }))
    }

    /// Computes the result of [`Body::forward`] by the statistics of the batch, and what [`Body::backward`] needs.
    pub fn forward_train(&self, x: &Array, pass: &mut TrainPass<'_>) -> Result<(Array, Saved)> {
        let (mut x, front) = SavedPart::forward(x.clone(), pass, |x, pass| self.front_train(x, pass))?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, kept) = SavedPart::forward(x, pass, |x, pass| block.forward_train(x, pass))?;
            blocks.push(kept);
            x = y;
        }
        let [channels, batch, _, _] = x.shape();
        let last = rows_into_batch(x)?;
        let pooled = pass.backend.gem(&last, pass.parameters, self.p)?;
        let (y, ring) = pool_ring(pass.backend, pooled.clone(), channels, batch)?;
        Ok((y, Saved { front, blocks, last, pooled, ring }))
    }

    /// Computes the backward pass of [`Body::forward_train`], from the gradient of its result.
    pub fn backward(&self, saved: Saved, dy: &Array, pass: &mut BackwardPass<'_>) -> Result<()> {
        let Saved { front, blocks, last, pooled, ring } = saved;
        let dy = pass.backend.max_mean_backward(dy, &ring)?.reshape(pooled.shape())?;
        let dy = pass.backend.gem_backward(&last, &pooled, &dy, self.p, pass)?;
        let [channels, all, _, columns] = last.shape();
        drop(last);
        let mut dy = dy.reshape([channels, all / PITCH_CLASSES, PITCH_CLASSES, columns])?;
        for (block, kept) in self.blocks.iter().zip(blocks).rev() {
            let saved = kept.saved(pass, |x, again| block.forward_train(x, again))?;
            dy = block.backward(saved, dy, pass)?;
        }
        let FrontSaved { stem, octaves, mix } = front.saved(pass, |x, again| self.front_train(x, again))?;
        let (mut dy, _) = self.mix.backward(mix, dy, None, None, pass)?;
        if let Some(argmax) = &octaves {
            dy = pass.backend.max_mean_backward(&dy, argmax)?;
        }
        self.stem.backward_first(stem, dy, pass)
    }
}

/// Reshapes (C, B, 12, columns) to (C, B * 12, 1, columns), so that GeM pools over time only.
fn rows_into_batch(x: Array) -> Result<Array> {
    let [channels, batch, height, width] = x.shape();
    x.reshape([channels, batch * height, 1, width])
}

/// Computes the maximum and the mean of x (C, B * 12) over the ring: (2 C, B).
fn pool_ring(backend: &dyn Operators, x: Array, channels: usize, batch: usize) -> Result<(Array, SavedOf)> {
    backend.max_mean(&x.reshape([channels, batch, PITCH_CLASSES, 1])?, PITCH_CLASSES)
}
