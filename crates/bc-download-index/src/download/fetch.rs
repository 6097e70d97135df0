//! Fetches a list of files with several workers and several attempts each, until all are done or the site seems to block.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use anyhow::{Context, Result};
use bc_cli::{Shard, progress};
use bc_formats::atomic;
use bc_formats::config::DownloadConfig;

use super::incoming::{Claim, INCOMING, Job};
use super::ledger::{Failure, Ledger};
use super::messages::FailureKind;
use super::pace::Pace;
use super::watchdog::Watchdog;
use super::yt_dlp::{self, AttemptResult};
use crate::locate;

/// The result of [`fetch_all`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Fetched {
    /// Number of versions that failed.
    pub failed: usize,
    /// Whether the site seems to block.
    pub blocked: bool,
}

/// The state that all workers share.
struct Workers<'a> {
    /// yt-dlp.
    program: &'a Path,
    config: &'a DownloadConfig,
    /// Folder of the finished files.
    folder: &'a Path,
    /// Folder of the unfinished files.
    incoming: PathBuf,
    /// Fingerprint of cookies, proxy and format ([`yt_dlp::access`]).
    access: String,
    pace: Pace,
    ledger: Ledger,
    watchdog: Watchdog,
    failures_in_a_row: AtomicUsize,
    /// Whether the site seems to block.
    blocked: AtomicBool,
}

/// How a job ended.
enum JobResult {
    Done,
    /// The file could not be fetched, for this reason.
    Failed(String),
    /// Another process is fetching the file, or has fetched it since the plan was made.
    Elsewhere,
    /// The run was stopped.
    Stopped,
}

/// Fetches `jobs` into `folder` and records the failures. `access` is the fingerprint of cookies, proxy and format.
///
/// # Errors
/// The folder cannot be written, or `program` not be started.
pub fn fetch_all(
    jobs: &[Job],
    folder: &Path,
    program: &Path,
    shard: Shard,
    config: &DownloadConfig,
    access: String,
) -> Result<Fetched> {
    let workers = Workers {
        program,
        config,
        folder,
        incoming: folder.join(INCOMING),
        access,
        pace: Pace::new(config.per_minute / shard.count as f64, config.jitter),
        ledger: Ledger::open(folder, shard)?,
        watchdog: Watchdog::start()?,
        failures_in_a_row: AtomicUsize::new(0),
        blocked: AtomicBool::new(false),
    };
    let bar = progress::bar(jobs.len() as u64, "download", "files");
    let [next, done, failed, elsewhere] = [const { AtomicUsize::new(0) }; 4];
    let work = || -> Result<()> {
        while let Some(job) = jobs.get(next.fetch_add(1, SeqCst)) {
            match workers.run_job(job).inspect_err(|_| workers.pace.stop())? {
                JobResult::Done => drop(done.fetch_add(1, SeqCst)),
                JobResult::Failed(reason) => {
                    progress::line(format!("{}: {reason}", job.id));
                    failed.fetch_add(1, SeqCst);
                }
                JobResult::Elsewhere => drop(elsewhere.fetch_add(1, SeqCst)),
                JobResult::Stopped => break,
            }
            let [done, failed] = [&done, &failed].map(|count| count.load(SeqCst));
            let left = jobs.len().saturating_sub(done + failed);
            bar.set_message(format!("{done} done, {failed} failed, {left} left"));
            bar.inc(1);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..config.workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a worker does not panic"))
    })?;
    bar.finish_and_clear();
    // Fails, as it should, if an unfinished file is left for the next run or another process works there.
    let _ = std::fs::remove_dir(&workers.incoming);
    bc_cli::println!("Fetched {}, failed {}.", done.into_inner(), failed.load(SeqCst));
    let elsewhere = elsewhere.into_inner();
    if elsewhere > 0 {
        bc_cli::println!("{elsewhere} were left to another process that is fetching them.");
    }
    Ok(Fetched { failed: failed.into_inner(), blocked: workers.blocked.into_inner() })
}

impl Workers<'_> {
    /// Attempts a download until it is done, fails permanently, or has used all attempts.
    fn run_job(&self, job: &Job) -> Result<JobResult> {
        let mut wait = self.config.backoff_s;
        for left in (0..self.config.attempts).rev() {
            if !self.pace.wait() {
                return Ok(JobResult::Stopped);
            }
            let Some(claim) = Claim::take(&self.incoming, job)? else { return Ok(JobResult::Elsewhere) };
            if self.exists(&job.id) {
                claim.clear();
                return Ok(JobResult::Elsewhere);
            }
            let (url, config, watchdog) = (&job.url, self.config, &self.watchdog);
            let result =
                yt_dlp::attempt(self.program, url, &claim.work, config, watchdog, &|| self.pace.stopped())?;
            let failed = match result {
                AttemptResult::Done(path) => match self.move_to_folder(&path, &job.id)? {
                    None => {
                        claim.clear();
                        self.failures_in_a_row.store(0, SeqCst);
                        return Ok(JobResult::Done);
                    }
                    Some(reason) => FailureKind::Barred(reason),
                },
                AttemptResult::Failed(failed) => failed,
                AttemptResult::Stopped => return Ok(JobResult::Stopped),
            };
            if let FailureKind::Temporary(_, Some(wait)) = &failed {
                self.pace.hold(*wait);
            }
            if left > 0 && matches!(failed, FailureKind::Temporary(..)) && !self.blocked.load(SeqCst) {
                drop(claim);
                if !self.pace.pause(wait) {
                    return Ok(JobResult::Stopped);
                }
                wait *= 2.0;
                continue;
            }
            return self.give_up(job, &claim, failed).map(JobResult::Failed);
        }
        unreachable!("the last attempt returns")
    }

    /// Records a failure and returns its reason.
    fn give_up(&self, job: &Job, claim: &Claim, failed: FailureKind) -> Result<String> {
        let (reason, temporary, access) = match failed {
            FailureKind::Gone(reason) => (reason, false, None),
            FailureKind::Barred(reason) => (reason, false, Some(self.access.clone())),
            FailureKind::Temporary(reason, _) => (reason, true, None),
        };
        if temporary {
            let count = self.failures_in_a_row.fetch_add(1, SeqCst) + 1;
            if count >= self.config.most_failures as usize {
                self.blocked.store(true, SeqCst);
                self.pace.stop();
            }
        } else {
            claim.clear();
        }
        let (id, url) = (job.id.clone(), job.url.clone());
        self.ledger.add(&Failure { id, url, reason: reason.clone(), temporary, access })?;
        Ok(reason)
    }

    /// Returns whether the file of an id exists by now.
    fn exists(&self, id: &str) -> bool {
        locate::kept_extensions()
            .any(|extension| locate::file_exists(&self.folder.join(format!("{id}.{extension}"))))
    }

    /// Renames a finished file into the folder. Its content is flushed to disk before it is renamed, and its name before it
    /// counts as done. Returns the reason if its extension is one that no stage looks for.
    fn move_to_folder(&self, path: &Path, id: &str) -> Result<Option<String>> {
        let extension = locate::extension(path).unwrap_or_default();
        let destination = self.folder.join(format!("{id}.{extension}"));
        if !locate::is_kept(&destination) {
            return Ok(Some(format!(
                "came as a file with the extension `{extension}`, which is not audio; set [download] format to another one"
            )));
        }
        let moved = || format!("cannot move {} to {}", path.display(), destination.display());
        File::open(path).and_then(|file| file.sync_all()).with_context(moved)?;
        std::fs::rename(path, &destination).with_context(moved)?;
        atomic::sync_folder(self.folder)?;
        Ok(None)
    }
}
