//! A self-contained page about one run, or several side by side: no network, inline SVG.
//!
//! In: folders with `embeddings.parquet`, `metrics.json` and optionally `calibration.json`, and the run's `metrics.jsonl`, if
//! there is one. Out: `report.html` and `report.md`.

mod baselines;
mod chart;
mod curves;
mod map;
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
use serde::Deserialize;
use serde_json::Value;

use crate::analysis::{self, Analysis};
use baselines::Baselines;
use bc_calibration::{self as calibration, Calibration};
use bc_embed::bundle;
use bc_embed::embedder::fingerprint_of;
use curves::Curves;
pub use write::{is_written, write};

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

    /// Returns the folder of the training run, unless its networks are others than the one that made the embeddings
    /// (`[eval] checkpoint` may name any). A run without networks, or embeddings without a known one, cannot be compared.
    fn run_of(&self, embeddings: &Embeddings) -> Option<&Path> {
        let run = self.run.as_deref()?;
        let Some(checkpoint) = embeddings.provenance.inputs.get("checkpoint") else { return Some(run) };
        let networks = networks_of(run);
        let of_run = |path: &PathBuf| fingerprint_of(path).is_ok_and(|found| found == *checkpoint);
        if networks.is_empty() || networks.iter().any(of_run) {
            return Some(run);
        }
        tracing::warn!(
            "the embeddings in {} were made by another network than those of {}, whose curves and configuration are left \
             out of the report",
            self.eval.display(),
            run.display()
        );
        None
    }

    /// Returns the name of the reported run: that of its folder, or the network's if it is not the folder's.
    fn name(&self, run: Option<&Path>, embeddings: &Embeddings) -> String {
        match (run, &self.run, embeddings.provenance.inputs.get("checkpoint")) {
            (None, Some(_), Some(checkpoint)) => format!("network {checkpoint}"),
            _ => {
                let folder = run.unwrap_or(&self.eval);
                folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned()
            }
        }
    }
}

/// Returns the networks in the folder of a training run, the one that is evaluated by default first.
fn networks_of(run: &Path) -> Vec<PathBuf> {
    let mut networks = vec![run.join("best.safetensors"), run.join("last.safetensors")];
    let list = |name: &str| {
        let entries = std::fs::read_dir(run.join(name)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    networks.extend(list("best"));
    networks.extend(list("checkpoints").into_iter().map(|state| state.join("network.safetensors")));
    networks.retain(|path| {
        path.is_file() && path.extension().is_some_and(|extension| extension == "safetensors")
    });
    networks
}

/// The content of a run's part of the report.
struct ReportedRun {
    name: String,
    /// `metrics.json`.
    figures: Value,
    /// How recordings were compared for the figures, if not by one vector each.
    compared: Option<String>,
    analysis: Analysis,
    /// What the distances of `analysis` are, as the label of an axis.
    distance_name: &'static str,
    map: Vec<map::Point>,
    curves: Option<Curves>,
    /// The calibration of the scores that were compared, if it was made from these embeddings.
    calibration: Option<Calibration>,
    embeddings: Embeddings,
    /// Figures of classical methods on the same features.
    baselines: Option<Baselines>,
    /// The resolved configuration, if it is in the run's folder.
    config: Option<String>,
}

impl ReportedRun {
    /// What makes the figures doubtful, in words.
    fn warnings(&self) -> impl Iterator<Item = &str> {
        self.figures["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

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
        let run = source.run_of(&embeddings);
        let curves = run.and_then(Curves::read);
        let policy = match &figures["policy"] {
            Value::Null => Policy::default(),
            policy => serde_json::from_value(policy.clone())
                .with_context(|| format!("the policy in {} has an unknown form", path.display()))?,
        };
        let compared = figures["compared"].as_str().map(str::to_owned);
        let calibration = calibration_of(&source.eval, &embeddings, compared.is_some())?;
        let config = run.and_then(|run| std::fs::read_to_string(run.join("config.toml")).ok());
        let name = source.name(run, &embeddings);
        let (analysis, distance_name) =
            analysis_of(&figures, &embeddings, &policy).with_context(|| source.eval.display().to_string())?;
        let map = map::points(&embeddings, analysis.split);
        let baselines = Baselines::from_folder(&source.eval, &embeddings);
        Ok(Self {
            name,
            figures,
            compared,
            analysis,
            distance_name,
            map,
            curves,
            calibration,
            embeddings,
            baselines,
            config,
        })
    }
}

/// Returns the analysis in `figures` (of `metrics.json`) or, if there is none, that of the embeddings; and what its distances are.
fn analysis_of(
    figures: &Value,
    embeddings: &Embeddings,
    policy: &Policy,
) -> Result<(Analysis, &'static str)> {
    if figures["analysis"].is_null() {
        let split = analysis::split_to_analyse(&embeddings.labels);
        let split = split.context("there are no embeddings to report on")?;
        let analysis = Analysis::of_embeddings(embeddings, split, policy)?;
        return Ok((analysis, "the cosine distance of whole recordings"));
    }
    let analysis = Analysis::deserialize(&figures["analysis"])
        .context("the analysis in metrics.json has an unknown form; run `bc-eval run` again")?;
    Ok((analysis, "the distance of the figures"))
}

/// The calibration in an evaluation's folder that belongs to the scores that were compared: those of windows if there are
/// such, else those of whole recordings.
fn calibration_of(
    folder: &Path,
    embeddings: &Embeddings,
    windows_compared: bool,
) -> Result<Option<Calibration>> {
    let of_windows = folder.join(bundle::CALIBRATION_OF_WINDOWS);
    let path = if windows_compared && of_windows.exists() {
        of_windows
    } else {
        calibration::default_path(&folder.join("embeddings.parquet"))
    };
    let Some((_, calibration)) = Calibration::find(None, &path)? else { return Ok(None) };
    // The windows have a file of their own, made from the same features by the same network.
    let (found, own) = (&calibration.provenance, &embeddings.provenance);
    let belongs = found.fingerprint == own.fingerprint || (windows_compared && found.inputs == own.inputs);
    if !belongs {
        tracing::warn!(
            "{} was made from other embeddings ({}) than those in its folder ({}) and is left out; run `bc-eval run` or `bc-eval calibrate`",
            path.display(),
            found.fingerprint,
            own.fingerprint
        );
    }
    Ok(Some(calibration).filter(|_| belongs))
}
