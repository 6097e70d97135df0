//! Excerpts of recordings, as short queries.

use std::borrow::Cow;

use bc_embed::recording::columns_of;
use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// An excerpt at one position in every recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excerpt {
    /// Length of the excerpt, in seconds.
    pub seconds: f64,
    /// Seed of the positions.
    pub seed: u64,
}

impl Excerpt {
    /// The excerpt's columns of features (bins x `frames`) of recording `number`, whose columns last `column_s`: at a position that is
    /// drawn from the seed and the number, the same whatever the tempo; the whole recording where that is no longer.
    pub(super) fn of<'a>(
        &self,
        magnitude: &'a [f16],
        frames: usize,
        number: usize,
        column_s: f64,
    ) -> (Cow<'a, [f16]>, usize) {
        let length = ((self.seconds / column_s).round() as usize).max(1);
        if frames <= length {
            return (Cow::Borrowed(magnitude), frames);
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(number as u64);
        let start = random.random_range(0..=frames - length);
        (Cow::Owned(columns_of(magnitude, frames, (start, start + length))), length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_the_same_columns_of_all_bins_and_depends_on_seed_and_recording() {
        let row: Vec<f16> = (0..50).map(|n| f16::from_f32(n as f32)).collect();
        let both = [row.clone(), row.iter().map(|v| *v + f16::from_f32(100.0)).collect()].concat();
        let of = |seed, number| Excerpt { seconds: 2.0, seed }.of(&both, 50, number, 0.5);
        let (cut, length) = of(1, 0);
        assert_eq!((length, cut.len()), (4, 8));
        for column in 0..4 {
            assert_eq!(cut[column].to_f32() - cut[0].to_f32(), column as f32);
            assert_eq!(cut[4 + column].to_f32(), cut[column].to_f32() + 100.0);
        }
        assert_eq!(of(1, 0), of(1, 0));
        let places = |seed| (0..20).map(|number| of(seed, number).0[0].to_f32() as u32).collect::<Vec<_>>();
        assert!(places(1) != places(2) && places(1).iter().any(|place| *place != places(1)[0]));
        assert_eq!(Excerpt { seconds: 30.0, seed: 1 }.of(&both, 50, 0, 0.5), (Cow::Borrowed(&both[..]), 50));
    }
}
