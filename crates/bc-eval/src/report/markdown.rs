//! The figures as Markdown, for a terminal or a repository.

use std::fmt::Write;

use serde_json::Value;

use super::ReportedRun;
use super::text::{FIGURES, count_of, escaped_markdown, figure_of};

/// The first line of every report.
pub const TITLE: &str = "# bytecover: evaluation\n";

/// Returns the report of the runs as Markdown.
pub fn text(runs: &[ReportedRun]) -> String {
    let mut text = String::from(TITLE);
    for run in runs {
        let _ = write!(text, "\n## {}\n\n", escaped_markdown(&run.name));
        for warning in run.warnings() {
            let _ = write!(text, "**Warning:** {}.\n\n", escaped_markdown(warning));
        }
        let _ = write!(
            text,
            "{}{}\n\n| split | queries |",
            run.compared.as_ref().map_or(String::new(), |compared| {
                format!("Compared: {}. Rules: ", escaped_markdown(compared))
            }),
            escaped_markdown(run.figures["rules"].as_str().unwrap_or_default())
        );
        for (name, _) in FIGURES {
            let _ = write!(text, " {name} |");
        }
        text.push_str(" random mAP |\n|---|---|");
        text.push_str(&"---|".repeat(FIGURES.len() + 1));
        text.push('\n');
        for (split, figures) in run.figures["splits"].as_object().into_iter().flatten() {
            row(&mut text, split, figures);
            if let Some(whole) = run.figures["whole_tracks"].get(split) {
                row(&mut text, &format!("{split}: one vector per recording"), whole);
            }
            for (method, figures) in run.baselines.iter().flat_map(|baselines| baselines.methods(split)) {
                row(&mut text, &format!("{split}: {method} (classical)"), figures);
            }
        }
        if let Some(calibration) = &run.calibration {
            let _ = writeln!(
                text,
                "\nProbabilities at even odds, checked on {}: mean error {:.3}.",
                calibration.checked_on, calibration.calibration_error
            );
        }
        hardest(&mut text, run);
        let _ = writeln!(
            text,
            "\nEmbeddings {}, made from:\n",
            escaped_markdown(&run.embeddings.provenance.fingerprint)
        );
        for (name, fingerprint) in &run.embeddings.provenance.inputs {
            let _ = writeln!(text, "- {} {}", escaped_markdown(name), escaped_markdown(fingerprint));
        }
    }
    text
}

fn hardest(text: &mut String, run: &ReportedRun) {
    if run.analysis.hardest.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nHardest queries of the split `{}`:\n", run.analysis.split);
    for hard in &run.analysis.hardest {
        let above: Vec<String> =
            hard.wrong_above.iter().map(|(label, _)| escaped_markdown(&label.name)).collect();
        let _ = writeln!(
            text,
            "- {}: first match at rank {}, after {}",
            escaped_markdown(&hard.query.name),
            hard.first_match_rank,
            above.join("; ")
        );
    }
}

fn row(text: &mut String, name: &str, figures: &Value) {
    let _ = write!(text, "| {} | {} |", escaped_markdown(name), count_of(figures, "queries"));
    for (name, digits) in FIGURES {
        let _ = write!(text, " {} |", figure_of(figures, name, digits));
    }
    let _ = writeln!(text, " {:.4} |", figures["chance"]["mAP"].as_f64().unwrap_or(f64::NAN));
}
