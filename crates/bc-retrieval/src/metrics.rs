//! Figures over queries, their intervals, and what chance would give.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Policy, QueryResult, Unmatched};

/// The field's figures, means over queries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Queries in the figures.
    pub queries: usize,
    /// Mean average precision. Not a number under a policy that makes it so.
    #[serde(rename = "mAP")]
    pub map: f64,
    /// Mean rank of the first relevant candidate.
    #[serde(rename = "MR1")]
    pub mr1: f64,
    /// Mean reciprocal rank (from 1) of the first relevant candidate.
    #[serde(rename = "MRR")]
    pub mrr: f64,
    /// Share of queries whose nearest candidate is relevant.
    #[serde(rename = "hit@1")]
    pub hit_at_1: f64,
    /// Share of queries with a relevant candidate among the first ten.
    #[serde(rename = "hit@10")]
    pub hit_at_10: f64,
    /// Relevant candidates among the first ten / 10.
    #[serde(rename = "P@10")]
    pub p_at_10: f64,
    /// 100 x the share of the candidates that are not relevant above a relevant one.
    #[serde(rename = "NAR")]
    pub nar: f64,
}

/// Number of figures a query has.
const FIGURES: usize = 7;

/// One query's part of each mean, in the order of [`Metrics`]; none where it takes no part.
type Parts = [Option<f64>; FIGURES];

impl Metrics {
    /// Names of the figures, in order of [`Self::values`].
    pub const NAMES: [&str; FIGURES] = ["mAP", "MR1", "MRR", "hit@1", "hit@10", "P@10", "NAR"];

    /// The figures of these queries.
    ///
    /// # Errors
    /// When no query has a match, or one has none and the policy refuses that.
    pub fn of(results: &[QueryResult], policy: &Policy) -> Result<Self, Error> {
        let parts = parts(results, policy)?;
        let means = means(parts.iter());
        Ok(Self::from_values(parts.len(), means))
    }

    /// The figures in order of [`Self::NAMES`].
    #[must_use]
    pub fn values(&self) -> [f64; FIGURES] {
        [self.map, self.mr1, self.mrr, self.hit_at_1, self.hit_at_10, self.p_at_10, self.nar]
    }

    fn from_values(queries: usize, values: [f64; FIGURES]) -> Self {
        let [map, mr1, mrr, hit_at_1, hit_at_10, p_at_10, nar] = values;
        Self { queries, map, mr1, mrr, hit_at_1, hit_at_10, p_at_10, nar }
    }
}

fn parts(results: &[QueryResult], policy: &Policy) -> Result<Vec<Parts>, Error> {
    if results.iter().all(|result| result.ranks.is_empty()) {
        return Err(Error::NothingToMeasure);
    }
    let mut all = Vec::with_capacity(results.len());
    for result in results {
        if !result.ranks.is_empty() {
            all.push(matched(result, policy));
            continue;
        }
        let zero = Some(0.0);
        match policy.unmatched {
            Unmatched::LeftOut => {}
            Unmatched::Refused => return Err(Error::Unmatched { query: result.query }),
            Unmatched::Zero => all.push([zero, zero, zero, zero, zero, zero, None]),
            Unmatched::NotANumber => all.push([Some(f64::NAN), zero, zero, zero, zero, zero, None]),
            Unmatched::RankOne => all.push([None, Some(1.0), None, None, None, None, None]),
        }
    }
    Ok(all)
}

fn matched(result: &QueryResult, policy: &Policy) -> Parts {
    let first = f64::from(result.ranks[0]);
    let in_ten = result.ranks.iter().filter(|rank| **rank <= 10).count();
    let others = f64::from(result.candidates) - result.ranks.len() as f64;
    let above = result.ranks.iter().zip(1u32..).map(|(rank, found)| f64::from(rank - found));
    let nar =
        if others > 0.0 { 100.0 * above.sum::<f64>() / result.ranks.len() as f64 / others } else { 0.0 };
    [
        Some(result.average_precision()),
        Some(first - 1.0 + f64::from(policy.first_rank)),
        Some(1.0 / first),
        Some(f64::from(u8::from(first <= 1.0))),
        Some(f64::from(u8::from(first <= 10.0))),
        Some(in_ten as f64 / 10.0),
        Some(nar),
    ]
}

fn means<'a>(parts: impl Iterator<Item = &'a Parts>) -> [f64; FIGURES] {
    let mut sums = [0.0; FIGURES];
    let mut counts = [0u32; FIGURES];
    for part in parts {
        for (i, value) in part.iter().enumerate() {
            sums[i] += value.unwrap_or(0.0);
            counts[i] += u32::from(value.is_some());
        }
    }
    std::array::from_fn(|i| sums[i] / f64::from(counts[i]))
}

/// Bounds between which 95 % of the resampled means lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// Bootstrap intervals of the figures, in order of [`Metrics::NAMES`]: `samples` times as many
/// queries are drawn with replacement (percentile method; Efron 1979). The seed decides them.
///
/// # Errors
/// As [`Metrics::of`].
pub fn intervals(
    results: &[QueryResult],
    policy: &Policy,
    samples: u32,
    seed: u64,
) -> Result<[Interval; FIGURES], Error> {
    let parts = parts(results, policy)?;
    let drawn: Vec<[f64; FIGURES]> = (0..samples.max(1))
        .into_par_iter()
        .map(|sample| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(u64::from(sample));
            means((0..parts.len()).map(|_| &parts[random.random_range(0..parts.len())]))
        })
        .collect();
    Ok(std::array::from_fn(|figure| {
        let mut values: Vec<f64> = drawn.iter().map(|sample| sample[figure]).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        Interval { low: at(0.025), high: at(0.975) }
    }))
}

/// What a random order of the candidates would give on average, in closed form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// Expected mean average precision.
    #[serde(rename = "mAP")]
    pub map: f64,
    /// Expected mean rank of the first relevant candidate, from 1.
    #[serde(rename = "MR1")]
    pub mr1: f64,
    /// Expected share of queries whose nearest candidate is relevant.
    #[serde(rename = "hit@1")]
    pub hit_at_1: f64,
}

impl Chance {
    /// Over the queries that have a match. With r relevant of n candidates and a = (r-1)/(n-1):
    /// AP = a + (1-a) H_n / n, first rank (n+1)/(r+1), hit@1 r/n.
    #[must_use]
    pub fn of(results: &[QueryResult]) -> Self {
        let mut sums = [0.0; 3];
        let mut queries = 0u32;
        let mut harmonic = (0u32, 0.0);
        for result in results.iter().filter(|result| !result.ranks.is_empty()) {
            if harmonic.0 != result.candidates {
                harmonic = (result.candidates, (1..=result.candidates).map(|k| 1.0 / f64::from(k)).sum());
            }
            let (n, r) = (f64::from(result.candidates), result.ranks.len() as f64);
            let a = if n > 1.0 { (r - 1.0) / (n - 1.0) } else { 1.0 };
            sums[0] += a + (1.0 - a) * harmonic.1 / n;
            sums[1] += (n + 1.0) / (r + 1.0);
            sums[2] += r / n;
            queries += 1;
        }
        let [map, mr1, hit_at_1] = sums.map(|sum| sum / f64::from(queries));
        Self { map, mr1, hit_at_1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way 2 relevant candidates can lie among 5, averaged.
    #[test]
    fn chance_is_the_mean_over_all_orders() {
        let orders: Vec<QueryResult> = (1..=5)
            .flat_map(|a| {
                (a + 1..=5).map(move |b| QueryResult { query: 0, ranks: vec![a, b], candidates: 5 })
            })
            .collect();
        let exact = Metrics::of(&orders, &Policy::default()).unwrap();
        let chance = Chance::of(&orders);
        assert!((chance.map - exact.map).abs() < 1e-12);
        assert!((chance.mr1 - exact.mr1).abs() < 1e-12);
        assert!((chance.hit_at_1 - exact.hit_at_1).abs() < 1e-12);
    }

    #[test]
    fn intervals_hold_the_mean_and_repeat_with_the_seed() {
        let results: Vec<QueryResult> = (0..50)
            .map(|i| QueryResult { query: i, ranks: vec![1 + (i % 7) as u32], candidates: 49 })
            .collect();
        let policy = Policy::default();
        let first = intervals(&results, &policy, 200, 1).unwrap();
        let values = Metrics::of(&results, &policy).unwrap().values();
        for (interval, value) in first.iter().zip(values) {
            assert!(interval.low <= value && value <= interval.high);
        }
        assert!(first[0].low < first[0].high);
        assert_eq!(first, intervals(&results, &policy, 200, 1).unwrap());
        assert_ne!(first, intervals(&results, &policy, 200, 2).unwrap());
    }
}
