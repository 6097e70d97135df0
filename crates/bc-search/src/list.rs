//! Lists the recordings to add, from files, folders and lists, with their metadata.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_embed::files::{self, Failure, Listing};
use bc_formats::features::Source;

use crate::index::Row;
use crate::index::rows::is_reserved;
use crate::paths::{LinkResolver, stored_path};

/// A file to add, with its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The path of the file.
    pub path: PathBuf,
    /// The metadata of the recording; `path` is absolute.
    pub row: Row,
    /// Whether the title is the file's name, because none was given.
    pub title_is_file_name: bool,
    /// Whether the work is the name of the file's folder, which does not replace the work of a recording that has one.
    pub work_is_folder: bool,
}

impl Item {
    /// The row of an indexed recording with the same audio, with the metadata that are given for it now. What is not given stays as it
    /// is: empty values, the file's name, and the folder's name if the recording has a work.
    #[must_use]
    pub fn updated(&self, old: &Row) -> Row {
        let mut row = old.clone();
        let given = &self.row;
        if !self.title_is_file_name {
            row.title.clone_from(&given.title);
        }
        for (value, given) in [
            (&mut row.performer, &given.performer),
            (&mut row.isrc, &given.isrc),
            (&mut row.iswc, &given.iswc),
        ] {
            if !given.is_empty() {
                value.clone_from(given);
            }
        }
        if !given.work.is_empty() && !self.keeps_work_of(old) {
            row.work.clone_from(&given.work);
        }
        row.extra.extend(given.extra.clone());
        row
    }

    /// As [`Item::updated`], for a recording whose file was moved here: it gets the new path, and the new name as its title if its
    /// title was the name of the old file.
    #[must_use]
    pub fn moved(&self, old: &Row) -> Row {
        let mut row = self.updated(old);
        if self.title_is_file_name && old.title == title_of(Path::new(&old.path)) {
            row.title.clone_from(&self.row.title);
        }
        let Row { path, bytes, modified_ns, .. } = self.row.clone();
        Row { path, bytes, modified_ns, ..row }
    }

    /// Whether the recording of `old` keeps a work that differs from the name of the file's folder.
    #[must_use]
    pub fn keeps_work_of(&self, old: &Row) -> bool {
        let differ = !self.row.work.is_empty() && !old.work.is_empty() && self.row.work != old.work;
        self.work_is_folder && differ
    }
}

/// The title of a recording for which none is given: the file's name without its extension.
pub(crate) fn title_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The recordings to add.
#[derive(Debug, Default)]
pub struct Items {
    /// The recordings, each file once.
    pub items: Vec<Item>,
    /// Files that cannot be used.
    pub failed: Vec<Failure>,
    /// Number of audio and video files that were passed over, by extension.
    pub skipped: BTreeMap<String, usize>,
    /// Files that get no work, although folders are works, because they are not below a folder of the one given.
    pub without_folder: Vec<PathBuf>,
    /// The folders that were given and could be listed: absolute, as given and without links.
    pub folders: HashSet<PathBuf>,
}

/// How the work of a recording is determined, unless a list gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WorkRule {
    /// Unknown: each recording is a separate work, and a search groups similar ones.
    #[default]
    Own,
    /// All recordings are versions of this work.
    One(String),
    /// The recordings in one folder are versions of one work. Its name is the folder's path below the folder that was given; of a
    /// file that was given itself, the name of its folder.
    Folder,
}

/// Size and modification time of a file; zeros if unknown.
pub(crate) fn size_and_time(path: &Path) -> (u64, i64) {
    size_and_time_of(files::source(path))
}

/// Size and modification time as an index stores them; zeros if unknown.
fn size_and_time_of(source: Source) -> (u64, i64) {
    (source.bytes.unwrap_or(0), source.modified_ns.unwrap_or(0))
}

/// The recordings of `inputs` (audio files, folders, and lists, `.csv`). What cannot be used, and what does not exist, is reported as a
/// failure and does not stop the command.
///
/// # Errors
/// An empty list of inputs; a list without the column `path`.
pub fn items(inputs: &[PathBuf], works: &WorkRule) -> Result<Items> {
    let is_list =
        |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let (lists, audio): (Vec<PathBuf>, Vec<PathBuf>) = inputs.iter().cloned().partition(|path| is_list(path));
    ensure!(!inputs.is_empty(), "nothing to add; name audio files, folders or lists (.csv)");
    let mut all = Items::default();
    // Lists first: of a file that is named twice, the metadata of a list count.
    for path in lists {
        if !path.exists() {
            all.failed.push(Failure::new(&path, "there is no such list".to_owned()));
            continue;
        }
        let (listed, unusable) =
            read_list(&path).with_context(|| format!("cannot use the list {}", path.display()))?;
        all.items.extend(listed);
        all.failed.extend(unusable);
    }
    for path in audio {
        // One by one, because two folders may hold files of the same name.
        match files::list_all(std::slice::from_ref(&path)) {
            Ok(listing) => {
                if path.is_dir() {
                    all.folders.insert(PathBuf::from(stored_path(&path)));
                    all.folders.extend(path.canonicalize());
                }
                add_listing(&mut all, &path, listing, works);
            }
            Err(error) => all.failed.push(Failure::new(&path, bc_cli::describe(&error))),
        }
    }
    // Of one file under two paths, the first counts.
    let (mut links, mut seen) = (LinkResolver::default(), HashSet::new());
    all.items.retain(|item| seen.insert(links.resolve(Path::new(&item.row.path))));
    Ok(all)
}

/// Adds the files of one input.
fn add_listing(all: &mut Items, input: &Path, listing: Listing, works: &WorkRule) {
    all.failed.extend(listing.failed);
    for (kind, count) in listing.skipped {
        *all.skipped.entry(kind).or_default() += count;
    }
    for file in listing.files {
        let work = match works {
            WorkRule::Own => String::new(),
            WorkRule::One(work) => work.clone(),
            // A file that was given itself.
            WorkRule::Folder if file.path == input => file.folder,
            WorkRule::Folder => match file.id.rsplit_once('/') {
                Some((folder, _)) => folder.to_owned(),
                None => {
                    all.without_folder.push(file.path.clone());
                    String::new()
                }
            },
        };
        if file.path.to_str().is_none() {
            let reason = "its name is not UTF-8, and an index cannot hold it; rename it".to_owned();
            all.failed.push(Failure::new(&file.path, reason));
            continue;
        }
        let path = stored_path(&file.path);
        let (bytes, modified_ns) = file.listed.map_or((0, 0), size_and_time_of);
        let row = Row { path, title: file.title, work, bytes, modified_ns, ..Row::default() };
        let work_is_folder = *works == WorkRule::Folder;
        all.items.push(Item { path: file.path, row, title_is_file_name: true, work_is_folder });
    }
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
    let title_is_file_name = row.title.is_empty();
    if title_is_file_name {
        row.title = title_of(&path);
    }
    row.path = stored_path(&path);
    row.extra = extra;
    Ok(Item { path, row, title_is_file_name, work_is_folder: false })
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
        let Items { items, failed, .. } = items(std::slice::from_ref(&path), &WorkRule::Own).unwrap();
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
    fn works_are_folders_below_the_given_one() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one/a.mp3", "A/Live/1.mp3", "B/Live/1.mp3", "loose.mp3", "old.wma", "cover.jpg"] {
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let inputs =
            [folder.path().to_owned(), folder.path().join("one/a.mp3"), folder.path().join("no.mp3")];
        let found = items(&inputs, &WorkRule::Folder).unwrap();
        let works: Vec<&str> = found.items.iter().map(|item| item.row.work.as_str()).collect();
        assert_eq!(works, ["A/Live", "B/Live", "", "one"]);
        assert_eq!(found.without_folder, [folder.path().join("loose.mp3")]);
        assert!(found.items[0].row.path.starts_with('/') || cfg!(windows));
        assert_eq!(found.skipped, BTreeMap::from([(".wma".to_owned(), 1)]));
        assert!(found.failed.len() == 1 && found.failed[0].file.ends_with("no.mp3"), "{:?}", found.failed);
        // A file that is given itself has its folder's name.
        let found = items(&inputs[1..2], &WorkRule::Folder).unwrap();
        assert_eq!(found.items[0].row.work, "one");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_utf8_are_failures() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let paths = [&b"a\xff.mp3"[..], b"a\xfe.mp3", b"b.mp3"]
            .map(|name| folder.path().join(std::ffi::OsStr::from_bytes(name)));
        paths.iter().for_each(|path| std::fs::write(path, "").unwrap());
        let found = items(&paths, &WorkRule::Own).unwrap();
        assert_eq!((found.items.len(), found.failed.len()), (1, 2), "{:?}", found.failed);
    }

    #[test]
    fn given_values_change_a_row_and_empty_ones_erase_nothing() {
        let old = Row {
            path: "/music/a.mp3".into(),
            title: "a".into(),
            performer: "Ann".into(),
            work: "W".into(),
            ..Row::default()
        };
        let item = |row: Row, title_is_file_name| {
            let path = "/music/b.mp3".into();
            Item { path, row, title_is_file_name, work_is_folder: true }
        };
        let given =
            Row { path: "/music/b.mp3".into(), title: "b".into(), isrc: "QZ1".into(), ..Row::default() };
        let updated = item(given.clone(), true).updated(&old);
        assert_eq!(updated, Row { isrc: "QZ1".into(), ..old.clone() }, "the name of a file is not given");
        let moved = item(given.clone(), true).moved(&old);
        assert_eq!([&moved.path, &moved.title], ["/music/b.mp3", "b"], "the title is the file's name");
        // A title that somebody gave is not replaced by the name of a file.
        let titled = Row { title: "Air".into(), ..old.clone() };
        assert_eq!(item(given.clone(), true).moved(&titled).title, "Air");
        assert_eq!(item(given.clone(), false).updated(&titled).title, "b");
        // The name of a folder is a work only for a recording that has none.
        let by_folder = item(Row { work: "Folder".into(), ..given.clone() }, true);
        assert_eq!(by_folder.updated(&old).work, "W");
        assert_eq!(by_folder.updated(&Row { work: String::new(), ..old.clone() }).work, "Folder");
        assert_eq!(Item { work_is_folder: false, ..by_folder }.updated(&old).work, "Folder");
    }
}
