//! What scores mean, on embeddings whose truth is known.

mod common;

use std::path::Path;

use common::{clusters, refuse, succeed};
use serde_json::Value;

fn calibrated(folder: &Path) -> Value {
    let said = succeed(folder, &["calibrate", "--embeddings", "e.parquet"]);
    assert!(said.contains("checked on test"), "{said}");
    serde_json::from_slice(&std::fs::read(folder.join("calibration.json")).unwrap()).unwrap()
}

#[test]
fn probabilities_are_right_on_versions_not_fitted_on() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 1.2, |_| {});
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
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 0.6, |_| {});
    let found = calibrated(folder.path());
    let half = found["answers"].as_array().unwrap().iter().find(|row| row["probability"] == 0.5).unwrap();
    assert!(half["right"].as_f64().unwrap() > 0.9, "{half}");
    assert!(half["accepted_without"].as_f64().unwrap() < 0.1, "{half}");
    // A search uses it.
    let line = succeed(folder.path(), &["search", "3-1", "--index", "e.parquet", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["hits"][0]["clique_id"], "clique 3");
    assert!(answer["hits"][0]["probability"].as_f64().unwrap() > 0.9, "{answer}");
    // So does a search in an index elsewhere, by the configuration's calibration.
    std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
    std::fs::copy(folder.path().join("e.parquet"), folder.path().join("elsewhere/e.parquet")).unwrap();
    let elsewhere = ["search", "3-1", "--index", "elsewhere/e.parquet", "--json", "--set", "eval.output=."];
    assert_eq!(serde_json::from_str::<Value>(&succeed(folder.path(), &elsewhere)).unwrap(), answer);
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
    clusters(&folder.path().join("e.parquet"), [1, 3], 24, 1.0, |_| {});
    let error = refuse(folder.path(), &["calibrate", "--embeddings", "e.parquet"]);
    assert!(error.contains("e.parquet") && error.contains("pairs"), "{error}");
}
