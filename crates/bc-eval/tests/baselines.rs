//! `bc-eval baselines`: the classical methods on a folder of features.

mod common;

use bc_formats::index::Split;
use half::f16;
use serde_json::Value;

/// Writes magnitudes of a different song for each clique, with each version in another key and octave.
fn experiment(folder: &std::path::Path, cliques: usize) {
    let (frames, mut rows, mut versions) = (400, Vec::new(), Vec::new());
    let ids: Vec<String> = (0..3 * cliques).map(|number| format!("v{number:02}")).collect();
    for (number, id) in ids.iter().enumerate() {
        let (clique, version) = (number / 3, number % 3);
        let mut magnitude = vec![f16::from_f32(0.01); 84 * frames];
        for frame in 0..frames {
            // A pitch class that changes every eight columns, by a rule of the clique.
            let step = frame / 8;
            let mut state = (step + 1) * (7 * clique + 3);
            state = state * state % 1009 + step % 5;
            let bin = 12 * (2 + version) + (state + 5 * version) % 12;
            magnitude[bin * frames + frame] = f16::from_f32(1.0);
        }
        rows.push((id.as_str(), magnitude));
        let split = if clique % 2 == 0 { Split::Val } else { Split::Test };
        versions.push(common::usable(id, &format!("c{clique}"), split));
    }
    common::features(folder, &rows);
    common::index(folder, versions);
    common::config(folder);
}

fn read(folder: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("eval/baselines.json")).unwrap()).unwrap()
}

#[test]
fn baselines_find_songs_in_other_keys_and_record_their_provenance() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    experiment(folder, 8);
    let text = common::succeed(folder, &["baselines", "--config", "c.toml"]);
    for word in ["chance", "2dfm", "2dfm-dc", "qmax", "baselines.json"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    let found = read(folder);
    for split in ["val", "test"] {
        for method in ["2dfm", "2dfm-dc", "qmax"] {
            let figures = &found["splits"][split][method];
            assert_eq!(figures["queries"], 12, "{split} {method}");
            assert!(figures["mAP"].as_f64().unwrap() > 0.95, "{split} {method}: {}", figures["mAP"]);
            let chance = figures["chance"]["mAP"].as_f64().unwrap();
            assert!((0.1..0.5).contains(&chance), "{chance}");
        }
    }
    assert_eq!(found["provenance"]["format"], "baselines/1");
    assert!(found["provenance"]["inputs"]["features"].is_string());

    let again = common::succeed(folder, &["baselines", "--config", "c.toml"]);
    assert!(again.contains("up to date"), "{again}");
    let other = common::succeed(folder, &["baselines", "--config", "c.toml", "--method", "alignment"]);
    assert!(other.contains("alignment") && !other.contains("up to date"), "{other}");
    assert!(read(folder)["splits"]["val"]["alignment"]["mAP"].as_f64().unwrap() > 0.9);
    // The query's own entry is the nearest under rules that drop it.
    let orfium = ["baselines", "--config", "c.toml", "--set", "eval.policy=orfium"];
    common::succeed(folder, &orfium);
    assert!(read(folder)["splits"]["val"]["qmax"]["mAP"].as_f64().unwrap() > 0.95);
}

#[test]
fn the_report_has_a_row_for_each_method() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    experiment(folder, 8);
    common::checkpoint(&folder.join("network.safetensors"), 3);
    common::succeed(folder, &["baselines", "--config", "c.toml"]);
    common::succeed(folder, &["run", "--config", "c.toml"]);
    let page = std::fs::read_to_string(folder.join("eval/report.html")).unwrap();
    let text = std::fs::read_to_string(folder.join("eval/report.md")).unwrap();
    for method in ["2dfm", "qmax"] {
        assert!(page.contains(&format!("{method} (classical")), "{method}");
    }
    assert!(text.contains("val: qmax"), "{text}");
    let table = common::succeed(folder, &["baselines", "--config", "c.toml"]);
    assert!(table.contains("network"), "{table}");
}

#[test]
fn missing_pairs_and_missing_features_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    experiment(folder, 1);
    common::index(
        folder,
        vec![common::usable("v00", "a", Split::Val), common::usable("v01", "b", Split::Val)],
    );
    let error = common::refuse(folder, &["baselines", "--config", "c.toml"]);
    assert!(error.contains("two versions of a clique") && error.contains("index.parquet"), "{error}");
    std::fs::remove_dir_all(folder.join("features")).unwrap();
    let error = common::refuse(folder, &["baselines", "--config", "c.toml"]);
    assert!(error.contains("bc-features extract"), "{error}");
}
