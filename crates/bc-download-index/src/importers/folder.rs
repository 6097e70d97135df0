//! A folder a clique: `<dataset_path>/<clique>/<version>.<extension>`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

use super::{Imported, Importer};
use crate::locate::{EXTENSIONS, extension};

pub(super) struct Folder;

impl Importer for Folder {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let root = &config.dataset_path;
        let mut versions = Vec::new();
        for clique in sorted(root)?.into_iter().filter(|path| path.is_dir()) {
            let clique_id = clique.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for file in sorted(&clique)? {
                if extension(&file).is_none_or(|extension| !EXTENSIONS.contains(&extension.as_str())) {
                    continue;
                }
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut version = Version::new(format!("{clique_id}/{name}"), &clique_id);
                version.title = clique_id.clone();
                version.performer = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                version.audio_path = Some(format!("{clique_id}/{name}"));
                versions.push(version);
            }
        }
        if versions.is_empty() {
            bail!(
                "{} holds no audio; source = \"folder\" expects a folder a clique: {}/<song>/<recording>.mp3",
                root.display(),
                root.display()
            );
        }
        Ok(versions.into())
    }
}

fn sorted(folder: &PathBuf) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list {} ([index] dataset_path)", folder.display()))?;
    paths.sort();
    Ok(paths)
}
