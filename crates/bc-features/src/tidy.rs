//! Puts a folder in order that nobody else writes in: rows that no longer hold go, failure tables become one.
//!
//! A part is never changed: its remaining rows are written to a new one, and then it is removed. A kill in between
//! leaves both, which is read as one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Result;
use bc_formats::features::failures::{self, Failure};
use bc_formats::features::{FeatureSet, PartWriter};
use bc_formats::provenance::Provenance;

use crate::folder::{self, Folder};

/// Rewrites the parts that hold superseded rows, or rows of `stale` (the part's path and the version's id), without
/// them. Returns how many rows went.
///
/// # Errors
/// A part cannot be read, written or removed.
pub fn parts(folder: &Folder, stale: &HashSet<(PathBuf, String)>) -> Result<usize> {
    let Some(set) = FeatureSet::open_if_any(folder.path())? else { return Ok(0) };
    let mut dead: HashMap<usize, HashSet<&str>> = HashMap::new();
    for (part, id) in &set.superseded {
        dead.entry(*part).or_default().insert(id);
    }
    if !stale.is_empty() {
        for row in &set.rows {
            if stale.contains(&(set.parts[row.part].path.clone(), row.version_id.clone())) {
                dead.entry(row.part).or_default().insert(&row.version_id);
            }
        }
    }
    let mut number = next_number(&set);
    let mut dropped = 0;
    for (position, part) in set.parts.iter().enumerate() {
        let Some(ids) = dead.get(&position) else { continue };
        let mut writer =
            PartWriter::create(&folder.unfinished("part"), set.settings)?.made_by(&part.extractor);
        let mut kept = 0;
        set.for_each_of(position, |row| {
            if ids.contains(row.version_id.as_str()) {
                return Ok(());
            }
            kept += 1;
            writer.push(row)
        })?;
        if kept > 0 {
            writer.commit_as(part.provenance.clone(), |content| folder.part(number, content))?;
            number += 1;
        }
        folder::remove(&part.path)?;
        dropped += ids.len();
    }
    Ok(dropped)
}

/// The number of the next part: above all that are there.
pub fn next_number(set: &FeatureSet) -> u64 {
    set.parts.iter().map(|part| part.name.number + 1).max().unwrap_or(0)
}

/// Makes one table, `failures.parquet`, of `standing`; without failures there is none.
///
/// # Errors
/// A table cannot be written or removed.
pub fn failures(folder: &Folder, standing: &[Failure], provenance: &Provenance) -> Result<()> {
    let one = folder.path().join("failures.parquet");
    let tables = failures::tables(folder.path())?;
    if !standing.is_empty() {
        let unchanged = tables == [one.clone()] && failures::read(&one)? == standing;
        if unchanged {
            return Ok(());
        }
        failures::write_as(&folder.unfinished("failures"), standing, provenance.clone(), |_| one.clone())?;
    }
    for table in tables.iter().filter(|table| standing.is_empty() || **table != one) {
        folder::remove(table)?;
    }
    Ok(())
}

/// What of all tables is worth keeping without a look at the index: the last failure of each version that has no row.
///
/// # Errors
/// A table or a part cannot be read.
pub fn last_failures(folder: &Folder) -> Result<Vec<Failure>> {
    let mut last = BTreeMap::new();
    for table in failures::tables(folder.path())? {
        last.extend(failures::read(&table)?.into_iter().map(|failure| (failure.version_id.clone(), failure)));
    }
    if let Some(set) = FeatureSet::open_if_any(folder.path())? {
        for row in &set.rows {
            last.remove(&row.version_id);
        }
    }
    Ok(last.into_values().collect())
}
