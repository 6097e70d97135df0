//! Lists the recordings to add, from files, folders and lists, with their metadata.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_embed::files::{self, Failure};
use bc_formats::features::Source;

use crate::index::Row;
use crate::index::rows::is_reserved;

/// A file to add, with its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The path of the file.
    pub path: PathBuf,
    /// The metadata of the recording; `path` is absolute.
    pub row: Row,
}

/// How the work of a recording is determined, unless a list gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WorkRule {
    /// Unknown: each recording is a separate work, and a search groups similar ones.
    #[default]
    Own,
    /// All recordings are versions of this work.
    One(String),
    /// The recordings in one folder are versions of one work, which has the folder's name.
    Folder,
}

/// The path of a file in the index.
#[must_use]
pub fn stored_path(path: &Path) -> String {
    files::absolute(path).to_string_lossy().into_owned()
}

/// Size and modification time as an index stores them; zeros if unknown.
pub(crate) fn size_and_time_of(source: Source) -> (u64, i64) {
    (source.bytes.unwrap_or(0), source.modified_ns.unwrap_or(0))
}

/// The recordings of `inputs` (audio files, folders, and lists, `.csv`), each path once. A file that cannot be used is reported
/// as a failure and does not stop the command.
///
/// # Errors
/// An empty list of inputs; a path that does not exist; a folder without audio; a list without the column `path`.
pub fn items(inputs: &[PathBuf], works: &WorkRule) -> Result<(Vec<Item>, Vec<Failure>)> {
    let is_list =
        |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let (lists, audio): (Vec<PathBuf>, Vec<PathBuf>) = inputs.iter().cloned().partition(|path| is_list(path));
    ensure!(!inputs.is_empty(), "nothing to add; name audio files, folders or lists (.csv)");
    let (mut items, mut failed) = (Vec::new(), Vec::new());
    for path in audio {
        // One by one, because two folders may hold files of the same name.
        let (listed, unusable) = files::list(&[path])?;
        failed.extend(unusable);
        items.extend(listed.into_iter().map(|file| {
            let work = match works {
                WorkRule::Own => String::new(),
                WorkRule::One(work) => work.clone(),
                WorkRule::Folder => file.folder,
            };
            let path = stored_path(&file.path);
            let (bytes, modified_ns) = file.listed.map_or((0, 0), size_and_time_of);
            let row = Row { path, title: file.title, work, bytes, modified_ns, ..Row::default() };
            Item { path: file.path, row }
        }));
    }
    for path in lists {
        let (listed, unusable) =
            read_list(&path).with_context(|| format!("cannot use the list {}", path.display()))?;
        items.extend(listed);
        failed.extend(unusable);
    }
    let mut seen = HashSet::new();
    items.retain(|item| seen.insert(item.row.path.clone()));
    Ok((items, failed))
}

/// Reads a list: UTF-8, comma-separated, with a header line that must contain the column `path`. Paths are
/// relative to the folder of the list.
fn read_list(path: &Path) -> Result<(Vec<Item>, Vec<Failure>)> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(false).from_path(path)?;
    let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    check_names(&names)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut items, mut failed) = (Vec::new(), Vec::new());
    for (number, record) in reader.records().enumerate() {
        let line = number + 2;
        let item =
            record.map_err(anyhow::Error::from).and_then(|record| item_of_record(&names, &record, folder));
        match item {
            Ok(item) => items.push(item),
            Err(error) => failed.push(Failure::new(path, format!("record {line}: {error:#}"))),
        }
    }
    Ok((items, failed))
}

fn check_names(names: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        ensure!(seen.insert(name), "two columns are called {name:?}");
        ensure!(!name.is_empty(), "a column has no name");
        let is_list_column = ["path", "title", "performer", "work", "isrc", "iswc"].contains(&name.as_str());
        if is_reserved(name) && !is_list_column {
            bail!("the column {name:?} is the index's own; give it another name");
        }
    }
    ensure!(
        names.iter().any(|name| name == "path"),
        "it has no column `path`; its columns are {}",
        names.join(", ")
    );
    Ok(())
}

fn item_of_record(names: &[String], record: &csv::StringRecord, folder: &Path) -> Result<Item> {
    let mut row = Row::default();
    let mut extra = BTreeMap::new();
    for (name, value) in names.iter().zip(record) {
        let value = value.to_owned();
        match name.as_str() {
            "path" => row.path = value,
            "title" => row.title = value,
            "performer" => row.performer = value,
            "work" => row.work = value,
            "isrc" => row.isrc = value,
            "iswc" => row.iswc = value,
            _ if value.is_empty() => {}
            _ => {
                extra.insert(name.clone(), value);
            }
        }
    }
    ensure!(!row.path.is_empty(), "its path is empty");
    let path = files::resolve_in(folder, &row.path);
    if row.title.is_empty() {
        row.title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    }
    row.path = stored_path(&path);
    row.extra = extra;
    Ok(Item { path, row })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_further_columns_and_report_bad_rows_and_headers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("works.csv");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write(
            "path,title,work,isrc,label\na.mp3,\"A, b\",W1,X,blue\nsub/b.mp3,,,,\n,no path,,,\n\"c.mp3\",one\n",
        );
        let (items, failed) = items(std::slice::from_ref(&path), &WorkRule::Own).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!((items[0].row.title.as_str(), items[0].row.work.as_str()), ("A, b", "W1"));
        assert_eq!(items[0].row.extra["label"], "blue");
        assert_eq!((items[1].row.title.as_str(), items[1].row.extra.len()), ("b", 0));
        assert_eq!(items[1].path, folder.path().join("sub/b.mp3"));
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(
            failed[0].error.contains("record 4") && failed[0].error.contains("path is empty"),
            "{failed:?}"
        );
        for (text, word) in [
            ("file,title\na,b\n", "no column `path`"),
            ("path,path\na,b\n", "two columns"),
            ("path,bytes\na,b\n", "its own"),
        ] {
            write(text);
            let error =
                format!("{:#}", super::items(std::slice::from_ref(&path), &WorkRule::Own).unwrap_err());
            let word = if word == "its own" { "index's own" } else { word };
            assert!(error.contains(word) && error.contains("works.csv"), "{error}");
        }
    }

    #[test]
    fn files_with_the_same_name_in_two_folders_are_two_items() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one/a.mp3", "two/a.mp3"] {
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let inputs = [folder.path().join("one"), folder.path().join("two"), folder.path().join("one/a.mp3")];
        let (found, failed) = items(&inputs, &WorkRule::Folder).unwrap();
        let works: Vec<&str> = found.iter().map(|item| item.row.work.as_str()).collect();
        assert_eq!((works, failed.len()), (vec!["one", "two"], 0));
        assert!(found[0].row.path.starts_with('/') || cfg!(windows));
    }
}
