//! ByteCover's body: ResNet-IBN with GeM pooling (Du et al. 2021, sections 3.1 and 3.2).

use anyhow::{Context, Result};

use bc_formats::config::Bottleneck as Variant;

use crate::backend::{Activation, Array, BackwardPass, Epilogue, Saved as SavedOf, TrainPass, Weights};
use crate::layers::{ConvNorm, ConvNormSaved, ConvSizes, ParameterBuilder};
use crate::parameters::Parameter;
use crate::recompute::SavedPart;
use crate::settings::{ByteCoverSettings, EXPANSION, Stage};

struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    conv3: ConvNorm,
    downsample: Option<ConvNorm>,
    /// The activation after the third norm, before the sum.
    activation: Activation,
}

impl Block {
    fn new(
        builder: &mut ParameterBuilder,
        variant: Variant,
        stage: Stage,
        number: usize,
        inputs: usize,
    ) -> Self {
        let prefix = format!("layer{}.{number}", stage.number);
        let stride = if number == 0 { stage.stride } else { 1 };
        let (planes, outputs) = (stage.planes, stage.planes * EXPANSION);
        let bias = variant == Variant::Orfium;
        let mut layer = |conv: &str, norm: &str, sizes: &ConvSizes, ibn: bool| {
            ConvNorm::new(builder, [&format!("{prefix}.{conv}"), &format!("{prefix}.{norm}")], sizes, ibn)
        };
        let sizes = |inputs, outputs, kernel, stride, bias| ConvSizes {
            bias,
            ..ConvSizes::square(inputs, outputs, kernel, stride)
        };
        Self {
            conv1: layer("conv1", "ibn", &sizes(inputs, planes, 1, 1, bias), stage.ibn),
            conv2: layer("conv2", "batch_norm2", &sizes(planes, planes, 3, stride, bias), false),
            conv3: layer("conv3", "batch_norm3", &sizes(planes, outputs, 1, 1, bias), false),
            downsample: (number == 0).then(|| {
                layer("downsample.0", "downsample.1", &sizes(inputs, outputs, 1, stride, false), false)
            }),
            activation: if bias { Activation::Relu } else { Activation::Identity },
        }
    }

    /// Returns the epilogue of the third convolution: the activation, and the sum with the shortcut.
    fn end<'a>(&self, shortcut: &'a Array) -> Epilogue<'a> {
        Epilogue { activation: self.activation, shortcut: Some(shortcut) }
    }

    fn forward(&self, weights: Weights<'_>, x: &Array) -> Result<Array> {
        let y = self.conv1.forward(weights, x, Epilogue::RELU)?;
        let y = self.conv2.forward(weights, &y, Epilogue::RELU)?;
        let shortcut = match &self.downsample {
            None => x.clone(),
            Some(layer) => layer.forward(weights, x, Epilogue::NOTHING)?,
        };
        self.conv3.forward(weights, &y, self.end(&shortcut))
    }

    fn forward_train(&self, x: &Array, pass: &mut TrainPass<'_>) -> Result<(Array, BlockSaved)> {
        let (y, conv1) = self.conv1.forward_train(x, Epilogue::RELU, pass)?;
        let (y, conv2) = self.conv2.forward_train(&y, Epilogue::RELU, pass)?;
        let (shortcut, downsample) = match &self.downsample {
            None => (x.clone(), None),
            Some(layer) => {
                let (shortcut, saved) = layer.forward_train(x, Epilogue::NOTHING, pass)?;
                (shortcut, Some(saved))
            }
        };
        let (y, conv3) = self.conv3.forward_train(&y, self.end(&shortcut), pass)?;
        Ok((y.clone(), BlockSaved { conv1, conv2, conv3, downsample, y }))
    }

    fn backward(&self, saved: BlockSaved, dy: Array, pass: &mut BackwardPass<'_>) -> Result<Array> {
        let BlockSaved { conv1, conv2, conv3, downsample, y } = saved;
        let (dx, shortcut) = self.conv3.backward(conv3, dy, Some(&y), None, pass)?;
        drop(y);
        let (dx, _) = self.conv2.backward(conv2, dx, None, None, pass)?;
        let mut shortcut = shortcut.context("a block without a shortcut")?;
        if let (Some(layer), Some(saved)) = (&self.downsample, downsample) {
            (shortcut, _) = layer.backward(saved, shortcut, None, None, pass)?;
        }
        Ok(self.conv1.backward(conv1, dx, None, Some(shortcut), pass)?.0)
    }
}

/// What the backward pass through a [`Block`] needs.
struct BlockSaved {
    conv1: ConvNormSaved,
    conv2: ConvNormSaved,
    conv3: ConvNormSaved,
    downsample: Option<ConvNormSaved>,
    y: Array,
}

/// What the backward pass through the front (stem and pooling) needs.
struct FrontSaved {
    stem: ConvNormSaved,
    pool: SavedOf,
}

/// What the backward pass through a [`Body`] needs.
pub(crate) struct Saved {
    front: SavedPart<FrontSaved>,
    blocks: Vec<SavedPart<BlockSaved>>,
    /// Input of the pooling.
    last: Array,
    /// Result of the pooling, (channels, B).
    pooled: Array,
}

/// The network before the embedding.
pub(crate) struct Body {
    stem: ConvNorm,
    blocks: Vec<Block>,
    p: Parameter,
}

impl Body {
    pub fn new(settings: &ByteCoverSettings, builder: &mut ParameterBuilder) -> Self {
        let stem = ConvSizes::square(1, settings.width, 7, 2);
        let stem = ConvNorm::new(builder, ["conv1", "batch_norm1"], &stem, false);
        let mut blocks = Vec::new();
        let mut inputs = settings.width;
        for stage in settings.stages() {
            for number in 0..stage.blocks {
                blocks.push(Block::new(builder, settings.variant, stage, number, inputs));
                inputs = stage.planes * EXPANSION;
            }
        }
        let p = builder.constant("gem_pool.p".to_owned(), 3.0, 1);
        Self { stem, blocks, p }
    }

    /// Computes the pooled channels (channels, B) of x (1, B, bins, frames), by running statistics.
    pub fn forward(&self, weights: Weights<'_>, x: &Array) -> Result<Array> {
        let x = self.stem.forward(weights, x, Epilogue::RELU)?;
        let (mut x, _) = weights.backend.max_pool(&x)?;
        for block in &self.blocks {
            x = block.forward(weights, &x)?;
        }
        weights.backend.gem(&x, weights.parameters, self.p)
    }

    fn front_train(&self, x: &Array, pass: &mut TrainPass<'_>) -> Result<(Array, FrontSaved)> {
        let (x, stem) = self.stem.forward_train(x, Epilogue::RELU, pass)?;
        let (y, pool) = pass.backend.max_pool(&x)?;
        Ok((y, FrontSaved { stem, pool }))
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
        let pooled = pass.backend.gem(&x, pass.parameters, self.p)?;
        Ok((pooled.clone(), Saved { front, blocks, last: x, pooled }))
    }

    /// Computes the backward pass of [`Body::forward_train`], from the gradient of its result.
    pub fn backward(&self, saved: Saved, dy: &Array, pass: &mut BackwardPass<'_>) -> Result<()> {
        let Saved { front, blocks, last, pooled } = saved;
        let mut dy = pass.backend.gem_backward(&last, &pooled, dy, self.p, pass)?;
        drop(last);
        for (block, kept) in self.blocks.iter().zip(blocks).rev() {
            let saved = kept.saved(pass, |x, again| block.forward_train(x, again))?;
            dy = block.backward(saved, dy, pass)?;
        }
        let FrontSaved { stem, pool } = front.saved(pass, |x, again| self.front_train(x, again))?;
        let dy = pass.backend.max_pool_backward(&dy, &pool)?;
        self.stem.backward_first(stem, dy, pass)
    }
}
