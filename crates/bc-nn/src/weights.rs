//! Reads and writes tensors as safetensors, and reads PyTorch's `.pt`. Tensors have the names of the public PyTorch
//! re-implementation, so that networks can be exchanged with it.

mod pytorch;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result};
use bc_formats::provenance::Provenance;
use bc_formats::run::CHECKPOINT_FORMAT;
use candle_core::{Device, Tensor};

/// Reads the metadata of a safetensors file; none for PyTorch's files.
///
/// # Errors
/// A file that cannot be read, or that is another output of bytecover than a checkpoint.
pub fn metadata(path: &Path) -> Result<HashMap<String, String>> {
    if is_pytorch(path) {
        return Ok(HashMap::new());
    }
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let unreadable = || format!("{} is not a safetensors file, or a damaged one", path.display());
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).with_context(unreadable)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    require_checkpoint(path, &metadata)?;
    Ok(metadata)
}

/// Refuses an output of bytecover that is not a checkpoint, or has another schema. Files of other programs
/// are accepted.
fn require_checkpoint(path: &Path, metadata: &HashMap<String, String>) -> Result<()> {
    match Provenance::from_header(path, |key| metadata.get(key).map(String::as_str))? {
        Some(provenance) => provenance.require_format(path, CHECKPOINT_FORMAT),
        None => Ok(()),
    }
}

fn is_pytorch(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    matches!(extension.as_str(), "pt" | "pth" | "ckpt" | "bin")
}

/// Reads the tensors of a network, by the names that they have in a module without a wrapper; also returns the metadata.
pub(crate) fn state_dict(path: &Path) -> Result<(BTreeMap<String, Tensor>, HashMap<String, String>)> {
    let (found, metadata) =
        if is_pytorch(path) { (pytorch::read(path)?, HashMap::new()) } else { read(path)? };
    require_checkpoint(path, &metadata)?;
    let named = found
        .into_iter()
        .map(|(name, tensor)| (name.strip_prefix("module.").unwrap_or(&name).to_owned(), tensor));
    let tensors = named.filter(|(name, _)| {
        // Buffers of the public code's input stage, and counters.
        !name.starts_with("cqt.")
            && !name.starts_with("time_strech.")
            && !name.ends_with("num_batches_tracked")
    });
    Ok((tensors.collect(), metadata))
}

/// Reads tensors and metadata of a safetensors file.
pub(crate) fn read(path: &Path) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let unreadable = || format!("{} is not a safetensors file, or a damaged one", path.display());
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).with_context(unreadable)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).with_context(unreadable)?;
    Ok((tensors, metadata))
}

/// Writes tensors and metadata as a safetensors file, atomically.
///
/// # Errors
/// A file that cannot be written.
pub fn write(
    path: &Path,
    tensors: &HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let sorted: BTreeMap<&String, &Tensor> = tensors.iter().collect();
    let bytes = safetensors::serialize(sorted, Some(metadata))?;
    bc_formats::atomic::write(path, &bytes)
}
