//! The demo set, as `bc-download-index synth` wrote it.

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;

use crate::synth::LIST;

/// Returns a configuration that names the demo's table and its columns.
///
/// # Errors
/// The table does not exist.
pub(super) fn table(config: &IndexConfig) -> Result<IndexConfig> {
    let list = if config.meta.is_dir() { config.meta.join(LIST) } else { config.meta.clone() };
    if !list.exists() {
        bail!("there is no {}; make the demo set with `bc-download-index synth`", list.display());
    }
    // The list has the table's default column names.
    Ok(IndexConfig { meta: list, ..IndexConfig::default() })
}
