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
use bc_nn::loss::{cross_entropy_smoothed, triplet_margin};
use bc_nn::{Gradients, Network, NetworkSettings};
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
    let device = Device::Cpu;
    let network = Network::new(settings, 7, &device)?;
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
        Tensor::from_vec(values, (BATCH, BINS, FRAMES), &device)
    };
    for _ in 0..2 {
        network.forward_train(&input()?)?;
    }
    network.save(&folder.join("network.safetensors"), HashMap::new())?;

    let x = input()?;
    let evaluated = network.forward(&x)?;
    let labels: Vec<u32> = (0..BATCH as u32).map(|item| item / 2).collect();
    let pass = network.forward_train(&x)?;
    let (f_t, third) = (&pass.outputs().f_t, BATCH / 3);
    let part = |number: usize| f_t.narrow(0, number * third, third);
    let triplet = triplet_margin(&part(0)?, &part(1)?, &part(2)?, 0.3)?;
    let loss = (cross_entropy_smoothed(pass.outputs().logits()?, &labels, 0.1)? + triplet)?;
    let mut gradients = Gradients::new(&network.parameters())?;
    pass.backward(&network, &loss.backward()?, &mut gradients)?;

    let mut named = HashMap::from([
        ("x".to_owned(), x),
        ("logits".to_owned(), evaluated.logits()?.clone()),
        ("f_t".to_owned(), evaluated.f_t),
        ("f_c".to_owned(), evaluated.f_c),
        ("loss".to_owned(), loss.detach()),
        ("labels".to_owned(), Tensor::new(labels, &device)?),
    ]);
    for (name, _) in network.parameters() {
        let gradient = gradients.get(&name).with_context(|| format!("{name} has no gradient"))?;
        named.insert(format!("gradient.{name}"), gradient.clone());
    }
    candle_core::safetensors::save(&named, folder.join("computed.safetensors"))?;
    Ok(())
}
