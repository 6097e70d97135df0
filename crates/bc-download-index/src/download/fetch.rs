//! Workers that fetch a list of files, each with its attempts, until all are done or the site blocks.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use bc_cli::{Shard, progress};
use bc_formats::config::DownloadConfig;

use super::ledger::{Failure, Ledger};
use super::pace::Pace;
use super::yt_dlp::{self, Outcome};

/// One file to fetch.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Version id; the file's name.
    pub id: String,
    /// Where it comes from.
    pub url: String,
}

struct Workers<'a> {
    program: &'a Path,
    config: &'a DownloadConfig,
    incoming: &'a Path,
    folder: &'a Path,
    pace: Pace,
    ledger: Ledger,
    in_a_row: AtomicUsize,
    blocked: AtomicBool,
}

/// Fetches `jobs` into `folder`, notes what failed, and says whether the site seems to block.
///
/// # Errors
/// The folder cannot be written, or `program` not be started.
pub fn all(
    jobs: &[Job],
    folder: &Path,
    program: &Path,
    shard: Shard,
    config: &DownloadConfig,
) -> Result<bool> {
    let incoming = folder.join(".incoming");
    std::fs::create_dir_all(&incoming).with_context(|| format!("cannot make {}", incoming.display()))?;
    let workers = Workers {
        program,
        config,
        incoming: &incoming,
        folder,
        pace: Pace::new(config.per_minute, config.jitter),
        ledger: Ledger::open(folder, shard)?,
        in_a_row: AtomicUsize::new(0),
        blocked: AtomicBool::new(false),
    };
    let bar = progress::bar(jobs.len() as u64, "download", "files");
    let [next, done, failed] = [const { AtomicUsize::new(0) }; 3];
    let work = || -> Result<()> {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
            match workers.one(job).inspect_err(|_| workers.pace.stop())? {
                Outcome::Done(_) => drop(done.fetch_add(1, Ordering::SeqCst)),
                Outcome::Permanent(reason) | Outcome::Transient(reason, _) => {
                    progress::line(format!("{}: {reason}", job.id));
                    failed.fetch_add(1, Ordering::SeqCst);
                }
                Outcome::Stopped => break,
            }
            let [done, failed] = [&done, &failed].map(|count| count.load(Ordering::SeqCst));
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
    println!("Fetched {}, failed {}.", done.into_inner(), failed.into_inner());
    Ok(workers.blocked.into_inner())
}

impl Workers<'_> {
    /// Attempts until done, gone, or out of attempts.
    fn one(&self, job: &Job) -> Result<Outcome> {
        let fail = |reason: &str, passing: bool| {
            let (id, url) = (job.id.clone(), job.url.clone());
            self.ledger.add(&Failure { id, url, reason: reason.to_owned(), passing })
        };
        let mut wait = self.config.backoff_s;
        for left in (0..self.config.attempts).rev() {
            if !self.pace.wait() {
                return Ok(Outcome::Stopped);
            }
            let stopped = || self.pace.stopped();
            let outcome = yt_dlp::attempt(self.program, job, self.incoming, self.config, &stopped)?;
            if let Outcome::Transient(_, Some(asked)) = &outcome {
                self.pace.hold(*asked);
            }
            match &outcome {
                Outcome::Done(path) => {
                    let to = self.folder.join(path.file_name().unwrap_or_default());
                    std::fs::rename(path, &to)
                        .with_context(|| format!("cannot move {} to {}", path.display(), to.display()))?;
                    self.in_a_row.store(0, Ordering::SeqCst);
                }
                Outcome::Permanent(reason) => fail(reason, false)?,
                Outcome::Transient(..) if left > 0 && !self.blocked.load(Ordering::SeqCst) => {
                    if !self.pace.pause(wait) {
                        return Ok(Outcome::Stopped);
                    }
                    wait *= 2.0;
                    continue;
                }
                Outcome::Transient(reason, _) => {
                    fail(reason, true)?;
                    let count = self.in_a_row.fetch_add(1, Ordering::SeqCst) + 1;
                    if count >= self.config.most_failures as usize {
                        self.blocked.store(true, Ordering::SeqCst);
                        self.pace.stop();
                    }
                }
                Outcome::Stopped => {}
            }
            return Ok(outcome);
        }
        unreachable!("the last attempt returns")
    }
}
