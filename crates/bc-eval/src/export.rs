//! Writes embeddings and network in formats that other programs load.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Result;
use bc_formats::array::{self, Matrix};
use bc_formats::embeddings::Embeddings;

use bc_embed::embedder::Embedder;
use bc_formats::config::EvalConfig;
use bc_formats::run::WindowComparison;

/// Writes `<folder>/embeddings.npy` and `<folder>/ids.txt` (one version id per line, same order).
/// Vector databases that read Parquet can read `embeddings.parquet` itself: its column `vector` is a
/// list of fixed size.
///
/// # Errors
/// When the embeddings cannot be read or the files cannot be written.
pub fn vectors(embeddings: &Path, folder: &Path) -> Result<usize> {
    let Embeddings { labels, dim, vectors, .. } = Embeddings::read(embeddings)?;
    let ids: String = labels.iter().flat_map(|label| [label.version_id.as_str(), "\n"]).collect();
    array::write(&folder.join("embeddings.npy"), &Matrix { columns: dim, values: vectors })?;
    bc_formats::atomic::write(&folder.join("ids.txt"), ids)?;
    Ok(labels.len())
}

/// Writes the network as safetensors with PyTorch's names (for `load_state_dict`), whatever
/// it was read from. The header records how audio becomes its input, and how recordings should be compared according to
/// `config` or the network's own file. Returns the number of weights.
///
/// # Errors
/// When the file cannot be written.
pub fn network(embedder: &Embedder, config: &EvalConfig, path: &Path) -> Result<usize> {
    let mut metadata = HashMap::from([embedder.input.to_key_value()]);
    let comparison = WindowComparison::of(config, embedder.recommended.as_ref());
    metadata.extend(comparison.map(|comparison| comparison.to_key_value()));
    embedder.network().save(path, metadata)?;
    let entries = embedder.network().parameters().layout().entries();
    Ok(entries.iter().map(|entry| entry.range.len()).sum())
}

/// Writes the network as ONNX (see [`bc_onnx`]): input `magnitude` (batch, bins, frames), outputs `f_t`, `f_c` and, with a
/// classifier, `logits`. Its metadata describe how audio becomes the input, as the safetensors header does.
///
/// # Errors
/// When the file cannot be written.
pub fn onnx(embedder: &Embedder, path: &Path) -> Result<()> {
    let (key, input) = embedder.input.to_key_value();
    let network = serde_json::to_string(embedder.network().settings())?;
    let metadata = BTreeMap::from([(key, input), ("network".to_owned(), network)]);
    bc_formats::atomic::write(path, bc_onnx::export(embedder.network(), &metadata)?)
}
