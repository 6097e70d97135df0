//! `manifest.json`: the segments of an index, and the network that made its vectors.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_embed::embedder::Embedder;
use bc_embed::windows::{self, Windows};
use bc_formats::atomic;
use bc_formats::fingerprint::Fingerprint;
use bc_formats::provenance::Provenance;
use bc_formats::run::WindowComparison;
use serde::{Deserialize, Serialize};

use super::vectors::Storage;

/// Kind and schema version of an index.
pub const FORMAT: &str = "search-index/1";
const NAME: &str = "manifest.json";

/// The description of an index: its generation, its segments, and the provenance of its vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Number of the generation, which increases with every change.
    pub generation: u64,
    /// Storage of the vectors.
    pub storage: Storage,
    /// Dimension of a vector.
    pub dim: usize,
    /// How recordings are compared by the short windows that are stored in addition to their vectors; `None` if none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<WindowComparison>,
    /// The segments, in the order in which they were made.
    pub segments: Vec<SegmentEntry>,
    /// The network, layer, input and windows of the vectors.
    pub provenance: Provenance,
}

/// A segment, whose files never change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Its files are `segments/<name>.vectors`, `.keys` and `.rows.parquet`.
    pub name: String,
    /// Number of recordings, removed ones included.
    pub recordings: usize,
    /// Number of vectors, removed ones included.
    pub vectors: usize,
    /// Content hashes of the segment's files.
    pub hashes: Hashes,
    /// Short windows of the segment's recordings; absent if the index stores none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsEntry>,
    /// Recordings that were removed; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
}

/// The short windows of a segment: `segments/<name>.windows` and `.windows-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowsEntry {
    /// Number of windows, those of removed recordings included.
    pub vectors: usize,
    /// Content hash of the vectors' file, without its header.
    pub hash: String,
    /// Content hash of the keys' file.
    pub keys: String,
}

/// Content hashes: 32 hex digits of BLAKE3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// Content hash of the vectors' file, without its header.
    pub vectors: String,
    /// Content hash of the keys' file.
    pub keys: String,
    /// Content hash of the rows' file.
    pub rows: String,
}

/// The tombstones of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// File in `segments`: one bit per recording, lowest first.
    pub file: String,
    /// Number of bits that are set.
    pub count: usize,
    /// Content hash of the file.
    pub hash: String,
}

impl Manifest {
    /// The manifest of an empty index for the vectors of `embedder`.
    #[must_use]
    pub fn empty(embedder: &Embedder, windows: Option<Windows>, storage: Storage) -> Self {
        let mut settings = embedder.settings();
        settings[windows::KEY] = serde_json::json!(windows);
        let checkpoint = ("checkpoint".to_owned(), embedder.fingerprint.clone());
        Self::from_provenance(settings, [checkpoint].into(), storage, embedder.dim())
    }

    /// The manifest of an empty index for existing vectors of this provenance.
    #[must_use]
    pub fn from_provenance(
        settings: serde_json::Value,
        inputs: std::collections::BTreeMap<String, String>,
        storage: Storage,
        dim: usize,
    ) -> Self {
        let provenance = Provenance {
            format: FORMAT.to_owned(),
            tool: bc_cli::tool!().to_owned(),
            settings,
            fingerprint: String::new(),
            inputs,
        };
        Self { generation: 0, storage, dim, compare: None, segments: Vec::new(), provenance }
    }

    /// The path of the manifest in the folder of an index.
    #[must_use]
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(NAME)
    }

    /// Reads the manifest of the index at `folder`.
    ///
    /// # Errors
    /// There is no index; a manifest that is damaged or of another version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = Self::path(folder);
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "there is no index at {} (no {NAME}); make one with `bc-search add AUDIO --index {0}`",
                folder.display()
            )
        })?;
        let read: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged, or of another version", path.display()))?;
        read.provenance.require_format(&path, FORMAT)?;
        ensure!(read.dim > 0, "{} is damaged: its vectors have dimension 0", path.display());
        Ok(read)
    }

    /// Writes the manifest as the next generation, which readers see from now on.
    pub(crate) fn write(&mut self, folder: &Path) -> Result<()> {
        self.generation += 1;
        self.provenance.tool = bc_cli::tool!().to_owned();
        let mut fingerprint = Fingerprint::of("search index");
        fingerprint.add_json(&self.provenance.settings).add_json(&self.provenance.inputs);
        fingerprint.add_json(&self.compare).add_json(&self.segments);
        self.provenance.fingerprint = fingerprint.finish();
        atomic::write_json(&Self::path(folder), self)
    }

    /// Tells this state of an index from others: the generation, and the fingerprint of the content, because an index that was
    /// deleted and made again counts its generations anew.
    pub(crate) fn version(&self) -> (u64, &str) {
        (self.generation, &self.provenance.fingerprint)
    }

    /// The windows that the recordings were cut into; `None` for whole recordings.
    ///
    /// # Errors
    /// Settings whose windows cannot be understood.
    pub fn windows(&self) -> Result<Option<Windows>> {
        Windows::from_provenance(&self.provenance)
    }

    /// Number of recordings that were not removed.
    #[must_use]
    pub fn recordings(&self) -> usize {
        let present = |segment: &SegmentEntry| {
            segment.recordings - segment.removed.as_ref().map_or(0, |removed| removed.count)
        };
        self.segments.iter().map(present).sum()
    }
}
