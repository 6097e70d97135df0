//! The distribution of a recording's scores with works that it is not a version of.
//!
//! A cosine is bounded, and a straight line does not fit near its bounds: scores are first transformed by the inverse
//! hyperbolic tangent (Fisher's z). Some recordings are near to everything and some to nothing, so a score counts by how
//! far it exceeds the query's own scores with other works (cohort or z-normalisation, as in speaker
//! verification: Auckenthaler, Carey and Lloyd-Thomas, "Score normalization for text-independent speaker
//! verification systems", Digital Signal Processing 10, 2000), here by median and quartiles, which the few versions
//! of the query's own work do not move.

use serde::{Deserialize, Serialize};

/// The largest transformed score: a cosine as near to 1 as 32-bit vectors allow.
pub const MAX_SPREAD: f64 = 8.0;
/// Minimum number of scores in a cohort.
pub const MIN_COHORT: usize = 50;
/// Distance of the quartiles of a standard normal distribution.
const QUARTILES: f64 = 1.349;

/// Computes Fisher's z of a cosine (the *spread score*), clamped to the range from -[`MAX_SPREAD`] to [`MAX_SPREAD`].
#[must_use]
pub fn spread(score: f64) -> f64 {
    score.clamp(-1.0, 1.0).atanh().clamp(-MAX_SPREAD, MAX_SPREAD)
}

/// Centre and width of the spread scores of one query with recordings of other works.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    /// Median of the scores.
    pub centre: f64,
    /// Distance of the quartiles, scaled to the standard deviation of a normal distribution.
    pub width: f64,
}

impl Cohort {
    /// Creates the cohort of a query's cosines with recordings, most of which are of other works; `None` for fewer
    /// than [`MIN_COHORT`].
    #[must_use]
    pub fn from_scores(scores: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut spread: Vec<f64> = scores.into_iter().map(spread).collect();
        if spread.len() < MIN_COHORT {
            return None;
        }
        spread.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| spread[(share * (spread.len() - 1) as f64).round() as usize];
        let width = ((at(0.75) - at(0.25)) / QUARTILES).max(1e-3);
        Some(Self { centre: at(0.5), width })
    }

    /// Returns the standardised score of a cosine: its distance from the centre in widths.
    #[must_use]
    pub fn standard(&self, score: f64) -> f64 {
        (spread(score) - self.centre) / self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_versions_of_the_querys_work_do_not_shift_the_cohort() {
        let others = (0..1000).map(|i| f64::from(i) / 2000.0 - 0.2);
        let plain = Cohort::from_scores(others.clone()).unwrap();
        let with_own = Cohort::from_scores(others.chain([0.95; 10])).unwrap();
        assert!((plain.centre - with_own.centre).abs() < 0.01 && (plain.width - with_own.width).abs() < 0.01);
        assert!(Cohort::from_scores([0.5; 49]).is_none());
        assert!(Cohort::from_scores([1.0; 50]).unwrap().standard(1.0).is_finite());
        assert_eq!((spread(1.0), spread(-1.0), spread(0.0)), (MAX_SPREAD, -MAX_SPREAD, 0.0));
    }
}
