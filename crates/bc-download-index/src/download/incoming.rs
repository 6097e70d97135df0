//! The folder `.incoming` of unfinished files: one folder for each id, and in it one for each address.
//!
//! ```text
//! .incoming/<hash of the id>/lock                    held by the process that fetches the id
//! .incoming/<hash of the id>/<hash of the address>/  what yt-dlp writes
//! ```
//! Because of the lock, two processes on one folder never write into the same unfinished file, whatever their shards.
//! Because of the hash of the address, a version whose address changed does not continue the unfinished file of the old
//! address. Names are hashes, because ids may differ only in case.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_formats::fingerprint::Fingerprint;

/// The folder's name.
pub const INCOMING: &str = ".incoming";

/// One file to fetch.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Version id; the file's name.
    pub id: String,
    /// Address that the file comes from.
    pub url: String,
}

/// The exclusive right to fetch one id; dropping it gives the right back.
pub struct Claim {
    /// Folder in which yt-dlp works.
    pub work: PathBuf,
    folder: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims the id of `job`; `None` if another process has claimed it. Unfinished files from other addresses are removed.
    ///
    /// # Errors
    /// `incoming` cannot be written.
    pub fn take(incoming: &Path, job: &Job) -> Result<Option<Self>> {
        let folder = incoming.join(hash("id", &job.id));
        let work = folder.join(hash("address", &job.url));
        let failed = || format!("cannot write in {}", folder.display());
        let Some(lock) = lock(&folder).with_context(failed)? else { return Ok(None) };
        for entry in std::fs::read_dir(&folder).with_context(failed)?.flatten() {
            let path = entry.path();
            if path.is_dir() && path != work {
                std::fs::remove_dir_all(&path).with_context(failed)?;
            }
        }
        std::fs::create_dir_all(&work).with_context(failed)?;
        Ok(Some(Self { work, folder, _lock: lock }))
    }

    /// Removes yt-dlp's files, once none of them is needed any more.
    pub fn clear(&self) {
        // Files that cannot be removed do no harm.
        let _ = std::fs::remove_dir_all(&self.work);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // An unfinished file stays for the next attempt (its folder is not empty, so it is not removed). The lock file is
        // removed while the lock is still held.
        let _ = std::fs::remove_dir(&self.work);
        let _ = std::fs::remove_file(self.folder.join(LOCK));
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Name of the lock file.
const LOCK: &str = "lock";

/// Returns a name for an id or an address.
fn hash(kind: &str, text: &str) -> String {
    Fingerprint::of(kind).add(text).finish()
}

/// Removes the unfinished files of versions that will not be fetched any more, which are all versions whose ids are not in
/// `open`. Files that another process works on are kept.
pub fn sweep(incoming: &Path, open: &[String]) {
    let left: Vec<PathBuf> =
        std::fs::read_dir(incoming).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    if left.is_empty() {
        let _ = std::fs::remove_dir(incoming);
        return;
    }
    let open: HashSet<String> = open.iter().map(|id| hash("id", id)).collect();
    for path in left {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Files that cannot be removed do no harm.
        let _ = match path.is_dir() {
            // Files directly in the folder are from an earlier version of this program.
            false => std::fs::remove_file(&path),
            true if open.contains(name.as_ref()) => Ok(()),
            true => lock(&path).and_then(|held| held.map_or(Ok(()), |_lock| std::fs::remove_dir_all(&path))),
        };
    }
    let _ = std::fs::remove_dir(incoming);
}

/// Creates the folder and locks its lock file; `None` if another process holds the lock.
fn lock(folder: &Path) -> std::io::Result<Option<File>> {
    let path = folder.join(LOCK);
    loop {
        match std::fs::create_dir_all(folder) {
            Ok(()) => {}
            // Another process removed the folder while it was being created.
            Err(error) if may_have_been_removed(&error) && !folder.is_file() => continue,
            Err(error) => return Err(error),
        }
        let file = match OpenOptions::new().write(true).create(true).truncate(false).open(&path) {
            Ok(file) => file,
            // Another process removed the folder after it was created.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // On a file system without locks, the user has to avoid running two processes.
            Err(TryLockError::Error(_)) => return Ok(Some(file)),
            Ok(()) => {}
        }
        // The last holder of the lock may have removed the file after this process opened it and before it locked it.
        if is_current(&file, &path) {
            return Ok(Some(file));
        }
    }
}

fn may_have_been_removed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AlreadyExists, NotFound};
    matches!(error.kind(), AlreadyExists | NotFound)
}

#[cfg(unix)]
fn is_current(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |about: std::fs::Metadata| (about.dev(), about.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(named)) => identity(ours) == identity(named),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_current(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, url: &str) -> Job {
        Job { id: id.into(), url: url.into() }
    }

    #[test]
    fn only_one_process_claims_an_id_and_unfinished_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let incoming = folder.path().join(".incoming");
        let job = job("a", "https://x/a");
        let claim = Claim::take(&incoming, &job).unwrap().unwrap();
        assert!(Claim::take(&incoming, &job).unwrap().is_none());
        std::fs::write(claim.work.join("audio.m4a.part"), "half").unwrap();
        let work = claim.work.clone();
        drop(claim);
        let again = Claim::take(&incoming, &job).unwrap().unwrap();
        assert_eq!(again.work, work);
        assert!(work.join("audio.m4a.part").exists());
        again.clear();
        drop(again);
        assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
    }

    #[test]
    fn sweep_removes_only_files_that_will_not_be_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let left = |id: &str| {
            let claim = Claim::take(folder.path(), &job(id, "u")).unwrap().unwrap();
            std::fs::write(claim.work.join("audio.m4a.part"), "half").unwrap();
            claim
        };
        let (open, done, held) = (left("open"), left("done"), left("held"));
        let [open_work, done_work, held_work] = [&open, &done, &held].map(|claim| claim.work.clone());
        drop((open, done));
        std::fs::write(folder.path().join("old.m4a.part"), "of an earlier version").unwrap();
        sweep(folder.path(), &["open".to_owned()]);
        assert!(open_work.exists() && held_work.exists() && !done_work.exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        drop(held);
    }

    #[test]
    fn another_address_starts_a_new_download() {
        let folder = tempfile::tempdir().unwrap();
        let old = Claim::take(folder.path(), &job("a", "https://x/one")).unwrap().unwrap();
        let left = old.work.join("audio.m4a.part");
        std::fs::write(&left, "half of another song").unwrap();
        drop(old);
        let new = Claim::take(folder.path(), &job("a", "https://x/two")).unwrap().unwrap();
        assert_eq!(std::fs::read_dir(&new.work).unwrap().count(), 0);
        assert!(!left.exists());
    }

    #[test]
    fn threads_never_claim_one_id_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let holders = std::sync::atomic::AtomicUsize::new(0);
        let turns = std::sync::atomic::AtomicUsize::new(0);
        use std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Some(claim) = Claim::take(folder.path(), &job("a", "u")).unwrap() {
                            assert_eq!(holders.fetch_add(1, SeqCst), 0);
                            turns.fetch_add(1, SeqCst);
                            holders.fetch_sub(1, SeqCst);
                            drop(claim);
                        }
                    }
                });
            }
        });
        assert!(turns.into_inner() > 0);
    }
}
