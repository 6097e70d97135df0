//! Embeds audio files in the same way as stored features.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_audio::{Extractor, Features, Limits};
use bc_formats::run::NetworkInput;
use half::f16;
use rayon::prelude::*;

use crate::embedder::Embedder;
use crate::files;
use crate::lengths::ByLength;
use crate::tempo::stretched;
use crate::windows::Windows;

/// Maximum magnitude of a silent recording. In the default transform a full-scale sine reaches 14.5, and 16-bit triangular
/// dither 6.5e-5 (docs/notes-eval.md); the threshold is 97 dB below the sine.
const SILENCE_THRESHOLD: f32 = 2e-4;
/// Maximum energy of a silent window as a share of the loudest window's: 60 dB below it. What remains in such a window is
/// similar noise in all recordings, so a network would judge any two of them similar.
const SILENT_SHARE: f64 = 1e-6;

/// An embedded part of a recording, or the whole recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Excerpt {
    /// Where the excerpt begins, in seconds.
    pub start_s: f64,
    /// The embedding of the excerpt.
    pub vector: Vec<f32>,
}

/// The embeddings of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Length of the recording in seconds.
    pub duration_s: f64,
    /// Length in seconds that the file's header declares, if any; a truncated file is shorter.
    pub declared_s: Option<f64>,
    /// One excerpt for the whole recording, or one for each window that is not silent, in order.
    pub excerpts: Vec<Excerpt>,
}

/// The embeddings of a recording together with those of the short windows by which it is compared
/// ([`bc_formats::run::WindowComparison`]).
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddedWithWindows {
    /// The embeddings that [`AudioEmbedder::embed_all`] returns.
    pub embedded: Embedded,
    /// For each tempo, the windows that are not silent, in order, with their start times in the recording at its own tempo.
    pub tempi: Vec<Vec<Excerpt>>,
}

impl EmbeddedWithWindows {
    /// Combines the cuts of one recording: the first one is `embedded`, the others are its tempi.
    fn from_cuts(cuts: Vec<Embedded>) -> Self {
        let mut cuts = cuts.into_iter();
        let embedded = cuts.next().unwrap_or_else(|| unreachable!("one result per cut"));
        Self { embedded, tempi: cuts.map(|cut| cut.excerpts).collect() }
    }
}

/// A network with the transform it was trained on.
pub struct AudioEmbedder {
    /// The network.
    pub embedder: Embedder,
    extractor: Extractor,
}

impl AudioEmbedder {
    /// Plans the transform for the network's input; `limits` bound the size of a file.
    ///
    /// # Errors
    /// A checkpoint whose pooling is not a multiple of its features' pooling.
    pub fn new(embedder: Embedder, limits: Limits) -> Result<Self> {
        embedder.input.group()?;
        let extractor = Extractor::new(embedder.input.cqt, limits);
        Ok(Self { embedder, extractor })
    }

    /// Decodes, transforms and embeds one file, whole or in windows.
    ///
    /// # Errors
    /// A file that is absent, does not decode, or is silent.
    pub fn embed(&self, path: &Path, windows: Option<Windows>) -> Result<Embedded> {
        let mut embedded = self.embed_all(std::slice::from_ref(&path.to_owned()), windows)?;
        embedded.pop().unwrap_or_else(|| unreachable!("one result per file"))
    }

    /// Embeds many files, decoded in parallel: one result per file, in order. The features of all files are in memory at once.
    ///
    /// # Errors
    /// Errors of the network; a file's own errors are in its result.
    pub fn embed_all(&self, paths: &[PathBuf], windows: Option<Windows>) -> Result<Vec<Result<Embedded>>> {
        let compared = self.embed_compared(paths, windows, None)?.into_iter();
        Ok(compared.map(|compared| Ok(compared?.embedded)).collect())
    }

    /// Embeds files like [`AudioEmbedder::embed_all`] and, if `short` is given, also the short windows of each file at each of
    /// the given tempi (relative to the file's own). Each file is decoded once.
    ///
    /// # Errors
    /// The errors of [`AudioEmbedder::embed_all`].
    pub fn embed_compared(
        &self,
        paths: &[PathBuf],
        windows: Option<Windows>,
        short: Option<(Windows, &[f64])>,
    ) -> Result<Vec<Result<EmbeddedWithWindows>>> {
        let cut = |path: &PathBuf| self.cuts(&self.features(path)?, windows, short);
        let cuts: Vec<Result<Vec<Cut>>> = paths.par_iter().map(cut).collect();
        let answers = self.embed_cuts(paths.iter().map(PathBuf::as_path).zip(cuts).collect())?.into_iter();
        Ok(answers.map(|answer| Ok(EmbeddedWithWindows::from_cuts(answer?))).collect())
    }

    /// Embeds one file like [`AudioEmbedder::embed_compared`], from features that [`AudioEmbedder::features`] computed.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn embed_features_compared(
        &self,
        path: &Path,
        features: &Features,
        windows: Option<Windows>,
        short: Option<(Windows, &[f64])>,
    ) -> Result<EmbeddedWithWindows> {
        Ok(EmbeddedWithWindows::from_cuts(self.embed_file(path, self.cuts(features, windows, short))?))
    }

    /// Embeds the `short` windows at each of `tempi` of a file whose features are already computed.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn embed_tempi(
        &self,
        path: &Path,
        features: &Features,
        short: Windows,
        tempi: &[f64],
    ) -> Result<Vec<Vec<Excerpt>>> {
        let cuts = tempi.iter().map(|tempo| self.cut(features, Some(short), *tempo)).collect();
        Ok(self.embed_file(path, cuts)?.into_iter().map(|embedded| embedded.excerpts).collect())
    }

    /// Embeds a file whose features are already computed ([`AudioEmbedder::features`]), whole or in windows.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn embed_features(
        &self,
        path: &Path,
        features: &Features,
        windows: Option<Windows>,
    ) -> Result<Embedded> {
        Ok(self.embed_features_compared(path, features, windows, None)?.embedded)
    }

    fn embed_file(&self, path: &Path, cuts: Result<Vec<Cut>>) -> Result<Vec<Embedded>> {
        let mut answers = self.embed_cuts(vec![(path, cuts)])?;
        answers.pop().unwrap_or_else(|| unreachable!("one result per file"))
    }

    /// Embeds the cuts of several files in common batches: one result per file, with one entry per cut.
    fn embed_cuts(&self, files: Vec<(&Path, Result<Vec<Cut>>)>) -> Result<Vec<Result<Vec<Embedded>>>> {
        let column_s = self.embedder.input.cqt.column_seconds();
        let mut groups = ByLength::new(&self.embedder);
        let (mut origins, mut vectors) = (Vec::new(), Vec::new());
        let mut answers: Vec<(&Path, Result<Vec<Embedded>>)> = Vec::with_capacity(files.len());
        for (file, (path, cuts)) in files.into_iter().enumerate() {
            let cuts = match cuts {
                Ok(cuts) => cuts,
                Err(error) => {
                    answers.push((path, Err(error)));
                    continue;
                }
            };
            let mut embedded = Vec::with_capacity(cuts.len());
            for (number, Cut { duration_s, declared_s, parts, tempo }) in cuts.into_iter().enumerate() {
                for CutPart { start_column, input, columns } in parts {
                    vectors.extend(groups.add(origins.len(), input, columns)?);
                    origins.push((file, number, start_column as f64 * column_s * tempo));
                }
                embedded.push(Embedded { duration_s, declared_s, excerpts: Vec::new() });
            }
            answers.push((path, Ok(embedded)));
        }
        vectors.extend(groups.finish()?);
        vectors.sort_unstable_by_key(|(part, _)| *part);
        for (part, vector) in vectors {
            let (file, number, start_s) = origins[part];
            if let Ok(embedded) = &mut answers[file].1 {
                embedded[number].excerpts.push(Excerpt { start_s, vector });
            }
        }
        let checked = answers.into_iter().map(|(path, answer)| {
            answer.and_then(|cuts| cuts.into_iter().map(|embedded| check_finite(embedded, path)).collect())
        });
        Ok(checked.collect())
    }

    /// Embeds the given spans of a file (beginning and end in seconds, of any lengths); returns one vector per span.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn embed_spans(&self, features: &Features, spans: &[(f64, f64)]) -> Result<Vec<Vec<f32>>> {
        let column_s = self.embedder.input.cqt.column_seconds();
        let mut groups = ByLength::new(&self.embedder);
        let mut vectors = Vec::with_capacity(spans.len());
        for (number, (start_s, end_s)) in spans.iter().enumerate() {
            let column = |seconds: f64| ((seconds / column_s).round().max(0.0) as usize).min(features.frames);
            let start = column(*start_s).min(features.frames - 1);
            let end = column(*end_s).max(start + 1);
            let part =
                CutPart::new(&self.embedder.input, &features.magnitude, features.frames, (start, end))?;
            vectors.extend(groups.add(number, part.input, part.columns)?);
        }
        vectors.extend(groups.finish()?);
        vectors.sort_unstable_by_key(|(number, _)| *number);
        Ok(vectors.into_iter().map(|(_, vector)| vector).collect())
    }

    /// Decodes and transforms one file.
    ///
    /// # Errors
    /// A file that is absent, does not decode, or is silent.
    pub fn features(&self, path: &Path) -> Result<Features> {
        let local = files::local(path)?;
        let features =
            self.extractor.file(local.path()).with_context(|| format!("cannot use {}", path.display()))?;
        ensure!(
            features.magnitude.iter().any(|value| value.to_f32() > SILENCE_THRESHOLD),
            "cannot use {}: it is silent from end to end",
            path.display()
        );
        ensure!(
            features.magnitude.iter().all(|value| value.is_finite()),
            "cannot use {}: it is too loud for 16-bit magnitudes; scale its samples to at most 1",
            path.display()
        );
        Ok(features)
    }

    /// Returns the cuts of a recording: first the whole recording or its `windows`, then its short windows at each tempo.
    fn cuts(
        &self,
        features: &Features,
        windows: Option<Windows>,
        short: Option<(Windows, &[f64])>,
    ) -> Result<Vec<Cut>> {
        let first = self.cut(features, windows, 1.0);
        let windows_at_tempi =
            short.into_iter().flat_map(|(short, tempi)| tempi.iter().map(move |tempo| (short, *tempo)));
        let at_tempi = windows_at_tempi.map(|(short, tempo)| self.cut(features, Some(short), tempo));
        std::iter::once(first).chain(at_tempi).collect()
    }

    fn cut(&self, features: &Features, windows: Option<Windows>, tempo: f64) -> Result<Cut> {
        let (magnitude, frames) = stretched(&features.magnitude, features.frames, tempo);
        let parts = parts(&self.embedder.input, &magnitude, frames, windows)?;
        Ok(Cut { duration_s: features.duration_s, declared_s: features.header.declared_s, parts, tempo })
    }
}

/// Refuses an embedding with a number that is not finite.
fn check_finite(embedded: Embedded, path: &Path) -> Result<Embedded> {
    let mut values = embedded.excerpts.iter().flat_map(|excerpt| &excerpt.vector);
    ensure!(
        values.all(|value| value.is_finite()),
        "cannot use {}: its embedding holds a value that is not a finite number",
        path.display()
    );
    Ok(embedded)
}

/// Cuts features (bins x `frames`, of the transform `input.cqt`) into inputs of the network: one for the whole recording, or one
/// for each window that is not silent.
///
/// # Errors
/// Features of another shape, or pooled more coarsely than the input.
pub fn parts(
    input: &NetworkInput,
    magnitude: &[f16],
    frames: usize,
    windows: Option<Windows>,
) -> Result<Vec<CutPart>> {
    let spans = match windows {
        Some(windows) => audible(magnitude, frames, windows.spans(frames, input.cqt.column_seconds())),
        None => vec![(0, frames)],
    };
    spans.into_iter().map(|span| CutPart::new(input, magnitude, frames, span)).collect()
}

/// Returns those of `spans` (first and end column) that are not silent compared with the loudest one ([`SILENT_SHARE`]);
/// `magnitude` is bins x `frames`.
fn audible(magnitude: &[f16], frames: usize, spans: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut columns = vec![0f64; frames];
    for row in magnitude.chunks_exact(frames) {
        for (column, value) in columns.iter_mut().zip(row) {
            *column += f64::from(value.to_f32()).powi(2);
        }
    }
    let energies: Vec<f64> = spans.iter().map(|(start, end)| columns[*start..*end].iter().sum()).collect();
    let loudest = energies.iter().copied().fold(0.0, f64::max);
    let loud = spans.into_iter().zip(energies).filter(|(_, energy)| *energy > SILENT_SHARE * loudest);
    loud.map(|(span, _)| span).collect()
}

/// Copies the columns of `span` (first and end column) from features (bins x `frames`).
#[must_use]
pub fn columns_of(magnitude: &[f16], frames: usize, span: (usize, usize)) -> Vec<f16> {
    magnitude.chunks_exact(frames).flat_map(|row| &row[span.0..span.1]).copied().collect()
}

/// A recording cut into inputs of the network.
struct Cut {
    duration_s: f64,
    declared_s: Option<f64>,
    parts: Vec<CutPart>,
    /// Tempo of `parts` relative to the recording's own: a column of them stands for `tempo` times as much of the recording.
    tempo: f64,
}

/// A part of a recording as an input of the network.
pub struct CutPart {
    /// Column of the recording's features at which the part begins.
    pub start_column: usize,
    /// The network's input: rows x `columns`, pooled and scaled.
    pub input: Vec<f32>,
    /// Number of columns of the input.
    pub columns: usize,
}

impl CutPart {
    /// Cuts a span (first and end column) out of features (bins x `frames`).
    fn new(input: &NetworkInput, magnitude: &[f16], frames: usize, span: (usize, usize)) -> Result<Self> {
        let (input, columns) = input.whole_track(&columns_of(magnitude, frames, span), span.1 - span.0)?;
        Ok(Self { start_column: span.0, input, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_spans_are_dropped_and_quiet_ones_kept() {
        // Two bins of six columns: loud, 50 dB below, silence.
        let row = [1.0, 1.0, 0.003, 0.003, 0.0, 0.0].map(f16::from_f32);
        let magnitude = [row, row].concat();
        let spans = vec![(0, 2), (2, 4), (4, 6), (3, 5)];
        assert_eq!(audible(&magnitude, 6, spans), [(0, 2), (2, 4), (3, 5)]);
    }
}
