//! Covers80 (labrosa.ee.columbia.edu/projects/coversongs/covers80): `list1.list` and `list2.list`.
//!
//! A row is `<song>/<artist>+<album>+<track>-<title>`, the path of a file below `covers32k` without its
//! extension; row n of the second list covers row n of the first. All of it is a test set.

use std::path::Path;

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Split, Version};

use super::list::{Ids, Imported, Importer, numbered_lines, read_text};

pub(super) struct Covers80;

impl Importer for Covers80 {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let paths = ["list1.list", "list2.list"].map(|name| config.meta.join(name));
        let [first, second] = [list(&paths[0], 1)?, list(&paths[1], 2)?];
        // The pairs are matched by position; a list that lost a row would pair the wrong songs.
        if first.len() != second.len() {
            bail!(
                "{} has {} rows, {} has {}; they go in pairs",
                paths[0].display(),
                first.len(),
                paths[1].display(),
                second.len()
            );
        }
        for ((_, original), (line, cover)) in first.iter().zip(&second) {
            if original.clique_id != cover.clique_id {
                bail!(
                    "{}:{line}: `{}` is paired with `{}`",
                    paths[1].display(),
                    cover.clique_id,
                    original.clique_id
                );
            }
        }
        let mut ids = Ids::new(&paths[1]);
        for (line, version) in &second {
            if first.iter().any(|(_, original)| original.version_id == version.version_id) {
                bail!("{}:{line}: {} is in both lists", paths[1].display(), version.version_id);
            }
            ids.add(&version.version_id, *line as u64)?;
        }
        Ok(first.into_iter().chain(second).map(|(_, version)| version).collect::<Vec<_>>().into())
    }
}

fn list(path: &Path, number: u8) -> Result<Vec<(usize, Version)>> {
    let versions = versions(path, &read_text(path)?)?;
    if versions.is_empty() {
        bail!("{} is empty; list {number} of 2 has one recording per row", path.display());
    }
    Ok(versions)
}

/// Returns the recordings of one list, each with its line.
pub(super) fn versions(path: &Path, text: &str) -> Result<Vec<(usize, Version)>> {
    let mut ids = Ids::new(path);
    let mut versions = Vec::new();
    for (line, row) in numbered_lines(text) {
        let row = row.trim();
        let Some((song, name)) =
            row.rsplit_once('/').filter(|(song, name)| !song.is_empty() && !name.is_empty())
        else {
            bail!("{}:{line}: `{row}` is not <song>/<recording>", path.display());
        };
        ids.add(row, line as u64)?;
        let song = song.rsplit('/').next().unwrap_or(song);
        let mut version = Version::new(row, song);
        version.title = song.replace('_', " ");
        version.performer = name.split('+').next().unwrap_or(name).replace('_', " ");
        version.audio_path = Some(row.to_owned());
        version.split = Split::Test;
        versions.push((line, version));
    }
    Ok(versions)
}
