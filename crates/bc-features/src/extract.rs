//! Extraction: files over all cores, the longest first, a part file for some hours of audio.
//!
//! Which version goes into which part, and in what order, depends on the index alone, so the bytes
//! do not depend on the number of threads. A part's rows are written as they come, so memory
//! does not depend on what the index says (or does not say) of lengths.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bc_audio::{Extractor, Limits};
use bc_cli::{Shard, interrupt, progress};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::{CqtSettings, FeatureRow, FeatureSet, PartWriter, failures};
use bc_formats::fingerprint;
use bc_formats::index::{Index, Version};
use bc_formats::provenance::Provenance;

use crate::folder::Folder;
use crate::in_order::in_order;
use crate::plan::{self, Plan};

/// A part holds at most this many versions ...
const PART_VERSIONS: usize = 128;
/// ... and about this many seconds of audio: what a kill can lose.
const PART_SECONDS: f64 = 6.0 * 3600.0;
/// Rows of versions that left the index are dropped without a question up to a tenth of all, and these.
const DROPPED_UNASKED: usize = 10;
/// Files in work or waiting for an earlier one, a thread.
const WINDOW: usize = 3;

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which part of the index.
    pub shard: Shard,
    /// Whether a failed file is an error in the end.
    pub strict: bool,
    /// Whether to try files again that failed before.
    pub retry: bool,
    /// Whether to drop rows even where many are of versions that left the index.
    pub drop_missing: bool,
}

/// Extracts what is missing.
///
/// # Errors
/// No index, no usable version, features of other settings or of another index in the folder, a
/// run of the same shard at work, a full disk; with `strict`, any failed file.
pub fn run(config: &FeaturesConfig, options: &Options) -> Result<()> {
    let index = Index::read(&config.index)?;
    let settings = config.cqt();
    let folder = Folder::open(&config.output, options.shard)?;
    let set = FeatureSet::open_if_any(&config.output)?;
    if let Some(set) = &set {
        set.expect_settings(&config.output, &settings)?;
    }
    let Plan { usable, in_shard, pending, stale, failures: failed, departed } =
        plan::plan(&index, &config.output, set.as_ref(), options.shard, options.retry)?;
    let rows = set.as_ref().map_or(0, |set| set.rows.len());
    if departed > DROPPED_UNASKED.max(rows / 10) && !options.drop_missing {
        bail!(
            "{departed} of {rows} rows in {} are of versions that {} does not list as usable; correct [features] index or output, or drop them with --drop-missing",
            config.output.display(),
            config.index.display()
        );
    }
    if let Some(set) = &set {
        drop_stale(set, &stale)?;
    }
    let part_of =
        if options.shard.count == 1 { String::new() } else { format!(" of shard {}", options.shard) };
    if pending.is_empty() {
        println!(
            "Nothing to do: features of {} of {in_shard} usable versions{part_of} are in {} ({} failed before; --retry tries them again).",
            in_shard - failed.len(),
            config.output.display(),
            failed.len()
        );
        return strict_result(options, &failed);
    }
    interrupt::install("finishing the files in work; run the same command again to go on")?;
    announce(config, &pending, usable, &part_of);
    let run = Run {
        extractor: Extractor::new(settings, Limits::of(config)),
        bar: progress::bar(pending.len() as u64, "features", "files"),
        milliseconds: AtomicU64::new(0),
        started: Instant::now(),
    };
    let provenance = Provenance {
        format: String::new(),
        tool: bc_cli::tool!().to_owned(),
        // Beside the transform's, which are added to them: who decodes MP3 shows in the last bits, and in damaged files.
        settings: serde_json::json!({ "mp3": config.mp3 }),
        fingerprint: String::new(),
        inputs: [("index".to_owned(), index.provenance.fingerprint.clone())].into(),
    };
    let mut store = Store {
        folder,
        part: None,
        ends: part_ends(&pending),
        failures: plan::failure_table(&config.output, options.shard),
        failed,
        extracted: 0,
        provenance,
        settings,
        rows: 0,
    };
    let done = in_order(
        &pending,
        rayon::current_num_threads(),
        WINDOW * rayon::current_num_threads(),
        interrupt::requested,
        |version| run.version(version),
        |number, result| store.take(number, result),
    )
    .and_then(|()| store.end_part());
    if done.is_err() {
        run.bar.abandon();
    }
    done.with_context(|| {
        format!(
            "features of {} versions are stored in {}; free space there, or give [features] output another disk, and run the same command again to go on",
            store.extracted,
            config.output.display()
        )
    })?;
    let (extracted, failed) = (store.extracted, store.failed);
    if interrupt::requested() {
        run.bar.abandon();
        bail!("stopped after {extracted} versions; run the same command again to go on");
    }
    run.bar.finish_and_clear();
    let hours = run.milliseconds.load(Ordering::Relaxed) as f64 / 3.6e6;
    let wall = run.started.elapsed().as_secs_f64();
    println!(
        "{extracted} versions, {hours:.2} h of audio in {wall:.1} s ({:.0} times real time); {} failed{}",
        hours * 3600.0 / wall.max(1e-9),
        failed.len(),
        if failed.is_empty() {
            String::new()
        } else {
            format!(", see {}", plan::failure_table(&config.output, options.shard).display())
        }
    );
    strict_result(options, &failed)
}

fn strict_result(options: &Options, failed: &[failures::Failure]) -> Result<()> {
    match failed.first() {
        Some(first) if options.strict => bail!(
            "{} file(s) failed, the first: {} {}; without --strict they are left out",
            failed.len(),
            first.audio_path,
            first.reason
        ),
        _ => Ok(()),
    }
}

/// Says what is to be done.
fn announce(config: &FeaturesConfig, pending: &[Version], usable: usize, part_of: &str) {
    let seconds: f64 = pending.iter().map(plan::cost).sum();
    let guessed = pending.iter().any(|version| version.duration_s.is_none());
    println!(
        "Extracting {} of {usable} usable versions{part_of} ({}{:.1} h of audio) to {}",
        pending.len(),
        if guessed { "by the sizes of the files about " } else { "" },
        seconds / 3600.0,
        config.output.display()
    );
}

/// What the workers share.
struct Run {
    extractor: Extractor,
    bar: progress::ProgressBar,
    milliseconds: AtomicU64,
    started: Instant,
}

impl Run {
    fn version(&self, version: &Version) -> Result<FeatureRow, failures::Failure> {
        let path = version.audio_path.as_deref().unwrap_or_default();
        let result = self.extract(version, Path::new(path)).map_err(|reason| failures::Failure {
            version_id: version.version_id.clone(),
            audio_path: path.to_owned(),
            reason,
        });
        let done = self.milliseconds.load(Ordering::Relaxed) as f64 / 1000.0;
        self.bar.set_message(format!(
            "{:.1} h, {:.0}x real time",
            done / 3600.0,
            done / self.started.elapsed().as_secs_f64().max(1e-9)
        ));
        self.bar.inc(1);
        result
    }

    fn extract(&self, version: &Version, path: &Path) -> Result<FeatureRow, String> {
        let features = self.extractor.file(path).map_err(|error| error.to_string())?;
        self.milliseconds.fetch_add((features.duration_s * 1000.0) as u64, Ordering::Relaxed);
        let source_hash = match &version.content_hash {
            Some(hash) => hash.clone(),
            None => fingerprint::of_file(path).map_err(|error| format!("{error:#}"))?,
        };
        Ok(FeatureRow {
            version_id: version.version_id.clone(),
            clique_id: version.clique_id.clone(),
            frames: features.frames as u32,
            source_hash,
            magnitude: features.magnitude,
        })
    }
}

/// Where the results go, in the order of the pending versions.
struct Store {
    folder: Folder,
    part: Option<PartWriter>,
    /// Numbers of the versions that end a part.
    ends: HashSet<usize>,
    failures: PathBuf,
    failed: Vec<failures::Failure>,
    /// Rows in finished parts.
    extracted: usize,
    provenance: Provenance,
    settings: CqtSettings,
    /// Rows in the part being written.
    rows: usize,
}

impl Store {
    fn take(&mut self, number: usize, result: Result<FeatureRow, failures::Failure>) -> Result<()> {
        match result {
            Ok(row) => {
                if self.part.is_none() {
                    self.part = Some(PartWriter::create(&self.folder.next_part(), self.settings)?);
                }
                if let Some(part) = &mut self.part {
                    part.push(row)?;
                    self.rows += 1;
                }
            }
            Err(failure) => self.failed.push(failure),
        }
        if self.ends.contains(&number) { self.end_part() } else { Ok(()) }
    }

    /// Makes what came so far lasting.
    fn end_part(&mut self) -> Result<()> {
        if let Some(part) = self.part.take() {
            part.commit(self.provenance.clone())?;
            self.extracted += std::mem::take(&mut self.rows);
        }
        if !self.failed.is_empty() || self.failures.exists() {
            failures::write(&self.failures, &self.failed, self.provenance.clone())?;
        }
        Ok(())
    }
}

/// Rewrites the parts that hold rows out of date without them.
fn drop_stale(set: &FeatureSet, stale: &[(usize, HashSet<String>)]) -> Result<()> {
    for (part, ids) in stale {
        let (path, provenance) = &set.parts[*part];
        // Another shard's run was quicker.
        if !path.exists() {
            continue;
        }
        let mut writer = PartWriter::create(path, set.settings)?;
        let mut kept = 0;
        set.for_each_of(*part, |row| {
            if ids.contains(&row.version_id) {
                return Ok(());
            }
            kept += 1;
            writer.push(row)
        })?;
        if kept > 0 {
            writer.commit(provenance.clone())?;
        } else {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        println!("{}: dropped {} rows that are out of date", path.display(), ids.len());
    }
    Ok(())
}

/// The numbers of the pending versions that end a part.
fn part_ends(pending: &[Version]) -> HashSet<usize> {
    let mut ends = HashSet::new();
    let (mut seconds, mut count) = (0.0, 0);
    for (number, version) in pending.iter().enumerate() {
        seconds += plan::cost(version);
        count += 1;
        if count == PART_VERSIONS || seconds >= PART_SECONDS {
            ends.insert(number);
            (seconds, count) = (0.0, 0);
        }
    }
    ends
}
