//! The commands and the functions that they call.

mod arguments;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_cli::{ConfigArgs, Outcome, ThreadArgs, saving};
use bc_formats::config::Config;
use bc_formats::embeddings::Embeddings;
use bc_retrieval::Policy;
use clap::{Args, Parser, Subcommand};

use crate::baselines;
use crate::catalogue::{self, Added};
use crate::embed::Status;
use crate::{embed, excerpts, export, forward, inference, metrics, report, stage};
use arguments::{BaselinesArgs, CalibrateArgs, EmbedArgs, ExcerptsArgs, ExportArgs, MetricsArgs, ReportArgs};
use bc_calibration::{self as calibration, Calibration};
use bc_embed::origin::{self, Origin};

const EXAMPLES: &str = "\
Examples:
  bc-eval run --config configs/demo.toml                  embeddings, figures, calibration and a report
  bc-eval metrics --npy vectors.npy --cliques cliques.txt --policy clews
  bc-eval baselines --config configs/demo.toml            figures of classical methods on the same features
  bc-eval excerpts --config configs/demo.toml --seconds 5,10    how well short queries find their works
  bc-eval report runs/one/eval runs/two/eval --out both

Exit codes: 0 all done, 1 refused or failed, 2 wrong usage, 3 done but some files failed, 130 interrupted, what was
done is saved.";

/// Stage 4: embeddings, metrics and a report. Searching is bc-search's.
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
    /// Embed, measure, calibrate and report as the configuration says; does only what is missing.
    Run,
    /// Embed the index's versions from their features, or audio files, or a NumPy array.
    Embed(EmbedArgs),
    /// mAP, MR1, MRR, hit@k, P@10, NAR with intervals, by split.
    Metrics(MetricsArgs),
    /// Figures of classical methods (2-D Fourier magnitudes, Qmax) on the features, compared with chance and the network.
    Baselines(BaselinesArgs),
    /// How well excerpts of 10, 20 and 30 s of every version find its work among the windows of all others.
    Excerpts(ExcerptsArgs),
    /// Write a page about one run, or several side by side.
    Report(ReportArgs),
    /// Fit the calibration of scores on the validation split, and check it on the test split.
    Calibrate(CalibrateArgs),
    /// Write the vectors as .npy with ids, and the network as safetensors for PyTorch and as ONNX.
    Export(ExportArgs),
    /// Print the resolved configuration with a comment for every key.
    Config,
    /// Forwarded to bc-search: the works that a recording may be a version of.
    #[command(disable_help_flag = true)]
    Search(Forwarded),
    /// Forwarded to bc-search: whether two recordings are versions of one work.
    #[command(disable_help_flag = true)]
    Compare(Forwarded),
    /// Forwarded to bc-search: audio files for an index.
    #[command(disable_help_flag = true)]
    Add(Forwarded),
}

/// Arguments for bc-search, passed on unchanged.
#[derive(Args)]
struct Forwarded {
    /// Arguments of bc-search.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

/// Runs the command of the arguments.
///
/// # Errors
/// The errors of the command.
pub fn main(cli: Cli) -> Result<Outcome> {
    if matches!(cli.command, Command::Search(_) | Command::Compare(_) | Command::Add(_)) {
        return forward::to_search(std::env::args_os().skip(1).collect());
    }
    let Some(config) = cli.config.load()? else { return Ok(Outcome::Done) };
    cli.threads.install()?;
    match cli.command {
        Command::Config => {
            bc_cli::print!("{}", config.to_commented_toml());
            Ok(Outcome::Done)
        }
        Command::Run => evaluate(&config).map(Into::into),
        Command::Embed(args) => embed(config, args),
        Command::Metrics(args) => measure(&config, args).map(Into::into),
        Command::Baselines(args) => measure_baselines(&config, &args).map(Into::into),
        Command::Excerpts(args) => measure_excerpts(&config, &args).map(Into::into),
        Command::Report(args) => write_report(&config, args).map(Into::into),
        Command::Calibrate(args) => calibrate(&config, args).map(Into::into),
        Command::Export(args) => export_files(config, args).map(Into::into),
        Command::Search(Forwarded { .. }) | Command::Compare(_) | Command::Add(_) => {
            unreachable!("forwarded above")
        }
    }
}

fn evaluate(config: &Config) -> Result<()> {
    let results = stage::run(config)?;
    bc_cli::println!("{}\n{}", stage::summary(&results.measured), results.measured.rules);
    if results.up_to_date {
        bc_cli::println!("Nothing to do: {} is up to date.", config.eval.output.display());
    }
    bc_cli::println!("The report: {}", results.report.display());
    Ok(())
}

fn embed(mut config: Config, args: EmbedArgs) -> Result<Outcome> {
    args.network.apply(&mut config);
    let windows = args.window.resolve()?;
    let default_path = embed::path_of(&config);
    let write_npy = args.npy == Some(None);
    match (args.npy.flatten(), args.out) {
        (Some(array), Some(out)) if args.audio.is_empty() => {
            let (tracks, dim) = inference::run(&config, &array, &out)?;
            bc_cli::println!("{tracks} embeddings of {dim} in {}", out.display());
        }
        (Some(_), None) => bail!("--npy FILE needs --out FILE.npy"),
        (Some(_), Some(_)) => bail!("give audio files or --npy FILE, not both"),
        (None, Some(out)) if args.audio.is_empty() => bail!(
            "--out {} is for audio files or --npy FILE; embeddings of features go to [eval] output = {:?}",
            out.display(),
            config.eval.output
        ),
        (None, Some(out)) => {
            require_table_name(&out)?;
            let request = catalogue::Request { audio: args.audio, windows, shard: args.shard.resolve()? };
            let added = catalogue::add(&config, &request, &out)?;
            bc_cli::println!("{}", describe_added(&added, &out));
            if write_npy && out.exists() {
                export::vectors(&out, out.parent().unwrap_or(Path::new("")))?;
            }
            return Ok(Outcome::of_failures(added.failed.len() as u64));
        }
        (None, None) => {
            if windows.is_some() {
                bail!("--window cuts audio files; features are embedded as whole tracks");
            }
            bc_cli::println!(
                "{}",
                describe_status(embed::run(&config, args.shard.resolve()?)?, &default_path)
            );
            if write_npy && default_path.exists() {
                export::vectors(&default_path, &config.eval.output)?;
            }
        }
    }
    Ok(Outcome::Done)
}

/// Refuses a file name that promises a NumPy array: embeddings of audio files are a table.
fn require_table_name(out: &Path) -> Result<()> {
    if out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
        bail!(
            "--out {}: embeddings of audio files are a Parquet file, with their ids; give --out {}, and --npy without a value \
             to get embeddings.npy beside it",
            out.display(),
            out.with_extension("parquet").display()
        );
    }
    Ok(())
}

fn describe_status(status: Status, path: &Path) -> String {
    match status {
        Status::UpToDate => format!("Nothing to do: {} is up to date.", path.display()),
        Status::Written(count) => format!("{count} embeddings in {}", path.display()),
        Status::ShardDone(count) => {
            format!("This shard is done; {count} embeddings so far, those of other shards are missing.")
        }
    }
}

/// Returns the given file or, by default, the configuration's own embeddings, which must be up to date.
fn given_or_own(config: &Config, given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path);
    }
    embed::require_current(config)?;
    Ok(embed::path_of(config))
}

fn measure(config: &Config, args: MetricsArgs) -> Result<()> {
    let mut policy = Policy::named(&args.policy)?;
    policy.distance = args.distance().unwrap_or(policy.distance);
    let cliques = args.cliques.unwrap_or_default();
    let measured = match (args.npy, args.distances) {
        (Some(npy), _) => metrics::of_array(&npy, &cliques, &policy, args.seed)?,
        (None, Some(matrix)) => metrics::of_distances(&matrix, &cliques, &policy, args.seed)?,
        (None, None) => {
            let embeddings = given_or_own(config, args.embeddings)?;
            metrics::of_embeddings(&embeddings, args.candidates.as_deref(), &policy, args.seed)?
        }
    };
    bc_cli::println!("{}\n{}", metrics::table(&measured), measured.rules);
    if let Some(out) = args.json {
        saving::write_json(&out, &measured)?;
    }
    Ok(())
}

fn measure_baselines(config: &Config, args: &BaselinesArgs) -> Result<()> {
    let path = baselines::path_of(config);
    let outcome = baselines::run(config, &args.methods())?;
    bc_cli::println!("{}", baselines::table(config)?);
    match outcome {
        baselines::Outcome::UpToDate => bc_cli::println!("Nothing to do: {} is up to date.", path.display()),
        baselines::Outcome::Written(measured) => {
            bc_cli::println!("{}\n{}", measured.rules, path.display());
            if config.eval.output.join("report.html").exists() {
                bc_cli::println!("`bc-eval report` adds them to the report.");
            }
        }
    }
    Ok(())
}

fn measure_excerpts(config: &Config, args: &ExcerptsArgs) -> Result<()> {
    let measured = excerpts::run(config, &args.seconds)?;
    bc_cli::println!("{}\n{}; {}", excerpts::table(&measured), measured.compared, measured.rules);
    bc_cli::println!("{}", excerpts::path_of(config).display());
    Ok(())
}

fn write_report(config: &Config, args: ReportArgs) -> Result<()> {
    let folders = if args.folders.is_empty() {
        embed::require_current(config)?;
        vec![config.eval.output.clone()]
    } else {
        args.folders
    };
    let out = args.out.unwrap_or_else(|| folders[0].clone());
    let sources: Vec<report::Source> = folders.into_iter().map(report::Source::from_folder).collect();
    report::write(&sources, &out)?;
    bc_cli::println!("{}", out.join("report.html").display());
    Ok(())
}

fn calibrate(config: &Config, args: CalibrateArgs) -> Result<()> {
    let path = given_or_own(config, args.embeddings)?;
    let calibration = Calibration::from_embeddings(&path, &Embeddings::read(&path)?)?;
    let out = args.out.unwrap_or_else(|| calibration::default_path(&path));
    saving::write_json(&out, &calibration)?;
    bc_cli::println!("{}\n{}", calibration.tables(), out.display());
    Ok(())
}

/// Returns the result of adding audio files as a sentence; failures are printed to standard error.
fn describe_added(added: &Added, path: &Path) -> String {
    for failure in &added.failed {
        bc_cli::eprintln!("failed: {}: {}", failure.file, failure.error);
    }
    for cut_off in &added.cut_off {
        bc_cli::eprintln!("warning: {} {}; it was added as it is", cut_off.file, cut_off.error);
    }
    let already_present = match added.already_present {
        0 => String::new(),
        count => format!(", {count} already present"),
    };
    let failed = match added.failed.len() {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!("{} recordings added to {}{already_present}{failed}", added.new, path.display())
}

fn export_files(mut config: Config, args: ExportArgs) -> Result<()> {
    args.network.apply(&mut config);
    let has_path = args.embeddings.is_some();
    let embeddings = args.embeddings.unwrap_or_else(|| embed::path_of(&config));
    let checkpoint = config.eval.checkpoint_of(&config.train.run);
    let is_configured = !config.eval.checkpoint.as_os_str().is_empty();
    let embedder = (is_configured || checkpoint.exists())
        .then(|| origin::embedder(&config).context("cannot export the network"))
        .transpose()?;
    let vectors = has_path || embeddings.exists();
    if args.onnx && embedder.is_none() {
        bail!("--onnx: there is no network at {}; name one with --checkpoint", checkpoint.display());
    }
    if !vectors && embedder.is_none() {
        bail!(
            "nothing to export: there is neither {} nor {}; run `bc-train` and `bc-eval run` first",
            embeddings.display(),
            checkpoint.display()
        );
    }
    if vectors {
        if let Some(embedder) = &embedder {
            let origin = Origin::from_provenance(&Embeddings::read_provenance(&embeddings)?);
            origin.require_same(&embeddings, &Origin::from_embedder(embedder), &checkpoint)?;
        }
        let count = export::vectors(&embeddings, &args.out)?;
        bc_cli::println!("{count} vectors in {}", args.out.join("embeddings.npy").display());
    }
    if let Some(embedder) = embedder {
        let path = args.out.join("network.safetensors");
        let count = export::network(&embedder, &config.eval, &path)?;
        bc_cli::println!("{count} weights in {}", path.display());
        if args.onnx {
            let path = args.out.join("network.onnx");
            export::onnx(&embedder, &path)?;
            bc_cli::println!("the network in {}", path.display());
        }
    }
    Ok(())
}
