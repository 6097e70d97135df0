//! Writes the next generation of an index: one writer at a time, which may be killed at any moment.
//!
//! A change holds the lock, writes new files under names that no manifest refers to, and finally renames a manifest that
//! does. No manifest refers to the files of a killed writer, and the next writer removes them. Readers that opened
//! an older generation have its files mapped, which outlives their names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_cli::saving;
use bc_embed::origin::Origin;
use bc_embed::windows::{Windows, describe as describe_windows};
use bc_formats::run::WindowComparison;

use super::keys::{Key, KeyFile};
use super::known::{KeyMatch, KnownRecordings};
use super::manifest::{Manifest, SegmentEntry};
use super::rows::Row;
use super::segment::{self, Segment, SegmentWriter, file_names};
use super::vectors::{StoredRow, VectorFile};
use super::{Index, Recording};

/// This many segments of about the same size are merged into one: a recording is rewritten once per power of this number.
const MERGE_FACTOR: usize = 16;

/// A recording with its vectors, to be added.
#[derive(Debug, Clone)]
pub struct Addition {
    /// The metadata of the recording.
    pub row: Row,
    /// The parts of the recording: where each begins, in seconds, and its vector, of any length.
    pub parts: Vec<(f32, Vec<f32>)>,
    /// The short windows of the recording, likewise; empty if the index stores none.
    pub windows: Vec<(f32, Vec<f32>)>,
}

/// The outcome of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddOutcome {
    /// The recording is new.
    Added,
    /// The recording replaced the one with its path.
    Replaced,
    /// The same audio was already in the index.
    AlreadyPresent,
    /// The recording's path belongs to other audio.
    PathConflict,
}

/// How to treat a recording whose path is in the index with other audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// Keep the old recording.
    KeepOld,
    /// Replace it by the new one.
    Replace,
}

/// Whether the index has a manifest. A file system that does not answer is an error: it must not look like a new index.
fn has_manifest(folder: &Path) -> Result<bool> {
    let path = Manifest::path(folder);
    // Of a link, whether the link is there.
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The file that marks a new index until its first manifest is written.
fn new_marker(folder: &Path) -> PathBuf {
    segment::folder(folder).join(".new")
}

/// Marks the index as a new one.
///
/// # Errors
/// There are segments, and it is not marked: its manifest was lost, and without it the segments would be removed as unused files.
fn begin_new(folder: &Path) -> Result<()> {
    let (segments, marker) = (segment::folder(folder), new_marker(folder));
    if marker.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&segments)
        .with_context(|| format!("cannot make the folder {}", segments.display()))?;
    let mut listed =
        std::fs::read_dir(&segments).with_context(|| format!("cannot read {}", segments.display()))?;
    ensure!(
        !listed.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("seg-"))),
        "{} holds segments of an index, but {} is not there; restore it from a backup, or delete {} to make a new index",
        segments.display(),
        Manifest::path(folder).display(),
        folder.display()
    );
    std::fs::write(&marker, "").with_context(|| format!("cannot write {}", marker.display()))
}

/// A change of an index that is in progress.
pub struct Change {
    folder: PathBuf,
    /// The manifest of the new generation, once it is written.
    pub manifest: Manifest,
    _lock: File,
}

impl Change {
    /// Waits for other writers and begins a change; `empty` is the manifest to use if there is no index yet.
    ///
    /// # Errors
    /// There is no index and `empty` is `None`; an index of another network, other windows or another storage than
    /// `empty`; an interrupt while waiting.
    pub fn begin(folder: &Path, empty: Option<&Manifest>) -> Result<Self> {
        ensure!(
            !folder.is_file(),
            "{} is a file; an index is a folder now: convert it with `bc-search import {0} --index FOLDER`",
            folder.display()
        );
        ensure!(
            empty.is_some() || Manifest::path(folder).exists(),
            "there is no index at {}; make one with `bc-search add AUDIO --index {0}`",
            folder.display()
        );
        let lock = saving::lock_for_writing(&Manifest::path(folder))?;
        let manifest = match empty {
            Some(empty) if !has_manifest(folder)? => {
                begin_new(folder)?;
                empty.clone()
            }
            _ => Manifest::read(folder)?,
        };
        if let Some(empty) = empty {
            require_compatible(folder, &manifest, empty)?;
        }
        let change = Self { folder: folder.to_owned(), manifest, _lock: lock };
        change.remove_unused_files();
        Ok(change)
    }

    /// Removes files that the manifest does not refer to; only the holder of the lock writes files.
    fn remove_unused_files(&self) {
        let segments = &self.manifest.segments;
        let mut known: HashSet<String> = segments.iter().flat_map(file_names).collect();
        // A graph stays as long as its segment.
        known.extend(segments.iter().map(|entry| segment::graph_name(&entry.name)));
        let listed = std::fs::read_dir(segment::folder(&self.folder));
        for entry in listed.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_segment_file = name.starts_with("seg-") || name.starts_with(".seg-");
            if is_segment_file && !known.contains(&name) {
                // If the system refuses because a reader has it mapped, the next writer tries again.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Opens a segment of the manifest.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub(super) fn open_segment(&self, name: &str) -> Result<Segment> {
        let entry = self.manifest.segments.iter().find(|entry| entry.name == name);
        Segment::open(
            &self.folder,
            &self.manifest,
            entry.with_context(|| format!("there is no segment {name}"))?,
        )
    }

    /// Starts a new segment; `extra` are the further columns of its rows.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(crate) fn new_segment(&self, extra: BTreeSet<String>) -> Result<SegmentWriter> {
        SegmentWriter::create(&self.folder, &self.manifest, extra)
    }

    /// Commits the change: readers see it from now on.
    ///
    /// # Errors
    /// A full disk; the index then stays unchanged.
    pub fn commit(mut self) -> Result<Manifest> {
        self.merge_small()?;
        self.manifest.write(&self.folder)?;
        let _ = std::fs::remove_file(new_marker(&self.folder));
        self.remove_unused_files();
        Ok(self.manifest)
    }

    /// Merges segments of about the same size if there are [`MERGE_FACTOR`] of them.
    fn merge_small(&mut self) -> Result<()> {
        loop {
            let mut classes: HashMap<u32, Vec<usize>> = HashMap::new();
            for (position, entry) in self.manifest.segments.iter().enumerate() {
                classes.entry((entry.vectors.max(1)).ilog(MERGE_FACTOR)).or_default().push(position);
            }
            let Some(positions) = classes.into_values().find(|positions| positions.len() >= MERGE_FACTOR)
            else {
                return Ok(());
            };
            self.rewrite(&positions)?;
        }
    }

    /// Merges the segments at `positions` into one, without removed recordings.
    fn rewrite(&mut self, positions: &[usize]) -> Result<()> {
        let entries: Vec<SegmentEntry> =
            positions.iter().map(|position| self.manifest.segments[*position].clone()).collect();
        // A copy gets new hashes, by which damage would look intact.
        for entry in &entries {
            let damaged = segment::verify(&self.folder, entry);
            ensure!(
                damaged.is_empty(),
                "segments cannot be merged, because files are damaged; restore them from a backup, or make the index again: {}",
                damaged.join("; ")
            );
        }
        let segments: Result<Vec<Segment>> =
            entries.iter().map(|entry| Segment::open(&self.folder, &self.manifest, entry)).collect();
        let segments = segments?;
        let extra = segments.iter().flat_map(Segment::extra).collect();
        let mut writer = self.new_segment(extra)?;
        for segment in &segments {
            for number in segment.present() {
                copy_recording(&mut writer, segment, number, segment.row(number)?)?;
            }
        }
        let merged = writer.commit()?;
        let merged_names: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        self.manifest.segments.retain(|entry| !merged_names.contains(entry.name.as_str()));
        if merged.recordings > 0 {
            let position = positions.first().copied().unwrap_or(0).min(self.manifest.segments.len());
            self.manifest.segments.insert(position, merged);
        }
        // The next segment of this change needs another name.
        self.manifest.generation += 1;
        Ok(())
    }

    /// Removes recordings; returns the number that were present.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(super) fn remove(&mut self, recordings: &[(String, u32)]) -> Result<usize> {
        let mut removed = 0;
        for position in 0..self.manifest.segments.len() {
            let entry = self.manifest.segments[position].clone();
            let numbers: Vec<u32> = recordings
                .iter()
                .filter(|(name, _)| *name == entry.name)
                .map(|(_, number)| *number)
                .collect();
            if numbers.is_empty() {
                continue;
            }
            let mut tombstones = Segment::open(&self.folder, &self.manifest, &entry)?.removed;
            removed += numbers.into_iter().filter(|number| tombstones.set(*number)).count();
            let written = tombstones.write(&self.folder, &entry.name, self.manifest.generation + 1)?;
            self.manifest.segments[position].removed = Some(written);
        }
        Ok(removed)
    }
}

/// Copies a recording with its vectors; `row` is its row from now on.
pub(super) fn copy_recording(
    writer: &mut SegmentWriter,
    segment: &Segment,
    number: u32,
    row: Row,
) -> Result<()> {
    let windows =
        segment.windows.as_ref().map(|windows| stored_vectors(&windows.keys, &windows.vectors, number));
    writer.push_stored(
        row,
        &mut stored_vectors(&segment.keys, &segment.vectors, number),
        &mut windows.into_iter().flatten(),
    )
}

/// The vectors of a recording in their stored form, each with its beginning in seconds.
fn stored_vectors<'a>(
    keys: &'a KeyFile,
    vectors: &'a VectorFile,
    number: u32,
) -> impl Iterator<Item = (f32, StoredRow)> + 'a {
    let (first, end) = keys.vectors_of(number);
    (first..end).map(|row| (keys.sources()[row].start_s, vectors.stored(row)))
}

/// Refuses to add recordings of another network, other windows or another storage.
fn require_compatible(folder: &Path, manifest: &Manifest, new: &Manifest) -> Result<()> {
    let origin = |manifest: &Manifest| Origin::from_provenance(&manifest.provenance);
    origin(manifest).require_same(folder, &origin(new), Path::new("the network to add with"))?;
    let (stored, added): (Option<Windows>, Option<Windows>) = (manifest.windows()?, new.windows()?);
    ensure!(
        stored == added,
        "{} holds {}, but {} are to be added: their scores cannot be compared; add the same kind, or start another index",
        folder.display(),
        describe_windows(stored),
        describe_windows(added)
    );
    ensure!(
        manifest.compare == new.compare,
        "{} stores {}, but the recordings to add have {}; add them from audio, with the same network and the same [eval] compare, \
         or start another index",
        folder.display(),
        describe_comparison(manifest.compare.as_ref()),
        describe_comparison(new.compare.as_ref())
    );
    ensure!(
        manifest.storage == new.storage,
        "{} stores vectors as {}, not as {}; leave --storage out, or start another index",
        folder.display(),
        manifest.storage,
        new.storage
    );
    Ok(())
}

fn describe_comparison(compare: Option<&WindowComparison>) -> String {
    compare.map_or("no short windows".to_owned(), |WindowComparison { window_s, step_s, tempi, .. }| {
        format!("short windows of {window_s} s every {step_s} s, compared at the tempi {tempi:?}")
    })
}

/// Adds to an index repeatedly, while other processes may do the same.
pub struct Adder {
    pub(super) folder: PathBuf,
    pub(super) empty: Manifest,
    conflicts: ConflictPolicy,
    /// What the index holds: read once, and again only what has changed.
    pub(super) known: KnownRecordings,
}

impl Adder {
    /// Opens the index at `folder` to add to it; `empty` is the manifest of a new one. Nothing is written.
    ///
    /// # Errors
    /// An index of another network, other windows or another storage.
    pub fn open(folder: &Path, empty: Manifest, conflicts: ConflictPolicy) -> Result<Self> {
        let known = KnownRecordings::new(folder);
        let adder = Self { folder: folder.to_owned(), empty, conflicts, known };
        if Manifest::path(folder).exists() {
            require_compatible(folder, &Manifest::read(folder)?, &adder.empty)?;
        }
        Ok(adder)
    }

    /// How to treat a recording whose path is in the index with other audio.
    #[must_use]
    pub fn conflict_policy(&self) -> ConflictPolicy {
        self.conflicts
    }

    /// Adds in one change the recordings that are not in the index by now; other processes may have added to it since it was read.
    ///
    /// # Errors
    /// Files that cannot be written; another process made the index with another network meanwhile.
    pub fn add(&mut self, pending: Vec<Addition>) -> Result<Vec<AddOutcome>> {
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let mut change = Change::begin(&self.folder, Some(&self.empty))?;
        let keys: Vec<Key> = pending.iter().map(|addition| Key::from_row(&addition.row)).collect();
        // Under the lock, so that nobody can add the same recordings meanwhile.
        self.known.follow(&change.manifest)?;
        let known = self.known.matches(&keys);
        let extra: BTreeSet<String> =
            pending.iter().flat_map(|addition| addition.row.extra.keys().cloned()).collect();
        let mut writer = None;
        let (mut contents, mut paths) = (HashSet::new(), HashSet::new());
        let (mut outcomes, mut replaced) = (Vec::with_capacity(pending.len()), Vec::new());
        for ((addition, key), known) in pending.into_iter().zip(keys).zip(known) {
            let repeated = key.content != [0; 16] && !contents.insert(key.content);
            let has_path_conflict = !paths.insert(key.path)
                || (known.path.is_some() && self.conflicts == ConflictPolicy::KeepOld);
            let outcome = match (!known.content.is_empty() || repeated, has_path_conflict, known.path) {
                (true, ..) => AddOutcome::AlreadyPresent,
                (false, true, _) => AddOutcome::PathConflict,
                (false, false, None) => AddOutcome::Added,
                (false, false, Some(old)) => {
                    replaced.push(self.known.position(old));
                    AddOutcome::Replaced
                }
            };
            if matches!(outcome, AddOutcome::Added | AddOutcome::Replaced) {
                let writer = match &mut writer {
                    Some(writer) => writer,
                    none => none.insert(change.new_segment(BTreeSet::clone(&extra))?),
                };
                writer.push(addition.row, &slices(&addition.parts), &slices(&addition.windows))?;
            }
            outcomes.push(outcome);
        }
        let Some(writer) = writer else { return Ok(outcomes) };
        let entry = writer.commit()?;
        change.remove(&replaced)?;
        change.manifest.segments.push(entry);
        change.commit()?;
        Ok(outcomes)
    }
}

fn slices(parts: &[(f32, Vec<f32>)]) -> Vec<(f32, &[f32])> {
    parts.iter().map(|(start_s, vector)| (*start_s, vector.as_slice())).collect()
}

/// Removes the recordings of an index for which `is_removed` is true; returns their rows.
///
/// # Errors
/// There is no index; files that cannot be read or written.
pub fn remove(folder: &Path, is_removed: impl Fn(&Row) -> bool) -> Result<Vec<Row>> {
    let mut change = Change::begin(folder, None)?;
    let (mut recordings, mut rows) = (Vec::new(), Vec::new());
    for entry in &change.manifest.segments {
        let segment = Segment::open(folder, &change.manifest, entry)?;
        for number in segment.present() {
            let row = segment.row(number)?;
            if is_removed(&row) {
                recordings.push((entry.name.clone(), number));
                rows.push(row);
            }
        }
    }
    if !recordings.is_empty() {
        change.remove(&recordings)?;
        change.commit()?;
    }
    Ok(rows)
}

/// Merges all segments into one, without removed recordings. Returns the numbers of vectors before and after.
///
/// # Errors
/// There is no index; a full disk, after which the index stays unchanged.
pub fn compact(folder: &Path) -> Result<(usize, usize)> {
    let mut change = Change::begin(folder, None)?;
    let vectors = |manifest: &Manifest| manifest.segments.iter().map(|entry| entry.vectors).sum::<usize>();
    let before = vectors(&change.manifest);
    let removed = change.manifest.segments.iter().any(|entry| entry.removed.is_some());
    if change.manifest.segments.len() < 2 && !removed {
        return Ok((before, before));
    }
    let all: Vec<usize> = (0..change.manifest.segments.len()).collect();
    change.rewrite(&all)?;
    let manifest = change.commit()?;
    Ok((before, vectors(&manifest)))
}

/// What became of the recordings of an index that was merged into another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Recordings that were added.
    pub new: usize,
    /// Recordings whose audio was already present.
    pub already_present: usize,
    /// Recordings that were left out, because the index has other audio at their path.
    pub path_conflicts: usize,
}

/// Adds the recordings of another index of the same network that this one lacks. If there is no index at `folder`, it is created with the settings of the other one.
///
/// # Errors
/// Indexes that are not compatible; files that cannot be read or written.
pub fn merge(folder: &Path, other: &Index) -> Result<Merged> {
    let mut empty = other.manifest.clone();
    (empty.segments, empty.generation) = (Vec::new(), 0);
    if Manifest::path(folder).exists() {
        let existing = Manifest::read(folder)?;
        empty.storage = existing.storage;
        // Windows that the other index stores and this one does not are left out.
        empty.compare = empty.compare.filter(|_| existing.compare.is_some());
    }
    let mut change = Change::begin(folder, Some(&empty))?;
    let mut held = KnownRecordings::new(folder);
    held.follow(&change.manifest)?;
    let recordings: Vec<Recording> = other.recordings().collect();
    let keys: Vec<Key> = recordings.iter().map(|recording| *other.key(*recording)).collect();
    let known: Vec<KeyMatch> = held.matches(&keys);
    let extra = other.segments.iter().flat_map(Segment::extra).collect();
    let mut writer = change.new_segment(extra)?;
    let mut merged = Merged::default();
    let mut contents = HashSet::new();
    for ((recording, key), known) in recordings.into_iter().zip(keys).zip(known) {
        let repeated = key.content != [0; 16] && !contents.insert(key.content);
        if !known.content.is_empty() || repeated {
            merged.already_present += 1;
            continue;
        }
        if let Some(path) = known.path {
            // Without a content hash, recordings are told apart by their paths.
            let is_unknown = [key.content, held.key(path).content].contains(&[0; 16]);
            *(if is_unknown { &mut merged.already_present } else { &mut merged.path_conflicts }) += 1;
            continue;
        }
        let (parts, windows) = (other.parts(recording), other.short_windows(recording));
        let row = other.row(recording)?;
        writer.push(row, &slices(&parts), &slices(&windows)).context("cannot copy it")?;
        merged.new += 1;
    }
    if merged.new > 0 {
        change.manifest.segments.push(writer.commit()?);
        change.commit()?;
    }
    Ok(merged)
}
