//! The key-invariant network and the losses over pairs against PyTorch: `scripts/make_ring_golden.py`
//! computed the files in `fixtures/` in 64 bits, so what differs is our rounding.
//!
//! Tolerances are of Euclidean norms, |ours - theirs| / |theirs|: outputs 1e-5; running statistics 1e-6;
//! gradients 1e-3 of the larger of their norm and a hundredth of the largest norm (those of weights in
//! front of a normalisation cancel almost to nothing, and what is left is rounding).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bc_nn::loss::{
    Rows, Triplets, alignment_uniformity, cosine_cross_entropy, cross_entropy_smoothed,
    supervised_contrastive, triplet_margin,
};
use bc_nn::{Backend, Gradients, HeadOutputs, Kind, Network, NetworkSettings, RingSettings};
use candle_core::{Device, Tensor};

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
    let mut network = Network::new(&NetworkSettings::Ring(settings), 1, &Backend::cpu()).unwrap();
    network.restore(&path).unwrap();
    // Nothing of ours is without a counterpart there, and the other way round.
    for (name, value) in network.tensors().unwrap() {
        assert_eq!(flat(&value), flat(&weights.remove(&name).unwrap()), "{name}");
    }
    assert!(weights.is_empty(), "{:?}", weights.keys());
    network
}

fn compare(name: &str, settings: RingSettings) {
    let golden = fixture(name);
    let mut network = network(&golden, settings);
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
    let backend = network.backend().clone();
    let rows = |x| {
        let rows = backend.rows(x).unwrap();
        let batch = x.shape()[1];
        Tensor::from_vec(rows, (batch, x.shape()[0]), &Device::Cpu).unwrap()
    };
    let out = pass.outputs();
    let [f_t, f_c, logits] = [&out.f_t, &out.f_c, out.logits.as_ref().unwrap()].map(rows);
    for (ours, key) in [(&f_t, "f_t"), (&f_c, "f_c"), (&logits, "logits")] {
        close(ours, &format!("trained.{key}"), OUTPUTS);
    }
    for (key, value) in network.running().tensors().unwrap() {
        close(&value, &format!("after.{key}"), STATISTICS);
    }

    let labels = [0, 0, 1, 1, 2, 2];
    let [f_t, f_c, logits] = [&f_t, &f_c, &logits].map(Matrix::of);
    let triplets = Triplets { anchors: &[0, 1], positives: &[2, 3], negatives: &[4, 5] };
    let triplet = triplet_margin(f_t.rows(), triplets, 0.3).unwrap();
    let classification = cross_entropy_smoothed(logits.rows(), &labels, 0.1).unwrap();
    let contrastive = supervised_contrastive(f_c.rows(), &labels, 0.1).unwrap();
    close(&number(triplet.value + classification.value + contrastive.value), "loss", OUTPUTS);
    let mut gradients = Gradients::new(network.parameters()).unwrap();
    let of = HeadOutputs {
        f_t: Some(backend.matrix(&triplet.gradient, f_t.dim).unwrap()),
        f_c: Some(backend.matrix(&contrastive.gradient, f_c.dim).unwrap()),
        logits: Some(backend.matrix(&classification.gradient, logits.dim).unwrap()),
    };
    pass.backward(&network, of, &mut gradients).unwrap();
    let of = |key: &str| &golden[&format!("gradient.{key}")];
    let keys: Vec<&String> =
        network.parameters().layout().entries().iter().map(|entry| &entry.name).collect();
    let most = keys.iter().map(|key| norm(&flat(of(key)))).fold(0.0, f64::max);
    for key in keys {
        let apart = apart(&gradients.get(key).unwrap().unwrap(), of(key), most / 100.0);
        assert!(apart < GRADIENTS, "{name}: the gradient of {key} is {apart:.1e} away");
    }
}

/// A matrix in memory.
struct Matrix {
    values: Vec<f32>,
    dim: usize,
}

impl Matrix {
    fn of(x: &Tensor) -> Self {
        Self { values: x.flatten_all().unwrap().to_vec1().unwrap(), dim: x.dim(1).unwrap() }
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.values, self.dim)
    }
}

fn number(value: f32) -> Tensor {
    Tensor::new(value, &Device::Cpu).unwrap()
}

/// Values of the shape of `like`.
fn shaped(values: Vec<f32>, like: &Tensor) -> Tensor {
    Tensor::from_vec(values, like.shape(), &Device::Cpu).unwrap()
}

#[test]
fn a_network_on_bins_agrees_with_pytorch() {
    let (kind, blocks) = (Kind::Ring, [1, 2, 1, 1]);
    let settings = RingSettings { kind, bins: 84, classes: 3, width: 4, blocks, projection: 10 };
    compare("ring.safetensors", settings);
}

#[test]
fn a_network_on_chroma_agrees_with_pytorch() {
    let (kind, blocks) = (Kind::Ring, [1; 4]);
    let settings = RingSettings { kind, bins: 12, classes: 3, width: 2, blocks, projection: 0 };
    compare("ring_chroma.safetensors", settings);
}

#[test]
fn losses_over_pairs_and_their_gradients_are_pytorchs() {
    let golden = fixture("pair_losses.safetensors");
    let labels: Vec<u32> = flat(&golden["labels"]).into_iter().map(|label| label as u32).collect();
    let x = Matrix::of(&golden["x"]);
    for (name, loss) in [
        ("contrastive", supervised_contrastive(x.rows(), &labels, 0.1)),
        ("alignment", alignment_uniformity(x.rows(), &labels)),
    ] {
        let loss = loss.unwrap();
        assert!(apart(&number(loss.value), &golden[name], 0.0) < 1e-6, "{name}: {}", loss.value);
        let gradient = shaped(loss.gradient, &golden["x"]);
        let apart = apart(&gradient, &golden[&format!("gradient.{name}")], 0.0);
        assert!(apart < 1e-5, "the gradient of {name} is {apart:.1e} away");
    }
}

#[test]
fn the_cosine_softmax_and_its_gradients_are_pytorchs() {
    let golden = fixture("pair_losses.safetensors");
    let labels: Vec<u32> = flat(&golden["labels"]).into_iter().map(|label| label as u32).collect();
    let [x, weight] = ["x", "weight"].map(|key| Matrix::of(&golden[key]));
    let found = cosine_cross_entropy(x.rows(), weight.rows(), &labels, 30.0, 0.1).unwrap();
    assert!(apart(&number(found.loss.value), &golden["cosine"], 0.0) < 1e-6, "{}", found.loss.value);
    for (gradient, like, key) in
        [(found.loss.gradient, "x", "gradient.cosine"), (found.weights, "weight", "gradient.cosine.weight")]
    {
        let apart = apart(&shaped(gradient, &golden[like]), &golden[key], 0.0);
        assert!(apart < 1e-5, "{key} is {apart:.1e} away");
    }
}

#[test]
fn the_classifiers_weights_get_the_gradient_of_a_loss_that_reads_them() {
    let (kind, blocks) = (Kind::Ring, [1; 4]);
    let settings = RingSettings { kind, bins: 12, classes: 3, width: 2, blocks, projection: 6 };
    let mut network = Network::new(&NetworkSettings::Ring(settings), 3, &Backend::cpu()).unwrap();
    let x = Tensor::rand(0f32, 1.0, (6, 12, 30), &Device::Cpu).unwrap();
    let classifier = network.classifier().unwrap();
    let mut gradients = Gradients::new(network.parameters()).unwrap();
    let backend = network.backend().clone();
    for times in [1.0, 2.0] {
        let pass = network.forward_train(&x).unwrap();
        let f_c = backend.rows(&pass.outputs().f_c).unwrap();
        let weights = network.parameters().values(classifier).unwrap();
        let (f_c, weights) = (Rows::new(&f_c, 6), Rows::new(&weights, 6));
        let found = cosine_cross_entropy(f_c, weights, &[0, 0, 1, 1, 2, 2], 30.0, 0.1).unwrap();
        gradients.add(classifier, &found.weights).unwrap();
        let f_c = Some(backend.matrix(&found.loss.gradient, 6).unwrap());
        pass.backward(&network, HeadOutputs { f_t: None, f_c, logits: None }, &mut gradients).unwrap();
        // The sum over the passes since the last step.
        let one = Tensor::from_vec(found.weights, (3, 6), &Device::Cpu).unwrap();
        let one = (one * times).unwrap();
        assert!(apart(&gradients.get("fc.weight").unwrap().unwrap(), &one, 0.0) < 1e-6);
        assert!(norm(&flat(&one)) > 1e-3);
    }
}

#[test]
fn the_narrower_instruction_sets_agree_as_well() {
    bc_testing::again_with("BYTECOVER_ISA", &["avx2", "baseline"], "agrees_with_pytorch");
}
