//! Where a work begins and ends, closer than the long windows of a course say.
//!
//! A course knows an edge to about half a long window. The short windows know more: how well each of them is found in the work is one
//! course of numbers, high inside and low outside. An edge is where two levels, one on either side, leave the least squares: a single change
//! point (Page, "A test for a change in a parameter occurring at an unknown point", Biometrika 42, 1955), whose levels are found
//! with it, so that nothing is tuned. Between two works the difference of their courses is taken, which changes by both.

use super::short::Short;
use crate::index::{Index, Recording};
use crate::scan::{self, Queries};

/// Values on either side of an edge, at least.
const BESIDE: usize = 2;
/// How far two levels are apart, in standard deviations of what is left around them, at least: otherwise there is no edge to see.
const APART: f64 = 1.0;

/// How well short windows are found in a recording: the middle of each, in seconds, and the best cosine.
pub type Likeness = Vec<(f64, f32)>;

/// The likeness of the short windows of a file to a recording of the index, at the tempo that is likest between `start_s` and `end_s`. Empty
/// where one of both has none.
pub(super) fn likeness(
    short: &Short,
    index: &Index,
    recording: Recording,
    [start_s, end_s]: [f64; 2],
    [first_s, last_s]: [f64; 2],
) -> Likeness {
    let Some(windows) = index.segments[recording.segment as usize].windows.as_ref() else {
        return Vec::new();
    };
    let (first, end) = windows.keys.vectors_of(recording.number);
    let mut best = (f64::NEG_INFINITY, Vec::new());
    for (tempo, all) in &short.tempi {
        let middle = |start_s: f64| start_s + short.window_s * tempo / 2.0;
        let some: Vec<_> =
            all.iter().filter(|window| (first_s..=last_s).contains(&middle(window.start_s))).collect();
        let vectors: Vec<f32> = some.iter().flat_map(|window| &window.vector).copied().collect();
        let asked = Queries::new(&vectors, index.dim(), windows.vectors.storage);
        if asked.is_empty() || asked.len() != some.len() {
            continue;
        }
        let cosines = scan::scores_of_rows(&windows.vectors, first, end, &asked);
        let mut values = vec![f32::NEG_INFINITY; some.len()];
        for row in cosines.chunks_exact(asked.len()) {
            values.iter_mut().zip(row).for_each(|(value, cosine)| *value = value.max(*cosine));
        }
        let made: Likeness = some.iter().map(|window| middle(window.start_s)).zip(values).collect();
        let inside =
            made.iter().filter(|(at, _)| (start_s..=end_s).contains(at)).map(|(_, value)| f64::from(*value));
        let (sum, count) = inside.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
        let mean = if count == 0 { f64::NEG_INFINITY } else { sum / count as f64 };
        if mean > best.0 {
            best = (mean, made);
        }
    }
    best.1
}

/// The likeness of one recording less that of another, at the times of the one.
pub(super) fn less(one: &Likeness, other: &Likeness) -> Likeness {
    let at = |time: f64| {
        let next = other.partition_point(|(at, _)| *at < time);
        match (next.checked_sub(1).and_then(|before| other.get(before)), other.get(next)) {
            (Some((t0, v0)), Some((t1, v1))) => {
                Some(v0 + (v1 - v0) * ((time - t0) / (t1 - t0).max(f64::MIN_POSITIVE)) as f32)
            }
            (None, Some((_, value))) | (Some((_, value)), None) => Some(*value),
            (None, None) => None,
        }
    };
    one.iter().filter_map(|(time, value)| Some((*time, value - at(*time)?))).collect()
}

/// Where the values between two times rise (or fall, if not `rises`) from one level to another; nothing where they do not.
pub(super) fn change(values: &Likeness, [first_s, last_s]: [f64; 2], rises: bool) -> Option<f64> {
    let some: Vec<(f64, f64)> = values
        .iter()
        .filter(|(at, _)| (first_s..=last_s).contains(at))
        .map(|(at, value)| (*at, f64::from(if rises { *value } else { -value })))
        .collect();
    let squares = |part: &[(f64, f64)]| {
        let mean = part.iter().map(|(_, value)| value).sum::<f64>() / part.len() as f64;
        (mean, part.iter().map(|(_, value)| (value - mean).powi(2)).sum::<f64>())
    };
    let mut best: Option<(f64, f64, f64)> = None;
    for place in BESIDE..(some.len() + 1).saturating_sub(BESIDE) {
        let ((below, left), (above, right)) = (squares(&some[..place]), squares(&some[place..]));
        let deviation = ((left + right) / some.len() as f64).sqrt();
        if above - below > APART * deviation && best.is_none_or(|(least, ..)| left + right < least) {
            best = Some((left + right, some[place - 1].0, some[place].0));
        }
    }
    best.map(|(_, before, after)| (before + after) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: f64, low: f32, high: f32) -> Likeness {
        let noise = |n: usize| 0.02 * ((n * 7919 % 13) as f32 / 6.0 - 1.0);
        (0..40).map(|n| (2.5 * n as f64, if 2.5 * n as f64 >= at { high } else { low } + noise(n))).collect()
    }

    #[test]
    fn an_edge_is_where_two_levels_meet() {
        let rising = step(41.0, 0.3, 0.7);
        assert_eq!(change(&rising, [10.0, 80.0], true), Some(41.25));
        assert_eq!(change(&rising, [10.0, 80.0], false), None, "it does not fall");
        let falling: Likeness = rising.iter().map(|(at, value)| (*at, -value)).collect();
        assert_eq!(change(&falling, [10.0, 80.0], false), Some(41.25));
        // (Of noise alone a few values at an end may be found by chance.)
        let level: Likeness = (0..40).map(|n| (2.5 * f64::from(n), 0.5)).collect();
        assert_eq!(change(&level, [10.0, 80.0], true), None, "no edge");
        assert_eq!(change(&rising, [41.0, 45.0], true), None, "too few values");
    }

    #[test]
    fn between_two_works_the_difference_counts() {
        let (one, other) = (step(40.0, 0.3, 0.7), step(40.0, 0.6, 0.2));
        let both = less(&other, &one);
        assert_eq!(both.len(), one.len());
        assert_eq!(change(&both, [0.0, 100.0], false), Some(38.75));
        // Other times: between them it is interpolated.
        let finer: Likeness = (0..400).map(|n| (0.25 * f64::from(n), 1.0)).collect();
        assert!(less(&one, &finer).iter().zip(&one).all(|(a, b)| (a.1 - b.1 + 1.0).abs() < 1e-6));
        assert!(less(&one, &Vec::new()).is_empty());
    }
}
