//! The search index of an experiment: it holds all usable songs of the index, whatever their split, and is up to date.

mod common;

use std::path::Path;

use bc_audio::{Extractor, Limits};
use bc_formats::embeddings::Embeddings;
use bc_formats::features::CqtSettings;
use bc_formats::index::{Split, Status};
use common::{checkpoint, config, experiment, features, index, melody, refuse, succeed, usable};

const TUNES: [(&str, Split, [u32; 6]); 5] = [
    ("up", Split::Train, [60, 62, 64, 65, 67, 69]),
    ("down", Split::Train, [81, 79, 77, 74, 72, 71]),
    ("low", Split::Val, [40, 43, 40, 45, 40, 47]),
    ("high", Split::Test, [88, 91, 95, 88, 86, 93]),
    ("leap", Split::None, [50, 74, 51, 75, 52, 76]),
];

/// An experiment with features of real audio, as `bc-features` makes them.
fn tunes(folder: &Path) {
    let extractor = Extractor::new(CqtSettings::default(), Limits::default());
    let extract = |name: &str, notes: &[u32]| {
        let path = melody(&folder.join(format!("{name}.wav")), notes);
        extractor.file(&path).unwrap().magnitude
    };
    let rows: Vec<_> = TUNES.iter().map(|(name, _, notes)| (*name, extract(name, notes))).collect();
    features(folder, &rows);
    index(folder, TUNES.iter().map(|(name, split, _)| usable(name, name, *split)).collect());
    checkpoint(&folder.join("network.safetensors"), 7);
    config(folder);
}

/// Updates the search index that is the default of a search; returns its path.
fn update_search_index(folder: &Path) -> std::path::PathBuf {
    let path = |name: &str| folder.join(name).display().to_string();
    let overrides = [
        format!("features.index={}", path("index.parquet")),
        format!("features.output={}", path("features")),
        format!("eval.checkpoint={}", path("network.safetensors")),
        format!("eval.output={}", path("eval")),
    ];
    let config = bc_formats::config::load(Some(&folder.join("c.toml")), &overrides).unwrap();
    bc_eval::embed::search_index(&config).unwrap()
}

#[test]
fn search_index_holds_songs_of_all_splits() {
    let folder = tempfile::tempdir().unwrap();
    tunes(folder.path());
    succeed(folder.path(), &["embed", "--config", "c.toml"]);
    assert_eq!(update_search_index(folder.path()), folder.path().join("eval/search.parquet"));
    // The measured embeddings stay unchanged, and the searched ones agree with them.
    let read = |name: &str| Embeddings::read(&folder.path().join("eval").join(name)).unwrap();
    let (measured, searched) = (read("embeddings.parquet"), read("search.parquet"));
    assert_eq!((measured.labels.len(), searched.labels.len()), (2, 5));
    assert_eq!(searched.vectors[2 * searched.dim..4 * searched.dim], measured.vectors[..]);
    assert!(!folder.path().join("eval/search.partial").exists());
}

#[test]
fn changed_inputs_are_embedded_again_before_a_search() {
    let folder = tempfile::tempdir().unwrap();
    tunes(folder.path());
    let count = || Embeddings::read(&update_search_index(folder.path())).unwrap().labels.len();
    assert_eq!(count(), 5);
    // A duplicate is found by verify, and a song is gone.
    let mut versions: Vec<_> = TUNES.iter().map(|(name, split, _)| usable(name, name, *split)).collect();
    versions[1].status = Status::Duplicate;
    versions[2].audio_path = None;
    index(folder.path(), versions);
    assert_eq!(count(), 3);
    // Another network.
    checkpoint(&folder.path().join("network.safetensors"), 8);
    let before = Embeddings::read(&folder.path().join("eval/search.parquet")).unwrap();
    assert_eq!(count(), 3);
    let after = Embeddings::read(&folder.path().join("eval/search.parquet")).unwrap();
    assert!(before.labels == after.labels && before.vectors != after.vectors);
}

#[test]
fn versions_that_are_not_usable_are_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 6);
    succeed(folder.path(), &["embed", "--config", "c.toml"]);
    let ids = || -> Vec<String> {
        let read = Embeddings::read(&folder.path().join("eval/embeddings.parquet")).unwrap();
        read.labels.into_iter().map(|label| label.version_id).collect()
    };
    assert_eq!(ids().len(), 12);
    let mut read = bc_formats::index::Index::read(&folder.path().join("index.parquet")).unwrap();
    for version in &mut read.versions {
        match version.version_id.as_str() {
            "v004" => version.status = Status::Duplicate,
            "v007" => version.status = Status::Corrupt,
            _ => {}
        }
    }
    index(folder.path(), read.versions);
    // The figures of these embeddings would be out of date: the error names both values and the remedy.
    for command in ["metrics", "calibrate", "report"] {
        let error = refuse(folder.path(), &[command, "--config", "c.toml"]);
        assert!(
            error.contains("made from the index") && error.contains("bc-eval embed"),
            "{command}: {error}"
        );
    }
    succeed(folder.path(), &["embed", "--config", "c.toml"]);
    let ids = ids();
    assert_eq!(ids.len(), 10);
    assert!(!ids.iter().any(|id| id == "v004" || id == "v007"), "{ids:?}");
    succeed(folder.path(), &["metrics", "--config", "c.toml"]);
}

#[test]
fn a_vector_that_is_not_finite_is_refused_with_its_version() {
    let folder = tempfile::tempdir().unwrap();
    experiment(folder.path(), 3);
    let infinite = vec![half::f16::INFINITY; 84 * 60];
    let set = ["v003", "v004", "v005", "v006", "v007", "v008"];
    let rows: Vec<_> = set.iter().map(|id| (*id, infinite.clone())).collect();
    features(folder.path(), &rows[..1]);
    let error = refuse(folder.path(), &["embed", "--config", "c.toml"]);
    assert!(error.contains("version v003") && error.contains("extract them again"), "{error}");
    assert!(!folder.path().join("eval/embeddings.parquet").exists());
}
