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
        let half = |size: usize| size.div_ceil(2);
        let (mut height, mut width) = (half(bins), half(frames));
        let mut products = (height * width * self.width * 49) as f64;
        (height, width) = (half(height), half(width));
        let mut inputs = self.width;
        for stage in self.stages() {
            for block in 0..stage.blocks {
                let before = (height * width) as f64;
                if block == 0 && stage.stride == 2 {
                    (height, width) = (half(height), half(width));
                }
                let after = (height * width) as f64;
                let (planes, outputs) = (stage.planes as f64, (stage.planes * EXPANSION) as f64);
                products += before * inputs as f64 * planes + after * planes * (9.0 * planes + outputs);
                if block == 0 {
                    products += after * inputs as f64 * outputs;
                }
                inputs = stage.planes * EXPANSION;
            }
        }
        products += (self.pooled() * self.projection + self.embedding() * self.classes) as f64;
        2.0 * products
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_215_frames_costs_what_is_known_of_this_network() {
        let flops = NetworkSettings::resnet_ibn_50(84, 0).flops(84, 215);
        assert!((flops / 5.04e9 - 1.0).abs() < 0.01, "{flops}");
    }
}
