//! Stage 3: features become a trained network. Parses arguments and calls the library.

use std::process::ExitCode;

use anyhow::Result;
use bc_cli::ConfigArgs;
use bc_train::bench::BenchArgs;
use bc_train::train::Options;
use clap::{Args, Parser, Subcommand};

/// Stage 3: features become a trained network.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train, or go on with a run that is not complete.
    Train(TrainArgs),
    /// Time a training step and a forward pass on random input.
    Bench(BenchArgs),
    /// Print the resolved configuration with a comment a key.
    Config,
}

#[derive(Args)]
struct TrainArgs {
    /// Go on with an interrupted run; an error if there is none. (Without it, an
    /// interrupted run is resumed too, and an absent one begun.)
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Remove the run that is there, and start again.
    #[arg(long)]
    fresh: bool,
    /// Print network, batches, memory and a time estimate from three timed steps; train nothing.
    #[arg(long)]
    dry_run: bool,
    /// Threads of the network's operators; as --set train.threads=N.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    bc_nn::memory::keep_freed();
    bc_cli::run(|| run(Cli::parse()))
}

fn run(cli: Cli) -> Result<()> {
    let Some(mut config) = cli.config.load()? else { return Ok(()) };
    match cli.command {
        Command::Config => print!("{}", config.to_commented_toml()),
        Command::Bench(args) => bc_train::bench::run(&args)?,
        Command::Train(args) => {
            config.train.threads = args.threads.unwrap_or(config.train.threads);
            bc_train::learner::use_threads(config.train.threads)?;
            if args.dry_run {
                return bc_train::dry_run::print(&config);
            }
            bc_cli::interrupt::install("finishing the step, then saving; Ctrl-C again ends at once")?;
            bc_train::train::train(&config, Options { resume: args.resume, fresh: args.fresh })?;
        }
    }
    Ok(())
}
