//! What `verify` and `download` end with: what is known by now goes into the index as it is now.

use anyhow::Result;
use bc_formats::config::Config;
use bc_formats::index::{Index, Version};

use crate::verify::judge::Remarks;
use crate::{known, locate, lock, publish};

/// Brings files that came, went or changed, and all notes, into the index on disk, under its lock. `report` gets the
/// versions before the index is written.
///
/// # Errors
/// No index, notes that cannot be read, files that cannot be written, those of `report`.
pub fn index(config: &Config, report: impl FnOnce(&[Version], &Remarks) -> Result<()>) -> Result<Index> {
    let output = &config.index.output;
    let _lock = lock::index(output)?;
    let mut index = Index::read(output)?;
    locate::look_again(&mut index.versions, &config.index)?;
    known::bring_failures(&mut index.versions, config)?;
    let brought = known::bring_facts(&mut index.versions, config)?;
    report(&index.versions, &brought.remarks)?;
    publish::publish(&mut index, output)?;
    Ok(index)
}
