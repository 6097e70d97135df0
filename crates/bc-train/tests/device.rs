//! Training on bc-cuda's kernels on CPU threads: what a GPU does, as far as a machine without one can show it. Several
//! ranks against one, and batches that travel early against late.
#![cfg(feature = "emulated")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bc_cuda::{Gpu, Precision};
use bc_formats::config::Config;
use bc_nn::Backend;
use bc_ranks::Ranks;
use bc_train::data::Loader;
use bc_train::learner::{Learner, Losses, Sources};
use bc_train::ranks::Way;
use bc_train::setup::Setup;
use support::{TOLERANCE, config, difference, waves};

/// What a rank has learnt in a pass.
#[derive(PartialEq)]
struct Learnt {
    losses: Vec<Losses>,
    /// Bits of all weights.
    weights: Vec<Vec<u32>>,
    /// How gradients were summed.
    way: Option<Way>,
    /// Whether it had no share of some batch.
    silent: bool,
}

fn hip_cpu() -> Option<PathBuf> {
    let hip_cpu = bc_testing::shared("cuda/hip-cpu")?;
    let Some(missing) = bc_cuda::emulated::missing(&hip_cpu) else { return Some(hip_cpu) };
    bc_testing::skipped(format_args!("kernels on CPU threads: {missing}"));
    None
}

/// With `early` the next batch is always made and sent while a step runs, else never.
fn learn(hip_cpu: &Path, config: &Config, ranks: &Ranks, early: bool) -> Learnt {
    let device = bc_cuda::emulated::open(hip_cpu).unwrap();
    let backend = Backend::on_device(Gpu::new(device, Precision::F32), None);
    let setup = ranks.first_then_others(|| Setup::new(config, ranks)).unwrap();
    let sources = Sources { inputs: Default::default(), cliques: String::new() };
    let mut learner = Learner::on(&backend, config, setup.classes, &setup.input, &sources, ranks).unwrap();
    let mut loader = Loader::start(setup.assembler.clone(), setup.sampler.clone(), 1, 0, 0, 4);
    let (mut losses, mut silent) = (Vec::new(), false);
    for step in 0..setup.sampler.batches_per_pass() {
        let batch = loader.expect(0, step).unwrap();
        silent |= batch.shares.is_idle();
        while early && loader.ready().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let next = loader.ready().filter(|_| early);
        let mut of = learner.accumulate(&batch, true, next).unwrap();
        of.gradient_norm = learner.step(1e-4, 1).unwrap();
        losses.push(of);
    }
    learner.check_ranks().unwrap();
    let bits = |tensor: candle_core::Tensor| {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let weights = learner.network().tensors().unwrap().into_iter().map(|(_, tensor)| bits(tensor));
    Learnt { losses, weights: weights.collect(), way: learner.traffic().map(|traffic| traffic.way), silent }
}

fn in_each(size: usize, work: impl Fn(&Ranks) -> Learnt + Sync) -> Vec<Learnt> {
    std::thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> =
            bc_ranks::threads(size).into_iter().map(|ranks| scope.spawn(move || work(&ranks))).collect();
        started.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn ranks_train_what_one_trains_and_batches_that_travel_early_change_nothing() {
    let Some(hip_cpu) = hip_cpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = waves(folder.path());
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    // The second has passes of their own for anchors, positives and negatives; the last of its batches has three triplets.
    let triplets = ["train.batches=random-triplets", "train.triplets_per_batch=7", "train.mining=random"];
    let apart = [&triplets[..], &["train.separate_forwards=true", "train.classified=anchors"]].concat();
    for (what, overrides) in [("bytecover", &["train.mining=semi-hard"][..]), ("triplets apart", &apart)] {
        let overrides = [&data, overrides, &["train.lengths_s=[10]"]].concat();
        let config = config(&folder.path().join(what.replace(' ', "-")), &overrides);
        let of = |size: usize, early: bool| in_each(size, |ranks| learn(&hip_cpu, &config, ranks, early));
        let one = of(1, false).remove(0);
        assert!(one == of(1, true).remove(0), "{what}: a batch that travels early changes something");
        let figures = |losses: &Losses| {
            [losses.sum, losses.classification, losses.triplet, losses.gradient_norm].map(f64::from)
        };
        let curve = |learnt: &Learnt| learnt.losses.iter().map(figures).map(Vec::from).collect::<Vec<_>>();
        for size in [2, 4] {
            let several = of(size, true);
            let worst = several.iter().map(|rank| difference(&curve(&one), &curve(rank))).fold(0.0, f64::max);
            let silent = several.iter().any(|rank| rank.silent);
            assert_eq!(silent, size == 4 && what == "triplets apart", "{what}: a rank without a share");
            println!("{what} on a device: {size} ranks differ from one by {worst:.1e}");
            assert!(worst <= TOLERANCE, "{what}: {size} ranks differ from one by {worst:.1e}");
            for rank in &several {
                assert!(rank.weights == several[0].weights, "{what}: the weights of {size} ranks differ");
                assert_eq!(rank.way, Some(Way::Host));
            }
        }
    }
}
