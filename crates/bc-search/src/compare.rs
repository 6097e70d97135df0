//! Compares two recordings: are they versions of one work?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_audio::Features;
use bc_calibration::PairKind;
use bc_embed::origin::{self, Origin};
use bc_embed::recording::Excerpt;
use bc_embed::windows::Windows;
use bc_formats::config::Config;
use bc_formats::fingerprint;
use bc_retrieval::{Distance, Vectors, closest_by_group};
use serde::Serialize;

use crate::aligned::{self, Aligned};
use crate::calibrations;

/// The result of comparing two recordings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// One recording.
    pub a: PathBuf,
    /// The other recording.
    pub b: PathBuf,
    /// Cosine of their embeddings, from -1 to 1; of the best pair of windows, if they were cut.
    pub score: f32,
    /// Where the best window of each begins, in seconds.
    pub starts_s: (f64, f64),
    /// The probability that they are versions of one work, the same recording included; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The probability that they are the same recording; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability_of_same_audio: Option<f64>,
    /// The kind of the pair, if it is sure enough; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PairKind>,
    /// The probability before their scores are known.
    pub prior: f64,
    /// Their alignment; absent unless requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alignment: Option<Aligned>,
}

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Cut both recordings into windows; the best pair counts.
    pub windows: Option<Windows>,
    /// Path of `calibration.json`; the network's own by default.
    pub calibration: Option<PathBuf>,
    /// The probability before the score is known ([`bc_calibration::check_prior`]).
    pub prior: f64,
    /// Also align the recordings.
    pub align: bool,
}

/// The cosine of two recordings' best parts, and where these begin.
///
/// # Errors
/// A recording without parts.
pub fn closest(a: &[Excerpt], b: &[Excerpt], dim: usize) -> Result<(f32, (f64, f64))> {
    let vectors = |excerpts: &[Excerpt]| -> Vec<f32> {
        excerpts.iter().flat_map(|excerpt| &excerpt.vector).copied().collect()
    };
    let (queries, candidates) = (vectors(a), vectors(b));
    let (queries, candidates) = (Vectors { vectors: &queries, dim }, Vectors { vectors: &candidates, dim });
    let closest = closest_by_group(&queries, &candidates, Distance::Cosine, &vec![0; b.len()], 1)?;
    let closest =
        closest.first().copied().flatten().context("a recording without a window that is not silent")?;
    Ok((1.0 - closest.distance, (a[closest.query].start_s, b[closest.row].start_s)))
}

/// Compares two audio files.
///
/// # Errors
/// Files that do not decode; a calibration of another checkpoint.
pub fn run(config: &Config, [a, b]: [&Path; 2], options: &Options) -> Result<Comparison> {
    let audio = origin::audio_embedder(config)?;
    let origin = Origin::from_embedder(&audio.embedder);
    let network = Some(audio.embedder.path.as_path());
    let mut calibration =
        calibrations::of_network(config, network, None, &origin, options.calibration.as_deref())?;
    if let Some((path, _)) = calibration.take_if(|_| options.windows.is_some()) {
        tracing::warn!(
            "{} is for whole recordings; windows get a score without a probability",
            path.display()
        );
    }
    let (left, right) = rayon::join(|| audio.features(a), || audio.features(b));
    let (left, right) = (left?, right?);
    let embed = |path: &Path, features: &Features| audio.embed_features(path, features, options.windows);
    let (score, starts_s) =
        closest(&embed(a, &left)?.excerpts, &embed(b, &right)?.excerpts, audio.embedder.dim())?;
    let same_file = fingerprint::of_file(a)? == fingerprint::of_file(b)?;
    let kinds = calibration
        .map(|(_, calibration)| calibration.kinds(f64::from(score), same_file, None, options.prior));
    Ok(Comparison {
        a: a.to_owned(),
        b: b.to_owned(),
        score,
        starts_s,
        probability: kinds.map(|kinds| kinds.same_audio + kinds.same_work),
        probability_of_same_audio: kinds.map(|kinds| kinds.same_audio),
        kind: kinds.map(|kinds| kinds.kind()),
        prior: options.prior,
        alignment: options.align.then(|| aligned::align_features(&audio, &left, &right)),
    })
}

/// A comparison as text.
#[must_use]
pub fn sentence(comparison: &Comparison) -> String {
    let starts = match comparison.starts_s {
        (0.0, 0.0) => String::new(),
        (a, b) => format!(" (at {a:.0} s and {b:.0} s)"),
    };
    let verdict = match comparison.probability {
        None => "no probability: there is no calibration for this comparison (`bc-eval calibrate` makes one)"
            .to_owned(),
        Some(probability) => format!(
            "{}; versions of one work with a probability of {:.1} % (prior: {:.1} %)",
            comparison.kind.map_or("unsure", PairKind::name),
            100.0 * probability,
            100.0 * comparison.prior
        ),
    };
    let aligned =
        comparison.alignment.as_ref().map(|aligned| format!("\nthe second: {aligned}")).unwrap_or_default();
    format!(
        "{} | {}\nscore {:.4}{starts}: {verdict}{aligned}",
        comparison.a.display(),
        comparison.b.display(),
        comparison.score
    )
}
