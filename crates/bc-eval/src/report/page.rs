//! The report as an HTML page.

use std::fmt::Write;

use serde_json::Value;

use super::ReportedRun;
use super::chart::{self, Axes, Dot, Series, YRange};
use super::reliability;
use super::section::heading;
use super::text::{FIGURES, count_of, escaped, figure_of};
use crate::analysis::{HardQuery, QueryGroup};

/// The end of every page.
pub const END: &str = "</main></body></html>\n";

/// Returns the report of the runs as HTML.
pub fn html(runs: &[ReportedRun]) -> String {
    let title =
        format!("bytecover: {}", runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(" and "));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{0}</title><style>\n{1}</style></head>\n<body><main><h1>{0}</h1>\n",
        escaped(&title),
        include_str!("page.css")
    );
    for run in runs {
        warnings(&mut page, run, runs.len() > 1);
        lead(&mut page, run, runs.len() > 1);
    }
    for run in runs {
        cards(&mut page, run, runs.len() > 1);
    }
    figures(&mut page, runs);
    page.push_str("<div class=\"charts\">\n");
    curves(&mut page, runs);
    precision_recall(&mut page, runs);
    for run in runs {
        let suffix = if runs.len() > 1 { format!(": {}", run.name) } else { String::new() };
        distances(&mut page, run, &suffix);
        reliability::section(&mut page, run, &suffix);
        page.push_str("<div>\n");
        group_table(
            &mut page,
            &format!("mAP by clique size{suffix}"),
            "versions in the clique",
            &run.analysis.by_clique_size,
        );
        group_table(
            &mut page,
            &format!("mAP by duration{suffix}"),
            "duration of the query",
            &run.analysis.by_duration,
        );
        page.push_str("</div>\n");
        map(&mut page, run, &suffix);
    }
    page.push_str("</div>\n");
    for run in runs {
        let suffix = if runs.len() > 1 { format!(": {}", run.name) } else { String::new() };
        hardest(&mut page, &run.analysis.hardest, &suffix);
        provenance(&mut page, run, &suffix);
    }
    page.push_str(END);
    page
}

/// Writes what makes the figures doubtful.
fn warnings(page: &mut String, run: &ReportedRun, named: bool) {
    let name = if named { format!("{}: ", run.name) } else { String::new() };
    for warning in run.warnings() {
        let _ = writeln!(page, "<p class=\"warning\">{}</p>", escaped(&format!("Warning: {name}{warning}.")));
    }
}

/// Writes one sentence with the mAP, the split, and the comparison with chance and the best classical method.
fn lead(page: &mut String, run: &ReportedRun, named: bool) {
    let split = run.analysis.split.as_str();
    let figures = &run.figures["splits"][split];
    let number = |value: &Value, key: &str| value[key].as_f64();
    let (Some(map), Some(chance)) = (number(figures, "mAP"), number(&figures["chance"], "mAP")) else {
        return;
    };
    let name = if named { format!("{}: mean", run.name) } else { "Mean".to_owned() };
    let interval = &figures["intervals"]["mAP"];
    let interval = match (number(interval, "low"), number(interval, "high")) {
        (Some(low), Some(high)) => format!(" (95 % interval {low:.3} to {high:.3})"),
        _ => String::new(),
    };
    let first = match (number(figures, "hit@1"), number(&figures["chance"], "hit@1")) {
        (Some(hit), Some(by_chance)) => format!(
            "; {:.0} % of the queries have a version of their work as the first candidate, by chance {:.0} %",
            100.0 * hit,
            100.0 * by_chance
        ),
        _ => String::new(),
    };
    let methods = run.baselines.iter().flat_map(|baselines| baselines.methods(split));
    let best = methods
        .filter_map(|(method, figures)| Some((method, number(figures, "mAP")?)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    let classical = best.map_or(String::new(), |(method, map)| {
        format!(" and the best classical method on the same features ({method}) {map:.3}")
    });
    let sentence = format!(
        "{name} average precision is {map:.3}{interval} over the {} queries of the split “{split}”, where a random \
         order has {chance:.3}{classical}{first}.",
        count_of(figures, "queries")
    );
    let _ = writeln!(page, "<p class=\"lead\">{}</p>", escaped(&sentence));
}

fn cards(page: &mut String, run: &ReportedRun, named: bool) {
    let analysis = &run.analysis;
    let figures = &run.figures["splits"][analysis.split.as_str()];
    let name = if named { format!("{}, ", run.name) } else { String::new() };
    heading(
        page,
        "summary",
        &format!("{name}split “{}”", analysis.split),
        &format!(
            "{} versions in {} cliques, each a query against all others{}",
            analysis.versions,
            analysis.cliques,
            run.compared.as_ref().map_or(String::new(), |compared| format!("; compared: {compared}"))
        ),
    );
    page.push_str("<div class=\"cards\">");
    for (name, digits) in &FIGURES[..5] {
        let interval = figures["intervals"][*name].as_object();
        let interval = interval.map_or(String::new(), |interval| {
            let bound = |key: &str| interval.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
            format!("{:.digits$} to {:.digits$}", bound("low"), bound("high"))
        });
        let chance = figures["chance"][*name]
            .as_f64()
            .map_or(String::new(), |chance| format!("; random {chance:.digits$}"));
        let _ = write!(
            page,
            "<div class=\"card\">{name}<b>{}</b><span>{interval}{chance}</span></div>",
            figure_of(figures, name, *digits)
        );
    }
    page.push_str("</div></section>\n");
}

/// Returns the rules of the figures: once if they are the same for all runs, else for each run.
fn rules(runs: &[ReportedRun]) -> String {
    let rules: Vec<&str> = runs.iter().map(|run| run.figures["rules"].as_str().unwrap_or_default()).collect();
    if rules.windows(2).all(|pair| pair[0] == pair[1]) {
        return rules.first().map_or(String::new(), |rules| format!("Rules: {rules}."));
    }
    let each = runs.iter().zip(&rules).map(|(run, rules)| format!("{}: {rules}.", run.name));
    format!(
        "The runs have different rules, so their figures cannot be compared. {}",
        each.collect::<Vec<_>>().join(" ")
    )
}

fn figures(page: &mut String, runs: &[ReportedRun]) {
    let rules = rules(runs);
    heading(page, "figures", "All figures", &format!("With 95 % bootstrap intervals over cliques. {rules}"));
    page.push_str("<div class=\"wide\"><table><tr><th>run</th><th>split</th><th class=\"n\">queries</th>");
    for (name, _) in FIGURES {
        let _ = write!(page, "<th class=\"n\">{name}</th>");
    }
    page.push_str("<th class=\"n\">random mAP</th></tr>\n");
    for run in runs {
        for (split, figures) in run.figures["splits"].as_object().into_iter().flatten() {
            figures_row(page, &run.name, split, figures);
            if let Some(whole) = run.figures["whole_tracks"].get(split) {
                figures_row(page, &format!("{}, one vector per recording", run.name), split, whole);
            }
            for (method, figures) in run.baselines.iter().flat_map(|baselines| baselines.methods(split)) {
                figures_row(page, &format!("{method} (classical, same features)"), split, figures);
            }
        }
    }
    page.push_str("</table></div></section>\n");
}

fn figures_row(page: &mut String, name: &str, split: &str, figures: &Value) {
    let _ = write!(
        page,
        "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td>",
        escaped(name),
        escaped(split),
        count_of(figures, "queries")
    );
    for (name, digits) in FIGURES {
        let interval = &figures["intervals"][name];
        let _ = write!(page, "<td class=\"n\">{}", figure_of(figures, name, digits));
        if let (Some(low), Some(high)) = (interval["low"].as_f64(), interval["high"].as_f64()) {
            let _ = write!(page, "<br><small>{low:.digits$}–{high:.digits$}</small>");
        }
        page.push_str("</td>");
    }
    let chance = figures["chance"]["mAP"].as_f64().unwrap_or(f64::NAN);
    let _ = writeln!(page, "<td class=\"n\">{chance:.4}</td></tr>");
}

fn curves(page: &mut String, runs: &[ReportedRun]) {
    let curves: Vec<_> =
        runs.iter().filter_map(|run| Some((run.name.as_str(), run.curves.as_ref()?))).collect();
    if curves.is_empty() {
        return;
    }
    let loss: Vec<Series<'_>> =
        curves.iter().map(|(name, curves)| Series { name, points: &curves.loss }).collect();
    heading(page, "loss", "Training loss", "");
    page.push_str(&chart::lines(
        &Axes { title: "Training loss", x: "step", y: "loss" },
        &loss,
        YRange::ZeroToMaximum,
    ));
    page.push_str("</section>\n");
    let map: Vec<Series<'_>> =
        curves.iter().map(|(name, curves)| Series { name, points: &curves.map }).collect();
    heading(page, "validation", "Validation mAP", "");
    page.push_str(&chart::lines(
        &Axes { title: "Validation mAP", x: "step", y: "mAP" },
        &map,
        YRange::ZeroToOne,
    ));
    page.push_str("</section>\n");
}

fn precision_recall(page: &mut String, runs: &[ReportedRun]) {
    heading(
        page,
        "precision-recall",
        "Precision and recall over pairs",
        "Over all pairs below a threshold of the distance, as the threshold grows",
    );
    let series: Vec<Series<'_>> =
        runs.iter().map(|run| Series { name: &run.name, points: &run.analysis.precision_recall }).collect();
    let axes = Axes { title: "Precision and recall", x: "recall", y: "precision" };
    page.push_str(&chart::lines(&axes, &series, YRange::ZeroToOne));
    page.push_str("</section>\n");
}

fn distances(page: &mut String, run: &ReportedRun, suffix: &str) {
    heading(
        page,
        "distances",
        &format!("Distances of pairs{suffix}"),
        &format!("Share of the pairs of each kind, by {}", run.distance_name),
    );
    let pairs = &run.analysis.distances;
    let range = (f64::from(pairs.range.0), f64::from(pairs.range.1));
    let axes = Axes { title: "Distances of pairs", x: "distance", y: "share of pairs" };
    let series =
        [("versions of one clique", pairs.same.as_slice()), ("of different cliques", pairs.other.as_slice())];
    page.push_str(&chart::histograms(&axes, range, &series));
    page.push_str("</section>\n");
}

fn group_table(page: &mut String, title: &str, what: &str, groups: &[QueryGroup]) {
    if groups.is_empty() {
        return;
    }
    heading(page, if what.starts_with('d') { "by-duration" } else { "by-clique-size" }, title, "");
    let _ = write!(
        page,
        "<div class=\"wide\"><table><tr><th>{}</th><th class=\"n\">queries</th><th class=\"n\">mAP</th></tr>",
        escaped(what)
    );
    for group in groups {
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.4}</td></tr>",
            escaped(&group.name),
            group.queries,
            group.map
        );
    }
    page.push_str("</table></div></section>\n");
}

fn map(page: &mut String, run: &ReportedRun, suffix: &str) {
    heading(
        page,
        "map",
        &format!("Map of the embeddings{suffix}"),
        "t-SNE of one vector per recording; one dot per version, one colour per clique; hover for titles",
    );
    let dots: Vec<Dot> = run
        .map
        .iter()
        .map(|point| Dot {
            x: f64::from(point.x),
            y: f64::from(point.y),
            group: point.clique,
            title: format!("{} [{}]", point.version.name, point.version.clique_id),
        })
        .collect();
    page.push_str(&chart::scatter("Map of the embeddings", &dots));
    page.push_str("</section>\n");
}

fn hardest(page: &mut String, queries: &[HardQuery], suffix: &str) {
    heading(page, "hardest", &format!("Hardest queries{suffix}"), "Wrong candidates above the first match");
    if queries.is_empty() {
        page.push_str("<p>None: the first candidate of every query is a match.</p></section>\n");
        return;
    }
    page.push_str(
        "<div class=\"wide\"><table><tr><th>query</th><th class=\"n\">AP</th><th class=\"n\">rank of first match</th>\
         <th>first match</th><th>ranked above it</th></tr>\n",
    );
    for hard in queries {
        let above: Vec<String> = hard
            .wrong_above
            .iter()
            .map(|(label, distance)| format!("{} <small>{distance:.3}</small>", escaped(&label.name)))
            .collect();
        let _ = writeln!(
            page,
            "<tr><td>{}<br><small>{}</small></td><td class=\"n\">{:.3}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&hard.query.name),
            escaped(&hard.query.clique_id),
            hard.average_precision,
            hard.first_match_rank,
            hard.first_match.as_ref().map_or(String::new(), |label| escaped(&label.name)),
            above.join("<br>")
        );
    }
    page.push_str("</table></div></section>\n");
}

fn provenance(page: &mut String, run: &ReportedRun, suffix: &str) {
    let provenance = &run.embeddings.provenance;
    heading(page, "provenance", &format!("Provenance{suffix}"), "");
    let _ = write!(
        page,
        "<div class=\"wide\"><table><tr><td>written by</td><td>{}</td></tr><tr><td>embeddings</td><td><code>{}</code></td></tr>",
        escaped(&provenance.tool),
        escaped(&provenance.fingerprint)
    );
    for (name, fingerprint) in &provenance.inputs {
        let _ =
            write!(page, "<tr><td>{}</td><td><code>{}</code></td></tr>", escaped(name), escaped(fingerprint));
    }
    let _ = write!(
        page,
        "<tr><td>settings</td><td><code>{}</code></td></tr></table></div>",
        escaped(&provenance.settings.to_string())
    );
    if let Some(config) = &run.config {
        let _ = write!(
            page,
            "<details><summary>configuration of the run</summary><pre>{}</pre></details>",
            escaped(config)
        );
    }
    page.push_str("</section>\n");
}
