//! An addition in progress: which files are known, which changed or moved, and which are embedded.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use bc_audio::CutOff;
use bc_cli::saving::SaveTimer;
use bc_cli::{Interrupted, interrupt, progress};
use bc_embed::files::{self, Failure};
use bc_embed::recording::{AudioEmbedder, EmbeddedWithWindows};
use bc_embed::windows::Windows;
use rayon::prelude::*;

use super::embedded::addition;
use super::outcome::{Absent, Added, Copy, Damaged, Move, Replacement};
use super::works::FolderWorks;
use crate::index::Row;
use crate::index::change::{AddOutcome, Adder, Addition, ConflictPolicy};
use crate::index::keys::Key;
use crate::index::update::{KnownRows, RowUpdate, UpdateOutcome};
use crate::list::{Item, size_and_time};
use crate::moves::{AbsentFolders, is_moved};
use crate::paths::LinkResolver;

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

/// How files are embedded.
pub(super) struct Settings<'a> {
    pub audio: &'a AudioEmbedder,
    pub windows: Option<Windows>,
    /// Short windows that are stored in addition to the vectors.
    pub short: Option<Windows>,
    /// Share of its declared length that a file may lack before it counts as cut off.
    pub missing_share: f64,
    /// The folders that were given and could be listed: a file that is not found below them is not there.
    pub folders: HashSet<PathBuf>,
}

/// A file with the same bytes as a recording of the index, or as a file that was met before.
struct SeenCopy {
    item: Item,
    /// Path of the other one.
    same_as: String,
}

/// The state of an addition in progress.
pub(super) struct AdditionRun<'a> {
    adder: Adder,
    settings: Settings<'a>,
    added: Added,
    pending: Vec<Addition>,
    /// Rows of known audio that change; they are written together, so that files may swap their paths.
    updates: Vec<RowUpdate>,
    /// Files with other audio than the index holds under their path, which may become free when that recording is moved.
    deferred: Vec<Item>,
    copies: Vec<SeenCopy>,
    /// The path of the first file with each content that was found in this run.
    path_of_content: HashMap<String, String>,
    /// Paths in the index of files that could not get them, because other audio has them.
    conflicts: HashSet<String>,
    /// Why files failed, by their paths in the index.
    errors: HashMap<String, String>,
    folder_works: FolderWorks,
    links: LinkResolver,
    save_timer: SaveTimer,
}

impl<'a> AdditionRun<'a> {
    pub fn new(adder: Adder, settings: Settings<'a>, added: Added) -> Self {
        Self {
            adder,
            settings,
            added,
            pending: Vec::new(),
            updates: Vec::new(),
            deferred: Vec::new(),
            copies: Vec::new(),
            path_of_content: HashMap::new(),
            conflicts: HashSet::new(),
            errors: HashMap::new(),
            folder_works: FolderWorks::default(),
            links: LinkResolver::default(),
            save_timer: SaveTimer::every(FIRST_SAVE * SAVE_INTERVAL_FACTOR),
        }
    }

    /// Adds files, and returns what became of them.
    pub fn add_all(mut self, items: Vec<Item>) -> Result<Added> {
        let bar = progress::bar(items.len() as u64, "adding", "files");
        let count = items.len();
        let items = self.with_indexed_paths(items)?;
        self.note_folder_works(&items)?;
        let mut items = self.without_unchanged(items)?;
        bar.inc((count - items.len()) as u64);
        loop {
            self.add_changed(&items, &bar)?;
            // Of the files that could not get their paths, the copies may be added in their place.
            items = self.copies_of_conflicts();
            if items.is_empty() || interrupt::requested() {
                break;
            }
        }
        bar.finish_and_clear();
        if interrupt::requested() {
            let done = self.added.new + self.added.replaced;
            let text = format!("{done} recordings are saved; run the same command again to continue");
            return Err(Interrupted(text).into());
        }
        self.report_copies()?;
        self.added.kept_works = self.folder_works.kept;
        Ok(self.added)
    }

    /// Adds files that are not in the index unchanged.
    fn add_changed(&mut self, items: &[Item], bar: &progress::ProgressBar) -> Result<()> {
        for chunk in items.chunks(HASH_BATCH) {
            let new = self.without_known_audio(chunk)?;
            bar.inc((chunk.len() - new.len()) as u64);
            if !self.embed_all(&new, bar)? {
                break;
            }
        }
        self.save()?;
        // With a part of the files alone, one whose path another takes would look removed.
        if !interrupt::requested() {
            self.update_rows()?;
        }
        let deferred = std::mem::take(&mut self.deferred);
        let items = self.without_path_conflicts(deferred)?;
        self.embed_all(&items, bar)?;
        self.save()
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

    /// Gives files that the index holds under another spelling of their path (through a link) the path that the index has.
    fn with_indexed_paths(&mut self, mut items: Vec<Item>) -> Result<Vec<Item>> {
        let (mut unknown, mut names) = (HashMap::new(), HashSet::new());
        for (chunk, first) in items.chunks(LOOK_UP_BATCH).zip((0..).step_by(LOOK_UP_BATCH)) {
            let keys: Vec<Key> = chunk.iter().map(|item| Key::from_row(&item.row)).collect();
            for ((item, known), number) in chunk.iter().zip(self.adder.has_paths(&keys)?).zip(first..) {
                let path = Path::new(&item.row.path);
                if !known && path.is_absolute() {
                    unknown.insert(self.links.resolve(path), number);
                    names.extend(path.file_name().map(ToOwned::to_owned));
                }
            }
        }
        if unknown.is_empty() {
            return Ok(items);
        }
        let links = &mut self.links;
        self.adder.each_path(|indexed| {
            let path = Path::new(indexed);
            if path.is_absolute()
                && path.file_name().is_some_and(|name| names.contains(name))
                && let Some(number) = unknown.get(&links.resolve(path))
            {
                indexed.clone_into(&mut items[*number].row.path);
            }
        })?;
        Ok(items)
    }

    /// Looks up the works of the files' folders in the index, if the names of folders are works.
    fn note_folder_works(&mut self, items: &[Item]) -> Result<()> {
        for item in items {
            self.folder_works.note_name(item);
        }
        if !self.folder_works.has_names() {
            return Ok(());
        }
        let works = &mut self.folder_works;
        self.adder.each_path_and_work(|path, work| works.note_indexed(path, work))
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
                Err(error) => self.fail(item, bc_cli::describe(&error)),
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
        // Not before all of them were looked up: the works of recordings whose folder was renamed are known then.
        for item in &mut new {
            self.folder_works.apply(&mut item.row);
        }
        Ok(new)
    }

    /// Whether the audio of a file is in the index or was met before in this run. If it is, the row of the recording is updated: its
    /// metadata if it is the same file, its path too if the old one does not hold the audio any more. All others are copies.
    fn is_known_audio(&mut self, item: &Item, known: &KnownRows) -> bool {
        let links = &mut self.links;
        let same_file = known.by_content.iter().find(|row| row.path == item.row.path);
        let same_file = same_file
            .or_else(|| known.by_content.iter().find(|row| links.is_same_file(&row.path, &item.row.path)));
        if let Some(row) = same_file {
            let mut item = item.clone();
            item.row.path.clone_from(&row.path);
            self.update(&item, row);
            self.path_of_content.insert(item.row.content_hash, item.row.path);
            return true;
        }
        if let Some(path) = self.path_of_content.get(&item.row.content_hash).cloned() {
            self.add_copy(item, path);
            return true;
        }
        let Some(first) = known.by_content.first() else { return false };
        match known.by_content.iter().find(|row| is_moved(row)) {
            Some(row) => {
                self.update(item, row);
                self.path_of_content.insert(item.row.content_hash.clone(), item.row.path.clone());
            }
            None => self.add_copy(item, first.path.clone()),
        }
        true
    }

    fn add_copy(&mut self, item: &Item, same_as: String) {
        self.copies.push(SeenCopy { item: item.clone(), same_as });
        self.added.already_present += 1;
    }

    /// Notes the change of a known recording's row, if its path or metadata are other ones now, or its file has another time.
    fn update(&mut self, item: &Item, old: &Row) {
        self.folder_works.note(item, old);
        let row = if item.row.path == old.path { item.updated(old) } else { item.moved(old) };
        let row = Row { bytes: item.row.bytes, modified_ns: item.row.modified_ns, ..row };
        if row == *old {
            self.added.already_present += 1;
        } else {
            self.updates.push(RowUpdate { old: old.clone(), row });
        }
    }

    /// Writes the rows that change.
    fn update_rows(&mut self) -> Result<()> {
        let updates = std::mem::take(&mut self.updates);
        let mut updates = self.without_absent(updates)?;
        for update in updates.iter_mut().filter(|update| update.old.work.is_empty()) {
            self.folder_works.apply(&mut update.row);
        }
        let outcomes = self.adder.update(&updates)?;
        for (RowUpdate { old, row }, outcome) in updates.into_iter().zip(outcomes) {
            match outcome {
                UpdateOutcome::Unchanged => self.added.already_present += 1,
                UpdateOutcome::Updated | UpdateOutcome::Replaced if old.path != row.path => {
                    if outcome == UpdateOutcome::Replaced {
                        self.added.replaced += 1;
                        let replacement = Replacement { file: row.path.clone(), same_as: old.path.clone() };
                        self.added.replacements.push(replacement);
                    }
                    self.added.moved += 1;
                    self.added.moves.push(Move { file: row.path, from: old.path });
                }
                UpdateOutcome::Updated | UpdateOutcome::Replaced => {
                    // A file that only has another time is the same recording.
                    let touched = Row { bytes: row.bytes, modified_ns: row.modified_ns, ..old };
                    let count = if touched == row {
                        &mut self.added.already_present
                    } else {
                        &mut self.added.updated
                    };
                    *count += 1;
                }
                UpdateOutcome::PathConflict => self.fail_path_conflict(Path::new(&row.path), &row.path),
                UpdateOutcome::Gone => {
                    let error = "another process removed its recording or moved it meanwhile; run the same command again";
                    self.fail_path(Path::new(&row.path), &row.path, error.to_owned());
                }
            }
        }
        Ok(())
    }

    /// The updates without those that would give a new path to recordings whose folder is absent as a whole, maybe because a disk is
    /// not mounted. A folder was renamed if at least half of the recordings below it are found again. What is absent below a folder
    /// that was given and could be listed is not there any more.
    fn without_absent(&mut self, updates: Vec<RowUpdate>) -> Result<Vec<RowUpdate>> {
        if self.adder.conflict_policy() == ConflictPolicy::Replace {
            return Ok(updates);
        }
        let mut folders = AbsentFolders::default();
        let absent = updates.iter().map(|RowUpdate { old, row }| {
            let path = Path::new(&old.path);
            let is_listed = path.ancestors().any(|folder| self.settings.folders.contains(folder));
            (old.path != row.path && !is_listed).then(|| folders.above(path)).flatten()
        });
        let absent: Vec<Option<PathBuf>> = absent.collect();
        // By folder: recordings that are found again, and all.
        let mut counts: HashMap<PathBuf, (usize, usize)> = HashMap::new();
        for folder in absent.iter().flatten() {
            counts.entry(folder.clone()).or_default().0 += 1;
        }
        if counts.is_empty() {
            return Ok(updates);
        }
        self.adder.each_path(|path| {
            for folder in Path::new(path).ancestors() {
                if let Some((_, all)) = counts.get_mut(folder) {
                    *all += 1;
                }
            }
        })?;
        let (mut others, mut old_paths) = (Vec::with_capacity(updates.len()), HashMap::new());
        for (update, folder) in updates.into_iter().zip(absent) {
            match folder {
                Some(folder) if 2 * counts[&folder].0 < counts[&folder].1 => {
                    old_paths.insert(update.row.path.clone(), update.old.path.clone());
                    self.leave_absent(update, &folder);
                }
                _ => others.push(update),
            }
        }
        for copy in &mut self.copies {
            if let Some(old_path) = old_paths.get(&copy.same_as) {
                copy.same_as.clone_from(old_path);
            }
        }
        Ok(others)
    }

    /// Leaves a recording in its absent folder as it is; the file counts as present.
    fn leave_absent(&mut self, RowUpdate { old, row }: RowUpdate, folder: &Path) {
        self.path_of_content.insert(row.content_hash, old.path.clone());
        self.added.already_present += 1;
        let folder = folder.to_string_lossy().into_owned();
        self.added.absent.push(Absent { file: row.path, same_as: old.path, folder });
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
                    self.fail_path_conflict(&item.path, &item.row.path);
                    continue;
                }
                Some(old) => {
                    let Row { content_hash, bytes, modified_ns, duration_s, .. } = item.row.clone();
                    item.row = Row { content_hash, bytes, modified_ns, duration_s, ..item.updated(&old) };
                }
                None => self.folder_works.apply(&mut item.row),
            }
            items.push(item);
        }
        Ok(items)
    }

    /// The copies of files that could not get their paths; they are no copies any more.
    fn copies_of_conflicts(&mut self) -> Vec<Item> {
        let conflicts = std::mem::take(&mut self.conflicts);
        let (again, others): (Vec<SeenCopy>, Vec<SeenCopy>) =
            std::mem::take(&mut self.copies).into_iter().partition(|copy| conflicts.contains(&copy.same_as));
        self.copies = others;
        self.added.already_present -= again.len();
        for copy in &again {
            self.path_of_content.remove(&copy.item.row.content_hash);
        }
        again.into_iter().map(|copy| copy.item).collect()
    }

    /// Reports the copies; files with the same bytes as one that failed have failed too. The index may hold other audio under the path of
    /// a copy: that recording is removed to replace it, and otherwise the copy fails.
    fn report_copies(&mut self) -> Result<()> {
        let copies = std::mem::take(&mut self.copies).into_iter();
        let (unusable, copies): (Vec<SeenCopy>, Vec<SeenCopy>) =
            copies.partition(|copy| self.errors.contains_key(&copy.same_as));
        for SeenCopy { item, same_as } in unusable {
            self.added.already_present -= 1;
            let error = &self.errors[&same_as];
            let reason = format!("it has the same bytes as {same_as}, which cannot be used: {error}");
            self.fail(&item, reason);
        }
        let keys: Vec<Key> = copies.iter().map(|copy| Key::from_row(&copy.item.row)).collect();
        let mut stale = Vec::new();
        for (SeenCopy { item, same_as }, known) in copies.into_iter().zip(self.adder.known_rows(&keys)?) {
            let other = known.by_path.filter(|row| row.content_hash != item.row.content_hash);
            if other.is_some() && self.adder.conflict_policy() == ConflictPolicy::KeepOld {
                self.added.already_present -= 1;
                self.fail_path_conflict(&item.path, &item.row.path);
                continue;
            }
            let file = item.row.path;
            stale
                .extend(other.map(|row| (row, Replacement { file: file.clone(), same_as: same_as.clone() })));
            self.added.copies.push(Copy { file, same_as });
        }
        let (rows, replacements): (Vec<Row>, Vec<Replacement>) = stale.into_iter().unzip();
        for (replacement, is_removed) in replacements.into_iter().zip(self.adder.remove(&rows)?) {
            if is_removed {
                self.added.replaced += 1;
                self.added.replacements.push(replacement);
            }
        }
        Ok(())
    }

    fn embed(&mut self, batch: &[Item]) -> Result<()> {
        let paths: Vec<PathBuf> = batch.iter().map(|item| item.path.clone()).collect();
        let short = self.settings.short.map(|short| (short, &[1.0][..]));
        let embedded = self.settings.audio.embed_compared(&paths, self.settings.windows, short)?;
        for (item, embedded) in batch.iter().zip(embedded) {
            self.note_if_damaged(item, &embedded);
            match embedded.and_then(|embedded| addition(item.row.clone(), embedded)) {
                Ok(addition) => self.pending.push(addition),
                Err(error) => self.fail(item, bc_cli::describe(&error)),
            }
        }
        Ok(())
    }

    fn note_if_damaged(&mut self, item: &Item, embedded: &Result<EmbeddedWithWindows>) {
        let Ok(EmbeddedWithWindows { embedded, .. }) = embedded else { return };
        let cut_off = CutOff::check(embedded.duration_s, embedded.declared_s, self.settings.missing_share);
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
                AddOutcome::PathConflict => self.fail_path_conflict(Path::new(&path), &path),
            }
        }
        self.save_timer.begin(started.elapsed() * SAVE_INTERVAL_FACTOR);
        Ok(())
    }

    fn fail(&mut self, item: &Item, error: String) {
        self.fail_path(&item.path, &item.row.path, error);
    }

    /// Notes the failure of the file that was named `file` and has the path `indexed` in the index.
    fn fail_path(&mut self, file: &Path, indexed: &str, error: String) {
        self.errors.insert(indexed.to_owned(), error.clone());
        self.added.failed.push(Failure::new(file, error));
    }

    fn fail_path_conflict(&mut self, file: &Path, indexed: &str) {
        let error = "the index holds other audio under this path; `bc-search replace` replaces it";
        self.conflicts.insert(indexed.to_owned());
        self.fail_path(file, indexed, error.to_owned());
    }
}

/// Whether a file is the one that was indexed, by its size and modification time.
fn is_unchanged(indexed: &Row, file: &Row) -> bool {
    indexed.bytes == file.bytes && indexed.modified_ns == file.modified_ns && file.bytes > 0
}
