//! Changes of features that keep the work the same. Each has a probability and a range.

mod level;
mod mask;
mod transpose;

pub use level::{gain, noise, octaves, power, tilt};
pub use mask::{mask_bins, mask_frames};
pub use transpose::transpose;
