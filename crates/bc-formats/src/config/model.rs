//! `[model]`: the network.

use super::section::{Check, Found, section};

section! {
    /// The network: ResNet-IBN with GeM pooling and a BNNeck (Du et al. 2021, section 3).
    ModelConfig as "model" {
        /// Hop frames averaged into one column of the network's input; a multiple of [features] pool.
        pool: u32 = 20;
    }
}

impl Check for ModelConfig {
    fn check(&self, found: &mut Found<'_>) {
        found.within("pool", self.pool, 1..=1_000, "frames");
    }
}
