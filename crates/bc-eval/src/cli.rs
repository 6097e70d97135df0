//! Arguments and what they call.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bc_cli::{ConfigArgs, ShardArgs, ThreadArgs};
use bc_formats::config::Config;
use bc_retrieval::{Distance, Policy};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::embed::Outcome;
use crate::{embed, export, metrics, report, search, stage};

const EXAMPLES: &str = "\
Examples:
  bc-eval run --config configs/demo.toml                 embeddings, figures and a report
  bc-eval search song.mp3 --config configs/demo.toml     which works is this a version of?
  bc-eval metrics --npy vectors.npy --cliques cliques.txt --policy clews
  bc-eval report runs/one/eval runs/two/eval --out both";

/// Stage 4: embeddings, metrics, search, and a report.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Embed, measure and report what the configuration says; does only what is missing.
    Run,
    /// Embed the index's versions: whole tracks, from their features.
    Embed(EmbedArgs),
    /// mAP, MR1, MRR, hit@k, P@10, NAR with intervals, by split.
    Metrics(MetricsArgs),
    /// Write a page about one run, or several side by side.
    Report(ReportArgs),
    /// The versions nearest to one that is in the index.
    Search(SearchArgs),
    /// Write the vectors as .npy with a text file of ids.
    Export(ExportArgs),
    /// Print the resolved configuration with a comment a key.
    Config,
}

#[derive(Args)]
struct EmbedArgs {
    #[command(flatten)]
    shard: ShardArgs,
    /// The network; [eval] checkpoint, or the best one of [train] run, if not given.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Also write embeddings.npy and ids.txt beside embeddings.parquet.
    #[arg(long)]
    npy: bool,
}

#[derive(Args)]
struct ReportArgs {
    /// Folders with embeddings.parquet and metrics.json; [eval] output if none is given.
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Folder to write report.html and report.md to; the first folder if not given.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct MetricsArgs {
    /// Embeddings file; embeddings.parquet in the folder eval.output if not given.
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    /// Another embeddings file as the candidates (noise works are candidates only).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["npy", "distances"])]
    candidates: Option<PathBuf>,
    /// Vectors as a NumPy array, versions x dimensions, 32-bit floats.
    #[arg(long, value_name = "FILE", requires = "cliques", conflicts_with = "embeddings")]
    npy: Option<PathBuf>,
    /// A square NumPy matrix of distances; a row is a query.
    #[arg(long, value_name = "FILE", requires = "cliques", conflicts_with_all = ["embeddings", "npy"])]
    distances: Option<PathBuf>,
    /// One clique a line, in the order of the rows.
    #[arg(long, value_name = "FILE")]
    cliques: Option<PathBuf>,
    /// The codebase whose rules to follow: default, orfium, clews, coverhunter, cqtnet, re-move or discogs-vinet.
    #[arg(long, default_value = "default")]
    policy: String,
    /// Distance, if other than the policy's.
    #[arg(long)]
    distance: Option<DistanceArg>,
    /// Seed of the intervals.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also write the figures as JSON.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DistanceArg {
    Cosine,
    Euclidean,
    Dot,
}

#[derive(Args)]
struct SearchArgs {
    /// Id of the query in the index.
    version_id: String,
    /// Embeddings file; embeddings.parquet in the folder eval.output if not given.
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Number of answers.
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ExportArgs {
    /// Embeddings file; embeddings.parquet in the folder eval.output if not given.
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    /// Folder to write embeddings.npy and ids.txt to.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Does what the arguments ask for.
///
/// # Errors
/// Whatever the command's module says.
pub fn main(cli: Cli) -> Result<()> {
    let Some(mut config) = cli.config.load()? else { return Ok(()) };
    cli.threads.install()?;
    let usual = config.eval.output.join("embeddings.parquet");
    match cli.command {
        Command::Config => print!("{}", config.to_commented_toml()),
        Command::Run => evaluate(&config)?,
        Command::Embed(args) => {
            if let Some(checkpoint) = args.checkpoint {
                config.eval.checkpoint = checkpoint;
            }
            println!("{}", embedded(embed::run(&config, args.shard.resolve()?)?, &usual));
            if args.npy && usual.exists() {
                export::run(&usual, &config.eval.output)?;
            }
        }
        Command::Metrics(args) => measure(args, usual)?,
        Command::Report(args) => {
            let folders =
                if args.folders.is_empty() { vec![config.eval.output.clone()] } else { args.folders };
            let out = args.out.unwrap_or_else(|| folders[0].clone());
            let sources: Vec<report::Source> = folders.into_iter().map(report::Source::of).collect();
            report::write(&sources, &out)?;
            println!("{}", out.join("report.html").display());
        }
        Command::Search(args) => {
            let hits = search::by_version(&args.index.unwrap_or(usual), &args.version_id, args.k)?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&hits)?);
            } else {
                println!("{}", search::table(&hits));
            }
        }
        Command::Export(args) => {
            let count = export::run(&args.embeddings.unwrap_or(usual), &args.out)?;
            println!("{count} vectors in {}", args.out.display());
        }
    }
    Ok(())
}

fn embedded(outcome: Outcome, path: &Path) -> String {
    match outcome {
        Outcome::UpToDate => format!("Nothing to do: {} is up to date.", path.display()),
        Outcome::Written(count) => format!("{count} embeddings in {}", path.display()),
        Outcome::ShardDone(count) => {
            format!("This shard is done; {count} embeddings so far, others are missing.")
        }
    }
}

fn evaluate(config: &Config) -> Result<()> {
    let made = stage::run(config)?;
    println!("{}\n{}", stage::summary(&made.measured), made.measured.rules);
    if made.up_to_date {
        println!("Nothing to do: {} is up to date.", config.eval.output.display());
    }
    println!("The report: {}", made.report.display());
    Ok(())
}

fn measure(args: MetricsArgs, usual: PathBuf) -> Result<()> {
    let mut policy = Policy::named(&args.policy)?;
    policy.distance = match args.distance {
        None => policy.distance,
        Some(DistanceArg::Cosine) => Distance::Cosine,
        Some(DistanceArg::Euclidean) => Distance::Euclidean,
        Some(DistanceArg::Dot) => Distance::Dot,
    };
    let cliques = args.cliques.unwrap_or_default();
    let measured = match (args.npy, args.distances) {
        (Some(npy), _) => metrics::of_array(&npy, &cliques, &policy, args.seed)?,
        (None, Some(matrix)) => metrics::of_distances(&matrix, &cliques, &policy, args.seed)?,
        (None, None) => {
            let embeddings = args.embeddings.unwrap_or(usual);
            metrics::of_embeddings(&embeddings, args.candidates.as_deref(), &policy, args.seed)?
        }
    };
    println!("{}\n{}", metrics::table(&measured), measured.rules);
    if let Some(out) = args.json {
        bc_formats::atomic::write_json(&out, &measured)?;
    }
    Ok(())
}
