//! Metrics over queries, their confidence intervals, and their expected values for a random order.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Policy, QueryResult, Unmatched};

/// The usual retrieval metrics, each a mean over queries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Number of queries that count.
    pub queries: usize,
    /// Mean average precision; NaN if a query has no match and the policy is [`Unmatched::NotANumber`](crate::Unmatched).
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
    /// Precision at 10: the number of relevant candidates among the first ten, divided by 10.
    #[serde(rename = "P@10")]
    pub p_at_10: f64,
    /// Normalised average rank, in per cent: the share of the irrelevant candidates that rank above a relevant one.
    #[serde(rename = "NAR")]
    pub nar: f64,
}

/// Number of metrics.
const METRICS: usize = 7;

/// One query's value of each metric, in the order of [`Metrics::NAMES`]; `None` where it does not count in the mean.
type QueryMetrics = [Option<f64>; METRICS];

impl Metrics {
    /// Names of the metrics, in the order of [`Self::values`].
    pub const NAMES: [&str; METRICS] = ["mAP", "MR1", "MRR", "hit@1", "hit@10", "P@10", "NAR"];

    /// Computes the metrics of these queries.
    ///
    /// # Errors
    /// When no query has a match, or one has none and the policy refuses that.
    pub fn from_results(results: &[QueryResult], policy: &Policy) -> Result<Self, Error> {
        let metrics_by_query = metrics_by_query(results, policy)?;
        let mut sums = Sums::default();
        metrics_by_query.iter().for_each(|(_, metrics)| sums.add(metrics));
        Ok(Self::from_values(metrics_by_query.len(), sums.means()))
    }

    /// Returns the metrics in the order of [`Self::NAMES`].
    #[must_use]
    pub fn values(&self) -> [f64; METRICS] {
        [self.map, self.mr1, self.mrr, self.hit_at_1, self.hit_at_10, self.p_at_10, self.nar]
    }

    fn from_values(queries: usize, values: [f64; METRICS]) -> Self {
        let [map, mr1, mrr, hit_at_1, hit_at_10, p_at_10, nar] = values;
        Self { queries, map, mr1, mrr, hit_at_1, hit_at_10, p_at_10, nar }
    }
}

/// Computes each query's metrics; returns them with the query's row. Queries that the policy leaves out are absent.
fn metrics_by_query(results: &[QueryResult], policy: &Policy) -> Result<Vec<(usize, QueryMetrics)>, Error> {
    if results.iter().all(|result| result.ranks.is_empty()) {
        return Err(Error::NothingToMeasure);
    }
    let mut all = Vec::with_capacity(results.len());
    for result in results {
        if !result.ranks.is_empty() {
            all.push((result.query, matched(result, policy)));
        } else if policy.unmatched == Unmatched::Refused {
            return Err(Error::Unmatched { query: result.query });
        } else if let Some(metrics) = unmatched(policy) {
            all.push((result.query, metrics));
        }
    }
    Ok(all)
}

/// Returns the values of a query without a match; `None` if it does not count as a query.
fn unmatched(policy: &Policy) -> Option<QueryMetrics> {
    let zero = Some(0.0);
    match policy.unmatched {
        Unmatched::LeftOut | Unmatched::Refused => None,
        Unmatched::Zero => Some([zero, zero, zero, zero, zero, zero, None]),
        Unmatched::NotANumber => Some([Some(f64::NAN), zero, zero, zero, zero, zero, None]),
        Unmatched::RankOne => Some([None, Some(1.0), None, None, None, None, None]),
    }
}

fn matched(result: &QueryResult, policy: &Policy) -> QueryMetrics {
    let first = f64::from(result.ranks[0]);
    let in_ten = result.ranks.iter().filter(|rank| **rank <= 10).count();
    let others = f64::from(result.candidates) - result.ranks.len() as f64;
    let wrong_above = result.ranks.iter().zip(1u32..).map(|(rank, number)| f64::from(rank - number));
    let nar = if others > 0.0 {
        100.0 * wrong_above.sum::<f64>() / result.ranks.len() as f64 / others
    } else {
        0.0
    };
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

/// Sums of metrics over queries, and the number of queries in each sum.
#[derive(Clone, Copy, Default)]
struct Sums {
    values: [f64; METRICS],
    counts: [u32; METRICS],
}

impl Sums {
    fn add(&mut self, metrics: &QueryMetrics) {
        for (i, value) in metrics.iter().enumerate() {
            self.values[i] += value.unwrap_or(0.0);
            self.counts[i] += u32::from(value.is_some());
        }
    }

    fn join(&mut self, other: &Self) {
        for i in 0..METRICS {
            self.values[i] += other.values[i];
            self.counts[i] += other.counts[i];
        }
    }

    fn means(&self) -> [f64; METRICS] {
        std::array::from_fn(|i| self.values[i] / f64::from(self.counts[i]))
    }
}

/// A 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5th percentile of the resampled means.
    pub low: f64,
    /// 97.5th percentile of the resampled means.
    pub high: f64,
}

/// Computes bootstrap intervals of the metrics, in the order of [`Metrics::NAMES`]. In each of `samples` rounds, as many cliques
/// as there are are drawn with replacement, each with all of its queries, because the results of queries of one clique are
/// correlated (the cluster bootstrap: Davison & Hinkley 1997, section 3.8; percentile method, Efron 1979). `cliques` holds the
/// clique number of each row of the queries. The same `seed` gives the same intervals.
///
/// # Errors
/// The errors of [`Metrics::from_results`]; a query beyond the rows of `cliques`.
pub fn intervals(
    results: &[QueryResult],
    cliques: &[u32],
    policy: &Policy,
    samples: u32,
    seed: u64,
) -> Result<[Interval; METRICS], Error> {
    let mut by_clique: BTreeMap<u32, Sums> = BTreeMap::new();
    for (query, metrics) in metrics_by_query(results, policy)? {
        let (expected, found) = (query + 1, cliques.len());
        let clique = cliques.get(query).ok_or(Error::Shape { what: "clique numbers", expected, found })?;
        by_clique.entry(*clique).or_default().add(&metrics);
    }
    let by_clique: Vec<Sums> = by_clique.into_values().collect();
    let drawn: Vec<[f64; METRICS]> = (0..samples.max(1))
        .into_par_iter()
        .map(|sample| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(u64::from(sample));
            let mut sums = Sums::default();
            for _ in 0..by_clique.len() {
                sums.join(&by_clique[random.random_range(0..by_clique.len())]);
            }
            sums.means()
        })
        .collect();
    Ok(std::array::from_fn(|figure| {
        let mut values: Vec<f64> = drawn.iter().map(|sample| sample[figure]).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        Interval { low: at(0.025), high: at(0.975) }
    }))
}

/// The expected metrics of a random order of the candidates, in closed form.
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
    /// Computes the expected metrics under the same rules as the measured ones. With r relevant ones among the n
    /// candidates that have no fixed rank and a = (r-1)/(n-1): AP = a + (1-a) H_n / n, first rank (n+1)/(r+1),
    /// hit@1 r/n. Queries without a match count as the policy says. Under
    /// [`OwnEntry::NearestDropped`](crate::OwnEntry) the query itself is taken to be the nearest.
    #[must_use]
    pub fn of(results: &[QueryResult], policy: &Policy) -> Self {
        let mut sums = Sums::default();
        let mut harmonic = (0u32, 0.0);
        for result in results {
            let metrics = if result.ranks.is_empty() {
                unmatched(policy)
            } else {
                let n = result.candidates - result.always_last;
                if harmonic.0 != n {
                    harmonic = (n, (1..=n).map(|k| 1.0 / f64::from(k)).sum());
                }
                let (n, r) = (f64::from(n), result.ranks.len() as f64);
                let a = if n > 1.0 { (r - 1.0) / (n - 1.0) } else { 1.0 };
                let first = (n + 1.0) / (r + 1.0) - 1.0 + f64::from(policy.first_rank);
                let precision = a + (1.0 - a) * harmonic.1 / n;
                Some([Some(precision), Some(first), None, Some(r / n), None, None, None])
            };
            if let Some(metrics) = metrics {
                sums.add(&metrics);
            }
        }
        let [map, mr1, _, hit_at_1, ..] = sums.means();
        Self { map, mr1, hit_at_1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(query: usize, ranks: &[u32], candidates: u32) -> QueryResult {
        QueryResult { query, ranks: ranks.to_vec(), candidates, always_last: 0 }
    }

    /// Averages all positions of 2 relevant candidates among 5, with a query that has no match.
    #[test]
    fn chance_is_the_mean_over_all_orders_under_every_policy() {
        for name in Policy::NAMES {
            let policy = Policy::named(name).unwrap();
            let last = u32::from(policy.own_entry == crate::OwnEntry::Last);
            let pairs = (1..=5).flat_map(|a| (a + 1..=5).map(move |b| vec![a, b]));
            let mut orders: Vec<QueryResult> = pairs
                .map(|ranks| QueryResult { query: 0, ranks, candidates: 5 + last, always_last: last })
                .collect();
            if policy.unmatched != Unmatched::Refused {
                orders.push(QueryResult { query: 1, ranks: vec![], candidates: 5 + last, always_last: last });
            }
            let exact = Metrics::from_results(&orders, &policy).unwrap();
            let chance = Chance::of(&orders, &policy);
            assert_eq!(chance.map.is_nan(), exact.map.is_nan(), "{name}");
            assert!(exact.map.is_nan() || (chance.map - exact.map).abs() < 1e-12, "{name}");
            assert!((chance.mr1 - exact.mr1).abs() < 1e-12, "{name}: {} and {}", chance.mr1, exact.mr1);
            assert!((chance.hit_at_1 - exact.hit_at_1).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn intervals_hold_the_mean_and_repeat_with_the_seed() {
        let results: Vec<QueryResult> = (0..50).map(|i| result(i, &[1 + (i % 7) as u32], 49)).collect();
        let cliques: Vec<u32> = (0..50).collect();
        let policy = Policy::default();
        let first = intervals(&results, &cliques, &policy, 200, 1).unwrap();
        let values = Metrics::from_results(&results, &policy).unwrap().values();
        for (interval, value) in first.iter().zip(values) {
            assert!(interval.low <= value && value <= interval.high);
        }
        assert!(first[0].low < first[0].high);
        assert_eq!(first, intervals(&results, &cliques, &policy, 200, 1).unwrap());
        assert_ne!(first, intervals(&results, &cliques, &policy, 200, 2).unwrap());
        assert!(intervals(&results, &cliques[1..], &policy, 200, 1).is_err());
    }

    /// 20 cliques of 9 queries with equal results: 20 results are independent, not 180, so the interval is
    /// that of 20 queries, three times as wide as that of 180.
    #[test]
    fn queries_of_a_clique_are_drawn_together() {
        let rank = |clique: usize| if clique.is_multiple_of(2) { 1 } else { 10 };
        let policy = Policy::default();
        let wide: Vec<QueryResult> = (0..180).map(|i| result(i, &[rank(i / 9)], 179)).collect();
        let few: Vec<QueryResult> = (0..20).map(|i| result(i, &[rank(i)], 179)).collect();
        let in_cliques: Vec<u32> = (0..180).map(|i| i / 9).collect();
        let alone: Vec<u32> = (0..20).collect();
        let [together, ..] = intervals(&wide, &in_cliques, &policy, 2000, 3).unwrap();
        let [expected, ..] = intervals(&few, &alone, &policy, 2000, 3).unwrap();
        let width = |interval: Interval| interval.high - interval.low;
        assert!((width(together) / width(expected) - 1.0).abs() < 0.1, "{together:?}, {expected:?}");
    }
}
