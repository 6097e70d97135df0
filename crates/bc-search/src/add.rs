//! Adds audio files to an index: new recordings are embedded, known ones are only looked up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bc_cli::saving::SaveTimer;
use bc_cli::{Interrupted, Shard, interrupt, progress};
use bc_embed::files::{self, Failure};
use bc_embed::origin;
use bc_embed::recording::{AudioEmbedder, EmbeddedWithWindows, Excerpt};
use bc_embed::windows::Windows;
use bc_formats::config::{Compare, Config};
use bc_formats::run::WindowComparison;
use rayon::prelude::*;
use serde::Serialize;

use crate::index::change::{AddOutcome, Adder, Addition, ConflictPolicy, FileStatus};
use crate::index::keys::{Key, short_hash};
use crate::index::{Manifest, Row, Storage};
use crate::list::{self, Item, WorkRule};

/// Maximum number of files that are decoded and held at once; fewer if there are fewer threads.
const MAX_DECODED: usize = 16;
/// Number of files that are hashed and looked up together before any of them is decoded.
const HASH_BATCH: usize = 512;
/// Saving takes at most 1 / `SAVE_INTERVAL_FACTOR` of the time; a kill loses only what was embedded since the last save.
const SAVE_INTERVAL_FACTOR: u32 = 20;
/// Assumed duration of the first save.
const FIRST_SAVE: Duration = Duration::from_millis(50);

/// The recordings to add, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Audio files, folders, and lists (`.csv`).
    pub inputs: Vec<PathBuf>,
    /// The work that each recording is a version of, unless a list gives it.
    pub works: WorkRule,
    /// Performer of all recordings that have none.
    pub performer: Option<String>,
    /// The windows that recordings are cut into, one vector each; `None` for whole recordings.
    pub windows: Option<Windows>,
    /// Storage of the vectors; if not given, that of the existing index, or f16 for a new one.
    pub storage: Option<Storage>,
    /// The part of the files to add; other processes may add others to the same index at the same time.
    pub shard: Shard,
    /// How to treat a file whose path is in the index with different audio.
    pub conflicts: ConflictPolicy,
}

/// The result of adding, as printed with `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Added {
    /// Recordings that are new.
    pub new: usize,
    /// Recordings that replaced another one with the same path.
    pub replaced: usize,
    /// Recordings whose audio was already in the index, under any path, and that stay unchanged (`there` in JSON).
    #[serde(rename = "there")]
    pub already_present: usize,
    /// Files that could not be used.
    pub failed: Vec<Failure>,
}

/// Embeds the new recordings of `request` and adds them to the index at `folder`, which is created if absent. Repeating the call adds
/// only what is missing. Other processes may add to the same index at the same time.
///
/// # Errors
/// Nothing to add; an index of another network, other windows or another storage; files that cannot be written; an interrupt.
pub fn add(config: &Config, request: &Request, folder: &Path) -> Result<Added> {
    let (items, failed) = list::items(&request.inputs, &request.works)?;
    let mut added = Added { failed, ..Added::default() };
    let mut items: Vec<Item> = request.shard.of(items);
    if request.shard.index > 0 {
        // Reported only once: what failed before the files were divided among shards belongs to the first shard.
        added.failed.clear();
    }
    for item in items.iter_mut().filter(|item| item.row.performer.is_empty()) {
        item.row.performer = request.performer.clone().unwrap_or_default();
    }
    let existing = Manifest::path(folder).exists().then(|| Manifest::read(folder)).transpose()?;
    let audio = match &existing {
        Some(manifest) => origin::audio_embedder_like(config, folder, &manifest.provenance)?,
        None => origin::audio_embedder(config)?,
    };
    let stored = existing.as_ref().map(|manifest| manifest.storage);
    let storage = request.storage.or(stored).unwrap_or(Storage::F16);
    let mut empty = Manifest::empty(&audio.embedder, request.windows, storage);
    empty.compare = window_comparison(config, &audio, request, existing.as_ref(), folder)?;
    let short = empty.compare.as_ref().map(Windows::from_comparison).transpose()?;
    interrupt::install("finishing these files; run the same command again to continue")?;
    let mut addition = AdditionRun {
        adder: Adder::open(folder, empty, request.conflicts)?,
        audio: &audio,
        windows: request.windows,
        short,
        added,
        pending: Vec::new(),
        save_timer: SaveTimer::every(FIRST_SAVE * SAVE_INTERVAL_FACTOR),
    };
    addition.add_all(items)?;
    let added = addition.added;
    files::expect_used(added.new + added.replaced + added.already_present, &added.failed, folder)?;
    Ok(added)
}

/// The short windows that are stored in addition to whole recordings: those of the existing index, or those of `[eval] compare`,
/// by default those that the network recommends.
fn window_comparison(
    config: &Config,
    audio: &AudioEmbedder,
    request: &Request,
    existing: Option<&Manifest>,
    folder: &Path,
) -> Result<Option<WindowComparison>> {
    match existing {
        Some(Manifest { compare: Some(_), .. }) if config.eval.compare == Compare::Whole => bail!(
            "{} stores short windows of every recording; leave --whole ([eval] compare = \"whole\") out, or start another index",
            folder.display()
        ),
        Some(manifest) => Ok(manifest.compare.clone()),
        None if request.windows.is_some() => Ok(None),
        None => Ok(WindowComparison::of(&config.eval, audio.embedder.recommended.as_ref())),
    }
}

/// The state of an addition in progress.
struct AdditionRun<'a> {
    adder: Adder,
    audio: &'a AudioEmbedder,
    windows: Option<Windows>,
    /// Short windows that are stored in addition to the vectors.
    short: Option<Windows>,
    added: Added,
    pending: Vec<Addition>,
    save_timer: SaveTimer,
}

impl AdditionRun<'_> {
    fn add_all(&mut self, items: Vec<Item>) -> Result<()> {
        let bar = progress::bar(items.len() as u64, "adding", "files");
        let items = self.without_unchanged(items)?;
        bar.inc(self.added.already_present as u64);
        'all: for chunk in items.chunks(HASH_BATCH) {
            let new = self.without_known_audio(chunk)?;
            bar.inc((chunk.len() - new.len()) as u64);
            for batch in new.chunks(rayon::current_num_threads().clamp(1, MAX_DECODED)) {
                if interrupt::requested() {
                    break 'all;
                }
                self.embed(batch)?;
                bar.inc(batch.len() as u64);
                if self.save_timer.is_due() {
                    self.save()?;
                }
            }
        }
        bar.finish_and_clear();
        self.save()?;
        if interrupt::requested() {
            let done = self.added.new + self.added.replaced;
            let text = format!("{done} recordings are saved; run the same command again to continue");
            return Err(Interrupted(text).into());
        }
        Ok(())
    }

    /// The files that are not in the index unchanged, by path, size and modification time; the others are not read.
    fn without_unchanged(&mut self, items: Vec<Item>) -> Result<Vec<Item>> {
        let stamped = items.into_iter().map(|mut item| {
            // A listed object already has its size and time.
            if item.row.modified_ns == 0 {
                (item.row.bytes, item.row.modified_ns) = size_and_time(&item.path);
            }
            item
        });
        let items: Vec<Item> = stamped.collect();
        let files: Vec<(u64, u64, i64)> = items
            .iter()
            .map(|item| (short_hash(&item.row.path), item.row.bytes, item.row.modified_ns))
            .collect();
        let unchanged = self.adder.unchanged(&files)?;
        self.added.already_present += unchanged.iter().filter(|unchanged| **unchanged).count();
        Ok(items
            .into_iter()
            .zip(unchanged)
            .filter(|(_, unchanged)| !unchanged)
            .map(|(item, _)| item)
            .collect())
    }

    /// The files whose audio is not in the index, with their content hashes.
    fn without_known_audio(&mut self, chunk: &[Item]) -> Result<Vec<Item>> {
        let hashes: Vec<Result<String>> =
            chunk.par_iter().map(|item| files::content_hash(&item.path)).collect();
        let mut items = Vec::with_capacity(chunk.len());
        for (item, hash) in chunk.iter().zip(hashes) {
            match hash {
                Ok(hash) => {
                    let mut item = item.clone();
                    item.row.content_hash = hash;
                    items.push(item);
                }
                Err(error) => self.fail(&item.path, bc_cli::describe(&error)),
            }
        }
        let keys: Vec<Key> = items.iter().map(|item| Key::from_row(&item.row)).collect();
        let statuses = self.adder.statuses(&keys)?;
        let mut new = Vec::with_capacity(items.len());
        for (item, status) in items.into_iter().zip(statuses) {
            match status {
                FileStatus::SameAudio => self.added.already_present += 1,
                FileStatus::OtherAudio if self.adder.conflict_policy() == ConflictPolicy::KeepOld => {
                    self.fail_path_conflict(&item.path)
                }
                FileStatus::OtherAudio | FileStatus::New => new.push(item),
            }
        }
        Ok(new)
    }

    fn embed(&mut self, batch: &[Item]) -> Result<()> {
        let paths: Vec<PathBuf> = batch.iter().map(|item| item.path.clone()).collect();
        let short = self.short.map(|short| (short, &[1.0][..]));
        let embedded = self.audio.embed_compared(&paths, self.windows, short)?;
        for (item, embedded) in batch.iter().zip(embedded) {
            match embedded.and_then(|embedded| addition(item.row.clone(), embedded)) {
                Ok(addition) => self.pending.push(addition),
                Err(error) => self.fail(&item.path, bc_cli::describe(&error)),
            }
        }
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let started = Instant::now();
        let pending = std::mem::take(&mut self.pending);
        let paths: Vec<String> = pending.iter().map(|addition| addition.row.path.clone()).collect();
        for (path, outcome) in paths.into_iter().zip(self.adder.add(pending)?) {
            match outcome {
                AddOutcome::Added => self.added.new += 1,
                AddOutcome::Replaced => self.added.replaced += 1,
                AddOutcome::AlreadyPresent => self.added.already_present += 1,
                AddOutcome::PathConflict => self.fail_path_conflict(Path::new(&path)),
            }
        }
        self.save_timer.begin(started.elapsed() * SAVE_INTERVAL_FACTOR);
        Ok(())
    }

    fn fail(&mut self, path: &Path, error: String) {
        self.added.failed.push(Failure::new(path, error));
    }

    fn fail_path_conflict(&mut self, path: &Path) {
        let error = "the index holds other audio under this path; `bc-search replace` replaces it";
        self.fail(path, error.to_owned());
    }
}

/// The index entry of an embedded recording, with its short windows at its own tempo.
///
/// # Errors
/// A vector of length 0.
pub(crate) fn addition(
    mut row: Row,
    EmbeddedWithWindows { embedded, tempi }: EmbeddedWithWindows,
) -> Result<Addition> {
    row.duration_s = embedded.duration_s as f32;
    let parts = with_starts(embedded.excerpts);
    let windows = with_starts(tempi.into_iter().next().unwrap_or_default());
    let is_zero = parts.iter().chain(&windows).any(|(_, vector)| vector.iter().all(|value| *value == 0.0));
    ensure!(!is_zero, "its embedding is zero: the network gives no signal for it");
    Ok(Addition { row, parts, windows })
}

fn with_starts(excerpts: Vec<Excerpt>) -> Vec<(f32, Vec<f32>)> {
    excerpts.into_iter().map(|excerpt| (excerpt.start_s as f32, excerpt.vector)).collect()
}

/// Size and modification time of a file; zeros if unknown.
pub(crate) fn size_and_time(path: &Path) -> (u64, i64) {
    list::size_and_time_of(files::source(path))
}
