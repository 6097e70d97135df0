//! What `NetworkSettings::memory` says of a training step on the processor, against what its operators take from the
//! allocator: both kinds of networks, two lengths, activations kept and recomputed.
//!
//! The estimate counts arrays of activations and gradients: what a longer sample takes more is estimated within 1 %. What
//! operators work in for a moment whatever the batch (a copy of weights with their taps reversed, packed panels of products,
//! weights and blocks of tiles transformed by Winograd's filtering, for each thread) is not in it, and is less than 4 MiB
//! here.

use bc_formats::config::{Bottleneck, ModelConfig, NetworkKind};
use bc_nn::backend::Clipping;
use bc_nn::optim::{Adam, AdamSettings};
use bc_nn::{Backend, Gradients, HeadOutputs, MemoryOptions, Network, NetworkSettings};

#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

const BATCH: usize = 12;
/// Bytes that operators work in.
const WORKING: f64 = 4.0 * 1_048_576.0;

const ADAM: AdamSettings = AdamSettings {
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    weight_decay: 0.0,
    decoupled: false,
    decay_vectors: true,
};

struct Trained {
    network: Network,
    adam: Adam,
    gradients: Gradients,
}

impl Trained {
    fn new(settings: &NetworkSettings, recompute: bool) -> Self {
        let mut network = Network::new(settings, 3, &Backend::cpu()).unwrap();
        network.recompute_activations(recompute);
        let adam = Adam::new(network.parameters(), ADAM).unwrap();
        let gradients = Gradients::new(network.parameters()).unwrap();
        Self { network, adam, gradients }
    }

    fn step(&mut self, values: &[f32], frames: usize) {
        let Self { network, adam, gradients } = self;
        let backend = network.backend().clone();
        gradients.clear().unwrap();
        let images = network.images(values, [BATCH, network.settings().bins(), frames]).unwrap();
        let pass = network.forward_train_images(&images).unwrap();
        let (_, logits) =
            backend.cross_entropy(pass.outputs().logits.as_ref().unwrap(), &[1; BATCH], 0.1, 1.0).unwrap();
        let of = HeadOutputs { f_t: None, f_c: None, logits: Some(logits) };
        pass.backward(network, of, gradients).unwrap();
        let clipping = Clipping { gradient_scale: 1.0, max_norm: 1.0 };
        adam.step(network.parameters_mut(), gradients, clipping, 1e-3).unwrap();
    }
}

/// Bytes that a second step takes at most, and those that the network holds with its gradients and moments.
fn measured(settings: &NetworkSettings, frames: usize, recompute: bool) -> [usize; 2] {
    let bins = settings.bins();
    let values: Vec<f32> = (0..BATCH * bins * frames).map(|i| (i % 1013) as f32 / 1013.0).collect();
    let (mut trained, made) = bc_testing::memory::bytes_retained(|| Trained::new(settings, recompute));
    // The first step of all makes what the threads keep.
    trained.step(&values, frames);
    let ((), taken) = bc_testing::memory::peak_bytes(|| trained.step(&values, frames));
    [taken, made]
}

#[test]
fn a_step_takes_the_memory_that_is_foretold() {
    // What operators work in is per thread.
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().unwrap();
    let sizes = ModelConfig { width: 16, blocks: [3, 4, 6, 3], ..ModelConfig::default() };
    let orfium = ModelConfig { variant: Bottleneck::Orfium, ..sizes.clone() };
    let ring = ModelConfig { kind: NetworkKind::Ring, blocks: [1, 2, 2, 1], projection: 64, ..sizes.clone() };
    let networks =
        [("plain", &sizes, 84), ("orfium", &orfium, 84), ("ring", &ring, 84), ("chroma", &ring, 12)];
    for (name, model, bins) in networks {
        let settings = NetworkSettings::from_config(model, bins, 30);
        for recompute in [false, true] {
            let steps = [96, 230].map(|frames| {
                let estimated = settings.memory(bins, frames, MemoryOptions::on_cpu(recompute));
                let [taken, made] = measured(&settings, frames, recompute);
                let over = taken as f64 - (BATCH * estimated.sample) as f64;
                let text = format!(
                    "{name}, {frames} frames, recomputed {recompute}: {taken} bytes for a step, {over} more than \
                     estimated; {made} for the network, estimated {}",
                    estimated.fixed
                );
                println!("{text}");
                let one_percent = 0.01 * taken as f64;
                assert!((-one_percent..one_percent + WORKING).contains(&over), "{text}");
                // Small vectors begin at multiples of 64 values, and there are tables of names.
                assert!((estimated.fixed..estimated.fixed * 11 / 10).contains(&made), "{text}");
                [taken as f64, (BATCH * estimated.sample) as f64]
            });
            let [taken, estimated] = [0, 1].map(|which| steps[1][which] - steps[0][which]);
            let off = taken / estimated - 1.0;
            println!("{name}, recomputed {recompute}: {:+.2} % by more frames than estimated", 100.0 * off);
            assert!(off.abs() < 0.01, "{name}, recomputed {recompute}: {off:+.3} of what more frames take");
        }
    }
}
