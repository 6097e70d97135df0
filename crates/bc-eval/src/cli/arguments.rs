//! The arguments of each command.

use std::path::PathBuf;

use bc_cli::ShardArgs;
use bc_retrieval::Distance;
use clap::{Args, ValueEnum};

use crate::baselines::Method;
use bc_embed::arguments::{NetworkArgs, WindowArgs};

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
    /// Without a value: write embeddings.npy and ids.txt next to embeddings.parquet too. With one: embed this
    /// NumPy array (tracks x rows x frames, the network's input as it is) into --out (.npy), or all arrays (rows x
    /// frames, of any lengths) of this folder, in order of their names.
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
    /// One clique per line, in the order of the rows; no line is empty.
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
    /// Returns the requested distance, if any.
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
pub struct CalibrateArgs {
    /// Embeddings file with the splits val and test; embeddings.parquet in [eval] output if not given.
    #[arg(long, value_name = "FILE")]
    pub embeddings: Option<PathBuf>,
    /// File to write; calibration.json next to the embeddings if not given.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
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

/// `bc-eval excerpts`.
#[derive(Args)]
pub struct ExcerptsArgs {
    /// Lengths of the excerpts in seconds, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "SECONDS", default_value = "10,20,30")]
    pub seconds: Vec<f64>,
}

/// `bc-eval baselines`.
#[derive(Args)]
pub struct BaselinesArgs {
    /// Methods, separated by commas; 2dfm, 2dfm-dc and qmax if not given.
    #[arg(long, value_delimiter = ',', value_name = "METHOD")]
    method: Vec<Method>,
}

impl BaselinesArgs {
    /// Returns the methods to measure.
    pub fn methods(&self) -> Vec<Method> {
        if self.method.is_empty() { Method::DEFAULT.to_vec() } else { self.method.clone() }
    }
}
