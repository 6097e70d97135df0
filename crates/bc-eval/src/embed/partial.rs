//! The saved parts of an unfinished file of embeddings: those of this run, of a killed one, or of other shards.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::provenance::Provenance;

use super::status::Status;
use bc_cli::saving;
use bc_embed::origin::Origin;

/// Parts of a file of embeddings, in a folder next to it. A process that writes or removes parts holds the file's lock,
/// so that shards that finish at the same time do not interfere.
pub(super) struct Partial<'a> {
    out: &'a Path,
    provenance: &'a Provenance,
    /// The rows of the finished file.
    labels: &'a [Label],
    /// Length of a vector.
    dim: usize,
    folder: PathBuf,
    /// Ids of the versions that are done.
    pub done: HashSet<String>,
}

impl<'a> Partial<'a> {
    pub fn new(out: &'a Path, provenance: &'a Provenance, labels: &'a [Label], dim: usize) -> Self {
        let folder = out.with_extension("partial").join(&provenance.fingerprint);
        Self { out, provenance, labels, dim, folder, done: HashSet::new() }
    }

    /// Returns whether the complete file exists, made from the same inputs with the same settings; if so, its parts
    /// are removed.
    pub fn is_finished(&self) -> Result<bool> {
        let is_current = self.is_current().unwrap_or_else(|reason| {
            tracing::warn!("{} is made again: {reason:#}", self.out.display());
            false
        });
        if !is_current {
            return Ok(false);
        }
        if self.parts_folder().exists() {
            let _lock = saving::lock_for_writing(self.out)?;
            self.clear()?;
        }
        Ok(true)
    }

    /// Reads the ids of the versions that are done.
    pub fn read(&mut self) -> Result<()> {
        for part in self.parts()? {
            self.done.extend(part.labels.into_iter().map(|label| label.version_id));
        }
        Ok(())
    }

    /// Copies the embeddings of the files at `known`, if they were made by the same network from the same features.
    pub fn copy_from(&mut self, known: &[PathBuf]) -> Result<()> {
        for path in known {
            let Some(existing) = path.exists().then(|| Embeddings::read(path).ok()).flatten() else {
                continue;
            };
            let features = |provenance: &Provenance| provenance.inputs.get("features").cloned();
            if Origin::from_provenance(&existing.provenance) != Origin::from_provenance(self.provenance)
                || features(&existing.provenance) != features(self.provenance)
                || existing.dim != self.dim
            {
                continue;
            }
            let rows: HashMap<&str, usize> = existing
                .labels
                .iter()
                .enumerate()
                .map(|(row, label)| (label.version_id.as_str(), row))
                .collect();
            let not_done =
                self.labels.iter().enumerate().filter(|(_, label)| !self.done.contains(&label.version_id));
            let copied: Vec<(usize, Vec<f32>)> = not_done
                .filter_map(|(number, label)| {
                    let row = *rows.get(label.version_id.as_str())?;
                    Some((number, existing.vectors[row * existing.dim..][..existing.dim].to_vec()))
                })
                .collect();
            self.save(copied)?;
        }
        Ok(())
    }

    /// Saves vectors of versions, each with its index into the labels.
    pub fn save(&mut self, finished: Vec<(usize, Vec<f32>)>) -> Result<()> {
        if finished.is_empty() {
            return Ok(());
        }
        let part = Embeddings {
            labels: finished.iter().map(|(number, _)| self.labels[*number].clone()).collect(),
            dim: self.dim,
            vectors: finished.into_iter().flat_map(|(_, vector)| vector).collect(),
            provenance: self.provenance.clone(),
        };
        let _lock = saving::lock_for_writing(self.out)?;
        let name = |number: usize| self.folder.join(format!("part-{number:06}.parquet"));
        let free = (0..).find(|number| !name(*number).exists()).unwrap_or_default();
        part.write(&name(free))?;
        self.done.extend(part.labels.into_iter().map(|label| label.version_id));
        Ok(())
    }

    /// Joins all parts into the file, if every version is embedded.
    pub fn assemble(&self) -> Result<Status> {
        let Self { labels, dim, .. } = *self;
        let _lock = saving::lock_for_writing(self.out)?;
        if self.is_current().unwrap_or(false) {
            // Another shard has already assembled the file.
            self.clear()?;
            return Ok(Status::Written(labels.len()));
        }
        let parts = self.parts()?;
        let mut by_id: HashMap<&str, &[f32]> = HashMap::new();
        for part in &parts {
            let ids = part.labels.iter().map(|label| label.version_id.as_str());
            by_id.extend(ids.zip(part.vectors.chunks(dim.max(1))));
        }
        let mut vectors = Vec::with_capacity(labels.len() * dim);
        for label in labels {
            let Some(vector) = by_id.get(label.version_id.as_str()) else {
                return Ok(Status::ShardDone(by_id.len()));
            };
            vectors.extend_from_slice(vector);
        }
        let all = Embeddings { labels: labels.to_vec(), dim, vectors, provenance: self.provenance.clone() };
        all.write(self.out)?;
        self.clear()?;
        Ok(Status::Written(labels.len()))
    }

    /// Returns the saved parts; a part that cannot be read is skipped with a warning.
    fn parts(&self) -> Result<Vec<Embeddings>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let listed = std::fs::read_dir(&self.folder)
            .with_context(|| format!("cannot list {}", self.folder.display()))?;
        let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
        paths.sort();
        let mut parts = Vec::new();
        for path in paths {
            match Embeddings::read(&path) {
                Ok(part)
                    if part.provenance.fingerprint == self.provenance.fingerprint && part.dim == self.dim =>
                {
                    parts.push(part);
                }
                Ok(_) => {}
                // Removed since it was listed: another shard has assembled the file.
                Err(_) if !path.exists() => {}
                Err(error) => tracing::warn!("{} is embedded again: {error:#}", path.display()),
            }
        }
        Ok(parts)
    }

    /// Returns whether the complete file exists and was made from the same inputs.
    ///
    /// # Errors
    /// A file that was made from the same inputs, but does not hold the rows that follow from them.
    fn is_current(&self) -> Result<bool> {
        let provenance = self.out.exists().then(|| Embeddings::read_provenance(self.out).ok()).flatten();
        if provenance.is_none_or(|provenance| provenance.fingerprint != self.provenance.fingerprint) {
            return Ok(false);
        }
        let (labels, dim) = Embeddings::read_labels(self.out)?;
        require_dimension(dim, self.dim)?;
        ensure!(
            labels.len() == self.labels.len(),
            "it holds {} versions, but the index has {} with features",
            labels.len(),
            self.labels.len()
        );
        if let Some((found, expected)) =
            labels.iter().zip(self.labels).find(|(one, two)| !same_version(one, two))
        {
            bail!(
                "it holds the version {} of the clique {} ({}) where the index has {} of {} ({})",
                found.version_id,
                found.clique_id,
                found.split,
                expected.version_id,
                expected.clique_id,
                expected.split
            );
        }
        Ok(true)
    }

    /// Returns the folder that holds the parts of all attempts.
    fn parts_folder(&self) -> PathBuf {
        self.out.with_extension("partial")
    }

    /// Removes the parts.
    fn clear(&self) -> Result<()> {
        let folder = self.parts_folder();
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", folder.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether two rows are of the same version, in the same clique and split.
pub(super) fn same_version(one: &Label, two: &Label) -> bool {
    one.version_id == two.version_id && one.clique_id == two.clique_id && one.split == two.split
}

/// Refuses vectors of another length than the network's.
pub(super) fn require_dimension(found: usize, expected: usize) -> Result<()> {
    ensure!(
        found == expected,
        "it holds vectors of {found} numbers, but those of the network have {expected}"
    );
    Ok(())
}
