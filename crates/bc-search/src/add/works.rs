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
    /// The name of each folder and the work that its recordings have; `None` if they have several.
    of_folder: HashMap<PathBuf, (String, Option<String>)>,
}

impl FolderWorks {
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
        // `A/Live` and `Live` both name the folder music/A/Live, seen from music and from music/A. Any other work was not made from
        // this folder, so the next file in it need not be of that work.
        let Some(folder) = Path::new(&item.row.path).parent() else { return };
        if !folder.ends_with(&old.work) {
            return;
        }
        let known = self.of_folder.entry(folder.to_owned());
        let (_, work) = known.or_insert_with(|| (item.row.work.clone(), Some(old.work.clone())));
        if work.as_ref() != Some(&old.work) {
            *work = None;
        }
    }

    /// Gives a row with the name of its folder the work that the other recordings of the folder have.
    pub fn apply(&self, row: &mut Row) {
        let folder = Path::new(&row.path).parent().and_then(|folder| self.of_folder.get(folder));
        if let Some((name, Some(work))) = folder
            && row.work == *name
        {
            row.work.clone_from(work);
        }
    }
}
