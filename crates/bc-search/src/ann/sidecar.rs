//! The file of a graph: a header of 64 bytes, and the graph as usearch writes it.
//!
//! The header holds the content hash of the segment's vectors, so that a graph is never used with other rows, and the hash of the rest of the
//! file, which is checked whenever a graph is opened, because usearch follows links without bounds checks.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bc_formats::{atomic, fingerprint};
use bytemuck::Zeroable;
use memmap2::Mmap;

use super::{Settings, file};
use crate::index::Manifest;
use crate::index::manifest::SegmentEntry;
use crate::index::mapped_file;

const MAGIC: [u8; 8] = *b"BCGRAPH1";
/// Bytes before the graph.
pub const HEADER: usize = size_of::<Header>();

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Header {
    magic: [u8; 8],
    rows: u64,
    /// Content hash of the segment's vectors, as in the manifest.
    vectors: [u8; 16],
    /// The first 16 bytes of the BLAKE3 hash of the graph.
    graph: [u8; 16],
    connectivity: u32,
    expansion: u32,
    unused: u64,
}

fn hash(bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update_rayon(bytes);
    bytemuck::pod_read_unaligned(&hasher.finalize().as_bytes()[..16])
}

fn header(entry: &SegmentEntry) -> Result<Header> {
    let vectors = fingerprint::of_hex(&entry.hashes.vectors)
        .context("the manifest's hash of the vectors is not a hash")?;
    Ok(Header { magic: MAGIC, rows: entry.vectors as u64, vectors, ..Header::zeroed() })
}

/// Writes a segment's graph under its name.
pub fn write(index: &Path, entry: &SegmentEntry, settings: Settings, graph: &[u8]) -> Result<()> {
    let header = Header {
        graph: hash(graph),
        connectivity: u32::try_from(settings.connectivity)?,
        expansion: u32::try_from(settings.expansion)?,
        ..header(entry)?
    };
    atomic::write_with(&file(index, &entry.name), |writer| {
        writer.write_all(bytemuck::bytes_of(&header))?;
        Ok(writer.write_all(graph)?)
    })
}

/// Maps a segment's graph; `None` if it has none. The graph begins after [`HEADER`] bytes.
pub fn open(index: &Path, entry: &SegmentEntry) -> Result<Option<Mmap>> {
    let path = file(index, &entry.name);
    let opened = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot open {}", path.display()))?,
    };
    let map = mapped_file::map(&opened, &path)?;
    check(&map, entry).with_context(|| {
        format!(
            "{} is damaged, or of other vectors; build it again with `bc-search ann build`, or remove it",
            path.display()
        )
    })?;
    Ok(Some(map))
}

fn check(bytes: &[u8], entry: &SegmentEntry) -> Result<()> {
    ensure!(bytes.len() >= HEADER, "it has {} bytes, fewer than a header", bytes.len());
    let found: Header = bytemuck::pod_read_unaligned(&bytes[..HEADER]);
    let expected = header(entry)?;
    ensure!(found.magic == MAGIC, "it does not begin with the magic bytes of such a file");
    ensure!(
        found.rows == expected.rows && found.vectors == expected.vectors,
        "it is a graph of other vectors than those of {}",
        entry.name
    );
    ensure!(found.graph == hash(&bytes[HEADER..]), "its content does not match the hash in its header");
    Ok(())
}

/// The damaged graphs of an index, one line each.
#[must_use]
pub fn damaged(index: &Path, manifest: &Manifest) -> Vec<String> {
    let opened = manifest.segments.iter().map(|entry| open(index, entry));
    opened.filter_map(Result::err).map(|error| format!("{error:#}")).collect()
}
