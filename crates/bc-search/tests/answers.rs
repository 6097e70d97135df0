//! What answers say, on embeddings whose truth is known.

mod common;

use std::path::Path;

use bc_calibration::Calibration;
use bc_formats::embeddings::Embeddings;
use common::{clusters, refuse, succeed};
use serde_json::Value;

/// Writes `calibration.json` beside `e.parquet`.
fn calibrated(folder: &Path) {
    let path = folder.join("e.parquet");
    let made = Calibration::from_embeddings(&path, &Embeddings::read(&path).unwrap()).unwrap();
    bc_formats::atomic::write_json(&folder.join("calibration.json"), &made).unwrap();
}

#[test]
fn a_search_uses_the_calibration_beside_the_index_and_the_prior() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 0.6, |_| {});
    calibrated(folder.path());
    let line = succeed(folder.path(), &["search", "3-1", "--index", "e.parquet", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["hits"][0]["work"], "clique 3");
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

/// The probability of the work of the first hit, and the hits.
fn first(folder: &Path, query: &str, index: &str) -> (f64, Value) {
    let line = succeed(folder, &["search", query, "--index", index, "--json", "--prior", "0.5"]);
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
            hits.iter().map(|hit| hit["work"].as_str().unwrap()).collect();
        assert_eq!(works.len(), 10, "{answer}");
        let probabilities: Vec<f64> = hits.iter().map(|hit| hit["probability"].as_f64().unwrap()).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b), "{answer}");
        // The work of the query has four others; the best of them is named, the others after it.
        let own =
            hits.iter().find(|hit| hit["work"] == format!("clique {}", query.split('-').next().unwrap()));
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
    let song = answer["hits"][0]["path"].as_str().unwrap();
    assert!(song.starts_with("3-"), "{answer}");
    assert!(found > 0.8, "{found}, {known} where the works are known: {answer}");
    assert!(answer["hits"][0]["versions"].as_u64().unwrap() >= 3, "{answer}");

    // Five versions as near to the query as to each other: apart, each would get a fifth at most.
    let mut index = Embeddings::read(&unknown).unwrap();
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
    assert!(found > 0.8 && answer["hits"][0]["kind"] != "same-audio", "{found}: {answer}");
    assert!(answer["hits"][0]["path"].as_str().unwrap().starts_with("cover"), "{answer}");
    assert!(answer["hits"][0]["versions"].as_u64().unwrap() >= 5, "{answer}");
}

/// A different content hash for each text.
fn hash(text: &str) -> String {
    let mut fingerprint = bc_formats::fingerprint::Fingerprint::of("file");
    fingerprint.add(text).finish().repeat(2)
}

#[test]
fn the_same_audio_under_two_names_is_one_work_and_a_copy_is_nearly_certain() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 1.2, |_| {});
    calibrated(folder.path());
    // A larger index, each recording a separate work; three of them are one file, and so is a fourth of other bytes.
    let path = folder.path().join("u.parquet");
    clusters(&path, [600, 2], 24, 1.2, |label| {
        label.clique_id = label.version_id.clone();
        label.source_hash = hash(&label.version_id);
    });
    let mut index = Embeddings::read(&path).unwrap();
    let vector = index.vectors[..index.dim].to_vec();
    for (name, hash) in [("twin", "0-0"), ("again", "0-0"), ("encoded", "other bytes")] {
        let mut label = index.labels[0].clone();
        label.version_id = name.into();
        label.clique_id = name.into();
        label.source_hash = self::hash(hash);
        index.labels.push(label);
        index.vectors.extend(vector.iter().map(|value| 3.0 * value));
    }
    index.write(&path).unwrap();
    for query in ["0-0", "twin", "encoded"] {
        let (found, answer) = first(folder.path(), query, "u.parquet");
        assert!(found > 0.99, "{query}: {found}: {answer}");
        let hit = &answer["hits"][0];
        assert_eq!(hit["kind"], "same-audio");
        let others = hit["other_versions"].as_array().unwrap().iter().filter_map(Value::as_str);
        let names: Vec<&str> = others.chain(hit["path"].as_str()).collect();
        for name in ["0-0", "twin", "again", "encoded"].into_iter().filter(|name| *name != query) {
            assert!(names.contains(&name), "{query}: no {name} in {hit}");
        }
    }
    // Without a calibration the file's bytes still tell.
    std::fs::remove_file(folder.path().join("calibration.json")).unwrap();
    let line = succeed(folder.path(), &["search", "twin", "--index", "u.parquet", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&answer["hits"][0]["kind"], answer["hits"][0]["versions"].as_u64()),
        (&"same-audio".into(), Some(2))
    );
}

#[test]
fn a_search_leaves_the_query_out_and_gives_one_line_per_work() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [6, 3], 24, 0.2, |_| {});
    let answers =
        common::answers(folder.path(), &["search", "2-1", "--index", "e.parquet", "-k", "2", "--json"]);
    let hits = answers[0]["hits"].as_array().unwrap();
    assert_eq!((hits.len(), &hits[0]["work"]), (2, &"clique 2".into()));
    assert!(hits[0]["path"] != "2-1" && hits[0]["versions"] == 2, "{hits:?}");
    assert!(refuse(folder.path(), &["search", "zz", "--index", "e.parquet"]).contains("zz"));
}

#[test]
fn an_index_and_the_file_it_was_imported_from_answer_alike() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [150, 3], 24, 1.0, |_| {});
    calibrated(folder.path());
    for storage in ["f16", "int8"] {
        let said = succeed(folder.path(), &["import", "e.parquet", "--index", storage, "--storage", storage]);
        assert!(said.contains("450 recordings"), "{said}");
        for query in ["3-1", "77-0"] {
            let calibration = ["--calibration", "calibration.json", "--json"];
            let ask = |index| {
                let args = [&["search", query, "--index", index][..], &calibration].concat();
                common::answers(folder.path(), &args).remove(0)
            };
            let (file, index) = (ask("e.parquet"), ask(storage));
            assert_eq!(file["hits"][0]["work"], index["hits"][0]["work"]);
            let none = |answer: &Value| answer["probability_of_none"].as_f64().unwrap();
            assert!(
                (none(&file) - none(&index)).abs() < 0.03,
                "{storage}: {} and {}",
                none(&file),
                none(&index)
            );
        }
    }
}

#[test]
fn duplicates_are_pairs_of_three_kinds_with_their_groups() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [120, 3], 24, 0.5, |_| {});
    calibrated(folder.path());
    let path = folder.path().join("u.parquet");
    clusters(&path, [120, 3], 24, 0.5, |label| label.clique_id = label.version_id.clone());
    let mut index = Embeddings::read(&path).unwrap();
    for number in 0..2 {
        let mut label = index.labels[3 * number].clone();
        label.version_id = format!("copy {number}");
        label.clique_id.clone_from(&label.version_id);
        index.labels.push(label);
        let vector = index.vectors[3 * number * index.dim..][..index.dim].to_vec();
        index
            .vectors
            .extend(vector.iter().enumerate().map(|(i, value)| value * (1.0 + 0.001 * (i % 3) as f32)));
    }
    index.write(&path).unwrap();
    let pairs = common::answers(folder.path(), &["duplicates", "--index", "u.parquet", "--format", "jsonl"]);
    let clique = |path: &str| match path.strip_prefix("copy ") {
        Some(number) => number.to_owned(),
        None => path.split('-').next().unwrap().to_owned(),
    };
    let text = |pair: &Value, side: &str| pair[side]["path"].as_str().unwrap().to_owned();
    let copies: Vec<&Value> = pairs.iter().filter(|pair| pair["kind"] == "same-audio").collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    let sure: Vec<&Value> =
        pairs.iter().filter(|pair| pair["kind"] == "same-work" || pair["kind"] == "same-audio").collect();
    let right =
        |of: &[&Value]| of.iter().filter(|pair| clique(&text(pair, "a")) == clique(&text(pair, "b"))).count();
    // Of some 364 pairs. Two of so many works score nearly as versions do, so that few are sure; but what is said is right, and no more is said
    // than is right: 182 pairs, 60 of them sure, none of them wrong, 145 by the sum of the probabilities.
    let all: Vec<&Value> = pairs.iter().collect();
    let said: f64 = pairs.iter().map(|pair| pair["probability"].as_f64().unwrap()).sum();
    assert!(sure.len() >= 50 && right(&sure) == sure.len(), "{} of {} sure", right(&sure), sure.len());
    assert!(all.len() >= 160 && right(&all) * 50 >= all.len() * 49, "{} of {}", right(&all), all.len());
    assert!(
        said <= right(&all) as f64 && said > 0.7 * right(&all) as f64,
        "said {said}, right {}",
        right(&all)
    );
    for pair in sure {
        assert!(pair["group"].as_u64().unwrap() > 0, "{pair}");
    }
    let table = succeed(folder.path(), &["duplicates", "--index", "u.parquet", "--format", "csv"]);
    assert_eq!(table.lines().count(), pairs.len() + 1);
    cells_give_what_all_pairs_give(folder.path(), &pairs);
    // Without a calibration nothing is said.
    std::fs::remove_file(folder.path().join("calibration.json")).unwrap();
    assert!(refuse(folder.path(), &["duplicates", "--index", "u.parquet"]).contains("no calibration"));
}

/// Looking into all cells is looking at all pairs; into few, at some, and it is said how many are missed.
fn cells_give_what_all_pairs_give(folder: &Path, exact: &[Value]) {
    let ask = |probes: &str| {
        let output = common::run(
            folder,
            &["duplicates", "--index", "u.parquet", "--format", "jsonl", "--probes", probes],
        );
        assert!(output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>(), said)
    };
    let (all, said) = ask("1000");
    assert_eq!(all.len(), exact.len());
    // The order of pairs that are as likely as each other may differ: either side scores with its own vector at length 1 and the
    // other's as it is kept, in 16 bits.
    let key = |pair: &Value| format!("{} {}", pair["a"]["path"], pair["b"]["path"]);
    for other in exact {
        let one = all.iter().find(|one| key(one) == key(other)).expect("the pair is there");
        let close = |key: &str| (one[key].as_f64().unwrap() - other[key].as_f64().unwrap()).abs() < 0.01;
        assert!(
            close("probability") && close("score") && close("probability_of_same_audio"),
            "{one} {other}"
        );
        assert_eq!((&one["kind"], one["group"] == 0), (&other["kind"], other["group"] == 0));
    }
    assert!(said.contains("asked exactly"), "{said}");
    let (some, said) = ask("1");
    assert!(some.len() < exact.len() && !some.is_empty(), "{} of {}", some.len(), exact.len());
    let numbers: Vec<usize> =
        said.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    // All 362 recordings were asked: what is said to be found is what was found.
    assert_eq!(numbers[1..3], [362, some.len()], "{said}");
}

#[test]
fn candidates_of_a_database_get_the_answers_of_a_search() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [120, 3], 24, 1.0, |_| {});
    calibrated(folder.path());
    let whole =
        common::answers(folder.path(), &["search", "7-0", "--index", "e.parquet", "--json"]).remove(0);
    let mut list = "query,path,score\n".to_owned();
    for hit in whole["hits"].as_array().unwrap() {
        list += &format!("7-0,{},0\n", hit["path"].as_str().unwrap());
    }
    list += "7-0,nobody,0\n";
    std::fs::write(folder.path().join("c.csv"), list).unwrap();
    let some =
        common::answers(folder.path(), &["rerank", "c.csv", "--index", "e.parquet", "--json"]).remove(0);
    let first = |answer: &Value| (answer["hits"][0]["work"].clone(), answer["hits"][0]["versions"].clone());
    assert_eq!(first(&some), first(&whole));
    let none = |answer: &Value| answer["probability_of_none"].as_f64().unwrap();
    assert!((none(&some) - none(&whole)).abs() < 0.05, "{} and {}", none(&some), none(&whole));
}
