//! The output folder: its locks, the names of new parts, and leftovers of killed runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bc_cli::{Shard, interrupt};
use bc_formats::atomic;
use bc_formats::features::PartName;
use bc_formats::lock::{self, Lock, LockMode};
use bc_formats::retry;

/// The folder as one shard's run sees it. As long as this value lives, no second run of the shard begins, and
/// during a run of all versions no run of any shard. Runs of shards of different numbers (1/8 and 2/3) may be
/// concurrent: parts are never changed, only added ([`bc_formats::features::FeatureSet`] resolves versions that are in several parts).
pub struct Folder {
    path: PathBuf,
    tag: String,
    locks: Vec<Lock>,
    /// Held while the folder is tidied after the work of a shard.
    _tidy: Option<Lock>,
}

impl Folder {
    /// Makes the folder if it is absent, locks the shard and removes the temporary files that
    /// killed runs of it left (a run of all versions: that any run left).
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

    /// Returns whether no other run writes here, for certain or as far as is known (the user was warned).
    pub fn is_exclusive(&self) -> bool {
        self.locks.len() == 1
    }

    /// After the work of a shard: exclusive access to the folder, if no other run is at work in it and locks can be relied on.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn exclusive_after_shard(self) -> Result<Option<Self>> {
        let path = self.path.clone();
        drop(self);
        // In this order: a run that finds the folder's lock held by this run also finds this one held, and waits.
        let Some(tidy) = if_free(&path, TIDY)? else { return Ok(None) };
        match if_free(&path, LOCK)? {
            Some(lock) if lock.is_effective() => {
                let folder = Self { path, tag: "all".to_owned(), locks: vec![lock], _tidy: Some(tidy) };
                folder.remove_leftovers()?;
                Ok(Some(folder))
            }
            _ => Ok(None),
        }
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name that a file of `kind` (`part`, `failures`) has while it is written.
    pub fn unfinished(&self, kind: &str) -> PathBuf {
        self.path.join(format!("{kind}-{}.parquet", self.tag))
    }

    /// Returns the name of a part with this number and content.
    pub fn part(&self, number: u64, fingerprint: &str) -> PathBuf {
        self.path.join(PartName::new(number, fingerprint).to_string())
    }

    /// Returns the name of a failure table that belongs to the part of this number.
    pub fn failures(&self, number: u64, fingerprint: &str) -> PathBuf {
        self.path
            .join(format!("failures-{number:05}-{}.parquet", fingerprint.get(..8).unwrap_or(fingerprint)))
    }

    fn remove_leftovers(&self) -> Result<()> {
        atomic::remove_leftovers(&self.path, |name| is_own_leftover(name, &self.tag))?;
        Ok(())
    }
}

const LOCK: &str = ".extract.lock";
const TIDY: &str = ".tidy.lock";

/// The folder's lock. While a run that has ended tidies the folder, this one waits; if a run is at work, this one is
/// refused after a moment, the time that a run needs to end or to begin tidying.
fn acquire_unless_tidied(path: &Path, mode: LockMode) -> Result<Lock> {
    const MAX_REFUSALS: u32 = 5;
    let mut refused = 0;
    loop {
        let error = match lock::acquire(path, LOCK, mode, || in_use(path)) {
            Err(error) if is_held(&error) => error,
            done => return done,
        };
        if if_free(path, TIDY)?.is_some() {
            refused += 1;
        }
        if refused == MAX_REFUSALS || !retry::pause(Duration::from_millis(100), interrupt::requested) {
            return Err(error);
        }
    }
}

/// An exclusive lock; `None` if another run holds it.
fn if_free(path: &Path, name: &str) -> Result<Option<Lock>> {
    match lock::acquire(path, name, LockMode::Exclusive, || in_use(path)) {
        Err(error) if is_held(&error) => Ok(None),
        done => done.map(Some),
    }
}

/// Returns whether an error of [`lock::acquire`] says that another has the lock: all others come from the system.
fn is_held(error: &anyhow::Error) -> bool {
    !error.chain().any(|cause| cause.is::<std::io::Error>())
}

fn in_use(path: &Path) -> String {
    format!(
        "another bc-features extract is writing {}; wait for it (concurrent runs need a shard each: --shard i/n)",
        path.display()
    )
}

/// Removes a file that may be gone.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns whether only a run with this tag can be writing a file that will have this name.
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
