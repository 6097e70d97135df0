//! Logistic regression on one score: the log-likelihood ratio as a straight line.
//!
//! Platt, "Probabilistic outputs for support vector machines" (1999), with both classes weighted
//! equally, so that the line is the log-likelihood ratio and any prior can be applied later.

use serde::{Deserialize, Serialize};

use crate::kinds::Tail;

/// Share of the scores of pairs of two works that are in their upper tail, beyond which the line is bent.
pub(crate) const OTHER_TAIL: f64 = 0.01;
/// If at most this many scores of pairs of one work are above the bend, the rate of their tail is fitted to the upper half of
/// all their scores instead.
const MIN_TAIL_SCORES: usize = 5;

/// Maps a score to the log-likelihood ratio: a straight line, bent where scores of other works become rare.
///
/// The line is fitted where most pairs are. Extrapolated to higher scores, it may rise faster than scores of other works become
/// rare. The mean likelihood ratio of other works, which must be 1, would then be unbounded, and in a large index some other
/// work would always look certain. Therefore, beyond the highest hundredth of the scores of other works, the slope is the one
/// that the exponential tails of both distributions imply: the difference of their rates, and at most the slope of the line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The line below the bend.
    #[serde(flatten)]
    pub line: Line,
    /// The score at which the line is bent.
    pub bend: f64,
    /// Slope of the curve beyond the bend.
    pub beyond: f64,
}

impl Curve {
    /// Fits a curve to the scores of pairs of one work (`same`) and of two (`other`).
    #[must_use]
    pub fn fit(same: &[f64], other: &[f64]) -> Self {
        let line = Line::fit(same, other);
        let others = Tail::fit(other, OTHER_TAIL);
        let above: Vec<f64> =
            same.iter().filter(|score| **score > others.from).map(|score| score - others.from).collect();
        let same_rate = if above.len() > MIN_TAIL_SCORES {
            above.len() as f64 / above.iter().sum::<f64>().max(1e-9)
        } else {
            Tail::fit(same, 0.5).rate
        };
        let beyond = (others.rate - same_rate).clamp(0.05 * line.slope.max(0.0), line.slope.max(0.0));
        Self { line, bend: others.from, beyond }
    }

    /// Returns the log-likelihood ratio of a score.
    #[must_use]
    pub fn log_ratio(&self, score: f64) -> f64 {
        let above = (score - self.bend).max(0.0);
        self.line.log_ratio(score.min(self.bend)) + self.beyond * above
    }

    /// Returns the probability that a pair of this score is of one work, when `prior` of all pairs are.
    #[must_use]
    pub fn probability(&self, score: f64, prior: f64) -> f64 {
        probability(self.log_ratio(score), prior)
    }

    /// Returns the score at which the probability is `probability`.
    #[must_use]
    pub fn score(&self, probability: f64, prior: f64) -> f64 {
        let straight = self.line.score(probability, prior);
        if straight <= self.bend || self.beyond <= 0.0 {
            return straight;
        }
        self.bend + (straight - self.bend) * self.line.slope / self.beyond
    }
}

fn probability(log_ratio: f64, prior: f64) -> f64 {
    let odds = (log_ratio + (prior / (1.0 - prior)).ln()).exp();
    if odds.is_finite() { odds / (1.0 + odds) } else { 1.0 }
}

/// `ln(p(score | same work) / p(score | other works)) = slope * score + intercept`, where a score is a cosine on a scale without
/// bounds ([`crate::spread`]), or how far it stands out ([`crate::Cohort::standard`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Above 0 where a higher score speaks for the same work.
    pub slope: f64,
    /// The log ratio at score 0.
    pub intercept: f64,
}

impl Line {
    /// Returns the log-likelihood ratio of a score.
    #[must_use]
    pub fn log_ratio(&self, score: f64) -> f64 {
        self.slope * score + self.intercept
    }

    /// Returns the probability that a pair of this score is of one work, when `prior` of all pairs are.
    #[must_use]
    pub fn probability(&self, score: f64, prior: f64) -> f64 {
        probability(self.log_ratio(score), prior)
    }

    /// Returns the score at which the probability is `probability`.
    #[must_use]
    pub fn score(&self, probability: f64, prior: f64) -> f64 {
        let log_odds = (probability / (1.0 - probability)).ln() - (prior / (1.0 - prior)).ln();
        (log_odds - self.intercept) / self.slope
    }

    /// Fits the maximum-likelihood line by Newton's method. Both classes have weight 1/2; the targets are Platt's, so that classes
    /// that do not overlap still give a finite slope.
    #[must_use]
    pub fn fit(same: &[f64], other: &[f64]) -> Self {
        let (mean, deviation) = spread(same, other);
        let (n_same, n_other) = (same.len() as f64, other.len() as f64);
        let samples_of_class = |scores: &[f64], target: f64, weight: f64| -> Vec<Sample> {
            scores.iter().map(|score| Sample { x: (score - mean) / deviation, target, weight }).collect()
        };
        let mut samples = samples_of_class(same, (n_same + 1.0) / (n_same + 2.0), 0.5 / n_same);
        samples.extend(samples_of_class(other, 1.0 / (n_other + 2.0), 0.5 / n_other));

        let (mut slope, mut intercept) = (0.0, 0.0);
        for _ in 0..100 {
            let mut gradient = [0.0; 2];
            let mut curvature = [1e-9, 0.0, 1e-9];
            for &Sample { x, target, weight } in &samples {
                let p: f64 = 1.0 / (1.0 + f64::exp(-(slope * x + intercept)));
                let (residual, bend) = (weight * (p - target), weight * p * (1.0 - p));
                gradient = [gradient[0] + residual * x, gradient[1] + residual];
                curvature = [curvature[0] + bend * x * x, curvature[1] + bend * x, curvature[2] + bend];
            }
            let [a, b, d] = curvature;
            let determinant = a * d - b * b;
            let step = [
                (d * gradient[0] - b * gradient[1]) / determinant,
                (a * gradient[1] - b * gradient[0]) / determinant,
            ];
            // A long step of Newton's overshoots where the curve is flat.
            let length = step[0].hypot(step[1]);
            let share = (2.0 / length).min(1.0);
            slope -= share * step[0];
            intercept -= share * step[1];
            if length < 1e-10 {
                break;
            }
        }
        let slope = slope / deviation;
        Self { slope, intercept: intercept - slope * mean }
    }
}

/// A score of the regression.
struct Sample {
    /// The standardised score.
    x: f64,
    /// The probability of the same work that is fitted.
    target: f64,
    weight: f64,
}

/// Computes mean and standard deviation of all scores.
fn spread(same: &[f64], other: &[f64]) -> (f64, f64) {
    let all = || same.iter().chain(other);
    let count = all().count().max(1) as f64;
    let mean = all().sum::<f64>() / count;
    let variance = all().map(|score| (score - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fitted_ratio_of_two_normal_distributions_does_not_depend_on_sample_sizes() {
        // The log ratio of two normal distributions of standard deviation w around a and b is a line with slope
        // (a - b) / w^2 that is 0 midway between a and b.
        use rand::{RngExt, SeedableRng};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut bell = |count: usize, centre: f64, width: f64| -> Vec<f64> {
            let mut one = || {
                let (radius, angle) = (random.random::<f64>(), random.random::<f64>());
                centre + width * (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
            };
            (0..count).map(|_| one()).collect()
        };
        let line = Line::fit(&bell(20_000, 0.6, 0.1), &bell(4000, 0.3, 0.1));
        assert!(line.log_ratio(0.45).abs() < 0.2, "{line:?}");
        assert!((line.slope - 30.0).abs() < 1.5, "{line:?}");
    }

    #[test]
    fn mean_ratio_of_other_works_is_bounded_above_the_bend() {
        // Other works fall off with a rate of 3, one work with 1 from 2 on: up there the ratio rises by 2.
        let steps = |rate: f64, from: f64, count: usize| -> Vec<f64> {
            (0..count).map(|i| from - ((i as f64 + 0.5) / count as f64).ln() / rate).collect()
        };
        let (same, other) = (steps(1.0, 1.0, 2000), steps(3.0, 0.0, 100_000));
        let curve = Curve::fit(&same, &other);
        assert!((curve.beyond - 2.0).abs() < 0.2 || curve.beyond == curve.line.slope, "{curve:?}");
        let steep = Curve { line: Line { slope: 4.0, intercept: -4.0 }, ..curve };
        let mean = |log_ratio: &dyn Fn(f64) -> f64| {
            other.iter().map(|score| log_ratio(*score).exp()).sum::<f64>() / other.len() as f64
        };
        assert!(mean(&|score| curve.log_ratio(score)) < 3.0, "{}", mean(&|score| curve.log_ratio(score)));
        assert!(mean(&|score| steep.line.log_ratio(score)) > mean(&|score| steep.log_ratio(score)));
        for probability in [0.01, 0.5, 0.99, 0.999_999] {
            let score = curve.score(probability, 0.3);
            assert!((curve.probability(score, 0.3) - probability).abs() < 1e-9);
        }
    }

    #[test]
    fn separable_classes_give_a_finite_slope() {
        let line = Line::fit(&[0.9, 0.95, 0.99], &[0.1, 0.2, 0.15, 0.3]);
        assert!(line.slope.is_finite() && line.slope > 0.0, "{line:?}");
        assert!(line.probability(0.9, 0.5) > 0.7 && line.probability(0.2, 0.5) < 0.3);
        assert!(line.probability(0.6, 0.01) < line.probability(0.6, 0.5));
        let score = line.score(0.8, 0.1);
        assert!((line.probability(score, 0.1) - 0.8).abs() < 1e-9);
        assert_eq!(line.probability(1e9, 0.5), 1.0);
    }
}
