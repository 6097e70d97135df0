//! Checks exported networks in onnxruntime and PyTorch.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use bc_formats::config::{Bottleneck, ModelConfig, NetworkKind};
use bc_formats::features::CqtSettings;
use bc_formats::run::{NetworkInput, Scale};
use bc_nn::{Backend, Network, NetworkSettings};

/// Writes networks that cover every branch of both graphs: with and without biases, projection and classifier, a chromagram.
fn networks(folder: &Path) -> Vec<std::path::PathBuf> {
    let (orfium, plain) = (Bottleneck::Orfium, Bottleneck::Plain);
    let (bytecover, ring) = (NetworkKind::Bytecover, NetworkKind::Ring);
    let kinds = [
        ("orfium", bytecover, orfium, 84, 0, 5),
        ("plain", bytecover, plain, 84, 6, 0),
        ("ring", ring, plain, 84, 6, 5),
        ("chromagram", ring, plain, 12, 0, 0),
    ];
    let save = |(name, kind, variant, bins, projection, classes)| {
        let model = ModelConfig {
            kind,
            variant,
            width: 8,
            blocks: [1, 2, 1, 1],
            projection,
            ..ModelConfig::default()
        };
        let settings = NetworkSettings::from_config(&model, bins, classes);
        let network = Network::new(&settings, 11, &Backend::cpu()).unwrap();
        let cqt = CqtSettings { bins: bins as u32, ..CqtSettings::default() };
        let input = NetworkInput { cqt, pool: 10, scale: Scale::Log };
        let path = folder.join(format!("{name}.safetensors"));
        network.save(&path, HashMap::from([input.to_key_value()])).unwrap();
        path
    };
    kinds.into_iter().map(save).collect()
}

#[test]
fn exported_networks_agree_in_onnxruntime_and_pytorch() {
    let Some(python) = bc_testing::python_with("numpy, onnxruntime, torch, safetensors") else { return };
    let folder = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut check = Command::new(python);
    check.arg(project.join("scripts/check_onnx.py")).args(networks(folder.path()));
    check.arg(project.join("configs/networks/default/network.safetensors"));
    let output = check.env("BYTECOVER_EVAL", env!("CARGO_BIN_EXE_bc-eval")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches("ok ").count(), 5 * 5 * 4, "{text}");
}

#[test]
fn onnx_without_a_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    common::experiment(folder.path(), 3);
    std::fs::remove_file(folder.path().join("network.safetensors")).unwrap();
    let error = common::refuse(folder.path(), &["export", "--config", "c.toml", "--out", "out", "--onnx"]);
    assert!(error.contains("network"), "{error}");
}
