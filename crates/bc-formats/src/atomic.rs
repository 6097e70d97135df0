//! Writes a file so that a reader sees either the old or the complete new one, and so that the new one survives a power cut: file
//! and folder are flushed to disk.

use std::fs::{File, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lock::is_lock_unsupported;

/// A file that is written under a temporary name next to its destination. If it is dropped without [`AtomicFile::commit`], it is
/// removed and the destination does not change. It is locked as long as its writer lives, so that [`remove_leftovers`] can
/// recognise files of killed processes.
pub struct AtomicFile {
    temporary: tempfile::NamedTempFile,
    destination: PathBuf,
}

impl AtomicFile {
    /// Opens a temporary file in the folder of `destination`, which is created if absent.
    pub fn create(destination: &Path) -> Result<Self> {
        let folder = folder_of(destination);
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        let mut builder = tempfile::Builder::new();
        let prefix = format!(".{name}.");
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        {
            // tempfile's default is 0600; outputs are meant to be read by others (umask still applies).
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        loop {
            let temporary = builder
                .tempfile_in(folder)
                .with_context(|| format!("cannot write in the folder {}", folder.display()))?;
            // A search for leftovers between creating and locking takes it for one: then another one is created.
            let swept = matches!(temporary.as_file().try_lock(), Err(TryLockError::WouldBlock))
                || !temporary.path().exists();
            if !swept {
                return Ok(Self { temporary, destination: destination.to_owned() });
            }
        }
    }

    /// Returns the open temporary file.
    pub fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Returns a second handle to the temporary file, for writers that take ownership of their file.
    pub fn reopen(&self) -> Result<File> {
        self.temporary
            .as_file()
            .try_clone()
            .with_context(|| format!("cannot write {}", self.destination.display()))
    }

    /// Returns the temporary name, for writers that open files themselves.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Flushes the file to disk and renames it to its destination.
    pub fn commit(self) -> Result<()> {
        let destination = self.destination.clone();
        self.commit_as(&destination)
    }

    /// Flushes the file to disk and renames it to `destination`, a name in the same folder that may depend on the content.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; then it is removed, and the previous file of that name is unchanged
    /// (but for an error of the folder itself, after which the new file may have the name already).
    pub fn commit_as(self, destination: &Path) -> Result<()> {
        let (file, temporary) = self.temporary.into_parts();
        file.sync_all()
            .with_context(|| format!("cannot write {} (is the disk full?)", destination.display()))?;
        // The standard library's function, which calls the C library, so that tests can make it fail.
        std::fs::rename(&temporary, destination)
            .with_context(|| format!("cannot rename a finished file to {}", destination.display()))?;
        // It has another name now; there is nothing left to remove.
        let _ = temporary.keep();
        sync_folder(folder_of(destination))
    }
}

/// Returns the parent folder of a path.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Flushes the names in a folder to disk: otherwise a renamed file may have its old name after a power cut. Does nothing on file
/// systems without support for it (some network file systems).
///
/// # Errors
/// The disk fails.
pub fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            Err(error) if !matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
                Err(error).with_context(|| format!("cannot flush the names in {} to disk", folder.display()))
            }
            _ => Ok(()),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(())
    }
}

/// Returns the destination of a temporary file by its name: `part.parquet` for `.part.parquet.Ab3.tmp`. For a temporary file of
/// a temporary file (`..a.Xy1.tmp.Ab3.tmp`) it is the innermost name, `a`. `None` for other names.
pub fn destination_of(name: &str) -> Option<&str> {
    let mut inner = name;
    while let Some((rest, random)) = inner
        .strip_prefix('.')
        .and_then(|rest| rest.strip_suffix(".tmp"))
        .and_then(|rest| rest.rsplit_once('.'))
    {
        if random.is_empty() || rest.is_empty() {
            break;
        }
        inner = rest;
    }
    (inner.len() < name.len()).then_some(inner)
}

/// Removes the temporary files that killed writers left in `folder`. `ours` says for the name of a destination whether only this
/// process may write it. A file that a living writer has locked is kept. Returns the number of files; it is no error if one is
/// gone already.
///
/// # Errors
/// The folder cannot be listed, a file cannot be removed.
pub fn remove_leftovers(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<usize> {
    let mut removed = 0;
    let listed = || format!("cannot list {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(listed)? {
        let entry = entry.with_context(listed)?;
        let name = entry.file_name();
        if !destination_of(&name.to_string_lossy()).is_some_and(&ours) {
            continue;
        }
        // Held until the file is removed, so that no writer can use it meanwhile.
        let file = File::open(entry.path());
        if file.as_ref().is_ok_and(may_be_in_use) {
            continue;
        }
        match std::fs::remove_file(entry.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", entry.path().display()));
            }
            _ => removed += 1,
        }
    }
    Ok(removed)
}

/// Returns whether a living process may be writing a temporary file. On file systems without locks, a file that was not written to
/// for a day counts as left behind.
fn may_be_in_use(file: &File) -> bool {
    const LONG_AGO: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) if is_lock_unsupported(&error) => {
            let modified = file.metadata().and_then(|about| about.modified()).ok();
            modified.and_then(|modified| modified.elapsed().ok()).is_none_or(|age| age < LONG_AGO)
        }
        _ => false,
    }
}

/// Removes the leftovers of one destination ([`remove_leftovers`]), whose folder may be absent.
///
/// # Errors
/// The errors of [`remove_leftovers`].
pub fn remove_leftovers_of(destination: &Path) -> Result<usize> {
    let folder = folder_of(destination);
    let own = destination.file_name().unwrap_or_default().to_string_lossy();
    if folder.exists() { remove_leftovers(folder, |name| name == own) } else { Ok(0) }
}

/// Writes a whole file through `fill` and renames it into place.
pub fn write_with(
    destination: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    let mut atomic = AtomicFile::create(destination)?;
    let mut writer = BufWriter::new(atomic.file());
    fill(&mut writer).with_context(|| format!("cannot write {}", destination.display()))?;
    writer.flush().with_context(|| format!("cannot write {} (is the disk full?)", destination.display()))?;
    drop(writer);
    atomic.commit()
}

/// Writes a file with the content `bytes`.
pub fn write(destination: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    write_with(destination, |writer| Ok(writer.write_all(bytes.as_ref())?))
}

/// Writes a file with `value` as indented JSON.
pub fn write_json(destination: &Path, value: &impl serde::Serialize) -> Result<()> {
    write_with(destination, |writer| {
        serde_json::to_writer_pretty(&mut *writer, value)?;
        Ok(writer.write_all(b"\n")?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_write_keeps_the_old_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, "old").unwrap();
        let error = write_with(&path, |writer| {
            writer.write_all(b"half")?;
            anyhow::bail!("stopped")
        })
        .unwrap_err();
        assert!(format!("{error:#}").contains("a.txt"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn commit_as_gives_a_file_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AtomicFile::create(&folder.path().join("part.txt")).unwrap();
        file.file().write_all(b"abc").unwrap();
        file.commit_as(&folder.path().join("part-3.txt")).unwrap();
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["part-3.txt"]);
    }

    #[test]
    fn nested_temporary_names_are_recognised_and_removed() {
        assert_eq!(destination_of(".part-00003.parquet.Ab3.tmp"), Some("part-00003.parquet"));
        assert_eq!(destination_of("..best.safetensors.Xy1.tmp.Ab3.tmp"), Some("best.safetensors"));
        for name in ["best.safetensors", ".hidden", "a.tmp", ".notes.tmp", ".tmp", ""] {
            assert_eq!(destination_of(name), None, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let outer = AtomicFile::create(&path).unwrap();
        let inner = AtomicFile::create(outer.path()).unwrap();
        for file in [outer, inner] {
            let _ = file.temporary.into_parts().1.keep().unwrap();
        }
        let other = AtomicFile::create(&folder.path().join("b.txt")).unwrap();
        assert_eq!(remove_leftovers(folder.path(), |name| name == "a.txt").unwrap(), 2);
        assert!(other.path().exists());
    }

    #[test]
    fn leftovers_of_killed_writers_are_removed_and_files_in_use_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let abandoned = folder.path().join(".a.txt.Xy12Ab.tmp");
        std::fs::write(&abandoned, "half").unwrap();
        let other = folder.path().join(".b.txt.Xy12Ab.tmp");
        std::fs::write(&other, "half").unwrap();
        let mut living = AtomicFile::create(&path).unwrap();
        assert_eq!(remove_leftovers_of(&path).unwrap(), 1);
        assert!(!abandoned.exists() && other.exists() && living.path().exists());
        living.file().write_all(b"whole").unwrap();
        living.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(remove_leftovers_of(&path).unwrap(), 0);
        assert!(path.exists());
        assert_eq!(remove_leftovers_of(&folder.path().join("absent/b.txt")).unwrap(), 0);
    }
}
