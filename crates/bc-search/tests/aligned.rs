//! Tests of the alignment of hits with the query.

mod common;

use bc_audio::{Extractor, Limits};
use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::features::{CqtSettings, FeatureRow, PartWriter, Source};
use bc_formats::fingerprint;
use bc_formats::index::Split;
use bc_search::index::Index;
use common::songs::{Performance, indexed_songs, song};
use common::{NETWORK, answers, run, succeed, with_network};
use serde_json::Value;

/// How the query plays the song `one`: from its 11th second on, 3 semitones higher and 1.1 times as fast.
fn query_performance() -> Performance {
    Performance { tempo: 1.1, key: 3, beats: (22, 96), brightness: 0.3 }
}

/// A folder with a network, an index of three songs, and the query.
fn folder_with_query() -> tempfile::TempDir {
    let folder = indexed_songs();
    song(&folder.path().join("query.wav"), 1, query_performance());
    folder
}

/// The alignment of the query with the recording of this name in an answer.
fn alignment_with(answer: &Value, name: &str) -> Value {
    let hits = answer["hits"].as_array().unwrap();
    let is_named = |hit: &&Value| hit["path"].as_str().unwrap().ends_with(name);
    hits.iter().find(is_named).unwrap_or_else(|| panic!("no {name}: {answer}"))["alignment"].clone()
}

/// Checks an alignment of the query with the song `one`, which is 3 semitones lower and slower, and matches from 11 s on.
fn require_correct(alignment: &Value) {
    assert_eq!(alignment["key_shift"], -3, "{alignment}");
    let tempo = alignment["tempo_ratio"].as_f64().unwrap();
    assert!((tempo * 1.1 - 1.0).abs() < 0.03, "{alignment}");
    let sections = alignment["sections"].as_array().unwrap();
    let seconds = |section: &Value, name: &str| section[name].as_f64().unwrap();
    let deviation =
        |section: &Value| seconds(section, "start_b") - (11.0 + 1.1 * seconds(section, "start_a"));
    assert!(
        !sections.is_empty() && sections.iter().all(|section| deviation(section).abs() < 2.0),
        "{alignment}"
    );
    let matched: f64 =
        sections.iter().map(|section| seconds(section, "end_a") - seconds(section, "start_a")).sum();
    assert!(matched > 25.0, "of 33.6 s: {alignment}");
}

#[test]
fn hits_have_an_alignment_or_the_reason_why_not() {
    let folder = folder_with_query();
    let search = ["search", "query.wav", "--index", "index", "--align=3", "--json"];
    let line = with_network(folder.path(), &search);
    let answer: Value = serde_json::from_str(&line).unwrap();
    require_correct(&alignment_with(&answer, "one.wav"));
    // Only as many alignments as requested, and none without --align.
    let first =
        with_network(folder.path(), &["search", "query.wav", "--index", "index", "--align=1", "--json"]);
    let first: Value = serde_json::from_str(&first).unwrap();
    assert!(
        first["hits"][0]["alignment"].is_object() && first["hits"][1].get("alignment").is_none(),
        "{first}"
    );
    let not_aligned = with_network(folder.path(), &["search", "query.wav", "--index", "index", "--json"]);
    assert!(!not_aligned.contains("alignment"), "{not_aligned}");
    // Alignments are also in the table and in the columns of a CSV file.
    let table = with_network(folder.path(), &["search", "query.wav", "--index", "index", "--align"]);
    assert!(table.contains("3 semitones lower, 0.91 times as fast") || table.contains("0.9"), "{table}");
    assert!(table.contains("matches"), "{table}");
    let text = with_network(
        folder.path(),
        &["search", "query.wav", "--index", "index", "--align=3", "--format", "csv"],
    );
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let headers = table.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let row =
        table.records().map(Result::unwrap).find(|row| row[column("path")].ends_with("one.wav")).unwrap();
    assert_eq!(&row[column("key_shift")], "-3");
    assert!(row[column("sections")].contains(" = "), "{row:?}");
    // A recording of the index as the query.
    let stored = folder.path().join("songs/two.wav").canonicalize().unwrap();
    let stored = stored.to_string_lossy();
    let line = with_network(folder.path(), &["search", &stored, "--index", "index", "--align=3", "--json"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(alignment_with(&answer, "two.wav")["key_shift"], 0, "{answer}");

    // If audio was deleted or replaced, the hit is still reported, with the reason why it is not aligned.
    std::fs::remove_file(folder.path().join("songs/one.wav")).unwrap();
    song(&folder.path().join("songs/two.wav"), 9, Performance::default());
    let answer: Value = serde_json::from_str(&with_network(folder.path(), &search)).unwrap();
    let reason = |name: &str| alignment_with(&answer, name)["unavailable"].as_str().unwrap().to_owned();
    assert!(reason("one.wav").contains("no longer exists"), "{answer}");
    assert!(reason("two.wav").contains("other audio"), "{answer}");
    assert!(alignment_with(&answer, "three.wav")["sections"].is_array(), "{answer}");
}

#[test]
fn compared_files_are_aligned() {
    let folder = folder_with_query();
    let compare = ["compare", "query.wav", "songs/one.wav", "--align"];
    let found: Value =
        serde_json::from_str(&with_network(folder.path(), &[&compare[..], &["--json"]].concat())).unwrap();
    require_correct(&found["alignment"]);
    let text = with_network(folder.path(), &compare);
    assert!(text.contains("the second: 3 semitones lower"), "{text}");
    // Recordings that are too short to be aligned are still compared.
    common::melody(&folder.path().join("short.wav"), &[60, 62, 64]);
    let short = ["compare", "short.wav", "songs/one.wav", "--align", "--json"];
    let found: Value = serde_json::from_str(&with_network(folder.path(), &short)).unwrap();
    assert!(found["alignment"]["unavailable"].as_str().unwrap().contains("too short"), "{found}");
}

#[test]
fn imported_recordings_are_aligned_by_their_stored_features() {
    let folder = folder_with_query();
    let path = folder.path();
    let index = Index::open(&path.join("index")).unwrap();
    let wav = path.join("songs/one.wav");
    let recording = index.of_path(&wav.canonicalize().unwrap().to_string_lossy()).unwrap().unwrap();
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
    let mut provenance = index.manifest.provenance.clone();
    provenance.format = FORMAT.into();
    let (vectors, dim) = (index.parts(recording)[0].1.clone(), index.dim());
    Embeddings { labels: vec![label.clone()], dim, vectors, provenance }
        .write(&path.join("e.parquet"))
        .unwrap();
    succeed(path, &["import", "e.parquet", "--index", "imported"]);
    std::fs::write(path.join("c.toml"), "[features]\noutput = \"features\"\n").unwrap();
    let search = ["search", "query.wav", "--index", "imported", "--align", "--json", "--config", "c.toml"];
    let search = [&search[..], &NETWORK].concat();
    let answer = &answers(path, &search)[0];
    assert!(
        alignment_with(answer, "v1")["unavailable"].as_str().unwrap().contains("no longer exists"),
        "{answer}"
    );

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
    require_correct(&alignment_with(&answers(path, &search)[0], "v1"));
    write("another");
    let output = run(path, &search);
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("of other audio"), "{output}");
}
