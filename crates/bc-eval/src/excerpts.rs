//! Measures how well short queries find their works: excerpts of every version against the windows of all others.
//!
//! **In**: the features, index and network of a configuration. **Out**: `excerpts.json` in the folder of the metrics, and the
//! windows that `run` embeds, if they are missing. An excerpt is cut from the features before it is stretched, so that nothing
//! outside of it is used; distances are not scaled by neighbours, because a single query comes without a collection.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use bc_cli::saving;
use bc_formats::config::{Compare, Config, EvalConfig};
use bc_formats::provenance::Provenance;
use bc_retrieval::Policy;
use comfy_table::Table;
use serde::Serialize;

use crate::embed::{Excerpt, Inputs};
use crate::metrics::{self, Figures};

/// The content of `excerpts.json`.
#[derive(Debug, Serialize)]
pub struct ExcerptResults {
    /// The rules as a sentence.
    pub rules: String,
    /// What makes the figures doubtful, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How excerpts were compared, as a sentence.
    pub compared: String,
    /// Seed of the positions of the excerpts.
    pub seed: u64,
    /// Figures by split and by seconds of an excerpt.
    pub splits: BTreeMap<String, BTreeMap<String, Figures>>,
    /// Provenance of the windows that the excerpts are compared with.
    pub provenance: Provenance,
}

/// Returns the path of the figures.
pub fn path_of(config: &Config) -> PathBuf {
    config.eval.output.join("excerpts.json")
}

/// Measures excerpts of each of these lengths and writes `excerpts.json`.
///
/// # Errors
/// A length that is too short; inputs that are missing or do not match; nothing to measure; a file that cannot be written.
pub fn run(config: &Config, seconds: &[f64]) -> Result<ExcerptResults> {
    for length in seconds {
        ensure!(
            (0.5..=36_000.0).contains(length),
            "an excerpt of {length} s is too short; --seconds takes lengths from 0.5 s"
        );
    }
    let policy = Policy::named(&config.eval.policy)?;
    let inputs = Inputs::open(config)?;
    let windowed = match inputs.windows(&config.eval)? {
        Some(windowed) => Some(windowed),
        // Whole recordings are too different from an excerpt, whatever comparison the network recommends.
        None => inputs.windows(&EvalConfig { compare: Compare::Windows, ..config.eval.clone() })?,
    };
    let Some(windowed) = windowed else { unreachable!("windows were requested") };
    let seed = config.eval.seed;
    let mut splits: BTreeMap<String, BTreeMap<String, Figures>> = BTreeMap::new();
    for &length in seconds {
        let queries = inputs.excerpts(&config.eval, &windowed, &Excerpt { seconds: length, seed })?;
        for (split, figures) in metrics::of_excerpts(&queries, &windowed, &policy, seed)? {
            splits.entry(split).or_default().insert(length.to_string(), figures);
        }
    }
    ensure!(!splits.is_empty(), "no split has two versions of a work, so nothing can be found");
    let results = ExcerptResults {
        rules: policy.statement(),
        warnings: inputs.warnings.clone(),
        compared: describe_comparison(&windowed),
        seed,
        splits,
        provenance: windowed.by_tempo[0].embeddings.provenance.clone(),
    };
    saving::write_json(&path_of(config), &results)?;
    Ok(results)
}

fn describe_comparison(windowed: &crate::embed::WindowEmbeddings) -> String {
    let comparison = &windowed.comparison;
    format!(
        "an excerpt's windows of {} s every {} s, at its tempo times {}, each by its best cosine among the windows of a recording",
        comparison.window_s,
        comparison.step_s,
        windowed.tempi_text()
    )
}

/// Returns the figures as a table: one row per split and length.
#[must_use]
pub fn table(results: &ExcerptResults) -> Table {
    let mut table = Table::new();
    table.set_header(["split", "excerpt", "queries", "mAP", "95 % interval", "hit@1", "MR1", "random mAP"]);
    for (split, by_length) in &results.splits {
        let mut rows: Vec<(f64, &Figures)> =
            by_length.iter().map(|(length, figures)| (length.parse().unwrap_or(0.0), figures)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (length, Figures { metrics, intervals, chance }) in rows {
            table.add_row([
                split.clone(),
                format!("{length} s"),
                metrics.queries.to_string(),
                format!("{:.4}", metrics.map),
                format!("{:.4} to {:.4}", intervals["mAP"].low, intervals["mAP"].high),
                format!("{:.4}", metrics.hit_at_1),
                format!("{:.2}", metrics.mr1),
                format!("{:.4}", chance.map),
            ]);
        }
    }
    table
}
