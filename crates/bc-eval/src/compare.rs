//! Whether two recordings are versions of one work.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bc_formats::config::Config;
use serde::Serialize;

use crate::calibration::{self, Calibration};
use crate::embed;
use crate::origin;
use crate::versions::{dot, unit};
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
    /// The probability before they were heard.
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
    let listener = origin::listener(config)?;
    if let Some((path, found)) = &found {
        origin::expect(path, &found.provenance, &listener.embedder.fingerprint, &listener.embedder.path)?;
        let layer = serde_json::json!(config.eval.layer);
        if found.provenance.settings["layer"] != layer {
            bail!(
                "{} is of the layer {}, but [eval] layer is {layer}; make it again with `bc-eval calibrate`",
                path.display(),
                found.provenance.settings["layer"]
            );
        }
    }
    let (left, right) = (listener.hear(a, windows)?, listener.hear(b, windows)?);
    let mut best = (f32::NEG_INFINITY, (0.0, 0.0));
    for one in &left.excerpts {
        for other in &right.excerpts {
            let score = dot(&unit(&one.vector), &unit(&other.vector));
            if score > best.0 {
                best = (score, (one.start_s, other.start_s));
            }
        }
    }
    let (score, starts_s) = best;
    let probability = found.map(|(_, calibration)| calibration.line.probability(f64::from(score), prior));
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
            "versions of one work with a probability of {:.1} % (before hearing them: {:.1} %)",
            100.0 * probability,
            100.0 * found.prior
        ),
    };
    format!("{} | {}\nscore {:.4}{places}: {verdict}", found.a.display(), found.b.display(), found.score)
}
