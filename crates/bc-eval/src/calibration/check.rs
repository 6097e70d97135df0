//! How far a calibration is right on versions that it was not fitted on.

use serde::{Deserialize, Serialize};

use super::EVEN;
use super::logistic::Line;
use super::posterior::posterior;
use crate::versions::Versions;

/// Probabilities at which tables look.
const PROBABILITIES: [f64; 7] = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
/// Rows of the reliability table.
const ROWS: usize = 10;

/// What accepting pairs from a probability on means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The probability at even odds.
    pub probability: f64,
    /// The cosine that has it.
    pub score: f64,
    /// Share of the accepted pairs that are of one work, as often as the split has them.
    pub precision: f64,
    /// Share of the pairs of one work that are accepted.
    pub recall: f64,
    /// Share of the pairs of two works that are accepted.
    pub false_alarms: f64,
}

impl Threshold {
    /// Score and precision for people: a cosine is at most 1, and of nothing accepted nothing is right or wrong.
    #[must_use]
    pub fn in_words(&self) -> [String; 2] {
        let score = if self.score > 1.0 { "above 1: never".to_owned() } else { format!("{:.4}", self.score) };
        let accepted = self.recall > 0.0 || self.false_alarms > 0.0;
        let precision = if accepted { format!("{:.1} %", 100.0 * self.precision) } else { "-".to_owned() };
        [score, precision]
    }
}

/// Pairs with nearly the same probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Lower bound.
    pub from: f64,
    /// Upper bound.
    pub to: f64,
    /// Their mean probability at even odds.
    pub said: f64,
    /// The share that is of one work at even odds: each kind of pair weighs one half in all.
    pub found: f64,
    /// Number of pairs.
    pub pairs: usize,
    /// Their share of all weight.
    pub weight: f64,
}

/// What a search answers when the first work is accepted from a probability on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The probability, at even odds that the index has the work.
    pub probability: f64,
    /// With the work in the index: it was accepted.
    pub right: f64,
    /// With the work in the index: another was accepted.
    pub wrong: f64,
    /// With the work in the index: none was accepted.
    pub missed: f64,
    /// Without the work in the index: another was accepted.
    pub accepted_without: f64,
}

/// Scores and probabilities of pairs.
pub(super) struct Scores {
    /// Probability, whether of one work, weight.
    points: Vec<(f64, bool, f64)>,
}

impl Scores {
    /// Of pairs of one clique, and of two.
    pub fn of(same: &[f64], other: &[f64], line: &Line) -> Self {
        let class = |scores: &[f64], one: bool| -> Vec<(f64, bool, f64)> {
            let weight = 0.5 / scores.len().max(1) as f64;
            scores.iter().map(|score| (line.probability(*score, EVEN), one, weight)).collect()
        };
        let mut points = class(same, true);
        points.extend(class(other, false));
        Self { points }
    }

    pub fn thresholds(&self, line: &Line) -> Vec<Threshold> {
        let of = |one: bool, least: f64| {
            self.points.iter().filter(|point| point.1 == one && point.0 >= least).count() as f64
        };
        let rows = PROBABILITIES.iter().map(|&probability| {
            let (right, wrong) = (of(true, probability), of(false, probability));
            Threshold {
                probability,
                score: line.score(probability, EVEN),
                // Nothing accepted is nothing wrong.
                precision: if right + wrong > 0.0 { right / (right + wrong) } else { 1.0 },
                recall: right / of(true, 0.0),
                false_alarms: wrong / of(false, 0.0),
            }
        });
        rows.collect()
    }

    pub fn reliability(&self) -> Vec<Reliability> {
        let place = |probability: f64| ((probability * ROWS as f64) as usize).min(ROWS - 1);
        let rows = (0..ROWS).filter_map(|row| {
            let inside: Vec<_> = self.points.iter().filter(|point| place(point.0) == row).collect();
            let weight: f64 = inside.iter().map(|point| point.2).sum();
            let mean = |value: &dyn Fn(&(f64, bool, f64)) -> f64| {
                inside.iter().map(|point| point.2 * value(point)).sum::<f64>() / weight
            };
            (!inside.is_empty()).then(|| Reliability {
                from: row as f64 / ROWS as f64,
                to: (row + 1) as f64 / ROWS as f64,
                said: mean(&|point| point.0),
                found: mean(&|point| f64::from(u8::from(point.1))),
                pairs: inside.len(),
                weight,
            })
        });
        rows.collect()
    }
}

/// Mean difference of what was said and found, by weight.
pub(super) fn error(rows: &[Reliability]) -> f64 {
    rows.iter().map(|row| row.weight * (row.said - row.found).abs()).sum()
}

/// Every version that has another of its work asks twice: with its work in the index and without.
pub(super) fn answers(versions: &Versions<'_>, line: &Line) -> Vec<Answers> {
    // The accepted probability, and whether it was the right work; with and without the work.
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for query in 0..versions.len() {
        let clique = |row: usize| versions.labels[row].clique_id.as_str();
        let own = clique(query);
        let others: Vec<(&str, f64)> = (0..versions.len())
            .filter(|other| *other != query)
            .map(|other| (clique(other), f64::from(versions.score(query, other))))
            .collect();
        let rest: Vec<(&str, f64)> = others.iter().filter(|other| other.0 != own).copied().collect();
        if rest.len() == others.len() || rest.is_empty() {
            continue;
        }
        for (scores, found) in [(&others, &mut with), (&rest, &mut without)] {
            let works = posterior(line, scores, EVEN).works;
            let best = works.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(a.0)));
            found.extend(best.map(|(clique, probability)| (probability, clique == own)));
        }
    }
    let share = |found: &[(f64, bool)], test: &dyn Fn(&(f64, bool)) -> bool| {
        found.iter().filter(|answer| test(answer)).count() as f64 / found.len().max(1) as f64
    };
    let rows = PROBABILITIES.iter().map(|&least| Answers {
        probability: least,
        right: share(&with, &|answer| answer.0 >= least && answer.1),
        wrong: share(&with, &|answer| answer.0 >= least && !answer.1),
        missed: share(&with, &|answer| answer.0 < least),
        accepted_without: share(&without, &|answer| answer.0 >= least),
    });
    rows.collect()
}
