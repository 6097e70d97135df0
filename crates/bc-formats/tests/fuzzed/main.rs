//! Replays the fuzzer's corpus and findings (`fuzz/README.md`) with the assertions of its targets.

mod checks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bc_formats::array;
use bc_formats::config::Config;
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::features::{CqtSettings, FeatureRow, PartWriter, Source, failures};
use bc_formats::index::{Index, Split, Status, Version};
use bc_formats::provenance::Provenance;
use bc_testing::fuzzed::{replay, write_seed};
use half::f16;

/// Counts what the parsers take.
#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

#[test]
fn index() {
    replay("index", checks::index);
}

#[test]
fn features() {
    replay("features", checks::features);
}

#[test]
fn failures() {
    replay("failures", checks::failures);
}

#[test]
fn embeddings() {
    replay("embeddings", checks::embeddings);
}

#[test]
fn npy() {
    replay("npy", checks::npy);
}

#[test]
fn config() {
    replay("config", checks::config);
}

fn provenance(settings: serde_json::Value) -> Provenance {
    Provenance {
        format: String::new(),
        tool: "bc-test 0.0.0".into(),
        settings,
        fingerprint: String::new(),
        inputs: BTreeMap::from([("index".into(), "0123".into())]),
    }
}

/// What `write` writes at the path that it is given.
fn written(write: impl FnOnce(&Path) -> anyhow::Result<()>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part-00000.parquet");
    write(&path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
#[ignore = "rewrites fuzz/corpus"]
fn write_corpus() {
    let source = Source { bytes: Some(9), modified_ns: Some(8) };
    for (name, settings) in
        [("paths", serde_json::json!({})), ("root", serde_json::json!({ "audio_root": "audio" }))]
    {
        let mut one = Version::new("a", "c");
        one.status = Status::Ok;
        one.audio_path = Some("audio/a.mp3".into());
        one.duration_s = Some(31.5);
        let versions = vec![one, Version { split: Split::Test, ..Version::new("b", "c") }];
        let mut index = Index { versions, provenance: provenance(settings) };
        write_seed("index", name, &written(|path| index.write(path)));
    }
    let settings = CqtSettings { bins: 3, bins_per_octave: 3, ..CqtSettings::default() };
    let row = |id: &str| FeatureRow {
        version_id: id.into(),
        frames: 2,
        source_hash: "0123".into(),
        source,
        error_share: Some(0.0),
        magnitude: (0..6).map(|n| f16::from_f32(n as f32)).collect(),
    };
    let part = written(|path| {
        let mut part = PartWriter::create(path, settings)?.made_by("bc-audio 0.0.0");
        part.push(row("a"))?;
        part.push(row("b"))?;
        part.commit(provenance(serde_json::Value::Null))
    });
    write_seed("features", "two", &part);
    let failure = failures::Failure {
        version_id: "a".into(),
        audio_path: "a.mp3".into(),
        reason: "silent".into(),
        may_pass: false,
        source_hash: None,
        source,
        settings: None,
    };
    let table = written(|path| {
        let path_next_to = PathBuf::from(path);
        failures::write_as(path, &[failure], provenance(serde_json::json!({})), |_| path_next_to)
    });
    write_seed("failures", "one", &table);
    let label = |id: &str| Label {
        version_id: id.into(),
        clique_id: "c".into(),
        title: "t".into(),
        performer: "p".into(),
        split: Split::Val,
        duration_s: 31.5,
        start_s: 0.0,
        source_hash: "0123".into(),
    };
    let embeddings = Embeddings {
        labels: vec![label("a"), label("b")],
        dim: 2,
        vectors: vec![0.6, 0.8, 1.0, 0.0],
        provenance: provenance(serde_json::json!({ "splits": ["val"] })),
    };
    write_seed("embeddings", "two", &written(|path| embeddings.write(path)));
    let matrix = array::Matrix { columns: 2, values: vec![1.0, 2.0, 3.0, 4.0] };
    write_seed("npy", "matrix", &written(|path| array::write(path, &matrix)));
    let header = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 1), }          \n";
    write_seed("npy", "cube", &[&header[..], &[0; 8]].concat());
    write_seed("config", "all", Config::default().to_commented_toml().as_bytes());
    let some =
        "[features]\nhop_length = 512 # samples\nfmin_hz = 32.7\n[train]\nrun = 'runs/a'\nshapes = [1, 2]\n";
    write_seed("config", "some", some.as_bytes());
}
