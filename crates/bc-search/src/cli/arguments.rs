//! The arguments of each command.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use bc_calibration::{EVEN_ODDS, SEARCH_PRIOR};
use bc_cli::ShardArgs;
use bc_embed::arguments::{NetworkArgs, WindowArgs};
use clap::{Args, Subcommand, ValueEnum};

use crate::ann;
use crate::duplicates;
use crate::export::Target;
use crate::identify;
use crate::index::Storage;
use crate::list::WorkRule;
use crate::output::Format;

/// The network, and the calibration of its scores.
#[derive(Args)]
pub struct CalibrationArgs {
    #[command(flatten)]
    pub network: NetworkArgs,
    /// File of `bc-eval calibrate`; the one in the network's folder, next to the index or in [eval] output if not given.
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
}

/// How answers are printed.
#[derive(Args)]
pub struct FormatArgs {
    /// Format of the output.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The same as --format jsonl: one JSON object per line.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl FormatArgs {
    /// The requested format.
    pub fn format(&self) -> Format {
        if self.json { Format::Jsonl } else { self.format }
    }
}

/// Checks that a prior is between 0 and 1.
pub fn check_prior(value: f64) -> Result<f64> {
    bc_calibration::check_prior(value)
}

/// Parses a number from 0 to 1.
fn parse_probability(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("a probability is from 0 to 1".to_owned()) }
}

#[derive(Args)]
pub struct SearchArgs {
    /// Audio files, folders of them, or - for a list on standard input, one per line. If a file of the index is gone, its path still is
    /// a query: its stored vectors are searched, and the recording is left out of its own answer. A file that exists is embedded, and
    /// found itself if the index holds it.
    #[arg(value_name = "QUERY", required = true)]
    pub queries: Vec<String>,
    /// Folder of an index, or a file of embeddings; [eval] search_index if not given.
    #[arg(long, value_name = "INDEX")]
    pub index: Option<PathBuf>,
    /// Number of works per answer.
    #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// The probability, before the scores are known, that the index holds a query's work.
    #[arg(long, value_name = "0..1", default_value_t = SEARCH_PRIOR)]
    pub prior: f64,
    /// Align the first works (3 if no number is given) with the query: key shift in semitones, tempo ratio and
    /// matched sections. Decodes the query, and the audio of the index, once more.
    #[arg(long, value_name = "WORKS", num_args = 0..=1, require_equals = true, default_missing_value = "3")]
    pub align: Option<usize>,
    /// Compare only whole recordings, even if the index has short windows of them; the same as --set eval.compare=whole.
    #[arg(long, conflicts_with = "window")]
    pub whole: bool,
    /// Find candidates with the graphs of `bc-search ann build`: faster in large indexes, but some of the nearest may be missed.
    #[arg(long)]
    pub ann: bool,
    #[command(flatten)]
    pub window: WindowArgs,
    #[command(flatten)]
    pub calibration_args: CalibrationArgs,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args)]
pub struct CompareArgs {
    /// One recording.
    pub a: PathBuf,
    /// The other recording.
    pub b: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The probability, before the score is known, that the two are versions of one work.
    #[arg(long, value_name = "0..1", default_value_t = EVEN_ODDS)]
    pub prior: f64,
    /// Align the recordings: key shift in semitones, tempo ratio and matched sections.
    #[arg(long)]
    pub align: bool,
    /// Compare them by one vector each, even if the network recommends short windows; the same as --set eval.compare=whole.
    #[arg(long, conflicts_with = "window")]
    pub whole: bool,
    #[command(flatten)]
    pub window: WindowArgs,
    #[command(flatten)]
    pub calibration_args: CalibrationArgs,
}

/// Storage of the vectors.
#[derive(Clone, Copy, ValueEnum)]
pub enum StorageArg {
    /// 16-bit floats.
    F16,
    /// 8-bit integers with one scale per vector: half of the bytes.
    Int8,
}

impl From<StorageArg> for Storage {
    fn from(storage: StorageArg) -> Self {
        match storage {
            StorageArg::F16 => Self::F16,
            StorageArg::Int8 => Self::Int8,
        }
    }
}

#[derive(Args)]
pub struct AddArgs {
    /// Audio files, folders that are searched for them, and lists: .csv with a column `path` (relative to the list), and title,
    /// performer, work, isrc, iswc and any other columns.
    #[arg(value_name = "AUDIO|FOLDER|LIST", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Folder of the index; created if absent.
    #[arg(long, value_name = "FOLDER")]
    pub index: PathBuf,
    /// The work that all recordings are versions of; if not given, each is a separate work, and a search groups
    /// those that are similar.
    #[arg(long, visible_alias = "clique")]
    work: Option<String>,
    /// Files in one folder are versions of one work. Its name is the folder's path below the folder that was given: `Song` for
    /// music/Song/a.mp3, `A/Live` for music/A/Live/a.mp3. Files directly in the given folder get no work. `add` does not rename the works
    /// of recordings that have one; `replace` does.
    #[arg(long, conflicts_with = "work")]
    by_folder: bool,
    /// Performer of all recordings that have none in a list.
    #[arg(long)]
    pub performer: Option<String>,
    /// Storage of the vectors if this creates the index; f16 if not given.
    #[arg(long, value_enum)]
    pub storage: Option<StorageArg>,
    /// If this creates the index, store no short windows of whole recordings, even if the network recommends comparing by them; the
    /// same as --set eval.compare=whole.
    #[arg(long)]
    pub whole: bool,
    /// Print the result as JSON, with failures and their reasons.
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
    /// How the work of each recording is determined.
    pub fn works(&self) -> WorkRule {
        match &self.work {
            Some(work) => WorkRule::One(work.clone()),
            None if self.by_folder => WorkRule::Folder,
            None => WorkRule::Own,
        }
    }
}

#[derive(Args)]
pub struct IndexArgs {
    /// Folder of the index.
    #[arg(long, value_name = "FOLDER")]
    pub index: PathBuf,
}

#[derive(Args)]
pub struct InfoArgs {
    /// Folder of the index.
    #[arg(long, value_name = "FOLDER")]
    pub index: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ListArgs {
    /// Folder of an index, or a file of embeddings.
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// Only the versions of these works; all recordings if not given.
    #[arg(long, num_args = 1..)]
    pub work: Vec<String>,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args)]
#[group(required = true, multiple = true, args = ["path", "work", "content"])]
pub struct RemoveArgs {
    /// Folder of the index.
    #[arg(long, value_name = "FOLDER")]
    pub index: PathBuf,
    /// Paths, as the index shows them or relative to the working directory.
    #[arg(long, num_args = 1..)]
    pub path: Vec<String>,
    /// All versions of these works.
    #[arg(long, num_args = 1..)]
    pub work: Vec<String>,
    /// Content hashes.
    #[arg(long, num_args = 1.., value_name = "HASH")]
    pub content: Vec<String>,
}

#[derive(Args)]
pub struct MergeArgs {
    /// Indexes of the same network.
    #[arg(value_name = "INDEX", required = true)]
    pub others: Vec<PathBuf>,
    /// Folder of the index that they are added to; created if absent.
    #[arg(long, value_name = "FOLDER")]
    pub index: PathBuf,
}

#[derive(Args)]
pub struct ImportArgs {
    /// Embeddings (`embeddings.parquet`, `search.parquet`).
    #[arg(value_name = "EMBEDDINGS", required = true)]
    pub embeddings: Vec<PathBuf>,
    /// Folder of the index; created if absent.
    #[arg(long, value_name = "FOLDER")]
    pub index: PathBuf,
    /// Storage of the vectors if this creates the index; f16 if not given.
    #[arg(long, value_enum)]
    pub storage: Option<StorageArg>,
}

#[derive(Args)]
pub struct DuplicatesArgs {
    /// Folder of the index.
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// Prior: average number of other versions of its work that a recording has in the index.
    #[arg(long, default_value_t = 0.5)]
    pub prior: f64,
    /// Leave out pairs below this probability.
    #[arg(long, alias = "least", value_name = "0..1", default_value_t = 0.5, value_parser = parse_probability)]
    pub min_probability: f64,
    #[command(flatten)]
    pub cells: CellArgs,
    #[command(flatten)]
    pub calibration_args: CalibrationArgs,
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Whether all pairs are compared.
#[derive(Args)]
pub struct CellArgs {
    /// Compare all pairs, however many there are: the time grows with the square of the recordings. Up to 20,000 this is always done.
    #[arg(long)]
    exact: bool,
    /// Cells that a recording is compared with in a larger index; more cells find more pairs and take longer. The recall is measured and printed.
    #[arg(long, value_name = "CELLS", conflicts_with = "exact", value_parser = clap::value_parser!(u32).range(1..))]
    probes: Option<u32>,
}

impl CellArgs {
    /// Cells that a recording is compared with, in an index of this many recordings; `None` for all pairs.
    pub fn probes(&self, recordings: usize) -> Option<usize> {
        match self.probes {
            Some(probes) => Some(probes as usize),
            None if self.exact || recordings <= duplicates::ALL_PAIRS => None,
            None => Some(16),
        }
    }
}

#[derive(Args)]
pub struct IdentifyArgs {
    /// Long recordings.
    #[arg(value_name = "MIX", required = true)]
    pub files: Vec<PathBuf>,
    /// Folder of an index of whole recordings.
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// Length of a window in seconds: at least the short windows that the index keeps (10 s by the default network; 2 s without), and
    /// above 30 s at most the length of the recording.
    #[arg(long, value_name = "SECONDS", default_value_t = identify::DEFAULT_WINDOW_S)]
    pub window: f64,
    /// Time from the beginning of one window to that of the next, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub step: f64,
    /// Prior probability that a position in the recording belongs to a work of the index.
    #[arg(long, value_name = "0..1", default_value_t = EVEN_ODDS)]
    pub prior: f64,
    /// Leave out stretches below this probability.
    #[arg(long, alias = "least", value_name = "0..1", default_value_t = 0.2, value_parser = parse_probability)]
    pub min_probability: f64,
    #[command(flatten)]
    pub calibration_args: CalibrationArgs,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args)]
pub struct ExportArgs {
    /// Folder of an index, or a file of embeddings.
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// The database that will load the export.
    #[arg(long, value_enum)]
    pub to: Target,
    /// Folder to write to.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct RerankArgs {
    /// CSV with the columns query and path, or JSON objects with these keys, one per line; - for standard input.
    #[arg(value_name = "CANDIDATES")]
    pub candidates: PathBuf,
    /// Folder of an index, or a file of embeddings.
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// Number of works per answer.
    #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// The probability, before the scores are known, that the index holds a query's work.
    #[arg(long, value_name = "0..1", default_value_t = SEARCH_PRIOR)]
    pub prior: f64,
    #[command(flatten)]
    pub calibration_args: CalibrationArgs,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Args)]
pub struct ServeArgs {
    /// Folder of an index.
    #[arg(value_name = "INDEX")]
    pub index: PathBuf,
    /// Address and port; port 0 chooses a free one. Only this machine can reach 127.0.0.1.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8765")]
    pub listen: SocketAddr,
    /// File with the token (16 characters or more) that clients need to add recordings; without it nobody can.
    #[arg(long, value_name = "FILE", env = "BYTECOVER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Maximum number of requests that compute at once; the number of threads if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,
    /// Maximum number of waiting requests; more are refused with 503 and a time after which to retry.
    #[arg(long, default_value_t = 128)]
    pub queue: u16,
    /// Maximum size of an uploaded file, in MB.
    #[arg(long, value_name = "MB", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_upload: u32,
    /// Maximum size of all uploaded files together, in MB.
    #[arg(long, value_name = "MB", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_spool: u32,
    /// Folder for uploaded files while they are processed; a temporary one if not given.
    #[arg(long, value_name = "FOLDER")]
    pub spool: Option<PathBuf>,
    /// Maximum length of a recording in minutes.
    #[arg(long, value_name = "MINUTES", default_value_t = 30.0)]
    pub max_minutes: f64,
    /// Maximum time to decode a file, in seconds.
    #[arg(long, alias = "patience", value_name = "SECONDS", default_value_t = 60.0)]
    pub decode_timeout: f64,
    /// Do not serve the audio of indexed recordings.
    #[arg(long)]
    pub no_audio: bool,
    /// A further name of this server, if it listens on this machine only and a proxy in front of it has another name.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// An origin whose pages may send requests to this server (CORS), such as https://music.example.org; none if not given.
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// The probability, before the scores are known, that the index holds a query's work.
    #[arg(long, value_name = "0..1", default_value_t = SEARCH_PRIOR)]
    pub prior: f64,
    /// Find candidates with the graphs of `bc-search ann build`: faster in large indexes, but some of the nearest may be missed.
    #[arg(long)]
    pub ann: bool,
    #[command(flatten)]
    pub calibration_args: CalibrationArgs,
}

#[derive(Subcommand)]
pub enum AnnCommand {
    /// Build the graph of every large segment that has none, and print its recall and speed compared with an exact search.
    Build(AnnBuildArgs),
    /// Remove the graphs, so that searches are exact again.
    Remove(IndexArgs),
}

#[derive(Args)]
pub struct AnnBuildArgs {
    /// Folder of the index; run `bc-search compact` first to get one segment and one graph.
    #[arg(long, value_name = "FOLDER")]
    pub index: PathBuf,
    /// Links of a vector (M of HNSW), twice as many on the lowest level: more links raise recall, size and time.
    #[arg(long, value_name = "LINKS", default_value_t = ann::Settings::default().connectivity)]
    pub connectivity: usize,
    /// Candidate vectors that are examined for the links of a new one (efConstruction of HNSW).
    #[arg(long, value_name = "VECTORS", default_value_t = ann::Settings::default().expansion)]
    pub expansion: usize,
    /// Minimum number of vectors of a segment to get a graph; smaller segments are searched exactly.
    #[arg(long, alias = "least", value_name = "VECTORS", default_value_t = ann::Settings::default().min_vectors)]
    pub min_vectors: usize,
    /// Print one JSON object per graph.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct BenchArgs {
    /// Number of vectors.
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: usize,
    /// Dimension of a vector.
    #[arg(long, default_value_t = 512)]
    pub dims: usize,
    /// Queries of a batch.
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Number of single queries that are timed.
    #[arg(long, default_value_t = 11)]
    pub rounds: usize,
    /// Only this storage; both if not given.
    #[arg(long, value_enum)]
    pub storage: Option<StorageArg>,
    /// Do not measure recall, for which all vectors are compared with the queries as 32-bit floats.
    #[arg(long)]
    pub no_recall: bool,
    /// Build graphs for approximate search as well, and measure them.
    #[arg(long)]
    pub ann: bool,
    /// Do not merge the segments into one, which needs half of the disk space.
    #[arg(long)]
    pub no_compact: bool,
    /// Read lines `VARIANT FIRST END [THREADS]` from standard input and print the seconds of these queries, after writing queries.f32 and
    /// truth.u64 to the folder. scripts/bench_search.py measures other programs alternately in this way.
    #[arg(long, requires = "folder")]
    pub in_turn: bool,
    /// Folder for the indexes, which stay there; a temporary one if not given.
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}
