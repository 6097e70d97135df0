//! From scores against a whole index to "it is this work", or to none.

use super::logistic::Line;

/// What a copy of an indexed recording says: ten thousand times as likely as anything else in the index together,
/// whatever the index's size.
pub(super) const COPY: f64 = 1e4;

/// What an index says of one work.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Scores of the work's versions.
    pub scores: Vec<f64>,
    /// Whether the query is the same recording as one of them.
    pub copy: bool,
}

/// What an index of many works says to one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    /// The probability that the query is a version of the work, in the order of the works.
    pub works: Vec<f64>,
    /// The probability that it is a version of none of them.
    pub none: f64,
}

/// Every work is as likely as another beforehand, and the query is a version of one of them with
/// the probability `prior`. What may be one work must come as one: works exclude each other.
///
/// How much a work's n versions say together is open: all may be witnesses, dependent ones (the sum
/// of their log-likelihood ratios over sqrt(n): between independent and identical), or only one (the
/// mean of the ratios: a copy of one recording is like it, whatever the others are). Both are taken to
/// be as likely; docs/notes-eval.md has the figures for this and other ways.
///
/// A bounded score and a straight line cap what one version can say, and a large index would outvote even a copy. A copy
/// is another kind of evidence: it weighs [`COPY`] times the number of works.
#[must_use]
pub fn posterior(line: &Line, works: &[Evidence], prior: f64) -> Posterior {
    let count = works.len().max(1) as f64;
    let ratio = |work: &Evidence| {
        let ratios: Vec<f64> = work.scores.iter().map(|score| line.log_ratio(*score)).collect();
        let together = together(&ratios);
        if work.copy { together.max((COPY * count).ln()) } else { together }
    };
    let ratios: Vec<f64> = works.iter().map(ratio).collect();
    // Relative to the largest, so that none overflows.
    let largest = ratios.iter().copied().fold(0.0, f64::max);
    let share = prior / count;
    let none = (1.0 - prior) * (-largest).exp();
    let mut works: Vec<f64> = ratios.into_iter().map(|ratio| share * (ratio - largest).exp()).collect();
    let total = none + works.iter().sum::<f64>();
    works.iter_mut().for_each(|value| *value /= total);
    Posterior { works, none: none / total }
}

/// The log-likelihood ratio of a work by those of its versions.
fn together(versions: &[f64]) -> f64 {
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
    fn versions_of_a_work_help_each_other_and_one_near_version_is_enough() {
        let alone = together(&[2.0]);
        assert!((alone - 2.0).abs() < 1e-12);
        assert!(together(&[2.0, 2.0, 2.0]) > alone);
        let near = together(&[9.0, -3.0, -3.0]);
        assert!(near > 7.0 && near < 9.0, "{near}");
        assert!(together(&[-700.0, -800.0]).is_finite());
    }

    const LINE: Line = Line { slope: 10.0, intercept: -5.0 };

    fn work(scores: &[f64]) -> Evidence {
        Evidence { scores: scores.to_vec(), copy: false }
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let found = posterior(&LINE, &[work(&[0.9, 0.7]), work(&[0.2]), work(&[0.4])], 0.5);
        let sum: f64 = found.works.iter().sum::<f64>() + found.none;
        assert!((sum - 1.0).abs() < 1e-12);
        assert!(found.works[0] > found.works[2] && found.works[2] > found.works[1]);
    }

    #[test]
    fn an_index_without_the_work_says_none_and_extremes_do_not_overflow() {
        assert!(posterior(&LINE, &[work(&[0.1]), work(&[0.2])], 0.5).none > 0.9);
        assert!(posterior(&LINE, &[work(&[1e5])], 0.5).none < 1e-9);
        assert_eq!(posterior(&LINE, &[], 0.5).none, 1.0);
        // Without evidence either way the prior stays.
        assert!((posterior(&LINE, &[work(&[0.5])], 0.3).none - 0.7).abs() < 1e-12);
    }

    #[test]
    fn a_copy_is_nearly_certain_in_an_index_of_any_size() {
        for size in [1, 100, 10_000, 1_000_000] {
            let mut works = vec![work(&[0.3]); size];
            works[0] = Evidence { scores: vec![1.0], copy: true };
            let found = posterior(&LINE, &works, 0.5);
            assert!(found.works[0] > 0.99, "{} among {size}", found.works[0]);
            works[0].copy = false;
            let capped = posterior(&LINE, &works, 0.5);
            assert!(size < 100 || capped.works[0] < 0.7, "the line alone is not enough: {}", capped.works[0]);
        }
    }
}
