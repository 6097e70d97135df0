//! The commands and what they call.

mod arguments;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_cli::{ConfigArgs, ThreadArgs};
use bc_formats::config::Config;
use bc_formats::embeddings::Embeddings;
use bc_retrieval::Policy;
use clap::{Parser, Subcommand};

use crate::calibration::{self, Calibration};
use crate::catalogue::{self, Added};
use crate::embed::Outcome;
use crate::search::Searcher;
use crate::{compare, embed, export, inference, metrics, origin, report, search, stage};
use arguments::{
    AddArgs, CalibrateArgs, CompareArgs, EmbedArgs, ExportArgs, ListenArgs, MetricsArgs, ReportArgs,
    SearchArgs,
};

const EXAMPLES: &str = "\
Examples:
  bc-eval run --config configs/demo.toml                  embeddings, figures, calibration and a report
  bc-eval search song.mp3 --config configs/demo.toml      which works is this a version of?
  bc-eval compare a.mp3 b.ogg --config configs/demo.toml  are these versions of one work?
  bc-eval add catalogue/ --index mine.parquet --config configs/demo.toml
  bc-eval search song.mp3 --index mine.parquet --config configs/demo.toml
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
    /// Embed, measure, calibrate and report what the configuration says; does only what is missing.
    Run,
    /// Embed the index's versions from their features, or audio files, or a NumPy array.
    Embed(EmbedArgs),
    /// mAP, MR1, MRR, hit@k, P@10, NAR with intervals, by split.
    Metrics(MetricsArgs),
    /// Write a page about one run, or several side by side.
    Report(ReportArgs),
    /// The versions nearest to an audio file, or to a version that is in the index.
    Search(SearchArgs),
    /// Whether two audio files are versions of one work.
    Compare(CompareArgs),
    /// Learn from the validation split what a score means, and check it on the test split.
    Calibrate(CalibrateArgs),
    /// Append audio files to an index, or begin one with them.
    Add(AddArgs),
    /// Write the vectors as .npy with ids, and the network as safetensors for PyTorch.
    Export(ExportArgs),
    /// Print the resolved configuration with a comment a key.
    Config,
}

/// Does what the arguments ask for.
///
/// # Errors
/// Whatever the command's module says.
pub fn main(cli: Cli) -> Result<()> {
    let Some(config) = cli.config.load()? else { return Ok(()) };
    cli.threads.install()?;
    let usual = embed::path_of(&config);
    match cli.command {
        Command::Config => {
            print!("{}", config.to_commented_toml());
            Ok(())
        }
        Command::Run => evaluate(&config),
        Command::Embed(args) => embed(config, args),
        Command::Metrics(args) => measure(args, usual),
        Command::Report(args) => page(&config, args),
        Command::Search(args) => find(config, args),
        Command::Compare(args) => judge(config, args),
        Command::Calibrate(args) => calibrate(args, usual),
        Command::Add(args) => add(config, args),
        Command::Export(args) => give(config, args, usual),
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

fn embed(mut config: Config, args: EmbedArgs) -> Result<()> {
    args.network.apply(&mut config);
    let windows = args.window.resolve()?;
    let usual = embed::path_of(&config);
    let beside = args.npy == Some(None);
    match (args.npy.flatten(), args.out) {
        (Some(array), Some(out)) if args.audio.is_empty() => {
            let (tracks, dim) = inference::run(&config, &array, &out)?;
            println!("{tracks} embeddings of {dim} in {}", out.display());
        }
        (Some(_), None) => bail!("--npy FILE needs --out FILE.npy"),
        (Some(_), Some(_)) => bail!("give audio files or --npy FILE, not both"),
        (None, Some(out)) if args.audio.is_empty() => bail!(
            "--out {} is for audio files or --npy FILE; embeddings of features go to [eval] output = {:?}",
            out.display(),
            config.eval.output
        ),
        (None, Some(out)) => {
            let request = catalogue::Request { audio: args.audio, windows, ..Default::default() };
            println!("{}", added(&catalogue::add(&config, &request, &out)?, &out));
            if beside {
                export::vectors(&out, out.parent().unwrap_or(Path::new("")))?;
            }
        }
        (None, None) => {
            if windows.is_some() {
                bail!("--window cuts audio files; features are embedded as whole tracks");
            }
            println!("{}", embedded(embed::run(&config, args.shard.resolve()?)?, &usual));
            if beside && usual.exists() {
                export::vectors(&usual, &config.eval.output)?;
            }
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

fn measure(args: MetricsArgs, usual: PathBuf) -> Result<()> {
    let mut policy = Policy::named(&args.policy)?;
    policy.distance = args.distance().unwrap_or(policy.distance);
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

fn page(config: &Config, args: ReportArgs) -> Result<()> {
    let folders = if args.folders.is_empty() { vec![config.eval.output.clone()] } else { args.folders };
    let out = args.out.unwrap_or_else(|| folders[0].clone());
    let sources: Vec<report::Source> = folders.into_iter().map(report::Source::of).collect();
    report::write(&sources, &out)?;
    println!("{}", out.join("report.html").display());
    Ok(())
}

fn find(mut config: Config, args: SearchArgs) -> Result<()> {
    let ListenArgs { network, window, probability } = args.listen;
    network.apply(&mut config);
    let options = search::Options {
        k: args.k as usize,
        windows: window.resolve()?,
        prior: probability.prior()?,
        calibration: probability.calibration,
    };
    let index = args.index.unwrap_or_else(|| embed::path_of(&config));
    let mut searcher = Searcher::open(&config, &index, options)?;
    let mut failed = 0;
    for query in &args.queries {
        match searcher.ask(query) {
            Ok(answer) if args.json => println!("{}", serde_json::to_string(&answer)?),
            Ok(answer) => println!("{}", search::table(&answer)),
            Err(error) if args.queries.len() == 1 => return Err(error),
            Err(error) => {
                eprintln!("error: {}", bc_cli::describe(&error));
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} queries have no answer", args.queries.len());
    }
    Ok(())
}

fn judge(mut config: Config, args: CompareArgs) -> Result<()> {
    let ListenArgs { network, window, probability } = args.listen;
    network.apply(&mut config);
    let (windows, prior) = (window.resolve()?, probability.prior()?);
    let calibration = probability.calibration.as_deref();
    let found = compare::run(&config, [&args.a, &args.b], windows, calibration, prior)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        println!("{}", compare::sentence(&found));
    }
    Ok(())
}

fn calibrate(args: CalibrateArgs, usual: PathBuf) -> Result<()> {
    let path = args.embeddings.unwrap_or(usual);
    let calibration = Calibration::of(&path, &Embeddings::read(&path)?)?;
    let out = args.out.unwrap_or_else(|| calibration::beside(&path));
    bc_formats::atomic::write_json(&out, &calibration)?;
    println!("{}\n{}", calibration.tables(), out.display());
    Ok(())
}

fn add(mut config: Config, args: AddArgs) -> Result<()> {
    let works = args.works();
    args.network.apply(&mut config);
    let request = catalogue::Request {
        works,
        audio: args.audio,
        title: args.title,
        performer: args.performer,
        windows: args.window.resolve()?,
    };
    println!("{}", added(&catalogue::add(&config, &request, &args.index)?, &args.index));
    Ok(())
}

/// What became of audio files, for people; the failures go to standard error.
fn added(outcome: &Added, path: &Path) -> String {
    for failure in &outcome.failed {
        eprintln!("failed: {failure}");
    }
    let there = match outcome.there {
        0 => String::new(),
        there => format!(", {there} were there already"),
    };
    let failed = match outcome.failed.len() {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!("{} recordings added to {}{there}{failed}", outcome.new, path.display())
}

fn give(mut config: Config, args: ExportArgs, usual: PathBuf) -> Result<()> {
    args.network.apply(&mut config);
    let wanted = args.embeddings.is_some();
    let embeddings = args.embeddings.unwrap_or(usual);
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let asked = !config.eval.checkpoint.as_os_str().is_empty();
    let embedder = (asked || checkpoint.exists())
        .then(|| origin::embedder(&config).context("cannot export the network"))
        .transpose()?;
    let vectors = wanted || embeddings.exists();
    if !vectors && embedder.is_none() {
        bail!(
            "nothing to export: there is neither {} nor {}; run `bc-train` and `bc-eval run` first",
            embeddings.display(),
            checkpoint.display()
        );
    }
    if vectors {
        if let Some(embedder) = &embedder {
            let made = Embeddings::read(&embeddings)?.provenance;
            origin::expect(&embeddings, &made, &embedder.fingerprint, &checkpoint)?;
        }
        let count = export::vectors(&embeddings, &args.out)?;
        println!("{count} vectors in {}", args.out.join("embeddings.npy").display());
    }
    if let Some(embedder) = embedder {
        let path = args.out.join("network.safetensors");
        let count = export::network(&embedder, &path)?;
        println!("{count} weights in {}", path.display());
    }
    Ok(())
}
