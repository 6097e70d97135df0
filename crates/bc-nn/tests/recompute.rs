//! Recomputed activations change nothing but memory and time: outputs, gradients, running statistics and weights are the
//! same bits, for every kind of network, in one process and in two that share a batch.

use std::sync::{Arc, Barrier, Mutex};

use anyhow::Result;
use bc_formats::config::{Bottleneck, ModelConfig, NetworkKind};
use bc_nn::backend::Clipping;
use bc_nn::optim::{Adam, AdamSettings};
use bc_nn::{Backend, Gradients, HeadOutputs, Network, NetworkSettings, Peers};
use bc_testing::values;
use candle_core::{Device, Tensor};

const BATCH: usize = 5;
const FRAMES: usize = 45;
const STEPS: u32 = 3;

/// Name, network, bins.
fn networks() -> [(&'static str, ModelConfig, usize); 4] {
    let sizes = ModelConfig { width: 8, blocks: [1, 2, 1, 2], projection: 12, ..ModelConfig::default() };
    let orfium = ModelConfig { variant: Bottleneck::Orfium, projection: 0, ..sizes.clone() };
    let ring = ModelConfig { kind: NetworkKind::Ring, width: 4, ..sizes.clone() };
    [("plain", sizes, 20), ("orfium", orfium, 25), ("ring", ring.clone(), 48), ("chroma", ring, 12)]
}

/// Threads that share a batch, each with the values of all, in their order.
struct Sharing {
    rank: usize,
    meeting: Arc<Barrier>,
    table: Arc<Mutex<Vec<Vec<f64>>>>,
    /// What was asked for: the number of values of each call, negative for a sum.
    calls: Mutex<Vec<i64>>,
}

impl Sharing {
    fn two() -> [Arc<Self>; 2] {
        let (meeting, table) = (Arc::new(Barrier::new(2)), Arc::new(Mutex::new(vec![Vec::new(); 2])));
        [0, 1].map(|rank| {
            let (meeting, table) = (meeting.clone(), table.clone());
            Arc::new(Self { rank, meeting, table, calls: Mutex::default() })
        })
    }

    fn all(&self, own: &[f64]) -> Vec<Vec<f64>> {
        self.table.lock().unwrap()[self.rank] = own.to_vec();
        self.meeting.wait();
        let all = self.table.lock().unwrap().clone();
        self.meeting.wait();
        all
    }
}

impl Peers for Sharing {
    fn gather(&self, own: &[f64]) -> Result<Vec<f64>> {
        self.calls.lock().unwrap().push(own.len() as i64);
        Ok(self.all(own).concat())
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.calls.lock().unwrap().push(-(values.len() as i64));
        let all = self.all(values);
        for (place, value) in values.iter_mut().enumerate() {
            *value = all.iter().map(|own| own[place]).sum();
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        false
    }
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// Named values of three steps of two passes each: outputs, gradients, running statistics and weights.
fn train_steps(
    (model, bins): (&ModelConfig, usize),
    peers: Option<Arc<dyn Peers>>,
    rank: u32,
    recompute: bool,
) -> Vec<(String, Vec<f32>)> {
    let settings = NetworkSettings::from_config(model, bins, 7);
    let mut network = Network::with_peers(&settings, 3, &Backend::cpu(), peers).unwrap();
    network.recompute_activations(recompute);
    let backend = network.backend().clone();
    let settings = AdamSettings {
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        weight_decay: 0.01,
        decoupled: true,
        decay_vectors: false,
    };
    let mut adam = Adam::new(network.parameters(), settings).unwrap();
    let mut gradients = Gradients::new(network.parameters()).unwrap();
    let mut found = Vec::new();
    for step in 0..STEPS {
        gradients.clear().unwrap();
        for pass in 0..2 {
            let seed = 100 * rank + 2 * step + pass;
            let shape = (BATCH, bins, FRAMES);
            let x = Tensor::from_vec(values(BATCH * bins * FRAMES, seed), shape, &Device::Cpu).unwrap();
            let pass = network.forward_train(&x).unwrap();
            let outputs = pass.outputs();
            let outputs = [&outputs.f_t, &outputs.f_c, outputs.logits.as_ref().unwrap()];
            for output in outputs {
                found.push((format!("output {}", found.len()), backend.rows(output).unwrap()));
            }
            let [f_t, f_c, logits] = outputs.map(|output| {
                let weights: Vec<f32> =
                    values(output.count(), 1000 + seed).iter().map(|weight| weight - 0.5).collect();
                Some(backend.matrix(&weights, output.shape()[0]).unwrap())
            });
            pass.backward(&network, HeadOutputs { f_t, f_c, logits }, &mut gradients).unwrap();
        }
        for (index, entry) in network.parameters().layout().entries().iter().enumerate() {
            let gradient = gradients.values(index).unwrap().unwrap();
            found.push((format!("step {step}: gradient of {}", entry.name), gradient));
        }
        let clipping = Clipping { gradient_scale: 0.5, max_norm: 0.7 };
        adam.step(network.parameters_mut(), &gradients, clipping, 1e-3).unwrap();
        for (name, tensor) in network.tensors().unwrap() {
            found.push((format!("step {step}: {name}"), flat(&tensor)));
        }
    }
    found
}

fn assert_same_bits(name: &str, ours: &[(String, Vec<f32>)], theirs: &[(String, Vec<f32>)]) {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().any(|(name, _)| name.ends_with("running_var")), "{name}");
    for ((what, ours), (_, theirs)) in ours.iter().zip(theirs) {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert!(ours.iter().all(|value| value.is_finite()), "{name}, {what}");
        assert!(bits(ours) == bits(theirs), "{name}, {what}: other bits where activations are recomputed");
    }
}

#[test]
fn recomputed_activations_give_the_same_bits() {
    for (name, model, bins) in networks() {
        let at = (&model, bins);
        assert_same_bits(name, &train_steps(at, None, 0, true), &train_steps(at, None, 0, false));
    }
}

#[test]
fn two_processes_that_share_a_batch_get_the_same_bits_too_and_ask_each_other_the_same() {
    for (name, model, bins) in networks() {
        let shared = |recompute: bool| {
            let peers = Sharing::two();
            let found = std::thread::scope(|scope| {
                let started = peers.clone().map(|own| {
                    let (model, rank) = (&model, own.rank as u32);
                    scope.spawn(move || train_steps((model, bins), Some(own), rank, recompute))
                });
                started.map(|thread| thread.join().unwrap())
            });
            (found, peers.map(|own| std::mem::take(&mut *own.calls.lock().unwrap())))
        };
        let (plain, [plain_calls, _]) = shared(false);
        let (recomputed, [one, other]) = shared(true);
        for (ours, theirs) in recomputed.iter().zip(&plain) {
            assert_same_bits(name, ours, theirs);
        }
        assert_eq!(one, other, "{name}: the processes make other calls");
        assert!(one.len() > plain_calls.len(), "{name}: nothing was recomputed");
    }
}
