//! A small network and audio files of our own for the tests of this crate.

#![allow(dead_code, reason = "not every test file needs all of it")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bc_formats::config::{Bottleneck, ModelConfig};
use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::features::CqtSettings;
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;
use bc_formats::run::{NetworkInput, Scale};
use bc_nn::{Network, NetworkSettings};
use candle_core::Device;
use rand::{RngExt, SeedableRng};

/// Runs the stage in `folder`.
pub fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bc-eval")).current_dir(folder).args(args).output().unwrap()
}

/// Its standard output; panics with its errors if it fails.
pub fn succeed(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Its error; panics if it does not fail with exit code 1.
pub fn refuse(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
    error
}

/// A network of a few thousand weights for the default transform, as a checkpoint of training has it.
pub fn checkpoint(path: &Path, seed: u64) -> NetworkInput {
    let cqt = CqtSettings::default();
    let model =
        ModelConfig { variant: Bottleneck::Plain, width: 8, blocks: [1, 1, 1, 1], ..ModelConfig::default() };
    let settings = NetworkSettings::from_config(&model, cqt.bins as usize, 5);
    let network = Network::new(&settings, seed, &Device::Cpu).unwrap();
    let input = NetworkInput { cqt, pool: 10, scale: Scale::Log };
    network.save(path, HashMap::from([input.to_key_value()])).unwrap();
    input
}

/// Writes embeddings of `cliques` x `versions`, half of the cliques in val and half in test: vectors around
/// the directions of their cliques, `spread` apart. `dress` may change a label.
pub fn clusters(
    path: &Path,
    [cliques, versions]: [usize; 2],
    dim: usize,
    spread: f32,
    dress: impl Fn(&mut Label),
) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut bell = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
    let (mut labels, mut vectors) = (Vec::new(), Vec::new());
    for clique in 0..cliques {
        let centre: Vec<f32> = (0..dim).map(|_| bell()).collect();
        for version in 0..versions {
            vectors.extend(centre.iter().map(|value| value + spread * bell()).collect::<Vec<_>>());
            let mut label = Label {
                version_id: format!("{clique}-{version}"),
                clique_id: format!("clique {clique}"),
                title: String::new(),
                performer: String::new(),
                split: if clique % 2 == 0 { Split::Val } else { Split::Test },
                duration_s: 60.0,
                start_s: 0.0,
                source_hash: String::new(),
            };
            dress(&mut label);
            labels.push(label);
        }
    }
    let provenance = Provenance {
        format: FORMAT.into(),
        tool: "test".into(),
        settings: serde_json::json!({ "layer": "f_c" }),
        fingerprint: "0123456789abcdef".into(),
        inputs: [("checkpoint".to_owned(), "fedcba9876543210".to_owned())].into(),
    };
    Embeddings { labels, dim, vectors, provenance }.write(path).unwrap();
}

/// A second-long note after another, as WAV; `notes` are MIDI numbers.
pub fn melody(path: &Path, notes: &[u32]) -> PathBuf {
    const RATE: u32 = 16_000;
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for note in notes {
        let hertz = 440.0 * 2f64.powf((f64::from(*note) - 69.0) / 12.0);
        for n in 0..RATE {
            let phase = std::f64::consts::TAU * hertz * f64::from(n) / f64::from(RATE);
            let value = phase.sin() + 0.4 * (2.0 * phase).sin() + 0.2 * (3.0 * phase).sin();
            writer.write_sample((value * 9000.0) as i16).unwrap();
        }
    }
    writer.finalize().unwrap();
    path.to_owned()
}
