//! What became of the files that were to be added.

use std::collections::BTreeMap;

use bc_embed::files::Failure;
use serde::Serialize;

use super::works::KeptWork;

/// The result of adding, as printed with `--json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Added {
    /// Recordings that are new.
    pub new: usize,
    /// Recordings that were replaced: by other audio with the same path, by one that was moved to their path, or because their file is
    /// an exact copy of another recording now.
    pub replaced: usize,
    /// Recordings whose audio was already in the index and that got other metadata.
    pub updated: usize,
    /// Recordings whose file was moved or renamed and that got the new path, and other metadata where these differ.
    pub moved: usize,
    /// Recordings whose audio was already in the index, under any path, and that stay unchanged (`there` in JSON).
    #[serde(rename = "there")]
    pub already_present: usize,
    /// Those of them that are exact copies of a recording under another path.
    pub copies: Vec<Copy>,
    /// The recordings that were moved.
    pub moves: Vec<Move>,
    /// Those of the replaced recordings whose path has the audio of another known recording now.
    pub replacements: Vec<Replacement>,
    /// Files with the audio of a recording whose folder is absent, maybe because a disk is not mounted: these recordings keep their paths.
    pub absent: Vec<Absent>,
    /// Recordings that keep their work, although `--by-folder` gives their folder another name.
    pub kept_works: Vec<KeptWork>,
    /// Added files that are cut off.
    pub damaged: Vec<Damaged>,
    /// Number of audio and video files in the folders that were passed over, by extension.
    pub skipped: BTreeMap<String, usize>,
    /// Number of files that got no work with `--by-folder`, because they are directly in the folder that was given.
    pub without_work: usize,
    /// Files that could not be used.
    pub failed: Vec<Failure>,
}

/// A file with the same bytes as an indexed recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// The file.
    pub file: String,
    /// Path of the recording in the index.
    pub same_as: String,
}

/// A recording whose path was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The path that it has now.
    pub file: String,
    /// The path that it had before.
    pub from: String,
}

/// A recording that was removed because its file holds the audio of another one now, which was moved there or copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replacement {
    /// Path of the file.
    pub file: String,
    /// Path of the other recording: of one that was moved, the path that it had before.
    pub same_as: String,
}

/// A file with the same bytes as a recording whose folder is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Absent {
    /// The file.
    pub file: String,
    /// Path of the recording in the index.
    pub same_as: String,
    /// The topmost folder above that path that is absent, or empty as a mount point is.
    pub folder: String,
}

/// A file that decodes to clearly less audio than it declares; what there is was added.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Damaged {
    /// The file.
    pub file: String,
    /// Decoded length in seconds.
    pub duration_s: f64,
    /// Declared length in seconds.
    pub declared_s: f64,
}
