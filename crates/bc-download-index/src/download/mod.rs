//! Fetches what an index lacks, with yt-dlp.
//!
//! **In**: an index with ids or urls. **Out**: `<dataset_path>/<id>.<extension>`, each whole when it
//! appears, and statuses in the index. Unfinished files lie in `<dataset_path>/.incoming`, from where
//! yt-dlp goes on; failures that will not pass in `<dataset_path>/.failed.jsonl`, a line each, so that
//! no run asks for them again. A kill loses at most what was under way.

pub mod pace;
pub mod yt_dlp;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use bc_cli::{Shard, interrupt, progress};
use bc_formats::config::{Config, DownloadConfig};
use bc_formats::index::{Index, Status};
use serde::{Deserialize, Serialize};

use crate::locate;
use pace::Pace;
use yt_dlp::Outcome;

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Only print what would be fetched.
    pub dry_run: bool,
    /// Fetch at most so many.
    pub limit: Option<usize>,
    /// The part of the index.
    pub shard: Shard,
}

/// A failure that stays.
#[derive(Serialize, Deserialize)]
struct Failure {
    id: String,
    reason: String,
}

struct Run<'a> {
    program: &'a Path,
    config: &'a DownloadConfig,
    incoming: &'a Path,
    folder: &'a Path,
    pace: Pace,
    failures: Mutex<std::fs::File>,
    in_a_row: AtomicUsize,
    blocked: AtomicBool,
}

/// Downloads.
///
/// # Errors
/// No index, no yt-dlp, a folder that cannot be written, or too many failures in a row.
pub fn run(config: &Config, options: Options) -> Result<()> {
    let folder = &config.index.dataset_path;
    let mut index = Index::read(&config.index.output)?;
    if !config.index.file_extension.is_empty() {
        bail!("[index] file_extension must be empty for downloads: m4a or webm comes, as the site has it");
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let there = locate::files_by_stem(&config.index)?;
    let failed_path = folder.join(".failed.jsonl");
    let failed = read_failures(&failed_path);
    let (mut done, mut gone, mut jobs) = (0, 0, Vec::new());
    for (at, version) in index.versions.iter().enumerate().filter(|(at, _)| options.shard.takes(*at)) {
        let id = version.version_id.as_str();
        let named = version.audio_path.as_deref().is_some_and(|path| Path::new(path).is_file());
        if named || there.contains_key(id) {
            done += 1;
        } else if failed.contains_key(id) {
            gone += 1;
        } else if let Some(url) = url(&config.download.url, id, version.source_url.as_deref()) {
            jobs.push((at, url));
        }
    }
    jobs.truncate(options.limit.unwrap_or(usize::MAX));
    println!("{done} are there, {gone} are gone for good, {} to fetch.", jobs.len());
    if options.dry_run {
        jobs.iter().for_each(|(at, url)| println!("{}  {url}", index.versions[*at].version_id));
        return Ok(());
    }
    let mut passing = HashMap::new();
    let mut blocked = false;
    if !jobs.is_empty() {
        let program = yt_dlp::find()?;
        let incoming = folder.join(".incoming");
        std::fs::create_dir_all(&incoming)?;
        interrupt::install("Stopping; what is done stays. Ctrl-C again to quit at once.")?;
        let run = Run {
            program: &program,
            config: &config.download,
            incoming: &incoming,
            folder,
            pace: Pace::new(config.download.per_minute, config.download.jitter),
            failures: Mutex::new(OpenOptions::new().append(true).create(true).open(&failed_path)?),
            in_a_row: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
        };
        let jobs: Vec<(&str, &str)> =
            jobs.iter().map(|(at, url)| (index.versions[*at].version_id.as_str(), url.as_str())).collect();
        passing = run.all(&jobs)?;
        blocked = run.blocked.into_inner();
    }
    // Parts run side by side, so only a whole run writes the index; `build` finds the files of the others.
    if options.shard == Shard::WHOLE {
        let gone = read_failures(&failed_path);
        update(&mut index, config, &gone, &passing)?;
    }
    if blocked {
        bail!(
            "{} downloads in a row failed, so the site seems to block; wait some hours, or set [download] cookies \
             or proxy, then run the same command again",
            config.download.most_failures
        );
    }
    Ok(())
}

impl Run<'_> {
    /// Fetches all; what failed but may succeed another day comes back with its reason.
    fn all(&self, jobs: &[(&str, &str)]) -> Result<HashMap<String, String>> {
        let bar = progress::bar(jobs.len() as u64, "download", "files");
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failed = Mutex::new(HashMap::new());
        let work = || -> Result<()> {
            while let Some((id, url)) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                if self.blocked.load(Ordering::SeqCst) {
                    break;
                }
                match self.one(id, url)? {
                    Outcome::Done(_) => drop(done.fetch_add(1, Ordering::SeqCst)),
                    Outcome::Permanent(reason) | Outcome::Transient(reason, _) => {
                        progress::line(format!("{id}: {reason}"));
                        failed.lock().expect("no holder panics").insert((*id).to_owned(), reason);
                    }
                    Outcome::Stopped => break,
                }
                let lost = failed.lock().expect("no holder panics").len();
                bar.set_message(format!("{} done, {lost} failed", done.load(Ordering::SeqCst)));
                bar.inc(1);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.config.workers).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })?;
        bar.finish_and_clear();
        let failed = failed.into_inner().expect("no holder panics");
        println!("Fetched {}, failed {}.", done.into_inner(), failed.len());
        Ok(failed)
    }

    /// Attempts until done, permanent, or out of attempts.
    fn one(&self, id: &str, url: &str) -> Result<Outcome> {
        if id.contains(['/', '\\']) {
            return Ok(Outcome::Transient("the id is no file name".to_owned(), None));
        }
        let mut wait = self.config.backoff_s;
        for left in (0..self.config.attempts).rev() {
            if !self.pace.wait() {
                return Ok(Outcome::Stopped);
            }
            let outcome = yt_dlp::attempt(self.program, url, id, self.incoming, self.config)?;
            match &outcome {
                Outcome::Done(path) => {
                    std::fs::rename(path, self.folder.join(path.file_name().unwrap_or_default()))?;
                    self.in_a_row.store(0, Ordering::SeqCst);
                }
                Outcome::Permanent(reason) => {
                    let line = Failure { id: id.to_owned(), reason: reason.clone() };
                    // A line break in front, too: a kill may have cut off the line before.
                    let line = format!("\n{}\n", serde_json::to_string(&line)?);
                    self.failures.lock().expect("no holder panics").write_all(line.as_bytes())?;
                }
                Outcome::Transient(_, asked) if left > 0 && !self.blocked.load(Ordering::SeqCst) => {
                    if let Some(asked) = asked {
                        self.pace.hold(*asked);
                    }
                    if !self.pace.pause(wait) {
                        return Ok(Outcome::Stopped);
                    }
                    wait *= 2.0;
                    continue;
                }
                Outcome::Transient(..) => {
                    let count = self.in_a_row.fetch_add(1, Ordering::SeqCst) + 1;
                    if count >= self.config.most_failures as usize {
                        self.blocked.store(true, Ordering::SeqCst);
                    }
                }
                Outcome::Stopped => {}
            }
            return Ok(outcome);
        }
        unreachable!("the last attempt returns")
    }
}

fn url(template: &str, id: &str, source: Option<&str>) -> Option<String> {
    if template.is_empty() { source.map(str::to_owned) } else { Some(template.replace("{id}", id)) }
}

/// The failures that stay; a line cut off by a kill is passed over.
fn read_failures(path: &Path) -> HashMap<String, String> {
    let text = std::fs::read(path).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    lines.map(|failure: Failure| (failure.id, failure.reason)).collect()
}

/// Writes what came and what failed into the index.
fn update(
    index: &mut Index,
    config: &Config,
    gone: &HashMap<String, String>,
    passing: &HashMap<String, String>,
) -> Result<()> {
    let there = locate::files_by_stem(&config.index)?;
    let old = Index::fingerprint(&index.versions);
    for version in
        index.versions.iter_mut().filter(|version| matches!(version.status, Status::Missing | Status::Failed))
    {
        let id = version.version_id.as_str();
        if let Some(path) = there.get(id) {
            version.bytes = Some(std::fs::metadata(path)?.len());
            version.audio_path = Some(path.to_string_lossy().into_owned());
            (version.status, version.reason) = (Status::Ok, None);
        } else if let Some(reason) = gone.get(id).or_else(|| passing.get(id)) {
            (version.status, version.reason) = (Status::Failed, Some(reason.clone()));
        }
    }
    if Index::fingerprint(&index.versions) != old {
        index.write(&config.index.output)?;
        println!("Wrote {}.", config.index.output.display());
    }
    Ok(())
}
