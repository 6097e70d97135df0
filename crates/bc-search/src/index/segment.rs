//! A segment: recordings that were added together, in files that never change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_formats::atomic;

use super::keys::{Key, KeyFile, VectorSource};
use super::manifest::{Hashes, Manifest, Removed, SegmentEntry, WindowsEntry};
use super::rows::{Row, RowFile, RowWriter, Rows};
use super::vectors::{Storage, StoredRow, VectorFile, VectorWriter, encode};

/// The folder of the segments, in the folder of an index.
pub(crate) fn folder(index: &Path) -> PathBuf {
    index.join("segments")
}

const VECTORS: &str = "vectors";
const KEYS: &str = "keys";
const ROWS: &str = "rows.parquet";
const WINDOWS: &str = "windows";
const WINDOW_KEYS: &str = "windows-keys";
/// Storage of short windows: there are many of them, and a score is a mean over them.
const WINDOW_STORAGE: Storage = Storage::Int8;

fn file(index: &Path, name: &str, kind: &str) -> PathBuf {
    folder(index).join(format!("{name}.{kind}"))
}

/// The file of a segment's vectors.
#[cfg(feature = "ann")]
pub(crate) fn vectors_file(index: &Path, name: &str) -> PathBuf {
    file(index, name, VECTORS)
}

/// The name of a segment's graph in the segments' folder, if it has one: it is not one of the segment's files, but is kept as long as they are.
pub(crate) fn graph_name(name: &str) -> String {
    format!("{name}.ann")
}

/// Names of all files of a segment in the segments' folder.
pub(crate) fn file_names(entry: &SegmentEntry) -> Vec<String> {
    let mut files: Vec<String> =
        [VECTORS, KEYS, ROWS].iter().map(|kind| format!("{}.{kind}", entry.name)).collect();
    if entry.windows.is_some() {
        files.extend([WINDOWS, WINDOW_KEYS].map(|kind| format!("{}.{kind}", entry.name)));
    }
    files.extend(entry.removed.as_ref().map(|removed| removed.file.clone()));
    files
}

/// Names of all files in the segments' folder that a manifest refers to.
#[must_use]
pub fn files_in(manifest: &Manifest) -> Vec<String> {
    manifest.segments.iter().flat_map(file_names).collect()
}

/// One bit per recording that tells whether it was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tombstones(Vec<u8>);

impl Tombstones {
    /// Whether a recording was removed.
    #[must_use]
    pub fn has(&self, recording: u32) -> bool {
        self.0.get(recording as usize / 8).is_some_and(|byte| byte >> (recording % 8) & 1 == 1)
    }

    /// Marks a recording as removed; returns whether it was present before.
    pub(crate) fn set(&mut self, recording: u32) -> bool {
        let byte = recording as usize / 8;
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        let was_removed = self.has(recording);
        self.0[byte] |= 1 << (recording % 8);
        !was_removed
    }

    /// Reads the tombstones of a segment; none if nothing of it was removed.
    pub(crate) fn read(index: &Path, entry: &SegmentEntry) -> Result<Self> {
        let Some(removed) = &entry.removed else { return Ok(Self::default()) };
        let path = folder(index).join(&removed.file);
        let bits = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // A damaged one would bring removed recordings back, and it is small enough to be checked whenever it is read.
        ensure!(
            hash_of(&bits) == removed.hash,
            "{} is damaged, so it is not known which recordings were removed; restore it from a backup",
            path.display()
        );
        Ok(Self(bits))
    }

    fn count(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Writes the tombstones of a generation.
    pub(crate) fn write(&self, index: &Path, name: &str, generation: u64) -> Result<Removed> {
        let file = format!("{name}.removed-{generation:08}");
        atomic::write(&folder(index).join(&file), &self.0)?;
        Ok(Removed { file, count: self.count(), hash: hash_of(&self.0) })
    }
}

fn hash_of(bits: &[u8]) -> String {
    blake3::hash(bits).to_hex()[..32].to_owned()
}

/// Short windows of a segment's recordings, in addition to the vectors that are searched.
#[derive(Debug)]
pub struct ShortWindows {
    /// The vectors of the windows.
    pub vectors: VectorFile,
    /// The recording that each window is of, and where it begins.
    pub keys: KeyFile,
}

impl ShortWindows {
    fn open(index: &Path, manifest: &Manifest, entry: &SegmentEntry) -> Result<Option<Self>> {
        let Some(stored) = &entry.windows else {
            ensure!(
                manifest.compare.is_none(),
                "the segment {} in {} has no windows, although the manifest requires them",
                entry.name,
                index.display()
            );
            return Ok(None);
        };
        let vectors = VectorFile::open(&file(index, &entry.name, WINDOWS))?;
        let keys = KeyFile::open(&file(index, &entry.name, WINDOW_KEYS))?;
        let consistent = vectors.rows == stored.vectors
            && keys.sources().len() == stored.vectors
            && keys.keys().len() == entry.recordings
            && vectors.dim == manifest.dim;
        ensure!(
            consistent,
            "the windows of the segment {} in {} are inconsistent; run `bc-search verify`",
            entry.name,
            index.display()
        );
        Ok(Some(Self { vectors, keys }))
    }
}

/// A segment that can be searched.
#[derive(Debug)]
pub struct Segment {
    /// The vectors of the recordings.
    pub vectors: VectorFile,
    /// The keys of the recordings.
    pub keys: KeyFile,
    /// The removed recordings.
    pub removed: Tombstones,
    /// Short windows of the recordings, if the index stores them.
    pub windows: Option<ShortWindows>,
    rows: Rows,
}

impl Segment {
    /// Opens the files of a segment.
    ///
    /// # Errors
    /// Files that are missing, damaged or inconsistent.
    pub(crate) fn open(index: &Path, manifest: &Manifest, entry: &SegmentEntry) -> Result<Self> {
        let vectors = VectorFile::open(&file(index, &entry.name, VECTORS))?;
        let keys = KeyFile::open(&file(index, &entry.name, KEYS))?;
        let rows = Rows::File(Box::new(RowFile::open(&file(index, &entry.name, ROWS))?));
        let removed = Tombstones::read(index, entry)?;
        let consistent = keys.keys().len() == entry.recordings
            && rows.len() == entry.recordings
            && keys.sources().len() == entry.vectors
            && vectors.rows == entry.vectors
            && vectors.dim == manifest.dim
            && vectors.storage == manifest.storage;
        ensure!(
            consistent,
            "the files of the segment {} in {} are inconsistent; run `bc-search verify`",
            entry.name,
            index.display()
        );
        let windows = ShortWindows::open(index, manifest, entry)?;
        Ok(Self { vectors, keys, removed, windows, rows })
    }

    /// Opens only the keys and tombstones, which tell which recordings are present.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub(crate) fn open_keys(index: &Path, entry: &SegmentEntry) -> Result<(KeyFile, Tombstones)> {
        Ok((KeyFile::open(&file(index, &entry.name, KEYS))?, Tombstones::read(index, entry)?))
    }

    /// Opens only the rows.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub(crate) fn open_rows(index: &Path, entry: &SegmentEntry) -> Result<RowFile> {
        RowFile::open(&file(index, &entry.name, ROWS))
    }

    /// Makes a segment in memory.
    pub(crate) fn in_memory(
        vectors: VectorFile,
        keys: &[Key],
        sources: &[VectorSource],
        rows: Vec<Row>,
    ) -> Result<Self> {
        let keys = KeyFile::in_memory(keys, sources)?;
        let removed = Tombstones::default();
        Ok(Self { vectors, keys, removed, windows: None, rows: Rows::Memory(rows) })
    }

    /// The metadata of a recording.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn row(&self, recording: u32) -> Result<Row> {
        self.rows.row(recording as usize)
    }

    /// Numbers of the recordings that were not removed.
    pub fn present(&self) -> impl Iterator<Item = u32> {
        (0..self.keys.keys().len() as u32).filter(|recording| !self.removed.has(*recording))
    }

    /// Names of the further columns of the rows.
    pub(crate) fn extra(&self) -> BTreeSet<String> {
        self.rows.extra()
    }
}

/// Checks the files of a segment against their hashes; returns the errors.
pub(crate) fn verify(index: &Path, entry: &SegmentEntry) -> Vec<String> {
    let mut errors = Vec::new();
    let mut expect = |path: &Path, expected: &str, found: Result<String>| match found {
        Ok(found) if found == expected => {}
        Ok(found) => errors.push(format!("{}: its content is {found}, not {expected}", path.display())),
        Err(error) => errors.push(format!("{error:#}")),
    };
    let path = file(index, &entry.name, VECTORS);
    let hash = VectorFile::open(&path).map(|file| file.content_hash());
    expect(&path, &entry.hashes.vectors, hash);
    if let Some(windows) = &entry.windows {
        let path = file(index, &entry.name, WINDOWS);
        expect(&path, &windows.hash, VectorFile::open(&path).map(|file| file.content_hash()));
    }
    let mut hashed = vec![
        (file(index, &entry.name, KEYS), &entry.hashes.keys),
        (file(index, &entry.name, ROWS), &entry.hashes.rows),
    ];
    hashed.extend(entry.windows.iter().map(|windows| (file(index, &entry.name, WINDOW_KEYS), &windows.keys)));
    hashed.extend(entry.removed.iter().map(|removed| (folder(index).join(&removed.file), &removed.hash)));
    for (path, expected) in hashed {
        expect(&path, expected, bc_formats::fingerprint::of_file(&path));
    }
    errors
}

/// Writes a segment, recording by recording; the vectors are not held in memory.
pub(crate) struct SegmentWriter {
    index: PathBuf,
    name: String,
    storage: Storage,
    dim: usize,
    vectors: VectorWriter,
    rows: RowWriter,
    keys: Vec<Key>,
    sources: Vec<VectorSource>,
    windows: Option<WindowWriter>,
}

/// Writes the short windows of a segment.
struct WindowWriter {
    vectors: VectorWriter,
    sources: Vec<VectorSource>,
}

impl WindowWriter {
    fn commit(self, index: &Path, name: &str, keys: &[Key]) -> Result<WindowsEntry> {
        let keys = KeyFile::write(&file(index, name, WINDOW_KEYS), keys, &self.sources)?;
        Ok(WindowsEntry { vectors: self.sources.len(), hash: self.vectors.commit()?, keys })
    }
}

/// Parts of a recording in stored form: where each begins, in seconds, and its vector.
pub(crate) type StoredParts<'a> = &'a mut dyn Iterator<Item = (f32, StoredRow)>;

impl SegmentWriter {
    /// Starts a segment; `extra` are the further columns of all rows that will be added.
    pub fn create(index: &Path, manifest: &Manifest, extra: BTreeSet<String>) -> Result<Self> {
        // A number that no earlier generation had, so that a name never refers to other content.
        let name = format!("seg-{:08}-{:04x}", manifest.generation + 1, rand::random::<u16>());
        let windows = manifest.compare.as_ref().map(|_| -> Result<WindowWriter> {
            let path = file(index, &name, WINDOWS);
            Ok(WindowWriter {
                vectors: VectorWriter::create(&path, WINDOW_STORAGE, manifest.dim)?,
                sources: Vec::new(),
            })
        });
        Ok(Self {
            vectors: VectorWriter::create(&file(index, &name, VECTORS), manifest.storage, manifest.dim)?,
            rows: RowWriter::create(&file(index, &name, ROWS), extra),
            windows: windows.transpose()?,
            index: index.to_owned(),
            name,
            storage: manifest.storage,
            dim: manifest.dim,
            keys: Vec::new(),
            sources: Vec::new(),
        })
    }

    /// Adds a recording with its parts (where each begins, and its vector), and its short windows, which are ignored if the
    /// index stores none.
    pub fn push(&mut self, row: Row, parts: &[(f32, &[f32])], windows: &[(f32, &[f32])]) -> Result<()> {
        let dim = self.dim;
        let encoded = |storage, parts: &[(f32, &[f32])]| -> Result<Vec<(f32, StoredRow)>> {
            let stored = parts.iter().map(|(start_s, vector)| {
                ensure!(vector.len() == dim, "a vector has the dimension {}, not {dim}", vector.len());
                Ok((*start_s, encode(storage, vector)?))
            });
            stored.collect()
        };
        let stored = encoded(self.storage, parts).with_context(|| row.path.clone())?;
        let windows = if self.windows.is_some() { windows } else { &[] };
        let windows = encoded(WINDOW_STORAGE, windows).with_context(|| row.path.clone())?;
        self.push_stored(row, &mut stored.into_iter(), &mut windows.into_iter())
    }

    /// As [`SegmentWriter::push`], with vectors in stored form.
    pub fn push_stored(&mut self, row: Row, parts: StoredParts<'_>, windows: StoredParts<'_>) -> Result<()> {
        let recording = u32::try_from(self.keys.len()).context("a segment cannot hold more recordings")?;
        if let Some(writer) = &mut self.windows {
            let before = writer.sources.len();
            for (start_s, stored) in windows {
                writer.vectors.push(&stored)?;
                writer.sources.push(VectorSource { recording, start_s });
            }
            ensure!(
                writer.sources.len() > before,
                "the index stores windows of every recording, but there are none of {}",
                row.path
            );
        }
        self.keys.push(Key::from_row(&row));
        for (start_s, stored) in parts {
            self.vectors.push(&stored)?;
            self.sources.push(VectorSource { recording, start_s });
        }
        self.rows.push(row)
    }

    /// Finishes the segment: the files get their final names.
    pub fn commit(self) -> Result<SegmentEntry> {
        let keys = KeyFile::write(&file(&self.index, &self.name, KEYS), &self.keys, &self.sources)?;
        let windows = self.windows.map(|windows| windows.commit(&self.index, &self.name, &self.keys));
        Ok(SegmentEntry {
            windows: windows.transpose()?,
            recordings: self.keys.len(),
            vectors: self.sources.len(),
            hashes: Hashes { vectors: self.vectors.commit()?, keys, rows: self.rows.commit()? },
            name: self.name,
            removed: None,
        })
    }
}
