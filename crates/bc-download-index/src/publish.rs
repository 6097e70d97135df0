//! The last step of `build`, `download` and `verify`: the index file.

use std::path::Path;

use anyhow::Result;
use bc_formats::index::Index;

use crate::coverage::Coverage;

/// Writes `index` with its [`Coverage`] in the settings; an index that would not change is left as it is. The
/// caller holds [`crate::lock::index`].
///
/// # Errors
/// The file cannot be written.
pub fn publish(index: &mut Index, path: &Path) -> Result<()> {
    index.provenance.settings["coverage"] = serde_json::json!(Coverage::of(&index.versions));
    let fingerprint = index.fingerprint_at(path)?;
    let unchanged = Index::read_provenance(path)
        .is_ok_and(|old| old.settings == index.provenance.settings && old.fingerprint == fingerprint);
    if unchanged {
        println!("Nothing to do: {} is up to date.", path.display());
        return Ok(());
    }
    index.write(path)?;
    println!("Wrote {} ({} versions).", path.display(), index.versions.len());
    Ok(())
}
