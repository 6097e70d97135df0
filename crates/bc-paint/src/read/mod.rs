//! Reads works from files.
//!
//! **In**: a folder or `.tar`/`.tar.xz` of MIDI files ([`midi`]), or JSON lines, `.jsonl`/`.jsonl.xz`
//! ([`tunes`]). **Out**: works with at least one setting that can be painted, sorted by id. Settings with too few notes are left
//! out; malformed input is an error that names file and line.

mod archive;
pub mod midi;
pub mod tunes;

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::work::Work;

/// Reads all works of a source.
///
/// # Errors
/// A source that is absent or of no known kind, a malformed file, no work at all.
pub fn source(path: &Path) -> Result<Vec<Work>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut works = if path.is_dir() {
        midi::works(archive::folder(path)?)?
    } else if name.ends_with(".tar") || name.ends_with(".tar.xz") {
        midi::works(archive::tar(path, open(path)?)?)?
    } else if name.ends_with(".jsonl") || name.ends_with(".jsonl.xz") {
        tunes::works(path, open(path)?)?
    } else if !path.exists() {
        bail!("there is no source of works at {}; correct [paint] sources or --source", path.display());
    } else {
        bail!(
            "{} is not a source of works: known are a folder, .tar or .tar.xz of MIDI files (NNN/NNN.mid) and .jsonl or .jsonl.xz",
            path.display()
        );
    };
    ensure!(
        !works.is_empty(),
        "{}: no work can be painted; MIDI files must be in it as NNN/NNN.mid with tracks MELODY, BRIDGE or PIANO",
        path.display()
    );
    works.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(works)
}

/// Opens a file for reading; its content is decompressed if its name ends in `.xz`.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = std::fs::File::open(path).with_context(|| {
        format!("cannot read the source of works {}; correct [paint] sources or --source", path.display())
    })?;
    let file = std::io::BufReader::new(file);
    Ok(match path.extension() {
        Some(extension) if extension == "xz" => Box::new(lzma_rust2::XzReader::new(file, true)),
        _ => Box::new(file),
    })
}
