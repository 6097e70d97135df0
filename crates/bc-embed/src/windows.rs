//! Cuts recordings into windows, for short queries against long tracks, and for medleys.

use anyhow::{Context, Result, ensure};
use bc_formats::provenance::Provenance;
use bc_formats::run::WindowComparison;
use serde::{Deserialize, Serialize};

/// Key in the settings of a file of embeddings that records how recordings were cut; null or absent for whole tracks.
pub const KEY: &str = "windows";

/// Windows of equal length at a constant step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    /// Length of a window in seconds.
    pub length_s: f64,
    /// Time from the beginning of one window to that of the next, in seconds.
    pub step_s: f64,
}

impl Windows {
    /// Creates windows of a length at a step, both in seconds.
    ///
    /// # Errors
    /// A length or step that is not above 0.
    pub fn new(length_s: f64, step_s: f64) -> Result<Self> {
        ensure!(
            length_s > 0.0 && length_s.is_finite(),
            "a window of {length_s} s is not possible; give a length above 0"
        );
        ensure!(step_s > 0.0 && step_s.is_finite(), "a step of {step_s} s is not possible; give one above 0");
        Ok(Self { length_s, step_s })
    }

    /// Returns the windows by which recordings are compared.
    ///
    /// # Errors
    /// The errors of [`Windows::new`].
    pub fn from_comparison(compare: &WindowComparison) -> Result<Self> {
        Self::new(compare.window_s, compare.step_s)
    }

    /// Returns how the recordings of a file of embeddings were cut; `None` for whole tracks.
    ///
    /// # Errors
    /// Settings that cannot be understood.
    pub fn from_provenance(provenance: &Provenance) -> Result<Option<Self>> {
        match provenance.settings.get(KEY) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map_err(anyhow::Error::from)
                .and_then(|Self { length_s, step_s }| Self::new(length_s, step_s))
                .map(Some)
                .with_context(|| format!("its {KEY} are {value}")),
        }
    }

    /// Returns the spans (first and end column) of the windows of a track of `frames` columns of `column_s` seconds each. All
    /// have the same length, and the last one ends with the track. A track no longer than a window is one span.
    #[must_use]
    pub fn spans(&self, frames: usize, column_s: f64) -> Vec<(usize, usize)> {
        let columns = |seconds: f64| ((seconds / column_s).round() as usize).max(1);
        let (length, step) = (columns(self.length_s), columns(self.step_s));
        let Some(last) = frames.checked_sub(length).filter(|last| *last > 0) else {
            return vec![(0, frames)];
        };
        let mut starts: Vec<usize> = (0..last).step_by(step).collect();
        starts.push(last);
        starts.into_iter().map(|start| (start, start + length)).collect()
    }
}

/// Formats windows for messages: whole recordings, or windows with their sizes.
#[must_use]
pub fn describe(windows: Option<Windows>) -> String {
    match windows {
        None => "whole recordings (no --window)".to_owned(),
        Some(Windows { length_s, step_s }) => format!("windows of --window {length_s} --step {step_s}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_track_is_one_window_and_bad_lengths_are_refused() {
        let windows = Windows::new(10.0, 5.0).unwrap();
        assert_eq!(windows.spans(9, 1.0), [(0, 9)]);
        assert_eq!(windows.spans(10, 1.0), [(0, 10)]);
        assert_eq!(windows.spans(16, 1.0), [(0, 10), (5, 15), (6, 16)]);
        assert!(Windows::new(0.0, 1.0).is_err() && Windows::new(1.0, f64::NAN).is_err());
    }

    #[test]
    fn recorded_windows_that_are_not_possible_are_refused() {
        let read = |windows: serde_json::Value| {
            let provenance = Provenance {
                format: String::new(),
                tool: String::new(),
                settings: serde_json::json!({ KEY: windows }),
                fingerprint: String::new(),
                inputs: Default::default(),
            };
            Windows::from_provenance(&provenance)
        };
        assert_eq!(read(serde_json::Value::Null).unwrap(), None);
        let possible = Windows { length_s: 10.0, step_s: 5.0 };
        assert_eq!(read(serde_json::json!(possible)).unwrap(), Some(possible));
        assert!(read(serde_json::json!(Windows { step_s: -5.0, ..possible })).is_err());
    }

    proptest! {
        #[test]
        fn windows_cover_the_track_if_the_step_is_at_most_the_window(
            frames in 1usize..3000, length in 1u32..200, shorter in 0u32..200,
        ) {
            let step = length.saturating_sub(shorter).max(1);
            let found = Windows::new(f64::from(length), f64::from(step)).unwrap().spans(frames, 1.0);
            prop_assert_eq!(found[0].0, 0);
            prop_assert_eq!(found[found.len() - 1].1, frames);
            for pair in found.windows(2) {
                let [(start, end), (next, its_end)] = [pair[0], pair[1]];
                prop_assert!(next > start && next <= end);
                prop_assert_eq!(end - start, its_end - next);
            }
        }
    }
}
