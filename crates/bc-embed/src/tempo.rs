//! Stretches a recording's features to another tempo.

use std::borrow::Cow;

use half::f16;

/// Resamples magnitudes (bins x `frames`) to `tempo` times the recording's own tempo; returns them with the new number of columns,
/// which is smaller for a tempo above 1. Values between columns are interpolated linearly.
#[must_use]
pub fn stretched(magnitude: &[f16], frames: usize, tempo: f64) -> (Cow<'_, [f16]>, usize) {
    if tempo == 1.0 || frames < 2 {
        return (Cow::Borrowed(magnitude), frames);
    }
    let length = ((frames as f64 / tempo).round() as usize).max(1);
    let step = frames as f64 / length as f64;
    // The middle of a column is mapped to the middle of the columns that it becomes.
    let sources: Vec<(usize, f32)> = (0..length)
        .map(|column| {
            let source = ((column as f64 + 0.5) * step - 0.5).clamp(0.0, (frames - 1) as f64);
            let first = (source as usize).min(frames - 2);
            (first, (source - first as f64) as f32)
        })
        .collect();
    let mut out = Vec::with_capacity(magnitude.len() / frames * length);
    for row in magnitude.chunks_exact(frames) {
        out.extend(sources.iter().map(|(first, share)| {
            let (left, right) = (row[*first].to_f32(), row[first + 1].to_f32());
            f16::from_f32(left + (right - left) * share)
        }));
    }
    (Cow::Owned(out), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_the_tempo_halves_the_length_and_interpolates_columns() {
        let ramp: Vec<f16> = (0..8).map(|n| f16::from_f32(n as f32)).collect();
        let both = [ramp.clone(), ramp.iter().map(|x| *x * f16::from_f32(2.0)).collect()].concat();
        let (fast, length) = stretched(&both, 8, 2.0);
        assert_eq!(length, 4);
        let expected: Vec<f16> = [0.5f32, 2.5, 4.5, 6.5, 1.0, 5.0, 9.0, 13.0].map(f16::from_f32).to_vec();
        assert_eq!(*fast, expected);
        let (slow, length) = stretched(&both, 8, 0.5);
        assert_eq!(length, 16);
        assert_eq!(slow[0].to_f32(), 0.0);
        assert_eq!([slow[1].to_f32(), slow[2].to_f32(), slow[15].to_f32()], [0.25, 0.75, 7.0]);
        assert_eq!(stretched(&both, 8, 1.0), (Cow::Borrowed(&both[..]), 8));
    }
}
