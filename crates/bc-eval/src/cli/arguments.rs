//! The arguments of each command.

use std::path::PathBuf;

use anyhow::Result;
use bc_cli::ShardArgs;
use bc_formats::config::{Config, Layer};
use bc_retrieval::Distance;
use clap::{Args, ValueEnum};

use crate::baselines::Method;
use crate::catalogue::Works;
use crate::windows::Windows;

/// Which network; commands that embed have it.
#[derive(Args)]
pub struct NetworkArgs {
    /// The network, ours or a public .pt; [eval] checkpoint, or the best one of [train] run, if not given.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The network's output that is the embedding; [eval] layer if not given.
    #[arg(long)]
    layer: Option<LayerArg>,
}

impl NetworkArgs {
    /// Puts them over the configuration's.
    pub fn apply(self, config: &mut Config) {
        if let Some(checkpoint) = self.checkpoint {
            config.eval.checkpoint = checkpoint;
        }
        match self.layer {
            None => {}
            Some(LayerArg::Fc) => config.eval.layer = Layer::Fc,
            Some(LayerArg::Ft) => config.eval.layer = Layer::Ft,
            Some(LayerArg::Logits) => config.eval.layer = Layer::Logits,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum LayerArg {
    /// Behind the BNNeck: what the paper retrieves with.
    #[value(name = "f_c")]
    Fc,
    /// Before the BNNeck.
    #[value(name = "f_t")]
    Ft,
    /// The classifier's outputs.
    #[value(name = "logits")]
    Logits,
}

/// Whether audio is cut.
#[derive(Args)]
pub struct WindowArgs {
    /// Cut audio files into windows of this many seconds; the best window counts. Whole tracks if not given.
    #[arg(long, value_name = "SECONDS")]
    window: Option<f64>,
    /// Distance of the windows' beginnings in seconds; half a window if not given.
    #[arg(long, value_name = "SECONDS", requires = "window")]
    step: Option<f64>,
}

impl WindowArgs {
    /// The windows, if any.
    pub fn resolve(&self) -> Result<Option<Windows>> {
        let Some(length) = self.window else { return Ok(None) };
        Windows::new(length, self.step.unwrap_or(length / 2.0)).map(Some)
    }
}

/// Which calibration, and what is known beforehand.
#[derive(Args)]
pub struct ProbabilityArgs {
    /// File of `bc-eval calibrate`; calibration.json beside the index or in [eval] output if not given.
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// The probability before the scores are known: that the index holds the query's work (search), or
    /// that the two are versions of one work (compare).
    #[arg(long, value_name = "0..1", default_value_t = crate::calibration::EVEN)]
    prior: f64,
}

impl ProbabilityArgs {
    /// The prior, if it is one.
    pub fn prior(&self) -> Result<f64> {
        crate::calibration::prior(self.prior)
    }
}

/// How audio files are embedded, and what is said of them.
#[derive(Args)]
pub struct ListenArgs {
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub window: WindowArgs,
    #[command(flatten)]
    pub probability: ProbabilityArgs,
}

#[derive(Args)]
pub struct EmbedArgs {
    /// Audio files and folders to embed instead of the index's features; needs --out.
    #[arg(value_name = "AUDIO", requires = "out")]
    pub audio: Vec<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub shard: ShardArgs,
    #[command(flatten)]
    pub window: WindowArgs,
    /// Without a value: write embeddings.npy and ids.txt beside embeddings.parquet too. With one: embed this
    /// NumPy array (tracks x bins x frames, the network's input as it is) into --out (.npy).
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub npy: Option<Option<PathBuf>>,
    /// Embeddings of audio files (.parquet) or of --npy FILE (.npy).
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Folders with embeddings.parquet and metrics.json; [eval] output if none is given.
    #[arg(value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// Folder to write report.html and report.md to; the first folder if not given.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct MetricsArgs {
    /// Embeddings file; embeddings.parquet in [eval] output if not given.
    #[arg(long, value_name = "FILE")]
    pub embeddings: Option<PathBuf>,
    /// Another embeddings file as the candidates (noise works are candidates only).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["npy", "distances"])]
    pub candidates: Option<PathBuf>,
    /// Vectors as a NumPy array, versions x dimensions, 32-bit floats.
    #[arg(long, value_name = "FILE", requires = "cliques", conflicts_with = "embeddings")]
    pub npy: Option<PathBuf>,
    /// A square NumPy matrix of distances; each row is a query.
    #[arg(long, value_name = "FILE", requires = "cliques", conflicts_with_all = ["embeddings", "npy"])]
    pub distances: Option<PathBuf>,
    /// One clique per line, in the order of the rows.
    #[arg(long, value_name = "FILE")]
    pub cliques: Option<PathBuf>,
    /// The codebase whose rules to follow: default, orfium, clews, coverhunter, cqtnet, re-move or discogs-vinet.
    #[arg(long, default_value = "default")]
    pub policy: String,
    /// Distance, if other than the policy's.
    #[arg(long, conflicts_with = "distances")]
    distance: Option<DistanceArg>,
    /// Seed of the intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also write the figures as JSON.
    #[arg(long, value_name = "OUT")]
    pub json: Option<PathBuf>,
}

impl MetricsArgs {
    /// The distance asked for.
    pub fn distance(&self) -> Option<Distance> {
        self.distance.map(|distance| match distance {
            DistanceArg::Cosine => Distance::Cosine,
            DistanceArg::Euclidean => Distance::Euclidean,
            DistanceArg::Dot => Distance::Dot,
        })
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum DistanceArg {
    Cosine,
    Euclidean,
    Dot,
}

#[derive(Args)]
pub struct SearchArgs {
    /// Audio files, or ids of versions in the index.
    #[arg(value_name = "QUERY", required = true)]
    pub queries: Vec<String>,
    /// Embeddings file; [eval] search_index if not given: all usable versions of [features] index, whatever their split.
    /// What is missing in it is embedded first.
    #[arg(long, value_name = "FILE")]
    pub index: Option<PathBuf>,
    /// Number of works per answer.
    #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// Print one JSON object per query, one per line; a query without an answer has `error` in it.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub listen: ListenArgs,
}

#[derive(Args)]
pub struct CompareArgs {
    /// One recording.
    pub a: PathBuf,
    /// The other.
    pub b: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub listen: ListenArgs,
}

#[derive(Args)]
pub struct CalibrateArgs {
    /// Embeddings file with the splits val and test; embeddings.parquet in [eval] output if not given.
    #[arg(long, value_name = "FILE")]
    pub embeddings: Option<PathBuf>,
    /// File to write; calibration.json beside the embeddings if not given.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct AddArgs {
    /// Audio files, and folders that are searched for them. A file's id is its name with extension, below a folder
    /// with the folders between.
    #[arg(value_name = "AUDIO", required = true)]
    pub audio: Vec<PathBuf>,
    /// Embeddings file to append to; made if it is not there.
    #[arg(long, value_name = "FILE")]
    pub index: PathBuf,
    /// The work that all of them are versions of; if not given, each is a work of its own, and a search puts
    /// together those that are alike.
    #[arg(long)]
    clique: Option<String>,
    /// Those in one folder are versions of one work, which has the folder's name.
    #[arg(long, conflicts_with = "clique")]
    by_folder: bool,
    /// Title of all of them; the file's name if not given.
    #[arg(long)]
    pub title: Option<String>,
    /// Performer of all of them.
    #[arg(long)]
    pub performer: Option<String>,
    /// Print what became of the files as JSON, failures with their reasons.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub shard: ShardArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub window: WindowArgs,
}

impl AddArgs {
    /// Which work each is a version of.
    pub fn works(&self) -> Works {
        match &self.clique {
            Some(clique) => Works::One(clique.clone()),
            None if self.by_folder => Works::Folder,
            None => Works::Own,
        }
    }
}

#[derive(Args)]
pub struct ExportArgs {
    /// Embeddings file; embeddings.parquet in [eval] output if not given.
    #[arg(long, value_name = "FILE")]
    pub embeddings: Option<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Write network.onnx too, for onnxruntime and others.
    #[arg(long)]
    pub onnx: bool,
    /// Folder to write embeddings.npy, ids.txt and network.safetensors to.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

/// `bc-eval baselines`.
#[derive(Args)]
pub struct BaselinesArgs {
    /// Methods, separated by commas; 2dfm, 2dfm-dc and qmax if not given.
    #[arg(long, value_delimiter = ',', value_name = "METHOD")]
    method: Vec<Method>,
}

impl BaselinesArgs {
    /// The methods to measure.
    pub fn methods(&self) -> Vec<Method> {
        if self.method.is_empty() { Method::USUAL.to_vec() } else { self.method.clone() }
    }
}
