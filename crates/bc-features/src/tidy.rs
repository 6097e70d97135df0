//! Tidies a folder that no other run writes in: removes rows that are out of date, and merges failure tables.
//!
//! A part is never changed: its remaining rows are written to a new one, and then it is removed. A kill in between
//! leaves both, which is read as one.

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
    let Some((set, SupersededRows { rows: mut dead, .. })) =
        Parts::scan(folder.path(), SupersededRows::default, SupersededRows::add)?
    else {
        return Ok(0);
    };
    let places: HashMap<&Path, usize> =
        set.parts.iter().enumerate().map(|(place, part)| (part.path.as_path(), place)).collect();
    for (path, id) in stale {
        if let Some(place) = places.get(path.as_path()) {
            dead.entry(*place).or_default().insert(digest(id));
        }
    }
    let mut number = set.next_number();
    let mut dropped = 0;
    for (position, part) in set.parts.iter().enumerate() {
        let Some(ids) = dead.get(&position) else { continue };
        let mut writer =
            PartWriter::create(&folder.unfinished("part"), set.settings)?.made_by(&part.extractor);
        let mut remaining = 0;
        set.each_of(position, |row| {
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
        dropped += ids.len();
    }
    Ok(dropped)
}

/// Rows that newer parts replace, found while going through all.
#[derive(Default)]
struct SupersededRows {
    newest: HashMap<Digest, u32>,
    /// By part.
    rows: HashMap<usize, HashSet<Digest>>,
}

impl SupersededRows {
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

/// The failures of all tables that are worth keeping, whatever the index holds: the last one of each version without a row.
///
/// # Errors
/// A table or a part cannot be read.
pub fn last_failures(folder: &Folder) -> Result<Vec<Failure>> {
    let mut last = BTreeMap::new();
    for table in failures::tables(folder.path())? {
        last.extend(failures::read(&table)?.into_iter().map(|failure| (failure.version_id.clone(), failure)));
    }
    if !last.is_empty() {
        let found = Parts::scan(folder.path(), HashSet::new, |there, _, row| {
            if last.contains_key(row.version_id) {
                there.insert(row.version_id.to_owned());
            }
            Ok(())
        })?;
        if let Some((_, there)) = found {
            last.retain(|id, _| !there.contains(id));
        }
    }
    Ok(last.into_values().collect())
}
