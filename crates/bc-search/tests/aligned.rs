//! Where an answer's best versions run beside the query.

mod common;

use bc_audio::{Extractor, Limits};
use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::features::{CqtSettings, FeatureRow, PartWriter, Source};
use bc_formats::fingerprint;
use bc_formats::index::Split;
use bc_search::index::Index;
use common::songs::{Performance, indexed, song};
use common::{NETWORK, answers, run, succeed, with_network};
use serde_json::Value;

/// The song `one` from its 11th second on is 3 semitones higher and 1.1 times as fast in the query.
fn query() -> Performance {
    Performance { tempo: 1.1, key: 3, beats: (22, 96), brightness: 0.3 }
}

/// A folder with a network, an index of three songs, and the query.
fn workplace() -> tempfile::TempDir {
    let folder = indexed();
    song(&folder.path().join("query.wav"), 1, query());
    folder
}

/// The alignment with the recording of a name in an answer.
fn with(answer: &Value, name: &str) -> Value {
    let hits = answer["hits"].as_array().unwrap();
    let ends = |hit: &&Value| hit["path"].as_str().unwrap().ends_with(name);
    hits.iter().find(ends).unwrap_or_else(|| panic!("no {name}: {answer}"))["alignment"].clone()
}

/// The first recording is the query, the second the song `one`: 3 semitones lower, slower, from 11 s on.
fn expect_right(alignment: &Value) {
    assert_eq!(alignment["key_shift"], -3, "{alignment}");
    let tempo = alignment["tempo_ratio"].as_f64().unwrap();
    assert!((tempo * 1.1 - 1.0).abs() < 0.03, "{alignment}");
    let sections = alignment["sections"].as_array().unwrap();
    let seconds = |section: &Value, name: &str| section[name].as_f64().unwrap();
    let off = |section: &Value| seconds(section, "start_b") - (11.0 + 1.1 * seconds(section, "start_a"));
    assert!(!sections.is_empty() && sections.iter().all(|section| off(section).abs() < 2.0), "{alignment}");
    let matched: f64 =
        sections.iter().map(|section| seconds(section, "end_a") - seconds(section, "start_a")).sum();
    assert!(matched > 25.0, "of 33.6 s: {alignment}");
}

#[test]
fn a_hit_says_key_tempo_and_sections_or_why_not() {
    let folder = workplace();
    let search = ["search", "query.wav", "--index", "index", "--align=3", "--json"];
    let line = with_network(folder.path(), &search);
    let answer: Value = serde_json::from_str(&line).unwrap();
    expect_right(&with(&answer, "one.wav"));
    // Only those asked for, and nothing where nobody asked.
    let first =
        with_network(folder.path(), &["search", "query.wav", "--index", "index", "--align=1", "--json"]);
    let first: Value = serde_json::from_str(&first).unwrap();
    assert!(
        first["hits"][0]["alignment"].is_object() && first["hits"][1].get("alignment").is_none(),
        "{first}"
    );
    let plain = with_network(folder.path(), &["search", "query.wav", "--index", "index", "--json"]);
    assert!(!plain.contains("alignment"), "{plain}");
    // A table for people, and columns.
    let table = with_network(folder.path(), &["search", "query.wav", "--index", "index", "--align"]);
    assert!(table.contains("3 semitones lower, 0.91 times as fast") || table.contains("0.9"), "{table}");
    assert!(table.contains("goes with"), "{table}");
    let text = with_network(
        folder.path(),
        &["search", "query.wav", "--index", "index", "--align=3", "--format", "csv"],
    );
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let head = table.headers().unwrap().clone();
    let column = |name: &str| head.iter().position(|of| of == name).unwrap();
    let row =
        table.records().map(Result::unwrap).find(|row| row[column("path")].ends_with("one.wav")).unwrap();
    assert_eq!(&row[column("key_shift")], "-3");
    assert!(row[column("sections")].contains(" = "), "{row:?}");
    // A recording of the index is a query too.
    let stored = folder.path().join("songs/two.wav").canonicalize().unwrap();
    let stored = stored.to_string_lossy();
    let line = with_network(folder.path(), &["search", &stored, "--index", "index", "--align=3", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(with(&answer, "two.wav")["key_shift"], 0, "{answer}");

    // Audio that is gone, or is other audio now: the answer stays, and says so.
    std::fs::remove_file(folder.path().join("songs/one.wav")).unwrap();
    song(&folder.path().join("songs/two.wav"), 9, Performance::default());
    let answer: Value = serde_json::from_str(&with_network(folder.path(), &search)).unwrap();
    let reason = |name: &str| with(&answer, name)["unavailable"].as_str().unwrap().to_owned();
    assert!(reason("one.wav").contains("not there any more"), "{answer}");
    assert!(reason("two.wav").contains("other audio"), "{answer}");
    assert!(with(&answer, "three.wav")["sections"].is_array(), "{answer}");
}

#[test]
fn two_files_that_are_compared_are_aligned_too() {
    let folder = workplace();
    let compare = ["compare", "query.wav", "songs/one.wav", "--align"];
    let found: Value =
        serde_json::from_str(&with_network(folder.path(), &[&compare[..], &["--json"]].concat())).unwrap();
    expect_right(&found["alignment"]);
    let text = with_network(folder.path(), &compare);
    assert!(text.contains("the second: 3 semitones lower"), "{text}");
    // Too short to be aligned is no failure of the comparison.
    common::melody(&folder.path().join("short.wav"), &[60, 62, 64]);
    let short = ["compare", "short.wav", "songs/one.wav", "--align", "--json"];
    let found: Value = serde_json::from_str(&with_network(folder.path(), &short)).unwrap();
    assert!(found["alignment"]["unavailable"].as_str().unwrap().contains("too short"), "{found}");
}

#[test]
fn imported_recordings_are_aligned_by_their_stored_features() {
    let folder = workplace();
    let path = folder.path();
    let made = Index::open(&path.join("index")).unwrap();
    let wav = path.join("songs/one.wav");
    let recording = made.of_path(&wav.canonicalize().unwrap().to_string_lossy()).unwrap().unwrap();
    let label = Label {
        version_id: "v1".into(),
        clique_id: "c1".into(),
        title: "One".into(),
        performer: String::new(),
        split: Split::None,
        duration_s: 48.0,
        start_s: 0.0,
        source_hash: fingerprint::of_file(&wav).unwrap(),
    };
    let mut provenance = made.manifest.provenance.clone();
    provenance.format = FORMAT.into();
    let (vectors, dim) = (made.parts(recording)[0].1.clone(), made.dim());
    Embeddings { labels: vec![label.clone()], dim, vectors, provenance }
        .write(&path.join("e.parquet"))
        .unwrap();
    succeed(path, &["import", "e.parquet", "--index", "imported"]);
    std::fs::write(path.join("c.toml"), "[features]\noutput = \"features\"\n").unwrap();
    let search = ["search", "query.wav", "--index", "imported", "--align", "--json", "--config", "c.toml"];
    let search = [&search[..], &NETWORK].concat();
    let gone = &answers(path, &search)[0];
    assert!(with(gone, "v1")["unavailable"].as_str().unwrap().contains("not there any more"), "{gone}");

    let settings = CqtSettings::default();
    let features = Extractor::new(settings, Limits::default()).file(&wav).unwrap();
    let write = |source_hash: &str| {
        let mut part = PartWriter::create(&path.join("features/part-0.parquet"), settings).unwrap();
        part.push(FeatureRow {
            version_id: "v1".into(),
            frames: features.frames as u32,
            source_hash: source_hash.into(),
            source: Source::default(),
            error_share: None,
            magnitude: features.magnitude.clone(),
        })
        .unwrap();
        part.commit(common::provenance()).unwrap();
    };
    write(&label.source_hash);
    expect_right(&with(&answers(path, &search)[0], "v1"));
    write("another");
    let other = run(path, &search);
    let other = String::from_utf8_lossy(&other.stdout).into_owned();
    assert!(other.contains("of other audio"), "{other}");
}
