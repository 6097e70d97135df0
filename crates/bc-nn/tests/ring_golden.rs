//! The key-invariant network and the losses over pairs against PyTorch: `scripts/make_ring_golden.py`
//! computed the files in `fixtures/` in 64 bits, so what differs is our rounding.
//!
//! Tolerances are of Euclidean norms, |ours - theirs| / |theirs|: outputs 1e-5; running statistics 1e-6;
//! gradients 1e-3 of the larger of their norm and a hundredth of the largest norm (those of weights in
//! front of a normalisation cancel almost to nothing, and what is left is rounding).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bc_nn::loss::{
    alignment_uniformity, cosine_logits, cross_entropy_smoothed, supervised_contrastive, triplet_margin,
};
use bc_nn::{Gradients, Kind, Network, NetworkSettings, RingSettings};
use candle_core::{Device, Tensor, Var};

const OUTPUTS: f64 = 1e-5;
const STATISTICS: f64 = 1e-6;
const GRADIENTS: f64 = 1e-3;

fn fixture(name: &str) -> HashMap<String, Tensor> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// |ours - theirs| over the larger of |theirs| and `least`.
fn apart(ours: &Tensor, theirs: &Tensor, least: f64) -> f64 {
    assert_eq!(ours.dims(), theirs.dims());
    let (ours, theirs) = (flat(ours), flat(theirs));
    let difference: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(&theirs).max(least)
}

/// A network with the fixture's weights.
fn network(golden: &HashMap<String, Tensor>, settings: RingSettings) -> Network {
    let mut weights: HashMap<String, Tensor> = golden
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("weights.")?.to_owned(), value.clone())))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    candle_core::safetensors::save(&weights, &path).unwrap();
    let mut network = Network::new(&NetworkSettings::Ring(settings), 1, &Device::Cpu).unwrap();
    network.restore(&path).unwrap();
    // Nothing of ours is without a counterpart there, and the other way round.
    for (name, value) in network.parameters().into_iter().chain(network.buffers()) {
        assert_eq!(flat(value.as_tensor()), flat(&weights.remove(&name).unwrap()), "{name}");
    }
    assert!(weights.is_empty(), "{:?}", weights.keys());
    network
}

fn compare(name: &str, settings: RingSettings) {
    let golden = fixture(name);
    let network = network(&golden, settings);
    let x = &golden["x"];
    let close = |ours: &Tensor, theirs: &str, tolerance: f64| {
        let apart = apart(ours, &golden[theirs], 0.0);
        assert!(apart < tolerance, "{name}: {theirs} is {apart:.1e} away");
    };
    let out = network.forward(x).unwrap();
    for (ours, key) in [(&out.f_t, "f_t"), (&out.f_c, "f_c"), (out.logits().unwrap(), "logits")] {
        close(ours, &format!("evaluated.{key}"), OUTPUTS);
    }

    let pass = network.forward_train(x).unwrap();
    let out = pass.outputs().clone();
    for (ours, key) in [(&out.f_t, "f_t"), (&out.f_c, "f_c"), (out.logits().unwrap(), "logits")] {
        close(ours, &format!("trained.{key}"), OUTPUTS);
    }
    for (key, value) in network.buffers() {
        close(value.as_tensor(), &format!("after.{key}"), STATISTICS);
    }

    let labels = [0, 0, 1, 1, 2, 2];
    let part = |from: usize| out.f_t.narrow(0, from, 2).unwrap();
    let triplet = triplet_margin(&part(0), &part(2), &part(4), 0.3).unwrap();
    let classification = cross_entropy_smoothed(out.logits().unwrap(), &labels, 0.1).unwrap();
    let contrastive = supervised_contrastive(&out.f_c, &labels, 0.1).unwrap();
    let loss = ((triplet + classification).unwrap() + contrastive).unwrap();
    close(&loss, "loss", OUTPUTS);
    let mut gradients = Gradients::new(&network.parameters()).unwrap();
    pass.backward(&network, &loss.backward().unwrap(), &mut gradients).unwrap();
    let of = |key: &str| &golden[&format!("gradient.{key}")];
    let most = network.parameters().iter().map(|(key, _)| norm(&flat(of(key)))).fold(0.0, f64::max);
    for (key, _) in network.parameters() {
        let apart = apart(gradients.get(&key).unwrap(), of(&key), most / 100.0);
        assert!(apart < GRADIENTS, "{name}: the gradient of {key} is {apart:.1e} away");
    }
}

#[test]
fn a_network_on_bins_computes_what_pytorch_does() {
    let (kind, blocks) = (Kind::Ring, [1, 2, 1, 1]);
    let settings = RingSettings { kind, bins: 84, classes: 3, width: 4, blocks, projection: 10 };
    compare("ring.safetensors", settings);
}

#[test]
fn a_network_on_chroma_computes_what_pytorch_does() {
    let (kind, blocks) = (Kind::Ring, [1; 4]);
    let settings = RingSettings { kind, bins: 12, classes: 3, width: 2, blocks, projection: 0 };
    compare("ring_chroma.safetensors", settings);
}

#[test]
fn losses_over_pairs_and_their_gradients_are_pytorchs() {
    let golden = fixture("pair_losses.safetensors");
    let labels: Vec<u32> = flat(&golden["labels"]).into_iter().map(|label| label as u32).collect();
    let x = Var::from_tensor(&golden["x"]).unwrap();
    for (name, loss) in [
        ("contrastive", supervised_contrastive(&x, &labels, 0.1)),
        ("alignment", alignment_uniformity(&x, &labels)),
    ] {
        let loss = loss.unwrap();
        assert!(apart(&loss, &golden[name], 0.0) < 1e-6, "{name}: {loss}");
        let found = loss.backward().unwrap();
        let apart = apart(found.get(&x).unwrap(), &golden[&format!("gradient.{name}")], 0.0);
        assert!(apart < 1e-5, "the gradient of {name} is {apart:.1e} away");
    }
}

#[test]
fn the_cosine_softmax_and_its_gradients_are_pytorchs() {
    let golden = fixture("pair_losses.safetensors");
    let labels: Vec<u32> = flat(&golden["labels"]).into_iter().map(|label| label as u32).collect();
    let [x, weight] = ["x", "weight"].map(|key| Var::from_tensor(&golden[key]).unwrap());
    let loss = cross_entropy_smoothed(&cosine_logits(&x, &weight, 30.0).unwrap(), &labels, 0.1).unwrap();
    assert!(apart(&loss, &golden["cosine"], 0.0) < 1e-6, "{loss}");
    let found = loss.backward().unwrap();
    for (leaf, key) in [(&x, "gradient.cosine"), (&weight, "gradient.cosine.weight")] {
        let apart = apart(found.get(leaf).unwrap(), &golden[key], 0.0);
        assert!(apart < 1e-5, "{key} is {apart:.1e} away");
    }
}

#[test]
fn the_classifiers_weights_get_the_gradient_of_a_loss_that_reads_them() {
    let (kind, blocks) = (Kind::Ring, [1; 4]);
    let settings = RingSettings { kind, bins: 12, classes: 3, width: 2, blocks, projection: 6 };
    let network = Network::new(&NetworkSettings::Ring(settings), 3, &Device::Cpu).unwrap();
    let x = Tensor::rand(0f32, 1.0, (6, 12, 30), &Device::Cpu).unwrap();
    let weight = network.classifier().unwrap();
    let mut gradients = Gradients::new(&network.parameters()).unwrap();
    for times in [1.0, 2.0] {
        let pass = network.forward_train(&x).unwrap();
        let logits = cosine_logits(&pass.outputs().f_c, &weight, 30.0).unwrap();
        let loss = cross_entropy_smoothed(&logits, &[0, 0, 1, 1, 2, 2], 0.1).unwrap();
        let found = loss.backward().unwrap();
        network.backward_classifier(&found, &mut gradients).unwrap();
        pass.backward(&network, &found, &mut gradients).unwrap();
        // The sum over the passes since the last step.
        let one = (found.get(&weight).unwrap() * times).unwrap();
        assert!(apart(gradients.get("fc.weight").unwrap(), &one, 0.0) < 1e-6);
        assert!(norm(&flat(&one)) > 1e-3);
    }
}

#[test]
fn the_narrower_instruction_sets_agree_as_well() {
    bc_testing::again_with("BYTECOVER_ISA", &["avx2", "baseline"], "computes_what_pytorch_does");
}
