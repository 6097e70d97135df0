//! A self-contained page about one run, or several side by side: no network, inline SVG.
//!
//! In: folders with `embeddings.parquet`, `metrics.json` and optionally `calibration.json`, and the run's `metrics.jsonl`, if
//! there is one. Out: `report.html` and `report.md`.

mod analysis;
mod baselines;
mod chart;
mod curves;
mod markdown;
mod page;
mod reliability;
mod section;
mod text;
mod tsne;
mod write;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_formats::embeddings::Embeddings;
use bc_retrieval::Policy;
use serde_json::Value;

use analysis::Analysis;
use baselines::Baselines;
use bc_calibration::{self as calibration, Calibration};
use curves::Curves;
pub use write::write;

/// A run to report on.
#[derive(Debug, Clone)]
pub struct Source {
    /// Folder with `embeddings.parquet` and `metrics.json`.
    pub eval: PathBuf,
    /// Folder of the training run, if known.
    pub run: Option<PathBuf>,
}

impl Source {
    /// Returns the source of an evaluation's folder; its run is the parent folder, if that has a `metrics.jsonl`.
    pub fn from_folder(eval: PathBuf) -> Self {
        let run = eval.parent().map(Path::to_path_buf).filter(|run| run.join("metrics.jsonl").exists());
        Self { eval, run }
    }
}

/// The content of a run's part of the report.
struct ReportedRun {
    name: String,
    /// `metrics.json`.
    figures: Value,
    analysis: Analysis,
    curves: Option<Curves>,
    /// `calibration.json`, if it was made from these embeddings.
    calibration: Option<Calibration>,
    embeddings: Embeddings,
    /// Figures of classical methods on the same features.
    baselines: Option<Baselines>,
    /// The resolved configuration, if it is in the run's folder.
    config: Option<String>,
}

impl ReportedRun {
    fn load(source: &Source) -> Result<Self> {
        let path = source.eval.join("metrics.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}; make it with `bc-eval run` or `bc-eval metrics --json`", path.display())
        })?;
        let figures: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let vectors = source.eval.join("embeddings.parquet");
        let embeddings = Embeddings::read(&vectors)?;
        let measured = &figures["provenance"]["fingerprint"];
        ensure!(
            measured.is_null() || *measured == embeddings.provenance.fingerprint,
            "{} was made from other embeddings ({measured}) than those in its folder ({}); measure them again with `bc-eval run` or `bc-eval metrics --json`",
            path.display(),
            embeddings.provenance.fingerprint
        );
        let curves = source.run.as_deref().and_then(Curves::read);
        let calibration_path = calibration::default_path(&vectors);
        let mut calibration = Calibration::find(None, &calibration_path)?.map(|(_, calibration)| calibration);
        let fingerprint = &embeddings.provenance.fingerprint;
        if let Some(other) = calibration.take_if(|found| found.provenance.fingerprint != *fingerprint) {
            tracing::warn!(
                "{} was made from other embeddings ({}) than those in its folder ({fingerprint}) and is left out; run `bc-eval calibrate`",
                calibration_path.display(),
                other.provenance.fingerprint
            );
        }
        let policy = match &figures["policy"] {
            Value::Null => Policy::default(),
            policy => serde_json::from_value(policy.clone())
                .with_context(|| format!("the policy in {} has an unknown form", path.display()))?,
        };
        let config =
            source.run.as_ref().and_then(|run| std::fs::read_to_string(run.join("config.toml")).ok());
        let named_folder = source.run.as_deref().unwrap_or(&source.eval);
        let name =
            named_folder.file_name().unwrap_or(named_folder.as_os_str()).to_string_lossy().into_owned();
        let analysis =
            Analysis::new(&embeddings, &policy).with_context(|| source.eval.display().to_string())?;
        let baselines = Baselines::from_folder(&source.eval, &embeddings);
        Ok(Self { name, figures, analysis, curves, calibration, embeddings, baselines, config })
    }
}
