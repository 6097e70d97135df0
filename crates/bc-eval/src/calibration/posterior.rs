//! From scores against a whole index to "it is this work", or to none.

use std::collections::BTreeMap;

use super::logistic::Line;

/// What an index of many works says to one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior<'a> {
    /// The probability that the query is a version of the work, by clique.
    pub works: BTreeMap<&'a str, f64>,
    /// The probability that it is a version of none of them.
    pub none: f64,
}

/// Every work is as likely as another beforehand, and the query is a version of one of them with
/// the probability `prior`.
///
/// How much a work's n versions say together is open: all may be witnesses, dependent ones (the sum
/// of their log-likelihood ratios over sqrt(n): between independent and identical), or only one (the
/// mean of the ratios: a copy of one recording is like it, whatever the others are). Both are taken to
/// be as likely; docs/notes-eval.md has the figures for this and other ways.
#[must_use]
pub fn posterior<'a>(line: &Line, scores: &[(&'a str, f64)], prior: f64) -> Posterior<'a> {
    let mut by_work: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (clique, score) in scores {
        by_work.entry(clique).or_default().push(line.log_ratio(*score));
    }
    let ratios: Vec<(&str, f64)> =
        by_work.into_iter().map(|(clique, versions)| (clique, together(&versions))).collect();
    // Relative to the largest, so that none overflows.
    let largest = ratios.iter().map(|(_, ratio)| *ratio).fold(0.0, f64::max);
    let share = prior / ratios.len().max(1) as f64;
    let none = (1.0 - prior) * (-largest).exp();
    let mut works: BTreeMap<&str, f64> =
        ratios.into_iter().map(|(clique, ratio)| (clique, share * (ratio - largest).exp())).collect();
    let total = none + works.values().sum::<f64>();
    works.values_mut().for_each(|value| *value /= total);
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
    fn versions_of_a_work_help_each_other_and_one_copy_is_enough() {
        let alone = together(&[2.0]);
        assert!((alone - 2.0).abs() < 1e-12);
        assert!(together(&[2.0, 2.0, 2.0]) > alone);
        let copy = together(&[9.0, -3.0, -3.0]);
        assert!(copy > 7.0 && copy < 9.0, "{copy}");
        assert!(together(&[-700.0, -800.0]).is_finite());
    }

    const LINE: Line = Line { slope: 10.0, intercept: -5.0 };

    #[test]
    fn probabilities_add_up_to_one() {
        let found = posterior(&LINE, &[("a", 0.9), ("a", 0.7), ("b", 0.2), ("c", 0.4)], 0.5);
        let sum: f64 = found.works.values().sum::<f64>() + found.none;
        assert!((sum - 1.0).abs() < 1e-12);
        assert!(found.works["a"] > found.works["c"] && found.works["c"] > found.works["b"]);
    }

    #[test]
    fn an_index_without_the_work_says_none_and_extremes_do_not_overflow() {
        assert!(posterior(&LINE, &[("a", 0.1), ("b", 0.2)], 0.5).none > 0.9);
        assert!(posterior(&LINE, &[("a", 1e5)], 0.5).none < 1e-9);
        assert_eq!(posterior(&LINE, &[], 0.5).none, 1.0);
        // Without evidence either way the prior stays.
        assert!((posterior(&LINE, &[("a", 0.5)], 0.3).none - 0.7).abs() < 1e-12);
    }
}
