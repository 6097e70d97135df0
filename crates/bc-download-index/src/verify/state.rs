//! The notes of inspected files: one line of JSON for each, appended as soon as the file was inspected.
//!
//! Each shard appends to its own notes next to the index; all of them are read together. A kill in
//! the middle of a line leaves a line that does not parse; it is skipped.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use bc_cli::Shard;
use bc_formats::audio_root::AudioRoot;
use bc_formats::fingerprint::{self, Digest, digest};
use bc_store::About;
use serde::{Deserialize, Serialize};

use crate::{lock, shard};

/// Identifies a file, to tell whether it is still the one that was inspected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Path as the index file holds it, so that notes move with the index and its audio.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Nanoseconds since 1970.
    pub modified: u64,
}

impl Key {
    /// Creates the key of a file with this metadata. `root` is the audio root of the index.
    pub fn new(path: &str, about: About, root: Option<&AudioRoot>) -> Self {
        let stored = root.and_then(|root| root.store(path).ok()).unwrap_or_else(|| path.to_owned());
        Self { path: stored, bytes: about.bytes, modified: u64::try_from(about.modified_ns).unwrap_or(0) }
    }

    /// Returns the digest by which inspections are found in memory.
    fn digest(&self) -> Digest {
        digest(format!("{}/{}/{}", self.bytes, self.modified, self.path))
    }
}

/// The results of inspecting a file, before any threshold is applied.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inspection {
    /// Whether only the headers were read.
    pub fast: bool,
    /// BLAKE3 of the bytes.
    pub hash: Option<String>,
    /// Why the file gives no audio.
    pub error: Option<String>,
    /// Whether the error depends on limits or on the machine, so that the next run inspects the file again.
    #[serde(default, rename = "passing")]
    pub temporary: bool,
    /// Whether the file could not be read, so that nothing is known about its content.
    #[serde(default)]
    pub unread: bool,
    /// Codec.
    pub codec: Option<String>,
    /// Rate in Hz.
    pub rate: Option<u32>,
    /// Channels.
    pub channels: Option<u32>,
    /// Decoded (or, from headers, declared) seconds.
    pub duration_s: Option<f64>,
    /// Seconds that the file declares.
    pub declared_s: Option<f64>,
    /// Whether the mark of the end is missing (Ogg).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end_is_missing: bool,
    /// Share of the file's bytes behind the end of the audio.
    #[serde(default)]
    pub unused_share: f64,
    /// Largest magnitude.
    pub peak: Option<f32>,
    /// Root mean square.
    pub rms: Option<f32>,
    /// Frames (packets) that decoded and that did not.
    pub packets: [u32; 2],
}

impl Inspection {
    /// Returns the inspection of a file that could not be read.
    pub fn unread(reason: impl std::fmt::Display) -> Self {
        let error = Some(format!("cannot be read: {reason}"));
        Self { error, temporary: true, unread: true, ..Self::default() }
    }
}

/// One line of the notes.
#[derive(Serialize, Deserialize)]
struct Line {
    file: Key,
    #[serde(rename = "facts")]
    inspection: Inspection,
}

/// The notes of all shards, and the file that this process appends to.
pub struct State {
    known: KnownFiles,
    /// `None` if the notes are only read.
    notes: Option<Notes>,
}

/// Recorded inspections by [`Key::digest`]. Those of good files, which nearly all are, are packed into a tenth of the memory,
/// so that ten million files take a gigabyte.
#[derive(Default)]
struct KnownFiles {
    /// Index of each inspection in `inspections`.
    positions: HashMap<Digest, u32>,
    inspections: Vec<StoredInspection>,
    /// The different codecs, which packed inspections refer to by index.
    codecs: Vec<String>,
}

/// An inspection in memory.
enum StoredInspection {
    Packed(PackedInspection),
    Unpacked(Box<Inspection>),
}

/// The inspection of a good file, in few bytes; the fields are those of [`Inspection`].
struct PackedInspection {
    hash: [u8; 16],
    duration_s: f64,
    declared_s: Option<f64>,
    peak: Option<f32>,
    rms: Option<f32>,
    rate: u32,
    packets: [u32; 2],
    channels: u8,
    codec: u16,
}

impl KnownFiles {
    /// Returns the recorded inspection of a file.
    fn get(&self, digest: &Digest) -> Option<Inspection> {
        let packed = match &self.inspections[*self.positions.get(digest)? as usize] {
            StoredInspection::Unpacked(inspection) => return Some((**inspection).clone()),
            StoredInspection::Packed(packed) => packed,
        };
        Some(Inspection {
            hash: Some(fingerprint::hex(&packed.hash)),
            codec: self.codecs.get(usize::from(packed.codec)).cloned(),
            rate: Some(packed.rate),
            channels: Some(packed.channels.into()),
            duration_s: Some(packed.duration_s),
            declared_s: packed.declared_s,
            peak: packed.peak,
            rms: packed.rms,
            packets: packed.packets,
            ..Inspection::default()
        })
    }

    /// Records an inspection, which replaces an earlier one of the same file.
    fn insert(&mut self, digest: Digest, inspection: Inspection) {
        let packed = match self.pack(&inspection) {
            Some(good) => StoredInspection::Packed(good),
            None => StoredInspection::Unpacked(inspection.into()),
        };
        match self.positions.get(&digest) {
            Some(&position) => self.inspections[position as usize] = packed,
            None => {
                let position = u32::try_from(self.inspections.len()).expect("fewer than four billion files");
                self.positions.insert(digest, position);
                self.inspections.push(packed);
            }
        }
    }

    /// Packs the inspection of a good file; `None` if that would lose information.
    fn pack(&mut self, inspection: &Inspection) -> Option<PackedInspection> {
        if inspection.fast || inspection.temporary || inspection.unread || inspection.error.is_some() {
            return None;
        }
        // What only few files have.
        if inspection.end_is_missing || inspection.unused_share > 0.0 {
            return None;
        }
        let codec = inspection.codec.as_ref()?;
        let known = self.codecs.iter().position(|known| known == codec);
        let codec = known.unwrap_or_else(|| {
            self.codecs.push(codec.clone());
            self.codecs.len() - 1
        });
        Some(PackedInspection {
            hash: fingerprint::of_hex(inspection.hash.as_deref()?)?,
            duration_s: inspection.duration_s?,
            declared_s: inspection.declared_s,
            peak: inspection.peak,
            rms: inspection.rms,
            rate: inspection.rate?,
            packets: inspection.packets,
            channels: inspection.channels?.try_into().ok()?,
            codec: codec.try_into().ok()?,
        })
    }
}

/// The notes file of a shard.
struct Notes {
    file: Mutex<File>,
    path: PathBuf,
    /// Held as long as the notes are open.
    _lock: File,
}

impl State {
    /// Reads the notes next to the index; empty if nothing was verified.
    ///
    /// # Errors
    /// Notes that cannot be read.
    pub fn read(index: &Path) -> Result<Self> {
        let folder = match index.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let stem = notes_stem(index);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.file_name().is_some_and(|name| shard::is_notes_name(&stem, &name.to_string_lossy()))
            })
            .collect();
        paths.sort();
        let mut known = KnownFiles::default();
        for path in paths {
            read_notes(&path, &mut known)
                .with_context(|| format!("cannot read the notes {}", path.display()))?;
        }
        Ok(Self { known, notes: None })
    }

    /// Reads the notes like [`State::read`], and opens those of `shard` for appending.
    ///
    /// # Errors
    /// Notes that cannot be read or written, or that another process appends to.
    pub fn open(index: &Path, shard: Shard) -> Result<Self> {
        let path = index.with_file_name(shard::notes_name(&notes_stem(index), shard));
        let failed = || format!("cannot write the notes {}", path.display());
        let what = match shard {
            Shard::WHOLE => "verify of this index".to_owned(),
            part => format!("verify of part {part} of this index"),
        };
        let lock = lock::notes(&path, &what)?;
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(&path).with_context(failed)?;
        // A line that a kill cut off is ended here, so that the next line does not become part of it.
        if file.seek(SeekFrom::End(0)).with_context(failed)? > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).with_context(failed)?;
            if last != *b"\n" {
                file.write_all(b"\n").with_context(failed)?;
            }
        }
        let known = Self::read(index)?.known;
        Ok(Self { known, notes: Some(Notes { file: Mutex::new(file), path, _lock: lock }) })
    }

    /// Returns the recorded inspection of a file if it suffices. An inspection of the headers suffices only for a `fast` run,
    /// and one with a temporary error never does.
    pub fn get(&self, key: &Key, fast: bool) -> Option<Inspection> {
        self.recorded(key).filter(|inspection| !inspection.temporary && (fast || !inspection.fast))
    }

    /// Returns whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.known.inspections.is_empty()
    }

    /// Returns the result of the last inspection of a file, whatever it was.
    pub fn recorded(&self, key: &Key) -> Option<Inspection> {
        self.known.get(&key.digest())
    }

    /// Records an inspection, with a single write.
    ///
    /// # Errors
    /// The notes cannot be written.
    pub fn add(&self, key: &Key, inspection: &Inspection) -> Result<()> {
        let Some(notes) = self.notes.as_ref().filter(|_| self.recorded(key).as_ref() != Some(inspection))
        else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(&Line { file: key.clone(), inspection: inspection.clone() })?;
        line.push(b'\n');
        let mut file = notes.file.lock().expect("no writer panics");
        file.write_all(&line)
            .with_context(|| format!("cannot write the notes {} (is the disk full?)", notes.path.display()))
    }
}

/// Returns the beginning of the names of the notes of the index at `index`.
fn notes_stem(index: &Path) -> String {
    format!("{}.verify", index.file_stem().unwrap_or_default().to_string_lossy())
}

/// Adds the notes at `path`, line by line.
fn read_notes(path: &Path, known: &mut KnownFiles) -> io::Result<()> {
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(&line?) else { continue };
        let digest = line.file.digest();
        if known.get(&digest).is_some_and(|old| old.outweighs(&line.inspection)) {
            continue;
        }
        known.insert(digest, line.inspection);
    }
    Ok(())
}

impl Inspection {
    /// Returns whether this inspection is kept instead of a `later` one of the same file: a full inspection counts for more
    /// than one of the headers, and a valid result for more than one that has to be repeated anyway.
    fn outweighs(&self, later: &Self) -> bool {
        !self.temporary && (later.temporary || (later.fast && !self.fast))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(file: &str) -> Key {
        Key { path: file.into(), bytes: 1, modified: 2 }
    }

    #[test]
    fn full_inspection_outweighs_headers_unless_its_error_is_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.parquet");
        let full =
            |temporary| Inspection { error: Some("an error".into()), temporary, ..Inspection::default() };
        let fast = Inspection { fast: true, codec: Some("mp3".into()), ..Inspection::default() };
        for (file, temporary) in [("slow.mp3", true), ("broken.mp3", false)] {
            let key = key(file);
            let full = full(temporary);
            for inspection in [&full, &fast] {
                State::open(&index, Shard::WHOLE).unwrap().add(&key, inspection).unwrap();
            }
            let state = State::read(&index).unwrap();
            assert_eq!(state.recorded(&key).as_ref(), Some(if temporary { &fast } else { &full }));
            assert!(state.get(&key, true).is_some(), "{file} is inspected again");
            assert_eq!(state.get(&key, false).is_some(), !temporary, "{file}");
        }
    }

    #[test]
    fn notes_of_all_shards_are_read_and_truncated_lines_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.parquet");
        let inspection = |hash: &str| Inspection { hash: Some(hash.into()), ..Inspection::default() };
        let parts = [Shard::WHOLE, "1/2".parse().unwrap(), "2/2".parse().unwrap()];
        let names = ["index.verify.jsonl", "index.verify-1-of-2.jsonl", "index.verify-2-of-2.jsonl"];
        for (name, shard) in names.iter().zip(parts) {
            State::open(&index, shard).unwrap().add(&key(name), &inspection(name)).unwrap();
            let path = folder.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend_from_slice(b"{\"file\": {\"pa");
            std::fs::write(&path, bytes).unwrap();
            State::open(&index, shard).unwrap().add(&key("all"), &inspection(name)).unwrap();
        }
        let state = State::read(&index).unwrap();
        for name in names {
            assert_eq!(state.recorded(&key(name)).as_ref(), Some(&inspection(name)));
        }
        assert_eq!(state.known.positions.len(), 4);
    }

    #[test]
    fn inspections_round_trip_packed_and_unpacked() {
        let good = Inspection {
            hash: Some("00ff".repeat(8)),
            codec: Some("mp3".into()),
            rate: Some(44_100),
            channels: Some(2),
            duration_s: Some(1.5),
            packets: [7, 1],
            peak: Some(0.5),
            ..Inspection::default()
        };
        let others = [
            Inspection { hash: Some("00FF".repeat(8)), ..good.clone() },
            Inspection { hash: Some("+0ff".repeat(8)), ..good.clone() },
            Inspection { channels: Some(256), ..good.clone() },
            Inspection { fast: true, ..good.clone() },
            Inspection { end_is_missing: true, ..good.clone() },
            Inspection { unused_share: 0.5, ..good.clone() },
            Inspection::unread("EIO"),
        ];
        let mut known = KnownFiles::default();
        assert!(
            known.pack(&good).is_some() && others.iter().all(|inspection| known.pack(inspection).is_none())
        );
        for inspection in others.into_iter().chain([good]) {
            known.insert(digest("one"), inspection.clone());
            assert_eq!(known.get(&digest("one")), Some(inspection));
        }
        assert_eq!(known.get(&digest("other")), None);
    }

    #[test]
    fn second_process_cannot_append_to_the_same_notes() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.parquet");
        let _first = State::open(&index, Shard::WHOLE).unwrap();
        let error = State::open(&index, Shard::WHOLE).err().unwrap().to_string();
        assert!(error.contains("is already running"), "{error}");
        State::open(&index, "1/2".parse().unwrap()).unwrap();
    }
}
