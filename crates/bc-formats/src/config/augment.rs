//! `[augment]`: what is done to training crops.

use super::section::{Check, Found, section};

section! {
    /// Augmentation of training crops; each with a probability and a range.
    AugmentConfig as "augment" {
        /// Probability of a time stretch.
        stretch_probability: f64 = 0.0;
    }
}

impl Check for AugmentConfig {
    fn check(&self, found: &mut Found<'_>) {
        found.within("stretch_probability", self.stretch_probability, 0.0..=1.0, "");
    }
}
