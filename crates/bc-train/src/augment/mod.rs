//! Augmentations: random changes of features after which they still belong to the same work.

mod level;
mod mask;
mod transpose;

pub use level::{gain, noise, octaves, power, tilt};
pub use mask::{mask_bins, mask_frames};
pub use transpose::transpose;
