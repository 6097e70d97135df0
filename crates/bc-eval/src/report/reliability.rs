//! The page's part on what a score means.

use std::fmt::Write;

use super::Run;
use super::chart::{self, Axes, Series};
use super::page::heading;

/// A curve of said against found probability, and what accepting from a threshold on means.
pub fn section(page: &mut String, run: &Run, suffix: &str) {
    let Some(found) = &run.calibration else { return };
    heading(
        page,
        "reliability",
        &format!("Is the probability right?{suffix}"),
        &format!(
            "Pairs of the split “{}”, fitted on “{}”, at even odds; mean error {:.3}",
            found.checked_on, found.fitted_on, found.calibration_error
        ),
    );
    let points: Vec<(f64, f64)> = found.reliability.iter().map(|row| (row.said, row.found)).collect();
    let axes = Axes { title: "Reliability", x: "probability said", y: "share of one work" };
    let series = [
        Series { name: "measured", points: &points },
        Series { name: "if it were perfect", points: &[(0.0, 0.0), (1.0, 1.0)] },
    ];
    page.push_str(&chart::lines(&axes, &series, true));
    page.push_str("</section>\n");

    heading(
        page,
        "thresholds",
        &format!("From which probability to accept{suffix}"),
        "A search accepts its first work or none. Every version asks twice: with its work in the index, and without.",
    );
    page.push_str(
        "<div class=\"wide\"><table><tr><th class=\"n\">probability</th><th class=\"n\">right</th>\
         <th class=\"n\">wrong work</th><th class=\"n\">missed</th><th class=\"n\">accepted without the work</th>\
         <th class=\"n\">pairs: score</th><th class=\"n\">precision</th><th class=\"n\">recall</th></tr>\n",
    );
    for (answers, pairs) in found.answers.iter().zip(&found.thresholds) {
        page.push_str("<tr>");
        let shares =
            [answers.probability, answers.right, answers.wrong, answers.missed, answers.accepted_without];
        for share in shares {
            let _ = write!(page, "<td class=\"n\">{:.1} %</td>", 100.0 * share);
        }
        let _ = writeln!(
            page,
            "<td class=\"n\">{:.3}</td><td class=\"n\">{:.1} %</td><td class=\"n\">{:.1} %</td></tr>",
            pairs.score,
            100.0 * pairs.precision,
            100.0 * pairs.recall
        );
    }
    page.push_str("</table></div></section>\n");
}
