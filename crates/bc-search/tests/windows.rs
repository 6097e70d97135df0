//! Short windows in an index of whole recordings: they survive changes of the index, scores follow their definition, and
//! probabilities are calibrated.

mod common;

use std::collections::HashMap;
use std::path::Path;

use bc_audio::Limits;
use bc_calibration::versions::Versions;
use bc_calibration::{COMPARE, Calibration};
use bc_embed::embedder::Embedder;
use bc_embed::recording::AudioEmbedder;
use bc_embed::windows::Windows;
use bc_formats::config::{Config, Layer};
use bc_formats::embeddings::Label;
use bc_formats::index::Split;
use bc_formats::run::WindowComparison;
use bc_search::answer::{Options, Query, Searcher};
use bc_search::index::change::{Adder, Addition, ConflictPolicy};
use bc_search::index::{Index, Manifest, Row, Storage};
use common::{NETWORK, answers, melody, refuse, succeed, with_network};
use rand::{RngExt, SeedableRng};
use serde_json::Value;

fn comparison() -> WindowComparison {
    WindowComparison { window_s: 2.0, step_s: 1.0, tempi: vec![1.0, 0.8, 1.25], neighbours: 2 }
}

/// A folder with a network that recommends short windows, and six melodies.
fn folder_with_tunes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    common::checkpoint_with_windows(&folder.path().join("network.safetensors"), 7, &comparison());
    std::fs::create_dir(folder.path().join("tunes")).unwrap();
    for tune in 0..6u32 {
        let notes: Vec<u32> = (0..8 + tune).map(|note| 40 + (note * (tune + 2) + 3 * tune) % 30).collect();
        melody(&folder.path().join(format!("tunes/{tune}.wav")), &notes);
    }
    folder
}

/// The start of each window in seconds, and its vector.
type TimedVectors = Vec<(f32, Vec<f32>)>;
/// A recording: its work, its vector and its windows.
type TestRecording = (usize, Vec<f32>, TimedVectors);

fn windows_of(index: &Path) -> Vec<(String, TimedVectors)> {
    let index = Index::open(index).unwrap();
    let mut all: Vec<_> =
        index.recordings().map(|id| (index.row(id).unwrap().path, index.short_windows(id))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn short_windows_survive_all_changes_of_an_index() {
    let folder = folder_with_tunes();
    let index = folder.path().join("i");
    for tune in 0..6 {
        with_network(folder.path(), &["add", &format!("tunes/{tune}.wav"), "--index", "i"]);
    }
    let before = windows_of(&index);
    assert_eq!(before.len(), 6);
    for (path, windows) in &before {
        assert!(windows.len() >= 2 && windows[0].0 == 0.0 && windows[1].0 > 0.8, "{path}: {windows:?}");
        assert!(windows.is_sorted_by(|a, b| a.0 < b.0));
    }
    let info: Value =
        serde_json::from_str(&succeed(folder.path(), &["info", "--index", "i", "--json"])).unwrap();
    assert_eq!(info["compare"]["window_s"], 2.0);
    let count: usize = before.iter().map(|(_, windows)| windows.len()).sum();
    assert_eq!(info["short_windows"], count);
    succeed(folder.path(), &["compact", "--index", "i"]);
    assert_eq!(windows_of(&index), before);
    succeed(folder.path(), &["merge", "i", "--index", "merged"]);
    for ((path, original), (_, merged)) in before.iter().zip(&windows_of(&folder.path().join("merged"))) {
        let close = |a: &[f32], b: &[f32]| bc_retrieval::cosine(a, b) > 0.9999;
        assert!(
            original.len() == merged.len() && original.iter().zip(merged).all(|(a, b)| close(&a.1, &b.1)),
            "{path}"
        );
    }
    succeed(folder.path(), &["remove", "--path", "tunes/2.wav", "--index", "i"]);
    succeed(folder.path(), &["compact", "--index", "i"]);
    let remaining: Vec<_> = before.iter().filter(|(path, _)| !path.ends_with("2.wav")).cloned().collect();
    assert_eq!(windows_of(&index), remaining);
    succeed(folder.path(), &["verify", "--index", "i"]);
}

#[test]
fn indexes_with_and_without_windows_are_not_merged_and_damage_is_found() {
    let folder = folder_with_tunes();
    with_network(folder.path(), &["add", "tunes", "--index", "i"]);
    let whole = [&["add", "tunes", "--index", "i", "--whole"][..], &NETWORK].concat();
    assert!(refuse(folder.path(), &whole).contains("stores short windows"));
    with_network(folder.path(), &["add", "tunes", "--index", "mean_of_best", "--whole"]);
    assert!(windows_of(&folder.path().join("mean_of_best")).iter().all(|(_, windows)| windows.is_empty()));
    let error = refuse(folder.path(), &["merge", "mean_of_best", "--index", "i"]);
    assert!(
        error.contains("short windows of 2 s every 1 s") && error.contains("no short windows"),
        "{error}"
    );
    // In the other direction windows are dropped, and recordings that are already present stay without windows.
    succeed(folder.path(), &["remove", "--path", "tunes/0.wav", "--index", "mean_of_best"]);
    succeed(folder.path(), &["merge", "i", "--index", "mean_of_best"]);
    with_network(folder.path(), &["add", "tunes", "--index", "mean_of_best"]);
    assert!(windows_of(&folder.path().join("mean_of_best")).iter().all(|(_, windows)| windows.is_empty()));
    for extension in [".windows", ".windows-keys"] {
        let files = std::fs::read_dir(folder.path().join("i/segments")).unwrap().flatten();
        let path =
            files.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(extension)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        let error = refuse(folder.path(), &["verify", "--index", "i"]);
        assert!(error.contains(extension) && error.contains("damaged"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let search = [&["search", "tunes/1.wav", "--index", "i"][..], &NETWORK].concat();
        assert!(refuse(folder.path(), &search).contains(extension));
        std::fs::write(&path, bytes).unwrap();
    }
    succeed(folder.path(), &["verify", "--index", "i"]);
}

/// The score of two recordings by its definition, window by window.
fn mean_of_best(a: &[(f32, Vec<f32>)], b: &[(f32, Vec<f32>)]) -> f32 {
    let side = |x: &[(f32, Vec<f32>)], y: &[(f32, Vec<f32>)]| {
        let best = |window: &Vec<f32>| {
            y.iter().map(|other| bc_retrieval::cosine(window, &other.1)).fold(f32::MIN, f32::max)
        };
        x.iter().map(|window| best(&window.1)).sum::<f32>() / x.len() as f32
    };
    0.5 * (side(a, b) + side(b, a))
}

#[test]
fn score_is_the_mean_over_best_windows_at_the_best_tempo() {
    let folder = folder_with_tunes();
    with_network(folder.path(), &["add", "tunes", "--index", "i"]);
    melody(&folder.path().join("query.wav"), &[40, 43, 46, 52, 55, 49, 61, 58, 44]);
    let network = folder.path().join("network.safetensors");
    let input = common::checkpoint(&folder.path().join("same.safetensors"), 7);
    let embedder = Embedder::open(&network, Layer::Fc, &input).unwrap();
    assert_eq!(embedder.recommended, Some(comparison()));
    let audio = AudioEmbedder::new(embedder, Limits::default()).unwrap();
    let query = folder.path().join("query.wav");
    let short = Windows::new(2.0, 1.0).unwrap();
    let features = audio.features(&query).unwrap();
    let tempi: Vec<Vec<(f32, Vec<f32>)>> = audio
        .embed_tempi(&query, &features, short, &comparison().tempi)
        .unwrap()
        .into_iter()
        .map(|excerpts| {
            excerpts.into_iter().map(|excerpt| (excerpt.start_s as f32, excerpt.vector)).collect()
        })
        .collect();
    assert!(
        tempi[1].len() > tempi[0].len() && tempi[0].len() > tempi[2].len(),
        "a slower tempo has more windows"
    );
    let windows = windows_of(&folder.path().join("i"));
    let scores: HashMap<&str, f32> = windows
        .iter()
        .map(|(path, stored)| {
            let best = tempi.iter().map(|query| mean_of_best(query, stored)).fold(f32::MIN, f32::max);
            (path.rsplit('/').next().unwrap(), best)
        })
        .collect();
    // Twice the score minus the mean score of the two nearest competitors.
    let scaled = |name: &str| {
        let own = &windows.iter().find(|(path, _)| path.ends_with(name)).unwrap().1;
        let others = windows.iter().filter(|(path, _)| !path.ends_with(name));
        let mut nearest: Vec<f32> = others.map(|(_, other)| mean_of_best(own, other)).collect();
        nearest.sort_by(|a, b| b.total_cmp(a));
        2.0 * scores[name] - 0.5 * (nearest[0] + nearest[1])
    };
    let search = [&["search", "query.wav", "--index", "i", "--json"][..], &NETWORK].concat();
    let answer = answers(folder.path(), &search).remove(0);
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 6);
    let mut before = f32::MAX;
    for hit in hits {
        let name = hit["path"].as_str().unwrap().rsplit('/').next().unwrap();
        let score = hit["score"].as_f64().unwrap() as f32;
        assert!((score - scores[name]).abs() < 0.005, "{name}: {score} and {}", scores[name]);
        assert!(scaled(name) < before + 0.01, "{name} comes after {before} with {}", scaled(name));
        before = scaled(name);
    }
    let whole = [&["search", "query.wav", "--index", "i", "--json", "--whole"][..], &NETWORK].concat();
    let whole = answers(folder.path(), &whole).remove(0);
    assert_ne!(whole["hits"][0]["score"], hits[0]["score"]);
}

const DIM: usize = 32;
const WINDOWS: usize = 6;

/// Three recordings of each work. Their windows are noisy copies of the work's sections in rotated order; the vector of the whole
/// recording is the mean of its windows, with noise.
fn recordings(works: usize) -> Vec<TestRecording> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(23);
    let mut normal = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
    let mut recordings = Vec::new();
    for work in 0..works {
        let sections: Vec<Vec<f32>> = (0..WINDOWS).map(|_| (0..DIM).map(|_| normal()).collect()).collect();
        for version in 0..3 {
            let windows: Vec<(f32, Vec<f32>)> = (0..WINDOWS)
                .map(|window| {
                    let section = &sections[(window + version) % WINDOWS];
                    (window as f32, section.iter().map(|x| x + 0.9 * normal()).collect())
                })
                .collect();
            let mean = |i: usize| windows.iter().map(|(_, window)| window[i]).sum::<f32>() / WINDOWS as f32;
            let whole = (0..DIM).map(|i| mean(i) + 0.25 * normal()).collect();
            recordings.push((work, whole, windows));
        }
    }
    recordings
}

fn label(work: usize, version: usize, split: Split) -> Label {
    Label {
        version_id: format!("{work}-{version}"),
        clique_id: work.to_string(),
        title: String::new(),
        performer: String::new(),
        split,
        duration_s: 60.0,
        start_s: 0.0,
        source_hash: String::new(),
    }
}

#[test]
fn window_probabilities_are_calibrated_and_identify_more_works() {
    let folder = tempfile::tempdir().unwrap();
    let all = recordings(240);
    let compare = WindowComparison { tempi: vec![1.0], ..comparison() };
    // Calibrated on the first half of the works, by both scores.
    let mut provenance = common::provenance();
    provenance.format = bc_calibration::FORMAT.into();
    provenance.inputs.insert("checkpoint".into(), "synthetic".into());
    let half = &all[..all.len() / 2];
    let labels: Vec<Label> = half
        .iter()
        .enumerate()
        .map(|(number, recording)| label(recording.0, number % 3, Split::Val))
        .collect();
    let labels: Vec<&Label> = labels.iter().collect();
    for (name, windows) in [("calibration.json", false), ("calibration-windows.json", true)] {
        let score = |a: &TestRecording, b: &TestRecording| {
            if windows { mean_of_best(&a.2, &b.2) } else { bc_retrieval::cosine(&a.1, &b.1) }
        };
        let scores: Vec<f32> = half.iter().flat_map(|a| half.iter().map(move |b| score(a, b))).collect();
        let mut provenance = provenance.clone();
        if windows {
            provenance.settings[COMPARE] = serde_json::json!(compare);
        }
        let val = Versions::of_scores(&labels, &scores);
        let calibration =
            Calibration::fit(Path::new("synthetic"), &val, &Versions::of_scores(&[], &[]), &provenance)
                .unwrap();
        bc_formats::atomic::write_json(&folder.path().join("i").join(name), &calibration).unwrap();
    }
    // The index holds two recordings of two thirds of the other works; the third recording of each work is used as a query.
    let index = folder.path().join("i");
    let mut empty =
        Manifest::from_provenance(serde_json::json!({}), provenance.inputs.clone(), Storage::F16, DIM);
    empty.compare = Some(compare);
    let mut adder = Adder::open(&index, empty, ConflictPolicy::KeepOld).unwrap();
    let (mut additions, mut queries) = (Vec::new(), Vec::new());
    for (number, (work, whole, windows)) in all.iter().enumerate().skip(half.len()) {
        if number % 3 == 2 {
            let excerpt = |(start_s, vector): &(f32, Vec<f32>)| bc_embed::recording::Excerpt {
                start_s: f64::from(*start_s),
                vector: vector.clone(),
            };
            queries.push(Query {
                name: work.to_string(),
                excerpts: vec![excerpt(&(0.0, whole.clone()))],
                tempi: vec![windows.iter().map(excerpt).collect()],
                content_hash: String::new(),
                own: None,
            });
        } else if work % 3 < 2 {
            let row = Row { path: format!("{work}-{number}"), work: work.to_string(), ..Row::default() };
            additions.push(Addition { row, parts: vec![(0.0, whole.clone())], windows: windows.clone() });
        }
    }
    adder.add(additions).unwrap();
    let measure = |whole: bool| {
        let mut config = Config::default();
        config.eval.output = folder.path().join("nowhere");
        if whole {
            config.eval.compare = bc_formats::config::Compare::Whole;
        }
        let options = Options { k: 5, windows: None, prior: 0.6, calibration: None, approximate: false };
        let searcher = Searcher::open(&config, &index, options).unwrap();
        let (mut predicted, mut correct, mut confident) = (0.0, 0.0, 0);
        for (query, answer) in queries.iter().zip(searcher.answer(&queries).unwrap()) {
            let probability = answer.hits[0].probability.unwrap();
            let is_correct = answer.hits[0].row.work == query.name;
            predicted += probability;
            correct += f64::from(u8::from(is_correct));
            confident += usize::from(probability >= 0.9 && is_correct);
        }
        let count = queries.len() as f64;
        println!(
            "whole {whole}: predicted {:.3}, correct {:.3}, confident {confident} of {count}",
            predicted / count,
            correct / count
        );
        (predicted / count, correct / count, confident)
    };
    let (predicted, correct, confident) = measure(false);
    assert!((predicted - correct).abs() < 0.1, "predicted {predicted}, correct {correct}");
    let (predicted_whole, correct_whole, confident_whole) = measure(true);
    assert!(
        (predicted_whole - correct_whole).abs() < 0.1,
        "predicted {predicted_whole}, correct {correct_whole}"
    );
    assert!(
        correct > correct_whole + 0.05 && confident > confident_whole,
        "{correct}, {correct_whole}, {confident}"
    );
    require_given_calibration_is_used(&index, &queries);
    require_stored_queries_take_no_probability(&index);
}

/// Checks that a recording of the index, as a query, is left out of the probabilities too: they belong to the other works. Each
/// recording is a work of its own here, so that the query's work goes with it.
fn require_stored_queries_take_no_probability(index: &Path) {
    let named = Index::open(index).unwrap();
    let path = index.with_file_name("unnamed");
    let mut empty = named.manifest.clone();
    (empty.segments, empty.generation) = (Vec::new(), 0);
    let additions = named.recordings().map(|recording| Addition {
        row: Row { work: String::new(), ..named.row(recording).unwrap() },
        parts: named.parts(recording),
        windows: named.short_windows(recording),
    });
    Adder::open(&path, empty, ConflictPolicy::KeepOld).unwrap().add(additions.collect()).unwrap();
    for name in ["calibration.json", "calibration-windows.json"] {
        std::fs::copy(index.join(name), path.join(name)).unwrap();
    }
    let mut config = Config::default();
    config.eval.output = index.join("nowhere");
    let options = Options { k: 3, windows: None, prior: 0.6, calibration: None, approximate: false };
    let searcher = Searcher::open(&config, &path, options).unwrap();
    let queries: Vec<Query> = searcher
        .index
        .recordings()
        .map(|recording| Query::from_recording(&searcher.index, recording).unwrap())
        .collect();
    let answers = searcher.answer(&queries).unwrap();
    let shown = answers.iter().map(|answer| {
        let hits = answer.hits.iter().map(|hit| hit.probability.unwrap());
        hits.sum::<f64>() + answer.probability_of_none.unwrap()
    });
    let mean = shown.sum::<f64>() / answers.len() as f64;
    println!("the best works and none have {mean:.3} of the probability");
    assert!(mean > 0.8, "the best works and none have {mean} of the probability");
}

/// Checks that a calibration given as an option takes precedence over the one of windows next to the index.
fn require_given_calibration_is_used(index: &Path, queries: &[Query]) {
    let open = |given: Option<&str>, compare| {
        let mut config = Config::default();
        config.eval.output = index.join("nowhere");
        config.eval.compare = compare;
        let calibration = given.map(|name| index.join(name));
        Searcher::open(
            &config,
            index,
            Options { k: 5, windows: None, prior: 0.6, calibration, approximate: false },
        )
    };
    use bc_formats::config::Compare;
    let probabilities = |given| {
        let answers = open(given, Config::default().eval.compare).unwrap().answer(queries).unwrap();
        answers.iter().map(|answer| answer.probability_of_none.unwrap()).collect::<Vec<f64>>()
    };
    let (default, whole) = (probabilities(None), probabilities(Some("calibration.json")));
    assert_eq!(probabilities(Some("calibration-windows.json")), default);
    assert_ne!(whole, default, "the given calibration is of whole recordings");
    let error =
        open(Some("calibration-windows.json"), Compare::Whole).err().map(|error| format!("{error:#}"));
    assert!(error.as_deref().is_some_and(|error| error.contains("whole recordings")), "{error:?}");
}
