//! Adds audio files to an index: new recordings are embedded, known ones are only looked up.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bc_audio::CutOff;
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

use crate::aligned::audio_of;
use crate::index::change::{AddOutcome, Adder, Addition, ConflictPolicy};
use crate::index::keys::Key;
use crate::index::update::{KnownRows, RowUpdate, UpdateOutcome};
use crate::index::{Manifest, Row, Storage};
use crate::list::{self, Item, Items, WorkRule};

/// Maximum number of files that are decoded and held at once; fewer if there are fewer threads.
const MAX_DECODED: usize = 16;
/// Number of files that are hashed and looked up together before any of them is decoded.
const HASH_BATCH: usize = 512;
/// Number of files that are looked up together by their paths.
const LOOK_UP_BATCH: usize = 1 << 16;
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
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Added {
    /// Recordings that are new.
    pub new: usize,
    /// Recordings that replaced another one with the same path.
    pub replaced: usize,
    /// Recordings whose audio was already in the index and that got other metadata.
    pub updated: usize,
    /// Recordings whose file was moved or renamed and that got the new path, and other metadata where these differ.
    pub moved: usize,
    /// Recordings whose audio was already in the index, under any path, and that stay unchanged (`there` in JSON).
    #[serde(rename = "there")]
    pub already_present: usize,
    /// Those of them that are exact copies of a recording under another path.
    pub copies: Vec<Copy>,
    /// Added files that are cut off.
    pub damaged: Vec<Damaged>,
    /// Number of audio and video files in the folders that were passed over, by extension.
    pub skipped: BTreeMap<String, usize>,
    /// Number of files that got no work with `--by-folder`, because they are directly in the folder that was given.
    pub without_work: usize,
    /// Files that could not be used.
    pub failed: Vec<Failure>,
}

/// A file with the same bytes as an indexed recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// The file.
    pub file: String,
    /// Path of the recording in the index.
    pub same_as: String,
}

/// A file that decodes to clearly less audio than it declares; what there is was added.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Damaged {
    /// The file.
    pub file: String,
    /// Decoded length in seconds.
    pub duration_s: f64,
    /// Declared length in seconds.
    pub declared_s: f64,
}

/// Embeds the new recordings of `request` and adds them to the index at `folder`, which is created if absent. Repeating the call adds
/// only what is missing. Other processes may add to the same index at the same time.
///
/// # Errors
/// Nothing to add; an index of another network, other windows or another storage; files that cannot be written; an interrupt.
pub fn add(config: &Config, request: &Request, folder: &Path) -> Result<Added> {
    let Items { items, failed, skipped, without_folder } = list::items(&request.inputs, &request.works)?;
    let mut items: Vec<Item> = request.shard.of(items);
    // What was seen before the files were divided among shards is reported by the first shard only.
    let added = match request.shard.index {
        0 => Added { failed, skipped, without_work: without_folder.len(), ..Added::default() },
        _ => Added::default(),
    };
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
        missing_share: config.verify.missing_share,
        added,
        pending: Vec::new(),
        updates: Vec::new(),
        deferred: Vec::new(),
        path_of_content: HashMap::new(),
        save_timer: SaveTimer::every(FIRST_SAVE * SAVE_INTERVAL_FACTOR),
    };
    addition.add_all(items)?;
    let added = addition.added;
    let used = added.new + added.replaced + added.updated + added.moved + added.already_present;
    files::expect_used(used, &added.failed, folder)?;
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
    /// Share of its declared length that a file may lack before it counts as cut off.
    missing_share: f64,
    added: Added,
    pending: Vec<Addition>,
    /// Rows of known audio that change; they are written together, so that files may swap their paths.
    updates: Vec<RowUpdate>,
    /// Files with other audio than the index holds under their path, which may become free when that recording is moved.
    deferred: Vec<Item>,
    /// The path of the first file with each content that was found in this run.
    path_of_content: HashMap<String, String>,
    save_timer: SaveTimer,
}

impl AdditionRun<'_> {
    fn add_all(&mut self, items: Vec<Item>) -> Result<()> {
        let bar = progress::bar(items.len() as u64, "adding", "files");
        let count = items.len();
        let items = self.without_unchanged(items)?;
        bar.inc((count - items.len()) as u64);
        'all: for chunk in items.chunks(HASH_BATCH) {
            let new = self.without_known_audio(chunk)?;
            bar.inc((chunk.len() - new.len()) as u64);
            if !self.embed_all(&new, &bar)? {
                break 'all;
            }
        }
        self.save()?;
        // With a part of the files alone, one whose path another takes would look removed.
        if !interrupt::requested() {
            self.update_rows()?;
        }
        let deferred = std::mem::take(&mut self.deferred);
        let items = self.without_path_conflicts(deferred)?;
        self.embed_all(&items, &bar)?;
        bar.finish_and_clear();
        self.save()?;
        if interrupt::requested() {
            let done = self.added.new + self.added.replaced;
            let text = format!("{done} recordings are saved; run the same command again to continue");
            return Err(Interrupted(text).into());
        }
        self.drop_copies_of_failed();
        Ok(())
    }

    /// Embeds files in batches and saves from time to time; returns whether all were embedded, without an interrupt.
    fn embed_all(&mut self, items: &[Item], bar: &progress::ProgressBar) -> Result<bool> {
        for batch in items.chunks(rayon::current_num_threads().clamp(1, MAX_DECODED)) {
            if interrupt::requested() {
                return Ok(false);
            }
            self.embed(batch)?;
            bar.inc(batch.len() as u64);
            if self.save_timer.is_due() {
                self.save()?;
            }
        }
        Ok(!interrupt::requested())
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
        let mut others = Vec::new();
        for chunk in items.chunks(LOOK_UP_BATCH) {
            let keys: Vec<Key> = chunk.iter().map(|item| Key::from_row(&item.row)).collect();
            for (item, known) in chunk.iter().zip(self.adder.known_rows(&keys)?) {
                match known.by_path {
                    Some(row) if is_unchanged(&row, &item.row) => self.update(item, &row),
                    _ => others.push(item.clone()),
                }
            }
        }
        Ok(others)
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
        let known = self.adder.known_rows(&keys)?;
        let mut new = Vec::with_capacity(items.len());
        for (item, known) in items.into_iter().zip(known) {
            if self.is_known_audio(&item, &known) {
                continue;
            }
            self.path_of_content.insert(item.row.content_hash.clone(), item.row.path.clone());
            match known.by_path {
                Some(_) => self.deferred.push(item),
                None => new.push(item),
            }
        }
        Ok(new)
    }

    /// Whether the audio of a file is in the index or was met before in this run. If it is, the row of the recording is updated: its
    /// metadata if the path is the same, its path too if the old one does not hold the audio any more. All others are copies.
    fn is_known_audio(&mut self, item: &Item, known: &KnownRows) -> bool {
        if let Some(row) = known.by_content.iter().find(|row| row.path == item.row.path) {
            self.update(item, row);
            self.path_of_content.insert(item.row.content_hash.clone(), row.path.clone());
            return true;
        }
        if let Some(path) = self.path_of_content.get(&item.row.content_hash) {
            self.added.copies.push(Copy { file: item.row.path.clone(), same_as: path.clone() });
            self.added.already_present += 1;
            return true;
        }
        let Some(first) = known.by_content.first() else { return false };
        match known.by_content.iter().find(|row| is_moved(row)) {
            Some(row) => {
                self.update(item, row);
                self.path_of_content.insert(item.row.content_hash.clone(), item.row.path.clone());
            }
            None => {
                self.added.copies.push(Copy { file: item.row.path.clone(), same_as: first.path.clone() });
                self.added.already_present += 1;
            }
        }
        true
    }

    /// Notes the change of a known recording's row, if its path or metadata are other ones now.
    fn update(&mut self, item: &Item, old: &Row) {
        let mut row = item.updated(old);
        if item.row.path != old.path {
            row.path.clone_from(&item.row.path);
            (row.bytes, row.modified_ns) = (item.row.bytes, item.row.modified_ns);
        }
        if row == *old {
            self.added.already_present += 1;
        } else {
            self.updates.push(RowUpdate { old: old.clone(), row });
        }
    }

    /// Writes the rows that change.
    fn update_rows(&mut self) -> Result<()> {
        let updates = std::mem::take(&mut self.updates);
        let outcomes = self.adder.update(&updates)?;
        for (update, outcome) in updates.into_iter().zip(outcomes) {
            match outcome {
                UpdateOutcome::Updated if update.old.path == update.row.path => self.added.updated += 1,
                UpdateOutcome::Updated => self.added.moved += 1,
                UpdateOutcome::PathConflict => self.fail_path_conflict(Path::new(&update.row.path)),
                UpdateOutcome::Gone => self.fail(
                    Path::new(&update.row.path),
                    "another process removed its recording meanwhile; run the same command again".to_owned(),
                ),
            }
        }
        Ok(())
    }

    /// The deferred files that can be added: their path is free by now, or they replace the recording there, whose metadata they
    /// keep where none are given.
    fn without_path_conflicts(&mut self, deferred: Vec<Item>) -> Result<Vec<Item>> {
        let keys: Vec<Key> = deferred.iter().map(|item| Key::from_row(&item.row)).collect();
        let known = self.adder.known_rows(&keys)?;
        let mut items = Vec::with_capacity(deferred.len());
        for (mut item, known) in deferred.into_iter().zip(known) {
            match known.by_path {
                Some(_) if self.adder.conflict_policy() == ConflictPolicy::KeepOld => {
                    self.fail_path_conflict(&item.path);
                    continue;
                }
                Some(old) => {
                    let Row { content_hash, bytes, modified_ns, duration_s, .. } = item.row.clone();
                    item.row = Row { content_hash, bytes, modified_ns, duration_s, ..item.updated(&old) };
                }
                None => {}
            }
            items.push(item);
        }
        Ok(items)
    }

    /// Files with the same bytes as one that failed have failed too.
    fn drop_copies_of_failed(&mut self) {
        let errors: HashMap<String, String> = self
            .added
            .failed
            .iter()
            .map(|failure| (list::stored_path(Path::new(&failure.file)), failure.error.clone()))
            .collect();
        for copy in std::mem::take(&mut self.added.copies) {
            match errors.get(&copy.same_as) {
                Some(error) => {
                    self.added.already_present -= 1;
                    let reason =
                        format!("it has the same bytes as {}, which cannot be used: {error}", copy.same_as);
                    self.fail(Path::new(&copy.file), reason);
                }
                None => self.added.copies.push(copy),
            }
        }
    }

    fn embed(&mut self, batch: &[Item]) -> Result<()> {
        let paths: Vec<PathBuf> = batch.iter().map(|item| item.path.clone()).collect();
        let short = self.short.map(|short| (short, &[1.0][..]));
        let embedded = self.audio.embed_compared(&paths, self.windows, short)?;
        for (item, embedded) in batch.iter().zip(embedded) {
            self.note_if_damaged(item, &embedded);
            match embedded.and_then(|embedded| addition(item.row.clone(), embedded)) {
                Ok(addition) => self.pending.push(addition),
                Err(error) => self.fail(&item.path, bc_cli::describe(&error)),
            }
        }
        Ok(())
    }

    fn note_if_damaged(&mut self, item: &Item, embedded: &Result<EmbeddedWithWindows>) {
        let Ok(EmbeddedWithWindows { embedded, .. }) = embedded else { return };
        let cut_off = CutOff::check(embedded.duration_s, embedded.declared_s, self.missing_share);
        self.added.damaged.extend(cut_off.map(|CutOff { duration_s, declared_s }| Damaged {
            file: item.path.display().to_string(),
            duration_s,
            declared_s,
        }));
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

/// Whether a file is the one that was indexed, by its size and modification time.
fn is_unchanged(indexed: &Row, file: &Row) -> bool {
    indexed.bytes == file.bytes && indexed.modified_ns == file.modified_ns && file.bytes > 0
}

/// Whether the audio of an indexed recording is not at its path any more. The ids of imported embeddings are no paths, and objects of a
/// store are not looked for.
fn is_moved(row: &Row) -> bool {
    let path = Path::new(&row.path);
    if !path.is_absolute() || audio_of(row).is_ok() {
        return false;
    }
    // A file that cannot be read now may still be there: only one that is absent, or holds other audio, has moved.
    match std::fs::symlink_metadata(path) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(_) => files::content_hash(path).is_ok_and(|hash| hash != row.content_hash),
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
