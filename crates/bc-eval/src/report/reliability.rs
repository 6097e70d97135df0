//! The section of the page on calibration.

use std::fmt::Write;

use bc_calibration::COMPARE;

use super::ReportedRun;
use super::chart::{self, Axes, Series};
use super::section::heading;
use super::text::escaped;

/// Writes a curve of predicted and observed probability, and tables of the effect of acceptance thresholds.
pub fn section(page: &mut String, run: &ReportedRun, suffix: &str) {
    let Some(calibration) = &run.calibration else { return };
    heading(
        page,
        "reliability",
        &format!("Is the probability right?{suffix}"),
        &format!(
            "Scores of {}: {} pairs of one work and {} pairs of two works of the split “{}”, fitted on {} works of “{}”, at even odds; mean error {:.3}",
            if calibration.provenance.settings[COMPARE].is_null() { "whole recordings" } else { "windows" },
            calibration.checked_pairs.same,
            calibration.checked_pairs.other,
            calibration.checked_on,
            calibration.fitted_works,
            calibration.fitted_on,
            calibration.calibration_error
        ),
    );
    let points: Vec<(f64, f64)> =
        calibration.reliability.iter().map(|row| (row.predicted, row.observed)).collect();
    let axes = Axes { title: "Reliability", x: "predicted probability", y: "share of pairs of one work" };
    let series = [
        Series { name: "observed", points: &points },
        Series { name: "perfect calibration", points: &[(0.0, 0.0), (1.0, 1.0)] },
    ];
    let counts: Vec<_> =
        calibration.reliability.iter().map(|row| (row.predicted, row.observed, row.pairs)).collect();
    page.push_str(&chart::counted_lines(&axes, &series, &counts));
    page.push_str("<p class=\"note\">The number at each point is its number of pairs.</p></section>\n");

    heading(
        page,
        "thresholds",
        &format!("Search: acceptance thresholds{suffix}"),
        &format!(
            "The first work is accepted, or none. Every version is a query twice among {} works: with its work in the index, and \
             without it.",
            calibration.answers_among
        ),
    );
    let answers = calibration
        .answers
        .iter()
        .map(|row| [row.probability, row.right, row.wrong, row.missed, row.accepted_without].map(percent));
    table(page, ["probability", "right", "wrong", "missed", "without it"], answers);

    heading(
        page,
        "pair-thresholds",
        &format!("Pairs: acceptance thresholds{suffix}"),
        &format!(
            "Precision over all pairs of the split: {} pairs of one work, {} pairs of two works.",
            calibration.split_pairs.same, calibration.split_pairs.other
        ),
    );
    let pairs = calibration.thresholds.iter().map(|row| {
        let [score, precision] = row.cells();
        [percent(row.probability), score, precision, percent(row.recall)]
    });
    table(page, ["probability", "score", "precision", "recall"], pairs);
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn table<const N: usize>(page: &mut String, head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    page.push_str("<div class=\"wide\"><table><tr>");
    for name in head {
        let _ = write!(page, "<th class=\"n\">{}</th>", escaped(name));
    }
    page.push_str("</tr>\n");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td class=\"n\">{}</td>", escaped(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div></section>\n");
}
