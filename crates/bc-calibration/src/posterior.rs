//! Computes the probability of each work of an index, and of none, from the scores of its recordings.

/// Odds of a work that has the query's own file (by content) against all other works together, whatever the index's size.
const SAME_FILE: f64 = 1e4;

/// The evidence that the query is a version of one work.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Log-likelihood ratios of the work's versions ([`crate::Calibration::log_ratio`]).
    pub ratios: Vec<f64>,
    /// Whether one of the work's versions is the query's own file.
    pub same_file: bool,
}

impl Evidence {
    /// Returns the combined evidence of all versions, as a log-likelihood ratio.
    #[must_use]
    pub fn log_ratio(&self) -> f64 {
        combined(&self.ratios)
    }
}

/// The works of an index that were not examined individually.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UnexaminedWorks {
    /// Number of works.
    pub works: u64,
    /// Mean of their likelihood ratios.
    pub mean_ratio: f64,
}

/// The probabilities of the works of an index for one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    /// The probability that the query is a version of the work, in the order of the works.
    pub works: Vec<f64>,
    /// The probability that the query is not a version of any work of the index, examined or not.
    pub none: f64,
}

/// Computes the posterior probabilities. A priori the query is a version of a work of the index with probability `prior`, and all
/// works are equally likely. Works exclude each other, so recordings that may be of one work must be one entry. `rest` describes
/// the other works of the index, which take their share of the prior: the more there are, the higher a work's ratio must be.
///
/// How the evidence of a work's n versions combines is uncertain. If all of them are evidence, though not independent, the
/// log-likelihood ratio is their sum over sqrt(n), between the sums for independent and for identical evidence. If only one
/// is (a copy of one recording is similar to that one only), the likelihood ratio is the mean of theirs. Both cases are given
/// the same weight; docs/notes-eval.md has the figures for this and other rules.
#[must_use]
pub fn posterior(works: &[Evidence], rest: UnexaminedWorks, prior: f64) -> Posterior {
    let count = (works.len() as f64 + rest.works as f64).max(1.0);
    let ratio = |work: &Evidence| {
        let combined = work.log_ratio();
        if work.same_file { combined.max((SAME_FILE * count).ln() - prior.ln()) } else { combined }
    };
    let ratios: Vec<f64> = works.iter().map(ratio).collect();
    // Relative to the largest, so that none overflows.
    let largest = ratios.iter().copied().fold(0.0, f64::max);
    let share = prior / count;
    let none = (1.0 - prior) * (-largest).exp();
    let others = share * rest.works as f64 * rest.mean_ratio * (-largest).exp();
    let mut works: Vec<f64> = ratios.into_iter().map(|ratio| share * (ratio - largest).exp()).collect();
    let total = none + others + works.iter().sum::<f64>();
    works.iter_mut().for_each(|value| *value /= total);
    Posterior { works, none: none / total }
}

/// Combines the log-likelihood ratios of a work's versions into that of the work; see [`posterior`].
fn combined(versions: &[f64]) -> f64 {
    if versions.is_empty() {
        return f64::NEG_INFINITY;
    }
    let count = versions.len() as f64;
    let largest = versions.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let one = largest + (versions.iter().map(|ratio| (ratio - largest).exp()).sum::<f64>() / count).ln();
    let all = versions.iter().sum::<f64>() / count.sqrt();
    let more = one.max(all);
    more + (0.5 * (one - more).exp() + 0.5 * (all - more).exp()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_versions_or_one_near_version_raise_a_works_probability() {
        let alone = combined(&[2.0]);
        assert!((alone - 2.0).abs() < 1e-12);
        assert!(combined(&[2.0, 2.0, 2.0]) > alone);
        let near = combined(&[9.0, -3.0, -3.0]);
        assert!(near > 7.0 && near < 9.0, "{near}");
        assert!(combined(&[-700.0, -800.0]).is_finite());
    }

    fn work(ratios: &[f64]) -> Evidence {
        Evidence { ratios: ratios.to_vec(), same_file: false }
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let found =
            posterior(&[work(&[4.0, 2.0]), work(&[-3.0]), work(&[-1.0])], UnexaminedWorks::default(), 0.5);
        let sum: f64 = found.works.iter().sum::<f64>() + found.none;
        assert!((sum - 1.0).abs() < 1e-12);
        assert!(found.works[0] > found.works[2] && found.works[2] > found.works[1]);
    }

    #[test]
    fn an_index_without_the_work_gives_none_and_extreme_ratios_do_not_overflow() {
        let nothing = UnexaminedWorks::default();
        assert!(posterior(&[work(&[-4.0]), work(&[-3.0])], nothing, 0.5).none > 0.9);
        assert!(posterior(&[work(&[1e5])], nothing, 0.5).none < 1e-9);
        assert_eq!(posterior(&[], nothing, 0.5).none, 1.0);
        // Without evidence either way the prior stays.
        assert!((posterior(&[work(&[0.0])], nothing, 0.3).none - 0.7).abs() < 1e-12);
    }

    #[test]
    fn unexamined_works_equal_the_same_works_examined() {
        let rest = UnexaminedWorks { works: 99, mean_ratio: (-2.0f64).exp() };
        let mut all = vec![work(&[6.0])];
        all.resize(100, work(&[-2.0]));
        let (short, long) =
            (posterior(&all[..1], rest, 0.4), posterior(&all, UnexaminedWorks::default(), 0.4));
        assert!((short.works[0] - long.works[0]).abs() < 1e-12 && (short.none - long.none).abs() < 1e-12);
        let more = posterior(&all[..1], UnexaminedWorks { works: 9999, ..rest }, 0.4);
        assert!(more.works[0] < 0.05 * short.works[0], "{more:?}");
    }

    #[test]
    fn the_same_file_is_nearly_certain_in_an_index_of_any_size() {
        for size in [1, 100, 10_000, 1_000_000, 1_000_000_000] {
            let rest = UnexaminedWorks { works: size - 1, mean_ratio: 1.0 };
            let same = Evidence { ratios: vec![3.0], same_file: true };
            let found = posterior(&[same], rest, 0.05);
            assert!(found.works[0] > 0.99, "{} among {size}", found.works[0]);
        }
    }
}
