//! SpecAugment (Park et al. 2019): a band of bins and a range of frames are set to zero.

use rand::{Rng, RngExt};

use crate::data::Patch;

/// Sets a random band of `share` of the bins to zero.
pub fn mask_bins(patch: &mut Patch, share: f64, rng: &mut impl Rng) {
    let (from, to) = band(patch.bins, share, rng);
    patch.data[from * patch.frames..to * patch.frames].fill(0.0);
}

/// Sets a random range of `share` of the frames to zero.
pub fn mask_frames(patch: &mut Patch, share: f64, rng: &mut impl Rng) {
    let (from, to) = band(patch.frames, share, rng);
    for bin in 0..patch.bins {
        patch.row_mut(bin)[from..to].fill(0.0);
    }
}

/// Draws a random range that covers `share` of `0..size`; returns its begin and its end.
fn band(size: usize, share: f64, rng: &mut impl Rng) -> (usize, usize) {
    let width = ((size as f64 * share).round() as usize).min(size);
    let from = rng.random_range(0..=size - width);
    (from, from + width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomness::generator;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn masks_set_exactly_their_share_to_zero(
            bins in 1usize..40, frames in 1usize..40, share in 0.0f64..1.0, seed in any::<u64>(),
        ) {
            let mut rng = generator(seed, "test", &[]);
            let ones = Patch { bins, frames, data: vec![1.0; bins * frames] };

            let mut p = ones.clone();
            mask_bins(&mut p, share, &mut rng);
            let silent = (0..bins).filter(|&b| p.row(b).iter().all(|&v| v == 0.0)).count();
            prop_assert_eq!(silent, (bins as f64 * share).round() as usize);
            prop_assert_eq!(p.data.iter().filter(|&&v| v == 0.0).count(), silent * frames);

            let mut p = ones;
            mask_frames(&mut p, share, &mut rng);
            let silent = p.row(0).iter().filter(|&&v| v == 0.0).count();
            prop_assert_eq!(silent, (frames as f64 * share).round() as usize);
            prop_assert_eq!(p.data.iter().filter(|&&v| v == 0.0).count(), silent * bins);
        }
    }
}
