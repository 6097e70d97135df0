//! Writes an index file some versions at a time, so that memory does not depend on its length.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::{FORMAT, Version, columns, fields};
use crate::audio_root::AudioRoot;
use crate::fingerprint::Fingerprint;
use crate::provenance::Provenance;
use crate::table::TableWriter;

/// A batch is written once its texts have this many bytes, far below the limit of 2 GiB of 32-bit offsets.
const BATCH_BYTES: usize = 64 << 20;

/// An index file that is written under a temporary name. If it is dropped without [`IndexWriter::commit`], the existing file does
/// not change.
pub struct IndexWriter {
    writer: TableWriter,
    path: PathBuf,
    root: Option<AudioRoot>,
    fingerprint: Fingerprint,
}

impl IndexWriter {
    /// Opens a temporary file for the index at `path`; `settings` are those of its provenance, which name the audio root.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(path: &Path, settings: &Value) -> Result<Self> {
        let (writer, root) = (TableWriter::create(path, fields())?, AudioRoot::of(path, settings));
        Ok(Self { writer, path: path.to_owned(), root, fingerprint: Fingerprint::of("index") })
    }

    /// Appends versions.
    ///
    /// # Errors
    /// A full disk, or an audio path outside the root.
    pub fn add(&mut self, mut versions: Vec<Version>) -> Result<()> {
        if let Some(root) = &self.root {
            for audio in versions.iter_mut().filter_map(|version| version.audio_path.as_mut()) {
                *audio = root.store(audio)?;
            }
        }
        let versions = &versions[..];
        let (writer, fingerprint) = (&mut self.writer, &mut self.fingerprint);
        // Both go through every field of every version and need nothing of each other.
        std::thread::scope(|scope| {
            let hashing = scope.spawn(|| {
                for version in versions {
                    fingerprint.add_json(version);
                }
            });
            let mut rest = versions;
            while !rest.is_empty() {
                let (batch, after) = rest.split_at(batch_length(rest, BATCH_BYTES));
                writer.write(columns(batch))?;
                rest = after;
            }
            hashing.join().expect("versions serialise to JSON");
            Ok(())
        })
    }

    /// Returns the fingerprint ([`super::Index::fingerprint`]) of what was added so far.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.finish()
    }

    /// Ends the file and renames it into place; format and fingerprint of `provenance` are set here.
    ///
    /// # Errors
    /// A full disk.
    pub fn commit(self, provenance: &mut Provenance) -> Result<()> {
        provenance.format = FORMAT.to_owned();
        provenance.fingerprint = self.fingerprint();
        self.writer.commit_as(&self.path, provenance)
    }
}

/// Returns how many of `versions` (at least one, if there is one) make a batch whose texts stay at or below `max_bytes`.
pub(super) fn batch_length(versions: &[Version], max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fits = |version: &&Version| {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        bytes += version.version_id.len()
            + version.clique_id.len()
            + version.title.len()
            + version.performer.len()
            + optional(&version.source_url)
            + optional(&version.audio_path)
            + optional(&version.reason)
            + optional(&version.codec)
            + optional(&version.content_hash);
        bytes <= max_bytes
    };
    versions.iter().take_while(fits).count().max(1).min(versions.len())
}
