//! Compares two recordings: are they versions of one work?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_audio::Features;
use bc_calibration::PairKind;
use bc_embed::origin::{self, Origin};
use bc_embed::recording::{AudioEmbedder, Excerpt};
use bc_embed::windows::Windows;
use bc_formats::config::Config;
use bc_formats::fingerprint;
use bc_formats::run::WindowComparison;
use bc_retrieval::{Distance, Vectors, WindowSearch, WindowSets, closest_by_group};
use serde::Serialize;

use crate::aligned::{self, Aligned};
use crate::calibrations::{self, PairScoring};

/// The result of comparing two recordings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// One recording.
    pub a: PathBuf,
    /// The other recording.
    pub b: PathBuf,
    /// How similar they are, from -1 to 1: by short windows ([`by_windows`]), or the cosine of their embeddings; of the best pair of
    /// windows, where they were cut.
    pub score: f32,
    /// Whether the score is of short windows.
    pub by_windows: bool,
    /// Where the best window of each begins, in seconds.
    pub starts_s: (f64, f64),
    /// The probability that they are versions of one work, the same recording included; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The probability that they are the same recording; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability_of_same_audio: Option<f64>,
    /// The kind of the pair: `same-audio` if the bytes of both files are equal, else by the score, or absent without a calibration.
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
    /// A file of `bc-eval calibrate` or `bc-eval run`, of whole recordings or of short windows, which decides what is compared; the
    /// network's own if not given.
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
fn closest(a: &[Excerpt], b: &[Excerpt], dim: usize) -> Result<(f32, (f64, f64))> {
    let (queries, candidates) = (vectors(a), vectors(b));
    let (queries, candidates) = (Vectors { vectors: &queries, dim }, Vectors { vectors: &candidates, dim });
    let closest = closest_by_group(&queries, &candidates, Distance::Cosine, &vec![0; b.len()], 1)?;
    let closest =
        closest.first().copied().flatten().context("a recording without a window that is not silent")?;
    Ok((1.0 - closest.distance, (a[closest.query].start_s, b[closest.row].start_s)))
}

/// The vectors of excerpts, one after the other.
fn vectors(excerpts: &[Excerpt]) -> Vec<f32> {
    excerpts.iter().flat_map(|excerpt| &excerpt.vector).copied().collect()
}

/// The cosine of two recordings, whole or of their best pair of `windows`, and where that begins in each.
///
/// # Errors
/// Errors of the network; a recording without a window that is not silent.
pub fn by_vectors(
    audio: &AudioEmbedder,
    recordings: [(&Path, &Features); 2],
    windows: Option<Windows>,
) -> Result<(f32, (f64, f64))> {
    let [left, right] = recordings.map(|(path, features)| audio.embed_features(path, features, windows));
    closest(&left?.excerpts, &right?.excerpts, audio.embedder.dim())
}

/// How similar the short windows of two recordings are, from -1 to 1: the Chamfer similarity ([`bc_retrieval::chamfer`]) of the first
/// at its best tempo with the second, and of the second with the first, averaged, so that their order does not matter.
///
/// # Errors
/// Errors of the network; a recording without a window that is not silent.
pub fn by_windows(
    audio: &AudioEmbedder,
    recordings: [(&Path, &Features); 2],
    compare: &WindowComparison,
) -> Result<f32> {
    let windows = Windows::from_comparison(compare)?;
    // A candidate is compared at its own tempo, which is one of those of a query as a rule.
    let mut tempi = compare.tempi.clone();
    let own = tempi.iter().position(|tempo| *tempo == 1.0).unwrap_or_else(|| {
        tempi.push(1.0);
        tempi.len() - 1
    });
    let embed = |(path, features): (&Path, &Features)| audio.embed_tempi(path, features, windows, &tempi);
    let [first, second] = recordings;
    let (first, second) = rayon::join(|| embed(first), || embed(second));
    let (first, second) = (first?, second?);
    let dim = audio.embedder.dim();
    let one_sided = |query: &[Vec<Excerpt>], candidate: &[Vec<Excerpt>]| {
        one_sided(&query[..compare.tempi.len()], &candidate[own], dim)
    };
    Ok(0.5 * (one_sided(&first, &second)? + one_sided(&second, &first)?))
}

/// The similarity of the windows of a recording, at the best of its `tempi`, with those of a candidate.
fn one_sided(tempi: &[Vec<Excerpt>], candidate: &[Excerpt], dim: usize) -> Result<f32> {
    let candidates = vectors(candidate);
    let tempi: Vec<Vec<f32>> = tempi.iter().filter(|at| !at.is_empty()).map(|at| vectors(at)).collect();
    ensure!(!candidates.is_empty() && !tempi.is_empty(), "a recording without a window that is not silent");
    let offsets = |vectors: &[f32]| [0, vectors.len() / dim];
    let ends: Vec<[usize; 2]> = tempi.iter().map(|vectors| offsets(vectors)).collect();
    let set = |vectors, offsets| WindowSets { vectors: Vectors { vectors, dim }, offsets };
    let queries: Vec<WindowSets> =
        tempi.iter().zip(&ends).map(|(vectors, ends)| set(vectors, ends)).collect();
    let end = offsets(&candidates);
    Ok(1.0 - WindowSearch::new(&queries, set(&candidates, &end))?.matrix()[0])
}

/// Compares two audio files: by short windows if the network's file recommends that and its calibration is of such scores, otherwise
/// by one vector each.
///
/// # Errors
/// Files that do not decode; a calibration of another checkpoint.
pub fn run(config: &Config, [a, b]: [&Path; 2], options: &Options) -> Result<Comparison> {
    let audio = origin::audio_embedder(config)?;
    let origin = Origin::from_embedder(&audio.embedder);
    let recommended = WindowComparison::of(&config.eval, audio.embedder.recommended.as_ref());
    let recommended = recommended.filter(|_| options.windows.is_none());
    let network = audio.embedder.path.as_path();
    let PairScoring { windows, mut calibration } =
        calibrations::of_pairs(config, network, &origin, options.calibration.as_deref(), recommended)?;
    if let Some((path, _)) = calibration.take_if(|_| options.windows.is_some()) {
        tracing::warn!(
            "{} is for whole recordings; windows get a score without a probability",
            path.display()
        );
    }
    let (left, right) = rayon::join(|| audio.features(a), || audio.features(b));
    let (left, right) = (left?, right?);
    let recordings = [(a, &left), (b, &right)];
    let (score, starts_s) = match &windows {
        Some(compare) => (by_windows(&audio, recordings, compare)?, (0.0, 0.0)),
        None => by_vectors(&audio, recordings, options.windows)?,
    };
    let same_file = fingerprint::of_file(a)? == fingerprint::of_file(b)?;
    let kinds = calibration
        .map(|(_, calibration)| calibration.kinds(f64::from(score), same_file, None, options.prior));
    Ok(Comparison {
        a: a.to_owned(),
        b: b.to_owned(),
        score,
        by_windows: windows.is_some(),
        starts_s,
        probability: kinds.map(|kinds| kinds.same_audio + kinds.same_work),
        probability_of_same_audio: kinds.map(|kinds| kinds.same_audio),
        kind: PairKind::of(kinds, same_file),
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
    let kind = match comparison.kind {
        Some(PairKind::SameAudio) => "same audio: the bytes of both files are equal",
        kind => kind.map_or("unsure", PairKind::name),
    };
    let verdict = match comparison.probability {
        None => format!(
            "{}no probability: there is no calibration for this comparison (`bc-eval calibrate` makes one)",
            if comparison.kind.is_some() { format!("{kind}; ") } else { String::new() }
        ),
        Some(probability) => format!(
            "{kind}; versions of one work with a probability of {:.1} % (prior: {:.1} %)",
            100.0 * probability,
            100.0 * comparison.prior
        ),
    };
    let aligned = comparison.alignment.as_ref().map_or_else(String::new, |aligned| {
        format!("\nthe second: {}", aligned.describe("of the first", "of the second"))
    });
    format!(
        "{} | {}\nscore {:.4}{starts}: {verdict}{aligned}",
        comparison.a.display(),
        comparison.b.display(),
        comparison.score
    )
}
