//! The sizes of a network, and what it costs.

use bc_formats::config::{Bottleneck, ModelConfig};
use serde::{Deserialize, Serialize};

/// Everything that the shapes of a network's tensors follow from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSettings {
    /// Rows of the input.
    pub bins: usize,
    /// Outputs of the classifier.
    pub classes: usize,
    /// Which of the two known bottlenecks.
    pub variant: Bottleneck,
    /// Channels of the stem.
    pub width: usize,
    /// Bottlenecks of the four stages.
    pub blocks: [usize; 4],
    /// Size of the linear embedding behind the pooling; 0: none.
    pub projection: usize,
}

/// A stage of bottlenecks of equal width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    /// From 1.
    pub number: usize,
    pub blocks: usize,
    /// Channels inside a bottleneck; four times as many leave it.
    pub planes: usize,
    /// Of the first bottleneck.
    pub stride: usize,
    /// Whether the first norm is IBN.
    pub ibn: bool,
}

/// Channels that leave a bottleneck, over those inside.
pub(crate) const EXPANSION: usize = 4;

impl NetworkSettings {
    /// The network of a configuration.
    pub fn from_config(model: &ModelConfig, bins: usize, classes: usize) -> Self {
        Self {
            bins,
            classes,
            variant: model.variant,
            width: model.width as usize,
            blocks: model.blocks.map(|blocks| blocks as usize),
            projection: model.projection as usize,
        }
    }

    /// The sizes in which the networks differ but for the classifier, as `width: ours against theirs`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut put = |name: &str, a: String, b: String| {
            if a != b {
                found.push(format!("{name}: {a} against {b}"));
            }
        };
        put("bins", self.bins.to_string(), other.bins.to_string());
        put("variant", word(self.variant), word(other.variant));
        put("width", self.width.to_string(), other.width.to_string());
        put("blocks", format!("{:?}", self.blocks), format!("{:?}", other.blocks));
        put("projection", self.projection.to_string(), other.projection.to_string());
        found
    }

    /// The paper's network in its public re-implementation's variant.
    pub fn resnet_ibn_50(bins: usize, classes: usize) -> Self {
        Self::from_config(&ModelConfig::default(), bins, classes)
    }

    /// Length of an embedding.
    pub fn embedding(&self) -> usize {
        if self.projection > 0 { self.projection } else { self.pooled() }
    }

    /// Channels that are pooled.
    pub(crate) fn pooled(&self) -> usize {
        self.width * 8 * EXPANSION
    }

    /// Strides 1-2-2-1 and IBN in stages 1-3 (Du et al. 2021, section 3.1).
    pub(crate) fn stages(&self) -> [Stage; 4] {
        [(1, 1, 1, true), (2, 2, 2, true), (3, 4, 2, true), (4, 8, 1, false)].map(
            |(number, factor, stride, ibn)| Stage {
                number,
                blocks: self.blocks[number - 1],
                planes: self.width * factor,
                stride,
                ibn,
            },
        )
    }

    /// Floating-point operations of a forward pass of one sample of `bins x frames`:
    /// two for each multiplication in convolutions and linear layers.
    pub fn flops(&self, bins: usize, frames: usize) -> f64 {
        let convolutions: f64 = self.convolutions(bins, frames).iter().map(Convolution::products).sum();
        let linear = self.pooled() * self.projection + self.embedding() * self.classes;
        2.0 * (convolutions + linear as f64)
    }

    /// Trained parameters, running statistics not counted.
    pub fn parameters(&self) -> usize {
        let convolutions: usize = self
            .convolutions(1, 1)
            .iter()
            .map(|c| {
                let bias = usize::from(c.shortcut.is_some_and(|shortcut| !shortcut) && self.has_bias());
                c.outputs * (c.inputs * c.kernel * c.kernel + 2 + bias)
            })
            .sum();
        let linear = self.pooled() * self.projection + self.embedding() * (2 + self.classes);
        convolutions + 1 + linear
    }

    /// Bytes of a training step's memory: what it needs whatever the batch (weights, their
    /// gradients, two moments), and for each sample of `bins x frames` what is kept for the way
    /// back: of every convolution its result and that of the normalisation behind it.
    pub fn memory(&self, bins: usize, frames: usize) -> Memory {
        const FLOAT: usize = size_of::<f32>();
        let values: usize = self
            .convolutions(bins, frames)
            .iter()
            .map(|c| c.outputs * c.places * if c.shortcut == Some(true) { 1 } else { 2 })
            .sum();
        // The stem's result is pooled to a quarter, and a byte a value remembers from where.
        let pooled = self.width * half(half(bins)) * half(half(frames));
        Memory { fixed: 4 * FLOAT * self.parameters(), sample: FLOAT * (values + pooled) + pooled }
    }

    fn has_bias(&self) -> bool {
        self.variant == Bottleneck::Orfium
    }

    /// All convolutions, for one sample of `bins x frames`.
    fn convolutions(&self, bins: usize, frames: usize) -> Vec<Convolution> {
        let (mut height, mut width) = (half(bins), half(frames));
        let stem =
            Convolution { inputs: 1, outputs: self.width, kernel: 7, places: height * width, shortcut: None };
        let mut all = vec![stem];
        (height, width) = (half(height), half(width));
        let mut inputs = self.width;
        for stage in self.stages() {
            for block in 0..stage.blocks {
                let before = height * width;
                if block == 0 && stage.stride == 2 {
                    (height, width) = (half(height), half(width));
                }
                let (planes, outputs, after) = (stage.planes, stage.planes * EXPANSION, height * width);
                let mut add = |inputs, outputs, kernel, places, shortcut| {
                    all.push(Convolution { inputs, outputs, kernel, places, shortcut: Some(shortcut) });
                };
                add(inputs, planes, 1, before, false);
                add(planes, planes, 3, after, false);
                add(planes, outputs, 1, after, false);
                if block == 0 {
                    add(inputs, outputs, 1, after, true);
                }
                inputs = outputs;
            }
        }
        all
    }
}

/// What a training step holds in memory at most, in bytes; see [`NetworkSettings::memory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Whatever the batch.
    pub fixed: usize,
    /// For each sample of the batch.
    pub sample: usize,
}

/// A convolution of the network on one sample.
struct Convolution {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    /// Places of the result: height x width.
    places: usize,
    /// Whether it stands in the shortcut of a bottleneck; `None` for the stem.
    shortcut: Option<bool>,
}

impl Convolution {
    /// Multiplications.
    fn products(&self) -> f64 {
        (self.places * self.inputs * self.outputs * self.kernel * self.kernel) as f64
    }
}

/// As the configuration writes it.
fn word(variant: Bottleneck) -> String {
    format!("{variant:?}").to_lowercase()
}

/// Behind a stride of 2.
fn half(size: usize) -> usize {
    size.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_215_frames_costs_what_is_known_of_this_network() {
        let flops = NetworkSettings::resnet_ibn_50(84, 0).flops(84, 215);
        assert!((flops / 5.04e9 - 1.0).abs() < 0.01, "{flops}");
    }

    #[test]
    fn parameters_are_counted_as_the_network_has_them() {
        for variant in [Bottleneck::Orfium, Bottleneck::Plain] {
            for projection in [0, 5] {
                let settings = NetworkSettings {
                    bins: 12,
                    classes: 7,
                    variant,
                    width: 4,
                    blocks: [2, 1, 1, 1],
                    projection,
                };
                let network = crate::ByteCover::new(&settings, 1, &candle_core::Device::Cpu).unwrap();
                let counted: usize = network.parameters().iter().map(|(_, v)| v.elem_count()).sum();
                assert_eq!(settings.parameters(), counted, "{variant:?}, {projection}");
            }
        }
    }

    #[test]
    fn a_longer_sample_keeps_as_much_more() {
        let settings = NetworkSettings::resnet_ibn_50(84, 100);
        let (one, two) = (settings.memory(84, 200), settings.memory(84, 400));
        assert_eq!(one.fixed, two.fixed);
        assert!((two.sample as f64 / one.sample as f64 - 2.0).abs() < 0.05);
    }
}
