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
    // Nine works in the validation split, every other one of eighteen.
    clusters(&folder.path().join("e.parquet"), [18, 3], 24, 1.0, |_| {});
    let error = refuse(folder.path(), &["calibrate", "--embeddings", "e.parquet"]);
    assert!(
        error.contains("e.parquet") && error.contains("has 9 works") && error.contains("takes 10"),
        "{error}"
    );
    assert!(!folder.path().join("calibration.json").exists());
    // Nor do works of a single version count.
    clusters(&folder.path().join("e.parquet"), [40, 1], 24, 1.0, |_| {});
    let error = refuse(folder.path(), &["calibrate", "--embeddings", "e.parquet"]);
    assert!(error.contains("has 0 works"), "{error}");
}

/// The probability of the work of the first hit, and the hits.
fn first(folder: &Path, query: &str, index: &str) -> (f64, Value) {
    let line = succeed(folder, &["search", query, "--index", index, "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    (answer["hits"][0]["probability"].as_f64().unwrap(), answer)
}

#[test]
fn an_answer_has_one_line_per_work_ordered_by_probability() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 1.2, |_| {});
    calibrated(folder.path());
    for query in ["3-1", "10-0", "55-4"] {
        let (_, answer) = first(folder.path(), query, "e.parquet");
        let hits = answer["hits"].as_array().unwrap();
        assert_eq!(hits.len(), 10);
        let works: std::collections::BTreeSet<&str> =
            hits.iter().map(|hit| hit["clique_id"].as_str().unwrap()).collect();
        assert_eq!(works.len(), 10, "{answer}");
        let probabilities: Vec<f64> = hits.iter().map(|hit| hit["probability"].as_f64().unwrap()).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b), "{answer}");
        // The work of the query has four others; the best of them is named, the others after it.
        let own = hits
            .iter()
            .find(|hit| hit["clique_id"] == format!("clique {}", query.split('-').next().unwrap()));
        if let Some(own) = own {
            assert_eq!(
                (own["versions"].as_u64(), own["other_versions"].as_array().unwrap().len()),
                (Some(4), 3)
            );
        }
    }
}

#[test]
fn versions_of_one_unknown_song_share_no_probability() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 6], 24, 0.6, |_| {});
    calibrated(folder.path());
    let (known, _) = first(folder.path(), "3-1", "e.parquet");
    // The same recordings, and nobody said what is a version of what.
    let unknown = folder.path().join("u.parquet");
    clusters(&unknown, [80, 6], 24, 0.6, |label| label.clique_id = label.version_id.clone());
    let (found, answer) = first(folder.path(), "3-1", "u.parquet");
    let song = answer["hits"][0]["version_id"].as_str().unwrap();
    assert!(song.starts_with("3-"), "{answer}");
    assert!(found > 0.8, "{found}, {known} where the works are known: {answer}");
    assert!(answer["hits"][0]["versions"].as_u64().unwrap() >= 3, "{answer}");

    // Five versions as near to the query as to each other: apart, each would get a fifth at most.
    let mut index = bc_formats::embeddings::Embeddings::read(&unknown).unwrap();
    let query: Vec<f32> = index.vectors[..index.dim].to_vec();
    let length = query.iter().map(|value| value * value).sum::<f32>().sqrt();
    for number in 0..5 {
        let mut label = index.labels[0].clone();
        label.version_id = format!("cover {number}");
        label.clique_id = label.version_id.clone();
        index.labels.push(label);
        let aside = |place: usize| if place == number { 0.33 * length } else { 0.0 };
        index.vectors.extend(query.iter().enumerate().map(|(place, value)| value + aside(place)));
    }
    index.write(&unknown).unwrap();
    let (found, answer) = first(folder.path(), "0-0", "u.parquet");
    assert!(found > 0.8 && answer["hits"][0]["copy"] == false, "{found}: {answer}");
    assert!(answer["hits"][0]["version_id"].as_str().unwrap().starts_with("cover"), "{answer}");
    assert!(answer["hits"][0]["versions"].as_u64().unwrap() >= 5, "{answer}");
}

#[test]
fn the_same_audio_under_two_names_is_one_work_and_a_copy_is_nearly_certain() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 1.2, |_| {});
    calibrated(folder.path());
    // A larger index, each recording a work of its own; three of them are one file, and so is a fourth of other bytes.
    let path = folder.path().join("u.parquet");
    clusters(&path, [600, 2], 24, 1.2, |label| {
        label.clique_id = label.version_id.clone();
        label.source_hash = format!("bytes of {}", label.version_id);
    });
    let mut index = bc_formats::embeddings::Embeddings::read(&path).unwrap();
    let vector = index.vectors[..index.dim].to_vec();
    for (name, hash) in [("twin", "bytes of 0-0"), ("again", "bytes of 0-0"), ("encoded", "other bytes")] {
        let mut label = index.labels[0].clone();
        label.version_id = name.into();
        label.clique_id = name.into();
        label.source_hash = hash.into();
        index.labels.push(label);
        index.vectors.extend(vector.iter().map(|value| 3.0 * value));
    }
    index.write(&path).unwrap();
    for query in ["0-0", "twin", "encoded"] {
        let (found, answer) = first(folder.path(), query, "u.parquet");
        assert!(found > 0.99, "{query}: {found}: {answer}");
        let hit = &answer["hits"][0];
        assert_eq!(hit["copy"], true);
        let others = hit["other_versions"].as_array().unwrap().iter().filter_map(Value::as_str);
        let names: Vec<&str> = others.chain(hit["version_id"].as_str()).collect();
        for name in ["0-0", "twin", "again", "encoded"].into_iter().filter(|name| *name != query) {
            assert!(names.contains(&name), "{query}: no {name} in {hit}");
        }
    }
    // Without a calibration the file's bytes still tell.
    std::fs::remove_file(folder.path().join("calibration.json")).unwrap();
    let line = succeed(folder.path(), &["search", "twin", "--index", "u.parquet", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&answer["hits"][0]["copy"], answer["hits"][0]["versions"].as_u64()), (&true.into(), Some(2)));
}
