//! Writes the report of runs as HTML and Markdown.

use std::path::Path;

use anyhow::Result;

use super::{ReportedRun, Source, markdown, page};

/// Names of the files of a report in its folder.
const PAGE: &str = "report.html";
const MARKDOWN: &str = "report.md";

/// Returns whether a folder has a report, of which no file is empty or cut off.
pub fn is_written(folder: &Path) -> bool {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    read(PAGE).ends_with(page::END) && read(MARKDOWN).starts_with(markdown::TITLE)
}
use bc_cli::saving;

/// Writes `report.html` and `report.md` into `folder`.
///
/// # Errors
/// Files that are missing, unreadable or cannot be written; embeddings that cannot be measured.
pub fn write(sources: &[Source], folder: &Path) -> Result<()> {
    let runs: Vec<ReportedRun> = sources.iter().map(ReportedRun::load).collect::<Result<_>>()?;
    saving::write(&folder.join(PAGE), page::html(&runs))?;
    saving::write(&folder.join(MARKDOWN), markdown::text(&runs))
}
