//! `bc-train bench`: the network alone on random input, for side-by-side timing.

use anyhow::Result;
use bc_nn::backend::Precision;
use bc_nn::{Backend, Kind, NetworkSettings, RingSettings};
use clap::Args;

use crate::learner::MAX_THREADS;

/// Arguments of `bc-train bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Where the network runs: "cpu" or "cuda:N".
    #[arg(long, default_value = "cpu")]
    device: String,
    /// How a GPU computes: "f32", "tf32" or "bf16".
    #[arg(long, default_value = "f32")]
    precision: String,
    /// Threads of the operators on the CPU.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=MAX_THREADS))]
    threads: u16,
    /// Items a batch.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// "bytecover" (of the public re-implementation's sizes) or "ring" (of configs/default.toml's sizes,
    /// without a classifier).
    #[arg(long, default_value = "bytecover", value_parser = ["bytecover", "ring"])]
    network: String,
    /// Columns of an item (of 84 bins).
    #[arg(long, default_value_t = 215)]
    frames: usize,
    /// Keep only the input of each residual block, and run it forward again in the backward pass.
    #[arg(long)]
    recompute_activations: bool,
    /// Outputs of ByteCover's classifier.
    #[arg(long, default_value_t = 8858)]
    classes: usize,
    /// Timed steps, after two untimed ones; the median counts.
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Print one JSON line.
    #[arg(long)]
    json: bool,
}

/// Times training steps and forward passes, and prints the result.
pub fn run(args: &BenchArgs) -> Result<()> {
    crate::learner::use_threads(args.threads.into())?;
    let network = match args.network.as_str() {
        "ring" => NetworkSettings::Ring(RingSettings {
            kind: Kind::Ring,
            bins: 84,
            classes: 0,
            width: 16,
            blocks: [1, 2, 2, 1],
            projection: 256,
        }),
        _ => NetworkSettings::resnet_ibn_50(84, args.classes),
    };
    let report = bc_nn::bench::run(&bc_nn::bench::Settings {
        network,
        backend: Backend::open(&args.device, Precision::named(&args.precision)?)?,
        batch: args.batch,
        frames: args.frames,
        steps: args.steps,
        recompute_activations: args.recompute_activations,
    })?;
    if args.json {
        bc_cli::println!("{}", serde_json::to_string(&report)?);
    } else {
        bc_cli::println!(
            "training step {:.3} s ({:.2} samples/s), forward {:.3} s ({:.2} samples/s), peak memory {}",
            report.train_s,
            report.train_samples_per_s,
            report.infer_s,
            report.infer_samples_per_s,
            report.peak_gib.map_or_else(|| "unknown".to_owned(), |gib| format!("{gib:.2} GiB"))
        );
    }
    Ok(())
}
