//! The index: a folder of segments that never change, a manifest that lists the current ones, and tombstones.
//!
//! Readers map the segments of one generation and are not affected by writers ([`Index`]); one writer at a time
//! makes the next generation and renames its manifest to the final name ([`change`]). docs/FORMATS.md describes the bytes.

mod bytes;
pub mod change;
pub mod keys;
pub(crate) mod known;
pub mod manifest;
pub(crate) mod mapped_file;
pub mod rows;
pub mod segment;
pub mod update;
pub mod vectors;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_embed::windows::Windows;
use bc_formats::embeddings::Embeddings;

pub use manifest::Manifest;
pub use rows::Row;
pub use segment::Segment;
pub use vectors::Storage;

use keys::{Key, KeyFile, VectorSource, short_hash};
use vectors::VectorFile;

/// Maximum number of attempts to open segments, which may be merged meanwhile.
const MAX_ATTEMPTS: u32 = 50;

/// A recording: the number of its segment, and its number in that segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recording {
    /// Number of the segment.
    pub segment: u32,
    /// Number of the recording in the segment.
    pub number: u32,
}

/// A vector: the number of its segment, and its row in that segment's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VectorId {
    /// Number of the segment.
    pub segment: u32,
    /// Number of the vector in the segment.
    pub row: usize,
}

/// An index that can be searched: one generation of it.
#[derive(Debug)]
pub struct Index {
    /// The folder, or the file of embeddings that was read.
    pub path: PathBuf,
    /// The manifest of this generation.
    pub manifest: Manifest,
    /// The segments, in the manifest's order.
    pub segments: Vec<Segment>,
}

impl Index {
    /// Opens the folder of an index, or reads a file of embeddings (`embeddings.parquet`) as one.
    ///
    /// # Errors
    /// There is no index; files that are damaged or inconsistent.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() {
            return Self::from_embeddings(path);
        }
        let mut attempt = 1;
        loop {
            let manifest = Manifest::read(path)?;
            let segments = manifest.segments.iter().map(|entry| Segment::open(path, &manifest, entry));
            match segments.collect::<Result<Vec<_>>>() {
                Ok(segments) => return Ok(Self { path: path.to_owned(), manifest, segments }),
                // Merged in the meantime: there is a newer manifest.
                Err(_) if attempt < MAX_ATTEMPTS && Manifest::read(path)?.version() != manifest.version() => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The newest generation, if it differs from this one.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn newer(&self) -> Result<Option<Self>> {
        if self.path.is_file() || Manifest::read(&self.path)?.version() == self.manifest.version() {
            return Ok(None);
        }
        Self::open(&self.path).map(Some)
    }

    fn from_embeddings(path: &Path) -> Result<Self> {
        let embeddings = Embeddings::read(path)?;
        let provenance = embeddings.provenance.clone();
        let dim = embeddings.dim.max(1);
        let manifest = Manifest::from_provenance(provenance.settings, provenance.inputs, Storage::F16, dim);
        let (mut rows, mut keys, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        for version in versions(&embeddings) {
            let row = row_of(&embeddings, version.start);
            keys.push(Key::from_row(&row));
            let recording = u32::try_from(rows.len()).context("too many recordings")?;
            sources.extend(
                version.map(|row| VectorSource { recording, start_s: embeddings.labels[row].start_s }),
            );
            rows.push(row);
        }
        let stored = embeddings.vectors.chunks_exact(dim).zip(&embeddings.labels).map(|(vector, label)| {
            vectors::encode(Storage::F16, vector).with_context(|| label.version_id.clone())
        });
        let vectors = vectors::in_memory(Storage::F16, dim, stored)
            .with_context(|| format!("cannot search {}", path.display()))?;
        let segment = Segment::in_memory(vectors, &keys, &sources, rows)?;
        Ok(Self { path: path.to_owned(), manifest, segments: vec![segment] })
    }

    /// Dimension of a vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.manifest.dim
    }

    /// The windows that the recordings were cut into; `None` for whole recordings.
    ///
    /// # Errors
    /// Settings whose windows cannot be understood.
    pub fn windows(&self) -> Result<Option<Windows>> {
        self.manifest.windows().with_context(|| self.path.display().to_string())
    }

    /// All recordings that were not removed.
    pub fn recordings(&self) -> impl Iterator<Item = Recording> {
        self.segments.iter().zip(0u32..).flat_map(|(segment, number)| {
            segment.present().map(move |recording| Recording { segment: number, number: recording })
        })
    }

    /// Number of recordings that were not removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.present().count()).sum()
    }

    /// Whether there are no recordings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recordings().next().is_none()
    }

    /// Number of vectors, removed ones included.
    #[must_use]
    pub fn vectors(&self) -> usize {
        self.segments.iter().map(|segment| segment.vectors.rows).sum()
    }

    fn segment(&self, recording: Recording) -> &Segment {
        &self.segments[recording.segment as usize]
    }

    /// The key of a recording.
    #[must_use]
    pub fn key(&self, recording: Recording) -> &Key {
        &self.segment(recording).keys.keys()[recording.number as usize]
    }

    /// The recording that a vector belongs to.
    #[must_use]
    pub fn recording_of(&self, vector: VectorId) -> Recording {
        let source = self.segments[vector.segment as usize].keys.sources()[vector.row];
        Recording { segment: vector.segment, number: source.recording }
    }

    /// The row of a recording.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn row(&self, recording: Recording) -> Result<Row> {
        self.segment(recording).row(recording.number)
    }

    /// The parts of a recording: where each begins, in seconds, and its vector.
    #[must_use]
    pub fn parts(&self, recording: Recording) -> Vec<(f32, Vec<f32>)> {
        let segment = self.segment(recording);
        parts(&segment.keys, &segment.vectors, recording.number)
    }

    /// The short windows of a recording, likewise; empty if the index stores none.
    #[must_use]
    pub fn short_windows(&self, recording: Recording) -> Vec<(f32, Vec<f32>)> {
        let windows = self.segment(recording).windows.as_ref();
        windows.map_or_else(Vec::new, |windows| parts(&windows.keys, &windows.vectors, recording.number))
    }

    /// The recordings of a work, by the hash of its name.
    #[must_use]
    pub fn of_work(&self, work: u64) -> Vec<Recording> {
        let mut recordings = Vec::new();
        for (segment, number) in self.segments.iter().zip(0u32..) {
            let present =
                segment.keys.of_work(work).iter().filter(|recording| !segment.removed.has(**recording));
            recordings.extend(present.map(|recording| Recording { segment: number, number: *recording }));
        }
        recordings
    }

    /// The recording of a path, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_path(&self, path: &str) -> Result<Option<Recording>> {
        for recording in self.of_path_hash(short_hash(path)) {
            if self.row(recording)?.path == path {
                return Ok(Some(recording));
            }
        }
        Ok(None)
    }

    /// The recordings whose paths have this [`short_hash`]: usually one.
    pub fn of_path_hash(&self, hash: u64) -> impl Iterator<Item = Recording> {
        self.recordings().filter(move |recording| self.key(*recording).path == hash)
    }
}

fn parts(keys: &KeyFile, vectors: &VectorFile, number: u32) -> Vec<(f32, Vec<f32>)> {
    let (first, end) = keys.vectors_of(number);
    (first..end).map(|row| (keys.sources()[row].start_s, vectors.vector(row))).collect()
}

/// The rows of each version, which are contiguous in a file of embeddings.
pub(crate) fn versions(embeddings: &Embeddings) -> Vec<std::ops::Range<usize>> {
    let mut versions: Vec<std::ops::Range<usize>> = Vec::new();
    for (row, label) in embeddings.labels.iter().enumerate() {
        match versions.last_mut() {
            Some(last) if embeddings.labels[last.start].version_id == label.version_id => last.end = row + 1,
            _ => versions.push(row..row + 1),
        }
    }
    versions
}

/// The row of a version; if its clique has the id of the version itself, its work is unknown.
pub(crate) fn row_of(embeddings: &Embeddings, number: usize) -> Row {
    let label = &embeddings.labels[number];
    let work = if label.clique_id == label.version_id { String::new() } else { label.clique_id.clone() };
    Row {
        path: label.version_id.clone(),
        title: label.title.clone(),
        performer: label.performer.clone(),
        work,
        duration_s: label.duration_s,
        content_hash: label.source_hash.clone(),
        ..Row::default()
    }
}

/// Checks every file of an index against its hash, and rows against keys; returns the errors, one line each.
///
/// # Errors
/// There is no index.
pub fn verify(path: &Path) -> Result<Vec<String>> {
    ensure!(path.is_dir(), "{} is not the folder of an index", path.display());
    let manifest = Manifest::read(path)?;
    let mut errors = Vec::new();
    for entry in &manifest.segments {
        let damaged_files = segment::verify(path, entry);
        if !damaged_files.is_empty() {
            errors.extend(damaged_files);
            continue;
        }
        match Segment::open(path, &manifest, entry) {
            Err(error) => errors.push(format!("{error:#}")),
            Ok(segment) => {
                errors.extend(inconsistency(&segment)?.map(|what| format!("{}: {what}", entry.name)))
            }
        }
    }
    Ok(errors)
}

/// The first inconsistency of a segment's rows, keys, windows and vectors, if any.
fn inconsistency(segment: &Segment) -> Result<Option<String>> {
    for (number, key) in segment.keys.keys().iter().enumerate() {
        if Key::from_row(&segment.row(number as u32)?) != *key {
            return Ok(Some(format!("row {number} does not match its key")));
        }
    }
    if let Some(windows) = &segment.windows
        && windows.keys.keys() != segment.keys.keys()
    {
        return Ok(Some("the windows are of other recordings than the vectors".to_owned()));
    }
    for row in 0..segment.vectors.rows {
        let length = segment.vectors.vector(row).iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if !(0.97..1.03).contains(&length) {
            return Ok(Some(format!("vector {row} has the length {length}")));
        }
    }
    Ok(None)
}
