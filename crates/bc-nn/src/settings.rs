//! The sizes of a network, and what it costs.

use anyhow::{Result, ensure};
use bc_formats::config::{Bottleneck, ModelConfig, NetworkKind};
use serde::{Deserialize, Serialize};

use crate::backend::geometry::Geometry;

/// The sizes of a network, which determine the shapes of all its tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NetworkSettings {
    /// The key-invariant network. It is tried first when settings are read: only it has the key `kind`.
    Ring(RingSettings),
    /// ByteCover.
    ByteCover(ByteCoverSettings),
}

/// Sizes of ByteCover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteCoverSettings {
    /// Rows of the input.
    pub bins: usize,
    /// Outputs of the classifier.
    pub classes: usize,
    /// Which of two kinds of bottleneck the blocks are.
    pub variant: Bottleneck,
    /// Channels of the stem.
    pub width: usize,
    /// Bottlenecks of the four stages.
    pub blocks: [usize; 4],
    /// Size of the linear embedding after the pooling; 0: none.
    pub projection: usize,
}

/// A stage of bottlenecks of equal width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    /// Number of the stage, from 1.
    pub number: usize,
    pub blocks: usize,
    /// Channels inside a bottleneck; its output has four times as many.
    pub planes: usize,
    /// Stride of the first bottleneck.
    pub stride: usize,
    /// Whether the first norm is IBN.
    pub ibn: bool,
}

/// Number of output channels of a bottleneck, relative to those inside.
pub(crate) const EXPANSION: usize = 4;

impl NetworkSettings {
    /// Returns the network of a configuration; with 0 `classes` it has no classifier.
    pub fn from_config(model: &ModelConfig, bins: usize, classes: usize) -> Self {
        match model.kind {
            NetworkKind::Bytecover => Self::ByteCover(ByteCoverSettings::from_config(model, bins, classes)),
            NetworkKind::Ring => Self::Ring(RingSettings::from_config(model, bins, classes)),
        }
    }

    /// Returns the paper's network in its public re-implementation's variant.
    pub fn resnet_ibn_50(bins: usize, classes: usize) -> Self {
        Self::from_config(&ModelConfig::default(), bins, classes)
    }

    /// Returns the sizes in which the networks differ but for the classifier, as `width: ours against theirs`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (self.sizes(), other.sizes());
        // A size that only one of the two kinds has is not listed as a difference.
        let pairs =
            ours.into_iter().zip(theirs).filter(|(a, b)| a != b && !a.1.is_empty() && !b.1.is_empty());
        pairs.map(|((name, a), (_, b))| format!("{name}: {a} against {b}")).collect()
    }

    /// Returns the sizes as text, by name; the same names for all networks.
    fn sizes(&self) -> [(&'static str, String); 6] {
        let (kind, variant, width, blocks) = match self {
            Self::ByteCover(s) => (NetworkKind::Bytecover, word(s.variant), s.width, s.blocks),
            Self::Ring(s) => (NetworkKind::Ring, String::new(), s.width, s.blocks),
        };
        [
            ("kind", word(kind)),
            ("bins", self.bins().to_string()),
            ("variant", variant),
            ("width", width.to_string()),
            ("blocks", format!("{blocks:?}")),
            ("projection", self.projection().to_string()),
        ]
    }

    /// Describes the network in words: its kind and its sizes.
    pub fn in_words(&self) -> String {
        match self {
            Self::ByteCover(s) => {
                format!("ResNet-IBN ({:?}), width {}, blocks {:?}", s.variant, s.width, s.blocks)
            }
            Self::Ring(s) => format!("ring of pitch classes, width {}, blocks {:?}", s.width, s.blocks),
        }
    }

    /// Returns the number of rows of the input.
    pub fn bins(&self) -> usize {
        match self {
            Self::ByteCover(settings) => settings.bins,
            Self::Ring(settings) => settings.bins,
        }
    }

    /// Returns the number of outputs of the classifier; 0 for no classifier.
    pub fn classes(&self) -> usize {
        match self {
            Self::ByteCover(settings) => settings.classes,
            Self::Ring(settings) => settings.classes,
        }
    }

    /// Returns the size of the linear embedding after the pooling; 0: none.
    pub(crate) fn projection(&self) -> usize {
        match self {
            Self::ByteCover(settings) => settings.projection,
            Self::Ring(settings) => settings.projection,
        }
    }

    /// Returns the length of an embedding.
    pub fn embedding(&self) -> usize {
        if self.projection() > 0 { self.projection() } else { self.pooled() }
    }

    /// Returns the number of channels that are pooled.
    pub(crate) fn pooled(&self) -> usize {
        match self {
            Self::ByteCover(settings) => settings.pooled(),
            Self::Ring(settings) => settings.pooled(),
        }
    }

    /// Returns the number of floating-point operations of a forward pass of one sample of `bins x frames`: two for each
    /// multiplication in convolutions and linear layers.
    pub fn flops(&self, bins: usize, frames: usize) -> f64 {
        let convolutions: f64 = self.convolutions(bins, frames).iter().map(Convolution::products).sum();
        let linear = self.pooled() * self.projection() + self.embedding() * self.classes();
        2.0 * (convolutions + linear as f64)
    }

    /// Returns the number of trained parameters, without running statistics.
    pub fn parameters(&self) -> usize {
        let convolutions: usize = self
            .convolutions(self.bins(), 1)
            .iter()
            .map(|c| c.outputs * (c.inputs * c.taps + 2 + usize::from(c.bias)))
            .sum();
        let linear = self.pooled() * self.projection() + self.embedding() * (2 + self.classes());
        convolutions + 1 + linear
    }

    /// Returns all convolutions, for one sample of `bins x frames`.
    fn convolutions(&self, bins: usize, frames: usize) -> Vec<Convolution> {
        match self {
            Self::ByteCover(settings) => settings.convolutions(bins, frames),
            Self::Ring(settings) => settings.convolutions(bins, frames),
        }
    }
}

impl ByteCoverSettings {
    /// Returns the network of a configuration.
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

    /// Returns the number of channels that are pooled.
    fn pooled(&self) -> usize {
        self.width * 8 * EXPANSION
    }

    /// Returns the four stages: strides 1-2-2-1, and IBN in stages 1-3 (Du et al. 2021, section 3.1).
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

    /// Returns all convolutions, for one sample of `bins x frames`.
    fn convolutions(&self, bins: usize, frames: usize) -> Vec<Convolution> {
        let (mut height, mut width) = (half(bins), half(frames));
        let bias = self.variant == Bottleneck::Orfium;
        let stem =
            Convolution { inputs: 1, outputs: self.width, taps: 49, positions: height * width, bias: false };
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
                let mut add = |inputs, outputs, taps, positions| {
                    all.push(Convolution { inputs, outputs, taps, positions, bias });
                };
                add(inputs, planes, 1, before);
                add(planes, planes, 9, after);
                add(planes, outputs, 1, after);
                if block == 0 {
                    all.push(Convolution { inputs, outputs, taps: 1, positions: after, bias: false });
                }
                inputs = outputs;
            }
        }
        all
    }
}

/// Number of rows of the ring.
pub(crate) const PITCH_CLASSES: usize = 12;

/// The value that distinguishes the settings of the key-invariant network from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `"ring"`.
    Ring,
}

/// Sizes of the key-invariant network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingSettings {
    /// `"ring"`.
    pub kind: Kind,
    /// Rows of the input: whole octaves, at least four, or the twelve of a chromagram.
    pub bins: usize,
    /// Outputs of the classifier; 0: none.
    pub classes: usize,
    /// Channels of the stem, an even number.
    pub width: usize,
    /// Residual blocks of the four stages of 1, 2, 4 and 8 times the width.
    pub blocks: [usize; 4],
    /// Size of the linear embedding after the pooling; 0: none.
    pub projection: usize,
}

/// A residual block of the key-invariant network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResidualBlock {
    /// Number of its stage, from 1.
    pub stage: usize,
    /// Number within its stage, from 0.
    pub number: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// Stride over time.
    pub stride: usize,
}

impl RingSettings {
    /// Returns the network of a configuration.
    pub fn from_config(model: &ModelConfig, bins: usize, classes: usize) -> Self {
        Self {
            kind: Kind::Ring,
            bins,
            classes,
            width: model.width as usize,
            blocks: model.blocks.map(|blocks| blocks as usize),
            projection: model.projection as usize,
        }
    }

    /// Returns the number of octaves in the result of the stem, whose kernel spans three octaves and a semitone; 0 for a
    /// chromagram.
    pub(crate) fn octaves(&self) -> Result<usize> {
        const READ: usize = 3 * PITCH_CLASSES;
        ensure!(
            self.bins == PITCH_CLASSES || self.bins > READ && self.bins.is_multiple_of(PITCH_CLASSES),
            "the ring network takes bins of whole octaves of 12 semitones, at least four octaves, or a \
             chromagram of 12; [features] has {} bins",
            self.bins
        );
        Ok(self.bins.saturating_sub(READ) / PITCH_CLASSES)
    }

    /// Returns kernel and geometry of the stem: three octaves by three frames, or circular over the ring for a chromagram.
    pub(crate) fn stem(&self) -> ([usize; 2], Geometry) {
        if self.bins == PITCH_CLASSES {
            return ([11, 3], Geometry { stride: [1, 1], padding: [5, 1], ring: true });
        }
        ([3 * PITCH_CLASSES + 1, 3], Geometry { stride: [1, 1], padding: [0, 1], ring: false })
    }

    fn pooled(&self) -> usize {
        2 * 8 * self.width
    }

    /// Returns the blocks in their order. The first block of each stage except stage 1 has a stride over time.
    pub(crate) fn residual_blocks(&self) -> Vec<ResidualBlock> {
        let mut inputs = self.width;
        let mut all = Vec::new();
        for (stage, count) in (1..).zip(self.blocks) {
            for number in 0..count {
                let outputs = self.width << (stage - 1);
                let stride = if stage > 1 && number == 0 { 2 } else { 1 };
                all.push(ResidualBlock { stage, number, inputs, outputs, stride });
                inputs = outputs;
            }
        }
        all
    }

    fn convolutions(&self, bins: usize, frames: usize) -> Vec<Convolution> {
        let width = self.width;
        let (kernel, geometry) = self.stem();
        let rows = bins + 1 + 2 * geometry.padding[0] - kernel[0];
        let octaves = rows / PITCH_CLASSES;
        let convolution =
            |inputs, outputs, taps, positions| Convolution { inputs, outputs, taps, positions, bias: false };
        let merged = if bins == PITCH_CLASSES { width } else { 2 * width };
        let mut positions = PITCH_CLASSES * frames;
        let mut all = vec![
            // After the octaves, a maximum and a mean for each channel.
            convolution(1, width, kernel[0] * kernel[1], octaves * positions),
            convolution(merged, width, 1, positions),
        ];
        let mut columns = frames;
        for block in self.residual_blocks() {
            let ResidualBlock { inputs, outputs, stride, .. } = block;
            if stride == 2 {
                columns = half(columns);
                positions = PITCH_CLASSES * columns;
            }
            all.push(convolution(inputs, outputs, 9, positions));
            all.push(convolution(outputs, outputs, 9, positions));
            if inputs != outputs || stride == 2 {
                all.push(convolution(inputs, outputs, 1, positions));
            }
        }
        all
    }
}

/// A convolution of the network on one sample.
struct Convolution {
    inputs: usize,
    outputs: usize,
    /// Height times width of the kernel.
    taps: usize,
    /// Positions of the result: height x width.
    positions: usize,
    bias: bool,
}

impl Convolution {
    /// Returns the number of multiplications.
    fn products(&self) -> f64 {
        (self.positions * self.inputs * self.outputs * self.taps) as f64
    }
}

/// Returns a value as the configuration writes it.
fn word(value: impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// Returns the size of a dimension after a stride of 2.
pub(crate) fn half(size: usize) -> usize {
    size.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_of_a_sample_of_215_frames_is_that_of_the_paper_s_network() {
        let flops = NetworkSettings::resnet_ibn_50(84, 0).flops(84, 215);
        assert!((flops / 5.04e9 - 1.0).abs() < 0.01, "{flops}");
    }

    #[test]
    fn parameters_are_counted_as_the_network_has_them() {
        let counted = |settings: &NetworkSettings| -> usize {
            let network = crate::Network::new(settings, 1, &crate::backend::Backend::cpu()).unwrap();
            network.parameters().layout().entries().iter().map(|entry| entry.range.len()).sum()
        };
        for (bins, classes, projection) in [(84, 0, 5), (48, 7, 0), (12, 3, 5)] {
            let blocks = [1, 2, 1, 1];
            let ring = RingSettings { kind: Kind::Ring, bins, classes, width: 4, blocks, projection };
            let settings = NetworkSettings::Ring(ring);
            assert_eq!(settings.parameters(), counted(&settings), "{settings:?}");
        }
        for variant in [Bottleneck::Orfium, Bottleneck::Plain] {
            for projection in [0, 5] {
                let settings = NetworkSettings::ByteCover(ByteCoverSettings {
                    bins: 12,
                    classes: 7,
                    variant,
                    width: 4,
                    blocks: [2, 1, 1, 1],
                    projection,
                });
                assert_eq!(settings.parameters(), counted(&settings), "{variant:?}, {projection}");
            }
        }
    }
}
