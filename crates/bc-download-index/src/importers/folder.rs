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
        if bc_store::is_remote(root) {
            for (name, _) in locate::objects(config)? {
                // The same as in folders: neither beside the cliques' folders nor below them.
                if let Some((clique, file)) = name.split_once('/').filter(|(_, file)| !file.contains('/')) {
                    versions.extend(version(clique, file));
                }
            }
        } else {
            for clique in listing(root)?.into_iter().filter(|path| path.is_dir()) {
                let clique_id = clique.file_name().unwrap_or_default().to_string_lossy();
                for file in listing(&clique)? {
                    versions
                        .extend(version(&clique_id, &file.file_name().unwrap_or_default().to_string_lossy()));
                }
            }
        }
        if versions.is_empty() {
            bail!(
                "{} holds no audio; source = \"folder\" expects one folder per clique: {}/<song>/<recording>.mp3",
                root.display(),
                root.display()
            );
        }
        Ok(versions.into())
    }
}

/// The version that a file is; none if its name is not one of audio.
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
