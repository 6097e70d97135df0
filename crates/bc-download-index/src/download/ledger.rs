//! The failures of downloads, a line of JSON each, beside the audio.
//!
//! Each part (`--shard`) appends to a file of its own, so that parts on several machines may share the
//! folder; all files are read together. A line cut off by a kill is passed over.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use bc_cli::Shard;
use serde::{Deserialize, Serialize};

/// A download that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Version id.
    pub id: String,
    /// What yt-dlp said.
    pub reason: String,
    /// Whether the next run may try again.
    #[serde(default)]
    pub passing: bool,
}

/// The file that this part appends to.
pub struct Ledger(Mutex<File>);

impl Ledger {
    /// Opens the file of a part.
    pub fn open(folder: &Path, shard: Shard) -> Result<Self> {
        let name = match shard {
            Shard::WHOLE => ".failed.jsonl".to_owned(),
            Shard { index, count } => format!(".failed-{}-of-{count}.jsonl", index + 1),
        };
        let path = folder.join(name);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        Ok(Self(Mutex::new(file.with_context(|| format!("cannot write {}", path.display()))?)))
    }

    /// Notes a failure, by one write.
    pub fn add(&self, failure: &Failure) -> Result<()> {
        // A line break in front, too: a kill may have cut off the line before.
        let line = format!("\n{}\n", serde_json::to_string(failure)?);
        let mut file = self.0.lock().expect("no writer panics");
        file.write_all(line.as_bytes()).context("cannot note a failure (is the disk full?)")
    }
}

/// The last word on every id, of all parts; none where nothing was downloaded. What is gone stays gone.
pub fn read(folder: &Path) -> Result<HashMap<String, Failure>> {
    let failed = || format!("cannot read the notes of downloads in {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".failed") && name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    files.sort();
    let mut last: HashMap<String, Failure> = HashMap::new();
    for path in files {
        let bytes = std::fs::read(&path).with_context(failed)?;
        for line in bytes.split(|&byte| byte == b'\n') {
            let Ok(failure) = serde_json::from_slice::<Failure>(line) else { continue };
            if last.get(&failure.id).is_none_or(|earlier| earlier.passing) {
                last.insert(failure.id.clone(), failure);
            }
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_stays_gone_and_half_a_line_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let add = |shard: Shard, id: &str, reason: &str, passing| {
            let failure = Failure { id: id.into(), reason: reason.into(), passing };
            Ledger::open(folder.path(), shard).unwrap().add(&failure).unwrap();
        };
        add(Shard::WHOLE, "a", "stalled", true);
        add(Shard::WHOLE, "a", "private", false);
        add("2/3".parse().unwrap(), "a", "stalled", true);
        add("1/3".parse().unwrap(), "b", "stalled", true);
        let path = folder.path().join(".failed-1-of-3.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"id\": \"b\", \"rea");
        std::fs::write(&path, bytes).unwrap();
        add("1/3".parse().unwrap(), "b", "404", false);
        let read = read(folder.path()).unwrap();
        assert_eq!((read["a"].reason.as_str(), read["b"].reason.as_str()), ("private", "404"));
        assert_eq!(read.len(), 2);
    }
}
