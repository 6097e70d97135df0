//! Commands on `embeddings.parquet`: splits, candidates of another file, report, export.

mod common;

use std::path::Path;

use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;
use common::run;

/// Writes embeddings of versions on a circle, by angle in degrees.
fn write(path: &Path, checkpoint: &str, versions: &[(&str, &str, Split, f32)]) {
    let label = |id: &str, clique: &str, split: Split| Label {
        version_id: id.into(),
        clique_id: clique.into(),
        title: format!("title of {clique}"),
        performer: format!("performer of {id}"),
        split,
        duration_s: 60.0,
        start_s: 0.0,
        source_hash: String::new(),
    };
    let embeddings = Embeddings {
        labels: versions.iter().map(|(id, clique, split, _)| label(id, clique, *split)).collect(),
        dim: 2,
        vectors: versions.iter().flat_map(|v| [v.3.to_radians().cos(), v.3.to_radians().sin()]).collect(),
        provenance: Provenance {
            format: FORMAT.into(),
            tool: "test".into(),
            settings: serde_json::json!({}),
            fingerprint: "f".into(),
            inputs: [("checkpoint".to_owned(), checkpoint.to_owned())].into(),
        },
    };
    embeddings.write(path).unwrap();
}

fn measured(folder: &Path, args: &[&str]) -> serde_json::Value {
    let output = run(folder, &[&["metrics", "--json", "m.json", "--embeddings", "e.parquet"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(folder.join("m.json")).unwrap()).unwrap()
}

const VERSIONS: [(&str, &str, Split, f32); 5] = [
    ("a1", "a", Split::Test, 0.0),
    ("a2", "a", Split::Test, 10.0),
    ("b1", "b", Split::Test, 90.0),
    ("b2", "b", Split::Test, 100.0),
    ("t1", "t", Split::Train, 1.0),
];

#[test]
fn each_split_is_measured_by_itself_or_against_other_candidates() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("e.parquet"), "x", &VERSIONS);
    let alone = measured(folder.path(), &[]);
    assert_eq!(alone["splits"]["test"]["mAP"], 1.0);
    assert!(alone["splits"]["train"].is_null(), "one version alone cannot be measured");

    // A noise work next to a1: every query of clique a now finds it first.
    let noise = [VERSIONS.as_slice(), &[("n1", "n", Split::Test, 4.9)]].concat();
    let without_train: Vec<_> = noise.into_iter().filter(|version| version.0 != "t1").collect();
    write(&folder.path().join("noise.parquet"), "x", &without_train);
    let against = measured(folder.path(), &["--candidates", "noise.parquet"]);
    assert_eq!(against["splits"]["test"]["queries"], 4);
    assert_eq!(against["splits"]["test"]["mAP"], 0.75);
}

#[test]
fn candidates_of_another_checkpoint_are_refused_with_both_names() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("e.parquet"), "checkpoint-one", &VERSIONS);
    write(&folder.path().join("o.parquet"), "checkpoint-two", &VERSIONS);
    let output = run(folder.path(), &["metrics", "--embeddings", "e.parquet", "--candidates", "o.parquet"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains("checkpoint-one") && message.contains("checkpoint-two"), "{message}");
}

#[test]
fn export_keeps_the_order() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("e.parquet"), "x", &VERSIONS);
    assert!(run(folder.path(), &["export", "--embeddings", "e.parquet", "--out", "out"]).status.success());
    let ids = std::fs::read_to_string(folder.path().join("out/ids.txt")).unwrap();
    assert_eq!(ids, "a1\na2\nb1\nb2\nt1\n");
    let vectors = bc_formats::array::read(&folder.path().join("out/embeddings.npy")).unwrap();
    assert_eq!(vectors.columns, 2);
    assert_eq!(vectors.values, Embeddings::read(&folder.path().join("e.parquet")).unwrap().vectors);
}

#[test]
fn report_refuses_figures_of_other_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let versions =
        [("a", "x", Split::Test, 0.0), ("b", "x", Split::Test, 5.0), ("c", "y", Split::Test, 90.0)];
    write(&folder.path().join("embeddings.parquet"), "k", &versions);
    let measure = ["metrics", "--embeddings", "embeddings.parquet", "--json", "metrics.json"];
    assert!(run(folder.path(), &measure).status.success());
    assert!(run(folder.path(), &["report", "."]).status.success());
    let figures = std::fs::read_to_string(folder.path().join("metrics.json")).unwrap();
    let other = figures.replace("\"fingerprint\": \"f\"", "\"fingerprint\": \"g\"");
    std::fs::write(folder.path().join("metrics.json"), other).unwrap();
    let error = common::refuse(folder.path(), &["report", "."]);
    assert!(error.contains("metrics.json was made from other embeddings (\"g\")"), "{error}");
    // The content of the file is shown as text, or not at all.
    let hostile = figures.replacen("\"queries\": 2", "\"queries\": \"<script>\"", 1);
    assert_ne!(hostile, figures);
    std::fs::write(folder.path().join("metrics.json"), hostile).unwrap();
    assert!(run(folder.path(), &["report", "."]).status.success());
    for name in ["report.html", "report.md"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(!text.contains("<script>"), "{name}: {text}");
    }
}

#[test]
fn titles_are_escaped_in_the_markdown_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("embeddings.parquet");
    common::clusters(&path, [12, 3], 8, 3.0, |label| {
        label.title = "a | b\n# no heading <script>x</script>".to_owned();
        label.performer = "[link](http://elsewhere)".to_owned();
    });
    let measure = ["metrics", "--embeddings", "embeddings.parquet", "--json", "metrics.json"];
    common::succeed(folder.path(), &measure);
    common::succeed(folder.path(), &["report", "."]);
    let text = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    assert!(text.contains("no heading"), "there are hard queries: {text}");
    assert!(
        !text.contains("\n# no heading") && !text.contains("<script>") && !text.contains("](http"),
        "{text}"
    );
    assert!(
        text.lines().filter(|line| line.contains("no heading")).all(|line| line.contains("a \\| b")),
        "{text}"
    );
}

#[test]
fn report_uses_the_rules_of_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("embeddings.parquet");
    common::clusters(&path, [30, 3], 8, 1.5, |_| {});
    // Lengths that change the Euclidean distance but not the cosine.
    let mut embeddings = Embeddings::read(&path).unwrap();
    for (row, vector) in embeddings.vectors.chunks_exact_mut(8).enumerate() {
        vector.iter_mut().for_each(|value| *value *= 1.0 + (row % 3) as f32);
    }
    embeddings.write(&path).unwrap();
    let mut tables = Vec::new();
    for distance in ["cosine", "euclidean"] {
        let measure = [
            "metrics",
            "--embeddings",
            "embeddings.parquet",
            "--json",
            "metrics.json",
            "--distance",
            distance,
        ];
        common::succeed(folder.path(), &measure);
        common::succeed(folder.path(), &["report", "."]);
        let figures: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("metrics.json")).unwrap()).unwrap();
        let map = format!("{:.4}", figures["splits"]["test"]["mAP"].as_f64().unwrap());
        let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
        let start = page.find("id=\"by-clique-size\"").unwrap();
        let table = page[start..][..page[start..].find("</section>").unwrap()].to_owned();
        assert!(table.contains(&map), "all cliques are of one size, so their mAP is {map}: {table}");
        tables.push(table);
    }
    assert_ne!(tables[0], tables[1]);
}
