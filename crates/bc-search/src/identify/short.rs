//! The short windows of a long recording.

use std::path::Path;

use anyhow::Result;
use bc_audio::Features;
use bc_embed::recording::Excerpt;
use bc_embed::windows::Windows;

use crate::answer::Searcher;

/// The short windows of a file, at each tempo that they are compared at.
pub struct FileWindows {
    /// Length of a window at the file's own tempo, in seconds.
    pub window_s: f64,
    /// Each tempo with its windows; empty if only whole recordings are compared.
    pub tempi: Vec<(f64, Vec<Excerpt>)>,
}

impl FileWindows {
    /// Embeds the windows of a file; none if only whole recordings are compared.
    pub fn new(searcher: &Searcher, file: &Path, features: &Features) -> Result<Self> {
        let Some(compare) = searcher.compare_for_evidence() else {
            return Ok(Self { window_s: 0.0, tempi: Vec::new() });
        };
        let windows = Windows::from_comparison(compare)?;
        let tempi = compare.tempi.iter().map(|tempo| {
            // One after another, so that only the inputs of one tempo are in memory.
            let mut windows_by_tempo = searcher.audio()?.embed_tempi(file, features, windows, &[*tempo])?;
            Ok((*tempo, windows_by_tempo.pop().unwrap_or_default()))
        });
        Ok(Self { window_s: compare.window_s, tempi: tempi.collect::<Result<_>>()? })
    }

    /// The windows between two times, at each tempo.
    pub fn within(&self, start_s: f64, end_s: f64) -> Vec<Vec<Excerpt>> {
        let inside = |(tempo, windows): &(f64, Vec<Excerpt>)| {
            let last = end_s - self.window_s * tempo + 0.5;
            let first = windows.partition_point(|window| window.start_s < start_s - 0.5);
            let end = windows.partition_point(|window| window.start_s <= last);
            windows.get(first..end).unwrap_or_default().to_vec()
        };
        self.tempi.iter().map(inside).collect()
    }
}
