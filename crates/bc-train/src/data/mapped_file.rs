//! The file in a run's folder that holds the features of all its tracks, and that is mapped into memory.
//!
//! ```text
//! values    16-bit floats of all tracks, one track after the other
//! flags     one byte per track: 1 if all its values are finite, otherwise 0
//! hash      BLAKE3 of everything before, 32 bytes
//! ```
//!
//! The file is written by ordinary writes, for which a full disk is an error. Writing through a map into a file whose space is
//! not reserved would end the process without a message (SIGBUS).

#![allow(
    unsafe_code,
    reason = "changing a mapped file is undefined behaviour; a run's files are only ever replaced as a whole"
)]

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_formats::atomic::{self, AtomicFile};
use half::f16;
use memmap2::Mmap;

/// Bytes of the hash at the end of the file.
const HASH: usize = blake3::OUT_LEN;

/// Returns the name of the file for features and splits of these fingerprints. The splits are part of it, because with other
/// splits the file holds other tracks, or the same in another order.
pub(super) fn name(features: &str, splits: &str) -> String {
    format!("features-{features}-{splits}.f16")
}

/// Returns whether a file of this name in a run's folder is one that [`open_or_write`] made.
pub(crate) fn is_mapped_store(name: &str) -> bool {
    name.starts_with("features-") && name.ends_with(".f16")
}

/// Where the file is.
#[derive(Debug, Clone)]
pub struct MappedPath {
    pub(super) path: PathBuf,
    /// Whether another rank has written the file, or checked its hash, just before.
    pub(super) is_checked: bool,
}

/// What the file holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    /// Number of values of all tracks.
    pub values: usize,
    pub tracks: usize,
}

impl Content {
    fn value_bytes(self) -> usize {
        self.values * size_of::<f16>()
    }

    fn file_bytes(self) -> u64 {
        (self.value_bytes() + self.tracks + HASH) as u64
    }
}

/// A file that is mapped to be read.
pub(super) struct MappedFile {
    map: Mmap,
    content: Content,
}

impl MappedFile {
    /// Maps the file if there is one that holds this `content`. Unless another rank did so, the file is read as a whole and
    /// compared with its hash; a warning names a damaged file.
    ///
    /// # Errors
    /// The file cannot be read or mapped.
    pub fn open(place: &MappedPath, content: Content) -> Result<Option<Self>> {
        let path = place.path.as_path();
        let failed = || format!("cannot read {}", path.display());
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(failed)?,
        };
        if file.metadata().with_context(failed)?.len() != content.file_bytes() {
            // Of an earlier version, which wrote no hash, or cut off.
            return Ok(None);
        }
        if !place.is_checked && !has_its_hash(&file, content).with_context(failed)? {
            tracing::warn!("{} is damaged and is made again", path.display());
            return Ok(None);
        }
        // SAFETY: the file belongs to this run and is only ever replaced as a whole, by a rename, which leaves this mapping
        // with the old content.
        let map = unsafe { Mmap::map(&file) }.with_context(failed)?;
        Ok(Some(Self { map, content }))
    }

    /// Returns the values of all tracks.
    pub fn values(&self) -> &[f16] {
        bytemuck::cast_slice(&self.map[..self.content.value_bytes()])
    }

    /// Returns whether the values of each track are finite.
    pub fn finite(&self) -> Vec<bool> {
        let flags = &self.map[self.content.value_bytes()..][..self.content.tracks];
        flags.iter().map(|&flag| flag == 1).collect()
    }
}

/// Returns whether the content of a file has the hash at its end. The file is read, not mapped, because pages of a mapped
/// file count as memory of the process.
fn has_its_hash(mut file: &File, content: Content) -> std::io::Result<bool> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file.take(content.file_bytes() - HASH as u64))?;
    let mut stored = [0; HASH];
    file.read_exact(&mut stored)?;
    Ok(hasher.finalize() == stored)
}

/// Maps the file; writes it first if there is no whole one that holds this `content`. `fill` supplies the values, and returns
/// whether those of each track are finite.
///
/// # Errors
/// The errors of `fill`; a full disk; a file that cannot be read or mapped.
pub(super) fn open_or_write(
    place: &MappedPath,
    content: Content,
    fill: impl FnOnce(&mut WriteValues<'_>) -> Result<Vec<bool>>,
) -> Result<MappedFile> {
    if let Some(file) = MappedFile::open(place, content)? {
        return Ok(file);
    }
    write(&place.path, content, fill)?;
    let written = MappedPath { is_checked: true, ..place.clone() };
    MappedFile::open(&written, content)?
        .with_context(|| format!("{} was changed while it was written", place.path.display()))
}

/// Stores values, given the position of the first among all values.
pub(super) type WriteValues<'a> = dyn FnMut(usize, &[f16]) -> Result<()> + 'a;

/// Writes a file with this `content`, as [`open_or_write`] says.
fn write(
    path: &Path,
    content: Content,
    fill: impl FnOnce(&mut WriteValues<'_>) -> Result<Vec<bool>>,
) -> Result<()> {
    let failed = || {
        let mib = content.file_bytes() as f64 / f64::from(1 << 20);
        format!("cannot write {}, which needs {mib:.1} MiB (is the disk full?)", path.display())
    };
    let mut atomic = AtomicFile::create(path)?;
    let file = atomic.file();
    file.set_len(content.value_bytes() as u64).with_context(failed)?;
    let finite = fill(&mut |position, values| {
        file.seek(SeekFrom::Start((position * size_of::<f16>()) as u64))
            .and_then(|_| file.write_all(bytemuck::cast_slice(values)))
            .with_context(failed)
    })?;
    let flags: Vec<u8> = finite.into_iter().map(u8::from).collect();
    append_flags_and_hash(file, &flags).with_context(failed)?;
    atomic.commit().with_context(failed)
}

/// Appends the flags of the tracks and the hash of everything to a file that holds the values.
fn append_flags_and_hash(file: &mut File, flags: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::End(0))?;
    file.write_all(flags)?;
    file.rewind()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&*file)?;
    file.write_all(hasher.finalize().as_bytes())
}

/// Removes what killed processes left of such files in a run's folder, or warns that it cannot: nothing needs that.
pub(super) fn remove_leftovers(run: &Path) {
    if run.exists()
        && let Err(error) = atomic::remove_leftovers(run, is_mapped_store)
    {
        tracing::warn!("what a killed run left cannot be removed: {}", bc_cli::describe(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: Content = Content { values: 3, tracks: 2 };

    fn written(folder: &Path) -> MappedPath {
        let path = folder.join(name("0123", "4567"));
        write(&path, CONTENT, |put| {
            put(2, &[f16::NAN])?;
            put(0, &[1.0, 2.0].map(f16::from_f32))?;
            Ok(vec![true, false])
        })
        .unwrap();
        MappedPath { path, is_checked: false }
    }

    #[test]
    fn file_gives_back_its_values_and_flags() {
        let folder = tempfile::tempdir().unwrap();
        let place = written(folder.path());
        let file = MappedFile::open(&place, CONTENT).unwrap().unwrap();
        assert_eq!(file.values()[..2], [1.0, 2.0].map(f16::from_f32));
        assert!(file.values()[2].is_nan());
        assert_eq!(file.finite(), [true, false]);
    }

    #[test]
    fn damaged_or_absent_file_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let place = written(folder.path());
        let whole = std::fs::read(&place.path).unwrap();
        let opened = |is_checked: bool| {
            MappedFile::open(&MappedPath { is_checked, ..place.clone() }, CONTENT).unwrap().is_some()
        };
        assert!(opened(false));
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            std::fs::write(&place.path, damaged).unwrap();
            assert!(!opened(false), "byte {position}");
        }
        std::fs::write(&place.path, vec![0; whole.len()]).unwrap();
        assert!(!opened(false), "zeros");
        std::fs::write(&place.path, &whole[..whole.len() - 1]).unwrap();
        assert!(!opened(false) && !opened(true), "cut off");
        std::fs::remove_file(&place.path).unwrap();
        assert!(!opened(false), "absent");
    }

    #[test]
    fn failed_write_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name("0", "1"));
        assert!(write(&path, CONTENT, |_| anyhow::bail!("stopped")).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn leftovers_of_killed_processes_are_removed_and_other_files_kept() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path()).path;
        std::fs::write(folder.path().join(".features-0123-89ab.f16.Ab3dEf.tmp"), "half").unwrap();
        std::fs::write(folder.path().join(".notes.Ab3dEf.tmp"), "mine").unwrap();
        remove_leftovers(folder.path());
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".notes.Ab3dEf.tmp".into(), whole.file_name().unwrap().to_owned()]);
        remove_leftovers(&folder.path().join("absent"));
    }
}
