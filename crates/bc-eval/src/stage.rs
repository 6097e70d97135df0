//! The whole stage: embeddings, figures and report of a configuration.

use std::path::PathBuf;

use anyhow::Result;
use bc_cli::Shard;
use bc_formats::config::Config;
use bc_retrieval::Policy;
use comfy_table::Table;

use crate::metrics::{Figures, Measured};
use crate::{embed, metrics, report};

/// What the stage made.
pub struct Made {
    /// The figures.
    pub measured: Measured,
    /// Whether everything had been there already.
    pub up_to_date: bool,
    /// The page for people.
    pub report: PathBuf,
}

/// Embeds, measures and reports; does only what is missing or out of date.
///
/// # Errors
/// Inputs that are missing or do not fit, nothing to measure, files that cannot be written.
pub fn run(config: &Config) -> Result<Made> {
    let outcome = embed::run(config, Shard::WHOLE)?;
    let embeddings = embed::path_of(config);
    let folder = &config.eval.output;
    let policy = Policy::named(&config.eval.policy)?;
    let figures = folder.join("metrics.json");
    let page = folder.join("report.html");

    let measured = metrics::of_embeddings(&embeddings, None, &policy, config.eval.seed)?;
    let text = serde_json::to_vec_pretty(&measured)?;
    let same = std::fs::read(&figures).is_ok_and(|found| found == text);
    let up_to_date =
        outcome == embed::Outcome::UpToDate && same && page.exists() && folder.join("report.md").exists();
    if !up_to_date {
        bc_formats::atomic::write(&figures, &text)?;
        let source = report::Source { eval: folder.clone(), run: Some(config.train.run.clone()) };
        report::write(&[source], folder)?;
    }
    Ok(Made { measured, up_to_date, report: page })
}

/// The few figures that people look at first, a row a split.
#[must_use]
pub fn summary(measured: &Measured) -> Table {
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
    for (split, Figures { metrics, chance, .. }) in &measured.splits {
        table.add_row([
            split.clone(),
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
