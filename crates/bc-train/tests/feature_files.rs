//! Training on an index and feature files as the earlier stages write them.

mod support;

use std::path::Path;

use bc_formats::features::CqtSettings;
use bc_formats::index::{Split, Version};
use bc_formats::provenance::Provenance;
use support::data::{version, versions, write};
use support::{lines, output, train};

/// Trains four steps in `folder`. Returns whether it succeeded, and its output.
fn trained(folder: &Path, overrides: &[&str]) -> (bool, String) {
    let index = format!("features.index={}", folder.join("index.parquet").display());
    let features = format!("features.output={}", folder.join("features").display());
    let run = folder.join("run");
    let fixed = ["train.debug=false", "train.max_steps=4", index.as_str(), features.as_str()];
    output(train(&run, &[&fixed, overrides].concat(), &[]))
}

#[test]
fn mapped_and_loaded_features_train_alike() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(3), CqtSettings::default(), None);
    let (ok, text) = trained(folder.path(), &["train.map_features=true"]);
    assert!(ok && text.contains("validation mAP"), "{text}");
    let loss = || {
        let lines = lines(&folder.path().join("run"));
        lines.iter().find(|line| line["kind"] == "step").unwrap()["loss"].clone()
    };
    let mapped = loss();
    // A file of the right size that holds something else is made again, with a run that begins anew and with one that goes on.
    let run = folder.path().join("run");
    let mut files = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|end| end == "f16")).unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![0; whole.len()]).unwrap();
    for name in ["checkpoints", "metrics.jsonl"] {
        let path = run.join(name);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
    let leftover = run.join(".features-0123-4567.f16.Ab3dEf.tmp");
    std::fs::write(&leftover, "half").unwrap();
    let (ok, text) = trained(folder.path(), &["train.map_features=true"]);
    assert!(ok && text.contains("is damaged and is made again"), "{text}");
    assert_eq!(mapped, loss());
    assert!(std::fs::read(&file).unwrap() == whole && !leftover.exists());
    let (ok, text) = trained(folder.path(), &["train.map_features=true", "train.max_steps=5"]);
    assert!(ok && text.contains("resuming") && !text.contains("damaged"), "{text}");
    std::fs::remove_dir_all(folder.path().join("run")).unwrap();
    let (ok, text) = trained(folder.path(), &[]);
    assert!(ok, "{text}");
    assert_eq!(mapped, loss());
}

#[test]
fn checkpoint_records_its_input() {
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
    provenance.require_format(path, bc_formats::run::CHECKPOINT_FORMAT).unwrap();
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
fn index_without_a_training_clique_is_refused() {
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
fn error_for_non_finite_loss_names_versions_and_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(3), CqtSettings::default(), None);
    let (ok, text) = trained(folder.path(), &["train.epochs=50"]);
    assert!(ok, "{text}");
    let checkpoint = support::last_checkpoint(&folder.path().join("run"));
    support::fill_with_nan(&checkpoint.join("network.safetensors"), "fc.weight");
    let (ok, text) = trained(folder.path(), &["train.epochs=50", "train.max_steps=50"]);
    assert!(!ok && text.contains("error:") && text.contains("the loss is NaN at step 5"), "{text}");
    assert!(text.contains("train-") && text.contains("the last good checkpoint is"), "{text}");
}

/// The maximum over octaves passes over NaN: the network would learn with finite losses.
#[test]
fn training_versions_that_are_not_finite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(3), CqtSettings::default(), Some("train-4-1"));
    let ring = ["model.kind=ring", "model.scale=log-centred", "model.projection=8"];
    let ring = [&ring[..], &["train.loss=supervised-contrastive"]].concat();
    for overrides in [&[][..], &ring, &["train.map_features=true"], &["train.map_features=true"]] {
        let (ok, text) = trained(folder.path(), overrides);
        for part in ["1 training versions", "not finite (train-4-1)", "extract them again", "split `train`"] {
            assert!(!ok && text.contains(part), "{part} is not in: {text}");
        }
        assert!(!folder.path().join("run/metrics.jsonl").exists());
    }
}

#[test]
fn features_of_other_audio_than_in_the_index_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut versions = versions(3);
    for (n, version) in versions.iter_mut().enumerate() {
        version.content_hash = Some(n.to_string());
    }
    write(folder.path(), versions.clone(), CqtSettings::default(), None);
    let (ok, text) = trained(folder.path(), &["train.max_steps=1"]);
    assert!(ok, "{text}");
    // The file was replaced and verified since the features were made.
    versions[4].content_hash = Some("another".into());
    support::data::write_index(folder.path(), versions);
    let (ok, text) = trained(folder.path(), &["train.max_steps=1"]);
    assert!(!ok, "{text}");
    for part in ["train-1-1", "other audio", "bc-features extract"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn broken_validation_version_is_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut versions = versions(3);
    versions.push(version("val-0-2", "val-0", Split::Val));
    write(folder.path(), versions, CqtSettings::default(), Some("val-0-2"));
    let (ok, text) = trained(folder.path(), &[]);
    assert!(ok && text.contains("val-0-2") && text.contains("left out of validation"), "{text}");
    let lines = lines(&folder.path().join("run"));
    let validation = lines.iter().find(|line| line["kind"] == "validation").unwrap();
    assert!(validation["map"].is_number(), "{validation}");
}

#[test]
fn single_validation_clique_gives_network_and_resumable_record() {
    let folder = tempfile::tempdir().unwrap();
    let remaining: Vec<Version> = versions(3).into_iter().filter(|v| v.clique_id != "val-1").collect();
    write(folder.path(), remaining, CqtSettings::default(), None);
    let loss = ["train.figure=loss", "train.early_stopping=1", "train.epochs=3", "train.max_steps=0"];
    let (ok, text) = trained(folder.path(), &loss);
    assert!(ok && text.contains("has a single clique") && !text.contains("NaN"), "{text}");
    let run = folder.path().join("run");
    assert!(run.join("best.safetensors").is_file());
    let before = support::metrics(&run);
    let (ok, text) = trained(folder.path(), &[&loss[..2], &["train.epochs=4", "train.max_steps=0"]].concat());
    assert!(ok, "{text}");
    assert_eq!(support::metrics(&run)[..before.len()], before);
}

#[test]
fn validation_without_a_figure_warns_and_training_continues() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), versions(3), CqtSettings::default(), None);
    let (ok, text) = trained(folder.path(), &["train.max_steps=1"]);
    assert!(ok, "{text}");
    let (run, init) = (folder.path().join("run"), folder.path().join("broken.safetensors"));
    std::fs::rename(run.join("best.safetensors"), &init).unwrap();
    std::fs::remove_dir_all(&run).unwrap();
    // The running mean of the neck, which evaluation uses and training does not.
    support::fill_with_nan(&init, "bn_fc.running_mean");
    let init = format!("train.init={}", init.display());
    let (ok, text) =
        trained(folder.path(), &[&init, "train.validate_at_start=true", "train.early_stopping=2"]);
    for part in ["are not finite", "val-0-0", "no validation gave a figure"] {
        assert!(ok && text.contains(part), "{part} is not in: {text}");
    }
    let lines = lines(&run);
    let validations: Vec<_> = lines.iter().filter(|line| line["kind"] == "validation").collect();
    assert_eq!(validations[0]["step"], 0);
    assert!(validations.iter().all(|line| line["map"].is_null() && line["best"] == false), "{validations:?}");
    assert!(run.join("best.safetensors").is_file());
}
