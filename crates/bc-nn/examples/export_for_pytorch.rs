//! Writes a network and what it computes, for `scripts/check_pytorch.py` to compare with PyTorch.
//!
//! `cargo run --release -p bc-nn --example export_for_pytorch -- FOLDER` writes, for a network
//! of the usual depth (`deep`) and one with a bottleneck a stage (`shallow`), a folder with
//! `network.safetensors` (a checkpoint as training writes it: ordinary initial weights,
//! running statistics moved by two batches) and `computed.safetensors`: an input `x`, its
//! `f_t`, `f_c` and `logits` in evaluation, and in training the `loss` on `labels` and the
//! gradients of all parameters as `gradient.NAME`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_formats::config::ModelConfig;
use bc_nn::loss::Triplets;
use bc_nn::{Backend, Gradients, HeadOutputs, Network, NetworkSettings};
use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 6;
const BINS: usize = 84;
const FRAMES: usize = 100;
const CLASSES: usize = 50;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("usage: export_for_pytorch FOLDER")?);
    for (name, blocks) in [("deep", [3, 4, 6, 3]), ("shallow", [1, 1, 1, 1])] {
        let model = ModelConfig { blocks, ..ModelConfig::default() };
        export(&NetworkSettings::from_config(&model, BINS, CLASSES), &folder.join(name))?;
    }
    Ok(())
}

fn export(settings: &NetworkSettings, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut network = Network::new(settings, 7, &Backend::cpu())?;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    // Each sample another pattern: samples of noise all look the same to the pooling, and the
    // neck's division by their tiny deviation would blow rounding up.
    let mut input = || {
        let values: Vec<f32> = (0..BATCH * BINS * FRAMES)
            .map(|place| {
                let (sample, bin, frame) = (place / BINS / FRAMES, place / FRAMES % BINS, place % FRAMES);
                let wave =
                    |period: usize, at: usize| (at as f32 * std::f32::consts::TAU / period as f32).sin();
                let (across, along) = (wave(5 + 7 * sample, bin), wave(40 - 6 * sample, frame));
                (across * along).abs() * (1 + sample) as f32 + 0.3 * rng.random::<f32>()
            })
            .collect();
        Tensor::from_vec(values, (BATCH, BINS, FRAMES), &Device::Cpu)
    };
    for _ in 0..2 {
        network.forward_train(&input()?)?;
    }
    network.save(&folder.join("network.safetensors"), HashMap::new())?;

    let x = input()?;
    let evaluated = network.forward(&x)?;
    let labels: Vec<u32> = (0..BATCH as u32).map(|item| item / 2).collect();
    let pass = network.forward_train(&x)?;
    let backend = network.backend().clone();
    let rows: Vec<u32> = (0..BATCH as u32).collect();
    let [anchors, positives, negatives] = [0, 1, 2].map(|third| &rows[third * BATCH / 3..][..BATCH / 3]);
    let triplets = Triplets { anchors, positives, negatives };
    let logits = pass.outputs().logits.as_ref().context("a classifier")?;
    let (classification, of_logits) = backend.cross_entropy(logits, &labels, 0.1, 1.0)?;
    let (triplet, of_f_t) = backend.triplet_margin(&pass.outputs().f_t, triplets, 0.3, 1.0)?;
    let loss = backend.rows(&classification)?[0] + backend.rows(&triplet)?[0];
    let mut gradients = Gradients::new(network.parameters())?;
    let of = HeadOutputs { f_t: Some(of_f_t), f_c: None, logits: Some(of_logits) };
    pass.backward(&network, of, &mut gradients)?;

    let mut named = HashMap::from([
        ("x".to_owned(), x),
        ("logits".to_owned(), evaluated.logits()?.clone()),
        ("f_t".to_owned(), evaluated.f_t),
        ("f_c".to_owned(), evaluated.f_c),
        ("loss".to_owned(), Tensor::new(loss, &Device::Cpu)?),
        ("labels".to_owned(), Tensor::new(labels, &Device::Cpu)?),
    ]);
    for name in network.parameters().layout().entries().iter().map(|entry| &entry.name) {
        let gradient = gradients.get(name)?.with_context(|| format!("{name} has no gradient"))?;
        named.insert(format!("gradient.{name}"), gradient);
    }
    candle_core::safetensors::save(&named, folder.join("computed.safetensors"))?;
    Ok(())
}
