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

use crate::versions::Versions;

pub use check::{Answers, Reliability, Threshold};
pub use logistic::Line;
pub use posterior::{Posterior, posterior};

/// Kind and schema version of `calibration.json`.
pub const FORMAT: &str = "calibration/1";

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
    /// Pairs of one clique, and of two, that it was fitted on.
    pub fitted_pairs: (usize, usize),
    /// Split that the tables are of; the same one where there is no other.
    pub checked_on: Split,
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
    /// Embeddings without a pair of one clique and a pair of two in `val`; scores that do not
    /// tell them apart at all.
    pub fn of(path: &Path, embeddings: &Embeddings) -> Result<Self> {
        let fitted_on = Split::Val;
        let fitted = Versions::of(embeddings, fitted_on).sample();
        let (same, other) = by_kind(&fitted);
        ensure!(
            !same.is_empty() && !other.is_empty(),
            "{}: the split val has {} pairs of one clique and {} of two; a calibration needs both (see [eval] splits)",
            path.display(),
            same.len(),
            other.len()
        );
        let line = Line::fit(&same, &other);
        ensure!(
            line.slope > 0.0,
            "{}: versions of one clique score no higher than others in the split val; train the network first",
            path.display()
        );
        let test = Versions::of(embeddings, Split::Test).sample();
        let (of_one, of_two) = by_kind(&test);
        let (checked_on, versions, of_one, of_two) = if of_one.is_empty() || of_two.is_empty() {
            (fitted_on, &fitted, &same, &other)
        } else {
            (Split::Test, &test, &of_one, &of_two)
        };
        let checked = check::Scores::of(of_one, of_two, &line);
        let reliability = checked.reliability();
        Ok(Self {
            line,
            fitted_on,
            fitted_pairs: (same.len(), other.len()),
            checked_on,
            thresholds: checked.thresholds(&line),
            calibration_error: check::error(&reliability),
            reliability,
            answers: check::answers(versions, &line),
            provenance: Provenance {
                format: FORMAT.to_owned(),
                tool: bc_cli::tool!().to_owned(),
                settings: embeddings.provenance.settings.clone(),
                fingerprint: embeddings.provenance.fingerprint.clone(),
                inputs: embeddings.provenance.inputs.clone(),
            },
        })
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
            "Fitted on {} ({} pairs of one work, {} of two), checked on {}.\n\n\
             Pairs, accepted from a probability (at even odds) on:\n{thresholds}\n\
             Is the probability right? (at even odds; mean error {:.3})\n{reliability}\n\
             Search, every version once with its work in the index and once without:\n{answers}",
            self.fitted_on, self.fitted_pairs.0, self.fitted_pairs.1, self.checked_on, self.calibration_error
        )
    }
}

/// Scores of pairs of one clique, and of two.
fn by_kind(versions: &Versions<'_>) -> (Vec<f64>, Vec<f64>) {
    let (same, other): (Vec<_>, Vec<_>) = versions.pairs().into_iter().partition(|pair| pair.1);
    let scores = |pairs: Vec<(f32, bool)>| pairs.into_iter().map(|pair| f64::from(pair.0)).collect();
    (scores(same), scores(other))
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
