//! The demo set, as `bc-download-index synth` wrote it.

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;

use crate::synth::LIST;

/// Where the demo's table is, and which columns it has.
///
/// # Errors
/// There is none.
pub(super) fn table(config: &IndexConfig) -> Result<IndexConfig> {
    let list = if config.meta.is_dir() { config.meta.join(LIST) } else { config.meta.clone() };
    if !list.exists() {
        bail!("there is no {}; make the demo set with `bc-download-index synth`", list.display());
    }
    // The list has the table's default column names.
    Ok(IndexConfig { meta: list, ..IndexConfig::default() })
}
