//! Formats an answer as a table.

use bc_calibration::{MIN_WORKS, PairKind};
use comfy_table::Table;

use super::Answer;

/// The works as a table, with a sentence on the probability that none is right.
#[must_use]
pub fn table(answer: &Answer) -> String {
    let windowed = answer.hits.iter().any(|hit| hit.query_start_s > 0.0 || hit.start_s > 0.0);
    let likely = answer.probability_of_none.is_some();
    let mut table = Table::new();
    let mut head = vec!["rank", "score"];
    head.extend(likely.then_some("probability"));
    head.extend(["title", "performer", "work", "best version", "versions", "kind"]);
    head.extend(windowed.then_some("at (query / index)"));
    table.set_header(head);
    for hit in &answer.hits {
        let mut row = vec![hit.rank.to_string(), format!("{:.4}", hit.score)];
        row.extend(hit.probability.map(|value| format!("{:.1} %", 100.0 * value)));
        row.extend([&hit.row.title, &hit.row.performer, &hit.row.work, &hit.row.path].map(Clone::clone));
        row.push(hit.versions.to_string());
        row.push(hit.kind.map_or("", kind_text).to_owned());
        row.extend(windowed.then(|| format!("{:.0} s / {:.0} s", hit.query_start_s, hit.start_s)));
        table.add_row(row);
    }
    let aligned = answer.hits.iter().filter_map(|hit| {
        let name = if hit.row.title.is_empty() { &hit.row.path } else { &hit.row.title };
        let alignment = hit.alignment.as_ref()?.describe("of the query", "of the version");
        Some(format!("\n{}, {name}: {alignment}", hit.rank))
    });
    let aligned: String = aligned.collect();
    let verdict = match answer.probability_of_none {
        None => format!(
            "No probabilities: there is no calibration for this comparison (`bc-eval calibrate` makes one where the validation split holds \
             at least {MIN_WORKS} works with two versions)."
        ),
        Some(none) => {
            format!("Probability that the index holds no version of it: {:.1} %.", 100.0 * none)
        }
    };
    format!("{}\n{table}{aligned}\n{verdict}", answer.query)
}

/// A kind in words for people: that a work is unlikely does not say that it is wrong.
fn kind_text(kind: PairKind) -> &'static str {
    match kind {
        PairKind::Other => "unlikely",
        kind => kind.name(),
    }
}
