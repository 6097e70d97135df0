//! Initial networks (`[train] init`): which are accepted, and which of their weights are used.

mod support;

use std::path::{Path, PathBuf};

use support::{output, tensors, train, train_to_end};

/// A network of two steps on the random features of a seed, whose clique ids are the same for every seed.
fn first(folder: &Path, overrides: &[&str]) -> PathBuf {
    let run = folder.join("first");
    train_to_end(&run, &[&["train.max_steps=2"], overrides].concat());
    run.join("best.safetensors")
}

fn classifier(path: &Path) -> Vec<u8> {
    tensors(path).into_iter().find(|(name, ..)| name == "fc.weight").unwrap().2
}

/// Begins with `init` and a learning rate of 0, so that the classifier keeps its initial weights.
fn begin_with(run: &Path, init: &Path, overrides: &[&str]) -> (bool, String) {
    let init = format!("train.init={}", init.display());
    let still = ["train.max_steps=1", "train.learning_rate=0"];
    output(train(run, &[&[init.as_str()], &still[..], overrides].concat(), &[]))
}

#[test]
fn network_of_other_input_is_refused_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let init = first(folder.path(), &[]);
    let run = folder.path().join("run");
    for (other, parts) in [
        ("model.pool=10", ["pool: 20 against 10", "[model]"]),
        ("model.scale=log", ["scale: none against log", "[model]"]),
        ("features.hop_length=256", ["hop_length: 512 against 256", "features"]),
        ("features.fmin_hz=55.0", ["fmin_hz: 32.7", "against 55"]),
        ("features.bins=72", ["bins: 84 against 72", "features"]),
        ("model.variant=orfium", ["variant: plain against orfium", "[model]"]),
        ("model.width=4", ["width: 2 against 4", "[model]"]),
        ("model.kind=ring", ["kind: bytecover against ring", "[model]"]),
    ] {
        let (ok, text) = begin_with(&run, &init, &[other]);
        for part in parts.iter().chain(&["[train] init", "best.safetensors"]) {
            assert!(!ok && text.contains(part), "{other}: {part} is not in: {text}");
        }
        assert!(!text.contains("tensors do not fit"), "{text}");
    }
    assert!(!run.exists());
    let (ok, text) = begin_with(&run, &init, &["model.scale=log", "train.init_other_input=true"]);
    assert!(ok && text.contains("scale: none against log"), "{text}");
}

#[test]
fn key_invariant_network_is_trained_on_with_another_loss_and_a_classifier() {
    let folder = tempfile::tempdir().unwrap();
    let ring = ["model.kind=ring", "model.scale=log-centred", "model.projection=6"];
    let pairs = [&ring[..], &["train.loss=supervised-contrastive"]].concat();
    let init = first(folder.path(), &pairs);
    let of = |path: &Path| tensors(path).into_iter().filter(|(name, ..)| !name.contains("running"));
    assert!(of(&init).all(|(name, ..)| name != "fc.weight"));
    let run = folder.path().join("run");
    let (ok, text) =
        begin_with(&run, &init, &[&ring[..], &["train.seed=5", "train.loss=cosine-softmax"]].concat());
    assert!(ok, "{text}");
    let mut left: Vec<_> = of(&run.join("best.safetensors")).collect();
    assert!(classifier(&run.join("best.safetensors")).len() > 4);
    left.retain(|(name, ..)| name != "fc.weight");
    assert!(left == of(&init).collect::<Vec<_>>(), "weights of the first network are others now");
    // The other way round a classifier is left out.
    let (ok, text) = begin_with(&folder.path().join("back"), &run.join("best.safetensors"), &pairs);
    assert!(ok, "{text}");
}

#[test]
fn classifier_is_loaded_only_for_the_same_cliques() {
    let folder = tempfile::tempdir().unwrap();
    let init = first(folder.path(), &[]);
    let (same, other, old) =
        (folder.path().join("same"), folder.path().join("other"), folder.path().join("old"));
    let (ok, text) = begin_with(&same, &init, &["train.seed=5"]);
    assert!(ok && text.contains("its classifier too"), "{text}");
    assert_eq!(classifier(&same.join("best.safetensors")), classifier(&init));

    // Cliques of other names, and as many.
    let renamed = with_header_value(&init, folder.path(), "bytecover.cliques", Some("0123456789abcdef"));
    let (ok, text) = begin_with(&other, &renamed, &["train.seed=5"]);
    assert!(ok && text.contains("of other cliques and is initialised instead"), "{text}");
    assert_ne!(classifier(&other.join("best.safetensors")), classifier(&init));

    // As version 0.1 wrote it.
    let unknown = with_header_value(&init, folder.path(), "bytecover.cliques", None);
    let (ok, text) = begin_with(&old, &unknown, &["train.seed=5"]);
    assert!(ok && text.contains("does not record the cliques"), "{text}");
    assert_ne!(classifier(&old.join("best.safetensors")), classifier(&init));
}

#[test]
fn files_that_are_not_networks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let init = first(folder.path(), &[]);
    let later = with_header_value(&init, folder.path(), "bytecover.format", Some("checkpoint/9"));
    let (ok, text) = begin_with(&folder.path().join("run"), &later, &[]);
    assert!(!ok && text.contains("checkpoint/9") && text.contains("[train] init"), "{text}");
    let optimizer = support::last_checkpoint(&folder.path().join("first")).join("optimizer.safetensors");
    let (ok, text) = begin_with(&folder.path().join("run"), &optimizer, &[]);
    assert!(!ok && text.contains("does not hold a known kind of network"), "{text}");
}

/// A copy of a safetensors file with another value in its header, or without it.
fn with_header_value(path: &Path, folder: &Path, key: &str, value: Option<&str>) -> PathBuf {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut pairs = support::header(path);
    pairs.remove(key);
    pairs.extend(value.map(|value| (key.to_owned(), value.to_owned())));
    let changed = folder.join(format!("{}-{}.safetensors", key, value.unwrap_or("none").replace('/', "-")));
    let pairs = pairs.into_iter().collect();
    safetensors::serialize_to_file(file.tensors(), Some(pairs), &changed).unwrap();
    changed
}
