//! `[model]`: the network.

use serde::{Deserialize, Serialize};

use super::section::{Check, SectionProblems, section};
use crate::run::Scale;

/// The two known bottlenecks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// Convolutions with a bias and a ReLU after the third norm too (public re-implementation).
    Orfium,
    /// No bias, no extra ReLU.
    Plain,
}

/// The known networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// ResNet-IBN with GeM pooling (Du et al. 2021).
    Bytecover,
    /// Residual blocks on a ring of twelve pitch classes: a transposed song is the same song.
    Ring,
}

section! {
    /// The network: a convolutional body with GeM pooling, and a BNNeck (Du et al. 2021, section 3).
    ModelConfig as "model" {
        /// "bytecover" (ResNet-IBN) or "ring" (residual blocks on a ring of twelve pitch classes, key-invariant;
        /// made for width = 16, blocks = [1, 2, 2, 1], projection = 256, scale = "log-centred").
        kind: NetworkKind = NetworkKind::Bytecover;
        /// Hop frames averaged into one column of the network's input; a multiple of [features] pool.
        pool: u32 = 20;
        /// How the magnitudes of a clip are scaled: "none", "max" (divided by the maximum), "sqrt", "log",
        /// "log-centred" (its mean is zero), "chroma" (12 rows: octaves summed, columns divided by their maximum).
        scale: Scale = Scale::None;
        /// Of "bytecover": "orfium" (convolutions with a bias, a ReLU after the third norm) or "plain".
        variant: Bottleneck = Bottleneck::Orfium;
        /// Channels of the stem, an even number; the last stage has 32 times as many ("ring": 8 times).
        width: u32 = 64;
        /// Bottlenecks ("ring": residual blocks) of the four stages.
        blocks: [u32; 4] = [3, 4, 6, 3];
        /// Size of a linear embedding after the pooling; 0 has none.
        projection: u32 = 0;
    }
}

impl Check for ModelConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        problems.within("pool", self.pool, 1..=1_000, "frames");
        problems.within("width", self.width, 2..=1_024, "channels");
        problems.require(self.width.is_multiple_of(2), "width", "must be even: IBN halves the channels");
        problems.require(
            self.blocks.iter().all(|blocks| (1..=100).contains(blocks)),
            "blocks",
            "must be four numbers from 1 to 100",
        );
        problems.within("projection", self.projection, 0..=65_536, "");
    }
}
