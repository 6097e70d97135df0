//! What a score means: the probability that two recordings are versions of one work.
//!
//! In: embeddings with the split `val` (fitted on) and, where there is one, `test` (checked on).
//! Out: `calibration.json`, which `search` and `compare` read: a line from the score to the
//! log-likelihood ratio ([`Line`]), precision and recall at thresholds, and how far the
//! probabilities are right on versions that were not fitted on.

mod check;
mod logistic;
mod posterior;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_formats::embeddings::Embeddings;
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;
use comfy_table::Table;
use serde::{Deserialize, Serialize};

use crate::versions::{PairCounts, Versions};

pub use check::{Answers, Reliability, Threshold};
pub use logistic::Line;
pub use posterior::{Evidence, Posterior, posterior};

/// Kind and schema version of `calibration.json`.
pub const FORMAT: &str = "calibration/2";

/// Works with two versions or more that a line is fitted on at least: pairs of one work rise and fall together, so it
/// is works that count. Below, lines fitted on other songs of one set differ too much (docs/notes-eval.md has the figures).
pub const LEAST_WORKS: usize = 10;

/// A score below this is never that of a copy. MP3 copies at 64 kbit/s score 0.99 and more, two works at most 0.59 by the
/// network of the project (docs/notes-eval.md).
const COPY_SCORE: f64 = 0.98;
/// Of the gap between the nearest two works and 1, a copy lies in this last part.
const COPY_GAP: f64 = 0.1;

/// The probability at even odds from which on two recordings, one of them of an unknown work, are taken to be of one.
const SAME_WORK: f64 = 0.97;

/// Even odds: the prior that tables use, and commands unless told otherwise.
pub const EVEN: f64 = 0.5;

/// Where the calibration of a file of embeddings lies unless told otherwise.
#[must_use]
pub fn beside(embeddings: &Path) -> PathBuf {
    embeddings.with_file_name("calibration.json")
}

/// What `calibration.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The log-likelihood ratio of a cosine.
    pub line: Line,
    /// Split that the line was fitted on.
    pub fitted_on: Split,
    /// Works with two versions or more that it was fitted on.
    pub fitted_works: usize,
    /// Pairs of one clique, and of two, that it was fitted on.
    pub fitted_pairs: PairCounts,
    /// The score from which on two recordings are taken to be the same one.
    pub copy_score: f64,
    /// Split that the tables are of; the same one where there is no other.
    pub checked_on: Split,
    /// Pairs that the tables were counted on: all of the split, or of a sample of its works.
    pub checked_pairs: PairCounts,
    /// Pairs of the whole split, which precisions are of.
    pub split_pairs: PairCounts,
    /// Works that a search of `answers` chose among.
    pub answers_among: usize,
    /// Precision and recall over pairs, by probability at even odds.
    pub thresholds: Vec<Threshold>,
    /// How often pairs of a probability are of one work, at even odds.
    pub reliability: Vec<Reliability>,
    /// Mean difference of the probability and the share of `reliability`, weighted.
    pub calibration_error: f64,
    /// The answers of a search, with the work in the index and without it.
    pub answers: Vec<Answers>,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl Calibration {
    /// Fits the line on `val` and checks it on `test`.
    ///
    /// # Errors
    /// Embeddings with fewer than [`LEAST_WORKS`] works of two versions or more in `val`; scores that do not
    /// tell them apart at all.
    pub fn of(path: &Path, embeddings: &Embeddings) -> Result<Self> {
        let fitted_on = Split::Val;
        let val = Versions::of(embeddings, fitted_on);
        let fitted_works = val.repeated_cliques();
        ensure!(
            fitted_works >= LEAST_WORKS,
            "{}: the split val has {fitted_works} works with two versions or more; a calibration takes {LEAST_WORKS} at \
             least, because lines fitted on fewer differ too much from songs to songs (see [index] shares and [eval] splits)",
            path.display()
        );
        let fitted = val.sample();
        let (same, other) = by_kind(&fitted)?;
        let line = Line::fit(&same, &other);
        ensure!(
            line.slope > 0.0,
            "{}: versions of one clique score no higher than others in the split val; train the network first",
            path.display()
        );
        let copy_score = copy_score(&other);
        let test = Versions::of(embeddings, Split::Test);
        let (checked_on, whole) = if test.pair_counts().same > 0 && test.pair_counts().other > 0 {
            (Split::Test, &test)
        } else {
            (fitted_on, &val)
        };
        let checked = whole.sample();
        let (of_one, of_two) = by_kind(&checked)?;
        let scores = check::Scores::of(&of_one, &of_two, &line);
        let reliability = scores.reliability();
        Ok(Self {
            line,
            fitted_on,
            fitted_works,
            fitted_pairs: fitted.pair_counts(),
            copy_score,
            checked_on,
            checked_pairs: checked.pair_counts(),
            split_pairs: whole.pair_counts(),
            answers_among: checked.distinct_cliques(),
            thresholds: scores.thresholds(&line, whole.pair_counts()),
            calibration_error: check::error(&reliability),
            reliability,
            answers: check::answers(&checked, &line, copy_score)?,
            provenance: Provenance {
                format: FORMAT.to_owned(),
                tool: bc_cli::tool!().to_owned(),
                settings: embeddings.provenance.settings.clone(),
                fingerprint: embeddings.provenance.fingerprint.clone(),
                inputs: embeddings.provenance.inputs.clone(),
            },
        })
    }

    /// The probability that a pair is of one work, when `prior` of all pairs are; a copy is nearly certain.
    #[must_use]
    pub fn probability(&self, score: f64, same_recording: bool, prior: f64) -> f64 {
        let work = Evidence { scores: vec![score], copy: same_recording || score >= self.copy_score };
        posterior(&self.line, &[work], prior).works[0]
    }

    /// The score from which on two recordings are taken to be of one work where that is not known.
    #[must_use]
    pub fn same_work_score(&self) -> f64 {
        self.line.score(SAME_WORK, EVEN)
    }

    /// Reads a calibration.
    ///
    /// # Errors
    /// A file that is absent or none.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path)
            .with_context(|| format!("cannot read {}; make it with `bc-eval calibrate`", path.display()))?;
        let read: Self = serde_json::from_slice(&text).with_context(|| {
            format!("{} is no calibration; make it with `bc-eval calibrate`", path.display())
        })?;
        read.provenance.expect_format(path, FORMAT)?;
        Ok(read)
    }

    /// The one at `given`, which must be there, or at `usual`, if it is.
    ///
    /// # Errors
    /// As [`Calibration::read`].
    pub fn find(given: Option<&Path>, usual: &Path) -> Result<Option<(PathBuf, Self)>> {
        let path = given.unwrap_or(usual);
        if given.is_none() && !path.exists() {
            return Ok(None);
        }
        Ok(Some((path.to_owned(), Self::read(path)?)))
    }

    /// For people: thresholds, reliability, and answers of a search.
    #[must_use]
    pub fn tables(&self) -> String {
        let percent = |value: f64| format!("{:.1} %", 100.0 * value);
        let mut thresholds = Table::new();
        thresholds.set_header(["probability", "score", "precision", "recall", "other pairs accepted"]);
        for row in &self.thresholds {
            let [score, precision] = row.in_words();
            let [probability, recall, alarms] = [row.probability, row.recall, row.false_alarms].map(percent);
            thresholds.add_row([probability, score, precision, recall, alarms]);
        }
        let mut reliability = Table::new();
        reliability.set_header(["probability said", "mean", "of one work", "pairs"]);
        for row in &self.reliability {
            let range = format!("{:.0} to {:.0} %", 100.0 * row.from, 100.0 * row.to);
            reliability.add_row([range, percent(row.said), percent(row.found), row.pairs.to_string()]);
        }
        let mut answers = Table::new();
        answers.set_header([
            "accept from",
            "right",
            "wrong work",
            "work missed",
            "accepted without the work",
        ]);
        for row in &self.answers {
            let cells = [row.right, row.wrong, row.missed, row.accepted_without].map(percent);
            let [right, wrong, missed, without] = cells;
            answers.add_row([percent(row.probability), right, wrong, missed, without]);
        }
        format!(
            "Fitted on {} ({} works; {} pairs of one work, {} of two), checked on {} ({} pairs of one work, {} of two).\n\n\
             Pairs, accepted from a probability (at even odds) on; precision over all {} pairs of one work and {} of two:\n\
             {thresholds}\n\
             Is the probability right? (at even odds; mean error {:.3})\n{reliability}\n\
             Search among {} works, every version once with its work in the index and once without:\n{answers}",
            self.fitted_on,
            self.fitted_works,
            self.fitted_pairs.same,
            self.fitted_pairs.other,
            self.checked_on,
            self.checked_pairs.same,
            self.checked_pairs.other,
            self.split_pairs.same,
            self.split_pairs.other,
            self.calibration_error,
            self.answers_among
        )
    }
}

/// Scores of pairs of one clique, and of two.
fn by_kind(versions: &Versions<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (same, other): (Vec<_>, Vec<_>) = versions.pairs()?.into_iter().partition(|pair| pair.1);
    let scores = |pairs: Vec<(f32, bool)>| pairs.into_iter().map(|pair| f64::from(pair.0)).collect();
    Ok((scores(same), scores(other)))
}

/// In the last part of the gap between the nearest two works and 1, and no less than [`COPY_SCORE`]: a network that puts
/// everything in one place knows no copies by their scores.
fn copy_score(other: &[f64]) -> f64 {
    let nearest = other.iter().copied().fold(-1.0, f64::max);
    (1.0 - COPY_GAP * (1.0 - nearest)).max(COPY_SCORE)
}

/// A prior that is a probability.
///
/// # Errors
/// A number that is not between 0 and 1.
pub fn prior(value: f64) -> Result<f64> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    bail!("a prior of {value} is no probability; give one above 0 and below 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_nearer_than_any_two_works() {
        assert_eq!(copy_score(&[0.1, 0.58, -0.2]), COPY_SCORE);
        // A network that puts everything in one place.
        let narrow = copy_score(&[0.99, 0.999]);
        assert!(narrow > 0.9998 && narrow < 1.0, "{narrow}");
    }
}
