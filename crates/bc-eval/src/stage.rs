//! Runs the whole stage: embeddings, figures and report of a configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_cli::{Shard, saving};
use bc_formats::config::Config;
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;
use bc_retrieval::Policy;
use comfy_table::Table;

use crate::embed::WindowEmbeddings;
use crate::metrics::{EvaluationResults, Figures, WindowDistances};
use crate::{embed, metrics, report};
use bc_calibration::versions::Versions;
use bc_calibration::{self as calibration, Calibration};
use bc_embed::bundle;

/// The results of the stage.
pub struct StageResults {
    /// The figures.
    pub measured: EvaluationResults,
    /// Whether everything was already up to date.
    pub up_to_date: bool,
    /// Path of `report.html`.
    pub report: PathBuf,
}

/// Embeds, measures, calibrates and reports; skips what is up to date.
///
/// # Errors
/// Inputs that are missing or do not match, nothing to measure, files that cannot be written.
pub fn run(config: &Config) -> Result<StageResults> {
    // Before anything is embedded.
    let policy = Policy::named(&config.eval.policy)?;
    let inputs = embed::Inputs::open(config)?;
    let status = inputs.whole_recordings(config, Shard::WHOLE)?;
    let embeddings = embed::path_of(config);
    let folder = &config.eval.output;
    let figures = folder.join("metrics.json");
    let page = folder.join("report.html");

    let whole = Embeddings::read(&embeddings)?;
    let mut measured = metrics::of_read(&embeddings, &whole, None, &policy, config.eval.seed)?;
    measured.warnings.clone_from(&inputs.warnings);
    let window_calibration = measure_main_comparison(config, &inputs, &whole, &policy, &mut measured)?;
    let text = serde_json::to_vec_pretty(&measured)?;
    let calibration_path = calibration::default_path(&embeddings);
    let calibration = calibrate(&embeddings, &whole)?;
    let window_calibration_path = folder.join(bundle::CALIBRATION_OF_WINDOWS);
    let up_to_date = status == embed::Status::UpToDate
        && std::fs::read(&figures).is_ok_and(|found| found == text)
        && std::fs::read(&calibration_path).ok() == calibration
        && std::fs::read(&window_calibration_path).ok() == window_calibration
        && report::is_written(folder);
    if !up_to_date {
        // A kill before the new files are written must not leave the old ones, which would count as up to date.
        for old in [&page, &folder.join("report.md")].into_iter().filter(|old| old.exists()) {
            std::fs::remove_file(old)
                .with_context(|| format!("cannot remove {}, which is out of date", old.display()))?;
        }
        saving::write(&figures, &text)?;
        replace(&calibration_path, calibration)?;
        replace(&window_calibration_path, window_calibration)?;
        let source = report::Source { eval: folder.clone(), run: Some(config.train.run.clone()) };
        report::write(&[source], folder)?;
    }
    Ok(StageResults { measured, up_to_date, report: page })
}

/// Measures windows or a re-ranking, if the configuration or the network asks for them: their figures become the main ones, and
/// those of whole recordings move to `whole_tracks`. Returns the calibration of the scores of windows, if there is one.
fn measure_main_comparison(
    config: &Config,
    inputs: &embed::Inputs,
    whole: &Embeddings,
    policy: &Policy,
    measured: &mut EvaluationResults,
) -> Result<Option<Vec<u8>>> {
    let (rerank, seed) = (metrics::rerank_of(&config.eval), config.eval.seed);
    let mut window_calibration = None;
    let (main, mut compared) = if let Some(windowed) = inputs.windows(&config.eval)? {
        let distances = metrics::distances(&windowed)?;
        window_calibration = calibrate_windows(&windowed, &distances)?;
        let neighbours = windowed.comparison.neighbours;
        let figures = metrics::of_windows(distances, neighbours, rerank.as_ref(), policy, seed)?;
        (figures, describe_comparison(&windowed))
    } else if let Some(settings) = &rerank {
        (metrics::of_reranked(whole, settings, policy, seed)?, "whole recordings".to_owned())
    } else {
        return Ok(None);
    };
    if let Some(settings) = rerank {
        compared += &format!(
            "; re-ranked by {} mutual neighbours, {} averaged, weight {} of the distance itself",
            settings.neighbours, settings.averaged, settings.weight
        );
    }
    measured.whole_tracks = std::mem::replace(&mut measured.splits, main.figures);
    measured.analysis = main.analysis;
    measured.compared = Some(compared);
    Ok(window_calibration)
}

/// Returns a description of how windows were compared.
fn describe_comparison(windowed: &WindowEmbeddings) -> String {
    let comparison = &windowed.comparison;
    format!(
        "windows of {} s every {} s, those of the query at its tempo times {}; distances scaled locally by {} neighbours",
        comparison.window_s,
        comparison.step_s,
        windowed.tempi_text(),
        comparison.neighbours
    )
}

/// Writes a file, or removes an old one if there is nothing to write.
fn replace(path: &Path, content: Option<Vec<u8>>) -> Result<()> {
    match content {
        Some(content) => saving::write(path, &content),
        None if path.exists() => std::fs::remove_file(path)
            .with_context(|| format!("cannot remove {}, which is out of date", path.display())),
        None => Ok(()),
    }
}

/// Computes the calibration of these embeddings as JSON; `None` if their splits do not suffice.
fn calibrate(path: &Path, embeddings: &Embeddings) -> Result<Option<Vec<u8>>> {
    as_json(Calibration::from_embeddings(path, embeddings), "scores of whole recordings get no probability")
}

/// Computes the calibration of the scores of windows, compared as a search does.
fn calibrate_windows(
    windowed: &WindowEmbeddings,
    distances: &[WindowDistances<'_>],
) -> Result<Option<Vec<u8>>> {
    let own_tempo = &windowed.by_tempo[0];
    let similarities = |split: Split| -> (Vec<&Label>, Vec<f32>) {
        let found = distances.iter().find(|distances| distances.split == split);
        found.map_or_else(Default::default, |distances| {
            (distances.labels.clone(), distances.one_way.iter().map(|distance| 1.0 - distance).collect())
        })
    };
    let [(val, val_scores), (test, test_scores)] = [Split::Val, Split::Test].map(similarities);
    let mut provenance = own_tempo.embeddings.provenance.clone();
    provenance.settings[bc_calibration::COMPARE] = serde_json::json!(windowed.comparison);
    let [val, test] = [Versions::of_scores(&val, &val_scores), Versions::of_scores(&test, &test_scores)];
    let calibration = Calibration::fit(&own_tempo.path, &val, &test, &provenance);
    as_json(calibration, "scores of windows get no probability of their own")
}

/// Returns a calibration as JSON; `None`, with a warning that gives the reason, if there is none.
fn as_json(calibration: Result<Calibration>, consequence: &str) -> Result<Option<Vec<u8>>> {
    match calibration {
        Ok(calibration) => Ok(Some(serde_json::to_vec_pretty(&calibration)?)),
        Err(reason) => {
            tracing::warn!("no calibration, so {consequence}: {reason}");
            Ok(None)
        }
    }
}

/// Returns the main figures, one row per split.
#[must_use]
pub fn summary(measured: &EvaluationResults) -> Table {
    let mut table = Table::new();
    table.set_header([
        "split",
        "queries",
        "mAP",
        "MR1",
        "hit@1",
        "hit@10",
        "random mAP",
        "random MR1",
        "random hit@1",
    ]);
    let whole = measured.whole_tracks.iter().map(|(split, figures)| (format!("{split}, whole"), figures));
    let main = measured.splits.iter().map(|(split, figures)| (split.clone(), figures));
    for (split, Figures { metrics, chance, .. }) in main.chain(whole) {
        table.add_row([
            split,
            metrics.queries.to_string(),
            format!("{:.4}", metrics.map),
            format!("{:.2}", metrics.mr1),
            format!("{:.4}", metrics.hit_at_1),
            format!("{:.4}", metrics.hit_at_10),
            format!("{:.4}", chance.map),
            format!("{:.2}", chance.mr1),
            format!("{:.4}", chance.hit_at_1),
        ]);
    }
    table
}
