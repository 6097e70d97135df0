//! Whether two recordings are versions of one work.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_calibration::Kind;
use bc_embed::origin::{self, Origin};
use bc_embed::recording::Embedded;
use bc_embed::windows::Windows;
use bc_formats::config::Config;
use bc_formats::fingerprint;
use bc_retrieval::{Distance, Vectors, closest_by_group};
use serde::Serialize;

use crate::meaning;

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
    /// The probability that they are versions of one work, the same recording included; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The probability that they are the same recording; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability_of_same_audio: Option<f64>,
    /// What they are, where that is sure enough; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The probability before their scores are known.
    pub prior: f64,
}

/// Compares two audio files; `prior` is a probability ([`bc_calibration::prior`]).
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
    let audio = origin::audio_embedder(config)?;
    let origin = Origin::of_network(&audio.embedder);
    let network = Some(audio.embedder.path.as_path());
    let mut found = meaning::of_network(config, [network, None], &origin, calibration)?;
    if let Some((path, _)) = found.take_if(|_| windows.is_some()) {
        tracing::warn!("{} is of whole recordings; windows get a score only", path.display());
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
    let kinds = found.map(|(_, calibration)| calibration.kinds(f64::from(score), same_file, None, prior));
    let starts_s = (left.excerpts[closest.query].start_s, right.excerpts[closest.row].start_s);
    Ok(Comparison {
        a: a.to_owned(),
        b: b.to_owned(),
        score,
        starts_s,
        probability: kinds.map(|kinds| kinds.same_audio + kinds.same_work),
        probability_of_same_audio: kinds.map(|kinds| kinds.same_audio),
        kind: kinds.map(|kinds| kinds.kind()),
        prior,
    })
}

/// The answer for people.
#[must_use]
pub fn sentence(found: &Comparison) -> String {
    let places = match found.starts_s {
        (0.0, 0.0) => String::new(),
        (a, b) => format!(" (at {a:.0} s and {b:.0} s)"),
    };
    let verdict = match found.probability {
        None => "no probability: there is no calibration for this (`bc-eval calibrate` makes one)".to_owned(),
        Some(probability) => format!(
            "{}; versions of one work with a probability of {:.1} % (beforehand: {:.1} %)",
            found.kind.map_or("unsure", Kind::name),
            100.0 * probability,
            100.0 * found.prior
        ),
    };
    format!("{} | {}\nscore {:.4}{places}: {verdict}", found.a.display(), found.b.display(), found.score)
}
