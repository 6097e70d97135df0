//! The recordings that an index holds, by path and by content, for a writer that asks often: each segment is opened once, and after a
//! change by anybody only what is new.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::keys::{Key, KeyFile};
use super::manifest::{Manifest, SegmentEntry};
use super::rows::{Row, RowFile};
use super::segment::{Segment, Tombstones};
use super::{MAX_ATTEMPTS, Recording};

/// Number of bits by which a key is rejected before it is looked up.
const FILTER_BITS: u32 = 20;

/// The recordings of one generation of an index.
pub(super) struct KnownRecordings {
    folder: PathBuf,
    /// Generation and fingerprint of the manifest that was read last; `None` before the first.
    generation: Option<(u64, String)>,
    segments: Vec<KnownSegment>,
}

struct KnownSegment {
    entry: SegmentEntry,
    keys: KeyFile,
    removed: Tombstones,
    rows: RowFile,
}

/// The recordings with the path, and those with the content, of a key.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyMatch {
    pub path: Option<Recording>,
    pub content: Vec<Recording>,
}

impl KnownRecordings {
    /// Nothing is read yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), generation: None, segments: Vec::new() }
    }

    /// Reads what has changed in the index; nothing if there is none.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub fn refresh(&mut self) -> Result<()> {
        if !Manifest::path(&self.folder).exists() {
            (self.generation, self.segments) = (None, Vec::new());
            return Ok(());
        }
        let mut attempt = 1;
        loop {
            let manifest = Manifest::read(&self.folder)?;
            match self.follow(&manifest) {
                // Merged in the meantime: there is a newer manifest.
                Err(_)
                    if attempt < MAX_ATTEMPTS
                        && Manifest::read(&self.folder)?.version() != manifest.version() =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Reads what `manifest` has and this has not. Files of a segment never change, and a segment's name is used once.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub fn follow(&mut self, manifest: &Manifest) -> Result<()> {
        let generation = Some((manifest.generation, manifest.provenance.fingerprint.clone()));
        if generation == self.generation {
            return Ok(());
        }
        self.generation = None;
        let open = std::mem::take(&mut self.segments).into_iter();
        let mut open: HashMap<String, KnownSegment> =
            open.map(|segment| (segment.entry.name.clone(), segment)).collect();
        for entry in &manifest.segments {
            let segment = match open.remove(&entry.name) {
                Some(mut segment) if segment.entry.hashes == entry.hashes => {
                    if segment.entry.removed != entry.removed {
                        segment.removed = Tombstones::read(&self.folder, entry)?;
                    }
                    segment.entry = entry.clone();
                    segment
                }
                _ => {
                    let (keys, removed) = Segment::open_keys(&self.folder, entry)?;
                    let rows = Segment::open_rows(&self.folder, entry)?;
                    KnownSegment { entry: entry.clone(), keys, removed, rows }
                }
            };
            self.segments.push(segment);
        }
        self.generation = generation;
        Ok(())
    }

    /// All recordings that were not removed, with their keys.
    pub fn present(&self) -> impl Iterator<Item = (Recording, &Key)> {
        self.segments.iter().zip(0u32..).flat_map(|(segment, number)| {
            let keys = segment.keys.keys().iter().zip(0u32..);
            let present = keys.filter(|(_, recording)| !segment.removed.has(*recording));
            present.map(move |(key, recording)| (Recording { segment: number, number: recording }, key))
        })
    }

    /// The recordings with the path or the content of each key.
    pub fn matches(&self, keys: &[Key]) -> Vec<KeyMatch> {
        let mut matches = vec![KeyMatch::default(); keys.len()];
        let (mut by_path, mut by_content) =
            (HashMap::<u64, Vec<usize>>::new(), HashMap::<[u8; 16], Vec<usize>>::new());
        let (mut paths, mut contents) = (Filter::default(), Filter::default());
        for (number, key) in keys.iter().enumerate() {
            by_path.entry(key.path).or_default().push(number);
            paths.insert(key.path);
            if key.content != [0; 16] {
                by_content.entry(key.content).or_default().push(number);
                contents.insert(first_word(key));
            }
        }
        for (recording, key) in self.present() {
            if paths.may_have(key.path) {
                for number in by_path.get(&key.path).into_iter().flatten() {
                    matches[*number].path = Some(recording);
                }
            }
            if contents.may_have(first_word(key)) {
                for number in by_content.get(&key.content).into_iter().flatten() {
                    matches[*number].content.push(recording);
                }
            }
        }
        matches
    }

    /// The rows of these recordings.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn rows(&self, recordings: impl IntoIterator<Item = Recording>) -> Result<HashMap<Recording, Row>> {
        // In the order of the files, so that each group of rows is read once.
        let mut sorted: Vec<Recording> = recordings.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let rows = sorted.into_iter().map(|recording| {
            let rows = &self.segments[recording.segment as usize].rows;
            Ok((recording, rows.row(recording.number as usize)?))
        });
        let rows = rows.collect();
        self.segments.iter().for_each(|segment| segment.rows.clear_cache());
        rows
    }

    /// Passes the values in these text columns of each recording that was not removed to `take`.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn each_text<const N: usize>(&self, names: [&str; N], mut take: impl FnMut([&str; N])) -> Result<()> {
        for segment in &self.segments {
            segment.rows.each_text(names, |number, texts| {
                if !segment.removed.has(number) {
                    take(texts);
                }
            })?;
        }
        Ok(())
    }

    /// The key of a recording.
    pub fn key(&self, recording: Recording) -> &Key {
        &self.segments[recording.segment as usize].keys.keys()[recording.number as usize]
    }

    /// Name of a recording's segment, and its number in it.
    pub fn position(&self, recording: Recording) -> (String, u32) {
        (self.segments[recording.segment as usize].entry.name.clone(), recording.number)
    }
}

/// Passes the path of each recording of the index at `folder` to `take`; none if there is no index. No other column is read.
///
/// # Errors
/// Files that cannot be read.
pub fn each_path(folder: &Path, mut take: impl FnMut(&str)) -> Result<()> {
    let mut known = KnownRecordings::new(folder);
    known.refresh()?;
    known.each_text(["path"], |[path]| take(path))
}

/// The first word of a key's content hash.
fn first_word(key: &Key) -> u64 {
    bytemuck::pod_read_unaligned(&key.content[..8])
}

/// Tells quickly that a hash is none of some others: nearly all keys of a large index are rejected by it.
struct Filter(Vec<bool>);

impl Default for Filter {
    fn default() -> Self {
        Self(vec![false; 1 << FILTER_BITS])
    }
}

impl Filter {
    fn slot(hash: u64) -> usize {
        (hash >> (64 - FILTER_BITS)) as usize
    }

    fn insert(&mut self, hash: u64) {
        self.0[Self::slot(hash)] = true;
    }

    fn may_have(&self, hash: u64) -> bool {
        self.0[Self::slot(hash)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::{AddOutcome, Adder, Addition, ConflictPolicy, compact, remove};
    use super::super::{Manifest, Storage};
    use super::*;

    fn addition(number: usize) -> Addition {
        let (path, content_hash) = (format!("/music/{number}.mp3"), format!("{:032x}", number + 1));
        let row = Row { path, content_hash, ..Row::default() };
        Addition { row, parts: vec![(0.0, vec![1.0, number as f32])], windows: Vec::new() }
    }

    fn adder(folder: &Path) -> Adder {
        let empty = Manifest::from_provenance(serde_json::json!({}), [].into(), Storage::F16, 2);
        Adder::open(folder, empty, ConflictPolicy::KeepOld).unwrap()
    }

    #[test]
    fn changes_of_others_are_seen_before_and_under_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let (mut one, mut other) = (adder(&path), adder(&path));
        let known = |adder: &mut Adder, number: usize| {
            let rows = adder.known_rows(&[Key::from_row(&addition(number).row)]).unwrap().remove(0);
            assert_eq!(rows.by_path.is_some(), !rows.by_content.is_empty());
            rows.by_path.map(|row| row.path)
        };
        assert_eq!(known(&mut one, 0), None, "there is no index yet");
        // Enough additions for merged segments, whose files replace those that `one` has open.
        for number in 0..40 {
            assert_eq!(other.add(vec![addition(number)]).unwrap(), [AddOutcome::Added]);
            if number % 7 == 0 {
                assert_eq!(known(&mut one, number), Some(addition(number).row.path));
            }
        }
        // Without asking in between: the recording is seen under the lock.
        assert_eq!(one.add(vec![addition(39)]).unwrap(), [AddOutcome::AlreadyPresent]);
        remove(&path, |row| row.path == "/music/3.mp3").unwrap();
        assert_eq!((known(&mut one, 3), known(&mut one, 4)), (None, Some("/music/4.mp3".to_owned())));
        assert_eq!(one.add(vec![addition(3)]).unwrap(), [AddOutcome::Added]);
        compact(&path).unwrap();
        assert!((0..40).all(|number| known(&mut one, number).is_some()));
        let mut paths = 0;
        one.each_path(|_| paths += 1).unwrap();
        assert_eq!(paths, 40);
        // Another process merges the segments while the paths are read.
        other.add((40..43).map(addition).collect()).unwrap();
        other.add((43..45).map(addition).collect()).unwrap();
        let (mut paths, mut merged) = (0, false);
        one.each_path(|_| {
            if !merged {
                let segments = |path: &Path| Manifest::read(path).unwrap().segments.len();
                assert!(segments(&path) > 1);
                compact(&path).unwrap();
                assert_eq!(segments(&path), 1);
                merged = true;
            }
            paths += 1;
        })
        .unwrap();
        assert_eq!(paths, 45);
        // Another index in its place, of the same generation.
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(known(&mut one, 5), None);
        adder(&path).add(vec![addition(5)]).unwrap();
        assert_eq!((known(&mut one, 5).is_some(), known(&mut one, 6)), (true, None));
    }
}
