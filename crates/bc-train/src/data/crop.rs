//! Cuts, stretches and pools a stored track to the columns that the network sees, in one pass.
//!
//! Time is stretched by linear interpolation of the stored magnitudes before they are pooled to the network's columns.
//! A phase vocoder, which the public re-implementation uses, interpolates magnitudes in the same way.

use super::patch::{Patch, TrackView};

/// What fills a crop that is longer than its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Zeros after the track.
    Zeros,
    /// The track again from its beginning.
    Repeat,
}

/// Which part of a track is read, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// First stored column read.
    pub start: usize,
    /// Stored columns per output column: above 1 the music gets faster.
    pub rate: f64,
    /// Output columns before pooling.
    pub columns: usize,
    /// What follows the end of the track.
    pub short: Fill,
}

/// Reads `window` of `track` and averages every `group` columns (a remainder is dropped).
///
/// Output column `j` before pooling is the track at stored column `start + j * rate`, linearly interpolated between two
/// columns. The result has `columns / group` frames.
pub fn read(track: TrackView<'_>, window: Window, group: usize) -> Patch {
    let frames = window.columns / group;
    let mut patch = Patch::zeros(track.bins, frames);
    if track.frames == 0 {
        return patch;
    }
    let taps = taps(track.frames, window, frames * group);
    let share = 1.0 / group as f32;
    for bin in 0..track.bins {
        let source = &track.values[bin * track.frames..(bin + 1) * track.frames];
        for (out, taps) in patch.row_mut(bin).iter_mut().zip(taps.chunks_exact(group)) {
            let sum: f32 = taps.iter().map(|tap| tap.value(source)).sum();
            *out = sum * share;
        }
    }
    patch
}

/// One output column before pooling, as the weighted sum of two neighbouring stored columns.
struct Tap {
    left: usize,
    right: usize,
    left_weight: f32,
    right_weight: f32,
}

impl Tap {
    /// Computes the weighted sum for one bin, whose stored values are `source`.
    fn value(&self, source: &[half::f16]) -> f32 {
        let mut v = self.left_weight * source[self.left].to_f32();
        if self.right_weight != 0.0 {
            v += self.right_weight * source[self.right].to_f32();
        }
        v
    }
}

/// Returns the taps of the first `columns` output columns before pooling.
fn taps(track_frames: usize, window: Window, columns: usize) -> Vec<Tap> {
    (0..columns)
        .map(|j| {
            let position = window.start as f64 + j as f64 * window.rate;
            let left = position.floor() as usize;
            let weight = (position - position.floor()) as f32;
            match window.short {
                Fill::Repeat => Tap {
                    left: left % track_frames,
                    right: (left + 1) % track_frames,
                    left_weight: 1.0 - weight,
                    right_weight: weight,
                },
                Fill::Zeros => Tap {
                    left: left.min(track_frames - 1),
                    right: (left + 1).min(track_frames - 1),
                    left_weight: if left < track_frames { 1.0 - weight } else { 0.0 },
                    right_weight: if left + 1 < track_frames { weight } else { 0.0 },
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;
    use proptest::prelude::*;

    fn ramp(bins: usize, frames: usize) -> Vec<f16> {
        (0..bins * frames).map(|i| f16::from_f32((i % frames) as f32 + 100.0 * (i / frames) as f32)).collect()
    }

    #[test]
    fn unstretched_crop_is_the_mean_of_each_group() {
        let values = ramp(2, 12);
        let track = TrackView { bins: 2, frames: 12, values: &values };
        let p = read(track, Window { start: 2, rate: 1.0, columns: 9, short: Fill::Zeros }, 4);
        assert_eq!(p.frames, 2);
        assert_eq!(p.data, vec![3.5, 7.5, 103.5, 107.5]);
    }

    #[test]
    fn stretching_interpolates_between_columns() {
        let values = ramp(1, 10);
        let track = TrackView { bins: 1, frames: 10, values: &values };
        let slow = read(track, Window { start: 0, rate: 0.5, columns: 5, short: Fill::Zeros }, 1);
        assert_eq!(slow.data, vec![0.0, 0.5, 1.0, 1.5, 2.0]);
        let fast = read(track, Window { start: 1, rate: 1.5, columns: 4, short: Fill::Zeros }, 1);
        assert_eq!(fast.data, vec![1.0, 2.5, 4.0, 5.5]);
    }

    #[test]
    fn short_tracks_are_followed_by_zeros_or_repeated() {
        let values: Vec<f16> = [1.0, 2.0, 3.0].map(f16::from_f32).to_vec();
        let track = TrackView { bins: 1, frames: 3, values: &values };
        let at = |short| read(track, Window { start: 0, rate: 1.0, columns: 7, short }, 1).data;
        assert_eq!(at(Fill::Zeros), vec![1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(at(Fill::Repeat), vec![1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]);
    }

    proptest! {
        #[test]
        fn all_windows_give_finite_values_in_the_range_of_the_track(
            frames in 1usize..60, start in 0usize..80, rate in 0.3f64..3.0, columns in 0usize..90,
            group in 1usize..6, repeat in any::<bool>(),
        ) {
            let values: Vec<f16> = (0..2 * frames).map(|i| f16::from_f32((i * 7 % 13) as f32)).collect();
            let track = TrackView { bins: 2, frames, values: &values };
            let short = if repeat { Fill::Repeat } else { Fill::Zeros };
            let p = read(track, Window { start, rate, columns, short }, group);
            prop_assert_eq!(p.frames, columns / group);
            prop_assert_eq!(p.data.len(), 2 * p.frames);
            for v in &p.data {
                prop_assert!((0.0..=12.001).contains(v));
            }
        }
    }
}
