//! Whole networks on a device against the CPU: outputs, losses, gradients, weights after a step, for every kind of
//! network. On bc-cuda's kernels on CPU threads (feature `emulated`) and on a GPU (feature `cuda`, device
//! `BYTECOVER_DEVICE`).
//!
//! 32 bits: sums are taken in another order, and a normalisation of a small batch amplifies that; 5e-5 of the norm of an
//! output, 1e-4 of that of a gradient (of at least a hundredth of the largest). bf16 rounds to 8 bits at every layer:
//! outputs are within a tenth. Gradients of such a network in bf16 say nothing as a whole: each operator is compared with
//! the processor's on its own input instead ([`checked`]), one rounding away.
#![cfg(feature = "device")]

mod checked;
mod processes;

use std::sync::{Arc, Mutex};

use bc_cuda::Gpu;
use bc_formats::config::{Bottleneck, ModelConfig, NetworkKind};
use bc_nn::backend::Clipping;
use bc_nn::loss::Triplets;
use bc_nn::optim::{Adam, AdamSettings};
use bc_nn::{Backend, Gradients, HeadOutputs, MemoryOptions, Network, NetworkSettings};
use bc_testing::values;
use candle_core::{Device, Tensor};

const BATCH: usize = 6;

const ADAM: AdamSettings = AdamSettings {
    betas: [0.9, 0.999],
    // Large: with a small one the first step is the gradient's sign, which rounding decides where it is nearly zero.
    epsilon: 1e-2,
    weight_decay: 0.01,
    decoupled: true,
    decay_vectors: false,
};

/// A GPU that no other test uses now. It is kept open: cuDNN times the algorithms of a convolution once for each device, which
/// takes longer than all else here.
#[cfg(feature = "cuda")]
fn opened(name: &str) -> Arc<bc_cuda::cuda::CudaDevice> {
    static OPEN: Mutex<Vec<Arc<bc_cuda::cuda::CudaDevice>>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(idle) = open.iter().find(|device| Arc::strong_count(device) == 1) {
        return Arc::clone(idle);
    }
    open.push(bc_cuda::cuda::open(name).unwrap());
    Arc::clone(&open[open.len() - 1])
}

/// Devices that this build and machine have, in a precision; of each kind as many as there are processes.
fn gpus(precision: &str, processes: usize) -> Vec<Vec<Gpu>> {
    let mut found = Vec::new();
    #[cfg(feature = "emulated")]
    if let Some(hip_cpu) = bc_testing::shared("cuda/hip-cpu") {
        match bc_cuda::emulated::missing(&hip_cpu) {
            Some(missing) => bc_testing::skipped(format_args!("kernels on CPU threads: {missing}")),
            None => {
                let open = |_| bc_cuda::emulated::open(&hip_cpu).unwrap();
                found.push(
                    (0..processes)
                        .map(open)
                        .map(|device| Gpu::new(device, precision.parse().unwrap()))
                        .collect(),
                );
            }
        }
    }
    #[cfg(feature = "cuda")]
    match std::env::var("BYTECOVER_DEVICE") {
        Ok(name) => {
            let open = |_| Gpu::new(opened(&name), precision.parse().unwrap());
            found.push((0..processes).map(open).collect());
        }
        Err(_) => bc_testing::skipped("BYTECOVER_DEVICE names no GPU"),
    }
    found
}

/// One device of each kind.
fn devices(precision: &str) -> Vec<Gpu> {
    gpus(precision, 1).into_iter().flatten().collect()
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

fn apart(ours: &[f32], theirs: &[f32], least: f64) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let difference: Vec<f32> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(theirs).max(least)
}

/// To the nearest number of 8 places, of two the even one.
fn round_to_bf16(values: &mut [f32]) {
    for value in values {
        let bits = value.to_bits();
        *value = f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
    }
}

/// Named values of a step: of evaluation, training and weights, and gradients.
fn computed(settings: &NetworkSettings, backend: &Backend, recompute: bool) -> [Vec<(String, Vec<f32>)>; 2] {
    let mut network = Network::new(settings, 3, backend).unwrap();
    network.recompute_activations(recompute);
    let mut adam = Adam::new(network.parameters(), ADAM).unwrap();
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
    let clipping = Clipping { gradient_scale: 1.0, max_norm: 1.0 };
    let length = adam.step(network.parameters_mut(), &gradients, clipping, 1e-3).unwrap();
    outputs.push(("norm".to_owned(), vec![length as f32]));
    for (name, tensor) in network.tensors().unwrap() {
        outputs.push((format!("{name} after a step"), flat(&tensor)));
    }
    [outputs, of]
}

/// Kinds of networks, each with its bins.
fn networks() -> [(&'static str, NetworkSettings); 4] {
    let sizes = ModelConfig { width: 16, blocks: [1, 2, 1, 1], projection: 24, ..ModelConfig::default() };
    let orfium = ModelConfig { variant: Bottleneck::Orfium, projection: 0, ..sizes.clone() };
    let ring = ModelConfig { kind: NetworkKind::Ring, width: 8, ..sizes.clone() };
    [("plain", &sizes, 20), ("orfium", &orfium, 25), ("ring", &ring, 48), ("chroma", &ring, 12)]
        .map(|(name, model, bins)| (name, NetworkSettings::from_config(model, bins, 5)))
}

/// The largest distance of two lists, relative to a norm of at least a hundredth of the largest.
fn worst<'a>(ours: &[(String, Vec<f32>)], theirs: &'a [(String, Vec<f32>)]) -> (f64, &'a str) {
    let most = theirs.iter().map(|(_, values)| norm(values)).fold(0.0, f64::max);
    let mut worst = (0f64, "");
    for ((_, ours), (name, theirs)) in ours.iter().zip(theirs) {
        let apart = apart(ours, theirs, most / 100.0);
        if apart > worst.0 || apart.is_nan() {
            worst = (apart, name);
        }
    }
    worst
}

/// Outputs and weights are within the first tolerance, gradients within the second, if there is one.
fn compare(precision: &str, tolerances: &[f64]) {
    for backend in devices(precision).into_iter().map(|gpu| Backend::on_device(gpu, None)) {
        for (name, settings) in networks() {
            let (theirs, ours) =
                (computed(&settings, &Backend::cpu(), false), computed(&settings, &backend, false));
            for ((ours, theirs), tolerance) in ours.iter().zip(&theirs).zip(tolerances) {
                let worst = worst(ours, theirs);
                println!("{precision}, {name}: {} is {:.1e} away", worst.1, worst.0);
                assert!(worst.0 < *tolerance, "{precision}, {name}: {} is {:.1e} away", worst.1, worst.0);
            }
        }
    }
}

#[test]
fn a_device_agrees_with_the_cpu() {
    compare("f32", &[5e-5, 1e-4]);
}

#[test]
fn with_bf16_it_comes_near() {
    compare("bf16", &[0.1]);
}

/// Weights that 16 bits hold as they are, so that a device's copies are the weights; and scales and shifts of norms that
/// are not 1 and 0: with a shift of 0 a value that is its channel's mean, as one of few numbers of 8 places may well be,
/// comes to lie on the ReLU's edge, and rounding decides whether its gradient passes.
fn prepare_weights(network: &mut Network) {
    let parameters = network.parameters_mut();
    let mut prepared = std::collections::BTreeMap::new();
    for (seed, (name, tensor)) in (10..).zip(parameters.tensors().unwrap()) {
        let mut weights = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        if tensor.rank() == 1 && name != "gem_pool.p" {
            let moved = values(weights.len(), seed);
            weights.iter_mut().zip(moved).for_each(|(weight, by)| *weight += 0.6 * (by - 0.5));
        }
        round_to_bf16(&mut weights);
        prepared.insert(name, Tensor::from_vec(weights, tensor.dims(), &Device::Cpu).unwrap());
    }
    parameters.assign(&prepared).unwrap();
}

#[test]
fn every_operator_of_a_network_is_at_most_a_rounding_away_on_its_own_input() {
    for precision in ["f32", "bf16"] {
        for gpu in devices(precision) {
            for (name, settings) in networks() {
                let found = Arc::new(Mutex::new(checked::Found::new()));
                let device = Backend::on_device(gpu.clone(), None);
                let backend = Backend::of(checked::Checked::new(device, precision == "bf16", found.clone()));
                let mut network = Network::new(&settings, 3, &backend).unwrap();
                prepare_weights(&mut network);
                let mut gradients = Gradients::new(network.parameters()).unwrap();
                gradients.clear().unwrap();
                let shape = (BATCH, settings.bins(), 41);
                let x = Tensor::from_vec(values(shape.0 * shape.1 * shape.2, 1), shape, &Device::Cpu);
                let pass = network.forward_train(&x.unwrap()).unwrap();
                let outputs = pass.outputs().clone();
                let lists = [[0, 0, 2], [1, 1, 3], [2, 4, 5]];
                let triplets = Triplets { anchors: &lists[0], positives: &lists[1], negatives: &lists[2] };
                let (_, f_t) = backend.triplet_margin(&outputs.f_t, triplets, 0.3, 2.0).unwrap();
                let logits = outputs.logits.as_ref().unwrap();
                let (_, logits) = backend.cross_entropy(logits, &[0, 1, 2, 0], 0.1, 0.5).unwrap();
                let of = HeadOutputs { f_t: Some(f_t), f_c: None, logits: Some(logits) };
                pass.backward(&network, of, &mut gradients).unwrap();
                let found = found.lock().unwrap();
                println!("{precision}, {name}: {found:?}");
                // Every weight of a convolution or linear layer had its gradient compared.
                let entries = network.parameters().layout().entries();
                let weights = entries.iter().filter(|entry| entry.shape.len() > 1).count();
                assert_eq!(found["gradient of a convolution's weights"].0, weights);
                assert_eq!(found["convolution"].0, weights);
            }
        }
    }
}

#[test]
fn recomputed_activations_give_the_same_bits_on_a_device() {
    for precision in ["f32", "bf16"] {
        for backend in devices(precision).into_iter().map(|gpu| Backend::on_device(gpu, None)) {
            for (name, settings) in networks() {
                let [kept, recomputed] =
                    [false, true].map(|recompute| computed(&settings, &backend, recompute));
                for ((what, ours), (_, theirs)) in recomputed.iter().flatten().zip(kept.iter().flatten()) {
                    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert!(bits(ours) == bits(theirs), "{precision}, {name}: other bits of {what}");
                }
            }
        }
    }
}

/// A device gives memory in blocks of up to an eighth more, and reuses one that is up to a quarter larger, as the padded
/// copies of a ring are: 1.24 times were seen.
#[test]
fn a_step_takes_the_memory_of_a_device_that_is_foretold() {
    let sizes = ModelConfig { width: 16, blocks: [1, 2, 2, 1], ..ModelConfig::default() };
    let ring = ModelConfig { kind: NetworkKind::Ring, width: 8, projection: 32, ..sizes.clone() };
    for precision in ["f32", "bf16"] {
        let named = bc_nn::backend::Precision::named(precision).unwrap();
        for (name, model, frames) in [("plain", &sizes, 120), ("ring", &ring, 100), ("ring", &ring, 160)] {
            for recompute in [false, true] {
                for gpu in devices(precision) {
                    let settings = NetworkSettings::from_config(model, 84, 5);
                    let estimated = settings.memory(84, frames, MemoryOptions::on_gpu(named, recompute));
                    let backend = Backend::on_device(gpu.clone(), None);
                    let mut network = Network::new(&settings, 3, &backend).unwrap();
                    network.recompute_activations(recompute);
                    let mut gradients = Gradients::new(network.parameters()).unwrap();
                    let _moments = Adam::new(network.parameters(), ADAM).unwrap();
                    let before = gpu.usage().used;
                    // Weights, their copies, gradients and moments; small vectors begin at multiples of 64 values.
                    let fixed = before as f64 / estimated.fixed as f64;
                    println!("{precision}, {name}: the network takes {fixed:.3} times what is estimated");
                    assert!((1.0..1.25).contains(&fixed), "{precision}, {name}: {fixed:.3} times");
                    let x = values(BATCH * 84 * frames, 1);
                    let images = network.images(&x, [BATCH, 84, frames]).unwrap();
                    let pass = network.forward_train_images(&images).unwrap();
                    let logits = pass.outputs().logits.as_ref().unwrap();
                    let (_, logits) = backend.cross_entropy(logits, &[0, 1, 2, 0], 0.1, 0.5).unwrap();
                    let of = HeadOutputs { f_t: None, f_c: None, logits: Some(logits) };
                    pass.backward(&network, of, &mut gradients).unwrap();
                    let taken = gpu.usage().peak - before;
                    let off = taken as f64 / (BATCH * estimated.sample) as f64;
                    println!("{precision}, {name}, {frames} frames, recomputed {recompute}: {off:.3} times");
                    assert!((0.97..1.3).contains(&off), "{precision}, {name}, {frames}: {off:.3} times");
                }
            }
        }
    }
}
