//! Imported data that can be iterated several times: a table is read row by row, other lists are in memory.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

use super::Imported;
use super::table;

/// The position of a version in its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourcePosition {
    /// Number of versions before it.
    pub at: usize,
    /// Line of the version, where the source is a table.
    pub line: u64,
}

/// A source that was opened.
pub enum Source {
    /// A list in memory.
    List(Imported),
    /// A table: memory does not depend on its length.
    Table(Box<IndexConfig>),
}

impl Source {
    /// Opens the table that `[index] meta` names.
    ///
    /// # Errors
    /// A pipe, which can be read only once.
    pub(super) fn table(config: IndexConfig) -> Result<Self> {
        let path = &config.meta;
        if std::fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir()) {
            bail!(
                "[index] meta = \"{}\" is a pipe or a device, and the list is read more than once: write it to a file first",
                path.display()
            );
        }
        Ok(Self::Table(config.into()))
    }

    /// Calls `take` with each version, in the order of the source.
    ///
    /// # Errors
    /// What is wrong with a table, and the errors of `take`.
    pub fn each(&self, mut take: impl FnMut(SourcePosition, Version) -> Result<()>) -> Result<()> {
        match self {
            Self::List(list) => {
                let versions = list.versions.iter().cloned();
                versions
                    .enumerate()
                    .try_for_each(|(at, version)| take(SourcePosition { at, line: 0 }, version))
            }
            Self::Table(config) => {
                let mut at = 0;
                table::each(config, |line, version| {
                    let position = SourcePosition { at, line };
                    at += 1;
                    take(position, version)
                })
            }
        }
    }

    /// Returns file and line of a version, as far as they are known.
    pub fn describe(&self, position: SourcePosition) -> Option<String> {
        match self {
            Self::List(list) => list.split_sources.get(position.at).cloned(),
            Self::Table(config) => Some(format!("{}:{}", config.meta.display(), position.line)),
        }
    }

    /// Returns file and line of a version of a table; `None` for other sources.
    pub fn line(&self, position: SourcePosition) -> Option<String> {
        match self {
            Self::List(_) => None,
            Self::Table(_) => self.describe(position),
        }
    }

    /// Returns remarks for the user about the lists.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::List(list) => &list.notes,
            Self::Table(_) => &[],
        }
    }
}

/// Returns the file or folder that a source is read from.
pub fn path(config: &IndexConfig) -> &PathBuf {
    if reads_audio_folder(&config.source) { &config.dataset_path } else { &config.meta }
}

/// Whether a source is the folder of the audio itself (`dataset_path`), and not lists (`meta`).
pub fn reads_audio_folder(source: &str) -> bool {
    source == "folder"
}
