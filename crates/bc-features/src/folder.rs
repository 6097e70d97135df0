//! The output folder: its locks, the names of new parts, and leftovers of killed runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bc_cli::{Shard, interrupt};
use bc_formats::atomic;
use bc_formats::features::PartName;
use bc_formats::lock::{self, Lock, LockMode};
use bc_formats::retry;

/// The output folder, locked for the run of one shard. As long as this value lives, no second run of the same shard begins,
/// and if this run has no shard, no other run at all. Runs of shards with different counts (1/8 and 2/3) may be concurrent:
/// parts are never changed, only added ([`bc_formats::features::FeatureSet`] resolves versions that are in several parts).
pub struct Folder {
    path: PathBuf,
    /// Part of the names of this run's unfinished files: `all`, or `3of8` for the third of eight shards.
    tag: String,
    locks: Vec<Lock>,
    /// Held while the folder is tidied after the work of a shard.
    _tidy: Option<Lock>,
}

impl Folder {
    /// Creates the folder if it is absent, locks it for the shard, and removes the temporary files that killed runs of this
    /// shard left (without a shard: those that any run left).
    ///
    /// # Errors
    /// Another run of the shard is at work; a folder that cannot be written.
    pub fn open(path: &Path, shard: Shard) -> Result<Self> {
        let whole = shard.count == 1;
        let tag = if whole { "all".to_owned() } else { format!("{}of{}", shard.index + 1, shard.count) };
        let mode = if whole { LockMode::Exclusive } else { LockMode::Shared };
        let mut locks = vec![acquire_unless_tidied(path, mode)?];
        if !whole {
            let name = format!(".extract-{tag}.lock");
            locks.push(lock::acquire(path, &name, LockMode::Exclusive, || in_use(path))?);
        }
        let folder = Self { path: path.to_owned(), tag, locks, _tidy: None };
        folder.remove_leftovers()?;
        Ok(folder)
    }

    /// Returns whether this run has the folder for itself. On a file system without locks, of which the user was warned,
    /// another run may write nevertheless.
    pub fn is_exclusive(&self) -> bool {
        self.locks.len() == 1
    }

    /// Exchanges the lock of a shard that has done its work for exclusive access to the folder; `None` if another run is at
    /// work in it, or if the file system has no reliable locks.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn exclusive_after_shard(self) -> Result<Option<Self>> {
        let path = self.path.clone();
        drop(self);
        // In this order: a run that finds the folder's lock held by this run also finds this one held, and waits.
        let Some(tidy) = try_acquire(&path, TIDY)? else { return Ok(None) };
        match try_acquire(&path, LOCK)? {
            Some(lock) if lock.is_effective() => {
                let folder = Self { path, tag: "all".to_owned(), locks: vec![lock], _tidy: Some(tidy) };
                folder.remove_leftovers()?;
                Ok(Some(folder))
            }
            _ => Ok(None),
        }
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file of `kind` (`part` or `failures`) while it is written.
    pub fn unfinished(&self, kind: &str) -> PathBuf {
        self.path.join(format!("{kind}-{}.parquet", self.tag))
    }

    /// Returns the path of a finished part with this number and content.
    pub fn part(&self, number: u64, fingerprint: &str) -> PathBuf {
        self.path.join(PartName::new(number, fingerprint).to_string())
    }

    /// Returns the path of a finished failure table that belongs to the part with this number.
    pub fn failures(&self, number: u64, fingerprint: &str) -> PathBuf {
        self.path
            .join(format!("failures-{number:05}-{}.parquet", fingerprint.get(..8).unwrap_or(fingerprint)))
    }

    /// Removes the temporary files of killed runs.
    fn remove_leftovers(&self) -> Result<()> {
        atomic::remove_leftovers(&self.path, |name| is_own_leftover(name, &self.tag))?;
        Ok(())
    }
}

/// The lock of the folder: shared by runs of shards, exclusive for a run of all versions.
const LOCK: &str = ".extract.lock";
/// The lock of a run that tidies the folder after the work of its shard.
const TIDY: &str = ".tidy.lock";

/// Acquires the folder's lock. Waits while a run that has done its work tidies the folder; if a run is at work, the lock is
/// refused after some tries, within which that run may end or begin to tidy.
fn acquire_unless_tidied(path: &Path, mode: LockMode) -> Result<Lock> {
    const MAX_REFUSALS: u32 = 5;
    let mut refused = 0;
    loop {
        let error = match lock::acquire(path, LOCK, mode, || in_use(path)) {
            Err(error) if is_held(&error) => error,
            done => return done,
        };
        if try_acquire(path, TIDY)?.is_some() {
            refused += 1;
        }
        if refused == MAX_REFUSALS || !retry::pause(Duration::from_millis(100), interrupt::requested) {
            return Err(error);
        }
    }
}

/// Acquires an exclusive lock; `None` if another run holds it.
fn try_acquire(path: &Path, name: &str) -> Result<Option<Lock>> {
    match lock::acquire(path, name, LockMode::Exclusive, || in_use(path)) {
        Err(error) if is_held(&error) => Ok(None),
        done => done.map(Some),
    }
}

/// Returns whether an error of [`lock::acquire`] says that another process holds the lock; all other errors have an I/O
/// error as a cause.
fn is_held(error: &anyhow::Error) -> bool {
    !error.chain().any(|cause| cause.is::<std::io::Error>())
}

/// Returns the error message for a folder that another run writes in.
fn in_use(path: &Path) -> String {
    format!(
        "another bc-features extract is writing {}; wait for it (concurrent runs need a shard each: --shard i/n)",
        path.display()
    )
}

/// Removes a file; it is no error if it is gone already.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns whether a temporary file with the destination `name` belongs to a run with this tag, so that the present run may
/// remove it.
fn is_own_leftover(name: &str, tag: &str) -> bool {
    let of_stage = name.ends_with(".parquet") && (name.starts_with("part-") || name.starts_with("failures"));
    of_stage
        && (tag == "all"
            || [format!("part-{tag}.parquet"), format!("failures-{tag}.parquet")].contains(&name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_removes_its_own_leftovers_and_a_whole_run_those_of_all_shards() {
        assert!(
            is_own_leftover("part-2of7.parquet", "2of7") && is_own_leftover("failures-2of7.parquet", "2of7")
        );
        assert!(
            !is_own_leftover("part-12of7.parquet", "2of7") && !is_own_leftover("part-all.parquet", "2of7")
        );
        for name in ["part-2of7.parquet", "part-00003.parquet", "part-2of7-00003.parquet", "failures.parquet"]
        {
            assert!(is_own_leftover(name, "all"), "{name}");
        }
        assert!(!is_own_leftover("notes.parquet", "all") && !is_own_leftover("part-1.txt", "all"));
    }

    #[test]
    fn second_run_of_a_shard_is_refused_and_of_another_shard_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let open = |index, count| Folder::open(folder.path(), Shard { index, count });
        let first = open(0, 2).unwrap();
        let error = open(0, 2).err().unwrap().to_string();
        assert!(error.contains("another bc-features extract"), "{error}");
        drop((open(1, 2).unwrap(), open(0, 3).unwrap()));
        open(0, 1).err().unwrap();
        drop(first);
        let of_all = open(0, 1).unwrap();
        open(0, 2).err().unwrap();
        drop(of_all);
        open(0, 2).unwrap();
    }

    #[test]
    fn last_shard_locks_the_folder_exclusively() {
        let folder = tempfile::tempdir().unwrap();
        let open = |index| Folder::open(folder.path(), Shard { index, count: 2 }).unwrap();
        let (first, second) = (open(0), open(1));
        assert!(first.exclusive_after_shard().unwrap().is_none());
        assert!(second.exclusive_after_shard().unwrap().unwrap().is_exclusive());
    }

    #[test]
    fn run_waits_while_another_tidies_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let shard = Shard { index: 0, count: 2 };
        let tidying = Folder::open(folder.path(), shard).unwrap().exclusive_after_shard().unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Folder::open(folder.path(), shard).map(|_| ()));
            std::thread::sleep(Duration::from_millis(900));
            assert!(!waiting.is_finished(), "refused or admitted while the other tidied");
            drop(tidying);
            waiting.join().unwrap().unwrap();
        });
    }
}
