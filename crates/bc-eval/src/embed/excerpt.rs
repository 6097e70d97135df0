//! Excerpts of recordings, as short queries.

use std::borrow::Cow;

use bc_embed::recording::columns_of;
use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Excerpts of one length, at a random position of each recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excerpt {
    /// Length of the excerpt, in seconds.
    pub seconds: f64,
    /// Seed of the positions.
    pub seed: u64,
}

impl Excerpt {
    /// Cuts the excerpt of recording `number` out of its features (bins x `frames`), whose columns last `column_s` seconds. The
    /// position is drawn from the seed and the number, so it is the same at every tempo. Returns the whole recording if that is
    /// no longer.
    pub(super) fn cut<'a>(
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
    fn excerpt_has_the_same_columns_in_all_bins_and_depends_on_seed_and_recording() {
        let row: Vec<f16> = (0..50).map(|n| f16::from_f32(n as f32)).collect();
        let both = [row.clone(), row.iter().map(|v| *v + f16::from_f32(100.0)).collect()].concat();
        let cut = |seed, number| Excerpt { seconds: 2.0, seed }.cut(&both, 50, number, 0.5);
        let (columns, length) = cut(1, 0);
        assert_eq!((length, columns.len()), (4, 8));
        for column in 0..4 {
            assert_eq!(columns[column].to_f32() - columns[0].to_f32(), column as f32);
            assert_eq!(columns[4 + column].to_f32(), columns[column].to_f32() + 100.0);
        }
        assert_eq!(cut(1, 0), cut(1, 0));
        let starts = |seed| (0..20).map(|number| cut(seed, number).0[0].to_f32() as u32).collect::<Vec<_>>();
        assert!(starts(1) != starts(2) && starts(1).iter().any(|start| *start != starts(1)[0]));
        assert_eq!(Excerpt { seconds: 30.0, seed: 1 }.cut(&both, 50, 0, 0.5), (Cow::Borrowed(&both[..]), 50));
    }
}
