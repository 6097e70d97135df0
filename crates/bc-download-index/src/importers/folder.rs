//! One folder per clique: `<dataset_path>/<clique>/<version>.<extension>`.

use std::path::Path;

use anyhow::{Result, bail};
use bc_audio::is_audio;
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

use super::list::{Imported, Importer};
use crate::locate::{self, has_extension, listing};

pub(super) struct Folder;

impl Importer for Folder {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let root = &config.dataset_path;
        let mut versions = Vec::new();
        let mut outside = LeftOut::new("are not directly in a song's folder", config);
        let mut unnamed =
            LeftOut::new("have a name, or a folder with a name, that is not UTF-8 (rename it)", config);
        if bc_store::is_remote(root) {
            for (name, _) in locate::objects(config)? {
                // As in a folder, audio counts only directly in the folder of a clique.
                match name.split_once('/').filter(|(_, file)| !file.contains('/')) {
                    Some((clique, file)) => versions.extend(version(clique, file, config)),
                    None => outside.count(Path::new(&name)),
                }
            }
        } else {
            for clique in listing(root)? {
                if !clique.is_dir() {
                    outside.count(&clique);
                    continue;
                }
                for file in listing(&clique)? {
                    if file.is_dir() {
                        outside.count_folder(&file)?;
                        continue;
                    }
                    match (utf8_name(&clique), utf8_name(&file)) {
                        (Some(clique), Some(file)) => versions.extend(version(clique, file, config)),
                        _ => unnamed.count(&file),
                    }
                }
            }
        }
        if versions.is_empty() {
            bail!(
                "{} holds no audio where it is expected: source = \"folder\" expects one folder per clique, {}/<song>/<recording>.mp3{}",
                root.display(),
                root.display(),
                outside
                    .note()
                    .into_iter()
                    .chain(unnamed.note())
                    .map(|note| format!("; {note}"))
                    .collect::<String>()
            );
        }
        let mut imported = Imported::from(versions);
        imported.notes.extend(outside.note().into_iter().chain(unnamed.note()));
        Ok(imported)
    }
}

/// Returns the name of a file or folder, if it is UTF-8.
fn utf8_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Audio files that are left out for one reason.
struct LeftOut<'a> {
    /// What is said of them.
    reason: &'static str,
    config: &'a IndexConfig,
    files: usize,
    first: Option<String>,
}

impl<'a> LeftOut<'a> {
    fn new(reason: &'static str, config: &'a IndexConfig) -> Self {
        Self { reason, config, files: 0, first: None }
    }

    /// Counts a file, if its name is that of audio.
    fn count(&mut self, path: &Path) {
        if has_extension(path, self.config, is_audio) {
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
        Some(format!("{} audio files {} and are left out, the first: {first}", self.files, self.reason))
    }
}

/// Returns the version of an audio file in the folder of a clique; `None` if the name is not that of audio.
fn version(clique: &str, file: &str, config: &IndexConfig) -> Option<Version> {
    let path = Path::new(file);
    if !has_extension(path, config, is_audio) {
        return None;
    }
    let name = format!("{clique}/{file}");
    let mut version = Version::new(name.as_str(), clique);
    version.title = clique.to_owned();
    version.performer = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    version.audio_path = Some(name);
    Some(version)
}
