//! Synthetic networks, audio files, features and embeddings for the tests of bc-eval and bc-search.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bc_formats::config::{Bottleneck, ModelConfig};
use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::features::{CqtSettings, FeatureRow, PartWriter, Source};
use bc_formats::index::{Index, Split, Status, Version};
use bc_formats::provenance::Provenance;
use bc_formats::run::{NetworkInput, Scale};
use bc_nn::{Backend, Network, NetworkSettings};
use half::f16;
use rand::{RngExt, SeedableRng};

/// Writes a checkpoint of a few thousand weights for the default transform; returns its input.
pub fn checkpoint(path: &Path, seed: u64) -> NetworkInput {
    checkpoint_with(path, seed, HashMap::new())
}

/// Writes a checkpoint like [`checkpoint`], with further entries in its header.
pub fn checkpoint_with(path: &Path, seed: u64, mut header: HashMap<String, String>) -> NetworkInput {
    let cqt = CqtSettings::default();
    let model =
        ModelConfig { variant: Bottleneck::Plain, width: 8, blocks: [1, 1, 1, 1], ..ModelConfig::default() };
    let settings = NetworkSettings::from_config(&model, cqt.bins as usize, 5);
    let network = Network::new(&settings, seed, &Backend::cpu()).unwrap();
    let input = NetworkInput { cqt, pool: 10, scale: Scale::Log };
    header.extend([input.to_key_value()]);
    network.save(path, header).unwrap();
    input
}

/// Writes embeddings of `cliques` x `versions`, half of the cliques in val and half in test: vectors around
/// the directions of their cliques, with the standard deviation `spread`. `edit_label` may change a label.
pub fn clusters(
    path: &Path,
    [cliques, versions]: [usize; 2],
    dim: usize,
    spread: f32,
    edit_label: impl Fn(&mut Label),
) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut normal = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
    let (mut labels, mut vectors) = (Vec::new(), Vec::new());
    for clique in 0..cliques {
        let centre: Vec<f32> = (0..dim).map(|_| normal()).collect();
        for version in 0..versions {
            vectors.extend(centre.iter().map(|value| value + spread * normal()).collect::<Vec<_>>());
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
            edit_label(&mut label);
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

/// An empty provenance.
pub fn provenance() -> Provenance {
    Provenance {
        format: String::new(),
        tool: "test".into(),
        settings: serde_json::json!({}),
        fingerprint: String::new(),
        inputs: Default::default(),
    }
}

/// Writes `features/part-0.parquet` from the magnitudes (bins x frames) of each version.
pub fn features(folder: &Path, rows: &[(&str, Vec<f16>)]) {
    let settings = CqtSettings::default();
    let mut part = PartWriter::create(&folder.join("features/part-0.parquet"), settings).unwrap();
    for (id, magnitude) in rows {
        part.push(FeatureRow {
            version_id: (*id).into(),
            frames: magnitude.len() as u32 / settings.bins,
            source_hash: format!("hash of {id}"),
            source: Source::default(),
            error_share: None,
            magnitude: magnitude.clone(),
        })
        .unwrap();
    }
    part.commit(provenance()).unwrap();
}

/// A version whose audio is present.
pub fn usable(id: &str, clique: &str, split: Split) -> Version {
    let mut version = Version::new(id, clique);
    (version.split, version.status, version.audio_path) = (split, Status::Ok, Some(format!("{id}.wav")));
    version
}

/// Writes `index.parquet`.
pub fn index(folder: &Path, versions: Vec<Version>) {
    Index { versions, provenance: provenance() }.write(&folder.join("index.parquet")).unwrap();
}

/// Writes `c.toml`, which names `index.parquet`, `features`, `network.safetensors` and `eval`.
pub fn config(folder: &Path) {
    let text = "[features]\nindex = \"index.parquet\"\noutput = \"features\"\n[model]\npool = 10\nscale = \"log\"\n\
                [eval]\noutput = \"eval\"\ncheckpoint = \"network.safetensors\"\n";
    std::fs::write(folder.join("c.toml"), text).unwrap();
}

/// Writes an experiment of `cliques` x 3 versions with noise as features, a third of the cliques in each split, and a network.
pub fn experiment(folder: &Path, cliques: usize) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(9);
    let (mut rows, mut versions) = (Vec::new(), Vec::new());
    let ids: Vec<String> = (0..3 * cliques).map(|number| format!("v{number:03}")).collect();
    for (number, id) in ids.iter().enumerate() {
        let frames = 60 + number % 5;
        let magnitude = (0..84 * frames).map(|_| f16::from_f32(random.random::<f32>())).collect();
        rows.push((id.as_str(), magnitude));
        let split = [Split::Train, Split::Val, Split::Test][number / 3 % 3];
        versions.push(usable(id, &format!("clique {}", number / 3), split));
    }
    features(folder, &rows);
    index(folder, versions);
    checkpoint(&folder.join("network.safetensors"), 7);
    config(folder);
}

/// Writes samples as a WAV file.
pub fn wav(path: &Path, samples: impl Iterator<Item = i16>) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    samples.for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
}

/// Sample rate of all WAV files here.
pub const RATE: u32 = 16_000;

/// The samples of notes of one second each (MIDI numbers), one after another.
pub fn notes(notes: &[u32]) -> impl Iterator<Item = i16> {
    notes.iter().copied().flat_map(|note| {
        let hertz = 440.0 * 2f64.powf((f64::from(note) - 69.0) / 12.0);
        (0..RATE).map(move |n| {
            let phase = std::f64::consts::TAU * hertz * f64::from(n) / f64::from(RATE);
            let value = phase.sin() + 0.4 * (2.0 * phase).sin() + 0.2 * (3.0 * phase).sin();
            (value * 9000.0) as i16
        })
    })
}

/// Writes notes of one second each (MIDI numbers) as a WAV file; returns its path.
pub fn melody(path: &Path, melody: &[u32]) -> PathBuf {
    wav(path, notes(melody));
    path.to_owned()
}
