//! Records failed downloads next to the audio, one line of JSON each.
//!
//! Each shard appends to its own file, so that shards on several machines may share the folder; all files are read together.
//! A line cut off by a kill is skipped.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use bc_cli::Shard;
use serde::{Deserialize, Serialize};

use super::messages;
use crate::shard;

/// Beginning of the names of the ledger files.
const STEM: &str = ".failed";

/// A download that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Version id.
    pub id: String,
    /// The URL that was tried: another one may have the file.
    #[serde(default)]
    pub url: String,
    /// The message of yt-dlp.
    pub reason: String,
    /// Whether the next run may try again.
    #[serde(default, rename = "passing")]
    pub temporary: bool,
    /// For a video that was barred: a fingerprint of cookies, proxy and format ([`super::yt_dlp::access`]). With another one the next
    /// run tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

/// The file that the shard of this process appends to.
pub struct Ledger {
    file: Mutex<File>,
    path: PathBuf,
}

impl Ledger {
    /// Opens the file of a shard.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn open(folder: &Path, shard: Shard) -> Result<Self> {
        let path = folder.join(shard::notes_name(STEM, shard));
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = Mutex::new(file.with_context(|| format!("cannot write {}", path.display()))?);
        Ok(Self { file, path })
    }

    /// Records a failure, with a single write.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&self, failure: &Failure) -> Result<()> {
        // The text begins with a line break too, because a kill may have cut off the line before.
        let line = format!("\n{}\n", serde_json::to_string(failure)?);
        let mut file = self.file.lock().expect("no holder panics");
        file.write_all(line.as_bytes())
            .with_context(|| format!("cannot note a failure in {} (is the disk full?)", self.path.display()))
    }
}

/// The recorded failures of every id: for each address, the last failure of each kind.
#[derive(Debug, Default)]
pub struct Failures(HashMap<String, Vec<Failure>>);

impl Failures {
    /// Returns whether the file of `id` failed permanently at `url` with this `access`.
    pub fn is_permanent(&self, id: &str, url: &str, access: &str) -> bool {
        let still_holds =
            |failure: &&Failure| failure.access.as_deref().is_none_or(|barred| barred == access);
        self.at(id, url).filter(still_holds).any(|failure| !failure.temporary)
    }

    /// Returns the failure that explains why the file of `id` is missing: that at its present address, or else the last one
    /// recorded.
    pub fn failure_of(&self, id: &str, url: Option<&str>) -> Option<&Failure> {
        let at_url = |url| {
            let is_final = |failure: &&Failure| !failure.temporary && failure.access.is_none();
            self.at(id, url).find(is_final).or_else(|| self.at(id, url).last())
        };
        url.and_then(at_url).or_else(|| self.0.get(id)?.last())
    }

    /// Returns the failures of `id` at `url`.
    fn at(&self, id: &str, url: &str) -> impl Iterator<Item = &Failure> {
        self.0.get(id).into_iter().flatten().filter(move |failure| failure.url == url)
    }

    /// Adds a failure, which replaces an earlier one of the same kind.
    fn add(&mut self, mut failure: Failure) {
        // Earlier versions of this program recorded barred videos as gone.
        if !failure.temporary && failure.access.is_none() && messages::is_barred(&failure.reason) {
            failure.access = Some(String::new());
        }
        let of_id = self.0.entry(failure.id.clone()).or_default();
        let kind = |failure: &Failure| (failure.url.clone(), failure.temporary, failure.access.clone());
        of_id.retain(|earlier| kind(earlier) != kind(&failure));
        of_id.push(failure);
    }
}

/// Reads the failures that all shards recorded; none if nothing was downloaded.
///
/// # Errors
/// The folder or a file of notes cannot be read.
pub fn read(folder: &Path) -> Result<Failures> {
    if bc_store::is_remote(folder) {
        return Ok(Failures::default());
    }
    let failed = || format!("cannot read the notes of downloads in {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if shard::is_notes_name(STEM, &path.file_name().unwrap_or_default().to_string_lossy()) {
            files.push(path);
        }
    }
    files.sort();
    let mut failures = Failures::default();
    for path in files {
        for line in BufReader::new(File::open(&path).with_context(failed)?).split(b'\n') {
            let Ok(failure) = serde_json::from_slice(&line.with_context(failed)?) else { continue };
            failures.add(failure);
        }
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(folder: &Path, shard: &str, id: &str, reason: &str, temporary: bool, access: Option<&str>) {
        let access = access.map(str::to_owned);
        let failure = Failure { id: id.into(), url: "u".into(), reason: reason.into(), temporary, access };
        let shard = if shard.is_empty() { Shard::WHOLE } else { shard.parse().unwrap() };
        Ledger::open(folder, shard).unwrap().add(&failure).unwrap();
    }

    #[test]
    fn permanent_failures_are_kept_and_truncated_lines_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        add(folder.path(), "", "a", "stalled", true, None);
        add(folder.path(), "", "a", "private", false, None);
        add(folder.path(), "2/3", "a", "stalled", true, None);
        add(folder.path(), "1/3", "b", "stalled", true, None);
        let path = folder.path().join(".failed-1-of-3.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"id\": \"b\", \"rea");
        std::fs::write(&path, bytes).unwrap();
        add(folder.path(), "1/3", "b", "404", false, None);
        let read = read(folder.path()).unwrap();
        for (id, reason) in [("a", "private"), ("b", "404")] {
            assert!(read.is_permanent(id, "u", "x") && !read.is_permanent(id, "elsewhere", "x"));
            assert_eq!(read.failure_of(id, Some("u")).unwrap().reason, reason);
        }
        assert!(read.failure_of("b", Some("elsewhere")).is_some());
        assert!(read.failure_of("c", None).is_none());
    }

    #[test]
    fn barred_videos_are_tried_again_with_other_cookies_or_another_proxy() {
        let folder = tempfile::tempdir().unwrap();
        add(folder.path(), "", "a", "Sign in to confirm your age", false, Some("no cookies"));
        // As an earlier version of this program noted it.
        add(folder.path(), "", "old", "not available in your country", false, None);
        let before = read(folder.path()).unwrap();
        assert!(before.is_permanent("a", "u", "no cookies") && !before.is_permanent("a", "u", "cookies"));
        assert!(!before.is_permanent("old", "u", "no cookies"));
        add(folder.path(), "", "a", "stalled", true, None);
        let after = read(folder.path()).unwrap();
        assert!(after.is_permanent("a", "u", "no cookies") && !after.is_permanent("a", "u", "cookies"));
    }
}
