//! Maps the files of an index into memory. All of them are written under a temporary name, renamed, and never changed again.

#![allow(
    unsafe_code,
    reason = "a file that changes under a map is undefined behaviour; those of an index never change"
)]

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use memmap2::Mmap;

/// Maps a whole file.
///
/// # Errors
/// The file cannot be opened or mapped.
pub(crate) fn open(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    map(&file, path)
}

/// Maps an open file of an index; `path` is named in errors.
///
/// # Errors
/// The file cannot be mapped.
pub(crate) fn map(file: &File, path: &Path) -> Result<Mmap> {
    // SAFETY: the files of an index are never changed once they have their name; if another program truncates one,
    // the process ends with a signal, as with any mapped file.
    unsafe { Mmap::map(file) }.with_context(|| format!("cannot map {}", path.display()))
}
