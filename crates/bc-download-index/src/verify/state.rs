//! What is known of files already looked at: a line of JSON each, appended as soon as it is known.
//!
//! A kill in the middle of a line leaves a line that does not parse; it is passed over.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Says whether a file is still the one that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Path as the index has it.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Nanoseconds since 1970.
    pub modified: u64,
}

impl Key {
    /// The key of the file as it is now; `None` if it is not there.
    pub fn of(path: &str) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        let modified = file.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Self { path: path.to_owned(), bytes: file.len(), modified: modified.as_nanos() as u64 })
    }
}

/// What a look at a file found, before any threshold is applied.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Only the headers were read.
    pub fast: bool,
    /// BLAKE3 of the bytes.
    pub hash: Option<String>,
    /// Why it gives no audio.
    pub error: Option<String>,
    /// Whether the error depends on limits or on the machine, so that the next run looks again.
    #[serde(default)]
    pub passing: bool,
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

#[derive(Serialize, Deserialize)]
struct Line {
    file: Key,
    facts: Facts,
}

/// The state file.
pub struct State {
    known: HashMap<Key, Facts>,
    file: Mutex<File>,
    path: PathBuf,
}

impl State {
    /// Reads what is known and opens the file for more.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = || format!("cannot use the state file {}", path.display());
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(path).with_context(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(failed)?;
        let mut known: HashMap<Key, Facts> = HashMap::new();
        for line in bytes.split(|&byte| byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
            // A full look is worth more than one at the headers, unless it has to be taken again anyway.
            if line.facts.fast && known.get(&line.file).is_some_and(|old| !old.fast && !old.passing) {
                continue;
            }
            known.insert(line.file, line.facts);
        }
        // The rest of a line cut off by a kill must not swallow the next one.
        if bytes.last().is_some_and(|&last| last != b'\n') {
            file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(b"\n")).with_context(failed)?;
        }
        Ok(Self { known, file: Mutex::new(file), path: path.to_owned() })
    }

    /// What spares another look: a look at the headers does only for a `fast` run, a passing error never.
    pub fn get(&self, key: &Key, fast: bool) -> Option<&Facts> {
        self.noted(key).filter(|facts| !facts.passing && (fast || !facts.fast))
    }

    /// The last look at a file, however it was.
    pub fn noted(&self, key: &Key) -> Option<&Facts> {
        self.known.get(key)
    }

    /// Remembers, by one write.
    pub fn add(&self, key: &Key, facts: &Facts) -> Result<()> {
        if self.noted(key) == Some(facts) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&Line { file: key.clone(), facts: facts.clone() })?;
        line.push(b'\n');
        let mut file = self.file.lock().expect("no writer panics");
        file.write_all(&line).with_context(|| {
            format!("cannot write the state file {} (is the disk full?)", self.path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_look_outlasts_one_at_the_headers_unless_its_error_may_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.jsonl");
        let full = |passing| Facts { error: Some("an error".into()), passing, ..Facts::default() };
        let fast = Facts { fast: true, codec: Some("mp3".into()), ..Facts::default() };
        for (file, passing) in [("slow.mp3", true), ("broken.mp3", false)] {
            let key = Key { path: file.into(), bytes: 1, modified: 2 };
            let full = full(passing);
            for facts in [&full, &fast] {
                State::open(&path).unwrap().add(&key, facts).unwrap();
            }
            let state = State::open(&path).unwrap();
            assert_eq!(state.noted(&key), Some(if passing { &fast } else { &full }));
            assert!(state.get(&key, true).is_some(), "{file} is looked at again");
            assert_eq!(state.get(&key, false).is_some(), !passing, "{file}");
        }
    }
}
