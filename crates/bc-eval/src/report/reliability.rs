//! The section of the page on calibration.

use std::fmt::Write;

use super::Run;
use super::chart::{self, Axes, Series};
use super::section::heading;
use super::text::escaped;

/// A curve of predicted against measured probability, and the effect of accepting from a threshold on.
pub fn section(page: &mut String, run: &Run, suffix: &str) {
    let Some(found) = &run.calibration else { return };
    heading(
        page,
        "reliability",
        &format!("Is the probability right?{suffix}"),
        &format!(
            "{} pairs of one work and {} pairs of two works of the split “{}”, fitted on {} works of “{}”, at even odds; mean error {:.3}",
            found.checked_pairs.same,
            found.checked_pairs.other,
            found.checked_on,
            found.fitted_works,
            found.fitted_on,
            found.calibration_error
        ),
    );
    let points: Vec<(f64, f64)> = found.reliability.iter().map(|row| (row.said, row.found)).collect();
    let axes = Axes { title: "Reliability", x: "predicted probability", y: "share of pairs of one work" };
    let series = [
        Series { name: "measured", points: &points },
        Series { name: "if it were perfect", points: &[(0.0, 0.0), (1.0, 1.0)] },
    ];
    let counts: Vec<_> = found.reliability.iter().map(|row| (row.said, row.found, row.pairs)).collect();
    page.push_str(&chart::counted_lines(&axes, &series, &counts));
    page.push_str("<p class=\"note\">The number at each point is its number of pairs.</p></section>\n");

    heading(
        page,
        "thresholds",
        &format!("Search: from which probability to accept{suffix}"),
        &format!(
            "The first work is accepted, or none. Every version is a query twice among {} works: with its work in the index, and \
             without it.",
            found.answers_among
        ),
    );
    let answers = found
        .answers
        .iter()
        .map(|row| [row.probability, row.right, row.wrong, row.missed, row.accepted_without].map(percent));
    table(page, ["probability", "right", "wrong", "missed", "without it"], answers);

    heading(
        page,
        "pair-thresholds",
        &format!("Pairs: from which probability to accept{suffix}"),
        &format!(
            "Precision over all pairs of the split: {} pairs of one work, {} pairs of two works.",
            found.split_pairs.same, found.split_pairs.other
        ),
    );
    let pairs = found.thresholds.iter().map(|row| {
        let [score, precision] = row.in_words();
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
