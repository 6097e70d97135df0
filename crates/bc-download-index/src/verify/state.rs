//! What is known of files that were inspected: one line of JSON each, appended as soon as it is known.
//!
//! Each part (`--shard`) appends to its own notes beside the index; all of them are read together. A kill in
//! the middle of a line leaves a line that does not parse; it is passed over.

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

use crate::{lock, part};

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
    /// The key of a file with this metadata. `root` is the audio root of the index.
    pub fn new(path: &str, about: About, root: Option<&AudioRoot>) -> Self {
        let stored = root.and_then(|root| root.store(path).ok()).unwrap_or_else(|| path.to_owned());
        Self { path: stored, bytes: about.bytes, modified: u64::try_from(about.modified_ns).unwrap_or(0) }
    }

    fn digest(&self) -> Digest {
        digest(format!("{}/{}/{}", self.bytes, self.modified, self.path))
    }
}

/// What an inspection of a file found, before any threshold is applied.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Only the headers were read.
    pub fast: bool,
    /// BLAKE3 of the bytes.
    pub hash: Option<String>,
    /// Why the file gives no audio.
    pub error: Option<String>,
    /// Whether the error depends on limits or on the machine, so that the next run looks again.
    #[serde(default)]
    pub passing: bool,
    /// Whether the file could not be read, which says nothing about what is in it.
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
    /// Largest magnitude.
    pub peak: Option<f32>,
    /// Root mean square.
    pub rms: Option<f32>,
    /// Frames (packets) that decoded and that did not.
    pub packets: [u32; 2],
}

impl Facts {
    /// The facts of a file that could not be read.
    pub fn unread(why: impl std::fmt::Display) -> Self {
        let error = Some(format!("cannot be read: {why}"));
        Self { error, passing: true, unread: true, ..Self::default() }
    }
}

/// One line of the notes.
#[derive(Serialize, Deserialize)]
struct Line {
    file: Key,
    facts: Facts,
}

/// The notes of all parts, and the file that this process appends to.
pub struct State {
    known: KnownFiles,
    notes: Option<Notes>,
}

/// Facts by [`Key::digest`]. Those of good files, as nearly all are, take a tenth of the memory of [`Facts`]: for
/// ten million that is a gigabyte.
#[derive(Default)]
struct KnownFiles {
    positions: HashMap<Digest, u32>,
    facts: Vec<Packed>,
    codecs: Vec<String>,
}

enum Packed {
    Good(Good),
    Other(Box<Facts>),
}

/// What is known of a good file, without the strings that all of them share.
struct Good {
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
    fn get(&self, digest: &Digest) -> Option<Facts> {
        let good = match &self.facts[*self.positions.get(digest)? as usize] {
            Packed::Other(facts) => return Some((**facts).clone()),
            Packed::Good(good) => good,
        };
        Some(Facts {
            hash: Some(fingerprint::hex(&good.hash)),
            codec: self.codecs.get(usize::from(good.codec)).cloned(),
            rate: Some(good.rate),
            channels: Some(good.channels.into()),
            duration_s: Some(good.duration_s),
            declared_s: good.declared_s,
            peak: good.peak,
            rms: good.rms,
            packets: good.packets,
            ..Facts::default()
        })
    }

    fn insert(&mut self, digest: Digest, facts: Facts) {
        let packed = match self.pack(&facts) {
            Some(good) => Packed::Good(good),
            None => Packed::Other(facts.into()),
        };
        match self.positions.get(&digest) {
            Some(&position) => self.facts[position as usize] = packed,
            None => {
                let position = u32::try_from(self.facts.len()).expect("fewer than four billion files");
                self.positions.insert(digest, position);
                self.facts.push(packed);
            }
        }
    }

    /// The facts of a good file, packed; `None` where that would lose something.
    fn pack(&mut self, facts: &Facts) -> Option<Good> {
        if facts.fast || facts.passing || facts.unread || facts.error.is_some() {
            return None;
        }
        let codec = facts.codec.as_ref()?;
        let known = self.codecs.iter().position(|known| known == codec);
        let codec = known.unwrap_or_else(|| {
            self.codecs.push(codec.clone());
            self.codecs.len() - 1
        });
        Some(Good {
            hash: fingerprint::of_hex(facts.hash.as_deref()?)?,
            duration_s: facts.duration_s?,
            declared_s: facts.declared_s,
            peak: facts.peak,
            rms: facts.rms,
            rate: facts.rate?,
            packets: facts.packets,
            channels: facts.channels?.try_into().ok()?,
            codec: codec.try_into().ok()?,
        })
    }
}

struct Notes {
    file: Mutex<File>,
    path: PathBuf,
    /// Held as long as the notes are open.
    _lock: File,
}

impl State {
    /// The notes beside the index; empty if nothing was verified.
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
                path.file_name().is_some_and(|name| part::is_notes_name(&stem, &name.to_string_lossy()))
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

    /// As [`State::read`], and opens the notes of `shard` for appending.
    ///
    /// # Errors
    /// Notes that cannot be read or written, or that another process appends to.
    pub fn open(index: &Path, shard: Shard) -> Result<Self> {
        let path = index.with_file_name(part::notes_name(&notes_stem(index), shard));
        let failed = || format!("cannot write the notes {}", path.display());
        let what = match shard {
            Shard::WHOLE => "verify of this index".to_owned(),
            part => format!("verify of part {part} of this index"),
        };
        let lock = lock::notes(&path, &what)?;
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(&path).with_context(failed)?;
        // The rest of a line cut off by a kill must not swallow the next one.
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

    /// Recorded facts that make another inspection unnecessary: those from the headers alone only for a `fast` run, a temporary error never.
    pub fn get(&self, key: &Key, fast: bool) -> Option<Facts> {
        self.noted(key).filter(|facts| !facts.passing && (fast || !facts.fast))
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.known.facts.is_empty()
    }

    /// The result of the last inspection of a file, whatever it was.
    pub fn noted(&self, key: &Key) -> Option<Facts> {
        self.known.get(&key.digest())
    }

    /// Records facts, with a single write.
    ///
    /// # Errors
    /// The notes cannot be written.
    pub fn add(&self, key: &Key, facts: &Facts) -> Result<()> {
        let Some(notes) = self.notes.as_ref().filter(|_| self.noted(key).as_ref() != Some(facts)) else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(&Line { file: key.clone(), facts: facts.clone() })?;
        line.push(b'\n');
        let mut file = notes.file.lock().expect("no writer panics");
        file.write_all(&line)
            .with_context(|| format!("cannot write the notes {} (is the disk full?)", notes.path.display()))
    }
}

/// How the names of the notes of the index at `index` begin.
fn notes_stem(index: &Path) -> String {
    format!("{}.verify", index.file_stem().unwrap_or_default().to_string_lossy())
}

/// Adds the notes at `path`, line by line.
fn read_notes(path: &Path, known: &mut KnownFiles) -> io::Result<()> {
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(&line?) else { continue };
        let digest = line.file.digest();
        if known.get(&digest).is_some_and(|old| old.outlasts(&line.facts)) {
            continue;
        }
        known.insert(digest, line.facts);
    }
    Ok(())
}

impl Facts {
    /// Whether these facts outweigh `later` ones of the same file: a full inspection is worth more than one of the
    /// headers, and a valid result more than one that has to be repeated anyway.
    fn outlasts(&self, later: &Self) -> bool {
        !self.passing && (later.passing || (later.fast && !self.fast))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(file: &str) -> Key {
        Key { path: file.into(), bytes: 1, modified: 2 }
    }

    #[test]
    fn facts_of_a_full_inspection_outlast_those_of_headers_unless_the_error_is_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.parquet");
        let full = |passing| Facts { error: Some("an error".into()), passing, ..Facts::default() };
        let fast = Facts { fast: true, codec: Some("mp3".into()), ..Facts::default() };
        for (file, passing) in [("slow.mp3", true), ("broken.mp3", false)] {
            let key = key(file);
            let full = full(passing);
            for facts in [&full, &fast] {
                State::open(&index, Shard::WHOLE).unwrap().add(&key, facts).unwrap();
            }
            let state = State::read(&index).unwrap();
            assert_eq!(state.noted(&key).as_ref(), Some(if passing { &fast } else { &full }));
            assert!(state.get(&key, true).is_some(), "{file} is looked at again");
            assert_eq!(state.get(&key, false).is_some(), !passing, "{file}");
        }
    }

    #[test]
    fn notes_of_all_parts_are_read_and_a_truncated_line_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.parquet");
        let facts = |hash: &str| Facts { hash: Some(hash.into()), ..Facts::default() };
        let parts = [Shard::WHOLE, "1/2".parse().unwrap(), "2/2".parse().unwrap()];
        let names = ["index.verify.jsonl", "index.verify-1-of-2.jsonl", "index.verify-2-of-2.jsonl"];
        for (name, shard) in names.iter().zip(parts) {
            State::open(&index, shard).unwrap().add(&key(name), &facts(name)).unwrap();
            let path = folder.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend_from_slice(b"{\"file\": {\"pa");
            std::fs::write(&path, bytes).unwrap();
            State::open(&index, shard).unwrap().add(&key("all"), &facts(name)).unwrap();
        }
        let state = State::read(&index).unwrap();
        for name in names {
            assert_eq!(state.noted(&key(name)).as_ref(), Some(&facts(name)));
        }
        assert_eq!(state.known.positions.len(), 4);
    }

    #[test]
    fn facts_round_trip_packed_and_unpacked() {
        let good = Facts {
            hash: Some("00ff".repeat(8)),
            codec: Some("mp3".into()),
            rate: Some(44_100),
            channels: Some(2),
            duration_s: Some(1.5),
            packets: [7, 1],
            peak: Some(0.5),
            ..Facts::default()
        };
        let others = [
            Facts { hash: Some("00FF".repeat(8)), ..good.clone() },
            Facts { hash: Some("+0ff".repeat(8)), ..good.clone() },
            Facts { channels: Some(256), ..good.clone() },
            Facts { fast: true, ..good.clone() },
            Facts::unread("EIO"),
        ];
        let mut known = KnownFiles::default();
        assert!(known.pack(&good).is_some() && others.iter().all(|facts| known.pack(facts).is_none()));
        for facts in others.into_iter().chain([good]) {
            known.insert(digest("one"), facts.clone());
            assert_eq!(known.get(&digest("one")), Some(facts));
        }
        assert_eq!(known.get(&digest("other")), None);
    }

    #[test]
    fn a_second_process_cannot_append_to_the_same_notes() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.parquet");
        let _first = State::open(&index, Shard::WHOLE).unwrap();
        let error = State::open(&index, Shard::WHOLE).err().unwrap().to_string();
        assert!(error.contains("is already running"), "{error}");
        State::open(&index, "1/2".parse().unwrap()).unwrap();
    }
}
