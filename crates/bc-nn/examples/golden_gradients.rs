//! Writes the gradients of one training step, for `scripts/check_golden.py` to compare with
//! PyTorch in 64 bits.
//!
//! `cargo run --release -p bc-nn --example golden_gradients -- WEIGHTS BATCH OUT`: WEIGHTS is a
//! checkpoint (`.pt` or safetensors); BATCH a safetensors file with `anchor`, `positive`,
//! `negative` (B x bins x frames each, a forward each in this order) and `labels` of the
//! anchors; OUT gets the gradient of every parameter under its name, and the `loss` (triplet,
//! margin 0.3, plus cross entropy of the anchors, smoothing 0.1).

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bc_nn::loss::Triplets;
use bc_nn::{Backend, Gradients, HeadOutputs, Network};
use candle_core::{Device, Tensor};

fn main() -> Result<()> {
    let paths: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let [weights, batch, out] = paths.as_slice() else {
        anyhow::bail!("usage: golden_gradients WEIGHTS BATCH OUT");
    };
    let mut network = Network::load(weights, &Backend::cpu())?.network;
    let batch = candle_core::safetensors::load(batch, &Device::Cpu)?;
    let get = |name: &str| batch.get(name).with_context(|| format!("the batch has no `{name}`"));
    let labels: Vec<u32> = get("labels")?.to_vec1::<i64>()?.iter().map(|label| *label as u32).collect();

    let mut passes = Vec::new();
    for name in ["anchor", "positive", "negative"] {
        passes.push(network.forward_train(get(name)?)?);
    }
    let (backend, n) = (network.backend().clone(), labels.len());
    let f_t = backend.join(&passes.iter().map(|pass| &pass.outputs().f_t).collect::<Vec<_>>())?;
    let rows: Vec<u32> = (0..3 * n as u32).collect();
    let triplets = Triplets { anchors: &rows[..n], positives: &rows[n..2 * n], negatives: &rows[2 * n..] };
    let (triplet, of_f_t) = backend.triplet_margin(&f_t, triplets, 0.3, 1.0)?;
    let logits = passes[0].outputs().logits.as_ref().context("a network without a classifier")?;
    let (classification, of_logits) = backend.cross_entropy(logits, &labels, 0.1, 1.0)?;
    let loss = backend.rows(&triplet)?[0] + backend.rows(&classification)?[0];
    let mut gradients = Gradients::new(network.parameters())?;
    for (number, pass) in passes.into_iter().enumerate().rev() {
        let f_t = Some(backend.part(&of_f_t, number * n, n)?);
        let logits = (number == 0).then(|| of_logits.clone());
        pass.backward(&network, HeadOutputs { f_t, f_c: None, logits }, &mut gradients)?;
    }

    let mut named = HashMap::from([("loss".to_owned(), Tensor::new(loss, &Device::Cpu)?)]);
    for name in network.parameters().layout().entries().iter().map(|entry| &entry.name) {
        let gradient = gradients.get(name)?.with_context(|| format!("{name} has no gradient"))?;
        named.insert(name.clone(), gradient);
    }
    bc_nn::weights::write(out, &named, HashMap::new())
}
