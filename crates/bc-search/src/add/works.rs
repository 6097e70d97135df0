//! Works that are named after folders (`--by-folder`): a recording keeps the work that it has, and new files of its folder join it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::index::Row;
use crate::list::Item;

/// A recording that keeps its work, although its folder has another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptWork {
    /// Path of the recording.
    pub file: String,
    /// The work that it has and keeps.
    pub work: String,
    /// The work that its folder would give.
    pub by_folder: String,
}

/// The works of folders whose recordings are in the index under another name.
#[derive(Debug, Default)]
pub(super) struct FolderWorks {
    /// Recordings that keep their work.
    pub kept: Vec<KeptWork>,
    /// The folders of the files that are added.
    of_folder: HashMap<PathBuf, FolderWork>,
}

/// The work of a folder.
#[derive(Debug, Default)]
struct FolderWork {
    /// The names that it has, seen from the folders that were given.
    names: Vec<String>,
    work: KnownWork,
}

/// The work that the recordings of a folder have.
#[derive(Debug, Default)]
enum KnownWork {
    #[default]
    Unknown,
    One(String),
    Several,
}

impl FolderWorks {
    /// Notes the name of a file's folder, before [`FolderWorks::note_indexed`].
    pub fn note_name(&mut self, item: &Item) {
        let Some(folder) = Path::new(&item.row.path).parent() else { return };
        if !item.work_is_folder || item.row.work.is_empty() {
            return;
        }
        if !self.of_folder.contains_key(folder) {
            self.of_folder.insert(folder.to_owned(), FolderWork::default());
        }
        let Some(FolderWork { names, .. }) = self.of_folder.get_mut(folder) else { return };
        if !names.contains(&item.row.work) {
            names.push(item.row.work.clone());
        }
    }

    /// Whether files are added whose works are named after their folders.
    pub fn has_names(&self) -> bool {
        !self.of_folder.is_empty()
    }

    /// Notes the work of a recording that is in the index, or will be under this path.
    pub fn note_indexed(&mut self, path: &str, work: &str) {
        // `A/Live` and `Live` both name the folder music/A/Live, seen from music and from music/A. Any other work was not made from
        // this folder, so the next file in it need not be of that work.
        let folder = Path::new(path).parent().filter(|folder| !work.is_empty() && folder.ends_with(work));
        let Some(known) = folder.and_then(|folder| self.of_folder.get_mut(folder)) else { return };
        match &known.work {
            KnownWork::Unknown => known.work = KnownWork::One(work.to_owned()),
            KnownWork::One(other) if other != work => known.work = KnownWork::Several,
            KnownWork::One(_) | KnownWork::Several => {}
        }
    }

    /// Notes whether the recording of `old` keeps its work.
    pub fn note(&mut self, item: &Item, old: &Row) {
        if !item.keeps_work_of(old) {
            return;
        }
        self.kept.push(KeptWork {
            file: item.row.path.clone(),
            work: old.work.clone(),
            by_folder: item.row.work.clone(),
        });
        self.note_indexed(&item.row.path, &old.work);
    }

    /// Gives a row with the name of its folder the work that the other recordings of the folder have.
    pub fn apply(&self, row: &mut Row) {
        let folder = Path::new(&row.path).parent().and_then(|folder| self.of_folder.get(folder));
        if let Some(FolderWork { names, work: KnownWork::One(work) }) = folder
            && names.contains(&row.work)
        {
            row.work.clone_from(work);
        }
    }
}
