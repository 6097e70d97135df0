//! Imports SHS100K: `list` and `SHS100K-TRAIN`, `-VAL`, `-TEST`.
//!
//! A row of `list` is `set_id<TAB>ver_id<TAB>title<TAB>performer<TAB>url<TAB>status`, of a split file
//! `set_id<TAB>ver_id`. Version ids are `set_id_ver_id`, as in the public code for this data set.
//!
//! The published files repeat eleven rows: set 5982 is in the training and the validation list,
//! set 8110 in the validation and the test list. Each version is one row of the index here, in the split of the later list,
//! because the data of a measurement must not be trained on. The counts as published are reported in a note.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Split, Version};

use super::list::{Ids, Imported, Importer, numbered_lines, read_text};

pub(super) struct Shs100k;

impl Importer for Shs100k {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let list = config.meta.join("list");
        let List { mut versions, rows, repeated } = List::parse(&list, &read_text(&list)?)?;
        let mut notes = Vec::new();
        if let Some(first) = repeated.first() {
            notes.push(format!(
                "{}:{first}: the id is listed for the second time; the first row counts ({} such rows)",
                list.display(),
                repeated.len()
            ));
        }
        let mut split_sources = vec![list.display().to_string(); versions.len()];
        for (name, split) in
            [("SHS100K-TRAIN", Split::Train), ("SHS100K-VAL", Split::Val), ("SHS100K-TEST", Split::Test)]
        {
            notes.push(assign_split(
                &config.meta.join(name),
                split,
                &mut versions,
                &rows,
                &mut split_sources,
            )?);
        }
        Ok(Imported { versions, split_sources, notes })
    }
}

/// The rows of `list`.
pub(super) struct List {
    /// The versions, one for each id, in the order of the file.
    pub versions: Vec<Version>,
    /// Indices of the versions, by set and version number.
    rows: HashMap<(String, String), usize>,
    /// Lines whose id an earlier line has.
    repeated: Vec<usize>,
}

impl List {
    /// Parses the file `list`; `path` is for errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut versions = Vec::new();
        let mut repeated = Vec::new();
        let mut ids = Ids::new(path);
        let mut rows: HashMap<(String, String), usize> = HashMap::new();
        for (number, line) in numbered_lines(text) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [set, version, title, performer, url, ..] = fields[..] else {
                bail!(
                    "{}:{number}: {} fields, but a row has set_id, ver_id, title, performer, url, status (tabs between)",
                    path.display(),
                    fields.len()
                );
            };
            if set.is_empty() || version.is_empty() {
                bail!("{}:{number}: set_id or ver_id is empty", path.display());
            }
            match rows.entry((set.to_owned(), version.to_owned())) {
                Entry::Occupied(_) => {
                    repeated.push(number);
                    continue;
                }
                Entry::Vacant(row) => {
                    row.insert(versions.len());
                }
            }
            let id = format!("{set}_{version}");
            // Set `a_b` with version `c`, and set `a` with `b_c`, have the same id.
            ids.add(&id, number as u64)?;
            let mut listed = Version::new(id, set);
            listed.title = title.trim().to_owned();
            listed.performer = performer.trim().to_owned();
            if url.contains("://") {
                listed.source_url = Some(url.to_owned());
            } else if !url.trim().is_empty() {
                // Data sets that come with audio have the file name where others have a link.
                listed.audio_path = Some(url.trim().to_owned());
            }
            versions.push(listed);
        }
        if versions.is_empty() {
            bail!("{} is empty", path.display());
        }
        Ok(Self { versions, rows, repeated })
    }
}

/// Puts the listed versions into `split`; returns a note on how many there are, and how many were in an earlier list.
fn assign_split(
    path: &Path,
    split: Split,
    versions: &mut [Version],
    rows: &HashMap<(String, String), usize>,
    split_sources: &mut [String],
) -> Result<String> {
    let (mut listed, mut sets, mut reassigned) = (HashSet::new(), HashSet::new(), 0);
    for (number, line) in numbered_lines(&read_text(path)?) {
        let Some((set, version)) = line.split_once('\t') else {
            bail!("{}:{number}: `{line}` is not set_id<TAB>ver_id", path.display());
        };
        let key = (set.trim().to_owned(), version.trim().to_owned());
        let Some(&row) = rows.get(&key) else {
            bail!("{}:{number}: set {}, version {} is not in the list", path.display(), key.0, key.1);
        };
        if !listed.insert(row) {
            bail!("{}:{number}: set {}, version {} is listed twice", path.display(), key.0, key.1);
        }
        sets.insert(key.0);
        reassigned += usize::from(versions[row].split != Split::None);
        versions[row].split = split;
        split_sources[row] = format!("{}:{number}", path.display());
    }
    let mut note = format!("{}: {} versions in {} cliques", path.display(), listed.len(), sets.len());
    if reassigned > 0 {
        note.push_str(&format!(", {reassigned} of them also in an earlier list and moved here"));
    }
    Ok(note)
}
