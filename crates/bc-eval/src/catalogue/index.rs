//! An index file to which several processes may add recordings at the same time.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::fingerprint::Fingerprint;
use bc_formats::provenance::Provenance;

use bc_cli::saving;
use bc_embed::embedder::Embedder;
use bc_embed::origin::Origin;
use bc_embed::windows::{self, Windows, describe as describe_windows};

/// The rows of a recording that is not yet in the file.
pub struct Pending {
    /// Path of the recording, for reports.
    pub path: PathBuf,
    /// One label per vector, all of one version.
    pub labels: Vec<Label>,
    /// The vectors, row-major.
    pub vectors: Vec<f32>,
}

/// What happened to a recording when the index was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddOutcome {
    /// The recording is new and was added.
    Added,
    /// The index already holds the recording, with the same id and content.
    AlreadyPresent,
    /// Another recording has the same id.
    IdConflict,
}

/// An index file, with its rows as they were last read or written.
pub struct GrowingIndex {
    path: PathBuf,
    embeddings: Embeddings,
}

impl GrowingIndex {
    /// Reads the file at `path`; if there is none, starts an empty index for the network `embedder`.
    ///
    /// # Errors
    /// A file that cannot be read; one of another network, or of other windows.
    pub fn open(path: &Path, embedder: &Embedder, windows: Option<Windows>) -> Result<Self> {
        let mut settings = embedder.settings();
        settings[windows::KEY] = serde_json::json!(windows);
        let empty = Embeddings {
            labels: Vec::new(),
            dim: embedder.dim(),
            vectors: Vec::new(),
            provenance: Provenance {
                format: FORMAT.to_owned(),
                tool: bc_cli::tool!().to_owned(),
                settings,
                fingerprint: String::new(),
                inputs: BTreeMap::from([("checkpoint".to_owned(), embedder.fingerprint.clone())]),
            },
        };
        let mut index = Self { path: path.to_owned(), embeddings: empty };
        index.refresh()?;
        Ok(index)
    }

    /// Returns the content hash of each recording, by id.
    pub fn hashes_by_id(&self) -> HashMap<&str, &str> {
        let labels = self.embeddings.labels.iter();
        labels.map(|label| (label.version_id.as_str(), label.source_hash.as_str())).collect()
    }

    /// Adds the recordings that are not in the file and writes it; other processes may have written it since the last read. Its
    /// bytes depend only on the recordings, not on the order or number of saves: rows are sorted by id and position.
    ///
    /// # Errors
    /// A file that cannot be read or written; another process made it with another network or other windows.
    pub fn add(&mut self, pending: Vec<Pending>) -> Result<Vec<(PathBuf, AddOutcome)>> {
        let _lock = saving::lock_for_writing(&self.path)?;
        self.refresh()?;
        let mut known: HashMap<String, String> =
            self.hashes_by_id().into_iter().map(|(id, hash)| (id.to_owned(), hash.to_owned())).collect();
        let mut saved = Vec::with_capacity(pending.len());
        for Pending { path, labels, vectors } in pending {
            let Some(first) = labels.first() else { continue };
            let outcome = match known.get(&first.version_id) {
                None => AddOutcome::Added,
                Some(hash) if *hash == first.source_hash => AddOutcome::AlreadyPresent,
                Some(_) => AddOutcome::IdConflict,
            };
            if outcome == AddOutcome::Added {
                known.insert(first.version_id.clone(), first.source_hash.clone());
                self.embeddings.labels.extend(labels);
                self.embeddings.vectors.extend(vectors);
            }
            saved.push((path, outcome));
        }
        if saved.iter().any(|(_, outcome)| *outcome == AddOutcome::Added) {
            self.sort();
            self.embeddings.provenance.fingerprint = fingerprint(&self.embeddings);
            self.embeddings.provenance.tool = bc_cli::tool!().to_owned();
            self.embeddings.write(&self.path)?;
        }
        Ok(saved)
    }

    /// Reads the file if another process has written it since it was last read or written.
    fn refresh(&mut self) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        let stored = Embeddings::read_provenance(&self.path)?;
        if stored.fingerprint == self.embeddings.provenance.fingerprint {
            return Ok(());
        }
        let own = &self.embeddings.provenance;
        Origin::from_provenance(&stored).require_same(
            &self.path,
            &Origin::from_provenance(own),
            Path::new("the network to add with"),
        )?;
        let windows_of = |provenance: &Provenance| {
            Windows::from_provenance(provenance).with_context(|| self.path.display().to_string())
        };
        let (stored_windows, new_windows) = (windows_of(&stored)?, windows_of(own)?);
        ensure!(
            stored_windows == new_windows,
            "{} holds {}, but {} are to be added: their scores cannot be compared; add the same kind, or start another index",
            self.path.display(),
            describe_windows(stored_windows),
            describe_windows(new_windows)
        );
        self.embeddings = Embeddings::read(&self.path)?;
        Ok(())
    }

    /// Sorts the rows by id and position.
    fn sort(&mut self) {
        let Embeddings { labels, vectors, dim, .. } = &mut self.embeddings;
        let mut order: Vec<usize> = (0..labels.len()).collect();
        let sort_key = |row: usize| (labels[row].version_id.as_str(), labels[row].start_s);
        order.sort_by(|a, b| {
            let ((id_a, start_a), (id_b, start_b)) = (sort_key(*a), sort_key(*b));
            id_a.cmp(id_b).then(start_a.total_cmp(&start_b))
        });
        if order.windows(2).all(|pair| pair[0] < pair[1]) {
            return;
        }
        let mut sorted = Vec::with_capacity(vectors.len());
        for row in &order {
            sorted.extend_from_slice(&vectors[row * *dim..][..*dim]);
        }
        *vectors = sorted;
        *labels = order.iter().map(|row| labels[*row].clone()).collect();
    }
}

/// Returns a fingerprint of the whole content: it changes with any work, title, position or vector.
fn fingerprint(embeddings: &Embeddings) -> String {
    let mut fingerprint = Fingerprint::of("catalogue");
    fingerprint.add_json(&embeddings.provenance.settings).add_json(&embeddings.provenance.inputs);
    let rows = embeddings.labels.iter().zip(embeddings.vectors.chunks_exact(embeddings.dim.max(1)));
    let mut bytes = Vec::with_capacity(4 * embeddings.dim);
    for (label, vector) in rows {
        let Label { version_id, clique_id, title, performer, split, duration_s, start_s, source_hash } =
            label;
        for text in [version_id, clique_id, title, performer, split.as_str(), source_hash] {
            fingerprint.add(text);
        }
        bytes.clear();
        bytes.extend([duration_s, start_s].into_iter().chain(vector).flat_map(|value| value.to_le_bytes()));
        fingerprint.add(&bytes);
    }
    fingerprint.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bc_formats::index::Split;

    fn embeddings() -> Embeddings {
        let label = Label {
            version_id: "v".into(),
            clique_id: "c".into(),
            title: "t".into(),
            performer: "p".into(),
            split: Split::None,
            duration_s: 60.0,
            start_s: 5.0,
            source_hash: "h".into(),
        };
        let provenance = Provenance {
            format: FORMAT.into(),
            tool: "test".into(),
            settings: serde_json::json!({}),
            fingerprint: String::new(),
            inputs: BTreeMap::new(),
        };
        Embeddings { labels: vec![label], dim: 2, vectors: vec![0.5, 1.0], provenance }
    }

    #[test]
    fn every_field_is_in_the_fingerprint() {
        let before = fingerprint(&embeddings());
        let changes: [fn(&mut Embeddings); 8] = [
            |changed| changed.labels[0].clique_id = "d".into(),
            |changed| changed.labels[0].title = "u".into(),
            |changed| changed.labels[0].performer = "q".into(),
            |changed| changed.labels[0].duration_s = 61.0,
            |changed| changed.labels[0].start_s = 6.0,
            |changed| changed.labels[0].source_hash = "i".into(),
            |changed| changed.vectors[1] = 0.5,
            |changed| changed.provenance.settings = serde_json::json!({ "windows": { "length_s": 30.0 } }),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = embeddings();
            change(&mut changed);
            assert_ne!(fingerprint(&changed), before, "change {number}");
        }
    }
}
