//! Imports embeddings of bc-eval as recordings of an index.

use std::path::Path;

use anyhow::{Context, Result};
use bc_embed::windows::Windows;
use bc_formats::embeddings::Embeddings;
use bc_formats::index::Split;

use crate::index::change::{AddOutcome, Adder, Addition, ConflictPolicy};
use crate::index::{Manifest, Storage, row_of, versions};

/// Number of recordings that are written in one change.
const BATCH: usize = 100_000;

/// The result of importing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Imported {
    /// Versions that are new.
    pub new: usize,
    /// Versions whose audio was already present (`there` in JSON).
    #[serde(rename = "there")]
    pub already_present: usize,
    /// Versions whose id belongs to other audio (`taken` in JSON).
    #[serde(rename = "taken")]
    pub id_conflicts: usize,
}

/// Adds the versions of a file of embeddings to an index, which is created if absent.
///
/// # Errors
/// A file that cannot be read; an index of another network, other windows or another storage.
pub fn import(path: &Path, folder: &Path, storage: Option<Storage>) -> Result<Imported> {
    let embeddings = Embeddings::read(path)?;
    Windows::from_provenance(&embeddings.provenance).with_context(|| path.display().to_string())?;
    let provenance = &embeddings.provenance;
    let existing = Manifest::path(folder).exists().then(|| Manifest::read(folder)).transpose()?;
    let storage = storage.or(existing.map(|manifest| manifest.storage)).unwrap_or(Storage::F16);
    let dim = embeddings.dim.max(1);
    let empty =
        Manifest::from_provenance(provenance.settings.clone(), provenance.inputs.clone(), storage, dim);
    let mut adder = Adder::open(folder, empty, ConflictPolicy::KeepOld)?;
    let mut imported = Imported::default();
    for versions in versions(&embeddings).chunks(BATCH) {
        let additions = versions.iter().map(|rows| {
            let mut row = row_of(&embeddings, rows.start);
            let split = embeddings.labels[rows.start].split;
            if split != Split::None {
                row.extra.insert("split".to_owned(), split.as_str().to_owned());
            }
            let parts = rows
                .clone()
                .map(|row| (embeddings.labels[row].start_s, embeddings.vectors[row * dim..][..dim].to_vec()));
            Addition { row, parts: parts.collect(), windows: Vec::new() }
        });
        for outcome in adder.add(additions.collect())? {
            match outcome {
                AddOutcome::Added | AddOutcome::Replaced => imported.new += 1,
                AddOutcome::AlreadyPresent => imported.already_present += 1,
                AddOutcome::PathConflict => imported.id_conflicts += 1,
            }
        }
    }
    Ok(imported)
}
