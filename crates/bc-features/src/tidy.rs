//! Tidies a folder that no other run writes in: removes rows that are out of date, and merges failure tables.
//!
//! A part is never changed: its remaining rows are written to a new part, and then the old one is removed. A kill in between
//! leaves both; readers then take the rows of the newer one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use bc_formats::features::failures::{self, Failure};
use bc_formats::features::{PartWriter, Parts, RowRef, duplicate_row};
use bc_formats::fingerprint::{Digest, digest};
use bc_formats::provenance::Provenance;

use crate::folder::{self, Folder};

/// Rewrites the parts that hold superseded rows, or rows of `stale` (the part's path and the version's id), without
/// them. Returns how many rows were removed.
///
/// # Errors
/// A part cannot be read, written or removed.
pub fn parts(folder: &Folder, stale: &HashSet<(PathBuf, String)>) -> Result<usize> {
    let Some((set, SupersededRows { rows: mut rows_to_remove, .. })) =
        Parts::scan(folder.path(), SupersededRows::default, SupersededRows::add)?
    else {
        return Ok(0);
    };
    let positions: HashMap<&Path, usize> =
        set.parts.iter().enumerate().map(|(position, part)| (part.path.as_path(), position)).collect();
    for (path, id) in stale {
        if let Some(position) = positions.get(path.as_path()) {
            rows_to_remove.entry(*position).or_default().insert(digest(id));
        }
    }
    let mut number = set.next_number();
    let mut removed = 0;
    for (position, part) in set.parts.iter().enumerate() {
        let Some(ids) = rows_to_remove.get(&position) else { continue };
        let mut writer =
            PartWriter::create(&folder.unfinished("part"), set.settings)?.made_by(&part.extractor);
        let mut remaining = 0;
        set.each_row_of(position, |row| {
            if ids.contains(&digest(&row.version_id)) {
                return Ok(());
            }
            remaining += 1;
            writer.push(row)
        })?;
        if remaining > 0 {
            writer.commit_as(part.provenance.clone(), |content| folder.part(number, content))?;
            number += 1;
        }
        folder::remove(&part.path)?;
        removed += ids.len();
    }
    Ok(removed)
}

/// Rows that newer parts replace, collected while all parts are scanned, the oldest first.
#[derive(Default)]
struct SupersededRows {
    /// The part with the newest row of each version, by the digest of the version's id.
    newest: HashMap<Digest, u32>,
    /// The superseded rows of each part, as digests of their versions' ids.
    rows: HashMap<usize, HashSet<Digest>>,
}

impl SupersededRows {
    /// Adds a row of part number `part`, which replaces an older row of its version.
    fn add(&mut self, part: usize, row: RowRef<'_>) -> Result<()> {
        let id = digest(row.version_id);
        if let Some(before) = self.newest.insert(id, u32::try_from(part)?) {
            if before as usize == part {
                return Err(duplicate_row(row.version_id));
            }
            self.rows.entry(before as usize).or_default().insert(id);
        }
        Ok(())
    }
}

/// Replaces all failure tables by one, `failures.parquet`, that holds `current_failures`; without failures all are removed.
///
/// # Errors
/// A table cannot be written or removed.
pub fn failures(folder: &Folder, current_failures: &[Failure], provenance: &Provenance) -> Result<()> {
    let merged_path = folder.path().join("failures.parquet");
    let tables = failures::tables(folder.path())?;
    if !current_failures.is_empty() {
        let unchanged = tables == [merged_path.clone()] && failures::read(&merged_path)? == current_failures;
        if unchanged {
            return Ok(());
        }
        failures::write_as(&folder.unfinished("failures"), current_failures, provenance.clone(), |_| {
            merged_path.clone()
        })?;
    }
    for table in tables.iter().filter(|table| current_failures.is_empty() || **table != merged_path) {
        folder::remove(table)?;
    }
    Ok(())
}

/// Returns the newest failure of each version that has no row. (The index, which a shard may see in another version, is not
/// needed for this.)
///
/// # Errors
/// A table or a part cannot be read.
pub fn last_failures(folder: &Folder) -> Result<Vec<Failure>> {
    let mut last = BTreeMap::new();
    for table in failures::tables(folder.path())? {
        last.extend(failures::read(&table)?.into_iter().map(|failure| (failure.version_id.clone(), failure)));
    }
    if !last.is_empty() {
        let scanned = Parts::scan(folder.path(), HashSet::new, |versions_with_row, _, row| {
            if last.contains_key(row.version_id) {
                versions_with_row.insert(row.version_id.to_owned());
            }
            Ok(())
        })?;
        if let Some((_, versions_with_row)) = scanned {
            last.retain(|id, _| !versions_with_row.contains(id));
        }
    }
    Ok(last.into_values().collect())
}
