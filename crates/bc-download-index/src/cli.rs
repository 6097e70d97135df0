//! The command line.

use std::path::PathBuf;

use anyhow::Result;
use bc_cli::{ConfigArgs, Outcome, ShardArgs, StatusArgs, ThreadArgs};

use crate::{build, download, synth, verify};

/// Makes one index from a data set's lists and audio: one row per version, with its clique, split, file and status.
#[derive(Debug, clap::Parser)]
#[command(
    version,
    about,
    after_help = "In order: build, download (where audio is missing), verify. Each may be run again at any time;
what is done is not done again. `config` prints every key with its meaning.

Exit codes: 0 all done; 1 refused or failed; 2 wrong usage; 3 done, but files are not usable (verify) or did not
come (download); 130 stopped by Ctrl-C or SIGTERM.

Examples:
  bc-download-index synth && bc-download-index build && bc-download-index verify
  bc-download-index build --config configs/covers-mini.toml
  bc-download-index build --set index.source=folder --set index.dataset_path=music \\
    --set index.output=data/music/index.parquet
Without a command: build."
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Import the lists, look for the audio, write the index.
    ///
    /// Reads [index]. A version without a file is kept and has the status `missing`. Prints versions and
    /// cliques of each split, as listed and with a file, and a fingerprint of the usable version ids. What
    /// `verify` found of files that did not change since, and why downloads failed, is kept.
    Build,
    /// Write the demo set: composed songs in several versions, as WAV.
    ///
    /// Reads [synth]. The same seed gives the same bytes; files that are there are kept.
    Synth(SynthArgs),
    /// Fetch the audio that is missing, with yt-dlp.
    ///
    /// Reads [index] and [download]; needs an index (`build`) and yt-dlp. Files come to
    /// <dataset_path>/<version id>.<extension>. Removed and private ones are not asked for again (but see
    /// --retry-gone), barred ones only when cookies or proxy change, all others by the next run. Stop it at any time;
    /// the same command continues.
    Download(DownloadArgs),
    /// Open and decode every file, find faults and duplicates, write statuses and coverage.md.
    ///
    /// Reads [index] and [verify]; needs an index (`build`). Marks files that are empty, no audio, cut off,
    /// silent, or equal to another in the index, and writes coverage.md and clique_sizes.png beside the index.
    /// Files that did not change since the last run are not opened again. A file that could not be read stays
    /// usable and is tried again by the next run. Parts (--shard i/n) may run on several machines.
    Verify(VerifyArgs),
    /// Show how many files `verify` still has to check, shard by shard.
    ///
    /// With --json a line per shard has `shard`, `files`, `pending`.
    Status(StatusArgs),
    /// Print the resolved configuration with a comment on each key.
    Config,
}

/// Arguments of `synth`.
#[derive(Debug, clap::Args)]
struct SynthArgs {
    #[command(flatten)]
    threads: ThreadArgs,
    /// Also copy the files to FOLDER/<song>/<performer>.wav, for commands that read one folder per song.
    #[arg(long, value_name = "FOLDER")]
    by_song: Option<PathBuf>,
}

/// Arguments of `download`.
#[derive(Debug, clap::Args)]
struct DownloadArgs {
    #[command(flatten)]
    shard: ShardArgs,
    /// Ask again for videos that were removed, private or barred.
    #[arg(long)]
    retry_gone: bool,
    /// Only print what would be fetched, and from where.
    #[arg(long)]
    dry_run: bool,
    /// Fetch at most N files.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    shard: ShardArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Read headers only: finds files that are not audio, but no silence, duplicates or cut ends.
    #[arg(long)]
    fast: bool,
    /// Mark versions as missing even if nearly all files have disappeared since the index was written.
    #[arg(long)]
    drop_missing: bool,
}

/// Runs the command that the arguments name.
///
/// # Errors
/// The errors of the command.
pub fn main(arguments: Arguments) -> Result<Outcome> {
    let Some(config) = arguments.config.load()? else { return Ok(Outcome::Done) };
    match arguments.command.unwrap_or(Command::Build) {
        Command::Build => build::run(&config)?,
        Command::Synth(arguments) => {
            arguments.threads.install()?;
            let (versions, rendered) = synth::run(&config.synth)?;
            let folder = config.synth.output.display();
            if rendered == 0 {
                bc_cli::println!("Nothing to do: {folder} has all {versions} versions.");
            } else {
                bc_cli::println!("Rendered {rendered} of {versions} versions in {folder}.");
            }
            if let Some(folder) = arguments.by_song {
                synth::by_song::copy(&config.synth, &folder)?;
                let songs = config.synth.cliques;
                bc_cli::println!("Copied them to {}, in one folder per song ({songs}).", folder.display());
            }
        }
        Command::Download(arguments) => {
            let DownloadArgs { shard, retry_gone, dry_run, limit } = arguments;
            let options = download::Options { dry_run, limit, retry_gone, shard: shard.resolve()? };
            return download::run(&config, options);
        }
        Command::Verify(arguments) => {
            arguments.threads.install()?;
            let VerifyArgs { fast, drop_missing, shard, .. } = arguments;
            let options = verify::Options { fast, drop_missing, shard: shard.resolve()? };
            return verify::run(&config, options);
        }
        Command::Status(arguments) => verify::status::run(&config, arguments)?,
        Command::Config => bc_cli::print!("{}", config.to_commented_toml()),
    }
    Ok(Outcome::Done)
}
