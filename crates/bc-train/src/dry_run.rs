//! `--dry-run`: what a configuration will do and cost, before it does.

use std::time::Instant;

use anyhow::Result;
use bc_formats::config::Config;

use crate::sampler::{BatchPlan, Composition};
use crate::setup::{Setup, last_step};

/// Steps that are timed, after one that warms up.
const TIMED: usize = 3;

/// Prints network, batches, memory and a time estimate. Nothing is written.
pub fn print(config: &Config) -> Result<()> {
    let setup = Setup::new(config)?;
    let mut learner = setup.learner(config)?;
    let train = &config.train;
    let network = learner.network();
    let parameters: usize = network.parameters().iter().map(|(_, v)| v.as_tensor().elem_count()).sum();
    let tracks = setup.data.store.tracks().len();
    println!(
        "data      {} training versions in {} cliques, {} validation versions; {:.1} MiB of features{}",
        setup.data.training,
        setup.data.classes(),
        tracks - setup.data.training,
        setup.data.store.bytes() as f64 / f64::from(1 << 20),
        if train.map_features { ", memory-mapped" } else { "" }
    );
    println!(
        "network   ResNet-IBN, width {}, blocks {:?}, {} classes, {:.2} M parameters",
        config.model.width,
        config.model.blocks,
        setup.classes,
        parameters as f64 / 1e6
    );
    let items = setup.sampler.composition().items();
    let what = match setup.sampler.composition() {
        Composition::RandomTriplets { triplets } => format!("{triplets} random triplets"),
        Composition::Pk { cliques, versions } => format!("{cliques} cliques x {versions} versions"),
    };
    println!(
        "batches   {items} items ({what}), {} a pass, {} an epoch",
        setup.sampler.batches_per_pass(),
        setup.sampler.batches_per_epoch()
    );
    for &length_s in &train.lengths_s {
        let frames = setup.assembler.frames(length_s);
        let flops = network.flops(setup.data.store.bins(), frames);
        println!(
            "crops     {length_s} s: {} x {frames}, {:.2} GFLOP forward a sample, three times that in training",
            setup.data.store.bins(),
            flops / 1e9
        );
    }

    let mut seconds = Vec::new();
    for (pass, &length_s) in train.lengths_s.iter().enumerate() {
        // One batch a length: a plan's own batches, with this length.
        let plan = setup.sampler.epoch(0);
        let mut times = Vec::with_capacity(TIMED);
        for step in 0..=TIMED {
            let items = plan[(pass + step) % plan.len()].items.clone();
            let batch = setup.assembler.assemble(0, step, &BatchPlan { length_s, items });
            let started = Instant::now();
            learner.accumulate(&batch)?;
            learner.step(0.0, 1)?;
            if step > 0 {
                times.push(started.elapsed().as_secs_f64());
            }
        }
        times.sort_by(f64::total_cmp);
        seconds.push(times[TIMED / 2]);
    }
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let steps = last_step(config, &setup.schedule);
    let batches = steps as f64 * train.accumulate as f64;
    println!(
        "time      {} s a step by length (median of {TIMED}), {:.1} samples/s; {steps} steps: {}",
        seconds.iter().map(|s| format!("{s:.2}")).collect::<Vec<_>>().join(", "),
        items as f64 / mean,
        duration(batches * mean)
    );
    match bc_nn::memory::peak_gib() {
        Some(gib) => println!("memory    {gib:.2} GiB at most in these steps"),
        None => println!("memory    not measured on this system"),
    }
    Ok(())
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}
