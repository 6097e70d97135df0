//! The failures of downloads, a line of JSON each, beside the audio.
//!
//! Each part (`--shard`) appends to a file of its own, so that parts on several machines may share the
//! folder; all files are read together. A line cut off by a kill is passed over.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use bc_cli::Shard;
use serde::{Deserialize, Serialize};

/// A download that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Version id.
    pub id: String,
    /// Where it was asked for: another address may have what this one lacks.
    #[serde(default)]
    pub url: String,
    /// What yt-dlp said.
    pub reason: String,
    /// Whether the next run may try again.
    #[serde(default)]
    pub passing: bool,
}

/// The file that this part appends to.
pub struct Ledger {
    file: Mutex<File>,
    path: PathBuf,
}

impl Ledger {
    /// Opens the file of a part.
    pub fn open(folder: &Path, shard: Shard) -> Result<Self> {
        let name = match shard {
            Shard::WHOLE => ".failed.jsonl".to_owned(),
            Shard { index, count } => format!(".failed-{}-of-{count}.jsonl", index + 1),
        };
        let path = folder.join(name);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = Mutex::new(file.with_context(|| format!("cannot write {}", path.display()))?);
        Ok(Self { file, path })
    }

    /// Notes a failure, by one write.
    pub fn add(&self, failure: &Failure) -> Result<()> {
        // A line break in front, too: a kill may have cut off the line before.
        let line = format!("\n{}\n", serde_json::to_string(failure)?);
        let mut file = self.file.lock().expect("no writer panics");
        file.write_all(line.as_bytes())
            .with_context(|| format!("cannot note a failure in {} (is the disk full?)", self.path.display()))
    }
}

/// What is noted of every id, a failure an address.
#[derive(Debug, Default)]
pub struct Failures(HashMap<String, Vec<Failure>>);

impl Failures {
    /// Whether `url` will never have the file of `id`.
    pub fn gone(&self, id: &str, url: &str) -> bool {
        self.at(id, url).is_some_and(|failure| !failure.passing)
    }

    /// Why the file of `id` is not there: what happened at its address of now, else what was noted last.
    pub fn why(&self, id: &str, url: Option<&str>) -> Option<&Failure> {
        url.and_then(|url| self.at(id, url)).or_else(|| self.0.get(id)?.last())
    }

    fn at(&self, id: &str, url: &str) -> Option<&Failure> {
        self.0.get(id)?.iter().find(|failure| failure.url == url)
    }

    /// The later one counts, but what is gone stays gone.
    fn add(&mut self, failure: Failure) {
        let of_id = self.0.entry(failure.id.clone()).or_default();
        match of_id.iter().position(|earlier| earlier.url == failure.url) {
            Some(at) if !of_id[at].passing => return,
            Some(at) => drop(of_id.remove(at)),
            None => {}
        }
        of_id.push(failure);
    }
}

/// The failures that all parts noted; none where nothing was downloaded.
pub fn read(folder: &Path) -> Result<Failures> {
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
    let mut failures = Failures::default();
    for path in files {
        let bytes = std::fs::read(&path).with_context(failed)?;
        for line in bytes.split(|&byte| byte == b'\n') {
            let Ok(failure) = serde_json::from_slice(line) else { continue };
            failures.add(failure);
        }
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_stays_gone_and_half_a_line_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let add = |shard: Shard, id: &str, reason: &str, passing| {
            let failure = Failure { id: id.into(), url: "u".into(), reason: reason.into(), passing };
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
        for (id, reason) in [("a", "private"), ("b", "404")] {
            assert!(read.gone(id, "u") && !read.gone(id, "elsewhere"));
            assert_eq!(read.why(id, Some("elsewhere")).unwrap().reason, reason);
        }
        assert!(read.why("c", None).is_none());
    }
}
