//! Inputs and outputs that another program changed, or that do not belong together: they are refused, made again, or
//! reported with a warning.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bc_formats::embeddings::Embeddings;
use bc_formats::features::FeatureSet;
use bc_formats::index::{Index, Split};
use bc_formats::provenance::Provenance;
use bc_formats::run::{CHECKPOINT_FORMAT, CLIQUES_KEY, WindowComparison, fingerprint_of_cliques};
use common::{checkpoint, checkpoint_with, experiment, provenance, refuse, run, succeed};

const RUN: [&str; 11] = [
    "run",
    "--config",
    "c.toml",
    "--set",
    "eval.compare=windows",
    "--set",
    "eval.window_s=2.0",
    "--set",
    "eval.window_step_s=1.0",
    "--set",
    "eval.tempi=[1.0, 0.84]",
];

/// Runs the stage and returns what it prints to both streams.
fn both_streams(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let text = [output.stdout, output.stderr].map(|stream| String::from_utf8(stream).unwrap()).concat();
    assert!(output.status.success(), "{text}");
    text
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A change to a file of embeddings.
type Edit = fn(&mut Embeddings);

/// Keeps the rows that `keep` chooses, under the same provenance.
fn keep_rows(embeddings: &mut Embeddings, keep: impl Fn(usize) -> bool) {
    let dim = embeddings.dim;
    let rows: Vec<usize> = (0..embeddings.labels.len()).filter(|row| keep(*row)).collect();
    embeddings.vectors =
        rows.iter().flat_map(|row| embeddings.vectors[row * dim..][..dim].to_vec()).collect();
    embeddings.labels = rows.iter().map(|row| embeddings.labels[*row].clone()).collect();
}

#[test]
fn changed_or_damaged_embeddings_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 6);
    succeed(folder.path(), &RUN);
    assert!(succeed(folder.path(), &RUN).contains("Nothing to do"));
    let eval = folder.path().join("eval");
    let metrics = text_of(&eval.join("metrics.json"));
    let edits: [(&str, Edit); 6] = [
        ("twice", |found| {
            found.labels.extend(found.labels.clone());
            found.vectors.extend(found.vectors.clone());
        }),
        ("half", |found| {
            let half = found.labels.len() / 2;
            keep_rows(found, |row| row < half);
        }),
        ("none", |found| keep_rows(found, |_| false)),
        ("shorter vectors", |found| {
            found.vectors =
                found.vectors.chunks(found.dim).flat_map(|vector| vector[..10].to_vec()).collect();
            found.dim = 10;
        }),
        ("a clique in two splits", |found| found.labels[0].split = Split::Train),
        ("no cliques", |found| found.labels.iter_mut().for_each(|label| label.clique_id.clear())),
    ];
    for name in ["embeddings.parquet", "windows-1.000.parquet", "windows-0.840.parquet"] {
        let path = eval.join(name);
        let original = std::fs::read(&path).unwrap();
        let heal = |what: &str| {
            let text = both_streams(folder.path(), &RUN);
            assert!(text.contains("is made again"), "{name}, {what}: {text}");
            assert!(std::fs::read(&path).unwrap() == original, "{name}, {what}");
            assert_eq!(text_of(&eval.join("metrics.json")), metrics, "{name}, {what}");
        };
        for (what, edit) in edits {
            let mut changed = Embeddings::read(&path).unwrap();
            edit(&mut changed);
            changed.write(&path).unwrap();
            heal(what);
        }
    }
    // A damaged file of windows.
    let path = eval.join("windows-1.000.parquet");
    let original = std::fs::read(&path).unwrap();
    std::fs::write(&path, &original[..original.len() - 9]).unwrap();
    assert!(both_streams(folder.path(), &RUN).contains("windows-1.000.parquet is made again"));
    assert!(std::fs::read(&path).unwrap() == original);
    // Windows of an older version, without the number of rows, are taken if they are those of all versions.
    let mut older = Embeddings::read(&path).unwrap();
    older.provenance.settings.as_object_mut().unwrap().remove("rows").unwrap();
    older.write(&path).unwrap();
    assert!(succeed(folder.path(), &RUN).contains("Nothing to do"));
    let first = older.labels[0].version_id.clone();
    let of_first = older.labels.iter().take_while(|label| label.version_id == first).count();
    keep_rows(&mut older, |row| row >= of_first);
    older.write(&path).unwrap();
    assert!(both_streams(folder.path(), &RUN).contains("holds windows of 11 versions, but the index has 12"));
}

#[test]
fn network_that_was_trained_on_other_splits_is_evaluated_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 6);
    let index = Index::read(&folder.path().join("index.parquet")).unwrap();
    let features = FeatureSet::open(&folder.path().join("features")).unwrap().fingerprint();
    let training = index.versions.iter().filter(|version| version.split == Split::Train);
    let cliques = fingerprint_of_cliques(training.map(|version| version.clique_id.as_str()));
    let write_network = |features: &str| {
        let inputs = BTreeMap::from([("features".to_owned(), features.to_owned())]);
        let provenance = Provenance { format: CHECKPOINT_FORMAT.into(), inputs, ..provenance() };
        let mut header: HashMap<String, String> = provenance.to_key_values().into_iter().collect();
        header.insert(CLIQUES_KEY.to_owned(), cliques.clone());
        checkpoint_with(&folder.path().join("network.safetensors"), 7, header);
    };
    let run = ["run", "--config", "c.toml"];
    let warnings = || {
        let metrics: serde_json::Value =
            serde_json::from_str(&text_of(&folder.path().join("eval/metrics.json"))).unwrap();
        metrics["warnings"].as_array().map_or(0, Vec::len)
    };
    write_network(&features);
    let text = both_streams(folder.path(), &run);
    assert!(!text.contains("trained on"), "{text}");
    assert_eq!(warnings(), 0);

    // A version of a training clique is no longer usable: the splits are the same.
    let write_index = |edit: &dyn Fn(&mut bc_formats::index::Version)| {
        let mut changed = index.clone();
        changed.versions.iter_mut().for_each(edit);
        changed.write(&folder.path().join("index.parquet")).unwrap();
    };
    write_index(&|version| {
        if version.clique_id == "clique 0" {
            version.audio_path = None;
        }
    });
    both_streams(folder.path(), &run);
    assert_eq!(warnings(), 0);

    // Other splits: what was trained on is measured now.
    write_index(&|version| {
        version.split = match version.split {
            Split::Train => Split::Test,
            Split::Test => Split::Train,
            split => split,
        };
    });
    let text = both_streams(folder.path(), &run);
    let expected = "it may have been trained on some of the 2 cliques of the split `val` and 2 cliques of the split `test`";
    assert!(text.contains(expected) && text.contains("network.safetensors"), "{text}");
    assert_eq!(warnings(), 1);
    let page = text_of(&folder.path().join("eval/report.html"));
    assert!(page.contains("Warning: ") && page.contains(expected), "{page}");
    assert!(text_of(&folder.path().join("eval/report.md")).contains("**Warning:** "));
    assert!(both_streams(folder.path(), &run).contains(expected), "also where all is up to date");
    let text = both_streams(folder.path(), &[&run[..], &["--set", "eval.splits=[\"train\"]"]].concat());
    assert!(!text.contains("may have been trained on"), "{text}");

    // Trained on other features, of which nothing is known here.
    write_network("0123456789abcdef");
    assert!(!both_streams(folder.path(), &run).contains("may have been trained on"));
    assert_eq!(warnings(), 0);
}

#[test]
fn report_has_the_curves_of_a_run_only_for_its_own_network() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 6);
    let trained = folder.path().join("runs/own");
    std::fs::create_dir_all(&trained).unwrap();
    checkpoint(&trained.join("best.safetensors"), 3);
    std::fs::write(trained.join("config.toml"), "# the configuration of own\n").unwrap();
    std::fs::write(
        trained.join("metrics.jsonl"),
        "{\"step\": 1, \"loss\": 2.0}\n{\"step\": 2, \"loss\": 1.0}\n",
    )
    .unwrap();
    let run = |checkpoint: &str| {
        let checkpoint = format!("eval.checkpoint={checkpoint}");
        let set = ["--set", "train.run=runs/own", "--set", "eval.output=runs/own/eval", "--set", &checkpoint];
        both_streams(folder.path(), &[&["run", "--config", "c.toml"], &set[..]].concat());
        let written = text_of(&trained.join("eval/report.html"));
        succeed(folder.path(), &["report", "runs/own/eval", "--out", "again"]);
        assert_eq!(text_of(&folder.path().join("again/report.html")), written);
        written
    };
    let page = run("network.safetensors");
    assert!(!page.contains("<title>bytecover: own<") && !page.contains("the configuration of own"), "{page}");
    assert!(page.contains("<title>bytecover: network "), "{page}");
    for own in ["", "runs/own/best.safetensors"] {
        let page = run(own);
        assert!(
            page.contains("<title>bytecover: own<") && page.contains("the configuration of own"),
            "{page}"
        );
    }
}

#[test]
fn emptied_report_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 6);
    let run = ["run", "--config", "c.toml"];
    succeed(folder.path(), &run);
    for name in ["report.html", "report.md"] {
        let path = folder.path().join("eval").join(name);
        let written = text_of(&path);
        for cut_off in ["", &written[..1]] {
            std::fs::write(&path, cut_off).unwrap();
            assert!(!succeed(folder.path(), &run).contains("Nothing to do"), "{name}");
            assert_eq!(text_of(&path), written);
        }
    }
    assert!(succeed(folder.path(), &run).contains("Nothing to do"));
}

#[test]
fn unknown_policy_is_refused_before_anything_is_embedded() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 6);
    for command in ["run", "excerpts", "baselines"] {
        let error = refuse(folder.path(), &[command, "--config", "c.toml", "--set", "eval.policy=none"]);
        assert!(error.contains("none"), "{error}");
        assert!(!folder.path().join("eval").exists(), "{command}");
    }
}

#[test]
fn network_with_weights_that_are_not_finite_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 6);
    let path = folder.path().join("network.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = refuse(folder.path(), &["run", "--config", "c.toml"]);
    assert!(error.contains("network.safetensors") && error.contains("use another checkpoint"), "{error}");
    assert!(!error.contains("features again"), "{error}");
}

#[test]
fn network_that_recommends_an_impossible_comparison_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 6);
    let compare = WindowComparison { window_s: 10.0, step_s: 5.0, tempi: vec![0.0, -1.0], neighbours: 3 };
    let header = HashMap::from([compare.to_key_value()]);
    checkpoint_with(&folder.path().join("network.safetensors"), 7, header);
    let error = refuse(folder.path(), &["run", "--config", "c.toml"]);
    assert!(error.contains("network.safetensors") && error.contains("tempi"), "{error}");
}

#[test]
fn list_of_cliques_may_come_from_any_editor_but_has_no_empty_line() {
    let folder = tempfile::tempdir().unwrap();
    let vectors =
        bc_formats::array::Matrix { columns: 2, values: vec![1.0, 0.0, 1.0, 0.1, 0.0, 1.0, 0.1, 1.0] };
    bc_formats::array::write(&folder.path().join("v.npy"), &vectors).unwrap();
    let measure = ["metrics", "--npy", "v.npy", "--cliques", "cliques.txt"];
    let write = |text: &str| std::fs::write(folder.path().join("cliques.txt"), text).unwrap();
    write("a\na\nb\nb\n");
    let plain = succeed(folder.path(), &measure);
    write("\u{feff}a\r\na \r\nb\t\r\nb\r\n");
    assert_eq!(succeed(folder.path(), &measure), plain);
    write("a\n\nb\n \n");
    assert!(refuse(folder.path(), &measure).contains("cliques.txt:2: the line is empty"));
}
