//! Approximate search: a graph of neighbours beside the index, which can be thrown away and made again.
//!
//! **In**: an index. **Out**: `ann.json` and the file that it names (a graph after Malkov and Yashunin, "Efficient and robust approximate
//! nearest neighbor search using hierarchical navigable small world graphs", 2018, by usearch). A search takes candidates from
//! the graph and scores them exactly, by the index's own vectors. A graph of another generation of the index is never used, and how many of the nearest it
//! misses is measured when it is made.
//!
//! Optional (`--features ann`), because usearch needs a C++ compiler; without it [`Ann::open`] and [`build`] say so.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::index::Index;

#[cfg(feature = "ann")]
mod graph;
#[cfg(not(feature = "ann"))]
mod without;
#[cfg(feature = "ann")]
pub use graph::{Ann, build};
#[cfg(not(feature = "ann"))]
pub use without::{Ann, build};

/// Kind and schema version of `ann.json`.
pub const FORMAT: &str = "search-ann/1";
const NAME: &str = "ann.json";

/// What `ann.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Built {
    /// [`FORMAT`].
    pub format: String,
    /// The index's generation that the graph is of.
    pub generation: u64,
    /// The fingerprint of its manifest.
    pub fingerprint: String,
    /// Name of the graph's file beside this one.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified_ns: u64,
    /// Its content hash.
    pub hash: String,
    /// Vectors in it.
    pub vectors: usize,
    /// Seconds that making it took.
    pub seconds: f64,
    /// Vectors of the index that were asked for their ten nearest others, by the graph and exactly.
    pub asked: usize,
    /// The share of these that the graph found.
    pub recall_at_10: f64,
}

impl Built {
    /// Reads what is beside an index.
    ///
    /// # Errors
    /// Nothing there, or of another generation of the index.
    pub fn of(index: &Index) -> Result<Self> {
        let again = || format!("make it with `bc-search ann --index {}`", index.path.display());
        ensure!(index.path.is_dir(), "{} is no folder of an index; a graph lies in one", index.path.display());
        let path = index.path.join(NAME);
        let text = std::fs::read(&path)
            .with_context(|| format!("{} has no graph; {}", index.path.display(), again()))?;
        let read: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; {}", path.display(), again()))?;
        ensure!(read.format == FORMAT, "{} is a {}, not a {FORMAT}; {}", path.display(), read.format, again());
        let manifest = &index.manifest;
        ensure!(
            read.generation == manifest.generation && read.fingerprint == manifest.provenance.fingerprint,
            "the graph of {} is of generation {}, the index of generation {}: something was added or removed since; {} again, or \
             leave --ann out",
            index.path.display(),
            read.generation,
            manifest.generation,
            again()
        );
        let graph = index.path.join(&read.file);
        let (bytes, modified_ns) = stamp(&graph)?;
        ensure!(
            bytes == read.bytes && modified_ns == read.modified_ns,
            "{} is not the file that was made ({bytes} bytes, {} then, or changed since); {}",
            graph.display(),
            read.bytes,
            again()
        );
        Ok(read)
    }

    /// Whether the graph's file beside an index has its content; nothing where there is no graph, or one of another generation, which
    /// nobody uses.
    ///
    /// # Errors
    /// Another content, or a file that is gone.
    pub fn verify(index: &Index) -> Result<Option<Self>> {
        let Ok(text) = std::fs::read(index.path.join(NAME)) else { return Ok(None) };
        let of_another = |built: &Self| built.generation != index.manifest.generation;
        if serde_json::from_slice(&text).is_ok_and(|built| of_another(&built)) {
            return Ok(None);
        }
        let built = Self::of(index)?;
        let path = index.path.join(&built.file);
        let hash = bc_formats::fingerprint::of_file(&path)?;
        ensure!(hash == built.hash, "{}: its content is {hash}, not {}", path.display(), built.hash);
        Ok(Some(built))
    }
}

/// Size and time of change.
fn stamp(path: &Path) -> Result<(u64, u64)> {
    let data = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let since = data.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok((data.len(), u64::try_from(since.as_nanos()).unwrap_or(0)))
}

/// Files of graphs beside an index but the one named.
#[cfg_attr(not(feature = "ann"), allow(dead_code, reason = "nothing is made without it"))]
fn others(folder: &Path, file: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let old = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name.starts_with("ann-") || name.starts_with(".ann-")) && name.ends_with(".usearch") && name != file
    });
    old.map(|entry| entry.path()).collect()
}
