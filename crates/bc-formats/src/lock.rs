//! Locks a folder, so that one process at a time works in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, bail};

/// Which other processes may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No other process may take the lock.
    Alone,
    /// Other processes may take the lock in the same way.
    Shared,
}

/// A lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    real: bool,
}

impl Lock {
    /// Whether it really excludes others: false on a file system without locks.
    pub fn is_effective(&self) -> bool {
        self.real
    }
}

/// [`acquire`] for callers that do not need to know whether the lock is real.
///
/// # Errors
/// The errors of [`acquire`].
pub fn hold(folder: &Path, name: &str, kind: Kind, held: impl FnOnce() -> String) -> Result<File> {
    Ok(acquire(folder, name, kind, held)?.file)
}

/// Creates the folder and locks its file `name`. Some network file systems have no locks; a warning says so, once
/// per process, and the user has to avoid a second process there.
///
/// # Errors
/// `held`, if another process holds the lock; a folder that cannot be written; a disk that fails.
pub fn acquire(folder: &Path, name: &str, kind: Kind, held: impl FnOnce() -> String) -> Result<Lock> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // Not truncated: opening the file must not change it while another process has locked it.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(name))
        .with_context(|| format!("cannot write in the folder {}", folder.display()))?;
    let locked = match kind {
        Kind::Alone => file.try_lock(),
        Kind::Shared => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(Lock { file, real: true }),
        Err(TryLockError::WouldBlock) => bail!(held()),
        Err(TryLockError::Error(error)) if is_lock_unsupported(&error) => {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!(
                    "{}: this file system has no locks ({error}); files are still renamed into place when they are whole, but see \
                     to it that no second process does the same work there",
                    folder.display()
                );
            });
            Ok(Lock { file, real: false })
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", folder.join(name).display()))
        }
    }
}

/// Whether locking failed because there is no locking.
pub(crate) fn is_lock_unsupported(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL)) {
        return true;
    }
    error.kind() == std::io::ErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_locks_coexist_and_an_exclusive_lock_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let hold = |kind| hold(&path, ".lock", kind, || "held".to_owned());
        let shared = [hold(Kind::Shared).unwrap(), hold(Kind::Shared).unwrap()];
        assert_eq!(hold(Kind::Alone).unwrap_err().to_string(), "held");
        drop(shared);
        let _alone = hold(Kind::Alone).unwrap();
        assert!(hold(Kind::Shared).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn a_failing_disk_is_not_taken_for_one_without_locks() {
        let error = std::io::Error::from_raw_os_error;
        assert!(is_lock_unsupported(&error(libc::ENOLCK)) && is_lock_unsupported(&error(libc::EOPNOTSUPP)));
        assert!(!is_lock_unsupported(&error(libc::EIO)) && !is_lock_unsupported(&error(libc::ESTALE)));
    }
}
