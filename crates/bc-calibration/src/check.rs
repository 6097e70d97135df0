//! Measures how accurate a calibration is on versions that it was not fitted on.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cohort::Cohort;
use crate::logistic::Curve;
use crate::posterior::{Evidence, UnexaminedWorks, posterior};
use crate::sizes::SizeQuery;
use crate::versions::{PairCounts, Versions};
use crate::{Calibration, EVEN_ODDS, EXACT_COPY};

/// The threshold probabilities, one per row of the tables.
const PROBABILITIES: [f64; 7] = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
/// Number of ranges of probabilities in the reliability table.
const ROWS: usize = 10;

/// The effect of accepting pairs whose probability is at least a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The threshold: a probability at even odds.
    pub probability: f64,
    /// The cosine that has this probability.
    pub score: f64,
    /// Share of the accepted pairs that are of one work, over all pairs of the split.
    pub precision: f64,
    /// Share of the pairs of one work that are accepted.
    pub recall: f64,
    /// Share of the pairs of two works that are accepted.
    pub false_alarms: f64,
}

impl Threshold {
    /// Formats score and precision for a table; a score above 1, which no cosine has, and an undefined precision are shown as such.
    #[must_use]
    pub fn cells(&self) -> [String; 2] {
        let score = if self.score > 1.0 { "above 1: never".to_owned() } else { format!("{:.4}", self.score) };
        let accepted = self.recall > 0.0 || self.false_alarms > 0.0;
        let precision = if accepted { format!("{:.1} %", 100.0 * self.precision) } else { "-".to_owned() };
        [score, precision]
    }
}

/// A row of the reliability table: pairs whose probabilities are in one range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower bound of the range.
    pub from: f64,
    /// Upper bound of the range.
    pub to: f64,
    /// Mean predicted probability of the pairs at even odds (`said` in the file).
    #[serde(rename = "said")]
    pub predicted: f64,
    /// Observed share of pairs of one work at even odds (`found` in the file): each kind of pair weighs one half in all.
    #[serde(rename = "found")]
    pub observed: f64,
    /// Number of pairs.
    pub pairs: usize,
    /// Weight of the pairs as a share of the weight of all pairs.
    pub weight: f64,
}

/// The results of a search when the first work is accepted at or above a probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The threshold, a probability with a prior of one half that the index has the work.
    pub probability: f64,
    /// Share of queries whose work is in the index and was accepted.
    pub right: f64,
    /// Share of queries whose work is in the index, but for which another work was accepted.
    pub wrong: f64,
    /// Share of queries whose work is in the index, but for which no work was accepted.
    pub missed: f64,
    /// Share of queries whose work is not in the index, but for which a work was accepted.
    pub accepted_without: f64,
}

/// The probabilities of pairs, weighted so that each kind of pair has one half of all weight.
pub(super) struct Scores {
    pairs: Vec<WeightedPair>,
}

struct WeightedPair {
    probability: f64,
    same_work: bool,
    weight: f64,
}

impl Scores {
    /// Computes the probabilities of pairs of one clique (`same`) and of two (`other`) from their spread scores.
    pub fn new(same: &[f64], other: &[f64], line: &Curve) -> Self {
        let pairs_of_kind = |scores: &[f64], same_work: bool| -> Vec<WeightedPair> {
            let weight = 0.5 / scores.len().max(1) as f64;
            let pair = |score: &f64| WeightedPair {
                probability: line.probability(*score, EVEN_ODDS),
                same_work,
                weight,
            };
            scores.iter().map(pair).collect()
        };
        let mut pairs = pairs_of_kind(same, true);
        pairs.extend(pairs_of_kind(other, false));
        Self { pairs }
    }

    /// Computes one row per threshold probability. `all` counts the pairs of the whole split, of which these may be a sample.
    pub fn thresholds(&self, line: &Curve, all: PairCounts) -> Vec<Threshold> {
        let count = |same_work: bool, threshold: f64| {
            let accepted =
                |pair: &&WeightedPair| pair.same_work == same_work && pair.probability >= threshold;
            self.pairs.iter().filter(accepted).count() as f64
        };
        let rows = PROBABILITIES.iter().map(|&probability| {
            let share = |same_work: bool| count(same_work, probability) / count(same_work, 0.0);
            let (recall, false_alarms) = (share(true), share(false));
            Threshold {
                probability,
                score: line.score(probability, EVEN_ODDS).tanh(),
                precision: all.precision(recall, false_alarms),
                recall,
                false_alarms,
            }
        });
        rows.collect()
    }

    /// Computes one row per range of probabilities that holds a pair.
    pub fn reliability(&self) -> Vec<ReliabilityBin> {
        let row_of = |probability: f64| ((probability * ROWS as f64) as usize).min(ROWS - 1);
        let rows = (0..ROWS).filter_map(|row| {
            let inside: Vec<_> = self.pairs.iter().filter(|pair| row_of(pair.probability) == row).collect();
            let weight: f64 = inside.iter().map(|pair| pair.weight).sum();
            let mean = |value: &dyn Fn(&WeightedPair) -> f64| {
                inside.iter().map(|pair| pair.weight * value(pair)).sum::<f64>() / weight
            };
            (!inside.is_empty()).then(|| ReliabilityBin {
                from: row as f64 / ROWS as f64,
                to: (row + 1) as f64 / ROWS as f64,
                predicted: mean(&|pair| pair.probability),
                observed: mean(&|pair| f64::from(u8::from(pair.same_work))),
                pairs: inside.len(),
                weight,
            })
        });
        rows.collect()
    }
}

/// Computes the weighted mean absolute difference of predicted and observed probabilities (the calibration error).
pub(super) fn error(rows: &[ReliabilityBin]) -> f64 {
    rows.iter().map(|row| row.weight * (row.predicted - row.observed).abs()).sum()
}

/// Computes the cohort-normalised scores of the pairs of one clique and of the pairs of two; both are empty if cohorts are too small.
pub(super) fn normalised_scores(versions: &Versions<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut same, mut other) = (Vec::new(), Vec::new());
    each_query(versions, |query, scores, cohort| {
        let Some(cohort) = cohort else { return };
        for (other_version, score) in
            scores.iter().enumerate().filter(|(other_version, _)| *other_version != query)
        {
            let same_clique = versions.cliques[other_version] == versions.cliques[query];
            if same_clique { &mut same } else { &mut other }.push(cohort.standard(*score));
        }
    })?;
    Ok((same, other))
}

/// Calls `each(query, scores with all versions, cohort)` for every version as the query.
fn each_query(versions: &Versions<'_>, mut each: impl FnMut(usize, &[f64], Option<&Cohort>)) -> Result<()> {
    versions.each_score(|query, scores| {
        let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
        let others = scores.iter().enumerate().filter(|(other_version, _)| *other_version != query);
        let cohort = Cohort::from_scores(others.map(|(_, score)| *score));
        each(query, &scores, cohort.as_ref());
    })
}

/// Computes log-likelihood ratios of the versions that have another version of their work: one query per version with the ratios
/// of its own work, and the ratios of all of them with other works.
pub(super) fn size_queries(
    versions: &Versions<'_>,
    calibration: &Calibration,
) -> Result<(Vec<SizeQuery>, Vec<f64>)> {
    let (mut queries, mut others) = (Vec::new(), Vec::new());
    each_query(versions, |query, scores, cohort| {
        let mut own = Vec::new();
        for (other_version, score) in
            scores.iter().enumerate().filter(|(other_version, _)| *other_version != query)
        {
            let ratio = calibration.log_ratio(*score, cohort);
            if versions.cliques[other_version] == versions.cliques[query] {
                own.push(ratio)
            } else {
                others.push(ratio)
            }
        }
        if !own.is_empty() {
            queries.push(SizeQuery { own, copy: calibration.log_ratio(EXACT_COPY, cohort) });
        }
    })?;
    Ok((queries, others))
}

/// The most probable work of one search.
struct BestWork {
    probability: f64,
    is_query_work: bool,
}

/// Computes the answers of a search for each threshold. Every version that has another version of its work is a query twice:
/// with its work in the index and without.
pub(super) fn answers(versions: &Versions<'_>, calibration: &Calibration) -> Result<Vec<Answers>> {
    // The best works of searches with and without the query's work in the index.
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let cliques = versions.clique_count();
    each_query(versions, |query, scores, cohort| {
        let own = versions.cliques[query] as usize;
        let mut works = vec![Evidence::default(); cliques];
        for (other, (score, clique)) in scores.iter().zip(&versions.cliques).enumerate() {
            if other != query {
                works[*clique as usize].ratios.push(calibration.log_ratio(*score, cohort));
            }
        }
        if works[own].ratios.is_empty() {
            return;
        }
        let add_best = |results: &mut Vec<BestWork>, left_out: Option<usize>| {
            let present: Vec<usize> = (0..works.len())
                .filter(|work| !works[*work].ratios.is_empty() && Some(*work) != left_out)
                .collect();
            let evidence: Vec<Evidence> = present.iter().map(|work| works[*work].clone()).collect();
            let probabilities =
                posterior(&evidence, UnexaminedWorks::default(), EVEN_ODDS).works.into_iter().zip(present);
            let best = probabilities.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            results
                .extend(best.map(|(probability, work)| BestWork { probability, is_query_work: work == own }));
        };
        add_best(&mut with, None);
        add_best(&mut without, Some(own));
    })?;
    let share = |results: &[BestWork], test: &dyn Fn(&BestWork) -> bool| {
        results.iter().filter(|best| test(best)).count() as f64 / results.len().max(1) as f64
    };
    let rows = PROBABILITIES.iter().map(|&threshold| Answers {
        probability: threshold,
        right: share(&with, &|best| best.probability >= threshold && best.is_query_work),
        wrong: share(&with, &|best| best.probability >= threshold && !best.is_query_work),
        missed: share(&with, &|best| best.probability < threshold),
        accepted_without: share(&without, &|best| best.probability >= threshold),
    });
    Ok(rows.collect())
}
