//! The key-invariant network and the losses over pairs against PyTorch: `scripts/make_ring_golden.py`
//! computed the files in `fixtures/` in 64 bits, so what differs is our rounding.
//!
//! Tolerances are of Euclidean norms, |ours - theirs| / |theirs|: outputs 1e-5; running statistics 1e-6;
//! gradients 1e-3 of the larger of their norm and a hundredth of the largest norm (those of weights in
//! front of a normalisation cancel almost to nothing, and what is left is rounding).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bc_nn::loss::{alignment_uniformity, cross_entropy_smoothed, supervised_contrastive, triplet_margin};
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

    let pass = network.train(x).unwrap();
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
    pass.back(&network, &loss.backward().unwrap(), &mut gradients).unwrap();
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
fn turning_the_ring_does_not_change_the_embedding_of_a_chromagram() {
    let (kind, blocks) = (Kind::Ring, [1; 4]);
    let settings = RingSettings { kind, bins: 12, classes: 0, width: 4, blocks, projection: 0 };
    let network = Network::new(&NetworkSettings::Ring(settings), 3, &Device::Cpu).unwrap();
    let x = Tensor::rand(0f32, 1.0, (2, 12, 30), &Device::Cpu).unwrap();
    let turned = Tensor::cat(&[x.narrow(1, 5, 7).unwrap(), x.narrow(1, 0, 5).unwrap()], 1).unwrap();
    let embed = |x: &Tensor| network.embed(x).unwrap().1;
    assert!(apart(&embed(&turned), &embed(&x), 0.0) < 1e-5);
    // Something else than a turn does.
    assert!(apart(&embed(&x.affine(-1.0, 1.0).unwrap()), &embed(&x), 0.0) > 1e-2);
}
