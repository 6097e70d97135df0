//! Checks whether probabilities are right in indexes of other sizes than the one they were fitted on.
//!
//! Indexes of any number of works are simulated from measured scores: a version's scores with the others of its own
//! work are those measured; its scores with other works are drawn from the measured distribution and, above its highest
//! hundredth, from the exponential that continues it. Each version is a query twice: with its work in the index and without.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::kinds::Tail;
use crate::logistic::OTHER_TAIL;
use crate::posterior::{Evidence, UnexaminedWorks, posterior};

/// Numbers of works of the simulated indexes.
const SIZES: [u64; 5] = [100, 1000, 10_000, 100_000, 1_000_000];
/// Bounds of the ranges of probabilities in a reliability table.
const BOUNDS: [f64; 7] = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0];
/// Maximum number of queries.
const MAX_QUERIES: usize = 300;
/// Minimum probability of "no work" at which a search counts as answering that the work is absent.
const MIN_NONE: f64 = 0.9;

/// The scores of one query, as log-likelihood ratios.
pub(crate) struct SizeQuery {
    /// Ratios of the query with the other versions of its work.
    pub own: Vec<f64>,
    /// Ratio of the query with a copy of itself that is stored as 8-bit numbers.
    pub copy: f64,
}

/// A row of a reliability table: answers whose first work has a probability in one range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityRow {
    /// Mean predicted probability of the first work (`said` in the file).
    #[serde(rename = "said")]
    pub predicted: f64,
    /// Observed share of answers whose first work is the right one (`found` in the file).
    #[serde(rename = "found")]
    pub observed: f64,
    /// Number of answers.
    pub answers: usize,
}

/// The answers of searches in a simulated index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SizeCheck {
    /// Number of works in the index, with one recording each.
    pub works: u64,
    /// Prior probability that the index holds the query's work.
    pub prior: f64,
    /// With the work in the index: share of queries for which it comes first.
    pub first: f64,
    /// Without the work in the index: share of queries whose answer is "none" with a probability of at least 0.9.
    pub none_without: f64,
    /// Without the work in the index: 10th percentile of the probability of "none" (`least_none_without` in the file).
    #[serde(rename = "least_none_without")]
    pub none_p10: f64,
    /// 1st percentile of the probability of the work of an exact copy (`least_of_copy` in the file).
    #[serde(rename = "least_of_copy")]
    pub copy_p1: f64,
    /// One row per range of the first work's probability; answers are weighted by the prior.
    pub reliability: Vec<ReliabilityRow>,
    /// Weighted mean absolute difference of predicted and observed probabilities.
    pub error: f64,
}

/// Checks `queries` against other works whose log-likelihood ratios are `others`.
pub(crate) fn check(queries: &[SizeQuery], others: &[f64], prior: f64) -> Vec<SizeCheck> {
    if queries.is_empty() || others.is_empty() {
        return Vec::new();
    }
    let tail = Tail::fit(others, OTHER_TAIL);
    let below: Vec<f64> = others.iter().copied().filter(|ratio| *ratio <= tail.from).collect();
    let mean_below = below.iter().map(|ratio| ratio.exp()).sum::<f64>() / below.len().max(1) as f64;
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let step = queries.len().div_ceil(MAX_QUERIES);
    let queries: Vec<&SizeQuery> = queries.iter().step_by(step).collect();
    SIZES.iter().map(|works| check_size(&queries, &tail, mean_below, *works, prior, &mut random)).collect()
}

/// The answer of one search.
struct Answer {
    /// Probability of the first work.
    probability: f64,
    /// Whether the first work is the query's work.
    right: bool,
    weight: f64,
}

fn check_size(
    queries: &[&SizeQuery],
    tail: &Tail,
    mean_below: f64,
    works: u64,
    prior: f64,
    random: &mut ChaCha8Rng,
) -> SizeCheck {
    let (mut answers, mut none, mut copies): (Vec<Answer>, Vec<f64>, Vec<f64>) = Default::default();
    for query in queries {
        let others = draw_tail(tail, works - 1, random);
        let rest = UnexaminedWorks { works: works - 1 - others.len() as u64, mean_ratio: mean_below };
        let evidence = |ratios: &[f64]| Evidence { ratios: ratios.to_vec(), same_file: false };
        let mut all: Vec<Evidence> = others.iter().map(|ratio| evidence(&[*ratio])).collect();
        let without = posterior(&all, rest, prior);
        none.push(without.none);
        let (_, probability) = best(&without.works);
        answers.push(Answer { probability, right: false, weight: 1.0 - prior });
        all.push(evidence(&query.own));
        let with = posterior(&all, rest, prior);
        let (first, probability) = best(&with.works);
        answers.push(Answer { probability, right: first == others.len(), weight: prior });
        all.pop();
        all.push(evidence(&[query.copy]));
        copies.push(posterior(&all, rest, prior).works[others.len()]);
    }
    let reliability = reliability(&answers);
    let total: f64 = answers.iter().map(|answer| answer.weight).sum();
    let error =
        rows(&answers).map(|(row, weight)| weight / total * (row.predicted - row.observed).abs()).sum();
    SizeCheck {
        works,
        prior,
        first: answers.iter().filter(|answer| answer.right).count() as f64 / queries.len() as f64,
        none_without: none.iter().filter(|none| **none >= MIN_NONE).count() as f64 / none.len() as f64,
        none_p10: quantile(&mut none, 0.1),
        copy_p1: quantile(&mut copies, 0.01),
        reliability,
        error,
    }
}

/// Draws the log-likelihood ratios of those of `works` other works that are in the tail.
fn draw_tail(tail: &Tail, works: u64, random: &mut impl Rng) -> Vec<f64> {
    let mean = tail.share * works as f64;
    // The binomial by its normal approximation, which is near enough from some dozens on.
    let (radius, angle) = (random.random::<f64>(), random.random::<f64>());
    let normal = (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
    let count = (mean + normal * mean.sqrt()).round().clamp(0.0, works as f64) as usize;
    (0..count).map(|_| tail.from - (1.0 - random.random::<f64>()).ln() / tail.rate).collect()
}

/// Returns index and probability of the most probable work.
fn best(works: &[f64]) -> (usize, f64) {
    let best = works.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or((0, 0.0), |(index, probability)| (index, *probability))
}

fn reliability(answers: &[Answer]) -> Vec<ReliabilityRow> {
    rows(answers).map(|(row, _)| row).collect()
}

/// Computes the rows of a reliability table that hold an answer, each with the weight of its answers.
fn rows(answers: &[Answer]) -> impl Iterator<Item = (ReliabilityRow, f64)> {
    BOUNDS.windows(2).filter_map(|bounds| {
        let top = if bounds[1] == 1.0 { 2.0 } else { bounds[1] };
        let inside: Vec<&Answer> = answers
            .iter()
            .filter(|answer| answer.probability >= bounds[0] && answer.probability < top)
            .collect();
        let weight: f64 = inside.iter().map(|answer| answer.weight).sum();
        let mean = |value: &dyn Fn(&Answer) -> f64| {
            inside.iter().map(|answer| answer.weight * value(answer)).sum::<f64>() / weight
        };
        let row = || ReliabilityRow {
            predicted: mean(&|answer| answer.probability),
            observed: mean(&|answer| f64::from(u8::from(answer.right))),
            answers: inside.len(),
        };
        (!inside.is_empty()).then(|| (row(), weight))
    })
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[(share * (values.len() - 1) as f64).floor() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratios of scores from two normal distributions of width 1 whose means differ by `difference`: the true ratio is known.
    fn normal_scores(difference: f64) -> (Vec<SizeQuery>, Vec<f64>) {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut bell = || {
            let (radius, angle) = (random.random::<f64>(), random.random::<f64>());
            (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
        };
        let ratio = |score: f64| difference * score - difference * difference / 2.0;
        let queries =
            (0..300).map(|_| SizeQuery { own: vec![ratio(difference + bell())], copy: 60.0 }).collect();
        (queries, (0..50_000).map(|_| ratio(bell())).collect())
    }

    #[test]
    fn true_ratios_have_small_errors_and_overconfident_ones_large() {
        let (queries, others) = normal_scores(4.0);
        let right = check(&queries, &others, 0.5);
        assert_eq!(right.iter().map(|row| row.works).collect::<Vec<_>>(), SIZES);
        // An exponential falls slower than a normal distribution: far out the check is stricter than necessary.
        for row in right.iter().filter(|row| row.works <= 1000) {
            assert!(row.error < 0.1, "{row:?}");
            assert!(row.copy_p1 > 0.99, "{row:?}");
        }
        assert!(right.windows(2).all(|pair| pair[0].first >= pair[1].first), "{right:?}");
        // Twice as sure as the scores allow.
        let double = |ratio: &f64| 2.0 * ratio + 3.0;
        let too_sure: Vec<SizeQuery> = queries
            .iter()
            .map(|query| SizeQuery { own: query.own.iter().map(double).collect(), copy: query.copy })
            .collect();
        let others: Vec<f64> = others.iter().map(double).collect();
        let wrong = check(&too_sure, &others, 0.5);
        assert!(wrong[1].error > right[1].error + 0.15, "{:?}", wrong[1]);
    }
}
