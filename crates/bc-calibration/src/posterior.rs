//! From what an index says of its works to "it is this work", or to none.

/// What the same file under any name says: ten thousand times as likely as anything else in the index together,
/// whatever the index's size.
const SAME_FILE: f64 = 1e4;

/// What an index says of one work.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Log-likelihood ratios of the work's versions ([`crate::Calibration::log_ratio`]).
    pub ratios: Vec<f64>,
    /// Whether the query's file is one of them.
    pub same_file: bool,
}

impl Evidence {
    /// What all versions say together, as a log-likelihood ratio.
    #[must_use]
    pub fn log_ratio(&self) -> f64 {
        together(&self.ratios)
    }
}

/// The works of an index that were not looked at one by one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rest {
    /// How many.
    pub works: u64,
    /// Mean likelihood ratio of one of them.
    pub mean_ratio: f64,
}

/// What an index of many works says to one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    /// The probability that the query is a version of the work, in the order of the works.
    pub works: Vec<f64>,
    /// The probability that it is a version of none of them, the rest included.
    pub none: f64,
}

/// Every work is as likely as another beforehand, and the query is a version of one of them with
/// the probability `prior`. What may be one work must come as one: works exclude each other. `rest` is what the index
/// holds besides: it takes its share of the prior, and the more works there are the more a single one must stand out.
///
/// How much a work's n versions say together is open: all may be witnesses, dependent ones (the sum
/// of their log-likelihood ratios over sqrt(n): between independent and identical), or only one (the
/// mean of the ratios: a copy of one recording is like it, whatever the others are). Both are taken to
/// be as likely; docs/notes-eval.md has the figures for this and other ways.
#[must_use]
pub fn posterior(works: &[Evidence], rest: Rest, prior: f64) -> Posterior {
    let count = (works.len() as f64 + rest.works as f64).max(1.0);
    let ratio = |work: &Evidence| {
        let together = work.log_ratio();
        if work.same_file { together.max((SAME_FILE * count).ln() - prior.ln()) } else { together }
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

/// The log-likelihood ratio of a work by those of its versions.
fn together(versions: &[f64]) -> f64 {
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
    fn several_versions_raise_a_works_probability_and_one_near_version_suffices() {
        let alone = together(&[2.0]);
        assert!((alone - 2.0).abs() < 1e-12);
        assert!(together(&[2.0, 2.0, 2.0]) > alone);
        let near = together(&[9.0, -3.0, -3.0]);
        assert!(near > 7.0 && near < 9.0, "{near}");
        assert!(together(&[-700.0, -800.0]).is_finite());
    }

    fn work(ratios: &[f64]) -> Evidence {
        Evidence { ratios: ratios.to_vec(), same_file: false }
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let found = posterior(&[work(&[4.0, 2.0]), work(&[-3.0]), work(&[-1.0])], Rest::default(), 0.5);
        let sum: f64 = found.works.iter().sum::<f64>() + found.none;
        assert!((sum - 1.0).abs() < 1e-12);
        assert!(found.works[0] > found.works[2] && found.works[2] > found.works[1]);
    }

    #[test]
    fn an_index_without_the_work_gives_none_and_extreme_ratios_do_not_overflow() {
        let nothing = Rest::default();
        assert!(posterior(&[work(&[-4.0]), work(&[-3.0])], nothing, 0.5).none > 0.9);
        assert!(posterior(&[work(&[1e5])], nothing, 0.5).none < 1e-9);
        assert_eq!(posterior(&[], nothing, 0.5).none, 1.0);
        // Without evidence either way the prior stays.
        assert!((posterior(&[work(&[0.0])], nothing, 0.3).none - 0.7).abs() < 1e-12);
    }

    #[test]
    fn unexamined_works_count_as_if_they_were_given_one_by_one() {
        let rest = Rest { works: 99, mean_ratio: (-2.0f64).exp() };
        let mut all = vec![work(&[6.0])];
        all.resize(100, work(&[-2.0]));
        let (short, long) = (posterior(&all[..1], rest, 0.4), posterior(&all, Rest::default(), 0.4));
        assert!((short.works[0] - long.works[0]).abs() < 1e-12 && (short.none - long.none).abs() < 1e-12);
        let more = posterior(&all[..1], Rest { works: 9999, ..rest }, 0.4);
        assert!(more.works[0] < 0.05 * short.works[0], "{more:?}");
    }

    #[test]
    fn the_same_file_is_nearly_certain_in_an_index_of_any_size() {
        for size in [1, 100, 10_000, 1_000_000, 1_000_000_000] {
            let rest = Rest { works: size - 1, mean_ratio: 1.0 };
            let same = Evidence { ratios: vec![3.0], same_file: true };
            let found = posterior(&[same], rest, 0.05);
            assert!(found.works[0] > 0.99, "{} among {size}", found.works[0]);
        }
    }
}
