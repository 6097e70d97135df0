//! Times the network alone on random input, for comparison with PyTorch.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::backend::{Backend, Clipping};
use crate::clock::cpu_seconds;
use crate::loss::{Rows, Triplets, supervised_contrastive};
use crate::optim::{Adam, AdamSettings};
use crate::{Gradients, HeadOutputs, Network, NetworkSettings, OutputGradients, Pass, memory};

/// What is timed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The backend that it runs on.
    pub backend: Backend,
    /// The network; without a classifier it is trained by the contrastive loss.
    pub network: NetworkSettings,
    /// Samples per batch.
    pub batch: usize,
    /// Number of columns of a sample.
    pub frames: usize,
    /// Timed steps, after two untimed ones.
    pub steps: usize,
    /// Whether only the input of each residual block is kept for the backward pass.
    pub recompute_activations: bool,
}

/// Medians of the timed steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Seconds of a training step: forward, losses, backward, Adam.
    pub train_s: f64,
    /// Samples per second in training.
    pub train_samples_per_s: f64,
    /// Seconds of a forward pass by running statistics.
    pub infer_s: f64,
    /// Samples per second in the forward pass.
    pub infer_samples_per_s: f64,
    /// CPU seconds of a training step, summed over all threads, if the system reports them. Other work on the machine affects
    /// this time least.
    pub train_cpu_s: Option<f64>,
    /// CPU seconds of a forward pass.
    pub infer_cpu_s: Option<f64>,
    /// Peak memory of the process.
    #[serde(rename = "peak_GiB")]
    pub peak_gib: Option<f64>,
}

/// Times the network.
///
/// # Errors
/// A batch too small for a triplet.
pub fn run(settings: &Settings) -> Result<Report> {
    let Settings { backend, network, batch, frames, steps, recompute_activations } = settings;
    let (batch, bins, classes) = (*batch, network.bins(), network.classes());
    ensure!(
        batch >= 3 && *steps > 0,
        "a triplet needs a batch of at least 3, and a median at least one step"
    );
    ensure!(classes == 0 || classes > batch / 2, "{classes} classes for the labels of {batch} samples");
    let mut network = Network::new(network, 0, backend)?;
    network.recompute_activations(*recompute_activations);
    let adam = AdamSettings {
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        decay_vectors: true,
    };
    let mut optimizer = Adam::new(network.parameters(), adam)?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let values: Vec<f32> = (0..batch * bins * frames).map(|_| rng.random()).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|item| item / 2).collect();
    let images = network.images(&values, [batch, bins, *frames])?;
    let x = Tensor::from_vec(values, (batch, bins, *frames), &Device::Cpu)?;

    let mut gradients = Gradients::new(network.parameters())?;
    let (train_s, train_cpu_s) = timed(*steps, || {
        gradients.clear()?;
        let pass = network.forward_train_images(&images)?;
        let of = losses(backend, &pass, &labels)?;
        pass.backward(&network, of, &mut gradients)?;
        let clipping = Clipping { gradient_scale: 1.0, max_norm: 0.0 };
        optimizer.step(network.parameters_mut(), &gradients, clipping, 1e-4).map(drop)
    })?;
    let (infer_s, infer_cpu_s) = timed(*steps, || network.forward(&x).map(drop))?;
    Ok(Report {
        train_s,
        train_samples_per_s: batch as f64 / train_s,
        infer_s,
        infer_samples_per_s: batch as f64 / infer_s,
        train_cpu_s,
        infer_cpu_s,
        peak_gib: memory::peak_gib(),
    })
}

/// Returns the gradients of the outputs: of cross entropy and a triplet loss on neighbouring samples, or of the contrastive
/// loss if there is no classifier.
fn losses(backend: &Backend, pass: &Pass, labels: &[u32]) -> Result<OutputGradients> {
    let HeadOutputs { f_t, f_c, logits } = pass.outputs();
    let Some(logits) = logits else {
        let (rows, dim) = (backend.rows(f_c)?, f_c.shape()[0]);
        let loss = supervised_contrastive(Rows::new(&rows, dim), labels, 0.1)?;
        return Ok(HeadOutputs { f_t: None, f_c: Some(backend.matrix(&loss.gradient, dim)?), logits: None });
    };
    let batch = labels.len();
    let rolled = |by: usize| (0..batch).map(|i| ((i + batch - by) % batch) as u32).collect::<Vec<_>>();
    let (anchors, positives, negatives) = (rolled(0), rolled(1), rolled(2));
    let triplets = Triplets { anchors: &anchors, positives: &positives, negatives: &negatives };
    let (_, of_logits) = backend.cross_entropy(logits, labels, 0.1, 1.0)?;
    let (_, of_f_t) = backend.triplet_margin(f_t, triplets, 0.3, 1.0)?;
    Ok(HeadOutputs { f_t: Some(of_f_t), f_c: None, logits: Some(of_logits) })
}

/// Returns the medians of wall-clock and CPU seconds of `work`.
fn timed(steps: usize, mut work: impl FnMut() -> Result<()>) -> Result<(f64, Option<f64>)> {
    let (mut times, mut processor) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
    for step in 0..steps + 2 {
        let (started, before) = (Instant::now(), cpu_seconds());
        work()?;
        if step >= 2 {
            times.push(started.elapsed().as_secs_f64());
            processor.extend(before.zip(cpu_seconds()).map(|(before, after)| after - before));
        }
    }
    Ok((median(times).context("no step was timed")?, median(processor)))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
