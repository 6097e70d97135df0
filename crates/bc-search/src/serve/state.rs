//! The state that all requests share: the newest generation of the index, the queue, and caches.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use bc_formats::config::Config;

use super::feature_cache::{FeatureCache, HashCache};
use super::metrics::ServerMetrics;
use super::options::Options;
use super::queue::Queue;
use super::upload::Spool;
use crate::answer::{self, Searcher};
use crate::index::Recording;

/// Maximum number of works of an answer.
pub const MAX_WORKS: usize = 100;
/// Interval at which the index is checked for additions by other processes.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);

/// The works of one generation, each with its recordings.
pub type Works = Arc<Vec<Vec<Recording>>>;

/// The state of a server.
pub struct State {
    /// The options that the server was started with.
    pub options: Options,
    /// The queue of requests that compute.
    pub queue: Queue,
    /// The counters of the server.
    pub metrics: ServerMetrics,
    /// The folder of uploaded files.
    pub spool: Spool,
    /// Features of the last recordings.
    pub feature_cache: FeatureCache,
    /// Content hashes of audio files whose modification time differs from that in the index.
    pub hashes: HashCache,
    /// The works of a generation, once they were requested.
    pub works: Mutex<Option<(u64, Works)>>,
    /// Held while a recording is added.
    pub adding: Mutex<()>,
    /// Held while a newer generation is opened.
    refreshing: Mutex<()>,
    /// Share of its declared length that a recording may lack before its sender is warned.
    pub missing_share: f64,
    /// Absolute path of the index.
    pub index: PathBuf,
    searcher: RwLock<Arc<Searcher>>,
}

impl State {
    /// Opens index and network.
    ///
    /// # Errors
    /// As [`Searcher::open`]; a network other than the index's; no folder for uploaded files.
    pub fn open(config: &Config, path: &Path, options: Options) -> Result<Self> {
        let mut config = config.clone();
        config.features.longest_s = options.longest_s;
        config.features.patience_s = options.decode_timeout_s;
        let search_options = answer::Options {
            k: MAX_WORKS,
            windows: None,
            prior: options.prior,
            calibration: options.calibration.clone(),
            approximate: options.approximate,
        };
        let searcher = Searcher::open(&config, path, search_options)?;
        searcher.audio()?;
        let metrics = ServerMetrics::new()?;
        metrics.recordings.set(searcher.index.len() as i64);
        let queue = (metrics.waiting.clone(), metrics.working.clone(), metrics.work_seconds.clone());
        Ok(Self {
            queue: Queue::new(options.workers, options.queue, queue),
            spool: Spool::new(&options, metrics.spooled.clone())?,
            feature_cache: FeatureCache::default(),
            hashes: HashCache::default(),
            works: Mutex::default(),
            adding: Mutex::default(),
            refreshing: Mutex::default(),
            missing_share: config.verify.missing_share,
            index: std::path::absolute(path)?,
            searcher: RwLock::new(Arc::new(searcher)),
            metrics,
            options,
        })
    }

    /// The current generation of the index.
    pub fn searcher(&self) -> Arc<Searcher> {
        self.searcher.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Switches to the newest generation of the index, if there is a newer one.
    ///
    /// # Errors
    /// A file of the index that cannot be read.
    pub fn refresh(&self) -> Result<()> {
        // One at a time, so that a slower thread does not restore an older generation.
        let _refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = self.searcher().newer()? {
            self.metrics.recordings.set(newer.index.len() as i64);
            *self.searcher.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
        }
        Ok(())
    }
}

/// Switches to newer generations of the index as other processes write them.
pub async fn follow(state: Arc<State>) {
    let mut before = String::new();
    loop {
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        let refreshed = tokio::task::spawn_blocking({
            let state = state.clone();
            move || state.refresh()
        });
        let problem = match refreshed.await {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => bc_cli::describe(&error),
            Err(error) => error.to_string(),
        };
        // Once per problem, not every two seconds.
        if !problem.is_empty() && problem != before {
            tracing::warn!("the index cannot be refreshed, so answers are of its last generation: {problem}");
        }
        before = problem;
    }
}
