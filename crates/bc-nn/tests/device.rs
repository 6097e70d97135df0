//! Whole networks on a device against the CPU: outputs, losses, gradients, weights after a step, for every kind of
//! network. On bc-cuda's kernels on CPU threads (feature `emulated`) and on a GPU (feature `cuda`, device
//! `BYTECOVER_DEVICE`).
//!
//! 32 bits: sums are taken in another order, and a normalisation of a small batch amplifies that; 5e-5 of the norm of an
//! output, 1e-4 of that of a gradient (of at least a hundredth of the largest). bf16 rounds to 8 bits at every layer:
//! outputs within a tenth, gradients of these untrained networks of a batch of six within their own norm.
#![cfg(feature = "device")]

use bc_formats::config::{Bottleneck, ModelConfig, NetworkKind};
use bc_nn::backend::Clipping;
use bc_nn::loss::Triplets;
use bc_nn::optim::{Adam, AdamSettings};
use bc_nn::{Backend, Gradients, HeadOutputs, Network, NetworkSettings};
use candle_core::{Device, Tensor};

const BATCH: usize = 6;

/// Devices that this build and machine have, in a precision.
fn devices(precision: &str) -> Vec<Backend> {
    let mut found = Vec::new();
    #[cfg(feature = "emulated")]
    if let Some(hip_cpu) = bc_testing::shared("cuda/hip-cpu") {
        match bc_cuda::emulated::missing(&hip_cpu) {
            Some(missing) => bc_testing::skipped(format_args!("kernels on CPU threads: {missing}")),
            None => {
                let device = bc_cuda::emulated::open(&hip_cpu).unwrap();
                found.push(Backend::on_device(bc_cuda::Gpu::new(device, precision.parse().unwrap())));
            }
        }
    }
    #[cfg(feature = "cuda")]
    match std::env::var("BYTECOVER_DEVICE") {
        Ok(name) => {
            let precision = bc_nn::backend::Precision::named(precision).unwrap();
            found.push(Backend::open(&name, precision).unwrap());
        }
        Err(_) => bc_testing::skipped("BYTECOVER_DEVICE names no GPU"),
    }
    found
}

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mix = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8;
    (0..count as u32).map(|n| mix(n ^ seed << 20) as f32 / 16_777_216.0).collect()
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

fn apart(ours: &[f32], theirs: &[f32], least: f64) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let difference: Vec<f32> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(theirs).max(least)
}

/// Named values of two steps: of evaluation, training, gradients and weights.
fn computed(settings: &NetworkSettings, backend: &Backend) -> [Vec<(String, Vec<f32>)>; 2] {
    let mut network = Network::new(settings, 3, backend).unwrap();
    let adam = AdamSettings {
        betas: [0.9, 0.999],
        // Large: with a small one the first step is the gradient's sign, which rounding decides where it is nearly zero.
        epsilon: 1e-2,
        weight_decay: 0.01,
        decoupled: true,
        decay_vectors: false,
    };
    let mut adam = Adam::new(network.parameters(), adam).unwrap();
    let mut gradients = Gradients::new(network.parameters()).unwrap();
    let shape = (BATCH, settings.bins(), 41);
    let x = Tensor::from_vec(values(shape.0 * shape.1 * shape.2, 1), shape, &Device::Cpu).unwrap();
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (mut outputs, mut of) = (Vec::new(), Vec::new());
    gradients.clear().unwrap();
    let pass = network.forward_train(&x).unwrap();
    let found = pass.outputs().clone();
    let logits = found.logits.as_ref().unwrap();
    let lists = [[0, 0, 2], [1, 1, 3], [2, 4, 5]];
    let triplets = Triplets { anchors: &lists[0], positives: &lists[1], negatives: &lists[2] };
    let (triplet, f_t) = backend.triplet_margin(&found.f_t, triplets, 0.3, 2.0).unwrap();
    let (loss, of_logits) = backend.cross_entropy(logits, &[0, 1, 2, 0], 0.1, 0.5).unwrap();
    for (name, x) in [("f_t", &found.f_t), ("f_c", &found.f_c), ("logits", logits)] {
        outputs.push((name.to_owned(), backend.rows(x).unwrap()));
    }
    for (name, x) in [("triplet", &triplet), ("loss", &loss)] {
        outputs.push((name.to_owned(), backend.rows(x).unwrap()));
    }
    outputs.push(("distances".to_owned(), backend.squared_distances(&found.f_t).unwrap()));
    let columns = HeadOutputs { f_t: Some(f_t), f_c: None, logits: Some(of_logits) };
    pass.backward(&network, columns, &mut gradients).unwrap();
    for entry in network.parameters().layout().entries() {
        let gradient = gradients.get(&entry.name).unwrap().unwrap();
        of.push((format!("gradient of {}", entry.name), flat(&gradient)));
    }
    let evaluated = network.forward(&x).unwrap();
    for (name, x) in [("f_t", &evaluated.f_t), ("f_c", &evaluated.f_c)] {
        outputs.push((format!("evaluated {name}"), flat(x)));
    }
    let clipping = Clipping { mean: 1.0, most: 1.0 };
    let length = adam.step(network.parameters_mut(), &gradients, clipping, 1e-3).unwrap();
    outputs.push(("norm".to_owned(), vec![length as f32]));
    for (name, tensor) in network.tensors().unwrap() {
        outputs.push((format!("{name} after a step"), flat(&tensor)));
    }
    [outputs, of]
}

fn compare(precision: &str, tolerances: [f64; 2]) {
    let sizes = ModelConfig { width: 16, blocks: [1, 2, 1, 1], projection: 24, ..ModelConfig::default() };
    let orfium = ModelConfig { variant: Bottleneck::Orfium, projection: 0, ..sizes.clone() };
    let ring = ModelConfig { kind: NetworkKind::Ring, width: 8, ..sizes.clone() };
    for backend in devices(precision) {
        for (name, model, bins) in
            [("plain", &sizes, 20), ("orfium", &orfium, 25), ("ring", &ring, 48), ("chroma", &ring, 12)]
        {
            let settings = NetworkSettings::from_config(model, bins, 5);
            let (theirs, ours) = (computed(&settings, &Backend::cpu()), computed(&settings, &backend));
            for ((ours, theirs), tolerance) in ours.iter().zip(&theirs).zip(tolerances) {
                let most = theirs.iter().map(|(_, values)| norm(values)).fold(0.0, f64::max);
                let mut worst = (0f64, "");
                for ((name, ours), (_, theirs)) in ours.iter().zip(theirs) {
                    let apart = apart(ours, theirs, most / 100.0);
                    if apart > worst.0 || apart.is_nan() {
                        worst = (apart, name);
                    }
                }
                println!("{precision}, {name}: {} is {:.1e} away", worst.1, worst.0);
                assert!(worst.0 < tolerance, "{precision}, {name}: {} is {:.1e} away", worst.1, worst.0);
            }
        }
    }
}

#[test]
fn a_device_computes_what_the_cpu_does() {
    compare("f32", [5e-5, 1e-4]);
}

#[test]
fn with_bf16_it_comes_near() {
    compare("bf16", [0.1, 1.0]);
}
