//! Locks a folder, so that one process at a time works in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, bail};

/// Which other processes may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// No other process may take the lock.
    Exclusive,
    /// Other processes may also take the lock in shared mode.
    Shared,
}

/// A lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    is_supported: bool,
}

impl Lock {
    /// Returns whether the lock really excludes other processes: false on a file system without locks.
    pub fn is_effective(&self) -> bool {
        self.is_supported
    }
}

/// Calls [`acquire`], for callers that do not need to know whether the file system supports locks.
///
/// # Errors
/// The errors of [`acquire`].
pub fn lock_folder(
    folder: &Path,
    name: &str,
    mode: LockMode,
    message: impl FnOnce() -> String,
) -> Result<File> {
    Ok(acquire(folder, name, mode, message)?.file)
}

/// Creates the folder and locks its file `name`. Some network file systems have no locks; a warning says so, once
/// per process, and the user has to avoid a second process there.
///
/// # Errors
/// The text of `message`, if another process holds the lock; a folder that cannot be written; a disk that fails.
pub fn acquire(folder: &Path, name: &str, mode: LockMode, message: impl FnOnce() -> String) -> Result<Lock> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // Not truncated: opening the file must not change it while another process has locked it.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(name))
        .with_context(|| format!("cannot write in the folder {}", folder.display()))?;
    let locked = match mode {
        LockMode::Exclusive => file.try_lock(),
        LockMode::Shared => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(Lock { file, is_supported: true }),
        Err(TryLockError::WouldBlock) => bail!(message()),
        Err(TryLockError::Error(error)) if is_lock_unsupported(&error) => {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!(
                    "{}: this file system has no locks ({error}); files are still renamed into place when they are whole, but see \
                     to it that no second process does the same work there",
                    folder.display()
                );
            });
            Ok(Lock { file, is_supported: false })
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", folder.join(name).display()))
        }
    }
}

/// Returns whether locking failed because the file system has no locks.
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
    fn shared_locks_coexist_and_exclusive_locks_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let lock = |mode| lock_folder(&path, ".lock", mode, || "held".to_owned());
        let shared = [lock(LockMode::Shared).unwrap(), lock(LockMode::Shared).unwrap()];
        assert_eq!(lock(LockMode::Exclusive).unwrap_err().to_string(), "held");
        drop(shared);
        let _exclusive = lock(LockMode::Exclusive).unwrap();
        assert!(lock(LockMode::Shared).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn disk_errors_are_not_taken_for_missing_lock_support() {
        let error = std::io::Error::from_raw_os_error;
        assert!(is_lock_unsupported(&error(libc::ENOLCK)) && is_lock_unsupported(&error(libc::EOPNOTSUPP)));
        assert!(!is_lock_unsupported(&error(libc::EIO)) && !is_lock_unsupported(&error(libc::ESTALE)));
    }
}
