//! Extracts features on all cores, the longest file first, into parts of some hours of audio each.
//!
//! Which version goes into which part, and in what order, depends on the index alone, so the bytes do not depend on the
//! number of threads. Each row is written when it is done, so memory does not depend on the number or length of the files.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use bc_audio::{Extractor, Limits};
use bc_cli::{Interrupted, Outcome, Shard, interrupt, progress};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::failures::Failure;
use bc_formats::provenance::Provenance;
use bc_formats::retry::{self, RetryWhen};

use crate::folder::Folder;
use crate::in_order::in_order;
use crate::plan::{self, PlannedVersion, RedoOptions, Rows, Stale, Survey, Versions};
use crate::store::{Store, part_ends};
use crate::tidy;
use crate::work::{VersionResult, Worker};

/// Number of rows of versions that left the index up to which they are dropped without --drop-missing. (A tenth of all rows
/// is dropped without it, too.)
const DROPPED_WITHOUT_FLAG: usize = 10;
/// Number of files per thread that are being extracted, or done and waiting for an earlier file.
const WINDOW: usize = 3;

/// Options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The shard of the index.
    pub shard: Shard,
    /// Whether a failed file makes the run end with an error.
    pub strict: bool,
    /// Whether to try files again that failed before for lasting reasons.
    pub retry: bool,
    /// Whether to recompute rows that another extractor made.
    pub renew: bool,
    /// Whether to drop the rows of versions that left the index even if they are many.
    pub drop_missing: bool,
    /// Share of its declared length that a file may lack (`[verify] missing_share`).
    pub missing_share: f64,
}

/// Extracts the features that are missing or out of date, and tidies the folder.
///
/// # Errors
/// No index, no usable version, features of other settings, of another extractor or of another index in the folder,
/// a run of the same shard at work, a full disk, [`Interrupted`]; with `strict`, any failed file.
pub fn run(config: &FeaturesConfig, options: &Options) -> Result<Outcome> {
    interrupt::install("finishing the files in work (at most 10 s); run the same command again to continue")?;
    let versions = with_retries(config, || Versions::read(&config.index))?;
    let folder = with_retries(config, || Folder::open(&config.output, options.shard))?;
    let mut total = RunTotals { extracted: 0, milliseconds: AtomicU64::new(0), tries: AtomicU64::new(0) };
    let started = Instant::now();
    let after = with_retries(config, || pass(config, options, &versions, &folder, &mut total))?;
    if interrupt::requested() {
        let saved =
            format!("features of {} versions are saved in {}", total.extracted, config.output.display());
        return Err(Interrupted(format!("{saved}; run the same command again to continue")).into());
    }
    tidy_folder(config, &versions, folder, &after)?;
    if after.pending == 0 {
        let failed = after.failed.len();
        bc_cli::println!(
            "Nothing to do: features of {} of {} usable versions{} are in {} ({failed} failed before; --retry tries them again).",
            after.in_shard - failed,
            after.in_shard,
            of_shard(options.shard),
            config.output.display(),
        );
        if let Some(note) = &after.other_extractor {
            bc_cli::println!("{note}");
        }
    } else {
        total.print(config, &after, started.elapsed().as_secs_f64());
    }
    outcome(options, &after.failed)
}

/// Runs `work`, and tries again after temporary I/O errors.
fn with_retries<T>(config: &FeaturesConfig, work: impl FnMut() -> Result<T>) -> Result<T> {
    let again = |error: &anyhow::Error| {
        let is_temporary = retry::retry_when_in_context(error) == Some(RetryWhen::ThisRun);
        if is_temporary {
            tracing::warn!("{}; this error may be temporary; it is tried again", bc_cli::describe(error));
        }
        is_temporary
    };
    config.retry().run(again, interrupt::requested, work).0
}

/// Maximum number of failures that are printed with their reasons.
const MAX_NAMED: usize = 10;

/// What was done over all passes.
struct RunTotals {
    /// Number of rows in finished parts.
    extracted: usize,
    /// Milliseconds of audio that were processed.
    milliseconds: AtomicU64,
    /// Further tries at files, because of temporary errors.
    tries: AtomicU64,
}

impl RunTotals {
    /// Prints what was done in `elapsed_s` seconds.
    fn print(&self, config: &FeaturesConfig, after: &PassSummary, elapsed_s: f64) {
        let hours = self.milliseconds.load(Ordering::Relaxed) as f64 / 3.6e6;
        let mut text = format!(
            "{} versions, {hours:.2} h of audio in {elapsed_s:.1} s ({:.0} times real time); {} failed",
            self.extracted,
            hours * 3600.0 / elapsed_s.max(1e-9),
            after.failed.len()
        );
        if !after.failed.is_empty() {
            let temporary = after.failed.iter().filter(|failure| failure.may_pass).count();
            text += &format!(
                ", see {} ({temporary} may pass and are tried again by the next run)",
                config.output.join("failures*.parquet").display()
            );
        }
        bc_cli::println!("{text}");
        bc_cli::print!("{}", list_failures(&after.failed));
        let tries = self.tries.load(Ordering::Relaxed);
        if tries > 0 {
            bc_cli::println!("{tries} further tries at files were needed because of I/O errors");
        }
    }
}

/// Returns the first failures, one line each with its reason, and how many more there are.
fn list_failures(failed: &[Failure]) -> String {
    let line = |failure: &Failure| format!("  {}: {}\n", failure.audio_path, failure.reason);
    let mut text: String = failed.iter().take(MAX_NAMED).map(line).collect();
    if failed.len() > MAX_NAMED {
        text += &format!("  and {} more\n", failed.len() - MAX_NAMED);
    }
    text
}

/// The result of one pass over index and folder.
struct PassSummary {
    /// Usable versions of the shard.
    in_shard: usize,
    /// Number of these that had to be extracted.
    pending: usize,
    /// Failures of the shard that remain, old and new.
    failed: Vec<Failure>,
    /// Rows that were out of date before: part and version id.
    stale: HashSet<(PathBuf, String)>,
    /// A line on rows of another extractor, if there are any.
    other_extractor: Option<String>,
}

/// Compares index and folder, and extracts what is missing. A pass is repeated after temporary I/O errors.
fn pass(
    config: &FeaturesConfig,
    options: &Options,
    versions: &Versions,
    folder: &Folder,
    total: &mut RunTotals,
) -> Result<PassSummary> {
    let extractor = bc_audio::extractor(config.mp3);
    let settings = plan::failure_settings(config, options.missing_share);
    let renew = options.renew.then_some(extractor.as_str());
    let redo = RedoOptions { retry: options.retry, renew, settings: &settings };
    let survey = plan::survey(versions, &config.output, &config.cqt(), redo)?;
    refuse_mass_removal(config, options, &survey)?;
    let share = survey.share(versions, options.shard);
    let rows = survey.rows.as_ref();
    let other_extractor =
        rows.and_then(|rows| other_extractor(config, rows, &extractor)).filter(|_| !options.renew);
    let mut after = PassSummary {
        in_shard: share.versions,
        pending: share.pending.len(),
        failed: share.failed.into_iter().cloned().collect(),
        stale: stale_rows(&survey),
        other_extractor,
    };
    if share.pending.is_empty() {
        return Ok(after);
    }
    if let Some(note) = &after.other_extractor {
        bail!("{note}");
    }
    print_plan(config, &share.pending, versions.usable.len(), &of_shard(options.shard));
    let number = rows.map_or(0, |rows| rows.parts.next_number());
    let ends = part_ends(&share.pending, config.part_versions as usize, config.part_hours * 3600.0);
    let mut store = Store::new(folder, number, ends, config.cqt(), &extractor, &versions.index)?;
    let worker = Worker {
        extractor: Extractor::new(config.cqt(), Limits::of(config)),
        retry: config.retry(),
        missing_share: options.missing_share,
        settings,
    };
    let done = extract(&worker, &share.pending, &mut store, total);
    total.extracted += store.extracted;
    after.failed.append(&mut store.failed);
    done.map_err(|error| {
        let space = "free space there, or give [features] output another disk, and ";
        let advice = if retry::is_full(&error) { space } else { "" };
        error.context(format!(
            "features of {} versions are stored in {}; {advice}run the same command again to continue",
            total.extracted,
            config.output.display()
        ))
    })?;
    Ok(after)
}

/// Extracts files on all threads, and hands the results to the store in order.
fn extract(worker: &Worker, pending: &[&PlannedVersion], store: &mut Store, total: &RunTotals) -> Result<()> {
    let bar = progress::bar(pending.len() as u64, "features", "files");
    let started = Instant::now();
    let work = |version: &&PlannedVersion| {
        let done = worker.version(version, || {
            total.tries.fetch_add(1, Ordering::Relaxed);
        });
        if let VersionResult::Row(_, seconds) = &done {
            total.milliseconds.fetch_add((seconds * 1000.0) as u64, Ordering::Relaxed);
        }
        let seconds = total.milliseconds.load(Ordering::Relaxed) as f64 / 1000.0;
        let speed = seconds / started.elapsed().as_secs_f64().max(1e-9);
        bar.set_message(format!("{:.1} h, {speed:.0}x real time", seconds / 3600.0));
        bar.inc(1);
        done
    };
    let threads = rayon::current_num_threads();
    let done = in_order(pending, threads, WINDOW * threads, interrupt::requested, work, |position, done| {
        match done {
            VersionResult::Row(row, _) => store.add_row(row)?,
            VersionResult::Failed(failure) => store.add_failure(failure),
            VersionResult::Stopped => {}
        }
        store.end_part_after(position)
    })
    .and_then(|()| store.end_part());
    if done.is_err() || interrupt::requested() {
        bar.abandon();
    } else {
        bar.finish_and_clear();
    }
    done
}

/// Drops rows that are out of date and merges the failure tables, if no other run is at work in the folder.
fn tidy_folder(
    config: &FeaturesConfig,
    versions: &Versions,
    folder: Folder,
    after: &PassSummary,
) -> Result<()> {
    let provenance = Provenance {
        format: String::new(),
        tool: bc_cli::tool!().to_owned(),
        settings: serde_json::to_value(config.cqt())?,
        fingerprint: String::new(),
        inputs: [("index".to_owned(), versions.index.clone())].into(),
    };
    if folder.is_exclusive() {
        let dropped = with_retries(config, || tidy::parts(&folder, &after.stale))?;
        if dropped > 0 {
            bc_cli::println!("{}: dropped {dropped} rows that are out of date", config.output.display());
        }
        return with_retries(config, || tidy::failures(&folder, &after.failed, &provenance));
    }
    // A shard cannot tell what is out of date: another shard may have had a newer index.
    let Some(folder) = folder.exclusive_after_shard()? else { return Ok(()) };
    with_retries(config, || {
        tidy::parts(&folder, &HashSet::new())?;
        tidy::failures(&folder, &tidy::last_failures(&folder)?, &provenance)
    })
}

/// Refuses to continue with an index that looks like that of another folder.
fn refuse_mass_removal(config: &FeaturesConfig, options: &Options, survey: &Survey) -> Result<()> {
    let (unlisted, rows) = (survey.unlisted, survey.rows.as_ref().map_or(0, Rows::count));
    if unlisted > DROPPED_WITHOUT_FLAG.max(rows / 10) && !options.drop_missing {
        bail!(
            "{unlisted} of {rows} rows in {} are of versions that {} does not list as usable; correct [features] index or output, or drop them with --drop-missing",
            config.output.display(),
            config.index.display()
        );
    }
    Ok(())
}

/// Returns the message about rows of another extractor, if there are any.
fn other_extractor(config: &FeaturesConfig, found: &Rows, extractor: &str) -> Option<String> {
    let extractors = found.extractors();
    let (other, rows) = extractors.iter().find(|(other, _)| **other != extractor)?;
    Some(format!(
        "{rows} of {} rows in {} were made by `{other}`, and this run is `{extractor}`: the same audio may give other values; \
         recompute them with --renew, or give [features] output another folder",
        found.count(),
        config.output.display()
    ))
}

/// Returns the rows that are out of date, by the path of their part and the version's id.
fn stale_rows(survey: &Survey) -> HashSet<(PathBuf, String)> {
    let Some(rows) = &survey.rows else { return HashSet::new() };
    let path = |stale: &Stale| rows.parts.parts[stale.part].path.clone();
    survey.stale.iter().map(|stale| (path(stale), stale.version_id.to_string())).collect()
}

/// Returns ` of shard i/n` for messages; empty without shards.
fn of_shard(shard: Shard) -> String {
    if shard.count == 1 { String::new() } else { format!(" of shard {shard}") }
}

/// Returns the outcome of the run, an error with `strict` if a file failed.
fn outcome(options: &Options, failed: &[Failure]) -> Result<Outcome> {
    match failed.first() {
        Some(first) if options.strict => bail!(
            "{} file(s) failed, the first: {} {}; without --strict they are left out",
            failed.len(),
            first.audio_path,
            first.reason
        ),
        _ => Ok(Outcome::of_failures(failed.len() as u64)),
    }
}

/// Prints how many versions and hours of audio will be extracted.
fn print_plan(config: &FeaturesConfig, pending: &[&PlannedVersion], usable: usize, part_of: &str) {
    let seconds: f64 = pending.iter().map(|version| version.seconds).sum();
    let guessed = pending.iter().any(|version| version.guessed);
    bc_cli::println!(
        "Extracting {} of {usable} usable versions{part_of} ({}{:.2} h of audio) to {}",
        pending.len(),
        if guessed { "judged by file sizes, about " } else { "" },
        seconds / 3600.0,
        config.output.display()
    );
}
