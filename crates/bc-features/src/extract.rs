//! Extraction: chunks of files over all cores, a part file a chunk.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bc_audio::{Extractor, Limits};
use bc_cli::{Shard, interrupt, progress};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::{FeatureRow, FeatureSet, PartWriter, failures};
use bc_formats::fingerprint;
use bc_formats::index::{Index, Version};
use bc_formats::provenance::Provenance;
use rayon::prelude::*;

use crate::plan::{self, Plan};

/// A part holds at most this many versions ...
const PART_VERSIONS: usize = 128;
/// ... and about this many seconds of audio: what a kill can lose, and what memory holds.
const PART_SECONDS: f64 = 6.0 * 3600.0;

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which part of the index.
    pub shard: Shard,
    /// Whether a failed file is an error in the end.
    pub strict: bool,
    /// Whether to try files again that failed before.
    pub retry: bool,
}

/// Extracts what is missing.
///
/// # Errors
/// No index, no usable version, features of other settings in the folder, a full
/// disk; with `strict`, any failed file.
pub fn run(config: &FeaturesConfig, options: &Options) -> Result<()> {
    let index = Index::read(&config.index)?;
    let settings = config.cqt();
    let set = FeatureSet::open_if_any(&config.output)?;
    if let Some(set) = &set {
        set.expect_settings(&config.output, &settings)?;
    }
    let Plan { usable, in_shard, pending, stale, failures: mut failed } =
        plan::plan(&index, &config.output, set.as_ref(), options.shard, options.retry)?;
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

    let seconds: f64 = pending.iter().map(plan::cost).sum();
    println!(
        "Extracting {} of {usable} usable versions{part_of} ({:.1} h of audio) to {}",
        pending.len(),
        seconds / 3600.0,
        config.output.display()
    );
    let run = Run {
        extractor: Extractor::new(settings, Limits::default()),
        bar: progress::bar(pending.len() as u64, "features", "files"),
        milliseconds: AtomicU64::new(0),
        started: Instant::now(),
    };
    let provenance = Provenance {
        format: String::new(),
        tool: bc_cli::tool!().to_owned(),
        settings: serde_json::to_value(settings)?,
        fingerprint: String::new(),
        inputs: [("index".to_owned(), index.provenance.fingerprint.clone())].into(),
    };
    let mut names = PartNames::new(&config.output, options.shard);
    let mut extracted = 0;
    for chunk in chunks(&pending) {
        let results: Vec<Result<FeatureRow, failures::Failure>> =
            chunk.par_iter().with_max_len(1).filter_map(|version| run.version(version)).collect();
        let mut part = PartWriter::create(&names.next(), settings)?;
        let mut rows = 0;
        for result in results {
            match result {
                Ok(row) => {
                    part.push(row)?;
                    rows += 1;
                }
                Err(failure) => failed.push(failure),
            }
        }
        if rows > 0 {
            part.commit(provenance.clone())?;
            extracted += rows;
        }
        let table = plan::failure_table(&config.output, options.shard);
        if !failed.is_empty() || table.exists() {
            failures::write(&table, &failed, provenance.clone())?;
        }
        if interrupt::requested() {
            run.bar.abandon();
            bail!("stopped after {extracted} versions; run the same command again to go on");
        }
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

/// What the workers share.
struct Run {
    extractor: Extractor,
    bar: progress::ProgressBar,
    milliseconds: AtomicU64,
    started: Instant,
}

impl Run {
    /// The row or the failure of a version; `None` once Ctrl-C came.
    fn version(&self, version: &Version) -> Option<Result<FeatureRow, failures::Failure>> {
        if interrupt::requested() {
            return None;
        }
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
        Some(result)
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

/// Rewrites the parts that hold rows out of date without them.
fn drop_stale(set: &FeatureSet, stale: &[(usize, HashSet<String>)]) -> Result<()> {
    for (part, ids) in stale {
        let (path, provenance) = &set.parts[*part];
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
            std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        println!("{}: dropped {} rows that are out of date", path.display(), ids.len());
    }
    Ok(())
}

/// The pending versions cut into what becomes a part each.
fn chunks(pending: &[Version]) -> impl Iterator<Item = &[Version]> {
    let mut rest = pending;
    std::iter::from_fn(move || {
        let mut seconds = 0.0;
        let mut count = 0;
        while count < rest.len().min(PART_VERSIONS) && (count == 0 || seconds < PART_SECONDS) {
            seconds += plan::cost(&rest[count]);
            count += 1;
        }
        let (chunk, left) = rest.split_at(count);
        rest = left;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Free names `part-00000.parquet`, or `part-2of7-00000.parquet` in a shard.
struct PartNames {
    folder: PathBuf,
    prefix: String,
    number: usize,
}

impl PartNames {
    fn new(folder: &Path, shard: Shard) -> Self {
        let prefix =
            if shard.count == 1 { String::new() } else { format!("{}of{}-", shard.index + 1, shard.count) };
        Self { folder: folder.to_owned(), prefix, number: 0 }
    }

    fn next(&mut self) -> PathBuf {
        loop {
            let path = self.folder.join(format!("part-{}{:05}.parquet", self.prefix, self.number));
            self.number += 1;
            if !path.exists() {
                return path;
            }
        }
    }
}
