//! Calibrates scores: computes the probability that two recordings are versions of one work.
//!
//! **In**: embeddings with the split `val` (fitted on) and, where there is one, `test` (checked on). **Out**:
//! `calibration.json`, which bc-search reads. It holds curves from a score to the log-likelihood ratio ([`Curve`]), the tails of
//! both distributions, which distinguish copies from covers ([`kinds`]), precision and recall at thresholds, and the accuracy of
//! the probabilities on versions that were not used for fitting and in indexes of other sizes ([`SizeCheck`]).
//!
//! A separate crate, because bc-eval fits a calibration and bc-search uses it.

mod check;
mod cohort;
pub mod kinds;
mod logistic;
mod posterior;
mod sizes;
#[cfg(test)]
mod test_embeddings;
pub mod versions;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_formats::embeddings::Embeddings;
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;
use bc_formats::run::WindowComparison;
use comfy_table::Table;
use serde::{Deserialize, Serialize};

use crate::versions::{PairCounts, Versions};

pub use check::{Answers, ReliabilityBin, Threshold};
pub use cohort::{Cohort, MIN_COHORT, spread};
pub use kinds::{KindProbabilities, PairKind, Tail};
pub use logistic::{Curve, Line};
pub use posterior::{Evidence, Posterior, UnexaminedWorks, posterior};
pub use sizes::{ReliabilityRow, SizeCheck};

/// Kind and schema version of `calibration.json`.
pub const FORMAT: &str = "calibration/3";

/// Key in the settings of a calibration that records how recordings were compared ([`WindowComparison`]); absent for one vector
/// per recording.
pub const COMPARE: &str = "compare";

/// Minimum number of works with two versions or more for fitting a line. Works are counted and not pairs, because pairs of one work
/// are correlated. With fewer, lines fitted on different songs of one set differ too much (figures: docs/notes-eval.md).
pub const MIN_WORKS: usize = 10;

/// Share of the scores of pairs of one work, the highest ones, to which their tail is fitted.
const SAME_TAIL: f64 = 0.5;
/// Minimum score of an exact copy if vectors are stored as 8-bit numbers.
const EXACT_COPY: f64 = 0.9999;

/// Minimum probability, at even odds, at which two recordings, one of them of an unknown work, are taken to be of one work.
const SAME_WORK: f64 = 0.97;

/// Default prior probability that an index holds the work of a query. It is low because in a large index, scores of covers cannot
/// prove that there is none (docs/notes-eval.md): without evidence, the answer is the prior.
pub const SEARCH_PRIOR: f64 = 0.05;

/// A prior of one half, for the tables and as the default of commands.
pub const EVEN_ODDS: f64 = 0.5;

/// Returns the default path of the calibration of a file of embeddings.
#[must_use]
pub fn default_path(embeddings: &Path) -> PathBuf {
    embeddings.with_file_name("calibration.json")
}

/// The content of `calibration.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Maps a spread score ([`spread`]) to the log-likelihood ratio.
    pub line: Curve,
    /// Maps a cohort-normalised score ([`Cohort::standard`]) to the log-likelihood ratio; absent if the split is too small for
    /// cohorts.
    pub cohort_line: Option<Curve>,
    /// The upper tail of the spread scores of pairs of one work.
    pub same_tail: Tail,
    /// The upper tail of the spread scores of pairs of two works.
    pub other_tail: Tail,
    /// Split on which the lines were fitted.
    pub fitted_on: Split,
    /// Number of works with two versions or more on which the lines were fitted.
    pub fitted_works: usize,
    /// Number of pairs of one clique and of two on which the lines were fitted.
    pub fitted_pairs: PairCounts,
    /// Split on which the tables were computed; the fitted one if there is no other.
    pub checked_on: Split,
    /// Number of pairs on which the tables were computed: all pairs of the split, or those of a sample of its works.
    pub checked_pairs: PairCounts,
    /// Number of pairs of the whole split, over which precisions are computed.
    pub split_pairs: PairCounts,
    /// Number of works among which each search of `answers` chose.
    pub answers_among: usize,
    /// Precision and recall over pairs, by probability at even odds.
    pub thresholds: Vec<Threshold>,
    /// The share of pairs of one work in each range of predicted probabilities, at even odds.
    pub reliability: Vec<ReliabilityBin>,
    /// Weighted mean difference of the predicted probability and the observed share in `reliability`.
    pub calibration_error: f64,
    /// The answers of a search, with the work in the index and without it.
    pub answers: Vec<Answers>,
    /// Answers in indexes of other sizes, at [`SEARCH_PRIOR`].
    pub sizes: Vec<SizeCheck>,
    /// The program, inputs and settings that made the calibration.
    pub provenance: Provenance,
}

impl Calibration {
    /// Fits the lines on `val` and checks them on `test`.
    ///
    /// # Errors
    /// Embeddings with fewer than [`MIN_WORKS`] works of two versions or more in `val`; scores that do not
    /// tell them apart at all.
    pub fn from_embeddings(path: &Path, embeddings: &Embeddings) -> Result<Self> {
        let [val, test] = [Split::Val, Split::Test].map(|split| Versions::of_split(embeddings, split));
        Self::fit(path, &val, &test, &embeddings.provenance)
    }

    // Long: every step needs the results of the steps before it.
    /// Fits a calibration on `val` and checks it on `test`, or on `val` itself if `test` has too few works. `path` is named in
    /// errors; `provenance` is that of the scores.
    ///
    /// # Errors
    /// The errors of [`Calibration::from_embeddings`].
    pub fn fit(
        path: &Path,
        val: &Versions<'_>,
        test: &Versions<'_>,
        provenance: &Provenance,
    ) -> Result<Self> {
        let fitted_on = Split::Val;
        let fitted_works = val.repeated_cliques();
        ensure!(
            fitted_works >= MIN_WORKS,
            "{}: the split val has {fitted_works} works with two versions or more; a calibration needs at least \
             {MIN_WORKS}, because lines fitted on fewer differ too much from one set of songs to another (see [index] shares and [eval] splits)",
            path.display()
        );
        let fitted = val.sample();
        let (same, other) = by_kind(&fitted)?;
        let line = Curve::fit(&same, &other);
        ensure!(
            line.line.slope > 0.0,
            "{}: versions of one clique score no higher than others in the split val; train the network first",
            path.display()
        );
        let (same_standing, other_standing) = check::normalised_scores(&fitted)?;
        let cohort_line = (!same_standing.is_empty())
            .then(|| Curve::fit(&same_standing, &other_standing))
            .filter(|curve| curve.line.slope > 0.0);
        let (checked_on, whole) = if test.pair_counts().same > 0 && test.pair_counts().other > 0 {
            (Split::Test, test)
        } else {
            (fitted_on, val)
        };
        let checked = whole.sample();
        let (of_one, of_two) = by_kind(&checked)?;
        let scores = check::Scores::new(&of_one, &of_two, &line);
        let reliability = scores.reliability();
        let mut calibration = Self {
            line,
            cohort_line,
            same_tail: Tail::fit(&same, SAME_TAIL),
            other_tail: Tail::fit(&other, logistic::OTHER_TAIL),
            fitted_on,
            fitted_works,
            fitted_pairs: fitted.pair_counts(),
            checked_on,
            checked_pairs: checked.pair_counts(),
            split_pairs: whole.pair_counts(),
            answers_among: checked.distinct_cliques(),
            thresholds: scores.thresholds(&line, whole.pair_counts()),
            calibration_error: check::error(&reliability),
            reliability,
            answers: Vec::new(),
            sizes: Vec::new(),
            provenance: Provenance {
                format: FORMAT.to_owned(),
                tool: format!("bytecover {}", env!("CARGO_PKG_VERSION")),
                settings: provenance.settings.clone(),
                fingerprint: provenance.fingerprint.clone(),
                inputs: provenance.inputs.clone(),
            },
        };
        calibration.answers = check::answers(&checked, &calibration)?;
        let (queries, others) = check::size_queries(&checked, &calibration)?;
        calibration.sizes = sizes::check(&queries, &others, SEARCH_PRIOR);
        Ok(calibration)
    }

    /// Returns how the recordings were compared to give these scores; `None` for one vector per recording.
    ///
    /// # Errors
    /// Settings whose comparison cannot be understood.
    pub fn compare(&self) -> Result<Option<WindowComparison>> {
        match self.provenance.settings.get(COMPARE) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .with_context(|| format!("its {COMPARE} is {value}")),
        }
    }

    /// Returns the log-likelihood ratio of a cosine: how much likelier it is of two recordings of one work, copies included,
    /// than of two works. `cohort` is of the query's scores with other recordings.
    #[must_use]
    pub fn log_ratio(&self, score: f64, cohort: Option<&Cohort>) -> f64 {
        let cover = match (cohort, &self.cohort_line) {
            (Some(cohort), Some(line)) => line.log_ratio(cohort.standard(score)),
            _ => self.line.log_ratio(spread(score)),
        };
        let cover = cover + (1.0 - kinds::COPY_SHARE).ln();
        let spread = spread(score);
        let Some(copies) = kinds::ln_copy_density(spread) else { return cover };
        let copy = copies - self.other_tail.ln_density(spread) + kinds::COPY_SHARE.ln();
        let larger = cover.max(copy);
        larger + ((cover - larger).exp() + (copy - larger).exp()).ln()
    }

    /// Returns the probability of each kind for a pair with this score, if a share `prior` of all pairs is of one work.
    #[must_use]
    pub fn kinds(
        &self,
        score: f64,
        same_file: bool,
        cohort: Option<&Cohort>,
        prior: f64,
    ) -> KindProbabilities {
        let work = Evidence { ratios: vec![self.log_ratio(score, cohort)], same_file };
        let posterior = posterior(&[work], UnexaminedWorks::default(), prior);
        let same = posterior.works[0];
        let share = self.copy_share(score, same_file);
        KindProbabilities { same_audio: same * share, same_work: same * (1.0 - share), other: posterior.none }
    }

    /// Returns the share of copies among pairs of one work that have this score.
    #[must_use]
    pub fn copy_share(&self, score: f64, same_file: bool) -> f64 {
        if same_file {
            return 1.0;
        }
        let spread = spread(score);
        let Some(copies) = kinds::ln_copy_density(spread) else { return 0.0 };
        let copy = copies + kinds::COPY_SHARE.ln();
        let cover = self.same_tail.ln_density(spread) + (1.0 - kinds::COPY_SHARE).ln();
        1.0 / (1.0 + (cover - copy).exp())
    }

    /// Returns the minimum score at which two recordings of unknown works are taken to be of one work.
    #[must_use]
    pub fn same_work_score(&self) -> f64 {
        self.line.score(SAME_WORK, EVEN_ODDS).tanh()
    }

    /// Reads a calibration.
    ///
    /// # Errors
    /// A file that is absent or not a calibration.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path)
            .with_context(|| format!("cannot read {}; make it with `bc-eval calibrate`", path.display()))?;
        let read: Self = serde_json::from_slice(&text).with_context(|| {
            format!("{} is not a calibration; make it with `bc-eval calibrate`", path.display())
        })?;
        read.provenance.require_format(path, FORMAT)?;
        Ok(read)
    }

    /// Reads the calibration at `given`, which must exist, or the one at `usual`, if it exists.
    ///
    /// # Errors
    /// The errors of [`Calibration::read`].
    pub fn find(given: Option<&Path>, usual: &Path) -> Result<Option<(PathBuf, Self)>> {
        let path = given.unwrap_or(usual);
        if given.is_none() && !path.exists() {
            return Ok(None);
        }
        Ok(Some((path.to_owned(), Self::read(path)?)))
    }

    // Long: four tables, one after another.
    /// Formats the tables for reading: thresholds, reliability, and answers of a search.
    #[must_use]
    pub fn tables(&self) -> String {
        let percent = |value: f64| format!("{:.1} %", 100.0 * value);
        let mut thresholds = Table::new();
        thresholds.set_header(["probability", "score", "precision", "recall", "other pairs accepted"]);
        for row in &self.thresholds {
            let [score, precision] = row.cells();
            let [probability, recall, alarms] = [row.probability, row.recall, row.false_alarms].map(percent);
            thresholds.add_row([probability, score, precision, recall, alarms]);
        }
        let mut reliability = Table::new();
        reliability.set_header(["predicted", "mean predicted", "observed", "pairs"]);
        for row in &self.reliability {
            let range = format!("{:.0} to {:.0} %", 100.0 * row.from, 100.0 * row.to);
            reliability.add_row([
                range,
                percent(row.predicted),
                percent(row.observed),
                row.pairs.to_string(),
            ]);
        }
        let mut answers = Table::new();
        answers.set_header([
            "accepted from",
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
        let mut sizes = Table::new();
        sizes.set_header([
            "works in the index",
            "its work first",
            "none from 90 %, without it",
            "none, 9 of 10, without it",
            "exact copy, 99 of 100",
            "first work: predicted/observed",
            "error",
        ]);
        for row in &self.sizes {
            let reliability = row.reliability.iter().map(|row| {
                format!("{:.0}/{:.0} % ({})", 100.0 * row.predicted, 100.0 * row.observed, row.answers)
            });
            let [first, none, none_p10, copy_p1] =
                [row.first, row.none_without, row.none_p10, row.copy_p1].map(percent);
            let reliability = reliability.collect::<Vec<_>>().join(", ");
            sizes.add_row([
                row.works.to_string(),
                first,
                none,
                none_p10,
                copy_p1,
                reliability,
                format!("{:.4}", row.error),
            ]);
        }
        format!(
            "Fitted on {} ({} works; {} pairs of one work, {} of two), checked on {} ({} pairs of one work, {} of two).\n\n\
             Pairs, accepted at or above a probability (at even odds); precision over all {} pairs of one work and {} of two:\n\
             {thresholds}\n\
             Is the probability right? (at even odds; mean error {:.3})\n{reliability}\n\
             Search among {} works, every version once with its work in the index and once without:\n{answers}\n\
             Simulated indexes of other sizes, searched with a prior of {SEARCH_PRIOR}:\n{sizes}",
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

/// Computes the spread scores of the pairs of one clique, and those of the pairs of two.
fn by_kind(versions: &Versions<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (same, other): (Vec<_>, Vec<_>) = versions.pairs()?.into_iter().partition(|pair| pair.1);
    let spread = |pairs: Vec<(f32, bool)>| pairs.into_iter().map(|pair| spread(f64::from(pair.0))).collect();
    Ok((spread(same), spread(other)))
}

/// Checks that a prior is a probability, and returns it.
///
/// # Errors
/// A number that is not between 0 and 1.
pub fn check_prior(value: f64) -> Result<f64> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    bail!("a prior of {value} is not a probability; give one above 0 and below 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    /// `works` x 3 versions in `dim` dimensions around their works' directions, split alternately into val and test.
    fn embeddings(works: usize, noise: f64) -> Embeddings {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let dim = 24;
        let mut vectors = Vec::new();
        for _ in 0..works {
            let centre: Vec<f64> = (0..dim).map(|_| random.random::<f64>() - 0.5).collect();
            for _ in 0..3 {
                vectors.extend(
                    centre.iter().map(|value| (value + noise * (random.random::<f64>() - 0.5)) as f32),
                );
            }
        }
        test_embeddings::embeddings(dim, 3, vectors, |work| [Split::Val, Split::Test][work % 2])
    }

    #[test]
    fn probabilities_are_reliable_in_larger_indexes() {
        let calibration =
            Calibration::from_embeddings(Path::new("e.parquet"), &embeddings(120, 0.8)).unwrap();
        assert!(calibration.cohort_line.is_some());
        assert_eq!(calibration.sizes.iter().map(|row| row.works).max(), Some(1_000_000));
        for row in &calibration.sizes {
            assert!(row.error < 0.05, "{row:?}");
            assert!(row.copy_p1 >= 0.95, "{row:?}");
        }
        let large = calibration.sizes.iter().find(|row| row.works == 10_000).unwrap();
        assert!(large.none_without >= 0.9, "{large:?}");
        // Writing and reading it back changes nothing.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration.json");
        bc_formats::atomic::write_json(&path, &calibration).unwrap();
        assert_eq!(Calibration::read(&path).unwrap(), calibration);
    }

    #[test]
    fn copy_cover_and_other_work_get_different_kinds() {
        let calibration =
            Calibration::from_embeddings(Path::new("e.parquet"), &embeddings(120, 0.8)).unwrap();
        let kind = |score: f64, same_file: bool| {
            calibration.kinds(score, same_file, None, EVEN_ODDS).kind(same_file)
        };
        assert_eq!(kind(1.0, false), PairKind::NearIdentical);
        assert_eq!(kind(0.3, true), PairKind::SameAudio);
        assert_eq!(kind(0.93, false), PairKind::SameWork);
        assert_eq!(kind(0.0, false), PairKind::Other);
        let middle = calibration.line.score(0.5, EVEN_ODDS).tanh();
        assert_eq!(kind(middle, false), PairKind::Unsure);
        let kinds = calibration.kinds(0.99, false, None, EVEN_ODDS);
        assert!((kinds.same_audio + kinds.same_work + kinds.other - 1.0).abs() < 1e-9);
        // The nearer the likelier, over the whole range.
        let ratios: Vec<f64> =
            (-99..=100).map(|score| calibration.log_ratio(f64::from(score) / 100.0, None)).collect();
        assert!(ratios.is_sorted(), "{ratios:?}");
    }

    #[test]
    fn collapsed_network_reports_no_copies() {
        let mut narrow = embeddings(120, 0.8);
        // One direction in all of them.
        narrow.vectors.chunks_exact_mut(24).for_each(|row| row[0] += 30.0);
        let calibration = Calibration::from_embeddings(Path::new("e.parquet"), &narrow).unwrap();
        let highest = calibration.other_tail.from.tanh();
        assert!(highest > 0.99, "{highest}");
        assert_ne!(calibration.kinds(0.99, false, None, EVEN_ODDS).kind(false), PairKind::NearIdentical);
    }
}
