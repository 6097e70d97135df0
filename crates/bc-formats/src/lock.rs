//! One process at a time in a folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Who else may hold a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody.
    Alone,
    /// Others of this kind.
    Shared,
}

/// Makes the folder and locks its file `name`, until the returned file is dropped or the process ends.
/// Some network file systems know no locks; there a second process is the user's to avoid.
///
/// # Errors
/// `held`, if another process holds the lock; a folder that cannot be written.
pub fn hold(folder: &Path, name: &str, kind: Kind, held: impl FnOnce() -> String) -> Result<File> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = File::create(folder.join(name))
        .with_context(|| format!("cannot write in the folder {}", folder.display()))?;
    let locked = match kind {
        Kind::Alone => file.try_lock(),
        Kind::Shared => file.try_lock_shared(),
    };
    match locked {
        Err(TryLockError::WouldBlock) => bail!(held()),
        _ => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_share_and_one_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let hold = |kind| hold(&path, ".lock", kind, || "held".to_owned());
        let shared = [hold(Kind::Shared).unwrap(), hold(Kind::Shared).unwrap()];
        assert_eq!(hold(Kind::Alone).unwrap_err().to_string(), "held");
        drop(shared);
        let _alone = hold(Kind::Alone).unwrap();
        assert!(hold(Kind::Shared).is_err());
    }
}
