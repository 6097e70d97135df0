//! What `verify` and `download` end with: what is known by now goes into the index as it is now.

use anyhow::{Result, bail};
use bc_formats::config::Config;
use bc_formats::index::Index;

use crate::assemble::{Assembled, Assembly, Look};
use crate::importers::Place;
use crate::lock;
use crate::splits::{Conflict, Splits};

/// Brings files that came, went or changed, and all notes, into the index on disk, under its lock. `report` sees what
/// was made before it is in its place.
///
/// # Errors
/// No index or a damaged one, notes that cannot be read, files that cannot be written, those of `report`.
pub fn index<T>(config: &Config, report: impl FnOnce(&mut Assembled) -> Result<T>) -> Result<T> {
    let output = &config.index.output;
    let _lock = lock::index(output)?;
    let provenance = Index::read_provenance(output)?;
    let mut assembly = Assembly::open(config, &provenance.settings, Look::Again)?;
    let (mut splits, mut at) = (Splits::default(), 0);
    Index::read_each(output, |version| {
        let conflict = splits.add(Place { at, line: 0 }, &version).err();
        at += 1;
        if let Some(conflict) = conflict {
            let what = match conflict {
                Conflict::Twice => format!("the version id `{}` is listed twice", version.version_id),
                Conflict::Crossing(split, _) => format!(
                    "the clique {} is in the split {split} and in {} (version {})",
                    version.clique_id, version.split, version.version_id
                ),
            };
            bail!("{}: {what}; run `bc-download-index build` again", output.display());
        }
        assembly.add(version)
    })?;
    drop(splits);
    let mut made = assembly.finish()?;
    let reported = report(&mut made)?;
    made.publish(config, provenance)?;
    Ok(reported)
}
