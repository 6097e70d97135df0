//! How a recording scores with works that it is not a version of.
//!
//! A cosine is bounded, and near its bounds a straight line in it says too little: scores are spread by the inverse
//! hyperbolic tangent first. Some recordings are near to everything and some to nothing, so a score counts by how
//! far it stands out of the query's own scores with other works (cohort or z-normalisation, as in speaker
//! verification: Auckenthaler, Carey and Lloyd-Thomas, "Score normalization for text-independent speaker
//! verification systems", Digital Signal Processing 10, 2000), here by median and quartiles, which the few versions
//! of the query's own work do not move.

use serde::{Deserialize, Serialize};

/// The largest spread score: a cosine as near to 1 as 32-bit vectors give it.
pub const MOST: f64 = 8.0;
/// Scores that a cohort is of at least.
pub const LEAST_COHORT: usize = 50;
/// Quartiles of a bell curve of width 1 are so far apart.
const QUARTILES: f64 = 1.349;

/// A cosine on a scale without bounds, from -[`MOST`] to [`MOST`].
#[must_use]
pub fn spread(score: f64) -> f64 {
    score.clamp(-1.0, 1.0).atanh().clamp(-MOST, MOST)
}

/// Centre and width of the spread scores of one query with works that are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    /// Median.
    pub centre: f64,
    /// Distance of the quartiles, scaled so that it is the standard deviation of a bell curve.
    pub width: f64,
}

impl Cohort {
    /// Of cosines with recordings most of which are of other works; nothing for fewer than [`LEAST_COHORT`].
    #[must_use]
    pub fn of(scores: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut spread: Vec<f64> = scores.into_iter().map(spread).collect();
        if spread.len() < LEAST_COHORT {
            return None;
        }
        spread.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| spread[(share * (spread.len() - 1) as f64).round() as usize];
        let width = ((at(0.75) - at(0.25)) / QUARTILES).max(1e-3);
        Some(Self { centre: at(0.5), width })
    }

    /// How many widths a cosine stands out.
    #[must_use]
    pub fn standard(&self, score: f64) -> f64 {
        (spread(score) - self.centre) / self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_versions_of_the_own_work_do_not_move_it() {
        let others = (0..1000).map(|i| f64::from(i) / 2000.0 - 0.2);
        let plain = Cohort::of(others.clone()).unwrap();
        let with_own = Cohort::of(others.chain([0.95; 10])).unwrap();
        assert!((plain.centre - with_own.centre).abs() < 0.01 && (plain.width - with_own.width).abs() < 0.01);
        assert!(Cohort::of([0.5; 49]).is_none());
        assert!(Cohort::of([1.0; 50]).unwrap().standard(1.0).is_finite());
        assert_eq!((spread(1.0), spread(-1.0), spread(0.0)), (MOST, -MOST, 0.0));
    }
}
