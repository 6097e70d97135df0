//! The command line.

use anyhow::Result;
use bc_cli::{ConfigArgs, ShardArgs, ThreadArgs};

use crate::{extract, inspect};

/// Turns an index's audio into pooled constant-Q features.
#[derive(Debug, clap::Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  bc-features extract --config configs/demo.toml
  bc-features extract --config configs/demo.toml --shard 2/8     one of eight array jobs
  bc-features inspect --config configs/demo.toml
Without a command: extract."
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Extract the features of every usable version that has none yet.
    Extract(ExtractArgs),
    /// Print settings, counts, hours, sizes and value ranges of the features.
    Inspect,
    /// Print the resolved configuration with a comment a key.
    Config,
}

/// Arguments of `extract`.
#[derive(Debug, Default, clap::Args)]
struct ExtractArgs {
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    shard: ShardArgs,
    /// End with an error if any file fails (after all others are done).
    #[arg(long)]
    strict: bool,
    /// Try files again that failed before.
    #[arg(long)]
    retry: bool,
}

/// Does what the arguments say.
pub fn main(arguments: Arguments) -> Result<()> {
    let Some(config) = arguments.config.load()? else { return Ok(()) };
    match arguments.command.unwrap_or(Command::Extract(ExtractArgs::default())) {
        Command::Extract(args) => {
            args.threads.install()?;
            let options =
                extract::Options { shard: args.shard.resolve()?, strict: args.strict, retry: args.retry };
            extract::run(&config.features, &options)
        }
        Command::Inspect => inspect::run(&config.features),
        Command::Config => {
            print!("{}", config.to_commented_toml());
            Ok(())
        }
    }
}
