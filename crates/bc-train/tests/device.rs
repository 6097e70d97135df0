//! Trains with bc-cuda's kernels emulated on CPU threads, and compares several ranks with one, and batches that are sent
//! early with batches that are sent late.
#![cfg(feature = "emulated")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bc_cuda::{Gpu, Precision};
use bc_formats::config::Config;
use bc_nn::Backend;
use bc_ranks::Ranks;
use bc_train::data::Loader;
use bc_train::learner::{DataFingerprints, Learner, Losses};
use bc_train::ranks::ReductionPath;
use bc_train::setup::Setup;
use support::{TOLERANCE, config, difference, waves};

/// The result of one rank after a pass.
#[derive(PartialEq)]
struct RankResult {
    losses: Vec<Losses>,
    /// Bits of all weights.
    weights: Vec<Vec<u32>>,
    /// The path that gradients took when they were summed.
    path: Option<ReductionPath>,
    /// Whether it had no share of some batch.
    idle: bool,
}

fn hip_cpu() -> Option<PathBuf> {
    let hip_cpu = bc_testing::shared("cuda/hip-cpu")?;
    let Some(missing) = bc_cuda::emulated::missing(&hip_cpu) else { return Some(hip_cpu) };
    bc_testing::skipped(format_args!("kernels on CPU threads: {missing}"));
    None
}

/// Trains for a pass. With `early`, the next batch is always sent while a step runs, otherwise never.
fn learn(hip_cpu: &Path, config: &Config, ranks: &Ranks, early: bool) -> RankResult {
    let device = bc_cuda::emulated::open(hip_cpu).unwrap();
    let backend = Backend::on_device(Gpu::new(device, Precision::F32), None);
    let setup = ranks.first_then_others(|| Setup::new(config, ranks)).unwrap();
    let sources = DataFingerprints { inputs: Default::default(), cliques: String::new() };
    let mut learner =
        Learner::on_backend(&backend, config, setup.classes, &setup.input, &sources, ranks).unwrap();
    let mut loader = Loader::start(setup.assembler.clone(), setup.sampler.clone(), 1, 0, 0, 4);
    let (mut losses, mut idle) = (Vec::new(), false);
    for step in 0..setup.sampler.batches_per_pass() {
        let batch = loader.expect(0, step).unwrap();
        idle |= batch.shares.is_idle();
        while early && loader.peek().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let next = loader.peek().filter(|_| early);
        let mut step = learner.accumulate(&batch, true, next).unwrap();
        step.gradient_norm = learner.step(1e-4, 1).unwrap();
        losses.push(step);
    }
    learner.check_ranks().unwrap();
    let bits = |tensor: candle_core::Tensor| {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let weights = learner.network().tensors().unwrap().into_iter().map(|(_, tensor)| bits(tensor));
    RankResult {
        losses,
        weights: weights.collect(),
        path: learner.reduction_cost().map(|cost| cost.path),
        idle,
    }
}

fn in_each(size: usize, work: impl Fn(&Ranks) -> RankResult + Sync) -> Vec<RankResult> {
    std::thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> =
            bc_ranks::threads(size).into_iter().map(|ranks| scope.spawn(move || work(&ranks))).collect();
        started.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn several_ranks_or_early_sent_batches_train_like_one_rank() {
    let Some(hip_cpu) = hip_cpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = waves(folder.path());
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    // The second one has separate passes for anchors, positives and negatives; its last batch has three triplets.
    let triplets = ["train.batches=random-triplets", "train.triplets_per_batch=7", "train.mining=random"];
    let separate = [&triplets[..], &["train.separate_forwards=true", "train.classified=anchors"]].concat();
    for (what, overrides) in
        [("bytecover", &["train.mining=semi-hard"][..]), ("separate triplets", &separate)]
    {
        let overrides = [&data, overrides, &["train.lengths_s=[10]"]].concat();
        let config = config(&folder.path().join(what.replace(' ', "-")), &overrides);
        let train = |size: usize, early: bool| in_each(size, |ranks| learn(&hip_cpu, &config, ranks, early));
        let single = train(1, false).remove(0);
        assert!(single == train(1, true).remove(0), "{what}: sending batches early changes the result");
        let figures = |losses: &Losses| {
            [losses.sum, losses.classification, losses.triplet, losses.gradient_norm].map(f64::from)
        };
        let curve =
            |result: &RankResult| result.losses.iter().map(figures).map(Vec::from).collect::<Vec<_>>();
        for size in [2, 4] {
            let several = train(size, true);
            let worst =
                several.iter().map(|rank| difference(&curve(&single), &curve(rank))).fold(0.0, f64::max);
            let idle = several.iter().any(|rank| rank.idle);
            assert_eq!(idle, size == 4 && what == "separate triplets", "{what}: a rank without a share");
            println!("{what} on a device: {size} ranks differ from one by {worst:.1e}");
            assert!(worst <= TOLERANCE, "{what}: {size} ranks differ from one by {worst:.1e}");
            for rank in &several {
                assert!(rank.weights == several[0].weights, "{what}: the weights of {size} ranks differ");
                assert_eq!(rank.path, Some(ReductionPath::Host));
            }
        }
    }
}
