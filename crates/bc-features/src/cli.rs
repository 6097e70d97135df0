//! The command line.

use std::path::PathBuf;

use anyhow::Result;
use bc_cli::{ConfigArgs, Outcome, ShardArgs, StatusArgs, ThreadArgs};

use crate::{array, compact, extract, inspect, paint, plot, status};

/// Turns an index's audio into pooled constant-Q features.
#[derive(Debug, clap::Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  bc-features extract --config configs/demo.toml
  bc-features extract --config configs/demo.toml --shard 2/8     one of eight array jobs
  bc-features extract --config configs/demo.toml                 after them: checks all, drops what is out of date
  bc-features status --config configs/demo.toml --shards 8
  bc-features plot song.mp3 --out song.png
  bc-features cqt song.mp3 --out song.npy
  bc-features paint --source songs.tar.xz --splits splits.json --out data/painted --versions 24
Without a command: extract.

Exit codes: 0 all done, 1 refused or failed, 2 wrong usage, 3 done but some files failed (see failures.parquet),
130 interrupted, what was done is saved."
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
    /// Show which features are there, stale, missing or failed, shard by shard.
    ///
    /// With --json a line per shard has `shard`, `versions`, `there`, `failed`, `pending`, `pending_hours`.
    Status(StatusArgs),
    /// Merge small feature files, so that a folder of millions of versions has few.
    ///
    /// Parts with fewer than half of [features] part_versions rows (and half of part_hours of audio) become parts of at most
    /// as many. Rows that newer parts replace are dropped, and the failure tables are merged. Values do not change, and no other run
    /// may be at work in the folder.
    Compact,
    /// Write the transform of audio files as NumPy arrays, bins x frames, 32-bit floats.
    Cqt(CqtArgs),
    /// Draw the transform of an audio file, or of a version that has features, as PNG.
    Plot(PlotArgs),
    /// Paint features of synthetic versions straight from notes (MIDI files, tunes), to train on.
    Paint(PaintArgs),
    /// Print the resolved configuration with a comment for each key.
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
    /// Try files again that failed before because of their content. (Those that failed because of the disk, the
    /// network or a limit of time are tried again without it, and so are those that failed with other limits.)
    #[arg(long)]
    retry: bool,
    /// Recompute the rows that another version of the decoder or the transform made.
    #[arg(long)]
    renew: bool,
    /// Drop the rows of versions that are no longer in the index, however many there are.
    #[arg(long)]
    drop_missing: bool,
}

/// Arguments of `cqt`.
#[derive(Debug, clap::Args)]
struct CqtArgs {
    /// Audio files.
    #[arg(required = true, value_name = "AUDIO")]
    audio: Vec<PathBuf>,
    /// The array's file; for several audio files the folder of their arrays.
    #[arg(long, value_name = "X.npy")]
    out: PathBuf,
    /// Frames that are averaged into one column.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pool: u32,
}

/// Arguments of `plot`.
#[derive(Debug, clap::Args)]
struct PlotArgs {
    /// An audio file, or the id of a version that has features.
    #[arg(value_name = "AUDIO|VERSION_ID")]
    what: String,
    /// The picture's file.
    #[arg(long, value_name = "X.png")]
    out: PathBuf,
}

/// Arguments of `paint`; each that is not given is read from `[paint]`.
#[derive(Debug, clap::Args)]
struct PaintArgs {
    #[command(flatten)]
    threads: ThreadArgs,
    /// Works as notes: a folder, .tar or .tar.xz of MIDI files (NNN/NNN.mid with tracks MELODY, BRIDGE, PIANO), or
    /// tunes as .jsonl or .jsonl.xz; may be given several times.
    #[arg(long = "source", value_name = "PATH")]
    sources: Vec<PathBuf>,
    /// Weight of each source, in their order: a work of weight 2 gets twice the versions.
    #[arg(long = "weight", value_name = "W")]
    weights: Vec<f64>,
    /// JSON object with lists of works, "train" and "val"; a source of which it names no work is trained on as a whole.
    #[arg(long, value_name = "FILE")]
    splits: Option<PathBuf>,
    /// Share of the works of a source without lists that is held out as validation works.
    #[arg(long, value_name = "SHARE")]
    held_out: Option<f64>,
    /// Folder for index.parquet and features/.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Versions of a training work.
    #[arg(long, value_name = "N")]
    versions: Option<u32>,
    /// Versions of a validation work.
    #[arg(long, value_name = "N")]
    val_versions: Option<u32>,
    /// Length of a version in seconds.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Seed of everything that is drawn.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Remove features of other settings from the folder first.
    #[arg(long)]
    fresh: bool,
}

impl PaintArgs {
    /// Returns the arguments as overrides of the configuration, so that they are checked like it.
    fn overrides(&self) -> Vec<String> {
        let quoted = |path: &PathBuf| toml_string(&path.display().to_string());
        let mut overrides = Vec::new();
        let mut put = |key: &str, value: Option<String>| {
            overrides.extend(value.map(|value| format!("paint.{key}={value}")))
        };
        if !self.sources.is_empty() {
            put(
                "sources",
                Some(format!("[{}]", self.sources.iter().map(quoted).collect::<Vec<_>>().join(", "))),
            );
        }
        if !self.weights.is_empty() || !self.sources.is_empty() {
            put("weights", Some(format!("{:?}", self.weights)));
        }
        put("splits", self.splits.as_ref().map(quoted));
        put("held_out", self.held_out.map(|value| format!("{value:?}")));
        put("output", self.out.as_ref().map(quoted));
        put("versions", self.versions.map(|value| value.to_string()));
        put("val_versions", self.val_versions.map(|value| value.to_string()));
        put("seconds", self.seconds.map(|value| format!("{value:?}")));
        put("seed", self.seed.map(|value| value.to_string()));
        overrides
    }
}

/// Quotes a text for TOML.
fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Runs the command that the arguments name.
pub fn main(mut arguments: Arguments) -> Result<Outcome> {
    if let Some(Command::Paint(args)) = &arguments.command {
        arguments.config.overrides.extend(args.overrides());
    }
    let Some(config) = arguments.config.load()? else { return Ok(Outcome::Done) };
    match arguments.command.unwrap_or(Command::Extract(ExtractArgs::default())) {
        Command::Extract(args) => {
            args.threads.install()?;
            let options = extract::Options {
                shard: args.shard.resolve()?,
                strict: args.strict,
                retry: args.retry,
                renew: args.renew,
                drop_missing: args.drop_missing,
                missing_share: config.verify.missing_share,
            };
            return extract::run(&config.features, &options);
        }
        Command::Paint(args) => {
            args.threads.install()?;
            paint::run(&config.features, &config.paint, args.fresh)?;
        }
        Command::Status(args) => status::run(&config.features, config.verify.missing_share, args)?,
        Command::Compact => compact::run(&config.features)?,
        Command::Cqt(args) => array::run(&config.features, &args.audio, &args.out, args.pool)?,
        Command::Plot(args) => plot::run(&config.features, &args.what, &args.out)?,
        Command::Inspect => inspect::run(&config.features)?,
        Command::Config => bc_cli::print!("{}", config.to_commented_toml()),
    }
    Ok(Outcome::Done)
}
