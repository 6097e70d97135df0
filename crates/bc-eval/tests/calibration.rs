//! Calibrations of embeddings whose truth is known.

mod common;

use std::path::Path;

use common::{clusters, refuse, succeed};
use serde_json::Value;

fn calibrated(folder: &Path) -> Value {
    let stdout = succeed(folder, &["calibrate", "--embeddings", "e.parquet"]);
    assert!(stdout.contains("checked on test"), "{stdout}");
    serde_json::from_slice(&std::fs::read(folder.join("calibration.json")).unwrap()).unwrap()
}

#[test]
fn probabilities_are_right_on_versions_not_fitted_on() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 1.2, |_| {});
    let found = calibrated(folder.path());
    let error = found["calibration_error"].as_f64().unwrap();
    assert!(error < 0.05, "mean error {error}");
    // They are more informative than the prior: some pairs are surely of one work, some surely not.
    let rows = found["reliability"].as_array().unwrap();
    let far = |row: &&Value| (row["said"].as_f64().unwrap() - 0.5).abs() > 0.35;
    let sure: f64 = rows.iter().filter(far).map(|row| row["weight"].as_f64().unwrap()).sum();
    assert!(sure > 0.4, "{sure} of the weight is sure");
    for row in rows.iter().filter(|row| row["weight"].as_f64().unwrap() > 0.05) {
        let (predicted, observed) = (row["said"].as_f64().unwrap(), row["found"].as_f64().unwrap());
        assert!((predicted - observed).abs() < 0.15, "{row}");
    }
}

#[test]
fn absent_works_are_answered_with_none() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 0.6, |_| {});
    let found = calibrated(folder.path());
    let half = found["answers"].as_array().unwrap().iter().find(|row| row["probability"] == 0.5).unwrap();
    assert!(half["right"].as_f64().unwrap() > 0.9, "{half}");
    assert!(half["accepted_without"].as_f64().unwrap() < 0.1, "{half}");
}

#[test]
fn scores_without_information_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Nine works in the validation split, every other one of eighteen.
    clusters(&folder.path().join("e.parquet"), [18, 3], 24, 1.0, |_| {});
    let error = refuse(folder.path(), &["calibrate", "--embeddings", "e.parquet"]);
    assert!(
        error.contains("e.parquet") && error.contains("has 9 works") && error.contains("needs at least 10"),
        "{error}"
    );
    assert!(!folder.path().join("calibration.json").exists());
    // Works of a single version do not count either.
    clusters(&folder.path().join("e.parquet"), [40, 1], 24, 1.0, |_| {});
    let error = refuse(folder.path(), &["calibrate", "--embeddings", "e.parquet"]);
    assert!(error.contains("has 0 works"), "{error}");
}
