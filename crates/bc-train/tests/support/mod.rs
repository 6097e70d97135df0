//! Helpers that the tests of the binary share.
#![allow(dead_code, reason = "every test file takes what it needs")]

pub mod data;

use std::path::{Path, PathBuf};
use std::process::Command;

use bc_formats::config::{Config, load};
use bc_formats::features::CqtSettings;

/// A network and batches so small that a step takes milliseconds, on random features.
pub const TINY: &[&str] = &[
    "model.width=2",
    "model.blocks=[1,1,1,1]",
    "model.variant=plain",
    "train.debug=true",
    "train.device=cpu",
    "train.threads=1",
    "train.cliques_per_batch=4",
    "train.versions_per_clique=2",
    "train.lengths_s=[10,20]",
    "train.learning_rate=0.001",
    "augment.stretch_probability=0.5",
    "augment.transpose_probability=0.5",
    "augment.specaugment_probability=0.5",
];

/// Losses of a step differ by at most this, relative to a loss of at least 1. (Where the hardest negative is decided by
/// a hair, or at low temperatures, rounding grows faster: 1e-5 to 2e-3 were seen within twenty steps.)
pub const TOLERANCE: f64 = 1e-5;

/// [`TINY`] with more overrides, in `run`.
pub fn config(run: &Path, overrides: &[&str]) -> Config {
    let mut set: Vec<String> = TINY.iter().chain(overrides).map(|text| (*text).to_owned()).collect();
    set.push(format!("train.run={}", run.display()));
    load(None, &set).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The largest difference of two curves, relative to a figure of at least 1. Norms of gradients and figures of ranking
/// (which jump where two distances are nearly equal) count a hundredth.
pub fn difference(first: &[Vec<f64>], second: &[Vec<f64>]) -> f64 {
    assert_eq!(first.len(), second.len());
    let mut worst = 0f64;
    for (a, b) in first.iter().zip(second) {
        let losses = if a.len() == 4 { 3 } else { 1 };
        for (index, (a, b)) in a.iter().zip(b).enumerate() {
            let weight = if index < losses { 1.0 } else { 0.01 };
            worst = worst.max(weight * (a - b).abs() / a.abs().max(1.0));
        }
    }
    worst
}

/// Writes features that a small network can distinguish, and returns the overrides that name them.
pub fn waves(folder: &Path) -> Vec<String> {
    data::write_waves(folder, data::versions(4), CqtSettings::default());
    let set = |key: &str, name: &str| format!("features.{key}={}", folder.join(name).display());
    vec!["train.debug=false".into(), set("index", "index.parquet"), set("output", "features")]
}

/// `bc-train train` on [`TINY`] with more overrides, in `run`.
pub fn train(run: &Path, overrides: &[&str], flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bc-train"));
    command.arg("train");
    for text in TINY.iter().chain(overrides) {
        command.args(["--set", text]);
    }
    command.arg("--set").arg(format!("train.run={}", run.display()));
    command.args(flags);
    command
}

/// The last checkpoint's `state.json`.
pub fn state(run: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(last_checkpoint(run).join("state.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Runs a command to its end. Returns whether it succeeded, and its standard output followed by its standard error.
pub fn output(mut command: Command) -> (bool, String) {
    let output = command.output().expect("the binary starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Trains a whole run, from the first step to the last.
pub fn train_to_end(run: &Path, overrides: &[&str]) {
    let (ok, text) = output(train(run, overrides, &["--fresh"]));
    assert!(ok, "{text}");
}

/// The lines of `metrics.jsonl`.
pub fn lines(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The lines of `metrics.jsonl` without times, without the starts of processes, and without
/// validations that are not in the plan.
pub fn metrics(run: &Path) -> Vec<String> {
    lines(run)
        .into_iter()
        .filter(|line| line["kind"] != "start" && line["scheduled"] != false)
        .map(|mut line| {
            let fields = line.as_object_mut().expect("a line is an object");
            for clock in ["time", "seconds", "samples_per_s", "waiting_share"] {
                fields.remove(clock);
            }
            line.to_string()
        })
        .collect()
}

/// The last whole checkpoint of a run.
pub fn last_checkpoint(run: &Path) -> PathBuf {
    let listed = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().path());
    let whole = listed.filter(|p| !p.file_name().unwrap().to_string_lossy().starts_with('.'));
    whole.max().expect("a run has a checkpoint")
}

/// Asserts that two runs recorded the same, and ended with the same weights, moving average,
/// optimiser and best network, bit for bit.
pub fn assert_equal_runs(first: &Path, second: &Path) {
    let (first_lines, second_lines) = (metrics(first), metrics(second));
    assert_eq!(first_lines.len(), second_lines.len());
    for (first_lines, second_lines) in first_lines.iter().zip(&second_lines) {
        assert_eq!(first_lines, second_lines);
    }
    assert_eq!(tensors(&first.join("best.safetensors")), tensors(&second.join("best.safetensors")));
    let fingerprint = |run: &Path| header(&run.join("best.safetensors"))["bytecover.fingerprint"].clone();
    assert_eq!(fingerprint(first), fingerprint(second));
    let final_state = |run: &Path| {
        let mut state = state(run);
        state.as_object_mut().unwrap().remove("before_end");
        state
    };
    assert_eq!(final_state(first), final_state(second));
    let (first, second) = (last_checkpoint(first), last_checkpoint(second));
    assert_eq!(first.file_name(), second.file_name());
    for file in ["network.safetensors", "average.safetensors", "optimizer.safetensors"] {
        assert_eq!(first.join(file).exists(), second.join(file).exists(), "{file}");
        if first.join(file).exists() {
            assert!(tensors(&first.join(file)) == tensors(&second.join(file)), "{file} differs");
        }
    }
}

/// The names, shapes and bytes of all tensors (the header names the run's folder).
pub fn tensors(path: &Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> =
        file.tensors().into_iter().map(|(name, t)| (name, t.shape().to_vec(), t.data().to_vec())).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

/// Fills a tensor of a safetensors file with NaN.
pub fn fill_with_nan(path: &Path, name: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let (from, to) = metadata.info(name).unwrap().data_offsets;
    for value in bytes[8 + header..][from..to].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

/// The key-value pairs of a safetensors file's header.
pub fn header(path: &Path) -> std::collections::BTreeMap<String, String> {
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    metadata.metadata().clone().unwrap_or_default().into_iter().collect()
}
