//! `--dry-run`: reports what a configuration will do and cost, without training.

use std::time::Instant;

use anyhow::Result;
use bc_formats::config::{Config, Loss, Optimizer, Schedule as ScheduleKind};
use bc_ranks::Ranks;

use crate::learner::Learner;
use crate::memory_check::{MemoryCheck, require_memory_for_network};
use crate::sampler::{BatchPlan, Composition};
use crate::setup::{Setup, last_step};

/// Number of steps that are timed for each crop length, after one untimed step that warms up.
const TIMED_STEPS: usize = 3;

/// Prints data, network, batches, memory and a time estimate. Nothing is trained and no file is written, except the
/// memory-mapped features with `map_features`, which training then uses.
///
/// # Errors
/// The errors of [`crate::train::train`] before its first step.
pub fn print(config: &Config) -> Result<()> {
    let setup = Setup::new(config, &Ranks::alone())?;
    require_memory_for_network(config, &setup)?;
    let mut learner = setup.new_learner(config, &Ranks::alone())?;
    let note = learner.load_init()?;
    print_data(config, &setup);
    if let Some(note) = note {
        bc_cli::println!("init      {note}");
    }
    print_network(config, &learner);
    print_batches(config, &setup, &learner);
    let memory_check = MemoryCheck::new(config, &setup, learner.network(), &Ranks::alone())?;
    memory_check.print(setup.data.store.bytes());
    memory_check.check()?;
    let seconds = time_steps(config, &setup, &mut learner).map_err(|error| memory_check.explain(error))?;
    print_time(config, &setup, &seconds);
    Ok(())
}

fn print_data(config: &Config, setup: &Setup) {
    let tracks = setup.data.store.tracks().len();
    bc_cli::println!(
        "data      {} training versions in {} cliques, {} validation versions; {:.1} MiB of features{}",
        setup.data.training_tracks,
        setup.data.classes(),
        tracks - setup.data.training_tracks,
        setup.data.store.bytes() as f64 / f64::from(1 << 20),
        if config.train.map_features { ", memory-mapped" } else { "" }
    );
    for source in setup.data.painted.iter().flat_map(|painted| painted.sources()) {
        bc_cli::println!(
            "painted   {} works of {}, {:.0} % of the cliques of a batch",
            source.works.len(),
            source.path.display(),
            100.0 * source.share * (1.0 - config.train.features_share)
        );
    }
}

fn print_network(config: &Config, learner: &Learner) {
    let settings = learner.network().settings();
    bc_cli::println!(
        "network   {}, embedding {}, {} classes, {:.2} M parameters",
        settings.in_words(),
        settings.embedding(),
        settings.classes(),
        settings.parameters() as f64 / 1e6
    );
    let train = &config.train;
    let optimizer = match train.optimizer {
        Optimizer::Adam => "Adam",
        Optimizer::Adamw => "AdamW",
    };
    let schedule = match train.schedule {
        ScheduleKind::Constant => "constant",
        ScheduleKind::Cosine => "along a cosine",
        ScheduleKind::Step => "in steps",
        ScheduleKind::Plateau => "by plateaus of validation",
    };
    let loss = match train.loss {
        Loss::Bytecover => {
            format!("{} x cross entropy + {} x triplet", train.classification_weight, train.triplet_weight)
        }
        Loss::SupervisedContrastive => format!("supervised contrastive, temperature {}", train.temperature),
        Loss::Clews => "alignment and uniformity".to_owned(),
        Loss::CosineSoftmax => format!("cross entropy on cosines times {}", train.cosine_scale),
    };
    bc_cli::println!(
        "optimiser {optimizer}, rate {:e} {schedule}, {} steps of warm-up; loss: {loss}",
        train.learning_rate,
        train.warmup_steps
    );
}

fn print_batches(config: &Config, setup: &Setup, learner: &Learner) {
    let composition = setup.sampler.composition();
    let what = match composition {
        Composition::RandomTriplets { triplets, .. } => format!("{triplets} random triplets"),
        Composition::Pk { cliques, versions } => format!("{cliques} cliques x {versions} versions"),
    };
    bc_cli::println!(
        "batches   {} items ({what}), {} a pass, {} an epoch",
        composition.items(),
        setup.sampler.batches_per_pass(),
        setup.sampler.batches_per_epoch()
    );
    let (network, bins) = (learner.network().settings(), setup.input.rows());
    for &length_s in &config.train.lengths_s {
        let frames = setup.assembler.frames(length_s);
        bc_cli::println!(
            "crops     {length_s} s: {bins} x {frames}, {:.2} GFLOP forward per sample, three times that in training",
            network.flops(bins, frames) / 1e9
        );
    }
}

/// Measures the median time of a step in seconds, for each crop length.
fn time_steps(config: &Config, setup: &Setup, learner: &mut Learner) -> Result<Vec<f64>> {
    // Batches of the plan, but with the crop length that is timed.
    let plan = setup.sampler.epoch(0);
    let median_seconds = |(pass, &length_s): (usize, &f64)| {
        let mut times = Vec::with_capacity(TIMED_STEPS);
        for step in 0..=TIMED_STEPS {
            let items = plan[(pass + step) % plan.len()].items.clone();
            let batch = setup.assembler.assemble(0, step, &BatchPlan { length_s, items });
            let started = Instant::now();
            learner.accumulate(&batch, true, None)?;
            learner.step(0.0, 1)?;
            if step > 0 {
                times.push(started.elapsed().as_secs_f64());
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[TIMED_STEPS / 2])
    };
    config.train.lengths_s.iter().enumerate().map(median_seconds).collect()
}

fn print_time(config: &Config, setup: &Setup, seconds: &[f64]) {
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let steps = last_step(config, &setup.schedule);
    let batches = steps as f64 * config.train.accumulate as f64;
    bc_cli::println!(
        "time      {} s per batch by length (median of {TIMED_STEPS}), {:.1} samples/s; {steps} steps: {} and validations",
        seconds.iter().map(|s| format!("{s:.2}")).collect::<Vec<_>>().join(", "),
        setup.sampler.composition().items() as f64 / mean,
        duration(batches * mean)
    );
    if let Some(peak) = bc_nn::memory::peak_gib() {
        bc_cli::println!("          {peak:.2} GiB of memory at most in these steps");
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}
