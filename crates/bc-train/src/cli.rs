//! The command line.

use anyhow::{Result, ensure};
use bc_cli::{ConfigArgs, Interrupted};
use bc_ranks::Ranks;

use crate::bench::BenchArgs;
use crate::learner::MAX_THREADS;
use crate::ranks::SharedError;
use crate::train::{Options, Outcome};

/// Stage 3: features become a trained network.
#[derive(Debug, clap::Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  bc-train --config configs/demo.toml                     begins, or continues where it was interrupted
  bc-train --config configs/demo.toml --dry-run           what it will do and cost
  bc-train --config configs/demo.toml --resume --set train.epochs=200
  bc-train --config configs/demo.toml --set train.run=runs/tuned --set train.init=other.safetensors
  bc-train --set train.debug=true --set train.run=runs/try     random features, no data needed
  bc-train bench --device cpu --threads 2 --batch 8 --frames 215 --json
  bc-train --config configs/demo.toml --resume --set train.max_minutes=55     a share of a cluster's time at once
Without a command: train. Ctrl-C and SIGTERM (as Slurm sends it at a time limit) finish the step or leave the
validation, save, and end with exit code 130.

Exit codes: 0 all done, 1 refused or failed, 2 wrong usage, 130 interrupted, what was done is saved."
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    train: TrainArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train, or continue a run that is not complete.
    Train(TrainArgs),
    /// Time a training step and a forward pass on random input.
    Bench(BenchArgs),
    /// Print the resolved configuration with a comment for each key.
    Config,
}

#[derive(Debug, Default, PartialEq, clap::Args)]
struct TrainArgs {
    /// Resume an interrupted run; an error if there is none. (Without it, an
    /// interrupted run is resumed too, and an absent one started.)
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Remove the existing run, and start again.
    #[arg(long)]
    fresh: bool,
    /// Print data, network, batches, memory and a time estimate from timed steps; train nothing.
    #[arg(long)]
    dry_run: bool,
    /// Threads of the network's operators; as --set train.threads=N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=MAX_THREADS))]
    threads: Option<u16>,
}

impl TrainArgs {
    /// Merges these options, which were given before the word `train`, with those given `after` it.
    fn merged_with(self, after: Self) -> Self {
        Self {
            resume: self.resume || after.resume,
            fresh: self.fresh || after.fresh,
            dry_run: self.dry_run || after.dry_run,
            threads: after.threads.or(self.threads),
        }
    }
}

/// Runs what the arguments ask for.
///
/// # Errors
/// A configuration that is wrong, and what the command reports; [`Interrupted`] after Ctrl-C or SIGTERM.
pub fn main(arguments: Arguments) -> Result<()> {
    let Some(mut config) = arguments.config.load()? else { return Ok(()) };
    let before = arguments.train;
    let command = match arguments.command {
        None => Command::Train(before),
        Some(Command::Train(after)) => Command::Train(before.merged_with(after)),
        Some(other) => {
            ensure!(
                before == TrainArgs::default(),
                "the options before this command are flags of `train`; leave them out, or put --threads after it"
            );
            other
        }
    };
    match command {
        Command::Config => bc_cli::print!("{}", config.to_commented_toml()),
        Command::Bench(args) => crate::bench::run(&args)?,
        Command::Train(args) => {
            ensure!(!(args.resume && args.fresh), "--resume and --fresh exclude each other");
            config.train.threads = args.threads.map_or(config.train.threads, usize::from);
            crate::learner::use_threads(config.train.threads)?;
            if args.dry_run {
                return crate::dry_run::print(&config);
            }
            bc_cli::interrupt::install("finishing the step, then saving; Ctrl-C again ends at once")?;
            let options = Options { resume: args.resume, fresh: args.fresh };
            let ranks = bc_ranks::start()?;
            let outcome =
                with_warnings_from_rank_0(&ranks, || crate::train::train_with(&config, options, &ranks));
            return end_rank(ranks, outcome);
        }
    }
    Ok(())
}

/// Calls `work`, whose warnings are printed by rank 0 only: all ranks would print the same.
fn with_warnings_from_rank_0(ranks: &Ranks, work: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    match ranks.is_first() {
        true => work(),
        false => tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), work),
    }
}

/// Ends this rank. An error of this rank alone ends the others too, which would otherwise wait for ever, and names
/// the rank; an error of all ranks is reported by rank 0, with its exit code, and the others end silently.
fn end_rank(ranks: Ranks, outcome: Result<Outcome>) -> Result<()> {
    let result = match outcome {
        Ok(Outcome::Interrupted(saved)) => Err(Interrupted(saved).into()),
        Ok(_) => Ok(()),
        Err(error) if ranks.is_alone() || error.is::<SharedError>() => Err(error),
        Err(error) => {
            let text = bc_cli::describe(&error);
            bc_cli::eprintln!("error: {} on {}: {text}", ranks.name(), crate::machine::host());
            ranks.abort();
            Err(error)
        }
    };
    let first = ranks.is_first();
    // All ranks end together.
    drop(ranks);
    if first { result } else { Ok(()) }
}
