//! Writes features of synthetic versions, painted from works as notes (bc-paint).
//!
//! **In**: the sources and lists of `[paint]`. **Out**: `index.parquet` and `features/part-*.parquet`, the
//! files of stages 1 and 2. Which version is in which part depends on the sources and the settings alone, so a
//! killed run continues with the first part that is missing, and the bytes are the same whatever the number
//! of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bc_cli::{Interrupted, interrupt, progress};
use bc_formats::config::{FeaturesConfig, PaintConfig};
use bc_formats::features::{CqtSettings, FeatureRow, PartWriter, Source};
use bc_formats::fingerprint::Fingerprint;
use bc_formats::index::{Index, Split, Status, Version};
use bc_formats::lock::{self, LockMode};
use bc_formats::provenance::Provenance;
use bc_paint::{Catalogue, Painter, VersionSeed, Work};
use half::f16;

use crate::in_order::in_order;

/// Number of rows of a part; a kill loses at most so many, which take less than two seconds.
const PART_ROWS: usize = 1000;
/// Number of versions per thread that are being painted, or done and waiting for an earlier one.
const WINDOW: usize = 32;

/// One version to be painted.
struct Job {
    /// Index of the work in the catalogue.
    work: usize,
    split: Split,
    /// Number among the versions of its work, from 0.
    number: u32,
}

/// Paints what is missing. With `fresh`, features of other settings in the folder are removed first.
///
/// # Errors
/// Sources that cannot be read, features of other settings in the folder, a full disk.
pub fn run(features: &FeaturesConfig, config: &PaintConfig, fresh: bool) -> Result<()> {
    let settings = features.cqt();
    let painter = Painter::new(&settings, bc_paint::VariationRange::from_config(config))?;
    let columns = (config.seconds / settings.column_seconds()) as usize;
    ensure!(columns > 0, "[paint] seconds = {} is shorter than a column ([features] pool)", config.seconds);
    let catalogue = Catalogue::read(config)?;
    let jobs = jobs(&catalogue, config);
    ensure!(
        jobs.iter().any(|job| job.split == Split::Train),
        "no work is left to train on; correct [paint] splits (--splits) or held_out"
    );
    let folder = config.output.join("features");
    let in_use = || format!("another bc-features paint is writing {}; wait for it to end", folder.display());
    let _lock = lock::lock_folder(&folder, ".paint.lock", LockMode::Exclusive, in_use)?;
    let provenance = provenance(config, &settings, &catalogue);
    let parts = jobs.len().div_ceil(PART_ROWS);
    let missing = missing_parts(&folder, parts, &provenance, fresh)?;
    interrupt::install("finishing the part in work; run the same command again to continue")?;
    let pending: Vec<&Job> =
        missing.iter().flat_map(|part| jobs.chunks(PART_ROWS).nth(*part).into_iter().flatten()).collect();
    let bar = progress::bar(pending.len() as u64, "painting", "versions");
    let started = Instant::now();
    let mut store = Store {
        folder: &folder,
        missing: &missing,
        settings,
        provenance: &provenance,
        part: None,
        rows: 0,
        done: 0,
    };
    let threads = rayon::current_num_threads();
    let done = in_order(
        &pending,
        threads,
        WINDOW * threads,
        interrupt::requested,
        |job| row(&catalogue, &painter, config.seed, job, columns),
        |_, row| {
            bar.inc(1);
            store.add(row, jobs.len())
        },
    );
    bar.finish_and_clear();
    let painted = store.done;
    done.with_context(|| {
        format!(
            "{painted} versions are stored in {}; free space there and run the same command again",
            folder.display()
        )
    })?;
    if interrupt::requested() && painted < pending.len() {
        return Err(interrupted(painted, pending.len(), &folder).into());
    }
    write_index(config, &catalogue, &jobs, &provenance)?;
    report(config, &catalogue, &jobs, painted, started.elapsed().as_secs_f64());
    Ok(())
}

/// Returns the error of a run that was interrupted.
fn interrupted(painted: usize, pending: usize, folder: &Path) -> Interrupted {
    Interrupted(format!(
        "{painted} of {pending} versions are stored in {}; run the same command again to continue",
        folder.display()
    ))
}

/// Prints how many versions were painted.
fn report(config: &PaintConfig, catalogue: &Catalogue, jobs: &[Job], painted: usize, seconds: f64) {
    let count = |split| jobs.iter().filter(|job| job.split == split).count();
    let works: BTreeSet<usize> = jobs.iter().map(|job| job.work).collect();
    let left = catalogue.works.len() - works.len();
    bc_cli::println!(
        "{} training and {} validation versions of {} works are in {} ({painted} painted now, {:.0} each second; {left} works are in no list).",
        count(Split::Train),
        count(Split::Val),
        works.len(),
        config.output.display(),
        painted as f64 / seconds.max(1e-9),
    );
}

/// Returns all versions to be painted, work after work.
fn jobs(catalogue: &Catalogue, config: &PaintConfig) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (position, entry) in catalogue.works.iter().enumerate() {
        let versions = match entry.split {
            Split::Train => (f64::from(config.versions) * entry.weight).round() as u32,
            Split::Val => config.val_versions,
            _ => 0,
        };
        jobs.extend((0..versions).map(|number| Job { work: position, split: entry.split, number }));
    }
    jobs
}

/// Paints one version.
fn row(catalogue: &Catalogue, painter: &Painter, seed: u64, job: &Job, columns: usize) -> FeatureRow {
    let work = &catalogue.works[job.work].work;
    let version = VersionSeed { seed, epoch: 0, version: u64::from(job.number) };
    let picture = painter.paint(work, version, columns);
    let magnitude: Vec<f16> = picture.values.iter().map(|value| f16::from_f32(*value)).collect();
    let mut hash = blake3::Hasher::new();
    magnitude.iter().for_each(|value| {
        hash.update(&value.to_le_bytes());
    });
    FeatureRow {
        version_id: version_id(work, job.number),
        frames: columns as u32,
        source_hash: hash.finalize().to_hex()[..32].to_owned(),
        source: Source::default(),
        error_share: None,
        magnitude,
    }
}

fn version_id(work: &Work, number: u32) -> String {
    format!("{}_{number}", work.id)
}

/// Returns the provenance of index and parts; its input `painting` is a fingerprint of everything that determines the
/// features.
fn provenance(config: &PaintConfig, settings: &CqtSettings, catalogue: &Catalogue) -> Provenance {
    // Paths do not affect what is painted.
    let fingerprinted =
        PaintConfig { sources: Vec::new(), splits: PathBuf::new(), output: PathBuf::new(), ..config.clone() };
    let mut plan = Fingerprint::of("painting");
    plan.add(bc_paint::PAINTER.to_le_bytes())
        .add_json(&fingerprinted)
        .add_json(settings)
        .add_json(&catalogue.inputs);
    let mut inputs = catalogue.inputs.clone();
    inputs.insert("painting".to_owned(), plan.finish());
    Provenance {
        format: String::new(),
        tool: bc_cli::tool!().to_owned(),
        settings: serde_json::json!({ "paint": config, "cqt": settings }),
        fingerprint: String::new(),
        inputs,
    }
}

fn part_path(folder: &Path, part: usize) -> PathBuf {
    folder.join(format!("part-{part:05}.parquet"))
}

/// Returns the numbers of the parts that are missing. Parts of other settings are an error, or removed with `fresh`.
fn missing_parts(folder: &Path, parts: usize, provenance: &Provenance, fresh: bool) -> Result<Vec<usize>> {
    let mut present = BTreeSet::new();
    let expected: BTreeMap<PathBuf, usize> = (0..parts).map(|part| (part_path(folder, part), part)).collect();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let remove =
            || std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()));
        if name.starts_with(".part-") && name.ends_with(".tmp") {
            remove()?;
        }
        if !name.starts_with("part-") || !name.ends_with(".parquet") {
            continue;
        }
        let same_painting = bc_formats::features::FeatureSet::provenance_of(&path)
            .is_ok_and(|found| found.inputs.get("painting") == provenance.inputs.get("painting"));
        match expected.get(&path) {
            Some(part) if same_painting => {
                present.insert(*part);
            }
            _ if fresh => remove()?,
            _ => bail!(
                "{} was painted with other sources, lists or settings, or is damaged; give another --out, or remove it with --fresh",
                path.display()
            ),
        }
    }
    Ok((0..parts).filter(|part| !present.contains(part)).collect())
}

/// Writes rows into parts, in the order of the jobs.
struct Store<'a> {
    folder: &'a Path,
    /// Numbers of the parts that are not finished, the one being written first.
    missing: &'a [usize],
    settings: CqtSettings,
    provenance: &'a Provenance,
    /// The part being written, once it has a row.
    part: Option<PartWriter>,
    /// Rows in the part being written.
    rows: usize,
    /// Rows in finished parts.
    done: usize,
}

impl Store<'_> {
    /// Adds the next row, and finishes the part if it is the last of it; `jobs` is the number of versions in all parts.
    fn add(&mut self, row: FeatureRow, jobs: usize) -> Result<()> {
        let Some(part) = self.missing.first().copied() else { bail!("one row too many was painted") };
        let mut writer = match self.part.take() {
            Some(writer) => writer,
            None => PartWriter::create(&part_path(self.folder, part), self.settings)?
                .made_by(&format!("bc-paint {}", bc_paint::PAINTER)),
        };
        writer.push(row)?;
        self.rows += 1;
        if self.rows == PART_ROWS.min(jobs - part * PART_ROWS) {
            writer.commit(self.provenance.clone())?;
            self.done += std::mem::take(&mut self.rows);
            self.missing = &self.missing[1..];
        } else {
            self.part = Some(writer);
        }
        Ok(())
    }
}

/// Writes the index of all versions.
fn write_index(
    config: &PaintConfig,
    catalogue: &Catalogue,
    jobs: &[Job],
    provenance: &Provenance,
) -> Result<()> {
    let versions = jobs
        .iter()
        .map(|job| {
            let entry = &catalogue.works[job.work];
            let mut version = Version::new(version_id(&entry.work, job.number), entry.work.id.clone());
            version.title = entry.work.title.clone();
            version.performer = "painted".to_owned();
            version.split = job.split;
            version.audio_path = Some(config.sources[entry.source].display().to_string());
            version.status = Status::Ok;
            version.duration_s = Some(config.seconds);
            version
        })
        .collect();
    Index { versions, provenance: provenance.clone() }.write(&config.output.join("index.parquet"))
}
