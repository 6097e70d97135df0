//! Embeddings in a form that other programs load without a Parquet reader.

use std::path::Path;

use anyhow::Result;
use bc_formats::embeddings::Embeddings;

use bc_formats::array::{self, Matrix};

/// Writes `<folder>/embeddings.npy` and `<folder>/ids.txt` (a version id a line, same order).
///
/// # Errors
/// When the embeddings cannot be read or the files not be written.
pub fn run(embeddings: &Path, folder: &Path) -> Result<usize> {
    let Embeddings { labels, dim, vectors, .. } = Embeddings::read(embeddings)?;
    let ids: String = labels.iter().flat_map(|label| [label.version_id.as_str(), "\n"]).collect();
    array::write(&folder.join("embeddings.npy"), &Matrix { columns: dim, values: vectors })?;
    bc_formats::atomic::write(&folder.join("ids.txt"), ids)?;
    Ok(labels.len())
}
