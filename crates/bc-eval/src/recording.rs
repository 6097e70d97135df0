//! Audio files become vectors, on the same way as through stored features.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_audio::{Extractor, Limits};
use rayon::prelude::*;

use crate::embedder::Embedder;
use crate::lengths::ByLength;
use crate::windows::Windows;

/// A part of a recording, or all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Excerpt {
    /// Where it begins, in seconds.
    pub start_s: f64,
    /// Its embedding.
    pub vector: Vec<f32>,
}

/// A recording that the network heard.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Length of the recording in seconds.
    pub duration_s: f64,
    /// One whole, or its windows, in order.
    pub excerpts: Vec<Excerpt>,
}

/// A network with the transform it was trained on.
pub struct Listener {
    /// The network.
    pub embedder: Embedder,
    extractor: Extractor,
}

impl Listener {
    /// Plans the transform.
    ///
    /// # Errors
    /// A checkpoint whose pooling is no multiple of its features'.
    pub fn new(embedder: Embedder) -> Result<Self> {
        embedder.input.group()?;
        let extractor = Extractor::new(embedder.input.cqt, Limits::default());
        Ok(Self { embedder, extractor })
    }

    /// Decodes, transforms and embeds one file, whole or in windows.
    ///
    /// # Errors
    /// A file that is absent, does not decode, or is silent.
    pub fn hear(&self, path: &Path, windows: Option<Windows>) -> Result<Heard> {
        let mut heard = self.hear_all(std::slice::from_ref(&path.to_owned()), windows)?;
        heard.pop().unwrap_or_else(|| unreachable!("one answer a file"))
    }

    /// Many files, decoded in parallel; one answer each, in their order.
    ///
    /// # Errors
    /// Of the network; a file's own are in its answer.
    pub fn hear_all(&self, paths: &[PathBuf], windows: Option<Windows>) -> Result<Vec<Result<Heard>>> {
        let cut: Vec<Result<Cut>> = paths.par_iter().map(|path| self.cut(path, windows)).collect();
        let mut groups = ByLength::new(&self.embedder);
        let (mut places, mut vectors) = (Vec::new(), Vec::new());
        let mut answers: Vec<Result<Heard>> = Vec::with_capacity(cut.len());
        for cut in cut {
            let file = answers.len();
            answers.push(match cut {
                Err(error) => Err(error),
                Ok(Cut { duration_s, parts }) => {
                    for Part { start_s, input, columns } in parts {
                        vectors.extend(groups.add(places.len(), input, columns)?);
                        places.push((file, start_s));
                    }
                    Ok(Heard { duration_s, excerpts: Vec::new() })
                }
            });
        }
        vectors.extend(groups.finish()?);
        vectors.sort_unstable_by_key(|(place, _)| *place);
        for (place, vector) in vectors {
            let (file, start_s) = places[place];
            if let Ok(heard) = &mut answers[file] {
                heard.excerpts.push(Excerpt { start_s, vector });
            }
        }
        Ok(answers)
    }

    fn cut(&self, path: &Path, windows: Option<Windows>) -> Result<Cut> {
        let features = self.extractor.file(path).with_context(|| format!("cannot use {}", path.display()))?;
        ensure!(
            features.magnitude.iter().any(|value| value.to_f32() > 0.0),
            "cannot use {}: it is silent from end to end",
            path.display()
        );
        let (frames, input) = (features.frames, &self.embedder.input);
        let column_s = input.cqt.column_seconds();
        let spans = match windows {
            Some(windows) => windows.of(frames, column_s),
            None => vec![(0, frames)],
        };
        let mut parts = Vec::with_capacity(spans.len());
        for (start, end) in spans {
            let rows = features.magnitude.chunks_exact(frames);
            let magnitude: Vec<_> = rows.flat_map(|row| &row[start..end]).copied().collect();
            let (made, columns) = input.whole_track(&magnitude, end - start)?;
            parts.push(Part { start_s: start as f64 * column_s, input: made, columns });
        }
        Ok(Cut { duration_s: features.duration_s, parts })
    }
}

/// A recording before the network.
struct Cut {
    duration_s: f64,
    parts: Vec<Part>,
}

struct Part {
    start_s: f64,
    input: Vec<f32>,
    columns: usize,
}
