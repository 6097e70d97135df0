//! Training on an index and feature files as the earlier stages write them.

mod support;

use std::path::Path;

use bc_formats::features::{CqtSettings, FeatureRow, PartWriter, Source};
use bc_formats::index::{Index, Split, Status, Version};
use bc_formats::provenance::Provenance;
use half::f16;
use support::{output, train};

const FRAMES: u32 = 200;

fn provenance() -> Provenance {
    Provenance {
        format: String::new(),
        tool: "test".into(),
        settings: serde_json::Value::Null,
        fingerprint: String::new(),
        inputs: Default::default(),
    }
}

fn version(id: &str, clique: &str, split: Split) -> Version {
    let mut version = Version::new(id, clique);
    version.split = split;
    version.status = Status::Ok;
    version.audio_path = Some(format!("{id}.wav"));
    version
}

/// Six training cliques of `per_clique` versions and two validation cliques of two.
fn versions(per_clique: usize) -> Vec<Version> {
    let of = |split: Split, cliques: usize, per_clique: usize| {
        (0..cliques).flat_map(move |c| {
            (0..per_clique).map(move |v| version(&format!("{split}-{c}-{v}"), &format!("{split}-{c}"), split))
        })
    };
    of(Split::Train, 6, per_clique).chain(of(Split::Val, 2, 2)).collect()
}

fn write(folder: &Path, versions: Vec<Version>, cqt: CqtSettings, broken: Option<&str>) {
    let mut part = PartWriter::create(&folder.join("features/part-0.parquet"), cqt).unwrap();
    for (n, version) in versions.iter().enumerate() {
        let mut magnitude: Vec<f16> =
            (0..cqt.bins * FRAMES).map(|i| f16::from_f32(((i as usize * (n + 3)) % 17) as f32)).collect();
        if broken == Some(version.version_id.as_str()) {
            magnitude.fill(f16::INFINITY);
        }
        let row = FeatureRow {
            version_id: version.version_id.clone(),
            frames: FRAMES,
            source_hash: n.to_string(),
            source: Source::default(),
            magnitude,
        };
        part.push(row).unwrap();
    }
    part.commit(provenance()).unwrap();
    Index { versions, provenance: provenance() }.write(&folder.join("index.parquet")).unwrap();
}

/// Trains two steps in `folder`; whether it worked and what it said.
fn trained(folder: &Path, overrides: &[&str]) -> (bool, String) {
    let index = format!("features.index={}", folder.join("index.parquet").display());
    let features = format!("features.output={}", folder.join("features").display());
    let run = folder.join("run");
    let fixed = ["train.debug=false", "train.max_steps=4", index.as_str(), features.as_str()];
    output(train(&run, &[&fixed, overrides].concat(), &[]))
}

#[test]
fn index_and_features_become_a_run() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(3), CqtSettings::default(), None);
    let (ok, text) = trained(folder.path(), &["train.map_features=true"]);
    assert!(ok && text.contains("validation mAP"), "{text}");
    let mapped = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    std::fs::remove_dir_all(folder.path().join("run")).unwrap();
    let (ok, text) = trained(folder.path(), &[]);
    assert!(ok, "{text}");
    let in_memory = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let loss = |text: &str| {
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["loss"].clone()
    };
    assert_eq!(loss(&mapped), loss(&in_memory));
}

#[test]
fn a_checkpoint_says_what_its_input_is() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(3), CqtSettings::default(), None);
    let (ok, text) = trained(folder.path(), &["model.scale=max", "model.pool=10"]);
    assert!(ok, "{text}");
    let bytes = std::fs::read(folder.path().join("run/best.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let keys = header.metadata().as_ref().unwrap();
    let input = bc_formats::run::NetworkInput::from_key_value(&keys[bc_formats::run::INPUT_KEY]).unwrap();
    assert_eq!((input.pool, input.scale), (10, bc_formats::run::Scale::Max));
    assert_eq!(input.cqt, CqtSettings::default());
    let path = Path::new("best.safetensors");
    let provenance = Provenance::from_key_values(path, |key| keys.get(key).map(String::as_str)).unwrap();
    provenance.expect_format(path, bc_formats::run::CHECKPOINT_FORMAT).unwrap();
    assert!(provenance.inputs.contains_key("features"));
}

#[test]
fn features_of_another_cqt_are_refused_with_both_values() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(3), CqtSettings { hop_length: 256, ..CqtSettings::default() }, None);
    let (ok, text) = trained(folder.path(), &[]);
    assert!(!ok && text.contains("hop_length: 256 against 512"), "{text}");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn an_index_without_a_training_clique_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let only_validation = versions(3).into_iter().filter(|v| v.split == Split::Val).collect();
    write(folder.path(), only_validation, CqtSettings::default(), None);
    let (ok, text) = trained(folder.path(), &[]);
    assert!(!ok && text.contains("no training clique"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(1), CqtSettings::default(), None);
    let (ok, text) = trained(folder.path(), &[]);
    assert!(!ok && text.contains("no clique with two versions") && text.contains("index.parquet"), "{text}");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_loss_that_is_not_finite_names_the_versions_and_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(3), CqtSettings::default(), Some("train-4-1"));
    let overrides = &["train.max_steps=50", "train.checkpoint_every_steps=1", "train.epochs=50"];
    let (ok, text) = trained(folder.path(), overrides);
    assert!(!ok && text.contains("error:") && text.contains("train-4-1"), "{text}");
    assert!(text.contains("checkpoint"), "{text}");
}
