//! What scores mean, on embeddings whose truth is known.

mod common;

use std::path::Path;

use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;
use common::{refuse, succeed};
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const DIM: usize = 24;

/// Versions around the directions of their cliques, `spread` apart.
fn write(path: &Path, cliques: usize, versions: usize, spread: f32) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut bell = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
    let (mut labels, mut vectors) = (Vec::new(), Vec::new());
    for clique in 0..cliques {
        let centre: Vec<f32> = (0..DIM).map(|_| bell()).collect();
        for version in 0..versions {
            vectors.extend(centre.iter().map(|value| value + spread * bell()).collect::<Vec<_>>());
            labels.push(Label {
                version_id: format!("{clique}-{version}"),
                clique_id: format!("clique {clique}"),
                title: String::new(),
                performer: String::new(),
                split: if clique % 2 == 0 { Split::Val } else { Split::Test },
                duration_s: 60.0,
                start_s: 0.0,
            });
        }
    }
    let provenance = Provenance {
        format: FORMAT.into(),
        tool: "test".into(),
        settings: serde_json::json!({ "layer": "f_c" }),
        fingerprint: "f".into(),
        inputs: [("checkpoint".to_owned(), "c".to_owned())].into(),
    };
    Embeddings { labels, dim: DIM, vectors, provenance }.write(path).unwrap();
}

fn calibrated(folder: &Path) -> Value {
    let said = succeed(folder, &["calibrate", "--embeddings", "e.parquet"]);
    assert!(said.contains("checked on test"), "{said}");
    serde_json::from_slice(&std::fs::read(folder.join("calibration.json")).unwrap()).unwrap()
}

#[test]
fn probabilities_are_right_on_versions_not_fitted_on() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("e.parquet"), 80, 5, 1.2);
    let found = calibrated(folder.path());
    let error = found["calibration_error"].as_f64().unwrap();
    assert!(error < 0.05, "mean error {error}");
    // They say more than the prior: some pairs are surely of one work, some surely not.
    let rows = found["reliability"].as_array().unwrap();
    let far = |row: &&Value| (row["said"].as_f64().unwrap() - 0.5).abs() > 0.35;
    let sure: f64 = rows.iter().filter(far).map(|row| row["weight"].as_f64().unwrap()).sum();
    assert!(sure > 0.4, "{sure} of the weight is sure");
    for row in rows.iter().filter(|row| row["weight"].as_f64().unwrap() > 0.05) {
        let (said, found) = (row["said"].as_f64().unwrap(), row["found"].as_f64().unwrap());
        assert!((said - found).abs() < 0.15, "{row}");
    }
}

#[test]
fn no_cover_in_the_index_is_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("e.parquet"), 80, 5, 0.6);
    let found = calibrated(folder.path());
    let half = found["answers"].as_array().unwrap().iter().find(|row| row["probability"] == 0.5).unwrap();
    assert!(half["right"].as_f64().unwrap() > 0.9, "{half}");
    assert!(half["accepted_without"].as_f64().unwrap() < 0.1, "{half}");
    // A search uses it.
    let line = succeed(folder.path(), &["search", "3-1", "--index", "e.parquet", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["hits"][0]["clique_id"], "clique 3");
    assert!(answer["hits"][0]["probability"].as_f64().unwrap() > 0.9, "{answer}");
    let unlikely = ["search", "3-1", "--index", "e.parquet", "--json", "--prior", "1e-9"];
    let doubtful: Value = serde_json::from_str(&succeed(folder.path(), &unlikely)).unwrap();
    assert!(
        doubtful["probability_of_none"].as_f64().unwrap() > answer["probability_of_none"].as_f64().unwrap()
    );
    assert!(
        refuse(folder.path(), &["search", "3-1", "--index", "e.parquet", "--prior", "1.5"]).contains("1.5")
    );
}

#[test]
fn scores_that_say_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("e.parquet"), 1, 3, 1.0);
    let error = refuse(folder.path(), &["calibrate", "--embeddings", "e.parquet"]);
    assert!(error.contains("e.parquet") && error.contains("pairs"), "{error}");
}
