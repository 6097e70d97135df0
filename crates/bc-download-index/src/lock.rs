//! Locks of the index and of notes: one process at a time reads the index, adds its results and writes it.
//!
//! `verify` and `download` work for hours. They hold the lock only at their end, while they read the index again and add
//! their results, so that nothing that `build` wrote in the meantime is lost.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bc_cli::{Interrupted, interrupt, progress};
use bc_formats::atomic;
use bc_formats::lock::{Lock, LockMode, acquire, lock_folder};

/// Name of the lock file of an index.
const NAME: &str = ".index.lock";

/// Waits for the lock of the folder of the index, and holds it until the returned value is dropped. Unfinished files of
/// killed writers are removed.
///
/// # Errors
/// A folder that cannot be written, or Ctrl-C during the wait.
pub fn index(index: &Path) -> Result<Lock> {
    let folder = match index.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let started = Instant::now();
    let mut reported = false;
    loop {
        let mut busy = false;
        let in_use = || {
            busy = true;
            String::new()
        };
        let result = acquire(folder, NAME, LockMode::Exclusive, in_use);
        if !busy {
            let lock = result?;
            let name = index.file_name().unwrap_or_default().to_string_lossy();
            let own_files = [name.as_ref(), "coverage.md", "clique_sizes.png"];
            // On a file system without locks, another process may be writing one of them.
            if lock.is_effective() {
                atomic::remove_leftovers(folder, |name| own_files.contains(&name))?;
            }
            return Ok(lock);
        }
        if interrupt::requested() {
            bail!(Interrupted("the index was not written; the same command continues".to_owned()));
        }
        if !reported && started.elapsed() > Duration::from_secs(2) {
            progress::line(format!(
                "Waiting for another bc-download-index that writes in {}.",
                folder.display()
            ));
            reported = true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Locks the notes at `notes` for this process, the only one that may append to them. `what` names the command and its shard
/// in the error.
///
/// # Errors
/// Another process holds the lock.
pub fn notes(notes: &Path, what: &str) -> Result<File> {
    let name = format!(".{}.lock", notes.file_name().unwrap_or_default().to_string_lossy());
    lock_folder(notes.parent().unwrap_or(Path::new("")), &name, LockMode::Exclusive, || {
        format!(
            "{what} is already running (it holds the lock of {}); wait for it, or run other parts with --shard i/n",
            notes.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leftovers_of_the_index_and_its_reports_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.parquet");
        for name in
            [".index.parquet.aB3x.tmp", ".coverage.md.q1.tmp", ".other.parquet.aB3x.tmp", "index.parquet"]
        {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let lock = index(&path).unwrap();
        let mut left: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".index.lock", ".other.parquet.aB3x.tmp", "index.parquet"]);
        drop(lock);
    }
}
