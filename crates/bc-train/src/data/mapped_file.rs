//! Memory maps of a run's own files of magnitudes.

#![allow(
    unsafe_code,
    reason = "changing a mapped file is undefined behaviour; a run's files are only ever replaced as a whole"
)]

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use memmap2::{Mmap, MmapMut};

/// Maps a file to read it.
///
/// # Errors
/// The file cannot be opened or mapped.
pub(super) fn open(path: &Path) -> Result<Mmap> {
    let failed = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(failed)?;
    // SAFETY: the file belongs to this run and is only ever replaced as a whole, by a rename, which leaves this mapping
    // with the old content.
    unsafe { Mmap::map(&file) }.with_context(failed)
}

/// Maps a file for writing; it has its final size, and still a temporary name.
///
/// # Errors
/// The file cannot be mapped.
pub(super) fn unfinished(file: &File) -> std::io::Result<MmapMut> {
    // SAFETY: nobody else knows the temporary name; nothing truncates the file.
    unsafe { MmapMut::map_mut(file) }
}
