//! The state that all requests share: the index in its newest generation, and what they may spend.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use bc_formats::config::Config;

use super::feature_cache::{FeatureCache, Hashes};
use super::metrics::ServerMetrics;
use super::options::Options;
use super::queue::Queue;
use super::upload::Spool;
use crate::answer::{self, Searcher};
use crate::index::Recording;

/// Maximum number of works of an answer.
pub const MAX_WORKS: usize = 100;
/// How often the index is looked at for what others have added.
const FOLLOW_PERIOD: Duration = Duration::from_secs(2);

/// The works of one generation, each with its recordings.
pub type Works = Arc<Vec<Vec<Recording>>>;

/// A server.
pub struct State {
    /// The options it was started with.
    pub options: Options,
    /// The queue of requests that compute.
    pub queue: Queue,
    /// The counters of the server.
    pub metrics: ServerMetrics,
    /// The folder of uploaded files.
    pub spool: Spool,
    /// Features of the last recordings.
    pub feature_cache: FeatureCache,
    /// Content hashes of audio files whose modification time is not that in the index.
    pub hashes: Hashes,
    /// The works of a generation, once somebody asked for them.
    pub works: Mutex<Option<(u64, Works)>>,
    /// Held while a recording is added.
    pub adding: Mutex<()>,
    /// Held while a newer generation is looked for.
    refreshing: Mutex<()>,
    /// Absolute path of the index.
    pub index: PathBuf,
    searcher: RwLock<Arc<Searcher>>,
}

impl State {
    /// Opens index and network.
    ///
    /// # Errors
    /// As [`Searcher::open`]; a network that is not the index's; no folder for files.
    pub fn open(config: &Config, path: &Path, options: Options) -> Result<Self> {
        let mut config = config.clone();
        config.features.longest_s = options.longest_s;
        config.features.patience_s = options.patience_s;
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
            hashes: Hashes::default(),
            works: Mutex::default(),
            adding: Mutex::default(),
            refreshing: Mutex::default(),
            index: std::path::absolute(path)?,
            searcher: RwLock::new(Arc::new(searcher)),
            metrics,
            options,
        })
    }

    /// The index as it is now.
    pub fn searcher(&self) -> Arc<Searcher> {
        self.searcher.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Switches to the newest generation of the index, if there is a newer one.
    ///
    /// # Errors
    /// A file of the index that cannot be read.
    pub fn refresh(&self) -> Result<()> {
        // One at a time: of two the slower one must not put an older generation back.
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
        tokio::time::sleep(FOLLOW_PERIOD).await;
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
            tracing::warn!("answers are of the index as it was: {problem}");
        }
        before = problem;
    }
}
