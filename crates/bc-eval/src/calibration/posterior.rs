//! From scores against a whole index to "it is this work", or to none.

use std::collections::HashMap;

use super::logistic::Line;

/// What an index of many works says to one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior<'a> {
    /// The probability that the query is a version of the work, by clique.
    pub works: HashMap<&'a str, f64>,
    /// The probability that it is a version of none of them.
    pub none: f64,
}

/// Every work is as likely as another beforehand, and the query is a version of one of them with
/// the probability `prior`. A work's likelihood ratio is the mean of its versions'.
#[must_use]
pub fn posterior<'a>(line: &Line, scores: &[(&'a str, f64)], prior: f64) -> Posterior<'a> {
    // Ratios relative to the largest, so that none overflows.
    let largest = scores.iter().map(|(_, score)| line.log_ratio(*score)).fold(0.0, f64::max);
    let mut sums: HashMap<&str, (f64, u32)> = HashMap::new();
    for (clique, score) in scores {
        let sum = sums.entry(clique).or_default();
        sum.0 += (line.log_ratio(*score) - largest).exp();
        sum.1 += 1;
    }
    let share = prior / sums.len().max(1) as f64;
    let mut works: HashMap<&str, f64> =
        sums.into_iter().map(|(clique, (sum, count))| (clique, share * sum / f64::from(count))).collect();
    let none = (1.0 - prior) * (-largest).exp();
    let total = none + works.values().sum::<f64>();
    works.values_mut().for_each(|value| *value /= total);
    Posterior { works, none: none / total }
}

#[cfg(test)]
mod tests {
    use super::*;

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
