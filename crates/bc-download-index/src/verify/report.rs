//! The report of `verify`: a table on the terminal, `coverage.md`, a histogram.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use bc_formats::index::Status;
use bc_plot::plotters::prelude::*;

use crate::assemble::Assembled;
use crate::tally::Figures;

/// Maximum number of lines of each section that the terminal shows; `coverage.md` has all.
const MAX_LINES: usize = 20;

/// Prints counts, faults and remarks.
pub fn print(assembled: &Assembled) {
    bc_cli::print!("{}{}", counts(&assembled.figures), assembled.figures.coverage);
    for (title, lines) in sections(assembled) {
        if lines.is_empty() {
            continue;
        }
        bc_cli::println!("\n{title}: {}", lines.len());
        lines.iter().take(MAX_LINES).for_each(|line| bc_cli::println!("  {line}"));
        if lines.len() > MAX_LINES {
            bc_cli::println!("  ... and {} more, in coverage.md", lines.len() - MAX_LINES);
        }
    }
}

/// Writes `coverage.md` and `clique_sizes.png` next to the index.
///
/// # Errors
/// They cannot be written.
pub fn write(index: &Path, assembled: &Assembled) -> Result<()> {
    let figures = &assembled.figures;
    let counts = counts(figures);
    let mut text = format!("# Coverage of {}\n\n```text\n{counts}```\n", index.display());
    for (title, coverage) in [("Before", &figures.coverage_if_all_usable), ("After", &figures.coverage)] {
        write!(text, "\n## {title} verification\n\n```text\n{coverage}```\n")?;
    }
    text.push_str("\n## Clique sizes\n\n![Usable versions per clique](clique_sizes.png)\n");
    for (title, lines) in sections(assembled) {
        write!(text, "\n## {title}: {}\n\n", lines.len())?;
        lines.iter().try_for_each(|line| writeln!(text, "- {line}"))?;
    }
    bc_formats::atomic::write(&index.with_file_name("coverage.md"), text)?;
    draw(&index.with_file_name("clique_sizes.png"), &figures.clique_sizes)
}

/// Returns the number of versions with each status, one line each.
fn counts(figures: &Figures) -> String {
    let line = |status: &Status| format!("{status:<10} {:>9}\n", figures.with_status(*status));
    Status::ALL.iter().map(line).collect()
}

/// Returns the sections of the report: title and lines.
fn sections(assembled: &Assembled) -> [(&'static str, &[String]); 7] {
    let Assembled { figures, remarks, .. } = assembled;
    [
        ("Unusable files", &figures.faults),
        ("Files that could not be read, and stay usable", &remarks.unread),
        ("Equal bytes across cliques or splits", &remarks.crossing),
        ("Extensions that do not fit the codec", &remarks.extensions),
        ("Files longer than they declare", &remarks.longer),
        ("Files without the mark of their end, which may be cut off", &remarks.without_end),
        ("Files of which some frames do not decode", &remarks.damaged),
    ]
}

/// Draws a histogram: the number of cliques by their number of usable versions.
fn draw(path: &Path, bars: &BTreeMap<u32, u32>) -> Result<()> {
    let widest = bars.keys().copied().max().unwrap_or(1).max(1);
    let highest = bars.values().copied().max().unwrap_or(1);
    bc_plot::png(path, (900, 500), |root| {
        let mut chart = ChartBuilder::on(root)
            .caption("Usable versions per clique", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d((0..widest).into_segmented(), 0..highest + highest / 10 + 1)?;
        chart.configure_mesh().disable_x_mesh().x_desc("versions").y_desc("cliques").draw()?;
        let style = Palette99::pick(0).mix(0.8).filled();
        chart.draw_series(
            Histogram::vertical(&chart).style(style).margin(1).data(bars.iter().map(|(&x, &y)| (x, y))),
        )?;
        Ok(())
    })
}
