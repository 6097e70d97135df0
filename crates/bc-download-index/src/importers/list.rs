//! What importers share: their trait, what they return, and how lists are read.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

/// Reads the lists of a source. Importers do not look for the audio: `audio_path` holds the path that the source names, if
/// any.
pub(super) trait Importer {
    fn import(&self, config: &IndexConfig) -> Result<Imported>;
}

/// The versions that an importer read from a source.
#[derive(Debug, Default)]
pub struct Imported {
    /// The versions, in the order of the source.
    pub versions: Vec<Version>,
    /// For each version, the file and line that put it into its split; empty where the source has no lines.
    pub split_sources: Vec<String>,
    /// Remarks for the user, such as repeated rows and the sizes of splits.
    pub notes: Vec<String>,
}

impl From<Vec<Version>> for Imported {
    fn from(versions: Vec<Version>) -> Self {
        Self { versions, ..Self::default() }
    }
}

/// Reads a list as text, without a byte order mark; bad UTF-8 is an error with its line.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| {
        format!("cannot read the list {}; [index] meta says where the lists are", path.display())
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
        anyhow::anyhow!("{}:{line}: not UTF-8", path.display())
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Returns the lines that are not blank, with their numbers from 1.
pub(super) fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_end_matches('\r')))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// The version ids of one file so far.
pub(super) struct Ids<'a> {
    path: &'a Path,
    seen: HashSet<String>,
}

impl<'a> Ids<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, seen: HashSet::new() }
    }

    /// Records an id; refuses an empty one and one that was seen before.
    pub(super) fn add(&mut self, id: &str, line: u64) -> Result<()> {
        self.add_at(id, || line)
    }

    /// Records an id like [`Ids::add`]; `line` is called only for an error, which names the line.
    pub(super) fn add_at(&mut self, id: &str, line: impl FnOnce() -> u64) -> Result<()> {
        if id.is_empty() {
            bail!("{}:{}: the version id is empty", self.path.display(), line());
        }
        if !self.seen.insert(id.to_owned()) {
            bail!("{}:{}: the version id `{id}` is listed twice", self.path.display(), line());
        }
        Ok(())
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.seen.contains(id)
    }
}

/// Returns the link of a YouTube id; none where the text cannot be one.
pub(super) fn youtube(id: &str) -> Option<String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (id.len() == 11 && id.bytes().all(known)).then(|| format!("https://www.youtube.com/watch?v={id}"))
}
