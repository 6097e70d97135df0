//! The last step of `verify` and `download`: writes all recorded results into the index.

use anyhow::{Result, bail};
use bc_formats::config::Config;
use bc_formats::index::{Conflict, Index, Unique, duplicate_id};

use crate::assemble::{Assembled, Assembly, Lookup};
use crate::lock;

/// Updates the index on disk, under its lock, with files that were added, removed or changed, and with all notes. `report` is
/// called with the new index before it is renamed into place. Unless `drop_missing`, nearly all files must not have disappeared.
///
/// # Errors
/// Files that disappeared, no index or a damaged one, notes that cannot be read, files that cannot be written, those of `report`.
pub fn index<T>(
    config: &Config,
    drop_missing: bool,
    report: impl FnOnce(&Assembled) -> Result<T>,
) -> Result<T> {
    let output = &config.index.output;
    let _lock = lock::index(output)?;
    let provenance = Index::read_provenance(output)?;
    let mut assembly = Assembly::open(config, &provenance.settings, Lookup::FromIndex)?;
    let mut unique = Unique::default();
    Index::read_each(output, |version| {
        let remedy = "run `bc-download-index build` again";
        match unique.add(&version, ()) {
            Ok(_) => assembly.add(version),
            Err(Conflict::Twice) => Err(duplicate_id(&output.display(), &version.version_id).context(remedy)),
            Err(Conflict::Crossing(split, ())) => bail!(
                "{}: the clique {} is in the split {split} and in {} (version {}); {remedy}",
                output.display(),
                version.clique_id,
                version.split,
                version.version_id
            ),
        }
    })?;
    drop(unique);
    let assembled = assembly.finish()?;
    if !drop_missing {
        assembled.disappeared.require_few(&config.index)?;
    }
    let reported = report(&assembled)?;
    assembled.publish(config, provenance)?;
    Ok(reported)
}
