//! Tests the answers of a search on synthetic embeddings whose works are known.

mod common;

use std::path::Path;

use bc_calibration::Calibration;
use bc_formats::embeddings::Embeddings;
use common::{clusters, refuse, succeed};
use serde_json::Value;

/// Writes `calibration.json` next to `e.parquet`.
fn write_calibration(folder: &Path) {
    let path = folder.join("e.parquet");
    let calibration = Calibration::from_embeddings(&path, &Embeddings::read(&path).unwrap()).unwrap();
    bc_formats::atomic::write_json(&folder.join("calibration.json"), &calibration).unwrap();
}

#[test]
fn search_uses_the_calibration_next_to_the_index_and_the_prior() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 0.6, |_| {});
    write_calibration(folder.path());
    let line = succeed(folder.path(), &["search", "3-1", "--index", "e.parquet", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["hits"][0]["work"], "clique 3");
    assert!(answer["hits"][0]["probability"].as_f64().unwrap() > 0.9, "{answer}");
    // A search in an index elsewhere uses the calibration that the configuration names.
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

/// The probability of the work of the first hit, and the answer.
fn first_probability(folder: &Path, query: &str, index: &str) -> (f64, Value) {
    let line = succeed(folder, &["search", query, "--index", index, "--json", "--prior", "0.5"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    (answer["hits"][0]["probability"].as_f64().unwrap(), answer)
}

#[test]
fn an_answer_has_one_line_per_work_ordered_by_probability() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 1.2, |_| {});
    write_calibration(folder.path());
    for query in ["3-1", "10-0", "55-4"] {
        let (_, answer) = first_probability(folder.path(), query, "e.parquet");
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
fn versions_without_work_labels_do_not_split_the_probability() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 6], 24, 0.6, |_| {});
    write_calibration(folder.path());
    let (known, _) = first_probability(folder.path(), "3-1", "e.parquet");
    // The same recordings without labels of works.
    let unknown = folder.path().join("u.parquet");
    clusters(&unknown, [80, 6], 24, 0.6, |label| label.clique_id = label.version_id.clone());
    let (found, answer) = first_probability(folder.path(), "3-1", "u.parquet");
    let song = answer["hits"][0]["path"].as_str().unwrap();
    assert!(song.starts_with("3-"), "{answer}");
    assert!(found > 0.8, "{found}, {known} where the works are known: {answer}");
    assert!(answer["hits"][0]["versions"].as_u64().unwrap() >= 3, "{answer}");

    // Five versions as near to the query as to each other: as separate works each would get a probability of 0.2 at most.
    let mut index = Embeddings::read(&unknown).unwrap();
    let query: Vec<f32> = index.vectors[..index.dim].to_vec();
    let length = query.iter().map(|value| value * value).sum::<f32>().sqrt();
    for number in 0..5 {
        let mut label = index.labels[0].clone();
        label.version_id = format!("cover {number}");
        label.clique_id = label.version_id.clone();
        index.labels.push(label);
        let offset = |dimension: usize| if dimension == number { 0.33 * length } else { 0.0 };
        index.vectors.extend(query.iter().enumerate().map(|(dimension, value)| value + offset(dimension)));
    }
    index.write(&unknown).unwrap();
    let (found, answer) = first_probability(folder.path(), "0-0", "u.parquet");
    assert!(found > 0.8 && answer["hits"][0]["kind"] != "near-identical", "{found}: {answer}");
    assert!(answer["hits"][0]["path"].as_str().unwrap().starts_with("cover"), "{answer}");
    assert!(answer["hits"][0]["versions"].as_u64().unwrap() >= 5, "{answer}");
}

/// A different content hash for each text.
fn hash(text: &str) -> String {
    let mut fingerprint = bc_formats::fingerprint::Fingerprint::of("file");
    fingerprint.add(text).finish().repeat(2)
}

#[test]
fn copies_of_one_file_are_one_work_with_high_probability() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [80, 5], 24, 1.2, |_| {});
    write_calibration(folder.path());
    // A larger index, each recording a separate work; three of them are one file, and a fourth has the same audio in other bytes.
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
        let (found, answer) = first_probability(folder.path(), query, "u.parquet");
        assert!(found > 0.99, "{query}: {found}: {answer}");
        let hit = &answer["hits"][0];
        let kind = if query == "encoded" { "near-identical" } else { "same-audio" };
        assert_eq!(hit["kind"], kind, "{query}");
        let others = hit["other_versions"].as_array().unwrap().iter().filter_map(Value::as_str);
        let names: Vec<&str> = others.chain(hit["path"].as_str()).collect();
        for name in ["0-0", "twin", "again", "encoded"].into_iter().filter(|name| *name != query) {
            assert!(names.contains(&name), "{query}: no {name} in {hit}");
        }
    }
    // Without a calibration, identical bytes still identify a copy.
    std::fs::remove_file(folder.path().join("calibration.json")).unwrap();
    let line = succeed(folder.path(), &["search", "twin", "--index", "u.parquet", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&answer["hits"][0]["kind"], answer["hits"][0]["versions"].as_u64()),
        (&"same-audio".into(), Some(2))
    );
}

#[test]
fn search_omits_the_query_and_prints_one_line_per_work() {
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
fn imported_index_gives_the_same_answers_as_its_embeddings_file() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [150, 3], 24, 1.0, |_| {});
    write_calibration(folder.path());
    for storage in ["f16", "int8"] {
        let output =
            succeed(folder.path(), &["import", "e.parquet", "--index", storage, "--storage", storage]);
        assert!(output.contains("450 recordings"), "{output}");
        for query in ["3-1", "77-0"] {
            let calibration = ["--calibration", "calibration.json", "--json"];
            let search = |index| {
                let args = [&["search", query, "--index", index][..], &calibration].concat();
                common::answers(folder.path(), &args).remove(0)
            };
            let (file, index) = (search("e.parquet"), search(storage));
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
fn duplicates_have_kinds_groups_and_honest_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [120, 3], 24, 0.5, |_| {});
    write_calibration(folder.path());
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
    let copies: Vec<&Value> = pairs.iter().filter(|pair| pair["kind"] == "near-identical").collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    let confident: Vec<&Value> =
        pairs.iter().filter(|pair| pair["kind"] == "same-work" || pair["kind"] == "near-identical").collect();
    let correct = |pairs: &[&Value]| {
        pairs.iter().filter(|pair| clique(&text(pair, "a")) == clique(&text(pair, "b"))).count()
    };
    // There are 364 true pairs. Recordings of different works score nearly as high as versions here, so only few pairs are confident, but
    // nearly all reported pairs are correct and the probabilities do not promise more than that: 182 pairs, 60 of them confident, none of
    // these wrong, and the probabilities add up to 145.
    let all: Vec<&Value> = pairs.iter().collect();
    let predicted: f64 = pairs.iter().map(|pair| pair["probability"].as_f64().unwrap()).sum();
    assert!(
        confident.len() >= 50 && correct(&confident) == confident.len(),
        "{} of {} confident",
        correct(&confident),
        confident.len()
    );
    assert!(all.len() >= 160 && correct(&all) * 50 >= all.len() * 49, "{} of {}", correct(&all), all.len());
    assert!(
        predicted <= correct(&all) as f64 && predicted > 0.7 * correct(&all) as f64,
        "predicted {predicted}, correct {}",
        correct(&all)
    );
    for pair in confident {
        assert!(pair["group"].as_u64().unwrap() > 0, "{pair}");
    }
    let table = succeed(folder.path(), &["duplicates", "--index", "u.parquet", "--format", "csv"]);
    assert_eq!(table.lines().count(), pairs.len() + 1);
    require_same_pairs_with_all_cells(folder.path(), &pairs);
    // Without a calibration there are no duplicates.
    std::fs::remove_file(folder.path().join("calibration.json")).unwrap();
    assert!(refuse(folder.path(), &["duplicates", "--index", "u.parquet"]).contains("no calibration"));
}

/// Checks that comparing within all cells finds the same pairs as comparing all pairs, and that with few cells the estimated share of
/// found pairs is reported.
fn require_same_pairs_with_all_cells(folder: &Path, exact: &[Value]) {
    let duplicates = |probes: &str| {
        let output = common::run(
            folder,
            &["duplicates", "--index", "u.parquet", "--format", "jsonl", "--probes", probes],
        );
        assert!(output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>(), stderr)
    };
    let (all, stderr) = duplicates("1000");
    assert_eq!(all.len(), exact.len());
    // The order of pairs with equal probabilities may differ: each recording is compared by its own vector at length 1 with the other's
    // stored vector of 16 bits, so scores differ slightly.
    let key = |pair: &Value| format!("{} {}", pair["a"]["path"], pair["b"]["path"]);
    for other in exact {
        let pair = all.iter().find(|pair| key(pair) == key(other)).expect("the pair was found");
        let close = |key: &str| (pair[key].as_f64().unwrap() - other[key].as_f64().unwrap()).abs() < 0.01;
        assert!(
            close("probability") && close("score") && close("probability_of_same_audio"),
            "{pair} {other}"
        );
        assert_eq!((&pair["kind"], pair["group"] == 0), (&other["kind"], other["group"] == 0));
    }
    assert!(stderr.contains("not all pairs were compared"), "{stderr}");
    let (some, stderr) = duplicates("1");
    assert!(some.len() < exact.len() && !some.is_empty(), "{} of {}", some.len(), exact.len());
    let numbers: Vec<usize> =
        stderr.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    // All 362 recordings are in the sample, so the reported number is exact.
    assert_eq!([numbers[0], numbers[2]], [some.len(), 362], "{stderr}");
}

#[test]
fn reranked_candidates_get_the_probabilities_of_a_search() {
    let folder = tempfile::tempdir().unwrap();
    clusters(&folder.path().join("e.parquet"), [120, 3], 24, 1.0, |_| {});
    write_calibration(folder.path());
    let searched =
        common::answers(folder.path(), &["search", "7-0", "--index", "e.parquet", "--json"]).remove(0);
    let mut list = "query,path,score\n".to_owned();
    for hit in searched["hits"].as_array().unwrap() {
        list += &format!("7-0,{},0\n", hit["path"].as_str().unwrap());
    }
    list += "7-0,nobody,0\n";
    std::fs::write(folder.path().join("c.csv"), list).unwrap();
    let reranked =
        common::answers(folder.path(), &["rerank", "c.csv", "--index", "e.parquet", "--json"]).remove(0);
    let first_hit =
        |answer: &Value| (answer["hits"][0]["work"].clone(), answer["hits"][0]["versions"].clone());
    assert_eq!(first_hit(&reranked), first_hit(&searched));
    let none = |answer: &Value| answer["probability_of_none"].as_f64().unwrap();
    assert!((none(&reranked) - none(&searched)).abs() < 0.05, "{} and {}", none(&reranked), none(&searched));
}
