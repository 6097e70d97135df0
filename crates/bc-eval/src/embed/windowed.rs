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

use super::partial::{require_dimension, same_version};
use super::{Excerpt, Inputs, Selection};

/// Key in the settings of a file of windows: the number of its rows, which the inputs do not determine (silent windows have none).
const ROWS: &str = "rows";

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
        let labels = self.labels(&config.splits)?;
        let mut tempi = vec![1.0];
        tempi.extend(comparison.tempi.iter().copied().filter(|tempo| *tempo != 1.0));
        let by_tempo = tempi
            .into_iter()
            .map(|tempo| {
                let path = config.output.join(format!("windows-{tempo:.3}.parquet"));
                let selection = Selection { splits: &config.splits, windows: Some((windows, tempo)) };
                let embeddings = self.read_or_embed(&path, &labels, &selection, (windows, tempo))?;
                Ok(WindowsAtTempo { tempo, path, embeddings })
            })
            .collect::<Result<_>>()?;
        Ok(Some(WindowEmbeddings { comparison, by_tempo }))
    }

    fn read_or_embed(
        &self,
        path: &Path,
        labels: &[Label],
        selection: &Selection<'_>,
        (windows, tempo): (Windows, f64),
    ) -> Result<Embeddings> {
        if path.exists() {
            match self.read_if_current(path, labels, selection) {
                Ok(Some(existing)) => return Ok(existing),
                Ok(None) => {}
                Err(reason) => tracing::warn!("{} is made again: {reason:#}", path.display()),
            }
        }
        let mut embeddings = self.embed_windows_of(labels, selection, (windows, tempo), None)?;
        embeddings.provenance.settings[ROWS] = serde_json::json!(embeddings.labels.len());
        embeddings.write(path)?;
        Ok(embeddings)
    }

    /// Reads a file of windows; `None` if it was made from other inputs, or with other settings.
    ///
    /// # Errors
    /// A damaged file, or one that does not hold the windows that follow from its inputs.
    fn read_if_current(
        &self,
        path: &Path,
        labels: &[Label],
        selection: &Selection<'_>,
    ) -> Result<Option<Embeddings>> {
        let (found, expected) = (Embeddings::read_provenance(path)?, self.provenance(selection));
        if found.fingerprint != expected.fingerprint || found.inputs != expected.inputs {
            return Ok(None);
        }
        let existing = Embeddings::read(path)?;
        require_dimension(existing.dim, self.embedder.dim())?;
        require_windows_of(&existing, labels)?;
        Ok(Some(existing))
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
        let labels = self.labels(&config.splits)?;
        let embed = |at: &WindowsAtTempo| {
            let selection = Selection { splits: &config.splits, windows: Some((windows, at.tempo)) };
            self.embed_windows_of(&labels, &selection, (windows, at.tempo), Some(excerpt))
        };
        by_tempo.iter().map(embed).collect()
    }

    /// Embeds the windows of the versions of `labels`, or of an excerpt of each, at one tempo.
    fn embed_windows_of(
        &self,
        labels: &[Label],
        selection: &Selection<'_>,
        (windows, tempo): (Windows, f64),
        excerpt: Option<&Excerpt>,
    ) -> Result<Embeddings> {
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
                let done = groups.add(positions.len(), part.input, part.columns)?;
                vectors.extend(self.require_finite_vectors(done)?);
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
        vectors.extend(self.require_finite_vectors(groups.finish()?)?);
        bar.finish_and_clear();
        let (labels, vectors) = sorted_windows(labels, &positions, vectors, column_s * tempo);
        ensure!(!labels.is_empty(), "no version has a window that is not silent");
        Ok(Embeddings { labels, dim: self.embedder.dim(), vectors, provenance: self.provenance(selection) })
    }
}

/// Refuses windows that are not those of the versions of `expected`, in their order. A version whose features are silent from
/// end to end has no window.
fn require_windows_of(existing: &Embeddings, expected: &[Label]) -> Result<()> {
    ensure!(!existing.labels.is_empty(), "it holds no window");
    let mut rest = expected.iter();
    let mut versions = 0;
    for windows in existing.labels.chunk_by(|one, two| one.version_id == two.version_id) {
        ensure!(
            rest.any(|label| same_version(label, &windows[0])),
            "its version {} of the clique {} ({}) is not in the index, or at another place",
            windows[0].version_id,
            windows[0].clique_id,
            windows[0].split
        );
        versions += 1;
    }
    match existing.provenance.settings.get(ROWS).and_then(serde_json::Value::as_u64) {
        Some(rows) => ensure!(
            existing.labels.len() as u64 == rows,
            "it holds {} of the {rows} windows that were written",
            existing.labels.len()
        ),
        // Written before the number of rows was recorded.
        None => ensure!(
            versions == expected.len(),
            "it holds windows of {versions} versions, but the index has {} with features",
            expected.len()
        ),
    }
    Ok(())
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
