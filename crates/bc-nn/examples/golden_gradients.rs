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
use bc_nn::loss::{cross_entropy_smoothed, triplet_margin};
use bc_nn::{Gradients, Network};
use candle_core::Device;

fn main() -> Result<()> {
    let paths: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let [weights, batch, out] = paths.as_slice() else {
        anyhow::bail!("usage: golden_gradients WEIGHTS BATCH OUT");
    };
    let network = Network::load(weights, &Device::Cpu)?.network;
    let batch = candle_core::safetensors::load(batch, &Device::Cpu)?;
    let get = |name: &str| batch.get(name).with_context(|| format!("the batch has no `{name}`"));
    let labels: Vec<u32> = get("labels")?.to_vec1::<i64>()?.iter().map(|label| *label as u32).collect();

    let passes = [get("anchor")?, get("positive")?, get("negative")?].map(|x| network.forward_train(x));
    let [anchor, positive, negative] = passes;
    let (anchor, positive, negative) = (anchor?, positive?, negative?);
    let f_t = [&anchor, &positive, &negative].map(|pass| &pass.outputs().f_t);
    let triplet = triplet_margin(f_t[0], f_t[1], f_t[2], 0.3)?;
    let loss = (triplet + cross_entropy_smoothed(anchor.outputs().logits()?, &labels, 0.1)?)?;
    let found = loss.backward()?;
    let mut gradients = Gradients::new(&network.parameters())?;
    for pass in [negative, positive, anchor] {
        pass.backward(&network, &found, &mut gradients)?;
    }

    let mut named = HashMap::from([("loss".to_owned(), loss.detach())]);
    for (name, _) in network.parameters() {
        let gradient = gradients.get(&name).with_context(|| format!("{name} has no gradient"))?;
        named.insert(name, gradient.clone());
    }
    bc_nn::weights::write(out, &named, HashMap::new())
}
