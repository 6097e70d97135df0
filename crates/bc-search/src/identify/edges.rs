//! Finds where a work begins and ends, more precisely than by the long windows.
//!
//! The long windows locate an edge to about half their length. The short windows are more precise: their similarities to the work are one
//! sequence of values, high inside and low outside. An edge is where two levels, one on either side, fit by least squares: a single change
//! point (Page, "A test for a change in a parameter occurring at an unknown point", Biometrika 42, 1955), whose levels are found
//! with it, so that nothing is tuned. Between two works the difference of their sequences is used, to which both contribute.

use super::short::FileWindows;
use crate::index::{Index, Recording};
use crate::scan::{self, Queries};

/// Minimum number of values on either side of an edge.
const MIN_VALUES: usize = 2;
/// Minimum distance of the two levels, in standard deviations of the residuals: below it no edge is reported.
const MIN_STEP: f64 = 1.0;

/// How similar short windows are to a recording: the middle of each, in seconds, and its best cosine.
pub type SimilarityCurve = Vec<(f64, f32)>;

/// The similarity of the short windows of a file to a recording of the index, at the best tempo between `start_s` and `end_s`; for windows
/// whose middle is between `first_s` and `last_s`. Empty if either has no windows.
pub(super) fn similarity_curve(
    short: &FileWindows,
    index: &Index,
    recording: Recording,
    [start_s, end_s]: [f64; 2],
    [first_s, last_s]: [f64; 2],
) -> SimilarityCurve {
    let Some(windows) = index.segments[recording.segment as usize].windows.as_ref() else {
        return Vec::new();
    };
    let (first, end) = windows.keys.vectors_of(recording.number);
    let mut best = (f64::NEG_INFINITY, Vec::new());
    for (tempo, all) in &short.tempi {
        let middle = |start_s: f64| start_s + short.window_s * tempo / 2.0;
        let nearby: Vec<_> =
            all.iter().filter(|window| (first_s..=last_s).contains(&middle(window.start_s))).collect();
        let vectors: Vec<f32> = nearby.iter().flat_map(|window| &window.vector).copied().collect();
        let queries = Queries::new(&vectors, index.dim(), windows.vectors.storage);
        if queries.is_empty() || queries.len() != nearby.len() {
            continue;
        }
        let cosines = scan::scores_of_rows(&windows.vectors, first, end, &queries);
        let mut values = vec![f32::NEG_INFINITY; nearby.len()];
        for row in cosines.chunks_exact(queries.len()) {
            values.iter_mut().zip(row).for_each(|(value, cosine)| *value = value.max(*cosine));
        }
        let curve: SimilarityCurve = nearby.iter().map(|window| middle(window.start_s)).zip(values).collect();
        let inside =
            curve.iter().filter(|(at, _)| (start_s..=end_s).contains(at)).map(|(_, value)| f64::from(*value));
        let (sum, count) = inside.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
        let mean = if count == 0 { f64::NEG_INFINITY } else { sum / count as f64 };
        if mean > best.0 {
            best = (mean, curve);
        }
    }
    best.1
}

/// The similarity to one recording minus that to another, at the times of the first.
pub(super) fn difference(one: &SimilarityCurve, other: &SimilarityCurve) -> SimilarityCurve {
    let value_at = |time: f64| {
        let next = other.partition_point(|(point, _)| *point < time);
        match (next.checked_sub(1).and_then(|before| other.get(before)), other.get(next)) {
            (Some((t0, v0)), Some((t1, v1))) => {
                Some(v0 + (v1 - v0) * ((time - t0) / (t1 - t0).max(f64::MIN_POSITIVE)) as f32)
            }
            (None, Some((_, value))) | (Some((_, value)), None) => Some(*value),
            (None, None) => None,
        }
    };
    one.iter().filter_map(|(time, value)| Some((*time, value - value_at(*time)?))).collect()
}

/// The time between `first_s` and `last_s` at which the values rise (or fall, if not `rises`) from one level to another; `None` if
/// they do not.
pub(super) fn change_point(
    values: &SimilarityCurve,
    [first_s, last_s]: [f64; 2],
    rises: bool,
) -> Option<f64> {
    let between: Vec<(f64, f64)> = values
        .iter()
        .filter(|(at, _)| (first_s..=last_s).contains(at))
        .map(|(at, value)| (*at, f64::from(if rises { *value } else { -value })))
        .collect();
    let squares = |part: &[(f64, f64)]| {
        let mean = part.iter().map(|(_, value)| value).sum::<f64>() / part.len() as f64;
        (mean, part.iter().map(|(_, value)| (value - mean).powi(2)).sum::<f64>())
    };
    let mut best: Option<(f64, f64, f64)> = None;
    for edge in MIN_VALUES..(between.len() + 1).saturating_sub(MIN_VALUES) {
        let ((below, left), (above, right)) = (squares(&between[..edge]), squares(&between[edge..]));
        let deviation = ((left + right) / between.len() as f64).sqrt();
        if above - below > MIN_STEP * deviation && best.is_none_or(|(smallest, ..)| left + right < smallest) {
            best = Some((left + right, between[edge - 1].0, between[edge].0));
        }
    }
    best.map(|(_, before, after)| (before + after) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: f64, low: f32, high: f32) -> SimilarityCurve {
        let noise = |n: usize| 0.02 * ((n * 7919 % 13) as f32 / 6.0 - 1.0);
        (0..40).map(|n| (2.5 * n as f64, if 2.5 * n as f64 >= at { high } else { low } + noise(n))).collect()
    }

    #[test]
    fn change_point_is_between_two_levels_of_similarity() {
        let rising = step(41.0, 0.3, 0.7);
        assert_eq!(change_point(&rising, [10.0, 80.0], true), Some(41.25));
        assert_eq!(change_point(&rising, [10.0, 80.0], false), None, "it does not fall");
        let falling: SimilarityCurve = rising.iter().map(|(at, value)| (*at, -value)).collect();
        assert_eq!(change_point(&falling, [10.0, 80.0], false), Some(41.25));
        // (In pure noise, a few values at an end may be found by chance.)
        let level: SimilarityCurve = (0..40).map(|n| (2.5 * f64::from(n), 0.5)).collect();
        assert_eq!(change_point(&level, [10.0, 80.0], true), None, "no edge");
        assert_eq!(change_point(&rising, [41.0, 45.0], true), None, "too few values");
    }

    #[test]
    fn edge_between_two_works_is_the_change_point_of_their_difference() {
        let (one, other) = (step(40.0, 0.3, 0.7), step(40.0, 0.6, 0.2));
        let both = difference(&other, &one);
        assert_eq!(both.len(), one.len());
        assert_eq!(change_point(&both, [0.0, 100.0], false), Some(38.75));
        // Other times: between them it is interpolated.
        let finer: SimilarityCurve = (0..400).map(|n| (0.25 * f64::from(n), 1.0)).collect();
        assert!(difference(&one, &finer).iter().zip(&one).all(|(a, b)| (a.1 - b.1 + 1.0).abs() < 1e-6));
        assert!(difference(&one, &Vec::new()).is_empty());
    }
}
