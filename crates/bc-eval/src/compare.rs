//! Whether two recordings are versions of one work.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_formats::config::Config;
use bc_formats::fingerprint;
use bc_retrieval::{Distance, Vectors, closest_by_group};
use serde::Serialize;

use crate::calibration::{self, Calibration};
use crate::embed;
use crate::origin::{self, Origin};
use crate::recording::Embedded;
use crate::windows::Windows;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// One recording.
    pub a: PathBuf,
    /// The other.
    pub b: PathBuf,
    /// Cosine of their embeddings, from -1 to 1; of the best pair of windows, where they were cut.
    pub score: f32,
    /// Where the best window of each begins, in seconds.
    pub starts_s: (f64, f64),
    /// The probability that they are versions of one work; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The probability before their scores are known.
    pub prior: f64,
}

/// Compares two audio files; `prior` is a probability ([`crate::calibration::prior`]).
///
/// # Errors
/// Files that do not decode; a calibration of another checkpoint.
pub fn run(
    config: &Config,
    [a, b]: [&Path; 2],
    windows: Option<Windows>,
    calibration: Option<&Path>,
    prior: f64,
) -> Result<Comparison> {
    let usual = calibration::beside(&embed::path_of(config));
    let mut found = Calibration::find(calibration, &usual)?;
    if let Some((path, _)) = found.take_if(|_| windows.is_some()) {
        tracing::warn!("{} is of whole tracks; windows get a score only", path.display());
    }
    let audio = origin::audio_embedder(config)?;
    if let Some((path, found)) = &found {
        Origin::of(&found.provenance)
            .expect(path, &Origin::of_network(&audio.embedder), &audio.embedder.path)
            .context("make it again with `bc-eval calibrate`")?;
    }
    let (left, right) = (audio.embed(a, windows)?, audio.embed(b, windows)?);
    let vectors = |of: &Embedded| -> Vec<f32> {
        of.excerpts.iter().flat_map(|excerpt| &excerpt.vector).copied().collect()
    };
    let dim = audio.embedder.dim();
    let (queries, candidates) = (vectors(&left), vectors(&right));
    let (queries, candidates) = (Vectors { vectors: &queries, dim }, Vectors { vectors: &candidates, dim });
    let one_group = vec![0; right.excerpts.len()];
    let closest = closest_by_group(&queries, &candidates, Distance::Cosine, &one_group, 1)?;
    let closest = closest[0].context("a recording without a window that is not silent")?;
    let score = 1.0 - closest.distance;
    let same_file = fingerprint::of_file(a)? == fingerprint::of_file(b)?;
    let probability =
        found.map(|(_, calibration)| calibration.probability(f64::from(score), same_file, prior));
    let starts_s = (left.excerpts[closest.query].start_s, right.excerpts[closest.row].start_s);
    Ok(Comparison { a: a.to_owned(), b: b.to_owned(), score, starts_s, probability, prior })
}

/// The answer for people.
#[must_use]
pub fn sentence(found: &Comparison) -> String {
    let places = match found.starts_s {
        (0.0, 0.0) => String::new(),
        (a, b) => format!(" (at {a:.0} s and {b:.0} s)"),
    };
    let verdict = match found.probability {
        None => "no probability: there is no calibration for this (`bc-eval run` makes one)".to_owned(),
        Some(probability) => format!(
            "versions of one work with a probability of {:.1} % (beforehand: {:.1} %)",
            100.0 * probability,
            100.0 * found.prior
        ),
    };
    format!("{} | {}\nscore {:.4}{places}: {verdict}", found.a.display(), found.b.display(), found.score)
}
