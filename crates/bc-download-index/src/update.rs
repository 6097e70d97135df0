//! What `verify` and `download` end with: what is known by now goes into the index as it is now.

use anyhow::{Result, bail};
use bc_formats::config::Config;
use bc_formats::index::{Conflict, Index, Unique, id_twice};

use crate::assemble::{Assembled, Assembly, Look};
use crate::lock;

/// Brings files that came, went or changed, and all notes, into the index on disk, under its lock. `report` sees what
/// was made before it is in its place.
///
/// # Errors
/// No index or a damaged one, notes that cannot be read, files that cannot be written, those of `report`.
pub fn index<T>(config: &Config, report: impl FnOnce(&Assembled) -> Result<T>) -> Result<T> {
    let output = &config.index.output;
    let _lock = lock::index(output)?;
    let provenance = Index::read_provenance(output)?;
    let mut assembly = Assembly::open(config, &provenance.settings, Look::Again)?;
    let mut unique = Unique::default();
    Index::read_each(output, |version| {
        let remedy = "run `bc-download-index build` again";
        match unique.add(&version, ()) {
            Ok(_) => assembly.add(version),
            Err(Conflict::Twice) => Err(id_twice(&output.display(), &version.version_id).context(remedy)),
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
    let made = assembly.finish()?;
    let reported = report(&made)?;
    made.publish(config, provenance)?;
    Ok(reported)
}
