//! Writes the report of runs as HTML and Markdown.

use std::path::Path;

use anyhow::Result;

use super::{ReportedRun, Source, markdown, page};
use bc_cli::saving;

/// Writes `report.html` and `report.md` into `folder`.
///
/// # Errors
/// Files that are missing, unreadable or cannot be written; embeddings that cannot be measured.
pub fn write(sources: &[Source], folder: &Path) -> Result<()> {
    let runs: Vec<ReportedRun> = sources.iter().map(ReportedRun::load).collect::<Result<_>>()?;
    saving::write(&folder.join("report.html"), page::html(&runs))?;
    saving::write(&folder.join("report.md"), markdown::text(&runs))
}
