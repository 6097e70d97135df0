//! One folder per clique: `<dataset_path>/<clique>/<version>.<extension>`.

use std::path::Path;

use anyhow::{Result, bail};
use bc_audio::is_audio;
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

use super::list::{Imported, Importer};
use crate::locate::{self, listing};

pub(super) struct Folder;

impl Importer for Folder {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let root = &config.dataset_path;
        let mut versions = Vec::new();
        // Audio that is not in a clique's folder.
        let mut outside = Outside::default();
        if bc_store::is_remote(root) {
            for (name, _) in locate::objects(config)? {
                // As in a folder, audio counts only directly in the folder of a clique.
                match name.split_once('/').filter(|(_, file)| !file.contains('/')) {
                    Some((clique, file)) => versions.extend(version(clique, file)),
                    None => outside.count(Path::new(&name)),
                }
            }
        } else {
            for clique in listing(root)? {
                if !clique.is_dir() {
                    outside.count(&clique);
                    continue;
                }
                let clique_id = clique.file_name().unwrap_or_default().to_string_lossy();
                for file in listing(&clique)? {
                    if file.is_dir() {
                        outside.count_folder(&file)?;
                        continue;
                    }
                    versions
                        .extend(version(&clique_id, &file.file_name().unwrap_or_default().to_string_lossy()));
                }
            }
        }
        if versions.is_empty() {
            bail!(
                "{} holds no audio where it is expected: source = \"folder\" expects one folder per clique, {}/<song>/<recording>.mp3{}",
                root.display(),
                root.display(),
                outside.note().map(|note| format!("; {note}")).unwrap_or_default()
            );
        }
        let mut imported = Imported::from(versions);
        imported.notes.extend(outside.note());
        Ok(imported)
    }
}

/// Audio files that are left out because of where they are.
#[derive(Default)]
struct Outside {
    files: usize,
    first: Option<String>,
}

impl Outside {
    /// Counts a file, if its name is that of audio.
    fn count(&mut self, path: &Path) {
        if is_audio(path) {
            self.files += 1;
            self.first.get_or_insert_with(|| path.display().to_string());
        }
    }

    /// Counts the audio files of a folder in a clique's folder, without those of further folders.
    fn count_folder(&mut self, folder: &Path) -> Result<()> {
        listing(folder)?.iter().for_each(|path| self.count(path));
        Ok(())
    }

    /// Returns a note on the files that were left out; `None` if there are none.
    fn note(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!(
            "{} audio files are not directly in a song's folder and are left out, the first: {first}",
            self.files
        ))
    }
}

/// Returns the version of an audio file in the folder of a clique; `None` if the name is not that of audio.
fn version(clique: &str, file: &str) -> Option<Version> {
    let path = Path::new(file);
    if !is_audio(path) {
        return None;
    }
    let name = format!("{clique}/{file}");
    let mut version = Version::new(name.as_str(), clique);
    version.title = clique.to_owned();
    version.performer = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    version.audio_path = Some(name);
    Some(version)
}
