//! Embeds the windows of every version at several tempi, into one file of embeddings per tempo.
//!
//! **In**: the features and the network of a configuration. **Out**: `windows-<tempo>.parquet` in the
//! folder of `embeddings.parquet`, one row per window. For another tempo, a recording's features are stretched (interpolated
//! between columns): a query at 0.8 times its tempo can match a cover that is a fifth slower.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_cli::{Interrupted, interrupt, progress};
use bc_embed::lengths::ByLength;
use bc_embed::recording::parts;
use bc_embed::tempo::stretched;
use bc_embed::windows::Windows;
use bc_formats::config::EvalConfig;
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::run::WindowComparison;

use super::{Excerpt, Inputs, Selection};

/// Windows of the same versions at one tempo.
pub struct WindowsAtTempo {
    /// Factor of the recordings' own tempo.
    pub tempo: f64,
    /// Path of the file.
    pub path: PathBuf,
    /// One row per window, version after version.
    pub embeddings: Embeddings,
}

/// How recordings were compared, and the windows of all versions at each tempo.
pub struct WindowEmbeddings {
    /// Lengths and tempi.
    pub comparison: WindowComparison,
    /// The windows at each tempo, the recordings' own tempo first.
    pub by_tempo: Vec<WindowsAtTempo>,
}

impl WindowEmbeddings {
    /// Returns the tempi as a list for messages.
    pub fn tempi_text(&self) -> String {
        self.by_tempo.iter().map(|windows| windows.tempo.to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl Inputs {
    /// Embeds the windows of the versions in `[eval] splits` at each tempo, first at the recordings' own; `None`
    /// if whole recordings are compared ([`WindowComparison::of`]). Files that are up to date are read instead.
    ///
    /// # Errors
    /// Features that do not match; nothing to embed; an interrupt.
    pub fn windows(&self, config: &EvalConfig) -> Result<Option<WindowEmbeddings>> {
        let Some(comparison) = WindowComparison::of(config, self.embedder.recommended.as_ref()) else {
            return Ok(None);
        };
        let windows = Windows::from_comparison(&comparison)?;
        interrupt::install(
            "finishing the batch; the same command continues with the tempi that are missing",
        )?;
        let mut tempi = vec![1.0];
        tempi.extend(comparison.tempi.iter().copied().filter(|tempo| *tempo != 1.0));
        let by_tempo = tempi
            .into_iter()
            .map(|tempo| {
                let path = config.output.join(format!("windows-{tempo:.3}.parquet"));
                let selection = Selection { splits: &config.splits, windows: Some((windows, tempo)) };
                let embeddings = self.read_or_embed(&path, &selection, windows, tempo)?;
                Ok(WindowsAtTempo { tempo, path, embeddings })
            })
            .collect::<Result<_>>()?;
        Ok(Some(WindowEmbeddings { comparison, by_tempo }))
    }

    fn read_or_embed(
        &self,
        path: &Path,
        selection: &Selection<'_>,
        windows: Windows,
        tempo: f64,
    ) -> Result<Embeddings> {
        let provenance = self.provenance(selection);
        if path.exists() {
            let existing = Embeddings::read_provenance(path)?;
            if existing.fingerprint == provenance.fingerprint && existing.inputs == provenance.inputs {
                return Embeddings::read(path);
            }
        }
        let embeddings = self.embed_windows_of(selection, windows, tempo, None)?;
        embeddings.write(path)?;
        Ok(embeddings)
    }

    /// Embeds an excerpt of each version in `[eval] splits` as windows at each of the tempi of `windowed`.
    ///
    /// # Errors
    /// The errors of [`Self::windows`].
    pub fn excerpts(
        &self,
        config: &EvalConfig,
        windowed: &WindowEmbeddings,
        excerpt: &Excerpt,
    ) -> Result<Vec<Embeddings>> {
        let WindowEmbeddings { comparison, by_tempo } = windowed;
        let windows = Windows::from_comparison(comparison)?;
        let embed = |at: &WindowsAtTempo| {
            let selection = Selection { splits: &config.splits, windows: Some((windows, at.tempo)) };
            self.embed_windows_of(&selection, windows, at.tempo, Some(excerpt))
        };
        by_tempo.iter().map(embed).collect()
    }

    /// Embeds the windows of the selected versions, or of an excerpt of each, at one tempo.
    fn embed_windows_of(
        &self,
        selection: &Selection<'_>,
        windows: Windows,
        tempo: f64,
        excerpt: Option<&Excerpt>,
    ) -> Result<Embeddings> {
        let labels = self.labels(selection.splits)?;
        let numbers: HashMap<&str, usize> =
            labels.iter().enumerate().map(|(number, label)| (label.version_id.as_str(), number)).collect();
        let bar =
            progress::bar(labels.len() as u64, &format!("embedding windows, tempo {tempo}"), "versions");
        let mut groups = ByLength::new(&self.embedder);
        // Version and first column of each window, and its vector once it has passed the network.
        let mut positions: Vec<(usize, usize)> = Vec::new();
        let mut vectors: Vec<(usize, Vec<f32>)> = Vec::new();
        let column_s = self.set.settings.column_seconds();
        self.set.for_each(|row| {
            let Some(&number) = numbers.get(row.version_id.as_str()) else { return Ok(()) };
            if interrupt::requested() {
                return Ok(());
            }
            self.require_finite(&row)?;
            let frames = row.frames as usize;
            let (magnitude, frames) = match excerpt {
                Some(excerpt) => excerpt.cut(&row.magnitude, frames, number, column_s),
                None => (Cow::Borrowed(&row.magnitude[..]), frames),
            };
            let (magnitude, frames) = stretched(&magnitude, frames, tempo);
            let parts = parts(&self.input, &magnitude, frames, Some(windows))
                .with_context(|| format!("version {}", row.version_id))?;
            for part in parts {
                vectors.extend(groups.add(positions.len(), part.input, part.columns)?);
                positions.push((number, part.start_column));
            }
            bar.inc(1);
            Ok(())
        })?;
        if interrupt::requested() {
            return Err(Interrupted(
                "the tempi that were finished are saved; the same command continues".into(),
            )
            .into());
        }
        vectors.extend(groups.finish()?);
        bar.finish_and_clear();
        let (labels, vectors) = sorted_windows(&labels, &positions, vectors, column_s * tempo);
        ensure!(!labels.is_empty(), "no version has a window that is not silent");
        Ok(Embeddings { labels, dim: self.embedder.dim(), vectors, provenance: self.provenance(selection) })
    }
}

/// Returns labels and vectors of the windows, version after version. `positions` holds the version and the first column of each
/// window; a column lasts `column_s` seconds of the recording at its own tempo.
fn sorted_windows(
    labels: &[Label],
    positions: &[(usize, usize)],
    vectors: Vec<(usize, Vec<f32>)>,
    column_s: f64,
) -> (Vec<Label>, Vec<f32>) {
    let mut rows: Vec<(usize, usize, Vec<f32>)> = vectors
        .into_iter()
        .map(|(window, vector)| (positions[window].0, positions[window].1, vector))
        .collect();
    rows.sort_unstable_by_key(|(number, start, _)| (*number, *start));
    let label = |number: usize, start: usize| Label {
        start_s: (start as f64 * column_s) as f32,
        ..labels[number].clone()
    };
    let labels = rows.iter().map(|(number, start, _)| label(*number, *start)).collect();
    (labels, rows.into_iter().flat_map(|(_, _, vector)| vector).collect())
}
